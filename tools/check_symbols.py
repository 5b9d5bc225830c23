"""Names keep to their room: usage: check_symbols.py LIBRUVECTOR.so LIBRUVECTOR.a

Every global of an object file starts with the prefix of the folder it comes
from, and the shared library shows its users nothing but rv_ names.
"""

import re
import subprocess
import sys

ROOMS = {
    "base": ("rv_", "rvb_"),
    "embed": ("rv_", "rve_"),
    "kernel": ("rvk_",),
    "index": ("rv_", "rvx_"),
    "lake": ("rv_", "rvl_"),
}


def globals_of(path, *options):
    """(object file, symbol) of each global that `path` defines."""
    command = ["nm", "-A", "-g", "--defined-only", *options, path]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    for line in text.splitlines():
        where, _, name = line.rpartition(" ")
        yield where, name


def main(shared, static):
    wrong = [
        f"{shared} exports {name}"
        for _, name in globals_of(shared, "-D")
        if not name.startswith("rv_")
    ]
    seen = set()
    for where, name in globals_of(static):
        found = re.search(
            r"\b(base|embed|kernel|index|lake)_\w+\.c\.o|\b(avx\w+|neon)\.c\.o", where
        )
        if not found:
            wrong.append(f"{static}: cannot tell the room of {where}")
            continue
        room = found[1] or "kernel"
        seen.add(room)
        if not name.startswith(ROOMS[room]):
            wrong.append(f"src/{room} defines {name}, want {' or '.join(ROOMS[room])}")
    if seen != set(ROOMS):
        wrong.append(f"{static} has objects of {sorted(seen)} only")
    print("\n".join(wrong) or "every global name is in its room")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
