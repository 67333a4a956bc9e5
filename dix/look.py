"""What a network is, found by looking: which axes of a layer's output follow a spot that changes in the image.

Names and shapes do not tell [B, C, h, w] from [B, h, w, C], or how many tokens come before the patches. So one image is
shown next to copies of it in which one spot each is another, and every module is watched: the axes along which the
change moves with the spot are the axes of place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import isqrt

import torch
from torch import Tensor, nn

from dix.layout import CHANNELS_FIRST, BatchSecond, ChannelsLast, Layout, Tokens

#: Centres of the spots as shares of height and width: the two are uncorrelated, and no two spots share a row.
SPOTS = ((0.14, 0.5), (0.32, 0.86), (0.41, 0.14), (0.59, 0.86), (0.68, 0.14), (0.86, 0.5))
#: A spot's side as a share of the image's.
SPOT = 0.14
#: Least correlation, along both axes, between where the spot is and where the output changed.
FOLLOWS = 0.7
#: The most tokens before the patches that are tried (a class token, a distillation token, registers).
MOST_BEFORE = 16


@dataclass(frozen=True)
class Sight:
    """What a module returned when the network was shown the image and its altered copies.

    name: the module's dotted name. layout: how its output lies over the image, or None where nothing follows the spots.
    side: places along one side, 0 without a layout. attention: whether it is a softmax's matrices [B, heads, Q, K].
    shape: of one image's output; () where it is no single tensor. second: its batch is the second axis: tokens
    [T, B, C], which layout and shape describe as [B, T, C].
    """

    name: str
    layout: Layout | None
    side: int
    attention: bool
    shape: tuple[int, ...]
    second: bool = False

    def raw(self, layout: Layout) -> Layout:
        """A layout of [B, T, C] as one of what the module returns."""
        return BatchSecond(layout) if self.second else layout


def look(network: nn.Module, size: int, names: Sequence[str] | None = None) -> list[Sight]:
    """Every module that runs once and returns a tensor, in the order in which they return.

    network: maps normalised images [B, 3, size, size] to logits. names: of the modules to watch; None: all.
    """
    images = spotted(size)
    sights, unsure = _looked(network, images, names)
    if unsure:  # as many tokens as images: one image more tells which axis is which
        sights, _ = _looked(network, torch.cat([images, images[:1]]), names)
    return sights


def _looked(network: nn.Module, images: Tensor, names: Sequence[str] | None) -> tuple[list[Sight], bool]:
    """What `look` returns; and whether an output may have its images along either of its first two axes."""
    seen: dict[str, Sight] = {}
    runs: Counter[str] = Counter()
    before, unsure = _Before(), False

    def note(name: str, output: object) -> None:
        nonlocal unsure
        runs[name] += 1
        unsure = unsure or (isinstance(output, Tensor) and output.ndim == 3 and output.shape[:2] == (len(images),) * 2)
        known = before.is_same(output)
        seen[name] = replace(seen[before.name], name=name) if known else sight(name, output, len(images))
        before.keep(name, output)

    _watch(network, images, names, note)
    return [one for name, one in seen.items() if runs[name] == 1], unsure


def watch(network: nn.Module, size: int, names: Sequence[str] | None, note: Callable[[str, object], None]) -> None:
    """Show the network the `spotted` images and tell `note` what each module (of those names) returns."""
    _watch(network, spotted(size), names, note)


class _Before:
    """The output that was looked at last: what hands it on (dropout, for one) need not be looked at anew."""

    def __init__(self) -> None:
        self.name = ""
        self.output: object = None
        self.version = 0

    def keep(self, name: str, output: object) -> None:
        self.name, self.output = name, output
        self.version = output._version if isinstance(output, Tensor) else 0

    def is_same(self, output: object) -> bool:
        """Whether an output is a view of all of that one, which nothing has written into."""
        if not isinstance(output, Tensor) or not isinstance(self.output, Tensor):
            return False
        alike = (output.shape, output.stride(), output._version) == (
            self.output.shape,
            self.output.stride(),
            self.version,
        )
        return alike and output.dtype == self.output.dtype and output.data_ptr() == self.output.data_ptr()


def is_between_places(network: nn.Module, size: int, name: str) -> bool:
    """Whether the columns of the attention matrices that a module returns follow the spots."""
    found: list[bool] = []

    def note(_: str, output: object) -> None:
        found.append(isinstance(output, Tensor) and _followed(output.flatten(1, 2).transpose(1, 2))[0] is not None)

    watch(network, size, [name], note)
    return all(found)


def output_shapes(network: nn.Module, size: int, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """By module, the shape of what it returns for one image; () where that is no tensor."""
    found: dict[str, tuple[int, ...]] = {}

    def note(name: str, output: object) -> None:
        found[name] = tuple(batch_first(output, 1).shape[1:]) if isinstance(output, Tensor) else ()

    _watch(network, spotted(size)[:1], names, note)
    return found


def is_batch_second(network: nn.Module, size: int, names: Sequence[str]) -> bool:
    """Whether any of these modules returns tokens [T, B, C], before the images."""
    found: list[bool] = []

    def note(_: str, output: object) -> None:
        found.append(isinstance(output, Tensor) and batch_first(output, 1) is not output)

    _watch(network, spotted(size)[:1], names, note)
    return any(found)


def _watch(
    network: nn.Module, images: Tensor, names: Sequence[str] | None, note: Callable[[str, object], None]
) -> None:
    """Run the network on images and tell `note` what each module (of those names) returns."""
    wanted = None if names is None else set(names)
    like = next(network.parameters(), torch.zeros(1))
    with ExitStack() as stack, torch.no_grad():
        for name, module in network.named_modules():
            if name and (wanted is None or name in wanted):
                hook = module.register_forward_hook(lambda _m, _a, out, name=name: note(name, out))
                stack.enter_context(hook)
        network(images.to(like))


def spotted(size: int) -> Tensor:
    """[1 + spots, 3, size, size] a seeded image of noise, and copies in which one spot each is its negative."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, 3, max(2, size // 4), max(2, size // 4), generator=random)
    image = nn.functional.interpolate(coarse, (size, size), mode="bilinear")[0]
    images = image.repeat(1 + len(SPOTS), 1, 1, 1)
    side = max(1, round(SPOT * size))
    for copy, (y, x) in zip(images[1:], SPOTS, strict=True):
        top, left = round(y * size - side / 2), round(x * size - side / 2)
        copy[:, top : top + side, left : left + side] *= -2
    return images


