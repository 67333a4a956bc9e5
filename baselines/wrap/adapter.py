"""What all adapters share: images one by one, a copy of the network, seeds, layers as maps, and a map in return.

A library may change what it is given: it hangs hooks into the network, replaces modules, draws from the generators that
everybody shares, and mixes the images of a batch. So each image is explained alone, with a copy of the network that is
thrown away, and with shared generators whose seed is the image's. A map depends on its image and on nothing else.
"""

from __future__ import annotations

import io
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from dix.baselines.cam import missing_layer
from dix.baselines.path import REDUCTIONS, Reduction, colour
from dix.classifier import Classifier
from dix.layout import CHANNELS_FIRST, Layout, Tokens
from dix.passes import Passes
from dix.seeding import own_random_numbers, seed_of

#: Colours that stand for an image without information, where a library asks for one.
COLOURS = ("mean_colour", "black", "white")


class Settings(Mapping[str, Any]):
    """Arguments by name, which never change, so that they can be told apart and hashed; lists become tuples."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = {str(key): _frozen(value) for key, value in values.items()}

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(tuple(sorted(self._values.items(), key=lambda pair: pair[0])))

    def __repr__(self) -> str:
        return repr(self._values)


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Settings(value)
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


class Shown(nn.Module):
    """A network, one layer of which passes its output through `maps` as [B, C, h, w].

    So every library finds a module that returns channels over places, whatever the layer returns; tokens that lie
    nowhere in the image go past it.
    """

    def __init__(self, network: nn.Module, layer: str, layout: Layout) -> None:
        super().__init__()
        self.network = network
        self.maps: nn.Module = nn.Identity()
        network.get_submodule(layer).register_forward_hook(
            lambda _m, _a, raw: layout.to_raw(self._passed(layout.to_map(raw)), layout.prefix(raw))
        )

    def _passed(self, maps: Tensor) -> Tensor:
        """Through `maps`, whose output and its gradient are no views: some libraries change them in place."""
        return self.maps(maps.clone()) * 1

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, K] of normalised images."""
        return self.network(images)


@dataclass(frozen=True)
class Case:
    """One image to explain.

    classifier: whose network it is, for its normalisation. network: a copy of it, for the library to change; with
    `maps` where a layer is explained. image: [1, 3, S, S] normalised, a leaf that requires a gradient. target: its
    output to explain.
    """

    classifier: Classifier
    network: nn.Module
    image: Tensor
    target: int

    @property
    def maps(self) -> nn.Module:
        """The module that returns the layer's output as [1, C, h, w]."""
        return self.network.get_submodule("maps")

    def colour(self, value: Any) -> Any:
        """An argument that names a colour, as a normalised image [1, 3, S, S] of it; any other as it is."""
        if not isinstance(value, str) or value not in COLOURS:
            return value
        plain = colour(value, self.classifier).to(self.image)  # type: ignore[arg-type]
        return self.classifier.normalise(plain).expand_as(self.image).contiguous()


