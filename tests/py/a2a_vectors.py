"""Published vectors and example cards for the tests of the agent client."""

from __future__ import annotations

import copy
import hashlib
import json

from ruvector.a2a import identity, jsontext

# seed, public key, agent id
K1 = (
    "07" * 32,
    "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c",
    "bb42f5a06cec4f36e3e9173236e88cdba7aa1a7bf737f6c6c372aa4c9268573e",
)
K2 = (
    "09" * 32,
    "fd1724385aa0c75b64fb78cd602fa1d991fdebf76b13c58ed702eac835e9f618",
    "706db118bee93a17129952fb85e4cd19a1be250dfb2414d2c425a88e0b464d21",
)
K3 = (
    "00" * 32,
    "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29",
    "6a37b6fafc0135ac76c3a0f3425e6da8ac8a6d3353ff7aa2331607a414abf104",
)
# RFC 8032, section 7.1, test 1
K4 = (
    "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    "7cb16e94954c73e793776b730c4fa20fe747987ce43b49c66deb6b4aa49be50d",
)

# RFC 8032, section 7.1: public key, message, signature
RFC8032 = [
    (
        K4[1],
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e"
        "39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f"
        "3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67"
        "f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (  # SHA(abc)
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        hashlib.sha512(b"abc").hexdigest(),
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfb"
        "c7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
]

# ---- cards ----------------------------------------------------------------------------

V1_CANONICAL = (
    '{"authentication":{"schemes":["bearer"]},"capabilities":{"pushNotifications":false,'
    '"streaming":true},"description":"Echo peer for tests","metadata":{"ruvector":'
    '{"artifact_kind_versions_supported":["1"]}},"name":"demo-agent","provider":'
    '{"organization":"ruvector"},"skills":[{"description":"Search and answer","id":"rag.query",'
    '"inputModes":["text/plain"],"name":"RAG query","outputModes":["text/plain"],'
    '"tags":["rag"]}],"url":"https://peer.example.com","version":"0.1.0"}'
)
V1 = (
    '{"name":"demo-agent","description":"Echo peer for tests","url":"https://peer.example.com",'
    '"provider":{"organization":"ruvector"},"version":"0.1.0","capabilities":'
    '{"streaming":true,"pushNotifications":false},"skills":[{"id":"rag.query",'
    '"name":"RAG query","description":"Search and answer","tags":["rag"],'
    '"inputModes":["text/plain"],"outputModes":["text/plain"]}],"authentication":'
    '{"schemes":["bearer"]},"metadata":{"ruvector":{"artifact_kind_versions_supported":["1"],'
    '"signature":{"alg":"ed25519-hex","signature":'
    '"6f11e61efeb0499b5a7001022575a9822afd7bdcf72a8284e63f83fd0c44782f'
    'b47c202a96a4486d68433ca82aba2ed79d66955f8d5cb9f29a1e9a18ea3d5d07",'
    '"public_key":"ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c"}}}}'
)

# The card of a stock `rvagent a2a serve` whose key is K2. As a server sends it, with the
# em dash raw.
V2_CANONICAL_SHA256 = "c2503b8465e8e85a9d8c12874476a4e831da1a63d8a66818472dded47ff61288"
V2_SIGNED = json.dumps(
    {
        "name": "rvagent-a2a",
        "description": "rvAgent A2A endpoint (InMemoryRunner)",
        "url": "http://127.0.0.1:8080",
        "provider": {"organization": "ruvector"},
        "version": "0.1.0",
        "capabilities": {"streaming": True, "pushNotifications": False},
        "skills": [
            {
                "id": "echo",
                "name": "echo",
                "description": "InMemoryRunner echo \u2014 returns the input as an artifact",
                "tags": ["test"],
                "inputModes": ["text/plain"],
                "outputModes": ["text/plain"],
            }
        ],
        "authentication": {"schemes": []},
        "metadata": {
            "ruvector": {
                "agent_id": K2[2],
                "signature": {
                    "alg": "ed25519-hex",
                    "signature": "a6e4147d5e6bc6492191055273d306cd1bc49d3920b03c7d866e71d2931fda9d"
                    "87efdbe04e219317395703f81e42eb4b4610e55bc3523692900d5d8e144d4e08",
                    "public_key": K2[1],
                },
            }
        },
    },
    ensure_ascii=False,
)

V3 = (
    '{"name":"Café 漢字","description":"tab\\tquote\\" slash/ del\\u007f nul\\u0001 ls\\u2028",'
    '"url":"https://peer.example.com","provider":{"organization":"ruvector"},"version":"0.1.0",'
    '"capabilities":{},"skills":[],"authentication":{},"metadata":{"ruvector":{"price":1e+16,'
    '"unit":1.0,"tiny":1e-6,"big":9007199254740993,"\\uff01":1,"\\ud83d\\ude00":2}}}'
)
V3_SIGNATURE = (
    "2cc8e712c727f125839dbc75e8714c83229aef10b83e044543730b5115e25f8a"
    "e6eee0383f398e7dcabe6f932f904cf334d2c6956d655a8e02eb86e820987f07"
)

V4 = {
    "name": "Café Agent",
    "description": "",
    "supportedInterfaces": [
        {
            "url": "https://peer.example.com/a2a",
            "protocolBinding": "JSONRPC",
            "protocolVersion": "1.0",
        }
    ],
    "version": "1.0.0",
    "capabilities": {"streaming": True, "pushNotifications": False},
    "defaultInputModes": ["text/plain"],
    "defaultOutputModes": ["text/plain"],
    "skills": [{"id": "echo", "name": "echo", "description": "x", "tags": ["t"]}],
}
V4_JWK = {"kty": "OKP", "crv": "Ed25519", "x": "6kpsY-KcUgq-9VB7Ey7F-ZVHdq6-vnuSQh7qaRRG0iw"}
V4_PROTECTED = "eyJhbGciOiJFZERTQSIsImtpZCI6ImsxIiwidHlwIjoiSk9TRSJ9"
V4_SIGNATURES = {
    "strict": "lI8xZV55D0Cj3okfRVEsH7uGsL4bl6jn7Nwm26dA10erwjX2-w6DURhX7zDofn6-EMXcTkccBKyY7WaW"
    "yvesAw",
    "empties removed": "zbYoTjiLKx1JNZsM5kLeUJRM_sxmi0fscbid-9rsm7BC2mSLrSHFJFJqpO0OKzDK23Pm-JESL"
    "PbWg4XCi_iRCA",
}


# ---- helpers --------------------------------------------------------------------------


def read(card):
    """A card's text as the functions of `identity` want it."""
    data = card if isinstance(card, bytes) else card.encode()
    return jsontext.parse(data, what="the card", max_depth=64, strict=True, lexemes=True)


def without_signature(card):
    card = copy.deepcopy(card)
    card["metadata"]["ruvector"].pop("signature", None)
    return card


def sign(card, key):
    """`card`, signed by one of K1 to K4."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    card = without_signature(card)
    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(key[0]))
    form = jsontext.serde_form(identity.project(read(json.dumps(card))))
    card["metadata"]["ruvector"]["signature"] = {
        "alg": "ed25519-hex",
        "signature": private.sign(form).hex(),
        "public_key": key[1],
    }
    return card
