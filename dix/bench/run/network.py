"""The network that every method relies on: what it was, what changed, put it right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from dix.bench.run.seals import seal
from dix.classifier import LIBRARIES, Classifier

#: The dictionaries in which a module keeps its hooks.
HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks_always_called",
)


@dataclass(frozen=True)
class _Module:
    """What a module was like. plain: its simple attributes, where the libraries' own code is its class."""

    name: str
    module: nn.Module
    training: bool
    plain: dict[str, Any]
    hooks: dict[str, dict[Any, Any]]
    children: dict[str, nn.Module | None]
    parameters: dict[str, Any]
    buffers: dict[str, Any]

    @staticmethod
    def of(name: str, module: nn.Module) -> _Module:
        """As it is now."""
        return _Module(
            name=name or type(module).__name__,
            module=module,
            training=module.training,
            plain=_plain(module),
            hooks={key: dict(getattr(module, key)) for key in HOOKS},
            children=dict(module._modules),
            parameters=dict(module._parameters),
            buffers=dict(module._buffers),
        )

    def changed(self, thorough: bool) -> Iterator[str]:
        """What is another now, in words; the quick look sees hooks and modes alone."""
        module = self.module
        if any(getattr(module, key).keys() != kept.keys() for key, kept in self.hooks.items()):
            yield f"a hook on {self.name}"
        if module.training != self.training:
            yield f"the training mode of {self.name}"
        if thorough:
            yield from self._parts_changed()

    def _parts_changed(self) -> Iterator[str]:
        module = self.module
        if _plain(module) != self.plain:
            yield f"{_differing(self.plain, _plain(module))} of {self.name}"
        tables: tuple[dict[str, Any], ...] = (module._modules, module._parameters, module._buffers)
        for now, kept in zip(tables, (self.children, self.parameters, self.buffers), strict=True):
            if not _same_objects(now, kept):
                yield f"a part of {self.name}"

    def restore(self) -> None:
        """Make it as it was; the numbers in its tensors are put right elsewhere."""
        module = self.module
        for key, kept in self.hooks.items():
            _refill(getattr(module, key), kept)
        for key in set(_plain(module)) - set(self.plain):
            del module.__dict__[key]
        module.__dict__.update(self.plain)
        module.training = self.training
        _refill(module._modules, self.children)
        _refill(module._parameters, self.parameters)
        _refill(module._buffers, self.buffers)


def _plain(module: nn.Module) -> dict[str, Any]:
    """Attributes that say how a module computes: simple values of the libraries' classes; for any, a replaced forward.

    A stranger's module may keep books in its own attributes while it runs, so they are not watched.
    """
    own = vars(module)
    found = {"forward": own["forward"]} if "forward" in own else {}
    if type(module).__module__.split(".")[0] in LIBRARIES:
        found |= {key: value for key, value in own.items() if isinstance(value, bool | int | float | str)}
    return found


def _differing(kept: dict[str, Any], now: dict[str, Any]) -> str:
    return ", ".join(sorted(dict(kept.items() ^ now.items())))


def _same_objects(now: dict[str, Any], kept: dict[str, Any]) -> bool:
    return now.keys() == kept.keys() and all(now[key] is value for key, value in kept.items())


def _refill(table: Any, kept: dict[Any, Any]) -> None:
    if not _same_objects(table, kept):
        table.clear()
        table.update(kept)


class Network:
    """A classifier's network at one moment, with a copy of its weights on the CPU to put them right from."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self.kept = dict(vars(classifier))
        self.layers = dict(classifier.layers)
        self.modules = [_Module.of(name, module) for name, module in classifier.network.named_modules()]
        self.tensors = {
            **dict(classifier.network.named_parameters()),
            **dict(classifier.network.named_buffers()),
            "mean": classifier.mean,
            "std": classifier.std,
        }
        self.copies = {name: tensor.detach().to("cpu", copy=True) for name, tensor in self.tensors.items()}
        self.seals = {name: seal(tensor) for name, tensor in self.tensors.items()}
        self.marks = self._marks()

    def changed(self, thorough: bool = True) -> list[str]:
        """What is another now, in words.

        The quick look (a fraction of a millisecond) reads hooks, modes and the version counters of the weights; the
        thorough one reads every weight, so that it also sees what was written past those counters.
        """
        found = [what for each in self.modules for what in each.changed(thorough)]
        found += [f"{key} of the classifier" for key, value in self.kept.items() if not self._still(key, value)]
        found += [f"the weights {name}" for name, mark in self._marks().items() if mark != self.marks[name]]
        if thorough and not found:
            found += [f"the weights {name}" for name, kept in self.seals.items() if seal(self.tensors[name]) != kept]
        return found

    def restore(self) -> None:
        """Make it as it was, to the last bit; tails that may have been recorded meanwhile are recorded anew."""
        self.classifier.__dict__.update(self.kept)
        self.classifier.layers = dict(self.layers)
        self.kept = dict(vars(self.classifier))
        for each in self.modules:
            each.restore()
        for name, tensor in self.tensors.items():
            tensor.requires_grad_(False)
            tensor.grad = None
            if seal(tensor) != self.seals[name]:
                tensor.data.copy_(self.copies[name])
        self.marks = self._marks()
        self.classifier.forget_tails()

    def _marks(self) -> dict[str, tuple[int, int, bool, bool]]:
        """Of each tensor: how often it was written into, where it lies, and whether it takes part in gradients."""
        return {
            name: (tensor._version, tensor.data_ptr(), tensor.requires_grad, tensor.grad is not None)
            for name, tensor in self.tensors.items()
        }

    def _still(self, key: str, value: Any) -> bool:
        now = vars(self.classifier).get(key)
        return now == self.layers if key == "layers" else now is value
