"""Copies of a classifier in which some weight layers are re-initialised; the classifier itself is never touched."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from dix.classifier import Classifier
from dix.seeding import generator

#: Standard deviation of parameters whose module has no initialisation of its own (class tokens and positions, mostly).
TOKEN_STD = 0.02


@dataclass(frozen=True)
class WeightLayer:
    """One step of the test: a convolution or linear map with the normalisation and scale behind it.

    name: the dotted name of the convolution or linear map. modules: names of all modules re-initialised with it.
    """

    name: str
    modules: tuple[str, ...]


def weight_layers(classifier: Classifier, kinds: str = "all") -> tuple[WeightLayer, ...]:
    """The weight layers in the order of the forward pass, output first.

    kinds: "all", or "conv" for convolutions alone (VGG-19: 19 and 16 layers). A module with other parameters (batch
    normalisation, layer scale) belongs to the weight layer that ran before it, or to the first one inside it where it
    holds weight layers (class token and positions of a ViT).

    Raises ValueError where a module with parameters does not run as a module, or no layer is of that kind.
    """
    if kinds not in _KINDS:
        raise ValueError(f"sanity.layers: expected one of {', '.join(_KINDS)}, got {kinds!r}")
    network = classifier.network
    members = _members(network, _call_order(classifier))
    chosen = {name: m for name, m in members.items() if _KINDS[kinds](network.get_submodule(name))}
    if not chosen:
        raise ValueError(f"sanity.layers: {classifier.name} has no layer of the kind {kinds!r}")
    return tuple(WeightLayer(name, tuple(m)) for name, m in reversed(chosen.items()))


_KINDS: Mapping[str, Callable[[nn.Module], bool]] = {
    "all": lambda module: True,
    "conv": lambda module: isinstance(module.weight, Tensor) and module.weight.ndim > 2,
}


def _call_order(classifier: Classifier) -> list[str]:
    """Names of the modules with parameters of their own, in the order in which the forward pass enters them."""
    names = {module: name for name, module in classifier.network.named_modules() if module._parameters}
    holders = {
        module: name for module, name in names.items() if any(p is not None for p in module._parameters.values())
    }
    entered: dict[str, None] = {}
    side = classifier.input_size
    with ExitStack() as stack, torch.no_grad():
        for module, name in holders.items():
            hook = module.register_forward_pre_hook(lambda _m, _a, name=name: entered.setdefault(name))
            stack.enter_context(hook)
        classifier.logits(torch.zeros(1, 3, side, side).to(classifier.mean))
    absent = [name for name in holders.values() if name not in entered]
    if absent:
        raise ValueError(
            f"{classifier.name}: {', '.join(absent[:5])}: parameters of modules that do not run in a forward pass: "
            "where they belong in a cascade cannot be said"
        )
    return list(entered)


def _members(network: nn.Module, order: Sequence[str]) -> dict[str, list[str]]:
    """By weight layer, first in the forward pass first: its own name and those of the modules that belong to it."""
    weights = [name for name in order if _is_weight_layer(network.get_submodule(name))]
    if not weights:
        raise ValueError(f"{type(network).__name__} has no convolution or linear map to randomise")
    members: dict[str, list[str]] = {name: [name] for name in weights}
    owner = weights[0]
    for name in order:
        owner = name if name in members else owner
        inside = [w for w in weights if not name or w.startswith(f"{name}.")]
        if name not in members:
            members[inside[0] if inside else owner].append(name)
    return members


def _is_weight_layer(module: nn.Module) -> bool:
    """Whether the module has a weight with two or more axes of its own."""
    weight = module._parameters.get("weight")
    return weight is not None and weight.ndim >= 2


def layers_named(classifier: Classifier, names: Sequence[str]) -> list[WeightLayer]:
    """The weight layers with these names. Raises ValueError that says what each other name is."""
    known = {layer.name: layer for layer in weight_layers(classifier)}
    for name in names:
        if name not in known:
            raise ValueError(f"{_what_it_is(classifier, name)}; weight layers, output first: {', '.join(known)}")
    return [known[name] for name in names]


def _what_it_is(classifier: Classifier, name: str) -> str:
    modules = dict(classifier.network.named_modules())
    if name not in modules:
        return f"{classifier.name} has no layer {name!r}"
    kind = type(modules[name]).__name__
    if not list(modules[name].parameters()):
        return f"layer {name!r} of {classifier.name} ({kind}) has no parameters to randomise"
    return f"layer {name!r} of {classifier.name} ({kind}) is not a weight layer by itself"


def randomised(classifier: Classifier, layers: Sequence[str], seed: int, init: str = "torch") -> Classifier:
    """A copy with the named weight layers re-initialised. `seed`, `init`: as for `Randomiser`."""
    return Randomiser(classifier, seed, init).at(layers_named(classifier, layers))


class Randomiser:
    """Randomised copies of a classifier, of which one exists at a time (they share one working network).

    seed: of all draws, anything with a text form. A layer's draw depends on seed and name alone, so it is the same in
        every cascade that includes the layer and on every device.
    init: "torch" (each module's own `reset_parameters`, running statistics included) or "he" (He et al. 2015: weights
        normal with variance 2 / fan-in and no bias, so that the size of activations survives depth).
    """

    def __init__(self, classifier: Classifier, seed: object, init: str = "torch") -> None:
        if init not in _INITIALISERS:
            raise ValueError(f"sanity.init: expected one of {', '.join(_INITIALISERS)}, got {init!r}")
        self.original = classifier
        self.seed = seed
        self.init = init
        self.network = copy.deepcopy(classifier.network)
        self._drawn: dict[str, dict[str, Tensor]] = {}
        self._changed: set[str] = set()

    def at(self, layers: Sequence[WeightLayer]) -> Classifier:
        """The copy with exactly these layers re-initialised; it replaces the copy handed out before."""
        wanted = {name for layer in layers for name in layer.modules}
        for name in self._changed - wanted:
            _load(self.network.get_submodule(name), _own_state(self.original.network.get_submodule(name)))
        for name in sorted(wanted - self._changed):
            _load(self.network.get_submodule(name), self._draw(name))
        self._changed = wanted
        return copy_of(self.original, self.network, f"{len(layers)} weight layers re-initialised" if layers else "")

    def _draw(self, name: str) -> dict[str, Tensor]:
        if name not in self._drawn:
            module = self.original.network.get_submodule(name)
            self._drawn[name] = _initialised(module, generator(self.seed, name, "weights"), self.init)
        return self._drawn[name]


def copy_of(classifier: Classifier, network: nn.Module, note: str) -> Classifier:
    """The classifier around another network of the same architecture."""
    mean, std = (t.flatten().tolist() for t in (classifier.mean, classifier.std))
    made = Classifier(
        classifier.name,
        network,
        mean=mean,
        std=std,
        input_size=classifier.input_size,
        layers=classifier.layers,
        kind=classifier.kind,
        weights=replace(classifier.weights, note=note or classifier.weights.note),
        label_space=classifier.label_space,
        classes=classifier.classes,
        recommended=classifier.recommended,
        layouts=classifier.layouts,
        attention=classifier.attention,
        probability=classifier.probability,
        names=classifier.names,
    )
    made.looked, made.answers, made.lacks_attention = classifier.looked, classifier.answers, classifier.lacks_attention
    made.mean, made.std = classifier.mean, classifier.std  # to the last bit, in the original's precision
    return made


def _own_state(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers that the module holds itself, without its children's."""
    return {key: tensor for key, tensor in module.state_dict().items() if "." not in key}


