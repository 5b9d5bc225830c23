"""The packages of the extra ``agent``, imported when they are needed."""

from __future__ import annotations

import asyncio
import ssl
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from .._extras import not_importable


def need(module: str) -> Any:
    """`module`, or an ImportError that says what to install."""
    try:
        return import_module(module)
    except ImportError as why:
        package = module.partition(".")[0]
        raise ImportError(
            f"talking to agents needs the package {package!r}, "
            + not_importable(why, module, "agent", package),
            name=package,
        ) from why


def http() -> Any:
    """httpx2, or its predecessor httpx where that is what works."""
    try:
        return import_module("httpx2")
    except ImportError:
        if find_spec("httpx2") is not None and find_spec("httpx") is None:
            return need("httpx2")  # tells what is wrong with it
        return need("httpx")


def load_all() -> None:
    """Imports what a connection needs, and what that imports when first used.

    Some 0.2 s of work the first time: for a thread, where a loop must go on.
    """
    need("cryptography.hazmat.primitives.asymmetric.ed25519")
    http().AsyncHTTPTransport(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), trust_env=False)
    need("anyio").run(asyncio.sleep, 0)
