"""The ways to run a network: folding changes roundings only, and what a machine lacks is named."""

from __future__ import annotations

import copy

import pytest
import torch
from support.small_networks import pixels, small_cnn, small_vit

from dix.bench.run import rates
from dix.bench.run.rates import displacement, folded, there_and_back
from dix.models import efficientnet_lite


@pytest.mark.numeric
def test_folding_moves_answers_and_gradients_by_roundings_only() -> None:
    """A residual network and one of timm, whose normalisation holds the activation, too; in double precision."""
    for network in (small_cnn("resnet").network, efficientnet_lite.build_network("lite0").double().eval()):
        network.requires_grad_(False)
        other, images = folded(copy.deepcopy(network)), pixels(2)
        assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in other.modules())
        torch.testing.assert_close(other(images), network(images), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(there_and_back(other, images), there_and_back(network, images), rtol=1e-6, atol=1e-9)


def test_a_network_without_batch_normalisation_has_nothing_to_fold() -> None:
    with pytest.raises(RuntimeError, match="no batch normalisation follows a convolution"):
        folded(small_vit().network)


def test_a_change_is_seen_where_the_network_is_sure_of_its_answer() -> None:
    """Softmax gives 1, 0 and 0 both times; the logits' standard deviations are 1000 and 1 times sqrt(2)."""
    logits = torch.tensor([[3000.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
    sure = logits.clone()
    sure[0, 2] += 500
    assert torch.equal(sure[:1].softmax(dim=1), logits[:1].softmax(dim=1))
    assert displacement(logits, sure) == pytest.approx(0.5 / 2**0.5)
    assert displacement(logits, logits) == 0


def test_every_way_has_a_number_or_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "WAYS", {name: way for name, way in rates.WAYS.items() if name != "compiled"})
    found = {rate.way: rate for rate in rates.rates(small_cnn("resnet", torch.float32), batch=2, repeats=1)}
    assert list(found) == list(rates.WAYS)
    assert found["plain"].moved == 0
    assert min(found["plain"].forwards, found["plain"].both) > 0
    assert max(found["folded"].moved, found["channels last"].moved) < 1e-4
    if not torch.cuda.is_available():
        assert found["TF32"].reason == found[rates.GRAPH].reason == "needs a GPU"
        assert str(found["TF32"]).endswith("needs a GPU")


def test_a_processor_without_bfloat16_is_not_timed_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "WAYS", {name: way for name, way in rates.WAYS.items() if "bfloat16" in name})
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False, raising=False)
    found = list(rates.rates(small_cnn("resnet", torch.float32), batch=2, repeats=1))
    assert [rate.reason for rate in found] == ["this processor has no bfloat16 instructions"] * 2
