"""`.fvecs`, `.ivecs` and `.bvecs`: the vector files of the TEXMEX corpus.

Each vector is its length, a little-endian int32, and then that many float32, int32 or
uint8 (http://corpus-texmex.irisa.fr). There is no header: how many vectors there are
follows from the size of the file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

TYPES: dict[str, np.dtype[Any]] = {
    ".fvecs": np.dtype("<f4"),
    ".ivecs": np.dtype("<i4"),
    ".bvecs": np.dtype("u1"),
}
_LENGTH = 4  # bytes
_AT_ONCE = 1 << 22  # bytes read at a time


def read(path: Path) -> npt.NDArray[Any]:
    """The vectors, (n, dim), in the type the suffix stands for.

    Every length is compared with the first. Raises ValueError.
    """
    item = TYPES[path.suffix]
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        dim = int.from_bytes(file.read(_LENGTH), "little", signed=True)
        record = _LENGTH + dim * item.itemsize
        if size < _LENGTH or dim < 1 or size % record:
            raise ValueError(
                f"{path}: {size} bytes are no whole number of vectors of length {dim}, the "
                f"first number in it: the file is cut short or no {path.suffix}"
            )
        raw = np.memmap(file, np.uint8, "r", shape=(size // record, record))
    vectors = np.empty((len(raw), dim), item)
    step = max(1, _AT_ONCE // record)
    for begin in range(0, len(raw), step):
        rows = raw[begin : begin + step]
        lengths = np.ascontiguousarray(rows[:, :_LENGTH]).view("<i4")[:, 0]
        wrong = np.flatnonzero(lengths != dim)
        if len(wrong):
            raise ValueError(
                f"{path}: vector {begin + wrong[0]} has length {lengths[wrong[0]]}, the first "
                f"{dim}: the file is damaged or no {path.suffix}"
            )
        vectors[begin : begin + step] = np.ascontiguousarray(rows[:, _LENGTH:]).view(item)
    return vectors


def write(path: Path, rows: npt.NDArray[Any], suffix: str) -> None:
    """Writes (n, dim) as what the suffix stands for."""
    item = TYPES[suffix]
    raw = np.empty((len(rows), _LENGTH + rows.shape[1] * item.itemsize), np.uint8)
    raw[:, :_LENGTH] = np.frombuffer(rows.shape[1].to_bytes(_LENGTH, "little"), np.uint8)
    raw[:, _LENGTH:] = np.ascontiguousarray(rows, item).view(np.uint8)
    raw.tofile(path)
