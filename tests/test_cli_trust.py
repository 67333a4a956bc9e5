"""A results folder from a stranger decides nothing: what its provenance may name, and what is refused unopened."""

from __future__ import annotations

import copy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from PIL import Image

from dix.bench.store.results import ResultStore
from dix.cli import main
from dix.cli.config import composed, options
from dix.cli.construct import located
from dix.cli.trust import Untrusted, settings, targets, vetted

KINDS = ("model", "method", "dataset", "metric")
#: Code that lies below our prefix or beside it, by whatever way a name may lead there.
CALLABLES = [
    "os.system", "subprocess.run", "builtins.eval", "builtins.exec", "builtins.__import__", "shutil.rmtree",
    "pathlib.Path", "pathlib.Path.write_text", "importlib.import_module", "runpy.run_path", "webbrowser.open",
    "functools.partial", "operator.methodcaller", "codecs.open", "io.open", "pickle.loads", "torch.load",
    "torch.hub.load", "hydra.utils.instantiate", "hydra.utils.call", "hydra.utils.get_method",
    "omegaconf.OmegaConf.register_new_resolver", "dix.bench.store.rows.Path.write_text",
    "dix.bench.store.rows.Path", "dix.bench.store.Path.write_text", "dix.cli.run.os.system", "dix.cli.run.os.execv",
    "dix.cli.run.os.environ.update", "dix.cli.main", "dix.cli.run.main", "dix.cli.__main__",
    "dix.cli.__main__.main", "dix.cli.importlib.import_module", "dix.cli.run.sys.exit", "dix.x.os.system",
    "dix.os.system", "dix.cli.sweep.itertools.count", "dix.files.write_atomic", "dix.files.os.replace",
    "dix.bench.run.runtime.subprocess.run", "dix.bench.run.runtime.ctypes.CDLL", "dix.cli.construct.build",
    "dix.bench.store.rows.ResultStore", "dix.bench.store.merge.merge", "dix.datasets.prepare.prepare",
    "dix.models.sources.state_from_file", "dix.models.zoo.torch.hub.load", "dix.models.zoo.timm.create_model",
    "dix.explainer.Dix.__init__", "dix.explainer.Dix.explain.__globals__", "dix.explainer.torch.load", "dix.conf.x",
    "dix.torchvision_repair.install", "dix..os.system", "dix.", "dix", "", ".os.system", "dix.explainer.dataclass",
    "..dix.explainer.Dix", "dix.explainer.Dix\n", "DIX.explainer.Dix", "dix/explainer.Dix", "dix.explainer:Dix",
    "dixx.explainer.Dix", "dix_evil.Dix", "somebody.GradCam", "tests.support.engine_jobs.Failing", 7, None,
    ["os.system"],
]  # fmt: skip


def recorded(*words: str) -> dict[str, Any]:
    """A configuration as provenance records it."""
    config = composed(["model=lenet5", "dataset=mnist", "method=[gc]", "metric=[ins]", *words])
    made: Any = OmegaConf.to_container(OmegaConf.masked_copy(config, [*KINDS, "protocol"]), resolve=True)
    return dict(made)


RECORDED = recorded()


def node(config: dict[str, Any], kind: str) -> Any:
    """The part of a kind in a configuration of one method and one metric."""
    only = {"method": "gc", "metric": "ins"}
    return config[kind][only[kind]] if kind in only else config[kind]


@pytest.mark.parametrize("target", CALLABLES, ids=repr)
@pytest.mark.parametrize("kind", KINDS)
def test_no_callable_but_a_part_of_that_kind_is_taken(kind: str, target: Any) -> None:
    config = copy.deepcopy(RECORDED)
    node(config, kind)["_target_"] = target
    before = set(sys.modules)
    with pytest.raises(Untrusted, match=rf"^{kind}"):
        vetted(config)
    assert set(sys.modules) == before, "nothing is imported to find out"


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_of_another_kind_is_not_taken(kind: str) -> None:
    others = [target for other in KINDS if other != kind for target in targets(other)]
    assert len(others) > 20
    for target in others:
        config = copy.deepcopy(RECORDED)
        node(config, kind)["_target_"] = target
        with pytest.raises(Untrusted, match=f"is no {kind} of this suite's"):
            vetted(config)


