"""No network when the files are there: text and images in an interpreter where any use of
a socket is an error."""

from __future__ import annotations

import shutil
from pathlib import Path

import mobilenet_reference
from installed import MINILM, need

BLOCKED = """
import sys
def refuse(event, arguments):
    if event.startswith("socket.") and event not in ("socket.gethostname", "socket.__new__"):
        raise SystemExit(f"{event} {arguments}")
sys.addaudithook(refuse)
"""
WORK = """
import asyncio, pickle
import numpy as np
import ruvector
from ruvector import cli

folder, image = sys.argv[1:]
text = ruvector.Embedder.from_pretrained("all-MiniLM-L6-v2")
index = ruvector.RabitqPlusIndex.build(text.embed_batch(["bread", "iron"]), metric="cosine")
assert index.search(text.embed("cake"), k=1)[0].id == 0
again = pickle.loads(pickle.dumps(text))
assert len(again.embed_batch(iter(["a", "b"]))) == 2
assert len(asyncio.run(again.embed_batch_async(["a"]))) == 1
assert ruvector.Embedder.from_pretrained(folder).dim == 384
pictures = ruvector.Embedder.from_pretrained("mobilenetv3-small")
assert pictures.embed_image(np.zeros((40, 50, 3), np.uint8)).shape == (576,)
assert pictures.embed_image(image).shape == (576,)
for command in ("list", "verify"):
    assert cli.main(["models", command]) == 0
try:
    ruvector.Embedder.from_pretrained("gte-small", local_files_only=True)
except ruvector.EmbedError:
    print("done")
"""


def test_nothing_asks_the_network(run_python, tmp_path: Path) -> None:
    need("PIL", "safetensors", *MINILM)
    from PIL import Image
    from ruvector import Embedder

    graph, tokenizer = Embedder.from_pretrained(
        "all-MiniLM-L6-v2", cache_dir=tmp_path / "none", local_files_only=True
    ).files
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copyfile(graph, folder / "model.onnx")
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
    weights = tmp_path / "cache" / "mobilenetv3-small" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    mobilenet_reference.save(mobilenet_reference.state_dict(), weights)
    image = tmp_path / "image.png"
    Image.new("RGB", (30, 20), (200, 100, 50)).save(image)
    done = run_python(
        BLOCKED + WORK,
        str(folder),
        str(image),
        RUVECTOR_CACHE=str(tmp_path / "cache"),
        HF_HOME=str(tmp_path / "hf"),
        HF_HUB_OFFLINE="0",
    )
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["done"]), done.stderr


def test_the_block_works(run_python) -> None:
    done = run_python(BLOCKED + "import socket; socket.create_connection(('127.0.0.1', 9))")
    assert done.returncode != 0
    assert "socket." in done.stderr
