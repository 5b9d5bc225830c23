"""Vectors, ids and results in files: what the suffix says is how they are read."""

from __future__ import annotations

from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import NO_ID
from . import tables, xvecs
from .report import Usage, one_line, replacing

SUFFIXES = (".npy", *xvecs.TYPES, *tables.SUFFIXES)
FORMATS = ".npy, .fvecs, .bvecs, .ivecs, .parquet, .arrow or .feather"
_EXACT = 1 << 24  # whole numbers float32 holds exactly
_BLOCK = 65_536  # rows converted at a time


def read_vectors(
    path: Path, column: str | None = None, *, convert: bool | None = None
) -> npt.NDArray[np.float32]:
    """(n, dim) float32, C-contiguous. A `.npy` is mapped, not read.

    convert: copies of any real dtype and layout are made, and one vector is a row; None
    where the command has no option for it.

    Raises ValueError, OSError.
    """
    kind = _suffix(path, column)
    if kind in tables.SUFFIXES:
        rows = tables.read_vectors(path, column, any_real=bool(convert))
        return _as_float32(path, rows)
    if kind == ".npy":
        rows = _npy(path)
        if rows.ndim == 2 and rows.dtype == np.float32 and rows.flags.c_contiguous:
            return rows
        if convert and rows.ndim in (1, 2) and rows.dtype.kind in "fiu":
            return _as_float32(path, np.atleast_2d(rows))
        raise _refused(path, rows, convert)
    numbers = xvecs.read(path)
    if kind == ".ivecs" and not -_EXACT <= numbers.min() <= numbers.max() <= _EXACT:
        raise ValueError(f"{path}: numbers beyond 2^24, which float32 does not hold exactly")
    return numbers.astype(np.float32, copy=False)


def _refused(path: Path, rows: npt.NDArray[Any], convert: bool | None) -> ValueError:
    wanted = "real numbers" if convert else "float32 in C order"
    got = f"{path}: expected (n, dim) {wanted}, got {rows.shape} {rows.dtype}"
    if not rows.flags.c_contiguous:
        got += " in Fortran order"
    if rows.ndim not in (1, 2) or rows.dtype.kind not in "fiub":
        return ValueError(got)
    option = " (--convert converts it)" if convert is False and rows.dtype.kind != "b" else ""
    shaped = ".reshape(1, -1)" if rows.ndim == 1 else ""
    return ValueError(
        f"{got}{option}; save it again as np.ascontiguousarray(x, dtype=np.float32){shaped}"
    )


def _as_float32(path: Path, rows: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """A copy, if it is not float32 already; block by block, for a mapped file may be large."""
    if rows.dtype == np.float32 and rows.flags.c_contiguous:
        return rows
    copy = np.empty(rows.shape, np.float32)
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        with np.errstate(over="ignore"):
            copy[start : start + _BLOCK] = block
        if (np.isinf(copy[start : start + _BLOCK]) & np.isfinite(block)).any():
            raise ValueError(
                f"{path}: numbers beyond float32, which ends at 3.4e38; scale vectors and "
                "queries alike"
            )
    return copy


def read_ids(path: Path, column: str | None = None) -> npt.NDArray[Any]:
    """(n,) integers: a `.npy`, or a column of a table."""
    kind = _suffix(path, column)
    if kind in tables.SUFFIXES:
        if column is None:
            raise Usage(f"{path} is a table: name the column of ids with --id-column")
        return tables.read_ids(path, column)
    ids = _npy(path) if kind == ".npy" else None
    if ids is None or ids.ndim != 1 or ids.dtype.kind not in "iu":
        got = "" if ids is None else f", got {ids.shape} {ids.dtype}"
        raise ValueError(f"{path}: expected a .npy of (n,) integers or a table{got}")
    return ids


def read_truth(path: Path) -> npt.NDArray[np.uint64]:
    """(m, k) ids, best first, NO_ID where there is none: as `write_results` wrote them, or an
    `.ivecs`."""
    kind = _suffix(path)
    if kind in tables.SUFFIXES:
        ids = tables.read_rows_of_ids(path, None)
    else:
        ids = _npy(path) if kind == ".npy" else xvecs.read(path)
    if ids.ndim != 2 or ids.dtype.kind not in "iu":
        raise ValueError(f"{path}: expected (m, k) integers, got {ids.shape} {ids.dtype}")
    if ids.dtype.kind == "i" and ids.size and ids.min() < -1:
        raise ValueError(f"{path}: {ids.min()} is no id")
    return ids.astype(np.uint64, copy=False)  # -1 becomes NO_ID


def write_results(path: Path, ids: npt.NDArray[np.uint64], scores: npt.NDArray[np.float32]) -> None:
    """Writes what a search found: a table has both, `.npy` and `.ivecs` the ids, `.fvecs`
    the scores."""
    check_output(path)
    if path.suffix == ".ivecs":
        there = ids[ids != np.uint64(NO_ID)]
        if there.size and there.max() > np.iinfo(np.int32).max:
            raise ValueError(f"{path}: id {there.max()} is too large for .ivecs; write a .npy")
    with replacing(path) as new:
        if path.suffix in tables.SUFFIXES:
            tables.write(new, path.suffix, ids, scores)
        elif path.suffix == ".npy":
            with open(new, "wb") as file:
                np.save(file, ids)
        elif path.suffix == ".ivecs":
            xvecs.write(new, ids.astype(np.int64).astype("<i4"), path.suffix)
        else:
            xvecs.write(new, scores, path.suffix)


def write_scores(path: Path, scores: npt.NDArray[np.float32]) -> None:
    """Writes the scores alone, as `.npy` or `.fvecs`."""
    with replacing(path) as new:
        if path.suffix == ".npy":
            with open(new, "wb") as file:
                np.save(file, scores)
        else:
            xvecs.write(new, scores, path.suffix)


def check_output(path: Path, suffixes: tuple[str, ...] = SUFFIXES) -> None:
    """Before the work is done: whether there is a way to write it."""
    allowed = [suffix for suffix in suffixes if suffix != ".bvecs"]
    if path.suffix not in allowed:
        raise Usage(f"{path}: cannot write {path.suffix or 'no suffix'}; use {', '.join(allowed)}")
    if not path.parent.is_dir():
        raise Usage(f"{path}: the folder {path.parent} does not exist")


def _suffix(path: Path, column: str | None = None) -> str:
    kind = path.suffix
    if kind not in SUFFIXES:
        raise Usage(f"{path}: cannot tell what it holds from {kind or 'no suffix'}; use {FORMATS}")
    if column is not None and kind not in tables.SUFFIXES:
        raise Usage(f"{path} has no columns: --column and --id-column are for tables")
    return kind


def _npy(path: Path) -> npt.NDArray[Any]:
    """The array of a `.npy`, mapped."""
    try:
        return np.asarray(np.lib.format.open_memmap(str(path), mode="r"))
    except (ValueError, SyntaxError, TokenError) as why:  # the header is a Python literal
        raise ValueError(f"{path}: not a .npy that can be mapped: {one_line(why)}") from why
