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


def read_vectors(path: Path, column: str | None = None) -> npt.NDArray[np.float32]:
    """(n, dim) float32, C-contiguous. A `.npy` is mapped, not read.

    Raises ValueError, OSError.
    """
    kind = _suffix(path, column)
    if kind in tables.SUFFIXES:
        return tables.read_vectors(path, column)
    if kind == ".npy":
        rows = _npy(path)
        if rows.ndim != 2 or rows.dtype != np.float32 or not rows.flags.c_contiguous:
            raise ValueError(
                f"{path}: expected (n, dim) float32 in C order, got {rows.shape} {rows.dtype}"
                f"{'' if rows.flags.c_contiguous else ' in Fortran order'}; save it again as "
                "np.ascontiguousarray(x, dtype=np.float32)"
                f"{'.reshape(1, -1)' if rows.ndim == 1 else ''}"
            )
        return rows
    numbers = xvecs.read(path)
    if kind == ".ivecs" and not -_EXACT <= numbers.min() <= numbers.max() <= _EXACT:
        raise ValueError(f"{path}: numbers beyond 2^24, which float32 does not hold exactly")
    return numbers.astype(np.float32, copy=False)


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
