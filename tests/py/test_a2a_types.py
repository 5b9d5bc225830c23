"""Messages, tasks, updates and typed artifacts from the JSON of every dialect."""

from __future__ import annotations

import contextlib
import json
import pickle
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruvector.a2a import (
    Artifact,
    JsonArtifact,
    Message,
    Part,
    RuLakeWitness,
    Task,
    TaskContext,
    TaskPolicy,
    TaskSpec,
    TaskState,
    TaskStatus,
    TaskUpdate,
    TextArtifact,
    VectorRef,
    codec_rvagent,
    codec_v03,
    codec_v10,
)
from ruvector.a2a.fold import Fold
from ruvector.errors import ArtifactVersionUnsupported, ProtocolError

ENCODERS = {
    "rvagent": codec_rvagent.encode_part,
    "0.3": codec_v03.encode_part,
    "1.0": codec_v10.encode_part,
}
PARTS = [
    Part("text", "Grüße \u2028 漢字"),
    Part("text", ""),
    Part("data", data={"rows": 3, "deep": [None, {"x": 1.5}]}),
    Part("file", name="a.bin", media_type="application/x", bytes=bytes(range(256))),
    Part("file", name="far.png", media_type="image/png", uri="https://example.com/far.png"),
    Part("file", bytes=b""),
]


@pytest.mark.parametrize("dialect", ENCODERS)
@pytest.mark.parametrize("part", PARTS, ids=range(len(PARTS)))
def test_parts_survive_every_dialect(dialect, part):
    text = json.dumps(ENCODERS[dialect](part))
    assert Part.parse(json.loads(text)) == part


@pytest.mark.parametrize("data", [[1, 2], "text", None, 5, True])
def test_data_parts_hold_any_value_but_in_03(data):
    part = Part("data", data=data)
    for dialect in ("rvagent", "1.0"):
        assert Part.parse(ENCODERS[dialect](part)) == part
    with pytest.raises(ValueError, match="JSON object"):
        codec_v03.encode_part(part)


def test_where_bytes_and_an_address_are_given_the_bytes_count():
    file = {"bytes": "aGk=", "uri": "https://example.com", "name": "x"}
    part = Part.parse({"type": "file", "file": file})
    assert (part.bytes, part.uri) == (b"hi", None)


def test_empty_names_are_absent():
    part = Part.parse({"text": "x", "filename": "", "mediaType": ""})
    assert part == Part("text", "x")


@pytest.mark.parametrize(
    "value",
    [
        *([], "x", None, {"text": 5}, {"kind": "text"}),
        {"raw": "not base64!"},
        {"type": "file", "file": {"bytes": 7}},
        {"text": "x", "mediaType": 4},
    ],
)
def test_parts_of_the_wrong_form(value):
    with pytest.raises(ProtocolError):
        Part.parse(value)


def test_a_part_of_a_new_kind_is_kept():
    part = Part.parse({"kind": "hologram", "light": 1})
    assert (part.kind, part.data) == ("hologram", {"kind": "hologram", "light": 1})


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("input-required", TaskState.INPUT_REQUIRED),
        ("TASK_STATE_INPUT_REQUIRED", TaskState.INPUT_REQUIRED),
        ("TASK_STATE_UNSPECIFIED", TaskState.UNKNOWN),
        ("unknown", TaskState.UNKNOWN),
        ("daydreaming", TaskState.UNKNOWN),
        ("completed", TaskState.COMPLETED),
    ],
)
def test_states(text, state):
    assert TaskState.parse(text) is state


def test_which_states_end_and_which_wait():
    assert {s for s in TaskState if s.is_terminal} == {
        "completed",
        "canceled",
        "failed",
        "rejected",
    }
    assert {s for s in TaskState if s.is_interrupted} == {"input-required", "auth-required"}
    assert str(TaskState.WORKING) == f"{TaskState.WORKING}" == "working"


@pytest.mark.parametrize(
    ("text", "micros", "zone"),
    [
        ("2026-11-23T02:00:34Z", 0, 0),
        ("2026-11-23T02:00:34.504Z", 504000, 0),
        ("2026-11-23T02:00:34.662121Z", 662121, 0),
        ("2026-11-23T02:00:34.460763598Z", 460763, 0),
        ("2026-11-23T02:00:34.5+05:30", 500000, 330),
        ("2026-11-23t02:00:34.5-01:00", 500000, -60),
    ],
)
def test_times(text, micros, zone):
    zone = timezone(timedelta(minutes=zone))
    expected = datetime(2026, 11, 23, 2, 0, 34, micros, zone)
    status = TaskStatus.parse({"state": "working", "timestamp": text})
    assert status.timestamp == text
    assert status.time == expected


