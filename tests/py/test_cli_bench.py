"""`ruvector bench`: recall and memory are those of the classes; times are times."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from oracle import true_scores
from ruvector import RabitqIndex, cli
from ruvector.cli.indexes import CLASSES

RESULT = {"class", "recall", "median_ms", "p99_ms", "memory_bytes", "build_seconds"}


@pytest.fixture
def source(tmp_path: Path, rng) -> Path:
    np.save(tmp_path / "x.npy", rng.standard_normal((600, 16), dtype=np.float32))
    np.save(tmp_path / "q.npy", rng.standard_normal((30, 16), dtype=np.float32))
    return tmp_path / "x.npy"


def bench(capsys, *args: object) -> dict:
    assert cli.main(["bench", *map(str, args), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_kind(source, capsys) -> None:
    told = bench(capsys, source, "--held-out", 40, "-k", 5, "--threads", 1)
    assert (told["rows"], told["dim"], told["queries"], told["k"]) == (560, 16, 40, 5)
    assert told["threads"] == 1
    assert [result["class"] for result in told["results"]] == [c.__name__ for c in CLASSES.values()]
    for result in told["results"]:
        assert set(result) == RESULT
        assert 0 < result["median_ms"] <= result["p99_ms"]
        assert result["memory_bytes"] > 560 * 2
    assert told["results"][0]["recall"] == 1


def test_recall_is_that_of_brute_force(source, capsys) -> None:
    rows, queries = np.load(source), np.load(source.parent / "q.npy")
    args = [source, "--queries", source.parent / "q.npy", "-k", 7, "--kinds", "rabitq", "--bits", 2]
    told = bench(capsys, *args, "--lists", 3, "--nprobe", 2)
    truth = [np.argsort(true_scores(q, rows, "l2"))[:7] for q in queries]
    index = RabitqIndex.build(rows, bits=2, n_lists=3)
    found = index.search_batch(queries, 7, nprobe=2)[0]
    expected = np.mean([np.isin(a, b).mean() for a, b in zip(truth, found)])
    assert told["results"][0]["recall"] == pytest.approx(expected)
    assert told["results"][0]["memory_bytes"] == index.memory_bytes
    assert expected < 1


def test_a_table_for_people(source, capsys) -> None:
    assert cli.main(["bench", str(source), "--rows", "500", "--kinds", "plus,flat"]) == 0
    title, heads, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith("300 x 16, l2; 200 queries one by one, 3 rounds; ")
    assert re.split(" {2,}", heads) == [
        "index",
        "recall@10",
        "median ms",
        "p99 ms",
        "bytes a row",
        "build s",
    ]
    assert [row.split()[0] for row in rows] == ["RabitqPlusIndex", "FlatF32Index"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--kinds", "plus,tree"], "there is no 'tree'; there are flat, rabitq, plus, asym"),
        (["--held-out", "400"], "600 vectors are too few to hold 400 out; give --held-out 60"),
    ],
)
def test_wrong_usage(source, capsys, args, words) -> None:
    assert cli.main(["bench", str(source), *args]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert words in err
