"""Homes and caches that cannot be read, or that are not there: the place is skipped and named,
and an installed package that holds the model works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from installed import MINILM, need
from ruvector import EmbedError, cli
from ruvector.embed import models

need(*MINILM)
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="rights are of another kind there")

# What lets root read everything.
READING = ",".join("-" + name for name in ("dac_override", "dac_read_search"))
NAME = "all-MiniLM-L6-v2"
ASK = """
import sys
from ruvector import EmbedError
from ruvector.embed.models import find_model
name = sys.argv[1]
try:
    print(find_model(name, local_files_only=True).source)
except EmbedError as why:
    print(*why.looked_in, sep="\\n")
"""


def as_others(*command: str, **env: str) -> str:
    """The output of a Python program that may not read what is not meant for it."""
    prefix = []
    if os.geteuid() == 0:
        prefix = ["setpriv", f"--bounding-set={READING}", f"--inh-caps={READING}"]
        if shutil.which("setpriv") is None:
            pytest.fail("setpriv (util-linux) is needed to give up root's rights", pytrace=False)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "XDG_", "RUVECTOR_C"))}
    kept.pop("HOME", None)
    done = subprocess.run(
        [*prefix, sys.executable, *command],
        env={**kept, "PYTHONPATH": os.pathsep.join(sys.path), **env},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.fixture
def locked(tmp_path: Path):
    """A folder that its owner alone may open, and who asks is somebody else."""
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0)
    yield folder
    folder.chmod(0o700)


def environment(variable: str, place: Path) -> dict[str, str]:
    return {"HOME": "/nonexistent", variable: str(place)}


VARIABLES = ["HOME", "RUVECTOR_CACHE", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"]


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_place_that_cannot_be_read_is_skipped_and_named(locked: Path, variable: str) -> None:
    env = environment(variable, locked)
    assert as_others("-c", ASK, NAME, **env).startswith("package folder")
    # A model that is nowhere: the list says what is wrong with that place.
    told = as_others("-c", ASK, "gte-small", **env).splitlines()
    assert [line.split(":")[0] for line in told] == [place for place, _ in models.PLACES]
    places = {"HOME": (1, 2), "RUVECTOR_CACHE": (1,)}.get(variable, (2,))
    for i in places:
        assert str(locked) in told[i]
        assert "Permission denied" in told[i]


@pytest.mark.parametrize("variable", ["RUVECTOR_CACHE", "HF_HOME"])
def test_a_file_in_place_of_a_folder(tmp_path: Path, variable: str) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert as_others("-c", ASK, NAME, **environment(variable, file)).startswith("package folder")
    told = as_others("-c", ASK, "gte-small", **environment(variable, file))
    assert str(file) in told


def copy_model(folder: Path) -> tuple[Path, Path]:
    found = models.find_model(NAME, cache_dir=folder / "none", local_files_only=True)
    folder.mkdir(parents=True, exist_ok=True)
    pair = folder / "model.onnx", folder / "tokenizer.json"
    for source, target in zip((found.graph, found.tokenizer), pair):
        target.symlink_to(source)
    return pair


@pytest.mark.parametrize("which", [0, 1])
def test_files_that_cannot_be_read_are_skipped(tmp_path: Path, which: int) -> None:
    cache = tmp_path / "cache"
    pair = copy_model(cache / NAME)
    env = environment("RUVECTOR_CACHE", cache)
    assert as_others("-c", ASK, NAME, **env).startswith("ruvector cache")
    pair[which].unlink()
    pair[which].write_text("x")
    pair[which].chmod(0)
    assert as_others("-c", ASK, NAME, **env).startswith("package folder")
    told = as_others("-c", ASK, str(cache / NAME), **env)
    assert f"{pair[which]}: Permission denied" in told


@pytest.fixture
def homeless(tmp_path: Path, monkeypatch) -> None:
    """A user whom the system does not know, as in containers, and no HOME."""
    import pwd

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in list(os.environ):
        if name in VARIABLES or name == "HF_HUB_CACHE":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("homeless")
def test_an_unknown_home_is_named(tmp_path: Path) -> None:
    assert models.find_model(NAME, local_files_only=True).source.startswith("package folder")
    with pytest.raises(EmbedError) as caught:
        models.find_model("gte-small", local_files_only=True)
    own, hub = caught.value.looked_in[1:3]
    assert "~/.cache/ruvector/models: the home is not known" in own
    assert own.endswith("set HOME or RUVECTOR_CACHE")
    assert "~/.cache/huggingface: the home is not known" in hub
    for asked in ("~/model", "mobilenetv3-small"):
        with pytest.raises(EmbedError, match="the home is not known"):
            models.find_model(asked, local_files_only=True)
    with pytest.raises(EmbedError, match="set HOME or RUVECTOR_CACHE"):
        models.pull("gte-small", revision="main")
    # Following the advice works, and nothing was written into a folder named ~.
    cache = tmp_path / "cache"
    copy_model(cache / NAME)
    found = models.find_model(NAME, cache_dir=cache, local_files_only=True)
    assert found.source.startswith("ruvector cache")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


@pytest.mark.usefixtures("homeless")
def test_the_commands_work_without_a_home(tmp_path: Path, capsys) -> None:
    assert cli.main(["models", "list"]) == 0
    assert "package folder" in capsys.readouterr().out
    assert cli.main(["models", "where", NAME]) == 0
    assert capsys.readouterr().out.count("\n") == 2
    assert cli.main(["models", "verify"]) == 1
    assert "set HOME or RUVECTOR_CACHE" in capsys.readouterr().err
    assert cli.main(["models", "verify", "--cache-dir", str(tmp_path / "none")]) == 0


def test_what_cannot_be_looked_through_is_not_verified(locked: Path) -> None:
    env = environment("RUVECTOR_CACHE", locked)
    told = as_others("-m", "ruvector", "models", "verify", **env)
    assert f"cannot be verified: {locked}: Permission denied" in told
    assert "package folder" in as_others("-m", "ruvector", "models", "list", **env)
    assert "model.onnx" in as_others("-m", "ruvector", "models", "where", NAME, **env)
