"""The pages at the root of the repository: their links lead somewhere, and what they state is so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", "AGENTS.md", "CHANGELOG.md", "llms.txt")


@pytest.mark.parametrize("page", PAGES)
def test_links_and_named_files_exist(page):
    text = (ROOT / page).read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)", text) if "://" not in link]
    named = [name for name in re.findall(r"`((?:core|plugins|benchmarks|tests|examples|docs)/[\w./-]*)`", text)]
    assert links or named
    assert [name for name in (*links, *named) if not (ROOT / name).exists()] == []


def test_every_domain_has_its_page_in_the_list_for_machines():
    text = (ROOT / "llms.txt").read_text()
    pages = [page.relative_to(ROOT).as_posix() for page in (ROOT / "docs" / "domains").glob("*.md")]
    assert [page for page in pages if page not in text] == []


def test_the_citation_names_the_version_and_licence_of_the_core():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "core" / "pyproject.toml").read_text())["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text()
