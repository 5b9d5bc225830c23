"""Text into vectors that an index takes as they are.

``Embedder.from_pretrained(name)`` finds the model's files (`models`), reads what they
say about pooling and length (`folder`), opens them (`runtime`) and turns texts into
unit-norm float32 rows (`embedder`). onnxruntime, tokenizers and huggingface-hub are
imported only by the call that needs them.
"""

from .embedder import Embedder, EmbedStats

__all__ = ["EmbedStats", "Embedder"]
