#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""logwatch: is this box well, and what do its logs say? Asked over HTTP, answered by one read-only file.

It reads logs and /proc, and answers GET and HEAD. It never writes outside its own state directory, never connects
out, never runs a shell, and never opens a path that a client sent: clients name logs from a list, nothing else.

    python3 logwatch.py                         serve http://127.0.0.1:5000
    python3 logwatch.py get '/logs/syslog?n=5'  the same answer, without a socket
    python3 logwatch.py --help                  everything else

How to read this file. Each section depends only on those above it:

    limits          every bound, with its unit and its reason
    errors          what can go wrong, with its HTTP status
    shapes          the values that pass between the sections
    configuration   one table of options: flags, environment, INI, help
    catalogue       which logs there are, and opening one safely
    line reader     lines out of a rotation set, forward and backward; cursors
    formats         timestamps, severities and fields of a line
    HTTP            request, response, negotiation, problem documents
    handlers        what each path answers; ROUTES is one screen
    application     the WSGI callable
    server          HTTP/1.1 on a socket, and systemd's protocol
    command line    serve, get, config

For the purpose: shapes, ROUTES, application. For a security review: configuration, catalogue, HTTP, server, the only
places where input becomes a path, an identity or a socket. All else is text in, tuples out.
"""
from __future__ import annotations

import argparse
import base64
import collections
import concurrent.futures
import configparser
import contextlib
import ctypes
import email.utils
import errno
import fnmatch
import functools
import grp
import gzip
import hashlib
import hmac
import html
import http
import itertools
import json
import math
import os
import pwd
import queue
import re
import select
import signal
import socket
import stat
import struct
import sys
import textwrap
import threading
import time
import urllib.parse
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache, partial
from types import TracebackType
from typing import Any, NamedTuple, NoReturn, Self, TypeVar, cast
from zoneinfo import ZoneInfo

__version__ = "0.1.0"
__all__ = ["application", "main"]

# --------------------------------------------------------------------------------------------------------------------
# limits: every bound of the program
# --------------------------------------------------------------------------------------------------------------------
LINES_MAX = 10_000              # lines an answer; a page, not a download: /raw is for that
LINE_BYTES = 65_536             # bytes of a line that are shown; the rest is counted and left out
PAGE_BYTES = 4 << 20            # bytes of lines an answer; with JSON's escapes it still fits the 40 MB of a request
BLOCK_BYTES = 1 << 20           # bytes a read; larger ones gain nothing once the kernel reads ahead
FIRST_BLOCK_BYTES = 1 << 16     # bytes of the first read backward: most answers need no second one
TAIL_BYTES = 64                 # bytes before a place that its cursor fingerprints
HEAD_BYTES = 256                # bytes at the start of a file that its cursors fingerprint
SNIFF_BYTES = 4_096             # bytes looked at to tell text from binary and to find times
SCAN_SECONDS = 10.0             # a scan that takes longer answers with what it has, and a cursor
RACES = 8                       # times a request starts again because logrotate moved files under it
FILES_MAX = 20_000              # directory entries that discovery looks at; a tree beyond that wants --log
FACTS_MAX = 4_096               # files whose format and times are remembered

HEADERS_BYTES = 16_384          # bytes of a request's head; nginx sends less than 8 KiB
HEADERS_MAX = 64                # header lines a request
HEADER_SECONDS = 10.0           # for the whole head, from its first byte: slowloris is cut here, however it dribbles
IDLE_SECONDS = 75.0             # keep-alive; longer than the 30 s of the shipped nginx.conf, so nginx closes first
SEND_SECONDS = 30.0             # for a client to take in what it is sent, each 64 KiB of it
DRAIN_SECONDS = 8.0             # after SIGTERM; below TimeoutStopSec=10 of the shipped unit
LAME_SECONDS = 0.3              # after SIGTERM, for requests that are on their way on kept-alive connections
CONNECTIONS_MAX = 512           # of LimitNOFILE=1024 in the shipped unit, the rest for logs
QUEUE_MAX = 64                  # requests waiting for a worker; the next one is told 503
PIPELINE_MAX = 16               # requests answered from one read before other connections have their turn
PIECE_BYTES = 65_536            # bytes a write; an answer below it goes out in one write with its length
QUERY_MAX = 32                  # parameters a query string
VALUE_MAX = 4_096               # bytes a parameter's value
VERDICT_SECONDS = 1.0           # age at which a health verdict is made again

# --------------------------------------------------------------------------------------------------------------------
# errors: what can go wrong, with its HTTP status
# --------------------------------------------------------------------------------------------------------------------
class Problem(Exception):
    """A request that gets no answer but a reason: an RFC 9457 problem document with HTTP status `status`.

    `detail` names what was wrong and what is allowed; `fix` is the command or the change that mends it; `members` are
    further members of the document, `headers` further header lines.
    """

    def __init__(self, status: int, detail: str, fix: str = "", headers: Sequence[tuple[str, str]] = (),
                 members: Mapping[str, object] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.fix = status, detail, fix
        self.headers, self.members = tuple(headers), dict(members or {})

    def document(self) -> dict[str, object]:
        """The members of the problem document: type, title, status, detail, and fix where there is one."""
        document: dict[str, object] = {"type": "about:blank", "title": http.HTTPStatus(self.status).phrase,
                                       "status": self.status, "detail": self.detail}
        return document | ({"fix": self.fix} if self.fix else {}) | self.members


class ConfigError(Exception):
    """An option, variable or configuration file that cannot be used; the message names it and what is allowed."""


class Unreadable(Exception):
    """A file that may not or cannot be opened: `reason` in plain words, `fix` as a shell command or ''."""

    def __init__(self, reason: str, fix: str = "") -> None:
        super().__init__(reason)
        self.reason, self.fix = reason, fix


def shown(text: str) -> str:
    """Text that a client sent, for a message: quoted, ASCII, no longer than 100 characters."""
    return ascii(text) if len(text) <= 100 else ascii(text[:100]) + "..."


class Moved(Exception):
    """The files of a log changed between listing and reading them; list again."""


# --------------------------------------------------------------------------------------------------------------------
# shapes: the values that pass between the sections
# --------------------------------------------------------------------------------------------------------------------
class Address(NamedTuple):
    """Where to listen: a unix socket's `path`, or `host` and `port`."""

    path: str
    host: str
    port: int

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Config(NamedTuple):
    """The effective configuration: one field for each row of OPTIONS, with underscores for dashes."""

    listen: Address
    log: tuple[tuple[str, str], ...]
    log_root: str
    proc: str
    state_dir: str
    allow_host: tuple[str, ...]
    access_log: bool
    workers: int


class Pattern(NamedTuple):
    """Where the files of one log are: below `root`, in folders `folders`, under names that `stem` matches.

    All but root are fnmatch patterns; a discovered log's are literal, escaped.
    """

    name: str
    root: str
    folders: tuple[str, ...]
    stem: str


class File(NamedTuple):
    """One file of a rotation set, as it was listed: `parts` below the pattern's root, `ino` to notice a swap."""

    parts: tuple[str, ...]
    ino: int
    size: int               # bytes on disk
    mtime_ns: int
    packing: str            # '' plain, else 'gz', or 'xz', 'zst', 'bz2', which are not read
    live: bool              # the name that writers use, not a rotated one


class Log(NamedTuple):
    """A named log: its rotation set, oldest file first. `problem` is set where nothing of it can be listed."""

    name: str
    root: str
    files: tuple[File, ...]
    problem: Unreadable | None = None


NO_PRIOR = (1 << 64) - 1        # a cursor's `prior` where the file before can grow no more


class Cursor(NamedTuple):
    """A place in a log's stream, found again by content: survives rename, gzip and restart, never trusts an inode.

    `offset` counts uncompressed bytes in a file whose first `head_size` bytes have the fingerprint `head`, and whose
    bytes just before the place have the fingerprint `tail`. `mtime_ms` orders it against other files when its own is
    gone. `prior` and `prior_tail` say how far the plain file before it had been read: writers keep on writing to a
    renamed log until they are told to reopen.
    """

    offset: int
    mtime_ms: int
    head_size: int
    head: bytes
    tail: bytes
    prior: int
    prior_tail: bytes


class Line(NamedTuple):
    """One line: `text` without its newline, from `start` to `end` in the uncompressed file.

    `cut` counts the bytes beyond LINE_BYTES that text lacks; `before` holds the bytes before start, and `after` those
    before end where text does not (a cut line): cursors fingerprint them. `partial`: the newline is not written yet.
    """

    start: int
    end: int
    text: bytes
    cut: int
    before: bytes
    after: bytes
    partial: bool


class Scan(NamedTuple):
    """What an answer cost: bytes read (uncompressed), files opened, lines given, and why it stopped.

    stop: 'complete' (all that was asked for), 'limit' (PAGE_BYTES), or 'deadline' (SCAN_SECONDS).
    """

    bytes: int
    files: int
    lines: int
    stop: str
    notes: tuple[str, ...] = ()


class Mark(NamedTuple):
    """A place in a Stream while it is open: `number` of the file, `offset` in it, the bytes before it; and how far
    the file before that one was read, with the bytes before that place."""

    number: int
    offset: int
    tail: bytes
    prior: int = NO_PRIOR
    prior_tail: bytes = b""


Found = tuple[Mark, Line]       # a line, and the place behind it


class Page(NamedTuple):
    """Lines of a log in the order of the stream, with the cursors behind the last and before the first of them.

    `prev` is '' at the beginning of the stream. `cursor` makes the cursor of a line's place, for those who want it.
    """

    log: str
    found: Sequence[Found]
    scan: Scan
    next: str
    prev: str
    cursor: Callable[[Mark], str]


# --------------------------------------------------------------------------------------------------------------------
# configuration: one table of options: flags, environment, INI, help
# --------------------------------------------------------------------------------------------------------------------
CONFIG_FILE = "/etc/logwatch.ini"
NAME_OK = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:+~-]{0,99}")


class Option(NamedTuple):
    """A row of OPTIONS: `parse` turns text into the value or raises ValueError saying what is allowed."""

    name: str
    parse: Callable[[str], Any]
    default: str
    metavar: str
    help: str
    repeat: bool = False


def parse_address(text: str) -> Address:
    """'HOST:PORT', '[IPV6]:PORT' or 'unix:PATH' as an Address."""
    if text.startswith("unix:"):
        if not 0 < len(os.fsencode(text[5:])) <= 107 or not text[5:].startswith("/"):
            raise ValueError("unix: wants an absolute path of at most 107 bytes")    # sun_path, unix(7)
        return Address(text[5:], "", 0)
    host, _, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not host or not (port.isascii() and port.isdigit()) or len(port) > 5 or int(port) > 65_535:
        raise ValueError("HOST:PORT, [IPV6]:PORT or unix:PATH")
    return Address("", host, int(port))


def parse_log(text: str) -> tuple[str, str]:
    """'NAME=GLOB' as a pair; the glob is absolute, without '..'."""
    name, _, glob = text.partition("=")
    if not NAME_OK.fullmatch(name):
        raise ValueError("NAME=GLOB, with a NAME of letters, digits and . _ @ : + ~ -")
    if not glob.startswith("/") or ".." in glob.split("/") or "\0" in glob:
        raise ValueError("NAME=GLOB, with a GLOB that is an absolute path without '..'")
    return name, os.path.normpath(glob)


def parse_label(text: str) -> str:
    """A name of letters, digits and dashes."""
    if not re.fullmatch(r"[A-Za-z0-9-]{1,40}", text):
        raise ValueError("a name of letters, digits and dashes")
    return text


def parse_boolean(text: str) -> bool:
    """yes or no, and nothing else: a typing error must not switch anything off."""
    if text.lower() not in ("yes", "no", "true", "false", "on", "off", "1", "0"):
        raise ValueError("yes or no")
    return text.lower() in ("yes", "true", "on", "1")


def parse_integer(low: int, high: int) -> Callable[[str], int]:
    """A parser of whole decimal numbers from low to high; int() alone would take '+1', '1_0' and a megabyte of digits
    (CVE-2020-10735)."""
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or len(text) > 18 or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)
    return parse


def parse_folder(text: str) -> str:
    """An absolute path."""
    if not text.startswith("/") or "\0" in text:
        raise ValueError("an absolute path")
    return os.path.normpath(text)


def parse_optional_folder(text: str) -> str:
    """An absolute path, or nothing."""
    return parse_folder(text) if text else ""


def parse_host(text: str) -> str:
    """A host name as it stands in a Host header, without the port."""
    if not re.fullmatch(r"[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]", text):
        raise ValueError("a host name without port")
    return text.lower()


OPTIONS = (
    Option("listen", parse_address, "127.0.0.1:5000", "HOST:PORT|unix:PATH", "where to serve"),
    Option("log", parse_log, "", "NAME=GLOB", "serve the files that GLOB matches, and their rotations, as one log "
           "NAME; none given: every text log below log-root", repeat=True),
    Option("log-root", parse_folder, "/var/log", "DIR", "where logs are discovered"),
    Option("proc", parse_folder, "/proc", "DIR", "where the kernel's figures are read"),
    Option("state-dir", parse_optional_folder, "", "DIR", "where disk samples are kept; the only place ever written"),
    Option("allow-host", parse_host, "", "NAME", "a further Host that requests over TCP may name, beside loopback",
           repeat=True),
    Option("access-log", parse_boolean, "yes", "yes|no", "a line on stderr for each request"),
    Option("workers", parse_integer(1, 64), "8", "N", "requests that may read files at the same time"),
)


def environment_name(option: Option) -> str:
    """LOGWATCH_LOG_ROOT for log-root."""
    return "LOGWATCH_" + option.name.replace("-", "_").upper()


def read_ini(path: str) -> dict[str, list[str]]:
    """The [logwatch] section of an INI file: option name -> its lines. Raises ConfigError."""
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#", ";"))
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file, path)
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise ConfigError(f"{path}: {error}") from None
    for section in parser.sections():
        if section != "logwatch":
            raise ConfigError(f"{path}: section [{section}] is unknown; allowed: [logwatch]")
    values = dict(parser["logwatch"]) if parser.has_section("logwatch") else {}
    return {name: value.split("\n") for name, value in values.items()}


def parse_option(option: Option, texts: Sequence[str], source: str) -> object:
    """The value of an option from its texts; `source` says in errors where they stood."""
    texts = [text.strip() for text in texts if text.strip()]
    if len(texts) > 1 and not option.repeat:
        raise ConfigError(f"{source}: given {len(texts)} times; once is allowed")
    values = []
    for text in texts or ([] if option.repeat else [option.default]):
        try:
            values.append(option.parse(text))
        except ValueError as error:
            raise ConfigError(f"{source}: {text!r} is not allowed; allowed: {error}") from None
    return tuple(values) if option.repeat else values[0]


def load_config(flags: Mapping[str, Sequence[str]], environment: Mapping[str, str], path: str = "") -> Config:
    """The effective configuration: flag beats environment beats file beats default. Raises ConfigError."""
    path = path or environment.get("LOGWATCH_CONFIG", "") or (CONFIG_FILE if os.path.exists(CONFIG_FILE) else "")
    ini = read_ini(path) if path else {}
    for name in ini.keys() - {option.name for option in OPTIONS}:
        known = ", ".join(option.name for option in OPTIONS)
        raise ConfigError(f"{path}: {name} is unknown; allowed: {known}")
    values = {}
    for option in OPTIONS:
        variable = environment_name(option)
        found: tuple[tuple[str, Sequence[str] | None], ...] = (
                 (f"--{option.name}", flags.get(option.name)),
                 (variable, environment[variable].split() if variable in environment else None),
                 (f"{path}: {option.name}", ini.get(option.name)),
                 (option.name, []))
        source, texts = next((source, texts) for source, texts in found if texts is not None)
        values[option.name.replace("-", "_")] = parse_option(option, texts, source)
    config = Config(**values)   # type: ignore[arg-type]  # a test holds Config's fields against OPTIONS
    names = [name for name, _ in config.log]
    if len(set(names)) < len(names):
        raise ConfigError(f"log: a name is given twice: {', '.join(sorted(names))}")
    return config


def is_loopback(address: Address) -> bool:
    """Whether only this machine can reach it: a unix socket, localhost, 127.0.0.0/8, ::1."""
    return bool(address.path) or address.host in ("localhost", "::1") or bool(
        re.fullmatch(r"127(\.[0-9]{1,3}){3}", address.host))

# --------------------------------------------------------------------------------------------------------------------
# catalogue: which logs there are, and opening one safely
# --------------------------------------------------------------------------------------------------------------------
# A rotated name: logrotate's numbers (and .old), its dates (-20261122, -2026112214, -20261122-1763800000), the same
# before the extension, and the suffix of the compressor.
ROTATED = re.compile(r"(?P<stem>.+?)(?:\.(?P<number>\d{1,4}|old)|[-.](?P<date>(?:19|20)\d{2}-?\d{2}-?\d{2}(?:[-_.T]?\d+)*))?"
                     r"(?P<packing>\.(?:gz|xz|zst|bz2))?", re.DOTALL)
DATED = re.compile(r"(?P<stem>.+?)[-.](?P<date>(?:19|20)\d{2}-?\d{2}-?\d{2}(?:[-_.T]?\d+)*)(?P<extension>\.log)"
                   r"(?P<packing>\.(?:gz|xz|zst|bz2))?", re.DOTALL)
BINARY_NAME = re.compile(r"(wtmp|btmp|utmp|lastlog|faillog|tallylog)(\.db)?|.*\.(journal~?|db|sqlite3?|tdb|png|state)",
                         re.DOTALL)
OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY   # a FIFO would block without
OPEN_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Rotation(NamedTuple):
    """A file name taken apart: the live name, and what rotation and compression added to it."""

    stem: str
    number: str
    date: str
    packing: str


def parse_rotation(name: str) -> Rotation:
    """'access.log.2.gz' -> ('access.log', '2', '', 'gz'); 'app-20261122.log' -> ('app.log', '', '20261122', '')."""
    if match := DATED.fullmatch(name):
        return Rotation(match["stem"] + match["extension"], "", match["date"], (match["packing"] or "")[1:])
    match = ROTATED.fullmatch(name)
    if not match:
        return Rotation(name, "", "", "")
    return Rotation(match["stem"], match["number"] or "", match["date"] or "", (match["packing"] or "")[1:])


def rotation_order(files: Iterable[File]) -> tuple[File, ...]:
    """The files of a set, oldest first: by number or by date where all rotated ones have it, else by time."""
    listed = [(parse_rotation(file.parts[-1]), file) for file in files]
    rotated = [rotation for rotation, file in listed if not file.live]
    numbered = all(rotation.number.isdigit() for rotation in rotated)
    dated = all(rotation.date for rotation in rotated)

    def key(item: tuple[Rotation, File]) -> tuple[bool, int, str, int, tuple[str, ...]]:
        rotation, file = item
        return (file.live, -int(rotation.number) if numbered and not file.live else 0,
                re.sub(r"\D", "", rotation.date) if dated else "", file.mtime_ns, file.parts)
    return tuple(file for _, file in sorted(listed, key=key))


def user_name(uid: int) -> str:
    """The name of a user, or its number: DynamicUser= and PrivateUsers= leave users without an entry."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """The name of a group, or its number."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def why_denied(path: str) -> Unreadable:
    """Which folder's or file's mode forbids this process to read `path`, and the command that mends it."""
    user = user_name(os.geteuid())
    place = "/"
    for part in path.strip("/").split("/"):
        if not os.access(place, os.X_OK, effective_ids=True):
            break
        place = os.path.join(place, part)
    try:
        found = os.stat(place, follow_symlinks=False)
    except OSError as error:
        return Unreadable(f"{path}: {error.strerror}")
    folder = stat.S_ISDIR(found.st_mode)
    need, what = (0o050, "parent folder") if folder and place != path else (0o040, "file")
    mode, owner, group = stat.S_IMODE(found.st_mode), user_name(found.st_uid), group_name(found.st_gid)
    reason = f"{what} {place} is {mode:04o} {owner}:{group}, and {user} is neither {owner} nor in group {group}"
    shown = f"'{place}'"
    if found.st_uid == os.geteuid():
        return Unreadable(f"{what} {place} is {mode:04o}: its owner {owner} may not read it", f"chmod u+rX {shown}")
    if mode & need == need & 0o070 and found.st_gid:    # gid 0 is root's own group: nobody should join it
        group = f"$(stat -c %G {shown})" if group in ("nogroup", "65534") else group     # PrivateUsers= hides it
        return Unreadable(reason, f"usermod -aG {group} {user}")
    return Unreadable(f"{what} {place} is {mode:04o} {owner}:{group}: only its owner may read it" if not mode & 0o077
                      else reason, f"setfacl -m u:{user}:rX {shown}")


@functools.cache
def kernel_devices() -> frozenset[int]:
    """The devices of /proc and /sys, whose files look regular and are not logs."""
    return frozenset(os.stat(path).st_dev for path in ("/proc", "/sys") if os.path.isdir(path))


def check_regular(found: os.stat_result, parent: os.stat_result) -> None:
    """Raise Unreadable unless `found` is a regular file that belongs where it was found."""
    if not stat.S_ISREG(found.st_mode):
        kind = next((word for test, word in ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a FIFO"),
                     (stat.S_ISSOCK, "a socket"), (stat.S_ISLNK, "a symbolic link")) if test(found.st_mode)), "a device")
        raise Unreadable(f"it is {kind}, not a regular file")
    if found.st_dev in kernel_devices():
        raise Unreadable("it is a file of the kernel, not a log")
    # Whoever may write in a folder may link any file of the file system into it, and have us read it to them.
    if found.st_nlink > 1 and (parent.st_uid not in (0, found.st_uid) or parent.st_mode & 0o022):
        raise Unreadable("it has a second hard link, in a folder where others than its owner may write")


