"""recommend: choices that follow from the table of measurements, and hold."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import ruvector
from hypothesis import given
from hypothesis import strategies as st
from ruvector import _measured
from ruvector._recommend import _Row

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench import datasets, recall

ROWS = [_Row(*row) for row in _measured.ROWS]
PLACES = sorted({(row.n, row.dim) for row in ROWS})
TARGETS = (0.5, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999)


# ---- the table -------------------------------------------------------------------------


def at(n, dim):
    """Setting -> its rows, at one place of the table."""
    settings = {}
    for row in ROWS:
        if (row.n, row.dim) == (n, dim):
            setting = (row.bits, row.n_lists, row.nprobe, row.epsilon)
            settings.setdefault(setting, []).append(row)
    return settings


@pytest.mark.parametrize(("n", "dim"), PLACES)
def test_every_setting_is_measured_once_on_every_data_set(n, dim):
    sets = {tuple(sorted(row.data for row in rows)) for rows in at(n, dim).values()}
    (names,) = sets
    assert len(set(names)) == len(names) >= 2


def test_the_figures_of_the_table_are_possible():
    for row in ROWS:
        assert 0 < row.recall <= 1
        assert 0 < row.cost < 10
        assert 1 <= row.bits <= 8
        assert 4 * row.dim < row.bytes_per_vector < 8 * row.dim + 200
        assert row.n_lists is None or 1 <= row.n_lists <= max(64, row.n // 64)
        assert row.nprobe == "all" or row.nprobe >= 1
        assert row.epsilon > 0


# ---- choices ---------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "dim"), PLACES)
def test_the_fastest_setting_that_reached_the_recall_everywhere(n, dim):
    for target in TARGETS:
        fit = {
            setting: max(row.cost for row in rows)
            for setting, rows in at(n, dim).items()
            if all(row.recall >= target for row in rows)
        }
        advice = ruvector.recommend(n, dim, target)
        if min(fit.values(), default=1) >= 0.5:
            assert advice.index == "FlatF32Index"
            continue
        build, search = advice.build, advice.search
        setting = (
            build.get("bits", 1),
            build.get("n_lists"),
            search.get("nprobe", "all"),
            build["epsilon"],
        )
        assert fit[setting] == min(fit.values()) == advice.cost
        assert advice.recall == min(row.recall for row in at(n, dim)[setting]) >= target


def test_a_size_between_takes_the_next_larger_one():
    n, dim = PLACES[-1]
    assert f"measured on {n} x {dim} " in ruvector.recommend(n - 1, dim).why
    assert f"measured on {n} x {dim} " in ruvector.recommend(n, dim - 1).why
    for advice in (ruvector.recommend(n + 1, dim), ruvector.recommend(n, dim + 1)):
        assert advice.why.endswith("nothing larger was measured")
    assert "larger" not in ruvector.recommend(n, dim).why


def test_more_recall_never_costs_less():
    for n, dim in ((10_000, 100), (150_000, 128), (3_000_000, 1_000)):
        advice = [ruvector.recommend(n, dim, target) for target in TARGETS]
        assert [a.cost for a in advice] == sorted(a.cost for a in advice)
        assert all(a.recall >= target for a, target in zip(advice, TARGETS))


@given(
    st.integers(0, 10**9),
    st.integers(1, 8192),
    st.floats(0, 1, exclude_min=True),
)
def test_what_is_chosen_can_be_built(n, dim, target):
    advice = ruvector.recommend(n, dim, target)
    assert advice.recall >= target
    assert advice.k == 10
    assert 0 < advice.cost <= 1
    assert advice.bytes_per_vector > 4 * dim
    assert advice.why
    assert 1 <= advice.build.get("n_lists", 1) <= min(65536, max(64, n // 64))
    assert 1 <= advice.search.get("nprobe", 1) <= 65536
    two = np.zeros((2, dim), np.float32)
    build = {k: v for k, v in advice.build.items() if k != "n_lists"}
    idx = getattr(ruvector, advice.index).build(two, **build)
    assert len(idx.search(two[0], advice.k, **advice.search)) == 2


@pytest.mark.parametrize("target", [0.9, 0.99])
def test_other_data_of_the_kind_reaches_the_recall(target):
    base, queries = datasets.clustered(10_000, 300, dim=100, seed=7)
    advice = ruvector.recommend(*base.shape, target)
    assert advice.index == "RabitqPlusIndex"
    idx = ruvector.RabitqPlusIndex.build(base, **advice.build)
    found, _ = idx.search_batch(queries, advice.k, **advice.search)
    kth = recall.nearest(base, queries, advice.k)[1][:, -1]
    assert recall.recall(found, base, queries, kth) >= target - 0.01


@pytest.mark.parametrize(
    ("n", "target", "index"),
    [
        (0, 0.99, "FlatF32Index"),
        (1_000, 0.9, "FlatF32Index"),
        (100_000, 0.9, "RabitqPlusIndex"),
        (1_000_000, 0.99, "RabitqPlusIndex"),
        (1_000_000, 0.999, "RabitqPlusIndex"),
        (1_000_000, 1.0, "FlatF32Index"),
    ],
)
def test_small_data_and_perfect_recall_are_scanned(n, target, index):
    assert ruvector.recommend(n, 32, target).index == index


@pytest.mark.parametrize("dim", [17, 128, 768])
@pytest.mark.parametrize("target", [0.9, 0.9999, 1.0])
def test_memory_is_counted_as_the_index_does(dim, target, rng):
    advice = ruvector.recommend(10_000, dim, target)
    vectors = rng.standard_normal((10_000, dim)).astype(np.float32)
    idx = getattr(ruvector, advice.index).build(vectors, **advice.build)
    idx.search(vectors[0])
    per_vector = idx.memory_bytes / 10_000
    assert 0.93 * advice.bytes_per_vector <= per_vector <= 1.03 * advice.bytes_per_vector


def test_recommendations_are_values():
    assert ruvector.recommend(10, 3) == ruvector.recommend(10, 3)
    with pytest.raises(AttributeError):
        ruvector.recommend(10, 3).index = "other"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((-1, 3), ValueError),
        ((10, 0), ValueError),
        ((10, 8193), ValueError),
        ((10, 3, 0), ValueError),
        ((10, 3, 1.1), ValueError),
        ((10, 3, float("nan")), ValueError),
        ((1.5, 3), TypeError),
        ((10, "3"), TypeError),
    ],
)
def test_recommend_refuses_what_makes_no_sense(arguments, error):
    with pytest.raises(error):
        ruvector.recommend(*arguments)
