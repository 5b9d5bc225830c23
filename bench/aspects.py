"""What recall against speed does not show, of our own indexes: threads, filters and
deletes, tuning, and what a call costs.

    python -m bench.aspects [--dataset sift] [--n N] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import timeit
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Callable

import numpy as np
import ruvector

from . import index as bench_index
from . import native, recall, report
from .adapter import FEW, MANY, lists
from .machine import result as new_result

K = 10
SHARES = (0.1, 0.01, 0.001)
DELETED = 0.25
BATCH = 1_000
Record = "dict[str, Any]"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.aspects", description=__doc__)
    add = parser.add_argument
    add("--dataset", default="sift", help="a data set of bench.index")
    add("--n", type=int, help="vectors in the base")
    add("--queries", type=int, default=BATCH)
    add("--rounds", type=int, default=5)
    add("--threads", type=int, default=os.cpu_count())
    add("--out", type=Path, default=bench_index.OUT / "aspects.json")
    options = parser.parse_args(arguments)
    quick = options.n is not None and options.n <= 20_000
    base, queries = (
        np.array(part)
        for part in bench_index.load(options.dataset, options.n, options.queries, quick)
    )
    result = new_result(options.rounds)
    data = f"{options.dataset}, {len(base)} x {base.shape[1]}, k={K}"
    built = _build(base, result["missing"])
    parts: dict[str, Callable[[], list[Record]]] = {
        "threads": lambda: threads(built, queries, options.threads, options.rounds, data),
        "filters": lambda: filters(built, base, queries, options.rounds, data),
        "deletes": lambda: deletes(base, queries, options.rounds, data),
        "memory speed": lambda: memory_speed(built, base, queries),
        "call cost": call_cost,
        "tune": lambda: tuning(built, base, queries, data),
    }
    for name, measure in parts.items():
        report.say(f"  {name}")
        try:
            result["aspects"] += measure()
        except native.Unavailable as reason:
            result["missing"][name] = str(reason)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(report.text(result))
    print(f"\nwritten: {options.out}")


def _build(base: np.ndarray, missing: dict[str, str]) -> dict[str, Any]:
    built: dict[str, Any] = {}
    makers: dict[str, Callable] = {
        "FlatF32Index": lambda: ruvector.FlatF32Index.build(base),
        "RabitqIndex": lambda: ruvector.RabitqIndex.build(base),
        "RabitqPlusIndex": lambda: ruvector.RabitqPlusIndex.build(base),
    }
    for name, roots in (("√n", FEW), ("4√n", MANY)):
        count = lists(len(base), roots)
        makers[f"RabitqPlusIndex {name} lists"] = lambda count=count: (
            ruvector.RabitqPlusIndex.build(base, n_lists=count)
        )
    for name, make in makers.items():
        report.say(f"  build {name}")
        try:
            built[name] = make()
        except (TypeError, ValueError) as reason:
            missing[name] = str(reason)
    return built


# ---- threads -----------------------------------------------------------------


def threads(
    built: dict[str, Any], queries: np.ndarray, most: int, rounds: int, data: str
) -> list[Record]:
    """A batch on one thread and on more."""
    counts = [*range(1, most + 1)] if most <= 8 else [1, 2, 4, *range(8, most + 1, 8)]
    seconds: dict[tuple, list[float]] = {}
    for _ in range(rounds):
        for name, index in built.items():
            for count in counts:
                ruvector.set_num_threads(count)
                start = perf_counter()
                index.search_batch(queries, K)
                seconds.setdefault((name, count), []).append(perf_counter() - start)
    ruvector.set_num_threads(most)
    best = {key: min(times) for key, times in seconds.items()}
    return [
        {
            "table": f"threads: a batch of {len(queries)} ({data})",
            "index": name,
            "threads": count,
            "QPS": len(queries) / best[name, count],
            "over one thread": best[name, 1] / best[name, count],
        }
        for name, count in best
    ]


# ---- filters and deletes -----------------------------------------------------


def filters(
    built: dict[str, Any], base: np.ndarray, queries: np.ndarray, rounds: int, data: str
) -> list[Record]:
    """Searches of a random share of the rows, beside the same searches of all."""
    ruvector.set_num_threads(1)
    random = np.random.default_rng(7)
    some = queries[:200]
    records = []
    for share in SHARES:
        rows = np.sort(random.choice(len(base), int(share * len(base)), replace=False))
        mask = np.zeros(len(base), bool)
        mask[rows] = True
        kth = recall.nearest(base[rows], some, min(K, len(rows)))[1][:, -1]
        for name, index in built.items():
            plain, by_mask, by_ids = _in_turns(
                rounds,
                lambda q, index=index: index.search(q, K),
                lambda q, index=index, mask=mask: index.search(q, K, allow=mask),
                lambda q, index=index, rows=rows: index.search(q, K, allow=rows),
                queries=some,
            )
            found = [[hit.id for hit in index.search(q, K, allow=mask)] for q in some]
            hits = np.array([ids + [len(base)] * (K - len(ids)) for ids in found])
            share_found = recall.recall(hits, base, some, kth) * K / min(K, len(rows))
            records.append(
                {
                    "table": f"filters: one query a call, one thread ({data})",
                    "index": name,
                    "allowed": f"{100 * share:g} %",
                    "µs unfiltered": plain,
                    "µs by mask": by_mask,
                    "µs by ids": by_ids,
                    "unfiltered ÷ mask": plain / by_mask,
                    "unfiltered ÷ ids": plain / by_ids,
                    "least results": min(map(len, found)),
                    "of": min(K, len(rows)),
                    "recall": share_found,
                    "strangers": int((~np.isin(np.concatenate(found), rows)).sum()),
                }
            )
    return records


def deletes(base: np.ndarray, queries: np.ndarray, rounds: int, data: str) -> list[Record]:
    """The same searches before a quarter of the rows goes, after, and after vacuum."""
    ruvector.set_num_threads(1)
    some = queries[:200]
    gone = np.random.default_rng(8).choice(len(base), int(DELETED * len(base)), replace=False)
    records = []
    for kind in ("FlatF32Index", "RabitqIndex", "RabitqPlusIndex"):
        whole = getattr(ruvector, kind).build(base)
        left = getattr(ruvector, kind).build(base)
        left.remove(gone.astype(np.uint64))
        tidy = getattr(ruvector, kind).build(base)
        tidy.remove(gone.astype(np.uint64))
        tidy.vacuum()
        times = _in_turns(
            rounds,
            *(lambda q, index=index: index.search(q, K) for index in (whole, left, tidy)),
            queries=some,
        )
        found = [[hit.id for hit in left.search(q, K)] for q in some]
        records.append(
            {
                "table": f"deletes: {100 * DELETED:g} % of the rows removed ({data})",
                "index": kind,
                "µs before": times[0],
                "µs after": times[1],
                "µs after vacuum": times[2],
                "before ÷ after": times[0] / times[1],
                "least results": min(map(len, found)),
                "removed rows found": int(np.isin(np.concatenate(found), gone).sum()),
            }
        )
    return records


def _in_turns(rounds: int, *calls: Callable, queries: np.ndarray) -> list[float]:
    """Median over the queries of the best of each one's rounds, in µs."""
    best = [[float("inf")] * len(queries) for _ in calls]
    for _ in range(rounds):
        for call, times in zip(calls, best):
            for i, query in enumerate(queries):
                start = perf_counter()
                call(query)
                times[i] = min(times[i], perf_counter() - start)
    return [1e6 * median(times) for times in best]


