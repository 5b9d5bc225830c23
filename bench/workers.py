"""The parent's end of the worker processes, one for every index."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

from . import datasets, indexes
from .peers import RustSdk


class Failed(RuntimeError):
    """An index cannot be had, built or asked; the reason is the message."""


class Index:
    """One index, in a process that ends with it."""

    def __init__(self, name: str, folder: str, threads: int) -> None:
        """Builds it from the arrays in `folder`."""
        self.name = name
        self.alive = True
        self._kind = indexes.kind(name)
        self._threads = threads
        self._processes: list[subprocess.Popen] = []
        python = _rust_sdk_python() if name == indexes.RUST_SDK else sys.executable
        # Where only the environment sets the threads, each number needs a process.
        variable = self._kind.thread_variable
        for count in (1, threads) if variable else (threads,):
            environment = {**os.environ, variable: str(count)} if variable else None
            self._processes.append(
                subprocess.Popen(
                    [python, "-m", "bench.worker", name],
                    cwd=datasets.ROOT,
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=None if "RUVECTOR_BENCH_VERBOSE" in os.environ else subprocess.DEVNULL,
                    text=True,
                )
            )
        facts = [self._ask(i, "build", folder=folder, threads=threads) for i in self._both()]
        self.facts: dict[str, Any] = facts[-1]

    def ask(self, command: str, **arguments: Any) -> Any:
        """The worker's answer, on one thread."""
        return self._ask(0, command, **arguments)

    def batch(self, threads: int, **arguments: Any) -> dict[str, Any]:
        process = 0 if threads == 1 else len(self._processes) - 1
        return self._ask(process, "batch", threads=threads, **arguments)

    def stop(self) -> None:
        self.alive = False
        for process in self._processes:
            process.stdin.close()
            process.stdout.close()
            process.wait()

    def _both(self) -> range:
        return range(len(self._processes))

    def _ask(self, i: int, command: str, **arguments: Any) -> Any:
        process = self._processes[i]
        try:
            process.stdin.write(json.dumps([command, arguments]) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer = json.loads(line) if line else {"error": f"its process ended ({process.wait()})"}
        if isinstance(answer, dict) and "error" in answer:
            self.stop()
            raise Failed(self._reason(answer["error"]))
        return answer

    def _reason(self, error: str) -> str:
        if not error.startswith(("ModuleNotFoundError", "ImportError")):
            return error
        refused = not_installed().get(self._kind.package)
        return f"not installed: {refused or error}"


def not_installed() -> dict[str, str]:
    """Packages that bench.install could not get into this environment, with reasons."""
    file = Path(sys.prefix, "bench-missing.json")
    return json.loads(file.read_text()) if file.exists() else {}


def _rust_sdk_python() -> str:
    """Its package has the name of ours, hence an environment of its own."""
    folder = datasets.cache_dir() / "rust-sdk"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    try:
        if not python.exists():
            venv.create(folder, with_pip=True)
        installed = [python, "-c", "import ruvector._native"]
        if subprocess.run(installed, capture_output=True, check=False).returncode:
            install = [python, "-m", "pip", "install", "--quiet", RustSdk.requirement]
            subprocess.run(install, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as failure:
        last = (failure.stderr or str(failure)).strip().splitlines()[-1]
        raise Failed(f"not installed: {last}") from failure
    except OSError as failure:
        raise Failed(f"not installed: {failure}") from failure
    return str(python)
