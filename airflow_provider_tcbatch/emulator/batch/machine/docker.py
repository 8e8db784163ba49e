"""Applications in containers, by the Docker engine that this machine may have."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from airflow_provider_tcbatch.emulator.host import Host

#: What the docker command itself is told by its environment; a job's variables of these names reach the container only.
_OWN = ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "XDG_RUNTIME_DIR")
_PATIENCE = 10.0


class DockerError(Exception):
    """The container cannot be run; the text becomes the instance's StateReason."""


@dataclass
class Container:
    """One attempt's container.

    :param spec: the Docker object of the task.
    :param folder: the attempt's folder.
    :param variables: what the application finds in its environment.
    :param volumes: folders of this machine by their absolute path in the container.
    """

    command: str
    spec: dict[str, Any]
    folder: Path
    variables: dict[str, str]
    volumes: dict[str, Path]
    #: Whether an engine has answered.
    reached: bool = False
    name: str = field(default_factory=lambda: f"tcbatch-{secrets.token_hex(8)}")

    @property
    def env(self) -> dict[str, str]:
        """The environment of the docker command."""
        own = {name: os.environ[name] for name in _OWN if name in os.environ}
        return {**{name: value for name, value in self.variables.items() if name not in _OWN}, **own}

    def launcher(self) -> list[str]:
        """What to put in front of a command.

        :raises DockerError: when DockerRunOption cannot be read.
        """
        work = str(self.folder / "work")
        result = [
            *self._docker(),
            "run",
            "--rm",
            "--name",
            self.name,
            "--network",
            "host",
            "-v",
            f"{work}:{work}",
            "-w",
            work,
        ]
        for path, real in self.volumes.items():
            result += ["-v", f"{real}:{path}"]
        for name, value in self.variables.items():
            result += ["-e", f"{name}={value}" if name in _OWN else name]
        try:
            result += shlex.split(self.spec.get("DockerRunOption") or "")
        except ValueError as error:
            raise DockerError(f"DockerRunOption cannot be read: {error}") from error
        return [*result, self.spec["Image"]]

    def _docker(self) -> list[str]:
        # A folder of its own, so that passwords do not stay in the user's.
        return [self.command, "--config", str(self.folder / "docker")]

    async def prepare(self, host: Host) -> None:
        """Make sure that there is an engine and that it has the image.

        :raises DockerError: saying what is missing.
        """
        status, text = await self._run("version", "--format", "{{.Server.Version}}", patience=_PATIENCE)
        if status != 0:
            raise DockerError(f"no Docker engine answers on this machine: {text}")
        self.reached = True
        image = self.spec["Image"]
        if image.startswith("-"):
            raise DockerError(f"{image!r} is no image")
        if self.spec.get("User") and self.spec.get("Password"):
            server = [self.spec["Server"]] if self.spec.get("Server") else []
            login = ["login", "--username", self.spec["User"], "--password-stdin", *server]
            status, text = await self._run(*login, text=self.spec["Password"])
            if status != 0:
                raise DockerError(f"the registry refuses the user {self.spec['User']!r}: {text}")
        elif (await self._run("image", "inspect", image))[0] == 0:
            return
        tries = 1 + self.spec.get("MaxRetryCount", 0)
        for number in range(tries):
            if number:
                await host.sleep(self.spec.get("DelayOnRetry", 0))
            status, text = await self._run("pull", "--quiet", image)
            if status == 0:
                return
        raise DockerError(f"the image {image!r} cannot be pulled: {text}")

    async def remove(self) -> None:
        """Make sure that nothing is left of the container, nor of passwords."""
        if not self.reached:
            return
        with contextlib.suppress(DockerError):
            await self._run("rm", "--force", self.name, patience=_PATIENCE)
        with contextlib.suppress(OSError):
            (self.folder / "docker" / "config.json").unlink()

    async def _run(self, *arguments: str, text: str = "", patience: float = 600.0) -> tuple[int, str]:
        """Run docker.

        :return: its exit status and the last line it wrote.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                *self._docker(),
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=self.env,
                start_new_session=True,
            )
        except OSError as error:
            raise DockerError(f"there is no command {self.command!r}: {error.strerror}") from error
        try:
            with anyio.fail_after(patience):
                output, _ = await process.communicate(text.encode())
        except TimeoutError:
            raise DockerError("the Docker engine does not answer") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        lines = output.decode(errors="replace").strip().splitlines()
        return process.returncode or 0, lines[-1] if lines else f"exit status {process.returncode}"
