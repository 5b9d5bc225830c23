"""Reading members of a peer's JSON: the right type, absent, or an error."""

from __future__ import annotations

from typing import Any, TypeVar

from ..errors import ProtocolError

Json = dict[str, Any]
_T = TypeVar("_T")


def wrong(what: str, wanted: str, value: Any) -> ProtocolError:
    return ProtocolError(f"{what} should be {wanted}, the peer sent {type(value).__name__}")


def as_object(value: Any, what: str) -> Json:
    if not isinstance(value, dict):
        raise wrong(what, "an object", value)
    return value


def optional(value: Any, cls: type[_T], what: str) -> _T | None:
    """`value` if it is a `cls`; an empty string counts as absent, as null does."""
    if value is None or value == "":
        return None
    if not isinstance(value, cls) or (cls is int and isinstance(value, bool)):
        raise wrong(what, cls.__name__, value)
    return value


def as_list(value: Any, what: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise wrong(what, "a list", value)
    return value


def as_metadata(value: Any) -> Json:
    return value if isinstance(value, dict) else {}
