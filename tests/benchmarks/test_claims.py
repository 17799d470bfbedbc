"""The frame of claims: every file is well formed and can fail, results are stored, and pages come from them."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest

from anydiff.errors import AnydiffError, FileFormatError, UnknownNameError
from anydiff_benchmarks.claims import base, results
from anydiff_benchmarks.claims.base import Claim, ClaimFile, Verdict, load_claim, slugs, weakness
from anydiff_benchmarks.claims.pages import write_pages

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "claims"
CLAIM = Claim("small", "Nobody 2000", "says | <b>so</b>", "is *checked*", "below 1", seeds=(0, 3))


def small(judge=None, measure=None):
    def usual(rows):
        low = all(row["error"] < 1 for row in rows)
        return Verdict("reproduced" if low else "not reproduced", f"errors {[row['error'] for row in rows]}")

    return ClaimFile(CLAIM, measure or (lambda seed: {"error": 0.1 * seed, "limit": math.inf}), judge or usual, base)


@pytest.mark.parametrize("slug", slugs())
def test_every_claim_is_well_formed(slug):
    claim = load_claim(slug).claim
    assert 0 < claim.minutes <= 15
    assert len(claim.says) > 40
    assert len(claim.threshold) > 20


@pytest.mark.parametrize("slug", [slug for slug in slugs() if results.results_path(RESULTS, slug).is_file()])
def test_every_claim_with_results_can_fail_and_its_verdict_follows_from_its_numbers(slug):
    head, seeds, verdict = results.read_results(results.results_path(RESULTS, slug))
    file = load_claim(slug)
    rows = results.numbers_of(seeds)
    assert weakness(file, rows) == ""
    assert file.judge(rows) == Verdict(verdict["verdict"], verdict["sentence"])
    assert [line["seed"] for line in seeds] == list(file.claim.seeds)
    for field in ("paper", "says", "check", "threshold"):
        assert head[field] == getattr(file.claim, field), "run the claim again after changing it"


def test_a_claim_that_cannot_fail_is_found():
    rows = [{"error": 0.1}, {"error": 0.2}]
    assert weakness(small(), rows) == ""
    always = small(lambda rows: Verdict("reproduced", "always"))
    assert "NaN" in weakness(always, rows)
    blind = small(lambda rows: Verdict("reproduced" if rows[0]["error"] == rows[0]["error"] else "not reproduced", "!"))
    assert "whatever is measured" in weakness(blind, rows)
    upside = small(lambda rows: Verdict("not reproduced" if any(r["error"] > 1 for r in rows) else "reproduced", "?"))
    assert "NaN" in weakness(upside, rows)


def test_results_are_stored_and_read(tmp_path):
    said = []
    verdict = results.run_claim(small(), tmp_path, said.append)
    assert verdict.outcome == "reproduced"
    assert len(said) == 2
    head, seeds, last = results.read_results(tmp_path / "small.jsonl")
    assert (head["slug"], last["verdict"]) == ("small", "reproduced")
    assert results.numbers_of(seeds) == [{"error": 0.0, "limit": math.inf}, {"error": 0.1 * 3, "limit": math.inf}]
    index = write_pages(tmp_path, tmp_path / "docs").read_text()
    page = (tmp_path / "docs" / "small.md").read_text()
    assert "[small](small.md)" in index
    assert "<b>" not in page
    assert "&lt;b>so" in page


def test_an_interrupted_run_goes_on_behind_the_seeds_that_are_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "commit", lambda: "c0ffee")
    asked = []

    def measure(seed):
        asked.append(seed)
        if asked == [0, 3]:
            raise KeyboardInterrupt
        return {"error": 0.1 * seed}

    with pytest.raises(KeyboardInterrupt):
        results.run_claim(small(measure=measure), tmp_path, print)
    results.run_claim(small(measure=measure), tmp_path, print)
    assert asked == [0, 3, 3]
    assert [path.name for path in tmp_path.iterdir()] == ["small.jsonl"]
    assert results.numbers_of(results.read_results(tmp_path / "small.jsonl")[1]) == [{"error": 0.0}, {"error": 0.1 * 3}]


@pytest.mark.parametrize("later", ["another", "c0ffee+changes"])
def test_seeds_of_other_code_are_measured_again(tmp_path, monkeypatch, later):
    asked = []

    def measure(seed):
        asked.append(seed)
        if asked == [0, 3]:
            raise KeyboardInterrupt
        return {"error": 0.1 * seed}

    monkeypatch.setattr(results, "commit", lambda: "c0ffee")
    with pytest.raises(KeyboardInterrupt):
        results.run_claim(small(measure=measure), tmp_path, print)
    monkeypatch.setattr(results, "commit", lambda: later)
    results.run_claim(small(measure=measure), tmp_path, print)
    assert asked == [0, 3, 0, 3]


def test_bad_claims_are_one_sentence(tmp_path):
    with pytest.raises(UnknownNameError, match="unknown claim 'overview'"):
        load_claim("overview")
    with pytest.raises(UnknownNameError, match="unknown verdict 'yes'"):
        Verdict("yes", "because")
    with pytest.raises(AnydiffError, match="has no sentence"):
        Verdict("reproduced", " ")
    for numbers in (None, {}, {"a": "1"}, {"a": True}):
        with pytest.raises(AnydiffError, match="measure\\(\\) of claim 'small'"):
            results.run_claim(small(measure=lambda seed, n=numbers: n), tmp_path, print)
    needs = dataclasses.replace(CLAIM, needs=("anydiff-absent",))
    with pytest.raises(AnydiffError, match="pip install anydiff-absent"):
        results.run_claim(dataclasses.replace(small(), claim=needs), tmp_path, print)
    assert not list(tmp_path.iterdir()), "nothing is stored of a claim that could not be run"
    (tmp_path / "small.begun.jsonl").write_text(json.dumps({"kind": "begun"}) + "\n")
    with pytest.raises(AnydiffError, match="holds no results"):
        write_pages(tmp_path, tmp_path / "docs")
    (tmp_path / "small.jsonl").write_text(json.dumps({"kind": "claim"}) + "\n")
    with pytest.raises(FileFormatError, match="run the claim again"):
        write_pages(tmp_path, tmp_path / "docs")
