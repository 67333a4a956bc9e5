"""Nothing is left out without a word: names, links, suffixes, labels, lists; and `dix data check` prints it."""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_datasets_check import tar
from test_datasets_masks import with_notes
from test_datasets_readers import (
    SYNSETS,
    TRUTH,
    idx,
    jpeg,
    make_coco,
    make_devkit,
    make_flat,
    make_labels,
    make_seg,
    make_tar,
    make_tree,
    make_voc,
    polygon_note,
    seg_arrays,
    val,
)

from dix.cli import main
from dix.datasets import labels as labels_module
from dix.datasets import unpack as unpack_module
from dix.datasets.api import CorruptSample, Dataset
from dix.datasets.check import check
from dix.datasets.coco import Coco
from dix.datasets.folder import Folder
from dix.datasets.imagenet import ImageNet
from dix.datasets.mnist import Mnist
from dix.datasets.subset import select
from dix.datasets.text import text_id
from dix.datasets.unpack import unpack
from dix.datasets.voc import Voc


def picture(path: Path, value: int = 9) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 6), value).save(path, "PNG")
    return path


def reasons(data: object) -> dict[str, str]:
    return {entry.name: entry.reason for entry in data.left_out}  # type: ignore[attr-defined]


# ---- files and links


def test_every_file_below_a_folder_is_read_or_named(tmp_path: Path) -> None:
    root = tmp_path / "root"
    names = ["a.jfif", "b.AVIF", "c.webp", "d.tif", "e/f.JPE", "g.png"]
    for name in names:
        picture(root / name)
    others = {
        ".hidden.png": "hidden file or folder",
        "._g.png": "hidden file or folder",
        ".folder": "hidden file or folder",
        "h.heic": "file whose name does not end as an image's does",
        "i": "file whose name does not end as an image's does",
        "nowhere.png": "link that leads nowhere",
        "circle.png": "link that leads nowhere",
        "pipe.png": "neither file nor folder",
        "e/up": "link to a folder around it",
    }
    picture(root / ".folder" / "in.png")
    for name in (".hidden.png", "._g.png", "h.heic", "i"):
        (root / name).write_bytes(b"x")
    (root / "nowhere.png").symlink_to(tmp_path / "missing.png")
    (root / "circle.png").symlink_to(root / "circle.png")
    (root / "e" / "up").symlink_to(root)
    os.mkfifo(root / "pipe.png")
    data = Folder(str(root))
    assert data.ids == tuple(names)
    assert reasons(data) == others


def test_links_to_files_and_folders_are_followed(tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "one.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "root" / "many").symlink_to(tmp_path / "elsewhere")
    data = Folder(str(tmp_path / "root"))
    assert data.ids == ("many/a.png", "one.png")
    assert [data.read(index).image.size for index in (0, 1)] == [(8, 6)] * 2
    assert data.left_out == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open any folder")
def test_a_folder_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "shut" / "b.png")
    (tmp_path / "shut").chmod(0)
    assert reasons(Folder(str(tmp_path))) == {"shut": "cannot be opened: Permission denied"}


# ---- names that are not text


def test_names_of_any_bytes_have_different_printable_ids(tmp_path: Path) -> None:
    raw = [
        b"caf\xe9.png",
        b"caf\\xe9.png",
        "café.png".encode(),
        b"two\nlines.png",
        b"red\x1b[31m.png",
        b"u\xe2\x80\xa8.png",
    ]
    folder = os.fsencode(tmp_path)
    for number, name in enumerate(raw):
        Image.new("L", (8, 6), number * 20).save(tmp_path / "tmp.png")
        os.rename(tmp_path / "tmp.png", folder + b"/" + name)
    data = Folder(str(tmp_path))
    shown = {r"caf\xe9.png", r"caf\\xe9.png", "café.png", r"two\x0alines.png", r"red\x1b[31m.png", r"u\u2028.png"}
    assert set(data.ids) == shown
    for index, shown_name in enumerate(data.ids):
        assert shown_name.encode("utf-8").decode() == shown_name
        expected = [number for number, path in enumerate(raw) if text_id(os.fsdecode(path)) == shown_name]
        assert np.asarray(data.read(index).image)[0, 0, 0] == expected[0] * 20
        assert len(data.content(index)) == 32
    assert len(data.fingerprint()) == 64


