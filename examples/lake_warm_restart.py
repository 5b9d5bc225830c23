#!/usr/bin/env python3
"""A service that restarts without building its index again.

    python examples/lake_warm_restart.py [FOLDER]

The first run writes 50,000 vectors to a file, searches them through a lake, which builds an
index, and saves that. Every later run reads the index back in a few milliseconds, checks
that it belongs to the file as it is now, and answers at once. Then some rows change, and
the next search notices.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import ruvector

ROWS, DIM, K = 50_000, 128, 5
KEY = ("files", "docs")


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="lake-"))
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((ROWS, DIM), dtype=np.float32)
    queries = vectors[:200] + 0.1 * rng.standard_normal((200, DIM), dtype=np.float32)
    files = ruvector.FsBackend("files", folder / "vectors")
    if not (folder / "vectors" / "docs.bin").exists():
        files.write("docs", "docs.bin", np.arange(ROWS), vectors)

    print(f"First life, in {folder}")
    lake = new_lake(files)
    took = timed(lambda: lake.search_one("docs", queries[0], K))
    print(f"  first search, with the build   {took:9.2f} ms")
    expected = lake.search_batch("docs", queries, K)
    lake.save_cache_to_dir(KEY, folder / "snapshot")

    print("Second life: a new lake, the same folder")
    lake = new_lake(files)
    took = timed(lambda: lake.warm_from_dir(KEY, folder / "snapshot"))
    print(f"  reading and checking the index {took:9.2f} ms")
    times = [timed(lambda q=q: lake.search_one("docs", q, K)) for q in queries]
    print(f"  first search                   {times[0]:9.2f} ms")
    print(f"  median of the next {len(times) - 1}         {np.median(times[1:]):9.2f} ms")
    print(f"  indexes built: {lake.cache_stats().primes}")
    print(f"  the same answers to the bit: {lake.search_batch('docs', queries, K) == expected}")

    print("The file changes")
    vectors[7] += 9
    files.write("docs", "docs.bin", np.arange(ROWS), vectors)
    (hit,) = lake.search_one("docs", vectors[7], 1)
    print(f"  id {hit.id} found at distance {hit.score}; built again: {lake.cache_stats().primes}")
    vectors[7] -= 9
    files.write("docs", "docs.bin", np.arange(ROWS), vectors)  # for the next run


def new_lake(files: ruvector.FsBackend) -> ruvector.RuLake:
    files.register("docs", "docs.bin")
    lake = ruvector.RuLake.builder().consistency(ruvector.Consistency.FRESH).build()
    lake.register_backend(files)
    return lake


def timed(function) -> float:
    """Milliseconds."""
    start = time.perf_counter()
    function()
    return 1e3 * (time.perf_counter() - start)


if __name__ == "__main__":
    main()
