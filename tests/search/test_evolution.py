"""The evolution on a fitness that is known: it stays within the limit, finds the best, and hangs on the seed alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise, product

import numpy as np
import pytest

from leanpose.errors import InputError
from leanpose.models.litepose_arch import LitePoseArch, SearchSpace
from leanpose.search.evolution import (
    Evolution,
    Generation,
    check_limit,
    draw_within,
    evolve,
    front,
    smallest,
)

SPACE = SearchSpace()


def macs(arch: LitePoseArch) -> float:
    return arch.macs()


def value(arch: LitePoseArch) -> float:
    """Prefer wide early stages at a middle size, so that the best is no corner of the space."""
    c1, c2, c3, c4 = arch.stage_widths
    return (
        c1 / 32 + c2 / 64 + 0.1 * (c3 / 96 + c4 / 160) - abs(arch.input_size - 384) / 256 + sum(arch.head_widths) / 500
    )


class Judge:
    """Keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[LitePoseArch] = []

    def __call__(self, archs: Sequence[LitePoseArch]) -> list[float]:
        self.asked += archs
        return [value(arch) for arch in archs]


def run(evolution: Evolution, limit: float = 1.2e9, space: SearchSpace = SPACE) -> tuple[list[Generation], Judge]:
    judge = Judge()
    return list(evolve(space, macs, limit, judge, evolution)), judge


def test_it_finds_better_archs_than_chance() -> None:
    generations, judge = run(Evolution(population=12, generations=8))
    assert [generation.number for generation in generations] == list(range(9))
    assert all(macs(arch) <= 1.2e9 for arch in judge.asked)
    rng = np.random.default_rng(1)
    chance = [draw_within(SPACE, macs, (0, 1.2e9), SPACE.sample, rng, set()) for _ in range(len(judge.asked))]
    best = generations[-1].pool[0]
    assert value(best) == max(map(value, judge.asked))
    assert value(best) > max(map(value, chance))


def test_no_arch_is_judged_twice_and_the_best_quarter_stays() -> None:
    generations, judge = run(Evolution(population=12, generations=4))
    assert len(set(judge.asked)) == len(judge.asked) == 12 * 5
    for before, after in pairwise(generations):
        assert len(after.pool) == 3 + 12
        assert set(before.pool[:3]) <= set(after.pool)
        fitness = [after.fitness[arch] for arch in after.pool]
        assert fitness == sorted(fitness, reverse=True)


def test_the_last_generation_counts() -> None:
    """Only its children are good."""
    late: set[LitePoseArch] = set()

    def judge(archs: Sequence[LitePoseArch]) -> Iterator[float]:
        late.clear()
        late.update(archs)
        judge.calls += 1  # type: ignore[attr-defined]
        return iter([float(judge.calls)] * len(archs))  # type: ignore[attr-defined]

    judge.calls = 0  # type: ignore[attr-defined]
    *_, last = evolve(SPACE, macs, 1e9, judge, Evolution(4, 2))  # type: ignore[arg-type]
    assert last.pool[0] in late


def test_children_are_mutants_and_crossovers_of_the_best_quarter() -> None:
    generations, judge = run(Evolution(population=40, generations=1), limit=np.inf)
    parents = [SPACE.genes(arch) for arch in generations[0].pool[:10]]
    children = [SPACE.genes(arch) for arch in judge.asked[40:]]

    def changed(child: dict[str, int]) -> int:
        return min(sum(child[name] != parent[name] for name in child) for parent in parents)

    assert max(changed(child) for child in children[:20]) <= 4  # a tenth of nine genes is usual
    for child in children[20:]:
        assert any(
            all(child[name] in (one[name], other[name]) for name in child)
            and (child["input_size"], child["stem_width"]) == (one["input_size"], one["stem_width"])
            for one, other in product(parents, parents)
        )


def test_the_seed_alone_decides() -> None:
    one, again, other = (run(Evolution(8, 2, seed=seed))[1].asked for seed in (3, 3, 4))
    assert one == again
    assert one != other


def test_more_generations_go_on_from_fewer() -> None:
    few, many = (run(Evolution(8, generations))[1].asked for generations in (2, 4))
    assert many[: len(few)] == few


def test_a_limit_that_only_the_smallest_keeps() -> None:
    limit = macs(smallest(SPACE))
    check_limit(SPACE, macs, limit, "MACs")
    generations, judge = run(Evolution(4, 0), limit)
    assert judge.asked == [smallest(SPACE)] == list(generations[-1].pool)


def test_a_limit_below_all() -> None:
    with pytest.raises(InputError, match=r"No network of this supernet is within 1e\+06 MACs: the smallest has 3\.18"):
        check_limit(SPACE, macs, 1e6, "MACs")


def test_archs_of_about_a_cost() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        assert 0.8e9 <= macs(draw_within(SPACE, macs, (0.8e9, 0.9e9), SPACE.sample, rng, set())) <= 0.9e9


def test_the_front() -> None:
    archs = [SPACE.arch(SPACE.genes(smallest(SPACE)) | {"stage_widths.3": width}) for width in (40, 80, 120, 160)]
    fitness = dict(zip(archs, (0.1, 0.3, 0.2, 0.3), strict=True))
    assert front(fitness, macs) == [archs[0], archs[1]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"population": 3}, "population must be at least 4, not 3"),
        ({"generations": -1}, "generations must be at least 0, not -1"),
        ({"mutation": 0.0}, "mutation must be above 0 and at most 1, not 0.0"),
        ({"seed": -1}, "seed must be at least 0, not -1"),
    ],
)
def test_what_is_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Evolution(**values)  # type: ignore[arg-type]
