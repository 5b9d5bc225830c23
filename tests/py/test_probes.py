"""nprobe: searches that look into the nearest lists only."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import ruvector
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import EVERYTHING, METRICS, build, check_hits, keeps_vectors

CODED = (ruvector.RabitqIndex, ruvector.RabitqPlusIndex, ruvector.RabitqAsymIndex)
LISTS = 93  # of 6,000 rows: one for each 64
DIM = 24


def points(n, seed, dim=DIM):
    """Points of 40 clusters that overlap; the seed draws the points, not the clusters."""
    centers = np.random.default_rng(5).standard_normal((40, dim)) * 1.5
    rng = np.random.default_rng(seed)
    return (centers[rng.integers(0, 40, n)] + rng.standard_normal((n, dim))).astype(np.float32)


@pytest.fixture(params=CODED, ids=lambda cls: cls.__name__)
def coded(request):
    return request.param


@pytest.fixture(params=METRICS)
def metric(request):
    return request.param


@pytest.fixture(scope="module")
def vectors():
    return points(6_000, 1)


@pytest.fixture(scope="module")
def queries():
    return points(60, 2)


def same(one, two):
    return all(np.array_equal(a, b) for a, b in zip(one, two))


def nearest(vectors, queries, k):
    """Scores of the k nearest of each query, in float64."""
    squared = (vectors.astype(np.float64) ** 2).sum(1) - 2 * queries.astype(np.float64) @ vectors.T
    return np.sort(squared + (queries.astype(np.float64) ** 2).sum(1)[:, None])[:, :k]


def recalls(idx, vectors, queries, k=10, **options):
    """Share of the k nearest that each query finds."""
    ids, _ = idx.search_batch(queries, k, **options)
    worst = nearest(vectors, queries, k)[:, -1:] * (1 + 1e-6)
    return ((vectors[ids].astype(np.float64) - queries[:, None]) ** 2).sum(2) <= worst


# ---- all lists -------------------------------------------------------------------


def test_all_lists_unless_told(coded, metric, vectors, queries):
    idx = build(coded, vectors, metric=metric, n_lists=LISTS)
    assert idx.n_lists == LISTS
    assert idx.nprobe == "all"
    asked = idx.search_batch(queries, nprobe="all")
    assert same(idx.search_batch(queries), asked)
    assert same(idx.search_batch(queries, nprobe=None), asked)
    for more in (LISTS, LISTS + 1, 65536):
        assert same(idx.search_batch(queries, nprobe=more), asked)
    assert idx.search(queries[0]) == idx.search(queries[0], nprobe=LISTS)


def test_large_indexes_leave_lists_out_unless_told():
    vectors = points(200_000, 3, dim=4)
    idx = ruvector.RabitqPlusIndex.build(vectors)
    assert 1 <= idx.nprobe < idx.n_lists
    queries = points(200, 4, dim=4)
    assert same(idx.search_batch(queries), idx.search_batch(queries, nprobe=idx.nprobe))
    assert recalls(idx, vectors, queries).mean() >= 0.99
    assert recalls(idx, vectors, queries, nprobe="all").mean() >= 0.999
    assert ruvector.RabitqPlusIndex.build(vectors[:199_999]).nprobe == "all"


# ---- some lists ------------------------------------------------------------------


def test_more_lists_never_find_less(vectors, queries):
    """The lists of a smaller number are among those of a larger one."""
    for metric, sign in (("l2", 1), ("ip", -1), ("cosine", -1)):
        idx = build(ruvector.RabitqPlusIndex, vectors, metric=metric, n_lists=LISTS)
        scores = [
            sign * idx.search_batch(queries, nprobe=nprobe)[1]
            for nprobe in (1, 2, 3, 5, 8, 16, 17, 30, 60, LISTS)
        ]
        for few, more in zip(scores, scores[1:]):
            assert (more <= few).all()
        assert (scores[-1] < scores[0]).any()


def test_recall_rises_with_the_number_of_lists(coded, vectors, queries):
    options = {"n_lists": LISTS}
    if coded is ruvector.RabitqAsymIndex:
        options["rerank_factor"] = 5
    idx = coded.build(vectors, **options)
    found = [recalls(idx, vectors, queries, nprobe=p).mean() for p in (1, 4, 16, LISTS)]
    slack = 0.01 if coded is ruvector.RabitqIndex else 0  # estimates mislead now and then
    assert all(few <= more + slack for few, more in zip(found, found[1:]))
    assert found[0] < found[-1]
    if coded is not ruvector.RabitqIndex:
        assert found[0] < 0.9  # lists are left out indeed
        assert found[2] > 0.95  # the right ones are looked into
        assert found[-1] >= 0.995


def test_lists_hold_what_is_close(vectors):
    """A row lies in the list nearest to it, so one list is enough to find it again."""
    idx = ruvector.RabitqPlusIndex.build(vectors, n_lists=LISTS)
    ids, scores = idx.search_batch(vectors[:500], k=1, nprobe=1)
    assert np.array_equal(ids[:, 0], np.arange(500))
    assert (scores == 0).all()


def test_a_batch_answers_as_single_searches_do(coded, metric, vectors, queries):
    idx = build(coded, vectors, metric=metric, n_lists=LISTS)
    for nprobe in (1, 7, 40):
        ids, scores = idx.search_batch(queries, k=12, nprobe=nprobe)
        for i, query in enumerate(queries):
            hits = idx.search(query, k=12, nprobe=nprobe)
            assert list(zip(ids[i].tolist(), scores[i].tolist())) == hits


# ---- enough results --------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 10, 63, 64, 65, 500, 6_000, 10_000])
@pytest.mark.parametrize("nprobe", [1, 3, 92])
def test_as_many_results_as_rows_allow(coded, vectors, queries, k, nprobe):
    idx = build(coded, vectors, n_lists=LISTS)
    for query in queries[:3]:
        hits = idx.search(query, k, nprobe=nprobe)
        check_hits(
            hits, query, dict(enumerate(vectors)), "l2", k, keeps_vectors(idx), complete=False
        )


@pytest.mark.parametrize("share", [0, 0.0005, 0.01, 0.1, 0.5])
def test_as_many_results_as_the_filter_allows(coded, metric, vectors, queries, rng, share):
    idx = build(coded, vectors, metric=metric, n_lists=LISTS)
    masks = rng.random((len(queries), len(vectors))) < share
    many, _ = idx.search_batch(queries, k=20, allow=masks, nprobe=2)
    assert ((many != ruvector.NO_ID).sum(1) == np.minimum(20, masks.sum(1))).all()
    for query, mask in zip(queries[:5], masks):
        rows = {int(i): vectors[i] for i in np.flatnonzero(mask)}
        by_mask = idx.search(query, k=20, allow=mask, nprobe=2)
        check_hits(by_mask, query, rows, metric, 20, keeps_vectors(idx), complete=False)
        assert idx.search(query, k=20, allow=list(rows), nprobe=2) == by_mask


def test_a_filter_far_from_the_query_is_reached(coded, vectors):
    """The allowed rows all lie in lists that are the last to be looked into."""
    query = vectors[0]
    far = np.argsort(((vectors - query) ** 2).sum(1))[-30:]
    idx = build(coded, vectors, n_lists=LISTS)
    for nprobe in (1, 5, "all"):
        hits = idx.search(query, k=25, allow=far, nprobe=nprobe)
        assert len(hits) == 25
        assert {h.id for h in hits} <= set(far.tolist())


def test_capped_searches_return_as_many_as_asked(vectors, queries):
    idx = ruvector.RabitqPlusIndex.build(vectors, n_lists=LISTS)
    for k, cap in ((10, 10), (200, 300), (6_000, 6_000)):
        ids, _ = idx.search_batch(queries[:5], k, nprobe=1, max_rerank=cap)
        assert (ids != ruvector.NO_ID).all()
    ids, _ = idx.search_batch(queries, 50, nprobe=1, rerank_factor=3)
    assert (ids != ruvector.NO_ID).all()


# ---- changes ---------------------------------------------------------------------


def test_removed_and_replaced_rows(coded, vectors, queries):
    idx = build(coded, vectors, n_lists=LISTS)
    idx.remove(range(0, 6_000, 3))
    idx.upsert(range(1, 600, 3), -vectors[1:600:3])
    idx.add_batch(vectors[:300:3].copy(), ids=range(10_000, 10_100))
    rows = {i: vectors[i] for i in range(6_000) if i % 3}
    rows.update((i, -vectors[i]) for i in range(1, 600, 3))
    rows.update((10_000 + i, vectors[3 * i]) for i in range(100))
    for query in (*queries[:10], -vectors[1], vectors[3]):
        for nprobe in (1, 4, 50, "all"):
            hits = idx.search(query, 30, nprobe=nprobe)
            check_hits(hits, query, rows, "l2", 30, keeps_vectors(idx), complete=nprobe == "all")
    if keeps_vectors(idx):
        assert idx.search(-vectors[1], 1, nprobe=1) == [(1, 0.0)]
        assert idx.search(vectors[3], 1, nprobe=1) == [(10_001, 0.0)]


def test_lists_emptied_by_removal_are_passed_over(coded, vectors):
    idx = build(coded, vectors, n_lists=LISTS)
    query = vectors[17]
    order = np.argsort(((vectors - query) ** 2).sum(1))
    idx.remove(order[:4_000])
    for _ in range(2):
        hits = idx.search(query, k=40, nprobe=1)
        assert len(hits) == 40
        assert {h.id for h in hits} <= set(order[4_000:].tolist())
        idx.vacuum()


def test_an_index_grown_from_nothing_has_the_lists_it_was_built_with(coded, vectors, queries):
    idx = build(coded, vectors[:0], n_lists=LISTS)
    idx.add_batch(vectors)
    assert idx.n_lists == LISTS
    assert same(
        idx.search_batch(queries, nprobe=4),
        build(coded, vectors, n_lists=LISTS).search_batch(queries, nprobe=4),
    )


# ---- very many lists: the nearest are found by codes of their centers ---------------


MANY = 600


@pytest.fixture(scope="module")
def many():
    return points(MANY * 64, 11, dim=16)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("bits", [1, 3])
def test_many_lists(coded, many, metric, bits):
    idx = build(coded, many, metric=metric, n_lists=MANY, bits=bits)
    queries = np.concatenate([points(20, 12, dim=16), many[:3], np.zeros((1, 16), np.float32)])
    rows, exact = dict(enumerate(many)), keeps_vectors(idx)
    for nprobe in (1, 7, 70, 200, MANY - 1, "all"):
        for k in (10, 300):
            ids, scores = idx.search_batch(queries, k, nprobe=nprobe)
            for i, query in enumerate(queries):
                hits = idx.search(query, k, nprobe=nprobe)
                assert list(zip(ids[i].tolist(), scores[i].tolist())) == hits
                if i % 6 == 0:
                    complete = nprobe == "all"
                    check_hits(hits, query, rows, metric, k, exact, complete=complete)


def test_many_lists_looked_into_one_after_the_other(coded, many):
    """What is asked for lies beyond the lists whose distance is known at first."""
    idx = build(coded, many, n_lists=MANY)
    far = np.argsort(((many - many[0]) ** 2).sum(1))[-700:]
    for query in (many[0], points(1, 13, dim=16)[0]):
        hits = idx.search(query, 650, allow=far, nprobe=1)
        check_hits(
            hits,
            query,
            {i: many[i] for i in far.tolist()},
            "l2",
            650,
            keeps_vectors(idx),
            complete=False,
        )
    assert len(idx.search(many[0], len(many), nprobe=1)) == len(many)


def test_many_lists_hold_what_is_close(many):
    idx = ruvector.RabitqPlusIndex.build(many, n_lists=MANY)
    ids, scores = idx.search_batch(many[:2_000], k=1, nprobe=1)
    assert np.array_equal(ids[:, 0], np.arange(2_000))
    assert (scores == 0).all()
    queries = points(300, 14, dim=16)
    found = [recalls(idx, many, queries, nprobe=p, epsilon=4.0).mean() for p in (1, 8, 64, "all")]
    assert found == sorted(found)
    assert found[-1] == 1


# ---- how many lists --------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "n_lists"), [(70, 64), (4_096, 64), (4_160, 65), (6_000, 93), (30_000, 468)]
)
def test_as_many_lists_as_rows_can_fill(coded, n, n_lists):
    vectors = points(n, 7, dim=6)
    idx = coded.build(vectors, n_lists=n_lists)
    assert idx.n_lists == n_lists
    loaded = coded.from_bytes(idx.to_bytes())
    assert loaded.n_lists == n_lists
    queries = points(20, 8, dim=6)
    assert same(loaded.search_batch(queries, nprobe=3), idx.search_batch(queries, nprobe=3))


def test_files_and_pickles_keep_the_lists(coded, vectors, queries, tmp_path):
    idx = build(coded, vectors, n_lists=LISTS)
    idx.remove(range(50))
    idx.save(tmp_path / "index")
    expected = idx.search_batch(queries, nprobe=5)
    for copy in (
        coded.load(tmp_path / "index"),
        coded.load(tmp_path / "index", mmap=False),
        pickle.loads(pickle.dumps(idx)),
    ):
        assert copy == idx
        assert (copy.n_lists, copy.nprobe) == (LISTS, "all")
        assert same(copy.search_batch(queries, nprobe=5), expected)


def test_the_number_of_threads_makes_no_difference(coded, vectors, queries):
    digests = set()
    for threads in (1, 2, 3):
        ruvector.set_num_threads(threads)
        idx = build(coded, vectors, n_lists=LISTS)
        ids, scores = idx.search_batch(queries, nprobe=6)
        digests.add((idx.to_bytes(), ids.tobytes(), scores.tobytes()))
    assert len(digests) == 1


@settings(max_examples=80)
@given(
    coded=st.sampled_from(CODED),
    metric=st.sampled_from(METRICS),
    n=st.integers(1, 900),
    dim=st.integers(1, 70),
    bits=st.sampled_from([1, 1, 2, 4, 8]),
    lists=st.integers(1, 64),
    nprobe=st.integers(1, 64),
    k=st.sampled_from([1, 10, 100]),
    share=st.sampled_from([0.01, 0.3, 1]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_number_of_lists(coded, metric, n, dim, bits, lists, nprobe, k, share, seed):
    rng = np.random.default_rng(seed)
    vectors = points(n, seed, dim)
    options = {"rerank_factor": 2} if coded is ruvector.RabitqAsymIndex else {}
    if coded is not ruvector.RabitqIndex:
        options["epsilon"] = EVERYTHING
    idx = coded.build(vectors, metric=metric, bits=bits, n_lists=lists, **options)
    mask = rng.random(n) < share
    rows = {int(i): vectors[i] for i in np.flatnonzero(mask)}
    exact, complete = keeps_vectors(idx), nprobe >= idx.n_lists
    for query in points(3, seed + 1, dim):
        hits = idx.search(query, k, allow=mask, nprobe=nprobe)
        check_hits(hits, query, rows, metric, k, exact, complete=complete)
