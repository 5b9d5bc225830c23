"""``ruvector search``: the nearest vectors of each query, and how many of them are right."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import NO_ID, FlatF32Index, RabitqIndex, set_num_threads
from .indexes import open_index
from .report import Usage, add_json, add_threads, bar, positive, tell, tell_json
from .vectors import (
    FORMATS,
    check_output,
    read_truth,
    read_vectors,
    write_results,
    write_scores,
)

_OPTIONS = ("nprobe", "epsilon", "rerank_factor", "max_rerank")
_TAKEN: dict[type, tuple[str, ...]] = {FlatF32Index: (), RabitqIndex: ("nprobe",)}


def add(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=_run)
    command.add_argument("index", metavar="INDEX", type=Path)
    command.add_argument("queries", metavar="QUERIES", type=Path, help=FORMATS)
    command.add_argument("--column", metavar="NAME", help="of the queries, in a table")
    command.add_argument("-k", type=positive, default=10, metavar="N", help="default 10")
    add_search_options(command)
    command.add_argument("--epsilon", type=float, metavar="X", help="width of the error bound")
    command.add_argument("--rerank-factor", type=positive, metavar="N")
    command.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        help="ids as .npy or .ivecs, scores as .fvecs, both as .parquet, .arrow or .feather",
    )
    command.add_argument("--scores", metavar="FILE", type=Path, help="scores: .npy or .fvecs")
    command.add_argument(
        "--truth",
        metavar="FILE",
        type=Path,
        help="true ids, to print recall: .ivecs, .npy, a table",
    )
    add_threads(command)
    add_json(command)


def add_search_options(command: argparse.ArgumentParser) -> None:
    """What `search` of the classes takes, and their `build` does not."""
    command.add_argument("--nprobe", type=_probes, metavar="N", help="lists to look into, or all")
    command.add_argument("--max-rerank", type=positive, metavar="N")


def _probes(text: str) -> int | str:
    return text if text == "all" else positive(text)


def search_options(args: argparse.Namespace, cls: type) -> tuple[dict[str, Any], list[str]]:
    """The options for searches of a class, and those given that it does not take."""
    given = {name: getattr(args, name) for name in _OPTIONS if getattr(args, name) is not None}
    taken = _TAKEN.get(cls, _OPTIONS)
    refused = [name for name in given if name not in taken]
    return {name: value for name, value in given.items() if name in taken}, refused


def _run(args: argparse.Namespace) -> int:
    if args.output:
        check_output(args.output)
    if args.scores:
        check_output(args.scores, (".npy", ".fvecs"))
    set_num_threads(args.threads or 0)
    index = open_index(args.index)
    options, refused = search_options(args, type(index))
    if refused:
        raise Usage(f"a {type(index).__name__} takes no --{refused[0].replace('_', '-')}")
    queries = read_vectors(args.queries, args.column, convert=True)
    truth = None
    if args.truth:
        truth = read_truth(args.truth)
        if len(truth) != len(queries) or truth.shape[1] < args.k:
            raise ValueError(
                f"{args.truth}: {truth.shape[0]} x {truth.shape[1]} ids, but there are "
                f"{len(queries)} queries and k is {args.k}"
            )
    with bar("searching", "queries") as progress:
        ids, scores = index.search_batch(queries, args.k, progress=progress, **options)
    if args.output:
        write_results(args.output, ids, scores)
    if args.scores:
        write_scores(args.scores, scores)
    if not (args.output or args.scores or args.truth):
        _show(ids, scores, args.json)
        return 0
    told: dict[str, Any] = {"queries": len(queries), "k": args.k}
    if truth is not None:
        told["recall"] = recall(ids, truth[:, : args.k])
    told["written"] = [str(path) for path in (args.output, args.scores) if path] or None
    if args.json:
        tell(told, True)
    else:
        print(_sentence(told))
    return 0


def recall(ids: npt.NDArray[np.uint64], truth: npt.NDArray[np.uint64]) -> float:
    """The share of the true ids that were found; 1 where there are none to find."""
    wanted = found = 0
    for row, true in zip(ids, truth):
        true = true[true != np.uint64(NO_ID)]
        wanted += len(true)
        found += int(np.isin(true, row).sum())
    return found / wanted if wanted else 1.0


def _sentence(told: dict[str, Any]) -> str:
    words = f"{told['queries']:,} queries"
    if "recall" in told:
        words += f", recall@{told['k']} {told['recall']:.4f}"
    if told["written"]:
        words += f", written to {', '.join(told['written'])}"
    return words


def _show(ids: npt.NDArray[np.uint64], scores: npt.NDArray[np.float32], as_json: bool) -> None:
    """A line for each hit: query, id, score. As JSON, a line for each query."""
    for query, (row, values) in enumerate(zip(ids.tolist(), scores.tolist())):
        hits = [(id, score) for id, score in zip(row, values) if id != NO_ID]
        if as_json:
            tell_json({"query": query, "hits": [{"id": i, "score": s} for i, s in hits]})
        else:
            print("".join(f"{query}\t{id}\t{score:.6g}\n" for id, score in hits), end="")
