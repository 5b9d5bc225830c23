"""Which index for which data, from what has been measured.

`_measured` holds the table. A wish is looked up among the rows measured at the nearest
number of vectors and dimension that are not below it. Of the settings that reached the
recall on every data set there, the choice is the fastest.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ruvector import _measured

# Below this an exact scan reads so little that codes save nothing worth having.
_SMALL = 2_000
# A full scan wins unless something takes less than this share of its time.
_WORTH_CODES = 0.5
_MAX_DIM = 8192


@dataclass(frozen=True)
class Recommendation:
    """An index class, how to build it, and how to search it.

    ``build`` are keyword arguments for ``getattr(ruvector, index).build``, ``search``
    those of its searches; ``tune``, given queries of yours, finds settings that fit your
    data better. ``bytes_per_vector`` is what a row takes in memory, its id included.
    ``recall`` is the share of the true ``k`` nearest neighbors that was found, and
    ``cost`` the time of one query beside that of an exact scan, a ``FlatF32Index``, of
    the same data: both the worst of the data sets measured, of which ``why`` tells.
    """

    index: str
    build: dict[str, Any] = field(default_factory=dict)
    bytes_per_vector: int = 0
    why: str = ""
    search: dict[str, Any] = field(default_factory=dict)
    recall: float = 1.0
    k: int = _measured.K
    cost: float = 1.0


class _Row(NamedTuple):
    """One measurement."""

    data: str
    n: int
    dim: int
    bits: int
    n_lists: int | None  # as given to build
    nprobe: int | str
    epsilon: float
    recall: float
    bytes_per_vector: int
    cost: float  # time of a query, of that of a FlatF32Index


class _Choice(NamedTuple):
    """Settings that reached a recall on every data set, and the worst they did."""

    bits: int
    n_lists: int | None
    nprobe: int | str
    epsilon: float
    recall: float
    cost: float


_ROWS = [_Row(*row) for row in _measured.ROWS]


# ---- memory ----------------------------------------------------------------------------


def _vector_bytes(dim: int) -> int:
    """One row of float32 with its id and norm."""
    return 4 * dim + 8 + 4


def _lists(n: int) -> int:
    """How many lists `build` makes of n rows unless told."""
    return 1 if n < 4096 else max(min(n // 512, 64), n // 1024)


def _code_bytes(n: int, dim: int, bits: int, n_lists: int) -> float:
    """What codes add to a row: as stored, and the signs once more for the scan.

    Stored: `bits` bits per dimension, padded to 32, two float32 factors, five with
    magnitudes, and a 32-bit list number. Arranged: at most one byte for six dimensions,
    in fours, two factors and a 32-bit row number, in blocks of 64 rows, of which the last
    of each list is half full. A list has a center.
    """
    padded = -(-dim // 32) * 32
    columns = -(-padded // 24) * 4
    arranged = columns + 8 + 4
    stored = bits * padded // 8 + (8 if bits == 1 else 20) + 4
    return stored + arranged + (32 * arranged + 4 * padded) * n_lists / n


# ---- choice ----------------------------------------------------------------------------


def _not_below(wanted: int, measured: list[int]) -> int:
    """The nearest of the measured numbers that is not below, else the largest."""
    return min((m for m in measured if m >= wanted), default=max(measured))


def _place(n: int, dim: int) -> list[_Row]:
    """The rows measured nearest to n and dim."""
    near_dim = _not_below(dim, [row.dim for row in _ROWS])
    near = [row for row in _ROWS if row.dim == near_dim]
    near_n = _not_below(n, [row.n for row in near])
    return [row for row in near if row.n == near_n]


def _reached(rows: list[_Row], recall: float) -> list[_Choice]:
    """The settings that reached the recall on every data set."""
    settings: dict[tuple[int, int | None, int | str, float], list[_Row]] = {}
    for row in rows:
        settings.setdefault((row.bits, row.n_lists, row.nprobe, row.epsilon), []).append(row)
    choices = (
        _Choice(
            *(bits, n_lists, nprobe, epsilon),
            recall=min(row.recall for row in same),
            cost=max(row.cost for row in same),
        )
        for (bits, n_lists, nprobe, epsilon), same in settings.items()
    )
    return [choice for choice in choices if choice.recall >= recall]


def _scaled(choice: _Choice, n: int, measured: int) -> tuple[int | None, int | str]:
    """Lists and probes for n rows. Lists grow with the square root of n, as measured.
    Probes do where n is larger; where it is smaller, as many lists are a larger share."""
    ratio = math.sqrt(n / measured)
    lists, probes = choice.n_lists, choice.nprobe
    if lists is not None:
        lists = max(1, min(round(lists * ratio), max(64, n // 64), 65536))
    if isinstance(probes, int) and ratio > 1:
        probes = min(math.ceil(probes * ratio), 65536)
    return lists, probes


def _flat(dim: int, why: str) -> Recommendation:
    return Recommendation("FlatF32Index", bytes_per_vector=_vector_bytes(dim), why=why)


def recommend(n: int, dim: int, recall_target: float = 0.99) -> Recommendation:
    """Choose an index for ``n`` vectors of dimension ``dim``.

    ``recall_target`` is the share of the true ten nearest neighbors a search should
    return, 0 < recall_target <= 1. The fastest index that reached it in measurements at
    this size or the next larger is chosen. Exact search is chosen where it is asked for
    (1.0), where the data is small, and where nothing measured is clearly faster. Recall
    depends on the data: `tune` and measure it on yours, beside ``FlatF32Index``.
    """
    n, dim = operator.index(n), operator.index(dim)
    if n < 0:
        raise ValueError(f"n must be at least 0, got {n}")
    if not 1 <= dim <= _MAX_DIM:
        raise ValueError(f"dim must be 1..{_MAX_DIM}, got {dim}")
    if not 0 < recall_target <= 1:
        raise ValueError(f"recall_target must be above 0, at most 1, got {recall_target}")
    if recall_target == 1:
        return _flat(dim, "only a full scan is always exact")
    if n < _SMALL:
        return _flat(dim, f"below {_SMALL} vectors a full scan costs little")
    rows = _place(n, dim)
    choices = [c for c in _reached(rows, recall_target) if c.cost < _WORTH_CODES]
    if not choices:
        return _flat(dim, "nothing measured reaches this recall much faster than a full scan")
    choice = min(choices, key=lambda c: (c.cost, c.bits))
    lists, probes = _scaled(choice, n, rows[0].n)
    build: dict[str, Any] = {"epsilon": choice.epsilon}
    if choice.bits > 1:
        build["bits"] = choice.bits
    if lists is not None:
        build["n_lists"] = lists
    size = _vector_bytes(dim) + _code_bytes(n, dim, choice.bits, lists or _lists(n))
    sets = ", ".join(sorted({row.data for row in rows}))
    beyond = "" if rows[0].n >= n and rows[0].dim >= dim else "; nothing larger was measured"
    return Recommendation(
        "RabitqPlusIndex",
        build,
        round(size),
        f"recall@{_measured.K} {choice.recall:.4f} in {100 * choice.cost:.2g} % of the time of"
        f" an exact scan; measured on {rows[0].n} x {rows[0].dim} ({sets}){beyond}",
        search={} if probes == "all" else {"nprobe": probes},
        recall=choice.recall,
        cost=choice.cost,
    )