# ---- tuning ------------------------------------------------------------------


def tuning(built: dict[str, Any], base: np.ndarray, queries: np.ndarray, data: str) -> list[Record]:
    """What tune() picks from one half of the queries, and what the other half gets.
    Comes last of what uses `built`: it changes their defaults."""
    ruvector.set_num_threads(1)
    half, held_out = np.ascontiguousarray(queries[::2]), np.ascontiguousarray(queries[1::2])
    kth = recall.nearest(base, held_out, K)[1][:, -1]
    records = []
    for name, index in built.items():
        if not name.startswith("RabitqPlus") or not hasattr(index, "tune"):
            continue
        for target in (0.95, 0.99, 0.999):
            start = perf_counter()
            tuned = index.tune(half, k=K, recall=target)
            seconds = perf_counter() - start
            (us,) = _in_turns(3, lambda q, index=index: index.search(q, K), queries=held_out)
            found = recall.recall(index.search_batch(held_out, K)[0], base, held_out, kth)
            records.append(
                {
                    "table": f"tune() on half of the queries, the rest held out ({data})",
                    "index": name,
                    "asked": target,
                    "nprobe": tuned.nprobe,
                    "epsilon": tuned.epsilon,
                    "it expects": tuned.recall,
                    "recall": found,
                    "µs": us,
                    "seconds to tune": seconds,
                }
            )
    return records


# ---- memory and calls --------------------------------------------------------


def memory_speed(built: dict[str, Any], base: np.ndarray, queries: np.ndarray) -> list[Record]:
    """Exact search beside a thread that does nothing but read as much memory."""
    ruvector.set_num_threads(1)
    machine_speed = native.measure(max(1, base.nbytes // 1_000_000), [])["read_gb_per_second"]
    index = built["FlatF32Index"]
    (us,) = _in_turns(5, lambda q: index.search(q, K), queries=queries[:100])
    return [
        {
            "table": "exact search beside plain reading, one thread",
            "index": "FlatF32Index",
            "MB": base.nbytes / 1e6,
            "µs a query": us,
            "GB/s": base.nbytes / us / 1e3,
            "GB/s of plain reading": machine_speed,
            "share": base.nbytes / us / 1e3 / machine_speed,
        }
    ]


def call_cost(dims: tuple[int, ...] = (128, 384, 768)) -> list[Record]:
    """A search in an index of one row, through Python and through C."""
    ruvector.set_num_threads(1)
    records = []
    for call in native.measure(1, [*dims])["calls"]:
        row = (np.arange(call["dim"]) % 3).astype(np.float32)
        index = getattr(ruvector, call["index"]).build(row[None])
        timer = timeit.Timer("search(row, 10)", globals={"search": index.search, "row": row})
        python = min(timer.repeat(60, 2_000)) / 2_000 * 1e9
        records.append(
            {
                "table": "a call: search in an index of one row",
                "index": call["index"],
                "dim": call["dim"],
                "ns in C": call["ns"],
                "ns from Python": python,
                "µs added": (python - call["ns"]) / 1e3,
            }
        )
    return records


if __name__ == "__main__":
    main()
