"""Every exception of this package, with its other bases in parentheses::

    RuVectorError
      IndexError
        DimensionMismatch (ValueError)
        EmptyIndex (LookupError)
        DuplicateId (ValueError)
        UnknownId (KeyError)
        NoVectors (LookupError)
        PersistError (OSError)
          PersistNotFound (FileNotFoundError)
          PersistDenied (PermissionError)
      LakeError
        LakeValueError (ValueError)
        BackendError (RuntimeError)
          UnknownCollection (LookupError)
        LakeDimensionMismatch (DimensionMismatch)
        EmptyCollection (EmptyIndex)
        CacheMissError (LookupError)
        WitnessMismatch (ValueError)
        LakeFileError (PersistError)
          LakeFileNotFound (PersistNotFound)
          LakeFileDenied (PersistDenied)
      A2aError
        ProtocolError (ValueError)
        TaskNotFound (LookupError)
        TaskNotCancelable (RuntimeError)
        UnsupportedOperation (NotImplementedError)
          VersionNotSupported
        AuthRequired (PermissionError)
        RecursionLimit (RuntimeError)
        ArtifactVersionUnsupported (ValueError)
        CardSignatureInvalid (ValueError)
        PolicyViolation (PermissionError)
        BudgetExceeded (RuntimeError)
        TransportError (ConnectionError)
      EmbedError (RuntimeError)

One root, :class:`RuVectorError`, one branch per part of the package. Each class
also derives from the built-in exception that fits, so ``except ValueError`` or
``except FileNotFoundError`` work as they do elsewhere in Python. What an error
is about stands in attributes as well as in the message; attributes that are not
known are ``None``. All of them can be pickled.

Plain misuse of an argument (``k=0``, a NaN in a vector, an array of the wrong
type) raises the built-in ``ValueError`` or ``TypeError``.

``ruvector.IndexError`` is not the built-in ``IndexError``, and its name hides that where it
is imported; import it as :data:`VectorIndexError`, the same class. ``from ruvector
import *`` leaves the built-in alone.
"""

from __future__ import annotations

import errno as _errno
import os as _os
from typing import Any

__all__ = [
    "A2aError",
    "ArtifactVersionUnsupported",
    "AuthRequired",
    "BackendError",
    "BudgetExceeded",
    "CacheMissError",
    "CardSignatureInvalid",
    "DimensionMismatch",
    "DuplicateId",
    "EmbedError",
    "EmptyCollection",
    "EmptyIndex",
    "LakeDimensionMismatch",
    "LakeError",
    "LakeFileDenied",
    "LakeFileError",
    "LakeFileNotFound",
    "LakeValueError",
    "NoVectors",
    "PersistDenied",
    "PersistError",
    "PersistNotFound",
    "PolicyViolation",
    "ProtocolError",
    "RecursionLimit",
    "RuVectorError",
    "TaskNotCancelable",
    "TaskNotFound",
    "TransportError",
    "UnknownCollection",
    "UnknownId",
    "UnsupportedOperation",
    "VectorIndexError",
    "VersionNotSupported",
    "WitnessMismatch",
]


class RuVectorError(Exception):
    """Root of all exceptions of this package.

    ``Class(message, name=value, ...)`` sets the attributes the class declares.
    """

    def __init__(self, message: str = "", **facts: Any) -> None:
        super().__init__(message)
        for name, value in facts.items():
            if not hasattr(type(self), name):
                raise TypeError(f"{type(self).__name__} has no attribute {name!r}")
            setattr(self, name, value)

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class _OSFacts:
    """Pickles what an ``OSError`` keeps outside its ``__dict__``."""

    def __reduce__(self) -> tuple[Any, ...]:
        facts = dict(self.__dict__)
        for name in ("errno", "strerror", "filename"):
            facts[name] = getattr(self, name)
        return type(self), getattr(self, "args", ()), facts


# ---- indexes ---------------------------------------------------------------------


class IndexError(RuVectorError):  # the name is part of the public tree
    """Something about a vector index. Import it by its other name, ``VectorIndexError``."""


#: The same class, by a name that hides nothing built in.
VectorIndexError = IndexError


class DimensionMismatch(IndexError, ValueError):
    """A vector's length is not the dimension of the index."""

    expected: int | None = None  #: dimension of the index
    actual: int | None = None  #: length that came


class EmptyIndex(IndexError, LookupError):
    """A search on an index that holds no vectors."""


class DuplicateId(IndexError, ValueError):
    """An id is in the index already, or stands twice in one call."""

    id: int | None = None


class UnknownId(IndexError, KeyError):
    """No vector with this id."""

    id: int | None = None


class NoVectors(IndexError, LookupError):
    """This index keeps codes only, so it cannot give original vectors back."""


class PersistError(_OSFacts, IndexError, OSError):
    """Saving or loading failed, or a mapped file was changed in place.

    ``errno`` is that of the operating system, or ``None`` where the bytes
    themselves are at fault: not an index file, cut short, or altered. A file
    that is altered after ``load`` mapped it is noticed by every call that reads
    from it; load it again, or with ``mmap=False``.
    """

    @property
    def path(self) -> Any:
        """The file concerned, as given; ``None`` for bytes in memory."""
        return self.filename


