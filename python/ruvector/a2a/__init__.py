"""A client for agents that speak A2A: hand over a task, watch it, know who answers.

Values: `types`, `parts`, `artifacts`, `card`. Protocol, without I/O: `jsontext`, `identity` and
`jws` check who signed a card, `trust` decides what to believe of it, `codec`, `codec_v10`,
`codec_v03` and `codec_rvagent` speak the dialects with `fields` and `shape`, `sse` reads event
streams, `fold` puts updates together, `policy` counts, `excerpt` masks a peer's words,
`messages`, `retryafter` and `inflate` read what HTTP says and packs. Network: `transport` with
`httplib`, `address`, `auth` and `limits`, `discovery`, `calls`; `session`, on which clients and
streams stand; `stream` and the feeds beside it, `feed_poll` and `feed_rvagent`; on top `client`
and `sync`. Third-party packages are imported, by `extra`, by the call that needs them.
"""

from .artifacts import Artifact, JsonArtifact, RuLakeWitness, TextArtifact, VectorRef
from .auth import ApiKey, Bearer
from .card import AgentCapabilities, AgentCard, AgentExtension, AgentInterface, AgentSkill
from .client import A2aClient
from .identity import agent_id
from .jws import TrustedKey
from .limits import Limits, Retry, Timeouts
from .parts import Message, Part
from .policy import GlobalBudget
from .stream import TaskStream
from .sync import SyncA2aClient, SyncTaskStream
from .types import (
    Task,
    TaskContext,
    TaskPolicy,
    TaskSpec,
    TaskState,
    TaskStatus,
    TaskUpdate,
    Trust,
)

__all__ = [
    "A2aClient",
    "AgentCapabilities",
    "AgentCard",
    "AgentExtension",
    "AgentInterface",
    "AgentSkill",
    "ApiKey",
    "Artifact",
    "Bearer",
    "GlobalBudget",
    "JsonArtifact",
    "Limits",
    "Message",
    "Part",
    "Retry",
    "RuLakeWitness",
    "SyncA2aClient",
    "SyncTaskStream",
    "Task",
    "TaskContext",
    "TaskPolicy",
    "TaskSpec",
    "TaskState",
    "TaskStatus",
    "TaskStream",
    "TaskUpdate",
    "TextArtifact",
    "Timeouts",
    "Trust",
    "TrustedKey",
    "VectorRef",
    "agent_id",
]
