"""Every entry point, many times, in success and in error: nothing is left behind.

Objects are counted by reference counts and by what Python's allocator holds; memory
of the library by the resident size of the process.
"""

from __future__ import annotations

import gc
import os
import pickle
import sys

import numpy as np
import pytest
import ruvector
from leaks import attempt, forget_lookups, leak
from oracle import build

ROUNDS = 100


@pytest.fixture
def vectors(rng):
    return rng.standard_normal((30, 8)).astype(np.float32)


def calls(cls, idx, vectors, path):
    """Name -> call. Each leaves the index as it was."""
    ids = np.arange(30, dtype=np.uint64)
    signed, listed = ids.astype(np.int64), ids.tolist()
    mask = np.ones(30, bool)
    masked = np.ma.masked_array(vectors.astype(int), vectors > 0)
    data = idx.to_bytes()
    idx.save(path)

    def boom(done, total):
        raise RuntimeError

    def grow_and_shrink():
        id = idx.add(None, vectors[0])
        idx.add_batch(vectors[:2], ids=[900, 901])
        idx.upsert([900], vectors[:1])
        assert idx.remove([id, 900, 901]) == 3
        idx.vacuum()

    return {
        "build": lambda: cls.build(vectors, ids=ids, progress=lambda d, t: None),
        "build from lists": lambda: cls.build(vectors.tolist(), ids=listed, metric="ip"),
        "build refused": lambda: cls.build(vectors.astype(float)),
        "build refused by layout": lambda: cls.build(vectors[:, ::2]),
        "build refused by ids": lambda: cls.build(vectors, ids=[1, -1]),
        "build with duplicates": lambda: cls.build(vectors, ids=np.zeros(30, int)),
        "build stopped": lambda: cls.build(vectors, progress=boom),
        "build refused by option": lambda: cls.build(vectors, metric="none"),
        "build with bits": lambda: cls.build(vectors, bits=4, n_lists=3),
        "build refused by bits": lambda: cls.build(vectors, bits=9),
        "build refused by lists": lambda: cls.build(vectors, n_lists=2**17),
        "search": lambda: idx.search(vectors[0]),
        "search for many": lambda: idx.search(vectors[0], k=1000),
        "search in ids": lambda: idx.search(vectors[0], allow=signed),
        "search in a set": lambda: idx.search(vectors[0], allow={1, 2, 3}),
        "search in a mask": lambda: idx.search(vectors[0], allow=mask, allow_version=idx.version),
        "search in a list mask": lambda: idx.search(
            vectors[0], allow=mask.tolist(), allow_version=idx.version
        ),
        "search in an old mask": lambda: idx.search(vectors[0], allow=mask, allow_version=1),
        "search in ids of no row": lambda: idx.search(vectors[0], allow=-1 - signed),
        "search in objects": lambda: idx.search(vectors[0], allow=signed.astype(object)),
        "search in flags": lambda: idx.search(vectors[0], allow=mask.astype(np.uint8)),
        "search in masked ids": lambda: idx.search(vectors[0], allow=masked[0]),
        "search for doubles": lambda: idx.search(vectors[:1].astype(float)),
        "search for halves": lambda: idx.search(vectors[0].astype(np.float16)),
        "search for a huge number": lambda: idx.search(np.full(vectors.shape[1], 1e300)),
        "search for masked": lambda: idx.search_batch(masked),
        "build converted": lambda: cls.build(np.asfortranarray(vectors, float), convert=True),
        "build of objects": lambda: cls.build(np.array([None, *vectors], object)[1:]),
        "search in some lists": lambda: idx.search(vectors[0], nprobe=2),
        "search in all lists": lambda: idx.search(vectors[0], nprobe="all"),
        "search refused by nprobe": lambda: idx.search(vectors[0], nprobe="some"),
        "tune": lambda: type(idx).from_bytes(data).tune(vectors, k=2, recall=0.8),
        "tune refused": lambda: idx.tune(vectors[:1]),
        "tune refused by recall": lambda: idx.tune(vectors, recall="all"),
        "tune stopped": lambda: idx.tune(vectors, progress=boom),
        "search refused": lambda: idx.search(vectors[0, :3].copy()),
        "search refused by k": lambda: idx.search(vectors[0], k=0),
        "search refused by allow": lambda: idx.search(vectors[0], allow=mask[:3]),
        "search refused by type": lambda: idx.search("query"),
        "batch": lambda: idx.search_batch(
            vectors, allow=np.ones((30, 30), bool), allow_version=idx.version
        ),
        "batch refused": lambda: idx.search_batch(vectors, k=2**62),
        "batch stopped": lambda: idx.search_batch(vectors, progress=boom),
        "change": grow_and_shrink,
        "add refused": lambda: idx.add(3, vectors[0]),
        "add_batch refused": lambda: idx.add_batch(vectors, ids=ids),
        "add_batch stopped": lambda: idx.add_batch(vectors, progress=boom),
        "upsert refused": lambda: idx.upsert([1, 1], vectors[:2]),
        "remove refused": lambda: idx.remove(["x"]),
        "remove nothing": lambda: idx.remove(10**6),
        "save": lambda: idx.save(path),
        "save refused": lambda: idx.save(path / "none"),
        "load": lambda: cls.load(path),
        "load refused": lambda: cls.load(path.parent / "none"),
        "to_bytes": lambda: idx.to_bytes(),
        "from_bytes": lambda: cls.from_bytes(data),
        "from_bytes refused": lambda: cls.from_bytes(data[:-1]),
        "from_bytes of another class": lambda: [
            attempt(lambda c=c: c.from_bytes(data))
            for c in (ruvector.FlatF32Index, ruvector.RabitqIndex)
        ],
        "pickle": lambda: pickle.loads(pickle.dumps(idx, 5)),
        "subscript": lambda: idx[3],
        "subscript refused": lambda: idx[10**6],
        "contains": lambda: (3 in idx, 10**6 in idx, -1 in idx),
        "iterate": lambda: list(idx),
        "iterate a little": lambda: next(iter(idx)),
        "array": lambda: np.asarray(idx),
        "array of float64": lambda: np.asarray(idx, dtype=np.float64),
        "array copied": lambda: idx.__array__(copy=True),
        "array refused": lambda: idx.__array__(np.float64, copy=False),
        "columns": lambda: (idx.ids, idx.norms, getattr(idx, "codes", None)),
        "attributes": lambda: [getattr(idx, n) for n in dir(idx) if not n.startswith("_")],
        "rotation": lambda: idx.rotation(),
        "memory": lambda: (idx.memory_bytes, idx.memory_usage(), len(idx), repr(idx)),
        "compare": lambda: (idx == idx, idx != cls.build(vectors), idx == 3),
        "call": lambda: cls(),
        "functions": lambda: (ruvector.cpu_features(), ruvector.set_num_threads(0)),
        "functions refused": lambda: ruvector.set_num_threads(-1),
    }


