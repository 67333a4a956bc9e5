"""Small networks of many architectures of docs/models.md: maps lie as the image lies, tails give the logits."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.architectures import CLASSES, SMALL, local_levit, small
from support.hierarchies import SIDE, hierarchy, pvt, swin
from torch import Tensor, nn

from dix.baselines.cam import GradCam
from dix.baselines.complete import MISSED, missed
from dix.baselines.fullgrad import FullGrad
from dix.baselines.lift import LiftCam
from dix.baselines.orientation import RIGHT, best_map, is_right, orientation, patches
from dix.classifier import Classifier
from dix.cli.check import _model
from dix.explainer import Dix, PathIntegral
from dix.look import FOLLOWS, SPOTS, follows, spotted
from dix.models.looked import looked
from dix.passes import Passes

#: What is right for each kind of network that went wrong once, and the test that shows it (here: of this module).
SHOWN = {
    "channels last is seen, also where layers are named": "structure.test_named_layers_are_looked_at_too",
    "the three stages of a Swin Transformer are found": "structure.test_stages_of_a_hierarchy_are_found_and_lie_right",
    "torchvision's ViT is a ViT": "attention.test_torchvision_and_timm_give_the_same_maps_with_the_same_weights",
    "LeViT, PiT, VOLO: the deepest layer, none of the stem": "matrix.test_the_last_layer_is_none_of_the_stem",
    "what the head reads: class token, patches, two tokens": "structure.test_what_the_head_reads_is_seen",
    "a pooled query": "attention.test_gae_of_a_pooled_query_by_hand",
    "CaiT": "attention.test_gae_of_class_attention_by_hand",
    "ConViT": "attention.test_gae_of_gated_positional_attention_by_hand",
    "XCiT attends over channels": "attention.test_attention_between_channels_is_refused_by_name",
    "Hiera, MViT, CoaT, mixers have layers": "matrix.test_every_layer_and_a_map_lie_as_the_image_lies",
    "FullGrad and LIFT are complete or say why not": "matrix.test_sums_are_complete_or_there_is_a_reason",
    "group norm": "matrix.test_sums_are_complete_or_there_is_a_reason",
    "Inception and GoogLeNet turn their input": "looked.test_torchvisions_own_settings_come_with_its_weights",
    "mean, std, size and crop of each set of weights": "looked.test_a_set_of_weights_brings_its_own_settings",
    "outputs that are not ImageNet's classes": "looked.test_arguments_of_a_builder_and_labels_that_mean_something_else",
    "features instead of classes": "looked.test_a_network_without_a_head_has_no_labels",
    "one logit": "looked.test_one_logit_means_a_sigmoid",
    "ten outputs under a thousand labels": "looked.test_the_number_of_outputs_must_fit_the_labels",
    "a softmax inside": "looked.test_a_softmax_inside_is_not_taken_twice",
    "a dict, a tuple": "looked.test_logits_are_taken_out_of_what_holds_them",
    "one channel": "looked.test_grey_networks_are_shown_the_mean_of_the_channels",
    "torch.compile, DataParallel": "looked.test_wrappers_are_taken_off",
    "TorchScript": "looked.test_torchscript_is_refused",
    "transformers": "libraries.test_transformers_is_seen_as_timms",
    "open_clip": "libraries.test_open_clip_is_seen_as_timms",
    "tokens before the batch": "attention.test_tokens_before_the_batch_change_no_map",
    "no layer found": "structure.test_a_network_without_places_is_refused",
    "LeViT's stages, where its attention is local": "matrix.test_levit_lies_right_where_its_attention_is_local",
    "a mean of patches beside what skips carry": "structure.test_a_mean_of_patches_leaves_out_what_skips_carry",
    "as many tokens as images": "structure.test_as_many_tokens_as_images_are_told_apart",
    "recent methods run or say why not": "attention.test_recent_methods_run_or_say_why_they_do_not",
    "a path of one step on deep layers": "matrix.test_dix_runs_on_one_step",
}


@pytest.fixture(scope="module", params=SMALL)
def network(request: pytest.FixtureRequest) -> Classifier:
    """Each of them, looked at once for all tests."""
    return small(request.param)


def test_every_layer_and_a_map_lie_as_the_image_lies(network: Classifier) -> None:
    for layer in network.layers:
        assert orientation(network, layer)["layer"] >= FOLLOWS, layer
    name, found = best_map(network)
    assert found >= RIGHT, f"{name} follows best, {found:.2f}"


def test_the_tail_of_every_named_layer_gives_the_logits(network: Classifier) -> None:
    passes = Passes(network, patches(network.input_size)[:2])
    for layer in [*network.layers, *network.attention_layers]:
        said = network.tail(layer).logits(passes.activation(layer), passes.context(layer))
        # Both take the same way from the layer on; what differs is how many images are summed together.
        assert (said - passes.logits).abs().max() <= 1e-5 * max(1.0, float(passes.logits.abs().max())), layer


def test_one_of_them_keeps_tensors_of_a_pass(network: Classifier) -> None:
    assert bool(network.network._forward_pre_hooks) == (network.name == "timm efficientformer_l1")


def test_dix_runs_on_one_step(network: Classifier) -> None:
    method, images = Dix(path=PathIntegral(steps=1)), patches(network.input_size)[:2]
    assert method.unsupported(network) == ""
    maps = method.explain(Passes(network, images))
    assert maps.shape == images[:, 0].shape
    assert maps.isfinite().all()
    assert all(len(one.unique()) > 1 for one in maps)


def test_maps_of_one_image_are_those_in_a_batch(network: Classifier) -> None:
    images, layer = patches(network.input_size)[:3], list(network.layers)[-1]
    both = GradCam(layer).explain(Passes(network, images, torch.zeros(3, dtype=torch.int64)))
    alone = GradCam(layer).explain(Passes(network, images[1:2], torch.zeros(1, dtype=torch.int64)))
    # Weights are means of gradients of either sign: a thousand roundings of single precision may be left of a map.
    assert (both[1:2] - alone).abs().max() <= 1e-3 * both[1].abs().max() + 1e-12


@pytest.mark.parametrize("method", [FullGrad(), LiftCam()], ids=["fullgrad", "lift"])
def test_sums_are_complete_or_there_is_a_reason(network: Classifier, method: FullGrad | LiftCam) -> None:
    """Also one image at a time; an image of which more is missed than of those that were tried has no map."""
    if reason := method.unsupported(network):
        assert "no rule for" in reason or "is made of convolutional layers" in reason
        return
    shown = [Passes(network, patches(network.input_size)[:count]) for count in (1, 3)]
    alone, both = (missed(method.residual(passes), passes) for passes in shown)
    torch.testing.assert_close(alone, both[:1], rtol=0, atol=MISSED / 10)
    assert both.max() <= 5 * MISSED
    finite = method.explain(shown[1]).flatten(1).isfinite().all(dim=1)
    assert finite.tolist() == (both <= MISSED).tolist()


def test_the_last_layer_is_none_of_the_stem(network: Classifier) -> None:
    stems = ("conv_proj", "patch_embed", "stem", "conv1", "features.0", "embedding")
    for name in network.layers.values():
        assert not name.startswith(stems)
        assert ".stem" not in name


def test_levit_lies_right_where_its_attention_is_local() -> None:
    """So what does not follow with fresh weights is no mix-up; of queries, keys and values none is a layer."""
    classifier = local_levit()
    assert list(classifier.layers.values()) == ["stages.2", "stages.1", "stages.0"]
    passes = Passes(classifier, spotted(classifier.input_size) * classifier.std + classifier.mean)
    for layer in classifier.layers:
        activation = passes.activation(layer)
        change = (activation[1:] - activation[:1]).abs().sum(dim=1)
        assert follows(change) >= RIGHT, layer
        assert follows(change.transpose(1, 2)) < 0.5, layer


@pytest.mark.parametrize(("build", "layer"), [(swin, "second"), (pvt, "stages.0")])
def test_a_transposed_map_does_not_follow(build: Callable[[], nn.Module], layer: str) -> None:
    classifier = looked(hierarchy(build))
    assert is_right(orientation(classifier))
    images = patches(classifier.input_size).double()
    activation = Passes(classifier, images).activation(layer)
    change = (activation[1:] - activation[:1]).abs().sum(dim=1)
    assert len(change) == len(SPOTS)
    assert follows(change) > 0.9
    assert follows(change.transpose(1, 2)) < 0.5
    windows = change.unflatten(2, (-1, 4)).unflatten(1, (-1, 4)).transpose(2, 3).reshape_as(change)
    assert follows(windows) < 0.9


class Turned(nn.Module):
    """A convolution whose output lies transposed over the image."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.turn, self.head = nn.Conv2d(3, 8, 4, 4), nn.Identity(), nn.Linear(8, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.turn(self.body(images).relu().transpose(2, 3)).mean(dim=(2, 3)))


