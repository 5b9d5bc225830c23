"""The public interfaces beside those of the last tag: usage: api_diff.py [--since TAG] [LIBRARY]

C: every line that is in the listing of the tag's headers and not in today's is something
a program may no longer compile or run with. Python: what griffe calls a breaking change, of
what the modules in PUBLIC name. The exit code is 1 where either has one. LIBRARY,
libruvector.so, has to export just the functions its headers declare.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

import griffe

ROOT = Path(__file__).resolve().parents[1]
HEADERS = "include/ruvector"
PUBLIC = ("ruvector", "ruvector.a2a", "ruvector.errors")  # what their __all__ names is public


def listing(text: str) -> list[str]:
    """A header as one line for each function, type, member and constant.

    Members carry their place, which is part of the binary interface.
    """
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL).replace("\\\n", " ")
    lines = []
    for name, value in re.findall(r"^#define[ \t]+(RV_\w+(?:\([^)]*\))?)[ \t]+(.+)$", text, re.M):
        if name != "RV_API":
            lines.append(f"#define {name} {' '.join(value.split())}")
    text = re.sub(r"^[ \t]*#.*$", "", text, flags=re.MULTILINE).replace('extern "C" {', "")
    # one level of braces: a struct or an enum with its members
    for head, members, tail in re.findall(r"([^;{}]+)(?:\{([^{}]*)\}([^;]*))?;", text):
        declaration = " ".join(f"{head} {tail}".split())
        lines.append(declaration)
        for place, member in enumerate(re.split(r"[;,]" if "enum" in head else ";", members)):
            if member.strip():
                lines.append(f"{declaration} [{place}] {' '.join(member.split())}")
    return sorted(lines)


def functions(lines: list[str]) -> set[str]:
    return {found[1] for line in lines if (found := re.match(r"RV_API .*?\b(rv_\w+)\(", line))}


def git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def last_tag() -> str | None:
    found = git("tag", "--merged", "HEAD", "--sort=-creatordate").split()
    return found[0] if found else None


def headers_now() -> list[str]:
    texts = [path.read_text() for path in sorted((ROOT / HEADERS).glob("*.h"))]
    return sorted(line for text in texts for line in listing(text))


def headers_at(tag: str) -> list[str]:
    paths = git("ls-tree", "-r", "--name-only", tag, HEADERS).split()
    return sorted(line for path in paths for line in listing(git("show", f"{tag}:{path}")))


def exports_differ(library: str, declared: set[str]) -> bool:
    command = ["nm", "-D", "--defined-only", library]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    exported = {line.split()[-1] for line in text.splitlines()}
    for name in sorted(exported ^ declared):
        print(f"{name} is {'declared' if name in declared else 'exported'} only")
    print(f"{library}: {len(exported)} functions exported, {len(declared)} declared")
    return exported != declared


def c_differs(tag: str, now: list[str]) -> bool:
    before = headers_at(tag)
    gone = [line for line in before if line not in now]
    new = [line for line in now if line not in before]
    print(f"C since {tag}: {len(gone)} lines gone or changed, {len(new)} new")
    for sign, lines in (("-", gone), ("+", new)):
        for line in lines:
            print(f"{sign} {line}")
    return bool(gone)


def package_in(folder: Path) -> griffe.Module:
    return griffe.load("ruvector", search_paths=[folder], resolve_aliases=True)


def public_names(package: griffe.Module) -> set[str]:
    """Where users find each public object, and where it and the classes it derives from are
    written."""
    names = set()
    for module in PUBLIC:
        below = module.partition(".")[2]
        if below and below not in package.members:
            continue
        place = package[below] if below else package
        for name in map(str, place.exports or ()):
            found = place[name]
            names |= {f"{module}.{name}", found.canonical_path}
            if found.is_class:
                names |= {base.canonical_path for base in found.mro()}
    return names


def python_faults(old: griffe.Module, new: griffe.Module) -> list[str]:
    """What breaks a program that uses public names only, sorted."""
    public = public_names(old)
    faults = set()
    for breakage in griffe.find_breaking_changes(old, new):
        parts = breakage.obj.path.split(".")
        if any(".".join(parts[:n]) in public for n in range(2, len(parts) + 1)):
            words = re.sub(r"\x1b\[\d+m", "", breakage.explain())
            faults.add(f"{breakage.obj.path}: {words.partition(': ')[2]}")
    return sorted(faults)


def python_differs(tag: str) -> bool:
    # load_git looks in a checkout of the tag, so its path has to be relative
    old = griffe.load_git(
        "ruvector", ref=tag, repo=ROOT, search_paths=["python"], resolve_aliases=True
    )
    faults = python_faults(old, package_in(ROOT / "python"))
    print(f"Python since {tag}: {len(faults)} that may break a program")
    for fault in faults:
        print(f"- {fault}")
    return bool(faults)


def main(arguments: list[str]) -> bool:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--since", metavar="TAG", help="instead of the last tag")
    parser.add_argument("library", nargs="?", metavar="LIBRARY")
    args = parser.parse_args(arguments)
    now = headers_now()
    wrong = bool(args.library) and exports_differ(args.library, functions(now))
    tag = args.since or last_tag()
    if tag is None:
        print(f"no tag yet: nothing to compare {len(now)} lines of C headers and Python with")
        return wrong
    return any([wrong, c_differs(tag, now), python_differs(tag)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
