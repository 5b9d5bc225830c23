"""A collection handed from one process to another by its witness."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from a2a_stub import run
from ruvector.a2a import A2aClient, RuLakeWitness, TaskSpec

# An agent in a process of its own, which has published a bundle in a folder and answers
# every task with the witness of it.
GIVER = """
import asyncio, json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from a2a_stub import RvAgent
from ruvector.a2a import RuLakeWitness, codec_rvagent

bundle = json.loads(Path(sys.argv[2], "table.rulake.json").read_text())

async def give(task, emit):
    artifact = RuLakeWitness(bundle["rvf_witness"], bundle["data_ref"], ("read",)).to_artifact()
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


def bundle_witness(data_ref, dim, seed, rerank_factor, generation):
    """The digest of a bundle of version 2, from its definition."""
    name = data_ref.encode()
    return hashlib.shake_256(
        b"rulake-bundle-witness-v1|"
        + struct.pack("<Q", len(name))
        + name
        + b"|"
        + struct.pack("<QQQ", dim, seed, rerank_factor)
        + b"|"
        + struct.pack("<QBQ", 9, 0, generation)
    ).hexdigest(32)


def test_a_witness_goes_from_one_process_to_another(tmp_path):
    data = tmp_path / "docs.parquet"
    ref = data.as_uri()
    bundle = {
        "format_version": 2,
        "data_ref": ref,
        "dim": 128,
        "rotation_seed": 42,
        "rerank_factor": 20,
        "generation": 7,
        "rvf_witness": bundle_witness(ref, 128, 42, 20, 7),
    }
    (tmp_path / "table.rulake.json").write_text(json.dumps(bundle))
    giver = subprocess.Popen(
        [sys.executable, "-c", GIVER, str(Path(__file__).parent), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        url = giver.stdout.readline().strip()

        async def receive():
            async with await A2aClient.connect(url) as client:
                updates = [u async for u in client.stream_task(TaskSpec("echo", "the docs"))]
                return next(u.artifact for u in updates if u.kind == "artifact")

        artifact = run(receive())
    finally:
        giver.stdin.close()
        assert giver.wait(30) == 0
    witness = artifact.typed
    assert witness == RuLakeWitness(bundle["rvf_witness"], ref, ("read",))

    # what the receiver finds in the folder is what was handed over, or it is not
    found = SimpleNamespace(**json.loads((tmp_path / "table.rulake.json").read_text()))
    assert witness.matches(found)
    found.rvf_witness = bundle_witness(ref, 128, 42, 20, 8)  # the data has moved on
    assert not witness.matches(found)


def test_the_definition_gives_the_published_digest():
    assert bundle_witness("gs://bucket/x.parquet", 128, 42, 20, 7) == (
        "7eac1775d1f76a4db88672655fc64977287ec60eda47c6df3a19bacfd0c038cd"
    )
