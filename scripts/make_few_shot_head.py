"""Make dix/models/embedded_vit_head.npz: a few-shot class head for the embedded Vision Transformer.

A label-smoothed softmax regression on the frozen, standardised CLS token, fitted to random crops (and their mirror
images) of the labelled photos that foolbox, scikit-image and alibi carry: one photo a class, two of one class. The
crops it is tested on, and the whole pictures, are not among those it was fitted to, but they show THE SAME PHOTOS. So
its accuracy there says that the head can tell these photos apart and nothing about unseen instances of the classes.
Photos that have an outline are also shown with the object or the background greyed: the head uses both.

Needs the demo's packages and `pip install --no-deps alibi==0.9.4` (four cats). Deterministic: no global random state,
and a convex fit from zero; another processor's rounding may change the last digits. Two minutes on one core.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

import dix
from dix.datasets.loader import contents
from dix.datasets.packages import package_file
from dix.datasets.photos import Photos
from dix.datasets.preprocess import Preprocess
from dix.models.few_shot_head import FewShotHead
from dix.models.vit_backbone import IMAGE_MEAN, IMAGE_SIZE, IMAGE_STD, SOURCE, build_backbone
from dix.seeding import generator

HEAD_FILE = Path(dix.__file__).parent / "models" / "embedded_vit_head.npz"
NOTE = (
    "Few-shot head: fitted to random crops of these photos and tested on other crops of the same photos. Its accuracy "
    "says nothing about unseen instances of the classes."
)


@dataclass(frozen=True)
class Recipe:
    """How the head is fitted.

    train_crops, test_crops: random crops of each photo; every training crop is used with its mirror image too.
    least_area: smallest share of the photo's area that a crop keeps.
    widest: largest factor between a crop's aspect and the photo's.
    smoothing: probability mass that the targets spread over all classes.
    decay: weight of the squared norm of the head's weights.
    """

    seed: int = 0
    train_crops: int = 12
    test_crops: int = 8
    least_area: float = 0.35
    widest: float = 4 / 3
    smoothing: float = 0.1
    decay: float = 1e-4


@dataclass(frozen=True)
class Photo:
    """A labelled photo; mask: [height, width] 1 object, 0 background, or None."""

    id: str
    image: Image.Image
    label: int
    mask: np.ndarray | None = None


def main() -> None:
    """Fit, report and write the head."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HEAD_FILE)
    arguments = parser.parse_args()
    recipe, photos, backbone = Recipe(), [*demo_photos(), *cats()], build_backbone()
    classes = tuple(sorted({photo.label for photo in photos}))
    train, train_labels = crop_tokens(backbone, photos, recipe, "train", recipe.train_crops, mirror=True)
    test, test_labels = crop_tokens(backbone, photos, recipe, "test", recipe.test_crops, mirror=False)
    whole = tokens(backbone, (whole_picture(photo.image) for photo in photos))
    head = fit(train, outputs(train_labels, classes), classes, recipe)
    report = {
        "train": accuracy(head, train, train_labels),
        "other crops of the same photos": accuracy(head, test, test_labels),
        "the same photos, whole": accuracy(head, whole, [photo.label for photo in photos]),
        **object_use(head, backbone, photos),
    }
    dataclasses.replace(head, facts=facts(recipe, photos, report)).save(arguments.output)
    print(f"{len(photos)} photos, {len(classes)} classes, {arguments.output.stat().st_size} bytes")
    print("\n".join(f"{name}: {value}" for name, value in report.items()))
    print(NOTE)


def demo_photos() -> list[Photo]:
    """The labelled photos of the data set `photos`."""
    source = Photos()
    labelled = [(source.read(index), label) for index, label in enumerate(source.labels) if label is not None]
    return [Photo(record.id, record.image, label, record.mask) for record, label in labelled]


def cats() -> list[Photo]:
    """Alibi's four ImageNet cats; their file names end in _<label>_<name>.jpg."""
    found = []
    with tarfile.open(package_file("alibi", "data", "cats.tar.gz")) as archive:
        for name in sorted(archive.getnames()):
            member = archive.extractfile(name)
            assert member is not None
            image = Image.open(io.BytesIO(member.read())).convert("RGB")
            found.append(Photo(name, image, int(name.split("_")[1])))
    return found


def crop_tokens(
    backbone: nn.Module, photos: Sequence[Photo], recipe: Recipe, purpose: str, count: int, *, mirror: bool
) -> tuple[Tensor, list[int]]:
    """CLS tokens [N, D] of `count` crops of each photo (twice as many if mirrored), and their labels."""
    views, labels = [], []
    for photo in photos:
        random = generator(recipe.seed, "few-shot head", photo.id, purpose)
        cropped = [whole_picture(random_crop(photo.image, recipe, random)) for _ in range(count)]
        cropped += [view.flip(-1) for view in cropped] if mirror else []
        views += cropped
        labels += [photo.label] * len(cropped)
    return tokens(backbone, views), labels


