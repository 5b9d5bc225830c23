"""Backends written in Python: when they are called, with what, and what they may get wrong."""

from __future__ import annotations

import gc
import mmap
import threading
import time
import traceback
import weakref

import numpy as np
import pytest
import ruvector
from lakes import (
    Described,
    Source,
    assert_hits,
    in_threads,
    lake_of,
    local,
    nearest,
    rows,
    witness_of,
)
from ruvector import BackendAdapter, PulledBatch, RuLake, RuLakeBundle

QUERY = [0.0] * 16

# ---- what is called ----------------------------------------------------------------


def test_a_cold_search_pulls_and_a_warm_one_only_asks():
    source = Source()
    lake = lake_of(source)
    assert_hits(
        lake.search_one("docs", source.vectors[3], 5), nearest(source.vectors[3], source.vectors, 5)
    )
    assert source.pulls == 1
    source.asked.clear()
    lake.search_one("docs", source.vectors[3])
    assert set(source.asked) == {"generation"}
    assert len(source.asked) == 1


def test_without_a_bundle_of_its_own_the_address_is_made_of_the_names():
    source = Source()
    lake = lake_of(source, rotation_seed=3, rerank_factor=9)
    source.number = 5
    witness = lake.prime("docs")
    assert witness == witness_of("source://docs", 16, 3, 9, 5)
    assert source.current_bundle("docs", 3, 9).rvf_witness == witness


def test_with_a_bundle_of_its_own():
    class Lettered(Described):
        def current_bundle(self, collection, rotation_seed, rerank_factor):
            return RuLakeBundle("s3://x", 16, rotation_seed, rerank_factor, "version-b")

    lake = lake_of(Lettered())
    assert lake.prime("docs") == witness_of("s3://x", 16, 42, 20, "version-b")


def test_calls_are_made_on_the_thread_that_called_the_lake():
    source = Described()
    lake = lake_of(source)
    thread = threading.Thread(target=lambda: lake.search_one("docs", QUERY), name="mine")
    thread.start()
    thread.join()
    assert source.threads == {"mine"}


def test_shards_in_python_are_brought_up_to_date_side_by_side():
    barrier = threading.Barrier(3, timeout=20)

    class Meeting(Source):
        def pull_vectors(self, collection):
            barrier.wait()  # passes only if all are here at once
            return super().pull_vectors(collection)

    sources = [Meeting(rows(50, seed=n), name=f"s{n}") for n in range(3)]
    lake = lake_of(*sources)
    everything = np.concatenate([s.vectors for s in sources])
    query = rows(1, seed=9)[0]
    hits = lake.search_federated("docs", query, 5)
    assert [50 * int(h.backend[1]) + h.id for h in hits] == [
        id for id, _ in nearest(query, everything, 5)
    ]


def test_shards_of_both_kinds():
    backend, vectors = local()
    one, two = Source(rows(50, seed=1), name="one"), Source(rows(50, seed=2), name="two")
    for sources in ([one], [one, two]):
        lake = lake_of(backend, *sources)
        for vector, name in ((vectors[3], "local"), (one.vectors[7], "one")):
            assert lake.search_federated("docs", vector, 3)[0].backend == name


def test_an_id_may_be_a_method():
    class WithMethod(Source):
        def __init__(self):
            super().__init__()
            del self.__dict__["id"]

        def id(self):
            return "by-method"

    lake = lake_of(WithMethod())
    assert lake.backend_ids() == ["by-method"]
    assert lake.search_one("docs", QUERY, 1)[0].backend == "by-method"


def test_a_lake_may_search_another_collection_while_it_is_asked():
    inner, vectors = local()

    class Outer(Source):
        def pull_vectors(self, collection):
            hits = self.lake.search_one("docs", vectors[5], 3, backend="local")
            batch = PulledBatch([h.id for h in hits], vectors[[h.id for h in hits]], 16, 1)
            return batch

    outer = Outer()
    outer.lake = lake_of(inner, outer)
    hits = outer.lake.search_one("docs", vectors[5], 9, backend="source")
    assert_hits(hits, nearest(vectors[5], vectors, 3))


@pytest.mark.parametrize("method", ["pull_vectors", "generation"])
@pytest.mark.parametrize("federated", [False, True])
def test_searching_the_collection_that_is_being_asked_for_is_an_error(method, federated):
    class Circular(Source):
        def pull_vectors(self, collection):
            if method == "pull_vectors":
                self.search()
            return super().pull_vectors(collection)

        def generation(self, collection):
            if method == "generation":
                self.search()
            return super().generation(collection)

        def search(self):
            if federated:
                self.lake.search_federated("docs", QUERY)
            else:
                self.lake.search_one("docs", QUERY, backend=self.id)

    one, two = Circular(name="one"), Circular(name="two")
    one.lake = two.lake = lake_of(one, two)

    def search():
        with pytest.raises(ruvector.BackendError) as caught:
            one.search()
        return caught.value

    (error,) = in_threads(search, timeout=20)
    assert "one" in str(error) or "two" in str(error)
    assert isinstance(error.__cause__, ruvector.BackendError)


