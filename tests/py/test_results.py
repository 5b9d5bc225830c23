"""What searches return: order, ties, scores, shapes, filters, reranking, batches."""

from __future__ import annotations

import numpy as np
import pytest
import ruvector
from oracle import METRICS, build, check_hits, keeps_vectors, true_scores


@pytest.fixture(params=METRICS)
def metric(request):
    return request.param


@pytest.fixture
def vectors(rng):
    return rng.standard_normal((300, 20)).astype(np.float32)


@pytest.fixture
def queries(rng):
    return rng.standard_normal((40, 20)).astype(np.float32)


def worst(metric):
    return np.inf if metric == "l2" else -np.inf


# ---- one query -------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 10, 64, 65, 300, 1000])
def test_the_k_best_come_best_first(cls, metric, vectors, queries, k):
    idx = build(cls, vectors, metric=metric)
    rows = dict(enumerate(vectors))
    for query in queries[:5]:
        check_hits(idx.search(query, k), query, rows, metric, k, keeps_vectors(idx))


def test_ten_unless_told(cls, vectors):
    assert len(build(cls, vectors).search(vectors[0])) == 10


def test_equal_scores_come_by_ascending_id(cls, metric):
    vectors = np.tile(np.array([[1, 2, 3, 4]], np.float32), (6, 1))
    idx = build(cls, vectors, ids=[9, 2, 7, 4, 1, 3], metric=metric)
    assert [h.id for h in idx.search(vectors[0], k=4)] == [1, 2, 3, 4]


def test_squared_distance_of_a_row_to_itself_is_zero(vectors):
    idx = ruvector.RabitqPlusIndex.build(vectors)
    assert idx.search(vectors[5], k=1) == [(5, 0.0)]


def test_cosine_with_a_zero_vector_is_zero(vectors):
    vectors[3] = 0
    idx = build(ruvector.FlatF32Index, vectors, metric="cosine")
    assert dict(idx.search(vectors[0], k=300))[3] == 0
    assert {h.score for h in idx.search(np.zeros(20, np.float32), k=300)} == {0.0}


def test_cosine_does_not_depend_on_lengths(vectors, queries):
    idx = ruvector.FlatF32Index.build(vectors, metric="cosine")
    scaled = ruvector.FlatF32Index.build(vectors * np.float32(1024), metric="cosine")
    assert scaled.search(queries[0] / 4) == idx.search(queries[0])


def test_default_epsilon_gives_exact_scores(metric, vectors, queries):
    idx = ruvector.RabitqPlusIndex.build(vectors, metric=metric)
    for query in queries:
        for hit in idx.search(query):
            expected = true_scores(query, vectors[hit.id], metric)[0]
            assert hit.score == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_estimates_are_close(vectors, queries, metric):
    idx = ruvector.RabitqIndex.build(vectors, metric=metric)
    estimates = np.array([[s for _, s in sorted(idx.search(q, 300))] for q in queries])
    truth = np.array([true_scores(q, vectors, metric) for q in queries])
    assert np.corrcoef(estimates.ravel(), truth.ravel())[0, 1] > 0.7


# ---- batches ---------------------------------------------------------------------


def test_a_batch_answers_as_single_searches_do(cls, metric, vectors, queries):
    idx = build(cls, vectors, metric=metric)
    ids, scores = idx.search_batch(queries, k=7)
    assert (ids.shape, ids.dtype) == ((40, 7), np.uint64)
    assert (scores.shape, scores.dtype) == ((40, 7), np.float32)
    for i, query in enumerate(queries):
        assert list(zip(ids[i].tolist(), scores[i].tolist())) == idx.search(query, k=7)


def test_places_left_over_hold_no_id_and_the_worst_score(cls, metric, vectors, queries):
    idx = build(cls, vectors[:3], metric=metric)
    ids, scores = idx.search_batch(queries, k=5)
    assert (ids[:, :3] != ruvector.NO_ID).all()
    assert (ids[:, 3:] == ruvector.NO_ID).all()
    assert (scores[:, 3:] == worst(metric)).all()
    assert ruvector.NO_ID == 2**64 - 1


def test_a_batch_of_none(cls, vectors):
    ids, scores = build(cls, vectors).search_batch(np.zeros((0, 20), np.float32), k=4)
    assert ids.shape == scores.shape == (0, 4)


def test_batch_results_belong_to_the_caller(cls, vectors, queries):
    idx = build(cls, vectors)
    ids, scores = idx.search_batch(queries)
    kept = ids.copy()
    ids[:] = 0
    scores[:] = 0
    assert np.array_equal(idx.search_batch(queries)[0], kept)


# ---- filters ---------------------------------------------------------------------


@pytest.mark.parametrize("share", [0, 1, 3, 40, 150, 299, 300])
def test_only_allowed_rows_come_back(cls, metric, vectors, queries, rng, share):
    ids = rng.permutation(10_000)[:300]
    idx = build(cls, vectors, ids=ids, metric=metric)
    mask = np.zeros(300, bool)
    mask[rng.permutation(300)[:share]] = True
    rows = {int(i): v for i, v, m in zip(ids, vectors, mask) if m}
    exact = keeps_vectors(idx)
    for query in queries[:4]:
        by_mask = idx.search(query, k=20, allow=mask)
        check_hits(by_mask, query, rows, metric, 20, exact)
        assert idx.search(query, k=20, allow=list(rows)) == by_mask
        assert idx.search(query, k=20, allow=ids[mask]) == by_mask
        assert idx.search(query, k=20, allow=set(rows)) == by_mask
        assert idx.search(query, k=20, allow=mask.tolist()) == by_mask


