"""Which settings of an index are reported, and their figures.

Settings are chosen on one half of the queries and reported on the other: those on the
front of recall and speed that stand on either side of each recall of the tables, so
that a figure between two settings is never far from either.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import Any

from .report import MODES, RECALLS, say
from .workers import Failed, Index

# Beyond this recall a larger search parameter only costs time.
ENOUGH = 0.9999
# What a batch should take at most, one query after the other.
BATCH_SECONDS = 0.5
# How much slower that wider setting is.
_WIDER = 1.2
_SINGLE, _BATCH, _BATCH_ALL = MODES

Point = "tuple[dict[str, Any], float, float]"  # setting, recall, queries per second


def points(index: Index, k: int) -> list[Point]:
    """Every setting that can matter, on the queries for choosing."""
    tried: list[Point] = []
    for run in index.ask("settings", k=k):
        enough = 0
        for setting in run:
            got = index.ask("choice", setting=setting, k=k)
            tried.append((setting, got["recall"], got["qps"]))
            # The second one is for what the other queries may still miss.
            enough += bool(setting) and got["recall"] >= ENOUGH
            if enough == 2:
                break
        if enough and tried[-enough][0] == run[0]:
            break
    return tried


def chosen(tried: list[Point], targets: Iterable[float] = RECALLS) -> list[dict[str, Any]]:
    """Settings worth reporting, by rising recall, and a wider one than should be needed,
    since other queries are reported. The default {} always is."""
    front: list[Point] = []
    for point in sorted(tried, key=lambda p: (-p[2], -p[1])):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    keep = {len(front) - 1}
    for target in targets:
        above = next((i for i, point in enumerate(front) if point[1] >= target), None)
        if above is not None:
            keep |= {above, max(above - 1, 0)}
    settings = [front[i][0] for i in sorted(keep)]
    top = front[-1]
    spare = [p for p in tried if p[1] >= top[1] and p[2] * _WIDER < top[2]]
    if spare:
        settings.append(max(spare, key=lambda p: p[2])[0])
    if any(setting == {} for setting, _, _ in tried) and {} not in settings:
        settings.insert(0, {})
    return settings


def measure(
    running: list[Index],
    k: int,
    about: dict[str, Any],
    rounds: int,
    threads: int,
    missing: dict[str, str],
) -> list[dict[str, Any]]:
    """Records of every index, chosen setting and mode. A round of timings visits each
    index in turn, so that all meet the same moods of the machine."""
    plans: list[tuple[Index, list[dict[str, Any]], list[float]]] = []
    for index in running:
        say(f"  k={k} settings of {index.name}")
        try:
            settings = chosen(points(index, k))
            recalls = [index.ask("recall", setting=s, k=k)["recall"] for s in settings]
            plans.append((index, settings, recalls))
        except Failed as reason:
            _note(index, about, missing, reason)
    timings = {(i, j): _Timing() for i, plan in enumerate(plans) for j in range(len(plan[1]))}
    for number in range(rounds):
        say(f"  k={k} round {number + 1} of {rounds}")
        for i, (index, settings, _) in enumerate(plans):
            if not index.alive:
                continue
            try:
                for j, setting in enumerate(settings):
                    timings[i, j].add(index, setting, k, threads, about)
            except Failed as reason:
                _note(index, about, missing, reason)
    return [
        {
            **about,
            "k": k,
            "index": index.name,
            "setting": setting,
            "recall": recalls[j],
            "mode": mode,
            "threads": threads if mode == _BATCH_ALL else 1,
            **timings[i, j].figures(mode),
            **index.facts,
        }
        for i, (index, settings, recalls) in enumerate(plans)
        if index.alive
        for j, setting in enumerate(settings)
        for mode in MODES
    ]


class _Timing:
    """The rounds of one setting."""

    def __init__(self) -> None:
        self._rounds: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}

    def add(
        self,
        index: Index,
        setting: dict[str, Any],
        k: int,
        threads: int,
        about: dict[str, Any],
    ) -> None:
        single = index.ask("single", setting=setting, k=k)
        size = int(min(about["queries"], max(20, BATCH_SECONDS * single["qps"])))
        asked = {"setting": setting, "k": k, "queries": size}
        self._rounds[_SINGLE].append(single)
        self._rounds[_BATCH].append(index.batch(1, **asked))
        self._rounds[_BATCH_ALL].append(index.batch(threads, **asked))

    def figures(self, mode: str) -> dict[str, float]:
        """Medians over the rounds, and the best one."""
        rounds = self._rounds[mode]
        middle = {key: median(r[key] for r in rounds) for key in rounds[0]}
        return {**middle, "best_qps": max(r["qps"] for r in rounds)}


def _note(index: Index, about: dict[str, Any], missing: dict[str, str], reason: Failed) -> None:
    missing[f"{index.name} on {about['dataset']}"] = str(reason)
    say(f"  {index.name}: {reason}")
