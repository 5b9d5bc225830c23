"""Same data, seed and options: the same bytes and the same answers, on any number of
threads, with any instruction set, in any process."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import ruvector
from oracle import CLASSES, METRICS

# Prints one line per index: digest of its bytes, digest of 1,000 answers, tuning.
PRINT_DIGESTS = """
import hashlib
import numpy as np, ruvector

def digest(*data):
    h = hashlib.sha256()
    for d in data:
        h.update(d)
    return h.hexdigest()

rng = np.random.default_rng(7)
for dim, lists, bits, probes in ((29, 7, 1, "all"), (100, None, 4, None), (40, 60, 3, 5)):
    centers = rng.standard_normal((20, dim)) * 3
    vectors = (centers[rng.integers(0, 20, 2500)] + rng.standard_normal((2500, dim)))
    vectors = vectors.astype(np.float32)
    queries = (centers[rng.integers(0, 20, 1000)] + rng.standard_normal((1000, dim)))
    queries = queries.astype(np.float32)
    for name in ("FlatF32Index", "RabitqIndex", "RabitqPlusIndex", "RabitqAsymIndex"):
        for metric in ("l2", "ip", "cosine"):
            coded = name != "FlatF32Index"
            options = {"n_lists": lists, "bits": bits} if coded else {}
            search = {"nprobe": probes} if coded else {}
            idx = getattr(ruvector, name).build(vectors, seed=5, metric=metric, **options)
            idx.remove(range(100, 200))
            idx.add_batch(-vectors[:50])
            ids, scores = idx.search_batch(queries, k=10, **search)
            third = {"allow": idx.ids % 3 == 0, "allow_version": idx.version}
            few, best = idx.search_batch(queries[:50], k=10, **third, **search)
            tuned = idx.tune(queries[:100], recall=0.9) if coded else None
            data = digest(idx.to_bytes())
            print(dim, name, metric, data, digest(ids, scores, few, best), tuned)
"""


# The same of an index that ranks its lists by codes of their centroids: 512 lists or more.
MANY_LISTS = 520


def many_lists(metric: str) -> tuple[ruvector.RabitqPlusIndex, np.ndarray]:
    """The index, and queries."""
    rng = np.random.default_rng(8)
    centers = rng.standard_normal((50, 20)) * 2
    vectors = centers[rng.integers(0, 50, 33_500)] + rng.standard_normal((33_500, 20))
    vectors = vectors.astype(np.float32)
    index = ruvector.RabitqPlusIndex.build(vectors, metric=metric, n_lists=MANY_LISTS, bits=2)
    return index, vectors[::100] + np.float32(0.25)


# Takes files of an index and of queries; prints digests of its answers, and its tuning.
PRINT_ANSWERS = """
import hashlib, sys
import numpy as np, ruvector

idx = ruvector.RabitqPlusIndex.load(sys.argv[1])
queries = np.load(sys.argv[2])
for nprobe in (1, 9, 60, 400):
    ids, scores = idx.search_batch(queries, 5, nprobe=nprobe)
    print(hashlib.sha256(ids.tobytes() + scores.tobytes()).hexdigest())
print(idx.tune(queries[:60], recall=0.95))
"""


def assert_no_difference(run_python, lines: int, *command: str) -> None:
    """Runs `command` with every instruction set, and with one thread and with two."""
    sets = ruvector.cpu_features()["available"]
    outputs = {}
    for isa, threads in [(sets[0], "1"), *((isa, "2") for isa in sets)]:
        result = run_python(*command, RUVECTOR_ISA=isa, RUVECTOR_NUM_THREADS=threads)
        assert result.returncode == 0, result.stderr
        outputs[isa, threads] = result.stdout.splitlines()
    (first, expected), *others = outputs.items()
    assert len(expected) == lines
    for case, got in others:
        assert got == expected, f"{case} differs from {first}"


def test_threads_and_instruction_sets_make_no_difference(run_python):
    assert_no_difference(run_python, 3 * len(CLASSES) * len(METRICS), PRINT_DIGESTS)


@pytest.mark.parametrize("metric", ["l2", "ip"])
def test_answers_of_many_lists_make_no_difference(run_python, tmp_path, metric):
    index, queries = many_lists(metric)
    assert index.n_lists == MANY_LISTS
    index.save(tmp_path / "index.rbpx")
    np.save(tmp_path / "queries.npy", queries)
    files = (str(tmp_path / "index.rbpx"), str(tmp_path / "queries.npy"))
    assert_no_difference(run_python, 5, PRINT_ANSWERS, *files)


# The scalar kernels take 20 s for it.
@pytest.mark.extras
def test_builds_of_many_lists_make_no_difference(run_python):
    code = "\n".join(
        (
            "import hashlib",
            "from test_determinism import many_lists",
            "print(hashlib.sha256(many_lists('ip')[0].to_bytes()).hexdigest())",
        )
    )
    assert_no_difference(run_python, 1, code)


def test_the_environment_chooses_the_instruction_set(run_python):
    code = "import ruvector; print(ruvector.cpu_features()['active'])"
    for isa in ruvector.cpu_features()["available"]:
        assert run_python(code, RUVECTOR_ISA=isa).stdout == isa + "\n"
    best = ruvector.cpu_features()["available"][0]
    assert run_python(code, RUVECTOR_ISA="no such set").stdout == best + "\n"


def test_building_twice_gives_the_same_bytes(cls, rng):
    vectors = rng.standard_normal((5_000, 40)).astype(np.float32)
    digests = set()
    for threads in (1, 2, 3):
        ruvector.set_num_threads(threads)
        digests.add(hashlib.sha256(cls.build(vectors).to_bytes()).hexdigest())
    assert len(digests) == 1


def test_the_seed_decides(rng):
    vectors = rng.standard_normal((500, 40)).astype(np.float32)
    one, two = (ruvector.RabitqIndex.build(vectors, seed=s) for s in (1, 2))
    assert not np.array_equal(one.codes, two.codes)


def test_removed_rows_leave_no_trace(cls, rng):
    vectors = rng.standard_normal((300, 12)).astype(np.float32)
    plain, changed = cls.build(vectors), cls.build(vectors)
    changed.add(5_000, vectors[0])
    changed.remove(5_000)
    # what cannot be forgotten is which ids have been used
    plain.add(5_000, vectors[1])
    plain.remove(5_000)
    assert plain.to_bytes() == changed.to_bytes()
