"""BERT's forward pass in NumPy, and the same weights as an ONNX graph.

The pass follows Devlin and others, *BERT: Pre-training of Deep Bidirectional
Transformers*, 2019, with post-layer normalization and the exact GELU, in float64. It
shares nothing with the graph but the weights, so one checks the other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

_DTYPES = {"F32": np.float32, "I64": np.int64}


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        data = np.frombuffer(raw[8 + length + first : 8 + length + last], _DTYPES[entry["dtype"]])
        tensors[name.removeprefix("bert.")] = data.reshape(entry["shape"])
    return tensors


def _erf(x: np.ndarray) -> np.ndarray:
    """Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: within 1.5e-7."""
    t = 1 / (1 + 0.3275911 * np.abs(x))
    powers = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
    tail = np.zeros_like(x)
    for factor in reversed(powers):
        tail = (tail + factor) * t
    return np.sign(x) * (1 - tail * np.exp(-x * x))


class Bert:
    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        self.layers = config["num_hidden_layers"]
        self.heads = config["num_attention_heads"]
        self.epsilon = config["layer_norm_eps"]
        self.weights = read_safetensors(folder / "model.safetensors")
        self.wide: dict[str, np.ndarray] = {}

    def get(self, name: str) -> np.ndarray:
        if name not in self.wide:
            self.wide[name] = self.weights[name].astype(np.float64)
        return self.wide[name]

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        centered = x - x.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centered**2).mean(axis=-1, keepdims=True) + self.epsilon)
        return centered / spread * self.get(f"{name}.weight") + self.get(f"{name}.bias")

    def dense(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self.get(f"{name}.weight").T + self.get(f"{name}.bias")

    def attend(self, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        """What the tokens of one text take from each other, (tokens, width) as q, k and v."""
        q, k, v = (x.reshape(len(x), self.heads, -1).transpose(1, 0, 2) for x in (q, k, v))
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = scores / scores.sum(axis=-1, keepdims=True) @ v
        return mixed.transpose(1, 0, 2).reshape(mixed.shape[1], -1)

    def means(self, texts: Sequence[Sequence[int]]) -> np.ndarray:
        """The unit mean of each text's hidden states."""
        return np.concatenate([self._means(texts[i : i + 50]) for i in range(0, len(texts), 50)])

    def _means(self, texts: Sequence[Sequence[int]]) -> np.ndarray:
        # The texts one after the other: only attention has to tell them apart.
        ends = np.cumsum([len(ids) for ids in texts])[:-1]
        places = np.concatenate([np.arange(len(ids)) for ids in texts])
        part = "embeddings."
        x = self.weights[part + "word_embeddings.weight"][np.concatenate(texts)].astype(np.float64)
        x += self.get(part + "position_embeddings.weight")[places]
        x += self.get(part + "token_type_embeddings.weight")[0]
        x = self.norm(x, part + "LayerNorm")
        for layer in range(self.layers):
            name = f"encoder.layer.{layer}."
            q, k, v = (
                np.split(self.dense(x, f"{name}attention.self.{part}"), ends)
                for part in ("query", "key", "value")
            )
            mixed = np.concatenate([self.attend(*one) for one in zip(q, k, v)])
            mixed = self.dense(mixed, name + "attention.output.dense")
            x = self.norm(x + mixed, name + "attention.output.LayerNorm")
            wide = self.dense(x, name + "intermediate.dense")
            wide = wide * (1 + _erf(wide / math.sqrt(2))) / 2
            x = self.norm(x + self.dense(wide, name + "output.dense"), name + "output.LayerNorm")
        vectors = np.array([tokens.mean(axis=0) for tokens in np.split(x, ends)])
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write_onnx(bert: Bert, path: Path) -> None:
    """The same network in float32, as an ONNX graph of a batch with a mask."""
    from onnx import TensorProto, checker, helper, numpy_helper, save

    nodes, constants = [], {}

    def constant(name: str, value: np.ndarray) -> str:
        constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def op(kind: str, *inputs: str, **attributes: object) -> str:
        name = f"{kind}_{len(nodes)}"
        nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def weight(name: str) -> str:
        return constant(name, bert.weights[name])

    def dense(x: str, name: str) -> str:
        matrix = constant(name + ".transposed", bert.weights[name + ".weight"].T)
        return op("Add", op("MatMul", x, matrix), weight(name + ".bias"))

    def norm(x: str, name: str) -> str:
        scale, shift = weight(name + ".weight"), weight(name + ".bias")
        return op("LayerNormalization", x, scale, shift, axis=-1, epsilon=bert.epsilon)

    def number(name: str, value: float) -> str:
        return constant(name, np.array(value, dtype=np.float32))

    words = "embeddings.word_embeddings.weight"
    width = bert.weights[words].shape[1]
    each = width // bert.heads
    split = constant("split", np.array([0, 0, bert.heads, each], dtype=np.int64))
    join = constant("join", np.array([0, 0, width], dtype=np.int64))
    zero, one, two = (constant(f"int_{i}", np.array([i])) for i in range(3))
    tokens = op("Slice", op("Shape", "input_ids"), one, two)
    positions = weight("embeddings.position_embeddings.weight")
    positions = op("Slice", positions, zero, tokens, zero)
    x = op("Add", op("Gather", weight(words), "input_ids"), positions)
    types = weight("embeddings.token_type_embeddings.weight")
    x = op("Add", x, op("Gather", types, "token_type_ids"))
    x = norm(x, "embeddings.LayerNorm")
    masked = op("Sub", number("one_f", 1), op("Cast", "attention_mask", to=TensorProto.FLOAT))
    masked = op("Mul", masked, number("lowest", -1e9))
    masked = op("Unsqueeze", masked, constant("middle", np.array([1, 2])))
    for layer in range(bert.layers):
        name = f"encoder.layer.{layer}."

        def heads(part: str, order: list[int], x: str = x, name: str = name) -> str:
            flat = dense(x, f"{name}attention.self.{part}")
            return op("Transpose", op("Reshape", flat, split), perm=order)

        scores = op("MatMul", heads("query", [0, 2, 1, 3]), heads("key", [0, 2, 3, 1]))
        scores = op("Add", op("Div", scores, number("root", math.sqrt(each))), masked)
        mixed = op("MatMul", op("Softmax", scores, axis=-1), heads("value", [0, 2, 1, 3]))
        mixed = op("Reshape", op("Transpose", mixed, perm=[0, 2, 1, 3]), join)
        mixed = dense(mixed, name + "attention.output.dense")
        x = norm(op("Add", x, mixed), name + "attention.output.LayerNorm")
        wide = dense(x, name + "intermediate.dense")
        bell = op("Erf", op("Div", wide, number("root_two", math.sqrt(2))))
        wide = op("Mul", op("Mul", wide, number("half", 0.5)), op("Add", bell, number("one_f", 1)))
        x = norm(op("Add", x, dense(wide, name + "output.dense")), name + "output.LayerNorm")
    nodes.append(helper.make_node("Identity", [x], ["last_hidden_state"]))
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "tokens"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    shape = ["rows", "tokens", width]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "bert", inputs, [output], list(constants.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    save(model, str(path))
