"""Counts how often the processor asks a device for a number, which makes it wait for all that the device has to do."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

#: Calls on a tensor that bring its values to the host, whatever device it is on.
READS = {
    Tensor.item,
    Tensor.tolist,
    Tensor.cpu,
    Tensor.numpy,
    Tensor.__bool__,
    Tensor.__int__,
    Tensor.__float__,
    Tensor.__index__,
    Tensor.__array__,
}
#: Operations whose result's shape depends on values: a device has to be waited for before it can be allocated.
SHAPED = {"aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim"}


class HostReads(TorchFunctionMode):
    """While it is entered: `at` counts reads by the line of this project's code that asks for them."""

    def __init__(self) -> None:
        super().__init__()
        self.at: Counter[str] = Counter()
        self._operations = _Shaped(self.at)

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if func in READS:
            self.at[_line()] += 1
        return func(*args, **(kwargs or {}))

    def __enter__(self) -> HostReads:
        self._operations.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._operations.__exit__(*error)


class _Shaped(TorchDispatchMode):
    def __init__(self, at: Counter[str]) -> None:
        super().__init__()
        self.at = at

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name in SHAPED:
            self.at[f"{_line()} {func._schema.name}"] += 1
        return func(*args, **(kwargs or {}))


def _line() -> str:
    """The innermost line of the project's own code."""
    own = [frame for frame in traceback.extract_stack() if "/tests/" not in frame.filename and _ours(frame.filename)]
    return f"{own[-1].filename.rsplit('/', 2)[-2]}/{own[-1].name}:{own[-1].lineno}" if own else "a library"


def _ours(path: str) -> bool:
    return any(f"/{room}/" in path for room in ("dix", "baselines", "metrics")) and "site-packages" not in path
