"""Batching, pooling, counting and argument checks of `Embedder`, on a model made here."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from letters import DIM, TableSession, expected, make
from ruvector import EmbedError
from ruvector.embed import Embedder, EmbedStats, inputs, text

TEXTS = ["b", "a longer text than the others, longer than forty letters", "", "abc", "zz top"]


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("threads", [1, 3])
def test_pooling_ignores_padding(pooling: str, threads: int) -> None:
    got = make(pooling=pooling, normalize=False, threads=threads).embed_batch(TEXTS)
    np.testing.assert_allclose(got, [expected(t, pooling) for t in TEXTS], rtol=1e-5, atol=1e-6)


def test_normalized_rows_keep_their_direction_and_have_norm_one() -> None:
    got = make(pooling="mean").embed_batch(TEXTS)
    want = np.array([expected(t, "mean") for t in TEXTS])
    want /= np.linalg.norm(want, axis=1, keepdims=True)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    assert got.dtype == np.float32
    assert got.flags.c_contiguous


def test_a_row_of_zeros_stays_finite() -> None:
    class Zeros:
        def run(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
            return np.zeros((*ids.shape, DIM), dtype=np.float32)

    assert np.array_equal(make(Zeros()).embed("abc"), np.zeros(DIM))


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("rubbish", [np.nan, np.inf, -np.inf])
def test_pooling_ignores_padding_that_is_no_number(pooling: str, rubbish: float) -> None:
    class Rubbish(TableSession):
        def run(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
            hidden = super().run(ids, mask)
            hidden[mask == 0] = rubbish
            return hidden

    got = make(Rubbish(), pooling=pooling, normalize=False).embed_batch(TEXTS)
    np.testing.assert_allclose(got, [expected(t, pooling) for t in TEXTS], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_no_number_is_an_error(pooling, normalize, value, recwarn) -> None:
    class Overflowing(TableSession):
        def run(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
            hidden = super().run(ids, mask)
            hidden[ids == ord("z"), 2] = value
            return hidden

    model = make(Overflowing(), pooling=pooling, normalize=normalize)
    assert np.isfinite(model.embed_batch(["b", "abc"])).all()
    with pytest.raises(EmbedError, match=r"model\.onnx: .* not finite for 1 of 1 texts"):
        model.embed("z")
    assert not [w for w in recwarn if w.category is RuntimeWarning]


def test_a_graph_that_pools_itself_into_no_number_is_an_error() -> None:
    class Pooled:
        def run(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
            return np.where(ids[:, :1] == ord("z"), np.nan, mask[:, :1] * 2.0).astype(np.float32)

    with pytest.raises(EmbedError, match="not finite for 2 of 3 texts"):
        make(Pooled()).embed_batch(["za", "b", "zb"])


def test_a_graph_that_pools_itself_is_taken_as_it_is() -> None:
    class Pooled:
        def run(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
            return np.repeat(mask.sum(axis=1, keepdims=True), 2, axis=1).astype(np.float32)

    embedder = make(Pooled(), normalize=False, pooling="cls")
    assert embedder.embed_batch(["abc", "abcdef"]).tolist() == [[3, 3], [6, 6]]
    assert embedder.dim == 2


def test_a_graph_of_the_wrong_shape_is_an_error() -> None:
    class Wrong:
        def run(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
            return np.zeros(7, dtype=np.float32)

    with pytest.raises(EmbedError, match=r"model\.onnx.*shape \(7,\) for 1 texts"):
        make(Wrong())


@given(st.lists(st.integers(0, 300), max_size=200), st.integers(1, 600))
def test_batches_cover_every_row_once_and_stay_within_the_limit(
    lengths: list[int], limit: int
) -> None:
    batches = [b.tolist() for b in text.plan_batches(lengths, limit)]
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[row] for row in batch)
        assert len(batch) * longest <= limit or len(batch) == 1
        assert longest == lengths[batch[0]]
    firsts = [lengths[batch[0]] for batch in batches]
    assert firsts == sorted(firsts, reverse=True)


def test_long_work_runs_in_windows_and_bounded_batches(monkeypatch) -> None:
    monkeypatch.setattr(inputs, "WINDOW", 50)
    session = TableSession()
    texts = [chr(97 + i % 26) * (1 + i % 37) for i in range(173)]
    got = make(session, normalize=False).embed_batch(texts)
    np.testing.assert_allclose(got, [expected(t, "mean") for t in texts], rtol=1e-5, atol=1e-6)
    assert all(rows * width <= text.BATCH_TOKENS for rows, width in session.shapes)
    padded = sum(rows * width for rows, width in session.shapes)
    assert padded < 1.5 * sum(map(len, texts))


def test_thread_counts_change_who_works_but_not_a_bit() -> None:
    texts = [chr(97 + i % 26) * (1 + i % 37) for i in range(2000)]
    alone, shared = TableSession(), TableSession()
    one = make(alone, threads=1).embed_batch(texts)
    four = make(shared, threads=4).embed_batch(texts)
    assert one.tobytes() == four.tobytes()
    assert alone.threads == {threading.get_ident()}
    assert 1 <= len(shared.threads - {threading.get_ident()}) <= 4


def test_progress_counts_up_to_all() -> None:
    calls: list[tuple[int, int]] = []
    make(threads=2).embed_batch(["abc"] * 1000, progress=lambda *now: calls.append(now))
    done = [d for d, _ in calls]
    assert done == sorted(set(done))
    assert calls[-1] == (1000, 1000)
    assert len(calls) > 2


def test_progress_can_stop_the_work() -> None:
    session = TableSession()

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    working = make(session)
    with pytest.raises(KeyboardInterrupt):
        working.embed_batch(["x" * 40] * 5000, progress=stop)
    assert session.shapes == [(1, 1), (12, 40)]  # the probe at the start, and one batch
    assert working.stats.texts == 12
    assert working.embed("abc").shape == (DIM,)


def test_stopping_drops_the_batches_that_no_thread_has_begun() -> None:
    gate = threading.Event()

    class Gated(TableSession):
        def run(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
            hidden = super().run(ids, mask)
            go = ids.shape == (1, 1) or ids[0, 0] == ord("a")  # the probe and the first batch
            assert go or gate.wait(60)
            return hidden

    def stop(done: int, total: int) -> None:
        threading.Timer(0.5, gate.set).start()
        raise KeyboardInterrupt

    session = Gated()
    texts = ["a" * 40] * 12 + ["x" * 40] * 5000
    with pytest.raises(KeyboardInterrupt):
        make(session, threads=2).embed_batch(texts, progress=stop)
    assert len(session.shapes) <= 2 + 2  # the probe, one batch, and one a thread


def test_stats_add_up() -> None:
    counted = make()
    assert counted.stats == EmbedStats(0, 0, 0, 0.0)
    counted.embed_batch(["abc", "x" * 50, "y" * 40])
    counted.embed("four")
    stats = counted.stats
    assert stats[:3] == (4, 3 + 40 + 40 + 4, 1)
    assert stats.seconds > 0


def test_no_texts_give_no_rows() -> None:
    got = make().embed_batch([])
    assert got.shape == (0, DIM)
    assert got.dtype == np.float32


def test_any_iterable_will_do() -> None:
    got = make().embed_batch(letter for letter in "abc")
    assert np.array_equal(got, make().embed_batch(["a", "b", "c"]))


def test_one_text_gives_one_vector() -> None:
    got = make().embed("abc")
    assert got.shape == (DIM,)
    assert np.array_equal(got, make().embed_batch(["abc"])[0])


def test_what_it_says_of_itself() -> None:
    told = make(threads=3, max_length=77)
    assert (told.name, told.source, told.dim) == ("letters", "here", DIM)
    assert (told.max_length, told.threads) == (77, 3)
    assert told.files == (Path("model.onnx"), Path("tokenizer.json"))
    for part in ("Embedder('letters'", "dim=5", "max_length=77", "pooling='mean'", "threads=3"):
        assert part in repr(told)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda e: e.embed(["a"]), TypeError, r"got list; use embed_batch"),
        (lambda e: e.embed(b"a"), TypeError, r"takes one str"),
        (lambda e: e.embed_batch("abc"), TypeError, r"got one str; use embed\(text\)"),
        (lambda e: e.embed_batch(b"abc"), TypeError, r"got one bytes"),
        (lambda e: e.embed_batch(["a", None]), TypeError, r"texts\[1\] is NoneType, not str"),
        (lambda e: e.embed_batch(["a", b"b"]), TypeError, r"texts\[1\] is bytes, not str"),
        (lambda e: e.embed_batch(["a", "b", "c\udc80"]), ValueError, r"texts\[2\].*character 1"),
        (lambda e: e.embed("\ud83d"), ValueError, "lone surrogate at character 0"),
    ],
)
def test_wrong_texts_are_refused_before_any_work(call, error, says: str) -> None:
    session = TableSession()
    refusing = make(session)
    runs = len(session.shapes)
    with pytest.raises(error, match=says):
        call(refusing)
    assert len(session.shapes) == runs
    assert refusing.stats.texts == 0


@pytest.mark.parametrize(
    ("threads", "error"), [(0, ValueError), (-1, ValueError), ("2", TypeError), (True, TypeError)]
)
def test_wrong_thread_counts_are_refused(threads, error) -> None:
    with pytest.raises(error, match="threads must be"):
        Embedder.from_pretrained("all-MiniLM-L6-v2", threads=threads)
