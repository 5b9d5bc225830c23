"""Adapters of other libraries that keep the vectors, and of the codes of faiss."""

from __future__ import annotations

import numpy as np

from .adapter import CONSTRUCTION, LINKS, PROBES, WIDTHS, Adapter, lists, saved_bytes, sweep

# Leaves of scann in square roots of the rows, as its authors advise.
_LEAVES = 2


class Faiss(Adapter):
    """`factory`: the description faiss builds from; {lists} stands for their number."""

    package = "faiss-cpu"

    def __init__(self, threads: int, factory: str, roots: float = 0) -> None:
        super().__init__(threads)
        import faiss

        self._module, self._factory, self._roots = faiss, factory, roots
        self.vectors = "RaBitQ" not in factory or "Refine" in factory
        self.cheap_build = "HNSW" not in factory

    def build(self, base):
        self.n, dim = base.shape
        self._module.omp_set_num_threads(self.build_threads)
        factory = self._factory.format(lists=lists(self.n, self._roots))
        self._index = self._module.index_factory(dim, factory)
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


class FaissCodes(Faiss):
    def __init__(self, threads: int, bits: int) -> None:
        super().__init__(threads, f"RR,RaBitQfs{bits if bits > 1 else ''}")
        self.bits = bits


class FaissRefined(Faiss):
    def settings(self, k):
        values = (1, 2, 4, 8, 16, 24, 32, 50, 75, 100, 150, 200, 400)
        return sweep("k_factor", tuple(v for v in values if v * k <= 10_000))

    def set(self, setting):
        self._index.k_factor = setting["k_factor"]


class FaissIvf(Faiss):
    def settings(self, k):
        probes = [p for p in PROBES if p < lists(self.n, self._roots)]
        return [[{"nprobe": p, "k_factor": f} for f in (4, 10, 20, 40)] for p in probes]

    def set(self, setting):
        self._module.extract_index_ivf(self._index).nprobe = setting["nprobe"]
        self._index.k_factor = setting["k_factor"]


class FaissHnsw(Faiss):
    def _prepare(self):
        self._index.hnsw.efConstruction = CONSTRUCTION

    def settings(self, k):
        return sweep("efSearch", WIDTHS)

    def set(self, setting):
        self._index.hnsw.efSearch = setting["efSearch"]


class Hnswlib(Adapter):
    package = "hnswlib"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        import hnswlib

        self._module = hnswlib

    def settings(self, k):
        return sweep("ef", tuple(width for width in WIDTHS if width >= k))

    def build(self, base):
        n, dim = base.shape
        self._index = self._module.Index(space="l2", dim=dim)
        self._index.init_index(max_elements=n, M=LINKS, ef_construction=CONSTRUCTION, random_seed=1)
        self._index.add_items(base, np.arange(n), num_threads=self.build_threads)

    def bytes(self):
        return self._index.index_file_size()

    def threads(self, n):
        self._index.set_num_threads(n)

    def set(self, setting):
        self._index.set_ef(setting["ef"])

    def one(self, query, k):
        return self._index.knn_query(query, k)

    def many(self, queries, k):
        return self._index.knn_query(queries, k)[0]


class Usearch(Adapter):
    package = "usearch"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        from usearch.index import Index

        self._class, self._threads = Index, threads

    def settings(self, k):
        return sweep("expansion_search", WIDTHS)

    def build(self, base):
        n, dim = base.shape
        self._index = self._class(
            ndim=dim,
            metric="l2sq",
            dtype="f32",
            connectivity=LINKS,
            expansion_add=CONSTRUCTION,
        )
        self._index.add(np.arange(n), base, threads=self.build_threads)

    def bytes(self):
        return self._index.serialized_length

    def threads(self, n):
        self._threads = n

    def set(self, setting):
        self._index.expansion_search = setting["expansion_search"]

    def one(self, query, k):
        return self._index.search(query, k, threads=1)

    def many(self, queries, k):
        return self._index.search(queries, k, threads=self._threads).keys


class SvsVamana(Adapter):
    """Its compressed vectors need an Intel processor; these are float32."""

    package = "scalable-vs"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        import svs

        self._module = svs

    def settings(self, k):
        return sweep("search_window_size", tuple(w for w in (10, *WIDTHS) if w >= k))

    def build(self, base):
        options = self._module.VamanaBuildParameters(
            graph_max_degree=2 * LINKS,
            window_size=128,  # its defaults for many rows
        )
        self._index = self._module.Vamana.build(
            options, base, self._module.DistanceType.L2, num_threads=self.build_threads
        )

    def bytes(self):
        def save(folder):
            self._index.save(*(str(folder / part) for part in ("config", "graph", "data")))

        return saved_bytes(save)

    def threads(self, n):
        self._index.num_threads = n

    def set(self, setting):
        self._index.search_window_size = setting["search_window_size"]

    def one(self, query, k):
        return self._index.search(query, k)

    def many(self, queries, k):
        return self._index.search(queries, k)[0]


class Scann(Adapter):
    package = "scann"
    cheap_build = True

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        import scann

        self._module, self._threads = scann, threads

    def settings(self, k):
        probes = [p for p in PROBES if p < lists(self.n, _LEAVES)]
        orders = [max(k, order) for order in (30, 100, 300)]
        return [
            [{"leaves_to_search": p, "pre_reorder_num_neighbors": order} for order in orders]
            for p in probes
        ]

    def build(self, base):
        self.n = len(base)
        builder = self._module.scann_ops_pybind.builder(base, 10, "squared_l2")
        builder = builder.set_n_training_threads(self.build_threads)
        leaves = lists(self.n, _LEAVES)
        builder = builder.tree(
            num_leaves=leaves,
            num_leaves_to_search=max(1, leaves // 20),
            training_sample_size=min(self.n, 250_000),
        )
        codes = builder.score_ah(2, anisotropic_quantization_threshold=0.2)
        self._index = codes.reorder(100).build()

    def bytes(self):
        return saved_bytes(lambda folder: self._index.serialize(str(folder)))

    def threads(self, n):
        self._threads = n
        self._index.set_num_threads(n)

    def set(self, setting):
        self._setting = setting

    def one(self, query, k):
        return self._index.search(query, k, **self._setting)

    def many(self, queries, k):
        index = self._index
        call = index.search_batched if self._threads == 1 else index.search_batched_parallel
        return call(queries, k, **self._setting)[0]


class RustSdk(Adapter):
    """The Rust SDK of the same name; runs in an environment of its own. It has neither
    a batch call nor a thread setting for searches."""

    cheap_build = True
    has_batch = False
    requirement = "ruvector==0.1.4"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        import ruvector

        self._class = ruvector.RabitqIndex

    def settings(self, k):
        values = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
        return sweep("rerank_factor", tuple(v for v in values if v * k <= 10_000))

    def build(self, base):
        self._index = self._class.build(base, rerank_factor=20, seed=42)

    def bytes(self):
        return self._index.memory_bytes

    def set(self, setting):
        self._factor = setting["rerank_factor"]

    def one(self, query, k):
        return self._index.search(query, k, rerank_factor=self._factor)

    def many(self, queries, k):
        return np.array([[hit[0] for hit in self.one(query, k)] for query in queries])
