"""Collections in memory: put, upsert, append, remove, and how generations count."""

from __future__ import annotations

import numpy as np
import pytest
import ruvector
from hypothesis import given
from hypothesis import strategies as st
from lakes import in_threads, lake_of, local, rows, witness_of
from ruvector import LocalBackend, PulledBatch


def state(backend, collection="docs") -> list[tuple[int, tuple[float, ...]]]:
    batch = backend.pull_vectors(collection)
    return [(int(i), tuple(v)) for i, v in zip(batch.ids, batch.vectors.tolist())]


def test_each_change_counts_the_generation_up_by_one():
    backend = LocalBackend("b")
    one = np.ones((1, 2), np.float32)
    for expected, change in enumerate(
        (
            lambda: backend.put_collection("docs", [1], one),
            lambda: backend.append("docs", 1, one[0]),
            lambda: backend.upsert("docs", [2, 3, 2], np.concatenate([one, one, one])),
            lambda: backend.remove("docs", [3]),
            lambda: backend.put_collection("docs", [5], rows(1, 7)),
        ),
        1,
    ):
        change()
        assert backend.generation("docs") == expected
    assert backend.remove("docs", [99]) == 0
    assert backend.generation("docs") == 5, "nothing was removed"
    backend.upsert("other", [1], one)
    assert backend.generation("other") == 1


def test_upsert_replaces_in_place_and_appends_in_order():
    backend = LocalBackend("b")
    backend.upsert("docs", [5, 6, 7], [[5.0], [6.0], [7.0]])
    backend.upsert("docs", [9, 6, 8, 9], [[1.0], [60.0], [8.0], [90.0]])
    assert state(backend) == [(5, (5.0,)), (6, (60.0,)), (7, (7.0,)), (9, (90.0,)), (8, (8.0,))]


