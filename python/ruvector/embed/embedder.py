"""`Embedder`: batches, pooling and counting around a tokenizer and a session.

Texts are taken in windows, sorted by length within a window and run in batches bounded
by tokens, so little is spent on padding and memory does not grow with the corpus. Each
batch runs on one thread and several run side by side: threads that share a batch wait
for each other, which costs most when something else wants the cores. It also makes the
vectors the same for every number of threads. A text's vector may still differ in its
last bits with the other texts of the call, because ONNX Runtime picks its arithmetic by
shape. All methods may be called from several threads at once.
"""

from __future__ import annotations

import operator
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from ..errors import EmbedError
from .folder import TextModel
from .image_folder import IMAGE_MODEL, ImageModel
from .models import find_model
from .runtime import Session, Tokenizer

if TYPE_CHECKING:
    from .image import ImageLike

# Padded tokens in one batch: measured throughput of a 6-layer model is flat from 256 to
# 512 and falls slowly beyond, where the activations leave the core's cache.
BATCH_TOKENS = 512
# Texts that are tokenised and sorted together.
WINDOW = 4096


class EmbedStats(NamedTuple):
    """What an `Embedder` has done since it was made."""

    texts: int = 0
    tokens: int = 0
    truncated: int = 0
    seconds: float = 0.0
    images: int = 0


class _Encoder(Protocol):
    def encode(self, text: str) -> tuple[np.ndarray, bool]: ...


