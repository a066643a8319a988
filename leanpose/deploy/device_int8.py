"""int8 of a device's own file: weights and activations in bytes, if the network stays as accurate."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from leanpose.data.annotations import AnnotatedSet
from leanpose.deploy.describe import write_sidecar
from leanpose.deploy.parity import ExportReport
from leanpose.deploy.targets import Request, Target
from leanpose.errors import WeightsError
from leanpose.evaluation.evaluate import measure


def to_int8(
    request: Request, target: Target, file: Path, report_of: Callable[[Path], ExportReport],
    ranges: Sequence[np.ndarray], annotated: AnnotatedSet, max_drop: float,
) -> ExportReport:  # fmt: skip
    """Put bytes in place of a float file and return their report.

    Args:
        request, file: what was converted, and the result.
        report_of: file -> how near it is to the network.
        ranges: network inputs (1, 3, h, w) that set the ranges of activations.
        annotated: the set that accuracy is measured on, before and after.
        max_drop: largest loss, in points of 100.

    Raises:
        WeightsError: it loses more.
    """
    assert target.quantize is not None
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / file.name
        target.quantize(file, small, ranges)
        report = report_of(small)
        values = []
        for network in (file, small):
            write_sidecar(request, target, network, network == small, report)
            figure, value = next(iter(measure(str(network), annotated)[0].items()))
            values.append(value)
        before, after = values
        if after < before - max_drop / 100:
            raise WeightsError(
                f"int8 loses too much: {figure} {100 * after:.1f} instead of {100 * before:.1f}; give more samples, or "
                "allow a larger --max-drop."
            )
        file.write_bytes(small.read_bytes())
    note = "The differences are those of the int8 file from the network in float32."
    return dataclasses.replace(report, figure=figure, values=(before, after), note=note)
