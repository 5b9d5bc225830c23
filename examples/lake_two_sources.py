#!/usr/bin/env python3
"""One search over two sources, a change that is noticed, and a bundle that is checked.

    python examples/lake_two_sources.py

Notes arrive in memory; the archive lies in a file. Nobody builds an index: the lake does,
when it first needs one, and again when a source has changed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import ruvector

ROWS, DIM, K = 20_000, 96, 3


def main() -> None:
    rng = np.random.default_rng(7)
    old = rng.standard_normal((ROWS, DIM), dtype=np.float32)
    new = rng.standard_normal((500, DIM), dtype=np.float32)
    query = (old[11] + new[4]) / 2

    with tempfile.TemporaryDirectory() as folder:
        archive = ruvector.FsBackend("archive", Path(folder, "vectors"))
        archive.write("notes", "notes.bin", np.arange(ROWS), old)
        today = ruvector.LocalBackend("today")
        today.upsert("notes", np.arange(len(new)), new)

        lake = ruvector.RuLake()
        lake.register_backend(archive)
        lake.register_backend(today)
        print(f"A lake over {lake.backend_ids()}")
        show("the nearest notes, whoever has them", lake.search_federated("notes", query, K))

        today.upsert("notes", [9000], query[None])
        show("after a note was added", lake.search_federated("notes", query, K))
        stats = lake.cache_stats()
        print(f"  {stats.primes} indexes built, {stats.hits} searches of one needed no build")

        key = ("today", "notes")
        witness = lake.publish_bundle(key, out_dir=folder)
        print(f"Published: {today.generation('notes')} changes, witness {witness[:16]}...")
        print(f"  another process checks it: {verdict(lake, key, folder)}")
        today.remove("notes", 9000)
        lake.publish_bundle(key, out_dir=folder)
        print(f"  after one more change: {verdict(lake, key, folder)}")
        bundle = Path(folder, ruvector.RuLakeBundle.SIDECAR_FILENAME)
        bundle.write_text(bundle.read_text().replace('"dim": 96', '"dim": 95'))
        print(f"  after somebody edited it: {verdict(lake, key, folder)}")


def show(title: str, hits: list[ruvector.LakeHit]) -> None:
    print(f"  {title}")
    for hit in hits:
        print(f"    {hit.score:8.3f}  {hit.backend}/{hit.collection} {hit.id}")


def verdict(lake: ruvector.RuLake, key: tuple[str, str], folder: str) -> str:
    try:
        return lake.refresh_from_bundle_dir(key, folder).name
    except ruvector.WitnessMismatch:
        return "refused, the witness is not that of its contents"


if __name__ == "__main__":
    main()
