"""What the shell sees: exit 0 done, 1 failed, 2 wrong usage, 130 interrupted."""

from __future__ import annotations

import errno
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from catalog_pipeline.errors import CatalogPipelineError

FULL = {errno.ENOSPC, errno.EDQUOT}
FAILED = 1
INTERRUPTED = 130


def stop(message: str, code: int = FAILED) -> NoReturn:
    """End the command with ``message`` on stderr and exit status ``code``."""
    typer.echo(message, err=True)
    raise typer.Exit(code)


class ReportingGroup(TyperGroup):
    """Commands whose expected failures end in one line on stderr, never in a traceback.

    Expected are :class:`CatalogPipelineError`, a file or folder that the operating
    system refuses, and Ctrl-C. Anything else is a bug and keeps its traceback.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command; see the class for what is turned into an exit status."""
        try:
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
