"""What a lake costs over its index, and what threads and event loops gain from it.

    python -m bench.lake [--n 100000] [--rounds 7] [--out FILE]

Every figure is a ratio, or a difference, of two things measured in turn in this process.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import ruvector
from ruvector import Consistency, FsBackend, LocalBackend, RuLake

from . import index as bench_index
from . import report
from .loops import runner
from .machine import result as new_result

DIM, K = 128, 10
THREADS, AWAITS = 8, 100
LAG_MS = 5.0
KEY = ("bench", "docs")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.lake", description=__doc__)
    add = parser.add_argument
    add("--n", type=int, default=100_000, help="vectors in the collection")
    add("--queries", type=int, default=200)
    add("--rounds", type=int, default=7)
    add("--out", type=Path, default=bench_index.OUT / "lake.json")
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((options.n, DIM), dtype=np.float32)
    queries = rng.standard_normal((options.queries, DIM), dtype=np.float32)
    backend = LocalBackend(KEY[0])
    backend.put_collection(KEY[1], np.arange(options.n), vectors)
    result = new_result(options.rounds)
    about = {"table": f"lake: {options.n} x {DIM}, k={K}", "n": options.n, "k": K}
    records: list[dict[str, Any]] = []
    for measure in (_overhead, _warm, _threads, _awaits, _primes):
        report.say(measure.__name__.strip("_"))
        records += measure(backend, vectors, queries, options.rounds)
    result["lake"] = [{**about, **record} for record in records]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    for record in records:
        verdict = "reached" if record["reached"] else "NOT reached"
        print(f"{record['what']}: {record['value']:.3f} (asked: {record['asked']}, {verdict})")
    print(f"\nwritten: {options.out}")


def _lake(backend: LocalBackend, consistency: Consistency = Consistency.FRESH) -> RuLake:
    lake = RuLake(consistency=consistency)
    lake.register_backend(backend)
    return lake


def _record(what: str, value: float, least: bool, limit: float, unit: str = "x") -> dict[str, Any]:
    sign = ">=" if least else "<="
    reached = value >= limit if least else value <= limit
    return {"what": what, "value": value, "asked": f"{sign} {limit:g} {unit}", "reached": reached}


def _seconds(function: Callable[..., object], *arguments: object) -> float:
    start = perf_counter()
    function(*arguments)
    return perf_counter() - start


def _best(function: Callable[[], object], rounds: int) -> float:
    return min(_seconds(function) for _ in range(rounds))


# ---- one search --------------------------------------------------------------------


def _overhead(
    backend: LocalBackend, vectors: np.ndarray, queries: np.ndarray, rounds: int
) -> Iterable[dict[str, Any]]:
    """Each query's best time, by the index and by lakes, taken in turn."""
    index = ruvector.RabitqPlusIndex.build(vectors, seed=42, rerank_factor=20)
    calls: dict[str, Callable[[np.ndarray], object]] = {"index": lambda q: index.search(q, K)}
    lakes = []
    for consistency in (Consistency.FRESH, Consistency.EVENTUAL):
        lake = _lake(backend, consistency)
        # The very index, so that both read the same memory.
        lake.install(KEY, index, backend.current_bundle(KEY[1], 42, 20))
        assert lake.search_one(KEY[1], queries[0], K)[0][2:] == index.search(queries[0], K)[0]
        lakes.append(lake)
        calls[consistency.name] = lambda q, search=lake.search_one: search(KEY[1], q, K)
    best = {name: np.full(len(queries), np.inf) for name in calls}
    for r in range(4 * rounds):
        # Who comes later finds more of the memory in the cache.
        names = list(calls)[r % len(calls) :] + list(calls)[: r % len(calls)]
        for i, query in enumerate(queries):
            for name in names:
                best[name][i] = min(best[name][i], _seconds(calls[name], query))
    for lake in lakes:
        assert lake.cache_stats().primes == 0
    for name in list(calls)[1:]:
        ratio = float(best[name].sum() / best["index"].sum())
        record = _record(f"warm search, {name}, over the index's own", ratio, False, 1.02)
        extra = float(best[name].sum() - best["index"].sum()) / len(queries)
        yield {**record, "index us": best["index"].mean() * 1e6, "extra us": extra * 1e6}


def _warm(
    backend: LocalBackend, vectors: np.ndarray, queries: np.ndarray, rounds: int
) -> Iterable[dict[str, Any]]:
    """Snapshots of a file: the first search after reading one, beside those that follow."""
    with tempfile.TemporaryDirectory() as folder:
        files = FsBackend(KEY[0], Path(folder, "files"))
        files.write(KEY[1], "docs.bin", np.arange(len(vectors)), vectors)
        lake = _lake(files)
        lake.prime(KEY)
        lake.save_cache_to_dir(KEY, folder)
        best = np.full(20, np.inf)
        for _ in range(rounds):
            lake = _lake(files)
            lake.warm_from_dir(KEY, folder)
            for i, query in enumerate(queries[: len(best)]):
                best[i] = min(best[i], _seconds(lake.search_one, KEY[1], query, K))
            assert lake.cache_stats().primes == 0
    ratio = float(best[0] / np.median(best[1:]))
    yield _record("first search after a warm start over the next", ratio, False, 1.5)


# ---- threads -----------------------------------------------------------------------


