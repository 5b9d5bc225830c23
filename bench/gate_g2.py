"""A thousand task updates beside two searches of a million vectors, in one event loop:
does either wait for the other?

    python -m bench.gate_g2 [--n 1000000] [--updates 1000] [--rounds 3] [--out FILE]

The stream comes from a server in a process of its own. "Two calls" are two searches that
begin once the first tenth of the updates is here; "two searchers" search again and again
from then on, so often that alone they would take most of the stream's time. The lag of
the loop is how late a timer of a few milliseconds fires. Reports of a blocked loop are
those of asyncio's debug mode, in a round of its own: that mode costs time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import ruvector

from . import index as bench_index
from . import report
from .loops import runner
from .machine import result as new_result

K = 10
RATIO, LAG_MS = 1.2, 50.0
BEAT = 0.002  # seconds between two looks at the clock
DATASET, COLLECTION = "clustered", "docs"
SEARCHERS = 2
SHARE = 0.7  # of the stream's time that two searchers would take alone
Searches = Callable[[], Awaitable[None]]


class Threads:
    """Stands in for a lake where the build has none: an index searched in threads."""

    def __init__(self, base: np.ndarray) -> None:
        self._index = ruvector.RabitqPlusIndex.build(base)
        self._threads = ThreadPoolExecutor(SEARCHERS)

    async def search_one_async(self, *, collection: str, query: np.ndarray, k: int) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._index.search, query, k)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gate_g2", description=__doc__)
    add = parser.add_argument
    add("--dataset", default=DATASET, help="a data set of bench.index")
    add("--n", type=int, default=1_000_000, help="vectors in the base")
    add("--queries", type=int, default=1_000)
    add("--updates", type=int, default=1_000)
    add("--pause", type=float, default=2.0, help="milliseconds between two updates")
    add("--rounds", type=int, default=3)
    add("--out", type=Path, default=bench_index.OUT / "g2.json")
    options = parser.parse_args(arguments)
    base, queries = bench_index.load(options.dataset, options.n, options.queries)
    result = new_result(options.rounds)
    lake, about = lake_of(base)
    table = f"gate: {options.updates} updates beside searches of {len(base)} x {base.shape[1]}"
    with server() as url:
        for name, factory in loops(result["missing"]).items():
            report.say(name)
            told = {"table": f"{table}, {about}, k={K}", "loop": name, "load": _load()}
            result["gate"] += [
                {**told, **measured} for measured in _gate(url, factory, lake, queries, options)
            ]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(report.text(result))
    print(f"\nwritten: {options.out}")


def lake_of(base: np.ndarray) -> tuple[Any, str]:
    """What is searched, and its name in the table."""
    report.say(f"build from {len(base)} x {base.shape[1]}")
    if not hasattr(ruvector, "RuLake"):
        return Threads(base), "index in threads (no lake in this build)"
    backend = ruvector.LocalBackend(name="local")
    backend.upsert(COLLECTION, ids=np.arange(len(base)), vectors=base)
    lake = ruvector.RuLake.builder().build()
    lake.register_backend(backend)
    lake.search_one(collection=COLLECTION, query=base[0], k=K)  # builds its index
    return lake, "lake"


def loops(missing: dict[str, str]) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    known: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    try:
        import uvloop

        known["uvloop"] = uvloop.new_event_loop
    except ImportError as reason:
        missing["uvloop"] = str(reason)
    return known


@contextmanager
def server() -> Iterator[str]:
    command = [sys.executable, "-m", "bench.sse_server"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield json.loads(process.stdout.readline())["url"]  # type: ignore[union-attr]
        finally:
            process.stdin.close()  # type: ignore[union-attr]


def _load() -> float | None:
    """Of the machine, before: lags say little where others want its cores as well."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


# ---- the two sides -----------------------------------------------------------


async def _stream(url: str, updates: int, pause: float, begun: asyncio.Event) -> None:
    """Reads all updates, sets the event after a tenth, and checks their order."""
    from ruvector.a2a import A2aClient, TaskSpec

    heard = []
    async with await A2aClient.connect(url) as client:
        async for update in client.stream_task(TaskSpec("count", f"{updates} {pause}")):
            if update.kind == "status" and update.status.message:
                heard.append(int(update.status.message.text))
                if len(heard) >= updates // 10:
                    begun.set()
    if heard != list(range(1, updates + 1)):
        raise RuntimeError(f"{len(heard)} of {updates} updates came, or in another order")


def _searches(lake: Any, queries: np.ndarray, calls: int) -> Searches:
    async def one(mine: np.ndarray) -> None:
        for i in range(calls):
            query = mine[i % len(mine)]
            await lake.search_one_async(collection=COLLECTION, query=query, k=K)

    async def all_of_them() -> None:
        await asyncio.gather(*(one(queries[i::SEARCHERS]) for i in range(SEARCHERS)))

    return all_of_them


async def _lag(lags: list[float]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        begin = loop.time()
        await asyncio.sleep(BEAT)
        lags.append(loop.time() - begin - BEAT)


async def _timed(*work: Awaitable[None]) -> tuple[float, list[float]]:
    """Seconds that the work took together, and the lags of the loop meanwhile."""
    lags: list[float] = []
    watch = asyncio.ensure_future(_lag(lags))
    await asyncio.sleep(0)
    begin = perf_counter()
    await asyncio.gather(*work)
    seconds = perf_counter() - begin
    watch.cancel()
    return seconds, lags


async def _after(begun: asyncio.Event, searches: Searches) -> None:
    await begun.wait()
    await searches()


# ---- the gate ----------------------------------------------------------------


def _gate(
    url: str,
    factory: Callable[[], asyncio.AbstractEventLoop],
    lake: Any,
    queries: np.ndarray,
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    async def stream(begun: asyncio.Event | None = None) -> None:
        await _stream(url, options.updates, options.pause, begun or asyncio.Event())

    async def beside(searches: Searches) -> tuple[float, list[float]]:
        begun = asyncio.Event()
        return await _timed(stream(begun), _after(begun, searches))

    run = runner(factory)
    run(_timed(stream()))  # imports, connections
    few = _searches(lake, queries, calls=20)
    each = min(run(_timed(few()))[0] for _ in range(5)) / 20
    often = max(1, int(SHARE * options.updates * options.pause / 1000 / each))
    records = []
    for name, calls in (("two calls", 1), ("two searchers", often)):
        searches = _searches(lake, queries, calls)
        rounds = [
            (run(_timed(stream()))[0], run(_timed(searches()))[0], *run(beside(searches)))
            for _ in range(options.rounds)
        ]
        reports: list[str] = []
        runner(factory, reports, LAG_MS)(beside(searches))
        for line in reports:
            report.say(f"  blocked: {line}")
        records.append({"searches": f"{name}, {calls} each", **_verdict(rounds, reports)})
    return records


def _verdict(
    rounds: list[tuple[float, float, float, list[float]]], reports: list[str]
) -> dict[str, Any]:
    streams, searches, together, lags = zip(*rounds)
    ratio = median(both / max(a, b) for a, b, both, _ in rounds)
    worst = max(map(max, lags)) * 1e3
    reached = ratio < RATIO and worst < LAG_MS and not reports
    return {
        "stream s": median(streams),
        "searches s": median(searches),
        "together s": median(together),
        "ratio": ratio,
        "p99 lag ms": float(np.percentile(np.concatenate(lags), 99)) * 1e3,
        "worst lag ms": worst,
        "blocked": len(reports),
        "asked": f"ratio < {RATIO}, lag < {LAG_MS:g} ms, none blocked",
        "reached": reached,
    }


if __name__ == "__main__":
    main()
