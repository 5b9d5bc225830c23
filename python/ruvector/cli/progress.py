"""A line that shows what is going on, and text that is safe to show."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
import time
from typing import TextIO

_FRAMES = "|/-\\"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """`text` without what moves a terminal's cursor, or the reading direction: words of
    a stranger must not paint over ours."""
    return _CONTROL.sub("\ufffd", text)


def one_line(text: str) -> str:
    return " ".join(clean(text).split())


class Progress:
    """On a terminal one line that changes, elsewhere a line for each change.

    ``async with``, because it moves while nothing is told.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = sys.stderr if out is None else out
        self._live = self._out.isatty()
        self._start = time.monotonic()
        self._text = ""
        self._drawn = False
        self._turning: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Progress:
        if self._live:
            self._turning = asyncio.ensure_future(self._turn())
        return self

    async def __aexit__(self, *about: object) -> None:
        if self._turning is not None:
            self._turning.cancel()
            await asyncio.wait({self._turning})
        self.clear()

    def tell(self, text: str) -> None:
        """What is going on now."""
        text = one_line(text)
        if text == self._text:
            return
        self._text = text
        if self._live:
            self._draw()
        else:
            print(text, file=self._out, flush=True)

    def clear(self) -> None:
        """Takes the line away, to make room for other output."""
        if self._drawn:
            self._out.write("\r\x1b[K")
            self._out.flush()
            self._drawn = False

    def _draw(self) -> None:
        seconds = time.monotonic() - self._start
        frame = _FRAMES[int(seconds * 8) % len(_FRAMES)]
        width = shutil.get_terminal_size().columns - 1
        line = f"{frame} {seconds:5.1f} s  {self._text}"
        self._out.write("\r\x1b[K" + line[:width])
        self._out.flush()
        self._drawn = True

    async def _turn(self) -> None:
        while True:
            if self._text:
                self._draw()
            await asyncio.sleep(0.125)
