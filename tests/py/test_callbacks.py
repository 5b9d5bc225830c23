"""Calls made from inside calls: each cell of the tables in docs/threading.md, and no hang."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from callback_cells import COLUMNS

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs" / "threading.md"

# the heading in the docs of each column of the cells
HEADINGS = {
    "free": "`build`, `search_batch`, `tune`",
    "writing": "`add_batch`, `upsert`",
    "asked": "an adapter's method; `progress` while loading",
    "searching": "`progress` while searching",
}


def promised():
    """{heading: {call: outcome}} of all tables whose first column is "Call"."""
    columns: dict[str, dict[str, str]] = {}
    headings: list[str] = []
    for line in DOCS.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not line.startswith("|"):
            headings = []
        elif cells[0] == "Call":
            headings = cells[1:]
        elif headings and not line.startswith("|--"):
            for heading, cell in zip(headings, cells[1:]):
                columns.setdefault(heading, {})[cells[0]] = cell.replace("`", "")
    return columns


def run(column, situation):
    result = subprocess.run(
        [sys.executable, HERE / "callback_cells.py", column, situation],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, f"{column}, {situation}:\n{result.stderr}"
    return json.loads(result.stdout)


def test_every_column_of_the_docs_is_tried():
    assert set(promised()) == set(HEADINGS.values())
    assert set(HEADINGS) == set(COLUMNS)


@pytest.mark.parametrize(
    ("column", "situation"),
    [(column, situation) for column, all in COLUMNS.items() for situation in all],
)
def test_calls_from_inside_a_call_do_what_the_table_says(column, situation):
    assert run(column, situation) == promised()[HEADINGS[column]]


CROSSED = """
import faulthandler, threading
import numpy as np, ruvector

faulthandler.dump_traceback_later(60, exit=True)
rows = np.random.default_rng(0).standard_normal((3000, 8), dtype=np.float32)
one, two = (ruvector.RabitqPlusIndex.build(rows) for _ in range(2))
both = threading.Barrier(2)
refused = []

def change(mine, other):
    def progress(done, total):
        if done < total:
            return
        both.wait()  # now each holds what the other is about to ask for
        try:
            other.add(None, rows[0])
        except ValueError as error:
            refused.append(str(error))
    mine.add_batch(rows, progress=progress)

threads = [threading.Thread(target=change, args=pair) for pair in ((one, two), (two, one))]
for t in threads: t.start()
for t in threads: t.join()
print(len(refused), "never end" in refused[0], sorted((len(one), len(two))))
"""


def test_writers_that_change_each_others_index_are_found_out(run_python):
    result = run_python(CROSSED)
    assert result.stdout == "1 True [6000, 6001]\n", result.stderr
