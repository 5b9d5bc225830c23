"""Queries of every real dtype and layout, `convert=True`, and masked values."""

from __future__ import annotations

import array
import asyncio

import ml_dtypes
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import ruvector
from oracle import build

DIM = 8
LARGEST = float(np.finfo(np.float32).max)


@pytest.fixture
def vectors(rng):
    """Whole numbers, so that every dtype below holds them."""
    return rng.integers(-50, 50, (40, DIM)).astype(np.float32)


@pytest.fixture
def idx(cls, vectors):
    return build(cls, vectors)


def wider(matrix):
    """The matrix, as every second value of every second row of another."""
    big = np.full((2 * len(matrix), 2 * matrix.shape[1]), np.nan, matrix.dtype)
    big[::2, ::2] = matrix
    return big[::2, ::2]


def shifted(matrix):
    data = bytearray(1 + matrix.nbytes)
    data[1:] = matrix.tobytes()
    return np.frombuffer(data, np.uint8)[1:].view(matrix.dtype).reshape(matrix.shape)


FORMS = {
    "float64": lambda m: m.astype(np.float64),
    "float16": lambda m: m.astype(np.float16),
    "long double": lambda m: m.astype(np.longdouble),
    "int8": lambda m: m.astype(np.int8),
    "int64": lambda m: m.astype(np.int64),
    "big-endian": lambda m: m.astype(">f4"),
    "big-endian doubles": lambda m: m.astype(">f8"),
    "bfloat16": lambda m: m.astype(ml_dtypes.bfloat16),
    "Fortran": np.asfortranarray,
    "Fortran doubles": lambda m: np.asfortranarray(m.astype(np.float64)),
    "strided": wider,
    "strided doubles": lambda m: wider(m.astype(np.float64)),
    "reversed": lambda m: m[::-1].copy()[::-1],
    "not aligned": shifted,
    "DataFrame": pd.DataFrame,
    "polars frame": lambda m: pl.DataFrame({str(j): m[:, j] for j in range(m.shape[1])}),
    "masked, none is": lambda m: np.ma.masked_array(m.astype(np.float64), mask=m > 1e9),
}


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


# ---- queries -------------------------------------------------------------------------


def test_a_query_of_any_form_is_searched_as_float32(idx, vectors, form):
    queries = vectors[:7] + 1
    ids, scores = idx.search_batch(queries, 5)
    found = idx.search_batch(form(queries), 5)
    assert np.array_equal(found[0], ids)
    assert np.array_equal(found[1], scores)
    one = form(queries[2:3])
    expected = list(zip(ids[2].tolist(), scores[2].tolist()))
    assert idx.search(one, 5) == expected  # of shape (1, dim)


@pytest.mark.parametrize(
    "make",
    [
        lambda q: q.astype(np.float64),
        lambda q: q.astype(np.float16),
        lambda q: q.astype(int),
        lambda q: np.repeat(q, 2)[::2],
        lambda q: q[::-1].copy()[::-1],
        lambda q: q[None].astype(np.float64),
        lambda q: [q.tolist()],
        lambda q: array.array("d", q),
        pd.Series,
        lambda q: pd.Series(q, dtype="Float64"),
        pl.Series,
        pa.array,
        lambda q: pa.chunked_array([pa.array(q)]),
        lambda q: [np.float16(x) for x in q],
        lambda q: [ml_dtypes.bfloat16(x) for x in q],
        memoryview,
    ],
)
def test_one_query_of_any_kind(idx, vectors, make):
    assert idx.search(make(vectors[3]), 4) == idx.search(vectors[3], 4)


def test_doubles_are_rounded_to_the_nearest_float(vectors, rng):
    idx = ruvector.FlatF32Index.build(vectors)
    queries = rng.standard_normal((20, DIM)) * 1e-3
    for query in queries:
        assert idx.search(query) == idx.search(query.astype(np.float32))


def test_a_vector_stands_for_a_batch_of_one(idx, vectors):
    ids, scores = idx.search_batch(vectors[3], 4)
    assert ids.shape == scores.shape == (1, 4)
    assert list(zip(ids[0].tolist(), scores[0].tolist())) == idx.search(vectors[3], 4)
    for nothing in ([], np.array([])):
        with pytest.raises(ValueError, match=r"np\.empty\(\(0, dim\), dtype=np\.float32\)"):
            idx.search_batch(nothing)
    assert idx.search_batch(np.empty((0, DIM)))[0].shape == (0, 10)


