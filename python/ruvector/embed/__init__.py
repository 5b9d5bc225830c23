"""Text and images into vectors that an index takes as they are.

``Embedder.from_pretrained(name)`` finds the model's files (`models`), reads what they
say about pooling and length (`folder`), opens them (`runtime`) and turns texts into
unit-norm float32 rows (`embedder`); image models are told apart by their files
(`image_folder`) and run in the compiled part (`image`). onnxruntime, tokenizers,
huggingface-hub and Pillow are imported only by the call that needs them.
"""

from .embedder import Embedder, EmbedStats

__all__ = ["EmbedStats", "Embedder"]
