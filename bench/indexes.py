"""The indexes that are measured, by the names they have in every table."""

from __future__ import annotations

from functools import partial
from typing import Callable

from . import ours, peers, quantized
from .adapter import FEW, MANY, ONE, Adapter

Factory = Callable[[int], Adapter]

RUST_SDK = "Rust SDK"
DEFAULT = "RabitqPlusIndex"

OURS: dict[str, Factory] = {
    "FlatF32Index": ours.Flat,
    DEFAULT: ours.Plus,
    f"{DEFAULT} √n lists": partial(ours.Plus, roots=FEW),
    f"{DEFAULT} 4√n lists": partial(ours.Plus, roots=MANY),
    f"{DEFAULT} f16 √n lists": partial(ours.Plus, originals="f16", roots=FEW),
    f"{DEFAULT} f16 4√n lists": partial(ours.Plus, originals="f16", roots=MANY),
    f"{DEFAULT} 4-bit √n lists": partial(ours.Plus, bits=4, roots=FEW),
    "RabitqAsymIndex": ours.Asym,
    "RabitqIndex": ours.Codes,
    "RabitqIndex one list": partial(ours.Codes, roots=ONE),
    "RabitqIndex 4-bit": partial(ours.Codes, bits=4),
    "RabitqIndex 7-bit": partial(ours.Codes, bits=7),
    "RabitqIndex √n lists": partial(ours.Codes, roots=FEW),
    "RabitqIndex 4-bit √n lists": partial(ours.Codes, bits=4, roots=FEW),
    "RabitqIndex 7-bit √n lists": partial(ours.Codes, bits=7, roots=FEW),
}
_IVF = "RR,IVF{lists},RaBitQfs,Refine(Flat)"
PEERS: dict[str, Factory] = {
    "faiss Flat": partial(peers.Faiss, factory="Flat"),
    "faiss RaBitQfs+Refine": partial(peers.FaissRefined, factory="RR,RaBitQfs,Refine(Flat)"),
    "faiss IVF-RaBitQfs+Refine √n": partial(peers.FaissIvf, factory=_IVF, roots=FEW),
    "faiss IVF-RaBitQfs+Refine 4√n": partial(peers.FaissIvf, factory=_IVF, roots=MANY),
    "faiss HNSW32": partial(peers.FaissHnsw, factory="HNSW32"),
    "hnswlib": peers.Hnswlib,
    "usearch": peers.Usearch,
    "svs Vamana": peers.SvsVamana,
    "scann": peers.Scann,
    "rabitqlib IVF √n": partial(quantized.RabitqlibIvf, roots=FEW),
    "rabitqlib IVF 4√n": partial(quantized.RabitqlibIvf, roots=MANY),
    "rabitqlib SymphonyQG": quantized.RabitqlibGraph,
    RUST_SDK: peers.RustSdk,
    "faiss RaBitQfs": partial(peers.FaissCodes, bits=1),
    "faiss RaBitQfs 4-bit": partial(peers.FaissCodes, bits=4),
    "faiss RaBitQfs 7-bit": partial(peers.FaissCodes, bits=7),
    "rabitqlib IVF 1-bit √n": partial(quantized.RabitqlibIvf, bits=1, roots=FEW),
    "rabitqlib IVF 4-bit √n": partial(quantized.RabitqlibIvf, bits=4, roots=FEW),
    "rabitqlib IVF 7-bit √n": partial(quantized.RabitqlibIvf, bits=7, roots=FEW),
    "turbovec 4-bit": quantized.Turbovec,
}
ALL: dict[str, Factory] = {**OURS, **PEERS}

# What is measured of sets too large for all; the others take hours to build or search.
MANY_ROWS = 200_000
FOR_MANY_ROWS = (
    DEFAULT,
    f"{DEFAULT} √n lists",
    f"{DEFAULT} 4√n lists",
    f"{DEFAULT} f16 √n lists",
    f"{DEFAULT} f16 4√n lists",
    "faiss IVF-RaBitQfs+Refine √n",
    "hnswlib",
    "rabitqlib IVF √n",
    "rabitqlib IVF 4√n",
    "rabitqlib SymphonyQG",
)

# One of each family, for runs that only show that everything works.
QUICK = (
    "FlatF32Index",
    DEFAULT,
    f"{DEFAULT} √n lists",
    "RabitqIndex",
    "faiss Flat",
    "faiss RaBitQfs+Refine",
    "hnswlib",
    "rabitqlib IVF √n",
    "rabitqlib IVF 1-bit √n",
    RUST_SDK,
)


def kind(name: str) -> type[Adapter]:
    """The class of adapters behind a name, for what it says before one is made."""
    factory = ALL[name]
    return factory.func if isinstance(factory, partial) else factory
