"""Silence for libraries that print, from several threads and without a console."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from leanpose.io.quiet import silent


def test_nothing_is_seen_and_then_all_again(capfd: pytest.CaptureFixture[str]) -> None:
    with silent(), silent():
        os.write(2, b"from a C++ part")
        print("from Python")
    print("seen")
    os.write(2, b"seen too")
    assert capfd.readouterr() == ("seen\n", "seen too")


def test_threads_do_not_keep_the_silence_of_each_other(capfd: pytest.CaptureFixture[str]) -> None:
    def hush(_: int) -> None:
        with silent():
            os.write(2, b"hidden")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(hush, range(200)))
    os.write(2, b"seen")
    assert capfd.readouterr().err == "seen"


def test_a_program_without_a_console(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with silent():
        print("nowhere")
    assert sys.stdout is None
