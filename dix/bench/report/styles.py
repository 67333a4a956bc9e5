"""One colour for a method, whatever else is drawn: in the page, in figures for print, in notebooks.

The colour follows from the method's name alone, or is the one that its configuration gives it. Methods of one colour in
one drawing differ in their dashes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from dix.bench.tables import paper

#: M. Okabe and K. Ito, "Color universal design" (2008), without the yellow that white paper swallows.
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555")
DASHES = ("-", "--", ":", "-.")
#: The thesis's baselines in its order: the first six have colours of their own.
_BASELINES = tuple(name for name in paper.METHOD_LABELS if name not in paper.PROPOSED)
#: A colour that a configuration may give.
_OWN = re.compile(r"#[0-9a-fA-F]{6}")


class Style(NamedTuple):
    """colour, dash: places in COLOURS and DASHES. own: the colour that the method's configuration gives, or ""."""

    colour: int
    dash: int
    own: str = ""

    @property
    def hexadecimal(self) -> str:
        """The colour as #RRGGBB."""
        return self.own or COLOURS[self.colour]

    @property
    def dashes(self) -> str:
        """The dashes as matplotlib writes them."""
        return DASHES[self.dash]


def is_colour(text: str) -> bool:
    """Whether a text is a colour such as #0072B2, and so safe to stand in a page."""
    return _OWN.fullmatch(text) is not None


def styles(methods: Iterable[str], own: Mapping[str, str] | None = None) -> dict[str, Style]:
    """How each method is drawn. own: colours that configurations give, by method; others than #RRGGBB are left out.

    Of more methods of one colour than there are dashes, the last take the next colour that has some left.
    """
    given = {name: colour for name, colour in (own or {}).items() if is_colour(colour)}
    found: dict[str, Style] = {}
    taken: dict[object, int] = {}
    for name in dict.fromkeys(methods):
        place = colour_of(name)
        if name not in given:
            turns = (((place + turn) % len(COLOURS)) for turn in range(len(COLOURS)))
            place = next((turn for turn in turns if taken.get(turn, 0) < len(DASHES)), place)
        key = given.get(name, place)
        found[name] = Style(place, taken.get(key, 0) % len(DASHES), given.get(name, ""))
        taken[key] = taken.get(key, 0) + 1
    return found


def colour_of(method: str) -> int:
    """The place of a method's colour in COLOURS: the proposed method's is the first, and no other's.

    A variant, such as `gcpp_pgc`, has the colour of what it is a variant of.
    """
    base = method if method in paper.METHOD_LABELS else method.split("_")[0]
    if base in paper.PROPOSED:
        return 0
    rest = len(COLOURS) - 1
    if base in _BASELINES:
        return 1 + _BASELINES.index(base) % rest
    return 1 + hashlib.blake2b(method.encode(), digest_size=1).digest()[0] % rest
