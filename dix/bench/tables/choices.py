"""Which comparisons of methods are of interest: all pairs, those with a baseline, or the thesis's claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from dix.bench.tables import paper
from dix.bench.tables.samples import Summarised
from dix.bench.tables.sequential import Comparison


@dataclass(frozen=True)
class Roles:
    """Methods by what they are to a table; all others are baselines.

    proposed: variants of the proposed method. claimed: those of them whose lead is claimed. controls: not compared.
    """

    proposed: Sequence[str]
    claimed: Sequence[str]
    controls: Sequence[str]

    def baseline(self, method: str) -> bool:
        """Whether a method is a rival of the proposed ones."""
        return method not in (*self.proposed, *self.controls)


def standing(proposed: Sequence[str], baselines: Sequence[str], controls: Sequence[str]) -> Roles:
    """Roles by what methods are stored as; the thesis's own is proposed unless it is stored as something else.

    The lead of the thesis's method is claimed for the two that the thesis claims it for, and that of every other
    proposed method: somebody's own.
    """
    thesis = [name for name in paper.PROPOSED if name not in (*baselines, *controls)]
    ours = tuple(dict.fromkeys([*thesis, *proposed]))
    claimed = tuple(name for name in ours if name in paper.CLAIMED or not paper.is_variant(name))
    return Roles(ours, claimed, tuple(controls))


def _all(first: str, second: str, roles: Roles) -> bool:
    return True


def _with_baseline(first: str, second: str, roles: Roles) -> bool:
    return roles.baseline(first) or roles.baseline(second)


def _claimed(first: str, second: str, roles: Roles) -> bool:
    pairs = ((first, second), (second, first))
    return any(ours in roles.claimed and roles.baseline(rival) for ours, rival in pairs)


#: By the setting `run.compare`: whether two methods are compared.
CHOICES: Mapping[str, Callable[[str, str, Roles], bool]] = {
    "pairs": _all,
    "baselines": _with_baseline,
    "claims": _claimed,
}


def comparisons(
    compare: str, methods: Sequence[str], metrics: Mapping[str, Summarised], roles: Roles
) -> list[Comparison]:
    """The comparisons of interest, on all metrics with a direction; of claims, on those of the thesis."""
    chosen = CHOICES[compare]
    compared = [method for method in methods if method not in roles.controls]
    pairs = [pair for pair in combinations(compared, 2) if chosen(*pair, roles)]
    owners = {
        name: metric
        for name, metric in metrics.items()
        if metric.higher_is_better is not None and not (compare == "claims" and metric.extra)
    }
    return [Comparison(metric, *pair) for metric in owners for pair in pairs]
