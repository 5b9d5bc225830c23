"""Which cards are believed, and which endpoint they may send requests to. No I/O."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

from ..errors import A2aError, CardSignatureInvalid, UnsupportedOperation
from . import address, identity, jsontext, jws
from .card import AgentCard, AgentInterface
from .codec import EXTENSION, Codec
from .codec_rvagent import CodecRvAgent
from .codec_v03 import CodecV02, CodecV03
from .codec_v10 import CodecV10, CodecV10Rest
from .excerpt import Masker
from .fields import Json, as_object
from .limits import Limits
from .types import Trust

CODECS: dict[str, type[Codec]] = {
    codec.dialect: codec for codec in (CodecRvAgent, CodecV02, CodecV03, CodecV10, CodecV10Rest)
}
MAX_CARD_DEPTH = 64

# Each may cost a request before a call succeeds, and a stranger's card lists them.
_MOST_WAYS = 16

_PREFERRED = ("1.0", "0.3", "0.2", "1.0-rest")  # official dialects, best first


@dataclass(frozen=True)
class Demands:
    """What the caller wants of a card, as given to ``A2aClient.connect``."""

    agents: frozenset[str] = frozenset()  #: ids, one of which has to have signed
    keys: jws.Keys | None = None
    strict: bool = True
    dialect: str = "auto"
    endpoint: str | None = None
    origins: frozenset[address.Origin] = frozenset()

    @classmethod
    def of(
        cls,
        *,
        agent_id: str | None,
        trusted_agents: Iterable[str] | None,
        trusted_keys: jws.TrustedKeys,
        strict_verify: bool,
        dialect: str,
        endpoint: str | None,
        allow_origins: Iterable[str],
    ) -> Demands:
        if dialect != "auto" and dialect not in CODECS:
            raise ValueError(f"dialect is 'auto' or one of {list(CODECS)}, not {dialect!r}")
        if isinstance(trusted_agents, str) or isinstance(allow_origins, str):
            raise TypeError("trusted_agents and allow_origins are lists, not one str")
        allowed = (
            None if trusted_agents is None else {*map(identity.parse_agent_id, trusted_agents)}
        )
        if agent_id is not None:
            pin = identity.parse_agent_id(agent_id)
            if allowed is not None and pin not in allowed:
                raise ValueError("agent_id is not among trusted_agents")
            allowed = {pin}
        if allowed is not None and not allowed:
            raise ValueError("trusted_agents is empty: no agent could be talked to")
        if endpoint is not None:
            address.split(endpoint)
        return cls(
            agents=frozenset(allowed or ()),
            keys=jws.Keys.of(trusted_keys),
            strict=strict_verify,
            dialect=dialect,
            endpoint=endpoint,
            origins=frozenset(address.split(url)[0] for url in allow_origins),
        )


def _warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=2)


# ---- whose card it is ---------------------------------------------------------------


def is_rvagent(card: Mapping[str, Any]) -> bool:
    """Whether a card is of the rvAgent dialect, signed or not."""
    metadata = card.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("ruvector"), dict):
        return True
    if card.get("supportedInterfaces") or card.get("protocolVersion"):
        return False
    older = "authentication" in card and "provider" in card
    return older and not ("defaultInputModes" in card or "securitySchemes" in card)


def _unsigned(demands: Demands, rvagent: bool, why: str) -> None:
    """Raises if the demands cannot be met by a card without a signature that counts."""
    named = demands.agents or (demands.keys is not None and demands.strict)
    if named or (rvagent and demands.strict):
        raise CardSignatureInvalid(
            f"the card is not signed by an agent that is trusted: {why}", reason="unsigned"
        )


def read_card(
    data: bytes,
    demands: Demands,
    origin: address.Origin,
    *,
    certified: bool,
    max_skills: int = Limits.card_skills,
) -> tuple[AgentCard, Trust]:
    """The card in `data` as far as it may be believed, and how far that is.

    `certified` says that the certificate of an https host was checked.

    Raises:
        CardSignatureInvalid: a signature is wrong, or one is wanted and not there.
        ProtocolError: it is no card.
    """

    def parse(lexemes: bool) -> Json:
        value = jsontext.parse(
            data, what="the card", max_depth=MAX_CARD_DEPTH, strict=True, lexemes=lexemes
        )
        return as_object(value, "the card")

    def of(value: Json, **signed: Any) -> AgentCard:
        return AgentCard.parse(value, max_skills=max_skills, **signed)

    raw, exact = parse(lexemes=False), parse(lexemes=True)
    rvagent = is_rvagent(raw)
    envelope = identity.check_envelope(exact)
    if envelope is not None:
        if demands.agents and envelope.agent_id not in demands.agents:
            raise CardSignatureInvalid(
                f"the card is signed by agent {envelope.agent_id}, not by one that is trusted",
                reason="agent_id",
            )
        card = of(
            jsontext.plain(envelope.card),
            agent_id=envelope.agent_id,
            signature_kind="ruvector",
            raw=raw,
        )
        return card, Trust("pinned" if demands.agents else "signed", envelope.agent_id)
    if rvagent:
        _unsigned(demands, True, "it has no signature")
        _warn(f"the card from {origin} is not signed; anybody could have written it")
        return of(raw), Trust("none")
    signed = jws.check_jws(exact, demands.keys)
    if signed.state == "invalid":
        raise CardSignatureInvalid(f"the card's JWS is wrong: {signed.note}", reason="signature")
    if signed.state == "valid" and not demands.agents:
        card = of(jsontext.plain(signed.card), signature_kind="jws", raw=raw)
        return card, Trust("pinned", note=f"JWS key {signed.kid}" if signed.kid else "JWS")
    _unsigned(demands, False, signed.note or "it has no signature")
    card = of(raw)
    if origin.scheme == "https" and certified:
        return card, Trust("tls", note=signed.note)
    if not address.is_loopback_name(origin.host):
        _warn(f"the card from {origin} came over a connection that proves nothing")
    return card, Trust("none", note=signed.note)


# ---- how to talk to it --------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """A dialect and an address to speak it at."""

    dialect: str
    url: str
    tenant: str | None = None
    bound: bool = True  #: the address is the card's own
    extension: bool = field(default=False, compare=False)

    def codec(self, masker: Masker | None = None) -> Codec:
        make = CODECS[self.dialect]
        return make(tenant=self.tenant, extension=self.extension, masker=masker)


def _dialect_of(interface: AgentInterface) -> str | None:
    version = interface.version or ""
    major = version.partition(".")[0]
    if interface.binding == "JSONRPC":
        if major == "1":
            return "1.0"
        if version.startswith("0.3"):
            return "0.3"
        return "0.2" if version.startswith("0.2") else None
    if interface.binding == "HTTP+JSON" and major == "1":
        return "1.0-rest"
    return None


def _spoken(card: AgentCard, demands: Demands) -> list[tuple[str, AgentInterface]]:
    """Dialects this client and the agent share, best first."""
    if demands.dialect == "rvagent" or (demands.dialect == "auto" and is_rvagent(card.raw)):
        return [("rvagent", AgentInterface(card.url, "JSONRPC"))]
    known = [(_dialect_of(interface), interface) for interface in card.interfaces]
    spoken = [(name, interface) for name, interface in known if name is not None]
    if demands.dialect == "auto":
        return sorted(spoken, key=lambda pair: _PREFERRED.index(pair[0]))
    chosen = [pair for pair in spoken if pair[0] == demands.dialect]
    binding = "HTTP+JSON" if demands.dialect == "1.0-rest" else "JSONRPC"
    # asked for by the caller, who may know better than the card
    loose = [(demands.dialect, i) for i in card.interfaces if i.binding == binding]
    return chosen or loose


def _base(typed: str) -> str:
    """The agent's own URL for the URL the caller typed, which may be that of a card."""
    url = typed.partition("#")[0].partition("?")[0]
    if url.endswith(".json"):
        url = url.rpartition("/")[0]
        if url.endswith("/.well-known"):
            url = url[: -len("/.well-known")]
    return url


