"""The class to explain, as people name it: a label of the model's label space, or a class's name."""

from __future__ import annotations

import torch

from dix.classifier import Classifier
from dix.cli.words import nearest

#: A label, or a name.
Target = int | str


def output_of(classifier: Classifier, target: Target) -> int:
    """The output that means a class, given by its label or its name.

    A name may be shortened where one class alone has it in its name. Raises ValueError where no output means it.
    """
    outputs = _outputs(classifier)
    if isinstance(target, str):
        return _named(classifier, target, outputs)
    output = int(classifier.output_of(torch.tensor([int(target)]))[0])
    if not 0 <= output < outputs:
        raise ValueError(f"target: {classifier.name} has no output for class {target}")
    return output


def _named(classifier: Classifier, target: str, outputs: int) -> int:
    names = [classifier.class_name(output) for output in range(outputs)]
    wanted = target.casefold()
    exact = [output for output, name in enumerate(names) if name.casefold() == wanted]
    found = exact or [output for output, name in enumerate(names) if wanted in name.casefold()]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ValueError(f"target: {classifier.name} has no class {target!r}{nearest(target, names)}")
    several = ", ".join(f"{names[output]} ({classifier.class_of(output)})" for output in found[:6])
    raise ValueError(f"target: {target!r} may be {several}; give the number")


def _outputs(classifier: Classifier) -> int:
    """How many outputs the network has."""
    with torch.no_grad():
        image = torch.zeros(1, 3, classifier.input_size, classifier.input_size).to(classifier.mean)
        return int(classifier.logits(image).shape[1])
