"""Real passages from the text that comes with Python.

Sources, in this order, until enough passages are found: the language reference
(`pydoc_data.topics`), the documentation strings of the standard library, those of
NumPy, then those of every other installed package. Files are parsed, never imported, so
the same machine always gives the same passages. No network, no data files.
"""

from __future__ import annotations

import ast
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Union

import numpy as np

# Characters. About 50 tokens each: long enough to answer, short enough to embed fast.
SHORTEST, LONGEST = 60, 220
# Tests, other roots, and parts of the standard library that nobody asks about.
SKIPPED_FOLDERS = {
    *("test", "tests", "site-packages", "dist-packages"),
    *("distutils", "encodings", "idlelib", "lib2to3", "turtledemo"),
}


DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
Documented = Union[ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef]


class Passage(NamedTuple):
    text: str
    file: Path
    line: int


def collect(wanted: int) -> tuple[list[Passage], dict[Path, int]]:
    """`wanted` passages, no text twice, and how many came from each place.

    The place that has more than are still wanted gives an even selection.
    """
    passages: list[Passage] = []
    counts: dict[Path, int] = {}
    seen: set[str] = set()
    for place, found in sources():
        new = []
        for passage in found:
            body = passage.text.partition(": ")[2]
            if body not in seen:
                seen.add(body)
                new.append(passage)
        room = min(len(new), wanted - len(passages))
        passages += [new[i * len(new) // room] for i in range(room)]
        if room:
            counts[place] = room
        if len(passages) == wanted:
            break
    return passages, counts


def sources() -> Iterator[tuple[Path, Iterator[Passage]]]:
    stdlib = Path(sysconfig.get_path("stdlib"))
    topics = stdlib / "pydoc_data" / "topics.py"
    numpy = Path(np.__file__).parent
    packages = [Path(sysconfig.get_path("platlib")), Path(sysconfig.get_path("purelib"))]
    yield topics, read_topics(topics)
    yield stdlib, read_folder(stdlib, stdlib)
    yield numpy, read_folder(numpy, numpy.parent)
    for folder in packages:
        yield folder, read_folder(folder, folder)


def read_folder(folder: Path, base: Path) -> Iterator[Passage]:
    """Every documentation string under `folder`; module names are relative to `base`."""
    for file in sorted(folder.rglob("*.py")):
        if not SKIPPED_FOLDERS.intersection(file.relative_to(folder).parts[:-1]):
            yield from read_docstrings(file, base)


def parse(file: Path) -> ast.Module:
    """The parsed file, empty when it is missing or not valid Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # escapes that other people's strings hold
            return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return ast.Module(body=[], type_ignores=[])


def read_topics(file: Path) -> Iterator[Passage]:
    """The language reference, kept as one dict of topic name to text."""
    for node in ast.walk(parse(file)):
        if isinstance(node, ast.Dict):
            for (topic, text), value in zip(ast.literal_eval(node).items(), node.values):
                for chunk in chunks(text):
                    yield Passage(f"{topic}: {chunk}", file, value.lineno)


def read_docstrings(file: Path, base: Path) -> Iterator[Passage]:
    module = ".".join(file.relative_to(base).with_suffix("").parts).removesuffix(".__init__")
    todo: list[tuple[str, Documented]] = [(module, parse(file))]
    for name, node in todo:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, DEFINITIONS) and not child.name.startswith("_"):
                todo.append((f"{name}.{child.name}", child))
        for chunk in chunks(ast.get_docstring(node) or ""):
            yield Passage(f"{name}: {chunk}", file, getattr(node, "lineno", 1))


def chunks(text: str) -> Iterator[str]:
    """Neighboring sentences joined up to `LONGEST` characters; scraps are dropped."""
    current = ""
    for sentence in sentences(text):
        if current and len(current) + 1 + len(sentence) > LONGEST:
            yield from keep(current)
            current = ""
        current = f"{current} {sentence}".strip()
    yield from keep(current)


def keep(chunk: str) -> Iterator[str]:
    letters = sum(c.isalpha() or c == " " for c in chunk)
    if len(chunk) >= SHORTEST and letters >= 0.8 * len(chunk):
        yield chunk if len(chunk) <= LONGEST else chunk[:LONGEST].rpartition(" ")[0] + " ..."


def sentences(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text):
        prose = " ".join(paragraph.split())
        if not prose.startswith(">>>"):
            yield from re.split(r"(?<=[.!?:;]) ", prose)
