"""Compare a method's maps of the original network with its maps of altered ones, and store a row for each image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from dix.bench.run.batch import Prepared, maps, prepare
from dix.bench.run.freshness import Freshness, keep_origin
from dix.bench.run.job import Job
from dix.bench.sanity.chance import COUNT, Others
from dix.bench.sanity.series import Series
from dix.bench.sanity.settings import Sanity
from dix.bench.sanity.similarity import SIMILARITIES, Explained, alike
from dix.bench.sanity.strips import Strip, Strips
from dix.bench.store.cells import StoredCell
from dix.bench.store.columns import Row
from dix.bench.store.results import ResultStore
from dix.classifier import Classifier
from dix.datasets.loader import Batch, Loader, load
from dix.explainer import Explainer
from dix.maps import faults
from dix.passes import Passes
from dix.seeding import generator

#: What can be wrong at one position of one image; rows store the index.
FAULTS = ("", "constant", "not finite", "failed", "undefined")


@dataclass(frozen=True)
class Likeness:
    """What a row of a sanity test holds: for one image a curve over the series' positions (see `Series`).

    test: the series' name. measure: of likeness, a key of SIMILARITIES. size, samples, noise: as in `Sanity`.
    """

    version: ClassVar[int] = 1
    higher_is_better: ClassVar[bool | None] = None  # likeness to another network's maps is neither good nor bad

    test: str
    measure: str
    repeat: int
    x: tuple[int, ...]
    names: tuple[str, ...]
    init: str
    size: int
    samples: int
    noise: float

    @property
    def name(self) -> str:
        """Names the cell, in the place of a metric's name."""
        return f"{self.test}_{self.measure}_r{self.repeat}"

    @property
    def label(self) -> str:
        """What a stored cell calls it, in the place of a metric's label."""
        return self.name


def likenesses(series: Series, settings: Sanity) -> list[Likeness]:
    """One for each measure. Raises ValueError for an unknown measure or a number out of range."""
    unknown = [m for m in settings.measures if m not in SIMILARITIES]
    if unknown or not settings.measures:
        got = repr(unknown[0]) if unknown else "none"
        raise ValueError(f"sanity.measures: expected some of {', '.join(SIMILARITIES)}, got {got}")
    if settings.size < 0 or settings.samples < 0 or not settings.noise > 0:
        raise ValueError(
            "sanity: expected size >= 0, samples >= 0 and noise > 0, got "
            f"{settings.size}, {settings.samples} and {settings.noise}"
        )
    noise = settings.noise if settings.samples else 0.0
    return [
        Likeness(
            series.name, m, series.repeat, series.x, series.names, series.init, settings.size, settings.samples, noise
        )
        for m in settings.measures
    ]


@dataclass
class SeriesOutcome:
    """What a test did. faulty: (image, position) pairs without a value, by method and fault."""

    images: int = 0
    rows: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    faulty: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Shown:
    """A batch under test: B images [B, 3, S, S], the outputs [B] to explain, and the ids."""

    images: Tensor
    targets: Tensor
    ids: tuple[str, ...]

    def only(self, i: int) -> Shown:
        """The i-th image alone."""
        return self.some([i])

    def some(self, rows: Sequence[int]) -> Shown:
        """Some of the images."""
        chosen = list(rows)
        return Shown(self.images[chosen], self.targets[chosen], tuple(self.ids[i] for i in chosen))


def run_series(
    job: Job,
    series: Series,
    settings: Sanity,
    store: ResultStore,
    progress: Callable[[int, int], None] | None = None,
) -> SeriesOutcome:
    """Store the curves of every image, method and measure that are not stored yet.

    The explained class is what the original network predicts, whatever the altered networks say.
    """
    if job.protocol.target != "predicted":
        raise ValueError("protocol.target: the sanity tests explain the original prediction; expected predicted")
    return _Test(job, series, settings, store).run(progress or (lambda done, total: None))


