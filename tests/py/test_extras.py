"""The command of an extra names what the metadata asks for, on this interpreter."""

from __future__ import annotations

import shlex
from importlib import metadata

import pytest
import ruvector._extras as extras
from installed import need

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
