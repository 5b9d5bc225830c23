"""Runs bench/native.c, which `make bench` compiles."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from . import datasets

PROGRAM = Path(
    os.environ.get("RUVECTOR_BENCH_NATIVE") or datasets.ROOT / "build" / "bench" / "native"
)


class Unavailable(RuntimeError):
    """The program is not there or does not run."""


def measure(megabytes: int, dims: list[int]) -> dict[str, Any]:
    """{"read_gb_per_second": .., "calls": [{"index", "dim", "ns"}]}, on one thread."""
    command = [str(PROGRAM), str(megabytes), *map(str, dims)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except OSError as missing:
        raise Unavailable(f"{PROGRAM} is made by `make bench`: {missing}") from missing
    except subprocess.CalledProcessError as failure:
        raise Unavailable(f"{PROGRAM}: {failure.stderr.strip() or failure}") from failure
    return json.loads(done.stdout)
