"""Text and images into vectors that an index takes as they are.

``Embedder.from_pretrained(name)`` (`embedder`) finds the model's files (`models`, with those
known by name in `registry` and `download` for the hub) and reads what they say about pooling
and length (`folder`); `text` opens them (`runtime`), takes the texts (`inputs`, `beginning`)
and turns them into float32 rows. Image models are told apart by their files (`image_folder`),
take images as `pixels` and run in the compiled part (`image`). `turns` bounds the threads and
minds forks. onnxruntime, tokenizers, huggingface-hub and Pillow are imported only by the call
that needs them, with telemetry off (`quiet`).
"""

from . import image, text  # noqa: F401  # each enters its kind of model
from .embedder import Embedder, EmbedStats

__all__ = ["EmbedStats", "Embedder"]
