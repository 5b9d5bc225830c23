"""Calls made from inside calls: the table of docs/threading.md, cell by cell.

``python callback_cells.py COLUMN SITUATION`` makes every call of the column's part of the
table in one situation and prints ``{call: "works" or "raises X"}`` as JSON. A call that
hangs ends the process with the stacks of all threads.
"""

from __future__ import annotations

import asyncio
import copy
import faulthandler
import json
import os
import pickle
import signal
import sys
import tempfile
from pathlib import Path

import numpy as np
import ruvector

HANGS_S = 60
RNG = np.random.default_rng(1)
ROWS = RNG.standard_normal((3000, 16), dtype=np.float32)
MORE = RNG.standard_normal((30_000, 16), dtype=np.float32)
QUERIES = ROWS[:64]
FOLDER = Path(tempfile.mkdtemp())


def outcome(call, *args):
    try:
        call(*args)
    except Exception as error:
        return f"raises {type(error).__name__}"
    return "works"


# ---- an index ----------------------------------------------------------------------


def ask(idx):
    assert len(idx) >= 2999
    assert idx.dim == 16
    assert 3 in idx
    assert np.array_equal(idx[3], ROWS[3])
    assert len(idx.ids) == len(idx.norms) == len(idx.codes) == len(np.asarray(idx))
    assert next(iter(idx))[0] == 0
    assert idx == idx
    assert repr(idx)
    assert idx.memory_usage()


def searches(idx):
    assert idx.search(ROWS[3], k=1)[0].id == 3
    ids, _ = idx.search_batch(QUERIES, k=1)
    assert np.array_equal(ids[:, 0], np.arange(64))
    idx.search_batch(QUERIES, k=1, allow=[3, 4], progress=lambda done, total: None)


def saves(idx):
    idx.save(FOLDER / "own.rbpx")


def copies(idx):
    assert len(pickle.loads(pickle.dumps(idx))) >= 2999
    assert copy.copy(idx) is not idx
    assert idx.to_bytes()


def another(idx):
    other = ruvector.RabitqPlusIndex.build(ROWS, progress=lambda done, total: None)
    other.add_batch(ROWS, progress=lambda done, total: None)
    other.remove([3])
    other.vacuum()
    other.save(FOLDER / "other.rbpx")
    assert len(ruvector.RabitqPlusIndex.load(FOLDER / "other.rbpx")) == 5999


def through_lake(idx):
    lake = ruvector.RuLake(consistency=ruvector.Consistency.STALE)
    lake.install(("own", "docs"), idx)
    assert lake.search_one("docs", ROWS[3], k=1, backend="own")[0].id == 3
    assert len(lake.search_batch("docs", QUERIES, k=1, backend="own")) == 64
    found = lake.search_federated(None, ROWS[3], 1, targets=[("own", "docs")])
    assert found[0].id == 3
    found = asyncio.run(lake.search_one_async("docs", ROWS[3], k=1, backend="own"))
    assert found[0].id == 3


OF_INDEX = {
    "`len`, `in`, `idx[id]`, `iter`, `==`, arrays, properties": ask,
    "`search`, `search_batch`": searches,
    "searches of it through a lake, also awaited": through_lake,
    "`add`": lambda idx: idx.add(None, ROWS[0]),
    "`add_batch`": lambda idx: idx.add_batch(ROWS[:9]),
    "`upsert`": lambda idx: idx.upsert([5], ROWS[5:6]),
    "`remove`": lambda idx: idx.remove([2999]),
    "`vacuum`": lambda idx: idx.vacuum(),
    "`tune`": lambda idx: idx.tune(QUERIES, k=1),
    "`save`": saves,
    "`to_bytes`, `pickle`, `copy`": copies,
    "everything of another index": another,
    "`set_num_threads`": lambda idx: ruvector.set_num_threads(3),
}


class Once:
    """Makes all calls of a part of the table, at the first of many occasions."""

    def __init__(self, calls, *args):
        self.calls, self.args = calls, args
        self.outcomes = {}

    def __call__(self, *_):
        if not self.outcomes:
            self.outcomes = dict.fromkeys(self.calls, "?")
            self.outcomes = {n: outcome(call, *self.args) for n, call in self.calls.items()}


def index():
    return ruvector.RabitqPlusIndex.build(ROWS)


def by_progress(make):
    idx = index()
    calls = Once(OF_INDEX, idx)
    make(idx, calls)
    return calls.outcomes


def by_signal(make):
    """No progress callback: the handler runs where a report would."""
    idx = index()
    calls = Once(OF_INDEX, idx)
    signal.signal(signal.SIGALRM, calls)
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    make(idx, None)
    return calls.outcomes


class Owned(bytearray):
    def __del__(self):
        self.calls()


def by_destructor(change):
    data = Owned(index().to_bytes())
    idx = ruvector.RabitqPlusIndex.from_bytes(data)
    data.calls = Once(OF_INDEX, idx)
    outcomes = data.calls
    del data
    change(idx)
    return outcomes.outcomes


def remove_most(idx):
    """As many as make the index vacuum itself."""
    idx.remove([2998])
    idx.vacuum()


