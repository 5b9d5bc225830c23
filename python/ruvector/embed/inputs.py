"""What `Embedder` is given: texts, and an array for the vectors.

A container whose iteration gives something other than its texts, or gives them in no
order, is refused with the call that was meant: vectors of keys or column names look like
any others.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, Mapping, Sequence, Sized
from collections.abc import KeysView as Keys
from collections.abc import Set as AnySet
from itertools import islice
from typing import Any

import numpy as np

# Texts that are tokenised and sorted together.
WINDOW = 4096


def checked_texts(texts: Iterable[str]) -> tuple[Iterable[str], int | None]:
    """The texts and how many there are; those without a length are checked when read."""
    check_container(texts, "texts", "str")
    if isinstance(texts, str):
        raise TypeError(
            "embed_batch takes a list of str, got one str; use embed(text), or embed_batch([text])"
        )
    if isinstance(texts, (bytes, bytearray, memoryview)):
        raise TypeError(
            f"embed_batch takes a list of str, got one {type(texts).__name__}; "
            'use embed(str(text, "utf-8")), or embed_batch([str(text, "utf-8")])'
        )
    if getattr(texts, "ndim", 1) == 0:
        raise TypeError("texts is an array of no dimension; use embed(texts.item())")
    if not is_iterable(texts):
        raise TypeError(f"embed_batch takes a list of str, got {type(texts).__name__}")
    if not isinstance(texts, Sized):
        return (_checked_text(text, row) for row, text in enumerate(texts)), None
    checked = [_checked_text(text, row) for row, text in enumerate(texts)]
    return checked, len(checked)


def is_iterable(value: object) -> bool:
    """Iterables, and objects that only number their items."""
    return isinstance(value, Iterable) or hasattr(value, "__getitem__")


def check_container(items: object, name: str, kind: str) -> None:
    """`TypeError` for a container whose iteration does not give its values in order.

    name, kind: what the argument is called and holds, as in "texts" and "str".
    """
    advice = _advice_for(items, name)
    if advice:
        what = type(items).__name__
        raise TypeError(f"{name}: expected a list of {kind}, got {what}; {advice}")


def _advice_for(items: Any, name: str) -> str:
    if isinstance(items, Mapping):
        return f"iterating gives its keys: use list({name}.values())"
    if isinstance(items, ItemsView):
        return f"iterating gives pairs: use [value for _, value in {name}]"
    # An ordered set is a sequence too, and the keys of a dict have its order.
    if isinstance(items, AnySet) and not isinstance(items, (Sequence, Keys)):
        return f"it has no order: use a list, or sorted({name})"
    columns = _column_names(items)
    if columns:
        if hasattr(items, "collect_schema") and not hasattr(items, "to_numpy"):
            return f"it is not computed yet: use a column of {name}.collect()"
        listed = ", ".join(map(repr, columns[:8])) + (", ..." if len(columns) > 8 else "")
        column = next((c for c in columns[:8] if _holds_text(items, c)), columns[0])
        end = ".to_pylist()" if hasattr(items, "to_pylist") else ""
        return f"use one of its columns ({listed}), as in {name}[{column!r}]{end}"
    return ""


def _column_names(items: Any) -> list[Any]:
    """Those of a data frame or table of any library; none for anything else."""
    if isinstance(items, np.ndarray):
        return list(items.dtype.names or ())
    if hasattr(items, "collect_schema"):  # polars; a LazyFrame warns when asked for columns
        return list(items.collect_schema().names())
    names = getattr(items, "column_names", None)  # pyarrow, Hugging Face datasets
    if names is None:
        names = getattr(items, "columns", None)
    return [] if names is None or callable(names) or isinstance(names, str) else list(names)


def _holds_text(table: Any, column: Any) -> bool:
    """Whether the column begins with a text, as far as can be told."""
    try:
        first = next(iter(table[column]))
    except Exception:  # an empty column, or another library's idea of one
        return False
    return isinstance(first.as_py() if hasattr(first, "as_py") else first, str)


def _checked_text(text: object, row: int) -> str:
    if not isinstance(text, str):
        advice = _advice_for_item(text)
        raise TypeError(f"texts[{row}] is {type(text).__name__}, not str" + advice)
    try:
        text.encode()
    except UnicodeEncodeError as why:
        raise ValueError(
            f"texts[{row}] holds a lone surrogate at character {why.start}; use "
            'text.encode("utf-8", "replace").decode() to replace it'
        ) from None
    return text


def _advice_for_item(item: Any) -> str:
    """What makes texts of a list of such items."""
    if isinstance(item, (bytes, bytearray)):
        return "; use [text.decode() for text in texts]"
    if _is_missing(item):
        return '; use [text if isinstance(text, str) else "" for text in texts], or leave it out'
    if isinstance(item, Mapping):
        key = next((key for key, value in item.items() if isinstance(value, str)), None)
        return "" if key is None else f"; use [row[{key!r}] for row in texts]"
    if hasattr(item, "as_py"):  # pyarrow
        return "; use texts.to_pylist()"
    if isinstance(item, (list, tuple, np.ndarray)):
        return "; use [text for row in texts for text in row] for one list of all of them"
    return ""


def _is_missing(item: Any) -> bool:
    """None, NaN, and what pandas writes for a value that is not there."""
    if isinstance(item, float):
        return item != item
    return item is None or type(item).__name__ in ("NAType", "NaTType")


def windows(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts, so many at a time as are kept in memory."""
    left = iter(texts)
    while window := list(islice(left, WINDOW)):
        yield window


def check_out(out: object, total: int | None, dim: int) -> None:
    """`out` is an array that can take the vectors, or an error says why not."""
    rows = "n" if total is None else str(total)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be a float32 array of shape ({rows}, {dim}), got {out!r}")
    if (
        out.dtype != np.float32
        or out.ndim != 2
        or out.shape[1] != dim
        or (total is not None and len(out) != total)
        or not out.flags.c_contiguous
        or not out.flags.writeable
    ):
        kind = "" if out.flags.c_contiguous else ", not C-contiguous"
        kind += "" if out.flags.writeable else ", read-only"
        raise ValueError(
            f"out must be a writable, C-contiguous float32 array of shape ({rows}, {dim}), "
            f"got {out.dtype} of shape {out.shape}{kind}"
        )
