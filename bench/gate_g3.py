"""How long does `pip install` of the wheel take, in an environment that has nothing yet?

    python -m bench.gate_g3 [WHEEL] [--rounds 3] [--out FILE]

Each round makes a virtual environment, then times pip: once with what the wheel needs,
that is NumPy from wherever this machine's pip gets packages and without its cache, and
once the wheel alone. The import that follows is timed as well.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from . import datasets, report
from . import index as bench_index
from .machine import result as new_result

LIMIT_SECONDS = 10.0
WHEELS = datasets.ROOT / "build" / "dist"
IMPORT = "import ruvector; ruvector.FlatF32Index.build([[1.0]])"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gate_g3", description=__doc__)
    add = parser.add_argument
    add("wheel", type=Path, nargs="?", help="default: the one in build/dist (make wheel)")
    add("--rounds", type=int, default=3)
    add("--out", type=Path, default=bench_index.OUT / "g3.json")
    options = parser.parse_args(arguments)
    wheel = options.wheel or next(iter(sorted(WHEELS.glob("*.whl"))), None)
    if wheel is None or not wheel.is_file():
        parser.error(f"no wheel at {options.wheel or WHEELS}: make wheel")
    rounds = [_install(wheel) for _ in range(options.rounds)]
    seconds = {name: median(r[name] for r in rounds) for name in rounds[0]}
    result = new_result(options.rounds)
    result["gate"].append(
        {
            "table": f"gate: pip install {wheel.name}",
            "wheel bytes": wheel.stat().st_size,
            **seconds,
            "asked": f"with NumPy < {LIMIT_SECONDS:g} s",
            "reached": seconds["s with NumPy"] < LIMIT_SECONDS,
        }
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(report.text(result))
    print(f"\nwritten: {options.out}")


def _install(wheel: Path) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = str(Path(folder, "Scripts" if sys.platform == "win32" else "bin", "python"))
        pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        install = [*pip, "install", "--no-cache-dir"]
        times: dict[str, Any] = {"s with NumPy": _timed([*install, str(wheel)])}
        subprocess.run([*pip, "uninstall", "--yes", "ruvector"], check=True)
        times["s alone"] = _timed([*install, "--no-deps", str(wheel)])
        times["s of the first import"] = _timed([python, "-c", IMPORT])
        return times


def _timed(command: list[str]) -> float:
    start = perf_counter()
    subprocess.run(command, check=True)
    return perf_counter() - start


if __name__ == "__main__":
    main()
