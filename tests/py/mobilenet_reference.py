"""MobileNetV3-Small from other hands: seeded weights, and the network as an ONNX graph.

The weights carry the names and shapes of torchvision's `mobilenet_v3_small` state dict,
classifier and counters included. The graph is made of ONNX's own operators, batch
normalization unfolded, and returns what every stage gives.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ruvector.embed.quiet import before_import

# inputs, expanded, outputs, squeeze, kernel, stride, activation: torchvision's settings.
BLOCKS = (
    (16, 16, 16, 8, 3, 2, "relu"),
    (16, 72, 24, 0, 3, 2, "relu"),
    (24, 88, 24, 0, 3, 1, "relu"),
    (24, 96, 40, 24, 5, 2, "hardswish"),
    (40, 240, 40, 64, 5, 1, "hardswish"),
    (40, 240, 40, 64, 5, 1, "hardswish"),
    (40, 120, 48, 32, 5, 1, "hardswish"),
    (48, 144, 48, 40, 5, 1, "hardswish"),
    (48, 288, 96, 72, 5, 2, "hardswish"),
    (96, 576, 96, 144, 5, 1, "hardswish"),
    (96, 576, 96, 144, 5, 1, "hardswish"),
)
DIM = 576
STAGES = 13
MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], dtype=np.float32)


def layers():
    """(name, kind, inputs, outputs, kernel, stride, activation) in order of use."""
    yield "features.0", "norm", 3, 16, 3, 2, "hardswish"
    for i, (inputs, wide, outputs, squeeze, kernel, stride, activation) in enumerate(BLOCKS, 1):
        block, part = f"features.{i}.block", 0
        if wide != inputs:
            yield f"{block}.{part}", "norm", inputs, wide, 1, 1, activation
            part += 1
        yield f"{block}.{part}", "depthwise", wide, wide, kernel, stride, activation
        part += 1
        if squeeze:
            yield f"{block}.{part}", "gate", wide, squeeze, 1, 1, None
            part += 1
        last = "project+" if stride == 1 and inputs == outputs else "project"
        yield f"{block}.{part}", last, wide, outputs, 1, 1, None
    yield "features.12", "norm", 96, DIM, 1, 1, "hardswish"


def state_dict(seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights under which values neither vanish nor grow."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    for name, kind, inputs, outputs, kernel, _, _ in layers():
        if kind == "gate":
            for fc, a, b in (("fc1", inputs, outputs), ("fc2", outputs, inputs)):
                tensors[f"{name}.{fc}.weight"] = normal(b, a, 1, 1, scale=a**-0.5)
                tensors[f"{name}.{fc}.bias"] = normal(b, scale=0.5)
            continue
        fan_in = (1 if kind == "depthwise" else inputs) * kernel * kernel
        shape = (outputs, fan_in // kernel**2, kernel, kernel)
        tensors[f"{name}.0.weight"] = normal(*shape, scale=(2 / fan_in) ** 0.5)
        tensors[f"{name}.1.weight"] = 1 + normal(outputs, scale=0.2)
        tensors[f"{name}.1.bias"] = normal(outputs, scale=0.3)
        tensors[f"{name}.1.running_mean"] = normal(outputs, scale=0.3)
        tensors[f"{name}.1.running_var"] = np.exp(normal(outputs, scale=0.3))
        tensors[f"{name}.1.num_batches_tracked"] = np.array(7, dtype=np.int64)
    tensors["classifier.0.weight"] = normal(1024, DIM, scale=DIM**-0.5)
    tensors["classifier.0.bias"] = normal(1024)
    tensors["classifier.3.weight"] = normal(1000, 1024, scale=2**-5)
    tensors["classifier.3.bias"] = normal(1000)
    return tensors


def save(tensors: dict[str, np.ndarray], path: Path) -> Path:
    from safetensors.numpy import save_file

    save_file(tensors, path)
    return path


def onnx_model(tensors: dict[str, np.ndarray]):
    """A model from `image` (n, 3, 224, 224) to stage0..stage12 and `pooled` (n, 576)."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, stages, used = [], [], []

    def node(op: str, *inputs: str, **attributes: object) -> str:
        out = f"v{len(nodes)}"
        nodes.append(helper.make_node(op, list(inputs), [out], **attributes))
        return out

    def weight(name: str) -> str:
        used.append(numpy_helper.from_array(tensors[name], name))
        return name

    def activate(x: str, activation: str | None) -> str:
        if activation == "relu":
            return node("Relu", x)
        return node("HardSwish", x) if activation else x

    def convolve(x: str, name: str, kernel: int, stride: int, groups: int) -> str:
        y = node(
            "Conv",
            x,
            weight(f"{name}.0.weight"),
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[kernel // 2] * 4,
            group=groups,
        )
        parts = ("weight", "bias", "running_mean", "running_var")
        named = [weight(f"{name}.1.{part}") for part in parts]
        return node("BatchNormalization", y, *named, epsilon=0.001)

    def gate(x: str, name: str) -> str:
        y = node("GlobalAveragePool", x)
        y = node("Conv", y, weight(f"{name}.fc1.weight"), weight(f"{name}.fc1.bias"))
        y = node("Relu", y)
        y = node("Conv", y, weight(f"{name}.fc2.weight"), weight(f"{name}.fc2.bias"))
        return node("Mul", x, node("HardSigmoid", y, alpha=1 / 6, beta=0.5))

    x = start = "image"
    for name, kind, inputs, _, kernel, stride, activation in layers():
        if kind == "gate":
            x = gate(x, name)
            continue
        x = convolve(x, name, kernel, stride, inputs if kind == "depthwise" else 1)
        x = activate(x, activation)
        if kind == "project+":
            x = node("Add", x, start)
        if kind.startswith("project") or name in ("features.0", "features.12"):
            stages.append(x)
            start = x
    pooled = node("Flatten", node("GlobalAveragePool", x))

    def value(name: str, *shape: int | str | None):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    outputs = []
    for i, stage in enumerate(stages):
        nodes.append(helper.make_node("Identity", [stage], [f"stage{i}"]))
        outputs.append(value(f"stage{i}", "n", None, None, None))
    nodes.append(helper.make_node("Identity", [pooled], ["pooled"]))
    outputs.append(value("pooled", "n", DIM))
    graph = helper.make_graph(
        nodes, "mobilenet_v3_small", [value("image", "n", 3, 224, 224)], outputs, used
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def onnx_session(tensors: dict[str, np.ndarray], threads: int = 1):
    before_import("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        onnx_model(tensors).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def resized_crop(image: np.ndarray, *, at_once: bool = False) -> np.ndarray:
    """The 224 x 224 pixels in the middle of `image`, its shorter side resized to 256.

    Rows first, then columns: so does Pillow before version 13 and PyTorch's resize of
    bytes. Pillow 13 takes columns first where the height shrinks by more than the width.
    """
    from PIL import Image

    height, width = image.shape[:2]
    shorter = min(height, width)
    size = (256 * width // shorter, 256 * height // shorter)
    resized = Image.fromarray(image)
    for step in (size,) if at_once else ((size[0], height), size):
        resized = resized.resize(step, Image.Resampling.BILINEAR)
    left, top = (round((side - 224) / 2) for side in size)
    return np.asarray(resized.crop((left, top, left + 224, top + 224)))


def prepare(image: np.ndarray) -> np.ndarray:
    """torchvision's preset for the weights: (224, 224, 3) float32."""
    scaled = resized_crop(image).astype(np.float32) / np.float32(255)
    return (scaled - MEAN) / DEVIATION


def image_of(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Smooth patches under noise, as photographs are."""
    small = rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)
    rows = np.arange(height) * 7 // height
    columns = np.arange(width) * 9 // width
    noise = rng.integers(-40, 41, (height, width, 3))
    patches = small[rows[:, None], columns[None, :]].astype(np.int64)
    return np.clip(patches + noise, 0, 255).astype(np.uint8)
