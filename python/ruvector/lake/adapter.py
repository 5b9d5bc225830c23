"""Backends written in Python.

A subclass of `BackendAdapter` owns vectors wherever it likes. A lake calls it on the thread
that called the lake (an async search uses a thread of its own), and only when it needs
to: to learn whether a collection has changed, and to pull it when it has.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from ruvector import _core

from .bundle import RuLakeBundle

if TYPE_CHECKING:
    from ruvector._types import F32Array, IdsLike

_SEARCH_THREADS = 8  # of one federated search


class PulledBatch(NamedTuple):
    """One state of a collection."""

    ids: IdsLike  #: n integers in 0..2^64-2, in row order; one may stand twice
    vectors: F32Array  #: (n, dim) float32, C-contiguous; used without a copy
    dim: int
    generation: int  #: of exactly these rows


class BackendAdapter(ABC):
    """What a lake asks of a source of vectors.

    All methods may be called from several threads at once. A collection that does not
    exist is `ruvector.UnknownCollection`; whatever else they raise reaches the caller of
    the lake as the ``__cause__`` of a `ruvector.BackendError`, but for what is no `Exception`,
    which comes as it is. A method that searches the collection it is being asked for gets a
    `ruvector.BackendError`.
    """

    @property
    @abstractmethod
    def id(self) -> str:
        """Names the backend in its lake. Must not change. May also be a method."""

    @abstractmethod
    def list_collections(self) -> Iterable[str]:
        """Names of all collections."""

    @abstractmethod
    def pull_vectors(self, collection: str) -> PulledBatch:
        """The present state. Its arrays must not change while an index is built."""

    @abstractmethod
    def generation(self, collection: str) -> int:
        """A number in 0..2^64-1 that changes when the collection does. Cheap."""

    def current_bundle(
        self, collection: str, rotation_seed: int, rerank_factor: int
    ) -> RuLakeBundle:
        """The bundle of the present state.

        Override it where the data has an address of its own, or a token that is not a
        number; it is then asked at every checked search, so must be cheap. Otherwise
        `generation` is asked, and the address is ``<id>://<collection>``.
        """
        batch = self.pull_vectors(collection)
        address = f"{backend_id(self)}://{collection}"
        return RuLakeBundle(address, batch.dim, rotation_seed, rerank_factor, batch.generation)

    def supports_pushdown(self) -> bool:
        """Whether the source could search by itself. For information only."""
        return False


def backend_id(backend: BackendAdapter) -> str:
    """The id of a backend, a property or a method."""
    value: object = backend.id
    if callable(value):
        value = value()
    if not isinstance(value, str):
        raise TypeError(f"{type(backend).__name__}.id must be a str, got {type(value).__name__}")
    return value


# What a lake asks an adapter for, as the library knows it. The library finds it on the
# thread of the call; threads and event loops that work for it are told by their context.
_asked: ContextVar[object] = ContextVar("ruvector_asked", default=None)


def errand() -> object:
    """What the lake is asking for, of an adapter that this code works for, or None.

    A progress callback of a search that loads counts as asked, too.
    """
    return _core._errand() or _asked.get()


class Calls:
    """An adapter as the extension calls it: plain data out, everything checked."""

    def __init__(self, adapter: BackendAdapter) -> None:
        self._adapter = adapter

    @property
    def has_bundle(self) -> bool:
        return type(self._adapter).current_bundle is not BackendAdapter.current_bundle

    @contextmanager
    def _asking(self) -> Iterator[BackendAdapter]:
        token = _asked.set(_core._errand())
        try:
            yield self._adapter
        finally:
            _asked.reset(token)

    def list(self) -> list[str]:
        with self._asking() as adapter:
            return list(adapter.list_collections())

    def generation(self, collection: str) -> int:
        with self._asking() as adapter:
            return adapter.generation(collection)

    def pull(self, collection: str) -> tuple[Any, ...]:
        with self._asking() as adapter:
            batch: object = adapter.pull_vectors(collection)
        if not isinstance(batch, PulledBatch):
            raise TypeError(f"pull_vectors() must return a PulledBatch, got {_name(batch)}")
        return tuple(batch)

    def bundle(self, collection: str, options: tuple[int, int]) -> tuple[Any, ...]:
        with self._asking() as adapter:
            bundle: object = adapter.current_bundle(collection, *options)
        if not isinstance(bundle, RuLakeBundle):
            raise TypeError(f"current_bundle() must return a RuLakeBundle, got {_name(bundle)}")
        return bundle.fields()


def acquire_in_threads(
    lake: _core._Lake, keys: list[tuple[Any, ...]], cached_only: bool
) -> list[_core._Pin]:
    """Holds the entries of several keys, each brought up to date by a thread."""
    asked = errand()

    def acquire(key: tuple[Any, ...]) -> _core._Pin:
        return _core._on_errand(asked, lake._acquire, key[:2], cached_only)

    with ThreadPoolExecutor(min(len(keys), _SEARCH_THREADS)) as threads:
        jobs = [threads.submit(acquire, key) for key in keys]
    if any(job.exception() for job in jobs):
        for job in jobs:
            if not job.exception():
                job.result().release()
    return [job.result() for job in jobs]


def _name(value: object) -> str:
    return type(value).__name__
