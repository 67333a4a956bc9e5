"""Train a classifier on a data set with its true labels, or permuted ones (Zhang et al. 2017; Adebayo et al. 2018).

Deterministic from the seed on the same machine, versions and number of threads. A checkpoint after every epoch lets an
interrupted training go on and end with the weights of an uninterrupted one.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from scipy.stats import binomtest
from torch import Tensor, nn

from dix.bench.sanity.settings import Train
from dix.bench.store.errors import differing
from dix.classifier import Classifier
from dix.datasets.api import Dataset
from dix.datasets.loader import Batch, Loader, contents
from dix.datasets.preprocess import Preprocess
from dix.files import write_atomic
from dix.seeding import generator

OPTIMISERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "sgd": partial(torch.optim.SGD, momentum=0.9),
}
LABELS: Mapping[str, Callable[[Sequence[int], torch.Generator], list[int]]] = {
    "true": lambda labels, draws: list(labels),
    "permuted": lambda labels, draws: [labels[i] for i in torch.randperm(len(labels), generator=draws)],
}
#: Cells a side of the grid whose cells are deleted, as `dix.metrics.single_deletion` has it by default.
DELETION_GRID = 4
#: Called after each epoch with (epochs done, epochs in all, share of the epoch's images that were right).
Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Task:
    """What is trained on what.

    classifier: its weights are changed in place; they are its initial ones. identity: whatever else defines the
    result, as plain values. workers: threads that decode. about: what else the provenance says (machine, commit).
    """

    classifier: Classifier
    train: Dataset
    held_out: Dataset | None
    preprocess: Preprocess
    settings: Train
    identity: Mapping[str, Any]
    workers: int = 2
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Trained:
    """The end of a training: accuracies are shares of images right in evaluation mode.

    train_accuracy: on the training images, by the labels trained on. test_accuracy: on the held-out images, by their
    true labels.
    """

    epochs: int
    train_images: int
    train_accuracy: float
    test_images: int = 0
    test_correct: int = 0
    history: list[float] = field(default_factory=list)

    @property
    def test_accuracy(self) -> float:
        """NaN without held-out images."""
        return self.test_correct / self.test_images if self.test_images else float("nan")

    def test_interval(self, level: float = 0.95) -> tuple[float, float]:
        """The exact binomial interval of the test accuracy (Clopper & Pearson 1934)."""
        found = binomtest(self.test_correct, self.test_images).proportion_ci(level, method="exact")
        return float(found.low), float(found.high)


def train(task: Task, progress: Progress | None = None) -> Trained:
    """Train, and write the weights to `settings.out`; what was trained before with the same settings is not repeated.

    Raises ValueError for a setting outside its range, a data set without labels, and a checkpoint of other settings.
    """
    _check(task.settings)
    out = Path(task.settings.out)
    identity = _identity(task)
    finished = _finished(out, identity)
    if finished is not None:
        return finished
    training = _Training(task, identity, out)
    training.run(progress or (lambda done, total, accuracy: None))
    trained = training.result()
    state = _portable(task.classifier.network)
    write_atomic(out, safetensors.torch.save(state))
    text = json.dumps(_provenance(task, identity, trained, out), indent=1, sort_keys=True) + "\n"
    write_atomic(out.with_suffix(".json"), text)
    training.checkpoint.unlink(missing_ok=True)
    return trained


def _check(settings: Train) -> None:
    for key, got, allowed in (
        ("optimiser", settings.optimiser, OPTIMISERS),
        ("labels", settings.labels, LABELS),
    ):
        if got not in allowed:
            raise ValueError(f"train.{key}: expected one of {', '.join(allowed)}, got {got!r}")
    if settings.epochs < 1 or settings.batch_size < 2 or not settings.lr > 0:
        raise ValueError(
            "train: expected epochs >= 1, batch_size >= 2 and lr > 0, got "
            f"{settings.epochs}, {settings.batch_size} and {settings.lr}"
        )
    if not 0 <= settings.deletions <= DELETION_GRID**2:
        raise ValueError(f"train.deletions: expected 0 to {DELETION_GRID**2} cells, got {settings.deletions}")
    if Path(settings.out).suffix != ".safetensors":
        raise ValueError(f"train.out: expected a path that ends in .safetensors, got {settings.out}")


def _identity(task: Task) -> dict[str, Any]:
    settings = {key: value for key, value in asdict(task.settings).items() if key not in ("out", "cache")}
    if not settings["deletions"]:  # as before there was such a setting
        del settings["deletions"]
    return json.loads(
        json.dumps(
            {
                **task.identity,
                "initial_weights": task.classifier.fingerprint,
                "train": settings,
                "data": [task.train.name, task.train.fingerprint(), len(task.train.ids), _content(task.train)],
                "preprocess": task.preprocess.identity(),
            }
        )
    )


def _content(dataset: Dataset) -> str:
    """One digest of all images: weights are those of a data set only as long as none of its pictures changes."""
    digests = contents(dataset, range(len(dataset.ids)))
    return hashlib.sha256(json.dumps(sorted(digests.items())).encode()).hexdigest()


def _provenance(task: Task, identity: Mapping[str, Any], trained: Trained, out: Path) -> dict[str, Any]:
    told: dict[str, Any] = asdict(trained)
    if trained.test_images:
        told |= {"test_accuracy": trained.test_accuracy, "test_interval_95": trained.test_interval()}
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    return {"identity": identity, "trained": told, "sha256": digest, "about": dict(task.about)}


def _finished(out: Path, identity: Mapping[str, Any]) -> Trained | None:
    """What the provenance beside the weights says, where it is of the same training."""
    record_file = out.with_suffix(".json")
    if not (out.is_file() and record_file.is_file()):
        return None
    record = json.loads(record_file.read_text(encoding="utf-8"))
    others = _others(record["identity"], identity)
    if record["sha256"] != hashlib.sha256(out.read_bytes()).hexdigest():
        others.append(f"the file is not the one that {record_file.name} is about")
    if others:
        raise ValueError(_refusal(out, "holds weights of another training", others))
    return Trained(**{key.name: record["trained"][key.name] for key in fields(Trained)})


def _others(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """What a recorded training has otherwise, a line each; versions that the record has besides entered no training."""
    versions = wanted.get("versions", {})
    entering = {name: version for name, version in stored.get("versions", {}).items() if name in versions}
    return differing({**stored, "versions": entering}, {**wanted, "versions": versions})


def _refusal(path: Path, what: str, others: Sequence[str]) -> str:
    return "\n  ".join([f"train.out: {path} {what}; name another file, or remove it. What differs:", *others])


class _Training:
    """The state of one training."""

    def __init__(self, task: Task, identity: Mapping[str, Any], out: Path) -> None:
        self.task = task
        self.settings = task.settings
        self.network = task.classifier.network
        self.identity = identity
        self.checkpoint = out.with_suffix(".checkpoint")
        known = _labels(task.train, task.classifier)
        self.labels = torch.tensor(LABELS[self.settings.labels](known, self._draws("labels")))
        self.network.requires_grad_(True)
        trainable = list(self.network.parameters())
        self.optimiser = OPTIMISERS[self.settings.optimiser](
            trainable, lr=self.settings.lr, weight_decay=self.settings.weight_decay
        )
        self.rate = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, self.settings.epochs)
        self.history: list[float] = []
        self.cached = self._decoded() if self.settings.cache else None

    def run(self, progress: Progress) -> None:
        """All epochs that are left."""
        self._resume()
        while len(self.history) < self.settings.epochs and not self._good_enough():
            accuracy = self._epoch(len(self.history))
            self.rate.step()
            self.history.append(accuracy)
            self._save()
            progress(len(self.history), self.settings.epochs, accuracy)
        self.network.eval().requires_grad_(False)
        self.task.classifier.__dict__.pop("fingerprint", None)

    def result(self) -> Trained:
        """Accuracies of the final weights."""
        correct, count = self._right(self._batches(range(len(self.labels)), self.cached))
        held_out = self.task.held_out
        trained = Trained(len(self.history), count, correct / count, history=self.history)
        if held_out is not None:
            truth = torch.tensor(_labels(held_out, self.task.classifier))
            batches = self._read(held_out, range(len(held_out.ids)))
            trained.test_correct, trained.test_images = self._right((x, truth[i]) for x, i in batches)
        return trained

    def _draws(self, *purpose: object) -> torch.Generator:
        return generator(self.settings.seed, self.task.train.name, "train", *purpose)

    def _good_enough(self) -> bool:
        return bool(self.history) and self.history[-1] >= self.settings.stop_accuracy

    def _epoch(self, epoch: int) -> float:
        """One pass over the images in a seeded order; the share that was right while training."""
        order = torch.randperm(len(self.labels), generator=self._draws("order", epoch)).tolist()
        right = seen = 0
        draws = self._draws("deletions", epoch)
        self.network.train()
        with _seeded_dropout(self._draws("dropout", epoch).initial_seed(), self.task.classifier.device):
            for images, labels in self._batches(order, self.cached):
                if len(images) > 1:  # batch normalisation has no statistics of one image
                    right += self._step(deleted(images, self.settings.deletions, draws), labels)
                    seen += len(images)
        return right / max(1, seen)

    def _step(self, images: Tensor, labels: Tensor) -> int:
        classifier = self.task.classifier
        images, labels = images.to(classifier.device, classifier.dtype), labels.to(classifier.device)
        logits = classifier.logits(images)
        loss = F.cross_entropy(logits, labels)
        if not torch.isfinite(loss):
            raise ValueError(f"the training diverged (loss {loss.item()}): lower train.lr (now {self.settings.lr})")
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        return int((logits.argmax(dim=1) == labels).sum())

    def _right(self, batches: Iterator[tuple[Tensor, Tensor]]) -> tuple[int, int]:
        """Images right, and in all, in evaluation mode."""
        classifier = self.task.classifier
        right = count = 0
        with torch.no_grad():
            for images, labels in batches:
                logits = classifier.logits(images.to(classifier.device, classifier.dtype))
                right += int((logits.argmax(dim=1).cpu() == labels).sum())
                count += len(labels)
        return right, count

    def _batches(self, order: Sequence[int], cached: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
        if cached is None:
            yield from ((images, self.labels[i]) for images, i in self._read(self.task.train, order))
            return
        for i in torch.tensor(list(order)).split(self.settings.batch_size):
            yield cached[i], self.labels[i]

    def _read(self, dataset: Dataset, order: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and their positions in the data set; raises CorruptSample for an unreadable one."""
        size = self.settings.batch_size
        groups = [order[start : start + size] for start in range(0, len(order), size)]
        loader: Iterator[Batch] = iter(Loader(dataset, self.task.preprocess, groups, self.task.workers))
        for group, batch in zip(groups, loader, strict=True):
            yield batch.images, torch.tensor(list(group))

    def _decoded(self) -> Tensor:
        return torch.cat([images for images, _ in self._read(self.task.train, range(len(self.labels)))])

    def _save(self) -> None:
        state = {
            "identity": dict(self.identity),
            "history": self.history,
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "rate": self.rate.state_dict(),
        }
        stream = io.BytesIO()
        torch.save(state, stream)
        write_atomic(self.checkpoint, stream.getvalue())

    def _resume(self) -> None:
        if not self.checkpoint.is_file():
            return
        state = torch.load(self.checkpoint, map_location=self.task.classifier.device, weights_only=True)
        others = _others(state["identity"], self.identity) if "identity" in state else ["it does not say of which"]
        if others:
            raise ValueError(_refusal(self.checkpoint, "is of a training with other settings", others))
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.rate.load_state_dict(state["rate"])
        self.history = list(state["history"])


