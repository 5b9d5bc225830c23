"""Pictures of every mode, arrays of every kind, and whatever holds them: what is embedded is
what Pillow converts them to, laid over white, or is refused with advice that works."""

from __future__ import annotations

import io
import re
from pathlib import Path

import mobilenet_reference
import numpy as np
import pytest
import ruvector
from installed import need
from ruvector import EmbedError
from ruvector.embed import pixels

need("PIL", "safetensors")
from PIL import Image  # noqa: E402

Y, X = np.mgrid[0:30, 0:40]
GRAY = (X * 255 // 39).astype(np.uint8)
RGB = np.dstack([GRAY, Y * 255 // 29, (X + Y) % 2 * 200]).astype(np.uint8)
ALPHA = (Y * 255 // 29).astype(np.uint8)
RGBA = np.dstack([RGB, ALPHA])
DEEP = (X * 65535 // 39).astype(np.uint16)


def three(gray: np.ndarray) -> np.ndarray:
    return np.stack([gray] * 3, axis=-1)


def over_white(color: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Porter and Duff's "over" with 8 bits of alpha."""
    share = alpha[..., None] / 255
    return color * share + 255 * (1 - share)


def read(picture: object) -> np.ndarray:
    """The pixels that the network gets."""
    return pixels.opened(pixels.checked(picture, "image"), "image")


def written(picture: Image.Image, suffix: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, suffix, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    weights = tmp_path_factory.mktemp("weights") / "model.safetensors"
    mobilenet_reference.save(mobilenet_reference.state_dict(), weights)
    return ruvector.Embedder.from_pretrained(weights)


# ---- modes ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"])
def test_opaque_modes_are_as_pillow_converts_them(mode: str) -> None:
    made = Image.new("LAB", (40, 30), (120, 20, 200)) if mode == "LAB" else None
    made = made or (Image.fromarray(RGB).quantize(64) if mode == "P" else None)
    made = made or Image.fromarray(RGB).convert(mode)
    assert np.array_equal(read(made), np.asarray(made.convert("RGB")))


@pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBA", "RGBa"])
def test_transparent_modes_are_laid_over_white(mode: str) -> None:
    made = Image.fromarray(RGBA)
    color = RGB
    if mode in ("LA", "La"):
        made = Image.fromarray(np.dstack([GRAY, ALPHA]))
        color = three(GRAY)
    elif mode == "PA":
        made = Image.fromarray(GRAY).convert("PA")
        made.putalpha(Image.fromarray(ALPHA))
        color = three(GRAY)
    made = made.convert(mode)
    # Premultiplied values are rounded once more.
    near = 2 if mode in ("La", "RGBa") else 1
    assert np.abs(read(made) - over_white(color, ALPHA)).max() <= near


def test_hidden_colors_do_not_count() -> None:
    other = RGBA.copy()
    other[ALPHA == 0, :3] = 77
    assert np.array_equal(read(Image.fromarray(other)), read(Image.fromarray(RGBA)))
    assert (read(Image.fromarray(other))[ALPHA == 0] == 255).all()


@pytest.mark.parametrize("key", [5, bytes(range(64))])
def test_a_palettes_transparency_is_laid_over_white(key, recwarn) -> None:
    made = Image.fromarray(RGB).quantize(64)
    data = written(made, "PNG", transparency=key)
    indices = np.asarray(made)
    alpha = np.where(indices == key, 0, 255) if isinstance(key, int) else indices
    want = over_white(np.asarray(made.convert("RGB")), alpha)
    assert np.abs(read(data) - want).max() <= 1
    assert not recwarn.list


@pytest.mark.parametrize("mode", ["L", "RGB", "1"])
def test_a_color_that_stands_for_transparency_is_white(mode: str) -> None:
    made = Image.fromarray(RGB).convert(mode)
    key = made.getpixel((0, 0))
    got = read(written(made, "PNG", transparency=key))
    want = np.asarray(made.convert("RGB")).copy()
    want[(want == want[0, 0]).all(axis=-1)] = 255
    assert np.array_equal(got, want)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("PNG", "I;16"), ("TIFF", "I;16"), ("TIFF", "I;16B"), (None, "I;16"), (None, "I;16B")],
)
def test_16_bits_of_gray_give_their_upper_8(kind, mode: str) -> None:
    values = DEEP if mode == "I;16" else DEEP.astype(">u2")
    made = Image.frombytes(mode, (40, 30), values.tobytes())
    got = read(written(made, kind) if kind else made)
    assert np.array_equal(got, three(DEEP >> 8))


def test_16_bits_of_color_and_gray_agree() -> None:
    """Pillow itself reads 16-bit color as the upper 8 bits."""
    import cv2

    ok, color = cv2.imencode(".png", np.stack([DEEP] * 3, axis=-1))
    assert ok
    assert np.array_equal(read(color.tobytes()), read(written(Image.fromarray(DEEP), "PNG")))


def test_a_16_bit_png_of_an_older_pillow() -> None:
    made = Image.fromarray(DEEP.astype(np.int32))
    made.format = "PNG"
    assert np.array_equal(read(made), three(DEEP >> 8))


@pytest.mark.parametrize("values", [DEEP.astype(np.int32), (X / 39).astype(np.float32)])
def test_values_without_a_scale_are_refused_with_advice(values) -> None:
    image = Image.fromarray(values)
    with pytest.raises(EmbedError, match=r"values of mode '[IF]' have no scale") as caught:
        read(image)
    assert np.abs(read(follow(str(caught.value), image)).astype(int) - three(GRAY)).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("how", ["bytes", "picture"])
def test_pictures_are_turned_upright(orientation: int, how: str) -> None:
    # EXIF 2.3, tag 274: where the first row and the first column of the data belong.
    turned = {
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.transpose(1, 0, 2),
        6: np.rot90(RGB, -1),
        7: np.rot90(RGB, 2).transpose(1, 0, 2),
        8: np.rot90(RGB),
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    data = written(Image.fromarray(RGB), "PNG", exif=exif)
    given = data if how == "bytes" else Image.open(io.BytesIO(data))
    assert np.array_equal(read(given), turned)


# ---- holders --------------------------------------------------------------------------------


def test_whatever_holds_a_file_is_opened(embedder, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    data = written(Image.fromarray(RGB), "PNG")
    path.write_bytes(data)
    want = embedder.embed_image(RGB)
    with path.open("rb") as file:
        held = [str(path), path, data, bytearray(data), memoryview(data), io.BytesIO(data), file]
        for given in [*held[:-2], io.BytesIO(data), Image.open(path)]:
            assert np.array_equal(embedder.embed_image(given), want)
        assert np.array_equal(embedder.embed_image(held), [want] * len(held))
    assert np.array_equal(embedder.embed_image(np.array([str(path)] * 2)), [want] * 2)
    assert np.array_equal(embedder.embed_image(np.array([path], dtype=object)), [want])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (b"<html>", r"^image: cannot read the bytes as an image"),
        (io.BytesIO(b""), r"^image: cannot read the BytesIO as an image"),
        (io.StringIO("text"), r'open the file with mode "rb"'),
        ("https://x.example/a.png", r"download it first, and pass the bytes"),
    ],
)
def test_what_is_no_picture_is_named(embedder, given, says: str) -> None:
    with pytest.raises(EmbedError, match=says):
        embedder.embed_image(given)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"a": RGB}, r"iterating gives its keys: use list\(images\.values\(\)\)"),
        ({"a.png", "b.png"}, r"it has no order: use a list, or sorted\(images\)"),
    ],
)
def test_containers_without_an_order_of_images_are_refused(embedder, given, says) -> None:
    with pytest.raises(TypeError, match=says):
        embedder.embed_image(given)


# ---- arrays ---------------------------------------------------------------------------------


def follow(advice: str, image: object) -> object:
    """What the advised expression gives."""
    code = re.search(r"; use (.*?)(?:, three channels.*|, whose alpha.*|, for values.*)?$", advice)
    assert code, advice
    import PIL.Image

    return eval(code[1], {"np": np, "image": image, "PIL": PIL})


LAYOUTS = {
    "gray": (lambda of: of(GRAY), three(GRAY)),
    "one channel": (lambda of: of(GRAY)[..., None], three(GRAY)),
    "one channel first": (lambda of: of(GRAY)[None], three(GRAY)),
    "color": (lambda of: of(RGB), RGB),
    "color first": (lambda of: of(RGB).transpose(2, 0, 1), RGB),
    "alpha": (lambda of: of(RGBA), over_white(RGB, ALPHA)),
    "alpha first": (lambda of: of(RGBA).transpose(2, 0, 1), over_white(RGB, ALPHA)),
    "gray and alpha": (
        lambda of: of(np.dstack([GRAY, ALPHA])),
        over_white(three(GRAY), ALPHA),
    ),
}
SCALES = {
    "uint8": lambda values: values,
    "uint16": lambda values: values.astype(np.uint16) * 257,
    "small int64": lambda values: values.astype(np.int64),
    "large int32": lambda values: values.astype(np.int32) * 257,
    "float to 1": lambda values: values / 255,
    "float32 to 255": lambda values: values.astype(np.float32),
    "float16 to 1": lambda values: (values / 255).astype(np.float16),
}


class Tensor:
    """An array of another library, without NumPy's methods."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self._values


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("kind", [np.asarray, Tensor])
def test_advice_for_arrays_works(layout: str, scale: str, kind) -> None:
    make, want = LAYOUTS[layout]
    given = kind(make(SCALES[scale]))
    try:
        got = read(given)
        assert (layout, scale) == ("color", "uint8")
    except EmbedError as why:
        got = read(follow(str(why), given))
    assert np.abs(got - want).max() <= 1


@pytest.mark.parametrize("shape", [(0, 5, 3), (4, 0, 3), (0, 0), (4, 5, 0), (3, 0, 5)])
@pytest.mark.parametrize("dtype", [np.float32, np.uint16, bool])
def test_an_image_without_pixels_gets_no_advice_to_use_it(shape, dtype) -> None:
    with pytest.raises(EmbedError, match=r"; an image has at least one pixel$"):
        pixels.checked(np.zeros(shape, dtype), "image")


def test_advice_for_bool_works() -> None:
    mask = GRAY > 100
    for given in (mask, three(mask), mask[None]):
        with pytest.raises(EmbedError, match="got bool of shape") as caught:
            read(given)
        assert np.array_equal(read(follow(str(caught.value), given)), three(mask * np.uint8(255)))
