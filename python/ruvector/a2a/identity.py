"""Who signed a card: agent ids and the ruvector envelope. Official signatures: `jws`.

Functions take parsed JSON whose numbers are :class:`jsontext.Number` (see there) and do
no I/O. Verification needs the package ``cryptography``, imported when first used.

The envelope stands at ``metadata.ruvector.signature``. Its signature covers a projection
of the card onto a fixed set of fields: what is outside that set is *not* signed, so
:func:`check_envelope` hands the projection back and nothing else may be believed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import CardSignatureInvalid
from . import jsontext
from .extra import need

# Points of small order, with the sign bit cleared: under these keys a signature can
# verify for any message ("Taming the many EdDSAs", Chalkias et al. 2020, table 1).
_SMALL_ORDER = frozenset(
    bytes.fromhex(key)
    for key in (
        "00" * 32,
        "01" + "00" * 31,
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    )
)


def _invalid(reason: str, message: str) -> CardSignatureInvalid:
    return CardSignatureInvalid(message, reason=reason)


# ---- keys and ids -------------------------------------------------------------------


def agent_id(public_key: bytes) -> str:
    """The id of an Ed25519 key: its SHAKE-256, 32 bytes long, as 64 lowercase hex digits."""
    if len(public_key) != 32:
        raise ValueError(f"an Ed25519 public key has 32 bytes, not {len(public_key)}")
    return hashlib.shake_256(public_key).hexdigest(32)


def parse_agent_id(text: str) -> str:
    """`text` in lowercase, if it is an agent id.

    Raises:
        ValueError: it is not 64 hexadecimal digits.
    """
    if not isinstance(text, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise ValueError(f"an agent id is 64 hexadecimal digits, not {text!r}")
    return text.lower()


def verify_ed25519(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether a pure Ed25519 signature (RFC 8032) is right. Keys of small order never are."""
    if len(public_key) != 32 or len(signature) != 64:
        return False
    if public_key[:31] + bytes([public_key[31] & 0x7F]) in _SMALL_ORDER:
        return False
    ed25519 = need("cryptography.hazmat.primitives.asymmetric.ed25519")
    exceptions = need("cryptography.exceptions")
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (exceptions.InvalidSignature, ValueError):
        return False
    return True


# ---- the envelope -------------------------------------------------------------------


def _text(owner: Mapping[str, Any], name: str, where: str) -> str:
    value = owner.get(name)
    if not isinstance(value, str) or isinstance(value, jsontext.Number):
        raise _invalid("malformed", f"the card's {where}{name} is not a string")
    return value


def _object(owner: Mapping[str, Any], name: str, where: str = "") -> Mapping[str, Any]:
    value = owner.get(name)
    if not isinstance(value, dict):
        raise _invalid("malformed", f"the card's {where}{name} is not an object")
    return value


def _flag(owner: Mapping[str, Any], name: str) -> bool:
    value = owner.get(name, False)
    if not isinstance(value, bool):
        raise _invalid("malformed", f"the card's capabilities.{name} is not true or false")
    return value


def _texts(owner: Mapping[str, Any], name: str, where: str) -> list[str]:
    value = owner.get(name, [])
    if not isinstance(value, list) or any(
        not isinstance(item, str) or isinstance(item, jsontext.Number) for item in value
    ):
        raise _invalid("malformed", f"the card's {where}{name} is not a list of strings")
    return value


def _skill(skill: Any, where: str) -> dict[str, Any]:
    if not isinstance(skill, dict):
        raise _invalid("malformed", f"the card's {where} is not an object")
    fields: dict[str, Any] = {
        name: _text(skill, name, f"{where}.") for name in ("id", "name", "description")
    }
    for name in ("tags", "inputModes", "outputModes"):
        fields[name] = _texts(skill, name, f"{where}.")
    return fields


