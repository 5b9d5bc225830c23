"""`ruvector search`: what brute force finds, in every way of writing it."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pytest
from oracle import EVERYTHING, METRICS, true_scores
from ruvector import NO_ID, FlatF32Index, RabitqAsymIndex, RabitqIndex, RabitqPlusIndex, cli
from ruvector.cli import xvecs
from ruvector.cli.search import recall

K = 5


class Made:
    """Files of vectors, queries and their true neighbors."""

    def __init__(self, folder: Path, rng, metric: str = "l2") -> None:
        self.folder = folder
        self.rows = rng.standard_normal((400, 12), dtype=np.float32)
        self.queries = rng.standard_normal((20, 12), dtype=np.float32)
        scores = np.array([true_scores(q, self.rows, metric) for q in self.queries])
        best = np.argsort(scores if metric == "l2" else -scores, axis=1)[:, :K]
        self.ids = best.astype(np.uint64)
        self.scores = np.take_along_axis(scores, best, axis=1)
        np.save(folder / "q.npy", self.queries)
        np.save(folder / "truth.npy", self.ids)

    def index(self, cls: type = RabitqPlusIndex, **options) -> str:
        cls.build(self.rows, **options).save(self.folder / "x.rbpx")
        return str(self.folder / "x.rbpx")

    def search(self, capsys, index: str, *args: object) -> tuple[int, str, str]:
        given = map(str, args)
        code = cli.main(["search", index, str(self.folder / "q.npy"), "-k", str(K), *given])
        out, err = capsys.readouterr()
        return code, out, err


@pytest.fixture
def made(tmp_path: Path, rng) -> Made:
    return Made(tmp_path, rng)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("cls", [FlatF32Index, RabitqPlusIndex])
def test_as_brute_force(tmp_path: Path, rng, capsys, metric, cls) -> None:
    made = Made(tmp_path, rng, metric)
    options = {} if cls is FlatF32Index else {"epsilon": EVERYTHING}
    index = made.index(cls, metric=metric, **options)
    ids, scores = tmp_path / "ids.npy", tmp_path / "scores.npy"
    truth = tmp_path / "truth.npy"
    code, out, err = made.search(
        capsys, index, "-o", ids, "--scores", scores, "--truth", truth, "--threads", 1
    )
    assert (code, err) == (0, "")
    assert out == f"20 queries, recall@5 1.0000, written to {ids}, {scores}\n"
    assert np.load(ids).dtype == np.uint64
    np.testing.assert_array_equal(np.load(ids), made.ids)
    np.testing.assert_allclose(np.load(scores), made.scores, rtol=1e-4, atol=1e-5)


def test_xvecs_in_and_out(made, capsys) -> None:
    index = made.index(epsilon=EVERYTHING)
    folder = made.folder
    xvecs.write(folder / "q.fvecs", made.queries, ".fvecs")
    xvecs.write(folder / "truth.ivecs", made.ids, ".ivecs")
    args = ["search", index, folder / "q.fvecs", "-k", K, "-o", folder / "o.ivecs"]
    args += ["--scores", folder / "o.fvecs", "--truth", folder / "truth.ivecs"]
    assert cli.main([*map(str, args)]) == 0
    assert "recall@5 1.0000" in capsys.readouterr().out
    np.testing.assert_array_equal(xvecs.read(folder / "o.ivecs"), made.ids)
    np.testing.assert_allclose(xvecs.read(folder / "o.fvecs"), made.scores, rtol=1e-4)


def test_hits_are_printed_where_nothing_else_is_asked_for(made, capsys) -> None:
    index = made.index(epsilon=EVERYTHING)
    out = made.search(capsys, index)[1]
    lines = [line.split("\t") for line in out.splitlines()]
    assert [int(query) for query, _, _ in lines] == [q for q in range(20) for _ in range(K)]
    assert [int(id) for _, id, _ in lines] == made.ids.ravel().tolist()
    np.testing.assert_allclose([float(s) for _, _, s in lines], made.scores.ravel(), rtol=1e-4)


def test_hits_for_machines(made, capsys) -> None:
    index = made.index(epsilon=EVERYTHING)
    told = [json.loads(line) for line in made.search(capsys, index, "--json")[1].splitlines()]
    assert [row["query"] for row in told] == list(range(20))
    assert [[hit["id"] for hit in row["hits"]] for row in told] == made.ids.tolist()


def test_recall_for_machines(made, capsys) -> None:
    index = made.index()
    wrong = made.ids.copy()
    wrong[:, 0] = 399 + np.arange(20)  # of five, one that is not there
    np.save(made.folder / "truth.npy", wrong)
    out = made.search(
        capsys, index, "--truth", made.folder / "truth.npy", "--epsilon", EVERYTHING, "--json"
    )[1]
    told = json.loads(out)
    assert (told["queries"], told["k"], told["written"]) == (20, K, None)
    expected = np.mean([np.isin(a, b).mean() for a, b in zip(wrong, made.ids)])
    assert told["recall"] == pytest.approx(expected)
    assert 0.7 < expected < 0.85


def test_recall_counts_what_is_there() -> None:
    ids = np.array([[1, 2, 3], [4, NO_ID, NO_ID]], np.uint64)
    assert recall(ids, ids) == 1
    assert recall(ids, np.array([[3, 2, 9], [NO_ID] * 3], np.uint64)) == pytest.approx(2 / 3)
    assert recall(ids, np.full((2, 3), NO_ID, np.uint64)) == 1


def test_fewer_rows_than_k(made, capsys) -> None:
    made.rows = made.rows[:3]
    index = made.index()
    ids = made.folder / "o.npy"
    assert made.search(capsys, index, "-o", ids)[0] == 0
    assert (np.load(ids)[:, 3:] == np.uint64(NO_ID)).all()
    assert len(made.search(capsys, index)[1].splitlines()) == 20 * 3


@pytest.mark.parametrize(
    ("cls", "args", "option"),
    [
        (FlatF32Index, ["--nprobe", 2], "--nprobe"),
        (RabitqIndex, ["--max-rerank", 9], "--max-rerank"),
        (RabitqIndex, ["--nprobe", 1, "--epsilon", 1], "--epsilon"),
    ],
)
def test_options_of_other_classes(made, capsys, cls, args, option) -> None:
    code, out, err = made.search(capsys, made.index(cls), *args)
    assert (code, out) == (2, "")
    assert err == f"ruvector: a {cls.__name__} takes no {option}\n"


def test_options_reach_the_search(made, capsys) -> None:
    index = made.index(RabitqAsymIndex, rerank_factor=2, n_lists=6)
    loaded = RabitqAsymIndex.load(index)
    for args, options in [
        (["--nprobe", 1], {"nprobe": 1}),
        (["--nprobe", "all"], {"nprobe": "all"}),
        (["--epsilon", 0.5, "--rerank-factor", 1], {"epsilon": 0.5, "rerank_factor": 1}),
        (["--max-rerank", K], {"max_rerank": K}),
    ]:
        ids = made.folder / "o.npy"
        assert made.search(capsys, index, "-o", ids, *args)[0] == 0
        expected = loaded.search_batch(made.queries, K, **options)[0]
        np.testing.assert_array_equal(np.load(ids), expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda q: q.astype(float),
        lambda q: q.astype(np.float16),
        lambda q: (9 * q).astype(np.int32),
        lambda q: q.astype(">f8"),
        np.asfortranarray,
        lambda q: q[0].astype(float),
    ],
)
def test_queries_of_any_real_dtype(made, capsys, make) -> None:
    queries = make(made.queries)
    np.save(made.folder / "q.npy", queries)
    index, out = made.index(epsilon=EVERYTHING), made.folder / "o.npy"
    assert made.search(capsys, index, "-o", out) == (0, ANY, "")
    expected, _ = RabitqPlusIndex.load(index).search_batch(queries, K)
    np.testing.assert_array_equal(np.load(out), expected)


def test_what_cannot_be_searched(made, capsys) -> None:
    index, folder = made.index(), made.folder
    np.save(folder / "narrow.npy", np.zeros((2, 3), np.float32))
    np.save(folder / "few.npy", made.ids[:3])
    np.save(folder / "far.npy", np.full((2, 12), 1e300))
    np.save(folder / "flags.npy", np.zeros((2, 12), bool))
    (folder / "junk.rbpx").write_bytes(b"junk")
    queries = folder / "q.npy"
    for args, code, words in [
        ([index, folder / "narrow.npy"], 1, "dimension"),
        ([index, folder / "far.npy"], 1, "far.npy: numbers beyond float32"),
        ([index, folder / "flags.npy"], 1, "(n, dim) real numbers, got (2, 12) bool"),
        ([folder / "junk.rbpx", queries], 1, "junk.rbpx"),
        ([folder / "none.rbpx", queries], 1, "none.rbpx"),
        ([index, queries, "--truth", folder / "few.npy"], 1, "3 x 5 ids, but there are 20 queries"),
        ([index, queries, "--truth", folder / "truth.npy", "-k", 6], 1, "and k is 6"),
        ([index, queries, "-o", folder / "x.txt"], 2, "cannot write .txt"),
        ([index, queries, "--scores", folder / "x.ivecs"], 2, "use .npy, .fvecs"),
        ([index, queries, "-o", folder / "no" / "x.npy"], 2, "does not exist"),
    ]:
        got = cli.main(["search", *map(str, args)])
        out, err = capsys.readouterr()
        assert (got, out, err.count("\n")) == (code, "", 1), err
        assert words in err


@pytest.mark.parametrize("args", [["-k", "0"], ["--nprobe", "some"], ["--threads", "-1"]])
def test_wrong_numbers(made, capsys, args) -> None:
    with pytest.raises(SystemExit) as caught:
        made.search(capsys, made.index(), *args)
    assert caught.value.code == 2
