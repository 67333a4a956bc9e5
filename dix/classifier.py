"""A network to be explained: normalisation inside, named layers, what it can do, and where its weights come from."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dix.identity import named
from dix.layout import CHANNELS_FIRST, Layout
from dix.norms import mend
from dix.probability import PROBABILITIES, Probability, check_probability
from dix.split import Split, module_named

Kind = Literal["cnn", "vit"]
#: Packages whose modules are known by their weights: they do not change under the same name.
LIBRARIES = ("torch", "torchvision", "timm")
#: Classes of each label space that the suite knows.
LABEL_SPACES: Mapping[str, int] = MappingProxyType({"imagenet": 1000, "mnist": 10})


@dataclass(frozen=True)
class Weights:
    """Where a network's weights come from.

    Attributes:
        source: One line for people ("torchvision IMAGENET1K_V1", "random, seed 0", a file's name without its folder).
        trained: False for random weights, which every table then says.
        note: What a reader of the numbers must know ("few-shot head on 24 photos"), or "".
        published_top1: Accuracy in percent that the weights' publisher states for ImageNet, or None.
    """

    source: str
    trained: bool
    note: str = ""
    published_top1: float | None = None


@dataclass(frozen=True)
class Attention:
    """The attention of a Vision Transformer between all of its T tokens.

    Attributes:
        layers: Names of the modules that return each block's matrices [B, heads, T, T], first block first.
        prefix: Tokens before the image's patches (1: a class token; more: registers, a distillation token; a query that
            pools the tokens counts as one).
        readout: Indices of the tokens whose mean the head reads: the class token, or all patches.
        places: By block, the index of the token of the matrix's first row and of that of its first column; (): all are
            between all tokens. A block may see fewer tokens, or be read by one of them alone: [B, heads, Q, K].
    """

    layers: tuple[str, ...]
    prefix: int
    readout: tuple[int, ...] = (0,)
    places: tuple[tuple[int, int], ...] = ()


class Classifier:
    """A classification network with everything an explanation method may ask of it.

    Args:
        name: As in configuration files and result rows.
        network: Maps normalised images [B, 3, S, S] to logits [B, K]. It is put into evaluation mode, frozen, and its
            in-place activations are made out-of-place, so that captured tensors stay what they were.
        mean: What is taken off pixels in [0, 1], one value a channel.
        std: What they are divided by then, one value a channel.
        input_size: S, in pixels.
        layers: Dotted module names by alias: "last" (L), "second" (L-1) and "third" (L-2), and any others.
        kind: "cnn" (activations are maps) or "vit" (blocks of tokens with visible attention matrices).
        weights: Where they come from.
        label_space: Which classes the outputs mean ("imagenet", "mnist"), or None if unknown.
        classes: [K] index within the label space of each output; None: output i is class i.
        recommended: How the checkpoint's publisher resizes images (settings of `dix.datasets.preprocess.Preprocess`).
        layouts: By module name, how what a layer of a "cnn" returns lies over the image; one left out: [B, C, h, w].
        attention: Of a "vit"; None: as timm's VisionTransformer names its modules.
        probability: "softmax" of the logits, or a "sigmoid" for each class (a multi-label head).
        names: [K] what each output is called; None: as the label space has it.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        input_size: int,
        layers: Mapping[str, str],
        kind: Kind,
        weights: Weights,
        label_space: str | None = "imagenet",
        classes: Sequence[int] | None = None,
        recommended: Mapping[str, Any] | None = None,
        layouts: Mapping[str, Layout] | None = None,
        attention: Attention | None = None,
        probability: Probability = "softmax",
        names: Sequence[str] | None = None,
    ) -> None:
        check_probability(probability)
        self.name = name
        bare, wrapped = unwrapped(network)
        self.network = prepare(bare)
        self.mean = torch.tensor(tuple(mean), dtype=torch.float32).view(1, -1, 1, 1)
        self.std = torch.tensor(tuple(std), dtype=torch.float32).view(1, -1, 1, 1)
        self.input_size = input_size
        self.weights = weights
        self.label_space = label_space
        self.classes = tuple(classes) if classes is not None else None
        self.names = tuple(names) if names is not None else None
        self.recommended = dict(recommended or {})
        self.probability: Probability = probability
        self.looked = False  # whether the network was looked at (`dix.models.looked`)
        self.answers = ""  # what had to be done to its answers
        self._splits: dict[str, Split] = {}
        named = {alias: layer.removeprefix(wrapped) for alias, layer in layers.items()}
        self.adopt(
            kind, named, layouts or {}, attention if attention or kind != "vit" else _timm_attention(self.network)
        )

    def adopt(
        self,
        kind: Kind,
        layers: Mapping[str, str],
        layouts: Mapping[str, Layout],
        attention: Attention | None,
        lacks: str = "",
    ) -> None:
        """Take the network for what it is found to be; lacks: why it shows no attention between its tokens.

        Raises ValueError that names a layer which does not exist.
        """
        self.kind: Kind = kind
        self.lacks_attention = lacks
        self.layers = dict(layers)
        self.layouts = dict(layouts)
        self.attention = attention
        self._splits.clear()
        for layer in self.layers.values():
            module_named(self.network, layer)

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Classifier:
        """Move to a device and precision, in place."""
        self.network.to(device=device, dtype=dtype)
        self.mean, self.std = (t.to(device=device, dtype=dtype) for t in (self.mean, self.std))
        self._splits.clear()
        return self

    @property
    def device(self) -> torch.device:
        """Where images must be."""
        return self.mean.device

    @property
    def dtype(self) -> torch.dtype:
        """The precision images must have."""
        return self.mean.dtype

    def normalise(self, images: Tensor) -> Tensor:
        """Pixels [B, 3, S, S] in [0, 1] to what the network takes."""
        return (images - self.mean) / self.std

    def logits(self, images: Tensor) -> Tensor:
        """Logits [B, K] of pixels [B, 3, S, S] in [0, 1]."""
        return self.network(self.normalise(images))

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities of logits [M, K]: of all classes together, or of each for itself."""
        return PROBABILITIES[self.probability](logits)

    def layer(self, alias: str) -> str:
        """The module name behind an alias; a name that is no alias is a module name already."""
        return self.layers.get(alias, alias)

    def tail(self, layer: str) -> Split:
        """The network after `layer` (an alias or a module name): ``tail(layer).logits(activation) == logits``."""
        name = self.layer(layer)
        if name not in self._splits:
            example = self.normalise(torch.zeros(1, 3, self.input_size, self.input_size).to(self.mean))
            self._splits[name] = Split(self.network, name, example, self.layouts.get(name, CHANNELS_FIRST))
        return self._splits[name]

    def forget_tails(self) -> None:
        """Record tails anew when they are asked for: the network may have been another while they were recorded."""
        self._splits.clear()

    @property
    def attention_layers(self) -> tuple[str, ...]:
        """Names of the modules that return each block's attention matrices [B, heads, T, T], first block first."""
        return self.attention.layers if self.attention else ()

    @property
    def prefix_tokens(self) -> int:
        """Tokens before the image patches (1: CLS)."""
        return self.attention.prefix if self.attention else 0

    @property
    def readout(self) -> tuple[int, ...]:
        """Indices of the tokens whose mean the head reads."""
        return self.attention.readout if self.attention else ()

    def output_of(self, labels: Tensor) -> Tensor:
        """Indices of the outputs that mean `labels` [B] of this label space; -1 where no output does."""
        if self.classes is None:
            return labels
        lookup = {c: i for i, c in enumerate(self.classes)}
        return torch.tensor([lookup.get(int(label), -1) for label in labels], dtype=torch.int64, device=labels.device)

    def class_of(self, output: int) -> int:
        """The label that output means."""
        return output if self.classes is None else self.classes[output]

    def class_name(self, output: int) -> str:
        """What an output means, in words where they are known."""
        if self.names is not None:
            return self.names[output]
        label = self.class_of(output)
        if self.label_space != "imagenet":
            return f"class {label}"
        from dix.models.classes import imagenet_class

        return imagenet_class(label)

    def describe(self) -> str:
        """What is known of the network and what was found in it, in lines for people."""
        from dix.models.description import description

        return description(self)

    def __repr__(self) -> str:
        """One line: the kind, and the layers by alias."""
        layers = ", ".join(f"{alias}={name}" for alias, name in self.layers.items())
        return f"<Classifier {self.name!r}: {self.kind}, {self.input_size} x {self.input_size}, {layers}>"

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all parameters and buffers, equal for equal weights wherever they were loaded from."""
        digest = hashlib.sha256()
        for key, tensor in sorted(self.network.state_dict().items()):
            digest.update(key.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    def identity(self) -> dict[str, object]:
        """What of the model defines a score."""
        looked = (
            {"layouts": {name: str(layout) for name, layout in sorted(self.layouts.items())}} if self.layouts else {}
        )
        reads: dict[str, object] = {"readout": list(self.readout)} if self.attention and self.readout != (0,) else {}
        if self.readout and max(self.readout) >= self.prefix_tokens:
            reads["skips"] = "left out"  # rows of a time when rollouts had them are others
        placed = {"places": [list(place) for place in self.attention.places]} if self.attention else {}
        return {
            "name": self.name,
            "weights": self.fingerprint,
            "mean": [round(float(v), 6) for v in self.mean.flatten()],
            "std": [round(float(v), 6) for v in self.std.flatten()],
            "input_size": self.input_size,
            "layers": dict(self.layers),
            "classes": None if self.classes is None else list(self.classes),
            "modules": sorted({f"{kind.__name__} {named(kind)['version']}" for kind in self._own_modules()}),
            **looked,
            **reads,
            **(placed if placed.get("places") else {}),
            **({"answers": self.answers} if self.answers else {}),
            **({"probability": self.probability} if self.probability != "softmax" else {}),
        }

    def _own_modules(self) -> set[type]:
        """Classes of the network's modules that come from none of the libraries: their code defines a score, too."""
        kinds = {type(module) for module in self.network.modules()}
        return {kind for kind in kinds if kind.__module__.split(".")[0] not in LIBRARIES}


