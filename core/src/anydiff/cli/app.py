"""The typer application: global options, lazy sub-commands, and errors as one sentence with an exit code.

Exit codes: 0 done; 1 an unexpected error, or a check that found problems; 2 bad input; 130 interrupted.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
import typer.main

from anydiff.cli.lazy import LazyGroup, keep_examples
from anydiff.cli.output import tell
from anydiff.errors import AnydiffError

UsageError: Any = typer.BadParameter.__mro__[1]  # where typer keeps click's own classes differs between versions
ClickException: Any = UsageError.__mro__[1]

app = typer.Typer(cls=LazyGroup, no_args_is_help=True, add_completion=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        from anydiff import __version__

        typer.echo(f"anydiff {__version__}")
        raise typer.Exit()


def _use_folder(folder: str | None) -> str | None:
    if folder is not None:
        from anydiff.plugins import use_folder

        use_folder(folder)
    return folder


@app.callback()
def anydiff(
    plugins_dir: Annotated[
        str | None,
        typer.Option(
            "--plugins-dir",
            metavar="DIR",
            callback=_use_folder,
            is_eager=True,  # so that `--plugins-dir DIR --help` knows it
            help="Also load the single-file plugins DIR/*.py.",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """One diffusion core, any domain: train, sample, evaluate and compare.

    Examples:
      anydiff recipes
      anydiff sample images/fashion --count 16
      anydiff bench --suite quick
      anydiff COMMAND --help
    """


def run_application(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code. Errors are printed to stderr, in one sentence."""
    from anydiff.plugins.report import report_to

    report_to(tell)
    command = typer.main.get_command(app)
    keep_examples(command)
    try:
        # Not command.main(), which would turn an interrupt into a silent exit.
        with command.make_context("anydiff", list(arguments)) as context:
            command.invoke(context)
        sys.stdout.flush()
    except AnydiffError as error:
        _debug()
        tell(str(error))
        return 2
    except ClickException as error:
        return _explain_usage(error)
    except typer.Exit as error:
        return int(error.exit_code)
    except (typer.Abort, EOFError):
        tell("aborted.")
        return 1
    except KeyboardInterrupt as error:
        for note in getattr(error, "__notes__", ["interrupted."]):
            tell(note)
        return 130
    except BrokenPipeError:  # the reader (head, less) has seen enough; nor is there anything to flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # the last resort of a program: a sentence instead of a traceback
        _debug()
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        tell(f"unexpected error ({reason}){_culprit(error)}; set ANYDIFF_DEBUG=1 to see the traceback.")
        return 1
    return 0


def _culprit(error: Exception) -> str:
    with contextlib.suppress(Exception):  # nothing may hide the first error, which may be that plugins cannot be loaded
        from anydiff.plugins.blame import at_work

        return f" {found}" if (found := at_work(error)) else ""
    return ""


def _debug() -> None:
    if os.environ.get("ANYDIFF_DEBUG", "") not in ("", "0"):
        import traceback

        traceback.print_exc()


def _explain_usage(error: Any) -> int:
    message = error.format_message().strip()
    if not message:  # no command was given: the help has been printed
        return int(error.exit_code)
    context = getattr(error, "ctx", None)
    where = context.command_path if context is not None else "anydiff"
    closing = "" if message.endswith((".", "?", "!")) else "."
    tell(f"{message}{closing} See `{where} --help`.")
    return int(error.exit_code)
