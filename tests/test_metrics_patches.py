"""Patches that are left out: against a literal Vision Transformer in double precision, with tokens counted by hooks."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import pytest
import torch
from support.engine_jobs import Brightness, Made
from support.protocols import metrics, settings
from support.small_networks import MEAN, STD, VIT_SIDE, pixels, randomise, small_cnn, small_vit
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from dix.bench.run.batch import Maps, Prepared, maps, predict, prepare
from dix.bench.run.calibrate import calibrate
from dix.bench.run.evaluate import evaluate
from dix.bench.run.job import Job
from dix.bench.run.scorer import Score, Scorer
from dix.bench.run.settings import Run, ScoreProtocol
from dix.bench.store.results import ResultStore
from dix.classifier import Classifier, Weights
from dix.datasets.loader import Batch, load
from dix.datasets.photos import Photos
from dix.datasets.preprocess import Preprocess
from dix.explainer import Dix
from dix.maps import faults
from dix.metrics.api import Case, ImageBatch, Prediction
from dix.metrics.patches import LeftOut, by_patch
from dix.models.zoo import embedded_vit_small
from dix.patches import cannot_leave_out, showing

MASKING = ("neg", "pos", "ins", "deletion")


def job_of(classifier: Classifier, protocol: ScoreProtocol, *names: str) -> Job:
    preprocess = Preprocess(classifier.input_size)
    return Job(classifier, Photos(), preprocess, {}, metrics(protocol, *names), protocol, Run(name="tested"))


def scores_of(job: Job, prepared: Prepared, relevance: Tensor, chunk: int = 8) -> dict[str, list[Score]]:
    """What the program makes of maps [B, H, W] of a prepared batch."""
    made = Maps(relevance, tuple(faults(relevance)))

    def ask(images: Tensor, targets: Tensor, /, *, raw: bool = False, kept: Tensor | None = None) -> Prediction:
        return predict(job.classifier, images, targets, chunk, raw, kept)

    scorer = Scorer(made, Case(prepared.images, made.sound), ask)
    return {name: scorer.score(metric) for name, metric in job.metrics.items()}


@dataclass(frozen=True)
class Literal:
    """A Vision Transformer of timm's layout, written out: one image, some of its patches."""

    net: nn.Module

    def __call__(self, image: Tensor, kept: list[int]) -> Tensor:
        """Logits [K] of a normalised image [3, H, W] of which the patches `kept` are fed, numbered row by row."""
        net, size = self.net, self.net.patch_embed.patch_size[0]
        columns = image.shape[2] // size
        weight, bias = net.patch_embed.proj.weight.flatten(1), net.patch_embed.proj.bias
        positions = net.pos_embed[0]
        tokens = [net.cls_token[0, 0] + positions[0]]
        for patch in kept:
            top, left = size * (patch // columns), size * (patch % columns)
            piece = image[:, top : top + size, left : left + size].flatten()
            tokens.append(weight @ piece + bias + positions[1 + patch])
        x = torch.stack(tokens)
        for block in net.blocks:
            x = x + scale(block.ls1, self.attend(block.attn, norm(block.norm1, x)))
            x = x + scale(block.ls2, self.perceive(block.mlp, norm(block.norm2, x)))
        return net.head.weight @ norm(net.norm, x)[0] + net.head.bias

    @staticmethod
    def attend(attention: nn.Module, x: Tensor) -> Tensor:
        width = x.shape[1] // attention.num_heads
        joint = x @ attention.qkv.weight.T + attention.qkv.bias
        heads = []
        for head in range(attention.num_heads):
            q, k, v = (joint[:, i * x.shape[1] + head * width :][:, :width] for i in range(3))
            heads.append(((q @ k.T) / math.sqrt(width)).softmax(dim=1) @ v)
        return torch.cat(heads, dim=1) @ attention.proj.weight.T + attention.proj.bias

    @staticmethod
    def perceive(mlp: nn.Module, x: Tensor) -> Tensor:
        hidden = x @ mlp.fc1.weight.T + mlp.fc1.bias
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        return hidden @ mlp.fc2.weight.T + mlp.fc2.bias


def norm(layer: nn.Module, x: Tensor) -> Tensor:
    spread = x.var(dim=1, unbiased=False, keepdim=True)
    return (x - x.mean(dim=1, keepdim=True)) / (spread + layer.eps).sqrt() * layer.weight + layer.bias


def scale(layer: nn.Module, x: Tensor) -> Tensor:
    return x * layer.gamma if hasattr(layer, "gamma") else x


def literal_curves(classifier: Classifier, image: Tensor, relevance: Tensor, most: bool) -> tuple[list[float], ...]:
    """Hits and probabilities of the predicted class while tenths of the patches are left out, one patch a time."""
    size = classifier.network.patch_embed.patch_size[0]
    side = classifier.input_size // size
    value = []
    for patch in range(side * side):
        top, left = size * (patch // side), size * (patch % side)
        value.append(math.fsum(relevance[top : top + size, left : left + size].flatten().tolist()))
    order = sorted(range(side * side), key=lambda i: (value[i], i), reverse=most)
    ask, seen = Literal(classifier.network), (image - classifier.mean[0]) / classifier.std[0]
    own = int(ask(seen, list(range(side * side))).argmax())
    hits, probabilities = [], []
    for level in range(10):
        logits = ask(seen, sorted(order[level * side * side // 10 :]))
        hits.append(float(int(logits.argmax()) == own))
        probabilities.append(float(logits.softmax(dim=0)[own]))
    return hits, probabilities


@cache
def vit(kind: str) -> Classifier:
    return small_vit() if kind == "small" else embedded_vit_small("vit_small_embedded").to("cpu", torch.float64)


def batch_of(kind: str) -> Batch:
    """A photo, or three made images for the small network."""
    if kind == "embedded":
        return load(Photos(), Preprocess(224), [5])
    images = pixels(3, VIT_SIDE)
    return Batch(("a", "b", "c"), images, torch.full((3,), -1), None, torch.zeros(3, dtype=torch.bool), ["", "", ""])


def relevance_of(kind: str, prepared: Prepared) -> Tensor:
    """Maps [B, H, W]: pixels' brightness, or DIX and a constant, where the order of the patches decides."""
    if kind == "embedded":
        return prepared.images.images.mean(dim=1)
    made = maps(Dix(depth=1), prepared.passes, "bilinear").values.clone()
    made[-1] = 0.25
    return made


@pytest.mark.parametrize("kind", ["small", "embedded"])
def test_curves_are_those_of_a_literal_transformer_fed_the_kept_patches(kind: str) -> None:
    classifier = vit(kind)
    job = job_of(classifier, settings("drop", dtype="float64"), *MASKING)
    prepared = prepare(job, batch_of(kind))
    relevance = relevance_of(kind, prepared)
    got = scores_of(job, prepared, relevance)
    for i, image in enumerate(prepared.images.images):
        for least, soft, most in (("neg", "ins", False), ("pos", "deletion", True)):
            hits, probabilities = literal_curves(classifier, image, relevance[i], most)
            assert list(got[least][i].curve) == hits
            assert list(got[soft][i].curve) == pytest.approx(probabilities, abs=1e-9)


@contextmanager
def tokens(classifier: Classifier) -> Iterator[list[int]]:
    """Count the tokens that enter the first block, all rows together."""
    counted: list[int] = []
    block = classifier.network.get_submodule("blocks.0")
    handle = block.register_forward_hook(lambda _m, given, _o: counted.append(given[0].shape[0] * given[0].shape[1]))
    try:
        yield counted
    finally:
        handle.remove()


@pytest.mark.parametrize("kind", ["small", "embedded"])
def test_about_half_the_tokens_of_black_are_fed(kind: str) -> None:
    classifier, batch = vit(kind), batch_of(kind)
    patches, found = {"small": 16, "embedded": 256}[kind], {}
    orders = {"small": 2, "embedded": 1}[kind]
    for name in ("thesis", "drop"):
        job = job_of(classifier, settings(name, dtype="float64"), *MASKING[:orders])
        prepared = prepare(job, batch)
        with tokens(classifier) as counted:
            scores_of(job, prepared, prepared.images.images.mean(dim=1))
        found[name] = sum(counted)
    count = len(batch.ids)
    kept = sum(1 + patches - level * patches // 10 for level in range(1, 10))
    assert found["thesis"] == orders * count * 9 * (1 + patches)
    assert found["drop"] == orders * count * kept
    share = found["drop"] / found["thesis"]
    print(f"{kind}: {found['drop']} tokens instead of {found['thesis']}, {100 * share:.1f} %")
    assert share == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("ties", ["index", "random"])
def test_a_score_hangs_on_neither_the_batch_nor_the_chunk(ties: str) -> None:
    classifier, batch = vit("small"), batch_of("small")
    job = job_of(classifier, settings("drop", dtype="float64", ties=ties), *MASKING)
    prepared = prepare(job, batch)
    relevance = prepared.images.images.mean(dim=1).round(decimals=1)
    together = scores_of(job, prepared, relevance)
    for i in range(3):
        one = replace(
            batch, ids=batch.ids[i : i + 1], images=batch.images[i : i + 1], labels=batch.labels[i : i + 1],
            has_mask=batch.has_mask[i : i + 1], contents=[""],
        )  # fmt: skip
        alone = scores_of(job, prepare(job, one), relevance[i : i + 1], chunk=1)
        for metric in MASKING:
            assert list(alone[metric][0].curve) == pytest.approx(list(together[metric][i].curve), abs=1e-12)


def made_batch(grid: tuple[int, int], side: int) -> ImageBatch:
    nobody = Prediction(torch.zeros(1), torch.zeros(1, dtype=torch.int64))
    return ImageBatch(["a"], torch.zeros(1, 3, side, side), nobody.predicted, nobody, nobody.predicted, patches=grid)


@dataclass
class Asked:
    """A model that remembers which patches it was shown."""

    kept: list[list[int]] = field(default_factory=list)

    def __call__(
        self, images: Tensor, targets: Tensor, /, *, raw: bool = False, kept: Tensor | None = None
    ) -> Prediction:
        assert kept is not None
        self.kept.append(kept[0].tolist())
        return Prediction(torch.ones(1), torch.zeros(1, dtype=torch.int64), torch.zeros(1, 2))


def test_patches_are_ranked_by_the_mean_of_their_pixels_and_a_share_is_rounded_down() -> None:
    # 2 x 3 patches of 3 x 2 pixels. The most relevant pixel of all lies in patch 4, the least relevant of all.
    values = torch.tensor([[5.0, 3.0, 1.0], [4.0, 0.0, 2.0]])
    relevance = values.repeat_interleave(3, dim=0).repeat_interleave(2, dim=1)[None].clone()
    relevance[0, 4, 2] += 5.9
    case = Case(made_batch((2, 3), 6), relevance)
    assert by_patch(case)[0].flatten().tolist() == pytest.approx([5, 3, 1, 4, 5.9 / 6, 2])
    model = Asked()
    LeftOut((0.0, 0.3, 0.5, 0.99, 1.0), "least").trace(Case(made_batch((2, 3), 6), relevance), model)
    assert model.kept == [[0, 1, 2, 3, 5], [0, 1, 3], [0], []]  # 1.8, 3, 5.94 and 6 of 6 patches are left out
    model = Asked()
    LeftOut((0.5,), "most").trace(Case(made_batch((2, 3), 6), relevance), model)
    assert model.kept == [[2, 4, 5]]


def test_ties_at_random_hang_on_the_image_alone() -> None:
    flat = torch.ones(1, 8, 8)
    one, other = (made_batch((4, 4), 8) for _ in range(2))
    other.ids = ["b"]
    asked = [Asked() for _ in range(3)]
    for batch, model in zip((one, one, other), asked, strict=True):
        LeftOut((0.5,), "least", "random").trace(Case(batch, flat), model)
    assert asked[0].kept == asked[1].kept != asked[2].kept
    assert all(len(set(model.kept[0])) == 8 for model in asked)


SMALL: dict[str, Callable[[], nn.Module]] = {
    "registers": lambda: VisionTransformer(32, 8, embed_dim=24, depth=2, num_heads=3, num_classes=5, reg_tokens=4),
    "positions of patches alone": lambda: VisionTransformer(
        32, 8, embed_dim=24, depth=2, num_heads=3, num_classes=5, no_embed_class=True
    ),
    "distilled": lambda: VisionTransformerDistilled(
        img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=5
    ),
    "mean of the patches": lambda: VisionTransformer(
        32, 8, embed_dim=24, depth=2, num_heads=3, num_classes=5, global_pool="avg", fc_norm=True
    ),
}


def wrapped(network: nn.Module, kind: str = "vit") -> Classifier:
    return Classifier(
        "own", randomise(network, seed=4), mean=MEAN, std=STD, input_size=VIT_SIDE, layers={}, kind=kind,
        weights=Weights("random", trained=False),
    )  # fmt: skip


@pytest.mark.parametrize("name", SMALL)
def test_transformers_of_timm_do_without_patches(name: str) -> None:
    classifier = wrapped(SMALL[name]())
    assert cannot_leave_out(classifier) == ""
    images, shown = pixels(2, VIT_SIDE, torch.float32), torch.arange(16).repeat(2, 1)
    with torch.no_grad(), showing(classifier, shown):
        everything = classifier.logits(images)
    assert torch.allclose(everything, classifier.logits(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "architecture", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "vit_small_patch14_reg4_dinov2"]
)
def test_published_layouts_do_without_patches(architecture: str) -> None:
    import timm

    network = timm.create_model(architecture, pretrained=False, img_size=224)
    classifier = Classifier(
        "own", network, mean=MEAN, std=STD, input_size=224, layers={}, kind="vit", weights=Weights("", False)
    )
    assert cannot_leave_out(classifier) == ""


class Blurred(nn.Module):
    """A patch embedding that looks beyond its patch."""

    def __init__(self, embed: nn.Module) -> None:
        super().__init__()
        self.embed, self.grid_size = embed, embed.grid_size

    def forward(self, images: Tensor) -> Tensor:
        return self.embed(nn.functional.avg_pool2d(images, 9, stride=1, padding=4))


class Sideways(Blurred):
    """A patch embedding that numbers its patches column by column."""

    def forward(self, images: Tensor) -> Tensor:
        return self.embed(images.transpose(2, 3))


class Deaf(VisionTransformer):
    """A Transformer that has the gate and does not pass through it."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        return self.forward_head(self.norm(self.blocks(self._pos_embed(self.patch_embed(x)))))


def test_networks_that_cannot_do_without_patches_are_found_out_by_trying() -> None:
    odd = SMALL["registers"]()
    odd.patch_embed = Blurred(odd.patch_embed)
    assert "depend on the pixels of patches that are left out" in cannot_leave_out(wrapped(odd))
    turned = SMALL["registers"]()
    turned.patch_embed = Sideways(turned.patch_embed)
    assert "depend on the pixels of patches that are left out" in cannot_leave_out(wrapped(turned))
    deaf = Deaf(32, 8, embed_dim=24, depth=2, num_heads=3, num_classes=5)
    assert "its blocks see 17 tokens where 8 patches are shown" in cannot_leave_out(wrapped(deaf))
    assert "it is a CNN" in cannot_leave_out(small_cnn("resnet"))
    assert "no patch tokens" in cannot_leave_out(wrapped(nn.Linear(3, 3)))


def small_job(classifier: Classifier, *names: str, **changes: object) -> Job:
    protocol = settings("drop", **changes)
    return Job(
        classifier, Made(), Preprocess(classifier.input_size), {"brightness": Brightness()},
        metrics(protocol, *names), protocol, Run(name="tested", workers=0, gallery=0),
    )  # fmt: skip


@pytest.mark.parametrize("start", [evaluate, lambda job, _store: calibrate(job)])
def test_a_cnn_is_refused_by_name_before_anything_is_stored(start: Callable[..., object], tmp_path: Path) -> None:
    job = small_job(small_cnn("resnet", torch.float32), "neg")
    with pytest.raises(ValueError, match="model resnet cannot do so, since it is a CNN"):
        start(job, ResultStore(tmp_path / "store"))
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("metric", ["adp", "pic", "add", "adcc", "sic", "aic", "road"])
def test_metrics_that_alter_pixels_are_refused_by_name(metric: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"metric: {metric} cannot be computed under protocol.fill=drop"):
        evaluate(small_job(small_vit(torch.float32), "neg", metric), ResultStore(tmp_path / "store"))


def test_the_schedule_of_rise_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="metric: ins cannot be computed"):
        evaluate(small_job(small_vit(torch.float32), "ins", schedule="rise"), ResultStore(tmp_path / "store"))


def test_a_run_counts_its_rows_and_leaves_no_hook_behind(tmp_path: Path) -> None:
    classifier = small_vit(torch.float32)
    outcome = evaluate(small_job(classifier, *MASKING, "sparseness"), ResultStore(tmp_path / "store"))
    assert not outcome.failed
    assert outcome.forwards == 8 * 2 * 9
    assert not classifier.network.get_submodule("patch_drop")._forward_hooks


def test_identity_tells_it_from_every_other_protocol() -> None:
    digests = set()
    for protocol in (settings("thesis"), settings("drop"), settings("thesis", fill="drop")):
        job = replace(small_job(vit("small"), "neg"), protocol=protocol, metrics=metrics(protocol, "neg"))
        digests.add(job.cells()["brightness", "neg"].digest)
    assert len(digests) == 3


def test_from_the_command_to_the_report(tmp_path: Path) -> None:
    def dix(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dix.cli", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600)

    words = ["experiment=smoke", "protocol=drop", "run.workers=0", "run.limit=1"]
    refused = dix("run", *words)
    assert refused.returncode == 1
    assert "protocol.fill: drop" in refused.stderr
    assert "efficientnet_lite0" in refused.stderr
    done = dix("run", *words, "model=vit_small_embedded")
    assert done.returncode == 0, done.stderr
    shown = dix("report", "smoke")
    assert shown.returncode == 0, shown.stderr
    table = (tmp_path / "results" / "smoke" / "table.md").read_text(encoding="utf-8")
    assert "drop" in table
    assert "NEG" in table
