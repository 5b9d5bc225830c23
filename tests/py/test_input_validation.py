"""Bad input: the class of the error, its attributes, a message that names the fix,
and an index that is as it was."""

from __future__ import annotations

import array
import collections
import tracemalloc

import numpy as np
import pytest
import ruvector
from oracle import build

DIM = 6
NAN, INF = float("nan"), float("inf")


@pytest.fixture
def vectors(rng):
    return rng.standard_normal((20, DIM)).astype(np.float32)


@pytest.fixture
def idx(cls, vectors):
    return build(cls, vectors, ids=np.arange(100, 120))


def with_value(value):
    bad = np.zeros((3, DIM), np.float32)
    bad[1, 4] = value
    return bad


# ---- vectors ---------------------------------------------------------------------

AS_FLOAT32 = r"np\.ascontiguousarray\({name}, dtype=np\.float32\)"
OR_CONVERT = r".*convert=True.*" + AS_FLOAT32

# Queries of these kinds are converted.
STRICT_MATRICES = {
    "float64": (lambda: np.zeros((3, DIM)), TypeError, "float64" + OR_CONVERT),
    "float16": (lambda: np.zeros((3, DIM), np.float16), TypeError, "float16" + OR_CONVERT),
    "int32": (lambda: np.zeros((3, DIM), np.int32), TypeError, "int32" + OR_CONVERT),
    "other byte order": (
        lambda: np.zeros((3, DIM), np.dtype(np.float32).newbyteorder()),
        TypeError,
        "f4" + OR_CONVERT,
    ),
    "one dimension": (
        lambda: np.zeros(DIM, np.float32),
        ValueError,
        r"\(n, dim\), got \(6,\).*reshape",
    ),
    "Fortran order": (lambda: np.zeros((3, DIM), np.float32, order="F"), ValueError, OR_CONVERT),
    "every second column": (
        lambda: np.zeros((3, 2 * DIM), np.float32)[:, ::2],
        ValueError,
        OR_CONVERT,
    ),
    "reversed rows": (lambda: np.zeros((3, DIM), np.float32)[::-1], ValueError, OR_CONVERT),
    "not aligned": (
        lambda: np.frombuffer(bytes(1 + 12 * DIM), np.uint8)[1:].view(np.float32).reshape(3, DIM),
        ValueError,
        r"{name}\.copy\(\)",
    ),
    "buffer of doubles": (lambda: array.array("d", [0.0] * DIM), TypeError, "float64"),
}
BAD_MATRICES = {
    "bool": (lambda: np.zeros((3, DIM), bool), TypeError, "bool.*" + AS_FLOAT32),
    "complex": (lambda: np.zeros((3, DIM), np.complex64), TypeError, "complex64"),
    "object": (lambda: np.zeros((3, DIM), object), TypeError, "object"),
    "three dimensions": (lambda: np.zeros((3, 1, DIM), np.float32), ValueError, r"got \(3, 1, 6\)"),
    "no dimension": (lambda: np.float32(1), ValueError, r"got \(\)"),
    "rows of unequal length": (
        lambda: [[1.0] * DIM, [1.0]],
        (ValueError, TypeError),
        "equal length",
    ),
    "strings": (lambda: [["1"] * DIM], TypeError, "numbers"),
    "bools": (lambda: [[True] * DIM], TypeError, "bool"),
    "None inside": (lambda: [[None] * DIM], TypeError, "object"),
    "empty list": (list, ValueError, r"got \(0,\)"),
    "None": (lambda: None, TypeError, "NoneType"),
    "str": (lambda: "vectors", TypeError, "str"),
    "number": (lambda: 3.5, TypeError, "float"),
    "dict": (lambda: {1: [1.0] * DIM}, TypeError, "dict"),
    "set": (lambda: {1.0}, TypeError, "set"),
    "generator": (lambda: (row for row in [[1.0] * DIM]), TypeError, "generator"),
    "NaN": (lambda: with_value(NAN), ValueError, "1 holds NaN at position 4.*finite"),
    "infinity": (lambda: with_value(INF), ValueError, "1 holds inf.*at position 4"),
    "minus infinity": (lambda: with_value(-INF), ValueError, "inf.*at position 4"),
    "squares overflow": (lambda: with_value(3e38), ValueError, "norm"),
    "list of NaN": (lambda: with_value(NAN).tolist(), ValueError, "NaN"),
}

