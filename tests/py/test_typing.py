"""The type hints: complete, in agreement with the module, and useful."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
import ruvector
from ruvector.lake import _session

pytest.importorskip("mypy")

GOOD = """
import numpy as np
import numpy.typing as npt
import ruvector

vectors = np.zeros((10, 4), dtype=np.float32)
idx = ruvector.RabitqPlusIndex.build(vectors, seed=42, rerank_factor=20, metric="ip", bits=4)
for h in idx.search(vectors[0], k=10):
    id: int = h.id
    score: float = h.score
    columns: tuple[str, ...] = h._fields
    row: dict[str, object] = h._asdict()
    h = h._replace(score=1.0)
ids, scores = idx.search_batch(vectors, 3, allow=[1, 2], epsilon=2.0)
found: npt.NDArray[np.uint64] = ids
idx.search(vectors[0], nprobe="all")
tuning: ruvector.Tuning = ruvector.RabitqIndex.build(vectors).tune(vectors, k=3, recall=0.9)
if tuning.nprobe != "all" and idx.nprobe != "all":
    groups: int = tuning.nprobe + idx.nprobe + idx.n_lists + idx.bits
bound: float = tuning.epsilon + tuning.recall
n: int = idx.remove(np.arange(3)) + len(idx) + idx.add(None, [1.0, 2.0, 3.0, 4.0])
idx2: ruvector.RabitqPlusIndex = ruvector.RabitqPlusIndex.load("x", mmap=False)
vector: npt.NDArray[np.float32] = idx[3]
pairs = {id: v for id, v in idx}

def name(index: ruvector.AnyIndex) -> str:
    return f"{index.metric} {index.search([1.0])[0].score}"

for index in (
    ruvector.FlatF32Index.build(vectors),
    ruvector.RabitqIndex.build(vectors, n_lists=2),
    idx,
    ruvector.RabitqAsymIndex.build(vectors, rerank_factor=2),
):
    name(index)
try:
    idx.search(vectors)
except ruvector.DimensionMismatch as e:
    print(e.expected)
except ruvector.IndexError:
    pass
except ruvector.VectorIndexError as e:
    same: ruvector.IndexError = e

class Source(ruvector.BackendAdapter):
    @property
    def id(self) -> str:
        return "source"

    def list_collections(self) -> list[str]:
        return ["docs"]

    def pull_vectors(self, collection: str) -> ruvector.PulledBatch:
        return ruvector.PulledBatch([1, 2], vectors[:2], dim=4, generation=1)

    def generation(self, collection: str) -> int:
        return 1

builder = ruvector.RuLake.builder().rerank_factor(20).consistency(ruvector.Consistency.STALE)
lake: ruvector.RuLake = builder.max_cache_entries(None).strict().build()
lake.register_backend(Source())
backend = ruvector.LocalBackend(name="b")
backend.upsert("docs", ids=[1], vectors=vectors[:1])
lake.register_backend(backend)
for lake_hit in lake.search_one("docs", vectors[0], k=3, backend="b"):
    where: tuple[str, str] = (lake_hit.backend, lake_hit.collection)
lists: list[list[ruvector.LakeHit]] = lake.search_batch("docs", vectors)
lake.search_federated(query=vectors[0], targets=[where, ("b", "docs")], per_shard_rerank=5)
merged: list[ruvector.LakeHit] = lake.search_federated("docs", vectors[0], 3, cached_only=True)
merged += lake.search_federated(None, vectors[0], 3, targets=iter([where]))
result: ruvector.RefreshResult = lake.refresh_from_bundle_dir("docs", "folder")
rate: float | None = lake.cache_stats().hit_rate()
shared: int = lake.cache_stats_by_collection()[where].shared_hits
generation: int | str = ruvector.RuLakeBundle.read_from_dir("folder").generation
with lake.session() as s:
    s.upsert("docs", [1], vectors[:1])
    s.search_one("docs", vectors[0])
    merged += s.search_federated("docs", vectors[0]) + s.search_federated(query=[1.0], targets=[])
print(idx in lake, lake.prime(where), lake.publish_bundle("docs", out_dir="x", pii_policy="y"))

async def search() -> list[ruvector.LakeHit]:
    await lake.prime_async("docs")
    await lake.search_federated_async(query=vectors[0], targets=["docs"])
    return await lake.search_federated_async("docs", vectors[0], k=3)

