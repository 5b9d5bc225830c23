"""The version stands in meson.build, and every kind that Python packages may have builds."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import ruvector
from installed import need

need("mesonbuild")

ROOT = Path(__file__).parents[2]
LINE = re.compile(r"^  version: '(.*)',$", re.MULTILINE)
#: Some that PEP 440 lets follow three numbers.
SUFFIXES = ("rc1", ".post1", "b2.dev3")


def meson(*words: str) -> str:
    command = [sys.executable, "-m", "mesonbuild.mesonmain", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the C library is built from, with tests and tools left out."""
    copy = tmp_path_factory.mktemp("sources")
    for name in ("include", "src"):
        shutil.copytree(ROOT / name, copy / name)
    for name in ("meson.build", "meson.options", "LICENSE-MIT", "LICENSE-APACHE"):
        shutil.copy(ROOT / name, copy / name)
    return copy


def test_the_version_is_written_once_and_the_changelog_is_of_it():
    (version,) = LINE.findall((ROOT / "meson.build").read_text())
    assert version == ruvector.__version__
    numbers = re.match(r"\d+\.\d+\.\d+", version)[0]
    heading = next(
        line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")
    )
    assert numbers in heading


@pytest.mark.extras
@pytest.mark.skipif(sys.platform != "linux", reason="names of shared libraries as on Linux")
def test_the_library_takes_versions_between_releases(sources, tmp_path):
    text = (ROOT / "meson.build").read_text()
    build = tmp_path / "build"
    for suffix in SUFFIXES:
        version = "3.14.15" + suffix
        (sources / "meson.build").write_text(LINE.sub(f"  version: '{version}',", text))
        again = ("--reconfigure",) if build.exists() else ()
        meson("setup", *again, str(build), str(sources), "-Dtests=disabled")
        assert json.loads(meson("introspect", str(build), "--projectinfo"))["version"] == version
        targets = json.loads(meson("introspect", str(build), "--targets"))
        (shared,) = (t for t in targets if t["type"] == "shared library")
        assert [Path(f).name for f in shared["filename"]] == ["libruvector.so.3.14.15"]
        # what rv_version() and ruvector.__version__ give
        arguments = shared["target_sources"][0]["parameters"]
        assert f'-DRV_VERSION="{version}"' in arguments
        assert f"Version: {version}\n" in next(build.rglob("ruvector.pc")).read_text()
