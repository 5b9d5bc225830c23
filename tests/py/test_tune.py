"""tune: the cheapest defaults that reach a recall."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
import ruvector
from oracle import METRICS

N, DIM, LISTS, K = 8_000, 32, 100, 10
PLUS = ruvector.RabitqPlusIndex


def points(n, seed):
    """Points of 50 clusters that overlap; the seed draws the points, not the clusters."""
    centers = np.random.default_rng(6).standard_normal((50, DIM))
    rng = np.random.default_rng(seed)
    return (centers[rng.integers(0, 50, n)] + rng.standard_normal((n, DIM))).astype(np.float32)


@pytest.fixture(scope="module")
def vectors():
    return points(N, 1)


@pytest.fixture(scope="module")
def queries():
    return points(400, 2)


@pytest.fixture
def idx(vectors):
    return PLUS.build(vectors, n_lists=LISTS)


def recall(idx, vectors, queries, k=K, metric="l2", **options):
    """Share of the true k best that a search finds; the truth by NumPy in float64."""
    v, q = vectors.astype(np.float64), queries.astype(np.float64)
    scores = q @ v.T
    if metric == "cosine":
        scores /= np.linalg.norm(v, axis=1) * np.linalg.norm(q, axis=1)[:, None]
    if metric == "l2":
        scores = 2 * scores - (v**2).sum(1)
    worst = np.sort(scores)[:, [-k]]
    ids, _ = idx.search_batch(np.ascontiguousarray(queries), k, **options)
    return np.mean(np.take_along_axis(scores, ids.astype(np.int64), 1) >= worst)


# ---- what it promises --------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("target", [0.8, 0.95, 0.99])
def test_other_queries_reach_the_recall(vectors, queries, metric, target):
    idx = PLUS.build(vectors, metric=metric, n_lists=LISTS)
    tuning = idx.tune(queries, recall=target)
    fresh = points(1_000, 3)
    got = recall(idx, vectors, fresh, metric=metric)
    # of 10,000 neighbors; those of one query rise and fall together
    assert got >= target - 5 * np.sqrt(target * (1 - target) / 10_000)
    assert abs(got - tuning.recall) < 0.03


def test_the_recall_told_is_that_of_the_odd_queries(idx, vectors, queries):
    for target in (0.7, 0.9):
        tuning = idx.tune(queries, recall=target)
        assert tuning.recall == pytest.approx(recall(idx, vectors, queries[1::2]), abs=1e-3)


def test_lists_are_left_out_where_that_is_cheaper(idx, queries):
    easy, hard = (idx.tune(queries, recall=r) for r in (0.7, 0.99))
    assert 1 <= easy.nprobe < hard.nprobe < LISTS
    assert easy.recall < hard.recall


def test_the_even_queries_reach_the_recall(idx, vectors, queries):
    for target in (0.5, 0.75, 0.9, 0.99, 1):
        idx.tune(queries, recall=target)
        assert recall(idx, vectors, queries[::2]) >= target


def test_all_lists_where_fewer_do_not_reach_the_recall():
    """A tenth of all rows, of independent coordinates: some are in any list."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((2_000, 16)).astype(np.float32)
    idx = PLUS.build(vectors, n_lists=10)
    tuning = idx.tune(rng.standard_normal((400, 16)).astype(np.float32), k=200, recall=1)
    assert tuning.nprobe == idx.nprobe == "all"
    assert tuning.recall >= 0.99


def test_k_counts(idx, vectors, queries):
    for k in (1, 50):
        idx.tune(queries, k=k, recall=0.95)
        assert recall(idx, vectors, points(500, 4), k=k) >= 0.92


@pytest.mark.parametrize("bits", [1, 4])
def test_without_vectors_the_best_estimates_are_the_aim(vectors, queries, bits):
    idx = ruvector.RabitqIndex.build(vectors, bits=bits, n_lists=LISTS)
    tuning = idx.tune(queries, recall=0.95)
    assert tuning.nprobe == idx.nprobe < LISTS
    odd = queries[1::2].copy()
    found, _ = idx.search_batch(odd)
    best, _ = idx.search_batch(odd, nprobe="all")
    same = np.mean([np.isin(a, b).mean() for a, b in zip(best, found)])
    assert same >= 0.92
    assert same == pytest.approx(tuning.recall, abs=0.02)


