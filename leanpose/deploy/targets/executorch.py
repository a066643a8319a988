"""ExecuTorch with XNNPACK kernels, for apps built on PyTorch's runtime: a .pte file of one input size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from leanpose.deploy.rewrites import with_small_kernels
from leanpose.deploy.targets import Request, Runner, Target, Unnamed
from leanpose.io.quiet import silent


def _convert(request: Request, path: Path) -> None:
    with silent():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        program = torch.export.export(Unnamed(request.network).eval(), (request.example,))
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
        path.write_bytes(lowered.buffer)


def _load(path: Path, names: Sequence[str]) -> Runner:
    with silent():
        from executorch.runtime import Runtime

        method = Runtime.get().load_program(path).load_method("forward")
    return lambda images: dict(
        zip(names, map(torch.Tensor.numpy, method.execute([torch.from_numpy(images)])), strict=True)
    )


TARGET = Target(".pte", _convert, _load, {"executorch": "executorch"}, rewrite=with_small_kernels)
