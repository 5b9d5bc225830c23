"""One index in a process of its own: memory is its alone, and so are its threads.

Started by bench.workers as `python -m bench.worker NAME`. Reads one JSON command a line
from standard input and answers each with one JSON line. Every other query is for
choosing settings, those between are for reporting.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from .adapter import Adapter
from .indexes import ALL, MANY_ROWS
from .recall import recall

# Timings stop after this many seconds, with the queries answered by then.
CHOICE_SECONDS = 0.08
TIMING_SECONDS = 0.4
# A shorter build is repeated, and the second one counts.
REPEATED_SECONDS = 2.0
CHOICE, REPORT = slice(0, None, 2), slice(1, None, 2)


class Worker:
    def __init__(self, name: str) -> None:
        self._name = name

    def build(self, folder: str, threads: int) -> dict:
        """Builds the index of base.npy in `folder`."""
        data = {
            part: np.load(Path(folder, f"{part}.npy"), mmap_mode="r")
            for part in ("base", "queries", "distances")
        }
        self._base = np.asarray(data["base"])
        self._queries = np.array(data["queries"])
        self._distances = np.array(data["distances"])
        adapter = self._make(threads)
        if adapter.unit_rows_only and not self._unit_rows():
            raise ValueError("it knows inner products only, and these vectors differ in length")
        times = {"build_seconds_1": None}
        if adapter.cheap_build and threads > 1 and len(self._base) <= MANY_ROWS:
            # The first build also warms up, which counts where it is short.
            first = self._build(self._make(1))
            short = first < REPEATED_SECONDS
            times["build_seconds_1"] = self._build(self._make(1)) if short else first
        before = _private_bytes()
        cpu = time.process_time()
        times["build_seconds"] = self._build(adapter)
        times["build_cpu_seconds"] = time.process_time() - cpu
        rss = _private_bytes()
        self._adapter = adapter
        return {
            "package": adapter.package,
            "version": adapter.version(),
            **times,
            "build_threads": threads,
            "bytes": adapter.bytes(),
            "rss_bytes": None if rss is None or before is None else rss - before,
            "keeps_vectors": adapter.vectors,
            "bits": adapter.bits,
        }

    def _make(self, threads: int) -> Adapter:
        return ALL[self._name](threads)

    def _build(self, adapter: Adapter) -> float:
        """Seconds to the first answer: some lay out their data for the first query only."""
        start = time.perf_counter()
        adapter.build(self._base)
        adapter.threads(1)
        adapter.set(adapter.settings(1)[0][0])
        adapter.one(self._queries[0], 1)
        return time.perf_counter() - start

    def _unit_rows(self) -> bool:
        lengths = np.linalg.norm(self._base[:1000], axis=1)
        return bool(np.allclose(lengths, 1, atol=1e-3))

    def settings(self, k: int) -> list:
        return self._adapter.settings(k)

    def choice(self, setting: Any, k: int) -> dict:
        """Recall and speed on the queries for choosing."""
        found = self._recall(setting, k, CHOICE)
        queries = self._queries[CHOICE]
        best, end = 0.0, time.perf_counter() + CHOICE_SECONDS
        while time.perf_counter() < end:
            times = self._one_by_one(queries, k, end)
            best = max(best, len(times) / sum(times))
            if len(times) < len(queries):
                break
        return {"recall": found, "qps": best}

    def recall(self, setting: Any, k: int) -> dict:
        return {"recall": self._recall(setting, k, REPORT)}

    def single(self, setting: Any, k: int) -> dict:
        """One query a call, one thread."""
        self._use(setting, 1)
        end = time.perf_counter() + TIMING_SECONDS
        times = self._one_by_one(self._queries[REPORT], k, end)
        p50, p99 = np.percentile(times, [50, 99]) * 1e6
        return {"qps": len(times) / sum(times), "p50_us": p50, "p99_us": p99}

    def batch(self, setting: Any, k: int, threads: int, queries: int) -> dict:
        """The first `queries` queries in one call."""
        self._use(setting, threads)
        batch = np.ascontiguousarray(self._queries[REPORT][:queries])
        start = time.perf_counter()
        self._adapter.many(batch, k)
        return {"qps": len(batch) / (time.perf_counter() - start)}

    def _use(self, setting: Any, threads: int) -> None:
        self._adapter.threads(threads)
        self._adapter.set(setting)

    def _recall(self, setting: Any, k: int, part: slice) -> float:
        self._use(setting, 1)
        queries = np.ascontiguousarray(self._queries[part])
        rows = self._adapter.many(queries, k)
        return recall(rows, self._base, queries, self._distances[part, k - 1])

    def _one_by_one(self, queries: np.ndarray, k: int, end: float) -> list[float]:
        one, clock, times = self._adapter.one, time.perf_counter, []
        for query in queries:
            start = clock()
            one(query, k)
            now = clock()
            times.append(now - start)
            if now > end:
                break
        return times


def _private_bytes() -> int | None:
    """Memory of this process that is no file's, free heap given back first."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        status = Path("/proc/self/status").read_text()
    except (AttributeError, OSError):
        return None
    return 1024 * int(status.split("RssAnon:")[1].split()[0])


def main() -> None:
    # Libraries may print: they get standard error, the answers the real output.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker(sys.argv[1])
    for line in sys.stdin:
        command, arguments = json.loads(line)
        try:
            answer = getattr(worker, command)(**arguments)
        except Exception as failure:
            answer = {"error": f"{type(failure).__name__}: {failure}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