def open_below(root: str, parts: Sequence[str]) -> int:
    """A file descriptor of the regular file `parts` below `root`; no link is followed below root.

    Raises Unreadable, or Moved where it is no longer there. The one door to the file system: O_PATH needs only search permission on the folders on the way.
    """
    path = os.path.join(root, *parts)
    folder = -1
    try:
        folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        for part in parts[:-1]:
            inner = os.open(part, OPEN_FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        found = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
        check_regular(found, os.stat(folder))       # before open(): opening a device can have effects
        fd = os.open(parts[-1], OPEN_FILE, dir_fd=folder)
    except FileNotFoundError:
        raise Moved(path) from None
    except PermissionError:
        raise why_denied(path) from None
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from None
    except Unreadable as error:
        raise Unreadable(f"{path}: {error.reason}", error.fix) from None
    finally:
        if folder >= 0:
            os.close(folder)
    opened = os.fstat(fd)
    if (opened.st_dev, opened.st_ino) != (found.st_dev, found.st_ino):
        os.close(fd)
        raise Moved(path)
    return fd


def pattern_of_glob(name: str, glob: str) -> Pattern:
    """A configured log: its root is the deepest folder of the glob without a wildcard."""
    *folders, stem = glob.strip("/").split("/")
    fixed = next((index for index, part in enumerate(folders) if re.search(r"[*?[]", part)), len(folders))
    return Pattern(name, "/" + "/".join(folders[:fixed]), tuple(folders[fixed:]), stem)


def list_folders(root: str, patterns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The folders below root whose names match, one pattern a level; unreadable ones raise OSError."""
    if not patterns:
        yield ()
        return
    with os.scandir(root) as entries:
        names = sorted(entry.name for entry in entries
                       if fnmatch.fnmatchcase(entry.name, patterns[0]) and entry.is_dir(follow_symlinks=False))
    for name in names:
        for rest in list_folders(os.path.join(root, name), patterns[1:]):
            yield (name, *rest)


def make_file(parts: tuple[str, ...], found: os.stat_result, live: bool) -> File:
    """A File from a directory entry."""
    return File(parts, found.st_ino, found.st_size, found.st_mtime_ns, parse_rotation(parts[-1]).packing, live)


def list_set(pattern: Pattern) -> tuple[File, ...]:
    """The files of a log now, oldest first. A listing that changes while it is read is read again.

    readdir(3) promises nothing about entries that are renamed meanwhile: two listings must agree.
    """
    before: list[File] | None = None
    for _ in range(RACES):
        files: list[File] = []
        for folders in list_folders(pattern.root, pattern.folders):
            with os.scandir(os.path.join(pattern.root, *folders)) as entries:
                files += list_matches(entries, folders, pattern.stem)
        if before is not None and {file[:2] for file in files} == {file[:2] for file in before}:
            break
        before = files
    names = {file.parts for file in files}
    # Beside its plain file a packed one is still being written: logrotate removes the plain one when it is done.
    done = [file for file in files if not file.packing or (*file.parts[:-1], file.parts[-1][:-len(file.packing) - 1])
            not in names]
    return rotation_order(done)


def list_matches(entries: Iterable[os.DirEntry[str]], folders: tuple[str, ...], stem: str) -> Iterator[File]:
    """The entries of one folder that are `stem` or a rotation of it."""
    for entry in entries:
        live = fnmatch.fnmatchcase(entry.name, stem)
        if not live and not fnmatch.fnmatchcase(parse_rotation(entry.name).stem, stem):
            continue
        with contextlib.suppress(FileNotFoundError):    # renamed since it was listed
            yield make_file((*folders, entry.name), entry.stat(follow_symlinks=False),
                            live and not parse_rotation(entry.name).packing)


def log_name(folders: Sequence[str], stem: str) -> str:
    """'nginx-access' for nginx/access.log; what a URL or a list of names could not hold becomes '_'."""
    return re.sub(r"[^A-Za-z0-9._@:+~-]", "_", "-".join((*folders, stem.removesuffix(".log")))).lstrip("._@:+~-") or "log"


class Memory:
    """What was found out about files, kept until they change, for the FACTS_MAX files asked for last."""

    def __init__(self) -> None:
        self._kept: collections.OrderedDict[tuple[object, ...], Any] = collections.OrderedDict()
        self._lock = threading.Lock()

    def recall(self, look: Callable[[str, File], Any], root: str, file: File) -> Any:
        """look(root, file), or what it said when the file was last like this."""
        key = (look, root, file)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        value = look(root, file)
        with self._lock:
            self._kept[key] = value
            while len(self._kept) > FACTS_MAX:
                self._kept.popitem(last=False)
        return value


def is_text(root: str, file: File) -> bool:
    """Whether a file looks like a log. One that begins with NULs may: copytruncate under a writer that does not append
    leaves a hole there; so binary is what has NULs at both ends. What cannot be read is listed, hence True."""
    try:
        fd = open_below(root, file.parts)
    except (Unreadable, Moved):
        return True
    with os.fdopen(fd, "rb") as opened:
        try:
            if file.packing == "gz":
                return b"\0" not in gzip.GzipFile(fileobj=opened).read1(SNIFF_BYTES)
            head = opened.read(SNIFF_BYTES)
            opened.seek(max(0, file.size - SNIFF_BYTES))
            return b"\0" not in head or b"\0" not in opened.read(SNIFF_BYTES)
        except (OSError, EOFError, zlib.error):
            return True


def is_regular(name: str, folder: int) -> bool:
    """Whether a directory entry is a regular file, links not followed."""
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def glob_escape(text: str) -> str:
    """An fnmatch pattern that matches just `text`."""
    return re.sub(r"([*?[])", r"[\1]", text)


def closed_folder(root: str, error: OSError) -> Log:
    """A Log that stands for all that a folder without permission may hold."""
    path = os.fsdecode(error.filename)
    parts = [part for part in os.path.relpath(path, root).split(os.sep) if part != "."]
    return Log(log_name(parts, ""), root, (), why_denied(path))


class Catalogue:
    """The logs there are now. Listings are read at each request, contents only where a file has changed."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.configured = {name: pattern_of_glob(name, glob) for name, glob in config.log}
        self._discovered: dict[str, Pattern] = {}
        self.memory = Memory()

    def logs(self) -> list[Log]:
        """Every log, by name; those that cannot be listed carry the reason."""
        if self.configured:
            return [self._list(pattern) for pattern in self.configured.values()]
        patterns, closed = self._discover()
        self._discovered = patterns
        logs = [log for log in map(self._list, patterns.values()) if log.files and self._is_text(log)]
        return sorted(logs + closed)

    def find(self, name: str) -> Log:
        """One log; only its own folder is listed. Raises Problem 404, or 403 with the reason."""
        pattern = self.configured.get(name) or self._discovered.get(name)
        log = self._list(pattern) if pattern else Log(name, "", ())
        if not log.files and not log.problem:
            log = next((log for log in self.logs() if log.name == name), log)
        if log.problem:
            raise Problem(403, f"log {name}: {log.problem.reason}", log.problem.fix)
        if not log.files and name in self.configured:
            raise Problem(404, f"log {name}: no file matches {dict(self.config.log)[name]!r} now")
        if not log.files:
            raise Problem(404, f"there is no log {name!r}; /logs lists those there are")
        return log

    def _list(self, pattern: Pattern) -> Log:
        try:
            return Log(pattern.name, pattern.root, list_set(pattern))
        except FileNotFoundError:
            return Log(pattern.name, pattern.root, ())
        except PermissionError as error:
            return Log(pattern.name, pattern.root, (), why_denied(os.fsdecode(error.filename or pattern.root)))
        except OSError as error:
            return Log(pattern.name, pattern.root, (), Unreadable(f"{pattern.root}: {error.strerror}"))

    def _discover(self) -> tuple[dict[str, Pattern], list[Log]]:
        """Patterns of the rotation sets below log_root, and a Log with a problem for each closed folder."""
        closed: list[OSError] = []
        stems: set[tuple[str, ...]] = set()
        seen = 0
        root = self.config.log_root
        for folder, folders, names, fd in os.fwalk(root, onerror=closed.append):
            parts = tuple(part for part in os.path.relpath(folder, root).split(os.sep) if part != ".")
            folders[:] = sorted(name for name in folders if (parts, name) != ((), "journal"))
            for name in names:
                seen += 1
                if not BINARY_NAME.fullmatch(parse_rotation(name).stem) and is_regular(name, fd):
                    stems.add((*parts, parse_rotation(name).stem))
            if seen > FILES_MAX:
                break
        patterns: dict[str, Pattern] = {}
        for *folders, stem in sorted(stems):
            name = log_name(folders, stem)
            if name in patterns:
                name += "~" + hashlib.blake2b(os.fsencode("/".join((*folders, stem))), digest_size=3).hexdigest()
            patterns[name] = Pattern(name, root, tuple(map(glob_escape, folders)), glob_escape(stem))
        return patterns, [closed_folder(root, error) for error in closed if isinstance(error, PermissionError)]

    def _is_text(self, log: Log) -> bool:
        newest = next((file for file in reversed(log.files) if file.size), None)
        return newest is None or bool(self.memory.recall(is_text, log.root, newest))

# --------------------------------------------------------------------------------------------------------------------
# line reader: lines out of a rotation set, forward and backward; cursors
# --------------------------------------------------------------------------------------------------------------------
class Budget:
    """What a request may still spend: wall time, as long as its client is there. It counts what was read.

    `stop` says how it ended: 'complete' until the deadline has passed or the client has gone, then 'deadline'.
    """

    def __init__(self, seconds: float = SCAN_SECONDS, gone: Callable[[], bool] = lambda: False) -> None:
        self._deadline = time.monotonic() + seconds
        self._gone = gone
        self.bytes = self.files = 0
        self.stop = "complete"
        self.notes: list[str] = []

    def spend(self, count: int) -> bool:
        """Note `count` bytes as read. False once the scan has to end, and ever after."""
        self.bytes += count
        if time.monotonic() > self._deadline or self._gone():
            self.stop = "deadline"
        return self.stop == "complete"


class Plain:
    """A file opened for reading at any place. `size` is fixed at open: what is appended later is the next request's.

    `head` holds its first HEAD_BYTES, which cursors are recognised by.
    """

    def __init__(self, fd: int, budget: Budget) -> None:
        found = os.fstat(fd)
        self._fd, self._budget = fd, budget
        self.size, self.mtime_ms = found.st_size, found.st_mtime_ns // 1_000_000
        self.head = self.read(0, HEAD_BYTES)

    def read(self, offset: int, count: int) -> bytes:
        """Bytes from offset on, fewer only at the end. Raises Moved where the file has become shorter than it was."""
        count = max(0, min(count, self.size - offset))
        data = os.pread(self._fd, count, offset)
        if len(data) < count:
            raise Moved("truncated while it was read")
        self._budget.spend(count)
        return data

    def before(self, offset: int) -> bytes:
        """The TAIL_BYTES before a place, fewer at the start of the file."""
        return self.read(max(0, offset - TAIL_BYTES), min(offset, TAIL_BYTES))

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class Packed:
    """A gzip file read by uncompressed offset: forward as it comes, backward from its start again.

    A file that ends too early or in garbage is what was readable of it, and the scan's notes say so.
    """

    def __init__(self, fd: int, budget: Budget, name: str) -> None:
        found = os.fstat(fd)
        self._raw, self._budget, self._name = os.fdopen(fd, "rb"), budget, name
        self.size, self.mtime_ms = found.st_size, found.st_mtime_ns // 1_000_000
        self._rewind()
        self.head = self.read(0, HEAD_BYTES)

    def _rewind(self) -> None:
        self._raw.seek(0)
        self._gzip = gzip.GzipFile(fileobj=self._raw)
        self._start, self._data = 0, b""        # what was read last: blocks overlap

    def read(self, offset: int, count: int) -> bytes:
        """Uncompressed bytes from offset on, fewer only at the end, or when the budget is spent."""
        if offset < self._start:
            self._rewind()
        while self._start + len(self._data) <= offset and (piece := self._more(BLOCK_BYTES)):
            self._start += len(self._data)
            self._data = piece
        pieces = [self._data[max(0, offset - self._start):]]
        missing = count - len(pieces[0])
        while missing > 0 and (piece := self._more(missing)):
            pieces.append(piece)
            missing -= len(piece)
        self._start, self._data = max(offset, self._start), b"".join(pieces)
        return self._data[:count]

    def before(self, offset: int) -> bytes:
        """The TAIL_BYTES before a place, fewer at the start of the file or where it does not reach so far."""
        return self.read(max(0, offset - TAIL_BYTES), min(offset, TAIL_BYTES))

    def _more(self, count: int) -> bytes:
        try:
            piece = self._gzip.read1(count)
        except (OSError, EOFError, zlib.error) as error:
            self._budget.notes.append(f"{self._name}: {error}")
            return b""
        return piece if self._budget.spend(len(piece)) else b""

    def close(self) -> None:
        """Close the file."""
        self._raw.close()


Source = Plain | Packed


class Block(NamedTuple):
    """Whole lines from `offset` on, and the bytes `before` them. Of a single line too long for a block, `data` is the
    beginning, `cut` counts the rest, and `after` holds the last bytes of it."""

    offset: int
    data: bytes
    before: bytes
    cut: int = 0
    after: bytes = b""


def forward(source: Source, start: int, budget: Budget, end: int | None = None) -> Iterator[Block]:
    """The lines from `start` to `end`, or to the end of the file, in blocks. Only the last may lack its newline."""
    before = source.before(start)
    size = FIRST_BLOCK_BYTES
    while end is None or start < end:
        data = source.read(start, size if end is None else min(size, end - start))
        if not data or budget.stop != "complete":
            return
        last = len(data) < size or start + len(data) == end
        length = len(data) if last else data.rfind(b"\n") + 1
        if length:
            yield Block(start, data[:length], before)
            before = (before + data[max(0, length - TAIL_BYTES):length])[-TAIL_BYTES:]
        else:
            stop, after = line_end(source, start + len(data), data[-TAIL_BYTES:], budget, end)
            yield Block(start, data[:LINE_BYTES], before, stop - start - LINE_BYTES, after)
            before, length = after, stop - start
        start += length
        size = BLOCK_BYTES


def line_end(source: Source, start: int, before: bytes, budget: Budget, end: int | None) -> tuple[int, bytes]:
    """Where the long line ends that `start` is in the midst of, and the bytes before that place."""
    while budget.stop == "complete":
        data = source.read(start, BLOCK_BYTES if end is None else min(BLOCK_BYTES, end - start))
        length = data.find(b"\n") + 1 or len(data)
        before = (before + data[max(0, length - TAIL_BYTES):length])[-TAIL_BYTES:]
        start += length
        if not length or before.endswith(b"\n"):
            break
    return start, before


def backward(source: Plain, end: int, budget: Budget) -> Iterator[Block]:
    """The lines before `end` in blocks, the last lines first."""
    size = FIRST_BLOCK_BYTES
    while end > 0:
        start = max(0, end - size)
        margin = min(start, TAIL_BYTES)
        data = source.read(start - margin, end - start + margin)
        if budget.stop != "complete":
            return
        # Lines begin behind the first newline; but one at the block's very end belongs to the line that it ends.
        skip = data.find(b"\n", margin, -1) + 1 if start else margin
        if skip or not start:
            yield Block(start - margin + skip, data[skip:], data[max(0, skip - TAIL_BYTES):skip])
            end = start - margin + skip
        else:
            begin = line_start(source, start, budget)
            yield Block(begin, source.read(begin, LINE_BYTES), source.before(begin), end - begin - LINE_BYTES,
                        data[-TAIL_BYTES:])
            end = begin
        size = min(size * 4, BLOCK_BYTES)


def line_start(source: Plain, end: int, budget: Budget) -> int:
    """Where the long line begins that `end` is in the midst of."""
    while end > 0 and budget.stop == "complete":
        start = max(0, end - BLOCK_BYTES)
        found = source.read(start, end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return end


Span = tuple[int, int]                                              # start and end of a line in a block's data
Pick = Callable[[bytes, int, bool], Sequence[Span]]                 # (data, most, from the end) -> lines in order


def every_line(data: bytes, most: int, newest: bool) -> Sequence[Span]:
    """The first, or the last, `most` lines of a block, newline included, in their order."""
    spans: list[Span] = []
    if newest:
        end = len(data)
        while end > 0 and len(spans) < most:
            start = data.rfind(b"\n", 0, end - 1) + 1
            spans.append((start, end))
            end = start
        return spans[::-1]
    start = 0
    while start < len(data) and len(spans) < most:
        end = data.find(b"\n", start) + 1 or len(data)
        spans.append((start, end))
        start = end
    return spans


def lines_of(block: Block, pick: Pick, most: int, newest: bool) -> list[Line]:
    """The first, or the last, `most` of the lines of a block that `pick` takes, in their order."""
    data, offset = block.data, block.offset
    if block.cut:
        ended = block.after.endswith(b"\n")
        line = Line(offset, offset + len(data) + block.cut, data, block.cut - ended, block.before, block.after, not ended)
        return [line] if pick(data, 1, newest) else []
    lines = []
    for start, end in pick(data, most, newest):
        stop = end - (data[end - 1] == 10)
        shown = min(stop, start + LINE_BYTES)
        before = data[start - TAIL_BYTES:start] if start >= TAIL_BYTES else (block.before + data[:start])[-TAIL_BYTES:]
        after = data[end - TAIL_BYTES:end] if shown < stop else b""
        lines.append(Line(offset + start, offset + end, data[start:shown], stop - shown, before, after, stop == end))
    return lines


@functools.cache
def cursor_key() -> bytes:
    """A key that stays over restarts and that clients cannot know: fingerprints of lines must not let a client test
    what it guesses of a masked line. systemd derives application keys from the machine's id in the same way."""
    try:
        with open("/etc/machine-id", "rb") as file:
            return hashlib.blake2b(b"logwatch cursor " + file.read(64), digest_size=32).digest()
    except OSError:
        return b"logwatch cursor"


def fingerprint(data: bytes) -> bytes:
    """Eight keyed bytes that stand for data."""
    return hashlib.blake2b(data, digest_size=8, key=cursor_key()).digest()


CURSOR = struct.Struct(">QQH8s8sQ8s")


def encode_cursor(cursor: Cursor) -> str:
    """A cursor as text for URLs; clients must not look into it."""
    packed = CURSOR.pack(*cursor)
    return base64.urlsafe_b64encode(packed + fingerprint(packed)[:1]).rstrip(b"=").decode()


def parse_cursor(text: str) -> Cursor:
    """The cursor that encode_cursor made text of; ValueError otherwise."""
    size = CURSOR.size + 1
    if not re.fullmatch(r"[A-Za-z0-9_-]{%d}" % -(-size * 4 // 3), text):
        raise ValueError("a cursor as this server gave it: in Link, next, prev or an entry's cursor")
    packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if fingerprint(packed[:-1])[:1] != packed[-1:]:
        raise ValueError("a cursor as this server gave it; this one was made elsewhere or is damaged")
    return Cursor(*CURSOR.unpack(packed[:-1]))


class Stream:
    """A log's rotation set as one stream, oldest file first, as it is at one moment; closed when its `with` ends.

    Raises Unreadable where a file that is needed may not be read, Moved where the set changes meanwhile.
    """

    def __init__(self, log: Log, budget: Budget) -> None:
        self.log, self.budget = log, budget
        self.files = [file for file in log.files if file.packing in ("", "gz") and (file.size or file == log.files[-1])]
        budget.notes += [f"{file.parts[-1]}: {file.packing} is not read" for file in log.files
                         if file.packing not in ("", "gz")]
        self._sources: dict[int, Source] = {}
        self._fingerprints: dict[int, tuple[int, int, bytes]] = {}

    def __enter__(self) -> Self:
        try:
            self._drop_copy_in_the_making()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close every file; cursors can still be made of places in those that were open."""
        for source in self._sources.values():
            source.close()
        self._sources.clear()

    def source(self, index: int) -> Source:
        """The file at index, opened on first use."""
        if index not in self._sources:
            file = self.files[index]
            fd = open_below(self.log.root, file.parts)
            if os.fstat(fd).st_ino != file.ino:
                os.close(fd)
                raise Moved(file.parts[-1])
            source = Packed(fd, self.budget, file.parts[-1]) if file.packing else Plain(fd, self.budget)
            self._sources[index] = source
            self._fingerprints[index] = source.mtime_ms, len(source.head), fingerprint(source.head)
            self.budget.files += 1
        return self._sources[index]

    def _drop_copy_in_the_making(self) -> None:
        """Leave out the newest rotated file while copytruncate writes it: its lines are still in the live one too."""
        if len(self.files) < 2 or any(file.packing for file in self.files[-2:]):
            return
        live = self.source(len(self.files) - 1)
        with contextlib.suppress(Unreadable):
            copy = self.source(len(self.files) - 2)
            ends = ((0, SNIFF_BYTES), (max(0, copy.size - SNIFF_BYTES), SNIFF_BYTES))
            if copy.size <= live.size and all(
                    copy.read(start, count) == live.read(start, min(count, copy.size - start)) for start, count in ends):
                copy.close()
                del self.files[-2]      # and keep the live one open: it may be truncated at any moment
                self._sources = {len(self.files) - 1: live}
                self._fingerprints = {len(self.files) - 1: self._fingerprints[len(self.files)]}

    def active(self) -> int:
        """The index of the file that is being written: the last one that is not empty."""
        return next((index for index in range(len(self.files) - 1, 0, -1) if self.files[index].size), 0)

    def cursor(self, mark: Mark) -> str:
        """The cursor of a place."""
        mtime_ms, head_size, head = self._fingerprints.get(mark.number, (0, 0, fingerprint(b"")))
        return encode_cursor(Cursor(mark.offset, mtime_ms, head_size, head, fingerprint(mark.tail),
                                    mark.prior, fingerprint(mark.prior_tail)))

    def resolve(self, cursor: Cursor) -> Mark:
        """The place that a cursor names. Raises Problem 410 where it is gone."""
        # Some compressors keep only the whole seconds of a file's time.
        newer = [index for index, file in enumerate(self.files)
                 if file.mtime_ns // 1_000_000 + 999 * (file.mtime_ns % 1_000_000_000 == 0) >= cursor.mtime_ms]
        older = [index for index in range(len(self.files) - 1, -1, -1) if index not in newer]
        for index in (*newer, *older):          # the older only if a clock was set back
            if self._has_head(index, cursor) and self._has(index, cursor.offset, cursor.tail):
                mark = Mark(index, cursor.offset, self.source(index).before(cursor.offset))
                return self._with_prior(mark, cursor)
        if not self.files:
            return Mark(0, 0, b"")
        # A rotated file that begins the same but ends earlier is what compression or copytruncate saved of the one that
        # was read: nothing in it is new, and what may be missing lies between it and the next.
        saved = [number for number in newer[:-1] if self._has_head(number, cursor)]
        rest = self.start(saved[-1] + 1) if saved else self.start(newer[0]) if newer else self.end()
        raise Problem(410, f"the place of this cursor in log {self.log.name} is gone: its file was deleted, overwritten or "
                      "truncated", "go on with after= and the cursor in 'oldest', the first place behind the lost one",
                      members={"oldest": self.cursor(rest)})

    def _has_head(self, index: int, cursor: Cursor) -> bool:
        try:
            return fingerprint(self.source(index).head[:cursor.head_size]) == cursor.head
        except Unreadable:
            return False

    def _has(self, index: int, offset: int, tail: bytes) -> bool:
        source = self.source(index)
        if isinstance(source, Plain) and source.size < offset:
            return False
        before = source.before(offset)
        return len(before) == min(offset, TAIL_BYTES) and fingerprint(before) == tail

    def _with_prior(self, mark: Mark, cursor: Cursor) -> Mark:
        with contextlib.suppress(Unreadable):
            if mark.number and cursor.prior != NO_PRIOR and self._has(mark.number - 1, cursor.prior, cursor.prior_tail):
                return mark._replace(prior=cursor.prior, prior_tail=self.source(mark.number - 1).before(cursor.prior))
        return self.with_prior(mark)

    def with_prior(self, mark: Mark) -> Mark:
        """A place, with how far the plain file before it is written: a renamed one grows until its writer reopens."""
        with contextlib.suppress(Unreadable):
            if mark.number and isinstance(prior := self.source(mark.number - 1), Plain):
                return mark._replace(prior=prior.size, prior_tail=prior.before(prior.size))
        return mark

    def start(self, index: int = 0) -> Mark:
        """The place before the first line of a file."""
        self.source(index)
        return self.with_prior(Mark(index, 0, b""))

    def end(self) -> Mark:
        """The place behind the last whole line."""
        index = self.active()
        source = self.source(index)
        mark = Mark(index, 0, b"")
        if isinstance(source, Plain):
            for block in backward(source, source.size, self.budget):
                return self.with_prior(behind(index, block, False))
        for block in forward(source, 0, self.budget):
            mark = behind(index, block, True)
        return self.with_prior(mark)


def behind(index: int, block: Block, final: bool) -> Mark:
    """The place behind the last line of a block, or, unless `final`, behind the last one that has its newline."""
    if block.cut:
        if final or block.after.endswith(b"\n"):
            return Mark(index, block.offset + len(block.data) + block.cut, block.after)
        return Mark(index, block.offset, block.before)
    length = len(block.data) if final else block.data.rfind(b"\n") + 1
    tail = block.data[max(0, length - TAIL_BYTES):length]
    return Mark(index, block.offset + length, (block.before + tail)[-TAIL_BYTES:])


def end_of_line(line: Line) -> bytes:
    """The TAIL_BYTES before the place behind a line."""
    return line.after or (line.before + line.text[-TAIL_BYTES:] + b"\n"[line.partial:])[-TAIL_BYTES:]


class Query(NamedTuple):
    """Which lines: at most `n` of those that `pick` takes, behind the cursor `after` or before the cursor `before`;
    with neither, the newest."""

    n: int = 100
    pick: Pick = every_line
    after: Cursor | None = None
    before: Cursor | None = None


def read_page(stream: Stream, query: Query) -> Page:
    """The lines that a query asks for. Raises Problem 410 where the cursor's place is gone."""
    if not stream.files:
        raise Problem(404, f"log {stream.log.name} has no file that can be read: {'; '.join(stream.budget.notes)}")
    try:
        if query.after:
            start = stream.resolve(query.after)
            found, last = lines_behind(stream, query, start)
            first = start if start.number or start.offset else None
        else:
            place = stream.resolve(query.before) if query.before else None
            found, first, last = lines_before(stream, query, place)
    except Unreadable as error:
        raise Problem(403, f"log {stream.log.name}: {error.reason}", error.fix) from None
    budget = stream.budget
    scan = Scan(budget.bytes, budget.files, len(found), budget.stop, tuple(dict.fromkeys(budget.notes)))
    return Page(stream.log.name, tuple(found), scan, stream.cursor(last), stream.cursor(first) if first else "",
                stream.cursor)


def skip_unreadable(stream: Stream, index: int, found: Sequence[object]) -> Source | None:
    """The file at index; None, with a note in the scan, where it is unreadable but the answer can do without it."""
    try:
        return stream.source(index)
    except Unreadable as error:
        if index == len(stream.files) - 1 and not found:
            raise
        stream.budget.notes.append(error.reason)
        return None


def stretches(stream: Stream, mark: Mark, found: Sequence[object]) -> Iterator[
        tuple[Source, int, bool, Callable[[int, bytes], Mark]]]:
    """What lies behind a place: (file, from where, whether it is final, (offset, bytes before) -> place in it)."""
    if mark.number and mark.prior != NO_PRIOR:
        late = skip_unreadable(stream, mark.number - 1, found)
        if late and (isinstance(late, Packed) or late.size > mark.prior):
            yield late, mark.prior, True, lambda offset, tail: mark._replace(prior=offset, prior_tail=tail)
    active = stream.active()
    for index in range(mark.number, len(stream.files)):
        if source := skip_unreadable(stream, index, found):
            base = stream.with_prior(Mark(index, 0, b""))
            yield (source, mark.offset if index == mark.number else 0, index != active or isinstance(source, Packed),
                   functools.partial(place_in, base))


def place_in(base: Mark, offset: int, tail: bytes) -> Mark:
    """A place in the same file as base."""
    return base._replace(offset=offset, tail=tail)


def lines_behind(stream: Stream, query: Query, mark: Mark) -> tuple[Sequence[Found], Mark]:
    """The first lines behind a place, and the place behind the last of them, or where the scan ended.

    A line without its newline is not given while its file is being written: it is given once, when it is whole.
    """
    found: list[Found] = []
    size = 0
    for source, start, final, place in stretches(stream, mark, found):
        for block in forward(source, start, stream.budget):
            end = behind(0, block, final)
            for line in lines_of(block, query.pick, query.n - len(found), False):
                if line.end > end.offset:
                    break
                size += len(line.text)
                if size > PAGE_BYTES:
                    stream.budget.stop = "limit"
                    return found, mark
                mark = place(line.end, end_of_line(line))
                found.append((mark, line))
            if len(found) == query.n:
                return found, mark
            mark = place(end.offset, end.tail)
        if stream.budget.stop != "complete":
            return found, mark
    return found, stream.with_prior(mark)


Batch = tuple[Sequence[Line], Block, Block]     # lines in their order, and the first and the last block they are from


def batches_before(source: Source, end: int | None, query: Query, budget: Budget) -> Iterator[Batch]:
    """The lines before `end`, or of the file, that may count, last batch first."""
    if isinstance(source, Plain):
        for block in backward(source, source.size if end is None else end, budget):
            yield lines_of(block, query.pick, query.n, True), block, block
        return
    kept: collections.deque[Line] = collections.deque()     # a packed file only reads forward: one pass
    size = 0
    first = last = None
    for block in forward(source, 0, budget, end):
        for line in lines_of(block, query.pick, query.n, True):
            kept.append(line)
            size += len(line.text)
            while len(kept) > query.n or size - len(kept[0].text) > PAGE_BYTES:
                size -= len(kept.popleft().text)
        first, last = first or block, block
    if first and last and budget.stop == "complete":
        yield kept, first, last


def lines_before(stream: Stream, query: Query, place: Mark | None) -> tuple[Sequence[Found], Mark | None, Mark]:
    """The last lines before a place, or of the stream, with the places before the first of them (None at the beginning
    of the stream) and behind the last."""
    found: collections.deque[Found] = collections.deque()
    size = 0
    first = last = place
    for index in range(place.number if place else stream.active(), -1, -1):
        source = skip_unreadable(stream, index, found)
        end = place.offset if place and index == place.number else None
        for lines, head, tail in batches_before(source, end, query, stream.budget) if source else ():
            base = stream.with_prior(Mark(index, 0, b""))
            if not last:
                end_mark = behind(index, tail, index != stream.active() or isinstance(source, Packed))
                last = place_in(base, end_mark.offset, end_mark.tail)
            for line in reversed(lines):
                size += len(line.text)
                if size > PAGE_BYTES:
                    stream.budget.stop = "limit"
                    return found, first, last
                found.appendleft((place_in(base, line.end, end_of_line(line)), line))
                first = Mark(index, line.start, line.before)
                if len(found) == query.n:
                    return found, first if index or line.start else None, last
            first = Mark(index, head.offset, head.before)
        if stream.budget.stop != "complete":
            return found, first, last or stream.end()
    return found, None, last or stream.end()

# --------------------------------------------------------------------------------------------------------------------
# formats: timestamps, severities and fields of a line
# --------------------------------------------------------------------------------------------------------------------
STAMP_REACH = 32768      # bytes of a line searched for its stamp: a Basic user name (8 KiB, escaped) may precede it
LEVEL_REACH = 512        # bytes searched for a level behind the stamp
CACHED_SECONDS = 8192    # converted stamps kept, about 2 MiB: neighbouring lines share their second
YEARS_BACK = 9           # years tried for a stamp without one: 29 February can be 8 years away (2096 to 2104)
WHEN_LENGTH = 64         # characters of a since= or until=
EARLIEST_NUMBER = 1e8    # seconds (1973): a smaller number is a duration or an uptime, not a time
LATEST = 253402300800.0  # seconds: the year 10000, where datetime ends
DAY = 86400              # seconds
T = TypeVar("T")


def _first(values: Iterable[T | None]) -> T | None:
    return next((value for value in values if value is not None), None)


LEVELS = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")  # RFC 5424 severities 0..7
_NAMES = {name: number for number, name in enumerate(LEVELS)} | {
    "emergency": 0, "panic": 0, "critical": 2, "fatal": 2, "error": 3, "warn": 4, "information": 6, "trace": 7}
_PRINTED = _NAMES | {
    "severe": 3, "note": 5, "log": 6, "deprecated": 6, "verbose": 7, "fine": 7, "finer": 7, "finest": 7}
_PINO = {10: 7, 20: 7, 30: 6, 40: 4, 50: 3, 60: 2}         # bunyan and pino: trace, debug, info, warn, error, fatal
_SIGNS = {b"#": 4, b"*": 5, b"-": 6, b".": 7}              # redis: warning, notice, verbose, debug
_STATUSES = {b"5": 3, b"4": 4, b"3": 6, b"2": 6, b"1": 6}  # HTTP, by the first digit
_WORD = "|".join(_PRINTED).encode() + rb"|(?:debug|trace)[1-8]"
_CAPITALS = _WORD.upper()
# What may stand between a stamp and its level: [thread], numbers, dotted.name, user@db, key=value, "- name -",
# "PHP Fatal". Few tokens, each bounded and read in few ways, so that no line takes long.
_LEAD = (rb"(?:-+|\[[^\]]{0,80}\]:?|[\d.,:/TZ+-]{1,40}|[^\s.@\[]{0,60}[.@]\S{0,60}|\w{1,20}=\S{1,60}|- [\w-]{1,60} -"
         rb"|PHP(?: [A-Z]\w{1,20})?)[ \t]{1,20}")
_LEVEL = re.compile(
    rb"[\s\]:|,;\"'-]{0,12}(?:%b){0,4}?(?:[a-z][\w()<>/-]{0,32}: )?"  # the last: BIND's category, dovecot's service
    rb"(?:[\w.]{0,40}[\[<(](?:[\w.-]{0,40}:)?((?i:%b))[\]>)]"         # [Warning], <info>, util.py[DEBUG], [core:error]
    rb"|level=\"?((?i:%b))\b"                                         # logfmt
    rb"|(%b)(?=[\s:|\]]|$)"                                           # ERROR text; in small letters it may be prose
    rb"|(?!(?i:log|note|fine):)((?i:%b))(?=[:\t]))" % (_LEAD, _WORD, _WORD, _CAPITALS, _WORD))  # error: text


def parse_level(text: str) -> int:
    """'warning', 'warn' or '4' -> 4, the syslog severity; ValueError names what is allowed."""
    word = text.strip().lower()
    if word not in _NAMES and not re.fullmatch("[0-7]", word):
        raise ValueError(f"a level is one of {', '.join(LEVELS)}, or 0 to 7")
    return _NAMES[word] if word in _NAMES else int(word)


def _word_level(word: bytes) -> int | None:
    """b'WARN' -> 4; b'trace8' (Apache) and b'DEBUG1' (PostgreSQL) -> 7; None for any other word."""
    return _PRINTED.get(word.decode("ascii", "replace").rstrip("12345678").lower())


# -- stamps: each pattern is anchored, with three groups: date and time, fraction, zone (in ctime's order: the year)

_CLOCK = rb"\d\d:\d\d:\d\d"
_FRACTION = rb"(?:[.,](\d{1,9})\d{0,20})?"
_OFFSET = rb"Z|[+-]\d\d(?::?\d\d)?"
# A word is a zone only where it cannot be a message: an abbreviation in use, PostgreSQL's "WIB [1]", PHP's "Asia/Aden]"
_ZONE = (rb"((?:%b)(?![\d:])| ?(?:UTC|GMT|Z)\b| [+-](?:\d\d:?\d\d\b|\d\d(?= \[))"
         rb"| (?:[CEW]ES?T|[ECMP][SD]T|A[CEW][SD]T|NZ[SD]T|BST|IST|JST|KST|MSK)(?=[\s\],])"
         rb"| (?!(?:%b)\b)[A-Z]{3,5}(?= \[\d)| [A-Z][A-Za-z]+/[A-Za-z_/+-]{1,40}\d{0,2}(?=\]))?") % (_OFFSET, _CAPITALS)
_REST = _FRACTION + _ZONE + rb"(?=[\s\]\",:;|)]|$)"
# Access logs: the [..] before the first bare quote, which a user name cannot hold, so that no client forges a time.
_ACCESS = re.compile(rb"(?s)[^\[\"\\]*(?:(?:\\.|\[)[^\[\"\\]*)*?"
                     rb"\[(\d\d/[A-Z][a-z]{2}/\d{4}:%b)()( [+-]\d{4})\] \"" % _CLOCK)
_NGINX = re.compile(rb"(\d{4}/\d\d/\d\d %b)()()(?= \[[a-z]{3,8}\] \d{1,10}#)" % _CLOCK)
_CTIME = re.compile(rb"\[?[A-Z][a-z]{2} ([A-Z][a-z]{2} [ \d]\d %b)%b( \d{4})(?=[\s\]:]|$)" % (_CLOCK, _FRACTION))
_APACHE = re.compile(_CTIME.pattern + rb"\](?= \[)")
_RFC3164 = re.compile(rb"(?:<\d{1,3}>)?([A-Z][a-z]{2} [ \d]\d %b)%b()(?=[ :])" % (_CLOCK, _FRACTION))
_RFC3339 = re.compile(rb"(\d{4}-\d\d-\d\dT%b)%b(%b)(?=\s|$)" % (_CLOCK, _FRACTION, _OFFSET))
_RFC5424 = re.compile(rb"<\d{1,3}>\d{1,2} " + _RFC3339.pattern)
_ISO = re.compile(rb"(?:\[|(?:time|ts|t)=\"?|(?:Start|End)-Date: |Log (?:started|ended): |update-alternatives )?"
                  rb"(\d{4}[-/]\d\d[-/]\d\d[ T] ?%b)%b" % (_CLOCK, _REST))
_DAY_FIRST = rb"(\d\d[ /-][A-Z][a-z]{2}[ /-]\d{4}[ :]%b)%b" % (_CLOCK, _REST)
_REDIS = re.compile(rb"\d{1,10}:[A-Z] " + _DAY_FIRST)
_DMY = re.compile(rb"(?:[A-Z][a-z]{2}, |[A-Za-z] \[|\[)?" + _DAY_FIRST)
_NUMBER = re.compile(rb"(?:type=\S{1,40} msg=audit\()?(\d{10}(?:\d{3}){0,3})(?:[.,](\d{1,9}))?()(?=[\s\]\",:;|)]|$)")
_NO_STAMP = re.compile(rb"(?!\[ *\d+\.\d)")  # dmesg: seconds since boot are no wall time, and it prints no priorities
_TOKEN = re.compile(rb"[A-Za-z]{3}|\d+")
_MONTHS = {key: n for n, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)
           for key in (name, b"%02d" % n)}  # strptime's %b would follow the locale


def _zoned(naive: datetime, zone: str) -> float | None:
    """Epoch seconds of a local time in `zone`: Z, UTC, GMT, +01, +0100, +01:00, Europe/Berlin; '' is the server's own
    (of the fold the first), CET too if the server calls it so then; None elsewhere: better no time than a wrong one.
    ValueError, OverflowError, OSError: beyond the calendar. KeyError: no such zone file."""
    if not zone:
        return naive.timestamp()
    if zone in ("Z", "UTC", "GMT"):
        return naive.replace(tzinfo=UTC).timestamp()
    if "/" in zone:
        return naive.replace(tzinfo=ZoneInfo(zone)).timestamp()
    if zone[0] not in "+-":  # CET and CEST tell the two passes of the fold apart
        passes = (naive.replace(fold=fold).astimezone() for fold in (0, 1))
        return _first(here.timestamp() if here.tzname() == zone else None for here in passes)
    digits = zone[1:].replace(":", "").ljust(4, "0")
    offset = timezone(timedelta(hours=int(digits[:2]), minutes=int(digits[2:])) * (-1 if zone[0] == "-" else 1))
    return naive.replace(tzinfo=offset).timestamp()


@lru_cache(maxsize=CACHED_SECONDS)
def _second(order: str, head: bytes, zone: bytes, latest: float) -> float | None:
    """('YmdHMS', b'2026-11-22 14:05:01', b'+0100', 0) -> 1795352701.0; None for a date or a zone that does not exist.
    Without a year (RFC 3164): in the last year that puts it at or before `latest`."""
    if "Y" not in order:
        years = range(time.localtime(latest).tm_year, 0, -1)[:YEARS_BACK]
        seconds = (_second("Y" + order, b"%d %b" % (year, head), zone, 0) for year in years)
        return _first(second if second is not None and second <= latest else None for second in seconds)
    part = dict(zip(order, _TOKEN.findall(head + zone), strict=False))
    name = "" if order.endswith("Y") else zone.decode("ascii", "replace").strip()
    try:
        clock = int(part["H"]), int(part["M"]), int(part["S"])
        return _zoned(datetime(int(part["Y"]), _MONTHS[part["m"]], int(part["d"]), *clock), name)
    except (KeyError, ValueError, OverflowError, OSError):
        return None


def _stamp_time(stamp: re.Pattern[bytes], order: str, line: bytes, reference: float) -> float | None:
    found = stamp.match(line, 0, STAMP_REACH)
    if found is None:
        return None
    head, fraction, zone = found.groups(b"")
    second = _second(order, head, zone, 0 if "Y" in order else reference + DAY)  # a day, as senders' clocks differ
    return second + float(b"." + fraction) if fraction and second is not None else second


def _from_number(value: float) -> float | None:
    """Epoch seconds, from seconds, ms, us or ns: each has its own range, 1973 to 5138. None outside of them."""
    units = (1, 1e3, 1e6, 1e9)
    return _first(value / u if EARLIEST_NUMBER * u <= value < EARLIEST_NUMBER * u * 1e3 else None for u in units)


def _number_time(line: bytes, reference: float) -> float | None:
    found = _NUMBER.match(line)
    return _from_number(float(found[1] + b"." + (found[2] or b"0"))) if found else None


_PRI = re.compile(rb"<(\d{1,3})>")
_TAG = re.compile(rb" (?!(?i:%b)\b)(?P<hostname>\w(?:[\w.:-]{0,254}\w)?) (?!(?i:%b)\b)(?P<ident>[^\s:\[\]]{1,128})"
                  rb"(?:\[(?P<pid>\d{1,10})\])?: ?" % (_WORD, _WORD))
_HEADER = re.compile(rb" (?:-|(?P<hostname>\S{1,255})) (?:-|(?P<ident>\S{1,48})) (?:(?P<pid>\d{1,10})|\S{1,128}) ")
_SIGN = re.compile(_REDIS.pattern + rb" ([.*#-]) ")
_QUOTED = rb"[^\"\\]*(?:\\.[^\"\\]*)*"  # unrolled, so linear: Apache escapes with a backslash, nginx with \x22
_STATUS = re.compile(_ACCESS.pattern + _QUOTED + rb"\" (\d)\d\d\b")
_COMBINED = re.compile(
    rb"(?:(?P<server_name>[^\s\":]+)(?::\d{1,5})? (?=\S+ - (?!\[)))?(?P<remote_addr>[^\s\"]+) \S+ "
    rb"(?P<remote_user>%b) \[[^\]]{26}\] \"(?P<request>%b)\" (?P<status>\d{3}) (?:(?P<body_bytes_sent>\d{1,18})|-)"
    rb"(?: \"(?P<http_referer>%b)\" \"(?P<http_user_agent>%b)\"(?: \"(?P<http_x_forwarded_for>%b)\")?)?"
    rb"(?: (?:rt=|request_time=)?\"?(?P<request_time>\d{1,9}\.\d{1,6})\"?(?=\s|$))?" % ((_QUOTED,) * 5), re.DOTALL)
_REQUEST = re.compile(r"(?s)(?P<request_method>[A-Z-]{1,32}) (?P<request_uri>.*) (?P<server_protocol>HTTP/\d(?:\.\d)?)")
_CASTS = {"status": int, "body_bytes_sent": int, "request_time": float, "pid": int}
_text = partial(str, encoding="utf-8", errors="replace")


def _sign_level(pattern: re.Pattern[bytes], levels: dict[bytes, int], line: bytes) -> int | None:
    found = pattern.match(line)
    return levels.get(found[4]) if found else None


def _stamp_level(stamp: re.Pattern[bytes], line: bytes) -> int | None:
    """The severity of syslog's <PRI>; else the level word in its usual place behind the stamp or `host ident[pid]:`."""
    head, priority = stamp.match(line, 0, STAMP_REACH), _PRI.match(line)
    if head is None or priority:
        return int(priority[1]) & 7 if head and priority else None
    start = (_TAG.match(line, head.end()) or head).end()
    found = _LEVEL.match(line, start, start + LEVEL_REACH)
    return _word_level(found[found.lastindex or 0]) if found else None


def _named(found: re.Match[bytes] | None) -> dict[str, object]:
    groups = found.groupdict().items() if found else ()
    return {name: _CASTS.get(name, _text)(value) for name, value in groups if value is not None}


def _access_fields(line: bytes) -> dict[str, object]:
    """Under nginx's variable names, '-' as printed; a vhost prefix is server_name; Apache's '-' for no bytes is 0."""
    fields = _named(_COMBINED.match(line))
    request = _REQUEST.fullmatch(str(fields.get("request")))
    return {"body_bytes_sent": 0} | fields | (request.groupdict() if request else {}) if fields else {}


def _tag_fields(stamp: re.Pattern[bytes], tag: re.Pattern[bytes] | None, line: bytes) -> dict[str, object]:
    """hostname, ident and pid, as far as the line has them; {} without a `tag`."""
    head = stamp.match(line) if tag else None
    return _named(tag.match(line, head.end())) if tag and head else {}


_TIME_KEYS = ("time", "timestamp", "@timestamp", "ts", "datetime", "time_iso8601", "time_local", "__REALTIME_TIMESTAMP")
_LEVEL_KEYS = ("level", "severity", "levelname", "log.level", "level_name", "PRIORITY")
_JSON = json.JSONDecoder(  # NaN and 1e999 stay text: JSON has no word for them on the way out
    parse_float=lambda text: float(text) if math.isfinite(float(text)) else text, parse_constant=str)


def _json_fields(line: bytes) -> dict[str, object]:
    """The object's own top-level members; {} for anything else."""
    try:
        value = _JSON.decode(_text(line)) if line.startswith(b"{") else {}
    except (ValueError, RecursionError):  # not JSON, digits beyond CPython's limit (CVE-2020-10735); [[[[...
        return {}
    return value if isinstance(value, dict) else {}


def _member_time(value: object) -> float | None:
    if not isinstance(value, str):
        return _from_number(value) if isinstance(value, int | float) else None
    text = value[:WHEN_LENGTH].encode("ascii", "replace")
    return _first((_stamp_time(_ISO, "YmdHMS", text, 0), _number_time(text, 0), _stamp_time(_DMY, "dmYHMS", text, 0)))


def _json_time(line: bytes, reference: float) -> float | None:
    """The first member, in the line's own order, that is named as a time and is one."""
    return _first(_member_time(value) for key, value in _json_fields(line).items() if key in _TIME_KEYS)


def _member_level(value: object) -> int | None:
    """'warn', 4, '4', bunyan's 40, and pino's own levels between, rounded down -> 4."""
    word = str(value)[:16] if isinstance(value, str | int) else ""
    if not re.fullmatch("[0-9]{1,2}", word):
        return _word_level(word.encode("ascii", "replace"))
    return int(word) if int(word) <= 7 else _PINO.get(int(word) // 10 * 10)


def _json_level(line: bytes) -> int | None:
    fields = _json_fields(line)
    return _first(_member_level(fields.get(key)) for key in _LEVEL_KEYS)



class Format(NamedTuple):
    """How one kind of line is read. No function raises, whatever the bytes; a line may end in its newline or not."""
    name: str
    time: Callable[[bytes, float], float | None]  # (line, reference for stamps without a year) -> epoch s, else None
    level: Callable[[bytes], int | None]          # syslog severity 0..7; None: the line does not say
    fields: Callable[[bytes], dict[str, object]]  # {} where the format has none


def _stamped(name: str, stamp: re.Pattern[bytes], order: str, tag: re.Pattern[bytes] | None = None) -> Format:
    fields = partial(_tag_fields, stamp, tag)
    return Format(name, partial(_stamp_time, stamp, order), partial(_stamp_level, stamp), fields)


FORMATS = (  # most specific first
    Format("access", partial(_stamp_time, _ACCESS, "dmYHMS"), partial(_sign_level, _STATUS, _STATUSES), _access_fields),
    _stamped("nginx-error", _NGINX, "YmdHMS"),
    _stamped("apache-error", _APACHE, "mdHMSY"),
    _stamped("rfc5424", _RFC5424, "YmdHMS", _HEADER),
    _stamped("rfc3164", _RFC3164, "mdHMS", _TAG),
    _stamped("rfc3339", _RFC3339, "YmdHMS", _TAG),  # rsyslog since Debian 12, and all else that begins so
    Format("json", _json_time, _json_level, _json_fields),
    _stamped("redis", _REDIS, "dmYHMS")._replace(level=partial(_sign_level, _SIGN, _SIGNS)),
    _stamped("iso8601", _ISO, "YmdHMS"),            # Python, PostgreSQL, MySQL, dpkg, apt, Go, log4j, logfmt...
    _stamped("day-first", _DMY, "dmYHMS"),          # Tomcat, PHP, BIND, CUPS, RFC 2822
    _stamped("ctime", _CTIME, "mdHMSY"),            # vsftpd, FreeRADIUS, dmesg -T
    _stamped("epoch", _NUMBER, "")._replace(time=_number_time),  # squid, auditd
)
TEXT = _stamped("text", _NO_STAMP, "")._replace(time=lambda line, reference: None)


def detect(lines: Sequence[bytes]) -> Format:
    """The first that stamps over half of the lines that any format stamps, else that which stamps most, else TEXT."""
    stamped = [[form.time(line, DAY) is not None for line in lines] for form in FORMATS]
    counts, heads = [sum(column) for column in stamped], sum(map(any, zip(*stamped, strict=True)))
    best = next((n for n, count in enumerate(counts) if 2 * count > heads), counts.index(max(counts)))
    return FORMATS[best] if counts[best] else TEXT


# -- since= and until=

_UNITS = {  # seconds, under the names of systemd.time(7): m is a minute, M a month
    "us": 1e-6, "usec": 1e-6, "ms": 1e-3, "msec": 1e-3, "s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60,
    "h": 3600, "hr": 3600, "hour": 3600, "d": DAY, "day": DAY, "w": 7 * DAY, "week": 7 * DAY,
    "M": 2629800, "month": 2629800, "y": 31557600, "year": 31557600}
_DAYS = {"yesterday": -1, "today": 0, "tomorrow": 1}
_AT = re.compile(r"@([0-9]{1,12}(?:\.[0-9]{1,9})?)")
_SPAN = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?([A-Za-z]{1,7}) ?")
_RELATIVE = re.compile(rf"([+-])(?:{_SPAN.pattern})+|(?:{_SPAN.pattern})+? ?ago")
_DATE_TIME = re.compile(
    r"(?:([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[Tt ](?=.)|$))?(?:([0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?)(?:[.,]([0-9]{1,9}))?"
    r" ?(Z|z|[+-][0-9]{2}(?::?[0-9]{2})?|(?<= )[0-9]{2}:[0-9]{2}|[A-Z]{3,5})?)?")  # no Europe/Berlin: it names a file
_WHEN_HELP = ("a time is 2026-11-22T14:05:01+01:00 (in a URL + is %2B), '2026-11-22 14:05', 2026-11-22, 14:05, "
              "@1795352701, -15m, -1h30m, '2 days ago', +5m, now, today, yesterday or tomorrow")


def _date_time(found: re.Match[str], today: datetime) -> float | None:
    date, clock, fraction, zone = found.groups("")
    day = datetime.fromisoformat(date) if date else today
    if not clock:
        return day.timestamp() if date else None
    hour, minute, second = map(int, f"{clock}:0".split(":")[:3])
    zone = "+" + zone if zone[:1].isdigit() else zone.replace("z", "Z")  # a + that a URL has turned into a space
    moment = _zoned(day.replace(hour=hour, minute=minute, second=second), zone)
    return moment + float(f".{fraction or 0}") if moment is not None else None


def _moment(text: str, now: float) -> float | None:
    at, relative, date_time = _AT.fullmatch(text), _RELATIVE.fullmatch(text), _DATE_TIME.fullmatch(text)
    today = datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0)
    if text in _DAYS:
        return (today + timedelta(days=_DAYS[text])).timestamp()
    if relative:  # as in systemd, '15m' alone has no direction, '-15m ago' would have two
        spans = (float(n) * _UNITS[u if u in _UNITS else u.removesuffix("s")] for n, u in _SPAN.findall(text))
        return now + sum(spans) * (1 if relative[1] == "+" else -1)
    if at:
        return float(at[1])
    return _date_time(date_time, today) if date_time else None


def parse_when(text: str, now: float) -> float:
    """A since= or until= -> epoch seconds; as RFC 3339 or journalctl spell it (systemd.time(7)); `now`: epoch seconds.
    A time without a zone is the server's. ValueError says what is allowed."""
    text = text.strip()
    try:
        moment = now if text == "now" else _moment(text, now) if len(text) <= WHEN_LENGTH else None
    except (KeyError, ValueError, OverflowError, OSError) as error:  # unit or zone, date, range
        raise ValueError(_WHEN_HELP) from error
    if moment is None or not 0 <= moment < LATEST:
        raise ValueError(_WHEN_HELP)
    return moment

# --------------------------------------------------------------------------------------------------------------------
# host: what the kernel says of this box
# --------------------------------------------------------------------------------------------------------------------
Fact = TypeVar('Fact')

# ---------------------------------------------------------------- host: what the kernel says about this box

READ_CHUNK = 1 << 17          # bytes a read: most files of /proc in one call
STATVFS_DEADLINE = 0.5        # s for all mounts together: kubelet gives a probe 1 s
STATVFS_PATIENCE = 0.1        # s of silence after which a mount counts as stuck
STUCK_MAX = 8                 # threads that dead mounts may hold; node_exporter #578 lost 830
STUCK = 'does not answer'
USER_HZ = os.sysconf('SC_CLK_TCK')
PAGE_SIZE = os.sysconf('SC_PAGE_SIZE')

# node_exporter 1.12's own exclusions, so that the same mounts are served under the same names
SKIP_POINT = re.compile(r'/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)')
SKIP_TYPE = re.compile(
    r'(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs|overlay|procfs|'
    r'proc|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|sysfs|tracefs)$')
MAY_HANG = re.compile(r'nfs|cifs|smb|fuse|9p|ceph|afs|gluster|lustre|virtiofs|ocfs|gfs|davfs')      # asked last
OCTAL = re.compile(rb'\\([0-7]{3})')
VMSTAT_LINE = re.compile(rb'^(oom_kill|pgpg\S*|pswp\S*|pg\S*fault\S*) (\d+)$', re.MULTILINE)
MEMINFO_LINE = re.compile(rb'^([^:\n]+):\s*(\d+)( kB)?', re.MULTILINE)


class Hidden(Exception):
    """A fact that this process cannot know; str() is the reason in plain words. Unknown is never 0."""


class Mount(NamedTuple):
    """One line of mountinfo, see proc_pid_mountinfo(5). `device` is major:minor; paths are decoded."""
    id: int
    parent: int
    device: str
    root: str
    point: str
    options: frozenset[str]
    fstype: str
    source: str
    super_options: frozenset[str]


class Mounts(NamedTuple):
    """The host's mounts by this process's eyes. `exact` is False where only its own, sandboxed table could be read."""
    source: str
    exact: bool
    seen: tuple[Mount, ...]
    hidden: tuple[Mount, ...]


class Stat(NamedTuple):
    """/proc/stat: jiffies in the order user nice system idle iowait irq softirq steal guest guest_nice; other numbers."""
    total: tuple[int, ...]
    cpus: dict[str, tuple[int, ...]]
    numbers: dict[str, int]


class Usage(NamedTuple):
    """statvfs(2) of a mount, in bytes and inodes. `avail` is what users other than root can still write."""
    size: int
    free: int
    avail: int
    files: int
    files_free: int

    @property
    def used_percent(self) -> float:
        """df's rule: used / (used + avail), so that reserved blocks count neither as used nor as free."""
        used = self.size - self.free
        return 100 * used / (used + self.avail) if used + self.avail else 0.0


Answer = Usage | str          # or the reason why there is none
Pressure = dict[str, dict[str, float]]


def parse_meminfo(data: bytes) -> dict[str, int]:
    """/proc/meminfo → {'MemTotal': bytes, 'Active(anon)': bytes, 'HugePages_Total': pages}."""
    return {name.decode(): int(number) << 10 if unit else int(number) for name, number, unit in MEMINFO_LINE.findall(data)}


def parse_stat(data: bytes) -> Stat:
    """/proc/stat. `intr` and `softirq` keep their first number, the sum."""
    cpus: dict[str, tuple[int, ...]] = {}
    numbers: dict[str, int] = {}
    for line in data.decode().splitlines():
        name, _, rest = line.partition(' ')
        if name.startswith('cpu'):
            cpus[name[3:]] = tuple(map(int, rest.split()))
        elif rest:
            numbers[name] = int(rest.partition(' ')[0])
    return Stat(cpus.pop('', ()), cpus, numbers)


def parse_table(data: bytes) -> list[list[str]]:
    """Lines of fields divided by blanks."""
    return [line.split() for line in data.decode(errors='replace').splitlines()]


def parse_pressure(data: bytes) -> Pressure:
    """/proc/pressure/* → {'some': {'avg10': percent, 'avg60': …, 'avg300': …, 'total': µs}, 'full': …}."""
    return {row[0]: {key: float(value) for key, value in (pair.split('=') for pair in row[1:])} for row in parse_table(data)}


def parse_pairs(data: bytes) -> dict[str, dict[str, int]]:
    """/proc/net/snmp and netstat: a line of names, then a line of values → {'Tcp': {'InSegs': 5}}."""
    lines = parse_table(data)
    return {names[0][:-1]: dict(zip(names[1:], map(int, values[1:]))) for names, values in zip(lines[::2], lines[1::2])}


def parse_vmstat(data: bytes) -> dict[str, int]:
    """The lines of /proc/vmstat that node_exporter keeps."""
    return {name.decode(): int(value) for name, value in VMSTAT_LINE.findall(data)}


def parse_net_dev(data: bytes) -> dict[str, list[int]]:
    """/proc/net/dev → device: 8 received and 8 transmitted counters. The colon may touch the first number."""
    rows = (line.rpartition(':') for line in data.decode().splitlines()[2:])
    return {name.strip(): list(map(int, numbers.split())) for name, _, numbers in rows}


def unescape(raw: bytes) -> str:
    """A path of mountinfo: the kernel writes blank, tab, newline, # and backslash as three octal digits."""
    return os.fsdecode(OCTAL.sub(lambda match: bytes([int(match[1], 8) & 255]), raw) if b'\\' in raw else raw)


def parse_mountinfo(data: bytes) -> list[Mount]:
    """proc_pid_mountinfo(5). The number of optional fields varies: ' - ' alone divides the two halves."""
    mounts = []
    for line in data.splitlines():
        left, _, right = line.partition(b' - ')
        head, tail = left.split(b' '), right.split(b' ')
        if len(head) >= 6 and len(tail) >= 3:
            mounts.append(Mount(int(head[0]), int(head[1]), head[2].decode(), unescape(head[3]), unescape(head[4]),
                                frozenset(head[5].decode().split(',')), tail[0].decode(), unescape(tail[1]),
                                frozenset(os.fsdecode(tail[2]).split(','))))
    return mounts


def parents(path: str) -> Iterator[str]:
    """'/a/b' → '/a', '/'."""
    while path != '/':
        path = os.path.dirname(path)
        yield path


def topmost(mounts: Sequence[Mount]) -> list[Mount]:
    """Without mounts that another one covers, on the same point or on a folder above: their path leads elsewhere."""
    by_id = {mount.id: mount for mount in mounts}
    covers = {(mount.parent, mount.point) for mount in mounts if mount.parent != mount.id}

    def reachable(mount: Mount) -> bool:
        step: Mount | None = None if (mount.id, mount.point) in covers else mount
        while step is not None and not any((step.parent, path) in covers for path in parents(step.point)):
            if step.parent not in by_id or step.parent == step.id:
                return True
            step = by_id[step.parent]
        return False

    return [mount for mount in mounts if reachable(mount)]


def compare_mounts(source: str, host: bytes, own: bytes) -> Mounts:
    """Divide the host's mounts into those that their path shows here too, and those that the sandbox hides.

    ProtectHome puts a tmpfs over /home, and statvfs would answer for that (node_exporter #1505): major:minor must agree.
    """
    listed = topmost(parse_mountinfo(host))
    mine = {mount.point: mount.device for mount in (listed if host == own else topmost(parse_mountinfo(own)))}
    kept = [mount for mount in listed if not SKIP_POINT.match(mount.point)
            and (not SKIP_TYPE.match(mount.fstype) or (mount.fstype, mount.point) == ('overlay', '/'))]
    seen = tuple(mount for mount in kept if mine.get(mount.point) == mount.device)
    return Mounts(source, '/self/' not in source, seen, tuple(mount for mount in kept if mount not in seen))


class Prober:
    """statvfs(2) on many mounts, where a dead one holds up neither the caller nor the end of the process.

    A daemon thread asks (the executors of concurrent.futures are joined at exit and would hang there). A mount that keeps
    silent costs that one thread and is not asked again until the call has come back (node_exporter #244, #578).
    """

    def __init__(self, statvfs: Callable[[str], os.statvfs_result] = os.statvfs) -> None:
        self.statvfs = statvfs
        self.stuck: dict[str, float] = {}     # mount point → time.monotonic() since when its call has not returned
        self._jobs: queue.SimpleQueue[tuple[Sequence[str], dict[str, Answer], threading.Lock]] = queue.SimpleQueue()
        self._worker: threading.Thread | None = None
        self._asking = threading.Lock()       # one round at a time, else one waits behind the other's dead mount
        self._lock = threading.Lock()         # guards `stuck` and the answers

    def ask(self, points: Sequence[str]) -> dict[str, Answer]:
        """Each point's usage, or the reason why there is none, within STATVFS_DEADLINE."""
        with self._asking:
            answers: dict[str, Answer] = {point: STUCK for point in points if point in self.stuck}
            waiting = [point for point in points if point not in answers]
            deadline = time.monotonic() + STATVFS_DEADLINE
            while waiting and time.monotonic() < deadline and len(self.stuck) < STUCK_MAX:
                answers |= self._round(waiting, deadline)
                waiting = [point for point in waiting if point not in answers]
            return answers | dict.fromkeys(waiting, 'not asked, since other mounts do not answer')

    def _round(self, points: Sequence[str], deadline: float) -> dict[str, Answer]:
        """Ask in order; at a silent point give up on it and its thread, and return what is known by then."""
        if self._worker is None or not self._worker.is_alive():      # not alive: this process was forked
            self._worker = threading.Thread(target=self._work, daemon=True, name='statvfs')
            self._worker.start()
        answers: dict[str, Answer] = {}
        done, known = threading.Lock(), 0
        done.acquire()
        self._jobs.put((points, answers, done))
        while not done.acquire(timeout=min(STATVFS_PATIENCE, max(0.0, deadline - time.monotonic()))):
            with self._lock:
                if len(answers) < len(points) and (len(answers) == known or time.monotonic() >= deadline):
                    silent = points[len(answers)]
                    self.stuck[silent], self._worker = time.monotonic(), None
                    return answers | {silent: STUCK}
                known = len(answers)
        return answers

    def _work(self) -> None:
        while True:
            points, answers, done = self._jobs.get()
            for point in points:
                answer = self._usage(point)
                with self._lock:
                    if self.stuck.pop(point, None) is not None:      # nobody waits for this thread any more
                        return
                    answers[point] = answer
            done.release()

    def _usage(self, point: str) -> Answer:
        try:
            stat = self.statvfs(point)
        except OSError as error:
            return error.strerror or type(error).__name__
        unit = stat.f_frsize
        return Usage(stat.f_blocks * unit, stat.f_bfree * unit, stat.f_bavail * unit, stat.f_files, stat.f_ffree)


class Host:
    """A box, read through two folders: PROC is /proc or a folder of files bound from it, SYS is /sys.

    `root` leads to /run, /boot, /etc, and to this process's own /proc where PROC has none. Readers raise Hidden.
    """

    def __init__(self, proc: str = '/proc', sys: str = '/sys', state_dir: str | None = None, root: str = '',
                 statvfs: Callable[[str], os.statvfs_result] = os.statvfs) -> None:
        self.proc, self.sys, self.state_dir, self.root = proc, sys, state_dir, root
        self.prober = Prober(statvfs)
        self.bound = not os.path.exists(f'{proc}/self')                  # as the unit's /run/hostproc
        self.own = f'{root}/proc/self' if self.bound else f'{proc}/self'
        self.cpu_floor: dict[str, tuple[int, ...]] = {}                  # highest jiffies served, by CPU
        self._mounts: tuple[bytes, Mounts] | None = None

    def read(self, name: str) -> bytes:
        """A file below PROC, whole. Of net/, that of the host's network: under PrivateNetwork, PROC/net is an empty one."""
        if name.startswith('net/') and not self.bound:
            return self.slurp(f'{self.proc}/1/{name}', f'{self.proc}/{name}')
        return self.slurp(f'{self.proc}/{name}')

    def read_sys(self, name: str) -> str:
        """A file below SYS, without the newline at its end."""
        return self.slurp(f'{self.sys}/{name}').decode(errors='replace').rstrip('\n')

    def list_sys(self, name: str) -> list[str]:
        """The names in a folder below SYS, sorted."""
        try:
            return sorted(os.listdir(f'{self.sys}/{name}'))
        except OSError as error:
            raise Hidden('not on this kernel') from error

    def mounts(self) -> Mounts:
        """The host's mounts. Parsed again only when its table has changed: the own one follows by propagation."""
        names = ('mountinfo', '1/mountinfo', 'self/mountinfo')
        source = next((name for name in names if os.access(f'{self.proc}/{name}', os.R_OK)), names[-1])
        table = self.read(source)
        if self._mounts is None or self._mounts[0] != table:
            self._mounts = table, compare_mounts(f'{self.proc}/{source}', table, self.slurp(f'{self.own}/mountinfo'))
        return self._mounts[1]

    def slurp(self, *paths: str) -> bytes:
        """The first of these files that opens, whole."""
        for path in paths:
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
                break
            except OSError as error:
                failure = error
        else:
            raise Hidden(self._why(path, failure))
        try:
            data = part = os.read(fd, READ_CHUNK)
            while part:
                part = os.read(fd, READ_CHUNK)      # a seq_file answers in pieces
                data += part
            return data
        except OSError as error:                   # EOPNOTSUPP: PSI is built in but off (psi=0)
            off = error.errno == errno.EOPNOTSUPP
            raise Hidden('switched off in this kernel' if off else f'{path}: {error.strerror}') from error
        finally:
            os.close(fd)

    def _why(self, path: str, error: OSError) -> str:
        """Name what takes a file away, as far as the outside of it tells."""
        if isinstance(error, PermissionError):
            return f'denied: this user may not read {path}'
        if path.startswith(f'{self.proc}/') and not os.path.exists(f'{self.proc}/stat'):
            return 'hidden by ProcSubset=pid'
        return f'not on this kernel, or not bound to {path}' if self.bound else 'not on this kernel'


class Facts:
    """One moment of a host, for checks and collectors: each file is read and parsed once, when it is first asked for."""

    def __init__(self, host: Host, now: float | None = None) -> None:
        self.host = host
        self.now = time.time() if now is None else now
        self._parsed: dict[str, object] = {}

    def get(self, name: str, parse: Callable[[bytes], Fact]) -> Fact:
        """parse(PROC/name). The same name always goes with the same parser."""
        if name not in self._parsed:
            self._parsed[name] = parse(self.host.read(name))
        return cast(Fact, self._parsed[name])

    def numbers(self, name: str) -> list[int]:
        """A file of whole numbers, such as most of PROC/sys."""
        return [int(number) for number in self.get(name, bytes.split)]

    @functools.cached_property
    def stat(self) -> Stat:
        return self.get('stat', parse_stat)

    @functools.cached_property
    def mounts(self) -> Mounts:
        return self.host.mounts()

    @functools.cached_property
    def usage(self) -> dict[str, Answer]:
        """Mount point → Usage or the reason; file systems that may hang come last."""
        return self.host.prober.ask([mount.point for mount in sorted(
            self.mounts.seen, key=lambda mount: MAY_HANG.match(mount.fstype) is not None)])

    @functools.cached_property
    def uptime(self) -> float:
        """Seconds since boot, from /proc (in LXC the container's), else from the clock."""
        try:
            return float(self.host.read('uptime').split()[0])
        except Hidden:
            return time.clock_gettime(time.CLOCK_BOOTTIME)


# ---------------------------------------------------------------- health: one evaluator for JSON, text, metrics and page

GIB = 1 << 30
SLACK = 1.1                   # a limit that was passed is left only 10 % on its good side: no flapping
RING_STEP, RING_SIZE = 60, 360    # s between two samples of free space; samples: 6 h, as node-mixin's predict_linear
RING_SPAN = 1800              # s of samples before they say anything
RING_MOUNTS = 64              # mounts that are followed, at 10 KiB of state each
ETA_FIT = 0.5                 # r² of the fitted line below which it is noise
ETA_PERCENT = 40              # % left above which an early end is not believed (node-mixin)
ETA_SHOWN = 7 * 86400         # s: a line through 6 h says nothing about the week after
CPU_STEP, CPU_WINDOW = 10, 60     # s between two CPU samples that are kept, s that the CPU figure covers
GROUPS_MAX = 5000             # cgroups visited to name who was OOM-killed
STATUSES = ('pass', 'warn', 'fail')
ESSENTIAL = ('disk', 'memory')    # a verdict without these is not worth its name: unknown warns
STATE_FILE = 'health.json'


class Threshold(NamedTuple):
    """A limit called CHECK-warn or CHECK-fail; 0 switches it off. With its -bytes twin, both must be passed."""
    name: str
    default: float
    unit: str
    help: str


THRESHOLDS = (
    Threshold('disk-warn', 10, '%', 'space left that warns, together with disk-warn-bytes'),
    Threshold('disk-warn-bytes', 10 * GIB, 'bytes', 'space left that warns; percent alone judges a smaller disk'),
    Threshold('disk-fail', 3, '%', 'space left that fails, together with disk-fail-bytes'),
    Threshold('disk-fail-bytes', 5 * GIB, 'bytes', 'space left that fails; percent alone judges a smaller disk'),
    Threshold('disk-eta-warn', 8, 'h', 'time until a disk is full, at the rate of the last 6 h, that warns'),
    Threshold('stuck-fail', 60, 's', 'time without an answer after which a mount fails; it warns at once'),
    Threshold('inodes-warn', 5, '%', 'inodes left that warn'),
    Threshold('inodes-fail', 3, '%', 'inodes left that fail'),
    Threshold('memory-warn', 10, '%', 'memory available that warns'),
    Threshold('memory-fail', 3, '%', 'memory available that fails, unless the kernel says that nobody waits for memory'),
    Threshold('swap-warn', 80, '%', 'swap used that warns'),
    Threshold('swap-fail', 0, '%', 'swap used that fails'),
    Threshold('cpu-pressure-warn', 80, '%', 'time in 5 min with a task waiting for a CPU, that warns'),
    Threshold('cpu-pressure-fail', 0, '%', 'time in 5 min with a task waiting for a CPU, that fails'),
    Threshold('io-pressure-warn', 60, '%', 'time in 5 min with every task waiting for I/O, that warns'),
    Threshold('io-pressure-fail', 0, '%', 'time in 5 min with every task waiting for I/O, that fails'),
    Threshold('memory-pressure-warn', 10, '%', 'time in 1 min with every task waiting for memory, that warns'),
    Threshold('memory-pressure-fail', 40, '%', 'time in 1 min with every task waiting for memory, that fails'),
    Threshold('load-warn', 2, 'per core', 'load over 15 min that warns'),
    Threshold('load-fail', 10, 'per core', 'load over 15 min that fails'),
    Threshold('cpu-warn', 95, '%', 'CPU time used in the last minute that warns'),
    Threshold('cpu-fail', 0, '%', 'CPU time used in the last minute that fails'),
    Threshold('files-warn', 70, '%', 'open files of the limit that warn'),
    Threshold('files-fail', 90, '%', 'open files of the limit that fail'),
    Threshold('conntrack-warn', 75, '%', 'tracked connections of the limit that warn'),
    Threshold('conntrack-fail', 95, '%', 'tracked connections of the limit that fail'),
    Threshold('oom-warn', 60, 'min', 'time for which an OOM kill warns'),
    Threshold('clock-warn', 180, 'min', 'time since the clock was last synchronised that warns'),
)

class Check(NamedTuple):
    """One judged fact. `value` is None where `reason` says why it is unknown; `component` is a mount point or ''."""
    name: str
    component: str
    value: float | None
    unit: str
    status: str
    limit: str
    reason: str


class Verdict(NamedTuple):
    """All checks of one moment (`time` in epoch seconds). `visibility` says what the sandbox hides, in plain words."""
    status: str
    time: float
    checks: tuple[Check, ...]
    visibility: tuple[str, ...]
    host: str
    uptime: float

    @property
    def http_status(self) -> int:
        """503 for fail alone: a warning must not take a service out of rotation (cvat #5449)."""
        return 503 if self.status == 'fail' else 200

    def keep(self, wanted: Callable[[Check], bool]) -> Verdict:
        """The verdict over some of the checks, as bad as the worst of them: /health/CHECK and ?exclude=CHECK."""
        checks = tuple(check for check in self.checks if wanted(check))
        return self._replace(checks=checks, status=max((check.status for check in checks), key=STATUSES.index, default='pass'))


def size_words(number: float) -> str:
    """1234567 → '1.18 MiB'."""
    units = iter(('bytes', 'KiB', 'MiB', 'GiB', 'TiB'))
    unit = next(units)
    while abs(number) >= 1000 and unit != 'TiB':
        number, unit = number / 1024, next(units)
    return f'{number:.3g} {unit}'


def span_words(seconds: float) -> str:
    """17000 → '4.7 h'."""
    for unit, length in (('d', 86400), ('h', 3600), ('min', 60)):
        if seconds >= 2 * length:
            return f'{seconds / length:.{0 if seconds >= 10 * length else 1}f} {unit}'
    return f'{seconds:.0f} s'


def forecast(samples: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """Least squares over (time, bytes left) → (bytes/s, time when none are left), or None if that cannot be told."""
    if len(samples) < 3 or samples[-1][0] - samples[0][0] < RING_SPAN:
        return None
    mean_t, mean_y = (sum(column) / len(samples) for column in zip(*samples))
    tt = sum((t - mean_t) ** 2 for t, _ in samples)
    ty = sum((t - mean_t) * (y - mean_y) for t, y in samples)
    yy = sum((y - mean_y) ** 2 for _, y in samples)
    if ty >= 0 or ty * ty < ETA_FIT * tt * yy:
        return None
    return ty / tt, max(samples[-1][0], mean_t - mean_y * tt / ty)


def limit_step(limits: Mapping[str, float], name: str, status: str) -> tuple[tuple[float, float], str]:
    """The limits NAME-STATUS and NAME-STATUS-bytes, and their words: ('disk', 'fail') → '3 % and 5 GiB'."""
    units = {threshold.name: threshold.unit for threshold in THRESHOLDS}
    limit, twin = limits.get(f'{name}-{status}', 0), limits.get(f'{name}-{status}-bytes', 0)
    words = [f'{limit:g} {units[f"{name}-{status}"]}'] if limit else []
    return (limit, twin), ' and '.join(words + ([size_words(twin)] if twin else []))


class History:
    """What outlives one evaluation, and how a reading becomes a status by the limits. One small file keeps it."""

    def __init__(self, limits: Mapping[str, float], state_dir: str | None) -> None:
        self.limits = {threshold.name: threshold.default for threshold in THRESHOLDS} | dict(limits)
        self.steps = {(name, status): limit_step(self.limits, name, status)
                      for name in {threshold.name.rpartition('-')[0] for threshold in THRESHOLDS} for status in STATUSES[1:]}
        self.path = f'{state_dir}/{STATE_FILE}' if state_dir else None
        self.trouble = '' if state_dir else 'no state directory: disk trends start anew at each restart'
        self.levels: dict[str, int] = {}                       # 'disk /var' → index of STATUSES
        self.disks: dict[str, list[tuple[float, float]]] = {}  # mount point → (time, bytes left), at most RING_SIZE
        self.ends: dict[str, tuple[float, float] | None] = {}  # mount point → forecast
        self.oom: tuple[int, float] | None = None              # OOM kills, time of the last
        self.cpu: collections.deque[tuple[int, ...]] = collections.deque()
        self.changed = False
        self._load()

    def _load(self) -> None:
        """A missing or damaged file is an empty history."""
        try:
            with open(self.path or os.devnull, encoding='utf-8') as file:
                state = json.loads(file.read() or '{"disks":{},"oom":null}')
            self.disks = {str(point): [(float(t), float(y)) for t, y in ring] for point, ring in state['disks'].items()}
            self.ends = {point: forecast(ring) for point, ring in self.disks.items()}
            self.oom = (int(state['oom'][0]), float(state['oom'][1])) if state['oom'] else None
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            self.trouble = f'{self.path} was not usable: {error}'

    def save(self) -> None:
        """Replace the file; without fsync, since a lost one costs half an hour of forecast and nothing else."""
        if self.path is None or not self.changed:
            return
        scratch = f'{self.path}.{os.getpid()}'
        try:
            with open(scratch, 'w', encoding='utf-8') as file:
                json.dump({'disks': self.disks, 'oom': self.oom}, file, separators=(',', ':'))
            os.replace(scratch, self.path)
            self.trouble, self.changed = '', False
        except OSError as error:
            self.trouble = f'{self.path} cannot be written ({error.strerror}): disk trends start anew at each restart'

    def follow(self, point: str, now: float, avail: int) -> tuple[float, float] | None:
        """Take a sample if one is due, and say when the disk is full. A clock that went back starts anew."""
        ring = self.disks.get(point, [])
        if (ring and 0 <= now - ring[-1][0] < RING_STEP) or (not ring and len(self.disks) >= RING_MOUNTS):
            return self.ends.get(point)
        ring = [*(ring if ring and ring[-1][0] < now else ()), (round(now), avail)][-RING_SIZE:]
        self.disks[point], self.ends[point], self.changed = ring, forecast(ring), True
        return self.ends[point]

    def judge(self, name: str, component: str, value: float, unit: str, text: str, *readings: float,
              low: bool = False, worst: str = 'fail', tail: str = '') -> Check:
        """A Check with the worst status of which all limits are passed by the readings (low: fallen below).

        The readings are compared with NAME-warn and NAME-warn-bytes, and NAME-fail likewise.
        """
        level, before = 0, self.levels.get(name + component, 0)
        for step in range(1, STATUSES.index(worst) + 1):
            slack = SLACK if before >= step else 1.0
            pairs = [(reading, limit) for reading, limit in zip(readings, self.steps[name, STATUSES[step]][0]) if limit]
            if pairs and all(reading < limit * slack if low else reading > limit / slack for reading, limit in pairs):
                level = step
        self.levels[name + component] = level
        words = {status: self.steps[name, status][1] for status in STATUSES[1:] if self.steps[name, status][1]}
        passed = f' (limit {words[STATUSES[level]]})' if level else ''
        limit = ', '.join(f'{status} {limits}' for status, limits in words.items())
        return Check(name, component, round(value, 2), unit, STATUSES[level], limit, f'{text}{passed}{tail}')


def unknown(name: str, component: str, reason: str, status: str = 'pass') -> Check:
    """A check without a value."""
    return Check(name, component, None, '', status, '', f'{component} {reason}'.lstrip())


def broken(mount: Mount, exact: bool) -> bool:
    """Read-only after an error, that is, in the super block only: `mount -o ro` sets the mount's own option too.

    ext4 keeps `rw` there and says emergency_ro since 6.15, nothing from 6.12 to 6.14: then only errors_count tells.
    """
    return 'emergency_ro' in mount.super_options or exact and 'ro' in mount.super_options and 'rw' in mount.options


def disks(facts: Facts, usual: bool = True) -> Iterator[Mount]:
    """Each file system once, at its shortest mount point; `usual` leaves out those mounted read-only on purpose."""
    done = set()
    for mount in sorted(facts.mounts.seen, key=lambda mount: len(mount.point)):
        if mount.device not in done and not (usual and 'ro' in mount.super_options):
            yield mount
        done.add(mount.device)


def check_disk(facts: Facts, history: History) -> Iterator[Check]:
    """Space by df's rule, in percent and bytes; how long it will last; mounts that hang or are hidden."""
    for mount in disks(facts):
        usage = facts.usage[mount.point]
        if isinstance(usage, str):
            yield silent(facts, history, mount, usage)
        elif usage.size:
            yield space(facts, history, mount.point, usage)
    for mount in facts.mounts.hidden:
        yield unknown('disk', mount.point, 'is hidden from this service (ProtectHome or another sandbox option)')


def silent(facts: Facts, history: History, mount: Mount, reason: str) -> Check:
    """A mount that gives an error or no answer."""
    since = facts.host.prober.stuck.get(mount.point)
    if since is None:
        return unknown('disk', mount.point, reason, 'warn')
    seconds, limit = time.monotonic() - since, history.limits['stuck-fail']
    words = f'({mount.fstype} of {mount.source}) {reason} for {span_words(seconds)} (limit {limit:g} s)'
    return unknown('disk', mount.point, words, 'fail' if 0 < limit < seconds else 'warn')


def space(facts: Facts, history: History, point: str, usage: Usage) -> Check:
    """One file system's space, and a warning where it will end soon."""
    percent, reserved, soon = usage.used_percent, usage.free - usage.avail, False
    tail = f', {size_words(reserved)} more reserved for root' if reserved > 0 else ''
    end = history.follow(point, facts.now, usage.avail)
    if end and end[1] - facts.now < ETA_SHOWN:
        left = max(0.0, end[1] - facts.now)
        tail += f', full in about {span_words(left)} at {size_words(-end[0] * 3600)}/h'
        soon = left < history.limits['disk-eta-warn'] * 3600 and 100 - percent < ETA_PERCENT
    text = f'{point} {math.ceil(percent)} % used, {size_words(usage.avail)} left'
    check = history.judge('disk', point, percent, '%', text, 100 - percent, usage.avail, low=True, tail=tail)
    return check._replace(status='warn') if soon and check.status == 'pass' else check


def check_inodes(facts: Facts, history: History) -> Iterator[Check]:
    """Inodes, where the file system counts them: vfat and btrfs say 0, some FUSE 2⁶⁴-1."""
    for mount in disks(facts):
        usage = facts.usage[mount.point]
        if isinstance(usage, Usage) and 0 < usage.files < 1 << 63:
            left = 100 * usage.files_free / usage.files
            text = f'{mount.point} {math.ceil(100 - left)} % of inodes used, {usage.files_free} left'
            yield history.judge('inodes', mount.point, 100 - left, '%', text, left, low=True)


def check_readonly(facts: Facts, history: History) -> Iterator[Check]:
    """File systems that stopped writing."""
    found = [mount for mount in disks(facts, usual=False) if broken(mount, facts.mounts.exact)]
    yield from (Check('readonly', mount.point, 1, '', 'fail', '', f'{mount.point} went read-only after an error')
                for mount in found)
    if not found:
        yield Check('readonly', '', 0, '', 'pass', '', 'no file system went read-only')


def check_ext4_errors(facts: Facts, history: History) -> Iterator[Check]:
    """The error counter in each ext4 super block, which stays until e2fsck clears it."""
    for mount in (mount for mount in disks(facts, usual=False) if mount.fstype == 'ext4'):
        try:
            device = os.path.basename(os.readlink(f'{facts.host.sys}/dev/block/{mount.device}'))
            count = int(facts.host.read_sys(f'fs/ext4/{device}/errors_count'))
            ago = facts.now - int(facts.host.read_sys(f'fs/ext4/{device}/last_error_time')) if count else math.inf
        except (OSError, Hidden):
            yield unknown('ext4-errors', mount.point, 'has no error counter to be seen')
            continue
        stopped = 'errors=remount-ro' in mount.super_options and ago < facts.uptime
        text = f'has {count} ext4 errors on {device}, the last {span_words(ago)} ago' if count else 'has no ext4 errors'
        yield Check('ext4-errors', mount.point, count, '', 'fail' if stopped else 'warn' if count else 'pass', '',
                    f'{mount.point} {text}{", and writes no more" if stopped else ""}')


def calm(facts: Facts) -> bool:
    """The kernel says that nobody waited for memory: a database may use it all and be well."""
    try:
        return not facts.get('pressure/memory', parse_pressure)['some']['avg60']
    except Hidden:
        return False


def check_memory(facts: Facts, history: History) -> Iterator[Check]:
    """MemAvailable and what ZFS would give back; the limits of this service's cgroup and of those above it."""
    memory = facts.get('meminfo', parse_meminfo)
    total = memory['MemTotal']
    free = min(total, memory.get('MemAvailable', memory['MemFree']) + zfs_shrinkable(facts.host))
    left, text = 100 * free / total, f'memory {size_words(free)} of {size_words(total)} available'
    yield history.judge('memory', '', 100 - left, '%', text, left, low=True, worst='warn' if calm(facts) else 'fail')
    for group, limit, used in memory_groups(facts.host):
        if limit < total:
            left, text = 100 - 100 * used / limit, f'memory {size_words(limit - used)} of {size_words(limit)} in cgroup {group}'
            worst = 'fail' if group == '/' else 'warn'      # '/' limits a container, all else some service
            yield history.judge('memory', f'cgroup {group}', 100 - left, '%', text, left, low=True, worst=worst)


def zfs_shrinkable(host: Host) -> int:
    """Bytes of the ARC above its minimum: ZFS gives them back, MemAvailable does not know (openzfs #10255)."""
    try:
        rows = {row[0]: row[-1] for row in parse_table(host.read('spl/kstat/zfs/arcstats')) if row}
        return max(0, int(rows['size']) - int(rows['c_min']))
    except (Hidden, KeyError, ValueError):
        return 0


def memory_groups(host: Host) -> Iterator[tuple[str, int, int]]:
    """cgroup v2 path, limit, use without page cache; for this process's group and those above it that have a limit."""
    own = host.slurp(f'{host.own}/cgroup').decode().rpartition('0::')[2].strip() or '/'
    for group in (own, *parents(own)):
        try:
            limit = host.read_sys(f'fs/cgroup{group}/memory.max')
            if limit != 'max':
                cache = dict(line.split() for line in host.read_sys(f'fs/cgroup{group}/memory.stat').splitlines())
                used = int(host.read_sys(f'fs/cgroup{group}/memory.current'))
                yield group, int(limit), max(0, used - int(cache['active_file']) - int(cache['inactive_file']))
        except Hidden:
            continue


def check_swap(facts: Facts, history: History) -> Iterator[Check]:
    memory = facts.get('meminfo', parse_meminfo)
    total = memory['SwapTotal']
    if not total:
        raise Hidden('no swap here')
    used = 100 - 100 * memory['SwapFree'] / total
    yield history.judge('swap', '', used, '%', f'swap {used:.0f} % of {size_words(total)} used', used)


def check_pressure(name: str, who: str, window: str) -> Callable[[Facts, History], Iterator[Check]]:
    """PSI: the kernel's own average of lost time, which needs no state. `who` is 'some' or 'full', every task."""
    def check(facts: Facts, history: History) -> Iterator[Check]:
        value = facts.get(f'pressure/{name}', parse_pressure)[who][window]
        text = f'{"every" if who == "full" else "some"} task waited for {name} {value:g} % of {span_words(int(window[3:]))}'
        yield history.judge(f'{name}-pressure', '', value, '%', text, value)

    return check


def check_load(facts: Facts, history: History) -> Iterator[Check]:
    """Load over 15 minutes for each CPU; what waits for a disk counts too."""
    cores, loads = len(facts.stat.cpus) or 1, facts.get('loadavg', bytes.split)
    load, words = float(loads[2]) / cores, b' '.join(loads[:3]).decode()
    yield history.judge('load', '', load, 'per core', f'load {words} on {cores} cores', load)


def check_cpu(facts: Facts, history: History) -> Iterator[Check]:
    """CPU time used between two evaluations, as far apart as CPU_WINDOW; never a made-up 0 at the first one."""
    row = facts.stat.total[:8]      # guest time is inside user
    second = USER_HZ * (len(facts.stat.cpus) or 1)
    now, kept = (sum(row), row[3] + row[4], row[4], row[7]), history.cpu
    if not kept or now[0] - kept[-1][0] >= CPU_STEP * second:
        kept.append(now)
    while len(kept) > 1 and now[0] - kept[1][0] >= CPU_WINDOW * second:
        kept.popleft()
    total, idle, wait, steal = (max(0, new - old) for new, old in zip(now, kept[0]))
    if total < second:
        raise Hidden('needs two samples at least 1 s apart')
    busy = 100 - 100 * min(total, idle) / total
    text = (f'CPU {busy:.0f} % used in {span_words(total / second)}, '
            f'{100 * wait / total:.0f} % waiting for I/O, {100 * steal / total:.0f} % stolen')
    yield history.judge('cpu', '', busy, '%', text, busy)


def check_files(facts: Facts, history: History) -> Iterator[Check]:
    used, _, limit = facts.numbers('sys/fs/file-nr')
    yield history.judge('files', '', 100 * used / limit, '%', f'{used} of {limit} files open', 100 * used / limit)


def parse_conntrack(data: bytes) -> list[dict[str, int]]:
    """/proc/net/stat/nf_conntrack, a row for each CPU. The sysctl nf_conntrack_count would be that of the reader's network."""
    names, *rows = parse_table(data)
    return [dict(zip(names, (int(number, 16) for number in row))) for row in rows]


def check_conntrack(facts: Facts, history: History) -> Iterator[Check]:
    used = facts.get('net/stat/nf_conntrack', parse_conntrack)[0]['entries']
    limit, = facts.numbers('sys/net/netfilter/nf_conntrack_max')
    yield history.judge('conntrack', '', 100 * used / limit, '%', f'{used} of {limit} connections tracked', 100 * used / limit)


@functools.lru_cache(maxsize=4)
def oom_units(sys: str, kills: int) -> str:
    """Which cgroups were OOM-killed in, for one count of kills. A group that ended since then has left no trace."""
    found = []
    for seen, (folder, _, _) in enumerate(os.walk(f'{sys}/fs/cgroup')):
        try:
            with open(f'{folder}/memory.events.local', encoding='ascii') as file:
                count = int(dict(line.split() for line in file)['oom_kill'])
        except (OSError, KeyError, ValueError):
            count = 0
        found += [f'{os.path.basename(folder)} {count}'] if count else []
        if seen >= GROUPS_MAX:
            break
    return ', '.join(found) or 'unit not known any more'


def check_oom(facts: Facts, history: History) -> Iterator[Check]:
    """OOM kills since boot, with the units; warns for a while after the last."""
    kills, boot = facts.get('vmstat', parse_vmstat)['oom_kill'], facts.now - facts.uptime
    kept, when = history.oom or (0, boot)
    if kills != kept:      # fewer: the box was booted since
        when = facts.now if kills > kept and history.oom else boot
    history.changed |= history.oom != (kills, when)
    history.oom = (kills, when)
    ago = (facts.now - when) / 60 if kills else math.inf
    text = f'{kills} OOM kills since boot ({oom_units(facts.host.sys, kills)})' if kills else 'no OOM kill since boot'
    yield history.judge('oom', '', kills, '', text, ago, low=True)


@functools.lru_cache(maxsize=4)
def newer_kernel(boot: str, running: str, minute: int) -> str:
    """The newest kernel of the running one's flavour in /boot if it is newer, else ''. Read once a minute."""
    flavour = re.search(r'(-[a-z][a-z0-9-]*)?$', running)
    tail = flavour.group() if flavour else ''
    numbers = {release: [int(number) for number in re.findall(r'\d+', release.removesuffix(tail))]
               for release in (name.removeprefix('vmlinuz-') for name in os.listdir(boot) if name.startswith('vmlinuz-'))
               if release.endswith(tail)}
    newest = max(numbers, key=lambda release: numbers[release], default=running)
    return newest if running in numbers and numbers[newest] > numbers[running] else ''


def check_reboot(facts: Facts, history: History) -> Iterator[Check]:
    """Debian's flag file, and where nobody writes that, a kernel in /boot newer than the running one."""
    root, running, reasons = facts.host.root, os.uname().release, []
    if os.path.exists(f'{root}/run/reboot-required'):
        reasons.append('/run/reboot-required is there')
    try:
        newer = newer_kernel(f'{root}/boot', running, int(facts.now // 60))
        reasons += [f'kernel {newer} is installed, {running} runs'] if newer else []
    except OSError:
        pass      # a container has no kernels
    text = '; '.join(reasons)
    yield Check('reboot', '', int(bool(reasons)), '', 'warn' if reasons else 'pass', '', text or 'no reboot needed')


def check_clock(facts: Facts, history: History) -> Iterator[Check]:
    """systemd-timesyncd touches a file at each synchronisation; adjtimex(2) is blocked by ProtectClock, even to read."""
    folder = f'{facts.host.root}/run/systemd/timesync'
    if not os.path.isdir(folder):
        raise Hidden('systemd-timesyncd does not run; another time service cannot be seen')
    try:
        since, text = facts.now - os.stat(f'{folder}/synchronized').st_mtime, 'clock synchronised {} ago'
    except OSError:
        since, text = facts.uptime, 'clock not synchronised since boot, {} ago'
    since = max(0.0, since)
    yield history.judge('clock', '', since, 's', text.format(span_words(since)), since / 60)


def check_uptime(facts: Facts, history: History) -> Iterator[Check]:
    seconds = facts.uptime
    yield Check('uptime', '', round(seconds), 's', 'pass', '', f'up {span_words(seconds)}')


CHECKS: dict[str, Callable[[Facts, History], Iterator[Check]]] = {
    'disk': check_disk, 'inodes': check_inodes, 'readonly': check_readonly, 'ext4-errors': check_ext4_errors,
    'memory': check_memory, 'swap': check_swap, 'cpu-pressure': check_pressure('cpu', 'some', 'avg300'), 'io-pressure': check_pressure('io', 'full', 'avg300'),
    'memory-pressure': check_pressure('memory', 'full', 'avg60'), 'load': check_load, 'cpu': check_cpu,
    'files': check_files, 'conntrack': check_conntrack, 'oom': check_oom, 'reboot': check_reboot, 'clock': check_clock,
    'uptime': check_uptime,
}


class Health:
    """The evaluator. Calls may come from several threads."""

    def __init__(self, host: Host, limits: Mapping[str, float] | None = None) -> None:
        self.host = host
        self.history = History(limits or {}, host.state_dir)
        self._lock = threading.Lock()

    def evaluate(self, extra: Sequence[Check] = (), facts: Facts | None = None) -> Verdict:
        """Judge everything, and `extra` with it, in hardly more than STATVFS_DEADLINE whatever hangs."""
        facts = facts or Facts(self.host)
        with self._lock:
            checks = [check for name, run in CHECKS.items() for check in self._run(name, run, facts)] + list(extra)
            self.history.save()
        notes = tuple(self._visibility(facts, checks))
        return Verdict('pass', facts.now, tuple(checks), notes, os.uname().nodename, facts.uptime).keep(lambda _: True)

    def _run(self, name: str, run: Callable[[Facts, History], Iterator[Check]], facts: Facts) -> list[Check]:
        try:
            return list(run(facts, self.history))
        except Hidden as error:
            return [unknown(name, '', str(error), 'warn' if name in ESSENTIAL else 'pass')]
        except (ValueError, LookupError, ArithmeticError) as error:      # a kernel that writes its files otherwise
            return [unknown(name, '', f'not understood: {error!r}', 'warn' if name in ESSENTIAL else 'pass')]

    def _visibility(self, facts: Facts, checks: Iterable[Check]) -> Iterator[str]:
        try:
            exact = '' if facts.mounts.exact else ', the table of this service: who is read-only is not certain'
            yield f'mounts from {facts.mounts.source}{exact}'
        except Hidden as error:
            yield f'mounts: {error}'
        yield from (f'{check.name}: {check.reason}' for check in checks if check.value is None)
        if self.history.trouble:
            yield self.history.trouble


UTILIZATION = frozenset({'disk', 'inodes', 'memory', 'swap', 'cpu', 'files', 'conntrack'})


def troubles(verdict: Verdict) -> str:
    """The reasons of all checks that do not pass, the worst first."""
    bad = sorted((check for check in verdict.checks if check.status != 'pass'), key=lambda check: -STATUSES.index(check.status))
    return '; '.join(check.reason for check in bad)


def health_json(verdict: Verdict) -> dict[str, object]:
    """draft-inadarei-api-health-check-06. `status` and the reasons come first: some probes keep only 1 KiB."""
    when = datetime.fromtimestamp(verdict.time, UTC).strftime('%Y-%m-%dT%H:%M:%SZ')
    checks: dict[str, list[dict[str, object]]] = {}
    for check in verdict.checks:
        row = {'componentId': check.component, 'componentType': 'system', 'status': check.status, 'observedValue': check.value,
               'observedUnit': check.unit, 'limit': check.limit, 'time': when,
               'output': check.reason if check.status != 'pass' or check.value is None else ''}
        kind = 'utilization' if check.name in UTILIZATION else 'value'
        checks.setdefault(f'{check.name}:{kind}', []).append({key: value for key, value in row.items() if value != ''})
    return {'status': verdict.status, **({'output': text} if (text := troubles(verdict)) else {}), 'time': when,
            'description': f'health of {verdict.host}', 'notes': list(verdict.visibility), 'checks': checks}


def health_text(verdict: Verdict) -> str:
    """The verdict in plain words on the first line, then a line for each check."""
    well = f'{verdict.host} is well by {len(verdict.checks)} checks, up {span_words(verdict.uptime)}'
    lines = [f'{verdict.status}: {troubles(verdict) or well}']
    lines += [f'{check.status}  {check.name:15}  {check.reason}' for check in verdict.checks]
    return '\n'.join(lines + [f'note  {note}' for note in verdict.visibility]) + '\n'

# --------------------------------------------------------------------------------------------------------------------
# HTTP: request, response, negotiation, problem documents
# --------------------------------------------------------------------------------------------------------------------
class Request(NamedTuple):
    """A request as the handlers see it, from the embedded server, from WSGI or from `get`.

    `path` is decoded, `query` is not; header names are lower case. `local`: it came over a unix socket or in-process,
    where no browser can have sent it but through a proxy. `gone` tells whether the client has hung up.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    peer: str
    local: bool
    gone: Callable[[], bool] = lambda: False


class Response(NamedTuple):
    """An answer; a body in pieces has no length unless the headers say it."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes | Iterator[bytes]


# A log line is text, never markup; an answer is for the one who asked, never for a cache or another site's script.
SECURITY_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)
MEDIA = {
    "text": "text/plain; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "health": "application/health+json",
}
JSON = json.JSONEncoder(separators=(",", ":")).encode      # ASCII only: escapes C0, DEL, C1, bidi and U+2028


def parse_accept(text: str) -> list[tuple[str, float]]:
    """The media ranges of an Accept header with their weights (RFC 9110, 12.5.1); what is malformed weighs nothing."""
    ranges = []
    for item in text[:VALUE_MAX].split(","):
        media, *parameters = (part.strip().lower() for part in item.split(";"))
        weight = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        ranges.append((media, float(weight) if re.fullmatch(r"[01](\.[0-9]{0,3})?", weight) else 0.0))
    return ranges


def negotiate(request: Request, args: Mapping[str, Any], offered: Sequence[str]) -> str:
    """Which of the offered formats to answer in: ?format= wins over Accept; the first one where neither decides."""
    wanted = args.get("format")
    if wanted:
        if wanted not in offered:
            raise Problem(400, f"parameter format: {wanted!r} is not allowed here; allowed: {', '.join(offered)}")
        return str(wanted)
    ranges = parse_accept(request.headers.get("accept", "*/*"))

    def weight(name: str) -> float:
        media = MEDIA[name].partition(";")[0]
        exact = [weight for range_, weight in ranges if range_ == media]
        loose = [weight for range_, weight in ranges if range_ in ("*/*", media.partition("/")[0] + "/*")]
        return max(exact or loose or [0.0])
    return max(offered, key=weight)


def body_of(pieces: Iterable[bytes]) -> bytes | Iterator[bytes]:
    """Pieces joined to writes of PIECE_BYTES; the whole as one, with a known length, where it is no larger."""
    def joined() -> Iterator[bytes]:
        held: list[bytes] = []
        size = 0
        for piece in pieces:
            held.append(piece)
            size += len(piece)
            if size >= PIECE_BYTES:
                yield b"".join(held)
                held, size = [], 0
        yield b"".join(held)
    whole = joined()
    first = next(whole)
    if len(first) < PIECE_BYTES:
        return first
    return itertools.chain([first], whole)


def reply(media: str, body: bytes | Iterator[bytes], headers: Sequence[tuple[str, str]] = (), status: int = 200) -> Response:
    """A response in one of MEDIA."""
    return Response(status, (("Content-Type", MEDIA[media]), *headers), body)


def problem_response(problem: Problem) -> Response:
    """The RFC 9457 document of a problem."""
    body = JSON(problem.document()).encode() + b"\n"
    return Response(problem.status, (("Content-Type", "application/problem+json"), *problem.headers), body)


# What a terminal or a browser could take as anything but text: C0 but tab and newline, DEL, C1, the bidirectional
# controls (CVE-2021-42574) and U+2028/2029.
UNSAFE = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160), 0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F),
                        *range(0x2066, 0x206A), 0xFEFF))
ESCAPES = {code: "".join(f"\\x{byte:02x}" for byte in chr(code).encode()) for code in UNSAFE}
SAFE_BYTES = b"\t\n" + bytes(range(32, 127))


def safe_text(data: bytes) -> bytes:
    """Lines as they are, but each byte that is not text, or that a terminal would obey, as \\xNN."""
    if not data.translate(None, SAFE_BYTES):
        return data
    return data.decode("utf-8", "backslashreplace").translate(ESCAPES).encode()


def page_html(title: str, text: bytes, links: Sequence[tuple[str, str]]) -> bytes:
    """A minimal page: links, and text that the browser shows as it is."""
    shown = " ".join(f'<a href="{html.escape(url)}">{html.escape(name)}</a>' for url, name in links)
    return (f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
            f"<p>{shown}</p><pre>").encode() + html.escape(text.decode()).encode() + b"</pre></html>\n"


class Parameter(NamedTuple):
    """A row of PARAMETERS: a query parameter; `parse` raises ValueError saying what is allowed."""

    name: str
    parse: Callable[[str], Any]
    help: str
    repeat: bool = False


def parse_format(text: str) -> str:
    """One of the names of MEDIA."""
    if text not in MEDIA:
        raise ValueError(", ".join(MEDIA))
    return text


PARAMETERS = (
    Parameter("n", parse_integer(1, LINES_MAX), f"how many lines, 1 to {LINES_MAX}; 100 if not given: the newest, the "
              "oldest of them first, as tail prints them"),
    Parameter("after", parse_cursor, "the lines behind a cursor: page forward"),
    Parameter("before", parse_cursor, "the lines before a cursor: page back"),
    Parameter("format", parse_format, "text, html, json, ndjson or health, whatever the Accept header says"),
    Parameter("exclude", parse_label, "leave out a check", repeat=True),
)


def parse_query(query: str, allowed: Sequence[str]) -> dict[str, Any]:
    """The parameters of a query string that a route allows, by name. Raises Problem 400 naming the one that is wrong."""
    try:
        pairs = urllib.parse.parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=QUERY_MAX)
    except UnicodeDecodeError:
        raise Problem(400, "the query string is not UTF-8") from None
    except ValueError:
        raise Problem(400, f"the query string has too many parameters; allowed: {QUERY_MAX}") from None
    args: dict[str, Any] = {}
    for name, text in pairs:
        if name not in allowed:
            raise Problem(400, f"parameter {shown(name)} is unknown here; allowed: {', '.join(allowed) or 'none'}")
        parameter = next(row for row in PARAMETERS if row.name == name)
        if name in args and not parameter.repeat:
            raise Problem(400, f"parameter {name} is given more than once; once is allowed")
        if len(text) > VALUE_MAX:
            raise Problem(400, f"parameter {name} is {len(text)} characters long; allowed: {VALUE_MAX}")
        try:
            value = parameter.parse(text)
        except ValueError as error:
            raise Problem(400, f"parameter {name}: {shown(text)} is not allowed; allowed: {error}") from None
        args[name] = (*args.get(name, ()), value) if parameter.repeat else value
    return args


def check_origin(config: Config, request: Request) -> None:
    """Refuse what a browser was led to send: a foreign name for us (DNS rebinding), or a request of another site."""
    if request.headers.get("sec-fetch-site") == "cross-site":
        raise Problem(403, "a page of another site asked for this; logwatch answers only its own pages and tools")
    host = request.headers.get("host")
    if request.local or host is None:
        return
    name = re.sub(r":[0-9]{1,5}$", "", host).lower()
    own = {"localhost", "[::1]", f"[{config.listen.host}]", config.listen.host.lower(), *config.allow_host}
    if name not in own and not re.fullmatch(r"127(\.[0-9]{1,3}){3}", name):
        raise Problem(421, f"the Host {shown(name)} is not served here", f"logwatch.py --allow-host {shown(name)}")


def parse_range(text: str, size: int) -> tuple[int, int] | None:
    """The first and the last byte of a single Range (RFC 9110, 14.1.2); None where it has to be ignored.

    Raises Problem 416 where nothing of it is there.
    """
    match = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", text)
    if not match or not (match[1] or match[2]) or (match[1] and match[2] and int(match[1]) > int(match[2])):
        return None
    first = int(match[1]) if match[1] else max(0, size - int(match[2]))
    last = min(size - 1, int(match[2])) if match[1] and match[2] else size - 1
    if first >= size or match[2] == "0" and not match[1]:
        raise Problem(416, f"no byte of {text} is there: the file has {size} bytes",
                      headers=[("Content-Range", f"bytes */{size}")])
    return first, last

# --------------------------------------------------------------------------------------------------------------------
# handlers: what each path answers; ROUTES is one screen
# --------------------------------------------------------------------------------------------------------------------
class Site:
    """What outlives a request: the configuration, and what is remembered of the files and of the host."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.catalogue = Catalogue(config)
        self.index = ""             # the text of /, made of ROUTES
        self._health = Health(Host(config.proc, state_dir=config.state_dir or None))
        self._verdict: Verdict | None = None
        self._verdict_until = 0.0
        self._lock = threading.Lock()

    def is_fresh(self) -> bool:
        """Whether a verdict is at hand that is no older than VERDICT_SECONDS."""
        return time.monotonic() < self._verdict_until

    def verdict(self) -> Verdict:
        """The verdict on this box, made again when it is older than VERDICT_SECONDS."""
        with self._lock:
            if not self._verdict or not self.is_fresh():
                self._verdict = self._health.evaluate()
                self._verdict_until = time.monotonic() + VERDICT_SECONDS
            return self._verdict


Args = Mapping[str, Any]


def timestamp(seconds: float | None) -> str | None:
    """RFC 3339 in UTC, to the millisecond; None stays None."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


class Survey(NamedTuple):
    """What a file's lines say: the name of their format, the times of the first and the last one."""

    format: Format
    first: float | None
    last: float | None


def look_at_lines(root: str, file: File) -> Survey:
    """The facts of a file, from the lines at its two ends."""
    budget = Budget()
    log = Log("", root, (file,))
    with Stream(log, budget) as stream:
        source = stream.source(0)
        head = source.read(0, SNIFF_BYTES).split(b"\n")
        tail = source.read(max(0, source.size - SNIFF_BYTES), SNIFF_BYTES).split(b"\n") if isinstance(source, Plain) else []
    format_ = detect(head[:-1] or head)
    reference = file.mtime_ns / 1e9
    first, last = (next((stamp for line in lines if (stamp := format_.time(line, reference)) is not None), None)
                   for lines in (head, reversed(tail)))
    return Survey(format_, first, last)


def facts_of(site: Site, log: Log) -> Survey:
    """The facts of a whole log: the format of its newest lines, the time of the oldest and of the newest one."""
    files = [file for file in log.files if file.packing in ("", "gz") and file.size]
    found = []
    for file in files[:1] + files[-1:]:
        with contextlib.suppress(Unreadable, Moved, OSError):
            found.append(site.catalogue.memory.recall(look_at_lines, log.root, file))
    if not found:
        return Survey(TEXT, None, None)
    return Survey(found[-1].format, found[0].first, found[-1].last)


def log_state(site: Site, log: Log) -> dict[str, object]:
    """A row of the catalogue."""
    problem = log.problem
    if log.files:
        try:
            os.close(open_below(log.root, log.files[-1].parts))
        except Unreadable as error:
            problem = error
        except Moved:
            pass
    facts = facts_of(site, log) if log.files else Survey(TEXT, None, None)
    return {"name": log.name, "format": facts.format.name, "bytes": sum(file.size for file in log.files),
            "first": timestamp(facts.first), "last": timestamp(facts.last), "rotations": max(0, len(log.files) - 1),
            "readable": problem is None} | ({"reason": problem.reason, "fix": problem.fix} if problem else {})


def answer_index(site: Site, request: Request, args: Args) -> Response:
    """/: the endpoints, with an example each."""
    text = site.index.encode()
    if negotiate(request, args, ("text", "html")) == "html":
        return reply("html", page_html("logwatch", text, (("health?format=text", "health"), ("logs", "logs"))))
    return reply("text", text)


def answer_livez(site: Site, request: Request, args: Args) -> Response:
    """/livez: the server answers; no I/O."""
    return reply("text", b"ok\n")


def answer_logs(site: Site, request: Request, args: Args) -> Response:
    """/logs: the catalogue."""
    format_ = negotiate(request, args, ("text", "html", "json", "ndjson"))
    rows = [log_state(site, log) for log in site.catalogue.logs()]
    if format_ == "json":
        return reply("json", JSON({"logs": rows}).encode() + b"\n")
    if format_ == "ndjson":
        return reply("ndjson", body_of(JSON(row).encode() + b"\n" for row in rows))
    width = max((len(str(row["name"])) for row in rows), default=0)
    text = safe_text("".join(log_row(row, width) for row in rows).encode())
    if format_ == "html":
        links = [(f"logs/{row['name']}", str(row["name"])) for row in rows if row["readable"]]
        return reply("html", page_html("logs", text, links))
    return reply("text", text)


def log_row(row: Mapping[str, object], width: int) -> str:
    """A row of the catalogue as text."""
    line = f"{row['name']:<{width}} {row['bytes']:>12} {row['last'] or '-':<29} {row['format']}"
    if row["readable"]:
        return line + "\n"
    return f"{line}\n    not readable: {row['reason']}\n" + (f"    fix: {row['fix']}\n" if row["fix"] else "")


def page_of_log(site: Site, name: str, query: Query, budget: Budget) -> tuple[Log, Page]:
    """A page of a log's lines; it starts again when logrotate moves files meanwhile."""
    for _ in range(RACES):
        log = site.catalogue.find(name)
        try:
            with Stream(log, budget) as stream:
                return log, read_page(stream, query)
        except Moved:
            continue
        except OSError as error:
            raise Problem(500, f"log {name} cannot be read: {error.strerror}") from None
    raise Problem(503, f"log {name} is being moved faster than it can be read", headers=[("Retry-After", "1")])


def answer_lines(site: Site, request: Request, args: Args, name: str) -> Response:
    """/logs/NAME: lines."""
    format_ = negotiate(request, args, ("text", "html", "json", "ndjson"))
    if "after" in args and "before" in args:
        raise Problem(400, "parameters after and before exclude each other; one is allowed")
    query = Query(args.get("n", 100), every_line, args.get("after"), args.get("before"))
    log, page = page_of_log(site, name, query, Budget(gone=request.gone))
    return render_page(site, request, log, page, format_)


def relative_link(request: Request, **changed: str) -> str:
    """The request's own URL with another place, as a reference relative to it (RFC 3986, 4.2): right behind any prefix."""
    pairs = [pair for pair in urllib.parse.parse_qsl(request.query) if pair[0] not in ("after", "before")]
    return "?" + urllib.parse.urlencode([*pairs, *changed.items()])


def render_page(site: Site, request: Request, log: Log, page: Page, format_: str) -> Response:
    """A page of lines in one of the formats, with its links and its scan report."""
    following = relative_link(request, after=page.next)
    previous = relative_link(request, before=page.prev) if page.prev else ""
    links = f'<{following}>; rel="next"' + (f', <{previous}>; rel="prev"' if previous else "")
    scan = page.scan
    headers = (("Link", links), ("Logwatch-Scan", f"bytes={scan.bytes}, files={scan.files}, lines={scan.lines}, "
                                                  f"stop={scan.stop}"))
    if format_ in ("text", "html"):
        text = (safe_text(line_text(line)) for _, line in page.found)
        if format_ == "text":
            return reply("text", body_of(text), headers)
        shown_links = [("../logs", "logs"), (following, "newer"), *([(previous, "older")] if previous else [])]
        return reply("html", body_of(html_pieces(page.log, text, shown_links)), headers)
    facts = facts_of(site, log)
    entries = (JSON(entry_of(page, mark, line, facts.format, log)).encode() for mark, line in page.found)
    if format_ == "ndjson":
        return reply("ndjson", body_of(entry + b"\n" for entry in entries), headers)
    tail = {"scan": scan._asdict(), "next": following, "prev": previous or None}
    return reply("json", body_of(json_pieces({"log": page.log}, entries, tail)), headers)


def line_text(line: Line) -> bytes:
    """A line as text shows it."""
    return line.text + (b" [%d bytes cut]" % line.cut if line.cut else b"") + b"\n"


def json_pieces(head: Mapping[str, object], entries: Iterator[bytes], tail: Mapping[str, object]) -> Iterator[bytes]:
    """{head, "entries": [...], tail} without holding it whole."""
    yield JSON(head).encode()[:-1] + b',"entries":['
    for count, entry in enumerate(entries):
        yield b"," + entry if count else entry
    yield b"]," + JSON(tail).encode()[1:] + b"\n"


def html_pieces(title: str, text: Iterable[bytes], links: Sequence[tuple[str, str]]) -> Iterator[bytes]:
    """page_html without holding it whole."""
    head, end = page_html(title, b"\0", links).split(b"\0")
    yield head
    for line in text:
        yield html.escape(line.decode()).encode()
    yield end


def entry_of(page: Page, mark: Mark, line: Line, format_: Format, log: Log) -> dict[str, object]:
    """A line as JSON gives it: unknown is null."""
    level = format_.level(line.text)
    entry: dict[str, object] = {
        "time": timestamp(format_.time(line.text, log.files[-1].mtime_ns / 1e9)), "log": page.log,
        "level": None if level is None else LEVELS[level], "message": line.text.decode("utf-8", "backslashreplace"),
        "fields": format_.fields(line.text), "cursor": page.cursor(mark)}
    return entry | ({"cut": line.cut} if line.cut else {}) | ({"partial": True} if line.partial else {})


def answer_raw(site: Site, request: Request, args: Args, name: str) -> Response:
    """/logs/NAME/raw: the bytes of the live file as they were when the request came."""
    log = site.catalogue.find(name)
    try:
        fd = open_below(log.root, log.files[-1].parts)
    except Unreadable as error:
        raise Problem(403, f"log {name}: {error.reason}", error.fix) from None
    except Moved:
        raise Problem(503, f"log {name} is being rotated", headers=[("Retry-After", "1")]) from None
    body = FileBody(fd)
    found = os.fstat(fd)
    # Strong: whatever changes the bytes changes the time or the size; the inode tells a rotated file from its successor.
    etag = f'"{hashlib.blake2b(repr((found.st_ino, found.st_size, found.st_mtime_ns)).encode(), digest_size=12).hexdigest()}"'
    headers = [("ETag", etag), ("Accept-Ranges", "bytes"), ("Content-Type", "application/octet-stream"),
               ("Last-Modified", email.utils.formatdate(found.st_mtime, usegmt=True)),
               ("Content-Disposition", f'attachment; filename="{name}.log"')]
    if request.headers.get("if-none-match", "") in (etag, "*"):
        body.close()
        return Response(304, tuple(headers[:1]), b"")
    wanted = request.headers.get("range", "")
    if request.headers.get("if-range", etag) != etag:       # a date is weak here: a log changes within the second
        wanted = ""
    try:
        part = parse_range(wanted, found.st_size) if wanted else None
    except Problem:
        body.close()
        raise
    if part is None:
        return Response(200, (*headers, ("Content-Length", str(found.st_size))), body.part(0, found.st_size))
    first, last = part
    headers += [("Content-Range", f"bytes {first}-{last}/{found.st_size}"), ("Content-Length", str(last - first + 1))]
    return Response(206, tuple(headers), body.part(first, last + 1))


class FileBody:
    """A part of a file as pieces of a body; the file is closed at the end of it, or when nobody wants it any more."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._start = self._end = 0

    def part(self, start: int, end: int) -> Self:
        """The bytes from start to end."""
        self._start, self._end = start, end
        return self

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece = os.pread(self._fd, min(4 * PIECE_BYTES, self._end - self._start), self._start) if self._fd >= 0 else b""
        if not piece:
            self.close()
            raise StopIteration
        self._start += len(piece)
        return piece

    def close(self) -> None:
        """Close the file, once."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


@functools.lru_cache(maxsize=8)
def render_verdict(verdict: Verdict, format_: str) -> bytes:
    """The body of a verdict; probes ask for the same one many times a second."""
    if format_ == "text":
        return safe_text(health_text(verdict).encode())
    return JSON(health_json(verdict)).encode() + b"\n"


def health_response(request: Request, args: Args, verdict: Verdict) -> Response:
    """A verdict as health+json or text; 503 only for fail. Probes send a browser's Accept: they never get HTML."""
    format_ = args.get("format", "health")
    if format_ not in ("health", "json", "text"):
        raise Problem(400, f"parameter format: {format_!r} is not allowed here; allowed: health, json, text")
    return reply(format_, render_verdict(verdict, format_), status=verdict.http_status)


def choose_checks(verdict: Verdict, args: Args, only: str = "") -> Verdict:
    """A verdict of some of the checks. Raises Problem 404 or 400 for one that there is not."""
    if not only and "exclude" not in args:
        return verdict
    names = sorted({check.name for check in verdict.checks})
    for name in args.get("exclude", ()):
        if name not in names:
            raise Problem(400, f"parameter exclude: {shown(name)} is not allowed; allowed: {', '.join(names)}")
    if only and only not in names:
        raise Problem(404, f"there is no check {shown(only)}; there are: {', '.join(names)}")
    return verdict.keep(lambda check: check.name not in args.get("exclude", ()) and only in ("", check.name))


def answer_health(site: Site, request: Request, args: Args, check: str = "") -> Response:
    """/health and /health/CHECK."""
    return health_response(request, args, choose_checks(site.verdict(), args, check))


class Route(NamedTuple):
    """A row of ROUTES: a path with {names}, its handler and its parameters. An `instant` one needs no I/O, so the server
    answers it on its own loop."""

    path: str
    handler: Callable[..., Response]
    parameters: tuple[str, ...]
    about: str
    example: str
    instant: Callable[[Site], bool] = lambda site: False


ROUTES = (
    Route("/", answer_index, ("format",), "this list", "/", lambda site: True),
    Route("/health", answer_health, ("exclude", "format"), "is this box well? 200 for pass and warn, 503 for fail",
          "/health?format=text", Site.is_fresh),
    Route("/health/{check}", answer_health, ("format",), "one check of it", "/health/disk", Site.is_fresh),
    Route("/livez", answer_livez, (), "ok, as long as the server answers", "/livez", lambda site: True),
    Route("/logs", answer_logs, ("format",), "which logs there are, how large, from when to when, readable or why not",
          "/logs"),
    Route("/logs/{name}", answer_lines, ("n", "after", "before", "format"), "the newest lines of a log and its "
          "rotations; Link leads to older and newer ones", "/logs/syslog?n=20"),
    Route("/logs/{name}/raw", answer_raw, (), "the bytes of its live file, with Range", "/logs/syslog/raw"),
)

# --------------------------------------------------------------------------------------------------------------------
# application: the WSGI callable
# --------------------------------------------------------------------------------------------------------------------
PATHS = tuple((route, re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(route.path)))) for route in ROUTES)


