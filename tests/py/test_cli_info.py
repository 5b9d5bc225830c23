"""`ruvector info` and `ruvector verify`: what files hold, and whether they are whole."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import ruvector
from oracle import CLASSES
from ruvector import cli
from test_persistence import V1


def command(capsys, *args: object) -> tuple[int, str, str]:
    code = cli.main([*map(str, args)])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def saved(tmp_path: Path, rng):
    """Saves an index of a class; the path and the index."""

    def save(cls: type, **options):
        index = cls.build(rng.standard_normal((200, 10), dtype=np.float32), **options)
        index.save(tmp_path / "x.rbpx")
        return tmp_path / "x.rbpx", index

    return save


# ---- info ---------------------------------------------------------------------------


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_an_index(saved, capsys, cls, metric) -> None:
    path, index = saved(cls, metric=metric)
    code, out, err = command(capsys, "info", path, "--json")
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert told["class"] == cls.__name__
    assert (told["rows"], told["dim"], told["metric"], told["seed"]) == (200, 10, metric, 42)
    assert told["bytes"] == path.stat().st_size
    for name in ("bits", "n_lists", "nprobe", "epsilon", "rerank_factor", "originals"):
        assert told[name] == getattr(index, name, None)
    assert told["memory"] == cls.load(path).memory_usage()
    v1 = cls is ruvector.RabitqPlusIndex and metric == "l2"
    assert told["format"] == ("version 1 and native" if v1 else "native")


def test_for_people(saved, capsys) -> None:
    path, _ = saved(ruvector.FlatF32Index)
    lines = command(capsys, "info", path)[1].splitlines()
    told = dict(line.split(":", 1) for line in lines)
    assert told["class"].strip() == "FlatF32Index"
    assert "bits" not in told
    assert "vectors 8.0 kB" in told["memory"]


def test_vectors(tmp_path: Path, capsys) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 4), np.float32))
    code, out, _ = command(capsys, "info", tmp_path / "x.npy")
    assert (code, [line.split() for line in out.splitlines()][2:]) == (
        0,
        [["rows:", "3"], ["dim:", "4"], ["dtype:", "float32"]],
    )


def test_a_version_1_file(tmp_path: Path, capsys) -> None:
    (tmp_path / "v1.rbpx").write_bytes(V1)
    code, out, _ = command(capsys, "info", tmp_path / "v1.rbpx", "--json")
    assert (code, json.loads(out)["format"]) == (0, "version 1")
    code, out, _ = command(capsys, "verify", tmp_path / "v1.rbpx")
    assert code == 0
    assert "structure only: version 1 has no digest" in out


@pytest.mark.parametrize("data", [b"", b"rvxi0001", b"rbpx0001", b"x" * 200])
def test_no_index(tmp_path: Path, capsys, data) -> None:
    path = tmp_path / "x.rbpx"
    path.write_bytes(data)
    for name in ("info", "verify"):
        code, out, err = command(capsys, name, path)
        assert code == 1
        assert (out + err).count("\n") == 1
        assert str(path) in out + err
    code, _, err = command(capsys, "info", tmp_path / "none.rbpx")
    assert (code, err) == (1, f"ruvector: {tmp_path / 'none.rbpx'}: No such file or directory\n")


# ---- verify -------------------------------------------------------------------------


@pytest.mark.parametrize("cls", CLASSES)
def test_every_altered_byte_of_an_index_is_found(saved, capsys, cls, rng) -> None:
    path, _ = saved(cls)
    code, out, _ = command(capsys, "verify", path)
    assert (code, out) == (0, f"ok  {path}: {cls.__name__}, 200 x 10, digest\n")
    whole = path.read_bytes()
    for at in rng.integers(8, len(whole), 20):
        raw = bytearray(whole)
        raw[at] ^= 1
        path.write_bytes(raw)
        code, out, err = command(capsys, "verify", path)
        assert (code, err) == (1, ""), at
        assert out.startswith(f"BAD {path}: ")


def test_several_files(saved, tmp_path: Path, capsys) -> None:
    good, _ = saved(ruvector.RabitqIndex)
    cut = tmp_path / "cut.rbpx"
    cut.write_bytes(good.read_bytes()[:-1])
    code, out, _ = command(capsys, "verify", good, cut, tmp_path / "none", "--json")
    told = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert [row["ok"] for row in told] == [True, False, False]
    assert [row["file"] for row in told] == [str(good), str(cut), str(tmp_path / "none")]
    assert told[2]["why"] == "No such file or directory"
    assert told[0]["why"] is None
    assert told[1]["why"]


@pytest.fixture
def snapshot(tmp_path: Path, rng) -> Path:
    """What a lake saves."""
    backend = ruvector.LocalBackend("here")
    backend.upsert("docs", range(50), rng.standard_normal((50, 8), dtype=np.float32))
    lake = ruvector.RuLake()
    lake.register_backend(backend)
    lake.prime("docs")
    lake.save_cache_to_dir("docs", tmp_path / "snapshot")
    return tmp_path / "snapshot"


def test_a_snapshot(snapshot, capsys) -> None:
    witness = ruvector.RuLakeBundle.read_from_dir(snapshot).rvf_witness
    expected = f"bundle of local://here/docs, witness {witness}\n"
    assert command(capsys, "verify", snapshot) == (
        0,
        f"ok  {snapshot}: snapshot of 50 vectors, {expected}",
        "",
    )
    sidecar = snapshot / "table.rulake.json"
    assert command(capsys, "verify", sidecar) == (0, f"ok  {sidecar}: {expected}", "")
    (snapshot / "index.rbpx").unlink()
    assert command(capsys, "verify", snapshot) == (0, f"ok  {snapshot}: {expected}", "")


def test_an_altered_bundle(snapshot, capsys) -> None:
    sidecar = snapshot / "table.rulake.json"
    sidecar.write_text(sidecar.read_text().replace('"rotation_seed": 42', '"rotation_seed": 43'))
    for path in (sidecar, snapshot):
        code, out, _ = command(capsys, "verify", path)
        assert code == 1
        assert "witness" in out


def test_a_snapshot_of_two_states(snapshot, tmp_path: Path, capsys, rng) -> None:
    other = ruvector.RabitqPlusIndex.build(
        rng.standard_normal((50, 8), dtype=np.float32), rerank_factor=20
    )
    backend = ruvector.LocalBackend("here")
    backend.upsert("docs", range(50), np.asarray(other))
    backend.append("docs", 77, np.zeros(8, np.float32))
    lake = ruvector.RuLake()
    lake.register_backend(backend)
    lake.prime("docs")
    lake.save_cache_to_dir("docs", tmp_path / "other")
    shutil.copyfile(tmp_path / "other" / "index.rbpx", snapshot / "index.rbpx")
    code, out, _ = command(capsys, "verify", snapshot)
    assert (code, out[:4]) == (1, "BAD ")


def test_a_folder_without_a_bundle(tmp_path: Path, capsys) -> None:
    code, out, _ = command(capsys, "verify", tmp_path)
    assert code == 1
    assert "table.rulake.json" in out


def test_a_ruvec1_file(tmp_path: Path, capsys, rng) -> None:
    backend = ruvector.FsBackend("fs", tmp_path)
    backend.write("docs", "docs.bin", range(20), rng.standard_normal((20, 4), dtype=np.float32))
    path = tmp_path / "docs.bin"
    code, out, _ = command(capsys, "verify", path)
    assert (code, out) == (
        0,
        f"ok  {path}: ruvec1, 20 x 4, all finite: it has no digest\n",
    )
    raw = bytearray(path.read_bytes())
    raw[-4:] = np.float32(np.nan).tobytes()
    path.write_bytes(raw)
    code, out, _ = command(capsys, "verify", path)
    assert (code, out) == (1, f"BAD {path}: row 19 is not finite\n")
    os.truncate(path, path.stat().st_size - 1)
    assert command(capsys, "verify", path)[0] == 1


def test_a_file_of_another_kind(tmp_path: Path, capsys) -> None:
    (tmp_path / "notes.txt").write_text("some words")
    code, out, _ = command(capsys, "verify", tmp_path / "notes.txt")
    assert code == 1
    assert "neither an index file, a ruvec1 file nor table.rulake.json" in out
