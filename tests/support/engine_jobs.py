"""A tiny job for engine tests: a linear classifier, eight made images, and metrics whose scores follow by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from dix.baselines.controls import Ones, Random
from dix.bench.run.job import Job
from dix.bench.run.settings import Run, ScoreProtocol
from dix.classifier import Classifier, Weights
from dix.datasets.api import CorruptSample, Record
from dix.datasets.preprocess import Preprocess
from dix.explainer import Explainer
from dix.metrics.faithfulness import Del, Ins, Neg, Pos
from dix.passes import Passes

SIZE = 8
FRACTIONS = (0.0, 0.25, 0.5, 0.75)


class TwoHalves(nn.Module):
    """Class 0 scores the left half's mean, class 1 the right half's; images [M, 3, H, W] to logits [M, 2]."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d((1, 2))
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, images: Tensor) -> Tensor:
        """Logits [M, 2]."""
        return self.scale * self.pool(images).mean(dim=1).flatten(1)


def classifier(name: str = "halves") -> Classifier:
    """The two-halves network without normalisation."""
    return Classifier(
        name,
        TwoHalves(),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        input_size=SIZE,
        layers={"last": "pool"},
        kind="cnn",
        weights=Weights("made for tests", trained=True),
    )


@dataclass(frozen=True)
class Made:
    """`count` grey images; every even one is brighter on the left (class 0), every odd one on the right (class 1)."""

    count: int = 8
    name: str = "made"
    label_space: str | None = "imagenet"
    broken: tuple[int, ...] = ()
    salt: str = ""
    ids: Sequence[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", tuple(f"image{i}" for i in range(self.count)))

    @property
    def labels(self) -> Sequence[int | None]:
        """0 for every even image, 1 for every odd one."""
        return tuple(index % 2 for index in range(self.count))

    @property
    def class_names(self) -> Mapping[int, str]:
        """None."""
        return {}

    def read(self, index: int) -> Record:
        """Image `index`; raises CorruptSample for the broken ones."""
        if index in self.broken:
            raise CorruptSample(f"image{index}: made to be unreadable")
        pixels = np.random.default_rng(index).integers(40, 120, (SIZE, SIZE, 3), dtype=np.uint8)
        half = slice(0, SIZE // 2) if index % 2 == 0 else slice(SIZE // 2, SIZE)
        pixels[:, half] += 100
        return Record(self.ids[index], Image.fromarray(pixels), label=index % 2)

    def fingerprint(self) -> str:
        """Depends on the count and the salt."""
        return f"{self.count}{self.salt}"


@dataclass(frozen=True)
class Brightness:
    """Explains with the pixels' own brightness, which is right for the two halves."""

    label: str = "Brightness"
    extra: bool = True

    def unsupported(self, classifier: Classifier) -> str:
        """Every classifier will do."""
        return ""

    def explain(self, passes: Passes) -> Tensor:
        """[B, H, W] mean over channels."""
        return passes.images.mean(dim=1)


@dataclass(frozen=True)
class Failing(Brightness):
    """Raises on the batch that holds `image`."""

    image: str = "image5"

    def explain(self, passes: Passes) -> Tensor:
        """Raise, or explain as Brightness does."""
        if self.image in passes.ids:
            raise RuntimeError("made to fail")
        return super().explain(passes)


@dataclass(frozen=True)
class NotFinite(Brightness):
    """Gives a map of NaN for one image."""

    image: str = "image2"

    def explain(self, passes: Passes) -> Tensor:
        """[B, H, W] brightness, NaN for the image."""
        maps = super().explain(passes).clone()
        for i, name in enumerate(passes.ids):
            if name == self.image:
                maps[i] = float("nan")
        return maps


@dataclass(frozen=True)
class Impossible(Brightness):
    """Can explain nothing."""

    def unsupported(self, classifier: Classifier) -> str:
        """The reason that tables show."""
        return "needs what this model has not"


def protocol(**changes: object) -> ScoreProtocol:
    """The thesis's choices for tests."""
    return ScoreProtocol(name="tested", version=1, **changes)  # type: ignore[arg-type]


def job(
    methods: dict[str, Explainer] | None = None,
    dataset: Made | None = None,
    model: Classifier | None = None,
    **run: object,
) -> Job:
    """A job on the made images; by default brightness and random maps, four metrics, batches of three."""
    settings = {"batch_size": 3, "workers": 0, "gallery": 0, "flush_seconds": 0.0, **run}
    return Job(
        classifier=model or classifier(),
        dataset=dataset or Made(),
        preprocess=Preprocess(size=SIZE),
        methods=methods or {"brightness": Brightness(), "random": Random(), "ones": Ones()},
        metrics={"neg": Neg(FRACTIONS), "pos": Pos(FRACTIONS), "ins": Ins(FRACTIONS), "deletion": Del(FRACTIONS)},
        protocol=protocol(),
        run=Run(name="tested", **settings),  # type: ignore[arg-type]
    )
