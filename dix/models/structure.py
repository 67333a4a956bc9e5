"""Find what a method needs of a network by looking: layers and how they lie over the image, attention, the readout."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache, partial

import torch
from torch import Tensor, nn

from dix.capture import capturing, gradients
from dix.classifier import Attention, Kind
from dix.layout import CHANNELS_FIRST, BatchSecond, ChannelsLast, Layout, Tokens
from dix.look import MOST_BEFORE, Sight, is_between_places, look, output_shapes, spotted
from dix.models.attending import attention_between
from dix.models.fresh import looked_at
from dix.models.scattered import with_orders
from dix.models.sketch import Unlike, sketch
from dix.models.visible import conceal, is_revealed, reveal
from dix.split import Split

ALIASES = ("last", "second", "third")
#: Ways to the logits: a layer that all goes through, and one that something passes by.
ONLY, BRANCH = "only", "branch"


@dataclass(frozen=True)
class Structure:
    """kind, layers, layouts and attention as in `dix.classifier.Classifier`; lacks: why there is no attention."""

    kind: Kind
    layers: dict[str, str]
    layouts: dict[str, Layout] = field(default_factory=dict)
    attention: Attention | None = None
    lacks: str = ""


def structure(network: nn.Module, size: int, layers: Mapping[str, str] | None = None) -> Structure:
    """What a network is.

    network: maps normalised images [B, 3, size, size] to logits, in evaluation mode, its attention not fused.
    layers: module names by alias; None: the last three stages are found. A stage ends with the last module on the way
    to the logits that returns a resolution, where modules that hold three resolutions or more are taken apart. The
    layers of a Vision Transformer are what its last three attention modules read (behind the last one, patch tokens no
    longer reach a class token). Equal networks are looked at once in a process.

    Raises ValueError where a named layer does not exist or lies nowhere in the image, and where none is found.
    """
    known = _named(network, size, layers) if layers else {}
    if layers and not any(isinstance(layout, Tokens | BatchSecond) for layout in known.values()):
        return Structure("cnn", dict(layers), _unusual(known))
    try:
        asked = _Asked(sketch(network), size, tuple((layers or {}).items()), [(network, known)])
    except Unlike:
        return _found(network, size, layers or {}, known)
    found = _answered(asked)
    if found.attention and not {*found.attention.layers} <= {name for name, _ in network.named_modules()}:
        reveal(network, _one_image(network, size))  # of an equal network it was known already
    return found


@dataclass(frozen=True)
class _Asked:
    """A question about a network: equal for networks with equal sketches. about: the network, until it is answered."""

    sketch: Hashable
    size: int
    layers: tuple[tuple[str, str], ...]
    about: list[tuple[nn.Module, Mapping[str, Layout | None]]] = field(compare=False)


@lru_cache(maxsize=16)
def _answered(asked: _Asked) -> Structure:
    network, known = asked.about.pop()
    return _found(network, asked.size, dict(asked.layers), known)


def _found(network: nn.Module, size: int, layers: Mapping[str, str], known: Mapping[str, Layout | None]) -> Structure:
    """By looking; known: how the named layers lie."""
    reveal(network, _one_image(network, size))
    awake = looked_at(network, size)
    sights = look(awake, size)
    stem = _stem(awake, sights)
    by_tokens = {one.name: one.raw(CHANNELS_FIRST) for one in sights}
    attention, lacks = attention_between(
        sights,
        stem,
        lambda name: _gradients(awake, size, [name], by_tokens)[name],
        partial(is_between_places, awake, size),
    )
    if attention and all(_way(awake, size, name) for name in attention.layers[-len(ALIASES) :: len(ALIASES) - 1]):
        return _transformer(sights, attention, layers or _read_by_attention(sights, attention))
    conceal(network)
    if layers:
        return Structure("cnn", dict(layers), _unusual(known), lacks=lacks)
    conceal(awake)
    feeding = _feeding(sights)
    own = [one for one in sights if not is_revealed(one.name) and one.name not in feeding]
    found = _stages(awake, size, own)
    if len(found.layers) < len(ALIASES):
        found = _stages(awake, size, with_orders(awake, size, own))
    return replace(found, lacks=lacks)


def _transformer(sights: Sequence[Sight], attention: Attention, layers: Mapping[str, str]) -> Structure:
    """With the layout of each layer whose tokens come before the batch, or are fewer before the patches."""
    found: dict[str, Layout] = {}
    for one in sights:
        if one.name in layers.values():
            fewer = isinstance(one.layout, Tokens) and one.layout.before < attention.prefix
            found[one.name] = one.raw(one.layout if one.layout and fewer else CHANNELS_FIRST)
    return Structure("vit", dict(layers), _unusual(found), attention)


def _named(network: nn.Module, size: int, layers: Mapping[str, str]) -> dict[str, Layout | None]:
    """How the layers that somebody named lie over the image: by their shape, where it leaves no choice."""
    names = list(dict.fromkeys(layers.values()))
    shapes = output_shapes(network, size, names)
    for alias, name in layers.items():
        if name not in shapes:
            raise ValueError(f"model.layers.{alias}: no module {name!r} runs in {type(network).__name__}")
    found = {name: _only(shape) for name, shape in shapes.items()}
    if not all(found.values()):
        found = {one.name: _lies(one) or _by_shape(one) for one in look(network, size, names)}
    return found


def _only(shape: tuple[int, ...]) -> Layout | None:
    """The one layout that an output of this shape may have, or None where there are several, or none."""
    if len(shape) != 3:
        return None
    fits: dict[Layout, bool] = {CHANNELS_FIRST: shape[1] == shape[2] > 1, ChannelsLast(): shape[0] == shape[1] > 1}
    found = [layout for layout, possible in fits.items() if possible]
    return found[0] if len(found) == 1 else None


def _by_shape(one: Sight) -> Layout | None:
    """The usual layout of an output that answers no spot, which a network of random weights may have."""
    return CHANNELS_FIRST if len(one.shape) == 3 else None


def _lies(one: Sight) -> Layout | None:
    """How what a module returns lies over the image."""
    return one.raw(one.layout) if one.layout else None


def _unusual(layouts: Mapping[str, Layout | None]) -> dict[str, Layout]:
    """Those that are not channels first. Raises ValueError that names a layer that lies nowhere in the image."""
    for name, layout in layouts.items():
        if layout is None:
            raise ValueError(f"model.layers: what {name} returns has no place in the image; name another layer")
    return {name: layout for name, layout in layouts.items() if layout and layout != CHANNELS_FIRST}


def _one_image(network: nn.Module, size: int) -> Tensor:
    return spotted(size)[:1].to(next(network.parameters(), torch.zeros(1)))


def _gradients(
    network: nn.Module, size: int, names: Sequence[str], layouts: Mapping[str, Layout] | None = None
) -> dict[str, Tensor]:
    """By module, the gradient of a mixture of all logits for one image by what it returns."""
    if not names:
        return {}
    image = _one_image(network, size)
    with torch.enable_grad(), capturing(network, names, layouts or {}) as captured:
        logits = network(image)
        weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0)).to(logits)
        found = gradients((logits * weights).sum(), list(captured.values()))
    return dict(zip(captured, found, strict=True))


def _read_by_attention(sights: Sequence[Sight], attention: Attention) -> dict[str, str]:
    """By alias, what the last three attention modules read: the last tokens that were returned before each."""
    places = {one.name: i for i, one in enumerate(sights)}
    found = {}
    for alias, matrix in zip(ALIASES, reversed(attention.layers), strict=False):
        inside, count = f"{matrix.rsplit('.', 1)[0]}.", sights[places[matrix]].shape[-1]
        before = [one for one in sights[: places[matrix]] if len(one.shape) == 2]
        before = [one for one in before if count <= one.shape[0] <= count + MOST_BEFORE]
        outside = [one.name for one in before if not one.name.startswith(inside)]
        if outside:
            found[alias] = outside[-1]
    return found


def _feeding(sights: Sequence[Sight]) -> set[str]:
    """What makes queries, keys and values: inside the module that computes attention, before its matrices are there.

    No stage ends with these. Where attention reduces the places (LeViT, MViT) they are the last of their resolution.
    """
    found = set()
    for i, matrix in enumerate(sights):
        around = matrix.name.rpartition(".")[0]
        if matrix.attention and around:
            found |= {one.name for one in sights[:i] if one.name.startswith(f"{around}.")}
    return found


def _stages(network: nn.Module, size: int, sights: Sequence[Sight]) -> Structure:
    """The deepest module of each resolution, or the last blocks of one resolution. Raises ValueError where none is."""
    seen = {one.name: one for one in sights if one.layout}
    layouts = {name: one.raw(one.layout) for name, one in seen.items() if one.layout}
    parts = set(_parts(network, {name: one.side for name, one in seen.items()})) - _stem(network, sights)
    blocks = set(_blocks(network, seen))
    found = _gradients(network, size, [name for name in seen if name in parts | blocks], layouts)
    read = [name for name, gradient in found.items() if bool(gradient.abs().sum() > 0)]
    way = cache(partial(_way, network, size))
    chosen = _deepest(read, seen, parts, blocks, way)
    while bad := [name for name in chosen if way(name) is None]:
        read = [name for name in read if name not in bad]
        chosen = _deepest(read, seen, parts, blocks, way)
    if not chosen:
        raise ValueError(
            f"model.layers: no module of {type(network).__name__} on the way to the logits returns values that lie "
            "over the image; name layers that do, as in model.layers.last=NAME"
        )
    layers = dict(zip(ALIASES, chosen, strict=False))
    return Structure("cnn", layers, _unusual({name: layouts[name] for name in layers.values()}))


def _deepest(
    read: Sequence[str], seen: Mapping[str, Sight], parts: set[str], blocks: set[str], way: Callable[[str], str | None]
) -> list[str]:
    """The last module of each of the three smallest resolutions, smallest first; where there are fewer, of a row.

    way: `_way` of this network. A row inside a branch (the layers of one MLP) counts only where all else is in one.
    """
    ends = {seen[name].side: name for name in read if name in parts}  # a later one replaces an earlier one
    chosen = [_beside(ends[side], read, seen, parts, way) for side in sorted(ends)[: len(ALIASES)]]
    if len(chosen) == len(ALIASES):
        return chosen
    row = _last_of_a_row(read, seen, blocks)
    inside = bool(row and chosen) and way(row[0]) == BRANCH and way(chosen[0]) == ONLY
    return row if row and not inside else chosen


def _beside(
    name: str, read: Sequence[str], seen: Mapping[str, Sight], parts: set[str], way: Callable[[str], str | None]
) -> str:
    """A module on a branch, or the last of the same block and resolution that all goes through, where one is."""
    if way(name) != BRANCH:
        return name
    block, side = name.rpartition(".")[0], seen[name].side
    others = [one for one in reversed(read) if one in parts and one.rpartition(".")[0] == block and one != name]
    return next((one for one in others if seen[one].side == side and way(one) == ONLY), name)


def _way(network: nn.Module, size: int, name: str) -> str | None:
    """Whether a layer is the only way to the logits, or a branch; None where the network cannot be run from there."""
    try:
        return BRANCH if Split(network, name, _one_image(network, size)).needed else ONLY
    except (ValueError, RuntimeError):
        return None


def _stem(network: nn.Module, sights: Sequence[Sight]) -> set[str]:
    """Modules inside the network's first part, where that holds less than a tenth of the weights: a patch embedding."""
    tops = list(dict.fromkeys(one.name.split(".")[0] for one in sights if one.layout))
    sizes = [sum(value.numel() for value in network.get_submodule(top).parameters()) for top in tops]
    if not tops or sizes[0] >= 0.1 * sum(sizes):
        return set()
    return {one.name for one in sights if one.name.split(".")[0] == tops[0]}


