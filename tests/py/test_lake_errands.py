"""Adapters that use the lake which is asking them, on whatever thread: answered or refused,
never waited for without end."""

from __future__ import annotations

import pytest

PRELUDE = """
import asyncio, faulthandler, threading
import numpy as np, ruvector

faulthandler.dump_traceback_later(60, exit=True)
ROWS = np.random.default_rng(0).standard_normal((200, 8), dtype=np.float32)
Q = ROWS[5]

class Adapter(ruvector.BackendAdapter):
    id = ""

    def __init__(self, name):
        self.id, self.inside, self.seen = name, None, []

    def list_collections(self):
        return ["c"]

    def generation(self, collection):
        return 1

    def pull_vectors(self, collection):
        if self.inside:
            try:
                self.seen.append(self.inside()[0].id)
            except ruvector.BackendError as error:
                self.seen.append("refused" if "from inside the call" in str(error) else error)
        return ruvector.PulledBatch(range(200), ROWS, 8, 1)

lake = ruvector.RuLake()
a, b, c = adapters = [Adapter(name) for name in "abc"]
for adapter in adapters:
    lake.register_backend(adapter)

def search(name):
    return lake.search_one("c", Q, k=1, backend=name)

def awaited(name):
    return asyncio.run(lake.search_one_async("c", Q, k=1, backend=name))

def federated(*names):
    return lake.search_federated(None, Q, 1, targets=[(name, "c") for name in names])
"""

# what the adapters do inside, how the lake is searched, and what a and b then saw
CASES = {
    "itself": ("a.inside = lambda: search('a')", "search('a')", ["refused"], []),
    "itself, awaited": ("a.inside = lambda: awaited('a')", "search('a')", ["refused"], []),
    "itself, awaited twice": ("a.inside = lambda: awaited('a')", "awaited('a')", ["refused"], []),
    "itself, federated": (
        "a.inside = lambda: federated('a', 'b')",
        "search('a')",
        ["refused"],
        [],
    ),
    "another": ("a.inside = lambda: search('b')", "search('a')", [5], []),
    "others, federated": ("a.inside = lambda: federated('b', 'c')", "awaited('a')", [5], []),
    "back, through threads": (
        "a.inside = lambda: federated('b', 'c'); b.inside = lambda: search('a')",
        "search('a')",
        [5],
        ["refused"],
    ),
    "back, through loops": (
        "a.inside = lambda: awaited('b'); b.inside = lambda: awaited('a')",
        "search('a')",
        [5],
        ["refused"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_an_adapter_that_searches_its_lake(run_python, case):
    inside, outside, *seen = CASES[case]
    code = f"{PRELUDE}\n{inside}\nprint({outside}[0].id, a.seen, b.seen)\n"
    result = run_python(code)
    assert result.stdout == f"5 {seen[0]} {seen[1]}\n", result.stderr


def test_an_adapter_that_asks_the_loop_it_is_awaited_in(run_python):
    code = """
async def main():
    loop = asyncio.get_running_loop()
    for name in "ab":
        work = lambda: lake.search_one_async("c", Q, k=1, backend=name)
        a.inside = lambda: asyncio.run_coroutine_threadsafe(work(), loop).result()
        await lake.search_one_async("c", Q, k=1, backend="a")
        lake.invalidate_cache(("a", "c"))

asyncio.run(main())
print(a.seen)
"""
    assert run_python(PRELUDE + code).stdout == "['refused', 5]\n"


def test_a_context_tells_a_thread_whom_it_works_for(run_python):
    code = """
import contextvars

def in_thread():
    found = []
    def work(run=contextvars.copy_context().run):
        try:
            run(awaited, "a")
        except ruvector.BackendError as error:
            found.append(error)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    raise found[0]

a.inside = in_thread
search("a")
print(a.seen)
"""
    assert run_python(PRELUDE + code).stdout == "['refused']\n"


def test_more_adapters_await_than_there_are_threads(run_python):
    code = """
inner = ruvector.RuLake()
inner.register_backend(Adapter("inner"))
everybody = threading.Barrier(16)  # as many as there are threads for adapters

def inside():
    everybody.wait()
    return asyncio.run(inner.search_one_async("c", Q, k=1))

outer = ruvector.RuLake()
many = [Adapter(f"outer {i}") for i in range(16)]
for adapter in many:
    adapter.inside = inside
    outer.register_backend(adapter)

async def main():
    keys = [adapter.id for adapter in many]
    await asyncio.gather(*(outer.search_one_async("c", Q, k=1, backend=key) for key in keys))

asyncio.run(main())
print({tuple(adapter.seen) for adapter in many})
"""
    assert run_python(PRELUDE + code).stdout == "{(5,)}\n"
