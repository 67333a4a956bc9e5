"""A classifier as it turns out to be: what it takes, what it answers, and how its layers lie over the image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dix.classifier import LABEL_SPACES, Classifier
from dix.look import spotted
from dix.models.kept import attributes, forget_before_passes
from dix.models.structure import structure

#: Largest distance from 1 of the sum of an image's outputs that are shares.
SHARES = 1e-4


def looked(classifier: Classifier) -> Classifier:
    """The same classifier, once it is known what its network does; nothing is done a second time.

    Networks of one input channel are shown the mean of three. Answers in a dict or a tuple are taken out of it. A
    single logit z becomes the logits (0, z), whose softmax is z's sigmoid; shares that sum to one become their
    logarithms, whose softmax are the shares themselves; what a sigmoid returned becomes its logits. Layers that nobody
    named are found. What the network keeps of one pass for the next is forgotten before every pass.

    Raises ValueError that says what does not fit: an answer that is no row of numbers for each image, another number
    of outputs than the label space has, or probabilities of another kind than the classifier is said to have.
    """
    if not classifier.looked:
        network, size = classifier.network, classifier.input_size
        before = attributes(network)
        (answer, ends), takes = _take(network, size)
        forget_before_passes(network, before)
        answer, done = _unpacked(network, answer, ends)
        classifier.answers = ", ".join([*takes, *done])
        _fits_probability(classifier, done)
        _fits_labels(classifier, answer.shape[1])
        if classifier.kind == "cnn":
            found = structure(network, size, classifier.layers or None)
            classifier.adopt(found.kind, found.layers, found.layouts, found.attention, found.lacks)
        classifier.looked = True
    return classifier


def _take(network: nn.Module, size: int) -> tuple[tuple[object, _Sigmoids], list[str]]:
    """What a network answers to one image, and whether it had to be made to take three channels."""
    try:
        return _run(network, size), []
    except Exception as error:
        grey = network.register_forward_pre_hook(_greyed)
        try:
            return _run(network, size), ["grey input"]
        except Exception:
            grey.remove()
            raise ValueError(f"model: the network fails on an image of {size} x {size}: {error}") from error


def _run(network: nn.Module, size: int) -> tuple[object, _Sigmoids]:
    like = next(network.parameters(), torch.zeros(1))
    with torch.no_grad(), _Sigmoids() as sigmoids:
        return network(spotted(size)[:1].to(like)), sigmoids


class _Sigmoids(TorchFunctionMode):
    """While active, keeps what sigmoids return."""

    def __init__(self) -> None:
        super().__init__()
        self.returned: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (torch.sigmoid, Tensor.sigmoid, F.sigmoid, torch.special.expit):
            self.returned.append(result)
        return result

    def ended_in(self, output: object) -> bool:
        """Whether the output is what a sigmoid returned, or a view of it."""
        if not isinstance(output, Tensor):
            return False
        place = output.untyped_storage().data_ptr()
        return any(place == one.untyped_storage().data_ptr() for one in self.returned)


def _unpacked(network: nn.Module, answer: object, sigmoids: _Sigmoids) -> tuple[Tensor, list[str]]:
    """Let a network answer logits [B, K], whatever it answers now, step by step; its answer then, and what was done."""
    done = []
    for name, applies, change in _CHANGES:
        if applies(answer) and (name != SIGMOID or sigmoids.ended_in(answer)):
            answer = change(answer)
            network.register_forward_hook(partial(_changed, change))
            done.append(name)
    if not isinstance(answer, Tensor) or answer.ndim != 2 or len(answer) != 1:
        shape = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise ValueError(
            f"model: expected logits [1, classes] for one image, got {shape}; wrap the network in a module"
        )
    return answer, done


def _greyed(_network: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return (args[0].mean(dim=1, keepdim=True), *args[1:])


def _changed(change: Callable[[object], object], _network: nn.Module, _args: object, output: object) -> object:
    return change(output)


def _in_mapping(output: object) -> bool:
    return isinstance(output, Mapping) and ("logits" in output or len(output) == 1)


def _logit(probability: Tensor) -> Tensor:
    """The logits of probabilities, finite for 0 and for 1."""
    limits = torch.finfo(probability.dtype)
    return probability.clamp(min=limits.tiny).log() - (1 - probability).clamp(min=limits.eps).log()


def _are_shares(output: object) -> bool:
    if not isinstance(output, Tensor) or output.ndim != 2 or output.shape[1] < 2:
        return False
    return bool((output >= 0).all() and ((output.sum(dim=1) - 1).abs() <= SHARES).all())


SIGMOID, ONE, SOFTMAX = "sigmoid inside", "sigmoid of one logit", "softmax inside"
#: By name: how an answer that needs a change is recognised, and the change; in this order.
_CHANGES: tuple[tuple[str, Callable[..., bool], Callable[..., object]], ...] = (
    (
        "logits of a dict",
        _in_mapping,
        lambda output: output["logits"] if "logits" in output else next(iter(output.values())),
    ),
    ("first of a tuple", lambda output: isinstance(output, tuple | list) and len(output) > 0, lambda output: output[0]),
    (SIGMOID, lambda output: isinstance(output, Tensor), _logit),
    ("one column", lambda output: isinstance(output, Tensor) and output.ndim == 1, lambda output: output[:, None]),
    (
        ONE,
        lambda output: isinstance(output, Tensor) and output.ndim == 2 and output.shape[1] == 1,
        lambda output: torch.cat([torch.zeros_like(output), output], dim=1),
    ),
    (SOFTMAX, _are_shares, lambda output: output.clamp(min=torch.finfo(output.dtype).tiny).log()),
)


def _fits_probability(classifier: Classifier, done: Sequence[str]) -> None:
    """Read one logit by its sigmoid. Raise ValueError where the network's last step is not what the classifier says."""
    if ONE in done:
        classifier.probability = "softmax"
    elif SIGMOID in done and classifier.probability == "softmax":
        raise ValueError(
            "model: the network ends in a sigmoid for each class; say model.probability=sigmoid if several classes may "
            "be there at once, or wrap the network so that it returns logits"
        )
    elif SOFTMAX in done and classifier.probability == "sigmoid":
        raise ValueError("model.probability: sigmoid, but the network ends in a softmax, whose shares sum to one")


def _fits_labels(classifier: Classifier, outputs: int) -> None:
    """Raise ValueError where the outputs cannot mean the classes of the label space."""
    names = classifier.names
    if names is not None and len(names) != outputs:
        raise ValueError(f"model: {outputs} outputs, but {len(names)} class names: {', '.join(names)}")
    count = len(classifier.classes) if classifier.classes is not None else LABEL_SPACES.get(str(classifier.label_space))
    if count is not None and count != outputs:
        raise ValueError(
            f"model: {outputs} outputs, but {count} classes "
            + ("are listed" if classifier.classes is not None else f"in the label space {classifier.label_space}")
            + "; give `classes` (the class of each output), or the label space null where they mean something else"
        )
