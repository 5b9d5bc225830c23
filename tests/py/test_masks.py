"""A mask means the rows it was made for, or it is refused."""

from __future__ import annotations

import numpy as np
import pytest
from oracle import build

N, DIM = 60, 8


@pytest.fixture
def vectors(rng):
    return rng.standard_normal((2 * N, DIM)).astype(np.float32)


@pytest.fixture
def idx(cls, vectors):
    return build(cls, vectors[:N])


def only(position, n=N):
    mask = np.zeros(n, bool)
    mask[position] = True
    return mask


def add_and_remove(idx, vectors):
    idx.remove([3])
    idx.add(None, vectors[N])


def replace(idx, vectors):
    idx.upsert([3], vectors[3:4])


def remove_and_put_back(idx, vectors):
    idx.remove([3])
    idx.add(3, vectors[3])


SAME_LENGTH = [add_and_remove, replace, remove_and_put_back]


@pytest.mark.parametrize("change", SAME_LENGTH)
def test_a_mask_from_before_a_change_is_refused(idx, vectors, change):
    version, mask = idx.version, only(40)
    assert [h.id for h in idx.search(vectors[0], allow=mask)] == [40]
    change(idx, vectors)
    assert len(idx) == N
    assert idx.ids[40] != 40  # what the mask would mean now
    with pytest.raises(ValueError, match="a mask alone could mean other rows"):
        idx.search(vectors[0], allow=mask)
    with pytest.raises(ValueError, match="a mask alone could mean other rows"):
        idx.search_batch(vectors[:2], allow=np.stack([mask, mask]))
    with pytest.raises(ValueError, match=f"changed since version {version}, .* to version"):
        idx.search(vectors[0], allow=mask, allow_version=version)
    with pytest.raises(ValueError, match=f"changed since version {version}"):
        idx.search_batch(vectors[:2], allow=mask, allow_version=version)


@pytest.mark.parametrize("change", SAME_LENGTH)
def test_the_way_out_the_message_names(idx, vectors, change):
    change(idx, vectors)
    version = idx.version
    mask = idx.ids == 40
    assert [h.id for h in idx.search(vectors[0], allow=mask, allow_version=version)] == [40]
    ids, _ = idx.search_batch(vectors[:2], k=1, allow=mask, allow_version=version)
    assert ids.tolist() == [[40], [40]]
    assert [h.id for h in idx.search(vectors[0], allow=[40])] == [40]


@pytest.mark.parametrize("change", SAME_LENGTH)
def test_no_advice_would_make_other_rows_of_an_old_mask(idx, vectors, change):
    mask = only(40)
    change(idx, vectors)
    assert idx.ids[mask].tolist() != [40]  # what makes this conversion wrong
    with pytest.raises(ValueError, match="a mask alone could mean other rows") as refused:
        idx.search(vectors[0], allow=mask)
    assert "[mask]" not in str(refused.value)
    assert "allow_version=index.version" not in str(refused.value)


def test_the_way_out_of_a_version_that_is_old(idx, vectors):
    version, mask = idx.version, idx.ids == 40
    idx.remove([3])
    with pytest.raises(ValueError, match="read the version again, then make the mask anew"):
        idx.search(vectors[0], allow=only(40, N - 1), allow_version=version)
    with pytest.raises(ValueError, match=r"has 60 entries, .* 59 rows; make a mask with one"):
        idx.search(vectors[0], allow=mask, allow_version=version)
    version, mask = idx.version, idx.ids == 40
    assert [h.id for h in idx.search(vectors[0], allow=mask, allow_version=version)] == [40]


@pytest.mark.parametrize("change", SAME_LENGTH)
def test_no_old_mask_removes_other_rows_on_advice(idx, vectors, change):
    change(idx, vectors)
    for old in (only(40), only(40).astype(np.uint8), only(40).astype(float)):
        with pytest.raises((TypeError, ValueError)) as refused:
            idx.remove(old)
        assert "would name others: make it anew; pass index.ids[" in str(refused.value)


def test_rows_that_were_only_added_need_no_version(idx, vectors):
    idx.add_batch(vectors[N : N + 5])
    idx.upsert([500], vectors[:1])
    idx.remove([10**6])
    assert [h.id for h in idx.search(vectors[0], allow=only(40, N + 6))] == [40]
    with pytest.raises(ValueError, match="60 entries, but the index has 66 rows"):
        idx.search(vectors[0], allow=only(40))


def test_the_version_grows_with_every_change(cls, idx, vectors):
    other = build(cls, vectors[:N])
    seen = [idx.version, other.version]
    for change in (
        lambda: idx.add(None, vectors[0]),
        lambda: idx.add_batch(vectors[:3]),
        lambda: idx.upsert([1], vectors[:1]),
        lambda: idx.remove([2]),
    ):
        change()
        assert idx.version > max(seen)
        seen.append(idx.version)
    assert len(set(seen)) == len(seen)
    assert all(isinstance(version, int) for version in seen)
    idx.search(vectors[0])
    idx.remove([10**6])
    assert idx.version == seen[-1]


def test_a_version_of_another_index_is_refused(cls, idx, vectors, tmp_path):
    idx.save(tmp_path / "index.rbpx")
    for other in (
        build(cls, vectors[:N]),
        cls.load(tmp_path / "index.rbpx"),
        cls.from_bytes(idx.to_bytes()),
    ):
        assert other == idx
        with pytest.raises(ValueError, match="changed since version"):
            other.search(vectors[0], allow=only(40), allow_version=idx.version)
        assert [h.id for h in other.search(vectors[0], allow=only(40))] == [40]


def test_a_mask_made_anew_after_vacuum(idx, vectors):
    idx.remove(range(0, N, 2))
    idx.vacuum()
    version, mask = idx.version, idx.ids > 30
    hits = idx.search(vectors[0], k=N, allow=mask, allow_version=version)
    assert {h.id for h in hits} == set(range(31, N, 2))


@pytest.mark.parametrize(
    ("version", "error"), [(0, ValueError), (-1, ValueError), (2**64, ValueError), ("1", TypeError)]
)
def test_versions_there_are_none_of(idx, vectors, version, error):
    with pytest.raises(error, match="allow_version"):
        idx.search(vectors[0], allow=only(40), allow_version=version)


def test_a_version_goes_with_a_mask(idx, vectors):
    for options in ({}, {"allow": [40]}, {"allow": None}):
        with pytest.raises(ValueError, match="allow_version goes with a mask"):
            idx.search(vectors[0], allow_version=idx.version, **options)
    assert len(idx.search(vectors[0], allow_version=None)) == 10
