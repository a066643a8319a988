"""Keep what converters print off the terminal: their logs, warnings and bars, also those of their C++ parts."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout


@contextmanager
def silent() -> Iterator[None]:
    """Send standard output and error, of Python and of libraries, to nowhere."""
    logging.disable(logging.WARNING)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(number) for number in (1, 2)]
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for number in (1, 2):
                os.dup2(nowhere.fileno(), number)
            with redirect_stdout(nowhere), redirect_stderr(nowhere):
                yield
    finally:
        for number, saved in zip((1, 2), kept, strict=True):
            os.dup2(saved, number)
            os.close(saved)
        logging.disable(logging.NOTSET)
