"""Bundles: their text to the byte, their witness, their files."""

from __future__ import annotations

import json
import os
import re
import stat

import pytest
import ruvector
from hypothesis import given
from hypothesis import strategies as st
from lakes import bundle_path, in_threads, witness_of
from ruvector import RuLakeBundle

U64 = 2**64 - 1
# data_ref, dim, rotation_seed, rerank_factor, generation, witness
WITNESSES = [
    ("gs://bucket/x.parquet", 128, 42, 20, 7,
     "7eac1775d1f76a4db88672655fc64977287ec60eda47c6df3a19bacfd0c038cd"),
    ("local://hot-shard/docs", 768, 42, 20, 1,
     "789483ccb92077cb1f3791f327b0e0fa24f4854f88243ebf6f832890183bb568"),
    ("x", 1, 0, 1, 7,
     "1cc8073588bc0c76ef87dd44d7be3440e306a089ca313ba05c2db6710205983b"),
    ("x", 1, 0, 1, "\7" + "\0" * 7,
     "a19518def03e50a5dd1c34204cf5ac2df34051041a358044c078f790cf0a3afc"),
    ("iceberg://catalog/db/table", 384, 3735928559, 5, "01JCX7NK6G5R9G1YZ7QH",
     "6b1a75410b684054ec05c6c717a4e75204419722d5ce64e37ac1a2703c8e940b"),
    ("", 0, 0, 0, 0,
     "418ff3f5b394b08444dbf1e032184713085726a33040417cd16a85744d11e714"),
    ("", 0, 0, 0, "",
     "a57178422a32ac0101457765abe8c81ace9991fa6875ea059c1ecc65204b60f8"),
    ("file:///data/é/c.bin", 3, U64, 1024, U64,
     "059db42b70db1b189ca72ebb63c7ed82e8f3700c6614b09a77920ad927fcc592"),
    ("x", 1, 0, 1, "a|b",
     "b511257b23f2fe1853e85de1183aaa71affd0ff2403b1395ca739185b2901f8e"),
    ("x", 1, 0, 1, "ab|",
     "ad062c69622bf16887ad6cf866895a7426a1ff650539db012968c8d021232e76"),
    ("x", 128, 1, 20, 1,
     "6d7d268be59f953638b7a81e44881e435283c7dc8f8f3717c67ec834de9c447b"),
    ("a" * 59, 128, 42, 20, 7,
     "12a661ded01049b3087d338f16491c4751191d2b3d19856398bfcf68e54d34d5"),
    ("a" * 60, 128, 42, 20, 7,
     "3524427343d23fa85a040868382bd52e3e34a7868d7cfc002fe42b197509d5fc"),
    ("a" * 61, 128, 42, 20, 7,
     "e9f58bd35ce1f391c55bfac7dd85ab458ef6e79f5b1c1f189ec452db13ddef90"),
    ("a" * 200, 128, 42, 20, 7,
     "8bf9365437ebe1f84b1127c252fa5c578b3b319137e67212f1662579e2ea71ab"),
]  # fmt: skip
TEXT = """{
  "format_version": 2,
  "data_ref": "gs://bucket/x.parquet",
  "dim": 128,
  "rotation_seed": 42,
  "rerank_factor": 20,
  "generation": 7,
  "rvf_witness": "7eac1775d1f76a4db88672655fc64977287ec60eda47c6df3a19bacfd0c038cd",
  "pii_policy": null,
  "lineage_id": null
}"""
PLAIN = RuLakeBundle("gs://bucket/x.parquet", 128, 42, 20, 7)
FIELDS = [
    *("format_version", "data_ref", "dim", "rotation_seed", "rerank_factor"),
    *("generation", "rvf_witness", "pii_policy", "lineage_id", "memory_class"),
]

u64 = st.integers(0, U64)
text = st.text(st.characters(codec="utf-8"), max_size=50)
bundles = st.builds(
    RuLakeBundle,
    text,
    u64,
    u64,
    u64,
    st.one_of(u64, text),
    pii_policy=st.none() | text,
    lineage_id=st.none() | text,
    memory_class=st.none() | text,
)


def altered(**changes) -> str:
    return json.dumps({**json.loads(TEXT), **changes}, ensure_ascii=False)


