"""int8 of a device's own file: weights and activations in bytes, if the network stays as accurate."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from leanpose.data.annotations import AnnotatedSet
from leanpose.deploy.describe import write_sidecar
from leanpose.deploy.parity import ExportReport, milliseconds
from leanpose.deploy.targets import Request, Target
from leanpose.errors import WeightsError
from leanpose.evaluation.evaluate import measure


def to_int8(
    request: Request, target: Target, file: Path, proof: ExportReport, ranges: Sequence[np.ndarray],
    annotated: AnnotatedSet, max_drop: float,
) -> ExportReport:  # fmt: skip
    """Put bytes in place of a float file and return its report.

    Args:
        request, file, proof: what was converted, the result and its report.
        ranges: network inputs (1, 3, h, w) that set the ranges of activations.
        annotated: the set that accuracy is measured on, before and after.
        max_drop: largest loss, in points of 100.

    Raises:
        WeightsError: it loses more.
    """
    assert target.quantize is not None and target.load is not None
    with tempfile.TemporaryDirectory() as folder:
        values = []
        small = Path(folder) / file.name
        for network in (file, small):
            if network == small:
                target.quantize(file, small, ranges)
            write_sidecar(request, target, network, network == small, proof)
            metrics = measure(str(network), annotated)[0]
            figure, value = next(iter(metrics.items()))
            values.append(value)
        exported = target.load(small, request.output_names)
        time, megabytes = milliseconds(exported, ranges[0]), small.stat().st_size / 1e6
        before, after = values
        if after < before - max_drop / 100:
            raise WeightsError(
                f"int8 loses too much: {figure} {100 * after:.1f} instead of {100 * before:.1f}; give more samples, or "
                "allow a larger --max-drop."
            )
        file.write_bytes(small.read_bytes())
    return dataclasses.replace(
        proof, megabytes=megabytes, milliseconds=time, figure=figure, values=(before, after),
        note="The differences are those of the float32 file that the bytes were made of.",
    )  # fmt: skip
