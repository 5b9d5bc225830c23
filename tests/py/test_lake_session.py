"""Sessions: one state for all searches, writes together at the end."""

from __future__ import annotations

import contextlib
import threading
import time

import numpy as np
import pytest
import ruvector
from lakes import Source, assert_hits, in_threads, lake_of, local, nearest, rows
from ruvector import FsBackend, LocalBackend, RuLake

FAR = np.full((1, 16), 9, np.float32)


def test_searches_of_a_session_see_one_state():
    backend, vectors = local()
    lake = lake_of(backend)
    with lake.session() as session:
        before = session.search_one("docs", FAR[0], 5)
        backend.upsert("docs", [777], FAR)
        assert session.search_one("docs", FAR[0], 5) == before
        assert session.search_batch("docs", FAR, 5) == [before]
        assert session.search_federated("docs", FAR[0], 5) == before
        assert session.search_one("docs", FAR[0], 5, backend="local") == before
        assert lake.search_one("docs", FAR[0], 1)[0].id == 777
    assert_hits(before, nearest(FAR[0], vectors, 5))
    assert lake.cache_entry_count() == 1


def test_a_session_asks_at_the_first_touch_only():
    source = Source()
    lake = lake_of(source)
    with lake.session() as session:
        session.search_one("docs", FAR[0])
        asked = len(source.asked)
        for _ in range(5):
            session.search_one("docs", FAR[0])
        assert len(source.asked) == asked
    assert len(source.asked) > asked, "what was touched is primed at the end"


def test_writes_are_made_together_at_the_end():
    backend, _ = local()
    lake = lake_of(backend)
    lake.prime("docs")
    with lake.session() as session:
        session.upsert("docs", [777], FAR)
        session.upsert("docs", ids=[778, 777], vectors=np.concatenate([FAR + 2, FAR + 1]))
        session.upsert("docs", [3], FAR - 1)
        assert backend.generation("docs") == 1
        assert session.search_one("docs", FAR[0], 1)[0].id < 200
    assert backend.generation("docs") == 2, "one step however many calls"
    batch = backend.pull_vectors("docs")
    assert batch.ids.tolist() == [*range(200), 777, 778]
    assert np.array_equal(batch.vectors[[3, 200, 201]], np.concatenate([FAR - 1, FAR + 1, FAR + 2]))
    assert lake.search_one("docs", FAR[0] + 2, 1)[0].id == 778
    assert lake.cache_stats().hits == 2, "the end of the session has primed it"


def test_vectors_are_copied_when_they_are_staged():
    backend, _ = local()
    vectors = FAR.copy()
    with lake_of(backend).session() as session:
        session.upsert("docs", [777], vectors)
        vectors[:] = 0
    assert np.array_equal(backend.pull_vectors("docs").vectors[-1:], FAR)


def test_a_put_replaces_what_was_staged_and_what_is_there():
    backend, _ = local()
    with lake_of(backend).session() as session:
        session.upsert("docs", [777], FAR)
        session.put_collection("docs", [1, 2], rows(2, 8))
        session.upsert("docs", [2, 3], rows(2, 8, seed=1))
        session.put_collection("new", [9], rows(1, 4), backend="local")
    batch = backend.pull_vectors("docs")
    assert batch.ids.tolist() == [1, 2, 3]
    assert np.array_equal(batch.vectors[1:], rows(2, 8, seed=1))
    assert (backend.generation("docs"), backend.generation("new")) == (2, 1)


def test_an_exception_discards_the_writes():
    backend, _ = local()
    lake = lake_of(backend)
    with contextlib.suppress(ZeroDivisionError), lake.session() as session:
        session.search_one("docs", FAR[0])
        session.upsert("docs", [777], FAR)
        raise ZeroDivisionError
    assert backend.generation("docs") == 1
    assert lake.cache_entry(("local", "docs")).holds == 0


def test_writes_of_an_earlier_block_are_over():
    backend, _ = local()
    session = lake_of(backend).session()
    with contextlib.suppress(ZeroDivisionError), session:
        session.upsert("docs", [777], FAR)
        raise ZeroDivisionError
    with session:
        session.upsert("docs", [778], FAR)
    with session:
        session.upsert("docs", [779], FAR)
    assert backend.pull_vectors("docs").ids[200:].tolist() == [778, 779]
    assert backend.generation("docs") == 3


def test_writes_of_different_keys_stay_apart():
    """Also if their names are the same once they are strung together."""
    one, _ = local("a/b", "c")
    two, _ = local("a", "b/c")
    lake = lake_of(one, two)
    with lake.session() as session:
        session.upsert("c", [1], FAR, backend="a/b")
        session.put_collection("c", [2], FAR, backend="a/b")
        session.upsert("b/c", [3], FAR + 1, backend="a")
    assert one.pull_vectors("c").ids.tolist() == [2]
    assert np.array_equal(two.pull_vectors("b/c").vectors[3], FAR[0] + 1)
    assert len(two.pull_vectors("b/c").ids) == 200


