"""meson-python, with the wheel tagged for every Python it runs on.

meson-python tags a stable-ABI wheel with the interpreter that built it. What
the module may use is bounded by the limited API named in python/meson.build,
so the tag says that instead: one wheel, whichever Python built it.
"""

import subprocess
import sys
from pathlib import Path

import mesonpy
from mesonpy import (
    build_editable,
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
]

ABI_FLOOR = "cp310" if sys.platform == "win32" else "cp39"


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = mesonpy.build_wheel(wheel_directory, config_settings, metadata_directory)
    if "-abi3-" not in name:
        return name
    retag = [sys.executable, "-m", "wheel", "tags", "--remove", "--python-tag", ABI_FLOOR]
    path = Path(wheel_directory, name)
    done = subprocess.run([*retag, path], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()
