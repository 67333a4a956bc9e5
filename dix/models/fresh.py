"""Networks as they are before training, made to answer: what starts at nil hides what a network does."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from dix.classifier import Classifier
from dix.look import spotted


def awake(classifier: Classifier) -> Classifier:
    """A classifier of fresh random weights, made to answer as `woken` makes its network; in place."""
    network = classifier.network
    network.load_state_dict(woken(network, classifier.input_size).state_dict())
    classifier.forget_tails()
    return classifier


def woken(network: nn.Module, size: int) -> nn.Module:
    """The network, or a copy in which weights of nil are not: fresh residual branches and heads often are.

    Batch norms that have seen no image yet get the statistics of a few (size x size, seeded): without them every layer
    of a network that has no other norm (LeViT) shrinks what it is given, down to rounding errors.
    """
    asleep = [name for name, value in network.named_parameters() if "bias" not in name and not bool(value.any())]
    if not asleep:
        return network
    copy, random = deepcopy(network), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name in asleep:
            value = copy.get_parameter(name)
            value.copy_(
                torch.ones_like(value) if value.ndim == 1 else 0.05 * torch.randn(value.shape, generator=random)
            )
    return settled(copy, size)


def looked_at(network: nn.Module, size: int) -> nn.Module:
    """The network, or a copy: woken, and its fresh batch norms settled even where nothing else sleeps.

    Without statistics activations grow with depth, and softmax attention lets all places read the same one (Visformer).
    """
    awake = woken(network, size)
    return settled(deepcopy(awake), size) if fresh_norms(awake) else awake


def settled(network: nn.Module, size: int) -> nn.Module:
    """The network, whose fresh batch norms gather the statistics of the images it is looked at with; in place."""
    fresh = fresh_norms(network)
    like = next(network.parameters())
    for module in fresh:
        module.train().momentum = None  # the mean of all batches, of which there is one
    with torch.no_grad():
        network(spotted(size).to(like))
    for module in fresh:
        module.eval()
    return network


def fresh_norms(network: nn.Module) -> list[_BatchNorm]:
    """The batch norms that have seen no image yet."""
    return [module for module in network.modules() if isinstance(module, _BatchNorm) and _is_fresh(module)]


def _is_fresh(norm: _BatchNorm) -> bool:
    return norm.running_mean is not None and norm.num_batches_tracked is not None and not norm.num_batches_tracked.any()
