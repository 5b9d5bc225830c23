"""Advice works when it is followed: each call that a message names is run on what provoked
the message, and what it gives is accepted.

Messages are collected from the sources. One that no case below provokes fails the test, so
whoever writes a new one adds a case.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import ruvector
from ruvector.cli import vectors as cli_vectors

ROOT = Path(__file__).parents[2]
N, DIM = 24, 6
X = np.random.default_rng(5).standard_normal((N, DIM)).astype(np.float32)
FLAGS = np.arange(N) % 3 == 1


# ---- cases -----------------------------------------------------------------------------

# The argument a message names, and the call. What comes back is compared where it says
# which rows were meant.
CALLS = {
    "build": ("vectors", lambda index, a: ruvector.FlatF32Index.build(a)),
    "upsert": ("vectors", lambda index, a: index.upsert(range(len(a)), a)),
    "add": ("vector", lambda index, a: index.add(None, a)),
    "search": ("query", lambda index, a: index.search(a)),
    "search_batch": ("queries", lambda index, a: index.search_batch(a)),
    "ids": ("ids", lambda index, a: ruvector.FlatF32Index.build(X[:3], ids=a).ids.tolist()),
    "remove": ("ids", lambda index, a: index.remove(a)),
    "lake remove": ("ids", lambda index, a: new_backend().remove("c", a)),
    "allow": ("allow", lambda index, a: {h.id for h in index.search(X[0], N, allow=a)}),
    "allow batch": ("allow", lambda index, a: index.search_batch(X[:2], 3, allow=a)),
    "lake rows": (
        "vectors",
        lambda index, a: ruvector.LocalBackend("b").put_collection("c", range(len(a)), a),
    ),
}


COLLECTION = "c"


def new_backend():
    backend = ruvector.LocalBackend("b")
    backend.put_collection(COLLECTION, range(N), X)
    return backend


def arrow_list(matrix):
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), DIM)


def shifted(matrix):
    data = bytearray(1 + matrix.nbytes)
    data[1:] = matrix.tobytes()
    return np.frombuffer(data, np.uint8)[1:].view(matrix.dtype).reshape(matrix.shape)


class OnlyDlpack:
    def __dlpack__(self, **options):
        return X.__dlpack__(**options)

    def __dlpack_device__(self):
        return X.__dlpack_device__()


THE_ROWS = ruvector.FlatF32Index.build(X)

# Name: call, what is given, what the call gives in the end (None: anything).
CASES = {
    "float64": ("build", lambda: X.astype(float), THE_ROWS),
    "float64 to a lake": ("lake rows", lambda: X.astype(float), None),
    "float16": ("build", lambda: X.astype(np.float16), None),
    "bfloat16": ("build", lambda: X.astype(ml_dtypes.bfloat16), None),
    "int8": ("upsert", lambda: (9 * X).astype(np.int8), None),
    "bools": ("build", lambda: [[True, False]], None),
    "big-endian": ("build", lambda: X.astype(">f4"), THE_ROWS),
    "Fortran": ("build", lambda: np.asfortranarray(X), THE_ROWS),
    "every other row": ("build", lambda: np.repeat(X, 2, 0)[::2], THE_ROWS),
    "not aligned": ("build", lambda: shifted(X), THE_ROWS),
    "DataFrame": ("build", lambda: pd.DataFrame(X), THE_ROWS),
    "DataFrame of doubles": ("build", lambda: pd.DataFrame(X.astype(float)), THE_ROWS),
    "polars frame": ("build", lambda: pl.DataFrame(X.astype(float)), THE_ROWS),
    "numbers as objects": ("build", lambda: X.astype(object), THE_ROWS),
    "object query": ("search", lambda: X[0].astype(object), None),
    "array of arrays": ("build", lambda: pd.Series(list(X)).to_numpy(), THE_ROWS),
    "Series of arrays": ("build", lambda: pd.Series(list(X)), THE_ROWS),
    "Series of lists": ("build", lambda: pd.Series(X.tolist()), THE_ROWS),
    "Series, other index": ("build", lambda: pd.Series(list(X), index=range(50, 74)), THE_ROWS),
    "column of a frame": ("build", lambda: pd.DataFrame({"a b": list(X)}), THE_ROWS),
    "one of two columns": ("build", lambda: pd.DataFrame({"n": 1, "v": list(X)}), THE_ROWS),
    "polars Lists": ("build", lambda: pl.Series(X.tolist()), THE_ROWS),
    "polars column": ("build", lambda: pl.DataFrame({"v": X}), THE_ROWS),
    "polars List column": ("build", lambda: pl.DataFrame({"v": X.tolist()}), THE_ROWS),
    "arrow": ("build", lambda: arrow_list(X), THE_ROWS),
    "arrow slice": ("build", lambda: arrow_list(np.repeat(X, 2, 0)[N:]).slice(0, 3), None),
    "arrow doubles": ("build", lambda: arrow_list(X.astype(float)), THE_ROWS),
    "arrow lists": ("build", lambda: pa.array(X.tolist()), THE_ROWS),
    "arrow chunks": (
        "build",
        lambda: pa.chunked_array([arrow_list(X[:9]), arrow_list(X[9:])]),
        THE_ROWS,
    ),
    "arrow table": ("build", lambda: pa.table({"n": range(N), "v": arrow_list(X)}), THE_ROWS),
    "arrow batch": ("build", lambda: pa.record_batch({"v": arrow_list(X)}), THE_ROWS),
    "arrow pandas": ("build", lambda: pa.table({"v": arrow_list(X)}).to_pandas()["v"], THE_ROWS),
    "halves in lists": ("build", lambda: pd.Series(list(X.astype(np.float16))), None),
    "dlpack": ("build", OnlyDlpack, THE_ROWS),
    "generator": ("build", lambda: (row for row in X), THE_ROWS),
    "dict of vectors": ("build", lambda: dict(enumerate(X)), THE_ROWS),
    "one vector": ("build", lambda: X[0], None),
    "one vector of doubles": ("build", lambda: X[0].astype(float), None),
    "three dimensions": ("build", lambda: X[None], THE_ROWS),
    "three in a batch": ("search_batch", lambda: X[:, None], None),
    "a row to add": ("add", lambda: X[:1], None),
    "a row of doubles to add": ("add", lambda: X[:1].astype(float), None),
    "beyond float32": ("build", lambda: np.full((3, DIM), 1e300), None),
    "beyond, Fortran": ("build", lambda: np.asfortranarray(X.astype(float) * 1e300), None),
    "beyond, frame": ("build", lambda: pd.DataFrame(X.astype(float) * 1e300), None),
    "beyond, list": ("build", lambda: (X.astype(float) * 1e300).tolist(), None),
    "beyond, query": ("search", lambda: X[0].astype(float) * 1e300, None),
    "beyond, batch": ("search_batch", lambda: X.astype(float) * -1e300, None),
    "no queries": ("search_batch", list, None),
    "masked": ("build", lambda: np.ma.masked_array(X.astype(float), X > 1), None),
    "masked rows": ("build", lambda: list(np.ma.masked_array(X, X > 1)), None),
    "masked query": ("search", lambda: np.ma.masked_array(X[0], X[0] > 0), None),
    "masked filter": ("allow", lambda: np.ma.masked_array([1, 2, 3], [0, 1, 0]), {1, 3}),
    "masked removal": ("remove", lambda: np.ma.masked_array([1, 2, 3], [0, 1, 0]), 2),
    "masked mask": (
        "allow",
        lambda: np.ma.masked_array(FLAGS, np.arange(N) > 4),
        {1, 4},
    ),
    "float ids": ("ids", lambda: np.array([3.0, 1.0, 2.0]), [3, 1, 2]),
    "float ids, Series": ("ids", lambda: pd.Series([3.0, 1.0, 2.0]), [3, 1, 2]),
    "float ids, polars": ("ids", lambda: pl.Series([3.0, 1.0, 2.0]), [3, 1, 2]),
    "float ids, arrow": ("ids", lambda: pa.array([3.0, 1.0, 2.0]), [3, 1, 2]),
    "float ids, list": ("ids", lambda: [3.0, 1.0, 2.0], [3, 1, 2]),
    "float filter": ("allow", lambda: np.array([3.0, 5.0]), {3, 5}),
    "float filter, -1": ("allow", lambda: np.array([3.0, -1.0]), {3}),
    "float flags": ("allow", lambda: FLAGS.astype(float), set(np.flatnonzero(FLAGS))),
    "float flags, removal": ("remove", lambda: FLAGS.astype(float), FLAGS.sum()),
    "digits": ("ids", lambda: ["3", "1", "2"], [3, 1, 2]),
    "digits, array": ("ids", lambda: np.array(["3", "1", "2"]), [3, 1, 2]),
    "digits, Series": ("ids", lambda: pd.Series(["3", "1", "2"]), [3, 1, 2]),
    "digits, polars": ("allow", lambda: pl.Series(["3", "1", "2"]), {1, 2, 3}),
    "digits, bytes": ("allow", lambda: np.array([b"3", b"1"]), {1, 3}),
    "set of rows": ("ids", lambda: {3, 1, 2}, [1, 2, 3]),
    "dict of ids": ("allow", lambda: {3: "a", 1: "b"}, {1, 3}),
    "bytes": ("allow", lambda: np.array([3, 1], np.uint64).tobytes(), {1, 3}),
    "function": ("allow", lambda: lambda id: id < 3, {0, 1, 2}),
    "one id": ("allow", lambda: 3, {3}),
    "one NumPy id": ("allow", lambda: np.int64(3), {3}),
    "column of ids": ("ids", lambda: np.array([[3], [1], [2]]), [3, 1, 2]),
    "lists of ids": ("allow", lambda: [[3, 1], [2]], {1, 2, 3}),
    "lists of ids to remove": ("remove", lambda: [[3, 1], [2]], 3),
    "ids for each query": ("allow batch", lambda: [[3, 1], [2]], None),
    "array of ids for each": ("allow batch", lambda: np.array([[3, 1], [2, 0]]), None),
    "flags": ("allow", lambda: FLAGS.astype(np.uint8), set(np.flatnonzero(FLAGS))),
    "flags in a list": ("allow", lambda: FLAGS.astype(int).tolist(), set(np.flatnonzero(FLAGS))),
    "flags in a Series": ("allow", lambda: pd.Series(FLAGS * 1), set(np.flatnonzero(FLAGS))),
    "flags to remove": ("remove", lambda: FLAGS.astype(int), FLAGS.sum()),
    "old flags": ("allow", lambda: FLAGS[1:].astype(np.int8), {0, 1}),
    "old flags in a list": ("allow", lambda: FLAGS[1:].astype(int).tolist(), {0, 1}),
    "old flags from a generator": ("allow", lambda: (int(f) for f in FLAGS[1:]), {0, 1}),
    "old flags to remove": ("remove", lambda: FLAGS[1:].astype(int), 2),
    "mask to remove": ("remove", lambda: FLAGS, FLAGS.sum()),
    "mask to remove from a lake": ("lake remove", lambda: FLAGS, FLAGS.sum()),
    "float flags, lake": ("lake remove", lambda: FLAGS.astype(float), FLAGS.sum()),
    "function, lake": ("lake remove", lambda: lambda id: id < 3, 3),
    "digits, lake": ("lake remove", lambda: ["3", "1"], 2),
    "masked, lake": ("lake remove", lambda: np.ma.masked_array([1, 2, 3], [0, 1, 0]), 2),
    "float ids, lake": ("lake remove", lambda: np.array([3.0, -1.0]), 1),
    "old flags, lake": ("lake remove", lambda: FLAGS.astype(int), 2),
    "mask of one row": ("allow", lambda: FLAGS[None], set(np.flatnonzero(FLAGS))),
    "mask of one row, batch": ("allow batch", lambda: FLAGS[None], None),
}


def fails(call, index, given):
    with pytest.raises((TypeError, ValueError)) as caught:
        CALLS[call][1](index, given)
    return str(caught.value)


def follow(message, **names):
    """What the call after `; pass` or `; call` gives."""
    found = re.search(r"; (?:for ids )?(?:pass|call) (.*)$", message, re.DOTALL)
    assert found, f"no call is named: {message}"
    return eval(found.group(1), {"np": np, **names})


@pytest.fixture
def index():
    return ruvector.FlatF32Index.build(X)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", CASES)
def test_advice_can_be_followed(case, index):
    call, make, expected = CASES[case]
    name, function = CALLS[call]
    message = fails(call, index, make())
    called = {"index": index}
    if call == "lake remove":
        called = {"backend": new_backend(), "collection": COLLECTION}
    names = {**called, "dim": DIM, "queries": X[:2], name: make()}
    fixed = follow(message, **names)
    result = fixed if "; call " in message else function(index, fixed)
    assert expected is None or result == expected


def test_convert_is_offered_where_it_works(index):
    for make in (lambda: X.astype(float), lambda: np.asfortranarray(X), lambda: pd.DataFrame(X)):
        assert "convert=True" in fails("build", index, make())
        assert ruvector.FlatF32Index.build(make(), convert=True) == THE_ROWS
    for make in (lambda: pd.Series(list(X)), lambda: np.ma.masked_array(X, X > 1)):
        assert "convert=True" not in fails("build", index, make())
    assert "convert=True" not in fails("lake rows", index, X.astype(float))


@pytest.mark.parametrize(
    ("call", "given", "message"),
    [
        ("build", pd.Series([X[0], None, X[1]]), "row 1 is missing"),
        ("build", pd.Series([X[0], float("nan")]), "row 1 is missing"),
        ("build", pa.array([X[0].tolist(), None]), "row 1 is missing"),
        ("build", pd.Series([X[0], X[1, :3]]), "row 1 holds 3 numbers and row 0 6"),
        ("build", pl.Series([[1.0], [1.0, 2.0]]), "row 1 holds 2 numbers and row 0 1"),
        ("build", [[1.0], [1.0, 2.0]], "row 1 holds 2 numbers and row 0 1"),
        ("build", pd.Series([["a"], ["b"]]), "row 0 has dtype <U1"),
        ("build", pd.Series([X[0], "text"]), "row 1 is 'text'"),
        ("build", [["a", "b"]], "holds no real numbers"),
        ("build", np.array([[1.0, None]]), r"None at \(0, 1\)"),
        ("build", np.array([[1.0, 10**400]], object), "beyond float32"),
        ("build", [[1.0, -(10**400)]], "beyond float32"),
        ("search", [10**400] * DIM, "beyond float32"),
        ("ids", [1, 2, None], r"NoneType \(position 2\)"),
        ("ids", np.array([1.0, 2.5, 3.0]), r"2\.5 \(position 1\) is no id"),
        ("ids", np.array([1.0, np.nan, 3.0]), r"nan \(position 1\) is no id"),
        ("ids", np.array([1.0, 2.0**60, 3.0]), r"e\+18 \(position 1\) is no id"),
        ("ids", np.array([1.0, -2.0, 3.0]), r"-2\.0 \(position 1\) is no id"),
        ("ids", ["a", "b", "c"], "keep a dict from each string to an int"),
        ("ids", ["1", "2", str(2**64)], "keep a dict"),
        ("allow", ["a", "b"], "look their ids up first"),
        ("ids", [True, False, True], "got bool"),
        ("ids", np.ma.masked_array([1, 2, 3], [0, 1, 0]), "each row needs one"),
    ],
)
def test_where_no_call_helps_none_is_named(call, given, message, index):
    text = fails(call, index, given)
    assert re.search(message, text), text
    assert not re.search(r"; (pass|call) ", text)


# ---- what is said elsewhere ------------------------------------------------------------


def say_vacuum(index, tmp_path):
    index.remove(3)
    with pytest.raises(ValueError, match="removed rows") as caught:
        index.__array__(copy=False)
    index.vacuum()
    assert len(index.__array__(copy=False)) == N - 1
    return str(caught.value)


def say_build(index, tmp_path):
    with pytest.raises(TypeError) as caught:
        ruvector.FlatF32Index()
    message, path = str(caught.value), tmp_path / "index.rbpx"
    index.save(path)
    names = {"vectors": X, "path": path, "data": index.to_bytes(), **vars(ruvector)}
    for call in re.findall(r"\w+\.\w+\(\w+\)", message):
        assert eval(call, names) == index
    return message


def say_smaller_k(index, tmp_path):
    k = 10**9
    with pytest.raises(ValueError, match="k=min") as caught:
        index.search_batch(X, k)
    call = re.search(r"k=(min\(.*\)\))", str(caught.value)).group(1)
    assert index.search_batch(X, eval(call, {"k": k, "index": index}))[0].shape == (N, N)
    return str(caught.value)


def say_save_again(index, tmp_path):
    messages = []
    for array in (X.astype(float), X[0]):
        np.save(tmp_path / "x.npy", array)
        with pytest.raises(ValueError, match="save it again") as caught:
            cli_vectors.read_vectors(tmp_path / "x.npy")
        message = str(caught.value)
        np.save(
            tmp_path / "x.npy", eval(message.split("save it again as ")[1], {"np": np, "x": array})
        )
        assert cli_vectors.read_vectors(tmp_path / "x.npy").shape == np.atleast_2d(array).shape
        messages.append(message)
    return "\n".join(messages)


ELSEWHERE = [say_vacuum, say_build, say_smaller_k, say_save_again]


@pytest.mark.parametrize("say", ELSEWHERE)
def test_other_advice_can_be_followed(say, index, tmp_path):
    assert say(index, tmp_path)


# ---- collecting ------------------------------------------------------------------------

FOLDERS = ("python/ext", "src/index", "src/lake", "python/ruvector/lake")
FILES = ("python/ruvector/_advice.py", "python/ruvector/cli/vectors.py")
CALL = re.compile(r"[\w\]}]\(")


def c_texts(source):
    source = re.sub(r"/\*.*?\*/", "", source, flags=re.DOTALL)
    for found in re.finditer(r'(?:"(?:[^"\\\n]|\\.)*"(?:\s|\\\n|PRI\w+)*)+', source):
        text = "".join(re.findall(r'"((?:[^"\\\n]|\\.)*)"', found.group()))
        yield re.sub(r"%(?:ll|z)?[a-zA-Z]", "{}", text)


def python_texts(source):
    tree = ast.parse(source)
    skip = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skip.update(map(id, node.values))
            yield "".join(v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skip
        ):
            yield node.value


def advice(path, text):
    """The part of a text that names a call, if it is advice."""
    if path.endswith("_advice.py") or text.startswith(("use ", "; save ")):
        parts = [text]
    else:
        parts = text.split("; ")[1:]
    return [part for part in parts if CALL.search(part) and "\\n" not in part]


def collected():
    paths = [p for f in FOLDERS for p in (ROOT / f).rglob("*") if p.suffix in (".c", ".py")]
    for path in (*paths, *(ROOT / file for file in FILES)):
        texts = python_texts if path.suffix == ".py" else c_texts
        for text in texts(path.read_text()):
            for part in advice(path.name, text):
                yield f"{path.relative_to(ROOT).as_posix()}: {part}", part


def test_every_message_that_names_a_call_is_provoked_above(tmp_path):
    said = []
    for call, make, _ in CASES.values():
        said.append(fails(call, ruvector.FlatF32Index.build(X), make()))
    for number, say in enumerate(ELSEWHERE):
        (tmp_path / str(number)).mkdir()
        said.append(say(ruvector.FlatF32Index.build(X), tmp_path / str(number)))
    texts = dict(collected())
    assert len(texts) > 25
    silent = []
    for where, part in texts.items():
        pattern = ".*".join(re.escape(piece) for piece in part.split("{}"))
        if not any(re.search(pattern, message, re.DOTALL) for message in said):
            silent.append(where)
    assert silent == []
