"""Ids as people hold them: in arrays, columns and sets, padded, empty, as flags."""

from __future__ import annotations

import array

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import ruvector
from oracle import build

N, DIM = 12, 6


@pytest.fixture
def vectors(rng):
    return rng.standard_normal((N, DIM)).astype(np.float32)


@pytest.fixture
def idx(cls, vectors):
    return build(cls, vectors)


def found(idx, vectors, allow):
    """The ids that come back, the same from a single search and from a batch."""
    hits = idx.search(vectors[0], k=N, allow=allow() if callable(allow) else allow)
    ids, _ = idx.search_batch(vectors[:1], k=N, allow=allow() if callable(allow) else allow)
    assert ids[0, : len(hits)].tolist() == [h.id for h in hits]
    assert (ids[0, len(hits) :] == ruvector.NO_ID).all()
    return {h.id for h in hits}


ORDERED = {
    "list": list,
    "tuple": tuple,
    "range": lambda ids: range(ids[0], ids[-1] + 1),
    "generator": lambda ids: (i for i in ids),
    "keys": lambda ids: dict.fromkeys(ids).keys(),
    "array.array": lambda ids: array.array("q", ids),
    "memoryview": lambda ids: memoryview(np.array(ids)),
    "int8": lambda ids: np.array(ids, np.int8),
    "uint64": lambda ids: np.array(ids, np.uint64),
    "big-endian": lambda ids: np.array(ids, ">i4"),
    "strided": lambda ids: np.repeat(ids, 2)[::2],
    "objects": lambda ids: np.array(ids, object),
    "Series": pd.Series,
    "nullable Series": lambda ids: pd.Series(ids, dtype="Int64"),
    "arrow Series": lambda ids: pd.Series(ids, dtype=pd.ArrowDtype(pa.int64())),
    "object Series": lambda ids: pd.Series(ids, dtype=object),
    "Index": pd.Index,
    "RangeIndex": lambda ids: pd.RangeIndex(ids[0], ids[-1] + 1),
    "polars": pl.Series,
    "arrow": pa.array,
    "chunked arrow": lambda ids: pa.chunked_array([pa.array(ids[:1]), pa.array(ids[1:])]),
    "masked, none is": lambda ids: np.ma.masked_array(ids, False),
}
UNORDERED = {"set": set, "frozenset": frozenset}


@pytest.mark.parametrize("kind", [*ORDERED, *UNORDERED])
def test_wanted_ids_of_every_kind(idx, vectors, kind):
    make = {**ORDERED, **UNORDERED}[kind]
    assert found(idx, vectors, lambda: make([4, 5, 6])) == {4, 5, 6}
    assert idx.remove(make([4, 5, 6])) == 3
    assert idx.ids.tolist() == [0, 1, 2, 3, 7, 8, 9, 10, 11]


@pytest.mark.parametrize("kind", ORDERED)
def test_ids_of_rows_of_every_kind(cls, vectors, kind):
    make = ORDERED[kind]
    idx = cls.build(vectors[:3], ids=make([4, 5, 6]))
    assert idx.ids.tolist() == [4, 5, 6]
    idx.upsert(make([5, 6, 7]), vectors[:3])
    assert idx.ids.tolist() == [4, 5, 6, 7]
    assert idx.add_batch(vectors[:2], ids=make([20, 21])).tolist() == [20, 21]


@pytest.mark.parametrize("make", UNORDERED.values())
def test_what_has_no_order_pairs_with_no_rows(cls, idx, vectors, make):
    before = idx.to_bytes()
    for call in (
        lambda: cls.build(vectors[:3], ids=make([4, 5, 6])),
        lambda: idx.add_batch(vectors[:3], ids=make([104, 5, 6])),
        lambda: idx.upsert(make([4, 5, 6]), vectors[:3]),
        lambda: ruvector.LocalBackend("b").put_collection("c", make([4, 5, 6]), vectors[:3]),
    ):
        with pytest.raises(TypeError, match=r"no order.*; pass sorted\(ids\)"):
            call()
    assert idx.to_bytes() == before


# ---- numbers that can be no id ---------------------------------------------------------

STRANGERS = {
    "list": [-1, -(2**70), 2**64 - 1, 2**64, 2**100, 3],
    "int64": np.array([-1, -(2**63), 3]),
    "int8": np.array([-1, -128, 3], np.int8),
    "big-endian": np.array([-1, -7, 3], ">i8"),
    "uint64": np.array([2**64 - 1, 3], np.uint64),
    "Series": pd.Series([-1, 3, 10**12]),
    "polars": pl.Series([-1, 3]),
    "arrow": pa.array([-1, 3]),
    "set": {-1, 3, 2**64},
}


