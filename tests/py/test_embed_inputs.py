"""Containers: what holds texts in order is embedded, what does not is refused with the call
that was meant, and that call works."""

from __future__ import annotations

import collections
import io
import pathlib
import re
import types

import numpy as np
import pytest
from installed import need
from letters import DIM, make

TEXTS = ["alpha", "gamma", "beta"]


@pytest.fixture(scope="module")
def embedder():
    return make()


@pytest.fixture(scope="module")
def wanted(embedder):
    return np.stack([embedder.embed(text) for text in TEXTS])


def frames() -> dict[str, object]:
    need("pyarrow")
    import pyarrow

    table = pyarrow.table({"n": [1, 2, 3], "text": TEXTS})
    made: dict[str, object] = {"pyarrow Table": table, "RecordBatch": table.to_batches()[0]}
    rows = np.array(list(zip(range(3), TEXTS)), dtype=[("n", int), ("text", "U9")])
    made["structured array"] = rows
    made["record array"] = rows.view(np.recarray)
    made["frame"] = Frame({"n": [1, 2, 3], "text": TEXTS})
    return made


class Frame:
    """As pandas: iterating gives names of columns, indexing gives columns."""

    def __init__(self, columns: dict[str, list[object]]) -> None:
        self._columns = columns
        self.columns = list(columns)

    def __iter__(self):
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self._columns[self.columns[0]])

    def __getitem__(self, name: str) -> list[object]:
        return self._columns[name]


class Column:
    """As a Series: values in order, an index that has nothing to say."""

    def __init__(self, values: list[str]) -> None:
        self._values, self.index = values, [7, -1, 9]

    def __iter__(self):
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class Numbered:
    """The older way to be iterable."""

    def __getitem__(self, i: int) -> str:
        return TEXTS[i]


IN_ORDER = {
    "list": TEXTS,
    "tuple": tuple(TEXTS),
    "generator": lambda: (text for text in TEXTS),
    "deque": collections.deque(TEXTS),
    "values of a dict": dict(enumerate(TEXTS)).values(),
    "keys of a dict": dict.fromkeys(TEXTS).keys(),
    "NumPy U": np.array(TEXTS),
    "NumPy objects": np.array(TEXTS, dtype=object),
    "column": Column(TEXTS),
    "numbered": Numbered(),
    "map": lambda: map(str, TEXTS),
}


@pytest.mark.parametrize("texts", IN_ORDER.values(), ids=IN_ORDER)
def test_what_holds_texts_in_order_is_embedded(embedder, wanted, texts) -> None:
    got = embedder.embed_batch(texts() if isinstance(texts, types.FunctionType) else texts)
    assert np.array_equal(got, wanted)


def test_lines_of_a_file_are_texts(embedder) -> None:
    got = embedder.embed_batch(io.StringIO("ab\ncd"))
    assert np.array_equal(got, embedder.embed_batch(["ab\n", "cd"]))


def follow(advice: str, texts: object) -> object:
    """What the expression at the end of an advice gives."""
    said = advice.rpartition("as in ")[2] if "as in " in advice else advice.rpartition("use ")[2]
    code = re.sub(r" for one list of all of them$|, or leave it out$", "", said)
    return eval(code, {"texts": texts})


NAMED = dict(enumerate(TEXTS))
REFUSED = {
    "dict": NAMED,
    "mapping view": types.MappingProxyType(NAMED),
    "ordered dict": collections.OrderedDict(NAMED),
    "chain map": collections.ChainMap(NAMED),
    "user dict": collections.UserDict(NAMED),
    "items": NAMED.items(),
    "rows by name": [{"n": i, "text": text} for i, text in enumerate(TEXTS)],
    "bytes": [text.encode() for text in TEXTS],
    "NumPy S": np.array(TEXTS, dtype="S"),
    "nested": [TEXTS[:1], TEXTS[1:]],
    "NumPy column": np.array(TEXTS)[:, None],
}


@pytest.mark.parametrize("texts", REFUSED.values(), ids=REFUSED)
def test_what_does_not_is_refused_with_advice_that_works(embedder, wanted, texts) -> None:
    with pytest.raises(TypeError) as caught:
        embedder.embed_batch(texts)
    assert np.array_equal(embedder.embed_batch(follow(str(caught.value), texts)), wanted)


def test_a_table_is_refused_with_a_column_of_texts(embedder, wanted) -> None:
    for name, table in frames().items():
        with pytest.raises(TypeError, match="use one of its columns \\('n', 'text'\\)") as caught:
            embedder.embed_batch(table)
        got = embedder.embed_batch(follow(str(caught.value), table))
        assert np.array_equal(got, wanted), name


def test_pyarrow_values_are_refused_with_the_list_of_them(embedder, wanted) -> None:
    need("pyarrow")
    import pyarrow

    texts = pyarrow.array(TEXTS)
    with pytest.raises(TypeError, match=r"texts\[0\] is StringScalar, not str") as caught:
        embedder.embed_batch(texts)
    assert np.array_equal(embedder.embed_batch(follow(str(caught.value), texts)), wanted)


@pytest.mark.parametrize("kind", [set, frozenset])
def test_a_set_is_refused_for_its_order(embedder, kind) -> None:
    texts = kind(TEXTS)
    with pytest.raises(TypeError, match=r"it has no order: use a list, or sorted\(texts\)"):
        embedder.embed_batch(texts)
    assert len(embedder.embed_batch(sorted(texts))) == len(TEXTS)
    with pytest.raises(TypeError, match="it has no order"):
        embedder.embed_batch(NAMED.keys() & {0, 1})


@pytest.mark.parametrize("missing", [None, float("nan"), np.float64("nan")])
def test_a_missing_text_is_named(embedder, missing) -> None:
    texts = ["alpha", missing]
    with pytest.raises(TypeError, match=r"texts\[1\] is \w+, not str; use \[") as caught:
        embedder.embed_batch(texts)
    got = embedder.embed_batch(follow(str(caught.value), texts))
    assert np.array_equal(got, embedder.embed_batch(["alpha", ""]))


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ("alpha", r"got one str; use embed\(text\)"),
        (b"alpha", r'got one bytes; use embed\(str\(text, "utf-8"\)\)'),
        (bytearray(b"alpha"), r"got one bytearray"),
        (np.array("alpha"), r"no dimension; use embed\(texts\.item\(\)\)"),
        (7, "embed_batch takes a list of str, got int"),
        (None, "embed_batch takes a list of str, got NoneType"),
        (pathlib.Path("alpha"), "embed_batch takes a list of str, got PosixPath|WindowsPath"),
        ([7], r"texts\[0\] is int, not str$"),
        (["alpha", pathlib.Path("x")], r"texts\[1\] is \w+Path, not str$"),
    ],
)
def test_other_things_are_named(embedder, texts, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        embedder.embed_batch(texts)


def test_one_text_as_bytes_is_refused_with_what_decodes_it(embedder) -> None:
    with pytest.raises(TypeError, match=r"use embed\(text\.decode\(\)\)"):
        embedder.embed(b"alpha")
    assert embedder.embed(b"alpha".decode()).shape == (DIM,)
