"""Packages that only part of the suite needs, imported when that part runs."""

from __future__ import annotations

import importlib
from typing import Any


class MissingExtra(ImportError, ValueError):
    """An optional package is not installed; the message names the extra that brings it."""


def optional(module: str, extra: str) -> Any:
    """Import a module that the extra of this name brings, as in ``pip install 'dix-bench[datasets]'``.

    Raises MissingExtra where its package is not installed. Any other error of the import passes unchanged.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.split(".")[0]
        if (error.name or "").split(".")[0] != package:
            raise
        raise MissingExtra(
            f"this needs the package {package!r}, which is not installed: pip install 'dix-bench[{extra}]'"
        ) from error
