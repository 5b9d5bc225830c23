"""Official card signatures: JWS (RFC 7515) over a canonical form (RFC 8785) of the card.

The keys come from the caller and never from the card, whose ``kid`` only chooses among
them. Cards are parsed JSON whose numbers are :class:`jsontext.Number`. No I/O; needs the
package ``cryptography``, imported when first used.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Optional, Union

from ..errors import ProtocolError
from . import jsontext
from .extra import need
from .identity import verify_ed25519

#: Keys a caller may trust: raw Ed25519 bytes, a JWK, PEM text, or a `cryptography` key.
TrustedKey = Union[bytes, str, Mapping[str, Any], Any]
TrustedKeys = Optional[Union[Mapping[str, TrustedKey], Iterable[TrustedKey]]]

_MAX_SIGNATURES = 16


def _base64url(text: Any) -> bytes:
    """
    Raises:
        ValueError: not base64url without padding.
    """
    if not isinstance(text, str) or not re.fullmatch(r"[A-Za-z0-9_-]*", text):
        raise ValueError("it is not base64url without padding")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


# ---- keys ---------------------------------------------------------------------------


def _load_key(key: TrustedKey) -> Any:
    """A public key of Ed25519 or P-256, as `cryptography` has it.

    Raises:
        ValueError, TypeError: it is another key, or none.
    """
    ed25519 = need("cryptography.hazmat.primitives.asymmetric.ed25519")
    ec = need("cryptography.hazmat.primitives.asymmetric.ec")
    loaded: Any = key
    kind = type(key).__name__
    if isinstance(key, bytes) and len(key) == 32:
        loaded = ed25519.Ed25519PublicKey.from_public_bytes(key)
    elif isinstance(key, (str, bytes)):
        data = key.encode() if isinstance(key, str) else key
        loaded = need("cryptography.hazmat.primitives.serialization").load_pem_public_key(data)
        kind = f"PEM with {type(loaded).__name__}"
    elif isinstance(key, Mapping):
        kind = f"JWK with kty {key.get('kty')!r} and crv {key.get('crv')!r}"
        if (key.get("kty"), key.get("crv")) == ("OKP", "Ed25519"):
            loaded = ed25519.Ed25519PublicKey.from_public_bytes(_base64url(key.get("x")))
        elif (key.get("kty"), key.get("crv")) == ("EC", "P-256"):
            x, y = (int.from_bytes(_base64url(key.get(name)), "big") for name in "xy")
            loaded = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    if isinstance(loaded, ed25519.Ed25519PublicKey):
        return loaded
    if isinstance(loaded, ec.EllipticCurvePublicKey) and loaded.curve.name == "secp256r1":
        return loaded
    raise TypeError(f"a public key of Ed25519 or P-256 is wanted, not {kind}")


@dataclass(frozen=True)
class Keys:
    """The keys a caller trusts: by `kid`, or, under None, for any."""

    named: tuple[tuple[str | None, Any], ...] = ()

    @classmethod
    def of(cls, keys: TrustedKeys) -> Keys | None:
        """`keys`, read. None stays None: then official signatures are not looked at.

        Raises:
            ValueError: one of them is no key that can be used; it says which.
        """
        if keys is None:
            return None
        if isinstance(keys, Mapping) and "kty" not in keys:
            listed = list(keys.items())
        else:
            single = isinstance(keys, (Mapping, str, bytes)) or hasattr(keys, "public_bytes")
            several = [keys] if single else list(keys)
            listed = [(k.get("kid") if isinstance(k, Mapping) else None, k) for k in several]
        found = []
        for i, (kid, key) in enumerate(listed):
            try:
                found.append((kid, _load_key(key)))
            except (ValueError, TypeError) as why:
                name = i if kid is None else repr(kid)
                raise ValueError(f"trusted key {name} cannot be used: {why}") from None
        return cls(tuple(found))

    def chosen_by(self, kid: Any) -> list[Any]:
        """The keys that a signature with this `kid` may be checked with."""
        return [key for name, key in self.named if name is None or kid is None or name == kid]


# ---- what is signed -----------------------------------------------------------------


def _verify(alg: str, key: Any, signature: bytes, message: bytes) -> bool:
    """Whether `key` signed `message` by `alg`. A key of another kind did not."""
    ed25519 = need("cryptography.hazmat.primitives.asymmetric.ed25519")
    ec = need("cryptography.hazmat.primitives.asymmetric.ec")
    if alg == "EdDSA" and isinstance(key, ed25519.Ed25519PublicKey):
        serialization = need("cryptography.hazmat.primitives.serialization")
        raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return verify_ed25519(raw, signature, message)
    if alg == "ES256" and isinstance(key, ec.EllipticCurvePublicKey) and len(signature) == 64:
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


def _read_entry(entry: Any) -> tuple[dict[str, Any], bytes]:
    """Header and signature of an entry of the card's ``signatures``.

    Raises:
        ValueError, ProtocolError: it is malformed.
    """
    if not isinstance(entry, dict):
        raise ValueError("an entry of signatures is not an object")
    header = jsontext.parse(
        _base64url(entry.get("protected")), what="the protected header", max_depth=8
    )
    if not isinstance(header, dict):
        raise ValueError("the protected header is not a JSON object")
    return header, _base64url(entry.get("signature"))


def check_jws(card: Mapping[str, Any], trusted_keys: Keys | None) -> Signed:
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
    payloads: list[tuple[bytes, dict[str, Any]]] = []
    for entry in entries:
        try:
            header, signature = _read_entry(entry)
        except (ValueError, ProtocolError) as why:
            tried = f"a signature is malformed: {why}"
            continue
        kid = header.get("kid")
        keys = trusted_keys.chosen_by(kid) if trusted_keys is not None else []
        if not keys:
            continue
        if "crit" in header or header.get("alg") not in ("EdDSA", "ES256"):
            tried = f"alg {header.get('alg')!r} or its crit header is not supported"
            continue
        tried = "no signature verifies with the keys given"
        try:
            payloads = payloads or list(_payloads(card))
        except UnicodeEncodeError:
            return Signed("invalid", note="the card has a lone surrogate in a string")
        for payload, covered in payloads:
            encoded = base64.urlsafe_b64encode(payload).rstrip(b"=")
            message = entry["protected"].encode() + b"." + encoded
            if any(_verify(header["alg"], key, signature, message) for key in keys):
                return Signed("valid", kid if isinstance(kid, str) else None, covered)
    if tried is None or trusted_keys is None:
        return Signed("no key", note=tried or "signed, but with no key that is trusted")
    return Signed("invalid", note=tried)
