"""Agent ids, canonical forms, and what counts as a signed card."""

from __future__ import annotations

import copy
import hashlib
import json
import random
import struct
import tracemalloc
from pathlib import Path

import pytest
from a2a_vectors import (
    K1,
    K2,
    K3,
    K4,
    RFC8032,
    V1,
    V1_CANONICAL,
    V2_CANONICAL_SHA256,
    V2_SIGNED,
    V3,
    V3_SIGNATURE,
    read,
    sign,
    without_signature,
)
from hypothesis import given
from hypothesis import strategies as st
from ruvector.a2a import identity, jsontext
from ruvector.errors import CardSignatureInvalid, ProtocolError

rfc8785 = pytest.importorskip("rfc8785", reason="the package rfc8785 is not installed")
ed25519 = pytest.importorskip(
    "cryptography.hazmat.primitives.asymmetric.ed25519",
    reason="the package cryptography is not installed",
)

ORDER = 2**252 + 27742317777372353535851937790883648493  # of the base point, RFC 8032 5.1


# ---- Ed25519 ------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "message", "signature"), RFC8032)
def test_ed25519_vectors(key, message, signature):
    key, message, signature = (bytes.fromhex(x) for x in (key, message, signature))
    assert identity.verify_ed25519(key, signature, message)
    assert not identity.verify_ed25519(key, signature, message + b"x")
    for position in (0, 31, 32, 63):
        wrong = bytearray(signature)
        wrong[position] ^= 1
        assert not identity.verify_ed25519(key, bytes(wrong), message)


def wycheproof():
    lines = Path(__file__).with_name("wycheproof_ed25519.txt").read_text().splitlines()
    for line in lines:
        if not line.startswith("#"):
            number, *fields, result = line.split(" ")
            data = [b"" if field == "-" else bytes.fromhex(field) for field in fields]
            yield pytest.param(*data, result == "valid", id=number)


@pytest.mark.parametrize(("key", "message", "signature", "valid"), [*wycheproof()])
def test_ed25519_vectors_of_wycheproof(key, message, signature, valid):
    assert identity.verify_ed25519(key, signature, message) is valid


def test_signatures_in_another_form_are_refused():
    key, message, signature = (bytes.fromhex(x) for x in RFC8032[1])
    # S + L is the same number modulo the order: accepting it would make signatures malleable
    s = int.from_bytes(signature[32:], "little") + ORDER
    assert not identity.verify_ed25519(key, signature[:32] + s.to_bytes(32, "little"), message)
    for wrong in (b"", signature[:-1], signature + b"\0", bytes(64), b"\xff" * 64):
        assert not identity.verify_ed25519(key, wrong, message)
    for wrong in (b"", key[:-1], key + b"\0"):
        assert not identity.verify_ed25519(wrong, signature, message)


SMALL_ORDER = [
    *("00" * 32, "01" + "00" * 31, "ec" + "ff" * 30 + "7f"),
    *("ed" + "ff" * 30 + "7f", "ee" + "ff" * 30 + "7f"),
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
]


@pytest.mark.parametrize("key", SMALL_ORDER)
@pytest.mark.parametrize("sign_bit", [0, 0x80])
def test_keys_of_small_order_verify_nothing(key, sign_bit):
    key = bytearray.fromhex(key)
    key[31] |= sign_bit
    for r in (bytes(key), b"\x01" + bytes(31), bytes(32)):
        assert not identity.verify_ed25519(bytes(key), r + bytes(32), b"any message")


def test_the_forgery_under_the_neutral_key_works_elsewhere():
    # the reason for the list above: the library alone accepts this for every message
    key = b"\x01" + bytes(31)
    ed25519.Ed25519PublicKey.from_public_bytes(key).verify(key + bytes(32), b"any message")


# ---- ids ----------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "public", "name"), [K1, K2, K3, K4])
def test_agent_ids(seed, public, name):
    private = ed25519.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))
    assert private.public_key().public_bytes_raw().hex() == public
    assert identity.agent_id(bytes.fromhex(public)) == name
    assert identity.parse_agent_id(name.upper()) == name


@pytest.mark.parametrize(
    "text", ["", "0" * 63, "0" * 65, "g" * 64, "0" * 64 + "\n", "\u0660" * 64, None]
)
def test_what_is_not_an_agent_id(text):
    with pytest.raises(ValueError, match="64 hexadecimal digits"):
        identity.parse_agent_id(text)


# ---- canonical forms ----------------------------------------------------------------


def test_canonical_form_of_v1():
    form = jsontext.serde_form(identity.project(read(V1)))
    assert form.decode() == V1_CANONICAL
    assert len(form) == 469
    assert hashlib.sha256(form).hexdigest() == (
        "f8be9dc234ca3a7af5434e54a8b532be02b979c18e09a6038a52df5e73ada6c4"
    )


def test_canonical_form_of_the_stock_server():
    form = jsontext.serde_form(identity.project(read(V2_SIGNED)))
    assert (len(form), hashlib.sha256(form).hexdigest()) == (544, V2_CANONICAL_SHA256)


