"""Brute force in NumPy, in float64: what an index should have answered."""

from __future__ import annotations

import numpy as np
import ruvector

CLASSES = (
    ruvector.FlatF32Index,
    ruvector.RabitqIndex,
    ruvector.RabitqPlusIndex,
    ruvector.RabitqAsymIndex,
)
METRICS = ("l2", "ip", "cosine")
# Wide enough that no row is ever ruled out by its bound.
EVERYTHING = 1e6


def build(cls: type, vectors, *, rerank: bool = True, **options):
    """An index whose search is exact, if its class can keep vectors.

    rerank: whether a RabitqAsymIndex keeps vectors.
    """
    if cls is ruvector.RabitqPlusIndex:
        options.setdefault("epsilon", EVERYTHING)
    if cls is ruvector.RabitqAsymIndex and rerank:
        options.setdefault("epsilon", EVERYTHING)
        options.setdefault("rerank_factor", 2)
    return cls.build(vectors, **options)


def keeps_vectors(index) -> bool:
    if isinstance(index, ruvector.RabitqAsymIndex):
        return (index.rerank_factor or 1) > 1
    return not isinstance(index, ruvector.RabitqIndex)


def true_scores(query, vectors, metric: str):
    q = np.asarray(query, np.float64)
    v = np.asarray(vectors, np.float64).reshape(-1, len(q))
    if metric == "l2":
        return ((v - q) ** 2).sum(axis=1)
    dots = v @ q
    if metric == "ip":
        return dots
    lengths = np.linalg.norm(v, axis=1) * np.linalg.norm(q)
    return np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0)


def tolerance(query, vectors, metric: str) -> float:
    """What rounding to float32 may cost a score."""
    q = np.asarray(query, np.float64)
    v = np.asarray(vectors, np.float64).reshape(-1, len(q))
    if metric == "cosine":
        return 1e-5
    largest = float((v**2).sum(axis=1).max(initial=0) + q @ q)
    return 1e-5 * largest + 1e-30


def check_hits(
    hits, query, rows: dict, metric: str, k: int, exact: bool, *, complete: bool = True
) -> None:
    """`rows`: id -> vector of everything that may be returned. exact: scores are no
    estimates. complete: every row was looked at, so that exact scores are the best."""
    assert len(hits) == min(k, len(rows))
    ids = [h.id for h in hits]
    scores = np.array([h.score for h in hits])
    assert len(set(ids)) == len(ids)
    assert set(ids) <= rows.keys()
    worse = np.diff(scores) if metric == "l2" else -np.diff(scores)
    assert (worse >= 0).all()
    assert all(a < b for a, b, d in zip(ids, ids[1:], worse) if d == 0)
    if not exact or not hits:
        return
    vectors = np.array([rows[i] for i in ids])
    slack = tolerance(query, np.array(list(rows.values())), metric)
    np.testing.assert_allclose(scores, true_scores(query, vectors, metric), rtol=0, atol=slack)
    if not complete:
        return
    everything = np.sort(true_scores(query, np.array(list(rows.values())), metric))
    best = everything[: len(ids)] if metric == "l2" else everything[::-1][: len(ids)]
    np.testing.assert_allclose(scores, best, rtol=0, atol=slack)