@pytest.mark.parametrize("target", CALLABLES, ids=repr)
@pytest.mark.parametrize("kind", KINDS)
def test_no_nested_target_is_taken(kind: str, target: Any) -> None:
    for nested in ({"_target_": target}, [{"_target_": target}], {"a": [{"b": {"_target_": target}}]}):
        config = copy.deepcopy(RECORDED)
        node(config, kind)["seed"] = nested
        with pytest.raises(Untrusted, match="a key _target_ is not allowed"):
            vetted(config)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "key", ["_args_", "_partial_", "_recursive_", "_convert_", "__class__", "_", "a b", "x\x1b[2J", 3]
)
def test_keys_that_say_how_objects_are_made_are_refused(kind: str, key: Any) -> None:
    config = copy.deepcopy(RECORDED)
    node(config, kind)[key] = True
    with pytest.raises(Untrusted, match="is not allowed") as refused:
        vetted(config)
    assert "\x1b" not in str(refused.value)


VALUES = [
    "${oc.env:HOME}", "${oc.decode:'[1]'}", "${hydra:runtime.cwd}", "x${oc.env:HOME}", "\\${oc.env:HOME}",
    "${model.name}", "/etc/passwd", "../up", "~/x", "a/b", "C:\\x", "\\\\host\\share", "hf-hub:evil/repo",
    "local-dir:x", "file:list.txt", "https://x.y", "weights.pth", "a\x00b",
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize(
    ("kind", "name"),
    [("model", "weights"), ("model", "name"), ("dataset", "root"), ("dataset", "subset"), ("dataset", "part"),
     ("method", "layer"), ("method", "label"), ("metric", "auc"), ("model", "architecture"),
     ("dataset", "labels_file")],
)  # fmt: skip
def test_references_and_paths_are_refused(
    kind: str, name: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.pth").write_bytes(b"a file that lies here")
    for changed in (value, [value], {"a": value}):
        config = copy.deepcopy(RECORDED)
        node(config, kind)[name] = changed
        with pytest.raises(Untrusted, match=rf"{kind}.*{name}"):
            vetted(config)


@pytest.mark.parametrize("value", ["evil", "resnet1001", "IMAGENET1K_V1; x"])
@pytest.mark.parametrize("name", ["weights", "architecture", "tag"])
def test_weights_and_architectures_are_those_of_our_own_configurations(name: str, value: str) -> None:
    config = recorded("model=resnet50")
    vetted(config)
    config["model"][name] = value
    with pytest.raises(Untrusted, match=rf"model\.{name}: .* is not in this suite's own configurations"):
        vetted(config)


@pytest.mark.parametrize("value", ["${oc.env:HOME}", "/etc/passwd", ["${x}"], {"_target_": "os.system"}, {"a": "../b"}])
def test_settings_of_a_protocol_are_plain(value: Any) -> None:
    assert settings(RECORDED["protocol"], "protocol") == RECORDED["protocol"]
    with pytest.raises(Untrusted, match=r"protocol\.fill"):
        settings({"fill": value}, "protocol")


@pytest.mark.parametrize("shape", [None, [], "x", 3, {"_target_": 3}, {"a": None}])
@pytest.mark.parametrize("kind", KINDS)
def test_a_configuration_of_another_shape_is_refused(kind: str, shape: Any) -> None:
    with pytest.raises(Untrusted, match=kind):
        vetted({**RECORDED, kind: shape})
    with pytest.raises(Untrusted, match=kind):
        vetted({other: value for other, value in RECORDED.items() if other != kind})


@pytest.mark.parametrize(("group", "name"), [(kind, name) for kind in KINDS for name in options(kind)])
def test_everything_that_this_suite_can_run_is_accepted(group: str, name: str) -> None:
    words = [f"{group}=[{name}]" if group in ("method", "metric") else f"{group}={name}"]
    config = recorded(*words, *(["dataset.root=null"] if name == "folder" else []))
    assert vetted(config) == {kind: config[kind] for kind in KINDS}


def test_what_is_on_the_list_is_this_suites_own() -> None:
    for kind in KINDS:
        for target in targets(kind):
            found = located(target, kind)
            assert found.__module__.startswith("dix."), target


def test_a_class_that_moved_to_another_module_of_ours_is_found() -> None:
    config = copy.deepcopy(RECORDED)
    config["method"]["gc"]["_target_"] = "dix.baselines.where_it_was_once.GradCam"
    assert vetted(config)["method"]["gc"]["_target_"] == RECORDED["method"]["gc"]["_target_"]


def test_a_users_own_folder_makes_its_parts_known(tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "mine.yaml").write_text("mine:\n  _target_: my_package.Mine\n  label: Mine\n")
    config = copy.deepcopy(RECORDED)
    config["method"] = {"mine": {"_target_": "my_package.Mine", "label": "Mine"}}
    with pytest.raises(Untrusted, match=r"my_package\.Mine is no method of this suite's"):
        vetted(config)
    assert vetted(config, [tmp_path])["method"] == config["method"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real results of two digits."""
    folder = tmp_path_factory.mktemp("work") / "small"
    words = ["model=lenet5", "dataset=mnist", "method=[gc]", "metric=[ins]", "run.limit=2", "run.workers=0"]
    assert main(["run", *words, f"run.results={folder}"]) == 0
    return folder


def stranger(results: Path, into: Path, change: Any) -> Path:
    """A copy of the results whose provenance somebody changed."""
    shutil.copytree(results, into)
    store = ResultStore(into)
    for name, record in store.records.all("provenance").items():
        change(record["config"])
        store.records.write("provenance", name, record)
    return into


def writes(marker: Path, target: str) -> dict[str, Any]:
    """A node that writes a file when it is made."""
    return {"_target_": target, "_args_": [{"_target_": "dix.bench.store.rows.Path", "_args_": [str(marker)]}, "x"]}


ATTACKS = {
    "data set": lambda c, m: c.update(dataset=writes(m, "dix.bench.store.rows.Path.write_text")),
    "model": lambda c, m: c.update(model=writes(m, "pathlib.Path.write_text")),
    "method": lambda c, m: c["method"].update(gc={"_target_": "os.system", "command": f"touch '{m}'"}),
    "nested": lambda c, m: c["method"]["gc"].update(layer={"_target_": "os.mknod", "path": str(m)}),
    "metric": lambda c, m: c["metric"].update(ins=writes(m, "dix.files.write_atomic")),
    "protocol": lambda c, m: c["protocol"].update(fill={"_target_": "os.mknod", "path": str(m)}),
    "reference": lambda c, m: c["protocol"].update(fill="${oc.env:HOME}"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_verify_refuses_and_nothing_runs(
    attack: str, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "written by a stranger"
    folder = stranger(results, tmp_path / "r", lambda config: ATTACKS[attack](config, marker))
    assert main(["verify", str(folder), "--sample", "1"]) == 1
    error = capsys.readouterr().err
    assert "KEY=VALUE" in error
    assert "--trust" in error
    assert "Traceback" not in error
    assert not marker.exists()


def test_a_stranger_chooses_neither_device_nor_processes_nor_folders(results: Path, tmp_path: Path) -> None:
    hostile = {"device": "cuda:7", "workers": 10**6, "threads": 10**6, "results": "${oc.env:HOME}/x", "shard": [5, 3]}
    folder = stranger(results, tmp_path / "r", lambda config: config["run"].update(hostile))
    assert main(["verify", str(folder), "--sample", "1"]) == 0


def test_report_resolves_no_reference_of_a_stranger(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DIX_TEST_SECRET", "open sesame")
    change = {"fill": "${oc.env:DIX_TEST_SECRET}", "auc": "${oc.env:DIX_TEST_SECRET}"}
    folder = stranger(results, tmp_path / "r", lambda config: config["protocol"].update(change))
    assert main(["report", str(folder)]) == 1
    assert "protocol.auc: ${oc.env:DIX_TEST_SECRET} is not a plain value" in capsys.readouterr().err
    for path in folder.rglob("*"):
        assert path.is_dir() or b"open sesame" not in path.read_bytes(), path


@pytest.mark.parametrize("command", ["report", "verify"])
def test_a_setting_of_another_type_is_named(
    command: str, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = stranger(results, tmp_path / "r", lambda config: config["protocol"].update(start_pixels="many"))
    assert main([command, str(folder)]) == 1
    error = capsys.readouterr().err
    assert "many" in error
    assert "--debug" not in error


def test_what_was_refused_can_be_given(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = stranger(results, tmp_path / "r", lambda config: config["model"].update(weights="/their/weights.pth"))
    assert main(["verify", str(folder), "--sample", "1"]) == 1
    assert "model.weights: /their/weights.pth" in capsys.readouterr().err
    assert main(["verify", str(folder), "--sample", "1", "model.weights=random"]) == 0
    assert main(["verify", str(folder), "--sample", "1", "--trust"]) == 1
    assert "no file /their/weights.pth" in capsys.readouterr().err


def test_trust_runs_what_the_folder_names(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "somebodys.py").write_text(
        "from dix.baselines.cam import GradCam\n\n\nclass Else(GradCam):\n    pass\n"
    )
    target = {"_target_": "somebodys.Else"}
    folder = stranger(results, tmp_path / "r", lambda config: config["method"]["gc"].update(target))
    assert main(["verify", str(folder), "--sample", "1"]) == 1
    assert "somebodys.Else is no method of this suite's" in capsys.readouterr().err
    assert "somebodys" not in sys.modules
    monkeypatch.setattr(sys, "path", list(sys.path))
    main(["verify", str(folder), "--sample", "1", "--trust"])
    assert "somebodys" in sys.modules
    monkeypatch.delitem(sys.modules, "somebodys")


def _link_photo(picture: Path) -> None:
    photo = picture / "photo.png"
    photo.rename(picture.parents[3] / "mine.png")
    photo.symlink_to(picture.parents[3] / "mine.png")


def _huge(picture: Path) -> None:
    Image.new("1", (5_000, 4_000)).save(picture / "photo.png")


PICTURES: dict[str, Callable[[Path], object]] = {
    "a link": _link_photo,
    "a huge picture": _huge,
    "no picture": lambda picture: (picture / "photo.png").write_text("text"),
    "no record": lambda picture: (picture / "about.json").write_text("[]"),
    "another record": lambda picture: (picture / "about.json").write_text('{"image": 1}'),
    "no JSON": lambda picture: (picture / "about.json").write_bytes(b"\xff{"),
}


@pytest.mark.parametrize("damage", PICTURES)
def test_a_kept_picture_that_cannot_be_trusted_is_left_out_and_named(
    damage: str, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "r"
    shutil.copytree(results, folder)
    first, second = sorted(path.parent for path in folder.glob("images/*/*/about.json"))
    PICTURES[damage](first)
    assert main(["report", str(folder)]) == 0
    out = capsys.readouterr().out
    assert f"left out of the page: the picture in {first}" in out
    assert f"picture in {second}" not in out
    assert "data:image/webp" in (folder / "index.html").read_text(encoding="utf-8")


def test_a_label_reaches_neither_terminal_nor_page_as_an_escape_sequence(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "r"
    shutil.copytree(results, folder)
    store = ResultStore(folder)
    for name, record in store.records.all("cells").items():
        record["printed"]["label"] = "GC\x1b[2J\u202e"
        store.records.write("cells", name, record)
    assert main(["report", str(folder)]) == 0
    assert "\x1b" not in capsys.readouterr().out
    for name in ("table.md", "table.csv", "table.tex", "index.html", "claims.csv"):
        text = (folder / name).read_text(encoding="utf-8")
        assert "\x1b" not in text
        assert "\u202e" not in text
