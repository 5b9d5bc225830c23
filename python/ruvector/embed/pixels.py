"""What `embed_image` is given, as red, green and blue bytes.

Arrays are taken as they are or refused with the expression that makes an image of them.
Pictures, which are files, their bytes and Pillow's own objects, say what their values
mean, so they are converted: turned as their EXIF data say, laid over white where they are
transparent, 16 bits of gray reduced to the upper 8 as Pillow does with those of color.
Pillow is imported only for pictures.
"""

from __future__ import annotations

import io
import os
import re
import sys
from typing import Any, BinaryIO, Union

import numpy as np

from .._extras import not_importable
from ..errors import EmbedError
from .inputs import check_container, is_iterable

ImageLike = Union[np.ndarray, str, "os.PathLike[str]", bytes, BinaryIO]
MAX_SIDE = 1_000_000
# Modes whose pixels have a share of transparency of their own.
_TRANSPARENT = ("LA", "PA", "RGBA", "RGBa")
# Modes of which one color, or some, may stand for transparency.
_MAY_HAVE_A_KEY = ("1", "L", "P", "RGB")


def listed(images: Any) -> list[Any] | None:
    """The images of an iterable; None for a single one."""
    if _is_picture(images) or (_is_array(images) and not _is_list_as_array(images)):
        return None
    check_container(images, "images", "images")
    if not is_iterable(images):
        raise EmbedError(f"images: expected arrays or paths, got {type(images).__name__}")
    return list(images)


def checked(image: Any, name: str) -> Any:
    """A picture, to be opened when its turn comes, or an array of pixels; or `EmbedError`."""
    if _is_picture(image):
        return image
    if not _is_array(image):
        raise EmbedError(
            f"{name}: expected a (height, width, 3) uint8 array, a path or a picture, "
            f"got {type(image).__name__}"
        )
    if isinstance(image, np.ma.MaskedArray) and np.ma.is_masked(image):
        raise EmbedError(f"{name}: some pixels are masked; use image.filled(255)")
    array = np.asarray(image)
    if array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8:
        return _sized(array, name)
    raise EmbedError(
        f"{name}: expected a uint8 array of shape (height, width, 3), "
        f"got {array.dtype} of shape {array.shape}; "
        + _advice(array, "image" if isinstance(image, np.ndarray) else "np.asarray(image)")
    )


def opened(image: Any, name: str) -> np.ndarray:
    """The pixels of what `checked` let pass."""
    return np.ascontiguousarray(image if isinstance(image, np.ndarray) else _read(image, name))


# ---- telling things apart ---------------------------------------------------------------


def _is_picture(image: object) -> bool:
    if isinstance(image, (str, os.PathLike, bytes, bytearray, memoryview)):
        return True
    return hasattr(image, "read") or _is_pillows(image)


def _is_pillows(image: object) -> bool:
    module = sys.modules.get("PIL.Image")
    return module is not None and isinstance(image, module.Image)


def _is_array(image: object) -> bool:
    return hasattr(image, "__array__") or hasattr(image, "__array_interface__")


def _is_list_as_array(images: Any) -> bool:
    """True for paths, or images of several sizes, in an array or a Series, and for tables."""
    if hasattr(images, "columns") or hasattr(images, "column_names"):
        return True
    return getattr(images, "ndim", 1) == 1 and np.asarray(images).dtype.kind in "OUT"


def _sized(array: np.ndarray, name: str) -> np.ndarray:
    if not all(1 <= side <= MAX_SIDE for side in array.shape[:2]):
        raise EmbedError(f"{name}: sides must be 1 to {MAX_SIDE} pixels, got shape {array.shape}")
    return array


# ---- advice -------------------------------------------------------------------------------


def _advice(array: np.ndarray, given: str) -> str:
    """The expression that makes an image of `array`, called `given`, and what it does."""
    if array.ndim == 4:
        return f"pass list({given})"
    if array.ndim not in (2, 3):
        return "pass one image, or a list of images"
    if array.size == 0:
        return "an image has at least one pixel"
    values, note = _as_bytes(array, given)
    if not values:
        return note
    if array.ndim == 2:
        made = f"np.stack([{values}] * 3, axis=-1)"
        palette = " (of a palette pass the picture itself)" if array.dtype == np.uint8 else ""
        return f"use {made}, three channels of gray{note}{palette}"
    channels = array.shape[2]
    if channels > 4 and array.shape[0] <= 4:
        first = given if values == given else f"({values})"
        values, channels = f"{first}.transpose(1, 2, 0)", array.shape[0]
    if channels == 1:
        return f"use np.repeat({values}, 3, axis=2), three channels of gray{note}"
    if channels == 3:
        return f"use {values}{note}"
    if channels in (2, 4):
        return f"use PIL.Image.fromarray({values}), whose alpha is laid over white{note}"
    return "three channels are red, green and blue"


