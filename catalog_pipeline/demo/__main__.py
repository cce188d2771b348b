"""``python -m catalog_pipeline.demo [--home DIR] [--keep]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import catalog_pipeline.demo
from catalog_pipeline.demo.tour import run_demo
from catalog_pipeline.errors import CatalogPipelineError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the exit status is 0 only if every product was learned and rendered."""
    parser = argparse.ArgumentParser(
        prog="python -m catalog_pipeline.demo", description=catalog_pipeline.demo.__doc__
    )
    parser.add_argument("--home", type=Path, default=Path("demo"), metavar="DIR")
    parser.add_argument(
        "--keep", action="store_true", help="go on in an existing home instead of starting afresh"
    )
    options = parser.parse_args(arguments)
    try:
        run_demo(options.home.resolve(), keep=options.keep)
    except CatalogPipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        print(f"error: cannot use {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; `make demo` starts afresh, `make demo KEEP=1` goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
