"""Event loops that tell when they are blocked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any


def runner(
    factory: Callable[[], asyncio.AbstractEventLoop],
    reports: list[str] | None = None,
    slow_ms: float = 100,
) -> Callable[[Any], Any]:
    """Runs a coroutine in a new loop; with a list, in debug mode, and the list is given
    what that reports: callbacks that take `slow_ms` or longer."""

    def run(work: Any) -> Any:
        loop = factory()
        handler = logging.Handler(logging.WARNING)
        handler.emit = lambda record: reports.append(record.getMessage())  # type: ignore
        try:
            if reports is not None:
                loop.set_debug(True)
                loop.slow_callback_duration = slow_ms / 1000
                logging.getLogger("asyncio").addHandler(handler)
            return loop.run_until_complete(work)
        finally:
            logging.getLogger("asyncio").removeHandler(handler)
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    return run
