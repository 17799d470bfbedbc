"""Texts: tokenisers, files, windows of Shakespeare, infilling, and training from the command line to samples."""

from __future__ import annotations

import json
import math

import pytest
import torch
from typer.testing import CliRunner

from anydiff.cli.app import app
from anydiff.errors import AnydiffError
from anydiff.metrics import SampleSet
from anydiff.pipeline import Pipeline, load
from anydiff_text.data import Shakespeare, characters, works
from anydiff_text.domain import Texts
from anydiff_text.metrics import NgramDivergence
from anydiff_text.recipes import CHARACTERS, shakespeare
from anydiff_text.scores import bits_per_character

SMALL = [
    "domain.options.length=24", "dataset.options.size=64", "network.options.width=16", "network.options.blocks=1",
    "training.steps=4", "training.batch_size=8", "training.warmup_steps=0", "training.precision=32-true",
]  # fmt: skip


def run(*words: str) -> tuple[int, str]:
    made = CliRunner().invoke(app, list(words))
    return made.exit_code, made.output + (str(made.exception) if made.exception else "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("text") / "run"
    changes = [word for change in SMALL for word in ("--set", change)]
    code, said = run("train", "text/shakespeare", "--out", str(path), *changes)
    assert code == 0, said
    return path


def test_all_works_are_there_and_known_by_their_characters() -> None:
    assert len(works()) == 42
    assert sum(map(len, works().values())) == 5_057_198
    assert characters() == CHARACTERS
    assert shakespeare().domain.options["vocabulary"] == CHARACTERS


def test_every_character_of_a_split_is_in_a_window_and_the_splits_share_none() -> None:
    for split, wanted in (("train", 4_551_498), ("test", 505_700)):
        data = Shakespeare(split)
        covered = sum(
            min(len(part), start + 256) - max(start, seen)
            for part, start, seen in _stretches(data)
        )  # fmt: skip
        assert covered == wanted


def _stretches(data: Shakespeare):
    from anydiff_text.data import _part

    reached = {}
    for work, start in data._starts:
        part = _part(data.split, work, data.domain)
        yield part, start, reached.get(work, 0)
        reached[work] = min(len(part), start + 256)


def test_a_short_text_ends_with_the_end_class_and_comes_back() -> None:
    domain = Texts(8, vocabulary="abc")
    states = domain.encode(["abba", "cccccccc", ""])
    assert states.dtype == torch.int64
    assert states[0].tolist() == [0, 1, 1, 0, 3, 3, 3, 3]
    assert domain.decode(states) == ["abba", "cccccccc", ""]


def test_bytes_carry_any_text() -> None:
    domain = Texts(16, tokeniser="byte")
    assert domain.decode(domain.encode(["Ünïcode ✓"])) == ["Ünïcode ✓"]


def test_gaps_of_a_known_text_are_unknown() -> None:
    known = Texts(10, vocabulary="abc").parse_known("ab{3}c")
    assert known.mask.tolist() == [True, True, False, False, False, True, False, False, False, False]
    assert known.values[known.mask].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Texts(8, vocabulary="abc").encode(["abd"]), "character 'd' at place 2 of the text 'abd'"),
        (lambda: Texts(2, vocabulary="abc").encode(["abc"]), "text 0 has 3 tokens, but a state has 2 places"),
        (lambda: Texts(2, vocabulary="abc").encode([7]), "text 0 is a int"),
        (lambda: Texts(8), "vocabulary is missing"),
        (lambda: Texts(8, "byte", "abc"), "leave it out"),
        (lambda: Texts(8, vocabulary="aba"), "has 3 characters, 2 of them different"),
        (lambda: Texts(8, "bite"), "did you mean 'byte'"),
        (lambda: Texts(8, vocabulary="abc").decode(torch.full((1, 8), 4)), "holds 4, the mask"),
        (lambda: Texts(8, vocabulary="abc").parse_known("ab{9}c"), "has 12 tokens with its gaps"),
        (lambda: Texts(8, vocabulary="abc").parse_known("{4}"), "holds no token"),
        (lambda: Texts(8, vocabulary="abc").parse_known("xy"), "character 'x'"),
        (lambda: Shakespeare("test", size=10**6), "lower it"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_fix(make, sentence: str) -> None:
    with pytest.raises(AnydiffError, match=sentence):
        make()


def test_files_come_back_and_foreign_ones_are_refused(tmp_path) -> None:
    domain, texts = Texts(8, tokeniser="byte"), ["a\nb", "ü", ""]
    for name in ("a.jsonl", "folder"):
        domain.write(texts, tmp_path / name)
        assert domain.read(tmp_path / name) == texts
    domain.write(["one"], tmp_path / "one.txt")
    assert domain.read(tmp_path / "one.txt") == ["one"]
    with pytest.raises(AnydiffError, match="which holds one"):
        domain.write(texts, tmp_path / "b.txt")
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    (tmp_path / "bad.jsonl").write_text('{"words": 1}\n')
    (tmp_path / "empty").mkdir()
    for name, sentence in (
        ("latin.txt", "save it as UTF-8"), ("bad.jsonl", "no object with a text"), ("empty", "no .txt file"),
        ("x.csv", "no .jsonl file"),
    ):  # fmt: skip
        with pytest.raises(AnydiffError, match=sentence):
            domain.read(tmp_path / name)


def test_training_leaves_a_model_that_samples_texts(folder, tmp_path) -> None:
    code, said = run("sample", str(folder), "--count", "3", "--nfe", "4", "--out", str(tmp_path / "a.jsonl"))
    assert code == 0, said
    lines = (tmp_path / "a.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == 3
    assert all(set(json.loads(line)["text"]) <= set(CHARACTERS) for line in lines)


def test_infilling_keeps_what_is_known(folder, tmp_path) -> None:
    out = tmp_path / "known.jsonl"
    code, said = run(
        "sample", str(folder), "--count", "3", "--nfe", "4", "--known", "To be{6} to be", "--out", str(out)
    )
    assert code == 0, said
    assert "not drawn from their exact law" not in said
    states = load(folder).domain.encode([json.loads(line)["text"] for line in out.read_text("utf-8").splitlines()])
    known = load(folder).domain.parse_known("To be{6} to be")
    for row in states:
        same = row[known.mask] == known.values[known.mask]
        ended = (row == load(folder).domain.tokens.end).nonzero()
        first = int(ended[0]) if len(ended) else 24
        assert bool(same[: int(known.mask[:first].sum())].all())


def test_sample_k_is_the_same_in_every_batch_and_order(folder) -> None:
    pipeline = load(folder)
    assert isinstance(pipeline, Pipeline)
    whole = pipeline.sample_set(7, nfe=5, seed=3).states
    assert whole.dtype == torch.int64
    for size in (1, 3, 64):
        assert torch.equal(whole, pipeline.sample_set(7, nfe=5, seed=3, batch_size=size).states)
    order = [4, 0, 6]
    assert torch.equal(whole[order], pipeline.sample_set(order, nfe=5, seed=3).states)


def test_a_solver_of_real_numbers_is_refused(folder) -> None:
    code, said = run("sample", str(folder), "--count", "1", "--solver", "ddim")
    assert code != 0
    assert "moves real numbers" in said


def test_the_bound_of_an_untrained_model_is_that_of_equal_chances(folder) -> None:
    """The network's last layer starts at zero: log2 85 bits for each of the 24 places, ends included."""
    untrained = Pipeline.untrained(load(folder).recipe)
    total, (each,) = bits_per_character(untrained, ["x" * 24], draws=128)
    assert total == each == pytest.approx(math.log2(85), rel=0.08)
    again = untrained.bound(["x" * 24, "y"], draws=32)
    assert torch.equal(again[:1], untrained.bound(["x" * 24], draws=32))


def test_texts_are_scored_from_the_command_line(folder, tmp_path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "To be, or not to be"}\n{"text": "that"}\n')
    code, said = run("text", "score", str(folder), str(tmp_path / "a.jsonl"), "--draws", "4")
    assert code == 0, said
    assert "bits per character at most over 2 texts (masked cross-entropy, 4 draws)" in said
    (tmp_path / "b.jsonl").write_text('{"text": ""}\n')
    code, said = run("text", "score", str(folder), str(tmp_path / "b.jsonl"), "--draws", "4")
    assert code != 0
    assert "text 0 is empty" in said


def test_a_likelihood_by_an_ode_is_refused_and_the_bound_named(folder) -> None:
    with pytest.raises(AnydiffError, match=r"classes, which no ODE carries; ask for the bound: pipeline\.bound"):
        load(folder).log_likelihood(["To be"])


def test_ngrams_of_the_same_texts_do_not_differ(folder) -> None:
    data = Shakespeare("test", size=8, domain=load(folder).domain)
    states, condition = data.batch(range(8))
    same = SampleSet(states, condition, data.domain)
    assert NgramDivergence().compute(same, same) == 0
    other = SampleSet((states + 40) % 84, condition, data.domain)
    assert NgramDivergence(1).compute(same, other) > 0.5
