"""A text model of one token a character, whose vectors a test can work out."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from ruvector.embed.folder import TextModel
from ruvector.embed.text import TextEmbedder

DIM = 5


class LetterTokenizer:
    """One token a character, cut to 40."""

    def encode(self, text: str) -> tuple[np.ndarray, bool]:
        return np.array([ord(c) for c in text[:40]], dtype=np.int64), len(text) > 40


class TableSession:
    """Hidden state of a token = its row of a fixed table; rubbish where masked."""

    def __init__(self) -> None:
        self.table = np.random.default_rng(1).standard_normal((256, DIM)).astype(np.float32)
        self.shapes: list[tuple[int, int]] = []
        self.threads: set[int] = set()

    def run(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        self.shapes.append(ids.shape)
        self.threads.add(threading.get_ident())
        hidden = self.table[ids]
        hidden[mask == 0] = 1e6
        return hidden


def make(session=None, *, threads: int = 1, **settings) -> TextEmbedder:
    model = TextModel("letters", "here", Path("model.onnx"), Path("tokenizer.json"), **settings)
    return TextEmbedder(model, LetterTokenizer(), session or TableSession(), threads=threads)


def expected(text: str, pooling: str) -> np.ndarray:
    rows = TableSession().table[[ord(c) for c in text[:40]] or [0]].astype(np.float64)
    return {"mean": rows.mean(axis=0), "cls": rows[0], "max": rows.max(axis=0)}[pooling]