def test_tune_takes_queries_of_any_form(vectors, form, rng):
    queries = rng.integers(-50, 50, (8, DIM)).astype(np.float32)
    one, two = (ruvector.RabitqPlusIndex.build(vectors) for _ in range(2))
    assert one.tune(form(queries), k=3) == two.tune(queries, k=3)


@pytest.mark.parametrize("value", [np.nextafter(LARGEST, np.inf), 1e39, -1e300])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray, list])
def test_numbers_beyond_float32_are_refused(idx, vectors, value, layout):
    """np.float32(value) of the first rounds to the largest float; still it is not one."""
    queries = vectors[:3].astype(np.float64)
    queries[1, 2] = value
    with pytest.raises(ValueError, match=r"queries: .* is beyond float32, which ends at 3\.4e38"):
        idx.search_batch(layout(queries))
    with pytest.raises(ValueError, match=r"query: .* beyond float32"):
        idx.search(queries[1])


@pytest.mark.filterwarnings("error")
def test_refusing_a_number_warns_of_nothing(idx, vectors):
    with pytest.raises(ValueError, match="beyond"):
        idx.search(vectors[0].astype(np.float64) * 1e300)
    before = idx.to_bytes()
    with pytest.raises(ValueError, match="beyond"):
        idx.add_batch(vectors.astype(np.float64) * 1e300, convert=True)
    assert idx.to_bytes() == before


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.longdouble, ">f8"])
def test_what_is_not_finite_stays_refused(idx, vectors, value, dtype):
    queries = vectors[:3].astype(dtype)
    queries[1, 2] = value
    message = "1 holds (NaN|infinity) at position 2"
    with pytest.raises(ValueError, match=message):
        idx.search_batch(queries)
    with pytest.raises(ValueError, match=message):
        idx.add_batch(queries, convert=True)


@pytest.mark.parametrize(
    "query", [np.zeros(DIM, complex), np.zeros(DIM, bool), np.zeros(DIM, "U3")]
)
def test_what_is_no_number_stays_refused(idx, query):
    with pytest.raises(TypeError, match="expected dtype float32, got"):
        idx.search(query)
    with pytest.raises(TypeError, match="expected dtype float32, got"):
        idx.add(None, query, convert=True)


# ---- a lake ----------------------------------------------------------------------------


@pytest.fixture
def lake(vectors):
    lake = ruvector.RuLake()
    for name in "ab":
        backend = ruvector.LocalBackend(name)
        backend.put_collection("docs", np.arange(40), vectors)
        lake.register_backend(backend)
    return lake


def test_a_lake_takes_queries_of_any_form(lake, vectors, form):
    queries = vectors[:3] + 1
    hits = [lake.search_one("docs", q, 5, backend="a") for q in queries]
    assert lake.search_batch("docs", form(queries), 5, backend="a") == hits
    one = form(queries[1:2])
    assert lake.search_one("docs", one, 5, backend="a") == hits[1]
    both = lake.search_federated("docs", queries[1], 5)
    assert lake.search_federated("docs", one, 5) == both

    async def awaited():
        assert await lake.search_one_async("docs", one, 5, backend="a") == hits[1]
        assert await lake.search_batch_async("docs", form(queries), 5, backend="a") == hits
        assert await lake.search_federated_async("docs", one, 5) == both

    asyncio.run(awaited())
    with lake.session() as s:
        assert s.search_one("docs", one, 5, backend="a") == hits[1]


def test_a_lake_refuses_numbers_beyond_float32(lake, vectors):
    for query in (
        vectors[0].astype(np.float64) * 1e300,
        (vectors[0].astype(np.float64) * 1e300).tolist(),
    ):
        for search in (
            lambda q=query: lake.search_one("docs", q, backend="a"),
            lambda q=query: lake.search_batch("docs", [q], backend="a"),
            lambda q=query: lake.search_federated("docs", q),
        ):
            with pytest.raises(ValueError, match="beyond float32"):
                search()


