"""Pickling and copying: equal results, and no copies where none are needed."""

from __future__ import annotations

import copy
import multiprocessing
import pickle

import numpy as np
import pytest
import ruvector
from oracle import build


@pytest.fixture
def idx(cls, rng):
    idx = build(cls, rng.standard_normal((120, 18)).astype(np.float32), metric="cosine")
    idx.remove(range(5))
    return idx


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol(idx, protocol):
    loaded = pickle.loads(pickle.dumps(idx, protocol))
    assert type(loaded) is type(idx)
    assert loaded == idx
    assert loaded.to_bytes() == idx.to_bytes()
    assert loaded.search(np.ones(18, np.float32)) == idx.search(np.ones(18, np.float32))


def test_buffers_travel_outside_the_pickle(idx):
    buffers = []
    data = pickle.dumps(idx, protocol=5, buffer_callback=buffers.append)
    assert len(data) < 200
    assert [b.raw().nbytes for b in buffers] == [len(idx.to_bytes())]
    assert buffers[0].raw().readonly
    assert pickle.loads(data, buffers=buffers) == idx


def test_the_buffer_is_used_in_place(rng):
    idx = ruvector.RabitqPlusIndex.build(rng.standard_normal((50, 16)).astype(np.float32))
    buffers = []
    data = pickle.dumps(idx, protocol=5, buffer_callback=buffers.append)
    owner = np.frombuffer(buffers[0].raw(), np.uint8)
    loaded = pickle.loads(data, buffers=[owner])
    assert np.shares_memory(np.asarray(loaded), owner)


def test_a_pickle_of_protocol_5_without_a_callback_holds_everything(idx):
    data = pickle.dumps(idx, protocol=5)
    assert len(data) > len(idx.to_bytes())
    assert pickle.loads(data) == idx


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy])
def test_copies_are_equal_and_independent(idx, make):
    other = make(idx)
    assert other == idx
    other.add(None, np.ones(18, np.float32))
    assert other != idx
    assert len(idx) == 115


def test_an_index_inside_other_objects(idx):
    loaded = pickle.loads(pickle.dumps({"a": [idx, idx]}))
    assert loaded["a"][0] is loaded["a"][1]
    assert loaded["a"][0] == idx


def test_damaged_pickles_are_refused(idx):
    data = pickle.dumps(idx)
    inside = data.find(idx.to_bytes()[-40:-8])
    damaged = data[:inside] + bytes([data[inside] ^ 1]) + data[inside + 1 :]
    with pytest.raises(ruvector.PersistError):
        pickle.loads(damaged)


def test_hits_and_rotations_can_be_pickled(rng):
    idx = ruvector.RabitqIndex.build(rng.standard_normal((9, 4)).astype(np.float32))
    for value in (idx.search([0, 0, 0, 1])[0], idx.rotation()):
        loaded = pickle.loads(pickle.dumps(value))
        assert loaded == value
        assert type(loaded) is type(value)


def nearest(idx, query):
    return idx.search(query, k=3)


def test_indexes_travel_to_other_processes(rng):
    vectors = rng.standard_normal((60, 8)).astype(np.float32)
    idx = ruvector.RabitqPlusIndex.build(vectors)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(nearest, (idx, vectors[4])) == idx.search(vectors[4], k=3)
