"""`Session`: searches that see one state, writes that are made together."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, overload

from ruvector._core import LocalBackend
from ruvector.errors import LakeDimensionMismatch, LakeError, LakeValueError

if TYPE_CHECKING:
    from ruvector._core import LakeHit, _Lake, _Pin
    from ruvector._types import IdsLike, Key, MatrixLike, QueryLike

_Pair = tuple[str, str]


class _Write(NamedTuple):
    backend: LocalBackend
    collection: str  # of the backend
    name: str  # of the staged rows
    replace: bool  # a put, else an upsert


class Session:
    """Made by `RuLake.session`, for one ``with`` block and one thread at a time."""

    def __init__(self, lake: _Lake, of_thread: threading.local) -> None:
        self._lake = lake
        self._of_thread = of_thread  # its `session` is the one that is open in this thread
        self._pins: dict[_Pair, _Pin] = {}
        self._writes: dict[_Pair, _Write] = {}
        self._staged: LocalBackend
        self._open = False
        self._in_use = threading.Lock()
        self._process = os.getpid()

    # ---- the block -----------------------------------------------------------------

    def __enter__(self) -> Session:
        if self._open or getattr(self._of_thread, "session", None) is not None:
            raise LakeError("sessions of one lake do not nest")
        self._of_thread.session = self
        # A backend of its own holds the rows to write: it checks them, copies them and
        # merges one call into the other as the real one would.
        self._staged = LocalBackend("session")
        self._names = map(str, itertools.count())
        self._open = True
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._open = False
        self._of_thread.session = None
        self._check_process()
        self._in_use.acquire()  # another thread's search goes on with what is held
        try:
            if kind is None:
                self._commit()
        finally:
            self._in_use.release()
            for pin in self._pins.values():
                pin.release()
            self._pins.clear()
            self._writes.clear()

    @contextmanager
    def _used(self) -> Iterator[None]:
        if not self._open:
            raise LakeError("the session is not open: use it inside its `with` block")
        self._check_process()
        if not self._in_use.acquire(blocking=False):
            raise LakeError("a session serves one thread at a time")
        try:
            yield
        finally:
            self._in_use.release()

    def _check_process(self) -> None:
        """In the child of a fork, threads that used the session are not there."""
        if self._process != os.getpid():
            self._in_use = threading.Lock()
            self._process = os.getpid()

    # ---- searches ------------------------------------------------------------------

    def _pin(self, pair: _Pair) -> _Pin:
        if pair not in self._pins:
            self._pins[pair] = self._lake._acquire(pair)
        return self._pins[pair]

    def search_one(
        self, collection: str, query: QueryLike, k: int = 10, *, backend: str | None = None
    ) -> list[LakeHit]:
        """As `RuLake.search_one`, in the state the session holds."""
        with self._used():
            return self._pin(self._pair(collection, backend)).search(query, k)

    def search_batch(
        self, collection: str, queries: QueryLike, k: int = 10, *, backend: str | None = None
    ) -> list[list[LakeHit]]:
        """As `RuLake.search_batch`, in the state the session holds."""
        with self._used():
            return self._pin(self._pair(collection, backend)).search_batch(queries, k)

    @overload
    def search_federated(
        self,
        collection: str,
        query: QueryLike,
        k: int = 10,
        *,
        targets: None = None,
        per_shard_rerank: int | None = None,
    ) -> list[LakeHit]: ...
    @overload
    def search_federated(
        self,
        collection: None = None,
        *,
        query: QueryLike,
        k: int = 10,
        targets: Iterable[Key],
        per_shard_rerank: int | None = None,
    ) -> list[LakeHit]: ...
    @overload
    def search_federated(
        self,
        collection: None,
        query: QueryLike,
        k: int = 10,
        *,
        targets: Iterable[Key],
        per_shard_rerank: int | None = None,
    ) -> list[LakeHit]: ...

    def search_federated(
        self,
        collection: str | None = None,
        query: QueryLike | None = None,
        k: int = 10,
        *,
        targets: Iterable[Key] | None = None,
        per_shard_rerank: int | None = None,
    ) -> list[LakeHit]:
        """As `RuLake.search_federated`, in the states the session holds."""
        if query is None:
            raise TypeError("search_federated() needs a query")
        with self._used():
            pins = [self._pin(pair) for pair in self._lake._shards(collection, targets)]
            return self._lake._search_pins(pins, query, k, per_shard_rerank)

    # ---- writes --------------------------------------------------------------------

    def upsert(
        self, collection: str, ids: IdsLike, vectors: MatrixLike, *, backend: str | None = None
    ) -> None:
        """As `LocalBackend.upsert`, when the block ends; `vectors` are copied now.

        However many such calls there are, they count the generation of the collection up
        by one. Searches of the session do not see them.
        """
        with self._used():
            pair = self._pair(collection, backend)
            write = self._writes.get(pair) or self._new_write(pair, replace=False)
            with _errors_about(pair):
                self._staged.upsert(write.name, ids, vectors)
            self._writes[pair] = write

    def put_collection(
        self, collection: str, ids: IdsLike, vectors: MatrixLike, *, backend: str | None = None
    ) -> None:
        """As `LocalBackend.put_collection`, when the block ends."""
        with self._used():
            pair = self._pair(collection, backend)
            write = self._new_write(pair, replace=True)
            with _errors_about(pair):
                self._staged.put_collection(write.name, ids, vectors)
            self._writes[pair] = write

    def _pair(self, collection: str, backend: str | None) -> _Pair:
        return self._lake._resolve(collection if backend is None else (backend, collection))

    def _new_write(self, pair: _Pair, *, replace: bool) -> _Write:
        backend = self._lake._backend(pair[0])
        if not isinstance(backend, LocalBackend):
            raise LakeValueError(
                f"backend {pair[0]} takes no writes: only a LocalBackend of this lake does",
                backend=pair[0],
                collection=pair[1],
            )
        return _Write(backend, pair[1], next(self._names), replace)

    def _commit(self) -> None:
        rows = {pair: self._staged.pull_vectors(w.name) for pair, w in self._writes.items()}
        for pair, write in self._writes.items():
            _check_dim(write, rows[pair].dim)
        for pair, write in self._writes.items():
            save = write.backend.put_collection if write.replace else write.backend.upsert
            save(write.collection, rows[pair].ids, rows[pair].vectors)
        known = set(self._lake.backend_ids())
        for pair in dict.fromkeys((*self._pins, *self._writes)):
            if pair[0] in known:
                self._lake.prime(pair)


@contextmanager
def _errors_about(pair: _Pair) -> Iterator[None]:
    """Errors about staged rows are about where they were meant to go."""
    try:
        yield
    except LakeError as error:
        error.backend, error.collection = pair
        raise


def _check_dim(write: _Write, dim: int) -> None:
    """Finds before anything is written what would be refused in the middle."""
    if write.replace or write.collection not in write.backend.list_collections():
        return
    expected = write.backend.current_bundle(write.collection, 0, 0).dim
    if expected and expected != dim:
        raise LakeDimensionMismatch(
            f"dimension mismatch: collection dim={expected}, vectors dim={dim}; "
            "put vectors of another model into another collection",
            expected=expected,
            actual=dim,
            backend=write.backend.id,
            collection=write.collection,
        )