def _load(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for key, tensor in _own_state(module).items():
            tensor.copy_(state[key])


def _initialised(module: nn.Module, draws: torch.Generator, init: str) -> dict[str, Tensor]:
    """The module's own state after initialisation, in float32 on the CPU, so that devices and precisions agree."""
    fresh = copy.copy(module)
    fresh._parameters = {k: _blank(p) for k, p in module._parameters.items()}
    fresh._buffers = {k: None if b is None else b.detach().cpu().clone() for k, b in module._buffers.items()}
    fresh._modules = {}
    _INITIALISERS[init](fresh, draws)
    return _own_state(fresh)


def _blank(parameter: nn.Parameter | None) -> nn.Parameter | None:
    return None if parameter is None else nn.Parameter(parameter.detach().cpu().float().clone(), requires_grad=False)


def _torch_default(module: nn.Module, draws: torch.Generator) -> None:
    """`reset_parameters`, which draws from torch's CPU generator: seeded for the call and put back after it."""
    reset = getattr(module, "reset_parameters", None)
    if reset is None:
        _tokens(module, draws)
        return
    state = torch.get_rng_state()
    try:
        torch.default_generator.manual_seed(draws.initial_seed())
        reset()
    finally:
        torch.set_rng_state(state)


def _he(module: nn.Module, draws: torch.Generator) -> None:
    if not _is_weight_layer(module):
        _torch_default(module, draws)
        return
    weight = module._parameters["weight"]
    assert weight is not None
    nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=draws)
    for key, other in module._parameters.items():
        if key != "weight" and other is not None:
            nn.init.zeros_(other)


def _tokens(module: nn.Module, draws: torch.Generator) -> None:
    """Parameters without an initialisation of their own: normal with a small deviation."""
    for parameter in module._parameters.values():
        if parameter is not None:
            nn.init.normal_(parameter, std=TOKEN_STD, generator=draws)


_INITIALISERS: Mapping[str, Callable[[nn.Module, torch.Generator], None]] = {"torch": _torch_default, "he": _he}
