"""Files as docs/format.md describes them, read by examples/read_rbpx.py, which shares
nothing with the library."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import ruvector

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "read_rbpx.py"
spec = importlib.util.spec_from_file_location("read_rbpx", EXAMPLE)
reader = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reader)

CLASSES = ["FlatF32Index", "RabitqIndex", "RabitqPlusIndex", "RabitqAsymIndex"]
METRICS = ["l2", "ip", "cosine"]
DIMS = [1, 31, 32, 33, 64, 96, 100]
SEED = 0xFEDCBA9876543210


def make_vectors(n, dim, seed=0):
    vectors = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32) + 1
    vectors[n // 2] = 0
    return vectors


def build(name, vectors, **options):
    if name != "FlatF32Index":
        options.setdefault("n_lists", 3)
    return getattr(ruvector, name).build(vectors, seed=SEED, **options)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "index.rbpx")


# ---- columns -------------------------------------------------------------------------


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", CLASSES)
def test_columns_are_what_the_index_says(name, metric, dim, path):
    vectors = make_vectors(150, dim)
    ids = np.random.default_rng(1).permutation(150).astype(np.uint64) * np.uint64(2**55) + 7
    index = build(name, vectors, ids=ids, metric=metric)
    index.save(path)
    file = reader.read(path)
    assert file.block["kind"] == CLASSES.index(name)
    assert file.block["metric"] == METRICS.index(metric)
    assert (file.dim, file.seed, file.block["n"]) == (dim, SEED, 150)
    assert file.block["next_id"] == 149 * 2**55 + 8
    np.testing.assert_array_equal(file.ids, ids)
    np.testing.assert_array_equal(file.norms, index.norms)
    np.testing.assert_allclose(file.norms, np.linalg.norm(vectors, axis=1), rtol=1e-6)
    if name in ("FlatF32Index", "RabitqPlusIndex"):
        np.testing.assert_array_equal(file.vectors, vectors)
    else:
        assert file.vectors is None
    if name == "FlatF32Index":
        assert file.codes is file.factors is file.lists is file.mean is None
    else:
        np.testing.assert_array_equal(file.codes, index.codes)
        assert len(file.centroids) == index.n_lists == 3


def test_options_and_kept_vectors(path):
    vectors = make_vectors(40, 8)
    index = build("RabitqAsymIndex", vectors, rerank_factor=5, epsilon=2.5, n_lists=None)
    index.save(path)
    file = reader.read(path)
    np.testing.assert_array_equal(file.vectors, vectors)
    facts = (file.block[name] for name in ("rerank_factor", "epsilon", "n_lists_option", "n_lists"))
    assert tuple(facts) == (5, 2.5, 0, 1)


def test_removed_rows_are_not_in_the_file(path):
    vectors = make_vectors(50, 16)
    index = build("RabitqPlusIndex", vectors)
    index.remove([0, 7, 49])
    index.save(path)
    file = reader.read(path)
    kept = np.delete(np.arange(50), [0, 7, 49])
    np.testing.assert_array_equal(file.ids, kept)
    np.testing.assert_array_equal(file.vectors, vectors[kept])
    assert file.block["next_id"] == 50
    index.vacuum()
    assert index.to_bytes() == Path(path).read_bytes()


@pytest.mark.parametrize("name", CLASSES)
def test_an_index_without_rows(name, path):
    index = build(name, np.empty((0, 3), np.float32))
    index.save(path)
    file = reader.read(path)
    assert file.ids.shape == (0,)
    assert (file.dim, file.offsets) == (3, {})
    index.add(5, [1.0, 2.0, 3.0])
    index.remove(5)
    index.save(path)
    assert set(reader.read(path).offsets) <= {"mean", "centroids"}


def test_the_small_example_of_the_document(path):
    text = (ROOT / "docs" / "format.md").read_text()
    table = text.partition("A small example")[2].partition("## ")[0]
    rows = re.findall(r"^\| ([a-z]+)[^|]*\| (\d+) \| (\d+) \|$", table, re.MULTILINE)
    told = {name: (int(offset), int(size)) for name, offset, size in rows}
    build("RabitqPlusIndex", np.eye(2, dtype=np.float32), n_lists=1).save(path)
    file = reader.read(path)
    seen = {
        "header": (0, 32),
        "records": (32, 2 * (4 + 8)),
        "block": (file.block["offset"], 128),
        "section": (file.block["offset"] + 128, 24 * file.block["n_sections"]),
        **file.offsets,
        "trailer": (Path(path).stat().st_size - 40, 40),
    }
    assert seen == told


# ---- version 1 -------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 2**32])
def test_what_a_version_1_reader_sees(first, path):
    vectors = make_vectors(20, 5)
    ids = np.arange(20, dtype=np.uint64)[::-1] + np.uint64(first)
    build("RabitqPlusIndex", vectors, ids=ids).save(path)
    data = Path(path).read_bytes()
    assert struct.unpack_from("<8sIIQII", data) == (b"rbpx0001", 1, 5, SEED, 20, 20)
    records = np.frombuffer(data, [("id", "<u4"), ("vector", "<f4", 5)], 20, 32)
    np.testing.assert_array_equal(records["vector"], vectors)
    np.testing.assert_array_equal(records["id"], np.arange(20) if first else ids)
    np.testing.assert_array_equal(reader.read(path).ids, ids)


@pytest.mark.parametrize(
    ("name", "metric"),
    [(name, "l2") for name in CLASSES if name != "RabitqPlusIndex"]
    + [("RabitqPlusIndex", metric) for metric in ("ip", "cosine")],
)
def test_a_version_1_reader_refuses_the_rest(name, metric):
    assert build(name, make_vectors(4, 4), metric=metric).to_bytes()[:8] == b"rvxi0001"


def test_a_version_1_file_of_others(path):
    data = bytes.fromhex(
        "7262707830303031 01000000 02000000 8877665544332211 14000000 02000000"
        "07000000 0000803f 000020c0 2c010000 00000000 00004040"
    )
    for tail in (b"", b"whatever follows"):
        Path(path).write_bytes(data + tail)
        file = reader.read(path)
        assert (file.dim, file.seed, file.block) == (2, 0x1122334455667788, {})
        assert file.ids.tolist() == [7, 300]
        assert file.vectors.tolist() == [[1.0, -2.5], [0.0, 3.0]]
        index = ruvector.RabitqPlusIndex.load(path)
        np.testing.assert_array_equal(index.ids, file.ids)
        np.testing.assert_array_equal(np.asarray(index), file.vectors)
        assert (index.seed, index.rerank_factor) == (file.seed, 20)


# ---- digest and damage ------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 700, 1500])  # one leaf, and more than two
@pytest.mark.parametrize("name", CLASSES)
def test_the_digest_is_the_one_described(name, n):
    data = build(name, make_vectors(n, 400)).to_bytes()
    body, digest = data[:-40], data[-40:-8]
    leaves = b""
    for at in range(0, len(body), 1048576):
        leaves += hashlib.shake_256(body[at : at + 1048576]).digest(32)
    root = b"ruvector-tree-1" + struct.pack("<Q", len(body)) + leaves
    assert digest == hashlib.shake_256(root).digest(32)
    assert data[-8:] == b"RVXBEND1"


@pytest.mark.parametrize("name", ["RabitqIndex", "RabitqPlusIndex"])
def test_both_readers_see_a_flipped_bit(name, path):
    data = build(name, make_vectors(30, 20)).to_bytes()
    for at in np.random.default_rng(2).integers(0, len(data), 60):
        damaged = bytearray(data)
        damaged[at] ^= 1 << (at % 8)
        Path(path).write_bytes(damaged)
        with pytest.raises(ValueError, match="not a valid index file"):
            reader.read(path)
        with pytest.raises(ruvector.PersistError):
            getattr(ruvector, name).load(path)


@pytest.mark.parametrize("name", ["RabitqIndex", "RabitqPlusIndex"])
def test_both_readers_see_that_the_end_is_missing(name, path):
    data = build(name, make_vectors(30, 20)).to_bytes()
    records_end = 32 + 30 * (4 + 4 * 20)
    near = range(records_end + 1, records_end + 250)
    for size in {*range(0, len(data), 37), *near, len(data) - 1} - {records_end}:
        if size >= len(data):
            continue
        Path(path).write_bytes(data[:size])
        with pytest.raises(ValueError, match="not a valid index file"):
            reader.read(path)
        with pytest.raises(ruvector.PersistError):
            getattr(ruvector, name).load(path)


def test_records_alone_are_a_version_1_file(path):
    vectors = make_vectors(30, 20)
    data = build("RabitqPlusIndex", vectors).to_bytes()
    Path(path).write_bytes(data[: 32 + 30 * (4 + 4 * 20)])
    assert reader.read(path).block == {}
    np.testing.assert_array_equal(reader.read(path).vectors, vectors)
    np.testing.assert_array_equal(np.asarray(ruvector.RabitqPlusIndex.load(path)), vectors)


# ---- meaning ----------------------------------------------------------------------------


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("metric", METRICS)
def test_codes_and_factors_mean_what_the_document_says(metric, dim, path):
    build("RabitqPlusIndex", make_vectors(200, dim), metric=metric).save(path)
    file = reader.read(path)
    r, bits = reader.residuals(file), reader.code_bits(file)
    clear = np.abs(r) > 1e-5  # nearer to 0 the sign is rounding
    np.testing.assert_array_equal((r > 0)[clear], (bits > 0)[clear])

    c = file.centroids[file.lists].astype(np.float64)
    norm1, norm2 = np.abs(r).sum(axis=1), (r * r).sum(axis=1)
    s = np.divide(2 * norm2, norm1, out=np.zeros(200), where=norm1 > 0)
    sign_c = ((bits - 0.5) * c).sum(axis=1)
    if metric == "ip":
        w = c + reader.rotate(file.mean.astype(np.float64), file.seed)
        a, b = s * sign_c - (r * w).sum(axis=1), -s
    else:
        a, b = norm2 + 2 * s * sign_c + (file.norms == 0) * (metric == "cosine"), -2 * s
    tolerance = 1e-5 * max(1, norm2.max())
    np.testing.assert_allclose(file.factors[:, 0], a, rtol=0, atol=tolerance)
    np.testing.assert_allclose(file.factors[:, 1], b, rtol=0, atol=tolerance)


@pytest.mark.parametrize("bits", [2, 5, 8])
@pytest.mark.parametrize("dim", [2, 33, 100])
@pytest.mark.parametrize("metric", METRICS)
def test_magnitudes_mean_what_the_document_says(metric, dim, bits, path):
    build("RabitqPlusIndex", make_vectors(200, dim), metric=metric, bits=bits).save(path)
    file = reader.read(path)
    r, y = reader.residuals(file), reader.code_levels(file)
    clear = np.abs(r) > 1e-5  # nearer to 0 the sign is rounding
    np.testing.assert_array_equal((r > 0)[clear], (y > 0)[clear])
    assert np.abs(y).min() >= 0.5
    assert np.abs(y).max() <= 2 ** (bits - 1) - 0.5

    c = file.centroids[file.lists].astype(np.float64)
    norm2, dot = (r * r).sum(axis=1), (r * y).sum(axis=1)
    some = norm2 > 1e-12 * max(1, norm2.max())
    s = np.divide(norm2, dot, out=np.zeros(200), where=some)
    cosine2 = np.divide(dot**2, norm2 * (y * y).sum(axis=1), out=np.ones(200), where=some)
    e = 2 * np.sqrt(norm2 * (1 - cosine2) / cosine2 / (y.shape[1] - 1))
    if metric == "ip":
        w = c + reader.rotate(file.mean.astype(np.float64), file.seed)
        a, b, e = s * (y * c).sum(axis=1) - (r * w).sum(axis=1), -s, e / 2
    else:
        a = norm2 + 2 * s * (y * c).sum(axis=1) + (file.norms == 0) * (metric == "cosine")
        b = -2 * s
    found_a, found_b, found_e = file.factors[some].T[2:]
    for found, expected in (found_a, a[some]), (found_b, b[some]):
        tolerance = 2e-5 * max(1, np.abs(expected).max())
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    # 1 - k^2 of eight bits is some 1e-5, and k comes from float32 sums
    np.testing.assert_allclose(found_e, e[some], rtol=0.05, atol=1e-3)


@pytest.mark.parametrize("bits", [1, 3, 8])
@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("metric", METRICS)
def test_scores_of_codes_are_the_estimates_described(metric, dim, bits, path):
    index = build("RabitqIndex", make_vectors(200, dim), metric=metric, bits=bits)
    index.save(path)
    file = reader.read(path)
    for query in make_vectors(5, dim, seed=3):  # one of them is zero
        expected = reader.estimates(file, query)
        scores = {hit.id: hit.score for hit in index.search(query, k=200)}
        tolerance = 1e-5 * max(1, np.abs(expected).max())
        found = [scores[id] for id in file.ids.tolist()]
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_the_rotation_keeps_lengths():
    for dim in DIMS:
        vectors = make_vectors(10, dim).astype(np.float64)
        turned = reader.rotate(vectors, SEED)
        np.testing.assert_allclose(turned @ turned.T, vectors @ vectors.T, atol=1e-9)


def test_the_summary_needs_no_ruvector(path):
    build("RabitqPlusIndex", make_vectors(300, 48)).save(path)
    command = [sys.executable, "-I", str(EXAMPLE), path]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "300 rows of dimension 48" in text
    assert "RabitqPlusIndex, metric l2" in text
    assert "digest    matches" in text
    same, total = re.search(r"codes     (\d+) of (\d+) bits", text).groups()
    assert int(same) == int(total) > 0.9 * 300 * 64
