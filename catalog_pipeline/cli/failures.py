"""What the shell sees: exit 0 done, 1 failed, 2 wrong usage, 130 interrupted, 141 reader gone."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from catalog_pipeline.cli.progress import LineProgress
from catalog_pipeline.errors import CatalogPipelineError

FULL = {errno.ENOSPC, errno.EDQUOT}
FAILED = 1
INTERRUPTED = 130
READER_GONE = 141
"""As of a program that SIGPIPE ends, such as ``cat`` in ``cat FILE | head -1``."""


def stop(message: str, code: int = FAILED) -> NoReturn:
    """End the command with ``message`` on stderr and exit status ``code``."""
    typer.echo(message, err=True)
    raise typer.Exit(code)


def _open_streams() -> None:
    """Let every text be printed: whatever the locale, and where a stream was closed, as by cron."""
    # In this order each takes its own number, which no file of a store may get.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextmanager
def _telling_lost_output() -> Iterator[None]:
    """End the command where its output could not be written: quietly when its reader has left."""
    try:
        yield
    except OSError as error:
        innermost = error.__traceback__
        while innermost is not None and innermost.tb_next is not None:
            innermost = innermost.tb_next
        writers = {typer.echo.__code__, LineProgress._say.__code__}
        if innermost is None or innermost.tb_frame.f_code not in writers:
            raise
        if error.errno == errno.EPIPE:
            raise typer.Exit(READER_GONE) from error
        stop(f"error: the output cannot be written: {error.strerror}; what was done is stored")


class ReportingGroup(TyperGroup):
    """Commands whose expected failures end in one line on stderr, never in a traceback.

    Expected are :class:`CatalogPipelineError`, a file or folder that the operating
    system refuses, output that nobody takes, and Ctrl-C. Anything else is a bug and keeps
    its traceback.
    """

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Read the command line, where ``--help`` already prints."""
        _open_streams()
        with _telling_lost_output():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command; see the class for what is turned into an exit status."""
        try:
            with _telling_lost_output():
                return super().invoke(ctx)
        except CatalogPipelineError as error:
            stop(f"error: {error}")
        except KeyboardInterrupt:
            stop(
                "interrupted; whatever was finished is stored, so it is safe to run "
                "the same command again",
                INTERRUPTED,
            )
        except OSError as error:
            if error.errno in FULL:
                stop(
                    f"error: no room left{f' for {error.filename}' if error.filename else ''}: "
                    f"{error.strerror}; free some space (`catalog-pipeline gc --dry-run` shows "
                    "what can go), then run the same command again"
                )
            if error.filename is None:
                raise
            stop(f"error: cannot use {error.filename}: {error.strerror}")
