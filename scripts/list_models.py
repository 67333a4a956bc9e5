"""What is found out about many architectures, and which methods explain them: `make models`.

Each is built with seeded random weights, looked at, and explained once by one method of each kind. Weights that start
at nil are drawn and batch norms given statistics (`dix.models.fresh`): without these, maps of some fresh networks are
constant. Rows go between the marks of docs/models.md one by one; those of other architectures stay, if they have the
same columns, and the page says what these are and which libraries wrote last.

    python scripts/list_models.py                     all of them
    python scripts/list_models.py timm:swin_tiny_patch4_window7_224.ms_in1k torchvision:resnet18
    python scripts/list_models.py --missing           those that have no row yet
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from importlib.metadata import version
from importlib.util import find_spec
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dix.baselines.attention import Gae
from dix.baselines.cam import GradCam
from dix.baselines.fullgrad import FullGrad
from dix.baselines.lift import LiftCam
from dix.baselines.orientation import RIGHT, best_map, orientation, with_held_weights
from dix.baselines.t_attr import TransformerAttribution
from dix.bench.sanity.randomise import copy_of
from dix.classifier import Classifier, Weights
from dix.explainer import Dix, Explainer, PathIntegral
from dix.files import write_atomic
from dix.hierarchy import CarriedDix
from dix.layout import CHANNELS_FIRST
from dix.look import spotted
from dix.models import zoo
from dix.models.fresh import awake, fresh_norms, settled
from dix.models.looked import looked
from dix.models.sources import seeded_initialisation
from dix.passes import Passes

PAGE = Path(__file__).resolve().parent.parent / "docs" / "models.md"
MARKS = ("<!-- looked at -->", "<!-- end of looked at -->")
METHODS: dict[str, Explainer] = {
    "Grad-CAM": GradCam(),
    "LIFT": LiftCam(),
    "FullGrad": FullGrad(),
    "DIX3": Dix(path=PathIntegral(steps=2)),
    "GAE": Gae(),
    "T-Attr": TransformerAttribution(),
    "DIX-C": CarriedDix(depth=1, path=PathIntegral(steps=1)),
}
#: Begins a cell of a row none of whose maps follows the patch, with weights held neither.
ASTRAY = "**does not follow**"
_OF_A_MAP = re.compile(r"(?:Grad-CAM|DIX1)(?: last| second| third)?(?: \([a-z]+ ?\d?\))? (-?\d\.\d\d)")
#: Of further random weights, where no map of the first ones follows.
SEEDS = (1, 2)
HEADER = ("architecture", "layers", "attention", "orientation", *METHODS)
#: The smallest of most families; by library, without attention and with it.
CONVOLUTIONAL = {
    "torchvision": "resnet18 vgg11 densenet121 convnext_tiny mobilenet_v3_small efficientnet_b0 regnet_y_400mf "
    "shufflenet_v2_x0_5 squeezenet1_1 mnasnet0_5 googlenet inception_v3",
    "timm": "resnet10t.c3_in1k resnetv2_50x1_bit.goog_in21k_ft_in1k mixer_b16_224.goog_in21k_ft_in1k "
    "poolformer_s12.sail_in1k focalnet_tiny_srf.ms_in1k repvit_m0_9.dist_300e_in1k fastvit_t8.apple_in1k "
    "ghostnet_100.in1k hrnet_w18_small.gluon_in1k regnetx_002.pycls_in1k resmlp_12_224.fb_in1k "
    "gmlp_s16_224.ra3_in1k convmixer_768_32.in1k dla34.in1k nfnet_l0.ra2_in1k sequencer2d_s.in1k",
    "transformers": "convnext",
    "open_clip": "RN50",
}
TRANSFORMERS = {
    "torchvision": "swin_t swin_v2_t maxvit_t vit_b_16",
    "timm": "vit_tiny_patch16_224.augreg_in21k_ft_in1k deit_tiny_distilled_patch16_224.fb_in1k "
    "deit3_small_patch16_224.fb_in1k beit_base_patch16_224.in22k_ft_in22k_in1k "
    "vit_medium_patch16_reg4_gap_256.sbb_in12k_ft_in1k eva02_tiny_patch14_336.mim_in22k_ft_in1k "
    "vit_base_patch16_siglip_224.webli cait_xxs24_224.fb_dist_in1k xcit_nano_12_p16_224.fb_dist_in1k "
    "convit_tiny.fb_in1k hiera_tiny_224.mae_in1k_ft_in1k mvitv2_tiny.fb_in1k coat_tiny.in1k "
    "swin_tiny_patch4_window7_224.ms_in1k davit_tiny.msft_in1k maxvit_nano_rw_256.sw_in1k "
    "mobilevit_xxs.cvnets_in1k pvt_v2_b0.in1k pit_ti_224.in1k volo_d1_224.sail_in1k levit_128s.fb_dist_in1k "
    "twins_svt_small.in1k edgenext_xx_small.in1k gcvit_xxtiny.in1k nest_tiny_jx.goog_in1k "
    "tnt_s_legacy_patch16_224.in1k crossvit_tiny_240.in1k visformer_tiny.in1k efficientformer_l1.snap_dist_in1k",
    "transformers": "vit deit beit swin dinov2",
    "open_clip": "ViT-S-32-alt",
}
ARCHITECTURES = tuple(
    f"{library}:{name}"
    for group in (CONVOLUTIONAL, TRANSFORMERS)
    for library in group
    for name in group[library].split()
)


def main() -> int:
    """Build what the command line names; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="LIBRARY:ARCHITECTURE")
    parser.add_argument("--missing", action="store_true", help="only architectures without a row")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    for name in arguments.names or ARCHITECTURES:
        if find_spec(name.split(":")[0]) and not (arguments.missing and _key(name) in _rows()):
            begun = time.monotonic()
            cells = about(name)
            _write(_rows() | {_key(name): _row([_key(name), *cells])})
            print(f"{name}: {cells[0]}, {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return 0


def _key(name: str) -> str:
    return name.replace(":", " ")


def _rows() -> dict[str, str]:
    """The page's rows by architecture; none where its columns are others."""
    text = PAGE.read_text(encoding="utf-8")
    lines = [line for line in text.split(MARKS[0])[1].split(MARKS[1])[0].splitlines() if line.startswith("|")]
    return {line.split("|")[1].strip(): line for line in lines[2:]} if lines[:1] == [_row(HEADER)] else {}


def _write(rows: Mapping[str, str]) -> None:
    """Put the table into the page, in the order of ARCHITECTURES."""
    order = [_key(name) for name in ARCHITECTURES]
    sorted_rows = [rows[key] for key in sorted(rows, key=lambda key: order.index(key) if key in order else len(order))]
    head = [_made(), _summary(sorted_rows), "", _row(HEADER), _row([":--"] * len(HEADER))]
    table = "\n".join([*head, *sorted_rows])
    within = re.compile(rf"(?<={re.escape(MARKS[0])}\n).*?(?={re.escape(MARKS[1])})", re.DOTALL)
    write_atomic(PAGE, within.sub(lambda _: f"{table}\n", PAGE.read_text(encoding="utf-8")))


def _made() -> str:
    """What the columns stand for, and which versions of the libraries wrote rows last."""
    libraries = ("torch", "torchvision", "timm", "transformers", "open_clip_torch")
    versions = [f"{name} {version(name)}" for name in libraries if find_spec(name.removesuffix("_torch"))]
    return (
        f"Methods tried: {', '.join(METHODS)}; other methods have no column. Last written with {', '.join(versions)}."
    )


def _summary(rows: Sequence[str]) -> str:
    """How many rows there are, how many transformers have DIX, and on how many architectures the patch is followed."""
    cells = [dict(zip(HEADER, map(str.strip, row.split("|")[1:-1]), strict=True)) for row in rows]
    named = {_key(f"{library}:{name}") for library, names in TRANSFORMERS.items() for name in names.split()}
    ours = [one for one in cells if one["architecture"] in named]
    without = [f"{one['architecture']} ({one['DIX3'] or one['layers']})" for one in ours if one["DIX3"][:4] != "runs"]
    share, shown = 1 - len(without) / max(1, len(ours)), [one for one in cells if one["orientation"]]
    right = sum(max(map(float, _OF_A_MAP.findall(one["orientation"])), default=0.0) >= RIGHT for one in shown)
    return (
        f"{len(rows)} architectures. DIX3 runs on {len(ours) - len(without)} of {len(ours)} transformers ({share:.0%})"
        f"{'; not on ' if without else ''}{', '.join(without)}. A map follows the patch (.9) on {right} of "
        f"{len(shown)} architectures that have layers."
    )


def about(name: str) -> list[str]:
    """A row's cells behind the architecture's name."""
    library, architecture = name.split(":", 1)
    try:
        classifier = awake(BUILDERS[library](architecture, 0))
    except ValueError as error:
        return [f"refused: {error}", *[""] * (len(HEADER) - 2)]
    tried = [_tried(method, classifier) for method in METHODS.values()]
    found = _orientation(classifier, lambda seed: BUILDERS[library](architecture, seed))
    return [_layers(classifier), _attention(classifier), found, *tried]


def _layers(classifier: Classifier) -> str:
    def one(layer: str) -> str:
        return f"`{layer}` {'tokens' if classifier.kind == 'vit' else classifier.layouts.get(layer, CHANNELS_FIRST)}"

    return ", ".join(map(one, classifier.layers.values()))


def _attention(classifier: Classifier) -> str:
    if classifier.attention is None:
        return ""
    read = classifier.readout
    readout = "class token" if read == (0,) else f"{len(read)} tokens from {read[0]} on"
    return f"{len(classifier.attention_layers)} blocks, {classifier.prefix_tokens} tokens first, reads {readout}"


def _orientation(classifier: Classifier, again: Callable[[int], Classifier]) -> str:
    """Of the layer `last` and one class; where nothing of these follows, the first map that does, or the best.

    Looked through are the named layers and five classes: of these weights, of the same whose fresh batch norms have
    statistics or whose queries read what is near, and of weights of two more seeds. Where none follows, the cell ends
    with what Grad-CAM does whose channels are weighted alike in all images. again: the classifier of another seed.
    """
    found = orientation(classifier)
    said = ", ".join(f"{name} {value:.2f}" for name, value in found.items())
    if max((value for what, value in found.items() if what != "layer"), default=0.0) >= RIGHT:
        return said
    best = ("", -1.0)
    for what, other in _other_weights(classifier, again):
        name, value = best_map(other)
        best = max(best, (f"{name}{what}", value), key=lambda one: one[1])
        if value >= RIGHT:
            return f"{said}; {best[0]} {value:.2f}"
    held = with_held_weights(classifier)
    begin = "" if held >= RIGHT else f"{ASTRAY}: "
    return f"{begin}{said}; no map, best {best[0]} {best[1]:.2f}; weights held {held:.2f}"


def _other_weights(classifier: Classifier, again: Callable[[int], Classifier]) -> Iterator[tuple[str, Classifier]]:
    """The classifier, and the same layers of its architecture with other weights; what to say of each."""
    yield "", classifier
    for what, is_so, change in (("norms", fresh_norms, settled), ("near", _far_biases, _near)):
        if is_so(classifier.network):
            yield f" ({what})", copy_of(classifier, change(deepcopy(classifier.network), classifier.input_size), "")
    for seed in SEEDS:
        other = awake(again(seed))
        yield f" (seed {seed})", copy_of(classifier, settled(other.network, other.input_size), "")


def _far_biases(network: nn.Module) -> list[nn.Parameter]:
    """Position biases of attention, by distance down and to the right, that are nil: every query reads all alike."""
    found = [getattr(module, "attention_biases", None) for module in network.modules()]
    return [one for one in found if isinstance(one, nn.Parameter) and one.ndim == 2 and not bool(one.any())]


def _near(network: nn.Module, _size: int) -> nn.Module:
    """The network, whose queries read what is near, as trained ones may; in place."""
    for biases in _far_biases(network):
        index = torch.arange(biases.shape[1])
        side = isqrt(len(index))
        biases.data = biases.data - 3.0 * ((index // side) ** 2 + (index % side) ** 2)
    return network


def _tried(method: Explainer, classifier: Classifier) -> str:
    """What a method makes of one image."""
    try:
        if reason := method.unsupported(classifier):
            return f"no: {reason}"
        made = method.explain(Passes(classifier, spotted(classifier.input_size)[:1].sigmoid()))
    except Exception as error:
        return f"**fails**: {type(error).__name__}: {str(error).splitlines()[0]}"
    if not bool(made.isfinite().all()):
        return "**not finite**"
    return "runs" if float(made.max()) > float(made.min()) else "runs (constant with random weights)"


def _row(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


#: What makes a Vision Transformer of transformers small.
_SMALL_VIT = {"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 192}
#: By kind of transformers' models, its configuration: there is no smallest member of its family.
SMALL: Mapping[str, Mapping[str, Any]] = {
    "convnext": {"hidden_sizes": [16, 32, 64, 128], "depths": [1, 1, 1, 1]},
    "swin": {"embed_dim": 24, "depths": [2, 2, 2, 2]},
    "vit": _SMALL_VIT,
    "deit": {**_SMALL_VIT, "architectures": ["DeiTForImageClassification"]},
    "beit": _SMALL_VIT,
    "dinov2": _SMALL_VIT,
}


def _transformers(kind: str, seed: int) -> Classifier:
    """transformers' image classifier of a kind, small, of the input size that its configuration has by default."""
    library: Any = importlib.import_module("transformers")
    config = library.AutoConfig.for_model(kind, **SMALL[kind])
    build: Callable[[], nn.Module] = lambda: library.AutoModelForImageClassification.from_config(config)  # noqa: E731
    return _own(f"transformers {kind}", build, getattr(config, "image_size", 224), seed)


class _ZeroShot(nn.Module):
    """open_clip's image tower, and five random directions in place of the classes' texts."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower
        self.classes = nn.Parameter(torch.randn(5, int(tower.output_dim)))

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, 5]."""
        return (
            100 * nn.functional.normalize(self.tower(images), dim=-1) @ nn.functional.normalize(self.classes, dim=-1).T
        )


def _open_clip(architecture: str, seed: int) -> Classifier:
    """open_clip's image tower of random weights as a zero-shot classifier."""
    library: Any = importlib.import_module("open_clip")
    return _own(f"open_clip {architecture}", lambda: _ZeroShot(library.create_model(architecture).visual), 224, seed)


def _own(name: str, build: Callable[[], nn.Module], size: int, seed: int) -> Classifier:
    with seeded_initialisation(seed):
        network = build()
    source = Weights(f"random, seed {seed}", trained=False)
    made = Classifier(
        name, network, mean=(0.5,) * 3, std=(0.25,) * 3, input_size=size, layers={}, kind="cnn", weights=source,
        label_space=None,
    )  # fmt: skip
    return looked(made)


BUILDERS: dict[str, Callable[[str, int], Classifier]] = {
    "torchvision": lambda name, seed: zoo.torchvision_model(name, name, weights="random", seed=seed),
    "timm": lambda name, seed: zoo.timm_model(name, name, weights="random", seed=seed),
    "transformers": _transformers,
    "open_clip": _open_clip,
}


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    sys.exit(main())
