"""What is kept, shared, counted and dropped."""

from __future__ import annotations

import os
import threading
import time
from functools import partial

import numpy as np
import pytest
import ruvector
from lakes import (
    Described,
    Source,
    assert_hits,
    counters,
    in_threads,
    lake_of,
    local,
    nearest,
    rows,
)
from ruvector import Consistency, LocalBackend, RabitqPlusIndex, RuLake, RuLakeBundle

KEY = ("local", "docs")

# ---- counters ----------------------------------------------------------------------


def test_what_each_call_counts():
    backend, vectors = local(n=50, dim=4)
    lake = lake_of(backend)
    query = vectors[0]

    def after(call, *expected, error=None):
        if error:
            with pytest.raises(error):
                call()
        else:
            call()
        assert counters(lake) == expected

    def search():
        lake.search_one("docs", query)

    after(search, 0, 1, 1, 0)
    after(search, 1, 1, 1, 0)
    backend.append("docs", 99, query)
    after(search, 1, 2, 2, 1)
    after(lambda: lake.invalidate_cache(KEY), 1, 2, 2, 2)
    after(lambda: lake.invalidate_cache(KEY), 1, 2, 2, 2)
    wrong = rows(1, 5)[0]
    after(lambda: lake.search_one("docs", wrong), 1, 3, 3, 2, error=ruvector.DimensionMismatch)
    unknown = ruvector.UnknownCollection
    after(lambda: lake.search_one("none", query), 1, 3, 3, 2, error=unknown)
    after(lambda: lake.search_batch("docs", vectors[:7]), 2, 3, 3, 2)
    # A target given twice is searched once, so this is one hit.
    after(lambda: lake.search_federated(query=query, targets=[KEY, KEY]), 3, 3, 3, 2)
    backend.put_collection("more", np.arange(50), vectors)
    targets = [KEY, ("local", "more")]
    after(lambda: lake.search_federated(query=query, targets=targets), 4, 4, 4, 2)


def test_counters_of_backends_and_collections():
    a, vectors = local("a", "x")
    a.put_collection("y", np.arange(200), vectors)
    b, _ = local("b", "x", seed=1)
    lake = lake_of(a, b)
    assert lake.cache_stats_by_backend() == lake.cache_stats_by_collection() == {}
    for collection, backend in (("x", "a"), ("y", "a"), ("x", "b"), ("x", "a")):
        lake.search_one(collection, vectors[0], backend=backend)
    lake.invalidate_cache(("a", "y"))
    assert lake.cache_stats_by_backend() == {"a": (1, 2, 2, 1, 0), "b": (0, 1, 1, 0, 0)}
    assert lake.cache_stats_by_collection() == {
        ("a", "x"): (1, 1, 1, 0, 0),
        ("a", "y"): (0, 1, 1, 1, 0),
        ("b", "x"): (0, 1, 1, 0, 0),
    }
    stats = lake.cache_stats_by_backend()["a"]
    assert isinstance(stats, ruvector.PerBackendStats)
    assert stats.hit_rate() == 1 / 3


def test_rates():
    backend, vectors = local()
    lake = lake_of(backend)
    assert (lake.cache_stats().hit_rate(), lake.cache_stats().avg_prime_ms()) == (None, None)
    for _ in range(4):
        lake.search_one("docs", vectors[0])
    stats = lake.cache_stats()
    assert stats.hit_rate() == 0.75
    assert 0 < stats.last_prime_ms == stats.total_prime_ms == stats.avg_prime_ms()
    assert stats.scans == 4


def test_a_failed_pull_counts_a_miss_and_leaves_nothing():
    class Failing(Source):
        def pull_vectors(self, collection):
            raise OSError("gone")

    lake = lake_of(Failing())
    for n in (1, 2):
        with pytest.raises(ruvector.BackendError):
            lake.search_one("docs", [0.0] * 16)
        assert counters(lake) == (0, n, 0, 0)
    assert lake.cache_entry_count() == 0
    assert lake.cache_witness_of(("source", "docs")) is None


def test_a_failed_question_counts_nothing():
    class Failing(Described):
        def current_bundle(self, *args):
            raise OSError("gone")

    lake = lake_of(Failing())
    with pytest.raises(ruvector.BackendError):
        lake.search_one("docs", [0.0] * 16)
    assert counters(lake) == (0, 0, 0, 0)