def project(card: Mapping[str, Any]) -> dict[str, Any]:
    """The signed fields of a card, defaults filled in, the signature taken out.

    Raises:
        CardSignatureInvalid: a required field is missing or of the wrong type.
    """
    result: dict[str, Any] = {
        name: _text(card, name, "") for name in ("name", "description", "url", "version")
    }
    provider = _object(card, "provider")
    result["provider"] = {"organization": _text(provider, "organization", "provider.")}
    if provider.get("url") is not None:
        result["provider"]["url"] = _text(provider, "url", "provider.")
    capabilities = _object(card, "capabilities")
    result["capabilities"] = {
        name: _flag(capabilities, name) for name in ("streaming", "pushNotifications")
    }
    skills = card.get("skills")
    if not isinstance(skills, list):
        raise _invalid("malformed", "the card's skills are not a list")
    result["skills"] = [_skill(skill, f"skills[{i}]") for i, skill in enumerate(skills)]
    authentication = _object(card, "authentication")
    result["authentication"] = {"schemes": _texts(authentication, "schemes", "authentication.")}
    metadata = card.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("ruvector"), dict):
        rest = {k: v for k, v in metadata["ruvector"].items() if k != "signature"}
        metadata = {**metadata, "ruvector": rest}
    result["metadata"] = metadata
    return result


@dataclass(frozen=True)
class Envelope:
    """A card's ruvector signature that was found right."""

    agent_id: str
    public_key: bytes
    card: dict[str, Any]  #: the signed fields, numbers as they came


def _hex(owner: Mapping[str, Any], name: str, size: int) -> bytes:
    value = owner.get(name)
    if not isinstance(value, str) or not re.fullmatch(f"[0-9a-fA-F]{{{2 * size}}}", value):
        raise _invalid("malformed", f"the card's signature.{name} is not {2 * size} hex digits")
    return bytes.fromhex(value)


def _numbers(value: Any) -> Iterator[jsontext.Number]:
    if isinstance(value, jsontext.Number):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _numbers(item)
    elif isinstance(value, list):
        for item in value:
            yield from _numbers(item)


def _forms(projected: dict[str, Any]) -> Iterator[bytes]:
    """What may have been signed, likeliest first: a Rust server sends the very numbers
    it signed, but whoever stored the card in between may have rewritten them."""
    yield jsontext.serde_form(projected)
    if not all(number.is_integer for number in _numbers(projected["metadata"])):
        yield jsontext.serde_form(projected, "serde")
        yield jsontext.serde_form(projected, "serde-old")


def check_envelope(card: Mapping[str, Any]) -> Envelope | None:
    """The verified envelope of a card, None where it has none.

    Raises:
        CardSignatureInvalid: there is one, but it is malformed or does not verify.
    """
    metadata = card.get("metadata")
    ruvector = metadata.get("ruvector") if isinstance(metadata, dict) else None
    if not isinstance(ruvector, dict) or "signature" not in ruvector:
        return None
    signature = ruvector["signature"]
    if not isinstance(signature, dict):
        raise _invalid("malformed", "the card's signature is not an object")
    if signature.get("alg") != "ed25519-hex":
        raise _invalid("alg", f"the card's signature.alg is {signature.get('alg')!r}")
    key = _hex(signature, "public_key", 32)
    value = _hex(signature, "signature", 64)
    projected = project(card)
    try:
        right = any(verify_ed25519(key, value, form) for form in _forms(projected))
    except UnicodeEncodeError:
        raise _invalid("malformed", "the card has a lone surrogate in a string") from None
    if not right:
        raise _invalid("signature", "the card's signature does not verify: it was altered")
    identity = ruvector.get("identity")
    told = [ruvector.get("agent_id")]
    told.append(identity.get("agent_id") if isinstance(identity, dict) else None)
    for name in told:
        if name is not None and (not isinstance(name, str) or name.lower() != agent_id(key)):
            raise _invalid("agent_id", "the card names another agent id than that of its key")
    return Envelope(agent_id(key), key, projected)
