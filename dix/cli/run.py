"""`dix run`: one job, or a sweep of jobs through a launcher."""

from __future__ import annotations

import argparse
import copy
import json
import os
import shlex
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from dix.cli.config import CONF, check_single, composed, protocols
from dix.cli.garbage import nothing_to_collect
from dix.cli.options import add_overrides, importable, overrides_of
from dix.cli.output import log_printable, printable_output, tell
from dix.extras import optional

#: A sweep whose launcher broke is handed over again, for what is left, until it has been so often in all.
PASSES = 8
#: Seconds that a SLURM job must have before it may be told to stop: it starts, and stores a first batch.
WORK = 30
#: Keys that say which protocols a job has.
DECIDE = ("protocol", "experiment", "hydra.searchpath")
#: Deaths of its process after which a job is left out of a further pass, by launcher.
PATIENCE = {"joblib": 3, "submitit": 1}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A job, and those of Hydra's own options that are of use here."""
    add_overrides(parser, "what to run, as in model=resnet101 method=[gc,dix3]; `dix list` shows the names")
    parser.add_argument(
        "-m", "--multirun", action="store_true", help="a sweep: model=resnet50,vgg19 is one job for each"
    )
    parser.add_argument("-c", "--cfg", choices=("job", "hydra", "all"), help="print the configuration and run nothing")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = settings_help()
    parser.add_argument("--resolve", action="store_true", help="with --cfg: references like ${run.name} filled in")


def main(options: argparse.Namespace) -> int:
    """Check the configuration, hand over to Hydra, and say what failed; 0 where everything is stored."""
    return run(overrides_of(options), options.multirun, _shown(options))


def settings_help() -> str:
    """Every setting of a run and of a protocol in a line with its default, from the docstrings of their classes."""
    from dix.cli.schema import described, type_of

    lines = []
    for group in ("run", "protocol"):
        settings = type_of(group)
        about = described(settings)
        lines += ["", f"{group}.KEY=VALUE, with the default:"]
        for name, default in vars(settings()).items():
            lines.append(f"  {name}={_yaml(default)}\n      {about.get(name, '')}")
    return "\n".join(lines)


def _yaml(value: Any) -> str:
    """A value as it is written in an override."""
    return json.dumps(value).replace('"', "").replace(", ", ",")


def _shown(options: argparse.Namespace) -> list[str]:
    """The words by which Hydra prints the configuration instead of running it."""
    return [f"--cfg={options.cfg}", *(["--resolve"] if options.resolve else [])] if options.cfg else []


def run(overrides: Sequence[str], multirun: bool = False, show: Sequence[str] = ()) -> int:
    """The same for overrides. show: words for Hydra that print the configuration instead."""
    config = composed(overrides, several=True)
    sweep = multirun or str(config.hydra.mode).endswith("MULTIRUN")
    words = [*(["-m"] if multirun else []), *show, *overrides]  # Hydra takes no override behind an option
    if not sweep:
        check_single(overrides)
    if show:
        _hand_over(words)
        return 0
    if config.run.progress and sys.stderr.isatty():  # PyTorch and the network take seconds to come
        tell(f"starting in {config.run.results}")
    results = str(config.run.results)
    before = _failures(results)
    trouble = ""
    if sweep:
        check_launcher(config.hydra.launcher)
        _announce(results, config, words)
        trouble = _sweep(words, results, config.hydra.launcher, config.hydra.sweeper.get("max_batch_size"))
    elif _wants_more_of_hydra(config):
        _hand_over(words)
    else:
        _at_once(config)
    failed = [name for name in _failures(results) if name not in before or sweep]
    stopped = _stopped(results, all_dead=bool(trouble)) if sweep else []
    _say(words, failed, stopped, trouble)
    return 1 if failed or stopped or trouble else 0


def check_launcher(launcher: Any) -> None:
    """Raise ValueError where a SLURM job would be told to stop before it has done anything.

    submitit asks for a signal `signal_delay_s` before the limit, SLURM may send it a minute earlier still, and a job
    that gets it without a time-out left in `max_num_timeout` ends there.
    """
    if "signal_delay_s" not in launcher:
        return
    work = 60 * launcher.timeout_min - launcher.signal_delay_s - 60
    if work < WORK:
        raise ValueError(
            f"hydra.launcher: expected 60 * timeout_min to be at least signal_delay_s + {60 + WORK} seconds, got "
            f"timeout_min={launcher.timeout_min} and signal_delay_s={launcher.signal_delay_s}: "
            f"a job would be told to stop after {max(work, 0)} s"
        )
    if launcher.max_num_timeout < 1:
        raise ValueError(
            "hydra.launcher.max_num_timeout: expected at least 1, got "
            f"{launcher.max_num_timeout}: a job that is out of time would not be queued again"
        )


