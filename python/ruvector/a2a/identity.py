"""Who signed a card: agent ids, the ruvector envelope, and official JWS signatures.

Functions take parsed JSON whose numbers are :class:`jsontext.Number` (see there) and do
no I/O. Verification needs the package ``cryptography``, imported when first used.

The envelope stands at ``metadata.ruvector.signature``. Its signature covers a projection
of the card onto a fixed set of fields: what is outside that set is *not* signed, so
:func:`check_envelope` hands the projection back and nothing else may be believed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Optional, Union

from ..errors import CardSignatureInvalid
from . import jsontext
from .extra import need

#: Keys a caller may trust: raw Ed25519 bytes, a JWK, PEM text, or a `cryptography` key.
TrustedKey = Union[bytes, str, Mapping[str, Any], Any]
TrustedKeys = Optional[Union[Mapping[str, TrustedKey], Iterable[TrustedKey]]]

_MAX_SIGNATURES = 16

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


# ---- JWS ----------------------------------------------------------------------------


def _base64url(text: Any) -> bytes:
    if not isinstance(text, str) or not re.fullmatch(r"[A-Za-z0-9_-]*", text):
        raise _invalid("malformed", "a card signature is not base64url without padding")
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        raise _invalid("malformed", "a card signature is not base64url") from None


def _load_key(key: TrustedKey) -> Any:
    """A `cryptography` public key."""
    ed25519 = need("cryptography.hazmat.primitives.asymmetric.ed25519")
    ec = need("cryptography.hazmat.primitives.asymmetric.ec")
    if isinstance(key, bytes) and len(key) == 32:
        return ed25519.Ed25519PublicKey.from_public_bytes(key)
    if isinstance(key, (str, bytes)):
        data = key.encode() if isinstance(key, str) else key
        return need("cryptography.hazmat.primitives.serialization").load_pem_public_key(data)
    if isinstance(key, Mapping):
        kind = (key.get("kty"), key.get("crv"))
        if kind == ("OKP", "Ed25519"):
            return ed25519.Ed25519PublicKey.from_public_bytes(_base64url(key.get("x")))
        if kind == ("EC", "P-256"):
            x, y = (int.from_bytes(_base64url(key.get(name)), "big") for name in "xy")
            return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
        raise ValueError(f"a trusted key of kind {kind} cannot be used: Ed25519 or P-256 can")
    return key


def _verify(alg: str, key: Any, signature: bytes, message: bytes) -> bool:
    """Whether `key` signed `message` by `alg`. A key of another kind did not."""
    ed25519 = need("cryptography.hazmat.primitives.asymmetric.ed25519")
    ec = need("cryptography.hazmat.primitives.asymmetric.ec")
    if alg == "EdDSA" and isinstance(key, ed25519.Ed25519PublicKey):
        serialization = need("cryptography.hazmat.primitives.serialization")
        raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return verify_ed25519(raw, signature, message)
    if alg == "ES256" and isinstance(key, ec.EllipticCurvePublicKey):
        if len(signature) != 64 or key.curve.name != "secp256r1":
            return False
        utils = need("cryptography.hazmat.primitives.asymmetric.utils")
        r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
        hashes = need("cryptography.hazmat.primitives.hashes")
        try:
            key.verify(utils.encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
        except need("cryptography.exceptions").InvalidSignature:
            return False
        return True
    return False


def _without_empties(value: Any) -> Any:
    """`value` without empty strings, lists and objects, at every depth."""
    if isinstance(value, dict):
        kept = {name: _without_empties(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item not in ("", [], {}, None)}
    if isinstance(value, list):
        return [_without_empties(item) for item in value]
    return value


# Members of the 1.0 card by object; None keeps whatever stands there.
_SCHEMA: dict[str, Any] = {
    **dict.fromkeys(("name", "description", "version", "documentationUrl", "iconUrl")),
    **dict.fromkeys(("defaultInputModes", "defaultOutputModes")),
    **dict.fromkeys(("securitySchemes", "securityRequirements")),
    "provider": dict.fromkeys(("url", "organization")),
    "supportedInterfaces": dict.fromkeys(("url", "protocolBinding", "tenant", "protocolVersion")),
    "capabilities": {
        **dict.fromkeys(("streaming", "pushNotifications", "extendedAgentCard")),
        "extensions": dict.fromkeys(("uri", "description", "required", "params")),
    },
    "skills": {
        **dict.fromkeys(("id", "name", "description", "tags", "examples")),
        **dict.fromkeys(("inputModes", "outputModes", "securityRequirements")),
    },
}


def _onto_schema(value: Any, schema: Any) -> Any:
    if schema is None:
        return value
    if isinstance(value, list):
        return [_onto_schema(item, schema) for item in value]
    if isinstance(value, dict):
        return {n: _onto_schema(v, schema[n]) for n, v in value.items() if n in schema}
    return value


def _payloads(card: Mapping[str, Any]) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """What implementations sign, and the card that each form vouches for.

    The specification keeps required empty fields; the JavaScript and Python libraries
    remove every empty field, and sign what their schema knows.
    """
    bare = {name: value for name, value in card.items() if name != "signatures"}
    yield jsontext.jcs(bare), bare
    yield jsontext.jcs(_without_empties(bare)), bare
    known = _onto_schema(bare, _SCHEMA)
    yield jsontext.jcs(_without_empties(known)), known


@dataclass(frozen=True)
class Signed:
    """Outcome of looking at a card's JWS signatures."""

    state: str  #: "none", "no key", "valid" or "invalid"
    kid: str | None = None
    card: dict[str, Any] | None = None  #: what the valid signature covers
    note: str = ""