def test_labels_and_subsets_find_names_that_are_not_text(tmp_path: Path) -> None:
    root = tmp_path / "root"
    picture(root / "a.png")
    os.rename(root / "a.png", os.fsencode(root) + b"/caf\xe9.png")
    for written in (b"caf\xe9.png 7\n", b"caf\\xe9.png 7\n"):
        (tmp_path / "labels.txt").write_bytes(written)
        data = Folder(str(root), labels_file=str(tmp_path / "labels.txt"))
        assert data.labels == (7,)
    (tmp_path / "ids.txt").write_text("caf\\xe9.png\n")
    assert select(data, f"file:{tmp_path / 'ids.txt'}").ids == ("caf\\xe9.png",)


def test_imagenet_and_its_archive_take_names_of_any_bytes(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9.JPEG")
    for form in ("flat", "tar"):
        root = tmp_path / form
        root.mkdir()
        if form == "flat":
            (root / odd).write_bytes(jpeg(3))
        else:
            with tarfile.open(root / "a.tar", "w", errors="surrogateescape") as archive:
                archive.add(tmp_path / "flat" / odd, odd)
        (root / "val.txt").write_bytes(b"caf\xe9.JPEG 5\n")
        data = ImageNet(str(root))
        assert (data.ids, data.labels) == (("caf\\xe9.JPEG",), (5,))
        assert data.read(0).image.size == (12, 10)


# ---- label files


def labelled(root: Path, text: str | bytes, *names: str) -> Folder:
    for name in names:
        picture(root / "pictures" / name)
    (root / "labels.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return Folder(str(root / "pictures"), labels_file=str(root / "labels.txt"))


def test_labels_belong_to_paths(tmp_path: Path) -> None:
    data = labelled(tmp_path, "b/x.png 2\na/x.png 1\n./c.png 3\n", "a/x.png", "b/x.png", "c.png")
    assert dict(zip(data.ids, data.labels, strict=True)) == {"a/x.png": 1, "b/x.png": 2, "c.png": 3}


def test_a_bare_name_means_the_file_in_the_root_or_the_only_one(tmp_path: Path) -> None:
    data = labelled(tmp_path, "x.png 1\ny.png 2\n", "x.png", "a/x.png", "b/y.png")
    assert dict(zip(data.ids, data.labels, strict=True)) == {"a/x.png": None, "b/y.png": 2, "x.png": 1}
    assert reasons(data) == {"a/x.png": "image without a label (it is read)"}
    with pytest.raises(
        ValueError, match=r"labels\.txt: 'x\.png' may be 'a/x\.png' or 'b/x\.png'; write the whole path"
    ):
        _ = labelled(tmp_path / "two", "x.png 1\n", "a/x.png", "b/x.png").labels
    with pytest.raises(ValueError, match=r"labels\.txt: 'x\.png' and 'a/x\.png' are the same image, 'a/x\.png'"):
        _ = labelled(tmp_path / "same", "x.png 1\na/x.png 2\n", "a/x.png").labels


def test_names_without_a_suffix_in_the_list_or_in_the_folder(tmp_path: Path) -> None:
    data = labelled(tmp_path, "x 1\na/y 2\nbare 3\nscan.001 4\n", "x.png", "a/y.jpg", "bare", "scan.001", "other")
    assert dict(zip(data.ids, data.labels, strict=True)) == {"a/y.jpg": 2, "bare": 3, "scan.001": 4, "x.png": 1}
    assert [data.read(index).image.size for index in range(4)] == [(8, 6)] * 4
    assert list(reasons(data)) == ["other"]
    with pytest.raises(ValueError, match=r"'x' may be 'x\.jpg' or 'x\.png'"):
        _ = labelled(tmp_path / "two", "x 1\n", "x.png", "x.jpg").labels


def test_lines_without_an_image_are_counted_and_a_list_of_such_lines_is_refused(tmp_path: Path) -> None:
    data = labelled(tmp_path, "x.png 1\ngone.png 2\nval/x.png 3\n", "x.png")
    assert data.labels == (1,)
    assert set(reasons(data)) == {"gone.png", "val/x.png"}
    assert set(reasons(data).values()) == {"line of the label file that no image has"}
    with pytest.raises(ValueError, match=r"dataset\.labels_file: no line of .*labels\.txt names an image of"):
        _ = labelled(tmp_path / "none", "gone.png 2\n", "x.png").labels
    with pytest.raises(ValueError, match=r"nowhere\.txt: cannot be read: No such file"):
        _ = Folder(str(tmp_path / "pictures"), labels_file=str(tmp_path / "nowhere.txt")).labels


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfa, b.png 5\nx.png 6\n",
        b"a, b.png\t5\r\nx.png\t6\r\n",
        b"a, b.png,5\nx.png,6",
        b'"a, b.png",5\n"x.png",6\n',
        b"# two images\na, b.png; 5\n\n   \nx.png   6   \n",
    ],
)
def test_lists_as_people_write_them(tmp_path: Path, text: bytes) -> None:
    assert labelled(tmp_path, text, "a, b.png", "x.png").labels == (5, 6)


