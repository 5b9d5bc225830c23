"""Pictures of the figures: for each data set and k recall against speed, build time and
memory; and a batch on more threads.

    python -m bench.plot build/bench/results/*.json docs/benchmarks
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from . import indexes, report

MIN_RECALL = 0.8
# No loss of recall has no place on a logarithmic axis.
_NO_LOSS = 1e-4
_PEERS = [name for name in indexes.ALL if name not in indexes.OURS]


def draw_all(files: Iterable[str | Path], folder: Path) -> list[Path]:
    result = report.load(files)
    folder.mkdir(parents=True, exist_ok=True)
    # Equal input, equal file; letters stay letters, which keeps files small.
    plt.rcParams.update({"svg.hashsalt": "ruvector", "svg.fonttype": "none", "font.size": 9})
    drawn: list[Path] = []

    def save(figure: plt.Figure, name: str) -> None:
        figure.savefig(folder / name, metadata={"Date": None})
        plt.close(figure)
        drawn.append(folder / name)

    for records in report.groups(result["records"]):
        stem = f"{Path(records[0]['dataset']).stem}-k{records[0]['k']}"
        save(_recall_speed(records), f"{stem}.svg")
        if records[0]["k"] == 10:
            save(_families(records), f"{stem}-families.svg")
            save(_sizes(records), f"{stem}-build-memory.svg")
    rows = [r for r in result["aspects"] if r["table"].startswith("threads")]
    if rows:
        save(_threads(rows, result["records"]), "threads.svg")
    return drawn


def _recall_speed(records: report.Records) -> plt.Figure:
    figure, panels = plt.subplots(1, 3, figsize=(15, 5.4), layout="constrained", sharey=True)
    for axes, mode in zip(panels, report.MODES):
        for name in report.names(records):
            front = [p for p in report.front(records, name, mode) if p[0] >= MIN_RECALL]
            if front:
                x = [max(1 - found, _NO_LOSS) for found, _ in front]
                axes.plot(x, [qps for _, qps in front], label=name, **_style(name))
        _recall_axis(axes, records[0]["k"])
        count = next(r["threads"] for r in records if r["mode"] == mode)
        axes.set_title(f"{mode} ({count})")
    panels[0].set_ylabel("queries per second")
    labels = {}
    for axes in panels:
        labels |= dict(zip(*reversed(axes.get_legend_handles_labels())))
    figure.legend(labels.values(), labels.keys(), loc="outside right center", fontsize=8)
    figure.suptitle(report.title(records[0]))
    return figure


def _families(records: report.Records) -> plt.Figure:
    """One query a call: the best of each library's kind of index that keeps vectors."""
    figure, axes = plt.subplots(figsize=(8.5, 5), layout="constrained")
    families: dict[str, report.Records] = {}
    for r in records:
        if r["keeps_vectors"] and "Flat" not in r["index"].partition("+")[0]:
            kind = "ruvector" if r["index"] in indexes.OURS else _kind(r["index"])
            families.setdefault(kind, []).append({**r, "index": kind})
    for kind, rows in families.items():
        front = [p for p in report.front(rows, kind, report.MODES[0]) if p[0] >= MIN_RECALL]
        if front:
            x = [max(1 - found, _NO_LOSS) for found, _ in front]
            sizes = sorted({r["bytes"] // r["n"] for r in rows})
            label = f"{kind} ({sizes[0]}" + (f" to {sizes[-1]})" if len(sizes) > 1 else ")")
            axes.plot(x, [qps for _, qps in front], label=label, **_style(rows[0]["index"]))
    _recall_axis(axes, records[0]["k"])
    axes.set(ylabel="queries per second, one a call, one thread")
    figure.legend(loc="outside right center", fontsize=8, title="bytes per vector in brackets")
    figure.suptitle(report.title(records[0]))
    return figure


def _kind(name: str) -> str:
    return name.removesuffix(" √n").removesuffix(" 4√n")


def _recall_axis(axes: plt.Axes, k: int) -> None:
    axes.set(xscale="log", yscale="log", xlim=(1 - MIN_RECALL, 0.8 * _NO_LOSS))
    ticks = [0.2, 0.1, 0.05, 0.01, 0.001, _NO_LOSS]
    axes.set_xticks(ticks, ["0.8", "0.9", "0.95", "0.99", "0.999", "≥ 0.9999"])
    axes.minorticks_off()
    axes.set_xlabel(f"recall@{k}")
    axes.grid(True, alpha=0.3)


# Ours are warm, others cool; an index looks alike in all pictures.
_WARM = ("gold", "red", "darkorange", "maroon", "hotpink", "tan", "olive", "orange", "salmon")
_COOL = ("black", "0.5", "blue", "dodgerblue", "teal", "green", "limegreen", "purple", "slateblue")
_MARKERS = "x+1234*dshv<^>"
_ROUNDS = "os^"


def _style(name: str) -> dict[str, Any]:
    if name in indexes.OURS or name == "ruvector":
        place = [*indexes.OURS].index(name) if name in indexes.OURS else 1
        look = {"color": _WARM[place % len(_WARM)], "marker": _ROUNDS[place // len(_WARM)]}
        return {**look, "markersize": 4, "linewidth": 2, "zorder": 3}
    place = next(i for i, peer in enumerate(_PEERS) if name in (peer, _kind(peer)))
    look = {"color": _COOL[place % len(_COOL)], "marker": _MARKERS[place % len(_MARKERS)]}
    return {**look, "markersize": 5, "linewidth": 0.9, "linestyle": "--"}


def _sizes(records: report.Records) -> plt.Figure:
    """Build time and bytes of each index, ours among the others in order of size."""
    first = {name: next(r for r in records if r["index"] == name) for name in report.names(records)}
    figure, panels = plt.subplots(1, 2, figsize=(13, 1.2 + 0.22 * len(first)), layout="constrained")
    vectors = 4 * records[0]["dim"]
    for axes, key, label in (
        (panels[0], "build_seconds", f"build, s on {records[0]['build_threads']} threads"),
        (panels[1], "bytes", "bytes per vector (dotted: the vector alone)"),
    ):
        scale = 1 if key == "build_seconds" else records[0]["n"]
        order = sorted(first, key=lambda name: -first[name][key])
        values = [first[name][key] / scale for name in order]
        shades = ["tab:red" if name in indexes.OURS else "0.6" for name in order]
        bars = axes.barh(order, values, color=shades)
        axes.bar_label(bars, [f"{value:.3g}" for value in values], padding=2, fontsize=8)
        axes.set(xscale="log" if scale == 1 else "linear", xlabel=label)
        axes.margins(x=0.12, y=0.01)
    panels[1].axvline(vectors, color="0.2", linewidth=1, linestyle=":")
    figure.suptitle(report.title(records[0]).split(", k=")[0])
    return figure


def _threads(rows: report.Records, records: report.Records) -> plt.Figure:
    """Speed over one thread: ours by threads, and every index at all threads."""
    figure, panels = plt.subplots(1, 2, figsize=(13, 5), layout="constrained")
    for name in dict.fromkeys(r["index"] for r in rows):
        mine = [r for r in rows if r["index"] == name]
        panels[0].plot(
            [r["threads"] for r in mine], [r["over one thread"] for r in mine], "o-", label=name
        )
    most = max(r["threads"] for r in rows)
    panels[0].plot([1, most], [1, most], color="0.6", linestyle=":", label="threads")
    panels[0].set(xlabel="threads", ylabel="QPS over one thread", title=rows[0]["table"])
    panels[0].set_xticks(sorted({r["threads"] for r in rows}))
    panels[0].legend()
    gain = _gains(records)
    order = sorted(gain, key=gain.__getitem__)
    shades = ["tab:red" if name in indexes.OURS else "0.6" for name in order]
    bars = panels[1].barh(order, [gain[name] for name in order], color=shades)
    panels[1].bar_label(bars, [f"{gain[name]:.2f}" for name in order], padding=2, fontsize=8)
    panels[1].set(xlabel="one batch: QPS on all threads over one, median of all settings")
    return figure


def _gains(records: report.Records) -> dict[str, float]:
    """The median over data sets and settings, all threads over one."""
    single = {
        (r["dataset"], r["k"], r["index"], str(r["setting"])): r["qps"]
        for r in records
        if r["mode"] == report.MODES[1]
    }
    gains: dict[str, list[float]] = {}
    for r in records:
        if r["mode"] == report.MODES[2]:
            base = single[r["dataset"], r["k"], r["index"], str(r["setting"])]
            gains.setdefault(r["index"], []).append(r["qps"] / base)
    return {name: sorted(values)[len(values) // 2] for name, values in gains.items()}


def main() -> None:
    *files, folder = sys.argv[1:]
    print(*draw_all(files, Path(folder)), sep="\n")


if __name__ == "__main__":
    main()
