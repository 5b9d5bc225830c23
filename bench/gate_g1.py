"""One million vectors, one query a call, one thread: is the slowest percent of the
searches fast enough, by default and after tune()?

    python -m bench.gate_g1 [--n 1000000] [--lists N] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import ruvector

from . import index as bench_index
from . import recall, report
from .adapter import FEW, lists
from .machine import result as new_result

K = 10
RECALL = 0.99
DEFAULT_P99_MS, TUNED_P99_MS = 10.0, 1.0
DATASET = "embedding-like-1m"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gate_g1", description=__doc__)
    add = parser.add_argument
    add("--dataset", default=DATASET, help="a data set of bench.index")
    add("--n", type=int, help="vectors in the base")
    add("--queries", type=int, default=2_000, help="half of them for tune()")
    add("--rounds", type=int, default=3)
    add("--lists", type=int, nargs="*", help="more indexes, of so many lists; default √n")
    add("--out", type=Path, default=bench_index.OUT / "g1.json")
    options = parser.parse_args(arguments)
    base, queries = bench_index.load(options.dataset, options.n, options.queries)
    result = new_result(options.rounds)
    report.say(f"{options.dataset}: {len(base)} x {base.shape[1]}, exact neighbors")
    distances = recall.nearest_cached(base, queries, K)[1::2, K - 1]
    counts = options.lists if options.lists is not None else [lists(len(base), FEW)]
    for count in (None, *counts):
        try:
            result["gate"] += _gate(base, queries, distances, count, options.rounds)
        except (TypeError, ValueError, AttributeError) as reason:
            result["missing"][f"{count or 'default'} lists"] = str(reason)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(report.text(result))
    print(f"\nwritten: {options.out}")


def _gate(
    base: np.ndarray, queries: np.ndarray, kth: np.ndarray, count: int | None, rounds: int
) -> list[dict[str, Any]]:
    report.say(f"  build with {count or 'default'} lists")
    start = perf_counter()
    options = {} if count is None else {"n_lists": count}
    index = ruvector.RabitqPlusIndex.build(base, **options)
    seconds = perf_counter() - start
    about = {
        "table": f"gate: {len(base)} x {base.shape[1]}, k={K}, one query a call, one thread",
        "lists": index.n_lists,
        "build s": seconds,
        "bytes/vector": index.memory_bytes / len(base),
    }
    half, held_out = (np.ascontiguousarray(queries[i::2]) for i in (0, 1))
    measured = _measure(index, base, held_out, kth, rounds)
    records = [{**about, "search": "default", **measured, **_verdict(measured, DEFAULT_P99_MS)}]
    if hasattr(index, "tune"):
        report.say("  tune")
        start = perf_counter()
        tuned = index.tune(half, k=K, recall=RECALL)
        about["tune s"] = perf_counter() - start
        about |= {"nprobe": tuned.nprobe, "epsilon": tuned.epsilon}
        measured = _measure(index, base, held_out, kth, rounds)
        records.append({**about, "search": "tuned", **measured, **_verdict(measured, TUNED_P99_MS)})
    return records


def _measure(
    index: Any, base: np.ndarray, queries: np.ndarray, kth: np.ndarray, rounds: int
) -> dict[str, float]:
    """Percentiles over the queries, their medians over the rounds, and the best p99."""
    ruvector.set_num_threads(1)
    search, rows = index.search, []
    for _ in range(rounds):
        times = []
        for query in queries:
            start = perf_counter()
            search(query, K)
            times.append(perf_counter() - start)
        rows.append(np.percentile(times, [50, 99]) * 1e3)
    found = recall.recall(index.search_batch(queries, K)[0], base, queries, kth)
    ruvector.set_num_threads(0)
    p50, p99 = np.median(rows, axis=0)
    best = min(row[1] for row in rows)
    return {"p50 ms": float(p50), "p99 ms": float(p99), "best p99 ms": float(best), "recall": found}


def _verdict(measured: dict[str, float], limit: float) -> dict[str, Any]:
    reached = measured["p99 ms"] < limit and measured["recall"] >= RECALL
    return {"asked": f"p99 < {limit:g} ms at recall {RECALL}", "reached": reached}


if __name__ == "__main__":
    main()
