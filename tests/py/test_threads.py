"""Many readers and a writer at once, the GIL, Ctrl-C, fork."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest
import ruvector
from oracle import build, keeps_vectors, tolerance, true_scores


def run_threads(*functions):
    """Runs all at once; raises what any of them raised."""
    errors = []

    def guarded(function):
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(f,)) for f in functions]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]


# ---- readers and writers -----------------------------------------------------------


def test_readers_while_a_writer_changes_the_index(cls, rng):
    vectors = rng.standard_normal((6_000, 16)).astype(np.float32)
    queries = vectors[:50]
    idx = build(cls, vectors[:1_000])
    slack = tolerance(queries[0], vectors, "l2")
    done = threading.Event()

    def write():
        try:
            for first in range(1_000, 6_000, 250):
                idx.add_batch(vectors[first : first + 250])
                idx.remove(range(first - 900, first - 800))
                idx.upsert([first - 500], vectors[first - 500 : first - 499])
                if first % 1_000 == 0:
                    idx.vacuum()
        finally:
            done.set()

    def check(query, ids, scores):
        assert len(set(ids.tolist())) == len(ids)
        assert ids.max() < 6_000
        if keeps_vectors(idx):
            expected = true_scores(query, vectors[ids], "l2")
            np.testing.assert_allclose(scores, expected, rtol=0, atol=slack)

    def read_one():
        while not done.is_set():
            for query in queries[:10]:
                hits = idx.search(query, k=5)
                check(query, np.array([h.id for h in hits]), [h.score for h in hits])

    def read_batch():
        while not done.is_set():
            ids, scores = idx.search_batch(queries, k=5)
            for row in zip(queries, ids, scores):
                check(*row)

    def look():
        while not done.is_set():
            n = len(idx)
            assert 1_000 - 2_500 <= n <= 6_000
            assert len(idx.ids) > 0
            assert repr(idx)
            assert idx == idx
            if keeps_vectors(idx):
                for id, vector in idx:
                    assert np.array_equal(vector, vectors[id])
                assert np.asarray(idx).shape[1] == 16

    def save():
        while not done.is_set():
            loaded = cls.from_bytes(idx.to_bytes())
            assert len(loaded.search(queries[0], k=3)) == 3

    def tune():
        while cls is not ruvector.FlatF32Index and not done.is_set():
            assert 0 < idx.tune(queries[:10], k=5, recall=0.9).recall <= 1

    run_threads(write, read_one, read_batch, look, save, tune)
    assert len(idx) == 6_000 - 100 * 20


def test_iteration_pairs_ids_with_their_own_rows_while_rows_move():
    def row(id):
        return np.full(4, id, np.float32)

    idx = ruvector.FlatF32Index.build([row(id) for id in range(20)])
    done = threading.Event()

    def write():
        try:
            for id in range(20, 300):
                idx.add(id, row(id))
                idx.remove(id - 20)
                idx.vacuum()
        finally:
            done.set()

    def read():
        while not done.is_set():
            for id, vector in idx:
                assert np.array_equal(vector, row(id))

    run_threads(write, read, read)


def test_several_writers_take_turns_and_share_out_ids(cls, rng):
    vectors = rng.standard_normal((40, 8)).astype(np.float32)
    idx = build(cls, vectors[:0])
    given = [[] for _ in range(4)]

    def write(mine):
        for v in vectors:
            mine.append(idx.add(None, v))
            mine.extend(idx.add_batch(vectors[:3]).tolist())

    run_threads(*(lambda mine=mine: write(mine) for mine in given))
    everything = [id for mine in given for id in mine]
    assert sorted(everything) == list(range(4 * 40 * 4))
    assert sorted(idx.ids.tolist()) == sorted(everything)


def test_comparing_two_indexes_both_ways_while_both_change(cls, rng):
    vectors = rng.standard_normal((300, 8)).astype(np.float32)
    one, two = build(cls, vectors), build(cls, vectors)
    run_threads(
        lambda: [one == two for _ in range(300)],
        lambda: [two == one for _ in range(300)],
        lambda: [one.add(None, v) for v in vectors],
        lambda: [two.add(None, v) for v in vectors],
    )
    assert one == two


def test_the_gil_is_free_while_the_library_works(rng):
    vectors = rng.standard_normal((20_000, 256)).astype(np.float32)
    idx = ruvector.FlatF32Index.build(vectors)
    ruvector.set_num_threads(1)
    started, finished = threading.Event(), threading.Event()

    def work():
        started.set()
        idx.search_batch(vectors[:6000], k=10)
        finished.set()

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    turns = 0
    while not finished.is_set():
        time.sleep(0.001)
        turns += 1
    thread.join()
    # With the GIL held throughout, the loop would get a turn or two.
    assert turns > 20


# ---- Ctrl-C ------------------------------------------------------------------------

INTERRUPTED = """
import os, signal, sys, threading
import numpy as np, ruvector