def _announce(results: str, config: Any, words: Sequence[str]) -> None:
    """Note how many jobs the sweep has, so that `dix status` knows of those that were not begun."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    from dix.bench.store.results import ResultStore

    given = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    try:
        overrides = OverridesParser.create().parse_overrides([*given, *(w for w in words if not w.startswith("-"))])
        [jobs] = BasicSweeper.split_arguments(overrides, None)
    except (HydraException, NotImplementedError, ValueError):
        return  # glob(*) can only be counted by Hydra itself
    count = sum(_records(tuple(job)) for job in jobs)
    ResultStore(results).write_json("sweeps", "last", {"jobs": count, "words": list(words)})


def _records(job: Sequence[str]) -> int:
    """How many records a job of a sweep keeps: one for each of its protocols."""
    return _protocols(tuple(word for word in job if word.split("=")[0] in DECIDE))


@lru_cache
def _protocols(words: tuple[str, ...]) -> int:
    return len(protocols(words))


def _sweep(words: list[str], results: str, launcher: Any, batch: int | None) -> str:
    """Hand a sweep over, and again where the launcher breaks before all jobs were started; what broke last, or "".

    A joblib process that dies takes the others with it, so that jobs are run singly from the third pass on: then the
    one that died is the one to leave out.
    """
    trouble = ""
    for number in range(PASSES):
        try:
            _hand_over(
                [*words, "hydra.launcher.pre_dispatch=1"] if "n_jobs" in launcher and number > 1 else words, True
            )
            return ""  # what was left out is on record as failed
        except Exception as error:
            library = type(error).__module__.split(".")[0]
            if library not in PATIENCE:
                raise
            trouble = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
            if library == "submitit" and _wait_for_slurm(Path(results)) < (batch or sys.maxsize):
                return trouble  # SLURM itself queues again what it lost; all the others were started
            os.environ["DIX_GIVE_UP_AFTER"] = str(PATIENCE[library])
            tell(f"{trouble}; going on with what is left")
    return trouble


def _wait_for_slurm(results: Path) -> int:
    """Wait for the other jobs of the array that a failed job belongs to; how many jobs the array has."""
    slurm = optional("submitit.slurm.slurm", "cluster")
    folder = results / ".submitit"
    ids = [path.name for path in folder.glob("*_*") if path.is_dir()]
    newest = max((int(name.split("_")[0]) for name in ids if name.split("_")[0].isdigit()), default=None)
    array = [name for name in ids if name.startswith(f"{newest}_")]
    for name in array:
        slurm.SlurmJob(folder / "%j", name).wait()
    return len(array)


def _failures(results: str) -> list[str]:
    from dix.bench.store.results import ResultStore

    records = ResultStore(results).read_json("failures")
    return [f"{record['job']} {record['method']}: {_first_line(record['message'])}" for record in records]


def _stopped(results: str, all_dead: bool) -> list[str]:
    """Jobs that were begun and are not complete; without those that still show signs of life, unless all are dead."""
    from dix.bench.store.ledger import lives, unfinished
    from dix.bench.store.results import ResultStore

    store = ResultStore(results)
    return [key for key, record in unfinished(store).items() if all_dead or not lives(store, key, record)]


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else "no message"


def _say(words: Sequence[str], failed: Sequence[str], stopped: Sequence[str], trouble: str) -> None:
    """The last lines of a run that is not complete: what is missing, and the command for just that."""
    lines = [f"failed: {name}" for name in failed] + [f"ended before it was finished: {name}" for name in stopped]
    if trouble:
        lines.append(f"the launcher reported {trouble}")
    if lines:
        again = [word for word in words if not word.startswith("run.only=")]
        lines.append(f"the rest is stored. Again, only these: dix run {shlex.join([*again, 'run.only=failed'])}")
        tell("\ndix: ".join(lines))


def _wants_more_of_hydra(config: Any) -> bool:
    """Whether a job has settings of Hydra itself, which only its own application heeds."""
    given, job = config.hydra, config.hydra.job
    asked = any(not word.startswith("hydra.searchpath=") for word in given.overrides.hydra)
    return asked or bool(given.callbacks or given.output_subdir or job.chdir or job.env_set)


def _at_once(config: Any) -> None:
    """Run a job that is composed already; Hydra's own application would compose it twice more."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import open_dict, read_write

    known = HydraConfig.instance()
    before = known.cfg
    known.set_config(config)
    own = copy.deepcopy(config)
    with read_write(own), open_dict(own):
        del own["hydra"]
    try:
        task(own)
    finally:
        known.cfg = before


def _hand_over(words: list[str], sweep: bool = False) -> None:
    """Run Hydra's own application with these words, and let its exceptions through as they are.

    Hydra prints a line of its own about a job that raises; a single job's error is kept from it and raised here.
    """
    import hydra

    from dix.cli.schema import register

    register()
    raised: list[BaseException] = []

    def alone(config: Any) -> None:
        try:
            task(config)
        except BaseException as error:
            raised.append(error)

    arguments, level = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = ["dix", *words]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(task if sweep else alone)()
    finally:
        sys.argv = arguments
        if level is None:
            del os.environ["HYDRA_FULL_ERROR"]
    if raised:
        raise raised[0]


def task(config: Any) -> None:
    """One job, here or wherever a launcher runs it."""
    from hydra.core.hydra_config import HydraConfig

    with nothing_to_collect():
        from dix.cli.task import run_job

    own = [path for path in HydraConfig.get().searchpath or [] if path.startswith("file://")]
    importable([Path(path.removeprefix("file://")) for path in own])
    log_printable()
    with printable_output():
        run_job(config)