def index_text(listen: Address) -> str:
    """The endpoints, with a curl line for each."""
    base = f"curl --unix-socket {listen.path} 'http://localhost" if listen.path else f"curl 'http://{listen}"
    return f"logwatch {__version__}: is this box well, and what do its logs say?\n\n" + "".join(
        f"{route.path:<20} {route.about}\n    {base}{route.example}'\n" for route in ROUTES)


class Call(NamedTuple):
    """An answer that still has to be worked out: it may read files, so the server leaves it to a worker."""

    run: Callable[[], Response]


class Application:
    """Requests in, responses out; and a PEP 3333 callable of the same."""

    def __init__(self, config: Config) -> None:
        self.site = Site(config)
        self.site.index = index_text(config.listen)

    def prepare(self, request: Request) -> Response | Call:
        """All that needs no I/O: the refusals, and the answers that are at hand; else the call that makes the answer."""
        try:
            check_origin(self.site.config, request)
            route, names = find_route(request)
            args = parse_query(request.query, route.parameters)
        except Problem as problem:
            return problem_response(problem)
        call = Call(lambda: self._answer(functools.partial(route.handler, self.site, request, args, **names)))
        return call.run() if route.instant(self.site) else call

    def respond(self, request: Request) -> Response:
        """The answer to a request."""
        prepared = self.prepare(request)
        return prepared.run() if isinstance(prepared, Call) else prepared

    def _answer(self, handler: Callable[[], Response]) -> Response:
        try:
            return handler()
        except Problem as problem:
            return problem_response(problem)
        except Exception as error:      # the one place: a defect of ours costs a request, never the server
            where = error.__traceback__
            while where and where.tb_next:
                where = where.tb_next
            print(f"logwatch: defect: {error!r} at line {where.tb_lineno if where else 0}", file=sys.stderr)
            return problem_response(Problem(500, "a defect in logwatch; its journal has the line"))

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        """PEP 3333."""
        request = request_of_environ(environ)
        if request.method in ("GET", "HEAD"):
            response = self.respond(request)
        else:
            response = problem_response(method_problem(request.method))
        headers = [*response.headers, *SECURITY_HEADERS]
        if isinstance(response.body, bytes) and response.status != 304:
            headers.append(("Content-Length", str(len(response.body))))
        start_response(f"{response.status} {http.HTTPStatus(response.status).phrase}", headers)
        if request.method == "HEAD":
            close_body(response.body)
            return []
        return [response.body] if isinstance(response.body, bytes) else response.body


