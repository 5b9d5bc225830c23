"""Searches on event loops: the same answers, shared work, cancelling, many loops."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
import time

import numpy as np
import pytest
import ruvector
from lakes import Described, Source, assert_hits, in_threads, lake_of, local, nearest, rows
from ruvector import RabitqPlusIndex, RuLake

try:
    import uvloop
except ImportError:
    uvloop = None


class NoReaders(asyncio.SelectorEventLoop):
    """A loop that cannot watch a descriptor, such as Windows' default one."""

    error: type[Exception] = NotImplementedError

    def add_reader(self, fd, callback, *args):
        raise self.error("not here")


class NoDescriptor:
    """Completions as they are on Windows: nothing that a selector could watch."""

    fd = -1

    def __init__(self):
        self._real = Completions()

    def __getattr__(self, name):
        return getattr(self._real, name)


LOOPS = {
    "asyncio": asyncio.SelectorEventLoop,
    "no readers": NoReaders,
    "no descriptor": asyncio.SelectorEventLoop,
    "uvloop": uvloop and uvloop.new_event_loop,
}
Completions = ruvector._core._Completions


@pytest.fixture(params=LOOPS)
def run(request, monkeypatch):
    """Runs a coroutine on a loop of its own, in debug mode, and closes the loop."""
    make = LOOPS[request.param]
    if request.param == "no descriptor":
        monkeypatch.setattr(ruvector._core, "_Completions", NoDescriptor)
    if make is None:
        pytest.skip("uvloop is not installed")

    def on_a_loop(coroutine):
        loop = make()
        loop.set_debug(True)
        problems = []
        loop.set_exception_handler(lambda _, context: problems.append(context))
        try:
            result = loop.run_until_complete(asyncio.wait_for(coroutine, 60))
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
        assert not problems
        return result

    return on_a_loop


class Slow(Described):
    """One whose pull takes until it is let go."""

    def __init__(self, *args, **named):
        super().__init__(*args, **named)
        self.begun, self.go = threading.Event(), threading.Event()

    def pull_vectors(self, collection):
        self.begun.set()
        assert self.go.wait(30)
        return super().pull_vectors(collection)


async def until(true):
    """No time limit: the loop has one."""
    while not true():
        await asyncio.sleep(0.001)


# ---- the same answers --------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError, OSError])
def test_a_loop_that_refuses_the_descriptor_is_served(error):
    backend, _ = local("a")
    lake, query = lake_of(backend), rows(1, seed=3)[0]
    loop = NoReaders()
    loop.error = error
    try:
        hits = loop.run_until_complete(lake.search_one_async("docs", query, 4))
    finally:
        loop.close()
    assert hits == lake.search_one("docs", query, 4)


@pytest.mark.parametrize("kind", ["local", "adapter"])
def test_answers_are_those_of_the_plain_calls(run, kind):
    backend, vectors = local("a")
    other, _ = local("b", seed=1)
    if kind == "adapter":
        backend, other = Source(vectors, name="a"), Source(rows(200, seed=1), name="b")
    lake = lake_of(backend, other)
    queries = rows(12, seed=3)

    async def main():
        return (
            await lake.search_one_async("docs", queries[0], 4, backend="a"),
            await lake.search_batch_async("docs", queries, 100, backend="b"),
            await lake.search_federated_async("docs", queries[1], 70),
            await lake.search_federated_async(query=queries[1], k=3, targets=[("b", "docs")]),
            await lake.search_federated_async(query=queries[1], targets=[]),
            await lake.prime_async(("a", "docs")),
            await lake.search_batch_async("docs", np.zeros((0, 16), np.float32), backend="a"),
        )

    assert run(main()) == (
        lake.search_one("docs", queries[0], 4, backend="a"),
        lake.search_batch("docs", queries, 100, backend="b"),
        lake.search_federated("docs", queries[1], 70),
        lake.search_federated(query=queries[1], k=3, targets=[("b", "docs")]),
        [],
        lake.prime(("a", "docs")),
        [],
    )