def _threads(
    backend: LocalBackend, vectors: np.ndarray, queries: np.ndarray, rounds: int
) -> Iterable[dict[str, Any]]:
    lake = _lake(backend)
    lake.prime(KEY)

    def search(turned: int) -> None:
        for query in np.roll(queries, turned, axis=0):
            lake.search_one(KEY[1], query, K)

    def together() -> None:
        """Every thread asks everything: long enough for the last one not to matter."""
        threads = [
            threading.Thread(target=search, args=(i * len(queries) // THREADS,))
            for i in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    ratio = THREADS * _best(lambda: search(0), rounds) / _best(together, rounds)
    yield _record(f"throughput of {THREADS} threads over one", ratio, True, 1.8)


# ---- event loops -------------------------------------------------------------------


class _Lag:
    """The longest the event loop has kept a task waiting beyond its time."""

    def __init__(self) -> None:
        self.worst = 0.0

    async def watch(self, step: float = 0.001) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + step
            await asyncio.sleep(step)
            self.worst = max(self.worst, loop.time() - due)


def _awaits(
    backend: LocalBackend, vectors: np.ndarray, queries: np.ndarray, rounds: int
) -> Iterable[dict[str, Any]]:
    lake = _lake(backend)
    lake.prime(KEY)
    few = queries[:AWAITS]

    lags: list[float] = []

    def plain() -> None:
        for query in few:
            lake.search_one(KEY[1], query, K)

    async def gather() -> float:
        start = perf_counter()
        await asyncio.gather(*[lake.search_one_async(KEY[1], q, K) for q in few])
        return perf_counter() - start

    async def in_turn() -> float:
        start = perf_counter()
        for query in few:
            await lake.search_one_async(KEY[1], query, K)
        return perf_counter() - start

    async def beside_calls(best: np.ndarray) -> None:
        loop = asyncio.get_running_loop()
        for i, query in enumerate(few):
            best[0, i] = min(best[0, i], _seconds(lake.search_one, KEY[1], query, K))
            start = perf_counter()
            await lake.search_one_async(KEY[1], query, K)
            best[1, i] = min(best[1, i], perf_counter() - start)
            start = perf_counter()
            await loop.run_in_executor(None, lake.search_one, KEY[1], query, K)
            best[2, i] = min(best[2, i], perf_counter() - start)

    async def one_by_one() -> None:
        """Making 100 tasks in one callback takes 5 ms in debug mode by itself."""
        tasks = []
        for query in few:
            tasks.append(asyncio.ensure_future(lake.search_one_async(KEY[1], query, K)))
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)

    async def watched() -> None:
        lag = _Lag()
        watcher = asyncio.ensure_future(lag.watch())
        await gather()
        watcher.cancel()
        lags.append(lag.worst * 1e3)

    # What has been imported so far is not to be looked through by each collection.
    gc.collect()
    gc.freeze()
    best = np.full((3, len(few)), np.inf)
    together = awaits = calls = np.inf
    for _ in range(4 * rounds):
        calls = min(calls, _seconds(plain))
        together = min(together, asyncio.run(gather()))
        awaits = min(awaits, asyncio.run(in_turn()))
        asyncio.run(beside_calls(best))
        asyncio.run(watched())
    extra = np.median(best[1:] - best[0], axis=1) * 1e6
    many = f"{AWAITS} awaits together over"
    yield _record(f"{many} one after the other", together / awaits, False, 0.5)
    yield _record(f"{many} as many calls that block", together / calls, False, 0.5)
    lone = _record("a lone await beside a call", float(extra[0]), False, 50, "us")
    yield {**lone, "the call in an executor, awaited us": float(extra[1])}
    lag = _record("lag of the event loop meanwhile", max(lags), False, LAG_MS, "ms")
    yield {**lag, "median of rounds ms": float(np.median(lags))}
    reports: list[str] = []  # of a mode that costs time itself, so in rounds of their own
    for _ in range(rounds):
        runner(asyncio.new_event_loop, reports, LAG_MS)(one_by_one())
    gc.unfreeze()
    for line in reports:
        report.say(f"  blocked: {line}")
    yield _record("callbacks the loop's debug mode reports", len(reports), False, 0, "callbacks")


# ---- shards ------------------------------------------------------------------------


def _primes(
    backend: LocalBackend, vectors: np.ndarray, queries: np.ndarray, rounds: int
) -> Iterable[dict[str, Any]]:
    """Two cold shards searched together, over priming one after the other with as many
    threads as one of two gets."""
    halves = np.array_split(vectors, 2)
    backends = [LocalBackend(f"half-{i}") for i in range(2)]
    for half, part in zip(halves, backends):
        part.put_collection("docs", np.arange(len(half)), half)

    def cold() -> RuLake:
        lake = RuLake()
        for part in backends:
            lake.register_backend(part)
        return lake

    def one_after_the_other(lake: RuLake) -> None:
        for part in backends:
            lake.prime((part.id, "docs"))

    def together(lake: RuLake) -> None:
        lake.search_federated("docs", queries[0], K)

    best = np.full(2, np.inf)
    for _ in range(3 * rounds):
        one, two = cold(), cold()
        ruvector.set_num_threads(1)
        best[0] = min(best[0], _seconds(one_after_the_other, one))
        ruvector.set_num_threads(0)
        together(cold())  # starts the threads
        best[1] = min(best[1], _seconds(together, two))
    ratio = float(best[0] / best[1])
    yield _record("prime of 2 shards at once over one by one on one thread", ratio, True, 1.7)


if __name__ == "__main__":
    main()