# ---- convert=True ----------------------------------------------------------------------


def test_convert_makes_what_float32_would_have_made(cls, vectors, form):
    idx = cls.build(form(vectors), convert=True)
    assert idx.to_bytes() == cls.build(vectors).to_bytes()
    more = vectors[:4] + 1
    other = cls.build(vectors)
    assert idx.add_batch(form(more), convert=True).tolist() == other.add_batch(more).tolist()
    idx.upsert([3, 50], form(more[:2]), convert=True)
    other.upsert([3, 50], more[:2])
    row = np.asarray(form(more[:1]))[0]
    assert idx.add(99, row, convert=True) == other.add(99, more[0]) == 99
    assert idx == other


def test_convert_leaves_float32_where_it_lies(cls, vectors):
    vectors.flags.writeable = False
    assert cls.build(vectors, convert=True) == cls.build(vectors)


def test_without_convert_nothing_is_copied(cls, idx, vectors):
    before = idx.to_bytes()
    doubles = vectors.astype(np.float64)
    for call in (
        lambda **o: cls.build(doubles, **o),
        lambda **o: idx.add_batch(doubles, **o),
        lambda **o: idx.upsert(range(40), doubles, **o),
        lambda **o: idx.add(None, doubles[0], **o),
    ):
        for options in ({}, {"convert": False}):
            with pytest.raises(TypeError, match="convert=True"):
                call(**options)
    assert idx.to_bytes() == before


# ---- masked values -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_masked_values_are_refused_everywhere(cls, idx, vectors, dtype):
    mask = np.zeros(vectors.shape, bool)
    mask[5, 2] = True
    masked = np.ma.masked_array(vectors.astype(dtype), mask)
    before = idx.to_bytes()
    for call in (
        lambda: cls.build(masked),
        lambda: cls.build(masked, convert=True),
        lambda: cls.build(list(masked)),
        lambda: cls.build(tuple(masked)),
        lambda: idx.add_batch(masked, convert=True),
        lambda: idx.upsert(range(40), masked, convert=True),
        lambda: idx.add(None, masked[5], convert=True),
        lambda: idx.search(masked[5]),
        lambda: idx.search_batch(masked),
    ):
        with pytest.raises(ValueError, match="values are masked"):
            call()
    assert idx.to_bytes() == before
    assert cls.build(masked[:5], convert=True) == cls.build(vectors[:5])


def test_masked_ids_are_refused_everywhere(cls, idx, vectors):
    masked = np.ma.masked_array([1, 2, 3], [False, True, False])
    before = idx.to_bytes()
    for call in (
        lambda: cls.build(vectors[:3], ids=masked),
        lambda: idx.add_batch(vectors[:3], ids=masked + 100),
        lambda: idx.upsert(masked, vectors[:3]),
        lambda: idx.remove(masked),
        lambda: idx.search(vectors[0], allow=masked),
        lambda: idx.search_batch(vectors, allow=masked),
        lambda: idx.search(
            vectors[0], allow=np.ma.masked_array(np.ones(40, bool), vectors[:, 0] > 0)
        ),
    ):
        with pytest.raises(ValueError, match="values are masked"):
            call()
    assert idx.to_bytes() == before
    assert [h.id for h in idx.search(vectors[0], allow=masked[:1])] == [1]
    assert idx.remove(masked[:1]) == 1


def test_a_lake_refuses_masked_values(lake, vectors):
    backend = ruvector.LocalBackend("c")
    rows = np.ma.masked_array(vectors, vectors == vectors[0, 0])
    ids = np.ma.masked_array([1, 2, 3], [False, True, False])
    backend.put_collection("docs", [1, 2, 3], vectors[:3])
    for call in (
        lambda: lake.search_one("docs", rows[0], backend="a"),
        lambda: lake.search_batch("docs", rows, backend="a"),
        lambda: lake.search_federated("docs", rows[0]),
        lambda: backend.put_collection("docs", range(40), rows),
        lambda: backend.upsert("docs", ids, vectors[:3]),
        lambda: backend.append("docs", 7, rows[0]),
        lambda: backend.remove("docs", ids),
    ):
        with pytest.raises(ValueError, match="values are masked"):
            call()
    assert backend.generation("docs") == 1
