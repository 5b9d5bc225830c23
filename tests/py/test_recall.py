"""Recall at default settings on data nobody tuned to.

Exact neighbors come from NumPy in float64. What the 1-bit codes of the
ruvector-rabitq crate find on the same vectors is computed beside ours.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
import ruvector

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench import datasets, recall, reference

K = 10
SETS = {
    # name: (maker, least recall of RabitqPlusIndex)
    "clustered": (lambda: datasets.clustered(100_000, 1_000), 0.999),
    "normal": (lambda: datasets.iid_normal(100_000, 100, dim=768), 0.99),
    "sift": (lambda: datasets.sift(80_000, 300, images=12), 0.999),
    "sentences": (lambda: datasets.sentences(10_000, 300), 0.999),
}


@pytest.fixture(scope="module", params=SETS)
def data(request):
    """(base, queries, distance of each query's k-th neighbor, least recall)."""
    make, floor = SETS[request.param]
    try:
        base, queries = make()
    except datasets.DataUnavailable as reason:
        pytest.skip(str(reason))
    return base, queries, recall.nearest(base, queries, K)[1][:, -1], floor


def test_default_index_finds_the_exact_neighbors(data):
    base, queries, kth, floor = data
    index = ruvector.RabitqPlusIndex.build(base)
    ids, scores = index.search_batch(queries, K)
    assert recall.recall(ids, base, queries, kth) >= floor
    exact = ((base[ids[:, 0]].astype(np.float64) - queries) ** 2).sum(axis=1)
    np.testing.assert_allclose(scores[:, 0], exact, rtol=1e-4)


@pytest.mark.extras
def test_codes_alone_beat_the_reference_at_equal_bytes(data):
    base, queries, kth, _ = data
    index = ruvector.RabitqIndex.build(base)
    factors = 2 * 4
    assert index.codes.shape[1] + factors <= reference.code_bytes(base.shape[1])
    ours = recall.recall(index.search_batch(queries, K)[0], base, queries, kth)
    theirs = recall.recall(reference.codes_only(base, queries, K), base, queries, kth)
    assert ours > theirs
