"""`ImageEmbedder`: images into vectors with MobileNetV3-Small.

The network runs in the compiled part, several images at once on its threads; an image's
vector is the same bits for every number of threads and whatever else is in the call.
Pillow is imported only for pictures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from .. import _core
from ..errors import EmbedError
from .embedder import Embedder, EmbedStats
from .image_folder import ImageModel
from .pixels import ImageLike, checked, listed, opened
from .turns import Turns

DIM = 576
# Images that are opened before the network runs on them.
WINDOW = 64


class ImageEmbedder(Embedder):
    """An image model that gives vectors ready for an index.

    Made by `Embedder.from_pretrained`. Rows are float32, C-contiguous and of unit norm.
    All methods may be called from several threads at once.
    """

    def __init__(self, model: ImageModel, *, threads: int = 1) -> None:
        self._image_model = model
        self._threads = threads
        self._dim = DIM
        self._stats = EmbedStats()
        self._turns = Turns(threads)
        try:
            self._network = _core._mobilenet_load(model.weights)
        except EmbedError as why:
            why.model = model.name
            raise

    @property
    def name(self) -> str:
        """The name or path the model was asked for by."""
        return self._image_model.name

    @property
    def source(self) -> str:
        """Where the model was found."""
        return self._image_model.source

    @property
    def files(self) -> tuple[Path, ...]:
        """The weights in use."""
        return (self._image_model.weights,)

    @property
    def revision(self) -> str | None:
        """The commit, branch or tag, where the place that had the model knows it."""
        return self._image_model.revision

    @property
    def prompts(self) -> dict[str, str]:
        """None of them: the model takes no text."""
        return {}

    @property
    def max_length(self) -> int:
        """0: the model takes no text."""
        return 0

    def __repr__(self) -> str:
        return f"Embedder({self.name!r}, dim={self._dim}, images, threads={self._threads})"

    def embed(self, text: str, *, prompt: str | None = None) -> NoReturn:
        """Raises `EmbedError`: the model takes images."""
        raise EmbedError(f"{self.name} takes images: use embed_image", model=self.name)

    def embed_batch(self, *texts: Any, **options: Any) -> NoReturn:
        """Raises `EmbedError`: the model takes images."""
        self.embed("")

    async def embed_batch_async(self, *texts: Any, **options: Any) -> NoReturn:
        """Raises `EmbedError`: the model takes images."""
        self.embed("")

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

        Raises `EmbedError` for an array of another dtype, rank or number of channels,
        and for a file that cannot be read as an image.
        """
        several = listed(images)
        if several is None:
            row: np.ndarray = self._vectors([images], ["image"], progress)[0]
            return row
        return self._vectors(several, [f"images[{i}]" for i in range(len(several))], progress)

    def _vectors(
        self,
        inputs: list[Any],
        names: list[str],
        progress: Callable[[int, int], object] | None,
    ) -> np.ndarray:
        self._check_open()
        # Arrays are checked before any work; pictures are opened when their turn comes.
        taken = [checked(x, name) for x, name in zip(inputs, names)]
        out = np.empty((len(inputs), DIM), dtype=np.float32)
        start = time.perf_counter()
        done = 0

        def report(in_window: int, _: int) -> None:
            if progress is not None:
                progress(done + in_window, len(out))

        try:
            for first in range(0, len(out), WINDOW):
                window = slice(first, first + WINDOW)
                arrays = [opened(x, name) for x, name in zip(taken[window], names[window])]
                images = [(x, x.shape[0], x.shape[1]) for x in arrays]
                network = self._network
                if network is None:
                    raise EmbedError(f"{self.name} was closed", model=self.name)
                out[window] = _core._mobilenet_embed(network, images, self._threads, report)
                done += len(arrays)
        finally:
            self._count(EmbedStats(seconds=time.perf_counter() - start, images=done))
        return out
