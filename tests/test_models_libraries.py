"""The networks of other libraries that docs/extending.md shows: loaded by its code, and explained like timm's ViT."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import warnings
from pathlib import Path
from types import ModuleType

import pytest
import torch
from support.random_weights import seeded
from support.transformers import CLASSES, DIM, HEADS, METHODS, PATCH, RECENT, SIDE, timm_vit
from torch import Tensor, nn

from dix.classifier import Classifier
from dix.explainer import Explainer
from dix.models.visible import MATRICES
from dix.passes import Passes

EXTENDING = Path(__file__).resolve().parent.parent / "docs" / "extending.md"


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The module that the document shows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of their imports
        for library in ("transformers", "open_clip"):
            pytest.importorskip(library, reason=f"{library} comes with the extra `models`")
    [code] = re.findall(r"```python\n# other_models.py\n(.*?)```", EXTENDING.read_text(encoding="utf-8"), re.DOTALL)
    path = tmp_path_factory.mktemp("own") / "other_models.py"
    path.write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("other_models", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["other_models"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def hugging_face(shown: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    from transformers import ViTConfig, ViTForImageClassification

    folder = tmp_path_factory.mktemp("checkpoint")
    config = ViTConfig(
        hidden_size=DIM, num_hidden_layers=3, num_attention_heads=HEADS, intermediate_size=4 * DIM, image_size=SIDE,
        patch_size=PATCH, num_labels=CLASSES,
    )  # fmt: skip
    seeded(lambda: ViTForImageClassification(config)).save_pretrained(folder)
    return shown.hugging_face_vit("tiny", str(folder))


@pytest.fixture(scope="module")
def clip(shown: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    import open_clip

    folder = tmp_path_factory.mktemp("architectures")
    vision = {"image_size": SIDE, "layers": 3, "width": DIM, "head_width": DIM // HEADS, "patch_size": PATCH}
    text = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
    (folder / "tiny-of-a-test.json").write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    return shown.zero_shot("clip", "tiny-of-a-test", ["a cat", "a dog", "a car"])


def images(count: int = 2) -> Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(7))


def runs(classifier: Classifier, method: Explainer) -> None:
    assert method.unsupported(classifier) == ""
    both = method.explain(Passes(classifier, images()))
    assert both.shape[-1] in (SIDE // PATCH, SIDE)
    assert all(len(one.unique()) > 1 for one in both)
    alone = method.explain(Passes(classifier, images()[1:], ids=["1"]))
    torch.testing.assert_close(both[1:], alone, rtol=0, atol=1e-3 * float(both.abs().max()))


def test_transformers_is_seen_as_timms(hugging_face: Classifier) -> None:
    assert hugging_face.kind == "vit"
    assert hugging_face.attention_layers == tuple(f"vit.layers.{i}.attention.{MATRICES}" for i in range(3))
    assert list(hugging_face.layers.values()) == [f"vit.layers.{i}.layernorm_before" for i in (2, 1, 0)]
    assert (hugging_face.prefix_tokens, hugging_face.readout) == (1, (0,))
    assert hugging_face.answers == "logits of a dict"


@pytest.mark.parametrize("name", METHODS)
def test_transformers_is_explained(hugging_face: Classifier, name: str) -> None:
    runs(hugging_face, METHODS[name])


@pytest.fixture(scope="module")
def timms(hugging_face: Classifier) -> Classifier:
    """timm's with the same weights."""
    network = seeded(lambda: timm_vit(norm_layer=Norm))
    network.load_state_dict(as_timm(hugging_face.network.state_dict()))
    blocks = [f"blocks.{i}.norm1" for i in (2, 1, 0)]
    return Classifier(
        "timm", network, mean=[0.5] * 3, std=[0.5] * 3, input_size=SIDE, kind="vit", weights=hugging_face.weights,
        layers=dict(zip(("last", "second", "third"), blocks, strict=True)), label_space=None,
    )  # fmt: skip


@pytest.mark.parametrize("name", [*METHODS, *RECENT])
def test_transformers_and_timm_give_the_same_maps_with_the_same_weights(
    hugging_face: Classifier, timms: Classifier, name: str
) -> None:
    method = (METHODS | RECENT)[name]
    assert method.unsupported(hugging_face) == ""
    one, expected = (Passes(classifier, images()) for classifier in (hugging_face, timms))
    torch.testing.assert_close(one.logits, expected.logits, rtol=1e-5, atol=1e-5)
    maps, right = method.explain(one), method.explain(expected)
    torch.testing.assert_close(maps, right, rtol=0, atol=1e-4 * float(right.abs().max()))


class Norm(nn.LayerNorm):
    """transformers' layer norm adds another number to the variance."""

    def __init__(self, size: int, **options: object) -> None:
        super().__init__(size, eps=1e-12)


def as_timm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a transformers ViT under the names of timm's; query, key and value become one matrix."""
    names = {
        "vit.embeddings.cls_token": "cls_token", "vit.embeddings.position_embeddings": "pos_embed",
        "vit.embeddings.patch_embeddings.projection": "patch_embed.proj", "vit.layers.": "blocks.",
        "layernorm_before": "norm1", "layernorm_after": "norm2", "attention.o_proj": "attn.proj",
        "vit.layernorm": "norm", "classifier": "head",
    }  # fmt: skip
    made: dict[str, Tensor] = {}
    for key, value in state.items():
        for theirs, ours in names.items():
            key = key.replace(theirs, ours)
        made[key] = value
    for i in range(3):
        for kind in ("weight", "bias"):
            parts = [made.pop(f"blocks.{i}.attention.{name}_proj.{kind}") for name in "qkv"]
            made[f"blocks.{i}.attn.qkv.{kind}"] = torch.cat(parts)
    return made


def test_open_clip_is_seen_as_timms(clip: Classifier) -> None:
    assert clip.kind == "vit"
    blocks = [f"visual.transformer.resblocks.{i}" for i in range(3)]
    assert clip.attention_layers == tuple(f"{block}.attn.{MATRICES}" for block in blocks)
    assert list(clip.layers.values()) == [f"{block}.ln_1" for block in reversed(blocks)]
    assert (clip.prefix_tokens, clip.readout, clip.input_size) == (1, (0,), SIDE)
    assert clip.weights.trained is False


def test_the_logits_of_a_zero_shot_classifier_are_cosines(clip: Classifier) -> None:
    logits = clip.logits(images())
    features = clip.network.visual(clip.normalise(images()))
    cosines = torch.cosine_similarity(features[:, None], clip.network.texts[None], dim=-1)
    torch.testing.assert_close(logits, clip.network.scale * cosines, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_open_clip_is_explained(clip: Classifier, name: str) -> None:
    if name == "t_attr":  # the features are divided by their length
        assert METHODS[name].unsupported(clip).startswith("relevance propagation has no rule")
    else:
        runs(clip, METHODS[name])