class _Runner(Protocol):
    def run(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray: ...


class Embedder:
    """A text model that gives vectors ready for an index.

    Made by `from_pretrained`. Rows are float32, C-contiguous, and of unit norm wherever
    the model's own files ask for normalisation or say nothing about it.
    """

    def __init__(
        self, model: TextModel, tokenizer: _Encoder, session: _Runner, *, threads: int = 1
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._session = session
        self._threads = threads
        self._stats = EmbedStats()
        self._lock = threading.Lock()
        ids, _ = tokenizer.encode("")
        self._dim = int(self._run([ids]).shape[1])

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        *,
        revision: str | None = None,
        local_files_only: bool = False,
        cache_dir: str | os.PathLike[str] | None = None,
        threads: int | None = None,
    ) -> Embedder:
        """Open a model by folder or by name.

        The places are tried in this order: an existing folder; ruvector's cache
        (`cache_dir`, else `RUVECTOR_CACHE`, else `~/.cache/ruvector/models`); the
        Hugging Face cache; packages with an entry point in the group
        `ruvector.models`; packages known to carry the model; the network, unless
        `local_files_only` is true or `HF_HUB_OFFLINE` is set. `revision` is a branch,
        tag or commit on the hub; without it a known model's pinned commit is used.
        `threads` defaults to `ruvector.get_num_threads()`.

        Raises `EmbedError` with every place looked at when the model is nowhere.
        """
        threads = _thread_count(threads)
        model = find_model(
            name_or_path,
            revision=revision,
            local_files_only=local_files_only,
            cache_dir=cache_dir,
        )
        if isinstance(model, ImageModel):
            from .image import ImageEmbedder

            return ImageEmbedder(model, threads=threads)
        tokenizer = Tokenizer(model.tokenizer, model.max_length, lower_case=model.lower_case)
        return cls(model, tokenizer, Session(model.graph), threads=threads)

    @property
    def name(self) -> str:
        """The name or path the model was asked for by."""
        return self._model.name

    @property
    def source(self) -> str:
        """Where the model was found."""
        return self._model.source

    @property
    def files(self) -> tuple[Path, ...]:
        """The graph and the tokenizer in use."""
        return self._model.graph, self._model.tokenizer

    @property
    def dim(self) -> int:
        """Values in a vector."""
        return self._dim

    @property
    def max_length(self) -> int:
        """Tokens after which a text is cut, special tokens included."""
        return self._model.max_length

    @property
    def threads(self) -> int:
        """How many batches run at once."""
        return self._threads

    @property
    def stats(self) -> EmbedStats:
        """Texts, tokens, truncated texts, seconds and images so far."""
        with self._lock:
            return self._stats

    def __repr__(self) -> str:
        model = self._model
        return (
            f"Embedder({model.name!r}, dim={self._dim}, max_length={model.max_length}, "
            f"pooling={model.pooling!r}, normalize={model.normalize}, threads={self._threads})"
        )

    def embed(self, text: str) -> np.ndarray:
        """The vector of one text, shape (dim,)."""
        if not isinstance(text, str):
            raise TypeError(
                f"embed takes one str, got {type(text).__name__}; use embed_batch for a list"
            )
        row: np.ndarray = self.embed_batch([text])[0]
        return row

    def embed_batch(
        self, texts: Iterable[str], *, progress: Callable[[int, int], object] | None = None
    ) -> np.ndarray:
        """The vectors of `texts`, shape (n, dim), in the order given.

        `progress(done, total)` is called after every batch; what it raises stops the
        work, and so does Ctrl-C.
        """
        from concurrent.futures import ThreadPoolExecutor

        texts = _checked_texts(texts)
        out = np.empty((len(texts), self._dim), dtype=np.float32)
        start = time.perf_counter()
        done = tokens = truncated = 0
        workers = ThreadPoolExecutor(self._threads)
        try:
            for first in range(0, len(texts), WINDOW):
                encoded = [self._tokenizer.encode(t) for t in texts[first : first + WINDOW]]
                plan = list(plan_batches([len(ids) for ids, _ in encoded]))
                # One batch gains nothing from a second thread.
                run = workers.map if min(self._threads, len(plan)) > 1 else map
                batches = [[encoded[row][0] for row in rows] for rows in plan]
                for rows, vectors in zip(plan, run(self._run, batches)):
                    out[first + rows] = vectors
                    done += len(rows)
                    tokens += sum(len(encoded[row][0]) for row in rows)
                    truncated += sum(encoded[row][1] for row in rows)
                    if progress is not None:
                        progress(done, len(texts))
        finally:
            workers.shutdown(cancel_futures=True)
            self._count(EmbedStats(done, tokens, truncated, time.perf_counter() - start))
        return out

    def embed_image(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        progress: Callable[[int, int], object] | None = None,
    ) -> np.ndarray:
        """The vectors of images, from an image model; a text model raises `EmbedError`.

        See `ruvector.embed.image.ImageEmbedder.embed_image`.
        """
        raise EmbedError(
            f"{self.name} takes texts; from_pretrained({IMAGE_MODEL!r}) takes images",
            model=self.name,
        )

    def _run(self, encoded: Sequence[np.ndarray]) -> np.ndarray:
        # A tokenizer without special tokens gives none for "": one padding token then
        # stands for the text, because a fully masked row has no defined output.
        width = max(1, *(len(ids) for ids in encoded))
        padded = np.zeros((len(encoded), width), dtype=np.int64)
        mask = np.zeros_like(padded)
        for row, ids in enumerate(encoded):
            padded[row, : len(ids)] = ids
            mask[row, : max(1, len(ids))] = 1
        vectors = self._session.run(padded, mask)
        if vectors.ndim == 3:
            vectors = pool(vectors, mask, self._model.pooling)
        if vectors.ndim != 2 or len(vectors) != len(encoded):
            raise EmbedError(
                f"{self._model.graph}: the graph gave shape {vectors.shape} "
                f"for {len(encoded)} texts"
            )
        return unit_rows(vectors) if self._model.normalize else vectors

    def _count(self, new: EmbedStats) -> None:
        with self._lock:
            self._stats = EmbedStats(*map(operator.add, self._stats, new))


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
    totals = np.matmul(weights[:, None, :], hidden)[:, 0, :]
    return np.asarray(totals / np.maximum(weights.sum(axis=1, keepdims=True), 1))


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """`vectors` with every row scaled to norm 1; rows of zeros stay zeros."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, np.float32(1e-12)))


def _thread_count(threads: int | None) -> int:
    if threads is None:
        from .. import get_num_threads

        return get_num_threads()
    if isinstance(threads, bool) or not isinstance(threads, int):
        raise TypeError(f"threads must be an int or None, got {type(threads).__name__}")
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    return threads


def _checked_texts(texts: Iterable[str]) -> list[str]:
    if isinstance(texts, (str, bytes)):
        raise TypeError(
            f"embed_batch takes a list of str, got one {type(texts).__name__}; "
            "use embed(text), or embed_batch([text])"
        )
    checked = list(texts)
    for row, text in enumerate(checked):
        if not isinstance(text, str):
            raise TypeError(f"texts[{row}] is {type(text).__name__}, not str")
        try:
            text.encode()
        except UnicodeEncodeError as why:
            raise ValueError(
                f"texts[{row}] holds a lone surrogate at character {why.start}; use "
                'text.encode("utf-8", "replace").decode() to replace it'
            ) from None
    return checked
