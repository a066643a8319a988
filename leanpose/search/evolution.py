"""The evolution: which archs of a space are judged, and which come next. Knows nothing of networks or images.

After the evolution of github.com/mit-han-lab/litepose (MIT); paper: Wang et al., arXiv 2205.01271. Differs: the
children of the last generation count too; a child that was judged before is drawn again, and a mutant takes its place
where all crossovers were; where what fits is so rare that a thousand draws miss it, the last draw shrinks until it
fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from leanpose.errors import InputError
from leanpose.models.litepose_arch import LitePoseArch, SearchSpace

TRIES = 1000  # draws for one candidate
FROM_ONE_PARENT = ("input_size", "stem_width")  # genes that a crossover does not mix

Cost = Callable[[LitePoseArch], float]
Make = Callable[[np.random.Generator], LitePoseArch]
Judge = Callable[[Sequence[LitePoseArch]], Sequence[float]]


@dataclass(frozen=True)
class Evolution:
    """How long and how widely to look.

    Attributes:
        population: archs drawn at first, and children of each generation: half mutants, half crossovers of parents
            from the best quarter.
        generations: of children, after the first draw.
        mutation: probability that a mutant draws a gene anew.
        seed: of all draws.

    Raises:
        InputError: a value is out of its range.
    """

    population: int = 40
    generations: int = 40
    mutation: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.population < 4:
            raise InputError(f"population must be at least 4, not {self.population}: a quarter become parents.")
        for name in ("generations", "seed"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} must be at least 0, not {getattr(self, name)}.")
        if not 0 < self.mutation <= 1:
            raise InputError(f"mutation must be above 0 and at most 1, not {self.mutation}.")


@dataclass(frozen=True)
class Generation:
    """What is known after a generation.

    Attributes:
        number: 0 for the first draw.
        pool: its archs and the parents they come from, best first.
        fitness: of every arch judged so far.
    """

    number: int
    pool: tuple[LitePoseArch, ...]
    fitness: Mapping[LitePoseArch, float]


def evolve(space: SearchSpace, cost: Cost, limit: float, judge: Judge, evolution: Evolution) -> Iterator[Generation]:
    """Yield one generation after another; the first of the last pool is the best arch of all.

    All draws come from (seed, generation, place in it), so the same fitness gives the same archs, wherever it is
    taken from.

    Args:
        space: what archs there are.
        cost: of an arch, above 0.
        limit: largest cost; `check_limit` tells whether there is an arch within it.
        judge: returns the fitness of archs that it has not judged before; larger is better. Of equal ones the cheaper
            arch is better.
    """
    cost = cache(cost)
    fitness: dict[LitePoseArch, float] = {}
    pool: tuple[LitePoseArch, ...] = ()
    for number in range(evolution.generations + 1):
        parents = pool[: max(1, evolution.population // 4)]
        children: list[LitePoseArch] = []
        for place in range(evolution.population):
            rng = np.random.default_rng((evolution.seed, number, place))
            known = {*fitness, *children}
            make = _mutant(space, parents, evolution.mutation) if parents else space.sample
            child = None
            if parents and place >= evolution.population // 2:
                child = draw_within(space, cost, (0, limit), _crossover(space, parents), rng, known)
            if child is None or child in known:  # the parents may be so alike that all their crossovers are known
                child = draw_within(space, cost, (0, limit), make, rng, known)
            children.append(child)
        new = [arch for arch in dict.fromkeys(children) if arch not in fitness]
        fitness |= zip(new, judge(new), strict=True)
        pool = ranked(dict.fromkeys((*parents, *children)), fitness, cost)
        yield Generation(number, pool, dict(fitness))


def ranked(
    archs: Iterable[LitePoseArch], fitness: Mapping[LitePoseArch, float], cost: Cost
) -> tuple[LitePoseArch, ...]:
    """Return archs, the best first; of equal fitness the cheaper one comes first."""
    return tuple(sorted(archs, key=lambda arch: (-fitness[arch], cost(arch))))


def front(fitness: Mapping[LitePoseArch, float], cost: Cost) -> list[LitePoseArch]:
    """Return the archs that no cheaper one is as good as, the cheapest first."""
    best: list[LitePoseArch] = []
    for arch in sorted(fitness, key=lambda arch: (cost(arch), -fitness[arch])):
        if not best or fitness[arch] > fitness[best[-1]]:
            best.append(arch)
    return best


def smallest(space: SearchSpace) -> LitePoseArch:
    """Return the arch with the smallest size and widths."""
    return space.arch({name: min(values) for name, values in space.choices().items()})


def check_limit(space: SearchSpace, cost: Cost, limit: float, unit: str) -> None:
    """Raise InputError where the smallest arch costs more than a limit."""
    least = cost(smallest(space))
    if not least <= limit:  # NaN compares false
        raise InputError(f"No network of this supernet is within {limit:g} {unit}: the smallest has {least:.4g}.")


def draw_within(
    space: SearchSpace,
    cost: Cost,
    limits: tuple[float, float],
    make: Make,
    rng: np.random.Generator,
    known: set[LitePoseArch],
) -> LitePoseArch:
    """Draw an arch whose cost is within limits, if possible one that is not known yet.

    Where a thousand draws find none, one that is known will do, or the last draw, made smaller step by step until it
    is below the upper limit; it may then be below the lower one.
    """
    fitting = None
    for _ in range(TRIES):
        arch = make(rng)
        if limits[0] <= cost(arch) <= limits[1]:
            if arch not in known:
                return arch
            fitting = arch
    if fitting is not None:
        return fitting
    genes, choices = space.genes(arch), space.choices()
    while cost(space.arch(genes)) > limits[1]:
        name = rng.choice([name for name, value in genes.items() if value > min(choices[name])])
        genes[name] = max(value for value in choices[name] if value < genes[name])
    return space.arch(genes)


def _mutant(space: SearchSpace, parents: Sequence[LitePoseArch], probability: float) -> Make:
    """Return what draws a parent and draws each of its genes anew with a probability."""
    choices = space.choices()

    def make(rng: np.random.Generator) -> LitePoseArch:
        genes = space.genes(parents[int(rng.integers(len(parents)))])
        return space.arch(
            {
                name: int(rng.choice(choices[name])) if rng.random() < probability else value
                for name, value in genes.items()
            }
        )

    return make


def _crossover(space: SearchSpace, parents: Sequence[LitePoseArch]) -> Callable[[np.random.Generator], LitePoseArch]:
    """Return what draws two parents and takes each width of stages and head from either, the others from the first."""

    def make(rng: np.random.Generator) -> LitePoseArch:
        one, other = (space.genes(parents[int(i)]) for i in rng.integers(len(parents), size=2))
        return space.arch(
            {
                name: other[name] if name not in FROM_ONE_PARENT and rng.random() < 0.5 else value
                for name, value in one.items()
            }
        )

    return make
