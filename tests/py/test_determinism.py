"""Same data, seed and options: the same bytes and the same answers, on any number of
threads, with any instruction set, in any process."""

from __future__ import annotations

import hashlib

import numpy as np
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
    centres = rng.standard_normal((20, dim)) * 3
    vectors = (centres[rng.integers(0, 20, 2500)] + rng.standard_normal((2500, dim)))
    vectors = vectors.astype(np.float32)
    queries = (centres[rng.integers(0, 20, 1000)] + rng.standard_normal((1000, dim)))
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


# The same of an index that ranks its lists by codes of their centres.
PRINT_DIGESTS_OF_MANY_LISTS = """
rng = np.random.default_rng(8)
centres = rng.standard_normal((50, 20)) * 2
vectors = (centres[rng.integers(0, 50, 33_500)] + rng.standard_normal((33_500, 20)))
vectors = vectors.astype(np.float32)
queries = vectors[::100] + np.float32(0.25)
for metric in ("l2", "ip"):
    idx = ruvector.RabitqPlusIndex.build(vectors, metric=metric, n_lists=520, bits=2)
    found = [digest(*idx.search_batch(queries, 5, nprobe=p)) for p in (1, 9, 60, 400)]
    tuned = idx.tune(queries[:60], recall=0.95)
    print(metric, digest(idx.to_bytes()), *found, tuned)
"""


def test_threads_and_instruction_sets_make_no_difference(run_python):
    sets = ruvector.cpu_features()["available"]
    cases = [(sets[0], "1"), *((isa, "2") for isa in sets)]
    outputs = {}
    for isa, threads in cases:
        code = PRINT_DIGESTS + PRINT_DIGESTS_OF_MANY_LISTS
        result = run_python(code, RUVECTOR_ISA=isa, RUVECTOR_NUM_THREADS=threads)
        assert result.returncode == 0, result.stderr
        outputs[isa, threads] = result.stdout.splitlines()
    (first, expected), *others = outputs.items()
    assert len(expected) == 3 * len(CLASSES) * len(METRICS) + 2
    for case, lines in others:
        assert len(lines) == len(expected)
        for line, want in zip(lines, expected):
            assert line == want, f"{case} differs from {first}"


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
