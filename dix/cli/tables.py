"""`dix tables`: the thesis's tables from data to page, or one page of what is missing for them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig

from dix.bench.store.results import ResultStore
from dix.bench.tables import paper
from dix.cli.construct import data_set
from dix.cli.options import add_config_dir, folders_of, search_path
from dix.cli.report import gaps, write
from dix.cli.run import run
from dix.cli.sweep import configurations
from dix.datasets.api import Dataset, MissingData

TABLES = tuple(f"table{number}" for number in sorted({value.table for value in paper.printed_values()}))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which tables, and how."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="TABLE|KEY=VALUE",
        help=f"{TABLES[0]} to {TABLES[-1]} (default: all), and overrides for each run, as for `dix run`",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="N random images of each data set (seed 0)")
    add_config_dir(parser)
    parser.add_argument("--report", action="store_true", help="run nothing, only write what is stored")


def main(arguments: argparse.Namespace) -> int:
    """Run and report every table whose data are there; print what is missing for the others; 1 where anything is."""
    names = [word for word in arguments.words if "=" not in word] or list(TABLES)
    overrides = [word for word in arguments.words if "=" in word] + search_path(folders_of(arguments))
    unknown = [name for name in names if name not in TABLES]
    if unknown:
        raise ValueError(f"no table called {unknown[0]!r}; there are {', '.join(TABLES)}")
    plans = {name: [f"experiment={name}", *overrides] for name in names}
    own = folders_of(arguments)
    if arguments.report:
        return max(_report(_folder(words), own) for words in plans.values())
    configs = {name: configurations(words, several=True) for name, words in plans.items()}
    there, absent = looked_up([config for found in configs.values() for config in found])
    if absent:
        print(page(absent, configs))
    codes = [_table(words, configs[name], there, arguments.limit, own) for name, words in plans.items()]
    return max([*codes, int(bool(absent))])


def looked_up(configs: Sequence[DictConfig]) -> tuple[dict[str, Dataset], dict[str, str]]:
    """The data sets that can be opened, and for each of the others what is missing."""
    there: dict[str, Dataset] = {}
    absent: dict[str, str] = {}
    for config in configs:
        name = chosen(config, "dataset")
        if name not in there and name not in absent:
            try:
                dataset = data_set(config.dataset)
                assert dataset.ids is not None  # they are looked up here
                there[name] = dataset
            except MissingData as error:
                absent[name] = str(error)
    return there, absent


def chosen(config: DictConfig, group: str) -> str:
    """The name of the file that a job takes from a group."""
    return str(config.hydra.runtime.choices[group])


def page(absent: Mapping[str, str], configs: Mapping[str, Sequence[DictConfig]]) -> str:
    """What is missing, for which tables, and how to get it."""
    lines = ["Some data of these tables are not on this machine; nothing can fetch them without your account.", ""]
    for dataset, message in absent.items():
        tables = [name for name, found in configs.items() if dataset in {chosen(c, "dataset") for c in found}]
        lines += [message, f"  Needed for {', '.join(tables)}.", ""]
    models = dict.fromkeys(chosen(config, "model") for found in configs.values() for config in found)
    return "\n".join(
        [
            *lines,
            f"Models: {', '.join(models)}. Their weights are fetched from torchvision or timm at the first run,",
            "or taken from a file with model.weights=PATH.",
            "With all data sets in one folder: make tables DATA=FOLDER [LIMIT=500].",
            "Meanwhile `make embedded` makes the same tables with networks and photos that need no download.",
        ]
    )


def _table(
    words: Sequence[str],
    configs: Sequence[DictConfig],
    there: Mapping[str, Dataset],
    limit: int | None,
    own: Sequence[Path],
) -> int:
    """Run one table's jobs on the data that are there, and write its report; the exit code. own: see `_report`."""
    code = 0
    for name in dict.fromkeys(chosen(config, "dataset") for config in configs):
        if name in there:
            count = len(there[name].ids)
            few = [f"dataset.subset=random:{limit}"] if limit is not None and limit < count else []
            rest = [word for word in words if not word.startswith("dataset=")]
            print(f"{words[0]}: {name}, {count if not few else limit:,} of {count:,} images", flush=True)
            code |= run([*rest, f"dataset={name}", *few])
    return max(code, _report(_folder(words), own))


def _folder(words: Sequence[str]) -> Path:
    return Path(configurations(words, several=True)[0].run.results)


def _report(folder: Path, own: Sequence[Path]) -> int:
    """Write the report of what is stored, and say what is not; 1 where anything is missing.

    own: folders of the user's own configurations, whose metrics the report shows as theirs.
    """
    if not (folder / "store").is_dir() or not ResultStore(folder).cells():
        return 1
    left = gaps(write(folder, folders=own))
    print("\n".join(left))
    return 1 if left else 0