def _absolute(url: str, card: AgentCard, card_url: str) -> str:
    """The address in a card, which may be relative to the card's own (RFC 3986, 5).

    A signature says who wrote a card and not where it is to be found: a relative address
    in it would follow whoever serves a copy.

    Raises:
        A2aError: it is relative in a card that is signed.
    """
    if urlsplit(url).scheme or not url:
        return url
    if card.signature_kind is not None:
        raise A2aError(
            f"the card is signed and says '{address.shown(url)}', which is no address of its own; "
            f"endpoint='{address.shown(urljoin(card_url, url))}' says where to send requests"
        )
    return urljoin(card_url, url)


def _bind(
    dialect: str, url: str, card: AgentCard, demands: Demands, typed: str, card_url: str
) -> tuple[str, bool]:
    """The address to use for one that the card names, and whether it is that one.

    Raises:
        A2aError: the card sends requests to an origin the caller did not type or allow.
    """
    here, _ = address.split(typed)
    there: address.Origin | None = None
    try:
        if dialect != "rvagent" and demands.endpoint is None:
            url = _absolute(url, card, card_url)
        there, _ = address.split(url)
    except (A2aError, ValueError):
        if dialect != "rvagent" and demands.endpoint is None:
            raise
    if demands.endpoint is not None:
        return demands.endpoint, demands.endpoint.rstrip("/") == url.rstrip("/")
    if there is not None and (there == here or there in demands.origins):
        return url, True
    if dialect != "rvagent":
        raise A2aError(
            f"endpoint origin: the card at {here} sends requests to {there}; allow that with "
            f"allow_origins=['{there}'], or send them to the host you typed with "
            f"endpoint='{_moved(url, typed)}'",
            dialect=dialect,
        )
    if demands.agents:
        raise A2aError(
            f"endpoint origin: the card is that of an agent at {there or address.shown(url)}, and "
            f"{here} serves it; endpoint='{_moved(url, typed)}' says that this is meant to be",
            dialect=dialect,
        )
    return _base(typed), False


