"""DIX: a reproducible benchmark of Deep Integrated Explanations and other methods that explain vision models.

The names below are the public ones. Each is imported when it is first asked for, so that ``import dix`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dix.api.benchmarking import benchmark
    from dix.api.explaining import explain
    from dix.api.results import load_results
    from dix.classifier import Classifier
    from dix.datasets.api import Dataset
    from dix.explainer import Dix, Explainer
    from dix.metrics.api import Metric
    from dix.models.wrap import wrap

__version__ = "0.2.0"
__all__ = [
    "Classifier", "Dataset", "Dix", "Explainer", "Metric", "__version__",
    "benchmark", "explain", "load_results", "wrap",
]  # fmt: skip

#: The module that each public name comes from.
_HOMES = {
    "Classifier": "dix.classifier",
    "Dataset": "dix.datasets.api",
    "Dix": "dix.explainer",
    "Explainer": "dix.explainer",
    "Metric": "dix.metrics.api",
    "benchmark": "dix.api.benchmarking",
    "explain": "dix.api.explaining",
    "load_results": "dix.api.results",
    "wrap": "dix.models.wrap",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dix' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
