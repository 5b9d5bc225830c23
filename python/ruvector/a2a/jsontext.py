"""JSON as text: strict reading with bounds, and the two canonical forms of cards.

Signatures cover bytes, so numbers of a card are kept as the text that came
(:class:`Number`) until it is decided how to write them. Two forms are written here:

* :func:`serde_form`, what Rust's ``serde_json`` writes for a value with sorted members;
* :func:`jcs`, RFC 8785.

Nothing here does I/O.
"""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from typing import Any, Callable

from ..errors import ProtocolError

#: Digits of the longest number accepted: every double needs fewer, and reading far
#: longer ones takes quadratic time.
_MAX_NUMBER = 400

_STRUCTURE = re.compile(rb'"[^"]*"?|[\[{]|[\]}]')  # where no string has an escaped quote
_SURROGATE = re.compile("[\ud800-\udfff]")


class Number(str):
    """A number of a JSON text, as its characters."""

    __slots__ = ()

    @property
    def is_integer(self) -> bool:
        """Written as an integer that a 64-bit integer, signed or not, can hold."""
        return bool(re.fullmatch(r"-?\d+", self)) and self != "-0" and -(2**63) <= int(self) < 2**64


def plain(value: Any) -> Any:
    """`value` with its :class:`Number` turned into int and float."""
    if isinstance(value, Number):
        return json.loads(value)
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def _fail(what: str, why: str) -> ProtocolError:
    return ProtocolError(f"{what} is not acceptable JSON: {why}")


def _check_depth(data: bytes, limit: int, what: str) -> None:
    if data.count(b"[") + data.count(b"{") <= limit:
        return
    # A repeated choice in the pattern would keep 70 bytes for each character of a string.
    data = data.replace(rb"\\", b"").replace(rb"\"", b"")
    depth = 0
    for token in _STRUCTURE.finditer(data):
        first = data[token.start()]
        if first in b"[{":
            depth += 1
            if depth > limit:
                raise _fail(what, f"nested more than {limit} levels deep, which no setting allows")
        elif first in b"]}":
            depth -= 1


def _check_surrogates(value: Any, what: str) -> None:
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            todo.extend(item)
            todo.extend(item.values())
        elif isinstance(item, list):
            todo.extend(item)
        elif isinstance(item, str) and _SURROGATE.search(item):
            raise _fail(what, "a lone surrogate in a string")


