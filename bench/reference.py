"""The 1-bit estimators of the ruvector-rabitq crate, in NumPy, for comparison.

A row is kept as its norm and the signs of its rotated direction; there is no centring
and no correction for what the signs lose. Speed is not the point here, recall is: the
crate's own rotation is one more random orthogonal matrix, so recall agrees with the
crate's within the spread over rotations.
"""

from __future__ import annotations

import math

import numpy as np


def code_bytes(dim: int) -> int:
    """Bytes the crate keeps per row without the vectors: code words, norm, 32-bit id."""
    return 8 * math.ceil(dim / 64) + 4 + 4


def codes_only(
    base: np.ndarray, queries: np.ndarray, k: int, *, one_bit_query: bool = True, seed: int = 42
) -> np.ndarray:
    """The k rows of smallest estimated distance per query, m x k. `one_bit_query`: the
    crate's RabitqIndex, else its RabitqAsymIndex without reranking."""
    dim = base.shape[1]
    gaussian = np.random.default_rng(seed).standard_normal((dim, dim))
    rotation = np.linalg.qr(gaussian)[0].astype(np.float32)
    norms = np.linalg.norm(base, axis=1)
    signs = _signs(base @ rotation)
    out = np.empty((len(queries), k), dtype=np.int64)
    for i, query in enumerate(queries):
        length = np.linalg.norm(query)
        rotated = query @ rotation
        if one_bit_query:
            agree = (dim + signs @ _signs(rotated)) / 2
            cosine = np.cos(np.pi * (1 - agree / dim))
        else:
            cosine = (signs @ rotated) / (length * math.sqrt(dim))
        score = length**2 + norms**2 - 2 * length * norms * cosine
        out[i] = np.argpartition(score, k - 1)[:k]
    return out


def _signs(x: np.ndarray) -> np.ndarray:
    return np.where(x >= 0, np.float32(1), np.float32(-1))