def test_no_call_leaves_objects_behind(cls, vectors, tmp_path):
    idx = build(cls, vectors)
    core = sys.modules["ruvector._core"]
    values = (cls, idx, vectors, core, ruvector.Hit, ruvector.PersistError, float)
    gc.collect()
    gc.freeze()  # what other tests left alive need not be looked at again and again
    try:
        leaking = {
            name: left
            for name, function in calls(cls, idx, vectors, tmp_path / "index.rbpx").items()
            if (left := leak(function, ROUNDS, values))
        }
    finally:
        gc.unfreeze()
    assert not leaking


@pytest.mark.extras
def test_what_counts_as_a_leak(vectors):
    kept = []
    assert leak(lambda: kept.append(float(len(kept))), ROUNDS, ())
    assert leak(lambda: kept.append(vectors), ROUNDS, (vectors,))
    assert not leak(lambda: pickle.loads(pickle.dumps(vectors)), ROUNDS, (vectors,))


def test_names_the_interpreter_remembers_are_no_leak(vectors):
    name = "".join(("no ", "attribute"))
    references = sys.getrefcount(name)
    hasattr(vectors, name)
    forget_lookups()
    assert sys.getrefcount(name) == references


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_no_call_leaves_memory_of_the_library_behind(cls, rng, tmp_path):
    vectors = rng.standard_normal((4_000, 64)).astype(np.float32)  # 1 MB
    idx = build(cls, vectors)
    path = tmp_path / "index.rbpx"
    idx.save(path)
    data = idx.to_bytes()
    mask = np.ones(4_000, bool)

    def stop(done, total):
        raise RuntimeError

    def everything():
        build(cls, vectors)
        attempt(lambda: cls.build(vectors, progress=stop))
        attempt(lambda: cls.build(vectors, ids=np.zeros(4_000, int)))
        idx.search(vectors[0], k=3_000, allow=mask, allow_version=idx.version)
        idx.search_batch(vectors[:20], k=100)
        attempt(lambda: idx.search_batch(vectors[:20], progress=stop))
        cls.load(path).search(vectors[0])
        cls.load(path, mmap=False)
        cls.from_bytes(data).add(None, vectors[0])
        attempt(lambda: cls.from_bytes(data[:-1]))
        attempt(lambda: next(iter(idx)))
        attempt(lambda: np.asarray(idx))
        new = idx.add_batch(vectors)
        idx.upsert(new[:2_000], vectors[:2_000])
        idx.remove(new)
        idx.vacuum()

    for _ in range(5):
        everything()
    before = resident_bytes()
    for _ in range(60):
        everything()
    assert resident_bytes() - before < 20e6
