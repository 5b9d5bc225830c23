"""``ruvector verify``: whether files are what they were when they were written."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from .. import FsBackend, RuLake, RuLakeBundle
from ..errors import RuVectorError
from ..lake.lake import SNAPSHOT_FILENAME
from .indexes import NATIVE_MAGIC, V1_MAGIC, has_digest, open_index
from .report import add_json, one_line, tell_json, words

_RUVEC1_MAGIC = b"ruvec1\0\0"


def add(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=_run)
    command.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        type=Path,
        help="an index, a ruvec1 file, a bundle, or a folder with a bundle or a snapshot",
    )
    add_json(command)


def _run(args: argparse.Namespace) -> int:
    """0 if every file is whole."""
    bad = False
    for path in args.files:
        try:
            what, why = _check(path), ""
        except (RuVectorError, OSError, ValueError) as error:
            what, why = "", one_line(words(error).removeprefix(f"{path}: "))
        bad |= bool(why)
        if args.json:
            told = {"file": str(path), "ok": not why, "checked": what or None, "why": why or None}
            tell_json(told)
        else:
            print(f"{'BAD' if why else 'ok '} {path}: {why or what}")
    return 1 if bad else 0


def _check(path: Path) -> str:
    """What was found whole. Raises what the library raises where it is not."""
    if path.is_dir():
        return _folder(path)
    if path.name == RuLakeBundle.SIDECAR_FILENAME:
        return _bundle(path.parent)
    with open(path, "rb") as file:
        magic = file.read(8)
    if magic == _RUVEC1_MAGIC:
        return _ruvec1(path)
    if magic in (V1_MAGIC, NATIVE_MAGIC):
        return _index(path)
    raise ValueError(
        f"neither an index file, a ruvec1 file nor {RuLakeBundle.SIDECAR_FILENAME}: nothing "
        "in it can be checked"
    )


def _index(path: Path) -> str:
    index = open_index(path, verify=True)
    depth = "digest" if has_digest(path) else "structure only: version 1 has no digest"
    return f"{type(index).__name__}, {len(index):,} x {index.dim}, {depth}"


def _bundle(folder: Path) -> str:
    bundle = RuLakeBundle.read_from_dir(folder)
    return f"bundle of {bundle.data_ref}, witness {bundle.rvf_witness}"


def _folder(folder: Path) -> str:
    """A snapshot: bundle, index, and that they belong together. Or a bundle alone."""
    told = _bundle(folder)
    if not (folder / SNAPSHOT_FILENAME).exists():
        return told
    rows = RuLake().warm_from_dir(("verify", "snapshot"), folder)
    return f"snapshot of {rows:,} vectors, {told}"


def _ruvec1(path: Path) -> str:
    backend = FsBackend("verify", path.parent, follow_links=True)
    backend.register("file", path.name)
    batch = backend.pull_vectors("file")
    wrong = np.flatnonzero(~np.isfinite(batch.vectors).all(axis=1))
    if len(wrong):
        raise ValueError(f"row {wrong[0]} is not finite")
    return f"ruvec1, {len(batch.vectors):,} x {batch.dim}, all finite: it has no digest"
