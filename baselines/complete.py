"""Methods whose terms add up to the logit where they know every layer: that is tried, not taken for granted."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from dix.classifier import Classifier
from dix.look import spotted
from dix.passes import Passes

#: Largest share of an image's largest logit that the terms may miss.
MISSED = 0.01
#: Modules whose rules are exact in every network: one made of these alone need not be tried.
PLAIN = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)


class Complete(Protocol):
    """A method that knows by how much its terms miss the logit."""

    def residual(self, passes: Passes) -> Tensor:
        """[B] sum of all terms less what they should add up to."""
        ...


def incomplete(method: Complete, classifier: Classifier) -> str:
    """Why a network has something that the method has no rule for, or ""; two images are tried."""
    own = [m for m in classifier.network.modules() if any(True for _ in m.parameters(recurse=False))]
    if all(isinstance(module, PLAIN) for module in own):
        return ""
    images = spotted(classifier.input_size)[:2].sigmoid().to(classifier.mean)
    passes = Passes(classifier, images)
    try:
        worst = float(missed(method.residual(passes), passes).max())
    except (RuntimeError, IndexError) as error:  # shapes that its rules do not expect
        return f"has no rule for a layer of this network ({str(error).splitlines()[0]})"
    return "" if worst <= MISSED else f"its terms miss {worst:.0%} of the logit: a layer of this network has no rule"


def missed(residual: Tensor, passes: Passes) -> Tensor:
    """[B] the residual as a share of the image's largest logit (a target's may be near 0); infinite for NaN."""
    share = residual.abs() / passes.logits.abs().amax(dim=1).clamp(min=torch.finfo(residual.dtype).tiny)
    return share.nan_to_num(nan=torch.inf)


def kept(maps: Tensor, residual: Tensor, passes: Passes) -> Tensor:
    """The maps [B, H, W], NaN where the terms miss too much of the logit."""
    return torch.where((missed(residual, passes) <= MISSED).view(-1, 1, 1), maps, torch.nan)
