"""How long a peer asks to wait: ``Retry-After`` of RFC 9110, 10.2.3. No I/O."""

from __future__ import annotations

import re
import time
from calendar import timegm
from collections.abc import Mapping

#: What longer delays are taken for, as RFC 9111, 1.2.2 says of delta-seconds.
MAX_SECONDS = float(2**31)

_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_DAYS = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG_DAYS = "(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
_CLOCK = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"

# RFC 9110, 5.6.7: IMF-fixdate, rfc850-date, asctime-date
_DATES = [
    re.compile(pattern)
    for pattern in (
        rf"{_DAYS}, (?P<day>\d\d) (?P<month>\w{{3}}) (?P<year>\d{{4}}) {_CLOCK} GMT",
        rf"{_LONG_DAYS}, (?P<day>\d\d)-(?P<month>\w{{3}})-(?P<year>\d\d) {_CLOCK} GMT",
        rf"{_DAYS} (?P<month>\w{{3}}) (?P<day>[ \d]\d) {_CLOCK} (?P<year>\d{{4}})",
    )
]
_SECONDS = re.compile(r"\d+(?:\.\d+)?", re.ASCII)


def _year(text: str, now: float) -> int:
    """Two digits mean a year at most 50 years ahead (RFC 9110, 5.6.7)."""
    year = int(text)
    if len(text) == 4:
        return year
    this = time.gmtime(now).tm_year
    year += this - this % 100
    return year - 100 if year > this + 50 else year


def http_date(text: str, now: float) -> float | None:
    """Seconds since 1970 of a date in one of the three formats of HTTP; None for others."""
    text = text.strip()
    found = next(filter(None, (pattern.fullmatch(text) for pattern in _DATES)), None)
    if found is None or found["month"] not in _MONTHS or not text.isascii():
        return None
    day, hour, minute, second = (int(found[n]) for n in ("day", "hour", "minute", "second"))
    if not (1 <= day <= 31 and hour < 24 and minute < 60 and second <= 60):
        return None
    year = _year(found["year"], now)
    if year < 1:
        return None
    return float(timegm((year, _MONTHS.index(found["month"]) + 1, day, hour, minute, second)))


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Seconds to wait, from 0 to `MAX_SECONDS`; None where nothing that is understood is said.

    A date is compared with the answer's own ``Date``, so that clocks may differ. Of
    several numbers, as a proxy and an agent may each add one, the longest counts.
    """
    now = time.time() if now is None else now
    value = headers.get("retry-after", "").strip()
    numbers = [number.strip() for number in value.split(",")]
    if all(_SECONDS.fullmatch(number) for number in numbers):
        return min(max(map(float, numbers)), MAX_SECONDS)
    until = http_date(value, now)
    if until is None:
        return None
    told = http_date(headers.get("date", ""), now)
    return min(max(until - (now if told is None else told), 0.0), MAX_SECONDS)
