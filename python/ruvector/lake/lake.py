"""`RuLake`: the lake, and the builder that makes one."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, overload

from ruvector import _core
from ruvector._core import FsBackend, LocalBackend

from . import _async  # not when first awaited: a fork amid the import leaves it locked
from ._session import Session
from .adapter import BackendAdapter, Calls, acquire_in_threads, backend_id
from .bundle import RuLakeBundle, telling_witnesses
from .records import (
    CacheEntry,
    CacheStats,
    Consistency,
    PerBackendStats,
    RefreshResult,
    checked_consistency,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ruvector._core import LakeHit, _Pin
    from ruvector._types import IndexClass, Key, PathLike, QueryLike


_INDEXES = (
    _core.FlatF32Index,
    _core.RabitqIndex,
    _core.RabitqPlusIndex,
    _core.RabitqAsymIndex,
)
SNAPSHOT_FILENAME = "index.rbpx"


class RuLake(_core._Lake):
    """Searches collections that live in backends, through indexes it builds and keeps.

    rerank_factor: of the indexes, 1..1024; part of the witness.
    rotation_seed: of the indexes, 0..2^64-1; part of the witness.
    max_cache_entries: more indexes than this are not kept, the least recently used goes
        first; None means no limit.
    consistency: when a search asks the backend whether its collection has changed:
        `Consistency.FRESH` (always), `EVENTUAL` (if it was last asked `eventual_ttl_ms` ago
        or longer) or `STALE` (only for what is not in the cache).
    strict: a search never pulls a collection but raises CacheMissError; `prime` does.

    A collection is named by a key, the tuple (backend id, collection), or by its own name
    where that is enough. All methods may be called from any number of threads, and work
    without the GIL.
    """

    def __init__(
        self,
        *,
        rerank_factor: int = 20,
        rotation_seed: int = 42,
        max_cache_entries: int | None = None,
        consistency: Consistency = Consistency.FRESH,
        eventual_ttl_ms: int = 60_000,
        strict: bool = False,
    ) -> None:
        checked_consistency(consistency)
        super().__init__(
            rerank_factor=rerank_factor,
            rotation_seed=rotation_seed,
            max_cache_entries=max_cache_entries,
            consistency=int(consistency),
            eventual_ttl_ms=eventual_ttl_ms,
            strict=strict,
        )
        self._consistency = consistency
        self._adapters: dict[str, BackendAdapter] = {}
        self._in_session = threading.local()

    @classmethod
    def builder(cls) -> RuLakeBuilder:
        """Options one by one: ``RuLake.builder().rerank_factor(20).build()``."""
        return RuLakeBuilder(cls)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(backends={self.backend_ids()}, "
            f"entries={self.cache_entry_count()}, consistency={self._consistency.name})"
        )

    def __contains__(self, what: object) -> bool:
        """Whether the cache holds an index or an equal one, a key's state, or a witness."""
        if isinstance(what, str):
            return self.cache_refcount_of(what) > 0
        if isinstance(what, tuple):
            return self.cache_witness_of(what) is not None
        if isinstance(what, _INDEXES):
            return self._has_index(what)
        raise TypeError(
            f"expected an index, a key (backend, collection) or a witness, got "
            f"{type(what).__name__}"
        )

    # ---- backends ------------------------------------------------------------------

    def register_backend(self, backend: LocalBackend | FsBackend | BackendAdapter) -> None:
        """Make the collections of a backend searchable; it stays as long as the lake.

        Raises LakeValueError if another one has its id.
        """
        if isinstance(backend, (LocalBackend, FsBackend)):
            self._register(backend)
        elif isinstance(backend, BackendAdapter):
            calls = Calls(backend)
            name = backend_id(backend)
            self._register_adapter(name, calls, calls.has_bundle)
            self._adapters[name] = backend
        else:
            raise TypeError(
                "backend: expected a LocalBackend, FsBackend or BackendAdapter, got "
                f"{type(backend).__name__}"
            )

    def _acquire_in_threads(self, keys: list[tuple[Any, ...]], cached_only: bool) -> list[_Pin]:
        """Called by the extension, for a federated search over adapters."""
        return acquire_in_threads(self, keys, bool(cached_only))

    # ---- cache ---------------------------------------------------------------------

    def install(self, key: Key, index: IndexClass, bundle: RuLakeBundle | None = None) -> None:
        """Let a key use a ready index, which is shared, not copied.

        bundle: what it was built from; None takes what the backend says, or, where the
            backend is not registered, an address ``<backend>://<collection>``.

        When somebody changes the index, the key counts as missing.
        """
        self._install(key, index, None if bundle is None else bundle.fields())

    def cache_entry(self, key: Key) -> CacheEntry | None:
        """What is cached for a key, or None."""
        found = self._entry(key)
        return None if found is None else CacheEntry(*found)

    def cache_stats(self) -> CacheStats:
        """Counters of the whole lake."""
        return CacheStats(*self._stats())

    def cache_stats_by_backend(self) -> dict[str, PerBackendStats]:
        """Counters by backend id, for those where something has happened."""
        return {name: PerBackendStats(*s) for name, s in self._key_stats(False).items()}

    def cache_stats_by_collection(self) -> dict[tuple[str, str], PerBackendStats]:
        """Counters by key, for those where something has happened."""
        return {key: PerBackendStats(*s) for key, s in self._key_stats(True).items()}

    def session(self) -> Session:
        """Searches that all see one state, and writes that are made together at the end.

        ``with lake.session() as s:`` holds the state of each collection as it was when
        the session first touched it. `s.upsert` and `s.put_collection` are made when the
        block ends, and then what was touched is primed; an exception discards them.
        """
        return Session(self, self._in_session)

    # ---- files ---------------------------------------------------------------------

    def refresh_from_bundle_dir(self, key: Key, dir: PathLike) -> RefreshResult:
        """Compare what is cached for a key with the bundle published in a directory.

        If the witnesses differ, what is cached is forgotten. Raises LakeFileError and
        WitnessMismatch for a bundle that cannot be trusted, and then changes nothing.
        """
        with telling_witnesses(dir):
            return RefreshResult(self._refresh(key, dir))

    def save_cache_to_dir(self, key: Key, dir: PathLike) -> str:
        """Write what is cached for a key and the bundle it was built from to a directory.

        The backend is not asked. Returns the path of the index. Raises UnknownCollection
        if nothing is cached, and LakeFileError.
        """
        self._save(key, dir)
        return os.path.join(os.fsdecode(dir), SNAPSHOT_FILENAME)

    def warm_from_dir(self, key: Key, dir: PathLike) -> int:
        """Read what `save_cache_to_dir` wrote into the cache of a key.

        key: (backend, collection). The backend need not be registered.
        dir: holds the bundle and the index.

        Witness, digest, dimension, seed and rerank factor are checked first. Returns the
        number of vectors. Raises LakeFileError, WitnessMismatch.
        """
        with telling_witnesses(dir):
            return self._warm(key, dir)

    # ---- asyncio -------------------------------------------------------------------

    async def search_one_async(
        self,
        collection: str,
        query: QueryLike,
        k: int = 10,
        *,
        backend: str | None = None,
        cached_only: bool = False,
    ) -> list[LakeHit]:
        """As `search_one`, without stopping the event loop.

        Awaits of one collection that come together share one scan, and one pull if it is
        not in the cache. Cancelling one stops its search. The query must not change until
        it is answered.
        """
        job = _core._Job(self, _async.ONE, query, k, None, cached_only)
        result: list[LakeHit] = await _async.search(self, job, collection, backend, cached_only)
        return result

    async def search_batch_async(
        self,
        collection: str,
        queries: QueryLike,
        k: int = 10,
        *,
        backend: str | None = None,
        cached_only: bool = False,
    ) -> list[list[LakeHit]]:
        """As `search_batch`, without stopping the event loop."""
        job = _core._Job(self, _async.BATCH, queries, k, None, cached_only)
        result: list[list[LakeHit]] = await _async.search(
            self, job, collection, backend, cached_only
        )
        return result

    @overload
    async def search_federated_async(
        self,
        collection: str,
        query: QueryLike,
        k: int = 10,
        *,
        targets: None = None,
        per_shard_rerank: int | None = None,
        cached_only: bool = False,
    ) -> list[LakeHit]: ...
    @overload
    async def search_federated_async(
        self,
        collection: None = None,
        *,
        query: QueryLike,
        k: int = 10,
        targets: Iterable[Key],
        per_shard_rerank: int | None = None,
        cached_only: bool = False,
    ) -> list[LakeHit]: ...
    @overload
    async def search_federated_async(
        self,
        collection: None,
        query: QueryLike,
        k: int = 10,
        *,
        targets: Iterable[Key],
        per_shard_rerank: int | None = None,
        cached_only: bool = False,
    ) -> list[LakeHit]: ...

    async def search_federated_async(
        self,
        collection: str | None = None,
        query: QueryLike | None = None,
        k: int = 10,
        *,
        targets: Iterable[Key] | None = None,
        per_shard_rerank: int | None = None,
        cached_only: bool = False,
    ) -> list[LakeHit]:
        """As `search_federated`, without stopping the event loop."""
        if query is None:
            raise TypeError("search_federated_async() needs a query")
        job = _core._Job(self, _async.FEDERATED, query, k, per_shard_rerank, cached_only)
        result: list[LakeHit] = await _async.search_federated(
            self, job, collection, targets, cached_only
        )
        return result

    async def prime_async(self, key: Key) -> str:
        """As `prime`, without stopping the event loop."""
        return await _async.prime(self, key)


