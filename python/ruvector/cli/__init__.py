"""The command ``ruvector``: results on stdout, all else on stderr.

Each command, or group of commands, is a module here with a function ``add(parser)``, which
adds its arguments and sets ``run``, a function from the parsed arguments to an exit code. It
is imported when it is asked for.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import cast

from ruvector import __version__
from ruvector.cli.report import Usage, words
from ruvector.cli.streams import standard_streams
from ruvector.errors import RuVectorError

#: name: what it is for; the module is of the same name
COMMANDS = {
    "build": "make an index file from a file of vectors",
    "search": "find the nearest vectors of each query, and measure recall",
    "info": "show what a file holds",
    "verify": "check that files are whole",
    "bench": "measure recall, latency and memory on your own vectors",
    "models": "fetch, find and check models",
    "a2a": "talk to agents",
}

#: How a command ends that does not return.
_ENDS = (SystemExit, RuVectorError, ImportError, ValueError, OSError, MemoryError)


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ruvector",
        description="Vectors, lakes, models and agents.",
        epilog="Exit code: 0 done, 1 failed, and stderr says why, 2 wrong usage.",
    )
    parser.add_argument("--version", action="version", version=f"ruvector {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, purpose in COMMANDS.items():
        command = commands.add_parser(
            name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}."
        )
        if name == next((word for word in argv if not word.startswith("-")), None):
            import_module(f"{__name__}.{name}").add(command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. 0 is success, 1 a failure that was told, 2 wrong usage."""
    argv = sys.argv[1:] if argv is None else argv
    with standard_streams() as results:
        try:
            results.check()
            args = _parser(argv).parse_args(argv)
            code = cast(int, args.run(args))
            results.flush()
            return code
        except KeyboardInterrupt:
            results.finish()
            return 130
        except _ENDS as end:
            lost = results.finish()
            if isinstance(lost, BrokenPipeError):
                return 1  # whoever read the results has had enough, and knows
            return _told(lost or end)


def _told(why: BaseException) -> int:
    """Says why a command ended; its exit code."""
    if isinstance(why, SystemExit):  # argparse has said it, or printed help
        raise why
    assert isinstance(why, Exception)
    print(f"ruvector: {words(why)}", file=sys.stderr)
    return 2 if isinstance(why, Usage) else 1
