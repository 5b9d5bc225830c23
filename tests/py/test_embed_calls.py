"""What `embed_batch` takes besides texts, its async twin, pickling and closing."""

from __future__ import annotations

import asyncio
import concurrent.futures
import io
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from installed import MINILM, need
from letters import DIM, LetterTokenizer, TableSession, expected, make
from ruvector import Embedder, EmbedError
from ruvector import _progress as progress
from ruvector.embed import inputs

PROMPTS = {"query": "query: ", "document": ""}


# ---- texts and out ------------------------------------------------------------------


def count_up(texts: list[str], read: list[int]) -> Iterator[str]:
    for row, text in enumerate(texts):
        read.append(row)
        yield text


@pytest.mark.parametrize("threads", [1, 2])
def test_a_generator_is_read_a_window_at_a_time(monkeypatch, threads: int) -> None:
    monkeypatch.setattr(inputs, "WINDOW", 50)
    texts = [chr(97 + i % 26) * (1 + i % 37) for i in range(173)]
    read: list[int] = []
    calls: list[tuple[int, int | None]] = []
    seen: list[int] = []

    def tell(done: int, total: int | None) -> None:
        calls.append((done, total))
        seen.append(len(read))

    made = make(normalize=False, threads=threads)
    got = made.embed_batch(count_up(texts, read), progress=tell)
    np.testing.assert_allclose(got, [expected(t, "mean") for t in texts], rtol=1e-5, atol=1e-6)
    assert calls[-1] == (173, None)
    assert seen[0] == 50
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})


@pytest.mark.parametrize("kind", [list, iter])
def test_out_takes_the_vectors(monkeypatch, kind) -> None:
    monkeypatch.setattr(inputs, "WINDOW", 4)
    texts = [chr(97 + i) * (1 + i) for i in range(11)]
    out = np.full((11, DIM), 7, dtype=np.float32)
    assert make().embed_batch(kind(texts), out=out) is out
    assert np.array_equal(out, make().embed_batch(texts))


@pytest.mark.parametrize(
    ("out", "error", "says"),
    [
        ([], TypeError, r"out must be a float32 array of shape \(3, 5\)"),
        (np.zeros((3, 5)), ValueError, r"got float64 of shape \(3, 5\)"),
        (np.zeros((2, 5), np.float32), ValueError, r"float32 array of shape \(3, 5\), got"),
        (np.zeros((3, 4), np.float32), ValueError, r"got float32 of shape \(3, 4\)"),
        (np.zeros((5, 3), np.float32).T, ValueError, "not C-contiguous"),
        (np.zeros((3, 10), np.float32)[:, ::2], ValueError, "not C-contiguous"),
        (np.broadcast_to(np.float32(0), (3, 5)), ValueError, "read-only"),
    ],
)
def test_a_wrong_out_is_refused_before_any_work(out, error, says: str) -> None:
    session = TableSession()
    made = make(session)
    runs = len(session.shapes)
    with pytest.raises(error, match=says):
        made.embed_batch(["a", "b", "c"], out=out)
    assert len(session.shapes) == runs


