"""What calls leave behind in Python: bytes of its allocator, and references."""

from __future__ import annotations

import contextlib
import gc
import sys
import tracemalloc
from collections.abc import Callable, Iterable

MIN_OBJECT = 24  # bytes: a float


def attempt(function: Callable) -> None:
    with contextlib.suppress(Exception):
        function()


def forget_lookups() -> None:
    """Empties the interpreter's table of attribute lookups.

    Its 4096 places keep the names alive that were asked for. C code that asks with a name
    made for the purpose, as PyObject_GetAttrString does, leaves one there at every call,
    until another takes its place.
    """
    clear = getattr(sys, "_clear_internal_caches", None) or sys._clear_type_cache
    clear()


def growth(function: Callable, rounds: int, values: Iterable) -> tuple[int, int]:
    """Bytes that so many calls left, and references to the one of `values` that got most."""
    gc.collect()
    before = [sys.getrefcount(value) for value in values]
    tracemalloc.start()
    try:
        for _ in range(rounds):
            attempt(function)
        gc.collect()
        forget_lookups()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    after = [sys.getrefcount(value) for value in values]
    return held, max((now - then for now, then in zip(after, before)), default=0)


def leak(function: Callable, rounds: int, values: Iterable) -> tuple[int, int] | None:
    """The growth, if in each of three measurements it is that of a leak of the smallest
    object or more at every call: now and then other threads allocate, too."""
    attempt(function)
    for _ in range(3):
        held, references = growth(function, rounds, values)
        if held < rounds * MIN_OBJECT and references < rounds:
            return None
    return held, references
