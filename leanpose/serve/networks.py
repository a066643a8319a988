"""The networks of a service: what clients are told of them, and Predictors, loaded when first asked for."""

from __future__ import annotations

import threading
from functools import cached_property
from pathlib import Path
from typing import Any

from leanpose.errors import InputError, suggest
from leanpose.inference.predictor import DETECTORS, MODELS, Predictor
from leanpose.serve.manifest import described, manifest, network_files
from leanpose.serve.settings import Settings
from leanpose.weights.catalogue import BUNDLED, find_weights, on_this_machine, read_record


def all_models() -> tuple[str, ...]:
    """Return the names of the networks for persons in boxes that are on this machine, the strongest first."""
    sizes = [name for name, kinds in BUNDLED.items() if ".onnx" in kinds and name.startswith(f"{MODELS[-1]}.")]
    return (*on_this_machine(MODELS), *sizes[1:])  # the first is what its network's name stands for


class Networks:
    """The served networks by name.

    Args:
        settings: of the service.

    Raises:
        WeightsError: a network is missing, or the default one cannot be loaded.
    """

    def __init__(self, settings: Settings) -> None:
        detector = settings.detector
        self.detector = on_this_machine(DETECTORS)[0] if detector == "auto" else detector
        self._options = {"detector": self.detector, **settings.options}
        self._records = {name: read_record(find_weights(name)) for name in settings.models}
        self._predictors: dict[str, Predictor] = {}
        self._lock = threading.Lock()
        self.default = self.load(settings.models[0])

    def named(self, name: str | None) -> str:
        """Return the name of a served network, the default's for None; InputError for others."""
        if name is None:
            return next(iter(self._records))
        if name not in self._records:
            raise InputError(f"There is no network '{name[:80]}' here.{suggest(name[:80], self._records)}")
        return name

    def load(self, name: str) -> Predictor:
        """Return the Predictor of a served network, loaded once."""
        if name in self._predictors:  # nobody waits while another network is loaded
            return self._predictors[name]
        with self._lock:
            if name not in self._predictors:
                predictor = Predictor(name, **self._options)
                _ = predictor.provenance, predictor.of_a_worker.detector  # loads all that it needs
                self._predictors[name] = predictor
            return self._predictors[name]

    def describe(self) -> list[dict[str, Any]]:
        """Return what a client should know of each network, JSON-ready."""
        return [described(name, record) for name, record in self._records.items()]

    @cached_property
    def for_browsers(self) -> dict[str, Any]:
        """The manifest of the networks.

        Raises:
            InputError: no network runs in a browser, or leanpose was installed without onnxruntime-web.
        """
        return manifest([*self._records], self.detector)

    @cached_property
    def files(self) -> dict[str, Path]:
        """The files of the networks for browsers, by the names that the manifest gives them."""
        return network_files([*self._records], self.detector)
