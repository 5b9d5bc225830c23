from collections.abc import Callable, Iterable, Iterator
from typing import (
    Any,
    ClassVar,
    Literal,
    NoReturn,
    TypedDict,
    TypeVar,
    final,
    overload,
    type_check_only,
)

import numpy as np
import numpy.typing as npt
from _typeshed import structseq
from typing_extensions import Buffer, Self, disjoint_base

from ruvector._types import (
    AllowLike,
    F32Array,
    IdsLike,
    IndexClass,
    Key,
    MatrixLike,
    Metric,
    PathLike,
    Probes,
    Progress,
    QueryLike,
    RowLike,
    RowsLike,
    U64Array,
    VectorLike,
)
from ruvector.lake import PulledBatch, RuLakeBundle

@type_check_only
class CpuFeatures(TypedDict):
    active: str
    available: list[str]
    threads: int

@type_check_only
class MemoryUsage(TypedDict):
    codes: int
    blocks: int
    vectors: int
    ids: int
    rotation: int
    slack: int
    total: int
    mapped: int

NO_ID: int
__version__: str

def cpu_features() -> CpuFeatures: ...
def get_num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...

# For ruvector.embed only. An image: its pixels, height and width.
def _mobilenet_load(path: PathLike, /) -> object: ...
def _mobilenet_embed(
    model: object,
    images: list[tuple[npt.NDArray[np.uint8], int, int]],
    threads: int,
    progress: Progress,
    /,
) -> F32Array: ...
def _mobilenet_stage(
    model: object, image: tuple[npt.NDArray[np.uint8], int, int], stage: int, /
) -> F32Array: ...

_T = TypeVar("_T")

def _errand() -> object: ...
def _on_errand(errand: object, function: Callable[..., _T], /, *args: Any) -> _T: ...
def _image_prepare(image: tuple[npt.NDArray[np.uint8], int, int], /) -> F32Array: ...

# What the small records share: what a namedtuple has.
@type_check_only
class _Record(structseq[Any]):
    _fields: ClassVar[tuple[str, ...]]
    _field_defaults: ClassVar[dict[str, Any]]
    @classmethod
    def _make(cls, iterable: Iterable[Any], /) -> Self: ...
    def _asdict(self) -> dict[str, Any]: ...
    def _replace(self, /, **fields: Any) -> Self: ...

@final
class Hit(_Record, tuple[int, float]):
    __match_args__: ClassVar[tuple[str, ...]] = ("id", "score")
    @property
    def id(self) -> int: ...
    @property
    def score(self) -> float: ...

@final
class Rotation(_Record, tuple[int, int, int]):
    __match_args__: ClassVar[tuple[str, ...]] = ("dim", "padded_dim", "seed")
    @property
    def dim(self) -> int: ...
    @property
    def padded_dim(self) -> int: ...
    @property
    def seed(self) -> int: ...

@final
class Tuning(_Record, tuple[Probes, float, float]):
    __match_args__: ClassVar[tuple[str, ...]] = ("nprobe", "epsilon", "recall")
    @property
    def nprobe(self) -> Probes: ...
    @property
    def epsilon(self) -> float: ...
    @property
    def recall(self) -> float: ...

# What all four classes share.
@type_check_only
class _Index:
    @property
    def dim(self) -> int: ...
    @property
    def metric(self) -> Metric: ...
    @property
    def seed(self) -> int: ...
    @property
    def memory_bytes(self) -> int: ...
    @property
    def version(self) -> int: ...
    @property
    def ids(self) -> U64Array: ...
    @property
    def norms(self) -> F32Array: ...
    def memory_usage(self) -> MemoryUsage: ...
    def add(self, id: int | None, vector: RowLike, *, convert: bool = False) -> int: ...
    def add_batch(
        self,
        vectors: RowsLike,
        ids: IdsLike | None = None,
        *,
        convert: bool = False,
        progress: Progress = None,
    ) -> U64Array: ...
    def upsert(
        self,
        ids: IdsLike,
        vectors: RowsLike,
        *,
        convert: bool = False,
        progress: Progress = None,
    ) -> None: ...
    def remove(self, ids: int | IdsLike) -> int: ...
    def vacuum(self) -> None: ...
    def save(self, path: PathLike) -> None: ...
    @classmethod
    def load(cls, path: PathLike, *, mmap: bool = True, verify: bool | None = None) -> Self: ...
    def to_bytes(self) -> bytes: ...
    @classmethod
    def from_bytes(cls, data: Buffer, *, verify: bool | None = None) -> Self: ...
    def __len__(self) -> int: ...
    def __contains__(self, id: int, /) -> bool: ...
    def __getitem__(self, id: int, /) -> F32Array: ...
    def __iter__(self) -> Iterator[tuple[int, F32Array]]: ...
    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]
    def __reduce_ex__(self, protocol: int, /) -> tuple[Any, ...]: ...  # type: ignore[override]