@dataclass(frozen=True)
class Adapter(ABC):
    """A method of a library.

    arguments: for the library's own class or function, by the names that it has there. layer: where the method explains
    a layer, an alias of the model's or a module's name. reduction: how attributions [C, h, w] become a map [h, w];
    None: the absolute values of gradients, and of everything else the values themselves, summed over channels.
    """

    version: ClassVar[int] = 1
    library: ClassVar[str] = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    layer: str = "last"
    reduction: Reduction | None = None
    label: str = ""
    extra: bool = True

    def __post_init__(self) -> None:
        """Raise ValueError for a method or argument that the library does not have, or where it is not installed."""
        object.__setattr__(self, "arguments", Settings(self.arguments))
        if self.reduction is not None and self.reduction not in REDUCTIONS:
            raise ValueError(f"reduction: expected one of {', '.join(REDUCTIONS)}, got {self.reduction!r}")
        if not self.label:
            object.__setattr__(self, "label", f"{self.name} ({self.library})")
        with quiet():
            self.check()

    @property
    @abstractmethod
    def name(self) -> str:
        """The method's name within its library."""

    @abstractmethod
    def check(self) -> None:
        """Raise ValueError where the library has no such method or argument."""

    @abstractmethod
    def uses_layer(self) -> bool:
        """Whether the method explains a layer."""

    def lacks(self, network: nn.Module) -> str:
        """Why the library's method would give wrong numbers for a network, or ""."""
        return ""

    @abstractmethod
    def attribute(self, case: Case) -> Tensor | np.ndarray:
        """[1, C, h, w], [C, h, w], [1, h, w] or [h, w] for one image, from the library."""

    def default_reduction(self) -> Reduction:
        """What `reduction` is where nobody said."""
        return "sum"

    def unsupported(self, classifier: Classifier) -> str:
        """Why this classifier cannot be explained, or ""."""
        reason = missing_layer(classifier, self.layer) if self.uses_layer() else ""
        with quiet():
            return reason or self.lacks(classifier.network)

    def explain(self, passes: Passes) -> Tensor:
        """[B, h, w] maps, each image explained alone."""
        return torch.stack([self._alone(passes, index) for index in range(len(passes.ids))])

    def _alone(self, passes: Passes, index: int) -> Tensor:
        """[h, w] one image's map."""
        seed = seed_of(passes.seed, passes.ids[index], f"{self.library} {self.name}")
        with own_random_numbers(seed), quiet(), torch.enable_grad():
            found = self.attribute(self._case(passes, index))
        values = torch.from_numpy(np.ascontiguousarray(found)) if isinstance(found, np.ndarray) else found
        values = values.detach().to(passes.images)
        if values.ndim == 4 and len(values) == 1:
            values = values[0]
        if values.ndim == 3:
            values = REDUCTIONS[self.reduction or self.default_reduction()](values[None])[0]
        if values.ndim != 2:
            raise ValueError(f"{self.label}: expected a map [h, w], got {list(values.shape)}")
        return values

    def _case(self, passes: Passes, index: int) -> Case:
        classifier = passes.classifier
        network: nn.Module = deepcopy(classifier.network)
        if self.uses_layer():
            network = Shown(network, classifier.layer(self.layer), layout_of(passes, self.layer)).eval()
        image = classifier.normalise(passes.images[index : index + 1]).detach().clone().requires_grad_()
        return Case(classifier, network, image, int(passes.targets[index]))


def layout_of(passes: Passes, layer: str) -> Layout:
    """How a layer's output lies over the image."""
    classifier, name = passes.classifier, passes.classifier.layer(layer)
    values = passes.activation(layer)
    if name in classifier.layouts or values.ndim != 3:
        return classifier.layouts.get(name, CHANNELS_FIRST)
    places = values.shape[1] - classifier.prefix_tokens
    height, width = passes.size
    rows = int(height * (places / (height * width)) ** 0.5 + 0.5)
    return Tokens(classifier.prefix_tokens, rows, places // rows)


@contextmanager
def quiet() -> Iterator[None]:
    """Without a library's warnings, bars and prints, which are about its own insides."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def taken(function: Callable[..., Any], without: Iterable[str] = ()) -> dict[str, Any]:
    """Names and defaults of the arguments that a function takes and a configuration may give."""
    hidden = {"self", "kwargs", "args", *without}
    return {name: one.default for name, one in signature(function).parameters.items() if name not in hidden}


def expect(word: str, known: Iterable[str], what: str) -> None:
    """Raise ValueError where a word is none of the known ones."""
    if word not in (names := sorted(known)):
        raise ValueError(f"{what}: expected one of {', '.join(names)}, got {word!r}")


def grid_of(image: Tensor, cells: int) -> Tensor:
    """[1, 1, H, W] int64: the squares of a grid of `cells` x `cells` over images [1, C, H, W], numbered row by row."""
    height, width = image.shape[-2:]
    row, column = (torch.arange(side, device=image.device) * cells // side for side in (height, width))
    return (row[:, None] * cells + column[None, :])[None, None]


def activations_without(network: nn.Module, rules: Iterable[type]) -> list[str]:
    """Classes of the network's activation modules that no rule is for: the plain gradient would pass them."""
    known = tuple(rules)
    found = {type(module) for module in network.modules() if _is_activation(type(module))}
    return sorted(kind.__name__ for kind in found if not issubclass(kind, known))


def _is_activation(kind: type) -> bool:
    home = kind.__module__
    return (home == "torch.nn.modules.activation" and kind is not nn.MultiheadAttention) or "layers.activations" in home


def lacks_relu(network: nn.Module) -> str:
    """Why a rule for ReLU changes nothing in a network, or ""."""
    if any(isinstance(module, nn.ReLU) for module in network.modules()):
        return ""
    others = ", ".join(activations_without(network, [])) or "no activation modules"
    return f"its rule is for nn.ReLU, and the network has none ({others}): it would be the plain gradient"
