"""Preprocessing and loading: the pixels that a model sees, order, bounds, errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from PIL import Image

from dix import torchvision_repair
from dix.datasets.api import VOID, CorruptSample, Record
from dix.datasets.loader import Loader, load
from dix.datasets.preprocess import Preprocess


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def triangle_resize(row: np.ndarray, size: int) -> np.ndarray:
    """Antialiased bilinear resize of one axis, literally: a triangle as wide as two output pixels."""
    scale = len(row) / size
    width = max(scale, 1.0)
    out = []
    for i in range(size):
        centre = (i + 0.5) * scale
        low, high = max(int(centre - width + 0.5), 0), min(int(centre + width + 0.5), len(row))
        weights = np.maximum(0, 1 - np.abs((np.arange(low, high) + 0.5 - centre) / width))
        out.append(np.tensordot(weights / weights.sum(), row[low:high], 1))
    return np.stack(out)


def plain_bilinear(row: np.ndarray, size: int) -> np.ndarray:
    """Two-tap bilinear resize of one axis with half-pixel centres."""
    centre = np.clip((np.arange(size) + 0.5) * len(row) / size - 0.5, 0, len(row) - 1)
    low = np.floor(centre).astype(int)
    high = np.minimum(low + 1, len(row) - 1)
    share = (centre - low).reshape(-1, *[1] * (row.ndim - 1))
    return row[low] * (1 - share) + row[high] * share


@pytest.mark.parametrize(("antialias", "reference"), [(True, triangle_resize), (False, plain_bilinear)])
def test_direct_resize_keeps_no_aspect_and_follows_the_filter(antialias: bool, reference) -> None:
    image = noise(70, 41)
    got = Preprocess(size=16, antialias=antialias).image(image)
    array = np.asarray(image, dtype=float)
    expected = reference(reference(array, 16).swapaxes(0, 1), 16).swapaxes(0, 1) / 255
    assert got.shape == (3, 16, 16)
    assert got.dtype == torch.float32
    tolerance = 1.5 / 255 if antialias else 1e-5  # Pillow rounds to eight bits after each axis
    np.testing.assert_allclose(got.permute(1, 2, 0).numpy(), expected, atol=tolerance)


def test_antialias_changes_the_pixels_when_shrinking() -> None:
    image = noise(200, 200)
    assert (Preprocess(32).image(image) - Preprocess(32, antialias=False).image(image)).abs().mean() > 0.1


def test_bicubic_overshoot_is_cut_at_black_and_white() -> None:
    edge = Image.fromarray(np.repeat(np.repeat(np.array([[0, 255]], dtype=np.uint8), 8, 1), 16, 0)).convert("RGB")
    pixels = Preprocess(40, interpolation="bicubic", antialias=False).image(edge)
    assert (float(pixels.min()), float(pixels.max())) == (0.0, 1.0)


def test_crop_equals_the_published_recipe_of_timm() -> None:
    torchvision_repair.install()
    from timm.data.transforms_factory import transforms_imagenet_eval

    recipe = transforms_imagenet_eval(224, crop_pct=0.9, interpolation="bicubic", normalize=False)
    ours = Preprocess(224, "crop", 0.9, "bicubic")
    for width, height in ((500, 333), (333, 501), (300, 300), (251, 248)):
        image = noise(width, height)
        assert torch.equal(ours.image(image), recipe(image).float() / 255)


def test_a_mask_moves_with_its_image_and_stays_a_mask() -> None:
    mask = np.zeros((60, 90), dtype=np.int8)
    mask[10:40, 30:70] = 1
    mask[:5] = VOID
    image = Image.fromarray(((mask == 1) * 255).astype(np.uint8)).convert("RGB")
    for preprocess in (Preprocess(30), Preprocess(30, "crop", 0.75), Preprocess(96, "pad")):
        small = preprocess.mask(mask)
        assert small.dtype == torch.int8
        assert set(small.unique().tolist()) <= {-1, 0, 1}
        assert ((preprocess.image(image)[0] > 0.5) == (small == 1)).float().mean() > 0.95


def test_nearest_takes_the_pixel_under_the_centre() -> None:
    mask = (np.arange(50 * 70).reshape(50, 70) % 3 - 1).astype(np.int8)
    rows = ((np.arange(8) + 0.5) * 50 / 8).astype(int)
    columns = ((np.arange(8) + 0.5) * 70 / 8).astype(int)
    np.testing.assert_array_equal(Preprocess(8).mask(mask).numpy(), mask[np.ix_(rows, columns)])


def test_pad_centres_a_digit_on_black() -> None:
    digit = noise(28, 28)
    padded = Preprocess(32, "pad").image(digit)
    assert torch.equal(padded[:, 2:30, 2:30], torch.from_numpy(np.array(digit)).permute(2, 0, 1) / 255)
    assert padded.sum() == pytest.approx(float(padded[:, 2:30, 2:30].sum()))
    with pytest.raises(CorruptSample, match="at most 20x20 pixels, got 28x28"):
        Preprocess(20, "pad").image(digit)


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1)])
def test_a_picture_as_narrow_as_a_line_is_named_before_it_is_scaled_to_gigabytes(size: tuple[int, int]) -> None:
    with pytest.raises(CorruptSample, match=f"resize=crop: {size[0]}x{size[1]} pixels are too long and narrow"):
        Preprocess(224, "crop").image(Image.new("RGB", size))
    assert Preprocess(8).image(Image.new("RGB", size)).shape == (3, 8, 8)


def test_identity_holds_everything_that_changes_pixels_and_faults_name_the_key() -> None:
    assert Preprocess(224, "crop", 0.875, "bicubic", False).identity() == {
        "size": 224,
        "resize": "crop",
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "antialias": False,
    }
    with pytest.raises(ValueError, match=r"preprocess.interpolation: expected bilinear or bicubic, got 'lanczos'"):
        Preprocess(interpolation="lanczos")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"preprocess.crop_pct"):
        Preprocess(crop_pct=0)


@dataclass
class Fake:
    """Images whose grey level is their index; `bad` ones are corrupt; counts what was read."""

    count: int
    bad: frozenset[int] = frozenset()
    masked: frozenset[int] = frozenset()
    delay: float = 0.0
    name: str = "fake"
    label_space: str | None = "imagenet"
    started: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def ids(self) -> Sequence[str]:
        return [f"i{n}" for n in range(self.count)]

    @property
    def labels(self) -> Sequence[int | None]:
        return [None if n % 2 else n for n in range(self.count)]

    @property
    def class_names(self) -> Mapping[int, str]:
        return {}

    def read(self, index: int) -> Record:
        with self.lock:
            self.started.append(index)
        time.sleep(self.delay * (index % 3))
        if index in self.bad:
            raise CorruptSample(f"i{index}.jpg: broken")
        mask = np.ones((4, 4), dtype=np.int8) if index in self.masked else None
        label = None if index % 2 else index
        return Record(f"i{index}", Image.new("RGB", (4, 4), (index, index, index)), label, mask)

    def fingerprint(self) -> str:
        return ""


GRID = [range(0, 4), range(4, 8), [11, 9], range(12, 13)]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_order_whatever_the_workers(workers: int) -> None:
    batches = list(Loader(Fake(13, delay=0.003), Preprocess(2), GRID, workers))
    assert [batch.ids for batch in batches] == [tuple(f"i{n}" for n in indices) for indices in GRID]
    for batch, indices in zip(batches, GRID, strict=True):
        assert (batch.images * 255).round()[:, 0, 0, 0].tolist() == list(indices)
        assert batch.labels.tolist() == [-1 if n % 2 else n for n in indices]
        assert batch.labels.dtype == torch.int64


@pytest.mark.parametrize("workers", [0, 2])
def test_corrupt_samples_stop_or_are_left_out_with_their_reason(workers: int) -> None:
    data = Fake(13, bad=frozenset({5, 12}))
    kept = list(Loader(data, Preprocess(2), GRID, workers, "skip"))
    assert kept[1].ids == ("i4", "i6", "i7")
    assert kept[1].skipped == (("i5", "i5.jpg: broken"),)
    assert kept[3].ids == ()
    assert kept[3].images.shape == (0, 3, 2, 2)
    assert kept[3].labels.shape == kept[3].has_mask.shape == (0,)
    with pytest.raises(CorruptSample, match=r"i5.jpg: broken"):
        list(Loader(data, Preprocess(2), GRID, workers, "stop"))


def test_another_exception_is_never_skipped() -> None:
    data = Fake(2)
    data.read = lambda index: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    with pytest.raises(ZeroDivisionError):
        list(Loader(data, Preprocess(2), [[0, 1]], 1, "skip"))


def test_masks_are_void_where_an_image_has_none_and_absent_where_none_has() -> None:
    data = Fake(8, masked=frozenset({1}))
    first, second = Loader(data, Preprocess(3), [range(0, 4), range(4, 8)], 0)
    assert first.has_mask.tolist() == [False, True, False, False]
    assert first.masks is not None
    assert first.masks[1].unique().tolist() == [1]
    assert first.masks[0].unique().tolist() == [VOID]
    assert second.masks is None


def test_no_more_than_the_bound_is_decoded_ahead_and_leaving_early_stops_the_threads() -> None:
    data = Fake(400)
    batches = iter(Loader(data, Preprocess(2), [range(i, i + 4) for i in range(0, 400, 4)], 2, ahead=2))
    next(batches)
    time.sleep(0.2)
    assert len(data.started) <= 4 * 3  # the batch handed out and two more
    before = threading.active_count()
    batches.close()  # type: ignore[attr-defined]
    assert threading.active_count() < before


def test_leaving_early_cancels_what_was_queued() -> None:
    data = Fake(400, delay=0.01)
    batches = iter(Loader(data, Preprocess(2), [range(i, i + 4) for i in range(0, 400, 4)], 1, ahead=90))
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert len(data.started) < 100


def test_load_equals_the_loader_and_wrong_settings_name_their_key() -> None:
    assert torch.equal(
        load(Fake(4), Preprocess(2), [2, 0]).images, next(iter(Loader(Fake(4), Preprocess(2), [[2, 0]]))).images
    )
    with pytest.raises(ValueError, match=r"run.on_error: expected stop or skip, got 'ignore'"):
        load(Fake(1), Preprocess(2), [0], "ignore")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"run.workers"):
        Loader(Fake(1), Preprocess(2), [[0]], -1)


@dataclass
class Computing(Fake):
    """Reads with an operation that torch would spread over threads; notes how many it may take, and who asks."""

    noted: list[tuple[str, int]] = field(default_factory=list)

    def read(self, index: int) -> Record:
        torch.ones(2**18).div_(3)
        self.noted.append((threading.current_thread().name, torch.get_num_threads()))
        return super().read(index)


def test_decoding_threads_leave_torchs_threads_to_the_model() -> None:
    """Teams of threads of their own would put the model's to sleep between any two operations."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        dataset = Computing(9, delay=0.01)
        for _ in Loader(dataset, Preprocess(size=4), [[i] for i in range(9)], workers=3):
            torch.ones(2**18).div_(3)
            assert torch.get_num_threads() == 2
        assert [threads for _, threads in dataset.noted] == [1] * 9
        assert len({name for name, _ in dataset.noted}) > 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_system_that_starts_no_more_threads_is_named_and_the_started_ones_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The threads wait for each other when they begin: those that did start must not wait for ever."""
    start, before = threading.Thread.start, torch.get_num_threads()

    def limited(thread: threading.Thread) -> None:
        if thread.name.startswith("decode") and sum(t.name.startswith("decode") for t in threading.enumerate()) == 2:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    with pytest.raises(OSError, match=r"run.workers: the system starts no 3 threads .*can't start new thread"):
        next(iter(Loader(Fake(4), Preprocess(2), [[0]], workers=3)))
    for thread in threading.enumerate():
        if thread.name.startswith("decode"):
            thread.join(timeout=10)
            assert not thread.is_alive()
    assert torch.get_num_threads() == before
