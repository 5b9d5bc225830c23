"""Random sequences of everything that changes an index, against a dict of vectors
searched by brute force."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
import ruvector
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from oracle import CLASSES, METRICS, build, check_hits, keeps_vectors

SEEDS = st.integers(0, 2**32 - 1)
DIMS = st.one_of(st.integers(1, 257), st.sampled_from([384, 768, 1536]))
IDS = st.one_of(st.integers(0, 60), st.integers(0, 2**64 - 2))
KS = st.sampled_from([1, 2, 7, 64, 65, 1000])
BITS = st.sampled_from([1, 1, 2, 3, 5, 8])
LISTS = st.none() | st.integers(1, 64)
PROBES = st.sampled_from([1, 2, 5, 64, 65536, "all"])


def make(seed: int, n: int, dim: int):
    """Clusters, repeated rows and a zero row: what bounds and ties trip over."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((4, dim)) * rng.choice([0.1, 1, 30])
    vectors = centers[rng.integers(0, 4, n)] + rng.standard_normal((n, dim))
    vectors = vectors.astype(np.float32)
    if n > 3:
        vectors[n // 2] = vectors[0]
        vectors[n // 3] = 0
    return vectors


class Machine(RuleBasedStateMachine):
    cls = ruvector.FlatF32Index
    metric = "l2"

    @initialize(
        dim=DIMS, n=st.integers(0, 120), seed=SEEDS, keep=st.booleans(), bits=BITS, lists=LISTS
    )
    def start(self, dim, n, seed, keep, bits, lists):
        vectors = make(seed, n, dim)
        self.dim = dim
        codes = {} if self.cls is ruvector.FlatF32Index else {"bits": bits, "n_lists": lists}
        self.index = build(self.cls, vectors, seed=seed, metric=self.metric, rerank=keep, **codes)
        self.rows = dict(enumerate(vectors))
        self.next_id = n

    def append(self, ids, vectors):
        self.rows.update(zip(ids, vectors))
        self.next_id = max([self.next_id, *(i + 1 for i in ids)])

    @rule(seed=SEEDS, id=st.none() | IDS)
    def add(self, seed, id):
        (vector,) = make(seed, 1, self.dim)
        if id is None and self.next_id >= ruvector.NO_ID:
            return
        if id in self.rows:
            with pytest.raises(ruvector.DuplicateId):
                self.index.add(id, vector)
            return
        got = self.index.add(id, vector)
        assert got == (self.next_id if id is None else id)
        self.append([got], [vector])

    @rule(seed=SEEDS, n=st.integers(0, 90))
    def add_batch(self, seed, n):
        if self.next_id + n >= ruvector.NO_ID:
            return
        vectors = make(seed, n, self.dim)
        got = self.index.add_batch(vectors).tolist()
        assert got == list(range(self.next_id, self.next_id + n))
        self.append(got, vectors)

    @rule(seed=SEEDS, ids=st.lists(IDS, max_size=12))
    def add_batch_with_ids(self, seed, ids):
        vectors = make(seed, len(ids), self.dim)
        if len(set(ids)) < len(ids) or self.rows.keys() & set(ids):
            with pytest.raises(ruvector.DuplicateId):
                self.index.add_batch(vectors, ids)
            return
        self.index.add_batch(vectors, ids)
        self.append(ids, vectors)

    @rule(seed=SEEDS, ids=st.lists(IDS, max_size=12, unique=True))
    def upsert(self, seed, ids):
        vectors = make(seed, len(ids), self.dim)
        self.index.upsert(ids, vectors)
        for id in ids:
            self.rows.pop(id, None)
        self.append(ids, vectors)

    @rule(ids=st.lists(IDS, max_size=30))
    def remove(self, ids):
        gone = self.rows.keys() & set(ids)
        assert self.index.remove(ids) == len(gone)
        for id in gone:
            del self.rows[id]

    @rule(seed=SEEDS, share=st.sampled_from([0.2, 0.7, 1.0]))
    def remove_many(self, seed, share):
        rng = np.random.default_rng(seed)
        ids = [id for id in self.rows if rng.random() < share]
        assert self.index.remove(np.array(ids, np.uint64)) == len(ids)
        for id in ids:
            del self.rows[id]

    @rule()
    def vacuum(self):
        self.index.vacuum()

    def replace(self, other):
        assert other == self.index
        assert other.to_bytes() == self.index.to_bytes()
        self.index = other

    @rule(mmap=st.booleans())
    def save_and_load(self, mmap):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "index.rbpx")
            self.index.save(path)
            self.replace(self.cls.load(path, mmap=mmap))

    @rule(protocol=st.sampled_from([2, 4, 5]))
    def pickle(self, protocol):
        self.replace(pickle.loads(pickle.dumps(self.index, protocol)))

    @precondition(lambda self: self.rows)
    @rule(seed=SEEDS, k=KS, known=st.booleans())
    def search(self, seed, k, known):
        query = make(seed, 1, self.dim)[0]
        if known:
            query = list(self.rows.values())[seed % len(self.rows)]
        hits = self.index.search(query, k)
        check_hits(hits, query, self.rows, self.metric, k, keeps_vectors(self.index))

    @precondition(lambda self: self.rows)
    @rule(seed=SEEDS, k=KS, share=st.sampled_from([0, 0.02, 0.5, 1]), by_mask=st.booleans())
    def search_allowed(self, seed, k, share, by_mask):
        rng = np.random.default_rng(seed)
        mask = rng.random(len(self.rows)) < share
        allowed = {id: v for (id, v), m in zip(self.rows.items(), mask) if m}
        query = make(seed, 1, self.dim)[0]
        options = {"allow": list(allowed)}
        if by_mask:
            options = {"allow": mask, "allow_version": self.index.version}
        hits = self.index.search(query, k, **options)
        check_hits(hits, query, allowed, self.metric, k, keeps_vectors(self.index))

    @precondition(lambda self: self.rows and self.cls is not ruvector.FlatF32Index)
    @rule(seed=SEEDS, k=KS, share=st.sampled_from([0.02, 0.5, 1]), nprobe=PROBES)
    def search_some_lists(self, seed, k, share, nprobe):
        mask = np.random.default_rng(seed).random(len(self.rows)) < share
        allowed = {id: v for (id, v), m in zip(self.rows.items(), mask) if m}
        query = make(seed, 1, self.dim)[0]
        version = self.index.version
        hits = self.index.search(query, k, allow=mask, allow_version=version, nprobe=nprobe)
        exact, complete = keeps_vectors(self.index), nprobe in ("all", 64, 65536)
        check_hits(hits, query, allowed, self.metric, k, exact, complete=complete)

    @precondition(lambda self: self.rows)
    @rule(seed=SEEDS, m=st.integers(1, 20), k=KS, nprobe=st.none() | PROBES)
    def search_batch(self, seed, m, k, nprobe):
        queries = make(seed, m, self.dim)
        options = {} if self.cls is ruvector.FlatF32Index else {"nprobe": nprobe}
        ids, scores = self.index.search_batch(queries, k, **options)
        for i in range(m):
            found = [h for h in zip(ids[i].tolist(), scores[i].tolist()) if h[0] != ruvector.NO_ID]
            assert found == self.index.search(queries[i], k, **options)

    @precondition(lambda self: not self.rows)
    @rule()
    def search_nothing(self):
        with pytest.raises(ruvector.EmptyIndex):
            self.index.search(np.zeros(self.dim, np.float32))

    @invariant()
    def same_rows(self):
        if not hasattr(self, "index"):
            return
        index, rows = self.index, self.rows
        vectors = np.array(list(rows.values()), np.float32).reshape(-1, self.dim)
        assert len(index) == len(rows)
        assert index.ids.tolist() == list(rows)
        assert all(id in index for id in list(rows)[:5])
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
        np.testing.assert_allclose(index.norms, norms, rtol=1e-5)
        if keeps_vectors(index):
            assert np.array_equal(np.asarray(index), vectors)


@pytest.mark.parametrize("metric", METRICS)
def test_any_sequence_of_operations(cls, metric):
    machine = type("Machine", (Machine,), {"cls": cls, "metric": metric})
    run_state_machine_as_test(machine, settings=settings(max_examples=25, stateful_step_count=20))


@settings(max_examples=60)
@given(
    cls=st.sampled_from(CLASSES),
    metric=st.sampled_from(METRICS),
    dim=DIMS,
    n=st.integers(1, 400),
    lists=LISTS,
    bits=BITS,
    k=KS,
    seed=SEEDS,
)
def test_any_shape(cls, metric, dim, n, lists, bits, k, seed):
    options = {} if cls is ruvector.FlatF32Index else {"n_lists": lists, "bits": bits}
    vectors = make(seed, n, dim)
    index = build(cls, vectors, seed=seed, metric=metric, **options)
    for query in (*make(seed + 1, 3, dim), vectors[0]):
        hits = index.search(query, k)
        check_hits(hits, query, dict(enumerate(vectors)), metric, k, keeps_vectors(index))


@pytest.mark.parametrize("dim", [*range(1, 258), 384, 768, 1536])
def test_every_dimension(dim):
    vectors = make(dim, 70, dim)
    for cls in CLASSES:
        for metric in METRICS:
            index = build(cls, vectors, metric=metric)
            query = make(dim + 1, 1, dim)[0]
            exact = keeps_vectors(index)
            check_hits(index.search(query), query, dict(enumerate(vectors)), metric, 10, exact)
