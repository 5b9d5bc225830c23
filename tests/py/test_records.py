"""Hits and the other small records behave as namedtuples do; enums print their names."""

from __future__ import annotations

import collections
import copy
import json
import pickle
import sys

import numpy as np
import pytest
import ruvector

RECORDS = {
    "Hit": (("id", "score"), (7, 0.5)),
    "LakeHit": (("backend", "collection", "id", "score"), ("b", "docs", 2**64 - 2, 1.5)),
    "Rotation": (("dim", "padded_dim", "seed"), (24, 32, 42)),
    "Tuning": (("nprobe", "epsilon", "recall"), ("all", 2.2, 1.0)),
}


@pytest.fixture(params=RECORDS)
def pair(request):
    """A record and the namedtuple it should be like."""
    fields, values = RECORDS[request.param]
    twin = collections.namedtuple(request.param, fields)
    return getattr(ruvector, request.param)(values), twin(*values)


@pytest.fixture
def hits(rng):
    vectors = rng.standard_normal((30, 8)).astype(np.float32)
    return ruvector.RabitqPlusIndex.build(vectors, ids=np.arange(100, 130)).search(vectors[4], 3)


@pytest.fixture
def lake_hits(rng):
    backend, lake = ruvector.LocalBackend("b"), ruvector.RuLake()
    vectors = rng.standard_normal((30, 8)).astype(np.float32)
    backend.put_collection("docs", np.arange(100, 130), vectors)
    lake.register_backend(backend)
    return lake.search_one("docs", vectors[4], 3)


def test_names_are_those_of_a_namedtuple(pair):
    record, twin = pair
    assert record._fields == twin._fields
    assert record._field_defaults == twin._field_defaults == {}
    assert type(record).__match_args__ == twin._fields
    assert tuple(record) == tuple(twin)


def test_asdict(pair):
    record, twin = pair
    assert record._asdict() == twin._asdict()
    assert list(record._asdict()) == list(twin._asdict())


def test_make(pair):
    record, twin = pair
    assert type(record)._make(iter(twin)) == record
    assert type(type(record)._make(list(twin))) is type(record)
    for wrong in ([], [*twin, 1], None):
        with pytest.raises(TypeError):
            type(record)._make(wrong)
        with pytest.raises(TypeError):
            type(twin)._make(wrong)


def test_replace(pair):
    record, twin = pair
    for name in twin._fields:
        changed = record._replace(**{name: "new"})
        assert changed._asdict() == twin._replace(**{name: "new"})._asdict()
        assert type(changed) is type(record)
    assert record._replace() == record
    assert tuple(record) == tuple(twin)
    with pytest.raises((TypeError, ValueError), match="nothing"):
        record._replace(nothing=1)
    with pytest.raises(TypeError):
        record._replace(1)


def test_copies(pair):
    record, _ = pair
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        loaded = pickle.loads(pickle.dumps(record, protocol))
        assert loaded == record
        assert type(loaded) is type(record)
    for twin in (copy.copy(record), copy.deepcopy(record)):
        assert twin == record
        assert type(twin) is type(record)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="copy.replace is of Python 3.13")
def test_copy_replace(pair):
    record, twin = pair
    name = twin._fields[0]
    assert copy.replace(record, **{name: 1})._asdict() == copy.replace(twin, **{name: 1})._asdict()


def test_fields_hold_python_numbers(hits, lake_hits):
    for hit in hits + lake_hits:
        assert type(hit.id) is int
        assert type(hit.score) is float
    assert json.loads(json.dumps(hits)) == [[h.id, h.score] for h in hits]
    assert json.loads(json.dumps([h._asdict() for h in lake_hits])) == [
        {"backend": "b", "collection": "docs", "id": h.id, "score": h.score} for h in lake_hits
    ]


def test_frames_see_the_names(hits, lake_hits):
    import pandas
    import polars

    for found in (hits, lake_hits):
        names = list(type(found[0])._fields)
        frame = pandas.DataFrame(found)
        assert list(frame.columns) == names
        assert frame["id"].tolist() == [h.id for h in found]
        frame = polars.DataFrame(found, orient="row")
        assert frame["id"].to_list() == [h.id for h in found]


@pytest.mark.skipif(sys.version_info < (3, 10), reason="match is of Python 3.10")
def test_patterns_match(pair):
    record, twin = pair
    source = (
        "match record:\n"
        f"    case Type({', '.join(twin._fields[:2])}):\n"
        f"        found = ({', '.join(twin._fields[:2])})\n"
    )
    names = {"record": record, "Type": type(record)}
    exec(source, names)
    assert names["found"] == tuple(twin[:2])


# ---- enums -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "member", [*ruvector.Consistency, *ruvector.RefreshResult], ids=lambda m: m.name
)
def test_enums_print_their_names(member):
    assert str(member) == f"{member}" == format(member) == member.name
    assert f"{member:>20}" == member.name.rjust(20)
    assert f"{member:d} {member:03d}" == f"{member.value} {member.value:03d}"
    assert "%s" % member == member.name  # noqa: UP031
    assert member.name in repr(member)
    assert type(member)(json.loads(json.dumps(member))) is member
    assert pickle.loads(pickle.dumps(member)) is member


def test_a_state_of_a_task_prints_its_name_and_is_one_in_json():
    from ruvector.a2a import TaskState

    for state in TaskState:
        assert str(state) == f"{state}" == json.loads(json.dumps(state)) == state.value
