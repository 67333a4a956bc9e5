"""Completeness checks, unpacking of downloads, listings of many files."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dix.datasets import check as check_module
from dix.datasets.api import MissingData
from dix.datasets.check import Report, check
from dix.datasets.imagenet import ImageNet
from dix.datasets.listing import list_files, list_tar
from dix.datasets.prepare import prepare
from dix.datasets.unpack import unpack


@pytest.fixture(autouse=True)
def _no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIX_DATA", raising=False)


def picture(grey: int = 9, kind: str = "JPEG") -> bytes:
    stream = io.BytesIO()
    Image.new("L", (4, 4), grey).save(stream, kind)
    return stream.getvalue()


def tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


# ---- check


def test_the_embedded_photos_are_complete() -> None:
    report = check("photos")
    assert report.complete
    assert report.found == {"images": 25, "masks": 25, "classes": 23}
    assert len(report.index_hash) == 64
    assert str(report).splitlines()[0] == "photos: complete (inside installed packages)"


def test_missing_data_is_reported_with_source_tree_and_command(tmp_path: Path) -> None:
    for name in ("imagenet", "imagenet_seg", "coco", "voc", "mnist"):
        report = check(name, str(tmp_path))
        assert not report.complete
        text = str(report)
        assert "Source: " in text
        assert f"dix data check {name}" in text
    assert "VOCtrainval_11-May-2012.tar" in str(check("voc"))
    with pytest.raises(ValueError, match=r"data set: expected one of imagenet, .*got 'cifar'"):
        check("cifar")


def test_expected_counts_are_the_published_ones(tmp_path: Path) -> None:
    assert check("imagenet", str(tmp_path)).expected == {"images": 50_000, "classes": 1_000}
    assert check("imagenet_seg", str(tmp_path)).expected == {"images": 4_276}
    assert check("coco", str(tmp_path)).expected == {"images": 5_000, "annotated": 4_952}
    assert check("voc", str(tmp_path)).expected == {"images": 1_449}


def test_a_part_of_imagenet_is_counted_and_what_it_lacks_is_named(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        (tmp_path / f"ILSVRC2012_val_{number:08d}.JPEG").write_bytes(picture() if number < 3 else b"broken")
    lines = [f"ILSVRC2012_val_{number:08d}.JPEG {number}\n" for number in range(1, 10)]
    (tmp_path / "val.txt").write_text("".join(lines))
    report = check("imagenet", str(tmp_path))
    assert report.found["images"] == 3
    assert not report.complete
    text = str(report)
    assert "images: 3 of 50,000" in text
    assert "missing: ILSVRC2012_val_00000004.JPEG" in text
    assert "missing: and 1 more" in text
    deep = check("imagenet", str(tmp_path), decode=True)
    assert deep.found["unreadable"] == 7
    assert any("ILSVRC2012_val_00000003.JPEG: not a readable image" in line for line in deep.problems)


def test_coco_counts_annotated_images_and_names_absent_files(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").mkdir()
    images = [{"id": n, "file_name": f"{n:012d}.jpg", "width": 4, "height": 4} for n in (1, 2)]
    note = {"id": 1, "image_id": 2, "category_id": 1, "iscrowd": 0, "segmentation": [[0, 0, 3, 0, 3, 3]]}
    content = {"images": images, "annotations": [note], "categories": [{"id": 1, "name": "person"}]}
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    (tmp_path / "val2017" / "000000000001.jpg").write_bytes(picture())
    report = check("coco", str(tmp_path))
    assert report.found == {"images": 2, "annotated": 1}
    assert report.missing == ["val2017/000000000002.jpg"]


def test_a_broken_file_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    (tmp_path / "gtsegs_ijcv.mat").write_bytes(b"no matlab")
    report = check("imagenet_seg", str(tmp_path))
    assert "not a readable MATLAB 7.3 file" in report.problems[0]
    assert not report.complete


def test_complete_means_all_counts_met_and_nothing_wrong() -> None:
    assert Report("x", "", {"images": 3}, {"images": 3}).complete
    assert not Report("x", "", {"images": 2}, {"images": 3}).complete
    assert not Report("x", "", {"images": 3}, {"images": 3}, problems=["a"]).complete
    assert not Report("x", "", {"images": 3}, {"images": 3}, missing=["a"]).complete


# ---- unpack and prepare


def test_unpacking_resumes_and_leaves_no_partial_file(tmp_path: Path) -> None:
    members = {f"d/{n}.bin": os.urandom(3000 + n) for n in range(6)}
    archive = tar(tmp_path / "a.tar", members)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    target = tmp_path / "out"
    with pytest.raises(ValueError, match=r"a\.tar: truncated or not such an archive \((\d) files are unpacked"):
        unpack(archive, target, lambda name: name)
    there = {path.name: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    assert 0 < len(there) < 6
    assert all(members[f"d/{name}"] == data for name, data in there.items())
    archive.write_bytes(whole)
    done = unpack(archive, target, lambda name: name)
    assert (done.written, done.kept) == (6 - len(there), len(there))
    assert {f"d/{path.name}": path.read_bytes() for path in (target / "d").iterdir()} == members
    assert unpack(archive, target, lambda name: name).written == 0
    (target / "d" / "3.bin").write_bytes(b"cut short")
    assert unpack(archive, target, lambda name: name).written == 1
    assert (target / "d" / "3.bin").read_bytes() == members["d/3.bin"]


@pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt", "a/../../evil.txt", "C:/evil.txt", "a\\..\\..\\evil"])
def test_members_that_lead_out_of_the_folder_stop_the_unpacking(tmp_path: Path, name: str) -> None:
    archive = tar(tmp_path / "a.tar", {name: b"x"})
    with pytest.raises(ValueError, match=r"a\.tar: the member .* leads out of the folder"):
        unpack(archive, tmp_path / "out", lambda member: member)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr(name, b"x")
    with pytest.raises(ValueError, match=r"a\.zip: the member .* leads out of the folder"):
        unpack(tmp_path / "a.zip", tmp_path / "out", lambda member: member)
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name]


def test_links_in_an_archive_are_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("d")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "elsewhere")
        archive.addfile(link)
        info = tarfile.TarInfo("d/evil.txt")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    (tmp_path / "elsewhere").mkdir()
    unpack(tmp_path / "a.tar", tmp_path / "out", lambda name: name)
    assert not list((tmp_path / "elsewhere").iterdir())
    assert (tmp_path / "out" / "d" / "evil.txt").read_bytes() == b"x"


def test_imagenet_is_prepared_from_tar_and_devkit(tmp_path: Path) -> None:
    from test_datasets_readers import TRUTH, jpeg, make_devkit, val

    source = tmp_path / "downloads"
    source.mkdir()
    tar(source / "ILSVRC2012_img_val.tar", {name: jpeg(int(name[-6])) for name in TRUTH})
    devkit = make_devkit(tmp_path / "devkit") / "ILSVRC2012_devkit_t12" / "data"
    members = {f"ILSVRC2012_devkit_t12/data/{path.name}": path.read_bytes() for path in devkit.iterdir()}
    tar(source / "ILSVRC2012_devkit_t12.tar.gz", members, "w:gz")
    root = tmp_path / "data" / "imagenet"
    prepared = prepare("imagenet", source, root)
    assert prepared.done["ILSVRC2012_img_val.tar"].written == 4
    assert prepared.report.found == {"images": 4, "classes": 3}
    data = ImageNet(str(root))
    assert dict(zip(data.ids, data.labels, strict=True)) == TRUTH
    assert (root / "val.txt").read_text().splitlines()[0] == f"{val(1)} 999"
    assert "ILSVRC2012_img_val.tar: 0 files written, 4 were there" in str(prepare("imagenet", source, root))


def test_voc_coco_mnist_and_segmentation_are_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from test_datasets_readers import idx, make_coco, make_seg, make_voc, seg_arrays

    monkeypatch.setenv("DIX_DATA", str(tmp_path / "data"))
    source = tmp_path / "downloads"
    source.mkdir()
    voc, _ = make_voc(tmp_path / "voc")
    files = {path.relative_to(voc).as_posix(): path.read_bytes() for path in voc.rglob("*") if path.is_file()}
    tar(source / "VOCtrainval_11-May-2012.tar", files | {"VOCdevkit/VOC2012/Annotations/a.xml": b"<a/>"})
    coco = make_coco(tmp_path / "coco")
    for name, folder in (("val2017.zip", "val2017"), ("annotations_trainval2017.zip", "annotations")):
        with zipfile.ZipFile(source / name, "w") as packed:
            for path in (coco / folder).iterdir():
                packed.write(path, path.relative_to(coco).as_posix())
    masks, images = seg_arrays()
    make_seg(source, masks, images)
    (source / "t10k-images-idx3-ubyte").write_bytes(idx(np.zeros((2, 28, 28), dtype=np.uint8)))
    (source / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array([3, 4], dtype=np.uint8)))
    found = {name: prepare(name, source).report for name in ("voc", "coco", "imagenet_seg", "mnist")}
    assert {name: report.found["images"] for name, report in found.items()} == {
        "voc": 2,
        "coco": 3,
        "imagenet_seg": 3,
        "mnist": 2,
    }
    assert not any(report.missing or report.problems for report in found.values())
    assert not list((tmp_path / "data").rglob("*.xml"))
    assert not list((tmp_path / "data").rglob("*.part"))


def test_a_source_without_the_archives_names_them(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"holds none of val2017\.zip, annotations_trainval2017\.zip"):
        prepare("coco", tmp_path, tmp_path / "out")
    with pytest.raises(
        ValueError, match=r"data set: expected one of imagenet, imagenet_seg, coco, voc, mnist, got 'x'"
    ):
        prepare("x", tmp_path)


# ---- listing


def test_a_listing_is_made_afresh_whatever_the_folders_time_says(tmp_path: Path) -> None:
    for number, name in enumerate(("a.jpg", "b.JPEG")):
        (tmp_path / name).write_bytes(b"12345")
        os.utime(tmp_path, ns=(1, 1))
        assert list_files(tmp_path, ["."]).files == ["a.jpg", "b.JPEG"][: number + 1]


def test_an_archive_of_any_kind_of_header_is_listed_as_tarfile_lists_it(tmp_path: Path) -> None:
    members = {f"{'d' * length}/{n}.jpg": os.urandom(100 * n) for n, length in enumerate((1, 60, 97, 200))}
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        for chosen in (list(members)[:2], list(members)):  # names that fit a plain header, and names that do not
            with tarfile.open(tmp_path / "a.tar", "w", format=kind) as archive:
                for name in chosen:
                    info = tarfile.TarInfo(name)
                    info.size = len(members[name])
                    if kind != tarfile.USTAR_FORMAT or len(name) < 200:
                        archive.addfile(info, io.BytesIO(members[name]))
            with tarfile.open(tmp_path / "a.tar") as archive:
                expected = sorted((info.name, info.size, info.offset_data) for info in archive)
            assert list_tar(tmp_path / "a.tar").rows == expected


CODE = """
import sys, time
from dix.datasets.imagenet import ImageNet
def peak_of_this_process():  # ru_maxrss would also hold the parent's peak from before exec
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
empty = peak_of_this_process()
start = time.perf_counter()
data = ImageNet(sys.argv[1])
count, first = len(data.ids), data.read(0)
position = {name: i for i, name in enumerate(data.ids)}
for name in data.ids[::500]:
    assert data.read(position[name]).id == name
