"""What `mkdocs build` does besides: the C reference, and the files that pages link to.

Pages of docs/ link to examples, headers and the like outside of it. Those become part of the
site as plain text, under source/, so that every link leads somewhere without a network. The
pages' own sources go along as well, for readers of llms.txt.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import c_reference  # noqa: E402  (mkdocs loads this file by its path)

LINK = re.compile(r"(?<=\]\()(\.\./[^)\s#]+)")
# ```python demo: the second word is for the tests
FENCE = re.compile(r"^```(\w+) \w+$", re.MULTILINE)
LLMS = "llms.txt"


def outside(link: str, page: str) -> Path | None:
    """The file of the tree that a link of a page means, if it is not in docs/."""
    path = Path(os.path.normpath(Path("docs", page).parent / link))
    return None if path.parts[0] == "docs" else path


def with_links_inside(text: str, page: str) -> str:
    def moved(match: re.Match[str]) -> str:
        path = outside(match[0], page)
        return match[0] if path is None else f"{'../' * page.count('/')}source/{path}.txt"

    return LINK.sub(moved, text)


def on_files(files: Any, config: Any) -> Any:
    pages = [file.src_uri for file in files.documentation_pages()]
    content = c_reference.render(ROOT / "include/ruvector")
    files.append(File.generated(config, "c-reference.md", content=content))
    wanted = {
        outside(link, page)
        for page in (*pages, LLMS)
        for link in LINK.findall((ROOT / "docs" / page).read_text())
    }
    for path in wanted - {None}:
        if (ROOT / path).is_file():
            text = (ROOT / path).read_text()
            files.append(File.generated(config, f"source/{path}.txt", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    return FENCE.sub(r"```\1", with_links_inside(markdown, page.file.src_uri))


def on_post_build(config: Any) -> None:
    docs, site = Path(config["docs_dir"]), Path(config["site_dir"])
    for page in docs.rglob("*.md"):
        shutil.copy(page, site / page.relative_to(docs))
    check_reference((site / "reference.html").read_text())
    (site / LLMS).write_text(with_links_inside((docs / LLMS).read_text(), LLMS))


def check_reference(page: str) -> None:
    """mkdocstrings says nothing of a class whose members it did not find."""
    names = ("RabitqPlusIndex.search_batch", "LocalBackend.upsert", "RuLake.search_one")
    missing = [name for name in names if f'id="ruvector.{name}"' not in page]
    if missing:
        raise PluginError(f"reference.md: nothing was found of {', '.join(missing)}")
