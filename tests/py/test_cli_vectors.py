"""Files of vectors as the command line reads them: every length is checked."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruvector import NO_ID
from ruvector.cli import vectors, xvecs
from ruvector.cli.report import Usage

SUFFIX_TYPES = [(".fvecs", np.float32), (".ivecs", np.int32), (".bvecs", np.uint8)]


def records(rows: np.ndarray) -> bytes:
    """As the format says: a length and the numbers, one vector at a time."""
    out = b""
    for row in rows:
        out += len(row).to_bytes(4, "little") + row.tobytes()
    return out


@pytest.mark.parametrize(("suffix", "dtype"), SUFFIX_TYPES)
@pytest.mark.parametrize(("n", "dim"), [(1, 1), (7, 3), (300, 128)])
def test_texmex_files(tmp_path: Path, rng, suffix, dtype, n, dim) -> None:
    rows = rng.integers(0, 200, (n, dim)).astype(dtype)
    path = tmp_path / f"x{suffix}"
    path.write_bytes(records(rows))
    read = xvecs.read(path)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, rows)
    as_float = vectors.read_vectors(path)
    assert as_float.dtype == np.float32
    assert as_float.flags.c_contiguous
    np.testing.assert_array_equal(as_float, rows.astype(np.float32))
    xvecs.write(path, rows, suffix)
    assert path.read_bytes() == records(rows)


def test_a_file_is_read_in_steps(tmp_path: Path, rng, monkeypatch) -> None:
    rows = rng.standard_normal((50, 9), dtype=np.float32)
    path = tmp_path / "x.fvecs"
    path.write_bytes(records(rows))
    for step in (1, 100, 1000):
        monkeypatch.setattr(xvecs, "_AT_ONCE", step)
        np.testing.assert_array_equal(xvecs.read(path), rows)


@pytest.mark.parametrize("at", [0, 1, 4, 5])
def test_another_length_is_found_wherever_it_stands(tmp_path: Path, at) -> None:
    raw = bytearray(records(np.zeros((6, 4), np.float32)))
    raw[at * 20 : at * 20 + 4] = (3).to_bytes(4, "little")
    path = tmp_path / "x.fvecs"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=r"x\.fvecs: ") as caught:
        xvecs.read(path)
    if at:
        assert f"vector {at} has length 3, the first 4" in str(caught.value)


def reference(data: bytes, width: int) -> list[bytes] | None:
    """The vectors of a file, one after the other; None where it is none."""
    rows = []
    while data:
        length = int.from_bytes(data[:4], "little", signed=True)
        end = 4 + length * width
        if len(data) < 4 or length < 1 or len(data) < end:
            return None
        rows.append(data[4:end])
        data = data[end:]
    same = len({len(row) for row in rows}) == 1
    return rows if same else None


@st.composite
def almost_records(draw) -> bytes:
    """Files that are right or nearly so."""
    dim, n = draw(st.integers(1, 4)), draw(st.integers(0, 5))
    data = bytearray()
    for _ in range(n):
        length = draw(st.sampled_from([dim] * 8 + [0, -1, dim + 1, 2**31 - 1]))
        data += (length % 2**32).to_bytes(4, "little") + bytes(
            draw(st.integers(0, 9)) for _ in range(4 * dim)
        )
    return bytes(data[: len(data) - draw(st.sampled_from([0, 0, 0, 1, 4, 7]))])


@given(data=st.one_of(almost_records(), st.binary(max_size=60)), kind=st.sampled_from(SUFFIX_TYPES))
def test_any_bytes(tmp_path: Path, data: bytes, kind) -> None:
    suffix, dtype = kind
    path = tmp_path / f"any{suffix}"
    path.write_bytes(data)
    expected = reference(data, np.dtype(dtype).itemsize)
    if expected is None:
        with pytest.raises(ValueError, match=rf"^.*any\{suffix}: .*$"):
            xvecs.read(path)
    else:
        assert [row.tobytes() for row in xvecs.read(path)] == expected


def test_numbers_float32_does_not_hold(tmp_path: Path) -> None:
    path = tmp_path / "x.ivecs"
    xvecs.write(path, np.array([[1, -(2**24)]]), ".ivecs")
    np.testing.assert_array_equal(vectors.read_vectors(path), [[1, -(2**24)]])
    for wrong in (2**24 + 1, -(2**31)):
        xvecs.write(path, np.array([[1, wrong]]), ".ivecs")
        with pytest.raises(ValueError, match="beyond 2\\^24"):
            vectors.read_vectors(path)


# ---- .npy ---------------------------------------------------------------------------


def test_a_npy_is_mapped(tmp_path: Path, rng) -> None:
    rows = rng.standard_normal((20, 8), dtype=np.float32)
    np.save(tmp_path / "x.npy", rows)
    read = vectors.read_vectors(tmp_path / "x.npy")
    np.testing.assert_array_equal(read, rows)
    base = read
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    assert not read.flags.writeable


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 4)), "got (3, 4) float64; save it again as np.ascontiguousarray"),
        (np.asfortranarray(np.zeros((3, 4), np.float32)), "in Fortran order"),
        (np.zeros(4, np.float32), "dtype=np.float32).reshape(1, -1)"),
        (np.zeros((2, 2), ">f4"), "got (2, 2) >f4"),
        (np.array([[object()]]), "not a .npy that can be mapped"),
    ],
)
def test_arrays_of_another_kind(tmp_path: Path, array, words) -> None:
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(ValueError, match=r"x\.npy: ") as caught:
        vectors.read_vectors(tmp_path / "x.npy")
    assert words in str(caught.value)


@given(at=st.integers(0, 127), byte=st.integers(0, 255), cut=st.sampled_from([None, 5, 60, 130]))
def test_damaged_npy_headers(tmp_path: Path, at, byte, cut) -> None:
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.save(tmp_path / "x.npy", rows)
    raw = bytearray((tmp_path / "x.npy").read_bytes())
    raw[at] = byte
    (tmp_path / "x.npy").write_bytes(raw[:cut])
    with suppress(ValueError):
        read = vectors.read_vectors(tmp_path / "x.npy")
        assert read.dtype == np.float32
        assert read.nbytes <= 48


# ---- ids and results ----------------------------------------------------------------


@pytest.mark.parametrize("array", [np.zeros((2, 2), int), np.zeros(3)])
def test_ids_of_another_kind(tmp_path: Path, array) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(ValueError, match=r"\(n,\) integers"):
        vectors.read_ids(tmp_path / "x.npy")


def test_results_as_ivecs_and_fvecs(tmp_path: Path) -> None:
    ids = np.array([[5, 2**31 - 1], [7, NO_ID]], np.uint64)
    scores = np.array([[0.5, 1.0], [0.0, np.inf]], np.float32)
    vectors.write_results(tmp_path / "x.ivecs", ids, scores)
    assert (tmp_path / "x.ivecs").read_bytes() == records(
        np.array([[5, 2**31 - 1], [7, -1]], np.int32)
    )
    np.testing.assert_array_equal(vectors.read_truth(tmp_path / "x.ivecs"), ids)
    vectors.write_results(tmp_path / "x.fvecs", ids, scores)
    assert (tmp_path / "x.fvecs").read_bytes() == records(scores)


def test_ids_too_large_for_ivecs_leave_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.ivecs"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match=r"id 2147483648 is too large for \.ivecs; write a \.npy"):
        vectors.write_results(path, np.array([[2**31]], np.uint64), np.zeros((1, 1), np.float32))
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["x.ivecs"]


def test_truth_of_another_kind(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 2), np.float32))
    with pytest.raises(ValueError, match=r"expected \(m, k\) integers, got \(2, 2\) float32"):
        vectors.read_truth(tmp_path / "x.npy")
    np.save(tmp_path / "x.npy", np.array([[3, -2]]))
    with pytest.raises(ValueError, match="-2 is no id"):
        vectors.read_truth(tmp_path / "x.npy")


@pytest.mark.parametrize("name", ["x", "x.txt", "x.FVECS"])
def test_suffixes_that_say_nothing(tmp_path: Path, name) -> None:
    for call in (vectors.read_vectors, vectors.read_ids, vectors.read_truth, vectors.check_output):
        with pytest.raises(Usage, match=r"\.npy, \.fvecs"):
            call(tmp_path / name)
    with pytest.raises(Usage, match=r"cannot write \.bvecs"):
        vectors.check_output(tmp_path / "x.bvecs")
    with pytest.raises(Usage, match=r"folder .* does not exist"):
        vectors.check_output(tmp_path / "none" / "x.npy")
    with pytest.raises(Usage, match="has no columns"):
        vectors.read_vectors(tmp_path / "x.npy", "column")
