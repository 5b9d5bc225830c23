"""What every index class offers, as a type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from ruvector import _types
    from ruvector._core import Hit


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
        self, query: _types.QueryLike, k: int = 10, *, allow: _types.AllowLike = None
    ) -> list[Hit]: ...
    def search_batch(
        self,
        queries: _types.QueryLike,
        k: int = 10,
        *,
        allow: _types.AllowLike = None,
        progress: _types.Progress = None,
    ) -> tuple[_types.U64Array, _types.F32Array]: ...
    def add(self, id: int | None, vector: _types.RowLike) -> int: ...
    def add_batch(
        self,
        vectors: _types.RowsLike,
        ids: _types.IdsLike | None = None,
        *,
        progress: _types.Progress = None,
    ) -> _types.U64Array: ...
    def upsert(
        self,
        ids: _types.IdsLike,
        vectors: _types.RowsLike,
        *,
        progress: _types.Progress = None,
    ) -> None: ...
    def remove(self, ids: int | _types.IdsLike) -> int: ...
    def save(self, path: _types.PathLike) -> None: ...
    def to_bytes(self) -> bytes: ...