@pytest.mark.parametrize("text", [None, "", "yesterday", "2026-13-40T99:99:99Z", "2026-11-23"])
def test_what_is_no_time(text):
    assert TaskStatus(TaskState.WORKING, text).time is None


def test_the_task_of_each_dialect():
    rvagent = {
        "id": "t",
        "sessionId": "c",
        "status": {"state": "completed", "timestamp": "2026-11-23T02:00:34.460763598Z"},
        "history": [{"role": "user", "parts": [{"type": "text", "text": "q"}], "metadata": None}],
        "artifacts": [{"parts": [{"type": "text", "text": "a"}], "index": 2, "lastChunk": True}],
        "metadata": None,
    }
    old = {
        "kind": "task",
        "id": "t",
        "contextId": "c",
        "status": {"state": "completed"},
        "history": [
            {
                "kind": "message",
                "messageId": "m",
                "role": "user",
                "parts": [{"kind": "text", "text": "q"}],
            }
        ],
        "artifacts": [{"artifactId": "2", "parts": [{"kind": "text", "text": "a"}]}],
    }
    new = {
        "id": "t",
        "contextId": "c",
        "status": {"state": "TASK_STATE_COMPLETED"},
        "history": [{"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "q"}]}],
        "artifacts": [{"artifactId": "2", "parts": [{"text": "a"}]}],
    }
    for raw in (rvagent, old, new):
        task = Task.parse(raw)
        assert (task.id, task.context_id, task.status.state, task.text) == (
            "t",
            "c",
            "completed",
            "a",
        )
        assert (task.history[0].role, task.history[0].text) == ("user", "q")
        assert task.artifacts[0].id == "2"
        assert task.metadata == {}
        assert task.raw is raw


@pytest.mark.parametrize(
    "value",
    [
        *(None, [], {}, {"id": 5, "status": {"state": "x"}}, {"id": "t"}),
        {"id": "t", "status": {"state": [5]}},
        {"id": "t", "status": {"state": "x"}, "artifacts": {}},
        {"id": "t", "status": {"state": "x"}, "history": [{"parts": 5}]},
    ],
)
def test_tasks_of_the_wrong_form(value):
    with pytest.raises(ProtocolError):
        Task.parse(value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "id",
                    "status",
                    "state",
                    "message",
                    "parts",
                    "artifacts",
                    "history",
                    "kind",
                    "type",
                    "text",
                    "data",
                    "file",
                    "bytes",
                    "raw",
                    "url",
                    "artifactId",
                    "index",
                    "metadata",
                    "role",
                    "timestamp",
                    "contextId",
                ]
            ),
            inner,
        )
    ),
    max_leaves=25,
)


@given(JSON)
def test_any_json_is_a_task_or_an_error(value):
    for cls in (Task, Message, Artifact, Part, TaskStatus):
        with contextlib.suppress(ProtocolError):
            assert isinstance(cls.parse(value), cls)


def test_values_can_be_pickled_and_show_no_content_of_files():
    part = Part("file", bytes=b"secret")
    task = Task("t", TaskStatus(TaskState.WORKING), artifacts=(Artifact("a", (part,)),))
    assert pickle.loads(pickle.dumps(task)) == task
    assert "secret" not in repr(task)


# ---- what the caller gives ----------------------------------------------------------


def test_inputs():
    message = (
        codec_v10.CodecV10()
        .send(TaskSpec("s", ["one", {"two": 2}, Part("text", "three")]), wait=False)
        .body["params"]["message"]
    )
    assert message["parts"] == [{"text": "one"}, {"data": {"two": 2}}, {"text": "three"}]
    assert message["metadata"] == {"ruvector": {"skill": "s"}}


@pytest.mark.parametrize("value", [5, b"bytes", [5], object()])
def test_inputs_of_the_wrong_type(value):
    with pytest.raises(TypeError, match="input"):
        TaskSpec("s", value)


def test_a_task_needs_an_input():
    with pytest.raises(ValueError, match="needs an input"):
        codec_v03.CodecV03().send(TaskSpec("s"), wait=False)


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("max_tokens", "5", TypeError),
        ("max_tokens", 1.5, TypeError),
        ("max_tokens", True, TypeError),
        ("max_tokens", -1, ValueError),
        ("max_cost_usd", float("nan"), ValueError),
        ("max_cost_usd", float("inf"), ValueError),
        ("allowed_skills", "echo", TypeError),
    ],
)
def test_policies_of_the_wrong_form(field, value, error):
    with pytest.raises(error, match=field):
        TaskPolicy(**{field: value})


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        # an estimate that is no number would pass every limit
        ("estimated_cost_usd", float("nan"), ValueError),
        ("estimated_cost_usd", float("inf"), ValueError),
        ("estimated_cost_usd", -0.1, ValueError),
        ("estimated_cost_usd", "0.1", TypeError),
        ("estimated_tokens", -1, ValueError),
        ("estimated_tokens", 1.5, TypeError),
        ("estimated_tokens", True, TypeError),
        ("skill", 5, TypeError),
        ("id", b"t", TypeError),
        ("context_id", 5, TypeError),
        ("policy", {"max_tokens": 5}, TypeError),
        ("context", {"depth": 0}, TypeError),
        ("metadata", [1], TypeError),
    ],
)
def test_specs_of_the_wrong_form(field, value, error):
    with pytest.raises(error, match=field):
        TaskSpec("skill", **{field: value})


