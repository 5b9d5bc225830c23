"""Artifacts, and their typed kinds, version 1: text, JSON, vectors by reference, a witness.

The kind stands in ``metadata.ruvector`` and, for all but text, once more in the single
data part. A witness hands a collection on without its vectors: it names the data and
the digest under which the receiver will find them, and fits in two kilobytes unless the
name is very long.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Union

from ..errors import ArtifactVersionUnsupported, ProtocolError
from .fields import Json, as_list, as_metadata, as_object, optional
from .parts import Part, text_of

VERSION = "1"

_NAME = "ruvector.artifact_kind"  # of every typed artifact
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Artifact:
    """Something a task produced. `id` tells a task's artifacts apart."""

    id: str
    parts: tuple[Part, ...]
    name: str | None = None
    description: str | None = None
    metadata: Json = field(default_factory=dict, repr=False)

    @property
    def text(self) -> str:
        """All text parts, joined."""
        return text_of(self.parts)

    @property
    def typed(self) -> Typed | None:
        """The artifact as one of the typed kinds, None if it is none of them.

        Raises:
            ArtifactVersionUnsupported: it is typed, but of a version not read here.
        """
        return typed(self)

    @classmethod
    def parse(cls, value: Any) -> Artifact:
        obj = as_object(value, "an artifact")
        identity = optional(obj.get("artifactId"), str, "an artifact's id")
        index = optional(obj.get("index"), int, "an artifact's index") or 0
        return cls(
            id=identity if identity is not None else str(index),
            parts=tuple(Part.parse(part) for part in as_list(obj.get("parts"), "artifact parts")),
            name=optional(obj.get("name"), str, "an artifact's name"),
            description=optional(obj.get("description"), str, "an artifact's description"),
            metadata=as_metadata(obj.get("metadata")),
        )


# ---- typed kinds --------------------------------------------------------------------


def _member(data: Mapping[str, Any], name: str, cls: type, kind: str) -> Any:
    value = data.get(name)
    if isinstance(value, float) and cls is int and value.is_integer():
        value = int(value)  # some peers send every number as a double
    if not isinstance(value, cls) or isinstance(value, bool):
        raise ProtocolError(f"a {kind} artifact needs {name}, a {cls.__name__}; got {value!r}")
    return value


def _digest(data: Mapping[str, Any], kind: str) -> str:
    witness: str = _member(data, "witness", str, kind)
    if not _DIGEST.fullmatch(witness):
        raise ProtocolError(f"a {kind} artifact's witness is 64 lowercase hex digits")
    return witness


def _check_digest(witness: str) -> None:
    if not isinstance(witness, str) or not _DIGEST.fullmatch(witness):
        raise ValueError(f"a witness is 64 lowercase hex digits, not {witness!r}")


def _count(data: Mapping[str, Any], name: str, kind: str) -> int:
    value: int = _member(data, name, int, kind)
    if not 0 <= value < 2**32:
        raise ProtocolError(f"a {kind} artifact's {name} is out of range: {value}")
    return value


def _artifact(kind: str, parts: tuple[Part, ...]) -> Artifact:
    ruvector = {"artifact_kind": kind, "artifact_kind_version": VERSION}
    return Artifact("0", parts, name=_NAME, metadata={"ruvector": ruvector})


@dataclass(frozen=True)
class TextArtifact:
    """Plain text."""

    text: str

    def to_artifact(self) -> Artifact:
        return _artifact("text", (Part("text", self.text),))


@dataclass(frozen=True)
class JsonArtifact:
    """A JSON value, with the address of its schema where it has one."""

    value: Any
    schema: str | None = None

    def to_artifact(self) -> Artifact:
        data = {"kind": "structured_json", "value": self.value}
        if self.schema is not None:
            data["schema"] = self.schema
        return _artifact("structured_json", (Part("data", data=data),))


