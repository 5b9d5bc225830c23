"""Numbers that pages give are those of the code."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import ruvector

ROOT = Path(__file__).parents[2]


def page(name: str) -> str:
    """A page, or all of a folder."""
    place = ROOT / "docs" / name
    files = sorted(place.glob("*.md")) if place.is_dir() else [place]
    return "\n".join(file.read_text() for file in files)


def flat(text: str) -> str:
    """A page as one line."""
    return " ".join(text.split())


def constant(where: str, name: str) -> float:
    """The number of a #define of a file, or of a constant of a module."""
    if "/" not in where:
        return getattr(importlib.import_module(where), name)
    text = (ROOT / where).read_text().replace("\\\n", " ")
    value = re.search(rf"(?m)^#define {name}\s+(.*?)\s*(?:/\*|$)", text)[1]
    value = re.sub(r"U?INT(?:32|64)_C|\(size_t\)|(?<=\d)[uf]\b", "", value)
    return float(eval(value, {}))  # an expression of our own source


NUMBERS = {
    "one": 1, "two": 2, "three": 3, "four": 4, "eight": 8, "sixteen": 16, "an eighth": 8,
    "a quarter": 4, "fourfold": 4,
}  # fmt: skip

# Page, what it says with the number in parentheses, and where that is from. `scale` is for
# numbers that are written in another unit.
QUOTED = [
    ("decisions", r"From (\d+) queries on, on processors", "src/index/flat.c", "SCREEN_QUERIES"),
    ("decisions", r"Up to (\d+) of them, nearest first", "src/index/query.c", "NEAR_LISTS"),
    ("decisions", r"lets up to (\w+) queries of a batch", "src/kernel/kernel.h", "RVK_SCANS"),
    (
        "decisions",
        r"a bound of ([\d.]+) standard deviations leaves",
        "src/index/assign.c",
        "SIGMAS",
    ),
    ("decisions", r"the lists that a bound of (\d+) leaves", "src/index/query.c", "LIST_SIGMAS"),
    ("decisions", r"Up to (\w+) threads of the library", "src/lake/async.c", "THREADS"),
    (
        "decisions",
        r"one batch, of at most ([\d,]+) queries",
        "src/lake/lake_i.h",
        "RVL_MOST_QUERIES",
    ),
    ("decisions", r"blocks of a list (\d+) KB ahead", "src/index/scan.c", "FETCH_BYTES", 1024),
    (
        "decisions",
        r"whole, up to (\d+) KB of them",
        "src/index/index_i.h",
        "RVX_ROW_FETCH",
        1024,
    ),
    ("decisions", r"at least (\d+) rows are removed", "src/index/upkeep.c", "AUTO_VACUUM_ROWS"),
    (
        "decisions",
        r"holds (\w+) times the rows it was trained on",
        "src/index/upkeep.c",
        "RETRAIN_GROWTH",
    ),
    (
        "decisions",
        r"from ([\d,]+) rows on one for each 1,024",
        "src/index/index_i.h",
        "RVX_PROBING_ROWS",
    ),
    ("decisions", r"says nothing looks into (an eighth)", "src/index/index.c", "PROBED_SHARE"),
    (
        "decisions",
        r"Where at most one row in (\d+) is allowed",
        "src/index/scan.c",
        "DIRECT_SHARE",
    ),
    (
        "decisions",
        r"at most (\d+) padded tokens each",
        "ruvector.embed.text",
        "BATCH_TOKENS",
    ),
    ("updates.md", r"at most `n/(\d+) \+ k` rows", "src/index/scan.c", "DIRECT_SHARE"),
    (
        "updates.md",
        r"when at least (\d+) rows are removed",
        "src/index/upkeep.c",
        "AUTO_VACUUM_ROWS",
    ),
    ("updates.md", r"when it has grown (\w+)", "src/index/upkeep.c", "RETRAIN_GROWTH"),
    ("threading.md", r"coding from (\d+) rows on", "src/index/index_i.h", "RVX_CODE_ROWS"),
    (
        "threading.md",
        r"takes up to (\w+) queries at a time",
        "src/index/index_i.h",
        "RVX_QUERIES_AT_ONCE",
    ),
    ("threading.md", r"\(`FlatF32Index` up to (\d+)\)", "src/index/index_i.h", "RVX_FLAT_AT_ONCE"),
    (
        "threading.md",
        r"when at least (\d+) rows are removed",
        "src/index/upkeep.c",
        "AUTO_VACUUM_ROWS",
    ),
    (
        "threading.md",
        r"holds (\w+) times the rows it was trained on",
        "src/index/upkeep.c",
        "RETRAIN_GROWTH",
    ),
    ("threading.md", r"\(and at least (\d+)\)", "src/index/upkeep.c", "RETRAIN_ROWS"),
    ("threading.md", r"about every (\d+) ms and once", "src/base/pool.c", "REPORT_MS"),
    ("threading.md", r"`RUVECTOR_NUM_THREADS` \(1 to (\d+),", "src/base/pool.c", "THREADS_MAX"),
    (
        "threading.md",
        r"on up to (\d+) threads named",
        "ruvector.lake._async",
        "ADAPTER_THREADS",
    ),
    ("threading.md", r"awaited runs on up to (\w+) threads", "src/lake/async.c", "THREADS"),
    (
        "search.md",
        r"unless there are ([\d,]+) rows or more",
        "src/index/index_i.h",
        "RVX_PROBING_ROWS",
    ),
    ("search.md", r"then into (an eighth) of the lists", "src/index/index.c", "PROBED_SHARE"),
    (
        "search.md",
        r"an eighth of the lists, and at least (\d+)\.",
        "src/index/index.c",
        "MIN_PROBED",
    ),
    ("search.md", r"1 to (\d+); none by default", "src/index/index_i.h", "RVX_MAX_RERANK_FACTOR"),
    ("indexes.md", r"([\d,]+) at most\)", "include/ruvector/index.h", "RV_MAX_LISTS"),
    (
        "indexes.md",
        r"from ([\d,]+) rows on one for each 1024",
        "src/index/index_i.h",
        "RVX_PROBING_ROWS",
    ),
    (
        "lake.md",
        r"by one scan \(of at most ([\d,]+) queries",
        "src/lake/lake_i.h",
        "RVL_MOST_QUERIES",
    ),
    ("lake.md", r"([\d,]+) vectors and 16 GiB", "include/ruvector/lake.h", "RV_PULL_MAX_ROWS"),
    (
        "lake.md",
        r"vectors and (\d+) GiB of float32",
        "include/ruvector/lake.h",
        "RV_PULL_MAX_BYTES",
        2**30,
    ),
    ("lake.md", r"(\d+) bytes of `data_ref`", "include/ruvector/lake.h", "RV_BUNDLE_MAX_TEXT"),
    (
        "witness.md",
        r"JSON of at most ([\d,]+) bytes",
        "include/ruvector/lake.h",
        "RV_BUNDLE_MAX_BYTES",
    ),
    (
        "witness.md",
        r"Texts have at most (\d+) bytes",
        "include/ruvector/lake.h",
        "RV_BUNDLE_MAX_TEXT",
    ),
    (
        "security.md",
        r"size \(([\d,]+) bytes\), JSON",
        "include/ruvector/lake.h",
        "RV_BUNDLE_MAX_BYTES",
    ),
    ("security.md", r"the last (\d+) bytes back", "src/base/watch.c", "TAIL_BYTES"),
    ("c-api.md", r"\| dimension \| 1 to (\d+) \|", "include/ruvector/index.h", "RV_MAX_DIM"),
    (
        "c-api.md",
        r"removed ones included \| ([\d,]+) \|",
        "include/ruvector/index.h",
        "RV_MAX_ROWS",
    ),
    ("c-api.md", r"per dimension \| 1 to (\d+) \|", "src/index/index_i.h", "RVX_MAX_BITS"),
    ("c-api.md", r"\| lists \| 1 to ([\d,]+);", "include/ruvector/index.h", "RV_MAX_LISTS"),
    ("c-api.md", r"more than (\d+) only with", "include/ruvector/index.h", "RV_SMALL_LISTS"),
    ("format.md", r"\| 9 \| note \| 1\.\.(\d+) \|", "include/ruvector/index.h", "RV_MAX_NOTE"),
    ("format.md", r"most ([\d,]+) rows starts with a", "src/index/file_i.h", "RVX_V1_MAX_ROWS"),
    (
        "format.md",
        r"the index's, or (\d+) where it has none",
        "src/index/file_i.h",
        "RVX_V1_RERANK",
    ),
    ("embedding.md", r"are read (\d+) at a time", "ruvector.embed.inputs", "WINDOW"),
    ("embedding.md", r"in windows of (\d+) and", "ruvector.embed.inputs", "WINDOW"),
    (
        "embedding.md",
        r"at most (\d+) tokens, padding included",
        "ruvector.embed.text",
        "BATCH_TOKENS",
    ),
    (
        "embedding.md",
        r"for work of more than (\w+) seconds",
        "ruvector._progress",
        "PATIENCE",
    ),
    (
        "embedding.md",
        r"sides from 1 to ([\d,]+) pixels",
        "include/ruvector/embed.h",
        "RV_IMAGE_MAX_SIDE",
    ),
    (
        "embedding.md",
        r"Its vectors have (\d+) values",
        "include/ruvector/embed.h",
        "RV_MOBILENET_DIM",
    ),
    ("a2a.md", r"the first (\d+) characters", "ruvector.a2a.excerpt", "LENGTH"),
    ("errors.md", r"handed on more than (\d+) times", "ruvector.a2a.policy", "MAX_DEPTH"),
    ("cli.md", r"(\d+) rows \(`--held-out`\)", None, 200),
]


