"""Recall, speed, memory and build time of the indexes beside other libraries.

    python -m bench.index --quick
    python -m bench.index --datasets sift sentences --k 10 100 --out result.json

Every index lives in a process of its own and all of them stay up, so that one round of
timings visits each index in turn: drift of the machine then meets all alike. Reported
are medians over the rounds. Queries are held out and drawn from the data's own source.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from statistics import median
from typing import Any, Callable

import numpy as np

from . import datasets, peers, recall, reference, report

# Beyond this recall a larger search parameter only costs time.
_ENOUGH = 0.9999
_SINGLE, _BATCH, _BATCH_ALL = report.MODES


def _sets(quick: bool) -> dict[str, Callable]:
    images = 12 if quick else None
    return {
        "clustered": lambda n, nq: datasets.clustered(n or 100_000, nq),
        "sift": lambda n, nq: datasets.sift(n or 100_000, nq, images=images),
        "sentences": lambda n, nq: datasets.sentences(n or 20_000, nq),
        "embedding-like": lambda n, nq: datasets.embedding_like(n or 100_000, nq),
        "normal": lambda n, nq: datasets.iid_normal(n or 100_000, nq),
    }


def main() -> None:
    options = _options()
    result: dict[str, Any] = {
        "machine": _machine(),
        "rounds": options.rounds,
        "missing": {},
        "reference": [],
        "records": [],
    }
    for name in options.datasets:
        try:
            pair = _load(name, options)
        except datasets.DataUnavailable as reason:
            result["missing"][name] = str(reason)
        else:
            _measure(name, *pair, options, result)
        # A long run that is cut short keeps what it has.
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(report.text(result))
    print(f"\nwritten: {options.out}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.index",
        description=__doc__.splitlines()[0],
        epilog=f"Data sets: {', '.join(_sets(False))}, or the path of an HDF5 file in the "
        f"layout of ann-benchmarks. Indexes: {', '.join(peers.ALL)}.",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="20,000 vectors, two sets, few settings")
    add("--datasets", nargs="+", metavar="SET", help="default: all; quick: clustered sift")
    add("--indexes", nargs="+", metavar="INDEX", choices=peers.ALL, default=list(peers.ALL))
    add("--n", type=int, help="vectors in the base")
    add("--queries", type=int, help="default: 1,000; quick: 200")
    add("--k", type=int, nargs="+", default=[10])
    add("--rounds", type=int, help="default: 5; quick: 2")
    add("--threads", type=int, default=os.cpu_count(), help="for builds and one batch mode")
    add("--out", type=Path, default=datasets.ROOT / "build" / "bench" / "index.json")
    options = parser.parse_args()
    quick = options.quick
    options.datasets = options.datasets or (["clustered", "sift"] if quick else [*_sets(False)])
    options.n = options.n or (20_000 if quick else None)
    options.queries = options.queries or (200 if quick else 1_000)
    options.rounds = options.rounds or (2 if quick else 5)
    return options


def _load(name: str, options: argparse.Namespace) -> tuple:
    make = _sets(options.quick).get(name)
    if make is not None:
        return make(options.n, options.queries)
    if Path(name).is_file():
        return datasets.hdf5(name, options.n, options.queries)
    raise datasets.DataUnavailable("neither a known data set nor a file")


def _measure(
    name: str,
    base: np.ndarray,
    queries: np.ndarray,
    options: argparse.Namespace,
    result: dict[str, Any],
) -> None:
    n, dim = base.shape
    about = {"dataset": name, "n": n, "dim": dim, "queries": len(queries)}
    _say(f"{name}: {n} x {dim}, exact neighbours")
    distances = recall.nearest(base, queries, max(options.k))[1]
    some = queries[:200]
    for k in options.k:
        for one_bit in (True, False):
            rows = reference.codes_only(base, some, k, one_bit_query=one_bit)
            found = recall.recall(rows, base, some, distances[:, k - 1])
            result["reference"].append(
                {
                    **about,
                    "queries": len(some),
                    "k": k,
                    "one_bit_query": one_bit,
                    "recall": found,
                    "bytes": n * reference.code_bytes(dim),
                }
            )
    with tempfile.TemporaryDirectory(dir=datasets.cache_dir()) as folder:
        parts = {"base": base, "queries": queries, "distances": distances}
        for part, array in parts.items():
            np.save(Path(folder, part), array)
        running = _start(options, folder, result["missing"])
        try:
            for k in options.k:
                result["records"] += _sweep(running, k, about, options)
        finally:
            for worker in running:
                worker.stop()


class _Index:
    """The parent's end of one worker process."""

    def __init__(self, name: str, python: str, folder: str, threads: int) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [python, "-m", "bench.worker", name],
            cwd=datasets.ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.facts = self.ask("build", folder=folder, threads=threads)

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """The worker's answer; RuntimeError with its reason when it has none."""
        try:
            self._process.stdin.write(json.dumps([command, arguments]) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer = json.loads(line) if line else {"error": "the process ended"}
        if "error" in answer:
            self.stop()
            raise RuntimeError(answer["error"])
        return answer

    def stop(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


def _start(options: argparse.Namespace, folder: str, missing: dict[str, str]) -> list[_Index]:
    running = []
    for name in options.indexes:
        _say(f"  build {name}")
        try:
            python = _rust_sdk_python() if name == peers.RUST_SDK else sys.executable
            running.append(_Index(name, python, folder, options.threads))
        except (OSError, RuntimeError, subprocess.SubprocessError) as reason:
            absent = str(reason).startswith(("ModuleNotFoundError", "ImportError"))
            missing[name] = f"{'not installed: ' if absent else ''}{reason}"
            _say(f"  {name}: {missing[name]}")
    return running


def _rust_sdk_python() -> str:
    """Its package has the name of ours, hence an environment of its own."""
    folder = datasets.cache_dir() / "rust-sdk"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    install = [python, "-m", "pip", "install", "--quiet", peers.RUST_SDK_REQUIREMENT]
    if not python.exists():
        venv.create(folder, with_pip=True)
    installed = [python, "-c", "import ruvector._native"]
    if subprocess.run(installed, capture_output=True, check=False).returncode:
        subprocess.run(install, check=True, stdout=subprocess.DEVNULL)
    return str(python)


def _sweep(
    running: list[_Index], k: int, about: dict[str, Any], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """The records of every index, search setting and mode."""
    points = []
    for index in running:
        adapter = peers.ALL[index.name]
        values = adapter.values[:: 2 if options.quick else 1]
        for value in values:
            _say(f"  k={k} recall {index.name} {adapter.parameter or ''} {value or ''}")
            found = index.ask("recall", value=value, k=k)["recall"]
            points.append((index, value, found))
            if found >= _ENOUGH and value is not None:
                break
    timings: list[dict[str, list]] = [{mode: [] for mode in report.MODES} for _ in points]
    for round_ in range(options.rounds):
        _say(f"  k={k} round {round_ + 1} of {options.rounds}")
        for (index, value, _), timing in zip(points, timings):
            single = index.ask("single", value=value, k=k)
            batch = {"value": value, "k": k, "queries": _batch_size(single["qps"], about)}
            timing[_SINGLE].append(single)
            timing[_BATCH].append(index.ask("batch", threads=1, **batch))
            timing[_BATCH_ALL].append(index.ask("batch", threads=options.threads, **batch))
    return [
        {
            **about,
            "k": k,
            "index": index.name,
            "ours": index.name in peers.OURS,
            "parameter": peers.ALL[index.name].parameter,
            "value": value,
            "recall": found,
            "mode": mode,
            "threads": options.threads if mode == _BATCH_ALL else 1,
            **{key: median(t[key] for t in timing[mode]) for key in timing[mode][0]},
            "best_qps": max(t["qps"] for t in timing[mode]),
            **index.facts,
        }
        for (index, value, found), timing in zip(points, timings)
        for mode in report.MODES
    ]


def _batch_size(qps: float, about: dict[str, Any]) -> int:
    """Queries that take about three seconds one by one."""
    return int(min(about["queries"], max(50, 3 * qps)))


def _machine() -> dict[str, Any]:
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


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
