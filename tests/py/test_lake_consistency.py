"""When the backend is asked, when not, and what follows: each line of the table."""

from __future__ import annotations

import time

import numpy as np
import pytest
import ruvector
from lakes import Described, Source, counters, lake_of, local
from ruvector import Consistency, RuLake

FAR = np.full(16, 9, np.float32)


def grow(source: Source, id: int = 777) -> None:
    source.vectors = np.concatenate([source.vectors, FAR[None]])
    source.ids = np.append(source.ids, id)
    source.number += 1


def test_fresh_notices_every_change():
    source = Described()
    lake = lake_of(source)
    lake.search_one("docs", FAR)
    for id in (777, 778, 779):
        grow(source, id)
        assert id in [h.id for h in lake.search_one("docs", FAR, 3)]
    assert source.pulls == 4
    before = source.asked.count("bundle")
    lake.search_one("docs", FAR)
    assert source.asked.count("bundle") == before + 1


def test_fresh_with_local_backend_after_append():
    backend, vectors = local()
    lake = lake_of(backend)
    lake.search_one("docs", vectors[0])
    assert counters(lake)[:3] == (0, 1, 1)
    lake.search_one("docs", vectors[0])
    assert counters(lake)[:3] == (1, 1, 1)
    backend.append("docs", 777, FAR)
    assert lake.search_one("docs", FAR, 1)[0].id == 777
    assert lake.cache_stats().primes == 2


def test_eventual_does_not_ask_before_its_time():
    source = Described()
    lake = lake_of(source, consistency=Consistency.EVENTUAL, eventual_ttl_ms=3_600_000)
    first = lake.search_one("docs", FAR, 1)
    asked = len(source.asked)
    grow(source)
    assert lake.search_one("docs", FAR, 1) == first
    assert len(source.asked) == asked


def test_eventual_asks_again_after_its_time():
    """Skipped checks do not put the next one off: searches come more often than that."""
    source = Described()
    lake = lake_of(source, consistency=Consistency.EVENTUAL, eventual_ttl_ms=300)
    lake.search_one("docs", FAR)
    grow(source)
    end = time.monotonic() + 60
    while lake.search_one("docs", FAR, 1)[0].id != 777 and time.monotonic() < end:
        time.sleep(0.01)
    assert lake.search_one("docs", FAR, 1)[0].id == 777


def test_eventual_with_time_0_always_asks():
    source = Described()
    lake = lake_of(source, consistency=Consistency.EVENTUAL, eventual_ttl_ms=0)
    lake.search_one("docs", FAR)
    grow(source)
    assert lake.search_one("docs", FAR, 1)[0].id == 777


def test_a_check_that_was_not_made_counts_as_a_hit():
    source = Described()
    lake = lake_of(source, consistency=Consistency.EVENTUAL)
    for _ in range(5):
        lake.search_one("docs", FAR)
    assert counters(lake) == (4, 1, 1, 0)
    assert source.asked.count("bundle") <= 2, "before and after the pull"


def test_stale_asks_once_and_never_again():
    source = Described()
    lake = lake_of(source, consistency=Consistency.STALE)
    first = lake.search_one("docs", FAR, 3)
    grow(source)
    asked = len(source.asked)
    for _ in range(10):
        assert lake.search_one("docs", FAR, 3) == first
    assert len(source.asked) == asked
    assert lake.cache_stats()[:3] == (10, 1, 1)
    lake.invalidate_cache("docs")
    assert lake.search_one("docs", FAR, 1)[0].id == 777


def test_stale_still_notices_a_refresh(tmp_path):
    backend, _ = local()
    lake = lake_of(backend, consistency=Consistency.STALE)
    lake.prime("docs")
    backend.append("docs", 777, FAR)
    lake.publish_bundle("docs", tmp_path)
    result = lake.refresh_from_bundle_dir("docs", tmp_path)
    assert result is ruvector.RefreshResult.INVALIDATED
    assert lake.search_one("docs", FAR, 1)[0].id == 777


