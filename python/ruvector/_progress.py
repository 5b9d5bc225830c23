"""A line on the terminal that tells how far long work has come."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from typing import TextIO, Union

#: What a caller gives: a function of (done, total), a choice, or None for the default.
Progress = Union[Callable[[int, "int | None"], object], bool, None]

# Seconds before the line appears, and between two changes of it.
PATIENCE, PERIOD = 2.0, 0.2
_WIDTH = 79


class Bar:
    """`bar(done, total)` redraws the line; `close` ends it. `total` None is unknown.

    doing, things: the line's words, as in "embedding 40 of 900 texts".
    """

    def __init__(
        self,
        out: TextIO,
        patience: float = PATIENCE,
        *,
        doing: str = "embedding",
        things: str = "texts",
    ) -> None:
        self._out = out
        self._doing, self._things = doing, things
        self._start = time.monotonic()
        self._next = self._start + patience
        self._drawn = False

    def __call__(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now < self._next and not (self._drawn and done == total):
            return
        self._next, self._drawn = now + PERIOD, True
        rate = done / max(now - self._start, 1e-9)
        line = f"{self._doing} {done:,} {self._things}, {rate:,.0f} a second"
        if total:
            filled = 20 * done // total
            line = (
                f"{self._doing} [{'#' * filled}{'.' * (20 - filled)}] {done:,} of {total:,}, "
                f"{rate:,.0f} a second, {(total - done) / max(rate, 1e-9):,.0f} s to go"
            )
        self._write(f"\r{line[:_WIDTH]:<{_WIDTH}}")

    def close(self) -> None:
        if self._drawn:
            self._write("\n")

    def _write(self, text: str) -> None:
        # The work goes on when its terminal is gone.
        with contextlib.suppress(OSError, ValueError):
            self._out.write(text)
            self._out.flush()


def as_callback(
    progress: Progress,
) -> tuple[Callable[[int, int | None], object] | None, Callable[[], object]]:
    """What to call after every batch, if anything, and what to call at the end.

    By default a bar is shown for long work on a terminal.
    """
    if callable(progress):
        return progress, lambda: None
    if progress is not None and not isinstance(progress, bool):
        raise TypeError(
            f"progress must be a function, a bool or None, got {type(progress).__name__}"
        )
    out = sys.stderr
    if out is None or out.closed or progress is False or (progress is None and not out.isatty()):
        return None, lambda: None
    bar = Bar(out)
    return bar, bar.close
