"""Which folders and files hold an image model, and how to come by one.

The only image model is MobileNetV3-Small, whose weights are the state dict of
torchvision's `mobilenet_v3_small` in the safetensors format: its names and shapes are
used as they are, so there is nothing to convert.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

IMAGE_MODEL = "mobilenetv3-small"
SUFFIX = ".safetensors"
WEIGHTS = "model" + SUFFIX


@dataclass(frozen=True)
class ImageModel:
    """The weights of an image model and where they were found."""

    name: str
    source: str
    weights: Path
    revision: str | None = None


def find_weights(names: Collection[str]) -> str | None:
    """`model.safetensors`, or the only such file, of files that are no text model's."""
    text = any(name in names for name in ("config.json", "modules.json", "tokenizer.json"))
    if text or any(name.endswith(".onnx") for name in names):
        return None
    found = [name for name in names if name.endswith(SUFFIX) and "/" not in name]
    if WEIGHTS in found:
        return WEIGHTS
    return found[0] if len(found) == 1 else None


def how_to_get(cache: Path) -> Iterator[str]:
    """Lines with the commands that put the weights into `cache`."""
    folder = cache / IMAGE_MODEL
    yield "No package or hub repository is known to carry them. With torchvision's own weights:"
    yield f"  pip install torchvision safetensors && mkdir -p '{folder}'"
    yield (
        '  python -c "import torchvision.models as m, safetensors.torch as s; '
        "s.save_file(m.mobilenet_v3_small(weights='IMAGENET1K_V1').state_dict(), "
        f"r'{folder / WEIGHTS}')\""
    )
