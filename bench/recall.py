"""Exact neighbors in float64, and the share of them an answer found."""

from __future__ import annotations

import hashlib

import numpy as np

from . import datasets

# Rows nearer than this to the k-th distance are ties in float32.
_TIE = 1e-6


def nearest(base: np.ndarray, queries: np.ndarray, k: int) -> tuple:
    """(rows, squared L2 distances) of the k nearest, each m x k, nearest first."""
    queries = queries.astype(np.float64)
    m = len(queries)
    rows = np.empty((m, 0), dtype=np.int64)
    scores = np.empty((m, 0))
    for begin in range(0, len(base), 8192):
        block = base[begin : begin + 8192].astype(np.float64)
        score = (block * block).sum(axis=1) - 2 * (queries @ block.T)
        row = np.broadcast_to(np.arange(begin, begin + len(block)), score.shape)
        rows, scores = np.hstack([rows, row]), np.hstack([scores, score])
        if rows.shape[1] > k:
            best = np.argpartition(scores, k - 1, axis=1)[:, :k]
            rows = np.take_along_axis(rows, best, axis=1)
            scores = np.take_along_axis(scores, best, axis=1)
    # By difference, which does not cancel.
    exact = np.stack([_distances(base, q, r) for q, r in zip(queries, rows)])
    order = np.argsort(exact, axis=1, kind="stable")
    return np.take_along_axis(rows, order, 1), np.take_along_axis(exact, order, 1)


def nearest_cached(base: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """The distances of `nearest`, kept with the data sets. Known again by the queries and
    a thousandth of the base."""
    digest = hashlib.sha256(repr((base.shape, queries.shape, k)).encode())
    digest.update(np.ascontiguousarray(queries).tobytes())
    digest.update(np.ascontiguousarray(base[:: max(1, len(base) // 1000)]).tobytes())
    name = f"exact-{digest.hexdigest()[:16]}"
    return np.asarray(datasets.cached(name, lambda: nearest(base, queries, k)[1]))


def recall(rows: np.ndarray, base: np.ndarray, queries: np.ndarray, kth: np.ndarray) -> float:
    """Mean share of the k places of `rows` (m x k) filled with distinct rows of `base`
    no farther from the query than `kth`, the distance of its k-th nearest. Ties at the
    k-th distance are hits; rows outside the base are empty places."""
    m, k = rows.shape
    hits = 0
    for found, query, limit in zip(rows, queries.astype(np.float64), kth):
        found = np.unique(found[(found >= 0) & (found < len(base))])
        near = _distances(base, query, found.astype(np.int64)) <= limit * (1 + _TIE)
        hits += int(near.sum())
    return hits / (m * k)


def _distances(base: np.ndarray, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
    difference = base[rows].astype(np.float64) - query
    return (difference * difference).sum(axis=1)
