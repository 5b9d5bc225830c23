from collections.abc import Iterator
from typing import Any, ClassVar, NoReturn, TypedDict, final, type_check_only

import numpy as np
import numpy.typing as npt
from _typeshed import structseq
from typing_extensions import Buffer, Self

from ruvector._types import (
    AllowLike,
    F32Array,
    IdsLike,
    MatrixLike,
    Metric,
    PathLike,
    Probes,
    Progress,
    U64Array,
    VectorLike,
)

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

@final
class Hit(structseq[Any], tuple[int, float]):
    __match_args__: ClassVar[tuple[str, ...]] = ("id", "score")
    @property
    def id(self) -> int: ...
    @property
    def score(self) -> float: ...

@final
class Rotation(structseq[Any], tuple[int, int, int]):
    __match_args__: ClassVar[tuple[str, ...]] = ("dim", "padded_dim", "seed")
    @property
    def dim(self) -> int: ...
    @property
    def padded_dim(self) -> int: ...
    @property
    def seed(self) -> int: ...

@final
class Tuning(structseq[Any], tuple[Probes, float, float]):
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
    def ids(self) -> U64Array: ...
    @property
    def norms(self) -> F32Array: ...
    def memory_usage(self) -> MemoryUsage: ...
    def add(self, id: int | None, vector: VectorLike) -> int: ...
    def add_batch(
        self, vectors: MatrixLike, ids: IdsLike | None = None, *, progress: Progress = None
    ) -> U64Array: ...
    def upsert(self, ids: IdsLike, vectors: MatrixLike, *, progress: Progress = None) -> None: ...
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
        self, queries: MatrixLike, *, k: int = 10, recall: float = 0.99, progress: Progress = None
    ) -> Tuning: ...

@type_check_only
class _Reranked(_Coded):
    @classmethod
    def build(
        cls,
        vectors: MatrixLike,
        *,
        ids: IdsLike | None = None,
        seed: int = 42,
        metric: Metric = "l2",
        bits: int = 1,
        n_lists: int | None = None,
        rerank_factor: int | None = None,
        epsilon: float | None = None,
        progress: Progress = None,
    ) -> Self: ...
    @property
    def epsilon(self) -> float: ...
    @property
    def rerank_factor(self) -> int | None: ...
    def search(
        self,
        query: VectorLike,
        k: int = 10,
        *,
        allow: AllowLike = None,
        nprobe: Probes | None = None,
        epsilon: float | None = None,
        rerank_factor: int | None = None,
        max_rerank: int | None = None,
    ) -> list[Hit]: ...
    def search_batch(
        self,
        queries: MatrixLike,
        k: int = 10,
        *,
        allow: AllowLike = None,
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
        vectors: MatrixLike,
        *,
        ids: IdsLike | None = None,
        seed: int = 42,
        metric: Metric = "l2",
        progress: Progress = None,
    ) -> Self: ...
    def search(self, query: VectorLike, k: int = 10, *, allow: AllowLike = None) -> list[Hit]: ...
    def search_batch(
        self,
        queries: MatrixLike,
        k: int = 10,
        *,
        allow: AllowLike = None,
        progress: Progress = None,
    ) -> tuple[U64Array, F32Array]: ...
    def tune(
        self, queries: MatrixLike, *, k: int = 10, recall: float = 0.99, progress: Progress = None
    ) -> NoReturn: ...

@final
class RabitqIndex(_Coded):
    @classmethod
    def build(
        cls,
        vectors: MatrixLike,
        *,
        ids: IdsLike | None = None,
        seed: int = 42,
        metric: Metric = "l2",
        bits: int = 1,
        n_lists: int | None = None,
        progress: Progress = None,
    ) -> Self: ...
    def search(
        self,
        query: VectorLike,
        k: int = 10,
        *,
        allow: AllowLike = None,
        nprobe: Probes | None = None,
    ) -> list[Hit]: ...
    def search_batch(
        self,
        queries: MatrixLike,
        k: int = 10,
        *,
        allow: AllowLike = None,
        nprobe: Probes | None = None,
        progress: Progress = None,
    ) -> tuple[U64Array, F32Array]: ...

@final
class RabitqPlusIndex(_Reranked): ...

@final
class RabitqAsymIndex(_Reranked): ...
