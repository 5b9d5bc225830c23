"""Adapters of our own index classes."""

from __future__ import annotations

from .adapter import PROBES, Adapter, lists


class Ruvector(Adapter):
    kind = ""
    cheap_build = True

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        import ruvector

        self._module = ruvector
        self._search: dict = {}

    def options(self) -> dict:
        return {}

    def build(self, base):
        self.n = len(base)
        self._module.set_num_threads(self.build_threads)
        self.index = getattr(self._module, self.kind).build(base, **self.options())

    def bytes(self):
        return self.index.memory_bytes

    def threads(self, n):
        self._module.set_num_threads(n)

    def set(self, setting):
        self._search = setting

    def one(self, query, k):
        return self.index.search(query, k, **self._search)

    def many(self, queries, k):
        return self.index.search_batch(queries, k, **self._search)[0]


class Flat(Ruvector):
    kind = "FlatF32Index"


class _Listed(Ruvector):
    """`roots`: lists in square roots of the rows; None leaves them to the library."""

    def __init__(self, threads: int, roots: float | None = None) -> None:
        super().__init__(threads)
        self.roots = roots

    def options(self):
        return {} if self.roots is None else {"n_lists": lists(self.n, self.roots)}

    def probes(self) -> list:
        if self.roots is None:
            return []
        return [p for p in PROBES if p < lists(self.n, self.roots)] + ["all"]


class Codes(_Listed):
    kind = "RabitqIndex"
    vectors = False

    def __init__(self, threads: int, bits: int = 1, roots: float | None = None) -> None:
        super().__init__(threads, roots)
        self.bits = bits

    def options(self):
        # One bit is the default, which older versions know as well.
        return {**super().options(), **({"bits": self.bits} if self.bits > 1 else {})}

    def settings(self, k):
        return [[{}]] if self.roots is None else [[{"nprobe": p} for p in self.probes()]]


class Plus(_Listed):
    kind = "RabitqPlusIndex"

    def __init__(
        self, threads: int, bits: int = 1, roots: float | None = None, originals: str = "f32"
    ) -> None:
        super().__init__(threads, roots)
        # What is the default, older versions know as well.
        self._more = {"bits": bits} if bits > 1 else {}
        if originals != "f32":
            self._more["originals"] = originals

    def options(self):
        return {**super().options(), **self._more}

    def settings(self, k):
        default: list[list[dict]] = [[{}]]
        if self.roots is None:
            widths = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)
            return [*default, [{"epsilon": width} for width in widths]]
        widths = (0.75, 1.1, 1.5, 1.9, 2.4)
        return default + [
            [{"nprobe": probe, "epsilon": width} for width in widths] for probe in self.probes()
        ]


class Asym(Ruvector):
    kind = "RabitqAsymIndex"

    def options(self):
        return {"rerank_factor": 20}

    def settings(self, k):
        return [[{}], [{"epsilon": width} for width in (0.5, 1.0, 1.5, 2.0, 2.5)]]
