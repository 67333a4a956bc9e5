"""The settings of the process that every method relies on: what they were, which changed, put them right."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.modules import module as torch_modules

_GLOBAL_HOOKS = ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks")


@dataclass(frozen=True)
class Setting:
    """One setting of the process. what: it in words. get, put: read it, set it."""

    what: str
    get: Callable[[], Any]
    put: Callable[[Any], object]


def _put_default_device(device: torch.device) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)


def _put_modes(modes: tuple[bool, bool]) -> None:
    torch.set_autocast_enabled("cpu", modes[0])
    torch.set_autocast_enabled("cuda", modes[1])


def _put_cudnn(flags: tuple[Any, ...]) -> None:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    cudnn.enabled, cudnn.benchmark, cudnn.deterministic = flags[:3]
    cudnn.conv.fp32_precision, matmul.fp32_precision = flags[3:]  # type: ignore[attr-defined]


def _put_handlers(handlers: tuple[Any, ...]) -> None:
    for number, handler in zip((signal.SIGTERM, signal.SIGINT), handlers, strict=True):
        with contextlib.suppress(ValueError, TypeError):  # outside the main thread, or set by another language
            signal.signal(number, handler)


def _global_hooks() -> tuple[dict[Any, Any], ...]:
    return tuple(dict(getattr(torch_modules, name)) for name in _GLOBAL_HOOKS)


def _put_global_hooks(hooks: tuple[dict[Any, Any], ...]) -> None:
    for name, kept in zip(_GLOBAL_HOOKS, hooks, strict=True):
        known = getattr(torch_modules, name)
        known.clear()
        known.update(kept)


SETTINGS = (
    Setting("the working directory", os.getcwd, os.chdir),
    Setting("whether gradients are recorded", torch.is_grad_enabled, torch.set_grad_enabled),
    Setting("the default dtype", torch.get_default_dtype, torch.set_default_dtype),
    Setting("the default device", torch.get_default_device, _put_default_device),
    Setting("the number of threads", torch.get_num_threads, torch.set_num_threads),
    Setting("deterministic algorithms", torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    Setting(
        "autocasting",
        lambda: (torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")),
        _put_modes,
    ),
    Setting("anomaly detection", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    Setting(
        "cuDNN's and CUDA's flags",
        lambda: (
            torch.backends.cudnn.enabled,
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.conv.fp32_precision,  # type: ignore[attr-defined]
            torch.backends.cuda.matmul.fp32_precision,
        ),
        _put_cudnn,
    ),
    Setting("NumPy's handling of errors", np.geterr, lambda kept: np.seterr(**kept)),
    Setting(
        "signal handlers", lambda: (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)), _put_handlers
    ),
    Setting("hooks on all modules", _global_hooks, _put_global_hooks),
)


class Process:
    """The process's settings at one moment."""

    def __init__(self) -> None:
        self.kept = [setting.get() for setting in SETTINGS]

    def changed(self) -> list[str]:
        """The settings that are others now, in words."""
        return [s.what for s, kept in zip(SETTINGS, self.kept, strict=True) if _now(s) != kept]

    def restore(self) -> None:
        """Set what is another now as it was."""
        for setting, kept in zip(SETTINGS, self.kept, strict=True):
            if _now(setting) != kept:
                setting.put(kept)


def _now(setting: Setting) -> Any:
    """The setting's value; None where it cannot be told any more (the working directory was removed)."""
    try:
        return setting.get()
    except OSError:
        return None
