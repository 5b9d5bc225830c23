"""What an agent says about itself: its card, of any version of the protocol.

A card is a stranger's text. Show it to people as such, and keep its descriptions out of
prompts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..errors import A2aError, ProtocolError
from .fields import Json, as_list, as_metadata, as_object, optional
from .limits import Limits


def _strings(value: Any, what: str) -> tuple[str, ...]:
    items = as_list(value, what)
    if not all(isinstance(item, str) for item in items):
        raise ProtocolError(f"{what} should be a list of strings")
    return tuple(items)


@dataclass(frozen=True)
class AgentSkill:
    """Something the agent can do."""

    id: str
    name: str
    description: str
    tags: tuple[str, ...] = ()
    input_modes: tuple[str, ...] = ()
    output_modes: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()

    @classmethod
    def parse(cls, value: Any) -> AgentSkill:
        obj = as_object(value, "a skill")
        identity = optional(obj.get("id"), str, "a skill's id")
        if identity is None:
            raise ProtocolError("a skill of the card has no id")
        return cls(
            id=identity,
            name=optional(obj.get("name"), str, "a skill's name") or identity,
            description=optional(obj.get("description"), str, "a skill's description") or "",
            tags=_strings(obj.get("tags"), "a skill's tags"),
            input_modes=_strings(obj.get("inputModes"), "a skill's input modes"),
            output_modes=_strings(obj.get("outputModes"), "a skill's output modes"),
            examples=_strings(obj.get("examples"), "a skill's examples"),
        )


@dataclass(frozen=True)
class AgentInterface:
    """An address at which the agent can be talked to, and how."""

    url: str
    binding: str  #: "JSONRPC", "HTTP+JSON", "GRPC" or a URI
    version: str | None = None  #: of the protocol, such as "1.0"
    tenant: str | None = None

    @classmethod
    def parse(cls, value: Any) -> AgentInterface:
        obj = as_object(value, "an interface")
        url = optional(obj.get("url"), str, "an interface's url")
        if url is None:
            raise ProtocolError("an interface of the card has no url")
        binding = obj.get("protocolBinding", obj.get("transport"))
        return cls(
            url=url,
            binding=optional(binding, str, "an interface's binding") or "JSONRPC",
            version=optional(obj.get("protocolVersion"), str, "an interface's version"),
            tenant=optional(obj.get("tenant"), str, "an interface's tenant"),
        )


@dataclass(frozen=True)
class AgentExtension:
    """An extension of the protocol that the agent knows."""

    uri: str
    required: bool = False
    description: str = ""

    @classmethod
    def parse(cls, value: Any) -> AgentExtension:
        obj = as_object(value, "an extension")
        uri = optional(obj.get("uri"), str, "an extension's uri")
        if uri is None:
            raise ProtocolError("an extension of the card has no uri")
        description = optional(obj.get("description"), str, "an extension's description")
        return cls(uri, obj.get("required") is True, description or "")


@dataclass(frozen=True)
class AgentCapabilities:
    streaming: bool = False
    push_notifications: bool = False
    extensions: tuple[AgentExtension, ...] = ()

    @classmethod
    def parse(cls, value: Any) -> AgentCapabilities:
        obj = as_object({} if value is None else value, "the card's capabilities")
        return cls(
            obj.get("streaming") is True,
            obj.get("pushNotifications") is True,
            tuple(AgentExtension.parse(e) for e in as_list(obj.get("extensions"), "extensions")),
        )


def _schemes(card: Json) -> Iterator[str]:
    """Names of the ways to authenticate, as each version of the card writes them."""
    authentication = card.get("authentication")
    if isinstance(authentication, dict):
        yield from _strings(authentication.get("schemes"), "authentication.schemes")
    schemes = card.get("securitySchemes")
    for name, scheme in schemes.items() if isinstance(schemes, dict) else ():
        if not isinstance(scheme, dict):
            continue
        if isinstance(scheme.get("type"), str):
            yield scheme["scheme"] if isinstance(scheme.get("scheme"), str) else scheme["type"]
        else:
            yield next(iter(scheme), name).replace("SecurityScheme", "")


@dataclass(frozen=True)
class AgentCard:
    """An agent's name, skills and addresses.

    `agent_id` is set only where a signature that verifies gives it.
    """

    name: str
    description: str
    url: str
    version: str
    protocol_version: str | None = None
    provider: str | None = None
    capabilities: AgentCapabilities = AgentCapabilities()
    skills: tuple[AgentSkill, ...] = ()
    auth_schemes: tuple[str, ...] = ()
    interfaces: tuple[AgentInterface, ...] = ()
    agent_id: str | None = None
    signature_kind: str | None = None  #: "ruvector", "jws", or None for an unsigned card
    metadata: Json = field(default_factory=dict, repr=False)
    raw: Json = field(default_factory=dict, repr=False, compare=False)  #: as received

    @property
    def extensions(self) -> tuple[AgentExtension, ...]:
        return self.capabilities.extensions

    @classmethod
    def parse(
        cls,
        value: Any,
        *,
        agent_id: str | None = None,
        signature_kind: str | None = None,
        raw: Json | None = None,
        max_skills: int = Limits.card_skills,
    ) -> AgentCard:
        """`value` is what may be believed: of a signed card, the part that is signed."""
        obj = as_object(value, "the card")
        name = optional(obj.get("name"), str, "the card's name")
        if name is None:
            raise ProtocolError("the card has no name")
        skills = as_list(obj.get("skills"), "the card's skills")
        if len(skills) > max_skills:
            raise A2aError(
                f"the card is too large: {len(skills)} skills, at most {max_skills} are accepted; "
                "Limits(card_skills=...) allows more"
            )
        return cls(
            name=name,
            description=optional(obj.get("description"), str, "the card's description") or "",
            url=optional(obj.get("url"), str, "the card's url") or "",
            version=optional(obj.get("version"), str, "the card's version") or "",
            protocol_version=optional(obj.get("protocolVersion"), str, "protocolVersion"),
            provider=optional(
                as_metadata(obj.get("provider")).get("organization"), str, "the provider's name"
            ),
            capabilities=AgentCapabilities.parse(obj.get("capabilities")),
            skills=tuple(AgentSkill.parse(skill) for skill in skills),
            auth_schemes=tuple(_schemes(obj)),
            interfaces=_interfaces(obj),
            agent_id=agent_id,
            signature_kind=signature_kind,
            metadata=as_metadata(obj.get("metadata")),
            raw=obj if raw is None else raw,
        )


def _interfaces(card: Json) -> tuple[AgentInterface, ...]:
    """All addresses, in the order the card prefers them."""
    listed = [
        AgentInterface.parse(item)
        for item in as_list(card.get("supportedInterfaces"), "supportedInterfaces")
    ]
    older = [
        AgentInterface.parse(item)
        for item in as_list(card.get("additionalInterfaces"), "additionalInterfaces")
    ]
    version = optional(card.get("protocolVersion"), str, "protocolVersion") or "0.2"
    if isinstance(card.get("url"), str) and card["url"]:
        main = {"url": card["url"], "transport": card.get("preferredTransport")}
        older.insert(0, AgentInterface.parse(main))
    # a stranger may list thousands: looked up, not compared with each other
    told = {(i.url, i.binding, (i.version or "")[:3]) for i in listed}
    for entry in older:
        known = AgentInterface(entry.url, entry.binding, entry.version or version, entry.tenant)
        key = (known.url, known.binding, (known.version or "")[:3])
        if key not in told:
            told.add(key)
            listed.append(known)
    return tuple(listed)
