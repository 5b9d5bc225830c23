"""originals="f16": an index of vectors rounded to binary16. NumPy's float16 is the
independent rounding; what the index answers is what one over the rounded vectors does."""

from __future__ import annotations

import pickle
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import ruvector
from oracle import EVERYTHING, METRICS, check_hits

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
import read_rbpx

LARGEST = np.nextafter(np.float32(65520), np.float32(0))  # becomes 65504
OPTIONS = {ruvector.RabitqPlusIndex: {}, ruvector.RabitqAsymIndex: {"rerank_factor": 3}}


@pytest.fixture(params=OPTIONS, ids=lambda cls: cls.__name__)
def kept(request):
    """The classes that keep vectors beside codes."""
    return request.param


def build(cls, vectors, **options):
    return cls.build(vectors, **{"originals": "f16", **OPTIONS[cls], **options})


def rounded(vectors):
    return np.asarray(vectors, np.float32).astype(np.float16).astype(np.float32)


def assert_answers_alike(one, other, queries, **options):
    for a, b in zip(one.search_batch(queries, **options), other.search_batch(queries, **options)):
        np.testing.assert_array_equal(a, b)


def assert_same_rows(index, plain):
    """An index and one with float32 originals over the rounded vectors."""
    np.testing.assert_array_equal(np.asarray(index), np.asarray(plain))
    for column in ("ids", "norms", "codes"):
        np.testing.assert_array_equal(getattr(index, column), getattr(plain, column))


# ---- rounding ---------------------------------------------------------------------------


def test_vectors_come_back_rounded_to_the_nearest_half():
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16)
    exact = halves.astype(np.float32)
    ties = (exact[:-1] + exact[1:]) / 2
    values = np.concatenate(
        [exact, ties, np.nextafter(ties, np.float32(0)), np.nextafter(ties, np.float32(1e9))]
    )
    values = np.concatenate([values, [LARGEST, 65519, 1e-45, 1.2e-38, 2.0**-25]])
    values = np.concatenate([values, -values]).astype(np.float32)
    vectors = np.concatenate([values, np.zeros(-len(values) % 37, np.float32)]).reshape(-1, 37)
    back = np.asarray(build(ruvector.RabitqPlusIndex, vectors))
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back.view(np.uint32), rounded(vectors).view(np.uint32))


@pytest.mark.parametrize("value", [65520, -65520, 7e4, -1e30, np.nan, np.inf, -np.inf])
def test_what_becomes_infinite_is_refused(kept, value, rng):
    vectors = rng.standard_normal((700, 21)).astype(np.float32)
    index = build(kept, vectors)
    before = index.to_bytes()
    bad = vectors.copy()
    bad[650, 13] = value
    calls = [
        lambda: build(kept, bad),
        lambda: index.add_batch(bad),
        lambda: index.upsert(np.arange(700), bad),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"vector 650 holds") as error:
            call()
        assert "position 13" in str(error.value)
        if np.isfinite(value):
            assert f"{np.float32(value):.9g} at" in str(error.value)
            assert "65520" in str(error.value)
    with pytest.raises(ValueError, match=r"vector 0 holds"):
        index.add(None, bad[650])
    assert index.to_bytes() == before


def test_the_first_value_that_does_not_fit_is_named():
    vectors = np.zeros((3, 40), np.float32)
    vectors[1, 7], vectors[1, 30], vectors[2, 0] = 65504, 1e5, 1e6
    with pytest.raises(ValueError, match=r"vector 1 holds 100000 at position 30"):
        build(ruvector.RabitqPlusIndex, vectors)


def test_the_largest_values_fit(kept):
    vectors = np.full((3, 100), LARGEST)
    vectors[1] *= -1
    vectors[2, ::2] = 0
    for metric in METRICS:
        index = build(kept, vectors, metric=metric)
        plain = kept.build(rounded(vectors), metric=metric, **OPTIONS[kept])
        assert (np.abs(np.asarray(index)[:2]) == 65504).all()
        assert index.search(vectors[0], 3) == plain.search(vectors[0], 3)