def without(*names) -> str:
    return json.dumps({k: v for k, v in json.loads(TEXT).items() if k not in names})


# ---- witness -----------------------------------------------------------------------


@pytest.mark.parametrize("row", WITNESSES, ids=range(1, 16))
def test_witnesses(row):
    *fields, witness = row
    assert witness_of(*fields) == witness
    bundle = RuLakeBundle(*fields)
    assert bundle.rvf_witness == witness
    assert bundle.verify_witness()


@given(bundles)
def test_the_witness_is_shake_256(bundle):
    assert bundle.rvf_witness == witness_of(
        bundle.data_ref, bundle.dim, bundle.rotation_seed, bundle.rerank_factor, bundle.generation
    )


def test_what_the_witness_covers():
    fields = {"data_ref": "y", "dim": 1, "rotation_seed": 1, "rerank_factor": 1, "generation": "7"}
    for name, value in fields.items():
        changed = RuLakeBundle.from_json(altered(**{name: value}))
        assert not changed.verify_witness(), name
    for name in ("pii_policy", "lineage_id", "memory_class"):
        assert RuLakeBundle.from_json(altered(**{name: "other"})).verify_witness()
    for version in (0, 1):
        assert RuLakeBundle.from_json(altered(format_version=version)).verify_witness()
    assert not RuLakeBundle.from_json(
        altered(rvf_witness=PLAIN.rvf_witness.upper())
    ).verify_witness()


# ---- writing -----------------------------------------------------------------------


def test_the_text_to_the_byte():
    assert PLAIN.to_json() == TEXT
    assert RuLakeBundle.FORMAT_VERSION == PLAIN.format_version == 2
    tagged = PLAIN.with_pii_policy("pii://p").with_lineage_id("job-1").with_memory_class("episodic")
    assert tagged.to_json() == TEXT.replace(
        '"pii_policy": null,\n  "lineage_id": null',
        '"pii_policy": "pii://p",\n  "lineage_id": "job-1",\n  "memory_class": "episodic"',
    )
    assert tagged.rvf_witness == PLAIN.rvf_witness


def test_escapes():
    special = '"\\\b\f\n\r\t\x01\x1f\x7f/\u2028é日\U0001f600'
    written = RuLakeBundle(special, 1, 2, 3, special).to_json()
    literal = '\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001f\x7f/\u2028é日\U0001f600'
    assert f'"data_ref": "{literal}"' in written
    assert f'"generation": "{literal}"' in written


@given(bundles)
def test_what_is_written_can_be_read(bundle):
    assert RuLakeBundle.from_json(bundle.to_json()) == bundle
    assert RuLakeBundle.from_json(bundle.to_json().encode()) == bundle
    parsed = json.loads(bundle.to_json())
    names = FIELDS if bundle.memory_class is not None else FIELDS[:-1]
    assert list(parsed) == names
    assert all(parsed[name] == getattr(bundle, name) for name in names)


# ---- the record --------------------------------------------------------------------


def test_fields_can_be_read_but_not_written():
    assert [getattr(PLAIN, name) for name in FIELDS] == [
        *(2, "gs://bucket/x.parquet", 128, 42, 20, 7),
        *(WITNESSES[0][-1], None, None, None),
    ]
    with pytest.raises(AttributeError):
        PLAIN.dim = 3
    assert RuLakeBundle.from_json(TEXT) == PLAIN
    assert hash(PLAIN) == hash(RuLakeBundle.from_json(TEXT))
    assert PLAIN.with_pii_policy("x") != PLAIN
    assert PLAIN.with_pii_policy("x").with_pii_policy(None) == PLAIN


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("data_ref", None, TypeError),
        ("data_ref", b"x", TypeError),
        ("data_ref", "\ud800", ValueError),
        ("dim", -1, ValueError),
        ("dim", 2**64, ValueError),
        ("dim", 1.0, TypeError),
        ("dim", True, TypeError),
        ("generation", None, TypeError),
        ("generation", -1, ValueError),
        ("generation", 2.5, TypeError),
        ("pii_policy", 3, TypeError),
        ("memory_class", b"x", TypeError),
        ("rvf_witness", 3, TypeError),
        ("format_version", 2**32, ValueError),
    ],
)
def test_fields_that_cannot_be_written(name, value, error):
    fields = {n: getattr(PLAIN, n) for n in FIELDS}
    with pytest.raises(error):
        RuLakeBundle(**{**fields, name: value})


