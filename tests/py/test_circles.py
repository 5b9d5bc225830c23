"""Within a room no two files need each other, but for those docs/architecture.md names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
C_ROOMS = ("src/base", "src/kernel", "src/index", "src/embed", "src/lake", "python/ext")
PYTHON_ROOMS = tuple(
    f"python/ruvector{package}" for package in ("", "/a2a", "/cli", "/embed", "/lake")
)

Graph = "dict[str, set[str]]"


def circles(graph: Graph) -> set[frozenset[str]]:
    """The strongly connected components of more than one file."""
    reached = {}
    for start in graph:
        seen, ahead = set(), [start]
        while ahead:
            new = graph[ahead.pop()] - seen
            seen |= new
            ahead.extend(new)
        reached[start] = seen
    return {
        frozenset(b for b in reached[a] if a in reached[b])
        for a in graph
        if a in reached[a] and len(reached[a]) > 1
    }


# ---- C: a file needs the one that defines a function or variable it names ----

COMMENT = r"/\*.*?\*/|//[^\n]*|\\\n"
LITERAL = r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
NOISE = re.compile(f"{COMMENT}|{LITERAL}", re.DOTALL)
DIRECTIVE = re.compile(r"^[ \t]*#[ \t]*(\w+)[ \t]*(.*)$", re.MULTILINE)
NAME = r"[A-Za-z_]\w*"
TOKEN = re.compile(rf"{NAME}|[{{}}()\[;=]")


class Source:
    """What one C file defines, each with the names that its definition uses."""

    def __init__(self, text: str):
        text = NOISE.sub(" ", text)
        self.inline, self.public = {}, {}  # macros and static functions; what others see
        self.names: set[str] = set()
        for kind, rest in DIRECTIVE.findall(text):
            if kind == "define":
                name, *body = re.findall(NAME, rest)
                self.inline[name] = set(body)
        self.read(TOKEN.findall(DIRECTIVE.sub("", text)))

    def read(self, tokens: list[str]) -> None:
        depth, head, names = 0, [], set()
        for token in tokens:
            depth -= token == "}"
            names.add(token)
            if depth == 0 and token not in "{};":
                head.append(token)
            depth += token == "{"
            if depth == 0 and (token == ";" or (token == "}" and is_function(head))):
                self.declare(head, names, complete=token == "}")
                head, names = [], set()
        assert depth == 0

    def declare(self, head: list[str], names: set[str], complete: bool) -> None:
        self.names |= names
        name = defined(head, complete)
        if name:
            static = any(t == "static" or t.endswith("_INLINE") for t in head)
            (self.inline if static else self.public)[name] = names


def is_function(head: list[str]) -> bool:
    return head[-1:] == [")"] and "=" not in head and "typedef" not in head


def defined(head: list[str], complete: bool) -> str | None:
    """The name of the function or variable that is defined by what is outside its braces."""
    if complete:
        depth = 0
        for i in range(len(head) - 1, 0, -1):
            depth += (head[i] == ")") - (head[i] == "(")
            if depth == 0:
                return head[i - 1]
    declarator = head[: min((head.index(t) for t in "[=" if t in head), default=len(head))]
    tag = declarator[:1] and declarator[0] in ("struct", "union", "enum")
    if len(declarator) < (3 if tag else 2) or {"typedef", "extern", "("} & set(declarator):
        return None
    return declarator[-1]


def needs(sources: dict[str, Source]) -> Graph:
    """Who uses a macro or an inline function of a header uses all that it uses."""
    homes: dict[str, set[str]] = {}
    inline: dict[str, set[str]] = {}
    for path, source in sources.items():
        if path.endswith(".h"):
            for name, names in source.inline.items():
                inline[name] = inline.get(name, set()) | names
        else:
            for name in source.public:
                homes.setdefault(name, set()).add(path)
    graph = {}
    for path, source in sources.items():
        named = set().union(source.names, *source.inline.values())
        ahead = list(named)
        while ahead:
            new = inline.get(ahead.pop(), set()) - named
            named |= new
            ahead.extend(new)
        named -= source.inline.keys() | source.public.keys()
        graph[path] = set().union(*(homes.get(name, set()) for name in named)) - {path}
    return {path: graph[path] for path in sources if path.endswith(".c")}


def c_graph(room: str) -> Graph:
    paths = sorted((ROOT / room).glob("*.[ch]"))
    return needs({path.relative_to(ROOT).as_posix(): Source(path.read_text()) for path in paths})


# ---- Python: a module needs those it imports, wherever it does ----


def imports(tree: ast.AST, package: str):
    """Full names of modules, or of what is in them; none that only a type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for other in node.orelse:
                yield from imports(other, package)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            up = parts[: len(parts) + 1 - node.level] if node.level else []
            start = ".".join([*up, *filter(None, [node.module])])
            yield from (f"{start}.{alias.name}" for alias in node.names)
        else:
            yield from imports(node, package)


