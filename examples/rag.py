#!/usr/bin/env python3
"""Ask questions of 20,000 real passages, on this machine, offline.

Five lines do the work, marked 1 to 5 in `main`; without the reporting they are:

    embedder = ruvector.Embedder.from_pretrained("all-MiniLM-L6-v2")
    vectors = embedder.embed_batch(texts)
    index = ruvector.RabitqPlusIndex.build(vectors, metric="cosine")
    for hit in index.search(embedder.embed("your question"), k=3):
        print(hit.score, texts[hit.id])

Run it:

    python examples/rag.py                       a fixed list of questions
    python examples/rag.py "how do I sort?"      your own question
    python examples/rag.py --interactive         a prompt after that
    python examples/rag.py --passages 100000     all there are, at most so many

The passages are the documentation that comes with Python and its packages. They are cut
to 220 characters (about 50 tokens) so that two cores embed 20,000 of them in two or
three minutes; the model would take 256 tokens.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import _corpus
import numpy as np
import ruvector

MODEL = "all-MiniLM-L6-v2"
QUESTIONS = [
    "What happens when an exception is raised inside a with statement?",
    "How can I make a temporary file that is deleted automatically?",
    "How do I keep a log file from growing without bound?",
    "How do I pick a random element with different weights?",
    "How do I run another program and capture its output?",
    "How can I tell which files differ between two directories?",
    "What does a daemon thread do when the program exits?",
    "How do I turn an ISO 8601 string into a date?",
    "Which operator binds most tightly?",
    "eigenvalues of a symmetric matrix",
]


def main() -> None:
    options = parse_arguments()
    # passages may have characters that the terminal lacks
    sys.stdout.reconfigure(errors="backslashreplace")
    clock = Clock()
    passages, places = _corpus.collect(options.passages)
    texts = [passage.text for passage in passages]
    clock.lap(f"collected {len(texts):,} passages")

    embedder = ruvector.Embedder.from_pretrained(options.model)  # 1
    clock.lap(f"opened {embedder!r}")
    vectors = embedder.embed_batch(texts, progress=Progress())  # 2
    stats = embedder.stats
    clock.lap(f"embedded {stats.texts:,} passages, {stats.tokens:,} tokens")
    index = ruvector.RabitqPlusIndex.build(vectors, metric="cosine")  # 3
    clock.lap(f"built {index!r}")

    def answer(question: str) -> None:
        start = time.perf_counter()
        query = embedder.embed(question)
        embedded = time.perf_counter()
        hits = index.search(query, k=3)  # 4
        found = time.perf_counter()
        print(f"\n{question}")
        for hit in hits:
            file, line = passages[hit.id].file, passages[hit.id].line
            print(f"  {hit.score:.3f}  {texts[hit.id]}\n         {file}:{line}")  # 5
        exact = set(np.argsort(-(vectors @ query))[:3].tolist())
        print(
            f"  embed {1e3 * (embedded - start):.1f} ms, search {1e3 * (found - embedded):.2f} ms; "
            f"k=3, {len(exact.intersection(hit.id for hit in hits))} of the exact best 3, "
            f"{index.memory_bytes / 1e6:.1f} MB"
        )

    for question in options.question or QUESTIONS:
        answer(question)
    print()
    report_search(index, vectors)
    report_file(index, options.index)
    report_paths(embedder, places)
    clock.total()
    if options.interactive:
        converse(answer)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Ask questions of Python's documentation.")
    parser.add_argument("question", nargs="*", help="questions instead of the fixed list")
    parser.add_argument("--interactive", action="store_true", help="prompt for questions")
    parser.add_argument("--model", default=MODEL, help="a folder or a name (%(default)s)")
    parser.add_argument("--passages", type=int, default=20_000, help="how many (%(default)s)")
    parser.add_argument(
        "--index",
        type=Path,
        default=Path(tempfile.gettempdir(), "rag.rbpx"),
        help="where the index file goes (%(default)s)",
    )
    options = parser.parse_args()
    if options.passages < 10:
        parser.error("--passages must be at least 10")
    if options.interactive and not sys.stdin.isatty():
        parser.error("--interactive needs a terminal")
    return options


def report_search(index: ruvector.RabitqPlusIndex, vectors: np.ndarray) -> None:
    """Time, recall against exact search, and memory, always side by side."""
    k, queries = 10, np.ascontiguousarray(vectors[:: max(1, len(vectors) // 200)])
    start = time.perf_counter()
    ids, _ = index.search_batch(queries, k=k)
    each = (time.perf_counter() - start) / len(queries)
    exact = np.argpartition(-(queries @ vectors.T), k - 1, axis=1)[:, :k]
    recall = np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(ids, exact)])
    print(
        f"search: {1e3 * each:.3f} ms a query, k={k}, recall@{k} {recall:.4f}, "
        f"{ruvector.get_num_threads()} threads, {len(queries)} queries in one batch"
    )
    print(
        f"memory: {index.memory_bytes / len(index):,.0f} bytes a vector, "
        f"{index.memory_bytes / 1e6:.1f} MB in all (float32 vectors alone: "
        f"{vectors.nbytes / 1e6:.1f} MB); {index.memory_usage()}"
    )


def report_file(index: ruvector.RabitqPlusIndex, path: Path) -> None:
    """Save, open again, and see that the two are equal."""
    start = time.perf_counter()
    index.save(path)
    saved = time.perf_counter()
    again = ruvector.RabitqPlusIndex.load(path)
    loaded = time.perf_counter()
    if again != index:
        sys.exit(f"{path}: the index read back differs from the one saved")
    print(
        f"file:   {path.stat().st_size / 1e6:.1f} MB, saved in {1e3 * (saved - start):.0f} ms, "
        f"loaded in {1e3 * (loaded - saved):.0f} ms, equal to the index in memory: {path}"
    )


def report_paths(embedder: ruvector.Embedder, places: dict[Path, int]) -> None:
    graph, tokenizer = embedder.files
    print("used:")
    print(f"  Python     {sys.executable}")
    print(f"  ruvector   {ruvector.__version__}, {ruvector.__file__}")
    print(f"  model      {graph}\n  tokenizer  {tokenizer}")
    for place, count in places.items():
        print(f"  corpus     {place} ({count:,} passages)")


def converse(answer: Callable[[str], None]) -> None:
    try:
        while question := input("\nquestion (empty to stop)> ").strip():
            answer(question)
    except (EOFError, KeyboardInterrupt):
        print()


class Clock:
    """Seconds between steps, and in all."""

    def __init__(self) -> None:
        self.start = self.last = time.perf_counter()

    def lap(self, what: str) -> None:
        now = time.perf_counter()
        print(f"[{now - self.last:6.1f} s] {what}", flush=True)
        self.last = now

    def total(self) -> None:
        print(f"[{time.perf_counter() - self.start:6.1f} s] in all{peak_memory()}")


class Progress:
    """A moving line on a terminal, else a line at every tenth."""

    def __init__(self) -> None:
        self.start, self.shown = time.perf_counter(), 0
        self.moving = sys.stderr.isatty()

    def __call__(self, done: int, total: int) -> None:
        tenth = 10 * done // total
        if not self.moving and tenth == self.shown:
            return
        self.shown = tenth
        rate = done / (time.perf_counter() - self.start)
        line = f"  embedding {done:,} of {total:,}, {rate:.0f} a second, "
        line += f"{(total - done) / rate:.0f} s to go"
        if self.moving:
            print(f"\r{line:<70}", end="" if done < total else "\n", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)


def peak_memory() -> str:
    try:
        import resource
    except ImportError:  # Windows
        return ""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024
    return f", peak memory {peak * unit / 1e6:.0f} MB"


if __name__ == "__main__":
    main()
