"""``ruvector info``: what a file holds."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .indexes import V1_MAGIC, facts, has_digest, open_index
from .report import add_json, tell
from .vectors import SUFFIXES, read_vectors


def add(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=_run)
    command.add_argument("file", metavar="FILE", type=Path, help="an index, or vectors")
    command.add_argument("--column", metavar="NAME", help="of the vectors, in a table")
    add_json(command)


def _run(args: argparse.Namespace) -> int:
    told: dict[str, Any] = {"file": str(args.file), "bytes": args.file.stat().st_size}
    if args.file.suffix in SUFFIXES:
        vectors = read_vectors(args.file, args.column)
        told.update(rows=vectors.shape[0], dim=vectors.shape[1], dtype="float32")
    else:
        # the digest is for `verify`: this has to be quick for any size
        told.update(format=_format(args.file), **facts(open_index(args.file, verify=False)))
    tell(told, args.json)
    return 0


def _format(path: Path) -> str:
    with open(path, "rb") as file:
        v1 = file.read(len(V1_MAGIC)) == V1_MAGIC
    if not v1:
        return "native"
    return "version 1 and native" if has_digest(path) else "version 1"