# ---- sharing -----------------------------------------------------------------------


def test_backends_that_hold_the_same_state_share_it():
    one, two = Described(name="one"), Described(name="two")
    lake = lake_of(one, two)
    for name in ("one", "two", "two"):
        lake.search_one("docs", one.vectors[0], backend=name)
    witness = lake.cache_witness_of(("one", "docs"))
    assert witness == lake.cache_witness_of(("two", "docs"))
    assert lake.cache_entry_count() == 1
    assert lake.cache_refcount_of(witness) == 2
    assert lake.cache_stats()[:5] == (1, 2, 1, 0, 1)
    assert two.pulls == 0, "what is there already need not be pulled"
    lake.invalidate_cache(("one", "docs"))
    assert lake.cache_refcount_of(witness) == 1
    assert lake.search_one("docs", one.vectors[5], 1, backend="two")[0][1:] == ("docs", 5, 0.0)
    lake.invalidate_cache(("two", "docs"))
    assert (lake.cache_refcount_of(witness), lake.cache_entry_count()) == (0, 0)
    assert lake.cache_stats().invalidations == 2


def test_many_threads_on_one_cold_key_build_once():
    backend, vectors = local(n=5000, dim=64)
    for _ in range(5):
        lake = lake_of(backend)
        expected = nearest(vectors[3], vectors, 5)
        search = partial(lake.search_one, "docs", vectors[3], 5)
        for hits in in_threads(*[search] * 8):
            assert_hits(hits, expected)
        assert lake.cache_stats().primes == 1
        assert lake.cache_stats().misses + lake.cache_stats().hits >= 8
        assert lake.cache_refcount_of(lake.cache_witness_of(KEY)) == 1
        # The key still answers: nothing was dropped by those who came second.
        assert_hits(lake.search_one("docs", vectors[3], 5), expected)


def test_mixed_threads_with_eventual_consistency_prime_each_backend_once():
    a, in_a = local("a", n=500)
    b, in_b = local("b", n=500, seed=1)
    for warm in (True, False):
        lake = lake_of(a, b, consistency=Consistency.EVENTUAL)
        if warm:
            lake.search_federated("docs", in_a[0])
        found = []

        def search(lake=lake, found=found):
            for i in range(50):
                name, vectors = ("a", in_a) if i % 2 else ("b", in_b)
                hits = lake.search_one("docs", vectors[i], 5, backend=name)
                assert hits[0].id == i
                found.append(len(hits))

        in_threads(*[search] * 8)
        assert sum(found) == 8 * 50 * 5
        assert lake.cache_stats().primes == 2


def test_a_failed_load_fails_all_who_wait_and_is_forgotten():
    class Slow(Source):
        broken = True

        def pull_vectors(self, collection):
            while lake.cache_stats().misses < 4:  # all need it
                time.sleep(0.001)
            if self.broken:
                raise ValueError("not now")
            return super().pull_vectors(collection)

    source = Slow()
    lake = lake_of(source)

    def search():
        try:
            return lake.search_one("docs", source.vectors[0], 1)
        except ruvector.BackendError as error:
            return str(error)

    assert all("not now" in found for found in in_threads(*[search] * 4))
    source.broken = False
    assert all(hits[0].id == 0 for hits in in_threads(*[search] * 4))


INTERRUPTED = """
import os, signal, sys, threading
import numpy as np, ruvector

what = sys.argv[1]
rows = np.random.default_rng(0).random((60_000, 256), np.float32)
asked, go = threading.Event(), threading.Event()

class Slow(ruvector.BackendAdapter):
    id = "slow"
    def list_collections(self):
        return ["docs"]
    def generation(self, collection):
        return 1
    def pull_vectors(self, collection):
        asked.set()
        if what == "waits":
            go.wait(60)
        return ruvector.PulledBatch(range(len(rows)), rows, 256, 1)

def search():
    lake.search_one("docs", [1.0] * 256)

def interrupt():
    asked.wait()
    while not go.wait(0.01):  # one that comes too early or too late does nothing
        os.kill(os.getpid(), signal.SIGINT)

def interrupted(number, frame):
    if frame.f_code is search.__code__ and lake.cache_stats().misses > before:
        raise KeyboardInterrupt

signal.signal(signal.SIGINT, interrupted)
ruvector.set_num_threads(1)
lake = ruvector.RuLake()
lake.register_backend(Slow())
if what == "waits":
    threading.Thread(target=lambda: lake.prime("docs"), daemon=True).start()
    asked.wait()
before = sys.maxsize
threading.Thread(target=interrupt, daemon=True).start()
for _ in range(20):
    before = lake.cache_stats().misses
    try:
        search()
    except KeyboardInterrupt:
        pass
    if lake.cache_entry_count() == 0:  # it was not just about to return
        print("interrupted")
        break
    lake.invalidate_cache("docs")
go.set()
"""


