"""A str with half of a surrogate pair has no UTF-8. Every argument that holds one is named."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
import ruvector
from ruvector import Embedder, FlatF32Index, FsBackend, LocalBackend, RuLake, RuLakeBundle
from ruvector.a2a import A2aClient, TaskSpec, codec_rvagent, codec_v10
from ruvector.errors import TransportError

BAD = "a\ud800"
ROWS = np.eye(3, 4, dtype=np.float32)


@pytest.fixture
def index():
    return FlatF32Index.build(ROWS)


@pytest.fixture
def backend():
    return LocalBackend("b")


@pytest.fixture
def lake(backend):
    backend.put_collection("docs", range(3), ROWS)
    lake = RuLake()
    lake.register_backend(backend)
    return lake


def in_lake(call):
    return lambda index, backend, lake, folder: call(lake, folder)


CALLS = {
    "path": [
        lambda index, backend, lake, folder: index.save(folder / BAD),
        lambda index, backend, lake, folder: FlatF32Index.load(str(folder / BAD)),
    ],
    "collection": [
        lambda index, backend, lake, folder: backend.upsert(BAD, [1], ROWS[:1]),
        lambda index, backend, lake, folder: backend.put_collection(BAD, [1], ROWS[:1]),
        lambda index, backend, lake, folder: backend.append(BAD, 1, ROWS[0]),
        lambda index, backend, lake, folder: backend.remove(BAD, [1]),
        lambda index, backend, lake, folder: backend.pull_vectors(BAD),
        lambda index, backend, lake, folder: backend.generation(BAD),
        lambda index, backend, lake, folder: FsBackend("f", folder).register(BAD, "x"),
        lambda index, backend, lake, folder: FsBackend("f", folder).write(BAD, "x", [1], ROWS[:1]),
        in_lake(lambda lake, folder: lake.search_one(BAD, ROWS[0])),
        in_lake(lambda lake, folder: lake.search_one(BAD, ROWS[0], backend="b")),
        in_lake(lambda lake, folder: lake.search_batch(BAD, ROWS)),
        in_lake(lambda lake, folder: lake.search_federated(BAD, ROWS[0])),
        in_lake(lambda lake, folder: asyncio.run(lake.search_one_async(BAD, ROWS[0]))),
        in_lake(lambda lake, folder: lake.prime(("b", BAD))),
    ],
    "backend": [
        in_lake(lambda lake, folder: lake.search_one("docs", ROWS[0], backend=BAD)),
        in_lake(lambda lake, folder: lake.prime((BAD, "docs"))),
    ],
    "name": [
        lambda *_: LocalBackend(BAD),
        lambda index, backend, lake, folder: FsBackend(BAD, folder),
    ],
    "root": [lambda index, backend, lake, folder: FsBackend("f", folder / BAD)],
    "dir": [
        lambda index, backend, lake, folder: RuLakeBundle.read_from_dir(folder / BAD),
        in_lake(lambda lake, folder: lake.publish_bundle(("b", "docs"), folder / BAD)),
    ],
    "pii_policy": [
        in_lake(lambda lake, folder: lake.publish_bundle(("b", "docs"), folder, pii_policy=BAD)),
    ],
    "name_or_path": [
        lambda *_: Embedder.from_pretrained(BAD),
        lambda *_: Embedder.from_pretrained(Path("x") / BAD, local_files_only=True),
    ],
    "cache_dir": [lambda *_: Embedder.from_pretrained("all-MiniLM-L6-v2", cache_dir=BAD)],
    "a task's id": [
        lambda *_: codec_v10.CodecV10Rest().get(BAD),
        lambda *_: codec_v10.CodecV10Rest().cancel(BAD),
        lambda *_: codec_v10.CodecV10Rest().subscribe(BAD),
        lambda *_: codec_rvagent.CodecRvAgent().subscribe(BAD),
        lambda *_: codec_rvagent.CodecRvAgent().stream(TaskSpec(id=BAD)),
    ],
}


@pytest.mark.parametrize(
    ("name", "call"),
    [(name, call) for name, calls in CALLS.items() for call in calls],
)
def test_the_argument_is_named(index, backend, lake, tmp_path, name, call):
    with pytest.raises(ValueError, match=f"^{name}: .*lone surrogate at character") as caught:
        call(index, backend, lake, tmp_path)
    assert not isinstance(caught.value, UnicodeError)
    assert list(tmp_path.iterdir()) == []
    assert ruvector.LocalBackend.list_collections(backend) == ["docs"]


def test_a_bundle_with_one_is_no_bundle():
    with pytest.raises(ruvector.LakeValueError, match=r"invalid UTF-8 \(byte 6\)"):
        RuLakeBundle.from_json('{"a":"\ud800"}')


def test_a_url_is_refused():
    with pytest.raises(TransportError, match="is refused: it holds a lone surrogate"):
        asyncio.run(A2aClient.connect(f"http://127.0.0.1:9/{BAD}"))


def test_raw_bytes_of_a_file_name_stay_a_path(index, tmp_path):
    """As os.listdir gives a name that is no UTF-8."""
    path = tmp_path / "\udcff.rbpx"
    index.save(path)
    assert FlatF32Index.load(path) == index
