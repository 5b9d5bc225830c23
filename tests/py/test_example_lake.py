"""The examples with a lake run, and show what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def run():
    def run(name: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, str(EXAMPLES / name), *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_a_warm_restart(run, tmp_path):
    for _ in range(2):  # the folder of the first run serves the second
        out = run("lake_warm_restart.py", str(tmp_path))
        assert "indexes built: 0\n" in out
        assert "the same answers to the bit: True\n" in out
        assert "id 7 found at distance 0.0; built again: 1\n" in out
    assert sorted(os.listdir(tmp_path / "snapshot")) == ["index.rbpx", "table.rulake.json"]


def test_two_sources(run):
    out = run("lake_two_sources.py")
    assert re.search(r"archive/notes 11\n.*today/notes 4\n", out)
    assert re.search(r"after a note was added\n +0\.000  today/notes 9000\n", out)
    assert "3 indexes built" in out
    verdicts = re.findall(r"(?:checks it|more change|edited it): (\w+)", out)
    assert verdicts == ["UP_TO_DATE", "INVALIDATED", "refused"]
