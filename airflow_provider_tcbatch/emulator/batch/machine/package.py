"""Application packages: a ``.tgz`` that is unpacked into an instance's folder."""

from __future__ import annotations

import bz2
import gzip
import io
import ipaddress
import lzma
import os
import posixpath
import tarfile
import tempfile
import urllib.request
import zlib
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import urlsplit

MAX_PACKAGE_BYTES = 1024 * 1024 * 1024
MAX_MEMBERS = 200_000


class PackageError(Exception):
    """The package cannot be fetched or must not be unpacked; the text becomes the instance's StateReason."""


def fetch_http(url: str, limit: int = MAX_PACKAGE_BYTES) -> bytes:
    """Download a package from this machine; the emulator talks to no other.

    :raises PackageError: when the host is not a loopback address or the download fails.
    """
    host = urlsplit(url).hostname or ""
    if host != "localhost":
        try:
            local = ipaddress.ip_address(host).is_loopback
        except ValueError:
            local = False
        if not local:
            raise PackageError(f"the emulator fetches packages from this machine only, not from {host}")
    # No proxies and no redirects: both would lead off this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects())
    try:
        with opener.open(url, timeout=30) as answer:
            data: bytes = answer.read(limit + 1)
    except (OSError, ValueError) as error:
        raise PackageError(f"the package cannot be fetched: {error}") from error
    if len(data) > limit:
        raise PackageError(f"the package is larger than {limit} bytes")
    return data


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: object, **kwargs: object) -> None:
        return None


def unpack(data: bytes, folder: Path, limit: int = MAX_PACKAGE_BYTES) -> None:
    """Unpack a tar archive, plain or compressed, below ``folder``.

    :param limit: most bytes that it may unpack to.
    :raises PackageError: when it is no archive, is too large, or when a member is a device or would land outside
        ``folder``. Nothing is written in that case.
    """
    try:
        # Unpacked first and looked at then: a few kilobytes can claim to be any size.
        with _expand(data, folder, limit) as plain, tarfile.open(fileobj=plain, mode="r:") as archive:
            members = _members(archive, limit)
            _check(members)
            for member in members:
                # Ownership and set-id bits of a foreign machine have no meaning here.
                member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
                member.mode = (member.mode & 0o777) | (0o700 if member.isdir() else 0o600)
            if hasattr(tarfile, "data_filter"):
                archive.extractall(folder, members=members, filter="tar")
            else:
                archive.extractall(folder, members=members)
    except (tarfile.TarError, EOFError, OSError, lzma.LZMAError, zlib.error, ValueError) as error:
        raise PackageError(f"the package is not a usable .tgz: {error}") from error


def _expand(data: bytes, folder: Path, limit: int) -> BinaryIO:
    """A nameless file in ``folder`` that holds the archive without its compression."""
    plain = cast(BinaryIO, tempfile.TemporaryFile(dir=folder))  # noqa: SIM115
    try:
        with _reader(data) as source:
            size = 0
            while chunk := source.read(1024 * 1024):
                size += len(chunk)
                # Headers and the filling of blocks come on top of the files.
                if size > 2 * limit + 1024 * 1024:
                    raise PackageError(f"the package unpacks to more than {limit} bytes")
                plain.write(chunk)
        plain.seek(0)
    except BaseException:
        plain.close()
        raise
    return plain


def _reader(data: bytes) -> BinaryIO:
    raw = io.BytesIO(data)
    if data.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=raw))
    if data.startswith(b"BZh"):
        return cast(BinaryIO, bz2.BZ2File(raw))
    if data.startswith(b"\xfd7zXZ\x00"):
        return cast(BinaryIO, lzma.LZMAFile(raw))
    return raw


def _members(archive: tarfile.TarFile, limit: int) -> list[tarfile.TarInfo]:
    members: list[tarfile.TarInfo] = []
    size = 0
    for member in archive:
        # A sparse file's size has nothing to do with that of the archive.
        size += member.size
        if size > limit or len(members) >= MAX_MEMBERS:
            raise PackageError(f"the package unpacks to more than {limit} bytes or {MAX_MEMBERS} files")
        members.append(member)
    return members


def _check(members: list[tarfile.TarInfo]) -> None:
    links: set[str] = set()
    for member in members:
        name = posixpath.normpath(member.name)
        if member.name.startswith("/") or "\0" in member.name or name == ".." or name.startswith("../"):
            raise PackageError(f"the package holds a path outside its folder: {member.name!r}")
        if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
            raise PackageError(f"the package holds a member that is no file, folder or link: {member.name!r}")
        # A path through a link of the same archive could leave the folder after all.
        parent = posixpath.dirname(name)
        while parent:
            if parent in links:
                raise PackageError(f"the package writes through a link: {member.name!r}")
            parent = posixpath.dirname(parent)
        if member.issym() or member.islnk():
            base = posixpath.dirname(name) if member.issym() else ""
            target = posixpath.normpath(posixpath.join(base, member.linkname))
            if member.linkname.startswith("/") or target == ".." or target.startswith("../"):
                raise PackageError(f"the package holds a link out of its folder: {member.name!r}")
            links.add(name)
