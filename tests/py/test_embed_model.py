"""The real all-MiniLM-L6-v2, from the packages that carry it, with sockets blocked."""

from __future__ import annotations

import json
import pickle
import socket
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import ruvector
from installed import MINILM, need
from ruvector import Embedder, EmbedError

need(*MINILM)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a socket was used")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty cache, so that a model the user has does not take the package's place."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def minilm(cache: Path) -> Embedder:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(cache))
        patch.delenv("HF_HUB_CACHE", raising=False)
        patch.chdir(cache)
        return Embedder.from_pretrained("all-MiniLM-L6-v2", cache_dir=cache, threads=2)


@pytest.fixture
def folder(minilm: Embedder, tmp_path: Path) -> Path:
    """The model as a folder whose settings a test may write."""
    graph, tokenizer = minilm.files
    (tmp_path / "model.onnx").symlink_to(graph)
    (tmp_path / "tokenizer.json").symlink_to(tokenizer)
    return tmp_path


def hidden_states(minilm: Embedder, ids: list[int]) -> np.ndarray:
    """The graph's own output for one text, by ONNX Runtime alone."""
    import onnxruntime

    session = onnxruntime.InferenceSession(minilm.files[0], providers=["CPUExecutionProvider"])
    row = np.array([ids], dtype=np.int64)
    feeds = {
        "input_ids": row,
        "attention_mask": np.ones_like(row),
        "token_type_ids": np.zeros_like(row),
    }
    return session.run(None, feeds)[0][0]


def test_the_seed_sample(minilm: Embedder) -> None:
    vec = minilm.embed("hello world")
    batch = minilm.embed_batch(["hello", "world", "foo bar"])
    assert (vec.shape, batch.shape, minilm.dim) == ((384,), (3, 384), 384)
    assert vec.dtype == batch.dtype == np.float32
    assert batch.flags.c_contiguous
    np.testing.assert_allclose(np.linalg.norm(batch, axis=1), 1, atol=1e-6)


def test_similarities_are_the_published_ones(minilm: Embedder) -> None:
    # The example of the sentence-transformers README, for the same model in float32.
    vectors = minilm.embed_batch(
        ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    )
    published = [[1.0000, 0.6660, 0.1046], [0.6660, 1.0000, 0.1411], [0.1046, 0.1411, 1.0000]]
    np.testing.assert_allclose(vectors @ vectors.T, published, atol=0.01)


def test_a_vector_is_the_mean_of_the_graphs_hidden_states(minilm: Embedder) -> None:
    # [CLS] hello world [SEP] in the vocabulary of bert-base-uncased.
    want = hidden_states(minilm, [101, 7592, 2088, 102]).mean(axis=0)
    want /= np.linalg.norm(want)
    got = minilm.embed_batch(["a much longer text, so that the other is padded", "Hello World"])
    np.testing.assert_allclose(got[1], want, atol=1e-5)


def test_cls_pooling_and_no_normalization_are_followed(minilm: Embedder, folder: Path) -> None:
    kinds = ("Transformer", "Pooling")
    modules = [{"type": f"sentence_transformers.models.{k}", "path": k} for k in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "Pooling").mkdir()
    (folder / "Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    got = Embedder.from_pretrained(folder, threads=1).embed_batch(["one two three", "hello world"])
    want = hidden_states(minilm, [101, 7592, 2088, 102])[0]
    np.testing.assert_allclose(got[1], want, atol=1e-4)
    assert abs(np.linalg.norm(want) - 1) > 0.1


def test_a_text_is_cut_at_the_models_length(minilm: Embedder, folder: Path) -> None:
    # The tokenizer's own file says 128; the model's settings say 256.
    assert minilm.max_length == 256
    words = ["word"] * 300
    full, longer = minilm.embed_batch([" ".join(words[:254]), " ".join(words)])
    np.testing.assert_allclose(full, longer, atol=1e-6)
    assert abs(full @ minilm.embed(" ".join(words[:20]))) < 0.999
    before = minilm.stats
    minilm.embed_batch([" ".join(words), "short"])
    after = minilm.stats
    assert after.truncated - before.truncated == 1
    assert after.tokens - before.tokens == 256 + 3

    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 16}')
    short = Embedder.from_pretrained(folder, threads=1)
    short.embed(" ".join(words))
    assert (short.max_length, short.stats.tokens) == (16, 16)


