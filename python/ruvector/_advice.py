"""What is said of an array that is refused: what came, what is wanted, and the call that
makes the one of the other. The extension asks for these exceptions and raises them.

What follows ``; pass`` in a message is Python. It works on the argument by the name it has
in the call; ``index`` is the index that was called, or ``backend`` the backend, with its
``collection``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_LARGEST = float(np.finfo(np.float32).max)
_SHAPES = {1: "(dim,)", 2: "(n, dim)"}
_WANTED = "a float32 array or a sequence of numbers"


# ---- vectors and queries ---------------------------------------------------------------


def floats(arg: Any, array: np.ndarray[Any, Any], name: str, rank: int, how: str) -> Exception:
    """`array` is what `arg` became; `rank` dimensions are wanted. how: "strict" wants
    float32 as it lies, "offer" too, and the call has convert=True; "convert" takes every
    real dtype."""
    if array.dtype.kind == "O":
        return _objects(arg, array, name, rank)
    if not _real(array.dtype):
        return TypeError(
            f"{name}: expected dtype float32, got {array.dtype}, which holds no real numbers"
        )
    wrong = array.dtype.kind == "b" if how == "convert" else not _is_float32(array)
    beyond = _beyond(array)
    call = f"np.ascontiguousarray({name}, dtype=np.float32)"
    if beyond is not None:
        source = name if isinstance(arg, np.ndarray) else f"np.asarray({name})"
        call = f"np.ascontiguousarray({source} / np.abs({source}).max(), dtype=np.float32)"
    elif not wrong and (how == "convert" or array.flags.c_contiguous):
        call = name if array.flags.aligned else f"{name}.copy()"
    shaped = _shaped(call, array.shape, rank)
    if shaped is None:
        return _wrong_rank(array.shape, name, rank)
    hint = " (convert=True copies)" if how == "offer" else ""
    if beyond is not None:
        return ValueError(
            f"{name}: {beyond:.3g} is beyond float32, which ends at 3.4e38; scale vectors and "
            f"queries alike; pass {shaped}"
        )
    if wrong:
        shape = "" if array.ndim == rank else f" of shape {array.shape}"
        return TypeError(
            f"{name}: expected dtype float32, got {array.dtype}{shape}{hint}; pass {shaped}"
        )
    if array.ndim != rank:
        return ValueError(
            f"{name}: expected shape {_SHAPES[rank]}, got {array.shape}; pass {shaped}"
        )
    fault = "data is not aligned" if array.flags.c_contiguous else "is not C-contiguous"
    return ValueError(f"{name}: array {fault}{hint}; pass {shaped}")


def not_floats(arg: Any, name: str, rank: int) -> Exception:
    """`arg` is neither an array nor a sequence."""
    call = None
    if hasattr(arg, "__dlpack__"):
        call = f"np.from_dlpack({name})"
    elif isinstance(arg, dict) and rank == 2:
        call = f"list({name}.values())"
    elif hasattr(arg, "__next__"):
        call = f"list({name})"
    return _wrong_type(arg, name, _WANTED, call)


def uneven(arg: Any, name: str) -> Exception:
    """NumPy makes no array of the sequence `arg`."""
    cells = np.empty(len(arg), object)
    for row, cell in enumerate(arg):
        cells[row] = cell
    fault = _fault_of_rows(cells, name)
    return fault or ValueError(f"{name}: rows must be of equal length and hold numbers")


def masked(arg: Any, name: str, use: str) -> Exception:
    """Values of `arg`, a masked array or a sequence of them, are masked. use: "floats",
    "rows" for ids of rows, "wanted" or, in a backend, "stored" for ids to look up, "mask" for
    bools."""
    calls = {
        "floats": f"np.ascontiguousarray({name}.filled(0), dtype=np.float32)",
        "wanted": f"{name}.compressed()",
        "stored": f"{name}.compressed()",
        "mask": f"{name}.filled(False)",
    }
    if use == "floats" and not isinstance(arg, np.ndarray):
        calls[use] = f"[np.ma.filled(row, 0) for row in {name}]"
    call = f"; pass {calls[use]}" if use in calls else ""
    put = {"floats": "; put numbers there, or leave those rows out", "rows": "; each row needs one"}
    return ValueError(f"{name}: values are masked{put.get(use, '')}{call}")


def _objects(arg: Any, array: np.ndarray[Any, Any], name: str, rank: int) -> Exception:
    for column, label in enumerate(_labels(arg) if array.ndim == 2 else []):
        if len(array) and _is_row(array[0, column]):
            return _rows(arg[label], array[:, column], f"{name}[{label!r}]", name, rank)
    if array.ndim == 1 and any(_is_row(cell) for cell in array):
        return _rows(arg, array, name, name, rank)
    if array.ndim == 0:
        return _wrong_type(arg, name, _WANTED, None)
    for place, item in np.ndenumerate(array):
        if not hasattr(item, "__float__") or isinstance(item, (str, bytes, bool, np.bool_)):
            return TypeError(
                f"{name}: expected numbers, got dtype object with {_short(item)} at {place}"
            )
        if item > _LARGEST or item < -_LARGEST:  # ints may be beyond every float
            return ValueError(f"{name}: {_short(item)} at {place} is beyond float32")
    shaped = _shaped(f"np.ascontiguousarray({name}, dtype=np.float32)", array.shape, rank)
    if shaped is None:
        return _wrong_rank(array.shape, name, rank)
    return TypeError(f"{name}: expected dtype float32, got object; pass {shaped}")


def _rows(column: Any, cells: np.ndarray[Any, Any], source: str, name: str, rank: int) -> Exception:
    """An object for each row: a column of a frame, or an array of arrays. `source`: how the
    column is written."""
    fault = _fault_of_rows(cells, name)
    if fault:
        return fault
    shape = (len(cells), len(cells[0]))
    call = _arrow_call(column, source) or f"np.stack({source}).astype(np.float32)"
    shaped = _shaped(call, shape, rank)
    if shaped is None:
        return _wrong_rank(shape, name, rank)
    return TypeError(f"{name}: expected dtype float32, got an object for each row; pass {shaped}")


def _fault_of_rows(cells: np.ndarray[Any, Any], name: str) -> Exception | None:
    for row, cell in enumerate(cells):
        if _is_missing(cell):
            return ValueError(f"{name}: row {row} is missing; leave it out, and its id")
        if not _is_row(cell):
            return TypeError(
                f"{name}: expected numbers in rows of equal length, row {row} is {_short(cell)}"
            )
        if len(cell) != len(cells[0]):
            return ValueError(
                f"{name}: rows must be of equal length, but row {row} holds {len(cell)} numbers "
                f"and row 0 {len(cells[0])}"
            )
        dtype = np.asarray(cell).dtype
        if not _real(dtype):
            return TypeError(
                f"{name}: expected numbers in rows of equal length, row {row} has dtype {dtype}"
            )
    return None


def _arrow_call(column: Any, source: str) -> str | None:
    """Without a copy, where Arrow keeps all rows as one array of float32."""
    kind: Any = getattr(column, "type", None)
    if not str(kind).startswith("fixed_size_list<") or str(kind.value_type) != "float":
        return None
    chunks = getattr(column, "chunks", None)
    if any(chunk.flatten().null_count for chunk in chunks or [column]):
        return None
    whole = source if chunks is None else f"{source}.combine_chunks()"
    return f"{whole}.flatten().to_numpy().reshape(-1, {kind.list_size})"


def _labels(frame: Any) -> list[Any]:
    labels: Any = getattr(frame, "column_names", None)  # Arrow's columns are no names
    return list(getattr(frame, "columns", ()) if labels is None else labels)


def _is_missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _is_row(cell: Any) -> bool:
    return hasattr(cell, "__len__") and not isinstance(cell, (str, bytes, dict))


def _real(dtype: np.dtype[Any]) -> bool:
    """bool, too, which a call converts; and dtypes that others add, such as bfloat16."""
    if dtype.num < 256:
        return bool(dtype.kind in "fiub")
    return bool(np.can_cast(dtype, np.float32))


def _is_float32(array: np.ndarray[Any, Any]) -> bool:
    return bool(array.dtype == np.float32)  # not of the other byte order


def _beyond(array: np.ndarray[Any, Any]) -> float | None:
    """A finite value that no float32 can hold."""
    if array.dtype.kind != "f" or array.dtype.itemsize <= 4 or not array.size:
        return None
    for value in (array.max(), array.min()):
        if _LARGEST < abs(value) < np.inf:
            return float(value)
    return None


def _shaped(call: str, shape: tuple[int, ...], rank: int) -> str | None:
    """`call` with that many dimensions; None if no shape is meant for sure."""
    if len(shape) == rank:
        return call
    if rank == 2 and len(shape) == 1 and shape[0]:
        return f"np.reshape({call}, (1, -1))"
    if rank == 2 and len(shape) > 2:
        return f"np.reshape({call}, (-1, {shape[-1]}))"
    if rank == 1 and len(shape) > 1 and np.prod(shape[:-1]) == 1:
        return f"np.reshape({call}, -1)"
    return None


def _wrong_rank(shape: tuple[int, ...], name: str, rank: int) -> Exception:
    fix = "; a vector has one dimension"
    if rank == 1 and shape:
        many = "search_batch" if name == "query" else "add_batch or upsert"
        fix = f"; several go to {many}"
    elif rank == 2 and shape == (0,):
        fix = "; no rows still have a dimension; pass np.empty((0, dim), dtype=np.float32)"
    return ValueError(f"{name}: expected shape {_SHAPES[rank]}, got {shape}{fix}")


# ---- ids -------------------------------------------------------------------------------


def ids(arg: Any, array: np.ndarray[Any, Any], name: str, use: str, batch: bool) -> Exception:
    """An array that holds no ids. use: "rows" for ids of rows, "wanted" or, in a backend,
    "stored" for ids to look up. batch: the call has many queries."""
    kind = array.dtype.kind
    if array.ndim != 1:
        return _wrong_ids_shape(array.shape, name, batch)
    got = f"{name}: expected integers, got dtype {array.dtype}"
    if kind == "b" and use != "rows":
        return TypeError(f"{got}{_pass_where(name, use)}")
    if kind == "f":
        return TypeError(f"{got}{_advice_on_floats(arg, array, name, use)}")
    if kind in "US":
        return TypeError(f"{got}{_advice_on_strings(array.tolist(), name, use)}")
    return TypeError(got)


def id_item(values: list[Any], place: int, name: str, use: str, batch: bool) -> Exception:
    """Of the values of a sequence, the one at `place` is no integer."""
    item = values[place]
    if _is_row(item):
        return _wrong_ids_shape((len(values), len(item)), name, batch)
    got = f"{name}: expected an int, got {type(item).__name__} (position {place})"
    if isinstance(item, str):
        return TypeError(f"{got}{_advice_on_strings(values, name, use)}")
    if all(isinstance(v, (int, float, np.number)) and _whole(v, use) for v in values):
        return TypeError(f"{got}; pass [int(i) for i in {name}]")
    return TypeError(got)


def not_ids(arg: Any, name: str, use: str) -> Exception:
    """`arg` is no sequence or iterable that could hold ids in their order."""
    call = None
    if isinstance(arg, (set, frozenset)):
        return TypeError(f"{name}: a set has no order, and each row gets one; pass sorted({name})")
    if isinstance(arg, (bytes, bytearray)) and len(arg) % 8 == 0:
        call = f"np.frombuffer({name}, dtype=np.uint64)"
    elif isinstance(arg, dict):
        call = f"list({name})"
    elif isinstance(arg, (int, np.integer)) and not isinstance(arg, bool):
        call = f"[{name}]"
    elif callable(arg) and use != "rows":
        call = f"[i for i in {_all_ids(use)}.tolist() if {name}(i)]"
    return _wrong_type(arg, name, "an integer array or ints", call)


def flags(arg: Any, name: str, count: int, one_a_row: bool) -> Exception:
    """Zeros and ones, some repeated, that would be read as ids. one_a_row: as many as the
    index has rows; else they are flags for rows that have changed, or ids after all."""
    if one_a_row:
        got = (
            f"{name}: zeros and ones, one for each row, are a mask and would be read as ids 0 and 1"
        )
        if name != "allow":
            return ValueError(f"{got}{_pass_where(name, 'wanted')}")
        call = f"{name}.astype(bool)" if isinstance(arg, np.ndarray) else _as_mask(name)
        return ValueError(f"{got}; pass {call}")
    repeatable = isinstance(arg, (list, tuple)) or hasattr(arg, "__array__")
    call = f"np.unique({name})" if repeatable else f"set({name})"
    mask = "a mask of bools, one for each row" if name == "allow" else "ids of them"
    return ValueError(
        f"{name}: {count} zeros and ones, some repeated, would be read as ids 0 and 1; if they "
        f"flag rows, make {mask}, by the rows as they are now; for ids pass {call}"
    )


def mask(array: np.ndarray[Any, Any], batch: bool) -> Exception:
    """Bools in a shape that fits nothing, or a sequence that does not hold bools only."""
    if array.dtype.kind != "b":
        return TypeError(f"allow: a mask must hold bools only, got items of dtype {array.dtype}")
    shaped = _shaped("allow", array.shape, 1)
    call = f"; pass {shaped}" if shaped and array.ndim else ""
    wanted = "(n,) or (m, n), one row for each query" if batch else "(n,)"
    return ValueError(f"allow: expected shape {wanted}, got {array.shape}{call}")


def _wrong_ids_shape(shape: tuple[int, ...], name: str, batch: bool) -> Exception:
    got = f"{name}: expected shape (n,), got {shape}"
    if not shape:
        return ValueError(f"{got}; pass [{name}]")
    if batch:
        return ValueError(
            f"{got}; ids are for all queries of the call; search for each with its own; "
            f"call [index.search(query, allow=ids) for query, ids in zip(queries, {name})]"
        )
    return ValueError(f"{got}; pass [i for some in {name} for i in some]")


def _pass_where(name: str, use: str) -> str:
    """For calls that take ids only; such a call cannot tell how old a mask is."""
    return (
        "; a mask from before rows were removed or replaced would name others: make it anew; "
        f"pass {_all_ids(use)}[{_as_mask(name)}]"
    )


def _all_ids(use: str) -> str:
    return "backend.pull_vectors(collection).ids" if use == "stored" else "index.ids"


def _advice_on_floats(arg: Any, array: np.ndarray[Any, Any], name: str, use: str) -> str:
    for place, value in enumerate(array):
        if not _whole(value, use):
            return f"; {value} (position {place}) is no id"
    if use != "rows" and len(array) > 2 and np.isin(array, (0, 1)).all():
        advice = f"; pass {_as_mask(name)}" if name == "allow" else _pass_where(name, use)
        return f", a mask by its values{advice}"
    source = name if isinstance(arg, np.ndarray) else f"np.asarray({name})"
    return f"; pass {source}.astype(np.{'int' if array.min() < 0 else 'uint'}64)"


def _as_mask(name: str) -> str:
    return f"np.asarray({name}, dtype=bool)"


def _advice_on_strings(values: list[Any], name: str, use: str) -> str:
    texts = [v.decode("ascii", "replace") if isinstance(v, bytes) else v for v in values]
    if all(isinstance(t, str) and t.isdecimal() and int(t) < 2**64 - 1 for t in texts):
        return f"; pass [int(i) for i in {name}]"
    if use != "rows":
        return "; look their ids up first: strings are no ids"
    return "; keep a dict from each string to an int, or leave ids out and keep the strings by row"


def _whole(value: Any, use: str) -> bool:
    """A number that is an id, and was not rounded on its way through a float."""
    if isinstance(value, (bool, np.bool_)):
        return False
    if isinstance(value, (int, np.integer)):
        return True
    lowest = -(2**53) if use != "rows" else 0
    return bool(lowest <= value < 2**53 and value == int(value))


# ---- all -------------------------------------------------------------------------------


def _wrong_type(arg: Any, name: str, wanted: str, call: str | None) -> Exception:
    advice = f"; pass {call}" if call else ""
    return TypeError(f"{name}: expected {wanted}, got {type(arg).__name__}{advice}")


def _short(item: Any) -> str:
    text = repr(item)
    return text if len(text) <= 40 else f"{text[:37]}..."
