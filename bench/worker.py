"""One index in a process of its own: memory is its alone, and so are its threads.

Started by bench.index as `python -m bench.worker NAME`. Reads one JSON command a line
from standard input and answers each with one JSON line.
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

from .peers import ALL
from .recall import recall

# A timing stops after this many seconds, with the queries answered by then.
TIMING_SECONDS = 3.0


class Worker:
    def __init__(self, name: str) -> None:
        self._name = name

    def build(self, folder: str, threads: int) -> dict:
        """Builds the index of base.npy in `folder` and asks it once, since some lay
        out their data for the first query only."""
        data = {
            part: np.load(Path(folder, f"{part}.npy"), mmap_mode="r")
            for part in ("base", "queries", "distances")
        }
        self._base = np.asarray(data["base"])
        self._queries = np.array(data["queries"])
        self._distances = np.array(data["distances"])
        self._adapter = ALL[self._name](threads)
        before = _private_bytes()
        start = time.perf_counter()
        self._adapter.build(self._base)
        self._adapter.threads(1)
        self._adapter.set(self._adapter.values[0])
        self._adapter.one(self._queries[0], 1)
        seconds = time.perf_counter() - start
        rss = _private_bytes()
        return {
            "package": self._adapter.package,
            "version": self._adapter.version(),
            "build_seconds": seconds,
            "build_threads": threads,
            "bytes": self._adapter.bytes(),
            "rss_bytes": None if rss is None or before is None else rss - before,
            "keeps_vectors": self._adapter.vectors,
        }

    def recall(self, value: Any, k: int) -> dict:
        """Recall with the search parameter at `value`; also warms up."""
        self._adapter.threads(1)
        self._adapter.set(value)
        rows = self._adapter.many(self._queries, k)
        kth = self._distances[:, k - 1]
        return {"recall": recall(rows, self._base, self._queries, kth)}

    def single(self, value: Any, k: int) -> dict:
        """One query a call, one thread."""
        self._adapter.threads(1)
        self._adapter.set(value)
        one, clock, times = self._adapter.one, time.perf_counter, []
        end = clock() + TIMING_SECONDS
        for query in self._queries:
            start = clock()
            one(query, k)
            now = clock()
            times.append(now - start)
            if now > end:
                break
        p50, p99 = np.percentile(times, [50, 99]) * 1e6
        return {"qps": len(times) / sum(times), "p50_us": p50, "p99_us": p99}

    def batch(self, value: Any, k: int, threads: int, queries: int) -> dict:
        """The first `queries` queries in one call."""
        self._adapter.threads(threads)
        self._adapter.set(value)
        batch = self._queries[:queries]
        start = time.perf_counter()
        self._adapter.many(batch, k)
        return {"qps": len(batch) / (time.perf_counter() - start)}


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