def unwrapped(network: nn.Module) -> tuple[nn.Module, str]:
    """A network without wrappers that run it elsewhere or compiled, and what these put before its modules' names.

    Raises ValueError for TorchScript, whose modules cannot be watched.
    """
    if isinstance(network, torch.jit.ScriptModule):
        raise ValueError(
            "model: TorchScript cannot be watched layer by layer; give the nn.Module that it was made from"
        )
    # The compiler takes seconds to import; where a network is compiled, it has been.
    compiled = getattr(sys.modules.get("torch._dynamo.eval_frame"), "OptimizedModule", ())
    before = ""
    for attribute, kind in (("_orig_mod", compiled), ("module", nn.DataParallel), ("_orig_mod", compiled)):
        if isinstance(network, kind):
            network, before = getattr(network, attribute), f"{before}{attribute}."
    return network, before


def _timm_attention(network: nn.Module) -> Attention:
    """Of timm's VisionTransformer; without blocks there is none."""
    count = len(getattr(network, "blocks", ()))
    prefix = int(getattr(network, "num_prefix_tokens", 0))
    return Attention(tuple(f"blocks.{i}.attn.attn_drop" for i in range(count)), prefix)


def prepare(network: nn.Module) -> nn.Module:
    """Evaluation mode, no parameter gradients, out-of-place activations, visible attention matrices; in place."""
    network.eval().requires_grad_(False)
    mend(network)
    for module in network.modules():
        if getattr(module, "inplace", None) is True:
            module.inplace = False  # type: ignore[assignment]
        if getattr(module, "fused_attn", None) is True:
            module.fused_attn = False  # type: ignore[assignment]
    return network
