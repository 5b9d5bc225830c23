"""Searches once with the ruvector that is installed, and says which one that is."""

import sys

import numpy as np
import ruvector

vectors = np.random.default_rng(1).standard_normal((500, 32), dtype=np.float32)
index = ruvector.RabitqPlusIndex.build(vectors)
assert index.search(vectors[7], k=3)[0].id == 7
versions = sys.version.split()[0], np.__version__, ruvector.__version__
print("Python {}, NumPy {}: ruvector {} works".format(*versions))
