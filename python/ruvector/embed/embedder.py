"""`Embedder`: what models of texts and models of images share, and how one is opened.

A model takes texts or images. `text` and `image` each define the class of their own, with
the methods for what it takes; the methods for the other raise `EmbedError` and say which
to use, as a file that is open for reading has a `write` that raises.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np

from .._progress import Progress
from ..errors import EmbedError
from .models import find_model
from .turns import Turns

if TYPE_CHECKING:
    from .pixels import ImageLike


class EmbedStats(NamedTuple):
    """What an `Embedder` has done since it was made."""

    texts: int = 0
    tokens: int = 0
    truncated: int = 0
    seconds: float = 0.0
    images: int = 0


class _Found(Protocol):
    """What is known of every model that was found."""

    @property
    def name(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def revision(self) -> str | None: ...


class Embedder:
    """A model that gives vectors ready for an index.

    Made by `from_pretrained`, which sees from the model's files whether it takes texts or
    images. Rows are float32, C-contiguous, and of unit norm unless a text model's own files
    say otherwise. All methods may be called from several threads at once.

    A context manager that closes at its end. Pickling keeps what `from_pretrained` was
    asked for and opens the model again; counts start anew.
    """

    # The class for each type that `find_model` returns. A subclass registers itself, so
    # that this file imports none of them.
    _kinds: ClassVar[dict[type, type[Embedder]]] = {}
    # The end of "NAME takes ...", the error of methods for another kind of input.
    _takes: ClassVar[str]

    # The arguments of from_pretrained, from which pickle makes another one.
    _asked: Mapping[str, Any] | None = None
    _closed = False
    _dim: int

    def __init_subclass__(cls, *, opens: type | None = None) -> None:
        super().__init_subclass__()
        if opens is not None:
            cls._kinds[opens] = cls

    def __init__(self, model: _Found, *, files: tuple[Path, ...], threads: int) -> None:
        self._found = model
        self._files = files
        self._threads = threads
        self._stats = EmbedStats()
        # Bounds the texts and batches in work at once, over all callers.
        self._turns = Turns(threads)

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
        count = _thread_count(threads)
        where: dict[str, Any] = {
            "revision": revision,
            "local_files_only": local_files_only,
            "cache_dir": cache_dir,
        }
        model = find_model(name_or_path, **where)
        kind = cls._kinds[type(model)]
        made = kind._open(model, threads=count)
        made._asked = {"name_or_path": name_or_path, **where, "threads": threads}
        return made

    @classmethod
    def _open(cls, model: Any, *, threads: int) -> Embedder:
        raise NotImplementedError

    def __reduce__(self) -> tuple[Any, ...]:
        if self._asked is None:
            raise TypeError("only an Embedder made by from_pretrained can be pickled")
        return _open_again, (dict(self._asked),)

    def close(self) -> None:
        """Give the model's memory back; embedding then raises `EmbedError`."""
        self._closed = True

    def __enter__(self) -> Embedder:
        self._check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise EmbedError(f"{self!r} is closed", model=self.name)

    @property
    def name(self) -> str:
        """The name or path the model was asked for by."""
        return self._found.name

    @property
    def source(self) -> str:
        """Where the model was found."""
        return self._found.source

    @property
    def files(self) -> tuple[Path, ...]:
        """The files in use: graph and tokenizer of a text model, weights of an image model."""
        return self._files

    @property
    def dim(self) -> int:
        """Values in a vector."""
        return self._dim

    @property
    def max_length(self) -> int:
        """Tokens after which a text is cut, special tokens included; 0 of an image model."""
        return 0

    @property
    def revision(self) -> str | None:
        """The commit, branch or tag, where the place that had the model knows it."""
        return self._found.revision

    @property
    def prompts(self) -> dict[str, str]:
        """The prefixes that a text model's files name, for `prompt=`."""
        return {}

    @property
    def threads(self) -> int:
        """How many batches run at once."""
        return self._threads

    @property
    def stats(self) -> EmbedStats:
        """Texts, tokens, truncated texts, seconds and images so far."""
        with self._turns.lock:
            return self._stats

    # ---- methods for one kind of input; its class overrides them ------------------------

    def _refusal(self) -> EmbedError:
        return EmbedError(f"{self.name} takes {self._takes}", model=self.name)

    def embed(self, text: str, *, prompt: str | None = None) -> np.ndarray:
        """The vector of one text, shape (dim,). `prompt` is that of `embed_batch`."""
        raise self._refusal()

    def embed_batch(
        self,
        texts: Iterable[str],
        *,
        out: np.ndarray | None = None,
        prompt: str | None = None,
        progress: Progress = None,
    ) -> np.ndarray:
        """The vectors of `texts`, shape (n, dim), in the order given.

        `texts` is any iterable whose items are the texts, in order; a dict, a set or a
        data frame raises `TypeError`. One without a length is read 4096 texts at a time. `out`
        takes the vectors and is returned: a C-contiguous, writable float32 array of the
        result's shape. `prompt` names one of `prompts` to put before every text; by
        default that is the model's own default, if it has one.

        `progress` is a function (done, total) called after every batch, where total is
        None for texts without a length; or True or False to show a bar or not. By
        default a bar is shown for work of more than two seconds on a terminal. What the
        function raises stops the work after the batches under way, and so does Ctrl-C;
        `out` is then written in part.

        An image model raises `EmbedError`.
        """
        raise self._refusal()

    async def embed_batch_async(
        self,
        texts: Iterable[str],
        *,
        out: np.ndarray | None = None,
        prompt: str | None = None,
        progress: Progress = None,
    ) -> np.ndarray:
        """`embed_batch` in a thread, so that the event loop stays free.

        `texts` is read, and `progress` called, in that thread. What either raises is raised
        here; of a StopIteration Python makes a RuntimeError, as in every coroutine.
        Cancelling stops the work after the batches under way.
        """
        raise self._refusal()

    def embed_image(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        progress: Callable[[int, int], object] | None = None,
    ) -> np.ndarray:
        """The vector of an image, shape (576,), or those of several, shape (n, 576).

        An image is a uint8 array (height, width, 3) of red, green and blue, with sides
        of 1 to 1,000,000 pixels, or, with Pillow installed, a picture: the path of a file,
        its bytes, a file open in binary mode, or an image of Pillow's. Pictures are turned
        as their EXIF data say and laid over white where they are transparent. Several are a
        list or another iterable, in which every image may have a size of its own.
        `progress(done, total)` is called about every 50 ms and at the end; what it raises
        stops the work, and so does Ctrl-C.

        Raises `EmbedError` for an array of another dtype, rank or number of channels, and
        for a file that cannot be read as an image. A text model raises it, too.
        """
        raise self._refusal()

    def _count(self, new: EmbedStats) -> None:
        with self._turns.lock:
            self._stats = EmbedStats._make(map(operator.add, self._stats, new))


def _open_again(asked: Mapping[str, Any]) -> Embedder:
    return Embedder.from_pretrained(**asked)


def _thread_count(threads: int | None) -> int:
    if threads is None:
        from .._core import get_num_threads

        return get_num_threads()
    if isinstance(threads, bool) or not isinstance(threads, int):
        raise TypeError(f"threads must be an int or None, got {type(threads).__name__}")
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    return threads
