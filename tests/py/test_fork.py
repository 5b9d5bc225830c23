"""Children of a process whose threads search, change and await: each answers right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import fork_cases
import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.mark.parametrize("case", [case.__name__ for case in fork_cases.CASES])
def test_no_child_hangs_and_all_answer_right(case):
    result = subprocess.run(
        [sys.executable, fork_cases.__file__, case],
        cwd=Path(fork_cases.__file__).parent,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    ends = json.loads(result.stdout)
    assert set(ends) == {"right"}, f"{ends}\n{result.stderr}"
