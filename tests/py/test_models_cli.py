"""`ruvector models list | pull | where | verify`, and `python -m ruvector` the same."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import mobilenet_reference
import pytest
from hub_stub import COMMIT, REPO, serve
from installed import need
from ruvector import cli
from ruvector.cli import models as commands
from ruvector.embed import models
from ruvector.embed.download import LOCK, PARTIAL
from ruvector.embed.registry import HUB_MODELS, HubModel

FILES = {"onnx/model.onnx": b"the graph", "tokenizer.json": b"{}"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One model known by name, an empty cache, no network."""
    pinned = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    known = {
        "tiny": HubModel(REPO, 5, "MIT", COMMIT, pinned),
        "other": HubModel("maker/other", 7, "Apache-2.0"),
    }
    for module in (models, commands):
        monkeypatch.setattr(module, "HUB_MODELS", known)
    monkeypatch.setattr(models, "PACKAGED_MODELS", {})
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("RUVECTOR_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache"


def downloaded(cache: Path, files: dict[str, bytes] = FILES) -> Path:
    """A folder as a download leaves it."""
    folder = cache / REPO.replace("/", "--") / COMMIT
    entries = {}
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        entries[name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    lock = {"repo": REPO, "revision": COMMIT, "files": entries}
    (folder / LOCK).write_text(json.dumps(lock))
    return folder


def command(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    code = cli.main(["models", *map(str, args)])
    out, err = capsys.readouterr()
    return code, out, err


def test_list_shows_what_is_known_and_where(cache: Path, capsys) -> None:
    folder = downloaded(cache)
    code, out, err = command(capsys, "list")
    assert (code, err) == (0, "")
    title, tiny, other, images = (line.split(maxsplit=4) for line in out.splitlines())
    assert title == ["name", "dim", "licence", "pinned", "here"]
    assert tiny == ["tiny", "5", "MIT", COMMIT[:8], f"ruvector cache {folder}"]
    assert other == ["other", "7", "Apache-2.0", "-", "-"]
    assert images == ["mobilenetv3-small", "576", "-", "-", "-"]


def test_every_listed_model_has_its_facts() -> None:
    assert set(HUB_MODELS) == {
        "all-MiniLM-L6-v2",
        "all-MiniLM-L12-v2",
        "bge-small-en-v1.5",
        "bge-base-en-v1.5",
        "multilingual-e5-small",
        "gte-small",
    }
    for model in HUB_MODELS.values():
        assert model.repo.count("/") == 1
        assert model.dim in (384, 768)
        assert model.licence in ("MIT", "Apache-2.0")
        assert (model.revision is None) == (not model.sha256)
        if model.revision is not None:
            assert len(bytes.fromhex(model.revision)) == 20
            assert set(model.sha256) == {"onnx/model.onnx", "tokenizer.json"}
        for digest in model.sha256.values():
            assert len(bytes.fromhex(digest)) == 32


def test_where_prints_the_files(cache: Path, capsys) -> None:
    folder = downloaded(cache)
    said = [str(folder / "onnx" / "model.onnx"), str(folder / "tokenizer.json")]
    assert command(capsys, "where", "tiny") == (0, "\n".join(said) + "\n", "")
    assert command(capsys, "where", REPO, "--revision", COMMIT)[1].split() == said
    code, out, err = command(capsys, "where", "tiny", "--revision", "v2")
    assert (code, out) == (1, "")
    assert "not asked, because local_files_only=True" in err


def test_where_prints_an_image_models_weights(cache: Path, capsys) -> None:
    need("safetensors")
    weights = cache / "mobilenetv3-small" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    mobilenet_reference.save(mobilenet_reference.state_dict(), weights)
    assert command(capsys, "where", "mobilenetv3-small") == (0, f"{weights}\n", "")


def test_the_cache_can_be_chosen(tmp_path: Path, capsys) -> None:
    folder = downloaded(tmp_path / "elsewhere")
    assert command(capsys, "where", "tiny")[0] == 1
    code, out, _ = command(capsys, "where", "tiny", "--cache-dir", tmp_path / "elsewhere")
    assert (code, out.split()[0]) == (0, str(folder / "onnx" / "model.onnx"))


def test_pull_takes_what_is_there_and_tells_why_it_cannot(cache: Path, capsys) -> None:
    code, out, err = command(capsys, "pull", "tiny")
    assert (code, out) == (1, "")
    assert "tiny: not asked, because HF_HUB_OFFLINE is set" in err
    folder = downloaded(cache)
    code, out, err = command(capsys, "pull", "tiny")
    assert (code, out.split()[0], err) == (0, str(folder / "onnx" / "model.onnx"), "")
    code, _, err = command(capsys, "pull", "./tiny")
    assert (code, "is a path" in err) == (1, True)


def test_verify_finds_a_changed_file(cache: Path, capsys) -> None:
    folder = downloaded(cache)
    assert command(capsys, "verify") == (0, f"ok  {folder}\n", "")
    (folder / "tokenizer.json").write_bytes(b"[]")
    code, out, err = command(capsys, "verify")
    assert code == 1
    assert f"BAD {folder}" in out
    assert f"{folder / 'tokenizer.json'}: SHA-256 is" in out
    assert "delete these folders and pull again" in err


def test_verify_holds_a_pinned_model_against_the_registry(cache: Path, capsys) -> None:
    # As it came, but not the pinned file: someone put another lock beside it.
    folder = downloaded(cache, {**FILES, "onnx/model.onnx": b"another graph"})
    code, out, _ = command(capsys, "verify")
    assert code == 1
    assert out.count(str(folder / "onnx" / "model.onnx")) == 1


def test_verify_names_a_lock_that_cannot_be_read(cache: Path, capsys) -> None:
    folder = downloaded(cache)
    (folder / LOCK).write_text('{"files": {"a": {}}}')
    code, out, _ = command(capsys, "verify")
    assert code == 1
    assert f"{folder / LOCK}: not readable" in out


def test_verify_names_downloads_that_did_not_end(cache: Path, capsys) -> None:
    assert command(capsys, "verify") == (0, "", "")
    left = cache / f"{PARTIAL}abc"
    left.mkdir(parents=True)
    code, out, err = command(capsys, "verify")
    assert (code, out) == (0, "")
    assert f"{left}: a download that did not end" in err


def test_all_of_it_for_machines(cache: Path, capsys) -> None:
    folder = downloaded(cache)
    graph, tokenizer = str(folder / "onnx" / "model.onnx"), str(folder / "tokenizer.json")
    tiny, other, images = map(json.loads, command(capsys, "list", "--json")[1].splitlines())
    assert tiny == {
        "name": "tiny",
        "dim": 5,
        "licence": "MIT",
        "pinned": COMMIT,
        "here": f"ruvector cache {folder}",
    }
    assert (other["pinned"], other["here"], images["licence"]) == (None, None, None)
    for name in ("where", "pull"):
        told = json.loads(command(capsys, name, "tiny", "--json")[1])
        assert told == {"files": [graph, tokenizer]}
    told = json.loads(command(capsys, "verify", "--json")[1])
    assert told == {"folder": str(folder), "ok": True, "why": []}
    (folder / "tokenizer.json").write_bytes(b"[]")
    code, out, _ = command(capsys, "verify", "--json")
    told = json.loads(out)
    assert (code, told["ok"]) == (1, False)
    assert all(tokenizer in reason for reason in told["why"])


def test_pull_where_and_verify_as_a_module(tmp_path: Path) -> None:
    need("huggingface_hub")
    with serve(dict(FILES)) as hub:
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "HF_ENDPOINT": hub.url,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "no_proxy": "127.0.0.1",
        }

        def run(*args: str, **more: str) -> str:
            return subprocess.run(
                [sys.executable, "-m", "ruvector", "models", *args],
                env={**env, **more},
                stdout=subprocess.PIPE,
                text=True,
                timeout=600,
                check=True,
            ).stdout

        graph = run("pull", REPO, "--revision", "v1").split()[0]
    folder = tmp_path / "cache" / REPO.replace("/", "--") / "v1"
    assert graph == str(folder / "onnx" / "model.onnx")
    assert run("where", REPO, HF_HUB_OFFLINE="1").split()[0] == graph
    assert run("verify") == f"ok  {folder}\n"
