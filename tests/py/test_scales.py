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


# ---- scaling does not change a cosine --------------------------------------------------

SMALLEST = -149  # 2^-149 is the smallest float32
CLASSES = [
    (ruvector.FlatF32Index, {}),
    (ruvector.RabitqIndex, {"bits": 4}),
    (ruvector.RabitqPlusIndex, {"epsilon": 10}),
    (ruvector.RabitqPlusIndex, {"epsilon": 10, "n_lists": 16, "bits": 4}),
    (ruvector.RabitqAsymIndex, {"rerank_factor": 5, "epsilon": 10}),
]
NAMES = ["flat", "codes", "plus", "plus-lists", "asym"]
each_class = pytest.mark.parametrize(("cls", "options"), CLASSES, ids=NAMES)


def of_few_bits(rng, n):
    """Rows of whole numbers: no bit is lost down to 2^-149."""
    rows = rng.integers(-127, 128, (n, DIM)).astype(np.float32)
    rows[:, 0] = 1
    return rows


def times(rows, powers):
    """Exactly: float64 holds every step."""
    return (rows.astype(np.float64) * 2.0 ** np.asarray(powers, np.float64)).astype(np.float32)


def same(a, b):
    return (a[0] == b[0]).all() and (a[1] == b[1]).all()


@each_class
@pytest.mark.parametrize("m", [1, 2, 8, 20])
def test_scaled_vectors_have_the_same_cosines(cls, options, m):
    rng = np.random.default_rng(m)
    x, q = of_few_bits(rng, 400), of_few_bits(rng, m)
    plain = cls.build(x, metric="cosine", **options)
    wanted = plain.search_batch(q, k=K)
    for power in (SMALLEST, -140, -126, -110, -90, -75, -64, -50, -40, -20, 40):
        index = cls.build(times(x, power), metric="cosine", **options)
        for other in (SMALLEST, -120, -70, 0, 40):
            assert same(index.search_batch(times(q, other), k=K), wanted), (power, other)
        hits = index.search(times(q[0], power), k=K)
        assert [(h.id, h.score) for h in hits] == list(
            zip(wanted[0][0].tolist(), wanted[1][0].tolist())
        )


@each_class
def test_rows_of_all_lengths_in_one_index(cls, options, tmp_path):
    """Built, added, replaced, from bytes and from a file."""
    rng = np.random.default_rng(5)
    x, q = of_few_bits(rng, 600), of_few_bits(rng, 12)
    powers = rng.integers(SMALLEST, 40, (600, 1))
    rows, queries = times(x, powers), times(q, rng.integers(SMALLEST, 40, (12, 1)))
    plain = cls.build(x[:400], metric="cosine", **options)
    index = cls.build(rows[:400], metric="cosine", **options)
    for one, those in ((plain, x), (index, rows)):
        one.add_batch(those[400:])
        one.upsert(np.arange(50), those[100:150])
    wanted = plain.search_batch(q, k=K)
    assert same(index.search_batch(queries, k=K), wanted)
    assert same(index.search_batch(queries, k=K, allow=plain.ids), wanted)
    index.save(tmp_path / "x.rbpx")
    for copy in (cls.from_bytes(index.to_bytes()), cls.load(tmp_path / "x.rbpx")):
        assert same(copy.search_batch(queries, k=K), wanted)


@each_class
@pytest.mark.parametrize("scale", [1e-18, 1e-22, 1e-30, 1e-38, 1e-42])
def test_short_rows_have_their_cosines(cls, options, scale):
    """Against long double, for the numbers as float32 has them: the last lose bits."""
    rng = np.random.default_rng(2)
    x = (rng.standard_normal((300, DIM)) * scale).astype(np.float32)
    q = (rng.standard_normal((9, DIM)) * scale).astype(np.float32)
    index = cls.build(x, metric="cosine", **options)
    ids, scores = index.search_batch(q, k=K)
    true = scores_of("cosine", x, q)
    off = np.abs(np.take_along_axis(true, ids.astype(np.int64), 1) - scores).max()
    if cls is ruvector.RabitqIndex:
        assert off < 0.1
    else:
        assert off < 2e-6
        assert_exact("cosine", x, q, ids)
        assert index.search(x[3], k=1)[0].score == pytest.approx(1, abs=1e-6)
    lengths = np.sqrt((x.astype(np.longdouble) ** 2).sum(1))
    assert (np.abs(index.norms - lengths) <= lengths * 1e-6 + 2.0**SMALLEST).all()


@each_class
def test_zeros_among_short_rows(cls, options):
    x = np.zeros((40, DIM), np.float32)
    x[::2, 3] = 2.0**SMALLEST
    x[::4] *= -1
    index = cls.build(x, metric="cosine", **{**options, "n_lists": 1} if options else options)
    assert (index.norms == np.abs(x[:, 3])).all()
    for m in (1, 8):
        scores = index.search_batch(np.tile(x[2], (m, 1)), k=40)[1]
        assert (np.sort(scores) == np.repeat([-1, 0, 1], [10, 20, 10])).all()
        assert not index.search_batch(np.zeros((m, DIM), np.float32), k=40)[1].any()


def test_tuning_with_short_vectors():
    rng = np.random.default_rng(3)
    x, q = of_few_bits(rng, 2000), of_few_bits(rng, 60)
    tunings = []
    for power in (0, -145):
        index = ruvector.RabitqPlusIndex.build(times(x, power), metric="cosine", n_lists=16)
        tunings.append(index.tune(times(q, power), recall=0.9))
    assert tunings[0] == tunings[1]