def test_a_policy_tells_what_is_set():
    policy = TaskPolicy(max_tokens=0, allowed_skills=["a"])
    assert policy.to_dict() == {"max_tokens": 0, "allowed_skills": ["a"]}


def test_contexts_of_children():
    root = TaskContext("a" * 32, "r" * 64, current_agent="r" * 64)
    child = root.child("x").child("y", "parent")
    assert (child.trace_id, child.root_agent_id, child.depth) == ("a" * 32, "r" * 64, 2)
    assert (child.current_agent, child.visited_agents) == ("y", ("r" * 64, "x"))
    assert child.to_dict()["parent_task_id"] == "parent"
    with pytest.raises(ValueError, match="32 lowercase hex"):
        TaskContext("A" * 32, "r")


def test_numbers_that_doubles_cannot_hold_travel_as_text():
    spec = TaskSpec("s", "x", TaskPolicy(max_tokens=2**60, max_duration_ms=5))
    body = codec_v10.CodecV10().send(spec, wait=False).body
    told = body["params"]["message"]["metadata"]["ruvector"]["policy"]
    assert told == {"max_tokens": str(2**60), "max_duration_ms": 5}


# ---- typed artifacts ----------------------------------------------------------------

WITNESS = "7eac1775d1f76a4db88672655fc64977287ec60eda47c6df3a19bacfd0c038cd"
TYPED = [
    TextArtifact("words"),
    JsonArtifact({"a": [1, None]}),
    JsonArtifact(5, "https://example.com/schema"),
    VectorRef("hot", "docs", WITNESS, 768, 100_000),
    RuLakeWitness(WITNESS, "file:///data/docs", ("read", "search")),
]


@pytest.mark.parametrize("value", TYPED, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("dialect", ENCODERS)
def test_typed_artifacts_survive_every_dialect(value, dialect):
    artifact = value.to_artifact()
    told = {
        "artifactId": "0",
        "name": artifact.name,
        "parts": [ENCODERS[dialect](part) for part in artifact.parts],
        "metadata": artifact.metadata,
    }
    # servers that keep numbers as doubles send 768.0
    text = json.dumps(told).replace("768", "768.0")
    assert Artifact.parse(json.loads(text)).typed == value


def test_what_a_witness_looks_like_on_the_wire():
    artifact = TYPED[-1].to_artifact()
    assert {value.to_artifact().name for value in TYPED} == {"ruvector.artifact_kind"}
    assert artifact.metadata == {
        "ruvector": {"artifact_kind": "rulake_witness", "artifact_kind_version": "1"}
    }
    assert artifact.parts[0].data == {
        "kind": "ru_lake_witness",
        "witness": WITNESS,
        "data_ref": "file:///data/docs",
        "capabilities": ["read", "search"],
    }


@pytest.mark.parametrize("kind", ["ru_lake_witness", "rulake_witness"])
def test_both_spellings_are_read(kind):
    data = {**TYPED[-1].part().data, "kind": kind}
    assert Artifact("0", (Part("data", data=data),)).typed == TYPED[-1]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RuLakeWitness("abc", "file:///data"), "64 lowercase hex digits, not 'abc'"),
        (lambda: RuLakeWitness(WITNESS.upper(), "file:///data"), "64 lowercase"),
        (lambda: RuLakeWitness(None, "file:///data"), "64 lowercase"),
        (lambda: RuLakeWitness(WITNESS, b"file:///data"), "data_ref is a str, not bytes"),
        (lambda: RuLakeWitness(WITNESS, "file:///data", "read"), "not one str"),
        (lambda: VectorRef("b", "c", "abc", 3, 1), "64 lowercase"),
        (lambda: VectorRef("b", "c", WITNESS, -1, 1), "dim"),
        (lambda: VectorRef("b", "c", WITNESS, 3, 2**32), "count"),
        (lambda: VectorRef("b", "c", WITNESS, 3.5, 1), "dim"),
        (lambda: VectorRef("b", "c", WITNESS, True, 1), "dim"),
    ],
)
def test_values_that_no_peer_would_read(make, words):
    with pytest.raises((ValueError, TypeError), match=words):
        make()


