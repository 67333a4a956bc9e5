"""What is found out about many architectures, and which methods explain them: `make models`.

Each is built with seeded random weights, looked at, and explained once by one method of each kind. Writes the table
between the marks of docs/models.md. With names, only these are built, and the table is printed.

    python scripts/list_models.py                     all of ARCHITECTURES, into docs/models.md
    python scripts/list_models.py timm:swin_tiny_patch4_window7_224 torchvision:resnet18
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from dix.baselines.attention import Gae
from dix.baselines.cam import GradCam
from dix.baselines.fullgrad import FullGrad
from dix.baselines.lift import LiftCam
from dix.baselines.t_attr import TransformerAttribution
from dix.classifier import Classifier
from dix.explainer import Dix, Explainer, PathIntegral
from dix.files import write_atomic
from dix.layout import CHANNELS_FIRST
from dix.look import spotted
from dix.models import zoo
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
}
#: The smallest of most families.
ARCHITECTURES = tuple(
    f"{library}:{name}"
    for library, names in (
        (
            "torchvision",
            "resnet18 vgg11 densenet121 convnext_tiny mobilenet_v3_small efficientnet_b0 regnet_y_400mf "
            "shufflenet_v2_x0_5 squeezenet1_1 mnasnet0_5 googlenet inception_v3 swin_t swin_v2_t maxvit_t "
            "vit_b_16 ",
        ),
        (
            "timm",
            "resnet10t.c3_in1k resnetv2_50x1_bit.goog_in21k_ft_in1k vit_tiny_patch16_224.augreg_in21k_ft_in1k "
            "deit_tiny_distilled_patch16_224.fb_in1k deit3_small_patch16_224.fb_in1k "
            "beit_base_patch16_224.in22k_ft_in22k_in1k vit_medium_patch16_reg4_gap_256.sbb_in12k_ft_in1k "
            "eva02_tiny_patch14_336.mim_in22k_ft_in1k cait_xxs24_224.fb_dist_in1k "
            "xcit_nano_12_p16_224.fb_dist_in1k convit_tiny.fb_in1k hiera_tiny_224.mae_in1k_ft_in1k "
            "mvitv2_tiny.fb_in1k coat_tiny.in1k mixer_b16_224.goog_in21k_ft_in1k "
            "swin_tiny_patch4_window7_224.ms_in1k davit_tiny.msft_in1k maxvit_nano_rw_256.sw_in1k "
            "mobilevit_xxs.cvnets_in1k pvt_v2_b0.in1k pit_ti_224.in1k volo_d1_224.sail_in1k "
            "levit_128s.fb_dist_in1k twins_svt_small.in1k edgenext_xx_small.in1k poolformer_s12.sail_in1k "
            "focalnet_tiny_srf.ms_in1k gcvit_xxtiny.in1k nest_tiny_jx.goog_in1k tnt_s_patch16_224 "
            "crossvit_tiny_240.in1k visformer_tiny.in1k efficientformer_l1.snap_dist_in1k "
            "repvit_m0_9.dist_300e_in1k fastvit_t8.apple_in1k ghostnet_100.in1k hrnet_w18_small.gluon_in1k "
            "regnetx_002.pycls_in1k resmlp_12_224.fb_in1k gmlp_s16_224.ra3_in1k convmixer_768_32.in1k dla34.in1k "
            "nfnet_l0.ra2_in1k sequencer2d_s.in1k ",
        ),
    )
    for name in names.split()
)


def main() -> int:
    """Build what the command line names; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="LIBRARY:ARCHITECTURE")
    names = parser.parse_args().names
    warnings.simplefilter("ignore")
    table = "\n".join(lines(names or ARCHITECTURES))
    if names:
        print(table)
        return 0
    text = PAGE.read_text(encoding="utf-8")
    within = re.compile(rf"(?<={re.escape(MARKS[0])}\n).*?(?={re.escape(MARKS[1])})", re.DOTALL)
    write_atomic(PAGE, within.sub(lambda _: f"{table}\n", text))
    return 0


def lines(names: Sequence[str]) -> Iterator[str]:
    """The table in Markdown, a line as soon as it is known to the terminal as well."""
    header = ["architecture", "layers", "attention", *METHODS]
    yield from (_row(header), _row([":--"] * len(header)))
    for name in names:
        begun = time.monotonic()
        cells = _about(name)
        print(f"{name}: {cells[0]}, {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
        yield _row([name.replace(":", " "), *cells])


def _about(name: str) -> list[str]:
    library, architecture = name.split(":")
    build = zoo.timm_model if library == "timm" else zoo.torchvision_model
    try:
        classifier = build(architecture, architecture, weights="random")
    except ValueError as error:
        return [f"refused: {error}", "", *[""] * len(METHODS)]
    return [_layers(classifier), _attention(classifier), *(_tried(method, classifier) for method in METHODS.values())]


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


def _tried(method: Explainer, classifier: Classifier) -> str:
    """What a method makes of one image."""
    reason = method.unsupported(classifier)
    if reason:
        return f"no: {reason}"
    try:
        made = method.explain(Passes(classifier, spotted(classifier.input_size)[:1].sigmoid()))
    except Exception as error:
        return f"**fails**: {type(error).__name__}: {str(error).splitlines()[0]}"
    if not bool(made.isfinite().all()):
        return "**not finite**"
    return "runs" if float(made.max()) > float(made.min()) else "runs (constant with random weights)"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    sys.exit(main())
