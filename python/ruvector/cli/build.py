"""``ruvector build``: an index file from a file of vectors."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import set_num_threads
from .indexes import CLASSES, facts
from .report import Usage, add_json, add_threads, bar, positive, size, tell
from .vectors import FORMATS, check_output, read_ids, read_vectors

#: the kinds an option is not for
_NOT_FOR = {
    "bits": ("flat",),
    "n_lists": ("flat",),
    "epsilon": ("flat", "rabitq"),
    "rerank_factor": ("flat", "rabitq"),
    "originals": ("flat", "rabitq"),
}


def add(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=_run)
    command.add_argument("vectors", metavar="VECTORS", type=Path, help=FORMATS)
    command.add_argument("-o", "--output", metavar="INDEX", type=Path, required=True)
    command.add_argument("--column", metavar="NAME", help="of the vectors, in a table")
    command.add_argument("--ids", metavar="FILE", type=Path, help="a .npy or a table")
    command.add_argument("--id-column", metavar="NAME", help="of the ids, in that table")
    add_convert(command)
    add_build_options(command)
    command.add_argument("--kind", choices=CLASSES, default="plus")
    add_threads(command)
    add_json(command)


def add_convert(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--convert", action="store_true", help="vectors of any real dtype, as a float32 copy"
    )


def add_build_options(command: argparse.ArgumentParser) -> None:
    """What `build` of the classes takes."""
    command.add_argument("--metric", choices=("l2", "ip", "cosine"), default="l2")
    command.add_argument("--seed", type=int, default=42, metavar="N")
    command.add_argument("--bits", type=int, metavar="1..8", help="of a code, a dimension")
    command.add_argument("--lists", type=int, dest="n_lists", metavar="N")
    command.add_argument("--epsilon", type=float, metavar="X")
    command.add_argument("--rerank-factor", type=positive, metavar="N")
    command.add_argument("--originals", choices=("f32", "f16"))


def given_options(args: argparse.Namespace, kind: str) -> tuple[dict[str, Any], list[str]]:
    """The options for `build` of a kind, and those given that it does not take."""
    options: dict[str, Any] = {"metric": args.metric, "seed": args.seed}
    refused = []
    for name, without in _NOT_FOR.items():
        value = getattr(args, name)
        if value is not None and kind in without:
            refused.append(name)
        elif value is not None:
            options[name] = value
    return options, refused


def _run(args: argparse.Namespace) -> int:
    options, refused = given_options(args, args.kind)
    if refused:
        kinds = ", ".join(kind for kind in CLASSES if kind not in _NOT_FOR[refused[0]])
        option = "--lists" if refused[0] == "n_lists" else "--" + refused[0].replace("_", "-")
        raise Usage(f"--kind {args.kind} takes no {option}; these do: {kinds}")
    check_output(args.output, (".rbpx",))
    set_num_threads(args.threads or 0)
    vectors = read_vectors(args.vectors, args.column, convert=args.convert)
    if args.ids or args.id_column:
        options["ids"] = read_ids(args.ids or args.vectors, args.id_column)
    with bar("building", "rows") as progress:
        index = CLASSES[args.kind].build(vectors, progress=progress, **options)
    index.save(args.output)
    written = args.output.stat().st_size
    told = {"file": str(args.output), "bytes": written, **facts(index)}
    if args.json:
        tell(told, True)
    else:
        print(
            f"{args.output}: {told['class']}, {len(index):,} x {index.dim}, {index.metric}, "
            f"{size(written)}"
        )
    return 0
