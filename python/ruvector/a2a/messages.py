"""Requests and answers as values, and what their headers say. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urljoin

from ..errors import TransportError
from . import address


@dataclass(frozen=True)
class Request:
    verb: str
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    content: bytes | None = None
    safe: bool = False  #: may be sent again when it is not known whether it arrived
    authorize: bool = True
    what: str = "the answer"  #: names the answer in errors
    path: str = ""  #: the end of `url` that is not the endpoint's
    size: str = "response_bytes"  #: the member of Limits that holds for the answer
    wait: float = 0.0  #: seconds in which the answer has to be there
    allows: str = "Timeouts(read=...)"  #: what makes them more

    @property
    def named(self) -> str:
        return f"{self.what} from {address.shown(self.url)}"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    content: bytes
    attempts: int = 1  #: so often it was asked for

    @property
    def is_json(self) -> bool:
        return is_json(self.headers)


def media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def is_json(headers: Mapping[str, str]) -> bool:
    kind = media_type(headers)
    return kind == "application/json" or kind.endswith("+json")


def coding_of(headers: Mapping[str, str]) -> str | None:
    """How a body is compressed; None where it is not."""
    names = [name.strip().lower() for name in headers.get("content-encoding", "").split(",")]
    return ", ".join(name for name in names if name not in ("", "identity")) or None


def advice(request: Request, location: str | None) -> str:
    """The argument that takes requests where a redirect points."""
    try:
        target = urljoin(request.url, location or "")
        there, _ = address.split(target)
    except (TransportError, ValueError):
        return ""
    shown = address.shown(target)
    if request.what == "the card":
        return f": connect to '{shown}' if that is the agent's"
    if request.path and not shown.endswith(request.path):
        return ""
    shown = shown[: len(shown) - len(request.path)]
    other = "" if there == address.split(request.url)[0] else ", without credentials"
    return f": endpoint='{shown}' sends requests there{other}"
