"""The conformance kit: what a plugin must fulfil, checked. The project's own plugins are held to the same checks.

Three ways to run it: ``anydiff check NAME``; ``check_plugin("name")``, which returns a :class:`Report`; and in pytest,
either ``pytest --anydiff NAME`` or a file of one line::

    from anydiff.testing import conformance
    test_conformance = conformance("name")

A plugin steers the kit with data in its module:

- ``ANYDIFF_EXPECTED_FAILURES = {"solver.order[mine/fast]": "the reason"}``: known failures; one that passes is a
  failure. The entry's name in brackets may be left out, which means every entry.
- ``ANYDIFF_CHECK_OPTIONS = {"mine/unet": {"spec": [1, 8, 8], "channels": 8}}``: options to build an entry with. For a
  network ``spec`` is the shape of a state; for a recipe the keys are changes, such as ``"training.batch_size": 4``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anydiff.exports import on_demand

if TYPE_CHECKING:
    from anydiff.testing.kit import check_plugin as check_plugin
    from anydiff.testing.parametrised import conformance as conformance
    from anydiff.testing.points import Points as Points
    from anydiff.testing.report import Outcome as Outcome
    from anydiff.testing.report import Report as Report

_EXPORTS = {
    "Outcome": "anydiff.testing.report",
    "Points": "anydiff.testing.points",
    "Report": "anydiff.testing.report",
    "check_plugin": "anydiff.testing.kit",
    "conformance": "anydiff.testing.parametrised",
}

__all__ = [*_EXPORTS]

# Lazily, because pytest imports this package in every run for its option --anydiff.
__getattr__ = on_demand(__name__, _EXPORTS)
