"""Every sort of exception from every callback of indexes and lakes.

``python exception_cases.py PART`` prints the combinations in which what came out was not what
went in, or something was changed or left behind. A hang ends it with the stacks of all threads.
"""

from __future__ import annotations

import asyncio
import faulthandler
import itertools
import sys
import threading

import numpy as np
import ruvector

HANGS_S = 120
ROWS = np.random.default_rng(2).standard_normal((3000, 16), dtype=np.float32)


class Own(BaseException):
    """Of nobody's tree but the root."""


KINDS = [
    ValueError,
    MemoryError,
    StopIteration,
    StopAsyncIteration,
    RecursionError,
    GeneratorExit,
    KeyboardInterrupt,
    SystemExit,
    asyncio.CancelledError,
    Own,
]


def raised_by(call):
    try:
        call()
    except BaseException as error:
        return error
    return None


# ---- indexes -----------------------------------------------------------------------


def index_calls(idx):
    return {
        "build": lambda p: ruvector.RabitqPlusIndex.build(ROWS, progress=p),
        "add_batch": lambda p: idx.add_batch(ROWS, progress=p),
        "upsert": lambda p: idx.upsert(range(3000), -ROWS, progress=p),
        "search_batch": lambda p: idx.search_batch(ROWS[:100], k=3, progress=p),
        "tune": lambda p: idx.tune(ROWS[:40], k=3, progress=p),
    }


def index_failures():
    idx = ruvector.RabitqPlusIndex.build(ROWS)
    before = idx.to_bytes()
    for name, kind in itertools.product(index_calls(idx), KINDS):
        error = kind("from progress")

        def progress(done, total, error=error):
            raise error

        came = raised_by(lambda name=name, p=progress: index_calls(idx)[name](p))
        if came is not error:
            yield f"{name}, {kind.__name__}: {came!r}"
        if idx.to_bytes() != before:
            yield f"{name}, {kind.__name__}: the index changed"
    idx.add(None, ROWS[0])  # no lock is left shut


# ---- lakes -------------------------------------------------------------------------


class Adapter(ruvector.BackendAdapter):
    id = ""

    def __init__(self, name):
        self.id, self.where, self.error = name, "", None

    def meet(self, where):
        if where == self.where:
            raise self.error

    def list_collections(self):
        self.meet("list_collections")
        return ["c"]

    def generation(self, collection):
        self.meet("generation")
        return 1

    def pull_vectors(self, collection):
        self.meet("pull_vectors")
        return ruvector.PulledBatch(range(3000), ROWS, 16, 1)


class Described(Adapter):
    def current_bundle(self, collection, seed, rerank_factor):
        self.meet("current_bundle")
        return ruvector.RuLakeBundle(f"x://{self.id}", 16, seed, rerank_factor, 1)


def wait(coroutine):
    async def main():
        return await coroutine

    return asyncio.run(main())


BOTH = [("a", "c"), ("b", "c")]
ASKING = {  # a key that is known
    "search_one": lambda lake: lake.search_one("c", ROWS[7], k=1, backend="a"),
    "search_batch": lambda lake: lake.search_batch("c", ROWS[:9], k=1, backend="a"),
    "prime": lambda lake: lake.prime(("a", "c")),
    "search_federated, one": lambda lake: lake.search_federated(None, ROWS[7], 1, targets=BOTH[:1]),
    "search_federated": lambda lake: lake.search_federated(None, ROWS[7], 1, targets=BOTH),
    "search_one_async": lambda lake: wait(lake.search_one_async("c", ROWS[7], k=1, backend="a")),
    "search_federated_async": lambda lake: wait(
        lake.search_federated_async(None, ROWS[7], 1, targets=BOTH)
    ),
    "prime_async": lambda lake: wait(lake.prime_async(("a", "c"))),
}
FINDING = {  # a name that two backends may have
    "search_one": lambda lake: lake.search_one("c", ROWS[7], k=1),
    "search_federated": lambda lake: lake.search_federated("c", ROWS[7], 1),
    "search_one_async": lambda lake: wait(lake.search_one_async("c", ROWS[7], k=1)),
    "search_federated_async": lambda lake: wait(lake.search_federated_async("c", ROWS[7], 1)),
}
CALLS = {
    "list_collections": FINDING,
    "generation": ASKING,
    "pull_vectors": ASKING,
    "current_bundle": ASKING,
}


def is_right(came, error):
    """A backend that fails is a BackendError; what is no Exception passes through."""
    if not isinstance(error, Exception):
        return type(came) is type(error) and came.args == error.args
    return type(came) is ruvector.BackendError and came.__cause__ is error


def lake_failures():
    for where, calls in CALLS.items():
        for (name, call), kind in itertools.product(calls.items(), KINDS):
            lake = ruvector.RuLake()
            adapters = [(Described if where == "current_bundle" else Adapter)(n) for n in "ab"]
            error = kind("from an adapter")
            for adapter in adapters:
                adapter.where, adapter.error = where, error
                lake.register_backend(adapter)
            what = f"{where} in {name}, {kind.__name__}"
            came = raised_by(lambda call=call, lake=lake: call(lake))
            if not is_right(came, error):
                yield f"{what}: {came!r} of {getattr(came, '__cause__', None)!r}"
            if lake.cache_entry_count():
                yield f"{what}: something is cached"
            left = {t.name.rsplit("_", 1)[0] for t in threading.enumerate()}
            if left - {"MainThread", "ruvector-adapter"}:
                yield f"{what}: threads {left}"
            for adapter in adapters:
                adapter.where = ""
            if raised_by(lambda lake=lake: ASKING["search_federated"](lake)):
                yield f"{what}: the next search failed"


class Targets:
    """Keys that cannot be had: an exception on the thread of an awaited search."""

    def __init__(self, error):
        self.error = error

    def __iter__(self):
        raise self.error


def target_failures():
    lake = ruvector.RuLake()
    lake.register_backend(Adapter("a"))
    for kind in KINDS:
        error = kind("from targets")
        search = lake.search_federated_async(None, ROWS[7], 1, targets=Targets(error))
        came = raised_by(lambda search=search: wait(search))
        if kind is StopIteration:  # no coroutine raises one: Python makes it the cause
            came = came.__cause__
        if type(came) is not kind or came.args != error.args:
            yield f"targets, {kind.__name__}: {came!r}"


PARTS = {"indexes": index_failures, "lakes": lake_failures, "targets": target_failures}


def main(part):
    faulthandler.dump_traceback_later(HANGS_S, exit=True)
    ruvector.set_num_threads(3)
    for failure in PARTS[part]():
        print(failure)


if __name__ == "__main__":
    main(*sys.argv[1:])