# ---- reading -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        TEXT,
        f" \n\t{TEXT}\r\n ",
        json.dumps(json.loads(TEXT), sort_keys=True),
        without("pii_policy", "lineage_id"),
        altered(memory_class=None),
        altered(unknown={"a": [1, {"b": None}], "c": "\\u0041"}, another=1.5e300),
        TEXT.replace("gs:", "\\u0067s\\u003a"),
    ],
)
def test_the_same_bundle_in_other_words(source):
    assert RuLakeBundle.from_json(source) == PLAIN


def test_numbers_at_the_edge():
    assert RuLakeBundle.from_json(altered(generation=U64)).generation == U64
    assert RuLakeBundle.from_json(altered(generation="8")).generation == "8"
    surrogates = TEXT.replace("gs://", "\\ud83d\\ude00")
    assert RuLakeBundle.from_json(surrogates).data_ref.startswith("\U0001f600")


def number(field: str, literal: str) -> str:
    return re.sub(rf'("{field}": )[^,]*', rf"\g<1>{literal}", TEXT)


@pytest.mark.parametrize(
    "source",
    [
        *(number("dim", n) for n in ("8.0", "1e0", "-1", '"8"', "18446744073709551616", "01")),
        *(number("dim", n) for n in ("null", "true", "[1]", "+1", "0x10", "NaN", "")),
        *(number("generation", n) for n in ("null", "true", "1.5", "[]", "{}", "-1")),
        *(without(name) for name in FIELDS[:7]),
        *(altered(**{name: None}) for name in FIELDS[:7]),
        altered(pii_policy=3),
        TEXT[:-1] + ', "dim": 128}',
        TEXT[:-1] + ",}",
        TEXT + "x",
        TEXT + TEXT,
        "\ufeff" + TEXT,
        TEXT[:-1],
        "",
        "null",
        "[]",
        json.dumps(list(json.loads(TEXT).values())),
        "[" * 100_000,
        altered(deep=json.loads("[" * 200 + "]" * 200)),
        TEXT.replace("gs:", "\\ud800:"),
        TEXT.replace("gs:", "\\udc00\\ud800:"),
        TEXT.replace("gs:", "\n:"),
        TEXT.replace("gs:", "\\x:"),
        TEXT.encode().replace(b"gs:", b"\xff:"),
        TEXT.encode().replace(b"gs:", b"\xc0\x80:"),
        TEXT.encode().replace(b"gs:", b"\xed\xa0\x80:"),
    ],
    ids=lambda s: repr(s[:40] if len(s) < 200 else s[-40:]),
)
def test_what_is_no_bundle(source):
    with pytest.raises(ruvector.LakeError, match="bundle parse") as caught:
        RuLakeBundle.from_json(source)
    assert isinstance(caught.value, ValueError)


def test_limits_in_their_order():
    def fails(message, **changes):
        with pytest.raises(ruvector.LakeError, match=re.escape(message)):
            RuLakeBundle.from_json(altered(**changes))

    fails("bundle parse: exceeds 65536 bytes", other="x" * 65536, format_version=9)
    fails(
        "format_version=3 newer than this binary supports (2)",
        format_version=3,
        data_ref=4097 * "x",
    )
    big = "é" * 2049  # 4098 bytes
    fails("pii_policy exceeds 4096 bytes", pii_policy=big, lineage_id=big, data_ref=big)
    fails("lineage_id exceeds 4096 bytes", lineage_id=big, memory_class=big)
    fails("memory_class exceeds 4096 bytes", memory_class=big, data_ref=big)
    fails("data_ref exceeds 4096 bytes", data_ref=big, rvf_witness="a" * 129)
    fails("rvf_witness not a hex-encoded SHAKE-256(32)", rvf_witness="a" * 129)
    just = "é" * 2048
    assert RuLakeBundle.from_json(altered(data_ref=just, pii_policy=just)).pii_policy == just
    assert len(RuLakeBundle.from_json(altered(rvf_witness="a" * 128)).rvf_witness) == 128
    assert RuLakeBundle.from_json(TEXT + " " * (65536 - len(TEXT))) == PLAIN
    with pytest.raises(ruvector.LakeError):
        RuLakeBundle.from_json(TEXT + " " * (65537 - len(TEXT)))


