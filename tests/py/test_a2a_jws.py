"""Official card signatures: which verify, with whose keys, and what they cover."""

from __future__ import annotations

import base64
import copy
import json

import pytest
from a2a_vectors import K1, K2, V4, V4_JWK, V4_PROTECTED, V4_SIGNATURES, read
from ruvector.a2a import jws

rfc8785 = pytest.importorskip("rfc8785", reason="the package rfc8785 is not installed")
ed25519 = pytest.importorskip(
    "cryptography.hazmat.primitives.asymmetric.ed25519", reason="cryptography is not installed"
)


def v4(form, **header):
    card = copy.deepcopy(V4)
    entry = {"protected": V4_PROTECTED, "signature": V4_SIGNATURES[form], **header}
    card["signatures"] = [entry]
    return card


def outcome(card, keys):
    return jws.check_jws(read(json.dumps(card)), jws.Keys.of(keys))


@pytest.mark.parametrize("form", ["strict", "empties removed"])
@pytest.mark.parametrize(
    "keys",
    [
        {"k1": V4_JWK},
        [V4_JWK],
        V4_JWK,
        {"k1": bytes.fromhex(K1[1])},
        [bytes.fromhex(K2[1]), bytes.fromhex(K1[1])],
    ],
)
def test_both_forms_of_v4_verify(form, keys):
    assert outcome(v4(form), keys).state == "valid"


def test_fields_outside_the_schema_are_dropped():
    card = v4("empties removed")
    card["notInTheSchema"] = {"url": "https://evil.example.com"}
    card["skills"][0]["alsoNot"] = 1
    told = outcome(card, {"k1": V4_JWK})
    assert told.state == "valid"
    assert "evil" not in json.dumps(told.card)
    assert "alsoNot" not in json.dumps(told.card)


def encode(header):
    return base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("card", "keys", "state"),
    [
        (V4, {"k1": V4_JWK}, "none"),
        (v4("strict"), None, "no key"),
        (v4("strict"), {"other": V4_JWK}, "no key"),
        (v4("strict"), {"k1": bytes.fromhex(K2[1])}, "invalid"),
        ({**v4("strict"), "name": "Cafe Agent"}, {"k1": V4_JWK}, "invalid"),
        (v4("strict", protected=encode({"alg": "none", "kid": "k1"})), {"k1": V4_JWK}, "invalid"),
        (v4("strict", protected=encode({"alg": "HS256", "kid": "k1"})), {"k1": V4_JWK}, "invalid"),
        (v4("strict", protected="e30="), {"k1": V4_JWK}, "invalid"),
        (v4("strict", signature=7), {"k1": V4_JWK}, "invalid"),
        ({**V4, "signatures": {}}, {"k1": V4_JWK}, "invalid"),
        ({**V4, "signatures": [7] * 17}, {"k1": V4_JWK}, "invalid"),
    ],
)
def test_outcomes(card, keys, state):
    assert outcome(card, keys).state == state


def signed_by(private, header, card):
    protected = encode(header)
    payload = base64.urlsafe_b64encode(rfc8785.dumps(card)).rstrip(b"=")
    message = protected.encode() + b"." + payload
    signature = base64.urlsafe_b64encode(private(message)).decode().rstrip("=")
    return {**card, "signatures": [{"protected": protected, "signature": signature}]}


def test_critical_headers_that_are_not_understood():
    private = ed25519.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(K1[0]))
    for extra, state in (({}, "valid"), ({"crit": ["b64"], "b64": False}, "invalid")):
        card = signed_by(private.sign, {"alg": "EdDSA", "kid": "k1", **extra}, V4)
        assert outcome(card, {"k1": V4_JWK}).state == state


def test_es256():
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, utils

    private = ec.generate_private_key(ec.SECP256R1())

    def sign_raw(message):
        r, s = utils.decode_dss_signature(private.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    card = signed_by(sign_raw, {"alg": "ES256", "kid": "p"}, V4)
    pem = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for key in (private.public_key(), pem, pem.decode()):
        assert outcome(card, {"p": key}).state == "valid"
    assert outcome(card, {"p": V4_JWK}).state == "invalid"  # a key of another kind
    card["signatures"][0]["signature"] = card["signatures"][0]["signature"][:-4]
    assert outcome(card, {"p": pem}).state == "invalid"


def test_the_signer_does_not_choose_the_key():
    private = ed25519.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(K2[0]))
    public = {**V4_JWK, "x": encode("")}
    header = {"alg": "EdDSA", "kid": "k1", "jwk": public, "jku": "https://evil.example.com/keys"}
    assert outcome(signed_by(private.sign, header, V4), {"k1": V4_JWK}).state == "invalid"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"k1": b"short"}, "'k1'"),
        ({"k1": "no PEM"}, "'k1'"),
        ([V4_JWK, {"kty": "RSA", "n": "AQAB", "e": "AQAB"}], "1.*'RSA'"),
        ([{**V4_JWK, "x": "in+base64"}], "base64url"),
        ([{**V4_JWK, "x": "AAAA"}], "0"),
        ([{"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ"}], "0"),
        ([{"kty": "EC", "crv": "P-256"}], "base64url"),
        ([5], "not int"),
    ],
)
def test_keys_that_cannot_be_used(keys, words):
    """They are refused when they are given, and not when a card comes that needs them."""
    with pytest.raises(ValueError, match=f"trusted key.*{words}"):
        jws.Keys.of(keys)


def test_keys_of_other_kinds_are_refused():
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    others = [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 1024)]
    for private in others:
        public = private.public_key()
        pem = public.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        for key in (public, pem, private):
            with pytest.raises(ValueError, match=r"Ed25519 or P-256"):
                jws.Keys.of({"k": key})