MATRIX_CALLS = {
    "build": ("vectors", lambda idx, m: type(idx).build(m)),
    "add_batch": ("vectors", lambda idx, m: idx.add_batch(m)),
    "upsert": ("vectors", lambda idx, m: idx.upsert([1, 2, 3], m)),
    "search_batch": ("queries", lambda idx, m: idx.search_batch(m)),
}


BAD_CALLS = [
    *((case, call) for case in BAD_MATRICES for call in MATRIX_CALLS),
    *((case, call) for case in STRICT_MATRICES for call in MATRIX_CALLS if call != "search_batch"),
]


@pytest.mark.parametrize(("case", "call"), BAD_CALLS)
def test_bad_matrix(idx, case, call):
    make, error, message = {**BAD_MATRICES, **STRICT_MATRICES}[case]
    name, function = MATRIX_CALLS[call]
    before = idx.to_bytes()
    with pytest.raises(error, match="(?s)" + message.replace("{name}", name)):
        function(idx, make())
    assert idx.to_bytes() == before


STRICT_VECTORS = {
    "float64": (lambda: np.zeros(DIM), TypeError, OR_CONVERT),
    "every second value": (lambda: np.zeros(2 * DIM, np.float32)[::2], ValueError, OR_CONVERT),
    "a row": (
        lambda: np.zeros((1, DIM), np.float32),
        ValueError,
        r"\(dim,\), got \(1, 6\).*reshape\({name}, -1\)",
    ),
}
BAD_VECTORS = {
    "two rows": (
        lambda: np.zeros((2, DIM), np.float32),
        ValueError,
        r"\(dim,\), got \(2, 6\).*_batch",
    ),
    "NaN": (lambda: with_value(NAN)[1].copy(), ValueError, "NaN at position 4"),
    "infinity": (lambda: with_value(INF)[1].copy(), ValueError, "infinity at position 4"),
    "strings": (lambda: ["1"] * DIM, TypeError, "numbers"),
    "None": (lambda: None, TypeError, "NoneType"),
}
VECTOR_CALLS = {
    "search": ("query", lambda idx, v: idx.search(v)),
    "add": ("vector", lambda idx, v: idx.add(7, v)),
}


@pytest.mark.parametrize(
    ("case", "call"),
    [
        *((case, call) for case in BAD_VECTORS for call in VECTOR_CALLS),
        *((case, "add") for case in STRICT_VECTORS),
    ],
)
def test_bad_vector(idx, case, call):
    make, error, message = {**BAD_VECTORS, **STRICT_VECTORS}[case]
    name, function = VECTOR_CALLS[call]
    before = idx.to_bytes()
    with pytest.raises(error, match=message.replace("{name}", name)):
        function(idx, make())
    assert idx.to_bytes() == before


@pytest.mark.parametrize("length", [0, 1, DIM - 1, DIM + 1, 10_000])
def test_wrong_dimension(idx, length):
    before = idx.to_bytes()
    one, many = np.ones(length, np.float32), np.ones((2, length), np.float32)
    for function in (
        lambda: idx.search(one),
        lambda: idx.search_batch(many),
        lambda: idx.add(1, one),
        lambda: idx.add_batch(many),
        lambda: idx.upsert([1, 100], many),
    ):
        with pytest.raises(ruvector.DimensionMismatch, match=f"{length}.*{DIM}; make") as caught:
            function()
        assert (caught.value.expected, caught.value.actual) == (DIM, length)
        assert isinstance(caught.value, ValueError)
    assert idx.to_bytes() == before


