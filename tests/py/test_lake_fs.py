"""Collections in files: bytes, names, changes, damage."""

from __future__ import annotations

import os
import stat
import struct
import time

import numpy as np
import pytest
import ruvector
from hypothesis import given
from hypothesis import strategies as st
from lakes import assert_hits, in_threads, lake_of, nearest, rows, ruvec1, witness_of
from ruvector import FsBackend

WORKED = bytes.fromhex(
    "7275766563310000 0200000000000000 02000000 00000000"
    "0a00000000000000 0000803f 000020c0 8877665544332211 00000000 00004040"
)


@pytest.fixture
def fs(tmp_path):
    return FsBackend("fs", tmp_path / "data")


@pytest.fixture
def folder(fs, tmp_path):
    return tmp_path / "data"


# ---- bytes -------------------------------------------------------------------------


def test_the_bytes_of_a_file(fs, folder):
    ids, vectors = [10, 0x1122334455667788], np.array([[1.0, -2.5], [0.0, 3.0]], np.float32)
    assert ruvec1(ids, vectors) == WORKED
    assert fs.write("docs", "ok.bin", ids, vectors) == str(folder / "ok.bin")
    assert (folder / "ok.bin").read_bytes() == WORKED
    assert os.listdir(folder) == ["ok.bin"]


def test_a_file_made_elsewhere(fs, folder):
    vectors = rows(300)
    ids = np.arange(300, dtype=np.uint64) * 2**40 + 7
    (folder / "x.bin").write_bytes(ruvec1(ids, vectors) + b"trailing bytes are ignored")
    fs.register("docs", "x.bin")
    lake = lake_of(fs)
    assert_hits(lake.search_one("docs", vectors[5], 4), nearest(vectors[5], vectors, 4, ids))
    batch = fs.pull_vectors("docs")
    assert np.array_equal(batch.ids, ids)
    assert np.array_equal(batch.vectors, vectors)
    assert batch.generation == int(os.stat(folder / "x.bin").st_mtime) == fs.generation("docs")


def test_the_bundle_of_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for root in ("relative", str(tmp_path / "with space é"), "relative/"):
        fs = FsBackend("fs", root)
        fs.write("docs", "a b.bin", [1], [[1.0, 2.0, 3.0]])
        bundle = fs.current_bundle("docs", 9, 5)
        address = "file://" + os.path.join(root, "a b.bin")
        assert bundle.data_ref == address
        seconds = int(os.stat(os.path.join(root, "a b.bin")).st_mtime)
        assert bundle.rvf_witness == witness_of(address, 3, 9, 5, seconds)
        assert lake_of(fs, rotation_seed=9, rerank_factor=5).prime("docs") == bundle.rvf_witness


def test_a_time_before_1970_is_0(fs, folder):
    fs.write("docs", "x", [1], [[1.0]])
    os.utime(folder / "x", (-100, -100))
    assert fs.generation("docs") == 0


@pytest.mark.skipif(os.name != "posix", reason="permission bits")
def test_files_have_the_callers_umask(fs, folder):
    old = os.umask(0o027)
    try:
        fs.write("docs", "x", [1], [[1.0]])
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(folder / "x").st_mode) == 0o640


