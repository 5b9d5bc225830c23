"""`RuLakeBundle`: a small record of the state a collection is in, with its witness."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from ruvector import _core
from ruvector.errors import LakeError, WitnessMismatch

if TYPE_CHECKING:
    from ruvector._types import PathLike

MAX_BYTES = 65_536
_FIELDS = (  # in the order of the file
    "format_version",
    "data_ref",
    "dim",
    "rotation_seed",
    "rerank_factor",
    "generation",
    "rvf_witness",
    "pii_policy",
    "lineage_id",
    "memory_class",
)


@dataclass(frozen=True)
class RuLakeBundle:
    """Where a collection lives, its dimension, how it is indexed, and which state it is in.

    ``rvf_witness`` is computed if not given: the first 32 bytes of SHAKE-256 over
    `data_ref`, `dim`, `rotation_seed`, `rerank_factor` and `generation`. It tells states
    apart and finds corruption; having no key, it proves nothing about who wrote it.
    The three tags are passed through and are not part of it.

    Raises TypeError or ValueError where a field cannot be written.
    """

    data_ref: str
    dim: int
    rotation_seed: int
    rerank_factor: int
    generation: int | str
    rvf_witness: str = ""
    pii_policy: str | None = None
    lineage_id: str | None = None
    memory_class: str | None = None
    format_version: int = 2

    SIDECAR_FILENAME: ClassVar[str] = "table.rulake.json"
    FORMAT_VERSION: ClassVar[int] = 2

    def __post_init__(self) -> None:
        witness = _core._bundle_witness(self.fields())  # checks every field
        if not self.rvf_witness:
            object.__setattr__(self, "rvf_witness", witness)

    def fields(self) -> tuple[Any, ...]:
        """The ten fields in the order of the file."""
        return tuple(getattr(self, name) for name in _FIELDS)

    def verify_witness(self) -> bool:
        """Whether `rvf_witness` is that of the other fields, digit for digit."""
        return self.rvf_witness == _core._bundle_witness(self.fields())

    def to_json(self) -> str:
        """The text of the file."""
        return _core._bundle_format(self.fields())

    @classmethod
    def from_json(cls, text: str | bytes) -> RuLakeBundle:
        """Read the text of a file; the witness is not verified.

        Raises LakeValueError if it is no bundle, too large or of a newer version.
        """
        if isinstance(text, str):
            text = text.encode("utf-8", "surrogatepass")  # the parser refuses those
        elif not isinstance(text, bytes):
            raise TypeError(f"text: expected str or bytes, got {type(text).__name__}")
        return cls._of(_core._bundle_parse(text))

    def write_to_dir(self, dir: PathLike) -> str:
        """Write `SIDECAR_FILENAME` in `dir`, atomically; returns the path.

        The directory is made if need be. Raises LakeFileError.
        """
        _core._bundle_write(self.fields(), dir)
        return os.path.join(os.fsdecode(dir), self.SIDECAR_FILENAME)

    @classmethod
    def read_from_dir(cls, dir: PathLike) -> RuLakeBundle:
        """Read `SIDECAR_FILENAME` in `dir` and verify it.

        Raises LakeFileError, and WitnessMismatch if it was altered.
        """
        with telling_witnesses(dir):
            return cls._of(_core._bundle_read(dir))

    def with_pii_policy(self, pii_policy: str | None) -> RuLakeBundle:
        """A copy with this tag."""
        return replace(self, pii_policy=pii_policy)

    def with_lineage_id(self, lineage_id: str | None) -> RuLakeBundle:
        """A copy with this tag."""
        return replace(self, lineage_id=lineage_id)

    def with_memory_class(self, memory_class: str | None) -> RuLakeBundle:
        """A copy with this tag."""
        return replace(self, memory_class=memory_class)

    @classmethod
    def _of(cls, fields: tuple[Any, ...]) -> RuLakeBundle:
        return cls(**dict(zip(_FIELDS, fields)))


from_fields = RuLakeBundle._of


@contextmanager
def telling_witnesses(dir: PathLike) -> Iterator[None]:
    """Completes a WitnessMismatch about the bundle in `dir` with the two witnesses."""
    try:
        yield
    except WitnessMismatch as error:
        path = os.path.join(os.fsdecode(dir), RuLakeBundle.SIDECAR_FILENAME)
        with suppress(LakeError, OSError), open(path, "rb") as file:
            found = RuLakeBundle.from_json(file.read(MAX_BYTES + 1))
            if not found.verify_witness():
                error.actual = found.rvf_witness
                error.expected = _core._bundle_witness(found.fields())
        raise