SLOW = np.tile(MORE, (10, 1))
INDEX_SITUATIONS = {
    "free": {
        "build": lambda: by_progress(
            lambda idx, p: ruvector.RabitqPlusIndex.build(MORE, progress=p)
        ),
        "search_batch": lambda: by_progress(
            lambda idx, p: idx.search_batch(MORE[:5000], k=1, progress=p)
        ),
        "tune": lambda: by_progress(lambda idx, p: idx.tune(MORE[:100], k=5, progress=p)),
    },
    "writing": {
        "add_batch": lambda: by_progress(lambda idx, p: idx.add_batch(MORE, progress=p)),
        "upsert": lambda: by_progress(lambda idx, p: idx.upsert(range(30_000), MORE, progress=p)),
        "signal": lambda: by_signal(lambda idx, p: idx.add_batch(SLOW, progress=p)),
        "destructor of add": lambda: by_destructor(lambda idx: idx.add(None, ROWS[0])),
        "destructor of vacuum": lambda: by_destructor(remove_most),
    },
}
if os.name != "posix":
    del INDEX_SITUATIONS["writing"]["signal"]


# ---- a lake ------------------------------------------------------------------------


class Adapter(ruvector.BackendAdapter):
    def __init__(self, name, inside=None):
        self.name, self.inside = name, {} if inside is None else inside

    @property
    def id(self):
        return self.name

    def met(self, method):
        self.inside.get(method, lambda: None)()

    def list_collections(self):
        self.met("list")
        return ["c", "d"] if self.name == "a" else ["e"]

    def generation(self, collection):
        self.met("generation")
        return 1

    def pull_vectors(self, collection):
        self.met("pull")
        return ruvector.PulledBatch(range(3000), ROWS, 16, 1)


def awaited(lake, collection):
    hits = asyncio.run(lake.search_one_async(collection, ROWS[3], k=1, backend="a"))
    assert hits[0].id == 3


def others(lake):
    assert lake.search_one("d", ROWS[3], k=1, backend="a")[0].id == 3
    assert len(lake.search_batch("l", QUERIES, k=1, backend="local")) == 64
    targets = [("a", "d"), ("b", "e"), ("local", "l")]
    assert lake.search_federated(None, ROWS[3], 1, targets=targets)[0].id == 3
    awaited(lake, "d")
    with lake.session() as session:
        assert session.search_one("l", ROWS[3], k=1, backend="local")[0].id == 3


def knows(lake):
    lake.cache_stats()
    lake.cache_stats_by_collection()
    lake.cache_entry(("a", "d"))
    lake.cache_entry_count()
    lake.backend_ids()
    assert repr(lake)
    assert ("a", "nothing") not in lake


def files(lake):
    lake.publish_bundle(("local", "l"), FOLDER)
    lake.refresh_from_bundle_dir(("local", "l"), FOLDER)
    lake.save_cache_to_dir(("local", "l"), FOLDER)
    lake.warm_from_dir(("local", "l"), FOLDER)


def writes(lake):
    lake._backend("local").upsert("l", [3], ROWS[3:4])
    lake._backend("local").put_collection("new", range(3000), ROWS)


OF_LAKE = {
    "searches of other collections, also awaited": others,
    "`search_one`": lambda lake: lake.search_one("c", ROWS[3], k=1, backend="a"),
    "`search_batch`": lambda lake: lake.search_batch("c", QUERIES, k=1, backend="a"),
    "`search_federated`": lambda lake: lake.search_federated(
        None, ROWS[3], 1, targets=[("a", "c"), ("b", "e")]
    ),
    "`search_one_async`": lambda lake: awaited(lake, "c"),
    "`prime`": lambda lake: lake.prime(("a", "c")),
    "`cache_stats` and other questions": knows,
    "`install`": lambda lake: lake.install(("own", "o"), index()),
    "`register_backend`": lambda lake: lake.register_backend(ruvector.LocalBackend("more")),
    "files of other collections": files,
    "changes of a `LocalBackend`": writes,
    "`invalidate_cache`": lambda lake: lake.invalidate_cache(("a", "c")),
}


def lake_with(inside=None):
    lake = ruvector.RuLake()
    local = ruvector.LocalBackend("local")
    local.put_collection("l", range(3000), ROWS)
    for backend in (Adapter("a", inside), Adapter("b"), local):
        lake.register_backend(backend)
    return lake


def in_adapter(method, search):
    inside = {}
    lake = lake_with(inside)
    calls = Once(OF_LAKE, lake)
    inside[method] = calls
    search(lake)
    return calls.outcomes


BOTH = [("a", "c"), ("b", "e")]


def while_loading(collection="c"):
    """Of the index that is built, before the first search."""
    lake = lake_with()
    calls = Once(OF_LAKE, lake)
    lake.search_batch(collection, QUERIES, k=1, backend="a", progress=calls)
    return calls.outcomes


def while_searching():
    lake = lake_with()
    lake.prime(("a", "c"))
    calls = Once(OF_LAKE, lake)
    lake.search_batch("c", MORE[:5000], k=1, backend="a", progress=calls)
    return calls.outcomes


LAKE_SITUATIONS = {
    "asked": {
        "generation": lambda: in_adapter(
            "generation", lambda lake: lake.search_one("c", ROWS[3], k=1, backend="a")
        ),
        "pull": lambda: in_adapter(
            "pull", lambda lake: lake.search_one("c", ROWS[3], k=1, backend="a")
        ),
        "pull, federated": lambda: in_adapter(
            "pull", lambda lake: lake.search_federated(None, ROWS[3], 1, targets=BOTH)
        ),
        "pull, awaited": lambda: in_adapter("pull", lambda lake: awaited(lake, "c")),
        "progress": while_loading,
    },
    "searching": {"progress": while_searching},
}

COLUMNS = {**INDEX_SITUATIONS, **LAKE_SITUATIONS}


def main(column, situation):
    faulthandler.dump_traceback_later(HANGS_S, exit=True)
    ruvector.set_num_threads(4)
    print(json.dumps(COLUMNS[column][situation]()))


if __name__ == "__main__":
    main(*sys.argv[1:])
