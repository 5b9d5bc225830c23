"""Fixtures for every test of the package."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import ruvector
from a2a_peers.matrix import peer, servers  # noqa: F401
from hypothesis import HealthCheck, settings
from oracle import CLASSES

settings.register_profile(
    "repeatable",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("repeatable")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240501)


@pytest.fixture(params=CLASSES, ids=lambda cls: cls.__name__)
def cls(request: pytest.FixtureRequest) -> type:
    """Each of the four index classes."""
    return request.param


@pytest.fixture(autouse=True)
def default_threads():
    """No test leaves another number of threads behind."""
    yield
    ruvector.set_num_threads(0)


@pytest.fixture
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs code in a fresh interpreter that finds the same package."""

    def run(code: str, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *args],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **env},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return run
