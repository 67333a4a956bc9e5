"""FullGrad: completeness, the paper's definition of every bias, and pytorch-grad-cam's reading."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import OmegaConf
from support.baseline_networks import (
    NETWORKS,
    classifier,
    convnext,
    drawn,
    images,
    in_double,
    pearson,
    resnet,
    traces,
    trainable_copy,
    vit,
)
from torch import Tensor, nn

from dix.baselines.fullgrad import FullGrad, Gathered
from dix.classifier import Classifier
from dix.explainer import Explainer
from dix.passes import Passes

pytestmark = pytest.mark.numeric

TARGETS = torch.tensor([2, 4, 9])
PGC = FullGrad("convolutions", "channel", 1e-7, "FG-pgc", True)


def timm_model(name: str, **options: object) -> Classifier:
    import timm

    torch.manual_seed(7)
    return classifier(drawn(timm.create_model(name, num_classes=10, **options)), {})


OTHERS: dict[str, Callable[[], Classifier]] = {
    "efficientnet, ReLU6 inside batch norm": lambda: timm_model("tf_efficientnet_lite0"),
    "squeeze and excitation, SiLU": lambda: timm_model("tf_efficientnet_b0"),
    "hard swish and hard sigmoid": lambda: timm_model("mobilenetv3_small_050"),
    "ConvNeXt by timm": lambda: timm_model("convnext_atto"),
}


@pytest.mark.parametrize("network", NETWORKS | OTHERS)
def test_input_and_bias_terms_add_up_to_the_logit(network: str) -> None:
    model = (NETWORKS | OTHERS)[network]()
    want = model.logits(images()).gather(1, TARGETS[:, None])[:, 0]
    residual = FullGrad().residual(Passes(model, images(), TARGETS))
    assert (residual.abs() <= 1e-4 * want.abs().clamp(min=1)).all()


@pytest.mark.parametrize("network", NETWORKS)
def test_terms_add_up_to_rounding_in_double_precision(network: str) -> None:
    """The last digits see even what a layer norm's eps adds to its linear part."""
    residual = FullGrad().residual(Passes(in_double(NETWORKS[network]()), images().double(), TARGETS))
    assert (residual.abs() < 1e-10).all()


@pytest.mark.parametrize("network", ["resnet", "densenet"])
def test_parameters_are_all_the_biases_of_a_relu_network(network: str) -> None:
    model = in_double(NETWORKS[network]())
    passes = Passes(model, images().double(), TARGETS)
    assert (FullGrad("explicit").residual(passes).abs() < 1e-10).all()
    torch.testing.assert_close(FullGrad("explicit").explain(passes), FullGrad().explain(passes))


@pytest.mark.parametrize("network", NETWORKS)
def test_terms_left_out_are_missing_from_the_sum(network: str) -> None:
    passes = Passes(NETWORKS[network](), images(), TARGETS)
    assert (FullGrad("convolutions").residual(passes).abs() > 1e-2).all()


def intercepts(model: Classifier, x: Tensor) -> list[Tensor]:
    """Terms (y - J z) df/dy of all modules without children, J z by differentiating twice; input term first."""
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []

    def hook(module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        calls.append((module, args[0].detach(), out))

    modules = [m for m in model.network.modules() if not list(m.children())]
    handles = [m.register_forward_hook(hook) for m in modules]
    x = x.clone().requires_grad_()
    score = model.network(x).gather(1, TARGETS[:, None]).sum()
    for handle in handles:
        handle.remove()
    calls = [call for call in calls if call[2].requires_grad and call[2].ndim == 4]
    grads = torch.autograd.grad(score, [x, *(out for _, _, out in calls)])
    terms = [x.detach() * grads[0]]
    for (module, z, _), gradient in zip(calls, grads[1:], strict=True):
        value, slope = torch.autograd.functional.jvp(module, z, z)
        terms.append(((value - slope) * gradient).detach())
    return terms


def psi(term: Tensor) -> Tensor:
    """One image's map of one term [.,.,.]: absolute value, scaled to [0, 1], enlarged, summed over channels."""
    term = term.abs() if term.shape[1] == term.shape[2] else term.abs().permute(2, 0, 1)
    scaled = (term - term.min()) / (term.max() - term.min())
    return F.interpolate(scaled[None], size=(64, 64), mode="bilinear", align_corners=False)[0].sum(dim=0)


@pytest.mark.parametrize("network", NETWORKS)
def test_map_is_the_papers_formula(network: str) -> None:
    model = in_double(NETWORKS[network]())
    x = images().double()
    made = FullGrad().explain(Passes(model, x, TARGETS))
    terms = intercepts(model, model.normalise(x))
    for image in range(3):
        # modules that are linear leave rounding errors, which scaling to [0, 1] would blow up
        want = sum(psi(term[image]) for term in terms if term[image].abs().max() > 1e-12)
        torch.testing.assert_close(made[image], want, rtol=1e-6, atol=1e-6)


def test_map_of_a_linear_model_is_input_times_weight() -> None:
    model = classifier(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4, bias=False)), {}, side=8)
    x = images(1, 8)
    made = FullGrad().explain(Passes(model, x, torch.tensor([1])))[0]
    product = (model.normalise(x)[0] * model.network[1].weight[1].view(3, 8, 8)).abs()
    torch.testing.assert_close(made, ((product - product.min()) / (product.max() - product.min())).sum(dim=0))


