"""A PostgreSQL server of a test's own: loopback only, never as root, gone with its folder."""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DATABASE = "dagster"
_DEBIAN_FOLDER = Path("/usr/lib/postgresql")
_SERVERS_OWN_USERS = ("postgres", "nobody")


def find_programs() -> Path | None:
    """The folder of ``initdb`` and ``postgres``: Debian's newest, else that on the PATH."""
    debian = [path.parent for path in _DEBIAN_FOLDER.glob("*/bin/initdb")]
    if debian:
        return max(debian, key=lambda folder: float(re.sub(r"[^\d.]", "", folder.parent.name)))
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


@contextmanager
def running_postgres(programs: Path) -> Iterator[str]:
    """A server with an empty database; its URL in the form that Dagster's profile expects."""
    user = _user()
    with tempfile.TemporaryDirectory(prefix="postgres_") as name:
        folder = Path(name)
        password, port = secrets.token_hex(16), _free_port()
        secret = folder / "password"
        secret.write_text(password, encoding="utf-8")
        if user is not None:
            for path in (folder, secret):
                shutil.chown(path, user)
        data = folder / "data"
        options = ["-U", DATABASE, "-A", "scram-sha-256", f"--pwfile={secret}", "--no-sync"]
        subprocess.run(
            [str(programs / "initdb"), "-D", str(data), *options],
            check=True,
            capture_output=True,
            user=user,
            cwd=folder,
        )
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": str(folder),
            "fsync": "off",
        }
        chosen = [part for item in settings.items() for part in ("-c", "=".join(item))]
        server = subprocess.Popen(
            [str(programs / "postgres"), "-D", str(data), *chosen],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=user,
            cwd=folder,
            start_new_session=True,
        )
        try:
            environment = {**os.environ, "PGPASSWORD": password}
            where = ["-h", "127.0.0.1", "-p", str(port), "-U", DATABASE]
            _wait_until_ready(programs, where, server)
            subprocess.run(
                [str(programs / "createdb"), *where, DATABASE], check=True, env=environment
            )
            yield f"postgresql+psycopg2://{DATABASE}:{password}@127.0.0.1:{port}/{DATABASE}"
        finally:
            server.terminate()
            try:
                server.wait(timeout=10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _user() -> str | None:
    """Whom the server runs as; PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in _SERVERS_OWN_USERS if name in known)


def _free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


def _wait_until_ready(programs: Path, where: list[str], server: subprocess.Popen[bytes]) -> None:
    command = [str(programs / "pg_isready"), "-q", "-t", "20", *where]
    for _ in range(200):
        if subprocess.run(command, check=False).returncode == 0:
            return
        if server.poll() is not None:
            break
        try:
            server.wait(timeout=0.1)
        except subprocess.TimeoutExpired:
            continue
    raise RuntimeError(f"PostgreSQL did not start (exit status {server.poll()})")
