"""Publish and refresh, save and warm."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import ruvector
from lakes import (
    Described,
    Source,
    assert_hits,
    bundle_path,
    in_threads,
    lake_of,
    local,
    nearest,
    rows,
)
from ruvector import (
    Consistency,
    FsBackend,
    LocalBackend,
    RabitqPlusIndex,
    RefreshResult,
    RuLake,
    RuLakeBundle,
)
from test_persistence import V1

KEY = ("local", "docs")
STRANGE_IDS = [7, 42, 99, 2000, 2**40]


def stale() -> RuLake:
    return RuLake(consistency=Consistency.STALE)


def saved(folder, backend=None, **options):
    """A lake that has saved its only collection."""
    backend = backend or local()[0]
    lake = lake_of(backend, **options)
    lake.prime("docs")
    assert lake.save_cache_to_dir("docs", folder) == os.path.join(folder, "index.rbpx")
    return lake


# ---- publishing --------------------------------------------------------------------


def test_a_published_witness_is_the_one_a_search_installs(tmp_path):
    backend, vectors = local()
    lake = lake_of(backend)
    witness = lake.publish_bundle("docs", out_dir=tmp_path / "new" / "folder")
    assert lake.cache_witness_of(KEY) is None
    assert lake.cache_stats() == RuLake().cache_stats(), "publishing counts nothing"
    bundle = RuLakeBundle.read_from_dir(tmp_path / "new" / "folder")
    assert bundle.rvf_witness == witness
    assert bundle == backend.current_bundle("docs", 42, 20)
    lake.search_one("docs", vectors[0])
    assert lake.cache_witness_of(KEY) == witness
    assert lake.publish_bundle(KEY, tmp_path) == witness
    assert bundle_path(tmp_path).read_bytes() == bundle.to_json().encode()


def test_tags_are_published_and_erased(tmp_path):
    lake = lake_of(local()[0])
    tags = {"pii_policy": "pii://p", "lineage_id": "é", "memory_class": "episodic"}
    witness = lake.publish_bundle("docs", tmp_path, **tags)
    bundle = RuLakeBundle.read_from_dir(tmp_path)
    assert {name: getattr(bundle, name) for name in tags} == tags
    assert lake.publish_bundle("docs", tmp_path) == witness
    bundle = RuLakeBundle.read_from_dir(tmp_path)
    assert all(getattr(bundle, name) is None for name in tags)
    with pytest.raises(TypeError, match="lineage_id"):
        lake.publish_bundle("docs", tmp_path, lineage_id=3)
    with pytest.raises(ruvector.LakeError):
        lake.publish_bundle("docs", tmp_path, pii_policy="x" * 4097)
    assert RuLakeBundle.read_from_dir(tmp_path) == bundle


def test_publishing_what_is_not_there(tmp_path):
    lake = lake_of(local()[0])
    for key in ("none", ("local", "none"), ("who", "docs")):
        with pytest.raises(ruvector.UnknownCollection):
            lake.publish_bundle(key, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ruvector.LakeFileError) as caught:
        lake.publish_bundle("docs", tmp_path / "file")
    assert (caught.value.backend, caught.value.collection) == KEY
    assert os.listdir(tmp_path) == ["file"]


def test_threads_that_publish_to_one_directory(tmp_path):
    backend, _ = local()
    lake = lake_of(backend)
    witness = lake.publish_bundle("docs", tmp_path)

    def publish():
        for _ in range(50):
            assert lake.publish_bundle("docs", tmp_path) == witness

    def refresh():
        for _ in range(100):
            assert lake.refresh_from_bundle_dir("docs", tmp_path) is RefreshResult.UP_TO_DATE

    in_threads(*[publish] * 4, refresh)
    assert os.listdir(tmp_path) == ["table.rulake.json"]


# ---- refreshing --------------------------------------------------------------------


def test_each_outcome_of_a_refresh(tmp_path):
    backend, vectors = local()
    lake = lake_of(backend)
    assert lake.refresh_from_bundle_dir("docs", tmp_path) is RefreshResult.BUNDLE_MISSING
    assert lake.refresh_from_bundle_dir(KEY, tmp_path / "no") is RefreshResult.BUNDLE_MISSING
    lake.publish_bundle("docs", tmp_path)
    assert lake.refresh_from_bundle_dir("docs", tmp_path) is RefreshResult.UP_TO_DATE  # no entry
    lake.prime("docs")
    assert lake.refresh_from_bundle_dir("docs", tmp_path) is RefreshResult.UP_TO_DATE
    backend.append("docs", 777, vectors[0])
    lake.publish_bundle("docs", tmp_path)
    invalidations = lake.cache_stats().invalidations
    assert lake.refresh_from_bundle_dir("docs", tmp_path) is RefreshResult.INVALIDATED
    assert lake.cache_stats().invalidations == invalidations + 1
    assert lake.cache_witness_of(KEY) is None
    assert lake.refresh_from_bundle_dir("docs", tmp_path) is RefreshResult.UP_TO_DATE
    # A key that no backend has can be refreshed as well.
    other = ("somewhere", "docs")
    assert lake.refresh_from_bundle_dir(key=other, dir=tmp_path) == RefreshResult.UP_TO_DATE


@pytest.mark.parametrize("damage", ["altered", "cut", "newer", "empty", "directory"])
def test_a_bundle_that_cannot_be_trusted_changes_nothing(tmp_path, damage):
    backend, vectors = local()
    lake = lake_of(backend)
    witness = lake.prime("docs")
    backend.append("docs", 777, vectors[0])
    lake.publish_bundle("docs", tmp_path)
    path = bundle_path(tmp_path)
    text = path.read_text()
    if damage == "altered":
        path.write_text(text.replace('"rotation_seed": 42', '"rotation_seed": 43'))
    elif damage == "cut":
        path.write_text(text[:-20])
    elif damage == "newer":
        path.write_text(text.replace('"format_version": 2', '"format_version": 3'))
    elif damage == "empty":
        path.write_text("")
    else:
        path.unlink()
        path.mkdir()
    expected = ruvector.WitnessMismatch if damage == "altered" else ruvector.LakeError
    before = lake.cache_stats()
    with pytest.raises(expected) as caught:
        lake.refresh_from_bundle_dir("docs", tmp_path)
    assert lake.cache_stats() == before
    assert lake.cache_witness_of(KEY) == witness
    if damage == "altered":
        assert len(caught.value.expected) == len(caught.value.actual) == 64
        assert caught.value.expected != caught.value.actual


# ---- snapshots ---------------------------------------------------------------------


@pytest.mark.parametrize("ids", [None, STRANGE_IDS], ids=["counted", "strange"])
def test_a_snapshot_answers_alone_and_to_the_bit(tmp_path, ids):
    vectors = rows(200 if ids is None else 5, 32)
    backend = LocalBackend("local")
    backend.put_collection("docs", range(200) if ids is None else ids, vectors)
    before = saved(tmp_path, backend)
    lake = stale()
    for _ in range(2):  # warming twice is no harm
        assert lake.warm_from_dir(KEY, tmp_path) == len(vectors)
    for query in rows(20, 32, seed=8):
        assert lake.search_one("docs", query, 9) == before.search_one("docs", query, 9)
    stats = lake.cache_stats()
    assert (stats.warm_installs, stats.primes, stats.total_prime_ms) == (1, 0, 0.0)
    assert lake.cache_witness_of(KEY) == before.cache_witness_of(KEY)
    assert not lake.cache_entry(KEY).ids_unverified
    if ids:
        assert {h.id for h in lake.search_one("docs", vectors[0], 9)} == set(ids)


def test_remember_verify_forget_and_come_back(tmp_path):
    backend, vectors = local()
    lake = saved(tmp_path, backend, consistency=Consistency.EVENTUAL)
    before = lake.search_batch("docs", vectors[:20], 5)
    witness = lake.cache_witness_of(KEY)
    assert RuLakeBundle.read_from_dir(tmp_path).verify_witness()
    lake.invalidate_cache(KEY)
    assert lake.cache_entry_count() == 0
    lake.warm_from_dir(KEY, tmp_path)
    assert lake.cache_witness_of(KEY) == witness
    assert lake.search_batch("docs", vectors[:20], 5) == before
    assert lake.cache_stats().primes == 1


def test_what_is_saved_is_what_was_built_from_not_what_is_now(tmp_path):
    backend, vectors = local()
    lake = lake_of(backend)
    witness = lake.prime("docs")
    far = vectors[0] + 9
    backend.append("docs", 777, far)
    lake.save_cache_to_dir("docs", tmp_path)
    assert RuLakeBundle.read_from_dir(tmp_path).rvf_witness == witness
    fresh = lake_of(backend)
    fresh.warm_from_dir(KEY, tmp_path)
    assert fresh.search_one("docs", far, 1)[0].id == 777, "old rows must not pass for new ones"
    assert fresh.cache_stats().misses == 1


def test_files_changed_within_the_second_of_their_snapshot(tmp_path):
    vectors, second = rows(200), 1_700_000_000 * 10**9
    backend = FsBackend("local", tmp_path / "files")
    file = tmp_path / "files" / "docs.bin"

    def write(vectors, ns):
        backend.write("docs", "docs.bin", range(200), vectors)
        os.utime(file, ns=(second, second + ns))

    write(vectors, 1)
    saved(tmp_path / "snapshot", backend)
    moved = tmp_path / "moved"
    shutil.copytree(tmp_path / "files", moved)
    os.rename(tmp_path / "files", tmp_path / "old")
    os.rename(moved, tmp_path / "files")  # another inode, another time of creation
    copied = lake_of(backend)
    copied.warm_from_dir(KEY, tmp_path / "snapshot")
    assert_hits(copied.search_one("docs", vectors[3], 5), nearest(vectors[3], vectors, 5))
    assert copied.cache_stats().primes == 0
    write(vectors + 9, 2)
    for lake in (lake_of(backend), copied):
        lake.warm_from_dir(KEY, tmp_path / "snapshot")
        hit = lake.search_one("docs", vectors[3] + 9, 1)[0]
        assert (hit.id, hit.score) == (3, 0.0), "old rows must not pass for new ones"
        assert lake.cache_stats().primes == 1


def test_saving_needs_an_entry_but_no_backend(tmp_path):
    lake = lake_of(local()[0])
    for key in (KEY, ("who", "docs")):
        with pytest.raises(ruvector.UnknownCollection):
            lake.save_cache_to_dir(key, tmp_path)
    saved(tmp_path / "a")
    alone = stale()
    alone.warm_from_dir(KEY, tmp_path / "a")
    alone.save_cache_to_dir(KEY, tmp_path / "b")
    for name in os.listdir(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert sorted(os.listdir(tmp_path / "b")) == ["index.rbpx", "table.rulake.json"]
    (tmp_path / "file").write_text("")
    with pytest.raises(ruvector.LakeFileError) as caught:
        alone.save_cache_to_dir(KEY, tmp_path / "file" / "x")
    assert isinstance(caught.value, (ruvector.PersistError, OSError))


def test_snapshots_that_are_not_there(tmp_path):
    lake = stale()
    with pytest.raises(ruvector.LakeFileNotFound):
        lake.warm_from_dir(KEY, tmp_path)
    saved(tmp_path)
    (tmp_path / "index.rbpx").unlink()
    with pytest.raises(FileNotFoundError, match=r"index\.rbpx"):
        lake.warm_from_dir(KEY, tmp_path)
    assert (lake.cache_entry_count(), lake.cache_stats().warm_installs) == (0, 0)


def rebundle(folder, **changes) -> None:
    """A bundle with other fields and a right witness."""
    old = RuLakeBundle.read_from_dir(folder)
    fields = {
        name: getattr(old, name)
        for name in ("data_ref", "dim", "rotation_seed", "rerank_factor", "generation")
    }
    RuLakeBundle(**{**fields, **changes}).write_to_dir(folder)


def test_pairs_that_do_not_belong_together(tmp_path):
    saved(tmp_path / "a")
    saved(tmp_path / "b", local("other", seed=1)[0])

    def refused(expected=ruvector.WitnessMismatch):
        lake = stale()
        with pytest.raises(expected) as caught:
            lake.warm_from_dir(KEY, tmp_path / "c")
        assert lake.cache_entry_count() == 0
        assert lake.cache_stats().warm_installs == 0
        return caught.value

    for changes in (
        {"dim": 17},
        {"rotation_seed": 43},
        {"rerank_factor": 19},
        {"generation": 2},
        {"data_ref": "local://other/docs"},
    ):
        shutil.copytree(tmp_path / "a", tmp_path / "c", dirs_exist_ok=True)
        rebundle(tmp_path / "c", **changes)
        refused()
    # Another collection's index: same dimension, seed and rerank factor.
    shutil.copytree(tmp_path / "a", tmp_path / "c", dirs_exist_ok=True)
    shutil.copy(tmp_path / "b" / "index.rbpx", tmp_path / "c")
    refused()
    # A bundle whose witness is not its own.
    shutil.copytree(tmp_path / "a", tmp_path / "c", dirs_exist_ok=True)
    path = bundle_path(tmp_path / "c")
    path.write_text(path.read_text().replace('"dim": 16', '"dim": 15'))
    error = refused()
    assert error.expected != error.actual


def test_every_kind_of_damage_to_a_snapshot_is_noticed(tmp_path):
    saved(tmp_path)
    path = tmp_path / "index.rbpx"
    data = path.read_bytes()
    for n in (0, 7, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:n])
        with pytest.raises(ruvector.LakeError):
            stale().warm_from_dir(KEY, tmp_path)
    for i in range(0, len(data), len(data) // 60):
        path.write_bytes(data[:i] + bytes([data[i] ^ 0x40]) + data[i + 1 :])
        with pytest.raises(ruvector.LakeError):
            stale().warm_from_dir(KEY, tmp_path)
    path.write_bytes(data)
    assert stale().warm_from_dir(KEY, tmp_path) == 200


def test_the_snapshot_of_other_data_with_the_same_witness(tmp_path):
    """Generations in memory start at 1 in every process."""
    saved(tmp_path)
    other, vectors = local(seed=5)
    lake = lake_of(other, consistency=Consistency.STALE)
    with pytest.raises(ruvector.WitnessMismatch):
        lake.warm_from_dir(KEY, tmp_path)
    assert_hits(lake.search_one("docs", vectors[0], 3), nearest(vectors[0], vectors, 3))
    same, _ = local()
    assert lake_of(same).warm_from_dir(KEY, tmp_path) == 200


# ---- files of others ---------------------------------------------------------------


def test_the_index_of_a_version_1_writer(tmp_path):
    index = RabitqPlusIndex.from_bytes(V1)
    (tmp_path / "index.rbpx").write_bytes(V1)
    RuLakeBundle("x", index.dim, index.seed, index.rerank_factor, 1).write_to_dir(tmp_path)
    lake = stale()
    assert lake.warm_from_dir(("r", "docs"), tmp_path) == len(index)
    counted = index.ids.tolist() == list(range(len(index)))
    assert lake.cache_entry(("r", "docs")).ids_unverified == counted
    for id, vector in index:
        assert lake.search_one("docs", vector, 1)[0] == ("r", "docs", id, 0.0)


def test_the_body_of_our_own_file_without_what_follows_is_unverified(tmp_path):
    saved(tmp_path)
    data = (tmp_path / "index.rbpx").read_bytes()
    body = 32 + 200 * (4 + 4 * 16)  # a version-1 file ends with its records
    assert data[:8] == b"rbpx0001"
    numbers = np.frombuffer(data[32:body], "<u4").reshape(200, 17)[:, 0]
    assert numbers.tolist() == list(range(200))
    (tmp_path / "index.rbpx").write_bytes(data[:body])
    lake = stale()
    assert lake.warm_from_dir(KEY, tmp_path) == 200
    assert lake.cache_entry(KEY).ids_unverified
    assert lake.search_one("docs", rows(200)[17], 1)[0].id == 17


def test_record_ids_are_mapped_by_position(tmp_path):
    """An index saved by itself: ids in any order, beyond the number of rows."""
    vectors = rows(5, 8)
    for ids in ([3, 0, 4, 1, 2], [70, 5, 900, 12, 4], STRANGE_IDS):
        index = RabitqPlusIndex.build(vectors, ids=ids, seed=42, rerank_factor=20)
        index.save(tmp_path / "index.rbpx")
        RuLakeBundle("x", 8, 42, 20, 1).write_to_dir(tmp_path)
        lake = stale()
        lake.warm_from_dir(KEY, tmp_path)
        for id, vector in zip(ids, vectors):
            assert lake.search_one("docs", vector, 1)[0].id == id


# ---- together with the sources -----------------------------------------------------


def test_the_first_search_after_warming_neither_pulls_nor_builds(tmp_path):
    source = Described()
    saved(tmp_path, source)
    source.asked.clear()
    lake = lake_of(source)
    lake.warm_from_dir(("source", "docs"), tmp_path)
    for _ in range(3):
        assert lake.search_one("docs", source.vectors[3], 1)[0].id == 3
    assert source.pulls == 0
    assert lake.cache_stats()[:3] == (3, 0, 0)


def test_an_adapter_is_called_back_on_a_miss_only():
    source = Source()
    lake = lake_of(source)
    assert source.asked == []
    lake.search_one("docs", source.vectors[0])
    assert source.pulls == 1
    lake.search_one("docs", source.vectors[0])
    assert source.pulls == 1


def test_publish_change_publish_refresh(tmp_path):
    fs = FsBackend("fs", tmp_path / "data")
    fs.write("docs", "x.bin", range(10), rows(10))
    lake = lake_of(fs)
    first = lake.publish_bundle("docs", tmp_path)
    lake.prime("docs")
    fs.write("docs", "x.bin", range(20), rows(20))
    os.utime(tmp_path / "data" / "x.bin", (1_000_000_000, 1_000_000_000))
    assert lake.publish_bundle("docs", tmp_path) != first
    assert lake.refresh_from_bundle_dir(("fs", "docs"), tmp_path) is RefreshResult.INVALIDATED
    assert len(lake.search_batch("docs", rows(1), 99)[0]) == 20


def test_the_snapshot_of_an_empty_collection(tmp_path):
    lake = lake_of(Source(np.zeros((0, 4), np.float32)))
    lake.prime("docs")
    lake.save_cache_to_dir("docs", tmp_path)
    again = stale()
    assert again.warm_from_dir(("source", "docs"), tmp_path) == 0
    with pytest.raises(ruvector.EmptyCollection):
        again.search_one("docs", [0.0] * 4)
