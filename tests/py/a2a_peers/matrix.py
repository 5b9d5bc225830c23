"""Which servers of other makers are spoken to in which dialects, and fixtures for them."""

from __future__ import annotations

import asyncio
import functools
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from . import launch

SECONDS = 30


class Peer(NamedTuple):
    """A running server and the dialect in which to speak to it."""

    name: str
    dialect: str
    forced: bool
    about: dict[str, Any]

    @property
    def options(self) -> dict[str, str]:
        return {"dialect": self.dialect} if self.forced else {}

    async def connect(self, **options: Any) -> Any:
        from ruvector.a2a import A2aClient

        return await A2aClient.connect(self.about["url"], **{**self.options, **options})


def _peer(marker: str, name: str, dialect: str, *flags: str, forced: bool = False) -> Any:
    label = f"{name}{''.join(flags)}-{dialect}"
    chosen = (name, flags, dialect, forced)
    return pytest.param(chosen, id=label, marks=getattr(pytest.mark, marker))


JS_1_3 = _peer("a2a_js_1_3", "js-1.3.0", "1.0")
PYTHON = _peer("a2a_python", "python", "1.0")
RVAGENT = _peer("a2a_rvagent", "rvagent", "rvagent")
OFFICIAL = [
    JS_1_3,
    _peer("a2a_js_1_3", "js-1.3.0", "1.0-rest", forced=True),
    _peer("a2a_js_1_3", "js-1.3.0", "0.3", "--legacy", forced=True),
    _peer("a2a_js_0_3", "js-0.3.14", "0.3"),
    _peer("a2a_js_0_2", "js-0.2.5", "0.2"),
    PYTHON,
    _peer("a2a_python", "python", "1.0-rest", forced=True),
    _peer("a2a_python", "python", "0.3", forced=True),
]
all_peers = pytest.mark.parametrize("peer", [*OFFICIAL, RVAGENT], indirect=True)
official = pytest.mark.parametrize("peer", OFFICIAL, indirect=True)
rvagent = pytest.mark.parametrize("peer", [RVAGENT], indirect=True)


@pytest.fixture(scope="session")
def servers():
    """Starts a server when it is first asked for, and ends all of them in the end."""
    with ExitStack() as stack:

        @functools.lru_cache(None)
        def start(name: str, *flags: str) -> dict[str, Any]:
            return stack.enter_context(launch.running(name, *flags))

        yield start


@pytest.fixture
def peer(request, servers) -> Peer:
    name, flags, dialect, forced = request.param
    return Peer(name, dialect, forced, servers(name, *flags))


def in_loop(test):
    """Runs a coroutine function as a test, in a loop of its own and not for ever."""

    @functools.wraps(test)
    def run(**fixtures):
        asyncio.run(asyncio.wait_for(test(**fixtures), SECONDS))

    return run


async def read(stream, updates: list | None = None) -> list:
    """The updates of a stream to its end; those of a broken one are in the list given."""
    updates = [] if updates is None else updates
    async for update in stream:
        updates.append(update)
    return updates


def numbers(updates) -> list[int]:
    """What skill "count" has counted, in the order in which it was heard."""
    told = (u.status.message for u in updates if u.kind == "status")
    return [int(message.text) for message in told if message]
