"""Arrays out of an index: views, copies, dtypes, and who owns the memory."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import ruvector
from oracle import build

NUMPY_2 = int(np.__version__.split(".")[0]) >= 2
KEEPING = (ruvector.FlatF32Index, ruvector.RabitqPlusIndex, ruvector.RabitqAsymIndex)


@pytest.fixture(params=KEEPING, ids=lambda cls: cls.__name__)
def cls(request):
    return request.param


@pytest.fixture
def vectors(rng):
    return rng.standard_normal((200, 24)).astype(np.float32)


@pytest.fixture
def idx(cls, vectors):
    return build(cls, vectors)


# ---- the matrix ------------------------------------------------------------------


def test_the_matrix_is_what_was_built_from(idx, vectors):
    matrix = np.asarray(idx)
    assert matrix.shape == (200, 24)
    assert matrix.dtype == np.float32
    assert matrix.flags.aligned
    assert np.array_equal(matrix, vectors)


def test_the_matrix_is_a_view(idx):
    assert np.shares_memory(np.asarray(idx), np.asarray(idx))
    assert not np.asarray(idx).flags.owndata


def test_the_index_has_its_own_copy_of_what_it_was_built_from(idx, vectors):
    kept = vectors.copy()
    vectors[:] = 0
    assert np.array_equal(np.asarray(idx), kept)


def test_the_view_is_read_only_for_good(idx):
    matrix = np.asarray(idx)
    with pytest.raises(ValueError, match="read-only"):
        matrix[0, 0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        matrix.flags.writeable = True


def test_a_view_stays_as_it_is_while_the_index_changes(idx, vectors, rng):
    matrix = np.asarray(idx)
    for _ in range(5):
        idx.add_batch(rng.standard_normal((500, 24)).astype(np.float32))
    idx.upsert([3], np.zeros((1, 24), np.float32))
    idx.remove(range(100))
    idx.vacuum()
    assert np.array_equal(matrix, vectors)


def test_a_view_outlives_the_index(cls, vectors):
    matrix = np.asarray(build(cls, vectors))
    gc.collect()
    assert np.array_equal(matrix, vectors)


def test_a_view_outlives_a_loaded_index_and_its_file(idx, cls, vectors, tmp_path):
    path = tmp_path / "index.rbpx"
    idx.save(path)
    matrix = np.asarray(cls.load(path))
    path.unlink()
    gc.collect()
    assert np.array_equal(matrix, vectors)


def test_a_view_keeps_the_bytes_of_from_bytes_alive(idx, cls, vectors):
    owner = np.frombuffer(idx.to_bytes(), np.uint8).copy()
    gone = weakref.ref(owner)
    loaded = cls.from_bytes(owner)
    del owner
    matrix = np.asarray(loaded)
    del loaded
    gc.collect()
    assert gone() is not None
    assert np.array_equal(matrix, vectors)
    del matrix
    gc.collect()
    assert gone() is None


def test_the_matrix_of_nothing(cls, vectors):
    matrix = np.asarray(build(cls, vectors[:0]))
    assert (matrix.shape, matrix.dtype) == ((0, 24), np.float32)


def test_rows_removed_in_between_are_left_out(idx, vectors):
    idx.remove(range(0, 200, 2))
    assert np.array_equal(np.asarray(idx), vectors[1::2])
    idx.vacuum()
    assert np.array_equal(np.asarray(idx), vectors[1::2])
    assert np.shares_memory(np.asarray(idx), np.asarray(idx))


def test_asking_for_a_copy(idx, vectors):
    for copy in (np.array(idx), idx.__array__(copy=True)):
        assert np.array_equal(copy, vectors)
        assert not np.shares_memory(copy, np.asarray(idx))
        copy[0] = 0  # the caller's own
    assert np.array_equal(np.asarray(idx), vectors)


def test_refusing_a_copy(idx):
    assert np.shares_memory(idx.__array__(copy=False), np.asarray(idx))
    with pytest.raises(ValueError, match="float32"):
        idx.__array__(np.float64, copy=False)
    idx.remove(5)
    with pytest.raises(ValueError, match="vacuum"):
        idx.__array__(copy=False)


@pytest.mark.skipif(not NUMPY_2, reason="the copy argument came with NumPy 2")
def test_numpy_passes_copy_on(idx):
    assert np.shares_memory(np.asarray(idx, copy=False), np.asarray(idx))
    assert not np.shares_memory(np.asarray(idx, copy=True), np.asarray(idx))
    idx.remove(5)
    with pytest.raises(ValueError, match="vacuum"):
        np.asarray(idx, copy=False)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, "f8", int, ">f4"])
def test_other_dtypes_are_converted(idx, vectors, dtype):
    matrix = np.asarray(idx, dtype=dtype)
    assert matrix.dtype == np.dtype(dtype)
    assert np.array_equal(matrix, vectors.astype(dtype))


@pytest.mark.parametrize("dtype", [np.float32, "f4", "float32", np.dtype(np.float32)])
def test_float32_by_any_name_is_no_conversion(idx, dtype):
    assert np.shares_memory(np.asarray(idx, dtype=dtype), np.asarray(idx))


def test_a_dtype_that_is_none(idx):
    with pytest.raises(TypeError):
        idx.__array__("no such dtype")


def test_numpy_functions_take_an_index(idx, vectors):
    assert np.array_equal(np.mean(idx, axis=0), np.mean(vectors, axis=0))
    assert np.array_equal(np.stack([idx, idx]), np.stack([vectors, vectors]))


def test_a_view_goes_back_in(idx, cls, vectors):
    assert build(cls, np.ascontiguousarray(idx)) == idx
    ids, _ = idx.search_batch(np.ascontiguousarray(idx), k=1)
    assert np.array_equal(ids[:, 0], idx.ids)


# ---- one vector ------------------------------------------------------------------


def test_subscript_is_a_read_only_copy(idx, vectors):
    vector = idx[7]
    assert (vector.shape, vector.dtype) == ((24,), np.float32)
    assert np.array_equal(vector, vectors[7])
    assert not np.shares_memory(vector, np.asarray(idx))
    with pytest.raises(ValueError, match="read-only"):
        vector[0] = 1


def test_subscript_takes_any_integer(idx, vectors):
    for id in (np.int64(7), np.uint8(7), np.array(7)):
        assert np.array_equal(idx[id], vectors[7])


def test_iteration_pairs_ids_with_rows(idx, vectors):
    idx.remove([0, 50])
    pairs = list(idx)
    assert len(pairs) == 198
    for (id, vector), expected in zip(pairs, idx.ids):
        assert type(id) is int
        assert id == expected
        assert np.array_equal(vector, vectors[id])
        assert not vector.flags.writeable


def test_iteration_sees_the_index_as_it_was(idx, vectors):
    pairs = iter(idx)
    assert pairs.__length_hint__() == 200
    next(pairs)
    idx.remove(range(1, 200))
    idx.vacuum()
    assert [id for id, _ in pairs] == list(range(1, 200))
    assert next(pairs, None) is None
    assert len(idx) == 1


def test_iteration_makes_a_dict(idx, vectors):
    assert np.array_equal(dict(idx)[11], vectors[11])


# ---- columns ---------------------------------------------------------------------


def test_columns_are_new_arrays_each_time(idx):
    ids = idx.ids
    ids[:] = 0
    assert idx.ids.tolist() == list(range(200))
    assert (idx.norms.dtype, idx.norms.shape) == (np.float32, (200,))


def test_columns_agree_row_for_row(cls, vectors, rng):
    order = rng.permutation(200)
    idx = build(cls, vectors[order], ids=order)
    idx.remove(order[::3])
    kept = np.delete(order, np.s_[::3])
    assert idx.ids.tolist() == kept.tolist()
    assert np.array_equal(np.asarray(idx), vectors[kept])
    expected = np.linalg.norm(vectors[kept].astype(np.float64), axis=1)
    np.testing.assert_allclose(idx.norms, expected, rtol=1e-6)


@pytest.mark.parametrize(("dim", "code_bytes"), [(1, 4), (32, 4), (33, 8), (100, 16)])
def test_codes_hold_a_bit_per_padded_dimension(rng, dim, code_bytes):
    vectors = rng.standard_normal((50, dim)).astype(np.float32)
    for kind in (ruvector.RabitqIndex, ruvector.RabitqPlusIndex, ruvector.RabitqAsymIndex):
        idx = kind.build(vectors)
        assert (idx.codes.dtype, idx.codes.shape) == (np.uint8, (50, code_bytes))
        assert idx.rotation().padded_dim == code_bytes * 8


def test_codes_tell_near_vectors_from_far_ones(rng):
    near = rng.standard_normal((1, 256)) + 0.1 * rng.standard_normal((2, 256))
    others = rng.standard_normal((60, 256))
    idx = ruvector.RabitqIndex.build(np.vstack([near, others]).astype(np.float32), n_lists=1)
    bits = np.unpackbits(idx.codes, axis=1)
    differing = (bits[0] != bits[1:]).sum(axis=1)
    assert differing[0] < differing[1:].min() / 2


def test_an_index_of_floats_has_no_codes(vectors):
    idx = ruvector.FlatF32Index.build(vectors)
    for name in ("codes", "rotation", "n_lists", "epsilon", "rerank_factor"):
        assert not hasattr(idx, name)


def test_rotations_compare_by_value(vectors):
    build_ = ruvector.RabitqIndex.build
    one, two = build_(vectors, seed=1).rotation(), build_(vectors[:9], seed=1).rotation()
    assert one == two
    assert hash(one) == hash(two)
    assert one != build_(vectors, seed=2).rotation()
    assert one != build_(vectors[:, :23].copy(), seed=1).rotation()
    assert repr(one) == "ruvector.Rotation(dim=24, padded_dim=32, seed=1)"


# ---- memory ----------------------------------------------------------------------


def test_memory_usage_adds_up(idx):
    usage = idx.memory_usage()
    parts = {name: size for name, size in usage.items() if name not in ("total", "mapped")}
    assert set(parts) == {"codes", "blocks", "vectors", "ids", "rotation", "slack"}
    assert sum(parts.values()) == usage["total"] == idx.memory_bytes
    assert usage["vectors"] == 200 * 24 * 4
    assert usage["mapped"] == 0


def test_a_mapped_file_is_said_to_be_one(idx, cls, tmp_path):
    path = tmp_path / "index.rbpx"
    idx.save(path)
    mapped = cls.load(path).memory_usage()
    assert mapped["vectors"] <= mapped["mapped"] <= mapped["total"]
    assert mapped["mapped"] <= path.stat().st_size


@pytest.mark.parametrize(
    ("n", "text"), [(1, "B"), (20, "kB"), (20_000, "MB")], ids=["B", "kB", "MB"]
)
def test_repr_gives_memory_in_readable_units(n, text):
    idx = ruvector.FlatF32Index.build(np.zeros((n, 24), np.float32), ids=range(n))
    size = {"B": 1, "kB": 1e3, "MB": 1e6}[text]
    amount, unit = repr(idx).split("memory=")[1].rstrip(")").split()
    assert unit == text
    assert float(amount) == pytest.approx(idx.memory_bytes / size, abs=0.06)