@pytest.mark.parametrize("dim", [0, 8193, 100_000])
def test_dimension_no_index_can_have(cls, dim):
    with pytest.raises(ValueError, match=f"1..8192, got {dim}"):
        cls.build(np.zeros((2, dim), np.float32))


def test_largest_dimension(cls, rng):
    vectors = rng.standard_normal((3, 8192)).astype(np.float32)
    idx = build(cls, vectors)
    assert idx.search(vectors[2], k=1)[0].id == 2


@pytest.mark.parametrize(
    "make",
    [
        lambda v: v.tolist(),
        lambda v: tuple(map(tuple, v.tolist())),
        lambda v: list(v),
        lambda v: collections.UserList(v.tolist()),
        lambda v: memoryview(v),
    ],
    ids=["lists", "tuples", "list of arrays", "a sequence class", "memoryview"],
)
def test_matrices_that_are_no_arrays(cls, vectors, make):
    assert cls.build(make(vectors)) == cls.build(vectors)


def test_integers_in_lists_are_numbers(cls):
    assert cls.build([[1, 2], [3, 4]]) == cls.build(np.array([[1, 2], [3, 4]], np.float32))


def test_vectors_that_are_no_arrays(idx, vectors):
    expected = idx.search(vectors[4])
    for query in (vectors[4].tolist(), tuple(vectors[4].tolist()), list(vectors[4])):
        assert idx.search(query) == expected
    assert idx.search(array.array("f", vectors[4])) == expected


def test_arguments_are_never_written_to(cls, vectors):
    vectors.flags.writeable = False
    ids = np.arange(20, dtype=np.uint64)
    ids.flags.writeable = False
    idx = cls.build(vectors, ids=ids)
    idx.search(vectors[0], allow=ids)
    idx.search_batch(vectors)


# ---- ids ---------------------------------------------------------------------------

BAD_IDS = {
    "negative": (lambda: [1, -1, 2], ValueError, "-1.*0..2"),
    "negative in an array": (lambda: np.array([1, 2, -7]), ValueError, r"-7 \(position 2\)"),
    "too large": (lambda: [1, 2, 2**64], ValueError, "18446744073709551616"),
    "the reserved one": (lambda: [1, 2, ruvector.NO_ID], ValueError, "reserved"),
    "floats": (lambda: [1.0, 2.0, 3.0], TypeError, "expected an int, got float"),
    "float array": (lambda: np.zeros(3), TypeError, r"float64.*ids\.astype\(np\.uint64\)"),
    "bools": (lambda: [True, False, True], TypeError, "bool"),
    "bool array": (lambda: np.ones(3, bool), TypeError, "bool"),
    "strings": (lambda: ["1", "2", "3"], TypeError, "str"),
    "a str": (lambda: "123", TypeError, "str"),
    "a set": (lambda: {1, 2, 3}, TypeError, r"no order.*sorted\(ids\)"),
    "a dict": (lambda: {1: 0, 2: 0, 3: 0}, TypeError, r"list\(ids\)"),
    "bytes": (lambda: b"123", TypeError, "bytes"),
    "two dimensions": (lambda: np.zeros((3, 1), int), ValueError, r"\(n,\), got \(3, 1\)"),
    "too few": (lambda: [1, 2], ValueError, "2 ids for 3 vectors"),
    "too many": (lambda: [1, 2, 3, 4], ValueError, "4 ids for 3 vectors"),
    "one int": (lambda: 5, TypeError, "int"),
}
ID_CALLS = {
    "build": lambda idx, v, ids: type(idx).build(v, ids=ids),
    "add_batch": lambda idx, v, ids: idx.add_batch(v, ids=ids),
    "upsert": lambda idx, v, ids: idx.upsert(ids, v),
}


@pytest.mark.parametrize("call", ID_CALLS)
@pytest.mark.parametrize("case", BAD_IDS)
def test_bad_ids(idx, vectors, case, call):
    make, error, message = BAD_IDS[case]
    before = idx.to_bytes()
    with pytest.raises(error, match=message):
        ID_CALLS[call](idx, vectors[:3], make())
    assert idx.to_bytes() == before


