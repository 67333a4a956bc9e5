"""The tables of docs/findings.md are those of the kept results."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_page_of_findings_shows_the_kept_tables() -> None:
    spec = importlib.util.spec_from_file_location("update_findings", ROOT / "scripts" / "update_findings.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    page = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    tables = script.tables(ROOT / "results" / "embedded")
    assert all(f"<!-- table: {name} -->" in page for name in tables)
    assert script.filled(page, tables) == page, "run: python scripts/update_findings.py"