def test_errors_are_those_of_the_plain_calls(run):
    backend, vectors = local()
    lake = lake_of(backend)
    strict = lake_of(backend, strict=True)
    empty = lake_of(Source(np.zeros((0, 16), np.float32)))
    cases = [
        (ruvector.LakeDimensionMismatch, lake, "search_one", ("docs", [1.0])),
        (ruvector.UnknownCollection, lake, "search_one", ("none", vectors[0])),
        (ValueError, lake, "search_one", ("docs", vectors[0], 0)),
        (ValueError, lake, "search_one", ("docs", vectors[0] * np.nan)),
        (TypeError, lake, "search_one", ("docs", vectors[0].astype(complex))),
        (TypeError, lake, "search_one", (3, vectors[0])),
        (ruvector.CacheMissError, strict, "search_one", ("docs", vectors[0])),
        (ruvector.EmptyCollection, empty, "search_one", ("docs", vectors[0])),
        (ruvector.LakeDimensionMismatch, lake, "search_batch", ("docs", [[1.0]])),
        (ValueError, lake, "search_batch", ("docs", vectors[None])),
        (ruvector.LakeDimensionMismatch, lake, "search_federated", ("docs", [1.0])),
        (TypeError, lake, "search_federated", ("docs",)),
        (TypeError, lake, "search_federated", (None, vectors[0])),
        (ruvector.UnknownCollection, lake, "search_federated", ("none", vectors[0])),
        (ruvector.UnknownCollection, lake, "prime", ("none",)),
        (TypeError, lake, "prime", (3,)),
    ]

    async def fails(lake, method, arguments):
        try:
            await getattr(lake, method + "_async")(*arguments)
        except Exception as error:
            return error

    for expected, lake_, method, arguments in cases:
        error = run(fails(lake_, method, arguments))
        assert isinstance(error, expected), (method, arguments, error)
        with pytest.raises(expected) as plain:
            getattr(lake_, method)(*arguments)
        assert type(error) is type(plain.value)
        if isinstance(error, ruvector.LakeError):
            assert str(error) == str(plain.value)
            assert vars(error) == vars(plain.value)


def test_what_an_adapter_raises_is_the_cause(run):
    class Failing(Source):
        def pull_vectors(self, collection):
            raise ZeroDivisionError("reason")

    lake = lake_of(Failing())

    async def main():
        for call in (
            lake.search_one_async("docs", [0.0] * 16),
            lake.search_federated_async("docs", [0.0] * 16),
            lake.prime_async("docs"),
        ):
            with pytest.raises(ruvector.BackendError) as caught:
                await call
            assert isinstance(caught.value.__cause__, ZeroDivisionError)

    run(main())


def test_one_bad_query_spoils_no_other(run):
    backend, vectors = local()
    lake = lake_of(backend)

    async def main():
        queries = [vectors[1], vectors[2] * np.nan, rows(1, 3)[0], vectors[3]]
        return await asyncio.gather(
            *[lake.search_one_async("docs", q, 1) for q in queries], return_exceptions=True
        )

    one, nan, short, three = run(main())
    assert (one[0].id, three[0].id) == (1, 3)
    assert isinstance(nan, ValueError)
    assert isinstance(short, ruvector.LakeDimensionMismatch)


# ---- together ----------------------------------------------------------------------


def test_awaits_that_come_together_share_one_scan(run):
    backend, vectors = local(n=2000, dim=32)
    lake = lake_of(backend)
    lake.prime("docs")
    expected = [lake.search_one("docs", q, 5) for q in vectors[:100]]
    before = lake.cache_stats()

    async def main():
        return await asyncio.gather(*[lake.search_one_async("docs", q, 5) for q in vectors[:100]])

    assert run(main()) == expected
    after = lake.cache_stats()
    assert after.hits - before.hits == 100
    assert after.scans - before.scans == 1


@pytest.mark.parametrize("kind", ["local", "adapter"])
def test_cold_awaits_share_one_prime(run, kind):
    backend, vectors = local(n=2000, dim=32)
    if kind == "adapter":
        backend = Source(vectors)
    lake = lake_of(backend)

    async def main():
        return await asyncio.gather(
            *[lake.search_one_async("docs", q, 1) for q in vectors[:40]],
            lake.prime_async("docs"),
        )

    *found, witness = run(main())
    assert [hits[0].id for hits in found] == list(range(40))
    assert witness == lake.cache_witness_of("docs")
    assert lake.cache_stats().primes == 1
    if kind == "adapter":
        assert backend.pulls == 1


def test_searches_for_different_numbers_of_hits_and_lakes(run):
    one, in_one = local(n=300)
    two, in_two = local(n=300, seed=1)
    lakes = [(lake_of(one), in_one), (lake_of(two), in_two)]

    async def main():
        jobs = [(lake, v, i, k) for i in range(20) for k in (1, 3, 500) for lake, v in lakes]
        found = await asyncio.gather(
            *[at.search_one_async("docs", v[i], k) for at, v, i, k in jobs]
        )
        for (_, v, i, k), hits in zip(jobs, found):
            assert_hits(hits, nearest(v[i], v, k))

    run(main())