peak = peak_of_this_process()
print(count, (peak - empty) // 1024, peak // 1024, round(time.perf_counter() - start, 2))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_fifty_thousand_files_are_listed_and_opened_in_bounded_memory(tmp_path: Path) -> None:
    from dix.datasets.labels import synset_indices

    seeds = [tmp_path / f"seed{n}.jpg" for n in range(10)]
    for n, seed in enumerate(seeds):
        seed.write_bytes(picture(n * 20))
    root = tmp_path / "root"
    for index, synset in enumerate(synset_indices()):
        folder = root / synset
        folder.mkdir(parents=True)
        for n in range(50):
            os.link(seeds[n % 10], folder / f"ILSVRC2012_val_{index * 50 + n + 1:08d}.JPEG")
    run = subprocess.run([sys.executable, "-c", CODE, str(root)], capture_output=True, text=True, check=True)
    count, grown, peak, seconds = run.stdout.split()
    print(f"{count} images, {seconds} s, peak {peak} MiB of which {grown} MiB for the listing")
    assert int(count) == 50_000
    assert 0 < int(grown) < 100


def test_every_known_data_set_has_a_recipe_or_needs_none() -> None:
    from dix.datasets import prepare as prepare_module

    assert set(check_module._KNOWN) - set(prepare_module._RECIPES) == {"photos", "folder"}