def test_unknown_and_repeated_allowed_ids_are_ignored(cls, vectors, queries):
    idx = build(cls, vectors)
    allow = [5, 5, 8, 2**60, 2**64 - 1, 8]
    assert {h.id for h in idx.search(queries[0], allow=allow)} == {5, 8}


def test_no_allowed_row_gives_no_result(cls, vectors, queries):
    idx = build(cls, vectors)
    for nothing in ([], np.array([], np.uint64), np.zeros(300, bool), [10**9]):
        assert idx.search(queries[0], allow=nothing) == []
        ids, _ = idx.search_batch(queries, k=2, allow=nothing)
        assert (ids == ruvector.NO_ID).all()


def test_a_batch_with_one_filter_or_one_per_query(cls, vectors, queries, rng):
    idx = build(cls, vectors)
    masks = rng.random((40, 300)) < 0.3
    ids, scores = idx.search_batch(queries, k=5, allow=masks)
    one_ids, _ = idx.search_batch(queries, k=5, allow=masks[0])
    for i, query in enumerate(queries):
        hits = idx.search(query, k=5, allow=masks[i])
        assert list(zip(ids[i].tolist(), scores[i].tolist())) == hits
        assert one_ids[i].tolist() == [h.id for h in idx.search(query, k=5, allow=masks[0])]


def test_a_mask_follows_the_order_of_ids_after_changes(cls, vectors, queries):
    idx = build(cls, vectors)
    idx.remove(range(0, 300, 3))
    idx.upsert([7], vectors[:1])
    version = idx.version
    mask = idx.ids % 2 == 1
    hits = idx.search(queries[0], k=300, allow=mask, allow_version=version)
    assert {h.id for h in hits} == set(idx.ids[mask].tolist())


def test_masks_need_not_be_contiguous(cls, vectors, queries):
    idx = build(cls, vectors)
    wide = np.arange(600) % 4 == 0
    assert {h.id % 2 for h in idx.search(queries[0], allow=wide[::2])} == {0}


# ---- reranking -------------------------------------------------------------------


@pytest.fixture
def hard():
    """Data on which a narrow bound misses neighbors."""
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((4_000, 64)).astype(np.float32)
    return vectors, rng.standard_normal((50, 64)).astype(np.float32)


def recall(idx, vectors, queries, **options):
    found, _ = idx.search_batch(queries, k=10, **options)
    exact, _ = ruvector.FlatF32Index.build(vectors).search_batch(queries, k=10)
    return np.mean([len(set(f) & set(e)) / 10 for f, e in zip(found.tolist(), exact.tolist())])


def test_a_wider_bound_finds_more(hard):
    idx = ruvector.RabitqPlusIndex.build(hard[0], epsilon=0.01)
    narrow = recall(idx, *hard)
    assert narrow < recall(idx, *hard, epsilon=1.0) < recall(idx, *hard, epsilon=5.0) + 1e-9
    assert recall(idx, *hard, epsilon=5.0) == 1


def test_rerank_factor_never_lowers_recall(hard):
    idx = ruvector.RabitqPlusIndex.build(hard[0], epsilon=0.01)
    recalls = [recall(idx, *hard)]
    recalls += [recall(idx, *hard, rerank_factor=f) for f in (1, 5, 20, 100, 400)]
    assert recalls == sorted(recalls)
    assert recalls[-1] == 1  # 10 * 400 rows are all there are


def test_rerank_factor_of_the_build_is_the_default_of_searches(hard):
    vectors, queries = hard
    given = ruvector.RabitqPlusIndex.build(vectors, epsilon=0.01, rerank_factor=20)
    asked = ruvector.RabitqPlusIndex.build(vectors, epsilon=0.01)
    expected = asked.search_batch(queries, rerank_factor=20)
    for got, want in zip(given.search_batch(queries), expected):
        assert np.array_equal(got, want)


def test_max_rerank_caps_the_work_and_costs_recall(hard):
    idx = ruvector.RabitqPlusIndex.build(hard[0], epsilon=5.0)
    capped = [recall(idx, *hard, max_rerank=m) for m in (10, 100, 1_000, 4_000)]
    assert capped[0] < capped[1] <= capped[2] <= capped[3] == 1


def test_an_asym_index_keeps_vectors_from_factor_two_on(vectors):
    for factor, kept in ((None, False), (1, False), (2, True)):
        idx = ruvector.RabitqAsymIndex.build(vectors, rerank_factor=factor)
        assert (idx.memory_usage()["vectors"] > 0) == kept
        assert idx.rerank_factor == factor


# ---- progress --------------------------------------------------------------------


def test_progress_counts_up_to_the_total(cls, vectors, queries):
    calls = []
    idx = cls.build(vectors, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (300, 300)
    assert sorted(calls) == calls

    calls.clear()
    idx.search_batch(queries, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (40, 40)


class Enough(Exception):
    pass


def stop(done, total):
    raise Enough


def test_an_exception_in_progress_stops_the_call_and_comes_out(cls, vectors, queries):
    idx = build(cls, vectors)
    before = idx.to_bytes()
    for function in (
        lambda: cls.build(vectors, progress=stop),
        lambda: idx.add_batch(vectors, progress=stop),
        lambda: idx.upsert(range(300), vectors, progress=stop),
        lambda: idx.search_batch(queries, progress=stop),
    ):
        with pytest.raises(Enough):
            function()
    assert idx.to_bytes() == before


def test_progress_may_look_at_the_index_but_not_change_it(cls, vectors):
    idx = build(cls, vectors)
    seen = []

    def look(done, total):
        seen.append((len(idx), repr(idx), 3 in idx, idx.ids[0]))
        with pytest.raises(ValueError, match="progress callback"):
            idx.remove(3)

    idx.add_batch(vectors, progress=look)
    assert seen
    assert len(idx) == 600
