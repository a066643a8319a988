"""What a search found: in words, as JSON, and as an image."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from leanpose.errors import require
from leanpose.io.files import write_bytes, write_text
from leanpose.models.litepose_arch import LitePoseArch
from leanpose.search.evolution import Cost, front

RESULT, IMAGE = "result.json", "front.png"


@dataclass(frozen=True)
class SearchReport:
    """What a search found.

    Attributes:
        pool: the last generation and its parents, best first; the first is the best of all.
        fitness: of every arch that was judged, 0 to 1.
        metric: name of the fitness.
        costs: by unit, "MACs" and "ms", how an arch's cost is told; the first is the limited one.
        limit: of that cost.
    """

    pool: Sequence[LitePoseArch]
    fitness: Mapping[LitePoseArch, float]
    metric: str
    costs: Mapping[str, Cost]
    limit: float

    @property
    def best(self) -> LitePoseArch:
        return self.pool[0]

    def __str__(self) -> str:
        arch = self.best
        stages, head = (" ".join(map(str, widths)) for widths in (arch.stage_widths, arch.head_widths))
        widths = f"input {arch.input_size}, stem {arch.stem_width}, stages {stages}, head {head}"
        return f"best of {len(self.fitness)}: {self.figures(arch)}; {widths}"

    def figures(self, arch: LitePoseArch) -> str:
        """Return an arch's fitness and costs in words."""
        words = {"MACs": lambda cost: f"{cost / 1e9:.3f} G MACs", "ms": lambda cost: f"{cost:.2f} ms"}
        costs = (words[unit](cost(arch)) for unit, cost in self.costs.items())
        return ", ".join([f"{self.metric} {100 * self.fitness[arch]:.1f}", *costs])

    def entry(self, arch: LitePoseArch) -> dict[str, Any]:
        """Return an arch with its fitness and costs, JSON-ready."""
        costs = {unit: cost(arch) for unit, cost in self.costs.items()}
        return {"fitness": self.fitness[arch], **costs, "arch": arch.as_dict()}

    def front(self) -> list[LitePoseArch]:
        """Return the archs that no cheaper one is as good as, the cheapest first."""
        return front(self.fitness, self._cost)

    @property
    def _cost(self) -> Cost:
        return next(iter(self.costs.values()))

    def write(self, folder: Path) -> None:
        """Write result.json (best arch, front and last pool) and front.png into a folder."""
        content = {
            "metric": self.metric,
            "best": self.entry(self.best),
            "front": [self.entry(arch) for arch in self.front()],
            "pool": [self.entry(arch) for arch in self.pool],
        }
        write_text(folder / RESULT, json.dumps(content, indent=1))
        write_bytes(folder / IMAGE, self._drawn())

    def _drawn(self) -> bytes:
        """Return a PNG of fitness against cost, with the front, the best arch and the limit marked."""
        require("matplotlib", "train")
        from matplotlib.figure import Figure

        unit = next(iter(self.costs))
        scale, name = (
            (1e9, "G MACs of one network input") if unit == "MACs" else (1, "milliseconds of one network input")
        )

        def places(archs: Sequence[LitePoseArch]) -> tuple[list[float], list[float]]:
            return [self._cost(arch) / scale for arch in archs], [100 * self.fitness[arch] for arch in archs]

        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.subplots()
        axes.scatter(
            *places(list(self.fitness)), s=12, color="tab:gray", alpha=0.5, label=f"{len(self.fitness)} judged"
        )
        axes.plot(*places(self.front()), "o-", markersize=5, color="tab:blue", label="front")
        axes.plot(*places([self.best]), "*", markersize=14, color="tab:red", label="best")
        axes.axvline(self.limit / scale, color="black", linewidth=0.8, linestyle="--", label="limit")
        axes.set_xlabel(name)
        axes.set_ylabel(f"{self.metric} on the images of the search")
        axes.legend()
        drawn = BytesIO()
        figure.savefig(drawn, format="png", dpi=150)
        return drawn.getvalue()