@pytest.mark.parametrize("call", ID_CALLS)
def test_an_id_twice_in_one_call(idx, vectors, call):
    before = idx.to_bytes()
    with pytest.raises(ruvector.DuplicateId, match="77") as caught:
        ID_CALLS[call](idx, vectors[:3], [77, 5, 77])
    assert caught.value.id == 77
    assert isinstance(caught.value, ValueError)
    assert idx.to_bytes() == before


def test_an_id_that_is_there_already(idx, vectors):
    before = idx.to_bytes()
    for function in (
        lambda: idx.add(103, vectors[0]),
        lambda: idx.add_batch(vectors[:2], ids=[5, 103]),
    ):
        with pytest.raises(ruvector.DuplicateId, match=r"103.*upsert") as caught:
            function()
        assert caught.value.id == 103
    assert idx.to_bytes() == before


@pytest.mark.parametrize("bad", [-1, 2**64 - 1, 2**64, 1.0, True, "1", None, [1]])
def test_bad_single_id(idx, vectors, bad):
    before = idx.to_bytes()
    if bad is not None:  # None means: the next one
        with pytest.raises((TypeError, ValueError)):
            idx.add(bad, vectors[0])
    with pytest.raises((TypeError, ValueError)):
        idx[bad]
    assert idx.to_bytes() == before


@pytest.mark.parametrize("bad", [1.0, True, "1", None, [1.5], [[1]], [True], b"1"])
def test_what_cannot_be_removed(idx, bad):
    before = idx.to_bytes()
    with pytest.raises((TypeError, ValueError)):
        idx.remove(bad)
    assert idx.to_bytes() == before


@pytest.mark.parametrize("id", [-1, -(2**63), -(2**70), 2**64 - 1, 2**64, 2**100])
def test_the_largest_id_is_named(idx, vectors, id):
    with pytest.raises(ValueError, match=rf"id: {id} is not in 0\.\.2\^64-2"):
        idx.add(id, vectors[0])
    assert idx.add(2**64 - 2, vectors[0]) == 2**64 - 2
    if id != 2**64 - 1:
        with pytest.raises(ValueError, match=rf"ids: {id} \(position 1\) is not in 0\.\.2\^64-2"):
            idx.upsert([1, id], vectors[:2])


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int8, np.int16, np.uint32, np.int64, np.uint64, ">i4", ">u8"]
)
def test_every_integer_dtype_holds_ids(cls, vectors, dtype):
    idx = cls.build(vectors, ids=np.arange(20).astype(dtype))
    assert idx == cls.build(vectors)


@pytest.mark.parametrize(
    "ids", [range(3), (2, 5, 9), [np.uint64(4), np.int8(1), 3], {3: 0, 5: 0, 4: 0}.keys()]
)
def test_every_iterable_of_ints_holds_ids(cls, vectors, ids):
    assert cls.build(vectors[:3], ids=ids).ids.tolist() == [int(i) for i in ids]


def test_ids_of_every_size(cls, vectors):
    ids = [2**64 - 2, 0, 2**63, 2**32, 2**53 + 1]
    idx = cls.build(vectors[:5], ids=ids)
    assert idx.ids.tolist() == ids
    assert idx.ids.dtype == np.uint64
    assert sorted(h.id for h in idx.search(vectors[0], k=9)) == sorted(ids)
    assert all(id in idx for id in ids)


# ---- numbers -------------------------------------------------------------------------


@pytest.mark.parametrize("k", [0, -1, -(2**70)])
def test_k_below_one(idx, vectors, k):
    for function in (idx.search, lambda q, k: idx.search_batch([q.tolist()], k)):
        with pytest.raises(ValueError, match=f"k must be at least 1, got {k}"):
            function(vectors[0], k)