def test_the_loop_goes_on_during_a_pull(run):
    source = Slow()
    lake = lake_of(source)

    async def main():
        search = asyncio.ensure_future(lake.search_one_async("docs", source.vectors[3], 1))
        await until(source.begun.is_set)
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not search.done()
        source.go.set()
        return await search

    assert run(main())[0].id == 3
    assert all(name.startswith("ruvector-adapter") for name in source.threads)


# ---- cancelling --------------------------------------------------------------------


def test_an_await_cancelled_before_it_was_submitted_never_runs(run):
    backend, vectors = local()
    lake = lake_of(backend)

    async def main():
        task = asyncio.ensure_future(lake.search_one_async("docs", vectors[0]))
        await asyncio.sleep(0)  # it has asked, and this turn of the loop is not over
        task.cancel()
        other = await lake.search_one_async("docs", vectors[1], 1)
        with pytest.raises(asyncio.CancelledError):
            await task
        return other

    assert run(main())[0].id == 1
    stats = lake.cache_stats()
    assert (stats.misses + stats.hits, stats.scans) == (1, 1)


class EveryThread:
    """Every thread of the library waits for a pull, as long as the test wants.

    The backend in memory and the one in Python say that they hold the same state, which
    only one of them is asked for. The one in Python is, and takes its time; jobs that
    need the other one wait for it.
    """

    N = 4  # in src/lake/async.c

    def __init__(self) -> None:
        twin, vectors = local("twin")
        self.source = Slow(vectors)
        self.source.address = "local://twin/docs"
        self.lake = lake_of(twin, self.source)

    async def __aenter__(self) -> None:
        self.puller = threading.Thread(
            target=self.lake.prime, args=[("source", "docs")], daemon=True
        )
        self.puller.start()
        await until(self.source.begun.is_set)
        twin = ("twin", "docs")
        primes = [self.lake.prime_async(twin) for _ in range(2 * self.N)]
        self.primes = [asyncio.ensure_future(prime) for prime in primes]
        await until(lambda: twin in self.lake.cache_stats_by_collection())
        await until(lambda: self.lake.cache_stats_by_collection()[twin].misses == self.N)

    async def __aexit__(self, *_: object) -> None:
        self.source.go.set()
        await asyncio.gather(*self.primes)
        await until(lambda: not self.puller.is_alive())


def test_jobs_cancelled_while_they_wait_in_line_never_run(run):
    vectors = rows(50)
    lake = RuLake(consistency=ruvector.Consistency.STALE)
    lake.install(("a", "docs"), RabitqPlusIndex.build(vectors))
    first, again = EveryThread(), EveryThread()

    async def main():
        async with first:
            tasks = [
                asyncio.ensure_future(lake.search_one_async("docs", v, backend="a"))
                for v in vectors
            ]
            await asyncio.sleep(0)  # they ask
            await asyncio.sleep(0)  # and are submitted
            for task in tasks:
                task.cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
        async with again:  # what came before has left the line
            return found

    found = run(main())
    assert all(isinstance(f, asyncio.CancelledError) for f in found)
    assert lake.cache_stats()[:2] == (0, 0)
    assert lake.cache_stats().scans == 0


def test_cancelling_one_leaves_the_others_alone(run):
    backend, vectors = local(n=3000, dim=64)
    lake = lake_of(backend)

    async def main():
        for _ in range(20):
            lake.invalidate_cache("docs")
            tasks = [
                asyncio.ensure_future(lake.search_one_async("docs", v, 1)) for v in vectors[:10]
            ]
            await asyncio.sleep(0.001)
            for task in tasks[::2]:
                task.cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            for i, hits in enumerate(found):
                if i % 2 or not isinstance(hits, asyncio.CancelledError):
                    assert hits[0].id == i

    run(main())


