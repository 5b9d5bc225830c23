"""What an index must answer to be measured: the same few calls, each through its
library's leanest entry. Distances are squared L2 everywhere.

An adapter is made with the build threads, builds, and names the settings that trade
time for recall: lists of settings in order of rising cost, each a dict of search
parameters. Build parameters are fixed in advance; graphs get equal ones.
"""

from __future__ import annotations

import math
import os
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Callable

import numpy as np

Setting = "dict[str, Any]"

# Of every graph: links of a node and width of the search that builds it.
LINKS, CONSTRUCTION = 32, 200
WIDTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
PROBES = (1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 64, 96, 128, 192, 256, 512)
# Lists of the inverted files, ours and others', in square roots of the rows.
ONE, FEW, MANY = 0, 1, 4


def lists(n: int, roots: float) -> int:
    """Number of lists for n rows; no list shorter than 64 rows on average."""
    return max(1, min(int(roots * math.sqrt(n)), max(64, n // 64)))


class Adapter:
    package = "ruvector"  # name on the package index
    vectors = True  # keeps the originals
    unit_rows_only = False
    bits: int | None = None  # of a code per dimension, where codes are all there is
    cheap_build = False  # short enough to be repeated, on one thread as well
    thread_variable: str | None = None  # read when the library starts; has no other setting
    has_batch = True

    def __init__(self, threads: int) -> None:
        self.build_threads = threads
        self.n = 0

    def version(self) -> str:
        return metadata.version(self.package)

    def settings(self, k: int) -> list[list[Setting]]:
        """Runs of rising cost. Within a run, and from run to run, recall only rises."""
        return [[{}]]

    def build(self, base: np.ndarray) -> None:
        raise NotImplementedError

    def bytes(self) -> int:
        raise NotImplementedError

    def threads(self, n: int) -> None:
        """Threads of the calls that follow."""

    def set(self, setting: Setting) -> None:
        """Search parameters of the calls that follow."""

    def one(self, query: np.ndarray, k: int) -> object:
        """Answers one query, in whatever form the library gives."""
        raise NotImplementedError

    def many(self, queries: np.ndarray, k: int) -> np.ndarray:
        """Rows found, m x k."""
        raise NotImplementedError


def sweep(parameter: str, values: tuple) -> list[list[Setting]]:
    return [[{parameter: value} for value in values]]


def saved_bytes(save: Callable[[Path], object]) -> int:
    """Size of what `save` puts into a folder, for libraries that do not count."""
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder))
        files = (Path(root, name) for root, _, names in os.walk(folder) for name in names)
        return sum(file.stat().st_size for file in files)