def _moved(url: str, typed: str) -> str:
    """`url` at the host of `typed`."""
    with contextlib.suppress(ValueError):
        path = urlsplit(url).path
        return address.shown(urljoin(typed, path if path.startswith("/") else "/"))
    return address.shown(_base(typed))


def ways(card: AgentCard, demands: Demands, typed: str, card_url: str | None = None) -> list[Way]:
    """How to talk to an agent, best first; `card_url` is where its card was found.

    Raises:
        UnsupportedOperation: it speaks nothing that is spoken here, or requires an
            extension that is not known here.
        A2aError: its address is not one the caller typed or allowed.
    """
    for extension in card.extensions:
        if extension.required and extension.uri != EXTENSION:
            raise UnsupportedOperation(f"the agent requires the extension {extension.uri}")
    spoken = _spoken(card, demands)
    if not spoken:
        offered = sorted({f"{i.binding} {i.version}" for i in card.interfaces}) or ["nothing"]
        raise UnsupportedOperation(
            f"the agent offers {', '.join(offered)}; spoken here are {', '.join(CODECS)}"
        )
    extended = any(extension.uri == EXTENSION for extension in card.extensions)
    found: list[Way] = []
    refused: A2aError | None = None
    for dialect, interface in spoken:
        try:
            url, bound = _bind(dialect, interface.url, card, demands, typed, card_url or typed)
        except A2aError as why:
            refused = refused or why
            continue
        way = Way(dialect, url, interface.tenant, bound, extended)
        if way not in found:
            found.append(way)
        if len(found) == _MOST_WAYS:
            break
    if not found:
        assert refused is not None
        raise refused
    if demands.dialect != "auto":
        return found[:1]
    return found
