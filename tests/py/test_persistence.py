"""Files and bytes: round trips, version-1 files, damage, and what can go wrong on disk."""

from __future__ import annotations

import errno
import os
import pathlib
import struct
import sys

import numpy as np
import pytest
import ruvector
from hypothesis import example, given
from hypothesis import strategies as st
from oracle import CLASSES, METRICS, build, keeps_vectors

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")

# A version-1 file as the Rust crate writes it: dim 2, seed 0x1122334455667788,
# rerank factor 20, rows 7: (1, -2.5) and 300: (0, 3).
V1 = bytes.fromhex(
    "7262707830303031 01000000 02000000 8877665544332211 14000000 02000000"
    "07000000 0000803f 000020c0 2c010000 00000000 00004040"
)


def parse_v1(data: bytes):
    """The version-1 body at the front of a file: header fields, ids, vectors."""
    magic, version, dim, seed, rerank, n = struct.unpack_from("<8sIIQII", data)
    assert magic == b"rbpx0001"
    assert version == 1
    record = np.dtype([("id", "<u4"), ("vector", "<f4", (dim,))])
    rows = np.frombuffer(data, record, count=n, offset=32)
    return {"dim": dim, "seed": seed, "rerank": rerank}, rows["id"], rows["vector"]


@pytest.fixture
def vectors(rng):
    return rng.standard_normal((150, 33)).astype(np.float32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "index.rbpx"


def used(cls, vectors, **options):
    """An index with a past."""
    idx = build(cls, vectors, **options)
    idx.remove(range(10, 30))
    idx.upsert([2**40, 5], vectors[:2])
    return idx


# ---- round trips -----------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("mmap", [True, False])
def test_what_was_saved_is_what_is_loaded(cls, vectors, path, metric, mmap):
    idx = used(cls, vectors, metric=metric, seed=2**64 - 1)
    idx.save(path)
    loaded = cls.load(path, mmap=mmap)
    assert loaded == idx
    assert type(loaded) is cls
    assert (loaded.seed, loaded.metric, loaded.dim) == (2**64 - 1, metric, 33)
    assert loaded.ids.tolist() == idx.ids.tolist()
    assert np.array_equal(loaded.norms, idx.norms)
    for query in vectors[:5]:
        assert loaded.search(query, k=40) == idx.search(query, k=40)
    if keeps_vectors(idx):
        assert np.array_equal(np.asarray(loaded), np.asarray(idx))


def test_options_are_saved(vectors, path):
    idx = ruvector.RabitqPlusIndex.build(vectors, rerank_factor=7, epsilon=2.5, n_lists=3)
    idx.save(path)
    loaded = ruvector.RabitqPlusIndex.load(path)
    assert (loaded.rerank_factor, loaded.epsilon, loaded.n_lists) == (7, 2.5, 3)
    assert loaded.rotation() == idx.rotation()
    assert np.array_equal(loaded.codes, idx.codes)


def test_bytes_are_what_save_writes(cls, vectors, path):
    idx = used(cls, vectors)
    idx.save(path)
    assert path.read_bytes() == idx.to_bytes()


@pytest.mark.parametrize(
    "wrap", [bytes, bytearray, memoryview, lambda b: np.frombuffer(b, np.uint8)]
)
def test_any_buffer_holds_an_index(cls, vectors, wrap):
    idx = used(cls, vectors)
    assert cls.from_bytes(wrap(idx.to_bytes())) == idx


def test_bytes_at_any_address(cls, vectors):
    idx = used(cls, vectors)
    data = idx.to_bytes()
    for offset in range(1, 5):
        shifted = memoryview(bytes(offset) + data)[offset:]
        loaded = cls.from_bytes(shifted)
        assert loaded == idx
        assert loaded.search(vectors[3]) == idx.search(vectors[3])


def test_an_empty_index_can_be_saved(cls, path):
    idx = build(cls, np.zeros((0, 5), np.float32), metric="cosine")
    idx.save(path)
    loaded = cls.load(path)
    assert loaded == idx
    assert (len(loaded), loaded.dim, loaded.metric) == (0, 5, "cosine")
    loaded.add(3, np.ones(5, np.float32))
    assert loaded.search(np.ones(5, np.float32))[0].id == 3


def test_a_loaded_index_can_change_and_leaves_its_file_alone(cls, vectors, path):
    idx = used(cls, vectors)
    idx.save(path)
    before = path.read_bytes()
    for mmap in (True, False):
        loaded, same = cls.load(path, mmap=mmap), used(cls, vectors)
        for index in (loaded, same):
            index.add_batch(vectors)
            index.remove(range(40, 90))
            index.upsert([0, 1], -vectors[:2])
        assert loaded == same
        assert loaded.search(vectors[7], k=30) == same.search(vectors[7], k=30)
        loaded.vacuum()
        assert loaded == same
    assert path.read_bytes() == before


def test_bytes_in_use_are_never_written_to(cls, vectors):
    data = used(cls, vectors).to_bytes()
    kept = bytearray(data)
    loaded = cls.from_bytes(data)
    loaded.remove(range(40, 90))
    loaded.upsert([0, 1], -vectors[:2])
    loaded.add_batch(vectors)
    loaded.vacuum()
    assert data == kept


def test_saving_over_a_mapped_file(cls, vectors, path):
    idx = used(cls, vectors)
    idx.save(path)
    loaded = cls.load(path)
    loaded.add(None, vectors[0])
    loaded.save(path)
    assert cls.load(path) == loaded
    assert loaded.search(vectors[3]) == cls.load(path).search(vectors[3])


@pytest.mark.parametrize("form", [str, os.fsencode, pathlib.Path], ids=["str", "bytes", "Path"])
def test_paths_of_every_form(cls, vectors, tmp_path, form):
    name = form(str(tmp_path / "näme ☃.rbpx"))
    idx = build(cls, vectors)
    idx.save(name)
    assert cls.load(name) == idx


@pytest.mark.parametrize("name", [3, None, ["a"]])
def test_what_is_no_path(cls, vectors, name):
    with pytest.raises(TypeError):
        build(cls, vectors).save(name)
    with pytest.raises(TypeError):
        cls.load(name)


@pytest.mark.parametrize("data", ["text", 5, None, [1, 2]])
def test_what_is_no_buffer(cls, data):
    with pytest.raises(TypeError, match="data: expected bytes"):
        cls.from_bytes(data)


def test_buffers_with_gaps(cls, vectors):
    data = np.frombuffer(build(cls, vectors).to_bytes() * 2, np.uint8)
    with pytest.raises((ValueError, BufferError)):
        cls.from_bytes(data[::2])


@pytest.mark.parametrize("verify", [1, "yes"])
def test_verify_is_a_bool(cls, vectors, path, verify):
    build(cls, vectors).save(path)
    with pytest.raises(TypeError, match="verify"):
        cls.load(path, verify=verify)


# ---- version 1 -------------------------------------------------------------------


def test_a_version_1_file_loads(path):
    path.write_bytes(V1)
    for idx in (
        ruvector.RabitqPlusIndex.load(path),
        ruvector.RabitqPlusIndex.load(path, mmap=False),
        ruvector.RabitqPlusIndex.from_bytes(V1),
    ):
        assert idx.ids.tolist() == [7, 300]
        assert np.asarray(idx).tolist() == [[1, -2.5], [0, 3]]
        assert (idx.dim, idx.metric, idx.seed) == (2, "l2", 0x1122334455667788)
        assert idx.rerank_factor == 20
        assert idx.search([0, 3], k=2) == [(300, 0.0), (7, 31.25)]
        assert idx.add(None, [5, 5]) == 301


def test_version_0_rerank_factor_0_and_trailing_bytes_are_valid():
    data = bytearray(V1 + b"whatever follows")
    data[8:12] = bytes(4)
    data[24:28] = bytes(4)
    assert ruvector.RabitqPlusIndex.from_bytes(bytes(data)).ids.tolist() == [7, 300]


def test_a_version_1_file_without_rows():
    idx = ruvector.RabitqPlusIndex.from_bytes(V1[:28] + bytes(4))
    assert len(idx) == 0
    assert idx.dim == 2


def test_a_version_1_file_with_an_id_twice_keeps_both_rows():
    data = V1[:44] + struct.pack("<I", 7) + V1[48:]
    idx = ruvector.RabitqPlusIndex.from_bytes(data)
    assert idx.ids.tolist() == [7, 7]
    assert len(idx.search([0, 0], k=5)) == 2
    assert idx.remove(7) == 2
    assert len(idx) == 0


def test_version_1_vectors_that_are_not_finite_are_kept_but_not_found_before_others():
    data = V1[:36] + struct.pack("<f", float("nan")) + V1[40:]
    idx = ruvector.RabitqPlusIndex.from_bytes(data)
    assert idx.search([0, 0], k=1)[0].id == 300


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (0, b"rbpx0002"),
        (8, struct.pack("<I", 2)),
        (12, struct.pack("<I", 0)),
        (12, struct.pack("<I", 8193)),
        (12, struct.pack("<I", 2**32 - 1)),
        (24, struct.pack("<I", 1025)),
        (28, struct.pack("<I", 3)),
        (28, struct.pack("<I", 100_000_001)),
        (28, struct.pack("<I", 2**32 - 1)),
    ],
)
def test_bad_version_1_headers(offset, value):
    data = V1[:offset] + value + V1[offset + len(value) :]
    with pytest.raises(ruvector.PersistError):
        ruvector.RabitqPlusIndex.from_bytes(data)


