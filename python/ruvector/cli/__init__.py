"""The command ``ruvector``: results on stdout, all else on stderr.

Each group of commands is a module here with a function ``add(parser)``, which adds its
commands and sets ``run``, a function from the parsed arguments to an exit code. It is
imported when its group is asked for.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import cast

from ruvector import __version__
from ruvector.errors import RuVectorError

#: name: (module, what it is for)
GROUPS = {
    "a2a": ("ruvector.cli.a2a", "talk to agents"),
    "models": ("ruvector.cli.models", "fetch, find and check models"),
}


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ruvector", description="Vectors, lakes, models and agents."
    )
    parser.add_argument("--version", action="version", version=f"ruvector {__version__}")
    groups = parser.add_subparsers(metavar="GROUP", required=True)
    for name, (module, purpose) in GROUPS.items():
        group = groups.add_parser(name, help=purpose, description=f"Commands that {purpose}.")
        if name in argv:
            import_module(module).add(group)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. 0 is success, 1 a failure that was told, 2 wrong usage."""
    argv = sys.argv[1:] if argv is None else argv
    args = _parser(argv).parse_args(argv)
    try:
        code = cast(int, args.run(args))
        sys.stdout.flush()
        return code
    except (RuVectorError, ImportError, ValueError) as why:
        print(f"ruvector: {why}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # whoever read the output has had enough; nothing may be written at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
