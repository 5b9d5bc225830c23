"""Text and images into vectors that an index takes as they are.

``Embedder.from_pretrained(name)`` (`embedder`) finds the model's files (`models`) and reads
what they say about pooling and length (`folder`); `text` opens them (`runtime`) and turns
texts into float32 rows. Image models are told apart by their files (`image_folder`) and run
in the compiled part (`image`). onnxruntime, tokenizers,
huggingface-hub and Pillow are imported only by the call that needs them.
"""

from . import image, text  # noqa: F401  # each enters its kind of model
from .embedder import Embedder, EmbedStats

__all__ = ["EmbedStats", "Embedder"]
