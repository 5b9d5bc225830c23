"""The exception tree: shape, built-in bases, attributes, pickling."""

from __future__ import annotations

import builtins
import copy
import errno
import inspect
import pickle
import re

import numpy as np
import pytest
import ruvector
from ruvector import errors

# child: (parent, built-in it also is)
TREE = {
    "RuVectorError": (None, Exception),
    "IndexError": ("RuVectorError", Exception),
    "DimensionMismatch": ("IndexError", ValueError),
    "EmptyIndex": ("IndexError", LookupError),
    "DuplicateId": ("IndexError", ValueError),
    "UnknownId": ("IndexError", KeyError),
    "NoVectors": ("IndexError", LookupError),
    "PersistError": ("IndexError", OSError),
    "PersistNotFound": ("PersistError", FileNotFoundError),
    "PersistDenied": ("PersistError", PermissionError),
    "LakeError": ("RuVectorError", Exception),
    "LakeValueError": ("LakeError", ValueError),
    "BackendError": ("LakeError", RuntimeError),
    "UnknownCollection": ("BackendError", LookupError),
    "LakeDimensionMismatch": ("LakeError", ValueError),
    "EmptyCollection": ("LakeError", LookupError),
    "LakeFileError": ("LakeError", OSError),
    "LakeFileNotFound": ("LakeFileError", FileNotFoundError),
    "LakeFileDenied": ("LakeFileError", PermissionError),
    "CacheMissError": ("LakeError", LookupError),
    "WitnessMismatch": ("LakeError", ValueError),
    "A2aError": ("RuVectorError", Exception),
    "ProtocolError": ("A2aError", ValueError),
    "TaskNotFound": ("A2aError", LookupError),
    "TaskNotCancelable": ("A2aError", RuntimeError),
    "UnsupportedOperation": ("A2aError", NotImplementedError),
    "VersionNotSupported": ("UnsupportedOperation", NotImplementedError),
    "AuthRequired": ("A2aError", PermissionError),
    "RecursionLimit": ("A2aError", RuntimeError),
    "ArtifactVersionUnsupported": ("A2aError", ValueError),
    "CardSignatureInvalid": ("A2aError", ValueError),
    "PolicyViolation": ("A2aError", PermissionError),
    "BudgetExceeded": ("A2aError", RuntimeError),
    "TransportError": ("A2aError", ConnectionError),
    "EmbedError": ("RuVectorError", RuntimeError),
}


@pytest.mark.parametrize("name", TREE)
def test_place_in_the_tree(name):
    parent, builtin = TREE[name]
    cls = getattr(ruvector, name)
    assert cls is getattr(errors, name)
    assert issubclass(cls, builtin)
    assert issubclass(cls, ruvector.RuVectorError)
    assert parent is None or issubclass(cls, getattr(ruvector, parent))
    assert inspect.getdoc(cls)


def test_errors_of_a_lake_that_are_those_of_an_index_too():
    assert issubclass(errors.LakeDimensionMismatch, errors.DimensionMismatch)
    assert issubclass(errors.EmptyCollection, errors.EmptyIndex)
    assert issubclass(errors.LakeFileError, errors.PersistError)
    assert issubclass(errors.LakeFileNotFound, errors.PersistNotFound)
    assert issubclass(errors.LakeFileDenied, errors.PersistDenied)


def test_nothing_else_is_in_the_tree():
    found = {n for n, c in vars(errors).items() if inspect.isclass(c) and issubclass(c, Exception)}
    assert found - set(TREE) == {"VectorIndexError"}


