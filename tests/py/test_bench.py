"""The benchmark runs, and no speed in its result stands alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from bench import report

ROOT = Path(__file__).resolve().parents[2]
OURS = ["FlatF32Index", "RabitqIndex", "RabitqPlusIndex", "RabitqAsymIndex"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(result, printed text) of a small run with one index of another library."""
    out = tmp_path_factory.mktemp("bench") / "result.json"
    command = [sys.executable, "-m", "bench.index", "--quick", "--rounds", "1", "--n", "2000"]
    command += ["--queries", "20", "--datasets", "clustered", "no-such-set", "--out", str(out)]
    command += ["--indexes", *OURS, "hnswlib"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text()), done.stdout


def test_every_figure_carries_recall_k_memory_and_threads(run):
    result, _ = run
    assert {r["mode"] for r in result["records"]} == set(report.MODES)
    for r in result["records"]:
        assert r["qps"] > 0
        assert 0 < r["recall"] <= 1
        assert (r["n"], r["dim"], r["k"], r["queries"]) == (2000, 128, 10, 20)
        assert r["threads"] == 1 or r["mode"] == report.MODES[2]
        assert r["bytes"] > 2000 * (4 * 128 if r["keeps_vectors"] else 128 / 8)
        assert r["build_seconds"] > 0
        assert r["build_threads"] >= 1
        assert ("p99_us" in r) == (r["mode"] == report.MODES[0])


def test_exact_and_default_recall_in_the_result(run):
    first = {r["index"]: r for r in reversed(run[0]["records"]) if r["value"] is None}
    assert first["FlatF32Index"]["recall"] == 1
    assert first["RabitqPlusIndex"]["recall"] > 0.99
    assert first["RabitqIndex"]["recall"] < 0.99


def test_what_cannot_run_is_listed_with_its_reason(run):
    result, text = run
    assert "neither" in result["missing"]["no-such-set"]
    seen = {r["index"] for r in result["records"]}
    assert seen >= set(OURS)
    assert ("hnswlib" in seen) != ("hnswlib" in result["missing"])
    for name in result["missing"]:
        assert f"Missing: {name} (" in text


def test_report_takes_the_fastest_setting_that_reaches_a_recall():
    def point(index, recall, qps):
        return {"index": index, "mode": "single", "recall": recall, "qps": qps}

    records = [point("a", 0.91, 300), point("a", 0.96, 200), point("a", 0.97, 250)]
    records += [point("b", 0.96, 900), {**point("a", 1.0, 999), "mode": "other"}]
    best = [report.fastest(records, "a", "single", recall) for recall in (0.9, 0.95, 0.97, 0.98)]
    assert [r and r["qps"] for r in best] == [300, 250, 250, None]
