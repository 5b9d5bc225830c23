"""The frame of a result file, with the machine it was measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np


def result(rounds: int) -> dict[str, Any]:
    """What every result file has; the lists are filled by whoever measures."""
    return {
        "machine": machine(),
        "rounds": rounds,
        "missing": {},
        "reference": [],
        "records": [],
        "aspects": [],
        "gate": [],
    }


def machine() -> dict[str, Any]:
    import ruvector

    model = platform.processor()
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((x.split(": ")[1] for x in lines if x.startswith("model name")), model)
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "ruvector": ruvector.__version__,
        "instruction_set": ruvector.cpu_features()["active"],
    }
