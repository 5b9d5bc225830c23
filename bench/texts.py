"""Passages of English text from what a machine has anyway, and their embeddings.

Docstrings and comments of the standard library come first, then those of the packages
installed beside it, then whole sentences of the manual pages. A source is read when
the ones before it do not have enough.
"""

from __future__ import annotations

import ast
import contextlib
import gzip
import re
import sysconfig
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

MODEL = "all-MiniLM-L6-v2"
CHARACTERS = 240  # about 64 tokens
MANUALS = "/usr/share/man"

_SHORTEST = 60
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_CHUNK = 2048


class TextUnavailable(RuntimeError):
    """Not enough text, or no model to embed it with."""


def passages(count: int, seed: int) -> list[str]:
    """`count` distinct passages in a seeded random order."""
    random = np.random.default_rng(seed)
    chosen: list[str] = []
    for source in (_standard_library, _installed_packages, _manual_pages):
        known, found = set(chosen), dict.fromkeys(_tidy(source()))
        fresh = [text for text in found if text not in known]
        chosen += [fresh[i] for i in random.permutation(len(fresh))[: count - len(chosen)]]
        if len(chosen) == count:
            return [chosen[i] for i in random.permutation(count)]
    raise TextUnavailable(f"{count} passages wanted, {len(chosen)} found")


def documents(count: int, seed: int) -> list[str]:
    """`count` distinct documentation strings of the standard library as they are, from a
    word to thousands of them, in a seeded random order."""
    found: dict[str, None] = {}
    for file in _standard_library_files():
        with contextlib.suppress(SyntaxError, ValueError), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in other people's strings
            nodes = ast.walk(ast.parse(file.read_bytes()))
            texts = (ast.get_docstring(node) for node in nodes if isinstance(node, _DOCUMENTED))
            found.update(dict.fromkeys(" ".join((text or "").split()) for text in texts))
    found.pop("", None)
    if len(found) < count:
        raise TextUnavailable(f"{count} documentation strings wanted, {len(found)} found")
    order = np.random.default_rng(seed).permutation(len(found))[:count]
    listed = list(found)
    return [listed[i] for i in order]


def _tidy(raw: Iterator[str]) -> Iterator[str]:
    for text in raw:
        text = " ".join(text.split())
        if len(text) >= _SHORTEST:
            yield text[:CHARACTERS]


def embed(texts: list[str], seconds: float) -> np.ndarray:
    """Unit vectors of the texts, or of as many as are done after `seconds`."""
    import ruvector

    try:
        embedder = ruvector.Embedder.from_pretrained(MODEL, local_files_only=True)
    except (ImportError, ruvector.RuVectorError) as missing:
        raise TextUnavailable(f"sentence embeddings: {missing}") from missing
    end = time.monotonic() + seconds
    parts = []
    for begin in range(0, len(texts), _CHUNK):
        parts.append(embedder.embed_batch(texts[begin : begin + _CHUNK]))
        if time.monotonic() > end:
            break
    return np.concatenate(parts)


def _standard_library() -> Iterator[str]:
    for file in _standard_library_files():
        yield from _python_prose(file)


def _standard_library_files() -> list[Path]:
    root = Path(sysconfig.get_paths()["stdlib"])
    return [file for file in sorted(root.rglob("*.py")) if "site-packages" not in file.parts]


def _installed_packages() -> Iterator[str]:
    for file in sorted(Path(sysconfig.get_paths()["purelib"]).rglob("*.py")):
        yield from _python_prose(file)


def _python_prose(file: Path) -> Iterator[str]:
    source = file.read_text(encoding="utf-8", errors="replace")
    for text in re.findall(r'"""(.*?)"""', source, re.DOTALL):
        yield from re.split(r"\n\s*\n", text)
    for block in re.findall(r"(?:^[ \t]*#.*\n)+", source, re.MULTILINE):
        yield re.sub(r"^[ \t]*#+", "", block, flags=re.MULTILINE)


# A line that begins with a dot or a quote is a command to the formatter; what follows a
# backslash names a font or a character.
_COMMAND = re.compile(r"^(?:[.'].*|\s*)$", re.MULTILINE)
_ESCAPE = re.compile(r"\\(?:\*?\[[^]]*\]|f\[[^]]*\]|f\(..|f.|\*?\(..|.)")
_SENTENCES = re.compile(r"[A-Z].*[.]", re.DOTALL)


def _manual_pages() -> Iterator[str]:
    files = (f for section in range(1, 9) for f in Path(MANUALS, f"man{section}").glob("*.*"))
    for file in sorted(f for f in files if f.is_file() and not f.is_symlink()):
        raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        for paragraph in _COMMAND.split(raw.decode(errors="replace")):
            text = _ESCAPE.sub(lambda e: "-" if e[0] == r"\-" else "", paragraph).strip()
            if _SENTENCES.fullmatch(text):
                yield text
