"""What an entry of the audit log costs, in a folder and on a real S3 server.

Prints lines for docs/governance/audit.md.

    python -m tests.benchmarks.audit_log [--entries 200] [--long 100000]
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from catalog_pipeline.stores.audit_chain import verify_chain
from catalog_pipeline.stores.audit_log import HINT_KEY, AuditEntry, AuditLog, Signature, entry_key
from catalog_pipeline.stores.keys import sha256_hex
from catalog_pipeline.stores.local import LocalObjectStore
from catalog_pipeline.stores.objects import ObjectStore
from catalog_pipeline.stores.s3 import S3ObjectStore
from tests.benchmarks.harness.home import make_parser
from tests.s3_server import running_s3_server

SIGNED = Signature("bench", "11111111-2222-3333-4444-555555555555")
FACTS = {"collection": "default", "from": "0123456789abcdef"}


def main() -> None:
    parser = make_parser("audit_log", __doc__)
    parser.add_argument("--entries", type=int, default=200, help="that are appended and timed")
    parser.add_argument("--long", type=int, default=100_000, help="entries of the long log")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report("folder, empty log", LocalObjectStore(folder / "short"), options.entries)
        long = LocalObjectStore(folder / "long")
        seconds = timed(lambda: lengthen(long.root, options.long))
        print(f"folder: {options.long} entries laid down in {seconds:.0f} s")
        report(f"folder, {options.long} entries", long, options.entries)
        seconds = timed(lambda: verify_chain(long))
        print(f"folder: verify of {options.long} entries {seconds:.1f} s")
        with running_s3_server(folder / "s3") as server:
            os.environ.update(server.environment)
            bucket = S3ObjectStore(server.settings(prefix="audit"))
            report("bucket, empty log", bucket, options.entries)
            report("bucket, after these", bucket, options.entries)


def report(what: str, objects: ObjectStore, entries: int) -> None:
    """Appends by one process, and by one that is new each time and has only the hint, or none."""
    log = AuditLog(objects, SIGNED)
    kept = [timed(lambda: append(log)) for _ in range(entries)]
    fresh = [timed(lambda: append(AuditLog(objects, SIGNED))) for _ in range(max(1, entries // 4))]
    objects.delete(HINT_KEY)
    blind = [timed(lambda: AuditLog(objects, SIGNED).end()) for _ in range(max(1, entries // 20))]
    print(
        f"{what}: the same process {1000 * median(kept):.1f} ms, a new process "
        f"{1000 * median(fresh):.1f} ms, finding the end without a hint "
        f"{1000 * median(blind):.1f} ms"
    )


def append(log: AuditLog) -> None:
    log.append("promote", "00123", version="fedcba9876543210", facts=FACTS)


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def lengthen(root: Path, count: int) -> None:
    """A log of ``count`` entries, written without waiting for the disk."""
    first = AuditLog(LocalObjectStore(root), SIGNED).append("promote", "00123", facts=FACTS)
    previous = first.sha256
    for number in range(2, count + 1):
        values = {**vars(first), "number": number, "previous": previous}
        data = AuditEntry(**values).encode()
        path = root / entry_key(number)
        if number % 1000 == 0:
            path.parent.mkdir()
        path.write_bytes(data)
        previous = sha256_hex(data)


if __name__ == "__main__":
    main()