class _Test:
    """The state of one run of a series."""

    def __init__(self, job: Job, series: Series, settings: Sanity, store: ResultStore) -> None:
        self.likenesses = {c.name: c for c in likenesses(series, settings)}
        self.job = replace(job, metrics=cast("Mapping[str, Any]", self.likenesses))
        self.series = series
        self.settings = settings
        self.store = store
        self.cells = self.job.cells()
        self.outcome = SeriesOutcome(skipped=self.job.unsupported())
        self.methods = {name: m for name, m in job.methods.items() if name not in self.outcome.skipped}
        self.others: dict[str, Others] = {}
        self.strips = Strips(store.folder.parent, self.job, series, settings.strips)

    def run(self, progress: Callable[[int, int], None]) -> SeriesOutcome:
        """Compute what is missing, batch by batch; rows of a batch are stored together."""
        self.store.open(self.cells.values())
        self.origin = keep_origin(self.job, self.store)
        grid = self.job.batches()
        todo = list(self._open(grid))
        run = self.job.run
        batches = iter(Loader(self.job.dataset, self.job.preprocess, todo, run.workers, run.on_error))  # type: ignore[arg-type]
        fresh, lacking = Freshness(self.job, self.store), {indices[0] for indices in todo}
        self.others = self._others() if todo else {}
        for done, indices in enumerate(grid):
            progress(done, len(grid))
            if indices[0] in lacking:
                batch = next(batches)
                fresh.check_batch(batch)
                self._batch(indices, batch)
            else:
                fresh.check_stored(indices)
        progress(len(grid), len(grid))
        return self.outcome

    def _others(self) -> dict[str, Others]:
        """By method, its maps of the data set's first images, which every image's map is compared with as well."""
        first = range(min(COUNT, len(self.job.dataset.ids)))
        batch = load(self.job.dataset, self.job.preprocess, first, "skip")
        shown = _heard(prepare(self.job, batch)) if batch.ids else None
        if shown is None or not shown.ids:
            return {}
        return {name: Others(shown.ids, each) for name, each in self._explained(self.job.classifier, shown).items()}

    def _open(self, grid: Sequence[Sequence[int]]) -> Iterator[Sequence[int]]:
        """Batches that lack a row or a strip."""
        stored = self.store.done(self.job.group)
        for indices in grid:
            ids = {self.job.dataset.ids[i] for i in indices}
            complete = all(ids <= stored.get(cell.digest, set()) for cell in self.cells.values())
            if self.cells and not (complete and not self.strips.wants(indices, self.methods)):
                yield indices

    def _batch(self, indices: Sequence[int], batch: Batch) -> None:
        self.outcome.unread.update(batch.skipped)
        if not batch.ids:
            return
        prepared = prepare(self.job, batch)
        shown = _heard(prepared)
        rows = self._silent(prepared) + (self._compared(indices, shown) if shown.ids else [])
        contents = dict(zip(batch.ids, batch.contents, strict=True))
        rows = [replace(row, content=contents[row.image], origin=self.origin) for row in rows]
        self.store.append(self.job.group, rows)
        self.outcome.images += len(batch.ids)
        self.outcome.rows += len(rows)

    def _silent(self, prepared: Prepared) -> list[Row]:
        """Rows of the images that the original network does not answer for."""
        silent = {image: why for image, why in zip(prepared.images.ids, prepared.silent, strict=True) if why}
        return [
            Row(self.cells[name, metric].digest, image, float("nan"), reason=why)
            for name in self.methods
            for metric in self.likenesses
            for image, why in silent.items()
        ]

    def _compared(self, indices: Sequence[int], shown: Shown) -> list[Row]:
        original = self._explained(self.job.classifier, shown)
        altered = [self._explained(self.series.at(i), shown) for i in range(len(self.series.x))]
        rows: list[Row] = []
        for name in self.methods:
            curve = [explained[name] for explained in altered]
            self.strips.save(indices, name, _strip_data(shown, curve))
            self._count(name, original[name], curve)
            for metric, likeness in self.likenesses.items():
                chance = self.others.get(name, Others()).chance(likeness.measure, original[name], shown.ids)
                rows += _rows(self.cells[name, metric], likeness, shown.ids, original[name], curve, chance)
        return rows

    def _explained(self, classifier: Classifier, shown: Shown) -> dict[str, Explained]:
        found = explained(self.methods, classifier, shown, self.job, self.settings)
        return {name: _sized(each, self.settings.size) for name, each in found.items()}

    def _count(self, name: str, original: Explained, curve: Sequence[Explained]) -> None:
        counts = self.outcome.faulty.setdefault(name, {})
        for each in (original, *curve):
            for fault in filter(None, each.faults):
                counts[_kind(fault)] = counts.get(_kind(fault), 0) + 1


def _heard(prepared: Prepared) -> Shown:
    """The images that the original network answers for."""
    heard = [i for i, why in enumerate(prepared.silent) if not why]
    return Shown(prepared.images.images, prepared.passes.targets, tuple(prepared.images.ids)).some(heard)


