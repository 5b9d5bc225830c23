"""Downloads by the hub's own client, from a server on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_stub import COMMIT, REPO, Hub, serve
from installed import need
from ruvector.embed import download
from ruvector.embed.download import PARTIAL

need("huggingface_hub")

FILES = {
    "onnx/model.onnx": bytes(range(256)) * 4000,
    "tokenizer.json": b"{}",
    "modules.json": b'[{"type": "Transformer"}, {"type": "Pooling", "path": "1_Pooling"}]',
    "1_Pooling/config.json": b'{"pooling_mode_cls_token": true}',
    "README.md": b"not needed",
    "pytorch_model.bin": b"not needed",
}
NEEDED = sorted(name for name in FILES if name not in ("README.md", "pytorch_model.bin"))
# A registry with one model, pinned by hash: {hash} is that of the graph.
PROGRAM = """
import sys
from ruvector import EmbedError
from ruvector.embed import models
from ruvector.embed.registry import HubModel
models.PACKAGED_MODELS = {{}}
models.HUB_MODELS = {{
    "tiny": HubModel({repo!r}, 5, "MIT", {commit!r}, {{"onnx/model.onnx": {hash!r}}}),
    "unpinned": HubModel({repo!r}, 5, "MIT"),
}}
{before}
try:
    model = models.find_model({name!r}, revision={revision!r})
except EmbedError as why:
    print(why.looked_in[-1])
    sys.exit(3)
print({shown})
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serve(dict(FILES)) as hub:
        yield hub


@pytest.fixture
def start(hub: Hub, tmp_path: Path):
    """Starts an interpreter that asks for a model, with the stand-in as its hub."""

    def run(
        name="tiny",
        *,
        revision=None,
        before="",
        sha=None,
        shown="model.graph, model.revision, model.pooling",
        **env,
    ) -> subprocess.Popen[str]:
        code = PROGRAM.format(
            repo=REPO,
            commit=COMMIT,
            hash=sha or hashlib.sha256(FILES["onnx/model.onnx"]).hexdigest(),
            name=name,
            revision=revision,
            before=before,
            shown=shown,
        )
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
        settings = {
            "PYTHONPATH": os.pathsep.join(sys.path),
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "RUVECTOR_CACHE": str(tmp_path / "cache"),
            "no_proxy": "127.0.0.1",
        }
        return subprocess.Popen(
            [sys.executable, "-c", code],
            env={**kept, **settings, **env},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return run


@pytest.fixture
def ask(start):
    def run(*args, **options) -> tuple[int, str]:
        process = start(*args, **options)
        out, err = process.communicate(timeout=100)
        return process.returncode, out if process.returncode in (0, 3) else out + err

    return run


def cached(tmp_path: Path) -> list[str]:
    root = tmp_path / "cache"
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def folder(revision: str = COMMIT) -> str:
    return f"maker--tiny-model/{revision}"


WHOLE = sorted(f"{folder()}/{name}" for name in [*NEEDED, "lock.json"])


def test_a_pinned_model_comes_once_with_only_what_it_needs(ask, hub: Hub, tmp_path: Path) -> None:
    code, said = ask()
    assert code == 0, said
    graph = tmp_path / "cache" / folder() / "onnx" / "model.onnx"
    assert said.split() == [str(graph), COMMIT, "cls"]
    assert cached(tmp_path) == WHOLE
    assert graph.read_bytes() == FILES["onnx/model.onnx"]
    lock = json.loads((graph.parents[1] / "lock.json").read_text())
    assert (lock["repo"], lock["revision"], sorted(lock["files"])) == (REPO, COMMIT, NEEDED)
    for name, entry in lock["files"].items():
        assert entry["sha256"] == hashlib.sha256(FILES[name]).hexdigest()

    asked = len(hub.asked)
    code, said = ask(HF_HUB_OFFLINE="1")
    assert (code, said.split()[0]) == (0, str(graph))
    assert len(hub.asked) == asked


def test_a_model_without_pinned_hashes_needs_a_revision_once(ask, hub, tmp_path: Path) -> None:
    code, said = ask("unpinned")
    assert (code, "give one by revision=" in said, hub.asked) == (3, True, [])
    code, said = ask("unpinned", revision="v1")
    assert code == 0, said
    assert said.split()[1:] == [COMMIT, "cls"]
    asked = len(hub.asked)
    assert ask("unpinned")[0] == 0
    assert len(hub.asked) == asked


SETTINGS = {"tokenizer.json": b"{}", "config.json": b"{}", "sub/notes.json": b"{}"}


@pytest.mark.parametrize(
    ("files", "kept"),
    [
        (
            {"model.onnx": b"graph", "model.onnx_data": b"weights", "onnx/model_O3.onnx": b""},
            ["model.onnx", "model.onnx_data"],
        ),
        ({"onnx/model_quantized.onnx": b"graph", "onnx/model_fp16.onnx": b""}, None),
        ({"model_optimized.onnx": b"graph", "model.safetensors": b""}, ["model_optimized.onnx"]),
    ],
)
def test_the_graph_is_chosen_before_anything_comes(ask, hub: Hub, tmp_path, files, kept) -> None:
    hub.files = {**SETTINGS, **files}
    code, said = ask(REPO, revision="v1")
    assert code == 0, said
    kept = kept or ["onnx/model_quantized.onnx"]
    assert said.split()[0] == str(tmp_path / "cache" / folder("v1") / kept[0])
    names = ["config.json", "tokenizer.json", "lock.json", *kept]
    assert cached(tmp_path) == sorted(f"{folder('v1')}/{name}" for name in names)


def test_weights_of_an_image_model_come_as_a_graph_does(ask, hub: Hub, tmp_path: Path) -> None:
    hub.files = {"model.safetensors": b"weights", "README.md": b"not needed"}
    code, said = ask(REPO, revision="v1", shown="model.weights, model.revision")
    assert code == 0, said
    assert said.split() == [str(tmp_path / "cache" / folder("v1") / "model.safetensors"), COMMIT]
    names = ["model.safetensors", "lock.json"]
    assert cached(tmp_path) == sorted(f"{folder('v1')}/{name}" for name in names)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"config.json": b"{}", "model.safetensors": b""}, "maker/tiny-model at v1: no ONNX graph"),
        ({"model.onnx": b"graph"}, "maker/tiny-model at v1: no tokenizer.json"),
    ],
)
def test_a_repository_without_a_model_is_left_there(ask, hub, tmp_path, files, says: str) -> None:
    hub.files = files
    code, said = ask(REPO, revision="v1")
    assert code == 3, said
    assert says in said
    assert not cached(tmp_path)
    assert not any("resolve" in asked for asked in hub.asked)


