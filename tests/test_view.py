"""Results image by image: what the site holds, that it gives nothing else away, and that it works in Chromium."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support import browser, engine_jobs
from support.packs import METHODS, made_store

from dix.bench.run.estimate import MAP_EXTRA
from dix.bench.run.gallery import kept_images, stored_map
from dix.bench.store.results import ResultStore
from dix.bench.view import pictures
from dix.bench.view.fills import canvas, fill_of
from dix.bench.view.scores import Scores
from dix.bench.view.server import Server
from dix.bench.view.site import CHUNK, Site
from dix.cli import main
from dix.metrics.api import ImageBatch, Prediction
from dix.metrics.fills import canvas as metric_canvas

HOSTILE = """<script>alert('x')<|script>"><img src=x onerror=alert(1)>{{7*7}}"""
ALL = {**METHODS, HOSTILE: engine_jobs.Brightness(label=HOSTILE)}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four methods, one with a hostile name, on eight images; pictures of two, numbers of the maps of three."""
    folder = tmp_path_factory.mktemp("view") / "made"
    made_store(folder, methods=ALL, gallery=2, maps=2, maps_of=["image1", "image2"])
    return folder


@pytest.fixture
def site(results: Path) -> Site:
    return Site([results])


def loaded(site: Site, path: str) -> Any:
    content = site.content(path)
    assert content is not None, path
    return json.loads(content)


def test_the_matrix_holds_every_score(site: Site, results: Path) -> None:
    [about] = loaded(site, "data/index.json")
    names = loaded(site, "data/0/images.json")
    assert names == [f"image{i}" for i in range(8)]
    rows = ResultStore(results).rows()
    for m, metric in enumerate(about["metrics"]):
        content = site.content(f"data/0/{m}.f32")
        values = np.frombuffer(content, dtype="<f4").reshape(len(about["methods"]), 8)
        for k, method in enumerate(about["methods"]):
            own = rows[(rows["method"] == method["name"]) & (rows["metric"] == metric["name"])].set_index("image")
            wanted = own["value"].reindex(names).to_numpy(dtype=np.float32)
            np.testing.assert_array_equal(values[k], wanted)
            assert about["counts"][m][k] == np.count_nonzero(~np.isnan(wanted))
            assert about["means"][m][k] == pytest.approx(float(own["value"].mean()), abs=1e-5)


def test_curves_and_reasons_of_a_few_images(site: Site, results: Path) -> None:
    found = loaded(site, "data/0/rows/0.json")
    for row in ResultStore(results).rows().itertuples():
        one = found[row.image][row.method][row.metric]
        assert one["reason"] == row.reason
        assert one["curve"] == pytest.approx(row.curve.tolist(), abs=1e-5)
    assert site.content("data/0/rows/1.json") is None


def test_some_images_are_those_of_the_whole_table(results: Path) -> None:
    store = ResultStore(results)
    [group] = store.groups()
    for wanted in (["image2"], ["image0", "image7"], ["nobody"], []):
        pd.testing.assert_frame_equal(
            store.some(group, wanted).to_pandas(), store.table(group, images=wanted).to_pandas()
        )


def test_what_is_kept_of_which_image(results: Path, site: Site) -> None:
    """Two images have pictures and numbers, one has numbers alone."""
    [group] = ResultStore(results).groups()
    kept = {name: {path.suffix for path in one.folder.iterdir()} for name, one in _kept(results).items()}
    assert kept == {
        "image0": {".png", ".npz", ".json"},
        "image1": {".png", ".npz", ".json"},
        "image2": {".png", ".npz", ".json"},
    }
    numbers = {name: len(list(one.folder.glob("*.png"))) for name, one in _kept(results).items()}
    assert numbers == {"image0": 5, "image1": 5, "image2": 1}  # a photo and four maps
    assert sorted(loaded(site, "data/0/pictures.json")) == ["0", "1", "2"]
    assert group.folder in str(_kept(results)["image0"].folder)


def _kept(results: Path) -> dict[str, pictures.Kept]:
    [group] = ResultStore(results).groups()
    return pictures.kept(results, group)


@pytest.mark.parametrize("size", [1e-12, 1e-3, 1.0, 1e9])
def test_stored_numbers_keep_eleven_bits_at_any_size(size: float, tmp_path: Path) -> None:
    """Eleven significant bits: rounding changes a number by at most 2^-11 of it, or 2^-24 of the largest."""
    values = torch.randn(40, 40, dtype=torch.float64) * size
    values[0, 0] = float("nan")
    (tmp_path / "m.npz").write_bytes(stored_map(values))
    with np.load(tmp_path / "m.npz") as stored:
        assert stored["map"].dtype == np.float16
        again = stored["map"].astype(np.float64) * np.float64(stored["scale"])
    assert np.isnan(again[0, 0])
    error = np.abs(again - values.numpy())
    largest = float(values[~values.isnan()].abs().max())
    bound = 2.0**-11 * np.abs(values.numpy()) + 2.0**-24 * largest + 1e-6 * np.abs(values.numpy())
    assert (error[~np.isnan(error)] <= bound[~np.isnan(error)]).all()


def test_an_estimate_allows_for_a_map_that_does_not_compress() -> None:
    size = len(stored_map(torch.randn(224, 224)))
    assert 224**2 < size <= 2 * 224**2 + MAP_EXTRA


def test_maps_are_kept_of_images_that_are_in_the_run_alone() -> None:
    job = engine_jobs.job(METHODS, gallery=0, maps_of=["image5", "image5", "image2"])
    assert kept_images(job) == {".png": set(), ".npz": {2, 5}}
    with pytest.raises(ValueError, match=r"run.maps_of: no image 'gone' in this run of \w+, which has images such as"):
        kept_images(engine_jobs.job(METHODS, maps_of=["gone"]))
    with pytest.raises(ValueError, match="no image 'image5' in this run"):
        kept_images(engine_jobs.job(METHODS, maps_of=["image5"], limit=3))


@pytest.mark.parametrize("fill", ["black", "mean", "imagenet", "model_mean", "blur"])
def test_masked_pixels_become_what_the_metrics_see(fill: Any) -> None:
    images = torch.rand(1, 3, 20, 24, dtype=torch.float64)
    mean = (0.5, 0.25, 0.125)
    target = torch.zeros(1, dtype=torch.long)
    clean = Prediction(torch.ones(1), target)
    batch = ImageBatch(["a"], images, target, clean, target, model_mean=mean)
    made = canvas(images[0].permute(1, 2, 0).numpy(), fill, mean)
    assert made is not None
    np.testing.assert_allclose(made, metric_canvas(batch, fill)[0].permute(1, 2, 0).numpy(), atol=1e-12)


@pytest.mark.parametrize(
    ("metrics", "model", "found"),
    [
        ([{"fill": "blur"}, {"fill": "blur"}, {"fill": "black"}, {}], {}, ("blur", ())),
        ([{"fill": "model_mean"}], {"mean": [0.5, 0.5, 1]}, ("model_mean", (0.5, 0.5, 1.0))),
        ([{"fill": "<script>"}, {"fill": ["black"]}], {"mean": ["x", 0, 0]}, ("black", ())),
        ([{"fill": "mean"}], {"mean": [1e9, 0, 0]}, ("mean", ())),
    ],
)
def test_the_fill_is_that_of_the_scores_whoever_wrote_them(metrics: Any, model: Any, found: Any) -> None:
    assert fill_of([{"identity": {"metric": metric, "model": model}} for metric in metrics]) == found
    assert fill_of([{"identity": 3}, {"identity": {"metric": []}}]) == ("black", ())


def test_a_methods_own_colour_is_handed_on(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ResultStore(results)
    own = {"gc": {"colour": "#12ab9F"}}
    cells = [{**cell, "printed": {**cell["printed"], **own.get(str(cell["method"]), {})}} for cell in store.cells()]
    monkeypatch.setattr(store, "cells", lambda: cells)
    [group] = store.groups()
    assert {one.name: one.colour for one in Scores(store, group).methods if one.colour} == {"gc": "#12ab9F"}


def test_pixels_that_are_left_out_have_no_colour() -> None:
    assert canvas(np.zeros((2, 2, 3)), "drop") is None
    assert canvas(np.zeros((2, 2, 3)), "model_mean") is None


def test_the_order_of_pixels_is_the_maps_own(results: Path) -> None:
    one = _kept(results)["image2"]
    with np.load(one.folder / "gc.npz") as stored:
        values = stored["map"].astype(float).ravel()
    order = _grey(pictures.order(one, "gc")).ravel()
    rank = np.argsort(np.argsort(-values, kind="stable"), kind="stable")
    np.testing.assert_array_equal(order, 256 * rank // values.size)


def _grey(content: bytes) -> np.ndarray:
    import io

    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(content)))


def test_damaged_pictures_and_links_are_left_out(tmp_path: Path) -> None:
    made_store(tmp_path / "made", gallery=2)
    one = _kept(tmp_path / "made")["image0"]
    (one.folder / "gc.png").write_bytes(b"no picture")
    (one.folder / "photo.png").unlink()
    (one.folder / "photo.png").symlink_to("/etc/hostname")
    other = _kept(tmp_path / "made")["image1"].folder
    other.rename(tmp_path / "elsewhere")
    other.symlink_to(tmp_path / "elsewhere")
    site = Site([tmp_path / "made"])
    assert list(loaded(site, "data/0/pictures.json")) == ["0"]
    assert site.content("data/0/0/photo.webp") is None
    assert site.content("data/0/0/heat-1.webp") is None


@pytest.fixture
def server(site: Site) -> Iterator[Server]:
    with Server(site) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def asked(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[int, Mapping[str, str]]:
    """The status and the headers of an answer."""
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=30)
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        reply = connection.getresponse()
        reply.read()
        return reply.status, dict(reply.headers)


def test_the_server_answers_this_machine_alone(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"
    status, headers = asked(server, "/")
    assert status == 200
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    for host in ("evil.example", f"evil.example:{server.server_address[1]}", "127.0.0.1", ""):
        assert asked(server, "/data/index.json", Host=host)[0] == 403  # a page that rebinds its own name
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert asked(server, "/", method)[0] == 501


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd", "/data/../index.json", "/data/0/../../x", "/data/0/%2e%2e/x", "//etc/passwd",
        "/data/1/images.json", "/data/0/9.f32", "/data/0/99/photo.webp", "/data/0/0/heat-9.webp", "/data/0/0/photo.png",
        "/data/0/rows/99.json", "/data/0/-1.f32", "/data/%D9%A0/images.json",
        "/view.py", "/data/0/0/order-0.png/..", "/data/99999999/images.json",
    ],
)  # fmt: skip
def test_nothing_else_is_given_away(server: Server, path: str) -> None:
    assert asked(server, path)[0] == 404


def test_a_bundle_is_the_site_without_pictures_unless_asked(results: Path, site: Site, tmp_path: Path) -> None:
    assert main(["view", str(results), "--bundle", str(tmp_path / "bare")]) == 0
    assert main(["view", str(results), "--bundle", str(tmp_path / "rich"), "--pictures"]) == 0
    assert not [path for path in (tmp_path / "bare").rglob("*") if path.suffix in (".webp", ".png")]
    files = [path for path in (tmp_path / "rich").rglob("*") if path.is_file()]
    assert len([path for path in files if path.suffix in (".webp", ".png")]) == 3 * (3 + 2 * 4)
    for path in files:
        assert path.read_bytes() == site.content(path.relative_to(tmp_path / "rich").as_posix())
    assert main(["view", str(results), "--bundle", str(tmp_path / "rich")]) == 1


def test_a_large_folder_is_told_in_chunks(results: Path) -> None:
    [room] = Site([results]).rooms
    vars(room.scores)["_read"] = ([f"i{i:04d}" for i in range(3 * CHUNK + 1)], np.zeros((4, 4, 3 * CHUNK + 1)))
    assert [file for file in room.files() if file.startswith("rows")] == [f"rows/{k}.json" for k in range(4)]


needs_browser = pytest.mark.skipif(
    browser.CHROMIUM is None or browser.DRIVER is None, reason="needs chromium and chromedriver on the PATH"
)
READY = "return document.body.dataset.ready === arguments[0]"
IMAGES = "return [...document.querySelectorAll('#images tbody a')].map(a => a.textContent)"
BLACK = """const canvas = document.querySelector(`figure[data-method="gc"] canvas`);
const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
let black = 0; for (let p = 0; p < data.length; p += 4) black += data[p] + data[p + 1] + data[p + 2] === 0;
return black / (data.length / 4)"""
SET = """const field = document.getElementById(arguments[0]); field.value = arguments[1];
field.dispatchEvent(new Event('input', {bubbles: true}))"""


@needs_browser
def test_browsing_in_chromium(server: Server, results: Path, tmp_path: Path) -> None:
    rows = ResultStore(results).rows()
    gc = rows[(rows["method"] == "gc") & (rows["metric"] == "neg")].sort_values(["value", "image"])
    with browser.page(tmp_path / "profile") as opened:
        opened.visit(server.url)
        opened.wait(READY, "table")
        assert opened.run("return document.querySelectorAll('#table tbody tr').length") == 4
        assert opened.run("return document.querySelectorAll('script, img').length") == 1  # hostile names are text
        opened.run("[...document.querySelectorAll('#table tbody a')].find(a => a.href.includes('&method=gc&')).click()")
        opened.wait(READY, "images")
        opened.run(SET, "metric", "neg")
        opened.wait(READY, "images")
        assert opened.run("return document.getElementById('order').value") == "worst"
        assert opened.run(IMAGES) == gc["image"].tolist()
        opened.run(SET, "other", "random")
        opened.wait(READY, "images")
        opened.run(SET, "order", "apart")
        opened.wait("return document.body.dataset.ready && location.hash.includes('order=apart')")
        apart = opened.run("return [...document.querySelectorAll('#images tbody tr')].map(r => r.cells[3].textContent)")
        assert [float(x) for x in apart] == sorted((float(x) for x in apart), reverse=True)
        opened.run("[...document.querySelectorAll('#images tbody a')].find(a => a.textContent === 'image2').click()")
        opened.wait(READY, "2")
        assert opened.run("return document.querySelectorAll('#maps figure').length") == 5
        assert opened.run("return document.querySelectorAll('#maps figure.chosen').length") == 2
        assert opened.run("return document.querySelectorAll('#curves svg').length") == 4
        assert opened.run(BLACK) == 0
        opened.run(SET, "level", "50")
        assert opened.run(BLACK) == 0.5
        address = opened.run("return location.href")
        assert "level=50" in address
        opened.visit("about:blank")
        opened.visit(address)  # a link keeps what was chosen
        opened.wait(READY, "2")
        assert opened.run(BLACK) == 0.5
        names = opened.run("return performance.getEntriesByType('resource').map(e => e.name)")
        assert len(names) > 10
        assert all(name.startswith((server.url, "data:,")) for name in names)
        assert opened.console() == []


@needs_browser
def test_browsing_by_keyboard_on_a_phone_in_the_dark(server: Server, tmp_path: Path) -> None:
    with browser.page(tmp_path / "profile", 375, 812) as opened:
        opened.visit(f"{server.url}#?view=image&image=3")
        opened.wait(READY, "3")
        assert opened.run("return document.getElementById('bare').hidden") is False
        opened.keys("k")
        opened.wait(READY, "2")
        opened.keys("jj")
        opened.wait(READY, "4")
        assert opened.run("return [innerWidth, document.documentElement.scrollWidth]") == [375, 375]
        opened.keys("\ue00c")
        opened.wait(READY, "images")
        opened.keys("/image5")
        opened.wait("return document.querySelectorAll('#images tbody tr').length === 1")
        assert opened.run(IMAGES) == ["image5"]
        assert opened.run("return [innerWidth, document.documentElement.scrollWidth]") == [375, 375]
        background = "return getComputedStyle(document.body).backgroundColor"
        light = sum(map(int, re.findall(r"\d+", opened.run(background))))
        opened.dark()
        assert sum(map(int, re.findall(r"\d+", opened.run(background)))) < 100 < 700 < light
        assert opened.console() == []
