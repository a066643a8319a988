"""`python -m leanpose` is the command line."""

import sys

from leanpose.cli import main

sys.exit(main())
