"""`dix run`: one job, or a sweep of jobs through a launcher."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import Any

from dix.cli.config import CONF, composed, with_folders


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything behind `run` belongs to Hydra."""
    parser.add_argument(
        "overrides", nargs="*", help="key=value as `dix list` shows; -m for a sweep; Hydra's own options"
    )


def main(options: argparse.Namespace) -> int:
    """Check the configuration, hand over to Hydra, and say what failed; 0 where everything is stored."""
    words = with_folders(options.overrides)
    flags = [w for w in words if w.startswith("-")]
    config = composed([w for w in words if not w.startswith("-")])
    sweep = "-m" in flags or "--multirun" in flags or str(config.hydra.mode).endswith("MULTIRUN")
    before = _failures(config.run.results)
    _hand_over(words)
    failed = [name for name in _failures(config.run.results) if name not in before or sweep]
    if failed:
        print(
            f"dix: failed: {', '.join(failed)}; the rest is stored. Again, only these: add run.only=failed",
            file=sys.stderr,
        )
    return 1 if failed else 0


def _failures(results: str) -> list[str]:
    from dix.bench.store import ResultStore

    return [f"{record['job']} {record['method']}" for record in ResultStore(results).read_json("failures")]


def _hand_over(words: list[str]) -> None:
    """Run Hydra's own application with these words, and let its exceptions through as they are."""
    import hydra

    from dix.bench.schema import register

    register()
    arguments, level = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = ["dix", *words]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(task)()
    finally:
        sys.argv = arguments
        if level is None:
            del os.environ["HYDRA_FULL_ERROR"]


def task(config: Any) -> None:
    """One job, here or wherever a launcher runs it."""
    from dix.cli.task import run_job

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    run_job(config)
