"""Adding, replacing and removing: ids, order, and what is given back."""

from __future__ import annotations

import time

import numpy as np
import pytest
import ruvector
from oracle import build, keeps_vectors


@pytest.fixture
def vectors(rng):
    return rng.standard_normal((50, 12)).astype(np.float32)


def order(idx):
    return idx.ids.tolist()


# ---- add -------------------------------------------------------------------------


def test_ids_count_from_zero(cls, vectors):
    assert order(build(cls, vectors)) == list(range(50))


def test_add_returns_the_id(cls, vectors):
    idx = build(cls, vectors)
    assert idx.add(900, vectors[0]) == 900
    assert idx.add(None, vectors[1]) == 901
    assert idx.add(id=3000, vector=vectors[2].tolist()) == 3000
    assert order(idx)[-3:] == [900, 901, 3000]
    assert len(idx) == 53


def test_add_batch_returns_the_ids(cls, vectors):
    idx = build(cls, vectors, ids=range(100, 150))
    new = idx.add_batch(vectors[:3])
    assert new.tolist() == [150, 151, 152]
    assert new.dtype == np.uint64
    assert idx.add_batch(vectors[:2], ids=[7, 5]).tolist() == [7, 5]
    assert idx.add_batch(vectors[:0]).tolist() == []
    assert order(idx) == [*range(100, 153), 7, 5]


def test_given_ids_are_not_the_ones_returned(cls, vectors):
    idx = build(cls, vectors)
    given = np.array([70, 71], np.uint64)
    returned = idx.add_batch(vectors[:2], ids=given)
    returned[:] = 0
    assert given.tolist() == [70, 71]


def test_new_ids_follow_the_largest_ever_used(cls, vectors):
    idx = build(cls, vectors)
    idx.add(1000, vectors[0])
    idx.remove(1000)
    assert idx.add(None, vectors[0]) == 1001
    assert idx.add_batch(vectors[:1]).tolist() == [1002]


def test_no_ids_are_left_after_the_largest(cls, vectors):
    idx = build(cls, vectors)
    idx.add(2**64 - 2, vectors[0])
    with pytest.raises(ValueError, match="reserved"):
        idx.add(None, vectors[1])
    with pytest.raises(ValueError, match="reserved"):
        idx.add_batch(vectors[:2])
    assert idx.add(60, vectors[1]) == 60


def test_an_index_grown_from_nothing_finds_what_was_added(cls, vectors):
    idx = build(cls, np.zeros((0, 12), np.float32))
    assert len(idx) == 0
    for i, v in enumerate(vectors):
        idx.add(i, v)
    assert idx.search(vectors[31], k=1)[0].id == 31
    assert len(idx) == 50


def test_adding_one_by_one_or_at_once_is_the_same(cls, vectors):
    one, many = build(cls, vectors), build(cls, vectors)
    more = np.flip(vectors, axis=1).copy()
    for v in more:
        one.add(None, v)
    many.add_batch(more)
    assert one == many
    assert one.to_bytes() == many.to_bytes()


# ---- remove ----------------------------------------------------------------------


def test_remove_counts_what_was_there(cls, vectors):
    idx = build(cls, vectors)
    assert idx.remove(3) == 1
    assert idx.remove(3) == 0
    assert idx.remove(np.uint64(4)) == 1
    assert idx.remove([5, 5, 6, 999]) == 2
    assert idx.remove(np.array([7, 8])) == 2
    assert idx.remove({9}) == 1
    assert idx.remove([]) == 0
    assert len(idx) == 43
    assert order(idx) == [0, 1, 2, *range(10, 50)]


def test_what_was_removed_is_not_found(cls, vectors):
    idx = build(cls, vectors)
    idx.remove(range(0, 50, 2))
    assert 2 not in idx
    assert 3 in idx
    assert all(h.id % 2 for h in idx.search(vectors[2], k=50))
    assert len(idx.search(vectors[2], k=50)) == 25


def test_removing_everything_leaves_an_empty_index(cls, vectors):
    idx = build(cls, vectors)
    assert idx.remove(idx.ids) == 50
    assert len(idx) == 0
    assert idx.ids.shape == (0,)
    with pytest.raises(ruvector.EmptyIndex):
        idx.search(vectors[0])
    assert idx.add(None, vectors[0]) == 50
    assert idx.search(vectors[0], k=1)[0].id == 50


def test_many_rows_added_after_a_removal_are_all_there(cls, rng):
    vectors = rng.standard_normal((6_000, 4)).astype(np.float32)
    idx = build(cls, vectors[:70])
    idx.remove(0)
    idx.add_batch(vectors[70:])
    assert order(idx) == list(range(1, 6_000))
    assert len(idx.search(vectors[0], k=6_000)) == 5_999


