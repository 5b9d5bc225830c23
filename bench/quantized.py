"""Adapters of rabitqlib, by the authors of RaBitQ, and of turbovec."""

from __future__ import annotations

import numpy as np

from .adapter import CONSTRUCTION, LINKS, PROBES, WIDTHS, Adapter, lists, saved_bytes, sweep

_RAW = 32  # "bits" by which rabitqlib means codes of one bit and the vectors


class RabitqlibIvf(Adapter):
    package = "rabitqlib"
    cheap_build = True

    def __init__(self, threads: int, bits: int = _RAW, roots: float = 1) -> None:
        super().__init__(threads)
        import rabitqlib

        self._module, self._bits, self._roots, self._threads = rabitqlib, bits, roots, threads
        self.vectors = bits == _RAW
        self.bits = None if self.vectors else bits

    def settings(self, k):
        count = lists(self.n, self._roots)
        return sweep("nprobe", (*(p for p in PROBES if p < count), count))

    def build(self, base):
        self.n, dim = base.shape
        module, count = self._module, lists(self.n, self._roots)
        clusters = module.RaBitQKMeans(
            dim,
            count,
            num_threads=self.build_threads,
            final_assignment=module.FinalAssignmentMode.Exact,
        )
        clusters.train(base)
        self._index = module.IvfIndex(
            dim=dim, max_elements=self.n, num_clusters=count, nbits=self._bits, metric="l2"
        )
        self._index.build(
            base, clusters.centroids, clusters.assignments, num_threads=self.build_threads
        )

    def bytes(self):
        return saved_bytes(lambda folder: self._index.save(str(folder / "index")))

    def threads(self, n):
        self._threads = n

    def set(self, setting):
        self._probe = setting["nprobe"]

    def one(self, query, k):
        return self._index.search(query[None], k, self._probe)

    def many(self, queries, k):
        return self._index.search(queries, k, self._probe, num_threads=self._threads)[0]


class RabitqlibGraph(Adapter):
    """SymphonyQG: a graph whose nodes hold the codes of their neighbors."""

    package = "rabitqlib"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        from rabitqlib import SymqgIndex

        self._class, self._threads = SymqgIndex, threads

    def settings(self, k):
        return sweep("ef", tuple(width for width in WIDTHS if width >= k))

    def build(self, base):
        self._index = self._class(base.shape[1], LINKS, metric="l2")
        self._index.build(base, CONSTRUCTION, num_threads=self.build_threads)

    def bytes(self):
        return saved_bytes(lambda folder: self._index.save(str(folder / "index")))

    def threads(self, n):
        self._threads = n

    def set(self, setting):
        self._width = setting["ef"]

    def one(self, query, k):
        return self._index.search(query[None], k, self._width)

    def many(self, queries, k):
        return self._index.search_batch(queries, k, self._width, num_threads=self._threads)[0]


class Turbovec(Adapter):
    """Inner products of codes; the order of distances where all rows have one length."""

    package = "turbovec"
    vectors = False
    unit_rows_only = True
    cheap_build = True
    thread_variable = "RAYON_NUM_THREADS"

    def __init__(self, threads: int, bits: int = 4) -> None:
        super().__init__(threads)
        import turbovec

        self._class, self.bits = turbovec.TurboQuantIndex, bits

    def build(self, base):
        n, dim = base.shape
        sample = np.random.default_rng(1).choice(n, min(n, 4096), replace=False)
        self._index = self._class(dim=dim, bit_width=self.bits)
        self._index.calibrate(base[np.sort(sample)])
        self._index.add(base)
        self._index.prepare()

    def bytes(self):
        return len(self._index.to_bytes())

    def one(self, query, k):
        return self._index.search(query[None], k)

    def many(self, queries, k):
        return self._index.search(queries, k)[1]
