"""The updates of a peer that does not stream."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from .stream import Feed


class PollFeed(Feed):
    """For a peer that does not stream: asks, and tells what has changed."""

    _delay = 0.5

    async def _go_on(self) -> None:
        if self.fold.status is None:
            if self._spec is None:
                task = await self._session.get(self.fold.task_id)
            else:
                task = await self._session.send(self._spec, wait=False)
                self._named(task.id)
            self._snapshot(task)
        else:
            await asyncio.sleep(self._delay)
            self._delay = min(self._delay * 1.5, 5.0)
            task = await self._session.get(self.fold.task_id)
            for update in list(self.fold.missing(task)):
                self._emit(update)
            over = task.status.state.is_terminal
            if over or task.status != self.fold.status:
                self._emit(replace(self.fold.ending(task), final=over))
        if task.status.state.is_terminal or task.status.state.is_interrupted or not task.id:
            self.done = True
