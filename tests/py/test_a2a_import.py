"""What importing does and does not do, and what is said where a package is missing."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
import ruvector

NAMES = ["A2aClient", "AgentCard", "Task", "TaskPolicy", "TaskSpec", "TaskUpdate"]
THIRD_PARTY = {"httpx", "httpx2", "anyio", "cryptography", "h11"}


@pytest.mark.parametrize("name", NAMES)
def test_names_come_when_asked_for(name, run_python):
    code = (
        "import sys, ruvector; before = 'ruvector.a2a' in sys.modules; "
        f"print(before, ruvector.{name}.__name__, 'ruvector.a2a' in sys.modules)"
    )
    result = run_python(code)
    assert result.stdout == f"False {name} True\n", result.stderr
    assert name in ruvector.__all__


def test_importing_loads_no_other_package(run_python):
    result = run_python("import sys, ruvector.a2a; print(*sys.modules)")
    assert result.returncode == 0, result.stderr
    assert not {name.partition(".")[0] for name in result.stdout.split()} & THIRD_PARTY


MISSING = """
import asyncio, sys
for name in sys.argv[1].split():
    sys.modules[name] = None
from ruvector.a2a import A2aClient, Bearer, TaskSpec
TaskSpec("skill", "values need no other package")
try:
    asyncio.run(A2aClient.connect("http://127.0.0.1:9"))
except ImportError as why:
    print(why, why.name)
"""


@pytest.mark.parametrize("missing", ["httpx2 httpx", "cryptography", "anyio"])
def test_a_missing_package_says_what_to_install(missing, run_python):
    result = run_python(MISSING, missing)
    assert 'pip install "anyio>=4" "cryptography>=42" "httpx' in result.stdout, result.stderr
    assert result.stdout.split()[-1] == missing.split()[-1]


def test_everything_announced_is_there():
    from ruvector import a2a

    assert all(hasattr(a2a, name) for name in a2a.__all__)
    assert a2a.__all__ == sorted(a2a.__all__)


def test_it_adds_little_to_the_wheel():
    folder = Path(ruvector.__file__).parent
    files = [*folder.glob("a2a/*.py"), folder / "cli" / "a2a.py"]
    assert len(files) > 20
    assert sum(len(zlib.compress(file.read_bytes())) for file in files) < 150_000
