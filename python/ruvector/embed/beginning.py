"""The beginning of a long text that gives the same first tokens as the whole.

A text is cut in front of a blank where, for the normalizers, pre-tokenizers and added tokens
known here, the tokens of what is before the blank do not depend on what follows: the
character before it is a letter, a digit or ASCII punctuation, which neither vanishes nor
joins with a blank; no normalizer composes or moves anything across a blank; the
pre-tokenizer always splits there; and no added token spans it. For BERT's own pair a place
between two Chinese characters will do as well, for blanks are put around each of them.
The pieces of a tokenizer that are not known here get the whole text.

WordPiece makes one unknown token of a word that is longer than its limit, so the middle of
a run of ASCII letters and digits beyond that is left out: the word stays too long, no known
normalizer or pre-tokenizer acts inside of the run, and no added token can lie in it. What
other models make of a word depends on all of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# Letters and digits that may stand before a blank. Beyond the basic plane, and at U+0D4E,
# some join with what follows (Unicode's Grapheme_Cluster_Break=Prepend); Hangul fillers
# become blanks.
_BEFORE = r"[!-~]|[^\W_\u0d4e\u115f\u1160\u3164\uffa0\U00010000-\U0010ffff]"
_AFTER = r"[ !-~]|[^\W_\u0d4e\u115f\u1160\u3164\uffa0\U00010000-\U0010ffff]"
# Each begins with the character in front of which a text may be cut.
_BLANK = f" (?={_AFTER})(?<=(?:{_BEFORE}) )"
_BLANK_OR_LINE = f"[ \n](?={_AFTER})(?<=(?:{_BEFORE})[ \n])"
_CHINESE = "\u4e00-\u9fff"
_BETWEEN_CHINESE = f"[{_CHINESE}](?<=[{_CHINESE}]{{2}})"

_NORMALIZERS = {"Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled", "StripAccents"}
_NORMALIZERS |= {"BertNormalizer", "Strip"}
# Runs of blanks into one: a run that begins at the cut is not in the beginning at all.
_BLANK_RUNS = ({"Regex": " {2,}"}, {"Regex": " +"}, {"Regex": r"\s+"}, {"Regex": r"\s{2,}"})
_SPLIT_AT_ALL_BLANKS = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}
_ADDING_SPLITS = {"Digits", "Punctuation", "UnicodeScripts"}

# Those that map an ASCII letter or digit to one character and add or drop none between two.
_KEEP_ASCII = {"Lowercase", "NFC", "NFD", "NFKC", "NFKD", "StripAccents", "BertNormalizer", "Strip"}
_KEEP_RUNS = _SPLIT_AT_ALL_BLANKS | {"Punctuation"}
_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")

# Characters of the first try for each token wanted, and how much longer the next one is.
CHARACTERS, GROWTH = 16, 4
# Tokens that are to follow the last one kept: nothing at the cut is near it.
MARGIN = 16


class Beginnings:
    """Where texts may be cut, for one tokenizer of the library."""

    def __init__(self, tokenizer: Any) -> None:
        self._places = _places(tokenizer)
        self._kept = _kept_of_a_run(tokenizer)
        # Only where a run begins: else each of its characters would be looked at for each.
        run = f"(?<![A-Za-z0-9])[A-Za-z0-9]{{{2 * self._kept + 1},}}"
        self._long_runs = re.compile(run) if self._kept else None

    def of(self, text: str, tokens: int) -> Iterator[str]:
        """Ever longer beginnings of `text`; the last one has the tokens of all of it."""
        for cut in self._cuts(text, tokens):
            yield self.shortened(text[:cut])
        whole = self.shortened(text)
        if len(whole) < len(text):
            for cut in self._cuts(whole, tokens):
                yield whole[:cut]
        yield whole

    def shortened(self, text: str) -> str:
        """A text with the same tokens: without the middles of words that are too long."""
        if self._long_runs is None:
            return text
        parts, start = [], 0
        for run in self._long_runs.finditer(text):
            parts.append(text[start : run.start() + self._kept])
            start = run.end() - self._kept
        return "".join([*parts, text[start:]]) if parts else text

    def _cuts(self, text: str, tokens: int) -> Iterator[int]:
        if self._places is None:
            return
        size = CHARACTERS * (tokens + MARGIN)
        while 2 * size < len(text):
            cut = self._last_place(text, size)
            if cut:
                yield cut
            size *= GROWTH

    def _last_place(self, text: str, size: int) -> int:
        """The last place within `size` characters to cut at; 0 if there is none."""
        assert self._places is not None
        # Mostly a few characters back; the rest is looked at where it is not.
        for start in (max(0, size - 200), 0):
            cut = 0
            for found in self._places.finditer(text, start, size):
                cut = found.start()
            if cut:
                return cut
        return 0


def _places(tokenizer: Any) -> re.Pattern[str] | None:
    """What matches at places to cut at; None where none is known to be safe."""
    normalizers = list(_parts(tokenizer.normalizer, "normalizers"))
    splits = list(_parts(tokenizer.pre_tokenizer, "pretokenizers"))
    added = [str(token.content) for token in tokenizer.get_added_tokens_decoder().values()]
    if not all(map(_keeps_to_itself, normalizers)) or any(map(_has_blank, added)):
        return None
    kinds = {split["type"] for split in splits}
    if not all(_splits_or_passes(split) for split in splits):
        return None
    if kinds & _SPLIT_AT_ALL_BLANKS or any(_is_byte_level(split) for split in splits[:1]):
        pattern = _BLANK_OR_LINE
    elif "Metaspace" in kinds:
        pattern = _BLANK
    else:
        return None
    spaced = any(n["type"] == "BertNormalizer" and n["handle_chinese_chars"] for n in normalizers)
    chinese = any(re.search(f"[{_CHINESE}]", content) for content in added)
    if spaced and len(normalizers) == 1 and kinds == {"BertPreTokenizer"} and not chinese:
        pattern = f"{pattern}|{_BETWEEN_CHINESE}"
    return re.compile(pattern)


def _kept_of_a_run(tokenizer: Any) -> int:
    """How much of a run of letters and digits has to stay at its beginning and at its end;
    0 where runs have to stay whole."""
    limit = getattr(tokenizer.model, "max_input_chars_per_word", None)
    if type(tokenizer.model).__name__ != "WordPiece" or not isinstance(limit, int):
        return 0
    normalizers = {part["type"] for part in _parts(tokenizer.normalizer, "normalizers")}
    splits = {part["type"] for part in _parts(tokenizer.pre_tokenizer, "pretokenizers")}
    added = [str(token.content) for token in tokenizer.get_added_tokens_decoder().values()]
    if not normalizers <= _KEEP_ASCII or not splits <= _KEEP_RUNS:
        return 0
    if not all(_PUNCTUATION.search(content) for content in added):
        return 0  # it could lie in a run
    return max(limit // 2 + 1, *map(len, added), 1)


def _parts(component: Any, listed: str) -> Iterator[Mapping[str, Any]]:
    """The settings of a component, and of all that a sequence is made of."""
    if component is None:
        return
    waiting = [json.loads(component.__getstate__())]
    while waiting:
        part = waiting.pop()
        if part["type"] == "Sequence":
            waiting.extend(reversed(part[listed]))
        else:
            yield part


def _keeps_to_itself(normalizer: Mapping[str, Any]) -> bool:
    """True where the normal form of what is before a blank does not depend on the rest."""
    if normalizer["type"] == "Replace":
        pattern = normalizer["pattern"]
        if set(pattern) == {"String"}:
            return not _has_blank(pattern["String"]) and not _has_blank(normalizer["content"])
        return pattern in _BLANK_RUNS and normalizer["content"] == " "
    return normalizer["type"] in _NORMALIZERS


def _splits_or_passes(split: Mapping[str, Any]) -> bool:
    if split["type"] == "Metaspace":
        return split.get("split", True) is True
    if split["type"] == "ByteLevel":
        return _is_byte_level(split)
    return split["type"] in _SPLIT_AT_ALL_BLANKS | _ADDING_SPLITS


def _is_byte_level(split: Mapping[str, Any]) -> bool:
    """GPT-2's: every match of its pattern that has a blank begins with one."""
    return split["type"] == "ByteLevel" and split.get("use_regex", True) is True


def _has_blank(text: str) -> bool:
    return not text or any(character.isspace() for character in text)


def count(pieces: Iterable[Any], special: int) -> int:
    """Tokens in the pieces that a cut text left over."""
    return sum(len(piece.ids) - special for piece in pieces)