class PersistNotFound(PersistError, FileNotFoundError):
    """The file to load, or the directory to save to, does not exist."""


class PersistDenied(PersistError, PermissionError):
    """The operating system does not allow reading or writing the file."""


_BY_ERRNO = {
    _errno.ENOENT: PersistNotFound,
    _errno.EACCES: PersistDenied,
    _errno.EPERM: PersistDenied,
}


def persist_error(message: str, errno: int, path: Any) -> PersistError:
    """The :class:`PersistError` that fits an errno; 0 means none."""
    if not errno:
        return PersistError(message, filename=path)
    cls = _BY_ERRNO.get(errno, PersistError)
    return cls(message, errno=errno, strerror=_os.strerror(errno), filename=path)


# ---- lake ------------------------------------------------------------------------


class LakeError(RuVectorError):
    """Something about a lake."""

    backend: str | None = None
    collection: str | None = None


class LakeValueError(LakeError, ValueError):
    """An argument a lake cannot use: a name that is taken or stands for several
    things, counts that differ, values that are not finite, a text that is no bundle."""


class BackendError(LakeError, RuntimeError):
    """A backend failed, gave bad data, or does not exist.

    What an adapter raised is the ``__cause__``.
    """


class UnknownCollection(BackendError, LookupError):
    """There is no such backend, or it has no such collection."""


class LakeDimensionMismatch(LakeError, DimensionMismatch):
    """A vector's length is not the dimension of the collection."""


class EmptyCollection(LakeError, EmptyIndex):
    """A search in a collection that holds no vectors."""


class CacheMissError(LakeError, LookupError):
    """The answer is not in the cache and the caller asked for cached data only."""


class WitnessMismatch(LakeError, ValueError):
    """Data is not what its witness says."""

    expected: str | None = None
    actual: str | None = None


class LakeFileError(LakeError, PersistError):
    """A bundle or a snapshot cannot be read or written."""


class LakeFileNotFound(LakeFileError, PersistNotFound):
    """The file does not exist."""


class LakeFileDenied(LakeFileError, PersistDenied):
    """The operating system does not allow reading or writing the file."""


_LAKE_FILE: dict[type[PersistError], type[LakeFileError]] = {
    PersistNotFound: LakeFileNotFound,
    PersistDenied: LakeFileDenied,
}


def lake_file_error(message: str, errno: int, path: Any) -> LakeFileError:
    """As `persist_error`, for the files of a lake."""
    plain = persist_error(message, errno, path)
    cls = _LAKE_FILE.get(type(plain), LakeFileError)
    return cls(message, errno=plain.errno, strerror=plain.strerror, filename=path)


# ---- agents ----------------------------------------------------------------------


class A2aError(RuVectorError):
    """Something about talking to an agent."""

    code: int | None = None  #: JSON-RPC error code
    data: Any = None  #: JSON-RPC error data
    http_status: int | None = None
    dialect: str | None = None  #: protocol dialect in use
    url: str | None = None  #: what was asked, without the query
    task_id: str | None = None  #: the task it is about, where that is known
    body: str | None = None  #: what the peer said, at most 500 characters, secrets masked
    retry_after: float | None = None  #: seconds the peer asks to wait


class ProtocolError(A2aError, ValueError):
    """A peer's answer is not what the protocol says."""


class TaskNotFound(A2aError, LookupError):
    """The peer knows no task of this id (or no longer)."""


class TaskNotCancelable(A2aError, RuntimeError):
    """The task has ended, or its agent does not cancel."""


class UnsupportedOperation(A2aError, NotImplementedError):
    """The peer does not offer this, or not for a task in this state."""


class VersionNotSupported(UnsupportedOperation):
    """The peer does not speak the version of the protocol it was addressed in."""


class AuthRequired(_OSFacts, A2aError, PermissionError):
    """The peer wants credentials, or refuses those it got."""

    challenge: str | None = None  #: its WWW-Authenticate header


class RecursionLimit(A2aError, RuntimeError):
    """A task was handed on too often, or back to an agent it came from."""

    depth: int | None = None
    path: tuple[str, ...] = ()  #: agent ids on the way


class ArtifactVersionUnsupported(A2aError, ValueError):
    """A typed artifact is of a version this side does not read."""

    supported: tuple[str, ...] = ()


class CardSignatureInvalid(A2aError, ValueError):
    """An agent card is unsigned, altered, or signed by someone else."""

    reason: str | None = None
    remote: bool = False  #: the peer reports it about a card it fetched


class PolicyViolation(_OSFacts, A2aError, PermissionError):
    """A task would break its policy."""

    field: str | None = None
    limit: Any = None
    actual: Any = None
    remote: bool = False


class BudgetExceeded(A2aError, RuntimeError):
    """A global budget is used up."""

    dim: str | None = None  #: which budget
    limit: Any = None
    current: Any = None
    remote: bool = False


class TransportError(_OSFacts, A2aError, ConnectionError):
    """HTTP or the event stream failed, or a limit of the transport was reached."""

    phase: str | None = None  #: what was going on: "connect", "read", "idle", "address", ...
    retryable: bool = False


# ---- embeddings ------------------------------------------------------------------


class EmbedError(RuVectorError, RuntimeError):
    """A model cannot be found, read or run."""

    model: str | None = None
    looked_in: tuple[str, ...] = ()