@pytest.mark.parametrize("size", range(len(V1)))
def test_version_1_files_cut_short(size):
    with pytest.raises(ruvector.PersistError):
        ruvector.RabitqPlusIndex.from_bytes(V1[:size])


@pytest.mark.parametrize("rerank_factor", [None, 1, 7, 1024])
def test_what_we_save_starts_with_a_version_1_body(vectors, rerank_factor):
    ids = np.arange(150) * 1000
    idx = ruvector.RabitqPlusIndex.build(vectors, ids=ids, seed=99, rerank_factor=rerank_factor)
    header, record_ids, record_vectors = parse_v1(idx.to_bytes())
    assert header == {"dim": 33, "seed": 99, "rerank": rerank_factor or 20}
    assert np.array_equal(record_ids, ids)
    assert np.array_equal(record_vectors, vectors)


def test_ids_beyond_32_bits_are_row_numbers_to_a_version_1_reader(vectors):
    ids = np.arange(150, dtype=np.uint64) + np.uint64(2**32 - 100)
    idx = ruvector.RabitqPlusIndex.build(vectors, ids=ids)
    _, record_ids, record_vectors = parse_v1(idx.to_bytes())
    assert np.array_equal(record_ids, np.arange(150))
    assert np.array_equal(record_vectors, vectors)
    assert np.array_equal(ruvector.RabitqPlusIndex.from_bytes(idx.to_bytes()).ids, ids)


