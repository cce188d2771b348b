"""Workers of a Ray cluster, which take items one at a time: where learning and rendering may run.

The only module that knows Ray. A worker is an actor with an object of the caller's class in it,
which loads its models once. A worker that dies, or whose node does, is replaced, and its item is
given to the next one: that nothing is lost or made twice is the stores' doing, as after any kill.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from catalog_pipeline.errors import ConfigurationError
from catalog_pipeline.settings import ExecutionSettings, Settings, WorkerSettings
from catalog_pipeline.settings.load import environment
from catalog_pipeline.workflows.progress import ProgressSink

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

_POLL_SECONDS = 1.0
_PATIENCE_SECONDS = 60
_KNOCK_SECONDS = 10.0
_OBJECT_STORE_BYTES = 512 * 1024**2
_MODE, _TOKEN, _TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
_ON_OTHER_MACHINES = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""0 keeps Ray on 127.0.0.1, in place of which it takes this machine's address in its network."""

_log = logging.getLogger(__name__)

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_ItemIn = TypeVar("_ItemIn", contravariant=True)
_ResultOut = TypeVar("_ResultOut", covariant=True)


class Work(Protocol[_ItemIn, _ResultOut]):
    """What a worker does; ``factory(settings)`` makes one in the worker's process."""

    def do(self, item: _ItemIn, progress: ProgressSink) -> _ResultOut:
        """The result of one item; both travel between processes."""
        ...


@dataclass(frozen=True)
class Crew(Generic[_Item, _Result]):
    """Workers of one kind: ``factory`` is a class or a function of a module.

    ``again`` gives what is left of an item whose worker died, ``None`` for nothing; ``lost`` the
    result of an item that has cost ``execution.yaml: attempts`` workers, and why the last died.
    """

    settings: Settings
    size: WorkerSettings
    factory: Callable[[Settings], Work[_Item, _Result]]
    progress: ProgressSink
    again: Callable[[_Item], _Item | None]
    lost: Callable[[_Item, str], _Result]

    def results(self, items: Sequence[_Item]) -> Iterator[_Result]:
        """The result of each item as it is there; items are begun in their order.

        An exception of the work itself ends the crew and is raised here.

        Raises:
            ConfigurationError: Ray is not installed, the cluster cannot be reached, or this
                machine cannot hold a worker.
        """
        with _cluster(self.settings.execution):
            run = _CrewRun(self, deque((item, 1) for item in items))
            try:
                yield from run.results()
            finally:
                run.dismiss()


