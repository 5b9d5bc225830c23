"""The packages of every extra, doing their work, write nothing outside the folder they are
given and call nobody: watched from the kernel's side, without a network, with a home of
their own, and without the settings by which a user may have turned telemetry off."""

from __future__ import annotations

import os
import re
from importlib.metadata import metadata, requires
from pathlib import Path

import pytest
from hub_stub import COMMIT, REPO, Hub, serve
from installed import MINILM, need
from packaging.requirements import Requirement
from watched import watch

BEGIN = """
import asyncio, importlib, pkgutil, sys, time
import numpy as np
import ruvector
from ruvector import cli
rows = np.random.default_rng(1).standard_normal((300, 8), dtype=np.float32)
"""
# Time for threads in the background to begin.
END = """
time.sleep(1.5)
print("IMPORTED", *sys.modules)
"""
EMBED = """
import huggingface_hub
for offline in (True, False):
    made = ruvector.Embedder.from_pretrained("all-MiniLM-L6-v2", local_files_only=offline)
    made.embed_batch(["one", "two " * 300])
assert cli.main(["models", "list"]) == 0
"""
IMAGE = """
import mobilenet_reference
from PIL import Image
mobilenet_reference.save(mobilenet_reference.state_dict(), "model.safetensors")
for name in ("x.png", "x.jpg", "x.gif", "x.tiff", "x.webp"):
    Image.new("RGB", (30, 20), (200, 100, 50)).save(name)
    ruvector.Embedder.from_pretrained("model.safetensors").embed_image(name)
"""
PARQUET = """
import pyarrow, pyarrow.parquet
column = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(rows.ravel()), 8)
pyarrow.parquet.write_table(pyarrow.table({"v": column}), "x.parquet")
assert cli.main("build x.parquet -o x.rbpx".split()) == 0
assert cli.main("search x.rbpx x.parquet -o ids.parquet".split()) == 0
"""
AGENT = """
import ruvector.a2a
for module in pkgutil.walk_packages(ruvector.a2a.__path__, "ruvector.a2a."):
    importlib.import_module(module.name)
from cryptography.hazmat.primitives.asymmetric import ed25519
from ruvector.a2a.identity import verify_ed25519
key = ed25519.Ed25519PrivateKey.generate()
assert verify_ed25519(key.public_key().public_bytes_raw(), key.sign(b"x"), b"x")
async def ask():
    try:
        await ruvector.A2aClient.connect("http://127.0.0.1:9")
    except ruvector.A2aError:
        print("asked")
asyncio.run(ask())
"""
EXTRAS = {"agent": AGENT, "embed": EMBED, "image": IMAGE, "parquet": PARQUET, "text": EMBED}
# Where a distribution and what it holds differ in more than a hyphen.
MODULES = {"pillow": "PIL", "huggingface-hub": "huggingface_hub"}


def modules_of(extra: str) -> set[str]:
    """What the packages an extra asks for are imported as, by the package's metadata."""
    found: set[str] = set()
    for line in requires("ruvector") or ():
        wanted = Requirement(line)
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            continue
        if not wanted.marker.evaluate({"extra": extra}):
            continue
        if wanted.name == "ruvector":
            found |= set().union(*map(modules_of, wanted.extras))
        else:
            found.add(MODULES.get(wanted.name, wanted.name))
    return found


def test_every_extra_is_watched() -> None:
    assert set(metadata("ruvector").get_all("Provides-Extra") or ()) == set(EXTRAS)


@pytest.mark.parametrize("extra", [extra for extra in EXTRAS if extra != "text"])
def test_an_extra_keeps_to_itself(extra: str, tmp_path: Path) -> None:
    modules = modules_of(extra)
    assert modules
    need(*modules, *{"embed": MINILM, "image": ("safetensors",)}.get(extra, ()))
    seen = watch(BEGIN + EXTRAS[extra] + END, tmp_path)
    imported = set(re.search("^IMPORTED (.*)", seen.output, re.MULTILINE)[1].split())
    assert modules <= imported
    assert (seen.written, seen.asked) == ([], [])
    assert not list((tmp_path / "home").rglob("*"))


