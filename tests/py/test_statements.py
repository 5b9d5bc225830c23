"""Comments, messages and pages tell the truth about files and names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
C_FILES = sorted(
    p for folder in ("include", "src", "python/ext") for p in (ROOT / folder).rglob("*.[ch]")
)
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
LITERALS = re.compile(r'"(?:[^"\\\n]|\\.)*"(?:\s*(?:PRI\w+\s*)?"(?:[^"\\\n]|\\.)*")*')


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def flat(text: str) -> str:
    """A page or a comment as one line."""
    return " ".join(re.sub(r"(?m)^ \* ?", "", text).split())


# ---- files ----


def test_every_file_that_a_comment_names_is_there():
    known = {path.name for path in [*C_FILES, *(ROOT / "tests/c").glob("*.[ch]")]}
    named = re.compile(r"(?<![\w/.*<-])\w+\.[ch]\b")
    missing = {
        f"{path.relative_to(ROOT)} names {name}"
        for path in C_FILES
        for comment in COMMENT.findall(path.read_text())
        for name in named.findall(comment)
        if name not in known
    }
    assert missing == set()


def test_headers_that_list_the_files_of_their_room_list_them_all():
    listed = 0
    for path in C_FILES:
        names = (
            re.findall(r"(?m)^ \*   (\w+\.c)  ", path.read_text()) if path.suffix == ".h" else []
        )
        if names:
            listed += 1
            assert sorted(names) == sorted(p.name for p in path.parent.glob("*.c")), path
    assert listed


@pytest.mark.parametrize("package", ["a2a", "embed", "lake"])
def test_a_package_names_all_its_modules(package):
    folder = ROOT / "python/ruvector" / package
    told = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert modules - set(re.findall(r"`(\w+)`", told)) == set()


# What begins the declarations of some files: a heading that names them, or a comment that
# begins with one.
_HEADING = re.compile(r"/\* ---- (.*?) -*\s*(?:\n|\*/)")
_OPENING = re.compile(r"/\* (\w+\.c)(?:\b|:)")
_DECLARED = re.compile(
    r"(?m)^(?!static|typedef|#|extern)\w[\w *]*?\b(rv[a-z]*_\w+)\((?![^;{]*\{)[^;{]*\)[^;{]*;"
)


def declared_under(header: str):
    """Pairs of the files a place of a header names, and a function declared there."""
    marks = [(m.start(), re.findall(r"\w+\.c\b", m[1])) for m in _HEADING.finditer(header)]
    marks += [(m.start(), [m[1]]) for m in _OPENING.finditer(header)]
    marks.sort()
    for found in _DECLARED.finditer(header):
        before = [files for at, files in marks if at < found.start()]
        if before and before[-1]:
            yield before[-1], found[1]


def test_functions_are_where_headers_say():
    defined: dict[str, set[str]] = {}
    for path in C_FILES:
        if path.suffix == ".c":
            text = COMMENT.sub("", path.read_text())
            for name in re.findall(
                r"(?m)^(?!static)\w[\w *]*?\b(rv[a-z]*_\w+)\([^;{]*\)\s*\{", text
            ):
                defined.setdefault(name, set()).add(path.name)
    wrong, seen = [], 0
    for path in C_FILES:
        if path.suffix == ".h" and path.parts[-2] != "ruvector":
            for files, name in declared_under(path.read_text()):
                seen += 1
                if not defined.get(name, set()) & set(files):
                    wrong.append(f"{path.name}: {name} under {files}, is in {defined.get(name)}")
    assert wrong == []
    assert seen > 250


def test_pages_name_files_that_are_there():
    folders = "src|include|python|tests|bench|examples|tools|docs|fuzz"
    missing = {
        f"{path.name}: {name}"
        for path in PAGES
        for name in re.findall(rf"`((?:{folders})/[\w./*-]+)`", path.read_text())
        if not list(ROOT.glob(name.rstrip("/"))) and "build" not in name and "<" not in name
    }
    assert missing == set()


def test_the_architecture_page_opens_files_that_are_there():
    """In `src/index/a.c`, `b.c` the second is in the folder of the first, or of one before."""
    table = page("architecture.md").partition("| To change | Open |")[2].partition("\n\n")[0]
    missing = []
    for row in table.splitlines()[2:]:
        folders: list[str] = []
        for name in re.findall(r"`([\w./*]+)`", row.split("|")[2]):
            if "/" in name:
                folders[:0] = [name.rpartition("/")[0], name]
            places = (
                [name] if "/" in name else [f"{f}/{name}" for f in [*folders, "python/ruvector"]]
            )
            if not any(list(ROOT.glob(place)) for place in [*places, name]):
                missing.append(name)
    assert missing == []


def test_pages_give_no_line_numbers():
    numbered = re.compile(r"\.(?:c|h|py)(?:`? \d|:\d+)")
    assert [f"{p.name}: {m[0]}" for p in PAGES for m in numbered.finditer(p.read_text())] == []


def test_the_page_on_c_names_every_header():
    installed = set(re.findall(r"'include/(ruvector/\w+\.h)'", (ROOT / "meson.build").read_text()))
    headers = {f"ruvector/{p.name}" for p in (ROOT / "include/ruvector").glob("*.h")}
    text = page("c-api.md")
    words = ["no", "one", "two", "three", "four", "five", "six"]
    assert installed == headers == set(re.findall(r"\| \[`([^`]+)`\]", text))
    assert f"{words[len(headers)]} headers" in text


# ---- messages ----


def messages():
    """Text of each literal of the library, with what is printed between its parts left out."""
    for path in C_FILES:
        if "src" in path.relative_to(ROOT).parts[:1]:
            for literal in LITERALS.findall(COMMENT.sub("", path.read_text())):
                yield path.name, "".join(re.findall(r'"((?:[^"\\\n]|\\.)*)"', literal))


# lake.h says that these stand for a pull and for the backend of files.
PREFIXES = ("PulledBatch", "FsBackend")


def test_messages_of_the_library_fit_both_languages():
    classes = "FlatF32Index|RabitqIndex|RabitqPlusIndex|RabitqAsymIndex|LocalBackend|RuLake"
    python = re.compile(
        rf"\b(?:{classes}|\w+_from_dir|put_collection|\w+=(?:True|False|None))\b|::\w"
    )
    c = re.compile(r"\bRV_\w+|\buse_mmap\b")
    wrong = [(f, text) for f, text in messages() if python.search(text) and not c.search(text)]
    assert wrong == []
    headers = "".join(p.read_text() for p in (ROOT / "include").rglob("*.h"))
    for name in PREFIXES:
        assert f"call it {name}" in flat(headers)


def test_constants_in_messages_exist():
    headers = "".join(p.read_text() for p in (ROOT / "include").rglob("*.h"))
    elsewhere = {"NAME_MAX", "RUVECTOR_NUM_THREADS", "RUVECTOR_ISA"}  # of POSIX; our environment
    constants = {
        name for _, text in messages() for name in re.findall(r"\b[A-Z]{2,}(?:_[A-Z0-9]+)+\b", text)
    }
    assert {n for n in constants - elsewhere if not re.search(rf"\b{n}\b", headers)} == set()


def test_macros_in_comments_have_their_arguments():
    macros = {}
    for path in C_FILES:
        for name, arguments in re.findall(r"#define (RV\w+)\(([^)]*)\)", path.read_text()):
            macros[name] = len(arguments.split(","))
    wrong = []
    for path in C_FILES:
        for comment in COMMENT.findall(path.read_text()):
            for name, arguments in re.findall(r"\b(RV[A-Z_]+)\(([^()]+)\)", comment):
                if name in macros and len(arguments.split(",")) != macros[name]:
                    wrong.append(f"{path.name}: {name}({arguments})")
    assert wrong == []


# ---- decisions ----


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
