"""A release whose files are not of the name or the version that was meant is not uploaded."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "check_release.py"
WORKFLOW = ROOT / ".github" / "workflows" / "release.yml"


def check(version: str, name: str, *files: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), version, name, *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def files(tmp_path: Path):
    def make(name: str, version: str) -> tuple[Path, Path]:
        told = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\n# {name}\n"
        wheel = tmp_path / f"{name}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"{name}-{version}.dist-info/METADATA", told)
        sdist = tmp_path / f"{name}-{version}.tar.gz"
        with tarfile.open(sdist, "w:gz") as archive:
            for path in (f"{name}-{version}/PKG-INFO", f"{name}-{version}/tests/PKG-INFO"):
                entry = tarfile.TarInfo(path)
                entry.size = len(told)
                archive.addfile(entry, io.BytesIO(told.encode()))
        return wheel, sdist

    return make


@pytest.mark.parametrize("name", ["", "ours"])
def test_files_of_a_release_pass(files, name):
    assert check("0.2.0", name, *files("ours", "0.2.0")).returncode == 0


def test_faults_are_named(files):
    wheel, sdist = files("ours", "0.2.0")
    other, _ = files("other", "0.2.0")
    assert (
        "the name is ours, the index's is to be theirs"
        in check("0.2.0", "theirs", wheel, sdist).stdout
    )
    assert "version 0.2.0, the tag says 0.2.1" in check("0.2.1", "", wheel, sdist).stdout
    assert "names differ: other, ours" in check("0.2.0", "", wheel, sdist, other).stdout
    assert "no source package" in check("0.2.0", "", wheel).stdout
    assert check("0.2.0", "ours", wheel, sdist, other).returncode == 1


def test_nothing_is_uploaded_without_a_name():
    """Of the workflow: the check comes first, and the upload asks for the variable."""
    steps = re.split(r"^      - ", WORKFLOW.read_text(), flags=re.MULTILINE)
    (upload,) = [n for n, step in enumerate(steps) if "pypi-publish@" in step]
    (checked,) = [n for n, step in enumerate(steps) if "check_release.py" in step]
    assert checked < upload
    assert re.search(r"^        if: vars\.PYPI_NAME != ''$", steps[upload], re.MULTILINE)
    assert "PYPI_NAME: ${{ vars.PYPI_NAME }}" in steps[checked]
    assert '"$PYPI_NAME" dist/*' in steps[checked]