@pytest.mark.parametrize(
    ("rows", "says"),
    [(2, "out has 2 rows, and there are more texts"), (4, "out has 4 rows, and there are 3 texts")],
)
def test_texts_without_a_length_must_fill_out_exactly(rows: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make().embed_batch(iter("abc"), out=np.zeros((rows, DIM), np.float32))


def test_a_wrong_text_of_a_generator_is_named_when_it_is_read() -> None:
    with pytest.raises(TypeError, match=r"texts\[2\] is int, not str"):
        make().embed_batch(iter(["a", "b", 3]))


# ---- prompts ------------------------------------------------------------------------


def test_a_prompt_goes_before_every_text() -> None:
    made = make(prompts=PROMPTS)
    assert made.prompts == PROMPTS
    plain = made.embed_batch(["query: ab", "query: c", "ab"])
    assert np.array_equal(made.embed_batch(["ab", "c"], prompt="query"), plain[:2])
    assert np.array_equal(made.embed("ab", prompt="query"), plain[0])
    assert np.array_equal(made.embed("ab"), plain[2])


def test_a_models_default_prompt_is_used_and_can_be_replaced() -> None:
    made = make(prompts=PROMPTS, default_prompt="query")
    bare = make()
    assert np.array_equal(made.embed("ab"), bare.embed("query: ab"))
    assert np.array_equal(made.embed("ab", prompt="document"), bare.embed("ab"))


def test_an_unknown_prompt_names_those_there_are() -> None:
    with pytest.raises(ValueError, match="no prompt 'passage'; it has: 'document', 'query'"):
        make(prompts=PROMPTS).embed("ab", prompt="passage")
    with pytest.raises(ValueError, match="no prompt 'query'; it has: none"):
        make().embed_batch(["ab"], prompt="query")


# ---- progress -----------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_is_shown_for_long_work_on_a_terminal(monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown = Terminal()
    monkeypatch.setattr("sys.stderr", shown)

    class Slow(TableSession):
        def run(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
            now[0] += 1
            return super().run(ids, mask)

    make(Slow()).embed_batch(["x" * 40] * 36)
    lines = shown.getvalue().split("\r")
    # Batches of 12 texts, a second each; nothing is shown in the first two.
    assert [line.rstrip(" ") for line in lines] == [
        "",
        "embedding [#############.......] 24 of 36, 12 a second, 1 s to go",
        f"{'embedding [####################] 36 of 36, 12 a second, 0 s to go':<79}\n",
    ]
    shown.truncate(0)
    make(Slow()).embed_batch("x" * 40 for _ in range(36))
    assert "embedding 24 texts, 12 a second" in shown.getvalue()
    shown.truncate(0)
    make(Slow()).embed_batch(["x" * 40] * 36, progress=False)
    assert not shown.getvalue()


def test_no_bar_where_nobody_watches(monkeypatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    shown = io.StringIO()
    monkeypatch.setattr("sys.stderr", shown)
    make().embed_batch(["abc"] * 500)
    assert not shown.getvalue()
    monkeypatch.setattr("sys.stderr", None)
    make().embed_batch(["abc"], progress=True)


def test_a_wrong_progress_is_refused() -> None:
    with pytest.raises(TypeError, match="progress must be a function, a bool or None, got int"):
        make().embed_batch(["abc"], progress=7)


# ---- stopping -----------------------------------------------------------------------


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C raises, also where a shell has started the tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(os.name != "posix", reason="sends itself a signal")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_the_work_after_the_batches_under_way(threads: int) -> None:
    class Slow(TableSession):
        def run(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
            hidden = super().run(ids, mask)
            with lock:
                # Python loses an interrupt that falls into a finalizer: then there is another.
                if len(self.shapes) >= 4 + 20 * len(stopped_at):
                    stopped_at.append(len(self.shapes))
                    os.kill(os.getpid(), signal.SIGINT)
            if len(self.shapes) > 1:
                time.sleep(0.02)
            return hidden

    lock = threading.Lock()
    stopped_at: list[int] = []
    session = Slow()
    with pytest.raises(KeyboardInterrupt):
        make(session, threads=threads).embed_batch(["x" * 40] * 5000)
    assert stopped_at[-1] <= len(session.shapes) <= stopped_at[-1] + 2 * threads


# ---- async --------------------------------------------------------------------------


class Gated(TableSession):
    """Stands still, after the probe, until `gate` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.begun = threading.Event()

    def run(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        hidden = super().run(ids, mask)
        if len(self.shapes) > 1:
            self.begun.set()
            assert self.gate.wait(60)
        return hidden


@pytest.mark.parametrize("threads", [1, 2])
def test_the_event_loop_stays_free(threads: int) -> None:
    session = Gated()
    made = make(session, threads=threads)
    texts = ["x" * 40] * 100

    async def main() -> np.ndarray:
        work = asyncio.ensure_future(made.embed_batch_async(texts))
        while not session.begun.is_set():
            await asyncio.sleep(0)
        for _ in range(100):  # the loop turns while the model stands still
            await asyncio.sleep(0)
        assert not work.done()
        session.gate.set()
        return await work

    assert np.array_equal(asyncio.run(main()), make().embed_batch(texts))


def test_cancelling_stops_after_the_batches_under_way() -> None:
    session = Gated()
    made = make(session)

    async def main() -> None:
        work = asyncio.ensure_future(made.embed_batch_async(["x" * 40] * 5000))
        while not session.begun.is_set():
            await asyncio.sleep(0)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        session.gate.set()

    asyncio.run(main())  # waits for the thread
    assert len(session.shapes) == 2  # the probe and one batch
    assert made.embed("abc").shape == (DIM,)


def test_cancelling_stops_before_the_next_text_is_tokenised() -> None:
    begun, gate = threading.Event(), threading.Event()
    seen: list[str] = []
    made = make()

    class Slow(LetterTokenizer):
        def encode(self, text: str) -> tuple[np.ndarray, bool]:
            seen.append(text)
            begun.set()
            assert gate.wait(60)
            return super().encode(text)

    made._tokenizer = Slow()

    async def main() -> None:
        work = asyncio.ensure_future(made.embed_batch_async(["x" * 40] * 5000))
        while not begun.is_set():
            await asyncio.sleep(0)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        gate.set()

    asyncio.run(main())  # waits for the thread
    assert len(seen) == 1
    assert made.stats.texts == 0


def test_async_raises_as_the_plain_call_does() -> None:
    with pytest.raises(TypeError, match="got one str"):
        asyncio.run(make().embed_batch_async("abc"))


class Own(BaseException):
    """One that `except Exception` lets pass."""


# An event loop or a future treats each of these in a way of its own.
RAISED = [
    Own,
    StopIteration,
    StopAsyncIteration,
    GeneratorExit,
    KeyboardInterrupt,
    SystemExit,
    TimeoutError,
    asyncio.CancelledError,
    concurrent.futures.CancelledError,
    concurrent.futures.TimeoutError,
    concurrent.futures.BrokenExecutor,
]


def from_progress(made: Embedder, error: BaseException) -> dict[str, object]:
    def tell(done: int, total: int | None) -> None:
        raise error

    return {"texts": ["abc"] * 100, "progress": tell}


def from_texts(made: Embedder, error: BaseException) -> dict[str, object]:
    class Texts:
        def __iter__(self) -> Texts:
            return self

        def __next__(self) -> str:
            raise error

    return {"texts": Texts()}


def from_tokenizer(made: Embedder, error: BaseException) -> dict[str, object]:
    class Broken:
        def encode(self, text: str) -> tuple[np.ndarray, bool]:
            raise error

    made._tokenizer = Broken()
    return {"texts": ["abc"] * 100}


@pytest.mark.parametrize("kind", RAISED, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
@pytest.mark.parametrize("raiser", [from_progress, from_texts, from_tokenizer])
@pytest.mark.parametrize("threads", [1, 2])
def test_what_a_callback_raises_comes_out_of_the_call(kind, raiser, threads: int) -> None:
    ends_the_texts = raiser is from_texts and kind is StopIteration  # as of any iterator
    made, error = make(threads=threads), kind("told")
    asked = raiser(made, error)
    if ends_the_texts:
        assert made.embed_batch(**asked).shape == (0, DIM)
    else:
        with pytest.raises(kind) as caught:
            made.embed_batch(**asked)
        assert caught.value is error
    told: list[BaseException] = []

    async def main() -> None:
        try:
            # wait, unlike wait_for, takes no part in what the task raises
            await asyncio.wait([asyncio.ensure_future(call())], timeout=60)
        except (KeyboardInterrupt, SystemExit) as why:
            told.append(why)

    async def call() -> None:
        try:
            await made.embed_batch_async(**asked)
        except BaseException as why:
            told.append(why)

    asyncio.run(main())
    if ends_the_texts:
        assert told == []
    elif kind is StopIteration:  # PEP 479: a coroutine cannot raise it
        assert isinstance(told[0], RuntimeError)
        assert told[0].__cause__ is error
    else:
        assert told[0] is error
    # No thread is lost, and no turn of the embedder's.
    workers = [t for t in threading.enumerate() if t.name.startswith(("asyncio", "ThreadPool"))]
    assert not workers
    made._tokenizer = LetterTokenizer()
    assert len(made.embed_batch(["abc"] * 100)) == 100


def test_a_bar_that_cannot_be_drawn_does_not_stop_the_work(monkeypatch) -> None:
    class Gone(Terminal):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr("sys.stderr", Gone())
    assert len(make().embed_batch(["abc"] * 500, progress=True)) == 500
    closed = Terminal()
    closed.close()
    monkeypatch.setattr("sys.stderr", closed)
    assert len(make().embed_batch(["abc"] * 500)) == 500
    assert len(make().embed_batch(["abc"] * 500, progress=True)) == 500


# ---- life of an embedder ------------------------------------------------------------


def test_several_callers_share_the_threads() -> None:
    """Those that tokenise and those that run batches, together."""
    lock = threading.Lock()
    busy: list[int] = []  # how many there were, whenever one more began
    working = 0

    class Counted:
        """Two may be in at once: the first waits for the second."""

        def __init__(self) -> None:
            self.begun = 0
            self.both = threading.Barrier(2)

        @contextmanager
        def __call__(self) -> Iterator[None]:
            nonlocal working
            with lock:
                working += 1
                busy.append(working)
                self.begun += 1
                wait = self.begun <= 2
            if wait:
                self.both.wait(60)
            time.sleep(0.0005)
            yield
            with lock:
                working -= 1

    tokenising, running = Counted(), Counted()

    class CountingTokenizer(LetterTokenizer):
        def encode(self, text: str) -> tuple[np.ndarray, bool]:
            with tokenising():
                return super().encode(text)

    class CountingSession(TableSession):
        def run(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
            if ids.shape == (1, 1):  # the probe
                return super().run(ids, mask)
            with running():
                return super().run(ids, mask)

    made = make(CountingSession(), threads=2)
    made._tokenizer = CountingTokenizer()
    callers = [
        threading.Thread(target=made.embed_batch, args=(["x" * 40] * 100,)) for _ in range(4)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert max(busy) == 2
    assert (tokenising.begun, running.begun) == (400, 4 * 9)
    assert made.stats.texts == 400


def test_a_closed_embedder_says_so() -> None:
    with make() as made:
        assert made.embed("abc").shape == (DIM,)
    with pytest.raises(EmbedError, match=r"Embedder\('letters'.*is closed"):
        made.embed("abc")
    with pytest.raises(EmbedError, match="is closed"), made:
        pass
    made.close()
    assert made.stats.texts == 1


def test_closing_during_a_call_is_told_to_the_call() -> None:
    made = make()
    with pytest.raises(EmbedError, match="letters was closed"):
        made.embed_batch(["x" * 40] * 100, progress=lambda done, total: made.close())


def test_pickling_opens_the_same_model_again(tmp_path, monkeypatch) -> None:
    need(*MINILM)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    asked = {"cache_dir": tmp_path, "local_files_only": True, "threads": 1}
    made = Embedder.from_pretrained("all-MiniLM-L6-v2", **asked)
    stream = pickle.dumps(made)
    assert len(stream) < 1000
    again = pickle.loads(stream)
    assert (again.files, again.threads, again.stats.texts) == (made.files, 1, 0)
    assert np.array_equal(again.embed("hello"), made.embed("hello"))


def test_an_embedder_made_by_hand_cannot_be_pickled() -> None:
    with pytest.raises(TypeError, match="only an Embedder made by from_pretrained"):
        pickle.dumps(make())
