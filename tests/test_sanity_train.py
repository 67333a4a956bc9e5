"""Training: deterministic, resumable, memorising permuted labels, and readable by the model's own builder."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.small_networks import SIDE, small_cnn

from dix.bench.sanity.settings import Train
from dix.bench.sanity.train import Task, Trained, train
from dix.classifier import Classifier
from dix.cli import main
from dix.datasets.api import Dataset, Record
from dix.datasets.imagenet import ImageNet
from dix.datasets.mnist import Mnist
from dix.datasets.preprocess import Preprocess
from dix.datasets.subset import select
from dix.models.zoo import lenet5

LAYERS = {"last": "network.bn2", "second": "network.pool1", "third": "network.relu1"}
#: Synsets of ImageNet's classes 0, 1 and 2.
SYNSETS = ("n01440764", "n01443537", "n01484850")


def digits(path: Path, **changes: object) -> Task:
    """LeNet-5 on 120 digits."""
    settings = Train(out=str(path), epochs=4, batch_size=20, lr=0.003, cache=True)
    return Task(
        classifier=lenet5("lenet5", LAYERS),
        train=select(Mnist(part="train"), "random:120"),
        held_out=select(Mnist(), "random:100"),
        preprocess=Preprocess(size=32, resize="pad"),
        settings=replace(settings, **changes),  # type: ignore[arg-type]
        identity={"model": "lenet5"},
        workers=0,
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training tree as ImageNet's: a folder for each of three synsets, four pictures in each, a colour a class."""
    root = tmp_path_factory.mktemp("imagenet")
    for label, synset in enumerate(SYNSETS):
        (root / synset).mkdir()
        for number in range(4):
            pixels = np.random.default_rng(10 * label + number).integers(0, 60, (80, 90, 3), dtype=np.uint8)
            pixels[..., label] += 150
            Image.fromarray(pixels).save(root / synset / f"{synset}_{number}.JPEG")
    return root


def pictures(tree: Path, out: Path, **changes: object) -> Task:
    """A small VGG with dropout on the tree."""
    settings = Train(out=str(out), epochs=6, batch_size=5, optimiser="sgd", lr=0.01)
    dataset: Dataset = ImageNet(root=str(tree))
    return Task(
        classifier=small_cnn("vgg", torch.float32),
        train=dataset,
        held_out=dataset,
        preprocess=Preprocess(size=SIDE),
        settings=replace(settings, **changes),  # type: ignore[arg-type]
        identity={"model": "vgg"},
        workers=0,
    )


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def interrupted_after(epochs: int, task: Task) -> None:
    """Train until an epoch is done, and no further."""

    def stop(done: int, total: int, accuracy: float) -> None:
        if done == epochs:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(task, stop)


def test_two_trainings_give_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.safetensors" for name in ("a", "b", "c")]
    torch.manual_seed(1)
    train(digits(files[0]))
    torch.manual_seed(2)
    train(digits(files[1]))
    train(digits(files[2], seed=1))
    assert digest(files[0]) == digest(files[1]) != digest(files[2])


def test_dropout_hangs_on_the_seed_alone(tree: Path, tmp_path: Path) -> None:
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for number, file in enumerate(files):
        torch.manual_seed(number)
        train(pictures(tree, file, epochs=2))
    assert digest(files[0]) == digest(files[1])


class Watched(Mnist):
    """Notes which digits are read."""

    def read(self, index: int) -> Record:
        """One digit."""
        self.__dict__.setdefault("seen", []).append(index)
        return super().read(index)


def test_every_epoch_sees_every_image_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    watched = Watched(part="test")
    task = digits(tmp_path / "a.safetensors", epochs=2, cache=False, batch_size=100)
    train(replace(task, train=watched, held_out=None))
    seen = watched.__dict__["seen"]
    first, second = seen[:1000], seen[1000:2000]
    assert sorted(first) == sorted(second) == list(range(1000))
    assert len({tuple(first), tuple(second), tuple(range(1000))}) == 3


def test_the_embedded_digits_are_learnt(tmp_path: Path) -> None:
    trained = train(digits(tmp_path / "a.safetensors", epochs=15))
    assert trained.train_accuracy > 0.95
    assert trained.train_images == 120
    assert trained.test_images == 100
    assert trained.test_accuracy > 0.5


def test_permuted_labels_are_memorised_and_tell_nothing_about_other_images(tmp_path: Path) -> None:
    trained = train(digits(tmp_path / "a.safetensors", epochs=60, labels="permuted"))
    assert trained.train_accuracy > 0.95
    low, high = trained.test_interval()
    assert low < 0.1 < high


def test_permuted_labels_are_the_same_labels_in_another_order(tmp_path: Path) -> None:
    from dix.bench.sanity.train import LABELS

    labels = list(range(10)) * 30
    dealt = LABELS["permuted"](labels, torch.Generator().manual_seed(0))
    assert Counter(dealt) == Counter(labels)
    agree = sum(a == b for a, b in zip(labels, dealt, strict=True))
    assert agree < 60  # 30 expected by chance


def test_the_interval_is_clopper_and_pearsons() -> None:
    from scipy.stats import beta

    low, high = Trained(1, 10, 1.0, test_images=1000, test_correct=94).test_interval()
    assert low == pytest.approx(beta.ppf(0.025, 94, 907))
    assert high == pytest.approx(beta.ppf(0.975, 95, 906))


