"""Searches of one collection, of batches and of several collections: what comes back."""

from __future__ import annotations

import math

import numpy as np
import pytest
import ruvector
from lakes import Source, assert_hits, lake_of, local, nearest, rows
from ruvector import LakeHit, LocalBackend, RabitqPlusIndex, RuLake

# ---- one collection ----------------------------------------------------------------


def test_search_one_answers_as_the_index_itself():
    backend, vectors = local(n=1000, dim=64)
    lake = lake_of(backend)
    index = RabitqPlusIndex.build(vectors, seed=42, rerank_factor=20)
    for query in rows(30, 64, seed=1):
        hits = lake.search_one("docs", query, 10)
        assert [(h.id, h.score) for h in hits] == index.search(query, k=10)
        assert_hits(hits, nearest(query, vectors, 10))


def test_a_hit_names_its_source():
    backend, vectors = local("hot")
    (hit,) = lake_of(backend).search_one("docs", vectors[7], 1)
    assert type(hit) is LakeHit
    assert hit == ("hot", "docs", 7, 0.0)
    assert (hit.backend, hit.collection, hit.id, hit.score) == ("hot", "docs", 7, 0.0)
    assert type(hit.id) is int
    assert type(hit.score) is float


def test_the_hits_of_a_key_share_its_strings():
    backend, vectors = local()
    lake = lake_of(backend)
    lake.search_one("docs", vectors[0])
    one, two = lake.search_one("docs", vectors[0], 2)
    assert one.backend is two.backend
    assert one.collection is two.collection


def test_ids_have_64_bits_and_may_repeat():
    backend = LocalBackend("b")
    ids = [2**64 - 2, 7, 2**40, 7]
    backend.put_collection("docs", ids, np.eye(4, dtype=np.float32))
    lake = lake_of(backend)
    for id, query in zip(ids, np.eye(4, dtype=np.float32)):
        assert lake.search_one("docs", query, 1)[0].id == id
    assert sorted(h.id for h in lake.search_one("docs", [0, 0, 0, 0], 4)) == sorted(ids)


def test_recall_at_10_of_clustered_rows():
    rng = np.random.default_rng(3)
    centers = rng.standard_normal((100, 128)) * 3
    vectors = (centers[rng.integers(100, size=5000)] + rng.standard_normal((5000, 128))).astype(
        np.float32
    )
    queries = (centers[rng.integers(100, size=50)] + rng.standard_normal((50, 128))).astype(
        np.float32
    )
    backend = LocalBackend("b")
    backend.put_collection("docs", np.arange(5000), vectors)
    found = lake_of(backend, rerank_factor=20).search_batch("docs", queries, 10)
    share = [
        len({h.id for h in hits} & {id for id, _ in nearest(q, vectors, 10)})
        for q, hits in zip(queries, found)
    ]
    assert sum(share) / 500 > 0.90


@pytest.mark.parametrize("k", [1, 5, 64, 65, 200, 10**6, 2**70])
def test_k_of_any_size(k):
    backend, vectors = local(n=200)
    lake = lake_of(backend)
    for hits in (
        lake.search_one("docs", vectors[0], k),
        *lake.search_batch("docs", vectors[:1], k),
        lake.search_federated("docs", vectors[0], k),
    ):
        assert_hits(hits, nearest(vectors[0], vectors, min(k, 200)))


@pytest.mark.parametrize("k", [0, -1])
@pytest.mark.parametrize("method", ["search_one", "search_batch", "search_federated"])
def test_k_below_1_is_refused(method, k):
    backend, vectors = local()
    lake = lake_of(backend)
    with pytest.raises(ValueError, match="k must be at least 1"):
        getattr(lake, method)("docs", vectors[:1] if "batch" in method else vectors[0], k)
    assert lake.cache_stats().misses == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("method", ["search_one", "search_batch", "search_federated"])
def test_queries_that_are_not_finite_are_refused(method, bad):
    backend, vectors = local()
    query = vectors[0].copy()
    query[3] = bad
    with pytest.raises(ValueError, match=r"finite|NaN|infinity"):
        getattr(lake_of(backend), method)("docs", query[None] if "batch" in method else query)


