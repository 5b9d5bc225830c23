"""Vector indexes in a few dozen bytes per vector, searched exactly enough to trust.

In short::

    idx = ruvector.RabitqPlusIndex.build(vectors)  # (n, dim) float32
    for hit in idx.search(query, k=10):
        print(hit.id, hit.score)
"""

from __future__ import annotations

import importlib as _importlib
from typing import TYPE_CHECKING

from ruvector._core import (
    NO_ID,
    FlatF32Index,
    FsBackend,
    Hit,
    LakeHit,
    LocalBackend,
    RabitqAsymIndex,
    RabitqIndex,
    RabitqPlusIndex,
    Rotation,
    Tuning,
    __version__,
    cpu_features,
    get_num_threads,
    set_num_threads,
)
from ruvector._protocol import AnyIndex
from ruvector.errors import (
    A2aError,
    ArtifactVersionUnsupported,
    AuthRequired,
    BackendError,
    BudgetExceeded,
    CacheMissError,
    CardSignatureInvalid,
    DimensionMismatch,
    DuplicateId,
    EmbedError,
    EmptyCollection,
    EmptyIndex,
    LakeDimensionMismatch,
    LakeError,
    LakeFileDenied,
    LakeFileError,
    LakeFileNotFound,
    LakeValueError,
    NoVectors,
    PersistDenied,
    PersistError,
    PersistNotFound,
    PolicyViolation,
    ProtocolError,
    RecursionLimit,
    RuVectorError,
    TaskNotCancelable,
    TaskNotFound,
    TransportError,
    UnknownCollection,
    UnknownId,
    UnsupportedOperation,
    VectorIndexError,
    VersionNotSupported,
    WitnessMismatch,
)
from ruvector.errors import (
    IndexError as IndexError,
)

if TYPE_CHECKING:
    from ruvector._recommend import Recommendation, recommend
    from ruvector.a2a import A2aClient, AgentCard, Task, TaskPolicy, TaskSpec, TaskUpdate
    from ruvector.embed import Embedder
    from ruvector.lake import (
        BackendAdapter,
        CacheEntry,
        CacheStats,
        Consistency,
        PerBackendStats,
        PulledBatch,
        RefreshResult,
        RuLake,
        RuLakeBuilder,
        RuLakeBundle,
    )

# All public names but IndexError, which a star import must not put in place of
# the built-in one.
__all__ = [
    "NO_ID",
    "A2aClient",
    "A2aError",
    "AgentCard",
    "AnyIndex",
    "ArtifactVersionUnsupported",
    "AuthRequired",
    "BackendAdapter",
    "BackendError",
    "BudgetExceeded",
    "CacheEntry",
    "CacheMissError",
    "CacheStats",
    "CardSignatureInvalid",
    "Consistency",
    "DimensionMismatch",
    "DuplicateId",
    "EmbedError",
    "Embedder",
    "EmptyCollection",
    "EmptyIndex",
    "FlatF32Index",
    "FsBackend",
    "Hit",
    "LakeDimensionMismatch",
    "LakeError",
    "LakeFileDenied",
    "LakeFileError",
    "LakeFileNotFound",
    "LakeHit",
    "LakeValueError",
    "LocalBackend",
    "NoVectors",
    "PerBackendStats",
    "PersistDenied",
    "PersistError",
    "PersistNotFound",
    "PolicyViolation",
    "ProtocolError",
    "PulledBatch",
    "RabitqAsymIndex",
    "RabitqIndex",
    "RabitqPlusIndex",
    "Recommendation",
    "RecursionLimit",
    "RefreshResult",
    "Rotation",
    "RuLake",
    "RuLakeBuilder",
    "RuLakeBundle",
    "RuVectorError",
    "Task",
    "TaskNotCancelable",
    "TaskNotFound",
    "TaskPolicy",
    "TaskSpec",
    "TaskUpdate",
    "TransportError",
    "Tuning",
    "UnknownCollection",
    "UnknownId",
    "UnsupportedOperation",
    "VectorIndexError",
    "VersionNotSupported",
    "WitnessMismatch",
    "__version__",
    "cpu_features",
    "get_num_threads",
    "recommend",
    "set_num_threads",
]

# Parts not everyone needs are imported when first asked for.
_LATER = {
    "A2aClient": "ruvector.a2a",
    "AgentCard": "ruvector.a2a",
    "BackendAdapter": "ruvector.lake",
    "CacheEntry": "ruvector.lake",
    "CacheStats": "ruvector.lake",
    "Consistency": "ruvector.lake",
    "Embedder": "ruvector.embed",
    "PerBackendStats": "ruvector.lake",
    "PulledBatch": "ruvector.lake",
    "Recommendation": "ruvector._recommend",
    "RefreshResult": "ruvector.lake",
    "RuLake": "ruvector.lake",
    "RuLakeBuilder": "ruvector.lake",
    "RuLakeBundle": "ruvector.lake",
    "Task": "ruvector.a2a",
    "TaskPolicy": "ruvector.a2a",
    "TaskSpec": "ruvector.a2a",
    "TaskUpdate": "ruvector.a2a",
    "recommend": "ruvector._recommend",
}


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module 'ruvector' has no attribute {name!r}")
    value: object = getattr(_importlib.import_module(_LATER[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *globals()})