def test_the_builder_reads_the_weights(tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    task = digits(out)
    train(task)
    again = lenet5("lenet5", LAYERS, weights=str(out))
    assert again.fingerprint == task.classifier.fingerprint
    assert not any(p.requires_grad for p in task.classifier.network.parameters())
    assert not task.classifier.network.training


@pytest.mark.parametrize("after", [1, 4])
def test_an_interrupted_training_ends_with_the_same_weights(tree: Path, tmp_path: Path, after: int) -> None:
    """With dropout, momentum and a falling rate, so that nothing of the state may be forgotten."""
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    expected = train(pictures(tree, whole))
    interrupted_after(after, pictures(tree, parts))
    assert parts.with_suffix(".checkpoint").is_file()
    seen: list[int] = []
    found = train(pictures(tree, parts), lambda done, total, accuracy: seen.append(done))
    assert seen == list(range(after + 1, 7))
    assert digest(whole) == digest(parts)
    assert found == expected
    assert not parts.with_suffix(".checkpoint").exists()


def test_a_tree_of_synsets_is_learnt_with_true_and_with_permuted_labels(tree: Path, tmp_path: Path) -> None:
    changes = {"epochs": 40, "optimiser": "adam", "lr": 0.002}
    true = train(pictures(tree, tmp_path / "t.safetensors", **changes))
    permuted = train(pictures(tree, tmp_path / "p.safetensors", labels="permuted", **changes))
    assert true.train_accuracy == 1.0
    assert true.test_correct == 12
    assert permuted.train_images == 12
    assert permuted.test_correct < 12  # the same images by their true labels, which were not the ones trained on


def test_training_stops_when_it_is_good_enough(tree: Path, tmp_path: Path) -> None:
    trained = train(pictures(tree, tmp_path / "a.safetensors", stop_accuracy=0.0))
    assert trained.epochs == 1


def test_provenance_lies_beside_and_a_second_training_is_not_repeated(tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    first = train(digits(out))
    record = json.loads(out.with_suffix(".json").read_text())
    assert record["sha256"] == digest(out)
    assert record["identity"]["train"]["seed"] == 0
    assert record["trained"]["train_accuracy"] == first.train_accuracy
    written = out.stat().st_mtime_ns
    assert train(digits(out)) == first
    assert out.stat().st_mtime_ns == written


def test_weights_of_another_training_are_never_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    train(digits(out, epochs=1))
    with pytest.raises(ValueError, match="holds weights of another training"):
        train(digits(out, epochs=2))
    other = tmp_path / "b.safetensors"
    interrupted_after(1, digits(other))
    with pytest.raises(
        ValueError, match=r"of a training with other settings; [^\n]*\n  train.lr: stored 0.003, wanted 0.1$"
    ):
        train(digits(other, lr=0.1))


def test_only_versions_that_enter_a_training_tell_trainings_apart(tmp_path: Path) -> None:
    """A record of an older edition names packages that no training uses, and one that it uses."""
    out = tmp_path / "a.safetensors"
    installed = {"torch": "2", "numpy": "2"}

    def task() -> Task:
        """Each with a network of its own: a training changes the one that it is given."""
        return replace(digits(out, epochs=1), identity={"model": "lenet5", "versions": installed})

    first = train(task())
    path = out.with_suffix(".json")
    record = json.loads(path.read_text())
    record["identity"]["versions"] |= {"zennit": "1", "lxt": "not installed"}
    path.write_text(json.dumps(record))
    assert train(task()) == first
    record["identity"]["versions"]["numpy"] = "1"
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"another training; .*:\n  versions.numpy: stored '1', wanted '2'$"):
        train(task())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimiser": "lion"}, "train.optimiser: expected one of adam, sgd, got 'lion'"),
        ({"labels": "shuffled"}, "train.labels: expected one of true, permuted, got 'shuffled'"),
        ({"epochs": 0}, "expected epochs >= 1"),
        ({"out": "weights.pth"}, "train.out: expected a path that ends in .safetensors"),
        ({"lr": 1e30}, "the training diverged"),
    ],
)
def test_mistakes_are_said(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        train(digits(tmp_path / "a.safetensors", **changes))


def test_labels_of_another_space_are_said(tmp_path: Path) -> None:
    task = digits(tmp_path / "a.safetensors")
    task = replace(task, classifier=_imagenet_like())
    with pytest.raises(ValueError, match="expected labels of the space imagenet that vgg knows, got mnist"):
        train(task)


def _imagenet_like() -> Classifier:
    return small_cnn("vgg", torch.float32)


def test_without_held_out_images_there_is_no_test_accuracy(tree: Path, tmp_path: Path) -> None:
    trained = train(replace(pictures(tree, tmp_path / "a.safetensors", epochs=1), held_out=None))
    assert math.isnan(trained.test_accuracy)


def test_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["train", "experiment=train_digits", "dataset.subset=random:60", "train.epochs=2", "run.workers=0"]
    assert main([*words, "train.labels=permuted"]) == 0
    out = tmp_path / "results" / "sanity" / "weights" / "lenet5_permuted.safetensors"
    record = json.loads(out.with_suffix(".json").read_text())
    assert record["trained"]["test_images"] == 60
    assert {"machine", "commit"} <= set(record["about"])
    assert "2 epochs" in capsys.readouterr().out
    assert main([*words, "train.labels=nonsense"]) == 1
    assert "train.labels" in capsys.readouterr().err
    assert main([*words, "train.held_out=[part]"]) == 1
    assert "train.held_out: expected settings of the data set such as part:test, got 'part'" in capsys.readouterr().err
    assert main([*words, "train.held_out=[part:train]", "train.out=other.safetensors"]) == 0
    assert json.loads(Path("other.json").read_text())["trained"]["test_images"] == 60
