"""What was aimed at beside what was measured, from result files:

    python -m bench.targets build/bench/results/*.json

A ratio is ours over the other library's in queries per second, one query a call on one
thread, at equal recall@10; ours is the best of our indexes with vectors unless named.
"""

from __future__ import annotations

import sys
from typing import Any

from . import indexes, report

SINGLE, BATCH, BATCH_ALL = report.MODES
# data set, recall, (library, least ratio)...
SPEEDS = (
    ("sift", 0.999, ("faiss RaBitQfs+Refine", 10), ("faiss HNSW32", 3.5), ("Rust SDK", 15)),
    ("clustered", 0.999, ("Rust SDK", 10)),
    ("sift", 0.99, ("faiss HNSW32", 5), ("rabitqlib IVF √n", 3), ("rabitqlib IVF 4√n", 3)),
    (
        "sift-950k",
        0.99,
        ("hnswlib", 3),
        ("rabitqlib IVF √n", 2.5),
        ("rabitqlib IVF 4√n", 2.5),
    ),
)
AHEAD_OF_ALL = ("sentences", "embedding-like")
FLAT = (("FlatF32Index", "faiss Flat", SINGLE, 1.0), ("FlatF32Index", "faiss Flat", BATCH, 3.0))
BUILDS = (("Rust SDK", 20), ("faiss RaBitQfs", 5))


def rows(result: dict[str, Any]) -> list[list[str]]:
    """[aim, least, measured, verdict], "?" where the figures are not in the files."""
    by_set = {
        group[0]["dataset"]: group
        for group in report.groups(result["records"])
        if group[0]["k"] == 10
    }
    found = [*_flat(by_set), *_speeds(by_set), *_codes(by_set), *_builds(by_set)]
    found += _aspects(result["aspects"])
    lines = [[what, f"{least:g}", *_verdict(got, least)] for what, least, got in found]
    for r in result["gate"]:
        if "p99 ms" not in r:
            continue  # those of the event loop and of pip say what was asked themselves
        got = f"{r['p99 ms']:.2f} ms at {r['recall']:.4f}"
        name = f"one million, {r['lists']} lists, {r['search']}"
        lines.append([name, r["asked"], got, "yes" if r["reached"] else "NO"])
    return lines


def _verdict(got: float | None, least: float) -> list[str]:
    if got is None:
        return ["?", "?"]
    return [f"{got:.3g}", "yes" if got >= least else "NO"]


def _over(records: report.Records, peer: str, recall: float) -> float | None:
    ours = report.best_of_ours(records, SINGLE, recall)
    theirs = report.at(records, peer, SINGLE, recall)
    if theirs is None:
        # Never reached by the other: no ratio is large enough to say it.
        known = any(r["index"] == peer for r in records)
        return float("inf") if known and ours else None
    return ours[0] / theirs if ours else 0.0


def _flat(by_set: dict[str, report.Records]) -> list[tuple]:
    found = []
    for ours, theirs, mode, least in FLAT:
        both = [report.at(by_set.get("sift", []), name, mode, 1.0) for name in (ours, theirs)]
        ratio = both[0] / both[1] if all(both) else None
        found.append((f"sift: {ours} over {theirs}, {mode}", least, ratio))
    return found


def _speeds(by_set: dict[str, report.Records]) -> list[tuple]:
    found = []
    for dataset, recall, *peers in SPEEDS:
        for peer, least in peers:
            ratio = _over(by_set.get(dataset, []), peer, recall)
            found.append((f"{dataset} at {recall}: over {peer}", least, ratio))
    for dataset in AHEAD_OF_ALL:
        records = by_set.get(dataset, [])
        ratios = [
            (_over(records, name, 0.99), name)
            for name in report.names(records)
            if name in indexes.PEERS and report.one_of(records, name)["keeps_vectors"]
        ]
        least = min(((r, name) for r, name in ratios if r is not None), default=(None, "any"))
        found.append((f"{dataset} at 0.99: over the best other ({least[1]})", 1.0, least[0]))
    return found


def _codes(by_set: dict[str, report.Records]) -> list[tuple]:
    """The most that any setting finds, and the speed of one that finds about as much."""
    found = []
    for dataset, records in by_set.items():
        known = set(report.names(records))
        for ours, theirs in report.PAIRS:
            if "rabitqlib" not in theirs or "lists" not in ours or not known >= {ours, theirs}:
                continue
            a, b = (report.at_its_best(records, name, SINGLE) for name in (ours, theirs))
            most = [
                max(r["recall"] for r in records if r["index"] == name) for name in (ours, theirs)
            ]
            found.append((f"{dataset}: recall, {ours} over {theirs}", 1.0, most[0] / most[1]))
            found.append((f"{dataset}: speed, {ours} over {theirs}", 1.0, a["qps"] / b["qps"]))
    return found


def _builds(by_set: dict[str, report.Records]) -> list[tuple]:
    found: list[tuple] = []
    records = by_set.get("sift", [])
    known = {name: report.one_of(records, name) for name in report.names(records)}
    for peer, least in BUILDS:
        for key, on in (("build_seconds", "all threads"), ("build_seconds_1", "one thread")):
            # The others' center is the mean alone; ours by default are more.
            for ours in ("RabitqIndex one list", "RabitqIndex"):
                times = [known[name][key] if name in known else None for name in (peer, ours)]
                ratio = times[0] / times[1] if all(times) else None
                found.append((f"sift: build of {ours} over {peer}, {on}", least, ratio))
    for r in {x["index"]: x for x in by_set.get("sift-950k", [])}.values():
        if r["index"] in indexes.OURS:
            name = f"sift-950k: build of {r['index']}, 10 s over"
            found.append((name, 1.0, 10 / r["build_seconds"]))
    return found


def _aspects(aspects: report.Records) -> list[tuple]:
    found: list[tuple] = []
    for r in aspects:
        if r["table"].startswith("threads") and r["threads"] == 2:
            found.append((f"two threads over one, {r['index']}", 1.8, r["over one thread"]))
        elif r["table"].startswith("filters"):
            for form in ("mask", "ids"):
                name = f"{r['allowed']} allowed by {form}: unfiltered over it, {r['index']}"
                found.append((name, 1.0, r[f"unfiltered ÷ {form}"]))
            name = f"{r['allowed']} allowed: results of those due, {r['index']}"
            found.append((name, 1.0, r["least results"] / r["of"]))
        elif r["table"].startswith("deletes"):
            found.append(
                (f"25 % removed: before over after, {r['index']}", 1.0, r["before ÷ after"])
            )
        elif r["table"].startswith("a call"):
            name = f"1.5 µs over what Python adds, {r['index']}, {r['dim']} dimensions"
            found.append((name, 1.0, 1.5 / max(r["µs added"], 1e-3)))
        elif r["table"].startswith("exact search"):
            found.append(("exact search: share of plain reading", 0.9, r["share"]))
    return found


def table(result: dict[str, Any]) -> list[str]:
    return report.table(["aim", "at least", "measured", "reached"], rows(result))


def main() -> None:
    print("\n".join(table(report.load(sys.argv[1:]))))


if __name__ == "__main__":
    main()
