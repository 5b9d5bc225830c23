"""A lake: answers from indexes it builds on demand over vectors that live elsewhere.

`lake` holds `RuLake` and its builder, `bundle` the records that say what state a
collection is in, `adapter` the base of backends written in Python, `records` counters and
enums, `_session` and `_async` its sessions and awaited searches. The searches themselves are
methods of a C type that `RuLake` derives from.
"""

from .adapter import BackendAdapter, PulledBatch
from .bundle import RuLakeBundle
from .lake import RuLake, RuLakeBuilder
from .records import CacheEntry, CacheStats, Consistency, PerBackendStats, RefreshResult

__all__ = [
    "BackendAdapter",
    "CacheEntry",
    "CacheStats",
    "Consistency",
    "PerBackendStats",
    "PulledBatch",
    "RefreshResult",
    "RuLake",
    "RuLakeBuilder",
    "RuLakeBundle",
]