def test_writes_that_do_not_fit_change_nothing():
    one, _ = local("one")
    lake = lake_of(one, LocalBackend("two"))
    session = lake.session()
    session.__enter__()
    session.upsert("fresh", [1], rows(1, 3), backend="two")
    session.upsert("docs", [777], rows(1, 15), backend="one")
    with pytest.raises(ruvector.LakeDimensionMismatch) as caught:
        session.__exit__(None, None, None)
    assert (caught.value.expected, caught.value.actual) == (16, 15)
    assert (caught.value.backend, caught.value.collection) == ("one", "docs")
    assert one.generation("docs") == 1
    assert lake._backend("two").list_collections() == []
    with lake.session() as session:
        session.upsert("docs", [1], FAR, backend="one")
        for error, ids, vectors in (
            (ValueError, [2], FAR * np.nan),
            (TypeError, [2], FAR.astype(float)),
            (ruvector.LakeError, [2, 3], FAR),
            (ruvector.LakeDimensionMismatch, [2], rows(1, 3)),
        ):
            with pytest.raises(error) as caught:
                session.upsert("docs", ids, vectors, backend="one")
            if isinstance(caught.value, ruvector.LakeError):
                assert (caught.value.backend, caught.value.collection) == ("one", "docs")
    assert one.generation("docs") == 2


def test_only_memory_takes_writes(tmp_path):
    lake = lake_of(Source(), FsBackend("fs", tmp_path), local()[0])
    with lake.session() as session:
        for name in ("source", "fs", "who"):
            with pytest.raises(ruvector.LakeError, match=f"backend {name} takes no writes"):
                session.upsert("docs", [1], FAR, backend=name)
        with pytest.raises(ruvector.LakeError, match="source, local"):
            session.upsert("docs", [1], FAR)


def test_sessions_do_not_nest():
    backend, vectors = local()
    lake, other = lake_of(backend), lake_of(backend)
    session = lake.session()
    with session:
        for again in (session, lake.session()):
            with pytest.raises(ruvector.LakeError, match="do not nest"), again:
                pass
        with other.session() as inner:
            assert inner.search_one("docs", vectors[3], 1)[0].id == 3
        assert session.search_one("docs", vectors[3], 1)[0].id == 3
    with lake.session():
        pass


def test_a_session_is_used_in_its_block():
    lake = lake_of(local()[0])
    session = lake.session()
    calls = (
        lambda: session.search_one("docs", FAR[0]),
        lambda: session.search_batch("docs", FAR),
        lambda: session.search_federated("docs", FAR[0]),
        lambda: session.upsert("docs", [1], FAR),
        lambda: session.put_collection("docs", [1], FAR),
    )
    for _ in range(2):
        for call in calls:
            with pytest.raises(ruvector.LakeError, match="not open"):
                call()
        with session:
            pass


def test_a_session_serves_one_thread_at_a_time():
    inside, go = threading.Event(), threading.Event()

    class Slow(Source):
        def pull_vectors(self, collection):
            inside.set()
            go.wait(20)
            return super().pull_vectors(collection)

    source = Slow()
    lake = lake_of(source)
    with lake.session() as session:
        thread = threading.Thread(target=lambda: session.search_one("docs", FAR[0]))
        thread.start()
        inside.wait()
        with pytest.raises(ruvector.LakeError, match="one thread at a time"):
            session.search_one("docs", FAR[0])
        go.set()
        thread.join()
        assert session.search_one("docs", source.vectors[3], 1)[0].id == 3


def test_a_session_that_ends_waits_for_the_search_of_another_thread():
    inside, go = threading.Event(), threading.Event()

    class Slow(Source):
        def pull_vectors(self, collection):
            inside.set()
            go.wait(20)
            return super().pull_vectors(collection)

    def let_go():
        inside.wait()
        while session._open:
            time.sleep(0.001)
        go.set()

    source, found = Slow(), []
    lake = lake_of(source)
    with lake.session() as session:
        threads = [
            threading.Thread(target=lambda: found.extend(session.search_one("docs", FAR[0], 3))),
            threading.Thread(target=let_go),
        ]
        for thread in threads:
            thread.start()
        inside.wait()
    assert lake.cache_entry(("source", "docs")).holds == 0
    for thread in threads:
        thread.join()
    assert len(found) == 3


def test_sessions_in_many_threads():
    backend, vectors = local(n=500)
    lake = lake_of(backend)

    def work(n):
        for i in range(10):
            with lake.session() as session:
                assert session.search_one("docs", vectors[i], 1)[0].id == i
                session.upsert("docs", [1000 * n + i], FAR + i)
        return n

    in_threads(*[lambda n=n: work(n) for n in range(1, 5)])
    assert backend.generation("docs") == 41
    assert len(backend.pull_vectors("docs").ids) == 540
    assert lake.cache_entry_count() == 1


def test_a_session_without_a_backend(tmp_path):
    donor = lake_of(local()[0])
    donor.prime("docs")
    donor.save_cache_to_dir("docs", tmp_path)
    lake = RuLake(consistency=ruvector.Consistency.STALE)
    lake.warm_from_dir(("local", "docs"), tmp_path)
    with lake.session() as session:
        assert len(session.search_one("docs", FAR[0], 3)) == 3
        with pytest.raises(TypeError):
            session.search_federated("docs")
        targets = [("local", "docs")]
        assert len(session.search_federated(query=FAR[0], k=3, targets=targets)) == 3
        assert session.search_federated(query=FAR[0], targets=[]) == []
