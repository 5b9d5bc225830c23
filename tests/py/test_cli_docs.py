"""The commands of docs/cli.md print what it says, and it names every command and option."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import pytest
from ruvector import cli

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
FENCE = re.compile(r"^```(python|console)\n((?:.*\n)*?)```$", re.MULTILINE)
COMMAND = re.compile(r"^\$ ruvector (.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)


def run(line: str, capsys) -> str:
    """What a shell would show, its exit code if it is not 0."""
    code = cli.main(shlex.split(line))
    out, err = capsys.readouterr()
    return out + err + (f"exit code {code}\n" if code else "")


def test_the_commands_of_the_page(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    ran = 0
    for kind, block in FENCE.findall(PAGE.read_text()):
        if kind == "python":
            exec(block, names)
            continue
        for line, expected in COMMAND.findall(block):
            got = run(line, capsys)
            same = doctest.OutputChecker().check_output(expected, got, doctest.ELLIPSIS)
            assert same, f"{line}\nprinted\n{got}"
            ran += 1
    assert ran >= 10


def test_a_wrong_page_is_noticed(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert "exit code 1" in run("info nothing.rbpx", capsys)
    found = COMMAND.findall("$ ruvector info x\none\ntwo\n$ ruvector verify y\n")
    assert found == [("info x", "one\ntwo\n"), ("verify y", "")]


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_and_option_is_on_the_page(command, capsys) -> None:
    page = PAGE.read_text()
    assert f"[`{command}`](#" in page
    if command in ("models", "a2a"):
        return  # their own pages have these
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    options = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help", "--output"}
    assert not {option for option in options if option not in page}