@pytest.mark.parametrize("source", [None, 3, bytearray(TEXT.encode()), PLAIN])
def test_only_text_is_parsed(source):
    with pytest.raises(TypeError, match="expected str or bytes"):
        RuLakeBundle.from_json(source)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_bundle_or_an_error(data):
    with pytest.raises(ruvector.LakeError):
        RuLakeBundle.from_json(data)


# ---- files -------------------------------------------------------------------------


def test_a_file_and_back(tmp_path):
    folder = tmp_path / "a" / "b"
    path = PLAIN.write_to_dir(folder)
    assert path == str(folder / "table.rulake.json")
    assert RuLakeBundle.SIDECAR_FILENAME == "table.rulake.json"
    assert bundle_path(folder).read_bytes() == TEXT.encode()
    assert RuLakeBundle.read_from_dir(str(folder)) == PLAIN
    assert RuLakeBundle.read_from_dir(os.fsencode(folder)) == PLAIN
    assert os.listdir(folder) == ["table.rulake.json"]


@pytest.mark.skipif(os.name != "posix", reason="permission bits")
def test_a_file_has_the_callers_umask(tmp_path):
    old = os.umask(0o027)
    try:
        path = PLAIN.write_to_dir(tmp_path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o640


def test_a_left_over_temporary_file_does_no_harm(tmp_path):
    for name in (".table.rulake.json.tmp.1", f".table.rulake.json.tmp.{os.getpid()}"):
        (tmp_path / name).write_text("half")
    PLAIN.write_to_dir(tmp_path)
    assert RuLakeBundle.read_from_dir(tmp_path) == PLAIN


def test_an_altered_file(tmp_path):
    PLAIN.write_to_dir(tmp_path)
    path = bundle_path(tmp_path)
    path.write_text(TEXT.replace('"dim": 128', '"dim": 129'))
    with pytest.raises(ruvector.WitnessMismatch, match="witness mismatch") as caught:
        RuLakeBundle.read_from_dir(tmp_path)
    assert isinstance(caught.value, (ruvector.LakeError, ValueError))
    assert caught.value.actual == PLAIN.rvf_witness
    assert caught.value.expected == witness_of("gs://bucket/x.parquet", 129, 42, 20, 7)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        RuLakeBundle.read_from_dir(tmp_path / "none")
    assert type(caught.value) is ruvector.LakeFileNotFound
    assert str(caught.value.path).startswith(str(tmp_path / "none"))
    for content in (b"", b"half {", b"\xff\xfe", TEXT.encode() + b" " * 70_000):
        bundle_path(tmp_path).write_bytes(content)
        with pytest.raises(ruvector.LakeError):
            RuLakeBundle.read_from_dir(tmp_path)
    bundle_path(tmp_path).unlink()
    bundle_path(tmp_path).mkdir()
    with pytest.raises(ruvector.LakeError):
        RuLakeBundle.read_from_dir(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(bundle_path(tmp_path))
    with pytest.raises(ruvector.LakeError):
        RuLakeBundle.read_from_dir(tmp_path)


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ruvector.LakeFileError) as caught:
        PLAIN.write_to_dir(tmp_path / "file" / "folder")
    assert isinstance(caught.value, (ruvector.PersistError, OSError))
    assert caught.value.errno
    with pytest.raises(TypeError):
        PLAIN.write_to_dir(3)
    with pytest.raises(ValueError, match="null"):
        PLAIN.write_to_dir("a\0b")


def test_threads_that_publish_to_one_directory(tmp_path):
    versions = [RuLakeBundle("x", 1, 2, 3, generation) for generation in range(4)]

    def write(bundle):
        for _ in range(50):
            bundle.write_to_dir(tmp_path)

    def read():
        for _ in range(200):
            if bundle_path(tmp_path).exists():
                assert RuLakeBundle.read_from_dir(tmp_path) in versions

    in_threads(*[lambda b=b: write(b) for b in versions], read)
    assert os.listdir(tmp_path) == ["table.rulake.json"]
