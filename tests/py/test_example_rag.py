"""`examples/rag.py` and its corpus: real passages, sensible answers, no network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import ruvector
from installed import MINILM, need

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NO_NETWORK = """
import socket
def refuse(*args, **kwargs):
    raise SystemExit("a socket was used")
socket.getaddrinfo = socket.socket.connect = refuse
"""


@pytest.fixture(scope="module")
def corpus():
    sys.path.insert(0, str(EXAMPLES))
    try:
        import _corpus
    finally:
        sys.path.remove(str(EXAMPLES))
    return _corpus


@pytest.fixture(scope="module")
def collected(corpus):
    return corpus.collect(10_000)


@pytest.fixture
def run_rag(tmp_path: Path):
    """Runs the example in a fresh interpreter where any use of a socket ends it."""
    (tmp_path / "sitecustomize.py").write_text(NO_NETWORK)

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(EXAMPLES / "rag.py"), *args],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
                "RUVECTOR_CACHE": str(tmp_path),
                "HF_HUB_CACHE": str(tmp_path),
                "PYTHONIOENCODING": "ascii",  # passages have more
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return run


def test_this_machine_gives_ten_thousand_distinct_passages(corpus, collected) -> None:
    passages, counts = collected
    texts = [passage.text for passage in passages]
    assert len(texts) == len(set(texts)) == sum(counts.values()) == 10_000
    lengths = [len(text.partition(": ")[2]) for text in texts]
    assert min(lengths) >= corpus.SHORTEST
    assert max(lengths) <= corpus.LONGEST + len(" ...")
    assert sum(lengths) / len(lengths) > 120


def test_passages_stand_in_the_files_they_name(collected) -> None:
    passages, _ = collected
    for passage in passages[:: len(passages) // 100]:
        lines = passage.file.read_text(encoding="utf-8").splitlines()
        assert 1 <= passage.line <= len(lines)
        words = re.findall(r"[a-z]{5,}", passage.text.partition(": ")[2])[:5]
        text = "\n".join(lines[passage.line - 1 :])
        assert all(word in text for word in words), passage


def test_collecting_twice_gives_the_same(corpus) -> None:
    assert corpus.collect(300) == corpus.collect(300)


@pytest.mark.extras
def test_collecting_everything_twice_gives_the_same(corpus, collected) -> None:
    assert corpus.collect(10_000) == collected


def test_long_text_is_cut_between_sentences(corpus) -> None:
    text = "This sentence is here to be long enough to count for something. " * 20
    got = list(corpus.chunks(text))
    assert len(got) > 3
    assert all(c.endswith(".") and corpus.SHORTEST <= len(c) <= corpus.LONGEST for c in got)
    assert list(corpus.chunks("Too short.")) == []
    assert list(corpus.chunks("0123456789 " * 20)) == []


def test_it_answers_and_names_what_it_used(run_rag, tmp_path: Path) -> None:
    need(*MINILM)
    index = tmp_path / "rag.rbpx"
    done = run_rag("--passages", "400", "--index", str(index), "What is an “assert” for?")
    assert done.returncode == 0, done.stderr
    out = done.stdout
    assert r"What is an \u201cassert\u201d for?" in out
    scores = [float(s) for s in re.findall(r"^  (\d\.\d{3})  ", out, re.MULTILINE)]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert re.search(r"^  0\.\d{3}  assert: ", out, re.MULTILINE)
    assert "3 of the exact best 3" in out
    assert "embedding 400 of 400" in done.stderr
    assert re.search(r"search: .* k=10, recall@10 (0\.99\d\d|1\.0000), ", out)
    assert re.search(r"memory: [\d,]+ bytes a vector", out)
    for path in (sys.executable, ruvector.__file__, "model.onnx", "tokenizer.json", "topics.py"):
        assert path in out
    assert str(index) in out
    assert len(ruvector.RabitqPlusIndex.load(index)) == 400


def test_the_five_lines_of_its_docstring_run(capsys) -> None:
    need(*MINILM)
    source = (EXAMPLES / "rag.py").read_text(encoding="utf-8")
    lines = re.search(r"^    embedder = .*?\n\n", source, re.MULTILINE | re.DOTALL).group()
    assert len(lines.split("\n")) == 5 + 2
    texts = ["Bread is baked from flour.", "A hash table maps keys to values.", "Rain fell."]
    code = "".join(line[4:] + "\n" for line in lines.splitlines())
    code = code.replace("your question", "Which data structure looks up a key?")
    exec(code, {"ruvector": ruvector, "texts": texts})
    first, *_ = capsys.readouterr().out.splitlines()
    score, _, text = first.partition(" ")
    assert text == texts[1]
    assert 0 < float(score) < 1


def test_interactive_needs_a_terminal(run_rag) -> None:
    done = run_rag("--interactive")
    assert done.returncode == 2
    assert "--interactive needs a terminal" in done.stderr


def test_too_few_passages_are_refused(run_rag) -> None:
    done = run_rag("--passages", "3")
    assert done.returncode == 2
    assert "--passages must be at least 10" in done.stderr
