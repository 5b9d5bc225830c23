"""Bounds of the network side, all in one place. Sizes in bytes, times in seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """How much a peer may send. Sizes of compressed answers are those of what is in them."""

    card_bytes: int = 256 * 1024
    card_skills: int = 256
    response_bytes: int = 16 * 1024 * 1024
    sse_line_bytes: int = 4 * 1024 * 1024  #: an event of JSON is mostly one line
    sse_event_bytes: int = 4 * 1024 * 1024
    sse_pending_bytes: int = 8 * 1024 * 1024  #: that came and were not asked for yet
    connections: int = 100  #: for calls; every stream has a connection of its own
    idle_connections: int = 20


@dataclass(frozen=True)
class Timeouts:
    """How long to wait."""

    connect: float = 10.0
    write: float = 30.0
    pool: float = 10.0
    read: float = 30.0  #: for a whole answer
    task: float = 600.0  #: for an answer that comes when a task has ended
    idle: float = 300.0  #: without a byte on a stream


@dataclass(frozen=True)
class Retry:
    """When to try again. What starts a task is never sent twice."""

    attempts: int = 3
    first_pause: float = 0.4  #: doubled each time, give or take a quarter
    longest_retry_after: float = 30.0  #: a peer that asks for more gets an error instead
    stream_attempts: int = 5  #: to get back to a stream, or by streams that told nothing new
    stream_first_pause: float = 0.5
    stream_longest_pause: float = 10.0