@pytest.mark.parametrize("network", NETWORKS)
def test_variant_equals_grad_cam(network: str) -> None:
    from pytorch_grad_cam import FullGrad as Theirs
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model = NETWORKS[network]()
    with Theirs(trainable_copy(model), []) as cam:
        theirs = cam(model.normalise(images()), [ClassifierOutputTarget(int(t)) for t in TARGETS])
    ours = PGC.explain(Passes(model, images(), TARGETS))
    assert (pearson(ours, torch.from_numpy(np.asarray(theirs))) >= 0.999).all()


@pytest.mark.parametrize("method", [FullGrad(), PGC], ids=["fg", "fg_pgc"])
@pytest.mark.parametrize("network", NETWORKS)
def test_batch_order_and_chunk_change_nothing(method: FullGrad, network: str) -> None:
    model, order = in_double(NETWORKS[network]()), torch.tensor([2, 0, 1])
    x = images().double()
    together = method.explain(Passes(model, x, TARGETS))
    chunked = method.explain(Passes(model, x[order], TARGETS[order], chunk=2))
    alone = torch.cat([method.explain(Passes(model, x[i : i + 1], TARGETS[i : i + 1])) for i in range(3)])
    torch.testing.assert_close(together[order], chunked, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-6)


def test_costs_one_forward_pass() -> None:
    model, rows = resnet(), []
    passes = Passes(model, images(), TARGETS)
    assert passes.logits.shape == (3, 10)
    handle = model.network.register_forward_hook(lambda _m, args, _o: rows.append(len(args[0])))
    FullGrad().explain(passes)
    FullGrad().residual(passes)
    handle.remove()
    assert sum(rows) == 3


def test_nothing_is_left_behind() -> None:
    before = {key: value.clone() for key, value in convnext().network.state_dict().items()}
    FullGrad().explain(Passes(convnext(), images(), TARGETS))
    assert traces(convnext().network) == []
    assert all(torch.equal(value, before[key]) for key, value in convnext().network.state_dict().items())


def test_nothing_is_left_behind_by_a_failure_in_the_forward_pass() -> None:
    passes = Passes(convnext(), images(), TARGETS)
    assert passes.logits.isfinite().all()

    def fail(_m: nn.Module, _a: object) -> None:
        raise ArithmeticError

    handle = convnext().network.get_submodule("classifier.2").register_forward_pre_hook(fail)
    with pytest.raises(ArithmeticError):
        FullGrad().explain(passes)
    handle.remove()
    assert torch._C._len_torch_function_stack() == 0
    assert traces(convnext().network) == []


def test_nothing_is_left_behind_by_a_failure_in_the_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_s: Gathered, _t: Tensor, _c: int) -> None:
        raise ArithmeticError

    passes = Passes(convnext(), images(), TARGETS)
    with monkeypatch.context() as patch:
        patch.setattr(Gathered, "add", fail)
        with pytest.raises(ArithmeticError):
            FullGrad().explain(passes)
    assert torch._C._len_torch_function_stack() == 0
    assert FullGrad().explain(passes).isfinite().all()


def test_a_transformer_is_a_reason_not_an_error() -> None:
    assert "convolutional" in FullGrad().unsupported(vit())
    assert FullGrad().unsupported(resnet()) == ""


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ValueError, match="biases: expected all, explicit or convolutions, got 'none'"):
        FullGrad(biases="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rescale: expected layer or channel"):
        FullGrad(rescale="image")  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "method"), [("fg", FullGrad()), ("fg_pgc", PGC)])
def test_configuration_is_the_method(name: str, method: FullGrad) -> None:
    made = instantiate(OmegaConf.create(files("dix.conf").joinpath(f"method/{name}.yaml").read_text())[name])
    assert made == method
    assert isinstance(made, Explainer)