def test_one_list(vectors, queries):
    for cls in (PLUS, ruvector.RabitqIndex, ruvector.RabitqAsymIndex):
        idx = cls.build(vectors, n_lists=1)
        tuning = idx.tune(queries[:40], recall=0.95)
        assert tuning.nprobe == idx.nprobe == "all"
        assert 0 < tuning.recall <= 1


def test_two_queries_are_enough(idx, queries):
    assert idx.tune(queries[:2], recall=0.9).recall <= 1


# ---- what it changes ---------------------------------------------------------------


def test_the_choice_is_the_new_default(idx, queries):
    nprobe, epsilon, share = tuning = idx.tune(queries, recall=0.9)
    assert isinstance(tuning, ruvector.Tuning)
    assert (tuning.nprobe, tuning.epsilon, tuning.recall) == (nprobe, epsilon, share)
    assert (type(nprobe), type(epsilon), type(share)) == (int, float, float)
    assert (idx.nprobe, idx.epsilon) == (nprobe, epsilon)
    for hits, named in (
        (idx.search(queries[0]), idx.search(queries[0], nprobe=nprobe, epsilon=epsilon)),
        (idx.search(queries[7], k=3), idx.search(queries[7], k=3, nprobe=nprobe)),
    ):
        assert hits == named
    every = idx.search_batch(queries, nprobe="all", epsilon=7.0)[1]
    assert (idx.search_batch(queries)[1] >= every).all()
    assert f"n_lists={LISTS}, nprobe={nprobe}" in repr(idx)


def test_rows_stay_as_they_are(idx, vectors, queries):
    codes = idx.codes
    idx.tune(queries[:50])
    assert np.array_equal(idx.codes, codes)
    assert np.array_equal(np.asarray(idx), vectors)
    assert idx.ids.tolist() == list(range(N))


def test_files_and_pickles_keep_the_choice(idx, queries, tmp_path):
    tuning = idx.tune(queries, recall=0.9)
    expected = idx.search_batch(queries)
    idx.save(tmp_path / "index.rbpx")
    for copy in (
        PLUS.load(tmp_path / "index.rbpx"),
        PLUS.load(tmp_path / "index.rbpx", mmap=False),
        PLUS.from_bytes(idx.to_bytes()),
        *(pickle.loads(pickle.dumps(idx, protocol)) for protocol in (2, 5)),
    ):
        assert copy == idx
        assert (copy.nprobe, copy.epsilon) == (tuning.nprobe, tuning.epsilon)
        assert all(np.array_equal(a, b) for a, b in zip(copy.search_batch(queries), expected))


def test_changes_of_rows_keep_the_choice(idx, queries):
    tuning = idx.tune(queries, recall=0.9)
    idx.add_batch(points(500, 9))
    idx.remove(range(700))
    idx.vacuum()
    assert (idx.nprobe, idx.epsilon) == (tuning.nprobe, tuning.epsilon)


def test_tuning_again_starts_afresh(idx, vectors, queries):
    other = PLUS.build(vectors, n_lists=LISTS)
    idx.tune(queries, recall=0.6)
    assert idx.tune(queries, recall=0.95) == other.tune(queries, recall=0.95)
    assert idx == other


def test_the_same_queries_give_the_same_choice(vectors, queries):
    found = set()
    for threads in (1, 2, 3):
        ruvector.set_num_threads(threads)
        idx = PLUS.build(vectors, n_lists=LISTS)
        found.add((idx.tune(queries, recall=0.97), idx.to_bytes()))
    assert len(found) == 1


def test_tunings_are_values(idx, queries):
    tuning = idx.tune(queries[:20])
    copy = pickle.loads(pickle.dumps(tuning))
    assert copy == tuning
    assert type(copy) is ruvector.Tuning
    assert repr(tuning).startswith("ruvector.Tuning(nprobe=")


# ---- what it refuses ---------------------------------------------------------------


def untouched(idx, function, error, match):
    before = idx.to_bytes()
    with pytest.raises(error, match=match) as caught:
        function()
    assert idx.to_bytes() == before
    assert (idx.nprobe, idx.epsilon) == ("all", PLUS.build([[1.0]]).epsilon)
    return caught.value


@pytest.mark.parametrize("m", [0, 1])
def test_too_few_queries(idx, queries, m):
    untouched(idx, lambda: idx.tune(queries[:m]), ValueError, f"at least 2.*got {m}")


@pytest.mark.parametrize("dim", [1, DIM - 1, DIM + 1])
def test_queries_of_another_dimension(idx, dim):
    wrong = np.ones((10, dim), np.float32)
    error = untouched(idx, lambda: idx.tune(wrong), ruvector.DimensionMismatch, f"{dim}.*{DIM}")
    assert (error.expected, error.actual) == (DIM, dim)