def random_crop(image: Image.Image, recipe: Recipe, random: torch.Generator) -> Image.Image:
    """A rectangle of random area, aspect and place."""
    area, aspect, left, top = torch.rand(4, generator=random, dtype=torch.float64).tolist()
    area = recipe.least_area + (1 - recipe.least_area) * area
    stretch = recipe.widest ** (aspect - 0.5)
    width, height = (min(1.0, (area * s) ** 0.5) for s in (stretch**2, stretch**-2))
    left, top = left * (1 - width), top * (1 - height)
    box = (left * image.width, top * image.height, (left + width) * image.width, (top + height) * image.height)
    return image.crop(tuple(round(edge) for edge in box))


def whole_picture(image: Image.Image) -> Tensor:
    """Pixels [3, S, S] in [0, 1] of all that the image shows."""
    return Preprocess(size=IMAGE_SIZE).image(image)


@torch.no_grad()
def tokens(backbone: nn.Module, views: Iterable[Tensor], batch: int = 16) -> Tensor:
    """Normed CLS tokens [N, D] in double precision."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGE_MEAN, IMAGE_STD))
    chunks = torch.stack(list(views)).split(batch)
    return torch.cat([backbone((chunk - mean) / std) for chunk in chunks]).double()


def outputs(labels: Sequence[int], classes: Sequence[int]) -> Tensor:
    """Index of each label's output."""
    return torch.tensor([classes.index(label) for label in labels])


def fit(train: Tensor, targets: Tensor, classes: tuple[int, ...], recipe: Recipe) -> FewShotHead:
    """Minimise cross-entropy with smoothed labels + decay * |weight|^2: convex, from zero, by L-BFGS."""
    std, mean = torch.std_mean(train, dim=0)
    standardised = (train - mean) / std
    weight = torch.zeros(len(classes), train.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(len(classes), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=500, tolerance_grad=1e-8, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        logits = functional.linear(standardised, weight, bias)
        value = functional.cross_entropy(logits, targets, label_smoothing=recipe.smoothing)
        value = value + recipe.decay * weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    arrays = {"weight": weight, "bias": bias, "mean": mean, "std": std}
    return FewShotHead(classes=classes, facts={}, **{name: array.detach().numpy() for name, array in arrays.items()})


@torch.no_grad()
def probabilities(head: FewShotHead, token: Tensor) -> Tensor:
    """[N, C] softmax of the head's logits."""
    return head.linear()(token.float()).softmax(dim=1)


def accuracy(head: FewShotHead, token: Tensor, labels: Sequence[int]) -> str:
    """Hits of n, and the mean probability of the true class."""
    found, true = probabilities(head, token), outputs(labels, head.classes)
    hits = int((found.argmax(dim=1) == true).sum())
    return f"{hits}/{len(labels)} right, mean p(true) {found.gather(1, true[:, None]).mean():.2f}"


def object_use(head: FewShotHead, backbone: nn.Module, photos: Sequence[Photo]) -> dict[str, str]:
    """The same on the photos that have masks: whole, with the object greyed, with the background greyed."""
    masked = [photo for photo in photos if photo.mask is not None]
    if not masked:
        return {}
    labels = [photo.label for photo in masked]
    views = {"whole": (), "object greyed": (1,), "background greyed": (0,)}
    return {
        f"{len(masked)} masked photos, {name}": accuracy(
            head, tokens(backbone, (greyed(photo, values) for photo in masked)), labels
        )
        for name, values in views.items()
    }


def greyed(photo: Photo, values: tuple[int, ...]) -> Tensor:
    """The picture with the pixels whose mask has one of `values` replaced by the normalisation's mean colour."""
    assert photo.mask is not None
    pixels, mask = whole_picture(photo.image), Preprocess(size=IMAGE_SIZE).mask(photo.mask)
    hidden = torch.isin(mask, torch.tensor(values, dtype=mask.dtype))
    return torch.where(hidden, torch.tensor(IMAGE_MEAN).view(3, 1, 1), pixels)


def facts(recipe: Recipe, photos: Sequence[Photo], report: dict[str, str]) -> dict[str, Any]:
    """What the file says about itself."""
    return {
        "note": NOTE,
        "made_by": "scripts/make_few_shot_head.py",
        "backbone_sha256": SOURCE.sha256,
        "recipe": dataclasses.asdict(recipe),
        "photos_contents": contents(Photos(), range(len(Photos().ids))),
        "photos": {photo.id: photo.label for photo in photos},
        "measured": report,
    }


if __name__ == "__main__":
    main()