@pytest.mark.parametrize(("name", "says", "path", "what", "scale"), [(*q, 1)[:5] for q in QUOTED])
def test_numbers_of_pages_are_those_of_the_code(name, says, path, what, scale):
    found = re.search(says, flat(page(name)))
    assert found, f"{name} no longer says {says!r}: say here what it says now"
    told = NUMBERS.get(found[1]) or float(found[1].replace(",", ""))
    assert told * scale == (what if path is None else constant(path, what))


def test_defaults_of_c_are_those_of_pages_and_of_python():
    header = (ROOT / "include/ruvector/lake.h").read_text()
    values = re.search(r"#define RV_LAKE_DEFAULT[^{]*\{([^}]*)\}", header)[1].split(",")
    _, rerank, seed, entries, consistency, ttl, strict = (v.strip() for v in values)
    told = inspect.signature(ruvector.RuLake.__init__).parameters
    assert told["rerank_factor"].default == int(rerank) == 20
    assert told["rotation_seed"].default == int(seed)
    assert told["max_cache_entries"].default is None
    assert int(entries) == int(strict) == 0
    assert told["eventual_ttl_ms"].default == int(ttl)
    assert f"({int(ttl):,})" in page("lake.md")
    assert consistency == "RV_FRESH"
    assert told["consistency"].default is ruvector.Consistency.FRESH
    header = (ROOT / "include/ruvector/index.h").read_text()
    values = re.search(r"#define RV_BUILD_DEFAULT[^{]*\{([^}]*)\}", header)[1].split(",")
    index = ruvector.RabitqPlusIndex.build(np.eye(4, dtype=np.float32))
    assert [index.bits, index.seed] == [int(values[6]), int(values[8])]
    assert index.epsilon == pytest.approx(float(values[7].strip(" f")))
    assert f"{index.epsilon:.1f} by default" in page("search.md")


