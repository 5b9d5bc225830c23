"""`ImageEmbedder`: images into vectors with MobileNetV3-Small.

The network runs in the compiled part, several images at once on its threads; an image's
vector is the same bits for every number of threads and whatever else is in the call.
Pillow is imported only for pictures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from .. import _core
from ..errors import EmbedError
from .embedder import Embedder, EmbedStats
from .image_folder import ImageModel
from .pixels import ImageLike, checked, listed, opened

DIM = 576
# Images that are opened before the network runs on them.
WINDOW = 64


class ImageEmbedder(Embedder, opens=ImageModel):
    """An image model. Made by `Embedder.from_pretrained`. Rows are of unit norm."""

    _takes = "images: use embed_image"
    _dim = DIM

    def __init__(self, model: ImageModel, *, threads: int = 1) -> None:
        super().__init__(model, files=(model.weights,), threads=threads)
        try:
            self._network: object = _core._mobilenet_load(model.weights)
        except EmbedError as why:
            why.model = model.name
            raise

    @classmethod
    def _open(cls, model: Any, *, threads: int) -> ImageEmbedder:
        return cls(model, threads=threads)

    def close(self) -> None:
        super().close()
        self._network = None

    def __repr__(self) -> str:
        return f"Embedder({self.name!r}, dim={self._dim}, images, threads={self._threads})"

    def embed_image(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        progress: Callable[[int, int], object] | None = None,
    ) -> np.ndarray:
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
