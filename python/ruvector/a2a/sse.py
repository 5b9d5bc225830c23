"""Server-sent events from bytes, with bounds.

Lines end at LF, CR or CR LF and nowhere else: U+2028 and its like stand unescaped inside
JSON, where ``str.splitlines`` would cut it in two. Push bytes with :meth:`SseDecoder.feed`,
pull events with :meth:`SseDecoder.next`; an event that is not complete when the stream
ends is dropped, as the HTML standard (9.2.6) says. No I/O.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ..errors import ProtocolError, TransportError

_LINE_END = re.compile(rb"[\r\n]")
_BOM = b"\xef\xbb\xbf"


class SseEvent(NamedTuple):
    name: str  #: "message" where the server gave none
    data: str
    id: str | None  #: of this very event, for diagnostics


class SseDecoder:
    def __init__(
        self, *, max_line: int = 2**22, max_event: int = 2**22, max_pending: int = 2**23
    ) -> None:
        self._max_line = max_line
        self._max_event = max_event
        self._max_pending = max_pending
        self._pending = bytearray()
        self._searched = 0  # no line ends before this place
        self._started = False
        self._skip_lf = False
        self._reset()

    def _reset(self) -> None:
        self._name = ""
        self._data: list[str] = []
        self._size = 0
        self._id: str | None = None

    def _too_large(self, what: str, limit: int) -> TransportError:
        """Names every limit that has to be raised: those that are no higher than `limit`."""
        limits = {
            "sse_line_bytes": self._max_line,
            "sse_event_bytes": self._max_event,
            "sse_pending_bytes": self._max_pending,
        }
        names = ", ".join(f"{name}=..." for name, value in limits.items() if value <= limit)
        return TransportError(
            f"sse limit: {what} of more than {limit} bytes; Limits({names}) allows more",
            phase="sse limit",
        )

    def feed(self, data: bytes) -> None:
        """Takes bytes as they came from the network.

        Raises:
            TransportError: more than `max_pending` bytes wait.
        """
        if len(self._pending) + len(data) > self._max_pending:
            raise self._too_large("unread events", self._max_pending)
        self._pending += data

    def _line(self) -> bytes | None:
        """The next complete line without its end."""
        pending = self._pending
        if not self._started:
            if len(pending) < 3 and _BOM.startswith(pending):
                return None  # it may yet become a byte order mark
            if pending.startswith(_BOM):
                del pending[:3]
            self._started = True
        if self._skip_lf and pending:
            if pending[0] == 0x0A:
                del pending[:1]
            self._skip_lf = False
        end = _LINE_END.search(pending, self._searched)
        length = end.start() if end else len(pending)
        if length > self._max_line:
            raise self._too_large("a line", self._max_line)
        if end is None:
            self._searched = length
            return None
        line = bytes(pending[:length])
        self._skip_lf = pending[length] == 0x0D
        del pending[: length + 1]
        self._searched = 0
        return line

    def next(self) -> SseEvent | None:
        """The next event, None until more bytes come.

        Raises:
            TransportError: a line or an event is larger than allowed.
            ProtocolError: the bytes are not UTF-8.
        """
        while True:
            line = self._line()
            if line is None:
                return None
            if line:
                self._field(line)
                continue
            event = SseEvent(self._name or "message", "\n".join(self._data), self._id)
            complete = bool(self._data)
            self._reset()
            if complete:
                return event

    def _field(self, line: bytes) -> None:
        self._size += len(line)
        if self._size > self._max_event:
            raise self._too_large("an event", self._max_event)
        if line[0] == 0x3A:  # a comment
            self._size -= len(line)
            return
        try:
            name, _, value = line.decode("utf-8").partition(":")
        except UnicodeDecodeError as why:
            raise ProtocolError(f"the event stream is not UTF-8: {why.reason}") from None
        if value.startswith(" "):
            value = value[1:]
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._name = value
        elif name == "id" and "\0" not in value:
            self._id = value