def test_a_layer_that_does_not_follow_is_named_by_the_check_of_a_model() -> None:
    classifier = hierarchy(Turned, torch.float32)
    classifier.adopt("cnn", {"last": "turn", "second": "body"}, {}, None)
    found = list(_model(classifier, torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))))
    assert [one.clause.split(" (")[0] for one in found if one.problem] == ["last follows a moved patch"]
    assert "Grad-CAM second" in found[-1].clause


@pytest.mark.parametrize(("places", "most"), [(2, 0.866), (3, 0.926), (4, 0.982), (5, 0.976), (7, 0.987)])
def test_what_can_follow_at_most_on_few_places(places: int, most: float) -> None:
    """The spots themselves, as means over the places of a network that reduces its images 32 times.

    Hence ShuffleNet and RegNetX on 96 pixels (3 x 3 places) are no test: .926 is the most, and one spot whose change is
    greatest a place beside its own leaves less than .9. MobileViT on 128 (4 x 4) had .83 by two such spots.
    """
    side = 32 * places
    bare, *shown = patches(side)
    change = torch.stack([(one - bare).abs().sum(dim=0) > 0 for one in shown]).double()
    found = follows(nn.functional.adaptive_avg_pool2d(change[:, None], places)[:, 0])
    assert found == pytest.approx(most, abs=5e-3)


