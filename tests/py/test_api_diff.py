"""What `make api-diff` calls a change of the C or the Python interface."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest
from installed import need

need("griffe")

TOOL = Path(__file__).parents[2] / "tools" / "api_diff.py"

HEADER = """
/* words; with a semicolon */
#ifndef H
#define H
#define RV_LIMIT(x) ((x) + \\
                     1u)
#ifdef __cplusplus
extern "C" {
#endif
typedef struct rv_thing rv_thing; /* opaque */
typedef enum rv_kind {
    RV_A = 0, /* first, of all */
    RV_B
} rv_kind;
typedef struct rv_options {
    size_t size;
    int (*call)(void *context, uint64_t n);
} rv_options;
RV_API rv_status rv_make(const rv_options *options,
                         rv_thing **out);
#ifdef __cplusplus
}
#endif
#endif
"""


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("api_diff", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules["api_diff"] = module
    spec.loader.exec_module(module)
    return module


def test_a_header_as_lines(tool) -> None:
    assert tool.listing(HEADER) == sorted(
        [
            "#define RV_LIMIT(x) ((x) + 1u)",
            "typedef struct rv_thing rv_thing",
            "typedef enum rv_kind rv_kind",
            "typedef enum rv_kind rv_kind [0] RV_A = 0",
            "typedef enum rv_kind rv_kind [1] RV_B",
            "typedef struct rv_options rv_options",
            "typedef struct rv_options rv_options [0] size_t size",
            "typedef struct rv_options rv_options [1] int (*call)(void *context, uint64_t n)",
            "RV_API rv_status rv_make(const rv_options *options, rv_thing **out)",
        ]
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    RV_B\n", ""),
        ("    RV_A = 0,", "    RV_NEW = 0, RV_A,"),
        ("    size_t size;\n", "    size_t size;\n    int more;\n"),
        ("rv_thing **out", "rv_thing *out"),
        ("1u", "2u"),
    ],
)
def test_changes_are_seen(tool, monkeypatch, old, new) -> None:
    assert old in HEADER
    monkeypatch.setattr(tool, "headers_at", lambda tag: tool.listing(HEADER))
    assert tool.c_differs("v1", tool.listing(HEADER.replace(old, new)))


def test_additions_are_none(tool, monkeypatch) -> None:
    monkeypatch.setattr(tool, "headers_at", lambda tag: tool.listing(HEADER))
    more = HEADER.replace("RV_B\n", "RV_B,\n    RV_C\n") + "RV_API void rv_more(void);\n"
    assert not tool.c_differs("v1", tool.listing(more))


def test_the_headers_of_this_tree(tool) -> None:
    names = tool.functions(tool.headers_now())
    text = "".join(path.read_text() for path in (TOOL.parents[1] / tool.HEADERS).glob("*.h"))
    assert {"rv_index_build", "rv_index_search", "rv_lake_warm"} <= names
    # all but the lines that define the macro
    assert len(names) == text.count("RV_API ") - text.count("define RV_API ")


# ---- Python -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "old", "new", "fault"),
    [
        ("_core.pyi", "def remove(", "def drop(", "FlatF32Index.remove: "),
        ("_core.pyi", "def vacuum(self)", "def vacuum(self, now: bool)", "_Index.vacuum: "),
        ("errors.py", "class NoVectors(", "class NoRows(", "NoVectors: "),
        ("a2a/policy.py", "class GlobalBudget", "class Budget", "GlobalBudget: "),
        ("__init__.py", "    RabitqAsymIndex,\n", "", "RabitqAsymIndex: "),
        ("cli/report.py", "def positive(", "def above_zero(", None),
        ("embed/registry.py", "import", "no_longer = 1\nimport", None),
    ],
)
def test_a_change_of_a_public_name_is_seen(tool, tmp_path, file, old, new, fault) -> None:
    now = TOOL.parents[1] / "python"
    shutil.copytree(now / "ruvector", tmp_path / "ruvector")
    path = tmp_path / "ruvector" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    faults = tool.python_faults(tool.package_in(now), tool.package_in(tmp_path))
    assert bool(faults) == bool(fault)
    assert not fault or any(fault in line for line in faults)
