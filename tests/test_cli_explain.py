"""Maps of one's own pictures: upright, of the right class, and the method's own numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dix.bench.run.job import Job
from dix.cli import main
from dix.cli.config import composed
from dix.cli.construct import job_of
from dix.cli.explain import fitted, stems, words_of
from dix.passes import Passes
from dix.pictures import overlay, without_peaks

MODEL = ["--model", "efficientnet_lite0", "--method", "gc,random"]


@pytest.fixture(scope="module")
def job() -> Job:
    config = composed(["model=efficientnet_lite0", "method=[gc,random]", "metric=[]", "dataset=photos"])
    return job_of(config)


def picture(path: Path, size: tuple[int, int] = (300, 200), orientation: int | None = None) -> Image.Image:
    """Save a picture that is red at its top left, and return it as stored."""
    pixels = np.random.default_rng(0).integers(0, 80, (size[1], size[0], 3), dtype=np.uint8)
    pixels[: size[1] // 2, : size[0] // 2, 0] = 250
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    image.save(path, exif=exif)
    return image


def expected(job: Job, image: Image.Image, target: int, method: str, name: str) -> np.ndarray:
    passes = Passes(job.classifier, job.preprocess.image(image)[None], torch.tensor([target]), ids=[name])
    maps = job.methods[method].explain(passes)
    return torch.nn.functional.interpolate(maps[:, None], (224, 224), mode="bilinear")[0, 0].detach().numpy()


def test_maps_are_the_methods_own_for_the_target(tmp_path: Path, job: Job) -> None:
    image = picture(tmp_path / "a.png")
    assert main(["explain", str(tmp_path / "a.png"), *MODEL, "--target", "282", "--output", str(tmp_path / "out")]) == 0
    folder = tmp_path / "out" / "a"
    names = {path.name for path in folder.iterdir()}
    files = {f"tiger_cat-{method}.{kind}" for method in ("gc", "random") for kind in ("npy", "png")}
    assert names == files | {"overview.png"}
    for method in ("gc", "random"):
        written = np.load(folder / f"tiger_cat-{method}.npy")
        np.testing.assert_allclose(written, expected(job, image, 282, method, "a"), rtol=1e-4, atol=1e-6)
    with Image.open(folder / "tiger_cat-gc.png") as shown:
        assert shown.size == image.size
        photo = np.asarray(image, dtype=float) / 255
        gc = torch.from_numpy(np.load(folder / "tiger_cat-gc.npy"))
        np.testing.assert_array_equal(np.asarray(shown), overlay(photo, without_peaks(fitted(gc, photo))))


def test_pictures_are_turned_upright(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg", (300, 200), orientation=6)
    assert (
        main(["explain", str(tmp_path / "a.jpg"), *MODEL, "--target", "tench", "--output", str(tmp_path / "out")]) == 0
    )
    with Image.open(tmp_path / "out" / "a" / "tench-gc.png") as shown:
        assert shown.size == (200, 300)


def test_the_likeliest_classes_and_pictures_of_one_name(
    tmp_path: Path, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        picture(tmp_path / folder / "a.png", (120, 120))
    words = [str(tmp_path / "x" / "a.png"), str(tmp_path / "y" / "a.png")]
    assert main(["explain", *words, *MODEL, "--top", "2", "--output", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "a-2"]
    assert len(list((tmp_path / "out" / "a").glob("*.npy"))) == 4
    with Image.open(tmp_path / "x" / "a.png") as image:
        pixels = job.preprocess.image(image.convert("RGB"))[None]
    top = job.classifier.logits(pixels).double().softmax(dim=1)[0].topk(2).values
    shown = [float(line.rsplit("= ", 1)[1]) for line in capsys.readouterr().out.splitlines() if line.startswith("a: ")]
    assert shown == pytest.approx(top.tolist(), abs=6e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.png", "--target", "1000"], "target: efficientnet_lite0 has no output for class 1000"),
        (["a.png", "--top", "0"], "--top: expected at least 1, got 0"),
        (["nothing.png"], "nothing.png: cannot be read"),
        (["text.png"], "text.png: not a readable image"),
        (["a.png", "--method", "gradcam"], "no method called 'gradcam'"),
    ],
)
def test_mistakes_get_one_message(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "a.png", (40, 40))
    (tmp_path / "text.png").write_text("no image")
    assert main(["explain", *words]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "maps").exists()


def test_a_method_that_cannot_explain_is_skipped_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture(tmp_path / "a.png", (60, 60))
    words = ["explain", str(tmp_path / "a.png"), "--method", "gae,gc", "--output", str(tmp_path / "out")]
    assert main(words) == 0
    assert "skipped gae: needs attention matrices" in capsys.readouterr().out
    assert [path.name.rsplit("-", 1)[1] for path in (tmp_path / "out" / "a").glob("*.npy")] == ["gc.npy"]


def test_names_of_folders() -> None:
    assert stems(["x/a b.jpg", "y/a b.png", "c.d.tif"]) == ["a_b", "a_b-2", "c.d"]


def test_a_figure_takes_the_first_image_of_each_class_in_the_given_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["model=efficientnet_lite0", "dataset=photos", "method=[gc]", f"run.results={tmp_path}"]
    assert main(["figures", "figure1", *words, "dataset.subset='classes:609,251,99'"]) == 0
    out = capsys.readouterr().out
    rows = [line.strip() for line in out.splitlines() if line.startswith("  ")]
    assert rows == ["jeep: imagenet_06_609.jpg", "dalmatian: imagenet_16_251.jpg", "goose: imagenet_15_99.jpg"]
    assert (tmp_path / "figures" / "figure1.pdf").read_bytes().startswith(b"%PDF")
    with Image.open(tmp_path / "figures" / "figure1.png") as figure:
        assert figure.width < figure.height  # two columns of three rows


def test_a_figure_of_another_subset_shows_all_of_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ids.txt").write_text("rocket.jpg\ncamera.png\n")
    words = ["model=efficientnet_lite0", "dataset=photos", "method=[random]", f"run.results={tmp_path}"]
    assert main(["figures", "figure1", *words, f"dataset.subset='file:{tmp_path / 'ids.txt'}'"]) == 0
    rows = [line.split(": ")[1] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert rows == ["rocket.jpg", "camera.png"]


def test_names_are_unique_whatever_the_folders_and_capitals() -> None:
    assert stems(["a/cat.jpg", "b/cat.jpg", "c/cat-2.jpg"]) == ["cat", "cat-3", "cat-2"]
    assert stems(["cat.jpg", "Cat.jpg", "x/cat.png"]) == ["cat", "Cat-2", "cat-3"]
    assert stems(["a/..jpg", "b/..jpg", "???.png"]) == ["picture", "picture-2", "_"]


def test_two_pictures_of_one_name_get_maps_of_their_own(tmp_path: Path) -> None:
    files = [tmp_path / "a" / "cat.png", tmp_path / "b" / "cat.png", tmp_path / "c" / "cat-2.png"]
    for file in files:
        file.parent.mkdir()
        picture(file, (40, 40))
    words = ["explain", *map(str, files), "--method", "gc", "--output", str(tmp_path / "out")]
    assert main(words) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["cat", "cat-2", "cat-3"]


def test_two_classes_of_one_name_get_files_of_their_own(job: Job) -> None:
    labels = [job.classifier.class_name(output) for output in range(1000)]
    assert labels[134] == labels[517] == "crane"
    names = words_of(labels)
    assert (names[134], names[517]) == ("crane", "crane-2")
    assert len(set(names)) == 1000