def test_everything_that_went_wrong_once_has_its_test() -> None:
    for shown in SHOWN.values():
        module, function = shown.split(".")
        tree = ast.parse((Path(__file__).parent / f"test_models_{module}.py").read_text(encoding="utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, shown


PAGE = (Path(__file__).parent.parent / "docs" / "models.md").read_text(encoding="utf-8")


#: Of the page's architectures, names of those with attention between tokens or places.
ATTENDING = re.compile(
    r"swin|deit|beit|eva02|cait|xcit|hiera|coat|pit_|volo|levit|pvt|twins|edgenext|gcvit|nest|tnt|former_t|former_l|dinov2"
    r"|[ ._x]vit|ViT|convit|mvit|davit|mobilevit|crossvit"
)


def test_what_the_page_says_of_its_rows() -> None:
    """Every method runs or has its reason; a map follows the patch, in two rows with weights held."""
    libraries = ("| torchvision ", "| timm ", "| transformers ", "| open_clip ")
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.splitlines() if line.startswith(libraries)
    ]
    assert len(rows) >= 69
    for name, layers, _, followed, *methods in rows:
        if not layers.startswith("refused: "):
            assert all(cell.startswith(("runs", "no: ")) for cell in methods), name
            followers = r"(?:Grad-CAM|DIX1)[^,;]*? (-?\d\.\d\d)|weights held (-?\d\.\d\d)"
            assert max(float(a or b) for a, b in re.findall(followers, followed)) >= RIGHT, name
    assert sum("weights held" in row[3] for row in rows) <= 2
    attending = [row for row in rows if ATTENDING.search(row[0])]
    explained = [row for row in attending if row[7].startswith("runs")]
    assert len(explained) >= 0.9 * len(attending)
    assert f"DIX3 runs on {len(explained)} of {len(attending)} transformers" in PAGE


def test_a_third_of_the_page_is_tested() -> None:
    rows = [line.split("|")[1].strip() for line in PAGE.splitlines() if line.startswith(("| torchvision ", "| timm "))]
    tested = [name for name in SMALL if any(row == name or row.startswith(f"{name}.") for row in rows)]
    assert len(tested) >= len(rows) / 3
