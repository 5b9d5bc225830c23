"""Long texts: where they are cut, and that cutting first gives the tokens of the whole text."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from installed import MINILM, need
from ruvector import Embedder, EmbedError
from ruvector.embed import beginning
from ruvector.embed.folder import Unusable, read_folder
from ruvector.embed.runtime import Tokenizer

need("onnx", *MINILM)
import tokenizers  # noqa: E402
from tokenizers import models, normalizers, pre_tokenizers, processors, trainers  # noqa: E402

WORDS = (
    "bread iron cats sleep don't naïve Straße ΣΊΣΥΦΟΣ мир שלום שָׁלוֹם हिन्दी 漢字 かな 한국어 ﬁne x² ½"
)
CORPUS = [f"{WORDS} {i} {i * 7919}, ok?\n{WORDS.upper()}!" for i in range(60)]


def bert(limit: int = 100, **settings: object) -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=limit))
    made.normalizer = normalizers.BertNormalizer(**settings)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=500, special_tokens=special)
    )
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return made


def byte_level(normalizer=None, **settings: object) -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.BPE())
    made.normalizer = normalizer
    made.pre_tokenizer = pre_tokenizers.ByteLevel(**settings)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=alphabet),
    )
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    made.add_special_tokens([tokenizers.AddedToken("<mask>", lstrip=True, special=True)])
    return made


def unigram(normalizer, pre_tokenizer) -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.Unigram())
    made.normalizer = normalizer
    made.pre_tokenizer = pre_tokenizer
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    made.train_from_iterator(
        CORPUS, trainers.UnigramTrainer(vocab_size=400, special_tokens=special, unk_token="<unk>")
    )
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return made


def joined(*parts):
    made = normalizers if isinstance(parts[0], normalizers.Normalizer) else pre_tokenizers
    return made.Sequence(list(parts))


def with_added(made: tokenizers.Tokenizer, *added: tokenizers.AddedToken):
    made.add_tokens(list(added))
    return made


TOKEN = tokenizers.AddedToken
SPLITS_BLANKS = (pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace())
ONE_BLANK = normalizers.Replace(tokenizers.Regex(" {2,}"), " ")
# Each with whether beginnings are to be used at all.
KINDS = {
    "bert": (lambda: bert(lowercase=True), True),
    "bert, cased": (lambda: bert(lowercase=False, handle_chinese_chars=False), True),
    "bert, added words": (
        lambda: with_added(
            bert(), TOKEN("iron"), TOKEN("ca", single_word=True), TOKEN("eep", rstrip=True)
        ),
        True,
    ),
    "bert, an added phrase": (lambda: with_added(bert(), TOKEN("iron cats")), False),
    "bert, an added word in Chinese": (
        lambda: with_added(bert(), TOKEN("漢字漢", normalized=False)),
        True,
    ),
    "byte level": (byte_level, True),
    "byte level, prefix": (lambda: byte_level(normalizers.NFC(), add_prefix_space=True), True),
    "byte level, no pattern": (lambda: byte_level(use_regex=False), False),
    "unigram as XLM-R": (
        lambda: unigram(joined(normalizers.Nmt(), normalizers.NFKC()), joined(*SPLITS_BLANKS)),
        True,
    ),
    "unigram as T5": (
        lambda: unigram(joined(normalizers.NFKC(), ONE_BLANK), pre_tokenizers.Metaspace()),
        True,
    ),
    "unigram, stripped": (
        lambda: unigram(
            joined(normalizers.Strip(), normalizers.NFD(), normalizers.StripAccents()),
            joined(pre_tokenizers.Punctuation(), *SPLITS_BLANKS),
        ),
        True,
    ),
    "unigram, blanks replaced": (
        lambda: unigram(normalizers.Replace(" ", "▁"), None),
        False,
    ),
    "unigram, not split": (
        lambda: unigram(normalizers.NFKC(), pre_tokenizers.Metaspace(split=False)),
        False,
    ),
}
LENGTH = 12


@pytest.fixture(scope="module", params=KINDS)
def pair(request, tmp_path_factory):
    """The library's own tokenizer with a cut, ours from the same file, and whether it may
    look at beginnings."""
    make, begins = KINDS[request.param]
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    make().save(str(path))
    plain = tokenizers.Tokenizer.from_file(str(path))
    plain.enable_truncation(LENGTH)
    return plain, Tokenizer(path, LENGTH), begins


@pytest.fixture(autouse=True)
def small(monkeypatch) -> None:
    """Beginnings that are short, so that texts need not be long."""
    monkeypatch.setattr(beginning, "CHARACTERS", 1)
    monkeypatch.setattr(beginning, "GROWTH", 2)


def agree(plain, ours, text: str) -> None:
    want = plain.encode(text)
    ids, cut = ours.encode(text)
    assert ids.tolist() == want.ids
    assert cut is bool(want.overflowing)


# What changes under normalization, joins with its neighbors, or is a blank of some kind.
ODD = "\u0301\u0345\u0600\u06dd\u0d4e\u1160\u3164\u200b\u200d\ufeff\u00a0\u3000\u2028\x00\t\r\n\x85"
ODD += "ﷺﬁ²½ΣσςİıßÅÅ가각漢字々かﾊﾟ👩🏽‍💻🇩🇪́'\"`.,!?-_▁Ġ\u2019<>[]{}ﱞͺ"
WORD = st.sampled_from(
    [*WORDS.split(), "<mask>", "[MASK]", "iron cats", "漢字漢字", "'s", "▁", "Ġ"]
)
PIECE = st.one_of(WORD, st.text(st.sampled_from(ODD), max_size=3), st.text(max_size=3))
GAP = st.sampled_from([" ", " ", "  ", "\n", " \n", "", "\t", "\u3000", "\r\n", "   "])
TEXT = st.lists(st.tuples(PIECE, GAP), min_size=20, max_size=200).map(
    lambda pairs: "".join(map("".join, pairs)).encode("utf-8", "replace").decode()
)


@settings(max_examples=25)
@given(text=TEXT)
@example(text="x" * 3000)
@example(text="漢字" * 1000)
@example(text="\x00" * 3000 + " word" * 400)
@example(text=" " * 3000 + "word" * 40)
@example(text="a\u0301 " * 600)
@example(text="ΣΑΣ Σ " * 300)
@example(text="word  \u0301" * 300)
@example(text="<mask> " * 500)
@example(text="iron cats " * 300)
@example(text="don't\n'll " * 300)
def test_the_tokens_are_those_of_the_whole_text(pair, text: str) -> None:
    plain, ours, _ = pair
    agree(plain, ours, text)


def test_long_texts_are_cut_first_where_that_is_exact(pair, monkeypatch) -> None:
    plain, ours, begins = pair
    text = "Bread, iron and cats don't sleep. " * 2000
    seen = []
    real = ours._tokenizer

    class Counting:
        def encode(self, part: str):
            seen.append(len(part))
            return real.encode(part)

    monkeypatch.setattr(ours, "_tokenizer", Counting())
    agree(plain, ours, text)
    assert (max(seen) < len(text) / 50) is begins


def test_chinese_without_blanks_is_cut_first_for_bert(tmp_path: Path) -> None:
    made = bert()
    assert beginning.Beginnings(made)._places.search("漢字")
    assert not beginning.Beginnings(bert(handle_chinese_chars=False))._places.search("漢字")
    added = with_added(bert(), TOKEN("漢字"))
    assert not beginning.Beginnings(added)._places.search("漢字")
    text = "漢字仮名交" * 600
    assert len(next(beginning.Beginnings(made).of(text, 10))) < 100


# ---- words that are too long -------------------------------------------------------------


def short_words(splits=None, normalizer=None, *added):
    """A word may have six characters."""
    made = bert(6, lowercase=True)
    if splits is not None:
        made.pre_tokenizer = splits
    if normalizer is not None:
        made.normalizer = normalizer
    return with_added(made, *added)


TAGS = (TOKEN("<x>", normalized=False), TOKEN("[ab-c]"), TOKEN("@a", single_word=True))
# Each with whether words are shortened at all.
SHORT_WORDS = {
    "bert": (short_words, True),
    "tags": (lambda: short_words(None, None, *TAGS), True),
    "words": (lambda: short_words(pre_tokenizers.Whitespace()), True),
    "blanks, composed": (
        lambda: short_words(pre_tokenizers.WhitespaceSplit(), normalizers.NFKC()),
        True,
    ),
    "plain marks": (
        lambda: short_words(
            pre_tokenizers.BertPreTokenizer(),
            joined(normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()),
        ),
        True,
    ),
    "an added word": (lambda: short_words(None, None, TOKEN("cat")), False),
    "an added letter with a mark": (lambda: short_words(None, None, TOKEN("ä")), False),
    "digits": (
        lambda: short_words(joined(pre_tokenizers.Digits(), pre_tokenizers.Whitespace())),
        False,
    ),
    "replaced": (lambda: short_words(None, normalizers.Replace("aa", " ")), False),
}


@pytest.fixture(scope="module", params=SHORT_WORDS)
def wordy(request, tmp_path_factory):
    make, shortens = SHORT_WORDS[request.param]
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    make().save(str(path))
    plain = tokenizers.Tokenizer.from_file(str(path))
    return plain, path, shortens


RUN = st.tuples(st.sampled_from("aAz09"), st.integers(1, 40)).map(lambda pair: pair[0] * pair[1])
BESIDE = st.sampled_from(
    [*" .,-_<>[]@äßΣİ漢\u0301\u200d\u00a0", "cat", "aa", "<x>", "[ab-c]", "@a", "[UNK]"]
)


SIDE = st.sampled_from(["right", "left"])


@settings(max_examples=25)
@given(parts=st.lists(st.one_of(RUN, RUN, BESIDE), max_size=40), lower=st.booleans(), side=SIDE)
@example(parts=["a" * 3000], lower=False, side="right")
@example(parts=["a" * 12, "cat", "a" * 12], lower=False, side="right")
@example(parts=["b" * 12, "aa", "b" * 12], lower=False, side="right")
@example(parts=["a" * 300, "\u0301", "a" * 300, " ", "a"], lower=False, side="left")
@example(parts=["Σ", "A" * 300, "Σ", " ", "9" * 300, "Σ"], lower=True, side="right")
def test_words_that_are_too_long_are_shortened_exactly(wordy, parts, lower, side) -> None:
    plain, path, _ = wordy
    text = "".join(parts)
    plain.enable_truncation(LENGTH, direction=side)
    want = plain.encode(text.lower() if lower else text)
    ids, cut = Tokenizer(path, LENGTH, cut=side, lower_case=lower).encode(text)
    assert ids.tolist() == want.ids
    assert cut is bool(want.overflowing)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize(
    "text", ["x" * 9000, "aB3" * 3000 + " end", "so " + "x" * 5000 + "-" + "y" * 4000]
)
def test_of_words_that_are_too_long_little_is_tokenized(wordy, monkeypatch, side, text) -> None:
    plain, path, shortens = wordy
    plain.enable_truncation(LENGTH, direction=side)
    ours = Tokenizer(path, LENGTH, cut=side)
    real, seen = ours._tokenizer, []

    class Counting:
        def encode(self, part: str):
            seen.append(len(part))
            return real.encode(part)

    monkeypatch.setattr(ours, "_tokenizer", Counting())
    ids, _ = ours.encode(text)
    assert ids.tolist() == plain.encode(text).ids
    assert (sum(seen) < 300) is shortens


@pytest.mark.parametrize("lower", [False, True])
def test_lower_case_is_that_of_the_whole(tmp_path: Path, lower: bool) -> None:
    made = bert(lowercase=False)
    made.save(str(tmp_path / "tokenizer.json"))
    ours = Tokenizer(tmp_path / "tokenizer.json", LENGTH, lower_case=lower)
    made.enable_truncation(LENGTH)
    for text in ("ΑΣ ΣΑΣ. Σ İI " * 300, "ΑΣ\nΣ " * 500):
        want = made.encode(text.lower() if lower else text)
        assert ours.encode(text)[0].tolist() == want.ids


# ---- how long, and which side ----------------------------------------------------------


def folder(path: Path, **files: object) -> Path:
    path.mkdir(exist_ok=True)
    (path / "model.onnx").write_bytes(b"")
    (path / "tokenizer.json").write_text("{}")
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return path


NO_LIMIT = {"model_max_length": int(1e30)}


@pytest.mark.parametrize(
    ("config", "length"),
    [
        # Published settings: roberta-base, xlm-roberta-base, all-mpnet-base-v2 (transformers'
        # documentation gives 512 usable positions for each), bge-m3 and longformer-base-4096.
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "mpnet", "max_position_embeddings": 514, "pad_token_id": 1}, 512),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 8194, "pad_token_id": 1}, 8192),
        ({"model_type": "longformer", "max_position_embeddings": 4098, "pad_token_id": 1}, 4096),
        ({"model_type": "camembert", "max_position_embeddings": 514}, 512),
        ({"model_type": "roberta", "max_position_embeddings": 130, "pad_token_id": 0}, 129),
        ({"model_type": "bert", "max_position_embeddings": 512, "pad_token_id": 0}, 512),
        ({"model_type": "unheard-of", "max_position_embeddings": 514, "pad_token_id": 1}, 514),
    ],
)
@pytest.mark.parametrize("chosen", [None, 100_000])
def test_no_text_is_longer_than_its_positions(tmp_path, config, length, chosen) -> None:
    files = {"config": config, "tokenizer_config": NO_LIMIT}
    if chosen:
        files["sentence_bert_config"] = {"max_seq_length": chosen}
    got = read_folder(folder(tmp_path / "m", **files), "n", "s").max_length
    assert got == (chosen if chosen and config["model_type"] == "unheard-of" else length)


def test_relative_positions_have_no_end(tmp_path: Path) -> None:
    files = {
        "config": {
            "model_type": "bert",
            "max_position_embeddings": 512,
            "position_embedding_type": "relative_key",
        },
        "sentence_bert_config": {"max_seq_length": 2048},
    }
    assert read_folder(folder(tmp_path / "m", **files), "n", "s").max_length == 2048


def position_graph(path: Path, rows: int) -> None:
    """As exported from RoBERTa: position = place + 2, in a table of so many rows."""
    from onnx import TensorProto, helper, numpy_helper, save

    def constant(name: str, value: np.ndarray):
        return numpy_helper.from_array(value, name)

    table = np.random.default_rng(0).standard_normal((rows, 4)).astype(np.float32)
    nodes = [
        helper.make_node("CumSum", ["attention_mask", "axis"], ["places"]),
        helper.make_node("Add", ["places", "one"], ["positions"]),
        helper.make_node("Gather", ["table", "positions"], ["last_hidden_state"]),
        helper.make_node("Identity", ["input_ids"], ["unused"]),
    ]
    ids = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"])
        for name in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["b", "s", 4])]
    constants = [
        constant("table", table),
        constant("one", np.array(1, np.int64)),
        constant("axis", np.array(1, np.int64)),
    ]
    graph = helper.make_graph(nodes, "g", ids, outputs, constants)
    save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8),
        str(path),
    )


def test_long_texts_of_a_roberta_are_cut_not_refused(tmp_path: Path) -> None:
    config = {"model_type": "roberta", "max_position_embeddings": 34, "pad_token_id": 1}
    path = folder(tmp_path / "m", config=config, tokenizer_config=NO_LIMIT)
    byte_level().save(str(path / "tokenizer.json"))
    position_graph(path / "model.onnx", 34)
    made = Embedder.from_pretrained(path)
    assert made.max_length == 32
    assert made.embed_batch(["short", "bread " * 5000]).shape == (2, 4)
    assert made.stats.truncated == 1


@pytest.mark.parametrize("in_file", ["Left", "Right", None])
@pytest.mark.parametrize("side", ["left", "right", None])
def test_the_side_that_is_cut_is_the_models(tmp_path: Path, in_file, side) -> None:
    made = bert()
    if in_file:
        made.enable_truncation(512, direction=in_file.lower())
    path = folder(
        tmp_path / "m", **({"tokenizer_config": {"truncation_side": side}} if side else {})
    )
    made.save(str(path / "tokenizer.json"))
    model = read_folder(path, "n", "s")
    ours = Tokenizer(model.tokenizer, LENGTH, cut=model.cut)
    # As transformers has it: tokenizer_config.json, else tokenizer.json, else the right.
    text = " ".join(f"bread {i}" for i in range(500))
    made.no_truncation()
    whole = made.encode(text).ids
    left = (side or in_file or "right").lower() == "left"
    want = [2, *whole[-11:]] if left else [*whole[:11], 3]
    assert ours.encode(text)[0].tolist() == want


def test_a_side_that_is_none_is_refused(tmp_path: Path) -> None:
    path = folder(tmp_path / "m", tokenizer_config={"truncation_side": "middle"})
    with pytest.raises(Unusable, match="truncation_side is 'middle'"):
        read_folder(path, "n", "s")


@pytest.mark.parametrize("length", [1, 2])
def test_a_length_without_room_for_text_is_refused(tmp_path: Path, length: int) -> None:
    bert().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(EmbedError, match=f"a length of {length} tokens leaves no room"):
        Tokenizer(tmp_path / "tokenizer.json", length)


def test_padding_on_the_left_changes_no_vector(tmp_path: Path) -> None:
    """A vector is that of its text alone, on whatever side a batch is padded."""
    made = byte_level()
    vectors = []
    for direction in ("left", "right"):
        made.enable_padding(direction=direction, pad_id=1, pad_token="<pad>", length=20)
        path = folder(tmp_path / direction, tokenizer_config={"padding_side": direction})
        made.save(str(path / "tokenizer.json"))
        position_graph(path / "model.onnx", 514)
        ours = Embedder.from_pretrained(path)
        together = ours.embed_batch(["bread", "iron cats sleep", "a"])
        alone = [ours.embed(text) for text in ("bread", "iron cats sleep", "a")]
        np.testing.assert_allclose(together, alone, atol=1e-6)
        vectors.append(together)
    assert np.array_equal(*vectors)


def test_many_parts_are_walked_once():
    """A tokenizer.json is a stranger's. A list in C cannot be counted by: its time is
    compared with what it takes to parse the same text."""

    class Written:
        def __init__(self, n: int) -> None:
            parts = [{"type": "Sequence", "normalizers": []}, {"type": "Lowercase"}]
            self.text = json.dumps({"type": "Sequence", "normalizers": parts * n}).encode()

        def __getstate__(self) -> bytes:
            return self.text

    def took(work: Callable[[], object]) -> float:
        begin = time.process_time()
        work()
        return time.process_time() - begin

    component = Written(20_000)
    parsing = min(took(lambda: json.loads(component.text)) for _ in range(3))
    walking = min(took(lambda: list(beginning._parts(component, "normalizers"))) for _ in range(2))
    assert walking < 8 * parsing


def test_parts_come_in_their_order():
    nested = normalizers.Sequence([normalizers.NFC(), normalizers.Strip()])
    outer = normalizers.Sequence([normalizers.Lowercase(), nested, normalizers.NFD()])
    kinds = [part["type"] for part in beginning._parts(outer, "normalizers")]
    assert kinds == ["Lowercase", "NFC", "Strip", "NFD"]
