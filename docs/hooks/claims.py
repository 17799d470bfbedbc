"""The pages of claims, made from the stored results whenever the documentation is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

from anydiff_benchmarks.claims.pages import claim_pages

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "claims"


def on_files(files: Any, config: Any) -> Any:
    """Add ``claims/index.md`` and a page per claim."""
    for name, text in claim_pages(RESULTS).items():
        files.append(File.generated(config, f"claims/{name}", content=text))
    return files
