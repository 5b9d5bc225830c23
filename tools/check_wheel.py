"""Checks a built wheel: usage: check_wheel.py WHEEL

Its tag, its size, that it holds all of python/ruvector and nothing else; on Linux
also that the extension module uses no Python symbol newer than the limited API it
claims and exports only its init function (abi3audit reads the other systems' formats).
"""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from abi3info import DATAS, FUNCTIONS
from abi3info.models import PyVersion, Symbol

MAX_BYTES = 2 * 1024 * 1024
FLOOR = PyVersion(3, 9)
PACKAGE = Path(__file__).parents[1] / "python"


def dynamic_symbols(path, which):
    command = ["nm", "-D", which, path]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {line.split()[-1].partition("@")[0] for line in text.splitlines()}


def symbol_faults(module):
    exported = dynamic_symbols(module, "--defined-only")
    if exported != {"PyInit__core"}:
        yield f"exports {sorted(exported)}, want PyInit__core alone"
    undefined = dynamic_symbols(module, "--undefined-only")
    used = sorted(name for name in undefined if name.startswith(("Py", "_Py")))
    for name in used:
        entry = FUNCTIONS.get(Symbol(name)) or DATAS.get(Symbol(name))
        if entry is None:
            yield f"uses {name}, which is not in the stable ABI"
        elif entry.added > FLOOR:
            yield f"uses {name}, new in Python {entry.added}"
    if not used:
        yield "uses no Python symbol at all: not the extension module?"


def wheel_faults(wheel):
    windows = wheel.stem.endswith("win_amd64")
    tag = "cp310-abi3" if windows else f"cp{FLOOR.major}{FLOOR.minor}-abi3"
    module = "ruvector/_core.pyd" if windows else "ruvector/_core.abi3.so"
    if f"-{tag}-" not in wheel.name:
        yield f"tag of {wheel.name} is not {tag}"
    if wheel.stat().st_size > MAX_BYTES:
        yield f"{wheel.stat().st_size} bytes, at most {MAX_BYTES} wanted"
    wanted = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.glob("ruvector/**/*")
        if path.suffix in {".py", ".pyi", ".typed"}
    }
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as folder:
        files = {n for n in archive.namelist() if not n.endswith("/")}
        held = {n for n in files if ".dist-info/" not in n}
        for name in sorted((wanted | {module}) - held):
            yield f"lacks {name} (see python/meson.build)"
        for name in sorted(held - wanted - {module}):
            yield f"holds {name}, which is not part of the package"
        if module in held and "linux" in wheel.stem:
            yield from symbol_faults(archive.extract(module, folder))


def main(wheel):
    wheel = Path(wheel)
    faults = list(wheel_faults(wheel))
    for fault in faults:
        print(f"{wheel.name}: {fault}")
    if not faults:
        print(f"{wheel.name}: {wheel.stat().st_size} bytes, all in place")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
