"""What the documentation promises of itself: every error is shown, every link leads somewhere,
what C code it has compiles, and the C reference has all of the headers."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
import ruvector
from ruvector import errors
from test_readme import FENCE, FILES, name_of

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

sys.path.insert(0, str(ROOT / "tools"))
import c_reference  # noqa: E402

# Caught, never raised themselves.
ABSTRACT = {"RuVectorError", "IndexError"}


# ---- errors -------------------------------------------------------------------------


def error_classes():
    return [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, Exception)]


def tables(page):
    """The names in the first cell, and the other cells, of every row of every table."""
    rows = re.findall(r"^\|( `.*)\|$", page, re.MULTILINE)
    cells = [[cell.strip() for cell in row.split("|")] for row in rows]
    return [(re.findall(r"`(\w+)`", first), rest) for first, *rest in cells]


def test_every_error_is_raised_by_the_code_of_its_page():
    page = (DOCS / "errors.md").read_text()
    printed = "".join(fence["text"] for fence in FENCE.finditer(page) if fence["info"] == "text")
    raised = set(re.findall(r"^(\w+): ", printed, re.MULTILINE))
    assert {cls.__name__ for cls in error_classes()} - ABSTRACT <= raised
    assert all(f"{name} caught" in printed for name in ABSTRACT)


def test_every_error_has_a_row_that_says_what_to_do():
    rows = tables((DOCS / "errors.md").read_text())
    told = {name for names, rest in rows if len(rest) == 2 for name in names}
    assert told >= {cls.__name__ for cls in error_classes()} - {*ABSTRACT}


def test_the_tree_of_errors_is_true():
    rows = tables((DOCS / "errors.md").read_text())
    shown = {names[0]: rest for names, rest in rows if len(rest) == 3}
    assert set(shown) == {cls.__name__ for cls in error_classes()}
    for name, (below, builtin, facts) in shown.items():
        cls = getattr(ruvector, name)
        parents = {base.__name__ for base in cls.__bases__ if base.__module__ == errors.__name__}
        assert parents - {"_OSFacts"} == set(re.findall(r"`(\w+)`", below))
        for other in re.findall(r"`(\w+)`", builtin):
            assert issubclass(cls, __builtins__[other])
        for fact in re.findall(r"`(\w+)`", facts):
            assert hasattr(cls, fact)


# ---- links --------------------------------------------------------------------------


def slug(heading):
    """The anchor that GitHub and mkdocs make of a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)|`", r"\1", heading).strip().lower()
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", text))


def anchors(markdown):
    return {slug(h) for h in re.findall(r"^#+ (.*)$", FENCE.sub("", markdown), re.MULTILINE)}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_anchors_exist(path):
    prose = FENCE.sub("", path.read_text())
    for file, anchor in re.findall(r"\]\(([^)\s#:]*)#([^)\s]+)\)", prose):
        target = (path.parent / unquote(file)).resolve() if file else path
        assert anchor in anchors(target.read_text()), f"{file}#{anchor}"


def test_llms_txt():
    text = (DOCS / "llms.txt").read_text()
    assert re.match(r"# ruvector\n\n> .+\n\n[^#\n].+\n\n## ", text)
    links = re.findall(r"^- \[[^\]]+\]\(([^)]+)\): .+$", text, re.MULTILINE)
    listed = [line for line in text.splitlines() if line.startswith("- ")]
    assert len(links) == len(listed) > 20
    assert not [link for link in links if not (DOCS / link).exists()]
    pages = {path.name for path in DOCS.glob("*.md")}
    # of those who change the code, or write a file of their own
    assert pages - {"architecture.md", "cli.md"} <= set(links)


# ---- C ------------------------------------------------------------------------------

INSIDE = """#include <stdio.h>
#include <ruvector/index.h>
int body(const float *vectors, const float *query, uint64_t n);
int body(const float *vectors, const float *query, uint64_t n) {
%s
    return 0;
}
"""


C_BLOCKS = [
    pytest.param(fence["text"], id=name_of(path))
    for path in FILES
    for fence in FENCE.finditer(path.read_text())
    if fence["info"] == "c"
]


@pytest.mark.parametrize("block", C_BLOCKS)
def test_c_blocks_compile(block, tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    body = re.sub(r"^#include .*\n", "", block, flags=re.MULTILINE)
    source = tmp_path / "block.c"
    source.write_text(block if "int main" in block else INSIDE % body)
    flags = "-std=c11 -Wall -Wextra -Werror -fsyntax-only -I"
    command = [compiler, *shlex.split(flags), str(ROOT / "include"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_c_reference_has_every_declaration():
    page = c_reference.render(ROOT / "include/ruvector")
    headings = " ".join(re.findall(r"^### (.*)$", page, re.MULTILINE))
    code = "".join(fence["text"] for fence in FENCE.finditer(page) if fence["info"] == "c")
    for name in c_reference.HEADERS:
        header = (ROOT / "include/ruvector" / name).read_text()
        header = re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL)
        functions = set(re.findall(r"^RV_API [^(;]*?\b(\w+)\(", header, re.MULTILINE))
        assert functions
        assert {f for f in functions if f"`{f}`" not in headings} == set()
        types = set(re.findall(r"^\} (\w+);", header, re.MULTILINE))
        assert {t for t in types if t not in code} == set()
    assert "__cplusplus" not in page
    assert "RV_API" not in page


# ---- Python -------------------------------------------------------------------------


def test_the_python_reference_names_everything_public():
    page = (DOCS / "reference.md").read_text()
    named = set(re.findall(r"^::: ruvector\.(\w+)$", page, re.MULTILINE))
    shown_elsewhere = {*errors.__all__, "__version__"}
    assert named == set(ruvector.__all__) - shown_elsewhere | {"a2a"}