# ---- what goes wrong ---------------------------------------------------------------


@pytest.mark.parametrize("method", ["pull_vectors", "generation", "current_bundle"])
def test_what_an_adapter_raises_is_the_cause(method):
    class Failing(Described if method == "current_bundle" else Source):
        pass

    original = ZeroDivisionError("ä reason")

    def fail(self, *args):
        raise original

    setattr(Failing, method, fail)
    lake = lake_of(Failing())
    for call in (
        lambda: lake.search_one("docs", QUERY),
        lambda: lake.search_batch("docs", [QUERY]),
        lambda: lake.search_federated("docs", QUERY),
        lambda: lake.prime("docs"),
    ):
        with pytest.raises(ruvector.BackendError, match="ZeroDivisionError: ä reason") as caught:
            call()
        error = caught.value
        assert error.__cause__ is original
        assert error.__suppress_context__
        assert (error.backend, error.collection) == ("source", "docs")
        assert "in fail" in "".join(traceback.format_exception(type(error), error, None))


def test_a_failing_list_of_collections():
    class Failing(Source):
        def list_collections(self):
            raise OSError("no list")

    lake = lake_of(Failing(name="a"), Source(name="b"))
    for call in (lake.search_one, lake.search_federated):
        with pytest.raises(ruvector.BackendError, match="no list") as caught:
            call("docs", QUERY)
        assert isinstance(caught.value.__cause__, OSError)


def test_an_unknown_collection_is_told_from_a_failure():
    lake = lake_of(Source())
    with pytest.raises(ruvector.UnknownCollection) as caught:
        lake.search_one("cats", QUERY)
    assert (caught.value.backend, caught.value.collection) == ("source", "cats")
    assert isinstance(caught.value.__cause__, ruvector.UnknownCollection)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_program_is_not_wrapped(stop):
    class Interrupted(Source):
        def pull_vectors(self, collection):
            raise stop

    lake = lake_of(Interrupted())
    with pytest.raises(stop):
        lake.search_one("docs", QUERY)
    assert lake.cache_entry_count() == 0


def test_errors_of_several_threads_do_not_mix():
    class Slow(Source):
        def pull_vectors(self, collection):
            time.sleep(0.01)
            raise ValueError(threading.current_thread().name)

    def search():
        lake = lake_of(Slow())
        for _ in range(10):
            with pytest.raises(ruvector.BackendError) as caught:
                lake.search_one("docs", QUERY)
            assert str(caught.value.__cause__) == threading.current_thread().name

    in_threads(*[search] * 4)


def batch_of(batch):
    class Giving(Source):
        def pull_vectors(self, collection):
            return batch

    return lake_of(Giving())


ONE = np.ones((1, 16), np.float32)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (PulledBatch([1, 2], ONE, 16, 1), "ids.len=2 != vectors.len=1"),
        (PulledBatch([], np.zeros((0, 0), np.float32), 0, 1), "dim=0 outside (0, 8192]"),
        (PulledBatch([1], np.ones((1, 8193), np.float32), 8193, 1), "dim=8193 outside (0, 8192]"),
        (PulledBatch([1], ONE, 15, 1), "dim is 15"),
        (PulledBatch([1], ONE.astype(float), 16, 1), "expected dtype float32"),
        (PulledBatch([1], np.ones((1, 32), np.float32)[:, ::2], 16, 1), "not C-contiguous"),
        (PulledBatch([1], ONE[0], 16, 1), "shape (n, dim)"),
        (PulledBatch([-1], ONE, 16, 1), "not in 0..2^64-2"),
        (PulledBatch([1.5], ONE, 16, 1), "ids"),
        (PulledBatch(None, ONE, 16, 1), "ids"),
        (PulledBatch([2**64 - 1], ONE, 16, 1), ""),
        (PulledBatch([1], ONE * np.nan, 16, 1), ""),
        (PulledBatch([1], ONE * np.inf, 16, 1), ""),
        (PulledBatch([1], ONE, 16, -1), "generation"),
        (PulledBatch([1], ONE, 16, "x"), "generation"),
        (PulledBatch([1], ONE, None, 1), "dim"),
        (([1], ONE, 16, 1), "must return a PulledBatch, got tuple"),
        (None, "must return a PulledBatch, got NoneType"),
    ],
    ids=range(18),
)
def test_batches_that_are_not_right(batch, message):
    lake = batch_of(batch)
    with pytest.raises(ruvector.BackendError) as caught:
        lake.search_one("docs", QUERY)
    assert message in str(caught.value)
    assert (caught.value.backend, caught.value.collection) == ("source", "docs")
    assert lake.cache_entry_count() == 0
    assert lake.cache_stats()[:3] == (0, 1, 0)


def untouched(dtype, *shape):
    """An array that takes address space, but no memory until it is looked at."""
    count = int(np.prod(shape))
    return np.frombuffer(mmap.mmap(-1, count * np.dtype(dtype).itemsize), dtype).reshape(shape)


