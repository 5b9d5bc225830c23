"""Which index for which data: rules that can be checked by hand."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

# Below this an exact scan reads so little that codes save nothing worth having.
_SMALL = 2_000
_MAX_DIM = 8192
# Share of true neighbours the default error bound keeps (see docs of `epsilon`).
_DEFAULT_EPSILON_RECALL = 0.99
_WIDE_EPSILON = 3.0


@dataclass(frozen=True)
class Recommendation:
    """An index class and how to build it.

    ``build`` are keyword arguments for ``getattr(ruvector, index).build``;
    ``bytes_per_vector`` is what a row takes in memory, its id included.
    """

    index: str
    build: dict[str, Any] = field(default_factory=dict)
    bytes_per_vector: int = 0
    why: str = ""


def _vector_bytes(dim: int) -> int:
    """One row of float32 with its id and norm."""
    return 4 * dim + 8 + 4


def _code_bytes(dim: int) -> int:
    """What codes add to a row: as stored, and once more arranged for the scan.

    Stored: one bit per dimension, padded to 32, two float32 factors, a 32-bit
    list number. Arranged: at most one byte for six dimensions, in fours, the
    factors, and a 32-bit row number.
    """
    padded = -(-dim // 32) * 32
    columns = -(-padded // 24) * 4
    return padded // 8 + 8 + 4 + columns + 8 + 4


def recommend(n: int, dim: int, recall_target: float = 0.99) -> Recommendation:
    """Choose an index for ``n`` vectors of dimension ``dim``.

    ``recall_target`` is the share of the true ten nearest neighbours a search
    should return, 0 < recall_target <= 1. Exact search is chosen where it is
    asked for (1.0) and where the data is small; else an index with codes, whose
    scores are exact and whose recall is set by ``epsilon``. Recall depends on
    the data: measure it on yours against ``FlatF32Index``.
    """
    n, dim = operator.index(n), operator.index(dim)
    if n < 0:
        raise ValueError(f"n must be at least 0, got {n}")
    if not 1 <= dim <= _MAX_DIM:
        raise ValueError(f"dim must be 1..{_MAX_DIM}, got {dim}")
    if not 0 < recall_target <= 1:
        raise ValueError(f"recall_target must be above 0, at most 1, got {recall_target}")

    exact = _vector_bytes(dim)
    if recall_target == 1:
        return Recommendation("FlatF32Index", {}, exact, "only a full scan is always exact")
    if n < _SMALL:
        return Recommendation(
            "FlatF32Index", {}, exact, f"below {_SMALL} vectors a full scan costs little"
        )
    coded = exact + _code_bytes(dim)
    if recall_target <= _DEFAULT_EPSILON_RECALL:
        return Recommendation(
            "RabitqPlusIndex", {}, coded, "codes are scanned, likely rows checked exactly"
        )
    return Recommendation(
        "RabitqPlusIndex",
        {"epsilon": _WIDE_EPSILON},
        coded,
        "as the default, with a wider error bound: more rows are checked exactly",
    )