def test_the_page_on_models_has_what_is_known_of_them():
    from ruvector.embed.registry import HUB_MODELS

    rows = re.findall(
        r"(?m)^\| `([\w.-]+)` \| (\d+) \| ([\w.-]+) \| (no|commit and SHA-256) \|$",
        page("embedding.md"),
    )
    known = [
        (name, str(m.dim), m.licence, "commit and SHA-256" if m.revision and m.sha256 else "no")
        for name, m in HUB_MODELS.items()
    ]
    assert rows == known
    pinned = sum(kind != "no" for *_, kind in rows)
    words = ["none", "one", "two", "three", "four", "five", "six"]
    assert f"{words[pinned]} of {words[len(rows)]}" in flat(page("decisions"))


def test_the_table_of_extras_is_that_of_the_package():
    project = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2]
    asked = {
        extra: set(re.findall(r'"([\w-]+)[<>=]', packages))
        for extra, packages in re.findall(r"(?m)^(\w+) = \[([^\]]*)\]", project.partition("\n[")[0])
    }
    assert asked.pop("text") == asked["embed"]
    rows = re.findall(r"(?m)^\| `(\w+)`[^|]*\| ([^|]*) \| \[", page("index.md"))
    told = {
        extra: set(re.findall(r"[a-z][a-z0-9-]{4,}", re.sub("with Python", "", row)))
        for extra, row in rows
    }
    assert told == asked


CLASSES = [ruvector.FlatF32Index, ruvector.RabitqPlusIndex, ruvector.RabitqIndex]


@pytest.mark.parametrize("where", ["README.md", "docs/indexes.md"])
def test_bytes_a_row_are_those_of_an_index(where):
    """What 6,400 rows add to 640, in whole blocks of one list."""
    rows = np.random.default_rng(0).standard_normal((6400, 384), dtype=np.float32)
    told = dict(
        re.findall(r"(?m)^\| `(\w+)` \|[^|]*\|[^|]*\| ([^|]*) \|", (ROOT / where).read_text())
    )
    for cls in CLASSES:
        options = {} if cls is ruvector.FlatF32Index else {"n_lists": 1}
        taken = []
        for n in (640, 6400):
            index = cls.build(rows[:n], **options)
            index.search(rows[0], k=1)
            taken.append(index.memory_bytes)
        assert (taken[1] - taken[0]) / 5760 in [int(n) for n in told[cls.__name__].split(" or ")]


def test_bytes_of_lists_and_bits_are_those_of_an_index():
    rows = np.random.default_rng(0).standard_normal((65 * 64, 384), dtype=np.float32)
    text = flat((ROOT / "README.md").read_text())
    fixed, least, most = re.search(
        r"takes ([\d.]+) MB, with more than 64 lists ([\d.]+) to ([\d.]+) kB for each", text
    ).groups()
    second, other = re.search(
        r"second bit of a code adds (\d+) bytes for each vector, any other (\d+)", text
    ).groups()

    def rotation(n_lists):
        index = ruvector.RabitqIndex.build(rows, n_lists=n_lists)
        index.search(rows[0], k=1)
        return index.memory_usage()["rotation"]

    assert rotation(64) == pytest.approx(float(fixed) * 1e6, rel=0.1)
    assert float(least) <= round(rotation(65) / 65e3, 1) <= float(most)
    codes = [
        ruvector.RabitqIndex.build(rows[:100], bits=b).memory_usage()["codes"] for b in (1, 2, 3)
    ]
    assert np.diff(codes).tolist() == [100 * int(second), 100 * int(other)]
