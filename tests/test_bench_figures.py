"""Overlays, grids and curve figures: pixels that can be computed by hand, and bytes that do not change."""

import numpy as np
import pytest
from matplotlib import colormaps

from dix.bench.report import figures
from dix.bench.report.figures import Example
from dix.bench.tables.curves import CurveLine, CurvePanel
from dix.bench.tables.samples import Block
from dix.metrics.api import Axis
from dix.pictures import overlay, without_peaks

GREY = np.full((4, 4, 3), 0.5)
RAMP = np.linspace(-3, 5, 16).reshape(4, 4)


def test_overlay_leaves_the_least_relevant_pixel_and_colours_the_most():
    image = np.random.default_rng(0).uniform(size=(3, 4, 4))
    picture = overlay(image, RAMP, strength=0.8)
    assert (picture.dtype, picture.shape) == (np.uint8, (4, 4, 3))
    red, green, blue = image[:, 0, 0]
    assert picture[0, 0].tolist() == [round(255 * (0.299 * red + 0.587 * green + 0.114 * blue))] * 3
    luma = image[:, 3, 3] @ [0.299, 0.587, 0.114]
    expected = 0.8 * np.array(colormaps["inferno"](1.0)[:3]) + 0.2 * luma
    assert picture[3, 3] == pytest.approx(255 * expected, abs=0.51)


def test_overlay_takes_both_axis_orders_and_ignores_a_maps_scale():
    image = np.random.default_rng(1).uniform(size=(4, 4, 3))
    assert np.array_equal(overlay(image, RAMP), overlay(np.moveaxis(image, -1, 0), RAMP))
    assert np.array_equal(overlay(image, RAMP), overlay(image, 8 * RAMP + 2))


def test_overlay_of_a_constant_map_is_the_grey_image():
    assert (overlay(0.8 * GREY, np.ones((4, 4))) == round(255 * 0.4)).all()


@pytest.mark.parametrize(
    ("image", "explanation", "message"),
    [
        (GREY, np.where(RAMP > 4, np.nan, RAMP), "finite map"),
        (GREY, RAMP[:3], r"\(4, 4\), got \(3, 4\)"),
        (2 * GREY + 0.1, RAMP, r"pixels in \[0, 1\]"),
        (GREY[..., :2], RAMP, r"got \(4, 4, 2\)"),
    ],
)
def test_overlay_names_what_is_wrong(image, explanation, message):
    with pytest.raises(ValueError, match=message):
        overlay(image, explanation)


def grid():
    examples = [Example("St. $Bernard_x$, dog", GREY, {"gc": RAMP, "dix3": -RAMP}), Example("cat", GREY, {"gc": RAMP})]
    return figures.qualitative_grid(examples, ["gc", "dix3"], {"gc": "GC"})


def test_grid_has_rows_of_images_and_columns_of_methods():
    axes = grid().axes
    assert [axis.get_title() for axis in axes[:3]] == ["image", "GC", "dix3"]
    assert [len(axis.images) for axis in axes] == [1, 1, 1, 1, 1, 0]
    assert [text.get_text() for axis in axes for text in axis.texts] == ["St. $Bernard_x$", "cat"]
    assert np.array_equal(axes[2].images[0].get_array(), overlay(GREY, -RAMP))


def curve_figure():
    mean = np.array([1.0, 0.5, 0.2])
    lines = tuple(CurveLine(f"m{k}", 9, mean / (k + 1), mean / (k + 1) - 0.1, mean / (k + 1) + 0.1) for k in range(9))
    panels = [CurvePanel(Block("p", "d", "m"), name, Axis((0.0, 0.5, 1.0), "x"), lines) for name in ("neg", "p$s")]
    return figures.curve_figure(panels, {"m0": "A$B"}, columns=1)


def test_curve_figure_tells_nine_methods_apart():
    axis = curve_figure().axes[0]
    looks = {(line.get_color(), line.get_linestyle()) for line in axis.lines}
    assert len(looks) == 9
    assert axis.lines[1].get_ydata().tolist() == [0.5, 0.25, 0.1]
    assert len(axis.collections) == 9


@pytest.mark.parametrize("kind", ["pdf", "svg", "png"])
@pytest.mark.parametrize("make", [grid, curve_figure])
def test_figures_have_the_same_bytes_every_time(tmp_path, kind, make):
    first, second = figures.figure_bytes(make(), kind, dpi=40), figures.figure_bytes(make(), kind, dpi=40)
    assert first == second
    assert first.startswith({"pdf": b"%PDF", "svg": b"<?xml", "png": b"\x89PNG"}[kind])
    path = tmp_path / "deep" / f"figure.{kind}"
    figures.save(make(), path, dpi=40)
    assert path.read_bytes() == first


def test_an_unknown_format_is_named():
    with pytest.raises(ValueError, match=r"\['pdf', 'png', 'svg'\], got 'tiff'"):
        figures.figure_bytes(grid(), "tiff")


def test_peaks_are_cut_to_the_quantile_and_nothing_else_changes():
    values = np.arange(400, dtype=float).reshape(20, 20)
    cut = without_peaks(values, share=0.01)
    assert cut.max() == pytest.approx(0.99 * 399)
    np.testing.assert_array_equal(cut[values < 395], values[values < 395])
    single = np.zeros((20, 20))
    single[3, 4] = 1.0
    np.testing.assert_array_equal(without_peaks(single), single)