@pytest.mark.parametrize("k", [1.0, "3", None, True, [1]])
def test_k_that_is_no_int(idx, vectors, k):
    with pytest.raises(TypeError, match="k: expected an int"):
        idx.search(vectors[0], k)


@pytest.mark.parametrize("k", [21, 65, 2**32, 2**62, 2**64, 2**100])
def test_k_beyond_the_number_of_vectors(idx, vectors, k):
    assert len(idx.search(vectors[0], k)) == 20


@pytest.mark.parametrize("k", [10**8, 10**9, 2**62, 2**64, 2**100])
def test_batches_that_would_be_padding(idx, vectors, k):
    with pytest.raises(ValueError, match=r"the index holds 20 vectors.*k=min\(k, len\(index\)"):
        idx.search_batch(vectors, k)
    ids, _ = idx.search_batch(vectors, k=min(k, len(idx)))
    assert (np.sort(ids) == np.arange(100, 120)).all()


def test_batches_padded_beyond_the_rows(idx, vectors):
    ids, scores = idx.search_batch(vectors[:2], k=100_000)
    assert ids.shape == scores.shape == (2, 100_000)
    assert (ids[:, 20:] == ruvector.NO_ID).all()
    assert not np.isfinite(scores[:, 20:]).any()


def test_a_batch_of_an_empty_index_says_so_for_every_k(vectors):
    empty = ruvector.FlatF32Index.build(vectors)
    empty.remove(empty.ids)
    for k in (1, 10**9, 2**64):
        with pytest.raises(ruvector.EmptyIndex):
            empty.search_batch(vectors, k)


def test_large_k_takes_no_memory(idx, vectors):
    """Python's memory and NumPy's; test_search.c counts the library's own."""
    tracemalloc.start()
    try:
        assert len(idx.search(vectors[0], k=10**9)) == 20
        with pytest.raises(ValueError, match="k=min"):
            idx.search_batch(vectors, k=10**9)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


RERANKED = (ruvector.RabitqPlusIndex, ruvector.RabitqAsymIndex)


@pytest.mark.parametrize("where", ["build", "search", "search_batch"])
@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("epsilon", 0, ValueError),
        ("epsilon", -1.9, ValueError),
        ("epsilon", NAN, ValueError),
        ("epsilon", INF, ValueError),
        ("epsilon", 1e-60, ValueError),
        ("epsilon", "1.9", TypeError),
        ("rerank_factor", 0, ValueError),
        ("rerank_factor", -1, ValueError),
        ("rerank_factor", 1025, ValueError),
        ("rerank_factor", 2**70, ValueError),
        ("rerank_factor", 1.5, TypeError),
        ("rerank_factor", True, TypeError),
    ],
)
def test_bad_search_options(cls, vectors, where, option, value, error):
    if cls not in RERANKED:
        value, error = 1, TypeError
    idx = build(cls, vectors)
    functions = {
        "build": lambda: cls.build(vectors, **{option: value}),
        "search": lambda: idx.search(vectors[0], **{option: value}),
        "search_batch": lambda: idx.search_batch(vectors, **{option: value}),
    }
    with pytest.raises(error, match=option):
        functions[where]()


def test_options_a_class_has_no_use_for_are_named(vectors):
    with pytest.raises(TypeError, match=r"FlatF32Index\.build\(\) takes no n_lists"):
        ruvector.FlatF32Index.build(vectors, n_lists=2)
    with pytest.raises(TypeError, match=r"FlatF32Index\.build\(\) takes no bits"):
        ruvector.FlatF32Index.build(vectors, bits=1)
    with pytest.raises(TypeError, match=r"FlatF32Index\.search_batch\(\) takes no nprobe"):
        ruvector.FlatF32Index.build(vectors).search_batch(vectors, nprobe=2)
    with pytest.raises(TypeError, match=r"RabitqIndex\.search\(\) takes no max_rerank"):
        ruvector.RabitqIndex.build(vectors).search(vectors[0], max_rerank=20)


