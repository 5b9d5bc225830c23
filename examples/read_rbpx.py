#!/usr/bin/env python3
"""Read an index file without ruvector, from docs/format.md alone.

Checks the digest and the structure, takes the columns apart and, where the file keeps
the vectors, codes them again to see that the codes mean what the document says.

    python examples/read_rbpx.py index.rbpx
"""

from __future__ import annotations

import hashlib
import struct
import sys
from typing import Any, NamedTuple

import numpy as np

V1_MAGIC, NATIVE_MAGIC = b"rbpx0001", b"rvxi0001"
BLOCK_MAGIC, END_MAGIC = b"RVXBLOCK", b"RVXBEND1"
BLOCK_FIELDS = {  # name: (offset, struct code)
    "version": (8, "I"), "n_sections": (12, "I"), "offset": (16, "Q"), "file_size": (24, "Q"),
    "kind": (32, "I"), "metric": (36, "I"), "dim": (40, "I"), "flags": (44, "I"),
    "n": (48, "Q"), "seed": (56, "Q"), "next_id": (64, "Q"), "trained_on": (72, "Q"),
    "rerank_factor": (80, "I"), "epsilon": (84, "f"), "n_lists_option": (88, "I"),
    "n_lists": (92, "I"), "bits": (96, "I"), "nprobe": (100, "I"),
}  # fmt: skip
SECTIONS = ("", "ids", "codes", "factors", "norms", "lists", "vectors", "mean", "centroids",
            "note", "reach")  # fmt: skip
KINDS = ("FlatF32Index", "RabitqIndex", "RabitqPlusIndex", "RabitqAsymIndex")
METRICS = ("l2", "ip", "cosine")
HAS_CODES, HAS_VECTORS, V1_RECORDS, TRAINED, HALVES = 1, 2, 4, 8, 16
LEAF = 1 << 20


class IndexFile(NamedTuple):
    """What a file holds. A column the file does not have is None."""

    magic: bytes
    block: dict[str, Any]  # empty for a version-1 file without a block
    offsets: dict[str, tuple[int, int]]  # section: offset, bytes
    dim: int
    seed: int
    ids: np.ndarray  # (n,) uint64
    vectors: np.ndarray | None  # (n, dim) float32, or float16
    codes: np.ndarray | None  # (n, bits * padded / 8) uint8
    factors: np.ndarray | None  # (n, 2) float32: A, B; (n, 5) with more than one bit
    norms: np.ndarray | None  # (n,) float32
    lists: np.ndarray | None  # (n,) uint32
    mean: np.ndarray | None  # (dim,) float32
    centroids: np.ndarray | None  # (n_lists, padded) float32


