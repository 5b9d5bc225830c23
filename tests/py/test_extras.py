"""The command of an extra names what the metadata asks for, on this interpreter."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from importlib import metadata

import pytest
import ruvector._extras as extras
from installed import MINILM, need

need("packaging")
from packaging.requirements import Requirement  # noqa: E402

EXTRAS = metadata.metadata("ruvector").get_all("Provides-Extra")
PYTHONS = ("3.9", "3.10", "3.14")
PLATFORMS = ("linux", "darwin", "win32")


def wanted(requirements, extra, **environment):
    """By another implementation of markers."""
    parsed = [Requirement(text) for text in requirements]
    return {
        f"{r.name}{r.specifier}"
        for r in parsed
        if r.marker
        and r.marker.evaluate({**environment, "extra": extra})
        and not r.marker.evaluate({**environment, "extra": ""})
    }


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("extra", EXTRAS)
def test_every_extra_is_read_as_pip_reads_it(extra, platform, python, monkeypatch):
    environment = {"python_version": python, "sys_platform": platform}
    here = extras._environment(extra)
    monkeypatch.setattr(extras, "_environment", lambda extra: {**here, **environment})
    pip, install, *named = shlex.split(extras.install_command(extra, "unused"))
    assert (pip, install) == ("pip", "install")
    assert set(named) == wanted(metadata.requires("ruvector"), extra, **environment) != set()


@pytest.mark.parametrize(
    "marker",
    [
        'extra == "x"',
        "python_version >= '3.10' and extra == 'x'",
        '(python_version < "3.9" or sys_platform != "win32") and extra == "x"',
        '"3.10" <= python_version and extra == "x"',
        'extra == "x" or extra == "y"',
        'python_version > "3.2"',
    ],
)
@pytest.mark.parametrize("python", PYTHONS)
def test_markers_mean_what_they_mean_to_pip(marker, python, monkeypatch):
    requirements = [f"thing[a,b]<3,>=2.4; {marker}", "numpy>=1.22"]
    monkeypatch.setattr(extras, "_requirements", lambda: requirements)
    known = {**extras._environment("x"), "python_version": python, "sys_platform": "win32"}
    monkeypatch.setattr(extras, "_environment", lambda extra: {**known, "extra": extra})
    environment = {"python_version": python, "sys_platform": "win32"}
    expected = wanted(["thing<3,>=2.4; " + marker], "x", **environment)
    assert len(extras._packages("x")) == len(expected)
    assert extras._packages("x") in ([], ["thing[a,b]<3,>=2.4"])


def test_without_metadata_the_package_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(extras, "__file__", str(tmp_path / "ruvector" / "_extras.py"))
    assert extras.install_command("embed", "tokenizers") == 'pip install "tokenizers"'


def test_the_name_of_the_distribution_does_not_matter(monkeypatch, tmp_path):
    """Beside one of the index's name that is not ours, there is ours under another."""
    for name, file, package in (("ruvector", "client", "a"), ("another", "_extras", "b")):
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
            f'Requires-Dist: {package}; extra == "e"\n'
        )
        (folder / "RECORD").write_text(f"ruvector/{file}.py,sha256=x,1\n")
    monkeypatch.setattr(extras, "__file__", str(tmp_path / "ruvector" / "_extras.py"))
    assert extras.install_command("e", "unused") == 'pip install "b"'


def test_text_is_embed_by_another_name():
    commands = {extras.install_command(extra, "") for extra in ("text", "embed")}
    assert len(commands) == 1


def test_no_requirement_leads_back_to_the_name():
    assert [r for r in metadata.requires("ruvector") if Requirement(r).name == "ruvector"] == []


# ---- packages that are there and do not work --------------------------------------------

EMBED = "import ruvector; ruvector.Embedder.from_pretrained({!r})"
CONNECT = "import asyncio; from ruvector.a2a import A2aClient; asyncio.run(A2aClient.connect({!r}))"
USES = {
    "onnxruntime": (EMBED, "all-MiniLM-L6-v2", "embed"),
    "tokenizers": (EMBED, "all-MiniLM-L6-v2", "embed"),
    "PIL": ("from ruvector.embed import pixels; pixels.opened({!r}, 'image')", "x.png", "image"),
    "anyio": (CONNECT, "http://127.0.0.1:1", "agent"),
}
# What the dynamic linker says where a kernel forbids what the library asks for.
LINKER = "libx.so: cannot enable executable stack as shared object requires: Invalid argument"


def said(package, content, tmp_path):
    """What a program that uses `package` ends with, where that is a folder with `content`."""
    place = tmp_path / "first" / package
    place.mkdir(parents=True)
    (place / "__init__.py").write_text(content)
    code, argument, _ = USES[package]
    path = os.pathsep.join([str(tmp_path / "first"), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code.format(argument)],
        env={**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode != 0
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("package", ["onnxruntime", "tokenizers", "PIL", "anyio"])
def test_a_package_that_cannot_be_imported_is_not_called_missing(package, tmp_path):
    need("PIL", "anyio", *MINILM)
    error = said(package, f"raise ImportError({LINKER!r})", tmp_path)
    assert "installed and fails when it is imported" in error
    assert LINKER in error
    assert "not installed" not in error
    assert "pip install" not in error  # which finds it installed, and does nothing


@pytest.mark.parametrize("package", ["onnxruntime", "tokenizers", "PIL", "anyio"])
def test_a_package_that_is_missing_is_named_with_its_command(package, tmp_path):
    need("PIL", "anyio", *MINILM)
    error = said(package, f"raise ModuleNotFoundError(name={package!r})", tmp_path)
    assert error.endswith(f"not installed: {extras.install_command(USES[package][2], package)}")


def test_a_dependency_that_is_missing_is_named(tmp_path):
    need("anyio")
    error = said("anyio", "import no_such_dependency", tmp_path)
    assert "installed and fails" in error
    assert "no_such_dependency" in error


@pytest.mark.parametrize("package", ["onnxruntime", "tokenizers"])
def test_what_only_has_the_name_of_a_package_is_told_from_it(package, tmp_path):
    need(package, *MINILM)
    error = said(package, "", tmp_path)
    assert "EmbedError" in error
    assert str(tmp_path / "first" / package / "__init__.py") in error
    assert "remove or rename" in error


@pytest.mark.parametrize("package", ["onnxruntime", "tokenizers"])
def test_a_library_built_for_another_numpy_is_told(package, tmp_path):
    need(package, *MINILM)
    error = said(package, "raise AttributeError('_ARRAY_API not found')", tmp_path)
    assert "EmbedError" in error
    assert "_ARRAY_API not found" in error
