"""Memory that training frees stays with the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

pytest.importorskip("torch")

from leanpose.commands.train import train_recipe

FREED = """
import sys, torch
from leanpose.training.memory import keep_freed_memory

def resident():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")) / 1000

if sys.argv[1] == "keep":
    keep_freed_memory()
torch.ones(1)
before = resident()
maps = torch.ones(100, 1_000_000)
del maps
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc" or sys.platform != "linux", reason="glibc's allocator alone")
def test_freed_memory_is_kept() -> None:
    def megabytes(way: str) -> float:
        """Return what is still held after 400 MB were used and freed."""
        run = subprocess.run([sys.executable, "-c", FREED, way], check=True, capture_output=True, text=True)
        return float(run.stdout)

    assert megabytes("keep") > 380
    assert megabytes("") < 100


@pytest.mark.parametrize("cuda", [False, True])
def test_the_command_keeps_it_on_a_cpu(cuda: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
    monkeypatch.setattr("leanpose.commands.train.keep_freed_memory", lambda: done.append("kept"))
    monkeypatch.setattr("leanpose.commands.train.train", lambda recipe, resume: done.append(recipe.model))
    train_recipe("lpn50_coco")
    assert done == ([] if cuda else ["kept"]) + ["lpn50"]
