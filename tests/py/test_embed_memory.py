"""Memory does not grow with the corpus."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from installed import MINILM, need
from letters import DIM, make


def test_our_own_memory_does_not_depend_on_the_number_of_texts() -> None:
    rng = np.random.default_rng(5)
    lengths = np.clip(rng.lognormal(2, 1, 20_000), 1, 300).astype(int)
    out = np.empty((len(lengths), DIM), dtype=np.float32)
    made = make(threads=2)
    peaks: list[tuple[int, int]] = []

    def texts() -> Iterator[str]:
        for row, length in enumerate(lengths):
            if row % 5000 == 0 and row:
                peaks.append((row, tracemalloc.get_traced_memory()[1]))
                tracemalloc.reset_peak()
            yield "x" * length

    gc.collect()
    tracemalloc.start()
    try:
        made.embed_batch(texts(), out=out, progress=False)
    finally:
        tracemalloc.stop()
    first, *others = (peak for _, peak in peaks)
    assert len(others) == 2
    assert max(others) < 1.1 * first


# Passes over the same number of texts, each of other lengths: what a run needs is there
# after the first ones, and any later growth is a leak or a cache without bound. On one
# thread, because on two it takes another step whenever two long batches meet for the first
# time. A session that remembers shapes grows by 14 MB from the third pass to the last.
PASSES = """
import sys
import numpy as np
from ruvector import Embedder

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 1e6

embedder = Embedder.from_pretrained(
    "all-MiniLM-L6-v2", cache_dir=sys.argv[1], local_files_only=True, threads=1
)
out = np.zeros((150, 384), np.float32)
rng = np.random.default_rng(7)
for turn in range(8):
    lengths = np.clip(rng.lognormal(2, 0.9, 150), 1, 120).astype(int)
    embedder.embed_batch((" ".join(["word"] * n) for n in lengths), out=out)
    print(resident())
"""


@pytest.mark.extras
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_resident_memory_is_flat(run_python, tmp_path) -> None:
    need(*MINILM)
    done = run_python(PASSES, str(tmp_path), HF_HUB_CACHE=str(tmp_path))
    assert done.returncode == 0, done.stderr
    megabytes = [float(line) for line in done.stdout.split()]
    assert len(megabytes) == 8
    assert megabytes[-1] - megabytes[2] < 8, megabytes
