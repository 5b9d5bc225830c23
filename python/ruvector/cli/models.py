"""``ruvector models``: what is known, fetching it, where it is, whether it is whole."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..embed.download import PARTIAL, check_sha256, verify
from ..embed.folder import Unusable
from ..embed.image import DIM as IMAGE_DIM
from ..embed.image_folder import IMAGE_MODEL, ImageModel
from ..embed.models import Model, cache_root, find_model, locked_folders, pull
from ..embed.registry import HUB_MODELS
from ..errors import EmbedError
from .report import add_json, tell_json


def add(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    listing = commands.add_parser("list", help="models known by name, and which are here")
    listing.set_defaults(run=_list)

    fetching = commands.add_parser("pull", help="download a model into the cache")
    fetching.set_defaults(run=_pull)

    finding = commands.add_parser("where", help="print the files of a model that is here")
    finding.set_defaults(run=_where)

    checking = commands.add_parser("verify", help="hash every file in the cache again")
    checking.set_defaults(run=_verify)

    for command in (fetching, finding):
        command.add_argument("name", metavar="NAME", help="a listed name, or OWNER/MODEL")
        command.add_argument("--revision", help="a commit, tag or branch of the hub")
    for command in (listing, fetching, finding, checking):
        command.add_argument(
            "--cache-dir", metavar="DIR", help="instead of RUVECTOR_CACHE or the default"
        )
        add_json(command)


def _list(args: argparse.Namespace) -> int:
    if not args.json:
        print(f"{'name':<24}{'dim':>4}  {'licence':<12}{'pinned':<10}here")
    rows = [(name, m.dim, m.licence, m.revision or "-") for name, m in HUB_MODELS.items()]
    for name, dim, licence, pinned in [*rows, (IMAGE_MODEL, IMAGE_DIM, "-", "-")]:
        try:
            here = find_model(name, local_files_only=True, cache_dir=args.cache_dir).source
        except EmbedError:
            here = "-"
        if args.json:
            told = {"name": name, "dim": dim, "licence": licence, "pinned": pinned, "here": here}
            tell_json({key: None if value == "-" else value for key, value in told.items()})
        else:
            print(f"{name:<24}{dim:>4}  {licence:<12}{pinned[:8]:<10}{here}")
    return 0


def _pull(args: argparse.Namespace) -> int:
    _print_files(pull(args.name, revision=args.revision, cache_dir=args.cache_dir), args.json)
    return 0


def _where(args: argparse.Namespace) -> int:
    _print_files(
        find_model(
            args.name, revision=args.revision, local_files_only=True, cache_dir=args.cache_dir
        ),
        args.json,
    )
    return 0


def _print_files(model: Model, as_json: bool) -> None:
    paths = (model.weights,) if isinstance(model, ImageModel) else (model.graph, model.tokenizer)
    files = [str(path) for path in paths]
    if as_json:
        tell_json({"files": files})
    else:
        print("\n".join(files))


def _verify(args: argparse.Namespace) -> int:
    """0 if every downloaded file is as it came, and as it was pinned."""
    try:
        root = cache_root(args.cache_dir)
        found = locked_folders(root)
    except Unusable as why:
        raise EmbedError(f"cannot be verified: {why}") from why
    bad = 0
    for folder in found:
        if "--" not in "".join(folder.relative_to(root).parts[:1]):
            continue  # copied there by hand
        wrong = [*verify(folder), *_against_registry(folder)]
        bad += bool(wrong)
        if args.json:
            tell_json({"folder": str(folder), "ok": not wrong, "why": wrong})
            continue
        print(f"{'BAD' if wrong else 'ok '} {folder}")
        for reason in wrong:
            print(f"    {reason}")
    for left in sorted(root.glob(PARTIAL + "*")):
        print(f"ruvector: {left}: a download that did not end; delete it", file=sys.stderr)
    if bad:
        print("ruvector: delete these folders and pull again", file=sys.stderr)
    return 1 if bad else 0


def _against_registry(folder: Path) -> list[str]:
    """Differences from the hashes that the registry pins."""
    wrong = []
    for model in HUB_MODELS.values():
        if model.revision == folder.name and folder.parent.name == model.repo.replace("/", "--"):
            for relative, expected in model.sha256.items():
                try:
                    check_sha256(folder / relative, expected)
                except Unusable as why:
                    wrong.append(str(why))
    return wrong
