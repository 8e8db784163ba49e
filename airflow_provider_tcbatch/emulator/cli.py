"""The command ``tcbatch-emulator``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="tcbatch-emulator", description="Tencent Cloud Batch, CMQ and COS on this machine, for development."
    )
    commands = top.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="run until SIGTERM or Ctrl-C; prints one JSON line when ready")
    serve.add_argument("--host", default="127.0.0.1", help="IPv4 loopback address to listen on")
    serve.add_argument("--port", type=int, default=8095, help="port of the Batch, TDMQ and CMQ APIs; 0: any free one")
    serve.add_argument("--cos-port", type=int, default=8096, help="port of COS; 0: any free one")
    serve.add_argument(
        "--data-dir",
        type=Path,
        help="keeps jobs, queues and keys for the next emulator; default: nothing is kept",
    )
    serve.add_argument("--region", default="ap-guangzhou", help="the region it plays")
    serve.add_argument("--topic", default="airflow-batch", help="CMQ topic that exists from the start")
    serve.add_argument("--bucket", default="airflow-1250000000", help="COS bucket that exists from the start")
    serve.add_argument("--secret-id", help="SecretId to accept (begins with AKID); default: a new one")
    serve.add_argument("--secret-key", help="SecretKey to accept; default: a new one")
    serve.add_argument("--tls", action="store_true", help="https on --port, with a certificate made anew (see ca_file)")
    serve.add_argument("--token", help="also accept a temporary key pair, together with this token")
    serve.add_argument(
        "--set",
        dest="settings",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="a setting, see 'tcbatch-emulator settings'; may be repeated",
    )
    serve.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    commands.add_parser("settings", help="list all settings with their defaults")
    return top


def main(argv: list[str] | None = None) -> int:
    """Entry point; the return value is the exit status."""
    options = parser().parse_args(argv)
    if options.command == "settings":
        _print_settings()
        return 0
    return _serve(options)


def _print_settings() -> None:
    from airflow_provider_tcbatch.emulator.settings import Settings, as_text

    defaults = Settings()
    for name, field in Settings.model_fields.items():
        print(f"{name} = {as_text(getattr(defaults, name))}\n    {field.description}")


def _serve(options: argparse.Namespace) -> int:
    from airflow_provider_tcbatch.emulator.server import Launch, loopback
    from airflow_provider_tcbatch.emulator.settings import Settings

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("tcbatch_emulator").setLevel(options.log_level.upper())
    for noisy in ("werkzeug", "uvicorn", "uvicorn.error"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    names = (
        "host",
        "port",
        "cos_port",
        "data_dir",
        "region",
        "topic",
        "bucket",
        "secret_id",
        "secret_key",
        "tls",
        "token",
    )
    try:
        launch = Launch(**{name: getattr(options, name) for name in names if getattr(options, name) is not None})
        loopback(launch.host)
        settings = Settings.model_validate(_pairs(options.settings))
    except ValueError as error:
        return _fail(str(error))
    try:
        asyncio.run(_run(settings, launch))
    except OSError as error:
        return _fail(error.strerror or str(error))
    return 0


def _pairs(items: list[str]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for item in items:
        name, separator, value = item.partition("=")
        if not separator:
            raise ValueError(f"--set takes NAME=VALUE, not {item!r}")
        result[name.strip().replace("-", "_")] = value.strip()
    return result


def _fail(problem: str) -> int:
    print(f"tcbatch-emulator: {problem}", file=sys.stderr)
    return 2


async def _run(settings: Any, launch: Any) -> None:
    from airflow_provider_tcbatch.emulator.server import Service

    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    # Jobs are records that stay: looking through them for garbage again and again costs a tenth of all the time.
    gc.set_threshold(50_000, 20, 20)
    service = Service(settings, launch)
    info = await service.start()
    scratch = Path(info.data_dir) / "tmp"
    scratch.mkdir(exist_ok=True)
    # moto keeps large objects in temporary files; they belong into the emulator's folder like all else.
    tempfile.tempdir = str(scratch)
    try:
        with contextlib.suppress(BrokenPipeError):
            print(info.model_dump_json(), flush=True)
        await ended.wait()
    finally:
        await service.stop()


if __name__ == "__main__":
    sys.exit(main())
