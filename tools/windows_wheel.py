"""Packs Windows' wheel and tries it under wine. Usage:

windows_wheel.py pack WHEEL MODULE FOLDER  WHEEL of this machine, with MODULE, a _core.pyd
                                           of the same source, goes into FOLDER for Windows
windows_wheel.py try WHEEL PYTHON          WHEEL, in PYTHON, a folder that
                                           tools/windows_python.py made

Tried are: that kernels for more than plain C are found, that indexes and answers are byte
for byte those of the ruvector installed here, and the tests that pyproject.toml names for
every platform.
"""

import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

from wheel.wheelfile import WheelFile
from windows_python import TOP, VERSION, cibuildwheel

TAG = "cp310-abi3-win_amd64"


def lines_for_windows(text):
    """The lines of WHEEL, with its one tag changed."""
    for line in text.splitlines():
        yield f"Tag: {TAG}" if line.startswith("Tag: ") else line


def pack(wheel, module, folder):
    wheel, folder = Path(wheel), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    name = "-".join([*wheel.name.split("-")[:2], TAG]) + ".whl"
    with zipfile.ZipFile(wheel) as old, WheelFile(folder / name, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            content = old.read(entry)
            path = entry.filename
            if path.endswith(".dist-info/RECORD"):
                continue  # WheelFile writes it
            if path.startswith("ruvector/_core.") and path.endswith(".so"):
                path, content = "ruvector/_core.pyd", Path(module).read_bytes()
            elif path.endswith(".dist-info/WHEEL"):
                content = "".join(f"{line}\n" for line in lines_for_windows(content.decode()))
            new.writestr(path, content)


def python(folder, *arguments):
    """Runs it under wine and returns the lines it printed.

    It writes to a pipe: Python cannot open the files that wine gives it as its output.
    """
    command = ["wine", folder / "python.exe", *arguments]
    null, pipe, both = subprocess.DEVNULL, subprocess.PIPE, subprocess.STDOUT
    process = subprocess.Popen(command, cwd=TOP, stdin=null, stdout=pipe, stderr=both, text=True)
    printed = []
    for line in process.stdout:
        print(line, end="", flush=True)
        printed.append(line.strip())
    if process.wait():
        sys.exit(f"Under wine, {' '.join(map(str, arguments))} ended with {process.returncode}")
    return printed


def check_kernels(folder):
    program = "import ruvector; print(*ruvector.cpu_features()['available'])"
    if python(folder, "-c", program)[-1] == "scalar":
        sys.exit("No kernels but those in plain C (src/kernel/cpu.c)")


def check_bytes(folder):
    script = ["tools/run_wheel.py", "--work"]
    here = subprocess.run(
        [sys.executable, *script], cwd=TOP, input="", stdout=subprocess.PIPE, text=True, check=True
    )
    if python(folder, *script)[-1] != here.stdout.strip():
        sys.exit(f"On this machine's own system the bytes have the digest {here.stdout.strip()}")


def run_tests(folder):
    command = shlex.split(cibuildwheel()["test-command"])
    python(folder, *command[1:])


def attempt(wheel, folder):
    folder = Path(folder).absolute()
    packages = folder / "lib/site-packages"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--no-deps"]
    command += ["--only-binary=:all:", "--platform=win_amd64", f"--python-version={VERSION}"]
    subprocess.run([*command, f"--target={packages}", wheel], check=True)
    check_kernels(folder)
    check_bytes(folder)
    run_tests(folder)


if __name__ == "__main__":
    {"pack": pack, "try": attempt}[sys.argv[1]](*sys.argv[2:])