def test_a_pull_whose_await_was_cancelled_lets_its_entry_go(run):
    source = Slow()
    lake = lake_of(source)

    async def main():
        task = asyncio.ensure_future(lake.search_one_async("docs", [0.0] * 16))
        await until(source.begun.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        source.go.set()
        await until(lambda: lake.cache_entry_count() > 0)
        await until(lambda: lake.cache_entry(("source", "docs")).holds == 0)

    run(main())


def test_a_time_limit(run):
    source = Slow()
    lake = lake_of(source)

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(lake.search_one_async("docs", [0.0] * 16), 0.05)
        source.go.set()

    run(main())


# ---- loops that come and go --------------------------------------------------------


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def test_loops_one_after_the_other_leave_nothing_open(run):
    backend, vectors = local()
    lake = lake_of(backend)
    run(lake.search_one_async("docs", vectors[3], 1))
    gc.collect()
    before = open_descriptors()
    for i in range(20):
        assert run(lake.search_one_async("docs", vectors[i], 1))[0].id == i
    gc.collect()
    end = time.monotonic() + 60  # a thread that waits for a loop looks now and then
    while open_descriptors() > before + 2 and time.monotonic() < end:
        time.sleep(0.05)
    assert open_descriptors() <= before + 2


def test_loops_in_several_threads_at_once(run):
    backend, vectors = local(n=1000)
    lake = lake_of(backend)

    async def main(first):
        for i in range(first, first + 10):
            found = await asyncio.gather(
                *[lake.search_one_async("docs", v, 1) for v in vectors[i : i + 20]]
            )
            assert [h[0].id for h in found] == list(range(i, i + 20))

    in_threads(*[lambda n=n: run(main(100 * n)) for n in range(4)])


def test_a_loop_that_ends_with_searches_under_way(run):
    source = Slow()
    lake = lake_of(source, local("other")[0])
    backend, vectors = local("big", n=30_000, dim=64)
    big = lake_of(backend)

    async def main():
        tasks = [
            asyncio.ensure_future(lake.search_one_async("docs", [0.0] * 16, backend="source")),
            *[asyncio.ensure_future(big.search_one_async("docs", v, 1)) for v in vectors[:5]],
        ]
        await asyncio.sleep(0.001)
        for task in tasks:
            task.cancel()

    run(main())
    source.go.set()
    assert run(big.search_one_async("docs", vectors[7], 1))[0].id == 7


AT_EXIT = """
import asyncio, sys, threading
import numpy as np, ruvector
backend = ruvector.LocalBackend("b")
vectors = np.random.default_rng(0).standard_normal((60_000, 64)).astype(np.float32)
backend.put_collection("docs", np.arange(60_000), vectors)
lake = ruvector.RuLake()
lake.register_backend(backend)
how = sys.argv[1]

async def main():
    tasks = [asyncio.ensure_future(lake.search_one_async("docs", v)) for v in vectors[:50]]
    await asyncio.sleep(0.01)
    if how == "await one":
        await tasks[0]

if how == "loop left open":
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    kept = loop
elif how == "in a daemon thread":
    threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
    import time; time.sleep(0.05)
else:
    asyncio.run(main())
print("end")
"""


@pytest.mark.parametrize(
    "how", ["asyncio.run", "await one", "loop left open", "in a daemon thread"]
)
def test_the_interpreter_can_end_with_searches_under_way(run_python, how):
    result = run_python(AT_EXIT, how, PYTHONWARNINGS="error::ResourceWarning")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "end\n"
    allowed = ("was destroyed but it is pending", "unclosed event loop", "task: <Task", "source_")
    lines = [x for x in result.stderr.splitlines() if x and not any(a in x for a in allowed)]
    assert how == "loop left open" or not lines, result.stderr


FORKED = """
import asyncio, os
import numpy as np, ruvector
backend = ruvector.LocalBackend("b")
vectors = np.random.default_rng(0).standard_normal((500, 8)).astype(np.float32)
backend.put_collection("docs", np.arange(500), vectors)
lake = ruvector.RuLake()
lake.register_backend(backend)

async def main():
    found = await asyncio.gather(*[lake.search_one_async("docs", v, 1) for v in vectors[:50]])
    return [hits[0].id for hits in found] == list(range(50))

print(asyncio.run(main()), flush=True)
child = os.fork()
good = asyncio.run(main())
if child == 0:
    os._exit(0 if good else 1)
print(good, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_after_fork_can_search(run_python):
    result = run_python(FORKED, PYTHONWARNINGS="ignore")
    assert result.stdout == "True\nTrue 0\n", result.stderr


def test_an_index_from_bytes_dropped_while_a_search_uses_it(run):
    """The library's thread may be the last to hold it; its bytes belong to Python."""
    data = RabitqPlusIndex.build(rows(3000, 32)).to_bytes()
    lake = RuLake(consistency=ruvector.Consistency.STALE)

    async def main():
        for _ in range(30):
            lake.install(("a", "docs"), RabitqPlusIndex.from_bytes(bytes(data)))
            task = asyncio.ensure_future(
                lake.search_batch_async("docs", rows(50, 32), 3, backend="a")
            )
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            lake.invalidate_cache(("a", "docs"))
            with contextlib.suppress(ruvector.UnknownCollection):  # it had not begun
                assert len(await task) == 50

    run(main())
