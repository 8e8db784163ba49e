"""Starting and stopping an emulator."""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import ipaddress
import json
import logging
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import anyio
import uvicorn
from pydantic import ConfigDict, Field
from typing_extensions import Self

from airflow_provider_tcbatch.emulator.batch.machine.processes import Watchdog
from airflow_provider_tcbatch.emulator.cos.store import import_moto
from airflow_provider_tcbatch.emulator.faults import Fault
from airflow_provider_tcbatch.emulator.host import Host, Identity
from airflow_provider_tcbatch.emulator.http.app import build
from airflow_provider_tcbatch.emulator.http.console import addresses
from airflow_provider_tcbatch.emulator.ids import new_secret_id, new_secret_key
from airflow_provider_tcbatch.emulator.info import EmulatorInfo
from airflow_provider_tcbatch.emulator.persistence.folder import DataFolder
from airflow_provider_tcbatch.emulator.services import Services
from airflow_provider_tcbatch.emulator.settings import Explained, Settings
from airflow_provider_tcbatch.emulator.signing.access import Access, TemporaryKey
from airflow_provider_tcbatch.emulator.tls import Certificate, make_certificate

log = logging.getLogger("tcbatch_emulator")

T = TypeVar("T")


class Launch(Explained):
    """What is fixed for an emulator's whole life. Port 0 means any free one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(0, ge=0, le=65_535)
    cos_port: int = Field(0, ge=0, le=65_535)
    data_dir: Path | None = None
    region: str = Field("ap-guangzhou", pattern=r"^[a-z]{2,}(-[a-z0-9]+)+$")
    topic: str = Field("airflow-batch", pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,58}$")
    bucket: str = Field("airflow-1250000000", pattern=r"^[a-z0-9][a-z0-9-]{0,49}-\d{5,12}$")
    secret_id: str = Field(default_factory=new_secret_id, pattern=r"^AKID[A-Za-z0-9]{4,60}$")
    secret_key: str = Field(default_factory=new_secret_key, pattern=r"^[A-Za-z0-9]{8,64}$", repr=False)
    control_token: str = Field(default_factory=new_secret_key, pattern=r"^[\x21-\x7e]{8,256}$", repr=False)
    tls: bool = False
    token: str | None = Field(None, pattern=r"^[\x21-\x7e]{1,4096}$", repr=False)
    temporary_secret_id: str = Field(default_factory=new_secret_id, pattern=r"^AKID[A-Za-z0-9]{4,60}$")
    temporary_secret_key: str = Field(default_factory=new_secret_key, pattern=r"^[A-Za-z0-9]{8,64}$", repr=False)

    @classmethod
    def unknown(cls, name: str) -> str:
        """What to say of an argument that there is not."""
        if name in Settings.model_fields:
            return f"it is a setting: Emulator(Settings({name}=...)), or configure({name}=...) while it runs"
        if close := difflib.get_close_matches(name, cls.model_fields, n=1):
            return f"there is no such argument, did you mean {close[0]!r}?"
        if close := difflib.get_close_matches(name, Settings.model_fields, n=1):
            return f"there is no such argument, did you mean Emulator(Settings({close[0]}=...))?"
        return f"there is no such argument; there are {', '.join(cls.model_fields)}"

    @property
    def access(self) -> Access:
        """The keys that are accepted."""
        access = Access({self.secret_id: self.secret_key})
        if self.token is not None:
            access.add(TemporaryKey(self.temporary_secret_id, self.temporary_secret_key, self.token))
        return access


#: What a data folder keeps of an emulator's keys, so that connections to it go on working.
_KEPT = ("secret_id", "secret_key", "control_token")


def remembered(launch: Launch) -> Launch:
    """The same with the keys that the data folder was given first; what was named now replaces them.

    :raises OSError: when the folder's file can't be read or written.
    """
    if launch.data_dir is None:
        return launch
    path = launch.data_dir / "identity.json"
    kept: dict[str, str] = {}
    try:
        found = json.loads(path.read_text())
        kept = {name: found[name] for name in _KEPT if isinstance(found.get(name), str)}
    except FileNotFoundError:
        pass
    except (ValueError, AttributeError):
        log.warning("%s can't be read; the keys are made anew", path)
    named = {name: getattr(launch, name) for name in _KEPT if name in launch.model_fields_set}
    launch = launch.model_copy(update={**kept, **named})
    partial = path.with_suffix(".new")
    partial.unlink(missing_ok=True)
    # The keys are nobody else's business, and half a file nobody's.
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({name: getattr(launch, name) for name in _KEPT}, file)
    partial.replace(path)
    return launch


class NotLoopback(ValueError):
    """The emulator was asked to listen on an address that other machines can reach."""


def loopback(host: str) -> str:
    """Check that a host is this machine only.

    :raises NotLoopback: for any other.
    """
    address = "127.0.0.1" if host == "localhost" else host
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        parsed = None
    if not (isinstance(parsed, ipaddress.IPv4Address) and parsed.is_loopback):
        raise NotLoopback(
            f"the emulator runs any command it is sent, so it listens on loopback only (127.0.0.1), not on {host!r}"
        )
    return address


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the emulator decides when it ends."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Service:
    """An emulator on the running event loop.

    :param settings: behaviour.
    :param launch: addresses, names and credentials.
    """

    def __init__(self, settings: Settings, launch: Launch) -> None:
        self._address = loopback(launch.host)
        self._settings = settings
        self._launch = launch
        self._servers: list[tuple[_Server, asyncio.Task[None]]] = []
        self._temporary: Path | None = None
        self._folder: DataFolder | None = None
        self.services: Services
        self.info: EmulatorInfo

    async def start(self) -> EmulatorInfo:
        """Listen; when this returns requests are answered.

        :raises OSError: when a port is taken, or the data folder cannot be made or read, or another emulator uses it.
        """
        launch = self._launch
        api, cos = _listen(self._address, launch.port), _listen(self._address, launch.cos_port)
        try:
            if launch.data_dir is None:
                self._temporary = Path(tempfile.mkdtemp(prefix="tcbatch-emulator-"))
            data_dir = (launch.data_dir or self._temporary or Path()).resolve()
            data_dir.mkdir(parents=True, exist_ok=True)
            if launch.data_dir is not None:
                self._folder = await asyncio.to_thread(DataFolder, data_dir)
            launch = await asyncio.to_thread(remembered, launch)
        except BaseException:
            api.close()
            cos.close()
            if self._folder is not None:
                self._folder.close()
            raise
        identity = Identity(
            region=launch.region,
            zone=f"{launch.region}-3",
            secret_id=launch.secret_id,
            secret_key=launch.secret_key,
            topic=launch.topic,
            bucket=launch.bucket,
            control_token=launch.control_token,
        )
        host = Host(identity, self._settings, data_dir, launch.access)
        self.services = services = Services(host, Watchdog(self._temporary))
        certificate = await asyncio.to_thread(make_certificate, data_dir / "tls", self._address) if launch.tls else None
        host.endpoint = f"{'https' if certificate else 'http'}://{self._address}:{api.getsockname()[1]}"
        host.cos_endpoint = f"http://{self._address}:{cos.getsockname()[1]}"
        urls = addresses(host.endpoint, identity.control_token)
        self.info = EmulatorInfo(
            console=urls.pop("console"),
            console_urls=urls,
            endpoint=host.endpoint,
            cmq_endpoint=host.endpoint,
            cos_endpoint=host.cos_endpoint,
            region=identity.region,
            zone=identity.zone,
            secret_id=identity.secret_id,
            secret_key=identity.secret_key,
            topic=identity.topic,
            bucket=identity.bucket,
            data_dir=str(data_dir),
            pid=os.getpid(),
            control_token=identity.control_token,
            ca_file=str(certificate.ca) if certificate else None,
            token=launch.token,
            temporary_secret_id=launch.temporary_secret_id if launch.token else None,
            temporary_secret_key=launch.temporary_secret_key if launch.token else None,
        )
        if self._folder is not None:
            services.restore(self._folder)
        services.make_topic()
        host.ledger.flush()
        await self._serve(build(services), api, **_tls_options(certificate))
        # Of uvicorn's two HTTP implementations only this one sends the names of headers as they are given.
        await self._serve(services.cos.app(), cos, date_header=False, http="h11")
        # moto takes about a second to import; nobody has to wait for it before the first object is needed.
        threading.Thread(target=_warm, args=(services,), name="cos-warm-up", daemon=True).start()
        return self.info

    async def _serve(self, application: Any, listener: socket.socket, **options: Any) -> None:
        config = uvicorn.Config(
            application,
            log_config=None,
            access_log=False,
            lifespan="off",
            loop="none",
            ws="none",
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
            **options,
        )
        server = _Server(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            # uvicorn announces its start by this attribute alone; it is set within a few turns of the loop.
            if task.done():
                task.result()
            await asyncio.sleep(0)
        if config.ssl_keyfile is not None:
            # It has been read; jobs, which run as the same user, have no business with it.
            os.unlink(config.ssl_keyfile)
        self._servers.append((server, task))

    async def stop(self) -> None:
        """End all instances, close the ports, remove a temporary folder."""
        await self.services.stop()
        for server, _ in self._servers:
            server.should_exit = True
        for _, task in self._servers:
            await task
        self.services.close()
        if self._folder is not None:
            self._folder.close()
        if self._temporary is not None:
            await asyncio.to_thread(shutil.rmtree, self._temporary, ignore_errors=True)


def _listen(host: str, port: int) -> socket.socket:
    # Named explicitly: asyncio turns Nagle's algorithm off only for sockets that say they are TCP, and with it every
    # answer on a kept connection would take 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error
    listener.setblocking(False)
    return listener


def _tls_options(certificate: Certificate | None) -> dict[str, Any]:
    if certificate is None:
        return {}
    return {"ssl_certfile": str(certificate.chain), "ssl_keyfile": str(certificate.key)}


def _warm(services: Services) -> None:
    with contextlib.suppress(Exception):
        services.cos.store.wsgi()


class Emulator:
    """An emulator in a thread of this process, for tests.

    Used as a context manager or with :meth:`start` and :meth:`stop`. Emulators of one process share their buckets.

    :param settings: behaviour; the defaults follow the real service.
    :param launch: addresses, names and credentials, by the names of :class:`Launch`.
    :raises SettingsError: for a name that there is not, or a value that it can't have.
    """

    def __init__(self, settings: Settings | None = None, **launch: Any) -> None:
        self._settings = settings or Settings()
        self._launch = Launch(**launch)
        loopback(self._launch.host)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._service: Service | None = None

    @property
    def info(self) -> EmulatorInfo:
        """Addresses, credentials and names; known once it is started."""
        if self._service is None:
            raise RuntimeError("the emulator is not running")
        return self._service.info

    def start(self) -> EmulatorInfo:
        """Start, and return when requests are answered."""
        if self._thread is not None:
            raise RuntimeError("the emulator is running already")
        # Here and not in a thread: a module that is imported makes loggers, while pytest goes through all of them.
        import_moto()
        ready: Future[Service] = Future()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="tcbatch-emulator", daemon=True)
        self._thread.start()
        try:
            self._service = ready.result()
        except BaseException:
            self._thread.join()
            self._thread = None
            raise
        return self.info

    def _run(self, ready: Future[Service]) -> None:
        asyncio.run(self._main(ready))

    async def _main(self, ready: Future[Service]) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        service = Service(self._settings, self._launch)
        try:
            await service.start()
        except BaseException as error:
            ready.set_exception(error)
            return
        ready.set_result(service)
        await self._ended.wait()
        await service.stop()

    def stop(self) -> None:
        """Stop, with everything that jobs run; without effect when it is not running."""
        if self._thread is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        self._thread = self._loop = self._service = None

    @property
    def services(self) -> Services:
        """The running emulator's state; belongs to its event loop, see :meth:`on_loop`."""
        if self._service is None:
            raise RuntimeError("the emulator is not running")
        return self._service.services

    def configure(self, **changes: Any) -> Settings:
        """Change settings while it runs.

        :raises SettingsError: for a setting that there is not, or a value that it can't have.
        """
        return self.on_loop(lambda services: services.change_settings(changes))

    def reset(self) -> None:
        """Forget all jobs, messages, objects, calls, faults and changed settings."""
        self._on_loop(self.services.reset())

    def on_loop(self, call: Callable[[Services], T]) -> T:
        """Call something in the emulator's own thread, which its state belongs to."""

        async def run() -> T:
            return call(self.services)

        return self._on_loop(run())

    @property
    def faults(self) -> FaultControl:
        """Trouble on demand: ``emulator.faults.add("drop", action="SubmitJob", count=1)``."""
        return FaultControl(self)

    def issue_token(self, seconds: float = 3600.0) -> TemporaryKey:
        """Make a temporary key pair with a token, as STS does.

        :param seconds: how long it is valid.
        """
        return self._on_loop(self._issue_token(seconds))

    async def _issue_token(self, seconds: float) -> TemporaryKey:
        host = self.services.host
        key = TemporaryKey(
            new_secret_id(), new_secret_key(), f"{new_secret_key()}{new_secret_key()}", host.server_time() + seconds
        )
        host.access.add(key)
        return key

    def wait_job(self, job_id: str, timeout: float = 30.0) -> str:
        """Wait for a job to end.

        :return: its state.
        :raises KeyError: when there is no such job.
        :raises TimeoutError: when it takes longer than ``timeout`` seconds.
        """
        return self._on_loop(self._wait_job(job_id, timeout))

    async def _wait_job(self, job_id: str, seconds: float) -> str:
        job = self.services.batch.jobs[job_id]
        try:
            with anyio.fail_after(seconds):
                await job.ended.wait()
        except TimeoutError:
            raise TimeoutError(f"the job {job_id} is still {job.state} after {seconds:g} s") from None
        return job.state

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            work.close()
            raise RuntimeError("the emulator is not running")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class FaultControl:
    """The faults of a running emulator, from any thread.

    :param emulator: the emulator.
    """

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    def add(self, kind: str, **members: Any) -> Fault:
        """Add a fault; :class:`~airflow_provider_tcbatch.emulator.faults.Fault` says what there is.

        :raises FaultError: for an unknown kind or member, or an impossible value.
        """
        return self._emulator.on_loop(lambda services: services.add_fault(kind, **members).model_copy())

    def remove(self, fault: Fault | str) -> bool:
        """Take a fault, or the one of this id, away; False when there is none."""
        fault_id = fault if isinstance(fault, str) else fault.id
        return self._emulator.on_loop(lambda services: services.host.faults.remove(fault_id))

    def clear(self) -> None:
        """Take all faults away."""
        self._emulator.on_loop(lambda services: services.host.faults.clear())

    def all(self) -> list[Fault]:
        """All faults with how often they have struck."""
        return self._emulator.on_loop(lambda services: services.host.faults.all())