def explained(
    methods: Mapping[str, Explainer], classifier: Classifier, shown: Shown, job: Job, settings: Sanity
) -> dict[str, Explained]:
    """Every method's maps at the images' resolution, averaged over noisy copies where the test is the smoothed one.

    A method that raises is tried on each image by itself, so that which images fail does not depend on the batch.
    """
    sums: dict[str, Tensor] = {}
    errors: dict[str, str] = {}
    for images in _views(shown, settings, job.protocol.seed):
        passes = Passes(classifier, images, shown.targets, ids=shown.ids, chunk=job.chunk, seed=job.protocol.seed)
        for name, method in methods.items():
            if name not in errors:
                maps = _attempt(method, passes, job.protocol.map_resize)
                if isinstance(maps, str):
                    errors[name] = maps
                else:
                    sums[name] = sums.get(name, 0) + maps / max(1, settings.samples)
    found = {name: Explained(maps, tuple(faults(maps))) for name, maps in sums.items() if name not in errors}
    for name, message in errors.items():
        found[name] = (
            _failed(message, shown)
            if len(shown.ids) == 1
            else _one_by_one(name, methods[name], classifier, shown, job, settings)
        )
    return found


def _attempt(method: Explainer, passes: Passes, resize: str) -> Tensor | str:
    """The maps, or what the method raised. Memory and a launcher's signals are nobody's finding: they go through."""
    try:
        return maps(method, passes, resize).values
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        if type(error).__module__.startswith("submitit"):
            raise
        return f"{type(error).__name__}: {error}"


def _one_by_one(
    name: str, method: Explainer, classifier: Classifier, shown: Shown, job: Job, settings: Sanity
) -> Explained:
    each = [explained({name: method}, classifier, shown.only(i), job, settings)[name] for i in range(len(shown.ids))]
    return Explained(torch.cat([e.maps for e in each]), tuple(fault for e in each for fault in e.faults))


def _failed(message: str, shown: Shown) -> Explained:
    nothing = torch.full_like(shown.images[:, 0], torch.nan)
    return Explained(nothing, (f"failed: {message}",) * len(shown.ids))


def _views(shown: Shown, settings: Sanity, seed: int) -> Iterator[Tensor]:
    """The images, or their noisy copies: the same noise for every network, drawn from each image's id."""
    if not settings.samples:
        yield shown.images
    for i in range(settings.samples):
        rows = [_normal(shown.images.shape[1:], generator(seed, name, "smooth", i)) for name in shown.ids]
        yield shown.images + settings.noise * torch.stack(rows).to(shown.images)


def _normal(shape: Sequence[int], draws: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=draws)


def _sized(each: Explained, size: int) -> Explained:
    """Maps averaged down to `size` pixels a side; 0 or a size not below theirs leaves them."""
    if not 0 < size < min(each.maps.shape[-2:]):
        return each
    maps = F.adaptive_avg_pool2d(each.maps[:, None], size)[:, 0]
    fresh = faults(maps)
    return Explained(maps, tuple(old or new for old, new in zip(each.faults, fresh, strict=True)))


def _rows(
    cell: StoredCell,
    likeness: Likeness,
    ids: Sequence[str],
    original: Explained,
    curve: Sequence[Explained],
    chance: Sequence[float],
) -> list[Row]:
    values = torch.stack([alike(likeness.measure, original, each) for each in curve], dim=1).cpu()
    return [
        Row(cell.digest, ids[b], float("nan"), (), (), f"original map {original.faults[b]}")
        if original.faults[b]
        else _row(cell, likeness, ids[b], values[b].tolist(), [each.faults[b] for each in curve], chance[b])
        for b in range(len(ids))
    ]


def _row(
    cell: StoredCell, likeness: Likeness, image: str, curve: list[float], found: Sequence[str], chance: float
) -> Row:
    """One image's curve. value: its mean over the altered networks, only where none is missing.

    parts: index into FAULTS at each position, and last the chance level (see `Others`).
    """
    kinds = [_kind(f) or ("undefined" if v != v else "") for f, v in zip(found, curve, strict=True)]
    places = [f"{kind} at {k}" for k, kind in zip(likeness.x, kinds, strict=True) if kind]
    messages = dict.fromkeys(f for f in found if f.startswith("failed"))
    altered = curve[1:]
    return Row(
        cell.digest,
        image,
        float("nan") if places else sum(altered) / max(1, len(altered)),
        [*(float(FAULTS.index(kind)) for kind in kinds), chance],
        curve,
        ", ".join(places),
        "; ".join(messages),
    )


def _kind(fault: str) -> str:
    return fault.split(":")[0]


def _strip_data(shown: Shown, curve: Sequence[Explained]) -> list[Strip]:
    maps = torch.stack([each.maps for each in curve], dim=1).float().cpu().numpy()
    photos = shown.images.permute(0, 2, 3, 1).float().cpu().numpy()
    return [
        Strip(name, int(target), photo, own)
        for name, target, photo, own in zip(shown.ids, shown.targets, photos, maps, strict=True)
    ]
