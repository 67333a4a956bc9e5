"""Softmax attention made visible: matrices that a network computes inside a function become what a module returns.

Methods hold, replace and differentiate what modules return. timm's attention modules hand their matrices through a
dropout module, and need nothing. Others compute them where no module sees them: by `softmax`, or inside
`scaled_dot_product_attention` or `nn.MultiheadAttention`. A module that does so once gets a part, `attention_matrices`,
and while it runs the function is replaced by its explicit form, which sends the matrices through that part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dix.look import is_attention

#: What the part is called that is added to a module, and returns its matrices [B, heads, Q, K] as they are.
MATRICES = "attention_matrices"

Call = Callable[..., Any]
#: Takes matrices [B, heads, Q, K] or [B heads, Q, K] and returns them, or what is put in their place.
Through = Callable[[Tensor], Tensor]


def reveal(network: nn.Module, images: Tensor) -> None:
    """Give the modules that compute attention by a function a part that returns its matrices; in place, once.

    images: [1, 3, S, S] an image to find these modules with. What the network computes stays what it is, to rounding.
    """
    for module in network.modules():
        if hasattr(module, "activation_relu_or_gelu"):  # of nn.TransformerEncoderLayer: its fused kernel skips modules
            module.activation_relu_or_gelu = 0  # type: ignore[assignment]
    for module, heads in _computing(network, images).items():
        module.add_module(MATRICES, nn.Identity())
        module.forward = MethodType(_Explicit(heads), module)


def conceal(network: nn.Module) -> None:
    """Undo `reveal`."""
    for module in list(network.modules()):
        if isinstance(getattr(vars(module).get("forward"), "__func__", None), _Explicit):
            del module.forward
            delattr(module, MATRICES)


def is_revealed(name: str) -> bool:
    """Whether a module of this name was put in by `reveal`."""
    return name.rpartition(".")[2] == MATRICES


@dataclass(frozen=True)
class _Explicit:
    """The forward of a module that computes attention; bound to the module, so that a copy of it is bound to the copy.

    heads: of one image.
    """

    heads: int

    def __call__(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Run the module's own code."""
        part = module.get_submodule(MATRICES)

        def through(matrices: Tensor) -> Tensor:
            if matrices.ndim == 4:
                return part(matrices)
            return part(matrices.unflatten(0, (-1, self.heads))).flatten(0, 1)

        with Replacing(through):
            return type(module).forward(module, *args, **kwargs)


class Replacing(TorchFunctionMode):
    """While active, attention is computed explicitly, and its matrices go through a function."""

    def __init__(self, through: Through) -> None:
        super().__init__()
        self.through = through

    def __torch_function__(
        self, func: Call, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one function of the network, or its explicit form."""
        rule = _RULES.get(func)
        if rule is None:
            return func(*args, **(kwargs or {}))
        return rule(self.through, func, *args, **(kwargs or {}))


@dataclass
class _Watched:
    """What ran: the modules that are running, matrices [heads, Q, K] by module that computed, and who is seen already.

    The innermost running module computes. Seen already are the modules one of whose parts returned matrices.
    """

    running: list[nn.Module] = field(default_factory=list)
    heads: dict[nn.Module, int] = field(default_factory=dict)
    times: Counter[nn.Module] = field(default_factory=Counter)
    seen: set[nn.Module] = field(default_factory=set)

    def enter(self, module: nn.Module, _args: object) -> None:
        self.running.append(module)

    def leave(self, module: nn.Module, _args: object, output: object) -> None:
        self.running.pop()
        if self.running and isinstance(output, Tensor) and is_attention(output):
            self.seen.add(self.running[-1])

    def computed(self, matrices: Tensor) -> Tensor:
        if self.running:
            self.times[self.running[-1]] += 1
            self.heads[self.running[-1]] = matrices.shape[-3]
        return matrices


def _computing(network: nn.Module, images: Tensor) -> dict[nn.Module, int]:
    """The modules that compute attention once, where no module sees it, with its number of heads."""
    watched = _Watched()
    with ExitStack() as stack:
        for module in network.modules():
            stack.enter_context(module.register_forward_pre_hook(watched.enter))
            stack.enter_context(module.register_forward_hook(watched.leave))
        stack.enter_context(torch.no_grad())
        stack.enter_context(Replacing(watched.computed))
        network(images)
    ours = (one for one, times in watched.times.items() if times == 1 and one not in watched.seen)
    free = (one for one in ours if "forward" not in vars(one) and not isinstance(one, nn.Softmax))
    return {one: watched.heads[one] for one in free}


def _softmax(through: Through, func: Call, scores: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """A softmax along the last of three or four axes; others share out something else."""
    shares = func(scores, *args, **kwargs)
    dim = kwargs.get("dim", args[0] if args else None)
    return through(shares) if shares.ndim in (3, 4) and dim in (-1, shares.ndim - 1) else shares


def _scaled_dot_product(
    through: Through,
    func: Call,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(Q K^T scale + mask) V, as PyTorch documents it, without dropout."""
    if query.ndim not in (3, 4):
        return func(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa)
    if enable_gqa:
        key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], dim=-3) for x in (key, value))
    scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(-2, -1)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None:
        scores = scores + _additive(attn_mask, scores)
    return through(scores.softmax(dim=-1)) @ value


