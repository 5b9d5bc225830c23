"""docs/architecture.md says which room may use which other, and the code keeps to it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)

# Headers of the system that only one room may know.
KNOWN_TO = {
    r"Python\.h": "python/ext/",
    r"numpy/.*": "python/ext/buffer.c",
    r"immintrin\.h|arm_neon\.h|cpuid\.h": "src/kernel/",
    r"windows\.h|process\.h|pthread\.h|unistd\.h|fcntl\.h|dirent\.h|sys/.*": "src/base/os",
}


def table(heading: str) -> dict[str, set[str]]:
    """From the first column of a table to the names in the second."""
    rows = PAGE.partition(f"| {heading} |")[2].partition("\n\n")[0].splitlines()[2:]
    columns = [row.split("|")[1:3] for row in rows]
    assert len(columns) > 5
    return {room.strip(" `"): set(re.findall(r"`([^`]+)`", may)) for room, may in columns}


ROOMS = table("Room")
MODULES = table("Module")


# ---- C ----


def sources():
    folders = ["include", "src", "python/ext"]
    return sorted(path for f in folders for path in (ROOT / f).rglob("*.[ch]"))


def room_of(path: str) -> str:
    return path if path in ROOMS else path.rpartition("/")[0]


def included(path: str, name: str) -> str:
    """The path of a header that is included by `name`."""
    for folder in (path.rpartition("/")[0], "include", "src"):
        if (ROOT / folder / name).exists():
            return f"{folder}/{name}"
    raise AssertionError(f"{path} includes {name}, which is not there")


def c_faults(path: str, text: str):
    room = room_of(path)
    for ours, systems in INCLUDE.findall(text):
        if ours:
            target = room_of(included(path, ours))
            if target != room and target.rpartition("/")[2] not in ROOMS[room]:
                yield f"{path} includes {ours}, and {room} may not"
        for pattern, place in KNOWN_TO.items():
            if systems and re.fullmatch(pattern, systems) and not path.startswith(place):
                yield f"{path} includes <{systems}>, which is for {place}"


def test_every_file_is_in_a_room():
    rooms = {room_of(path.relative_to(ROOT).as_posix()) for path in sources()}
    assert rooms == set(ROOMS)


def test_includes_point_down():
    read = {path.relative_to(ROOT).as_posix(): path.read_text() for path in sources()}
    assert [f for path, text in read.items() for f in c_faults(path, text)] == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("src/base/io.c", '#include "index/index_i.h"'),
        ("src/lake/load.c", '#include "kernel/kernel.h"'),
        ("src/index/scan.c", '#include "ruvector/lake.h"'),
        ("include/ruvector/index.h", '#include "base/base.h"'),
        ("src/lake/fs.c", "# include <sys/stat.h>"),
        ("python/ext/module.c", "#include <numpy/arrayobject.h>"),
    ],
)
def test_an_include_that_points_up_is_seen(path, line):
    assert len(list(c_faults(path, f"/* */\n{line}\n"))) == 1


# ---- Python ----


def module_of(name: str) -> str:
    """`ruvector` or the name below it: a.b.c is in a.b."""
    return ".".join(name.split(".")[:2]) if "." in name else name


def imports(path: Path):
    """Modules of this package that a file imports, wherever it does."""
    package = path.relative_to(ROOT / "python").with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = package[: len(package) - node.level + 1] if node.level else ()
            start = ".".join([*up, *([node.module] if node.module else [])])
            for alias in node.names:
                name = f"{start}.{alias.name}"
                yield name if start == "ruvector" and name in MODULES else start


def python_faults(path: Path):
    parts = path.relative_to(ROOT / "python").with_suffix("").parts
    module = module_of(".".join(part for part in parts if part != "__init__"))
    for name in map(module_of, imports(path)):
        target = name.removeprefix("ruvector.") if name != "ruvector" else name
        ours = name == "ruvector" or name.startswith("ruvector.")
        if ours and name != module and target not in MODULES[module]:
            yield f"{'/'.join(parts)} imports {name}, and {module} may not"


def modules():
    return sorted((ROOT / "python" / "ruvector").rglob("*.py"))


def test_every_module_is_in_the_table():
    parts = [path.relative_to(ROOT / "python").with_suffix("").parts for path in modules()]
    names = {module_of(".".join(p for p in part if p != "__init__")) for part in parts}
    assert names | {"ruvector._core"} == set(MODULES)


def test_imports_point_down():
    assert [fault for path in modules() for fault in python_faults(path)] == []


def test_an_import_that_points_up_is_seen(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    file = tmp_path / "python" / "ruvector" / "lake" / "new.py"
    file.parent.mkdir(parents=True)
    file.write_text("def f():\n    from ..a2a import x\n    from . import y\n    import json\n")
    assert list(python_faults(file)) == [
        "ruvector/lake/new imports ruvector.a2a, and ruvector.lake may not"
    ]
    file.write_text("from ruvector import RuLake\n")
    assert len(list(python_faults(file))) == 1