def method_problem(method: str) -> Problem:
    """405 for a method that exists, 501 for one that does not (RFC 9110, 9.1)."""
    if method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"):
        return Problem(405, f"{method} is not allowed; allowed: GET, HEAD", headers=[("Allow", "GET, HEAD")])
    return Problem(501, "this method is unknown; allowed: GET, HEAD", headers=[("Allow", "GET, HEAD")])


def close_body(body: bytes | Iterator[bytes]) -> None:
    """Release what a body holds that nobody will read."""
    close = getattr(body, "close", None)
    if close:
        close()


def find_route(request: Request) -> tuple[Route, dict[str, str]]:
    """The route of a path and the names in it. Raises Problem 404."""
    for route, pattern in PATHS:
        if match := pattern.fullmatch(request.path):
            return route, match.groupdict()
    raise Problem(404, f"there is nothing at {shown(request.path)}; / lists what there is")


def request_of_environ(environ: Mapping[str, Any]) -> Request:
    """A Request from a WSGI environ."""
    headers = {key[5:].replace("_", "-").lower(): str(value) for key, value in environ.items() if key.startswith("HTTP_")}
    peer = str(environ.get("REMOTE_ADDR") or "unix")
    # PEP 3333 hands the decoded path as if it were Latin-1.
    path = str(environ.get("PATH_INFO", "")).encode("latin-1").decode("utf-8", "replace") or "/"
    return Request(str(environ["REQUEST_METHOD"]), path, str(environ.get("QUERY_STRING", "")), headers, peer,
                   peer == "unix")