def _candidates(keys: TrustedKeys, kid: Any) -> list[Any]:
    """The caller's keys that a signature may be checked with: `kid` only chooses."""
    if keys is None:
        return []
    if isinstance(keys, Mapping) and "kty" not in keys:
        if kid is None:
            return [_load_key(key) for key in keys.values()]
        return [_load_key(keys[kid])] if isinstance(kid, str) and kid in keys else []
    listed = [keys] if isinstance(keys, (Mapping, str, bytes)) else list(keys)
    return [
        _load_key(key)
        for key in listed
        if not isinstance(key, Mapping) or None in (kid, key.get("kid")) or key["kid"] == kid
    ]


def _header(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise _invalid("malformed", "an entry of the card's signatures is not an object")
    try:
        header = json.loads(_base64url(entry.get("protected")))
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise _invalid("malformed", "a card signature's protected header is not JSON")
    return header


def check_jws(card: Mapping[str, Any], trusted_keys: TrustedKeys) -> Signed:
    """Checks a card's ``signatures`` with the caller's keys.

    A key named by the card (``jku``, ``jwk``) is never used. Entries with a ``crit``
    header or an algorithm other than EdDSA and ES256 do not count as valid.
    """
    entries = card.get("signatures")
    if entries is None or entries == []:
        return Signed("none")
    if not isinstance(entries, list) or len(entries) > _MAX_SIGNATURES:
        return Signed("invalid", note="signatures is not a short list")
    tried = None
    for entry in entries:
        try:
            header = _header(entry)
            signature = _base64url(entry.get("signature"))
        except CardSignatureInvalid as why:
            tried = str(why)
            continue
        keys = _candidates(trusted_keys, header.get("kid"))
        if not keys:
            continue
        if "crit" in header or header.get("alg") not in ("EdDSA", "ES256"):
            tried = f"alg {header.get('alg')!r} or its crit header is not supported"
            continue
        tried = "no signature verifies with the keys given"
        try:
            payloads = list(_payloads(card))
        except UnicodeEncodeError:
            return Signed("invalid", note="the card has a lone surrogate in a string")
        for payload, covered in payloads:
            encoded = base64.urlsafe_b64encode(payload).rstrip(b"=")
            message = entry["protected"].encode() + b"." + encoded
            if any(_verify(header["alg"], key, signature, message) for key in keys):
                kid = header.get("kid")
                return Signed("valid", kid if isinstance(kid, str) else None, covered)
    if tried is None or trusted_keys is None:
        return Signed("no key", note=tried or "signed, but with no key that is trusted")
    return Signed("invalid", note=tried)