# a shell starts what it runs in the background with the signal ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
what = sys.argv[1]
rng = np.random.default_rng(0)
base = rng.standard_normal((1000, 384)).astype(np.float32)
long = np.tile(base, (200, 1))
idx = ruvector.RabitqPlusIndex.build(base)
flat = ruvector.FlatF32Index.build(np.tile(base, (20, 1)))
before = idx.to_bytes()
ruvector.set_num_threads(1)
reports = []
begun = threading.Event()

def progress(done, total):
    reports.append(done / total)
    begun.set()

def interrupt():
    begun.wait()
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
try:
    {
        "build": lambda: ruvector.RabitqPlusIndex.build(long, progress=progress),
        "add_batch": lambda: idx.add_batch(long, progress=progress),
        "upsert": lambda: idx.upsert(range(len(long)), long, progress=progress),
        "search_batch": lambda: flat.search_batch(long, progress=progress),
    }[what]()
except KeyboardInterrupt:
    print("interrupted", reports[-1] < 1, idx.to_bytes() == before)
"""


@pytest.mark.skipif(os.name != "posix", reason="sends itself a signal")
@pytest.mark.parametrize("what", ["build", "add_batch", "upsert", "search_batch"])
def test_ctrl_c_stops_a_long_call(run_python, what):
    result = run_python(INTERRUPTED, what)
    assert result.stdout == "interrupted True True\n", result.stderr


QUIET = """
import signal
import numpy as np, ruvector

long = np.tile(np.random.default_rng(0).standard_normal((1000, 384)).astype(np.float32), (200, 1))
idx = ruvector.RabitqPlusIndex.build(long[:1000])
ruvector.set_num_threads(1)
signal.signal(signal.SIGALRM, signal.default_int_handler)
try:
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    idx.add_batch(long)
except KeyboardInterrupt:
    print("interrupted", len(idx))
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
def test_ctrl_c_needs_no_progress_function(run_python):
    result = run_python(QUIET)
    assert result.stdout == "interrupted 1000\n", result.stderr


def test_signal_handlers_run_during_a_long_call(rng):
    if not hasattr(signal, "setitimer"):
        pytest.skip("needs setitimer")
    vectors = rng.standard_normal((20_000, 256)).astype(np.float32)
    idx = ruvector.FlatF32Index.build(vectors)
    ruvector.set_num_threads(1)
    seen = []
    old = signal.signal(signal.SIGALRM, lambda *_: seen.append("inside"))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        idx.search_batch(vectors[:6000], progress=lambda done, total: seen.append(done))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert "inside" in seen
    assert seen.index("inside") < seen.index(6000)


# ---- fork --------------------------------------------------------------------------

FORKED = """
import os
import numpy as np, ruvector

vectors = np.random.default_rng(0).standard_normal((5000, 32)).astype(np.float32)
ruvector.set_num_threads(2)
idx = ruvector.RabitqPlusIndex.build(vectors)
expected = idx.search_batch(vectors[:300], k=3)
child = os.fork()
got = idx.search_batch(vectors[:300], k=3)
same = all(np.array_equal(g, e) for g, e in zip(got, expected))
rebuilt = ruvector.RabitqPlusIndex.build(vectors) == idx
idx.add(None, vectors[0])
if child == 0:
    os._exit(0 if same and rebuilt and len(idx) == 5001 else 1)
print(same, rebuilt, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_after_fork_can_search_and_build(run_python):
    result = run_python(FORKED, PYTHONWARNINGS="ignore")
    assert result.stdout == "True True 0\n", result.stderr


# ---- threads of our own ------------------------------------------------------------


def test_number_of_threads():
    default = ruvector.get_num_threads()
    assert default >= 1
    ruvector.set_num_threads(3)
    assert ruvector.get_num_threads() == 3
    assert ruvector.cpu_features()["threads"] == 3
    ruvector.set_num_threads(0)
    assert ruvector.get_num_threads() == default


def test_number_of_threads_from_the_environment(run_python):
    code = "import ruvector; print(ruvector.get_num_threads())"
    assert run_python(code, RUVECTOR_NUM_THREADS="5").stdout == "5\n"


def test_changing_the_number_of_threads_during_work(rng):
    vectors = rng.standard_normal((2_000, 32)).astype(np.float32)
    idx = ruvector.RabitqPlusIndex.build(vectors)
    expected = idx.search_batch(vectors, k=2)

    def change():
        for i in range(200):
            ruvector.set_num_threads(1 + i % 4)

    def search():
        for _ in range(20):
            for got, want in zip(idx.search_batch(vectors, k=2), expected):
                assert np.array_equal(got, want)

    run_threads(change, search, search)