def _parts(network: nn.Module, sides: Mapping[str, int]) -> Iterator[str]:
    """Names of the outermost modules that return maps and hold fewer than three resolutions, or than all two."""
    yield from _inside(network, "", sides, max(2, min(len(ALIASES), len(set(sides.values())))))


def _inside(module: nn.Module, prefix: str, sides: Mapping[str, int], most: int) -> Iterator[str]:
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        inner = {side for inside, side in sides.items() if inside.startswith(f"{path}.")}
        if len(inner) >= most or (inner and path not in sides):
            yield from _inside(child, f"{path}.", sides, most)
        else:
            yield path


def _blocks(network: nn.Module, seen: Mapping[str, Sight]) -> Iterator[str]:
    """Modules that return maps and stand in a row (nn.Sequential, nn.ModuleList)."""
    for name in seen:
        parent = network.get_submodule(name.rpartition(".")[0])
        if isinstance(parent, nn.Sequential | nn.ModuleList):
            yield name


def _last_of_a_row(read: Sequence[str], seen: Mapping[str, Sight], blocks: set[str]) -> list[str]:
    """The last three, last first, of the outermost row of blocks of equal shape (the one that ends last)."""
    rows: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for name in read:
        if name in blocks:
            rows.setdefault((name.rpartition(".")[0], seen[name].shape), []).append(name)
    long = [row for row in rows.values() if len(row) >= len(ALIASES)]
    long.sort(key=lambda row: -row[0].count("."))
    return long[-1][: -len(ALIASES) - 1 : -1] if long else []