def test_a_removed_id_can_come_back(cls, vectors):
    idx = build(cls, vectors)
    idx.remove(10)
    idx.add(10, vectors[20])
    assert order(idx)[-1] == 10
    if keeps_vectors(idx):
        assert np.array_equal(idx[10], vectors[20])


# ---- upsert ----------------------------------------------------------------------


def test_upsert_replaces_and_adds(cls, vectors):
    idx = build(cls, vectors)
    assert idx.upsert([4, 99, 2], -vectors[:3]) is None
    assert len(idx) == 51
    assert order(idx) == [i for i in range(50) if i not in (2, 4)] + [4, 99, 2]
    if keeps_vectors(idx):
        assert np.array_equal(idx[4], -vectors[0])
        assert np.array_equal(idx[2], -vectors[2])
        assert idx.search(-vectors[0], k=1)[0].id == 4
    assert idx.add(None, vectors[0]) == 100


def test_upsert_into_an_empty_index(cls, vectors):
    idx = build(cls, vectors[:0])
    idx.upsert([3, 1], vectors[:2])
    assert order(idx) == [3, 1]


# ---- vacuum ----------------------------------------------------------------------


def test_vacuum_changes_nothing_but_memory(cls, rng):
    vectors = rng.standard_normal((800, 32)).astype(np.float32)
    idx = build(cls, vectors)
    idx.remove(range(0, 800, 4))
    hits, before, ids = idx.search(vectors[1], k=30), idx.memory_bytes, order(idx)
    idx.vacuum()
    assert idx.search(vectors[1], k=30) == hits
    assert order(idx) == ids
    assert idx.memory_bytes < before
    idx.vacuum()
    assert order(idx) == ids


def test_ids_are_not_reused_after_vacuum(cls, vectors):
    idx = build(cls, vectors)
    idx.remove(range(25, 50))
    idx.vacuum()
    assert idx.add(None, vectors[0]) == 50


# ---- equality --------------------------------------------------------------------


def test_equality_looks_at_contents_not_at_history(cls, vectors):
    plain = build(cls, vectors)
    changed = build(cls, vectors)
    changed.add(77, vectors[0])
    assert changed != plain
    changed.remove(77)
    assert changed == plain
    changed.vacuum()
    assert changed == plain


def test_equality_looks_at_order_and_options(cls, vectors):
    plain = build(cls, vectors)
    assert plain == plain
    assert plain != build(cls, vectors[::-1].copy(), ids=range(49, -1, -1))
    assert plain != build(cls, vectors, ids=range(1, 51))
    assert plain != build(cls, vectors, metric="ip")
    assert all(plain != build(other, vectors) for other in set_of_others(cls))


def set_of_others(cls):
    return {
        ruvector.FlatF32Index,
        ruvector.RabitqIndex,
        ruvector.RabitqPlusIndex,
        ruvector.RabitqAsymIndex,
    } - {cls}


def test_indexes_cannot_be_hashed(cls, vectors):
    with pytest.raises(TypeError, match="unhashable"):
        hash(build(cls, vectors))


def test_indexes_have_no_order(cls, vectors):
    with pytest.raises(TypeError):
        build(cls, vectors) < build(cls, vectors)  # noqa: B015


def version_1_file(ids):
    """Bytes as another program may write them, in which an id may stand on many rows."""
    records = np.zeros(len(ids), dtype=[("id", "<u4"), ("x", "<f4")])
    records["id"], records["x"] = ids, np.arange(len(ids))
    header = np.array([1, 1, 0, 0, 1, len(ids)], dtype="<u4").tobytes()
    return b"rbpx0001" + header + records.tobytes()


def seconds_to_remove(ids):
    """The least of three, so that a machine busy elsewhere is not what is measured."""
    times = []
    for _ in range(3):
        index = ruvector.RabitqPlusIndex.from_bytes(version_1_file(ids))
        distinct = np.unique(ids).astype(np.uint64)
        start = time.thread_time()
        index.remove(distinct)
        times.append(time.thread_time() - start)
        assert len(index) == 0
    return min(times)


def test_removing_repeated_ids_costs_what_removing_others_does(rng):
    """With a pass over all rows for each id the second takes hundreds of times as long."""
    n = 20_000
    distinct = seconds_to_remove(rng.permutation(n))
    twice = seconds_to_remove(rng.permutation(np.arange(n) // 2))
    assert twice < 20 * distinct
