"""Telemetry of the packages that embedding brings stays off, unless the user wants it.

Each reads its variable when it is imported: ONNX Runtime, from 1.29 on, then starts to
write a device id and events below `~/.cache` and to send them; huggingface-hub tells the
hub which other packages are installed and which program calls it, asks it for a list of
such programs, and its xet client reports transfers. A variable that is there, whatever its
value, is the user's decision.
"""

from __future__ import annotations

import os
import sys
import warnings

OFF = {"onnxruntime": "ORT_DISABLE_TELEMETRY", "huggingface_hub": "HF_HUB_DISABLE_TELEMETRY"}
# The first release whose packages for every system send something by themselves.
SENDS_SINCE = (1, 29)


def before_import(package: str) -> None:
    """Turn telemetry off; to be called ahead of every import of `package`."""
    variable = OFF[package]
    if variable in os.environ:
        return
    os.environ[variable] = "1"
    if package == "onnxruntime" and _sends(sys.modules.get(package)):
        warnings.warn(
            "onnxruntime was imported before ruvector could turn its telemetry off: set "
            f"{variable}=1 in the environment, or make an Embedder first "
            f"({variable}=0 keeps telemetry and leaves out this warning)",
            RuntimeWarning,
            stacklevel=_of_the_caller(),
        )


def _of_the_caller() -> int:
    """The stacklevel for `before_import` that names the line outside of this package."""
    level = 1
    frame = sys._getframe(1)
    while frame.f_back and str(frame.f_globals.get("__name__", "")).split(".")[0] == "ruvector":
        frame = frame.f_back
        level += 1
    return level


def _sends(module: object) -> bool:
    """True for an ONNX Runtime that was imported by others and is known to send."""
    parts = str(getattr(module, "__version__", "0")).split(".")
    return tuple(int(part) for part in parts[:2] if part.isdigit()) >= SENDS_SINCE
