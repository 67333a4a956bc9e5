"""What each library that is installed here offers, as the adapters take it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from dix.baselines.wrap import captum, grad_cam, lxt, saliency, zennit
from dix.baselines.wrap.adapter import quiet
from dix.extras import MissingExtra


@dataclass(frozen=True)
class Offer:
    """A library.

    adapter: the class that takes its methods. key: the adapter's argument that names one. names: of all; refused: those
    that give no map of a class, and why. missing: why there are none, or "".
    """

    adapter: str
    key: str
    names: tuple[str, ...]
    refused: Mapping[str, str]
    missing: str = ""


#: By adapter: the argument that names a method, all names, and what is refused.
_LIBRARIES: Mapping[str, tuple[str, Callable[[], Iterable[str]], Mapping[str, str]]] = {
    "Captum": ("attribution", captum.offered, captum.NOT_OFFERED),
    "PytorchGradCam": ("cam", grad_cam.offered, grad_cam.NOT_OFFERED),
    "Saliency": ("method", saliency.offered, saliency.NOT_OFFERED),
    "Zennit": ("composite", zennit.offered, {}),
    "Lxt": ("patches", lxt.offered, {}),
}


def offers() -> list[Offer]:
    """All libraries, whether they are installed or not."""
    return [_offer(adapter, *about) for adapter, about in _LIBRARIES.items()]


def _offer(adapter: str, key: str, offered: Callable[[], Iterable[str]], refused: Mapping[str, str]) -> Offer:
    try:
        with quiet():
            return Offer(adapter, key, tuple(sorted(offered())), refused)
    except MissingExtra as error:
        return Offer(adapter, key, (), {}, str(error))