@dataclass(frozen=True)
class VectorRef:
    """Vectors that lie in a collection of a lake's backend."""

    backend: str
    collection: str
    witness: str  #: 64 lowercase hex digits
    dim: int
    count: int

    def __post_init__(self) -> None:
        _check_digest(self.witness)
        for name in ("dim", "count"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**32:
                raise ValueError(f"{name} is a whole number below 2**32, not {value!r}")

    def to_artifact(self) -> Artifact:
        return _artifact("vector_ref", (Part("data", data={"kind": "vector_ref", **vars(self)}),))


@dataclass(frozen=True)
class RuLakeWitness:
    """A collection handed on by its digest.

    `witness` is the digest a lake's bundle carries, `data_ref` says where the data lies:
    it comes from a peer, so look at it before following it. `capabilities` is what the
    receiver may do with the data; whoever hands it on may take from it, never add.
    """

    witness: str  #: 64 lowercase hex digits
    data_ref: str
    capabilities: tuple[str, ...] = ("read",)

    def __post_init__(self) -> None:
        _check_digest(self.witness)
        if not isinstance(self.data_ref, str):
            raise TypeError(f"data_ref is a str, not {type(self.data_ref).__name__}")
        if isinstance(self.capabilities, str):
            raise TypeError("capabilities are a list of names, not one str")
        object.__setattr__(self, "capabilities", tuple(self.capabilities))

    def part(self) -> Part:
        """As the data part of a message or an artifact."""
        data = {
            "kind": "ru_lake_witness",
            "witness": self.witness,
            "data_ref": self.data_ref,
            "capabilities": list(self.capabilities),
        }
        return Part("data", data=data)

    def to_artifact(self) -> Artifact:
        return _artifact("rulake_witness", (self.part(),))

    def matches(self, bundle: Any) -> bool:
        """Whether a lake's bundle is the one this witness stands for.

        `bundle` has the attributes ``rvf_witness`` and ``data_ref``. Whether the bundle
        keeps what its own witness says is the bundle's to verify.
        """
        return bool(bundle.rvf_witness == self.witness and bundle.data_ref == self.data_ref)


Typed = Union[TextArtifact, JsonArtifact, VectorRef, RuLakeWitness]


def _from_data(data: Mapping[str, Any]) -> Typed | None:
    kind = data.get("kind")
    if kind == "structured_json":
        schema = data.get("schema")
        return JsonArtifact(data.get("value"), schema if isinstance(schema, str) else None)
    if kind == "vector_ref":
        return VectorRef(
            backend=_member(data, "backend", str, kind),
            collection=_member(data, "collection", str, kind),
            witness=_digest(data, kind),
            dim=_count(data, "dim", kind),
            count=_count(data, "count", kind),
        )
    # The data part and the metadata spell this kind differently; peers mix them up.
    if kind in ("ru_lake_witness", "rulake_witness"):
        granted = data.get("capabilities", [])
        if not isinstance(granted, list) or not all(isinstance(name, str) for name in granted):
            raise ProtocolError("a witness artifact's capabilities are a list of names")
        return RuLakeWitness(
            _digest(data, kind), _member(data, "data_ref", str, kind), tuple(granted)
        )
    return None


def typed(artifact: Artifact) -> Typed | None:
    """The typed form of an artifact; None where it is of no kind known here.

    Raises:
        ArtifactVersionUnsupported: of another version than :data:`VERSION`.
        ProtocolError: a field of the kind is missing or wrong.
    """
    ruvector = artifact.metadata.get("ruvector")
    version = ruvector.get("artifact_kind_version") if isinstance(ruvector, dict) else None
    if version is not None and version != VERSION:
        raise ArtifactVersionUnsupported(
            f"artifact {artifact.name or artifact.id!r} is of version {version!r}; "
            f"version {VERSION!r} can be read",
            supported=(VERSION,),
        )
    if len(artifact.parts) != 1:
        return None
    part = artifact.parts[0]
    if part.kind == "text" and part.text is not None:
        return TextArtifact(part.text)
    if part.kind == "data" and isinstance(part.data, dict):
        return _from_data(part.data)
    return None
