"""What importing the package does and does not do, and what it offers."""

from __future__ import annotations

import builtins
import importlib.metadata
import platform
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import ruvector

WITHOUT_SOCKETS = """
import sys
import numpy
before = set(sys.modules)
import socket
class Refused:
    def __init__(self, *args, **kwargs):
        raise AssertionError("a socket was opened")
socket.socket = socket.create_connection = socket.getaddrinfo = Refused
import ruvector
idx = ruvector.RabitqPlusIndex.build([[1.0, 2.0], [3.0, 4.0]])
assert idx.search([1.0, 2.0], k=1)[0].id == 0
print(*sorted(set(sys.modules) - before - {"socket"}))
"""
HEAVY = {
    *("asyncio", "ssl", "http", "urllib.request", "requests", "httpx", "httpx2"),
    *("onnxruntime", "tokenizers", "huggingface_hub", "cryptography", "json"),
    *("dataclasses", "multiprocessing", "concurrent.futures"),
    *("ruvector.a2a", "ruvector.embed", "ruvector.lake", "ruvector._recommend"),
}


def test_importing_opens_no_socket_and_loads_little(run_python):
    result = run_python(WITHOUT_SOCKETS)
    assert result.returncode == 0, result.stderr
    loaded = result.stdout.split()
    assert "ruvector._core" in loaded
    assert not set(loaded) & HEAVY


def test_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+([.\-+]\w+)*", ruvector.__version__)
    try:
        installed = importlib.metadata.version("ruvector")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("not installed as a package")
    assert ruvector.__version__ == installed


def test_star_import_leaves_the_built_in_index_error_alone():
    names = {}
    exec("from ruvector import *", names)
    assert "IndexError" not in names
    assert eval("IndexError", names) is builtins.IndexError
    assert names["RabitqPlusIndex"] is ruvector.RabitqPlusIndex


def test_everything_announced_is_there():
    assert len(set(ruvector.__all__)) == len(ruvector.__all__)
    for name in ruvector.__all__:
        assert getattr(ruvector, name) is not None
    assert set(ruvector.__all__) <= set(dir(ruvector))


def test_names_that_are_not_there():
    with pytest.raises(AttributeError, match="no_such_name"):
        ruvector.no_such_name  # noqa: B018


def test_the_embedder_is_imported_when_asked_for(run_python):
    code = (
        "import sys, ruvector; before = 'ruvector.embed' in sys.modules; "
        "print(before, ruvector.Embedder.__name__, 'ruvector.embed' in sys.modules)"
    )
    result = run_python(code)
    assert result.stdout == "False Embedder True\n", result.stderr


def test_loading_the_extension_twice_gives_separate_types(run_python):
    code = """
import importlib.util, sys
import numpy as np, ruvector
spec = importlib.util.find_spec("ruvector._core")
other = importlib.util.module_from_spec(spec)
spec.loader.exec_module(other)
idx = other.RabitqPlusIndex.build(np.eye(3, dtype=np.float32))
print(other.RabitqPlusIndex is ruvector.RabitqPlusIndex, idx.search([1, 0, 0], k=1)[0].id)
del other, idx, sys.modules["ruvector._core"]
import gc; gc.collect()
print(ruvector.FlatF32Index.build([[1.0]]))
"""
    result = run_python(code)
    assert result.stdout.startswith("False 0\nFlatF32Index(n=1, "), result.stderr


@pytest.mark.parametrize("other", [sys, np, None], ids=["sys", "numpy", "None"])
def test_a_class_takes_no_other_module_for_its_own(other, monkeypatch):
    monkeypatch.setattr(ruvector.FlatF32Index, "_module", other)
    with pytest.raises(TypeError, match="FlatF32Index'> has lost its module"):
        ruvector.FlatF32Index.build([[1.0]])


# ---- cpu_features ----------------------------------------------------------------


def test_cpu_features():
    features = ruvector.cpu_features()
    assert set(features) == {"active", "available", "threads"}
    assert features["active"] in features["available"]
    assert features["available"][-1] == "scalar"
    assert features["threads"] == ruvector.get_num_threads()


# What the kernel lists is what the processor has and the system saves.
SETS = {
    "avx512vbmi": {"avx512vbmi", "avx512_vnni"},
    "avx512": {"avx512f", "avx512bw", "avx512vl", "avx512dq"},
    "avx2": {"avx2", "fma", "f16c"},
}


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="reads /proc/cpuinfo"
)
def test_the_instruction_sets_are_those_the_kernel_lists():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = set(next(line for line in lines if line.startswith("flags")).split())
    wanted = [name for name, needed in SETS.items() if needed <= flags]
    assert ruvector.cpu_features()["available"] == [*wanted, "scalar"]


# ---- AnyIndex --------------------------------------------------------------------


def test_every_class_is_an_any_index(cls):
    idx = cls.build(np.eye(3, dtype=np.float32))
    assert isinstance(idx, ruvector.AnyIndex)
    for thing in (3, [], np.eye(3), {}, cls.build, None):
        assert not isinstance(thing, ruvector.AnyIndex)