@functools.cache
def default_application() -> Application:
    """The application that the environment and /etc/logwatch.ini configure, made at the first request."""
    return Application(load_config({}, os.environ))


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """The WSGI callable: gunicorn logwatch:application."""
    return default_application()(environ, start_response)

# --------------------------------------------------------------------------------------------------------------------
# server: HTTP/1.1 on a socket, and systemd's protocol
# --------------------------------------------------------------------------------------------------------------------
TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"     # RFC 9110, 5.6.2
VALUE = b"\t" + bytes(range(32, 127)) + bytes(range(128, 256))     # what a field value may hold, obs-text included
TARGET = bytes(byte for byte in range(33, 127) if byte not in b'"<>\\^`{|}#')                # RFC 3986, no fragment
SINGLE = frozenset((b"host", b"content-length", b"transfer-encoding", b"authorization", b"range", b"if-range",
                    b"x-forwarded-for", b"last-event-id", b"sec-fetch-site"))     # twice is an attempt to be misread


def refuse(detail: str, status: int = 400) -> NoReturn:
    """Raise the Problem of a request that is not well-formed."""
    raise Problem(status, detail)


def parse_head(head: bytes, peer: str, local: bool) -> tuple[Request, bool]:
    """A request's head without its empty line as a Request, and whether the connection stays open after it.

    Stricter than RFC 9112: nothing is repaired, and whatever two servers could read differently raises Problem 400
    (gunicorn CVE-2024-1135 and 2024-6827, waitress CVE-2019-16785 to 16792). Bytes are tested by sets, not by regular
    expressions (waitress CVE-2020-5236).
    """
    lines = head.split(b"\r\n")
    if b"".join(lines).translate(None, VALUE):
        refuse("the request has a control character, a bare LF or a bare CR")
    if len(lines) > HEADERS_MAX + 1:
        refuse(f"the request has more than {HEADERS_MAX} header lines", 431)
    parts = lines[0].split(b" ")
    if len(parts) != 3 or not parts[0] or parts[0].translate(None, TOKEN):
        refuse("the request line is not METHOD TARGET HTTP/1.1")
    method, target, version = parts
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        refuse("only HTTP/1.1 and HTTP/1.0 are spoken", 505 if re.fullmatch(rb"HTTP/[0-9]\.[0-9]", version) else 400)
    headers = parse_headers(lines[1:])
    if version == b"HTTP/1.1" and "host" not in headers:
        refuse("HTTP/1.1 wants a Host header")
    if method not in (b"GET", b"HEAD"):
        raise method_problem(method.decode())
    check_bodiless(headers)
    path, _, query = parse_target(target)
    connection = headers.get("connection", "").lower().split(",")
    options = {option.strip() for option in connection}
    keep = "close" not in options if version == b"HTTP/1.1" else "keep-alive" in options
    return Request(method.decode(), path, query, headers, peer, local), keep