def _as_bytes(array: np.ndarray, given: str) -> tuple[str, str]:
    """The expression for values of 0 to 255, and for which it is; or nothing, and why."""
    kind = array.dtype.kind
    if array.dtype == np.uint8:
        return given, ""
    if kind == "b":
        return f"{given}.astype(np.uint8) * 255", ""
    if kind not in "iuf":
        return "", "values must be numbers of 0 to 255"
    low, high = array.min(), array.max()
    if kind == "f" and low >= 0 and high <= 1:
        return f"np.rint({given} * 255).astype(np.uint8)", ", for values up to 1"
    if low >= 0 and high <= 255:
        rounded = f"np.rint({given})" if kind == "f" else given
        return f"{rounded}.astype(np.uint8)", ", for values up to 255"
    if kind != "f" and low >= 0 and high <= 65535:
        return f"({given} >> 8).astype(np.uint8)", ", for values up to 65535"
    return "", f"values from {low} to {high} must be scaled to 0 to 255 first"


# ---- pictures -----------------------------------------------------------------------------


def _read(picture: Any, name: str) -> np.ndarray:
    """Three channels, upright and opaque."""
    try:
        from PIL import Image
    except ImportError as why:
        raise EmbedError(
            f"{name}: a path or the bytes of a file need Pillow, "
            + not_importable(why, "PIL", "image", "pillow")
        ) from why
    try:
        if _is_pillows(picture):
            return _sized(_red_green_blue(picture, name), name)
        in_memory = isinstance(picture, (bytes, bytearray, memoryview))
        with Image.open(io.BytesIO(picture) if in_memory else picture) as file:
            return _sized(_red_green_blue(file, name), name)
    except EmbedError:
        raise
    except Exception as why:  # decoders raise what they like, SyntaxError included
        raise EmbedError(
            f"{name}: cannot read {_called(picture)} as an image ({why}){_hint(picture)}"
        ) from why


def _called(picture: Any) -> str:
    if isinstance(picture, (str, os.PathLike)):
        return repr(os.fspath(picture))
    return f"the {type(picture).__name__}"


def _hint(picture: Any) -> str:
    if isinstance(picture, io.TextIOBase):
        return '; open the file with mode "rb"'
    if isinstance(picture, str) and re.match(r"[a-z][a-z0-9+.-]+://", picture, re.IGNORECASE):
        return "; download it first, and pass the bytes"
    return ""


def _red_green_blue(picture: Any, name: str) -> np.ndarray:
    from PIL import Image, ImageOps

    of_16_bits = picture.mode.startswith("I;16")
    # What Pillow before 11 made of such a file.
    of_16_bits |= picture.mode == "I" and picture.format == "PNG"
    picture = ImageOps.exif_transpose(picture) or picture
    if of_16_bits:
        return _upper_bits(picture)
    if picture.mode in ("I", "F"):
        array = np.asarray(picture)
        raise EmbedError(
            f"{name}: values of mode {picture.mode!r} have no scale of their own; "
            + _advice(array, "np.asarray(image)")
        )
    if picture.mode == "La":
        picture = picture.convert("LA")
    keyed = picture.mode in _MAY_HAVE_A_KEY and "transparency" in picture.info
    if keyed or picture.mode in _TRANSPARENT:
        white = Image.new("RGBA", picture.size, "white")
        white.alpha_composite(picture.convert("RGBA"))
        picture = white
    return np.asarray(picture.convert("RGB"))


def _upper_bits(picture: Any) -> np.ndarray:
    values = np.asarray(picture)
    gray = (values >> 8).astype(np.uint8)
    key = picture.info.get("transparency")
    if isinstance(key, int):
        gray[values == key] = 255
    return np.stack([gray] * 3, axis=-1)
