"""``pytest --anydiff NAME``: the conformance kit of a plugin as tests, without a test file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("conformance_of_option.py")


def pytest_addoption(parser: Any) -> None:
    """Add ``--anydiff``."""
    parser.getgroup("anydiff").addoption(
        "--anydiff",
        action="append",
        default=[],
        metavar="NAME",
        help="Run the conformance kit of the anydiff plugin NAME; repeatable. Test files are run only if named.",
    )


def pytest_configure(config: Any) -> None:
    """Collect the kit's own file, and nothing else unless the command line names it."""
    if not config.getoption("--anydiff"):
        return
    if config.args_source is not config.ArgsSource.ARGS:
        config.args = []
    if str(FILE) not in config.args:
        config.args.append(str(FILE))
