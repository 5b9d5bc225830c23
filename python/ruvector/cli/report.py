"""What the commands share: how they tell results, mistakes and how far they have come."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable

from .._progress import Bar
from ..errors import RuVectorError

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


class Usage(ValueError):
    """Options that do not go together: exit code 2."""


def positive(text: str) -> int:
    """An option's whole number, at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="JSON, one object a line")


def add_threads(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--threads", type=positive, metavar="N", help="instead of one for each processor"
    )


def words(why: Exception) -> str:
    """What went wrong, and with which file."""
    if isinstance(why, MemoryError):
        return f"not enough memory: {why}".rstrip(": ")
    if isinstance(why, OSError) and not isinstance(why, RuVectorError) and why.filename:
        return f"{why.filename}: {why.strerror}"
    said = str(why)
    path = getattr(why, "filename", None)
    return said if path is None or str(path) in said else f"{path}: {said}"


def one_line(why: object) -> str:
    """Another package's message, which may have several lines."""
    return " ".join(str(why).split())


def tell_json(facts: Mapping[str, Any], *, flush: bool = False) -> None:
    """Prints one JSON object as a line of ASCII: any encoding has it, half a pair of
    surrogates included, and a parser gives every character back."""
    print(json.dumps(facts), flush=flush)


def tell(facts: Mapping[str, Any], as_json: bool) -> None:
    """Prints facts: one JSON object, or a line for each that is known."""
    if as_json:
        tell_json(facts)
        return
    for name, value in facts.items():
        if isinstance(value, Mapping):
            parts = ", ".join(f"{part} {size(n)}" for part, n in value.items() if n)
            print(f"{name + ':':<16}{parts}")
        elif value is not None:
            shown = {int: "{:,}", float: "{:g}"}.get(type(value), "{}").format(value)
            print(f"{name + ':':<16}{shown}")


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(titles, *rows)]
    for row in (titles, *rows):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        print("  ".join(cells).rstrip())


def size(n: float) -> str:
    """Bytes with a decimal unit: `31.2 MB`."""
    power = 0
    while n >= 1000 and power < len(_UNITS) - 1:
        n, power = n / 1000, power + 1
    return f"{n:.{min(power, 1)}f} {_UNITS[power]}"


@contextmanager
def bar(doing: str, things: str) -> Iterator[Callable[[int, int], object] | None]:
    """What to give a call as `progress`: a bar, where somebody may be looking."""
    if not sys.stderr.isatty():
        yield None
        return
    shown = Bar(sys.stderr, doing=doing, things=things)
    try:
        yield shown
    finally:
        shown.close()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file's name that becomes `path` when the block ends well."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".ruvector-", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink()
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
