"""Installs the libraries to compare with into the running environment, one by one: one
that has no wheel for this machine is noted with its reason and stops nothing.

    .venv-bench/bin/python -m bench.install
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

PEERS = (
    "faiss-cpu>=1.15",
    "hnswlib>=0.8",
    "usearch>=2.26",
    "rabitqlib>=0.7",
    "scalable-vs>=0.5",
    "scann>=1.4",
    "turbovec>=1.1",
)


def install(requirement: str) -> str | None:
    """None, or why it could not be installed. NumPy stays at its version, so that no
    library breaks another."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    held = f"numpy=={metadata.version('numpy')}"
    # hnswlib has no wheels: it is compiled, for this very processor.
    wheel = [] if requirement.startswith("hnswlib") else ["--only-binary=:all:"]
    done = subprocess.run(
        [*pip, *wheel, held, requirement], capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return None
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
    return (errors or done.stderr.splitlines() or ["pip failed"])[-1].removeprefix("ERROR: ")


def main() -> None:
    missing = {}
    for requirement in PEERS:
        name = requirement.split(">=")[0]
        reason = install(requirement)
        print(f"  {name}: {reason or 'installed ' + metadata.version(name)}", flush=True)
        if reason:
            missing[name] = reason
    Path(sys.prefix, "bench-missing.json").write_text(json.dumps(missing, indent=1) + "\n")


if __name__ == "__main__":
    main()
