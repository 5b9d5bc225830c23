"""Vectors as a column of a table: `.parquet`, and `.arrow` or `.feather` (Arrow IPC).

A vector column is a list of float32, of fixed size or with all lists equally long. Needs
pyarrow, the extra ``parquet``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._extras import not_importable
from .report import one_line

SUFFIXES = (".parquet", ".arrow", ".feather")
IDS, SCORES = "ids", "scores"  #: columns of results
_BATCH = 65_536  # rows of Parquet decoded at a time


def read_vectors(path: Path, column: str | None, *, any_real: bool = False) -> npt.NDArray[Any]:
    """(n, dim) float32; without a copy where an Arrow file has one uncompressed batch.

    column: its name; None where the table has one column of vectors.
    any_real: lists of other real numbers are read, too, in their own dtype.
    """
    with _telling(path) as pa:
        fits, wanted = pa.types.is_float32, "float32"
        if any_real:
            fits, wanted = partial(_is_real, pa.types), "real numbers"
        n, name, chunks = _open(pa, path, column, fits, wanted)
        return _filled(path, name, n, chunks)


def read_rows_of_ids(path: Path, column: str | None) -> npt.NDArray[Any]:
    """(n, k) integers: the column of ids in a table of results."""
    with _telling(path) as pa:
        n, name, chunks = _open(pa, path, column or IDS, pa.types.is_integer, "integer")
        return _filled(path, name, n, chunks)


def read_ids(path: Path, column: str) -> npt.NDArray[Any]:
    """(n,) integers."""
    with _telling(path) as pa:
        schema, _, batches = _table(pa, path)
        if column not in schema.names or not pa.types.is_integer(schema.field(column).type):
            raise ValueError(f"{path}: no column of integers {column!r}; it has {_names(schema)}")
        parts = [_numbers(path, column, chunk) for chunk in batches(column)]
        return np.concatenate(parts) if parts else np.empty(0, np.uint64)


def write(path: Path, suffix: str, ids: npt.NDArray[Any], scores: npt.NDArray[Any]) -> None:
    """Writes two columns of lists, `ids` and `scores`."""
    with _telling(path) as pa:
        k = ids.shape[1]
        columns = {
            name: pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), k)
            for name, rows in ((IDS, ids), (SCORES, scores))
        }
        table = pa.table(columns)
        if suffix == ".parquet":
            import_module("pyarrow.parquet").write_table(table, str(path))
        else:
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as out:
                out.write_table(table)


# ---- pyarrow ------------------------------------------------------------------------


@contextmanager
def _telling(path: Path) -> Iterator[Any]:
    """pyarrow; what it raises becomes a ValueError of one line that names the file."""
    try:
        pa = import_module("pyarrow")
        import_module("pyarrow.ipc")
    except ImportError as why:
        raise ImportError(
            f"{path}: Parquet and Arrow files need pyarrow, "
            + not_importable(why, "pyarrow", "parquet", "pyarrow"),
            name="pyarrow",
        ) from why
    try:
        yield pa
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except (pa.ArrowException, OSError) as why:
        raise ValueError(f"{path}: {one_line(why)}") from why


def _table(pa: Any, path: Path) -> Any:
    """(schema, number of rows or None, a function from a column to its arrays)."""
    path.stat()  # its errors are the system's, whatever reads the file
    if path.suffix == ".parquet":
        file = import_module("pyarrow.parquet").ParquetFile(str(path), memory_map=True)

        def decoded(column: str) -> Iterable[Any]:
            batches = file.iter_batches(batch_size=_BATCH, columns=[column], use_threads=False)
            return (batch.column(0) for batch in batches)

        return file.schema_arrow, file.metadata.num_rows, decoded

    def reader() -> Any:
        source = pa.memory_map(str(path))
        try:
            return pa.ipc.open_file(source)
        except pa.ArrowInvalid:
            source.seek(0)
            return pa.ipc.open_stream(source)

    def mapped(column: str) -> Iterable[Any]:
        # batch by batch: columns that nobody asked for may be compressed
        opened = reader()
        if hasattr(opened, "get_batch"):
            opened = map(opened.get_batch, range(opened.num_record_batches))
        return (batch.column(column) for batch in opened)

    return reader().schema, None, mapped


def _open(pa: Any, path: Path, column: str | None, fits: Any, wanted: str) -> Any:
    """(number of rows or None, name, arrays) of a column of lists."""
    schema, n, batches = _table(pa, path)
    lists = {
        field.name: field.type.value_type
        for field in schema
        if pa.types.is_list(field.type)
        or pa.types.is_large_list(field.type)
        or pa.types.is_fixed_size_list(field.type)
    }
    if column is None and len(lists) != 1:
        which = f"name one with --column: {', '.join(lists)}" if lists else "no column of vectors"
        raise ValueError(f"{path}: {which}; it has {_names(schema)}")
    name = next(iter(lists)) if column is None else column
    if name not in lists:
        raise ValueError(f"{path}: no column of lists {name!r}; it has {_names(schema)}")
    if not fits(lists[name]):
        raise ValueError(
            f"{path}: column {name!r} holds lists of {lists[name]}; write it as lists of {wanted}"
        )
    return n, name, batches(name)


def _is_real(types: Any, value_type: Any) -> bool:
    return bool(types.is_floating(value_type) or types.is_integer(value_type))


def _names(schema: Any) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


# ---- arrays -------------------------------------------------------------------------


def _numbers(path: Path, name: str, array: Any) -> npt.NDArray[Any]:
    """A column's numbers, where nothing is missing."""
    array.validate(full=True)
    if array.null_count:
        raise ValueError(f"{path}: column {name!r} has rows without a value; leave them out")
    return array.to_numpy(zero_copy_only=True)  # type: ignore[no-any-return]


def _rows(path: Path, name: str, array: Any) -> npt.NDArray[Any]:
    """A column's lists, (m, dim), where all are there and equally long."""
    array.validate(full=True)
    if array.null_count:
        raise ValueError(f"{path}: column {name!r} has rows without a list; leave them out")
    if hasattr(array.type, "list_size"):
        dim = array.type.list_size
    else:
        lengths = np.diff(array.offsets.to_numpy())
        dim = int(lengths[0])
        if (lengths != dim).any():
            other = lengths[lengths != dim][0]
            raise ValueError(f"{path}: column {name!r} has lists of length {dim} and {other}")
    if dim < 1:
        raise ValueError(f"{path}: column {name!r} has empty lists")
    return _numbers(path, name, array.flatten()).reshape(-1, dim)


def _filled(path: Path, name: str, n: int | None, chunks: Iterable[Any]) -> npt.NDArray[Any]:
    """All rows of a column in one array."""
    parts: Iterable[npt.NDArray[Any]]
    parts = (_rows(path, name, chunk) for chunk in chunks if len(chunk))
    if n is None:
        held = list(parts)  # mapped, or decoded already
        if len(held) == 1:
            return held[0]
        n, parts = sum(map(len, held)), held
    all_rows: npt.NDArray[Any] | None = None
    at = 0
    for rows in parts:
        if all_rows is None:
            all_rows = np.empty((n, rows.shape[1]), rows.dtype)
        if rows.shape[1] != all_rows.shape[1] or at + len(rows) > n:
            raise ValueError(
                f"{path}: column {name!r} has lists of length {all_rows.shape[1]} and "
                f"{rows.shape[1]}, or more rows than the {n} it says"
            )
        all_rows[at : at + len(rows)] = rows
        at += len(rows)
    if all_rows is None or at != n:
        raise ValueError(f"{path}: column {name!r} has {at} of {n} vectors")
    return all_rows