def test_max_rerank_below_k(vectors):
    idx = ruvector.RabitqPlusIndex.build(vectors)
    with pytest.raises(ValueError, match="max_rerank is 5 but k is 10"):
        idx.search(vectors[0], 10, max_rerank=5)


CODED = (*RERANKED, ruvector.RabitqIndex)


@pytest.fixture(params=CODED, ids=lambda cls: cls.__name__)
def coded(request):
    return request.param


@pytest.mark.parametrize("n_lists", [0, -1, 65537, 2**40, 2**70])
def test_bad_number_of_lists(coded, vectors, n_lists):
    with pytest.raises(ValueError, match=rf"n_lists must be 1\.\.65536, or None.*got {n_lists}"):
        coded.build(vectors, n_lists=n_lists)


@pytest.mark.parametrize(("n", "n_lists"), [(20, 65), (4159, 65), (6464, 102), (20, 65536)])
def test_more_lists_than_rows_can_fill(coded, rng, n, n_lists):
    vectors = rng.standard_normal((n, DIM)).astype(np.float32)
    with pytest.raises(ValueError, match=f"n_lists is {n_lists}: {n} rows.*{max(64, n // 64)}"):
        coded.build(vectors, n_lists=n_lists)


@pytest.mark.parametrize("bits", [0, -1, 9, 2**32 + 1, 2**70])
def test_bad_number_of_bits(coded, vectors, bits):
    with pytest.raises(ValueError, match=rf"bits must be 1\.\.8, got {bits}"):
        coded.build(vectors, bits=bits)


@pytest.mark.parametrize("bits", [1.0, True, "4", None, [4]])
def test_bits_that_are_no_int(coded, vectors, bits):
    with pytest.raises(TypeError, match="bits: expected an int"):
        coded.build(vectors, bits=bits)


@pytest.mark.parametrize("nprobe", [0, -1, 65537, 2**32, 2**70, "every", "ALL", ""])
def test_bad_number_of_lists_to_look_into(coded, vectors, nprobe):
    idx = coded.build(vectors)
    message = rf"nprobe must be 1\.\.65536, 'all', or None for the default, got .*{nprobe}"
    for function in (
        lambda: idx.search(vectors[0], nprobe=nprobe),
        lambda: idx.search_batch(vectors, nprobe=nprobe),
    ):
        with pytest.raises(ValueError, match=message):
            function()


@pytest.mark.parametrize("nprobe", [1.0, True, b"all", [1]])
def test_lists_to_look_into_that_are_no_int(coded, vectors, nprobe):
    with pytest.raises(TypeError, match="nprobe: expected an int"):
        coded.build(vectors).search(vectors[0], nprobe=nprobe)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed_out_of_range(cls, vectors, seed):
    with pytest.raises(ValueError, match="seed"):
        cls.build(vectors, seed=seed)


@pytest.mark.parametrize("seed", [1.5, "1", None])
def test_seed_that_is_no_int(cls, vectors, seed):
    with pytest.raises(TypeError, match="seed: expected an int"):
        cls.build(vectors, seed=seed)


@pytest.mark.parametrize(
    ("metric", "error"), [("L2", ValueError), ("", ValueError), (2, TypeError)]
)
def test_bad_metric(cls, vectors, metric, error):
    with pytest.raises(error, match="metric"):
        cls.build(vectors, metric=metric)


@pytest.mark.parametrize("n", [-1, 1025, 2**40])
def test_bad_number_of_threads(n):
    before = ruvector.get_num_threads()
    with pytest.raises(ValueError, match="n"):
        ruvector.set_num_threads(n)
    assert ruvector.get_num_threads() == before


def test_progress_that_cannot_be_called(idx, vectors):
    before = idx.to_bytes()
    with pytest.raises(TypeError, match="progress: expected a function"):
        idx.add_batch(vectors, progress=3)
    with pytest.raises(TypeError, match="progress: expected a function"):
        type(idx).build(vectors, progress=True)
    assert idx.to_bytes() == before