# ---- answers ----------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [1, 4])
@pytest.mark.parametrize("metric", METRICS)
def test_it_is_an_index_of_the_rounded_vectors(kept, metric, bits, rng):
    centers = rng.standard_normal((20, 45)) * 2 + 1
    vectors = (centers[rng.integers(0, 20, 3_000)] + rng.standard_normal((3_000, 45))) / 7
    vectors = vectors.astype(np.float32)
    vectors[5] = 0
    vectors[9] *= 1e-6  # subnormal halves
    queries = vectors[::50] + np.float32(0.01)
    options = {"metric": metric, "bits": bits, "n_lists": 9}
    index = build(kept, vectors, **options)
    plain = kept.build(rounded(vectors), **OPTIONS[kept], **options)
    assert not np.array_equal(rounded(vectors), vectors)
    assert_same_rows(index, plain)
    for search in ({}, {"nprobe": 2}, {"epsilon": EVERYTHING}, {"max_rerank": 12, "k": 12}):
        assert_answers_alike(index, plain, queries, **search)
    assert_answers_alike(index, plain, queries, allow=index.ids % 7 == 3)
    assert index.search(queries[0], 20) == plain.search(queries[0], 20)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", [1, 2, 7, 15, 16, 17, 31, 33, 100, 257])
def test_scores_are_exact_for_the_rounded_vectors(kept, metric, dim):
    rng = np.random.default_rng(dim)
    vectors = rng.standard_normal((200, dim)).astype(np.float32)
    vectors[3] = 0
    index = build(kept, vectors, metric=metric, epsilon=EVERYTHING)
    rows = dict(enumerate(rounded(vectors)))
    for query in (vectors[0], *rng.standard_normal((3, dim)).astype(np.float32)):
        for k in (1, 10, 300):
            check_hits(index.search(query, k), query, rows, metric, k, True)


def test_rounding_costs_a_share_of_2_to_the_minus_11(rng):
    vectors = rng.standard_normal((2_000, 96)).astype(np.float32)
    back = np.asarray(build(ruvector.RabitqPlusIndex, vectors))
    normal = np.abs(vectors) >= 2.0**-14
    assert (np.abs(back - vectors)[normal] <= 2.0**-11 * np.abs(vectors)[normal]).all()
    assert (np.abs(back - vectors)[~normal] <= 2.0**-25).all()


def test_rows_that_halves_hold_answer_as_floats_do(kept, rng):
    vectors = rng.integers(0, 256, (3_000, 64)).astype(np.float32)  # as of SIFT
    index, plain = build(kept, vectors), kept.build(vectors, **OPTIONS[kept])
    assert_same_rows(index, plain)
    assert_answers_alike(index, plain, vectors[:200] + np.float32(0.3))


# ---- changes ----------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
def test_changes_are_those_of_an_index_of_rounded_vectors(kept, metric, rng):
    """Also across a training anew, which reads the kept vectors."""
    vectors = rng.standard_normal((3_000, 19)).astype(np.float32)
    index = build(kept, vectors[:60], metric=metric)
    plain = kept.build(rounded(vectors[:60]), metric=metric, **OPTIONS[kept])
    codes = index.codes
    for one, rows in ((index, vectors), (plain, rounded(vectors))):
        one.remove([3, 50])
        one.add(100, rows[60])
        one.upsert([5, 100, 101], rows[61:64])
        one.add_batch(rows[64:])
        one.remove(range(200, 260))
        one.add_batch(rows[:5])
    assert not np.array_equal(index.codes[:3], codes[:3])
    for _ in range(2):
        assert_same_rows(index, plain)
        assert_answers_alike(index, plain, vectors[:50])
        index.vacuum()
        plain.vacuum()
    index.remove(index.ids)
    index.vacuum()
    assert len(index) == len(np.asarray(index)) == 0
    index.add(7, vectors[0])
    np.testing.assert_array_equal(index[7], rounded(vectors[0]))