def test_offline_asks_nobody(ask, hub: Hub, tmp_path: Path) -> None:
    code, said = ask(HF_HUB_OFFLINE="1")
    assert code == 3
    assert "HF_HUB_OFFLINE is set" in said
    assert not hub.asked
    assert not cached(tmp_path)


def test_a_wrong_hash_keeps_nothing(ask, tmp_path: Path) -> None:
    code, said = ask(sha="0" * 64)
    assert code == 3
    assert f"expected {'0' * 64}" in said
    assert not cached(tmp_path)


def test_a_connection_that_ends_is_taken_up_again(ask, hub: Hub, tmp_path: Path) -> None:
    # The hub's client writes, and counts, 10 MiB at a time.
    graph = bytes(range(256)) * (12 << 12)
    came = 11 << 20
    hub.files["onnx/model.onnx"] = graph
    hub.cut["onnx/model.onnx"] = (came, 1)
    code, said = ask(sha=hashlib.sha256(graph).hexdigest())
    assert code == 0, said
    (wanted,) = hub.ranges
    first = int(wanted.removeprefix("bytes=").removesuffix("-"))
    assert 10 << 20 <= first <= came
    assert cached(tmp_path) == WHOLE


def test_a_file_that_never_comes_whole_keeps_nothing(ask, hub: Hub, tmp_path: Path) -> None:
    hub.cut["onnx/model.onnx"] = (0, 1000)
    code, said = ask(before="import time; time.sleep = lambda seconds: None")
    assert code == 3, said
    assert not cached(tmp_path)


@pytest.mark.parametrize(
    ("ways", "says"),
    [
        ({"name": "maker/other", "revision": "v1"}, "no such model or revision"),
        ({"name": "tiny", "revision": "v9"}, "no such model or revision"),
        ({"status": 429}, "wait some minutes"),
    ],
)
def test_a_refusal_says_what_to_do(ask, hub: Hub, tmp_path: Path, ways, says: str) -> None:
    hub.status = ways.pop("status", None)
    code, said = ask(before="import time; time.sleep = lambda seconds: None", **ways)
    assert code == 3, said
    assert says in said
    assert not cached(tmp_path)


def test_a_server_that_is_gone_is_reported(ask, tmp_path: Path) -> None:
    code, said = ask(HF_ENDPOINT="http://127.0.0.1:9", before="import time; time.sleep = print")
    assert code == 3, said
    assert "network: maker/tiny-model at" in said
    assert not cached(tmp_path)