# What the classes with codes share.
@type_check_only
class _Coded(_Index):
    @property
    def bits(self) -> int: ...
    @property
    def n_lists(self) -> int: ...
    @property
    def nprobe(self) -> Probes: ...
    @property
    def codes(self) -> npt.NDArray[np.uint8]: ...
    def rotation(self) -> Rotation: ...
    def tune(
        self, queries: QueryLike, *, k: int = 10, recall: float = 0.99, progress: Progress = None
    ) -> Tuning: ...

@type_check_only
class _Reranked(_Coded):
    @classmethod
    def build(
        cls,
        vectors: RowsLike,
        *,
        ids: IdsLike | None = None,
        seed: int = 42,
        metric: Metric = "l2",
        bits: int = 1,
        n_lists: int | None = None,
        rerank_factor: int | None = None,
        epsilon: float | None = None,
        originals: Literal["f32", "f16"] = "f32",
        convert: bool = False,
        progress: Progress = None,
    ) -> Self: ...
    @property
    def epsilon(self) -> float: ...
    @property
    def rerank_factor(self) -> int | None: ...
    @property
    def originals(self) -> Literal["f32", "f16"] | None: ...
    def search(
        self,
        query: QueryLike,
        k: int = 10,
        *,
        allow: AllowLike = None,
        allow_version: int | None = None,
        nprobe: Probes | None = None,
        epsilon: float | None = None,
        rerank_factor: int | None = None,
        max_rerank: int | None = None,
    ) -> list[Hit]: ...
    def search_batch(
        self,
        queries: QueryLike,
        k: int = 10,
        *,
        allow: AllowLike = None,
        allow_version: int | None = None,
        nprobe: Probes | None = None,
        epsilon: float | None = None,
        rerank_factor: int | None = None,
        max_rerank: int | None = None,
        progress: Progress = None,
    ) -> tuple[U64Array, F32Array]: ...

@final
class FlatF32Index(_Index):
    @classmethod
    def build(
        cls,
        vectors: RowsLike,
        *,
        ids: IdsLike | None = None,
        seed: int = 42,
        metric: Metric = "l2",
        convert: bool = False,
        progress: Progress = None,
    ) -> Self: ...
    def search(
        self,
        query: QueryLike,
        k: int = 10,
        *,
        allow: AllowLike = None,
        allow_version: int | None = None,
    ) -> list[Hit]: ...
    def search_batch(
        self,
        queries: QueryLike,
        k: int = 10,
        *,
        allow: AllowLike = None,
        allow_version: int | None = None,
        progress: Progress = None,
    ) -> tuple[U64Array, F32Array]: ...
    def tune(
        self, queries: QueryLike, *, k: int = 10, recall: float = 0.99, progress: Progress = None
    ) -> NoReturn: ...

@final
class RabitqIndex(_Coded):
    @classmethod
    def build(
        cls,
        vectors: RowsLike,
        *,
        ids: IdsLike | None = None,
        seed: int = 42,
        metric: Metric = "l2",
        bits: int = 1,
        n_lists: int | None = None,
        convert: bool = False,
        progress: Progress = None,
    ) -> Self: ...
    def search(
        self,
        query: QueryLike,
        k: int = 10,
        *,
        allow: AllowLike = None,
        allow_version: int | None = None,
        nprobe: Probes | None = None,
    ) -> list[Hit]: ...
    def search_batch(
        self,
        queries: QueryLike,
        k: int = 10,
        *,
        allow: AllowLike = None,
        allow_version: int | None = None,
        nprobe: Probes | None = None,
        progress: Progress = None,
    ) -> tuple[U64Array, F32Array]: ...

@final
class RabitqPlusIndex(_Reranked): ...

@final
class RabitqAsymIndex(_Reranked): ...

# ---- lake ---------------------------------------------------------------------------

@final
class LakeHit(_Record, tuple[str, str, int, float]):
    __match_args__: ClassVar[tuple[str, ...]] = ("backend", "collection", "id", "score")
    @property
    def backend(self) -> str: ...
    @property
    def collection(self) -> str: ...
    @property
    def id(self) -> int: ...
    @property
    def score(self) -> float: ...

@type_check_only
class _Backend:
    @property
    def id(self) -> str: ...
    def list_collections(self) -> list[str]: ...
    def generation(self, collection: str, /) -> int: ...
    def pull_vectors(self, collection: str, /) -> PulledBatch: ...
    def current_bundle(
        self, collection: str, rotation_seed: int, rerank_factor: int
    ) -> RuLakeBundle: ...

@final
class LocalBackend(_Backend):
    def __new__(cls, name: str) -> Self: ...
    def upsert(self, collection: str, ids: IdsLike, vectors: MatrixLike) -> None: ...
    def put_collection(self, collection: str, ids: IdsLike, vectors: MatrixLike) -> None: ...
    def append(self, collection: str, id: int, vector: VectorLike) -> None: ...
    def remove(self, collection: str, ids: int | IdsLike) -> int: ...