@pytest.mark.parametrize("consistency", [Consistency.FRESH, Consistency.EVENTUAL])
def test_a_key_without_its_backend(consistency, tmp_path):
    """The cache answers as long as the backend need not be asked."""
    backend, vectors = local()
    donor = lake_of(backend)
    donor.prime("docs")
    donor.save_cache_to_dir("docs", tmp_path)
    lake = RuLake(consistency=consistency, eventual_ttl_ms=200)
    key = ("local", "docs")
    lake.warm_from_dir(key, tmp_path)
    if consistency is Consistency.EVENTUAL:
        lake_with_time = RuLake(consistency=consistency)
        lake_with_time.warm_from_dir(key, tmp_path)
        assert lake_with_time.search_one("docs", vectors[4], 1)[0].id == 4
        time.sleep(0.25)
    with pytest.raises(ruvector.UnknownCollection, match="unknown backend: local"):
        lake.search_one("docs", vectors[4])
    assert counters(lake) == (0, 0, 0, 0)


def test_stale_answers_without_a_backend_for_ever(tmp_path):
    backend, vectors = local()
    donor = lake_of(backend)
    donor.prime("docs")
    donor.save_cache_to_dir("docs", tmp_path)
    lake = RuLake(consistency=Consistency.STALE, eventual_ttl_ms=0)
    lake.warm_from_dir(("local", "docs"), tmp_path)
    assert lake.search_one("docs", vectors[4], 1)[0].id == 4
    lake.invalidate_cache(("local", "docs"))
    with pytest.raises(ruvector.UnknownCollection):
        lake.search_one("docs", vectors[4], backend="local")


# ---- never pulling -----------------------------------------------------------------


@pytest.mark.parametrize("way", ["strict", "cached_only"])
def test_a_miss_can_be_an_error(way):
    source = Described()
    lake = lake_of(source, strict=way == "strict")
    only = {} if way == "strict" else {"cached_only": True}

    for method in (lake.search_one, lake.search_batch, lake.search_federated):
        query = [FAR] if method == lake.search_batch else FAR
        with pytest.raises(ruvector.CacheMissError) as caught:
            method("docs", query, **only)
        assert isinstance(caught.value, LookupError)
        assert (caught.value.backend, caught.value.collection) == ("source", "docs")
    assert source.pulls == 0
    assert counters(lake) == (0, 3, 0, 0)
    lake.prime("docs")
    assert lake.search_one("docs", FAR, 1, **only)
    grow(source)
    with pytest.raises(ruvector.CacheMissError):
        lake.search_one("docs", FAR, **only)
    assert source.pulls == 1


def test_only_cached_still_shares_what_another_key_brought():
    one, two = Described(name="one"), Described(name="two")
    lake = lake_of(one, two)
    lake.prime(("one", "docs"))
    hits = lake.search_one("docs", one.vectors[3], 1, backend="two", cached_only=True)
    assert hits[0] == ("two", "docs", 3, 0.0)
    assert lake.cache_stats().shared_hits == 1


# ---- the enum ----------------------------------------------------------------------


def test_the_enums_are_ints_with_names():
    assert [(c.name, int(c)) for c in Consistency] == [("FRESH", 0), ("EVENTUAL", 1), ("STALE", 2)]
    assert Consistency.FROZEN is Consistency.STALE
    results = ruvector.RefreshResult
    assert [(r.name, int(r)) for r in results] == [
        ("UP_TO_DATE", 0),
        ("INVALIDATED", 1),
        ("BUNDLE_MISSING", 2),
    ]
    assert results.UP_TO_DATE == 0


@pytest.mark.parametrize(
    "value", ["FRESH", "fresh", 0, 1, 2, True, None, ruvector.RefreshResult.UP_TO_DATE]
)
def test_nothing_else_is_a_consistency(value):
    with pytest.raises(TypeError, match="expected a ruvector"):
        RuLake(consistency=value)
    with pytest.raises(TypeError, match="expected a ruvector"):
        RuLake.builder().consistency(value)
