"""`ImageEmbedder`: images into vectors with MobileNetV3-Small.

The network runs in the compiled part, several images at once on its threads; an image's
vector is the same bits for every number of threads and whatever else is in the call.
Pillow is imported only to read files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn, Union

import numpy as np

from .. import _core
from .._extras import install_command
from ..errors import EmbedError
from .embedder import Embedder, EmbedStats
from .image_folder import ImageModel
from .turns import Turns

ImageLike = Union[np.ndarray, str, "os.PathLike[str]"]
DIM = 576
# Images that are read from files before the network runs on them.
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
        of 1 to 1,000,000 pixels, or, with Pillow installed (the extra `image`), the path
        of a file, which is turned as its EXIF data say. Several are a list or another
        iterable, in which every image may have a size of its own. `progress(done,
        total)` is called about every 50 ms and at the end; what it raises stops the
        work, and so does Ctrl-C.

        Raises `EmbedError` for an array of another dtype, rank or number of channels,
        and for a file that cannot be read as an image.
        """
        if _is_one(images):
            row: np.ndarray = self._vectors([images], ["image"], progress)[0]
            return row
        if not isinstance(images, Iterable):
            raise EmbedError(f"images: expected arrays or paths, got {type(images).__name__}")
        listed = list(images)
        return self._vectors(listed, [f"images[{i}]" for i in range(len(listed))], progress)

    def _vectors(
        self,
        inputs: list[Any],
        names: list[str],
        progress: Callable[[int, int], object] | None,
    ) -> np.ndarray:
        self._check_open()
        # Arrays are checked before any work; files are read when their turn comes.
        checked = [x if _is_path(x) else _pixels(x, name) for x, name in zip(inputs, names)]
        out = np.empty((len(inputs), DIM), dtype=np.float32)
        start = time.perf_counter()
        done = 0

        def report(in_window: int, _: int) -> None:
            if progress is not None:
                progress(done + in_window, len(out))

        try:
            for first in range(0, len(out), WINDOW):
                window = slice(first, first + WINDOW)
                opened = [_opened(x, name) for x, name in zip(checked[window], names[window])]
                images = [(x, x.shape[0], x.shape[1]) for x in opened]
                network = self._network
                if network is None:
                    raise EmbedError(f"{self.name} was closed", model=self.name)
                out[window] = _core._mobilenet_embed(network, images, self._threads, report)
                done += len(opened)
        finally:
            self._count(EmbedStats(seconds=time.perf_counter() - start, images=done))
        return out


def _is_path(image: object) -> bool:
    return isinstance(image, (str, os.PathLike))


def _is_array(image: object) -> bool:
    return hasattr(image, "__array__") or hasattr(image, "__array_interface__")


def _is_one(images: object) -> bool:
    return _is_path(images) or _is_array(images)


def _pixels(image: Any, name: str) -> np.ndarray:
    """`image` as a (height, width, 3) uint8 array, or `EmbedError`."""
    if not _is_array(image):
        raise EmbedError(
            f"{name}: expected a (height, width, 3) uint8 array or a path, "
            f"got {type(image).__name__}"
        )
    array = np.asarray(image)
    advice = _advice(array)
    if advice:
        raise EmbedError(
            f"{name}: expected a uint8 array of shape (height, width, 3), "
            f"got {array.dtype} of shape {array.shape}; {advice}"
        )
    limit = 1_000_000
    if not all(1 <= side <= limit for side in array.shape[:2]):
        raise EmbedError(f"{name}: sides must be 1 to {limit} pixels, got shape {array.shape}")
    return array


def _advice(array: np.ndarray) -> str:
    """What makes an image of `array`; empty if it is one."""
    if array.ndim == 4:
        return "pass list(images)"
    if array.ndim == 2:
        return "np.stack([image] * 3, axis=-1) makes three channels of grey"
    if array.ndim != 3:
        return "pass one image, or a list of images"
    channels = array.shape[2]
    if channels == 4:
        return "image[..., :3] leaves out alpha"
    if channels == 1:
        return "np.repeat(image, 3, axis=2) makes three channels of grey"
    if channels != 3 and array.shape[0] == 3:
        return "image.transpose(1, 2, 0) puts channels last"
    if channels != 3:
        return "three channels are red, green and blue"
    if array.dtype != np.uint8:
        scaled = "image * 255" if array.dtype.kind == "f" else "image"
        return f"np.clip({scaled}, 0, 255).astype(np.uint8) converts values up to " + (
            "1" if array.dtype.kind == "f" else "255"
        )
    return ""


def _opened(image: np.ndarray | str | os.PathLike[str], name: str) -> np.ndarray:
    return np.ascontiguousarray(image if isinstance(image, np.ndarray) else _read(image, name))


def _read(path: str | os.PathLike[str], name: str) -> np.ndarray:
    """The pixels of a file: three channels, upright."""
    try:
        from PIL import Image, ImageOps
    except ImportError as why:
        raise EmbedError(
            f"{name}: a path needs Pillow, which is not installed: "
            + install_command("image", "pillow")
        ) from why
    try:
        with Image.open(path) as file:
            upright = ImageOps.exif_transpose(file) or file
            return _pixels(upright.convert("RGB"), name)
    except EmbedError:
        raise
    except Exception as why:  # decoders raise what they like, SyntaxError included
        raise EmbedError(f"{name}: cannot read {os.fspath(path)!r} as an image ({why})") from why