class _CrewRun(Generic[_Item, _Result]):
    """Items are given to workers that have answered: one that no node has room for waits alone."""

    def __init__(self, crew: Crew[_Item, _Result], waiting: deque[tuple[_Item, int]]) -> None:
        self._crew = crew
        self._waiting = waiting
        self._starting: dict[ObjectRef[Any], ActorHandle[Any]] = {}
        self._idle: list[ActorHandle[Any]] = []
        self._busy: dict[ObjectRef[Any], tuple[ActorHandle[Any], _Item, int]] = {}
        self._idle_since = time.monotonic()
        self._failed_starts = 0

    def results(self) -> Iterator[_Result]:
        import ray

        while self._waiting or self._busy:
            self._hire()
            while self._waiting and self._idle:
                worker, (item, attempt) = self._idle.pop(), self._waiting.popleft()
                self._busy[worker.do.remote(item)] = (worker, item, attempt)
            pending = [*self._busy, *self._starting]
            done, _ = ray.wait(pending, num_returns=1, timeout=_POLL_SECONDS)
            self._listen()
            self._complain()
            for reference in done:
                if reference in self._starting:
                    self._welcome(reference)
                else:
                    yield from self._take(reference)

    def dismiss(self) -> None:
        """End the workers; items in work are given up."""
        import ray

        busy = [worker for worker, _, _ in self._busy.values()]
        for worker in (*self._starting.values(), *self._idle, *busy):
            ray.kill(worker)

    def _hire(self) -> None:
        import ray

        size, execution = self._crew.size, self._crew.settings.execution
        wanted = min(size.at_once, len(self._waiting) + len(self._busy))
        missing = wanted - len(self._starting) - len(self._idle) - len(self._busy)
        if missing <= 0:
            return
        if execution.address is None:
            _check_room(size)
        local = execution.model_copy(update={"engine": "local"})
        settings = self._crew.settings.model_copy(update={"execution": local}).model_dump_json()
        remote: Any = ray.remote(_Worker)
        actor = remote.options(
            num_cpus=size.num_cpus,
            num_gpus=size.num_gpus,
            memory=int(size.memory_gb * 1024**3) or None,
            max_concurrency=2,
        )
        for _ in range(missing):
            worker = actor.remote(settings, self._crew.factory)
            self._starting[worker.news.remote()] = worker

    def _welcome(self, reference: ObjectRef[Any]) -> None:
        import ray
        from ray.exceptions import RayError

        worker = self._starting.pop(reference)
        try:
            ray.get(reference)
        except RayError as error:
            self._failed_starts += 1
            _log.warning("a worker did not start: %s", _one_line(error))
            if self._failed_starts >= self._crew.settings.execution.attempts:
                raise ConfigurationError(
                    f"{self._failed_starts} workers in a row did not start, the last one so: "
                    f"{_one_line(error)}; expected this program and its Python on every node"
                ) from error
        else:
            self._failed_starts = 0
            self._idle.append(worker)

    def _take(self, reference: ObjectRef[Any]) -> Iterator[_Result]:
        import ray
        from ray.exceptions import RayError, RayTaskError

        worker, item, attempt = self._busy.pop(reference)
        try:
            result: _Result = ray.get(reference)
        except RayTaskError as error:
            raise error.cause if isinstance(error.cause, Exception) else error from None
        except RayError as error:
            # It may only have been out of reach, and must not go on beside another.
            ray.kill(worker)
            yield from self._try_again(item, attempt, _one_line(error))
        else:
            self._idle.append(worker)
            yield result

    def _try_again(self, item: _Item, attempt: int, reason: str) -> Iterator[_Result]:
        limit = self._crew.settings.execution.attempts
        _log.warning("a worker was lost at attempt %d of %d: %s", attempt, limit, reason)
        left = self._crew.again(item)
        if left is None:
            return
        if attempt < limit:
            self._waiting.appendleft((left, attempt + 1))
            return
        yield self._crew.lost(
            left,
            f"{attempt} workers were lost at it, the last one so: {reason}; look at their memory "
            "(execution.yaml: memory_gb, at_once) and at the nodes, then run it again",
        )

    def _listen(self) -> None:
        """Pass on what the workers have told since."""
        import ray
        from ray.exceptions import RayError

        asked: list[ObjectRef[Any]] = [w.news.remote() for w, _, _ in self._busy.values()]
        for reference in asked:
            try:
                news: list[Any] = ray.get(reference, timeout=_POLL_SECONDS)
            except RayError:
                continue  # the item of one that is dead tells; one that is slow is asked again
            for kind, arguments in news:
                if kind == "log":
                    _log.log(*arguments)
                else:
                    getattr(self._crew.progress, kind)(*arguments)

    def _complain(self) -> None:
        """Say so where nothing moves because no node has room for a worker."""
        if self._busy or self._idle:
            self._idle_since = time.monotonic()
        elif time.monotonic() - self._idle_since > _PATIENCE_SECONDS:
            self._idle_since = time.monotonic()
            size = self._crew.size
            _log.warning(
                "no node has had room for a worker for %d s; each asks for %g CPU, %g GPU, %g GB",
                *(_PATIENCE_SECONDS, size.num_cpus, size.num_gpus, size.memory_gb),
            )


class _Worker:
    """In its own process: one thread works, another one answers :meth:`news`."""

    def __init__(self, settings: str, factory: Callable[[Settings], Work[Any, Any]]) -> None:
        self._news = _News()
        self._settings, self._factory = settings, factory
        logging.getLogger("catalog_pipeline").addHandler(_Forward(self._news))

    @cached_property
    def _work(self) -> Work[Any, Any]:
        """Made by the first item, so that an error of it is the item's and has a type."""
        return self._factory(Settings.model_validate_json(self._settings))

    def do(self, item: Any) -> Any:
        return self._work.do(item, self._news)

    def news(self) -> list[tuple[str, tuple[Any, ...]]]:
        return self._news.take()


