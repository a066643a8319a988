"""`python -m leanpose` is the command line."""

import sys

from leanpose.commands.cli import main

sys.exit(main())