def test_a_name_that_begins_with_a_number_sign_is_no_comment(tmp_path: Path) -> None:
    assert labelled(tmp_path, "#1.png 5\n", "#1.png").labels == (5,)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("x.png 5\n".encode("utf-16"), "labels.txt: it is UTF-16; save it as UTF-8"),
        ("x.png ²\n", "line 1: expected 'name index'"),
        ("x.png\n", "line 1: expected 'name index'"),
        ("name,index\nx.png,5\n", "line 1: expected 'name index'"),
        ("x.png 5\nx.png 5\n", "line 2: the image id 'x.png' appears more than once"),
        ("x.png " + "9" * 5000, "line 1: expected 'name index'"),
    ],
)
def test_lists_that_cannot_be_read_name_the_line(tmp_path: Path, text: str | bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=fault.replace(".", r"\.")):
        _ = labelled(tmp_path, text, "x.png").labels


# ---- ImageNet


def test_a_label_file_is_used_with_synset_folders_and_differences_are_counted(tmp_path: Path) -> None:
    make_tree(tmp_path / "root")
    (tmp_path / "mine.txt").write_text(f"{val(1)} 7\n{val(2)} 0\n{val(9)} 5\n")
    data = ImageNet(str(tmp_path / "root"), labels_file=str(tmp_path / "mine.txt"))
    assert dict(zip(data.ids, data.labels, strict=True)) == {val(1): 7, val(2): 0, val(9): 5}
    assert data.absent == (val(9),)
    assert Counter(reasons(data).values()) == {
        "image that no label names": 2,
        "synset folder, against which the label file decides": 1,
    }


def test_a_label_file_that_is_not_there_or_names_nothing_is_refused(tmp_path: Path) -> None:
    for make in (make_tree, lambda root: make_devkit(make_flat(root)), lambda root: make_labels(make_tar(root))):
        root = tmp_path / str(make)
        root.mkdir()
        make(root)
        with pytest.raises(ValueError, match=r"dataset\.labels_file: the file .*none\.txt is not there"):
            _ = ImageNet(str(root), labels_file=str(tmp_path / "none.txt")).ids
        (tmp_path / "strange.txt").write_text("dog.jpg 5\n")
        with pytest.raises(ValueError, match=r"strange\.txt: none of its lines names an image of"):
            _ = ImageNet(str(root), labels_file=str(tmp_path / "strange.txt")).ids


def test_imagenet_lists_may_have_a_mark_folders_or_no_suffixes(tmp_path: Path) -> None:
    make_flat(tmp_path)
    for form in ("{}", "val/{}", "./{}", "\ufeff{}"):
        for suffix in (".JPEG", ""):
            names = [(form if n == 0 else form.replace("\ufeff", "")).format(name) for n, name in enumerate(TRUTH)]
            lines = [f"{name.removesuffix('.JPEG')}{suffix} {TRUTH[val(n + 1)]}\n" for n, name in enumerate(names)]
            (tmp_path / "val.txt").write_text("".join(lines))
            data = ImageNet(str(tmp_path))
            assert dict(zip(data.ids, data.labels, strict=True)) == TRUTH
            assert data.absent == ()
    (tmp_path / "val.txt").write_text("a/x.JPEG 1\nb/x.JPEG 2\n")
    with pytest.raises(ValueError, match=r"val\.txt: the image id 'x\.JPEG' appears more than once"):
        _ = ImageNet(str(tmp_path)).ids