def test_queries_of_the_wrong_dimension():
    backend, _ = local(dim=16)
    lake = lake_of(backend)
    for call in (
        lambda: lake.search_one("docs", rows(1, 15)[0]),
        lambda: lake.search_batch("docs", rows(3, 17)),
        lambda: lake.search_federated("docs", rows(1, 15)[0]),
    ):
        with pytest.raises(ruvector.LakeDimensionMismatch) as caught:
            call()
        error = caught.value
        assert isinstance(error, (ruvector.DimensionMismatch, ruvector.LakeError))
        assert error.expected == 16
        assert error.actual in (15, 17)
        assert "dimension mismatch: collection dim=16, query dim=1" in str(error)
        assert "; make queries with the model" in str(error)


@pytest.mark.parametrize(
    "query",
    [
        np.zeros(16, complex),
        np.zeros(16, bool),
        np.zeros((2, 16), np.float32),
        "query",
        None,
        {1.0},
    ],
)
def test_queries_of_other_types(query):
    backend, _ = local()
    lake = lake_of(backend)
    for method in (lake.search_one, lake.search_federated):
        with pytest.raises((TypeError, ValueError)):
            method("docs", query)
    assert lake.cache_stats().misses == 0


def test_lists_are_queries_too():
    backend, vectors = local()
    lake = lake_of(backend)
    expected = lake.search_one("docs", vectors[3], 4)
    assert lake.search_one("docs", vectors[3].tolist(), 4) == expected
    assert lake.search_batch("docs", [vectors[3].tolist()], 4) == [expected]


def test_an_empty_collection_raises_but_is_primed():
    class Empty(Source):
        def __init__(self):
            super().__init__(np.zeros((0, 4), np.float32))

    lake = lake_of(Empty())
    for call in (
        lambda: lake.search_one("docs", [0.0] * 4),
        lambda: lake.search_batch("docs", [[0.0] * 4]),
    ):
        with pytest.raises(ruvector.EmptyCollection, match=r"empty|no vectors") as caught:
            call()
        assert isinstance(caught.value, ruvector.EmptyIndex)
        assert (caught.value.backend, caught.value.collection) == ("source", "docs")
    assert lake.cache_stats()[:3] == (1, 1, 1)
    assert lake.search_federated("docs", [0.0] * 4) == []


# ---- batches -----------------------------------------------------------------------


def test_a_batch_answers_each_query_as_alone_and_counts_once():
    backend, _ = local(n=500)
    lake = lake_of(backend)
    lake.prime("docs")
    queries = rows(32, seed=9)
    before = lake.cache_stats().hits
    found = lake.search_batch("docs", queries, 7)
    assert lake.cache_stats().hits == before + 1
    assert found == [lake.search_one("docs", q, 7) for q in queries]


def test_no_queries_give_no_answers_but_bring_the_collection_up_to_date():
    backend, _ = local()
    lake = lake_of(backend)
    assert lake.search_batch("docs", np.zeros((0, 16), np.float32)) == []
    assert lake.cache_stats().primes == 1