def parse(
    data: bytes, *, what: str, max_depth: int, strict: bool = False, lexemes: bool = False
) -> Any:
    """The value of a JSON text; `what` names it in errors.

    Always refused: bytes that are not UTF-8, NaN and infinities, numbers beyond a double,
    nesting beyond `max_depth`. `strict` refuses repeated members and lone surrogates too.
    A byte order mark is passed over (RFC 8259, 8.1). With `lexemes`, numbers come as
    :class:`Number`.

    Raises:
        ProtocolError: the text is refused.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as why:
        raise _fail(what, f"not UTF-8 ({why.reason} at byte {why.start})") from None
    text = text[text.startswith("\ufeff") :]
    _check_depth(data, max_depth, what)

    def number(convert: Callable[[str], Any]) -> Callable[[str], Any]:
        def check(token: str) -> Any:
            if len(token) > _MAX_NUMBER or math.isinf(float(token)):
                raise _fail(what, f"the number {token[:20]}… is beyond a double")
            return Number(token) if lexemes else convert(token)

        return check

    def constant(token: str) -> Any:
        raise _fail(what, f"{token} is not a number")

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name, value in pairs:
            if name in result:
                raise _fail(what, f"the member {name[:80]!r} stands twice")
            result[name] = value
        return result

    try:
        value = json.loads(
            text,
            parse_int=number(int),
            parse_float=number(float),
            parse_constant=constant,
            object_pairs_hook=members if strict else None,
        )
    except (ValueError, RecursionError) as why:
        if isinstance(why, ProtocolError):
            raise
        raise _fail(what, str(why)) from None
    if strict and "\\u" in text:
        _check_surrogates(value, what)
    return value


# ---- canonical forms ---------------------------------------------------------------

_ESCAPES = {i: f"\\u{i:04x}" for i in range(0x20)}
_ESCAPES.update({8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"})


def _string(text: str) -> str:
    return '"' + text.translate(_ESCAPES) + '"'


def _write(value: Any, number: Callable[[Any], str], order: Callable[[str], Any]) -> str:
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, (Number, int, float)):
        return number(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list):
        return "[" + ",".join(_write(item, number, order) for item in value) + "]"
    if isinstance(value, dict):
        names = sorted(value, key=order)
        return (
            "{"
            + ",".join(f"{_string(name)}:{_write(value[name], number, order)}" for name in names)
            + "}"
        )
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _decimal(number: float) -> tuple[str, str, int]:
    """Sign, shortest digits d1d2…dn, and the exponent e of ``0.d1d2…dn * 10**e``."""
    sign, digits, exponent = Decimal(repr(number)).as_tuple()
    text = "".join(map(str, digits))
    point = len(text) + int(exponent)
    text = text.rstrip("0") or "0"
    return "-" if sign else "", text, point


def _plain(digits: str, point: int) -> str:
    """The digits with the decimal point where it belongs, no exponent."""
    if point <= 0:
        return "0." + "0" * -point + digits
    if point >= len(digits):
        return digits + "0" * (point - len(digits))
    return digits[:point] + "." + digits[point:]


def _scientific(digits: str, point: int, plus: str) -> str:
    exponent = point - 1
    fraction = "." + digits[1:] if len(digits) > 1 else ""
    return f"{digits[0]}{fraction}e{plus if exponent >= 0 else ''}{exponent}"


def _serde_number(token: Any, plus: str) -> str:
    """As serde_json writes what it reads from `token`.

    Exponents of large numbers have a plus sign since version 1.0.147. Integers beyond
    64 bits become doubles, and so does ``-0``.
    """
    number = token if isinstance(token, Number) else Number(json.dumps(token))
    if number.is_integer:
        return str(int(number))
    sign, digits, point = _decimal(float(number))
    if digits == "0":
        return sign + "0.0"
    if 0 < point <= 16:
        text = _plain(digits, point)
        return sign + (text if "." in text else text + ".0")
    if -5 < point <= 0:
        return sign + _plain(digits, point)
    return sign + _scientific(digits, point, plus)


_NUMBERS: dict[str, Callable[[Any], str]] = {
    "as-sent": lambda token: str(token) if isinstance(token, Number) else json.dumps(token),
    "serde": lambda token: _serde_number(token, "+"),
    "serde-old": lambda token: _serde_number(token, ""),
}


def serde_form(value: Any, numbers: str = "as-sent") -> bytes:
    """Members sorted by code point, no white space, only necessary escapes.

    `numbers`: "as-sent" keeps the characters that came; "serde" and "serde-old" write
    them as serde_json from 1.0.147 on and before does.

    Raises:
        UnicodeEncodeError: a string has a lone surrogate.
    """
    return _write(value, _NUMBERS[numbers], str).encode("utf-8")


def _es_number(token: Any) -> str:
    """ECMAScript's Number::toString (ECMA-262, 6.1.6.1.20) of the double."""
    sign, digits, point = _decimal(float(token))
    if digits == "0":
        return "0"
    if -6 < point <= 21:
        return sign + _plain(digits, point)
    return sign + _scientific(digits, point, "+")


def jcs(value: Any) -> bytes:
    """RFC 8785: members sorted by UTF-16 code units, numbers as ECMAScript prints them.

    Raises:
        UnicodeEncodeError: a string has a lone surrogate.
    """
    return _write(value, _es_number, lambda name: name.encode("utf-16-be")).encode("utf-8")