def _additive(mask: Tensor, scores: Tensor) -> Tensor:
    """A mask that says which places count (True) as what is added to the scores; others are added as they are."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=scores.dtype).masked_fill(~mask, -torch.inf)


#: Arguments of `multi_head_attention_forward` that have no place in the explicit form.
_RARE = ("bias_k", "bias_v", "static_k", "static_v")


def _multi_head(through: Through, func: Call, *args: Any, **kwargs: Any) -> Any:
    """nn.MultiheadAttention: project, attend, project; left alone where it adds keys of its own."""
    given = dict(zip(_MULTI_HEAD, args, strict=False)) | kwargs
    if any(given.get(name) is not None for name in _RARE) or given.get("add_zero_attn") or given["query"].ndim != 3:
        return func(*args, **kwargs)
    kept: list[Tensor] = []

    def keeping(matrices: Tensor) -> Tensor:
        kept.append(through(matrices))
        return kept[0]

    q, k, v = _projected(given)
    mixed = _scaled_dot_product(keeping, func, q, k, v, _mask(given, q))
    output = F.linear(mixed.permute(2, 0, 1, 3).flatten(2), given["out_proj_weight"], given["out_proj_bias"])
    if not given.get("need_weights", True):
        return output, None
    return output, kept[0].mean(dim=1) if given.get("average_attn_weights", True) else kept[0]


def _projected(given: Mapping[str, Any]) -> list[Tensor]:
    """Query, key and value [B, heads, T, E / heads] of tensors [T, B, E]."""
    if given.get("use_separate_proj_weight"):
        weights = [given[f"{name}_proj_weight"] for name in "qkv"]
    else:
        weights = given["in_proj_weight"].chunk(3)
    bias = given["in_proj_bias"]
    biases = [None] * 3 if bias is None else bias.chunk(3)
    inputs = (given["query"], given["key"], given["value"])
    found = (F.linear(x, w, b) for x, w, b in zip(inputs, weights, biases, strict=True))
    return [x.unflatten(2, (given["num_heads"], -1)).permute(1, 2, 0, 3) for x in found]


def _mask(given: Mapping[str, Any], q: Tensor) -> Tensor | None:
    """Both masks of nn.MultiheadAttention, in which True stands for what does not count, as one that is added."""
    found = None
    attn, padding = given.get("attn_mask"), given.get("key_padding_mask")
    if attn is not None:
        found = attn.unflatten(0, q.shape[:2]) if attn.ndim == 3 else attn
    if padding is not None:
        padding = padding[:, None, None, :]
        found = padding if found is None else _excluding(found, q) + _excluding(padding, q)
    return None if found is None else _excluding(found, q)


def _excluding(mask: Tensor, q: Tensor) -> Tensor:
    return _additive(~mask if mask.dtype == torch.bool else mask, q)


#: The first arguments of `multi_head_attention_forward`, in their order.
_MULTI_HEAD = (
    *("query", "key", "value", "embed_dim_to_check", "num_heads", "in_proj_weight", "in_proj_bias"),
    *("bias_k", "bias_v", "add_zero_attn", "dropout_p", "out_proj_weight", "out_proj_bias", "training"),
    *("key_padding_mask", "need_weights", "attn_mask"),
)
#: By function, its explicit form.
_RULES: Mapping[Call, Call] = {
    **dict.fromkeys((torch.softmax, Tensor.softmax, F.softmax), _softmax),
    F.scaled_dot_product_attention: _scaled_dot_product,
    F.multi_head_attention_forward: _multi_head,
}
