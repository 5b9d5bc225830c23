"""What `embed_image` refuses, and how it reads files."""

from __future__ import annotations

import asyncio
import inspect
import sys
from pathlib import Path

import mobilenet_reference as reference
import numpy as np
import pytest
import ruvector
from installed import need
from ruvector import Embedder, EmbedError
from ruvector.embed.image import ImageEmbedder
from ruvector.embed.text import TextEmbedder

need("PIL", "safetensors")


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    reference.save(reference.state_dict(), path)
    return ruvector.Embedder.from_pretrained(path)


def of(*shape: int, dtype: object = np.uint8) -> np.ndarray:
    return np.zeros(shape, dtype=dtype)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (of(9, 8, 5), r"three channels are red, green and blue"),
        (of(2, 9, 8, 3), r"pass list\(image\)"),
        (of(8), r"shape \(8,\); pass one image"),
        (of(0, 8, 3), r"sides must be 1 to 1000000 pixels, got shape \(0, 8, 3\)"),
        (of(5, 8), r"shape \(5, 8\); use np\.stack"),
        (of(0, 8), r"shape \(0, 8\); an image has at least one pixel"),
        (of(1_000_001, 1, 3), r"sides must be 1 to 1000000"),
        (of(9, 8, 3, dtype=np.float32) - 1, r"values from -1\.0 to -1\.0 must be scaled"),
        (of(9, 8, 3, dtype=np.float32) + np.nan, r"values from nan to nan must be scaled"),
        (of(9, 8, 3, dtype=np.int32) + 70_000, r"values from 70000 to 70000 must be scaled"),
        (of(9, 8, 3, dtype=complex), r"values must be numbers of 0 to 255"),
        (np.float32(3), r"shape \(\)"),
        (np.ma.masked_equal(of(9, 8, 3), 0), r"masked; use image\.filled\(255\)"),
        (7, r"images: expected arrays or paths, got int"),
        (None, r"images: expected arrays or paths, got NoneType"),
    ],
)
def test_one_wrong_image_is_named(embedder, image, says: str) -> None:
    with pytest.raises(EmbedError, match=says):
        embedder.embed_image(image)


@pytest.mark.parametrize("wrong", [of(9, 8), 3, [[1, 2, 3]], None])
def test_one_wrong_image_of_many_is_named_before_any_work(embedder, wrong) -> None:
    before = embedder.stats
    with pytest.raises(EmbedError, match=r"^images\[2\]: expected"):
        embedder.embed_image([of(5, 5, 3), of(6, 6, 3), wrong])
    assert embedder.stats == before


def test_an_image_model_takes_no_texts(embedder) -> None:
    with pytest.raises(EmbedError, match="takes images: use embed_image"):
        embedder.embed("a cat")
    with pytest.raises(EmbedError, match="takes images: use embed_image"):
        embedder.embed_batch(["a cat"], prompt="query", progress=False)
    with pytest.raises(EmbedError, match="takes images: use embed_image") as caught:
        asyncio.run(embedder.embed_batch_async(["a cat"]))
    assert caught.value.model == embedder.name


def test_a_text_model_takes_no_images() -> None:
    from test_embed_batches import make

    with pytest.raises(EmbedError, match=r"takes texts; from_pretrained\('mobilenetv3-small'\)"):
        make().embed_image(of(9, 8, 3))


def test_each_kind_defines_the_methods_for_what_it_takes() -> None:
    texts, images = ("embed", "embed_batch", "embed_batch_async"), ("embed_image",)
    for cls, own, other in ((TextEmbedder, texts, images), (ImageEmbedder, images, texts)):
        assert cls.__bases__ == (Embedder,)
        assert set(own) <= set(vars(cls))
        assert not set(other) & set(vars(cls))
    for name in texts + images:
        assert inspect.getdoc(getattr(Embedder, name))


# ---- files -------------------------------------------------------------------------


def save(image: np.ndarray, path: Path, **options: object) -> Path:
    from PIL import Image

    Image.fromarray(image).save(path, **options)
    return path


@pytest.mark.parametrize("as_text", [True, False])
def test_a_path_is_read(embedder, tmp_path, rng, as_text: bool) -> None:
    image = rng.integers(0, 256, (70, 50, 3), dtype=np.uint8)
    path = save(image, tmp_path / "image.png")
    got = embedder.embed_image(str(path) if as_text else path)
    assert np.array_equal(got, embedder.embed_image(image))


def test_paths_and_arrays_may_be_mixed(embedder, tmp_path, rng) -> None:
    image = rng.integers(0, 256, (70, 50, 3), dtype=np.uint8)
    path = save(image, tmp_path / "image.png")
    got = embedder.embed_image([image, path, str(path)])
    assert np.array_equal(got[0], got[1])
    assert np.array_equal(got[0], got[2])


def test_gray_and_transparent_files_become_three_channels(embedder, tmp_path, rng) -> None:
    gray = rng.integers(0, 256, (40, 50), dtype=np.uint8)
    got = embedder.embed_image(save(gray, tmp_path / "gray.png"))
    assert np.array_equal(got, embedder.embed_image(np.stack([gray] * 3, axis=-1)))
    rgba = rng.integers(0, 256, (40, 50, 4), dtype=np.uint8)
    rgba[..., 3] = 255
    got = embedder.embed_image(save(rgba, tmp_path / "rgba.png"))
    assert np.array_equal(got, embedder.embed_image(rgba[..., :3]))


def test_files_are_turned_upright(embedder, tmp_path, rng) -> None:
    from PIL import Image

    image = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # EXIF 2.3, orientation: the first row is the right side
    path = save(image, tmp_path / "turned.png", exif=exif)
    got = embedder.embed_image(path)
    assert np.array_equal(got, embedder.embed_image(np.rot90(image, -1)))


def test_files_that_are_no_images_are_named(embedder, tmp_path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    with pytest.raises(EmbedError, match=r"images\[1\]: cannot read .*broken\.png"):
        embedder.embed_image([of(4, 4, 3), broken])
    with pytest.raises(EmbedError, match=r"image: cannot read .*absent\.jpg"):
        embedder.embed_image("absent.jpg")


def test_without_pillow_a_path_says_what_to_install(embedder, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(EmbedError, match=r'pip install "pillow>=9\.1"'):
        embedder.embed_image("image.png")
    assert embedder.embed_image(of(4, 4, 3)).shape == (576,)


# ---- progress ----------------------------------------------------------------------


class Own(BaseException):
    """One that `except Exception` lets pass."""


@pytest.mark.parametrize(
    "kind", [Own, StopIteration, GeneratorExit, KeyboardInterrupt, SystemExit, MemoryError]
)
def test_what_progress_and_iterables_raise_comes_out(embedder, kind) -> None:
    error = kind("told")

    def tell(done: int, total: int) -> None:
        raise error

    class Images:
        def __iter__(self):
            return self

        def __next__(self) -> np.ndarray:
            raise error

    for threads in (1, 2):
        embedder._threads = threads
        with pytest.raises(kind) as caught:
            embedder.embed_image([of(5, 5, 3)] * 3, progress=tell)
        assert caught.value is error
    if kind is not StopIteration:  # which ends the images, as of any iterator
        with pytest.raises(kind) as caught:
            embedder.embed_image(Images())
        assert caught.value is error
    assert embedder.embed_image(of(5, 5, 3)).shape == (576,)
