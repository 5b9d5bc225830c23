"""Compressed answers, which nobody asked for and some servers send, with bounds. No I/O.

What comes out of a few kilobytes may be gigabytes: :class:`Inflater` never holds more
than a piece of it, and whoever reads counts the pieces.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from ..errors import ProtocolError

CODINGS = ("gzip", "x-gzip", "deflate")

_PIECE = 64 * 1024
_MEMBERS = 16  # of one gzip stream; a stranger could send millions of empty ones


class Inflater:
    """Bytes of one content coding (RFC 9110, 8.4.1) to what they stand for."""

    def __init__(self, coding: str, what: str) -> None:
        self._gzip = coding != "deflate"
        self._what = what
        self._members = 0
        self._inner = self._begin()
        self._fed = False

    def _begin(self) -> zlib._Decompress:
        self._members += 1
        if self._members > _MEMBERS:
            raise self._broken(f"more than {_MEMBERS} members")
        return zlib.decompressobj(16 + zlib.MAX_WBITS if self._gzip else zlib.MAX_WBITS)

    def _broken(self, why: str) -> ProtocolError:
        return ProtocolError(f"{self._what} is not what its Content-Encoding says: {why}")

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """What `data` adds, in pieces of at most 64 KiB.

        Raises:
            ProtocolError: it is not compressed as it is said to be.
        """
        if not self._gzip and not self._fed and data and data[0] & 0x0F != 8:
            # "deflate" is zlib's format; some servers leave its two-byte header out
            self._inner = zlib.decompressobj(-zlib.MAX_WBITS)
        self._fed = self._fed or bool(data)
        while data:
            if self._inner.eof:
                if not self._gzip or not data.strip(b"\0"):
                    return
                self._inner = self._begin()
            try:
                piece = self._inner.decompress(data, _PIECE)
            except zlib.error as why:
                raise self._broken(str(why)) from None
            data = self._inner.unused_data if self._inner.eof else self._inner.unconsumed_tail
            if piece:
                yield piece

    def end(self) -> None:
        """
        Raises:
            ProtocolError: it was cut short.
        """
        if self._fed and not self._inner.eof:
            raise self._broken("it ends too early")