def test_a_version_1_reader_refuses_what_it_cannot_answer(vectors):
    for cls in CLASSES:
        for metric in METRICS:
            data = build(cls, vectors, metric=metric).to_bytes()
            readable = cls is ruvector.RabitqPlusIndex and metric == "l2"
            assert (data[:8] == b"rbpx0001") == readable


# ---- the wrong file ----------------------------------------------------------------


def test_a_file_of_another_class(cls, vectors, path):
    for other in set(CLASSES) - {cls}:
        build(other, vectors).save(path)
        with pytest.raises(ruvector.PersistError, match=other.__name__) as caught:
            cls.load(path)
        assert caught.value.errno is None
        assert caught.value.filename == path


@pytest.mark.parametrize("data", [b"", b"\0", b"rbpx", b"hello " * 100, bytes(4096), V1[:8] * 40])
def test_what_is_no_index_at_all(cls, data, path):
    path.write_bytes(data)
    for function in (
        lambda: cls.from_bytes(data),
        lambda: cls.load(path),
        lambda: cls.load(path, mmap=False, verify=False),
    ):
        with pytest.raises(ruvector.PersistError) as caught:
            function()
        assert caught.value.errno is None
        assert isinstance(caught.value, OSError)


def is_version_1_file(cls, data: bytes, size: int) -> bool:
    """Cut right behind the records, what is left is a complete version-1 file."""
    if cls is not ruvector.RabitqPlusIndex:
        return False
    records = 32 + len(parse_v1(data)[1]) * (4 + 4 * 33)
    return records <= size <= -(-records // 64) * 64


@pytest.mark.parametrize("verify", [None, True, False])
def test_files_cut_short(cls, vectors, verify):
    data = used(cls, vectors[:40]).to_bytes()
    for size in range(len(data)):
        if is_version_1_file(cls, data, size):
            continue
        with pytest.raises(ruvector.PersistError):
            cls.from_bytes(data[:size], verify=verify)


def test_every_altered_byte_is_noticed(cls, vectors):
    data = used(cls, vectors[:40]).to_bytes()
    for position in {*range(0, len(data), 29), *range(400), *range(len(data) - 80, len(data))}:
        altered = bytearray(data)
        altered[position] ^= 0x40
        with pytest.raises(ruvector.PersistError):
            cls.from_bytes(bytes(altered), verify=True)
        with pytest.raises(ruvector.PersistError):
            cls.from_bytes(bytes(altered))


def exercise(cls, data):
    """Whatever is accepted must be safe to use."""
    try:
        idx = cls.from_bytes(data, verify=False)
    except ruvector.PersistError:
        return
    query = np.zeros(idx.dim, np.float32)
    ids = idx.ids
    if len(idx):
        idx.search(query, k=5)
        idx.search(query, k=5, allow=ids[:3])
    idx.add(None, query) if len(ids) == 0 or ids.max() < ruvector.NO_ID - 1 else None
    idx.remove(ids[:2])
    idx.vacuum()
    idx.to_bytes()


@given(st.data())
def test_unverified_damage_is_an_error_or_harmless(data):
    cls = data.draw(st.sampled_from(CLASSES))
    vectors = np.random.default_rng(5).standard_normal((40, 9)).astype(np.float32)
    content = bytearray(used(cls, vectors).to_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    exercise(cls, bytes(content))


@given(st.sampled_from(CLASSES), st.binary(max_size=400))
@example(ruvector.RabitqPlusIndex, V1[:28] + b"\xff\xff\xff\x00" + bytes(100))
def test_random_bytes_are_an_error(cls, content):
    exercise(cls, content)
    exercise(cls, V1[:28] + content)
    with pytest.raises(ruvector.PersistError):
        cls.from_bytes(b"rvxi0001" + content)


def test_damage_passes_only_where_verification_is_off(cls, vectors, path):
    idx = build(cls, vectors)
    data = bytearray(idx.to_bytes())
    at = data.find(np.float32(idx.norms[3]).tobytes()) if idx.norms[3] else -1
    assert at > 0
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(ruvector.PersistError, match=r"digest|altered"):
        cls.load(path)
    with pytest.raises(ruvector.PersistError, match=r"digest|altered"):
        cls.load(path, verify=True)
    assert len(cls.load(path, verify=False)) == 150


# ---- the disk ----------------------------------------------------------------------


def test_a_missing_file(cls, path):
    with pytest.raises(ruvector.PersistNotFound) as caught:
        cls.load(path)
    assert isinstance(caught.value, FileNotFoundError)
    assert isinstance(caught.value, ruvector.PersistError)
    assert caught.value.errno == errno.ENOENT
    assert caught.value.filename == caught.value.path == path
    assert str(path) in str(caught.value)


def test_a_missing_directory(cls, vectors, tmp_path):
    target = tmp_path / "no" / "such" / "index.rbpx"
    with pytest.raises(FileNotFoundError) as caught:
        build(cls, vectors).save(target)
    assert caught.value.filename == target


@POSIX
def test_a_directory_in_place_of_the_file(cls, vectors, tmp_path):
    for function in (build(cls, vectors).save, cls.load):
        with pytest.raises(ruvector.PersistError):
            function(tmp_path)
    assert list(tmp_path.iterdir()) == []


AS_NOBODY = """
import os, sys, tempfile
import numpy as np, ruvector
idx = ruvector.RabitqPlusIndex.build(np.ones((3, 4), np.float32))
folder, readable = sys.argv[1:]
if os.geteuid() == 0:
    os.setuid(65534)
try:
    idx.save(os.path.join(folder, "index.rbpx"))
except PermissionError as e:
    assert isinstance(e, ruvector.PersistDenied), e
    assert e.filename == os.path.join(folder, "index.rbpx")
    print("save refused")
try:
    ruvector.RabitqPlusIndex.load(readable)
except ruvector.PersistDenied as e:
    print("load refused", e.errno)
"""


@POSIX
def test_places_without_permission(run_python, tmp_path):
    tmp_path.chmod(0o755)
    closed = tmp_path / "closed"
    closed.mkdir(0o555)
    secret = tmp_path / "secret.rbpx"
    ruvector.RabitqPlusIndex.build(np.ones((3, 4), np.float32)).save(secret)
    secret.chmod(0)
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.getuid() and parent != pathlib.Path("/"):
            parent.chmod(parent.stat().st_mode | 0o111)
    result = run_python(AS_NOBODY, str(closed), str(secret))
    assert result.stdout.split("\n")[:2] == ["save refused", f"load refused {errno.EACCES}"], (
        result.stderr
    )
    assert list(closed.iterdir()) == []


FULL_DISK = """
import errno, os, resource, sys
import numpy as np, ruvector
path = sys.argv[1]
big = ruvector.RabitqPlusIndex.build(np.ones((2000, 64), np.float32))
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
try:
    big.save(path)
except ruvector.PersistError as e:
    assert e.errno == errno.EFBIG, e
    assert e.filename == path
    print("refused")
print(big.search(np.ones(64, np.float32), k=1))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs RLIMIT_FSIZE")
def test_a_file_that_cannot_be_written_in_full_leaves_the_old_one(run_python, path, vectors):
    old = ruvector.RabitqPlusIndex.build(vectors)
    old.save(path)
    result = run_python(FULL_DISK, str(path))
    assert result.stdout.startswith("refused\n"), result.stderr
    assert "Hit(id=0, score=0.0)" in result.stdout
    assert ruvector.RabitqPlusIndex.load(path) == old
    assert list(path.parent.iterdir()) == [path]


def test_no_other_file_is_left_behind(cls, vectors, path):
    for _ in range(3):
        build(cls, vectors).save(path)
    assert list(path.parent.iterdir()) == [path]
