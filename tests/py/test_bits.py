"""Codes of several bits: recall beside an independent quantizer, layout, and that
everything an index can do works with them."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import ruvector
from oracle import METRICS, build, check_hits, keeps_vectors

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench import datasets

K = 10
CODED = (ruvector.RabitqIndex, ruvector.RabitqPlusIndex, ruvector.RabitqAsymIndex)
BITS = (1, 2, 3, 4, 5, 6, 7, 8)


@pytest.fixture(params=CODED, ids=lambda cls: cls.__name__)
def coded(request):
    return request.param


@pytest.fixture(params=BITS)
def bits(request):
    return request.param


# ---- the quantizer, once more, by the book ----------------------------------------------


def magnitudes(a, extra):
    """Levels 0..2^extra-1 of each coordinate of the rows of `a`, all positive, for which
    the cosine between a and level + 1/2 is largest over every scale: an exact sweep over
    the scales at which a level changes (Gao et al. 2024, arXiv:2409.09913, section 3)."""
    top = 2**extra - 1
    n, dim = a.shape
    levels = np.empty((n, dim), np.int64)
    steps = np.arange(1, top + 1)
    for i, row in enumerate(a):
        # Coordinate j passes to level v at scale v / a_j.
        scale = np.where(row > 0, 1 / np.maximum(row, 1e-30), np.inf)
        at = (steps[:, None] * scale).ravel()
        order = np.argsort(at, kind="stable")
        level, which = np.divmod(order, dim)
        dot = row.sum() / 2 + np.concatenate([[0], np.cumsum(row[which])])
        # (level + 3/2)^2 - (level + 1/2)^2, level counted from 0
        norm2 = dim / 4 + np.concatenate([[0], np.cumsum(2.0 * level + 2)])
        best = np.argmax(dot / np.sqrt(norm2))
        levels[i] = np.bincount(which[:best], minlength=dim)
    return levels


def estimates(base, queries, bits, seed):
    """Squared distances as codes of `bits` bits give them: centered on the mean, turned by
    a random orthogonal matrix, estimated without bias."""
    dim = base.shape[1]
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))[0]
    mean = base.mean(axis=0, dtype=np.float64)
    r, q = (base - mean) @ turn, (queries - mean) @ turn
    direction = np.where(r > 0, 1.0, -1.0)
    if bits > 1:
        norms = np.linalg.norm(r, axis=1, keepdims=True)
        direction *= magnitudes(np.abs(r) / norms, bits - 1) + 0.5
    norm2 = (r**2).sum(1)
    scale = norm2 / (r * direction).sum(1)
    return norm2 + (q**2).sum(1)[:, None] - 2 * scale * (q @ direction.T)


def nearest(base, queries):
    """The K nearest rows of each query, in no order."""
    wide, best = base.astype(np.float64), []
    squared = (wide**2).sum(1)
    for begin in range(0, len(queries), 64):
        distance = squared - 2 * (queries[begin : begin + 64].astype(np.float64) @ wide.T)
        best.extend(np.argpartition(distance, K - 1, axis=1)[:, :K])
    return best


def share(found, best):
    return np.mean([np.isin(f, b).mean() for f, b in zip(found, best)])


def recall(found, base, queries):
    return share(found, nearest(base, queries))


@pytest.mark.parametrize("name", ["clustered", "embedding_like"])
def test_recall_is_that_of_the_best_scale_for_every_row(name):
    """Ours tries a few scales, each row the same; the reference tries all."""
    base, queries = getattr(datasets, name)(2_000, 300, dim=96)
    found = []
    for bits in (1, 2, 4, 8):
        theirs = np.mean(
            [
                recall(np.argsort(estimates(base, queries, bits, seed))[:, :K], base, queries)
                for seed in range(2)
            ]
        )
        index = ruvector.RabitqIndex.build(base, bits=bits, n_lists=1)
        found.append(recall(index.search_batch(queries, K)[0], base, queries))
        assert found[-1] >= theirs - 0.02, f"{bits} bits"
    assert found == sorted(found)


@pytest.mark.extras
def test_recall_of_codes_of_the_clustered_set():
    """As above at full size: what the reference finds, which takes it minutes, is written
    down here (two rotations; one for 8 bits). Rotations differ by a point."""
    base, queries = datasets.clustered(100_000, 1_000)
    best = nearest(base, queries)
    for bits, theirs in ((1, 0.1095), (2, 0.310), (4, 0.739), (8, 0.978)):
        found = []
        for seed in (1, 2):
            index = ruvector.RabitqIndex.build(base, bits=bits, n_lists=1, seed=seed)
            found.append(share(index.search_batch(queries, K)[0], best))
        assert np.mean(found) >= theirs - 0.015, f"{bits} bits"


def test_every_bit_helps():
    base, queries = datasets.clustered(10_000, 400, dim=64)
    for lists in (1, 20):
        found = []
        for bits in BITS:
            index = ruvector.RabitqIndex.build(base, bits=bits, n_lists=lists)
            found.append(recall(index.search_batch(queries, K)[0], base, queries))
        assert found == sorted(found)
        assert found[-1] > 0.95


def test_scores_come_closer_with_every_bit(rng):
    vectors = rng.standard_normal((2_000, 100)).astype(np.float32)
    query = rng.standard_normal(100).astype(np.float32)
    true = ((vectors.astype(np.float64) - query) ** 2).sum(1)
    errors = []
    for bits in BITS:
        index = ruvector.RabitqIndex.build(vectors, bits=bits)
        ids, scores = (np.array(x) for x in zip(*index.search(query, 2_000)))
        errors.append(np.sqrt(np.mean((scores - true[ids]) ** 2)))
        # Unbiased: the mean error is within its own spread, a few times over.
        assert abs(np.mean(scores - true[ids])) < 5 * errors[-1] / np.sqrt(2_000)
    assert all(b < 0.65 * a for a, b in zip(errors, errors[1:]))


# ---- codes ------------------------------------------------------------------------------


def decode(codes, bits):
    """X_j - (2^bits - 1) / 2 of each row, from the planes."""
    n, width = codes.shape
    planes = codes.reshape(n, bits, width // bits)
    set_ = np.unpackbits(planes, axis=2, bitorder="little").astype(np.int64)
    weights = 2 ** np.arange(bits)[::-1]
    return (set_ * weights[:, None]).sum(1) - (2**bits - 1) / 2


def test_codes_are_planes_from_the_sign_down(rng, bits):
    vectors = rng.standard_normal((400, 100)).astype(np.float32)
    index = ruvector.RabitqIndex.build(vectors, bits=bits, n_lists=1)
    assert index.bits == bits
    assert index.rotation() == (100, 128, 42)
    codes = index.codes
    assert (codes.shape, codes.dtype) == ((400, bits * 128 // 8), np.uint8)
    signs = ruvector.RabitqIndex.build(vectors, n_lists=1).codes
    assert np.array_equal(codes[:, :16], signs)
    # A rotation keeps angles, so decoded rows lie to each other as the vectors do.
    decoded = decode(codes, bits)
    decoded /= np.linalg.norm(decoded, axis=1, keepdims=True)
    centered = vectors - vectors.mean(axis=0, dtype=np.float64)
    centered /= np.linalg.norm(centered, axis=1, keepdims=True)
    error = np.abs(decoded @ decoded.T - centered @ centered.T)[~np.eye(400, dtype=bool)]
    # Noise of an estimated cosine over sqrt(dim) and two codes, with room for spread.
    noise = {1: 0.755, 2: 0.363, 3: 0.191, 4: 0.1, 5: 0.051, 6: 0.025, 7: 0.013, 8: 0.006}
    assert error.std() < 2 * noise[bits] / np.sqrt(128)


def test_equal_rows_have_equal_codes(coded, bits):
    vectors = np.tile(np.arange(40, dtype=np.float32), (70, 1))
    vectors[30:] += 1
    codes = coded.build(vectors, bits=bits).codes
    assert (codes[:30] == codes[0]).all()
    assert (codes[30:] == codes[30]).all()


def test_memory_grows_by_a_plane_a_bit(coded, rng):
    vectors = rng.standard_normal((640, 70)).astype(np.float32)
    used = []
    for bits in BITS:
        index = coded.build(vectors, bits=bits, n_lists=1)
        index.search(vectors[0])
        usage = index.memory_usage()
        assert index.codes.nbytes < usage["codes"] <= index.codes.nbytes + 24 * 640
        assert sum(v for k, v in usage.items() if k not in ("total", "mapped")) == usage["total"]
        used.append(index.memory_bytes)
    assert np.diff(used[1:]).tolist() == [640 * 96 // 8] * 6
    assert 0 < used[1] - used[0] <= 640 * (96 // 8 + 12)


def test_one_bit_is_the_default(coded, rng):
    vectors = rng.standard_normal((300, 20)).astype(np.float32)
    default, one, two = (coded.build(vectors, **o) for o in ({}, {"bits": 1}, {"bits": 2}))
    assert default.bits == 1
    assert default == one
    assert one != two
    assert two != one
    assert default.to_bytes() == one.to_bytes()
    assert "bits" not in repr(one)
    assert ", bits=2," in repr(two)


# ---- everything else --------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
def test_searches_of_every_metric(coded, bits, metric, rng):
    vectors = rng.standard_normal((500, 37)).astype(np.float32)
    vectors[3] = 0
    vectors[9] = vectors[4]
    index = build(coded, vectors, metric=metric, bits=bits, n_lists=5)
    rows = dict(enumerate(vectors))
    for query in (*rng.standard_normal((4, 37)).astype(np.float32), vectors[4], vectors[3]):
        for k in (1, 10, 500, 600):
            check_hits(index.search(query, k), query, rows, metric, k, keeps_vectors(index))


def test_exact_answers_are_those_of_one_bit(bits):
    base, queries = datasets.clustered(5_000, 100, dim=48)
    one = ruvector.RabitqPlusIndex.build(base, epsilon=5.0)
    more = ruvector.RabitqPlusIndex.build(base, epsilon=5.0, bits=bits)
    for a, b in zip(one.search_batch(queries), more.search_batch(queries)):
        assert np.array_equal(a, b)


def test_the_default_bound_keeps_the_recall(bits):
    base, queries = datasets.iid_normal(5_000, 200, dim=64)
    index = ruvector.RabitqPlusIndex.build(base, bits=bits)
    assert recall(index.search_batch(queries, K)[0], base, queries) >= 0.99


def test_changes_and_filters(coded, bits, rng):
    vectors = rng.standard_normal((800, 30)).astype(np.float32)
    index = build(coded, vectors[:600], bits=bits, n_lists=6)
    rows = dict(enumerate(vectors[:600]))
    index.remove(range(0, 600, 4))
    index.upsert([1, 2, 900], -vectors[:3])
    ids = index.add_batch(vectors[600:])
    rows = {i: v for i, v in rows.items() if i % 4}
    for id in (1, 2):
        del rows[id]
    rows.update(zip((1, 2, 900), -vectors[:3]))
    rows.update(zip(ids.tolist(), vectors[600:]))
    for _ in range(2):
        assert index.ids.tolist() == list(rows)
        assert index.codes.shape == (len(rows), bits * 4)
        mask = index.ids % 3 == 0
        allowed = {i: v for i, v in rows.items() if i % 3 == 0}
        for query in (vectors[5], -vectors[1], vectors[700]):
            exact = keeps_vectors(index)
            check_hits(index.search(query, 40), query, rows, "l2", 40, exact)
            hits = index.search(query, 40, allow=mask, allow_version=index.version)
            check_hits(hits, query, allowed, "l2", 40, exact)
            few = index.search(query, 5, allow=[900, 1, 5, 10**9])
            check_hits(few, query, {i: rows[i] for i in (900, 1, 5)}, "l2", 5, exact)
        index.vacuum()


def test_added_rows_have_the_codes_of_built_ones(coded, bits, rng):
    """Rows coded one by one, in a batch or by build, around the same mean."""
    vectors = rng.standard_normal((200, 20)).astype(np.float32)
    index = coded.build(vectors, bits=bits)
    expected = index.codes
    index.add_batch(vectors[:50])
    for row in vectors[50:70]:
        index.add(None, row)
    assert np.array_equal(index.codes[200:], expected[:70])


def test_a_batch_answers_as_single_searches_do(coded, bits):
    base, queries = datasets.clustered(3_000, 64, dim=33)
    index = build(coded, base, bits=bits, n_lists=10)
    ids, scores = index.search_batch(queries, 11)
    for i, query in enumerate(queries):
        assert list(zip(ids[i].tolist(), scores[i].tolist())) == index.search(query, 11)


def test_files_and_pickles(coded, bits, rng, tmp_path):
    vectors = rng.standard_normal((300, 45)).astype(np.float32)
    index = coded.build(vectors, bits=bits, metric="ip")
    index.remove(range(20, 40))
    expected = index.search(vectors[7], 30)
    index.save(tmp_path / "index")
    for copy in (
        coded.load(tmp_path / "index"),
        coded.load(tmp_path / "index", mmap=False),
        coded.from_bytes(index.to_bytes()),
        *(pickle.loads(pickle.dumps(index, protocol)) for protocol in (2, 5)),
    ):
        assert copy == index
        assert copy.bits == bits
        assert np.array_equal(copy.codes, index.codes)
        assert copy.search(vectors[7], 30) == expected
        copy.add(None, vectors[20])
        index_too = coded.from_bytes(index.to_bytes())
        index_too.add(None, vectors[20])
        assert copy.to_bytes() == index_too.to_bytes()


def test_damaged_files_are_refused(coded, rng):
    vectors = rng.standard_normal((40, 20)).astype(np.float32)
    index = coded.build(vectors, bits=5)
    data = index.to_bytes()
    for position in range(0, len(data), 31):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        with pytest.raises(ruvector.PersistError):
            coded.from_bytes(bytes(damaged))
        try:
            loaded = coded.from_bytes(bytes(damaged), verify=False)
        except ruvector.PersistError:
            continue
        loaded.search(np.zeros(loaded.dim, np.float32), 5)  # harmless


def test_the_number_of_threads_makes_no_difference(coded, bits):
    base, queries = datasets.clustered(3_000, 40, dim=40)
    digests = set()
    for threads in (1, 2, 3):
        ruvector.set_num_threads(threads)
        index = coded.build(base, bits=bits)
        ids, scores = index.search_batch(queries)
        digests.add((index.to_bytes(), ids.tobytes(), scores.tobytes()))
    assert len(digests) == 1


@pytest.mark.parametrize("dim", [*range(1, 34), 63, 64, 65, 127, 128, 129, 768, 1536])
def test_every_dimension(dim):
    rng = np.random.default_rng(dim)
    vectors = rng.standard_normal((70, dim)).astype(np.float32)
    query = rng.standard_normal(dim).astype(np.float32)
    for bits in (2, 4, 7, 8):
        for cls in CODED:
            index = build(cls, vectors, bits=bits)
            rows = dict(enumerate(vectors))
            check_hits(index.search(query), query, rows, "l2", 10, keeps_vectors(index))
