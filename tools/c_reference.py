"""The C reference as Markdown, from the comments of the public headers.

A comment speaks of the declarations below it, up to the next comment or blank line. Comments
of the form `/* ---- name ---- */` are headings. What is between `#if` and `#endif` is left out:
the guards, `extern "C"`, the macro of exported names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HEADERS = ("ruvector.h", "index.h", "lake.h", "embed.h")

COMMENT = re.compile(r"/\*(.*?)\*/", re.DOTALL)
SECTION = re.compile(r"/\* -{3,} (.*?) -{3,} \*/")
FUNCTION = r"^RV_API\b[^(]*?\b(\w+)\("
TYPE = r"^\} (\w+);|^typedef .*\} (\w+);|^typedef [^{(;]*?\b(\w+)(?:\[[^\]]*\])?;"
CALLBACK = r"^typedef [^{;]*?\(\*(\w+)\)"
NAME = re.compile(f"{FUNCTION}|{TYPE}|{CALLBACK}", re.MULTILINE)
MARKUP = re.compile(r"(`[^`]*`)|[*<\[\\]")  # what Markdown would take for its own
MACRO = re.compile(r"^#define (\w+)", re.MULTILINE)


class Item(NamedTuple):
    comment: str
    code: str


def render(include: Path) -> str:
    parts = [
        "# C reference\n\nFrom the headers' own comments; [From C](c-api.md) has the rules they "
        "share and a first program.\n"
    ]
    for name in HEADERS:
        about, rest = split((include / name).read_text())
        parts.append(f"## ruvector/{name}\n\n{prose(about)}")
        for item in items(rest):
            section = SECTION.match(item.comment)
            if section:
                parts.append(f"**{section[1].capitalize()}**\n")
                continue
            code = item.code.replace("RV_API ", "")
            parts.append(f"### {heading(item.code)}\n\n{prose(item.comment)}\n```c\n{code}\n```\n")
    return "\n".join(parts)


def split(header: str) -> tuple[str, str]:
    """The header's first comment, and its declarations."""
    about = COMMENT.match(header)
    assert about
    body = header[about.end() :]
    body = re.sub(r"^#ifndef RUVECTOR_\w+_H\n#define .*\n|^#include .*\n", "", body, flags=re.M)
    body = re.sub(r"^#if.*?^#endif\n", "", body, flags=re.DOTALL | re.MULTILINE)
    return about[0], re.sub(r"^#endif\n", "", body, flags=re.MULTILINE)


def items(body: str) -> Iterator[Item]:
    """Each comment with what it speaks of. Lines go on while a brace or a macro is open."""
    comment, code, depth = "", [], 0
    lines = iter(body.splitlines())
    for line in lines:
        inside = depth > 0 or (code and code[-1].endswith("\\"))
        if not inside and (not line or line.startswith("/*")):
            if code or SECTION.match(comment):
                yield Item(comment, "\n".join(code))
                comment, code = "", []
            if line:
                while "*/" not in line:
                    line += "\n" + next(lines)
                comment = line
            continue
        depth += line.count("{") - line.count("}")
        code.append(line)
    if code:
        yield Item(comment, "\n".join(code))


def heading(code: str) -> str:
    """What is declared: functions and types, or else macros."""
    names = [next(filter(None, found)) for found in NAME.findall(code)] or MACRO.findall(code)
    if not names:
        raise ValueError(f"no name found in\n{code}")
    return ", ".join(f"`{name}`" for name in names)


def prose(comment: str) -> str:
    """A comment's paragraphs; those with a layout of their own stay as they are."""
    text = "".join(COMMENT.findall(comment))
    text = re.sub(r"^ \* ?", "", text, flags=re.MULTILINE).strip()
    result = []
    for paragraph in re.split(r"\n\s*\n", text):
        if re.search(r"^(  | ?- )", paragraph, re.MULTILINE):
            result.append(f"```text\n{paragraph}\n```\n")
        else:
            result.append(MARKUP.sub(lambda m: m[1] or f"\\{m[0]}", paragraph) + "\n")
    return "\n".join(result) if text else ""