def python_graph(room: str) -> Graph:
    package = room.partition("/")[2].replace("/", ".")
    files = {path.stem: f"{room}/{path.name}" for path in sorted((ROOT / room).glob("*.py"))}
    graph = {}
    for file in files.values():
        names = imports(ast.parse((ROOT / file).read_text()), package)
        inside = {name[len(package) + 1 :] for name in names if name.startswith(f"{package}.")}
        first = {name.partition(".")[0] for name in inside}
        graph[file] = {
            files.get(name, files["__init__"])
            for name in first
            if not (ROOT / room / name).is_dir()
        } - {file}
    return graph


# ---- the table ----


def named() -> set[frozenset[str]]:
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = page.partition("| Circle |")[2].partition("\n\n")[0].splitlines()[2:]
    columns = [row.split("|")[1:3] for row in rows]
    assert all(reason.strip() for _, reason in columns)
    found = set()
    for files, _ in columns:
        room, *names = re.findall(r"`([^`]+)`", files)
        found.add(frozenset(f"{room}/{name}" for name in names))
    return found


def found() -> set[frozenset[str]]:
    graphs = [*map(c_graph, C_ROOMS), *map(python_graph, PYTHON_ROOMS)]
    assert all(len(graph) > 4 for graph in graphs)
    return set().union(*map(circles, graphs))


def test_the_circles_are_those_that_the_page_names():
    assert sorted(map(sorted, found())) == sorted(map(sorted, named()))


# ---- what makes a circle ----


def c_circles(**files: str) -> list[list[str]]:
    sources = {name.replace("_h", ".h").replace("_c", ".c"): t for name, t in files.items()}
    graph = needs({path: Source(text) for path, text in sources.items()})
    return [sorted(circle) for circle in circles(graph)]


@pytest.mark.parametrize(
    "b",
    [
        "int b(void) { return a(1); }",
        "int b(void) { return twice(1); }",  # an inline function of the header
        "int b(void) { return ADDED; }",  # a macro of the header
        "struct table b = {.call = {a}};",
        "const struct table b[] = {{a}, {0}};\nstatic int c(void) { return 1; }",
        "#ifdef X\n# define LIKE(x) \\\n  a(x)\n#endif\nint b(void) { return LIKE(1); }",
        "static int c(void) { return a(1); }\nstruct s *b(void) { return (void *)c(); }",
    ],
)
def test_two_files_that_need_each_other_are_a_circle(b):
    header = (
        "int a(int);\n#define ADDED INNER\n#define INNER a(2)\n"
        "static inline int twice(int x) { return 2 * a(x); }\n"
    )
    a = "int a(int x) { return x ? (int)(long)&b : 0; }"
    assert c_circles(i_h=header, a_c=a, b_c=b) == [["a.c", "b.c"]]


@pytest.mark.parametrize(
    "b",
    [
        "int b(void); /* after a(1) */",
        'const char *b = "a";',
        "static int a(int x) { return x; }\nint b(void) { return a(1); }",
        "extern int b;",
        "typedef struct b { int x; } b;",
        "int other(int b) { return b + '\"' + a(1); }",
    ],
)
def test_a_comment_a_text_or_a_name_of_ones_own_is_no_need(b):
    a = "int a(int x) { return x ? (int)(long)&b : 0; }"
    assert c_circles(a_c=a, b_c=b) == []


def test_longer_ways_and_each_circle_are_seen():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": {"d"}, "f": {"a"}}
    assert sorted(map(sorted, circles(graph))) == [["a", "b", "c"], ["d", "e"]]


@pytest.mark.parametrize(
    ("line", "is_need"),
    [
        ("from .b import x", True),
        ("from . import b", True),
        ("from p.b import x", True),
        ("import p.b", True),
        ("def f():\n    from .b import x", True),
        ("class C:\n    def f(self):\n        if self:\n            from . import b", True),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .b import x", False),
        ("from .c import b", False),
        ("import b", False),
    ],
)
def test_an_import_is_a_need_wherever_it_is(line, is_need, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    room = tmp_path / "python" / "p"
    room.mkdir(parents=True)
    for name in ("__init__", "c"):
        (room / f"{name}.py").write_text("")
    (room / "a.py").write_text(line + "\n")
    (room / "b.py").write_text("from .a import y\n")
    assert bool(circles(python_graph("python/p"))) == is_need
