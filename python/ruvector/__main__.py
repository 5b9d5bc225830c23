"""``python -m ruvector``."""

import sys

from ruvector.cli import main

sys.exit(main())
