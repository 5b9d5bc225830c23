"""`ruvector build`: the file is the one the class would have saved."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import ruvector
from ruvector import cli
from ruvector.cli.indexes import CLASSES


@pytest.fixture
def rows(rng) -> np.ndarray:
    return rng.standard_normal((300, 16), dtype=np.float32)


@pytest.fixture
def source(tmp_path: Path, rows) -> str:
    np.save(tmp_path / "x.npy", rows)
    return str(tmp_path / "x.npy")


def command(capsys, *args: object) -> tuple[int, str, str]:
    code = cli.main([*map(str, args)])
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    ("kind", "given", "options"),
    [
        ("flat", ["--metric", "ip"], {"metric": "ip"}),
        ("rabitq", ["--bits", "3", "--lists", "4"], {"bits": 3, "n_lists": 4}),
        ("plus", ["--seed", "7", "--originals", "f16"], {"seed": 7, "originals": "f16"}),
        (
            "asym",
            ["--rerank-factor", "3", "--epsilon", "1.5", "--metric", "cosine"],
            {"rerank_factor": 3, "epsilon": 1.5, "metric": "cosine"},
        ),
    ],
)
def test_every_kind(tmp_path: Path, source, rows, capsys, kind, given, options) -> None:
    out = tmp_path / "x.rbpx"
    assert command(capsys, "build", source, "-o", out, "--kind", kind, *given)[0] == 0
    assert out.read_bytes() == CLASSES[kind].build(rows, **options).to_bytes()


def test_the_default_is_a_plus_index(tmp_path: Path, source, rows, capsys) -> None:
    out = tmp_path / "x.rbpx"
    code, text, err = command(capsys, "build", source, "-o", out, "--threads", 1)
    assert (code, err) == (0, "")
    assert re.fullmatch(r".*x\.rbpx: RabitqPlusIndex, 300 x 16, l2, [\d.]+ kB\n", text)
    assert ruvector.RabitqPlusIndex.load(out) == ruvector.RabitqPlusIndex.build(rows)


def test_ids_and_json(tmp_path: Path, source, rows, capsys) -> None:
    out, ids = tmp_path / "x.rbpx", np.arange(300)[::-1] + 5
    np.save(tmp_path / "ids.npy", ids)
    code, text, _ = command(
        capsys, "build", source, "-o", out, "--ids", tmp_path / "ids.npy", "--json"
    )
    told = json.loads(text)
    assert code == 0
    assert (told["rows"], told["dim"], told["class"]) == (300, 16, "RabitqPlusIndex")
    assert told["bytes"] == out.stat().st_size
    np.testing.assert_array_equal(ruvector.RabitqPlusIndex.load(out).ids, ids)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--kind", "flat", "--bits", "2"], "--kind flat takes no --bits; these do: rabitq, plus"),
        (["--kind", "flat", "--lists", "2"], "takes no --lists"),
        (["--kind", "rabitq", "--rerank-factor", "2"], "takes no --rerank-factor; these do: plus"),
    ],
)
def test_options_of_other_kinds(tmp_path: Path, source, capsys, args, words) -> None:
    code, out, err = command(capsys, "build", source, "-o", tmp_path / "x.rbpx", *args)
    assert (code, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1
    assert not (tmp_path / "x.rbpx").exists()


REALS = {
    "float64": lambda x: x.astype(float),
    "float16": lambda x: x.astype(np.float16),
    "int8": lambda x: (9 * x).astype(np.int8),
    "big-endian": lambda x: x.astype(">f4"),
    "Fortran": np.asfortranarray,
}


@pytest.mark.parametrize("kind", REALS)
def test_convert_builds_what_python_does(tmp_path: Path, rows, capsys, kind) -> None:
    array = REALS[kind](rows)
    np.save(tmp_path / "x.npy", array)
    out = tmp_path / "x.rbpx"
    code, _, err = command(capsys, "build", tmp_path / "x.npy", "-o", out)
    assert (code, out.exists()) == (1, False)
    assert "(--convert converts it); save it again as" in err
    assert command(capsys, "build", tmp_path / "x.npy", "-o", out, "--convert")[0] == 0
    cls = ruvector.RabitqPlusIndex
    assert cls.load(out) == cls.build(array, convert=True)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((3, 4), 1e300), "beyond float32, which ends at 3.4e38"),
        (np.full((3, 4), np.inf), "must be finite"),
        (np.zeros((3, 4), complex), "expected (n, dim) real numbers, got (3, 4) complex128"),
        (np.zeros((3, 4), bool), "expected (n, dim) real numbers, got (3, 4) bool"),
        (np.zeros((1, 3, 4)), "expected (n, dim) real numbers, got (1, 3, 4)"),
    ],
)
def test_what_convert_does_not_convert(tmp_path: Path, capsys, array, words) -> None:
    np.save(tmp_path / "x.npy", array)
    code, out, err = command(
        capsys, "build", tmp_path / "x.npy", "-o", tmp_path / "x.rbpx", "--convert"
    )
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert words in err


def test_what_cannot_be_built_leaves_the_old_file(tmp_path: Path, source, capsys) -> None:
    out = tmp_path / "x.rbpx"
    out.write_bytes(b"old")
    np.save(tmp_path / "nan.npy", np.full((3, 4), np.nan, np.float32))
    np.save(tmp_path / "wide.npy", np.zeros((3, 4)))
    np.save(tmp_path / "ids.npy", np.zeros(300, int))
    for args, code, words in [
        ([tmp_path / "nan.npy"], 1, "must be finite"),
        ([tmp_path / "wide.npy"], 1, "np.ascontiguousarray(x, dtype=np.float32)"),
        ([tmp_path / "none.npy"], 1, "none.npy: No such file or directory"),
        ([tmp_path / "none.txt"], 2, "use .npy, .fvecs"),
        ([source, "--ids", tmp_path / "ids.npy"], 1, "id 0"),
        ([source, "--id-column", "id"], 2, "has no columns"),
        ([source, "--bits", "9"], 1, "bits"),
    ]:
        got, text, err = command(capsys, "build", *args, "-o", out)
        assert (got, text, err.count("\n")) == (code, "", 1), err
        assert words in err
    assert out.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("name", "words"),
    [("x.idx", "x.idx: cannot write .idx; use .rbpx"), ("none/x.rbpx", "none does not exist")],
)
def test_where_it_cannot_write_is_told_before_the_work(
    tmp_path: Path, source, capsys, monkeypatch, name, words
) -> None:
    monkeypatch.setattr("ruvector.cli.build.read_vectors", None)  # not called
    code, out, err = command(capsys, "build", source, "-o", tmp_path / name)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err


def test_a_bar_on_a_terminal(tmp_path: Path, source, capsys, monkeypatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr("ruvector.cli.report.Bar.__init__.__defaults__", (0.0,))
    code, _, err = command(capsys, "build", source, "-o", tmp_path / "x.rbpx")
    assert code == 0
    assert "building [####################] 300 of 300" in err


def test_no_memory_is_told(tmp_path: Path, source, capsys, monkeypatch) -> None:
    def huge(*args: object, **options: object) -> None:
        raise MemoryError("needs 9 bytes")

    monkeypatch.setattr("ruvector.cli.build.read_vectors", huge)
    code, _, err = command(capsys, "build", source, "-o", tmp_path / "x.rbpx")
    assert (code, err) == (1, "ruvector: not enough memory: needs 9 bytes\n")