def test_canonical_forms_of_v3():
    projected = identity.project(read(V3))
    form = jsontext.serde_form(projected)
    assert len(form) == 378
    digests = {
        "as-sent": "4361bbae4f231369e6756437fe2a0c4e551db16ad11de288011df55dfd473c27",
        "serde": "4361bbae4f231369e6756437fe2a0c4e551db16ad11de288011df55dfd473c27",
    }
    for numbers, digest in digests.items():
        assert hashlib.sha256(jsontext.serde_form(projected, numbers)).hexdigest() == digest
    assert hashlib.sha256(jsontext.jcs(projected)).hexdigest() == (
        "f640fad9ae53963c7eca0f94187a362159b3f23ad1af013acb2834b6a6b51248"
    )


# token: (serde_json since 1.0.147, before, RFC 8785)
NUMBERS = {
    "1": ("1", "1", "1"),
    "0.1": ("0.1", "0.1", "0.1"),
    "123456789.125": ("123456789.125", "123456789.125", "123456789.125"),
    "1.0": ("1.0", "1.0", "1"),
    "1.50": ("1.5", "1.5", "1.5"),
    "1e3": ("1000.0", "1000.0", "1000"),
    "1E-5": ("0.00001", "0.00001", "0.00001"),
    "1e-6": ("1e-6", "1e-6", "0.000001"),
    "1e-7": ("1e-7", "1e-7", "1e-7"),
    "1e15": ("1000000000000000.0", "1000000000000000.0", "1000000000000000"),
    "1e16": ("1e+16", "1e16", "10000000000000000"),
    "1e21": ("1e+21", "1e21", "1e+21"),
    "-0": ("-0.0", "-0.0", "0"),
    "-0.0": ("-0.0", "-0.0", "0"),
    "9007199254740993": ("9007199254740993", "9007199254740993", "9007199254740992"),
    "18446744073709551616": (
        *("1.8446744073709552e+19", "1.8446744073709552e19"),
        "18446744073709552000",
    ),
    "-1.5e-9": ("-1.5e-9", "-1.5e-9", "-1.5e-9"),
    "5e-324": ("5e-324", "5e-324", "5e-324"),
}


@pytest.mark.parametrize("token", NUMBERS)
def test_numbers(token):
    value = jsontext.parse(token.encode(), what="x", max_depth=1, lexemes=True)
    assert jsontext.serde_form(value) == token.encode()
    forms = (
        jsontext.serde_form(value, "serde"),
        jsontext.serde_form(value, "serde-old"),
        jsontext.jcs(value),
    )
    assert tuple(form.decode() for form in forms) == NUMBERS[token]


# RFC 8785, appendix B: bits of the double and what is written
ES_NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}


@pytest.mark.parametrize("bits", ES_NUMBERS)
def test_numbers_of_rfc_8785(bits):
    number = struct.unpack(">d", bytes.fromhex(bits))[0]
    assert jsontext.jcs(number).decode() == ES_NUMBERS[bits]


def test_member_order_of_rfc_8785():
    # section 3.2.3: by UTF-16 code units, so the emoji comes before the U+FB33
    names = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    order = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    form = jsontext.jcs(dict.fromkeys(names))
    assert list(json.loads(form)) == order
    assert list(json.loads(jsontext.serde_form(dict.fromkeys(names)))) == sorted(names)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=20,
)


@given(JSON)
def test_jcs_agrees_with_another_library(value):
    assert jsontext.jcs(value) == rfc8785.dumps(value)


@given(JSON, st.randoms(use_true_random=False))
def test_the_projection_does_not_see_order_or_white_space(value, shuffle):
    card = json.loads(V1)
    card["metadata"]["ruvector"]["extra"] = value

    def shuffled(item):
        if isinstance(item, dict):
            names = list(item)
            shuffle.shuffle(names)
            return {name: shuffled(item[name]) for name in names}
        return [shuffled(i) for i in item] if isinstance(item, list) else item

    forms = {
        jsontext.serde_form(identity.project(read(json.dumps(c, indent=i, ensure_ascii=a))))
        for c, i, a in ((card, None, True), (shuffled(card), 3, False), (shuffled(card), 0, True))
    }
    assert len(forms) == 1


# ---- the envelope -------------------------------------------------------------------


def check(card):
    return identity.check_envelope(
        read(card if isinstance(card, (str, bytes)) else json.dumps(card))
    )


def test_v1_is_signed():
    envelope = check(V1)
    assert envelope.agent_id == K1[2]
    assert envelope.public_key.hex() == K1[1]


def test_v2_the_stock_servers_card_is_signed():
    assert check(V2_SIGNED).agent_id == K2[2]


def test_v3_with_other_numbers_and_letters_is_signed():
    card = V3.replace(
        '"ruvector":{',
        '"ruvector":{"signature":'
        + json.dumps({"alg": "ed25519-hex", "signature": V3_SIGNATURE, "public_key": K1[1]})
        + ",",
    )
    assert check(card).agent_id == K1[2]
    # a store in between may have rewritten the numbers
    assert check(card.replace("1e-6", "0.000001")).agent_id == K1[2]
    assert check(card.replace("1e+16", "10000000000000000.0")).agent_id == K1[2]
    with pytest.raises(CardSignatureInvalid):
        check(card.replace("9007199254740993", "9007199254740992"))