class _News:
    """A progress sink that keeps what it hears until it is asked."""

    def __init__(self) -> None:
        self._heard: deque[tuple[str, tuple[Any, ...]]] = deque()

    def start(self, task: str, total: int, done: int = 0) -> None:
        self._heard.append(("start", (task, total, done)))

    def advance(self, task: str, count: int = 1, note: str = "") -> None:
        self._heard.append(("advance", (task, count, note)))

    def set_total(self, task: str, total: int) -> None:
        self._heard.append(("set_total", (task, total)))

    def finish(self, task: str) -> None:
        self._heard.append(("finish", (task,)))

    def log(self, level: int, text: str) -> None:
        self._heard.append(("log", (level, "%s", text)))

    def take(self) -> list[tuple[str, tuple[Any, ...]]]:
        return [self._heard.popleft() for _ in range(len(self._heard))]


class _Forward(logging.Handler):
    def __init__(self, news: _News) -> None:
        super().__init__(logging.INFO)
        self._heard = news

    def emit(self, record: logging.LogRecord) -> None:
        self._heard.log(record.levelno, record.getMessage())


@contextmanager
def _cluster(settings: ExecutionSettings) -> Iterator[None]:
    """Connected to the cluster of ``settings``, or to one of this process's own on loopback."""
    check_execution(settings)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    own: dict[str, Any] = {
        "address": "local",  # and not what RAY_ADDRESS names, or another cluster of this machine
        "include_dashboard": False,
        "_node_ip_address": "127.0.0.1",
        "object_store_memory": _OBJECT_STORE_BYTES,
    }
    if settings.address is None:
        _shut_others_out()
    import ray
    from ray.exceptions import RayError

    where = {"address": settings.address} if settings.address else own
    try:
        if settings.address:
            _knock(settings.address)
        ray.init(**where, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
    except (OSError, RuntimeError, ValueError, RayError) as error:
        raise ConfigurationError(
            f"no Ray cluster answers at {settings.address or 'this machine'}: {_one_line(error)}; "
            f"expected one of Ray {ray.__version__} and the same token; see execution.yaml"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _shut_others_out() -> None:
    """Have Ray stay on loopback and ask for a token: it reads both once, when it is imported.

    Raises:
        ConfigurationError: Ray was imported before, by other code, with neither or one of them.
    """
    wanted = {_ON_OTHER_MACHINES: "0", _MODE: environment(_MODE) or "token"}
    missing = [f"{name}={value}" for name, value in wanted.items() if environment(name) != value]
    if missing and "ray" in sys.modules:
        raise ConfigurationError(
            f"this process imported Ray without {' and '.join(missing)}, so a cluster of its own "
            "would be open to others; expected Ray to be imported by the run itself: set "
            f"{'both' if len(missing) == 2 else 'it'} before the process starts, or name a "
            "cluster (execution.yaml: address)"
        )
    if environment(_TOKEN) is None and environment(_TOKEN_PATH) is None:
        os.environ[_TOKEN] = secrets.token_hex(32)
    os.environ.update(wanted)


def _knock(address: str) -> None:
    """OSError at once where nobody listens; Ray itself would ask for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()


def check_execution(settings: ExecutionSettings) -> None:
    """Refuse an engine that cannot be used; connects to nothing.

    Raises:
        ConfigurationError: Ray is not installed, or a cluster is named and no token is given.
    """
    if settings.engine == "local":
        return
    if find_spec("ray") is None:
        raise ConfigurationError(
            "execution.yaml: engine is ray, and Ray is not installed; expected the extra: "
            "pip install 'catalog-pipeline[ray]'"
        )
    if settings.address and not any(map(environment, (_TOKEN, _TOKEN_PATH, _MODE))):
        raise ConfigurationError(
            f"execution.yaml: address is {settings.address}, and no token is given; expected "
            f"{_MODE}=token with {_TOKEN} or {_TOKEN_PATH} (or {_MODE}=disabled for a cluster "
            "that lets everyone in)"
        )


def _check_room(size: WorkerSettings) -> None:
    """Refuse a worker that this machine, which is the whole cluster, can never hold."""
    import ray

    cluster: Any = ray
    has = cluster.cluster_resources()
    needs = {"CPU": size.num_cpus, "GPU": size.num_gpus, "memory": size.memory_gb * 1024**3}
    short = [f"{need:g} {name}" for name, need in needs.items() if has.get(name, 0) < need]
    if short:
        raise ConfigurationError(
            f"a worker needs {' and '.join(short)}, more than this machine has; see "
            "execution.yaml: num_cpus, num_gpus, memory_gb, or name a cluster by its address"
        )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