@given(st.binary(max_size=120))
def test_any_bytes_are_a_collection_or_an_error(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("any")
    (folder / "x").write_bytes(WORKED[:24] + data)
    fs = FsBackend("fs", folder)
    fs.register("docs", "x")
    if len(data) < 32:
        with pytest.raises(ruvector.BackendError):
            fs.pull_vectors("docs")
        return
    batch = fs.pull_vectors("docs")
    first, *one, second, c, d = struct.unpack("<QffQff", data[:32])
    assert batch.ids.tolist() == [first, second]
    assert batch.vectors.tobytes() == np.array([one, [c, d]], "<f4").tobytes()


# ---- changes -----------------------------------------------------------------------


def test_a_rewritten_file_is_noticed(fs):
    vectors = rows(100)
    fs.write("docs", "x.bin", range(100), vectors)
    lake = lake_of(fs)
    lake.search_one("docs", vectors[0])
    far = vectors[:1] + 9
    time.sleep(1.1)
    fs.write("docs", "x.bin", range(101), np.concatenate([vectors, far]))
    assert lake.search_one("docs", far[0], 1)[0].id == 100
    assert lake.cache_stats().primes == 2


def test_a_rewrite_within_the_same_second_is_noticed(fs, folder):
    vectors = rows(100)
    fs.write("docs", "x.bin", range(100), vectors)
    lake = lake_of(fs)
    lake.search_one("docs", vectors[0])
    before = os.stat(folder / "x.bin").st_mtime_ns
    for n in range(3):  # the same seconds, so the same witness
        changed = vectors + 5 + n
        fs.write("docs", "x.bin", range(100), changed)
        os.utime(folder / "x.bin", ns=(before, before // 10**9 * 10**9 + n))
        assert_hits(lake.search_one("docs", changed[3], 2), nearest(changed[3], changed, 2))
        assert lake.cache_entry_count() == 1
        assert lake.cache_stats().primes == 2 + n


def test_what_is_read_under_a_name_belongs_together(fs):
    """Readers while the file is replaced: every answer is of one version."""
    versions = [rows(50, seed=s) for s in range(2)]
    fs.write("docs", "x.bin", np.arange(50), versions[0])
    lake = lake_of(fs)

    def write():
        for i in range(60):
            fs.write("docs", "x.bin", np.arange(50) + 1000 * (i % 2), versions[i % 2])

    def read():
        for _ in range(60):
            hits = lake.search_batch("docs", versions[0][:3], 5)
            (n,) = {h.id // 1000 for found in hits for h in found}
            for query, found in zip(versions[0], hits):
                assert_hits(found, nearest(query, versions[n], 5, np.arange(50) + 1000 * n))

    in_threads(write, read, read)


# ---- names -------------------------------------------------------------------------

ILLEGAL = [
    *("../escape", "../../etc/passwd", "./secret", "", "/absolute", "sub/foo", "back\\slash"),
    *(".", "..", "foo\0bar", "foo\nbar", "C:name", "a\x7fb", "x" * 256, "é" * 128, "\ud800"),
]


@pytest.mark.parametrize("name", ILLEGAL, ids=ascii)
def test_names_that_are_no_plain_file_names(fs, folder, name):
    for call in (
        lambda: fs.register("docs", name),
        lambda: fs.write("docs", name, [1], [[1.0]]),
    ):
        with pytest.raises(ruvector.BackendError, match="illegal filename") as caught:
            call()
        assert (caught.value.backend, caught.value.collection) == ("fs", "docs")
    assert os.listdir(folder) == []
    assert fs.list_collections() == []


@pytest.mark.parametrize("name", ["ok.bin", "a b", "é日", " leading", "dots.", "NUL", "x" * 240])
def test_names_that_are_fine(fs, name):
    fs.write("docs", name, [1], [[1.0]])
    assert lake_of(fs).search_one("docs", [1.0])[0].id == 1


@pytest.mark.parametrize("name", [".hidden", "x" * 241, "x" * 255])
def test_names_that_can_be_read_but_not_written(fs, folder, name):
    with pytest.raises(ruvector.BackendError):
        fs.write("docs", name, [1], [[1.0]])
    (folder / name).write_bytes(WORKED)
    fs.register("docs", name)
    assert len(fs.pull_vectors("docs").ids) == 2


def test_a_path_is_as_long_as_a_bundle_can_say(tmp_path):
    """Systems take paths of 4095 bytes, and `data_ref` with its scheme 4096."""
    longest = 4096 - len("file://") - len("/x")
    root = str(tmp_path)
    while longest - len(root) > 200:
        root += "/" + "d" * 199
    root += "/" + "d" * (longest - len(root) - 1)
    fs = FsBackend("fs", root)
    with open(f"{root}/x", "wb") as file:  # no room for the name of a temporary file
        file.write(ruvec1([1], [[1.0]]))
    fs.register("docs", "x")
    assert lake_of(fs).search_one("docs", [1.0])[0].id == 1
    for call in (fs.register, lambda *names: fs.write(*names, [1], [[1.0]])):
        with pytest.raises(ruvector.BackendError, match="4097 bytes, at most 4096 are allowed"):
            call("more", "xy")
    assert (fs.list_collections(), os.listdir(root)) == (["docs"], ["x"])


@pytest.mark.parametrize("name", [3, None, b"x"])
def test_names_of_other_types(fs, name):
    with pytest.raises(TypeError, match="filename"):
        fs.register("docs", name)


# ---- what is not there, or not right -----------------------------------------------


def test_a_file_may_come_later(fs):
    fs.register("docs", "later.bin")
    assert fs.list_collections() == ["docs"]
    lake = lake_of(fs)
    with pytest.raises(ruvector.BackendError, match=r"later\.bin") as caught:
        lake.search_one("docs", [1.0])
    assert type(caught.value) is ruvector.BackendError
    fs.write("docs", "later.bin", [3], [[1.0]])
    assert lake.search_one("docs", [1.0])[0].id == 3


def test_an_unknown_collection(fs):
    for call in (
        lambda: fs.generation("none"),
        lambda: fs.pull_vectors("none"),
        lambda: fs.current_bundle("none", 1, 2),
        lambda: lake_of(fs).search_one("none", [1.0]),
    ):
        with pytest.raises(ruvector.UnknownCollection, match="none") as caught:
            call()
        assert (caught.value.backend, caught.value.collection) == ("fs", "none")


def header(count: int, dim: int, reserved: int = 0, magic: bytes = b"ruvec1\0\0") -> bytes:
    return magic + struct.pack("<QII", count, dim, reserved)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        WORKED[:23],
        header(2, 2, magic=b"ruvec2\0\0") + WORKED[24:],
        WORKED[:-1],
        header(2**64 - 1, 2),
        header(100_000_001, 2),
        header(10**8, 8192),
        header(2**61, 8192),
        header(2, 0) + WORKED[24:],
        header(2, 8193) + WORKED[24:],
        header(2, 2**32 - 1) + WORKED[24:],
        header(2, 2, reserved=1) + WORKED[24:],
        header(3, 2) + WORKED[24:],
        header(1, 1) + struct.pack("<Qf", 1, float("nan")),
        header(1, 1) + struct.pack("<Qf", 1, float("inf")),
    ],
    ids=range(15),
)
def test_files_that_are_not_right(fs, folder, data):
    (folder / "x").write_bytes(data)
    fs.register("docs", "x")
    lake = lake_of(fs)
    with pytest.raises(ruvector.BackendError) as caught:
        lake.search_one("docs", [1.0, 2.0])
    assert (caught.value.backend, caught.value.collection) == ("fs", "docs")
    assert lake.cache_entry_count() == 0
    assert lake.cache_stats().primes == 0


def test_rows_that_cannot_be_written(fs, folder):
    one = np.ones((1, 2), np.float32)
    for error, ids, vectors in (
        (ruvector.LakeError, [1, 2], one),
        (ValueError, [1], one * np.nan),
        (TypeError, [1], one.astype(float)),
        (TypeError, [1.5], one),
        (ruvector.LakeError, [1], np.ones((1, 0), np.float32)),
        (ruvector.LakeError, [1], np.ones((1, 8193), np.float32)),
    ):
        with pytest.raises(error):
            fs.write("docs", "x", ids, vectors)
    assert os.listdir(folder) == []


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="symbolic links")
def test_links_are_followed_only_if_asked_for(tmp_path):
    (tmp_path / "secret").write_bytes(WORKED)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "secret")
    fs = FsBackend("fs", tmp_path / "root")
    fs.register("docs", "link")
    for call in (fs.pull_vectors, fs.generation, lambda c: fs.current_bundle(c, 1, 1)):
        with pytest.raises(ruvector.BackendError):
            call("docs")
    fs = FsBackend("fs", tmp_path / "root", follow_links=True)
    fs.register("docs", "link")
    assert fs.pull_vectors("docs").ids.tolist() == [10, 0x1122334455667788]


def test_a_directory_or_pipe_in_place_of_a_file(fs, folder):
    (folder / "x").mkdir()
    fs.register("docs", "x")
    with pytest.raises(ruvector.BackendError):
        fs.pull_vectors("docs")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe")
        fs.register("docs", "pipe")
        with pytest.raises(ruvector.BackendError):
            fs.pull_vectors("docs")


def test_the_root(tmp_path):
    FsBackend("fs", tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises((ruvector.LakeFileError, ruvector.BackendError)):
        FsBackend("fs", tmp_path / "file" / "x")
    for arguments in ((), ("fs",), (3, tmp_path), ("fs", 3), ("a\0b", tmp_path)):
        with pytest.raises((TypeError, ValueError)):
            FsBackend(*arguments)


def test_threads_that_write_one_file(fs, folder):
    vectors = rows(20)

    def write(n):
        for _ in range(40):
            fs.write("docs", "x.bin", np.arange(20) + n, vectors)

    in_threads(*[lambda n=n: write(n) for n in range(4)])
    assert os.listdir(folder) == ["x.bin"]
    assert np.array_equal(fs.pull_vectors("docs").vectors, vectors)
