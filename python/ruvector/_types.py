"""Names for the types of arguments and results. For type checkers; nothing imports
this at run time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, Callable, Literal, Optional, Union

import numpy as np
import numpy.typing as npt

from ruvector._core import FlatF32Index, RabitqAsymIndex, RabitqIndex, RabitqPlusIndex

F32Array = npt.NDArray[np.float32]
U64Array = npt.NDArray[np.uint64]
RealArray = Union[npt.NDArray[np.floating[Any]], npt.NDArray[np.integer[Any]]]
VectorLike = Union[F32Array, Sequence[float]]
MatrixLike = Union[F32Array, Sequence[Sequence[float]], Sequence[F32Array]]
QueryLike = Union[RealArray, Sequence[float], Sequence[Sequence[float]], Sequence[RealArray]]
RowLike = Union[RealArray, Sequence[float]]  # not of float32: with convert=True
RowsLike = Union[RealArray, Sequence[Sequence[float]], Sequence[RealArray]]
IdsLike = Union[npt.NDArray[np.integer[Any]], Iterable[int]]
AllowLike = Union[IdsLike, npt.NDArray[np.bool_], Sequence[bool], None]
Progress = Optional[Callable[[int, int], object]]
PathLike = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]
Metric = Literal["l2", "ip", "cosine"]
Key = Union[str, tuple[str, str]]  # of a collection: its name, or (backend, collection)
Probes = Union[int, Literal["all"]]
IndexClass = Union[FlatF32Index, RabitqIndex, RabitqPlusIndex, RabitqAsymIndex]