def require(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(f"not a valid index file: {what}")


def align(offset: int) -> int:
    return -(-offset // 64) * 64


def shake(data: bytes | memoryview) -> bytes:
    return hashlib.shake_256(data).digest(32)


def tree_digest(data: bytes | memoryview) -> bytes:
    leaves = (shake(data[at : at + LEAF]) for at in range(0, len(data), LEAF))
    return shake(b"ruvector-tree-1" + struct.pack("<Q", len(data)) + b"".join(leaves))


# ---- bytes -> columns ------------------------------------------------------------


def read_records(data: bytes, n: int, dim: int) -> np.ndarray:
    record = np.dtype([("id", "<u4"), ("vector", "<f4", (dim,))])
    require(len(data) >= 32 + n * record.itemsize, "cut off within the records")
    return np.frombuffer(data, record, n, offset=32)


def read_block(data: bytes, at: int) -> dict[str, Any]:
    block = {
        name: struct.unpack_from("<" + code, data, at + offset)[0]
        for name, (offset, code) in BLOCK_FIELDS.items()
    }
    require(block["version"] == 1, f"block version {block['version']}")
    require(block["file_size"] == len(data), "its length is not the one it was saved with")
    require(data[-8:] == END_MAGIC, "no end mark")
    require(block["offset"] == at, "block offset")
    return block


def read_sections(data: bytes, block: dict[str, Any]) -> dict[str, tuple[int, int]]:
    at = block["offset"] + 128
    end = at + 24 * block["n_sections"]
    trailer = len(data) - 40
    require(end <= trailer, "section count")
    found, last = {}, 0
    for entry in range(at, end, 24):
        tag, _, offset, size = struct.unpack_from("<IIQQ", data, entry)
        require(last < tag < len(SECTIONS), "section tag")
        require(offset == align(end) and 0 < size <= trailer - offset, "section bounds")
        found[SECTIONS[tag]] = offset, size
        last, end = tag, offset + size
    require(align(end) == trailer, "bytes after the last section")
    return found


def read(path: str) -> IndexFile:
    with open(path, "rb") as file:
        data = file.read()
    require(len(data) >= 32, "shorter than a header")
    magic = data[:8]
    require(magic in (V1_MAGIC, NATIVE_MAGIC), "unknown magic")
    dim, seed = struct.unpack_from("<IQ", data, 12)
    require(1 <= dim <= 8192, "dim")
    v1 = magic == V1_MAGIC
    (n,) = struct.unpack_from("<I", data, 28) if v1 else struct.unpack_from("<Q", data, 24)
    records = read_records(data, n, dim) if v1 else None
    end = 32 + n * (4 + 4 * dim) if v1 else 32
    at = align(end)
    if data[at : at + 8] != BLOCK_MAGIC or len(data) < at + 128 + 40:
        rest, begin = data[end : at + 8], bytes(at - end) + BLOCK_MAGIC
        cut_off = data[-8:] == END_MAGIC or (rest and begin.startswith(rest))
        require(records is not None and not cut_off, "its block is missing or cut off")
        columns = {"ids": records["id"].astype(np.uint64), "vectors": records["vector"]}
        return make(magic, {}, {}, dim, seed, columns)

    block = read_block(data, at)
    require((block["dim"], block["n"], block["seed"]) == (dim, n, seed), "header and block")
    offsets = read_sections(data, block)
    require(data[-40:-8] == tree_digest(memoryview(data)[:-40]), "digest")
    padded = -(-dim // 32) * 32
    bits = block["bits"]
    require(bits == 0 if not block["flags"] & HAS_CODES else 1 <= bits <= 8, "bits")
    kept = "<f2" if block["flags"] & HALVES else "<f4"
    shapes = {
        "ids": ("<u8", (n,)), "codes": ("u1", (n, bits * padded // 8)),
        "factors": ("<f4", (n, 5 if bits > 1 else 2)),
        "norms": ("<f4", (n,)), "lists": ("<u4", (n,)), "vectors": (kept, (n, dim)),
        "mean": ("<f4", (dim,)), "centroids": ("<f4", (block["n_lists"], padded)),
        "note": ("u1", (offsets.get("note", (0, 0))[1],)),
        "reach": ("<f4", (block["n_lists"] + 32,)),
    }  # fmt: skip
    columns = {"ids": np.empty(0, np.uint64)}
    for name, (offset, size) in offsets.items():
        dtype, shape = shapes[name]
        count = int(np.prod(shape))
        require(size == count * np.dtype(dtype).itemsize, f"size of {name}")
        columns[name] = np.frombuffer(data, dtype, count, offset).reshape(shape)
    if block["flags"] & V1_RECORDS:
        columns["vectors"] = records["vector"]
    return make(magic, block, offsets, dim, seed, columns)


def make(magic, block, offsets, dim, seed, columns) -> IndexFile:
    values = (columns.get(name) for name in IndexFile._fields[5:])
    return IndexFile(magic, block, offsets, dim, seed, *values)


# ---- what codes and factors mean -----------------------------------------------------

MASK = (1 << 64) - 1
SIGNS = 0x52420001


def mix(z: int) -> int:
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


def random(seed: int, stream: int, counter: int) -> int:
    k1, k2, k3 = 0x9E3779B97F4A7C15, 0xD1342543DE82EF95, 0xDA942042E4DD58B5
    h = mix(seed + k1 & MASK)
    h = mix(h + stream * k2 + k1 & MASK)
    return mix(h + counter * k3 + k1 & MASK)


def rotation_signs(seed: int, padded: int) -> np.ndarray:
    """(4, padded) of +1 and -1."""
    words = [random(seed, SIGNS, w) >> 32 for w in range(4 * padded // 32)]
    bits = np.unpackbits(np.array(words, "<u4").view(np.uint8), bitorder="little")
    return 1.0 - 2.0 * bits.reshape(4, padded)


def hadamard(y: np.ndarray) -> np.ndarray:
    """Walsh-Hadamard transform of the last axis, scaled to keep lengths."""
    t = y.shape[-1]
    for h in (1 << i for i in range(t.bit_length() - 1)):
        pairs = y.reshape(*y.shape[:-1], t // (2 * h), 2, h)
        a, b = pairs[..., 0, :], pairs[..., 1, :]
        y = np.stack((a + b, a - b), axis=-2).reshape(y.shape)
    return y / np.sqrt(t)


def rotate(v: np.ndarray, seed: int) -> np.ndarray:
    """P v for rows of length dim; the result has padded columns."""
    dim = v.shape[-1]
    padded = -(-dim // 32) * 32
    t, half = 1 << padded.bit_length() - 1, padded // 2
    y = np.zeros((*v.shape[:-1], padded))
    y[..., :dim] = v
    for turn, signs in enumerate(rotation_signs(seed, padded)):
        y = y * signs
        part = slice(0, t) if turn % 2 == 0 else slice(padded - t, padded)
        y[..., part] = hadamard(y[..., part])
        if t < padded:
            a, b = y[..., :half], y[..., half:]
            y = np.concatenate((a + b, a - b), axis=-1) / np.sqrt(2)
    return y


def scaled(v: np.ndarray, metric: str) -> np.ndarray:
    """Rows as they are coded: for cosine of length 1, or 0."""
    v = np.asarray(v, np.float64)
    if metric != "cosine":
        return v
    norm = np.linalg.norm(v, axis=-1, keepdims=True)
    return np.divide(v, norm, out=np.zeros_like(v), where=norm > 0)


def code_planes(file: IndexFile) -> np.ndarray:
    """(n, bits, padded) of 0 and 1: the signs, then magnitudes from the highest bit down."""
    n, bits = len(file.ids), file.block["bits"]
    return np.unpackbits(file.codes.reshape(n, bits, -1), axis=2, bitorder="little")


def code_bits(file: IndexFile) -> np.ndarray:
    """(n, padded) of 0 and 1: the signs."""
    return code_planes(file)[:, 0]


def code_levels(file: IndexFile) -> np.ndarray:
    """(n, padded): y of every row."""
    bits = file.block["bits"]
    weights = 2.0 ** np.arange(bits - 1, -1, -1)
    return np.einsum("npj,p->nj", code_planes(file), weights) - (2**bits - 1) / 2


def residuals(file: IndexFile) -> np.ndarray:
    """r of every row, whose signs are its code."""
    metric = METRICS[file.block["metric"]]
    x = rotate(scaled(file.vectors, metric) - file.mean, file.seed)
    return x - file.centroids[file.lists]


def estimates(file: IndexFile, query: np.ndarray) -> np.ndarray:
    """Score of every row from codes and factors alone."""
    metric = METRICS[file.block["metric"]]
    query = scaled(query, metric)
    q = rotate(query - file.mean, file.seed)
    if metric == "ip":
        g = -(query @ file.mean + file.centroids @ rotate(query, file.seed))
    else:
        g = ((q - file.centroids) ** 2).sum(axis=1)
    a, b = file.factors[:, 2:4].T if file.block["bits"] > 1 else file.factors.T
    key = a + g[file.lists] + b * (code_levels(file) @ q)
    if metric == "l2":
        return np.maximum(key, 0)
    if metric == "ip":
        return -key
    return np.clip(1 - key / 2, -1, 1) * (file.norms > 0) * query.any()


# ---- summary -----------------------------------------------------------------------


def main(path: str) -> None:
    file = read(path)
    block, n = file.block, len(file.ids)
    print(f"{path}: {n} rows of dimension {file.dim}, seed {file.seed}")
    if not block:
        print("version 1, no block: vectors and 32-bit ids only, nothing to check them by")
        return
    print(f"kind      {KINDS[block['kind']]}, metric {METRICS[block['metric']]}")
    print(f"options   rerank_factor {block['rerank_factor']}, epsilon {block['epsilon']:.6g}, "
          f"n_lists {block['n_lists_option']}; next id {block['next_id']}")  # fmt: skip
    if block["flags"] & TRAINED:
        print(f"quantizer {block['n_lists']} lists, {block['bits']} bits, trained on "
              f"{block['trained_on']} rows")  # fmt: skip
    if block["flags"] & V1_RECORDS:
        print(f"records   at {32:>10} {n * (4 + 4 * file.dim):>12} bytes")
    for name, (offset, size) in file.offsets.items():
        print(f"{name:<9} at {offset:>10} {size:>12} bytes")
    print("digest    matches")
    if n and file.vectors is not None and file.codes is not None:
        r = residuals(file)
        clear = np.abs(r) > 1e-5 * np.abs(r).max()  # nearer to 0 the sign is rounding
        same = ((r > 0) == (code_bits(file) > 0))[clear]
        print(f"codes     {same.sum()} of {same.size} bits are those of the vectors, coded again")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} FILE")
    main(sys.argv[1])