FULL_DISK = """
import errno, io, pathlib
class Full:
    def __init__(self, file): self.file = file
    def __enter__(self): return self
    def __exit__(self, *about): self.file.close()
    def __getattr__(self, name): return getattr(self.file, name)
    def write(self, data):
        if self.file.tell() + len(data) > 50_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(data)
real = pathlib.Path.open
def limited(path, mode="r", *args, **more):
    file = real(path, mode, *args, **more)
    return Full(file) if "b" in mode and ("w" in mode or "a" in mode) else file
pathlib.Path.open = limited
"""
SMALL_FILES_ONLY = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
"""


@pytest.mark.parametrize("before", [FULL_DISK, SMALL_FILES_ONLY])
def test_a_full_disk_is_named_and_keeps_nothing(ask, tmp_path: Path, before: str) -> None:
    if "resource" in before and sys.platform == "win32":
        pytest.skip("Windows has no limit on the size of files")
    code, said = ask(before=before)
    assert code == 3, said
    assert f"no room in {tmp_path / 'cache'}" in said
    assert not cached(tmp_path)


def wait_for_download(hub: Hub, processes: list[subprocess.Popen[str]]) -> None:
    """Until each of the processes waits for the graph."""
    deadline = time.monotonic() + 100
    while sum("GET" in a and "onnx" in a for a in hub.asked) < len(processes):
        assert time.monotonic() < deadline
        assert all(p.poll() is None for p in processes)
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_an_interrupted_download_starts_anew(start, ask, hub: Hub, tmp_path: Path) -> None:
    hub.delay.clear()
    process = start(before="import signal; signal.signal(2, signal.default_int_handler)")
    wait_for_download(hub, [process])
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    hub.delay.set()
    _, err = process.communicate(timeout=60)
    assert process.returncode not in (0, 3)
    assert "KeyboardInterrupt" in err
    assert not cached(tmp_path)
    assert ask()[0] == 0
    assert cached(tmp_path) == WHOLE


def test_a_killed_download_leaves_nothing_that_counts(start, ask, hub, tmp_path: Path) -> None:
    hub.delay.clear()
    process = start()
    wait_for_download(hub, [process])
    process.kill()
    process.communicate(timeout=60)
    hub.delay.set()
    assert not (tmp_path / "cache" / folder()).exists()
    (left,) = (tmp_path / "cache").iterdir()
    assert left.name.startswith(PARTIAL)
    assert ask(HF_HUB_OFFLINE="1")[0] == 3
    assert ask()[0] == 0
    assert [name for name in cached(tmp_path) if not name.startswith(PARTIAL)] == WHOLE


@pytest.mark.parametrize("damaged", [False, True])
def test_two_processes_may_fetch_at_once(start, ask, hub: Hub, tmp_path: Path, damaged) -> None:
    if damaged:
        assert ask()[0] == 0
        (tmp_path / "cache" / folder() / "onnx" / "model.onnx").write_bytes(b"cut short")
        hub.asked.clear()
    hub.delay.clear()
    both = [start(), start()]
    wait_for_download(hub, both)
    hub.delay.set()
    for process in both:
        out, err = process.communicate(timeout=100)
        assert process.returncode == 0, out + err
    assert cached(tmp_path) == WHOLE


def test_a_place_that_another_process_clears_and_fills_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, final = tmp_path / "mine", tmp_path / "cache" / "v1"
    for path in (mine / "new", final / "damaged"):
        path.mkdir(parents=True)
    seen: list[list[str]] = []

    def is_whole(folder: Path) -> bool:
        seen.append([path.name for path in folder.iterdir()])
        if len(seen) == 1:  # another process moves it aside now, as we are about to
            final.rename(tmp_path / "moved")
        if len(seen) == 2:
            final.rename(tmp_path / "moved again")
            (final / "theirs").mkdir(parents=True)
        return False

    replace = Path.replace

    def refill(path: Path, target: Path) -> Path:
        if path == mine and len(seen) == 1:  # and leaves one that is damaged too
            (tmp_path / "moved").rename(final)
        return replace(path, target)

    monkeypatch.setattr(download, "_is_whole", is_whole)
    monkeypatch.setattr(Path, "replace", refill)
    download._install(mine, final, tmp_path / "aside")
    assert seen == [["damaged"], ["damaged"]]
    assert [path.name for path in final.iterdir()] == ["new"]
    assert [path.name for path in (tmp_path / "aside").glob("*/*")] == ["theirs"]


def test_a_damaged_folder_is_fetched_again(ask, hub: Hub, tmp_path: Path) -> None:
    assert ask()[0] == 0
    graph = tmp_path / "cache" / folder() / "onnx" / "model.onnx"
    graph.write_bytes(b"cut short")
    code, said = ask(HF_HUB_OFFLINE="1")
    assert code == 3
    code, said = ask()
    assert code == 0, said
    assert graph.read_bytes() == FILES["onnx/model.onnx"]
    assert cached(tmp_path) == WHOLE
