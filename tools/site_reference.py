"""The Python reference: what mkdocstrings is told of the package, as a griffe extension.

Signatures of the compiled part come from its stub, docstrings from the compiled part itself.
Docstrings become Markdown: what stands below each other as `name: text` becomes a list.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

# "ids, scores: text", with lines that go on indented
ENTRY = re.compile(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*): (?=\S)")
TITLE = re.compile(r"^(Args|Attributes|Raises|Returns|Yields):$")


def markdown(text: str) -> str:
    return "\n\n".join(map(paragraph, re.split(r"\n\s*\n", text)))


def paragraph(text: str) -> str:
    title, lines = "", text.splitlines()
    if TITLE.match(lines[0]):
        title = f"{lines[0]}\n\n"
        lines = inspect.cleandoc("\n" + "\n".join(lines[1:])).splitlines()
    if not any(map(ENTRY.match, lines)):
        return text
    result, listed = [], False
    for line in lines:
        entry = ENTRY.match(line)
        if entry:
            if result and not listed:
                result.append("")
            result.append(f"- `{entry[1]}`: {line[entry.end() :]}")
            listed = True
        else:
            result.append(line)
    return title + "\n".join(result)


class Reference(griffe.Extension):
    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        if pkg.name == "ruvector":
            pkg.members["_core"] = core = compiled(pkg)
            for name, member in core.members.items():  # what pointed at the old one
                if name in pkg.members and not member.is_alias:
                    pkg.members[name] = griffe.Alias(name, f"{core.path}.{name}", parent=pkg)


def compiled(package: griffe.Module) -> griffe.Module:
    """`_core` as its stub says, with the docstrings of the compiled module."""
    stub = Path(package["_core"].filepath).parent / "_core.pyi"
    core = griffe.visit("_core", stub, stub.read_text(), parent=package)
    module = importlib.import_module("ruvector._core")
    classes = [c for c in core.classes.values() if hasattr(module, c.name)]
    for cls in classes:
        cls.members.update(own_and_shared(core, cls))
        cls.bases = []
    for member in core.members.values():
        if not member.is_alias:  # what the stub imports
            describe(member, getattr(module, member.name, None))
    return core


def own_and_shared(core: griffe.Module, cls: griffe.Class) -> dict[str, Any]:
    """The members of a class and of the private classes of the stub it shares them with."""
    found: dict[str, Any] = {}
    order = itertools.count(1)
    for owner in line(core, cls):
        for name, member in owner.members.items():
            if name not in found:
                found[name] = own = copy.copy(member)
                own.parent, own.lineno = cls, next(order)
    return found


def line(core: griffe.Module, cls: griffe.Class) -> Iterator[griffe.Class]:
    yield cls
    for base in map(str, cls.bases):
        if base in core.classes:
            yield from line(core, core.classes[base])


def describe(member: Any, thing: Any) -> None:
    text = inspect.getdoc(thing) if thing is not None else None
    # not that of int, of tuple, or of an operator
    if text and not isinstance(thing, (int, str)) and not member.name.startswith("__"):
        member.docstring = griffe.Docstring(markdown(text), parent=member)
    if member.is_class:
        for inner in member.members.values():
            describe(inner, getattr(thing, inner.name, None))