def parse_headers(lines: Sequence[bytes]) -> dict[str, str]:
    """Header lines by lower-case name; repeated ones are joined, unless they are among SINGLE."""
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name.translate(None, TOKEN):
            refuse("a header line is not NAME: VALUE")      # also a space before the colon, and obs-fold
        name = name.lower()
        key, text = name.decode(), value.strip(b" \t").decode("latin-1")
        if key in headers:
            if name in SINGLE:
                refuse(f"the header {key} is given more than once")
            text = f"{headers[key]}, {text}"
        headers[key] = text
    host = headers.get("host", "localhost")
    if not re.fullmatch(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?", host):
        refuse("the Host header is not a host name with an optional port")
    return headers


def check_bodiless(headers: Mapping[str, str]) -> None:
    """Refuse a request that has, or could be taken to have, a body: GET and HEAD have none here."""
    if "transfer-encoding" in headers:
        refuse("Transfer-Encoding is not allowed: requests have no body here")
    if headers.get("content-length", "0") != "0":
        refuse("Content-Length is not allowed but as 0: requests have no body here")
    if "expect" in headers:
        refuse("Expect is not allowed: requests have no body here", 417)


def parse_target(target: bytes) -> tuple[str, str, str]:
    """An origin-form target as (decoded path, '', raw query)."""
    if not target.startswith(b"/") or target.translate(None, TARGET):
        refuse("the request target is not a path that begins with / and is percent-encoded")
    raw, mark, query = target.decode().partition("?")
    if re.search(r"%(?![0-9A-Fa-f]{2})", raw + mark + query):
        refuse("the request target has a % without two hexadecimal digits")
    try:
        path = urllib.parse.unquote(raw, errors="strict")
    except UnicodeDecodeError:
        refuse("the request target is not UTF-8")
    if not path.isprintable():
        refuse("the request target has a control character")
    return path, mark, query


def render_head(response: Response, keep: bool, length: int | None, chunked: bool) -> bytes:
    """The head of a response. Its own check of every header: a CR or LF in one would be a second answer."""
    lines = [f"HTTP/1.1 {response.status} {http.HTTPStatus(response.status).phrase}", f"Date: {http_date(int(time.time()))}"]
    lines += [f"{name}: {value}" for name, value in (*response.headers, *SECURITY_HEADERS)]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    if not keep:
        lines.append("Connection: close")
    text = "\r\n".join(lines)
    if len(text.splitlines()) != len(lines):
        raise ValueError(f"a header of {response.status} holds a line break")
    return (text + "\r\n\r\n").encode("latin-1")


@functools.lru_cache(maxsize=1)
def http_date(seconds: int) -> str:
    """An IMF-fixdate, made once a second."""
    return email.utils.formatdate(seconds, usegmt=True)


def access_line(peer: str, request: str, status: int, size: int, seconds: float) -> str:
    """A line of the access log: one line whatever the request held, and never its query string."""
    return f"{peer} {ascii(request)[:200]} {status} {size} {seconds * 1000:.1f}ms\n"


class Notifier:
    """systemd's side: sd_notify(3), and listening sockets handed down (sd_listen_fds(3)) or stored with it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        self._path = "\0" + path[1:] if path.startswith("@") else path
        own = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        text = environment.get("WATCHDOG_USEC", "") if own else ""
        self.watchdog_seconds = int(text) / 2e6 if text.isascii() and text.isdigit() else None   # half, as advised

    def notify(self, message: str, fds: Sequence[int] = ()) -> None:
        """Send a state; a manager that is gone is no reason to stop serving."""
        if not self._path:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            with contextlib.suppress(OSError):
                sender.connect(self._path)
                socket.send_fds(sender, [message.encode()], list(fds))


def inherited_sockets(environment: Mapping[str, str]) -> list[socket.socket]:
    """The listening sockets that systemd handed down, by activation or out of the fd store."""
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = environment.get("LISTEN_FDS", "0")
    found = []
    for fd in range(3, 3 + (int(count) if count.isdigit() and len(count) < 4 else 0)):
        os.set_inheritable(fd, False)
        listener = socket.socket(fileno=fd)
        if listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            found.append(listener)
    return found


def bind_listener(address: Address) -> socket.socket:
    """A new listening socket. Raises ConfigError where the address is taken or cannot be had."""
    if address.path:
        return bind_unix(address.path)
    try:
        family, kind, _, _, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
    except OSError as error:
        raise ConfigError(f"listen: {address}: {error.strerror}") from None
    listener.listen(CONNECTIONS_MAX)
    return listener


def bind_unix(path: str) -> socket.socket:
    """A listening unix socket of mode 0660; a stale file of an earlier server is replaced, a live one is not."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(path)
        raise ConfigError(f"listen: unix:{path}: another server answers there")
    except FileNotFoundError:
        pass
    except ConnectionRefusedError:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ConfigError(f"listen: unix:{path}: there is something that is not a socket") from None
        os.unlink(path)
    except OSError as error:
        raise ConfigError(f"listen: unix:{path}: {error.strerror}") from None
    mask = os.umask(0o117)          # a chmod() behind bind() would leave a moment of 0777
    try:
        listener.bind(path)
    except OSError as error:
        raise ConfigError(f"listen: unix:{path}: {error.strerror}") from None
    finally:
        os.umask(mask)
    listener.listen(CONNECTIONS_MAX)
    return listener


def socket_address(listener: socket.socket) -> str:
    """Where a socket listens, as `--listen` has it."""
    name = listener.getsockname()
    return f"unix:{name}" if listener.family == socket.AF_UNIX else str(Address("", name[0], name[1]))


class Connection:
    """A client: its socket, what it sent and was not answered yet, and until when it may stay silent."""

    __slots__ = ("buffer", "busy", "deadline", "local", "peer", "sock", "waiting")

    def __init__(self, sock: socket.socket, peer: str, local: bool, now: float) -> None:
        self.sock, self.peer, self.local = sock, peer, local
        self.buffer = b""
        self.busy = False               # with a worker
        self.waiting = True             # for the first byte of a request
        self.deadline = now + HEADER_SECONDS

    def is_gone(self) -> bool:
        """Whether the client has hung up, asked by a worker in the midst of a scan."""
        try:
            return self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True


class Server:
    """An HTTP/1.1 server. One thread has all connections that wait for a request, so a thousand slow ones cost memory
    and no thread; a bounded pool of workers makes the answers that read files and sends what does not fit a socket's
    buffer. What is at hand is answered on the loop itself.
    """

    def __init__(self, make_application: Callable[[], Application], listeners: Sequence[socket.socket],
                 notifier: Notifier) -> None:
        self._make, self._notifier = make_application, notifier
        self.application = make_application()
        config = self.application.site.config
        self._log, self._workers = config.access_log, config.workers
        self._pool = concurrent.futures.ThreadPoolExecutor(config.workers, "worker")
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._connections: dict[int, Connection] = {}
        self._done: collections.deque[tuple[Connection, bool]] = collections.deque()
        self._again: collections.deque[Connection] = collections.deque()    # with requests left in their buffers
        self._epoll = select.epoll()
        self._wake_in, self._wake_out = socket.socketpair()
        self._accepting = False
        self._accept_at = 0.0           # when to accept again, after EMFILE
        self._stop_at: float | None = None
        self._busy = 0
        self._signals: collections.deque[int] = collections.deque()

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        for sock in (self._wake_in, self._wake_out, *self._listeners.values()):
            sock.setblocking(False)
        self._epoll.register(self._wake_in.fileno(), select.EPOLLIN)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda number, frame: self._signals.append(number))
        signal.set_wakeup_fd(self._wake_out.fileno(), warn_on_full_buffer=False)
        self._notifier.notify("READY=1")
        while not self._finished(time.monotonic()):
            self._turn()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _turn(self) -> None:
        """One round: what is due, what is readable, what workers have finished."""
        now = time.monotonic()
        self._accept_switch(now)
        for fd, _ in self._epoll.poll(self._patience(now)):
            if fd in self._listeners:
                self._accept(self._listeners[fd])
            elif fd == self._wake_in.fileno():
                with contextlib.suppress(BlockingIOError):
                    self._wake_in.recv(4096)
            elif fd in self._connections:
                self._receive(self._connections[fd])
        while self._done:
            self._take_back(*self._done.popleft())
        for connection in [self._again.popleft() for _ in range(len(self._again))]:
            if connection.sock.fileno() in self._connections and not connection.busy:
                self._serve(connection)
        while self._signals:
            self._obey(self._signals.popleft())
        self._sweep(time.monotonic())

    def _patience(self, now: float) -> float:
        """Seconds that the loop may sleep; also what ties the watchdog's heartbeat to it."""
        if self._notifier.watchdog_seconds and now >= self._beat_at:
            self._notifier.notify("WATCHDOG=1")
            self._beat_at = now + self._notifier.watchdog_seconds
        return 0.0 if self._again else 0.05 if self._stop_at else min(1.0, self._notifier.watchdog_seconds or 1.0)

    _beat_at = 0.0
    _sweep_at = 0.0

    # Accepting ---------------------------------------------------------------------------------------------------

    def _accept_switch(self, now: float) -> None:
        """Have the listeners in the epoll set, or not: while stopping, or for a second after EMFILE, which would
        otherwise wake the loop at once and for ever."""
        wanted = self._stop_at is None and now >= self._accept_at
        if wanted != self._accepting:
            self._accepting = wanted
            for fd in self._listeners:
                if wanted:
                    self._epoll.register(fd, select.EPOLLIN)
                else:
                    self._epoll.unregister(fd)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(PIPELINE_MAX):
            try:
                sock, name = listener.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue                # gone before we came: one dead client must not stop the loop (CVE-2022-31015)
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._accept_at = time.monotonic() + 1.0
                    self._drop_idlest()
                return
            sock.setblocking(False)
            local = listener.family == socket.AF_UNIX
            if not local:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if len(self._connections) >= CONNECTIONS_MAX:
                self._drop_idlest()
            connection = Connection(sock, "unix" if local else name[0], local, time.monotonic())
            self._connections[sock.fileno()] = connection
            self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _drop_idlest(self) -> None:
        """Make room: the connection that will time out first goes, so that slow clients never lock out others."""
        idle = [connection for connection in self._connections.values() if not connection.busy]
        if idle:
            self._close(min(idle, key=lambda connection: connection.deadline))

    def _sweep(self, now: float) -> None:
        """Close whoever has been silent, or dribbling, for too long."""
        if now < self._sweep_at:
            return
        self._sweep_at = now + 0.5
        for connection in list(self._connections.values()):
            if not connection.busy and now > connection.deadline:
                if connection.buffer:
                    self._say(connection, None, problem_response(Problem(408, f"the request's head took longer than "
                                                                         f"{HEADER_SECONDS:.0f} s")), False, now)
                self._close(connection)

    def _close(self, connection: Connection) -> None:
        if self._connections.pop(connection.sock.fileno(), None):
            connection.sock.close()     # which also takes it out of the epoll set

    # Requests ----------------------------------------------------------------------------------------------------

    def _receive(self, connection: Connection) -> None:
        try:
            data = connection.sock.recv(HEADERS_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(connection)
            return
        if connection.waiting:
            connection.waiting = False
            connection.deadline = time.monotonic() + HEADER_SECONDS
        connection.buffer += data
        self._serve(connection)

    def _serve(self, connection: Connection) -> None:
        """Answer the requests that are whole in the buffer, until one needs a worker."""
        for _ in range(PIPELINE_MAX):
            head, end, rest = connection.buffer.partition(b"\r\n\r\n")
            if not end:
                break
            connection.buffer = rest
            connection.deadline = time.monotonic() + HEADER_SECONDS
            if not self._serve_one(connection, head):
                return
        if b"\r\n\r\n" in connection.buffer:
            self._again.append(connection)
        elif connection.buffer:
            if len(connection.buffer) > HEADERS_BYTES:
                self._reject(connection, Problem(431, f"the request's head is longer than {HEADERS_BYTES} bytes"))
            elif b"\n" in connection.buffer.replace(b"\r\n", b""):
                self._reject(connection, Problem(400, "the request has a bare LF"))
        else:
            connection.waiting = True
            connection.deadline = time.monotonic() + IDLE_SECONDS

    def _serve_one(self, connection: Connection, head: bytes) -> bool:
        """Answer a request, or hand it to a worker. False unless the loop may go on with this connection."""
        started = time.monotonic()
        if len(head) > HEADERS_BYTES:
            self._reject(connection, Problem(431, f"the request's head is longer than {HEADERS_BYTES} bytes"))
            return False
        try:
            request, keep = parse_head(head, connection.peer, connection.local)
        except Problem as problem:
            self._reject(connection, problem, head)
            return False
        request = request._replace(gone=connection.is_gone)
        keep = keep and self._stop_at is None
        prepared = self.application.prepare(request)
        if isinstance(prepared, Response):
            if not self._say(connection, request, prepared, keep, started):
                self._close(connection)
                return False
            return True
        if self._busy >= self._workers + QUEUE_MAX:
            busy = Problem(503, "too many requests at once", headers=[("Retry-After", "1")])
            if not self._say(connection, request, problem_response(busy), keep, started):
                self._close(connection)
                return False
            return True
        self._busy += 1
        connection.busy = True
        self._epoll.unregister(connection.sock.fileno())
        self._pool.submit(self._work, connection, request, prepared, keep, started)
        return False

    def _reject(self, connection: Connection, problem: Problem, head: bytes = b"") -> None:
        """Answer what is no request, and close: what stands behind it cannot be told apart from it (CVE-2024-49768)."""
        line = head.partition(b"\r\n")[0].partition(b"?")[0].decode("latin-1")
        self._say(connection, None, problem_response(problem), False, time.monotonic(), line)
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_WR)        # so that a reset does not overtake the answer
            connection.sock.recv(HEADERS_BYTES)
        self._close(connection)

    def _say(self, connection: Connection, request: Request | None, response: Response, keep: bool, started: float,
             line: str = "") -> bool:
        """Send a small answer at once. False where the connection has to be closed."""
        body = response.body if isinstance(response.body, bytes) else b"".join(response.body)
        head = render_head(response, keep, len(body) if response.status != 304 else None, False)
        data = head if request and request.method == "HEAD" else head + body
        try:
            sent = connection.sock.send(data)
        except OSError:
            sent = 0
        self._record(connection, request, response.status, sent, started, line)
        return keep and sent == len(data)

    def _record(self, connection: Connection, request: Request | None, status: int, size: int, started: float,
                line: str = "") -> None:
        if self._log:
            text = f"{request.method} {request.path}" if request else line
            write_stderr(access_line(connection.peer, text, status, size, time.monotonic() - started))

    # Workers -----------------------------------------------------------------------------------------------------

    def _work(self, connection: Connection, request: Request, call: Call, keep: bool, started: float) -> None:
        """In a worker: make the answer and send it, however long the client takes, up to its limit."""
        response = call.run()
        status, size = response.status, 0
        try:
            connection.sock.settimeout(SEND_SECONDS)
            size = send_response(connection.sock, request, response, keep)
            connection.sock.setblocking(False)
        except (OSError, ValueError):       # a client that vanished, or a file that became shorter than was promised
            keep = False
        finally:
            close_body(response.body)
        self._record(connection, request, status, size, started)
        self._done.append((connection, keep))
        with contextlib.suppress(BlockingIOError):
            self._wake_out.send(b"\0")

    def _take_back(self, connection: Connection, keep: bool) -> None:
        """Have a connection again that a worker had."""
        self._busy -= 1
        connection.busy = False
        if not keep:
            self._close(connection)
            return
        self._epoll.register(connection.sock.fileno(), select.EPOLLIN)
        self._serve(connection)

    # Signals -----------------------------------------------------------------------------------------------------

    def _obey(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._reload()
        elif self._stop_at is None:
            self._notifier.notify("STOPPING=1")
            self._stop_at = time.monotonic()

    def _reload(self) -> None:
        """Read the configuration again; one with an error changes nothing."""
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._notifier.notify(f"RELOADING=1\nMONOTONIC_USEC={now_us}")
        try:
            application = self._make()
        except ConfigError as error:
            write_stderr(f"logwatch: configuration not reread, the old one stays: {error}\n")
        else:
            if application.site.config.listen != self.application.site.config.listen:
                write_stderr("logwatch: listen has changed: that takes a restart\n")
            self.application = application
            self._log = application.site.config.access_log
            write_stderr("logwatch: configuration reread\n")
        self._notifier.notify("READY=1")

    def _finished(self, now: float) -> bool:
        """After SIGTERM: requests on their way on open connections are still answered, for a moment; those being
        worked on until the deadline."""
        if self._stop_at is None:
            return False
        return now > self._stop_at + (DRAIN_SECONDS if self._busy else LAME_SECONDS)


def write_stderr(text: str) -> None:
    """A line on stderr in one write; a log that cannot be written is no reason to stop serving."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode("ascii", "backslashreplace"))


def send_response(sock: socket.socket, request: Request, response: Response, keep: bool) -> int:
    """Send an answer of any size; the number of body bytes sent. Raises OSError, or ValueError for a body that is
    shorter than its Content-Length."""
    if isinstance(response.body, bytes):
        head = render_head(response, keep, len(response.body) if response.status != 304 else None, False)
        sock.sendall(head if request.method == "HEAD" else head + response.body)
        return len(response.body)
    length = next((int(value) for name, value in response.headers if name == "Content-Length"), None)
    head = render_head(response, keep, None, length is None)
    if request.method == "HEAD":
        sock.sendall(head)
        return 0
    size = 0
    for piece in response.body:
        sock.sendall(head + (piece if length is not None else b"%x\r\n%b\r\n" % (len(piece), piece)))
        head = b""
        size += len(piece)
    if length is None:
        sock.sendall(head + b"0\r\n\r\n")
    elif size != length:
        raise ValueError("the file became shorter while it was sent")
    return size

# --------------------------------------------------------------------------------------------------------------------
# command line: serve, get, config
# --------------------------------------------------------------------------------------------------------------------
def return_free_memory() -> None:
    """Give back what compiling this file took: glibc keeps 10 MB of it, a third of the whole process, until told to."""
    with contextlib.suppress(OSError, AttributeError):      # a libc without malloc_trim(3)
        ctypes.CDLL(None).malloc_trim(0)


def command_serve(config: Config, reread: Callable[[], Config], argument: str) -> int:
    """Serve until SIGTERM."""
    if not is_loopback(config.listen):
        raise ConfigError(f"listen: {config.listen} can be reached from outside this machine; allowed: a loopback address "
                          "or unix:PATH, with Nginx in front")
    if os.geteuid() == 0:
        write_stderr("logwatch: warning: running as root, so every local user can now read every log through "
                     f"{config.listen}; run it as a user of group adm instead: "
                     "runuser -u nobody -G adm -- python3 logwatch.py, or install logwatch.service\n")
    notifier = Notifier(os.environ)
    listeners = inherited_sockets(os.environ)
    stale = [listener for listener in listeners if os.environ.get("LISTEN_FDNAMES", "").startswith("http")
             and config.listen.port and socket_address(listener) != str(config.listen)]
    for listener in stale:
        listener.close()
        listeners.remove(listener)
        notifier.notify("FDSTOREREMOVE=1\nFDNAME=http")
    if not listeners:
        listeners = [bind_listener(config.listen)]
        notifier.notify("FDSTORE=1\nFDNAME=http", [listener.fileno() for listener in listeners])
    server = Server(lambda: Application(reread()), listeners, notifier)
    places = " and ".join(socket_address(listener) for listener in listeners)
    return_free_memory()
    write_stderr(f"logwatch {__version__} serving on {places if 'unix:' in places else 'http://' + places}\n")
    server.run()
    return 0


def command_get(config: Config, reread: Callable[[], Config], argument: str) -> int:
    """Print the body that a GET of URL-PATH has; a problem goes to stderr."""
    path, _, query = parse_target(os.fsencode(argument.replace(" ", "%20")))
    response = Application(config).respond(Request("GET", path, query, {}, "local", True))
    good = response.status < 300
    output = sys.stdout if good else sys.stderr
    for piece in [response.body] if isinstance(response.body, bytes) else response.body:
        output.buffer.write(piece)
    output.buffer.flush()
    return 0 if good else 1


def command_config(config: Config, reread: Callable[[], Config], argument: str) -> int:
    """Print the effective configuration as commented INI."""
    print("[logwatch]")
    for option in OPTIONS:
        value = getattr(config, option.name.replace("-", "_"))
        print(f"\n# {option.help}\n# --{option.name} {option.metavar}, {environment_name(option)}")
        texts = [option_text(item) for item in value] if option.repeat else [option_text(value)]
        print(f"{option.name} = " + "\n    ".join(texts))
    return 0


def option_text(value: object) -> str:
    """A value as its option's parser reads it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "=".join(value) if isinstance(value, tuple) and not isinstance(value, Address) else str(value)


COMMANDS: dict[str, Callable[[Config, Callable[[], Config], str], int]] = {
    "serve": command_serve, "get": command_get, "config": command_config}


def make_parser() -> argparse.ArgumentParser:
    """The command line, its options out of OPTIONS."""
    parser = argparse.ArgumentParser(
        prog="logwatch.py", description="Is this box well, and what do its logs say? Over HTTP, read-only.",
        epilog="Each option is also an environment variable (LOGWATCH_LISTEN) and a key of the [logwatch] section of the "
               "configuration file; flag beats environment beats file.")
    parser.add_argument("command", nargs="?", choices=COMMANDS, default="serve",
                        help="serve (default), get URL-PATH, config")
    parser.add_argument("argument", nargs="?", metavar="URL-PATH", help="for get: '/logs/syslog?n=5'")
    parser.add_argument("--version", action="version", version=f"logwatch {__version__} sha256:{own_digest()}")
    parser.add_argument("--config", metavar="FILE", default="", help=f"INI file (default {CONFIG_FILE}, if it is there)")
    for option in OPTIONS:
        default = f" (default {option.default})" if option.default else ""
        parser.add_argument("--" + option.name, metavar=option.metavar, action="append",
                            help=option.help.replace("%", "%%") + default)
    return parser


def own_digest() -> str:
    """The SHA-256 of this file: which copy runs here."""
    with open(__file__, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 for success, 1 for an answer that is a problem, 2 for a wrong option."""
    parser = make_parser()
    options = vars(parser.parse_args(argv))
    if (options["command"] == "get") != bool(options["argument"]):
        parser.error("get wants a URL-PATH, such as '/health'; other commands want none")
    flags = {option.name: given for option in OPTIONS if (given := options[option.name.replace("-", "_")]) is not None}

    def reread() -> Config:
        return load_config(flags, os.environ, options["config"])
    try:
        return COMMANDS[options["command"]](reread(), reread, options["argument"] or "")
    except (ConfigError, Problem) as error:
        write_stderr(f"logwatch: {error}\n")
        return 2
    except (BrokenPipeError, KeyboardInterrupt):
        return 1


if __name__ == "__main__":
    sys.exit(main())
