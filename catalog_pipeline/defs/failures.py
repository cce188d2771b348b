"""An error that the project raises on purpose ends a step as one line, not as a stack."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import dagster as dg

from catalog_pipeline.errors import CatalogPipelineError

Step = TypeVar("Step", bound=Callable[..., Any])
MARK = "__fails_in_one_line__"


def fails_in_one_line(step: Step) -> Step:
    """``step`` with its :class:`CatalogPipelineError` as :class:`dagster.Failure`.

    Stands below the decorator of every asset, check and op. Such an error says what was got,
    what was expected and what to do; the stack it came by helps nobody, and the same settings
    and photos would fail the same way, so Dagster does not retry it.
    """
    if inspect.isgeneratorfunction(step):

        @functools.wraps(step)
        def told(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with _one_line():
                yield from step(*args, **kwargs)
    else:

        @functools.wraps(step)
        def told(*args: Any, **kwargs: Any) -> Any:
            with _one_line():
                return step(*args, **kwargs)

    setattr(told, MARK, True)
    return cast("Step", told)


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except CatalogPipelineError as error:
        raise dg.Failure(
            description=str(error),
            metadata={"kind": type(error).__name__},
            allow_retries=False,
        ) from None