def test_progress_and_cancelling(kept, rng):
    vectors = rng.standard_normal((4_000, 300)).astype(np.float32)
    seen = []
    build(kept, vectors, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (4_000, 4_000)
    assert seen == sorted(seen)
    index = build(kept, vectors[:50])
    before = index.to_bytes()

    def stop(done, total):
        raise KeyError("enough")

    for call in (lambda: build(kept, vectors, progress=stop),
                 lambda: index.add_batch(vectors, progress=stop)):  # fmt: skip
        with pytest.raises(KeyError, match="enough"):
            call()
    assert index.to_bytes() == before


def test_an_empty_index_takes_rows(kept, rng):
    vectors = rng.standard_normal((40, 5)).astype(np.float32)
    index = build(kept, vectors[:0])
    for dtype in (np.float32, np.float16):
        empty = np.asarray(index, dtype=dtype)
        assert (empty.shape, empty.dtype) == ((0, 5), dtype)
    index.add_batch(vectors)
    assert index.originals == "f16"
    np.testing.assert_array_equal(np.asarray(index), rounded(vectors))


def test_tuning_and_recommendations(rng):
    vectors = rng.standard_normal((6_000, 24)).astype(np.float32)
    queries = rng.standard_normal((80, 24)).astype(np.float32)
    choice = ruvector.recommend(6_000, 24, 0.9)
    assert choice.index == "RabitqPlusIndex"
    index = ruvector.RabitqPlusIndex.build(vectors, originals="f16", **choice.build)
    plain = ruvector.RabitqPlusIndex.build(rounded(vectors), **choice.build)
    # what a search costs is counted in bytes, of which there are half as many
    tuning, exact = index.tune(queries, recall=0.9), plain.tune(queries, recall=0.9)
    assert tuning.recall > 0.85
    assert exact.recall > 0.85
    assert index.epsilon == tuning.epsilon
    assert ruvector.RabitqPlusIndex.from_bytes(index.to_bytes()) == index


# ---- reading back -----------------------------------------------------------------------


def test_arrays(kept, rng):
    vectors = rng.standard_normal((50, 9)).astype(np.float32)
    index = build(kept, vectors)
    wide = np.asarray(index)
    assert wide.dtype == np.float32
    assert not wide.flags.writeable
    assert not np.shares_memory(wide, np.asarray(index))
    halves = np.asarray(index, dtype=np.float16)
    assert halves.dtype == np.float16
    assert not halves.flags.writeable
    assert np.shares_memory(halves, np.asarray(index, dtype="f2"))
    np.testing.assert_array_equal(halves, vectors.astype(np.float16))
    np.testing.assert_array_equal(wide, rounded(vectors))
    np.testing.assert_array_equal(index.__array__(np.float64), rounded(vectors))
    assert index.__array__(np.float16, copy=False).dtype == np.float16
    for dtype in (None, np.float32, np.float64):
        with pytest.raises(ValueError, match="float16"):
            index.__array__(dtype, copy=False)
    for dtype in (None, np.float32, np.float16, np.float64):
        copy = index.__array__(dtype, copy=True)
        assert copy.dtype == (dtype or np.float32)
        copy[0] = 3  # writeable, and the index's no more
    np.testing.assert_array_equal(np.asarray(index), rounded(vectors))

    index.remove(range(10))
    index.remove(20)
    rest = np.delete(vectors, [*range(10), 20], axis=0)
    for dtype in (np.float32, np.float16, np.float64):
        np.testing.assert_array_equal(np.asarray(index, dtype=dtype), rounded(rest).astype(dtype))
    with pytest.raises(ValueError, match="vacuum"):
        index.__array__(np.float16, copy=False)
    np.testing.assert_array_equal(halves, vectors.astype(np.float16))  # stays as it was
    del index
    np.testing.assert_array_equal(halves, vectors.astype(np.float16))


def test_rows_one_by_one(kept, rng):
    vectors = rng.standard_normal((30, 33)).astype(np.float32)
    index = build(kept, vectors, ids=np.arange(30)[::-1] * 3)
    for gaps in (False, True):
        if gaps:
            index.remove(0)
        pairs = dict(index)
        assert list(pairs) == index.ids.tolist()
        for i, (id, vector) in enumerate(pairs.items()):
            for row in (vector, index[id]):
                assert row.dtype == np.float32
                assert not row.flags.writeable
                np.testing.assert_array_equal(row, rounded(vectors[i]))


def test_norms_are_of_the_rounded_vectors(kept, rng):
    vectors = rng.standard_normal((300, 50)).astype(np.float32)
    want = np.linalg.norm(rounded(vectors).astype(np.float64), axis=1)
    np.testing.assert_allclose(build(kept, vectors).norms, want, rtol=1e-6)


def test_memory_is_half(kept, rng):
    vectors = rng.standard_normal((5_000, 70)).astype(np.float32)
    half = build(kept, vectors).memory_usage()
    full = build(kept, vectors, originals="f32").memory_usage()
    assert half["vectors"] == 2 * 70 * 5_000
    assert full["total"] - half["total"] == 2 * 70 * 5_000
    assert sum(v for k, v in half.items() if k not in ("total", "mapped")) == half["total"]


# ---- the option -------------------------------------------------------------------------


def test_the_option_is_shown_and_compared(kept, rng):
    vectors = rounded(rng.standard_normal((300, 20)))
    half, full, default = (
        build(kept, vectors),
        build(kept, vectors, originals="f32"),
        kept.build(vectors, **OPTIONS[kept]),
    )
    assert (half.originals, full.originals) == ("f16", "f32")
    assert ", originals='f16', memory=" in repr(half)
    assert "originals" not in repr(full)
    assert full == default
    assert full.to_bytes() == default.to_bytes()
    assert half != full
    assert full != half
    assert half == build(kept, vectors)
    longest = build(kept, vectors, bits=8, n_lists=64)
    longest.tune(vectors[:40], recall=0.1)
    assert ", bits=8, originals='f16', n_lists=64, nprobe=" in repr(longest)


@pytest.mark.parametrize("cls", [ruvector.FlatF32Index, ruvector.RabitqIndex])
@pytest.mark.parametrize("value", ["f16", "f32"])
def test_other_classes_take_no_such_option(cls, value):
    vectors = np.zeros((3, 4), np.float32)
    with pytest.raises(TypeError, match=rf"{cls.__name__}\.build\(\) takes no originals"):
        cls.build(vectors, originals=value)
    assert not hasattr(cls.build(vectors), "originals")


def test_misuse_is_refused():
    vectors = np.zeros((3, 4), np.float32)
    for value in ("f64", "F16", "", "float16"):
        with pytest.raises(ValueError, match="originals must be 'f32' or 'f16'"):
            ruvector.RabitqPlusIndex.build(vectors, originals=value)
    for value in (16, None, np.float16, b"f16"):
        with pytest.raises(TypeError, match="originals"):
            ruvector.RabitqPlusIndex.build(vectors, originals=value)
    for factor in (None, 1):
        with pytest.raises(ValueError, match="keeps codes only"):
            ruvector.RabitqAsymIndex.build(vectors, originals="f16", rerank_factor=factor)
    codes = ruvector.RabitqAsymIndex.build(vectors, originals="f32")
    assert codes.originals is None


# ---- files ------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dim", [1, 33])
def test_files_and_pickles(kept, metric, dim, rng, tmp_path):
    vectors = rng.standard_normal((300, dim)).astype(np.float32)
    index = build(kept, vectors, metric=metric)
    index.remove(range(20, 40))
    expected = index.search(vectors[7], 30)
    path = tmp_path / "index"
    index.save(path)
    data = path.read_bytes()
    assert data == index.to_bytes()
    assert data[:8] == b"rvxi0001"  # nothing a version-1 reader would take for its own
    for copy in (
        kept.load(path),
        kept.load(path, mmap=False),
        kept.from_bytes(data),
        kept.from_bytes(memoryview(b"x" + data)[1:]),
        *(pickle.loads(pickle.dumps(index, protocol)) for protocol in (2, 5)),
    ):
        assert copy == index
        assert copy.originals == "f16"
        assert copy.search(vectors[7], 30) == expected
        np.testing.assert_array_equal(np.asarray(copy), np.asarray(index))
        copy.add(None, vectors[20])
        same = kept.from_bytes(data)
        same.add(None, vectors[20])
        assert copy.to_bytes() == same.to_bytes()
        with pytest.raises(ValueError, match="65520"):
            copy.add(None, np.full(dim, 1e6, np.float32))
    mapped = kept.load(path).memory_usage()["mapped"]
    assert len(data) * 0.5 < mapped <= len(data)


@pytest.mark.parametrize("metric", METRICS)
def test_a_reader_of_the_documented_format_reads_them(kept, metric, rng, tmp_path):
    vectors = rng.standard_normal((150, 33)).astype(np.float32)
    index = build(kept, vectors, metric=metric, n_lists=3)
    index.save(tmp_path / "index")
    file = read_rbpx.read(tmp_path / "index")
    assert file.block["flags"] == 1 | 2 | 8 | 16
    assert file.vectors.dtype == np.float16
    np.testing.assert_array_equal(file.vectors, vectors.astype(np.float16))
    r = read_rbpx.residuals(file)
    clear = np.abs(r) > 1e-5 * np.abs(r).max()
    np.testing.assert_array_equal((r > 0)[clear], (read_rbpx.code_bits(file) > 0)[clear])


def block_of(data):
    return data.index(b"RVXBLOCK")


def with_flags(data, flags):
    return data[: block_of(data) + 44] + struct.pack("<I", flags) + data[block_of(data) + 48 :]


def test_flags_that_do_not_fit_are_refused(kept, rng):
    vectors = rng.standard_normal((40, 20)).astype(np.float32)
    half, full = build(kept, vectors), build(kept, vectors, originals="f32")
    for index in (half, full, build(kept, vectors[:0]), build(kept, vectors[:0], originals="f32")):
        data = index.to_bytes()
        (own,) = struct.unpack_from("<I", data, block_of(data) + 44)
        assert bool(own & 16) == (index.originals == "f16")
        for flags in [*range(64), *(own | 1 << bit for bit in range(5, 32))]:
            if flags == own or (len(index) == 0 and flags == own ^ 16 and not own & 4):
                continue  # of no rows, none has a size that could disagree
            with pytest.raises(ruvector.PersistError):
                kept.from_bytes(with_flags(data, flags), verify=False)


@pytest.mark.parametrize("name", ["FlatF32Index", "RabitqIndex", "RabitqAsymIndex"])
def test_files_without_vectors_beside_codes_have_no_halves(name, rng):
    vectors = rng.standard_normal((40, 20)).astype(np.float32)
    cls = getattr(ruvector, name)
    data = cls.build(vectors).to_bytes()
    (own,) = struct.unpack_from("<I", data, block_of(data) + 44)
    with pytest.raises(ruvector.PersistError):
        cls.from_bytes(with_flags(data, own | 16), verify=False)


def test_damaged_files_are_refused_or_harmless(kept, rng):
    vectors = rng.standard_normal((40, 21)).astype(np.float32)
    data = build(kept, vectors).to_bytes()
    for position in range(0, len(data), 13):
        damaged = bytearray(data)
        damaged[position] ^= 0x7C
        with pytest.raises(ruvector.PersistError):
            kept.from_bytes(bytes(damaged))
        try:
            loaded = kept.from_bytes(bytes(damaged), verify=False)
        except ruvector.PersistError:
            continue
        loaded.search(np.zeros(loaded.dim, np.float32), 5)
        loaded.add_batch(np.tile(vectors[:, : loaded.dim], (20, 1)))  # trains anew
        loaded.search(np.zeros(loaded.dim, np.float32), 5)
        assert list(loaded)


# ---- the same everywhere ----------------------------------------------------------------

PRINT_DIGESTS = """
import hashlib
import numpy as np, ruvector

rng = np.random.default_rng(3)
for dim in (3, 29, 100, 130):
    vectors = (rng.standard_normal((1500, dim)) * 10.0 ** rng.integers(-7, 3, (1500, 1)))
    vectors = vectors.astype(np.float32)
    for metric in ("l2", "ip", "cosine"):
        idx = ruvector.RabitqPlusIndex.build(vectors, metric=metric, originals="f16", bits=2)
        idx.remove(range(100, 200))
        idx.add_batch(-vectors[:50])
        ids, scores = idx.search_batch(vectors[:500], k=10)
        parts = idx.to_bytes(), ids, scores, np.asarray(idx), idx.norms
        print(dim, metric, *(hashlib.sha256(p).hexdigest() for p in parts))
"""


def test_threads_and_instruction_sets_make_no_difference(run_python):
    sets = ruvector.cpu_features()["available"]
    outputs = []
    for isa, threads in ((sets[0], "1"), *((isa, "2") for isa in sets)):
        result = run_python(PRINT_DIGESTS, RUVECTOR_ISA=isa, RUVECTOR_NUM_THREADS=threads)
        assert result.returncode == 0, result.stderr
        outputs.append(result.stdout.splitlines())
    assert len(outputs[0]) == 4 * len(METRICS)
    for lines in outputs[1:]:
        assert lines == outputs[0]