def test_progress_of_a_batch_and_of_the_build():
    backend, vectors = local(n=3000, dim=64)
    lake = lake_of(backend)
    seen = []
    lake.search_batch("docs", vectors, 2, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (3000, 3000)

    def stop(done, total):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        lake.search_batch("docs", vectors, 2, progress=stop)
    fresh = lake_of(backend)
    with pytest.raises(ZeroDivisionError):
        fresh.prime("docs", progress=stop)
    assert fresh.cache_entry_count() == 0
    with pytest.raises(TypeError, match="progress"):
        lake.prime("docs", progress=3)


# ---- which backend -----------------------------------------------------------------


def test_the_only_backend_is_meant_without_asking_it():
    source = Source()
    lake = lake_of(source)
    with pytest.raises(ruvector.UnknownCollection):
        lake.search_one("nothing", [0.0] * 16)
    assert "list" not in source.asked


def test_of_several_backends_the_one_that_has_the_collection_is_meant():
    a, _ = local("a", "cats")
    b, vectors = local("b", "dogs", seed=1)
    lake = lake_of(a, b)
    assert lake.search_one("dogs", vectors[0], 1)[0].backend == "b"
    with pytest.raises(ruvector.UnknownCollection, match="birds") as caught:
        lake.search_one("birds", vectors[0])
    assert caught.value.collection == "birds"


def test_a_collection_in_several_backends_must_be_told_apart():
    a, vectors = local("a")
    b, _ = local("b", seed=1)
    lake = lake_of(a, b)
    with pytest.raises(ruvector.LakeError, match=r"a, b") as caught:
        lake.search_one("docs", vectors[0])
    assert isinstance(caught.value, ValueError)
    assert caught.value.collection == "docs"
    for name in "ab":
        assert lake.search_one("docs", vectors[0], 1, backend=name)[0].backend == name


def test_a_name_is_looked_at_again_once_another_backend_comes():
    a, vectors = local("a")
    lake = lake_of(a)
    lake.search_one("docs", vectors[0])
    lake.register_backend(local("b")[0])
    with pytest.raises(ruvector.LakeError, match="a, b"):
        lake.search_one("docs", vectors[0])


def test_a_name_is_looked_at_again_once_the_collection_is_gone():
    class Moving(Source):
        here = True

        def list_collections(self):
            return ["docs"] if self.here else []

        def _ask(self, what, collection):
            if not self.here:
                raise ruvector.UnknownCollection("moved")

    one, two = Moving(name="one"), Moving(name="two")
    two.here = False
    lake = lake_of(one, two)
    assert lake.search_one("docs", one.vectors[0], 1)[0].backend == "one"
    one.here, two.here = False, True
    with pytest.raises(ruvector.UnknownCollection):
        lake.search_one("docs", one.vectors[0])
    assert lake.search_one("docs", one.vectors[0], 1)[0].backend == "two"


def test_unknown_backends_and_collections():
    backend, vectors = local()
    lake = lake_of(backend)
    with pytest.raises(ruvector.UnknownCollection, match="unknown backend: who") as caught:
        lake.search_one("docs", vectors[0], backend="who")
    assert (caught.value.backend, caught.value.collection) == ("who", "docs")
    with pytest.raises(ruvector.BackendError, match="unknown collection: local/what") as caught:
        lake.search_one("what", vectors[0])
    assert isinstance(caught.value, LookupError)
    assert (caught.value.backend, caught.value.collection) == ("local", "what")
    assert lake.cache_stats()[:4] == (0, 0, 0, 0)


@pytest.mark.parametrize("name", [3, None, b"docs", ["docs"], ("local", "docs")])
def test_a_collection_is_a_str(name):
    backend, vectors = local()
    lake = lake_of(backend)
    with pytest.raises(TypeError, match="collection: expected a str"):
        lake.search_one(name, vectors[0])
    with pytest.raises(TypeError, match="backend"):
        lake.search_one("docs", vectors[0], backend=3)


def test_names_with_zeros_and_surrogates_are_refused():
    backend, vectors = local()
    lake = lake_of(backend)
    for name in ("a\0b", "\ud800"):
        with pytest.raises(ValueError, match=r"zero|surrogate"):
            lake.search_one(name, vectors[0])
        with pytest.raises(ValueError, match=r"zero|surrogate"):
            backend.upsert(name, [1], vectors[:1])


def test_any_other_name_is_fine():
    vectors = rows(5)
    names = ["", "a/b", "é", "日本", "x" * 4000, "a b\nc"]
    backend = LocalBackend("ü b")
    lake = lake_of(backend)
    for name in names:
        backend.upsert(name, range(5), vectors)
        assert lake.search_one(name, vectors[2], 1)[0] == ("ü b", name, 2, 0.0)
    assert sorted(backend.list_collections()) == sorted(names)


# ---- several collections -----------------------------------------------------------


def test_a_federated_search_merges_by_score():
    a, in_a = local("a", n=300)
    b, in_b = local("b", n=300, seed=1)
    lake = lake_of(a, b)
    for query in rows(20, seed=2):
        hits = lake.search_federated("docs", query, 5)
        assert len(hits) == 5
        both = nearest(query, np.concatenate([in_a, in_b]), 5)
        assert_hits(hits, [(i % 300, s) for i, s in both])
        assert [h.backend for h in hits] == ["a" if i < 300 else "b" for i, _ in both]
    hits = lake.search_federated("docs", in_b[17], 5)
    assert hits[0] == ("b", "docs", 17, 0.0)


def test_targets_in_their_order():
    backend, vectors = local("one", "x")
    backend.put_collection("y", np.arange(200), vectors)
    lake = lake_of(backend)
    for first, second in ("xy", "yx"):
        targets = [("one", first), ("one", second)]
        hits = lake.search_federated(query=vectors[3], k=4, targets=targets)
        assert [h.collection for h in hits] == [first, second] * 2
        assert [h.id for h in hits[:2]] == [3, 3]


def test_a_target_given_twice_counts_once():
    backend, vectors = local()
    lake = lake_of(backend)
    key = ("local", "docs")
    once = lake.search_federated(query=vectors[3], k=6, targets=[key])
    assert lake.search_federated(query=vectors[3], k=6, targets=iter([key, key, key])) == once
    assert once == lake.search_one("docs", vectors[3], 6)
    assert lake.cache_entry_count() == 1


def test_no_targets_give_no_hits():
    assert RuLake().search_federated(query=[1.0, 2.0], targets=[]) == []


def test_a_collection_no_backend_has():
    backend, vectors = local()
    with pytest.raises(ruvector.UnknownCollection) as caught:
        lake_of(backend, local("b")[0]).search_federated("nothing", vectors[0])
    assert caught.value.collection == "nothing"


def test_what_to_search_is_said_once():
    backend, vectors = local()
    lake = lake_of(backend)
    for arguments in (
        {"query": vectors[0]},
        {"collection": "docs", "query": vectors[0], "targets": []},
        {"collection": "docs"},
        {"query": vectors[0], "targets": "docs"},
        {"query": vectors[0], "targets": [("a", "b", "c")]},
        {"query": vectors[0], "targets": [3]},
        {"query": vectors[0], "targets": 3},
    ):
        with pytest.raises(TypeError):
            lake.search_federated(**arguments)
    for factor in (0, 1025, -3):
        with pytest.raises(ValueError, match="per_shard_rerank"):
            lake.search_federated("docs", vectors[0], per_shard_rerank=factor)


def test_an_error_in_one_shard_fails_the_search_and_names_it():
    a, vectors = local("a")
    b, _ = local("b", dim=8)
    lake = lake_of(a, b)
    with pytest.raises(ruvector.LakeDimensionMismatch):
        lake.search_federated("docs", vectors[0])
    targets = [("a", "docs"), ("b", "none"), ("c", "docs")]
    with pytest.raises(ruvector.UnknownCollection) as caught:
        lake.search_federated(query=vectors[0], targets=targets)
    assert (caught.value.backend, caught.value.collection) in (("b", "none"), ("c", "docs"))
    assert lake.cache_entry(("a", "docs")) is None or lake.cache_entry(("a", "docs")).holds == 0


def test_an_empty_shard_adds_nothing():
    a, vectors = local("a")
    empty = Source(np.zeros((0, 16), np.float32), name="empty")
    lake = lake_of(a, empty)
    hits = lake.search_federated("docs", vectors[0], 3)
    assert_hits(hits, nearest(vectors[0], vectors, 3))


@pytest.mark.parametrize("shards", [2, 4])
def test_recall_of_shards(shards):
    vectors = rows(5000, 128)
    queries = rows(30, 128, seed=4)
    lake = RuLake(rerank_factor=20)
    for s in range(shards):
        backend = LocalBackend(f"b{s}")
        backend.put_collection("docs", np.arange(s, 5000, shards), vectors[s::shards].copy())
        lake.register_backend(backend)
    found = 0
    for query in queries:
        best = nearest(query, vectors, 10)
        found += len(
            {h.id for h in lake.search_federated("docs", query, 10)} & {i for i, _ in best}
        )
        assert_hits(lake.search_federated("docs", query, 10, per_shard_rerank=1024), best)
    assert found / 300 >= 0.85
