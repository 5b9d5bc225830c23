"""Tables (Markdown) from the JSON of bench.index:

    python -m bench.report [--best] result.json

--best takes the best round of each timing in place of the median.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MODES = ("single", "batch, one thread", "batch, all threads")
RECALLS = (0.90, 0.95, 0.99, 0.999)
# Of one kind each; the first is ours.
PAIRS = (
    ("FlatF32Index", "faiss Flat"),
    ("RabitqIndex", "faiss RaBitQfs"),
    ("RabitqPlusIndex", "faiss RaBitQfs+Refine"),
    ("RabitqPlusIndex", "faiss HNSW32"),
    ("RabitqPlusIndex", "hnswlib"),
    ("RabitqPlusIndex", "usearch"),
    ("RabitqPlusIndex", "Rust SDK"),
)
MAIN = "RabitqPlusIndex"
Records = "list[dict[str, Any]]"


def fastest(records: Records, index: str, mode: str, recall: float) -> dict[str, Any] | None:
    """The fastest measured setting of `index` with at least `recall`."""
    fit = [
        r for r in records if r["index"] == index and r["mode"] == mode and r["recall"] >= recall
    ]
    return max(fit, key=lambda r: r["qps"], default=None)


def text(result: dict[str, Any]) -> str:
    machine = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    lines = [f"Machine: {machine}. {result.get('taken', 'Median')} of {result['rounds']} rounds."]
    for name, reason in result["missing"].items():
        lines.append(f"Missing: {name} ({reason}).")
    for records in groups(result["records"]):
        first = records[0]
        lines += ["", f"## {title(first)}", "", *_facts(records), "", *_codes(records, result)]
        for mode in MODES:
            lines += ["", *_speeds(records, mode)]
        lines += ["", *_ratios(records), "", *_pairs(records)]
    return "\n".join(lines)


def groups(records: Records) -> Iterator[Records]:
    """The records of one data set and k at a time, in order."""
    keys = dict.fromkeys((r["dataset"], r["n"], r["k"]) for r in records)
    for key in keys:
        yield [r for r in records if (r["dataset"], r["n"], r["k"]) == key]


def title(r: dict[str, Any]) -> str:
    return f"{r['dataset']}: n={r['n']}, dim={r['dim']}, k={r['k']}, {r['queries']} queries"


def names(records: Records) -> list[str]:
    return list(dict.fromkeys(r["index"] for r in records))


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    rows = [head, *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths)) + " |" for row in rows]
    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
    return [lines[0], rule, *lines[1:]]


def _facts(records: Records) -> list[str]:
    rows = []
    for name in names(records):
        mine = [r for r in records if r["index"] == name]
        r = mine[0]
        found = sorted({x["recall"] for x in mine})
        rss = "?" if r["rss_bytes"] is None else f"{r['rss_bytes'] / 1e6:.1f}"
        rows.append(
            [
                name,
                r["version"],
                "yes" if r["keeps_vectors"] else "no",
                f"{r['build_seconds']:.2f}",
                f"{r['bytes'] / 1e6:.1f}",
                f"{r['bytes'] / r['n']:.0f}",
                rss,
                f"{found[0]:.4f}" + (f" to {found[-1]:.4f}" if len(found) > 1 else ""),
                _default(mine),
            ]
        )
    head = ["index", "version", "keeps vectors"]
    head += [f"build s, {records[0]['build_threads']} threads", "MB", "bytes/vector"]
    return _table([*head, "RSS MB", "recall", "by default"], rows)


def _default(records: Records) -> str:
    default = [r for r in records if r["ours"] and r["value"] is None]
    return f"{default[0]['recall']:.4f}" if default else ""


def _codes(records: Records, result: dict[str, Any]) -> list[str]:
    """What codes without vectors find; no setting trades recall here."""
    first, rows = records[0], []
    for name in names(records):
        mine = {r["mode"]: r for r in records if r["index"] == name}
        r = mine[MODES[0]]
        if not r["keeps_vectors"]:
            speeds = [f"{mine[mode]['qps']:.0f}" for mode in MODES]
            latency = f"{r['p50_us']:.0f} / {r['p99_us']:.0f}"
            size = f"{r['bytes'] / r['n']:.0f}"
            rows.append([name, size, f"{r['recall']:.4f}", latency, *speeds])
    for r in result["reference"]:
        if (r["dataset"], r["n"], r["k"]) == (first["dataset"], first["n"], first["k"]):
            name = f"ruvector-rabitq codes, {'1-bit' if r['one_bit_query'] else 'float'} query"
            size = f"{r['bytes'] / r['n']:.0f}"
            rows.append([name, size, f"{r['recall']:.4f}", *[""] * (1 + len(MODES))])
    head = ["codes only", "bytes/vector", "recall", "p50 / p99 µs"]
    return _table([*head, *(f"QPS {mode}" for mode in MODES)], rows)


def _speeds(records: Records, mode: str) -> list[str]:
    rows = []
    for name in names(records):
        row = [name]
        for recall in RECALLS:
            best = fastest(records, name, mode, recall)
            cell = "-" if best is None else f"{best['qps']:.0f}"
            if best is not None and "p50_us" in best:
                cell += f" ({best['p50_us']:.0f} / {best['p99_us']:.0f})"
            row.append(cell)
        rows.append(row)
    threads = next(r["threads"] for r in records if r["mode"] == mode)
    unit = "QPS (p50 / p99 µs)" if mode == MODES[0] else "QPS"
    head = f"{unit}, {mode}" + (f" ({threads})" if mode == MODES[2] else "")
    return _table([head, *(f"recall {recall}" for recall in RECALLS)], rows)


def _ratios(records: Records) -> list[str]:
    """Queries per second of the main index over the peer's at equal recall; below 1 the
    peer is faster. "only ours", "only theirs": the other never reaches that recall."""
    rows = []
    for name in names(records):
        if next(r for r in records if r["index"] == name)["ours"]:
            continue
        for mode in MODES:
            cells = [_ratio(records, name, mode, recall) for recall in RECALLS]
            if set(cells) - {"only ours", "-"}:
                rows.append([name, mode, *cells])
    return _table([f"{MAIN} ÷", "mode", *(f"recall {recall}" for recall in RECALLS)], rows)


def _ratio(records: Records, peer: str, mode: str, recall: float) -> str:
    ours = fastest(records, MAIN, mode, recall)
    theirs = fastest(records, peer, mode, recall)
    if ours and theirs:
        return f"{ours['qps'] / theirs['qps']:.2f}"
    return "only ours" if ours else "only theirs" if theirs else "-"


def _pairs(records: Records) -> list[str]:
    """Ours over theirs, so that more is better everywhere but in bytes. Speeds only
    where neither has a setting that trades recall for it."""
    rows = []
    for pair in PAIRS:
        two = [[r for r in records if r["index"] == name] for name in pair]
        if not all(two):
            continue
        ours, theirs = two[0][0], two[1][0]
        speeds = []
        for mode in MODES:
            qps = [[r["qps"] for r in side if r["mode"] == mode] for side in two]
            plain = all(len(values) == 1 for values in qps)
            speeds.append(f"{qps[0][0] / qps[1][0]:.2f}" if plain else "")
        recall = f"{ours['recall']:.4f} / {theirs['recall']:.4f}" if speeds[0] else ""
        build = f"{theirs['build_seconds'] / ours['build_seconds']:.2f}"
        rows.append([" ÷ ".join(pair), build, f"{ours['bytes'] / theirs['bytes']:.2f}", recall])
        rows[-1] += speeds
    head = ["like with like", "build speed", "bytes", "recalls"]
    return _table([*head, *(f"QPS {mode}" for mode in MODES)], rows)


def main() -> None:
    *flags, path = sys.argv[1:]
    result = json.loads(Path(path).read_text())
    if flags == ["--best"]:
        result["taken"] = "Best"
        for r in result["records"]:
            r["qps"] = r["best_qps"]
    print(text(result))


if __name__ == "__main__":
    main()
