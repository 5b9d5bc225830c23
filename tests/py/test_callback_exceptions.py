"""What a callback raises comes out of the call that was made, whatever it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import exception_cases
import pytest


@pytest.mark.parametrize("part", exception_cases.PARTS)
def test_every_exception_comes_out_and_leaves_nothing_behind(part):
    result = subprocess.run(
        [sys.executable, exception_cases.__file__, part],
        cwd=Path(exception_cases.__file__).parent,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
