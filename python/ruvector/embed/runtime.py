"""The two libraries that run a model: tokenizers and ONNX Runtime.

Nothing else imports them. Both wrappers may be called from several threads at once.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from .._extras import not_importable, not_itself
from ..errors import EmbedError
from .beginning import MARGIN, Beginnings, count
from .quiet import before_import

_TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


def _imported(package: str, name: str) -> Any:
    """The package, which is to have `name`; `EmbedError` says what to do where it does not."""
    try:
        module = import_module(package)
    except Exception as why:  # one built for another NumPy raises AttributeError
        wrong: str | None = not_importable(why, package, "embed", package)
        raise EmbedError(f"text embedding needs the package {package!r}, {wrong}") from why
    wrong = not_itself(module, name, "embed", package)
    if wrong:
        raise EmbedError(f"text embedding needs the package {package!r}, {wrong}")
    return module


class Tokenizer:
    """Text to token ids, cut to `max_length`; padding is the batch's business.

    cut: the side that loses tokens, "left" or "right"; None for the file's own.
    """

    def __init__(
        self, path: Path, max_length: int, *, lower_case: bool = False, cut: str | None = None
    ) -> None:
        tokenizers = _imported("tokenizers", "Tokenizer")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as why:  # the library raises plain Exception
            raise EmbedError(f"{path}: not a tokenizer ({why})") from why
        own = self._tokenizer.truncation or {}
        cut = cut or str(own.get("direction", "right")).lower()
        self._special = self._tokenizer.num_special_tokens_to_add(False)
        self._room = max_length - self._special
        if self._room < 1:
            raise EmbedError(
                f"{path}: a length of {max_length} tokens leaves no room for text beside "
                f"{self._special} special ones"
            )
        # The file may ask for its own padding and length; the model's settings decide.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length, direction=cut)
        self._lower_case = lower_case
        self._beginnings = Beginnings(self._tokenizer)
        self._cuts_right = cut == "right"

    def encode(self, text: str) -> tuple[np.ndarray, bool]:
        """Token ids (int64) and whether the text was cut.

        One text at a time: the library's batch call would use a thread pool of its own
        that ignores the caller's thread count, and saves about 1 % of a text's time.
        """
        if self._cuts_right:
            begun = self._beginnings.of(text, self._room)
        else:
            begun = iter((self._beginnings.shortened(text),))
        encoding: Any = None
        left_over: Any = ()
        for part in begun:
            encoding = self._tokenizer.encode(part.lower() if self._lower_case else part)
            left_over = encoding.overflowing
            if count(left_over, self._special) >= MARGIN:
                break
        return np.array(encoding.ids, dtype=np.int64), bool(left_over)


class Session:
    """An ONNX graph from token ids to hidden states or finished vectors.

    A run stays on the calling thread; runs on several threads may overlap.
    """

    def __init__(self, path: Path) -> None:
        before_import("onnxruntime")
        onnxruntime = _imported("onnxruntime", "InferenceSession")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        # It remembers where buffers go for every shape ever seen, and forgets none.
        options.enable_mem_pattern = False
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as why:  # the library's exceptions share no public base
            raise EmbedError(f"{path}: ONNX Runtime cannot open it ({why})") from why
        self._path = path
        self._inputs = {i.name: _TYPES.get(i.type) for i in self._session.get_inputs()}
        self._output = self._choose_output()
        unknown = set(self._inputs) - {"input_ids", "attention_mask", "token_type_ids"}
        if unknown or None in self._inputs.values():
            raise EmbedError(
                f"{path}: the graph wants inputs {sorted(self._inputs)}; "
                "integer input_ids, attention_mask and token_type_ids are known"
            )

    def _choose_output(self) -> str:
        outputs = self._session.get_outputs()
        hidden = [o.name for o in outputs if len(o.shape or ()) == 3]
        for name in ("last_hidden_state", "token_embeddings"):
            if name in hidden:
                return name
        return str(hidden[0] if hidden else outputs[0].name)

    def run(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """float32 (rows, tokens, dim), or (rows, dim) from a graph that pools itself."""
        known = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        feeds: dict[str, Any] = {
            name: known[name].astype(dtype, copy=False) for name, dtype in self._inputs.items()
        }
        try:
            (output,) = self._session.run([self._output], feeds)
        except Exception as why:
            raise EmbedError(
                f"{self._path}: the model failed on a batch of "
                f"{ids.shape[0]} x {ids.shape[1]} tokens ({why})"
            ) from why
        return np.asarray(output, dtype=np.float32)
