"""The standard streams of a command: they take every character, and may be closed or full.

What is printed is the caller's, an agent's or a file system's, and the terminal or pipe may
be of an encoding that lacks it. Nothing may be lost for that, least of all an answer that
was paid for, so such characters are written as Python escapes them: ``\\u6f22``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

_ESCAPED = "backslashreplace"
#: Of streams, unless the caller's PYTHONIOENCODING asks for something else.
_DEFAULTS = ("strict", "surrogateescape")


class Results:
    """stdout. `failure` is why something printed was not written, if so. What follows is
    dropped then, so that the interpreter does not try again at its end."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.failure = None if stream is not None else _failure(errno.EBADF, "closed")

    def check(self) -> None:
        """Raises where nothing can be printed: before there is a result to lose."""
        if self.failure is not None:
            raise self.failure

    def finish(self) -> OSError | None:
        """Writes what is held back; gives `failure`."""
        with contextlib.suppress(OSError):
            self.flush()
        return self.failure

    def write(self, text: str) -> int:
        with self._watched() as stream:
            return stream.write(text)

    def flush(self) -> None:
        with self._watched() as stream:
            stream.flush()

    @contextmanager
    def _watched(self) -> Iterator[TextIO]:
        self.check()
        assert self._stream is not None
        try:
            yield self._stream
        except OSError as why:
            self.failure = _failure(why.errno, why.strerror)
            _drop(self._stream)
            raise self.failure from why

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _failure(number: int | None, words: str | None) -> OSError:
    return OSError(number, words, "standard output")


class _Messages:
    """stderr. What cannot be written there stops no work."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with self._forgiving():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._forgiving():
            self._stream.flush()

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            _drop(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def standard_streams() -> Iterator[Results]:
    """Makes stdout and stderr what the commands need, until the block ends."""
    _occupy_descriptors()
    out, err = sys.stdout, sys.stderr
    results = Results(out)
    errors = getattr(out, "errors", None)
    escaping = errors in _DEFAULTS and hasattr(out, "reconfigure")
    try:
        if escaping:
            cast(Any, out).reconfigure(errors=_ESCAPED)
        sys.stdout = cast(TextIO, results)
        sys.stderr = cast(TextIO, _Messages(_nowhere() if err is None else err))
        yield results
    finally:
        sys.stdout, sys.stderr = out, err
        if escaping:
            with contextlib.suppress(OSError):
                cast(Any, out).reconfigure(errors=errors)


def _nowhere() -> TextIO:
    """For a closed stderr: its descriptor now leads to the null device."""
    return open(2, "w", encoding="utf-8", errors=_ESCAPED, closefd=False)


def _drop(stream: TextIO) -> None:
    """Sends what a stream still holds, and all that follows, nowhere."""
    with contextlib.suppress(OSError):  # a stream that is no file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _occupy_descriptors() -> None:
    """Opens those of 0, 1 and 2 that are closed. Else the next file or socket would get
    such a number, and what a library prints to stderr would go into it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
