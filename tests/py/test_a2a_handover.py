"""A collection handed from one process to another by its witness."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import ruvector
from a2a_stub import run
from ruvector import RefreshResult
from ruvector.a2a import A2aClient, RuLakeWitness, TaskSpec

KEY = ("shared", "docs")

# An agent in a process of its own. Its lake holds the collection and publishes a bundle of
# it; every task is answered with the witness.
GIVER = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
import ruvector
from a2a_stub import RvAgent
from ruvector.a2a import RuLakeWitness, codec_rvagent

lake = ruvector.RuLake()
backend = ruvector.FsBackend("shared", sys.argv[2])
backend.register("docs", "docs.vec")
lake.register_backend(backend)
lake.publish_bundle(("shared", "docs"), out_dir=sys.argv[3])
bundle = ruvector.RuLakeBundle.read_from_dir(sys.argv[3])

async def give(task, emit):
    artifact = RuLakeWitness(bundle.rvf_witness, bundle.data_ref, ("read",)).to_artifact()
    parts = [codec_rvagent.encode_part(part) for part in artifact.parts]
    return [{"name": artifact.name, "parts": parts, "metadata": artifact.metadata,
             "index": 0, "lastChunk": True}]

async def main():
    async with RvAgent() as agent:
        agent.run = give
        print(agent.url, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main())
"""


@contextmanager
def giver(data, published):
    arguments = [str(path) for path in (Path(__file__).parent, data, published)]
    with subprocess.Popen(
        [sys.executable, "-c", GIVER, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process.stdout.readline().strip()
        process.stdin.close()
        assert process.wait(30) == 0


async def receive(url):
    async with await A2aClient.connect(url) as client:
        updates = [u async for u in client.stream_task(TaskSpec("echo", "the docs"))]
        return next(u.artifact for u in updates if u.kind == "artifact")


@pytest.fixture
def shared(tmp_path, rng):
    """A folder that both processes see, with a collection in it."""
    vectors = rng.standard_normal((500, 16), dtype=np.float32)
    backend = ruvector.FsBackend("shared", tmp_path)
    backend.write("docs", "docs.vec", range(1000, 1500), vectors)
    return backend, vectors, tmp_path / "docs.vec"


def test_a_witness_goes_from_one_process_to_another(shared, tmp_path):
    backend, vectors, file = shared
    published = tmp_path / "published"
    lake = ruvector.RuLake()
    lake.register_backend(backend)
    lake.prime(KEY)

    with giver(tmp_path, published) as url:
        received = run(receive(url)).typed
    assert isinstance(received, RuLakeWitness)
    assert received.capabilities == ("read",)
    # the witness is that of the very state this process has in its own lake
    assert received.witness == lake.cache_witness_of(KEY)

    # the bundle in the folder keeps its word, and is the one that was handed over
    bundle = ruvector.RuLakeBundle.read_from_dir(published)
    assert bundle.verify_witness()
    assert received.matches(bundle)
    assert lake.refresh_from_bundle_dir(KEY, published) == RefreshResult.UP_TO_DATE
    hits = lake.search_one("docs", vectors[7], k=1)
    assert [(hit.backend, hit.id) for hit in hits] == [("shared", 1007)]

    # the data moves on and is published again: the new bundle is not what was handed over
    backend.write("docs", "docs.vec", range(500), vectors)
    os.utime(file, (file.stat().st_mtime + 60,) * 2)
    with giver(tmp_path, published) as url:
        renewed = run(receive(url)).typed
    bundle = ruvector.RuLakeBundle.read_from_dir(published)
    assert not received.matches(bundle)
    assert renewed.matches(bundle)
    assert lake.refresh_from_bundle_dir(KEY, published) == RefreshResult.INVALIDATED
    assert lake.search_one("docs", vectors[7], k=1)[0].id == 7


def test_a_bundle_that_was_altered_on_the_way(shared, tmp_path):
    backend, _, _ = shared
    published = tmp_path / "published"
    with giver(tmp_path, published) as url:
        received = run(receive(url)).typed
    sidecar = published / ruvector.RuLakeBundle.SIDECAR_FILENAME
    text = sidecar.read_text()
    assert received.data_ref in text
    sidecar.write_text(text.replace(received.data_ref, "fs://elsewhere/docs.vec"))
    lake = ruvector.RuLake()
    lake.register_backend(backend)
    lake.prime(KEY)
    with pytest.raises(ruvector.WitnessMismatch):
        ruvector.RuLakeBundle.read_from_dir(published)
    with pytest.raises(ruvector.WitnessMismatch):
        lake.refresh_from_bundle_dir(KEY, published)
    assert lake.cache_witness_of(KEY) == received.witness  # and nothing is forgotten
