"""What comments and pages say of the source, where a program can tell that it is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*.md"))]
FILE_TABLE = re.compile(r"^ \*   ([a-z_0-9]+\.c)  ", re.MULTILINE)


def test_headers_that_list_the_files_of_their_room_list_them_all():
    listed = 0
    for header in sorted((ROOT / "src").rglob("*.h")):
        names = FILE_TABLE.findall(header.read_text())
        if names:
            listed += 1
            assert sorted(names) == sorted(p.name for p in header.parent.glob("*.c")), header
    assert listed


def test_the_page_of_the_c_library_names_every_header():
    installed = sorted(path.name for path in (ROOT / "include" / "ruvector").glob("*.h"))
    build = (ROOT / "meson.build").read_text()
    assert sorted(re.findall(r"'include/ruvector/(\w+\.h)'", build)) == installed
    page = (ROOT / "docs" / "c-api.md").read_text()
    assert sorted(set(re.findall(r"^\| \[`ruvector/(\w+\.h)`", page, re.MULTILINE))) == installed
    count = ["no", "one", "two", "three", "four", "five"][len(installed)]
    assert f"{count} headers" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_gives_lines_of_the_source(page):
    # `file.c` 12-34, file.c:12: the next change makes them wrong
    found = re.findall(r"\b\w+\.(?:c|h|py)(?::|`? )\d+(?![\w.])", page.read_text())
    assert found == []


def test_every_decision_is_listed_with_its_date_and_status():
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(
        r"^\| (\d{4}-\d\d-\d\d) \| \[(.+)\]\((.+\.md)\) \|$",
        (folder / "README.md").read_text(),
        re.MULTILINE,
    )
    assert [date for date, _, _ in listed] == sorted((d for d, _, _ in listed), reverse=True)
    files = {path.name for path in folder.glob("*.md")} - {"README.md"}
    assert sorted(name for _, _, name in listed) == sorted(files)
    for date, question, name in listed:
        title, blank, status, *_ = (folder / name).read_text().splitlines()
        assert (title, blank) == (f"# {question}", ""), name
        assert name.startswith(date), name
        assert re.fullmatch(rf"\*{date} · holds( · supersedes \".+\" of [\d-]+)?\*", status), name


def test_the_size_of_batches_that_are_screened():
    (queries,) = re.findall(
        r"#define SCREEN_QUERIES (\d+)u", (ROOT / "src" / "index" / "flat.c").read_text()
    )
    said = "\n".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    assert f"From {queries} queries on, on processors with AVX-512 VNNI" in said
