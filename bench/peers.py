"""One adapter per index: the same few calls, each through its library's leanest entry.

An adapter is made with the build threads, builds, answers, and names the one search
parameter that trades time for recall. Distances are squared L2 everywhere. Graphs get
equal build parameters (32 links, construction width 200), fixed in advance.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any, ClassVar

import numpy as np


class Adapter:
    package = "ruvector"  # name on the package index
    parameter: str | None = None  # swept at search time
    values: tuple = (None,)
    vectors = True  # keeps the originals

    def __init__(self, threads: int) -> None:
        self.build_threads = threads

    def version(self) -> str:
        return metadata.version(self.package)

    def build(self, base: np.ndarray) -> None:
        raise NotImplementedError

    def bytes(self) -> int:
        raise NotImplementedError

    def threads(self, n: int) -> None:
        raise NotImplementedError

    def set(self, value: Any) -> None:
        """Sets the search parameter for the calls that follow."""

    def one(self, query: np.ndarray, k: int) -> object:
        """Answers one query, in whatever form the library gives."""
        raise NotImplementedError

    def many(self, queries: np.ndarray, k: int) -> np.ndarray:
        """Rows found, m x k."""
        raise NotImplementedError


class Ruvector(Adapter):
    kind = ""
    options: ClassVar[dict[str, Any]] = {}

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        import ruvector

        self._module = ruvector
        self._search: dict = {}

    def build(self, base):
        self._module.set_num_threads(self.build_threads)
        self._index = getattr(self._module, self.kind).build(base, **self.options)

    def bytes(self):
        return self._index.memory_bytes

    def threads(self, n):
        self._module.set_num_threads(n)

    def set(self, value):
        self._search = {} if value is None else {self.parameter: value}

    def one(self, query, k):
        return self._index.search(query, k, **self._search)

    def many(self, queries, k):
        return self._index.search_batch(queries, k, **self._search)[0]


class RuvectorFlat(Ruvector):
    kind = "FlatF32Index"


class RuvectorCodes(Ruvector):
    kind = "RabitqIndex"
    vectors = False


class RuvectorPlus(Ruvector):
    kind = "RabitqPlusIndex"
    parameter = "epsilon"
    values = (None, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.25, 2.5, 3.0)


class RuvectorAsym(RuvectorPlus):
    kind = "RabitqAsymIndex"
    options: ClassVar[dict[str, Any]] = {"rerank_factor": 20}


class Faiss(Adapter):
    package = "faiss-cpu"
    factory = ""

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        import faiss

        self._module = faiss

    def build(self, base):
        self.threads(self.build_threads)
        self._index = self._module.index_factory(base.shape[1], self.factory)
        self._prepare()
        self._index.train(base)
        self._index.add(base)

    def _prepare(self):
        pass

    def bytes(self):
        return len(self._module.serialize_index(self._index))

    def threads(self, n):
        self._module.omp_set_num_threads(n)

    def one(self, query, k):
        return self._index.search(query[None], k)

    def many(self, queries, k):
        return self._index.search(queries, k)[1]


class FaissFlat(Faiss):
    factory = "Flat"


class FaissCodes(Faiss):
    factory = "RR,RaBitQfs"
    vectors = False


class FaissRefined(Faiss):
    factory = "RR,RaBitQfs,Refine(Flat)"
    parameter = "k_factor"
    values = (1, 2, 4, 8, 16, 24, 32, 50, 75, 100, 150, 200, 400)

    def set(self, value):
        self._index.k_factor = value


class FaissHnsw(Faiss):
    factory = "HNSW32"
    parameter = "efSearch"
    values = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)

    def _prepare(self):
        self._index.hnsw.efConstruction = 200

    def set(self, value):
        self._index.hnsw.efSearch = value


class Hnswlib(Adapter):
    package = "hnswlib"
    parameter = "ef"
    values = FaissHnsw.values

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        import hnswlib

        self._module = hnswlib

    def build(self, base):
        n, dim = base.shape
        self._index = self._module.Index(space="l2", dim=dim)
        self._index.init_index(max_elements=n, M=32, ef_construction=200, random_seed=1)
        self._index.add_items(base, np.arange(n), num_threads=self.build_threads)

    def bytes(self):
        return self._index.index_file_size()

    def threads(self, n):
        self._index.set_num_threads(n)

    def set(self, value):
        self._index.set_ef(value)

    def one(self, query, k):
        return self._index.knn_query(query, k)

    def many(self, queries, k):
        return self._index.knn_query(queries, k)[0]


class Usearch(Adapter):
    package = "usearch"
    parameter = "expansion_search"
    values = FaissHnsw.values

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        from usearch.index import Index

        self._class = Index

    def build(self, base):
        n, dim = base.shape
        self._index = self._class(
            ndim=dim, metric="l2sq", dtype="f32", connectivity=32, expansion_add=200
        )
        self._index.add(np.arange(n), base, threads=self.build_threads)

    def bytes(self):
        return self._index.serialized_length

    def threads(self, n):
        self._threads = n

    def set(self, value):
        self._index.expansion_search = value

    def one(self, query, k):
        return self._index.search(query, k, threads=1)

    def many(self, queries, k):
        return self._index.search(queries, k, threads=self._threads).keys


class RustSdk(Adapter):
    """The Rust SDK of the same name; runs in an environment of its own. It has neither
    a batch call nor a thread setting for searches."""

    parameter = "rerank_factor"
    values = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        import ruvector

        self._class = ruvector.RabitqIndex

    def build(self, base):
        self._index = self._class.build(base, rerank_factor=20, seed=42)

    def bytes(self):
        return self._index.memory_bytes

    def threads(self, n):
        pass

    def set(self, value):
        self._factor = value

    def one(self, query, k):
        return self._index.search(query, k, rerank_factor=self._factor)

    def many(self, queries, k):
        return np.array([[hit[0] for hit in self.one(query, k)] for query in queries])


OURS = {
    "FlatF32Index": RuvectorFlat,
    "RabitqIndex": RuvectorCodes,
    "RabitqPlusIndex": RuvectorPlus,
    "RabitqAsymIndex": RuvectorAsym,
}
PEERS = {
    "faiss Flat": FaissFlat,
    "faiss RaBitQfs": FaissCodes,
    "faiss RaBitQfs+Refine": FaissRefined,
    "faiss HNSW32": FaissHnsw,
    "hnswlib": Hnswlib,
    "usearch": Usearch,
    "Rust SDK": RustSdk,
}
ALL = {**OURS, **PEERS}
RUST_SDK = "Rust SDK"
RUST_SDK_REQUIREMENT = "ruvector==0.1.4"
