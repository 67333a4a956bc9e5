"""Options of the command line: any order, a user's own folder, and messages that say how it is written."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from dix import __version__
from dix.cli import COMMANDS, main, parser_of
from dix.cli.config import composed, options
from dix.cli.options import overrides_of, search_path

OWN = "{name}:\n  _target_: dix.baselines.controls.Ones\n  label: Mine\n"
#: For each command: words that may stand in any order, and what must come of them.
WORDS = {
    "run": [["-m"], ["model=lenet5"], ["run.limit=2"], ["--config-dir", "c"]],
    "estimate": [["experiment=table1"], ["--images", "50"], ["model.weights=random"], ["--config-dir", "c"]],
    "tables": [["table2"], ["--limit", "2"], ["model.weights=random"], ["--config-dir", "c"]],
    "figures": [["figure1"], ["run.limit=2"], ["--config-dir", "c"]],
    "check": [["method=[gc]"], ["--config-dir", "c"], ["model=lenet5"]],
    "train": [["model=lenet5"], ["--config-dir", "c"], ["train.epochs=1"]],
    "explain": [["a.png"], ["--top", "2"], ["b.png"], ["--config-dir", "c"]],
    "verify": [["results"], ["--sample", "3"], ["--trust"]],
    "merge": [["a"], ["b"], ["c"]],
    "list": [["method"], ["--config-dir", "c"]],
}


@pytest.mark.parametrize("command", sorted(WORDS))
def test_options_and_words_come_in_any_order(command: str) -> None:
    def parsed(groups: tuple[list[str], ...]) -> dict[str, object]:
        found = vars(parser_of([command]).parse_args([command, *itertools.chain(*groups)]))
        return {key: sorted(value) if isinstance(value, list) else value for key, value in found.items()}

    wanted = parsed(tuple(WORDS[command]))
    if command == "merge":
        return
    for order in itertools.permutations(WORDS[command]):
        assert parsed(order) == wanted


@pytest.mark.parametrize("action", [["sanity", "parameters"], ["bench", "methods"]])
def test_options_of_a_commands_own_commands_come_in_any_order(action: list[str]) -> None:
    words = [["--config-dir", "c"], ["model=lenet5"], ["method=[gc]"]]
    found = [parser_of(action[:1]).parse_args([*action, *itertools.chain(*w)]) for w in itertools.permutations(words)]
    assert all({*one.overrides} == {"model=lenet5", "method=[gc]"} and one.config_dir == ["c"] for one in found)


def test_merge_keeps_the_order_of_its_folders() -> None:
    found = parser_of(["merge"]).parse_args(["merge", "a", "b", "c"])
    assert (found.sources, found.into) == (["a", "b"], "c")


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"dix {__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--model", "resnet101"], "settings are written without dashes: model=resnet101"),
        (["run", "--model=resnet101"], "settings are written without dashes: model=resnet101"),
        (["estimate", "run.limit=2", "--method", "[gc]"], "without dashes: method=[gc]"),
        (["run", "--run.limit", "3"], "without dashes: run.limit=3"),
        (["run", "--zzz", "3"], "unknown: --zzz; `dix run --help` shows what there is"),
        (["estimate", "--imags", "50"], "unknown: --imags; did you mean '--images'?"),
        (["bench", "methods", "--bacth=2"], "unknown: --bacth=2; did you mean '--batch'?"),
        (["runn"], "there is no 'runn'; did you mean 'run'?"),
        (["verfy", "own"], "there is no 'verfy'; did you mean 'verify'?"),
        (["qqq"], "there is no 'qqq'; there are run, list, new, "),
        (["bench", "metods"], "there is no 'metods'; did you mean 'methods'?"),
        (["completion", "zhs"], "there is no 'zhs'; did you mean 'zsh'?"),
    ],
)
def test_an_option_or_command_that_is_none_is_answered_with_how_to_write_it(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: dix {command}")


@pytest.mark.parametrize("name", ["conf", "my conf", "a,b", "it's [mine]", "x=y", 'a "quoted" one', "back\\slash", "ö"])
def test_a_folder_of_any_name_can_hold_own_configurations(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    (folder / "method").mkdir(parents=True)
    (folder / "method" / "mine.yaml").write_text(OWN.format(name="mine"), encoding="utf-8")
    words = overrides_of(parser_of(["run"]).parse_args(["run", "method=[gc,mine]", "--config-dir", str(folder)]))
    assert list(composed(words).method) == ["gc", "mine"]
    assert "mine" in options("method", [folder])


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    arguments = parser_of(["run"]).parse_args(["run", "--config-dir", str(tmp_path / "no")])
    with pytest.raises(ValueError, match=r"--config-dir: no folder .*no"):
        overrides_of(arguments)


def test_an_own_file_with_one_of_our_names_is_refused_not_ignored(tmp_path: Path) -> None:
    (tmp_path / "method").mkdir()
    (tmp_path / "method" / "gc.yaml").write_text(OWN.format(name="gc"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"gc\.yaml: this suite has its own method 'gc'; give yours another name"):
        composed(["method=[gc]", *search_path([tmp_path])])
