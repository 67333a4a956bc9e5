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
#: A share above which the number says no more.
ABSURD = 10.0
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
    shifts = getattr(classifier.network, "transform_input", False)  # Inception and GoogLeNet add constants themselves
    if all(isinstance(module, PLAIN) for module in own) and not shifts:
        return ""
    images = spotted(classifier.input_size)[:2].sigmoid().to(classifier.mean)
    passes = Passes(classifier, images)
    try:
        worst = float(missed(method.residual(passes), passes).max())
    except NotImplementedError as error:  # which names an operation
        return str(error)
    except (RuntimeError, IndexError):  # shapes that its rules do not expect
        return f"has no rule for a layer of this network{_suspects(classifier)}"
    if worst <= MISSED:
        return ""
    share = f"{worst:.0%}" if worst < ABSURD else "more than all"
    return f"its terms miss {share} of the logit: it has no rule for a layer of this network{_suspects(classifier)}"


def _suspects(classifier: Classifier) -> str:
    """The kinds of layers whose own code does more than their parts do, in words; "" where there are none."""
    words = ("attention", "attn", "norm", "gate", "mixer")
    kinds = {type(module).__name__ for module in classifier.network.modules() if not isinstance(module, PLAIN)}
    found = sorted(kind for kind in kinds if any(word in kind.lower() for word in words) and kind != "LayerNorm")
    return f" (perhaps {', '.join(found[:3])})" if found else ""


def missed(residual: Tensor, passes: Passes) -> Tensor:
    """[B] the residual as a share of the image's largest logit (a target's may be near 0); infinite for NaN."""
    share = residual.abs() / passes.logits.abs().amax(dim=1).clamp(min=torch.finfo(residual.dtype).tiny)
    return share.nan_to_num(nan=torch.inf)


def kept(maps: Tensor, residual: Tensor, passes: Passes) -> Tensor:
    """The maps [B, H, W], NaN where the terms miss too much of the logit."""
    return torch.where((missed(residual, passes) <= MISSED).view(-1, 1, 1), maps, torch.nan)