def test_imagenet_counts_what_lies_beside_what_it_reads(tmp_path: Path) -> None:
    root = make_tree(tmp_path)
    (root / "loose.JPEG").write_bytes(jpeg(1))
    (root / "train").mkdir()
    (root / "other.tar").write_bytes(b"")
    synset = root / SYNSETS[0]
    (synset / "._x.JPEG").write_bytes(b"")
    (synset / "notes.txt").write_bytes(b"")
    (synset / "deep").mkdir()
    assert reasons(ImageNet(str(root))) == {
        "loose.JPEG": "image beside the synset folders",
        "train": "folder that is no synset's",
        "other.tar": "archive beside what is read",
        f"{SYNSETS[0]}/._x.JPEG": "hidden file or folder",
        f"{SYNSETS[0]}/notes.txt": "file whose name does not end as an image's does",
        f"{SYNSETS[0]}/deep": f"a folder inside {SYNSETS[0]}",
    }


def test_images_without_a_label_are_counted(tmp_path: Path) -> None:
    make_labels(make_flat(tmp_path))
    (tmp_path / "new.JPEG").write_bytes(jpeg(1))
    assert reasons(ImageNet(str(tmp_path))) == {"new.JPEG": "image that no label names"}
    (tmp_path / "val.txt").unlink()
    make_devkit(tmp_path, "devkit")
    found = reasons(ImageNet(str(tmp_path)))
    assert found == {"new.JPEG": "image that no label names", "devkit": "a folder inside the folder of images"}


def test_the_archive_is_the_official_one_or_the_only_one(tmp_path: Path) -> None:
    make_labels(make_tar(tmp_path))
    tar(tmp_path / "A_train.tar", {"x.JPEG": jpeg(1)})
    data = ImageNet(str(tmp_path))
    assert len(data.ids) == 4
    assert reasons(data) == {"A_train.tar": "archive beside what is read"}
    (tmp_path / "ILSVRC2012_img_val.tar").rename(tmp_path / "B.tar")
    with pytest.raises(ValueError, match=r"A_train\.tar and B\.tar are there; expected ILSVRC2012_img_val\.tar"):
        _ = ImageNet(str(tmp_path)).ids


def test_links_and_hidden_members_of_an_archive_are_counted(tmp_path: Path) -> None:
    make_labels(make_tar(tmp_path))
    with tarfile.open(tmp_path / "ILSVRC2012_img_val.tar", "a") as archive:
        for name, kind in (
            ("link.JPEG", tarfile.SYMTYPE),
            ("hard.JPEG", tarfile.LNKTYPE),
            ("._a.JPEG", tarfile.REGTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, val(1)
            archive.addfile(info)
    assert reasons(ImageNet(str(tmp_path))) == {
        "link.JPEG": "link or special member of the archive",
        "hard.JPEG": "link or special member of the archive",
        "._a.JPEG": "hidden file or folder",
    }


def test_a_member_that_claims_more_than_there_is_takes_no_memory(tmp_path: Path) -> None:
    make_labels(tmp_path)
    header = tarfile.TarInfo(val(1))
    header.size = 8**11 - 1
    (tmp_path / "a.tar").write_bytes(header.tobuf(tarfile.USTAR_FORMAT) + b"x" * 512)
    with pytest.raises(CorruptSample, match=rf"a\.tar: {val(1)}: the archive is truncated, 512 of 8589934591 bytes"):
        ImageNet(str(tmp_path)).read(0)


@pytest.mark.parametrize("lines", ["449\n\n450\n", "449\n-1\n", "449\n²\n", "449 450\n"])
def test_a_devkit_whose_lines_cannot_be_counted_is_named(tmp_path: Path, lines: str) -> None:
    make_devkit(make_flat(tmp_path), "devkit")
    (tmp_path / "devkit" / "ILSVRC2012_validation_ground_truth.txt").write_text(lines)
    with pytest.raises(ValueError, match=r"ground_truth\.txt, line [12]: expected an ILSVRC2012_ID of meta\.mat"):
        _ = ImageNet(str(tmp_path)).ids


@pytest.mark.parametrize("code", ["import os; os.abort()", "print('no list')", "print('[[1]]')", "raise OSError('no')"])
def test_a_reader_of_the_devkit_that_dies_is_a_broken_devkit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    make_devkit(make_flat(tmp_path), "devkit")
    monkeypatch.setattr(labels_module, "_READ_META", code)
    with pytest.raises(ValueError, match=r"meta\.mat: not the devkit's meta\.mat: "):
        _ = ImageNet(str(tmp_path)).ids


# ---- the other sets


def test_a_voc_list_with_a_mark_is_read_and_one_with_other_columns_is_refused(tmp_path: Path) -> None:
    root, _ = make_voc(tmp_path)
    base = root / "VOCdevkit" / "VOC2012"
    path = base / "ImageSets" / "Segmentation" / "val.txt"
    path.write_bytes(b"\xef\xbb\xbf2007_000042\r\n\r\n")
    data = Voc(str(root))
    assert data.ids == ("2007_000042",)
    (base / "JPEGImages" / "._2007_000042.jpg").write_bytes(b"")
    assert Counter(reasons(data).values()) == {"file that val.txt does not name": 2, "hidden file or folder": 1}
    for line in ("2007_000042 -1", "../../2007_000042", "a\\b", "2007\x1b[1m"):
        path.write_text(f"{line}\n")
        with pytest.raises(ValueError, match=r"val\.txt, line 1: expected one image's name without folders"):
            _ = Voc(str(root)).ids


def test_coco_counts_images_without_instances_and_files_that_are_not_listed(tmp_path: Path) -> None:
    root = make_coco(tmp_path)
    (root / "val2017" / "000000000777.jpg").write_bytes(jpeg(1))
    (root / "val2017" / "._000000000139.jpg").write_bytes(b"")
    assert reasons(Coco(str(root))) == {
        "000000000500.jpg": "image without an instance",
        "000000000777.jpg": "file that the annotations do not list",
        "._000000000139.jpg": "hidden file or folder",
    }
    assert "left out: 1 x image without an instance, read only with dataset.unannotated=keep (000000000500.jpg)" in str(
        check("coco", str(root))
    )


def test_mnist_refuses_what_it_would_not_read_and_counts_second_copies(tmp_path: Path) -> None:
    digits, labels = np.zeros((2, 28, 28), dtype=np.uint8), np.array([3, 4], dtype=np.uint8)
    for dash in "-.":
        (tmp_path / f"t10k-images{dash}idx3-ubyte").write_bytes(idx(digits))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(labels))
    assert reasons(Mnist("idx", str(tmp_path))) == {"t10k-images.idx3-ubyte": "the same part under another name"}
    with pytest.raises(ValueError, match=r"dataset\.root: expected null with dataset\.source=embedded"):
        Mnist(root=str(tmp_path))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array([3, 10], dtype=np.uint8)))
    with pytest.raises(ValueError, match="mnist: expected labels of 0 to 9, got 10"):
        _ = Mnist("idx", str(tmp_path)).ids
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(np.zeros((2, 8, 8), dtype=np.uint8)))
    with pytest.raises(ValueError, match=r"mnist: expected \[N, 28, 28\] images"):
        _ = Mnist("idx", str(tmp_path)).ids


