"""Images into vectors: ours beside ONNX Runtime on the same network, one thread.

    python -m bench.embed_image [--rounds 15] [--side HEIGHT WIDTH] [--out FILE]

Both run in one process and take turns, with the tests' random weights (arithmetic takes
as long as with trained ones) and the same images. `whole` is from the pixels of an image
to its vector, for the peer with Pillow's resize; `network` leaves preparing the image
out. Times are the processor's, in milliseconds an image: the best and the median round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import ruvector
from ruvector import _core
from ruvector.embed.quiet import before_import

from .index import OUT
from .machine import machine

sys.path.append(str(Path(__file__).parents[1] / "tests" / "py"))
import mobilenet_reference as reference

IMAGES = 8


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.embed_image", description=__doc__)
    add = parser.add_argument
    add("--rounds", type=int, default=15)
    add("--side", type=int, nargs=2, default=(480, 640), metavar=("HEIGHT", "WIDTH"))
    add("--out", type=Path, default=OUT / "embed_image.json")
    options = parser.parse_args(arguments)
    before_import("onnxruntime")
    rng = np.random.default_rng(1)
    images = [reference.image_of(rng, *options.side) for _ in range(IMAGES)]
    result = {
        "machine": machine(),
        "image": [*options.side, 3],
        "rounds": options.rounds,
        "unit": "ms of processor time an image",
        **measure(images, options.rounds),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def measure(images: list[np.ndarray], rounds: int) -> dict[str, Any]:
    tensors = reference.state_dict()
    with tempfile.TemporaryDirectory() as folder:
        weights = reference.save(tensors, Path(folder) / "model.safetensors")
        embedder = ruvector.Embedder.from_pretrained(weights, threads=1)
    network = peer_network(tensors)
    prepared = [feed(image) for image in images]

    def peer_whole(image: np.ndarray) -> np.ndarray:
        vector = network(feed(image))
        return vector / np.linalg.norm(vector)

    for image in images:
        difference = np.abs(embedder.embed_image(image) - peer_whole(image)).max()
        assert difference < 1e-4, difference
    parts: dict[str, tuple[Callable[[Any], object], list[Any]]] = {
        "ours whole": (embedder.embed_image, images),
        "ours prepare": (lambda x: _core._image_prepare((x, *x.shape[:2])), images),
        "onnxruntime whole": (peer_whole, images),
        "onnxruntime network": (network, prepared),
    }
    times: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds):
        for name, (call, inputs) in parts.items():
            start = process_time()
            for x in inputs:
                call(x)
            times[name].append((process_time() - start) / len(inputs) * 1e3)
    pairs = zip(times["ours whole"], times["ours prepare"])
    times["ours network"] = [whole - prepare for whole, prepare in pairs]
    summary = {
        name: {"best": round(min(t), 3), "median": round(statistics.median(t), 3)}
        for name, t in sorted(times.items())
    }
    return {"times": summary, "speed of onnxruntime's": ratios(summary)}


def ratios(times: dict[str, dict[str, float]]) -> dict[str, float]:
    """How many times as fast ours is, by medians."""
    return {
        part: round(times[f"onnxruntime {part}"]["median"] / times[f"ours {part}"]["median"], 2)
        for part in ("network", "whole")
    }


def feed(image: np.ndarray) -> np.ndarray:
    """What the peer's network takes: (1, 3, 224, 224)."""
    return np.ascontiguousarray(reference.prepare(image).transpose(2, 0, 1)[None])


def peer_network(tensors: dict[str, np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    model = reference.onnx_model(tensors)
    del model.graph.output[:-1]  # a graph that has to show its stages cannot be fused
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def run(image: np.ndarray) -> np.ndarray:
        vector: np.ndarray = session.run(["pooled"], {"image": image})[0][0]
        return vector

    return run


if __name__ == "__main__":
    main()
