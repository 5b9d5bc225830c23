"""RuLake as a Python object: made, shown, derived from, collected, and the sample everyone
types first."""

from __future__ import annotations

import asyncio
import gc
import inspect
import pickle
import weakref

import numpy as np
import pytest
import ruvector
from lakes import Source, bundle_path, lake_of, local, rows
from leaks import MIN_OBJECT, attempt, growth
from ruvector import Consistency, FsBackend, LocalBackend, RuLake, RuLakeBundle

# ---- the sample --------------------------------------------------------------------


def test_the_first_program_one_would_write(tmp_path, capsys):
    query = rows(1, 768)[0]
    lake = (
        ruvector.RuLake.builder()
        .rerank_factor(20)
        .rotation_seed(42)
        .max_cache_entries(1_000_000)
        .consistency(ruvector.Consistency.FRESH)
        .build()
    )
    backend = ruvector.LocalBackend(name="hot-shard")
    backend.upsert("docs", ids=[1, 2, 3], vectors=np.random.randn(3, 768).astype(np.float32))
    lake.register_backend(backend)
    hits = lake.search_one(collection="docs", query=query, k=10)

    async def main():
        hits = await lake.search_one_async(collection="docs", query=query, k=10)
        print([(h.backend, h.id, h.score) for h in hits])
        return hits

    assert asyncio.run(main()) == hits
    assert "hot-shard" in capsys.readouterr().out
    assert lake.search_federated(collection="docs", query=query, k=10) == hits
    witness = lake.publish_bundle("docs", out_dir=tmp_path)
    assert len(witness) == 64
    result = lake.refresh_from_bundle_dir(key=("local", "docs"), dir=tmp_path)
    assert result == ruvector.RefreshResult.UP_TO_DATE
    with lake.session() as s:
        s.upsert("docs", [4], query[None])
    assert lake.search_one("docs", query, 1)[0].id == 4


# ---- making ------------------------------------------------------------------------


def test_the_two_ways_to_make_one_are_the_same():
    by_builder = (
        RuLake.builder()
        .rerank_factor(7)
        .rotation_seed(2**64 - 1)
        .max_cache_entries(3)
        .consistency(Consistency.EVENTUAL)
        .eventual_ttl_ms(5)
        .strict()
        .build()
    )
    by_name = RuLake(
        rerank_factor=7,
        rotation_seed=2**64 - 1,
        max_cache_entries=3,
        consistency=Consistency.EVENTUAL,
        eventual_ttl_ms=5,
        strict=True,
    )
    backend, _ = local()
    for lake in (by_builder, by_name):
        lake.register_backend(backend)
        with pytest.raises(ruvector.CacheMissError):
            lake.search_one("docs", [0.0] * 16)
    assert by_builder.prime("docs") == by_name.prime("docs")
    assert by_name.prime("docs") == backend.current_bundle("docs", 2**64 - 1, 7).rvf_witness


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("rerank_factor", 0, ValueError),
        ("rerank_factor", 1025, ValueError),
        ("rerank_factor", "20", TypeError),
        ("rotation_seed", -1, ValueError),
        ("rotation_seed", 2**64, ValueError),
        ("rotation_seed", 1.0, TypeError),
        ("max_cache_entries", -1, ValueError),
        ("max_cache_entries", "many", TypeError),
        ("eventual_ttl_ms", -1, ValueError),
        ("eventual_ttl_ms", 0.5, TypeError),
        ("consistency", "FRESH", TypeError),
    ],
)
def test_options_outside_their_domain(name, value, error):
    with pytest.raises(error, match=name):
        RuLake(**{name: value})
    with pytest.raises(error, match=name):
        getattr(RuLake.builder(), name)(value).build()


def test_options_go_by_name():
    with pytest.raises(TypeError):
        RuLake(20)
    with pytest.raises(TypeError):
        RuLake(color="red")


# ---- showing -----------------------------------------------------------------------


def test_reprs(tmp_path):
    backend, vectors = local("hot")
    lake = lake_of(backend, consistency=Consistency.STALE)
    lake.prime("docs")
    assert repr(lake) == "RuLake(backends=['hot'], entries=1, consistency=STALE)"
    assert repr(backend) == "LocalBackend('hot', collections=1)"
    assert repr(FsBackend("fs", tmp_path)) == "FsBackend('fs', collections=0)"
    (hit,) = lake.search_one("docs", vectors[2], 1)
    assert repr(hit) == "ruvector.LakeHit(backend='hot', collection='docs', id=2, score=0.0)"


