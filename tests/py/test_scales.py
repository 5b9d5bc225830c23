"""Vectors of very different lengths. The right answers come from NumPy's long double.

A search of all lists with an epsilon of 10 rules nothing out that could be an answer: at
32 padded dimensions no code is off by more, and what float32 may be off by is allowed for.
"""

from __future__ import annotations

import numpy as np
import pytest
import ruvector
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import build

DIM, N, QUERIES, K = 32, 1000, 30, 10


def of_many_lengths(rng, n, decades):
    """Directions at random, lengths over that many powers of ten."""
    length = 10.0 ** rng.uniform(-decades / 2, decades / 2, n)
    return (rng.standard_normal((n, DIM)) * length[:, None]).astype(np.float32)


def scores_of(metric, x, q):
    x, q = x.astype(np.longdouble), q.astype(np.longdouble)
    if metric == "l2":
        return -((x[None, :, :] - q[:, None, :]) ** 2).sum(2)
    dot = q @ x.T
    if metric == "ip":
        return dot
    return dot / (np.sqrt((q**2).sum(1))[:, None] * np.sqrt((x**2).sum(1))[None, :])


def off_by(metric, x, q):
    """What a score in float32 may be off by, for each query and row."""
    x, q = x.astype(np.longdouble), q.astype(np.longdouble)
    lengths = np.sqrt((q**2).sum(1))[:, None] * np.sqrt((x**2).sum(1))[None, :]
    if metric == "l2":
        return -scores_of("l2", x, q) * 1e-6 + 1e-37
    return (lengths if metric == "ip" else np.ones_like(lengths)) * 1e-6 + 1e-37


def assert_exact(metric, x, q, ids):
    """No row is missing that is better than the worst of those found, or than nothing."""
    scores, error = scores_of(metric, x, q), off_by(metric, x, q)
    low, high = scores - error, scores + error
    for i, found in enumerate(ids.astype(np.int64)):
        left_out = np.ones(len(x), bool)
        left_out[found] = False
        assert low[i, left_out].max() <= high[i, found].min()


LISTS = [1, 64]
DECADES = [0, 12, 17]


@pytest.mark.parametrize("bits", [1, 8])
@pytest.mark.parametrize("n_lists", LISTS)
@pytest.mark.parametrize("decades", DECADES)
@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
def test_no_row_is_lost_to_rounding(metric, decades, n_lists, bits):
    rng = np.random.default_rng(decades)
    x, q = of_many_lengths(rng, N, decades), of_many_lengths(rng, QUERIES, decades)
    index = build(ruvector.RabitqPlusIndex, x, metric=metric, n_lists=n_lists, bits=bits)
    ids, _ = index.search_batch(q, k=K, nprobe="all", epsilon=10)
    assert_exact(metric, x, q, ids)


worlds = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "metric": st.sampled_from(["l2", "ip", "cosine"]),
        "decades": st.floats(0, 20),
        "mean": st.sampled_from([0.0, 1.0, 1e3, 1e6]),
        "n_lists": st.sampled_from(LISTS),
        "bits": st.integers(1, 8),
        "originals": st.sampled_from(["f32", "f16"]),
    }
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(worlds)
def test_no_row_is_lost_far_from_the_origin(world):
    """The mean is as far away as it likes; queries lie near rows, or are opposed to them."""
    rng = np.random.default_rng(world["seed"])
    x = of_many_lengths(rng, 300, world["decades"])
    x += world["mean"] * rng.standard_normal(DIM).astype(np.float32)
    if world["originals"] == "f16":
        x *= np.float32(6e4 / max(np.abs(x).max(), 6e4))
    q = x[:16] * (10.0 ** rng.uniform(-6, 6, (16, 1))).astype(np.float32)
    q[8:] *= -1
    options = {name: world[name] for name in ("metric", "n_lists", "bits", "originals")}
    index = ruvector.RabitqPlusIndex.build(x, **options)
    rows = np.asarray(index)
    ids, _ = index.search_batch(q, k=K, nprobe="all", epsilon=10)
    exact, _ = build(ruvector.FlatF32Index, rows, metric=world["metric"]).search_batch(q, k=K)
    assert (ids == exact).all()
    if (np.abs(rows).max(1) > 0).all():
        assert_exact(world["metric"], rows, q, ids)


@pytest.mark.parametrize("metric", ["l2", "ip", "cosine"])
@pytest.mark.parametrize("m", [1, 3, 5, 40])
def test_flat_batches_of_many_lengths(metric, m):
    """Batches rule rows out by products of bytes or floats, single queries do not."""
    rng = np.random.default_rng(m)
    x, q = of_many_lengths(rng, 700, 14), of_many_lengths(rng, m, 14)
    index = ruvector.FlatF32Index.build(x, metric=metric)
    ids, scores = index.search_batch(q, k=K)
    assert_exact(metric, x, q, ids)
    for i in range(m):
        assert [(h.id, h.score) for h in index.search(q[i], k=K)] == list(
            zip(ids[i].tolist(), scores[i].tolist())
        )