embedder: ruvector.Embedder = ruvector.Embedder.from_pretrained("mobilenetv3-small")
with embedder as opened:
    rows = np.concatenate([opened.embed_batch(["text"]), opened.embed_image([b"file"])])

advice: ruvector.Recommendation = ruvector.recommend(10, 3)
threads: int = ruvector.cpu_features()["threads"]
"""

ALLOWED = Path(__file__).parents[2] / "tools" / "stubtest.txt"

# Each line is an error.
BAD = """
import numpy as np
import ruvector
vectors = np.zeros((10, 4), dtype=np.float32)
ruvector.FlatF32Index.build(vectors, epsilon=1.0)
ruvector.RabitqIndex.build(vectors).search(vectors[0], rerank_factor=3)
ruvector.RabitqIndex.build(vectors).epsilon
ruvector.RabitqPlusIndex.build({1.0, 2.0})
ruvector.RabitqPlusIndex.build(vectors, metric="manhattan")
ruvector.RabitqPlusIndex.build(vectors).search("query")
ruvector.RabitqPlusIndex.build(vectors).dim = 3
ruvector.RabitqPlusIndex.build(vectors).search(vectors[0], nprobe="some")
ruvector.RabitqPlusIndex.build(vectors).nprobe = 3
ruvector.FlatF32Index.build(vectors, bits=2)
ruvector.RuLake(consistency="FRESH")
ruvector.RuLake(consistency=0)
ruvector.RuLake().register_backend("backend")
ruvector.RuLake().search_one(("b", "docs"), vectors[0])
ruvector.RuLake().prime(3)
ruvector.RuLake().search_federated("docs")
ruvector.RuLake().search_federated(query=vectors[0])
ruvector.RuLake().search_federated("docs", vectors[0], targets=[("b", "docs")])
ruvector.RuLake().search_federated_async("docs", k=3)
ruvector.RuLake().search_federated_async("docs", vectors[0], targets=["docs"])
ruvector.RuLake().session().search_federated(targets=["docs"])
ruvector.BackendAdapter()
"""


@pytest.fixture(scope="module")
def mypy(tmp_path_factory):
    """Runs mypy in `folder`; the runs share what they learn about NumPy."""
    cache = tmp_path_factory.mktemp("cache")

    def run(folder, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            env={
                **os.environ,
                "MYPY_CACHE_DIR": str(cache),
            },
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return run


@pytest.mark.extras
def test_the_stub_agrees_with_the_module(mypy, tmp_path):
    allowed = ["--allowlist", str(ALLOWED), "--ignore-unused-allowlist"]
    result = mypy(tmp_path, "mypy.stubtest", "ruvector._core", *allowed)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.extras
def test_the_package_passes_strict_checks(mypy, tmp_path):
    result = mypy(tmp_path, "mypy", "--strict", "--package", "ruvector")
    assert result.returncode == 0, result.stdout + result.stderr


FEDERATED = [
    (ruvector.RuLake.search_federated, "_core.pyi"),
    (ruvector.RuLake.search_federated_async, "lake/lake.py"),
    (_session.Session.search_federated, "lake/_session.py"),
]


@pytest.mark.parametrize(("function", "file"), FEDERATED)
def test_the_overloads_name_the_arguments_in_order(function, file):
    # what stubtest is told not to look at
    tree = ast.parse((Path(ruvector.__file__).parent / file).read_text())
    found = [
        [a.arg for a in (*node.args.args, *node.args.kwonlyargs)]
        for node in ast.walk(tree)
        if getattr(node, "name", None) == function.__name__
        and [ast.unparse(d) for d in node.decorator_list] == ["overload"]
    ]
    assert found == [list(inspect.signature(function).parameters)] * 3


def test_programs_that_use_it_pass_strict_checks(mypy, tmp_path):
    (tmp_path / "good.py").write_text(GOOD)
    result = mypy(tmp_path, "mypy", "--strict", "--follow-imports=silent", "good.py")
    assert result.returncode == 0, result.stdout + result.stderr


def test_mistakes_are_found(mypy, tmp_path):
    (tmp_path / "bad.py").write_text(BAD)
    result = mypy(tmp_path, "mypy", "--strict", "--follow-imports=silent", "bad.py")
    lines = {int(line.split(":")[1]) for line in result.stdout.splitlines() if ": error:" in line}
    assert lines == set(range(5, len(BAD.splitlines()) + 1)), result.stdout