def test_more_than_100_million_rows_are_refused_before_they_are_touched():
    n = 100_000_001
    lake = batch_of(PulledBatch(untouched(np.uint64, n), untouched(np.float32, n, 1), 1, 1))
    with pytest.raises(ruvector.BackendError, match="100000001 vectors exceeds cap 100000000"):
        lake.search_one("docs", [0.0])


def test_more_than_16_gib_are_refused_before_they_are_touched():
    n, dim = 2**21, 2049
    lake = batch_of(PulledBatch(untouched(np.uint64, n), untouched(np.float32, n, dim), dim, 1))
    with pytest.raises(ruvector.BackendError, match="17188257792 bytes exceeds cap 17179869184"):
        lake.search_one("docs", [0.0] * dim)


@pytest.mark.parametrize(
    ("method", "value"),
    [
        ("generation", "1"),
        ("generation", -1),
        ("generation", 2**64),
        ("generation", None),
        ("list_collections", 3),
        ("list_collections", ["docs", 3]),
        ("current_bundle", None),
        ("current_bundle", "bundle"),
    ],
)
def test_answers_that_are_not_right(method, value):
    class Wrong(Described if method == "current_bundle" else Source):
        pass

    setattr(Wrong, method, lambda self, *args: value)
    lake = lake_of(Wrong(), Source(name="other"))
    one = {"targets": [("source", "docs")]}
    with pytest.raises(ruvector.BackendError) as caught:
        lake.search_federated(query=QUERY, **({"collection": "docs"} if "list" in method else one))
    assert isinstance(caught.value.__cause__, (TypeError, ValueError))


def test_rows_of_one_state_are_never_stored_under_the_witness_of_another():
    class Moving(Described):
        restless = 2  # states that are gone before the pull is over

        def pull_vectors(self, collection):
            batch = super().pull_vectors(collection)
            if self.restless:
                self.restless -= 1
                self.number += 1
                self.vectors = self.vectors + 1
            return batch

    source = Moving()
    lake = lake_of(source)
    hits = lake.search_one("docs", source.vectors[3] + 2, 3)
    assert source.pulls == 3
    assert_hits(hits, nearest(source.vectors[3], source.vectors, 3))
    assert lake.cache_witness_of("docs") == source.current_bundle("docs", 42, 20).rvf_witness
    source.restless = 10**6
    source.number += 1
    with pytest.raises(ruvector.BackendError, match="changed during the pull"):
        lake.search_one("docs", QUERY)


# ---- memory ------------------------------------------------------------------------


def test_vectors_are_borrowed_and_given_back():
    class Array(np.ndarray):
        pass

    vectors = rows(2000, 16).view(Array)
    gone = weakref.ref(vectors)
    source = Source(vectors)
    lake = lake_of(source)
    lake.prime("docs")
    del source.vectors
    source.vectors = rows(1)
    del vectors
    gc.collect()
    assert gone() is None


def test_a_lake_and_its_adapter_can_be_collected_together():
    source = Source()
    source.lake = lake_of(source)
    source.lake.prime("docs")
    lake, adapter = weakref.ref(source.lake), weakref.ref(source)
    del source
    gc.collect()
    assert lake() is None
    assert adapter() is None


def test_an_adapter_lives_as_long_as_its_lake():
    lake = lake_of(Source())
    gc.collect()
    assert len(lake.search_one("docs", QUERY, 3)) == 3


# ---- registration ------------------------------------------------------------------


def test_an_id_is_taken_once():
    lake = lake_of(local("a")[0], Source(name="b"))
    for again in (Source(name="a"), local("a")[0], Source(name="b"), local("b")[0]):
        with pytest.raises(ruvector.LakeError, match=r"backend . already registered") as caught:
            lake.register_backend(again)
        assert isinstance(caught.value, ValueError)
        assert caught.value.backend == again.id
    assert lake.backend_ids() == ["a", "b"]


def test_what_can_be_registered():
    lake = RuLake()
    for other in (None, "local", object(), Source, RuLake()):
        with pytest.raises(TypeError, match="expected a LocalBackend"):
            lake.register_backend(other)
    for name in (3, None, b"x"):
        with pytest.raises(TypeError, match="id must be a str"):
            lake.register_backend(Source(name=name))
    with pytest.raises(ValueError, match="zero"):
        lake.register_backend(Source(name="a\0b"))
    assert lake.backend_ids() == []


def test_the_base_class_names_what_is_missing():
    class Half(BackendAdapter):
        def list_collections(self):
            return []

    with pytest.raises(TypeError, match="generation"):
        Half()
    assert Source().supports_pushdown() is False


def test_one_adapter_in_two_lakes():
    source = Source()
    one, two = lake_of(source), lake_of(source, rotation_seed=1)
    assert one.search_one("docs", source.vectors[3], 2) == two.search_one(
        "docs", source.vectors[3], 2
    )
    assert source.pulls == 2
