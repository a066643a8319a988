"""Keep what libraries print off the terminal: their logs, warnings and bars, also those of their C++ parts."""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress

_one_at_a_time = threading.RLock()  # of two threads, one would put the other's silence back as what was there before


@contextmanager
def silent() -> Iterator[None]:
    """Send standard output and error of this process, of Python and of libraries, to nowhere."""
    with _one_at_a_time:
        logging.disable(logging.WARNING)
        for stream in filter(None, (sys.stdout, sys.stderr)):  # a program without a console has none
            stream.flush()
        kept = {}
        for number in (1, 2):
            with suppress(OSError):
                kept[number] = os.dup(number)
        try:
            with open(os.devnull, "w", encoding="utf-8") as nowhere, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for number in kept:
                    os.dup2(nowhere.fileno(), number)
                with redirect_stdout(nowhere), redirect_stderr(nowhere):
                    yield
        finally:
            for number, saved in kept.items():
                os.dup2(saved, number)
                os.close(saved)
            logging.disable(logging.NOTSET)
