"""A classifier in words: what it takes and answers, and what was found in it."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from dix.classifier import Classifier
from dix.layout import CHANNELS_FIRST, Layout
from dix.look import output_shapes

#: Class names that are told; of more, the first.
TOLD = 6


def description(classifier: Classifier) -> str:
    """Several lines for people. Runs the network twice on one image."""
    return "\n".join([_answers(classifier), _takes(classifier), *_layers(classifier), _attention(classifier)])


def _answers(classifier: Classifier) -> str:
    like = classifier.mean
    with torch.no_grad():
        image = torch.zeros(1, 3, classifier.input_size, classifier.input_size).to(like)
        count = classifier.logits(image).shape[1]
    names = [classifier.class_name(output) for output in range(min(count, TOLD))]
    more = ", ..." if count > TOLD else ""
    return f"{classifier.name}: {count} classes ({', '.join(names)}{more}), weights: {classifier.weights.source}"


def _takes(classifier: Classifier) -> str:
    size = classifier.input_size
    mean, std = (", ".join(f"{v:g}" for v in t.flatten().tolist()) for t in (classifier.mean, classifier.std))
    done = f"; {classifier.answers}" if classifier.answers else ""
    return f"images of {size} x {size} pixels, mean {mean}, std {std}{done}"


def _layers(classifier: Classifier) -> Iterator[str]:
    shapes = output_shapes(classifier.network, classifier.input_size, list(classifier.layers.values()))
    kind = "tokens of a Vision Transformer" if classifier.kind == "vit" else "feature maps"
    yield f"layers ({kind}):"
    for alias, name in classifier.layers.items():
        yield f"  {alias:<7} {name}: {_place(shapes[name], classifier, name)}"


def _place(shape: tuple[int, ...], classifier: Classifier, name: str) -> str:
    """How a layer's output lies over the image."""
    if classifier.kind == "vit":
        return f"{shape[0]} tokens of {shape[1]} channels, {classifier.prefix_tokens} before the patches"
    layout: Layout = classifier.layouts.get(name, CHANNELS_FIRST)
    _, channels, height, width = layout.to_map(torch.empty(1, *shape)).shape
    return f"{channels} channels on {height} x {width} places, {layout}"


def _attention(classifier: Classifier) -> str:
    blocks = len(classifier.attention_layers)
    if not blocks:
        return "attention: none between all places of the image, so that methods on attention are skipped"
    return f"attention: {blocks} blocks, read from tokens {_range(classifier.readout)}"


def _range(tokens: tuple[int, ...]) -> str:
    return str(tokens[0]) if len(tokens) == 1 else f"{tokens[0]} to {tokens[-1]}"