@pytest.mark.skipif(os.name != "posix", reason="sends itself a signal")
@pytest.mark.parametrize("what", ["waits", "builds"])
def test_ctrl_c_ends_a_search_that(run_python, what):
    result = run_python(INTERRUPTED, what)
    assert result.stdout == "interrupted\n", result.stderr


# ---- the limit ---------------------------------------------------------------------


def test_the_least_recently_used_entry_goes_first():
    backend = LocalBackend("local")
    vectors = rows(20)
    for name in "abcd":
        backend.put_collection(name, np.arange(20), vectors)
    lake = lake_of(backend, max_cache_entries=2)
    lake.search_one("a", vectors[0])
    lake.search_one("b", vectors[0])
    lake.search_one("a", vectors[0])
    lake.search_one("c", vectors[0])  # b goes
    assert lake.cache_entry_count() == 2
    assert [lake.cache_witness_of(("local", n)) is not None for n in "abc"] == [True, False, True]
    stats = lake.cache_stats()
    assert (stats.evictions, stats.invalidations) == (1, 1)
    assert lake.search_one("b", vectors[4], 1)[0].id == 4
    assert lake.cache_stats().evictions == 2


@pytest.mark.parametrize("limit", [0, 1])
def test_the_limit_is_at_least_one(limit):
    backend = LocalBackend("local")
    vectors = rows(20)
    lake = lake_of(backend, max_cache_entries=limit)
    for name in "abcdef":
        backend.put_collection(name, np.arange(20), vectors)
        lake.search_one(name, vectors[0])
    assert lake.cache_entry_count() == 1


def test_without_a_limit_everything_stays():
    backend = LocalBackend("local")
    lake = lake_of(backend)
    for i in range(30):
        backend.put_collection(str(i), [1], [[1.0, 2.0]])
        lake.search_one(str(i), [0.0, 0.0])
    assert (lake.cache_entry_count(), lake.cache_stats().evictions) == (30, 0)


def test_an_entry_that_is_held_stays():
    backend = LocalBackend("local")
    vectors = rows(20)
    for name in "abc":
        backend.put_collection(name, np.arange(20), vectors)
    lake = lake_of(backend, max_cache_entries=1)
    with lake.session() as session:
        session.search_one("a", vectors[0])
        session.search_one("b", vectors[0])
        lake.search_one("c", vectors[0])
        assert lake.cache_entry_count() >= 2
        assert session.search_one("a", vectors[7], 1)[0].id == 7
        assert lake.cache_entry(("local", "a")).holds == 1
    assert lake.cache_entry_count() == 1


def test_a_search_goes_on_over_what_is_dropped_meanwhile():
    backend, vectors = local(n=2000, dim=32)
    lake = lake_of(backend, max_cache_entries=1)
    backend.put_collection("other", np.arange(2000), vectors[::-1].copy())
    done = threading.Event()
    expected = nearest(vectors[9], vectors, 3)

    def drop():
        try:
            for _ in range(60):
                lake.invalidate_cache(KEY)
                lake.search_one("other", vectors[0])
        finally:
            done.set()

    def search():
        while not done.is_set():
            assert_hits(lake.search_one("docs", vectors[9], 3), expected)

    in_threads(drop, search, search)


# ---- ready indexes -----------------------------------------------------------------


def test_an_index_is_in_the_lake_once_it_or_an_equal_one_is_cached():
    backend, vectors = local()
    lake = lake_of(backend)
    index = RabitqPlusIndex.build(vectors, seed=42, rerank_factor=20)
    assert index not in lake
    lake.prime("docs")
    assert index in lake
    assert RabitqPlusIndex.build(vectors, seed=43, rerank_factor=20) not in lake
    assert RabitqPlusIndex.build(vectors[:-1], seed=42, rerank_factor=20) not in lake
    assert RabitqPlusIndex.build(vectors + 1, seed=42, rerank_factor=20) not in lake
    ids = np.arange(1, len(vectors) + 1)
    assert RabitqPlusIndex.build(vectors, ids=ids, seed=42, rerank_factor=20) not in lake
    lake.invalidate_cache("docs")
    assert index not in lake


