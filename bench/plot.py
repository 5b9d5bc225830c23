"""Recall against queries per second, one picture per data set and k:

python -m bench.plot build/bench/index.json docs/benchmarks
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from . import report

LEAST_RECALL = 0.8


def main() -> None:
    result = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    mpl.rcParams["svg.hashsalt"] = "ruvector"  # equal input, equal file
    for records in report.groups(result["records"]):
        figure, panels = plt.subplots(1, 3, figsize=(16, 5), layout="constrained", sharey=True)
        for axes, mode in zip(panels, report.MODES):
            draw(records, mode, axes)
        panels[0].set_ylabel("queries per second")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
        figure.suptitle(report.title(records[0]))
        stem = f"{Path(records[0]['dataset']).stem}-k{records[0]['k']}"
        figure.savefig(folder / f"{stem}.svg", metadata={"Date": None})
        plt.close(figure)


def draw(records: report.Records, mode: str, axes: plt.Axes) -> None:
    for name in report.names(records):
        points = sorted(
            (1 - r["recall"], r["qps"])
            for r in records
            if r["index"] == name and r["mode"] == mode and r["recall"] >= LEAST_RECALL
        )
        ours = any(r["ours"] for r in records if r["index"] == name)
        # A whole recall of 1 has no place on a logarithmic axis.
        x = [max(loss, 1e-4) for loss, _ in points]
        y = [qps for _, qps in points]
        style = "o-" if ours else "x--"
        axes.plot(x, y, style, label=name, linewidth=2 if ours else 1)
    axes.set(xscale="log", yscale="log", xlim=(1 - LEAST_RECALL, 0.8e-4))
    ticks = [0.2, 0.1, 0.05, 0.01, 0.001, 0.0001]
    axes.set_xticks(ticks, ["0.8", "0.9", "0.95", "0.99", "0.999", "≥ 0.9999"])
    axes.minorticks_off()
    axes.set_xlabel(f"recall@{records[0]['k']}")
    threads = next(r["threads"] for r in records if r["mode"] == mode)
    axes.set_title(f"{mode} ({threads})")
    axes.grid(True, alpha=0.3)


if __name__ == "__main__":
    main()
