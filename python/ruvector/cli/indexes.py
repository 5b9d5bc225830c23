"""The four index classes by their short names, and index files of any of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import FlatF32Index, RabitqAsymIndex, RabitqIndex, RabitqPlusIndex

if TYPE_CHECKING:
    from .._types import IndexClass

CLASSES: dict[str, type[IndexClass]] = {
    "flat": FlatF32Index,
    "rabitq": RabitqIndex,
    "plus": RabitqPlusIndex,
    "asym": RabitqAsymIndex,
}
V1_MAGIC, NATIVE_MAGIC, END_MAGIC = b"rbpx0001", b"rvxi0001", b"RVXBEND1"
_KIND = 96  # offset of the kind in a file with a native header
# in the order of the file format's kinds
_KINDS = (FlatF32Index, RabitqIndex, RabitqPlusIndex, RabitqAsymIndex)
_CODED = ("bits", "n_lists", "nprobe", "epsilon", "rerank_factor", "originals")


def open_index(path: Path, *, verify: bool | None = None) -> IndexClass:
    """The index in a file, mapped, whichever class wrote it. Raises PersistError."""
    return _class_of(path).load(path, verify=verify)


def _class_of(path: Path) -> type[IndexClass]:
    """By the first bytes only: `load` checks them, and tells what is wrong with others."""
    with open(path, "rb") as file:
        head = file.read(_KIND + 4)
    kind = int.from_bytes(head[_KIND:], "little")
    native = head.startswith(NATIVE_MAGIC) and len(head) == _KIND + 4
    return _KINDS[kind] if native and kind < len(_KINDS) else RabitqPlusIndex


def has_digest(path: Path) -> bool:
    """Whether an index file ends in a digest; files of version 1 do not."""
    with open(path, "rb") as file:
        file.seek(-len(END_MAGIC), os.SEEK_END)
        return file.read() == END_MAGIC


def facts(index: IndexClass) -> dict[str, Any]:
    """What an index is, for `tell`; None where its class has no such thing."""
    told: dict[str, Any] = {
        "class": type(index).__name__,
        "rows": len(index),
        "dim": index.dim,
        "metric": index.metric,
    }
    told.update((name, getattr(index, name, None)) for name in _CODED)
    told["seed"] = index.seed
    told["memory"] = dict(index.memory_usage())
    return told