def test_capabilities_may_be_a_list():
    assert RuLakeWitness(WITNESS, "file:///data", ["read"]).capabilities == ("read",)


def test_a_witness_fits_in_two_kilobytes():
    witness = RuLakeWitness(WITNESS, "https://lake.example.com/shards/" + "s" * 200)
    spec = codec_rvagent.complete(TaskSpec("index", [witness.part()]), None)
    assert len(codec_rvagent.CodecRvAgent().send(spec).content()) <= 2048


@pytest.mark.parametrize(
    "artifact",
    [
        Artifact("0", ()),
        Artifact("0", (Part("text", "a"), Part("text", "b"))),
        Artifact("0", (Part("data", data={"kind": "of a new sort"}),)),
        Artifact("0", (Part("data", data=[1]),)),
        Artifact("0", (Part("file", bytes=b"x"),)),
    ],
)
def test_artifacts_without_a_type(artifact):
    assert artifact.typed is None


def test_another_version_is_refused():
    ruvector = {"artifact_kind": "text", "artifact_kind_version": "2"}
    artifact = Artifact("0", (Part("text", "x"),), metadata={"ruvector": ruvector})
    with pytest.raises(ArtifactVersionUnsupported) as caught:
        artifact.typed  # noqa: B018
    assert caught.value.supported == ("1",)


@pytest.mark.parametrize(
    "change",
    [
        *({"witness": WITNESS.upper()}, {"witness": WITNESS[1:]}, {"witness": 5}),
        *({"data_ref": None}, {"capabilities": "read"}, {"capabilities": [1]}),
    ],
)
def test_witnesses_of_the_wrong_form(change):
    data = {**TYPED[-1].part().data, **change}
    with pytest.raises(ProtocolError):
        Artifact("0", (Part("data", data=data),)).typed  # noqa: B018


@pytest.mark.parametrize("change", [{"dim": -1}, {"dim": 2**32}, {"dim": 1.5}, {"count": True}])
def test_vector_references_of_the_wrong_form(change):
    data = {**TYPED[3].to_artifact().parts[0].data, **change}
    with pytest.raises(ProtocolError):
        Artifact("0", (Part("data", data=data),)).typed  # noqa: B018


def test_a_witness_and_the_bundle_it_stands_for():
    class Bundle:
        rvf_witness = WITNESS
        data_ref = "file:///data/docs"

    assert TYPED[-1].matches(Bundle())
    Bundle.data_ref = "file:///elsewhere"
    assert not TYPED[-1].matches(Bundle())


# ---- updates put together -----------------------------------------------------------


def text_artifact(id, *texts):
    return Artifact(id, tuple(Part("text", text) for text in texts))


def artifact_update(id, *texts, append=False):
    return TaskUpdate("artifact", "t", artifact=text_artifact(id, *texts), append=append)


def test_chunks_are_put_together():
    fold = Fold()
    status = TaskStatus(TaskState.WORKING)
    fold.apply(TaskUpdate("status", "t", status=status))
    fold.apply(artifact_update("a", "one ", append=True))  # the first may say append, too
    fold.apply(artifact_update("a", "two", append=True))
    fold.apply(artifact_update("b", "old"))
    fold.apply(artifact_update("b", "new"))
    assert (fold.task.id, fold.task.status) == ("t", status)
    assert [artifact.text for artifact in fold.task.artifacts] == ["one two", "new"]


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.booleans()), max_size=8),
    st.lists(st.tuples(st.sampled_from("ab"), st.lists(st.sampled_from("xy"))), max_size=3),
)
def test_what_is_missing_leads_to_the_snapshot(before, artifacts):
    fold = Fold()
    for id, text, append in before:
        fold.apply(artifact_update(id, text, append=append))
    snapshot = {id: text_artifact(id, *texts) for id, texts in artifacts}
    task = Task("t", TaskStatus(TaskState.COMPLETED), artifacts=tuple(snapshot.values()))
    updates = list(fold.missing(task))
    for update in [*updates, fold.ending(task)]:
        assert update.synthetic
        fold.apply(update)
    after = {artifact.id: artifact.parts for artifact in fold.task.artifacts}
    assert all(after[id] == artifact.parts for id, artifact in snapshot.items())
    assert list(fold.missing(task)) == []


@pytest.mark.parametrize("cls", [Artifact, Message, Part])
def test_pickles_of_an_older_version_are_read(cls):
    assert pickle.loads(f"cruvector.a2a.types\n{cls.__name__}\n.".encode()) is cls
