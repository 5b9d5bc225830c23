"""``ruvector bench``: recall, latency and memory of the index classes on one's own vectors."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .. import FlatF32Index, cpu_features, set_num_threads
from .build import add_build_options, add_convert, given_options
from .indexes import CLASSES
from .report import Usage, add_json, add_threads, bar, positive, table, tell_json
from .search import add_search_options, recall, search_options
from .vectors import FORMATS, read_vectors

if TYPE_CHECKING:
    from .._types import F32Array, IndexClass

_ROUNDS = 3  # every query is timed as often, alone


def add(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=_run)
    command.add_argument("vectors", metavar="VECTORS", type=Path, help=FORMATS)
    command.add_argument("--column", metavar="NAME", help="of the vectors, in a table")
    command.add_argument(
        "--queries", metavar="FILE", type=Path, help="instead of rows that are held out"
    )
    command.add_argument(
        "--held-out", type=positive, default=200, metavar="N", help="rows to ask for; default 200"
    )
    command.add_argument("--rows", type=positive, metavar="N", help="take the first N only")
    command.add_argument("-k", type=positive, default=10, metavar="N", help="default 10")
    command.add_argument(
        "--kinds", default=",".join(CLASSES), metavar="A,B", help="default %(default)s"
    )
    add_convert(command)
    add_build_options(command)
    add_search_options(command)
    add_threads(command)
    add_json(command)


def _run(args: argparse.Namespace) -> int:
    kinds = args.kinds.split(",")
    unknown = [kind for kind in kinds if kind not in CLASSES]
    if unknown:
        raise Usage(f"--kinds: there is no {unknown[0]!r}; there are {', '.join(CLASSES)}")
    set_num_threads(args.threads or 0)
    vectors, queries = _data(args)
    flat, seconds = _built("flat", vectors, {"metric": args.metric})
    truth = flat.search_batch(queries, args.k)[0]
    results = []
    for kind in kinds:
        index = flat
        if kind != "flat":
            index, seconds = _built(kind, vectors, given_options(args, kind)[0])
        results.append(_measured(index, seconds, queries, truth, args))
    cpu = cpu_features()
    told = {
        "rows": len(vectors),
        "dim": vectors.shape[1],
        "metric": args.metric,
        "queries": len(queries),
        "k": args.k,
        "threads": cpu["threads"],
        "isa": cpu["active"],
        "results": results,
    }
    if args.json:
        tell_json(told)
    else:
        _show(told)
    return 0


def _data(args: argparse.Namespace) -> tuple[F32Array, F32Array]:
    """What to index and what to ask."""
    vectors = read_vectors(args.vectors, args.column, convert=args.convert)[: args.rows]
    if args.queries:
        return vectors, read_vectors(args.queries, convert=True)
    if len(vectors) < 2 * args.held_out:
        raise Usage(
            f"{args.vectors}: {len(vectors)} vectors are too few to hold {args.held_out} out; "
            f"give --held-out {max(1, len(vectors) // 10)} or --queries"
        )
    chosen = np.random.default_rng(args.seed).choice(len(vectors), args.held_out, replace=False)
    rest = np.ones(len(vectors), bool)
    rest[chosen] = False
    return vectors[rest], vectors[np.sort(chosen)]


def _built(kind: str, vectors: F32Array, options: dict[str, Any]) -> tuple[IndexClass, float]:
    """An index, and the seconds it took."""
    with bar(f"building {kind}", "rows") as progress:
        start = time.perf_counter()
        index = CLASSES[kind].build(vectors, progress=progress, **options)
        return index, time.perf_counter() - start


def _measured(
    index: IndexClass,
    build_seconds: float,
    queries: F32Array,
    truth: npt.NDArray[np.uint64],
    args: argparse.Namespace,
) -> dict[str, Any]:
    options, _ = search_options(args, type(index))
    found, _ = index.search_batch(queries, args.k, **options)
    times = np.empty((_ROUNDS, len(queries)))
    with bar("searching", "queries") as progress:
        for round_, row in enumerate(times):
            for i, query in enumerate(queries):
                start = time.perf_counter()
                index.search(query, args.k, **options)
                row[i] = time.perf_counter() - start
                if progress:
                    progress(round_ * len(queries) + i + 1, times.size)
    return {
        "class": type(index).__name__,
        "recall": recall(found, truth),
        "median_ms": 1e3 * float(np.median(times)),
        "p99_ms": 1e3 * float(np.quantile(times, 0.99)),
        "memory_bytes": index.memory_bytes,
        "build_seconds": build_seconds,
    }


def _show(told: dict[str, Any]) -> None:
    print(
        f"{told['rows']:,} x {told['dim']}, {told['metric']}; {told['queries']:,} queries one "
        f"by one, {_ROUNDS} rounds; {told['threads']} threads, {told['isa']}; recall beside "
        f"{FlatF32Index.__name__}"
    )
    titles = ("index", f"recall@{told['k']}", "median ms", "p99 ms", "bytes a row", "build s")
    rows = [
        (
            result["class"],
            f"{result['recall']:.4f}",
            f"{result['median_ms']:.3f}",
            f"{result['p99_ms']:.3f}",
            f"{result['memory_bytes'] / told['rows']:,.0f}",
            f"{result['build_seconds']:.2f}",
        )
        for result in told["results"]
    ]
    table(titles, rows)
