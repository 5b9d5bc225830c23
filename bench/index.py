"""Recall, speed, memory and build time of the indexes beside other libraries.

    python -m bench.index --quick
    python -m bench.index --datasets sift sentences --k 10 100

One file of figures for each data set, in the folder --out. Queries are held out of the
base and drawn from the same source; half of them choose the settings that the other
half reports.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from . import datasets, indexes, recall, reference, report, sweep
from .machine import result as new_result
from .report import say
from .workers import Failed, Index

Makers = "dict[str, Callable[[int | None, int], tuple[np.ndarray, np.ndarray]]]"
OUT = datasets.ROOT / "build" / "bench" / "results"
# The other k are measured where a default run has the time.
DEFAULT_SETS = ("clustered", "sift", "sentences", "embedding-like", "sift-950k")
DEFAULT_K = {"sift": (10, 100), "sentences": (10, 100)}


def sets(quick: bool = False) -> Makers:
    """Data sets by name; each takes the rows wanted, or None, and the queries."""
    images = 12 if quick else None
    return {
        "clustered": lambda n, nq: datasets.clustered(n or 100_000, nq),
        "sift": lambda n, nq: datasets.sift(n or 100_000, nq, images=images),
        "sift-950k": lambda n, nq: datasets.sift(n or 950_000, nq),
        "sentences": lambda n, nq: datasets.sentences(n or 100_000, nq),
        "embedding-like": lambda n, nq: datasets.embedding_like(n or 100_000, nq),
        "embedding-like-1m": lambda n, nq: datasets.embedding_like_large(n or 1_000_000, nq),
        "normal": lambda n, nq: datasets.iid_normal(n or 100_000, nq),
    }


def main(arguments: list[str] | None = None) -> None:
    options = _options(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.datasets:
        result = new_result(options.rounds)
        try:
            pair = load(name, options.n, options.queries, options.quick)
        except datasets.DataUnavailable as reason:
            result["missing"][name] = str(reason)
        else:
            _measure(name, *pair, options, result)
        file = options.out / f"{Path(name).stem}.json"
        file.write_text(json.dumps(result, indent=1) + "\n")
        print(report.text(result))
        print(f"\nwritten: {file}\n", flush=True)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.index",
        description=__doc__.splitlines()[0],
        epilog=f"Data sets: {', '.join(sets())}, or the path of an HDF5 file in the "
        f"layout of ann-benchmarks. Indexes: {', '.join(indexes.ALL)}.",
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="20,000 vectors, two sets, few indexes")
    add("--datasets", nargs="+", metavar="SET", help=f"default: {' '.join(DEFAULT_SETS)}")
    add("--indexes", nargs="+", metavar="INDEX", choices=indexes.ALL)
    add("--n", type=int, help="vectors in the base")
    add("--queries", type=int, help="default: 1,000; quick: 200")
    add("--k", type=int, nargs="+", help="default: 10, and 100 for some sets")
    add("--rounds", type=int, help="default: 3; quick: 1")
    add("--threads", type=int, default=os.cpu_count(), help="for builds and one batch mode")
    add("--out", type=Path, default=OUT, help="folder of the result files")
    options = parser.parse_args(arguments)
    quick = options.quick
    options.datasets = options.datasets or (["clustered", "sift"] if quick else [*DEFAULT_SETS])
    options.n = options.n or (20_000 if quick else None)
    options.queries = options.queries or (200 if quick else 1_000)
    options.rounds = options.rounds or (1 if quick else 3)
    if options.queries < 2:
        parser.error("--queries: two at least, one to choose by and one to report")
    return options


def load(name: str, n: int | None, queries: int, quick: bool = False) -> tuple:
    make = sets(quick).get(name)
    if make is not None:
        return make(n, queries)
    if Path(name).is_file():
        return datasets.hdf5(name, n, queries)
    raise datasets.DataUnavailable("neither a known data set nor a file")


def _measure(
    name: str,
    base: np.ndarray,
    queries: np.ndarray,
    options: argparse.Namespace,
    result: dict[str, Any],
) -> None:
    n, dim = base.shape
    reported = len(queries) // 2
    about = {"dataset": Path(name).stem, "n": n, "dim": dim, "queries": reported}
    ks = options.k or ([10] if options.quick else [*DEFAULT_K.get(name, (10,))])
    say(f"{name}: {n} x {dim}, exact neighbors")
    distances = recall.nearest_cached(base, queries, max(ks))
    if n <= indexes.MANY_ROWS:
        result["reference"] = _reference(base, queries, distances, ks, about)
    with tempfile.TemporaryDirectory(dir=datasets.cache_dir()) as folder:
        parts = {"base": base, "queries": queries, "distances": distances}
        for part, array in parts.items():
            np.save(Path(folder, part), array)
        running = _start(_wanted(n, options, result["missing"]), folder, options, result, about)
        try:
            for k in ks:
                # Codes alone are for short lists of candidates.
                asked = [
                    index
                    for index in running
                    if index.alive and (k == ks[0] or index.facts["keeps_vectors"])
                ]
                result["records"] += sweep.measure(
                    asked, k, about, options.rounds, options.threads, result["missing"]
                )
        finally:
            for index in running:
                index.stop()


def _reference(
    base: np.ndarray,
    queries: np.ndarray,
    distances: np.ndarray,
    ks: list[int],
    about: dict[str, Any],
) -> list[dict[str, Any]]:
    """Recall of the codes of the ruvector-rabitq crate."""
    some = queries[:200]
    records = []
    for k in ks:
        for one_bit in (True, False):
            rows = reference.codes_only(base, some, k, one_bit_query=one_bit)
            records.append(
                {
                    **about,
                    "queries": len(some),
                    "k": k,
                    "one_bit_query": one_bit,
                    "recall": recall.recall(rows, base, some, distances[: len(some), k - 1]),
                    "bytes": about["n"] * reference.code_bytes(about["dim"]),
                }
            )
    return records


def _wanted(n: int, options: argparse.Namespace, missing: dict[str, str]) -> list[str]:
    if options.indexes:
        return options.indexes
    if options.quick:
        return [*indexes.QUICK]
    if n <= indexes.MANY_ROWS:
        return [*indexes.ALL]
    for name in indexes.ALL:
        if name not in indexes.FOR_MANY_ROWS:
            missing[f"{name} on {n} rows"] = "left out for its time; name it with --indexes"
    return [*indexes.FOR_MANY_ROWS]


def _start(
    names: list[str],
    folder: str,
    options: argparse.Namespace,
    result: dict[str, Any],
    about: dict[str, Any],
) -> list[Index]:
    running = []
    for name in names:
        say(f"  build {name}")
        try:
            running.append(Index(name, folder, options.threads))
        except Failed as reason:
            absent = str(reason).startswith("not installed")
            result["missing"][name if absent else f"{name} on {about['dataset']}"] = str(reason)
            say(f"  {name}: {reason}")
    return running


if __name__ == "__main__":
    main()
