"""Tables (Markdown) from the files of bench.index, bench.aspects and bench.gate_g1:

    python -m bench.report [--best] build/bench/results/*.json

--best takes the best round of each timing in place of the median.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from . import indexes

MODES = ("single", "batch, one thread", "batch, all threads")
RECALLS = (0.90, 0.95, 0.99, 0.999)
Records = "list[dict[str, Any]]"
# Of one kind and equal bits each; the first is ours.
PAIRS = (
    ("FlatF32Index", "faiss Flat"),
    ("RabitqIndex", "faiss RaBitQfs"),
    ("RabitqIndex", "rabitqlib IVF 1-bit √n"),
    ("RabitqIndex 4-bit", "faiss RaBitQfs 4-bit"),
    ("RabitqIndex 4-bit", "rabitqlib IVF 4-bit √n"),
    ("RabitqIndex 4-bit", "turbovec 4-bit"),
    ("RabitqIndex 7-bit", "faiss RaBitQfs 7-bit"),
    ("RabitqIndex 7-bit", "rabitqlib IVF 7-bit √n"),
    ("RabitqIndex √n lists", "rabitqlib IVF 1-bit √n"),
    ("RabitqIndex 4-bit √n lists", "rabitqlib IVF 4-bit √n"),
    ("RabitqIndex 7-bit √n lists", "rabitqlib IVF 7-bit √n"),
)
# What codes lose by looking into fewer lists counts as nothing up to this much recall.
_SLACK = 0.005
_START = time.monotonic()


def say(line: str) -> None:
    """Progress, with the seconds since the start."""
    print(f"{time.monotonic() - _START:6.0f} s  {line}", file=sys.stderr, flush=True)


def load(paths: Iterable[str | Path]) -> dict[str, Any]:
    """Several result files as one."""
    first, *others = [json.loads(Path(path).read_text()) for path in paths]
    for part in others:
        first["missing"].update(part["missing"])
        for key in ("reference", "records", "aspects", "gate"):
            first[key] += part[key]
    return first


# ---- figures -----------------------------------------------------------------


def front(records: Records, index: str, mode: str) -> list[tuple[float, float]]:
    """(recall, queries per second) of the settings that no other beats in both, by
    rising recall."""
    best: list[tuple[float, float]] = []
    mine = (r for r in records if r["index"] == index and r["mode"] == mode)
    for point in sorted(((r["qps"], r["recall"]) for r in mine), reverse=True):
        if not best or point[1] > best[-1][0]:
            best.append((point[1], point[0]))
    return best


def at(records: Records, index: str, mode: str, recall: float) -> float | None:
    """Queries per second at `recall`: between two settings the logarithm runs straight;
    an index that finds more at its fastest keeps that speed; None if it never finds it."""
    low = None
    for high in front(records, index, mode):
        if high[0] >= recall:
            if low is None:
                return high[1]
            share = (recall - low[0]) / (high[0] - low[0])
            return math.exp((1 - share) * math.log(low[1]) + share * math.log(high[1]))
        low = high
    return None


def fastest(records: Records, index: str, mode: str, recall: float) -> dict[str, Any] | None:
    """The fastest measured setting of `index` with at least `recall`."""
    fit = [
        r for r in records if r["index"] == index and r["mode"] == mode and r["recall"] >= recall
    ]
    return max(fit, key=lambda r: r["qps"], default=None)


def best_of_ours(records: Records, mode: str, recall: float) -> tuple[float, str] | None:
    """(queries per second, index) of our fastest that keeps the vectors."""
    speeds = [
        (at(records, name, mode, recall) or 0, name)
        for name in names(records)
        if name in indexes.OURS and one_of(records, name)["keeps_vectors"]
    ]
    best = max(speeds, default=(0, ""))
    return best if best[0] else None


def groups(records: Records) -> Iterator[Records]:
    """The records of one data set and k at a time, in order."""
    keys = dict.fromkeys((r["dataset"], r["n"], r["k"]) for r in records)
    for key in keys:
        yield [r for r in records if (r["dataset"], r["n"], r["k"]) == key]


def title(r: dict[str, Any]) -> str:
    return f"{r['dataset']}: n={r['n']}, dim={r['dim']}, k={r['k']}, {r['queries']} queries"


def names(records: Records) -> list[str]:
    return list(dict.fromkeys(r["index"] for r in records))


def one_of(records: Records, name: str) -> dict[str, Any]:
    return next(r for r in records if r["index"] == name)


# ---- tables ------------------------------------------------------------------


def text(result: dict[str, Any]) -> str:
    return "\n".join([*about(result), tables(result)])


def about(result: dict[str, Any]) -> list[str]:
    """The machine, and what could not be measured."""
    machine = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    lines = [f"Machine: {machine}. {result.get('taken', 'Median')} of {result['rounds']} rounds."]
    if result["missing"]:
        lines += ["", *(f"- Missing: {name} ({why})." for name, why in result["missing"].items())]
    return lines


def tables(result: dict[str, Any]) -> str:
    lines: list[str] = []
    for records in groups(result["records"]):
        lines += ["", f"## {title(records[0])}", "", *_facts(records)]
        lines += ["", *_codes(records, result["reference"])]
        for mode in MODES:
            lines += ["", *_speeds(records, mode)]
        lines += ["", *_ratios(records), "", *_pairs(records)]
    for key in ("aspects", "gate"):
        by_name: dict[str, Records] = {}
        for record in result[key]:
            by_name.setdefault(record["table"], []).append(record)
        for name, rows in by_name.items():
            lines += ["", f"## {name}", "", *_plain(rows)]
    return "\n".join(lines)


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    rows = [head, *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths)) + " |" for row in rows]
    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
    return [lines[0], rule, *lines[1:]]


def _plain(rows: Records) -> list[str]:
    """Records whose keys are the columns."""
    head = [key for key in dict.fromkeys(key for row in rows for key in row) if key != "table"]
    return table(head, [[_cell(row.get(key, "")) for key in head] for row in rows])


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _facts(records: Records) -> list[str]:
    rows = []
    for name in names(records):
        mine = [r for r in records if r["index"] == name]
        r = mine[0]
        found = sorted({x["recall"] for x in mine})
        rows.append(
            [
                name,
                r["version"],
                "yes" if r["keeps_vectors"] else "no",
                f"{r['build_seconds']:.3g}",
                f"{r['build_seconds_1']:.3g}" if r["build_seconds_1"] else "",
                f"{r['bytes'] / 1e6:.1f}",
                f"{r['bytes'] / r['n']:.0f}",
                "?" if r["rss_bytes"] is None else f"{r['rss_bytes'] / 1e6:.1f}",
                f"{found[0]:.4f}" + (f" to {found[-1]:.4f}" if len(found) > 1 else ""),
                _default(mine),
            ]
        )
    head = ["index", "version", "keeps vectors"]
    head += [f"build s, {records[0]['build_threads']} threads", "1 thread"]
    return table([*head, "MB", "bytes/vector", "RSS MB", "recall", "by default"], rows)


def _default(records: Records) -> str:
    default = [r for r in records if r["index"] in indexes.OURS and not r["setting"]]
    return f"{default[0]['recall']:.4f}" if default else ""


def at_its_best(records: Records, name: str, mode: str) -> dict[str, Any]:
    """The fastest setting that finds about as much as any setting of the index."""
    mine = [r for r in records if r["index"] == name and r["mode"] == mode]
    return max(
        (r for r in mine if r["recall"] >= max(m["recall"] for m in mine) - _SLACK),
        key=lambda r: r["qps"],
    )


def _codes(records: Records, reference: Records) -> list[str]:
    """What codes without vectors find when all of them are looked at."""
    first, rows = records[0], []
    for name in names(records):
        if not one_of(records, name)["keeps_vectors"]:
            best = [at_its_best(records, name, mode) for mode in MODES]
            latency = f"{best[0]['p50_us']:.0f} / {best[0]['p99_us']:.0f}"
            size = f"{best[0]['bytes'] / best[0]['n']:.0f}"
            speeds = [f"{r['qps']:.0f}" for r in best]
            rows.append([name, size, f"{best[0]['recall']:.4f}", latency, *speeds])
    for r in reference:
        if (r["dataset"], r["n"], r["k"]) == (first["dataset"], first["n"], first["k"]):
            name = f"ruvector-rabitq codes, {'1-bit' if r['one_bit_query'] else 'float'} query"
            size = f"{r['bytes'] / r['n']:.0f}"
            rows.append([name, size, f"{r['recall']:.4f}", *[""] * (1 + len(MODES))])
    head = ["codes only", "bytes/vector", "recall", "p50 / p99 µs"]
    return table([*head, *(f"QPS {mode}" for mode in MODES)], rows)


def _speeds(records: Records, mode: str) -> list[str]:
    rows = []
    for name in names(records):
        if not one_of(records, name)["keeps_vectors"]:
            continue
        row = [name]
        for recall in RECALLS:
            qps = at(records, name, mode, recall)
            cell = "-" if qps is None else f"{qps:.0f}"
            if qps is not None and mode == MODES[0]:
                near = fastest(records, name, mode, recall)
                cell += f" ({near['p50_us']:.0f} / {near['p99_us']:.0f})"
            row.append(cell)
        rows.append(row)
    threads = next(r["threads"] for r in records if r["mode"] == mode)
    unit = "QPS (p50 / p99 µs)" if mode == MODES[0] else "QPS"
    head = f"{unit}, {mode}" + (f" ({threads})" if mode == MODES[2] else "")
    return table([head, *(f"recall {recall}" for recall in RECALLS)], rows)


def _ratios(records: Records) -> list[str]:
    """Queries per second of ours over the peer's at equal recall; below 1 the peer is
    faster. "only ours", "only theirs": the other never reaches that recall."""
    rows = []
    for name in names(records):
        if name in indexes.OURS or not one_of(records, name)["keeps_vectors"]:
            continue
        for mode in MODES:
            cells = []
            for recall in RECALLS:
                ours = [at(records, indexes.DEFAULT, mode, recall)]
                best = best_of_ours(records, mode, recall)
                ours.append(best[0] if best else None)
                theirs = at(records, name, mode, recall)
                cells += [_ratio(mine, theirs) for mine in ours]
            rows.append([name, mode, *cells])
    head = ["at equal recall, over", "mode"]
    head += [f"{who} {recall}" for recall in RECALLS for who in ("default", "best of ours")]
    return table(head, rows)


def _ratio(ours: float | None, theirs: float | None) -> str:
    if ours and theirs:
        return f"{ours / theirs:.2f}"
    return "only ours" if ours else "only theirs" if theirs else "-"


def _pairs(records: Records) -> list[str]:
    """Ours over theirs, so that more is better everywhere but in bytes."""
    rows = []
    known = set(names(records))
    for pair in PAIRS:
        if not known.issuperset(pair):
            continue
        best = [[at_its_best(records, name, mode) for name in pair] for mode in MODES]
        ours, theirs = best[0]
        one = [r["build_seconds_1"] for r in best[0]]
        rows.append(
            [
                " ÷ ".join(pair),
                f"{theirs['build_seconds'] / ours['build_seconds']:.2f}",
                f"{one[1] / one[0]:.2f}" if all(one) else "",
                f"{ours['bytes'] / theirs['bytes']:.2f}",
                f"{ours['recall']:.4f} / {theirs['recall']:.4f}",
                *(f"{a['qps'] / b['qps']:.2f}" for a, b in best),
            ]
        )
    head = ["like with like", "build speed", "on 1 thread", "bytes", "recalls"]
    return table([*head, *(f"QPS {mode}" for mode in MODES)], rows)


def main() -> None:
    paths = [argument for argument in sys.argv[1:] if argument != "--best"]
    result = load(paths)
    if "--best" in sys.argv:
        result["taken"] = "Best"
        for r in result["records"]:
            r["qps"] = r["best_qps"]
    print(text(result))


if __name__ == "__main__":
    main()
