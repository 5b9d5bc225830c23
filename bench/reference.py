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
    for begin in range(0, len(queries), 50):
        some = queries[begin : begin + 50]
        lengths = np.linalg.norm(some, axis=1)[:, None]
        rotated = some @ rotation
        if one_bit_query:
            agree = (dim + _signs(rotated) @ signs.T) / 2
            cosine = np.cos(np.pi * (1 - agree / dim))
        else:
            cosine = (rotated @ signs.T) / (lengths * math.sqrt(dim))
        scores = lengths**2 + norms**2 - 2 * lengths * norms * cosine
        out[begin : begin + 50] = np.argpartition(scores, k - 1, axis=1)[:, :k]
    return out


def _signs(x: np.ndarray) -> np.ndarray:
    return np.where(x >= 0, np.float32(1), np.float32(-1))
