"""The Python code in README.md and docs/ runs, and prints what stands below it.

Blocks of one file share their names, top to bottom, in an empty folder. A `text` block
right after a `python` block is its output; `...` stands for anything. Blocks of another
kind run apart from the others: `python demo` needs a text model, and runs only where one
is installed; `python image` needs the image model, of which the tests make one; `python
agent` talks to examples/agent.py, which the tests start on a free port; `python user` must
not be run as the administrator, to whom nothing is denied.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import mobilenet_reference
import numpy as np
import pytest
import ruvector
from installed import MINILM, need

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
KINDS = ("", "agent", "demo", "image", "user")
FENCE = re.compile(r"^```(?P<info>.*)\n(?P<text>(?:.*\n)*?)```$", re.MULTILINE)


class Block(NamedTuple):
    line: int  # of its first line of code
    code: str
    output: str | None
    kind: str  # one of KINDS


def find_blocks(text):
    fences = list(FENCE.finditer(text))
    blocks = []
    for fence, following in zip(fences, [*fences[1:], None]):
        words = fence["info"].split()
        if words[:1] != ["python"]:
            continue
        kind = "".join(words[1:])
        assert kind in KINDS, f"unknown fence {fence['info']!r}"
        output = None
        if following and following["info"] == "text":
            between = text[fence.end() : following.start()]
            output = None if between.strip() else following["text"]
        line = text.count("\n", 0, fence.start("text")) + 1
        blocks.append(Block(line, fence["text"], output, kind))
    return blocks


def run(path, blocks, **given):
    names = {"__name__": "__main__", **given}
    for block in blocks:
        printed = io.StringIO()
        padding = "\n" * (block.line - 1)  # so that tracebacks show lines of the document
        with contextlib.redirect_stdout(printed):
            exec(compile(padding + block.code, str(path), "exec"), names)
        if block.output is None:
            continue
        matches = doctest.OutputChecker().check_output(
            block.output, printed.getvalue(), doctest.ELLIPSIS
        )
        assert matches, f"{path.name}:{block.line} printed\n{printed.getvalue()}"


def with_blocks(kind):
    found = {path: [b for b in find_blocks(path.read_text()) if b.kind == kind] for path in FILES}
    return [pytest.param(path, b, id=name_of(path)) for path, b in found.items() if b]


def name_of(path):
    return path.relative_to(ROOT).as_posix().replace("docs/", "")


@pytest.mark.parametrize(("path", "blocks"), with_blocks(""))
def test_blocks(path, blocks, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(path, blocks)


@pytest.mark.parametrize(("path", "blocks"), with_blocks("demo"))
def test_demo_blocks(path, blocks, tmp_path, monkeypatch):
    need(*MINILM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    run(path, blocks)


@pytest.mark.parametrize(("path", "blocks"), with_blocks("agent"))
def test_agent_blocks(path, blocks):
    example = ROOT / "examples" / "agent.py"
    told = "http://127.0.0.1:" + re.findall(r"^PORT = (\d+)$", example.read_text(), re.MULTILINE)[0]
    command = [sys.executable, str(example), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as agent:
        try:
            address = agent.stdout.readline().strip()
            ours = [block._replace(code=block.code.replace(told, address)) for block in blocks]
            assert ours != blocks
            run(path, ours)
        finally:
            agent.terminate()


@pytest.mark.parametrize(("path", "blocks"), with_blocks("image"))
def test_image_blocks(path, blocks, tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    folder = tmp_path / "cache" / "mobilenetv3-small"
    folder.mkdir(parents=True)
    mobilenet_reference.save(mobilenet_reference.state_dict(), folder / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUVECTOR_CACHE", str(tmp_path / "cache"))
    run(path, blocks)


@pytest.fixture
def as_user(tmp_path, monkeypatch):
    """The rights of somebody who is not the administrator, in a folder of theirs."""
    monkeypatch.chdir(tmp_path)
    if os.name != "posix":
        pytest.skip("Windows has other permissions")
    if os.geteuid() != 0:
        yield
        return
    tmp_path.chmod(0o777)
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.mark.parametrize(("path", "blocks"), with_blocks("user"))
def test_blocks_of_a_user(path, blocks, as_user):
    run(path, blocks)


@pytest.mark.parametrize("file", ["README.md", "docs/indexes.md"])
def test_memory_of_the_class_table(file):
    table = (ROOT / file).read_text().partition("Which index?")[2]
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|[^|]*\| ([\d or]+) \|", table, re.MULTILINE)
    vectors = np.random.default_rng(0).random((6400, 384), dtype=np.float32)
    assert len(rows) == 3
    for name, told in rows:
        index = getattr(ruvector, name).build(vectors)
        index.search(vectors[0])
        usage = index.memory_usage()
        used = sum(usage[part] for part in ("codes", "ids", "vectors", "blocks"))
        # blocks of 64 rows: the last of each list is seldom full
        spare = 64 / 6400 * getattr(index, "n_lists", 0) * 80
        assert any(-1 < used / 6400 - int(n) < 1 + spare for n in told.split(" or "))


def test_the_output_is_compared():
    text = "```python\nprint(1 + 1, 'of', 7)\n```\n\n```text\n{} of ...\n```\n"
    right, wrong = (find_blocks(text.format(n)) for n in (2, 3))
    assert right[0].line == 2
    run(Path("right.md"), right)
    with pytest.raises(AssertionError, match=r"wrong\.md:2 printed"):
        run(Path("wrong.md"), wrong)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_links_lead_somewhere(path):
    prose = FENCE.sub("", path.read_text())
    targets = re.findall(r"\]\(([^)\s#]+)[^)]*\)", prose)
    gone = [t for t in targets if "://" not in t and not (path.parent / t).exists()]
    assert not gone
