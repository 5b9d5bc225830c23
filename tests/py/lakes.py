"""What tests of the lake share: yardsticks that are not ours, and backends in Python."""

from __future__ import annotations

import hashlib
import struct
import threading
from pathlib import Path

import numpy as np
import ruvector
from ruvector import BackendAdapter, LocalBackend, PulledBatch, RuLake, RuLakeBundle


def rows(n: int, dim: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def nearest(query, vectors, k: int, ids=None) -> list[tuple[int, float]]:
    """(id, squared distance) of the k nearest rows, in float64."""
    distances = ((np.asarray(vectors, np.float64) - query) ** 2).sum(axis=1)
    order = np.argsort(distances, kind="stable")[:k]
    ids = np.arange(len(vectors)) if ids is None else np.asarray(ids)
    return [(int(ids[i]), float(distances[i])) for i in order]


def assert_hits(hits, expected) -> None:
    """Ids as expected, scores within rounding."""
    assert [h.id for h in hits] == [id for id, _ in expected]
    np.testing.assert_allclose(
        [h.score for h in hits], [score for _, score in expected], rtol=1e-5, atol=1e-4
    )


def witness_of(data_ref: str, dim: int, seed: int, rerank: int, generation: int | str) -> str:
    """By hashlib, after the description of the format."""
    if isinstance(generation, str):
        token = b"\1" + generation.encode()
    else:
        token = b"\0" + struct.pack("<Q", generation)
    reference = data_ref.encode()
    message = b"rulake-bundle-witness-v1|" + struct.pack("<Q", len(reference)) + reference
    message += b"|" + struct.pack("<QQQ", dim, seed, rerank)
    message += b"|" + struct.pack("<Q", len(token)) + token
    return hashlib.shake_256(message).hexdigest(32)


def ruvec1(ids, vectors) -> bytes:
    """The bytes of a file of vectors, by struct."""
    vectors = np.asarray(vectors, "<f4")
    n, dim = vectors.shape
    data = b"ruvec1\0\0" + struct.pack("<QII", n, dim, 0)
    for id, vector in zip(ids, vectors):
        data += struct.pack("<Q", id) + vector.tobytes()
    return data


def local(name: str = "local", collection: str = "docs", n: int = 200, dim: int = 16, **seed):
    """A backend with one collection, and its rows."""
    vectors = rows(n, dim, **seed)
    backend = LocalBackend(name)
    backend.put_collection(collection, np.arange(n), vectors)
    return backend, vectors


def lake_of(*backends, **options) -> RuLake:
    lake = RuLake(**options)
    for backend in backends:
        lake.register_backend(backend)
    return lake


def counters(lake) -> tuple[int, int, int, int]:
    """hits, misses, primes, invalidations"""
    return tuple(lake.cache_stats()[:4])


def in_threads(*functions, timeout: float = 60):
    """Runs all at once; their results in order, or the first error."""
    results: list[object] = [None] * len(functions)
    errors: list[BaseException] = []
    start = threading.Barrier(len(functions))

    def run(i, function):
        try:
            start.wait()
            results[i] = function()
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=run, args=(i, f), daemon=True) for i, f in enumerate(functions)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]
    return results


class Source(BackendAdapter):
    """A backend in Python that counts what it is asked for."""

    id = "source"

    def __init__(self, vectors=None, ids=None, *, name: str = "source") -> None:
        self.id = name
        self.vectors = rows(200) if vectors is None else vectors
        self.ids = np.arange(len(self.vectors)) if ids is None else ids
        self.number = 1
        self.asked: list[str] = []
        self.threads: set[str] = set()

    def _ask(self, what: str, collection: str) -> None:
        self.asked.append(what)
        self.threads.add(threading.current_thread().name)
        if collection != "docs":
            raise ruvector.UnknownCollection(f"no {collection} here")

    def list_collections(self):
        return ["docs"]

    def generation(self, collection):
        self._ask("generation", collection)
        return self.number

    def pull_vectors(self, collection):
        self._ask("pull", collection)
        return PulledBatch(self.ids, self.vectors, self.vectors.shape[1], self.number)

    @property
    def pulls(self) -> int:
        return self.asked.count("pull")


class Described(Source):
    """One that knows the address of its data."""

    address = "mem://shared"

    def current_bundle(self, collection, rotation_seed, rerank_factor):
        self._ask("bundle", collection)
        return RuLakeBundle(
            self.address, self.vectors.shape[1], rotation_seed, rerank_factor, self.number
        )


def bundle_path(folder) -> Path:
    return Path(folder) / RuLakeBundle.SIDECAR_FILENAME