@pytest.mark.parametrize("backend_name", ["b", "é" * 100, "x" * 4000])
@pytest.mark.parametrize("letter", ["y", "é"])
def test_names_are_as_long_as_a_bundle_can_say(backend_name, letter):
    """`data_ref` holds both and has 4096 bytes at most."""
    backend = LocalBackend(backend_name)
    room = 4096 - len(f"local://{backend_name}/".encode())
    longest = letter * (room // len(letter.encode()))
    for write in (backend.put_collection, backend.upsert):
        with pytest.raises(ruvector.LakeValueError, match=r"too long: .* at most 4096 are allowed"):
            write(longest + "z" * 2, [1], [[1.0]])
    assert list(backend.list_collections()) == []
    backend.put_collection(longest, [1], [[1.0]])
    lake = lake_of(backend)
    assert lake.search_one(longest, [1.0])[0].id == 1


def test_append_does_not_look_for_the_id():
    backend = LocalBackend("b")
    backend.put_collection("docs", [1], [[1.0]])
    backend.append("docs", 1, [2.0])
    assert state(backend) == [(1, (1.0,)), (1, (2.0,))]
    assert [h.score for h in lake_of(backend).search_one("docs", [1.0])] == [0.0, 1.0]


def test_remove():
    backend = LocalBackend("b")
    backend.put_collection("docs", [1, 2, 1, 3], [[1.0], [2.0], [3.0], [4.0]])
    assert backend.remove("docs", [1, 99]) == 2
    assert state(backend) == [(2, (2.0,)), (3, (4.0,))]
    assert backend.remove("docs", 3) == 1
    assert backend.remove("docs", []) == 0


@given(st.lists(st.tuples(st.sampled_from("pura"), st.lists(st.integers(0, 6), max_size=5))))
def test_any_sequence_of_changes(changes):
    backend = LocalBackend("b")
    expected: list[tuple[int, tuple[float]]] = []
    value = 0.0
    backend.put_collection("docs", [0], [[0.0]])
    expected = [(0, (0.0,))]
    for what, ids in changes:
        if not ids:
            continue
        new = []
        for id in ids:
            value += 1
            new.append((id, (value,)))
        vectors = [list(v) for _, v in new]
        if what == "p":
            backend.put_collection("docs", ids, vectors)
            expected = new
        elif what == "a":
            backend.append("docs", *new[0])
            expected.append(new[0])
        elif what == "r":
            gone = sum(id in ids for id, _ in expected)
            if gone == len(expected):
                continue
            assert backend.remove("docs", ids) == gone
            expected = [row for row in expected if row[0] not in ids]
        elif len({id for id, _ in expected}) == len(expected):  # each id once: as a dict
            backend.upsert("docs", ids, vectors)
            expected = list({**dict(expected), **dict(new)}.items())
        assert state(backend) == expected


def test_what_a_pull_returns_is_a_copy():
    backend, vectors = local()
    batch = backend.pull_vectors("docs")
    assert isinstance(batch, PulledBatch)
    assert (batch.dim, batch.generation) == (16, 1)
    batch.vectors[:] = 0
    assert np.array_equal(backend.pull_vectors("docs").vectors, vectors)


def test_what_is_given_is_copied():
    vectors = rows(10)
    backend = LocalBackend("b")
    backend.put_collection("docs", range(10), vectors)
    vectors[:] = 0
    assert np.array_equal(backend.pull_vectors("docs").vectors, rows(10))


def test_the_bundle():
    backend, _ = local("hot shard")
    bundle = backend.current_bundle("docs", rotation_seed=7, rerank_factor=9)
    assert (bundle.data_ref, bundle.dim, bundle.generation) == ("local://hot shard/docs", 16, 1)
    assert bundle.rvf_witness == witness_of("local://hot shard/docs", 16, 7, 9, 1)


def test_errors_change_nothing():
    backend, vectors = local()
    cases = [
        (ruvector.LakeDimensionMismatch, "upsert", ("docs", [1], rows(1, 15))),
        (ruvector.LakeDimensionMismatch, "append", ("docs", 1, rows(1, 15)[0])),
        (ruvector.LakeError, "put_collection", ("docs", [1, 2], vectors[:1])),
        (ruvector.LakeError, "upsert", ("docs", [1], vectors[:2])),
        (ValueError, "put_collection", ("docs", [1], vectors[:1] * np.nan)),
        (ValueError, "upsert", ("docs", [1], vectors[:1] * np.inf)),
        (ValueError, "append", ("docs", 1, vectors[0] * np.nan)),
        (ValueError, "append", ("docs", -1, vectors[0])),
        (ValueError, "append", ("docs", 2**64, vectors[0])),
        (ValueError, "upsert", ("docs", [-1], vectors[:1])),
        (TypeError, "upsert", ("docs", [1.5], vectors[:1])),
        (TypeError, "upsert", ("docs", [1], vectors[:1].astype(float))),
        (ValueError, "upsert", ("docs", [1], vectors[0])),
        (TypeError, "upsert", (3, [1], vectors[:1])),
        (TypeError, "remove", ("docs", "x")),
        (ruvector.UnknownCollection, "append", ("none", 1, vectors[0])),
        (ruvector.UnknownCollection, "remove", ("none", [1])),
        (ruvector.UnknownCollection, "generation", ("none",)),
        (ruvector.UnknownCollection, "pull_vectors", ("none",)),
    ]
    before = state(backend)
    for error, method, arguments in cases:
        with pytest.raises(error) as caught:
            getattr(backend, method)(*arguments)
        if isinstance(caught.value, ruvector.UnknownCollection):
            assert (caught.value.backend, caught.value.collection) == ("local", "none")
    assert state(backend) == before
    assert backend.generation("docs") == 1
    with pytest.raises(ruvector.LakeError, match=r"put_collection: ids.len=2 != vectors.len=1"):
        backend.put_collection("docs", [1, 2], vectors[:1])


@pytest.mark.parametrize("name", [None, 3, b"x"])
def test_a_name_is_a_str(name):
    with pytest.raises(TypeError, match="name: expected a str"):
        LocalBackend(name)


def test_readers_see_whole_states_while_writers_write():
    backend = LocalBackend("b")
    backend.put_collection("docs", np.arange(100), np.zeros((100, 4), np.float32))
    lake = lake_of(backend)

    def write():
        for i in range(1, 100):
            backend.put_collection("docs", np.arange(100), np.full((100, 4), i, np.float32))

    def read():
        for _ in range(100):
            hits = lake.search_one("docs", [0.0] * 4, 100)
            assert len({h.score for h in hits}) == 1

    in_threads(write, read, read)


def test_one_backend_in_several_lakes():
    backend, vectors = local()
    lakes = [lake_of(backend, rotation_seed=seed) for seed in range(3)]
    backend.upsert("docs", [777], vectors[:1] + 9)
    for lake in lakes:
        assert lake.search_one("docs", vectors[0] + 9, 1)[0].id == 777
