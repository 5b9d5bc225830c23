"""What to install so that an optional part works, as a command that can be typed.

Names and versions come from the metadata of the installed copy, so the command is always that
of this version. It names the packages, never `ruvector[extra]`: pip would look for that on a
package index, where another project may have the name, and put it in the place of this one.
"""

from __future__ import annotations

import ast
import operator
import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_REQUIREMENT = re.compile(r"(?P<package>[^;]*[^;\s])\s*(?:;\s*(?P<marker>.*))?")
_COMPARE: dict[type[ast.cmpop], Any] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def install_command(extra: str, package: str) -> str:
    """A command that installs the packages of `extra`; `package` alone where there is no
    metadata to read, as in a program that was frozen into one file."""
    wanted = _packages(extra) or [package]
    return "pip install " + " ".join(f'"{name}"' for name in wanted)


def not_importable(why: BaseException, module: str, extra: str, package: str) -> str:
    """Why `module` cannot be used, as the end of a message, and what to do.

    A package that is there and fails when it is imported is not installed by a command that
    finds it installed.
    """
    missing = why.name if isinstance(why, ModuleNotFoundError) else None
    if missing and f"{module}.".startswith(f"{missing}."):
        return f"which is not installed: {install_command(extra, package)}"
    said = " ".join(str(why).split()) or type(why).__name__
    return f"which is installed and fails when it is imported ({type(why).__name__}: {said[:300]})"


def not_itself(module: Any, name: str, extra: str, package: str) -> str | None:
    """The same for what was imported instead of a package: a file of the same name, or what
    an uninstallation left. None where it has `name`."""
    if hasattr(module, name):
        return None
    where = getattr(module, "__file__", None) or ", ".join(getattr(module, "__path__", ()))
    return (
        f"but what is imported as {module.__name__!r} has no {name}: {where}; remove or rename "
        f"that, then: {install_command(extra, package)}"
    )


def _packages(extra: str) -> list[str]:
    """What `extra` asks for on this interpreter, with the versions that will do."""
    known = _environment(extra)
    # what holds whichever extra is asked for belongs to none
    plain = {**known, "extra": ""}
    return [
        package
        for package, marker in map(_split, _requirements())
        if marker and _holds(marker, known) and not _holds(marker, plain)
    ]


def _requirements() -> list[str]:
    """Of the distribution that holds this file, whatever its publisher calls it."""
    from importlib import metadata  # brings the email package, for a message that is rare

    here = Path(__file__)
    line = f"{here.parent.name}/{here.name},"
    for found in metadata.distributions(path=[str(here.parents[1])]):
        if line in (found.read_text("RECORD") or ""):
            return found.requires or []
    return []


def _split(requirement: str) -> tuple[str, str]:
    """A requirement's package with its versions, and its marker or nothing."""
    match = _REQUIREMENT.fullmatch(requirement)
    return (match["package"], match["marker"] or "") if match else (requirement, "")


def _environment(extra: str) -> dict[str, str]:
    """The variables of markers that requirements of ours use."""
    return {
        "extra": extra,
        "os_name": os.name,
        "platform_machine": platform.machine(),
        "platform_system": platform.system(),
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "sys_platform": sys.platform,
    }


def _holds(marker: str, known: Mapping[str, str]) -> bool:
    """Whether a marker is true. Its grammar is a part of Python's."""
    return _true(ast.parse(marker, mode="eval").body, known)


def _true(node: ast.expr, known: Mapping[str, str]) -> bool:
    if isinstance(node, ast.BoolOp):
        combine = all if isinstance(node.op, ast.And) else any
        return combine(_true(value, known) for value in node.values)
    if not isinstance(node, ast.Compare):
        raise ValueError(f"not a marker: {ast.dump(node)}")
    sides = (node.left, node.comparators[0])
    left, right = (known[s.id] if isinstance(s, ast.Name) else _literal(s) for s in sides)
    if any(isinstance(side, ast.Name) and side.id == "python_version" for side in sides):
        return bool(_COMPARE[type(node.ops[0])](_numbers(left), _numbers(right)))
    return bool(_COMPARE[type(node.ops[0])](left, right))


def _literal(node: ast.expr) -> str:
    return str(ast.literal_eval(node))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
