"""Vectors and results in Parquet and Arrow files."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from installed import need
from ruvector import NO_ID, cli
from ruvector.cli import tables, vectors
from ruvector.cli.report import Usage

need("pyarrow")
pa = import_module("pyarrow")
pq = import_module("pyarrow.parquet")

DIM = 6


def column(rows: np.ndarray, kind: str = "fixed") -> pa.Array:
    flat = pa.array(rows.ravel())
    if kind == "fixed":
        return pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
    offsets = np.arange(len(rows) + 1) * rows.shape[1]
    if kind == "list":
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat)
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), flat)


def write(path: Path, table: pa.Table, **options) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(table, path, **options)
    else:
        chosen = pa.ipc.IpcWriteOptions(compression=options.get("compression"))
        make = pa.ipc.new_stream if path.suffix == ".arrow" else pa.ipc.new_file
        with pa.OSFile(str(path), "wb") as file, make(file, table.schema, options=chosen) as out:
            out.write_table(table, max_chunksize=options.get("row_group_size"))
    return path


@pytest.fixture
def rows(rng) -> np.ndarray:
    return rng.standard_normal((500, DIM), dtype=np.float32)


@pytest.mark.parametrize("suffix", tables.SUFFIXES)
@pytest.mark.parametrize("kind", ["fixed", "list", "large"])
@pytest.mark.parametrize("options", [{}, {"row_group_size": 77}, {"compression": "zstd"}])
def test_vectors(tmp_path: Path, rows, suffix, kind, options) -> None:
    table = pa.table({"name": pa.array(["x"] * len(rows)), "embedding": column(rows, kind)})
    path = write(tmp_path / f"x{suffix}", table, **options)
    for name in (None, "embedding"):
        read = vectors.read_vectors(path, name)
        assert read.dtype == np.float32
        assert read.flags.c_contiguous
        np.testing.assert_array_equal(read, rows)


def test_an_arrow_file_of_one_batch_is_mapped(tmp_path: Path, rows) -> None:
    path = write(tmp_path / "x.feather", pa.table({"v": column(rows)}))
    before = pa.total_allocated_bytes()
    read = vectors.read_vectors(path)
    assert pa.total_allocated_bytes() - before < rows.nbytes
    assert not read.flags.owndata
    assert not read.flags.writeable
    np.testing.assert_array_equal(read, rows)


def test_ids_of_a_column(tmp_path: Path, rows, capsys) -> None:
    ids = np.arange(500) * 3 + 1
    path = write(tmp_path / "x.parquet", pa.table({"id": ids, "v": column(rows)}))
    np.testing.assert_array_equal(vectors.read_ids(path, "id"), ids)
    index = tmp_path / "x.rbpx"
    assert cli.main(["build", str(path), "-o", str(index), "--id-column", "id"]) == 0
    assert (
        cli.main(["search", str(index), str(path), "-k", "1", "-o", str(tmp_path / "o.npy")]) == 0
    )
    np.testing.assert_array_equal(np.load(tmp_path / "o.npy")[:, 0], ids)
    with pytest.raises(Usage, match="--id-column"):
        vectors.read_ids(path)


@pytest.mark.parametrize(
    ("made", "name", "words"),
    [
        ({"a": [1, 2]}, None, "no column of vectors; it has a (int64)"),
        ({"a": [1, 2]}, "a", "no column of lists 'a'"),
        ({"a": [1, 2]}, "b", "no column of lists 'b'"),
        ({"a": [[1.0], [2.0]]}, None, "lists of double; write it as lists of float32"),
        ({"a": [[1.0], [2.0]], "b": [[1.0], [2.0]]}, None, "name one with --column: a, b"),
    ],
)
def test_tables_without_such_a_column(tmp_path: Path, made, name, words) -> None:
    path = write(tmp_path / "x.parquet", pa.table(made))
    with pytest.raises(ValueError, match=r"x\.parquet: ") as caught:
        vectors.read_vectors(path, name)
    assert words in str(caught.value)


@pytest.mark.parametrize("suffix", tables.SUFFIXES)
@pytest.mark.parametrize("dtype", ["float64", "float16", "int8", "uint32"])
def test_lists_of_other_real_numbers_are_converted(tmp_path: Path, suffix, dtype) -> None:
    rows = (9 * np.arange(12).reshape(4, 3)).astype(dtype)
    column = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 3)
    path = write(tmp_path / f"x{suffix}", pa.table({"v": column}))
    read = vectors.read_vectors(path, convert=True)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, rows.astype(np.float32))
    with pytest.raises(ValueError, match="write it as lists of float32"):
        vectors.read_vectors(path, convert=False)


def test_lists_of_what_is_no_number_are_not(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", pa.table({"v": [["a"], ["b"]]}))
    with pytest.raises(ValueError, match="lists of string; write it as lists of real numbers"):
        vectors.read_vectors(path, convert=True)


@pytest.mark.parametrize("suffix", tables.SUFFIXES)
@pytest.mark.parametrize(
    ("made", "words"),
    [
        ([[1.0], None], "rows without a list"),
        ([[1.0], [None]], "rows without a value"),
        ([[1.0], [2.0, 3.0]], "lists of length 1 and 2"),
        ([[], []], "empty lists"),
        ([], "0 of 0 vectors"),
    ],
)
def test_lists_that_are_no_vectors(tmp_path: Path, suffix, made, words) -> None:
    table = pa.table({"v": pa.array(made, pa.list_(pa.float32()))})
    path = write(tmp_path / f"x{suffix}", table)
    with pytest.raises(ValueError, match=words):
        vectors.read_vectors(path)


@pytest.mark.parametrize("suffix", tables.SUFFIXES)
def test_damaged_tables(tmp_path: Path, rows, rng, suffix, capfd) -> None:
    path = write(tmp_path / f"x{suffix}", pa.table({"v": column(rows, "list")}))
    whole = path.read_bytes()
    for _ in range(60):
        raw = bytearray(whole)
        for at in rng.integers(0, len(raw), 4):
            raw[at] = rng.integers(256)
        path.write_bytes(raw[: len(raw) if rng.random() < 0.7 else rng.integers(len(raw))])
        with suppress(ValueError):
            assert vectors.read_vectors(path).dtype == np.float32


@pytest.mark.parametrize("suffix", tables.SUFFIXES)
def test_results(tmp_path: Path, suffix) -> None:
    ids = np.array([[5, 2**63 + 1], [7, NO_ID]], np.uint64)
    scores = np.array([[0.5, 1.0], [0.0, np.inf]], np.float32)
    path = tmp_path / f"out{suffix}"
    vectors.write_results(path, ids, scores)
    table = pq.read_table(path) if suffix == ".parquet" else pa.ipc.open_file(path).read_all()
    assert table.column("ids").to_pylist() == ids.tolist()
    assert table.column("scores").to_pylist() == scores.tolist()
    assert table.schema.field("ids").type == pa.list_(pa.uint64(), 2)
    np.testing.assert_array_equal(vectors.read_truth(path), ids)


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch, capsys) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError(name, name=name)

    monkeypatch.setattr(tables, "import_module", absent)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    assert cli.main(["info", str(tmp_path / "x.parquet")]) == 1
    assert 'pip install "pyarrow>=12"' in capsys.readouterr().err


def test_a_missing_file(tmp_path: Path, capsys) -> None:
    for suffix in tables.SUFFIXES:
        path = tmp_path / f"none{suffix}"
        assert cli.main(["info", str(path)]) == 1
        assert capsys.readouterr().err == f"ruvector: {path}: No such file or directory\n"
