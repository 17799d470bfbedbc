"""How a mutant is killed: its check passes before the wrong line is put in, and fails after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


def assert_killed(
    put_in: tuple[Any, str, Any],
    check: Callable[[], Any],
    monkeypatch: pytest.MonkeyPatch,
    by: type[BaseException] | tuple[type[BaseException], ...] = AssertionError,
) -> None:
    """Put ``(owner, attribute, wrong)`` in; ``check`` passes before and fails after with an error of ``by``."""
    check()
    monkeypatch.setattr(*put_in)
    with pytest.raises(by):
        check()
