"""Fetching an agent's card, and keeping it fresh."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable
from functools import partial

from ..errors import (
    A2aError,
    AuthRequired,
    CardSignatureInvalid,
    ProtocolError,
    TransportError,
)
from . import address
from .card import AgentCard
from .codec_v10 import VERSION_HEADER
from .messages import Reply, Request
from .transport import Transport
from .trust import Demands, Way, read_card, ways
from .types import Trust

_WELL_KNOWN = ("/.well-known/agent-card.json", "/.well-known/agent.json")
_FRESH_S = 300.0

# Larger cards are read in a thread: one made for it takes half a second at the limit.
_LARGE = 16 * 1024


def card_urls(url: str) -> list[str]:
    """Where the card of the agent at `url` may be: never outside the path given. A key in
    the query goes along."""
    plain = url.partition("#")[0]
    path, mark, query = plain.partition("?")
    if path.endswith(".json"):
        return [plain]
    base = path.rstrip("/")
    return [base + known + mark + query for known in _WELL_KNOWN]


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
            return await self._transport.fetch(self._request(url, headers, authorize))

        try:
            return await fetch(authorize=False)
        except AuthRequired:
            # gateways say 403 where they miss a token, and 401 where they have one to offer
            if not self._transport.has_auth:
                raise
        return await fetch(authorize=True)

    def _request(
        self, url: str, headers: Iterable[tuple[str, str]] = (), authorize: bool = False
    ) -> Request:
        return Request(
            "GET",
            url,
            tuple(headers),
            safe=True,
            authorize=authorize,
            what="the card",
            size="card_bytes",
            wait=self._transport.timeouts.read,
        )

    async def refresh(self, *, force: bool = False) -> None:
        """Fetches the card unless it is fresh.

        Raises:
            A2aError: there is none, it is not believed, or, once there was one, it is
                suddenly that of another agent or another address.
        """
        if self.card is not None and not force and time.monotonic() < self._fresh_until:
            return
        url, reply = await self._look()
        if reply.status == 304 and self.card is not None:
            self._keep(reply, reply.headers.get("etag", self._etag))
            return
        read = partial(
            read_card,
            reply.content,
            self._demands,
            self._origin,
            certified=self._transport.verifies,
            max_skills=self._transport.limits.card_skills,
        )
        large = len(reply.content) > _LARGE
        try:
            card, trust = await asyncio.to_thread(read) if large else read()
        except CardSignatureInvalid as why:
            why.url = address.shown(url)
            raise
        except A2aError as why:
            self._transport.complete(why, self._request(url), reply.headers, reply.content)
            raise
        found = ways(card, self._demands, self.url, card_url=url)
        self._check_change(card, trust, found)
        self._urls = [url]
        self.card, self.ways = card, found
        self.trust = Trust(trust.level, trust.agent_id, found[0].bound, trust.note)
        self._keep(reply, reply.headers.get("etag"))

    async def _look(self) -> tuple[str, Reply]:
        """The first answer that may be a card, and where it was.

        Raises:
            TransportError: there is none, with every place that was asked.
        """
        missed: list[tuple[str, Reply]] = []
        for url in self._urls:
            reply = await self._get(url)
            if reply.status == 304 or (reply.status == 200 and not _is_page(reply)):
                return url, reply
            missed.append((url, reply))
            if reply.status not in (200, 404, 405, 410):
                break
        raise self._none(missed)

    def _none(self, missed: list[tuple[str, Reply]]) -> A2aError:
        def said(reply: Reply) -> str:
            return "HTTP 200, no JSON" if reply.status == 200 else f"HTTP {reply.status}"

        places = ", ".join(f"{address.shown(url)} ({said(reply)})" for url, reply in missed)
        if all(reply.status in (200, 404, 405, 410) for _, reply in missed):
            places += f"; if it lies elsewhere, connect to its own URL (...json) or {self._origin}"
        pages = [entry for entry in missed if entry[1].status == 200]
        url, reply = (pages or missed)[-1]
        text, facts = self._transport.told(reply.headers, reply.content)
        facts.update(http_status=reply.status, url=address.shown(url))
        if pages:
            return ProtocolError(f"no card at {places}{text}", **facts)
        refused = self._transport.refused(self._request(url), reply)
        text = f"no card at {places}{text}"
        return TransportError(text, phase="status", retryable=refused.retryable, **facts)

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


def _is_page(reply: Reply) -> bool:
    return reply.content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"<", b"")