@pytest.mark.parametrize("share", [0, -0.5, 1.0001, 99, float("nan"), float("inf")])
def test_recalls_that_make_no_sense(idx, queries, share):
    message = "recall must be above 0 and at most 1"
    untouched(idx, lambda: idx.tune(queries, recall=share), ValueError, message)


@pytest.mark.parametrize("share", ["0.9", None, [0.9]])
def test_recalls_that_are_no_number(idx, queries, share):
    message = "recall: expected a float"
    untouched(idx, lambda: idx.tune(queries, recall=share), TypeError, message)


@pytest.mark.parametrize("k", [0, -1])
def test_k_below_one(idx, queries, k):
    untouched(idx, lambda: idx.tune(queries, k=k), ValueError, f"at least 1, got {k}")


@pytest.mark.parametrize("k", [N + 1, 2**40, 2**70])
def test_k_beyond_the_number_of_rows(idx, queries, k):
    untouched(idx, lambda: idx.tune(queries, k=k), ValueError, f"index holds {N} rows")


def test_queries_that_are_not_finite(idx, queries):
    for place in (2, 3):
        bad = queries[:10].copy()
        bad[place, 5] = np.nan
        untouched(idx, lambda bad=bad: idx.tune(bad), ValueError, "NaN")


def test_queries_of_the_wrong_type(idx, queries):
    untouched(idx, lambda: idx.tune(queries.astype(complex)), TypeError, "complex128")
    untouched(idx, lambda: idx.tune(queries[None]), ValueError, r"queries.*\(n, dim\)")
    untouched(idx, lambda: idx.tune(queries, progress=3), TypeError, "progress")


def test_queries_of_any_real_type(vectors, queries):
    wanted = ruvector.RabitqPlusIndex.build(vectors, n_lists=LISTS).tune(queries, k=5)
    for given in (queries.astype(float), np.asfortranarray(queries), queries.astype(">f4")):
        idx = ruvector.RabitqPlusIndex.build(vectors, n_lists=LISTS)
        assert idx.tune(given, k=5) == wanted


def test_exact_search_has_nothing_to_tune(vectors, queries):
    idx = ruvector.FlatF32Index.build(vectors)
    with pytest.raises(ValueError, match=r"flat index.*nothing to tune"):
        idx.tune(queries)


def test_an_index_without_rows(queries):
    for cls in (PLUS, ruvector.RabitqIndex, ruvector.RabitqAsymIndex):
        idx = cls.build(np.zeros((0, DIM), np.float32))
        with pytest.raises(ruvector.EmptyIndex):
            idx.tune(queries)


# ---- progress ----------------------------------------------------------------------


def test_progress_only_rises(idx, queries):
    calls = []
    idx.tune(queries, progress=lambda done, total: calls.append((done, total)))
    assert calls
    assert calls == sorted(calls)
    assert len({total for _, total in calls}) == 1
    assert all(0 <= done <= total for done, total in calls)


def test_an_exception_in_progress_stops_the_call(idx, queries):
    def stop(done, total):
        raise LookupError("enough")

    untouched(idx, lambda: idx.tune(queries, progress=stop), LookupError, "enough")


def test_progress_may_search_the_index(idx, queries):
    seen = []
    idx.tune(queries[:100], progress=lambda *_: seen.append(len(idx.search(queries[0]))))
    assert set(seen) == {10}


INTERRUPTED = """
import os, signal, threading
import numpy as np, ruvector

# a shell starts what it runs in the background with the signal ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
rng = np.random.default_rng(0)
idx = ruvector.RabitqPlusIndex.build(rng.standard_normal((20_000, 128)).astype(np.float32))
queries = rng.standard_normal((2_000, 128)).astype(np.float32)
before = idx.to_bytes()
ruvector.set_num_threads(1)
begun = threading.Event()
reports = []

def progress(done, total):
    reports.append(done / total)
    begun.set()

def interrupt():
    begun.wait()
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
try:
    idx.tune(queries, progress=progress)
except KeyboardInterrupt:
    print("interrupted", reports[-1] < 1, idx.to_bytes() == before)
"""


@pytest.mark.skipif(os.name != "posix", reason="sends itself a signal")
def test_ctrl_c_stops_it(run_python):
    result = run_python(INTERRUPTED)
    assert result.stdout == "interrupted True True\n", result.stderr