def test_the_tree_at_the_top_of_the_module_is_true():
    classes = {c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, Exception)}
    block = inspect.getdoc(errors).split("::\n\n", 1)[1].split("\n\n", 1)[0]
    above, shown = [], []
    for line in block.splitlines():
        indent, name, others = re.fullmatch(r"    ((?:  )*)(\w+)(?: \((.+)\))?", line).groups()
        above[len(indent) // 2 :] = [name]
        bases = [*above[-2:-1], *(others.split(", ") if others else [])]
        real = [b for b in getattr(errors, name).__bases__ if b.__name__ != "_OSFacts"]
        assert sorted(bases or ["Exception"]) == sorted(b.__name__ for b in real)
        shown.append(name)
    assert sorted(shown) == sorted(c.__name__ for c in classes)


def test_the_name_index_error_is_ours_only_inside_the_package():
    assert ruvector.IndexError is not builtins.IndexError
    assert "IndexError" not in ruvector.__all__
    assert "IndexError" not in errors.__all__
    assert ruvector.VectorIndexError is errors.VectorIndexError is ruvector.IndexError
    assert "VectorIndexError" in ruvector.__all__
    assert pickle.loads(pickle.dumps(ruvector.VectorIndexError)) is ruvector.IndexError


EXAMPLES = [
    errors.RuVectorError("words"),
    errors.DimensionMismatch("words", expected=768, actual=3),
    errors.DuplicateId("words", id=2**64 - 2),
    errors.UnknownId("words", id=0),
    errors.PersistError("words"),
    errors.PersistError("words", errno=errno.ENOSPC, strerror="full", filename="/tmp/ä"),
    errors.persist_error("words", errno.ENOENT, "/tmp/x"),
    errors.persist_error("words", errno.EACCES, b"/tmp/x"),
    errors.BackendError("words", backend="b", collection="c"),
    errors.UnknownCollection("words", backend="b", collection="c"),
    errors.LakeDimensionMismatch("words", expected=3, actual=4, backend="b"),
    errors.lake_file_error("words", errno.ENOENT, "/tmp/x"),
    errors.lake_file_error("words", 0, "/tmp/x"),
    errors.WitnessMismatch("words", expected="ab", actual="cd", backend="b"),
    errors.A2aError("words", code=-32002, data={"a": 1}, http_status=500, dialect="1.0"),
    errors.AuthRequired("words", challenge="Bearer", http_status=401),
    errors.RecursionLimit("words", depth=9, path=("a", "b")),
    errors.ArtifactVersionUnsupported("words", supported=("1",)),
    errors.CardSignatureInvalid("words", reason="unsigned", remote=True),
    errors.PolicyViolation("words", field="max_cost_usd", limit=0.1, actual=0.2),
    errors.BudgetExceeded("words", dim="tasks", limit=3, current=4, remote=True),
    errors.TransportError("words", phase="read", retryable=True),
    errors.EmbedError("words", model="m", looked_in=("a", "b")),
]
FACTS = [
    *("expected", "actual", "id", "errno", "strerror", "filename", "path"),
    *("backend", "collection", "code", "data", "http_status", "dialect", "reason"),
    *("remote", "field", "limit", "dim", "current", "phase", "retryable"),
    *("model", "looked_in", "challenge", "depth", "supported"),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("way", ["copy", *range(pickle.HIGHEST_PROTOCOL + 1)])
def test_errors_can_be_copied_and_pickled(error, way):
    other = copy.copy(error) if way == "copy" else pickle.loads(pickle.dumps(error, way))
    assert type(other) is type(error)
    assert str(other) == str(error) == "words"
    assert other.args == error.args
    for name in FACTS:
        assert getattr(other, name, "absent") == getattr(error, name, "absent")


def test_facts_not_known_are_none():
    error = errors.DimensionMismatch("words")
    assert (error.expected, error.actual) == (None, None)
    assert errors.PersistError("words").errno is None


def test_facts_a_class_does_not_have_are_refused():
    with pytest.raises(TypeError, match="color"):
        errors.DimensionMismatch("words", color="red")


def test_the_class_of_a_persist_error_follows_from_errno():
    assert type(errors.persist_error("w", errno.ENOENT, "p")) is errors.PersistNotFound
    assert type(errors.persist_error("w", errno.EACCES, "p")) is errors.PersistDenied
    assert type(errors.persist_error("w", errno.ENOSPC, "p")) is errors.PersistError
    error = errors.persist_error("w", errno.ENOSPC, "p")
    assert (error.errno, error.filename, error.path) == (errno.ENOSPC, "p", "p")
    assert error.strerror


def test_errors_from_the_library_can_be_pickled(tmp_path):
    idx = ruvector.RabitqPlusIndex.build(np.ones((2, 3), np.float32))
    for function in (
        lambda: idx.search([1.0]),
        lambda: idx.add(0, [1.0, 2, 3]),
        lambda: idx[99],
        lambda: idx.save(tmp_path / "none" / "x"),
    ):
        with pytest.raises(ruvector.RuVectorError) as caught:
            function()
        other = pickle.loads(pickle.dumps(caught.value))
        assert (type(other), str(other)) == (type(caught.value), str(caught.value))


def test_an_unknown_id_reads_like_a_sentence():
    # a plain KeyError would print the repr of its argument
    assert str(errors.UnknownId("id 5 is not in the index")) == "id 5 is not in the index"