@final
class FsBackend(_Backend):
    def __new__(cls, name: str, root: PathLike, *, follow_links: bool = False) -> Self: ...
    def register(self, collection: str, filename: str) -> None: ...
    def write(self, collection: str, filename: str, ids: IdsLike, vectors: MatrixLike) -> str: ...

@disjoint_base
class _Lake:
    def __init__(
        self,
        rerank_factor: int,
        rotation_seed: int,
        max_cache_entries: int | None,
        consistency: int,
        eventual_ttl_ms: int,
        strict: bool,
    ) -> None: ...
    def search_one(
        self,
        collection: str,
        query: QueryLike,
        k: int = 10,
        *,
        backend: str | None = None,
        cached_only: bool = False,
    ) -> list[LakeHit]: ...
    def search_batch(
        self,
        collection: str,
        queries: QueryLike,
        k: int = 10,
        *,
        backend: str | None = None,
        cached_only: bool = False,
        progress: Progress = None,
    ) -> list[list[LakeHit]]: ...
    @overload
    def search_federated(
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
    def search_federated(
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
    def search_federated(
        self,
        collection: None,
        query: QueryLike,
        k: int = 10,
        *,
        targets: Iterable[Key],
        per_shard_rerank: int | None = None,
        cached_only: bool = False,
    ) -> list[LakeHit]: ...
    def prime(self, key: Key, *, progress: Progress = None) -> str: ...
    def _warm(self, key: Key, dir: PathLike, /) -> int: ...
    def publish_bundle(
        self,
        key: Key,
        out_dir: PathLike,
        *,
        pii_policy: str | None = None,
        lineage_id: str | None = None,
        memory_class: str | None = None,
    ) -> str: ...
    def invalidate_cache(self, key: Key, /) -> None: ...
    def cache_witness_of(self, key: Key, /) -> str | None: ...
    def cache_entry_count(self) -> int: ...
    def cache_refcount_of(self, witness: str, /) -> int: ...
    def backend_ids(self) -> list[str]: ...
    def _register(self, backend: LocalBackend | FsBackend, /) -> None: ...
    def _register_adapter(self, id: str, calls: object, has_bundle: bool, /) -> None: ...
    def _backend(self, id: str, /) -> LocalBackend | FsBackend | None: ...
    def _resolve(self, key: Key, /) -> tuple[str, str]: ...
    def _asks_python(self, collection: str | None, backend: str | None, /) -> bool: ...
    def _shards(
        self, collection: str | None, targets: Iterable[Key] | None, /
    ) -> list[tuple[str, str]]: ...
    def _acquire(self, key: Key, cached_only: bool = False, /) -> _Pin: ...
    def _search_pins(
        self, pins: list[_Pin], query: QueryLike, k: int, per_shard_rerank: int | None, /
    ) -> list[LakeHit]: ...
    def _install(self, key: Key, index: IndexClass, bundle: tuple[Any, ...] | None) -> None: ...
    def _refresh(self, key: Key, dir: PathLike, /) -> int: ...
    def _save(self, key: Key, dir: PathLike, /) -> None: ...
    def _entry(self, key: Key, /) -> tuple[str, int, int, int, int, bool] | None: ...
    def _has_index(self, index: IndexClass, /) -> bool: ...
    def _stats(
        self,
    ) -> tuple[int, int, int, int, int, int, int, int, float, float]: ...
    def _key_stats(self, by_collection: bool, /) -> dict[Any, tuple[int, int, int, int, int]]: ...

@final
class _Pin:
    def release(self) -> None: ...
    def search(self, query: QueryLike, k: int, /) -> list[LakeHit]: ...
    def search_batch(self, queries: QueryLike, k: int, /) -> list[list[LakeHit]]: ...

@final
class _Job:
    def __new__(
        cls,
        lake: _Lake,
        kind: int,
        query: QueryLike | None,
        k: int,
        per_shard_rerank: int | None,
        cached_only: bool,
        /,
    ) -> Self: ...

@final
class _Completions:
    @property
    def fd(self) -> int: ...
    def submit(self, lake: _Lake, jobs: list[tuple[_Job, list[Key | _Pin]]], /) -> int: ...
    def take(self) -> list[tuple[int, Any]]: ...
    def cancel(self, tag: int, /) -> None: ...
    def wait(self, timeout_ms: int, /) -> bool: ...

def _bundle_witness(fields: tuple[Any, ...], /) -> str: ...
def _bundle_format(fields: tuple[Any, ...], /) -> str: ...
def _bundle_parse(text: bytes, /) -> tuple[Any, ...]: ...
def _bundle_write(fields: tuple[Any, ...], dir: PathLike, /) -> None: ...
def _bundle_read(dir: PathLike, /) -> tuple[Any, ...]: ...