def changed(**edits):
    card = json.loads(V1)
    card.update(edits)
    return card


def with_signature(**edits):
    card = json.loads(V1)
    signature = card["metadata"]["ruvector"]["signature"]
    for name, value in edits.items():
        if value is None:
            del signature[name]
        else:
            signature[name] = value
    return card


def with_metadata(**edits):
    card = json.loads(V1)
    card["metadata"]["ruvector"].update(edits)
    return card


SIGNATURE = json.loads(V1)["metadata"]["ruvector"]["signature"]["signature"]
FORGED = {"alg": "ed25519-hex", "public_key": "01" + "00" * 31, "signature": "01" + "00" * 63}
TAMPERED = {
    "T1 url": (changed(url="https://evil.example.com"), "signature"),
    "T4 metadata": (with_metadata(x=1), "signature"),
    "T5 alg": (with_signature(alg="none"), "alg"),
    "T5 no alg": (with_signature(alg=None), "alg"),
    "T7 no key": (with_signature(public_key=None), "malformed"),
    "T9 first digit": (with_signature(signature="7" + SIGNATURE[1:]), "signature"),
    "short": (with_signature(signature=SIGNATURE[:-2]), "malformed"),
    "not hex": (with_signature(signature="g" * 128), "malformed"),
    "not an object": (with_metadata(signature="ab"), "malformed"),
    "null": (with_metadata(signature=None), "malformed"),
    "small-order key": (with_metadata(signature=FORGED), "signature"),
    "null default": (changed(capabilities={"streaming": None}), "malformed"),
    "null tags": (
        changed(skills=[{"id": "a", "name": "a", "description": "", "tags": None}]),
        "malformed",
    ),
    "no provider": ({k: v for k, v in changed().items() if k != "provider"}, "malformed"),
    "number as a name": (changed(name=5), "malformed"),
    "skills": (changed(skills={}), "malformed"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_tampered_cards(name):
    card, reason = TAMPERED[name]
    with pytest.raises(CardSignatureInvalid) as caught:
        check(card)
    assert caught.value.reason == reason


def test_t2_t3_fields_outside_the_signature_are_not_believed():
    evil = [{"url": "https://evil.example.com", "protocolBinding": "JSONRPC"}]
    card = changed(supportedInterfaces=evil, securitySchemes={}, protocolVersion="1.0")
    card["skills"][0]["examples"] = ["send me your password"]
    envelope = check(card)
    assert "evil" not in json.dumps(envelope.card)
    assert "password" not in json.dumps(envelope.card)


def test_t6_t10_what_does_not_matter():
    card = json.loads(V1)
    del card["capabilities"]["pushNotifications"]
    card["provider"]["url"] = None
    signature = card["metadata"]["ruvector"]["signature"]
    signature.update({k: signature[k].upper() for k in ("signature", "public_key")})
    assert check(card).agent_id == K1[2]
    names = list(card)
    random.Random(1).shuffle(names)
    assert check(json.dumps({n: card[n] for n in names}, indent=7)).agent_id == K1[2]


def test_t8_anybody_can_sign_with_a_key_of_their_own():
    card = json.loads(V1)
    card["url"] = "https://evil.example.com"
    assert check(sign(card, K2)).agent_id == K2[2]


def test_the_name_in_the_card_is_that_of_the_key():
    card = without_signature(json.loads(V1))
    for name, right in ((K1[2], True), (K1[2].upper(), True), (K2[2], False), (7, False)):
        for metadata in ({"agent_id": name}, {"identity": {"agent_id": name}}):
            signed = copy.deepcopy(card)
            signed["metadata"]["ruvector"].update(metadata)
            signed = sign(signed, K1)
            if right:
                assert check(signed).agent_id == K1[2]
                continue
            with pytest.raises(CardSignatureInvalid) as caught:
                check(signed)
            assert caught.value.reason == "agent_id"


def test_unsigned_cards_have_no_envelope():
    assert check(without_signature(json.loads(V1))) is None
    for metadata in (None, [], "x", {"ruvector": None}, {"ruvector": {}}):
        assert check(changed(metadata=metadata)) is None


def test_a_lone_surrogate_cannot_be_signed():
    with pytest.raises(ProtocolError, match="surrogate"):
        check(with_metadata(x="\ud800"))


@pytest.mark.parametrize("unit", ["[{", "\\n[", "\\\\[", '\\"[{', "\\u00e9]"])
def test_nesting_of_a_long_string_is_counted_in_little_memory(unit: str) -> None:
    size = 1 << 20
    data = ("[" * 3 + '"' + unit * (size // len(unit)) + '"' + "]" * 3).encode()
    tracemalloc.start()
    try:
        value = jsontext.parse(data, what="x", max_depth=3)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert value == json.loads(data)
    assert peak < 8 * size  # the text, the value and copies of them; state for each byte is 100
    with pytest.raises(ProtocolError, match="nested more than 2 levels"):
        jsontext.parse(data, what="x", max_depth=2)
