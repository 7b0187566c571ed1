#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""logwatch: is this box well, and what do its logs say? Asked over HTTP, answered by one read-only file.

It reads logs and /proc, and answers GET and HEAD. It never writes outside its own state directory, never connects
out (the doctor's probe of loopback, when asked for, aside), never runs a shell, and never opens a path that a client
sent: clients name logs from a list, nothing else.

    python3 logwatch.py                         serve http://127.0.0.1:5000
    python3 logwatch.py get '/logs/syslog?n=5'  the same answer, without a socket
    python3 logwatch.py --help                  everything else

How to read this file. Each section depends only on those above it:

    limits          every bound, with its unit and its reason
    errors          what can go wrong, with its HTTP status
    shapes          the values that pass between the sections
    configuration   one table of options: flags, environment, INI, help
    access          who may read a file, why not, and what would let them
    catalogue       which logs there are, and opening one safely
    line reader     lines out of a rotation set, forward and backward; cursors
    search          which lines, by fixed strings, regular expression, time and severity
    formats         timestamps, severities and fields of a line
    journal         systemd's journal as a log, through journalctl
    follow          new lines as they come
    rotation        what logrotate will do to a log
    host            what the kernel says about this box
    health          one evaluator for JSON, text and metrics
    exposition      node_exporter's names in Prometheus' text format
    trust           what readers may see, and who they are
    HTTP            request, response, negotiation, problem documents
    handlers        what each path answers; ROUTES is one screen
    application     the WSGI callable
    server          HTTP/1.1 on a socket, and systemd's protocol
    doctor          what is unreadable, will be, or is unsafe, and what mends it
    command line    serve, get, check, token, config

For the purpose: shapes, ROUTES, application. For a security review: configuration, catalogue, trust, HTTP, server, the
only places where input becomes a path, an identity or a socket. All else is text in, tuples out.
"""
from __future__ import annotations

import argparse
import base64
import binascii
import bisect
import collections
import concurrent.futures
import configparser
import contextlib
import ctypes
import errno
import fnmatch
import functools
import gc
import glob
import grp
import gzip
import hashlib
import hmac
import html
import http
import ipaddress
import itertools
import json
import math
import os
import pwd
import queue
import re
import resource
import secrets
import select
import shlex
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
import traceback
import urllib.parse
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache, partial
from typing import IO, Any, BinaryIO, NamedTuple, Self, TypeVar, cast
from zoneinfo import ZoneInfo

__version__ = "0.1.0"
T = TypeVar("T")
__all__ = ["application", "main"]

# --------------------------------------------------------------------------------------------------------------------
# limits: every bound of the program
# --------------------------------------------------------------------------------------------------------------------
LINES_MAX = 10_000              # lines an answer; a page, not a download: /raw is for that
LINE_BYTES = 65_536             # bytes of a line that are shown; the rest is counted and left out
PACKED_LINE_BYTES = 64 << 20    # of a line in a gzip file: 1 GiB of zeros, packed in 1 MB, takes 2 s to unpack
PAGE_BYTES = 4 << 20            # bytes of lines an answer; with JSON's escapes it still fits the 40 MB of a request
GZIP_IDLE_BYTES = 1 << 20       # bytes of a gzip file in a row that may give none: Python 3.12 reads 128 KiB at once
BLOCK_BYTES = 1 << 17           # bytes a read; larger ones gain 3 %, and others wait while one is masked, in 4 ms
ENTRY_BYTES = 1 << 18           # of an entry of the journal in JSON; a longer one is left out
FIRST_BLOCK_BYTES = 1 << 16     # bytes of the first read backward: most answers need no second one
TAIL_BYTES = 64                 # bytes before a place that its cursor fingerprints
HEAD_BYTES = 256                # bytes at the start of a file that its cursors fingerprint
SNIFF_BYTES = 4_096             # bytes looked at to tell text from binary and to find times
SNIFF_LINES = 50                # of them: of two bytes each they would be 1400, in 12 formats, at each change
SCAN_SECONDS = 10.0             # a scan that takes longer answers with what it has, and a cursor
LATE_SECONDS = 0.1              # for the last line, where a scan has used its time up
COPY_SECONDS = 60               # that copytruncate's copy may be older than the last line of the log it copies
OPEN_MAX = 4                    # files of a log that are open at once; a search through a year of them passes by
RACES = 8                       # times a request starts again because logrotate moved files under it
RACE_SECONDS = 0.02             # before it does
NEW_SECONDS = 0.1               # that a new file may be closed to us: logrotate makes it, then gives it its rights
LINKS_MAX = 8                   # symbolic links on the way to the folder that logs are below
DEPTH_MAX = 12                  # folders below folders that discovery goes down
NAME_CHARACTERS = 100           # of a log's name: each of its series, up to 60, repeats it; of 3 kB all were 147 MB
FILES_MAX = 20_000              # directory entries that a listing looks at; a tree beyond that wants a narrower --log
NAMES_EACH = 5                  # of entries that it has no use for: as many cost what one costs that it has
LOOK_SECONDS = 0.5              # for logs that a listing missed, and again for what files hold; the rest is believed
LISTING_SECONDS = 0.1           # of a slow listing: for ten times as long no unknown name has all listed again
TIME_MAX = 4_000_000_000        # s since 1970, of a file's time: the year 2096
FACTS_MAX = FILES_MAX           # files whose format and times are remembered: fewer would be none, asked for in turn

CONTEXT_MAX = 100               # lines around a hit
CONTEXT_BYTES = 1 << 18         # bytes before or behind a hit in which they are looked for
REGEX_MAX = 2                   # regular expressions at the same time, of two clients: each may take a core
REGEX_WAIT = 1.0                # s for another one to end
REGEX_SECONDS = 1.0             # CPU for a block of lines, a hundred times what an honest expression takes
REGEX_BYTES = 64 << 20          # address space of the child: REGEX_MAX of them and the server fit the unit's memory
REGEX_CHARACTERS = 500          # of a pattern
STATUSES_MAX = 40               # different ones that are counted of a log: each is a series; the rest by class, as 5xx
SURVEYED = 3                    # newest files of a log in which lines of a known format are looked for
COUNTED_MAX = 1_000             # logs that are counted, 50 kB of series each at most: those known longest
NAMED_MAX = 5                   # logs that its first line names; the rows behind it say what is wrong with each
TOLD_MAX = 100                  # logs that a health verdict tells of, 1 kB each; of the rest it gives the number
REASON_CHARACTERS = 400         # of why a log cannot be read, and of the command that mends it: a path may have 4 kB
CHECK_SECONDS = 0.5             # for whether logs can be read, in 50 µs if so: what was not looked at is said
NAMED_SECONDS = 60              # for which the name of a user or a group is remembered: NSS takes up to 1 ms for it
TALLY_LINES = 5_000             # lines of a log that are counted at once, in 50 to 150 ms
COUNT_SECONDS = 1.0             # for counting what was appended to all logs; the rest is counted the next time
COUNT_PATIENCE = 2.0            # s that a scrape waits for that
LOOK_PATIENCE = 0.4             # s that a health verdict waits for a look at the logs; the next one has it
STUCK_LOOK = 2.0                # s of such a look after which a verdict tells of it
TALLY_SECONDS = 5.0             # between two looks at the logs for a health verdict
ERRORS_SECONDS = 300.0          # of which the error rates are
ERRORS_RESPONSES = 20           # responses below which their share of errors says nothing
FOLLOWERS_MAX = 32              # streams at the same time, each with a thread that sleeps
FOLLOWERS_SHARE = 24            # of them, for one client
FOLLOW_SECONDS = 3_600.0        # after which a stream ends, and its client resumes: nothing lives for ever
PING_SECONDS = 15.0             # of silence, after which a stream that is not plain text says that it is alive
STREAM_LINES = 1_000            # lines that a stream reads at once, and holds while its client is slow
STREAM_BYTES = 1 << 20          # bytes of them
REGEX_PAUSE = 1.0               # s between two reads of a stream for a regular expression: each starts a Python, 40 ms
RETRY_SECONDS = 2               # after which a client of a stream that has ended comes back
WATCH_SECONDS = 0.06            # between two looks at a followed log's files

GROWN_BYTES = 1 << 20           # bytes below which a log that nobody rotates is no finding
GROWING_SECONDS = 604_800       # a week: what was not written since does not grow
LOGROTATE_BYTES = 1 << 20       # bytes of logrotate's configuration in all; a busy server has 20 kB
LOGROTATE_FILES = 300           # its files in all, and so the depth of includes; a busy server has 60
EXPOSURE_MAX = 2.0              # of 10, by systemd-analyze: the shipped unit has 0.3 on a socket, 1.0 on TCP
PROBE_SECONDS = 3.0             # for an answer through Nginx; a stream's first byte comes at once if nothing holds it
COMMAND_SECONDS = 10            # for systemctl or systemd-analyze
KEY_BYTES = 1 << 15             # bytes of a private key in PEM: 13 kB for 16384-bit RSA, twice that behind syslog heads
PSEUDONYM_CACHE = 65_536        # addresses, about 10 MB: a busy site's clients in an hour
SECRET_BYTES = 32               # bytes of os.urandom in a token
AUTHORIZATION_BYTES = 1_024     # bytes of an Authorization header; beyond them it holds no token of ours
PEERS_MAX = 4_096               # clients whose request rate is known; those seen longest ago are forgotten
FAILURES_RATE = 0.2             # wrong tokens a second that a client may send
FAILURES_BURST = 10             # wrong tokens that it may send at once

HEADERS_BYTES = 16_384          # bytes of a request's head; nginx sends less than 8 KiB
HEADERS_MAX = 64                # header lines a request
HEADER_SECONDS = 10.0           # for the whole head, from its first byte: slowloris is cut here, however it dribbles
IDLE_SECONDS = 75.0             # keep-alive; longer than the 30 s of the shipped nginx.conf, so nginx closes first
SEND_SECONDS = 30.0             # for a client to take in what it is sent, each 64 KiB of it
DRAIN_SECONDS = 8.0             # after SIGTERM; below TimeoutStopSec=10 of the shipped unit
LAME_SECONDS = 0.3              # after SIGTERM, for requests that are on their way on kept-alive connections
CONNECTIONS_MAX = 512           # of LimitNOFILE=1024 in the shipped unit, the rest for logs
SLOW_MAX = 8                    # answers that wait for slow clients, each with its lines in memory
DOWNLOADS_MAX = 64              # of /raw, each with a descriptor and a piece in memory
WORKERS_SHARE = 2               # of one client's requests: Python runs one thread at a time, and more make others wait
SWITCH_SECONDS = 0.0001         # for which a thread may keep the others from running; Python's 5 ms are felt by all
ASIDE_SECONDS = 0.05            # for which a scan lets others pass at a time, looked at each STEP_SECONDS
STEP_SECONDS = 0.0002           # between two looks whether others want to run: for so long these wait for a scan
QUEUE_MAX = 64                  # requests waiting for a worker; the next one is told 503
PIPELINE_MAX = 16               # requests answered from one read before other connections have their turn
PIECE_BYTES = 65_536            # bytes a write; an answer below it goes out in one write with its length
QUERY_MAX = 32                  # parameters a query string
VALUE_MAX = 4_096               # bytes a parameter's value
VERDICT_SECONDS = 0.9           # age at which a health verdict is made again, by a worker
GRACE_SECONDS = 0.1             # for which the server's loop may still give it, so that it never makes one itself

# --------------------------------------------------------------------------------------------------------------------
# errors: what can go wrong, with its HTTP status
# --------------------------------------------------------------------------------------------------------------------
class Problem(Exception):
    """A request that gets no answer but a reason: an RFC 9457 problem document with HTTP status `status`.

    `detail` names what was wrong and what is allowed; `fix` is the command or the change that mends it; `members` are
    further members of the document, `headers` further header lines; `retry` is the seconds of Retry-After, if any.
    """

    def __init__(self, status: int, detail: str, fix: str = "", headers: Sequence[tuple[str, str]] = (),
                 members: Mapping[str, object] | None = None, retry: float = 0.0) -> None:
        super().__init__(detail)
        self.status, self.detail, self.fix, self.members = status, detail, fix, dict(members or {})
        self.headers = (*headers, *([("Retry-After", str(math.ceil(retry)))] if retry else []))

    def document(self) -> dict[str, object]:
        """The members of the problem document: type, title, status, detail, and fix where there is one."""
        document: dict[str, object] = {"type": "about:blank", "title": http.HTTPStatus(self.status).phrase,
                                       "status": self.status, "detail": self.detail}
        return document | ({"fix": self.fix} if self.fix else {}) | self.members


class ConfigError(Exception):
    """An option, variable or configuration file that cannot be used; the message names it and what is allowed."""


class Unavailable(ConfigError):
    """An address that cannot be had now: taken, or not there yet. It may pass, so the service is started again."""


class Unreadable(Exception):
    """A file that may not or cannot be opened: `reason` in plain words, `fix` as a shell command or ''.

    Of a long reason the midst is left out; a command without its midst would be another, and the doctor has it whole.
    """

    def __init__(self, reason: str, fix: str = "") -> None:
        half = REASON_CHARACTERS // 2
        self.reason = reason if len(reason) <= REASON_CHARACTERS else f"{reason[:half]}…{reason[-half:]}"
        self.fix = fix if len(fix) <= REASON_CHARACTERS else "logwatch.py check"
        super().__init__(self.reason)


def shown(text: str) -> str:
    """Text that a client sent, for a message: quoted, ASCII, no longer than 100 characters."""
    return ascii(text) if len(text) <= 100 else ascii(text[:100]) + "..."


class Moved(Exception):
    """The files of a log changed between listing and reading them; list again."""


EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)     # our want, not the file's fault

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


SCOPES = frozenset({"health", "metrics", "logs", "raw"})


class Token(NamedTuple):
    """Who may read what. Only the secret's SHA-256 is kept; of 256 random bits there is nothing to guess."""

    name: str
    digest: str  # hex of SHA-256 of the secret
    scopes: frozenset[str] = frozenset({"health", "metrics", "logs"})  # of SCOPES
    logs: tuple[str, ...] = ()  # names of logs; empty: all


class Config(NamedTuple):
    """The effective configuration: a field for each row of OPTIONS, with underscores for dashes; those of THRESHOLDS
    together."""

    listen: Address
    log: tuple[tuple[str, str], ...]
    log_root: str
    proc: str
    sys: str
    state_dir: str
    allow_host: tuple[str, ...]
    access_log: bool
    workers: int
    rate: int
    mask: bool
    pseudonyms: bool
    tokens: tuple[Token, ...]       # the [token NAME] sections
    sources: tuple[str, ...]        # the files that all this is from
    limits: Mapping[str, float]     # the rows that THRESHOLDS added, by their names
    overruled: tuple[str, ...]      # 'LOGWATCH_LISTEN overrules /etc/logwatch.ini: listen'


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
    """A named log: its rotation set, oldest file first. `problem` says why a part of it, or all, cannot be listed;
    `folder` is the first one below root on the way to it, or '': whose it is, as far as can be told."""

    name: str
    root: str
    files: tuple[File, ...]
    problem: Unreadable | None = None
    folder: str = ""


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

    `cut` counts the bytes beyond LINE_BYTES that text lacks; `before` and `after` hold the bytes before start and
    before end, as they are in the file: cursors fingerprint them. `partial`: the newline is not written yet.
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

    stop: 'complete' (all that was asked for), 'limit' (PAGE_BYTES, or LINES_MAX with context), 'deadline'
    (SCAN_SECONDS), or 'gone' (the client).
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

    def at(self, offset: int, tail: bytes) -> Mark:
        """Another place in the same file."""
        return self._replace(offset=offset, tail=tail)


class Details(NamedTuple):
    """What the journal knows of a line; of others it is read out of their text."""

    time: float | None
    level: int | None
    fields: dict[str, object]
    message: str


class JournalCursor(NamedTuple):
    """A place in a log out of the journal: before or behind the entry that has journald's cursor `entry`; `log` stands
    for the log's name."""

    behind: bool
    log: str
    entry: str


class Found(NamedTuple):
    """A line that was asked for, and the place behind it; `context`: it only stands near one. `number`: of its file in
    the Stream, which is the one before its place's where it was written late."""

    mark: Mark | JournalCursor
    line: Line
    details: Details | None = None
    context: bool = False
    number: int = 0


class Page(NamedTuple):
    """Lines of a log in the order of the stream, with the cursors behind the last and before the first of them.

    `prev` is '' at the beginning of the stream. `cursor` makes the cursor of a line's place, and `details` reads what
    the text of a line from a file says, for those who want it.
    """

    log: str
    found: Sequence[Found]
    scan: Scan
    next: str
    prev: str
    cursor: Callable[[Any], str]
    details: Callable[[Found], Details] = lambda item: Details(None, None, {}, "")

# --------------------------------------------------------------------------------------------------------------------
# configuration: one table of options: flags, environment, INI, help
# --------------------------------------------------------------------------------------------------------------------
CONFIG_FILE = "/etc/logwatch.ini"
LOG_ROOT = "/var/log"
NAME_OK = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:+~-]{0,99}")


class Option(NamedTuple):
    """A row of OPTIONS, or of a request's PARAMETERS: `parse` turns text into the value or raises ValueError saying
    what is allowed."""

    name: str
    parse: Callable[[str], Any]
    help: str
    default: str = ""
    metavar: str = ""
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
    """'NAME=GLOB' or 'NAME=journal:UNIT' as a pair; a glob is absolute, without '..'."""
    name, _, where = text.partition("=")
    if not NAME_OK.fullmatch(name):
        raise ValueError("NAME=GLOB, with a NAME of letters, digits and . _ @ : + ~ -")
    if re.fullmatch(r"journal:[A-Za-z0-9@:._\\-]{0,200}", where):
        return name, where
    if not where.startswith("/") or ".." in where.split("/") or "\0" in where:
        raise ValueError("NAME=GLOB, with a GLOB that is an absolute path without '..', or journal:UNIT")
    return name, os.path.normpath(where)


def parse_text(pattern: str, allowed: str, convert: Callable[[str], Any] = str) -> Callable[[str], Any]:
    """A parser of texts that match a pattern as a whole; int() and float() alone would take '+1', '1_0' and 'nan'."""
    def parse(text: str) -> Any:
        if not re.fullmatch(pattern, text, re.DOTALL):
            raise ValueError(allowed)
        return convert(text)
    return parse


parse_label = parse_text(r"[A-Za-z0-9-]{1,40}", "a name of letters, digits and dashes")
parse_boolean = parse_text(r"(?i:yes|no|true|false|on|off|1|0)", "yes or no",   # a typing error switches nothing off
                           lambda text: text.lower() in ("yes", "true", "on", "1"))
parse_number = parse_text(r"[0-9]{1,15}(\.[0-9]{1,6})?", "a decimal number that is not negative", float)
parse_folder = parse_text(r"/[^\0]*", "an absolute path", os.path.normpath)
parse_optional_folder = parse_text(r"(/[^\0]*)?", "an absolute path", lambda text: text and os.path.normpath(text))
parse_host = parse_text(r"[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]", "a host name without port", str.lower)
parse_words = parse_text(r"[^\0\r\n]+", "a string that is not empty and holds no line break and no NUL")
parse_pattern = parse_text(rf"[^\0]{{1,{REGEX_CHARACTERS}}}",
                           f"a regular expression of 1 to {REGEX_CHARACTERS} characters")


def parse_integer(low: int, high: int) -> Callable[[str], int]:
    """A parser of whole decimal numbers from low to high; int() alone would take '+1', '1_0' and a megabyte of digits
    (CVE-2020-10735)."""
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or len(text) > 18 or not low <= int(text) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)
    return parse


GIB = 1 << 30
LIMITS = (  # check, unit, bad below or above, warn, fail (0: never), what is compared
    ("disk", "% left", "below", 10, 3, "space left on a file system; counts only together with disk-bytes"),
    ("disk-bytes", "bytes", "below", 10 * GIB, 5 * GIB,
     "space left on a file system; percent alone judges a smaller one"),
    ("disk-eta", "h", "below", 8, 0, "time until a file system is full, at its fastest steady rate of 0.5, 2 or 6 h"),
    ("stuck", "s", "above", 1, 60, "time for which a mount has not answered"),
    ("inodes", "% left", "below", 5, 3, "inodes left on a file system"),
    ("memory", "% left", "below", 10, 3, "memory available; never fails while the kernel sees nobody wait for memory"),
    ("swap", "%", "above", 80, 0, "swap used"),
    ("cpu-pressure", "%", "above", 80, 0, "time in the last 5 min with some task waiting for a CPU"),
    ("io-pressure", "%", "above", 60, 0, "time in the last 5 min with every task waiting for I/O"),
    ("memory-pressure", "%", "above", 10, 40, "time in the last minute with every task waiting for memory"),
    ("load", "per core", "above", 2, 10, "load over 15 min"),
    ("cpu", "%", "above", 95, 0, "CPU time used in the last minute or two"),
    ("files", "%", "above", 70, 90, "open files of the system's limit"),
    ("conntrack", "%", "above", 75, 95, "tracked connections of the limit"),
    ("oom", "min since the last", "below", 60, 0, "time since the last OOM kill"),
    ("clock", "min", "above", 180, 0, "time since the clock was last synchronised"),
    # Never fails by default: a client that provokes 5xx, or who may write to an access log, would stop the whole box.
    ("errors", "%", "above", 5, 0, "responses with status 5xx in the access logs of the last 5 min"),
    ("error-lines", "per min", "above", 60, 0,
     "lines of severity err or worse of the last 5 min in log files; the journal is not counted"),
)
# every limit is an option: name, default, unit, help
THRESHOLDS = tuple((f"{name}-{status}", default, unit, f"{what}: {status} from here on")
                   for name, unit, _, *limits, what in LIMITS for status, default in zip(("warn", "fail"), limits))

OPTIONS = (
    Option("listen", parse_address, "where to serve", "127.0.0.1:5000", "HOST:PORT|unix:PATH"),
    Option("log", parse_log, "serve the files that GLOB matches, and their rotations, as one log NAME; or, as "
           "NAME=journal:UNIT, what the journal has of a unit; none given: every text log below log-root, and the "
           "journal", metavar="NAME=GLOB", repeat=True),
    Option("log-root", parse_folder, "where logs are discovered", LOG_ROOT, "DIR"),
    Option("proc", parse_folder, "where the kernel's figures are read", "/proc", "DIR"),
    Option("sys", parse_folder, "where what it says of devices and control groups is read", "/sys", "DIR"),
    Option("state-dir", parse_optional_folder, "where disk samples and the key of cursors are kept; the only place "
           "ever written", metavar="DIR"),
    Option("allow-host", parse_host, "a further Host that requests over TCP may name, beside loopback",
           metavar="NAME", repeat=True),
    Option("access-log", parse_boolean, "a line on stderr for each request", "yes", "yes|no"),
    Option("workers", parse_integer(1, 64), "requests that may read files at the same time", "8", "N"),
    Option("rate", parse_integer(0, 100_000), "requests a second that a client may send which read files; 0: any "
           "number", "200", "N"),
    Option("mask", parse_boolean, "hide secrets in lines from those without a token of scope raw", "yes", "yes|no"),
    Option("pseudonyms", parse_boolean, "show them pseudonyms for IP addresses: the same for the same, alike for "
           "neighbours", "no", "yes|no"),
    *(Option(name, parse_number, f"health: {help_} ({unit}; 0: never)", f"{default:.15g}", "N")
      for name, default, unit, help_ in THRESHOLDS),
)


def environment_name(option: Option) -> str:
    """LOGWATCH_LOG_ROOT for log-root."""
    return "LOGWATCH_" + option.name.replace("-", "_").upper()


def environment_texts(option: Option, environment: Mapping[str, str]) -> Sequence[str] | None:
    """An option's variable, by white space divided where several values are allowed; None where it is not set."""
    text = environment.get(environment_name(option))
    return None if text is None else text.split() if option.repeat or not text.strip() else [text]


def read_ini(path: str) -> dict[str, dict[str, str]]:
    """The sections of an INI file: [logwatch] and those of tokens. Raises ConfigError."""
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), inline_comment_prefixes=("#",),
                                       default_section="")      # else [DEFAULT] would leak into every token
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file, path)
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from None
    for section in parser.sections():
        if section != "logwatch" and not section.startswith("token "):
            raise ConfigError(f"{path}: section [{section}] is unknown; allowed: [logwatch], [token NAME]")
    return {section: dict(parser[section]) for section in parser.sections()}


def parse_token(name: str, values: Mapping[str, str], source: str) -> Token:
    """A [token NAME] section: digest, and scopes and logs if they are to be fewer than all. Raises ConfigError."""
    unknown_keys = values.keys() - {"digest", "scopes", "logs"}
    if unknown_keys:
        raise ConfigError(f"{source}: {min(unknown_keys)} is unknown; allowed: digest, scopes, logs")
    digest = values.get("digest", "").lower()
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise ConfigError(f"{source}: digest is not allowed; allowed: 64 hexadecimal digits, of logwatch.py token")
    scopes = frozenset(values.get("scopes", "health metrics logs").split())
    if not scopes or scopes - SCOPES:
        allowed = " ".join(sorted(SCOPES))
        raise ConfigError(f"{source}: scopes {values.get('scopes', '')!r} is not allowed; allowed: {allowed}")
    logs = tuple(values["logs"].split()) if "logs" in values else ()
    if "logs" in values and not logs:
        raise ConfigError(f"{source}: logs is empty; allowed: names of logs, or no such line for all of them")
    return Token(name, digest, scopes, logs)


def parse_option(option: Option, texts: Sequence[str], source: str) -> object:
    """The value of an option from its texts; `source` says in errors where they stood."""
    texts = [text.strip() for text in texts if text.strip() or not option.repeat]
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
    credentials = os.path.join(environment.get("CREDENTIALS_DIRECTORY", ""), "tokens")     # LoadCredential=tokens:FILE
    sources = {name: read_ini(name) for name in (path, credentials)
               if name == path != "" or os.path.isabs(name) and os.path.exists(name)}
    ini = {name: value.split("\n") for name, value in sources.get(path, {}).get("logwatch", {}).items()}
    for name in ini.keys() - {option.name for option in OPTIONS}:
        raise ConfigError(f"{path}: {name} is unknown; allowed: {', '.join(option.name for option in OPTIONS)}")
    values: dict[str, Any] = {}
    overruled: list[str] = []
    for option in OPTIONS:
        found: dict[str, Sequence[str] | None] = {
            f"--{option.name}": flags.get(option.name),
            environment_name(option): environment_texts(option, environment),
            f"{path}: {option.name}": ini.get(option.name),
            option.name: []}
        source, *others = (source for source, texts in found.items() if texts is not None)
        overruled += [f"{source} overrules {path}: {option.name}"] if f"{path}: {option.name}" in others else []
        values[option.name.replace("-", "_")] = parse_option(option, found[source] or (), source)
    limits = {name: values.pop(name.replace("-", "_")) for name, *_ in THRESHOLDS}
    names = [name for name, _ in values["log"]]
    if len(set(names)) < len(names):
        raise ConfigError(f"log: a name is given twice: {', '.join(sorted(names))}")
    tokens = tuple(parse_token(title.removeprefix("token "), pairs, f"{name}: [{title}]")
                   for name, sections in sources.items() for title, pairs in sections.items() if title != "logwatch")
    return Config(**values, tokens=tokens, sources=tuple(sources), limits=limits, overruled=tuple(overruled))


LOOPBACK = re.compile(r"localhost|::1|\[::1\]|127(\.[0-9]{1,3}){3}")      # what only this machine can reach, or be

# --------------------------------------------------------------------------------------------------------------------
# access: who may read a file, why not, and what would let them
# --------------------------------------------------------------------------------------------------------------------
SERVICE_USER = "logwatch"
OVERFLOW_ID = 65_534            # what the kernel shows for an id that is not mapped in this namespace (PrivateUsers=)
ACL_TOOL = "" if os.path.exists("/usr/bin/setfacl") else "apt-get install acl && "     # a fresh Debian has none
READ, WRITE, ENTER = 4, 2, 1    # bits of a mode's last digit


class Finding(NamedTuple):
    """One thing that is wrong: where, what, why, and the exact command or stanza that mends it."""

    subject: str
    what: str
    why: str
    fix: str


_LETTERS = {READ: "r", ENTER: "x", READ | ENTER: "rx"}
_ACL_USER_OBJ, _ACL_USER, _ACL_GROUP_OBJ, _ACL_GROUP, _ACL_MASK, _ACL_OTHER = 1, 2, 4, 8, 16, 32  # posix_acl.h
_POWERFUL = frozenset({"root", "sudo", "shadow", "disk", "docker", "kmem", "lxd", "wheel"})  # give more than logs

AclEntry = tuple[int, int, int]  # tag, permission bits, id


class Access(NamedTuple):
    """What decides who may read: owner, group, st_mode, ACL entries (none: the mode alone)."""

    uid: int
    gid: int
    mode: int
    acl: tuple[AclEntry, ...] = ()


def _acl(path: str, name: str) -> tuple[AclEntry, ...]:
    """Read an ACL from its xattr (version 2 of linux/posix_acl_xattr.h); none set or none to be seen: ()."""
    try:
        raw = os.getxattr(path, name, follow_symlinks=False)
    except OSError:
        return ()
    return tuple(struct.iter_unpack("<HHI", raw[4:])) if len(raw) % 8 == 4 and raw[:4] == b"\x02\0\0\0" else ()


def access_of(path: str) -> Access:
    """Return the access of a file or folder, symbolic links not followed; raises OSError."""
    found = os.lstat(path)
    return Access(found.st_uid, found.st_gid, found.st_mode, _acl(path, "system.posix_acl_access"))


def allowed(access: Access, uid: int, gids: frozenset[int], want: int) -> bool:
    """Tell whether the kernel grants `want` (READ | WRITE | ENTER), as acl_permission_check() in fs/namei.c decides."""
    if uid in (0, access.uid):
        return uid == 0 or access.mode >> 6 & want == want
    if not access.acl or not access.mode & 0o070:  # with an all-zero mask the kernel does not look at the ACL
        return access.mode >> (3 if access.gid in gids else 0) & want == want
    mask = next((bits for tag, bits, _ in access.acl if tag == _ACL_MASK), 7)
    named = [bits for tag, bits, who in access.acl if tag == _ACL_USER and who == uid]
    groups = [bits for tag, bits, who in access.acl
              if (tag == _ACL_GROUP and who in gids) or (tag == _ACL_GROUP_OBJ and access.gid in gids)]
    if named or groups:
        return any(bits & mask & want == want for bits in named or groups)
    return access.mode & want == want


@functools.cache
def maps_all_ids() -> bool:
    """Whether this user namespace knows every id, as the first one does; that of PrivateUsers=yes knows its own."""
    with open("/proc/self/gid_map", "rb") as file:
        return sum(int(line.split()[2]) for line in file) >= 2**32 - 1


def is_unmapped(number: int) -> bool:
    """Whether an id is not the real one, but what the kernel shows for all that this namespace does not know."""
    return number == OVERFLOW_ID and not maps_all_ids()


@functools.lru_cache(maxsize=256)
def _name_at(look_up: Callable[[int], Sequence[Any]], number: int, moment: int) -> str:
    try:
        return str(look_up(number)[0])
    except KeyError:
        return str(number)


def _name_of(look_up: Callable[[int], Sequence[Any]], number: int) -> str:
    """Name a user or a group; where there is none (DynamicUser without libnss-systemd) by its number; else '?'."""
    return "?" if is_unmapped(number) else _name_at(look_up, number, int(time.monotonic() // NAMED_SECONDS))


user_name, group_name = partial(_name_of, pwd.getpwuid), partial(_name_of, grp.getgrgid)


def _group_names(gids: frozenset[int]) -> str:
    others = ["others"] if any(map(is_unmapped, gids)) else []
    return ", ".join(sorted(group_name(gid) for gid in gids if not is_unmapped(gid)) + others) or "none"


def _said(access: Access) -> str:
    """Show an access as `ls` does: owner:group mode, + for an ACL."""
    acl = "+" if access.acl else ""
    hidden = " (?: hidden by PrivateUsers=; `logwatch.py check` as root names it)"
    said = f"{user_name(access.uid)}:{group_name(access.gid)} {stat.S_IMODE(access.mode):04o}{acl}"
    return said + (hidden if is_unmapped(access.uid) or is_unmapped(access.gid) else "")


def quoted(path: str) -> str:
    """Quote a path for a shell and a terminal: control characters, bidi marks and odd bytes become escapes."""
    if path.isprintable():
        return shlex.quote(path)
    return "$'" + "".join(c if c.isprintable() and c not in "\\'" else "".join(f"\\x{b:02x}" for b in os.fsencode(c))
                          for c in path) + "'"


def _join(group: str, user: str) -> str:
    return f"usermod -aG {group} {user}" + (f" && systemctl restart {user}" if user == SERVICE_USER else "")


def _grant(path: str, access: Access, uid: int, gids: frozenset[int], want: int) -> str:
    """Return the least command that lets the user read the file or enter the folder."""
    where, letter, user = quoted(path), _LETTERS[want], user_name(uid)
    if uid == access.uid:
        return f"chmod u+{letter} {where}"
    if any(tag == _ACL_USER and who == uid and bits & want == want for tag, bits, who in access.acl):
        return f"{ACL_TOOL}setfacl -m m::{letter} {where}"
    if access.mode >> 3 & want == want and is_unmapped(access.gid):
        return _join(f'"$(stat -c %G {where})"', user)
    if access.mode >> 3 & want == want and access.gid not in gids and group_name(access.gid) not in _POWERFUL:
        return _join(group_name(access.gid), user)
    if access.gid in gids and not is_unmapped(access.gid):
        return f"chmod g+{letter} {where}"
    # Not for the folder's later files, by -d: then no program's umask counts there any more. "create" is for these.
    return f"{ACL_TOOL}setfacl -m u:{user}:{letter} {where}"


def _denied(path: str, access: Access, uid: int, gids: frozenset[int], want: int) -> Finding:
    verb = {READ: "read", ENTER: "enter a folder on the way to", READ | ENTER: "list"}[want]
    mapped = not is_unmapped(access.gid)  # else nobody here can tell whether it is one's own group
    named = any(tag == _ACL_USER and who == uid for tag, _, who in access.acl)
    part = "owner" if uid == access.uid else "this user by its ACL" if named else (
        "others" if access.gid not in gids else "group" if mapped else "this user")
    return Finding(path, f"{user_name(uid)} may not {verb} it",
                   f'{quoted(path)} is {_said(access)}, which gives {part} no {_LETTERS[want]}; '
                   f'{user_name(uid)} (uid {uid}) is in the groups {_group_names(gids)}',
                   _grant(path, access, uid, gids, want))


def own_groups() -> frozenset[int]:
    """The groups of this process."""
    return frozenset({os.getegid(), *os.getgroups()})


def parents(path: str) -> list[str]:
    """'/a/b' → ['/', '/a']."""
    return [path[:found.start()] or "/" for found in re.finditer("/", path)] if path != "/" else []


def why_unreadable(path: str, uid: int, gids: frozenset[int]) -> Finding | None:
    """Return why that user cannot read the log at `path`, or None if it can: walks from / and names what forbids.

    Symbolic links in the folders are followed, the last part never (as the catalogue opens). Asked about the running
    process itself, the kernel has the last word: it also knows the sandbox, and ids that are not mapped here.
    """
    mine = uid == os.geteuid() and gids >= own_groups()

    def granted(name: str, want: int, entry: Access | None = None) -> bool:
        return os.access(name, want, effective_ids=True) if mine else allowed(entry or access_of(name), uid, gids, want)
    real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    try:
        for folder in parents(real):
            if not granted(folder, ENTER):
                return _denied(folder, access_of(folder), uid, gids, ENTER)._replace(subject=path)
        entry = access_of(real)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        return Finding(path, "cannot be looked at", f"{quoted(path)}: {error}", f"ls -ld {quoted(path)}")
    if stat.S_ISDIR(entry.mode):
        return None if granted(real, READ | ENTER, entry) else _denied(real, entry, uid, gids, READ | ENTER)
    if not stat.S_ISREG(entry.mode):
        trusted = stat.S_ISLNK(entry.mode) and not entry.uid        # another's may lead to what only we may read
        fix = f"logwatch.py --log NAME={quoted(os.path.realpath(real))}" if trusted else f"ls -l {quoted(real)}"
        return Finding(path, "is no regular file", "a link, folder, pipe or device is never opened as a log", fix)
    if granted(real, READ, entry):
        return None
    if mine and allowed(entry, uid, frozenset(gid for gid in gids if not is_unmapped(gid)), READ):
        return Finding(path, f"{user_name(uid)} may not read it", f"{_said(entry)} allows it: the unit (ProtectHome=, "
                       "InaccessiblePaths=) or AppArmor forbids", f"systemctl cat {SERVICE_USER}; journalctl -k")
    return _denied(path, entry, uid, gids, READ)


def why_denied(path: str) -> Unreadable:
    """Why this process may not read `path`, and the command that mends it."""
    finding = why_unreadable(path, os.geteuid(), own_groups())
    if not finding:
        return Unreadable(f"{quoted(path)}: permission denied")
    return Unreadable(f"{finding.what}: {finding.why}", finding.fix)


def why_unopened(path: str, error: OSError) -> Unreadable:
    """Why opening `path` failed. Raises the error where that was for our want of descriptors or memory."""
    if error.errno in EXHAUSTED:
        raise error
    return why_denied(path) if isinstance(error, PermissionError) else Unreadable(f"{quoted(path)}: {error.strerror}")

# --------------------------------------------------------------------------------------------------------------------
# catalogue: which logs there are, and opening one safely
# --------------------------------------------------------------------------------------------------------------------
# A rotated name: logrotate's numbers (and .old), its dates (-20261122, -2026112214, -20261122-1763800000), the same
# before the extension, and the suffix of the compressor.
DATE_PART = r"[-.](?P<date>(?:19|20)\d{2}-?\d{2}-?\d{2}\d*(?:[-_.T]\d+){0,4})"    # one way to match: no ReDoS
PACKING_PART = r"(?P<packing>\.(?:gz|xz|zst|bz2))?"
ROTATED = re.compile(rf"(?P<stem>.+?)(?:\.(?P<number>\d{{1,4}}|old)|{DATE_PART})?{PACKING_PART}", re.DOTALL)
DATED = re.compile(rf"(?P<stem>.+?){DATE_PART}(?P<extension>\.log){PACKING_PART}", re.DOTALL)
ADDRESS_HEAD = re.compile(r"(^|\D)\d{1,3}\.\d{1,3}\.\d{1,3}$")
BINARY_NAME = re.compile(r"(wtmp|btmp|utmp|lastlog|faillog|tallylog)(\.db)?|.*\.(journal~?|db|sqlite3?|tdb|png|state)",
                         re.DOTALL)
OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY   # a FIFO would block without
OPEN_FOLDER = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
LIST_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Rotation(NamedTuple):
    """A file name taken apart: the live name, and what rotation and compression added to it."""

    stem: str
    number: str
    date: str
    packing: str


@functools.lru_cache(maxsize=FACTS_MAX)
def parse_rotation(name: str) -> Rotation:
    """'access.log.2.gz' -> ('access.log', '2', '', 'gz'); 'app-20261122.log' -> ('app.log', '', '20261122', '')."""
    if match := DATED.fullmatch(name):
        return Rotation(match["stem"] + match["extension"], "", match["date"], (match["packing"] or "")[1:])
    match = ROTATED.fullmatch(name)
    if not match or ADDRESS_HEAD.search(match["stem"]):     # Samba's log.192.0.2.1 is no rotation
        return Rotation(name, "", "", "")
    return Rotation(match["stem"], match["number"] or "", match["date"] or "", (match["packing"] or "")[1:])


@functools.cache
def kernel_devices() -> frozenset[int]:
    """The devices of /proc and /sys, whose files look regular and are not logs."""
    return frozenset(os.stat(path).st_dev for path in ("/proc", "/sys") if os.path.isdir(path))


def check_regular(found: os.stat_result, parent: os.stat_result) -> None:
    """Raise Unreadable unless `found` is a regular file that belongs where it was found."""
    if not stat.S_ISREG(found.st_mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket",
                 stat.S_IFLNK: "a symbolic link"}
        raise Unreadable(f"it is {kinds.get(stat.S_IFMT(found.st_mode), 'a device')}, not a regular file")
    if found.st_dev in kernel_devices():
        raise Unreadable("it is a file of the kernel, not a log")
    # Whoever may write in a folder may link any file of the file system into it, and have us read it to them.
    if found.st_nlink > 1 and (parent.st_uid not in (0, found.st_uid) or parent.st_mode & 0o022):
        raise Unreadable("it has a second hard link, in a folder where others than its owner may write")


def check_maker(name: str, maker: int, folder: int) -> None:
    """Raise Unreadable unless a link to a folder was made by root or by the folder's owner: who may write in a folder
    above a log must not have us read what only we may. By PrivateUsers= all but root are one: then only root's count.
    """
    if maker and (maker != os.fstat(folder).st_uid or is_unmapped(maker)):
        raise Unreadable(f"{quoted(name)} on the way to it is a symbolic link to a folder of another owner",
                         "logwatch.py --log NAME=GLOB, by the folder that it leads to")


def enter(folder: int, path: str, links: int, flags: int = OPEN_FOLDER) -> int:
    """A file descriptor of a folder, by its path from another one; so many symbolic links are followed at most."""
    here = os.open("/" if path.startswith("/") else ".", OPEN_FOLDER, dir_fd=folder)
    todo = [(name, -1) for name in path.split("/") if name][::-1]    # with a number: the maker of a link that ends here
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: os.close(here))
        while todo:
            name, maker = todo.pop()
            if maker >= 0:
                check_maker(name, maker, here)
                continue
            entry = os.open(name, OPEN_FOLDER, dir_fd=here)
            found = os.fstat(entry)
            if not stat.S_ISLNK(found.st_mode):
                os.close(here)
                here = entry
                continue
            stack.callback(os.close, entry)
            links -= 1
            if links < 0:
                raise Unreadable(f"{quoted(name)} on the way to it is a symbolic link")
            target = os.readlink("", dir_fd=entry)      # of what was looked at: no other can have taken its place
            parts = ["/"] * target.startswith("/") + [part for part in target.split("/") if part]
            todo += [(name, found.st_uid), *((part, -1) for part in reversed(parts))]
        return os.open(".", flags, dir_fd=here)


def open_below(root: str, parts: Sequence[str]) -> int:
    """A file descriptor of the regular file `parts` below `root`; no link is followed below root.

    Raises Unreadable, or Moved where it is no longer there. The one door to the file system: O_PATH needs only search
    permission on the folders on the way.
    """
    path = os.path.join(root, *parts)
    folder, found = -1, None
    try:
        top = folder = enter(-1, root, LINKS_MAX)
        if parts[1:]:
            folder = enter(top, "/".join(parts[:-1]), 0)
            os.close(top)
        found = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
        check_regular(found, os.stat(folder))       # before open(): opening a device can have effects
        fd = os.open(parts[-1], OPEN_FILE, dir_fd=folder)
    except FileNotFoundError:
        raise Moved(path) from None
    except OSError as error:
        new = found and not found.st_size and 0 <= time.time() - found.st_ctime < NEW_SECONDS
        raise (Moved(path) if new and isinstance(error, PermissionError) else why_unopened(path, error)) from None
    except Unreadable as error:
        raise Unreadable(f"{quoted(path)}: {error.reason}", error.fix) from None
    finally:
        if folder >= 0:
            os.close(folder)
    opened = os.fstat(fd)
    if (opened.st_dev, opened.st_ino) != (found.st_dev, found.st_ino):
        os.close(fd)
        raise Moved(path)
    return fd


def pattern_of_glob(name: str, where: str) -> Pattern:
    """A configured log: its root is the deepest folder of the glob without a wildcard."""
    *folders, stem = where.strip("/").split("/")
    fixed = next((index for index, part in enumerate(folders) if re.search(r"[*?[]", part)), len(folders))
    return Pattern(name, "/" + "/".join(folders[:fixed]), tuple(folders[fixed:]), stem)


def known_time(nanoseconds: int) -> int:
    """A file's time, within what can be reckoned with: its owner may set any, also before 1970."""
    return min(max(nanoseconds, 0), TIME_MAX * 10**9)


def finished(files: Sequence[File]) -> tuple[File, ...]:
    """The files of a set, oldest first: by number or by date where all rotated ones have it, else by time. Without
    those that a compressor still writes: it removes the plain file last."""
    if len(files) < 2:
        return tuple(files)
    names = {file.parts for file in files}
    done = [(parse_rotation(file.parts[-1]), file) for file in files if not file.packing or (
        *file.parts[:-1], file.parts[-1][:-len(file.packing) - 1]) not in names]
    rotated = [rotation for rotation, file in done if not file.live]
    numbered = all(rotation.number.isdigit() for rotation in rotated)
    dated = all(rotation.date for rotation in rotated)

    def key(item: tuple[Rotation, File]) -> tuple[bool, int, str, int, tuple[str, ...]]:
        rotation, file = item
        return (file.live, -int(rotation.number) if numbered and not file.live else 0,
                re.sub(r"\D", "", rotation.date) if dated else "", file.mtime_ns, file.parts)
    return tuple(file for _, file in sorted(done, key=key))


def rotation_sets(files: Iterable[File]) -> dict[tuple[str, ...], tuple[File, ...]]:
    """The files of a log by the folders and the live name of their rotation set, as a glob may match several."""
    sets: dict[tuple[str, ...], list[File]] = {}
    for file in files:
        sets.setdefault((*file.parts[:-1], parse_rotation(file.parts[-1]).stem), []).append(file)
    return {key: tuple(files) for key, files in sets.items()}


def written_files(log: Log) -> list[File]:
    """The live files of a log, of which a glob may match several; else the newest of what is left."""
    return [file for file in log.files if file.live] or list(log.files[-1:])


class Listing:
    """The `files` below `root`, down to `depth` folders below folders, by their parts, with what lstat(2) says; and the
    `folders` that they may be in.

    Only names that are `wanted`, and no more than FILES_MAX of them, or NAMES_EACH times as many that are not; `shut`
    has the folders that were not wholly looked at, and why. A folder's own entries may be half of what is left of that,
    and so may all that is below each folder in it but the last one: who fills one hides no other. No link is followed
    below root, and no folder `unlisted` is entered.
    """

    def __init__(self, root: str, depth: int, wanted: Callable[[tuple[str, ...], str], bool],
                 unlisted: Sequence[tuple[str, ...]] = ()) -> None:
        self.root, self._depth, self._wanted, self._unlisted = root, depth, wanted, unlisted
        self._left = float(FILES_MAX)
        self.files: list[tuple[tuple[str, ...], os.stat_result]] = []
        self.folders: list[tuple[str, ...]] = []
        self.shut: dict[tuple[str, ...], Unreadable] = {}
        self._closed: collections.Counter[tuple[str, ...]] = collections.Counter()      # below each folder of root
        self._look((), partial(enter, -1, root, LINKS_MAX, LIST_FOLDER))

    def _look(self, parts: tuple[str, ...], opening: Callable[[], int]) -> None:
        """Open a folder and look at all that is below it."""
        try:
            folder = opening()
            try:
                self._list(parts, folder)
            finally:
                os.close(folder)
        except (FileNotFoundError, NotADirectoryError):     # since its own folder was listed
            pass
        except OSError as error:
            self.shut[parts] = self._why(parts, error)
        except Unreadable as error:
            self.shut[parts] = Unreadable(f"{quoted(self.root)}: {error.reason}", error.fix)

    def _why(self, parts: tuple[str, ...], error: OSError) -> Unreadable:
        """Why an entry is closed to us: of very many, which nobody is told of one by one, without the walk to each."""
        path = os.path.join(self.root, *parts)
        self._closed[parts[:1]] += 1
        if self._closed[parts[:1]] <= TOLD_MAX or error.errno in EXHAUSTED:
            return why_unopened(path, error)
        return Unreadable(f"{quoted(path)}: {error.strerror}")

    def _list(self, parts: tuple[str, ...], folder: int) -> None:
        """Look at the entries of an open folder, by name, then into the folders. Raises OSError where names are all
        that can be had of it."""
        most = int(self._left / 2)
        with os.scandir(folder) as entries:
            names = [entry.name for entry in itertools.islice(entries, most * NAMES_EACH)]
            more = next(entries, None)
        wanted = sorted(name for name in names if self._wanted(parts, name))
        if more or len(wanted) > most:
            path = os.path.join(self.root, *parts)
            self.shut[parts] = Unreadable(f"{quoted(path)}: of more than {most} entries the rest is not looked at",
                                          f"logwatch.py --log NAME={quoted(os.path.join(path, 'NAME.log'))}")
        self._left -= max(min(most, len(wanted)), len(names) / NAMES_EACH)
        folders = []
        for name in wanted[:most]:
            try:
                found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:       # renamed since it was listed
                continue
            except OSError as error:        # a mount that is dead, or another user's; or no right to enter this folder
                if not os.access(".", os.X_OK, dir_fd=folder, effective_ids=True):
                    raise
                self.shut[(*parts, name)] = self._why((*parts, name), error)
                continue
            if stat.S_ISDIR(found.st_mode) and len(parts) < self._depth:
                folders += [name] if (*parts, name) not in self._unlisted else []
            else:
                self.files.append(((*parts, name), found))
        for number, name in enumerate(folders, 1):
            rest = self._left / 2 if number < len(folders) else 0.0
            self._left -= rest
            self.folders.append((*parts, name))
            self._look((*parts, name), partial(os.open, name, LIST_FOLDER, dir_fd=folder))
            self._left += rest


def file_of(parts: tuple[str, ...], found: os.stat_result, live: bool) -> File:
    """A file as it was listed. One that is packed is not live, whatever its name."""
    packing = parse_rotation(parts[-1]).packing
    return File(parts, found.st_ino, found.st_size, known_time(found.st_mtime_ns), packing, live and not packing)


def list_set(pattern: Pattern) -> Log:
    """A log with its files now, oldest first. A listing that changes while it is read is read again.

    readdir(3) promises nothing about entries that are renamed meanwhile: two listings must agree.
    """
    depth, begin = len(pattern.folders), re.split(r"[*?[.]", pattern.stem, maxsplit=1)[0]

    def matches(name: str) -> bool:
        return fnmatch.fnmatchcase(name, pattern.stem)

    def wanted(parts: tuple[str, ...], name: str) -> bool:
        if len(parts) < depth:
            return fnmatch.fnmatchcase(name, pattern.folders[len(parts)])
        # Most others begin otherwise, and to take a name apart takes 7 µs.
        return name.startswith(begin) and (matches(name) or matches(parse_rotation(name).stem))
    before: set[tuple[object, ...]] | None = None
    for _ in range(RACES):
        listing = Listing(pattern.root, depth, wanted)
        files = [file_of(parts, found, matches(parts[-1])) for parts, found in listing.files if len(parts) > depth]
        now: set[tuple[object, ...]] = {file[:2] for file in files}
        if now == before:
            break
        before = now
    return Log(pattern.name, pattern.root, finished(files), next(iter(listing.shut.values()), None),
               "".join(pattern.folders[:1]))


def told_apart(name: str, parts: Sequence[str]) -> str:
    """A name that no other log can have, made of one that others could."""
    return f"{name}~{hashlib.blake2b(os.fsencode('/'.join(parts)), digest_size=8).hexdigest()}"


def joined_name(parts: Sequence[str]) -> str:
    """'nginx-access' for nginx and access; what a URL or a list of names could not hold becomes '_'."""
    return re.sub(r"[^A-Za-z0-9._@:+-]", "_", "-".join(parts)[:NAME_CHARACTERS + 1])     # '~': see told_apart()


def log_name(folders: Sequence[str], stem: str) -> str:
    """'nginx-access' for nginx/access.log; without a stem: 'nginx' for the folder. What loses its beginning or its end
    might be another's, and gets a hash."""
    whole = joined_name((*folders, stem.removesuffix(".log")) if stem else folders)
    name = whole.lstrip("._@:+-")[:NAME_CHARACTERS]
    return name if name and name == whole else told_apart(name or "log", (*folders, stem))


@functools.lru_cache(maxsize=1)
def discovered_patterns(root: str, sets: tuple[tuple[str, ...], ...],
                        folders: tuple[tuple[str, ...], ...]) -> Mapping[tuple[str, ...], Pattern]:
    """The pattern of each rotation set below root, by its folders and its live file's name; binary ones left out.

    A name is for the set below whose folders alone it can be: app-error is app/error.log's from the time that there is
    a folder app, whatever is in it, and never app-error.log's. Else who may write in app decides by a file there which
    of the two a token for that name reads.
    """
    homes: dict[str, list[tuple[str, ...]]] = {}
    for folder in folders:
        homes.setdefault(joined_name(folder), []).append(folder)
    names = {}
    for parts in (parts for parts in sets if not BINARY_NAME.fullmatch(parts[-1])):
        name = log_name(parts[:-1], parts[-1])
        others = (folder for at, sign in enumerate(name) if sign == "-" for folder in homes.get(name[:at], ())
                  if folder != parts[:len(folder)])
        names[parts] = told_apart(name, parts) if "~" not in name and any(others) else name
    counts = collections.Counter(names.values())
    counts["journal"] += root == LOG_ROOT       # systemd's has that name
    for parts, name in names.items():
        if counts[name] > 1:        # none has it then: whom a token lets read one must not get the other
            names[parts] = told_apart(name, parts)
    return {parts: Pattern(name, root, tuple(map(glob.escape, parts[:-1])), glob.escape(parts[-1]))
            for parts, name in names.items()}


Recall = Callable[[Callable[[str, File], Any], str, File], Any]


def make_recall() -> Recall:
    """A function of (look, root, file) that says look(root, file), or, while the file stays as it is, what that said
    before; of the FACTS_MAX files asked for last. A log that grows takes the place of what it was."""
    @functools.lru_cache(maxsize=FACTS_MAX)
    def known(look: Callable[[str, File], Any], root: str, parts: tuple[str, ...]) -> list[tuple[File | None, Any]]:
        return [(None, None)]

    def recall(look: Callable[[str, File], Any], root: str, file: File) -> Any:
        last = known(look, root, file.parts)
        then, fact = last[0]
        if then != file:
            fact = look(root, file)
            last[0] = file, fact
        return fact
    return recall


CONTROL = bytes(set(range(32)) - set(b"\b\t\n\v\f\r\x1b"))      # what no text is full of


class Fed:
    """What gzip reads of a file: it passes over padding, empty members and names without end inside one call, so that
    GZIP_IDLE_BYTES in a row that give nothing are the end of it: 4 kB on disk can be a terabyte of padding."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw, self.idle = raw, 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes. Raises EOFError where too many have given nothing."""
        piece = self._raw.read(size)
        self.idle += max(len(piece), 256)       # of padding a byte is read at once: 1 MiB of it would take 0.2 s
        if self.idle > GZIP_IDLE_BYTES:
            raise EOFError(f"{GZIP_IDLE_BYTES >> 10} KiB of it hold nothing")
        return piece


def is_text(root: str, file: File) -> bool:
    """Whether a file looks like a log: it may begin with NULs, where copytruncate under a writer that does not append
    left a hole, and hold a few elsewhere. What cannot be read is listed, hence True."""
    try:
        fd = open_below(root, file.parts)
    except (Unreadable, Moved):
        return True
    with os.fdopen(fd, "rb") as opened:
        try:
            now = os.fstat(fd)
            if now.st_ino != file.ino or now.st_size < file.size:
                return True             # rotated since it was listed: an empty one in its place says nothing
            if file.packing == "gz":
                return b"\0" not in gzip.GzipFile(fileobj=cast(BinaryIO, Fed(opened)), mode="rb").read1(SNIFF_BYTES)
            head = opened.read(SNIFF_BYTES).lstrip(b"\0")
            opened.seek(max(file.size - SNIFF_BYTES, min(file.size, SNIFF_BYTES)))
            tail = opened.read(SNIFF_BYTES).lstrip(b"\0")
            odd = len(head + tail) - len((head + tail).translate(None, CONTROL))
            return odd <= max(1, len(head + tail) // 32) and (bool(head + tail) or not file.size)
        except (OSError, EOFError, zlib.error):
            return True


UNLISTED = (("journal",), ("private",))     # the journal, and what systemd closes to all but DynamicUser='s services


NAMING = ("a log that --log does not name is called by its path below the log root, with - for / and without .log: "
          "nginx/access.log is nginx-access; /logs lists them")


class Catalogue:
    """The logs there are now. Listings are read at each request, contents only where a file has changed."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._configured = {name: pattern_of_glob(name, where) for name, where in config.log
                           if not where.startswith("journal:")}
        self._discovered: dict[str, Pattern] = {}
        self._closed: list[Log] = []
        self._unknown_until = 0.0       # time.monotonic() before which the names above are all there are
        self.recall = make_recall()

    def logs(self) -> list[Log]:
        """Every log, by name; those that cannot be listed carry the reason."""
        if self.config.log:
            return [list_set(pattern) for pattern in self._configured.values()]
        began = time.monotonic()
        found, self._closed = self._discover()
        here = {pattern[1:] for pattern, _ in found}        # readdir(3) may miss what is renamed meanwhile: look again
        until = time.monotonic() + LOOK_SECONDS
        found += [(pattern, log) for pattern in self._discovered.values() if pattern[1:] not in here
                  and time.monotonic() < until and (log := list_set(pattern)).files]
        texts = [(pattern, log) for pattern, log in found
                 if time.monotonic() > until + LOOK_SECONDS or self._is_text(log)]
        self._discovered = {pattern.name: pattern for pattern, _ in texts}
        took = time.monotonic() - began
        self._unknown_until = began + 11 * took if took > LISTING_SECONDS else 0.0
        return sorted([log for _, log in texts] + self._closed, key=lambda log: log.name)

    def find(self, name: str) -> Log:
        """One log; only its own folder is listed. Raises Problem 404, or 403 with the reason."""
        pattern = self._configured.get(name) or self._discovered.get(name)
        log = list_set(pattern) if pattern else Log(name, "", ())
        if not log.files and not log.problem:
            logs = self._closed if time.monotonic() < self._unknown_until else self.logs()
            log = next((log for log in logs if log.name == name), log)
        if log.files:
            return log
        if log.problem:
            raise Problem(403, f"log {name}: {log.problem.reason}", log.problem.fix)
        if name in self._configured:
            raise Problem(404, f"log {name}: no file matches {dict(self.config.log)[name]!r} now")
        raise Problem(404, f"there is no log {name!r}; /logs lists those there are", NAMING)

    def _discover(self) -> tuple[list[tuple[Pattern, Log]], list[Log]]:
        """The rotation sets below log_root, and a Log with a problem for each folder that is closed or too full."""
        root = self.config.log_root
        listing = Listing(root, DEPTH_MAX, lambda parts, name: True, UNLISTED)
        for parts in (parts for parts, found in listing.files if stat.S_ISDIR(found.st_mode)):
            path = quoted(os.path.join(root, *parts))
            listing.shut[parts] = Unreadable(f"{path}: more than {DEPTH_MAX} folders deep it is not looked at",
                                             f"logwatch.py --log NAME={path}/NAME.log")
        sets = rotation_sets(file_of(parts, found, parts[-1] == parse_rotation(parts[-1]).stem)
                             for parts, found in listing.files if stat.S_ISREG(found.st_mode))
        patterns = discovered_patterns(root, tuple(sorted(sets)), tuple(sorted(listing.folders)))
        logs = [(pattern, Log(pattern.name, root, finished(sets[parts]), None, "".join(parts[:-1][:1])))
                for parts, pattern in patterns.items()]
        return logs, [Log(log_name(parts, "") if parts else "log", root, (), why, "".join(parts[:1]))
                      for parts, why in listing.shut.items()]

    def _is_text(self, log: Log) -> bool:
        newest = next((file for file in reversed(log.files) if file.size), None)
        return newest is None or bool(self.recall(is_text, log.root, newest))

# --------------------------------------------------------------------------------------------------------------------
# line reader: lines out of a rotation set, forward and backward; cursors
# --------------------------------------------------------------------------------------------------------------------
class Budget:
    """What a request may still spend: wall time, as long as its client is there. It counts what was read.

    `stop` says how it ended: 'complete' until the time has passed, 'deadline', or the client has gone, 'gone'; 'limit'
    where the page was full before.
    """

    def __init__(self, seconds: float | None = None, gone: Callable[[], bool] = lambda: False) -> None:
        self._deadline = time.monotonic() + (SCAN_SECONDS if seconds is None else seconds)
        self._gone = gone
        self.bytes = self.files = 0
        self.stop = "complete"
        self.notes: list[str] = []

    def spend(self, count: int) -> bool:
        """Note `count` bytes as read. False once the scan has to end, and ever after."""
        self.bytes += count
        if time.monotonic() > self._deadline:
            self.stop = "deadline"
        elif self._gone():
            self.stop = "gone"
        return self.stop in ("complete", "limit")

    def left(self) -> float:
        """Seconds to the deadline, a little more than none."""
        return max(0.01, self._deadline - time.monotonic())

    def scan(self, lines: int) -> Scan:
        """What an answer of so many lines has cost."""
        return Scan(self.bytes, self.files, lines, self.stop, tuple(dict.fromkeys(self.notes)))


class Plain:
    """A file opened for reading at any place. `size` is fixed at open: what is appended later is the next request's.

    `head` holds its first HEAD_BYTES, which cursors are recognised by.
    """

    def __init__(self, raw: BinaryIO, found: os.stat_result, budget: Budget) -> None:
        self._fd, self._budget, self.close = raw.fileno(), budget, raw.close
        self.size, self.mtime_ms = found.st_size, known_time(found.st_mtime_ns) // 1_000_000
        self.head = self.read(0, HEAD_BYTES)

    def read(self, offset: int, count: int) -> bytes:
        """Bytes from offset on, fewer only at the end. Raises Moved where the file has become shorter than it was,
        Unreadable where the disk or the network fails."""
        count = max(0, min(count, self.size - offset))
        try:
            data = os.pread(self._fd, count, offset)
        except OSError as error:
            if error.errno in EXHAUSTED:
                raise
            raise Unreadable(f"reading it fails: {error.strerror}") from None
        if len(data) < count:
            raise Moved("truncated while it was read")
        self._budget.spend(count)
        return data

    def data_from(self, offset: int) -> int:
        """Where the next byte is that is on the disk: a terabyte of zeros may take no room there, and so no time."""
        try:
            return min(self.size, os.lseek(self._fd, offset, os.SEEK_DATA))
        except OSError as error:
            return self.size if error.errno == errno.ENXIO else offset

    def size_now(self) -> int:
        """How large the file has become since it was opened."""
        return os.fstat(self._fd).st_size

    def verify(self) -> None:
        """Raise Moved where the file was truncated, and perhaps written anew, since it was opened."""
        if self.size_now() < self.size or os.pread(self._fd, len(self.head), 0) != self.head:
            raise Moved("truncated while it was read")


class Packed:
    """A gzip file read by uncompressed offset: forward as it comes, backward from its start again.

    A file that ends too early or in garbage is what was readable of it, and the scan's notes say so.
    """

    def __init__(self, raw: BinaryIO, found: os.stat_result, budget: Budget, name: str) -> None:
        self._raw, self._budget, self._name, self._ended = raw, budget, name, False
        self.close = raw.close
        self.mtime_ms = known_time(found.st_mtime_ns) // 1_000_000
        self._rewind()
        self.head = self.read(0, HEAD_BYTES)

    def _rewind(self) -> None:
        self._raw.seek(0)
        self._fed = Fed(self._raw)
        self._gzip = gzip.GzipFile(fileobj=cast(BinaryIO, self._fed), mode="rb")
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

    def end(self, reason: str) -> None:
        """Read no further, and have the scan's notes say why."""
        self._budget.notes.append(f"{self._name}: {reason}")
        self._ended = True

    def _more(self, count: int) -> bytes:
        if self._ended:
            return b""
        try:
            piece = self._gzip.read1(count)
        except (OSError, EOFError, zlib.error) as error:
            self._budget.notes.append(f"{self._name}: {error}")
            return b""
        self._fed.idle = 0
        return piece if self._budget.spend(len(piece)) else b""


Source = Plain | Packed


def tail_before(source: Source, offset: int) -> bytes:
    """The TAIL_BYTES before a place, fewer at the start of the file or where it does not reach so far."""
    return source.read(max(0, offset - TAIL_BYTES), min(offset, TAIL_BYTES))


class Block(NamedTuple):
    """Whole lines from `offset` on, and the bytes `before` them, of a file that was changed at `mtime_ms`.

    Of a single line too long for a block, `data` is the beginning, `cut` counts the rest, and `after` holds the last
    bytes of it.
    """

    offset: int
    data: bytes
    before: bytes
    mtime_ms: int = 0
    cut: int = 0
    after: bytes = b""


def line_end(source: Source, start: int, before: bytes, budget: Budget, end: int | None) -> tuple[int, bytes]:
    """Where the long line ends that `start` is in the midst of, and the bytes before that place."""
    limit = start + PACKED_LINE_BYTES
    while budget.spend(0):
        if isinstance(source, Packed) and start > limit:
            source.end(f"a line is longer than {PACKED_LINE_BYTES >> 20} MiB: what follows is not read")
        hole = source.data_from(start) - start if isinstance(source, Plain) and end is None else 0
        if hole >= TAIL_BYTES:
            start, before = start + hole, bytes(TAIL_BYTES)
        data = source.read(start, BLOCK_BYTES if end is None else min(BLOCK_BYTES, end - start))
        length = data.find(b"\n") + 1 or len(data)
        before = (before + data[max(0, length - TAIL_BYTES):length])[-TAIL_BYTES:]
        start += length
        if not length or before.endswith(b"\n"):
            break
    return start, before


def forward(source: Source, start: int, budget: Budget, end: int | None = None,
            margin: int = TAIL_BYTES) -> Iterator[Block]:
    """The lines from `start` to `end`, or to the end of the file, in blocks. Only the last may lack its newline."""
    before = source.read(max(0, start - margin), min(start, margin))
    size = FIRST_BLOCK_BYTES
    while end is None or start < end:
        data = source.read(start, size if end is None else min(size, end - start))
        if not data or budget.stop != "complete":
            return
        last = len(data) < size or start + len(data) == end
        length = len(data) if last else data.rfind(b"\n") + 1
        if length:
            yield Block(start, data[:length], before, source.mtime_ms)
            before = (before + data[max(0, length - margin):length])[-margin:]
        else:
            stop, after = line_end(source, start + len(data), data[-TAIL_BYTES:], budget, end)
            yield Block(start, data[:LINE_BYTES], before, source.mtime_ms, stop - start - LINE_BYTES, after)
            before, length = after, stop - start
        start += length
        size = BLOCK_BYTES


def line_start(source: Plain, end: int, budget: Budget) -> int:
    """Where the long line begins that `end` is in the midst of."""
    while end > 0 and budget.spend(0):
        start = max(0, end - BLOCK_BYTES)
        found = source.read(start, end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return end


def whole_place(source: Source, offset: int, budget: Budget) -> int:
    """Where to go on behind a line that was given before it was whole, and has grown since: at its start, as masking
    knows secrets by what stands before them; behind it where all that is shown of it was given."""
    if tail_before(source, offset)[-1:] in (b"", b"\n"):
        return offset
    start = max(0, offset - LINE_BYTES)
    data = source.read(start, offset - start + 1)
    at = data.rfind(b"\n", 0, offset - start) + 1
    if len(data) <= offset - start:             # nothing has grown
        return offset
    return start + at if at or not start else line_end(source, offset, data[-TAIL_BYTES - 1:-1], budget, None)[0]


def backward(source: Plain, end: int, budget: Budget, bottom: int = 0, margin: int = TAIL_BYTES) -> Iterator[Block]:
    """The lines between `bottom` and `end` in blocks, the last lines first."""
    size = FIRST_BLOCK_BYTES
    while end > bottom:
        start = max(bottom, end - size)
        head = min(start, margin)
        data = source.read(start - head, end - start + head)
        if budget.stop != "complete":
            return
        # Lines begin behind the first newline; but one at the block's very end belongs to the line that it ends.
        skip = data.find(b"\n", head, -1) + 1 if start > bottom else head
        if skip or start == bottom:
            yield Block(start - head + skip, data[skip:], data[max(0, skip - margin):skip], source.mtime_ms)
            end = start - head + skip
        else:
            begin = line_start(source, start, budget)
            yield Block(begin, source.read(begin, LINE_BYTES), tail_before(source, begin), source.mtime_ms,
                        end - begin - LINE_BYTES, data[-TAIL_BYTES:])
            end = begin
        size = min(size * 2, BLOCK_BYTES)


Span = tuple[int, int]                                              # start and end of a line in a block's data
Pick = Callable[[Block, int, bool], Sequence[Span]]                 # (block, most, from the end) -> lines in order


def every_line(block: Block, most: int, newest: bool) -> Sequence[Span]:
    """The first, or the last, `most` lines of a block, newline included, in their order."""
    data = block.data
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


Hide = Callable[[bytes], bytes]     # lines as readers may see them; as many as before


def shown_lines(data: bytes, spans: Sequence[Span], hide: Hide | None) -> list[bytes]:
    """The lines of a block at these spans, in their order, without newlines, as readers may see them."""
    if not hide or not spans:
        return [data[start:end].removesuffix(b"\n") for start, end in spans]
    # With the lines next to them: by the one before or behind it the last line of a private key is known.
    at = data.rfind(b"\n", 0, max(0, spans[0][0] - 1)) + 1
    lines = hide(data[at:data.find(b"\n", spans[-1][1]) + 1 or len(data)]).split(b"\n")
    texts, number = [], 0
    for start, _ in spans:
        number += data.count(b"\n", at, start)
        at = start
        texts.append(lines[number])
    return texts


def tail_of(block: Block, end: int) -> bytes:
    """The TAIL_BYTES before a place in a block."""
    return block.data[end - TAIL_BYTES:end] if end >= TAIL_BYTES else (block.before + block.data[:end])[-TAIL_BYTES:]


def lines_of(block: Block, pick: Pick, most: int, newest: bool, hide: Hide | None) -> list[Line]:
    """The first, or the last, `most` of the lines of a block that `pick` takes, in their order."""
    data, offset = block.data, block.offset
    spans = pick(block, most, newest)
    texts = shown_lines(data, spans, hide)
    if block.cut and texts:
        ended = block.after.endswith(b"\n")
        end = offset + len(data) + block.cut
        return [Line(offset, end, texts[0], block.cut - ended, block.before[-TAIL_BYTES:], block.after, not ended)]
    return [Line(offset + start, offset + end, text[:LINE_BYTES], max(0, len(text) - LINE_BYTES), tail_of(block, start),
                 tail_of(block, end), data[end - 1] != 10) for (start, end), text in zip(spans, texts, strict=True)]


@functools.cache
def secret_key(state_dir: str, hides: bool) -> bytes:
    """A key that stays over restarts: a file in the state directory; without one made of the machine's id, as systemd
    makes keys for applications, or, where an image has none yet, of the boot's id. Every local user knows these: where
    something `hides` behind the key, it is this process's own instead. Fingerprints of lines must not let anybody test
    what they guess of a masked line, nor pseudonyms be undone."""
    path = os.path.join(state_dir, "key")
    if state_dir and not os.path.exists(path):
        scratch = f"{path}.{secrets.token_hex(8)}"      # an empty one, of a disk that was full, would be there for good
        with contextlib.suppress(OSError), open(scratch, "xb", opener=partial(os.open, mode=0o600)) as file:
            file.write(os.urandom(SECRET_BYTES))
            file.flush()
            os.link(scratch, path)
            os.fchown(file.fileno(), *os.stat(state_dir)[4:6])      # root's `get` may be the first
        with contextlib.suppress(OSError):
            os.unlink(scratch)
    known = [] if hides else ["/etc/machine-id", "/proc/sys/kernel/random/boot_id"]
    for source in ([path] if state_dir else []) + known:
        with contextlib.suppress(OSError), open(source, "rb") as file:
            data = file.read(SECRET_BYTES)
            if len(data) == SECRET_BYTES:
                return hashlib.blake2b(b"logwatch " + data, digest_size=SECRET_BYTES).digest()
    return os.urandom(SECRET_BYTES)


def fingerprint(data: bytes, key: bytes = b"") -> bytes:
    """Eight bytes that stand for data, to those who have the key."""
    return hashlib.blake2b(data, digest_size=8, key=key).digest()


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


def behind(index: int, block: Block, final: bool) -> Mark:
    """The place behind the last line of a block, or, unless `final`, behind the last one that has its newline."""
    if block.cut:
        if final or block.after.endswith(b"\n"):
            return Mark(index, block.offset + len(block.data) + block.cut, block.after)
        return Mark(index, block.offset, block.before[-TAIL_BYTES:])
    length = len(block.data) if final else block.data.rfind(b"\n") + 1
    return Mark(index, block.offset + length, tail_of(block, length))


class Stream:
    """A log's rotation set as one stream, oldest file first, as it is at one moment.

    Raises Unreadable where a file that is needed may not be read, Moved where the set changes meanwhile.
    """

    def __init__(self, log: Log, budget: Budget, key: bytes) -> None:
        self.log, self.budget, self._key = log, budget, key
        self.files = [file for file in log.files if file.packing in ("", "gz") and (file.size or file == log.files[-1])]
        budget.notes += [f"{file.parts[-1]}: {file.packing} is not read" for file in log.files
                         if file.packing not in ("", "gz")]
        self._sources: dict[int, Source] = {}
        self._fingerprints: dict[int, tuple[int, int, bytes]] = {}

    @contextlib.contextmanager
    def opened(self) -> Iterator[Self]:
        """The stream, whose files are closed in the end; cursors can still be made of places in them."""
        if not self.files:
            raise Unreadable(f"no file of it can be read: {'; '.join(self.budget.notes)}")
        try:
            self._drop_copy_in_the_making()
            yield self
        finally:
            for source in self._sources.values():
                source.close()
            self._sources.clear()

    def verify(self) -> None:
        """Raise Moved where a file was truncated while it was read."""
        for source in self._sources.values():
            if isinstance(source, Plain):
                source.verify()

    def _stamp(self, data: bytes, offset: int = 0, head: bytes = b"") -> bytes:
        """The fingerprint of bytes at a place: elsewhere the same bytes have another one, or a client could compare."""
        return fingerprint(b"%b\0%b%b%b" % (self.log.name.encode(), head, offset.to_bytes(8), data), self._key)

    def source(self, index: int) -> Source:
        """The file at index, opened when it is first asked for. The OPEN_MAX around it stay open, and the live one."""
        if index in self._sources:
            return self._sources[index]
        if len(self._sources) >= OPEN_MAX:
            self._sources.pop(max(sorted(self._sources)[:-1], key=lambda other: abs(other - index))).close()
        file = self.files[index]
        with contextlib.ExitStack() as stack:
            raw = stack.enter_context(os.fdopen(open_below(self.log.root, file.parts), "rb"))
            found = os.fstat(raw.fileno())
            if found.st_ino != file.ino or found.st_size < file.size:
                raise Moved(file.parts[-1])     # or truncated, with a copy that was not there to be listed
            source = (Packed(raw, found, self.budget, file.parts[-1]) if file.packing
                      else Plain(raw, found, self.budget))
            stack.pop_all()
        self.budget.files += index not in self._fingerprints
        self._sources[index] = source
        self._fingerprints[index] = source.mtime_ms, len(source.head), self._stamp(source.head)
        return source

    def _drop_copy_in_the_making(self) -> None:
        """Leave out the newest rotated file while copytruncate writes it: its lines are still in the live one too."""
        if len(self.files) < 2 or any(file.packing for file in self.files[-2:]):
            return
        with contextlib.suppress(Unreadable):       # who needs it will say so
            live, copy = self.source(len(self.files) - 1), self.source(len(self.files) - 2)
            if isinstance(live, Packed) or isinstance(copy, Packed):
                return
            both = min(copy.size, live.size)        # the copy may have grown beyond what live was when it was opened
            fresh = copy.mtime_ms > live.mtime_ms - COPY_SECONDS * 1000 and copy.size <= live.size_now()
            ends = ((0, min(both, SNIFF_BYTES)), (max(0, both - SNIFF_BYTES), min(both, SNIFF_BYTES)))
            if fresh and all(copy.read(at, count) == live.read(at, count) for at, count in ends):
                copy.close()
                del self.files[-2]      # and keep the live one open: it may be truncated at any moment
                self._sources = {len(self.files) - 1: live}
                self._fingerprints = {len(self.files) - 1: self._fingerprints[len(self.files)]}

    def active(self) -> int:
        """The index of the file that is being written: the last one that is not empty."""
        return next((index for index in range(len(self.files) - 1, 0, -1) if self.files[index].size), 0)

    def cursor(self, mark: Mark) -> str:
        """The cursor of a place."""
        mtime_ms, head_size, head = self._fingerprints.get(mark.number, (0, 0, self._stamp(b"")))
        return encode_cursor(Cursor(mark.offset, mtime_ms, head_size, head,
                                    self._stamp(mark.tail, mark.offset, head), mark.prior,
                                    self._stamp(mark.prior_tail, mark.prior, head)))

    def resolve(self, cursor: Cursor) -> Mark:
        """The place that a cursor names. Raises Problem 410 where it is gone, 503 where finding it takes too long."""
        # Some compressors keep only the whole seconds of a file's time.
        newer = [index for index, file in enumerate(self.files)
                 if file.mtime_ns // 1_000_000 + 999 * (file.mtime_ns % 1_000_000_000 == 0) >= cursor.mtime_ms]
        older = [index for index in range(len(self.files) - 1, -1, -1) if index not in newer]
        for index in (*newer, *older):          # the older only if a clock was set back
            if self._has_head(index, cursor) and self._has(index, cursor.offset, cursor.tail, cursor.head):
                source = self.source(index)
                offset = whole_place(source, cursor.offset, self.budget)
                return self.with_prior(Mark(index, offset, tail_before(source, offset)), cursor)
        # A rotated file that begins the same but ends earlier is what compression or copytruncate saved of the one that
        # was read: nothing in it is new, and what may be missing lies between it and the next.
        saved = [number for number in range(len(self.files) - 1) if self._has_head(number, cursor)]
        follower = [saved[-1] + 1] if saved else []
        rest = self.start(max(newer[:1] + follower)) if newer or saved else self.end()
        if self.budget.stop != "complete":      # of a packed file, what was not unpacked is not known
            raise Problem(503, f"the place of this cursor in log {self.log.name} was not found in time: unpacking its "
                          "file takes long", "ask again, or go on with after= and the cursor in 'oldest': behind that "
                          "file", members={"oldest": self.cursor(rest)}, retry=RETRY_SECONDS)
        raise Problem(410, f"the place of this cursor in log {self.log.name} is gone: its file was deleted, "
                      "overwritten or truncated", "go on with after= and the cursor in 'oldest': behind the lost place",
                      members={"oldest": self.cursor(rest)})

    def _has_head(self, index: int, cursor: Cursor) -> bool:
        try:
            return self._stamp(self.source(index).head[:cursor.head_size]) == cursor.head
        except Unreadable:
            return False

    def _has(self, index: int, offset: int, tail: bytes, head: bytes) -> bool:
        source = self.source(index)
        if isinstance(source, Plain) and source.size < offset:
            return False
        before = tail_before(source, offset)
        return len(before) == min(offset, TAIL_BYTES) and self._stamp(before, offset, head) == tail

    def with_prior(self, mark: Mark, cursor: Cursor | None = None) -> Mark:
        """A place, with how far the plain file before it had been read, by a cursor, or else is written: a renamed one
        grows until its writer reopens."""
        with contextlib.suppress(Unreadable):
            prior = self.source(mark.number - 1) if mark.number else None
            if prior and cursor and cursor.prior != NO_PRIOR and self._has(
                    mark.number - 1, cursor.prior, cursor.prior_tail, cursor.head):
                return mark._replace(prior=cursor.prior, prior_tail=tail_before(prior, cursor.prior))
            if isinstance(prior, Plain):
                return mark._replace(prior=prior.size, prior_tail=tail_before(prior, prior.size))
        return mark

    def start(self, index: int) -> Mark:
        """The place before the first line of a file."""
        self.source(index)
        return self.with_prior(Mark(index, 0, b""))

    def end(self) -> Mark:
        """The place behind the last whole line."""
        index = self.active()
        source = self.source(index)
        mark = Mark(index, 0, b"")
        if isinstance(source, Plain):
            for block in backward(source, source.size, Budget(LATE_SECONDS)):       # one block, however late it is
                return self.with_prior(behind(index, block, False))
        for block in forward(source, 0, self.budget):
            mark = behind(index, block, True)
        return self.with_prior(mark)


Window = tuple[int, int | None]     # from where to where (None: its end) a file is read


class Query(NamedTuple):
    """Which lines: at most `n`, of `size` bytes, that `pick` takes, behind the cursor `after` or before `before`;
    with neither, the newest. `window` tells what of a file can hold such lines (None: nothing), `around` how many lines
    before and behind each are given with it. `onward`: a line whose end there was no time to find is given as it is,
    and the rest of it passed by the next time, so that it is not read again and again.
    """

    n: int = 100
    pick: Pick = every_line
    after: Cursor | JournalCursor | None = None
    before: Cursor | JournalCursor | None = None
    window: Callable[[Stream, int], Window | None] = lambda stream, number: (0, None)
    around: tuple[int, int] = (0, 0)
    hide: Hide | None = None
    size: int = PAGE_BYTES
    margin: int = TAIL_BYTES    # bytes before a block that `pick` wants to see
    onward: bool = False


def skip_unreadable(stream: Stream, index: int, found: Sequence[object]) -> Source | None:
    """The file at index; None, with a note in the scan, where it is unreadable but the answer can do without it."""
    try:
        return stream.source(index)
    except Unreadable as error:
        if index == len(stream.files) - 1 and not found:
            raise
        stream.budget.notes.append(error.reason)
        return None


def blocks_behind(stream: Stream, query: Query, mark: Mark, found: Sequence[object]) -> Iterator[
        tuple[Block, Mark, Callable[[int, bytes], Mark]]]:
    """The blocks behind a place, with the end of what is final in each, and (offset, bytes before) -> place in it: of
    what was written late to the file before, how far that one was read."""
    if mark.number and mark.prior != NO_PRIOR:
        late = skip_unreadable(stream, mark.number - 1, found)
        if late and (isinstance(late, Packed) or late.size > mark.prior):
            start = whole_place(late, mark.prior, stream.budget)
            for block in forward(late, start, stream.budget, margin=query.margin):
                yield (block, behind(mark.number - 1, block, True),
                       lambda offset, tail: mark._replace(prior=offset, prior_tail=tail))
    active = stream.active()
    for index in range(mark.number, len(stream.files)):
        source = skip_unreadable(stream, index, found) if stream.budget.stop == "complete" else None
        if not source:
            continue
        place = stream.start(index).at
        if mark.number < index <= active and source.head:       # no line, but the files before this one are done
            yield Block(0, b"", b""), Mark(index, 0, b""), place
        window = query.window(stream, index)
        if window:
            start = max(window[0], mark.offset if index == mark.number else 0)
            for block in forward(source, start, stream.budget, window[1], query.margin):
                endless = query.onward and block.cut > 0 and stream.budget.stop != "complete"
                yield block, behind(index, block, endless or index != active or isinstance(source, Packed)), place


def lines_behind(stream: Stream, query: Query, mark: Mark) -> tuple[Sequence[Found], Mark]:
    """The first lines behind a place, and the place behind the last of them, or where the scan ended.

    A line without its newline is not given while its file is being written: it is given once, when it is whole.
    """
    found: list[Found] = []
    size = 0
    for block, end, place in blocks_behind(stream, query, mark, found):
        lines = lines_of(block, query.pick, query.n - len(found), False, query.hide)
        for line in (line for line in lines if line.end <= end.offset):
            size += len(line.text)
            if size > query.size:
                stream.budget.stop = "limit"
                return found, mark
            mark = place(line.end, line.after)
            found.append(Found(mark, line, number=end.number))
        if len(found) == query.n:
            return found, mark
        mark = place(end.offset, end.tail)
    return found, mark if stream.budget.stop != "complete" else stream.with_prior(mark)


Batch = tuple[Sequence[Line], Block, Block]     # lines in their order, and the first and the last block they are from


def batches_before(source: Source, window: Window, query: Query, budget: Budget) -> Iterator[Batch]:
    """The lines of a file's window that may count, last batch first."""
    start, end = window
    if isinstance(source, Plain):
        for block in backward(source, source.size if end is None else end, budget, start, query.margin):
            yield lines_of(block, query.pick, query.n, True, query.hide), block, block
        return
    kept: collections.deque[Line] = collections.deque()     # a packed file only reads forward: one pass
    size = 0
    first = last = None
    for block in forward(source, start, budget, end, query.margin):
        for line in lines_of(block, query.pick, query.n, True, query.hide):
            kept.append(line)
            size += len(line.text)
            while len(kept) > query.n or size - len(kept[0].text) > query.size:
                size -= len(kept.popleft().text)
        first, last = first or block, block
    if budget.stop != "complete":       # further back is only beyond this file, so that it is got past
        source.end("it takes too long to unpack: only its beginning was looked at")
    if first and last:
        yield kept, first, last


def all_batches_before(stream: Stream, query: Query, place: Mark | None, found: Sequence[object]) -> Iterator[
        tuple[int, Batch | None]]:
    """The batches of lines before a place, or of the stream, the last ones first, with the index of their file; None
    behind the last one of a file that is done."""
    for index in range(place.number if place else stream.active(), -1, -1):
        source = skip_unreadable(stream, index, found)
        start, end = (query.window(stream, index) if source else None) or (0, 0)
        if place and index == place.number:
            end = place.offset if end is None else min(end, place.offset)
        for batch in batches_before(source, (start, end), query, stream.budget) if source and end != 0 else ():
            yield index, batch
        if stream.budget.stop != "complete":
            return
        if source:
            yield index, None


def lines_before(stream: Stream, query: Query, place: Mark | None) -> tuple[Sequence[Found], Mark | None, Mark]:
    """The last lines before a place, or of the stream, with the places before the first of them (None at the beginning
    of the stream) and behind the last."""
    found: collections.deque[Found] = collections.deque()
    size = 0
    first = last = place
    for index, batch in all_batches_before(stream, query, place, found):
        if not batch:
            first = Mark(index, 0, b"")
            continue
        lines, head, tail = batch
        base = stream.start(index)
        if not last:
            end = behind(index, tail, index != stream.active() or isinstance(stream.source(index), Packed))
            last = base.at(end.offset, end.tail)
        for line in reversed(lines):
            size += len(line.text)
            if size > query.size:
                stream.budget.stop = "limit"
                return found, first, last
            found.appendleft(Found(base.at(line.end, line.after), line, number=index))
            first = Mark(index, line.start, line.before)
            if len(found) == query.n:
                return found, first if index or line.start else None, last
        first = Mark(index, head.offset, head.before[-TAIL_BYTES:])
    last = last or stream.end()
    return found, first or last if stream.budget.stop != "complete" else None, last


def lines_around(source: Source, start: int, end: int, query: Query, newest: bool) -> list[Line]:
    """The last, or the first, whole lines between two places, as many as the query wants before, or behind, its
    lines."""
    most = query.around[0 if newest else 1]
    few = min(end - start, SNIFF_BYTES) if isinstance(source, Plain) or not newest else end - start
    for count in (few, end - start) if most else ():        # a packed file would begin anew to read further back
        at = end - count if newest else start
        lead = min(at, 1)
        data = source.read(at - lead, count + lead)
        block = Block(at, data[lead:], b"")
        lines = lines_of(block, every_line, most + 1, newest, query.hide)
        cut_off = not newest and len(block.data) == count       # else the file ends here
        cut_on = newest and lead and data[:lead] != b"\n"       # without what masking knows secrets by
        whole = lines[cut_on:] if newest else [line for line in lines if not (line.partial and cut_off)]
        if len(whole) >= most or count == end - start:
            return whole[-most:] if newest else whole[:most]
    return []


def mark_of(found: Found) -> Mark:
    """The place behind a line out of a file: only those of the journal have another kind."""
    return cast(Mark, found.mark)


def with_context(stream: Stream, found: Sequence[Found], query: Query) -> list[Found]:
    """The lines with those around them, each once, as grep gives them: within a file, no further than CONTEXT_BYTES;
    nothing where that were more than PAGE_BYTES, or than LINES_MAX lines. The place of a line that only stands near
    another is that other's."""
    given: list[Found] = []
    number, covered, size = -1, 0, 0
    hits = {(hit.number, hit.line.start): hit for hit in found}
    for hit in found:
        line, source = hit.line, stream.source(hit.number)
        covered = covered if hit.number == number else 0
        number, bottom = hit.number, max(covered, line.start - CONTEXT_BYTES)
        near = lines_around(source, bottom, line.start, query, True) if line.start > covered else []
        near += [line] + lines_around(source, line.end, line.end + CONTEXT_BYTES, query, False)
        for other in (other for other in near if other.start >= covered):
            size += len(other.text)
            given.append(hits.get((number, other.start)) or hit._replace(line=other, context=True))
            covered = other.end
        if (size > PAGE_BYTES or len(given) > LINES_MAX) and len(found) > 1:
            return []
    return given


def read_page(stream: Stream, query: Query) -> Page:
    """The lines that a query asks for. Raises Problem 410 where the cursor's place is gone."""
    cursor = query.after or query.before
    if isinstance(cursor, JournalCursor):
        raise Problem(400, f"this cursor is of another log than {stream.log.name}")
    if cursor and query.after:
        start = stream.resolve(cursor)
        found, last = lines_behind(stream, query, start)
        first = start if start.number or start.offset else None
    else:
        found, first, last = lines_before(stream, query, stream.resolve(cursor) if cursor else None)
    while any(query.around):
        around = with_context(stream, found, query)
        if around or len(found) < 2:
            found = around
            break
        half = len(found) // 2                  # too much for a page: the rest is for the next one
        stream.budget.stop = "limit"
        if query.after:
            found = list(found)[:half]
            last = mark_of(found[-1])
        else:
            found = list(found)[half:]
            first = mark_of(found[0])._replace(offset=found[0].line.start, tail=found[0].line.before)
    stream.verify()
    return Page(stream.log.name, tuple(found), stream.budget.scan(len(found)), stream.cursor(last),
                stream.cursor(first) if first else "", stream.cursor)

# --------------------------------------------------------------------------------------------------------------------
# search: which lines, by fixed strings, regular expression, time and severity
# --------------------------------------------------------------------------------------------------------------------
class Criteria(NamedTuple):
    """What a line must be to be found. `words` are all in it, `unwanted` are not, `pattern` matches somewhere in it."""

    words: tuple[str, ...] = ()
    unwanted: tuple[str, ...] = ()
    pattern: str = ""
    ignore_case: bool = False
    since: float = -math.inf
    until: float = math.inf
    level: int | None = None
    blind: bool = False     # not even the time that the search takes may tell of what is hidden

    def is_timed(self) -> bool:
        """Whether lines are found by their time."""
        return self.since > -math.inf or self.until < math.inf


Test = Callable[[bytes], bool]
TimeOf = Callable[[bytes], float | None]        # the time of a line, or None
TimeIn = Callable[[int], TimeOf]                # that in a file by its mtime_ms: there are stamps without a year

CASELESS = str.maketrans({0x017F: "s", 0x0130: "i", 0x0131: "i", 0x212A: "k", 0x03C2: "\u03c3", 0x00B5: "\u03bc"})


def folded(text: str) -> str:
    """Text without its case, by Unicode's rules, a character for a character; what else has the case of a letter,
    too."""
    return text.translate(CASELESS).lower().translate(CASELESS)


def contains(text: str, ignore_case: bool) -> Test:
    """A test for a fixed string; case is ignored by Unicode's rules, where bytes.lower() would know ASCII only."""
    word, small = text.encode(), folded(text)
    if not ignore_case:
        return lambda line: word in line
    return lambda line: small in folded(line.decode("utf-8", "surrogateescape"))


def needle(text: str, ignore_case: bool, masked: bool) -> bytes:
    """The longest part of a string that every line with it holds as these bytes, lower case if case is ignored.

    Only ASCII letters have one lower-case form in bytes, but for i, k and s: U+0130, U+0131, U+212A and U+017F. Where
    lines are `masked`, a part that [masked], "[masked]" or \\"[masked]\\" may have in it is not in the line itself.
    """
    borders = [r"[iksIKS]|[^\x00-\x7f]"] * ignore_case + [r'[\[\]"\\]'] * masked
    parts = re.split("|".join(borders), text.lower() if ignore_case else text) if borders else [text]
    return max((part for part in parts if not masked or part not in "masked"), key=len, default="").encode()


def literal_of(pattern: str) -> str:
    """The longest string that every match of a regular expression holds, or '' where that is not plain to see.

    Only what stands outside of groups, classes and alternatives counts; a quantifier takes its character away.
    """
    best = run = ""
    depth = 0
    for token in re.finditer(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|[{]\d*,?\d*[}]|.", pattern, re.DOTALL):
        text = token[0]
        if text == "|" or pattern.startswith("(?", token.start()) or re.fullmatch(r"\\[^\W_dDwWsSbBAZ]", text):
            return ""           # alternatives; flags such as (?x); escapes such as \\x66, which swallow what follows
        depth += (text == "(") - (text == ")")
        if depth or text in ")^$." or len(text) > 1 and (text[0] in "[{" or text[1:].isalnum()):
            run = run[:-1] if text[0] == "{" and not depth else run
            best, run = max(best, run, key=len), ""
        elif text in "*+?":
            best, run = max(best, run[:-1], key=len), ""
        else:
            run += text[-1]
    return max(best, run, key=len)


def lines_with(data: bytes, word: bytes, ignore_case: bool) -> Iterator[Span]:
    """The lines of a block that hold a fixed string: lines are cut out only around hits."""
    where = data.lower() if ignore_case else data
    place = where.find(word)
    while place >= 0:
        start = data.rfind(b"\n", 0, place) + 1
        end = data.find(b"\n", place) + 1 or len(data)
        yield start, end
        place = where.find(word, end)


def _first(values: Iterable[T | None]) -> T | None:
    """The first that is known."""
    return next((value for value in values if value is not None), None)


def spans_within(block: Block, spans: Sequence[Span], criteria: Criteria, time_of: TimeOf) -> list[Span]:
    """The spans whose lines are of the time asked for. A line without a stamp, as of a traceback, has that of the
    stamped one above it. Each line is looked at once, however many of them have none."""
    data, done, kept = block.data, 0, []
    carried = _first(map(time_of, reversed(block.before.split(b"\n")[1:])))
    for start, end in spans:
        at, seconds = start, time_of(data[start:end])
        while seconds is None and at > done:
            above = data.rfind(b"\n", 0, at - 1) + 1
            seconds, at = time_of(data[above:at]), above
        carried, done = carried if seconds is None else seconds, end
        if carried is not None and criteria.since <= carried <= criteria.until:
            kept.append((start, end))
    return kept


Matches = Callable[[Sequence[bytes]], Sequence[bool]]       # of lines, whether something is found in each


def make_pick(criteria: Criteria, time_in: TimeIn, level_of: Callable[[bytes], int | None],
              matches: Matches | None, hide: Hide | None) -> Pick:
    """A Pick of the lines that meet the criteria; `matches` tells of lines which ones the regular expression finds.

    The longest fixed string finds the lines; what is left is asked of them as `hide` leaves them, so that no answer
    tells of what is hidden. A blind search asks all of every line as it is hidden, and takes as long whatever it looks
    for.
    """
    case = criteria.ignore_case
    fixed = () if criteria.blind else (*criteria.words, literal_of(criteria.pattern))
    word = max((needle(text, case, bool(hide)) for text in fixed), key=len, default=b"")
    tests = [contains(text, case) for text in criteria.words if hide or case or text.encode() != word]
    unwanted = [contains(text, case) for text in criteria.unwanted]
    if criteria.level is not None:
        tests.append(lambda line: (level := level_of(line)) is not None and level <= (criteria.level or 0))

    def pick(block: Block, most: int, newest: bool) -> Sequence[Span]:
        data = block.data
        if not (word or tests or unwanted or matches or criteria.is_timed()):
            return every_line(block, most, newest)
        spans = list(lines_with(data, word, case)) if word else every_line(block, len(data), False)
        if criteria.is_timed():
            spans = spans_within(block, spans, criteria, time_in(block.mtime_ms))
        if tests or unwanted:
            texts = shown_lines(data, spans, hide)
            spans = [span for span, text in zip(spans, texts, strict=True)
                     if all(test(text) for test in tests) and not any(test(text) for test in unwanted)]
        if matches and spans:
            found = matches([text[:LINE_BYTES] for text in shown_lines(data, spans, hide)])
            spans = [span for span, good in zip(spans, found, strict=True) if good]
        return spans[-most:] if newest else spans[:most]
    return pick


# The regular expression runs in a child: Python's `re` cannot be stopped, and holds the interpreter's lock meanwhile.
# Each batch has its own CPU limit, by a timer whose signal kills even in the midst of a match.
REGEX_CHILD = """
import re, resource, signal, struct, sys
cpu, memory, batch = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
signal.setitimer(signal.ITIMER_PROF, batch)
text = sys.stdin.buffer.read(*struct.unpack(">I", sys.stdin.buffer.read(4)))
flags, pattern = text.decode("utf-8", "surrogateescape").split(" ", 1)
try:
    search = re.compile(pattern, re.IGNORECASE if flags == "i" else 0).search
    answer = b""
except (re.error, RecursionError, OverflowError) as error:
    search, answer = None, str(error).encode() or b"it is too large"
while True:
    sys.stdout.buffer.write(struct.pack(">I", len(answer)) + answer)
    sys.stdout.buffer.flush()
    head = sys.stdin.buffer.read(4)
    if not head or not search:
        break
    lines = sys.stdin.buffer.read(*struct.unpack(">I", head)).split(b"\\n")
    signal.setitimer(signal.ITIMER_PROF, batch)
    answer = bytes(search(line.decode("utf-8", "surrogateescape")) is not None for line in lines)
"""
REGEX_OWNERS: set[str] = set()      # whose expressions are running
REGEX_ENDED = threading.Condition()


def release_regex(owner: str) -> None:
    """Let the next one run."""
    with REGEX_ENDED:
        REGEX_OWNERS.discard(owner)
        REGEX_ENDED.notify_all()


@contextlib.contextmanager
def running_regex(pattern: str, ignore_case: bool, owner: str) -> Iterator[Matches]:
    """A regular expression in a child process that has limits on CPU and memory.

    Raises Problem 429 where REGEX_MAX are running, or one of this owner's, 400 where the pattern is wrong, or takes too
    long.
    """
    with REGEX_ENDED:
        if not REGEX_ENDED.wait_for(lambda: len(REGEX_OWNERS) < REGEX_MAX and owner not in REGEX_OWNERS, REGEX_WAIT):
            raise Problem(429, f"a regular expression of yours is running already, or {REGEX_MAX} of others",
                          "search for fixed strings with q=", retry=1)
        REGEX_OWNERS.add(owner)
    with contextlib.ExitStack() as stack:
        stack.callback(release_regex, owner)
        limits = (math.ceil(SCAN_SECONDS) + 1, REGEX_BYTES, REGEX_SECONDS)
        child = subprocess.Popen([sys.executable, "-I", "-S", "-W", "ignore", "-c", REGEX_CHILD, *map(str, limits)],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={},
                                 cwd="/")
        stack.callback(child.communicate)       # closes the pipes, and leaves no zombie
        stack.callback(child.kill)

        def ask(question: bytes) -> bytes:
            """Send a question, and read the answer. The child reads all of the first before it writes the second."""
            stdin, stdout = cast(IO[bytes], child.stdin), cast(IO[bytes], child.stdout)
            head = b""
            with contextlib.suppress(BrokenPipeError):
                stdin.write(struct.pack(">I", len(question)) + question)
                stdin.flush()
                head = stdout.read(4)
            if len(head) < 4:
                raise Problem(400, f"parameter re: {shown(pattern)} takes more than {REGEX_SECONDS:g} s of CPU, or "
                              f"{REGEX_BYTES >> 20} MiB, on one block of lines", "make it simpler: nested or adjacent "
                              "* and + take very long on long lines; or search with q=")
            return stdout.read(*struct.unpack(">I", head))

        if error := ask(f"{'i' * ignore_case} {pattern}".encode()):
            raise Problem(400, f"parameter re: {shown(pattern)} is not allowed; allowed: a regular expression in "
                          f"Python's syntax: {error.decode()}")
        yield lambda lines: [bool(byte) for byte in ask(b"\n".join(lines))]


SAMPLES = 32                    # places of a file whose times are looked at before bisection
PROBE_BYTES = 65_536            # bytes in which a stamped line has to stand for bisection to use it
DISORDER_SECONDS = 60.0         # by how much neighbouring lines may be out of order


def stamp_behind(source: Source, offset: int, time_of: TimeOf) -> float | None:
    """The time of the first stamped line that begins behind offset, or at 0, within PROBE_BYTES."""
    for count in (SNIFF_BYTES, PROBE_BYTES):
        lines = source.read(offset, count).split(b"\n")
        stamp = _first(map(time_of, lines[1 if offset else 0:max(1, len(lines) - 1)]))
        if stamp is not None:
            return stamp
    return None


def narrow(source: Plain, low: int, high: int, is_early: Callable[[float], bool], time_of: TimeOf,
           budget: Budget) -> tuple[int, int]:
    """The two places, PROBE_BYTES apart at the most while there is time, between which the stamps stop being early."""
    while high - low > PROBE_BYTES and budget.stop == "complete":
        middle = (low + high) // 2
        stamp = stamp_behind(source, middle, time_of)
        low, high = (middle, high) if stamp is not None and is_early(stamp) else (low, middle)
    return low, high


def find_range(source: Plain, since: float, until: float, time_of: TimeOf, budget: Budget) -> Window:
    """Where in a file the lines of a time are: by bisection between two of SAMPLES places, so that a stretch out of
    order, because a clock was set, is found if it is no shorter than a sample's. All of the file where looking at these
    takes more than half of the time that is left: the rest is for its lines, so that each answer gets on."""
    step = max(PROBE_BYTES, source.size // SAMPLES)
    start, end, known, reserve = 0, source.size, [(0, -math.inf)], budget.left() / 2
    for at in range(0, source.size, step):
        if budget.stop != "complete" or budget.left() < reserve:
            return start, end
        stamp = stamp_behind(source, at, time_of)
        known += [(at, stamp)] if stamp is not None else []
    known.append((source.size, math.inf))
    if since > -math.inf:
        late = next(index for index, (_, stamp) in enumerate(known) if stamp >= since)
        low, high = known[late - 1][0], known[late][0]
        start = line_start(source, narrow(source, low, high, lambda stamp: stamp < since, time_of, budget)[0], budget)
    if until < math.inf:
        early = max(index for index, (_, stamp) in enumerate(known) if stamp <= until)
        low, high = known[early][0], known[early + 1][0]
        high = narrow(source, low, high, lambda stamp: stamp <= until, time_of, budget)[1]
        end, _ = line_end(source, min(source.size, high + PROBE_BYTES), b"", budget, None)
    return start, end


def make_window(criteria: Criteria, time_in: TimeIn) -> Callable[[Stream, int], Window | None]:
    """What of a file can hold lines of the time asked for: by bisection in plain files, by the stamps that it and its
    successor begin with in packed ones."""
    since, until = criteria.since - DISORDER_SECONDS, criteria.until + DISORDER_SECONDS

    @functools.cache
    def first_stamp(stream: Stream, number: int) -> float | None:
        with contextlib.suppress(Unreadable, IndexError):
            source = stream.source(number)
            return stamp_behind(source, 0, time_in(source.mtime_ms))
        return None

    def window(stream: Stream, number: int) -> Window | None:
        source = stream.source(number)
        if isinstance(source, Plain):
            return find_range(source, since, until, time_in(source.mtime_ms), stream.budget)
        first, following = first_stamp(stream, number), first_stamp(stream, number + 1)
        if first is not None and first > until or following is not None and following < since:
            return None
        return 0, None
    return window

# --------------------------------------------------------------------------------------------------------------------
# formats: timestamps, severities and fields of a line
# --------------------------------------------------------------------------------------------------------------------
STAMP_REACH = 32768      # bytes of a line searched for its stamp: a Basic user name (8 KiB, escaped) may precede it
LEVEL_REACH = 512        # bytes searched for a level behind the stamp
CACHED_SECONDS = 8192    # converted stamps kept, about 2 MiB: neighbouring lines share their second
YEARS_BACK = 9           # years tried for a stamp without one: 29 February can be 8 years away (2096 to 2104)
WHEN_LENGTH = 64         # characters of a since= or until=
JSON_DEPTH = 100         # lists and objects in each other: Python 3.12 decodes some levels more than it encodes
EARLIEST_NUMBER = 1e8    # seconds (1973): a smaller number is a duration or an uptime, not a time
EARLIEST = -62135596800.0  # seconds: the year 1, where datetime begins
LATEST = 253402300800.0  # seconds: the year 10000, where datetime ends
DAY = 86400              # seconds


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
        second = _zoned(datetime(int(part["Y"]), _MONTHS[part["m"]], int(part["d"]), *clock), name)
    except (KeyError, ValueError, OverflowError, OSError):
        return None
    # A zone can lead out of the years that datetime has; so can the fraction of the last second, which is rounded.
    return second if second is not None and EARLIEST <= second < LATEST - 1 else None


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


def _is_deep(value: object) -> bool:
    """Whether more than JSON_DEPTH lists and objects stand in each other; without recursion, which is the danger."""
    level = [value]
    for _ in range(JSON_DEPTH + 1):
        nested = [item for item in level if isinstance(item, dict | list)]
        level = [item for outer in nested for item in (outer.values() if isinstance(outer, dict) else outer)]
    return bool(level)


@lru_cache(maxsize=1)      # time, level and fields of a line are asked for one after the other
def _json_fields(line: bytes) -> dict[str, object]:
    """The object's own top-level members; {} for anything else, and for one that is too deep."""
    try:
        value = _JSON.decode(_text(line)) if line.startswith(b"{") else {}
    except (ValueError, RecursionError):  # not JSON, digits beyond CPython's limit (CVE-2020-10735); [[[[...
        return {}
    deep = line.count(b"[") + line.count(b"{") > JSON_DEPTH and _is_deep(value)
    return value if isinstance(value, dict) and not deep else {}


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
    return float(at[1]) if at else _date_time(date_time, today) if date_time else None


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
# journal: systemd's journal as a log, through journalctl
# --------------------------------------------------------------------------------------------------------------------
JOURNAL_FOLDERS = ("/var/log/journal", "/run/log/journal")
JOURNAL_FIELDS = "MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,_COMM,_PID,SYSLOG_PID,_HOSTNAME,_SYSTEMD_UNIT"
JOURNAL_CURSOR = re.compile(r"([0-9a-f]{16});(s=[0-9a-f]{32};i=[0-9a-f]{1,16};b=[0-9a-f]{32};m=[0-9a-f]{1,16};"
                            r"t=[0-9a-f]{1,16};x=[0-9a-f]{1,16})")


def encode_journal_cursor(cursor: JournalCursor) -> str:
    """A journal cursor as text for URLs."""
    place = base64.urlsafe_b64encode(f"{cursor.log};{cursor.entry}".encode()).rstrip(b"=").decode()
    return ("~a" if cursor.behind else "~b") + place


def parse_any_cursor(text: str) -> Cursor | JournalCursor:
    """A cursor of either kind; ValueError otherwise."""
    if not text.startswith("~"):
        return parse_cursor(text)
    try:
        place = base64.b64decode(text[2:] + "=" * (-len(text[2:]) % 4), b"-_", validate=True).decode("ascii")
    except ValueError:
        place = ""
    found = JOURNAL_CURSOR.fullmatch(place)
    if text[:2] not in ("~a", "~b") or not found:
        raise ValueError("a cursor as this server gave it: in Link, next, prev or an entry's cursor")
    return JournalCursor(text[1] == "a", found[1], found[2])


def journal_files(pattern: str) -> list[str]:
    """The paths of the journal's files with such names. Raises OSError.

    Not by glob, which finds nothing, and says nothing, where no descriptor is left.
    """
    found = []
    for folder in (folder for folder in JOURNAL_FOLDERS if os.access(folder, os.R_OK | os.X_OK)):
        for machine in os.listdir(folder):
            with contextlib.suppress(NotADirectoryError, PermissionError, FileNotFoundError):
                names = fnmatch.filter(os.listdir(f"{folder}/{machine}"), pattern)
                found += [f"{folder}/{machine}/{name}" for name in names]
    return found


def journal_problem() -> Unreadable | None:
    """Why the journal cannot be read, if so: no journalctl, no journal, or no permission."""
    if not shutil.which("journalctl", path="/usr/bin:/bin"):
        return Unreadable("journalctl is not installed", "apt-get install systemd")
    files = journal_files("system.journal")
    if not files:
        folder = next((path for path in JOURNAL_FOLDERS if os.path.isdir(path)), "")
        return why_denied(folder) if folder and not os.access(folder, os.R_OK | os.X_OK) else Unreadable(
            "there is no journal on this machine", "systemctl start systemd-journald")
    return None if any(os.access(path, os.R_OK) for path in files) else why_denied(files[0])


def journal_arguments(unit: str, criteria: Criteria, place: JournalCursor | None, reverse: bool) -> list[str]:
    """journalctl's arguments; nothing in them is text of a client's but checked numbers and cursors."""
    arguments = ["journalctl", "--output=json", "--no-pager", "--quiet", "--all",
                 f"--output-fields={JOURNAL_FIELDS}"]
    arguments += [f"--unit={unit}"] if unit else []
    arguments += [f"--since=@{criteria.since:.6f}"] if criteria.since > -math.inf and not place else []     # not both
    # Back from a place systemd 252 forgets --until, and 257 ends at once where the place is later.
    until = criteria.until < math.inf and not (place and reverse)
    arguments += [f"--until=@{criteria.until:.6f}"] if until else []
    arguments += [f"--priority={criteria.level}"] if criteria.level is not None else []
    arguments += [f"--cursor={place.entry}"] if place else []   # --after-cursor skips two where the filter takes it out
    return [*arguments, "--reverse"] if reverse else arguments


def journal_text(value: object) -> str:
    """A field of the journal as text: it may be an array of bytes where it is not UTF-8, or of values where
    repeated."""
    if isinstance(value, list) and value and all(isinstance(byte, int) and 0 <= byte < 256 for byte in value):
        return bytes(value).decode("utf-8", "backslashreplace")
    if isinstance(value, list):
        return " ".join(map(journal_text, value))
    return "" if value is None else str(value)


def journal_entry(data: bytes) -> tuple[str, Line, Details] | None:
    """A line of journalctl's JSON as (its cursor, a line as journalctl --output=short-iso has it, its details)."""
    try:
        record = json.loads(data)
        entry, micros = record["__CURSOR"], int(record["__REALTIME_TIMESTAMP"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    message = journal_text(record.get("MESSAGE"))
    ident = journal_text(record.get("SYSLOG_IDENTIFIER") or record.get("_COMM") or "unknown")
    pid = journal_text(record.get("SYSLOG_PID") or record.get("_PID") or "")
    host = journal_text(record.get("_HOSTNAME") or "")
    stamp = datetime.fromtimestamp(micros / 1e6).astimezone().isoformat(timespec="seconds")
    text = f"{stamp} {host} {ident}{f'[{pid}]' if pid else ''}: {message}".encode("utf-8", "backslashreplace")
    text = text.replace(b"\n", b" ")
    priority = record.get("PRIORITY")
    level = int(priority) if isinstance(priority, str) and re.fullmatch("[0-7]", priority) else None
    fields = {"hostname": host, "ident": ident, "pid": pid, "unit": journal_text(record.get("_SYSTEMD_UNIT") or "")}
    line = Line(0, 0, text[:LINE_BYTES], max(0, len(text) - LINE_BYTES), b"", b"", False)
    known: dict[str, object] = {name: value[:LINE_BYTES] for name, value in fields.items() if value}
    return entry, line, Details(micros / 1e6, level, known, message[:LINE_BYTES])


def lines_in_time(ours: socket.socket, budget: Budget) -> Iterator[bytes]:
    """The lines that come from a socket until it ends or the budget does; longer ones in pieces."""
    with ours.makefile("rb") as lines:
        try:
            ours.settimeout(budget.left())
            while (data := lines.readline(ENTRY_BYTES)) and budget.spend(len(data)):
                yield data
                ours.settimeout(budget.left())
        except TimeoutError:
            budget.stop = "deadline"
            budget.notes.append("journal: journalctl did not end in time")


def journal_records(arguments: Sequence[str], budget: Budget) -> Iterator[tuple[str, Line, Details]]:
    """The entries that journalctl prints, until it ends or the budget does; the child never outlives this."""
    # A socket, as a pipe has no timeout for a journalctl that hangs. A timer is a thread, and Thread.start() hangs too
    # where the new one ends at once for want of memory.
    with contextlib.ExitStack() as stack:
        ours, theirs = map(stack.enter_context, socket.socketpair())
        child = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=theirs.fileno(), stderr=subprocess.DEVNULL,
                                 cwd="/", env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"})
        stack.callback(child.wait)
        stack.callback(child.kill)
        theirs.close()                  # so that ours ends when the child does
        for data in lines_in_time(ours, budget):
            entry = journal_entry(data)
            if entry:
                yield entry
            else:
                budget.notes.append(f"journal: what is no entry, or of more than {ENTRY_BYTES >> 10} KiB, is left out")
        if budget.stop == "complete" and child.wait() > 0:
            raise Problem(500, f"journalctl ended with status {child.returncode}", shlex.join(arguments))
        if budget.stop == "complete" and child.returncode:      # by a signal: for want of memory
            budget.stop = "deadline"
            budget.notes.append("journal: journalctl was killed before it had ended")


def check_place(name: str, place: JournalCursor, budget: Budget) -> None:
    """Raise Problem 410 where the entry of a place is gone, with the place to go on from; an empty journal has none."""
    def first(start: JournalCursor | None, reverse: bool) -> str:
        arguments = journal_arguments("", Criteria(), start, reverse)
        return next((entry for entry, *_ in journal_records(arguments, budget)), "")
    found = first(place, False)
    rest = place._replace(behind=not found, entry=found or first(None, True))
    if budget.stop == "complete" and rest.entry not in ("", place.entry):
        raise Problem(410, f"the place of this cursor in log {name} is gone: journald has deleted its entry",
                      "go on with after= and the cursor in 'oldest': behind the lost place",
                      members={"oldest": encode_journal_cursor(rest)})


def hidden_details(details: Details, hide: Hide) -> Details:
    """What the journal knows of a line, with its strings as readers may see them."""
    def hidden(value: object) -> str:
        text = str(value)
        end = b"\n" if len(text) < LINE_BYTES else b""      # masking takes a line without for a cut one
        return hide(text.encode("utf-8", "backslashreplace") + end).removesuffix(end).decode()
    fields: dict[str, object] = {name: hidden(value) for name, value in details.fields.items()}
    return details._replace(fields=fields, message=hidden(details.message))


def read_journal(name: str, unit: str, query: Query, criteria: Criteria, budget: Budget) -> Page:
    """The entries of the journal that a query asks for, as a page of lines. Raises Problem where it cannot be read."""
    problem = journal_problem()
    if problem:
        raise Problem(403, f"log {name}: {problem.reason}", problem.fix)
    place, log = query.after or query.before, fingerprint(name.encode()).hex()
    if isinstance(place, Cursor) or place and place.log != log:
        raise Problem(400, f"this cursor is of another log than {name}")
    reverse = query.after is None
    found: list[Found] = []
    places: list[str] = []                  # what was passed, in the order of reading
    size = 0
    own = place.entry if place and (reverse != place.behind) else ""      # the entry that the cursor stands behind of
    unseen = place                          # until it is known that its entry is still there
    for entry, line, details in journal_records(journal_arguments(unit, criteria, place, reverse), budget):
        if unseen and entry != unseen.entry:            # it is gone, or none that is asked for
            check_place(name, unseen, budget)
        unseen = None
        moment = details.time or 0.0
        if place and reverse and moment < criteria.since:
            break
        if entry == own:
            continue
        inside = not place or criteria.since <= moment <= criteria.until    # journalctl takes a place or these
        if query.hide and inside:
            end = b"" if line.cut else b"\n"    # masking takes a line without for a cut one
            line = line._replace(text=query.hide(line.text + end).removesuffix(end))
        hit = inside and query.pick(Block(0, line.text, b""), 1, True)
        size += len(line.text) if hit else 0
        if size > query.size:
            budget.stop = "limit"
            break
        places.append(entry)
        if hit:
            known = hidden_details(details, query.hide) if query.hide else details
            found.append(Found(JournalCursor(True, log, entry), line, known))
        if len(found) == query.n:
            break
    if unseen:
        check_place(name, unseen, budget)
    ended = reverse and len(found) < query.n and budget.stop == "complete"
    oldest, newest = (places[-1:], places[:1]) if reverse else (places[:1], places[-1:])
    following = JournalCursor(True, log, newest[0]) if newest else place
    previous = JournalCursor(False, log, oldest[0]) if oldest and not ended else None
    return Page(name, found[::-1] if reverse else found, budget.scan(len(found)),
                encode_journal_cursor(following) if following else "",
                encode_journal_cursor(previous) if previous else "", encode_journal_cursor)

# --------------------------------------------------------------------------------------------------------------------
# follow: new lines as they come
# --------------------------------------------------------------------------------------------------------------------
class Watch:
    """Tells when a log's files change. One thread looks for all who wait for it, and ends when nobody does any more.

    inotify(7) is not in the standard library; a few stat() calls each WATCH_SECONDS cost 0.1 % of a core.
    """

    def __init__(self, look: Callable[[], object]) -> None:
        self._look = look
        self._changed = threading.Condition()
        self._thread = threading.Thread()
        self._until = 0.0               # time.monotonic() to which the thread is wanted
        self._seen: object = None
        self.version = 0                # grows with each change

    def wait(self, version: int, seconds: float) -> bool:
        """Whether the version became another one within `seconds`; also if it did while nobody waited."""
        with self._changed:
            self._until = time.monotonic() + seconds + 1.0
            if not self._thread.is_alive():     # also where none could be started: who comes next tries again
                self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
                self._thread.start()
            return self._changed.wait_for(lambda: self.version != version, seconds)

    def _run(self) -> None:
        while time.monotonic() < self._until:
            time.sleep(WATCH_SECONDS)
            seen = self._look()
            with self._changed:
                if seen != self._seen:
                    self._seen = seen
                    self.version += 1
                    self._changed.notify_all()


def newest_state(log: Log) -> object:
    """What changes with the files that are written, the live ones and the one before them that may get late lines, and
    with the names in their folders."""
    states: list[object] = []
    paths = {os.path.join(log.root, *file.parts): None for file in (*written_files(log), *log.files[-2:])}
    for path in (*paths, *dict.fromkeys(map(os.path.dirname, paths))):
        try:
            found = os.stat(path, follow_symlinks=False)
            states.append((found.st_ino, found.st_size, found.st_mtime_ns))
        except OSError as error:
            states.append(error.errno)
    return states


def follow(read: Callable[[str], Page], watch: Watch, gone: Callable[[], bool],
           pause: float = 0.0) -> Iterator[Page | Problem | None]:
    """The page that read('') gives, then those behind it that hold lines, until FOLLOW_SECONDS have passed; each is
    read no sooner than `pause` seconds after the one before it, unless that was full.

    A Problem where lines are lost, or cannot be read for now, and the page behind it; None for each PING_SECONDS of
    silence.
    """
    end = time.monotonic() + FOLLOW_SECONDS
    heard = time.monotonic()
    place = trouble = ""
    while time.monotonic() < end and not gone():
        version, began = watch.version, time.monotonic()
        try:
            page = read(place)
        except Problem as problem:
            again, trouble = str(problem) == trouble, str(problem)
            more = problem.status == 410 or again and "oldest" in problem.members      # lost, or out of reach
            place = str(problem.members.get("oldest", place)) if more else place
            if more or not again:
                yield problem
        else:
            more = page.scan.stop != "complete" or bool(page.found)
            began -= pause if len(page.found) == STREAM_LINES or page.scan.stop == "limit" else 0.0     # there is more
            if page.found or trouble or not place:
                yield page
                heard = time.monotonic() if page.found else heard
            trouble = ""
            place = page.next or place
            del page            # its lines would be held while the stream waits
        while not more and not gone() and time.monotonic() < end:
            patience = max(0.0, min(1.0, heard + PING_SECONDS - time.monotonic()))
            more = watch.wait(version, patience) or bool(trouble)   # what was wrong may have passed
            if time.monotonic() >= heard + PING_SECONDS:
                heard = time.monotonic()
                yield None
        time.sleep(max(0.0, began + pause - time.monotonic()))

# --------------------------------------------------------------------------------------------------------------------
# rotation: what logrotate will do to a log
# --------------------------------------------------------------------------------------------------------------------
LOGROTATE_CONF = "/etc/logrotate.conf"
_DIRECTIVES = frozenset({"create", "su", "copytruncate", "copy", "olddir", "ignoreduplicates", "tabooext", "taboopat",
                         "dateext", "compress", "compresscmd", "rotate", "missingok"})
_SCRIPTS = frozenset({"prerotate", "postrotate", "firstaction", "lastaction", "preremove"})
_TABOO = ("*.bak *.cfsaved *.disabled *.dpkg-bak *.dpkg-del *.dpkg-dist *.dpkg-new *.dpkg-old *.dpkg-tmp *.rpmnew *,v "
          "*~ *.rpmorig *.rpmsave *.rhn-cfg-tmp-* *.swp *.ucf-dist *.ucf-new *.ucf-old")
_GLOB = re.compile(r""""([^"]*)"|'([^']*)'|([^\s"']\S*)""")
_DIRECTIVE = re.compile(r"([a-z]*)(.*)")
_ENDSCRIPT = re.compile(r"^[ \t]*endscript\b.*", re.MULTILINE)


class Stanza(NamedTuple):
    """A block of a logrotate configuration."""

    where: str  # file:line
    globs: tuple[str, ...]
    options: Mapping[str, str]  # directive: arguments; with the globals above it, without what "no..." took out


def _put(options: dict[str, str], line: str) -> None:
    match = _DIRECTIVE.match(line)
    word, value = (part.strip() for part in (match.groups() if match else ("", "")))
    if word in ("tabooext", "taboopat"):
        globs = [word.replace("taboopat", "").replace("tabooext", "*") + end for end in value.lstrip("+ \t").split()]
        options["taboo"] = " ".join(([options.get("taboo", "")] if value.startswith("+") else []) + globs)
    elif word in _DIRECTIVES:
        options[word] = value
    elif word.startswith("no"):
        options.pop(word[2:], None)


def parse_logrotate(text: str, source: str, options: dict[str, str]) -> Iterator[Stanza | str]:
    """Yield stanzas and included paths in order; `options` are the globals, which the text changes for what follows.

    Never raises: what logrotate refuses (a missing brace or endscript) ends the text there.
    """
    at, start = 0, ""
    globs: tuple[str, ...] = ()
    block: dict[str, str] | None = None
    lines = 1
    while at < len(text):
        end = text.find("\n", at) + 1 or len(text)
        line = text[at:end].strip()
        if block is None and line.startswith(("/", '"', "'", "~")):
            end = text.find("{", at) + 1 or len(text)
            start, block = f"{source}:{lines}", dict(options)
            globs = tuple("".join(found) for found in _GLOB.findall(text[at:end - 1]))
        elif line.startswith("}") and block is not None:
            yield Stanza(start, globs, block)
            block, end = None, text.index("}", at) + 1
        elif line.partition(" ")[0] in _SCRIPTS:
            script_end = _ENDSCRIPT.search(text, end)
            end = script_end.end() if script_end else len(text)
        elif line.startswith("include") and block is None:
            yield line[len("include"):].strip(' \t"')
        else:
            _put(options if block is None else block, line)
        lines += text.count("\n", at, end)
        at = end


def _configuration(path: str) -> str | Finding:
    """Return a configuration file's text, or why logrotate (3.21, readConfigFile) passes it over."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # a FIFO must not hang it
            entry = os.fstat(file.fileno())
            text = file.read(LOGROTATE_BYTES).decode("utf-8", "surrogateescape") if stat.S_ISREG(entry.st_mode) else ""
    except (OSError, ValueError) as error:
        return Finding(path, "cannot be read", f"logrotate configuration: {error}", f"ls -l {quoted(path)}")
    if entry.st_mode & 0o022 or not (entry.st_uid == 0 or is_unmapped(entry.st_uid)):
        return Finding(path, "is ignored by logrotate", "it is not owned by root, or writable by group or others",
                       f"chown root: {quoted(path)} && chmod go-w {quoted(path)}")
    return text


def _included(path: str, options: Mapping[str, str]) -> list[str]:
    """Return the files that an include names: itself, or a folder's regular files in order, without taboo names."""
    if not os.path.isdir(path):
        return [path]
    taboo = options["taboo"].split()
    with contextlib.suppress(OSError):
        names = [name for name in sorted(os.listdir(path)) if not any(fnmatch.fnmatchcase(name, one) for one in taboo)]
        return [os.path.join(path, name) for name in names if os.path.isfile(os.path.join(path, name))]
    return []


def load_logrotate(path: str) -> tuple[list[Stanza], list[Finding]]:
    """Read a logrotate configuration with its includes: the stanzas in order, and the files that are passed over."""
    stanzas: list[Stanza] = []
    findings: list[Finding] = []
    seen: dict[str, int] = {}  # file: its size
    options = {"taboo": _TABOO}

    def load(name: str) -> None:
        if name in seen or len(seen) >= LOGROTATE_FILES or sum(seen.values()) >= LOGROTATE_BYTES:
            return
        text = _configuration(name)
        if isinstance(text, Finding):
            findings.append(text)
            text = ""
        seen[name] = len(text)
        for item in parse_logrotate(text, name, options):
            if isinstance(item, Stanza):
                stanzas.append(item)
            else:
                for inner in _included(item, options):
                    load(inner)

    load(path)
    return stanzas, findings


def matching(path: str, stanzas: Iterable[Stanza]) -> list[Stanza]:
    """Return the stanzas whose globs name `path`, in order: part by part, as glob(3) does not cross a `/`."""
    parts = path.split("/")

    def names(glob: str) -> bool:
        wanted = glob.split("/")
        return len(wanted) == len(parts) and all(
            fnmatch.fnmatchcase(part, one) and (not part.startswith(".") or one.startswith("."))
            for part, one in zip(parts, wanted, strict=True))
    return [stanza for stanza in stanzas if any(names(glob) for glob in stanza.globs)]


class Fate(NamedTuple):
    """What a log is after its next rotation.

    how: `create`; `keep` (copytruncate, copy); `gone` (until its writer makes it anew); `fails` (not rotated, see why).
    access: the live file's, where it is known.
    """

    how: str
    access: Access | None = None
    why: str = ""


def _number_of(look_up: Callable[[str], Sequence[Any]], name: str) -> int:
    return int(name if name.isdecimal() else look_up(name)[2])


_uid, _gid = partial(_number_of, pwd.getpwnam), partial(_number_of, grp.getgrnam)


def _created(wanted: str, live: Access, defaults: tuple[AclEntry, ...]) -> Access:
    """Return what `create [MODE] [OWNER GROUP]` asks for, the rest as the live file; ValueError, KeyError: refused.

    With a mode the new file has the folder's default ACL, the group's bits as mask; without one the live file's ACL.
    """
    words = wanted.split()
    digits = words.pop(0) if len(words) in (1, 3) else ""
    owner, group = words or ("", "")
    mode = int(digits, 8) if digits else stat.S_IMODE(live.mode)
    bits_of = {_ACL_USER_OBJ: mode >> 6 & 7, _ACL_MASK: mode >> 3 & 7, _ACL_OTHER: mode & 7}
    acl = tuple((tag, bits_of.get(tag, bits), who) for tag, bits, who in defaults)
    return Access(_uid(owner) if owner else live.uid, _gid(group) if group else live.gid, stat.S_IFREG | mode,
                  acl if digits else live.acl)


def after_rotation(options: Mapping[str, str], live: Access, folder: Access,
                   defaults: tuple[AclEntry, ...] = ()) -> Fate:
    """Say what logrotate (3.21, 3.22, as root) makes of a log `live` in `folder` with that default ACL."""
    su = options.get("su", "root root").split()
    try:
        user, group = map(lambda name, resolve: resolve(name), su, (_uid, _gid))
        new = _created(options.get("create", ""), live, defaults)
    except (ValueError, KeyError) as error:
        return Fate("fails", live, f'it refuses the arguments of "create" or "su": {error}')
    if "su" not in options and (folder.mode & 0o002 or (folder.mode & 0o020 and folder.gid)):
        return Fate("fails", live, 'without "su" it skips a folder that others, or a group other than root, may write')
    if not allowed(folder, user, frozenset({group}), WRITE | ENTER):
        return Fate("fails", live, f'"su {" ".join(su)}": that user may not rename in the folder')
    if "copytruncate" in options or "copy" in options:
        return Fate("keep", live)
    if "create" not in options:
        return Fate("gone")
    if user:  # not root any more: owner and group of "create" are left out without a word
        new = new._replace(uid=user, gid=folder.gid if folder.mode & stat.S_ISGID else group)
    return Fate("create", new)


def predict(path: str, stanza: Stanza) -> Fate:
    """Return what the next run of logrotate makes of the log at `path`, which that stanza names. Raises OSError."""
    folder = os.path.dirname(path)
    return after_rotation(stanza.options, access_of(path), access_of(folder), _acl(folder, "system.posix_acl_default"))


def _owner(uid: int, path: str) -> str:
    return f"$(stat -c %U {quoted(path)})" if is_unmapped(uid) else user_name(uid)


def _lost(path: str, stanza: Stanza, then: Access, uid: int, gids: frozenset[int]) -> Finding:
    """Say why a log that is readable will not be after its rotation, and how to keep it so."""
    su = stanza.options.get("su", "")
    good = next((name for name in map(group_name, gids) if name in ("adm", SERVICE_USER)), "adm")
    root = su.split()[:1] in ([], ["root"], ["0"])
    trap = "" if root else f' ("su {su}" overrules the owner and group in "create")'
    owner = _owner(then.uid, path)
    lines = [f"su {su.split()[0]} {good}"] if trap else []
    fix = f"in {stanza.where} write:\n\t" + "\n\t".join([*lines, f"create 0640 {owner} {good}"])
    if not trap and then.mode & 0o040 and then.gid not in gids and group_name(then.gid) not in _POWERFUL:
        fix = _join(group_name(then.gid), user_name(uid))
    return Finding(path, "will be unreadable after the next rotation", f"{stanza.where} leaves it {_said(then)}{trap}; "
                   f"{user_name(uid)} is in the groups {_group_names(gids)}", fix)


def loss(path: str, stanza: Stanza, uid: int, gids: frozenset[int]) -> Finding | None:
    """Return why a log that this user can read now cannot be read after its next rotation. Raises OSError."""
    now, then = access_of(path), predict(path, stanza).access
    # In a sandbox one's own groups have no numbers: no false alarm about a group; run as root, the check is exact.
    known = gids.union([then.gid] if then and any(map(is_unmapped, gids)) else [])
    if then and allowed(now, uid, gids, READ) and not allowed(then, uid, known, READ):
        return _lost(path, stanza, then, uid, gids)
    return None


def _stanza(path: str, uid: int) -> str:
    """Say how to rotate a log that nothing rotates, so that its writer and adm keep their rights."""
    folder, owner = access_of(os.path.dirname(path)), _owner(uid, path)
    su = [f"su {_owner(folder.uid, os.path.dirname(path))} adm"] if folder.uid or folder.mode & 0o022 else []
    script = ["postrotate", "\t# tell its writer to open it anew: it has the old file still", "endscript"]
    lines = [*su, "weekly", "rotate 4", "missingok", "compress", "delaycompress", f"create 0640 {owner} adm", *script]
    return f"{quoted(path)} {{\n\t" + "\n\t".join(lines) + "\n}"


def _output(*command: str) -> str:
    """Return what a command prints; '' if it is not there or takes too long."""
    try:
        return subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False,
                              timeout=COMMAND_SECONDS, stdin=subprocess.DEVNULL).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _habits(path: str, stanzas: Sequence[Stanza]) -> Iterator[Finding]:
    """Yield what is wrong with the way the stanzas (at least one) that name `path` rotate it."""
    where, options = stanzas[0].where, stanzas[0].options
    again = [one for one in stanzas[1:] if "ignoreduplicates" not in one.options]
    old = quoted(os.path.join(os.path.dirname(path), options.get("olddir", ""), os.path.basename(path) + "*"))
    if again:
        # The one to keep is the package's, which knows how to tell the writer.
        own = [one for one in (stanzas[0], *again) if not _output("dpkg-query", "-S", one.where.rpartition(":")[0])]
        out = own[-1] if own else again[0]
        globs = " ".join(quoted(glob) for glob in out.globs if matching(path, [out._replace(globs=(glob,))]))
        places = ", ".join(one.where for one in again)
        yield Finding(path, "is named by two stanzas", f"{where} and {places}: logrotate exits 1 every night and skips "
                      "the whole second file", f"take {globs} out of {out.where}")
    if "compress" in options and not options.get("compresscmd", "gzip").endswith(("gzip", "pigz")):
        yield Finding(path, "has rotations that cannot be read", f'{where} has compresscmd {options["compresscmd"]}: '
                      "searches do not see these files", f"take compresscmd out of {where}")
    if "copytruncate" in options:
        yield Finding(path, "loses lines at each rotation", f"{where} has copytruncate: lines written between copy and "
                      "truncation are gone", f'in {where} write "create" and a postrotate that signals the writer')
    if "olddir" in options:
        yield Finding(path, "has its rotations elsewhere", f"{where} has olddir: searches do not see {old}",
                      f'logwatch.py --log NAME={old}, or take "olddir" out of {where}')


def rotation_findings(path: str, stanzas: Sequence[Stanza], uid: int, gids: frozenset[int]) -> list[Finding]:
    """Return what is wrong with one log's rotation, as it is and as it will be after the next run."""
    found = matching(path, stanzas)
    if not found:
        entry = os.lstat(path) if os.path.lexists(path) else None       # a missing one is why_unreadable()'s
        if not entry or entry.st_size < GROWN_BYTES or entry.st_mtime < time.time() - GROWING_SECONDS:
            return []
        plain = re.fullmatch(r"[\w./@:+-]+", path, re.ASCII)     # of others logrotate would take a part for its own
        return [Finding(path, "grows for ever", "no logrotate stanza names it",
                        f"write to /etc/logrotate.d/local:\n{_stanza(path, entry.st_uid)}" if plain else
                        "have its writer take a name of letters, digits and . _ @ : + - for it and its folders")]
    findings = list(_habits(path, found))
    try:
        fate, lost = predict(path, found[0]), loss(path, found[0], uid, gids)
    except OSError:  # why_unreadable() reports it
        return []
    if fate.how == "fails":
        findings.append(Finding(path, "will not be rotated", f"{found[0].where}: {fate.why}",
                                f'logrotate -d {quoted(found[0].where.rpartition(":")[0])}'))
    return findings + ([lost] if lost else [])

# --------------------------------------------------------------------------------------------------------------------
# host: what the kernel says about this box
# --------------------------------------------------------------------------------------------------------------------
STATVFS_DEADLINE = 0.4        # s after which no more mounts are asked: kubelet gives a whole probe 1 s
STATVFS_PATIENCE = 0.2        # s without all answers after which the mount in turn counts as stuck
SLOW_SECONDS = 1.0            # of silence for which a mount is judged by its last answer, or twice what that took
LAST_SECONDS = 600            # age of that answer from which on it says nothing any more
STUCK_MAX = 8                 # threads that dead mounts may hold; node_exporter #578 lost 830
SILENT = "does not answer"
FORBIDDEN = (os.strerror(errno.EACCES), os.strerror(errno.EPERM))
USER_HZ = os.sysconf("SC_CLK_TCK")
PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")
READ_BYTES = 8192             # of the kernel's text at once: below sys/ it clears a buffer of that size for each read
CONNTRACK_MAX = "sys/net/netfilter/nf_conntrack_max"      # one for all networks, unlike nf_conntrack_count
# What an administrator sets, read once a minute, as is what was absent: opening a file costs 5 to 10 µs
SELDOM = frozenset({CONNTRACK_MAX, "sys/kernel/domainname", "sys/kernel/pid_max", "sys/kernel/random/poolsize",
                    "sys/kernel/threads-max"})
# node_exporter 1.12's own exclusions, so that the same mounts are served under the same names
SKIP_POINT = re.compile(r"/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)")
SKIP_TYPE = re.compile(
    r"(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs|overlay|"
    r"procfs|proc|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|sysfs|tracefs)$")
SYSTEMD_SOCKET = "/run/systemd/notify"        # process 1 has it open, in the network of the host
VEILED = ("/home", "/root", "/run/user")      # what ProtectHome covers
MAY_HANG = re.compile(r"nfs|cifs|smb|fuse|9p|ceph|afs|gluster|lustre|virtiofs|ocfs|gfs|davfs")      # asked last
MOUNT_LINE = re.compile(rb"^(\d+) (\d+) (\d+:\d+) \S+ (\S+) (\S+) (?:\S+ )*?- (\S+) (\S*) (\S*)$", re.MULTILINE)
OCTAL = re.compile(rb"\\([0-7]{3})")
MEMINFO_LINE = re.compile(r"^(\S+): *(\d+)( kB)?$", re.MULTILINE)
KEPT_NAME = re.compile(       # of vmstat, netstat, snmp and snmp6, as node_exporter
    r"oom_kill|(pgpg|pswp|pg.*fault).*|"
    r".*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|Icmp6?_(InMsgs|OutMsgs)|"
    r"TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts|TCPOFOQueue|TCPRcvQDrop)|"
    r"Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)|"
    r"Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors)")
SNMP6_NAME = re.compile(r"^(Ip6|Icmp6|UdpLite6|Udp6)(?!_)")


class Hidden(Exception):
    """A fact that this process cannot know; str() is the reason in plain words. Unknown is never 0."""


class Absent(Hidden):
    """A file that is not there."""


UNKNOWN = (Hidden, OSError, ValueError, LookupError, ArithmeticError)      # absent, or in an unknown kernel's format


class Mount(NamedTuple):
    """One line of mountinfo, see proc_pid_mountinfo(5); paths are decoded."""
    id: int
    parent: int
    device: str                   # major:minor
    point: str
    options: frozenset[str]       # of this mount; `mount -o ro` sets both
    fstype: str
    source: str
    super_options: frozenset[str]     # of the file system


class Mounts(NamedTuple):
    """The host's mounts by this process's eyes. `exact` is False where only its own, sandboxed table could be read."""
    source: str
    exact: bool
    seen: tuple[Mount, ...]
    hidden: tuple[Mount, ...]


class Usage(NamedTuple):
    """statvfs(2) of a mount, in bytes and inodes. `avail` is what users other than root can still write."""
    size: int
    free: int
    avail: int
    files: int
    files_free: int
    took: float                   # seconds to answer
    age: float = 0.0              # seconds since then, where the next answer is not there yet

    @property
    def percent(self) -> float:
        """Space used, as df has it: what is reserved for root counts neither as used nor as left."""
        used = self.size - self.free
        return 100 * used / (used + self.avail or 1)


Answer = Usage | str          # or the reason why there is none
Job = tuple[Sequence[str], dict[str, Answer], threading.Lock]      # mount points, answers so far, released when done


def parse_stat(data: bytes) -> dict[str, tuple[int, ...]]:
    """/proc/stat → {'cpu': jiffies, 'cpu0': jiffies, 'ctxt': (5,)}; jiffies are ordered as CPU_MODES, then guests."""
    rows = (line.split(None, 11)[:11] for line in data.decode().splitlines())      # `intr` goes on for thousands
    return {row[0]: tuple(map(int, row[1:])) for row in rows}


def parse_table(data: bytes) -> list[list[str]]:
    """Lines of fields divided by blanks."""
    return [line.split() for line in data.decode(errors="replace").splitlines()]


def parse_meminfo(data: bytes) -> dict[str, int]:
    """/proc/meminfo → {'MemTotal': bytes, 'Active(anon)': bytes, 'HugePages_Total': pages}."""
    return {name: int(number) << (10 if unit else 0) for name, number, unit in MEMINFO_LINE.findall(data.decode())}


def parse_pressure(data: bytes) -> dict[str, dict[str, float]]:
    """/proc/pressure/* → {'some': {'avg10': percent, 'avg60': …, 'avg300': …, 'total': µs}, 'full': …}."""
    rows = parse_table(data.replace(b"=", b" "))
    return {row[0]: dict(zip(row[1::2], map(float, row[2::2]))) for row in rows}


@functools.lru_cache(maxsize=256)
def kept_columns(header: str) -> list[tuple[int, str]]:
    """'Tcp: RtoMin InSegs' or 'Ip6Unknown Ip6InOctets' → place and node_exporter's name of what it keeps."""
    protocol, _, names = header.rpartition(": ")
    whole = [f"{protocol}_{name}" if protocol else SNMP6_NAME.sub(r"\1_", name) for name in names.split()]
    return [(place, name) for place, name in enumerate(whole) if KEPT_NAME.fullmatch(name)]


def parse_netstat(data: bytes) -> dict[str, int]:
    """/proc/net/snmp and netstat, a line of names, then a line of values → {'Tcp_InSegs': 5}."""
    lines = data.decode().splitlines()
    rows = ((kept_columns(names), values.split()[1:]) for names, values in zip(lines[::2], lines[1::2]))
    return {name: int(values[place]) for columns, values in rows for place, name in columns}


def parse_pairs(data: bytes) -> dict[str, int]:
    """/proc/vmstat and net/snmp6, a name and a value on each line → {'oom_kill': 0}, {'Ip6_InOctets': 5}."""
    fields = data.decode().split()
    return {name: int(fields[2 * place + 1]) for place, name in kept_columns(" ".join(fields[::2]))}


def parse_net_dev(data: bytes) -> dict[str, list[int]]:
    """/proc/net/dev → device: 8 received and 8 transmitted counters. The colon may touch the first number."""
    rows = (line.rpartition(":") for line in data.decode().splitlines()[2:])
    return {name.strip(): list(map(int, numbers.split())) for name, _, numbers in rows}


def parse_conntrack(data: bytes) -> dict[str, tuple[str, ...]]:
    """/proc/net/stat/nf_conntrack → name: what each CPU has, in hexadecimal digits, as few of them are wanted."""
    names, *rows = parse_table(data)
    return dict(zip(names, zip(*rows)))


def unescape(raw: bytes) -> str:
    """A field of mountinfo: the kernel writes blank, tab, newline, # and backslash as three octal digits."""
    return os.fsdecode(OCTAL.sub(lambda match: bytes([int(match[1], 8) & 255]), raw) if b"\\" in raw else raw)


def parse_mountinfo(data: bytes) -> list[Mount]:
    """proc_pid_mountinfo(5). The number of optional fields varies: ' - ' alone divides the two halves."""
    lines = (list(map(unescape, match.groups())) for match in MOUNT_LINE.finditer(data))
    return [Mount(int(number), int(parent), device, point, frozenset(options.split(",")), fstype, source,
                  frozenset(super_options.split(",")))
            for number, parent, device, point, options, fstype, source, super_options in lines]


def topmost(mounts: Sequence[Mount]) -> list[Mount]:
    """Without mounts that another one covers, on the same point or on a folder above: their path leads elsewhere."""
    covers = {(mount.parent, mount.point) for mount in mounts if mount.parent != mount.id}
    return [mount for mount in mounts if (mount.id, mount.point) not in covers
            and not any((mount.parent, path) in covers for path in parents(mount.point))]


def compare_mounts(source: str, host: bytes, own: bytes) -> Mounts:
    """Divide the host's mounts into those that their path shows here too, and those that the sandbox hides.

    ProtectHome puts a tmpfs over /home, and statvfs would answer for that (node_exporter #1505): compare major:minor.
    """
    kept = [mount for mount in topmost(parse_mountinfo(host)) if not SKIP_POINT.match(mount.point)
            and (not SKIP_TYPE.match(mount.fstype) or (mount.fstype, mount.point) == ("overlay", "/"))]
    mine, exact = {mount.point: mount.device for mount in topmost(parse_mountinfo(own))}, "/self/" not in source
    seen = tuple(mount for mount in kept if mine.get(mount.point) == mount.device
                 and (exact or mount.fstype != "tmpfs" or mount.point not in VEILED))
    return Mounts(source, exact, seen, tuple(mount for mount in kept if mount not in seen))


class Aside:
    """Does one thing at a time in a daemon thread, so that what hangs holds up neither who wants it nor the end of the
    process. The thread stays: to start one where memory is short can hang as well (threading waits for its first word).
    """

    def __init__(self) -> None:
        self._works: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._thread = threading.Thread()
        self._lock = threading.Lock()
        self._idle = threading.Event()
        self._idle.set()
        self._since = 0.0               # time.monotonic() when it began what it does

    def do(self, work: Callable[[], object], seconds: float) -> None:
        """Have it done, unless something else is still under way, and wait so long for the end of either."""
        with self._lock:
            if self._idle.is_set():
                self._idle.clear()
                self._since = time.monotonic()
                self._works.put(work)
            if not self._thread.is_alive():     # also where this process was forked, or none could be started
                with contextlib.suppress(RuntimeError):
                    self._thread = threading.Thread(target=self._run, daemon=True, name="aside")
                    self._thread.start()
        self._idle.wait(seconds)

    def busy(self) -> float:
        """For how many seconds it has been at work; 0 where it is not."""
        return 0.0 if self._idle.is_set() else time.monotonic() - self._since

    def _run(self) -> None:
        while True:
            work = self._works.get()
            try:
                with contextlib.suppress(OSError, MemoryError):     # for want of them: the next one may do
                    work()
            except BaseException:       # a defect: it ends this thread, and the next do() starts another
                self._thread = threading.Thread()
                raise
            finally:
                self._idle.set()


class Prober:
    """statvfs(2) on many mounts, where a dead one holds up neither the caller nor the end of the process.

    A daemon thread asks (the executors of concurrent.futures are joined at exit and would hang there). A mount that
    keeps silent costs that thread and is not asked again until the call has come back (node_exporter #244, #578).
    """

    def __init__(self, statvfs: Callable[[str], os.statvfs_result] = os.statvfs) -> None:
        self.statvfs = statvfs
        self.stuck: dict[str, float] = {}     # mount point → time.monotonic() since when its call has not returned
        self._last: dict[str, tuple[float, Answer]] = {}     # mount point → time.monotonic(), and what it answered then
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._worker = threading.Thread()     # the one that asks; one that was given up on has been replaced
        self._asking = threading.Lock()       # one round at a time, so that no two threads hang on one mount
        self._lock = threading.Lock()         # guards `stuck` and the answers

    def ask(self, points: Sequence[str], local: frozenset[str] = frozenset()) -> dict[str, Answer]:
        """Each point's usage, or the reason why there is none, asked in the order given, in about STATVFS_DEADLINE."""
        with self._asking:
            with self._lock:
                answers: dict[str, Answer] = {point: SILENT for point in points if point in self.stuck}
                self._last = {point: self._last[point] for point in points if point in self._last}
            points = sorted(points, key=self._turn)
            deadline = time.monotonic() + STATVFS_DEADLINE
            while time.monotonic() < deadline and (waiting := [
                    point for point in points if point not in answers and (
                        len(self.stuck) < STUCK_MAX or point in local)]):
                answers |= self._round(waiting)
            unasked = "was not asked, since other mounts do not answer"
            return {point: self._best(point, answers.get(point, unasked)) for point in points}

    def _turn(self, point: str) -> float:
        """Who was slow is asked last, and of these first whose answer is the oldest: each has its turn."""
        then, last = self._last.get(point, (0.0, SILENT))
        return then if isinstance(last, Usage) and last.took > STATVFS_PATIENCE else 0.0

    def _best(self, point: str, answer: Answer) -> Answer:
        """An answer, or the last one with its age, where this one may still come: a slow mount would flap otherwise."""
        (then, last), now = self._last.get(point, (0.0, answer)), time.monotonic()
        if isinstance(answer, Usage) or not isinstance(last, Usage):
            return answer
        waited = now - self.stuck.get(point, now)
        recent = waited < max(SLOW_SECONDS, 2 * last.took) and now - then < LAST_SECONDS
        return last._replace(age=now - then) if recent else answer

    def _round(self, points: Sequence[str]) -> dict[str, Answer]:
        """Ask one after the other; give up on the first that keeps silent, and with it on the thread."""
        if not self._worker.is_alive():       # none was started yet, or this process was forked
            self._worker = threading.Thread(target=self._work, daemon=True, name="statvfs")
            self._worker.start()
        found: dict[str, Answer] = {}
        done = threading.Lock()
        done.acquire()
        self._jobs.put((points, found, done))
        done.acquire(timeout=STATVFS_PATIENCE)
        with self._lock:
            silent = points[len(found):][:1]
            self.stuck |= dict.fromkeys(silent, time.monotonic())
            self._worker = threading.Thread() if silent else self._worker
            return found | dict.fromkeys(silent, SILENT)

    def _work(self) -> None:
        while True:
            points, found, done = self._jobs.get()
            if not all(self._is_awaited(point, self._usage(point), found) for point in points):
                return
            done.release()

    def _is_awaited(self, point: str, answer: Answer, found: dict[str, Answer]) -> bool:
        """Note an answer. False where it came so late that the caller has given up on this thread."""
        with self._lock:
            self._last[point], found[point] = (time.monotonic(), answer), answer
            return self.stuck.pop(point, None) is None

    def _usage(self, point: str) -> Answer:
        begin = time.monotonic()
        try:
            stat = self.statvfs(point)
        except (OSError, MemoryError) as error:     # a thread that ended here would leave its mount stuck for ever
            return getattr(error, "strerror", None) or type(error).__name__
        unit = stat.f_frsize
        return Usage(stat.f_blocks * unit, stat.f_bfree * unit, stat.f_bavail * unit, stat.f_files, stat.f_ffree,
                     time.monotonic() - begin)


PROBER = Prober()      # one for the process: its thread, and what is stuck, outlast a reload
LOOKER = Aside()       # at logs: a mount that hangs below the log root holds up no answer
WRITER = Aside()       # of the state: a file system that is frozen, as for a snapshot, holds up no verdict


class Host:
    """A box, read through two folders: PROC is /proc or a folder of files bound from it, SYS is /sys.

    `root` leads to /run, /boot, /etc, and to this process's own /proc where PROC has none. Readers raise Hidden.
    """

    def __init__(self, proc: str = "/proc", sys: str = "/sys", state_dir: str | None = None, root: str = "",
                 statvfs: Callable[[str], os.statvfs_result] = os.statvfs) -> None:
        self.proc, self.sys, self.state_dir, self.root = proc, sys, state_dir, root
        self.prober = PROBER if statvfs is os.statvfs else Prober(statvfs)
        self.bound = not os.path.exists(f"{proc}/self")            # as the unit's /run/hostproc
        self.own = f"{root}/proc/self" if self.bound else f"{proc}/self"
        self.timesync = f"{root}/run/systemd/timesync"             # systemd-timesyncd's folder: `synchronized` is in it
        self.cpu_floor: dict[str, tuple[int, ...]] = {}            # highest jiffies served, by CPU
        self.tables = [name for name in ("mountinfo", "1/mountinfo") if os.access(f"{proc}/{name}", os.R_OK)]
        self._mounts: tuple[bytes, Mounts] | None = None
        self._kept: tuple[int, dict[str, Any]] = (0, {})           # see kept()
        self._files: dict[str, tuple[int, str, int]] = {}          # of PROC, open, as many as the code has names
        self._reading = threading.Lock()

    def __del__(self) -> None:
        for file, *_ in self._files.values():   # a reload makes a new host; requests in hand may still use this one
            os.close(file)

    def kept(self, minute: int) -> dict[str, Any]:
        """What was looked up in this minute, and is good for all of it."""
        if self._kept[0] != minute:
            self._kept = minute, {}
        return self._kept[1]

    def recall(self, name: str, minute: int) -> bytes:
        """A file below PROC, where it changes seldom, or is absent, as it was this minute."""
        kept = self.kept(minute)
        try:
            data = kept.get(name) or self.read(name)
        except Absent as error:
            data = str(error)
        if name in SELDOM or isinstance(data, str):
            kept[name] = data
        if isinstance(data, str):
            raise Absent(data)
        return cast(bytes, data)

    def read(self, name: str) -> bytes:
        """A file below PROC, whole; below net/, that of the host's network.

        It stays open: the kernel takes longer to open one than to write its text, 60 µs below net/; after an error, as
        when its module was unloaded, it is opened anew. A read gives a page of whole lines, so one of less than half of
        that was the last, but where lines may be so long; to say that UDP has no more, all sockets are gone through.
        """
        with self._reading:
            known = self._files.pop(name, None)
            if not known:
                path = f"{self._network if name.startswith('net/') and not self.bound else self.proc}/{name}"
                known = self._open(path), path, 1 if name.endswith(("mountinfo", "schedstat")) else PAGE_SIZE // 2
            data = self._whole(*known)
            self._files[name] = known
            return data

    def read_sys(self, name: str) -> str:
        """A file below SYS, without the newline at its end: each gives all it has at once."""
        return self.slurp(f"{self.sys}/{name}", READ_BYTES).decode(errors="replace").rstrip("\n")

    def mounts(self) -> Mounts:
        """The host's mounts. Parsed again only when its table has changed: the own one follows by propagation."""
        source = [*self.tables, "self/mountinfo"][0]
        table = self.read(source)
        if self._mounts is None or self._mounts[0] != table:
            own = self.slurp(f"{self.own}/mountinfo")
            self._mounts = table, compare_mounts(f"{self.proc}/{source}", table, own)
        return self._mounts[1]

    def slurp(self, path: str, least: int = 1) -> bytes:
        """A file, whole."""
        file = self._open(path)
        data = self._whole(file, path, least)
        os.close(file)
        return data

    @functools.cached_property
    def _network(self) -> str:
        """The folder whose net/ is that of the host: process 1, and where ProtectProc hides this, the own one.

        Unless that one is private: net/unix lists the sockets of one network alone, and in the host's it has systemd's.
        """
        if os.access(f"{self.proc}/1/net/dev", os.R_OK):
            return f"{self.proc}/1"
        sockets = [SYSTEMD_SOCKET.encode()]     # where the list cannot be read, nothing tells of another network
        with contextlib.suppress(Hidden):
            sockets = self.slurp(f"{self.proc}/net/unix").split()
        if os.path.exists(f"{self.root}{SYSTEMD_SOCKET}") and SYSTEMD_SOCKET.encode() not in sockets:
            raise Hidden("hidden by PrivateNetwork=")
        return self.proc

    def _open(self, path: str) -> int:
        """A file, open."""
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise self._why(path, error) from error

    def _whole(self, file: int, path: str, least: int) -> bytes:
        """All of an open file, as it is now; a read that gives less than `least` bytes was the last one. An error
        closes it."""
        try:
            data = b""
            while len(piece := os.pread(file, READ_BYTES, len(data))) >= least:
                data += piece
            return data + piece
        except BaseException as error:
            os.close(file)
            if isinstance(error, OSError):
                raise self._why(path, error) from error
            raise

    def _why(self, path: str, error: OSError) -> Hidden:
        """Name what takes a file away, as far as the outside of it tells."""
        if isinstance(error, PermissionError):
            return Hidden(f"denied: this user may not read {path}")
        if error.errno == errno.EOPNOTSUPP:     # PSI is built in, but off by psi=0
            return Hidden("switched off in this kernel")
        if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
            return Hidden(f"{path}: {error.strerror}")
        if path.startswith(f"{self.proc}/") and not os.path.exists(f"{self.proc}/stat"):
            return Absent("hidden by ProcSubset=pid")
        return Absent(f"not on this kernel, or not bound to {path}" if self.bound else "not on this kernel")


class Facts:
    """One moment of a host, for checks and collectors: each file is read once, when first asked for."""

    def __init__(self, host: Host, now: float | None = None) -> None:
        self.host, self.now = host, time.time() if now is None else now
        self.minute = int(self.now // 60)
        self._texts, self._parsed = dict[str, bytes](), dict[tuple[str, object], object]()

    def get(self, name: str, parse: Callable[[bytes], T]) -> T:
        """parse(PROC/name): a verdict parses less of some than a scrape does."""
        if (name, parse) not in self._parsed:
            text = self._texts[name] = self._texts.get(name) or self.host.recall(name, self.minute)
            self._parsed[name, parse] = parse(text)
        return cast(T, self._parsed[name, parse])

    def find(self, name: str, parse: Callable[[bytes], T]) -> T | None:
        """The same, or None where the kernel or the sandbox has no such file."""
        try:
            return self.get(name, parse)
        except Hidden:
            return None

    def keep(self, name: str, make: Callable[[], T]) -> T:
        """What make() says, once a minute: for what changes seldom, and costs more to ask than it is worth."""
        kept = self.host.kept(self.minute)
        if name not in kept:
            kept[name] = make()
        return cast(T, kept[name])

    @functools.cached_property
    def cores(self) -> int:
        """Processors that are on."""
        return sum(name.startswith("cpu") for name in self.get("stat", parse_stat)) - 1 or 1

    @functools.cached_property
    def mounts(self) -> Mounts:
        """The host's mounts."""
        return self.host.mounts()

    @functools.cached_property
    def usage(self) -> dict[str, Answer]:
        """Mount point → Usage or the reason; file systems that may hang come last."""
        order = sorted(self.mounts.seen, key=lambda mount: MAY_HANG.match(mount.fstype) is not None)
        local = frozenset(mount.point for mount in order if not MAY_HANG.match(mount.fstype))
        return self.host.prober.ask([mount.point for mount in order], local)

    @functools.cached_property
    def uptime(self) -> float:
        """Seconds since boot, from /proc (in LXC the container's), else from the clock."""
        with contextlib.suppress(Hidden, ValueError, IndexError):
            return float(self.get("uptime", bytes.split)[0])
        return time.clock_gettime(time.CLOCK_BOOTTIME)

# --------------------------------------------------------------------------------------------------------------------
# health: one evaluator for JSON, text, metrics, page
# --------------------------------------------------------------------------------------------------------------------
SLACK = 1.1                   # a limit that was passed is left only 10 % on its good side: no flapping
RING_STEP, RING_SIZE = 60, 360    # s between two samples of free space; samples: 6 h, as node-mixin's predict_linear
RING_AGE = RING_STEP * RING_SIZE  # s after which a sample says nothing any more: the texts say 6 h
BOOT_SLACK = 60               # s by which the time of boot, reckoned from the clock, may move
WRITE_PATIENCE = 0.1          # s for the state file to be written
RING_MOUNTS = 64              # mounts that are followed, at 10 KiB of state each
LEVELS_MAX = 1000             # things that are not well, and so have SLACK; of more those judged longest ago lose it
ETA_SPANS = (1800, 7200, RING_AGE)    # s: a runaway shows in the shortest first, slow growth amid noise in the longest
ETA_SAMPLES = 6               # of a span that tell something: half an hour, asked every 5 min
ETA_FIT = 0.9                 # r² of the fitted line below which it is noise: a burst in a third of a span has 0.89
ETA_PERCENT = 40              # % left above which an early end is not believed (node-mixin)
ETA_SHOWN = 7 * 86400         # s: a line through 6 h says nothing about the week after
CPU_WINDOW = 60               # s: CPU time is compared with a sample at least this old, once there is one
STATUSES = ("pass", "warn", "fail")
ESSENTIAL = ("disk", "memory")    # a verdict without these is not worth its name: unknown warns
UTILIZATION = ("disk", "inodes", "memory", "swap", "cpu", "files", "conntrack")      # a measurementName of the draft
STATE_FILE = "health.json"
FLAVOUR = re.compile(r"-[a-z][a-z0-9-]*\Z")      # of a kernel's release: -amd64, -cloud-amd64
SILENT_KERNEL = re.compile(r"6\.1[234]\b")      # whose ext4 says nowhere that it has stopped writing
UNCERTAIN = ", the table of this service: which of them are read-only is not certain"
SPANS = ((86400, "d"), (3600, "h"), (60, "min"))
MEMORY_LINE = re.compile(rb"^((?:Mem|Swap)(?:Total|Free|Available)): *(\d+) kB", re.MULTILINE)      # of 55 in meminfo
OOM_LINE = re.compile(rb"(oom_kill) (\d+)")      # of 200 in vmstat
ARC_LINE = re.compile(rb"^(size|c_min) +\d+ +(\d+)", re.MULTILINE)      # /proc/spl/kstat/zfs/arcstats


def parse_memory(data: bytes) -> dict[bytes, int]:
    """/proc/meminfo → {b'MemTotal': bytes}: what a verdict wants of it."""
    return {name: int(size) << 10 for name, size in MEMORY_LINE.findall(data)}


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
        return 503 if self.status == "fail" else 200

    def keep(self, wanted: Callable[[Check], bool]) -> Verdict:
        """The verdict over some of the checks, as bad as the worst of them: /health/CHECK and ?exclude=CHECK."""
        checks = tuple(check for check in self.checks if wanted(check))
        worst = max((check.status for check in checks), key=STATUSES.index, default="pass")
        return self._replace(checks=checks, status=worst)


class Bound(NamedTuple):
    """The limits of a check, in force and in words."""
    low: bool                          # whether it is bad to be below them
    steps: Sequence[Sequence[float]]   # of warn and of fail: what each reading is compared with, 0 for nothing
    words: Sequence[str]               # for each of STATUSES: '', '10 % and 10 GiB', '3 % and 5 GiB'
    text: str                          # 'warn below 10 % and 10 GiB, fail below 3 % and 5 GiB'


NO_BOUND = Bound(False, (), (), "")


def size_words(number: float) -> str:
    """1234567 → '1.18 MiB'."""
    power = min(4, int(math.log(max(1, abs(number)), 1024) + 0.004))      # 1000 bytes are 0.98 KiB
    return f'{number / 1024 ** power:.3g} {("bytes", "KiB", "MiB", "GiB", "TiB")[power]}'


def span_words(seconds: float) -> str:
    """17000 → '4.7 h'."""
    length, unit = next((pair for pair in SPANS if seconds >= 2 * pair[0]), (1, "s"))
    return f"{seconds / length:.{int(1 < length and seconds < 10 * length)}f} {unit}"


def suffice(samples: Sequence[tuple[float, float]]) -> bool:
    """Whether there are enough samples, over enough time, to tell something."""
    return len(samples) >= ETA_SAMPLES and samples[-1][0] - samples[0][0] >= ETA_SPANS[0]


def forecast(samples: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """Least squares over (time, bytes left) → (bytes/s, time when none are left), or None if that cannot be told."""
    gap = max((later - then for (then, _), (later, _) in itertools.pairwise(samples)), default=0)
    if not suffice(samples) or gap > (samples[-1][0] - samples[0][0]) / 2:      # between two clouds a line always fits
        return None
    mean_t, mean_y = (sum(column) / len(samples) for column in zip(*samples))
    tt = sum((t - mean_t) ** 2 for t, _ in samples)
    ty = sum((t - mean_t) * (y - mean_y) for t, y in samples)
    yy = sum((y - mean_y) ** 2 for _, y in samples)
    if ty >= 0 or ty * ty < ETA_FIT * tt * yy:
        return None
    return ty / tt, max(samples[-1][0], mean_t - mean_y * tt / ty)


def first_end(ring: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    """The earliest of the forecasts out of the newest samples that make up each of ETA_SPANS, or None."""
    starts = {max(0, bisect.bisect_right(ring, (ring[-1][0] - span, math.inf)) - 1) for span in ETA_SPANS}
    return min(filter(None, (forecast(ring[start:]) for start in starts)), key=lambda end: end[1], default=None)


class Health:
    """What outlives one evaluation, and how a reading becomes a status by the limits. A small file keeps the trends."""

    def __init__(self, host: Host, limits: Mapping[str, float] | None = None) -> None:
        self.host = host
        self.limits = {name: default for name, default, _, _ in THRESHOLDS} | dict(limits or {})
        self.bounds = {name: self._bound(name, unit, side) for name, unit, side, *_ in LIMITS}
        self.path = f"{host.state_dir}/{STATE_FILE}" if host.state_dir else ""
        self.trouble = "" if self.path else "no state directory: disk trends start anew at each restart"
        self.levels: dict[str, int] = {}                       # 'disk/var' → index of STATUSES, where it is not 0
        self.rings: dict[str, list[tuple[float, float]]] = {}  # mount point → (time, bytes left); 'oom' → (time, kills)
        self.ends: dict[str, tuple[float, float] | None] = {}  # mount point → forecast
        self.cpu: list[tuple[int, ...]] = []                   # at most two samples, CPU_WINDOW apart
        self.lock = threading.Lock()                           # one evaluation at a time
        self.changed = False
        if self.path and os.path.exists(self.path):
            self._load()

    def _load(self) -> None:
        """A damaged file is an empty past."""
        try:
            with open(self.path, encoding="utf-8") as file:
                rings = json.load(file)
            self.rings = {point: [(float(t), float(y)) for t, y in ring] for point, ring in rings.items() if ring}
            self.ends = {point: first_end(ring) for point, ring in self.rings.items()}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            self.trouble = f"{self.path} was not usable: {error}"

    def save(self) -> None:
        """Have the file replaced, and wait no longer than WRITE_PATIENCE."""
        if self.path and self.changed and not WRITER.busy():
            self.changed = False
            WRITER.do(partial(self._write, json.dumps(self.rings)), WRITE_PATIENCE)

    def _write(self, text: str) -> None:
        """Replace the file; without fsync, since a lost one costs half an hour of forecast and nothing else."""
        scratch = f"{self.path}.{secrets.token_hex(8)}"
        try:
            with open(scratch, "x", encoding="utf-8") as file:      # the folder's owner may have put a link there
                file.write(text)
            os.replace(scratch, self.path)
            self.trouble = ""
        except OSError as error:
            self.trouble = f"{self.path} cannot be written ({error.strerror}): disk trends end with this process"
            with contextlib.suppress(OSError):
                os.unlink(scratch)

    def follow(self, point: str, now: float, avail: int) -> tuple[float, float] | None:
        """Take a sample if one is due, and say when the disk is full. A clock that went back starts anew."""
        ring = self.rings.get(point, [])
        if ring and 0 <= now - ring[-1][0] < RING_STEP:
            return self.ends.get(point)
        if not ring:        # mounts that are gone make room for a new one
            for gone in [name for name, old in self.rings.items() if name != "oom" and now - old[-1][0] > RING_AGE]:
                del self.rings[gone]
        if not ring and len(self.rings) > RING_MOUNTS:
            return None
        ring = [*(sample for sample in ring if 0 < now - sample[0] <= RING_AGE), (int(now), avail)][-RING_SIZE:]
        self.rings[point], self.ends[point], self.changed = ring, first_end(ring), True
        return self.ends[point]

    def last_oom(self, now: float, boot: float, kills: int) -> float:
        """When the last of so many OOM kills was; the time of boot where that is not known. Kept in the state file, as
        this process is among the first that the kernel kills."""
        known = self.rings.get("oom", [])
        then, before = known[0] if known and known[0][0] > boot - BOOT_SLACK else (boot, kills)
        then = now if kills > before else then
        self.rings["oom"] = [(then, kills)]
        self.changed = self.changed or known != self.rings["oom"]
        return then

    def _bound(self, name: str, unit: str, side: str) -> Bound:
        """A row of LIMITS, with the limits that are in force."""
        steps = [[self.limits.get(f"{name}{twin}-{status}", 0.0) for twin in ("", "-bytes")] for status in STATUSES[1:]]
        steps = [step if step[0] else [0.0, 0.0] for step in steps]     # 0 is never reached, whatever its twin
        words = ["", *(" and ".join(([f"{limit:g} {unit}"] if limit else []) + ([size_words(twin)] if twin else []))
                       for limit, twin in steps)]
        text = ", ".join(f"{status} {side} {limit}" for status, limit in zip(STATUSES, words) if limit)
        return Bound(side == "below", steps, words, text)

    def judge(self, name: str, component: str, value: float, unit: str, text: str, *readings: float,
              worst: str = "fail", tail: str = "") -> Check:
        """A Check with the worst status of which the readings pass all limits.

        The readings are compared with NAME-warn and NAME-bytes-warn, and with NAME-fail likewise.
        """
        level, before, bound = 0, self.levels.get(name + component, 0), self.bounds.get(name, NO_BOUND)
        for step, limits in enumerate(bound.steps[:STATUSES.index(worst)], 1):
            slack = SLACK if before >= step else 1.0
            passed = [reading < limit * slack if bound.low else reading > limit / slack
                      for reading, limit in zip(readings, limits) if limit]
            level = step if passed and all(passed) else level
        self.levels.pop(name + component, None)
        self.levels |= {name + component: level} if level else {}
        if len(self.levels) > LEVELS_MAX:       # of mounts that are gone, with ever new names
            del self.levels[next(iter(self.levels))]
        words = f"{text} (limit {bound.words[level]})" if level else text
        return Check(name, component, round(value, 2), unit, STATUSES[level], bound.text, words + tail)


def unknown(name: str, component: str, reason: str, status: str = "pass") -> Check:
    """A check without a value."""
    return Check(name, component, None, "", status, "", f"{component} {reason}".lstrip())


def disks(facts: Facts, read_only: bool = False) -> Iterator[Mount]:
    """Each file system once, at its shortest mount point; a read-only one cannot fill and is left out, and so is one
    that says it has no size, as a FUSE that does not tell: nor does df show that."""
    done = set()
    for mount in sorted(facts.mounts.seen, key=lambda mount: len(mount.point)):
        if mount.device not in done and (read_only or "ro" not in mount.super_options
                                         and getattr(facts.usage[mount.point], "size", True)):
            done.add(mount.device)
            yield mount


def filling(facts: Facts, health: Health, point: str, usage: Usage) -> list[tuple[float, str]]:
    """Seconds until a file system is full, and that in words; nothing where that is far off, or not known."""
    rate, end = health.follow(point, facts.now, usage.avail) or (0.0, math.inf)
    left = max(0.0, end - facts.now)
    soon = left < ETA_SHOWN and 100 - usage.percent < ETA_PERCENT
    return [(left, f"full in about {span_words(left)} at {size_words(-rate * 3600)}/h")] if soon else []


def check_space(facts: Facts, health: Health, point: str, usage: Usage) -> Check:
    """One file system's space, and in words when it will end."""
    reserved, left = usage.free - usage.avail, 100 - usage.percent
    tail = f", {size_words(reserved)} more reserved for root" if reserved > 0 else ""
    tail += "".join(f", {words}" for _, words in filling(facts, health, point, usage))
    text = f"{point} {math.ceil(usage.percent)} % used, {size_words(usage.avail)} left"
    check = health.judge("disk", point, usage.percent, "%", text, left, usage.avail, tail=tail)
    if not usage.age:
        return check
    text = f"{check.reason}; that was {span_words(usage.age)} ago, and took {usage.took:.1f} s to answer"
    slow = health.judge("stuck", point, 0, "", text, usage.took)
    return check._replace(status=max(check.status, slow.status, key=STATUSES.index), reason=slow.reason)


def check_disk(facts: Facts, health: Health) -> Iterator[Check]:
    """Space by df's rule, in percent and bytes, and how long it will last; mounts that hang or are hidden."""
    for mount in disks(facts):
        usage, since = facts.usage[mount.point], facts.host.prober.stuck.get(mount.point)
        if isinstance(usage, Usage):
            yield check_space(facts, health, mount.point, usage)
        elif since is None:         # a folder that is closed to this user is no fault of the disk below it
            yield unknown("disk", mount.point, usage, "pass" if usage in FORBIDDEN else "warn")
        else:
            seconds = time.monotonic() - since
            text = f"{mount.point} ({mount.fstype} of {mount.source}) {usage} for {span_words(seconds)}"
            yield health.judge("stuck", mount.point, 0, "", text, seconds)._replace(name="disk", value=None)
    for mount in facts.mounts.hidden:
        yield unknown("disk", mount.point, "is hidden from this service (ProtectHome or another sandbox option)")


def check_disk_eta(facts: Facts, health: Health) -> Iterator[Check]:
    """The file system that is full first. This alone warns of that: `disk` says it too, but judges what is left now."""
    ends = [(*end, mount.point) for mount in disks(facts) if isinstance(usage := facts.usage[mount.point], Usage)
            for end in filling(facts, health, mount.point, usage)]
    if not ends:
        known = any(map(suffice, health.rings.values()))
        raise Hidden("no file system fills up steadily" if known else "needs half an hour of samples of free space")
    left, words, point = min(ends)
    yield health.judge("disk-eta", point, left / 3600, "h", f"{point} {words}", left / 3600)


def check_inodes(facts: Facts, health: Health) -> Iterator[Check]:
    """Inodes, where the file system counts them: vfat and btrfs say 0, some FUSE 2⁶⁴-1."""
    for mount in disks(facts):
        usage = facts.usage[mount.point]
        if isinstance(usage, Usage) and 0 < usage.files < 1 << 63:
            left = 100 * usage.files_free / usage.files
            text = f"{mount.point} {math.ceil(100 - left)} % of inodes used, {usage.files_free} left"
            yield health.judge("inodes", mount.point, 100 - left, "%", text, left)


def went_readonly(mount: Mount, exact: bool) -> bool:
    """Whether an error made a file system read-only: emergency_ro says so, or `ro` in the super block alone."""
    return "emergency_ro" in mount.super_options or (exact and "ro" in mount.super_options and "rw" in mount.options)


def check_readonly(facts: Facts, health: Health) -> Iterator[Check]:
    """File systems that went read-only by an error: in the super block alone, since `mount -o ro` sets both options.

    ext4 keeps its `rw` then and says emergency_ro since 6.15, nothing from 6.12 to 6.14: there errors_count tells.
    """
    for mount in disks(facts, read_only=True):
        bad = went_readonly(mount, facts.mounts.exact)
        text = f"{mount.point} went read-only after an error" if bad else f"{mount.point} is as it was mounted"
        yield Check("readonly", mount.point, int(bad), "", "fail" if bad else "pass", "", text)


def check_ext4_errors(facts: Facts, health: Health) -> Iterator[Check]:
    """The error counter in each ext4 super block, which stays until e2fsck clears it."""
    for mount in (mount for mount in disks(facts, read_only=True) if mount.fstype == "ext4"):
        try:
            device = os.path.basename(os.readlink(f"{facts.host.sys}/dev/block/{mount.device}"))
            count, last = (int(facts.host.read_sys(f"fs/ext4/{device}/{file}"))
                           for file in ("errors_count", "last_error_time"))
        except UNKNOWN:
            yield unknown("ext4-errors", mount.point, "has no error counter to be seen")
            continue
        ago = max(0.0, facts.now - last)
        guess = count and "errors=remount-ro" in mount.super_options and SILENT_KERNEL.match(os.uname().release)
        stopped = count and (went_readonly(mount, facts.mounts.exact) or guess and ago < facts.uptime)
        said = f"has {count} ext4 error{'s'[:count != 1]} on {device}, the last {span_words(ago)} ago"
        text = said if count else "has no ext4 errors"
        yield Check("ext4-errors", mount.point, count, "", "fail" if stopped else "warn" if count else "pass", "",
                    f'{mount.point} {text}{", and writes no more" if stopped else ""}')


def memory_limits(host: Host) -> list[tuple[str, int]]:
    """cgroup v2 path and limit of this process's group and those above it that have one."""
    own, found = "/", []
    with contextlib.suppress(Hidden):
        own = host.slurp(f"{host.own}/cgroup").decode().rpartition("0::")[2].strip() or "/"
    for group in (*parents(own), own):
        for file in ("memory.high", "memory.max"):      # from the former on its processes are throttled
            with contextlib.suppress(*UNKNOWN):         # no such controller, or the limit is 'max'
                found.append((group, int(host.read_sys(f"fs/cgroup{group}/{file}"))))
                break
    return found


def memory_groups(facts: Facts) -> Iterator[tuple[str, int, int]]:
    """cgroup v2 path, limit, use without page cache, of the groups with a limit."""
    for group, limit in facts.keep("memory.max", partial(memory_limits, facts.host)):
        with contextlib.suppress(*UNKNOWN):
            cache = dict(map(str.split, facts.host.read_sys(f"fs/cgroup{group}/memory.stat").splitlines()))
            used = int(facts.host.read_sys(f"fs/cgroup{group}/memory.current"))
            yield group, limit, max(0, used - int(cache["active_file"]) - int(cache["inactive_file"]))


def check_memory(facts: Facts, health: Health) -> Iterator[Check]:
    """MemAvailable and what ZFS would give back; the limits of this service's cgroup and of those above it."""
    memory = facts.get("meminfo", parse_memory)
    arc = dict(facts.find("spl/kstat/zfs/arcstats", ARC_LINE.findall) or ())
    total, cached = memory[b"MemTotal"], max(0, int(arc.get(b"size", 0)) - int(arc.get(b"c_min", 0)))
    free = min(total, memory.get(b"MemAvailable", memory[b"MemFree"]) + cached)      # openzfs #10255
    left, text = 100 * free / total, f"memory {size_words(free)} of {size_words(total)} available"
    psi = facts.find("pressure/memory", parse_pressure)
    calm = psi is not None and not psi["some"]["avg60"]      # a database may use it all and be well
    calm = calm and health.levels.get("memory", 0) < 2       # once it fails, only more memory ends that
    yield health.judge("memory", "", 100 - left, "%", text, left, worst="warn" if calm else "fail")
    for group, limit, used in memory_groups(facts):
        if limit < total:
            left = 100 - 100 * used / limit
            text = f"memory {size_words(limit - used)} of {size_words(limit)} in cgroup {group} available"
            worst = "fail" if group == "/" else "warn"      # '/' limits a whole container, all else some service
            yield health.judge("memory", f"cgroup {group}", 100 - left, "%", text, left, worst=worst)


def check_cpu(facts: Facts, health: Health) -> Iterator[Check]:
    """CPU time used since the sample before the last; never a made-up 0 when there is none."""
    row, second = facts.get("stat", parse_stat)["cpu"][:8], USER_HZ * facts.cores      # guest time is inside user
    now, kept = (sum(row), row[3] + row[4], row[4], row[7]), health.cpu
    if not kept or now[0] - kept[-1][0] >= CPU_WINDOW * second:
        kept[:] = [*kept[-1:], now]
    total, idle, wait, steal = (max(0, new - old) for new, old in zip(now, kept[0]))
    if total < second:
        raise Hidden("needs two samples at least 1 s apart")
    busy = 100 - 100 * min(total, idle) / total
    text = (f"CPU {busy:.0f} % used in {span_words(total / second)}, "
            f"{100 * wait / total:.0f} % waiting for I/O, {100 * steal / total:.0f} % stolen")
    worst = "fail" if total >= CPU_WINDOW * second else "pass"      # any short span may be a busy one
    yield health.judge("cpu", "", busy, "%", text, busy, worst=worst)


@functools.lru_cache(maxsize=4)
def oom_units(sys: str, kills: int) -> str:
    """The cgroups in which there were OOM kills, for one count of them. A group that ended since then left no trace."""
    found = []
    for path in sorted(glob.iglob(f"{glob.escape(sys)}/fs/cgroup/**/memory.events.local", recursive=True)):
        with contextlib.suppress(OSError), open(path, encoding="ascii") as file:      # gone since it was listed
            count = int(dict(line.split() for line in file).get("oom_kill", 0))
            found += [f"{os.path.basename(os.path.dirname(path))} {count}"] if count else []
    return ", ".join(found) or "unit not known any more"


def check_oom(facts: Facts, health: Health) -> Iterator[Check]:
    """OOM kills since boot, with the units; warns for a while after the last, or after boot where that is not known."""
    kills, boot = int(dict(facts.get("vmstat", OOM_LINE.findall))[b"oom_kill"]), facts.now - facts.uptime
    last = health.last_oom(facts.now, boot, kills)
    ago = (facts.now - last) / 60 if kills else math.inf
    many = "kill" if kills == 1 else "kills"
    text = f"{kills} OOM {many} since boot ({oom_units(facts.host.sys, kills)})" if kills else "no OOM kill since boot"
    yield health.judge("oom", "", kills, "", text, ago)


def other_kernel(root: str, running: str) -> str:
    """Which kernel would run after a reboot, in words, '' if the same one.

    Only those of the running one's flavour count: one from outside, as some virtual machines have, runs again.
    """
    if not os.path.isdir(f"{root}/boot") or os.path.exists(f"{root}/run/systemd/container"):      # its host's runs
        return ""
    names = [name.removeprefix("vmlinuz-") for name in sorted(os.listdir(f"{root}/boot"))
             if name.startswith("vmlinuz-")]
    numbers = {name: list(map(int, re.findall(r"\d+", FLAVOUR.sub("", name)))) for name in names
               if FLAVOUR.findall(name) == FLAVOUR.findall(running)}
    newest = max(numbers, default=running, key=lambda name: numbers[name])
    gone = "" if running in numbers else ", whose image is gone from /boot"
    return f"kernel {newest} is installed, {running} runs{gone}" if newest != running else ""


def check_reboot(facts: Facts, health: Health) -> Iterator[Check]:
    """Debian's flag file, and where nobody writes that, a kernel in /boot that would run instead of the running one."""
    root, running = facts.host.root, os.uname().release
    reasons = ["/run/reboot-required is there"] if os.path.exists(f"{root}/run/reboot-required") else []
    reasons += filter(None, [facts.keep("kernel", partial(other_kernel, root, running))])
    text = "reboot needed: " + "; ".join(reasons) if reasons else "no reboot needed"
    yield Check("reboot", "", int(bool(reasons)), "", "warn" if reasons else "pass", "", text)


Read = Callable[[Facts], tuple[float, str]]      # value and text of a check that is a single number


def gauge(name: str, unit: str, read: Read) -> Callable[[Facts, Health], Iterator[Check]]:
    """The check of a single number."""
    def check(facts: Facts, health: Health) -> Iterator[Check]:
        value, text = read(facts)
        yield health.judge(name, "", value, unit, text, value)

    return check


def pressure(name: str, who: str, window: str) -> Read:
    """PSI: the kernel's own average of lost time, which needs no state. `who` is 'some' or 'full', every task."""
    words = f'{"every" if who == "full" else "some"} task waited for {name} {{:g}} % of {int(window[3:]) // 60} min'

    def read(facts: Facts) -> tuple[float, str]:
        value = facts.get(f"pressure/{name}", parse_pressure)[who][window]
        return value, words.format(value)

    return read


def share(words: str, used: int, limit: int) -> tuple[float, str]:
    """What is used of a limit, in percent and in words."""
    return 100 * used / limit, f"{used} of {limit} {words}"


def read_swap(facts: Facts) -> tuple[float, str]:
    """Swap used, in percent."""
    memory = facts.get("meminfo", parse_memory)
    if not memory[b"SwapTotal"]:
        raise Hidden("no swap here")
    used = 100 - 100 * memory[b"SwapFree"] / memory[b"SwapTotal"]
    return used, f'swap {used:.0f} % of {size_words(memory[b"SwapTotal"])} used'


def read_open_files(facts: Facts) -> tuple[float, str]:
    """Open files of the system's limit, in percent."""
    used, _, limit = map(int, facts.get("sys/fs/file-nr", bytes.split))
    return share("files open", used, limit) if limit < 1 << 62 else (0.0, f"{used} files open, without a limit")


def read_load(facts: Facts) -> tuple[float, str]:
    """Load over 15 min per core."""
    loads = facts.get("loadavg", bytes.split)
    return float(loads[2]) / facts.cores, f'load {b" ".join(loads[:3]).decode()} on {facts.cores} cores'


def last_sync(facts: Facts) -> float | None:
    """When systemd-timesyncd last set the clock, by the file that it touches then; None: not yet. Raises Hidden."""
    if not os.path.isdir(facts.host.timesync):
        raise Hidden("systemd-timesyncd does not run; another time service cannot be seen")
    with contextlib.suppress(FileNotFoundError):
        return os.path.getmtime(f"{facts.host.timesync}/synchronized")
    return None


def read_clock(facts: Facts) -> tuple[float, str]:
    """Minutes since the last synchronisation. ProtectClock blocks adjtimex(2), even to read."""
    synced = last_sync(facts)
    since = max(0.0, facts.uptime if synced is None else facts.now - synced)
    return since / 60, f'clock {"not synchronised for" if synced is None else "synchronised"} {span_words(since)}'


def read_conntrack(facts: Facts) -> tuple[float, str]:
    """Tracked connections of the limit, in percent."""
    entries = int(facts.get("net/stat/nf_conntrack", parse_conntrack)["entries"][0], 16)
    return share("connections tracked", entries, int(facts.get(CONNTRACK_MAX, bytes.split)[0]))


CHECKS: dict[str, Callable[[Facts, Health], Iterator[Check]]] = {
    "disk": check_disk, "disk-eta": check_disk_eta, "inodes": check_inodes, "readonly": check_readonly,
    "ext4-errors": check_ext4_errors, "memory": check_memory, "cpu": check_cpu, "oom": check_oom,
    "reboot": check_reboot,
    **{name: gauge(name, unit, read) for name, unit, read in (
        ("swap", "%", read_swap), ("load", "per core", read_load), ("clock", "min", read_clock),
        ("cpu-pressure", "%", pressure("cpu", "some", "avg300")), ("conntrack", "%", read_conntrack),
        ("io-pressure", "%", pressure("io", "full", "avg300")),
        ("memory-pressure", "%", pressure("memory", "full", "avg60")),
        ("files", "%", read_open_files),
        ("uptime", "s", lambda facts: (facts.uptime, f"up {span_words(facts.uptime)}")))},
}


def run_check(name: str, facts: Facts, health: Health) -> list[Check]:
    """One check's results, or the reason why there are none."""
    try:
        return list(CHECKS[name](facts, health))
    except UNKNOWN as error:
        reason = str(error) if isinstance(error, Hidden) else f"not understood: {error!r}"
        return [unknown(name, "", reason, "warn" if name in ESSENTIAL else "pass")]


def evaluate(health: Health, extra: Sequence[Check] = (), facts: Facts | None = None) -> Verdict:
    """Judge everything, and `extra` with it, in little more than STATVFS_DEADLINE whatever hangs. Thread-safe."""
    facts = facts or Facts(health.host)
    with health.lock:
        checks = (*(check for name in CHECKS for check in run_check(name, facts, health)), *extra)
        health.save()
    ages = {point: getattr(answer, "age", 0) for point, answer in vars(facts).get("usage", {}).items()}
    notes = [f"{check.name}: {check.reason}" for check in checks
             if check.value is None or (check.name == "disk" and ages.get(check.component))]
    if "mounts" in vars(facts):      # else there is a note why not
        notes.insert(0, f'mounts from {facts.mounts.source}{"" if facts.mounts.exact else UNCERTAIN}')
    visibility = (*notes, *([health.trouble] if health.trouble else []))
    return Verdict("", facts.now, checks, visibility, os.uname().nodename, facts.uptime).keep(lambda _: True)


def troubles(verdict: Verdict) -> str:
    """The reasons of all checks that do not pass, the worst first; of several logs the names alone."""
    worst_first = sorted(verdict.checks, key=lambda check: -STATUSES.index(check.status))
    told = {check: check.reason for check in worst_first if check.status != "pass"}
    logs = [check for check in told if check.name == "logs" and check.component]
    if len(logs) > 1:
        names = ", ".join([check.component for check in logs[:NAMED_MAX]] + ["…"] * (len(logs) > NAMED_MAX))
        told |= dict.fromkeys(logs, "") | {logs[0]: f"{len(logs)} logs cannot be read, or soon will not be: {names}"}
    return "; ".join(filter(None, told.values()))


def health_json(verdict: Verdict) -> dict[str, object]:
    """draft-inadarei-api-health-check-06. `status` and the reasons come first: some probes keep only 1 KiB."""
    when, output = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(verdict.time)), troubles(verdict)
    checks: dict[str, list[dict[str, object]]] = {}
    for name, component, value, unit, status, limit, reason in verdict.checks:
        row = {"componentId": component, "componentType": "system", "status": status, "observedValue": value,
               "observedUnit": unit, "limit": limit, "time": when,
               "output": reason if status != "pass" or value is None else ""}
        key = f'{name}:{"utilization" if name in UTILIZATION else "value"}'
        checks.setdefault(key, []).append({member: said for member, said in row.items() if said != ""})
    return {"status": verdict.status, **({"output": output} if output else {}), "time": when,
            "description": f"health of {verdict.host}", "notes": list(verdict.visibility), "checks": checks}


def health_text(verdict: Verdict) -> str:
    """The verdict in plain words on the first line, then a line for each check; '?' where it is not known."""
    known = sum(check.value is not None for check in verdict.checks)
    well = f"{verdict.host} is well by {known} check{'s' * (known != 1)}, up {span_words(verdict.uptime)}"
    rows = (("?" if check.value is None and check.status == "pass" else check.status, check)
            for check in verdict.checks)
    return "\n".join([f"{verdict.status}: {troubles(verdict) or well}",
                      *(f"{mark:4}  {check.name:15}  {check.reason}" for mark, check in rows),
                      *(f"note  {note}" for note in verdict.visibility), ""])

# --------------------------------------------------------------------------------------------------------------------
# exposition: node_exporter's names, Prometheus text
# --------------------------------------------------------------------------------------------------------------------
Labels = tuple[tuple[str, str], ...]
Sample = tuple[str, Labels, float]      # metric, labels, value
SKIP_DISK = re.compile(r"(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$")
SENSOR_KINDS = {
    "temp": ("_celsius", 1e-3, "temperature"), "in": ("_volts", 1e-3, "voltage"), "curr": ("_amps", 1e-3, "current"),
    "power": ("_watt", 1e-6, "power usage in watts"), "energy": ("_joule_total", 1e-6, "joules used so far"),
    "fan": ("_rpm", 1, "fan revolutions per minute"),
    "humidity": ("", 1e-6, "humidity, as a ratio (multiply with 100.0 to get the humidity as a percentage)")}
SENSOR_ELEMENTS = "input average min max crit crit_hyst min_alarm max_alarm crit_alarm alarm".split()
SENSOR = re.compile(f"(({'|'.join(SENSOR_KINDS)})\\d+)_(label|{'|'.join(SENSOR_ELEMENTS)})")
SYNC_SECONDS = 9 * 3600       # without NTP the kernel's maximum error passes 16 s, its bound, by then
HOTPLUG_IDLE = 3 * USER_HZ    # jiffies that idle may go back before the CPU counts as new (node_exporter)
CPU_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
CPU_METRICS = ["node_cpu_seconds_total"] * len(CPU_MODES) + ["node_cpu_guest_seconds_total"] * 2
USAGE_METRICS = ["node_filesystem_" + name for name in "size_bytes free_bytes avail_bytes files files_free".split()]
OS_LABELS = ("build_id", "id", "id_like", "image_id", "image_version", "name", "pretty_name", "variant", "variant_id",
             "version", "version_codename", "version_id")
STAT_NAMES = {"intr": "intr_total", "ctxt": "context_switches_total", "processes": "forks_total",
              "btime": "boot_time_seconds", "procs_running": "procs_running", "procs_blocked": "procs_blocked"}
NETWORK_STATE = ("operstate", "carrier", "statistics/rx_nohandler")
NETWORK_LABELS = ("address", "broadcast", "duplex", "operstate", "adminstate", "ifalias")
THERMAL = (("temp", "thermal_zone_temp", "zone", 1e-3), ("cur_state", "cooling_device_cur_state", "name", 1),
           ("max_state", "cooling_device_max_state", "name", 1))


def scaled(prefix: str, names: str) -> list[tuple[str, float]]:
    """'a_total b_bytes*512 -' → metric names and factors to base units, by the columns of a file; '-' is left out."""
    fields = (field.partition("*") for field in names.split())
    return [(prefix + name if name != "-" else "", json.loads(factor or "1")) for name, _, factor in fields]


DISK_COLUMNS = scaled(
    "node_disk_", "reads_completed_total reads_merged_total read_bytes_total*512 read_time_seconds_total*1e-3 "
    "writes_completed_total writes_merged_total written_bytes_total*512 write_time_seconds_total*1e-3 io_now "
    "io_time_seconds_total*1e-3 io_time_weighted_seconds_total*1e-3 discards_completed_total discards_merged_total "
    "discarded_sectors_total discard_time_seconds_total*1e-3 flush_requests_total "
    "flush_requests_time_seconds_total*1e-3")
NET_COLUMNS = [(f"node_network_{way}_{name}_total", 1) for way, last in (
    ("receive", ("frame", "compressed", "multicast")), ("transmit", ("colls", "carrier", "compressed")))
    for name in ("bytes", "packets", "errs", "drop", "fifo", *last)]
NETCLASS = dict(zip(
    "carrier speed mtu flags tx_queue_len carrier_changes carrier_up_count carrier_down_count ifindex iflink link_mode "
    "statistics/rx_nohandler addr_assign_type name_assign_type netdev_group dev_id dormant type".split(), scaled(
        "node_network_", "carrier speed_bytes*125000 mtu_bytes flags transmit_queue_length carrier_changes_total "
        "carrier_up_changes_total carrier_down_changes_total iface_id iface_link iface_link_mode "
        "receive_nohandler_total address_assign_type name_assign_type net_dev_group device_id dormant protocol_type")))
NETWORK_FACTS = {*NETCLASS, *NETWORK_LABELS} - {*NETWORK_STATE, "adminstate"}
SOFTNET_COLUMNS = scaled("node_softnet_", "processed_total dropped_total times_squeezed_total - - - - - "
                         "cpu_collision_total received_rps_total flow_limit_count_total backlog_len")
SCHED_COLUMNS = scaled("node_schedstat_", "- - - - - - running_seconds_total*1e-9 waiting_seconds_total*1e-9 "
                       "timeslices_total")


HELP_BY_PREFIX = (
    ("node_memory_", "Memory information field {}."), ("node_vmstat_", "/proc/vmstat information field {}."),
    ("node_netstat_", "Statistic {}."), ("node_network_receive_", "Network device statistic {}."),
    ("node_network_transmit_queue_length", "Network device property: {}"),
    ("node_network_transmit_", "Network device statistic {}."), ("node_network_", "Network device property: {}"))


def sensor_metric(kind: str, element: str) -> tuple[str, float, str]:
    """Name, factor to base units, and HELP of what a file of hwmon says, as node_exporter has them."""
    unit, factor, words = SENSOR_KINDS[kind]
    name = f"node_hwmon_{kind}" if element == "input" else f"node_hwmon_{kind}_{element}"
    if element == "alarm":
        return name, 1, f"Hardware sensor alarm status ({kind})"
    if kind == "fan" and element not in ("input", "min", "max"):
        return name, 1, f"Hardware monitor fan element {element}"
    return name + unit, factor, f"Hardware monitor for {words} ({element})"


SENSORS = {(kind, element): sensor_metric(kind, element) for kind in SENSOR_KINDS for element in SENSOR_ELEMENTS}
HELPS = {name: words for name, _, words in (line.partition(": ") for line in """\
logwatch_health_status: The verdict on a check: 0 pass, 1 warn, 2 fail.
logwatch_log_bytes_total: Bytes appended to a log since logwatch knows it or was reloaded.
logwatch_log_lines_total: Lines appended to a log since logwatch knows it or was reloaded, by severity.
logwatch_logs_uncounted: Logs beyond those whose bytes and lines are counted.
logwatch_http_responses_total: Responses in an access log since logwatch knows it or was reloaded, by status code.
node_arp_entries: ARP entries by device
node_boot_time_seconds: Node boot time, in unixtime.
node_context_switches_total: Total number of context switches.
node_cpu_guest_seconds_total: Seconds the CPUs spent in guests (VMs) for each mode.
node_cpu_seconds_total: Seconds the CPUs spent in each mode.
node_disk_info: Info of /sys/block/<block_device>.
node_disk_io_now: The number of I/Os currently in progress.
node_disk_io_time_seconds_total: Total seconds spent doing I/Os.
node_disk_io_time_weighted_seconds_total: The weighted # of seconds spent doing I/Os.
node_disk_read_bytes_total: The total number of bytes read successfully.
node_disk_reads_completed_total: The total number of reads completed successfully.
node_disk_writes_completed_total: The total number of writes completed successfully.
node_disk_written_bytes_total: The total number of bytes written successfully.
node_entropy_available_bits: Bits of available entropy.
node_entropy_pool_size_bits: Bits of entropy pool.
node_filefd_allocated: File descriptor statistics: allocated.
node_filefd_maximum: File descriptor statistics: maximum.
node_filesystem_avail_bytes: Filesystem space available to non-root users in bytes.
node_filesystem_device_error: Whether an error occurred while getting statistics for the given device.
node_filesystem_files: Filesystem total file nodes.
node_filesystem_files_free: Filesystem total free file nodes.
node_filesystem_free_bytes: Filesystem free space in bytes.
node_filesystem_readonly: Filesystem read-only status.
node_filesystem_size_bytes: Filesystem size in bytes.
node_forks_total: Total number of forks.
node_hwmon_chip_names: Annotation metric for human-readable chip names
node_hwmon_sensor_label: Label for given chip and sensor
node_intr_total: Total number of interrupts serviced.
node_load1: 1m load average.
node_load5: 5m load average.
node_load15: 15m load average.
node_network_info: Non-numeric data from /sys/class/net/<iface>, value is always 1.
node_network_up: Value is 1 if operstate is 'up', 0 otherwise.
node_nf_conntrack_entries: Number of currently allocated flow entries for connection tracking.
node_nf_conntrack_entries_limit: Maximum size of connection tracking table.
node_pressure_cpu_waiting_seconds_total: Total time in seconds that processes have waited for CPU time
node_pressure_io_stalled_seconds_total: Total time in seconds no process could make progress due to IO congestion
node_pressure_io_waiting_seconds_total: Total time in seconds that processes have waited due to IO congestion
node_procs_blocked: Number of processes blocked waiting for I/O to complete.
node_procs_running: Number of processes in runnable state.
node_time_clocksource_available_info: Available clocksources read from '/sys/devices/system/clocksource'.
node_time_clocksource_current_info: Current clocksource read from '/sys/devices/system/clocksource'.
node_time_seconds: System time in seconds since epoch (1970).
node_time_zone_offset_seconds: System time zone offset in seconds.
node_timex_sync_status: Is clock synchronized to a reliable server (1 = yes, 0 = no).
node_udp_queues: Number of allocated memory in the kernel for UDP datagrams in bytes.
node_uname_info: Labeled system information as provided by the uname system call.""".splitlines())}
HELPS.update((name, words) for name, _, words in SENSORS.values())


def label_text(labels: Labels) -> str:
    """(('device', 'eth0'),) → '{device="eth0"}'."""
    escaped = ((name, value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")) for name, value in labels)
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}" if labels else ""


def help_text(name: str) -> str:
    """What node_exporter says of a metric, for dashboards show it; else its name in words."""
    for prefix, words in HELP_BY_PREFIX:
        if name.startswith(prefix) and name not in HELPS:
            field = name.removeprefix("node_network_" if "device" in words else prefix)
            field = field.removesuffix("_total") if "device statistic" in words else field
            return words.format(field.replace("_", "") if words == "Statistic {}." else field)
    return HELPS.get(name) or name.partition("_")[2].replace("_", " ") + "."


def head_text(name: str) -> str:
    """A metric's HELP and TYPE. By its name it is a counter or a gauge; the kernel's own names do not tell: untyped."""
    kind = "untyped" if name.startswith(("node_vmstat_", "node_netstat_")) else "gauge"
    return f'# HELP {name} {help_text(name)}\n# TYPE {name} {"counter" if name.endswith("_total") else kind}'


@functools.lru_cache(maxsize=4)      # more than one, as tokens may see different logs
def layout(names: tuple[str, ...], labels: tuple[Labels, ...]) -> tuple[bytes, list[int]]:
    """The text around the values of these series, and the places of those in their order there: from one scrape to the
    next nothing else changes."""
    families: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        families.setdefault(name, []).append(place)
    lines = (text.replace("%", "%%") + value for name, places in families.items() for text, value in (
        (head_text(name), "\n"), *((name + label_text(labels[place]), " %a\n") for place in places)))
    return "".join(lines).encode(errors="replace"), [*itertools.chain(*families.values())]


def render(samples: Iterable[Sample]) -> bytes:
    """Prometheus text format 0.0.4: the samples of one metric stand together, in the order of their first one."""
    names, labels, values = zip(*samples)
    text, places = layout(names, labels)
    return text % tuple(map(values.__getitem__, places))


@functools.lru_cache(maxsize=64)
def metric_names(prefix: str, *names: str) -> list[str]:
    """The metrics of what the kernel calls so; a field of meminfo says by the name whether it is in bytes."""
    units = ["_bytes" * (prefix == "node_memory_" and not name.startswith("HugePages_")) for name in names]
    return [prefix + name.replace("(", "_").replace(")", "") + unit for name, unit in zip(names, units)]


def plain(prefix: str, values: Mapping[str, float]) -> Iterable[Sample]:
    """Samples without labels."""
    return zip(metric_names(prefix, *values), itertools.repeat(()), values.values())


def columns(label: str, names: Sequence[tuple[str, float]],
            rows: Iterable[tuple[str, Iterable[int]]]) -> Iterator[Sample]:
    """The samples of a table whose rows are (label value, numbers); rows may be short."""
    for key, row in rows:
        labels = ((label, key),)
        yield from [(name, labels, number * factor) for (name, factor), number in zip(names, row) if name]


def numbers(*rows: str) -> Callable[[Facts], Iterable[Sample]]:
    """The collector of metrics that are each one word of a file below PROC: 'metric=file' or 'metric=file=place'."""
    fields = [("node_" + name, file, int(place)) for name, file, place in (f"{row}=0".split("=")[:3] for row in rows)]
    return lambda facts: [(name, (), float(facts.get(file, bytes.split)[place])) for name, file, place in fields]


def collect_cpu(facts: Facts) -> Iterator[Sample]:
    """CPU seconds. A mode never goes back, though the kernel's iowait and idle do (node_exporter #1903)."""
    floor = facts.host.cpu_floor
    for name, row in facts.get("stat", parse_stat).items():
        if name.startswith("cpu") and name != "cpu":
            old = floor.get(name, row)
            kept = floor[name] = tuple(map(max, row, old)) if row[3] > old[3] - HOTPLUG_IDLE else row
            labels = [(("cpu", name[3:]), ("mode", mode)) for mode in CPU_MODES * 2]
            yield from zip(CPU_METRICS, labels, [jiffies / USER_HZ for jiffies in kept])


def collect_filesystem(facts: Facts) -> Iterator[Sample]:
    """What hangs, fails or is hidden has device_error 1 and no sizes."""
    mounts = facts.mounts
    for mount in (mount for mount in (*mounts.seen, *mounts.hidden) if mount.fstype != "overlay"):
        usage = facts.usage.get(mount.point, "hidden by the sandbox")
        error, sizes = (usage, ()) if isinstance(usage, str) else ("", usage)
        device, point = ("device", mount.source), ("mountpoint", mount.point)
        labels = (device, point, ("fstype", mount.fstype), ("device_error", error))
        options = mount.super_options | (mount.options if mounts.exact else frozenset())
        yield "node_filesystem_device_error", labels, int(bool(error))
        yield "node_filesystem_readonly", labels, int(not options.isdisjoint(("ro", "emergency_ro")))
        yield "node_filesystem_mount_info", (device, *zip(("major", "minor"), mount.device.split(":")), point), 1
        yield from zip(USAGE_METRICS, itertools.repeat(labels), sizes)


def quiet(host: Host, name: str) -> str:
    """A file of SYS, '' where there is none: drivers answer EINVAL for what they do not know."""
    try:
        return host.read_sys(name)
    except Hidden:
        return ""


def quiet_files(host: Host, folder: str, files: Iterable[str]) -> dict[str, str]:
    """Some files of a folder of SYS, by their names."""
    return {file: quiet(host, f"{folder}/{file}") for file in files}


def collect_netclass(facts: Facts) -> Iterator[Sample]:
    """/sys/class/net shows the network of this process: if the host has more devices than that, it is another one."""
    devices = sorted(os.listdir(f"{facts.host.sys}/class/net"))
    if not set(facts.get("net/dev", parse_net_dev)) <= set(devices):
        raise Hidden("hidden by PrivateNetwork=")
    for device in devices:
        label, folder = (("device", device),), f"class/net/{device}"
        text = (facts.keep(folder, partial(quiet_files, facts.host, folder, NETWORK_FACTS))
                | quiet_files(facts.host, folder, NETWORK_STATE))
        yield "node_network_up", label, int(text["operstate"] == "up")
        for file, (name, factor) in NETCLASS.items():
            if text[file] and text[file] != "-1":      # a speed that is not known
                yield name, label, int(text[file], 0) * factor
        text["adminstate"] = "up" if int(text["flags"] or "0", 0) & 1 else "down"
        yield "node_network_info", (*label, *((name, text[name]) for name in NETWORK_LABELS)), 1


def collect_sockstat(facts: Facts) -> Iterator[Sample]:
    """Sockets in use; memory in pages and in bytes."""
    for row in facts.get("net/sockstat", parse_table) + (facts.find("net/sockstat6", parse_table) or []):
        for name, value in zip(row[1::2], row[2::2]):
            yield f"node_sockstat_{row[0][:-1]}_{name}", (), int(value)
            if name == "mem":
                yield f"node_sockstat_{row[0][:-1]}_mem_bytes", (), int(value) * PAGE_SIZE


def collect_udp_queues(facts: Facts) -> Iterator[Sample]:
    """Bytes in queues. To list its sockets, the kernel goes through a table of 16384 buckets: not if there are none."""
    for ip, six in (("v4", ""), ("v6", "6")):
        counts = [row[:3] for row in facts.find(f"net/sockstat{six}", parse_table) or ()]
        if table := [[]] if [f"UDP{six}:", "inuse", "0"] in counts else facts.find(f"net/udp{six}", parse_table):
            queues = [row[4].split(":") for row in table[1:]]
            for place, queue in enumerate(("tx", "rx")):
                yield "node_udp_queues", (("queue", queue), ("ip", ip)), sum(int(row[place], 16) for row in queues)


def collect_conntrack(facts: Facts) -> Iterator[Sample]:
    """Connections tracked, and what became of packets, summed over all CPUs."""
    table = facts.get("net/stat/nf_conntrack", parse_conntrack)
    yield "node_nf_conntrack_entries", (), int(table["entries"][0], 16)
    yield "node_nf_conntrack_entries_limit", (), int(facts.get(CONNTRACK_MAX, bytes.split)[0])
    for name in ("found", "invalid", "ignore", "insert", "insert_failed", "drop", "early_drop", "search_restart"):
        yield f"node_nf_conntrack_stat_{name}", (), sum(int(number, 16) for number in table[name])


def collect_system(facts: Facts) -> Iterator[Sample]:
    """uname(2), the time, and os-release(5)."""
    names, zone = os.uname(), time.localtime(facts.now)
    domain = (facts.find("sys/kernel/domainname", bytes.decode) or "(none)").strip()
    yield "node_uname_info", (("sysname", names.sysname), ("release", names.release), ("version", names.version),
                              ("machine", names.machine), ("nodename", names.nodename), ("domainname", domain)), 1
    yield "node_time_seconds", (), facts.now
    yield "node_time_zone_offset_seconds", (("time_zone", zone.tm_zone),), zone.tm_gmtoff
    text = facts.host.slurp(f"{facts.host.root}/etc/os-release").decode(errors="replace")
    lines = (line.partition("=") for line in text.splitlines())
    found = collections.defaultdict(str, {key.lower(): value.strip('\'"') for key, _, value in lines})
    yield "node_os_info", tuple((name, found[name]) for name in OS_LABELS), 1
    if number := re.match(r"\d+(\.\d+)?", found["version_id"]):
        yield "node_os_version", tuple((name, found[name]) for name in ("id", "id_like", "name")), float(number[0])


def collect_hwmon(facts: Facts) -> Iterator[Sample]:
    """Sensors. A chip is called by the bus and name of its device, which do not change with the order of drivers."""
    host, seen = facts.host, set()
    for entry in sorted(os.listdir(f"{host.sys}/class/hwmon")):
        *_, bus, device = os.path.realpath(f"{host.sys}/class/hwmon/{entry}/device").split("/")
        name, bus, device = (re.sub(r"[^a-z0-9:_]", "_", word.lower()).strip("_")
                             for word in (quiet(host, f"class/hwmon/{entry}/name"), bus, device))
        chip = f"{bus}_{device}" if device != "device" else name or entry
        chip = f"{chip}_{entry}" if chip in seen else chip
        seen.add(chip)
        yield "node_hwmon_chip_names", (("chip", chip), ("chip_name", name)), 1
        for match in filter(None, map(SENSOR.fullmatch, sorted(os.listdir(f"{host.sys}/class/hwmon/{entry}")))):
            labels, text = (("chip", chip), ("sensor", match[1])), quiet(host, f"class/hwmon/{entry}/{match[0]}")
            if match[3] == "label":
                yield "node_hwmon_sensor_label", (*labels, ("label", text)), 1
            elif text:
                metric, factor, _ = SENSORS[match[2], match[3]]
                yield metric, labels, int(text) * factor


def disk_labels(host: Host, major: str, minor: str, device: str) -> Labels:
    """What udev knows of a disk. `rotational` is empty where it is not known; node_exporter says 0 then."""
    data = b""
    with contextlib.suppress(Hidden):       # udev does not run in a container
        data = host.slurp(f"{host.root}/run/udev/data/b{major}:{minor}")
    known = dict(re.findall("(?m)^E:(.+?)=(.*)$", data.decode(errors="replace")))
    serials = filter(None, map(known.get, ("SCSI_IDENT_SERIAL", "ID_SERIAL_SHORT", "ID_SERIAL")))
    rotational = quiet(host, f"block/{device.replace('/', '!')}/queue/rotational")
    return (("device", device), ("major", major), ("minor", minor), *(
        (label, known.get(f"ID_{label.upper()}", "")) for label in ("path", "wwn", "model", "revision")),
        ("serial", next(serials, "")), ("rotational", rotational))


def collect_disk_info(facts: Facts) -> Iterator[Sample]:
    """The disks there are now, and what was known of each this minute."""
    for disk in (row[:3] for row in facts.get("diskstats", parse_table) if not SKIP_DISK.match(row[2])):
        yield "node_disk_info", facts.keep(f"disk {disk}", partial(disk_labels, facts.host, *disk)), 1


def collect_thermal_zone(facts: Facts) -> Iterator[Sample]:
    """Temperatures by zone, and how far the cooling devices throttle."""
    for entry in sorted(os.listdir(f"{facts.host.sys}/class/thermal")):
        kind = ("type", quiet(facts.host, f"class/thermal/{entry}/type"))
        for file, metric, label, factor in THERMAL:
            if text := quiet(facts.host, f"class/thermal/{entry}/{file}"):
                yield f"node_{metric}", ((label, re.sub(r"\D", "", entry)), kind), int(text) * factor


def collect_process(facts: Facts) -> Iterable[Sample]:
    """This process, under the names that Prometheus' client libraries share."""
    fields = facts.host.slurp(f"{facts.host.own}/stat").rpartition(b") ")[2].split()      # proc_pid_stat(5) from (3) on
    user, system, started, virtual, resident = (int(fields[place]) for place in (11, 12, 19, 20, 21))
    # RLIM_INFINITY is -1 in Python, and 2⁶⁴-1 for all others
    files, space = (resource.getrlimit(kind)[0] % (1 << 64) for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_AS))
    return plain("process_", {
        "cpu_seconds_total": (user + system) / USER_HZ, "resident_memory_bytes": resident * PAGE_SIZE,
        "virtual_memory_bytes": virtual, "virtual_memory_max_bytes": space, "max_fds": files,
        "open_fds": len(os.listdir(f"{facts.host.own}/fd")), "threads": threading.active_count(),
        "start_time_seconds": round(facts.now - time.clock_gettime(time.CLOCK_BOOTTIME) + started / USER_HZ, 1)})


COLLECTORS: dict[str, Callable[[Facts], Iterable[Sample]]] = {
    "arp": lambda facts: (("node_arp_entries", (("device", device),), count) for device, count in collections.Counter(
        row[-1] for row in facts.get("net/arp", parse_table)[1:]).items()),
    "conntrack": collect_conntrack, "cpu": collect_cpu, "filesystem": collect_filesystem, "hwmon": collect_hwmon,
    "netclass": collect_netclass, "process": collect_process, "sockstat": collect_sockstat,
    "system": collect_system, "thermal_zone": collect_thermal_zone,
    "disk_info": collect_disk_info,
    "time": lambda facts: facts.keep("time", lambda: [      # clocksource0 is the only one that any kernel has
        (f"node_time_clocksource_{state}_info", (("device", "0"), ("clocksource", name)), 1)
        for state in ("available", "current") for name in
        facts.host.read_sys(f"devices/system/clocksource/clocksource0/{state}_clocksource").split()]),
    "diskstats": lambda facts: columns("device", DISK_COLUMNS, (
        (row[2], map(int, row[3:])) for row in facts.get("diskstats", parse_table) if not SKIP_DISK.match(row[2]))),
    "entropy": numbers("entropy_available_bits=sys/kernel/random/entropy_avail",
                       "entropy_pool_size_bits=sys/kernel/random/poolsize"),
    "filefd": numbers("filefd_allocated=sys/fs/file-nr", "filefd_maximum=sys/fs/file-nr=2"),
    "kernel_hung": numbers("kernel_hung_tasks_total=sys/kernel/hung_task_detect_count"),
    "loadavg": numbers("load1=loadavg", "load5=loadavg=1", "load15=loadavg=2"),
    "meminfo": lambda facts: plain("node_memory_", facts.get("meminfo", parse_meminfo)),
    "netdev": lambda facts: columns("device", NET_COLUMNS, facts.get("net/dev", parse_net_dev).items()),
    "netstat": lambda facts: plain("node_netstat_", {
        **facts.get("net/snmp", parse_netstat), **facts.get("net/netstat", parse_netstat),
        **(facts.find("net/snmp6", parse_pairs) or {})}),
    "pressure": lambda facts: plain("node_pressure_", {
        f'{name}_{"waiting" if who == "some" else "stalled"}_seconds_total': row["total"] / 1e6
        for name in ("cpu", "io", "memory", "irq")
        for who, row in (facts.find(f"pressure/{name}", parse_pressure) or {}).items()
        if (name, who) != ("cpu", "full")}),      # always 0 for the whole box
    "processes": numbers("processes_max_processes=sys/kernel/pid_max", "processes_max_threads=sys/kernel/threads-max"),
    "schedstat": lambda facts: columns("cpu", SCHED_COLUMNS, (
        (row[0][3:], map(int, row[1:])) for row in facts.get("schedstat", parse_table) if row[0].startswith("cpu"))),
    "softnet": lambda facts: columns("cpu", SOFTNET_COLUMNS, (
        (str(int(row[12], 16) if len(row) > 12 else place), (int(field, 16) for field in row))
        for place, row in enumerate(facts.get("net/softnet_stat", parse_table)))),
    "stat": lambda facts: plain("node_", {
        STAT_NAMES[name]: row[0] for name, row in facts.get("stat", parse_stat).items() if name in STAT_NAMES}),
    "timex": lambda facts: [("node_timex_sync_status", (), int(facts.now - (last_sync(facts) or 0) < SYNC_SECONDS))],
    "udp_queues": collect_udp_queues,
    "vmstat": lambda facts: plain("node_vmstat_", facts.get("vmstat", parse_pairs)),
}


def collect(facts: Facts, verdict: Verdict) -> list[Sample]:
    """Everything, and how long and whether each collector worked. logwatch_health_status is 0 pass, 1 warn, 2 fail."""
    samples: list[Sample] = []
    for collector, run in COLLECTORS.items():
        begin, success, label = time.perf_counter(), 1, (("collector", collector),)
        try:
            samples += list(run(facts))     # all of it or nothing
        except UNKNOWN:
            success = 0
        samples += (("node_scrape_collector_duration_seconds", label, round(time.perf_counter() - begin, 6)),
                    ("node_scrape_collector_success", label, success))
    levels: dict[str, int] = {}
    for check in verdict.checks:
        if check.value is not None or check.status != "pass":
            levels[check.name] = max(levels.get(check.name, 0), STATUSES.index(check.status))
    return samples + [("logwatch_health_status", (("check", name),), level) for name, level in levels.items()]


# Served as 0 from the first look at a log on: rate() misses what a counter begins with, and so a first error
USUAL_LEVELS = dict.fromkeys(LEVELS[:5], 0)
USUAL_STATUSES = dict.fromkeys("200 301 302 304 400 401 403 404 429 499 500 502 503 504".split(), 0)
OWN_VERDICT = re.compile(r"/health(/[A-Za-z0-9-]{1,40})?$")


class Part:
    """How far the counting of a rotation set has come."""

    def __init__(self, since: float) -> None:
        self.since = since      # s since 1970: a set whose first line is no older counts from there, else from its end
        self.place = ""         # the cursor
        self.seen: tuple[File, ...] = ()


class Tally:
    """What was appended to a log since logwatch knows it: bytes, lines by severity, responses by status."""

    def __init__(self, took: float = 0.0) -> None:
        self.parts: dict[tuple[str, ...], Part] = {}        # see rotation_sets()
        self.took = took        # s that counting it has taken since there was time for all
        self.bytes = 0
        self.own = 0            # our own bad verdicts among them: judged as errors, they would never get better
        self.judged = [0, 0, 0]     # what Rates has seen of it
        self.levels: collections.Counter[str] = collections.Counter()
        self.statuses: collections.Counter[str] = collections.Counter()

    def is_begun(self) -> bool:
        """Whether some of it could be read."""
        return any(part.place for part in self.parts.values())

    def add(self, line: Line, format_: Format) -> None:
        """Count a line."""
        self.bytes += line.end - line.start
        level = format_.level(line.text)
        self.levels["none" if level is None else LEVELS[level]] += 1
        if format_.name == "access":
            fields = format_.fields(line.text)
            status = str(fields.get("status", "none"))
            known = status in self.statuses or len(self.statuses) < STATUSES_MAX
            self.statuses[status if known else status[:1] + "xx"] += 1
            path = str(fields.get("request_uri", "")).partition("?")[0]
            self.own += fields.get("status") == 503 and bool(OWN_VERDICT.search(path))


def read_tally(tally: Tally, part: Part, stream: Stream, format_: Format, first: float) -> bool:
    """Count the next TALLY_LINES of a set, whose `first` line is of that time. Whether those were all."""
    if not part.place:
        place = stream.cursor(stream.start(0) if first >= part.since else stream.end())
        part.place = place if stream.budget.stop == "complete" else ""
        return bool(part.place) and first < part.since
    last = parse_cursor(part.place)
    page = read_page(stream, Query(n=TALLY_LINES, after=last, onward=True))
    begin = parse_cursor(page.prev).offset if page.prev else 0
    tally.bytes += max(0, begin - last.offset)         # of a line that was counted before its end was found
    for item in page.found:
        tally.add(item.line, format_)
    part.place = page.next
    return len(page.found) < TALLY_LINES and stream.budget.stop == "complete"


def update_tally(tally: Tally, part: Part, log: Log, format_: Format, first: float, budget: Budget, key: bytes) -> None:
    """Count what was appended to a set since the last time, as far as the budget goes; the rest the next time."""
    tally.levels.update(USUAL_LEVELS)
    tally.statuses.update(USUAL_STATUSES if format_.name == "access" else {})
    done = False
    while not done and budget.stop == "complete":
        try:
            with Stream(log, budget, key).opened() as stream:
                done = read_tally(tally, part, stream, format_, first)
        except Problem as problem:
            part.place = str(problem.members.get("oldest", ""))
        except (Unreadable, Moved):
            return
    if done:
        part.seen = log.files


def tally_samples(tallies: Mapping[str, Tally]) -> Iterator[Sample]:
    """The tallies of logs, by their names; nothing for a log that could not be read yet."""
    for name, tally in ((name, tally) for name, tally in tallies.items() if tally.is_begun()):
        log = (("log", name),)
        yield "logwatch_log_bytes_total", log, tally.bytes
        for level, count in tuple(tally.levels.items()):       # which are counted on meanwhile
            yield "logwatch_log_lines_total", (*log, ("level", level)), count
        for status, count in tuple(tally.statuses.items()):
            yield "logwatch_http_responses_total", (*log, ("status", status)), count

# --------------------------------------------------------------------------------------------------------------------
# trust: what readers may see, and who they are
# --------------------------------------------------------------------------------------------------------------------
MASK = b"[masked]"

# masking ----------------------------------------
# A regular expression over every byte costs 1 to 3 s per 100 MB; one that begins with a fixed letter is sought at
# memory speed. So a block is first folded to the letters that needles are made of, and each needle looked up there;
# only where it really stands is a pattern matched, anchored. Patterns never match "\n" and are linear: each repeat is
# over a set that excludes what follows it, or is bounded. What stands behind a name always matches, to the end of the
# line if nothing ends it: the search goes on behind it, and what is cut or malformed is hidden rather than shown. "\Z"
# stands where a secret is told by what follows it: whole lines end with "\n", so that only a cut one gets there.

_HEX = rb"(?:%|\\u00|\\x)"  # how URLs, JSON, JavaScript and nginx escape a byte
_QUOTE = rb"""(?:\\{0,3}["']|%b22)""" % _HEX
_END_TAG = rb"(?:<|&lt;|%b3c)\\?/" % _HEX
_OPTION = (rb"""(?P<option>(?<=[\s"'-]-)|(?<=--api-)|(?<=--auth-)|(?<=--(?:access|client|secret)-)|(?<=--db-)"""
           rb"|(?<=--admin-)|(?<=--registration-))?")
# Or as argv: sudo logs "--token x", a JSON list is "--token","x".
_SEPARATOR = (rb"(?:[ \t]{0,8}(?:=>|:=|={1,2}|:(?!:)|%b3[da])[ \t]{0,8}"
              rb"""|(?(option)(?<!signature)(?(key),[ ]?|[ \t]{1,4}+)(?!["']?-)"""
              rb"""|(?<=password)(?:[ ]{1,2}(?=')|\((?=["']))))""" % _HEX)
# Prose, not an assignment: "passwd: password updated successfully", "pam_unix(passwd:chauthtok)"; a Debian package.
_PROSE = (rb"""(?!:[ \t]+[a-z][a-z'-]{0,39}[ \t]+[a-z'-]{1,40}\s|:(?:[a-z_]{1,40}[)\]]"""
          rb"|(?:a(?:ll|md64|rm(?:64|el|hf))|i386|ppc64el|riscv64|s390x)[\s,]))")
_NOTHING = (rb"(?:null|none|nil|true|false|yes|no|all|undefined|unknown|expired|invalid|missing|required|empty|denied"
            rb"|failed|granted|incorrect|mismatch)")
# The name may be a value itself: {"name":"token","value":"x"}, <add key="token" value="x"/>.
_VALUE_OF = rb"""(?:(?:,[ ]?(?P=key)|(?<=["'])[ ])value(?:(?P=key)|(?==)))"""
# A quote that ends a string of JSON (or Python), told by what follows it. Where a value should be, it ends the string
# that the name is in ("bad token:","code"): there is no value.
_END = rb"""\\{0,3}["'][ ]?(?:,[ ]?[\\"'{\[\d]|[}\]][ ]?(?:[,}\]]|\\n|\\{0,3}"[,}]|$)|:[ ]?[\\"'{\[\d])"""
_ENDS = (rb"""(?!(?P=key)%b(?P=key)(?!["'\w])|(?:[\[{(<]|(?(key)(?!(?P=key))|(?:\\*["'])?))%b"""
         rb"""|(?(key)(?!)|\\*["'][ ](?:[\\"']|\w{1,40}=)))""") % (_NOTHING, _END)
# A list or object, four deep; what is deeper hides the rest of its line.
# Atomic groups, not possessive ones: in Debian 12's Python 3.11.2 `(?:...)*+` matches wrongly.
_NESTED = functools.reduce(
    lambda inner, _: rb"""[\[{(](?>(?:[^\[{(\])}"\\\n]|\\.|"(?>(?:[^"\\\n]|\\.)*)"?|\\|%b)*)[\])}]?""" % inner,
    range(4), rb"[\[{(][^\n]*+") + rb"""|%b[57]b(?>(?:[^\s"'&\\]|\\(?![\\"']))*)""" % _HEX
# A value ends at white space or a quote; at & ; , only where another pair or nothing follows, at a bracket only where
# nothing of a word follows: "a,b" and "a}b" may be passwords.
_NEXT = rb"[\w.%%\[\]-]{1,40}(?:=|%b3d)" % _HEX
_CHARACTER = (rb"""(?:[^\s"'&;,%%\\)}\]]|["'](?=\w)|(?!%b|%b26%b)[%%\\]|[&;,](?!%b|\s|%b)|[)}\]]"""
              rb"(?![\s,:;)}\]]|%b|$))" % (_QUOTE, _HEX, _NEXT, _NEXT, _QUOTE, _QUOTE))
_NO_SECRET = rb"(?!</|(?:%b?|[\[{(<]%b?(?:[\])}>]|(?![^\r\n])))\.?(?!%b|\Z))" % (_NOTHING, _NOTHING, _CHARACTER)
# Behind a quoted name they may be a number, as of JSON: a comma or bracket that ends it is no part of it.
_PART = rb"""(?:[^\s"'\\;,)}\]]|[,)}\]](?(key)(?![\s,:;)}\]\\"']|$)))"""
_HEADER_VALUE = (rb"""(?![,)}\]])(?:(?:digest|aws4-hmac-sha256|hawk|oauth)\b(?:(?!%b)[^\n])*|(?:[\w-]{1,40}[ ]+)?"""
                 rb"(?:(?!,)%b)+)" % (_END, _PART))
_COOKIES = rb"""(?![,)}\]])(?:%b|;[ \t]{0,8}(?=[^\s"'\\;])|(?<==)\\{0,3}["'][^\s"'\\;]*\\{0,3}(?:["']|\Z))+""" % _PART
_SECRET_WORD = (rb"(?:pass(?:word|wd|phrase|code|(?<![a-z0-9]pass)(?<!--- pass)(?![=:] ?\d{1,4}\b|: (?:test_|http)))"
                rb"""|pwd(?!(?:=|: ?)[/~]|%b:[ ]?%b(?:[~/]{1,2}\\{0,3}["'](?!\w)|~/|/(?:app|data|etc|home|mnt|opt"""
                rb"""|root|run|srv|tmp|usr|var|workspace)["'/\\]))|psk|pw(?:(?<![a-z0-9]pw)|(?<=bindpw)|(?<=rootpw))"""
                rb"|secret|token|sess(?:ion)?[_-]?id|key(?:(?<=ap[ip].key)|(?<=apikey)|(?<=auth.key)"
                rb"|(?<=(?:private|account|signing|ryption).key)|(?<=(?:access|secret|master)key)"
                rb"|(?<=(?:(?:access|secret|master).|private|account|signing|ryption)key))"
                rb"|sig(?:nature|(?<![a-z0-9]sig)(?!%b?(?:=|:[ ]?)\d{1,3}\b)))"
                rb"(?:_?(?:confirm(?:ation)?|hash|base|digest|new|repeat|value)|\d{1,2})?") % ((_QUOTE,) * 3)
# Names in the plural count things ("tokens: 153"), unless a list or object of other than numbers follows. Most words
# are no names at all ("/password/reset"): what cannot follow one ends the match soonest.
_NAME_END = rb"""(?:s(?=%b?[ ]?[:=]>?[ ]?[\[{][ ]?(?!(?:["'\\\w.-]{1,48}:[ ]?)?\d)))?(?=[\s"%%-)\[-\]`,=:>])""" % _QUOTE
# A quoted value: in JSON within JSON the quotes have backslashes, and what is escaped has as many more.
# What languages write before a string stays: Some("x"), b'x', crypt('x', SQL's E'x', the shell's $'x'.
_STRING = (rb"""(?:(?:[a-z_][\w.:]{0,40}\(|[bunefr]{1,2}|\$)(?=\\{0,3}["'][^\s,:;}\])"'\\]))?(?P<quote>"""
           rb"""(?P<slash>\\{0,3})(?P<mark>["'])|%b22)(?P<quoted>(?:(?P=slash)\\(?:[^\\"'\n]|(?P=slash)(?:\\|(?P=mark"""
           rb""")))|%b5c(?:%b5c|%b22)|(?P=quote){2}(?=\w)|(?!(?P=quote)|(?P=mark))[^\n])+)""" % ((_HEX,) * 4))
# An element of XML, bounded, as only its end tag tells it from the usage text of a command.
_ELEMENT = (rb"(?:%b|[ ][^<>\n]{0,80}+)?(?<!/)(?:>|&gt;|%b3e)(?P<element>(?>(?:[^<&%%\\\n]{1,64}+|(?!%b)[<&%%\\]){0,8})"
            rb")(?:%b[\w:.-]{0,64}|\Z)" % (_QUOTE, _HEX, _END_TAG, _END_TAG))


def _assignment(word: bytes, value: bytes, prose: bytes = b"") -> re.Pattern[bytes]:
    """Match `word = value` in lower-cased text: header, query, logfmt, JSON (escaped, URL-encoded), YAML, argv, XML.

    The last group, `quoted`, `bare` or `element`, is the value.
    """
    key = rb"(?P<key>%b|`|\[?\]|\[\d\](?==)|\)(?==\()|(?:%b5b\d?)?%b5d)?%b%b?%b" % (
        _QUOTE, _HEX, _HEX, prose, _VALUE_OF, _SEPARATOR)
    bare = rb"""%b(?P<bare>(?>(?:[\[{(][^\n"'\\)}\]]{0,99}+(?=%b)|%b)?)(?:%b)?)""" % (_NO_SECRET, _END, _NESTED, value)
    return re.compile(rb"%b%b%b(?:%b%b(?:%b|%b)|%b)" % (_OPTION, word, _NAME_END, key, _ENDS, _STRING, bare, _ELEMENT))


class _Rule(NamedTuple):
    trigger: re.Pattern[bytes]  # what to find in the folded block: is it worth looking?
    needle: re.Pattern[bytes]  # what to find in the lower-cased block
    secret: re.Pattern[bytes]  # matched where the needle stands; its last group is the secret
    cased: bool  # matched against the block as it is, not lower-cased


_DROP = bytes({*range(256)} - {*b"abcdegijkmoprsuvwxyz_@"})  # what folding drops; the less it leaves, the faster


def _rule(needle: bytes, secret: re.Pattern[bytes], cased: bool = False, trigger: bytes = b"") -> _Rule:
    """Make a rule; for its trigger the needle is folded as blocks are."""
    return _Rule(re.compile(trigger or re.sub(rb"[fhlnqt-]|\\\.", b"", needle)), re.compile(needle), secret, cased)


_PAIR = _assignment(_SECRET_WORD, _CHARACTER + b"*", _PROSE)
# What the vendors' documents say that their tokens begin with: GitHub, GitLab, Slack, Google, Stripe, AWS, OpenAI,
# Anthropic, npm, Vault.
_ISSUED = re.compile(rb"(?<![A-Za-z0-9])(?:(A[KS]IA(?:[A-Z0-9]{16}(?![A-Za-z0-9])|[A-Z0-9]{1,15}\Z))"
                     rb"|(?:gh[oprsu]_|github_pat_|glpat-|AIza|xox[abeprs]-|sk-(?:ant|proj)-|npm_|GOCSPX-|hvs\.)"
                     rb"((?=[A-Za-z_-]{0,40}\d)[\w-]{16,}|[\w-]{1,40}+\Z)"
                     rb"|(?:whsec_|ya29\.)((?=[^\s\d]{0,40}\d)[\w.+/=-]{16,}|[\w.+/=-]{1,40}+\Z))"
                     rb"|(?<=\b[rs])k_live_(\w{16,}|\w{1,15}\Z)")


def _argv(command: bytes, option: bytes) -> re.Pattern[bytes]:
    """Match an option of a command's that a password stands behind."""
    return re.compile(rb"""%b[^\n;|]{0,120}?[ "']-%b((?:[^\s"'\\]|\\(?![\\"'nrt]))+)""" % (command, option))


_SLASH = rb"(?:\\?/|%b2f)" % _HEX
_WEBHOOK = re.compile(rb"oks\.slack\.com%b[a-z]+%b((?:\w|%b)+)" % (_SLASH, _SLASH, _SLASH))
_ORACLE_DSN = rb"""/([^\s\\"'/@]{1,128}+)@//"""        # user/password@//host
_RULES = (
    *(_rule(needle, _PAIR) for needle in (rb"p(?:ass|wd?|sk)", rb"s(?:ecret|ig|ess(?:ion)?[_-]?id)", rb"token",
                                          rb"key")),
    _rule(rb"authorization", _assignment(rb"authorization", _HEADER_VALUE)),
    _rule(rb"co(?:okie|nnect\.sid)", _assignment(rb"co(?:okie2?|nnect\.sid)", _COOKIES)),
    _rule(rb"bearer", re.compile(rb"bearer[ \t]+((?=[a-z._~+/-]{0,200}\d|[\w.~+/-]{32})[\w.~+/-]{8,}=*"
                                 rb"|[\w.~+/-]{1,31}+\Z)")),
    _rule(b"identified", re.compile(rb"identified (?:with \S+ )?by (?!'%b)%b" % (_END, _STRING)), trigger=b"ideiied"),
    _rule(rb"eyj", re.compile(rb"(eyJ(?:(?<![\w-]eyJ)|(?<=%[0-9A-F]{2}eyJ))(?:[\w-]{16,}+(?:\.[\w-]*+){0,4}"
                            rb"|[\w-]{1,15}+\Z))"), True),
    *(_rule(head, _ISSUED, True) for head in (rb"a(?:[ks]ia|iza)", rb"g(?:h\w_|ithub_pat_|lpat-|ocspx-)", b"xox",
                                             b"k_live_", rb"sk-(?:ant|proj)-", b"npm_", rb"hvs\.", b"whsec_")),
    _rule(rb"ya29\.", _ISSUED, True, b"ya"),
    _rule(rb"oks\.slack", _WEBHOOK),
    *(_rule(command, _argv(command, option), True) for command, option in {
        rb"curl(?![./])": rb"""(?:[A-Za-z]{0,8}u|-(?:proxy-)?user)[ "',=]{0,4}[^\s:"']{1,64}:""",
        rb"m(?:ysql|ariadb)": rb"""p(?!%b)["']?(?!,)""" % _END,
        rb"s(?:(hpass)|-cli)": rb"""(?(1)p[ "',]{0,4}|a[ "',]{1,4})""",
        rb"openssl": rb"""(?:[kK]|pass(?:in|out)?)[ "',]{1,4}(?:pass:)?"""}.items()),
    _rule(_ORACLE_DSN, re.compile(_ORACLE_DSN), trigger=b"@"),
    _rule(rb":\\?/\\?/", re.compile(rb""":\\?/\\?/[^\s/?#@:"'<>]{0,128}:([^\s/"'<>]{1,512})(?=@|\Z)"""), trigger=b"@"),
)

# A letter escaped in a name, as no serializer does: "tok%65n", "pass\u0077ord".
_LETTER = rb"(?:[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff]|2[Dd])"
_ESCAPES = re.compile(rb"%%%b" % _LETTER), re.compile(rb"\\(?:u00|x)%b" % _LETTER)
_WORDS = re.compile(rb"(?>(?:[\w-]|%b%b)+)|%b[0-9A-Fa-f]{2}" % (_HEX, _LETTER, _HEX))

_PEM = re.compile(rb"-----(?P<edge>BEGIN|END) [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_TAIL = re.compile(rb"(?<![A-Za-z0-9+/=])(?P<run>[A-Za-z0-9+/]++=*+)[ \t\r]*+(?:\n|\Z)")
# A line that ends in as much base64 as a line of PEM has; checked backwards from "\n", which is found at memory speed.
_ORPHAN = re.compile(rb"\n(?<=[A-Za-z0-9+/=]\n)(?<=[A-Za-z0-9+/=]{40}\n)")
# The widths PEM and OpenSSH fold at; or any other, where the line is nothing else, and no path.
_RUN = re.compile(rb"(?<=\s)(?=[a-z\d+/]*[A-Z])(?=[A-Z\d+/]*[a-z])(?=[A-Za-z]*[\d+/])(?:[A-Za-z\d+/]{64}"
                  rb"(?:[A-Za-z\d+/]{6}){0,2}|(?<=\n)(?!(?:[^/\n]{0,12}/){3})(?>(?:[A-Za-z\d+/=]{4}){10,}))\Z")

_Span = tuple[int, int, bytes]  # from, to (no newline between), what to put there


def _unescaped(word: re.Match[bytes]) -> bytes:
    """Decode the letters that are escaped in a word; it stays as long as it is, and ends where it ends."""
    return re.sub(_HEX + _LETTER, lambda one: bytes.fromhex(one[0][-2:].decode()), word[0]).rjust(len(word[0]), b"_")


def _found(rule: _Rule, data: bytes, low: bytes) -> Iterator[_Span]:
    text, seen = data if rule.cased else low, rule.needle.search(low)
    while seen:
        if match := rule.secret.match(text, seen.start()):
            start, end = match.span(match.lastindex or 0)
            # A bare JSON number, word, list or object becomes a string: the line must still parse.
            around = match["key"] if match.lastgroup == "bare" and match["key"] in (b'"', b'\\"') else b""
            if start < end:
                yield start, end, around + MASK + around
        seen = rule.needle.search(low, match.end() if match else seen.end())


_GO_HOST, _GO_WORD = re.compile(rb"@(?:tcp|unix)\("), re.compile(rb"""[\s"']""")


def _go_dsns(low: bytes) -> Iterator[_Span]:
    """Yield the passwords of Go's user:password@tcp(host:3306)/, looked for backwards: a pattern that begins with ":"
    took 0.2 s for a block full of these, and no other thread runs while one pattern does."""
    for host in _GO_HOST.finditer(low):
        word = _GO_WORD.split(low[max(0, host.start() - 129):host.start()])[-1]
        if (colon := re.search(rb":(?<!::)(?=.)", word, re.DOTALL)):
            yield host.start() - len(word) + colon.end(), host.start(), MASK


def _keys(data: bytes) -> Iterator[_Span]:
    """Yield the secret parts of private keys, whole or cut by the block's borders: the stretches between markers."""
    marks = [(0, 0, b"END"), *((*mark.span(), mark["edge"]) for mark in _PEM.finditer(data)), (len(data), 0, b"BEGIN")]
    for (_, start, before), (end, _, behind) in itertools.pairwise(marks):
        opened, closed = before == b"BEGIN", behind == b"END"
        whole, cut = opened and closed and end - start <= KEY_BYTES, opened and end == len(data) > start
        if (whole or cut) and b"\n" not in data[start:end]:
            yield start, end, MASK  # the key on one line, its line ends escaped
        elif opened or closed:
            part = (start, min(end, start + KEY_BYTES)) if opened else (max(start, end - KEY_BYTES), end)
            yield from ((*tail.span("run"), MASK) for tail in _TAIL.finditer(data, *part)
                        if whole or len(tail["run"]) >= 40 or closed and data.find(b"\n", tail.end(), end) < 0
                        or cut and tail.end("run") == end)


def _orphans(data: bytes) -> Iterator[_Span]:
    """Yield the middle of a private key: lines told by their width, and the base64 that the line behind ends in."""
    padded = b"\n" + data + b"\n"
    for mark in _ORPHAN.finditer(padded):
        line = padded.rfind(b"\n", 0, mark.start()) + 1
        if run := _RUN.search(padded, line, mark.start()):
            yield run.start() - 1, run.end() - 1, MASK
            tail = _TAIL.match(padded, mark.end() + run.start() - line)  # the line's head is as long
            if tail and b"\n" not in padded[mark.end():tail.start()]:
                yield tail.start("run") - 1, tail.end("run") - 1, MASK


def _replaced(data: bytes, spans: Iterable[_Span]) -> bytes:
    parts, done = [], 0
    for start, end, text in sorted(spans):
        if start > done or not done:
            parts += [data[done:start], text]
        done = max(done, end)
    return b"".join((*parts, data[done:]))


def mask(data: bytes) -> bytes:
    """Replace the secrets in `data` (whole lines, any number) by `[masked]`; line ends stay where they are. A last line
    without "\\n" is cut: what may be the beginning of a secret is hidden there.

    Hidden: Authorization and cookie headers, bearer tokens, JWTs, values of password-, secret-, token-, key- and
    signature-like names (also lists, objects, XML elements and options of commands), tokens and key ids of well-known
    vendors, passwords in URLs and in the DSNs of Go and Oracle, private keys. A block's border may cut a private key:
    its full-width lines (64, 70, 76 characters), lines of 40 or more with nothing else on them, and the shorter one
    behind such a line are hidden wherever they stand; that short one can show where a block begins with it, and lines
    of other widths where a syslog head stands before them. Not hidden: a password of plain words in prose; an
    object's lines behind its first; what is encoded twice; a URL's password where the URL itself is encoded; that of
    a DSN cut before its host; a bearer token of fewer than 8 characters; a quoted value that begins as JSON goes on
    behind a string's end (`,"`).
    """
    escaped = _ESCAPES[0].search(data) or b"\\" in data and _ESCAPES[1].search(data)
    low = (_WORDS.sub(_unescaped, data) if escaped else data).lower()
    letters = low.translate(None, _DROP) + (b"" if data.endswith(b"\n") else b"@")  # what ends a URL's password
    rules = [rule for rule in _RULES if rule.trigger.search(letters)]
    keys = _keys(data) if rules and b"private key" in low else ()
    named = (span for rule in rules for span in _found(rule, data, low))
    return _replaced(data, [*_orphans(data), *keys, *_go_dsns(low), *named])


# pseudonyms ----------------------------------------

# Both start with a literal that is found at memory speed; the address's head is then looked up backwards.
_DOTTED = re.compile(rb"\.(?:(?<=(\d{3})\.)|(?<=(\d{2})\.)|(?<=(\d)\.))\d{1,3}\.\d{1,3}\.\d{1,3}(?!\d)")
_COLONS = re.compile(rb":(?<!::)(?::(?!:)|(?:[0-9A-Fa-f]{1,4}:){6})")
_HEAD = re.compile(rb"(?<![0-9A-Za-z_])[0-9A-Fa-f:]*\Z")
_V6_REST = re.compile(rb"[0-9A-Fa-f:]{2,40}(?<!:)(?:(?:\.\d{1,3}){3}(?!\d))?|::")
_VERSIONS = (b"Chrome/", b"Chromium/", b"Edg/", b"OPR/", b"CriOS/", b"Version/", b"v", b"V")  # Chrome/119.0.0.0


def _parsed(text: bytes) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text.decode("ascii"))
    except ValueError:  # a MAC address, C++ names, 10.0.0.999
        return None


def _address_spans(data: bytes) -> Iterator[tuple[int, int]]:
    for dot in _DOTTED.finditer(data):
        start = dot.start() - 4 + (dot.lastindex or 0)  # group 1, 2, 3: an octet of 3, 2, 1 digits before the dot
        if not data.endswith(_VERSIONS, 0, start):
            yield start, dot.end()
    done = 0
    for colon in _COLONS.finditer(data):
        head = _HEAD.search(data, max(done, colon.start() - 40), colon.start())
        rest = _V6_REST.match(data, colon.start())
        if head and rest:
            done = rest.end()
            if _parsed(data[head.start():done]):
                yield head.start(), done


def _permuted(pad: bytes, value: int) -> int:
    """Permute one byte: a Feistel network of 8 rounds, each round's function 16 nibbles of `pad` (64 random bytes)."""
    left, right = value >> 4, value & 15
    for turn in range(0, 64, 8):
        nibble = pad[turn + right // 2] >> right % 2 * 4 & 15
        left, right = right, left ^ nibble
    return left << 4 | right


def _pseudo_address(packed: bytes, pad: Callable[[bytes], bytes]) -> bytes:
    """Permute each byte under a pad drawn from all bytes before it; an IPv6 interface identifier in one piece."""
    head = packed[:8]
    new = bytearray(_permuted(pad(head[:at]), byte) for at, byte in enumerate(head))
    if len(packed) == 4 and new[0] == 127:
        new[0] = _permuted(pad(b""), 127)  # 127/8 stays itself, so its image is free: still one-to-one
    return bytes(new) + pad(packed)[:len(packed) - len(head)]


@functools.lru_cache(maxsize=1)
def pseudonym(key: bytes) -> Callable[[bytes], bytes]:
    """Return a function that replaces the IP addresses in lines by keyed pseudonyms that are addresses themselves.

    One address, one pseudonym; two share a /8, /16, /24 (IPv6: each 8 bits to /64) exactly if their pseudonyms do.
    Loopback and `::` stay. `key`: at least 16 random bytes, else ValueError. Without it nothing maps back. What
    remains: who can make lines appear (a visit from a known address, at a known time) learns that address's pseudonym
    and its neighbours' prefix, and frequent ones can be guessed. A new key ends that knowledge.
    """
    if len(key) < 16:
        raise ValueError("a pseudonym key has at least 16 bytes")
    derived = hashlib.blake2b(key, person=b"logwatch ip").digest()

    @functools.lru_cache(maxsize=PSEUDONYM_CACHE)
    def pad(prefix: bytes) -> bytes:
        return hashlib.blake2b(prefix, key=derived).digest()

    @functools.lru_cache(maxsize=PSEUDONYM_CACHE)
    def replaced(text: bytes) -> bytes:
        address = _parsed(text)
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            return b"::ffff:" + replaced(str(address.ipv4_mapped).encode())
        if address is None or address.is_loopback or address.is_unspecified:
            return text
        return str(ipaddress.ip_address(_pseudo_address(address.packed, pad))).encode()

    def pseudonymized(data: bytes) -> bytes:
        return _replaced(data, ((start, end, replaced(data[start:end])) for start, end in _address_spans(data)))
    return pseudonymized


# tokens ----------------------------------------

def new_token() -> str:
    """Return a fresh secret: 256 bits, in characters that need no quoting in a shell, INI, URL or header."""
    return secrets.token_urlsafe(SECRET_BYTES)


def token_digest(secret: str | bytes) -> str:
    """Return what to keep of a secret."""
    return hashlib.sha256(secret.encode() if isinstance(secret, str) else secret).hexdigest()


def _presented(header: bytes) -> bytes:
    """Return the secret in an Authorization value: Bearer (RFC 6750), or Basic's password (RFC 7617); else b''."""
    scheme, _, rest = header.partition(b" ")
    value = rest.strip(b" ")
    if scheme.lower() == b"bearer":
        return value
    with contextlib.suppress(binascii.Error):
        if scheme.lower() == b"basic":
            return binascii.a2b_base64(value, strict_mode=True).partition(b":")[2]
    return b""


def authenticate(header: bytes | str | None, tokens: Iterable[Token]) -> Token | None:
    """Return the token that an Authorization header's value presents, or None; the time tells nothing about any token.

    A digest is compared, so neither length nor content of a secret shows, and every token is always compared, on bytes
    (compare_digest refuses a non-ASCII str). A str is taken as latin-1, as WSGI gives it.
    """
    raw = header.encode("latin-1", "replace") if isinstance(header, str) else header
    secret = _presented(raw) if raw and len(raw) <= AUTHORIZATION_BYTES else b""
    digest = token_digest(secret).encode()
    found = None
    for token in tokens:
        same = hmac.compare_digest(digest, token.digest.encode())
        found = token if same and secret else found
    return found


class Throttle:
    """A token bucket a peer: `burst` at once, `rate` per second after; knows the `peers` seen last, forgets others.

    A peer that was forgotten starts full, so a flood from more than `peers` addresses is not stopped here. Thread-safe.
    """

    def __init__(self, rate: float, burst: float, peers: int = PEERS_MAX) -> None:
        self.rate, self.burst, self.peers = rate, burst, peers
        self._lock = threading.Lock()
        # peer: (left, at), least recent first
        self._buckets: collections.OrderedDict[str, tuple[float, float]] = collections.OrderedDict()

    def allow(self, key: str, now: float) -> float:
        """Take one from the bucket of `key` at monotonic time `now`; return the seconds to wait, 0.0 for go."""
        with self._lock:
            left, at = self._buckets.pop(key, (self.burst, now))
            left = min(self.burst, left + max(0.0, now - at) * self.rate)
            go = left >= 1.0 - 1e-6  # a millionth of a token: who waits exactly as told must not fail by rounding
            self._buckets[key] = (left - 1.0 if go else left, max(now, at))
            if len(self._buckets) > self.peers:
                self._buckets.popitem(last=False)
            return 0.0 if go else (1.0 - left) / self.rate


@functools.lru_cache(maxsize=PEERS_MAX)
def peer_key(address: str) -> str:
    """Return what a peer is limited by: its IPv4 address, also as IPv6 has it, its IPv6 /64 (what one customer has),
    else the text."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return (getattr(found, "ipv4_mapped", None) or found).packed[:8].hex()

# --------------------------------------------------------------------------------------------------------------------
# HTTP: request, response, negotiation, problem documents
# --------------------------------------------------------------------------------------------------------------------
class Request(NamedTuple):
    """A request as the handlers see it, from the embedded server, from WSGI or from `get`.

    `path` is decoded, `query` is not; header names are lower case. `local`: it came over a unix socket or in-process,
    where no browser can have sent it but through a proxy. `gone(streams)` is has_hung_up().
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    peer: str
    local: bool
    gone: Callable[[bool], bool] = lambda streams: False
    chunks: bool = True         # whether the client knows chunked transfer coding: HTTP/1.0 does not
    threaded: bool = True       # whether the server has a thread for a stream, and tells when nobody reads it
    token: Token | None = None  # that it presented


def has_hung_up(sock: socket.socket, streams: bool) -> bool:
    """Whether a client waits for an answer no more. Over a unix socket one that only has no more to send is told from
    that: it still waits for an answer that ends, but for none that `streams`. Over TCP a FIN is all that is seen."""
    try:
        poll = select.poll()
        poll.register(sock, select.POLLRDHUP)           # recv() sees what was sent before that, and no end
        events = sum(found for _, found in poll.poll(0))
        waits = sock.family == socket.AF_UNIX and events == select.POLLRDHUP and not streams
        return bool(events) and not waits
    except ValueError:                                  # closed
        return True


def client_address(peer: str, headers: Mapping[str, str]) -> str:
    """Whose request it is: a proxy on this machine says so in the last hop of X-Forwarded-For; nobody else is
    believed."""
    last = headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    local = peer == "unix" or LOOPBACK.fullmatch(peer)
    return last if local and re.fullmatch(r"[0-9A-Fa-f:.]{2,45}", last) else peer


class Response(NamedTuple):
    """An answer; its body has no length unless the headers say it, as reply() does."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes | Iterable[bytes]


# A log line is text, never markup; an answer is for the one who asked, never for a cache or another site's script.
PROBE_HEADER = "Logwatch-Forwarded"     # of /livez: the X-Forwarded-For that came with the request
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
    "sse": "text/event-stream",
    "metrics": "text/plain; version=0.0.4; charset=utf-8",
    "health": "application/health+json",
    "problem": "application/problem+json",
}
# ASCII only: escapes C0, DEL, C1, bidi and U+2028. What it is given are trees.
JSON = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


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
    ranges = dict(sorted(parse_accept(request.headers.get("accept", "*/*")), key=lambda pair: pair[1]))

    def weight(name: str) -> float:
        media = MEDIA[name].partition(";")[0]
        wanted = (media, media.partition("/")[0] + "/*", "*/*")         # the most specific range decides
        return next((ranges[range_] for range_ in wanted if range_ in ranges), 0.0)
    return max(offered, key=weight)


def joined(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Pieces joined to writes of PIECE_BYTES."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= PIECE_BYTES:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join(held)


def body_of(pieces: Iterable[bytes]) -> bytes | Iterable[bytes]:
    """Pieces joined to writes of PIECE_BYTES; the whole as one, with a known length, where it is no larger."""
    whole = joined(pieces)
    first = next(whole)
    return first if len(first) < PIECE_BYTES else itertools.chain([first], whole)


class Body:
    """Pieces of an answer, with something to release, once: behind the last of them, or by close(), also where nobody
    has asked for the first one: a generator's own `finally` would not run then."""

    def __init__(self, pieces: Iterator[bytes], release: Callable[[], None]) -> None:
        self._pieces, self._held = pieces, contextlib.ExitStack()
        self._held.callback(release)
        self.close = self._held.close

    def __iter__(self) -> Iterator[bytes]:
        with self._held:
            yield from self._pieces


def reply(media: str, body: bytes | Iterable[bytes], headers: Sequence[tuple[str, str]] = (),
          status: int = 200) -> Response:
    """A response in one of MEDIA; with its length, but where the body comes in pieces."""
    length = [("Content-Length", str(len(body)))] if isinstance(body, bytes) else []
    return Response(status, (("Content-Type", MEDIA[media]), *headers, *length), body)


def problem_response(problem: Problem) -> Response:
    """The RFC 9457 document of a problem."""
    return reply("problem", JSON(problem.document()).encode() + b"\n", problem.headers, problem.status)


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


def page_html(title: str, text: Iterable[bytes], links: Sequence[tuple[str, str]]) -> bytes | Iterable[bytes]:
    """A minimal page: links, and text that the browser shows as it is."""
    shown = " ".join(f'<a href="{html.escape(url)}">{html.escape(name)}</a>' for url, name in links)
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title><p>{shown}</p><pre>"
    lines = (html.escape(line.decode()).encode() for line in text)
    return body_of(itertools.chain([head.encode()], lines, [b"</pre></html>\n"]))


FORMAT_NAMES = [name for name in MEDIA if name not in ("metrics", "problem")]
parse_format = parse_text("|".join(FORMAT_NAMES), ", ".join(FORMAT_NAMES))


def parse_time(text: str) -> float:
    """A time as since= and until= spell it, in seconds since the epoch."""
    return parse_when(text, time.time())


PARAMETERS = (
    Option("n", parse_integer(1, LINES_MAX), f"how many lines, 1 to {LINES_MAX}, with follow to {STREAM_LINES}; 100 if "
           "not given: the newest, the oldest of them first, as tail prints them"),
    Option("q", parse_words, "lines with this fixed string; repeated: with all of them", repeat=True),
    Option("not", parse_words, "lines without this fixed string; repeated: with none of them", repeat=True),
    Option("re", parse_pattern, f"lines in which this regular expression (Python's syntax, {REGEX_CHARACTERS} "
           "characters at most) is found"),
    Option("i", parse_boolean, "1: ignore case in q, not and re"),
    Option("A", parse_integer(0, CONTEXT_MAX), f"that many lines behind each, as grep; {CONTEXT_MAX} at most"),
    Option("B", parse_integer(0, CONTEXT_MAX), "that many lines before each"),
    Option("C", parse_integer(0, CONTEXT_MAX), "that many lines around each"),
    Option("since", parse_time, "lines from then on: 2026-11-22T14:05:01Z, '2026-11-22 14:05', 14:05, @1795352701, "
           "-15m, -2h, today, yesterday; without a zone, the server's"),
    Option("until", parse_time, "lines until then, spelled as in since"),
    Option("level", parse_level, "lines of that severity or worse: emerg, alert, crit, err, warning, notice, info, "
           "debug; a line without a severity is none of them"),
    Option("after", parse_any_cursor, "the lines behind a cursor: page forward"),
    Option("before", parse_any_cursor, "the lines before a cursor: page back"),
    Option("follow", parse_boolean, "1: do not end; send new lines as they come, as text, NDJSON or SSE"),
    Option("format", parse_format, "text, html, json, ndjson, sse or health, whatever the Accept header says"),
    Option("exclude", parse_label, "leave out a check", repeat=True),
)


def parse_query(query: str, allowed: Sequence[str]) -> dict[str, Any]:
    """The parameters of a query string that a route allows, by name. Raises Problem 400 naming the one that is
    wrong."""
    try:
        pairs = urllib.parse.parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=QUERY_MAX)
    except UnicodeDecodeError:
        names = [part.partition("=")[0] for part in query.split("&") if "\ufffd" in urllib.parse.unquote(part)]
        raise Problem(400, f"parameter {shown(', '.join(names))}: its value is not UTF-8; allowed: UTF-8") from None
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
    own = {f"[{config.listen.host}]", config.listen.host.lower(), *config.allow_host}
    if name not in own and not LOOPBACK.fullmatch(name):
        raise Problem(421, f"the Host {shown(name)} is not served here", f"logwatch.py --allow-host {shown(name)}")


@functools.lru_cache(maxsize=2)
def http_date(seconds: int) -> str:
    """An IMF-fixdate (RFC 9110, 5.6.7), made once a second. Nothing here sets a locale; email.utils is 0.4 MB."""
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(seconds))


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
class Survey(NamedTuple):
    """What a file's lines say: their format, the times of the first and the last one."""

    format: Format
    first: float | None
    last: float | None

    def time_in(self, mtime_ms: int) -> TimeOf:
        """What tells the time of a line, or None, in a file that was changed then."""
        return lambda line: self.format.time(line.rstrip(b"\n"), mtime_ms / 1000)

    def details_of(self, files: Sequence[File], item: Found) -> Details:
        """What the text of a line in one of these files says."""
        text, mtime_ms = item.line.text, known_time(files[item.number].mtime_ns) // 1_000_000
        return Details(self.time_in(mtime_ms)(text), self.format.level(text), self.format.fields(text),
                       text.decode("utf-8", "backslashreplace"))


def look_at_lines(root: str, file: File) -> Survey:
    """The survey of a file, from the lines at its two ends. Raises Unreadable, Moved, OSError."""
    with Stream(Log("", root, (file,)), Budget(), b"").opened() as stream:
        source = stream.source(0)
        head = source.read(0, SNIFF_BYTES).split(b"\n")[:SNIFF_LINES]
        end = source.read(max(0, source.size - SNIFF_BYTES), SNIFF_BYTES) if isinstance(source, Plain) else b""
    format_, tail = detect(head[:-1] or head), end.split(b"\n")[-SNIFF_LINES:]
    format_ = detect(tail[1:-1]) if format_ is TEXT and len(tail) > 2 else format_      # it begins with a banner
    changed = known_time(file.mtime_ns) / 1e9
    first, last = (_first(format_.time(line, changed) for line in lines) for lines in (head, tail[::-1]))
    return Survey(format_, first, last)


class Rates:
    """How many responses and errors there were in the last ERRORS_SECONDS, out of tallies that only grow."""

    def __init__(self) -> None:
        self._samples: collections.deque[tuple[float, ...]] = collections.deque()
        self._totals = [0, 0, 0]        # responses, failed ones, error lines, of all logs

    def checks(self, tallies: Iterable[Tally], health: Health) -> Iterator[Check]:
        """The checks of 5xx responses and of error lines; unknown until there are two samples."""
        now = time.monotonic()
        counted = [tally for tally in tallies if tally.is_begun()]
        for tally in counted:       # each by itself: one that goes, or comes back, takes or brings its past along
            failed = sum(count for status, count in tally.statuses.items() if status.startswith("5"))
            lines = sum(tally.levels[level] for level in LEVELS[:4])
            seen = [count - tally.own for count in (tally.statuses.total(), failed, lines)]
            self._totals = [total + max(0, count - old) for total, count, old in zip(self._totals, seen, tally.judged)]
            tally.judged = seen
        self._samples.append((now, *self._totals))
        while len(self._samples) > 2 and self._samples[1][0] < now - ERRORS_SECONDS:
            self._samples.popleft()
        then, *before = self._samples[0]
        if now - then < 1.0 or not counted:
            for name in ("errors", "error-lines"):
                yield unknown(name, "", "needs two looks at the logs" if counted else "no log can be read")
            return
        responses, failed, lines = (int(total - old) for total, old in zip(self._totals, before, strict=True))
        span = span_words(now - then)
        if responses:
            share, enough = 100 * failed / responses, responses >= ERRORS_RESPONSES
            text = f"{failed} of {responses} responses in {span} were 5xx"
            yield health.judge("errors", "", share, "%", text, share if enough else 0.0)
        else:
            yield unknown("errors", "", f"no response in an access log in {span}")
        rate = lines * 60 / max(now - then, 60.0)
        yield health.judge("error-lines", "", rate, "per min", f"{lines} error lines in {span}", rate)


def log_problem(log: Log) -> Unreadable | None:
    """Why a log cannot be listed, or a live file of it not be opened, if so."""
    try:
        for file in written_files(log):
            os.close(open_below(log.root, file.parts))
    except Unreadable as error:
        return error
    except Moved:
        pass                            # rotated at this moment: the next look will tell
    return log.problem


@functools.lru_cache(maxsize=1)
def logrotate_stanzas(minute: int) -> Sequence[Stanza]:
    """logrotate's configuration as it is this minute."""
    return load_logrotate(LOGROTATE_CONF)[0]


def log_outlook(log: Log) -> Unreadable | None:
    """What logrotate's next run will take from us: a log that can be read today, and from midnight on no more."""
    for file in written_files(log) if os.geteuid() else ():     # root can read all
        path = os.path.join(log.root, *file.parts)
        stanzas = matching(path, logrotate_stanzas(int(time.time() // 60)))
        with contextlib.suppress(OSError):
            if stanzas and (lost := loss(path, stanzas[0], os.geteuid(), own_groups())):
                return Unreadable(f"{lost.what}: {lost.why}", lost.fix)
    return None


def log_warning(log: Log) -> Check | None:
    """The check of a log that cannot be read, or soon will not be: one that was readable before rotation is the
    classic."""
    problem = log_problem(log)
    trouble = problem or log_outlook(log)
    if not trouble:
        return None
    said = f"cannot be read: {trouble.reason}" if problem else trouble.reason
    fix = f"; {' '.join(trouble.fix.split())}" if trouble.fix else ""
    return Check("logs", log.name, float(bool(problem)), "", "warn", "", f"log {log.name} {said}{fix}")


def in_turn(logs: Iterable[Log]) -> list[Log]:
    """Logs, one out of each folder right below the root before the next of any: who fills one holds up no other."""
    seen: collections.Counter[tuple[str, str]] = collections.Counter()
    turns: list[tuple[int, Log]] = []
    for log in logs:
        seen[log.root, log.folder] += 1
        turns.append((seen[log.root, log.folder], log))
    return [log for _, log in sorted(turns, key=lambda turn: turn[0])]


def rows_of(logs: Iterable[Log], budget: Budget) -> tuple[list[list[Check]], int, int]:
    """The rows of logs that are not well, TOLD_MAX of each folder at most; how many more there are, and how many there
    was no time for: first of all those in folders that have as many rows as that."""
    found: dict[tuple[str, str], list[Check]] = {}
    late, unseen = [], 0
    for log in in_turn(logs):
        rows = found.setdefault((log.root, log.folder), [])
        if len(rows) >= TOLD_MAX:
            late.append(log)
        elif not budget.spend(0):
            unseen += 1
        elif row := log_warning(log):
            rows.append(row)
    looked = [bool(log_warning(log)) for log in late if budget.spend(0)]
    return list(found.values()), sum(looked), unseen + len(late) - len(looked)


def log_checks(logs: Sequence[Log], wanted: frozenset[str]) -> list[Check]:
    """The check of logs, with a row for each that is not well: for those `wanted`, and up to TOLD_MAX, of each folder
    in turn. How many more there are, and how many were not looked at, is said in rows with the unit `logs`."""
    rows = list(filter(None, map(log_warning, (log for log in logs if log.name in wanted))))
    found, more, unseen = rows_of((log for log in logs if log.name not in wanted), Budget(CHECK_SECONDS))
    others = [row for turn in itertools.zip_longest(*found) for row in turn if row]
    told = others[:max(0, TOLD_MAX - len(rows))]
    more += len(others) - len(told)
    rows = sorted(rows + told, key=lambda row: row.component)
    if more:
        text = f"{more} more logs cannot be read, or soon will not be: see /logs"
        rows.append(Check("logs", "", more, "logs", "warn", "", text))
    if unseen:
        text = f"{unseen} of {len(logs)} logs were not looked at, for want of time: whether they can be read is unknown"
        rows.append(Check("logs", "", None, "logs", "pass", "", text))
    here = [log for log in logs if log.files]
    gone = f"; there is no file of {len(logs) - len(here)} more now" if len(here) < len(logs) else ""
    return rows or [Check("logs", "", 0.0, "", "pass", "", f"all {len(here)} logs can be read{gone}")]


def survey_of(recall: Recall, log: Log) -> Survey:
    """The survey of a whole log: the format of its newest lines that have one, the times of the oldest and the newest
    line."""
    files = [file for file in log.files if file.packing in ("", "gz") and file.size]
    found: list[Survey] = []
    for file in files[:-SURVEYED - 1:-1]:       # the newest first
        with contextlib.suppress(Unreadable, Moved):
            found.append(recall(look_at_lines, log.root, file))
        if found and found[-1].format is not TEXT:
            break
    if not found:
        return Survey(TEXT, None, None)
    oldest = found[-1]
    with contextlib.suppress(Unreadable, Moved):
        oldest = recall(look_at_lines, log.root, files[0])
    return Survey(found[-1].format, oldest.first, _first(survey.last for survey in found))


class Site:
    """What outlives a request: the configuration, and what is remembered of the files and of the host."""

    def __init__(self, config: Config, streams: int = FOLLOWERS_MAX) -> None:
        self.config = config
        self.catalogue = Catalogue(config)
        units = {name: where.removeprefix("journal:") for name, where in config.log if where.startswith("journal:")}
        discovered = not config.log and config.log_root == LOG_ROOT
        self.journals = {"journal": ""} if discovered else units        # name of a log: its unit, '' for all of it
        self.index = ""             # the text of /, made of ROUTES
        self.key = secret_key(config.state_dir, bool(config.tokens) or config.pseudonyms)
        self.host = Host(config.proc, config.sys, config.state_dir or None)
        self._health = Health(self.host, config.limits)
        self._verdict: Verdict | None = None
        self.tallies: dict[str, Tally] = {}
        self.uncounted = 0          # logs beyond COUNTED_MAX
        self._rates = Rates()
        self._logs: list[Log] = []
        self._looked = math.inf     # s since 1970, at the last look at what logs there are: there was none
        self._counted = self._judged = -math.inf     # time.monotonic() of the last count, and of the checks made of one
        self._log_checks = [unknown(name, "", "the logs were not looked at yet")
                            for name in ("logs", "errors", "error-lines")]
        self._verdict_until = 0.0
        self._lock = threading.Lock()
        # Without self in it, or a site that a reload has replaced would hold itself, and what its host has open.
        look = partial(self._look, self.catalogue, self.journals)
        self.watch = functools.lru_cache(maxsize=2 * FOLLOWERS_MAX)(lambda name: Watch(partial(look, name, [])))
        self.streams_max = streams
        self.streams = threading.BoundedSemaphore(streams)
        # A client's streams read as few at a time as its other requests do, or they would be the way round that.
        self.turn = functools.lru_cache(maxsize=PEERS_MAX)(lambda owner: threading.Semaphore(WORKERS_SHARE))
        self.stopping = threading.Event()

    @staticmethod
    def _look(catalogue: Catalogue, journals: Mapping[str, str], name: str,
              followed: list[tuple[Log, object]]) -> object:
        """What changes with a log, looked at for followers; `followed` has the log, and what that was, of last time."""
        if followed and newest_state(followed[0][0]) == followed[0][1]:
            return followed[0][1]
        try:
            if name in journals:
                return [os.stat(path).st_mtime_ns for path in journal_files("*.journal")]
            log = catalogue.find(name)                  # listed again only when something has changed
        except (Problem, OSError, MemoryError) as error:    # it may pass, and then something else has changed as well
            followed[:] = [(log, newest_state(log)) for log, _ in followed]
            return str(error)
        state = newest_state(log)
        followed[:] = [(log, state)]
        return state

    def count_logs(self) -> None:
        """Bring the tallies of all logs up to date. One that was not there at the last look, and has no lines of before
        it, was begun since, and all of it is counted; not so one that was moved here, or was closed to us."""
        budget, before, self._looked = Budget(COUNT_SECONDS), self._looked, int(time.time())    # logs have whole s
        before = min(before, self._looked) if before < math.inf else before     # the clock may have been set back
        self._logs = self.catalogue.logs()
        latest = max((tally.took for tally in self.tallies.values()), default=0.0)
        known = {log.name: log for log in sorted(self._logs, key=lambda log: bool(log.files))}  # closed folders first
        kept = {name: tally for name, tally in self.tallies.items() if name in known}
        fresh = {name: log.folder for name, log in known.items() if log.files and name not in kept}
        crowds = collections.Counter(fresh.values())        # who fills a folder is last
        begun = sorted(fresh, key=lambda name: crowds[fresh[name]])[:COUNTED_MAX - len(kept)]
        self.tallies = kept | {name: Tally(latest) for name in begun}
        self.uncounted = len(fresh) - len(begun)
        rows = [(tally, known[name]) for name, tally in self.tallies.items()]
        # Who took least time until now is first, and a new one last: logs that take all of it take it from each other.
        for tally, log in sorted(rows, key=lambda row: row[0].took):
            began, sets = time.monotonic(), rotation_sets(log.files)
            tally.parts = {key: tally.parts.get(key) or Part(before) for key in sets} or tally.parts
            for key, files in sets.items():
                if tally.parts[key].seen != files and budget.spend(0):
                    self._count(tally, tally.parts[key], log._replace(files=files), budget)
            tally.took += time.monotonic() - began
        if budget.stop == "complete":
            for tally, _ in rows:
                tally.took = 0.0
        self._counted = time.monotonic()

    def _count(self, tally: Tally, part: Part, log: Log, budget: Budget) -> None:
        """Bring the tally of a log up to date with one of its rotation sets."""
        survey = survey_of(self.catalogue.recall, log)
        first = time.time() if survey.first is None else survey.first
        update_tally(tally, part, log, survey.format, first, budget, self.key)

    def judge_logs(self) -> None:
        """Make the checks of logs again; a scrape may have just counted them."""
        if time.monotonic() > self._counted + TALLY_SECONDS:
            self.count_logs()
        untold = [unknown("logs", "", f"{self.uncounted} of them are not counted: their errors are not seen")]
        wanted = frozenset(name for token in self.config.tokens for name in token.logs)
        self._log_checks = [*log_checks(self._logs, wanted), *untold[:self.uncounted],
                            *self._rates.checks(self.tallies.values(), self._health)]
        self._judged = time.monotonic()

    def _checks_of_logs(self) -> list[Check]:
        """What is known of the logs, looked at again every TALLY_SECONDS."""
        if time.monotonic() > self._judged + TALLY_SECONDS:
            LOOKER.do(self.judge_logs, LOOK_PATIENCE)
        seconds = LOOKER.busy()
        if seconds < STUCK_LOOK:
            return self._log_checks
        text = (f"looking at the logs has taken {span_words(seconds)} and goes on: a disk or mount below them does not "
                "answer, or they are very many")
        stuck = self._health.judge("stuck", "logs", 0, "", text, seconds)
        return [*self._log_checks, stuck._replace(name="logs", component="", value=None)]

    def is_fresh(self) -> bool:
        """Whether a verdict is at hand that is no older than VERDICT_SECONDS."""
        return time.monotonic() < self._verdict_until

    def verdict(self, facts: Facts | None = None) -> Verdict:
        """The verdict on this box, made again, of `facts` or new ones, when it is older than VERDICT_SECONDS."""
        with self._lock:
            if not self._verdict or time.monotonic() > self._verdict_until + GRACE_SECONDS:
                self._verdict = evaluate(self._health, self._checks_of_logs(), facts)
                self._verdict_until = time.monotonic() + VERDICT_SECONDS
            return self._verdict


Args = Mapping[str, Any]


def timestamp(seconds: float | None) -> str | None:
    """RFC 3339 in UTC, to the millisecond; None stays None."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def log_state(site: Site, log: Log) -> dict[str, object]:
    """A row of the catalogue."""
    packing = log.files[-1].packing if log.files else ""
    problem = log_problem(log) if packing in ("", "gz") else Unreadable(
        f"only {packing} files are left of it, and these are not read")
    survey, trouble = survey_of(site.catalogue.recall, log), problem or log_outlook(log)
    row = {"name": log.name, "format": survey.format.name, "bytes": sum(file.size for file in log.files),
           "first": timestamp(survey.first), "last": timestamp(survey.last), "rotations": max(0, len(log.files) - 1),
           "readable": problem is None}
    return row | ({"reason": trouble.reason, "fix": trouble.fix} if trouble else {})


def journal_state(name: str, unit: str) -> dict[str, object]:
    """A row of the catalogue for a log out of the journal; what part of it a unit has, and from when, is unknown."""
    problem = journal_problem()
    files = []
    for path in journal_files("*.journal"):
        with contextlib.suppress(FileNotFoundError):        # journald deletes them when it will
            files.append(os.stat(path))
    sizes = {"bytes": sum(found.st_size for found in files), "first": None,
             "last": timestamp(max((found.st_mtime for found in files), default=None)),
             "rotations": max(0, len(files) - 1)}
    return {"name": name, "format": "journal", **(dict.fromkeys(sizes) if unit else sizes),
            "readable": problem is None} | ({"reason": problem.reason, "fix": problem.fix} if problem else {})


def answer_index(site: Site, request: Request, args: Args) -> Response:
    """/: the endpoints, with an example each."""
    text = site.index.encode()
    if negotiate(request, args, ("text", "html")) == "html":
        return reply("html", page_html("logwatch", [text], (("health?format=text", "health"), ("logs", "logs"))))
    return reply("text", text)


def answer_livez(site: Site, request: Request, args: Args) -> Response:
    """/livez: the server answers; no I/O. It tells the doctor what the proxy made of a forged X-Forwarded-For."""
    forwarded = request.headers.get("x-forwarded-for", "")
    headers = [(PROBE_HEADER, forwarded)] if re.fullmatch(r"[0-9A-Fa-f:., ]{2,200}", forwarded) else []
    return reply("text", b"ok\n", headers)


def may_see(request: Request, name: str) -> bool:
    """Whether the token of a request, if any, is for a log."""
    return not request.token or not request.token.logs or name in request.token.logs


def log_row(row: Mapping[str, object], width: int) -> str:
    """A row of the catalogue as text."""
    size = "-" if row["bytes"] is None else row["bytes"]
    line = f"{row['name']:<{width}} {size:>12} {row['last'] or '-':<29} {row['format']}"
    if "reason" not in row:
        return line + "\n"
    kind = "warning" if row["readable"] else "not readable"
    return f"{line}\n    {kind}: {row['reason']}\n" + (f"    fix: {row['fix']}\n" if row["fix"] else "")


def log_rows(site: Site, request: Request) -> tuple[list[dict[str, object]], int]:
    """The rows of the catalogue, as many as SCAN_SECONDS and PAGE_BYTES allow, of each folder in turn; how many not."""
    logs = in_turn(log for log in site.catalogue.logs() if may_see(request, log.name))
    budget, size = Budget(gone=partial(request.gone, False)), 0
    rows: list[dict[str, object]] = []
    for log in logs:
        if size > PAGE_BYTES or not budget.spend(0):
            break
        rows.append(log_state(site, log))
        size += sum(len(str(value)) for value in rows[-1].values())
    return sorted(rows, key=lambda row: str(row["name"])), len(logs) - len(rows)


def answer_logs(site: Site, request: Request, args: Args) -> Response:
    """/logs: the catalogue."""
    format_ = negotiate(request, args, ("text", "html", "json", "ndjson"))
    rows = [journal_state(name, unit) for name, unit in site.journals.items() if may_see(request, name)]
    found, more = log_rows(site, request)
    rows += found
    if format_ == "json":
        return reply("json", JSON({"logs": rows} | ({"left_out": more} if more else {})).encode() + b"\n")
    if format_ == "ndjson":
        lines = [*rows, {"left_out": more}] if more else rows
        return reply("ndjson", body_of(JSON(row).encode() + b"\n" for row in lines))
    width = max((len(str(row["name"])) for row in rows), default=0)
    left_out = f"{more} more logs are left out: ask for one by its name\n" if more else ""
    text = safe_text("".join([*(log_row(row, width) for row in rows), left_out]).encode("utf-8", "backslashreplace"))
    if format_ == "html":
        links = [(f"logs/{row['name']}", str(row["name"])) for row in rows if row["readable"]]
        return reply("html", page_html("logs", [text], links))
    return reply("text", text)


def criteria_of(site: Site, args: Args, hide: Hide | None) -> Criteria:
    """What lines must be, of the parameters. Where there are no tokens, who asks may have /raw, so the time that a
    search takes gives nothing away; but pseudonyms have to be looked for in lines that have them."""
    blind = bool(hide and (site.config.tokens or site.config.pseudonyms))
    return Criteria(args.get("q", ()), args.get("not", ()), args.get("re", ""), args.get("i", False),
                    args.get("since", -math.inf), args.get("until", math.inf), args.get("level"), blind)


def hiding(site: Site, request: Request) -> Hide | None:
    """What hides secrets, and addresses, from the one who asks; None for who may see all."""
    if request.token and "raw" in request.token.scopes:
        return None
    steps = ([mask] if site.config.mask else []) + ([pseudonym(site.key)] if site.config.pseudonyms else [])
    # The last block is remembered: it is hidden to be searched, and hidden again to be shown.
    hide = functools.lru_cache(maxsize=1)(lambda data: functools.reduce(lambda shown, step: step(shown), steps, data))
    return hide if steps else None


def query_of(args: Args, criteria: Criteria, survey: Survey | None, *, matches: Matches | None,
             hide: Hide | None) -> Query:
    """A query of the parameters, for lines of a format, or, without a survey, of the journal."""
    query = Query(args.get("n", 100), after=args.get("after"), before=args.get("before"), hide=hide,
                  size=STREAM_BYTES if args.get("follow") else PAGE_BYTES)
    if not survey:
        rest = criteria._replace(since=-math.inf, until=math.inf, level=None)        # journalctl chooses by these
        # What is asked of the lines is asked behind `hide`: pseudonyms made twice are not what was shown.
        return query._replace(pick=make_pick(rest, lambda _: lambda line: None, lambda line: None, matches, None))
    around = (args.get("B", args.get("C", 0)), args.get("A", args.get("C", 0)))
    query = query._replace(pick=make_pick(criteria, survey.time_in, survey.format.level, matches, hide), around=around)
    if criteria.is_timed():
        query = query._replace(window=make_window(criteria, survey.time_in), margin=PROBE_BYTES)
    return query


def read_files(site: Site, name: str, make_query: Callable[[Survey], Query], timed: bool, budget: Budget) -> Page:
    """A page of a log of files; it starts again when logrotate moves them meanwhile. Raises Problem."""
    for _ in range(RACES):
        log = site.catalogue.find(name)
        survey = survey_of(site.catalogue.recall, log)
        if timed and survey.format is TEXT and any(file.size for file in log.files):
            raise Problem(400, f"log {name} has no times that logwatch can read, so since and until say nothing",
                          "search with q=, or page with before=")
        try:
            with Stream(log, budget, site.key).opened() as stream:
                page = read_page(stream, make_query(survey))
                return page._replace(details=functools.partial(survey.details_of, stream.files))
        except Unreadable as error:
            raise Problem(403, f"log {name}: {error.reason}", error.fix) from None
        except Moved:
            time.sleep(RACE_SECONDS)
        except Problem as problem:
            if problem.status != 410 or [file[:2] for file in site.catalogue.find(name).files] == [
                    file[:2] for file in log.files]:
                raise                   # else the file with that place may be one that was not there to be listed
    raise Problem(503, f"log {name} is being moved faster than it can be read", retry=1)


def read_log(site: Site, request: Request, name: str, args: Args) -> Page:
    """A page of a log's lines. Raises Problem."""
    budget = Budget(gone=partial(request.gone, args.get("follow", False)))
    hide = hiding(site, request)
    criteria = criteria_of(site, args, hide)
    unit = site.journals.get(name)
    if unit is not None and any(letter in args for letter in "ABC"):
        raise Problem(400, "parameters A, B and C are not for the journal; allowed: for logs in files")
    with contextlib.ExitStack() as stack:
        matches = stack.enter_context(
            running_regex(criteria.pattern, criteria.ignore_case, peer_key(request.peer))) if criteria.pattern else None
        make_query = functools.partial(query_of, args, criteria, matches=matches, hide=hide)
        if unit is not None:
            return read_journal(name, unit, make_query(None), criteria, budget)
        return read_files(site, name, make_query, criteria.is_timed(), budget)


def trouble_piece(problem: Problem, format_: str) -> bytes:
    """What a stream says of lines that are lost (event: gap), or that cannot be read for now (event: problem)."""
    event = "gap" if problem.status == 410 else "problem"
    if format_ == "sse":
        return b"event: %b\ndata: %b\n\n" % (event.encode(), JSON(problem.document()).encode())
    if format_ == "ndjson":
        return JSON({event: problem.document()}).encode() + b"\n"
    return safe_text(f"-- logwatch: {event}: {problem} --\n".encode())


def line_text(line: Line) -> bytes:
    """A line as text shows it."""
    return line.text + (b" [%d bytes cut]" % line.cut if line.cut else b"") + b"\n"


def entry_of(page: Page, item: Found) -> dict[str, object]:
    """A line as JSON gives it: unknown is null."""
    line = item.line
    details = item.details or page.details(item)
    entry: dict[str, object] = {
        "time": timestamp(details.time), "log": page.log,
        "level": None if details.level is None else LEVELS[details.level],
        "message": details.message, "fields": details.fields, "cursor": page.cursor(item.mark)}
    marks = {"cut": line.cut, "partial": line.partial, "context": item.context}
    return entry | {name: value for name, value in marks.items() if value}


def entry_piece(page: Page, item: Found, format_: str) -> bytes:
    """A line as NDJSON, or as a server-sent event whose id is its cursor. JSON has no line break inside."""
    data = JSON(entry_of(page, item)).encode()
    return b"id: %b\ndata: %b\n\n" % (page.cursor(item.mark).encode(), data) if format_ == "sse" else data + b"\n"


def stream_pieces(pages: Iterator[Page | Problem | None], format_: str) -> Iterator[bytes]:
    """What a stream sends; it holds nothing of a page that was sent."""
    yield b"retry: %d\n\n" % (RETRY_SECONDS * 1000) if format_ == "sse" else b""       # the head goes out at once
    for page in pages:
        if page is None:
            yield b": ping\n\n" if format_ == "sse" else b"\n" if format_ == "ndjson" else b""
        elif isinstance(page, Problem):
            yield trouble_piece(page, format_)
        elif format_ == "text":
            yield from map(safe_text, joined(line_text(item.line) for item in page.found))
        else:
            yield from joined(entry_piece(page, item, format_) for item in page.found)
        del page


def answer_follow(site: Site, request: Request, args: Args, name: str, format_: str) -> Response:
    """/logs/NAME?follow=1: the newest lines, or those behind a cursor, and then new ones as they come."""
    unfit = [letter for letter in ("A", "B", "C", "before", "until") if letter in args]
    if unfit:
        raise Problem(400, f"parameter {unfit[0]} does not go with follow")
    last = request.headers.get("last-event-id")         # of a browser that comes back: it wins over its first URL
    if last:
        args = dict(args) | parse_query(urllib.parse.urlencode({"after": last}), ("after",))
    if args.get("n", 0) > STREAM_LINES:
        raise Problem(400, f"parameter n: with follow {STREAM_LINES} at most, and then what comes")

    def read(place: str) -> Page:
        with site.turn(peer_key(request.peer)):
            further = {"after": parse_any_cursor(place), "n": STREAM_LINES} if place else {}    # fewer cost more
            return read_log(site, request, name, dict(args) | further)
    if name not in site.journals:
        site.catalogue.find(name)       # or each name that there is not would leave a watch behind
    pages = follow(read, site.watch(name), lambda: request.gone(True) or site.stopping.is_set(),
                   REGEX_PAUSE if "re" in args else 0.0)
    first = next(pages, None)
    if isinstance(first, Problem) and "oldest" not in first.members:
        raise first             # a lost place would be the end to a browser that comes back: it is told, and goes on
    if not site.streams.acquire(blocking=False):
        raise Problem(503, f"{site.streams_max} streams are open already", retry=5)
    # A stream would take the only worker of a server without threads: one batch, and come back for the next.
    rest = pages if request.threaded else itertools.islice(pages, int(isinstance(first, Problem)))
    headers = [("X-Accel-Buffering", "no")]             # Nginx would hold back lines until a buffer is full
    pieces = stream_pieces(itertools.chain(iter([first]), rest), format_)    # a list would stay as long as the stream
    return reply(format_, Body(pieces, site.streams.release), headers)


def relative_link(request: Request, **changed: str) -> str:
    """The request's own URL with another place, as a reference relative to it (RFC 3986, 4.2): right behind any
    prefix."""
    pairs = [pair for pair in urllib.parse.parse_qsl(request.query) if pair[0] not in ("after", "before")]
    return "?" + urllib.parse.urlencode([*pairs, *changed.items()], safe="!$'()*,;:@/?[]")   # as short as it came


def grouped_text(found: Sequence[Found]) -> Iterator[bytes]:
    """Lines with context, as grep prints them: -- between groups that are not neighbours in their file."""
    before: tuple[int, int] | None = None
    for item in found:
        if before and before != (item.number, item.line.start):
            yield b"--\n"
        yield line_text(item.line)
        before = item.number, item.line.end


def json_pieces(head: Mapping[str, object], entries: Iterator[bytes], tail: Mapping[str, object]) -> Iterator[bytes]:
    """{head, "entries": [...], tail} without holding it whole."""
    yield JSON(head).encode()[:-1] + b',"entries":['
    for count, entry in enumerate(entries):
        yield b"," + entry if count else entry
    yield b"]," + JSON(tail).encode()[1:] + b"\n"


def render_page(request: Request, page: Page, format_: str, grouped: bool) -> Response:
    """A page of lines in one of the formats, with its links and its scan report."""
    following = relative_link(request, after=page.next) if page.next else ""
    previous = relative_link(request, before=page.prev) if page.prev else ""
    links = ", ".join(f'<{url}>; rel="{rel}"' for url, rel in ((following, "next"), (previous, "prev")) if url)
    scan = page.scan
    cost = f"bytes={scan.bytes}, files={scan.files}, lines={scan.lines}, stop={scan.stop}"
    headers = (*([("Link", links)] if links else []), ("Logwatch-Scan", cost))
    if format_ in ("text", "html"):
        text = map(safe_text, grouped_text(page.found) if grouped else (line_text(item.line) for item in page.found))
        if format_ == "text":
            return reply("text", body_of(text), headers)
        shown_links = [("../logs", "logs"), (following, "newer"), (previous, "older")]
        return reply("html", page_html(page.log, text, [link for link in shown_links if link[0]]), headers)
    entries = (JSON(entry_of(page, item)).encode() for item in page.found)
    if format_ == "ndjson":
        return reply("ndjson", body_of(entry + b"\n" for entry in entries), headers)
    tail = {"scan": scan._asdict(), "next": following or None, "prev": previous or None}
    return reply("json", body_of(json_pieces({"log": page.log}, entries, tail)), headers)


def answer_lines(site: Site, request: Request, args: Args, name: str) -> Response:
    """/logs/NAME: lines."""
    following = args.get("follow", False)
    format_ = negotiate(request, args, ("text", "ndjson", "sse") if following else ("text", "html", "json", "ndjson"))
    if "after" in args and "before" in args:
        raise Problem(400, "parameters after and before exclude each other; one is allowed")
    if args.get("since", -math.inf) > args.get("until", math.inf):
        raise Problem(400, "parameter since is later than until; allowed: a time before it")
    if "C" in args and ("A" in args or "B" in args):
        raise Problem(400, "parameter C stands for both A and B; C alone or A and B are allowed")
    if following:
        return answer_follow(site, request, args, name, format_)
    page = read_log(site, request, name, args)
    return render_page(request, page, format_, any(args.get(letter) for letter in "ABC"))


def file_pieces(fd: int, start: int, end: int) -> Iterator[bytes]:
    """The bytes of a file between two places, as far as they are there."""
    while start < end and (piece := os.pread(fd, min(PIECE_BYTES, end - start), start)):
        yield piece
        start += len(piece)


def file_response(request: Request, fd: int, name: str, key: bytes, held: contextlib.ExitStack) -> Response:
    """An open file, or the Range of it that is asked for; its length is what it is now. `held` closes it unless the
    body takes that over. Raises Problem 416."""
    found = os.fstat(fd)
    # Strong: what changes the bytes changes time or size; the inode tells a rotated file from its successor.
    identity = repr((found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)).encode()
    etag = f'"{hashlib.blake2b(identity, digest_size=12, key=key).hexdigest()}"'
    known = request.headers.get("if-none-match", "")
    if known == "*" or etag in re.findall(r'"[^"]*"', known):
        return Response(304, (("ETag", etag),), b"")
    same = request.headers.get("if-range", etag) == etag        # a date is too weak here: logs change within the second
    ranged = same and request.method == "GET"                   # RFC 9110, 14.2
    part = parse_range(request.headers.get("range", ""), found.st_size) if ranged else None
    first, last = part or (0, found.st_size - 1)
    headers = [("ETag", etag), ("Accept-Ranges", "bytes"), ("Content-Type", "application/octet-stream"),
               ("Last-Modified", http_date(known_time(found.st_mtime_ns) // 10**9)),
               ("Content-Disposition", f'attachment; filename="{name}"'), ("Content-Length", str(last - first + 1))]
    headers += [("Content-Range", f"bytes {first}-{last}/{found.st_size}")] if part else []
    body = Body(file_pieces(fd, first, last + 1), held.pop_all().close)
    return Response(206 if part else 200, tuple(headers), body)


def answer_raw(site: Site, request: Request, args: Args, name: str) -> Response:
    """/logs/NAME/raw: the bytes of the live file as they were when the request came."""
    if name in site.journals:
        raise Problem(404, f"log {name} is the journal: it has no file to give; /logs/{name} has its lines")
    log = site.catalogue.find(name)
    try:
        fd = open_below(log.root, log.files[-1].parts)
    except Unreadable as error:
        raise Problem(403, f"log {name}: {error.reason}", error.fix) from None
    except Moved:
        raise Problem(503, f"log {name} is being rotated", retry=1) from None
    with contextlib.ExitStack() as held:
        held.callback(os.close, fd)
        return file_response(request, fd, f"{name}.log", site.key, held)


@functools.lru_cache(maxsize=8)
def render_verdict(verdict: Verdict, format_: str) -> bytes:
    """The body of a verdict; probes ask for the same one many times a second."""
    return (safe_text(health_text(verdict).encode("utf-8", "backslashreplace")) if format_ == "text"
            else JSON(health_json(verdict)).encode() + b"\n")


def choose_checks(verdict: Verdict, args: Args, only: str = "") -> Verdict:
    """A verdict of some of the checks. Raises Problem 404 or 400 for one that there is not."""
    if not only and "exclude" not in args:
        return verdict
    names = sorted({*CHECKS, *(check.name for check in verdict.checks)})
    for name in args.get("exclude", ()):
        if name not in names:
            raise Problem(400, f"parameter exclude: {shown(name)} is not allowed; allowed: {', '.join(names)}")
    if only and only not in names:
        raise Problem(404, f"there is no check {shown(only)}; there are: {', '.join(names)}")
    return verdict.keep(lambda check: check.name not in args.get("exclude", ()) and only in ("", check.name))


def brief(verdict: Verdict, request: Request) -> Verdict:
    """A verdict that tells of those logs alone that its reader may see."""
    if not request.token or not request.token.logs:
        return verdict
    kept = verdict.keep(lambda check: check.name != "logs" or (
        may_see(request, check.component) if check.component else check.unit != "logs"))
    if len(kept.checks) == len(verdict.checks) or any(check.name == "logs" for check in kept.checks):
        return kept
    well = Check("logs", "", 0.0, "", "pass", "", "all logs that this token is for can be read")
    return kept._replace(checks=(*kept.checks, well))


def answer_health(site: Site, request: Request, args: Args, check: str = "") -> Response:
    """/health and /health/CHECK as health+json or text; 503 only for fail. Probes send a browser's Accept: no HTML."""
    verdict = choose_checks(brief(site.verdict(), request), args, check)
    format_ = negotiate(request, {"format": "health", **args}, ("health", "json", "text"))
    return reply(format_, render_verdict(verdict, format_), status=verdict.http_status)


def answer_metrics(site: Site, request: Request, args: Args) -> Response:
    """/metrics: node_exporter's names, Prometheus text 0.0.4."""
    facts = Facts(site.host)
    LOOKER.do(site.count_logs, COUNT_PATIENCE)
    counted = {name: tally for name, tally in site.tallies.items() if may_see(request, name)}
    uncounted: Sample = "logwatch_logs_uncounted", (), site.uncounted
    return reply("metrics", render([*collect(facts, site.verdict(facts)), uncounted, *tally_samples(counted)]))


class Route(NamedTuple):
    """A row of ROUTES: a path with {names}, the scope that a token needs for it ('': none), its handler and parameters.
    An `instant` one needs no I/O, so the server answers it on its own loop."""

    path: str
    scope: str
    handler: Callable[..., Response]
    parameters: tuple[str, ...]
    about: str
    example: str
    instant: Callable[[Site], bool] = lambda site: False


LINE_PARAMETERS = ("n", "q", "not", "re", "i", "A", "B", "C", "since", "until", "level", "after", "before", "follow",
                   "format")
ROUTES = (
    Route("/", "", answer_index, ("format",), "this list", "/", lambda site: True),
    Route("/health", "health", answer_health, ("exclude", "format"),
          "is this box well? 200 for pass and warn, 503 for fail", "/health?format=text", Site.is_fresh),
    Route("/health/{check}", "health", answer_health, ("format",), "one check of it", "/health/disk", Site.is_fresh),
    Route("/livez", "", answer_livez, (), "ok, as long as the server answers", "/livez", lambda site: True),
    Route("/metrics", "metrics", answer_metrics, (),
          "the host's and the logs' figures for Prometheus, under node_exporter's names", "/metrics"),
    Route("/logs", "logs", answer_logs, ("format",),
          "which logs there are, how large, from when to when, readable or why not", "/logs"),
    Route("/logs/{name}", "logs", answer_lines, LINE_PARAMETERS,
          "the newest lines of a log and its rotations; Link leads to older and newer ones", "/logs/syslog?n=20"),
    Route("/logs/{name}/raw", "raw", answer_raw, (), "the bytes of its live file, with Range", "/logs/syslog/raw"),
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
    """An answer that still has to be worked out: it may read files, so the server leaves it to a worker. One that
    `streams` takes a thread for as long as it lasts."""

    run: Callable[[], Response]
    streams: bool


def write_stderr(text: str) -> None:
    """A line on stderr in one write; a log that cannot be written, or that nobody reads, is no reason to stop serving:
    a journald that hangs on its disk is when one wants to read the rest."""
    with contextlib.suppress(OSError):
        if select.select((), (2,), (), 0)[1]:
            os.write(2, text.encode("ascii", "backslashreplace"))


LOCAL = "local"         # the peer of a request that came without a socket


def find_route(request: Request) -> tuple[Route, dict[str, str]]:
    """The route of a path and the names in it. Raises Problem 404."""
    for route, pattern in PATHS:
        if match := pattern.fullmatch(request.path):
            return route, match.groupdict()
    raise Problem(404, f"there is nothing at {shown(request.path)}; / lists what there is",
                  NAMING if request.path.startswith("/logs/") else "")


def request_of_environ(environ: Mapping[str, Any]) -> Request:
    """A Request from a WSGI environ."""
    headers = {key[5:].replace("_", "-").lower(): str(value) for key, value in environ.items()
               if key.startswith("HTTP_")}
    peer = str(environ.get("REMOTE_ADDR") or "unix")
    # PEP 3333 hands the decoded path as if it were Latin-1.
    path = str(environ.get("PATH_INFO", "")).encode("latin-1").decode("utf-8", "replace") or "/"
    sock = environ.get("gunicorn.socket")       # without it, a follower of a quiet log would keep its thread for ever
    gone = partial(has_hung_up, sock) if sock else lambda streams: False
    return Request(str(environ["REQUEST_METHOD"]), path, str(environ.get("QUERY_STRING", "")), headers,
                   client_address(peer, headers), peer == "unix", gone,
                   threaded=bool(sock and environ.get("wsgi.multithread")))


def method_problem(method: str) -> Problem:
    """405 for a method that exists, 501 for one that does not (RFC 9110, 9.1)."""
    if method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"):
        return Problem(405, f"{method} is not allowed; allowed: GET, HEAD", headers=[("Allow", "GET, HEAD")])
    return Problem(501, "this method is unknown; allowed: GET, HEAD", headers=[("Allow", "GET, HEAD")])


def close_body(body: bytes | Iterable[bytes]) -> None:
    """Release what a body holds that nobody will read."""
    getattr(body, "close", lambda: None)()


class Application:
    """Requests in, responses out; and a PEP 3333 callable of the same."""

    def __init__(self, config: Config, streams: int = FOLLOWERS_MAX) -> None:
        self.site = Site(config, streams)
        self.site.index = index_text(config.listen)
        self._requests = Throttle(config.rate, 2 * config.rate) if config.rate else None
        self._failures = Throttle(FAILURES_RATE, FAILURES_BURST)

    def prepare(self, request: Request) -> Response | Call:
        """All that needs no I/O: the refusals, and the answers that are at hand; else the call that makes the
        answer."""
        return self.guard(lambda: self._prepare(request))

    def _prepare(self, request: Request) -> Response | Call:
        if request.method not in ("GET", "HEAD"):
            raise method_problem(request.method)
        check_origin(self.site.config, request)
        route, names = find_route(request)
        request = self._admit(request, route, names)
        args = parse_query(request.query, route.parameters)
        handler = functools.partial(route.handler, self.site, request, args, **names)
        call = Call(lambda: self.guard(handler), args.get("follow", False))
        if not route.instant(self.site):
            return call
        answer = call.run()
        small = isinstance(answer.body, bytes) and len(answer.body) <= PIECE_BYTES      # what a socket takes at once
        return answer if small else Call(lambda: answer, False)

    def _admit(self, request: Request, route: Route, names: Mapping[str, str]) -> Request:
        """The request with its token. Raises Problem 401, 403 or 429 where it may not, or not now."""
        tokens = self.site.config.tokens
        if route.scope and tokens and not request.token:
            request = request._replace(token=self._authenticate(request, tokens))
        token = request.token
        if route.scope and token and route.scope not in token.scopes:
            raise Problem(403, f"this token is not for {route.scope}", "logwatch.py token NAME --scope SCOPE")
        if "name" in names and not may_see(request, names["name"]):
            raise Problem(403, f"this token is not for the log {names['name']}")
        if self._requests and not route.instant(self.site) and request.peer != LOCAL:
            wait = self._requests.allow(peer_key(request.peer), time.monotonic())
            if wait:
                raise Problem(429, f"more than {self.site.config.rate} requests a second", retry=wait)
        return request

    def _authenticate(self, request: Request, tokens: Sequence[Token]) -> Token:
        """The token that a request presents. Raises Problem 401; 429 where wrong ones came too often."""
        header = request.headers.get("authorization")
        token = authenticate(header, tokens)
        if token:
            return token
        wait = self._failures.allow(peer_key(request.peer), time.monotonic()) if header else 0.0
        if wait:
            raise Problem(429, "too many wrong tokens", retry=wait)
        if header:
            write_stderr(f"logwatch: wrong token from {request.peer}\n")
        bare = header and header.partition(" ")[0].lower() not in ("bearer", "basic")
        raise Problem(401, "Authorization has no Bearer before its token" if bare
                      else "this token is not known" if header else "this needs a token",
                      "curl -H 'Authorization: Bearer TOKEN'; logwatch.py token NAME makes one",
                      [("WWW-Authenticate", 'Basic realm="logwatch", charset="UTF-8"'),
                       ("WWW-Authenticate", 'Bearer realm="logwatch"')])

    def respond(self, request: Request) -> Response:
        """The answer to a request."""
        prepared = self.prepare(request)
        return prepared.run() if isinstance(prepared, Call) else prepared

    def guard(self, run: Callable[[], T]) -> T | Response:
        """What run() gives, or the problem that it ends in."""
        try:
            return run()
        except Problem as problem:
            return problem_response(problem)
        except OSError as error:
            status = 503 if error.errno in (*EXHAUSTED, errno.EAGAIN) else 500      # EAGAIN is fork's, at TasksMax=
            return problem_response(Problem(status, f"it cannot be read: {error.strerror}", retry=1))
        except Exception as error:      # the one place: a defect of ours costs a request, never the server
            if isinstance(error, MemoryError) or "start new thread" in str(error):      # a bare RuntimeError
                return problem_response(Problem(503, "there is no memory for it now", retry=1))
            *_, (_, line) = traceback.walk_tb(error.__traceback__)
            write_stderr(f"logwatch: defect: {repr(error)[:200]} at line {line}\n")
            return problem_response(Problem(500, "a defect in logwatch; its journal has the line"))

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        """PEP 3333."""
        request = request_of_environ(environ)
        response = self.respond(request)
        start_response(f"{response.status} {http.HTTPStatus(response.status).phrase}",
                       [*response.headers, *SECURITY_HEADERS])
        if request.method == "HEAD":
            close_body(response.body)
            return []
        return [response.body] if isinstance(response.body, bytes) else response.body


@functools.cache
def default_application() -> Application:
    """The application that the environment and /etc/logwatch.ini configure, made at the first request. Each stream has
    one of the server's threads, which do not tell how many they are: as many as `workers`, it is taken."""
    config = load_config({}, os.environ)
    return Application(config, max(1, config.workers // 2))


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


def parse_headers(lines: Sequence[bytes]) -> dict[str, str]:
    """Header lines by lower-case name; repeated ones are joined, unless they are among SINGLE."""
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name.translate(None, TOKEN):
            raise Problem(400, "a header line is not NAME: VALUE")      # also a space before the colon, and obs-fold
        name = name.lower()
        key, text = name.decode(), value.strip(b" \t").decode("latin-1")
        if key in headers:
            if name in SINGLE:
                raise Problem(400, f"the header {key} is given more than once")
            text = f"{headers[key]}, {text}"
        headers[key] = text
    host = headers.get("host", "localhost")
    if not re.fullmatch(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?", host):
        raise Problem(400, "the Host header is not a host name with an optional port")
    return headers


def check_bodiless(headers: Mapping[str, str]) -> None:
    """Refuse a request that has, or could be taken to have, a body: GET and HEAD have none here."""
    if "transfer-encoding" in headers:
        raise Problem(400, "Transfer-Encoding is not allowed: requests have no body here")
    if headers.get("content-length", "0") != "0":
        raise Problem(400, "Content-Length is not allowed but as 0: requests have no body here")
    if "expect" in headers:
        raise Problem(417, "Expect is not allowed: requests have no body here")


def parse_target(target: bytes) -> tuple[str, str]:
    """An origin-form target as (decoded path, raw query)."""
    if not target.startswith(b"/") or target.translate(None, TARGET):
        raise Problem(400, "the request target is not a path that begins with / and is percent-encoded")
    if re.search(rb"%(?![0-9A-Fa-f]{2})", target):
        raise Problem(400, "the request target has a % without two hexadecimal digits")
    raw, _, query = target.decode().partition("?")
    try:
        path = urllib.parse.unquote(raw, errors="strict")
    except UnicodeDecodeError:
        raise Problem(400, "the request target is not UTF-8") from None
    if not path.isprintable():
        raise Problem(400, "the request target has a control character")
    return path, query


def parse_head(head: bytes, peer: str) -> tuple[Request, bool]:
    """A request's head without its empty line as a Request, and whether the connection stays open after it.

    Stricter than RFC 9112: nothing is repaired, and whatever two servers could read differently raises Problem 400
    (gunicorn CVE-2024-1135 and 2024-6827, waitress CVE-2019-16785 to 16792). Bytes are tested by sets, not by regular
    expressions (waitress CVE-2020-5236).
    """
    lines = head.split(b"\r\n")
    if b"".join(lines).translate(None, VALUE):
        raise Problem(400, "the request has a control character, a bare LF or a bare CR")
    if len(lines) > HEADERS_MAX + 1:
        raise Problem(431, f"the request has more than {HEADERS_MAX} header lines")
    parts = lines[0].split(b" ")
    if len(parts) != 3 or not parts[0] or parts[0].translate(None, TOKEN):
        raise Problem(400, "the request line is not METHOD TARGET HTTP/1.1")
    method, target, version = parts
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        status = 505 if re.fullmatch(rb"HTTP/[0-9]\.[0-9]", version) else 400
        raise Problem(status, "only HTTP/1.1 and HTTP/1.0 are spoken")
    headers = parse_headers(lines[1:])
    if version == b"HTTP/1.1" and "host" not in headers:
        raise Problem(400, "HTTP/1.1 wants a Host header")
    if method not in (b"GET", b"HEAD"):
        raise method_problem(method.decode())
    check_bodiless(headers)
    path, query = parse_target(target)
    options = {option.strip() for option in headers.get("connection", "").lower().split(",")}
    modern = version == b"HTTP/1.1"
    request = Request(method.decode(), path, query, headers, client_address(peer, headers), peer == "unix",
                      chunks=modern)
    return request, modern and "close" not in options


SECURITY_LINES = [f"{name}: {value}" for name, value in SECURITY_HEADERS]


def render_head(response: Response, keep: bool, chunked: bool) -> bytes:
    """The head of a response. Its own check of every header: a CR or LF in one would be a second answer."""
    lines = [f"HTTP/1.1 {response.status} {http.HTTPStatus(response.status).phrase}",
             f"Date: {http_date(int(time.time()))}"]
    lines += [f"{name}: {value}" for name, value in response.headers] + SECURITY_LINES
    lines += ["Transfer-Encoding: chunked"] * chunked + ["Connection: close"] * (not keep)
    text = "\r\n".join(lines)
    if len(text.splitlines()) != len(lines):
        raise ValueError(f"a header of {response.status} holds a line break")
    return (text + "\r\n\r\n").encode("latin-1")


def access_line(peer: str, request: str, status: int, size: int, seconds: float) -> str:
    """A line of the access log: one line whatever the request held, and never its query string."""
    return f"{peer} {ascii(request[:200])} {status} {size} {seconds * 1000:.1f}ms\n"


def frames_of(response: Response, keep: bool, bodiless: bool, chunks: bool) -> Iterator[bytes]:
    """What goes over the wire for an answer, in the pieces to send. Raises OSError where a body turns out shorter
    than its Content-Length: the connection must not go on."""
    if isinstance(response.body, bytes):
        head = render_head(response, keep, False)
        yield head if bodiless else head + response.body
        return
    length = next((int(value) for name, value in response.headers if name == "Content-Length"), None)
    chunked = length is None and chunks
    head = render_head(response, keep, chunked)
    if bodiless:
        yield head
        return
    size = 0
    for piece in response.body:
        frame = head + (b"%x\r\n%b\r\n" % (len(piece), piece) if chunked and piece else piece)
        if frame:
            yield frame
        head = b""
        size += len(piece)
    if chunked:
        yield head + b"0\r\n\r\n"
    elif head:
        yield head
    if length is not None and size != length:
        raise ConnectionAbortedError("the file became shorter while it was sent")


class Sending:
    """An answer on its way to a client, as far as the socket takes it, worked out when the first of it is sent; `line`:
    the method and path that it is to. It is in no cycle but by Connection.sending, which _finish() ends: or what was
    not sent would stay until a garbage collection, 400 MB of streams that were closed."""

    def __init__(self, answer: Response | Call, peer: str, line: str, keep: bool, started: float,
                 chunks: bool = True) -> None:
        self.answer, self.peer, self.line, self.started = answer, peer, line, started
        self.sent, self.most = 0, SLOW_MAX      # bytes; answers of this kind that may wait for slow clients
        self._how = keep, line.startswith("HEAD "), chunks
        self._frames: Iterator[bytes] | None = None
        self._rest = b""

    def push(self, sock: socket.socket) -> bool:
        """Send what the socket takes now. Whether that was all of it; raises OSError or ValueError where it cannot
        be."""
        if not self._frames:
            response = self.answer = self.answer.run() if isinstance(self.answer, Call) else self.answer
            self._frames = frames_of(response, *self._how)
            self.most = DOWNLOADS_MAX if isinstance(response.body, Body) else SLOW_MAX
        while rest := self._rest or next(self._frames, b""):
            self._rest = rest
            try:
                count = sock.send(rest)
            except BlockingIOError:
                return False
            self._rest = rest[count:]
            self.sent += count
        return True


class Notifier:
    """systemd's side: sd_notify(3), and listening sockets handed down (sd_listen_fds(3)) or stored with it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._path = re.sub("^@", "\0", environment.get("NOTIFY_SOCKET", ""))      # an abstract socket, unix(7)
        own = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        text = environment.get("WATCHDOG_USEC", "") if own else ""
        self.watchdog_seconds = int(text) / 2e6 if text.isascii() and text.isdigit() else None   # half, as advised

    def notify(self, message: str, fds: Sequence[int] = ()) -> None:
        """Send a state; a manager that is gone is no reason to stop serving, nor is a want of descriptors."""
        if not self._path:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
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


def bind_unix(path: str) -> socket.socket:
    """A unix socket of mode 0660; a stale file of an earlier server is replaced, a live one is not."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.connect(path)
        raise Unavailable(f"listen: unix:{path}: another server answers there")
    except FileNotFoundError:
        pass
    except ConnectionRefusedError:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise ConfigError(f"listen: unix:{path}: there is something that is not a socket") from None
        os.unlink(path)
    mask = os.umask(0o117)          # a chmod() behind bind() would leave a moment of 0777
    try:
        listener.bind(path)
    finally:
        os.umask(mask)
    return listener


def bind_listener(address: Address) -> socket.socket:
    """A new listening socket. Raises ConfigError where the address is taken or cannot be had."""
    try:
        if address.path:
            listener = bind_unix(address.path)
        else:
            family, kind, _, _, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
            listener = socket.socket(family, kind)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
    except (OSError, UnicodeError) as error:
        raise Unavailable(f"listen: {address}: {getattr(error, 'strerror', 'no name of a host')}") from None
    listener.listen(CONNECTIONS_MAX)
    return listener


def socket_address(listener: socket.socket) -> str:
    """Where a socket listens, as `--listen` has it."""
    name = listener.getsockname()
    return f"unix:{name}" if listener.family == socket.AF_UNIX else str(Address("", name[0], name[1]))


LOOP = ""       # among clients, by their addresses, the server's own loop


class Connection:
    """A client: its socket, what it sent and was not answered yet, and until when it may stay silent."""

    def __init__(self, sock: socket.socket, peer: str, now: float) -> None:
        self.sock, self.peer = sock, peer
        self.buffer = b""
        self.busy = self.streams = False        # with a worker; with a thread of its own
        self.keep = True                        # open for a further request behind this one
        self.owner = ""                 # whose request it is, to share the workers
        self.aside = 0.0                # time.monotonic() when a scan for it last stepped aside, or began
        self.sending: Sending | None = None     # what it was not sent yet, or is slow to take
        self.grant(HEADER_SECONDS, now)

    def grant(self, seconds: float, now: float) -> None:
        """Let the client be silent for that long."""
        self.since, self.deadline = now, now + seconds


class Server:
    """An HTTP/1.1 server. One thread has all connections that wait for a request, or are slow to take an answer, so
    that any number of them costs no other thread; a bounded pool of workers makes the answers that read files. What is
    at hand is answered on the loop itself.
    """

    def __init__(self, make_application: Callable[[], Application], listeners: Sequence[socket.socket],
                 notifier: Notifier) -> None:
        self._make, self._notifier = make_application, notifier
        self.application = make_application()
        self._workers = self.application.site.config.workers
        self._pool = concurrent.futures.ThreadPoolExecutor(self._workers, "worker")
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._connections: dict[int, Connection] = {}
        self._done: collections.deque[Connection] = collections.deque()     # that workers are through with, for now
        self._again: set[Connection] = set()    # with more requests in their buffers, perhaps
        self._epoll = select.epoll()
        self._at_work = False           # the loop has something to do
        self._wake_in, self._wake_out = socket.socketpair()
        self._beat_at = self._sweep_at = 0.0    # time.monotonic() at which the next ones are due
        self._stop_at: float | None = None
        self._waiting: list[Connection] = []    # for a worker
        self._running: set[Connection] = set()      # with workers
        self._spent: collections.Counter[str] = collections.Counter()       # by client, and LOOP: µs of late
        self._signals: collections.deque[int] = collections.deque()

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        for sock in (self._wake_in, self._wake_out, *self._listeners.values()):
            sock.setblocking(False)
        for fd in (self._wake_in.fileno(), *self._listeners):
            self._epoll.register(fd, select.EPOLLIN)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda number, frame: self._signals.append(number))
        signal.set_wakeup_fd(self._wake_out.fileno(), warn_on_full_buffer=False)
        sys.setswitchinterval(SWITCH_SECONDS)
        gc.freeze()             # a full collection went through all of this program, too: 9 ms with no thread running
        self._pool.submit(int).result()         # one worker now, for all that later there may be no thread for
        self._notifier.notify("READY=1")
        while not self._finished(time.monotonic()):
            self._turn()
        for connection in self._connections.values():
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)      # ends the scans and streams that still run
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _turn(self) -> None:
        """One round: what is due, what is readable, what workers have finished."""
        self._beat(time.monotonic())
        patience = 0.0 if self._again else 0.05 if self._stop_at else min(1.0, self._notifier.watchdog_seconds or 1.0)
        self._at_work = False
        ready = self._epoll.poll(patience)
        self._at_work, began = True, time.thread_time()
        # New clients last: making room for one may close a connection, whose own event, or request, comes before that.
        for fd, events in sorted(ready, key=lambda event: event[0] in self._listeners):
            if fd in self._listeners:
                self._accept(self._listeners[fd])
            elif fd == self._wake_in.fileno():
                with contextlib.suppress(BlockingIOError):
                    self._wake_in.recv(4096)
            elif connection := self._connections.get(fd):
                self._attend(connection, events)
        while self._done:
            self._take_back(self._done.popleft())
        again, self._again = self._again, set()
        for connection in again:
            if connection.sock.fileno() in self._connections and not connection.busy and not connection.sending:
                self._serve(connection)
        while self._signals:
            self._obey(self._signals.popleft())
        self._spent[LOOP] += int(1e6 * (time.thread_time() - began))
        self._sweep(time.monotonic())

    def _beat(self, now: float) -> None:
        """Tell the watchdog that the loop turns, when it is time to."""
        if self._notifier.watchdog_seconds and now >= self._beat_at:
            self._notifier.notify("WATCHDOG=1")
            self._beat_at = now + self._notifier.watchdog_seconds

    # Accepting ---------------------------------------------------------------------------------------------------

    def _listen(self, events: int) -> None:
        """Have new clients wake the loop by EPOLLIN, or, by 0, not."""
        for fd in self._listeners:
            self._epoll.modify(fd, events)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(PIPELINE_MAX):
            try:
                sock, name = listener.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue                # gone before we came: one dead client must not stop the loop (CVE-2022-31015)
            except OSError as error:
                if error.errno in EXHAUSTED:
                    self._listen(0)         # until the next _sweep(), or they would wake it at once and for ever
                    self._drop_idlest()
                return
            sock.setblocking(False)
            peer = "unix" if listener.family == socket.AF_UNIX else name[0].removeprefix("::ffff:")
            if peer != "unix":
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if len(self._connections) >= CONNECTIONS_MAX:
                self._drop_idlest()
            self._connections[sock.fileno()] = Connection(sock, peer, time.monotonic())
            self._epoll.register(sock.fileno(), select.EPOLLIN)

    def _attend(self, connection: Connection, events: int) -> None:
        """A slow client takes more, or one is gone, or asks for something."""
        if connection.sending:
            self._lend(connection)
        elif not events & select.EPOLLIN:
            self._close(connection)
        elif len(connection.buffer) <= HEADERS_BYTES:       # else there is enough to do
            self._receive(connection)

    def _drop_idlest(self) -> None:
        """Make room: the connection that has been silent longest goes, so that slow clients never lock out others. Not
        the one that will time out first: a new one has less time than one kept open, and would go for the next one."""
        idle = [one for one in self._connections.values() if not one.busy and not one.sending]
        if idle:
            self._close(min(idle, key=lambda connection: connection.since))

    def _sweep(self, now: float) -> None:
        """Close whoever has been silent, or dribbling, for too long."""
        if now < self._sweep_at:
            return
        self._sweep_at = now + 0.5
        self._spent = collections.Counter({owner: spent // 2 for owner, spent in self._spent.items() if spent > 1})
        self._listen(select.EPOLLIN)
        for connection in list(self._connections.values()):
            if not connection.busy and now > connection.deadline:
                if connection.buffer and not connection.sending:
                    self._reject(connection, Problem(408, f"the request's head took longer than {HEADER_SECONDS:g} s"))
                else:
                    self._close(connection)

    def _close(self, connection: Connection) -> None:
        if self._connections.pop(connection.sock.fileno(), None):
            # close() alone leaves it there while a child before its exec() has it open as well, epoll(7): its events
            # would come as those of the next one with that number.
            self._epoll.unregister(connection.sock.fileno())
            connection.sock.close()
            self._finish(connection)

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
        if not connection.buffer:       # the first bytes of a request
            connection.grant(HEADER_SECONDS, time.monotonic())
        connection.buffer += data
        self._serve(connection)

    def _serve(self, connection: Connection) -> None:
        """Answer the requests that are whole in the buffer, until one needs a worker."""
        for _ in range(PIPELINE_MAX):
            head, end, rest = connection.buffer.partition(b"\r\n\r\n")
            if len(head) > HEADERS_BYTES:
                self._reject(connection, Problem(431, f"the request's head is longer than {HEADERS_BYTES} bytes"))
                return
            if not end:
                break
            connection.buffer = rest
            connection.grant(HEADER_SECONDS, time.monotonic())
            if not self._serve_one(connection, head):
                return
        else:
            self._again.add(connection)         # others have their turn
            return
        if b"\n" in head.replace(b"\r\n", b""):
            self._reject(connection, Problem(400, "the request has a bare LF"))
        elif not head:
            connection.grant(IDLE_SECONDS, time.monotonic())

    def _serve_one(self, connection: Connection, head: bytes) -> bool:
        """Answer a request, or hand it to a worker. False unless the loop may go on with this connection."""
        started = time.monotonic()
        try:
            request, keep = parse_head(head, connection.peer)
        except Problem as problem:
            self._reject(connection, problem, head)
            return False
        request = request._replace(gone=partial(self._is_gone, connection))
        prepared = self.application.prepare(request)
        connection.owner = peer_key(request.peer)
        if isinstance(prepared, Call) and self._is_full(prepared, connection.owner):
            what = (f"{FOLLOWERS_MAX} streams are open already, or {FOLLOWERS_SHARE} of yours" if prepared.streams
                    else "too many requests at once")
            prepared = problem_response(Problem(503, what, retry=5))
        connection.aside, connection.streams = started, isinstance(prepared, Call) and prepared.streams
        connection.keep = keep and not connection.streams and self._stop_at is None
        connection.sending = Sending(prepared, request.peer, f"{request.method} {request.path}", connection.keep,
                                     started, request.chunks)
        if isinstance(prepared, Call):
            self._lend(connection)
            return False
        self._send(connection)
        return self._settle(connection)

    def _is_full(self, call: Call, owner: str) -> bool:
        """Whether there is no room for a call: in all, or for this client, who may take a part of it."""
        if call.streams:
            streams = [one.owner for one in self._connections.values() if one.streams]
            return len(streams) >= FOLLOWERS_MAX or streams.count(owner) >= FOLLOWERS_SHARE
        waiting = [one.owner for one in self._waiting if one.sending and isinstance(one.sending.answer, Call)]
        busy = len(waiting) + len(self._running)
        return busy >= self._workers + QUEUE_MAX or waiting.count(owner) >= QUEUE_MAX // 2

    def _lend(self, connection: Connection) -> None:
        """Give a connection to a worker, or to a thread of its own, out of sight of the loop, to be sent its answer."""
        connection.busy = True
        self._epoll.unregister(connection.sock.fileno())
        if not connection.streams:
            self._waiting.append(connection)
            self._start_waiting()
            return
        try:
            threading.Thread(target=self._lent, args=(connection,), name="stream", daemon=True).start()
        except RuntimeError:            # no thread can be started: TasksMax=, memory
            connection.sending = None
            self._done.append(connection)

    def _start_waiting(self) -> None:
        """Start what waits for a worker, the longest first; of one client no more than WORKERS_SHARE, and the last
        worker is for one who has none."""
        for connection in list(self._waiting):
            own = [other.owner for other in self._running].count(connection.owner)
            if own < WORKERS_SHARE and len(self._running) + bool(own) < self._workers:
                self._waiting.remove(connection)
                self._running.add(connection)
                connection.since = connection.aside = time.monotonic()
                with contextlib.suppress(RuntimeError):     # no further thread: the next worker that comes free does it
                    self._pool.submit(self._lent, connection)

    def _claim(self, connection: Connection, now: float) -> float:
        """How many µs its client has had of the workers of late, with this request, as _sweep() would have counted."""
        return self._spent[connection.owner] + 1e6 * min(1.0, now - connection.since)

    def _is_wanted(self, connection: Connection, now: float) -> bool:
        """Whether a worker for another client runs who has had less than half as much; or the loop has something to
        do that has had less than a quarter, of the CPU. They want the interpreter's lock; who has it, and gives it up
        to read, has it back before they are awake."""
        half = self._claim(connection, now) / 2
        loop = 2 * self._spent[LOOP] < half and (self._at_work or bool(select.select([self._epoll], [], [], 0)[0]))
        return loop or any(one.owner != connection.owner and self._claim(one, now) < half for one in [*self._running])

    def _is_gone(self, connection: Connection, streams: bool) -> bool:
        """Whether its client has hung up, asked at each block of a scan. It steps aside there for those who want to run
        before it, no longer than three times as long as it was at work since the last time."""
        now = time.monotonic()
        worked = now - connection.aside
        if worked < STEP_SECONDS:
            return False                # asked again at the next block, 0.1 ms later
        end = now + min(3 * worked, ASIDE_SECONDS) * (not streams or worked < ASIDE_SECONDS)     # else it slept
        while now < end and self._is_wanted(connection, now):
            time.sleep(STEP_SECONDS)
            now = time.monotonic()
        gone = has_hung_up(connection.sock, streams)
        connection.aside = 0.0 if gone else now     # who is gone once is gone whenever it is asked
        return gone

    def _lent(self, connection: Connection) -> None:
        """In a worker: send what is to be sent, and give the connection back whatever comes of it."""
        self._send(connection)
        self._done.append(connection)
        with contextlib.suppress(BlockingIOError):
            self._wake_out.send(b"\0")

    def _reject(self, connection: Connection, problem: Problem, head: bytes = b"") -> None:
        """Answer what is no request, and close: what stands behind it cannot be told apart from it (CVE-2024-49768)."""
        line = head.partition(b"\r\n")[0].partition(b"?")[0].decode("latin-1")
        connection.sending = Sending(problem_response(problem), connection.peer, line, False, time.monotonic())
        self._send(connection)
        with contextlib.suppress(OSError):
            connection.sock.shutdown(socket.SHUT_WR)        # so that a reset does not overtake the answer
            connection.sock.recv(HEADERS_BYTES)
        self._close(connection)

    # Answers -----------------------------------------------------------------------------------------------------

    def _send(self, connection: Connection) -> None:
        """Send what can be sent now; the end of a stream, and an error, are that of the connection."""
        outcome = self.application.guard(partial(self._work, connection))
        if connection.streams or isinstance(outcome, Response):
            connection.keep = False
            self._finish(connection)

    def _work(self, connection: Connection) -> None:
        """Send what the client takes at once, and leave the rest in `sending`; in a thread of its own what comes as it
        comes, of an answer that does not end."""
        while connection.sending and not connection.sending.push(connection.sock):
            writable = select.poll()
            writable.register(connection.sock, select.POLLOUT)
            if not connection.streams or not writable.poll(SEND_SECONDS * 1000):
                return
        self._finish(connection)

    def _finish(self, connection: Connection) -> None:
        """Release what was sent, if anything, and log it."""
        sending, connection.sending = connection.sending, None
        if not sending or isinstance(sending.answer, Call):
            return
        close_body(sending.answer.body)
        if self.application.site.config.access_log:
            seconds = time.monotonic() - sending.started
            write_stderr(access_line(sending.peer, sending.line, sending.answer.status, sending.sent, seconds))

    def _take_back(self, connection: Connection) -> None:
        """Have a connection again that a worker had."""
        now = time.monotonic()
        if not connection.streams:
            self._running.discard(connection)
            self._spent[connection.owner] = int(self._claim(connection, now))
            self._start_waiting()
        connection.busy = connection.streams = False
        self._epoll.register(connection.sock.fileno(), select.EPOLLIN)
        if self._settle(connection):
            connection.grant(HEADER_SECONDS, now)
            self._serve(connection)

    def _settle(self, connection: Connection) -> bool:
        """Have a connection wait for its client to take the rest of an answer, or end. False unless it may go on."""
        if connection.sending:
            self._wait_for_room(connection, connection.sending.most)
        elif not connection.keep:
            self._close(connection)
        else:
            return True
        return False

    def _wait_for_room(self, connection: Connection, most: int) -> None:
        """Have a client take the rest of an answer when it will, within SEND_SECONDS. Of its kind, those with the same
        `most`, no more than that may wait: of who has most of them, the one goes that has waited longest."""
        connection.grant(SEND_SECONDS, time.monotonic())
        self._epoll.modify(connection.sock.fileno(), select.EPOLLOUT)
        slow = [other for other in self._connections.values()
                if not other.busy and other.sending and other.sending.most == most]
        if len(slow) > most:
            owned = collections.Counter(other.owner for other in slow)
            self._close(max(slow, key=lambda other: (owned[other.owner], -other.deadline)))

    # Signals -----------------------------------------------------------------------------------------------------

    def _obey(self, number: int) -> None:
        if self._stop_at is None and number == signal.SIGHUP:
            self._reload()
        elif self._stop_at is None:
            self._notifier.notify("STOPPING=1")
            self.application.site.stopping.set()
            self._stop_at = time.monotonic()
            self._listen(0)                             # or a client there would wake the loop, and not be heard
            for listener in self._listeners.values():   # systemd's copy, if any, keeps the queue for the next process
                listener.close()
            self._listeners.clear()

    def _reload(self) -> None:
        """Read the configuration again; one with an error changes nothing."""
        self._notifier.notify(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
        try:
            application = self._make()
            old, new = self.application.site.config, application.site.config
            gone = set(old.sources) - set(new.sources)
            if gone or old.tokens and not new.tokens:       # without tokens all may read all
                raise ConfigError(f"{min(gone, default='every token')} is gone; a restart does without")
        except ConfigError as error:
            said = f"configuration not reread, the old one stays: {' '.join(str(error).split())}"
        else:
            for name in ("listen", "workers"):
                if getattr(application.site.config, name) != getattr(self.application.site.config, name):
                    write_stderr(f"logwatch: {name} has changed: that takes a restart\n")
            self.application.site.stopping.set()        # a stream may be of a token that is no more; clients resume
            self.application = application
            said = "configuration reread"
        write_stderr(f"logwatch: {said}\n")
        self._notifier.notify(f"READY=1\nSTATUS={said}")       # for `systemctl status`

    def _finished(self, now: float) -> bool:
        """After SIGTERM: requests on their way on open connections are still answered, for a moment; those being
        worked on until the deadline."""
        if self._stop_at is None:
            return False
        at_work = any(connection.busy or connection.sending for connection in self._connections.values())
        return now > self._stop_at + (DRAIN_SECONDS if at_work else LAME_SECONDS)

# --------------------------------------------------------------------------------------------------------------------
# doctor: what is unreadable, will be, or is unsafe, and what mends it
# --------------------------------------------------------------------------------------------------------------------
def unit_property(name: str, unit: str = SERVICE_USER) -> str:
    """A property of an installed unit; '' where there is none."""
    return _output("systemctl", "show", f"--property={name}", "--value", unit).strip()


def service_identity(user: str = SERVICE_USER) -> tuple[int, frozenset[int]]:
    """Return uid and groups to check for: one's own; run as root, the service user's with the unit's.

    Raises KeyError where root asks and there is no such user.
    """
    if os.geteuid():
        return os.geteuid(), own_groups()
    entry = pwd.getpwnam(user)
    numbers = {one.gr_name: one.gr_gid for one in grp.getgrall()}
    primary = numbers.get(unit_property("Group"), entry.pw_gid)
    extra = [numbers[name] for name in unit_property("SupplementaryGroups").split() if name in numbers]
    return entry.pw_uid, frozenset([*extra, *os.getgrouplist(user, primary)])


def ran_as(uid: int, gids: frozenset[int]) -> str:
    """Say who ran the check, and for whom."""
    return f"checked as {user_name(os.geteuid())} for {user_name(uid)} (uid {uid}; groups {_group_names(gids)})"


def journal_findings(uid: int, gids: frozenset[int]) -> list[Finding]:
    """Return why the system journal cannot be read; [] if it can, or if there is none."""
    whys = filter(None, (why_unreadable(name, uid, gids) for name in sorted(journal_files("system.journal"))))
    return [Finding("journal", why.what, why.why, _join("systemd-journal", user_name(uid)))
            for why in itertools.islice(whys, 1)]


def exposed(path: str, uid: int) -> list[Finding]:
    """Return whether a file that holds that user's secrets (configuration, token, key) is open to everyone."""
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError as error:
        return [Finding(path, "cannot be looked at", f"{error}", f"ls -l {quoted(path)}")]
    found = Finding(path, "is open to every user of this machine", f"its mode is {mode:04o}, and it may hold secrets",
                    f"chown {user_name(uid)} {quoted(path)} && chmod 0400 {quoted(path)}")
    return [found] if mode & 0o006 else []


def open_port(listen: str, users: Iterable[pwd.struct_passwd]) -> list[Finding]:
    """Return whether people (uid from 1000, a login shell) can reach a TCP address that asks for no token."""
    people = [one.pw_name for one in users
              if 1000 <= one.pw_uid < OVERFLOW_ID and not one.pw_shell.endswith(("nologin", "false"))]
    if listen.startswith("unix:") or not people:
        return []
    return [Finding(listen, "every user of this machine can read the logs", f"TCP, no token; {len(people)} can log "
                    f"in, such as {people[0]}", "logwatch.py token NAME, or --listen unix:/run/logwatch/logwatch.sock")]


def exposure(unit: str) -> list[Finding]:
    """Return whether systemd rates the unit (its name, or the path of its file) worse than EXPOSURE_MAX."""
    offline = ["--offline=true"] if "/" in unit else []
    text = _output("systemd-analyze", "security", "--no-pager", *offline, unit)
    levels = re.findall(r"exposure level for \S+: (\d+\.\d)", text)
    return [Finding(unit, f"has an exposure of {level} of 10", "the shipped unit has 1.0 or better",
                    f"systemd-analyze security {unit}") for level in levels if float(level) > EXPOSURE_MAX]


_SPOOFED = "192.0.2.1"  # RFC 5737: nobody's address


def _asked(url: str, path: str, read: int) -> tuple[str | None, bytes]:
    """GET `path` below `url` with a forged address; return PROBE_HEADER and the first bytes. Raises OSError, or
    ConfigError for a wrong URL. Whatever its name, it is asked for on this machine, and no certificate is checked."""
    import http.client  # here: they bring OpenSSL, 2 MB for good, and the server speaks no TLS
    import ssl
    scheme = name = port = None
    with contextlib.suppress(ValueError):       # of what is no URL, no name or no port
        parts = urllib.parse.urlsplit(url.encode("ascii").decode())
        scheme, name, port = parts.scheme, (parts.hostname or "").encode("idna").decode(), parts.port
    if scheme not in ("http", "https") or not name:
        raise ConfigError(f"check: {shown(url)} is not allowed; allowed: http:// or https:// and a name that Nginx "
                          "serves on this machine")
    kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
    client = kind(name, port, timeout=PROBE_SECONDS)
    try:
        client.sock = socket.create_connection(("::1" if name == "::1" else "127.0.0.1", client.port), PROBE_SECONDS)
        if scheme == "https":
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            client.sock = context.wrap_socket(client.sock, server_hostname=name)
        client.request("GET", parts.path.rstrip("/") + "/" + path,
                       headers={"X-Forwarded-For": _SPOOFED, "Accept": "text/event-stream, */*"})
        answer = client.getresponse()
        if answer.status != 200:
            raise OSError(f"{path} answered {answer.status}")
        return answer.getheader(PROBE_HEADER), answer.read1(read)
    except http.client.HTTPException as error:
        raise OSError(f"{path} answered no HTTP: {error!r}") from error
    finally:
        client.close()


def probe(url: str, stream: str) -> list[Finding]:
    """Ask through nginx whether it passes on a client's X-Forwarded-For, and whether it holds `stream` back.

    url: with a prefix if any; see _asked(). stream: what below it sends at once, '' where that takes a token.
    """
    findings = []
    try:
        forwarded = _asked(url, "livez", 16)[0] or ""
    except OSError as error:
        return [Finding(url, "does not answer", f"{error}", f"curl -kv {quoted(url)}; tail /var/log/nginx/error.log")]
    if forwarded.rpartition(",")[2].strip() == _SPOOFED:
        findings.append(Finding(url, "lets clients choose their address", "nginx passes on X-Forwarded-For as it came: "
                                + quoted(forwarded[:100]), "proxy_set_header X-Forwarded-For $remote_addr;"))
    elif _SPOOFED in forwarded:
        findings.append(Finding(url, "passes on addresses that clients claim", "nginx appends to X-Forwarded-For as it "
                                f"came: {quoted(forwarded[:100])}; logwatch believes the last alone, others may not",
                                "proxy_set_header X-Forwarded-For $remote_addr;"))
    try:
        if stream:
            _asked(url, stream, 1)
    except OSError as error:
        late = isinstance(error, TimeoutError)
        why = f"no byte of {stream} in {PROBE_SECONDS:.0f} s: nginx collects the answer first" if late else f"{error}"
        findings.append(Finding(url, "holds streams back" if late else "does not stream", why,
                                "in the location: proxy_buffering off; gzip off; proxy_read_timeout 3700s;"))
    return findings


def service_findings(config: Config) -> Iterator[Finding]:
    """What is wrong with the installed unit, if there is one, and with the units whose journal is served."""
    state = unit_property("ActiveState") if unit_property("LoadState") == "loaded" else "active"
    if state not in ("active", "reloading"):
        yield Finding(f"{SERVICE_USER}.service", f"is {state}", "nobody is served",
                      f"systemctl restart {SERVICE_USER}; journalctl -n 20 -u {SERVICE_USER}")
    for name, where in config.log:
        _, journal, unit = where.partition("journal:")
        if journal and unit and unit_property("LoadState", unit) == "not-found":
            yield Finding(name, "is the journal of no unit", f"there is no {unit}", "systemctl list-units --all")


def examine(config: Config, logs: Sequence[Log], uid: int, gids: frozenset[int], url: str = "",
            credentials: Sequence[str] = ()) -> list[Finding]:
    """Return everything that is wrong for the service user `uid`, `gids`; see service_identity() and ran_as(). A `url`
    leads here through Nginx; see probe(). `credentials` are files with further tokens, which systemd reads."""
    stanzas, findings = load_logrotate(LOGROTATE_CONF)
    for root, parts in ((log.root, file.parts) for log in logs for file in written_files(log)):
        *folders, path = (os.path.join(root, *parts[:depth]) for depth in range(len(parts) + 1))
        why = filter(None, (why_unreadable(one, uid, gids) for one in (*folders, path)))    # folders are listed
        findings += [*itertools.islice(why, 1), *rotation_findings(path, stanzas, uid, gids)]
    findings += filter(None, (why_unreadable(os.path.realpath(path), uid, gids) for path in config.sources))
    findings += journal_findings(uid, gids)
    has_tokens = bool(config.tokens or credentials)
    for path in (*config.sources, *credentials) if has_tokens else ():
        findings += exposed(path, uid)
    findings += [] if has_tokens else open_port(str(config.listen), pwd.getpwall())
    findings += [*service_findings(config), *exposure(f"{SERVICE_USER}.service")]
    if url:
        name = next((log.name for log in logs if log.files), "journal")
        findings += probe(url, "" if has_tokens else f"logs/{name}?follow=1&format=sse")
    for log in (log for log in logs if not log.files):
        problem = log.problem or Unreadable(f"no file matches {dict(config.log).get(log.name)} now",
                                            f"see log = {log.name}= in the configuration")
        findings.append(Finding(log.name, "is no log that can be read", problem.reason, problem.fix))
    return list(dict.fromkeys(findings))

# --------------------------------------------------------------------------------------------------------------------
# command line: serve, get, check, token, config
# --------------------------------------------------------------------------------------------------------------------
M_ARENA_MAX = -8                # malloc.h


def save_memory() -> None:
    """Give back what compiling this file took: glibc keeps 10 MB of it, a third of the whole process, until told to.
    And have one heap for all threads, which take turns anyway: one for each keeps another 10 MB."""
    with contextlib.suppress(OSError, AttributeError):      # a libc without mallopt(3) and malloc_trim(3)
        libc = ctypes.CDLL(None)
        libc.mallopt(M_ARENA_MAX, 1)
        libc.malloc_trim(0)


Reread = Callable[[Mapping[str, str]], Config]      # reads the configuration again, with an environment


def require_token(config: Config, addresses: Iterable[Address]) -> Config:
    """The configuration. Raises ConfigError where others than this machine could read without a token."""
    for address in addresses:
        if not config.tokens and not address.path and not LOOPBACK.fullmatch(address.host):
            raise ConfigError(f"listen: {address} can be reached from outside this machine, and there is no token; "
                              "allowed: a loopback address or unix:PATH, with Nginx in front; or a token")
    return config


def command_serve(config: Config, reread: Reread, argument: str) -> int:
    """Serve until SIGTERM."""
    if os.geteuid() == 0:
        write_stderr("logwatch: warning: running as root, so every local user can now read every log through "
                     f"{config.listen}; run it as a user of group adm instead, "
                     "such as: setpriv --reuid nobody --regid nogroup --groups adm python3 logwatch.py\n")
    require_token(config, [config.listen])
    notifier = Notifier(os.environ)
    listeners = inherited_sockets(os.environ)
    wanted = str(config.listen) if config.listen.path or config.listen.port else ""
    stale = [listener for listener in listeners if os.environ.get("LISTEN_FDNAMES", "").startswith("http")
             and wanted and socket_address(listener) != wanted]         # out of the fd store, before listen was changed
    for listener in stale:
        listener.close()
        listeners.remove(listener)
        notifier.notify("FDSTOREREMOVE=1\nFDNAME=http")
    if not listeners:
        listeners = [bind_listener(config.listen)]
        notifier.notify("FDSTORE=1\nFDNAME=http", [listener.fileno() for listener in listeners])
    addresses = [config.listen, *(parse_address(socket_address(listener)) for listener in listeners)]
    for text in config.overruled:
        write_stderr(f"logwatch: {text}\n")
    server = Server(lambda: Application(require_token(reread(os.environ), addresses)), listeners, notifier)
    places = " and ".join(socket_address(listener) for listener in listeners)
    save_memory()
    write_stderr(f"logwatch {__version__} serving on {places if 'unix:' in places else 'http://' + places}\n")
    server.run()
    return 0


def command_get(config: Config, reread: Reread, argument: str) -> int:
    """Print the body that a GET of URL-PATH has; a problem goes to stderr."""
    quoted_target = urllib.parse.quote(os.fsencode(argument), safe="/?&=%+:@,;!$'()*~")       # as a shell passes it
    path, query = parse_target(b"/" + quoted_target.encode().removeprefix(b"/"))
    response = Application(config._replace(tokens=(), pseudonyms=False)).respond(   # nothing is hidden: see hiding()
        Request("GET", path, query, {}, LOCAL, True, token=Token("", "", SCOPES)))      # who runs it may read the files
    output = sys.stdout if response.status < 300 else sys.stderr
    for piece in [response.body] if isinstance(response.body, bytes) else response.body:
        output.buffer.write(piece)
        output.buffer.flush()
    return 0 if output is sys.stdout else 1


def option_text(value: object) -> str:
    """A value as its option's parser reads it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.15g}"
    return "=".join(value) if isinstance(value, tuple) and not isinstance(value, Address) else str(value)


def service_config(reread: Reread) -> tuple[Config, list[str]]:
    """The configuration that the installed service has, if there is one: with its unit's variables; and the files of
    further tokens that systemd reads for it."""
    pairs = (pair.partition("=") for pair in shlex.split(unit_property("Environment")))
    files = re.findall(r"(?m)^LoadCredential=tokens:(\S+)", _output("systemctl", "cat", SERVICE_USER))
    return reread({name: value for name, _, value in pairs} | dict(os.environ)), files  # `show` has no word of them


def command_config(config: Config, reread: Reread, argument: str) -> int:
    """Print the effective configuration as commented INI."""
    config, credentials = service_config(reread)
    print("".join(f"# {text}\n" for text in config.overruled) + "[logwatch]")
    for option in OPTIONS:
        value: Any = config.limits.get(option.name)
        value = getattr(config, option.name.replace("-", "_")) if value is None else value
        print(f"\n# {option.help}\n# --{option.name} {option.metavar}, {environment_name(option)}")
        texts = [option_text(item) for item in value] if option.repeat else [option_text(value)]
        print(f"{option.name} = " + "\n    ".join(texts))
    for token in config.tokens:
        print(f"\n# [token {token.name}]: not shown")
    print("".join(f"\n# LoadCredential=tokens:{path}: not shown\n" for path in credentials), end="")
    return 0


def command_check(config: Config, reread: Reread, argument: str) -> int:
    """The doctor: print what is wrong and what mends it; `argument`: a URL on loopback that leads here through
    Nginx."""
    try:
        uid, gids = service_identity()
    except KeyError:
        raise ConfigError(f"check: run as root it looks for user {SERVICE_USER}, and there is none: run it as the user "
                          "that runs logwatch.py, or add that user") from None
    config, credentials = service_config(reread)
    logs = Catalogue(config).logs()
    findings = examine(config, logs, uid, gids, argument, credentials)
    print(ran_as(uid, gids))
    for finding in findings:
        print(f"\n{quoted(finding.subject)} {finding.what}\n    {finding.why}\n    fix: {finding.fix}")
    if not findings:
        print(f"nothing is wrong with {sum(len(written_files(log)) for log in logs)} logs")
    return 1 if findings else 0


def command_token(config: Config, reread: Reread, argument: str) -> int:
    """Print a fresh secret, and the INI lines that let it in."""
    name, _, scopes = argument.partition(" ")
    secret = new_token()
    token = parse_token(name, {"digest": token_digest(secret)} | ({"scopes": scopes} if scopes else {}), "--scope")
    print(f"# The secret, shown this once:\n{secret}\n\n# For {CONFIG_FILE}; then: systemctl reload logwatch\n"
          f"[token {name}]\ndigest = {token.digest}\nscopes = {' '.join(sorted(token.scopes))}\n"
          "# logs = nginx-access syslog")
    return 0


COMMANDS: dict[str, Callable[[Config, Reread, str], int]] = {
    "serve": command_serve, "get": command_get, "check": command_check, "token": command_token,
    "config": command_config}


def make_parser() -> argparse.ArgumentParser:
    """The command line, its options out of OPTIONS."""
    parser = argparse.ArgumentParser(
        prog="logwatch.py",
        usage="logwatch.py [serve | get PATH | check [URL] | token NAME | config] [--OPTION VALUE ...]; --help has all",
        description="Is this box well, and what do its logs say? Over HTTP, read-only.",
        epilog="Each option is also an environment variable (LOGWATCH_LISTEN) and a key of the [logwatch] section of "
               "the configuration file; flag beats environment beats file.")
    parser.add_argument("command", nargs="?", default="serve",
                        help="serve (default), get URL-PATH, check [URL], token NAME, config")
    parser.add_argument("argument", nargs="?", metavar="ARGUMENT", help="for get: '/logs/syslog?n=5'; for token: a "
                        "name; for check: a URL that leads to logwatch through this machine's Nginx")
    parser.add_argument("--scope", action="append", choices=sorted(SCOPES), help="for token, repeatable: what for")
    parser.add_argument("--version", action="store_true", help="print the release and the SHA-256 of this file")
    parser.add_argument("--config", metavar="FILE", default="", help=f"INI file (default {CONFIG_FILE}, if there)")
    for option in OPTIONS:
        default = f" (default {option.default})" if option.default else ""
        parser.add_argument("--" + option.name, metavar=option.metavar, action="append",
                            help=option.help.replace("%", "%%") + default)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 for success, 1 for an answer that is a problem or an address that is taken, 2 for a wrong
    option."""
    parser = make_parser()
    options = vars(parser.parse_intermixed_args(argv))
    if options["version"]:
        with open(__file__, "rb") as file:      # so that it says which copy runs here
            print(f"logwatch {__version__} sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}")
        return 0
    command, argument = options["command"], options["argument"] or ""
    if command not in COMMANDS:
        parser.error(f"there is no command {command!r}; there are: {', '.join(COMMANDS)}")
    if bool(argument) != (command in ("get", "token")) and not (argument and command == "check"):
        parser.error("get wants a URL-PATH, such as '/health', token a NAME; the other commands want nothing")
    if command == "token":
        if not NAME_OK.fullmatch(argument):
            parser.error("token wants a NAME of letters, digits and . _ @ : + ~ -")
        argument = " ".join([argument, *(options["scope"] or [])])
    flags = {option.name: given for option in OPTIONS if (given := options[option.name.replace("-", "_")]) is not None}
    reread = partial(load_config, flags, path=options["config"])
    try:
        return COMMANDS[command](reread(os.environ), reread, argument)
    except (ConfigError, Problem) as error:
        write_stderr(f"logwatch: {error}\n")
        return 1 if isinstance(error, (Unavailable, Problem)) else 2
    except (BrokenPipeError, KeyboardInterrupt):
        return 1


if __name__ == "__main__":
    sys.exit(main())