def test_everything_public_says_what_it_does():
    for cls in (RuLake, LocalBackend, FsBackend, RuLakeBundle, Consistency, ruvector.CacheStats):
        assert inspect.getdoc(cls)
        for name, member in inspect.getmembers(cls):
            if not name.startswith("_") and callable(member):
                assert inspect.getdoc(member), f"{cls.__name__}.{name}"
    for name in ("search_one", "search_batch", "search_federated", "prime", "publish_bundle"):
        assert "self" not in str(inspect.signature(getattr(RuLake(), name)))


# ---- derived classes ---------------------------------------------------------------


def test_a_class_derived_from_it():
    class Counting(RuLake):
        def __init__(self, name, **options):
            super().__init__(**options)
            self.name = name
            self.searches = 0

        def search_one(self, *args, **named):
            self.searches += 1
            return super().search_one(*args, **named)

    backend, vectors = local()
    lake = Counting("mine", rerank_factor=3)
    lake.register_backend(backend)
    assert lake.search_one("docs", vectors[3], 1)[0].id == 3
    assert (lake.name, lake.searches) == ("mine", 1)
    assert repr(lake).startswith("Counting(")

    class Plain(RuLake):
        pass

    assert type(Plain.builder().strict().build()) is Plain


def test_a_derived_class_that_forgets_its_base():
    class Forgetful(RuLake):
        def __init__(self):
            pass

    lake = Forgetful()
    for call in (
        lambda: lake.search_one("docs", [1.0]),
        lambda: lake.search_federated("docs", [1.0]),
        lambda: lake.backend_ids(),
        lambda: lake.prime("docs"),
        lambda: lake.cache_stats(),
        lambda: lake.register_backend(local()[0]),
    ):
        with pytest.raises(RuntimeError, match="__init__"):
            call()


def test_a_lake_is_initialized_once():
    lake = RuLake()
    with pytest.raises(RuntimeError, match="once"):
        lake.__init__()


@pytest.mark.parametrize("cls", [LocalBackend, FsBackend])
def test_backends_in_c_are_final(cls):
    with pytest.raises(TypeError):
        type("Derived", (cls,), {})


# ---- going -------------------------------------------------------------------------


def test_a_lake_goes_with_its_last_reference():
    lake = lake_of(local()[0])
    lake.prime("docs")
    gone = weakref.ref(lake)
    del lake
    gc.collect()
    assert gone() is None


def test_a_lake_in_a_cycle_is_collected():
    lake = lake_of(local()[0], Source())
    lake.itself = lake
    lake.session_kept = lake.session()
    gone = weakref.ref(lake)
    del lake
    gc.collect()
    assert gone() is None


def test_errors_can_be_pickled(tmp_path):
    lake = lake_of(local()[0])
    lake.publish_bundle("docs", tmp_path)
    text = bundle_path(tmp_path).read_text()
    bundle_path(tmp_path).write_text(text.replace('"dim": 16', '"dim": 17'))
    for call in (
        lambda: lake.search_one("docs", [1.0]),
        lambda: lake.search_one("none", [1.0]),
        lambda: lake.search_one("docs", [1.0], backend="who"),
        lambda: lake.search_one("docs", [np.nan] * 16),
        lambda: lake.register_backend(local()[0]),
        lambda: RuLakeBundle.from_json("{"),
        lambda: RuLakeBundle.read_from_dir(tmp_path),
        lambda: RuLakeBundle.read_from_dir(tmp_path / "none"),
    ):
        with pytest.raises(ruvector.LakeError) as caught:
            call()
        other = pickle.loads(pickle.dumps(caught.value))
        assert type(other) is type(caught.value)
        assert str(other) == str(caught.value)
        assert vars(other) == vars(caught.value)


