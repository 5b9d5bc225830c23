"""Parts and messages, the same for every dialect: what tasks and artifacts are made of."""

from __future__ import annotations

import base64
import binascii
import builtins
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Union

from ..errors import ProtocolError
from .fields import Json, as_list, as_metadata, as_object, optional, wrong


@dataclass(frozen=True)
class Part:
    """One piece of a message or artifact: text, JSON data, or a file.

    A file has its content in `bytes` or lies at `uri`, which is never fetched here.
    """

    kind: str  #: "text", "data" or "file"; what the peer wrote, if it is something else
    text: str | None = None
    data: Any = None
    name: str | None = None
    media_type: str | None = None
    bytes: builtins.bytes | None = field(default=None, repr=False)
    uri: str | None = None
    metadata: Json = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, value: Any) -> Part:
        obj = as_object(value, "a part")
        tag = obj.get("kind") or obj.get("type")
        metadata = as_metadata(obj.get("metadata"))
        file = obj.get("file") if tag in ("file", None) else None
        if isinstance(file, dict):
            name, media_type = file.get("name"), file.get("mimeType")
            raw, uri = file.get("bytes"), file.get("uri")
        else:
            name, media_type = obj.get("filename"), obj.get("mediaType")
            raw, uri = obj.get("raw"), obj.get("url")
        name = optional(name, str, "a part's name")
        media_type = optional(media_type, str, "a part's media type")
        has_file = raw is not None or uri is not None or bool(file)
        if tag == "text" or (tag is None and obj.get("text") is not None):
            if not isinstance(obj.get("text"), str):
                raise wrong("a part's text", "a string", obj.get("text"))
            return cls("text", obj["text"], None, name, media_type, metadata=metadata)
        has_data = "data" in obj and not (obj["data"] is None and has_file)
        if tag == "data" or (tag is None and has_data):
            return cls("data", None, obj.get("data"), name, media_type, metadata=metadata)
        if tag == "file" or (tag is None and has_file):
            content = None
            if raw is not None:
                content = _base64(raw)
            where = None if content is not None else optional(uri, str, "a part's uri")
            return cls("file", None, None, name, media_type, content, where, metadata)
        return cls(str(tag), data=obj, metadata=metadata)


_URL_SAFE = str.maketrans("-_", "+/")


def _base64(text: Any) -> bytes:
    if isinstance(text, str):
        plain = "".join(text.split()).rstrip("=").translate(_URL_SAFE)
        try:
            return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
        except (ValueError, binascii.Error):
            pass
    raise ProtocolError("the bytes of a file part are not base64")


def text_of(parts: tuple[Part, ...]) -> str:
    return "".join(part.text for part in parts if part.text is not None)


_ROLES = {1: "user", 2: "agent"}  # as a2a.proto numbers them


@dataclass(frozen=True)
class Message:
    """What one side tells the other within a task."""

    role: str  #: "user" or "agent"
    parts: tuple[Part, ...]
    message_id: str | None = None
    context_id: str | None = None
    task_id: str | None = None
    metadata: Json = field(default_factory=dict, repr=False)

    @property
    def text(self) -> str:
        """All text parts, joined."""
        return text_of(self.parts)

    @classmethod
    def parse(cls, value: Any) -> Message:
        obj = as_object(value, "a message")
        role = obj.get("role")
        if type(role) is int:
            role = _ROLES.get(role)
        role = optional(role, str, "a message's role") or "agent"
        parts = as_list(obj.get("parts"), "a message's parts")
        return cls(
            role=role.lower().replace("role_", ""),
            parts=tuple(Part.parse(part) for part in parts),
            message_id=optional(obj.get("messageId"), str, "a message's id"),
            context_id=optional(obj.get("contextId"), str, "a message's contextId"),
            task_id=optional(obj.get("taskId"), str, "a message's taskId"),
            metadata=as_metadata(obj.get("metadata")),
        )


#: What can be handed to a task: text, a JSON object, parts, or a whole message.
Input = Union[str, Mapping[str, Any], Part, Message, "list[str | Mapping[str, Any] | Part]"]


def parts_of(value: Input | None) -> tuple[Part, ...]:
    """The parts of an input. Text becomes a text part, an object a data part."""
    if value is None:
        return ()
    if isinstance(value, Message):
        return value.parts
    if isinstance(value, str):
        return (Part("text", value),)
    if isinstance(value, Part):
        return (value,)
    if isinstance(value, Mapping):
        return (Part("data", data=dict(value)),)
    if isinstance(value, (list, tuple)):
        return tuple(part for item in value for part in parts_of(item))
    more = "; bytes go into Part('file', bytes=...)" if isinstance(value, bytes) else ""
    raise TypeError(
        "a task's input is str, dict, Part, Message or a list of them, "
        f"not {type(value).__name__}{more}"
    )