def test_keys_and_witnesses_in_the_lake():
    backend, _ = local()
    lake = lake_of(backend)
    assert KEY not in lake
    witness = lake.prime(KEY)
    assert KEY in lake
    assert ("local", "cats") not in lake
    assert witness in lake
    assert "0" * 64 not in lake
    for what in (3, None, ["local", "docs"], 3.5):
        with pytest.raises(TypeError, match="expected an index, a key"):
            what in lake  # noqa: B015


def test_install_shares_a_ready_index():
    vectors = rows(100)
    index = RabitqPlusIndex.build(vectors, ids=np.arange(100) * 7)
    lake = RuLake(consistency=Consistency.STALE)
    lake.install(("mine", "docs"), index)
    assert index in lake
    assert lake.search_one("docs", vectors[3], 1)[0] == ("mine", "docs", 21, 0.0)
    entry = lake.cache_entry(("mine", "docs"))
    assert (entry.n, entry.dim, entry.keys) == (100, 16, 1)
    assert isinstance(entry, ruvector.CacheEntry)
    index.add(None, vectors[0] + 5)
    with pytest.raises(ruvector.UnknownCollection):
        lake.search_one("docs", vectors[3], backend="mine")
    assert lake.cache_stats().primes == 0


def test_install_under_a_bundle():
    backend, vectors = local()
    bundle = backend.current_bundle("docs", 42, 20)
    lake = lake_of(backend)
    lake.install(KEY, RabitqPlusIndex.build(vectors, seed=42, rerank_factor=20), bundle)
    assert lake.cache_witness_of(KEY) == bundle.rvf_witness
    lake.search_one("docs", vectors[0])
    assert counters(lake) == (1, 0, 0, 0)


def test_install_refuses_other_things():
    lake = RuLake()
    for index in (3, None, rows(3), "index"):
        with pytest.raises(TypeError, match="index: expected one of ruvector's indexes"):
            lake.install(("a", "b"), index)
    index = RabitqPlusIndex.build(rows(3))
    with pytest.raises((TypeError, AttributeError)):
        lake.install(("a", "b"), index, "bundle")
    for key in (3, ("a",), ("a", "b", "c"), ("a", 3), None):
        with pytest.raises(TypeError):
            lake.install(key, index)
    bundle = RuLakeBundle("x", 99, 42, 20, 1)
    with pytest.raises(ruvector.LakeError):
        lake.install(("a", "b"), index, bundle)
    assert lake.cache_entry_count() == 0


def test_an_index_outlives_the_lake_and_the_other_way_round():
    data = RabitqPlusIndex.build(rows(50)).to_bytes()
    index = RabitqPlusIndex.from_bytes(data)
    lake = RuLake(consistency=Consistency.STALE)
    lake.install(("a", "b"), index)
    del index
    assert lake.search_one("b", rows(50)[4], 1)[0].id == 4
    index = RabitqPlusIndex.build(rows(50))
    lake.install(("a", "c"), index)
    del lake
    assert index.search(rows(50)[4], k=1)[0].id == 4


# ---- names -------------------------------------------------------------------------


def test_prime_returns_the_witness_and_asks_whatever_the_consistency():
    backend, vectors = local()
    lake = lake_of(backend, consistency=Consistency.STALE)
    first = lake.prime("docs")
    assert first == lake.prime(KEY) == lake.cache_witness_of(KEY) == lake.cache_witness_of("docs")
    assert lake.cache_stats().primes == 1
    backend.upsert("docs", [5], vectors[:1])
    assert lake.prime("docs") != first
    assert lake.cache_stats().primes == 2


def test_nothing_happens_when_nothing_is_forgotten():
    lake = lake_of(local()[0])
    lake.invalidate_cache(("who", "what"))
    assert lake.cache_stats_by_collection() == {}
    assert lake.cache_witness_of(("who", "what")) is None
    assert lake.cache_refcount_of("nonsense") == 0