def test_a_zipped_idx_file_that_grows_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gzip

    monkeypatch.setattr("dix.datasets.mnist._MOST", 1000)
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"\0\0\x08\x03" + b"\0" * 100_000))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array([3], dtype=np.uint8)))
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte\.gz: more than 1000 bytes"):
        _ = Mnist("idx", str(tmp_path)).ids


# ---- unpacking


def test_a_member_or_an_archive_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tar(tmp_path / "a.tar", {"a": b"x" * 60, "b": b"y" * 60})
    monkeypatch.setattr(unpack_module, "LARGEST", 50)
    with pytest.raises(ValueError, match=r"a\.tar: the member 'a' has 60 bytes, .* at most 50 "):
        unpack(archive, tmp_path / "out", lambda name: name)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(unpack_module, "LARGEST", 100)
    monkeypatch.setattr(unpack_module, "MOST", 100)
    with pytest.raises(ValueError, match=r"a\.tar: the member 'b' has 60 bytes, 120 with those before it"):
        unpack(archive, tmp_path / "out", lambda name: name)


def test_two_members_for_one_file_are_refused(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar", {"one/a": b"x", "two/a": b"y"})
    with pytest.raises(ValueError, match=r"a\.tar: two members would be a; nothing more is unpacked"):
        unpack(archive, tmp_path / "out", lambda name: name.rsplit("/", 1)[-1])
    assert (tmp_path / "out" / "a").read_bytes() == b"x"


def test_a_locked_zip_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("a", b"x")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[6] |= 1  # both headers say that the member is encrypted
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.zip: truncated or not such an archive .*password"):
        unpack(tmp_path / "a.zip", tmp_path / "out", lambda name: name)


def test_an_unpacked_file_is_kept_for_its_bytes_not_for_its_size(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar", {"a": b"right", "b": b"right"})
    unpack(archive, tmp_path / "out", lambda name: name)
    (tmp_path / "out" / "a").write_bytes(b"wrong")
    done = unpack(archive, tmp_path / "out", lambda name: name)
    assert (done.written, done.kept) == (1, 1)
    assert (tmp_path / "out" / "a").read_bytes() == b"right"


# ---- subsets


def test_a_list_of_ids_may_have_a_mark_and_is_refused_in_another_encoding(tmp_path: Path) -> None:
    picture(tmp_path / "root" / "a.png")
    data: Dataset = Folder(str(tmp_path / "root"))
    path = tmp_path / "ids.txt"
    path.write_bytes(b"\xef\xbb\xbfa.png\r\n")
    assert select(data, f"file:{path}").ids == ("a.png",)
    path.write_text("a.png\n", encoding="utf-16")
    with pytest.raises(ValueError, match=r"ids\.txt: it is UTF-16; save it as UTF-8"):
        _ = select(data, f"file:{path}").ids


def test_a_selection_that_takes_an_image_twice_is_refused(tmp_path: Path) -> None:
    class Twice:
        def indices(self, dataset: Dataset) -> list[int]:
            return [0, 0]

    picture(tmp_path / "a.png")
    with pytest.raises(ValueError, match="takes an image of folder more than once"):
        _ = select(Folder(str(tmp_path)), Twice()).ids


# ---- what the command prints


def test_check_prints_what_is_left_out_and_why_for_every_data_set(tmp_path: Path) -> None:
    make_tree(tmp_path / "imagenet" / "val")
    (tmp_path / "imagenet" / "val" / "x.JPEG").write_bytes(jpeg(1))
    with_notes(tmp_path / "coco", polygon_note(1, 139, 18, []), polygon_note(2, 139, 18, [[1, 1, 9, 1, 9, 9]]))
    make_voc(tmp_path / "voc")
    (tmp_path / "voc" / "VOCdevkit" / "VOC2012" / "JPEGImages" / "x.jpg").write_bytes(jpeg(1))
    (tmp_path / "imagenet_seg").mkdir()
    make_seg(tmp_path / "imagenet_seg", *seg_arrays())
    (tmp_path / "mnist").mkdir()
    for name in ("t10k-images-idx3-ubyte", "t10k-images.idx3-ubyte"):
        (tmp_path / "mnist" / name).write_bytes(idx(np.zeros((1, 28, 28), dtype=np.uint8)))
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array([3], dtype=np.uint8)))
    for number in range(5):
        picture(tmp_path / "folder" / f"{number}.heic")
    picture(tmp_path / "folder" / "a.png")
    expected = {
        "imagenet": "left out: 1 x image beside the synset folders (x.JPEG)",
        "coco": "left out: 1 x annotation: its segmentation is empty (annotation 1 of 000000000139.jpg)",
        "voc": "left out: 1 x file that val.txt does not name (JPEGImages/x.jpg)",
        "imagenet_seg": "left out: 3 x image with masks of further annotators, of which the first is used (0001, 000",
        "mnist": "left out: 1 x the same part under another name (t10k-images.idx3-ubyte)",
        "folder": "left out: 5 x file whose name does not end as an image's does (0.heic, 1.heic, 2.heic, ...)",
    }
    for name, line in expected.items():
        report = check(name, str(tmp_path / name))
        assert line in str(report)
        assert not report.problems
    assert check("folder", str(tmp_path / "folder")).complete


def test_check_counts_masks_without_an_object(tmp_path: Path) -> None:
    for name, value in (("a.png", 1), ("a_mask.png", 0), ("b.png", 1), ("b_mask.png", 255), ("c.png", 1)):
        picture(tmp_path / name, value)
    assert check("folder", str(tmp_path), decode=True).found == {"images": 3, "unreadable": 0, "without an object": 1}


def test_the_command_takes_a_label_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labelled(tmp_path, "x.png 1\ngone.png 2\n", "x.png", "y.png")
    words = [
        "data",
        "check",
        "folder",
        "--root",
        str(tmp_path / "pictures"),
        "--labels-file",
        str(tmp_path / "labels.txt"),
    ]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "left out: 1 x line of the label file that no image has (gone.png)" in printed
    assert "left out: 1 x image without a label (it is read) (y.png)" in printed
    with pytest.raises(ValueError, match=r"--labels-file: only imagenet and folder have a label file, voc has none"):
        check("voc", labels_file="x")
