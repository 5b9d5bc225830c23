"""The first program one would write, line by line, and what Python users take for granted."""

from __future__ import annotations

import numpy as np
import pytest
import ruvector

N, DIM = 3_000, 768


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(1).standard_normal((N, DIM)).astype(np.float32)


@pytest.fixture
def idx(vectors):
    return ruvector.RabitqPlusIndex.build(vectors, seed=42, rerank_factor=20)


@pytest.fixture(scope="module")
def query():
    return np.random.default_rng(2).standard_normal(DIM).astype(np.float32)


def test_build_takes_the_array_seed_and_rerank_factor(idx):
    assert isinstance(idx, ruvector.RabitqPlusIndex)
    assert idx.seed == 42
    assert idx.rerank_factor == 20


def test_search_gives_named_tuples_of_id_and_score(idx, vectors, query):
    hits = idx.search(query, k=10)
    nearest = np.argsort(((vectors.astype(np.float64) - query) ** 2).sum(axis=1))[:10]
    assert [h.id for h in hits] == nearest.tolist()
    for h in hits:
        assert type(h.id) is int
        assert type(h.score) is float
        assert h == (h.id, h.score)


def test_len_is_the_number_of_vectors(idx):
    assert len(idx) == N


def test_dim(idx):
    assert idx.dim == 768


def test_memory_bytes_counts_more_than_the_vectors_and_not_much_more(idx):
    data = N * DIM * 4
    assert data < idx.memory_bytes < data * 1.2


def test_save_and_load(idx, query, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    idx.save("index.rbpx")
    idx2 = ruvector.RabitqPlusIndex.load("index.rbpx")
    assert idx2 == idx
    assert idx2.search(query, k=10) == idx.search(query, k=10)


def test_add_after_build(idx):
    vector = np.random.default_rng(3).standard_normal(768).astype(np.float32)
    idx.add(id=100_001, vector=vector)
    assert len(idx) == N + 1
    assert idx.search(vector, k=1) == [(100_001, 0.0)]


def test_other_dtypes_raise_at_once(vectors):
    with pytest.raises(TypeError, match="float64"):
        ruvector.RabitqPlusIndex.build(vectors.astype(np.float64))


def test_arrays_that_are_not_contiguous_raise_at_once(vectors):
    with pytest.raises(ValueError, match="C-contiguous"):
        ruvector.RabitqPlusIndex.build(vectors[:, ::2])


def test_isinstance_of_any_index(cls, vectors):
    assert isinstance(cls.build(vectors[:10]), ruvector.AnyIndex)
    assert not isinstance([], ruvector.AnyIndex)


# ---- conveniences -------------------------------------------------------------------


def test_subscript_gives_the_original_vector(idx, vectors):
    assert idx[17].dtype == np.float32
    assert np.array_equal(idx[17], vectors[17])


def test_subscript_without_originals_is_a_lookup_error(vectors):
    idx = ruvector.RabitqIndex.build(vectors[:10])
    with pytest.raises(LookupError):
        idx[3]


def test_iteration_gives_pairs(vectors):
    idx = ruvector.RabitqPlusIndex.build(vectors[:10], ids=range(100, 110))
    pairs = list(idx)
    assert [id for id, _ in pairs] == list(range(100, 110))
    assert np.array_equal([v for _, v in pairs], vectors[:10])


def test_iteration_only_with_originals(vectors):
    with pytest.raises(LookupError):
        iter(ruvector.RabitqIndex.build(vectors[:10]))


def test_asarray_is_the_matrix_without_a_copy(idx, vectors):
    matrix = np.asarray(idx)
    assert matrix.dtype == np.float32
    assert np.array_equal(matrix, vectors)
    assert np.shares_memory(matrix, np.asarray(idx))


def test_asarray_only_with_originals(vectors):
    with pytest.raises(LookupError):
        np.asarray(ruvector.RabitqIndex.build(vectors[:10]))


def test_repr_shows_class_n_dim_and_memory(cls, vectors):
    text = repr(cls.build(vectors[:10]))
    assert text.startswith(f"{cls.__name__}(n=10, dim=768, metric='l2', memory=")
    assert text.endswith("B)")


def test_equal_if_from_the_same_data_and_seed(cls, vectors):
    one, two = cls.build(vectors[:100], seed=7), cls.build(vectors[:100], seed=7)
    assert one == two
    assert one is not two
    assert (one != two) is False
    assert one != cls.build(vectors[:100], seed=8)
    assert one != cls.build(vectors[:99], seed=7)
    assert one != cls.build(vectors[1:101], seed=7)
    assert one != "an index"


def test_sequences_are_copied(vectors):
    as_lists = ruvector.RabitqPlusIndex.build(vectors[:10].tolist())
    assert as_lists == ruvector.RabitqPlusIndex.build(vectors[:10])
    assert as_lists.search(tuple(vectors[3].tolist()), k=1) == [(3, 0.0)]