def deleted(images: Tensor, most: int, draws: torch.Generator) -> Tensor:
    """Images [B, 3, H, W] with 0 to `most` cells of a 4 x 4 grid black, as many as drawn, each as likely as another.

    A network trained on them has seen what single deletion shows it (R. Hesse et al., NeurIPS 2024).
    """
    if not most:
        return images
    cells = DELETION_GRID**2
    turn = torch.rand(len(images), cells, generator=draws).argsort(dim=1).argsort(dim=1)
    count = torch.randint(most + 1, (len(images), 1), generator=draws)
    kept = (turn >= count).to(images).view(-1, 1, DELETION_GRID, DELETION_GRID)
    return images * F.interpolate(kept, images.shape[-2:], mode="nearest")


def _labels(dataset: Dataset, classifier: Classifier) -> list[int]:
    """Every image's label as an output of the classifier. Raises ValueError where one has none."""
    labels = list(dataset.labels)
    if not labels or any(label is None for label in labels):
        raise ValueError(f"dataset: expected a label for every image of {dataset.name}, and some have none")
    if dataset.label_space != classifier.label_space:
        raise ValueError(
            f"dataset: expected labels of the space {classifier.label_space} that {classifier.name} knows, got "
            f"{dataset.label_space}"
        )
    outputs: list[int] = classifier.output_of(torch.tensor(labels, device=classifier.device)).tolist()
    if min(outputs) < 0:
        raise ValueError(f"dataset: {dataset.name} has labels that no output of {classifier.name} means")
    return outputs


@contextmanager
def _seeded_dropout(seed: int, device: torch.device) -> Iterator[None]:
    """Dropout knows only torch's own generators: seeded for an epoch, and put back after it."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def _portable(network: nn.Module) -> dict[str, Tensor]:
    """Tensors as the model's builder reads them: without the prefix of a wrapper around the whole network."""
    state = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in network.state_dict().items()}
    prefix = "network."
    if all(key.startswith(prefix) for key in state):
        return {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state
