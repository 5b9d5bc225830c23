"""What a stranger said, made fit for a message: short, plain and without secrets. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

LENGTH = 500  #: characters of a peer's words that an error shows

MASK = "[masked]"

_SHORTEST = 6  # shorter values stand in many words, and protect nothing

# What looks like a secret whoever sent it: what is assigned to a telling name, what
# follows the name of a scheme, JWTs, keys with the prefixes of common services, a
# password in a URL. Hex digests and UUIDs are ids, and stay.
_LIKE_SECRETS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?P<keep>\b(?:bearer|basic)[ \t]+)[A-Za-z0-9+/=._~-]{16,}",
        r"(?P<keep>\b[\w-]{0,32}(?:password|passwd|secret|token|api[_-]?key|authorization|cookie"
        r"|signature|credential)s?[\"']?[ \t]*[:=][ \t]*[\"']?)[^\s\"',;&<>{}\[\]]{4,}",
        r"(?P<keep>)\beyJ[\w-]{5,}\.[\w-]{5,}(?:\.[\w-]*)?",
        r"(?P<keep>)\b(?:sk|pk|rk|ghp|gho|ghs|github_pat|glpat|hf|xox[abprs]|AIza|AKIA|ya29)"
        r"[-_.]?[\w-]{12,}",
        r"(?P<keep>\b[a-z][a-z0-9+.-]{0,20}://)[^/\s@\"']{1,200}@",
    )
]
_MIXED = re.compile(r"(?<![\w+/=-])[\w+/-]{32,}={0,2}(?![\w+/=-])", re.ASCII)


_MARKUP = re.compile(r"<(script|style)\b.*?</\1|<[^>]*(?:>|$)", re.DOTALL | re.IGNORECASE)


def _mixed(found: re.Match[str]) -> str:
    """Long runs of digits, capitals and small letters are keys more often than words."""
    text = found.group()
    kinds = (str.isdigit, str.isupper, str.islower)
    return MASK if all(any(map(kind, text)) for kind in kinds) else text


class Masker:
    """Takes secrets out of texts: those it was told of, and what looks like one."""

    def __init__(self) -> None:
        self._secrets: dict[str, None] = {}

    def add(self, secrets: Iterable[str]) -> None:
        for secret in secrets:
            if len(secret) >= _SHORTEST:
                self._secrets.pop(secret, None)
                self._secrets[secret] = None
        while len(self._secrets) > 64:  # of tokens that were renewed the latest are kept
            del self._secrets[next(iter(self._secrets))]

    def known(self, text: str) -> str:
        """`text` without the secrets that were sent, as they are or as JSON has them."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            for form in dict.fromkeys((secret, json.dumps(secret)[1:-1], quote(secret, safe=""))):
                text = text.replace(form, MASK)
        return text

    def text(self, text: str) -> str:
        """`text` without secrets and without what looks like one."""
        text = self.known(text)
        for pattern in _LIKE_SECRETS:
            text = pattern.sub(lambda found: found["keep"] + MASK, text)
        return _MIXED.sub(_mixed, text)

    def value(self, value: Any) -> Any:
        """A JSON value without the secrets that were sent."""
        if isinstance(value, str):
            return self.known(value)
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, dict):
            return {self.known(name): self.value(item) for name, item in value.items()}
        return value


def visible(text: str) -> str:
    """`text` in one line, with escapes for all that moves a cursor or hides itself."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def shorten(text: str, length: int = LENGTH) -> str:
    return text if len(text) <= length else text[:length] + "…"


def words(text: str, masker: Masker | None = None) -> str:
    """The first characters of what a peer said, to be shown."""
    # what is masked must not be cut in two first; what follows is not looked at
    return shorten(visible((masker or Masker()).text(text[: LENGTH * 8].strip())))


def of_body(content: bytes, media_type: str, masker: Masker | None = None) -> str:
    """As `words`, of an answer's body; of a page only what a reader sees."""
    text = content[: LENGTH * 32].decode("utf-8", "replace").lstrip("\ufeff")[: LENGTH * 8]
    if media_type in ("text/html", "application/xhtml+xml"):
        text = " ".join(_MARKUP.sub(" ", text).split())
    return words(text, masker)
