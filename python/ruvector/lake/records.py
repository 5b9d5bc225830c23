"""Enums and counters of a lake."""

from __future__ import annotations

import enum
from typing import NamedTuple


class _Named(enum.IntEnum):
    """Ints that print their names, on every version of Python."""

    def __str__(self) -> str:
        return self.name

    def __format__(self, spec: str) -> str:
        return format(int(self) if spec[-1:] in tuple("bcdoxXn") else self.name, spec)


class Consistency(_Named):
    """When a search asks the backend whether its collection has changed.

    An int that prints its name. JSON holds the number; ``.name`` is the name.
    """

    FRESH = 0  #: always
    EVENTUAL = 1  #: if it was last asked ``eventual_ttl_ms`` ago or longer
    STALE = 2  #: only for what is not in the cache
    FROZEN = 2


class RefreshResult(_Named):
    """What `RuLake.refresh_from_bundle_dir` found.

    An int that prints its name. JSON holds the number; ``.name`` is the name.
    """

    UP_TO_DATE = 0  #: the cache holds the published state, or nothing for this key
    INVALIDATED = 1  #: it held another state, which is forgotten now
    BUNDLE_MISSING = 2  #: there is no bundle in the directory


class PerBackendStats(NamedTuple):
    """Counters of one backend or one collection."""

    hits: int  #: searches answered without a pull
    misses: int  #: searches that needed one, or another collection's state
    primes: int  #: indexes built
    invalidations: int  #: states forgotten
    shared_hits: int  #: times a state that another collection brought in was used

    def hit_rate(self) -> float | None:
        """Hits among all searches, 0..1; None before the first."""
        return _rate(self.hits, self.misses)


class CacheStats(NamedTuple):
    """Counters of a whole lake."""

    hits: int  #: searches answered without a pull
    misses: int  #: searches that needed one, or another collection's state
    primes: int  #: indexes built
    invalidations: int  #: states forgotten
    shared_hits: int  #: times a state that another collection brought in was used
    warm_installs: int  #: states read from disk or installed ready-made
    evictions: int  #: states dropped because there were too many
    scans: int  #: passes over an index; awaits answered together share one
    total_prime_ms: float  #: time spent building
    last_prime_ms: float  #: of it, on the last index

    def hit_rate(self) -> float | None:
        """Hits among all searches, 0..1; None before the first."""
        return _rate(self.hits, self.misses)

    def avg_prime_ms(self) -> float | None:
        """Mean time of a build; None before the first."""
        return self.total_prime_ms / self.primes if self.primes else None


class CacheEntry(NamedTuple):
    """What is cached for a key."""

    witness: str
    n: int  #: vectors
    dim: int
    keys: int  #: keys that share it
    holds: int  #: searches, sessions and saves that use it right now
    ids_unverified: bool  #: read from a snapshot that may have lost its ids


def _rate(hits: int, misses: int) -> float | None:
    return hits / (hits + misses) if hits + misses else None


def checked_consistency(value: object) -> Consistency:
    """`value` if it is a `Consistency`: a number or a name would hide a mistake."""
    if isinstance(value, Consistency):
        return value
    raise TypeError(
        f"consistency: expected a ruvector.Consistency (FRESH, EVENTUAL or STALE), "
        f"got {type(value).__name__} {value!r}"
    )