@pytest.mark.parametrize("kind", STRANGERS)
def test_what_can_be_no_id_is_unknown(cls, idx, vectors, kind):
    ids = STRANGERS[kind]
    assert found(idx, vectors, ids) == {3}
    assert idx.remove(ids) == 1
    assert len(idx) == N - 1
    high = build(cls, vectors[:2], ids=[2**63, 2**64 - 2])  # -1 and -2 are not these
    assert found(high, vectors, ids) == set()
    assert high.remove(ids) == 0


@pytest.mark.parametrize("id", [-1, -(2**63), 2**64 - 1, 2**64, np.int64(-1), np.uint64(2**64 - 1)])
def test_one_number_that_can_be_no_id(idx, id):
    assert id not in idx
    assert idx.remove(id) == 0
    with pytest.raises(ValueError, match=r"not in 0\.\.2\^64-2"):
        idx[id]


def test_the_ids_array_is_not_written_to(idx, vectors):
    ids = np.array([-1, 3, -5])
    found(idx, vectors, ids)
    idx.remove(ids)
    assert ids.tolist() == [-1, 3, -5]


@pytest.mark.parametrize("dtype", [np.uint64, np.int64])
def test_padded_ids_of_a_result_are_a_filter(cls, vectors, dtype):
    few = build(cls, vectors[:2])
    padded, _ = few.search_batch(vectors[:1], k=5)
    assert padded[0, 2] == ruvector.NO_ID
    all_of_them = build(cls, vectors)
    assert found(all_of_them, vectors, padded[0].astype(dtype)) == {0, 1}
    assert all_of_them.remove(padded[0].astype(dtype)) == 2


def test_a_lake_ignores_what_can_be_no_id(vectors):
    backend = ruvector.LocalBackend("b")
    backend.put_collection("docs", range(N), vectors)
    for ids in (-1, [], np.array([]), *STRANGERS.values()):
        backend.remove("docs", ids)
    assert backend.pull_vectors("docs").ids.tolist() == [i for i in range(N) if i != 3]
    for id in (-1, 2**64 - 1, 2**64):
        with pytest.raises(ValueError, match=r"id: .* is not in 0\.\.2\^64-2"):
            backend.append("docs", id, vectors[0])


# ---- nothing ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "nothing",
    [
        np.array([]),
        np.array([], np.float32),
        np.array([], object),
        np.array([], "U3"),
        pd.Series([], dtype=float),
        pd.Series([], dtype=object),
        pd.Index([]),
        pl.Series([]),
        pa.array([]),
        (),
        set(),
        range(0),
    ],
    ids=lambda nothing: f"{type(nothing).__module__}.{getattr(nothing, 'dtype', '')}",
)
def test_an_empty_anything_means_no_ids(cls, idx, vectors, nothing):
    assert found(idx, vectors, nothing) == set()
    assert idx.remove(nothing) == 0
    assert len(idx) == N
    if not isinstance(nothing, set):
        assert idx.add_batch(np.empty((0, DIM), np.float32), ids=nothing).shape == (0,)


def test_an_empty_mask_is_a_mask(idx, vectors):
    with pytest.raises(ValueError, match="0 entries, but the index has 12 rows"):
        idx.search(vectors[0], allow=np.array([], bool))


# ---- flags -----------------------------------------------------------------------------

FLAGS = np.arange(N) % 3 == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda f: f.astype(np.uint8),
        lambda f: f.astype(np.int64),
        lambda f: f.astype(np.uint64),
        lambda f: f.astype(int).tolist(),
        lambda f: tuple(f.astype(int)),
        lambda f: pd.Series(f.astype(int)),
        lambda f: pl.Series(f.astype(int)),
        lambda f: pa.array(f.astype(int)),
        lambda f: np.zeros(len(f), int),
        lambda f: np.ones(len(f), int),
    ],
)
def test_zeros_and_ones_for_all_rows_are_not_ids(idx, vectors, make):
    before = idx.to_bytes()
    for call in (
        lambda: idx.search(vectors[0], allow=make(FLAGS)),
        lambda: idx.search_batch(vectors, allow=make(FLAGS)),
        lambda: idx.remove(make(FLAGS)),
    ):
        with pytest.raises(ValueError, match=r"would be read as ids 0 and 1; (.*; )?pass"):
            call()
    assert idx.to_bytes() == before


