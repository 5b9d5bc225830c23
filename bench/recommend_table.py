"""Measures what `ruvector.recommend` speaks from and writes ruvector/_measured.py.

python -m bench.recommend_table [--most FLOATS] [--out FILE]

At every number of vectors and dimension, every way to build is tuned to several recalls,
each data set on one half of its queries. The widest of the settings found for a recall
is then measured on the other half of each set: recall and time, one query a call, on one
thread, beside a FlatF32Index of the same rows. Settings that others beat in all respects
are left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from math import sqrt
from pathlib import Path
from typing import Any, Callable, NamedTuple

import numpy as np
import ruvector

from . import datasets
from .recall import recall

OUT = datasets.ROOT / "python" / "ruvector" / "_measured.py"
K = 10
ROWS = (2_000, 10_000, 100_000, 1_000_000)
DIMS = (128, 384, 768)
BITS = (1, 4)
TARGETS = (0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
# Widths of the bound beside the tuned ones, for recalls beyond those.
WIDTHS = (2.2, 3.0, 4.0)
QUERIES = 500  # of each half
PASSES = 5
PASS_SECONDS = 0.2

Setting = "tuple[float, float]"  # probes (infinite: all), epsilon


class Row(NamedTuple):
    """A line of the table."""

    data: str
    n: int
    dim: int
    bits: int
    n_lists: int | None
    nprobe: int | str
    epsilon: float
    recall: float
    bytes_per_vector: int
    cost: float


class Data(NamedTuple):
    name: str
    base: np.ndarray
    choose: np.ndarray
    report: np.ndarray
    flat: Any
    kth: np.ndarray  # squared distance of the k-th nearest of each query to report


def _sift(n: int, nq: int, dim: int) -> datasets.Pair:
    if dim != 128:
        raise datasets.DataUnavailable("SIFT descriptors have 128 dimensions")
    return datasets.sift(n, nq, images=12 if n <= 100_000 else None)


SETS: dict[str, Callable[[int, int, int], datasets.Pair]] = {
    "clustered": datasets.clustered,
    "embedding-like": datasets.embedding_like,
    "SIFT": _sift,
}


def load(n: int, dim: int) -> Iterator[Data]:
    for name, make in SETS.items():
        try:
            base, queries = make(n, 2 * QUERIES, dim)
        except datasets.DataUnavailable as reason:
            print(f"{name} {n} x {dim}: left out ({reason})", flush=True)
            continue
        base = np.ascontiguousarray(base)
        choose, report = queries[::2].copy(), queries[1::2].copy()
        flat = ruvector.FlatF32Index.build(base)
        kth = flat.search_batch(report, K)[1][:, -1]
        yield Data(name, base, choose, report, flat, kth)


def lists(n: int) -> list[int | None]:
    """What to give as n_lists: the default, and four square roots where rows fill them."""
    return [None, min(int(4 * sqrt(n)), max(64, n // 64))]


def settings(indexes: list[tuple[Data, Any]]) -> list[Setting]:
    """For each recall, what is enough on every data set."""
    found = {(float("inf"), width) for width in WIDTHS}
    for target in TARGETS:
        tuned = [index.tune(data.choose, k=K, recall=target) for data, index in indexes]
        probes = max(float("inf") if t.nprobe == "all" else t.nprobe for t in tuned)
        found.add((probes, round(max(t.epsilon for t in tuned), 2)))
    return sorted(found)


def pass_over(index: Any, queries: np.ndarray, **setting: Any) -> float:
    """Processor seconds a query, of as many as fit into a pass."""
    begin, done, taken = time.thread_time(), 0, 0.0
    while done < len(queries) and taken < PASS_SECONDS:
        index.search(queries[done], K, **setting)
        done += 1
        taken = time.thread_time() - begin
    return taken / done


def relative_time(data: Data, index: Any, setting: dict[str, Any]) -> float:
    ruvector.set_num_threads(1)
    ours, exact = [], []
    for _ in range(PASSES):
        exact.append(pass_over(data.flat, data.report))
        ours.append(pass_over(index, data.report, **setting))
    ruvector.set_num_threads(0)
    return min(ours) / min(exact)


def measure(n: int, dim: int) -> Iterator[list[Row]]:
    """The rows of each setting, one for each data set."""
    sets = list(load(n, dim))
    for bits in BITS:
        for n_lists in lists(n):
            indexes = [
                (d, ruvector.RabitqPlusIndex.build(d.base, bits=bits, n_lists=n_lists))
                for d in sets
            ]
            for probes, epsilon in settings(indexes):
                nprobe: int | str = "all" if probes == float("inf") else int(probes)
                setting = {"nprobe": nprobe, "epsilon": epsilon}
                rows = []
                for data, index in indexes:
                    found = index.search_batch(data.report, K, **setting)[0]
                    share = recall(found, data.base, data.report, data.kth)
                    cost = relative_time(data, index, setting)
                    size = round(index.memory_bytes / n)
                    told = (bits, n_lists, nprobe, epsilon, share, size, cost)
                    rows.append(Row(data.name, n, dim, *told))
                yield rows


def front(measured: list[list[Row]]) -> Iterator[Row]:
    """Without the settings that another one beats in recall, memory and time."""

    def worst(rows: list[Row]) -> tuple[float, float, float]:
        return (
            -min(r.recall for r in rows),
            max(r.bytes_per_vector for r in rows),
            max(r.cost for r in rows),
        )

    of = [worst(rows) for rows in measured]
    for rows, mine in zip(measured, of):
        beaten = (all(a <= b for a, b in zip(other, mine)) for other in of if other != mine)
        if not any(beaten):
            yield from rows


def line(r: Row) -> str:
    nprobe = f'"{r.nprobe}"' if isinstance(r.nprobe, str) else r.nprobe
    share = int(r.recall * 10_000) / 10_000
    return (
        f'    ("{r.data}", {r.n}, {r.dim}, {r.bits}, {r.n_lists}, {nprobe}, {r.epsilon}, '
        f"{share}, {r.bytes_per_vector}, {r.cost:.2g}),\n"
    )


HEADER = '''"""Written by `python -m bench.recommend_table`: what `recommend` speaks from.

RabitqPlusIndex, recall@{k}, one query a call on one thread. A row: data set, n, dim, bits,
n_lists given to build, nprobe, epsilon, recall, bytes per vector in memory, and time of a
query as a share of that of a FlatF32Index. Library {version}, instruction set {isa}.
"""

from __future__ import annotations

from typing import Optional, Union

_Row = tuple[str, int, int, int, Optional[int], Union[int, str], float, float, int, float]

K = {k}
ROWS: tuple[_Row, ...] = (
'''


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=float, default=4e8, help="floats in a data set, at most")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    isa = ruvector.cpu_features()["active"]
    lines = [HEADER.format(k=K, version=ruvector.__version__, isa=isa)]
    for dim in DIMS:
        for n in (n for n in ROWS if n * dim <= options.most):
            began = time.perf_counter()
            lines += map(line, front(list(measure(n, dim))))
            print(f"{n} x {dim}: {time.perf_counter() - began:.0f} s", flush=True)
    options.out.write_text("".join([*lines, ")\n"]))
    print(f"{len(lines) - 1} rows in {options.out}")


if __name__ == "__main__":
    main()
