"""`python -m dix.cli`."""

import sys

from dix.cli import main

sys.exit(main())