def batch_first(output: Tensor, images: int) -> Tensor:
    """Tokens [T, B, C] as [B, T, C]; what has its batch in the first axis as it is."""
    second = output.ndim == 3 and len(output) != images and output.shape[1] == images
    return output.transpose(0, 1) if second else output


def sight(name: str, output: object, images: int = 1 + len(SPOTS)) -> Sight:
    """What a module returned for `spotted` images, looked at; of more images, the first that many."""
    if isinstance(output, Tensor) and (turned := batch_first(output, images)) is not output:
        return replace(sight(name, turned, images), second=True)
    if not isinstance(output, Tensor) or output.ndim == 0 or len(output) != images or not output.is_floating_point():
        return Sight(name, None, 0, False, ())
    output = output[: 1 + len(SPOTS)]
    shape = tuple(output.shape[1:])
    if is_attention(output):
        return Sight(name, None, 0, True, shape)
    layout, side = _followed(output)
    return Sight(name, layout, side, False, shape)


def _followed(output: Tensor) -> tuple[Layout | None, int]:
    """The layout under which an output follows the spots best, and its side; None and 0 where it follows nothing."""
    found = max(
        ((follows(change), layout) for layout, change in _changes(output)), key=lambda one: one[0], default=None
    )
    if found is None or not found[0] >= FOLLOWS:
        return None, 0
    return found[1], found[1].to_map(output).shape[-1]


def is_attention(output: Tensor) -> bool:
    """Whether these are matrices [B, heads, Q, K] whose rows are shares that sum to one."""
    if output.ndim != 4 or output.shape[-1] < 2 or bool((output < 0).any()):
        return False
    sums = output.sum(dim=-1)
    return bool(torch.allclose(sums, torch.ones_like(sums), atol=1e-3))


def _changes(output: Tensor) -> Iterator[tuple[Layout, Tensor]]:
    """Layouts that an output's shape allows, and how much each place [spots, h, w] changed under them."""
    change = (output[1:] - output[:1]).abs()
    if output.ndim == 4 and output.shape[2] == output.shape[3] > 1:
        yield CHANNELS_FIRST, change.sum(dim=1)
    if output.ndim == 4 and output.shape[1] == output.shape[2] > 1:
        yield ChannelsLast(), change.sum(dim=3)
    if output.ndim == 3:
        for before in range(min(MOST_BEFORE, output.shape[1] - 4) + 1):
            side = isqrt(output.shape[1] - before)
            if side * side == output.shape[1] - before:
                yield Tokens(before, side, side), change.sum(dim=2)[:, before:].unflatten(1, (side, side))


def follows(change: Tensor) -> float:
    """How well the change [spots, h, w] follows the spots: the least correlation, of both axes, centre and peak.

    The centre alone would also follow where tokens are stored window by window, which scatters a spot over the grid.
    """
    share = change.double() / change.double().sum(dim=(1, 2), keepdim=True)
    excess = (share - share.mean(dim=0)).clamp(min=0).square()  # where more of it lies than of the other spots' change
    total = excess.sum(dim=(1, 2))
    if not bool((torch.isfinite(total) & (total > 0)).all()):
        return 0.0
    spots = torch.tensor(SPOTS, dtype=torch.float64, device=change.device)
    found = []
    for axis in (0, 1):
        profile = excess.sum(dim=2 - axis)
        place = torch.arange(profile.shape[1], dtype=torch.float64, device=change.device)
        peak = place[excess.amax(dim=2 - axis).argmax(dim=1)]
        found += [_correlation(profile @ place / total, spots[:, axis]), _correlation(peak, spots[:, axis])]
    return min(found)


def _correlation(a: Tensor, b: Tensor) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = float(a.norm() * b.norm())
    return float(a @ b) / size if size > 0 else 0.0
