"""Processes that fork while threads of theirs are in the middle of calls.

``python fork_cases.py CASE`` forks children, each of which checks answers against its own
arithmetic, and prints how they ended: ``{"right": 15}``. A child that hangs ends with the
stacks of its threads.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections import Counter

import numpy as np
import ruvector

CHILDREN = 15
HANGS_S = 30
ROWS = np.random.default_rng(3).standard_normal((2000, 16), dtype=np.float32)


def check(condition):
    if not condition:
        raise AssertionError


def run_child(work):
    """Only ever in a child: its exit code tells how it went."""
    faulthandler.dump_traceback_later(HANGS_S, exit=True)
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(3)
    os._exit(0)


def end_of(child):
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {0: "right", 1: "hung", 3: "wrong"}.get(code, str(code))


def fork_amid(busy, child):
    """Children of a process whose threads run the functions `busy` again and again."""
    stop = threading.Event()

    def run(function):
        while not stop.is_set():
            function()

    threads = [threading.Thread(target=run, args=(function,)) for function in busy]
    for thread in threads:
        thread.start()
    ends = Counter()
    for _ in range(CHILDREN):
        time.sleep(0.01)  # another moment of what the threads do
        pid = os.fork()
        if pid == 0:
            run_child(child)
        ends[end_of(pid)] += 1
    stop.set()
    for thread in threads:
        thread.join()
    return ends


def nearest(row):
    """By arithmetic of its own: a row of the data is nearest to itself."""
    return int(((ROWS - ROWS[row]) ** 2).sum(1).argmin())


# ---- indexes -----------------------------------------------------------------------


def use_index(idx):
    before = len(idx)
    check(idx.search(ROWS[7], k=1)[0].id == nearest(7))
    check(idx.search_batch(ROWS[:64], k=1)[0][:, 0].tolist() == list(range(64)))
    idx.add(10**6, ROWS[0])
    idx.remove([10**6])
    check(len(idx) == before)
    check(len(ruvector.RabitqPlusIndex.from_bytes(idx.to_bytes())) == before)
    idx.vacuum()
    check(idx.search(ROWS[8], k=1)[0].id == 8)


def searched():
    idx = ruvector.RabitqPlusIndex.build(ROWS)
    return fork_amid([lambda: idx.search_batch(ROWS, k=3)] * 3, lambda: use_index(idx))


def changed():
    """Writers in every phase: preparing, visible, vacuum, scan blocks made anew."""
    idx = ruvector.RabitqPlusIndex.build(ROWS)

    def change():
        ids = idx.add_batch(ROWS + 100)
        idx.remove(ids)
        idx.vacuum()

    busy = [change, lambda: idx.search_batch(ROWS[:200], k=3), lambda: idx.upsert([1], ROWS[1:2])]
    return fork_amid(busy, lambda: use_index(idx))


def in_progress():
    """The child's call is cancelled, and the index is its own to change."""
    idx = ruvector.RabitqPlusIndex.build(ROWS)
    pids = []

    def progress(done, total):
        if not pids:
            pids.append(os.fork())
            if pids[0] == 0:
                faulthandler.dump_traceback_later(HANGS_S, exit=True)

    try:
        idx.add_batch(np.tile(ROWS, (50, 1)), progress=progress)
    except BaseException as error:
        if pids[0] != 0:
            raise
        cancelled = isinstance(error, KeyboardInterrupt)
        run_child(lambda: [check(cancelled), use_index(idx)])
    if pids[0] == 0:
        os._exit(3)
    check(len(idx) == 51 * 2000)
    return Counter([end_of(pids[0])])


# ---- lakes -------------------------------------------------------------------------


class Adapter(ruvector.BackendAdapter):
    """Each search of it pulls."""

    id = "adapter"

    def __init__(self, pull=lambda: None):
        self.pulling = pull
        self.pulls = 0

    def list_collections(self):
        return ["c"]

    def generation(self, collection):
        return self.pulls

    def pull_vectors(self, collection):
        self.pulling()
        self.pulls += 1
        return ruvector.PulledBatch(range(2000), ROWS, 16, self.pulls)


def local():
    backend = ruvector.LocalBackend("local")
    for name in ("a", "b", "c"):
        backend.put_collection(name, range(2000), ROWS)
    lake = ruvector.RuLake(max_cache_entries=1)
    lake.register_backend(backend)
    return lake, backend


def use_lake(lake, backend):
    for name in ("a", "b", "c"):
        check(lake.search_one(name, ROWS[7], k=1)[0].id == nearest(7))
    hits = lake.search_federated(None, ROWS[9], 1, targets=[("local", "a"), ("local", "b")])
    check(hits[0].id == 9)
    check(asyncio.run(lake.search_one_async("b", ROWS[8], k=1))[0].id == 8)
    backend.upsert("c", [5000], ROWS[:1] + 50)
    backend.put_collection("d", range(2000), ROWS)
    check(lake.search_one("c", ROWS[0] + 50, k=1)[0].id == 5000)
    check(lake.search_one("d", ROWS[3], k=1)[0].id == 3)
    with lake.session() as session:
        check(session.search_one("a", ROWS[4], k=1)[0].id == 4)