def test_batches_of_mixed_lengths_agree_with_single_texts(minilm: Embedder) -> None:
    texts = [f"{'sentence ' * (i % 40)}number {i}" for i in range(150)]
    singles = np.array([minilm.embed(text) for text in texts])
    np.testing.assert_allclose(minilm.embed_batch(texts), singles, atol=2e-6)


def test_every_number_of_threads_gives_the_same_bits(minilm: Embedder, folder: Path) -> None:
    texts = [f"{'sentence ' * (i % 40)}number {i}" for i in range(150)]
    one = Embedder.from_pretrained(folder, threads=1)
    three = Embedder.from_pretrained(folder, threads=3)
    assert one.embed_batch(texts).tobytes() == three.embed_batch(texts).tobytes()


def test_unusual_texts_give_finite_unit_vectors(minilm: Embedder) -> None:
    texts = ["", " ", "\x00", "\n\t", "😀" * 50, "汉字", "مرحبا", "e\u0301", "x" * 5000, "\ufffe"]
    vectors = minilm.embed_batch(texts)
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_threads_follow_the_library(folder: Path) -> None:
    ruvector.set_num_threads(3)
    assert Embedder.from_pretrained(folder).threads == 3
    assert Embedder.from_pretrained(folder, threads=1).threads == 1


def test_several_threads_may_embed_at_once(minilm: Embedder) -> None:
    texts = [[f"text {i} of {j}" for i in range(20)] for j in range(4)]
    want = [minilm.embed_batch(t) for t in texts]
    before, got = minilm.stats, [None] * 4

    def work(j: int) -> None:
        got[j] = minilm.embed_batch(texts[j])

    workers = [threading.Thread(target=work, args=(j,)) for j in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(np.array_equal(a, b) for a, b in zip(got, want))
    assert minilm.stats.texts - before.texts == 80


def test_vectors_go_into_an_index_as_they_are(minilm: Embedder) -> None:
    texts = ["the cat sat on the mat", "stock prices fell sharply", "a kitten on a rug"]
    index = ruvector.RabitqPlusIndex.build(minilm.embed_batch(texts), metric="cosine")
    hits = index.search(minilm.embed("a cat lying on a carpet"), k=3)
    assert {hits[0].id, hits[1].id} == {0, 2}
    assert hits[2].id == 1


def test_a_broken_graph_or_tokenizer_is_named(minilm: Embedder, tmp_path: Path) -> None:
    _, tokenizer = minilm.files
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    (tmp_path / "tokenizer.json").symlink_to(tokenizer)
    with pytest.raises(EmbedError, match=r"model\.onnx: ONNX Runtime cannot open it"):
        Embedder.from_pretrained(tmp_path, threads=1)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(EmbedError, match=r"tokenizer\.json: not a tokenizer"):
        Embedder.from_pretrained(tmp_path, threads=1)


@pytest.mark.parametrize("package", ["onnxruntime", "tokenizers"])
def test_a_missing_library_is_named(folder: Path, monkeypatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EmbedError, match=rf'{package}.*pip install "onnxruntime>=') as caught:
        Embedder.from_pretrained(folder, threads=1)
    assert isinstance(pickle.loads(pickle.dumps(caught.value)), EmbedError)


def test_importing_ruvector_loads_none_of_them(run_python) -> None:
    done = run_python(
        "import sys, ruvector; ruvector.Embedder;"
        "print([m for m in ('onnxruntime', 'tokenizers', 'huggingface_hub') if m in sys.modules])"
    )
    assert done.stdout.strip() == "[]", done.stderr
