"""`TextEmbedder`: batches, pooling and counting around a tokenizer and a session.

Texts are taken in windows, sorted by length within a window and run in batches bounded
by tokens, so little is spent on padding and memory does not grow with the corpus. Each
batch runs on one thread and several run side by side: threads that share a batch wait
for each other, which costs most when something else wants the cores. It also makes the
vectors the same for every number of threads. A text's vector may still differ in its
last bits with the other texts of the call, because ONNX Runtime picks its arithmetic by
shape. All methods may be called from several threads at once; together they keep no more
threads busy, with tokenising and with batches, than one call would.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol, cast

import numpy as np

from .._progress import Progress, as_callback
from ..errors import EmbedError
from .embedder import Embedder, EmbedStats
from .folder import TextModel
from .image_folder import IMAGE_MODEL
from .inputs import check_out, checked_texts, windows
from .runtime import Session, Tokenizer
from .turns import OPENING

# Padded tokens in one batch: measured throughput of a 6-layer model is flat from 256 to
# 512 and falls slowly beyond, where the activations leave the core's cache.
BATCH_TOKENS = 512


class _Encoder(Protocol):
    def encode(self, text: str) -> tuple[np.ndarray, bool]: ...


class _Runner(Protocol):
    def run(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray: ...


class TextEmbedder(Embedder, opens=TextModel):
    """A text model. Made by `Embedder.from_pretrained`."""

    _takes = f"texts; from_pretrained({IMAGE_MODEL!r}) takes images"

    def __init__(
        self, model: TextModel, tokenizer: _Encoder, session: _Runner, *, threads: int = 1
    ) -> None:
        super().__init__(model, files=(model.graph, model.tokenizer), threads=threads)
        self._model = model
        self._tokenizer = tokenizer
        self._session: _Runner | None = session
        ids, _ = tokenizer.encode("")
        self._dim = int(self._run([ids]).shape[1])

    @classmethod
    def _open(cls, model: Any, *, threads: int) -> TextEmbedder:
        with OPENING:
            tokenizer = Tokenizer(
                model.tokenizer,
                model.max_length,
                lower_case=model.lower_case,
                cut=model.cut,
            )
            session = Session(model.graph)
        return cls(model, tokenizer, session, threads=threads)

    def close(self) -> None:
        super().close()
        self._session = None

    @property
    def max_length(self) -> int:
        return self._model.max_length

    @property
    def prompts(self) -> dict[str, str]:
        return dict(self._model.prompts)

    def __repr__(self) -> str:
        model = self._model
        return (
            f"Embedder({model.name!r}, dim={self._dim}, max_length={model.max_length}, "
            f"pooling={model.pooling!r}, normalize={model.normalize}, threads={self._threads})"
        )

    def embed(self, text: str, *, prompt: str | None = None) -> np.ndarray:
        if not isinstance(text, str):
            what = type(text).__name__
            if isinstance(text, (bytes, bytearray)):
                raise TypeError(f"embed takes one str, got {what}; use embed(text.decode())")
            raise TypeError(f"embed takes one str, got {what}; use embed_batch for a list")
        row: np.ndarray = self.embed_batch([text], prompt=prompt, progress=False)[0]
        return row

    def embed_batch(
        self,
        texts: Iterable[str],
        *,
        out: np.ndarray | None = None,
        prompt: str | None = None,
        progress: Progress = None,
    ) -> np.ndarray:
        return self._embed_all(texts, out, prompt, progress, None)

    async def embed_batch_async(
        self,
        texts: Iterable[str],
        *,
        out: np.ndarray | None = None,
        prompt: str | None = None,
        progress: Progress = None,
    ) -> np.ndarray:
        stop = threading.Event()
        work = partial(_outcome, self._embed_all, texts, out, prompt, progress, stop)
        try:
            rows, error = await asyncio.get_running_loop().run_in_executor(None, work)
        finally:
            stop.set()
        if error is not None:
            raise error
        return cast(np.ndarray, rows)

    def _embed_all(
        self,
        texts: Iterable[str],
        out: np.ndarray | None,
        prompt: str | None,
        progress: Progress,
        stop: threading.Event | None,
    ) -> np.ndarray:
        self._check_open()
        prefix = self._prefix(prompt)
        source, total = checked_texts(texts)
        if out is not None:
            check_out(out, total, self._dim)
        elif total is not None:
            out = np.empty((total, self._dim), dtype=np.float32)
        blocks: list[np.ndarray] = []  # the result, while its length is not known
        done = 0
        callback, finish = as_callback(progress)

        def check() -> None:
            if stop is not None and stop.is_set():
                raise _Stopped

        def tell(rows: int) -> None:
            check()
            if callback is not None:
                callback(done + rows, total)

        try:
            for window in windows(source):
                if out is None:
                    blocks.append(np.empty((len(window), self._dim), dtype=np.float32))
                elif done + len(window) > len(out):
                    raise ValueError(f"out has {len(out)} rows, and there are more texts")
                rows = blocks[-1] if out is None else out[done : done + len(window)]
                self._embed_window([prefix + text for text in window], rows, check, tell)
                done += len(window)
        finally:
            finish()
        if out is None:
            return np.concatenate(blocks or [np.empty((0, self._dim), dtype=np.float32)])
        if done < len(out):
            raise ValueError(f"out has {len(out)} rows, and there are {done} texts")
        return out

    def _embed_window(
        self,
        texts: Sequence[str],
        out: np.ndarray,
        check: Callable[[], object],
        tell: Callable[[int], object],
    ) -> None:
        """Fill `out`; `check()` is called before every text is tokenised and `tell(rows so
        far)` after every batch. Both may raise."""
        start = time.perf_counter()
        encoded = []
        for text in texts:
            check()
            with self._turns:
                encoded.append(self._tokenizer.encode(text))
        plan = list(plan_batches([len(ids) for ids, _ in encoded]))
        batches = ([encoded[row][0] for row in rows] for rows in plan)
        threads = min(self._threads, len(plan))
        done = tokens = truncated = 0
        # One batch gains nothing from a second thread.
        workers = ThreadPoolExecutor(threads) if threads > 1 else None
        try:
            for rows, vectors in zip(plan, (workers.map if workers else map)(self._run, batches)):
                out[rows] = vectors
                done += len(rows)
                tokens += sum(len(encoded[row][0]) for row in rows)
                truncated += sum(encoded[row][1] for row in rows)
                tell(done)
        finally:
            if workers:
                workers.shutdown(cancel_futures=True)
            self._count(EmbedStats(done, tokens, truncated, time.perf_counter() - start))

    def _prefix(self, prompt: str | None) -> str:
        prompts = self._model.prompts
        if prompt is None:
            return prompts.get(self._model.default_prompt or "", "")
        if prompt not in prompts:
            known = ", ".join(map(repr, sorted(prompts))) or "none"
            raise ValueError(f"{self.name} has no prompt {prompt!r}; it has: {known}")
        return prompts[prompt]

    def _run(self, encoded: Sequence[np.ndarray]) -> np.ndarray:
        # A tokenizer without special tokens gives none for "": one padding token then
        # stands for the text, because a fully masked row has no defined output.
        width = max(1, *(len(ids) for ids in encoded))
        padded = np.zeros((len(encoded), width), dtype=np.int64)
        mask = np.zeros_like(padded)
        for row, ids in enumerate(encoded):
            padded[row, : len(ids)] = ids
            mask[row, : max(1, len(ids))] = 1
        session = self._session
        if session is None:
            raise EmbedError(f"{self.name} was closed", model=self.name)
        with self._turns:
            vectors = session.run(padded, mask)
        if vectors.ndim == 3:
            vectors = pool(vectors, mask, self._model.pooling)
        if vectors.ndim != 2 or len(vectors) != len(encoded):
            raise EmbedError(
                f"{self._model.graph}: the graph gave shape {vectors.shape} "
                f"for {len(encoded)} texts"
            )
        self._check_finite(vectors)
        return unit_rows(vectors) if self._model.normalize else vectors

    def _check_finite(self, vectors: np.ndarray) -> None:
        """`EmbedError` for a vector that nothing can be compared with."""
        wrong = int((~np.isfinite(vectors).all(axis=1)).sum())
        if wrong:
            raise EmbedError(
                f"{self._model.graph}: the graph gave values that are not finite for {wrong} of "
                f"{len(vectors)} texts; 16-bit weights overflow so: give a folder whose only "
                "graph is the float32 one",
                model=self.name,
            )


class _Stopped(Exception):
    """Nobody waits for the result any more."""


def _outcome(
    work: Callable[..., np.ndarray], *args: object
) -> tuple[np.ndarray | None, BaseException | None]:
    """What `work` returns, and what it raises, as a value: a future takes no StopIteration,
    and an event loop has ideas of its own about other exceptions."""
    try:
        return work(*args), None
    except BaseException as error:
        return None, error


def plan_batches(lengths: Sequence[int], limit: int = BATCH_TOKENS) -> Iterator[np.ndarray]:
    """Row numbers of each batch, longest texts first.

    A batch is padded to its first row; rows x that length stays within `limit` unless
    one row alone exceeds it. Longest first means the first batch shows the peak memory.
    """
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    first = 0
    while first < len(order):
        count = max(1, limit // max(1, lengths[order[first]]))
        yield order[first : first + count]
        first += count


def pool(hidden: np.ndarray, mask: np.ndarray, pooling: str) -> np.ndarray:
    """One vector a row from hidden states (rows, tokens, dim); padding never counts."""
    if pooling == "cls":
        return hidden[:, 0, :]
    if pooling == "max":
        lowest = np.finfo(hidden.dtype).min
        return np.asarray(np.where(mask[:, :, None] > 0, hidden, lowest).max(axis=1))
    weights = mask.astype(hidden.dtype)
    if not np.isfinite(hidden).all():  # no weight, 0 neither, takes that out of a sum
        hidden = np.where(mask[:, :, None] > 0, hidden, hidden.dtype.type(0))
    with np.errstate(invalid="ignore", over="ignore"):  # looked at afterwards
        totals = np.matmul(weights[:, None, :], hidden)[:, 0, :]
    return np.asarray(totals / np.maximum(weights.sum(axis=1, keepdims=True), 1))


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """`vectors` with every row scaled to norm 1; rows of zeros stay zeros."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, np.float32(1e-12)))