def test_text_is_another_name_of_embed() -> None:
    assert modules_of("text") == modules_of("embed")


def test_what_it_would_find(tmp_path: Path) -> None:
    code = """
import os, ruvector, socket, threading
os.makedirs(os.path.expanduser("~/.cache/device"))
open(os.path.expanduser("~/.cache/device/id"), "w").close()
def call():
    try:
        socket.getaddrinfo("events.invalid", 443)
        socket.create_connection(("192.0.2.1", 443), timeout=1)  # RFC 5737: nobody's
    except OSError:
        pass
    try:
        socket.create_connection(("192.0.2.1", 443), timeout=1)
    except OSError:
        pass
thread = threading.Thread(target=call)
thread.start()
thread.join()
"""
    seen = watch(code, tmp_path)
    home = tmp_path / "home" / ".cache"
    assert {str(home), str(home / "device" / "id")} <= set(seen.written)
    assert any("192.0.2.1" in call for call in seen.asked)
    assert any("/etc/" in call for call in seen.asked)


# ---- decisions ----------------------------------------------------------------------


ASKED = """
import os, sys
before = dict(os.environ)
{before}
import ruvector
ruvector.Embedder.from_pretrained("all-MiniLM-L6-v2", local_files_only=True)
print({{k: v for k, v in os.environ.items() if before.get(k) != v}})
"""


@pytest.mark.parametrize("value", ["0", "", "1"])
def test_what_the_user_decided_stays(run_python, tmp_path: Path, value: str) -> None:
    need(*MINILM)
    done = run_python(ASKED.format(before=""), ORT_DISABLE_TELEMETRY=value, HOME=str(tmp_path))
    assert (done.returncode, done.stdout.strip()) == (0, "{}"), done.stderr


def test_too_late_is_told(run_python, tmp_path: Path) -> None:
    """By one that is silent and says it is another: it must not begin to send here."""
    need(*MINILM)
    for version, warns in (("1.29.0", True), ("1.28.1", False)):
        before = f"""
import onnxruntime
onnxruntime.__version__ = {version!r}
del os.environ["ORT_DISABLE_TELEMETRY"]"""
        code = ASKED.format(before=before)
        done = run_python(code, HOME=str(tmp_path), ORT_DISABLE_TELEMETRY="1")
        assert done.returncode == 0, done.stderr
        assert ("RuntimeWarning: onnxruntime was imported before" in done.stderr) is warns
        line = 1 + code.splitlines().index(
            'ruvector.Embedder.from_pretrained("all-MiniLM-L6-v2", local_files_only=True)'
        )
        assert done.stderr.startswith(f"<string>:{line}: ") is warns


def test_first_is_told_nothing(run_python, tmp_path: Path, monkeypatch) -> None:
    need(*MINILM)
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    done = run_python(ASKED.format(before=""), HOME=str(tmp_path))
    assert (done.stdout.strip(), done.stderr) == ("{'ORT_DISABLE_TELEMETRY': '1'}", "")


def test_the_hub_is_asked_for_the_model_alone(run_python, tmp_path: Path, monkeypatch) -> None:
    """Of the client's own accord it would ask which programs call it, and say which did."""
    need("huggingface_hub")
    for name in list(os.environ):
        if name.startswith(("HF_", "HUGGING", "DO_NOT_TRACK", "DISABLE_TELEMETRY")):
            monkeypatch.delenv(name)
    files = {"onnx/model.onnx": b"graph", "tokenizer.json": b"{}"}
    with serve(files) as hub:
        done = pull(run_python, hub, tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(re.match(rf"(GET|HEAD) /(api/models/)?{REPO}\b", asked) for asked in hub.asked)
    assert all("agent/" not in told for told in hub.agents)
    written = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert written <= {"cache"}


def pull(run_python, hub: Hub, folder: Path):
    code = f"""
from ruvector.embed import models
models.pull({REPO!r}, revision={COMMIT!r})
"""
    return run_python(
        code,
        HOME=str(folder),
        HF_ENDPOINT=hub.url,
        RUVECTOR_CACHE=str(folder / "cache"),
        AI_AGENT="some-program",
        no_proxy="127.0.0.1",
    )
