"""What every index class offers, as a type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import os

    from ruvector import _core


@runtime_checkable
class AnyIndex(Protocol):
    """Any of the four index classes, or something that behaves like one.

    ``isinstance(x, AnyIndex)`` looks for the members, not at what they do.
    """

    @property
    def dim(self) -> int: ...
    @property
    def metric(self) -> str: ...
    @property
    def memory_bytes(self) -> int: ...
    def __len__(self) -> int: ...
    def __contains__(self, id: int, /) -> bool: ...
    def search(
        self, query: _core.VectorLike, k: int = 10, *, allow: _core.AllowLike = None
    ) -> list[_core.Hit]: ...
    def search_batch(
        self,
        queries: _core.MatrixLike,
        k: int = 10,
        *,
        allow: _core.AllowLike = None,
        progress: _core.Progress = None,
    ) -> tuple[_core.U64Array, _core.F32Array]: ...
    def add(self, id: int | None, vector: _core.VectorLike) -> int: ...
    def add_batch(
        self,
        vectors: _core.MatrixLike,
        ids: _core.IdsLike | None = None,
        *,
        progress: _core.Progress = None,
    ) -> _core.U64Array: ...
    def upsert(
        self,
        ids: _core.IdsLike,
        vectors: _core.MatrixLike,
        *,
        progress: _core.Progress = None,
    ) -> None: ...
    def remove(self, ids: int | _core.IdsLike) -> int: ...
    def save(self, path: str | bytes | os.PathLike[Any]) -> None: ...
    def to_bytes(self) -> bytes: ...