def lake_searched():
    lake, backend = local()
    busy = [lambda name=name: lake.search_one(name, ROWS[0], k=1) for name in ("a", "b", "c")]
    return fork_amid(busy, lambda: use_lake(lake, backend))


def lake_changed():
    lake, backend = local()
    new = iter(range(10**9))
    busy = [
        lambda: backend.upsert("c", range(10, 200), ROWS[10:200]),
        lambda: backend.put_collection(f"new {next(new)}", range(9), ROWS[:9]),
        lambda: lake.search_batch("c", ROWS[:50], k=1),
    ]
    return fork_amid(busy, lambda: use_lake(lake, backend))


def lake_awaited():
    lake, backend = local()

    async def some():
        names = ("a", "b", "c") * 5
        await asyncio.gather(*(lake.search_one_async(n, ROWS[1], k=1) for n in names))

    return fork_amid([lambda: asyncio.run(some())] * 3, lambda: use_lake(lake, backend))


def adapter_pulled():
    adapter = Adapter(lambda: time.sleep(0.005))
    lake = ruvector.RuLake()
    lake.register_backend(adapter)

    def use():
        adapter.pulling = lambda: None
        check(lake.search_one("c", ROWS[7], k=1)[0].id == 7)
        check(asyncio.run(lake.search_one_async("c", ROWS[8], k=1))[0].id == 8)

    def awaited():
        asyncio.run(lake.search_one_async("c", ROWS[2], k=1))

    return fork_amid([lambda: lake.search_one("c", ROWS[1], k=1), awaited, awaited], use)


def in_pull():
    """The adapter itself forks, and both go on."""
    adapter = Adapter()
    lake = ruvector.RuLake()
    lake.register_backend(adapter)
    pids = []

    def fork():
        if not pids:
            pids.append(os.fork())
            if pids[0] == 0:
                faulthandler.dump_traceback_later(HANGS_S, exit=True)

    adapter.pulling = fork
    found = lake.search_one("c", ROWS[7], k=1)[0].id
    if pids[0] == 0:
        run_child(lambda: check(found == 7 == lake.search_one("c", ROWS[7], k=1)[0].id))
    check(found == 7)
    return Counter([end_of(pids[0])])


def in_wait():
    """Forked by a signal handler while the search waits for another thread's pull."""
    go, pulling = threading.Event(), threading.Event()

    def pull():
        if threading.current_thread() is not threading.main_thread():
            pulling.set()
            go.wait()

    lake = ruvector.RuLake()
    lake.register_backend(Adapter(pull))
    pids = []

    def fork(*_):
        pids.append(os.fork())
        if pids[0] == 0:
            faulthandler.dump_traceback_later(HANGS_S, exit=True)
        else:
            go.set()

    thread = threading.Thread(target=lambda: lake.search_one("c", ROWS[1], k=1))
    thread.start()
    pulling.wait()
    signal.signal(signal.SIGALRM, fork)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    found = lake.search_one("c", ROWS[7], k=1)[0].id
    if pids[0] == 0:
        run_child(lambda: check(found == 7))
    thread.join()
    check(found == 7)
    return Counter([end_of(pids[0])])


def in_loop():
    """What awaits in the parent's loop is told; the parent gets its answer."""
    from ruvector.lake import _async

    lake, _ = local()

    async def main():
        waiting = asyncio.ensure_future(lake.search_one_async("a", ROWS[7], k=1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        [channel] = _async._channels.values()
        [future] = channel._futures.values()
        pid = os.fork()
        if pid == 0:
            run_child(lambda: check("forked" in str(future.exception())))
        check((await waiting)[0].id == 7)
        return Counter([end_of(pid)])

    return asyncio.run(main())


# ---- budgets of agents ---------------------------------------------------------------


def budget_charged():
    """Its lock is nearly always held: the clock, read under it, is slow in threads."""
    from ruvector.a2a import GlobalBudget, TaskSpec

    def clock():
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.01)
        return time.monotonic()

    budget = GlobalBudget(max_tasks_per_minute=10**6, clock=clock)

    def charge():
        charged = asyncio.run(budget.acquire(TaskSpec("echo", "x")))
        budget.release(charged)

    return fork_amid([charge] * 3, charge)


CASES = [
    searched,
    changed,
    in_progress,
    lake_searched,
    lake_changed,
    lake_awaited,
    adapter_pulled,
    in_pull,
    in_wait,
    in_loop,
    budget_charged,
]


def main(case):
    warnings.simplefilter("ignore", DeprecationWarning)  # of Python, about such forks
    ruvector.set_num_threads(3)
    print(json.dumps({c.__name__: c for c in CASES}[case]()))


if __name__ == "__main__":
    main(*sys.argv[1:])
