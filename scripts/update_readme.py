"""Put the demo's table and a picture of its maps into README.md and docs/demo.png, from results/demo."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from PIL import Image

from dix.bench.report.figures import Example, figure_bytes, qualitative_grid
from dix.bench.store.cells import Group
from dix.bench.tables.paper import METHOD_LABELS
from dix.files import write_atomic

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "results" / "demo"
SHORT = {"efficientnet_lite0": "Lite0", "vit_small_embedded": "ViT-S/14"}
PICTURES = (
    ("efficientnet_lite0", ("gc", "lift", "fg", "ig", "big", "dix1", "dix2", "dix3")),
    ("vit_small_embedded", ("t_attr", "gae", "ig", "dix1", "dix2", "dix3")),
)


def table() -> str:
    """The wide table and the lines that say what it is, without the table of intervals."""
    text = (DEMO / "table.md").read_text(encoding="utf-8")
    head = text.split("<details>")[0]
    kept = [
        line
        for line in head.splitlines()
        if not line.startswith(("# ", "## ", "- versions", "- measured on", "- code"))
    ]
    return "\n".join(kept).strip()


def examples() -> list[Example]:
    """Two photos for each embedded network, with the maps that the demo kept."""
    found = []
    for model, methods in PICTURES:
        for folder in sorted((DEMO / "images" / Group(model, "photos", "thesis").folder).glob("*"))[:2]:
            about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
            maps = {name: _pixels(folder / f"{name}.png") for name in methods if (folder / f"{name}.png").is_file()}
            found.append(Example(f"{about['explained']}\n{SHORT[model]}", _pixels(folder / "photo.png"), maps))
    return found


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image, dtype=float) / 255


def main() -> None:
    """Rewrite README.md between its marks, and docs/demo.png."""
    readme = ROOT / "README.md"
    marks = re.compile(r"(<!-- demo table -->\n).*?(<!-- end of demo table -->)", re.DOTALL)
    text = marks.sub(lambda found: f"{found[1]}{table()}\n{found[2]}", readme.read_text(encoding="utf-8"))
    write_atomic(readme, text)
    chosen = {name for _, methods in PICTURES for name in methods}
    columns = [name for name in METHOD_LABELS if name in chosen]
    grid = qualitative_grid(examples(), columns, METHOD_LABELS)
    write_atomic(ROOT / "docs" / "demo.png", figure_bytes(grid, "png", dpi=90))


if __name__ == "__main__":
    main()