DTYPES = ["u1", "i1", "i4", "i8", ">i8", "u4"]


@pytest.mark.parametrize("make", [*DTYPES, list, tuple, pd.Series, pl.Series, pa.array, iter])
@pytest.mark.parametrize("change", ["remove", "add"])
def test_flags_for_the_rows_of_before_are_not_ids(idx, vectors, change, make):
    def flags():
        return FLAGS.astype(make) if isinstance(make, str) else make(FLAGS.astype(int).tolist())

    if change == "remove":
        idx.remove([3])
    else:
        idx.add(None, vectors[0])
    before = idx.to_bytes()
    backend = ruvector.LocalBackend("b")
    backend.put_collection("docs", range(N), vectors)
    for call in (
        lambda: idx.search(vectors[0], allow=flags()),
        lambda: idx.search_batch(vectors, allow=flags()),
        lambda: idx.remove(flags()),
        lambda: backend.remove("docs", flags()),
    ):
        with pytest.raises(ValueError, match=f"{N} zeros and ones, some repeated, .* for ids pass"):
            call()
    assert idx.to_bytes() == before
    assert len(backend.pull_vectors("docs").ids) == N


@pytest.mark.parametrize("values", [[0], [1], [0, 1], [1, 0]])
@pytest.mark.parametrize("make", [*DTYPES, "u8", list, pd.Series])
def test_zeros_and_ones_without_repeats_are_ids(idx, vectors, values, make):
    ids = np.array(values, make) if isinstance(make, str) else make(values)
    assert found(idx, vectors, ids) == set(values)
    assert idx.remove(ids) == len(values)


def test_results_are_ids_however_often_they_name_a_row(cls, vectors):
    few, idx = build(cls, vectors[:2]), build(cls, vectors)
    ids, _ = few.search_batch(vectors[:5], k=2)
    assert ids.dtype == np.uint64
    assert sorted(ids.ravel()) == 5 * [0] + 5 * [1]
    assert found(idx, vectors, ids.ravel()) == {0, 1}
    padded, _ = few.search_batch(vectors[:5], k=3)
    assert found(idx, vectors, padded.ravel().astype(np.int64)) == {0, 1}
    assert idx.remove(padded.ravel().astype(np.int64)) == 2
    with pytest.raises(ValueError, match="would be read as ids"):
        few.search_batch(vectors[:1], allow=ids[0] * 0)  # one for each row


def test_zeros_and_ones_that_can_only_be_ids_are(cls, idx, vectors):
    assert found(idx, vectors, [0, 1, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0]) == {0, 1, 2}
    two = build(cls, vectors[:2])
    assert found(two, vectors, [1, 0]) == {0, 1}
    with pytest.raises(ValueError, match=r"allow\.astype\(bool\)|dtype=bool"):
        two.search(vectors[0], allow=[1, 1])
    one = build(cls, vectors[:1])
    assert found(one, vectors, [0]) == {0}
    assert found(one, vectors, [1]) == set()
    assert two.remove([0, 1]) == 2


def test_flags_as_bools_are_a_mask(idx, vectors):
    for make in (
        np.asarray,
        list,
        pd.Series,
        pl.Series,
        pa.array,
        lambda f: pd.Series(f, dtype="boolean"),
    ):
        assert found(idx, vectors, make(FLAGS)) == set(np.flatnonzero(FLAGS).tolist())


# ---- ids for each query ------------------------------------------------------------------


@pytest.mark.parametrize(
    "nested",
    [
        [[0, 7, 9], [1, 5]],
        [[0, 7], [1, 5]],
        np.array([[0, 7], [1, 5]]),
        [np.array([0]), np.array([1])],
    ],
)
def test_ids_for_each_query_are_refused_with_what_works(idx, vectors, nested):
    with pytest.raises(ValueError, match=r"call \[index\.search\(query, allow=ids\) for") as caught:
        idx.search_batch(vectors[:2], k=2, allow=nested)
    call = str(caught.value).split("; call ")[1]
    hits = eval(call, {"index": idx, "queries": vectors[:2], "allow": nested})
    assert [{h.id for h in some} for some in hits] == [set(map(int, some)) for some in nested]
    with pytest.raises(ValueError, match=r"\[i for some in allow for i in some\]"):
        idx.search(vectors[0], allow=nested)
