"""`python -m dix.cli`."""

import os
import sys
from pathlib import Path

if not sys.flags.safe_path and sys.path[0] == os.getcwd() and Path.cwd() != Path(__file__).resolve().parents[2]:
    del sys.path[0]  # put there by `python -m`: a folder's `torch` or `datasets` would be taken for the installed one

from dix.cli import main

sys.exit(main())
