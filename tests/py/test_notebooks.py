"""The notebooks of docs/notebooks run, and print what is stored in them.

A cell without stored outputs may print anything: times, passages of the Python at hand. Pictures
are not stored.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
from installed import MINILM, need

need("nbclient", "ipykernel")

import nbformat  # noqa: E402
from nbclient import NotebookClient  # noqa: E402

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
NEEDS = {
    "agents.ipynb": ("cryptography",),
    "rag.ipynb": MINILM,
    "text_search.ipynb": (*MINILM, "matplotlib"),
    "warm_restart.ipynb": (),
}
LARGEST = 20_000  # bytes: small enough to read a change of it


def test_no_notebook_is_left_out():
    assert {path.name for path in FOLDER.glob("*.ipynb")} == set(NEEDS)


def printed(cell):
    return "".join(o["text"] for o in cell.get("outputs", ()) if o["output_type"] == "stream")


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_notebook(name, monkeypatch):
    need(*NEEDS[name])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    stored = nbformat.read(FOLDER / name, as_version=4)
    run = copy.deepcopy(stored)
    NotebookClient(
        run, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    ).execute()
    for before, after in zip(stored.cells, run.cells):
        if before.cell_type == "code" and printed(before):
            assert printed(after) == printed(before), before.source


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_what_is_stored_is_small(name):
    path = FOLDER / name
    assert path.stat().st_size < LARGEST
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.execution_count is None
            assert {output.output_type for output in cell.outputs} <= {"stream"}


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_links_of_a_notebook(name):
    notebook = nbformat.read(FOLDER / name, as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)\s#]+)", text)
    assert not [link for link in links if "://" not in link and not (FOLDER / link).exists()]