def test_no_call_leaves_objects_behind(tmp_path):
    backend, vectors = local(n=30)

    class Quiet(Source):
        def _ask(self, what, collection):  # without keeping a list
            pass

    source = Quiet(vectors)
    fs = FsBackend("fs", tmp_path / "data")
    fs.write("files", "x", range(30), vectors)
    lake = lake_of(backend, source, fs)
    index = ruvector.RabitqPlusIndex.build(vectors)

    class Failing(Quiet):
        def pull_vectors(self, collection):
            raise ValueError("no")

    failing = lake_of(Failing())
    lake.prime(("local", "docs"))
    lake.save_cache_to_dir(("local", "docs"), tmp_path)
    query = vectors[0]
    loop = asyncio.new_event_loop()

    async def together():
        await asyncio.gather(
            *[lake.search_one_async("docs", query, backend="local") for _ in range(3)],
            lake.search_batch_async("files", vectors[:2]),
            lake.search_federated_async(query=query, targets=[("local", "docs")]),
            lake.prime_async("files"),
            return_exceptions=True,
        )

    async def adapters():
        await asyncio.gather(
            lake.search_one_async("docs", query, backend="source"),
            failing.search_one_async("docs", query),
            return_exceptions=True,
        )

    def cancel():
        task = loop.create_task(lake.search_one_async("files", query))
        loop.call_soon(task.cancel)
        loop.run_until_complete(asyncio.wait([task]))

    def session():
        with lake.session() as s:
            s.search_one("docs", query, backend="local")
            s.search_federated(query=query, targets=[("local", "docs"), ("fs", "files")])

    calls = {
        "search": lambda: lake.search_one("docs", query, backend="local"),
        "search for many": lambda: lake.search_one("docs", query, 1000, backend="local"),
        "search by name": lambda: lake.search_one("files", query),
        "search refused": lambda: lake.search_one("docs", query[:3].copy(), backend="local"),
        "search of nothing": lambda: lake.search_one("none", query, backend="local"),
        "search of nobody": lambda: lake.search_one("docs", query, backend="who"),
        "search of several": lambda: lake.search_one("docs", query),
        "search of no name": lambda: lake.search_one(3, query),
        "batch": lambda: lake.search_batch("docs", vectors, backend="local"),
        "federated": lambda: lake.search_federated("docs", query),
        "federated targets": lambda: lake.search_federated(
            query=query, k=90, targets=[("local", "docs"), ("fs", "files")]
        ),
        "federated refused": lambda: lake.search_federated(query=query, targets=[("a",)]),
        "adapter": lambda: lake.search_one("docs", query, backend="source"),
        "adapter cold": lambda: (
            lake.invalidate_cache(("source", "docs")),
            lake.prime(("source", "docs")),
        ),
        "adapter failing": lambda: failing.search_one("docs", query),
        "make": lambda: lake_of(LocalBackend("x"), Quiet()),
        "make refused": lambda: RuLake(rerank_factor=0),
        "register refused": lambda: lake.register_backend(Source()),
        "install": lambda: lake.install(("local", "docs"), index),
        "install refused": lambda: lake.install(("local", "docs"), 3),
        "contains": lambda: (index in lake, ("a", "b") in lake, "x" in lake),
        "contains refused": lambda: 3 in lake,
        "publish": lambda: lake.publish_bundle("files", tmp_path / "p", pii_policy="x"),
        "refresh": lambda: lake.refresh_from_bundle_dir("files", tmp_path / "p"),
        "save": lambda: lake.save_cache_to_dir(("local", "docs"), tmp_path),
        "warm": lambda: lake.warm_from_dir(("w", "docs"), tmp_path),
        "warm refused": lambda: lake.warm_from_dir(("w", "docs"), tmp_path / "none"),
        "stats": lambda: (
            lake.cache_stats(),
            lake.cache_stats_by_backend(),
            lake.cache_stats_by_collection(),
            lake.cache_entry(("local", "docs")),
            lake.cache_witness_of(("local", "docs")),
            repr(lake),
        ),
        "bundle": lambda: RuLakeBundle.from_json(RuLakeBundle("é", 1, 2, 3, "x").to_json()),
        "bundle refused": lambda: RuLakeBundle.from_json("{"),
        "local": lambda: (
            backend.upsert("tmp", [1, 2], vectors[:2]),
            backend.append("tmp", 3, query),
            backend.remove("tmp", 3),
            backend.put_collection("tmp", [1], vectors[:1]),
            backend.pull_vectors("tmp"),
            backend.current_bundle("tmp", 1, 2),
        ),
        "local refused": lambda: backend.upsert("tmp", [1], vectors[:2]),
        "fs": lambda: (fs.write("tmp", "tmp", [1], vectors[:1]), fs.generation("tmp")),
        "fs refused": lambda: fs.write("tmp", "../tmp", [1], vectors[:1]),
        "session": session,
        "asyncio": lambda: loop.run_until_complete(together()),
        "asyncio, adapters": lambda: loop.run_until_complete(adapters()),
        "asyncio cancelled": cancel,
    }

    values = (RuLake, lake, backend, source, vectors, index, ruvector.LakeHit, float)
    leaking = {}
    gc.collect()
    gc.freeze()
    for name, function in calls.items():
        # Free lists of Python grow too, but not with the number of calls.
        spare = 120_000 if "asyncio" in name else 0
        attempt(function)
        for rounds in (60, 60, 1_500):
            held, references = growth(function, rounds, values)
            if held < rounds * MIN_OBJECT + spare and references < rounds:
                break
        else:
            leaking[name] = (held, references)
        if spare:
            held, references = growth(function, 1_000, values)
            if held >= 1_000 * MIN_OBJECT + spare or references >= 1_000:
                leaking[name] = (held, references)
    gc.unfreeze()
    loop.close()
    assert not leaking