class RuLakeBuilder:
    """Options of a `RuLake`, which `build` makes."""

    def __init__(self, cls: type[RuLake] = RuLake) -> None:
        self._cls = cls
        self._options: dict[str, Any] = {}

    def _set(self, name: str, value: object) -> RuLakeBuilder:
        self._options[name] = value
        return self

    def rerank_factor(self, rerank_factor: int) -> RuLakeBuilder:
        """Of the indexes, 1..1024; 20 if not set."""
        return self._set("rerank_factor", rerank_factor)

    def rotation_seed(self, rotation_seed: int) -> RuLakeBuilder:
        """Of the indexes, 0..2^64-1; 42 if not set."""
        return self._set("rotation_seed", rotation_seed)

    def max_cache_entries(self, max_cache_entries: int | None) -> RuLakeBuilder:
        """How many indexes are kept, at least 1; no limit if not set."""
        return self._set("max_cache_entries", max_cache_entries)

    def consistency(self, consistency: Consistency) -> RuLakeBuilder:
        """`Consistency.FRESH` if not set."""
        return self._set("consistency", checked_consistency(consistency))

    def eventual_ttl_ms(self, eventual_ttl_ms: int) -> RuLakeBuilder:
        """How long `Consistency.EVENTUAL` trusts an answer; 60,000 if not set."""
        return self._set("eventual_ttl_ms", eventual_ttl_ms)

    def strict(self, strict: bool = True) -> RuLakeBuilder:
        """Whether a search may not pull a collection."""
        return self._set("strict", strict)

    def build(self) -> RuLake:
        """The lake. Raises what `RuLake` raises."""
        return self._cls(**self._options)