# ---- allow ---------------------------------------------------------------------------

BAD_ALLOW = {
    "mask too short": (lambda: np.ones(19, bool), ValueError, "19 entries.*20 rows"),
    "mask too long": (lambda: np.ones(21, bool), ValueError, "21 entries.*20 rows"),
    "list of bools too short": (lambda: [True], ValueError, "1 entries.*20 rows"),
    "bools and ints": (lambda: [True] * 19 + [5], TypeError, "bools only"),
    "ints and bools": (lambda: [5] * 19 + [True], TypeError, "bool"),
    "floats": (lambda: np.ones(20), TypeError, "float64"),
    "a str": (lambda: "all", TypeError, "str"),
    "an int": (lambda: 5, TypeError, "int"),
    "three dimensions": (lambda: np.ones((2, 1, 20), bool), ValueError, r"\(2, 1, 20\)"),
}


@pytest.mark.parametrize("case", BAD_ALLOW)
def test_bad_allow(idx, vectors, case):
    make, error, message = BAD_ALLOW[case]
    with pytest.raises(error, match=message):
        idx.search(vectors[0], allow=make())
    with pytest.raises(error, match=message):
        idx.search_batch(vectors[:2], allow=make())


def test_a_mask_per_query_has_as_many_rows_as_there_are_queries(idx, vectors):
    with pytest.raises(ValueError, match=r"\(3, 20\)"):
        idx.search_batch(vectors[:2], allow=np.ones((3, 20), bool))
    with pytest.raises(ValueError, match=r"\(n,\), got \(1, 20\)"):
        idx.search(vectors[0], allow=np.ones((1, 20), bool))


# ---- objects ---------------------------------------------------------------------------


def test_classes_are_not_called(cls):
    with pytest.raises(TypeError, match=rf"{cls.__name__}\.build"):
        cls()
    with pytest.raises(TypeError, match=rf"{cls.__name__}\.build"):
        cls(np.zeros((2, 2), np.float32))


def test_classes_are_final(cls):
    with pytest.raises(TypeError):
        type("Derived", (cls,), {})


def test_unknown_keywords(idx, vectors):
    with pytest.raises(TypeError):
        idx.search(vectors[0], probes=3)
    with pytest.raises(TypeError):
        type(idx).build(vectors, dim=6)


def test_search_in_an_empty_index(cls):
    idx = cls.build(np.zeros((0, DIM), np.float32))
    for function in (
        lambda: idx.search(np.zeros(DIM, np.float32)),
        lambda: idx.search(np.zeros(3, np.float32)),
        lambda: idx.search_batch(np.zeros((2, DIM), np.float32)),
    ):
        with pytest.raises(ruvector.EmptyIndex, match="add") as caught:
            function()
        assert isinstance(caught.value, LookupError)


def test_an_id_that_is_not_there(vectors):
    idx = ruvector.RabitqPlusIndex.build(vectors)
    with pytest.raises(ruvector.UnknownId, match="99 is not in the index") as caught:
        idx[99]
    assert caught.value.id == 99
    assert isinstance(caught.value, KeyError)


@pytest.mark.parametrize(
    "function", [lambda i: i[0], iter, np.asarray], ids=["[]", "iter", "array"]
)
def test_vectors_from_an_index_that_keeps_none(vectors, function):
    for idx in (ruvector.RabitqIndex.build(vectors), ruvector.RabitqAsymIndex.build(vectors)):
        with pytest.raises(ruvector.NoVectors, match="RabitqPlusIndex") as caught:
            function(idx)
        assert isinstance(caught.value, LookupError)


def test_reranking_without_vectors(vectors):
    idx = ruvector.RabitqAsymIndex.build(vectors)
    with pytest.raises(ValueError, match="rerank_factor and max_rerank need"):
        idx.search(vectors[0], rerank_factor=2)
    with pytest.raises(ValueError, match="rerank_factor and max_rerank need"):
        idx.search(vectors[0], max_rerank=20)
