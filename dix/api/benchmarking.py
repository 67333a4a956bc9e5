"""`dix.benchmark`: `dix run` from Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dix.api.parts import Several, folders, job_words
from dix.api.results import Results
from dix.classifier import Classifier
from dix.cli import given
from dix.datasets.api import Dataset


def benchmark(
    model: str | Classifier,
    methods: Several,
    metrics: Several,
    data: str | Path | Dataset,
    protocol: str | Sequence[str] = "thesis",
    out: str | Path | None = None,
    config_dir: str | Path | None = None,
    **run: Any,
) -> Results:
    """Explain every image with every method, score the maps, and store what is not stored yet.

    The engine, the store and the rows are those of `dix run`: the folder can be gone on with, merged, verified and
    reported from the command line. A run that is interrupted goes on where it was.

    Args:
        model: A name of `dix list model`, or a classifier (`dix.wrap`).
        methods: Names, objects, or both in a list; or by the name that rows store, as in {"mine": MyMethod(power=2.0)}.
        metrics: The same.
        data: A name of `dix list dataset`, a folder of images (with masks: dog.jpg and dog_mask.png), or a data set.
        protocol: One, or several that share every forward pass they can.
        out: The results folder; None: results/run.
        config_dir: A folder of your own configurations, laid out as conf/.
        **run: Settings of a run (`dix run --help`), as in limit=100. Other than on the command line, images are
            decoded in this process (workers=0) unless told otherwise, since a script without
            ``if __name__ == "__main__"`` can start no others.

    Returns:
        What the results folder holds, earlier rows included.

    Raises:
        ValueError: It says what is wrong with an argument.

    Examples:
        >>> import dix
        >>> results = dix.benchmark("lenet5", ["gc", "random"], ["ins"], "mnist", limit=2, progress=False, out=folder)
        lenet5--mnist--thesis: 2 images, 4 new rows in ...
        >>> results.frame()[["method", "metric", "image"]].drop_duplicates().shape
        (4, 3)
    """
    own = folders(config_dir)
    words, parts = job_words(model, methods, metrics, data, own)
    names = [protocol] if isinstance(protocol, str) else list(protocol)
    words.append(f"protocol={names[0]}" if len(names) == 1 else f"protocol=[{','.join(names)}]")
    settings = {f"run.{key}": value for key, value in {"workers": 0, **run}.items()}
    if out is not None:
        settings |= {"run.name": Path(out).name, "run.results": str(out)}
    folder = given.run(words, parts, settings)
    return Results(Path(folder), tuple(own), dict(parts.metrics))
