"""``python -m ruvector``."""

import sys

from ruvector.cli import main

if __name__ == "__main__":
    sys.exit(main())
