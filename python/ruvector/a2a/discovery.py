"""Fetching an agent's card, and keeping it fresh."""

from __future__ import annotations

import asyncio
import re
import time
from functools import partial

from ..errors import A2aError, AuthRequired, ProtocolError, TransportError
from . import address
from .card import AgentCard
from .codec_v10 import VERSION_HEADER
from .transport import Reply, Request, Transport
from .trust import Demands, Way, read_card, ways
from .types import Trust

_WELL_KNOWN = ("/.well-known/agent-card.json", "/.well-known/agent.json")
_FRESH_S = 300.0

# Larger cards are read in a thread: one made for it takes half a second at the limit.
_LARGE = 16 * 1024


def card_urls(url: str) -> list[str]:
    """Where the card of the agent at `url` may be: never outside the path given."""
    plain = url.partition("#")[0]
    if plain.partition("?")[0].endswith(".json"):
        return [plain]
    base = plain.partition("?")[0].rstrip("/")
    return [base + path for path in _WELL_KNOWN]


class Discovery:
    """The card behind one URL. A card that fails a check changes nothing."""

    def __init__(self, transport: Transport, url: str, demands: Demands) -> None:
        self.url = url
        self.card: AgentCard | None = None
        self.trust = Trust("none")
        self.ways: list[Way] = []
        self._transport = transport
        self._demands = demands
        self._origin, _ = address.split(url)
        self._urls = card_urls(url)
        self._etag: str | None = None
        self._fresh_until = 0.0

    async def _get(self, url: str) -> Reply:
        headers = [("Accept", "application/json"), VERSION_HEADER]
        if self._etag is not None:
            headers.append(("If-None-Match", self._etag))

        async def fetch(authorize: bool) -> Reply:
            return await self._transport.fetch(
                Request(
                    "GET", url, tuple(headers), safe=True, authorize=authorize, what="the card"
                ),
                max_bytes=self._transport.limits.card_bytes,
                timeout=self._transport.timeouts.read,
            )

        try:
            return await fetch(authorize=False)
        except AuthRequired as why:
            if why.http_status != 401 or not self._transport.has_auth:
                raise
        return await fetch(authorize=True)

    async def refresh(self, *, force: bool = False) -> None:
        """Fetches the card unless it is fresh.

        Raises:
            A2aError: there is none, it is not believed, or, once there was one, it is
                suddenly that of another agent or another address.
        """
        if self.card is not None and not force and time.monotonic() < self._fresh_until:
            return
        reply = None
        for url in list(self._urls):
            reply = await self._get(url)
            if reply.status in (200, 304):
                self._urls = [url]
                break
            if reply.status not in (404, 405, 410):
                break
        assert reply is not None
        if reply.status == 304 and self.card is not None:
            self._keep(reply, reply.headers.get("etag", self._etag))
            return
        if reply.status != 200:
            raise TransportError(
                f"no card at {self._origin}: HTTP {reply.status}",
                phase="status",
                http_status=reply.status,
                retryable=reply.status >= 500,
            )
        if reply.content[:1] in (b"<", b""):
            raise ProtocolError("the card is not JSON but HTML or empty", http_status=200)
        read = partial(
            read_card,
            reply.content,
            self._demands,
            self._origin,
            certified=self._transport.verifies,
        )
        large = len(reply.content) > _LARGE
        card, trust = await asyncio.to_thread(read) if large else read()
        found = ways(card, self._demands, self.url)
        self._check_change(card, trust, found)
        self.card, self.ways = card, found
        self.trust = Trust(trust.level, trust.agent_id, found[0].bound, trust.note)
        self._keep(reply, reply.headers.get("etag"))

    def _check_change(self, card: AgentCard, trust: Trust, found: list[Way]) -> None:
        if self.card is None:
            return
        if card.agent_id != self.card.agent_id and trust.level != "pinned":
            raise A2aError(
                f"the card was that of agent {self.card.agent_id} and is now that of "
                f"{card.agent_id}; connect again if that is meant to be"
            )
        before, after = (address.split(way.url)[0] for way in (self.ways[0], found[0]))
        if before != after and trust.level != "pinned":
            raise A2aError(f"the agent was at {before} and its card now says {after}")

    def _keep(self, reply: Reply, etag: str | None) -> None:
        """Notes how long the card may be used, and the tag it came with."""
        control = reply.headers.get("cache-control", "").lower()
        age = re.search(r"(?:^|[\s,])max-age=(\d{1,9})", control)
        fresh = float(age[1]) if age else _FRESH_S
        if "no-cache" in control or "no-store" in control:
            fresh = 0.0
        self._fresh_until = time.monotonic() + fresh
        self._etag = etag
