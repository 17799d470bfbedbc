"""Options in weights that ask for lists, sizes or states of a billion entries: one sentence, before memory is taken."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from anydiff.errors import FileFormatError
from anydiff.pipeline.load import MOST_ENTRIES, _built_from, _check_states
from anydiff.training.budget import within_weights


@pytest.mark.timing
def test_a_list_beyond_all_values_of_the_file_is_stopped_at_once():
    began = time.perf_counter()
    huge = {"sizes": {"layers": [1, 10**9]}}
    with (
        pytest.raises(FileFormatError, match="asks for a network of far more"),
        within_weights({"a": torch.zeros(3)}, "'x'", huge),
    ):
        [0] * 10**9
    assert time.perf_counter() - began < 0.5


def test_no_option_is_a_number_beyond_all_values_of_the_file():
    huge = {"sizes": {"layers": [1, 10**9]}}
    with (
        pytest.raises(FileFormatError, match="asks for a network of far more"),
        within_weights({"a": torch.zeros(3)}, "'x'", huge),
    ):
        [0] * 10**9
    with within_weights({"a": torch.zeros(3)}, "'x'", {"layers": 3, "periodic": [True], "name": "x"}):
        pass


def test_what_a_library_raises_while_it_builds_is_a_fault_of_the_file():
    with (
        pytest.raises(FileFormatError, match=r"recipe in 'x\.safetensors' asks for a model that cannot be made"),
        _built_from(Path("x.safetensors")),
    ):
        torch.empty(10**30)


@pytest.mark.parametrize(("size", "refused"), [(MOST_ENTRIES, False), (MOST_ENTRIES + 1, True)])
def test_states_that_no_memory_holds_are_refused(size, refused):
    pipeline = SimpleNamespace(domain=SimpleNamespace(spec=SimpleNamespace(size=size)))
    if not refused:
        return _check_states(pipeline, Path("x"))
    with pytest.raises(FileFormatError, match="asks for states of 268,435,457 entries"):
        _check_states(pipeline, Path("x"))
