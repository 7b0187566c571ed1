# SPDX-License-Identifier: MIT
"""The tests of logwatch: `python3 test_logwatch.py [-v] [Class.test_claim ...]`, standard library only.

Sections mirror logwatch.py; every test method is a claim. Nothing sleeps and hopes: readiness is polled for. Nothing
leaves loopback, every file made is below a temporary folder. What needs a tool that is not installed is skipped, and
listed at the end.

LOGWATCH_TEST_REQUIRE_ALL=1   a missing tool is a failure (what .ci/run sets)
LOGWATCH_TEST_SHUFFLE=SEED    run the tests in another order: they may not depend on it
LOGWATCH_TEST_TORTURE=50      rotations that the torture by logrotate does in each of its modes, instead of 8
"""
from __future__ import annotations

import ast
import atexit
import base64
import concurrent.futures
import contextlib
import csv
import errno
import fcntl
import functools
import gc
import gzip
import hashlib
import http.client
import http.server
import importlib.util
import io
import itertools
import json
import os
import pwd
import random
import re
import resource
import select
import shutil
import signal
import socket
import ssl
import stat
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import tokenize
import unittest
import urllib.parse
import weakref
import wsgiref.util
import wsgiref.validate
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar
from unittest import mock

HERE = Path(__file__).absolute().parent
PROGRAM = HERE / 'logwatch.py'
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True  # the folder under test stays as it was

import logwatch  # noqa: E402  the path comes first

# ----------------------------------------------------------------------------------------------------------------------
# the frame: tools, polling, scratch folders, a byte-exact client, the server as a child process
# ----------------------------------------------------------------------------------------------------------------------

REQUIRE_ALL = os.environ.get('LOGWATCH_TEST_REQUIRE_ALL') == '1'
SYSTEM_PATH = os.pathsep.join([os.environ.get('PATH', ''), '/usr/sbin', '/sbin'])
PATIENCE = 10.0  # seconds until a poll gives up: generous, since only a failing test waits that long

T = TypeVar('T')
Address = str | tuple[str, int]  # the path of a unix socket, or host and port


def find_tool(name: str) -> str | None:
    """Absolute path of an executable, sbin included: ordinary users have no sbin in PATH."""
    return shutil.which(name, path=SYSTEM_PATH)


def can_bind_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(('::1', 0))
    except OSError:
        return False
    return True


JOURNAL_REMOTE = '/usr/lib/systemd/systemd-journal-remote'


def can_mount() -> bool:
    """Whether a process may have mounts of its own: root, and no container that forbids it."""
    probe = ['unshare', '-m', 'mount', '-t', 'tmpfs', 'tmpfs', '/mnt']
    return find_tool('unshare') is not None and not subprocess.run(probe, capture_output=True).returncode


CONDITIONS: dict[str, Callable[[], object]] = {  # what is not an executable in PATH
    'h11': lambda: importlib.util.find_spec('h11'),
    'hypothesis': lambda: importlib.util.find_spec('hypothesis'),
    'ipv6': can_bind_ipv6,
    'root': lambda: os.geteuid() == 0,
    'systemd-journal-remote': lambda: os.access(JOURNAL_REMOTE, os.X_OK),
    'mount namespaces': can_mount,
}


def requires(*needs: str) -> Callable[[T], T]:
    """Skip a class or method where one of needs is missing; fail it instead where everything is required."""
    missing = [need for need in needs if not CONDITIONS.get(need, lambda need=need: find_tool(need))()]
    reason = 'needs ' + ', '.join(missing)

    def decorate(target: Any) -> Any:
        if not missing:
            return target
        if not REQUIRE_ALL:
            return unittest.skip(reason)(target)

        def fail(_: object) -> None:
            raise AssertionError(f'{reason}, and LOGWATCH_TEST_REQUIRE_ALL=1')

        if not isinstance(target, type):
            return fail
        target.setUpClass = classmethod(fail)  # type: ignore[attr-defined]
        return target

    return decorate


def until(probe: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
    """The first true answer of probe, asked every 10 ms; AssertionError naming what when seconds have passed."""
    deadline = time.monotonic() + seconds
    while not (answer := probe()):
        if time.monotonic() > deadline:
            raise AssertionError(f'not within {seconds:g} s: {what}')
        time.sleep(0.01)
    return answer


def scratch() -> Path:
    """A fresh folder, gone when the run ends. World-readable, so that a server under another user can be given it."""
    folder = tempfile.mkdtemp(prefix='logwatch-test-')
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.chmod(folder, 0o755)
    return Path(folder)


def plant(root: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write files (path below root: content; a .gz name compresses) and give root back."""
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(data) if name.endswith('.gz') else data)
    return root


def words(text: str) -> list[str]:
    """A table's words."""
    return text.split()


def numbered(first: int, last: int, prefix: str = 'line') -> str:
    """Log lines 'line 1' to 'line LAST', one a second from 2026-01-01."""
    clock = 1767225600  # 2026-01-01T00:00:00Z
    stamp = '%Y-%m-%dT%H:%M:%S+00:00'
    return ''.join(f'{time.strftime(stamp, time.gmtime(clock + n))} host app[1]: {prefix} {n}\n'
                   for n in range(first, last + 1))


class Reply(NamedTuple):
    """One answer: status, headers, body as sent (chunks joined)."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def kind(self) -> str:
        """The media type without parameters."""
        return (self.headers['Content-Type'] or '').partition(';')[0]

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """One client connection, byte for byte: it sends what http.client would refuse to, and reads strictly."""

    def __init__(self, address: Address, source: str = '', tls: ssl.SSLContext | None = None, name: str = '') -> None:
        tcp = socket.AF_INET6 if ':' in address[0] else socket.AF_INET
        self.socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else tcp)
        self.socket.settimeout(PATIENCE)
        try:
            if source:
                self.socket.bind((source, 0))
            self.socket.connect(address)
            if tls:
                self.socket = tls.wrap_socket(self.socket, server_hostname=name)
        except OSError:
            self.socket.close()
            raise
        self.file = self.socket.makefile('rb')

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def vanish(self) -> None:
        """Close with RST, as a client that was killed does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
        self.close()

    def send(self, data: bytes) -> None:
        """Send; a peer that has already refused and closed is no error here, reading tells."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def answer(self, method: str = 'GET') -> Reply:
        """Read one answer. EOFError when the peer closed instead of answering."""
        line = self.file.readline(1000)
        if not line:
            raise EOFError('closed without an answer')
        match = re.fullmatch(rb'HTTP/1\.1 (\d{3}) [ -~]*\r\n', line)
        if not match:
            raise AssertionError(f'not a status line: {line!r}')
        headers = http.client.parse_headers(self.file)
        status = int(match[1])
        if method == 'HEAD' or status in (204, 304):
            return Reply(status, headers, b'')
        return Reply(status, headers, self._body(headers))

    def _body(self, headers: http.client.HTTPMessage) -> bytes:
        if headers.get('Transfer-Encoding') == 'chunked':
            return b''.join(iter(self._chunk, b''))
        if (length := headers.get('Content-Length')) is None:
            return self.file.read()
        body = self.file.read(int(length))
        if len(body) != int(length):
            raise AssertionError(f'body of {len(body)} bytes, promised {length}')
        return body

    def _chunk(self) -> bytes:
        data = self.file.read(int(self.file.readline(), 16) + 2)
        return data[:-2]

    def at_end(self) -> bool:
        """Wait for the peer's close: True, or False where it sent more."""
        try:
            return self.file.read(1) == b''
        except ConnectionResetError:
            return True


def head_bytes(target: str, headers: Mapping[str, str] | None = None, method: str = 'GET') -> bytes:
    """A well-formed request head."""
    fields = {'Host': 'localhost', **(headers or {})}
    lines = [f'{method} {target} HTTP/1.1', *(f'{name}: {value}' for name, value in fields.items()), '', '']
    return '\r\n'.join(lines).encode('latin-1')


def fetch(address: Address, target: str, headers: Mapping[str, str] | None = None, method: str = 'GET',
          **how: Any) -> Reply:
    """One request on a connection of its own. how: source, tls, name of Wire."""
    with Wire(address, **how) as wire:
        wire.send(head_bytes(target, {'Connection': 'close', **(headers or {})}, method))
        return wire.answer(method)


def answers_livez(address: Address, **how: Any) -> bool:
    """Whether somebody serves there yet."""
    with contextlib.suppress(OSError, EOFError):
        return fetch(address, '/livez', **how).status == 200
    return False


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours without what would configure the program or make it talk to a service manager."""
    own = ('LOGWATCH_', 'LISTEN_', 'NOTIFY_', 'WATCHDOG_', 'CREDENTIALS_')
    return {k: v for k, v in os.environ.items() if not k.startswith(own)} | dict(extra or {})


# Start with other constants or as another user: imports first, since that user may not be able to read our Python.
BOOT = """
import concurrent.futures.thread, encodings.idna, json, os, sys
folder, constants, user, argv = json.loads(sys.argv[1])
sys.path.insert(0, folder)
import logwatch
for name, value in constants.items():
    getattr(logwatch, name)
    setattr(logwatch, name, value)
if user:
    os.setgroups([]); os.setgid(user); os.setuid(user)
sys.exit(logwatch.main(argv))
"""
NOBODY = 65534
ACCESS_LINE = re.compile(r"""\S+ ('[^?]*'|"[^?]*") \d{3} \d+ \d+\.\dms""")
READY_LINE = re.compile(r'serving on (?:http://(\[?[\w.:]+\]?):(\d+)|unix:(\S+))')


def children_of(pid: int) -> list[int]:
    """Processes, zombies included, that a process has begun."""
    found = []
    for task in Path(f'/proc/{pid}/task').iterdir():
        with contextlib.suppress(OSError):
            found += [int(child) for child in (task / 'children').read_text().split()]
    return found


class Server:
    """logwatch.py as a child process, ready to answer once constructed; its log root is below self.root.

    options: the command line; constants: module limits to replace; inherit: a listening socket given as systemd would;
    wrap: a command that becomes the one behind it.
    Its stderr goes to a file: a pipe that nobody reads would one day stop the server.
    """

    def __init__(self, *options: str, root: Path | None = None, listen: str = '127.0.0.1:0', user: int = 0,
                 environ: Mapping[str, str] | None = None, constants: Mapping[str, float | str] | None = None,
                 inherit: socket.socket | None = None, wrap: Sequence[str] = ()) -> None:
        self.home = scratch()
        self.root = root or self.home
        self.errors = self.home / 'stderr'
        argv = ['--log-root', str(self.root), *options]
        argv += [] if '--state-dir' in options else ['--state-dir', str(self.home / 'state')]
        argv += [] if inherit else ['--listen', listen]
        argv += [] if '--rate' in options else ['--rate', '0']     # tests ask faster than people do
        command = [*wrap, *self._command(argv, dict(constants or {}), user)]
        if inherit:  # LISTEN_PID must be the child's own number, which only the child knows
            command = ['/bin/bash', '-c', f'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@" 3<&{inherit.fileno()}', 'sh', *command]
        with self.errors.open('wb') as stderr:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, cwd='/',
                env=clean_environment(environ), pass_fds=[inherit.fileno()] if inherit else [])
        self.address = self._await_ready()

    @staticmethod
    def _command(argv: list[str], constants: dict[str, float | str], user: int) -> list[str]:
        if not constants and not user:
            return [sys.executable, '-I', str(PROGRAM), *argv]
        return [sys.executable, '-I', '-c', BOOT, json.dumps([str(HERE), constants, user, argv])]

    def _await_ready(self) -> Address:
        try:
            match = until(lambda: READY_LINE.search(self._stderr_of_the_living()), 'the ready line')
            assert match
            address: Address = match[3] or (match[1].strip('[]'), int(match[2]))
            until(lambda: answers_livez(address), '/livez')
        except BaseException:
            self.kill()
            raise
        return address

    def _stderr_of_the_living(self) -> str:
        if self.process.poll() is not None:
            raise AssertionError(f'the server ended with {self.process.returncode}: {self.stderr()}')
        return self.stderr()

    def stderr(self) -> str:
        """All that it has said so far."""
        return self.errors.read_text(errors='backslashreplace')

    def spoken(self) -> tuple[list[str], list[str]]:
        """(what it said until ready, what it said since)."""
        lines = self.stderr().splitlines()
        ready = next(n for n, line in enumerate(lines) if READY_LINE.search(line))
        return lines[:ready], lines[ready + 1:]

    def complaints(self) -> list[str]:
        """What it said since ready that is no access-log line."""
        return [line for line in self.spoken()[1] if not ACCESS_LINE.fullmatch(line)]

    def status(self, field: str) -> int:
        """A number of /proc/PID/status, as Threads or VmRSS (kB)."""
        match = re.search(rf'(?m)^{field}:\s+(\d+)', Path(f'/proc/{self.process.pid}/status').read_text())
        return int(match[1]) if match else 0

    def cpu_seconds(self) -> float:
        """User and system time since its start."""
        fields = Path(f'/proc/{self.process.pid}/stat').read_text().rpartition(')')[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')

    def get(self, target: str, headers: Mapping[str, str] | None = None, method: str = 'GET') -> Reply:
        return fetch(self.address, target, headers, method)

    def wire(self) -> Wire:
        return Wire(self.address)

    def descriptors(self) -> int:
        """How many it has open."""
        return len(os.listdir(f'/proc/{self.process.pid}/fd'))

    @contextlib.contextmanager
    def limited(self, kind: int, most: int) -> Iterator[None]:
        """With less of something than it may have, for a while."""
        soft, hard = resource.prlimit(self.process.pid, kind)
        resource.prlimit(self.process.pid, kind, (most, hard))
        try:
            yield
        finally:
            resource.prlimit(self.process.pid, kind, (soft, hard))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self, *expected: str) -> None:
        """SIGTERM; it must end with 0, having said only access-log lines and lines that contain one of expected."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE + 5)
            except subprocess.TimeoutExpired:
                self.kill()
        rest = [line for line in self.complaints() if not any(words in line for words in expected)]
        if self.process.returncode or rest:
            raise AssertionError(f'ended with {self.process.returncode}, said: ' + '\n'.join(rest[:20]))


def make_application(*options: str) -> Callable[..., Any]:
    """The WSGI callable in this process, as `logwatch.py get` builds it."""
    flags = {'rate': ['0']} | {option[2:]: [value] for option, value in zip(options[::2], options[1::2])}
    return logwatch.Application(logwatch.load_config(flags, {}))


def call(application: Callable[..., Any], target: str, headers: Mapping[str, str] | None = None,
         method: str = 'GET') -> Reply:
    """One request to a WSGI callable in this process."""
    path, _, query = target.partition('?')
    environ: dict[str, Any] = {
        'REQUEST_METHOD': method, 'PATH_INFO': urllib.parse.unquote(path, 'latin-1'), 'QUERY_STRING': query,
        'SERVER_PROTOCOL': 'HTTP/1.1', 'REMOTE_ADDR': '127.0.0.1', 'SCRIPT_NAME': ''}
    for name, value in {'Host': 'localhost', **(headers or {})}.items():
        environ['HTTP_' + name.upper().replace('-', '_')] = value
    wsgiref.util.setup_testing_defaults(environ)
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, fields: list[tuple[str, str]], _: object = None) -> Callable[[bytes], object]:
        started.append((status, fields))
        return io.BytesIO().write

    result = application(environ, start_response)
    try:
        body = b''.join(result)
    finally:
        getattr(result, 'close', bool)()
    (status, fields), = started
    message = http.client.HTTPMessage()
    for name, value in fields:
        message[name] = value
    return Reply(int(status[:3]), message, body)


def lines_url(log: str, parameters: Mapping[str, object] | None = None, **more: object) -> str:
    """/logs/LOG?...; a list is a repeated parameter."""
    query = urllib.parse.urlencode({**(parameters or {}), **more}, doseq=True)
    return f'/logs/{urllib.parse.quote(log)}?{query}'


class Case(unittest.TestCase):
    """A TestCase whose helpers clean up after themselves."""

    maxDiff = 4000
    server: Server  # the one that setUpClass of some classes starts

    def serve(self, *options: str, **how: Any) -> Server:
        """A server for this test; stopping it checks what it said."""
        server = Server(*options, **how)
        self.addCleanup(server.stop)
        return server

    @classmethod
    def serve_class(cls, *options: str, **how: Any) -> Server:
        """A server for all tests of the class."""
        server = Server(*options, **how)
        cls.addClassCleanup(server.stop)
        return server

    def assertProblem(self, reply: Reply, status: int, *words: str) -> None:
        """reply is an RFC 9457 problem with that status whose detail contains words."""
        self.assertEqual((reply.status, reply.kind), (status, 'application/problem+json'), reply.body[:300])
        problem = reply.json()
        self.assertLessEqual({'type', 'title', 'status', 'detail'}, set(problem))
        self.assertLessEqual(set(problem), {'type', 'title', 'status', 'detail', 'fix', 'oldest'})
        self.assertEqual(problem['status'], status)
        for word in filter(None, words):
            self.assertRegex(problem['detail'], rf'\b{re.escape(word)}\b')


# ----------------------------------------------------------------------------------------------------------------------
# the source: the budgets of the design, read from the file itself
# ----------------------------------------------------------------------------------------------------------------------

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
BLOCKS = (ast.For, ast.While, ast.If, ast.With, ast.Try, ast.Match)
NOT_CODE = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


def code_lines(source: str) -> set[int]:
    """Numbers of the lines that hold code: no blanks, comments, docstrings."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NOT_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def body_length(node: ast.AST, code: set[int]) -> int:
    """Code lines of a function's body."""
    body = node.body  # type: ignore[attr-defined]
    return len(code.intersection(range(body[0].lineno, body[-1].end_lineno + 1)))


def depth(node: ast.AST) -> int:
    """How deep blocks nest in a function; an elif is no deeper than its if, an inner function counts for itself."""
    def below(child: ast.AST, inside_else: bool) -> int:
        if isinstance(child, (*FUNCTIONS, ast.Lambda, ast.ClassDef)):
            return 0
        return depth(child) + (isinstance(child, BLOCKS) and not inside_else)

    elifs = node.orelse if isinstance(node, ast.If) and len(node.orelse) == 1 else []
    return max((below(child, child in elifs and isinstance(child, ast.If)) for child in ast.iter_child_nodes(node)),
               default=0)


def defined_names(tree: ast.Module) -> dict[str, int]:
    """Module-level names and the line that first defines each."""
    found: dict[str, int] = {}
    for node in tree.body:
        names = [node.name] if isinstance(node, (*FUNCTIONS, ast.ClassDef)) else []
        if isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [leaf.id for target in targets for leaf in ast.walk(target) if isinstance(leaf, ast.Name)]
        for name in names:
            found.setdefault(name, node.lineno)
    return found


def local_names(function: ast.AST) -> set[str]:
    """Parameters and assigned names of a function, which hide the module's."""
    walked = list(ast.walk(function))
    stored = {node.id for node in walked if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return stored | {node.arg for node in walked if isinstance(node, ast.arg)}


def global_loads(node: ast.AST, hidden: frozenset[str] = frozenset()) -> Iterator[ast.Name]:
    """The names below node that are read and are not local to a function around them."""
    if isinstance(node, (*FUNCTIONS, ast.Lambda)):
        hidden |= local_names(node)
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id not in hidden:
        yield node
    for child in ast.iter_child_nodes(node):
        yield from global_loads(child, hidden)


def forward_references(tree: ast.Module) -> list[str]:
    """Module-level names used above the line that defines them, as 'name: used at N, defined at M'."""
    defined = defined_names(tree)
    return [f'{node.id}: used at {node.lineno}, defined at {defined[node.id]}' for node in global_loads(tree)
            if node.lineno < defined.get(node.id, 0)]


WATCH_IMPORT = """
import socket, sys, threading
sys.path.insert(0, sys.argv[1])
seen = []
sys.addaudithook(lambda name, args: seen.append((name, str(args[0]) if args else '')))
import logwatch
code = ('.py', '.pyc', '.so')
print([(name, what) for name, what in seen if name == 'open' and not what.endswith(code)
       or name.startswith(('socket.', 'subprocess.', 'os.', 'signal.')) and name not in ('os.listdir', 'os.scandir')],
      threading.active_count())
"""


def is_public(name: str) -> bool:
    return not name.startswith('_')


class TheSource(unittest.TestCase):
    """One file, short and in order, of the standard library."""

    source: str
    tree: ast.Module
    code: set[int]

    @classmethod
    def setUpClass(cls) -> None:
        cls.source = PROGRAM.read_text()
        cls.tree = ast.parse(cls.source)
        cls.code = code_lines(cls.source)

    def nodes(self, *kinds: type) -> Iterator[Any]:
        return (node for node in ast.walk(self.tree) if isinstance(node, kinds))

    def lines_of(self, nodes: Iterable[Any]) -> list[int]:
        return [node.lineno for node in nodes]

    def test_it_imports_the_standard_library_only(self) -> None:
        names = {alias.name for node in self.nodes(ast.Import) for alias in node.names}
        names |= {node.module for node in self.nodes(ast.ImportFrom)}
        self.assertEqual({name.partition('.')[0] for name in names} - set(sys.stdlib_module_names), set())

    def test_imports_stand_at_the_top_but_those_that_would_bring_openssl(self) -> None:
        top = set(self.lines_of(node for node in self.tree.body if isinstance(node, (ast.Import, ast.ImportFrom))))
        within = set(self.lines_of(self.nodes(ast.Import, ast.ImportFrom))) - top
        lines = self.source.splitlines()
        self.assertEqual(sorted(lines[number - 1].split('#')[0].strip() for number in within),
                         ['import http.client', 'import ssl'])

    def test_its_sections_are_those_of_its_docstring_in_that_order(self) -> None:
        docstring = ast.get_docstring(self.tree) or ''
        mapped = re.findall(r'(?m)^    (\w[\w ]*?)  +\w', docstring.partition('How to read')[2])
        banners = re.findall(r'(?m)^# -{20,}\n# ([\w ]+).*\n# -{20,}$', self.source)
        self.assertGreater(len(mapped), 8)
        self.assertEqual(banners, mapped)

    def test_it_stays_within_its_budget_of_lines_of_at_most_120_characters(self) -> None:
        lines = self.source.splitlines()
        self.assertLessEqual(len(self.code), 5295, 'lines of code; what is added makes room for itself')
        self.assertEqual([n for n, line in enumerate(lines, 1) if len(line) > 120 or line != line.rstrip()], [])

    def test_its_functions_are_short_and_shallow(self) -> None:
        functions = {f'{node.name} at {node.lineno}': node for node in self.nodes(*FUNCTIONS)}
        lengths = {name: body_length(node, self.code) for name, node in functions.items()}
        self.assertLessEqual(statistics.median(lengths.values()), 10)
        self.assertEqual({name: length for name, length in lengths.items() if length > 50}, {})
        depths = {name: depth(node) for name, node in functions.items()}
        self.assertEqual({name: deep for name, deep in depths.items() if deep > 3}, {})

    def test_no_name_is_used_above_the_place_that_defines_it(self) -> None:
        self.assertEqual(forward_references(self.tree), [])

    def test_every_function_is_annotated(self) -> None:
        bare = []
        for node in self.nodes(*FUNCTIONS):
            spec = node.args
            arguments = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs, *filter(None, [spec.vararg, spec.kwarg])]
            if not node.returns or any(not a.annotation for a in arguments if a.arg not in ('self', 'cls')):
                bare.append(f'{node.name} at {node.lineno}')
        self.assertEqual(bare, [])

    def test_everything_public_has_a_docstring(self) -> None:
        tops = [node for node in self.tree.body if isinstance(node, (*FUNCTIONS, ast.ClassDef))]
        methods = [node for top in tops if isinstance(top, ast.ClassDef) and is_public(top.name) for node in top.body
                   if isinstance(node, FUNCTIONS)]
        public = [node for node in tops + methods if is_public(node.name)]
        self.assertEqual([f'{node.name} at {node.lineno}' for node in public if not ast.get_docstring(node)], [])

    def test_exceptions_are_caught_by_name_but_in_one_place(self) -> None:
        handlers = list(self.nodes(ast.ExceptHandler))
        self.assertEqual(self.lines_of(node for node in handlers if node.type is None), [])
        leaves = [(leaf, node.lineno) for node in handlers for leaf in ast.walk(node.type)]
        names = [(leaf.id, line) for leaf, line in leaves if isinstance(leaf, ast.Name)]
        whole = [line for name, line in names if name in ('Exception', 'BaseException')]
        cleanups = self.lines_of(node for node in handlers if ast.unparse(node.body[-1]) == 'raise')
        self.assertLessEqual(len(set(whole) - set(cleanups)), 1, whole)

    def test_nothing_evaluates_text_or_starts_a_shell(self) -> None:
        calls = [(ast.unparse(node.func), node.lineno) for node in self.nodes(ast.Call)]
        banned = {'eval', 'exec', 'compile', '__import__', 'os.system', 'os.popen', 'pickle.loads', 'marshal.loads'}
        self.assertEqual([call for call in calls if call[0] in banned], [])
        shells = [node.value.lineno for node in self.nodes(ast.keyword) if node.arg == 'shell']
        self.assertEqual(shells, [])

    def test_no_global_changes_and_no_assert_is_control_flow(self) -> None:
        self.assertEqual(self.lines_of(self.nodes(ast.Global, ast.Nonlocal, ast.Assert)), [])

    def test_limits_are_named_with_unit_and_reason(self) -> None:
        section = re.search(r'(?ms)^# -{20,}\n# limits.*?(?=^# -{20,}\n# \w)', self.source)
        self.assertIsNotNone(section)
        text = section[0] if section else ''
        values = re.findall(r'(?m)^[A-Z][A-Z_0-9]*(?:: [\w\[\]]+)? = .*$', text)
        self.assertGreater(len(values), 10)
        self.assertEqual([line for line in values if '#' not in line], [])

    def test_importing_it_opens_nothing_and_starts_nothing(self) -> None:
        done = subprocess.run([sys.executable, '-I', '-B', '-c', WATCH_IMPORT, str(HERE)], check=False,
                              capture_output=True, text=True, timeout=60)
        self.assertEqual((done.stdout, done.stderr), ('[] 1\n', ''))

    def test_it_names_its_licence_and_release(self) -> None:
        self.assertIn('SPDX-License-Identifier:', self.source[:200])
        self.assertRegex(logwatch.__version__, r'\A\d+\.\d+(\.\d+)?\Z')


def cell(text: str) -> str:
    """Text as it stands in a cell of a Markdown table: a bar would end the cell, a bare <tag> or * would vanish."""
    return text.replace("|", "\\|").replace("*", "\\*").replace("<", "\\<")


def code(text: str) -> str:
    """Text in code marks; '' stays ''. GitHub wants a bar escaped even there."""
    return f"`{text}`".replace("|", "\\|") if text else ""


def options_table() -> list[str]:
    """The options that are no thresholds: option, environment variable, default, what it is for."""
    thresholds = {name for name, *_ in logwatch.THRESHOLDS}
    rows = [f"| {code(f'--{option.name} {option.metavar}')} | {code(logwatch.environment_name(option))} | "
            f"{code(option.default) or 'none'} | {cell(option.help)}{'; repeatable' if option.repeat else ''} |"
            for option in logwatch.OPTIONS if option.name not in thresholds]
    return ["| option | environment variable | default | what it is for |", "|---|---|---|---|", *rows]


def limit_text(value: float, unit: str) -> str:
    """A limit: bytes with their GiB, 0 as what it means."""
    if not value:
        return "never"
    return f"{value} ({value / 2**30:g} GiB)" if unit == "bytes" else f"{value:g}"


def thresholds_table() -> list[str]:
    """The thresholds: check (the options are --CHECK-warn and --CHECK-fail), unit, which side is bad, warn, fail,
    what is compared."""
    rows = [f"| {code(name)} | {unit} | {side} | {limit_text(warn, unit)} | {limit_text(fail, unit)} | {cell(what)} |"
            for name, unit, side, warn, fail, what in logwatch.LIMITS]
    return ["| check | unit | bad is | warn | fail | what is compared |", "|---|---|---|---|---|---|", *rows]


def routes_table() -> list[str]:
    """The endpoints: path, the scope that a token needs for it, what it answers."""
    rows = [f"| {code(route.path)} | {route.scope or 'none'} | {cell(route.about)} |" for route in logwatch.ROUTES]
    return ["| path | scope | what it answers |", "|---|---|---|", *rows]


def parameters_table() -> list[str]:
    """The parameters: name, what it means, the endpoints that take it."""
    rows = [f"| {code(parameter.name)} | {cell(parameter.help)} | "
            f"{', '.join(code(route.path) for route in logwatch.ROUTES if parameter.name in route.parameters)} |"
            for parameter in logwatch.PARAMETERS]
    return ["| parameter | what it means | endpoints |", "|---|---|---|", *rows]


TABLES = {"options": options_table, "thresholds": thresholds_table, "routes": routes_table,
          "parameters": parameters_table}


class TheReadme(unittest.TestCase):
    """README.md says what the code does: its tables are the code's own."""

    def test_its_tables_are_those_that_the_code_generates(self) -> None:
        readme = (HERE / 'README.md').read_text().splitlines()
        for table in TABLES.values():
            lines = table()
            with self.subTest(table.__name__):
                self.assertGreater(len(lines), 3)
                self.assertEqual([line for line in lines if line not in readme], [])

    def test_its_tables_say_nothing_that_the_code_does_not(self) -> None:
        rows = set(re.findall(r'(?m)^\| `--.*$', (HERE / 'README.md').read_text()))
        self.assertEqual(rows - set(options_table()), set())

    def test_it_names_the_clash_with_debians_package(self) -> None:
        readme = (HERE / 'README.md').read_text()
        for words in ('/usr/sbin/logwatch', '/etc/logwatch/', 'python3 logwatch.py', 'python3 test_logwatch.py'):
            self.assertIn(words, readme)


# ----------------------------------------------------------------------------------------------------------------------
# the HTTP contract, the same over every transport
# ----------------------------------------------------------------------------------------------------------------------

BROWSER = 'text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8'
LINES = 250
PAST = numbered(1, 400, 'visit')
ODD_LINES = (b'plain\n\x1b[31mred\x1b[0m\r\n<script>alert(1)</script> & "q"\nbad \xff\xfe utf-8\n'
             b'b\xc3\xbccher \xe2\x80\xae\n\tindented\nlast')


def plant_contract_logs() -> Path:
    """The logs that the contract is about: one file, a rotation set, an empty one, one with hostile bytes."""
    rows = PAST.splitlines(keepends=True)
    visits = {'.2.gz': rows[:150], '.1': rows[150:300], '': rows[300:]}
    root = plant(scratch(), {'app.log': numbered(1, LINES), 'empty.log': '', 'odd.log': ODD_LINES})
    return plant(root, {f'web/access.log{ending}': ''.join(part) for ending, part in visits.items()})


GOOD_TARGETS = words('/ /livez /health /health?format=text /logs /logs?format=text /logs/app /logs/app?n=3 /logs/empty '
                     '/logs/app?format=json /logs/app?format=ndjson /logs/web-access?n=400 /logs/odd /logs/app/raw')
BAD_LINE_QUERIES = {  # the parameter that the problem must name: queries of /logs/app
    'n': [*words('n= n n=0 n=-1 n=10001 n=1.5 n=x n=0x10 n=1_0 n=%2B5 n=+5 n=5%20 n=5%00 n=%D9%A3 n=%ff n=1&n=1 '
                 'n=1&n=2 n=5;format=json n=5&n='), 'n=' + '9' * 3900],
    'N': ['N=5'],
    'nope': ['nope=1', 'n=5&nope=', 'nope'],
    'format': [*words('format= format=xml format=JSON format=%00 format=text&format=json'), 'format=' + 'a' * 3900],
    'after': [*words('after= after=junk after=%00 after=%ff%fe'), 'after=' + 'A' * 3900],
    'before': words('before= before=junk before=../../etc/passwd'),
    '': [*words('%00=1 %ff=1 =1 n%5B%5D=1 n=%zz n=5%'), 'a' * 3900 + '=1', '&'.join(f'p{n}=1' for n in range(500))],
}
BAD_PARAMETERS = [(f'/logs/app?{query}', name) for name, queries in BAD_LINE_QUERIES.items() for query in queries] + [
    ('/?x=1', 'x'), ('/livez?x=1', 'x'), ('/logs?x=1', 'x'), ('/logs/app/raw?n=1', 'n'), ('/health?nope=1', 'nope'),
    ('/health?format=html', 'format'), ('/health?exclude=nosuchcheck', 'exclude'), ('/health?exclude=', 'exclude')]
TEXT, HTML, JSON, NDJSON = 'text/plain', 'text/html', 'application/json', 'application/x-ndjson'
HEALTH, PROBLEM = 'application/health+json', 'application/problem+json'
NEGOTIATION = [  # (target, Accept, media type of the answer)
    ('/', None, TEXT), ('/', '*/*', TEXT), ('/', 'text/*', TEXT), ('/', BROWSER, HTML),
    ('/logs', '*/*', TEXT), ('/logs', BROWSER, HTML), ('/logs', JSON, JSON), ('/logs?format=json', HTML, JSON),
    ('/logs/app', None, TEXT), ('/logs/app', '', TEXT), ('/logs/app', '*/*', TEXT), ('/logs/app', TEXT, TEXT),
    ('/logs/app', BROWSER, HTML), ('/logs/app', HTML, HTML), ('/logs/app', JSON, JSON), ('/logs/app', NDJSON, NDJSON),
    ('/logs/app', JSON.upper(), JSON), ('/logs/app', JSON + '; charset=utf-8', JSON),
    ('/logs/app', f'{JSON};q=0.5, {NDJSON}', NDJSON), ('/logs/app', f'{TEXT};q=0.1, {JSON};q=0.2', JSON),
    ('/logs/app', f'{HTML};q=0, */*', TEXT), ('/logs/app', f'{TEXT}, {HTML};q=0.9', TEXT),
    ('/logs/app?format=json', BROWSER, JSON), ('/logs/app?format=ndjson', JSON, NDJSON),
    ('/logs/app?format=text', JSON, TEXT), ('/logs/app?format=html', '*/*', HTML),
    ('/health', '*/*', HEALTH), ('/health', BROWSER, HEALTH), ('/health', HTML, HEALTH), ('/health', TEXT, HEALTH),
    ('/health', JSON, HEALTH), ('/health?format=text', BROWSER, TEXT), ('/livez', BROWSER, TEXT),
    ('/nowhere', BROWSER, PROBLEM), ('/logs/app?n=0', HTML, PROBLEM)]
MISSING = words('/nowhere /logs/nope /logs/app/nope /logs/ /health/nope /Logs /logs/app.log /logs/web/access /logs/.. '
                '/favicon.ico /metrics/x /logs/app/raw/x /health/')
ODD_ACCEPTS = [*words('junk ;;; text/plain;q=x text/plain;q=9 , * a/b/c text/html;q=0.5;q=0.1 \xff "'), 'x' * 1000]
UNUSABLE_RANGES = words('lines=1-2 bytes=0-1,5-6 bytes=5-2 bytes=x bytes bytes=--1 bytes=+1-2 bytes=1_0-20 bytes=-')
CATALOGUE_KEYS = {'name', 'format', 'bytes', 'first', 'last', 'rotations', 'readable'}
ENTRY_KEYS = ['time', 'log', 'level', 'message', 'fields', 'cursor']
WIRE_HEADERS = {'connection', 'keep-alive', 'date', 'server', 'transfer-encoding'}  # the transport's own


def header_names(reply: Reply) -> list[str]:
    return sorted(name.lower() for name in reply.headers if name.lower() not in WIRE_HEADERS)


class HttpContract:
    """Claims about answers; the classes below say how the requests travel."""

    FOREIGN_HOST = frozenset({421})  # for a name that it does not go by: pages that rebind their own get nothing

    def ask(self: Any, target: str, headers: Mapping[str, str] | None = None, method: str = 'GET') -> Reply:
        """One request over the transport."""
        raise NotImplementedError

    def link(self: Any, reply: Reply, relation: str, base: str = '/logs/app') -> str:
        """The target of a Link header, resolved against base as a client there would, or ''."""
        for value in reply.headers.get_all('Link') or []:
            for url, name in re.findall(r'<([^>]*)>; *rel="(\w+)"', value):
                if name == relation:
                    self.assertNotRegex(url, r'^(/|\w+:)', 'relative, so that any prefix works behind a proxy')
                    return urllib.parse.urljoin(base, str(url))
        return ''

    def test_every_answer_says_what_it_is_and_protects_itself(self: Any) -> None:
        for target in (*GOOD_TARGETS, '/nowhere', '/logs/nope', '/logs/app?n=0'):
            with self.subTest(target):
                reply = self.ask(target)
                self.assertIn(reply.status, (400, 404) if target not in GOOD_TARGETS else (200, 503), reply.body[:300])
                self.assertTrue(reply.kind)
                for name, value in {'X-Content-Type-Options': 'nosniff', 'Cache-Control': 'no-store'}.items():
                    self.assertEqual([v.strip() for v in reply.headers.get_all(name) or []], [value])
                self.assertIn("default-src 'none'", reply.headers['Content-Security-Policy'] or '')
                self.assertIsNone(reply.headers['Access-Control-Allow-Origin'])
                self.assertIsNone(reply.headers['Set-Cookie'])
                self.assertEqual(len(header_names(reply)), len(set(header_names(reply))), header_names(reply))

    def test_head_is_get_without_the_body(self: Any) -> None:
        for target in (*GOOD_TARGETS, '/nowhere', '/logs/app?n=0'):
            with self.subTest(target):
                get, head = self.ask(target), self.ask(target, method='HEAD')
                self.assertEqual((head.status, head.body), (get.status, b''))
                self.assertEqual(header_names(head), header_names(get))
                for name in ('Content-Type', 'ETag', 'Link'):
                    self.assertEqual(head.headers[name], get.headers[name])
                if 'health' not in target and get.headers['Content-Length']:
                    self.assertEqual(head.headers['Content-Length'], get.headers['Content-Length'])

    def test_other_methods_are_405_with_allow(self: Any) -> None:
        for method in ('POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE'):
            for target in ('/', '/livez', '/logs/app'):
                with self.subTest(method, target=target):
                    reply = self.ask(target, method=method)
                    self.assertProblem(reply, 405)
                    self.assertEqual({word.strip() for word in reply.headers['Allow'].split(',')}, {'GET', 'HEAD'})

    def test_what_does_not_exist_is_a_404_problem(self: Any) -> None:
        for target in MISSING:
            with self.subTest(target):
                self.assertProblem(self.ask(target), 404)

    def test_a_problem_with_a_name_says_which_names_there_are(self: Any) -> None:
        problem = self.ask('/logs/nope').json()
        self.assertIn('nope', problem['detail'])
        self.assertIn('/logs', problem.get('fix', '') + problem['detail'])

    def test_a_bad_parameter_is_a_400_that_names_it(self: Any) -> None:
        for target, name in BAD_PARAMETERS:
            with self.subTest(target[:80]):
                reply = self.ask(target)
                self.assertProblem(reply, 400, name)
                self.assertLess(len(reply.body), 2000)

    def test_the_representation_is_what_accept_prefers(self: Any) -> None:
        for target, accept, kind in NEGOTIATION:
            with self.subTest(target, accept=accept):
                reply = self.ask(target, {} if accept is None else {'Accept': accept})
                self.assertEqual(reply.kind, kind)
                if kind.startswith('text/'):
                    self.assertIn('utf-8', reply.headers['Content-Type'].lower())

    def test_nonsense_in_accept_is_no_error_of_the_server(self: Any) -> None:
        for accept in ODD_ACCEPTS:
            with self.subTest(accept):
                self.assertIn(self.ask('/logs/app', {'Accept': accept}).status, (200, 400, 406))

    def test_the_root_lists_every_endpoint_with_an_example(self: Any) -> None:
        text = self.ask('/').text
        for words in ('curl', '/health', '/livez', '/logs', '/raw'):
            self.assertIn(words, text)
        page = self.ask('/', {'Accept': BROWSER}).text
        self.assertIn('/logs', page)
        self.assertTrue(page.lower().startswith('<!doctype html>'))
        self.assertNotRegex(page, r'(?i)<script|src="http|href="http')

    def test_livez_is_ok(self: Any) -> None:
        reply = self.ask('/livez')
        self.assertEqual((reply.status, reply.kind, reply.body), (200, 'text/plain', b'ok\n'))

    def test_health_says_its_verdict_as_status_and_document(self: Any) -> None:
        reply = self.ask('/health')
        document = reply.json()
        self.assertEqual(reply.status, {'pass': 200, 'warn': 200, 'fail': 503}[document['status']])
        self.assertTrue(document['checks'])
        for check, rows in document['checks'].items():
            for row in rows:
                with self.subTest(check):
                    self.assertIn(row['status'], ('pass', 'warn', 'fail', None))
                    self.assertTrue(row.get('observedValue') is not None or row.get('output'), row)
        words = self.ask('/health?format=text').text.splitlines()
        self.assertTrue(words[0].strip() and len(words) > 3)

    def test_the_catalogue_lists_every_log(self: Any) -> None:
        logs = {row['name']: row for row in self.ask('/logs?format=json').json()['logs']}
        self.assertEqual(set(logs), {'app', 'web-access', 'empty', 'odd'})
        for row in logs.values():
            self.assertLessEqual(CATALOGUE_KEYS, set(row))
            self.assertIs(row['readable'], True)
        self.assertEqual(logs['app']['bytes'], len(numbered(1, LINES)))
        self.assertEqual(logs['web-access']['rotations'], 2)
        self.assertTrue(logs['app']['first'].startswith('2026-01-01T00:00:01'))
        self.assertEqual(logs['empty']['bytes'], 0)
        text = self.ask('/logs').text
        for name in logs:
            self.assertIn(name, text)

    def test_lines_are_the_newest_printed_oldest_first(self: Any) -> None:
        rows = numbered(1, LINES).splitlines(keepends=True)
        for query, count in {'': 100, '?n=1': 1, '?n=7': 7, '?n=249': 249, '?n=250': 250, '?n=10000': 250}.items():
            with self.subTest(query):
                self.assertEqual(self.ask(f'/logs/app{query}').text, ''.join(rows[-count:]))
        self.assertEqual(self.ask('/logs/empty').body, b'')
        self.assertEqual(self.ask('/logs/web-access?n=400').text, PAST)

    def test_text_never_carries_control_characters(self: Any) -> None:
        reply = self.ask('/logs/odd')
        self.assertEqual(reply.body.splitlines()[0], b'plain')
        self.assertIn(b'\\x1b[31mred\\x1b[0m', reply.body)
        self.assertIn(b'\tindented\n', reply.body)
        self.assertIn('bücher', reply.body.decode('utf-8', 'replace'))
        self.assertNotRegex(reply.body, rb'[\x00-\x08\x0b-\x1f\x7f]')
        self.assertTrue(reply.body.endswith(b'last\n'))

    def test_html_never_carries_markup_of_a_line(self: Any) -> None:
        page = self.ask('/logs/odd', {'Accept': BROWSER}).body
        self.assertNotIn(b'<script>alert', page)
        self.assertIn(b'&lt;script&gt;alert(1)&lt;/script&gt; &amp; ', page)

    def test_json_and_ndjson_say_the_same(self: Any) -> None:
        document = self.ask('/logs/odd?format=json').json()
        self.assertEqual(document['log'], 'odd')
        entries = document['entries']
        self.assertEqual([list(entry)[:6] for entry in entries], [ENTRY_KEYS] * 7)
        self.assertEqual([json.loads(line) for line in self.ask('/logs/odd?format=ndjson').body.splitlines()], entries)
        self.assertTrue(self.ask('/logs/odd?format=json').body.isascii(), 'no bidi or C1 character reaches a terminal')
        self.assertEqual(entries[-1]['message'], 'last')
        times = [entry['time'] for entry in self.ask('/logs/app?format=json&n=2').json()['entries']]
        self.assertTrue(times[0].startswith('2026-01-01T00:04:09'), times)

    def test_each_answer_says_what_it_cost(self: Any) -> None:
        reply = self.ask('/logs/web-access?n=400')
        self.assertRegex(reply.headers['Logwatch-Scan'], r'\Abytes=\d+, files=\d+, lines=400, stop=complete\Z')
        scan = self.ask('/logs/app?format=json').json()['scan']
        self.assertEqual({'bytes', 'files', 'lines', 'stop'} - set(scan), set())
        self.assertEqual((scan['lines'], scan['stop']), (100, 'complete'))

    def test_prev_pages_back_to_the_beginning_and_next_forward_to_the_end(self: Any) -> None:
        for log, whole in {'app': numbered(1, LINES), 'web-access': PAST}.items():
            with self.subTest(log):
                base = f'/logs/{log}'
                reply = self.ask(f'{base}?n=60')
                pages = [reply.text]
                while target := self.link(reply, 'prev', base):
                    reply = self.ask(target)
                    pages.insert(0, reply.text)
                self.assertEqual(''.join(pages), whole)
                forward = reply.text
                while (reply := self.ask(self.link(reply, 'next', base))).body:
                    forward += reply.text
                self.assertEqual(forward, whole)

    def test_next_at_the_end_is_an_empty_page_with_a_next(self: Any) -> None:
        reply = self.ask('/logs/app?n=1')
        for _ in range(3):
            reply = self.ask(self.link(reply, 'next'))
            self.assertEqual((reply.status, reply.body), (200, b''))
        self.assertTrue(self.link(reply, 'next'))

    def test_an_entrys_cursor_is_a_place_to_page_from(self: Any) -> None:
        entries = self.ask('/logs/app?format=json&n=10').json()['entries']
        rest = self.ask(f'/logs/app?after={entries[3]["cursor"]}&format=json').json()
        self.assertEqual([entry['message'] for entry in rest['entries']], [entry['message'] for entry in entries[4:]])
        self.assertEqual(self.ask(urllib.parse.urljoin('/logs/app', rest['next'])).json()['entries'], [])
        before = self.ask(f'/logs/app?before={entries[0]["cursor"]}&n=2').text.splitlines()
        self.assertTrue(before[-1].endswith(('line 240', 'line 241')), before)

    def test_a_cursor_of_another_log_or_a_damaged_one_is_refused(self: Any) -> None:
        cursor = self.ask('/logs/app?format=json&n=1').json()['entries'][0]['cursor']
        damaged = cursor[:5] + ('A' if cursor[5] != 'A' else 'B') + cursor[6:]
        self.assertIn(self.ask(f'/logs/app?after={damaged}').status, (400, 410))
        self.assertIn(self.ask(f'/logs/odd?after={cursor}').status, (400, 410))

    def test_raw_gives_the_bytes_of_the_live_file(self: Any) -> None:
        whole = numbered(1, LINES).encode()
        reply = self.ask('/logs/app/raw')
        self.assertEqual((reply.status, reply.body), (200, whole))
        self.assertEqual(reply.headers['Accept-Ranges'], 'bytes')
        self.assertRegex(reply.headers['ETag'], r'\A"[!#-~]+"\Z')
        self.assertEqual(reply.headers['Content-Length'], str(len(whole)))

    def test_raw_answers_a_single_range(self: Any) -> None:
        whole = numbered(1, LINES).encode()
        size = len(whole)
        for spec, (first, last) in {'0-0': (0, 0), '0-9': (0, 9), '5-': (5, size - 1), '-10': (size - 10, size - 1),
                                    f'0-{size * 2}': (0, size - 1), f'-{size * 2}': (0, size - 1),
                                    f'{size - 1}-{size - 1}': (size - 1, size - 1)}.items():
            with self.subTest(spec):
                reply = self.ask('/logs/app/raw', {'Range': f'bytes={spec}'})
                self.assertEqual((reply.status, reply.body), (206, whole[first:last + 1]))
                self.assertEqual(reply.headers['Content-Range'], f'bytes {first}-{last}/{size}')
        for spec in (f'{size}-', f'{size}-{size + 5}', '-0'):
            with self.subTest(spec):
                reply = self.ask('/logs/app/raw', {'Range': f'bytes={spec}'})
                self.assertEqual(reply.status, 416)
                self.assertEqual(reply.headers['Content-Range'], f'bytes */{size}')

    def test_raw_ignores_a_range_that_it_need_not_serve(self: Any) -> None:
        for spec in UNUSABLE_RANGES:
            with self.subTest(spec):
                self.assertIn(self.ask('/logs/app/raw', {'Range': spec}).status, (200, 400, 416))

    def test_raw_if_range_takes_the_range_only_for_the_same_file(self: Any) -> None:
        tag = self.ask('/logs/app/raw').headers['ETag']
        for value, status in {tag: 206, '"other"': 200, f'W/{tag}': 200, tag.strip('"'): 200,
                              'Thu, 01 Jan 1970 00:00:00 GMT': 200}.items():
            with self.subTest(value):
                self.assertEqual(self.ask('/logs/app/raw', {'Range': 'bytes=0-4', 'If-Range': value}).status, status)
        self.assertEqual(self.ask('/logs/app/raw', method='HEAD').headers['ETag'], tag)

    def test_a_cross_site_request_of_a_browser_is_refused(self: Any) -> None:
        self.assertProblem(self.ask('/logs/app', {'Sec-Fetch-Site': 'cross-site'}), 403)
        for site in ('same-origin', 'none'):
            self.assertEqual(self.ask('/logs/app', {'Sec-Fetch-Site': site}).status, 200)

    def test_a_host_that_nobody_gave_it_is_refused_everywhere(self: Any) -> None:
        for target in ('/', '/livez', '/health', '/logs', '/logs/app', '/nowhere'):
            with self.subTest(target):
                self.assertIn(self.ask(target, {'Host': 'evil.example'}).status, self.FOREIGN_HOST)


class InProcess(HttpContract, Case):
    """The WSGI callable alone, under wsgiref.validate."""

    application: Callable[..., Any]

    @classmethod
    def setUpClass(cls) -> None:
        root = plant_contract_logs()
        cls.application = staticmethod(wsgiref.validate.validator(make_application('--log-root', str(root))))

    def ask(self, target: str, headers: Mapping[str, str] | None = None, method: str = 'GET') -> Reply:
        return call(self.application, target, headers, method)


class OverTcp(HttpContract, Case):
    """Our own server on 127.0.0.1."""

    LISTEN = '127.0.0.1:0'

    @classmethod
    def setUpClass(cls) -> None:
        listen = f'unix:{scratch()}/http.sock' if cls.LISTEN == 'unix' else cls.LISTEN
        cls.server = cls.serve_class(root=plant_contract_logs(), listen=listen)

    def ask(self, target: str, headers: Mapping[str, str] | None = None, method: str = 'GET') -> Reply:
        return self.server.get(target, headers, method)


@requires('ipv6')
class OverIpv6(OverTcp):
    """Our own server on ::1."""

    LISTEN = '[::1]:0'


class OverUnix(OverTcp):
    """Our own server on a unix socket."""

    LISTEN = 'unix'
    FOREIGN_HOST = frozenset({200, 404, 503})  # no browser gets here but through a proxy, which knows its own names


class Gunicorn:
    """`gunicorn logwatch:application` over a folder, on a unix socket."""

    def __init__(self, root: Path, *options: str) -> None:
        home = scratch()
        self.socket = str(home / 'http.sock')
        with (home / 'stderr').open('wb') as errors:
            self.process = subprocess.Popen(
                [str(find_tool('gunicorn')), *options, '-b', f'unix:{self.socket}', '--chdir', str(HERE),
                 'logwatch:application'],
                env=clean_environment({'LOGWATCH_LOG_ROOT': str(root), 'LOGWATCH_RATE': '0',
                                       'PYTHONDONTWRITEBYTECODE': '1'}), stdout=errors, stderr=errors)
        until(lambda: self.process.poll() is None and answers_livez(self.socket), 'gunicorn to serve')

    def get(self, target: str, headers: Mapping[str, str] | None = None, method: str = 'GET') -> Reply:
        return fetch(self.socket, target, headers, method)

    def stop(self) -> None:
        """At once: SIGTERM would wait for streams."""
        workers = [] if self.process.poll() is not None else children_of(self.process.pid)
        self.process.terminate()
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
        self.process.wait()


@requires('gunicorn')
class UnderGunicornSync(HttpContract, Case):
    """`gunicorn logwatch:application`, one request at a time."""

    WORKERS: tuple[str, ...] = ('-k', 'sync')
    FOREIGN_HOST = OverUnix.FOREIGN_HOST
    gunicorn: Gunicorn

    @classmethod
    def setUpClass(cls) -> None:
        cls.gunicorn = Gunicorn(plant_contract_logs(), *cls.WORKERS)
        cls.addClassCleanup(cls.gunicorn.stop)

    def ask(self, target: str, headers: Mapping[str, str] | None = None, method: str = 'GET') -> Reply:
        return self.gunicorn.get(target, headers, method)


class UnderGunicornThreads(UnderGunicornSync):
    """`gunicorn -k gthread`."""

    WORKERS = ('-k', 'gthread', '--threads', '4')


NGINX_FRAME = """
daemon off; pid {home}/pid; error_log {home}/error.log; worker_processes 1; {user}
events {{ worker_connections 256; }}
http {{
    client_body_temp_path {home}/t1; proxy_temp_path {home}/t2;
    fastcgi_temp_path {home}/t3; uwsgi_temp_path {home}/t4; scgi_temp_path {home}/t5;
    access_log off;
    include {home}/site.conf;
}}
"""


def free_port() -> int:
    with socket.create_server(('127.0.0.1', 0)) as probe:
        return int(probe.getsockname()[1])


class Nginx:
    """The real nginx as a process of its own, with our nginx.conf: only ports and paths are edited."""

    NAME = 'logs.example.org'

    def __init__(self, upstream: str) -> None:
        self.home = scratch()
        self.plain, self.port = free_port(), free_port()
        self.paths = {'/run/logwatch/logwatch.sock': upstream, '/etc/nginx/logwatch.': f'{self.home}/logwatch.',
                      '/var/log/nginx/': f'{self.home}/', '/var/www/html': str(self.home)}
        self._certify()
        (self.home / 'site.conf').write_text(self._edited())
        user = 'user root;' if os.geteuid() == 0 else ''
        (self.home / 'nginx.conf').write_text(NGINX_FRAME.format(home=self.home, user=user))
        self.command = [str(find_tool('nginx')), '-p', str(self.home), '-e', f'{self.home}/error.log',
                        '-c', f'{self.home}/nginx.conf']
        self.tls = ssl.create_default_context(cafile=str(self.home / 'logwatch.crt'))
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        env=clean_environment())
        self.sources = 0

    def _certify(self) -> None:
        subprocess.run([str(find_tool('openssl')), 'req', '-x509', '-nodes', '-days', '2', '-subj', f'/CN={self.NAME}',
                        '-addext', f'subjectAltName=DNS:{self.NAME}', '-newkey', 'rsa:2048',
                        '-keyout', f'{self.home}/logwatch.key', '-out', f'{self.home}/logwatch.crt'],
                       check=True, capture_output=True)

    def _edited(self) -> str:
        text = (HERE / 'nginx.conf').read_text()
        for old, new in self.paths.items():
            text = text.replace(old, new)
        ports = {'80': self.plain, '443': self.port}
        text = re.sub(r'listen +\[::\]:(\d+)', lambda m: f'listen [::1]:{ports[m[1]]}', text)
        text = re.sub(r'listen +(\d+)\b', lambda m: f'listen 127.0.0.1:{ports[m[1]]}', text)
        return text if can_bind_ipv6() else re.sub(r'(?m)^ *listen \[::1\].*$', '', text)

    def get(self, target: str, headers: Mapping[str, str] | None = None, method: str = 'GET') -> Reply:
        """Over TLS, from another address each time: the rate limit, which is per address, is not the subject."""
        self.sources = self.sources % 200 + 1
        return fetch(('127.0.0.1', self.port), target, {'Host': self.NAME, **(headers or {})}, method,
                     source=f'127.0.0.{self.sources + 1}', tls=self.tls, name=self.NAME)

    def ready(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError('nginx ended: ' + (self.home / 'error.log').read_text())
        with contextlib.suppress(OSError, EOFError):
            return self.get('/livez').status == 200
        return False

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


@requires('nginx', 'openssl')
class BehindNginx(HttpContract, Case):
    """Our server on a unix socket behind the real nginx with our nginx.conf, over TLS."""

    FOREIGN_HOST = frozenset({444})
    nginx: Nginx

    @classmethod
    def setUpClass(cls) -> None:
        path = f'{scratch()}/http.sock'
        cls.server = cls.serve_class(root=plant_contract_logs(), listen=f'unix:{path}')
        cls.nginx = Nginx(path)
        cls.addClassCleanup(cls.nginx.stop)
        until(cls.nginx.ready, 'nginx to serve')

    def ask(self, target: str, headers: Mapping[str, str] | None = None, method: str = 'GET') -> Reply:
        try:
            return self.nginx.get(target, headers, method)
        except EOFError:  # nginx's 444: closed without a byte
            return Reply(444, http.client.HTTPMessage(), b'')

    def test_nginx_finds_nothing_to_complain_about(self) -> None:
        done = subprocess.run([*self.nginx.command, '-t'], check=False, capture_output=True, text=True)
        self.assertEqual((done.returncode, re.findall(r'.*\[(?:warn|error|emerg)\].*', done.stderr)), (0, []))

    def test_plain_http_is_sent_to_https(self) -> None:
        reply = fetch(('127.0.0.1', self.nginx.plain), '/logs/app?n=3', {'Host': Nginx.NAME})
        self.assertEqual((reply.status, reply.headers['Location']), (308, f'https://{Nginx.NAME}/logs/app?n=3'))

    def test_an_unknown_host_gets_not_one_byte(self) -> None:
        for port, tls in {self.nginx.plain: None, self.nginx.port: self.nginx.tls}.items():
            with self.subTest(tls=bool(tls)), Wire(('127.0.0.1', port), tls=tls, name=Nginx.NAME) as wire:
                wire.send(head_bytes('/livez', {'Host': 'evil.example'}))
                self.assertRaises(EOFError, wire.answer)

    def test_a_flood_is_429_with_a_problem_and_retry_after(self) -> None:
        def ask() -> Reply:
            return fetch(('127.0.0.1', self.nginx.port), '/livez', {'Host': Nginx.NAME}, source='127.0.0.250',
                         tls=self.nginx.tls, name=Nginx.NAME)

        replies = [ask() for _ in range(40)]
        self.assertEqual({reply.status for reply in replies}, {200, 429})
        self.assertGreaterEqual(sum(reply.status == 200 for reply in replies), 20)
        refused = next(reply for reply in replies if reply.status == 429)
        self.assertProblem(refused, 429)
        self.assertTrue(refused.headers['Retry-After'].isdigit())

    def test_a_body_and_a_giant_address_are_refused_with_a_problem(self) -> None:
        self.assertIn(self.ask('/livez', {'Content-Length': '5000'}, 'POST').status, (405, 413))
        self.assertProblem(self.ask('/' + 'a' * 9000), 414)

    def test_what_people_search_for_is_not_logged(self) -> None:
        self.ask('/logs/app?token=hunter2', {'Referer': 'https://x/?hunter2'})
        self.ask('/livez')
        log = until(lambda: ''.join(path.read_text() for path in self.nginx.home.glob('*access.log')), 'the access log')
        self.assertNotIn('hunter2', log)

    def test_the_links_of_a_long_query_get_through(self) -> None:
        """Link has it twice; what does not fit proxy_buffer_size is 502."""
        for letters in ("'!*()" * 800, '[]' * 1950, '%22' * 1330):
            reply = self.ask(f'/logs/app?not={letters}&not={letters}&n=1')
            self.assertEqual(reply.status, 200)
            self.assertIn('rel=', reply.headers['Link'])

    def test_while_the_application_is_down_nginx_says_so(self) -> None:
        nginx = Nginx(f'{scratch()}/nobody.sock')
        self.addCleanup(nginx.stop)
        until(lambda: nginx.process.poll() is None and self.reachable(nginx), 'nginx to serve')
        for target in ('/', '/health', '/logs/app'):
            with self.subTest(target):
                reply = nginx.get(target)
                self.assertProblem(reply, 503)
                self.assertTrue(reply.headers['Retry-After'].isdigit())

    def reachable(self, nginx: Nginx) -> bool:
        with contextlib.suppress(OSError, EOFError):
            return nginx.get('/').status >= 500
        return False


class UnwellBox(Case):
    """A box without memory, as a folder of /proc files: the verdict decides the status."""

    @classmethod
    def setUpClass(cls) -> None:
        names = words('stat loadavg uptime vmstat meminfo self/mountinfo')
        host: dict[str, str | bytes] = {name: Path('/proc', name).read_text() for name in names}
        host['mountinfo'] = host.pop('self/mountinfo')
        host['meminfo'] = re.sub(r'(?m)^MemAvailable:.*', 'MemAvailable: 1000 kB', str(host['meminfo']))
        proc = plant(scratch(), host)
        cls.server = cls.serve_class('--proc', str(proc))

    def test_it_fails_with_503_in_every_form(self) -> None:
        for target in ('/health', '/health/memory', '/health?format=text', '/health?format=json'):
            with self.subTest(target):
                self.assertEqual(self.server.get(target).status, 503)
                self.assertEqual(self.server.get(target, method='HEAD').status, 503)

    def test_it_says_what_is_wrong_first(self) -> None:
        text = self.server.get('/health?format=text').text
        self.assertRegex(text, r'\Afail: .*memory')
        reply = self.server.get('/health')
        self.assertEqual(reply.kind, HEALTH)
        document = reply.json()
        self.assertEqual((document['status'], next(iter(document))), ('fail', 'status'))
        row, = next(rows for name, rows in document['checks'].items() if name.startswith('memory'))
        self.assertEqual(row['status'], 'fail')
        self.assertTrue(row['output'] and row['limit'])

    def test_what_is_well_or_left_out_does_not_fail(self) -> None:
        for target in ('/livez', '/health/uptime', '/health/load'):
            with self.subTest(target):
                self.assertEqual(self.server.get(target).status, 200)
        names = {name.partition(':')[0] for name, rows in self.server.get('/health').json()['checks'].items()
                 if any(row['status'] == 'fail' for row in rows)}
        query = '&'.join(f'exclude={name}' for name in sorted(names))
        self.assertEqual(self.server.get(f'/health?{query}').status, 200)


# ----------------------------------------------------------------------------------------------------------------------
# the server: malformed requests
# ----------------------------------------------------------------------------------------------------------------------

LIVEZ = b'GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n'


def head(*lines: str | bytes, start: str | bytes = 'GET /livez HTTP/1.1', host: str | bytes | None = 'Host: localhost',
         end: bytes = b'\r\n') -> bytes:
    """A request head of these raw lines after start line and Host line; text is Latin-1, byte for byte."""
    rows = [start, *([] if host is None else [host]), *lines, b'', b'']
    return end.join(row if isinstance(row, bytes) else row.encode('latin-1') for row in rows)


def start(line: str | bytes) -> bytes:
    """A request whose start line is this."""
    return head(start=line)


def host(value: str | bytes) -> bytes:
    """A request whose Host field has this value."""
    return head(host=b'Host: ' + (value if isinstance(value, bytes) else value.encode('latin-1')))


class Bad(NamedTuple):
    """A request to refuse: by which rule or after which CVE, its bytes, and the answers that will do."""

    rule: str
    data: bytes
    status: tuple[int, ...] = (400,)


CHUNKED = 'Transfer-Encoding: chunked'
START_LINES = [  # RFC 9112 section 3: method SP request-target SP HTTP-version, nothing else
    Bad('9112 3: two spaces before the target', start('GET  /livez HTTP/1.1')),
    Bad('9112 3: two spaces before the version', start('GET /livez  HTTP/1.1')),
    Bad('9112 3: tab for a space', start('GET\t/livez HTTP/1.1')),
    Bad('9112 3: tab before the version', start('GET /livez\tHTTP/1.1')),
    Bad('9112 3: vertical tab for a space', start('GET\x0b/livez HTTP/1.1')),
    Bad('9112 3: form feed for a space', start('GET /livez\x0cHTTP/1.1')),
    Bad('9112 3: no-break space for a space', start('GET\xa0/livez HTTP/1.1')),
    Bad('9112 3: leading space', start(' GET /livez HTTP/1.1')),
    Bad('9112 3: trailing space', start('GET /livez HTTP/1.1 ')),
    Bad('9112 3: trailing tab', start('GET /livez HTTP/1.1\t')),
    Bad('9112 3: a fourth word', start('GET /livez x HTTP/1.1')),
    Bad('9112 3: raw space in the target', start('GET /li vez HTTP/1.1')),
    Bad('9112 3: no target', start('GET HTTP/1.1')),
    Bad('9112 3: empty target', start('GET  HTTP/1.1')),
    Bad('9112 3: no method', start('/livez HTTP/1.1')),
    Bad('9112 3: empty method', start(' /livez HTTP/1.1')),
    Bad('9112 3: one word', start('GET')),
    Bad('1945 4.1: HTTP/0.9 has no version', start('GET /livez')),
    Bad('9112 2.2: NUL before the method', b'\0' + LIVEZ),
    Bad('9112 2.2: byte order mark before the method', b'\xef\xbb\xbf' + LIVEZ),
    Bad('9112 2.2: bare LF before the method', b'\n' + LIVEZ),
    Bad('9112 2.2: bare CR before the method', b'\r' + LIVEZ),
    Bad('9112 3.1: method with a separator', start('GE(T /livez HTTP/1.1'), (400, 405, 501)),
    Bad('9112 3.1: method with a colon', start('GET: /livez HTTP/1.1'), (400, 405, 501)),
    Bad('9112 3.1: method with NUL', start('G\0ET /livez HTTP/1.1')),
    Bad('9112 3.1: method with DEL', start('GET\x7f /livez HTTP/1.1')),
    Bad('9112 3.1: method beyond ASCII', start('G\xc9T /livez HTTP/1.1'), (400, 405, 501)),
    Bad('9110 9.1: methods are case-sensitive', start('get /livez HTTP/1.1'), (400, 405, 501)),
    Bad('9112 3: method without end', start('G' * 20000 + ' /livez HTTP/1.1'), (400, 405, 414, 431, 501)),
]
VERSIONS = [  # RFC 9112 section 2.3: HTTP-version = "HTTP/" DIGIT "." DIGIT, case-sensitive
    Bad('9112 2.3: lower case', start('GET /livez http/1.1')),
    Bad('9112 2.3: mixed case', start('GET /livez Http/1.1')),
    Bad('9112 2.3: another protocol', start('GET /livez FTP/1.1')),
    Bad('9112 2.3: no minor', start('GET /livez HTTP/1')),
    Bad('9112 2.3: empty minor', start('GET /livez HTTP/1.')),
    Bad('9112 2.3: empty major', start('GET /livez HTTP/.1')),
    Bad('9112 2.3: two digits minor', start('GET /livez HTTP/1.10')),
    Bad('9112 2.3: two digits major', start('GET /livez HTTP/11.1'), (400, 505)),
    Bad('9112 2.3: leading zero', start('GET /livez HTTP/01.1')),
    Bad('9112 2.3: third number', start('GET /livez HTTP/1.1.1')),
    Bad('9112 2.3: comma', start('GET /livez HTTP/1,1')),
    Bad('9112 2.3: inner space', start('GET /livez HTTP/ 1.1')),
    Bad('9112 2.3: junk behind', start('GET /livez HTTP/1.1x')),
    Bad('9112 2.3: NUL behind', start('GET /livez HTTP/1.1\0')),
    Bad('CVE-2022-24761: a sign is no digit', start('GET /livez HTTP/+1.1')),
    Bad('CVE-2022-24761: a full-width digit is no digit', start('GET /livez HTTP/１.1'.encode())),
    Bad('9110 15.6.6: HTTP/0.9 by name', start('GET /livez HTTP/0.9'), (400, 505)),
    Bad('9110 15.6.6: HTTP/2.0', start('GET /livez HTTP/2.0'), (400, 505)),
    Bad('9110 15.6.6: HTTP/3.0', start('GET /livez HTTP/3.0'), (400, 505)),
    Bad('9113 3.4: the preface of HTTP/2', b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', (400, 405, 501, 505)),
    Bad('8446: a TLS ClientHello on the plain port', b'\x16\3\1\2\0\1\0\1\xfc\3\3' + b'Z' * 60 + b'\r\n\r\n'),
    Bad('4253: an SSH banner', b'SSH-2.0-OpenSSH_9.2p1\r\n\r\n'),
    Bad('a PROXY line, version 1', b'PROXY TCP4 192.0.2.1 192.0.2.2 5 80\r\n' + LIVEZ),
    Bad('a PROXY header, version 2', b'\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c' + b'\0' * 12 + LIVEZ),
    Bad('another protocol: RESP', b'*1\r\n$4\r\nPING\r\n\r\n'),
]
TARGETS = [  # RFC 9112 section 3.2: only the origin-form makes sense for GET at an origin server that is no proxy
    Bad('gunicorn 25: absolute-form', start('GET http://localhost/livez HTTP/1.1')),
    Bad('gunicorn 25: absolute-form with another host', start('GET http://evil.example/livez HTTP/1.1')),
    Bad('9112 3.2.2: absolute-form, upper-case scheme', start('GET HTTP://localhost/livez HTTP/1.1')),
    Bad('9112 3.2.3: authority-form', start('GET localhost:80 HTTP/1.1')),
    Bad('9112 3.2.3: CONNECT', start('CONNECT localhost:80 HTTP/1.1'), (400, 405, 501)),
    Bad('9112 3.2.4: asterisk-form', start('GET * HTTP/1.1')),
    Bad('9112 3.2.4: OPTIONS *', start('OPTIONS * HTTP/1.1'), (400, 405, 501)),
    Bad('9112 3.2.1: relative target', start('GET livez HTTP/1.1')),
    Bad('9112 3.2.1: dot-relative target', start('GET ./livez HTTP/1.1')),
    Bad('9112 3.2.1: query alone', start('GET ?n=1 HTTP/1.1')),
    Bad('9112 3.2.1: fragment', start('GET /livez#x HTTP/1.1')),
    Bad('9112 3.2.1: backslash for a slash', start('GET \\livez HTTP/1.1')),
    Bad('9112 3.2.1: file scheme', start('GET file:///etc/passwd HTTP/1.1')),
    Bad('CVE-2023-41105: NUL in the target', start('GET /livez\0 HTTP/1.1')),
    Bad('CVE-2023-41105: NUL in the query', start('GET /logs?n=1\0 HTTP/1.1')),
    Bad('CVE-2019-9740: bare CR in the target', start('GET /livez\rX HTTP/1.1')),
    Bad('CVE-2019-9740: bare LF in the target', start('GET /livez\nX HTTP/1.1')),
    Bad('CVE-2003-0020: ESC in the target', start('GET /\x1b[2J HTTP/1.1')),
    Bad('3986 2: DEL in the target', start('GET /livez\x7f HTTP/1.1')),
    Bad('3986 2: UTF-8 unescaped in the target', start('GET /livez\xc3\xa9 HTTP/1.1')),
    Bad('3986 2: byte 0xFF in the target', start('GET /livez\xff HTTP/1.1')),
    Bad('9110 15.5.15: target of 20 kB', start('GET /' + 'a' * 20000 + ' HTTP/1.1'), (414, 431)),
    Bad('9110 15.5.15: query of 20 kB', start('GET /logs?' + 'a' * 20000 + ' HTTP/1.1'), (414, 431)),
]
LINE_ENDS = [  # RFC 9112 section 2.2: CRLF; a bare CR is invalid, a bare LF is what waitress CVE-2019-16785 was about
    Bad('CVE-2019-16785: bare LF throughout', head(end=b'\n')),
    Bad('CVE-2019-16785: bare LF behind the start line', b'GET /livez HTTP/1.1\nHost: localhost\r\n\r\n'),
    Bad('CVE-2019-16785: bare LF behind a field', b'GET /livez HTTP/1.1\r\nHost: localhost\nX: 1\r\n\r\n'),
    Bad('CVE-2019-16785: bare LF for the empty line', b'GET /livez HTTP/1.1\r\nHost: localhost\r\n\n'),
    Bad('CVE-2019-16785: LF LF ends no head', b'GET /livez HTTP/1.1\r\nHost: localhost\n\n'),
    Bad('9112 2.2: bare CR throughout', head(end=b'\r') + b'\r\n\r\n'),
    Bad('9112 2.2: CR CR LF', head(end=b'\r\r\n')),
    Bad('9112 2.2: LF CR', head(end=b'\n\r') + b'\r\n\r\n'),
    Bad('9112 2.2: bare CR behind a field', b'GET /livez HTTP/1.1\r\nHost: localhost\rX: 1\r\n\r\n'),
    Bad('9112 2.2: CR before the CRLF of a value', head('X: 1\r')),
]
FIELDS = [  # RFC 9112 section 5, RFC 9110 section 5: field-name ":" OWS field-value OWS
    Bad('9112 5.1: space before the colon', head('X : 1')),
    Bad('9112 5.1: tab before the colon', head('X\t: 1')),
    Bad('CVE-2019-16789: space before the colon of Host', head(host='Host : localhost')),
    Bad('CVE-2019-16789: space before the colon of a coding', head('Transfer-Encoding : chunked') + b'0\r\n\r\n'),
    Bad('CVE-2019-16789: vertical tab before chunked', head('Transfer-Encoding: \x0bchunked') + b'0\r\n\r\n'),
    Bad('9112 2.2: white space before the first field', head(host=' Host: localhost')),
    Bad('9112 2.2: an empty white line before the first field', b'GET /livez HTTP/1.1\r\n \r\nHost: localhost\r\n\r\n'),
    Bad('9112 5.2: obs-fold by space', head('X: 1', ' 2')),
    Bad('9112 5.2: obs-fold by tab', head('X: 1', '\t2')),
    Bad('9112 5.2: obs-fold of Host', head(' localhost', host='Host:')),
    Bad('9112 5.2: obs-fold of nothing', head('X: 1', ' ')),
    Bad('9112 5: no colon', head('Junk')),
    Bad('9112 5: no colon, first line', head(host='Host')),
    Bad('9110 5.1: empty name', head(': 1')),
    Bad('9110 5.6.2: space in a name', head('X Y: 1')),
    *(Bad(f'9110 5.6.2: {char!r} in a name', head(f'X{char}Y: 1')) for char in '()/@[]{}"\\<>=?;,'),
    Bad('9110 5.6.2: NUL in a name', head('X\0: 1')),
    Bad('9110 5.6.2: DEL in a name', head('X\x7f: 1')),
    Bad('9110 5.6.2: no-break space in a name', head('Content-Length\xa0: 5') + b'12345'),
    Bad('9110 5.6.2: UTF-8 in a name', head('X-é: 1'.encode())),
    *(Bad(f'9110 5.5: {code:#04x} in a value', head(b'X: a%cb' % code)) for code in b'\0\1\b\n\v\f\r\x1b\x1f\x7f'),
    Bad('CVE-2026-0865: CRLF injection by bare CR at the end of a value', head('X: 1\rSet-Cookie: a=b')),
    Bad('9110 5.4: a field line of 64 kB', head('X: ' + 'a' * 65536), (431,)),
    Bad('9110 5.4: a name of 64 kB', head('X' * 65536 + ': 1'), (431,)),
    Bad('9110 5.4: 2000 field lines', head(*(f'X-{n}: 1' for n in range(2000))), (431,)),
    Bad('CVE-2024-7592: 40 kB of quoted cookie', head('Cookie: a="' + '\\"' * 20000 + '"'), (431,)),
]
HOSTS = [  # RFC 9112 section 3.2 and the host allow-list against DNS rebinding
    Bad('9112 3.2: no Host', head(host=None)),
    Bad('9112 3.2: two Hosts', head('Host: localhost')),
    Bad('9112 3.2: two different Hosts', head('Host: evil.example')),
    Bad('9112 3.2: two Hosts in HTTP/1.0', head('Host: localhost', start='GET /livez HTTP/1.0')),
    Bad('9112 3.2: two Hosts, other case', head('hOST: evil.example')),
    Bad('9112 3.2: empty Host', host(''), (400, 421)),
    Bad('9110 7.2: Host with a path', host('localhost/livez'), (400, 421)),
    Bad('9110 7.2: Host with a scheme', host('http://localhost'), (400, 421)),
    Bad('9110 7.2: Host with userinfo', host('localhost@evil.example'), (400, 421)),
    Bad('9110 7.2: Host with userinfo of ours', host('evil.example@localhost'), (400, 421)),
    Bad('9110 7.2: Host list', host('localhost, evil.example'), (400, 421)),
    Bad('9110 7.2: two words', host('localhost evil.example'), (400, 421)),
    Bad('9110 7.2: port not a number', host('localhost:80a'), (400, 421)),
    Bad('CVE-2022-24761: signed port', host('localhost:+80'), (400, 421)),
    Bad('9110 7.2: negative port', host('localhost:-1'), (400, 421)),
    Bad('9110 7.2: two ports', host('localhost:80:80'), (400, 421)),
    Bad('3986 3.2.2: bracket left open', host('[::1'), (400, 421)),
    Bad('3986 3.2.2: junk behind the bracket', host('[::1]x'), (400, 421)),
    Bad('3986 3.2.2: brackets around a name', host('[localhost]'), (400, 421)),
    Bad('9110 5.5: NUL in Host', host('localhost\0.evil.example')),
    Bad('9110 7.2: beyond ASCII', host('localhost\xad'), (400, 421)),
]
BODIES = [  # RFC 9112 section 6: GET and HEAD need no body, so whatever frames one is refused
    Bad('9112 6.1: chunked', head(CHUNKED) + b'0\r\n\r\n'),
    Bad('9112 6.1: chunked in upper case', head('TRANSFER-ENCODING: CHUNKED') + b'0\r\n\r\n'),
    Bad('9112 6.1: a request in a chunk', head(CHUNKED) + b'29\r\n' + LIVEZ + b'\r\n0\r\n\r\n'),
    Bad('9112 6.1: chunked in HTTP/1.0', head(CHUNKED, start='GET /livez HTTP/1.0') + b'0\r\n\r\n'),
    Bad('CVE-2024-1135: unknown coding', head('Transfer-Encoding: xchunked')),
    Bad('CVE-2024-1135: chunked not last', head('Transfer-Encoding: chunked, identity') + b'0\r\n\r\n'),
    Bad('CVE-2024-1135: two codings', head('Transfer-Encoding: gzip, chunked') + b'0\r\n\r\n'),
    Bad('CVE-2024-1135: chunked twice', head(CHUNKED, CHUNKED) + b'0\r\n\r\n'),
    Bad('CVE-2024-6827: two field lines that differ', head(CHUNKED, 'Transfer-Encoding: identity') + b'0\r\n\r\n'),
    Bad('CVE-2024-6827: identity', head('Transfer-Encoding: identity')),
    Bad('CVE-2019-16786: quoted chunked', head('Transfer-Encoding: "chunked"')),
    Bad('CVE-2019-16786: empty Transfer-Encoding', head('Transfer-Encoding:')),
    Bad('CVE-2019-16786: a lone comma', head('Transfer-Encoding: ,')),
    Bad('CVE-2019-16786: parameter on chunked', head('Transfer-Encoding: chunked;a=b') + b'0\r\n\r\n'),
    Bad('CVE-2024-1135: Content-Length before Transfer-Encoding', head('Content-Length: 5', CHUNKED) + b'0\r\n\r\n'),
    Bad('CVE-2024-1135: Transfer-Encoding before Content-Length', head(CHUNKED, 'Content-Length: 5') + b'0\r\n\r\n'),
    Bad('9112 6.1: Content-Length 0 and Transfer-Encoding', head('Content-Length: 0', CHUNKED) + b'0\r\n\r\n'),
    Bad('gunicorn 26: bare CR in a chunk extension', head(CHUNKED) + b'1;a\rb\r\nx\r\n0\r\n\r\n'),
    Bad('gunicorn 26: truncated chunked body', head(CHUNKED) + b'ff\r\nx'),
    Bad('CVE-2022-24761: signed chunk size', head(CHUNKED) + b'+1\r\nx\r\n0\r\n\r\n'),
    Bad('CVE-2022-24761: chunk size with 0x', head(CHUNKED) + b'0x1\r\nx\r\n0\r\n\r\n'),
    Bad('CVE-2022-24761: chunk size with underscore', head(CHUNKED) + b'1_0\r\nx\r\n0\r\n\r\n'),
    Bad('CVE-2019-16785: chunk ended by LF', head(CHUNKED) + b'1\nx\n0\n\n'),
    Bad('9110 8.6: a body on GET', head('Content-Length: 5') + b'12345'),
    Bad('9110 8.6: a body on HEAD', head('Content-Length: 5', start='HEAD /livez HTTP/1.1') + b'12345'),
    Bad('9110 8.6: a body on POST', head('Content-Length: 5', start='POST /livez HTTP/1.1') + b'12345', (400, 405)),
    Bad('9112 11.2: a request as a body', head(f'Content-Length: {len(LIVEZ)}') + LIVEZ),
    Bad('CVE-2019-16792: two Content-Lengths', head('Content-Length: 0', 'Content-Length: 5') + b'12345'),
    Bad('CVE-2019-16792: two equal Content-Lengths', head('Content-Length: 0', 'Content-Length: 0')),
    Bad('CVE-2019-16792: Content-Length twice, other case', head('Content-Length: 0', 'content-length: 5') + b'12345'),
    Bad('gunicorn 25: Content-Length as a list', head('Content-Length: 0, 0')),
    Bad('gunicorn 25: Content-Length as a list that differs', head('Content-Length: 0, 5') + b'12345'),
    Bad('CVE-2022-24761: Content-Length +0', head('Content-Length: +0')),
    Bad('CVE-2022-24761: Content-Length -0', head('Content-Length: -0')),
    Bad('CVE-2022-24761: Content-Length 0_0', head('Content-Length: 0_0')),
    Bad('CVE-2022-24761: Content-Length 0x0', head('Content-Length: 0x0')),
    Bad('CVE-2022-24761: Content-Length in Arabic digits', head('Content-Length: ٠'.encode())),
    Bad('CVE-2022-24761: Content-Length in superscript', head('Content-Length: \xb2')),
    Bad('9110 8.6: negative Content-Length', head('Content-Length: -1')),
    Bad('9110 8.6: empty Content-Length', head('Content-Length:')),
    Bad('9110 8.6: Content-Length 0.0', head('Content-Length: 0.0')),
    Bad('9110 8.6: Content-Length 0e0', head('Content-Length: 0e0')),
    Bad('9110 8.6: Content-Length of two words', head('Content-Length: 0 0')),
    Bad('9110 8.6: Content-Length with a comment', head('Content-Length: 0;')),
    Bad('9110 8.6: Content-Length, vertical tab', head('Content-Length: \x0b0')),
    Bad('9110 8.6: Content-Length, NUL behind', head('Content-Length: 0\0')),
    Bad('9110 8.6: Content-Length beyond 32 bits', head('Content-Length: 4294967296')),
    Bad('9110 8.6: Content-Length beyond 64 bits', head('Content-Length: 18446744073709551616')),
    Bad('CVE-2020-10735: Content-Length of 5000 digits', head('Content-Length: ' + '9' * 5000), (400, 431)),
    Bad('9110 10.1.1: an unknown expectation', head('Expect: 200-maybe'), (400, 417)),
    Bad('9110 10.1.1: a body announced by 100-continue', head('Expect: 100-continue', 'Content-Length: 5'), (400, 417)),
]
MALFORMED = START_LINES + VERSIONS + TARGETS + LINE_ENDS + FIELDS + HOSTS + BODIES

MISDIRECTED = {  # well-formed, but for a name that it does not go by: DNS rebinding, CVE-2026-32632
    'another name (DNS rebinding)': host('evil.example'),
    'our name as a label': host('localhost.evil.example'),
    'our name as a suffix': host('evillocalhost'),
    'our address as a label': host('127.0.0.1.evil.example'),
    'no X-Forwarded-Host': head('X-Forwarded-Host: localhost', host='Host: evil.example'),
}

ODD_BUT_VALID = {  # what a strict server must still answer with 200
    '9110 5.1: names in lower case': head(host='host: localhost'),
    '9110 5.1: names in upper case': head(host='HOST: localhost'),
    '9112 5: no space behind the colon': head(host='Host:localhost'),
    '9112 5: white space around a value': head(host='Host: \t localhost \t '),
    '9110 5.5: an empty value': head('X-Empty:'),
    '9110 5.5: a value of white space': head('X-Empty:   \t'),
    '9110 5.5: tab inside a value': head('X-Tab: a\tb'),
    '9110 5.5: a value full of separators': head('X: ()<>@,;:\\"/[]?={}'),
    '9110 5.6.2: every token character in a name': head("x!#$%&'*+-.^`|~09Az: 1"),
    '9110 5.3: a field twice': head('Accept: text/plain', 'Accept: text/html'),
    '9110 8.6: Content-Length 0': head('Content-Length: 0'),
    '9110 7.2: Host with a port': host('localhost:5000'),
    '9110 7.2: Host in upper case': host('LOCALHOST'),
    '9110 7.2: Host by address': host('127.0.0.1'),
    '9110 7.2: Host by address and port': host('127.0.0.1:5000'),
    '9110 7.2: Host by IPv6 address': host('[::1]'),
    '9110 7.2: Host by IPv6 address and port': host('[::1]:5000'),
    '9112 2.3: HTTP/1.0': head(start='GET /livez HTTP/1.0'),
    '9112 2.3: HTTP/1.0 without Host': head(start='GET /livez HTTP/1.0', host=None),
    '9112 9.3: HTTP/1.0 with keep-alive': head('Connection: keep-alive', start='GET /livez HTTP/1.0'),
    '9110 7.6.1: Connection as a list': head('Connection: keep-alive, TE', 'TE: trailers'),
    '9110 7.6.1: Connection in upper case': head('Connection: CLOSE'),
    '9110 7.6.1: an empty Connection': head('Connection:'),
    '9110 7.8: Upgrade may be ignored': head('Connection: Upgrade', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABkAAQAAP__'),
    '3986 6.2.2: an escape for an ordinary letter': head(start='GET /%6Civez HTTP/1.1'),
    '3986 6.2.2: an escape in lower case': head(start='GET /%6civez HTTP/1.1'),
    '3986 3.4: an empty query': head(start='GET /livez? HTTP/1.1'),
    '6265: a cookie is ignored': head('Cookie: a=b; c="d'),
    '9110 11.6.2: credentials that nobody asked for': head('Authorization: Basic Og=='),
    '9110 13.1: conditions that cannot hold': head('If-None-Match: "x"', 'If-Modified-Since: never'),
    '9110 14.2: a Range on what has none': head('Range: bytes=0-0'),
    '60 field lines': head(*(f'X-{n}: 1' for n in range(60))),
    'a field line of 4 kB': head('X: ' + 'a' * 4096),
    'a HEAD': head(start='HEAD /livez HTTP/1.1'),
}


def read_all(wire: Wire) -> bytes:
    """Everything until the peer closes."""
    received = b''
    with contextlib.suppress(ConnectionResetError):
        while data := wire.socket.recv(65536):
            received += data
    return received


class MalformedRequests(Case):
    """Whatever is doubtful in a request's framing is refused, the connection closed, and nothing behind it answered."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = cls.serve_class()

    def test_each_is_refused_and_the_connection_closed(self) -> None:
        self.assertGreaterEqual(len(MALFORMED), 120)
        self.assertEqual(len({bad.rule for bad in MALFORMED}), len(MALFORMED))
        for bad in MALFORMED:
            with self.subTest(bad.rule), self.server.wire() as wire:
                wire.send(bad.data + LIVEZ)
                answer = read_all(wire)
                self.assertIn(answer[9:12], [b'%d' % code for code in bad.status], answer[:300])
                top, _, body = answer.partition(b'\r\n\r\n')
                self.assertRegex(top, rb'(?im)^Connection: close\r?$')
                if not bad.data.startswith(b'HEAD'):
                    self.assertEqual(json.loads(body)['status'], int(answer[9:12]))

    def test_each_is_refused_byte_by_byte_as_well(self) -> None:
        for bad in MALFORMED[::7]:
            with self.subTest(bad.rule), self.server.wire() as wire:
                for n in range(len(bad.data)) if len(bad.data) < 400 else ():
                    wire.send(bad.data[n:n + 1])
                wire.send((b'' if len(bad.data) < 400 else bad.data) + LIVEZ)
                self.assertIn(read_all(wire)[9:12], [b'%d' % code for code in bad.status])

    def test_odd_but_valid_ones_are_answered(self) -> None:
        self.assertGreaterEqual(len(ODD_BUT_VALID), 25)
        for rule, data in ODD_BUT_VALID.items():
            with self.subTest(rule), self.server.wire() as wire:
                wire.send(data)
                method = 'HEAD' if data.startswith(b'HEAD') else 'GET'
                reply = wire.answer(method)
                self.assertEqual((reply.status, reply.body), (200, b'' if method == 'HEAD' else b'ok\n'))

    def test_a_name_that_it_does_not_go_by_is_421(self) -> None:
        for rule, data in MISDIRECTED.items():
            with self.subTest(rule), self.server.wire() as wire:
                wire.send(data)
                self.assertProblem(wire.answer(), 421)

    def test_hosts_given_by_option_are_answered_and_no_others(self) -> None:
        server = self.serve('--allow-host', 'logs.example.org', '--allow-host', 'my_box')
        for name, status in {'logs.example.org': 200, 'LOGS.example.org:443': 200, 'my_box': 200, 'localhost': 200,
                             'example.org': 421, 'a.logs.example.org': 421, 'logs.example.org.evil': 421}.items():
            with self.subTest(name):
                self.assertEqual(server.get('/livez', {'Host': name}).status, status)

    def test_a_target_cannot_leave_the_routes(self) -> None:
        for target in words('//evil.example/ /../etc/passwd /logs/..%2f..%2fetc%2fpasswd /logs/%2e%2e '
                            '/logs//etc/passwd /% /logs/app%00 /logs/%0d%0aX:1 /logs/%zz /logs/%ff /a/b/c /x/'):
            with self.subTest(target):
                reply = self.server.get(target)
                self.assertIn(reply.status, (400, 404))
                self.assertIsNone(reply.headers['Location'])
                self.assertProblem(reply, reply.status)


@requires('h11')
class StrictClient(Case):
    """Every answer parses with h11, which refuses what RFC 9112 does not allow."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = cls.serve_class(root=plant(scratch(), {'app.log': numbered(1, 300)}))

    def parse(self, method: str, data: bytes) -> list[Any]:
        """The events that h11 sees; it raises RemoteProtocolError for what is not HTTP."""
        import h11
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=method, target='/', headers=[('Host', 'localhost'), ('Connection', 'close')]))
        client.send(h11.EndOfMessage())
        client.receive_data(data)
        client.receive_data(b'')
        events: list[Any] = []
        while not events or not isinstance(events[-1], (h11.ConnectionClosed, h11.EndOfMessage)):
            events.append(client.next_event())
        self.assertIsInstance(events[0], h11.Response)
        self.assertEqual(client.trailing_data[0], b'')
        return events

    def exchange(self, data: bytes) -> bytes:
        with self.server.wire() as wire:
            wire.send(data)
            return read_all(wire)

    def test_it_parses_every_good_answer(self) -> None:
        for target in ('/', '/livez', '/health', '/health?format=text', '/logs', '/logs/app', '/logs/app?format=ndjson',
                       '/logs/app/raw', '/nowhere', '/logs/nope', '/logs/app?n=0'):
            for method in ('GET', 'HEAD', 'POST'):
                for extra in ({}, {'Accept': 'text/html'}, {'Range': 'bytes=-10'}, {'Range': 'bytes=999999-'}):
                    with self.subTest(target, method=method, **extra):
                        answer = self.exchange(head_bytes(target, {'Connection': 'close', **extra}, method))
                        self.assertEqual(self.parse(method, answer)[0].http_version, b'1.1')

    def test_it_parses_every_refusal(self) -> None:
        for bad in MALFORMED:
            with self.subTest(bad.rule):
                self.parse('HEAD' if bad.data.startswith(b'HEAD') else 'GET', self.exchange(bad.data + b'\r\n\r\n'))


# ----------------------------------------------------------------------------------------------------------------------
# the server: connections
# ----------------------------------------------------------------------------------------------------------------------


class Connections(Case):
    """Keep-alive, pipelining, HTTP/1.0, clients that go away."""

    root: Path

    @classmethod
    def setUpClass(cls) -> None:
        cls.root = plant(scratch(), {'app.log': numbered(1, 5000), 'big.log': numbered(1, 150000, 'x' * 60)})
        cls.server = cls.serve_class(root=cls.root)

    def test_a_connection_serves_one_request_after_the_other(self) -> None:
        with self.server.wire() as wire:
            for _ in range(30):
                wire.send(LIVEZ)
                reply = wire.answer()
                self.assertEqual((reply.status, reply.body), (200, b'ok\n'))
                self.assertNotEqual(reply.headers['Connection'], 'close')

    def test_a_kept_connection_answers_without_delay(self) -> None:
        """Two writes an answer, Nagle and a delayed ACK cost 40 ms a request."""
        with self.server.wire() as wire:
            times = []
            for _ in range(30):
                began = time.monotonic()
                wire.send(LIVEZ)
                wire.answer()
                times.append(time.monotonic() - began)
        self.assertLess(statistics.median(times), 0.02)

    def test_pipelined_requests_are_answered_in_order(self) -> None:
        targets = [f'/logs/app?n={n}' for n in range(1, 21)]
        with self.server.wire() as wire:
            wire.send(b''.join(head_bytes(target) for target in targets))
            self.assertEqual([wire.answer().body.count(b'\n') for _ in targets], list(range(1, 21)))

    def test_who_pipelines_and_reads_late_gets_every_answer(self) -> None:
        """The first small answer that did not fit into the socket's buffer ended the connection."""
        server = self.serve('--access-log', 'no', root=self.root, listen=f'unix:{scratch()}/http.sock')
        with server.wire() as wire:
            wire.send(LIVEZ * 2000)     # the answers are 1 MB, the buffer is 200 kB

            def unread() -> int:
                return int.from_bytes(fcntl.ioctl(wire.socket, termios.FIONREAD, bytes(4)), sys.byteorder)

            def is_full() -> bool:
                before = unread()
                time.sleep(0.05)
                return 0 < before == unread()

            until(is_full, 'the buffer to be full')
            self.assertEqual({wire.answer().status for _ in range(2000)}, {200})

    def test_an_answer_that_is_not_taken_yet_is_not_overwritten_by_the_next(self) -> None:
        """Of a client who sends on while a worker has one of his requests, in a turn of the loop that is long."""
        long = head_bytes('/livez', {f'X-{number}': 'x' * 20 for number in range(30)})
        server = self.serve('--access-log', 'no', root=self.root, listen=f'unix:{scratch()}/http.sock')
        size = (self.root / 'big.log').stat().st_size       # a unix socket's buffer holds 200 kB of it
        before = server.descriptors() - 1                   # but the connection that asked whether it answers
        with contextlib.ExitStack() as stack:
            ours, *others = [stack.enter_context(server.wire()) for _ in range(41)]
            until(lambda: server.descriptors() >= before + 41, 'them to be accepted')
            server.process.send_signal(signal.SIGSTOP)
            ours.send(LIVEZ * 40 + head_bytes('/logs/big/raw') + long * 60)
            for other in others:
                other.send(long * 60)
            server.process.send_signal(signal.SIGCONT)
            for other in others:
                self.assertEqual({other.answer().status for _ in range(60)}, {200})
            self.assertEqual([len(ours.answer().body) for _ in range(101)], [3] * 40 + [size] + [3] * 60)
        until(lambda: server.descriptors() <= before + 1, 'its descriptors closed')

    def test_a_request_may_arrive_in_pieces(self) -> None:
        with self.server.wire() as wire:
            for n in range(len(LIVEZ)):
                wire.send(LIVEZ[n:n + 1])
            self.assertEqual(wire.answer().status, 200)
            wire.send(LIVEZ + LIVEZ[:7])
            self.assertEqual(wire.answer().status, 200)
            wire.send(LIVEZ[7:])
            self.assertEqual(wire.answer().status, 200)

    def test_nothing_behind_a_refused_request_is_answered(self) -> None:
        with self.server.wire() as wire:
            wire.send(LIVEZ + head('Content-Length: 5') + b'12345' + LIVEZ)
            self.assertEqual([wire.answer().status, wire.answer().status], [200, 400])
            self.assertTrue(wire.at_end())

    def test_a_head_request_leaves_the_connection_in_step(self) -> None:
        with self.server.wire() as wire:
            wire.send(head_bytes('/logs/app', method='HEAD') + LIVEZ)
            self.assertEqual(wire.answer('HEAD').status, 200)
            self.assertEqual(wire.answer().body, b'ok\n')

    def test_errors_of_the_application_keep_the_connection(self) -> None:
        with self.server.wire() as wire:
            for target, status in {'/nowhere': 404, '/logs/app?n=0': 400, '/logs/nope': 404, '/livez': 200}.items():
                wire.send(head_bytes(target))
                self.assertEqual(wire.answer().status, status)

    def test_close_is_honoured_and_said(self) -> None:
        for data in (head('Connection: close'), head('Connection: TE, CLOSE'), head(start='GET /livez HTTP/1.0'),
                     head('Connection: close, keep-alive', start='GET /livez HTTP/1.0')):
            with self.subTest(data), self.server.wire() as wire:
                wire.send(data)
                self.assertEqual(wire.answer().headers['Connection'], 'close')
                self.assertTrue(wire.at_end())

    def test_half_a_request_and_a_close_is_nothing(self) -> None:
        for data in (b'', b'GET', LIVEZ[:-2], LIVEZ + b'GET /li'):
            with self.subTest(data), self.server.wire() as wire:
                wire.send(data)
                wire.socket.shutdown(socket.SHUT_WR)
                self.assertEqual(read_all(wire).count(b'200 OK'), data.count(LIVEZ))

    def test_an_overlong_value_is_a_problem_of_that_parameter(self) -> None:
        self.assertProblem(self.server.get('/logs/app?after=' + 'A' * 5000), 400, 'after')

    def test_a_client_that_vanishes_prints_nothing(self) -> None:
        for target in ('/livez', '/logs/app?n=5000', '/logs/big/raw', '/logs/big?n=10000'):
            for _ in range(5):
                wire = self.server.wire()
                wire.send(head_bytes(target))
                wire.vanish()
                wire = self.server.wire()
                wire.send(head_bytes(target))
                wire.socket.recv(1)
                wire.vanish()
        self.assertEqual(self.server.get('/livez').status, 200)
        self.assertEqual(self.server.complaints(), [])

    def test_readers_that_take_nothing_in_delay_nobody(self) -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(12):
                wire = stack.enter_context(self.server.wire())
                wire.send(head_bytes('/logs/big/raw'))
            for target, seconds in {'/livez': 0.05, '/health': 0.5, '/logs/app?n=1': 0.5}.items():
                with self.subTest(target):
                    times = []
                    for _ in range(5):
                        began = time.monotonic()
                        self.assertEqual(self.server.get(target).status, 200)
                        times.append(time.monotonic() - began)
                    self.assertLess(statistics.median(times), seconds)

    def test_clients_gone_before_they_are_accepted_cost_nothing(self) -> None:
        """waitress CVE-2022-31015 and CVE-2024-49769: such a socket must neither stop nor spin the loop."""
        for _ in range(200):
            self.server.wire().vanish()
        self.assertEqual(self.server.get('/livez').status, 200)
        spent, began = self.server.cpu_seconds(), time.monotonic()
        until(lambda: time.monotonic() > began + 0.5, 'half a second')
        self.assertLess(self.server.cpu_seconds() - spent, 0.1)

    def test_a_flood_of_pipelined_requests_is_taken_in_no_faster_than_answered(self) -> None:
        flood, memory = LIVEZ * 20000, self.server.status('VmRSS')
        with self.server.wire() as wire:
            sender = threading.Thread(target=wire.send, args=(flood,))
            sender.start()
            for _ in range(20000):
                if wire.answer().status != 200:
                    self.fail('not answered')
            sender.join()
        self.assertLess(self.server.status('VmRSS') - memory, 8000, 'kB')

    def test_a_stderr_that_nobody_reads_stops_nothing(self) -> None:
        """journald may hang on its disk: that is a socket which takes 276 lines."""
        out, end = socket.socketpair()
        with out, end:
            process = subprocess.Popen([sys.executable, '-I', str(PROGRAM), '--listen', '127.0.0.1:0', '--log-root',
                                        str(scratch())], stdin=subprocess.DEVNULL, stderr=end.fileno())
            try:
                match = until(lambda: READY_LINE.search(out.recv(65536, socket.MSG_PEEK).decode()), 'the ready line')
                assert match
                with Wire(('127.0.0.1', int(match[2]))) as wire:
                    for _ in range(3000):
                        wire.send(LIVEZ)
                        self.assertEqual(wire.answer().status, 200)
            finally:
                process.kill()
                process.wait()

    def test_no_descriptor_leaks(self) -> None:
        def count() -> int:
            return len(os.listdir(f'/proc/{self.server.process.pid}/fd'))

        for target in ('/logs/app', '/health'):     # which keeps the files of /proc that it reads open
            self.server.get(target)
        before = count()
        for n in range(100):
            self.server.get(('/logs/app', '/logs/big/raw', '/health', '/logs', '/nowhere')[n % 5])
        until(lambda: count() <= before + 2, 'its descriptors closed')


class Deadlines(Case):
    """Time and numbers are bounded: per head, per idle connection, per process."""

    def test_300_dribbling_connections_delay_nobody_and_are_cut(self) -> None:
        server = self.serve()
        threads_before = server.status('Threads')
        opened = time.monotonic()
        wires = [server.wire() for _ in range(300)]
        for wire in wires:
            wire.send(b'GET /livez HTTP/1.1\r\nHost: localhost\r\nX: ')
        alive, latencies, threads = set(wires), [], 0
        next_byte = opened
        while alive and time.monotonic() < opened + logwatch.HEADER_SECONDS + 5:
            if time.monotonic() >= next_byte:
                next_byte += 1
                alive -= {wire for wire in alive if self.dribble(wire)}
            began = time.monotonic()
            self.assertEqual(server.get('/livez').status, 200)
            latencies.append(time.monotonic() - began)
            threads = max(threads, server.status('Threads'))
            time.sleep(0.1)  # the load that the claim is about, not a wait for anything
        self.assertEqual(len(alive), 0, 'dribblers that outlived the deadline')
        self.assertLess(statistics.median(latencies), 0.05)
        self.assertLess(max(latencies), 0.5)
        self.assertLessEqual(threads, threads_before + 8)
        for wire in wires:
            wire.close()

    def dribble(self, wire: Wire) -> bool:
        """Send one byte more; whether the server has closed."""
        wire.send(b'x')
        wire.socket.setblocking(False)
        try:
            return wire.socket.recv(65536) == b''
        except BlockingIOError:
            return False
        except OSError:
            return True

    def test_a_dribbler_is_told_why_or_just_cut(self) -> None:
        server = self.serve(constants={'HEADER_SECONDS': 1.0})
        began = time.monotonic()
        with server.wire() as wire:
            wire.send(b'GET /livez HTTP/1.1\r\n')
            answer = read_all(wire)
        self.assertIn(answer[9:12], (b'', b'408'))
        self.assertTrue(0.9 < time.monotonic() - began < 3)

    def test_the_head_deadline_is_a_total_for_each_request_of_a_connection(self) -> None:
        server = self.serve(constants={'HEADER_SECONDS': 1.0})
        with server.wire() as wire:
            wire.send(LIVEZ)
            self.assertEqual(wire.answer().status, 200)
            began = time.monotonic()
            wire.send(LIVEZ[:-2])
            self.assertIn(read_all(wire)[9:12], (b'', b'408'))
        self.assertLess(time.monotonic() - began, 3)

    def test_an_idle_connection_is_closed_in_silence(self) -> None:
        server = self.serve(constants={'IDLE_SECONDS': 1.0})
        with server.wire() as wire:
            wire.send(LIVEZ)
            self.assertEqual(wire.answer().status, 200)
            began = time.monotonic()
            self.assertEqual(read_all(wire), b'')
        self.assertTrue(0.5 < time.monotonic() - began < 3)

    def test_without_descriptors_it_pauses_and_recovers(self) -> None:
        server = self.serve()
        used = len(os.listdir(f'/proc/{server.process.pid}/fd'))
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (used + 8, used + 8))
        wires = [server.wire() for _ in range(40)]
        spent, began = server.cpu_seconds(), time.monotonic()
        until(lambda: time.monotonic() > began + 1.5, 'a second and a half of EMFILE')
        self.assertLess(server.cpu_seconds() - spent, 0.2)
        for wire in wires:
            wire.close()
        until(lambda: answers_livez(server.address), 'answers again')
        self.assertEqual([line for line in server.complaints() if 'Traceback' in line], [])

    def test_a_log_without_descriptors_left_is_a_problem_not_a_crash(self) -> None:
        server = self.serve(root=plant(scratch(), {'app.log': numbered(1, 10)}))
        with server.wire() as wire:
            wire.send(LIVEZ)
            wire.answer()
            with server.limited(resource.RLIMIT_NOFILE, server.descriptors()):
                wire.send(head_bytes('/logs/app'))
                self.assertProblem(wire.answer(), 503)
        until(lambda: server.get('/logs/app').status == 200, 'answers again')

    def test_without_descriptors_an_answer_under_way_goes_on(self) -> None:
        """What makes room is silent: a client that is slow to take its answer is not."""
        server = self.serve(root=plant(scratch(), {'big.log': numbered(1, 150000, 'x' * 60)}))
        with server.wire() as slow:
            slow.send(head_bytes('/logs/big/raw'))
            until(lambda: ' 200 ' in slow.socket.recv(64, socket.MSG_PEEK).decode('latin-1'), 'the first of it')
            until(lambda: answers_livez(server.address), 'a loop that has it back from its worker')
            with server.limited(resource.RLIMIT_NOFILE, server.descriptors() + 1):
                wires = [server.wire() for _ in range(20)]
                began = time.monotonic()
                until(lambda: time.monotonic() > began + 1.5, 'a second and a half of EMFILE')
            self.assertEqual(len(slow.answer().body), (server.root / 'big.log').stat().st_size)
        for wire in wires:
            wire.close()

    def test_a_stream_that_no_thread_could_be_started_for_is_given_back_once(self) -> None:
        config = logwatch.load_config({'log-root': [str(scratch())], 'access-log': ['no']}, {})
        server = logwatch.Server(lambda: logwatch.Application(config), [], logwatch.Notifier({}))
        for thing in (server._epoll, server._wake_in, server._wake_out):
            self.addCleanup(thing.close)
        work = mock.Mock(return_value=logwatch.reply('text', b''))
        for start in (RuntimeError("can't start new thread"), None):
            with contextlib.ExitStack() as stack:
                ours, theirs = map(stack.enter_context, socket.socketpair())
                connection = logwatch.Connection(ours, 'unix', time.monotonic())
                server._connections[ours.fileno()] = connection
                server._epoll.register(ours.fileno())
                if start:
                    stack.enter_context(mock.patch('threading.Thread.start', side_effect=start))
                connection.keep, connection.streams = False, True
                connection.sending = logwatch.Sending(logwatch.Call(work, True), 'unix', 'GET /', False, 0.0)
                server._lend(connection)
                until(lambda: server._done, 'the connection to be given back')  # noqa: B023 (called at once)
                server._turn()
                self.assertEqual(theirs.recv(12), b'' if start else b'HTTP/1.1 200')
        self.assertEqual((work.call_count, server._connections), (1, {}))

    def test_a_file_that_cannot_be_read_after_all_is_closed(self) -> None:
        """Truncated since it was opened, or no memory for what comes next."""
        root = plant(scratch(), {'app.log': 'text\n', 'old.log.gz': 'text\n'})
        application = make_application('--log-root', str(root))
        for name, trouble, target in (('Plain', logwatch.Moved('app.log'), '/logs/app'),
                                      ('Plain', MemoryError, '/logs/app'), ('Packed', MemoryError, '/logs/old'),
                                      ('file_response', MemoryError, '/logs/app/raw')):
            with self.subTest(name, trouble=trouble), mock.patch.object(logwatch, name, side_effect=trouble):
                before = os.listdir('/proc/self/fd')
                self.assertProblem(call(application, target), 503)
                self.assertEqual(os.listdir('/proc/self/fd'), before)

    def test_a_request_that_no_thread_can_be_started_for_waits_for_a_worker(self) -> None:
        server = self.serve('--rate', '0', root=plant(scratch(), {'app.log': numbered(1, 9)}))
        server.get('/logs/app')
        used = server.status('Threads')
        with (server.limited(resource.RLIMIT_DATA, 1024 * (server.status('VmData') + 4096)),
              concurrent.futures.ThreadPoolExecutor(6) as pool):      # a thread's stack is 8 MiB
            replies = list(pool.map(lambda _: server.get('/logs/app?n=3'), range(30)))
        self.assertEqual(({reply.status for reply in replies}, server.status('Threads')), ({200}, used))

    def test_what_is_our_want_is_503_and_what_is_our_defect_500(self) -> None:
        for error, status in ((MemoryError(), 503), (RuntimeError("can't start new thread"), 503),
                              (OSError(errno.EAGAIN, 'fork'), 503), (OSError(errno.EMFILE, 'files'), 503),
                              (OSError(errno.EIO, 'disk'), 500), (RuntimeError('other'), 500), (KeyError('x'), 500)):
            with self.subTest(error), mock.patch('os.write'), mock.patch.object(
                    logwatch.Site, 'verdict', side_effect=error):
                reply = call(make_application(), '/health')
                self.assertProblem(reply, status)
                self.assertEqual(bool(reply.headers['Retry-After']), status == 503 or isinstance(error, OSError))

    def test_connections_beyond_the_cap_do_not_shut_out_the_rest_for_ever(self) -> None:
        server = self.serve(constants={'HEADER_SECONDS': 1.0, 'CONNECTIONS_MAX': 20})
        wires = [server.wire() for _ in range(60)]
        until(lambda: answers_livez(server.address), 'a connection freed by the deadline')
        for wire in wires:
            wire.close()

    def test_who_has_just_asked_gives_way_to_nobody(self) -> None:
        """The place of one that was closed went to the new client, with what was told of the old one."""
        server = self.serve(constants={'CONNECTIONS_MAX': 2})
        with contextlib.ExitStack() as stack:
            kept = [stack.enter_context(server.wire()) for _ in range(2)]
            for wire in kept:
                wire.send(LIVEZ)
                self.assertEqual(wire.answer().status, 200)
            server.process.send_signal(signal.SIGSTOP)
            new = stack.enter_context(server.wire())
            for wire in (new, kept[0]):
                wire.send(LIVEZ)
            server.process.send_signal(signal.SIGCONT)
            self.assertEqual([wire.answer().status for wire in (kept[0], new)], [200, 200])
            self.assertTrue(kept[1].at_end())

    def test_connections_kept_open_at_the_cap_give_way_to_new_ones(self) -> None:
        """A new one has less time left than one kept open, and was what gave way to the next new one."""
        server = self.serve(constants={'CONNECTIONS_MAX': 20})
        kept = [server.wire() for _ in range(20)]
        for wire in kept:
            wire.send(LIVEZ)
            self.assertEqual(wire.answer().status, 200)
        new = [server.wire() for _ in range(10)]
        for wire in new:
            wire.send(LIVEZ)
            self.assertEqual(wire.answer().status, 200)
        for wire in kept + new:
            wire.close()


@requires('slowhttptest')
class SlowClients(Case):
    """More slow connections than the server admits, by slowhttptest's four ways, shut nobody out and leave nothing."""

    SECONDS = 5  # that an answer may take meanwhile: generous, as the tool, the server and this share a machine
    CONNECTIONS_MAX, CONNECTIONS = 256, 400  # fewer than there really are, as the tool is slow on a busy machine
    root: Path

    @classmethod
    def setUpClass(cls) -> None:
        cls.root = plant(scratch(), {'app.log': numbered(1, 100), 'big.log': numbered(1, 40000, 'x' * 60)})

    def weight(self, server: Server) -> tuple[int, int]:
        """Its threads, of which workers stay once they were begun, and its descriptors."""
        return server.status('Threads'), len(os.listdir(f'/proc/{server.process.pid}/fd'))

    def attack(self, target: str, *arguments: str) -> None:
        """The tool, from 127.0.0.1 and asking for the same target as its probe, beside a client from another address.

        Its probe takes any answer for available, and this client only 200.
        """
        server = self.serve('--access-log', 'no', root=self.root,
                            constants={'CONNECTIONS_MAX': self.CONNECTIONS_MAX})
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda n: fetch(server.address, '/logs/big?n=9000', source=f'127.0.0.{2 + n % 4}'),
                          range(32)))
        until(lambda: server.status('Threads') == 9, 'the loop and all workers')
        before = self.weight(server)
        report = scratch() / 'report'
        waits = []
        with open(f'{report}.txt', 'wb') as said, subprocess.Popen(
                ['slowhttptest', *arguments, '-u', f'http://{server.address[0]}:{server.address[1]}{target}',
                 '-c', str(self.CONNECTIONS), '-r', '200', '-l', '10', '-p', str(self.SECONDS), '-v', '1',
                 '-g', '-o', str(report)],
                stdin=subprocess.DEVNULL, stdout=said, stderr=said) as tool:
            self.addCleanup(tool.kill)
            while tool.poll() is None:
                for path in ('/livez', '/logs/app?n=1'):
                    began = time.monotonic()
                    self.assertEqual(fetch(server.address, path, source='127.0.0.2').status, 200)
                    waits.append(time.monotonic() - began)
                time.sleep(0.02)
        rows = list(csv.DictReader(Path(f'{report}.csv').read_text().splitlines()))
        self.assertGreater(sum(int(rows[-1][name]) for name in ('Closed', 'Connected')), self.CONNECTIONS_MAX)
        self.assertNotIn('0', [row['Service Available'] for row in rows], Path(f'{report}.txt').read_text())
        self.assertLess(max(waits), self.SECONDS)
        until(lambda: self.weight(server) <= before, f'the threads and descriptors of before: {before}')

    def test_slow_headers(self) -> None:
        self.attack('/livez', '-H', '-i', '2')

    def test_slow_bodies(self) -> None:
        self.attack('/livez', '-B', '-i', '2')

    def test_slow_readers(self) -> None:
        """Of more than a socket's buffer holds, asked for thrice on each connection."""
        self.attack('/logs/big/raw', '-X', '-k', '3', '-w', '10', '-y', '20', '-n', '1', '-z', '32')

    def test_many_ranges(self) -> None:
        """Hundreds of overlapping ones in a request (CVE-2011-3192)."""
        self.attack('/logs/app/raw', '-R', '-t', 'GET', '-b', '2000')


class AccessLog(Case):
    """One line a request on stderr, which cannot be forged and gives no secret away."""

    def lines(self, server: Server, count: int) -> list[str]:
        return until(lambda: (lines := server.spoken()[1]) and len(lines) >= count and lines or [], f'{count} lines')

    def test_a_request_is_one_line_without_its_query(self) -> None:
        server = self.serve(root=plant(scratch(), {'app.log': numbered(1, 5)}))
        base = len(self.lines(server, 1))
        server.get('/logs/app?n=3', {'Authorization': 'Bearer hunter2', 'Cookie': 'hunter2', 'Referer': 'hunter2'})
        server.get('/logs/app?token=hunter2')
        server.get('/logs/app?n=3', method='HEAD')
        lines = ' '.join(self.lines(server, base + 3)[base:])       # a worker writes its own when it is through
        self.assertEqual(sorted(re.findall(r"'(GET|HEAD) /logs/app' (\d+) ", lines)),
                         [('GET', '200'), ('GET', '400'), ('HEAD', '200')])
        self.assertNotIn('hunter2', server.stderr())

    def test_it_can_be_switched_off(self) -> None:
        server = self.serve('--access-log', 'no')
        for target in ('/livez', '/nowhere', '/logs'):
            server.get(target)
        server.stop()
        self.assertEqual(server.spoken()[1], [])

    def test_a_line_cannot_be_forged_and_is_capped(self) -> None:
        server = self.serve()
        base = len(self.lines(server, 1))
        server.get('/%0a127.0.0.1%20GET%1b[31m%c2%9b31m%e2%80%ae%22%20200')
        server.get('/' + 'a' * 3000)
        with server.wire() as wire:
            wire.send(start(b'GET /\x1b[31m\xff\n127.0.0.1 - "GET / HTTP/1.1" 200'))
            read_all(wire)
        lines = self.lines(server, base + 3)[base:]
        self.assertEqual(len(lines), 3)
        for line in lines:
            self.assertTrue(line.isascii() and line.isprintable(), line)
            self.assertLessEqual(len(line), 400)


# ----------------------------------------------------------------------------------------------------------------------
# the server: sockets, signals, the service manager
# ----------------------------------------------------------------------------------------------------------------------


def run_program(*argv: str, seconds: float = 20, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run logwatch.py to its end."""
    return subprocess.run([sys.executable, '-I', str(PROGRAM), *argv], check=False, stdin=subprocess.DEVNULL, text=True,
                          capture_output=True, timeout=seconds, env=clean_environment(environ), cwd='/')


class Sockets(Case):
    """Where it listens, and what it takes over."""

    def test_a_unix_socket_is_for_its_owner_and_group(self) -> None:
        path = scratch() / 'http.sock'
        server = self.serve(listen=f'unix:{path}')
        self.assertEqual(path.stat().st_mode & 0o7777, 0o660)
        self.assertEqual(server.get('/livez').body, b'ok\n')

    def test_a_stale_unix_socket_is_replaced(self) -> None:
        path = scratch() / 'http.sock'
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
        self.assertEqual(self.serve(listen=f'unix:{path}').get('/livez').status, 200)

    def test_a_killed_servers_unix_socket_is_replaced(self) -> None:
        path = scratch() / 'http.sock'
        Server(listen=f'unix:{path}').kill()
        self.assertTrue(path.is_socket())
        self.assertEqual(self.serve(listen=f'unix:{path}').get('/livez').status, 200)

    def test_a_live_unix_socket_is_not_stolen(self) -> None:
        path = scratch() / 'http.sock'
        server = self.serve(listen=f'unix:{path}')
        second = run_program('--listen', f'unix:{path}')
        self.assertEqual(second.returncode, 1, 'not 2: that would keep the service down for good')
        self.assertIn(str(path), second.stderr)
        self.assertNotIn('Traceback', second.stderr)
        self.assertEqual(server.get('/livez').status, 200)

    def test_a_file_in_the_place_of_the_socket_is_left_alone(self) -> None:
        path = plant(scratch(), {'precious': 'data'}) / 'precious'
        done = run_program('--listen', f'unix:{path}')
        self.assertNotEqual(done.returncode, 0)
        self.assertNotIn('Traceback', done.stderr)
        self.assertEqual(path.read_text(), 'data')

    def test_a_taken_port_is_said_in_one_line(self) -> None:
        server = self.serve()
        done = run_program('--listen', '{}:{}'.format(*server.address))
        self.assertNotEqual(done.returncode, 0)
        self.assertIn('in use', done.stderr.splitlines()[-1])
        self.assertNotIn('Traceback', done.stderr)

    def test_a_port_can_be_used_again_at_once(self) -> None:
        server = self.serve()
        listen = '{}:{}'.format(*server.address)
        with server.wire() as wire:
            wire.send(LIVEZ)
            wire.answer()
            server.stop()  # the server closes first, so the connection lingers in TIME_WAIT
        self.assertEqual(self.serve(listen=listen).get('/livez').status, 200)

    def test_places_to_listen_that_are_none_are_refused(self) -> None:
        places = words('5000 localhost 127.0.0.1: 127.0.0.1:x 127.0.0.1:70000 127.0.0.1:-1 127.0.0.1:+80 unix: [::1] '
                       'unix:/nonexistent/dir/sock 256.0.0.1:80')
        for listen in (*places, 'unix:/' + 'x' * 200):
            with self.subTest(listen):
                done = run_program('--listen', listen)
                self.assertNotEqual(done.returncode, 0)
                self.assertTrue(done.stderr.strip())
                self.assertNotIn('Traceback', done.stderr)

    def test_a_name_that_is_none_is_refused_with_a_token_too(self) -> None:
        token = f'[token a]\ndigest = {"0" * 64}\n'
        ini = plant(scratch(), {'x.ini': token}) / 'x.ini'
        done = run_program('--config', str(ini), '--listen', 'a..b:80')
        self.assertEqual((done.returncode, done.stderr.splitlines()[-1]),
                         (1, 'logwatch: listen: a..b:80: no name of a host'))

    def test_an_address_that_others_can_reach_is_refused_without_a_token(self) -> None:
        for listen in ('0.0.0.0:0', '[::]:0', '192.0.2.1:0'):
            with self.subTest(listen):
                done = run_program('--listen', listen)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn(listen, done.stderr)

    def test_an_inherited_tcp_socket_is_served(self) -> None:
        with socket.create_server(('127.0.0.1', 0)) as listener:
            server = self.serve(inherit=listener)
            self.assertEqual(fetch(listener.getsockname(), '/livez').status, 200)
            self.assertEqual(server.address, listener.getsockname())

    def test_an_inherited_unix_socket_is_served_and_its_file_left(self) -> None:
        path = scratch() / 'http.sock'
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            server = self.serve(inherit=listener)
            self.assertEqual(fetch(str(path), '/livez').status, 200)
            server.stop()
        self.assertTrue(path.is_socket())

    def test_sockets_meant_for_another_process_are_ignored(self) -> None:
        server = self.serve(environ={'LISTEN_FDS': '1', 'LISTEN_PID': '1'})
        self.assertEqual(server.get('/livez').status, 200)

    @requires('systemd-socket-activate')
    def test_systemd_can_start_it_by_a_connection(self) -> None:
        path = scratch() / 'http.sock'
        tool = str(find_tool('systemd-socket-activate'))
        command = [tool, '-l', str(path), sys.executable, '-I', str(PROGRAM), '--log-root', str(path.parent)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=clean_environment())
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        until(lambda: path.is_socket(), 'the socket of systemd-socket-activate')
        until(lambda: answers_livez(str(path)), '/livez')

    @requires('root')
    def test_started_as_root_it_warns_who_can_read_what(self) -> None:
        server = self.serve()
        said = '\n'.join(server.spoken()[0])
        self.assertIn('root', said)
        self.assertRegex(said, r'(?i)every local user')

    @requires('root')
    def test_started_as_an_ordinary_user_it_does_not_warn(self) -> None:
        server = self.serve(user=NOBODY, constants={})
        self.assertEqual(server.spoken()[0], [])
        self.assertEqual(server.status('Uid'), NOBODY)


class Notified:
    """A service manager's notification socket."""

    def __init__(self, abstract: bool = False) -> None:
        self.name = f'@logwatch-test-{os.getpid()}-{id(self)}' if abstract else str(scratch() / 'notify')
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.name.replace('@', '\0'))
        self.socket.setblocking(False)
        self.messages: list[str] = []
        self.descriptors: list[int] = []

    def heard(self, word: str) -> list[str]:
        """The messages so far that have a line starting with word."""
        with contextlib.suppress(BlockingIOError):
            while True:
                data, fds, _, _ = socket.recv_fds(self.socket, 4096, 8)
                self.messages.append(data.decode())
                self.descriptors += fds
        return [message for message in self.messages if any(line.startswith(word) for line in message.splitlines())]

    def close(self) -> None:
        self.socket.close()
        for fd in self.descriptors:
            os.close(fd)


class ServiceManager(Case):
    """sd_notify: READY, WATCHDOG, STOPPING, and the listening socket kept for the next start."""

    def notified(self, **how: Any) -> Notified:
        notified = Notified(**how)
        self.addCleanup(notified.close)
        return notified

    def test_it_says_ready_when_it_serves_and_stopping_when_it_ends(self) -> None:
        for abstract in (False, True):
            with self.subTest(abstract=abstract):
                notified = self.notified(abstract=abstract)
                server = self.serve(environ={'NOTIFY_SOCKET': notified.name})
                self.assertEqual(len(notified.heard('READY=1')), 1)
                self.assertEqual(notified.heard('STOPPING=1'), [])
                server.stop()
                self.assertEqual(len(notified.heard('STOPPING=1')), 1)
                self.assertEqual(notified.heard('WATCHDOG=1'), [])

    def test_systemctl_status_says_how_a_reload_went(self) -> None:
        notified, ini = self.notified(), plant(scratch(), {'x.ini': '[logwatch]\n'}) / 'x.ini'
        server = Server('--config', str(ini), environ={'NOTIFY_SOCKET': notified.name})
        self.addCleanup(server.stop, 'configuration')
        for text, said in (('lgo = 1', f'configuration not reread, the old one stays: {ini}: lgo is unknown'),
                           ('rate = 5', 'configuration reread')):
            ini.write_text(f'[logwatch]\n{text}\n')
            server.process.send_signal(signal.SIGHUP)
            message, = until(lambda said=said: notified.heard(f'STATUS={said}'), said)      # type: ignore[misc]
            self.assertTrue(message.startswith('READY=1\n'))

    def test_it_beats_the_watchdog_at_least_twice_a_period(self) -> None:
        notified = self.notified()
        self.serve(environ={'NOTIFY_SOCKET': notified.name, 'WATCHDOG_USEC': '600000'})
        began = time.monotonic()
        until(lambda: len(notified.heard('WATCHDOG=1')) >= 6, 'six heartbeats')
        self.assertLess(time.monotonic() - began, 2.4)

    def test_it_does_not_beat_for_another_process(self) -> None:
        notified = self.notified()
        server = self.serve(environ={'NOTIFY_SOCKET': notified.name, 'WATCHDOG_USEC': '100000', 'WATCHDOG_PID': '1'})
        server.stop()
        self.assertEqual(notified.heard('WATCHDOG=1'), [])

    def test_the_heartbeat_is_the_accept_loops_own(self) -> None:
        """There is no thread beside it and a worker, so nothing else can beat on while the loop hangs."""
        notified = self.notified()
        server = self.serve(environ={'NOTIFY_SOCKET': notified.name, 'WATCHDOG_USEC': '200000'})
        until(lambda: notified.heard('WATCHDOG=1'), 'a heartbeat')
        self.assertEqual(server.status('Threads'), 1 + 1)

    def test_a_missing_notification_socket_stops_nothing(self) -> None:
        server = self.serve(environ={'NOTIFY_SOCKET': '/nonexistent/notify', 'WATCHDOG_USEC': 'soon'})
        self.assertEqual(server.get('/livez').status, 200)

    def test_a_want_of_descriptors_at_a_heartbeat_stops_nothing(self) -> None:
        notified = self.notified()
        notifier = logwatch.Notifier({'NOTIFY_SOCKET': notified.name})
        with mock.patch('socket.socket', side_effect=OSError(errno.EMFILE, os.strerror(errno.EMFILE))):
            notifier.notify('WATCHDOG=1')
        self.assertEqual(notified.heard('WATCHDOG=1'), [])

    def test_the_stored_socket_carries_requests_over_a_crash(self) -> None:
        for listen in ('127.0.0.1:0', f'unix:{scratch() / "http.sock"}'):
            with self.subTest(listen):
                notified = self.notified()
                first = Server(listen=listen, environ={'NOTIFY_SOCKET': notified.name})
                self.assertEqual(len(notified.heard('FDSTORE=1')), 1)
                self.assertTrue(notified.heard('FDNAME='))
                self.assertEqual(len(notified.descriptors), 1)
                first.kill()
                with Wire(first.address) as wire, socket.socket(fileno=os.dup(notified.descriptors[0])) as stored:
                    wire.send(LIVEZ)  # nobody serves now: the kernel keeps it
                    second = self.serve(inherit=stored)
                    self.assertEqual(wire.answer().body, b'ok\n')
                    self.assertEqual(second.address, first.address)


class Signals(Case):
    """SIGTERM drains, SIGHUP rereads."""

    def test_sigterm_lets_an_answer_in_flight_end(self) -> None:
        root = plant(scratch(), {'big.log': numbered(1, 100000, 'x' * 60)})
        size = (root / 'big.log').stat().st_size
        server = self.serve(root=root)
        with server.wire() as wire:
            wire.send(head_bytes('/logs/big/raw'))
            self.assertTrue(wire.socket.recv(1, socket.MSG_PEEK))
            server.process.send_signal(signal.SIGTERM)
            until(lambda: not answers_livez(server.address), 'accepting stopped')
            reply = wire.answer()
        self.assertEqual(len(reply.body), size)
        self.assertEqual(server.process.wait(PATIENCE), 0)

    def test_sigterm_does_not_wait_for_idle_connections(self) -> None:
        server = self.serve()
        with server.wire() as idle, server.wire() as fresh:
            idle.send(LIVEZ)
            idle.answer()
            began = time.monotonic()
            server.stop()
            self.assertLess(time.monotonic() - began, 3)
            self.assertTrue(idle.at_end() and fresh.at_end())

    def test_sigterm_does_not_wait_for_ever(self) -> None:
        root = plant(scratch(), {'big.log': numbered(1, 100000, 'x' * 60)})
        server = self.serve(root=root, constants={'DRAIN_SECONDS': 1.0})
        with server.wire() as wire:
            wire.send(head_bytes('/logs/big/raw'))
            self.assertTrue(wire.socket.recv(1))
            began = time.monotonic()
            server.stop()
            self.assertLess(time.monotonic() - began, 4)

    def test_a_reload_behind_sigterm_lets_the_end_be(self) -> None:
        """A stream begun meanwhile was of the new application, which did not know of the end: 8 s."""
        server = Server(root=plant(scratch(), {'app.log': 'x\n'}))
        self.addCleanup(server.stop)
        with server.wire() as kept:
            kept.send(LIVEZ)
            kept.answer()
            server.process.send_signal(signal.SIGTERM)
            until(lambda: not answers_livez(server.address), 'accepting stopped')
            server.process.send_signal(signal.SIGHUP)
            kept.send(head_bytes('/logs/app?follow=1'))
            self.assertEqual(server.process.wait(3), 0)
        self.assertNotIn('reread', server.stderr())

    def test_a_reload_leaves_no_thread_behind(self) -> None:
        server = Server('--workers', '1')       # a pool of more may grow by itself
        self.addCleanup(server.stop, 'configuration reread')
        server.get('/health')
        before = server.status('Threads')
        for count in range(1, 4):
            server.process.send_signal(signal.SIGHUP)
            until(lambda count=count: server.stderr().count('reread') == count, 'the reload')  # type: ignore[misc]
            server.get('/health')
        self.assertEqual(server.status('Threads'), before)

    def test_a_reload_leaves_no_descriptor_behind(self) -> None:
        """What the old site had of /proc stayed open until a garbage collection: 61 to 574, of LimitNOFILE=1024."""
        server = Server('--workers', '1', root=plant(scratch(), {'app.log': 'x\n'}))
        self.addCleanup(server.stop, 'configuration reread')
        held = []
        for count in range(1, 7):
            for target in ('/metrics', '/health', '/logs', '/logs/app', '/logs/nope'):
                with server.wire() as wire:
                    wire.send(head_bytes(target))
                    self.assertIn(b'HTTP/1.1 ', wire.file.readline())
            server.process.send_signal(signal.SIGHUP)
            until(lambda count=count: server.stderr().count('reread') == count, 'the reload')  # type: ignore[misc]
            self.assertEqual(server.get('/metrics').status, 200)
            held.append(server.descriptors())
        self.assertLess(max(held) - min(held), 18, held)        # as many as one scrape opens

    def test_sigint_ends_it_as_well(self) -> None:
        server = self.serve()
        server.process.send_signal(signal.SIGINT)
        self.assertEqual(server.process.wait(PATIENCE), 0)

    def test_sighup_rereads_the_configuration(self) -> None:
        root = plant(scratch(), {'one.log': 'a\n', 'two.log': 'b\n'})
        ini = root / 'logwatch.ini'
        ini.write_text(f'[logwatch]\nlog = first={root}/one.log\n')
        server = Server('--config', str(ini), root=root)
        self.addCleanup(server.stop, 'configuration')
        self.assertEqual(server.get('/logs/first').body, b'a\n')
        ini.write_text(f'[logwatch]\nlog = second={root}/two.log\n')
        with server.wire() as kept:
            kept.send(LIVEZ)
            kept.answer()
            server.process.send_signal(signal.SIGHUP)
            until(lambda: server.get('/logs/second').status == 200, 'the new configuration')
            kept.send(LIVEZ)
            self.assertEqual(kept.answer().status, 200)
        self.assertEqual(server.get('/logs/first').status, 404)

    def await_complaint(self, server: Server, count: int) -> None:
        until(lambda: len(server.complaints()) > count, 'the reason on stderr')

    def test_sighup_with_a_bad_configuration_keeps_the_old_and_says_why(self) -> None:
        root = plant(scratch(), {'one.log': 'a\n'})
        ini = root / 'logwatch.ini'
        good = f'[logwatch]\nlog = first={root}/one.log\n'
        ini.write_text(good)
        server = Server('--config', str(ini), root=root)
        self.addCleanup(server.stop, 'configuration')
        for bad in ('[logwatch]\naccess-log = maybe\n', '[logwatch]\nno-such-option = 1\n', 'junk', good + good, '\0',
                    '[other]\na=b\n'):
            with self.subTest(bad):
                ini.write_text(bad)
                count = len(server.complaints())
                server.process.send_signal(signal.SIGHUP)
                self.await_complaint(server, count)
                self.assertEqual(server.get('/logs/first').body, b'a\n')
                self.assertNotIn('Traceback', server.stderr())


# ----------------------------------------------------------------------------------------------------------------------
# the catalogue: names, rotation sets, what is no log, what cannot be read
# ----------------------------------------------------------------------------------------------------------------------

NAMES = {  # path below the root: name
    'syslog': 'syslog', 'auth.log': 'auth', 'nginx/access.log': 'nginx-access', 'apt/term.log': 'apt-term',
    'php8.2-fpm.log': 'php8.2-fpm', 'postgresql/postgresql-15-main.log': 'postgresql-postgresql-15-main',
    'a/b/c/d.log': 'a-b-c-d', 'app.v2': 'app.v2', 'mail.err': 'mail.err', 'unattended-upgrades/x.log.log':
    'unattended-upgrades-x.log', 'samba/log.smbd': 'samba-log.smbd', 'cups/error_log': 'cups-error_log',
    'getty@tty1.log': 'getty@tty1', 'x+y:z~.log': 'x+y:z_'}
ODD_NAMES = ('two words.log', 'bücher.log', '-dash.log', '.hidden.log', 'a%2Fb.log', 'x?y#z&n=1.log', '<b>.log',
             '*.log',
             '[x].log', 'new\nline.log', 'raw', 'stats.log', '..log', 'a,b.log', 'l' * 150 + '.log', "q'uote\".log",
             '$(id).log')
ROTATIONS = (  # the files of one log, oldest first
    'app.log.2.gz app.log.1 app.log', 'app.log.1.gz app.log', 'app.log.old app.log', 'app.log.2.gz app.log.1',
    'app.log.11.gz app.log.10.gz app.log.9.gz app.log.2.gz app.log.1 app.log',
    'app.log-20261120.gz app.log-20261121 app.log', 'app-20261120.log.gz app-20261121.log app.log',
    'app.log-2026112109.gz app.log-2026112110 app.log', 'app.log-2026-11-20 app.log-2026-11-21 app.log',
    'app.log-20261121-1763800000.gz app.log-20261121-1763800001.gz app.log-20261121-1763800002 app.log',
    'app.log.20251231.gz app.log.20260101 app.log', 'app.2.gz app.1 app', 'app.log-20261121.gz')
BINARY_FILES: dict[str, bytes] = {
    'wtmp': b'\7\0' * 192, 'btmp': b'', 'lastlog': b'\0' * 292, 'faillog': b'', 'wtmp.1': b'\7\0' * 192,
    'wtmp.db': b'SQL',
    'journal/0123/system.journal': b'LPKSHHRH', 'user.journal~': b'LPKSHHRH', 'app.sqlite3': b'SQLite format 3\0',
    'bootchart.png': b'\x89PNG', 'core.bin': bytes(range(256)) * 64, 'packed.bin.gz': bytes(8000)}


class Catalogue(Case):
    """Which logs there are, told anew at each request."""

    def catalogue(self, application: Callable[..., Any]) -> dict[str, dict[str, Any]]:
        return {row['name']: row for row in call(application, '/logs?format=json').json()['logs']}

    def test_a_log_is_named_by_its_path(self) -> None:
        root = plant(scratch(), {path: f'{path}\n' for path in NAMES})
        application = make_application('--log-root', str(root))
        self.assertEqual(set(self.catalogue(application)), set(NAMES.values()))
        for path, name in NAMES.items():
            with self.subTest(path):
                self.assertEqual(call(application, f'/logs/{name}').text, f'{path}\n')

    def test_who_asks_for_a_log_by_its_path_is_told_how_names_are_made(self) -> None:
        application = make_application('--log-root', str(plant(scratch(), {'nginx/access.log': 'x\n'})))
        fixes = set()
        for path in ('/logs/nginx/access.log', '/logs//var/log/nginx/access.log', '/logs/nginx-access.log',
                     '/logs/no/such.log', '/logs/nginx/access/raw'):
            reply = call(application, path)
            self.assertProblem(reply, 404)
            fixes.add(reply.json().get('fix'))
        self.assertEqual(len(fixes), 1, 'whatever there is')
        self.assertIn('nginx/access.log is nginx-access', str(fixes))
        self.assertNotIn('fix', call(application, '/nowhere').json())

    def test_the_folders_of_the_journal_and_of_private_services_are_passed_by_but_no_file_of_that_name(self) -> None:
        for number, files in enumerate(({'journal', 'private/app.log', 'nginx/journal/a.log'},
                                        {'private', 'journal/0123/a.log', 'private.log'})):
            root = plant(scratch(), dict.fromkeys(files, 'text\n'))
            application = make_application('--log-root', str(root))
            with self.subTest(files):
                self.assertEqual({name.partition('~')[0] for name in self.catalogue(application)},
                                 ({'journal', 'nginx-journal-a'}, {'private'})[number])
                self.assertEqual(len(self.catalogue(application)), 2)

    def test_every_listed_name_can_be_asked_for_whatever_the_file_is_called(self) -> None:
        root = plant(scratch(), {path: f'content {number}\n' for number, path in enumerate(ODD_NAMES)})
        (root / os.fsdecode(b'\xff\xfe.log')).write_text(f'content {len(ODD_NAMES)}\n')
        application = make_application('--log-root', str(root))
        names = list(self.catalogue(application))
        self.assertEqual(len(names), len(ODD_NAMES) + 1)
        for name in names:
            self.assertRegex(name, r'\A[A-Za-z0-9][A-Za-z0-9._@:+~-]*\Z')
        contents = sorted(int(call(application, f'/logs/{name}').text.split()[1]) for name in names)
        self.assertEqual(contents, list(range(len(ODD_NAMES) + 1)))

    def test_colliding_names_are_told_apart_in_the_same_way_each_time(self) -> None:
        files = ('a/b.log', 'a-b.log', 'a/b', 'a-b', 'a b.log', 'a_b.log')
        roots = [plant(scratch(), {path: path for path in order}) for order in (files, files[::-1])]
        found = []
        for root in roots:
            application = make_application('--log-root', str(root))
            found.append({name: call(application, f'/logs/{name}').text for name in self.catalogue(application)})
        self.assertEqual(sorted(found[0].values()), sorted(f'{path}\n' for path in files))
        self.assertEqual(found[0], found[1])

    def test_no_odd_name_takes_that_of_another(self) -> None:
        """`echo x > app/.log` by who may write there alone hid app.log: both were app~, and a hash."""
        root = plant(scratch(), {'app.log': 'right\n'} | dict.fromkeys(
            ('app/.log', 'app/-.log', 'app/--.log', '_/app.log', '-/.app.log', '@/app.log', 'ß/app.log'), 'odd\n'))
        application = make_application('--log-root', str(root))
        self.assertEqual(len(self.catalogue(application)), 8)
        self.assertEqual(call(application, '/logs/app').text, 'right\n')
        (root / 'app.log').unlink()
        self.assertNotIn('app', self.catalogue(application))
        self.assertProblem(call(application, '/logs/app'), 404)

    def test_a_name_is_short_however_long_the_path_is(self) -> None:
        """1000 logs with names of 3 kB, 50 statuses each, were 147 MB of /metrics, and 987 MB of memory."""
        deep = '/'.join(letter * 250 for letter in 'abc')
        root = plant(scratch(), {f'{deep}/{number}.log': f'{number}\n' for number in range(3)}
                     | {'d' * 100 + '.log': 'd\n', 'e' * 101 + '.log': 'e\n'})
        application = make_application('--log-root', str(root))
        names = set(self.catalogue(application))
        self.assertEqual((len(names), max(map(len, names))), (5, 117))
        self.assertIn('d' * 100, names)
        self.assertEqual({call(application, f'/logs/{name}').text for name in names}, {
            '0\n', '1\n', '2\n', 'd\n', 'e\n'})
        self.assertLess(len(call(application, '/metrics').body), 100_000)
        plant(root, {'f.log': 'f\n'})
        self.assertEqual(set(self.catalogue(application)), names | {'f'}, 'and it stays')

    def test_a_rotation_set_is_one_log_in_the_order_it_was_written(self) -> None:
        for names in ROTATIONS:
            with self.subTest(names):
                root = scratch()
                for number, name in enumerate(names.split()):
                    plant(root, {name: f'line {number}\n'})
                    order = -number if re.search(r'\d',
                                                 name) else number     # times that deny what numbers and dates say
                    os.utime(root / name, (order + 10 ** 9, order + 10 ** 9))
                application = make_application('--log-root', str(root))
                row, = self.catalogue(application).values()
                self.assertEqual((row['name'], row['rotations']), ('app', len(names.split()) - 1))
                self.assertEqual(row['bytes'], sum(path.stat().st_size for path in root.iterdir()))
                self.assertEqual(call(application, '/logs/app').text, ''.join(
                    f'line {number}\n' for number in range(len(names.split()))))

    def test_a_log_that_is_rotated_while_it_is_listed_is_not_missed(self) -> None:
        root = plant(scratch(), {'app.log': 'text\n', 'other.log': 'text\n'})
        application = make_application('--log-root', str(root))
        open_below = logwatch.open_below

        def rotated(folder: str, parts: Sequence[str]) -> int:
            if parts[-1] == 'app.log' and not (root / 'app.log.1').exists():
                (root / 'app.log').rename(root / 'app.log.1')
                (root / 'app.log').touch()
            return open_below(folder, parts)

        with mock.patch('logwatch.open_below', rotated):
            self.assertEqual(set(self.catalogue(application)), {'app', 'other'})
        self.assertTrue((root / 'app.log.1').exists())
        self.assertEqual(call(application, '/logs/app').text, 'text\n')

    def test_a_folder_of_very_many_entries_is_not_held_whole_and_hides_no_other(self) -> None:
        """400 000 symbolic links took 292 MB: what is no file counted nothing."""
        root = plant(scratch(), {f'a/{number:03}.log': 'x\n' for number in range(70)} | {'z/app.log': 'text\n'})
        (root / 'links').mkdir()
        for number in range(100):
            (root / f'links/{number}').symlink_to('nowhere')
        application = make_application('--log-root', str(root))
        with mock.patch('logwatch.FILES_MAX', 64):
            logs = self.catalogue(application)
            self.assertProblem(call(application, '/logs/a'), 403, 'more than 15 entries')
            for target in ('/logs/z-app', '/logs/a-000', '/logs/a-014'):
                self.assertEqual(call(application, target).status, 200)
            held = call(make_application('--log', f'x={root}/*/*.log'), '/logs?format=json').json()['logs']
        self.assertEqual(held[0]['readable'], False)
        self.assertIn('more than 15 entries', held[0]['reason'])
        self.assertEqual(set(logs), {'z-app', 'a', 'links', *(f'a-{number:03}' for number in range(15))})

    def test_who_fills_folders_below_his_own_hides_no_other(self) -> None:
        """14 full folders hid all that were deeper than they."""
        root = plant(scratch(), {f'his/{folder}/{number}.log': 'x\n' for folder in range(20) for number in range(20)}
                     | {'z/y/x/app.log': 'text\n'})
        with mock.patch('logwatch.FILES_MAX', 100):
            self.assertIn('z-y-x-app', self.catalogue(make_application('--log-root', str(root))))
            rows = call(make_application('--log', f'x={root}/*/*/*/*.log'), '/logs/x').text
        self.assertEqual(rows, 'text\n')

    def test_a_tree_that_is_alone_has_all_there_is_however_deep(self) -> None:
        root = plant(scratch(), {f'a/b/c/d/e/{number}.log': 'x\n' for number in range(40)})
        with mock.patch('logwatch.FILES_MAX', 100):
            self.assertEqual(len(self.catalogue(make_application('--log-root', str(root)))), 40)

    def test_what_is_too_deep_is_told_of(self) -> None:
        deep = '/'.join('abcdefghijklmn')
        root = plant(scratch(), {f'{deep[:23]}/app.log': 'text\n', f'{deep}/app.log': 'text\n'})
        logs = self.catalogue(make_application('--log-root', str(root)))
        self.assertEqual({name: row['readable'] for name, row in logs.items()},
                         {'-'.join([*deep[:23:2], 'app']): True, '-'.join(deep[:25:2]): False})
        self.assertIn('more than 12 folders deep', logs['-'.join(deep[:25:2])]['reason'])

    def test_an_entry_that_cannot_be_looked_at_hides_no_other(self) -> None:
        """As of a mount that is dead, or of another user's: all folders beside it were passed by."""
        root = plant(scratch(), {'a.log': 'x\n', 'b/b.log': 'x\n', 'm': 'x\n', 'z.log': 'x\n'})
        look = os.stat

        def dead(path: Any, **how: Any) -> os.stat_result:
            if path == 'm':
                raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
            return look(path, **how)

        with mock.patch('os.stat', dead):
            logs = self.catalogue(make_application('--log-root', str(root)))
        self.assertEqual({name: row['readable'] for name, row in logs.items()},
                         {'a': True, 'b-b': True, 'z': True, 'm': False})
        self.assertIn('m: Transport endpoint is not connected', logs['m']['reason'])

    def test_names_that_are_passed_by_are_as_good_as_entries(self) -> None:
        """Each request for one log went through all that was beside it, however much that was."""
        root = plant(scratch(), {f'{number:03}': 'x\n' for number in range(200)})
        asked = []
        scandir = os.scandir

        class Counted:
            def __init__(self, folder: int) -> None:
                self.entries = scandir(folder)

            def __enter__(self) -> Iterator[Any]:
                return (asked.append(entry) or entry for entry in self.entries)     # type: ignore[func-returns-value]

            def __exit__(self, *error: object) -> None:
                self.entries.close()

        with mock.patch('logwatch.FILES_MAX', 20), mock.patch('os.scandir', Counted):
            for name in ('*.log', 'app.log'):
                asked.clear()
                application = make_application('--log', f'app={root}/{name}')
                self.assertProblem(call(application, '/logs/app'), 403, 'of more than 10 entries the rest')
                self.assertLessEqual(len(asked), 4 * (1 + 10 * logwatch.NAMES_EACH))

    def test_a_files_time_may_be_any(self) -> None:
        root = plant(scratch(), {'old.log': 'x\n', 'new.log': 'x\n'})
        os.utime(root / 'old.log', ns=(-10**18, -10**18))
        os.utime(root / 'new.log', (2**33, 2**33))
        application = make_application('--log-root', str(root))
        for target in ('/logs', '/logs/old', '/logs/new', '/logs/old/raw', '/logs/new/raw', '/metrics', '/health/logs'):
            self.assertEqual(call(application, target).status, 200, target)

    def test_names_that_there_are_not_leave_nothing_behind(self) -> None:
        application = make_application('--log-root', str(plant(scratch(), {'app.log': 'x\n'})))
        for number in range(20):
            self.assertProblem(call(application, lines_url(f'no{number}', follow=1)), 404)
        self.assertEqual(application.site.watch.cache_info().currsize, 0)       # type: ignore[attr-defined]

    def test_a_gzip_file_that_holds_nothing_for_very_long_ends_there(self) -> None:
        """4 kB on disk, a terabyte of padding: it held a worker, and /health, for ever."""
        root = plant(scratch(), {'app.log': 'new\n', 'app.log.1.gz': 'old\n', 'b.log': 'new\n', 'c.log': 'new\n'})
        os.truncate(root / 'app.log.1.gz', 1 << 34)
        (root / 'b.log.1.gz').write_bytes(gzip.compress(b'old\n') + gzip.compress(b'') * 200_000)
        (root / 'c.log.1.gz').write_bytes(b'\x1f\x8b\x08\x08' + bytes(6) + b'x' * (8 << 20))
        application = make_application('--log-root', str(root))
        for target in ('/logs/app', '/logs/b', '/logs/c', '/logs', '/health'):
            self.assertLess(seconds_of(call, application, target), 2, target)
        self.assertEqual(call(application, '/logs/app').text, 'old\nnew\n')

    def test_the_journals_name_is_no_files(self) -> None:
        """A token for the file would read all of the journal."""
        root = plant(scratch(), {'journal.log': 'x\n'})
        with mock.patch('logwatch.LOG_ROOT', str(root)):
            names = set(self.catalogue(make_application('--log-root', str(root))))
        self.assertEqual({re.sub('~[0-9a-f]{16}', '~', name) for name in names}, {'journal', 'journal~'})

    def test_a_log_that_one_listing_misses_stays(self) -> None:
        """readdir(3) may do so while a file is renamed."""
        root = plant(scratch(), {'app.log': 'text\n', 'other.log': 'text\n'})
        application = make_application('--log-root', str(root))
        self.assertEqual(set(self.catalogue(application)), {'app', 'other'})

        class Careless(logwatch.Listing):
            def __init__(self, root: str, depth: int, *rest: Any) -> None:
                super().__init__(root, depth, *rest)
                self.files = [file for file in self.files if file[0] != ('app.log',) or not depth]

        with mock.patch('logwatch.Listing', Careless):
            self.assertEqual(set(self.catalogue(application)), {'app', 'other'})
            (root / 'app.log').unlink()
            self.assertEqual(set(self.catalogue(application)), {'other'})

    def test_a_packed_file_beside_its_plain_one_is_not_read_twice(self) -> None:
        root = plant(scratch(), {'app.log': 'c\n', 'app.log.1': 'b\n', 'app.log.2': 'a\n', 'app.log.2.gz': 'a\n'})
        (root / 'app.log.1.gz').write_bytes(gzip.compress(b'b\n')[:12])
        self.assertEqual(call(make_application('--log-root', str(root)), '/logs/app').text, 'a\nb\nc\n')

    def test_binary_files_are_left_out_and_a_hole_at_the_start_is_none(self) -> None:
        root = plant(scratch(), {**BINARY_FILES, 'app.log': 'text\n',
                                 'hole.log': bytes(9000) + b'behind the hole\n' * 9,
                                 'little.log': b'one\0NUL\n', 'empty.log': '', 'latin1.log': b'caf\xe9\n'})
        application = make_application('--log-root', str(root))
        for _ in range(2):
            for name in ('core.bin', 'packed.bin', 'wtmp', 'user.journal~'):
                self.assertProblem(call(application, f'/logs/{name}'), 404)
            self.assertEqual(set(self.catalogue(application)), {'app', 'hole', 'empty', 'latin1', 'little'})

    def test_what_is_no_regular_file_is_left_out(self) -> None:
        root = plant(scratch(), {'app.log': 'text\n', 'sub/x.log': 'text\n'})
        secret = plant(scratch(), {'secret.log': 'secret\n', 'deep/secret.log': 'secret\n'})
        (root / 'link.log').symlink_to(secret / 'secret.log')
        (root / 'inside.log').symlink_to('app.log')
        (root / 'linked').symlink_to(secret / 'deep')
        os.mkfifo(root / 'fifo.log')
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(root / 'socket.log'))
        application = make_application('--log-root', str(root))
        self.assertEqual(set(self.catalogue(application)), {'app', 'sub-x'})
        for name in ('link', 'linked-secret', 'fifo', 'socket'):
            self.assertProblem(call(application, f'/logs/{name}'), 404)

    def test_a_log_that_comes_or_goes_is_there_or_not_at_the_next_request(self) -> None:
        root = plant(scratch(), {'old.log': 'old\n'})
        application = make_application('--log-root', str(root))
        self.assertEqual(set(self.catalogue(application)), {'old'})
        plant(root, {'new/app.log': 'new\n'})
        self.assertEqual(call(application, '/logs/new-app').text, 'new\n')
        (root / 'old.log').unlink()
        self.assertProblem(call(application, '/logs/old'), 404)
        self.assertEqual(set(self.catalogue(application)), {'new-app'})

    def test_it_tells_the_times_and_the_format_of_a_whole_set(self) -> None:
        rows = numbered(1, 3000).splitlines(keepends=True)
        root = plant(scratch(), {'app.log.2.gz': ''.join(rows[:1000]), 'app.log.1': ''.join(rows[1000:2000]),
                                 'app.log': ''.join(rows[2000:]), 'plain.log': 'no time\n' * 10})
        logs = self.catalogue(make_application('--log-root', str(root)))
        self.assertEqual(logs['app']['format'], 'rfc3339')
        self.assertEqual([logs['app'][key][:19] for key in ('first', 'last')],
                         ['2026-01-01T00:00:01', '2026-01-01T00:50:00'])
        self.assertEqual([logs['plain'][key] for key in ('format', 'first', 'last')], ['text', None, None])

    def test_its_format_is_that_of_the_newest_lines_that_have_one(self) -> None:
        old = '2026-01-02T03:04:05Z host app: error: old\n'
        root = plant(scratch(), {'empty.log': '', 'empty.log.2': old, 'banner.log': 'a banner\n' * 2,
                                 'banner.log.1': old, 'head.log': 'a banner\n' * 900 + old * 50})
        (root / 'empty.log.1.gz').write_bytes(gzip.compress(b''))       # logrotate rotates empty logs, too
        application = make_application('--log-root', str(root))
        for name in ('empty', 'banner', 'head'):
            with self.subTest(name):
                self.assertEqual(self.catalogue(application)[name]['format'], 'rfc3339')
                self.assertEqual(call(application, f'/logs/{name}?level=err&n=1').text, old)
                self.assertEqual(call(application, f'/logs/{name}?since=2026-01-01&n=1').text, old)

    @requires('root')
    def test_its_format_is_that_of_a_few_of_its_lines_however_short_they_are(self) -> None:
        """One follower of 2732 lines of two bytes, which changed 16 times a second, took 42 % of a core."""
        root = plant(scratch(), {'app.log': '{"\n' * 2732, 'json.log': '{"time":"2026-11-22T13:05:01Z"}\n' * 500})
        application, most = make_application('--log-root', str(root)), 0
        detect = logwatch.detect

        def counted(lines: Sequence[bytes]) -> logwatch.Format:
            nonlocal most
            most = max(most, len(lines))
            return detect(lines)

        with mock.patch('logwatch.detect', counted):
            formats = {name: row['format'] for name, row in self.catalogue(application).items()}
        self.assertEqual(formats, {'app': 'text', 'json': 'json'})
        self.assertTrue(1 < most <= logwatch.SNIFF_LINES, most)

    def test_what_has_not_changed_is_not_read_again(self) -> None:
        root = plant(scratch(), {f'{n}/app.log{end}': numbered(1, 200) for n in range(40)
                                 for end in ('', '.1', '.2.gz')})
        server = self.serve(root=root)

        def cost(target: str) -> int:
            before = self.bytes_read(server)
            self.assertEqual(server.get(target).status, 200)
            return self.bytes_read(server) - before

        first = cost('/logs')
        self.assertGreater(first, 40 * 4096)
        self.assertLess(cost('/logs'), 40 * 100)
        with (root / '7/app.log').open('a') as log:
            log.write('one more line\n')
        self.assertLess(cost('/logs'), 40 * 100 + 40_000)

    def bytes_read(self, server: Server) -> int:
        text = Path(f'/proc/{server.process.pid}/io').read_text()
        return int(re.findall(r'rchar: (\d+)', text)[0])

    def test_a_listing_of_many_logs_is_quick(self) -> None:
        root = plant(scratch(), {f'{n // 50}/{n}.log': 'line\n' for n in range(1000)})
        application = make_application('--log-root', str(root))
        self.assertEqual(len(self.catalogue(application)), 1000)
        began = time.process_time()
        self.assertEqual(len(self.catalogue(application)), 1000)
        self.assertLess(time.process_time() - began, 1.0)


class Configured(Case):
    """Logs given by --log NAME=GLOB: what is not a log is refused with the reason, at once."""

    def ask(self, where: Path | str, target: str = '/logs/app') -> Reply:
        return call(make_application('--log', f'app={where}'), target)

    def refused(self, where: Path | str, *words: str) -> None:
        began = time.monotonic()
        with self.subTest(str(where)):
            self.assertProblem(self.ask(where), 403, *words)
            row, = self.ask(where, '/logs?format=json').json()['logs']
            self.assertIs(row['readable'], False)
            for word in words:
                self.assertIn(word, row['reason'])
            self.assertLess(time.monotonic() - began, 2)

    def test_each_is_listed_once(self) -> None:
        root = plant(scratch(), {'app.log': 'line\n'})
        logs = ['journal=journal:', 'ssh=journal:ssh.service', f'app={root}/app.log']
        application = logwatch.Application(logwatch.load_config({'log': logs}, {}))
        rows = call(application, '/logs?format=json').json()['logs']
        self.assertEqual([row['name'] for row in rows], ['journal', 'ssh', 'app'])

    @requires('root')
    def test_a_link_above_a_log_is_followed_for_root_and_for_the_owner_of_what_it_leads_to(self) -> None:
        """Who owns the folder above a log's could have had us read in any folder that only we may enter."""
        secret = plant(scratch(), {'log/app.log': 'secret\n'})
        root = plant(scratch(), {'home/one/app.log': 'line\n', 'home/two/app.log': 'line\n'})
        home, log = root / 'home', root / 'home/log'
        for path in (home, home / 'one', home / 'two'):
            os.chown(path, NOBODY, NOBODY)

        def link(target: Path | str, owner: int) -> None:
            log.unlink(missing_ok=True)
            log.symlink_to(target)
            os.chown(log, owner, owner, follow_symlinks=False)

        where = log / 'app.log'
        for target, owner in (('one', NOBODY), (home / 'two', NOBODY), ('../home//one/', NOBODY), ('one', 0)):
            link(target, owner)
            self.assertEqual(self.ask(where).text, 'line\n', (target, owner))
        for target in (secret / 'log', os.path.relpath(secret / 'log', home)):
            link(target, NOBODY)
            self.refused(where, 'log on the way to it is a symbolic link to a folder of another owner')
            row, = self.ask(log / '*.log', '/logs?format=json').json()['logs']
            self.assertEqual((row['bytes'], row['last']), (0, None), 'what is there is not told either')
        (root / 'root').symlink_to(log)         # root's, but it leads through one that is not
        self.refused(root / 'root/app.log', 'a folder of another owner')
        link('one', NOBODY)
        with mock.patch('logwatch.maps_all_ids', return_value=False):       # each user but root has that number there
            self.refused(where, 'a folder of another owner')
            link('one', 0)
            self.assertEqual(self.ask(where).text, 'line\n')
        link('log', NOBODY)
        self.assertIn(self.ask(where).status, (403, 404))
        self.assertNotIn('secret', self.ask(where, '/logs').text)

    @requires('root')
    def test_a_closed_folder_of_a_glob_is_told_of_and_hides_no_other(self) -> None:
        root = plant(scratch(), {'a/app.log': 'line a\n', 'b/app.log': 'line b\n', 'c/app.log': 'line c\n'})
        for name, mode in (('a', 0o755), ('b', 0o700), ('c', 0o744)):
            (root / name).chmod(mode)
        root.chmod(0o755)
        server = self.serve('--log', f'app={root}/*/app.log', root=root, user=NOBODY)
        self.assertEqual(server.get('/logs/app').text, 'line a\n')
        row, = server.get('/logs?format=json').json()['logs']
        self.assertEqual((row['readable'], row['reason'].split(':')[0]), (False, 'nobody may not list it'))
        self.assertIn(f'{root}/b is root', row['reason'])
        self.assertIn(f'{root}/b', server.get('/health/logs?format=text').text)

    def test_a_name_that_is_no_text_is_told_as_escapes(self) -> None:
        root = plant(scratch(), {'app.log': 'line\n'})
        for name, where, said in ((b'caf\xe9.log', 'caf?.log', r'caf\xe9.log'),
                                  (b'line\nbreak.log', 'line?break.log', r'line\x0abreak.log'),
                                  (b'esc\x1b[2J.log', 'esc*.log', r'esc\x1b[2J.log')):
            os.symlink('app.log', os.path.join(os.fsencode(root), name))
            application = make_application('--log', f'app={root}/{where}')
            for target in ('/logs', '/logs?format=json', '/logs?format=html', '/health?format=text', '/health'):
                reply = call(application, target)
                self.assertEqual(reply.status, 200, (name, target))
            text = call(application, '/logs').text
            self.assertIn(said, text)
            self.assertEqual(len([line for line in text.splitlines() if 'symbolic link' in line]), 1)
            self.assertProblem(call(application, '/logs/app'), 403, 'symbolic link')

    def test_a_file_that_is_no_log_is_refused_with_the_reason(self) -> None:
        root = plant(scratch(), {'target.log': 'secret\n'})
        (root / 'link.log').symlink_to('target.log')
        (root / 'dangling.log').symlink_to('nowhere')
        (root / 'folder.log').mkdir()
        os.mkfifo(root / 'fifo.log')
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(root / 'socket.log'))
        for name, words in {'link.log': 'symbolic link', 'dangling.log': 'symbolic link', 'folder.log': 'a folder',
                            'fifo.log': 'a FIFO', 'socket.log': 'a socket'}.items():
            self.refused(root / name, words)
        self.refused('/dev/null', 'a device')
        self.refused('/proc/self/environ', 'kernel')
        self.refused('/proc/kmsg', 'kernel')
        self.refused('/sys/kernel/mm/transparent_hugepage/enabled', 'kernel')

    @requires('root')
    def test_a_hard_link_is_served_only_from_a_folder_of_the_files_owner(self) -> None:
        outside = plant(scratch(), {'secret': 'secret\n'})
        table = (  # owner and mode of the folder, whether the link is served
            (0, 0o755, True), (0, 0o777, False), (0, 0o1777, False), (0, 0o775, False), (NOBODY, 0o755, False))
        for owner, mode, served in table:
            with self.subTest(owner=owner, mode=oct(mode)):
                root = scratch()
                os.link(outside / 'secret', root / 'app.log')
                os.chown(root, owner, 0)
                root.chmod(mode)
                if served:
                    self.assertEqual(self.ask(root / 'app.log').text, 'secret\n')
                else:
                    self.refused(root / 'app.log', 'hard link')
                (root / 'app.log').unlink()

    def test_a_linked_folder_below_the_root_is_not_entered(self) -> None:
        outside = plant(scratch(), {'app.log': 'secret\n'})
        root = plant(scratch(), {'one/app.log': 'text\n'})
        (root / 'two').symlink_to(outside)
        self.assertEqual(self.ask(root / '*' / 'app.log').text, 'text\n')
        self.assertEqual(self.ask(root / 'two*' / 'app.log').status, 404)

    def test_a_folder_swapped_for_a_link_while_it_is_read_is_not_entered(self) -> None:
        outside = plant(scratch(), {'app.log': 'secret\n'})
        root = plant(scratch(), {'one/app.log': 'text\n'})
        (root / 'one').rename(root / 'real')
        (root / 'one').symlink_to(outside)
        with self.assertRaises(logwatch.Unreadable):
            logwatch.open_below(str(root), ('one', 'app.log'))

    def test_a_glob_matches_files_that_come_later(self) -> None:
        root = scratch()
        application = make_application('--log', f'app={root}/*/x?.log')
        self.assertProblem(call(application, '/logs/app'), 404, 'app')
        self.assertEqual(call(application, '/logs?format=json').json()['logs'][0]['bytes'], 0)
        plant(root, {'one/x1.log': 'first\n'})
        self.assertEqual(call(application, '/logs/app').text, 'first\n')
        plant(root, {'two/x2.log': 'second\n', 'two/y.log': 'other\n', 'two/x22.log': 'other\n', 'x3.log': 'other\n'})
        os.utime(root / 'one/x1.log', (10 ** 9, 10 ** 9))
        self.assertEqual(call(application, '/logs/app').text, 'first\nsecond\n')

    def test_only_what_is_configured_is_served(self) -> None:
        root = plant(scratch(), {'app.log': 'text\n', 'other.log': 'other\n'})
        application = make_application('--log-root', str(root), '--log', f'app={root}/app.log')
        self.assertEqual([row['name'] for row in call(application, '/logs?format=json').json()['logs']], ['app'])
        self.assertProblem(call(application, '/logs/other'), 404)


@requires('root')
class FailingFiles(Case):
    """A file that the disk, the network or another process holds back costs itself alone."""

    def setUp(self) -> None:
        self.root = plant(scratch(), {'bad.log': numbered(1, 50), 'good.log': numbered(1, 50)})

    def assertOthersServed(self, get: Callable[[str], Reply], reason: str) -> None:
        for target in ('/health', '/metrics', '/logs', '/logs/good'):
            with self.subTest(target):
                self.assertIn(get(target).status, (200, 503) if target == '/health' else (200,))
        self.assertProblem(get('/logs/bad'), 403, reason)

    def test_one_that_cannot_be_read(self) -> None:
        bad, pread = (self.root / 'bad.log').stat().st_ino, os.pread

        def failing(fd: int, count: int, offset: int) -> bytes:
            if os.fstat(fd).st_ino == bad:
                raise OSError(errno.EIO, 'Input/output error')
            return pread(fd, count, offset)

        application = make_application('--log-root', str(self.root))
        with mock.patch('os.pread', failing):
            self.assertOthersServed(functools.partial(call, application), 'output')
            before = len(os.listdir('/proc/self/fd'))
            for _ in range(20):
                call(application, '/logs/bad')
            self.assertEqual(len(os.listdir('/proc/self/fd')), before)

    def test_one_with_a_lease(self) -> None:
        """As Samba and NFS servers take them: open(2) of a file under a lease is EAGAIN with O_NONBLOCK."""
        server = self.serve(root=self.root)
        self.addCleanup(signal.signal, signal.SIGIO, signal.signal(signal.SIGIO, signal.SIG_IGN))
        with (self.root / 'bad.log').open('r+') as file:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            self.assertOthersServed(server.get, 'unavailable')

    def test_a_search_through_many_files_holds_few_of_them_open(self) -> None:
        for number in range(1, 40):
            (self.root / f'good.log.{number}.gz').write_bytes(gzip.compress(numbered(number, number + 9).encode()))
        most, listed = 0, len(os.listdir('/proc/self/fd'))
        spend = logwatch.Budget.spend

        def watched(budget: logwatch.Budget, count: int) -> bool:
            nonlocal most
            most = max(most, len(os.listdir('/proc/self/fd')) - listed)
            return spend(budget, count)

        application = make_application('--log-root', str(self.root))
        with mock.patch.object(logwatch.Budget, 'spend', watched):
            reply = call(application, '/logs/good?q=no-such-line')
            self.assertIn('files=40,', reply.headers['Logwatch-Scan'])
            forward = call(application, '/logs/good?q=line&since=2001-01-01&n=9000')
        self.assertIn(forward.status, (200, 400))
        self.assertTrue(1 <= most <= logwatch.OPEN_MAX + 3, most)


class Unreadable(Case):
    """What the server's user may not read is listed, with the reason and the command that mends it."""

    rows: dict[str, dict[str, Any]]

    @classmethod
    def setUpClass(cls) -> None:
        root = plant(scratch(), {name: 'text\n' for name in words(
            'fine.log group.log owner.log rootgroup.log closed/x.log shut/x.log deep/a/b.log own.log')})
        adm = 4    # Debian's static number
        for path, group, mode in (('group.log', adm, 0o640), ('owner.log', 0, 0o600), ('rootgroup.log', 0, 0o640),
                                  ('closed', adm, 0o750), ('shut', 0, 0o700), ('deep', adm, 0o750)):
            os.chown(root / path, 0, group)
            (root / path).chmod(mode)
        os.chown(root / 'own.log', NOBODY, NOBODY)
        (root / 'own.log').chmod(0o200)
        cls.server = cls.serve_class(root=root, user=NOBODY)
        cls.rows = {row['name']: row for row in cls.server.get('/logs?format=json').json()['logs']}

    def test_each_is_listed_and_the_readable_ones_are_served(self) -> None:
        unreadable = {name for name, row in self.rows.items() if not row['readable']}
        self.assertEqual(unreadable, set(words('group owner rootgroup closed shut deep own')))
        self.assertEqual(self.server.get('/logs/fine').text, 'text\n')

    def test_the_reason_names_what_forbids_it_and_the_fix_mends_it(self) -> None:
        for name, place, owner, mode, fix in (
                ('group', '/group.log', 'root:adm', '0640', 'usermod -aG adm nobody'),
                ('owner', '/owner.log', 'root:root', '0600', 'setfacl -m u:nobody:'),
                ('rootgroup', '/rootgroup.log', 'root:root', '0640', 'setfacl -m u:nobody:'),
                ('closed', '/closed', 'root:adm', '0750', 'usermod -aG adm nobody'),
                ('shut', '/shut', 'root:root', '0700', 'setfacl -m u:nobody:'),
                ('deep', '/deep', 'root:adm', '0750', 'usermod -aG adm nobody'),
                ('own', '/own.log', 'nobody:', '0200', 'chmod u')):
            with self.subTest(name):
                for word in (place, owner, mode):
                    self.assertIn(word, self.rows[name]['reason'])
                self.assertIn(fix, self.rows[name]['fix'])

    def test_asking_for_one_is_403_with_the_same_reason_and_fix(self) -> None:
        for name, row in self.rows.items():
            if not row['readable']:
                with self.subTest(name):
                    problem = self.server.get(f'/logs/{name}')
                    self.assertProblem(problem, 403)
                    self.assertIn(row['reason'], problem.json()['detail'])
                    self.assertEqual(problem.json()['fix'], row['fix'])

    def test_the_text_says_it_too(self) -> None:
        text = self.server.get('/logs').text
        for row in self.rows.values():
            self.assertIn(row['name'], text)
            self.assertIn(row.get('reason', ''), text)

    def test_a_rotated_file_that_may_not_be_read_leaves_the_rest_and_is_noted(self) -> None:
        rows = numbered(1, 30).splitlines(keepends=True)
        root = plant(scratch(), {'app.log.2': ''.join(rows[:10]), 'app.log.1': ''.join(rows[10:20]),
                                 'app.log': ''.join(rows[20:])})
        (root / 'app.log.1').chmod(0o600)
        server = self.serve(root=root, user=NOBODY)
        answer = server.get('/logs/app?format=json').json()
        self.assertEqual([entry['message'].split()[-1] for entry in answer['entries']],
                         [str(n) for n in (*range(1, 11), *range(21, 31))])
        self.assertIn('app.log.1', str(answer['scan']['notes']))

    def test_a_log_that_logrotate_has_just_made_is_not_called_unreadable(self) -> None:
        """It makes it with mode 0600, and gives it its rights in the next moment."""
        root = plant(scratch(), {'app.log.1': 'text\n', 'app.log': ''})
        server = self.serve(root=root, user=NOBODY, constants={'NEW_SECONDS': 2.0})
        (root / 'app.log').chmod(0o600)
        reply = server.get('/logs/app/raw')
        self.assertProblem(reply, 503)
        self.assertEqual(reply.headers['Retry-After'], '1')
        until(lambda: server.get('/logs/app/raw').status == 403, 'the truth, a moment later')
        self.assertFalse(server.get('/logs?format=json').json()['logs'][0]['readable'])
        self.assertEqual(server.get('/logs/app').text, 'text\n', 'it holds nothing that would be missing')
        (root / 'app.log').chmod(0o644)
        self.assertEqual(server.get('/logs/app/raw').status, 200)

    def test_a_log_that_becomes_readable_is_served_at_once(self) -> None:
        root = plant(scratch(), {'app.log': 'text\n', 'in/x.log': 'text\n'})
        server = self.serve(root=root, user=NOBODY)
        for path, name in ((root / 'app.log', 'app'), (root / 'in', 'in-x')):
            open_mode = path.stat().st_mode
            for mode, status in ((0, (403, 404)), (open_mode, (200,)), (0, (403, 404)), (open_mode, (200,))):
                path.chmod(mode)
                self.assertIn(server.get(f'/logs/{name}').status, status)


# ----------------------------------------------------------------------------------------------------------------------
# the line reader: the newest lines, paging, cursors
# ----------------------------------------------------------------------------------------------------------------------

SMALL = {'FIRST_BLOCK_BYTES': 256, 'BLOCK_BYTES': 1024,
         'LINE_BYTES': 256}     # so that short logs have many blocks, too
ODD_PIECES = (b'', b'\0', b'\0' * 40, b'\xff\xfe', b'\r', b'a\rb', b'\xe2\x80\xa8', b'\x1b[31m', b'\xc3\xa9t\xc3\xa9',
              b' ', b'\t',
              b'\x0c', b'same', b'same', b'x' * 250, b'y' * 256, b'z' * 1024, b'w' * 3000, b'\x85', b'--', b'\\',
              b'"<&>')


def odd_log(chance: random.Random, count: int) -> bytes:
    """Lines with every oddity of real logs, often longer than SMALL's blocks; sometimes the last lacks its newline."""
    lines = [b''.join(chance.choice(ODD_PIECES) for _ in range(chance.randrange(4))) + chance.choice((b'', b'', b'\r'))
             for _ in range(count)]
    return b'\n'.join(lines) + chance.choice((b'', b'\n', b'\n', b'\n\n')) if count else b''


def whole_lines(data: bytes) -> bytes:
    """The data with a newline at its end: a rotated file's last line is a line of its own."""
    return data if data.endswith(b'\n') or not data else data + b'\n'


def as_shown(data: bytes) -> bytes:
    """Lines as text shows them: long ones cut and marked, what a terminal would obey escaped."""
    lines = [line[:logwatch.LINE_BYTES] + b' [%d bytes cut]' % (len(line) - logwatch.LINE_BYTES)
             if len(line) > logwatch.LINE_BYTES else line for line in data.split(b'\n')]
    return logwatch.safe_text(b'\n'.join(lines))


def pack(data: bytes, members: int = 1) -> bytes:
    """gzip of several members, as `cat a.gz b.gz` makes it."""
    step = len(data) // members + 1
    return b''.join(gzip.compress(data[start:start + step], 1) for start in range(0, max(1, len(data)), step))


def read_with_tools(path: Path) -> bytes:
    """What cat or zcat say of a file; zcat complains of a damaged one and gives what it has."""
    return subprocess.run(['zcat' if path.suffix == '.gz' else 'cat', str(path)], capture_output=True).stdout


def tail(files: Iterable[Path], count: int) -> bytes:
    """What `tail -n` says of files, oldest first."""
    data = b''.join(whole_lines(read_with_tools(path)) for path in files)
    return subprocess.run(['tail', '-n', str(count)], input=data, capture_output=True, check=True).stdout


class Pager:
    """Pages through a log: over a server, or with a new application each time, as if it were started again."""

    def __init__(self, root: Path, name: str = 'app', server: Server | None = None, log: str = '') -> None:
        self.root, self.name, self.server, self.log_name = root, name, server, log or name

    def ask(self, **parameters: object) -> Reply:
        target = lines_url(self.log_name, parameters, format='json')
        if self.server:
            return self.server.get(target)
        return call(make_application('--log', f'{self.name}={self.root}/{self.name}.log'), target)

    def page(self, **parameters: object) -> dict[str, Any]:
        """The document of a page."""
        reply = self.ask(**parameters)
        if reply.status != 200:
            raise AssertionError(f'{reply.status}: {reply.text}')
        document: dict[str, Any] = reply.json()
        return document

    def numbers(self, document: Mapping[str, Any]) -> list[int]:
        """The last word of each line."""
        return [int(entry['message'].split()[-1]) for entry in document['entries']]

    def cursor(self, document: Mapping[str, Any], relation: str = 'next') -> str:
        """The cursor in a page's link."""
        pairs = urllib.parse.parse_qs(str(document[relation] or '').lstrip('?'))
        return (pairs.get('after') or pairs.get('before') or [''])[0]

    def behind(self, number: int) -> str:
        """The cursor behind a numbered line."""
        return next(str(entry['cursor']) for entry in self.page(n=10000)['entries']
                    if entry['message'].split()[-1] == str(number))

    def rest(self, cursor: str, n: int = 100) -> list[int]:
        """The numbers behind a cursor, to the end, page by page."""
        found: list[int] = []
        while (document := self.page(after=cursor, n=n))['entries']:
            found += self.numbers(document)
            cursor = self.cursor(document)
        return found

    def log(self, ending: str = '') -> Path:
        return self.root / f'{self.name}.log{ending}'

    def write(self, first: int, last: int, ending: str = '') -> None:
        """Append numbered lines."""
        with self.log(ending).open('a') as file:
            file.write(numbered(first, last))

    def rename(self, *pairs: tuple[str, str]) -> None:
        for old, new in pairs:
            self.log(old).rename(self.log(new))

    def compress(self, old: str, new: str) -> None:
        """As logrotate does: the .gz takes over its plain file's time, and the plain one goes."""
        data, found = self.log(old).read_bytes(), self.log(old).stat()
        self.log(new).write_bytes(gzip.compress(data))
        os.utime(self.log(new), ns=(found.st_atime_ns, found.st_mtime_ns))
        self.log(old).unlink()

    def copytruncate(self, new: str) -> None:
        shutil.copyfile(self.log(), self.log(new))
        os.truncate(self.log(), 0)


@requires('zcat', 'tail')
class NewestLines(Case):
    """The newest lines are those that `zcat` and `tail -n` give."""

    def compare(self, root: Path, names: Iterable[str], counts: Iterable[int]) -> None:
        application = make_application('--log', f'app={root}/app.log')
        for count in counts:
            reply = call(application, lines_url('app', n=count))
            self.assertEqual(reply.body, as_shown(tail([root / name for name in names], count)), (root, count))

    def test_of_random_logs_with_every_oddity(self) -> None:
        chance = random.Random(20261122)
        names = ('app.log.3.gz', 'app.log.2.gz', 'app.log.1', 'app.log')
        for turn in range(25):
            with self.subTest(turn), mock.patch.dict(vars(logwatch), SMALL if turn % 2 else {}):
                root = scratch()
                for name in names:
                    data = odd_log(chance, chance.choice((0, 1, 5, 30)))
                    (root / name).write_bytes(pack(data, chance.randrange(1, 4)) if name.endswith('.gz') else data)
                self.compare(root, names, (1, 2, 3, 7, 10, 31, 10000))

    def test_of_damaged_gzip_files_are_what_can_be_read_of_them(self) -> None:
        data = numbered(1, 5000).encode()
        damaged = {'empty': b'', 'no data': gzip.compress(b''), 'truncated': gzip.compress(data)[:-2000],
                   'no trailer': gzip.compress(data)[:-8], 'not gzip': b'plain text\n' * 20,
                   'padded': gzip.compress(data) + bytes(512),
                   'header only': gzip.compress(data)[:10], 'three members': pack(data, 3),
                   'second truncated': pack(data, 2)[:-500], 'garbage behind': gzip.compress(data) + b'garbage'}
        for name, content in damaged.items():
            with self.subTest(name):
                root = plant(scratch(), {'app.log': numbered(5001, 5010)})
                (root / 'app.log.1.gz').write_bytes(content)
                reply = call(make_application('--log', f'app={root}/app.log'), lines_url('app', n=10000, format='json'))
                self.assertEqual(reply.status, 200, reply.text)
                lines = [entry['message'] for entry in reply.json()['entries']]
                self.assertEqual(lines[-10:], numbered(5001, 5010).splitlines())
                self.compare(root, ('app.log.1.gz', 'app.log'), (5, 10000))
                if name not in ('empty', 'no data', 'three members', 'padded'):
                    self.assertIn('app.log.1.gz', str(reply.json()['scan']['notes']))

    def test_of_a_line_without_its_newline_until_it_is_completed(self) -> None:
        pager = Pager(plant(scratch(), {'app.log': numbered(1, 3) + 'half of'}))
        document = pager.page()
        self.assertEqual([entry['message'] for entry in document['entries']][-1], 'half of')
        self.assertIs(document['entries'][-1]['partial'], True)
        self.assertEqual(pager.page(after=pager.cursor(document))['entries'], [])
        with pager.log().open('a') as log:
            log.write(' the line 4\n')
        after = pager.page(after=pager.cursor(document))
        self.assertEqual([entry['message'] for entry in after['entries']], ['half of the line 4'])
        self.assertNotIn('partial', after['entries'][0])

    def test_of_a_50_megabyte_line_are_found_and_it_is_cut_and_marked(self) -> None:
        root = scratch()
        long = b'L' * (50 << 20)
        plant(root, {'plain.log': b'before\n' + long + b'\nbehind\n',
                     'packed.log.1.gz': b'before\n' + long + b'\nbehind\n',
                     'packed.log': 'live\n', 'bomb.log.1.gz': b'before\n' + bytes(200 << 20), 'bomb.log': 'live\n'})
        server = self.serve(root=root)
        mark = b' [%d bytes cut]' % (len(long) - logwatch.LINE_BYTES)
        for name, last in (('plain', b'behind\n'), ('packed', b'behind\nlive\n')):
            with self.subTest(name):
                self.assertEqual(server.get(f'/logs/{name}?n=10').body,
                                 b'before\n' + long[:logwatch.LINE_BYTES] + mark + b'\n' + last)
        self.assertRegex(server.get('/logs/bomb?n=10').body, rb'\Abefore\n(\\x00){65536} \[\d+ bytes cut\]\nlive\n\Z')
        self.assertLess(server.status('VmHWM'), 60_000, 'kB')

    def test_of_a_page_are_bounded_in_bytes_and_say_so(self) -> None:
        root = plant(scratch(), {'app.log': b''.join(b'%d %s\n' % (n, b'x' * 60_000) for n in range(200))})
        application = make_application('--log', f'app={root}/app.log')
        reply = call(application, lines_url('app', n=10000))
        self.assertLess(len(reply.body), logwatch.PAGE_BYTES + 1)
        self.assertIn('stop=limit', reply.headers['Logwatch-Scan'])
        numbers = [int(line.split()[0]) for line in reply.body.splitlines()]
        while 'rel="prev"' in reply.headers['Link']:
            before = str(re.findall(r'before=([\w-]+)', reply.headers['Link'])[0])
            reply = call(application, lines_url('app', n=10000, before=before))
            numbers = [int(line.split()[0]) for line in reply.body.splitlines()] + numbers
        self.assertEqual(numbers, list(range(200)))


class Paging(Case):
    """Pages, back and forward, give every line once."""

    def messages(self, document: Mapping[str, Any]) -> list[str]:
        return [entry['message'] for entry in document['entries']]

    def back(self, pager: Pager, n: int) -> tuple[list[str], str]:
        """All lines by prev, and the cursor behind the last."""
        document = pager.page(n=n)
        end = pager.cursor(document)
        found = self.messages(document)
        while cursor := pager.cursor(document, 'prev'):
            document = pager.page(n=n, before=cursor)
            self.assertTrue(len(document['entries']) == n or not document['prev'])
            found = self.messages(document) + found
        return found, end

    def forward(self, pager: Pager, n: int) -> list[str]:
        """All lines by next, from the oldest place."""
        document = pager.page(n=n)
        while cursor := pager.cursor(document, 'prev'):
            document = pager.page(n=n, before=cursor)
        found = self.messages(document)
        while (document := pager.page(n=n, after=pager.cursor(document)))['entries']:
            found += self.messages(document)
        return found

    def test_of_random_logs_with_every_oddity(self) -> None:
        chance = random.Random(7)
        names = ('app.log.2.gz', 'app.log.1', 'app.log')
        for turn in range(8):
            with self.subTest(turn), mock.patch.dict(vars(logwatch), SMALL if turn % 2 else {}):
                root = scratch()
                for name in names:
                    data = whole_lines(odd_log(chance, chance.choice((0, 1, 8, 25))))
                    (root / name).write_bytes(pack(data, 2) if name.endswith('.gz') else data)
                pager = Pager(root)
                whole = self.messages(pager.page(n=10000))
                for n in (1, 3, 17):
                    self.assertEqual(self.back(pager, n)[0], whole)
                    self.assertEqual(self.forward(pager, n), whole)

    def test_boundaries_among_equal_lines_of_the_same_second(self) -> None:
        line = '2026-01-01T00:00:00+00:00 host app[1]: the same\n'
        pager = Pager(plant(scratch(), {'app.log.2.gz': line * 130, 'app.log.1': line * 120, 'app.log': line * 150}))
        for age, ending in enumerate(('.1', '.2.gz')):      # were it written just now, .1 would be a copy in the making
            os.utime(pager.log(ending), (10 ** 9 - age, 10 ** 9 - age))
        for n in (7, 100, 130):
            with self.subTest(n):
                self.assertEqual(len(self.back(pager, n)[0]), 400)
                self.assertEqual(len(self.forward(pager, n)), 400)

    def test_while_it_is_written_pages_back_stay_where_they_were(self) -> None:
        pager = Pager(plant(scratch(), {'app.log.1': numbered(1, 40), 'app.log': numbered(41, 80)}))
        document = pager.page(n=15)
        found = pager.numbers(document)
        for first in (81, 91, 101, 111, 121):
            pager.write(first, first + 9)
            document = pager.page(n=15, before=pager.cursor(document, 'prev'))
            found = pager.numbers(document) + found
        self.assertEqual(found, list(range(1, 81)))

    def test_next_of_a_page_that_was_read_backward_goes_on_behind_it(self) -> None:
        pager = Pager(plant(scratch(), {'app.log.1': numbered(1, 40), 'app.log': numbered(41, 80)}))
        middle = pager.page(n=10, before=pager.behind(55))
        self.assertEqual(pager.numbers(middle), list(range(46, 56))[:10])
        self.assertEqual(pager.rest(pager.cursor(middle)), list(range(56, 81)))
        early = pager.page(n=10, after=pager.behind(20))
        self.assertEqual(pager.numbers(early), list(range(21, 31)))
        self.assertEqual(pager.numbers(pager.page(n=10, before=pager.cursor(early, 'prev'))), list(range(11, 21)))


def rename_and_create(pager: Pager) -> None:
    pager.rename(('', '.1'))
    pager.write(51, 80)


def rotate_with_compression(pager: Pager) -> None:
    rename_and_create(pager)
    pager.compress('.1', '.2.gz')
    pager.rename(('', '.1'))
    pager.log().touch()
    pager.write(81, 90)


def rotate_by_date(pager: Pager) -> None:
    pager.rename(('', '-20260101'))
    pager.write(51, 80)
    pager.compress('-20260101', '-20260101.gz')


def rotate_by_copy(pager: Pager) -> None:
    pager.copytruncate('.1')
    pager.write(51, 80)


def rotate_by_copy_and_grow_beyond(pager: Pager) -> None:
    pager.copytruncate('.1')
    pager.write(51, 400)


def write_to_the_renamed_one(pager: Pager) -> None:
    pager.rename(('', '.1'))
    pager.log().touch()
    pager.write(51, 60, '.1')
    pager.write(61, 80)


def rotate_five_times(pager: Pager) -> None:
    for turn in range(5):
        endings = sorted((path.name[7:] for path in pager.root.iterdir()), key=lambda text: int('0' + text[1:2]))
        for ending in reversed(endings):
            number = int('0' + ending[1:2])
            pager.rename((ending, f'.{number + 1}' + ending[2:]))
        if turn:
            pager.compress('.2', '.2.gz')
        pager.write(51 + turn * 10, 60 + turn * 10)


CHANGES = (rename_and_create, rotate_with_compression, rotate_by_date, rotate_by_copy, rotate_by_copy_and_grow_beyond,
           write_to_the_renamed_one, rotate_five_times)


class Cursors(Case):
    """A place survives whatever happens to its file, or is gone with a word (410) and a place to go on from."""

    def planted(self) -> Pager:
        """A log of the lines 1 to 50."""
        return Pager(plant(scratch(), {'app.log': numbered(1, 50)}))

    def numbers_on_disk(self, pager: Pager) -> list[int]:
        return pager.numbers(pager.page(n=10000))

    def test_each_survives_every_kind_of_rotation(self) -> None:
        for change in CHANGES:
            for place in (1, 17, 49, 50):
                with self.subTest(change.__name__, place=place):
                    pager = self.planted()
                    cursor = pager.behind(place)
                    change(pager)
                    last = max(self.numbers_on_disk(pager))
                    self.assertEqual(pager.rest(cursor, 7), list(range(place + 1, last + 1)))
                    self.assertEqual(pager.numbers(pager.page(before=cursor)), list(range(1, place + 1)))

    def test_the_place_at_the_end_survives_while_nothing_has_been_written_yet(self) -> None:
        for steps in (('rename',), ('copy',), ('rename', 'touch'), ('copy', 'write'),
                      ('rename', 'touch', 'late', 'write')):
            with self.subTest(steps):
                pager = self.planted()
                cursor = pager.cursor(pager.page())
                expected: list[int] = []
                last = 50
                for step in steps:
                    if step == 'rename':
                        pager.rename(('', '.1'))
                    elif step == 'copy':
                        pager.copytruncate('.1')
                    elif step == 'touch':
                        pager.log().touch()
                    else:
                        pager.write(last + 1, last + 10, '.1' if step == 'late' else '')
                        expected += range(last + 1, last + 11)
                        last += 10
                    document = pager.page(after=cursor)
                    self.assertEqual(pager.numbers(document), expected[-10:] if step in ('late', 'write') else [])
                    cursor = pager.cursor(document)

    def test_lines_written_late_to_the_renamed_file_are_given_once(self) -> None:
        pager = self.planted()
        cursor = pager.cursor(pager.page())
        pager.rename(('', '.1'))
        pager.write(61, 65)
        found: list[int] = []
        for first, ending in ((0, ''), (51, '.1'), (66, ''), (56, '.1'), (71, '')):
            if first:
                pager.write(first, first + 4, ending)
            document = pager.page(after=cursor)
            found += pager.numbers(document)
            cursor = pager.cursor(document)
        self.assertEqual(sorted(found), list(range(51, 76)))
        self.assertEqual(found[:5], list(range(61, 66)))
        pager.compress('.1', '.1.gz')
        self.assertEqual(pager.rest(cursor), [])

    def test_a_copy_in_the_making_is_not_read_twice(self) -> None:
        pager = self.planted()
        cursor = pager.behind(30)
        data = pager.log().read_bytes()
        for size in (1, 300, 2000, len(data)):
            pager.log('.1').write_bytes(data[:size])
            self.assertEqual(pager.rest(cursor), list(range(31, 51)), size)
            self.assertEqual(self.numbers_on_disk(pager), list(range(1, 51)))

    def test_one_outlives_a_rotation_between_listing_and_reading(self) -> None:
        pager = self.planted()
        cursor = pager.behind(17)
        survey_of = logwatch.survey_of

        def late(*how: Any) -> Any:
            survey = survey_of(*how)
            if not pager.log('.1').exists():
                rotate_by_copy_and_grow_beyond(pager)
            return survey
        with mock.patch.object(logwatch, 'survey_of', late):
            self.assertEqual(pager.rest(cursor, 1000), list(range(18, 401)))

    def test_one_outlives_the_server(self) -> None:
        root = plant(scratch(), {'app.log': numbered(1, 50)})
        state = str(scratch())
        server = self.serve('--state-dir', state, root=root)
        cursor = server.get('/logs/app?format=json&n=20').json()['entries'][4]['cursor']
        server.stop()
        Pager(root).rename(('', '.1'))
        Pager(root).compress('.1', '.1.gz')
        Pager(root).write(51, 60)
        document = self.serve('--state-dir', state, root=root).get(f'/logs/app?format=json&after={cursor}').json()
        self.assertEqual(Pager(root).numbers(document), list(range(36, 61)))

    def gone(self, pager: Pager, cursor: str) -> list[int]:
        """The rest of a log by the place that its 410 offers."""
        reply = pager.ask(after=cursor)
        self.assertProblem(reply, 410, 'gone')
        self.assertTrue(reply.json()['fix'])
        return pager.rest(reply.json()['oldest'])

    def test_one_in_a_file_overwritten_in_place_is_410_with_the_oldest_that_works(self) -> None:
        pager = self.planted()
        cursor = pager.behind(30)
        os.truncate(pager.log(), 0)                             # the same inode
        pager.write(101, 180)
        self.assertEqual(self.gone(pager, cursor), list(range(101, 181)))

    def test_one_in_a_file_deleted_and_created_again_is_410(self) -> None:
        pager = self.planted()
        plant(pager.root, {'app.log.1': numbered(-50, 0)})
        os.utime(pager.log('.1'), (10 ** 9, 10 ** 9))
        cursor = pager.behind(30)
        pager.log().unlink()
        pager.write(51, 80)
        self.assertEqual(self.gone(pager, cursor), list(range(51, 81)))

    def test_one_in_a_rotated_file_that_was_removed_is_410_and_goes_on_with_the_next(self) -> None:
        pager = self.planted()
        cursor = pager.behind(30)
        os.utime(pager.log(), (10 ** 9, 10 ** 9))
        cursor = pager.behind(30)
        pager.rename(('', '.2'))
        pager.write(51, 60, '.1')
        pager.write(61, 70)
        pager.log('.2').unlink()
        self.assertEqual(self.gone(pager, cursor), list(range(51, 71)))

    def test_one_of_a_log_that_is_empty_now_waits_for_what_comes(self) -> None:
        pager = Pager(plant(scratch(), {'app.log': ''}))
        cursor = pager.cursor(pager.page())
        self.assertTrue(cursor)
        pager.write(1, 10)
        self.assertEqual(pager.rest(cursor, 3), list(range(1, 11)))

    def test_one_that_takes_too_long_to_unpack_is_503_and_not_gone(self) -> None:
        pager = Pager(plant(scratch(), {'app.log': numbered(1, 20_000)}))
        cursor = pager.behind(19_990)
        pager.compress('', '.1.gz')
        pager.write(20_001, 20_010)
        spend = logwatch.Budget.spend

        def slow(budget: logwatch.Budget, count: int) -> bool:
            if budget.bytes > 500_000:
                budget.stop = 'deadline'
            return spend(budget, count)
        for relation in ('after', 'before'):
            with mock.patch.object(logwatch.Budget, 'spend', slow):
                reply = pager.ask(**{relation: cursor})
            self.assertProblem(reply, 503, 'unpacking')
            self.assertTrue(reply.headers['Retry-After'].isdigit())
            self.assertEqual(pager.rest(reply.json()['oldest']), list(range(20_001, 20_011)))
        self.assertEqual(pager.rest(cursor), list(range(19_991, 20_011)))

    def test_a_follower_asks_again_for_one_that_was_not_found_in_time_before_it_goes_on(self) -> None:
        places: list[str] = []

        def read(place: str) -> logwatch.Page:
            places.append(place)
            if place == 'oldest':
                return logwatch.Page('app', (), logwatch.Scan(0, 0, 0, 'complete'), 'end', '', str)
            raise logwatch.Problem(503, 'slow', members={'oldest': 'oldest'})
        stream = logwatch.follow(read, logwatch.Watch(lambda: None), lambda: 'oldest' in places)
        self.assertEqual([isinstance(item, logwatch.Problem) for item in stream], [True, True, False])
        self.assertEqual(places, ['', '', 'oldest'])

    def test_one_is_never_in_a_packed_file_of_nothing(self) -> None:
        """Its place was the beginning of any: written longer, the file before came again."""
        pager = Pager(scratch())
        pager.write(1, 20)
        cursor = pager.behind(20)
        (pager.root / 'app.log.2.gz').write_bytes(gzip.compress((pager.root / 'app.log').read_bytes()))
        (pager.root / 'app.log.1.gz').write_bytes(gzip.compress(b''))
        (pager.root / 'app.log').unlink()
        (pager.root / 'app.log').touch()
        for name, when in (('app.log.1.gz', NOON), ('app.log.2.gz', NOON + 1), ('app.log', NOON + 2)):
            os.utime(pager.root / name, (when, when))
        document = pager.page(after=cursor)
        self.assertEqual(document['entries'], [])
        pager.write(21, 30)
        self.assertEqual(pager.rest(pager.cursor(document)), list(range(21, 31)))

    def test_one_says_nothing_of_the_lines_and_cannot_be_made(self) -> None:
        pager = self.planted()
        cursor = pager.behind(30)
        self.assertNotIn(b'line', base64.urlsafe_b64decode(cursor + '=='))
        for number in range(0, len(cursor), 5):
            forged = cursor[:number] + ('A' if cursor[number] != 'A' else 'B') + cursor[number + 1:]
            self.assertIn(pager.ask(after=forged).status, (400, 410))


class History:
    """A log that is written, rotated and read at random, as seed has it; every line is on disk at the end."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.pager = Pager(plant(scratch(), {'app.log': numbered(1, 3)}))
        self.written = 3
        self.renamed = False        # whether .1 is a file that a writer may still hold open
        document = self.pager.page()
        self.seen, self.cursor = self.pager.numbers(document), self.pager.cursor(document)
        self.steps: list[str] = []

    def run(self, steps: int) -> None:
        choices: dict[str, Callable[[], object]] = {
            'write': self.write, 'write more': self.write, 'read': self.read, 'read more': self.read,
            'rename': self.rename, 'copy': self.copy, 'compress': self.compress, 'write late': self.write_late}
        for _ in range(steps):
            self.steps.append(self.chance.choice(list(choices)))
            choices[self.steps[-1]]()
        while self.read(50):
            pass

    def write(self, most: int = 8, ending: str = '') -> None:
        count = self.chance.randint(1, most)
        self.pager.write(self.written + 1, self.written + count, ending)
        self.written += count

    def write_late(self) -> None:
        if self.renamed:
            self.write(2, '.1')

    def read(self, n: int = 0) -> list[int]:
        document = self.pager.page(after=self.cursor, n=n or self.chance.choice((1, 3, 50)))
        self.cursor = self.pager.cursor(document)
        self.seen += self.pager.numbers(document)
        return self.pager.numbers(document)

    def shift(self) -> None:
        """Number each rotated file one higher."""
        endings = {int(path.name.split('.')[2]): path.name[7:] for path in self.pager.root.glob('app.log.*')}
        for number in sorted(endings, reverse=True):
            self.pager.rename((endings[number], f'.{number + 1}' + '.gz' * endings[number].endswith('.gz')))

    def rename(self) -> None:
        if self.pager.log().stat().st_size:
            self.shift()
            self.pager.rename(('', '.1'))
            self.pager.log().touch()
            self.renamed = True

    def copy(self) -> None:
        if self.pager.log().stat().st_size:
            self.shift()
            self.pager.copytruncate('.1')
            self.renamed = False

    def compress(self) -> None:
        plain = [path.name[7:] for path in self.pager.root.glob('app.log.*') if path.suffix not in ('.gz', '.1')]
        if plain:
            ending = self.chance.choice(plain)
            self.pager.compress(ending, f'{ending}.gz')


class Histories(Case):
    """Reading forward by cursor gives every line once, whatever happens between two reads."""

    def test_of_forty_random_lives(self) -> None:
        for seed in range(40):
            with self.subTest(seed):
                history = History(seed)
                history.run(60)
                self.assertEqual(sorted(history.seen), list(range(1, history.written + 1)), history.steps)
                found = history.pager.numbers(history.pager.page(n=10000))
                self.assertEqual(sorted(found), list(range(1, history.written + 1)))


# ----------------------------------------------------------------------------------------------------------------------
# search: held against grep, and against a filter in plain Python
# ----------------------------------------------------------------------------------------------------------------------

WORDS = ('error', 'Error', 'ERROR', 'timeout', 'TimeOut', 'user=17', 'user=170', '=', 'x', 'aaa', 'été', 'Été', 'ÉTÉ',
         'straße', 'STRASSE',
         'mass', 'ma\u017fs', 'MASS', 'μm', 'µm', 'f\u0131x', 'FIX', 'fix', '.*', '[a-z]', '\\d', '--', '\t', 'a b',
         '日本')
FIXED = ('error', 'r', 'user=17', '=', '.*', '[a-z]', '\\d', '--', '\t', 'été', 'ÉTÉ', 'straße', 'mass',
         'ma\u017fs', 's', 'k', 'fix', 'i', 'μm', 'a b', '日本', ' ', 'nowhere', '-e', '17 ', 'x été')
EXPRESSIONS = (     # in Python's syntax and grep's
    ('user=[0-9]+', '-E'), ('err(or)?', '-E'), ('^error', '-E'), ('x$', '-E'), ('^$', '-E'), ('a{2,3}', '-E'),
    ('(aaa|x) ', '-E'),
    ('user=17\\b', '-P'), ('(?i)timeout', '-P'), ('\\berror\\b.*\\btimeout\\b', '-P'), ('été|fix', '-E'),
    ('user=(?=170)', '-P'), ('(?<!x )error', '-P'), ('\\.\\*', '-E'), ('\\[a-z]', '-E'), ('ma.s', '-E'),
    ('e+r{2}', '-E'),
    ('a?x', '-E'), ('x*=', '-E'), ('error|', '-E'), ('(error) (x)', '-E'), ('[[]a', '-P'), ('\\d\\d', '-P'),
    ('nowhere', '-E'))


def random_log(chance: random.Random, count: int, odd: bytes = b'') -> bytes:
    """Lines of random words; `odd` bytes now and then."""
    lines = []
    for _ in range(count):
        line = ' '.join(chance.choices(WORDS, k=chance.choice((0, 1, 2, 3, 5)))).encode()
        lines.append(line + (odd if chance.random() < .1 else b'') + b'\n')
    return b''.join(lines)


class Corpus(NamedTuple):
    """A log's rotation set, and each of its files as a plain one for grep, oldest first."""

    root: Path
    plain: list[Path]

    @classmethod
    def make(cls, seed: int, odd: bytes = b'', count: int = 80) -> Corpus:
        chance = random.Random(seed)
        root, other = scratch(), scratch()
        plain = []
        for name in ('app.log.2.gz', 'app.log.1', 'app.log'):
            data = random_log(chance, count, odd)
            (root / name).write_bytes(pack(data, 2) if name.endswith('.gz') else data)
            plain.append(other / name.removesuffix('.gz'))
            plain[-1].write_bytes(data)
        return cls(root, plain)

    def ask(self, parameters: Mapping[str, object]) -> Reply:
        return call(make_application('--log', f'app={self.root}/app.log'), lines_url('app', parameters))

    def grep(self, *options: str) -> bytes:
        """What grep prints of the files, in the order of the log."""
        return run_grep('-h', *options, *map(str, self.plain))


def run_grep(*options: str, data: bytes | None = None) -> bytes:
    """GNU grep in a UTF-8 locale, binary bytes as text."""
    done = subprocess.run(['grep', '-a', *options], input=data, capture_output=True,
                          env={'PATH': SYSTEM_PATH, 'LC_ALL': 'C.UTF-8'})
    if done.returncode > 1:
        raise AssertionError(done.stderr.decode())
    return done.stdout


def newest(data: bytes, count: int) -> bytes:
    """The last lines."""
    return b'\n'.join(data.split(b'\n')[-count - 1:])


@requires('grep')
class SearchAgainstGrep(Case):
    """Found is what grep finds in the same bytes."""

    corpora: dict[str, Corpus]

    @classmethod
    def setUpClass(cls) -> None:
        cls.corpora = {'clean': Corpus.make(1), 'odd': Corpus.make(2, b' \xff\xfe\r'), 'NUL': Corpus.make(3, b'\0\0 x')}

    def compare(self, corpus: Corpus, parameters: Mapping[str, object], expected: bytes) -> None:
        for n, limits in ((1, {}), (7, SMALL), (10000, {}), (10000, SMALL)):
            with self.subTest(parameters, n=n, small=bool(limits)), mock.patch.dict(vars(logwatch), limits):
                reply = corpus.ask({**parameters, 'n': n})
                self.assertEqual(reply.status, 200, reply.text)
                self.assertEqual(reply.body, logwatch.safe_text(newest(expected, n)))

    def test_a_fixed_string(self) -> None:
        for corpus in self.corpora.values():
            for text in FIXED:
                self.compare(corpus, {'q': text}, corpus.grep('-F', '-e', text))

    def test_a_fixed_string_without_regard_to_case(self) -> None:
        for text in FIXED:
            corpus = self.corpora['clean']
            self.compare(corpus, {'q': text, 'i': 1}, corpus.grep('-i', '-F', '-e', text))

    def test_case_is_unicodes_not_that_of_ascii(self) -> None:
        lines = words('ma\u212ae ma\u017fs STRASSE stra\u00dfe \u00c9T\u00c9 \u03a3\u03c2 \u00b5 f\u0131x')
        root = plant(scratch(), {'app.log': '\n'.join(lines)})
        application = make_application('--log-root', str(root))
        for text, found in {'make': ['ma\u212ae'], 'MAS': ['ma\u017fs'], '\u212a': ['ma\u212ae'],
                            '\u017f\u017fe': ['STRASSE'],
                            'STRA\u00dfE': ['stra\u00dfe'], '\u00e9t\u00e9': ['\u00c9T\u00c9'],
                            '\u03c3\u03c3': ['\u03a3\u03c2'],
                            '\u03bc': ['\u00b5'], 'fix': ['f\u0131x'], 'FIX': ['f\u0131x'],
                            'strasse': ['STRASSE']}.items():
            for limits in ({}, SMALL):
                with self.subTest(text), mock.patch.dict(vars(logwatch), limits):
                    self.assertEqual(call(application, lines_url('app', q=text, i=1)).text.splitlines(), found)

    def test_lines_without_a_string(self) -> None:
        for corpus in self.corpora.values():
            for text in FIXED[::3]:
                self.compare(corpus, {'not': text}, corpus.grep('-v', '-F', '-e', text))
                self.compare(corpus, {'not': text, 'i': 1}, corpus.grep('-v', '-i', '-F', '-e', text))

    def test_a_string_that_no_line_can_hold_is_refused(self) -> None:
        for name in ('q', 'not'):
            for text in ('', 'a\nb', 'a\rb', 'a\0b', 'x' * 4097):
                self.assertProblem(self.corpora['clean'].ask({name: text}), 400, name)
            self.assertEqual(self.corpora['clean'].ask({name: ['x'] * 20}).status, 200)

    def test_several_strings_and_expressions_together(self) -> None:
        chance = random.Random(4)
        corpus = self.corpora['clean']
        for _ in range(40):
            wanted = chance.choices(FIXED[:12], k=chance.randrange(1, 3))
            unwanted = chance.choices(FIXED, k=chance.randrange(3))
            case = chance.choice(((), ('-i',)))
            parameters: dict[str, object] = {'q': wanted, 'not': unwanted} | ({'i': 1} if case else {})
            data = corpus.grep('')
            for option, texts in ((('-F',), wanted), (('-F', '-v'), unwanted)):
                for text in texts:
                    data = run_grep(*case, *option, '-e', text, data=data)
            if chance.random() < .5:
                pattern, syntax = chance.choice(EXPRESSIONS)
                parameters['re'] = pattern
                data = run_grep(*case, syntax, '-e', pattern, data=data)
            self.compare(corpus, parameters, data)

    def test_a_regular_expression(self) -> None:
        corpus = self.corpora['clean']
        for pattern, syntax in EXPRESSIONS:
            for case in ((), ('-i',)):
                with self.subTest(pattern, case=case):
                    parameters: dict[str, object] = {'re': pattern, 'n': 10000} | ({'i': 1} if case else {})
                    reply = corpus.ask(parameters)
                    self.assertEqual(reply.body, logwatch.safe_text(corpus.grep(*case, syntax, '-e', pattern)),
                                     reply.body[:200])

    def test_its_literal_part_hides_no_line(self) -> None:
        """The string that is looked for first must be in whatever the expression matches."""
        samples = ['', 'aaa', 'ab', 'abab', 'a.b', 'a\\b', 'x=1', 'xyz', 'x{2}', 'xx', 'a|b', '(a)', 'A', 'fOO bar',
                   'foo\tbar', '\x07']
        patterns = ('a*b', 'ab?', '(ab)+', 'a|b', 'a\\.b', 'a\\\\b', 'x{2}', 'x{0}y', 'xy{0,1}z', '[ab]c?', '[]a]b?',
                    'a+?b', '(?:foo)? ?bar',
                    '(?i)foo', '\\x66oo', '\\146oo', 'foo\\tbar', '(?x) foo \\  bar', 'a\\|b', '\\(a\\)', '^ab$',
                    'a(?#x)b', '\\Aab\\Z', 'ab{,5}',
                    'a{,2}b', 'x{2', 'x{a}', '(?!a)x', '(?=x)xy', 'a\\ab?', '\\N{BELL}', '\\u0066oo', 'a**b', 'fo{2}',
                    'fo{2}?', 'x\\{2}')
        for pattern in patterns:
            with self.subTest(pattern), contextlib.suppress(re.error):
                literal = logwatch.literal_of(pattern)
                for text in samples:
                    found = re.search(pattern, text)
                    self.assertTrue(not found or literal in found[0] or literal in text, (literal, text))

    def test_pages_of_hits_give_each_once(self) -> None:
        for parameters, options in (({'q': 'error'}, ('-F', '-e', 'error')),
                                    ({'re': 'user=1.'}, ('-E', '-e', 'user=1.')),
                                    ({'not': 'x'}, ('-v', '-F', '-e', 'x')),
                                    ({'q': 'mass', 'i': 1}, ('-i', '-F', '-e', 'mass'))):
            corpus = self.corpora['clean']
            expected = logwatch.safe_text(corpus.grep(*options)).decode().splitlines()
            for n, limits in ((1, {}), (4, SMALL), (9, {})):
                with self.subTest(parameters, n=n), mock.patch.dict(vars(logwatch), limits):
                    self.assertEqual(self.walk(corpus, {**parameters, 'n': n}, 'prev'), expected)
                    self.assertEqual(self.walk(corpus, {**parameters, 'n': n}, 'next'), expected)

    def walk(self, corpus: Corpus, parameters: Mapping[str, object], relation: str) -> list[str]:
        """The lines of all pages, by `prev` from the newest, or by `next` from the place before the oldest."""
        application = make_application('--log', f'app={corpus.root}/app.log')
        page = call(application, lines_url('app', parameters, format='json')).json()
        pages = [page]
        while page['prev']:
            page = call(application, '/logs/app' + page['prev']).json()
            pages.insert(0, page)
        if relation == 'next':
            pages = pages[:1]
            while not pages[1:] or pages[-1]['entries']:
                pages.append(call(application, '/logs/app' + pages[-1]['next']).json())
        return [entry['message'] for page in pages for entry in page['entries']]


@requires('grep')
class Context(Case):
    """A, B and C print what grep prints."""

    def test_around_every_hit(self) -> None:
        for seed in range(4):
            corpus = Corpus.make(seed + 10, count=60)
            for parameters, options in (({'q': 'user=17'}, ('-F', '-e', 'user=17')),
                                        ({'q': 'été', 'i': 1}, ('-i', '-F', '-e', 'été')),
                                        ({'re': '^error'}, ('-E', '-e', '^error')),
                                        ({'not': 'e'}, ('-v', '-F', '-e', 'e')),
                                        ({'q': 'nowhere'}, ('-F', '-e', 'nowhere'))):
                for around in ({'A': 1}, {'B': 1}, {'C': 1}, {'A': 2, 'B': 5}, {'C': 7}, {'A': 100}, {'B': 100},
                               {'C': 0}):
                    context = [word for letter, count in around.items() for word in (f'-{letter}', str(count)) if count]
                    expected = logwatch.safe_text(corpus.grep(*context, *options))
                    for limits in ({}, SMALL):
                        with self.subTest(parameters, seed=seed, **around), mock.patch.dict(vars(logwatch), limits):
                            self.assertEqual(corpus.ask({**parameters, **around, 'n': 10000}).body, expected)

    def test_around_the_newest_hits(self) -> None:
        corpus = Corpus.make(20)
        files = [path.read_bytes().split(b'\n')[:-1] for path in corpus.plain]
        places = [(number, row) for number, lines in enumerate(files) for row, line in enumerate(lines)
                  if b'error' in line]
        for n in (1, 2, 5):
            for before, behind in ((0, 1), (2, 0), (3, 3)):
                with self.subTest(n=n, before=before, behind=behind):
                    kept = sorted({(number, near) for number, row in places[-n:]
                                   for near in range(row - before, row + behind + 1)
                                   if 0 <= near < len(files[number])})
                    rows = [b'' if index and (kept[index - 1][0],
                                              kept[index - 1][1] + 1) == place else b'--\n' * bool(index)
                            for index, place in enumerate(kept)]
                    expected = b''.join(rows[index] + files[number][row] + b'\n'
                                        for index, (number, row) in enumerate(kept))
                    reply = corpus.ask({'q': 'error', 'n': n, 'B': before, 'A': behind})
                    self.assertEqual(reply.body, logwatch.safe_text(expected))

    def test_a_page_with_context_is_bounded(self) -> None:
        block = b''.join((b'hit %d ' % row if row % 100 == 0 else b'') + b'x' * 990 + b'\n' for row in range(1000))
        root = plant(scratch(), {'app.log': block * 20})
        reply = call(make_application('--log-root', str(root)), '/logs/app?q=hit&n=10000&C=100')
        self.assertLess(len(reply.body), 2 * logwatch.PAGE_BYTES)
        self.assertIn('stop=limit', reply.headers['Logwatch-Scan'])
        self.assertIn('rel="prev"', reply.headers['Link'])

    def test_a_page_with_context_is_bounded_in_lines_and_the_next_goes_on_from_there(self) -> None:
        """Empty lines are no bytes of a page, but take memory."""
        data = 'begin\n' + ''.join(f'HIT {number}\n' + '\n' * 200 for number in range(60))
        for name in ('app.log', 'app.log.1.gz'):
            pager = Pager(plant(scratch(), {'app.log': '', name: data}))
            begin = pager.page(q='begin')['entries'][0]['cursor']
            for relation in ('prev', 'next'):
                document = pager.page(q='HIT', C=100, n=10000, **({'after': begin} if relation == 'next' else {}))
                self.assertEqual(document['scan']['stop'], 'limit')
                found: list[int] = []
                while entries := document['entries']:
                    hits = [int(entry['message'][4:]) for entry in entries if 'context' not in entry]
                    with self.subTest(name, relation=relation, hits=hits):
                        self.assertLessEqual(len(entries), logwatch.LINES_MAX)
                        self.assertGreaterEqual(len(entries), 201 * len(hits) - 100)
                        found = hits + found if relation == 'prev' else found + hits
                    place = {'before' if relation == 'prev' else 'after': pager.cursor(document, relation)}
                    document = pager.page(q='HIT', C=100, n=10000, **place) if any(place.values()) else {'entries': []}
                self.assertEqual(found, list(range(60)), (name, relation))

    def test_around_the_hits_in_a_gzip_file_that_is_unpacked_once_for_them(self) -> None:
        rows = [f'{"HIT" if row % 400 == 200 else "row"} {row} {"x" * 90}' for row in range(20_000)]
        data = ''.join(f'{row}\n' for row in rows)
        root = plant(scratch(), {'app.log': 'live\n', 'app.log.1.gz': data})
        application = make_application('--log-root', str(root))
        for parameters in ({'B': 1}, {'A': 1}, {'C': 1}, {'C': 90}, {'B': 100}):
            with self.subTest(parameters):
                before, behind = (parameters.get(letter, parameters.get('C', 0)) for letter in 'BA')
                document = call(application, lines_url('app', parameters, q='HIT', format='json')).json()
                self.assertEqual([entry['message'] for entry in document['entries']],
                                 [rows[near] for row in range(200, 20_000, 400)
                                  for near in range(row - before, row + behind + 1)])
                self.assertLess(document['scan']['bytes'], 3 * len(data))

    def test_json_marks_the_lines_that_only_stand_near(self) -> None:
        root = plant(scratch(), {'app.log': numbered(1, 20)})
        entries = call(make_application('--log-root', str(root)),
                       '/logs/app?q=line%207&C=1&format=json').json()['entries']
        self.assertEqual([(entry['message'].split()[-1], entry.get('context', False)) for entry in entries],
                         [('6', True), ('7', False), ('8', True)])

    def test_a_hit_near_another_has_its_own_cursor(self) -> None:
        pager = Pager(plant(scratch(), {'app.log': numbered(1, 20)}))
        document = pager.page(q='line 1', C=1)
        places = dict(zip(pager.numbers(document), document['entries'], strict=True))
        for number in range(10, 20):
            self.assertEqual(pager.numbers(pager.page(after=places[number]['cursor']))[0], number + 1)

    def late(self) -> tuple[Pager, str]:
        """A log whose renamed file grew behind the place of a cursor in the live one, and that cursor."""
        pager = Pager(plant(scratch(), {'app.log.1': numbered(1, 50), 'app.log': numbered(101, 105)}))
        cursor = pager.cursor(pager.page())
        pager.write(51, 53, '.1')
        return pager, cursor

    def test_around_lines_that_were_written_late_to_the_renamed_file(self) -> None:
        pager, cursor = self.late()
        pager.write(106, 400)
        self.assertEqual(pager.numbers(pager.page(after=cursor, C=1)), [*range(50, 54), *range(105, 204)])
        self.assertEqual(pager.numbers(pager.page(after=cursor, C=1, q='line 52')), [51, 52, 53])
        self.assertEqual(pager.numbers(pager.page(after=cursor, A=1, re='line (53|107)$')), [53, 107, 108])
        text = call(make_application('--log', f'app={pager.log()}'),
                    lines_url('app', after=cursor, B=1, re='line (51|106)$')).text
        self.assertEqual([line.split()[-1] for line in text.splitlines()], ['50', '51', '--', '105', '106'])

    def test_what_was_written_late_does_not_show_a_place_of_the_live_file_unmasked(self) -> None:
        pager, cursor = self.late()
        secret = 'Tr0ub4dor-and-3-horses'
        with pager.log().open('a') as file:
            file.write(f'login user=bob password={secret}\n' * 100)
        for number in range(10):
            pager.write(54 + number, 54 + number, '.1')
            reply = pager.ask(after=cursor, q=f'line {54 + number}', C=9)
            self.assertNotIn(secret[-5:], reply.text)
            self.assertEqual(pager.numbers(reply.json())[-1], 54 + number)

    def test_a_hit_at_each_end_and_a_line_without_newline(self) -> None:
        root = plant(scratch(), {'app.log': 'hit\n2\n3\n4\nhit'})
        application = make_application('--log-root', str(root))
        self.assertEqual(call(application, '/logs/app?q=hit&C=1').text, 'hit\n2\n--\n4\nhit\n')
        self.assertEqual(call(application, '/logs/app?q=3&C=9').text, 'hit\n2\n3\n4\nhit\n')


@contextlib.contextmanager
def zone(name: str) -> Iterator[None]:
    """The server's time zone, for a while; converted stamps are kept, so they are forgotten."""
    with mock.patch.dict(os.environ, TZ=name):
        time.tzset()
        logwatch._second.cache_clear()
        try:
            yield
        finally:
            logwatch._second.cache_clear()
    time.tzset()


def in_utc(pattern: str) -> Callable[[float], str]:
    return lambda moment: time.strftime(pattern, time.gmtime(moment))


def in_local_time(pattern: str) -> Callable[[float], str]:
    return lambda moment: time.strftime(pattern, time.localtime(moment))


STAMPS: dict[str, Callable[[float], str]] = {      # how each format begins a line
    'access': in_utc('192.0.2.1 - - [%d/%b/%Y:%H:%M:%S +0000] "GET /'),
    'nginx-error': in_local_time('%Y/%m/%d %H:%M:%S [error] 12#12: *3 '),
    'apache-error': in_local_time('[%a %b %d %H:%M:%S.000000 %Y] [core:error] [pid 1] '),
    'rfc3164': in_local_time('%b %e %H:%M:%S host app[1]: '),
    'rfc3339': in_utc('%Y-%m-%dT%H:%M:%S.000000+00:00 host app[1]: '),
    'rfc5424': in_utc('<165>1 %Y-%m-%dT%H:%M:%SZ host app 1 - - '),
    'json': in_utc('{"time":"%Y-%m-%dT%H:%M:%SZ","msg":"'),
    'iso8601': in_local_time('%Y-%m-%d %H:%M:%S,000 ERROR '),
    'day-first': in_local_time('%d-%b-%Y %H:%M:%S.000 INFO [main] '),
    'epoch': lambda moment: f'{moment:.3f}   45 192.0.2.1 '}
Timed = tuple[float, str]      # a line, and when it was written
NOON = 1767225600 + 43200      # 2026-01-01T12:00:00Z


def timed_lines(stamp: Callable[[float], str], moments: Iterable[float], continued: int = 0) -> list[Timed]:
    """A numbered line for each moment; `continued` lines of a traceback behind every fifth."""
    rows: list[Timed] = []
    for number, moment in enumerate(moments):
        head = stamp(moment)
        rows.append((moment, f'{head}line {number} {"x" * (number % 50)}' + '"}' * head.startswith('{')))
        rows += [(moment, f'  File "x.py", line {row}, in number_{number}')
                 for row in range(continued if number % 5 == 0 else 0)]
    return rows


def plant_timed(parts: Mapping[str, Sequence[Timed]]) -> Path:
    """Files of timed lines, each changed when its last line was written."""
    root = scratch()
    for name, rows in parts.items():
        plant(root, {name: ''.join(f'{line}\n' for _, line in rows)})
        os.utime(root / name, (rows[-1][0], rows[-1][0]))
    return root


class Ranges(Case):
    """since and until give the lines that a plain loop over all of them gives."""

    def ask(self, root: Path, **parameters: object) -> dict[str, Any]:
        reply = call(make_application('--log-root', str(root)), lines_url('app', parameters, format='json'))
        self.assertEqual(reply.status, 200, reply.text)
        document: dict[str, Any] = reply.json()
        return document

    def compare(self, root: Path, rows: Sequence[Timed], ranges: Iterable[tuple[float | None, float | None]]) -> None:
        for since, until in ranges:
            with self.subTest(since=since, until=until):
                parameters = {name: f'@{moment}' for name, moment in (('since', since), ('until', until))
                              if moment is not None}
                expected = [line for moment, line in rows if (since is None or moment >= since)
                            and (until is None or moment <= until)][-10000:]
                found = [entry['message'] for entry in self.ask(root, **parameters, n=10000)['entries']]
                self.assertEqual(len(found), len(expected), (found[:1], expected[:1], found[-1:], expected[-1:]))
                self.assertEqual(found, expected)

    def some_ranges(self, rows: Sequence[Timed], count: int = 12) -> list[tuple[float | None, float | None]]:
        """Ranges of each kind over the time of rows, empty and whole ones included."""
        chance = random.Random(5)
        first, last = int(min(rows)[0]), int(max(rows)[0])
        pairs = [sorted((chance.randint(first - 60, last + 60), chance.randint(first - 60, last + 60)))
                 for _ in range(count)]
        ranges: list[tuple[float | None, float | None]] = [(a, b) for a, b in pairs]
        for a, b in pairs[:4]:
            ranges += [(a, a + 30), (a, None), (None, b)]
        return [*ranges, (first, last), (last, None), (None, first), (last + 1, None), (None, first - 1),
                (first - 9, last + 9)]

    def test_a_stamp_without_a_year_is_of_the_year_of_its_own_file(self) -> None:
        """Rotations of a log that is written once a year, or was not for years."""
        files = {'app.log.3.gz': '2021-02-03', 'app.log.2.gz': '2022-08-09', 'app.log.1': '2023-12-24',
                 'app.log': '2026-01-01'}
        moments = {name: datetime.fromisoformat(f'{day}T12:00:00').timestamp() for name, day in files.items()}
        root = plant(scratch(), {name: f'{STAMPS["rfc3164"](moment)}{name}\n' for name, moment in moments.items()})
        for name, moment in moments.items():
            os.utime(root / name, (moment + 7200,) * 2)
        times = {name: logwatch.timestamp(moment) for name, moment in moments.items()}
        self.assertEqual([entry['time'] for entry in self.ask(root)['entries']], [*times.values()])
        row, = call(make_application('--log-root', str(root)), '/logs?format=json').json()['logs']
        self.assertEqual((row['first'], row['last']), (times['app.log.3.gz'], times['app.log']))
        for name, moment in moments.items():
            with self.subTest(name):
                for around in ({}, {'after': self.ask(root)['entries'][0]['cursor']} if '.3' not in name else {}):
                    found = self.ask(root, since=f'@{moment - 60:.0f}', until=f'@{moment + 60:.0f}', **around)
                    self.assertEqual([entry['message'].split()[-1] for entry in found['entries']], [name])

    def test_one_that_ends_before_it_begins_is_refused(self) -> None:
        application = make_application('--log-root', str(plant(scratch(), {'app.log': '2026-01-01T00:00:00Z x\n'})))
        self.assertProblem(call(application, lines_url('app', since='-15m', until='-30m')), 400, 'since', 'until')
        self.assertEqual(call(application, lines_url('app', since='@1', until='@1')).text, '')

    def moments(self, count: int, seed: int = 6) -> list[float]:
        """Times in order, from one to 40 seconds apart, some of them equal."""
        chance = random.Random(seed)
        moments = [float(NOON)]
        while len(moments) < count:
            moments.append(moments[-1] + chance.choice((0, 1, 1, 5, 40)))
        return moments

    def split(self, rows: Sequence[Timed]) -> dict[str, Sequence[Timed]]:
        """A rotation set of them; a continuation line does not begin a file."""
        cuts = [next(index for index in range(len(rows) * part // 3, len(rows)) if not rows[index][1].startswith(' '))
                for part in (1, 2)]
        return {'app.log.2.gz': rows[:cuts[0]], 'app.log.1': rows[cuts[0]:cuts[1]], 'app.log': rows[cuts[1]:]}

    def test_of_every_format_across_a_rotation_set(self) -> None:
        for name, stamp in STAMPS.items():
            with zone('Europe/Berlin'), mock.patch.dict(vars(logwatch), {'PROBE_BYTES': 4096}), self.subTest(name):
                rows = timed_lines(stamp, self.moments(1500))
                root = plant_timed(self.split(rows))
                row, = call(make_application('--log-root', str(root)), '/logs?format=json').json()['logs']
                self.assertEqual(row['format'], name)
                self.compare(root, rows, self.some_ranges(rows, 6))

    def test_continuation_lines_belong_to_the_stamped_line_above(self) -> None:
        rows = timed_lines(STAMPS['iso8601'], self.moments(2400), continued=20)
        root = plant_timed(self.split(rows))
        self.assertGreater((root / 'app.log').stat().st_size, 2 * logwatch.FIRST_BLOCK_BYTES)
        self.compare(root, rows, self.some_ranges(rows, 6))

    def test_pages_within_a_range_give_each_line_once_tracebacks_too(self) -> None:
        rows = timed_lines(STAMPS['iso8601'], self.moments(60), continued=7)
        root = plant_timed(self.split(rows))
        since, until = rows[30][0], rows[-30][0]
        expected = [line for moment, line in rows if since <= moment <= until]
        for n in (3, 10):
            with self.subTest(n=n):
                page = self.ask(root, since=f'@{since}', until=f'@{until}', n=n)
                found = [entry['message'] for entry in page['entries']]
                while page['prev']:
                    page = call(make_application('--log-root', str(root)), '/logs/app' + page['prev']).json()
                    found = [entry['message'] for entry in page['entries']] + found
                self.assertEqual(found, expected)

    def test_lines_out_of_order_by_a_minute_are_found(self) -> None:
        chance = random.Random(8)
        moments = [moment + chance.randint(-50, 50) for moment in self.moments(4000)]
        rows = timed_lines(STAMPS['access'], moments)
        self.compare(plant_timed({'app.log': rows}), rows, self.some_ranges(rows))

    def test_stretches_of_a_clock_that_was_wrong_are_found(self) -> None:
        for step in (-7200, 7200, -86400 * 400, 86400 * 30):
            with self.subTest(step), mock.patch.dict(vars(logwatch), {'PROBE_BYTES': 4096}):
                moments = self.moments(3000)
                moments[1000:1400] = [moment + step for moment in moments[1000:1400]]
                rows = timed_lines(STAMPS['access'], moments)
                root = plant_timed({'app.log': rows})
                usual = [(moments[a], moments[b]) for a, b in ((100, 250), (900, 1600), (1500, 2500), (300, 2900),
                                                               (1000, 1399))]
                self.compare(root, rows, [*usual, (None, moments[1700]), (moments[500], None), (None, moments[990])])

    def test_local_times_across_the_clock_change(self) -> None:
        for day, name in ((1792879200, 'back'), (1774735200,
                                                 'forward')):       # the days before 2026-10-25 and 2026-03-29
            with self.subTest(name), zone('Europe/Berlin'), mock.patch.dict(vars(logwatch), {'PROBE_BYTES': 4096}):
                stamp = STAMPS['nginx-error']
                written = [day + 12 * step for step in range(3600)]
                # Without a zone the second 02:30 of the autumn night reads as the first: there is no telling.
                rows = [(time.mktime((*time.localtime(moment)[:8], -1)) if name == 'forward' else
                         datetime.fromtimestamp(moment).replace(fold=0).timestamp(), line)
                        for moment, line in timed_lines(stamp, written)]
                self.compare(plant_timed({'app.log': rows}), rows, self.some_ranges(rows))

    def test_stamps_without_a_year_across_new_year(self) -> None:
        with zone('UTC'):
            rows = timed_lines(STAMPS['rfc3164'], [1767225600 - 86400 * 3 + 150 * step for step in range(4000)])
            root = plant_timed(self.split(rows))
            self.compare(root, rows, self.some_ranges(rows))
            first, last = self.ask(root, n=10000)['entries'][0], self.ask(root, n=1)['entries'][0]
            self.assertEqual((first['time'][:10], last['time'][:10]), ('2025-12-29', '2026-01-04'))

    def test_members_outside_of_it_are_not_unpacked(self) -> None:
        moments = [NOON + step for step in range(60_000)]
        rows = timed_lines(STAMPS['access'], moments)
        parts = {f'app.log{f".{5 - part}.gz" if part < 5 else ""}': rows[part * 10_000:(part + 1) * 10_000]
                 for part in range(6)}
        root = plant_timed(parts)
        size = sum(len(line) + 1 for _, line in rows[:10_000])
        for since, until in ((55_000, 55_060), (25_000, 25_060), (None, 10), (59_990, None)):
            with self.subTest(since=since, until=until):
                parameters = {name: f'@{NOON + step}' for name, step in (('since', since), ('until', until))
                              if step is not None}
                document = self.ask(root, **parameters)
                self.assertGreater(len(document['entries']), 5)
                self.assertLess(document['scan']['bytes'], 3 * size, 'of 6')

    def test_a_range_of_a_large_file_reads_little_of_it(self) -> None:
        lines = [f'{STAMPS["rfc3339"](NOON + step)}line {step} {"x" * 900}\n' for step in range(60_000)]
        root = plant(scratch(), {'app.log': ''.join(lines)})
        for since, until in ((59_990, None), (30_000, 30_050), (None, 50), (70_000, None), (59_000, 59_050)):
            with self.subTest(since=since, until=until):
                parameters = {name: f'@{NOON + step}' for name, step in (('since', since), ('until', until))
                              if step is not None}
                document = self.ask(root, **parameters)
                self.assertEqual(len(document['entries']), 0 if since == 70_000 else 10 if until is None else 51)
                self.assertLess(document['scan']['bytes'], 8 << 20, 'of 56 MiB')
                self.assertEqual(document['scan']['stop'], 'complete')

    def test_a_log_without_times_says_so(self) -> None:
        root = plant(scratch(), {'app.log': 'no time here\n' * 50, 'dmesg.log': '[   12.345678] usb 1-1: text\n' * 50,
                                 'empty.log': ''})
        application = make_application('--log-root', str(root))
        for log in ('app', 'dmesg'):
            for parameter in ('since', 'until'):
                reply = call(application, lines_url(log, {parameter: '-15m'}))
                self.assertProblem(reply, 400, log, 'times', parameter)
        self.assertEqual(call(application, '/logs/empty?since=-15m').body, b'')

    def test_the_spellings_of_the_table_are_taken(self) -> None:
        root = plant(scratch(), {'app.log': numbered(1, 3)})
        application = make_application('--log-root', str(root))
        for text in ('2026-01-01T00:00:02Z', '2026-01-01T01:00:02+01:00', '2026-01-01 00:00:02 UTC', '@1767225602',
                     '@1767225601.5'):
            with self.subTest(text):
                self.assertEqual(len(call(application, lines_url('app', since=text)).text.splitlines()), 2)
        for text in ('-15m', '-2h', '-3d', 'today', 'yesterday', 'now', '14:05', '2 days ago', '2026-01-02'):
            self.assertEqual(call(application, lines_url('app', since=text)).status, 200, text)
        for text in ('', 'soon', '-15', '2026-13-01', '@', '-1' * 40, '2026-01-01 00:00 Europe/Berlin'):
            for parameter in ('since', 'until'):
                self.assertProblem(call(application, lines_url('app', {parameter: text})), 400, parameter)

    def test_it_goes_with_every_other_filter(self) -> None:
        rows = timed_lines(STAMPS['nginx-error'], self.moments(800))
        root = plant_timed(self.split(rows))
        since, until = rows[200][0], rows[600][0]
        inside = [line for moment, line in rows if since <= moment <= until]
        for parameters, test in (({'q': '7'}, lambda line: '7' in line), ({'not': 'x'}, lambda line: 'x' not in line),
                                 ({'re': r'line \d*5 '}, lambda line: re.search(r'line \d*5 ', line)),
                                 ({'level': 'err'}, lambda line: True), ({'level': 'crit'}, lambda line: False)):
            with self.subTest(parameters):
                document = self.ask(root, **parameters, since=f'@{since}', until=f'@{until}', n=10000)
                self.assertEqual([entry['message'] for entry in document['entries']], list(filter(test, inside)))


class Severities(Case):
    """level= gives the lines of that severity or worse."""

    LINES: dict[str, tuple[tuple[int | None, str], ...]] = {
        'access': tuple((level,
                         f'192.0.2.1 - - [22/Nov/2026:14:05:01 +0100] "GET /error HTTP/1.1" {status} 5 "-" "curl"')
                        for level, status in ((6, 200), (6, 304), (4, 404), (4, 499), (3, 500), (3, 502))),
        'nginx-error': tuple((level, f'2026/11/22 14:05:01 [{word}] 1#1: *2 text') for level, word in enumerate(
            ('emerg', 'alert', 'crit', 'error', 'warn', 'notice', 'info', 'debug'))),
        'rfc5424': tuple((level, f'<{8 * 3 + level}>1 2026-11-22T14:05:01Z host app 1 - - an error')
                         for level in range(8)),
        'json': tuple((level, json.dumps({'time': '2026-11-22T14:05:01Z', **members})) for level, members in (
            (3, {'level': 'error'}), (4, {'level': 'WARN'}), (6, {'level': 30}), (7, {'severity': 'DEBUG'}),
            (None, {'msg': 'error'}))),
        'iso8601': tuple((level, f'2026-11-22 14:05:01,123 {text}') for level, text in (
            (3, 'ERROR text'), (4, 'WARNING text'), (6, 'INFO an error'), (7, 'DEBUG x'), (2, 'CRITICAL x'),
            (None, 'no error here')))}

    def test_of_each_format(self) -> None:
        for name, rows in self.LINES.items():
            root = plant(scratch(), {'app.log.1.gz': ''.join(f'{line}\n' for _, line in rows),
                                     'app.log': ''.join(f'{line}\n' for _, line in rows)})
            application = make_application('--log-root', str(root))
            for number, word in enumerate(words('emerg alert crit err warning notice info debug')):
                for text in (word, str(number)):
                    with self.subTest(name, level=text):
                        expected = [line for level, line in rows if level is not None and level <= number] * 2
                        self.assertEqual(call(application, lines_url('app', level=text, n=1000)).text.splitlines(),
                                         expected)
            entries = call(application, '/logs/app?format=json&n=1000').json()['entries']
            self.assertEqual([entry['level'] for entry in entries],
                             [None if level is None else logwatch.LEVELS[level] for level, _ in rows] * 2)

    def test_whether_lines_without_one_are_in_is_said(self) -> None:
        row = next(row for row in logwatch.PARAMETERS if row.name == 'level')
        self.assertIn('without', row.help)

    def test_a_wrong_one_is_refused_with_those_there_are(self) -> None:
        application = make_application('--log-root', str(plant(scratch(), {'app.log': 'x\n'})))
        for text in ('', 'loud', '8', '-1', 'err,crit'):
            self.assertProblem(call(application, lines_url('app', level=text)), 400, 'level', 'emerg', 'debug')


class Heartbeat:
    """Asks for /livez all the time; `worst` says how long its answers took, in ms."""

    def __init__(self, server: Server) -> None:
        self.taken: list[float] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, args=(server,))

    def _beat(self, server: Server) -> None:
        with server.wire() as wire:
            while not self._done.is_set():
                began = time.monotonic()
                wire.send(head_bytes('/livez'))
                wire.answer()
                self.taken.append((time.monotonic() - began) * 1000)
                self._done.wait(0.005)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def p99(self) -> float:
        return statistics.quantiles(self.taken, n=100)[98]


HOSTILE = {     # an expression, and the line on which it takes for ever
    '(a+)+$': 'a' * 40 + '!', '(a|a)*$': 'a' * 40 + '!', '.*.*=.*x': '=' * 16000,
    '.*error.*timeout.*x': 'error timeout ' * 1150,
    '(x+x+)+y': 'y' + 'x' * 40}


class HostileExpressions(Case):
    """A regular expression that takes for ever is stopped, and delays nobody."""

    HOLD = '(a+)+$'

    @classmethod
    def setUpClass(cls) -> None:
        files = {f'h{number}.log': f'{line}\n' * 20 for number, line in enumerate(HOSTILE.values())}
        cls.server = cls.serve_class(root=plant(scratch(), {**files, 'app.log': numbered(1, 50)}))

    def childless(self) -> bool:
        return not children_of(self.server.process.pid)

    def test_it_is_a_clear_problem_within_two_seconds_while_others_are_answered(self) -> None:
        with Heartbeat(self.server) as heart:
            for number, pattern in enumerate(HOSTILE):
                with self.subTest(pattern):
                    began = time.monotonic()
                    reply = self.server.get(lines_url(f'h{number}', re=pattern))
                    self.assertProblem(reply, 400, 're')
                    self.assertTrue(reply.json()['fix'])
                    self.assertLess(time.monotonic() - began, 2.5)
                    until(self.childless, 'the child to be gone', 1)
        self.assertLess(heart.p99(), 50)

    def test_beyond_the_slots_it_is_429_and_livez_does_not_notice(self) -> None:
        replies: list[Reply] = []
        target = lines_url('h0', re=self.HOLD)
        with Heartbeat(self.server) as heart:
            threads = [threading.Thread(target=lambda: replies.append(self.server.get(target))) for _ in range(6)]
            for thread in threads:
                thread.start()
            self.assertEqual(len(self.server.get('/logs/app?q=line&n=5').text.splitlines()), 5)
            for thread in threads:
                thread.join()
        self.assertEqual({reply.status for reply in replies}, {400, 429})
        refused = next(reply for reply in replies if reply.status == 429)
        self.assertProblem(refused, 429)
        self.assertTrue(refused.headers['Retry-After'].isdigit())
        self.assertLess(heart.p99(), 50)
        self.assertEqual(self.server.get('/logs/app?re=line').status, 200)
        self.assertTrue(self.childless())

    def test_a_client_that_hangs_up_gives_its_slot_back(self) -> None:
        for _ in range(4):
            wire = self.server.wire()
            wire.send(head_bytes(lines_url('h0', re=self.HOLD)))
            until(lambda: not self.childless(), 'the child')
            wire.vanish()
            until(self.childless, 'the child to be gone')
        self.assertEqual(self.server.get('/logs/app?re=line').status, 200)

    def test_no_descriptor_and_no_thread_is_left(self) -> None:
        def held() -> tuple[int, int]:
            return len(os.listdir(f'/proc/{self.server.process.pid}/fd')), self.server.status('Threads')
        self.server.get('/logs/app?re=line')
        before = held()
        for pattern in ('line', '(', 'line 1', 'l.ne$') * 3:
            self.server.get(lines_url('app', re=pattern))
        until(lambda: held() <= before, 'the same descriptors and threads as before')

    def test_a_wrong_one_is_400_with_pythons_reason(self) -> None:
        for pattern in ('(', '[', '*', ')', 'a{2,1}', '(?P<1>a)', '\\', '(?<=a+)b', '(?z)', '[b-a]', '(?P=x)',
                        '\\400x\\p', 'x' * 501, ''):
            with self.subTest(pattern[:20]):
                self.assertProblem(self.server.get(lines_url('app', re=pattern)), 400, 're')

    def test_an_odd_one_is_an_answer_or_a_refusal_but_soon(self) -> None:
        for pattern in ('(' * 250 + ')' * 250, '(?:' * 120 + ')' * 120, 'a{1000000000}', '(a{65535}){65535}',
                        '((a{1,300}){1,300}){1,300}', '\udc80',
                        '[' + 'a-z' * 150 + ']', '(?i)' + 'ſ' * 200, '\U0001f600+', '(.)' * 150 + '\\150', '.' * 500,
                        'a?' * 120 + 'a' * 120):
            with self.subTest(pattern[:20]):
                began = time.monotonic()
                query = urllib.parse.quote(pattern.encode('utf-8', 'surrogateescape'))
                self.assertIn(self.server.get(f'/logs/app?re={query}').status, (200, 400))
                self.assertLess(time.monotonic() - began, 3)
        self.assertTrue(self.childless())

    @requires('gunicorn')
    def test_under_gunicorn_it_is_the_same(self) -> None:
        for worker in ('sync', 'gthread'):
            with self.subTest(worker):
                gunicorn = Gunicorn(self.server.root, '-k', worker, '--threads', '4' if worker == 'gthread' else '1')
                self.addCleanup(gunicorn.stop)
                self.assertProblem(gunicorn.get(lines_url('h0', re=self.HOLD)), 400, 're')
                self.assertEqual(len(gunicorn.get('/logs/app?re=line.*7$&n=3').text.splitlines()), 3)
                for worker_pid in children_of(gunicorn.process.pid):
                    self.assertEqual(children_of(worker_pid), [])


class Scans(Case):
    """A long search is cut at its deadline, honestly, and stops when nobody waits for it."""

    @classmethod
    def setUpClass(cls) -> None:
        filler = ''.join(f'{STAMPS["iso8601"](NOON)} INFO filler {number} {"x" * 60}\n' for number in range(10_000))
        needles = [f'{STAMPS["iso8601"](NOON)} needle {number}\n'.replace('ERROR', 'CRITICAL') for number in range(30)]
        cls.root = scratch()
        with (cls.root / 'app.log').open('w') as log:
            for number in range(30):
                log.write(needles[number] + filler.replace('ERROR', ''))

    root: Path

    def test_partial_answers_add_up_to_the_whole(self) -> None:
        server = self.serve(root=self.root, constants={'SCAN_SECONDS': 0.2})
        found: list[int] = []
        pages = 0
        target = '/logs/app?level=crit&n=1000&format=json'
        while target:
            reply = server.get(target)
            self.assertEqual(reply.status, 200, reply.text)
            document = reply.json()
            found = [int(entry['message'].split()[-1]) for entry in document['entries']] + found
            pages += 1
            self.assertEqual(document['scan']['stop'], 'deadline' if document['prev'] else 'complete')
            target = '/logs/app' + document['prev'] if document['prev'] else ''
        self.assertEqual(found, list(range(30)))
        self.assertGreater(pages, 2)
        forward = [int(entry['message'].split()[-1]) for entry in document['entries']]
        while document['entries'] or document['scan']['stop'] == 'deadline':
            document = server.get('/logs/app' + document['next']).json()
            forward += [int(entry['message'].split()[-1]) for entry in document['entries']]
        self.assertEqual(forward, list(range(30)))

    def test_partial_answers_pass_a_packed_file(self) -> None:
        root = scratch()
        rows = [f'2026-01-01 00:00:00,000 {"CRITICAL needle" if row % 20_000 == 0 else "INFO filler"} {row}\n'
                for row in range(400_000)]
        (root / 'app.log.2.gz').write_bytes(gzip.compress(rows[0].encode()))
        (root / 'app.log.1.gz').write_bytes(gzip.compress(''.join(rows[1:]).encode(), 1))
        plant(root, {'app.log': '2026-01-01 00:00:01,000 CRITICAL last 400000\n'})
        server = self.serve(root=root, constants={'SCAN_SECONDS': 0.2})
        found: list[int] = []
        notes = ''
        target = '/logs/app?level=crit&n=1000&format=json'
        for _ in range(60):
            document = server.get(target).json()
            found = [int(entry['message'].split()[-1]) for entry in document['entries']] + found
            notes += str(document['scan']['notes'])
            if not document['prev']:
                break
            target = '/logs/app' + document['prev']
        self.assertIsNone(document['prev'], 'it never ends')
        self.assertEqual((found[0], found[-1]), (0, 400_000))
        self.assertEqual(found, sorted(set(found)))
        if len(found) < 21:
            self.assertIn('app.log.1.gz', notes, 'what was not searched to its end is named')

    def test_partial_answers_by_time_end_in_time_and_add_up(self) -> None:
        """Twelve days of mostly empty lines, so that places of each file have no stamp; the time is up after so many
        reads, wherever that is."""
        small = {**SMALL, 'PROBE_BYTES': 1024, 'SNIFF_BYTES': 256}
        root, day, spend, reads, most = scratch(), 86400, logwatch.Budget.spend, 0, 10 ** 9
        for number in range(12):
            path = root / ('app.log' if number == 11 else f'app.log.{11 - number}')
            first, last = (f'{STAMPS["rfc3339"](NOON + number * day + part * 60)}needle {2 * number + part}\n'
                           for part in (0, 1))
            path.write_text(first + '\n' * 2500 + last)
            os.utime(path, (NOON + number * day + 60,) * 2)

        def counted(budget: logwatch.Budget, count: int) -> bool:
            nonlocal reads
            reads += 1
            if reads > most:
                budget.stop = 'deadline'
            return spend(budget, count)

        pager = Pager(root)
        begin = pager.page(q='needle 0')['entries'][0]['cursor']
        for since, until_, expected in ((-9, 99, range(24)), (-9, 4, range(9)), (8.5, 99, range(18, 24)),
                                        (4.5, 5.5, range(10, 12)), (-9, -1, range(0))):
            limits = {'since': f'@{NOON + since * day}', 'until': f'@{NOON + until_ * day}', 'q': 'needle'}
            for most in (40, 47, 61, 10 ** 9):
                for relation, name in (('prev', 'before'), ('next', 'after')):
                    place, found, pages = {name: begin} if name == 'after' else {}, [-1], 0
                    document: dict[str, Any] = {}
                    with self.subTest(since=since, until=until_, most=most, name=name), \
                            mock.patch.dict(vars(logwatch), small), \
                            mock.patch.object(logwatch.Budget, 'spend', counted):
                        while not pages or place[name] and (name == 'before' or document['scan']['stop'] == 'deadline'):
                            reads, pages = 0, pages + 1
                            document = pager.page(**limits, **place)
                            found += pager.numbers(document)
                            place = {name: pager.cursor(document, relation)}
                            self.assertLess(reads, most + 20)
                            self.assertLess(pages, 40, 'it never ends')
                        self.assertEqual(sorted(found)[1:], [row for row in expected if row or name == 'before'])
        self.assertEqual(pages, 1)

    def test_a_client_that_hangs_up_stops_its_scan(self) -> None:
        """By RST, and as curl that is interrupted, by FIN."""
        big = scratch()
        block = (self.root / 'app.log').read_bytes()[:1 << 20]
        with (big / 'app.log').open('wb') as log:
            for _ in range(150):
                log.write(block)
        for listen, hang_up in (('127.0.0.1:0', Wire.vanish), ('127.0.0.1:0', Wire.close),
                                (f'unix:{big}/http.sock', Wire.close)):
            with self.subTest(listen, hang_up=hang_up.__name__):
                server = self.serve(root=big, listen=listen, constants={'SCAN_SECONDS': 60.0})
                wire = server.wire()
                wire.send(head_bytes('/logs/app?level=emerg'))
                until(lambda server=server: server.cpu_seconds() > 0.5, 'the scan to run')      # type: ignore[misc]
                hang_up(wire)
                used = server.cpu_seconds()
                until(lambda server=server: self.idle(server), 'the scan to stop', 5)   # type: ignore[misc]
                self.assertLess(server.cpu_seconds() - used, 1.0)

    def test_a_client_that_has_no_more_to_send_gets_its_answer(self) -> None:
        """As of `nc -N`: it was told of a deadline after 131 kB. Over TCP it cannot be told from one that is gone."""
        root = plant(scratch(), {'app.log': (self.root / 'app.log').read_bytes()[:10 << 20]})
        for listen, stop in ((f'unix:{scratch()}/http.sock', 'complete'), ('127.0.0.1:0', 'gone')):
            with self.subTest(listen), self.serve(root=root, listen=listen).wire() as wire:
                wire.send(head_bytes('/logs/app?level=emerg'))
                wire.socket.shutdown(socket.SHUT_WR)
                self.assertTrue(wire.answer().headers['Logwatch-Scan'].endswith(f'stop={stop}'))

    def idle(self, server: Server) -> bool:
        before = server.cpu_seconds()
        time.sleep(0.2)
        return server.cpu_seconds() - before < 0.03


# ----------------------------------------------------------------------------------------------------------------------
# formats: what each kind of line says about its time, level and fields, and that no line hurts
# ----------------------------------------------------------------------------------------------------------------------

CET = timezone(timedelta(hours=1))
MOMENT = datetime(2026, 11, 22, 14, 5, 1, tzinfo=CET).timestamp()
LATER = MOMENT + 3600

# (format, line, fraction, level): each at 14:05:01 on 2026-11-22 in Berlin, by its own zone or by the server's
STAMPED_LINES: tuple[tuple[str, bytes, float, int | None], ...] = (
    ('access', b'192.0.2.1 - - [22/Nov/2026:14:05:01 +0100] "GET / HTTP/1.1" 200 5\n', 0, 6),
    ('access', b'192.0.2.1 - frank smith [22/Nov/2026:14:05:01 +0100] "GET / HTTP/1.1" 404 - "-" "curl/8"', 0, 4),
    ('access', b'ex.org:443 2001:db8::1 - - [22/Nov/2026:13:05:01 +0000] "GET /a?b=c HTTP/2.0" 502 0 "-" "x" 0.120',
     0, 3),
    ('access', b'- - - [22/Nov/2026:14:05:01 +0100] "\\x16\\x03\\x01" 400 0 "-" "-"', 0, 4),
    ('access', b'::1 - a\\" [01/Jan/2020:00:00:00 +0000] \\" [22/Nov/2026:14:05:01 +0100] "GET / HTTP/1.1" 301 0', 0,
     6),
    ('access', b'192.0.2.1 - ' + b'x' * 20000 + b' [22/Nov/2026:14:05:01 +0100] "GET / HTTP/1.1" 401 0', 0, 4),
    ('access', b'192.0.2.1 - - [22/Nov/2026:14:05:01 +0100] "GET /?error HTTP/1.1', 0, None),
    ('nginx-error', b'2026/11/22 14:05:01 [error] 123#123: *45 open() failed (2: No such file), client: ::1', 0, 3),
    ('nginx-error', b'2026/11/22 14:05:01 [emerg] 1#1: bind() failed', 0, 0),
    ('nginx-error', b'2026/11/22 14:05:01 [notice] 1#1: error in nothing', 0, 5),
    ('apache-error', b'[Sun Nov 22 14:05:01.123456 2026] [core:error] [pid 12:tid 34] [client ::1:5] AH00037: x',
     .123456, 3),
    ('apache-error', b'[Sun Nov 22 14:05:01.123456 2026] [mpm_event:notice] [pid 12:tid 34] AH00489: error', .123456,
     5),
    ('apache-error', b'[Sun Nov 22 14:05:01 2026] [warn] RSA', 0, 4),
    ('apache-error', b'[Sun Nov 22 14:05:01.123456 2026] [ssl:trace8] [pid 1]', .123456, 7),
    ('rfc3164', b'Nov 22 14:05:01 host sshd[123]: error: PAM: Authentication failure', 0, 3),
    ('rfc3164', b'Nov 22 14:05:01 host CRON[123]: (root) CMD (an error is not here)', 0, None),
    ('rfc3164', b'Nov 22 14:05:01 host postfix/smtpd[1]: warning: hostname x does not resolve', 0, 4),
    ('rfc3164', b'Nov 22 14:05:01 host NetworkManager[1]: <info>  [1763820301.1234] x', 0, 6),
    ('rfc3164', b'Nov 22 14:05:01 host dovecot: imap-login: Error: x', 0, 3),
    ('rfc3164', b"<34>Nov 22 14:05:01 host su[9]: 'su root' failed", 0, 2),
    ('rfc3164', b'Nov 22 14:05:01 host kernel: [   12.345678] usb 1-1: device descriptor read, error -71', 0, None),
    ('rfc3164', b'Nov 22 14:05:01 host last message repeated 2 times', 0, None),
    ('rfc5424', b'<165>1 2026-11-22T13:05:01.003Z host app 123 ID47 [a b="c"] text', .003, 5),
    ('rfc5424', b'<11>1 2026-11-22T14:05:01+01:00 - - - - - text', 0, 3),
    ('rfc3339', b'2026-11-22T14:05:01.123456+01:00 host sshd[123]: Failed password, error', .123456, None),
    ('rfc3339', b'2026-11-22T14:05:01.123456+01:00 host app: ERROR text', .123456, 3),
    ('rfc3339',
     b'2026-11-22T14:05:01.5+01:00 host dockerd[1]: time="2026-11-22T14:05:01+01:00" level=warning msg=x', .5, 4),
    ('rfc3339', b'2026-11-22T14:05:01+0100 host kernel: text', 0, None),
    ('rfc3339', b'2026-11-22T13:05:01.123456Z 0 [Warning] [MY-010068] [Server] CA certificate', .123456, 4),
    ('rfc3339', b'2026-11-22T13:05:01.123456Z 0 [ERROR] [MY-1] [Server] x', .123456, 3),
    ('rfc3339', b'2026-11-22T14:05:01.123+01:00  WARN 1 --- [main] c.e.App : text', .123, 4),
    ('rfc3339', b'2026-11-22T13:05:01Z INFO main: started: ok', 0, 6),
    ('rfc3339', b'2026-11-22T13:05:01.123Z\tinfo\tserver\tlistening', .123, 6),
    ('json', b'{"time":"2026-11-22T14:05:01.25+01:00","level":"WARN","msg":"error"}', .25, 4),
    ('json', b'{"msg":"x","ts":%d.25,"level":"error"}' % MOMENT, .25, 3),
    ('json', b'{"level":30,"time":%d250,"pid":1}' % MOMENT, .25, 6),
    ('json', b'{"level":35,"time":%d250000}' % MOMENT, .25, 6),
    ('json', b'{"level":3,"timestamp":%d250000000}' % MOMENT, .25, 3),
    ('json', b'{"@timestamp":"2026-11-22T13:05:01.250Z","log.level":"ERROR"}', .25, 3),
    ('json', b'{"time":12.5,"ts":"%d.25","severity":"CRITICAL"}' % MOMENT, .25, 2),
    ('json', b'{"log":"x\\n","stream":"stderr","time":"2026-11-22T13:05:01.25Z"}', .25, None),
    ('json', b'{"time_local":"22/Nov/2026:14:05:01 +0100","status":"200"}', 0, None),
    ('json', b'{"timestamp":"2026-11-22 14:05:01,250","levelname":"DEBUG","level":true,"x":NaN}', .25, 7),
    ('json', b'{"__REALTIME_TIMESTAMP":"%d250000","PRIORITY":"4","MESSAGE":"x"}' % MOMENT, .25, 4),
    ('redis', b'123:M 22 Nov 2026 14:05:01.123 * Ready to accept connections', .123, 5),
    ('redis', b'123:C 22 Nov 2026 14:05:01.123 # WARNING overcommit', .123, 4),
    ('iso8601', b'2026-11-22 14:05:01,123 ERROR text', .123, 3),
    ('iso8601', b'2026-11-22 14:05:01,123 - my.name - WARNING - text', .123, 4),
    ('iso8601', b'2026-11-22 14:05:01,123 - root - CRITICAL - text', .123, 2),
    ('iso8601', b'2026-11-22 14:05:01,123:DEBUG:certbot._internal.main:certbot version', .123, 7),
    ('iso8601', b'2026-11-22 14:05:01,123 - util.py[DEBUG]: Cloud-init', .123, 7),
    ('iso8601', b'2026-11-22 14:05:01,123 fail2ban.filter         [123]: INFO    [sshd] Found', .123, 6),
    ('iso8601', b'2026-11-22 14:05:01.123 CET [123] ERROR:  relation does not exist', .123, 3),
    ('iso8601', b'2026-11-22 13:05:01.123 UTC [123] user@db FATAL:  no', .123, 2),
    ('iso8601', b'2026-11-22 13:05:01.123 GMT [123] LOG:  error', .123, 6),
    ('iso8601', b'2026-11-22 14:05:01.123 CET [123] STATEMENT:  SELECT error', .123, None),
    ('iso8601', b'2026-11-22 14:05:01 0 [Note] InnoDB: x', 0, 5),
    ('iso8601', b'2026-11-22 14:05:01 status installed error:all 1', 0, None),
    ('iso8601', b'2026-11-22 14:05:01 1abcde-0001-AB <= user@example.org H=x', 0, None),
    ('iso8601', b'2026-11-22 14:05:01 SMTP connection from error', 0, None),
    ('iso8601', b'Start-Date: 2026-11-22  14:05:01', 0, None),
    ('iso8601', b'Log started: 2026-11-22  14:05:01', 0, None),
    ('iso8601', b'update-alternatives 2026-11-22 14:05:01: run with --install', 0, None),
    ('iso8601', b'2026/11/22 14:05:01 listening, no error', 0, None),
    ('iso8601', b'2026/11/22 14:05:01.123456 main.go:12: error: text', .123456, 3),
    ('iso8601', b'2026/11/22 14:05:01 ERROR text', 0, 3),
    ('iso8601', b'[2026-11-22T13:05:01Z INFO  my_crate] text', 0, 6),
    ('iso8601', b'[2026-11-22 14:05:01] local.ERROR: text', 0, None),
    ('iso8601', b'2026-11-22 09:05:01-04:00 x', 0, None),
    ('iso8601', b'2026-11-22 14:05:01 +0100 x', 0, None),
    ('iso8601', b'2026-11-22T14:05:01.123456789 [main] INFO x', .123456789, 6),
    ('iso8601', b'time="2026-11-22T14:05:01+01:00" level=error msg="x"', 0, 3),
    ('iso8601', b'ts=2026-11-22T13:05:01.123Z caller=main.go:12 level=info msg=x', .123, 6),
    ('day-first', b'22-Nov-2026 14:05:01.123 SEVERE [main] org.apache.X text', .123, 3),
    ('day-first', b'[22-Nov-2026 14:05:01] WARNING: [pool www] server reached', 0, 4),
    ('day-first', b'[22-Nov-2026 14:05:01 Europe/Berlin] PHP Warning:  Undefined variable', 0, 4),
    ('day-first', b'[22-Nov-2026 13:05:01 UTC] PHP Fatal error:  Uncaught', 0, 3),
    ('day-first', b'22-Nov-2026 14:05:01.123 general: error: text', .123, 3),
    ('day-first', b'E [22/Nov/2026:14:05:01 +0100] [Client 3] text', 0, None),
    ('day-first', b'Sun, 22 Nov 2026 14:05:01 +0100 text', 0, None),
    ('ctime', b'Sun Nov 22 14:05:01 2026 : Info: Ready to process requests', 0, 6),
    ('ctime', b'[Sun Nov 22 14:05:01 2026] usb 1-1: error', 0, None),
    ('epoch', b'%d.123    45 192.0.2.1 TCP_MISS/200 1 GET http://x' % MOMENT, .123, None),
    ('epoch', b'%d123 WARN text' % MOMENT, .123, 4),
    ('epoch', b'type=SYSCALL msg=audit(%d.123:456): arch=c000003e' % MOMENT, .123, None),
)
UNSTAMPED_LINES = (
    b'', b'\n', b'Traceback (most recent call last):', b'  File "x.py", line 1, in f',
    b'Commandline: apt-get install -y x',
    b'[   12.345678] usb 1-1: WARNING: text', b'\tat org.example.Main(Main.java:12)', b'ERROR text without a time',
    b'\x00' * 300,
    b'2026-13-22 14:05:01 x', b'2026-02-29 14:05:01 x', b'2026-11-22 24:05:01 x', b'0000-11-22 14:05:01 x',
    b'Foo 22 14:05:01 h x:',
    b'Feb 30 14:05:01 host x:', b'31-Apr-2026 14:05:01 x', b'{"time":"soon"}', b'{"time":1e999}', b'{"time":true}',
    b'{',
    b'{"time":12.5}', b'12345678901 x', b'1763820301x', b'<34>1 - host app - - - x',
    b'2026-11-22 14:05:01.1 WIB [123] LOG: x',
    b'{"time":' + b'9' * 5000 + b'}', b'{"a":' + b'[' * 50000, b'[22-Nov-2026 14:05:01 No/Where] PHP Warning: x',
    b'2026-11-22 14:05:01+99:00 x', b'2026-11-22 14:05:01.1 JST user@db LOG:  x')


class InBerlin(unittest.TestCase):
    def setUp(self) -> None:
        self.enterContext(zone('Europe/Berlin'))


class Stamps(InBerlin):
    def test_each_format_is_detected_by_one_line_and_reads_its_time_and_level(self) -> None:
        for name, line, fraction, level in STAMPED_LINES:
            with self.subTest(line=line[:90]):
                form = logwatch.detect([line])
                self.assertEqual(form.name, name)
                self.assertAlmostEqual(form.time(line, LATER) or 0, MOMENT + fraction, places=5)
                self.assertEqual(form.level(line), level)

    def test_every_format_of_the_table_has_a_line_here(self) -> None:
        self.assertEqual({name for name, *_ in STAMPED_LINES}, {form.name for form in logwatch.FORMATS})

    def test_a_line_without_a_valid_stamp_has_no_time(self) -> None:
        for line in UNSTAMPED_LINES:
            for form in (*logwatch.FORMATS, logwatch.TEXT):
                with self.subTest(line=line[:60], form=form.name):
                    self.assertIsNone(form.time(line, LATER))

    def test_a_time_that_no_answer_can_say_is_none(self) -> None:
        """One such line made the catalogue of all logs fail, and each page with it."""
        beyond = ('0001-01-01T00:00:00+14:00 box app: x', '9999-12-31T23:59:59-14:00 box app: x',
                  '9999-12-31T23:59:59.999999999Z box app: x', '{"time":"0001-01-01T00:00:00+01:00","msg":1}',
                  '{"ts":"9999-12-31T23:30:00-01:00"}', '[01-Jan-0001 00:00:00 Asia/Aden] PHP Warning: x')
        within = ('0001-01-01T00:00:00Z box app: x', '{"time":"0001-01-01T00:00:00Z"}', '9999-12-30T23:59:59Z box a: x')
        for place in ('UTC', 'Pacific/Kiritimati', 'Pacific/Pago_Pago'):
            for line in (*beyond, *within, '0001-01-01 00:00:00 x', '9999-12-31 23:59:59.5 x'):
                with self.subTest(line, zone=place), zone(place):
                    root = plant(scratch(), {'app.log': f'{line}\n' * 3})
                    application = make_application('--log', f'app={root}/app.log')
                    row, = call(application, '/logs?format=json').json()['logs']
                    entry = call(application, '/logs/app?format=json&n=1').json()['entries'][0]
                    self.assertEqual(row['last'], entry['time'])
                    if line in beyond + within:
                        self.assertEqual(entry['time'] is None, line in beyond)

    def test_dmesg_has_neither_time_nor_level(self) -> None:
        line = b'[   12.345678] WARNING: CPU: 0 PID: 1'
        self.assertEqual(logwatch.detect([line] * 5), logwatch.TEXT)
        self.assertIsNone(logwatch.TEXT.level(line))
        self.assertEqual(logwatch.TEXT.level(b'ERROR: text'), 3)

    def test_all_offsets_agree(self) -> None:
        for text in (b'13:05:01Z', b'14:05:01+01', b'14:05:01+0100', b'14:05:01+01:00', b'08:35:01-04:30',
                     b'14:05:01 +01 [1]',
                     b'13:05:01 UTC', b'13:05:01 GMT', b'13:05:01 Z', b'14:05:01 CET x', b'14:05:01'):
            with self.subTest(text=text):
                self.assertEqual(logwatch.detect([b'2026-11-22 ' + text]).time(b'2026-11-22 ' + text, LATER), MOMENT)


class StampsWithoutYear(unittest.TestCase):
    def test_a_year_is_chosen_that_puts_the_stamp_nearest_before_tomorrow(self) -> None:
        table = (  # reference, stamp, expected
            ((2027, 1, 1, 0, 5), b'Dec 31 23:59:59', (2026, 12, 31, 23, 59, 59)),
            ((2026, 12, 31, 23, 59), b'Jan  1 00:00:01', (2027, 1, 1, 0, 0, 1)),
            ((2026, 12, 30, 23, 59), b'Jan  1 00:00:01', (2026, 1, 1, 0, 0, 1)),
            ((2026, 11, 22, 0, 0), b'Nov 22 23:00:00', (2026, 11, 22, 23, 0, 0)),
            ((2026, 11, 22, 0, 0), b'Nov 24 00:00:01', (2025, 11, 24, 0, 0, 1)),
            ((2026, 3, 1, 0, 0), b'Feb 29 12:00:00', (2024, 2, 29, 12, 0, 0)),
            ((2028, 2, 28, 12, 0), b'Feb 29 11:00:00', (2028, 2, 29, 11, 0, 0)),
            ((2103, 6, 1, 0, 0), b'Feb 29 12:00:00', (2096, 2, 29, 12, 0, 0)))
        rfc3164 = next(form for form in logwatch.FORMATS if form.name == 'rfc3164')
        for place in ('UTC', 'Pacific/Auckland', 'America/Los_Angeles'):
            with zone(place):
                for reference, stamp, expected in table:
                    with self.subTest(zone=place, reference=reference, stamp=stamp):
                        got = rfc3164.time(stamp + b' host x: y', datetime(*reference).timestamp())
                        self.assertEqual(got, datetime(*expected).timestamp())


class DaylightSaving(InBerlin):
    def test_a_local_time_of_the_fold_is_the_first_and_an_abbreviation_decides(self) -> None:
        first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp()
        for text, expected in ((b'2026-10-25 02:30:00 x', first), (b'2026-10-25 02:30:00 CEST [1] x', first),
                               (b'2026-10-25 02:30:00 CET [1] x', first + 3600),
                               (b'2026-10-25 02:30:00 EST [1] x', None),
                               (b'2026-11-22 02:30:00 CEST [1] x', None)):
            with self.subTest(text=text):
                self.assertEqual(next(f for f in logwatch.FORMATS if f.name == 'iso8601').time(text, LATER), expected)

    def test_local_times_of_both_sides_of_the_gap_are_an_hour_nearer_than_they_look(self) -> None:
        iso = next(f for f in logwatch.FORMATS if f.name == 'iso8601')
        before, after = (iso.time(b'2026-03-29 0%d:59:59 x' % hour, LATER) for hour in (1, 3))
        self.assertEqual((after or 0) - (before or 0), 3600)


class FormatDetection(InBerlin):
    def test_the_majority_of_stamped_lines_decides_and_continuations_do_not_count(self) -> None:
        syslog, iso = b'2026-11-22T14:05:01+01:00 host app[1]: x', b'2026-11-22 14:05:01,123 ERROR x'
        for lines, name in (([syslog] * 3 + [iso], 'rfc3339'), ([iso] + [b'  File x'] * 50, 'iso8601'), ([], 'text'),
                            ([b'hello', b'world'], 'text'), ([b'{"a":1}'], 'text'),
                            ([b'{"ts":1763820301}', b'Nov 22 14:05:01 host x: y', b'1763820301 x', b'1763820302 x'],
                             'epoch'),
                            ([b'{"ts":1763820301}', b'Nov 22 14:05:01 host x: y'], 'rfc3164')):
            with self.subTest(name=name, lines=len(lines)):
                self.assertEqual(logwatch.detect(lines).name, name)


class FormatFields(unittest.TestCase):
    def test_access_lines_have_nginx_variables(self) -> None:
        line = (b'ex.org:443 2001:db8::1 - frank smith [22/Nov/2026:14:05:01 +0100] "GET /a?b=c d HTTP/2.0" 502 17 '
                b'"https://r.example/" "Mozilla \\"5\\" \xff" "203.0.113.9" rt=0.120')
        self.assertEqual(logwatch.FORMATS[0].fields(line), {
            'server_name': 'ex.org', 'remote_addr': '2001:db8::1', 'remote_user': 'frank smith',
            'request': 'GET /a?b=c d HTTP/2.0',
            'request_method': 'GET', 'request_uri': '/a?b=c d', 'server_protocol': 'HTTP/2.0', 'status': 502,
            'body_bytes_sent': 17,
            'http_referer': 'https://r.example/', 'http_user_agent': 'Mozilla \\"5\\" \ufffd',
            'http_x_forwarded_for': '203.0.113.9',
            'request_time': 0.12})
        for line, expected in (
                (b'- - - [22/Nov/2026:14:05:01 +0100] "\\x16" 400 -', {
                    'remote_addr': '-', 'remote_user': '-', 'request': '\\x16', 'status': 400, 'body_bytes_sent': 0}),
                (b'1.2.3.4 - - [22/Nov/2026:14:05:01 +0100] "-" 408 0 "-" "-" 1.5', {
                    'remote_addr': '1.2.3.4', 'remote_user': '-', 'request': '-', 'status': 408, 'body_bytes_sent': 0,
                    'http_referer': '-', 'http_user_agent': '-', 'request_time': 1.5}),
                (b'no access line', {})):
            with self.subTest(line=line):
                self.assertEqual(logwatch.FORMATS[0].fields(line), expected)

    def test_every_access_line_of_the_table_has_its_address(self) -> None:
        for name, line, *_ in STAMPED_LINES:
            if name == 'access' and line.count(b'"') % 2 == 0:
                with self.subTest(line=line[:80]):
                    self.assertIn(logwatch.FORMATS[0].fields(line)['remote_addr'],
                                  ('192.0.2.1', '2001:db8::1', '-', '::1'))

    def test_syslog_lines_have_host_ident_and_pid(self) -> None:
        for line, expected in (
                (b'Nov 22 14:05:01 host sshd[123]: x', {'hostname': 'host', 'ident': 'sshd', 'pid': 123}),
                (b'Nov 22 14:05:01 host kernel: x', {'hostname': 'host', 'ident': 'kernel'}),
                (b'Nov 22 14:05:01 host last message repeated 2 times', {}),
                (b'2026-11-22T14:05:01+01:00 h.ex.org postfix/smtpd[1]: x',
                 {'hostname': 'h.ex.org', 'ident': 'postfix/smtpd', 'pid': 1}),
                (b'2026-11-22T14:05:01Z INFO main: x', {}),
                (b'<34>1 2026-11-22T14:05:01Z host app 123 - - x', {'hostname': 'host', 'ident': 'app', 'pid': 123}),
                (b'<34>1 2026-11-22T14:05:01Z - app - - - x', {'ident': 'app'})):
            with self.subTest(line=line):
                self.assertEqual(logwatch.detect([line]).fields(line), expected)

    def test_json_lines_have_their_own_members_and_nothing_that_json_cannot_say(self) -> None:
        fields = logwatch.detect([b'{"ts":1763820301}']).fields
        self.assertEqual(fields(b'{"a":1,"b":{"c":[2]}}\n'), {'a': 1, 'b': {'c': [2]}})
        self.assertEqual(fields(b'{"a":"\xc3\xa9"}'), {'a': '\xe9'})
        self.assertEqual(fields(b'[1]'), {})
        json.dumps(fields(b'{"a":NaN,"b":-Infinity,"c":1e999}'), allow_nan=False)

    def test_json_that_is_nested_too_deep_has_no_fields(self) -> None:
        """From 3.12 on Python decodes levels that it cannot encode: a line of such a depth made its page fail."""
        fields = logwatch.detect([b'{"ts":1763820301}']).fields
        for head, tail in ((b'[', b']'), (b'{"a":', b'}'), (b'[{"a":1},{"b":[2,{"a":', b'}]}]')):
            each = head.count(b'{') + head.count(b'[') - head.count(b'},')
            for depth in (1, 90, 99, 100, 101, 120, 900, 3000, 20_000):
                times = depth // each
                line = b'{"a":' + head * times + b'1' + tail * times + b'}'
                with self.subTest(head=head, depth=times * each + 1):
                    self.assertEqual(bool(fields(line)), times * each + 1 <= logwatch.JSON_DEPTH)
        self.assertEqual(len(fields(b'{"a":[' + b'[[]],' * 900 + b'"[[["]}')), 1, 'many are not deep')


class HostileLines(unittest.TestCase):
    def test_random_bytes_never_raise(self) -> None:
        chance = random.Random(20261122)
        pieces = [line for _, line, _, _ in STAMPED_LINES] + list(UNSTAMPED_LINES)
        for _ in range(4000):
            line = bytearray(chance.choice(pieces)[:400])
            for _ in range(chance.randrange(1, 6)):
                where = chance.randrange(len(line) + 1)
                line[where:where + chance.randrange(3)] = chance.randbytes(chance.randrange(4)) or b'0'
            for form in (*logwatch.FORMATS, logwatch.TEXT):
                moment, level = form.time(bytes(line), LATER), form.level(bytes(line))
                self.assertTrue(moment is None or abs(moment) < 1e12, line)
                self.assertTrue(level is None or 0 <= level <= 7, line)
                self.assertIsInstance(form.fields(bytes(line)), dict)

    def test_no_line_of_64_kib_takes_longer_than_50_ms(self) -> None:
        size = 65536
        head = b'1.2.3.4 - - [22/Nov/2026:14:05:01 +0100] "'
        lines = [unit * (size // len(unit)) for unit in (
            b'a', b' ', b'\\', b'"', b'\\"', b'[', b'] ', b'[22/Nov/2026:14:05:01 +0100] ', b'1.2.3.4 ', b'- ', b'{',
            b'[[', b'{"a":',
            b'9', b'....', b'a.b ', b'x=y ', b'[x] ', b'- a - ', b'\x00', b'\xff', b'2026-11-22 14:05:01 ', b'<',
            b'a: ', b'-')]
        lines += [head + line for line in lines] + [b'2026-11-22 14:05:01 ' + line for line in lines]
        lines += [b'Nov 22 14:05:01 host x: ' + line for line in lines[:25]]
        lines += [head + b'" 200 1 "-" "' + line for line in lines[:25]]
        for line in lines:
            for form in (*logwatch.FORMATS, logwatch.TEXT):
                start = time.process_time()
                form.time(line, LATER), form.level(line), form.fields(line)
                self.assertLess(time.process_time() - start, 0.05, (form.name, line[:80]))


class Times(InBerlin):
    def test_spellings(self) -> None:
        midnight = datetime(2026, 11, 22, tzinfo=CET).timestamp()
        for text, expected in (
                ('2026-11-22T14:05:01+01:00', MOMENT), ('2026-11-22 14:05:01+0100', MOMENT),
                ('2026-11-22T14:05:01 01:00', MOMENT),
                ('2026-11-22T13:05:01Z', MOMENT), ('2026-11-22t13:05:01z', MOMENT), ('2026-11-22 13:05:01 UTC', MOMENT),
                ('2026-11-22 14:05:01 CET', MOMENT), ('2026-11-22 22:05:01 Asia/Tokyo', None),
                ('2026-11-22 14:05:01', MOMENT),
                ('2026-11-22T14:05:01.25', MOMENT + .25), ('2026-11-22 14:05:01,25', MOMENT + .25),
                ('2026-11-22 14:05', MOMENT - 1),
                ('2026-11-22', midnight), ('14:05:01', MOMENT), ('14:05', MOMENT - 1), (f'@{MOMENT:.0f}', MOMENT),
                (f'@{MOMENT:.0f}.25', MOMENT + .25), ('now', LATER), (' now ', LATER), ('today', midnight),
                ('yesterday', midnight - 86400),
                ('tomorrow', midnight + 86400), ('-15m', LATER - 900), ('-2h', LATER - 7200),
                ('-3d', LATER - 3 * 86400),
                ('-1w', LATER - 7 * 86400), ('-30s', LATER - 30), ('-1h30m', LATER - 5400), ('-1h 30min', LATER - 5400),
                ('+5m', LATER + 300),
                ('1 hour ago', LATER - 3600), ('2 days ago', LATER - 2 * 86400), ('1h30m ago', LATER - 5400),
                ('-1.5h', LATER - 5400),
                ('- 5m', None), ('', None), ('15m', None), ('-15', None), ('-15x', None), ('-5m ago', None),
                ('nan', None), ('inf', None),
                ('@nan', None), ('@' + '9' * 13, None), ('@-1', None), ('-' + '9' * 5000 + 's', None),
                ('2026-02-30', None),
                ('2026-11-22 25:00', None), ('2026-11-22 14:05:01 WIB', None), ('2026-11-22 14:05:01 No/Where', None),
                ('-999999999y', None),
                ('2026-11-22T', None), ('22.11.2026', None), ('last week', None), ('\u0661\u0662:\u0663\u0664', None),
                ('\u00b2s ago', None),
                ('2026-11-22 14:05:01 ../../etc/passwd', None), ('0001-01-01', None),
                ('9999-12-31 23:59:59 -2359', None)):
            with self.subTest(text=text[:40]):
                if expected is None:
                    with self.assertRaisesRegex(ValueError, 'a time is'):
                        logwatch.parse_when(text, LATER)
                else:
                    self.assertEqual(logwatch.parse_when(text, LATER), expected)

    def test_days_across_the_clock_change_are_calendar_days(self) -> None:
        now = datetime(2026, 10, 25, 12, tzinfo=CET).timestamp()
        self.assertEqual(logwatch.parse_when('tomorrow', now) - logwatch.parse_when('today', now), 25 * 3600)

    @requires('systemd-analyze')
    def test_journalctl_reads_the_same_spellings_as_the_same_times(self) -> None:
        analyze = str(find_tool('systemd-analyze'))
        for text in ('-15m', '-1h30m', '1 hour ago', '+5m', 'yesterday', 'today', 'tomorrow', '2026-11-22', '14:05',
            '-1M', '-2y',
                     '2026-11-22 14:05:01.5', '@1795352701.25', '1week 2days ago', '-1.5h', '2026-11-22 14:05:01 UTC',
                     '15m', 'x'):
            run = subprocess.run([analyze, 'timestamp', '--', text], capture_output=True, text=True, check=False,
                                 timeout=30)
            theirs = re.search(r'UNIX seconds: @([0-9.]+)', run.stdout)
            with self.subTest(text=text):
                if theirs:
                    self.assertAlmostEqual(logwatch.parse_when(text, time.time()), float(theirs[1]), delta=2)
                else:
                    self.assertRaises(ValueError, logwatch.parse_when, text, time.time())

    def test_levels(self) -> None:
        for text, expected in (('emerg', 0), ('warning', 4), ('WARN', 4), ('error', 3), ('err', 3), ('critical', 2),
            ('panic', 0),
                               ('emergency', 0), ('information', 6), ('info', 6), ('0', 0), ('7', 7)):
            with self.subTest(text=text):
                self.assertEqual(logwatch.parse_level(text), expected)
        for text in ('', '8', '-1', '04', '\u0664', 'loud', 'note'):
            with self.subTest(text=text), self.assertRaisesRegex(ValueError, re.escape('emerg, alert, crit, err')):
                logwatch.parse_level(text)


# ----------------------------------------------------------------------------------------------------------------------
# following: every line once, whatever happens to the log, the connection and the server
# ----------------------------------------------------------------------------------------------------------------------


class Follower:
    """A client of a stream; a thread of its own reads what it is sent."""

    def __init__(self, address: Address, target: str, headers: Mapping[str, str] | None = None,
                 reads: bool = True) -> None:
        self.wire = Wire(address)
        self.data = bytearray()
        self.ended = False     # in good order, by the last chunk or the announced length
        self.wire.send(head_bytes(target, headers))
        self._reader = threading.Thread(target=self._read, daemon=True)
        if reads:
            self.status = int(self.wire.file.readline().split()[1])
            self.headers = http.client.parse_headers(self.wire.file)
            self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        file = self.wire.file
        with contextlib.suppress(OSError, ValueError):      # closed by us, or cut off
            if self.headers['Transfer-Encoding'] != 'chunked':
                self.data += file.read(int(self.headers['Content-Length'] or -1))
                self.ended = True
            while not self.ended and (size := int(file.readline() or b'0\r\n-', 16)):
                self.data += file.read(size + 2)[:-2]
            self.ended = True

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self.wire.socket.shutdown(socket.SHUT_RDWR)
        if self._reader.ident:
            self._reader.join(PATIENCE)
        self.wire.close()

    def end(self) -> None:
        """Wait for the server to end the stream."""
        until(lambda: not self._reader.is_alive(), 'the end of the stream')
        self.wire.close()

    def events(self) -> list[dict[str, str]]:
        """The events that have come whole, fields as WHATWG's HTML (9.2.6) reads them; comments as 'comment'."""
        found = []
        for block in re.split(r'\r\n\r\n|\n\n|\r\r', self.data.decode())[:-1]:
            event: dict[str, str] = {}
            for line in re.split(r'\r\n|\n|\r', block):
                name, _, value = line.partition(':')
                value = value.removeprefix(' ')
                event[name or 'comment'] = f'{event[name]}\n{value}' if name == 'data' and name in event else value
            found.append(event)
        return found

    def messages(self) -> list[str]:
        """The lines that have come as events."""
        return [json.loads(event['data'])['message'] for event in self.events() if 'data' in event
                and 'event' not in event]

    def numbers(self) -> list[int]:
        """The last word of each line."""
        return [int(message.split()[-1]) for message in self.messages()]

    def last_id(self) -> str:
        return next((event['id'] for event in reversed(self.events()) if 'id' in event), '')

    def kinds(self) -> list[str]:
        """The names of the events that are no lines."""
        return [event['event'] for event in self.events() if 'event' in event]

    def await_lines(self, count: int) -> list[str]:
        """The lines, once there are so many."""
        until(lambda: len(self.messages()) >= count, f'{count} lines to come')
        return self.messages()

    def await_bytes(self, pattern: bytes) -> bytes:
        """What has been sent, once a regular expression is found in it."""
        until(lambda: re.search(pattern, self.data), f'{pattern!r} to come')
        return bytes(self.data)

    def await_number(self, number: int) -> list[int]:
        """All numbers, once that one has come."""
        until(lambda: number in self.numbers(), f'{number} to come')
        return self.numbers()


def truncate(pager: Pager) -> None:
    os.truncate(pager.log(), 0)
    pager.write(101, 180)


def delete_and_create(pager: Pager) -> None:
    pager.log().unlink()
    pager.write(101, 180)


def overwrite(pager: Pager) -> None:
    pager.log().write_text(numbered(101, 180))


STREAM = {'Accept': 'text/event-stream'}


class Following(Case):
    """follow=1 sends new lines as they come."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.root = scratch()
        cls.server = cls.serve_class(root=cls.root, constants={'PING_SECONDS': 0.4, 'FOLLOWERS_MAX': 64})

    root: Path

    def log(self, content: str | bytes = '') -> tuple[str, Path]:
        """A new log: its name, its file."""
        path = Path(tempfile.mkstemp('.log', 'l', self.root)[1])
        path.chmod(0o644)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path.stem, path

    def follow(self, target: str, headers: Mapping[str, str] | None = None) -> Follower:
        follower = Follower(self.server.address, target, headers)
        self.addCleanup(follower.close)
        return follower

    def pager(self, folder: str) -> Pager:
        """A new log of the lines 1 to 50 in a folder of its own."""
        plant(self.root, {f'{folder}/app.log': numbered(1, 50)})
        return Pager(self.root / folder, 'app', self.server, f'{folder}-app')

    def append(self, path: Path, text: str | bytes) -> None:
        with path.open('ab') as file:
            file.write(text.encode() if isinstance(text, str) else text)

    def test_text_ndjson_and_events_carry_the_same_lines(self) -> None:
        name, path = self.log(numbered(1, 20))
        text = self.follow(lines_url(name, follow=1, n=3))
        ndjson = self.follow(lines_url(name, follow=1, n=3, format='ndjson'))
        events = self.follow(lines_url(name, follow=1, n=3), STREAM)
        self.assertEqual([stream.headers['Content-Type'] for stream in (text, ndjson, events)],
                         ['text/plain; charset=utf-8', 'application/x-ndjson', 'text/event-stream'])
        for first in range(21, 61, 5):
            self.append(path, numbered(first, first + 4))
        whole = numbered(18, 60)
        self.assertEqual(text.await_bytes(b'line 60\n').decode(), whole)
        rows = [json.loads(row) for row in ndjson.await_bytes(b'line 60".*\n').splitlines() if row]
        self.assertEqual([row['message'] for row in rows], whole.splitlines())
        self.assertEqual(events.await_lines(43), whole.splitlines())
        entry = json.loads(events.events()[-1]['data'])
        self.assertEqual(list(entry)[:6], ENTRY_KEYS)

    def test_an_answer_begins_at_once_and_is_not_buffered_on_its_way(self) -> None:
        name, _ = self.log()
        for headers in ({}, STREAM, {'Accept': 'application/x-ndjson'}):
            with self.subTest(headers):
                began = time.monotonic()
                stream = self.follow(lines_url(name, follow=1), headers)
                self.assertEqual((stream.status, stream.headers['X-Accel-Buffering']), (200, 'no'))
                self.assertIn('no-store', stream.headers['Cache-Control'])
                self.assertIsNone(stream.headers['Content-Length'])
                self.assertLess(time.monotonic() - began, 0.3, 'before the first ping')

    def test_a_head_request_ends(self) -> None:
        name, _ = self.log('x\n')
        for headers in ({}, STREAM):
            with self.server.wire() as wire:
                wire.send(head_bytes(lines_url(name, follow=1), headers, 'HEAD'))
                self.assertEqual(wire.answer('HEAD').status, 200)
                self.assertTrue(wire.at_end())

    def test_silence_is_broken_by_pings_that_are_no_lines(self) -> None:
        name, path = self.log('x\n')
        events = self.follow(lines_url(name, follow=1), STREAM)
        ndjson = self.follow(lines_url(name, follow=1, format='ndjson'))
        until(lambda: sum('comment' in event for event in events.events()) >= 2, 'two pings')
        ndjson.await_bytes(b'\n\n')
        self.append(path, 'y\n')
        self.assertEqual(events.await_lines(2), ['x', 'y'])
        self.assertEqual(events.events()[0], {'retry': str(logwatch.RETRY_SECONDS * 1000)})

    def test_it_begins_with_the_newest_lines_or_behind_a_place(self) -> None:
        name, _ = self.log(numbered(1, 30))
        cursors = {number: Pager(self.root, name, self.server).behind(number) for number in (5, 20)}
        for parameters, headers, first in (({}, {}, 1), ({'n': 4}, {}, 27), ({'after': cursors[5]}, {}, 6),
                                           ({}, {'Last-Event-ID': cursors[20]}, 21),
                                           ({'after': cursors[5]}, {'Last-Event-ID': cursors[20]}, 21),
                                           ({'after': cursors[5], 'n': 3}, {}, 6)):
            with self.subTest(parameters, headers=headers):
                stream = self.follow(lines_url(name, parameters, follow=1), {**STREAM, **headers})
                self.assertEqual(stream.await_number(30), list(range(first, 31)))

    def test_an_id_is_a_cursor_for_pages_too(self) -> None:
        name, path = self.log(numbered(1, 30))
        stream = self.follow(lines_url(name, follow=1), STREAM)
        stream.await_number(30)
        self.append(path, numbered(31, 33))
        self.assertEqual(self.server.get(lines_url(name, after=stream.last_id())).text, numbered(31, 33))

    def test_the_format_of_a_log_that_was_empty_is_learned_from_its_lines(self) -> None:
        name, path = self.log()
        stream = self.follow(lines_url(name, follow=1), STREAM)
        self.append(path, '2026-11-22 12:00:00,000 WARNING line 1\n')
        stream.await_number(1)
        entry = json.loads(stream.events()[-1]['data'])
        self.assertEqual((entry['level'], entry['time'][:4]), ('warning', '2026'))

    def test_a_line_is_sent_when_it_is_whole(self) -> None:
        name, path = self.log(numbered(1, 3))
        stream = self.follow(lines_url(name, follow=1), STREAM)
        stream.await_number(3)
        self.append(path, 'half a')
        until(lambda: 'comment' in stream.events()[-1], 'a ping')
        self.assertEqual(len(stream.messages()), 3)
        self.append(path, ' line 4\nand 5\n')
        self.assertEqual(stream.await_lines(5)[3:], ['half a line 4', 'and 5'])

    def test_hostile_bytes_stay_within_their_event(self) -> None:
        hostile = [b'a\rb', b'crlf\r', b'data: forged', b'id: 5\rdata: forged\r\r', b'event: gap', b': ping',
                   b'\xff\xfe', b'nul\0',
                   b'', b'\xe2\x80\xa8x\xe2\x80\xa9', b'\x1b[31m', b'retry: 1', b'\xc2\x85']
        name, _ = self.log(b''.join(line + b'\n' for line in hostile))
        stream = self.follow(lines_url(name, follow=1), STREAM)
        self.assertEqual([message.encode() for message in stream.await_lines(len(hostile))],
                         [line.decode('utf-8', 'backslashreplace').encode() for line in hostile])
        self.assertEqual(stream.kinds(), [])
        text = self.follow(lines_url(name, follow=1))
        until(lambda: text.data.count(b'\n') == len(hostile), 'the text')
        self.assertNotRegex(bytes(text.data), rb'[\x00-\x08\x0b-\x1f\x7f]')

    def test_every_filter_goes_with_it(self) -> None:
        name, path = self.log('2026/01/01 12:00:00 [error] 1#1: *1 begin 1\n')
        wanted: dict[str, tuple[dict[str, object], Callable[[str], object]]] = {
            'q': ({'q': '7'}, lambda line: '7' in line), 'not': ({'not': '7'}, lambda line: '7' not in line),
            'i': ({'q': 'LINE', 'i': 1, 'not': '5'}, lambda line: 'line' in line and '5' not in line),
            're': ({'re': 'line .*3$'}, lambda line: re.search('line .*3$', line)),
            'level': ({'level': 'error'}, lambda line: '[error]' in line)}
        streams = {key: self.follow(lines_url(name, parameters, follow=1, n=5), STREAM)
                   for key, (parameters, _) in wanted.items()}
        lines = [f'2026/01/01 12:00:{n:02} [{"error" if n % 3 else "info"}] 1#1: *1 line {n}' for n in range(60)]
        for line in lines:
            self.append(path, line + '\n')
        for key, (_, test) in wanted.items():
            expected = [line for line in ('2026/01/01 12:00:00 [error] 1#1: *1 begin 1', *lines) if test(line)]
            with self.subTest(key):
                self.assertEqual(streams[key].await_lines(len(expected)), expected)

    def test_what_does_not_go_with_it_is_refused_before_a_stream_begins(self) -> None:
        name, _ = self.log(numbered(1, 3))
        cursor = Pager(self.root, name, self.server).behind(2)
        for parameter, value in {'before': cursor, 'A': '1', 'B': '1', 'C': '1', 'until': 'now', 'format': 'html',
                                 'after': 'junk',
                                 'q': '', 're': '(', 'level': 'loud', 'follow': 'maybe'}.items():
            with self.subTest(parameter):
                self.assertProblem(self.server.get(lines_url(name, {'follow': 1, parameter: value})), 400, parameter)
        self.assertProblem(self.server.get('/logs/nope?follow=1', STREAM), 404)
        self.assertProblem(self.server.get(lines_url(name, follow=1), {**STREAM, 'Last-Event-ID': 'junk'}), 400)

    def test_twenty_followers_all_get_every_line_soon(self) -> None:
        name, path = self.log()
        streams = [self.follow(lines_url(name, follow=1), STREAM) for _ in range(20)]
        for number in range(1, 41):
            self.append(path, numbered(number, number))
        began = time.monotonic()
        for stream in streams:
            self.assertEqual(stream.await_number(40), list(range(1, 41)))
        self.assertLess(time.monotonic() - began, 2)

    def test_every_change_of_the_files_is_survived(self) -> None:
        for change in CHANGES:
            with self.subTest(change.__name__):
                pager = self.pager(change.__name__)
                target = lines_url(pager.log_name, follow=1, after=pager.behind(17))
                stream = self.follow(target, STREAM)
                stream.await_number(50)
                change(pager)
                last = max(pager.numbers(pager.page(n=10000)))
                self.assertEqual(stream.await_number(last), list(range(18, last + 1)))
                self.assertEqual(stream.kinds(), [])
                resumed = self.follow(lines_url(pager.log_name, follow=1),
                                      {**STREAM, 'Last-Event-ID': pager.behind(last)})
                pager.write(last + 1, last + 5)
                for follower in (stream, resumed):
                    self.assertEqual(follower.await_number(last + 5)[-5:], list(range(last + 1, last + 6)))

    def test_lines_written_late_to_the_renamed_file_come_once(self) -> None:
        pager = self.pager('late')
        stream = self.follow(lines_url('late-app', follow=1), STREAM)
        stream.await_number(50)
        pager.rename(('', '.1'))
        for first, ending in ((51, '.1'), (61, ''), (56, '.1'), (66, ''), (71, '')):
            pager.write(first, first + 4, ending)
            stream.await_number(first + 4)
        self.assertEqual(sorted(stream.numbers()), list(range(1, 76)))

    def test_what_is_lost_is_a_gap_and_it_goes_on_behind_it(self) -> None:
        for change in (truncate, delete_and_create, overwrite):
            with self.subTest(change.__name__):
                pager = self.pager(change.__name__)
                events = self.follow(lines_url(pager.log_name, follow=1), STREAM)
                ndjson = self.follow(lines_url(pager.log_name, follow=1, format='ndjson'))
                text = self.follow(lines_url(pager.log_name, follow=1))
                events.await_number(50)
                for stream in (text, ndjson):
                    stream.await_bytes(b'line 50')
                change(pager)
                self.assertEqual(events.await_number(180), [*range(1, 51), *range(101, 181)])
                self.assertIn('gap', events.kinds())
                gap = next(event for event in events.events() if event.get('event') == 'gap')
                self.assertEqual(json.loads(gap['data'])['status'], 410)
                self.assertRegex(text.await_bytes(b'line 180\n'), rb'line 50\n-- logwatch: gap: .* --\n')
                self.assertIn(b'\n{"gap":{', ndjson.await_bytes(b'line 180"'))

    def test_a_log_that_is_gone_for_a_while_is_followed_again(self) -> None:
        pager = self.pager('away')
        stream = self.follow(lines_url('away-app', follow=1), STREAM)
        stream.await_number(50)
        pager.log().unlink()
        until(lambda: stream.kinds(), 'an event that says so')
        pager.write(51, 59)
        self.assertEqual(stream.await_number(59), list(range(1, 60)))
        self.assertIn('gap', stream.kinds())

    def test_a_browser_that_was_away_gets_what_it_missed(self) -> None:
        """By Last-Event-ID, with the file renamed and packed meanwhile."""
        for change in CHANGES:
            with self.subTest(change.__name__):
                pager = self.pager(f'missed_{change.__name__}')
                with Follower(self.server.address, lines_url(pager.log_name, follow=1), STREAM) as stream:
                    stream.await_number(50)
                change(pager)
                last = max(pager.numbers(pager.page(n=10000)))
                again = self.follow(lines_url(pager.log_name, follow=1), {**STREAM, 'Last-Event-ID': stream.last_id()})
                self.assertEqual(again.await_number(last), list(range(51, last + 1)))
                self.assertEqual(again.kinds(), [])

    def test_where_the_place_is_gone_a_browser_is_told_in_the_stream(self) -> None:
        """EventSource would never come back after a status other than 200."""
        name, path = self.log(numbered(1, 50))
        with Follower(self.server.address, lines_url(name, follow=1), STREAM) as stream:
            stream.await_number(50)
        path.write_text(numbered(101, 180))
        again = self.follow(lines_url(name, follow=1), {**STREAM, 'Last-Event-ID': stream.last_id()})
        self.assertEqual(again.status, 200)
        self.assertEqual(again.await_number(180), list(range(101, 181)))
        self.assertEqual(again.kinds(), ['gap'])


class Watching(Case):
    """One thread looks at a log's files, for all who follow it."""

    def test_it_begins_again_where_no_thread_could_be_started(self) -> None:
        states = itertools.count()
        watch = logwatch.Watch(lambda: next(states))
        with mock.patch('threading.Thread.start', side_effect=RuntimeError("can't start new thread")):
            self.assertRaises(RuntimeError, watch.wait, watch.version, 0.1)
        self.assertTrue(watch.wait(watch.version, PATIENCE))

    def test_it_goes_on_when_there_was_no_memory_to_look(self) -> None:
        root = plant(scratch(), {'app.log': 'text\n'})
        site = logwatch.Site(logwatch.load_config({'log-root': [str(root)]}, {}))
        watch = site.watch('app')
        for trouble in (MemoryError(), None):
            version = watch.version
            with mock.patch.object(site.catalogue, 'find', side_effect=trouble):
                (root / 'app.log').write_text('other\n' * (version + 2))
                self.assertTrue(watch.wait(version, PATIENCE))


class FollowersAndTheServer(Case):
    """What followers cost, and what becomes of them when the server ends."""

    def held(self, server: Server) -> int:
        return len(os.listdir(f'/proc/{server.process.pid}/fd'))

    def planted(self) -> Path:
        return plant(scratch(), {'app.log': numbered(1, 20)})

    def test_who_hangs_up_costs_nothing_any_more(self) -> None:
        server = self.serve(root=self.planted())
        before = self.held(server)
        threads = []
        for _ in range(3):
            streams = [Follower(server.address, lines_url('app', follow=1), STREAM) for _ in range(10)]
            for number, stream in enumerate(streams):
                stream.await_number(20)
                if number % 2:
                    stream.close()
                else:
                    stream.wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
                    stream.close()
            until(lambda: self.held(server) <= before, 'the descriptors of before')
            threads.append(server.status('Threads'))
        until(lambda: server.status('Threads') <= threads[0], 'threads that end')

    def test_a_stream_reads_no_more_than_its_part_at_once(self) -> None:
        """24 of 1000 lines of 60 kB took 155 MB."""
        lines = [f'{"x" * 60_000} {number}\n' for number in range(1, 101)]
        root = plant(scratch(), {'app.log': ''.join(lines[:60])})
        stream = Follower(self.serve(root=root).address, lines_url('app', follow=1, n=1000), STREAM)
        self.addCleanup(stream.close)
        first = stream.await_number(60)
        self.assertEqual(first, list(range(61 - logwatch.STREAM_BYTES // 60_003, 61)))
        with (root / 'app.log').open('a') as log:
            log.write(''.join(lines[60:]))
        self.assertEqual(stream.await_number(100), [*first, *range(61, 101)])

    def test_a_stream_begins_with_few_lines_and_goes_on_with_all(self) -> None:
        """24 slow clients of 10000 lines each took 700 MB; and one line at a time cost 38 times the CPU."""
        root = plant(scratch(), {'app.log': numbered(1, 20)})
        server = self.serve(root=root)
        problem = server.get(lines_url('app', follow=1, n=1001))
        self.assertEqual((problem.status, 'n: with follow 1000 at most' in problem.text), (400, True))
        stream = Follower(server.address, lines_url('app', follow=1, n=1), STREAM)
        self.addCleanup(stream.close)
        stream.await_number(20)
        with (root / 'app.log').open('a') as log:
            log.write(numbered(21, 20_000))
        before = server.cpu_seconds()
        stream.await_number(20_000)
        self.assertLess(server.cpu_seconds() - before, 4.0)     # 9 s, one by one

    def test_who_waits_holds_no_lines_that_were_sent(self) -> None:
        data = ''.join(f'2026-01-01T00:00:00+00:00 {"x" * 3700} {number}\n' for number in range(10_000))
        server = self.serve(root=plant(scratch(), {'app.log': data}))
        for format_, ending in (('text', rb' 9999\n'), ('ndjson', rb' 9999".*\n')):
            held = []
            for _ in range(6):
                stream = Follower(server.address, lines_url('app', follow=1, n=1_000, format=format_))
                self.addCleanup(stream.close)
                stream.await_bytes(ending)
                held.append(server.status('VmRSS'))
            self.assertLess(held[-1] - held[0], 12_000, f'kB, of five streams of 4 MB in {format_}: {held}')

    def test_who_does_not_read_is_gone_after_a_while(self) -> None:
        root = self.planted()
        # A unix socket: its buffers hold 200 kB, those of TCP up to 10 MB.
        server = self.serve(root=root, listen=f'unix:{scratch()}/http.sock', constants={'SEND_SECONDS': 0.5})
        before = self.held(server)
        lazy = [Follower(server.address, lines_url('app', follow=1), STREAM, reads=False) for _ in range(5)]
        until(lambda: self.held(server) >= before + 4, 'them to be taken in')
        eager = Follower(server.address, lines_url('app', follow=1, n=1), STREAM)
        self.addCleanup(eager.close)
        with (root / 'app.log').open('a') as log:
            for number in range(10):
                log.write(f'{"x" * 500}\n' * 500 + f'block {number}\n')
        until(lambda: self.held(server) <= before + 2, 'only the one who reads to be left', 20)
        until(lambda: b'block 9"' in eager.data[-4000:], 'the reader to have all of it', 20)
        self.assertLess(server.status('VmHWM'), 100_000, 'kB')
        for stream in lazy:
            stream.wire.close()

    def test_beyond_the_cap_it_is_503_until_one_goes(self) -> None:
        server = self.serve(root=self.planted(), constants={'FOLLOWERS_MAX': 3})
        streams = [Follower(server.address, lines_url('app', follow=1), STREAM) for _ in range(3)]
        reply = server.get(lines_url('app', follow=1), STREAM)
        self.assertProblem(reply, 503, '3 streams')
        self.assertTrue(reply.headers['Retry-After'].isdigit())
        self.assertEqual(server.get('/logs/app?n=1').status, 200)
        streams.pop().close()
        until(lambda: self.is_taken(server), 'a place to be free', 5)
        for stream in streams:
            stream.close()

    def is_taken(self, server: Server) -> bool:
        with Follower(server.address, lines_url('app', follow=1), STREAM) as stream:
            return stream.status == 200

    def test_refused_and_failed_streams_give_their_places_back(self) -> None:
        server = self.serve(root=self.planted(), constants={'FOLLOWERS_MAX': 2})
        for _ in range(3):
            for target in ('/logs/nope?follow=1', '/logs/app?follow=1&re=(', '/logs/app?follow=1&q='):
                self.assertIn(server.get(target, STREAM).status, (400, 404))
            with server.wire() as wire:
                wire.send(head_bytes('/logs/app?follow=1', STREAM, 'HEAD'))
                self.assertEqual(wire.answer('HEAD').status, 200)
        self.assertTrue(self.is_taken(server))

    def test_a_stream_ends_in_good_order_after_its_time(self) -> None:
        server = self.serve(root=self.planted(), constants={'FOLLOW_SECONDS': 0.5})
        for headers in (STREAM, {}):
            stream = Follower(server.address, lines_url('app', follow=1), headers)
            stream.end()
            self.assertTrue(stream.ended)

    def test_sigterm_ends_streams_in_good_order_and_the_next_server_goes_on(self) -> None:
        root = self.planted()
        pager, state = Pager(root), str(scratch())
        server = self.serve('--state-dir', state, root=root)
        streams = [Follower(server.address, lines_url('app', follow=1), STREAM) for _ in range(5)]
        for stream in streams:
            stream.await_number(20)
        began = time.monotonic()
        server.stop()
        self.assertLess(time.monotonic() - began, 3)
        for stream in streams:
            stream.end()
            self.assertTrue(stream.ended)
        rename_and_create(pager)
        pager.compress('.1', '.1.gz')
        server = self.serve('--state-dir', state, root=root)
        with Follower(server.address, lines_url('app', follow=1),
                      {**STREAM, 'Last-Event-ID': streams[0].last_id()}) as again:
            self.assertEqual(again.await_number(80), list(range(51, 81)))

    def test_a_stream_does_not_hold_up_other_answers(self) -> None:
        server = self.serve('--workers', '1', root=self.planted())
        streams = [Follower(server.address, lines_url('app', follow=1), STREAM) for _ in range(20)]
        for _ in range(5):
            began = time.monotonic()
            self.assertEqual(len(server.get('/logs/app?n=5').text.splitlines()), 5)
            self.assertLess(time.monotonic() - began, 0.5)
        used = server.cpu_seconds()
        time.sleep(1)      # the cost of a second of silence, with 20 followers
        self.assertLess(server.cpu_seconds() - used, 0.06)
        for stream in streams:
            stream.close()

    def test_one_with_a_regular_expression_costs_little_more_than_others(self) -> None:
        """A Python was started at each look: 77 % of a core, on a log of 50 lines a second."""
        root = self.planted()
        server = self.serve('--access-log', 'no', root=root)

        def spent() -> float:
            fields = Path(f'/proc/{server.process.pid}/stat').read_text().rpartition(')')[2].split()
            return sum(map(int, fields[11:15])) / os.sysconf('SC_CLK_TCK')      # with that of its children

        with Follower(server.address, lines_url('app', follow=1, n=20, re='l.ne'), STREAM) as stream:
            stream.await_number(20)
            used = spent()
            for number in range(21, 121):
                Pager(root).write(number, number)
                time.sleep(0.02)        # the load that the claim is about
            self.assertEqual(stream.await_number(120), list(range(1, 121)))
            self.assertLess(spent() - used, 0.8)

    def test_one_with_a_regular_expression_reads_on_at_once_where_a_batch_was_full(self) -> None:
        """Full by bytes was none: 1 MiB a second of a backlog."""
        pages = [('limit', 20), ('limit', 20), ('complete', logwatch.STREAM_LINES), ('complete', 1)]
        line = logwatch.Line(0, 2, b'x', 0, b'', b'', False)

        def read(place: str) -> logwatch.Page:
            stop, count = pages.pop(0)
            found = [logwatch.Found(logwatch.Mark(0, 0, b''), line)] * count
            return logwatch.Page('app', found, logwatch.Scan(0, 0, 0, stop), 'next', '', str)
        with mock.patch.object(time, 'sleep') as sleep:
            stream = logwatch.follow(read, logwatch.Watch(lambda: None), lambda: not pages, 9.0)
            self.assertEqual([len(page.found) for page in stream if isinstance(page, logwatch.Page)],
                             [20, 20, logwatch.STREAM_LINES, 1])
        self.assertEqual([given.args[0] > 8 for given in sleep.call_args_list], [False, False, False, True])

    @requires('gunicorn')
    def test_where_the_server_has_one_thread_it_is_a_batch_and_when_to_come_back(self) -> None:
        root = self.planted()
        gunicorn = Gunicorn(root, '-k', 'sync')
        self.addCleanup(gunicorn.stop)
        last = ''
        for first in (1, 21, 26):
            if first > 1:
                Pager(root).write(first, first + 4)
            stream = Follower(gunicorn.socket, lines_url('app', follow=1, n=50),
                              {**STREAM, **({'Last-Event-ID': last} if last else {})})
            stream.end()
            self.assertEqual(stream.events()[0], {'retry': str(logwatch.RETRY_SECONDS * 1000)})
            self.assertEqual(stream.numbers(), list(range(first, 21 if first == 1 else first + 5)))
            last = stream.last_id()
        self.assertEqual(gunicorn.get('/logs/app?n=1').status, 200)

    @requires('gunicorn')
    def test_under_gunicorn_followers_leave_threads_for_others_and_who_hangs_up_has_none(self) -> None:
        """Eight of a quiet log had all threads for an hour, with nobody there any more, and SIGTERM took 30 s."""
        gunicorn = Gunicorn(self.planted(), '-k', 'gthread', '--threads', '8')
        self.addCleanup(gunicorn.stop)
        for _ in range(3):
            streams: list[Follower] = []
            until(lambda streams=streams: self.join(gunicorn, streams) == 4, 'four places', 8)  # type: ignore[misc]
            with Follower(gunicorn.socket, '/logs/app?follow=1&n=1') as fifth:
                self.assertEqual((fifth.status, fifth.headers['Retry-After']), (503, '5'))
                until(lambda fifth=fifth: fifth.ended, 'the reason')        # type: ignore[misc]
                self.assertIn(b'4 streams are open already', fifth.data)
            self.assertTrue(answers_livez(gunicorn.socket))
            for stream in streams:
                stream.close()
        began = time.monotonic()
        gunicorn.process.terminate()
        gunicorn.process.wait(PATIENCE)
        self.assertLess(time.monotonic() - began, 5)

    def join(self, gunicorn: Gunicorn, streams: list[Follower]) -> int:
        """Begin one more stream, if there is a place for it; how many there are then."""
        stream = Follower(gunicorn.socket, '/logs/app?follow=1&n=1')
        if stream.status == 200:
            streams.append(stream)
        else:
            stream.close()
        return len(streams)

    @requires('gunicorn')
    def test_under_gunicorns_threads_it_streams(self) -> None:
        root = self.planted()
        gunicorn = Gunicorn(root, '-k', 'gthread', '--threads', '4')
        self.addCleanup(gunicorn.stop)
        with Follower(gunicorn.socket, lines_url('app', follow=1), STREAM) as stream:
            stream.await_number(20)
            Pager(root).write(21, 25)
            self.assertEqual(stream.await_number(25), list(range(1, 26)))
            self.assertEqual(gunicorn.get('/logs/app?n=1').status, 200)


ROTATION_MODES = {
    'create': 'create', 'copytruncate': 'copytruncate', 'dateext': 'create\n dateext\n dateformat -%Y%m%d-%s',
    'compress': 'create\n compress',
    'delaycompress': 'create\n compress\n delaycompress', 'copytruncate and compress': 'copytruncate\n compress'}

LOSSY_MODES = ('copytruncate', 'copytruncate and compress', 'compress')     # in which logrotate itself loses lines


class Torture:
    """A writer of numbered lines and logrotate, at work on one log."""

    def __init__(self, mode: str, rounds: int) -> None:
        self.mode, self.rounds = mode, rounds
        self.chance = random.Random(mode)
        self.home = scratch()
        self.log = plant(scratch(), {'app.log': 'line 0.\n'}) / 'app.log'
        self.written = 0
        self.complaints = ''
        self._stop = threading.Event()
        config = self.home / 'conf'
        config.write_text(f'{self.log} {{\n rotate 1000\n missingok\n size 1\n {ROTATION_MODES[mode]}\n}}\n')
        config.chmod(0o644)
        self._command = [str(find_tool('logrotate')), '-s', str(self.home / 'state'), '-f', str(config)]
        self._writer = threading.Thread(target=self._write)
        self._rotator = threading.Thread(target=self._rotate)

    def start(self) -> None:
        self._writer.start()
        self._rotator.start()

    def _write(self) -> None:
        """Write in bursts; some time after a rename, open the file anew, as daemons do on a signal."""
        file = self.log.open('ab', 0)
        while not self._stop.is_set():
            for _ in range(self.chance.randint(1, 30)):
                self.written += 1
                file.write(b'%s line %d.\n' % (b'x' * self.chance.randint(0, 200), self.written))
            if not self._is_the_live_one(file) and self.chance.random() < .2:
                file.close()
                file = self.log.open('ab', 0)
            self._stop.wait(self.chance.random() * 0.004)
        file.close()

    def _is_the_live_one(self, file: Any) -> bool:
        try:
            return self.log.stat().st_ino == os.fstat(file.fileno()).st_ino
        except FileNotFoundError:
            return True

    def _rotate(self) -> None:
        for _ in range(self.rounds):
            self._stop.wait(self.chance.random() * 0.2)
            began = int(time.time())
            done = subprocess.run(self._command, capture_output=True, text=True)
            # A writer that has not reopened its file yet: gzip says so, and what it does not get is lost on disk.
            if 'file size changed while zipping' not in done.stderr:
                self.complaints += done.stderr
            while 'dateext' in self.mode and int(time.time()) == began:     # its names are the seconds
                self._stop.wait(0.05)
        self._stop.set()

    def is_over(self) -> bool:
        return not self._writer.is_alive() and not self._rotator.is_alive()

    def on_disk(self) -> set[int]:
        """The numbers that there are: copytruncate itself loses some."""
        rows = b''.join(whole_lines(read_with_tools(path)) for path in self.log.parent.iterdir()).splitlines()
        return {number for row in rows for number in self.numbers(row.decode())}

    def numbers(self, message: str) -> list[int]:
        """The number of a line; none for one that was torn, copied or packed by logrotate in the midst of a write."""
        match = re.search(r'line (\d+)\.$', message)
        if not match and not re.search('copytruncate|compress', self.mode):
            raise AssertionError(f'{self.mode}: {message!r}')
        return [int(match[1])] if match else []


class Witness(NamedTuple):
    """What a reader of the tortured log saw: the numbers in order, and None for each gap that it was told of."""

    seen: list[int | None]

    def doubled(self) -> list[int]:
        return [number for number, count in Counter(self.seen).items() if number is not None and count > 1]

    def lost(self, there: set[int]) -> list[int]:
        """Numbers that it neither saw nor was told to miss."""
        missing = there - {number for number in self.seen if number is not None}
        for place, number in enumerate(self.seen):
            if number is None:
                before = max((seen for seen in self.seen[:place] if seen is not None), default=0)
                behind = next((seen for seen in self.seen[place:] if seen is not None), max(there) + 1)
                missing -= set(range(before, behind))
        return sorted(missing)


@requires('logrotate', 'zcat')
class RotationTorture(Case):
    """Real logrotate under a writer: a pager and followers that come and go see every line that there is, once."""

    ROUNDS = int(os.environ.get('LOGWATCH_TEST_TORTURE', '8'))

    def page(self, server: Server, torture: Torture, cursor: str, witness: Witness) -> None:
        """Read forward, page by page, until all has been read that there is."""
        chance = random.Random(torture.mode)
        while True:
            over = torture.is_over()
            reply = server.get(lines_url('app', after=cursor, n=chance.choice((3, 50, 1000)), format='json'))
            document = reply.json()
            if reply.status == 410:
                witness.seen.append(None)
                cursor = document['oldest']
                continue
            self.assertEqual(reply.status, 200, document)
            for entry in document['entries']:
                witness.seen.extend(torture.numbers(entry['message']))
            cursor = str(urllib.parse.parse_qs(document['next'][1:])['after'][0])
            if over and not document['entries']:
                return

    def follow(self, server: Server, torture: Torture, cursor: str, witness: Witness, seed: int) -> None:
        """Follow, hang up at random, and come back with the last id."""
        chance = random.Random(seed)
        idle = 0
        while idle < 2:
            over = torture.is_over()
            with Follower(server.address, lines_url('app', follow=1), {**STREAM, 'Last-Event-ID': cursor}) as stream:
                self.assertEqual(stream.status, 200)
                time.sleep(0.3 if over else chance.random() * 0.4)
            for event in stream.events():
                if 'event' in event:
                    witness.seen.extend([None] if event['event'] == 'gap' else [])
                elif 'data' in event:
                    witness.seen.extend(torture.numbers(json.loads(event['data'])['message']))
            cursor = stream.last_id() or cursor
            idle += over and not stream.last_id()

    def test_every_line_is_seen_once_in_each_mode(self) -> None:
        for mode in ROTATION_MODES:
            with self.subTest(mode):
                torture = Torture(mode, self.ROUNDS)
                server = self.serve(root=torture.log.parent)
                cursor = server.get('/logs/app?format=json').json()['entries'][-1]['cursor']
                witnesses = [Witness([]) for _ in range(3)]
                torture.start()
                with concurrent.futures.ThreadPoolExecutor() as pool:
                    readers = [pool.submit(self.page, server, torture, cursor, witnesses[0])]
                    readers += [pool.submit(self.follow, server, torture, cursor, witnesses[seed], seed)
                                for seed in (1, 2)]
                for reader in readers:
                    reader.result()
                self.assertEqual(torture.complaints, '')
                there = torture.on_disk() - {0}
                self.assertGreater(len(there), 100)
                for witness in witnesses:
                    self.assertEqual((witness.doubled(), witness.lost(there)), ([], []))
                    # What is written behind the packing is lost on disk, a stretch each time, which gzip may not see.
                    lost = set(range(1, torture.written + 1)) - there
                    stretches = sum(number - 1 not in lost for number in lost)
                    self.assertLessEqual(witness.seen.count(None), self.ROUNDS if mode in LOSSY_MODES else stretches)
                server.stop()


# ----------------------------------------------------------------------------------------------------------------------
# the journal: against journalctl, on a journal made here; and what its entries may hold
# ----------------------------------------------------------------------------------------------------------------------

BOOT_ID = '0123456789abcdef0123456789abcdef'
ENTRY_CURSOR = f's={BOOT_ID};i=31;b={BOOT_ID};m=2dc6c00;t=6474848fcac00;x=b9aecf3689e2c9dd'
LOG_TAG = BOOT_ID[:16]


def entry_json(**fields: object) -> bytes:
    """A line of `journalctl -o json`; None leaves a field out."""
    record = {'__CURSOR': ENTRY_CURSOR, '__REALTIME_TIMESTAMP': '1767225648250000', '_HOSTNAME': 'box',
              'SYSLOG_IDENTIFIER': 'app',
              '_PID': '7', 'PRIORITY': '4', '_SYSTEMD_UNIT': 'app.service', 'MESSAGE': 'text', **fields}
    return json.dumps({name: value for name, value in record.items() if value != 'absent'}).encode() + b'\n'


class JournalEntries(Case):
    """What journalctl's JSON may hold, as lines."""

    def entry(self, **fields: object) -> tuple[str, Any]:
        with zone('UTC'):
            found = logwatch.journal_entry(entry_json(**fields))
        assert found
        self.assertEqual(found[0], ENTRY_CURSOR)
        return found[1].text.decode('utf-8', 'backslashreplace'), found[2]

    def test_one_reads_as_short_iso_prints_it(self) -> None:
        text, details = self.entry()
        self.assertEqual(text, '2026-01-01T00:00:48+00:00 box app[7]: text')
        self.assertEqual((details.time, details.level, details.message), (1767225648.25, 4, 'text'))
        self.assertEqual(details.fields['unit'], 'app.service')

    def test_messages_of_every_kind(self) -> None:
        for message, expected in ((list(b'caf\xe9 \xff'), 'caf\\xe9 \\xff'), (list('été'.encode()), 'été'), (None, ''),
                                  ('absent', ''), ('', ''),
                                  (['one', 'two'], 'one two'), ([list(b'\xff'), 'two'], '\\xff two'), ([], ''),
                                  ('first\nsecond\n', 'first\nsecond\n'),
                                  ('a\0b', 'a\0b'), ('x' * 100_000, 'x' * 100_000), (5, '5'), ([256, -1], '256 -1')):
            with self.subTest(str(message)[:30]):
                text, details = self.entry(MESSAGE=message)
                self.assertEqual(details.message, expected[:logwatch.LINE_BYTES])
                self.assertNotIn('\n', text, 'an entry is one line')
                head = '2026-01-01T00:00:48+00:00 box app[7]: '
                self.assertTrue(text.startswith(head + expected[:6].replace('\n', ' ')))
                self.assertLessEqual(len(text), logwatch.LINE_BYTES)

    def test_what_is_missing_is_left_out(self) -> None:
        for fields, expected in (({'SYSLOG_IDENTIFIER': 'absent', '_COMM': 'cron'}, 'box cron[7]: text'),
                                 ({'SYSLOG_IDENTIFIER': 'absent'}, 'box unknown[7]: text'),
                                 ({'_PID': 'absent'}, 'box app: text'),
                                 ({'_PID': 'absent', 'SYSLOG_PID': '9'}, 'box app[9]: text')):
            self.assertEqual(self.entry(**fields)[0].partition(' ')[2], expected)
        for priority, level in (('absent', None), (None, None), ('0', 0), ('7', 7), ('8', None), ('x', None),
                                ([1, 2], None), ('04', None)):
            self.assertEqual(self.entry(PRIORITY=priority)[1].level, level, priority)

    def test_what_is_no_entry_is_passed_over(self) -> None:
        for data in (b'', b'\n', b'[]', b'5', b'null', b'{', b'{"MESSAGE":"x"}',
                     b'{"__CURSOR":"x","__REALTIME_TIMESTAMP":"soon"}',
                     b'{"__CURSOR":"x","__REALTIME_TIMESTAMP":null}', b'[' * 100_000, b'\xff', entry_json()[:-20]):
            self.assertIsNone(logwatch.journal_entry(data), data[:40])


class JournalStandIn(Case):
    """What journalctl does that a healthy one does not: it hangs, or prints an entry beyond all bounds."""

    def ask(self, script: str, target: str = '/logs/j?format=json', **constants: object) -> Any:
        application = make_application('--log', 'j=journal:')
        with mock.patch.object(logwatch, 'journal_arguments', lambda *_: ['/bin/sh', '-c', script]), \
                mock.patch.object(logwatch, 'journal_problem', lambda: None), \
                mock.patch.dict(vars(logwatch), constants):
            return call(application, target).json()

    def test_one_that_hangs_or_is_killed_has_not_given_all(self) -> None:
        entries = plant(scratch(), {'entries': entry_json()}) / 'entries'
        for end, note in (('exec sleep 60', 'journal: journalctl did not end in time'),
                          ('kill -KILL $$', 'journal: journalctl was killed before it had ended')):
            with self.subTest(end):
                document = self.ask(f'cat {entries}; {end}', SCAN_SECONDS=0.2)
                self.assertEqual([entry['message'] for entry in document['entries']], ['text'])
                self.assertEqual((document['scan']['stop'], document['scan']['notes']), ('deadline', [note]))
                self.assertTrue(document['prev'] and document['next'])

    def test_a_file_of_the_journal_that_is_deleted_meanwhile_fails_nothing(self) -> None:
        root = plant(scratch(), {'app.log': 'text\n', 'journal/0/system.journal': 'x' * 7})
        application = logwatch.Application(logwatch.load_config({'log': ['j=journal:', f'app={root}/app.log']}, {}))
        listed = os.listdir

        def list_one_more(path: str) -> list[str]:
            return [*listed(path), 'system@gone.journal'] if path.endswith('/0') else listed(path)
        with mock.patch.object(logwatch, 'JOURNAL_FOLDERS', (f'{root}/journal',)), \
                mock.patch.object(os, 'listdir', list_one_more):
            rows = {row['name']: row['bytes'] for row in call(application, '/logs?format=json').json()['logs']}
        self.assertEqual(rows, {'j': 7, 'app': 5})

    def test_a_pseudonym_is_found_as_it_is_shown(self) -> None:
        entries = plant(scratch(), {'entries': entry_json(MESSAGE='login from 192.0.2.7')}) / 'entries'
        with mock.patch.dict(os.environ):
            application = logwatch.Application(logwatch.load_config({'log': ['j=journal:'], 'pseudonyms': ['yes']}, {}))
        with mock.patch.object(logwatch, 'journal_arguments', lambda *_: ['/bin/cat', str(entries)]), \
                mock.patch.object(logwatch, 'journal_problem', lambda: None):
            shown = call(application, '/logs/j').text.split()[-1]
            self.assertNotEqual(shown, '192.0.2.7')
            self.assertIn(shown, call(application, lines_url('j', q=shown)).text)
            self.assertEqual(call(application, lines_url('j', q='192.0.2.7')).text, '')

    def test_a_message_is_no_longer_than_a_line(self) -> None:
        entries = plant(scratch(), {'entries': entry_json(MESSAGE='x' * 100_000)}) / 'entries'
        entry, = self.ask(f'cat {entries}')['entries']
        self.assertEqual(len(entry['message']), logwatch.LINE_BYTES)

    def test_one_that_ends_has(self) -> None:
        document = self.ask('true')
        self.assertEqual((document['scan']['stop'], document['scan']['notes']), ('complete', []))

    def test_no_place_is_called_gone_where_nothing_could_be_read(self) -> None:
        entries = plant(scratch(), {'entries': entry_json()}) / 'entries'
        place = self.ask(f'cat {entries}')['entries'][0]['cursor']
        for script, stop in (('true', 'complete'), ('exec sleep 60', 'deadline'), ('kill -KILL $$', 'deadline')):
            for name in ('after', 'before'):
                with self.subTest(script, name=name):
                    document = self.ask(script, lines_url('j', {name: place}, format='json'), SCAN_SECONDS=0.2)
                    self.assertEqual((document['entries'], document['scan']['stop']), ([], stop))
                    self.assertIn(place, document['next'])

    def test_an_entry_that_is_too_long_is_told_of(self) -> None:
        long = entry_json(MESSAGE='x' * 5000)
        entries = plant(scratch(), {'entries': entry_json() + long + entry_json()}) / 'entries'
        document = self.ask(f'cat {entries}', ENTRY_BYTES=2048)
        self.assertEqual(len(document['entries']), 2)
        self.assertEqual(document['scan']['notes'], ['journal: what is no entry, or of more than 2 KiB, is left out'])


class JournalArguments(Case):
    """Nothing that a client sends reaches journalctl but numbers and cursors that were checked."""

    def test_a_cursor_comes_back_as_it_went(self) -> None:
        for behind in (True, False):
            cursor = logwatch.JournalCursor(behind, LOG_TAG, ENTRY_CURSOR)
            self.assertEqual(logwatch.parse_any_cursor(logwatch.encode_journal_cursor(cursor)), cursor)

    def test_another_text_is_no_cursor(self) -> None:
        hostile = ['', '--output=export', f'{ENTRY_CURSOR}\n', f'{ENTRY_CURSOR} --root=/', f' {ENTRY_CURSOR}',
                   ENTRY_CURSOR.upper(),
                   ENTRY_CURSOR.replace('i=31', 'i='), ENTRY_CURSOR.replace('i=31', 'i=31;i=31'),
                   ENTRY_CURSOR + ';u=1', '\0', 'é',
                   ENTRY_CURSOR.replace('i=31', 'i=' + '1' * 17), '$(id)', ';'.join(reversed(ENTRY_CURSOR.split(';')))]
        heads = ('', '0;', f'{LOG_TAG}0;', f'{LOG_TAG.upper()};', f'{LOG_TAG}')
        hostile = [f'{LOG_TAG};{text}' for text in hostile] + [f'{head}{ENTRY_CURSOR}' for head in heads] + ['', '\0']
        for kind in ('~a', '~b'):
            for text in hostile:
                encoded = base64.urlsafe_b64encode(text.encode()).decode()
                for padded in (encoded, encoded.rstrip('=')):
                    with self.subTest(text), self.assertRaises(ValueError):
                        logwatch.parse_any_cursor(kind + padded)
        good = base64.urlsafe_b64encode(f'{LOG_TAG};{ENTRY_CURSOR}'.encode()).decode().rstrip('=')
        for text in ('~c' + good, '~' + good, '~A' + good, '~a' + good[:-1] + '!', '~a ' + good, '~a', '~'):
            with self.subTest(text), self.assertRaises(ValueError):
                logwatch.parse_any_cursor(text)

    def test_the_arguments_hold_no_text_of_the_client(self) -> None:
        criteria = logwatch.Criteria(words=('CLIENT',), unwanted=('CLIENT',), pattern='CLIENT', ignore_case=True,
                                     since=1.5, until=2e9, level=4)
        places = [logwatch.JournalCursor(behind, LOG_TAG, ENTRY_CURSOR) for behind in (True, False)]
        for place in (None, *places):
            for reverse in (True, False):
                arguments = logwatch.journal_arguments('ssh.service', criteria, place, reverse)
                self.assertEqual(arguments[0].rpartition('/')[2], 'journalctl')
                self.assertEqual([text for text in arguments[1:] if 'CLIENT' in text or not text.startswith('--')], [])
                self.assertIn('--unit=ssh.service', arguments)
                self.assertIn('--priority=4', arguments)
                times = [text.split('=')[0] for text in arguments if text.startswith(('--since', '--until'))]
                self.assertEqual(times, [] if place and reverse else ['--until'] if place else ['--since', '--until'])


def export_entry(moment: float, number: int, **fields: str | bytes | None) -> bytes:
    """An entry in journald's export format; bytes go in its binary form. None leaves a field out."""
    record: dict[str, str | bytes | None] = {
        '__REALTIME_TIMESTAMP': str(int(moment * 1e6)), '__MONOTONIC_TIMESTAMP': str((number + 1) * 1000),
        '_BOOT_ID': BOOT_ID, '_HOSTNAME': 'box',
        'SYSLOG_IDENTIFIER': 'app', '_PID': '7', 'PRIORITY': str(number % 8),
        '_SYSTEMD_UNIT': ('ssh', 'cron')[number % 2] + '.service',
        'MESSAGE': f'{"error " * (number % 3 == 0)}line {number}', **fields}
    lines = []
    for name, value in record.items():
        if isinstance(value, str):
            lines.append(f'{name}={value}'.encode())
        elif value is not None:
            lines.append(name.encode() + b'\n' + len(value).to_bytes(8, 'little') + value)
    return b'\n'.join(lines) + b'\n\n'


class Journal:
    """A journal as journald writes it, for a mount namespace in which it stands where journald keeps it."""

    START = 1767225600     # 2026-01-01T00:00:00Z

    def __init__(self, entries: Iterable[bytes]) -> None:
        self.root = scratch()
        self.folder = self.root / 'journal' / Path('/etc/machine-id').read_text().strip()
        self.folder.mkdir(parents=True)
        self.write(entries)

    def write(self, entries: Iterable[bytes]) -> None:
        """Add entries."""
        subprocess.run([JOURNAL_REMOTE, '-o', str(self.folder / 'system.journal'), '-'], input=b''.join(entries),
                       check=True, capture_output=True)

    def add(self, first: int, last: int, every: int = 1) -> None:
        """Add numbered entries, one in `every` seconds."""
        self.write(export_entry(Journal.START + every * number, number) for number in range(first, last + 1))

    def rotate(self, name: str) -> Path:
        """Begin a new file. The old one, which has its path from then on, is what journald deletes one day."""
        return (self.folder / 'system.journal').rename(self.folder / f'system@{name}.journal')

    def namespace(self, *more: str) -> tuple[str, ...]:
        """A command that runs another one where /var/log is our folder."""
        mounts = ' && '.join((f'mount --bind {self.root} /var/log', *more))
        return ('unshare', '-m', 'sh', '-c', f'{mounts} && exec "$@"', 'sh')

    def journalctl(self, *options: str) -> list[str]:
        """The messages that journalctl prints, oldest first."""
        command = ['journalctl', '-D', str(self.folder), '-q', '--no-pager', '-o', 'json', '--all', *options]
        done = subprocess.run(command, capture_output=True, check=True)
        return [json.loads(line)['MESSAGE'] for line in done.stdout.splitlines()]


@requires('root', 'journalctl', 'systemd-journal-remote', 'mount namespaces')
class RealJournal(Case):
    """The journal as a log is what journalctl says of it."""

    COUNT = 240
    journal: Journal

    @classmethod
    def setUpClass(cls) -> None:
        cls.journal = Journal(())
        cls.journal.add(0, cls.COUNT - 1, 30)
        cls.server = cls.serve_class(root=Path('/var/log'), wrap=cls.journal.namespace())

    def ask(self, **parameters: object) -> dict[str, Any]:
        reply = self.server.get(lines_url('journal', parameters, format='json'))
        self.assertEqual(reply.status, 200, reply.text)
        document: dict[str, Any] = reply.json()
        return document

    def messages(self, document: Mapping[str, Any]) -> list[str]:
        return [entry['message'] for entry in document['entries']]

    def test_it_is_listed_and_read_like_any_log(self) -> None:
        row = next(row for row in self.server.get('/logs?format=json').json()['logs'] if row['name'] == 'journal')
        self.assertEqual((row['format'], row['readable']), ('journal', True))
        self.assertEqual(self.server.get('/logs/journal?n=2').text.splitlines()[-1].split(' ', 1)[1],
                         f'box app[7]: line {self.COUNT - 1}')
        entry = self.ask(n=1)['entries'][0]
        self.assertEqual(list(entry)[:6], ENTRY_KEYS)
        self.assertEqual(entry['time'][:19], time.strftime('%Y-%m-%dT%H:%M:%S',
                                                           time.gmtime(Journal.START + 30 * (self.COUNT - 1))))

    def test_each_parameter_is_journalctls_own(self) -> None:
        since, until = Journal.START + 1800, Journal.START + 5400
        for parameters, options in (
                ({}, ()), ({'n': 5}, ('-n', '5')), ({'level': 'warning'}, ('-p', 'warning')),
                ({'level': 'emerg'}, ('-p', '0')),
                ({'since': f'@{since}'}, (f'--since=@{since}',)), ({'until': f'@{until}'}, (f'--until=@{until}',)),
                ({'since': f'@{since}', 'until': f'@{until}', 'level': 'err'},
                 (f'--since=@{since}', f'--until=@{until}', '-p', 'err')),
                ({'since': '2026-01-01 00:30:00 UTC'}, ('--since=2026-01-01 00:30:00 UTC',)),
                ({'since': '-15m'}, ('--since=-15m',)),
                ({'until': 'yesterday'}, ('--until=yesterday',)), ({'since': 'today'}, ('--since=today',))):
            with self.subTest(parameters):
                self.assertEqual(self.messages(self.ask(**{'n': 10000, **parameters})),
                                 self.journal.journalctl(*options))

    def test_words_and_expressions_choose_as_in_a_file(self) -> None:
        whole = self.journal.journalctl()
        for parameters, test in (({'q': 'error'}, lambda text: 'error' in text),
                                 ({'not': 'error'}, lambda text: 'error' not in text),
                                 ({'q': 'LINE 1', 'i': 1}, lambda text: 'line 1' in text),
                                 ({'re': 'line [0-9]*7$'}, lambda text: text.endswith('7')),
                                 ({'q': ['error', 'line 9']}, lambda text: 'error' in text and 'line 9' in text)):
            for n in (3, 10000):
                with self.subTest(parameters, n=n):
                    self.assertEqual(self.messages(self.ask(**parameters, n=n)), list(filter(test, whole))[-n:])

    def test_pages_give_every_entry_once(self) -> None:
        for parameters in ({}, {'q': 'error'}, {'level': 'warning'},
                           {'since': f'@{Journal.START + 600}', 'until': f'@{Journal.START + 6000}'}):
            with self.subTest(parameters):
                n = 13 if parameters else 80
                whole = self.messages(self.ask(**parameters, n=10000))
                document = self.ask(**parameters, n=n)
                found = self.messages(document)
                while document['prev']:
                    document = self.server.get('/logs/journal' + document['prev']).json()
                    found = self.messages(document) + found
                self.assertEqual(found, whole)
                found = self.messages(document)
                while document['entries'] or not found:
                    document = self.server.get('/logs/journal' + document['next']).json()
                    found += self.messages(document)
                self.assertEqual(found, whole)

    def test_an_entrys_cursor_is_a_place_in_both_directions(self) -> None:
        entries = self.ask(n=20)['entries']
        cursor = entries[9]['cursor']
        self.assertEqual(self.messages(self.ask(after=cursor)), [entry['message'] for entry in entries[10:]])
        self.assertEqual(self.messages(self.ask(before=cursor, n=10)), [entry['message'] for entry in entries[:10]])
        root = plant(scratch(), {'app.log': 'text\n'})
        self.assertProblem(call(make_application('--log-root', str(root)), lines_url('app', after=cursor)), 400)
        file_cursor = call(make_application('--log-root', str(root)),
                           '/logs/app?format=json').json()['entries'][0]['cursor']
        self.assertProblem(self.server.get(lines_url('journal', after=file_cursor)), 400)

    def test_a_place_is_one_for_every_filter(self) -> None:
        """journalctl --after-cursor skips the first hit where its filter takes out the cursor's own entry, and
        --cursor with --reverse forgets --until."""
        entries = self.ask(n=10_000)['entries']
        times = [f'@{Journal.START + 30 * number}' for number in range(self.COUNT)]
        kept: tuple[tuple[dict[str, object], Callable[[int], bool]], ...] = (
            ({}, lambda number: True), ({'level': 'err'}, lambda number: number % 8 <= 3),
            ({'level': 'emerg'}, lambda number: number % 8 == 0), ({'q': 'error'}, lambda number: number % 3 == 0),
            ({'until': times[90]}, lambda number: number <= 90), ({'since': times[110]}, lambda number: number >= 110),
            ({'since': times[60], 'until': times[140], 'level': 'err', 're': '[05]$'},
             lambda number: 60 <= number <= 140 and number % 8 <= 3 and number % 5 == 0))
        for at in (96, 99, 100, 103):
            for filters, keeps in kept:
                whole = [number for number in range(self.COUNT) if keeps(number)]
                for name, expected in (('after', [number for number in whole if number > at][:7]),
                                       ('before', [number for number in whole if number <= at][-7:])):
                    with self.subTest(name, at=at, **filters):
                        document = self.ask(**filters, **{name: entries[at]['cursor']}, n=7)
                        messages = [entries[number]['message'] for number in expected]
                        self.assertEqual(self.messages(document), messages)
                        if expected:        # and from there, back
                            back = self.ask(**filters, before=document['entries'][-1]['cursor'], n=len(expected))
                            self.assertEqual(self.messages(back), messages)

    def test_a_place_that_is_gone_is_told(self) -> None:
        """journald deletes its oldest files: what was lost with them was passed in silence, and one entry more."""
        journal = Journal(())
        journal.add(0, 19)
        old = journal.rotate('old')
        journal.add(20, 39)
        server = self.serve('--log', 'ssh=journal:ssh.service', '--log', 'all=journal:', root=Path('/var/log'),
                            wrap=journal.namespace())

        def numbers(log: str, **parameters: object) -> list[int]:
            document = server.get(lines_url(log, parameters, n=100, format='json')).json()
            return [int(message.split()[-1]) for message in self.messages(document)]
        places = {}
        for log, step in (('all', 1), ('ssh', 2)):
            entries = server.get(f'/logs/{log}?format=json&n=100').json()['entries']
            page = server.get(lines_url(log, before=entries[20 // step]['cursor'], n=3, format='json')).json()
            places[log] = [entries[4 // step]['cursor'], re.findall('before=(.*)', page['prev'])[0]]
            self.assertEqual(numbers(log, after=places[log][0]), list(range(4 + step, 40, step)))
        old.unlink()
        for log, step in (('all', 1), ('ssh', 2)):
            for name, place, more in itertools.product(('after', 'before'), places[log], (
                    {}, {'level': 'warning'}, {'q': 'error'}, {'since': f'@{Journal.START + 30}'},
                    {'until': f'@{Journal.START + 2}'})):
                with self.subTest(log, name=name, place=place[:2], **more):
                    reply = server.get(lines_url(log, more, **{name: place}))
                    self.assertProblem(reply, 410, 'gone')
                    oldest = reply.json()['oldest']
                    self.assertEqual(numbers(log, after=oldest), list(range(20, 40, step)))
                    self.assertEqual(numbers(log, after=oldest, level='err'),
                                     [number for number in range(20, 40, step) if number % 8 <= 3])
            stream = self.follow(server, f'/logs/{log}?follow=1', places[log][0])
            self.assertEqual(stream.await_number(40 - step), list(range(20, 40, step)))
            self.assertEqual(stream.kinds(), ['gap'])
            until(lambda: not children_of(server.process.pid), 'no journalctl to be left', 3)

    def follow(self, server: Server, target: str, place: str) -> Follower:
        return self.enterContext(Follower(server.address, target, {**STREAM, 'Last-Event-ID': place}))

    def test_a_place_behind_all_that_is_left_is_told_too(self) -> None:
        journal = Journal(())
        journal.add(0, 9)
        old = journal.rotate('old')
        journal.add(10, 19)
        server = self.serve(root=Path('/var/log'), wrap=journal.namespace())
        last = server.get('/logs/journal?format=json').json()['entries'][-1]['cursor']
        stream = self.follow(server, '/logs/journal?follow=1', last)
        (journal.folder / 'system.journal').unlink()
        old.rename(journal.folder / 'system.journal')
        for name in ('after', 'before'):
            reply = server.get(lines_url('journal', {name: last}))
            self.assertProblem(reply, 410, 'gone')
        until(lambda: stream.kinds() == ['gap'], 'an event that says so')
        oldest = reply.json()['oldest']
        self.assertEqual(server.get(lines_url('journal', after=oldest)).text, '')
        journal.add(30, 39)
        self.assertEqual(len(server.get(lines_url('journal', after=oldest)).text.splitlines()), 10)
        self.assertEqual(stream.await_number(39), list(range(30, 40)))

    def test_odd_entries_are_read_as_journalctl_reads_them(self) -> None:
        odd: list[dict[str, str | bytes | None]] = [
            {'MESSAGE': b'bytes \xff\xfe'}, {'MESSAGE': b'two\nlines'}, {'MESSAGE': b'x' * 90_000}, {'MESSAGE': None},
            {'PRIORITY': None},
            {'SYSLOG_IDENTIFIER': None, '_COMM': 'comm'}, {'MESSAGE': b'esc \x1b[31m'}, {'MESSAGE': ''},
            {'_PID': None}, {'MESSAGE': b'nul\0nul'}]
        journal = Journal(export_entry(Journal.START + number, number, **fields) for number, fields in enumerate(odd))
        server = self.serve(root=Path('/var/log'), wrap=journal.namespace())
        entries = server.get('/logs/journal?format=json').json()['entries']
        self.assertEqual([entry['message'][:20] for entry in entries], [
            'bytes \\xff\\xfe', 'two\nlines', 'x' * 20, '', 'line 4', 'line 5', 'esc \x1b[31m', '', 'line 8',
            'nul\0nul'])
        self.assertEqual([entry['level'] for entry in entries[3:6]], ['err', None, 'notice'])
        text = server.get('/logs/journal').body
        self.assertEqual(text.count(b'\n'), len(odd))
        self.assertNotRegex(text, rb'[\x00-\x08\x0b-\x1f\x7f]')
        self.assertEqual(len(server.get('/logs/journal?q=esc').text.splitlines()), 1)

    def test_following_it_sends_new_entries(self) -> None:
        journal = Journal(())
        journal.add(0, 9)
        server = self.serve(root=Path('/var/log'), wrap=journal.namespace())
        with Follower(server.address, '/logs/journal?follow=1', STREAM) as stream:
            stream.await_number(9)
            for first in (10, 15, 20):
                journal.add(first, first + 4)
                stream.await_number(first + 4)
            self.assertEqual(stream.numbers(), list(range(25)))
        journal.add(25, 29)
        with Follower(server.address, '/logs/journal?follow=1&q=error',
                      {**STREAM, 'Last-Event-ID': stream.last_id()}) as again:
            self.assertEqual(again.await_number(27), [27])
        until(lambda: not children_of(server.process.pid), 'no journalctl to be left', 3)

    def test_a_journalctl_that_hangs_is_given_up(self) -> None:
        fake = plant(scratch(), {'journalctl': '#!/bin/sh\nexec sleep 60\n'}) / 'journalctl'
        fake.chmod(0o755)
        mount = f'mount --bind {fake} /usr/bin/journalctl'
        server = self.serve(root=Path('/var/log'), wrap=self.journal.namespace(mount), constants={'SCAN_SECONDS': 1.0})
        began = time.monotonic()
        reply = server.get('/logs/journal')
        self.assertLess(time.monotonic() - began, PATIENCE)
        self.assertEqual((reply.status, reply.body), (200, b''))
        self.assertIn('stop=deadline', reply.headers['Logwatch-Scan'])
        until(lambda: not children_of(server.process.pid), 'no journalctl to be left')

    def test_without_descriptors_it_is_not_called_missing(self) -> None:
        server = self.serve(root=Path('/var/log'), wrap=self.journal.namespace())
        with server.wire() as wire:
            wire.send(LIVEZ)
            wire.answer()
            with server.limited(resource.RLIMIT_NOFILE, server.descriptors()):
                wire.send(head_bytes('/logs/journal'))
                self.assertProblem(wire.answer(), 503)
            wire.send(head_bytes('/logs/journal'))
            self.assertEqual(wire.answer().status, 200)

    def test_a_units_part_of_it_is_a_log_by_option(self) -> None:
        server = self.serve('--log', 'ssh=journal:ssh.service', '--log', 'all=journal:', root=Path('/var/log'),
                            wrap=self.journal.namespace())
        self.assertEqual({row['name'] for row in server.get('/logs?format=json').json()['logs']}, {'ssh', 'all'})
        entries = server.get('/logs/ssh?format=json&n=10000').json()['entries']
        self.assertEqual(self.messages({'entries': entries}), self.journal.journalctl('-u', 'ssh.service'))
        self.assertEqual(len(server.get('/logs/all?n=10000').text.splitlines()), self.COUNT)
        for log, cursor in (('all', entries[-3]['cursor']), ('ssh', server.get('/logs/all?n=1&format=ndjson').json()[
                'cursor'])):
            for name in ('after', 'before'):
                self.assertProblem(server.get(lines_url(log, {name: cursor})), 400, 'of another log')
            stream = server.get(f'/logs/{log}?follow=1', {**STREAM, 'Last-Event-ID': cursor})
            self.assertProblem(stream, 400, 'of another log')
        after = server.get(lines_url('ssh', after=entries[-3]['cursor'], format='json')).json()['entries']
        self.assertEqual(after, entries[-2:])

    def test_the_size_of_a_units_part_is_unknown(self) -> None:
        """It was that of the whole journal, for each unit again."""
        server = self.serve('--log', 'ssh=journal:ssh.service', '--log', 'all=journal:', root=Path('/var/log'),
                            wrap=self.journal.namespace())
        rows = {row['name']: row for row in server.get('/logs?format=json').json()['logs']}
        self.assertEqual([rows['ssh'][key] for key in ('bytes', 'first', 'last', 'rotations')], [None] * 4)
        self.assertEqual(rows['all']['bytes'], sum(path.stat().st_size for path in self.journal.folder.iterdir()))
        self.assertTrue(rows['all']['last'])
        lines = {line.split()[0]: line.split()[1:] for line in server.get('/logs?format=text').text.splitlines()}
        self.assertEqual((lines['ssh'], lines['all'][0]), (['-', '-', 'journal'], str(rows['all']['bytes'])))
        self.assertEqual(server.get('/logs?format=html').status, 200)

    def test_where_it_may_not_be_read_the_reason_and_the_fix_are_listed(self) -> None:
        for user, more, reason, fix in ((NOBODY, (), 'journal', 'nobody'),
                                        (0, ('mount --bind /dev/null /usr/bin/journalctl',),
                                         'journalctl is not installed', 'apt-get install systemd'),
                                        (0, ('mount -t tmpfs tmpfs /var/log',), 'no journal', '')):
            with self.subTest(reason):
                server = self.serve(root=Path('/var/log'), user=user, wrap=self.journal.namespace(*more))
                row = next(row for row in server.get('/logs?format=json').json()['logs'] if row['name'] == 'journal')
                self.assertIs(row['readable'], False)
                self.assertIn(reason, row['reason'])
                self.assertIn(fix, row['fix'])
                for target in ('/logs/journal', '/logs/journal?follow=1'):
                    self.assertProblem(server.get(target), 403, 'journal')

    def test_raw_is_refused_with_the_reason(self) -> None:
        self.assertIn(self.server.get('/logs/journal/raw').status, (400, 404))


# ----------------------------------------------------------------------------------------------------------------------
# host and health: fixtures of /proc and /sys, the verdict, its shapes, and what the logs say
# ----------------------------------------------------------------------------------------------------------------------

GIB, NOW = 1 << 30, 1_800_000_000.0

MEMINFO = '''MemTotal:        8000000 kB
MemFree:          500000 kB
MemAvailable:    4000000 kB
Buffers:          100000 kB
Cached:          3000000 kB
SwapTotal:       1000000 kB
SwapFree:         900000 kB
Active(anon):       1000 kB
HugePages_Total:       3
'''
STAT = '''cpu  300 20 100 8000 50 1 2 7 5 0
cpu0 100 10 50 4000 30 1 1 3 5 0
cpu1 200 10 50 4000 20 0 1 4 0 0
intr 12345 9 0 0
ctxt 777
btime 1799990000
processes 42
procs_running 2
procs_blocked 1
softirq 99 1 2
'''
ROOT_MOUNT = '27 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro'
MOUNTINFO = f'''22 27 0:21 / /proc rw,nosuid shared:12 - proc proc rw
{ROOT_MOUNT}
30 27 8:2 / /var rw,relatime shared:2 master:1 - ext4 /dev/sda2 rw
31 27 8:3 / /srv/with\\040space rw - xfs /dev/sda3 rw,attr2
32 27 0:40 / /mnt/nfs rw - nfs4 server:/export rw,vers=4.2
33 27 0:41 / /auto rw - autofs systemd-1 rw,fd=45
34 27 7:0 / /snap/x ro - squashfs /dev/loop0 ro
35 27 8:4 / /cdrom ro - ext4 /dev/sda4 ro
'''
PSI = ('some avg10=0.00 avg60={some} avg300={some} total=2500000\n'
       'full avg10=0.00 avg60={full} avg300={full} total=1000000\n')
NET_DEV = '''Inter-|   Receive                                                |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo:  100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0:4294967296   7    1    2    3     4          5         6      200       8    9   10   11    12      13         14
'''
SNMP = '''Ip: Forwarding DefaultTTL
Ip: 2 64
Tcp: RtoMin ActiveOpens PassiveOpens CurrEstab InSegs OutSegs RetransSegs InErrs OutRsts
Tcp: 200 5 6 7 8 9 10 11 12
Icmp: InMsgs InErrors OutMsgs
Icmp: 1 2 3
Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors
Udp: 1 2 3 4 5 6
UdpLite: InErrors
UdpLite: 9
'''
TCPEXT = words('SyncookiesSent SyncookiesRecv SyncookiesFailed ListenOverflows ListenDrops TCPTimeouts TCPSynRetrans '
               'TCPOFOQueue TCPRcvQDrop')
NETSTAT = f'''TcpExt: {" ".join(TCPEXT)}
TcpExt: 1 2 3 4 5 6 7 8 9
IpExt: InOctets OutOctets InNoRoutes
IpExt: 11 12 13
'''
TRACKED = words('entries clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop '
                'icmp_error expect_new expect_create expect_delete search_restart')
CONNTRACK = f'''{" ".join(TRACKED)}
0000000a  00000000 00000001 0 2 3 0 0 4 5 6 7 0  0 0 0 8
0000000a  00000000 00000001 0 2 3 0 0 4 5 6 7 0  0 0 0 8
'''
PROC = {
    'meminfo': MEMINFO, 'stat': STAT, 'loadavg': '0.50 1.00 3.00 2/99 1234\n', 'uptime': '10000.50 1.00\n',
    'vmstat': 'nr_free_pages 1\npgpgin 5\npgpgout 6\npswpin 7\npswpout 8\npgfault 9\npgmajfault 10\noom_kill 0\n',
    'diskstats': '   8       0 sda 10 1 16 500 20 2 32 600 0 700 800 1 2 3 4 5 6\n'
                 '   8       1 sda1 1 1 1 1 1 1 1 1 0 1 1\n'
                 '   7       0 loop0 1 1 1 1 1 1 1 1 0 1 1\n',
    'schedstat': 'version 17\ntimestamp 1\ncpu0 0 0 0 0 0 0 2000000000 1000000000 7\ndomain0 3 1 2\n',
    '1/mountinfo': MOUNTINFO, 'self/mountinfo': MOUNTINFO, 'self/cgroup': '0::/system.slice/logwatch.service\n',
    'pressure/cpu': PSI.format(some=1.5, full=0), 'pressure/io': PSI.format(some=2, full=1),
    'pressure/memory': PSI.format(some=0.5, full=0),
    'pressure/irq': 'full avg10=0.00 avg60=0.00 avg300=0.00 total=8494\n',
    '1/net/dev': NET_DEV, '1/net/snmp': SNMP, '1/net/netstat': NETSTAT,
    '1/net/snmp6': 'Ip6InOctets \t5\nIcmp6InMsgs \t6\nUdp6InErrors 7\nIp6Unknown 1\n',
    '1/net/sockstat': 'sockets: used 229\n'
                      'TCP: inuse 4 orphan 0 tw 4 alloc 17 mem 1\nUDP: inuse 1 mem 0\nUDPLITE: inuse 0\n'
                      'RAW: inuse 0\nFRAG: inuse 0 memory 0\n', '1/net/sockstat6': 'TCP6: inuse 17\n',
    '1/net/softnet_stat':
        '0000000c 00000001 00000002 00000000 00000000 00000000 00000000 00000000 00000000 00000003 00000004\n',
    '1/net/arp': 'IP address HW type Flags HW address Mask Device\n'
                 '10.0.0.1 0x1 0x2 aa:bb * eth0\n10.0.0.2 0x1 0x2 aa:cc * eth0\n',
    '1/net/udp': '  sl  local_address rem_address   st tx_queue rx_queue\n 1: 0:1 0:0 07 00000015:00000002 00\n',
    '1/net/stat/nf_conntrack': CONNTRACK, 'sys/net/netfilter/nf_conntrack_max': '100\n',
    'sys/fs/file-nr': '1024\t0\t2048\n', 'sys/kernel/random/entropy_avail': '256\n',
    'sys/kernel/random/poolsize': '256\n',
    'sys/kernel/pid_max': '4194304\n', 'sys/kernel/threads-max': '7801\n', 'sys/kernel/hung_task_detect_count': '42\n',
    'sys/kernel/domainname': '(none)\n',
}
SYS = {
    'fs/ext4/sda1/errors_count': '0\n', 'fs/ext4/sda1/last_error_time': '0\n', 'fs/ext4/sda2/errors_count': '0\n',
    'fs/ext4/sda2/last_error_time': '0\n', 'fs/ext4/sda4/errors_count': '0\n', 'fs/ext4/sda4/last_error_time': '0\n',
    **{f'class/net/{device}/{name}': value for device in ('lo', 'eth0') for name, value in (
        ('operstate', 'up\n' if device == 'eth0' else 'unknown\n'), ('carrier', '1\n'), ('mtu', '1500\n'),
        ('flags', '0x1003\n'),
        ('speed', '1000\n' if device == 'eth0' else '-1\n'), ('tx_queue_len', '1000\n'), ('carrier_changes', '2\n'),
        ('ifindex', '2\n'), ('address', '02:00:00:00:00:01\n'), ('broadcast', 'ff:ff:ff:ff:ff:ff\n'),
        ('duplex', 'full\n'),
        ('ifalias', '\n'), ('statistics/rx_nohandler', '3\n'), ('carrier_up_count', '4\n'),
        ('carrier_down_count', '5\n'), ('iflink', '6\n'), ('link_mode', '0\n'), ('addr_assign_type', '3\n'),
        ('name_assign_type', '4\n'), ('netdev_group', '7\n'), ('dev_id', '0x20\n'), ('type', '1\n'))},
    'devices/system/clocksource/clocksource0/available_clocksource': 'tsc kvm-clock \n',
    'devices/system/clocksource/clocksource0/current_clocksource': 'tsc\n', 'block/sda/queue/rotational': '1\n',
}
METAL = {
    'devices/platform/coretemp.0/hwmon/hwmon0/name': 'coretemp\n',
    **{f'devices/platform/coretemp.0/hwmon/hwmon0/{name}': f'{value}\n' for name, value in (
        ('temp1_input', 55000), ('temp1_max', 84000), ('temp1_crit', 100000), ('temp1_crit_alarm', 0),
        ('temp1_crit_hyst', 95000),
        ('temp1_label', 'Package id 0'), ('temp1_alarm', 1), ('temp1_type', 4), ('fan1_min_alarm', 1),
        ('fan1_input', 1200), ('fan1_min', 300), ('in0_input', 1104), ('in0_max_alarm', 0), ('power1_average', 5000000),
        ('humidity1_input', 45000), ('energy1_input', 2000000))},
    'class/thermal/thermal_zone0/type': 'cpu-thermal\n', 'class/thermal/thermal_zone0/temp': '12376\n',
    'class/thermal/cooling_device0/type': 'Processor\n', 'class/thermal/cooling_device0/cur_state': '0\n',
    'class/thermal/cooling_device0/max_state': '3\n',
}
SIZES: dict[str, tuple[float, float, float]] = {'/': (100, 50, 45), '/var': (100, 50, 45),
                                                '/srv/with space': (100, 50, 50), '/mnt/nfs': (100, 50, 50),
         '/cdrom': (1, 0, 0)}     # GiB: size, free, avail


Statvfs = Callable[[str], os.statvfs_result]


def statvfs_of(sizes: Mapping[str, tuple[float, float, float]], inodes: tuple[int, int] = (1000, 900)) -> Statvfs:
    """A statvfs that knows nothing but these mount points."""
    def statvfs(point: str) -> os.statvfs_result:
        if point not in sizes:
            raise FileNotFoundError(2, 'No such file or directory', point)
        size, free, avail = (int(number * GIB / 4096) for number in sizes[point])
        return os.statvfs_result((4096, 4096, size, free, avail, *inodes, inodes[1], 0, 255))
    return statvfs


def sample(text: str, series: str) -> float | None:
    """The value of a series in an exposition; None where it is not served."""
    found = re.search(rf'(?m)^{re.escape(series)} (\S+)$', text)
    return float(found[1]) if found else None


def remembering(asked: list[str]) -> Statvfs:
    """The statvfs of SIZES, which notes what it is asked."""
    def statvfs(point: str) -> os.statvfs_result:
        asked.append(point)
        return statvfs_of(SIZES)(point)
    return statvfs


class HostCase(Case):
    """Builds hosts in a temporary folder: PROC, SYS and root."""

    def setUp(self) -> None:
        self.folder = scratch()
        (self.folder / 'state').mkdir()

    def host(self, proc: Mapping[str, str] | None = None, sys: Mapping[str, str] | None = None,
             statvfs: Statvfs | None = None, state: bool = False, without: Iterable[str] = (),
             root: Mapping[str, str] | None = None) -> logwatch.Host:
        """A host of PROC and SYS with these files more or other, and without those that begin with one of `without`."""
        shutil.rmtree(self.folder / 'proc', ignore_errors=True)
        shutil.rmtree(self.folder / 'sys', ignore_errors=True)
        merged = {name: text for name, text in (PROC | dict(proc or {})).items() if not name.startswith(tuple(without))}
        plant(self.folder / 'proc', merged)
        plant(self.folder / 'sys', SYS | dict(sys or {}))
        plant(self.folder / 'root', {'etc/os-release': 'ID=debian\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\n',
                                     **(root or {})})
        block = self.folder / 'sys/dev/block'
        block.mkdir(parents=True, exist_ok=True)
        for number in (1, 2, 3, 4):
            os.symlink(f'../../devices/sda{number}', block / f'8:{number}')
        if 'devices/platform/coretemp.0/hwmon/hwmon0/name' in (sys or {}):
            (self.folder / 'sys/class/hwmon').mkdir()
            os.symlink('../../devices/platform/coretemp.0/hwmon/hwmon0', self.folder / 'sys/class/hwmon/hwmon0')
            os.symlink('../..', self.folder / 'sys/devices/platform/coretemp.0/hwmon/hwmon0/device')
        return logwatch.Host(str(self.folder / 'proc'), str(self.folder / 'sys'),
                             str(self.folder / 'state') if state else None,
                       str(self.folder / 'root'), statvfs or statvfs_of(SIZES))

    def verdict(self, host: logwatch.Host, health: logwatch.Health | None = None, now: float = NOW,
                limits: Mapping[str, float] | None = None) -> logwatch.Verdict:
        return logwatch.evaluate(health or logwatch.Health(host, limits), facts=logwatch.Facts(host, now))

    def check(self, verdict: logwatch.Verdict, name: str, component: str | None = None) -> logwatch.Check:
        found = [check for check in verdict.checks if check.name == name and component in (None, check.component)]
        self.assertTrue(found, (name, component))
        return found[0]

    def metrics(self, host: logwatch.Host) -> str:
        facts = logwatch.Facts(host, NOW)
        return logwatch.render(logwatch.collect(facts, logwatch.evaluate(logwatch.Health(host), facts=facts))).decode()


class KernelText(Case):
    """Pure parsers of /proc."""

    def test_mountinfo_fields_are_decoded_once(self) -> None:
        for escaped, path in ((rb'/a\040b', '/a b'), (rb'/a\134040', '/a\\040'), (rb'/a\011\012\043', '/a\t\n#'),
                              (b'/\xff', '/\udcff')):
            with self.subTest(path=path):
                mount, = logwatch.parse_mountinfo(b'1 2 8:1 / ' + escaped + b' rw - ext4 /dev/x rw')
                self.assertEqual(mount.point, path)

    def test_mountinfo_takes_any_number_of_optional_fields_and_an_empty_source(self) -> None:
        for optional in (b'', b' shared:1', b' shared:1 master:2 propagate_from:3'):
            line = b'36 35 98:0 /m /m2 rw,noatime' + optional + b' - ext3 /dev/root rw,errors=continue'
            mount, = logwatch.parse_mountinfo(line)
            self.assertEqual((mount.parent, mount.device, mount.options, mount.fstype, mount.super_options),
                             (35, '98:0', {'rw', 'noatime'}, 'ext3', {'rw', 'errors=continue'}))
        self.assertEqual(logwatch.parse_mountinfo(b'36 35 0:5 / /m rw - tmpfs  rw')[0].source, '')
        self.assertEqual(logwatch.parse_mountinfo(b'garbage\n\n'), [])

    def test_meminfo_counts_bytes_and_huge_pages(self) -> None:
        text = b'MemTotal:  8 kB\nActive(anon): 1 kB\nHugePages_Total:   3\nOdd:7 kB\n'
        self.assertEqual(logwatch.parse_meminfo(text),
                         {'MemTotal': 8192, 'Active(anon)': 1024, 'HugePages_Total': 3, 'Odd': 7168})

    def test_stat_keeps_jiffies_by_cpu_and_the_sum_of_interrupts(self) -> None:
        stat = logwatch.parse_stat(STAT.encode())
        self.assertEqual((stat['cpu'][3], stat['cpu1'][0], stat['intr'][0], stat['btime']),
                         (8000, 200, 12345, (1799990000,)))

    def test_pressure_of_old_kernels_has_no_full_line_for_cpu(self) -> None:
        self.assertEqual(logwatch.parse_pressure(b'some avg10=0.10 avg60=0.20 avg300=0.30 total=5\n'),
                         {'some': {'avg10': 0.1, 'avg60': 0.2, 'avg300': 0.3, 'total': 5.0}})

    def test_net_dev_with_a_number_that_touches_the_colon(self) -> None:
        rows = logwatch.parse_net_dev(NET_DEV.encode())
        self.assertEqual((rows['eth0'][0], rows['eth0'][-1], rows['lo'][8]), (4294967296, 14, 100))

    def test_netstat_keeps_what_node_exporter_keeps(self) -> None:
        text = b'Tcp: RtoMin InSegs\nTcp: 200 8\nIpExt: InOctets InNoRoutes\nIpExt: 5 6\n'
        self.assertEqual(logwatch.parse_netstat(text),
                         {'Tcp_InSegs': 8, 'IpExt_InOctets': 5})
        self.assertEqual(logwatch.parse_pairs(b'Ip6InOctets \t5\nIp6Foo 1\nUdpLite6InErrors 2\nUdp6NoPorts 3\n'),
                         {'Ip6_InOctets': 5, 'UdpLite6_InErrors': 2, 'Udp6_NoPorts': 3})

    def test_words_for_people(self) -> None:
        for number, words in ((0, '0 bytes'), (1000, '0.977 KiB'), (5 * GIB, '5 GiB'), (1.9 * GIB, '1.9 GiB'),
                              (3e13, '27.3 TiB')):
            self.assertEqual(logwatch.size_words(number), words)
        for seconds, words in ((5, '5 s'), (119, '119 s'), (120, '2.0 min'), (17000, '4.7 h'), (90000, '25 h'),
                               (9e6, '104 d')):
            self.assertEqual(logwatch.span_words(seconds), words)


class MountTable(HostCase):
    """Which file systems are measured, and by whose table."""

    def test_a_home_under_protecthome_is_hidden_and_not_measured(self) -> None:
        home = '40 27 8:4 / /home rw - ext4 /dev/sda4 rw\n'
        own = home + '41 40 0:60 / /home ro - tmpfs tmpfs rw,size=4k\n'
        asked: list[str] = []
        host = self.host({'1/mountinfo': f'{ROOT_MOUNT}\n{home}', 'self/mountinfo': f'{ROOT_MOUNT}\n{own}'},
                         statvfs=remembering(asked))
        verdict = self.verdict(host)
        check = self.check(verdict, 'disk', '/home')
        self.assertEqual((check.value, check.status), (None, 'pass'))
        self.assertIn('ProtectHome', check.reason)
        self.assertEqual(asked, ['/'])
        self.assertTrue(any('/home is hidden' in note for note in verdict.visibility))
        self.assertIn('node_filesystem_device_error{device="/dev/sda4",mountpoint="/home",fstype="ext4",'
                      'device_error="hidden by the sandbox"} 1', self.metrics(host).splitlines())

    def test_a_mount_below_a_hidden_folder_is_hidden(self) -> None:
        data = '40 27 8:4 / /home/data rw - ext4 /dev/sda4 rw\n'
        own = data + '41 27 0:60 / /home ro - tmpfs tmpfs rw\n'
        mounts = self.host({'1/mountinfo': f'{ROOT_MOUNT}\n{data}', 'self/mountinfo': f'{ROOT_MOUNT}\n{own}'}).mounts()
        self.assertEqual([mount.point for mount in mounts.hidden], ['/home/data'])

    def test_private_tmp_of_the_same_file_system_is_seen(self) -> None:
        tmp = '40 27 0:50 / /tmp rw - tmpfs tmpfs rw\n'
        own = tmp + '41 40 0:50 /systemd-private-x/tmp /tmp rw - tmpfs tmpfs rw\n'
        mounts = self.host({'1/mountinfo': f'{ROOT_MOUNT}\n{tmp}', 'self/mountinfo': f'{ROOT_MOUNT}\n{own}'}).mounts()
        self.assertEqual([mount.point for mount in mounts.seen], ['/', '/tmp'])

    def test_switch_root_moves_mounts_before_their_parent(self) -> None:
        self.assertEqual(len(logwatch.topmost(logwatch.parse_mountinfo(MOUNTINFO.encode()))), 8)

    def test_autofs_and_pseudo_file_systems_are_never_asked(self) -> None:
        asked: list[str] = []
        host = self.host(statvfs=remembering(asked))
        self.verdict(host)
        self.assertEqual(asked, ['/', '/var', '/srv/with space', '/cdrom', '/mnt/nfs'])      # what may hang comes last

    def test_hidepid_falls_back_to_the_own_table_and_says_so(self) -> None:
        own = MOUNTINFO.replace(' rw', ' ro', 1).replace('/ / rw,', '/ / ro,')       # ProtectSystem=strict
        verdict = self.verdict(self.host({'self/mountinfo': own}, without=('1/',)))
        self.assertIn('self/mountinfo, the table of this service', verdict.visibility[0])
        self.assertEqual({check.status for check in verdict.checks if check.name == 'readonly'}, {'pass'})

    def test_a_covered_home_in_the_own_table_is_hidden(self) -> None:
        own = f'{ROOT_MOUNT}\n41 27 0:60 / /home ro - tmpfs tmpfs rw\n'
        mounts = self.host({'self/mountinfo': own}, without=('1/',)).mounts()
        self.assertEqual(([mount.point for mount in mounts.seen], [mount.point for mount in mounts.hidden]),
                         (['/'], ['/home']))

    def test_the_units_bound_files_need_no_process_folder(self) -> None:
        proc = {'mountinfo': MOUNTINFO, **{name[2:]: text for name, text in PROC.items() if name.startswith('1/net')}}
        host = self.host(proc, without=('1/', 'self/'),
                         root={'proc/self/mountinfo': MOUNTINFO, 'proc/self/cgroup': '0::/\n'})
        verdict = self.verdict(host)
        self.assertEqual((host.bound, verdict.status), (True, 'pass'))
        self.assertTrue(verdict.visibility[0].endswith('/proc/mountinfo'))
        self.assertEqual(sample(self.metrics(host), 'node_network_receive_bytes_total{device="eth0"}'), 4294967296)


class DeadMounts(HostCase):
    """A statvfs that never returns delays nothing."""

    def setUp(self) -> None:
        super().setUp()
        self.release = threading.Event()
        self.calls: list[str] = []
        self.addCleanup(self.release.set)

    def hang_at(self, *dead: str) -> Statvfs:
        def statvfs(point: str) -> os.statvfs_result:
            self.calls.append(point)
            if point in dead:
                self.release.wait(30)
            return statvfs_of(SIZES)(point)
        return statvfs

    def test_a_want_of_memory_is_no_dead_mount(self) -> None:
        calls = mock.Mock(side_effect=[MemoryError(), *[statvfs_of(SIZES)('/var')] * 9])
        prober = logwatch.Prober(calls)
        self.assertEqual(prober.ask(['/var']), {'/var': 'MemoryError'})
        self.assertIsInstance(prober.ask(['/var'])['/var'], logwatch.Usage)

    def test_a_dead_mount_delays_nothing_and_costs_one_call(self) -> None:
        host = self.host(statvfs=self.hang_at('/mnt/nfs'))
        health = logwatch.Health(host)
        begin = time.monotonic()
        first = self.verdict(host, health)
        self.assertLess(time.monotonic() - begin, 0.8)
        begin = time.monotonic()
        second = self.verdict(host, health)
        self.assertLess(time.monotonic() - begin, 0.15)
        self.assertEqual(self.calls.count('/mnt/nfs'), 1)
        self.assertIsNotNone(self.check(first, 'disk', '/var').value)
        check = self.check(second, 'disk', '/mnt/nfs')
        self.assertIsNone(check.value)
        self.assertIn('/mnt/nfs (nfs4 of server:/export) does not answer for', check.reason)
        host.prober.stuck['/mnt/nfs'] -= 10
        self.assertEqual(self.check(self.verdict(host, health), 'disk', '/mnt/nfs').status, 'warn')
        host.prober.stuck['/mnt/nfs'] -= 100
        self.assertEqual(self.check(self.verdict(host, health), 'disk', '/mnt/nfs').status, 'fail')

    def test_a_mount_that_comes_back_is_asked_again(self) -> None:
        host = self.host(statvfs=self.hang_at('/mnt/nfs'))
        self.verdict(host)
        self.release.set()
        until(lambda: not host.prober.stuck, 'the mount to answer')
        self.assertEqual(self.check(self.verdict(host), 'disk', '/mnt/nfs').value, 50.0)

    def slow(self, delays: Mapping[str, float]) -> Statvfs:
        """Mounts that take so many seconds to answer."""
        def statvfs(point: str) -> os.statvfs_result:
            self.release.wait(delays.get(point, 0))
            return statvfs_of(SIZES)(point)
        return statvfs

    def values(self, host: logwatch.Host, health: logwatch.Health) -> dict[str, float | None]:
        return {check.component: check.value for check in self.verdict(host, health).checks if check.name == 'disk'}

    def test_a_slow_mount_is_steadily_shown_with_the_age_of_its_figures(self) -> None:
        self.enterContext(mock.patch.object(logwatch, 'STATVFS_PATIENCE', 0.02))
        for warn, status in ((1, 'pass'), (0.05, 'warn')):
            host = self.host(statvfs=self.slow({'/mnt/nfs': 0.06}))
            health = logwatch.Health(host, {'stuck-warn': warn})
            self.assertIsNone(self.check(self.verdict(host, health), 'disk', '/mnt/nfs').value)
            until(lambda host=host: not host.prober.stuck, 'the first answer')  # type: ignore[misc]
            for _ in range(12):         # whether the call of the last round has come back by now or not
                verdict = self.verdict(host, health)
                check = self.check(verdict, 'disk', '/mnt/nfs')
                self.assertEqual((check.value, check.status), (50.0, status), check)
                self.assertRegex(check.reason, r'50 GiB left; that was \d+ s ago, and took 0\.\d s to answer'
                                 r'( \(limit 0\.05 s\))?\Z')
                self.assertIn(f'disk: {check.reason}', verdict.visibility)
                self.assertIn('node_filesystem_avail_bytes{device="server:/export"', self.metrics(host))

    def test_however_many_are_slow_each_is_shown(self) -> None:
        slow = dict.fromkeys(('/', '/var', '/srv/with space', '/cdrom'), 0.06)
        host = self.host(statvfs=self.slow(slow))
        health = logwatch.Health(host)
        with mock.patch.multiple(logwatch, STATVFS_PATIENCE=0.02, STATVFS_DEADLINE=0.04):
            until(lambda: None not in self.values(host, health).values(), 'each to have had its turn')
            for _ in range(12):
                self.assertEqual(self.values(host, health), {'/': 52.63, '/var': 52.63, '/srv/with space': 50.0,
                                                             '/mnt/nfs': 50.0})

    def test_a_mount_that_is_not_asked_any_more_is_null_in_the_end(self) -> None:
        delays: dict[str, float] = {}
        host = self.host(statvfs=self.slow(delays))
        health = logwatch.Health(host)
        self.values(host, health)
        delays |= dict.fromkeys(('/', '/var'), 30)
        with mock.patch.multiple(logwatch, STATVFS_PATIENCE=0.02, STUCK_MAX=1):
            self.values(host, health)
            check = self.check(self.verdict(host, health), 'disk', '/mnt/nfs')
            self.assertRegex(check.reason, r'50 GiB left; that was \d+ s ago, and took 0\.\d s to answer')
            with mock.patch.object(logwatch, 'LAST_SECONDS', 0):
                check = self.check(self.verdict(host, health), 'disk', '/mnt/nfs')
                self.assertEqual((check.value, check.reason),
                                 (None, '/mnt/nfs was not asked, since other mounts do not answer'))

    def test_a_mount_that_dies_is_null_soon(self) -> None:
        delays: dict[str, float] = {}
        host = self.host(statvfs=self.slow(delays))
        health = logwatch.Health(host)
        self.assertEqual(self.values(host, health)['/mnt/nfs'], 50.0)
        delays['/mnt/nfs'] = 30
        with mock.patch.multiple(logwatch, STATVFS_PATIENCE=0.02, SLOW_SECONDS=0.2):
            self.assertEqual(self.values(host, health)['/mnt/nfs'], 50.0)
            until(lambda: self.values(host, health)['/mnt/nfs'] is None, 'the end of patience', 2)
            for _ in range(3):
                check = self.check(self.verdict(host, health), 'disk', '/mnt/nfs')
                self.assertEqual((check.value, 'does not answer for' in check.reason), (None, True))

    def test_many_dead_mounts_hold_few_threads(self) -> None:
        points = [f'/dead{number}' for number in range(40)]
        prober = logwatch.Prober(self.hang_at(*points))
        for _ in range(8):
            begin = time.monotonic()
            answers = prober.ask(points)
            self.assertLess(time.monotonic() - begin, 0.8)
            self.assertEqual(len(answers), 40)
        self.assertLessEqual(len(prober.stuck), logwatch.STUCK_MAX + 1)
        self.assertEqual(len(self.calls), len(prober.stuck))

    def test_however_many_are_dead_the_living_are_measured(self) -> None:
        points = [f'/dead{number}' for number in range(40)]
        prober = logwatch.Prober(self.hang_at(*points))
        for _ in range(8):
            self.assertIsInstance(prober.ask(['/', *points], frozenset('/'))['/'], logwatch.Usage)
        self.assertGreaterEqual(len(prober.stuck), logwatch.STUCK_MAX)

    def test_a_closed_folder_is_no_fault_of_the_disk_below_it(self) -> None:
        def statvfs(point: str) -> os.statvfs_result:
            if point == '/var':
                raise PermissionError(13, 'Permission denied', point)
            return statvfs_of(SIZES)(point)

        check = self.check(self.verdict(self.host(statvfs=statvfs)), 'disk', '/var')
        self.assertEqual((check.value, check.status, check.reason), (None, 'pass', '/var Permission denied'))

    def test_concurrent_callers_hang_once(self) -> None:
        prober = logwatch.Prober(self.hang_at('/mnt/nfs'))
        threads = [threading.Thread(target=prober.ask, args=(['/', '/mnt/nfs'],)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(5)
        self.assertEqual(self.calls.count('/mnt/nfs'), 1)

    def test_an_error_is_a_warning_with_its_reason(self) -> None:
        host = self.host(statvfs=statvfs_of({key: value for key, value in SIZES.items() if key != '/var'}))
        check = self.check(self.verdict(host), 'disk', '/var')
        self.assertEqual((check.value, check.status, check.reason), (None, 'warn', '/var No such file or directory'))


class DiskChecks(HostCase):
    """Space, inodes, read-only, ext4 errors, and the end of a filling disk."""

    def status(self, size: float, avail: float, limits: Mapping[str, float] | None = None) -> str:
        return self.check(self.verdict(self.host(statvfs=statvfs_of(SIZES | {'/var': (size, avail, avail)})),
                                       limits=limits),
                          'disk', '/var').status

    def test_percent_and_bytes_must_both_be_passed(self) -> None:
        for size, avail, status in ((1000, 200, 'pass'), (1000, 50, 'pass'), (1000, 9, 'warn'), (1000, 4, 'fail'),
                                    (100, 9, 'warn'), (100, 4, 'warn'), (100, 2.9, 'fail'), (10, 0.9, 'warn'),
                                    (10, 0.2, 'fail'), (0.5, 0.06, 'pass'), (0.5, 0.01, 'fail')):
            with self.subTest(size=size, avail=avail):
                self.assertEqual(self.status(size, avail), status)

    def test_limits_are_configurable_and_0_switches_one_off(self) -> None:
        self.assertEqual(self.status(100, 50, {'disk-warn': 60, 'disk-bytes-warn': 0}), 'warn')
        self.assertEqual(self.status(100, 1, {'disk-warn': 0, 'disk-fail': 0, 'disk-bytes-warn': 0,
                                              'disk-bytes-fail': 0}),
                         'pass')

    def test_a_limit_of_0_is_never_reached_whatever_is_left_in_bytes(self) -> None:
        """`disk-fail = 0` alone made an empty tmpfs of 5 MiB fail: 5 GiB were left to judge it by."""
        self.assertEqual(self.status(0.005, 0.004, {'disk-warn': 0, 'disk-fail': 0}), 'pass')
        self.assertEqual(self.status(100, 1, {'disk-fail': 0}), 'warn')

    def test_the_reason_is_a_sentence_with_the_limits(self) -> None:
        host = self.host(statvfs=statvfs_of(SIZES | {'/var': (100, 4.9, 1.9)}))
        check = self.check(self.verdict(host), 'disk', '/var')
        self.assertEqual(check.reason,
                         '/var 99 % used, 1.9 GiB left (limit 3 % left and 5 GiB), 3 GiB more reserved for root')
        self.assertEqual((check.limit, check.value),
                         ('warn below 10 % left and 10 GiB, fail below 3 % left and 5 GiB', 98.04))

    def test_a_limit_on_another_scale_than_the_value_names_its_own(self) -> None:
        """A value of 52 % used beside `warn below 10 %` read as if it were 42 % above it."""
        document = logwatch.health_json(self.verdict(self.host({'vmstat': 'oom_kill 2\n'})))
        rows = {key.partition(':')[0]: found[0] for key, found in document['checks'].items()}  # type: ignore[attr-defined]
        for name, limit in (('disk', 'warn below 10 % left and 10 GiB, fail below 3 % left and 5 GiB'),
                            ('inodes', 'warn below 5 % left, fail below 3 % left'),
                            ('memory', 'warn below 10 % left, fail below 3 % left'),
                            ('oom', 'warn below 60 min since the last'), ('swap', 'warn above 80 %')):
            self.assertEqual(rows[name]['limit'], limit)
        bare = {name for name, row in rows.items() if re.search(r'below [\d.]+ (%|min)(,|\Z)', row.get('limit', ''))}
        self.assertEqual(bare, set(), 'whose values are of what is used, or of a number')

    def test_a_value_at_the_limit_does_not_flap(self) -> None:
        sizes = dict(SIZES)
        host = self.host(statvfs=statvfs_of(sizes))
        health, seen = logwatch.Health(host), []
        for avail in (10.1, 9.9, 10.1, 10.9, 11.1, 10.1, 2.9, 3.2, 3.4):
            sizes['/var'] = (100, avail, avail)
            host.prober.statvfs = statvfs_of(sizes)
            seen.append(self.check(self.verdict(host, health), 'disk', '/var').status)
        # bytes count too: 10.1 of 100 GiB is above both limits
        self.assertEqual(seen, ['pass', 'warn', 'warn', 'warn', 'pass', 'pass', 'fail', 'fail', 'warn'])

    def test_mounts_with_ever_new_names_leave_little_behind(self) -> None:
        host = self.host(statvfs=statvfs_of(SIZES | {'/var': (100, 5, 5)}))
        health = logwatch.Health(host)
        with mock.patch.object(logwatch, 'LEVELS_MAX', 8):
            for number in range(40):
                health.judge('disk', f'/well/{number}', 1, '%', '', 99, 99 << 30)
                health.judge('disk', f'/full/{number}', 99, '%', '', 1, 1)
                self.assertEqual(self.check(self.verdict(host, health), 'disk', '/var').status, 'warn')
        self.assertEqual(len(health.levels), 8)
        host.prober.statvfs = statvfs_of(SIZES | {'/var': (100, 10.5, 10.5)})
        self.assertEqual(self.check(self.verdict(host, health), 'disk', '/var').status, 'warn', 'which is remembered')

    def test_the_end_of_a_filling_disk_is_foretold_and_survives_a_restart(self) -> None:
        host = self.host(state=True)
        health = logwatch.Health(host)
        for minute in range(40):
            host.prober.statvfs = statvfs_of(SIZES | {'/var': (100, 20 - minute / 15, 20 - minute / 15)})
            verdict = self.verdict(host, health, NOW + 60 * minute)
            self.assertEqual('full in' in self.check(verdict, 'disk', '/var').reason, minute >= 30)
        verdict = self.verdict(host, logwatch.Health(host), NOW + 60 * 39 + 30)
        check = self.check(verdict, 'disk', '/var')
        self.assertRegex(check.reason, r'/var 83 % used, 17\.4 GiB left, full in about 4\.[34] h at (4|3\.99) GiB/h')
        self.assertEqual((check.status, verdict.status, verdict.http_status), ('pass', 'warn', 200))
        check = self.check(verdict, 'disk-eta')
        self.assertEqual((check.component, check.unit, check.status, check.limit),
                         ('/var', 'h', 'warn', 'warn below 8 h'))
        self.assertAlmostEqual(check.value or 0, 4.35, delta=0.1)
        self.assertRegex(check.reason, r'\A/var full in about 4\.[34] h at \S+ GiB/h \(limit 8 h\)\Z')
        self.assertEqual(logwatch.troubles(verdict), check.reason)      # one cause, one alarm
        self.assertEqual(os.listdir(self.folder / 'state'), ['health.json'])

    def test_the_end_of_a_disk_is_null_with_its_reason_until_it_is_known(self) -> None:
        host = self.host()
        health = logwatch.Health(host)
        for minute in range(40):
            check = self.check(self.verdict(host, health, NOW + 60 * minute), 'disk-eta')
            self.assertEqual((check.value, check.status, check.reason), (
                None, 'pass', 'no file system fills up steadily' if minute >= 30 else
                'needs half an hour of samples of free space'))
        self.assertNotIn('check="disk-eta"', self.metrics(host))

    def test_the_end_of_a_disk_is_that_of_the_one_that_is_full_first_by_limits_of_its_own(self) -> None:
        for limits, status in (({}, 'warn'), ({'disk-eta-warn': 2}, 'pass'), ({'disk-eta-fail': 4}, 'fail'),
                               ({'disk-eta-warn': 0}, 'pass')):
            host = self.host()
            health = logwatch.Health(host, limits)
            for minute in range(31):
                sizes = {point: (100, left, left) for point, left in (
                    ('/var', 20 - minute / 15), ('/', 20 - minute / 10))}
                host.prober.statvfs = statvfs_of(SIZES | sizes)
                verdict = self.verdict(host, health, NOW + 60 * minute)
            check = self.check(verdict, 'disk-eta')
            self.assertEqual((check.component, check.status), ('/', status), limits)
            self.assertAlmostEqual(check.value or 0, 17 / 6, delta=0.05)

    @contextlib.contextmanager
    def filling(self, samples: Iterable[tuple[float, float]]) -> Iterator[Callable[..., Any]]:
        """A server whose state file has these samples of /: minutes ago, and times what is left now."""
        full, now, state = os.statvfs('/'), time.time(), scratch()
        ring = [[now - 60 * ago, full.f_bavail * full.f_frsize * left] for ago, left in samples]
        proc = plant(scratch(), PROC | SLIM)
        plant(state, {'health.json': json.dumps({'/': ring})})
        with mock.patch.object(logwatch, 'ETA_PERCENT', 101):       # however empty this machine's disk is
            yield make_application('--proc', str(proc), '--log-root', str(scratch()), '--state-dir', str(state), *CALM)

    def test_the_end_of_a_disk_is_served_out_of_the_state_file(self) -> None:
        with self.filling((ago, 1 + ago / 120) for ago in range(60, -1, -1)) as application:
            reply = call(application, '/health/disk-eta')
            (name, (row,)), = reply.json()['checks'].items()
            self.assertEqual((reply.status, name, row['componentId'], row['observedUnit'], row['status']),
                             (200, 'disk-eta:value', '/', 'h', 'warn'))
            self.assertAlmostEqual(row['observedValue'], 2, delta=0.1)
            self.assertEqual(sample(call(application, '/metrics').text, 'logwatch_health_status{check="disk-eta"}'), 1)
            self.assertNotIn('full in', call(application, '/health?exclude=disk-eta').json().get('output', ''))

    def test_a_runaway_is_foretold_in_time_and_a_burst_is_not(self) -> None:
        """Each curve: what was left so many minutes ago, in times of what is left now; then hours left."""
        curves: tuple[tuple[str, Callable[[float], float], float | None, float], ...] = (
            ('a runaway since 20 min', lambda ago: 1 + min(ago, 20) / 60, 0.9, 1.6),
            ('a runaway since 30 min', lambda ago: 1 + min(ago, 30) / 60, 0.95, 1.05),
            ('one since 90 min, of late slower', lambda ago: 1 + min(ago, 90) / 240, 3.8, 4.1),
            ('steady, for 6 h', lambda ago: 1 + ago / 1200, 19.5, 20.5),
            ('steady but for noise', lambda ago: 1 + ago / 1200 + ago * 7919 % 13 / 200, 18, 22),
            ('by a step each hour', lambda ago: 1 + (ago + 20) // 60 / 20, 18, 22),
            ('a runaway since 10 min', lambda ago: 1 + min(ago, 10) / 60, None, 0),
            ('a burst of 5 min just now', lambda ago: 1 + min(ago, 5) / 20, None, 0),
            ('a burst of 10 min within the half hour', lambda ago: 1 + min(max(ago - 10, 0), 10) / 20, None, 0),
            ('a burst of 10 min an hour ago', lambda ago: 1 + min(max(ago - 60, 0), 10) / 20, None, 0),
            ('a burst of 10 min three hours ago', lambda ago: 1 + min(max(ago - 180, 0), 10) / 20, None, 0),
            ('noise', lambda ago: 1 + ago * 7919 % 13 / 13, None, 0),
            ('what was freed', lambda ago: 1 - ago / 1000, None, 0))
        for name, curve, low, high in curves:
            with self.subTest(name), self.filling((ago, curve(ago)) for ago in range(359, -1, -1)) as application:
                row, = call(application, '/health/disk-eta').json()['checks']['disk-eta:value']
                if low is None:
                    self.assertEqual((row['observedValue'], row['status'], row['output']),
                                     (None, 'pass', 'no file system fills up steadily'))
                else:
                    self.assertTrue(low <= row['observedValue'] <= high, row)

    def test_few_samples_and_a_pause_foretell_nothing(self) -> None:
        for name, minutes, reason in (('few', (40, 30, 20, 10, 0), 'needs half an hour of samples of free space'),
                                      ('a pause', (200, 5, 4, 3, 2, 1, 0), 'no file system fills up steadily'),
                                      ('short', range(20, -1, -1), 'needs half an hour of samples of free space')):
            with self.subTest(name), self.filling((ago, 1 + ago / 100) for ago in minutes) as application:
                row, = call(application, '/health/disk-eta').json()['checks']['disk-eta:value']
                self.assertEqual((row['observedValue'], row['output']), (None, reason))

    def test_noise_and_growth_foretell_nothing(self) -> None:
        for name, curve in (('noise', lambda t: 50 + (t * 7919 % 13)), ('freed', lambda t: 50 + t),
                            ('flat', lambda t: 50)):
            with self.subTest(name):
                self.assertIsNone(logwatch.forecast([(60.0 * t, float(curve(t))) for t in range(100)]))

    def test_the_ring_is_bounded_and_a_clock_that_goes_back_starts_anew(self) -> None:
        health = logwatch.Health(self.host())
        for step in range(1000):
            health.follow('/', NOW + 60 * step, 5)
        self.assertEqual(len(health.rings['/']), 360)
        health.follow('/', NOW, 5)
        self.assertEqual(len(health.rings['/']), 1)

    def test_a_damaged_or_unwritable_state_file_is_a_note_and_no_more(self) -> None:
        host = self.host(state=True)
        for damage in ('', '[1]', '{"/":[[1,"x"]]}', '{"/":5}', 'nonsense'):
            (self.folder / 'state/health.json').write_text(damage)
            self.assertEqual(logwatch.Health(host).rings, {})
        host.state_dir = str(self.folder / 'missing')
        verdict = self.verdict(host)
        self.assertEqual(verdict.status, 'pass')
        self.assertIn('cannot be written', verdict.visibility[-1])

    def test_a_file_system_without_a_size_is_left_out(self) -> None:
        """It was 0 % used, with 0 bytes left, and passed."""
        verdict = self.verdict(self.host(statvfs=statvfs_of(SIZES | {'/mnt/nfs': (0, 0, 0)})))
        points = {name: {check.component for check in verdict.checks if check.name == name}
                  for name in ('disk', 'readonly')}
        self.assertEqual(points['readonly'] - points['disk'], {'/cdrom', '/mnt/nfs'})
        self.assertNotIn('/mnt/nfs', {check.component for check in verdict.checks if check.name != 'readonly'})
        self.assertEqual(verdict.status, 'pass')

    def test_inodes(self) -> None:
        for inodes, status in (((1000, 900), 'pass'), ((1000, 40), 'warn'), ((1000, 29), 'fail')):
            host = self.host(statvfs=statvfs_of(SIZES, inodes))
            self.assertEqual(self.check(self.verdict(host), 'inodes', '/var').status, status)
        for inodes in ((0, 0), ((1 << 64) - 1, (1 << 64) - 1)):      # vfat and btrfs; some FUSE
            host = self.host(statvfs=statvfs_of(SIZES, inodes))
            self.assertNotIn('inodes', {check.name for check in self.verdict(host).checks})

    def test_read_only_by_error_is_told_from_read_only_by_will(self) -> None:
        for options, super_options, bad in (('rw', 'rw', 0), ('rw', 'ro,errors=remount-ro', 1), ('ro', 'ro', 0),
                                            ('ro', 'rw', 0),
                                            ('rw', 'rw,errors=remount-ro,emergency_ro', 1)):
            with self.subTest(options=options, super_options=super_options):
                line = f'27 1 8:1 / / {options} - ext4 /dev/sda1 {super_options}\n'
                verdict = self.verdict(self.host({'1/mountinfo': line, 'self/mountinfo': line}))
                self.assertEqual(self.check(verdict, 'readonly', '/').value, bad)
                self.assertEqual(verdict.http_status, 503 if bad else 200)

    def test_ext4_errors_name_the_device_and_fail_when_writing_stopped(self) -> None:
        for age, options, kernel, status in (
                (60, 'rw,errors=remount-ro', '6.12.41+deb13-amd64', 'fail'), (60, 'rw', '6.12.41', 'warn'),
                (1e6, 'rw,errors=remount-ro', '6.14.0', 'warn'), (60, 'rw,errors=remount-ro', '6.1.0-42-amd64', 'warn'),
                (60, 'rw,errors=remount-ro', '6.18.4', 'warn'), (60, 'rw,emergency_ro', '6.18.4', 'fail'),
                (60, 'ro,errors=remount-ro', '6.1.0-42-amd64', 'fail')):
            line = f'27 1 8:1 / / rw - ext4 /dev/mapper/root {options}\n'
            host = self.host({'1/mountinfo': line, 'self/mountinfo': line}, {
                'fs/ext4/sda1/errors_count': '3\n', 'fs/ext4/sda1/last_error_time': f'{NOW - age:.0f}\n'})
            with mock.patch('os.uname', return_value=mock.Mock(release=kernel, nodename='box')):
                check = self.check(self.verdict(host), 'ext4-errors', '/')
            self.assertEqual((check.value, check.status), (3, status), (options, kernel))
            self.assertIn('/ has 3 ext4 errors on sda1', check.reason)


class HostChecks(HostCase):
    """Everything else that is judged."""

    def test_memory(self) -> None:
        for available, some, status in ((4000000, 1, 'pass'), (700000, 1, 'warn'), (100000, 1, 'fail'),
                                        (100000, 0, 'warn')):
            proc = {'meminfo': MEMINFO.replace('4000000', str(available)),
                    'pressure/memory': PSI.format(some=some, full=0)}
            self.assertEqual(self.check(self.verdict(self.host(proc)), 'memory').status, status, (available, some))

    def test_memory_of_old_kernels_and_zfs(self) -> None:
        old = {'meminfo': MEMINFO.replace('MemAvailable:    4000000 kB\n', '')}
        self.assertEqual(self.check(self.verdict(self.host(old)), 'memory').value, 93.75)
        arc = {'spl/kstat/zfs/arcstats': '9 1 0x01\nname type data\nsize 4 2048000000\nc_min 4 1024000000\n'}
        self.assertEqual(self.check(self.verdict(self.host(arc)), 'memory').value, 37.5)

    def test_cgroup_limits_of_the_service_warn_and_of_a_container_fail(self) -> None:
        def limits(group: str) -> dict[str, str]:
            return {f'fs/cgroup{group}/memory.max': '1000000\n', f'fs/cgroup{group}/memory.current': '990000\n',
                    f'fs/cgroup{group}/memory.stat': 'anon 1\nactive_file 0\ninactive_file 10000\n'}
        service = '/system.slice/logwatch.service'
        check = self.check(self.verdict(self.host(sys=limits(service))), 'memory', f'cgroup {service}')
        self.assertEqual((check.status, check.value), ('warn', 98.0))
        check = self.check(self.verdict(self.host({'self/cgroup': '0::/\n'}, limits(''))), 'memory', 'cgroup /')
        self.assertEqual(check.status, 'fail')

    def test_gauges(self) -> None:
        for name, proc, value, status in (
                ('swap', {}, 10.0, 'pass'), ('swap', {'meminfo': MEMINFO.replace('900000', '100000')}, 90.0, 'warn'),
                ('load', {}, 1.5, 'pass'), ('load', {'loadavg': '9 9 21.0 1/1 1\n'}, 10.5, 'fail'),
                ('files', {}, 50.0, 'pass'), ('files', {'sys/fs/file-nr': '1900 0 2000\n'}, 95.0, 'fail'),
                ('conntrack', {}, 10.0, 'pass'), ('conntrack', {'sys/net/netfilter/nf_conntrack_max': '11\n'}, 90.91,
                                                  'warn'),
                ('cpu-pressure', {'pressure/cpu': PSI.format(some=85, full=0)}, 85.0, 'warn'),
                ('io-pressure', {'pressure/io': PSI.format(some=99, full=70)}, 70.0, 'warn'),
                ('memory-pressure', {'pressure/memory': PSI.format(some=50, full=45)}, 45.0, 'fail'),
                ('uptime', {}, 10000.5, 'pass')):
            with self.subTest(name=name, value=value):
                check = self.check(self.verdict(self.host(proc)), name)
                self.assertEqual((check.value, check.status), (value, status))

    def test_cpu_needs_two_samples_and_says_so(self) -> None:
        host = self.host()
        health = logwatch.Health(host)
        check = self.check(self.verdict(host, health), 'cpu')
        self.assertEqual((check.value, check.reason), (None, 'needs two samples at least 1 s apart'))
        for row, status, reason in (
                ('cpu  1260 20 100 8020 70', 'pass',
                 'CPU 96 % used in 5 s, 2 % waiting for I/O, 0 % stolen'),  # any moment may be busy
                ('cpu  19260 20 100 8420 270', 'warn',
                 'CPU 97 % used in 98 s, 1 % waiting for I/O, 0 % stolen (limit 95 %)')):
            plant(self.folder / 'proc', {'stat': STAT.replace('cpu  300 20 100 8000 50', row)})
            check = self.check(self.verdict(host, health), 'cpu')
            self.assertEqual((check.status, check.reason), (status, reason))

    def test_oom_kills_name_the_unit_and_stop_warning_after_a_while(self) -> None:
        host = self.host(sys={'fs/cgroup/system.slice/mysql.service/memory.events.local': 'low 0\noom_kill 2\n',
                              'fs/cgroup/system.slice/memory.events.local': 'oom_kill 0\n'})
        health = logwatch.Health(host)
        self.assertEqual(self.check(self.verdict(host, health), 'oom').status, 'pass')
        plant(self.folder / 'proc', {'vmstat': 'oom_kill 2\n'})
        check = self.check(self.verdict(host, health), 'oom')
        self.assertEqual((check.status, check.value), ('warn', 2))
        self.assertIn('2 OOM kills since boot (mysql.service 2)', check.reason)
        self.assertEqual(self.check(self.verdict(host, health, NOW + 7200), 'oom').status, 'pass')
        self.assertEqual(self.check(self.verdict(self.host({'vmstat': 'oom_kill 1\n'})), 'oom').status,
                         'pass')   # long ago

    def test_an_oom_kill_of_this_process_is_known_to_the_next(self) -> None:
        host = self.host(state=True)
        self.assertEqual(self.check(self.verdict(host), 'oom').status, 'pass')
        for later, status in ((60, 'warn'), (1200, 'warn'), (7200, 'pass')):
            plant(self.folder / 'proc', {'vmstat': 'oom_kill 3\n', 'uptime': f'{10000 + later} 1\n'})
            verdict = self.verdict(host, now=NOW + later)       # each by a Health that has the state file alone
            self.assertEqual(self.check(verdict, 'oom').status, status)

    def test_a_frozen_file_system_under_the_state_delays_no_verdict(self) -> None:
        host, thawed = self.host(state=True), threading.Event()
        self.addCleanup(thawed.set)
        opened = open

        def frozen(path: Any, *arguments: Any, **how: Any) -> Any:
            if 'health.json' in str(path):
                thawed.wait()
            return opened(path, *arguments, **how)

        with mock.patch('builtins.open', frozen):
            health = logwatch.Health(host)
            self.assertLess(seconds_of(self.verdict, host, health), 1)
            self.assertLess(seconds_of(self.verdict, host, health, NOW + 100), 1)
            thawed.set()
            until((self.folder / 'state/health.json').exists, 'what was written before')

    def test_a_memory_that_fails_does_not_flap_by_what_the_kernel_says_of_pressure(self) -> None:
        health = None
        statuses = []
        for some in (0.02, 0, 0.02, 0):
            host = self.host({'meminfo': MEMINFO.replace('4000000', '190000'),
                              'pressure/memory': PSI.format(some=some, full=0)})
            health = health or logwatch.Health(host)
            statuses.append(self.check(self.verdict(host, health), 'memory', '').status)
        self.assertEqual(statuses, ['fail'] * 4)

    def test_a_cgroup_is_short_of_memory_from_where_it_is_throttled(self) -> None:
        group = 'fs/cgroup/system.slice/logwatch.service'
        host = self.host(sys={f'{group}/memory.high': f'{100 << 20}\n', f'{group}/memory.max': f'{400 << 20}\n',
                              f'{group}/memory.stat': 'active_file 0\ninactive_file 0\n',
                              f'{group}/memory.current': f'{95 << 20}\n'})
        check = self.check(self.verdict(host), 'memory', 'cgroup /system.slice/logwatch.service')
        self.assertEqual((check.status, check.value), ('warn', 95))

    def test_reboot_by_flag_and_by_the_kernel_that_would_run_then(self) -> None:
        minutes = itertools.count(NOW, 60)          # the folder is read once in each
        for running, installed, reason in (
                ('6.1.0-18-amd64', '6.1.0-18-amd64 6.1.0-9-amd64', ''),
                ('6.1.0-9-amd64', '6.1.0-9-amd64 6.1.0-18-amd64',
                 'kernel 6.1.0-18-amd64 is installed, 6.1.0-9-amd64 runs'),
                ('6.1.0-9-amd64', '6.1.0-9-amd64 6.9.0-1-cloud-amd64 6.9.0-1-rt-amd64', ''),
                ('6.1.0-9-amd64', '6.1.0-9-amd64 6.1-amd64', ''),
                ('6.18.44-fc', '6.1.0-9-amd64', ''),                # from outside of this virtual machine
                ('6.1.0-9-amd64', '', ''),                          # nor does a container have kernels
                ('6.18.4', '6.18.4 6.18.4.old', ''),                # `make install` keeps the one before
                ('6.12.38+deb13-amd64', '6.12.38+deb13-amd64 6.12.41+deb13-amd64',
                 'kernel 6.12.41+deb13-amd64 is installed, 6.12.38+deb13-amd64 runs'),
                ('6.1.0-9-amd64', '6.1.0-18-amd64',
                 'kernel 6.1.0-18-amd64 is installed, 6.1.0-9-amd64 runs, whose image is gone from /boot'),
                ('6.12.41-amd64', '6.1.0-9-amd64 6.1.0-18-amd64',
                 'kernel 6.1.0-18-amd64 is installed, 6.12.41-amd64 runs, whose image is gone from /boot')):
            for flag in ('', 'run/reboot-required', 'run/systemd/container'):
                with self.subTest(running=running, installed=installed, flag=flag):
                    shutil.rmtree(self.folder / 'root', ignore_errors=True)
                    host = self.host(root={f'boot/vmlinuz-{name}': '' for name in words(installed)} | {
                        'boot/config-1': '', flag or 'boot/x': ''})
                    with mock.patch('os.uname', return_value=mock.Mock(release=running, nodename='box')):
                        check = self.check(self.verdict(host, now=next(minutes)), 'reboot')
                    reasons = ['/run/reboot-required is there'] if flag == 'run/reboot-required' else []
                    reasons += [reason] if reason and flag != 'run/systemd/container' else []
                    self.assertEqual((check.status, check.value, check.reason), (
                        ('warn', 1, 'reboot needed: ' + '; '.join(reasons)) if reasons else
                        ('pass', 0, 'no reboot needed')))

    def test_clock(self) -> None:
        self.assertIn('does not run', self.check(self.verdict(self.host()), 'clock').reason)
        host = self.host(root={'run/systemd/timesync/synchronized': ''})
        for age, status in ((60, 'pass'), (20000, 'warn')):
            os.utime(self.folder / 'root/run/systemd/timesync/synchronized', (NOW - age, NOW - age))
            self.assertEqual(self.check(self.verdict(host), 'clock').status, status)
        self.assertIn('node_timex_sync_status 1\n', self.metrics(host))
        os.utime(self.folder / 'root/run/systemd/timesync/synchronized', (NOW - 40000, NOW - 40000))
        self.assertIn('node_timex_sync_status 0\n', self.metrics(host))
        (self.folder / 'root/run/systemd/timesync/synchronized').unlink()
        self.assertEqual(self.check(self.verdict(host), 'clock').reason, 'clock not synchronised for 2.8 h')
        self.assertIn('node_timex_sync_status 0\n', self.metrics(host))

    def test_limits_name_existing_checks_and_have_both_statuses(self) -> None:
        names = {name for name, *_ in logwatch.LIMITS} - {'disk-bytes', 'stuck', 'errors', 'error-lines'}
        self.assertLessEqual(names, set(logwatch.CHECKS))
        self.assertEqual(len({name for name, *_ in logwatch.THRESHOLDS}), 2 * len(logwatch.LIMITS))


class HiddenFacts(HostCase):
    """Unknown is null with a reason, never 0."""

    def test_under_procsubset_everything_is_null_with_its_reason(self) -> None:
        host = self.host(without=[name for name in PROC if not name.startswith('self/')])
        shutil.rmtree(self.folder / 'proc/1', ignore_errors=True)
        (self.folder / 'proc/self/mountinfo').unlink()
        verdict = self.verdict(host)
        self.assertEqual((verdict.status, verdict.http_status),
                         ('warn', 200))       # no verdict without disk and memory
        for name in set(logwatch.CHECKS) - {'reboot', 'uptime', 'clock'}:
            check = self.check(verdict, name)
            self.assertEqual((check.value, check.reason), (None, 'hidden by ProcSubset=pid'), name)
        self.assertNotRegex(re.sub(r'node_scrape.*|logwatch_health.*|process_.*|node_time_zone.*|node_timex.*', '',
                                   self.metrics(host)),
                            r' 0(\.0)?\n')

    def test_an_old_kernel_has_no_pressure_and_no_oom_counter(self) -> None:
        verdict = self.verdict(self.host({'vmstat': 'pgfault 1\n'}, without=('pressure',)))
        self.assertEqual(verdict.status, 'pass')
        self.assertEqual(self.check(verdict, 'io-pressure').reason, 'not on this kernel')
        self.assertIsNone(self.check(verdict, 'oom').value)

    def test_a_container_measures_its_overlay_root(self) -> None:
        line = '500 400 0:77 / / rw - overlay overlay rw,lowerdir=/x\n501 500 0:5 / /proc rw - proc proc rw\n'
        host = self.host({'1/mountinfo': line, 'self/mountinfo': line})
        self.assertEqual(self.check(self.verdict(host), 'disk', '/').value, 52.63)
        self.assertNotIn('node_filesystem_size_bytes', self.metrics(host))      # node_exporter leaves overlay out

    def test_a_denied_file_is_denied(self) -> None:
        with mock.patch('os.open', side_effect=PermissionError(13, 'Permission denied')):
            self.assertRaisesRegex(logwatch.Hidden, 'denied: this user may not read .*/stat', self.host().read, 'stat')

    def test_a_want_of_descriptors_is_no_fault_of_the_kernel(self) -> None:
        with mock.patch('os.open', side_effect=OSError(24, 'Too many open files')):
            self.assertRaisesRegex(logwatch.Hidden, '/stat: Too many open files', self.host().read, 'stat')

    def test_what_is_absent_or_seldom_changes_is_read_again_in_the_next_minute(self) -> None:
        host = self.host(without=('1/net/stat/nf_conntrack',))
        pid_max = self.folder / 'proc/sys/kernel/pid_max'
        for second, tracked, most in ((0, None, 4194304), (59, None, 4194304), (60, ('00000007',), 99)):
            facts = logwatch.Facts(host, NOW // 60 * 60 + second)
            table = facts.find('net/stat/nf_conntrack', logwatch.parse_conntrack)
            self.assertEqual((table and table['entries'], facts.get('sys/kernel/pid_max', int)), (tracked, most))
            plant(self.folder / 'proc', {'1/net/stat/nf_conntrack': 'entries\n00000007\n'})
            pid_max.write_text('99\n')

    def test_psi_off_is_said(self) -> None:
        with mock.patch('os.pread', side_effect=OSError(95, 'Operation not supported')):
            self.assertRaisesRegex(logwatch.Hidden, 'switched off in this kernel', self.host().read, 'pressure/cpu')

    def test_a_file_of_a_module_that_was_unloaded_and_loaded_again_is_opened_anew(self) -> None:
        host = self.host({'x': ''})
        with (mock.patch('os.pread', side_effect=[b'1', b'2', OSError(5, 'Input/output error'), b'3']),
              mock.patch('os.open', wraps=os.open) as opened):
            self.assertEqual((host.read('x'), host.read('x')), (b'1', b'2'))
            self.assertRaisesRegex(logwatch.Hidden, 'Input/output error', host.read, 'x')
            self.assertEqual((host.read('x'), opened.call_count), (b'3', 2))

    def test_a_file_is_read_to_its_end_whatever_a_read_gives(self) -> None:
        text = 'x' * 100_000
        host = self.host({'x': text, '1/net/udp': text})
        for name in ('x', 'net/udp', 'x'):
            self.assertEqual(host.read(name).decode(), text)
        pages = [b'a' * 4000, b'b' * 3000, b'c' * 100]      # as seq_file gives whole records of a page
        for name, reads in (('x', pages), ('net/udp', pages), ('self/mountinfo', [*pages, b'd' * 3000, b''])):
            with mock.patch('os.pread', side_effect=reads):
                self.assertEqual(host.read(name), b''.join(reads))

    def test_a_host_that_is_gone_holds_no_file_open(self) -> None:
        def opened() -> list[str]:
            targets = (os.path.realpath(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd'))
            return [target for target in targets if target.startswith(str(self.folder))]

        host = self.host()
        self.metrics(host)
        self.assertGreater(len(opened()), 20)
        del host
        self.assertEqual(opened(), [])

    def test_private_network_hides_sysfs_but_not_the_bound_counters(self) -> None:
        host = self.host()
        shutil.rmtree(self.folder / 'sys/class/net/eth0')
        lines = self.metrics(host).splitlines()
        self.assertIn('node_scrape_collector_success{collector="netclass"} 0', lines)
        self.assertEqual([line for line in lines if 'node_network_up' in line], [])
        self.assertEqual(sample('\n'.join(lines), 'node_network_transmit_packets_total{device="eth0"}'), 8)

    def test_the_zeros_of_a_private_network_are_not_the_hosts(self) -> None:
        """Under ProtectProc=invisible, which takes away process 1 and with it the host's network."""
        own = {name[2:]: text for name, text in PROC.items() if name.startswith('1/net')}
        listed = 'Num RefCount Protocol Flags Type St Inode Path\n0: 2 0 0 2 3 384271 {}\n'
        socket = {'run/systemd/notify': ''}
        for name, unix, root, hidden in (
                ('private', listed.format('/run/systemd/notify.not'), socket, True),
                ('shared', listed.format('/run/systemd/notify'), socket, False),
                ('without systemd', listed.format('/x'), {}, False), ('without a list', None, socket, False)):
            with self.subTest(name):
                (self.folder / 'root/run/systemd/notify').unlink(missing_ok=True)
                host = self.host(own | ({'net/unix': unix} if unix else {}), without=('1/',), root=root)
                verdict, text = self.verdict(host), self.metrics(host)
                self.assertEqual(self.check(verdict, 'conntrack').value, None if hidden else 10.0)
                self.assertEqual('conntrack: hidden by PrivateNetwork=' in verdict.visibility, hidden)
                for family in words('network_receive_bytes_total network_up netstat_Tcp_InSegs sockstat_TCP_inuse '
                                    'arp_entries nf_conntrack_entries softnet_processed_total'):
                    self.assertEqual(f'\nnode_{family}' in text, not hidden, family)
                self.assertEqual(sample(text, 'node_scrape_collector_success{collector="netdev"}'), 0 if hidden else 1)

    def test_udp_sockets_are_looked_through_only_where_there_are_any(self) -> None:
        for inuse, queued in (('0', 0), ('1', 21), ('', 21)):
            counts = f'UDP: inuse {inuse} mem 0\n' if inuse else 'TCP: inuse 4\n'
            text = self.metrics(self.host({'1/net/sockstat': counts}))
            self.assertEqual(sample(text, 'node_udp_queues{queue="tx",ip="v4"}'), queued)

    def test_what_the_hosts_network_lacks_is_not_served_from_the_own_one(self) -> None:
        host = self.host({'net/sockstat6': 'TCP6: inuse 17\n'}, without=('1/net/sockstat6',))
        self.assertNotIn('node_sockstat_TCP6_inuse', self.metrics(host))

    def test_a_file_in_an_unknown_format_is_unknown(self) -> None:
        verdict = self.verdict(self.host({'loadavg': 'x\n', 'stat': 'cpu\n', 'meminfo': ''}))
        for name in ('load', 'cpu', 'memory'):
            self.assertIn('not understood', self.check(verdict, name).reason)


class VerdictShapes(HostCase):
    """health+json and text."""

    def test_json_starts_with_the_status_and_the_reasons(self) -> None:
        host = self.host(statvfs=statvfs_of(SIZES | {'/var': (100, 1, 1)}))
        verdict = self.verdict(host)
        text = json.dumps(logwatch.health_json(verdict), separators=(',', ':'))
        self.assertTrue(text.startswith('{"status":"fail","output":"/var 99 % used, 1 GiB left'), text[:99])
        var, = (row for row in json.loads(text)['checks']['disk:utilization'] if row['componentId'] == '/var')
        self.assertEqual((var['observedValue'], var['observedUnit'], var['status'], var['time']),
                         (99.0, '%', 'fail', '2027-01-15T08:00:00Z'))
        self.assertTrue(json.dumps(logwatch.health_json(self.verdict(self.host())),
                                   separators=(',', ':')).startswith('{"status":"pass",'))
        root, = (row for row in json.loads(text)['checks']['disk:utilization'] if row['componentId'] == '/')
        self.assertNotIn('output', root)

    def test_an_unknown_value_is_null_with_an_output(self) -> None:
        swapless = self.host({'meminfo': MEMINFO.replace('1000000', '0').replace('900000', '0')})
        checks: Any = logwatch.health_json(self.verdict(swapless))['checks']
        row, = checks['swap:utilization']
        self.assertEqual((row['observedValue'], row['output'], row['status']), (None, 'no swap here', 'pass'))

    def test_the_first_line_of_text_is_the_verdict(self) -> None:
        first = logwatch.health_text(self.verdict(self.host())).splitlines()[0]
        self.assertRegex(first, r'^pass: \S+ is well by \d+ checks, up 2\.8 h$')
        host = self.host({'loadavg': '9 9 5 1/1 1\n'}, statvfs=statvfs_of(SIZES | {'/var': (100, 1, 1)}))
        first = logwatch.health_text(self.verdict(host)).splitlines()[0]
        self.assertEqual(first, 'fail: /var 99 % used, 1 GiB left (limit 3 % left and 5 GiB); '
                                'load 9 9 5 on 2 cores (limit 2 per core)')

    def test_text_calls_nothing_well_that_it_does_not_know(self) -> None:
        first, *rows = logwatch.health_text(self.verdict(self.host(without=('pressure',)))).splitlines()
        self.assertIn('?     io-pressure      not on this kernel', rows)
        counted = sum(row.startswith('pass  ') for row in rows)
        self.assertIn(f'is well by {counted} checks', first)

    def test_a_verdict_without_its_worst_check_is_better(self) -> None:
        host = self.host(statvfs=statvfs_of(SIZES | {'/var': (100, 1, 1)}))
        verdict = self.verdict(host)
        self.assertEqual(verdict.keep(lambda check: check.name != 'disk').status, 'pass')
        self.assertEqual(verdict.keep(lambda check: check.name == 'disk').http_status, 503)
        self.assertEqual(verdict.keep(lambda check: False).status, 'pass')

    def test_extra_checks_count(self) -> None:
        bad = logwatch.Check('logs', 'x', 1, '', 'fail', '', 'x is unreadable')
        self.assertEqual(logwatch.evaluate(logwatch.Health(self.host()), [bad]).status, 'fail')


class Exposition(HostCase):
    """Prometheus text, from fixtures."""

    def test_labels_and_help_are_escaped(self) -> None:
        with mock.patch.dict(logwatch.HELPS, {'a_total': 'Words.', 'b': 'Two and a half.'}):
            text = logwatch.render([('a_total', (('x', 'q"b\\n\n'),), 1), ('b', (), 2.5)]).decode()
        self.assertEqual(text, '# HELP a_total Words.\n# TYPE a_total counter\na_total{x="q\\"b\\\\n\\n"} 1\n'
                               '# HELP b Two and a half.\n# TYPE b gauge\nb 2.5\n')

    def test_the_text_around_the_values_is_kept_and_follows_the_series(self) -> None:
        def values(*samples: logwatch.Sample) -> list[str]:
            return [line for line in logwatch.render(samples).decode().splitlines() if not line.startswith('#')]

        percent = ('a', (('point', '/100% %a %s'),), 1)
        for value in (1, 2.5, -1e300, 1 << 64, True):       # a family's samples stand together, whatever came between
            self.assertEqual(values(percent, ('b', (), value), ('a', (('point', '/é'),), value)),
                             ['a{point="/100% %a %s"} 1', f'a{{point="/é"}} {value!r}', f'b {value!r}'])
        known = logwatch.layout.cache_info()
        self.assertEqual(values(percent, ('b', (), 7), ('a', (('point', '/é'),), 8))[1:], ['a{point="/é"} 8', 'b 7'])
        self.assertEqual(logwatch.layout.cache_info(), known._replace(hits=known.hits + 1))
        self.assertEqual(values(percent, ('a', (('point', '/é'),), 8), ('b', (), 7))[1:], ['a{point="/é"} 8', 'b 7'])
        self.assertEqual(values(('b', (), 7)), ['b 7'])

    def test_every_family_is_contiguous_and_every_series_unique(self) -> None:
        names: list[str] = []
        series: list[str] = []
        for line in self.metrics(self.host(sys=METAL)).splitlines():
            if line.startswith('# HELP'):
                names.append(line.split()[2])
            elif not line.startswith('#'):
                self.assertEqual(line.partition('{')[0].partition(' ')[0], names[-1])
                series.append(line.rpartition(' ')[0])
                float(line.rpartition(' ')[2])
        self.assertEqual((len(names), len(series)), (len(set(names)), len(set(series))))

    def test_golden_lines(self) -> None:
        text = self.metrics(self.host(sys=METAL))
        self.assertEqual(sample(text, 'node_network_info{device="eth0",address="02:00:00:00:00:01",'
                                'broadcast="ff:ff:ff:ff:ff:ff",duplex="full",operstate="up",adminstate="up",'
                                'ifalias=""}'), 1)
        for line in GOLDEN.strip().splitlines():
            series, _, value = line.rpartition(' ')
            with self.subTest(series):
                self.assertEqual(re.findall(rf'(?m)^{re.escape(series)} (\S+)$', text) if '#' in line else
                                 sample(text, series), [value] if '#' in line else float(value))

    def test_disks_are_called_what_udev_calls_them(self) -> None:
        known = '\n'.join(('S:disk/by-id/x', 'E:ID_PATH=pci-0000:00:1f.2-ata-1', 'E:ID_WWN=0x5000', 'E:ID_MODEL=A=B',
                           'E:ID_REVISION=0R', 'E:ID_SERIAL=long', 'E:ID_SERIAL_SHORT=short', 'G:systemd', ''))
        for more, serial in (('', 'short'), ('E:SCSI_IDENT_SERIAL=scsi\n', 'scsi')):
            text = self.metrics(self.host(root={'run/udev/data/b8:0': known + more}))
            self.assertEqual(re.findall('(?m)^node_disk_info.*', text), [
                'node_disk_info{device="sda",major="8",minor="0",path="pci-0000:00:1f.2-ata-1",wwn="0x5000",model="A=B",'
                f'revision="0R",serial="{serial}",rotational="1"}} 1'])
            self.assertIn('# HELP node_disk_info Info of /sys/block/<block_device>.\n', text)
        (self.folder / 'root/run/udev/data/b8:0').unlink()
        self.assertIn('node_disk_info{device="sda",major="8",minor="0",path="",wwn="",model="",revision="",serial="",'
                      'rotational="1"} 1\n', self.metrics(self.host()))

    def test_cpu_counters_never_go_back_until_the_cpu_is_new(self) -> None:
        host = self.host()

        def idle(text: str) -> float:
            plant(self.folder / 'proc', {'stat': text})
            return {labels: value for _, labels, value in logwatch.collect_cpu(logwatch.Facts(host))}[('cpu', '0'),
                                                                                                      ('mode', 'idle')]
        self.assertEqual(idle(STAT), 40.0)
        self.assertEqual(idle(STAT.replace('cpu0 100 10 50 4000 30', 'cpu0 100 10 50 3990 20')), 40.0)
        self.assertEqual(idle(STAT.replace('cpu0 100 10 50 4000 30', 'cpu0 1 1 1 7 1')), 0.07)

    def test_a_mount_with_undecodable_bytes_is_served_as_utf8(self) -> None:
        line = b'27 1 8:1 / /bad\xff rw - ext4 /dev/sda1 rw\n'
        host = self.host()
        for name in ('1', 'self'):
            (self.folder / 'proc' / name / 'mountinfo').write_bytes(line)
        self.assertIn('mountpoint="/bad?"', self.metrics(host))

    def test_all_names_that_dashboard_1860_and_node_mixin_query_are_served(self) -> None:
        host = self.host({'meminfo': MEMINFO + ''.join(f'{name}: 1 kB\n' for name in MEMINFO_1860.split())}, METAL,
                         root={'run/systemd/timesync/synchronized': ''})
        served = set(re.findall(r'^# HELP (\S+)', self.metrics(host), re.MULTILINE))
        self.assertEqual({name for name in QUERIED.split() if f'node_{name}' not in served}, set())


# Names that "Node Exporter Full" (grafana.com dashboard 1860) and prometheus/node_exporter's docs/node-mixin query for
# the collectors that logwatch has, without `node_`; left out are those of systemd, interrupts, tcpstat, bonding, md,
# cpufreq, power supply, textfile, adjtimex, and the states of processes
QUERIED = '''arp_entries boot_time_seconds context_switches_total cooling_device_cur_state cooling_device_max_state
cpu_guest_seconds_total cpu_seconds_total disk_discard_time_seconds_total disk_discarded_sectors_total
disk_discards_completed_total disk_discards_merged_total disk_flush_requests_time_seconds_total
disk_flush_requests_total disk_io_now disk_io_time_seconds_total disk_io_time_weighted_seconds_total
disk_read_bytes_total
disk_read_time_seconds_total disk_reads_completed_total disk_reads_merged_total disk_write_time_seconds_total
disk_writes_completed_total disk_writes_merged_total disk_written_bytes_total entropy_available_bits
entropy_pool_size_bits filefd_allocated filefd_maximum filesystem_avail_bytes filesystem_device_error filesystem_files
filesystem_files_free filesystem_free_bytes filesystem_readonly filesystem_size_bytes forks_total hwmon_chip_names
hwmon_fan_min_rpm hwmon_fan_rpm hwmon_temp_celsius hwmon_temp_crit_alarm_celsius hwmon_temp_crit_celsius
hwmon_temp_crit_hyst_celsius hwmon_temp_max_celsius intr_total load1 load15 load5 memory_Active_anon_bytes
memory_Active_bytes memory_Active_file_bytes memory_AnonHugePages_bytes memory_AnonPages_bytes memory_Buffers_bytes
memory_Cached_bytes memory_CommitLimit_bytes memory_Committed_AS_bytes memory_DirectMap1G_bytes memory_DirectMap2M_bytes
memory_DirectMap4k_bytes memory_Dirty_bytes memory_HardwareCorrupted_bytes memory_HugePages_Total
memory_Hugepagesize_bytes memory_Inactive_anon_bytes memory_Inactive_bytes memory_Inactive_file_bytes
memory_KernelStack_bytes memory_Mapped_bytes memory_MemAvailable_bytes memory_MemFree_bytes memory_MemTotal_bytes
memory_Mlocked_bytes memory_NFS_Unstable_bytes memory_PageTables_bytes memory_Percpu_bytes memory_SReclaimable_bytes
memory_SUnreclaim_bytes memory_ShmemHugePages_bytes memory_ShmemPmdMapped_bytes memory_Shmem_bytes memory_Slab_bytes
memory_SwapCached_bytes memory_SwapFree_bytes memory_SwapTotal_bytes memory_Unevictable_bytes memory_VmallocChunk_bytes
memory_VmallocTotal_bytes memory_VmallocUsed_bytes memory_WritebackTmp_bytes memory_Writeback_bytes memory_Zswap_bytes
memory_Zswapped_bytes netstat_Icmp_InErrors netstat_Icmp_InMsgs netstat_Icmp_OutMsgs netstat_IpExt_InOctets
netstat_IpExt_OutOctets netstat_TcpExt_ListenDrops netstat_TcpExt_ListenOverflows netstat_TcpExt_SyncookiesFailed
netstat_TcpExt_SyncookiesRecv netstat_TcpExt_SyncookiesSent netstat_TcpExt_TCPOFOQueue netstat_TcpExt_TCPRcvQDrop
netstat_TcpExt_TCPSynRetrans netstat_TcpExt_TCPTimeouts netstat_Tcp_ActiveOpens netstat_Tcp_CurrEstab
netstat_Tcp_InErrs netstat_Tcp_InSegs netstat_Tcp_OutRsts netstat_Tcp_OutSegs netstat_Tcp_PassiveOpens
netstat_Tcp_RetransSegs netstat_UdpLite_InErrors netstat_Udp_InDatagrams netstat_Udp_InErrors netstat_Udp_NoPorts
netstat_Udp_OutDatagrams netstat_Udp_RcvbufErrors netstat_Udp_SndbufErrors network_carrier network_mtu_bytes
network_receive_bytes_total network_receive_compressed_total network_receive_drop_total network_receive_errs_total
network_receive_fifo_total network_receive_frame_total network_receive_multicast_total network_receive_nohandler_total
network_receive_packets_total network_speed_bytes network_transmit_bytes_total network_transmit_carrier_total
network_transmit_colls_total network_transmit_compressed_total network_transmit_drop_total network_transmit_errs_total
network_transmit_fifo_total network_transmit_packets_total network_up nf_conntrack_entries nf_conntrack_entries_limit
pressure_cpu_waiting_seconds_total pressure_io_stalled_seconds_total pressure_io_waiting_seconds_total
pressure_irq_stalled_seconds_total pressure_memory_stalled_seconds_total pressure_memory_waiting_seconds_total
processes_max_processes processes_max_threads procs_blocked procs_running schedstat_running_seconds_total
schedstat_timeslices_total schedstat_waiting_seconds_total scrape_collector_duration_seconds scrape_collector_success
sockstat_FRAG_inuse sockstat_FRAG_memory sockstat_RAW_inuse sockstat_TCP_alloc sockstat_TCP_inuse sockstat_TCP_mem
sockstat_TCP_mem_bytes sockstat_TCP_orphan sockstat_TCP_tw sockstat_UDPLITE_inuse sockstat_UDP_inuse sockstat_UDP_mem
sockstat_UDP_mem_bytes sockstat_sockets_used softnet_dropped_total softnet_flow_limit_count_total
softnet_processed_total softnet_received_rps_total softnet_times_squeezed_total time_seconds timex_sync_status
udp_queues uname_info vmstat_oom_kill vmstat_pgfault vmstat_pgmajfault vmstat_pgpgin vmstat_pgpgout
vmstat_pswpin vmstat_pswpout'''
MEMINFO_1860 = ' '.join({'Active_anon': 'Active(anon)', 'Active_file': 'Active(file)',
                         'Inactive_anon': 'Inactive(anon)',
                         'Inactive_file': 'Inactive(file)'}.get(name, name)
                        for name in re.findall(r'memory_(\w+)_bytes', QUERIED) if f'{name}:' not in MEMINFO)
GOLDEN = '''
node_memory_Active_anon_bytes 1024000
node_memory_HugePages_Total 3
node_cpu_seconds_total{cpu="0",mode="steal"} 0.03
node_cpu_guest_seconds_total{cpu="0",mode="user"} 0.05
node_boot_time_seconds 1799990000
node_intr_total 12345
node_load15 3.0
# TYPE node_vmstat_oom_kill untyped
# TYPE node_disk_read_bytes_total counter
node_disk_read_bytes_total{device="sda"} 8192
node_disk_read_time_seconds_total{device="sda"} 0.5
node_disk_flush_requests_time_seconds_total{device="sda"} 0.006
node_filesystem_avail_bytes{device="/dev/sda3",mountpoint="/srv/with space",fstype="xfs",device_error=""} 53687091200
node_filesystem_readonly{device="/dev/sda4",mountpoint="/cdrom",fstype="ext4",device_error=""} 1
node_filesystem_readonly{device="/dev/sda1",mountpoint="/",fstype="ext4",device_error=""} 0
node_filesystem_mount_info{device="/dev/sda1",major="8",minor="1",mountpoint="/"} 1
node_network_receive_drop_total{device="eth0"} 2
node_network_speed_bytes{device="eth0"} 125000000
node_network_up{device="lo"} 0
node_network_flags{device="eth0"} 4099
node_network_address_assign_type{device="eth0"} 3
node_network_name_assign_type{device="eth0"} 4
node_network_carrier_up_changes_total{device="eth0"} 4
node_network_carrier_down_changes_total{device="eth0"} 5
# TYPE node_network_carrier_down_changes_total counter
# HELP node_network_carrier_down_changes_total Network device property: carrier_down_changes_total
node_network_iface_link{device="eth0"} 6
node_network_iface_link_mode{device="eth0"} 0
node_network_net_dev_group{device="eth0"} 7
node_network_device_id{device="eth0"} 32
node_network_protocol_type{device="eth0"} 1
# HELP node_network_protocol_type Network device property: protocol_type
# HELP node_network_transmit_queue_length Network device property: transmit_queue_length
# HELP node_network_up Value is 1 if operstate is 'up', 0 otherwise.
node_time_clocksource_available_info{device="0",clocksource="kvm-clock"} 1
node_time_clocksource_current_info{device="0",clocksource="tsc"} 1
# HELP node_time_clocksource_current_info Current clocksource read from '/sys/devices/system/clocksource'.
node_netstat_Ip6_InOctets 5
# TYPE node_netstat_Tcp_CurrEstab untyped
node_netstat_Tcp_CurrEstab 7
node_sockstat_TCP_mem_bytes 4096
node_sockstat_TCP6_inuse 17
node_softnet_times_squeezed_total{cpu="0"} 2
node_softnet_flow_limit_count_total{cpu="0"} 4
node_schedstat_running_seconds_total{cpu="0"} 2.0
node_pressure_cpu_waiting_seconds_total 2.5
node_pressure_irq_stalled_seconds_total 0.008494
node_nf_conntrack_entries 10
node_nf_conntrack_stat_early_drop 14
node_filefd_maximum 2048.0
node_arp_entries{device="eth0"} 2
node_udp_queues{queue="tx",ip="v4"} 21
node_udp_queues{queue="rx",ip="v4"} 2
node_hwmon_chip_names{chip="platform_coretemp_0",chip_name="coretemp"} 1
node_hwmon_temp_celsius{chip="platform_coretemp_0",sensor="temp1"} 55.0
node_hwmon_temp_crit_hyst_celsius{chip="platform_coretemp_0",sensor="temp1"} 95.0
node_hwmon_temp_alarm{chip="platform_coretemp_0",sensor="temp1"} 1
# HELP node_hwmon_temp_alarm Hardware sensor alarm status (temp)
# HELP node_hwmon_temp_celsius Hardware monitor for temperature (input)
# HELP node_hwmon_fan_min_rpm Hardware monitor for fan revolutions per minute (min)
node_hwmon_fan_min_alarm{chip="platform_coretemp_0",sensor="fan1"} 1
node_hwmon_in_max_alarm_volts{chip="platform_coretemp_0",sensor="in0"} 0
node_hwmon_sensor_label{chip="platform_coretemp_0",sensor="temp1",label="Package id 0"} 1
# HELP node_hwmon_sensor_label Label for given chip and sensor
node_hwmon_power_average_watt{chip="platform_coretemp_0",sensor="power1"} 5
# HELP node_hwmon_power_average_watt Hardware monitor for power usage in watts (average)
# TYPE node_hwmon_energy_joule_total counter
node_hwmon_humidity{chip="platform_coretemp_0",sensor="humidity1"} 0.045
node_hwmon_in_volts{chip="platform_coretemp_0",sensor="in0"} 1.104
node_hwmon_energy_joule_total{chip="platform_coretemp_0",sensor="energy1"} 2.0
node_thermal_zone_temp{zone="0",type="cpu-thermal"} 12.376
node_cooling_device_max_state{name="0",type="Processor"} 3
node_os_version{id="debian",id_like="",name="Debian GNU/Linux"} 12.0
node_kernel_hung_tasks_total 42.0
logwatch_health_status{check="disk"} 0
'''


def strip_values(proc: Mapping[str, str], *gone: str) -> dict[str, str]:
    """A fixture without what begins with one of these."""
    return {name: text for name, text in proc.items() if not name.startswith(gone)}


OVERLAY = '500 400 0:77 / / rw - overlay overlay rw,lowerdir=/x\n501 500 0:5 / /proc rw - proc proc rw\n'
SLIM = {'1/mountinfo': ROOT_MOUNT + '\n', 'self/mountinfo': ROOT_MOUNT + '\n'}  # what this machine has as well
# A folder of files for --proc, and what /health/CHECK then says: (value, status, words of the reason)
BOXES: dict[str, tuple[dict[str, str], dict[str, tuple[float | None, str, str]]]] = {
    'VM': (PROC | SLIM, {
        'memory': (50.0, 'pass', ''), 'swap': (10.0, 'pass', ''), 'load': (1.5, 'pass', ''),
        'files': (50.0, 'pass', ''),
        'cpu-pressure': (1.5, 'pass', ''), 'io-pressure': (1.0, 'pass', ''), 'memory-pressure': (0.0, 'pass', ''),
        'conntrack': (10.0, 'pass', ''), 'oom': (0, 'pass', ''), 'uptime': (10000.5, 'pass', ''),
        'readonly': (0, 'pass', ''), 'cpu': (None, 'pass', 'needs two samples')}),
    'bare metal under load': (PROC | SLIM | {
        'loadavg': '20 30 40.00 9/99 1\n', 'meminfo': MEMINFO.replace('4000000', '400000'),
        'pressure/io': PSI.format(some=99, full=90)}, {
        'load': (20.0, 'fail', 'load 20 30 40.00 on 2 cores (limit 10 per core)'),
        'io-pressure': (90.0, 'warn', '60 %'),
        'memory': (95.0, 'warn', 'memory 391 MiB of 7.63 GiB available (limit 10 % left)')}),
    'container': (PROC | {'1/mountinfo': OVERLAY, 'self/mountinfo': OVERLAY, 'self/cgroup': '0::/\n'}, {
        'memory': (50.0, 'pass', ''), 'load': (1.5, 'pass', '')}),
    'old kernel': (strip_values(PROC, 'pressure') | SLIM | {
        'vmstat': 'pgfault 1\n', 'meminfo': re.sub('MemAvailable.*\n', '', MEMINFO)}, {
        'memory': (93.75, 'warn', 'available (limit 10 % left)'), 'cpu-pressure': (None, 'pass', 'not on this kernel'),
        'io-pressure': (None, 'pass', 'not on this kernel'), 'oom': (None, 'pass', 'not understood')}),
    'ProcSubset': ({'self/mountinfo': ROOT_MOUNT + '\n', 'self/cgroup': '0::/\n', '1/mountinfo': ROOT_MOUNT + '\n'}, {
        name: (None, 'warn' if name == 'memory' else 'pass', 'hidden by ProcSubset=pid')
        for name in words('memory swap load files cpu-pressure io-pressure memory-pressure conntrack oom cpu')}),
    'hidepid': (strip_values(PROC, '1/') | {'self/mountinfo': ROOT_MOUNT + '\n'}, {
        'memory': (50.0, 'pass', ''), 'readonly': (0, 'pass', ''), 'load': (1.5, 'pass', '')}),
}
CALM = ('--disk-warn', '0', '--disk-fail', '0', '--disk-bytes-warn', '0', '--disk-bytes-fail', '0', '--inodes-warn',
        '0',
        '--inodes-fail', '0')  # the real disks below a fixture decide nothing
UNFIXED = 'exclude=reboot&exclude=clock'  # what is read outside --proc


class Boxes(Case):
    """Whole boxes as folders of files, asked over --proc."""

    def box(self, name: str) -> Callable[..., Any]:
        proc = plant(scratch(), BOXES[name][0])
        return make_application('--proc', str(proc), '--log-root', str(scratch()), *CALM)

    def test_each_box_gets_its_figures_and_its_verdicts(self) -> None:
        for box, (_, expected) in BOXES.items():
            application = self.box(box)
            for check, (value, status, reason) in expected.items():
                with self.subTest(box, check=check):
                    reply = call(application, f'/health/{check}')
                    (name, (row, *_)), = reply.json()['checks'].items()
                    self.assertEqual((name.partition(':')[0], row.get('observedValue'), row['status']),
                                     (check, value, status), row)
                    self.assertIn(reason, row.get('output', ''))
                    self.assertEqual(reply.status, 503 if status == 'fail' else 200)

    def test_what_is_hidden_is_listed_under_visibility(self) -> None:
        for box, note in {'ProcSubset': 'memory: hidden by ProcSubset=pid', 'hidepid': 'the table of this service',
                          'old kernel': 'io-pressure: not on this kernel'}.items():
            with self.subTest(box):
                notes = call(self.box(box), '/health').json()['notes']
                self.assertTrue(any(note in line for line in notes), notes)

    def test_metrics_leave_out_what_is_unknown(self) -> None:
        text = call(self.box('ProcSubset'), '/metrics').text
        self.assertNotIn('NaN', text)
        self.assertEqual(re.findall(r'(?m)^node_(?:memory|cpu|load|vmstat|disk)_\w+', text), [])
        self.assertEqual(sample(text, 'node_scrape_collector_success{collector="meminfo"}'), 0)
        text = call(self.box('VM'), '/metrics').text
        self.assertEqual(sample(text, 'node_memory_MemTotal_bytes'), 8000000 * 1024)
        self.assertEqual(sample(text, 'node_scrape_collector_success{collector="meminfo"}'), 1)


class HealthAnswers(Case):
    """/health as probes see it."""

    application: Callable[..., Any]
    failing: Callable[..., Any]

    @classmethod
    def setUpClass(cls) -> None:
        proc = plant(scratch(), PROC | SLIM)
        cls.application = staticmethod(make_application('--proc', str(proc), '--log-root', str(scratch()), *CALM))
        bad = plant(scratch(), PROC | SLIM | {'loadavg': '40 40 40 1/1 1\n'})
        cls.failing = staticmethod(make_application('--proc', str(bad), '--log-root', str(scratch()), *CALM))

    def test_a_well_box_passes_with_200_and_uptime_kumas_keyword(self) -> None:
        reply = call(self.application, f'/health?{UNFIXED}')
        self.assertEqual((reply.status, reply.kind), (200, HEALTH))
        self.assertIn('"status":"pass"', json.dumps(reply.json(), separators=(',', ':'))[:100])
        self.assertNotIn('output', reply.json())

    def test_a_failing_box_is_503_with_the_reason_in_the_first_kibibyte(self) -> None:
        reply = call(self.failing, f'/health?{UNFIXED}')
        self.assertEqual(reply.status, 503)
        self.assertEqual(list(reply.json())[:2], ['status', 'output'])
        self.assertIn(b'load 40 40 40 on 2 cores', reply.body[:1024])
        self.assertNotIn('"status":"pass"', reply.text[:200])

    def test_the_document_keeps_to_the_draft(self) -> None:
        for application in (self.application, self.failing):
            document = call(application, '/health').json()
            self.assertIn(document['status'], ('pass', 'warn', 'fail'))
            self.assertLessEqual(set(document), set(words(
                'status version releaseId notes output checks links serviceId description time')))
            for key, rows in document['checks'].items():
                with self.subTest(key):
                    self.assertRegex(key, r'\A[^:]+:[^:]+\Z')
                    self.assertIsInstance(rows, list)
                    for row in rows:
                        self.assertEqual(row['componentType'], 'system')
                        self.assertRegex(row['time'], r'\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z')
                        self.assertTrue('output' in row
                                        or (row['status'] == 'pass' and row['observedValue'] is not None))

    def test_it_is_never_html_and_never_cached(self) -> None:
        for target in ('/health', '/health/load', f'/health?{UNFIXED}', '/health?format=json', '/health?format=text'):
            for accept in (BROWSER, 'text/html', '*/*', ''):
                with self.subTest(target, accept=accept):
                    reply = call(self.application, target, {'Accept': accept})
                    kinds = {'json': JSON, 'text': TEXT}
                    self.assertEqual(reply.kind, kinds.get(target.partition('format=')[2], HEALTH))
                    self.assertEqual(reply.headers['Cache-Control'], 'no-store')

    def test_head_has_the_status_of_get(self) -> None:
        for application, status in ((self.application, 200), (self.failing, 503)):
            for target in ('/health/load', f'/health?{UNFIXED}', '/health/load?format=text'):
                with self.subTest(target, status=status):
                    head, get = call(application, target, method='HEAD'), call(application, target)
                    self.assertEqual((head.status, get.status, head.body), (status, status, b''))
                    self.assertEqual(head.headers['Content-Type'], get.headers['Content-Type'])

    def test_one_check_is_judged_alone_and_an_excluded_one_not_at_all(self) -> None:
        self.assertEqual(call(self.failing, '/health/memory').status, 200)
        self.assertEqual(set(call(self.failing, '/health/load').json()['checks']), {'load:value'})
        well = call(self.failing, f'/health?{UNFIXED}&exclude=load')
        self.assertEqual((well.status, well.json()['status']), (200, 'pass'))
        self.assertNotIn('load:value', well.json()['checks'])

    def test_the_first_line_of_text_is_the_verdict_in_plain_words(self) -> None:
        self.assertRegex(call(self.application, f'/health?format=text&{UNFIXED}').text,
                         r'\Apass: \S+ is well by \d+ checks')
        self.assertRegex(call(self.failing, '/health/load?format=text').text,
                         r'\Afail: load 40 40 40 on 2 cores \(limit 10 per core\)\n')

    def test_wrong_questions_name_what_there_is(self) -> None:
        self.assertProblem(call(self.application, '/health/nope'), 404, 'nope', 'memory')
        self.assertProblem(call(self.application, '/health?exclude=nope'), 400, 'exclude', 'memory')
        self.assertProblem(call(self.application, '/health?format=ndjson'), 400, 'format')
        self.assertProblem(call(self.application, '/health?format=html'), 400, 'format')

    def test_metrics_and_health_never_disagree(self) -> None:
        for application in (self.application, self.failing):
            checks = call(application, '/health').json()['checks']
            text = call(application, '/metrics').text
            worst = {key.partition(':')[0]: max(words('pass warn fail').index(row['status']) for row in rows)
                     for key, rows in checks.items() if any(row['observedValue'] is not None for row in rows)}
            served = {name: int(value) for name, value in
                      re.findall(r'(?m)^logwatch_health_status\{check="([^"]+)"\} (\d)', text)}
            self.assertEqual({name: served.get(name) for name in worst}, worst)

    def test_the_devices_of_another_folder_than_sys(self) -> None:
        """As the unit binds it, since its own /sys shows but its private network."""
        home = plant(scratch(), {f'proc/{name}': text for name, text in (PROC | SLIM).items()}
                     | {f'sys/{name}': text for name, text in SYS.items()})
        done = run_program('get', '/metrics', '--proc', f'{home}/proc', '--log-root', str(home),
                           LOGWATCH_SYS=f'{home}/sys')
        self.assertEqual(sample(done.stdout, 'node_network_up{device="eth0"}'), 1)

    def test_a_hung_mount_delays_neither_health_nor_metrics_nor_the_rest(self) -> None:
        """kubelet gives a probe 1 s."""
        release = threading.Event()
        self.addCleanup(release.set)
        mounts = ROOT_MOUNT + '\n32 27 0:40 / /mnt/nfs rw - nfs4 server:/export rw\n'
        proc = plant(scratch(), PROC | {'1/mountinfo': mounts, 'self/mountinfo': mounts})
        application = make_application('--proc', str(proc), '--log-root', str(scratch()), *CALM, '--stuck-warn',
                                       '0.001')
        application.site.host.prober.statvfs = (  # type: ignore[attr-defined]
            lambda point: release.wait(60) and os.statvfs('/') if point == '/mnt/nfs' else os.statvfs(point))
        self.enterContext(mock.patch.object(logwatch, 'VERDICT_SECONDS', 0.0))
        for target in ('/livez', '/health', '/health', '/metrics', '/health/disk', '/livez'):
            self.assertLess(seconds_of(call, application, target), 0.9, target)

        def row() -> Any:
            rows = call(application, '/health/disk').json()['checks']['disk:utilization']
            return next(row for row in rows if row['componentId'] == '/mnt/nfs')

        until(lambda: row()['status'] == 'warn', 'the warning')
        self.assertIsNone(row()['observedValue'])
        self.assertIn('nfs4 of server:/export) does not answer', row()['output'])

    def test_a_limit_is_an_option_a_variable_and_an_ini_key_in_that_order(self) -> None:
        home = plant(scratch(), {f'proc/{name}': text for name, text in (PROC | SLIM).items()} | {
            'logwatch.ini': '[logwatch]\nload-warn = 1\n'})

        def verdict(*options: str, **environ: Any) -> str:
            done = run_program('get', '/health/load', '--proc', f'{home}/proc', '--log-root', str(home), *options,
                               **environ)
            return str(json.loads(done.stdout or done.stderr)['status'])

        ini = ('--config', f'{home}/logwatch.ini')
        self.assertEqual(verdict(), 'pass')
        self.assertEqual(verdict(*ini), 'warn')
        self.assertEqual(verdict(*ini, LOGWATCH_LOAD_WARN='0'), 'pass')
        self.assertEqual(verdict(*ini, '--load-fail', '1.2', LOGWATCH_LOAD_FAIL='9'), 'fail')

    def test_a_limit_that_is_no_number_is_refused(self) -> None:
        for text in words('-1 nan inf 1e3 5% 0x5 five +1 1_0') + ['']:
            with self.subTest(text), self.assertRaisesRegex(logwatch.ConfigError, 'disk-warn'):
                logwatch.load_config({'disk-warn': [text]}, {})


def seconds_of(work: Callable[..., object], *arguments: object) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - began


class LogChecks(Case):
    """What the logs themselves say about the box."""

    @requires('root')
    def test_the_verdicts_first_line_names_logs_and_the_rows_say_more(self) -> None:
        root = plant(scratch(), {f'{name}.log': 'x\n' for name in (*'abcdef', 'fine')})
        for name in 'abcdef':
            (root / f'{name}.log').chmod(0o600)
        server = self.serve(root=root, user=NOBODY)
        first, *rows = server.get('/health?format=text').text.splitlines()
        self.assertIn('6 logs cannot be read, or soon will not be: a, b, c, d, e, …', first)
        self.assertNotIn('setfacl', first)
        self.assertEqual(sum('setfacl' in row or 'chmod' in row for row in rows), 6)
        for name in 'bcdef':
            (root / f'{name}.log').chmod(0o644)
        again = self.serve(root=root, user=NOBODY)
        self.assertIn('log a cannot be read: ', again.get('/health?format=text').text.splitlines()[0])

    def test_a_configured_log_without_a_file_is_not_said_to_be_readable(self) -> None:
        root = plant(scratch(), {'app.log': 'x\n'})
        logs = [f'{name}={root}/{name}.log' for name in ('app', 'gone')]
        application = logwatch.Application(logwatch.load_config({'log': logs}, {}))
        self.assertIn('all 1 logs can be read; there is no file of 1 more now',
                      call(application, '/health/logs?format=text').text)

    @requires('root')
    def test_each_file_that_is_written_is_looked_at(self) -> None:
        root = plant(scratch(), {'a.log': 'line\n', 'b.log': 'line\n', 'c.log': 'line\n'})
        (root / 'a.log').chmod(0o600)
        server = self.serve('--log', f'app={root}/*.log', root=root, user=NOBODY)
        self.assertIn(f'{root}/a.log', server.get('/health/logs').json()['checks']['logs:value'][0]['output'])
        row, = server.get('/logs?format=json').json()['logs']
        self.assertEqual((row['readable'], f'{root}/a.log' in row['reason']), (False, True))

    @requires('root')
    def test_a_long_verdict_comes_whole(self) -> None:
        root = plant(scratch(), {f'{number}.log': 'line\n' for number in range(800)})
        for path in root.iterdir():
            path.chmod(0o600)
        home = scratch()
        os.chown(home, NOBODY, NOBODY)
        server = self.serve(listen=f'unix:{home}/http.sock', root=root, user=NOBODY,
                            constants={'VERDICT_SECONDS': 3.0, 'TOLD_MAX': 1000})

        def rows() -> int:
            return len(server.get('/health').json()['checks']['logs:value'])

        until(lambda: rows() == 800, 'a look at all of them')
        self.assertEqual([rows(), rows()], [800, 800])

    @requires('root')
    def test_of_very_many_logs_that_cannot_be_read_a_verdict_gives_the_number(self) -> None:
        """10 000 of them made it 7 MB."""
        root = plant(scratch(), {f'{number}.log': 'line\n' for number in range(logwatch.TOLD_MAX + 20)})
        for path in root.iterdir():
            path.chmod(0o600)
        (root / 'well.log').write_text('line\n')
        (root / 'well.log').chmod(0o644)
        secrets = {name: logwatch.new_token() for name in ('all', 'well', '119')}
        sections = {name: (secret, 'health' if name == 'all' else f'health\nlogs = {name}')
                    for name, secret in secrets.items()}
        home = plant(scratch(), {'logwatch.ini': ini_tokens(**sections)})
        home.chmod(0o755)
        server = self.serve('--config', f'{home}/logwatch.ini', root=root, user=NOBODY)

        def rows(name: str) -> list[dict[str, Any]]:
            document = server.get('/health/logs', bearer(secrets[name])).json()
            return list(document['checks'].get('logs:value', []))

        until(lambda: len(rows('all')) > 1, 'a look at the logs')
        *told, rest = rows('all')
        self.assertEqual((len(told), rest['observedValue'], rest['status']), (logwatch.TOLD_MAX, 20, 'warn'))
        self.assertEqual(rest['output'], '20 more logs cannot be read, or soon will not be: see /logs')
        self.assertEqual([row['componentId'] for row in rows('119')], ['119'])
        self.assertEqual([(row['observedValue'], row['status']) for row in rows('well')], [(0, 'pass')])

    @requires('root')
    def test_who_fills_a_folder_with_what_cannot_be_read_hides_no_log_of_others(self) -> None:
        """7460 files of mode 000 below 10 folders of 250 letters were 285 MB, 2 MB of /health, and 85 MB of /logs."""
        deep = '/'.join(letter * 250 for letter in 'abcdefghij')
        root = plant(scratch(), {f'evil/{deep}/{number:02}.log': 'x\n' for number in range(30)} | {
            'z/app.log': 'x\n', 'z/well.log': 'x\n'})
        for path in (*root.glob('evil/**/*.log'), root / 'z/app.log'):
            path.chmod(0)
        server = self.serve(root=root, user=NOBODY, constants={'TOLD_MAX': 5, 'PAGE_BYTES': 8000})
        *told, rest = server.get('/health/logs').json()['checks']['logs:value']
        names = [row['componentId'] for row in told]
        self.assertEqual([name.partition('-')[0] for name in names], ['evil'] * 4 + ['z'])
        self.assertEqual((rest['observedValue'], rest['status'], rest['observedUnit']), (26, 'warn', 'logs'))
        self.assertLess(max(len(row['output']) for row in told), 1000)
        self.assertRegex(told[0]['output'], f' cannot be read: nobody .*: {root}/evil/aaa.*….* in the groups nogroup; '
                         'logwatch.py check$')
        document = server.get('/logs?format=json').json()
        rows = {row['name']: row for row in document['logs']}
        self.assertLessEqual({'z-app', 'z-well'}, set(rows))
        self.assertEqual((len(rows) + document['left_out'], list(rows)), (32, sorted(rows)))
        self.assertGreater(document['left_out'], 9)
        self.assertTrue(server.get('/logs').text.endswith(
            f'\n{document["left_out"]} more logs are left out: ask for one by its name\n'))
        self.assertEqual(json.loads(server.get('/logs?format=ndjson').text.splitlines()[-1]),
                         {'left_out': document['left_out']})
        self.assertIn('setfacl', rows['z-app']['fix'])

    @requires('root')
    def test_why_a_folder_is_closed_is_looked_for_at_so_many_of_one_user(self) -> None:
        root = plant(scratch(), {f'{folder}/x.log': 'x\n' for folder in ('his/1', 'his/2', 'his/3', 'his/4', 'z')})
        for folder in (*root.glob('his/*'), root / 'z'):
            folder.chmod(0)
        server = self.serve(root=root, user=NOBODY, constants={'TOLD_MAX': 2})
        rows = {row['name']: row for row in server.get('/logs?format=json').json()['logs']}
        self.assertEqual({name: 'which gives' in row['reason'] for name, row in rows.items()},
                         {'his-1': True, 'his-2': True, 'his-3': False, 'his-4': False, 'z': True})
        self.assertEqual(rows['his-4']['reason'], f'{root}/his/4: Permission denied')

    @requires('root')
    def test_what_there_was_no_time_to_look_at_is_unknown_and_a_tokens_own_logs_are_looked_at(self) -> None:
        root = plant(scratch(), {f'{name}.log': 'x\n' for name in ('app', 'shut', 'other')})
        (root / 'shut.log').chmod(0)
        secrets = {name: logwatch.new_token() for name in ('all', 'app', 'shut')}
        scopes = {name: 'health' if name == 'all' else f'health\nlogs = {name}' for name in secrets}
        home = plant(scratch(), {'logwatch.ini': ini_tokens(**{
            name: (secret, scopes[name]) for name, secret in secrets.items()})})
        home.chmod(0o755)
        server = self.serve('--config', f'{home}/logwatch.ini', root=root, user=NOBODY,
                            constants={'CHECK_SECONDS': -1.0})

        def rows(name: str) -> list[tuple[Any, ...]]:
            found = server.get('/health/logs', bearer(secrets[name])).json()['checks']['logs:value']
            return [(row.get('componentId'), row['observedValue'], row['status']) for row in found]

        self.assertEqual(rows('all'), [('shut', 1, 'warn'), (None, None, 'pass')])
        self.assertIn('\n?     logs             1 of 3 logs were not looked at',
                      server.get('/health/logs?format=text', bearer(secrets['all'])).text)
        self.assertEqual(rows('app'), [(None, 0, 'pass')])
        self.assertEqual(rows('shut'), [('shut', 1, 'warn')])

    def test_a_mount_that_hangs_below_the_log_root_delays_no_answer(self) -> None:
        root = plant(scratch(), {'app.log': 'line\n'})
        application, mended = make_application('--log-root', str(root)), threading.Event()
        listing = logwatch.Listing

        def hanging(*arguments: Any) -> logwatch.Listing:
            mended.wait()
            return listing(*arguments)

        self.addCleanup(mended.set)
        with mock.patch.multiple(logwatch, Listing=hanging, STUCK_LOOK=0.3, COUNT_PATIENCE=0.3, VERDICT_SECONDS=0.0,
                                 GRACE_SECONDS=0.0):
            for target in ('/health', '/metrics', '/health/logs'):
                self.assertLess(seconds_of(call, application, target), 1)
            row, stuck = call(application, '/health/logs').json()['checks']['logs:value']
            self.assertEqual((row['observedValue'], stuck['observedValue']), (None, None))
            self.assertIn('looking at the logs has taken', stuck['output'])
            mended.set()
            until(lambda: call(application, '/health/logs').json()['checks']['logs:value'][0].get('observedValue') == 0,
                  'the look that was held up')

    @requires('root')
    def test_a_log_that_cannot_be_read_is_a_warning_that_names_the_fix(self) -> None:
        root = plant(scratch(), {'open.log': 'line\n', 'shut.log': 'line\n'})
        server = self.serve(root=root, user=NOBODY, constants={'TALLY_SECONDS': 0.1, 'VERDICT_SECONDS': 0.1})
        row, = server.get('/health/logs').json()['checks']['logs:value']
        self.assertEqual(row['status'], 'pass')
        (root / 'shut.log').chmod(0o600)
        until(lambda: server.get('/health/logs').json()['status'] == 'warn', 'the warning')
        reply = server.get('/health/logs')
        row, = reply.json()['checks']['logs:value']
        self.assertEqual((reply.status, row['componentId']), (200, 'shut'))
        self.assertIn(f'{root}/shut.log', row['output'])
        self.assertRegex(row['output'], r'; (setfacl -m|usermod -aG|chmod) ')
        (root / 'shut.log').chmod(0o644)
        until(lambda: server.get('/health/logs').json()['status'] == 'pass', 'the pass after the mend')

    @requires('root')
    def test_a_log_that_logrotate_will_close_to_us_is_a_warning_while_it_is_still_readable(self) -> None:
        root = plant(scratch(), {'soon.log': 'line\n', 'kept.log': 'line\n'})
        conf = scratch() / 'logrotate.conf'
        conf.write_text(f'{root}/soon.log {{\n create 0640 root adm\n}}\n'
                        f'{root}/kept.log {{\n create 0644 root adm\n}}\n')
        conf.chmod(0o644)
        server = self.serve(root=root, user=NOBODY, constants={'LOGROTATE_CONF': str(conf)})
        row, = server.get('/health/logs').json()['checks']['logs:value']
        self.assertEqual((row['status'], row['componentId'], row['observedValue']), ('warn', 'soon', 0))
        self.assertRegex(row['output'], 'log soon will be unreadable after the next rotation: .*root:adm 0640.*; '
                         'usermod -aG adm nobody')
        kept, soon = server.get('/logs?format=json').json()['logs']
        self.assertEqual((kept['readable'], 'reason' in kept, soon['readable']), (True, False, True))
        self.assertEqual(soon['fix'], 'usermod -aG adm nobody')
        self.assertIn(f'\n    warning: {soon["reason"]}\n    fix: {soon["fix"]}\n', server.get('/logs').text)
        self.assertEqual(server.get('/logs/soon').text, 'line\n')

    def test_a_rate_of_nothing_is_unknown(self) -> None:
        root = plant(scratch(), {'access.log': ''})
        server = self.serve(root=root, constants={'TALLY_SECONDS': 0.1, 'VERDICT_SECONDS': 0.1})

        def check(name: str) -> dict[str, Any]:
            (row,), = server.get(f'/health/{name}').json()['checks'].values()
            return dict(row)

        until(lambda: 'no response' in check('errors')['output'], 'two looks')
        self.assertIsNone(check('errors')['observedValue'])
        with (root / 'access.log').open('a') as file:
            file.writelines(access_entry(code) for code in (200, 500, 500, 500))
        until(lambda: check('errors')['observedValue'], 'the share')
        self.assertEqual((check('errors')['observedValue'], check('errors')['status']), (75, 'pass'))   # of too few

    def test_a_burst_of_5xx_fails_and_passes_again(self) -> None:
        root = plant(scratch(), {'access.log': ''})
        server = self.serve('--errors-fail', '50', root=root, constants={
            'TALLY_SECONDS': 0.1, 'VERDICT_SECONDS': 0.1, 'ERRORS_SECONDS': 3.0})

        def status() -> str:
            return str(server.get('/health/errors').json()['status'])

        def append(count: int, code: int) -> None:
            with (root / 'access.log').open('a') as file:
                file.writelines(access_entry(code) for _ in range(count))

        append(30, 200)
        until(lambda: 'two looks' not in server.get('/health/errors').text, 'two looks at the log')
        self.assertEqual(status(), 'pass')
        append(3, 502)
        append(27, 200)
        until(lambda: status() == 'warn', 'the warning at 3 of 30 and more')
        self.assertEqual(server.get('/health/errors').status, 200)
        append(90, 500)
        reply = until(lambda: [found for found in [server.get('/health/errors')] if found.status == 503],
                      'the failure')[0]
        self.assertRegex(reply.json()['output'], r'\d+ of \d+ responses in \S+ s were 5xx \(limit 50 %\)')
        until(lambda: status() == 'pass', 'the pass after the burst')

    def test_a_few_responses_prove_nothing(self) -> None:
        rates, tally, health = logwatch.Rates(), logwatch.Tally(), logwatch.Health(logwatch.Host())
        begin(tally)
        with mock.patch('time.monotonic', side_effect=[100.0, 110.0, 120.0]):
            self.assertEqual({check.value for check in rates.checks([tally], health)}, {None})
            tally.statuses['500'] = logwatch.ERRORS_RESPONSES - 1
            few = {check.name: check for check in rates.checks([tally], health)}
            tally.statuses['500'] += 1
            enough = {check.name: check for check in rates.checks([tally], health)}
        self.assertEqual((few['errors'].status, few['errors'].value), ('pass', 100.0))
        self.assertEqual((enough['errors'].status, enough['errors'].value), ('warn', 100.0),
                         'and who can provoke them cannot take the box out of rotation')

    def test_a_log_that_goes_takes_no_errors_of_others_along(self) -> None:
        rates, old, new, health = logwatch.Rates(), logwatch.Tally(), logwatch.Tally(), logwatch.Health(logwatch.Host())
        begin(old)
        begin(new)
        old.statuses['200'] = 10_000
        with mock.patch('time.monotonic', side_effect=[0.0, 10.0, 20.0]):
            list(rates.checks([old, new], health))
            new.statuses['500'] = 5000
            for tallies in ([new], [old, new]):     # and when it comes back, it brings no past along
                check = next(check for check in rates.checks(tallies, health) if check.name == 'errors')
                self.assertIn('5000 of 5000 responses', check.reason)

    def test_error_lines_are_a_rate_per_minute(self) -> None:
        rates, tally, health = logwatch.Rates(), logwatch.Tally(), logwatch.Health(logwatch.Host())
        begin(tally)
        with mock.patch('time.monotonic', side_effect=[0.0, 120.0]):
            list(rates.checks([tally], health))
            tally.levels.update({'err': 200, 'crit': 2, 'warning': 5000, 'none': 9})
            check = next(check for check in rates.checks([tally], health) if check.name == 'error-lines')
        self.assertEqual((check.value, check.status), (101.0, 'warn'))


def begin(tally: Any) -> None:
    """Have it as after the first look at its log."""
    tally.parts[()] = logwatch.Part(0.0)
    tally.parts[()].place = 'somewhere'


def access_entry(code: int, size: int = 5) -> str:
    """A line of an access log, of now."""
    stamp = time.strftime('%d/%b/%Y:%H:%M:%S +0000', time.gmtime())
    return f'192.0.2.7 - - [{stamp}] "GET /x HTTP/1.1" {code} {size} "-" "curl/8"\n'


class ThisMachine(Case):
    """The figures of the machine that the tests run on."""

    @requires('df', 'free', 'uptime')
    def test_disk_memory_and_uptime_equal_df_free_and_uptime(self) -> None:
        def shown(*command: str) -> list[list[str]]:
            done = subprocess.run(command, capture_output=True, text=True, check=True,
                                  env={**os.environ, 'LC_ALL': 'C'})
            return [line.split() for line in done.stdout.splitlines()]

        application = make_application('--log-root', str(scratch()))
        (before,), text, (after,) = shown('df', '-B1', '--output=size,used,avail', '/')[1:], call(
            application, '/metrics').text, shown('df', '-B1', '--output=size,used,avail', '/')[1:]
        size, free, avail = (float(re.findall(
            rf'(?m)^node_filesystem_{name}_bytes{{[^}}]*mountpoint="/",[^}}]*}} (\S+)$', text)[0])
            for name in ('size', 'free', 'avail'))
        for value, low, high in zip((size, size - free, avail), before, after, strict=True):
            least, most = sorted((int(low), int(high)))
            self.assertTrue(least - (16 << 20) <= value <= most + (16 << 20), (value, least, most))
        memory = shown('free', '-b')[1]
        self.assertEqual(sample(text, 'node_memory_MemTotal_bytes'), int(memory[1]))
        self.assertAlmostEqual(sample(text, 'node_memory_MemAvailable_bytes') or 0, int(memory[6]), delta=512 << 20)
        since = time.mktime(time.strptime(' '.join(shown('uptime', '-s')[0]), '%Y-%m-%d %H:%M:%S'))
        row, = call(application, '/health/uptime').json()['checks']['uptime:value']
        self.assertAlmostEqual(time.time() - row['observedValue'], since, delta=3)

    @requires('df')
    def test_used_percent_and_inodes_are_dfs(self) -> None:
        done = subprocess.run(['df', '--output=pcent,ipcent', '/'], capture_output=True, text=True, check=True)
        space, inodes = (int(word.rstrip('%')) if word != '-' else None for word in done.stdout.splitlines()[1].split())
        application = make_application('--log-root', str(scratch()))
        for check, percent in (('disk', space), ('inodes', inodes)):
            rows = call(application, f'/health/{check}').json()['checks'].get(f'{check}:utilization', [])
            found = [row['observedValue'] for row in rows if row['componentId'] == '/']
            with self.subTest(check):
                self.assertTrue(percent is None or abs(found[0] - percent) <= 1.01, (found, percent))


# ----------------------------------------------------------------------------------------------------------------------
# metrics: Prometheus text, beside node_exporter, in Prometheus, and out of the logs
# ----------------------------------------------------------------------------------------------------------------------

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]
# which node_exporter has had since 1.8, 1.6 and 1.12; Debian 12 ships 1.5
NEWER_LABELS = ('device_error', 'adminstate', 'rotational')
OWN = re.compile(r'(process_|node_scrape_collector_|node_time_seconds|go_|promhttp_)')  # about the exporter itself
SERIES_LINE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)')
LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|\Z)')


def read_exposition(text: str) -> tuple[dict[str, str], Series]:
    """Types by name, values by series; ValueError where text is not Prometheus text 0.0.4 as strict readers want it."""
    types: dict[str, str] = {}
    found: Series = {}
    family, closed = '', set()
    for line in text.splitlines():
        if match := re.fullmatch(r'# (HELP|TYPE) (\S+) (.+)', line):
            if match[1] == 'HELP':
                closed.add(family)
                family = match[2]
            else:
                types[family] = match[3]
            if family in closed or match[2] != family:
                raise ValueError(f'{line}: a family stands in two places')
            continue
        match = SERIES_LINE.fullmatch(line)
        labels = LABEL.findall(match[2] or '') if match else []
        if not match or match[1] != family or ''.join(f'{k}="{v}",' for k, v in labels) != (match[2] or '') + (
                ',' if match[2] else ''):
            raise ValueError(f'{line}: no sample of {family}')
        key = match[1], frozenset(pair for pair in labels if pair[0] not in NEWER_LABELS)
        if key in found:
            raise ValueError(f'{line}: twice')
        found[key] = float(match[3])
    if not text.endswith('\n') or set(types) != {name for name, _ in found}:
        raise ValueError('a type without samples, or no newline at the end')
    return types, found


class ExpositionRules(Case):
    """Prometheus text 0.0.4, of this machine."""

    def test_a_scrape_keeps_to_the_format(self) -> None:
        server = self.serve(root=plant(scratch(), {'access.log': access_entry(200), 'app.log': numbered(1, 3)}))
        reply = server.get('/metrics')
        self.assertEqual(reply.headers['Content-Type'], 'text/plain; version=0.0.4; charset=utf-8')
        types, found = read_exposition(reply.text)
        self.assertGreater(len(types), 150)
        self.assertLessEqual(set(types.values()), {'counter', 'gauge', 'untyped'})
        self.assertEqual([name for name, kind in types.items() if name.endswith('_total') and kind != 'counter'], [])
        self.assertFalse([key for key, value in found.items() if value != value or value in (float('inf'), -1.0)])
        for collector in ('cpu', 'meminfo', 'filesystem', 'diskstats', 'netdev', 'loadavg', 'stat', 'vmstat'):
            self.assertEqual(found['node_scrape_collector_success', frozenset({('collector', collector)})], 1,
                             collector)

    def test_whatever_scrapes_gets_the_same_type(self) -> None:
        server = self.serve()
        for accept in ('application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,'
                       'text/plain;version=0.0.4;q=0.5,*/*;q=0.1', 'text/plain;version=1.0.0;escaping=allow-utf-8',
                       BROWSER,
                       'application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited'):
            with self.subTest(accept):
                self.assertEqual(server.get('/metrics', {'Accept': accept}).headers['Content-Type'],
                                 'text/plain; version=0.0.4; charset=utf-8')

    def test_the_strict_reader_refuses_what_is_wrong(self) -> None:
        """The reader above is part of the proof."""
        good = '# HELP a A.\n# TYPE a gauge\na{b="c\\"\\\\"} 1\n'
        self.assertEqual(read_exposition(good)[0], {'a': 'gauge'})
        for bad in (good[:-1], good + good, good + 'a{b="c\\"\\\\"} 2\n', good + 'b 1\n', good.replace('\\"', '"'),
                    '# HELP a A.\n# TYPE a gauge\n', good.replace('{b=', '{b '), good + '\n'):
            with self.subTest(bad), self.assertRaises(ValueError):
                read_exposition(bad)

    @requires('promtool')
    def test_promtool_is_silent_but_for_node_exporters_own_names(self) -> None:
        root = plant(scratch(), {'access.log': ''})
        server = self.serve(root=root)
        server.get('/metrics')
        (root / 'access.log').write_text(access_entry(200) + access_entry(503))
        text = server.get('/metrics').body
        self.assertIn(b'logwatch_http_responses_total{log="access",status="503"} 1', text)
        done = subprocess.run([str(find_tool('promtool')), 'check', 'metrics'], input=text, capture_output=True,
                              check=False)
        accepted = re.compile(r"node_(memory|netstat)_\w+ .*not 'camelCase'|node_entropy_\w+ .* instead of \"bits\"")
        complaints = (done.stdout + done.stderr).decode().splitlines()
        self.assertEqual([line for line in complaints if not accepted.fullmatch(line)], [])


# Gauges that move while two scrapes are made, and by how much of the larger value they may differ.
RESTLESS = re.compile(r'node_(memory|filesystem_((free|avail)_bytes|files_free)|sockstat|filefd|entropy_avail|procs|'
                      r'load|netstat_Tcp_CurrEstab|'
                      r'arp|hwmon_temp|thermal|nf_conntrack_entries|disk_io_now|udp_queues|forks|softnet_backlog)')
NAMESPACES = {'net': re.compile('node_(network|netstat|sockstat|softnet|arp|udp|nf_conntrack)_'),
              'mnt': re.compile('node_filesystem_')}
NOT_HERE = re.compile(r"zram|/run/credentials|'/(run|mnt|media)/|'lo'")  # excluded since 1.6, or by Debian's patch


def same_namespace(kind: str) -> bool:
    """Whether this process is in PID 1's namespace; unknown (not root) is yes, as on any ordinary box."""
    with contextlib.suppress(OSError):
        return os.readlink(f'/proc/1/ns/{kind}') == os.readlink(f'/proc/self/ns/{kind}')
    return True


@requires('prometheus-node-exporter')
class BesideNodeExporter(Case):
    """Debian's node_exporter, scraped before and after logwatch: what both serve, both serve alike."""

    ours: Series
    before: Series
    after: Series
    types: tuple[dict[str, str], dict[str, str]]
    texts: tuple[str, str]

    @classmethod
    def setUpClass(cls) -> None:
        address = ('127.0.0.1', free_port())
        exporter = subprocess.Popen(
            [str(find_tool('prometheus-node-exporter')), f'--web.listen-address={address[0]}:{address[1]}'],
            stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=clean_environment())
        cls.addClassCleanup(exporter.wait)
        cls.addClassCleanup(exporter.terminate)
        server = cls.serve_class()

        def theirs() -> str:
            with contextlib.suppress(OSError, EOFError):
                return fetch(address, '/metrics').text
            return ''

        until(theirs, 'node_exporter to serve')
        server.get('/metrics')  # what is imported and read for the first time takes longer
        before, ours, after = theirs(), server.get('/metrics').text, theirs()
        types, cls.before = cls.theirs(before)
        our_types, cls.ours = read_exposition(ours)
        cls.after = cls.theirs(after)[1]
        cls.types = (our_types, types)
        cls.texts = (ours, before)

    @staticmethod
    def theirs(text: str) -> tuple[dict[str, str], Series]:
        """What node_exporter says, without what it says of itself (its histograms are no plain families)."""
        blocks = re.split(r'(?m)^(?=# HELP )', text)
        return read_exposition(''.join(block for block in blocks if block.startswith('# HELP node_')))

    def shared(self) -> set[str]:
        """Names that both serve; not of a namespace that is not PID 1's: logwatch says what the host sees."""
        foreign = [names for kind, names in NAMESPACES.items() if not same_namespace(kind)]
        return {name for name in self.types[0].keys() & self.types[1].keys()
                if not OWN.match(name) and not any(names.match(name) for names in foreign)}

    def test_most_of_it_is_shared(self) -> None:
        self.assertGreater(len(self.shared()), 130)

    def test_shared_names_have_the_same_type(self) -> None:
        ours, theirs = ({name: types[name] for name in self.shared()} for types in self.types)
        self.assertEqual(ours, theirs)

    def test_shared_names_have_the_same_help_or_one_of_ours(self) -> None:
        """What dashboards show; of rare ones (disks, sockets) the name in words."""
        ours, theirs = (dict(re.findall(r'(?m)^# HELP (\S+) (.*)$', text)) for text in self.texts)
        same = {name for name in self.shared() if ours[name] == theirs[name]}
        rare = re.compile('node_(disk|sockstat|nf_conntrack|softnet|schedstat|pressure|os|scrape|arp|udp)_')
        rest = {name for name in self.shared() - same if not rare.match(name)}
        self.assertGreater(len(same), 100)
        self.assertEqual({name: (ours[name], theirs[name]) for name in rest}, {})

    def test_shared_names_have_the_same_series(self) -> None:
        names = self.shared()
        ours, before, after = ({key for key in series if key[0] in names and not NOT_HERE.search(str(key[1]))}
                               for series in (self.ours, self.before, self.after))
        self.assertEqual(before & after - ours, set())
        self.assertEqual(ours - before - after, set())

    def test_shared_gauges_are_equal_and_counters_in_between(self) -> None:
        keys = {key for key in self.ours.keys() & self.before.keys() & self.after.keys() if key[0] in self.shared()}
        self.assertGreater(len(keys), 180)
        for key in keys:
            name, value = key[0], self.ours[key]
            low, high = sorted((self.before[key], self.after[key]))
            slack = 0.1 * max(abs(high), 100.0) + (64 << 20 if name.endswith('_bytes')
                                                   else 0) if RESTLESS.match(name) else 1e-6
            if self.types[0][name] != 'gauge' and not RESTLESS.match(name):
                slack = 0.05 + 1e-9 * high  # a tick or two of the CPU clock: idle and iowait do go back
            with self.subTest(name, labels=sorted(key[1])):
                self.assertTrue(low - slack <= value <= high + slack, (low, value, high))

    def test_no_name_that_dashboards_query_is_missing(self) -> None:
        """But for the speed of a device that has none, which node_exporter serves as a negative number."""
        wanted = {f'node_{name}' for name in QUERIED.split()}
        missing = (wanted & self.types[1].keys()) - self.types[0].keys() - {'node_timex_sync_status',
                                                                            'node_network_speed_bytes'}
        self.assertEqual(missing, set())


PROMETHEUS = """
global: {{scrape_interval: 500ms, scrape_timeout: 400ms}}
scrape_configs:
- job_name: node
  metrics_path: /metrics
  authorization: {{credentials: {secret}}}
  static_configs: [{{targets: ['127.0.0.1:{port}']}}]
"""


@requires('prometheus')
class RealPrometheus(Case):
    """Debian's Prometheus scrapes it, with a token."""

    def ask(self, port: int, expression: str) -> list[float]:
        """The values of an instant query; [] while Prometheus starts."""
        with contextlib.suppress(OSError, EOFError, ValueError, KeyError):
            reply = fetch(('127.0.0.1', port), '/api/v1/query?query=' + urllib.parse.quote(expression))
            return [float(row['value'][1]) for row in reply.json()['data']['result']]
        return []

    def test_it_is_up_without_a_dropped_or_duplicate_sample(self) -> None:
        secret = logwatch.new_token()
        home = plant(scratch(), {'logwatch.ini': ini_tokens(prometheus=(secret, 'metrics'))})
        server = self.serve('--config', f'{home}/logwatch.ini')
        plant(home, {'prometheus.yml': PROMETHEUS.format(secret=secret, port=server.address[1])})
        port, errors = free_port(), home / 'stderr'
        with errors.open('wb') as stderr:
            process = subprocess.Popen(
                [str(find_tool('prometheus')), f'--config.file={home}/prometheus.yml',
                 f'--storage.tsdb.path={home}/data',
                 f'--web.listen-address=127.0.0.1:{port}', '--log.level=debug'], stderr=stderr, stdout=stderr,
                env=clean_environment(), cwd=home)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        until(lambda: self.ask(port, 'count_over_time(up[1m])')[:1] >= [3.0], 'three scrapes', 20)
        self.assertEqual(self.ask(port, 'min_over_time(up[1m])'), [1.0])
        self.assertGreater(self.ask(port, 'scrape_samples_scraped')[0], 300)
        self.assertEqual(self.ask(port, 'scrape_samples_scraped - scrape_samples_post_metric_relabeling'), [0.0])
        self.assertEqual(len(self.ask(port, 'node_uname_info{job="node"}')), 1, 'without it dashboard 1860 stays blank')
        self.assertTrue(self.ask(port, 'rate(node_cpu_seconds_total{mode="idle"}[1m])'))
        said = errors.read_text()
        faults = [line for line in said.splitlines() if re.search(
            r'level=(warn|error)|component="scrape manager".*(duplicate|out.of.order|out of bounds|err=)', line)]
        self.assertEqual(faults, [])


def ini_tokens(**tokens: tuple[str, str]) -> str:
    """[token NAME] sections of NAME: (secret, further lines or scopes)."""
    return ''.join(f'[token {name}]\ndigest = {logwatch.token_digest(secret)}\nscopes = {scopes}\n'
                   for name, (secret, scopes) in tokens.items())


class LogFigures(Case):
    """logwatch_log_bytes_total, logwatch_log_lines_total and logwatch_http_responses_total."""

    def setUp(self) -> None:
        self.root = scratch()
        self.path = self.root / 'access.log'
        self.sent: Counter[str] = Counter()
        self.bytes = 0
        self.path.write_text(access_entry(200) * 3)
        self.application = make_application('--log-root', str(self.root))
        self.enterContext(mock.patch.object(logwatch, 'VERDICT_SECONDS', 0.0))

    def append(self, **codes: int) -> None:
        """Write so many lines of each status: c200=3. No two are the same, as in a log that is written by a clock:
        what tells a file from its copy is its bytes, and its time as the kernel counts it, in ticks of 4 or 10 ms."""
        for code, count in codes.items():
            lines = ''.join(access_entry(int(code[1:]), 10_000 + self.sent.total() + place) for place in range(count))
            with self.path.open('a') as file:
                file.write(lines)
            self.sent[code[1:]] += count
            self.bytes += len(lines)

    def scrape(self) -> tuple[dict[str, int], int, int]:
        """Responses by status, lines, bytes, of the log 'access'."""
        types, found = read_exposition(call(self.application, '/metrics').text)
        self.assertEqual({types.get(f'logwatch_{name}', 'counter') for name in words(
            'log_bytes_total log_lines_total http_responses_total')}, {'counter'})
        rows = {name: {dict(labels).get('status', ''): int(value) for (metric, labels), value in found.items()
                       if metric == name} for name in ('logwatch_http_responses_total', 'logwatch_log_bytes_total')}
        lines = sum(int(value) for (metric, _), value in found.items() if metric == 'logwatch_log_lines_total')
        counted = {status: count for status, count in rows['logwatch_http_responses_total'].items() if count}
        return counted, lines, rows['logwatch_log_bytes_total']['']

    def assertCounted(self, moment: str) -> None:
        with self.subTest(moment):
            self.assertEqual(self.scrape(), (dict(self.sent), self.sent.total(), self.bytes))

    def test_a_log_makes_no_number_of_series_that_it_likes(self) -> None:
        """A thousand for each of 300 files of 65 kB were 440 MB, more than the unit allows."""
        self.scrape()
        self.append(**{f'c{status}': 1 for status in range(100, 600)})
        counts = self.scrape()[0]
        failed = sum(count for status, count in counts.items() if status.startswith('5'))
        self.assertEqual((sum(counts.values()), failed), (500, 100))
        self.assertLess(len(counts), 50)

    def test_very_many_logs_make_no_number_of_series_that_they_like(self) -> None:
        """200 000 of 4000 logs were 298 MB. Those that were there first stay."""
        plant(self.root, {f'{name}.log': 'x\n' for name in 'pqz'})

        def counted() -> tuple[set[str], float | None]:
            text = call(self.application, '/metrics').text
            names = set(re.findall(r'logwatch_log_bytes_total{log="(.+?)"}', text))
            return names, sample(text, 'logwatch_logs_uncounted')

        self.assertEqual(counted(), ({'access', 'p', 'q', 'z'}, 0))
        (self.root / 'q.log').unlink()
        with mock.patch.object(logwatch, 'COUNTED_MAX', 4):
            plant(self.root, {f'{name}.log': 'x\n' for name in 'abc'})
            self.assertEqual(counted(), ({'access', 'p', 'z', 'a'}, 2))
            (self.root / 'z.log').unlink()
            self.assertEqual(counted(), ({'access', 'p', 'a', 'b'}, 1))

    def test_who_fills_a_folder_with_logs_has_none_of_others_left_out(self) -> None:
        plant(self.root, {f'app/{number}.log': 'x\n' for number in range(20)} | {'nginx/access.log': access_entry(200)})
        with mock.patch.object(logwatch, 'COUNTED_MAX', 5), mock.patch.object(logwatch, 'TALLY_SECONDS', 0.0):
            text = call(self.application, '/metrics').text
            health = call(self.application, '/health/logs?format=text').text
        self.assertEqual({name.partition('-')[0] for name in re.findall('log_bytes_total{log="(.+?)"', text)},
                         {'access', 'nginx', 'app'})
        self.assertEqual(sample(text, 'logwatch_logs_uncounted'), 17)
        self.assertIn('17 of them are not counted', health)

    @requires('root')
    def test_a_closed_folder_with_the_name_of_a_log_takes_not_its_place(self) -> None:
        (self.root / 'access').mkdir(0o700)
        server = self.serve(root=self.root, user=NOBODY)
        until(lambda: 'logwatch_log_bytes_total{log="access"} 0\n' in server.get('/metrics').text, 'the first look')
        self.append(c200=1)
        self.assertIn(f'logwatch_log_bytes_total{{log="access"}} {self.bytes}\n', server.get('/metrics').text)

    def test_each_file_that_a_glob_matches_is_counted_by_itself(self) -> None:
        """Each was the newest in turn, and was counted whole again."""
        self.application = make_application('--log', f'access={self.root}/*.log')
        other, before = self.root / 'other.log', access_entry(200) * 9
        other.write_text(before)
        self.assertEqual(self.scrape(), ({}, 0, 0))
        for turn in range(1, 5):
            self.append(c200=1)
            self.assertCounted(f'one more, {turn}')
            line = access_entry(404, turn)
            with other.open('a') as file:
                file.write(line)
            self.sent['404'] += 1
            self.bytes += len(line)
            self.assertCounted(f'one more of the other, {turn}')
        for path in (self.path, other):
            path.rename(f'{path}.away')
        self.assertCounted('both are away for a while')
        for path in (self.path, other):
            Path(f'{path}.away').rename(path)
        self.assertCounted('and back')
        other.unlink()
        self.append(c200=1)
        self.assertCounted('the other is gone, and no counter goes back')
        late = access_entry(503) * 2
        (self.root / 'late.log').write_text(late)
        self.sent['503'] += 2
        self.bytes += len(late)
        self.assertCounted('a third has come, and counts from its beginning')

    def test_only_what_is_appended_counts(self) -> None:
        self.assertEqual(self.scrape(), ({}, 0, 0))
        self.append(c200=5, c404=2, c503=1)
        self.assertCounted('after the first lines')
        self.assertCounted('when nothing came')
        self.append(c200=1)
        self.assertCounted('after one more')
        text = call(self.application, '/metrics').text
        self.assertEqual(sample(text, 'logwatch_log_lines_total{log="access",level="err"}'), 1)
        self.assertEqual(sample(text, 'logwatch_log_lines_total{log="access",level="warning"}'), 2)

    def test_what_is_usual_begins_at_0_so_that_a_first_error_has_a_rate(self) -> None:
        plant(self.root, {'app.log': '2026-01-02T03:04:05Z hello\n'})

        def served(series: str) -> dict[str, int]:
            text = call(self.application, '/metrics').text
            return {label: int(value) for label, value in re.findall(rf'(?m)^logwatch_{series}="(\w+)"}} (\d+)$', text)}

        levels = dict.fromkeys(words('emerg alert crit err warning'), 0)
        statuses = dict.fromkeys(words('200 301 302 304 400 401 403 404 429 499 500 502 503 504'), 0)
        self.assertEqual(served('log_lines_total{log="app",level'), levels)
        self.assertEqual(served('log_lines_total{log="access",level'), levels)
        self.assertEqual(served('http_responses_total{log="access",status'), statuses)
        self.assertEqual(served('http_responses_total{log="app",status'), {}, 'which is no access log')
        self.append(c502=1, c418=1)
        self.assertEqual(served('http_responses_total{log="access",status'), statuses | {'502': 1, '418': 1})
        self.assertEqual(served('log_lines_total{log="access",level'), levels | {'err': 1, 'warning': 1})

    def test_a_log_that_appears_later_counts_from_its_beginning(self) -> None:
        def counted(name: str) -> float | None:
            return sample(call(self.application, '/metrics').text, f'logwatch_log_bytes_total{{log="{name}"}}')

        self.assertEqual(counted('access'), 0, 'what is found at the start counts from its end')
        moved = ''.join(f'2026-01-02T03:04:05Z line {number}\n' for number in range(9))
        for name, text, expected in (('begun', access_entry(503) * 3, -1), ('plain', 'line\n' * 7, -1),
                                     ('unfinished', access_entry(200) + 'and a half', len(access_entry(200))),
                                     ('moved', moved, 0), ('moved-plain', 'line\n', 0)):
            with self.subTest(name):
                files = {f'{name}.log': text} | ({f'{name}.log.1': moved} if name == 'moved-plain' else {})
                plant(self.root, files)
                self.assertEqual(counted(name), len(text) if expected < 0 else expected)
                with (self.root / f'{name}.log').open('a') as file:
                    file.write('\n')
                self.assertGreater(counted(name) or 0, expected)
        text = call(self.application, '/metrics').text
        self.assertEqual(sample(text, 'logwatch_http_responses_total{log="begun",status="503"}'), 3)

    def test_a_log_that_is_begun_after_the_clock_was_set_back_counts_from_its_beginning(self) -> None:
        self.scrape()
        plant(self.root, {'late.log': 'line\n' * 7})
        with mock.patch('time.time', return_value=time.time() - 3600):
            text = call(self.application, '/metrics').text
        self.assertEqual(sample(text, 'logwatch_log_bytes_total{log="late"}'), 35)

    def test_a_log_that_appears_later_counts_as_far_as_there_is_time_and_goes_on(self) -> None:
        self.scrape()
        text = access_entry(200) * 20_000
        with mock.patch.object(logwatch, 'COUNT_SECONDS', 0.02):
            plant(self.root, {'late.log': text})
            series = 'logwatch_http_responses_total{log="late",status="200"}'
            first = sample(call(self.application, '/metrics').text, series) or 0
            until(lambda: sample(call(self.application, '/metrics').text, series) == 20_000, 'all of them')
        self.assertLess(first, 20_000)

    @requires('root')
    def test_a_log_that_was_closed_to_us_counts_from_its_end_once_it_is_opened(self) -> None:
        server = self.serve(root=self.root, user=NOBODY)
        self.assertIn('log="access"', server.get('/metrics').text)
        old = ''.join(f'2026-01-02T03:04:05Z line {number}\n' for number in range(9))
        plant(self.root, {'shut.log': old})
        (self.root / 'shut.log').chmod(0o600)
        self.assertNotIn('log="shut"', server.get('/metrics').text)
        (self.root / 'shut.log').chmod(0o644)
        until(lambda: 'logwatch_log_bytes_total{log="shut"} 0\n' in server.get('/metrics').text, 'the first look')

    def test_a_line_counts_once_it_is_whole(self) -> None:
        self.scrape()
        line = access_entry(200)
        with self.path.open('a') as file:
            file.write(line[:40])
        self.assertEqual(self.scrape()[0], {})
        with self.path.open('a') as file:
            file.write(line[40:])
        self.sent['200'] += 1
        self.bytes += len(line)
        self.assertCounted('whole')

    def rotate(self, *directives: str) -> None:
        """A real run of logrotate."""
        conf = self.root.parent / f'{self.root.name}.conf'
        conf.write_text('\n'.join([f'{self.path} {{', 'rotate 9', 'missingok', *directives, '}', '']))
        self.addCleanup(conf.unlink, missing_ok=True)
        conf.chmod(0o644)
        subprocess.run([str(find_tool('logrotate')), '-f', '-s', f'{conf}.state', str(conf)], check=True,
                       capture_output=True)
        self.addCleanup(Path(f'{conf}.state').unlink, missing_ok=True)

    @requires('logrotate')
    def test_they_are_right_across_rotations(self) -> None:
        for directives in (('create', 'compress'), ('create', 'compress', 'delaycompress'),
                           ('create', 'dateext', 'dateformat -%Y%m%d-%s'), ('nocreate',)):
            with self.subTest(directives):
                self.setUp()
                self.scrape()
                for turn in range(2):
                    self.append(c200=4 + turn, c500=1)
                    if turn != 1:
                        self.assertCounted(f'turn {turn}, before')
                    self.append(c301=2)
                    self.rotate(*directives)
                    self.append(c200=3)
                    self.assertCounted(f'turn {turn}, after')
                    time.sleep(1.05 if 'dateext' in directives else 0.0)  # its names count in seconds

    @requires('logrotate')
    def test_copytruncate_counts_nothing_twice(self) -> None:
        self.scrape()
        for turn in range(3):
            self.append(c200=4 + turn, c500=1)
            self.assertCounted(f'turn {turn}, before')
            self.rotate('copytruncate')
            self.assertCounted(f'turn {turn}, truncated')
            self.append(c200=2)
            self.assertCounted(f'turn {turn}, after')

    def test_lines_written_between_a_rename_and_the_reopening_count(self) -> None:
        self.scrape()
        with self.path.open('a') as old:
            self.path.rename(self.root / 'access.log.1')
            self.path.write_text('')
            self.scrape()
            old.write(access_entry(200))
            self.sent['200'] += 1
            self.bytes += len(access_entry(200))
        self.append(c404=1)
        self.assertCounted('both files')

    def test_more_than_a_scrape_counts_is_caught_up_with(self) -> None:
        self.scrape()
        with mock.patch.object(logwatch, 'TALLY_LINES', 50):
            self.append(c200=180)
            until(lambda: self.scrape()[0] == {'200': 180}, 'all lines to be counted')
        self.assertCounted('caught up')

    def test_a_count_that_runs_out_of_time_goes_on_at_the_next_scrape(self) -> None:
        """Also where nothing is written any more."""
        self.scrape()
        with mock.patch.object(logwatch, 'COUNT_SECONDS', 0.02):
            self.append(c200=30_000)
            first = self.scrape()[0].get('200', 0)
            until(lambda: self.scrape()[0].get('200', 0) == 30_000, 'all of them')
        self.assertLess(first, 30_000)

    def test_a_hole_in_a_log_is_passed_by(self) -> None:
        """A terabyte of it took 1 s of each count for ever: it began at the same place each time."""
        self.append(c200=100)
        self.assertEqual(self.scrape(), ({}, 0, 0))
        before = self.bytes
        os.truncate(self.path, self.path.stat().st_size + (1 << 40))
        self.append(c503=3)
        read = Counter[str]()
        pread = os.pread

        def counted(fd: int, count: int, offset: int) -> bytes:
            read['bytes'] += count
            return pread(fd, count, offset)

        with mock.patch('os.pread', counted):
            self.assertEqual(self.scrape(), ({'503': 2, 'none': 1}, 3, self.bytes - before + (1 << 40)))
        self.assertLess(read['bytes'], 1 << 20)

    def test_a_line_that_takes_all_the_time_is_passed_by_once(self) -> None:
        self.append(c200=100)
        self.assertEqual(self.scrape(), ({}, 0, 0))
        before = self.bytes
        self.append(c404=1)
        hole = 40 << 20
        with self.path.open('ab') as log:
            log.write(bytes(hole))
        places: list[int] = []
        pread, spend = os.pread, logwatch.Budget.spend

        def noted(fd: int, count: int, offset: int) -> bytes:
            places.extend([offset] if count == logwatch.BLOCK_BYTES else [])
            return pread(fd, count, offset)

        def spent(budget: Any, count: int) -> bool:       # the time is over after so many bytes
            if budget.bytes > 6 << 20:
                budget.stop = 'deadline'
            return bool(spend(budget, count))

        with mock.patch('os.pread', noted), mock.patch.object(logwatch.Budget, 'spend', spent):
            for _ in range(12):
                _, lines, size = self.scrape()
        self.assertEqual((lines, size), (2, self.bytes - before + hole))
        self.assertLessEqual(len(places) - len(set(places)), 1, 'of which a block at most is read twice')
        with self.path.open('a') as file:
            file.write('\n')
        self.append(c503=3)
        self.assertEqual(self.scrape(), ({'404': 1, '503': 3, 'none': 1}, 5, self.bytes - before + hole + 1))

    @requires('root')
    def test_a_log_that_cannot_be_read_has_no_series(self) -> None:
        self.path.chmod(0o600)
        server = self.serve(root=self.root, user=NOBODY)
        self.assertNotIn('log="access"', server.get('/metrics').text)
        self.path.chmod(0o644)
        until(lambda: 'logwatch_log_bytes_total{log="access"} 0\n' in server.get('/metrics').text, 'the first look')

    def test_a_log_that_goes_takes_its_series_along(self) -> None:
        self.append(c200=1)
        self.scrape()
        self.path.unlink()
        (self.root / 'other.log').write_text('x\n')
        self.assertNotIn('log="access"', call(self.application, '/metrics').text)

    def test_a_scrape_reads_what_was_appended_and_no_more(self) -> None:
        self.path.write_bytes(access_entry(200).encode() * 200_000)
        self.scrape()
        process = Path('/proc/self/io')
        if not process.exists():
            self.skipTest('needs /proc/self/io')

        def read_bytes() -> int:
            return int(re.findall(r'rchar: (\d+)', process.read_text())[0])

        self.append(c200=1)
        before = read_bytes()
        self.scrape()
        self.assertLess(read_bytes() - before, 2 << 20, 'of 18 MB')

    def test_it_counts_what_masking_hides_but_never_shows_it(self) -> None:
        with self.path.open('a') as file:
            file.write(access_entry(200).replace('/x', '/x?token=hunter2'))
        self.scrape()
        self.append(c200=1)
        self.assertNotIn('hunter2', call(self.application, '/metrics').text)


# ----------------------------------------------------------------------------------------------------------------------
# trust: masking, pseudonyms, tokens, limits, the command line
# ----------------------------------------------------------------------------------------------------------------------

# Each secret stands between « and », or ‹ and › where the mask is a string; the marks are removed before the test.
SECRET_LINES = r'''
> Authorization: «Basic dXNlcjpwYXNz»
authorization: «Bearer abc.def-123»
Proxy-Authorization: «Basic Zm9vOmJhcg==»
{"headers":{"Authorization":"«Bearer s3cr3tvalue»","Host":"x"}}
'Authorization': '«Token 9944b09199c62bcf»', 'Accept': '*/*'
curl -H "Authorization: «Bearer abcdefghij123456»" https://x/
Authorization: «Digest username="bob", realm="x", response="6629fae49393a05397450978507c4ef1"»
{"m":"Authorization: «Basic dXNlcjpwYXNz»\r\nHost: x"}
Authorization: «AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/2015/us, Signature=5d672d79c15b13162d9279b0855cfba6»
Cookie: «PHPSESSID=298zf09hf012fh2; csrf=u32t4o3tb3gg43; _gat=1»
Set-Cookie: «sid=31d4d96e407aad42; Path=/; HttpOnly»
{"cookie":"«a=b; c=d»","ua":"x"}
got bearer «eyssak3j4h5kj3h45»
token «eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U» rejected
/cb?id=%22«eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln»
"GET /login?user=bob&password=«hunter2» HTTP/1.1" 200 12
"GET /x?api_key=«12345»&page=2 HTTP/1.1" 200 "https://y/?token=«abc»"
"GET /f?X-Amz-Signature=«aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404» HTTP/1.1"
"GET /blob?sv=2020&sig=«Zm9v%2Bbar%3D»&se=2026 HTTP/1.1"
"GET /r?to=https%3A%2F%2Fx%2F%3Ftoken%3D«abc123»%26page%3D2 HTTP/1.1"
level=info msg=login user=bob password=«pa,ss;w&rd» ip=1.2.3.4
password=«secret», user=bob
Server=db;Uid=sa;Pwd=«Abc!123»;Database=x
{"user":"bob","password":"«a\"b c»","n":1}
{"msg":"body {\"password\":\"«hunter2»\",\"x\":1}"}
{"token": "«abc»"}
{"access_token":"«xyz»","token_type":"bearer"}
client_secret=«GOCSPX-abc»
"password"=>"«topsecret»", "user"=>"bob"
db_password: «hunter2»
password: «correcthorse»
password: «hunter» user: bob
  passphrase = '«two words»'
user[password]=«abc»&user[name]=x
password[]=«abc»&password%5B%5D=«abc»&user%5Bpassword%5D=«abc»
password_confirmation=«abc»
AWS_SECRET_ACCESS_KEY=«wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY»
key id «AKIAIOSFODNN7EXAMPLE» used
X-Api-Key: «0123456789abcdef»
;jsessionid=«0A1B2C3D»
postgres://bob:«s3cr3t»@db.example.org:5432/app
remote: https://user:«ghp_abc:x@y»@github.com/x.git
COMMAND=/usr/bin/mysqldump --password «hunter2» --all
COMMAND=/usr/bin/mysql --password=«hunter2» db
MYSQL_PWD=«hunter2»
%22password%22%3A%22«hunter2»%22%2C%22x%22
csrf_token=«d41d8cd98f00»
secret:«0xdeadbeef»
PASSWORD=«UPPER9»
{"password":‹[masked]›,"user":"bob"}
{"password":‹{"v":"S","w":["T",{"x":"}"}]}›,"user":"bob"}
{"a":{"token":‹["S","T"]›},"b":"c"}
{"cookie":‹{"sid":"S"}›,"ua":"x"}
{"Cookie":‹["sid=abc"]›}
{"cookies":‹{"sid":"S"}›,"tokens":‹["S","T"]›,"secrets":‹[{"v":1}]›}
{"authorization":‹["Bearer S"]›,"x":1}
{'password': «{'v': 'S'}», 'user': 'bob'}
{ secret: «{ value: 'S' }», n: 1 }
?json=%7B%22password%22%3A«%7B%22v%22:%22S%22%7D»"
\x22password\x22:«{\x22v\x22:\x22S\x22}»,\x22x\x22:1
{"secret":‹{"name":"x"}›}
{"password":‹{{{{{{"v":"S"}}}}}}›
{"password":"«abc\\»","user":"bob"}
{"password":"«\"»","user":"bob"}
{"password":"«a\"b\\»","user":"bob","token":"«c»"}
{"m":"{\"password\":\"«abc\\\\»\",\"x\":1}"}
{"m":"{\"password\":\"«a\\\"b»\",\"x\":1}"}
{"m":"cut {\"password\":\"«abc»","x":1}
{\x22password\x22:\x22«a\x5C\x22b»\x22,\x22x\x22:1}
{"u":"a=1\u0026token\u003d«S»\u0026page\u003d2"}
a=1\x26token\x3d«S»\x26page\x3d2
"GET /x?tok%65n=«S%41»&page=2 HTTP/1.1"
"GET /x?api%5Fkey=«S»&p%61ss%77ord%3D«T» HTTP/1.1"
{"pass\u0077ord":"«S»","user":"bob"}
{"url":"https:\/\/user:«S»@host\/"}
Cookie: «a="S"; b=T;  c='U'»
cookie:  «sid=S»
{"m":"Cookie: «a=\"S\"; b=T»"}
cookie: "«a=b; c=d»", host: "x"
token=«none;S» password=«nullS»
token=«(S)» password=«[S]x» secret=«<S»
password=«{S»
password=«[masked]S» x
Authorization: «[masked]S»
<password>«S»</password><user>bob</user>
<wsse:Password Type="x#PasswordText">«S & s»</wsse:Password>
<secret>«<![CDATA[S]]>»</secret>
\u003cpassword\u003e«S»\u003c/password\u003e &lt;token&gt;«S»&lt;/token&gt;
cloned with ghp_«0123456789abcdefABCDEF0123456789abcd» and gho_«0123456789abcdefABCDEF0123456789abcd»
github_pat_«11ABCDEFG0123456789abc_0123456789abcdefABCDEF0123456789abcdefABCDEF0123456789abcdefABCDEF0»
"ghs_«0123456789abcdef01»"
CI_JOB glpat-«x_y-0123456789abcdef» done
OPENAI sk-proj-«abcdEFGH1234567890abcdEFGH», sk-ant-«api03-AbCdEf1234567890_AbCdEf-1», npm_«AbCdEfGhIjKl0123456789»
slack xoxb-«123456789012-123456789012-abcdefABCDEF», xoxp-«1234567890-1234567890»
stripe sk_live_«0123456789abcdefABCDEF01» rk_live_«0123456789abcdefABCDEF01»
/maps?x=AIza«SyA-0123456789abcdefghijklmnopqrstu»&y=1
COMMAND=/usr/bin/mysql -u root -p«S» db
COMMAND=/usr/bin/mysqldump --all -p'«S»'
COMMAND=/usr/bin/curl -fsSu user:«S» https://x/
COMMAND=/usr/bin/curl -X PUT --user 'user:«S»' https://x/
["curl","-u","user:«S»"]
app --api-key «S» --db-password «S» --token=«S» --client-secret "«S s»"
["app","--password","«S»","--token","«T»"]
{"cookie":‹5331›,"end":1}
{"authorization":‹401›}
{"a":{"authorization": ‹401› },"n":1}
"Authorization": ‹Basic}x›
{"cmd":["mysql","-uroot","-p«S»","mydb"]}
{"log":"{\"cmd\":\"mysql -p«abc»\"}\n"}
{"level":"error","msg":"Authorization: «Digest username=\"bob\", response=\"6629fae4\"»","n":1}
{"level":"error","msg":"Authorization: «AWS4-HMAC-SHA256 Credential=A/b, Signature=5d67»","n":1}
{"msg":"?json=%7B%22password%22%3A«%7B%22v%22:%22S%22%7D»\"","n":1}
{"msg":"password=«{S»","n":1}
password="«abc»",x=1
password='«S»', "x": 1
password="«,S»",x="1"
password="«}S»" secret='«]»'
password="«: S»"
SECRET_KEY_BASE=«S» RAILS_MASTER_KEY=«S» APP_KEY=«base64:S=» ENCRYPTION_KEY=«S» SIGNING_KEY=«S»
AccountName=x;AccountKey=«S==»;EndpointSuffix=core.windows.net
{"privateKey":"«S»","PrivateKey":"«T»","passwordConfirm":"«S»","password_digest":"«S»"}
password_new=«S»&password_repeat=«S»&password[0]=«S»&password%5B0%5D=«S»&token_value=«S»
session-id: «S»
SET `password`='«S»', `token` = «T»
CREATE USER bob WITH PASSWORD '«S s»' VALID UNTIL 'x'
CREATE USER 'bob' IDENTIFIED BY '«S»'; ALTER USER x IDENTIFIED WITH mysql_native_password BY '«S»';
DETAIL:  Key (reset_token)=«(S)» already exists.
app --secret-key «S» --admin-password «S» --registration-token «S» -token «S» -password «S»
app --password  «S» --token	«T»
password: Some("«S s»")
{"token":"«none\"S»","password":"«nonesuch»"}
{"pwd":"«/S»","PWD":"«~S»","sig":"«3e»"} {"pwd":"«\"/S»"}
login password:«amd64x» passwd:«hunter»
encryptionKey=«S» encryption_key: «S» signingKey=«S» clientSecret=«S» {"encryptionKey":"«S»"}
psk=«S» bindpw=«S» rootpw: «S» {"pw":"«S»"} pw=«S» connect.sid=«s%3AS.T» PSK=«S»
[{"name":"DB_PASSWORD","value":"«S»"},{"name": "TOKEN", "value": "«S s»"},{"name":"PSK","value":‹5›}]
{'name': 'DB_PASSWORD', 'value': '«S»'} {"log":"{\"name\":\"API_KEY\",\"value\":\"«S»\"}\n"}
<entry name="password">«S»</entry><property name='db.password'>«S»</property>
<add key="ApiKey" value="«S»"/><add name='x' key='Secret' value='«S s»' /> <input name="token" value="«S»">
{"m":"<add key=\"ApiKey\" value=\"«S»\"/> <entry name=\"password\">«S»</entry>"}
SET PASSWORD FOR 'bob' = PASSWORD('«S»'); hash_password("«S»")
CREATE USER bob IDENTIFIED BY "«S»"; GRANT x TO y IDENTIFIED BY PASSWORD '«*S»'
COMMAND=/usr/bin/sshpass -p «S» ssh -p 2222 host
COMMAND=/usr/bin/sshpass -p«S» ssh host
COMMAND=/usr/bin/redis-cli -h db -a «S» ping
COMMAND=/usr/bin/openssl enc -aes-256-cbc -k «S» -in x
COMMAND=/usr/bin/openssl rsa -passin pass:«1234» -in x -passout pass:«S»
["redis-cli","-a","«S»"] ["sshpass","-p","«S»","ssh"] ["openssl","enc","-k","«S»"]
hook whsec_«abcdefABCDEF0/123456+89abcd=» vault hvs.«CAESIabcdefABCDEF0123456789»
google ya29.«a0AfB_byC-0123456789abcdef» GOCSPX-«abcdefABCDEF0123456789abcd»
posted to https://hooks.slack.com/services/«T00000000/B00000000/Xabc0123456789defABCDEF01» (404)
{"url":"https:\/\/hooks.slack.com\/services\/«T0\/B0\/Xabc01234»"} https%3A%2F%2Fhooks.slack.com%2Fservices%2F«T0%2FB0»
{'password': b'«S»', 'token': SecretStr('«S»'), 'secret': u'«S»'}
UPDATE u SET password = E'«S»', password = N'«S s»', password = crypt('«S»', gen_salt('bf'))
DB_PASSWORD=$'«S»'
password = '«it''s S»', x='y'
/?password=«it'sS»&b=1
password=«x"S»
{"msg":"token: «f(»","n":1}
{"msg":"password: Some(\"«S»\")","n":1}
key -----BEGIN PRIVATE KEY-----«\nMIIEvQ\nabc==\n»-----END PRIVATE KEY----- end
'''.strip('\n').split('\n')

# What only the host behind it tells as a password; cut before, it is any word.
DSN_LINES = r"""
DSN=app:«S»@tcp(db.example.org:3306)/app?parseTime=true
{"dsn":"app:«p@S:s»@unix(/run/mysqld/mysqld.sock)/app"}
jdbc:oracle:thin:scott/«S»@//db.example.org:1521/orcl
COMMAND=/usr/bin/sqlplus scott/«S»@//db.example.org/orcl
""".strip('\n').split('\n')

HARMLESS_LINES = r'''
password changed for root
token expired
Failed password for invalid user bob from 1.2.3.4
Nov 22 10:00:00 web1 sshd[1]: Failed password for root from 1.2.3.4 port 22 ssh2
Nov 22 10:00:00 web1 sshd[1]: Accepted publickey for root from 1.2.3.4 port 22 ssh2: RSA SHA256:abcdefghijklmnop
sudo: bob : TTY=pts/0 ; PWD=/home/bob ; USER=root ; COMMAND=/usr/bin/ls
sudo: bob : 3 incorrect password attempts ; TTY=pts/0 ; PWD=unknown ; USER=root
passwd[123]: pam_unix(passwd:chauthtok): password changed for root
passwd: password updated successfully
NOPASSWD: ALL
Access denied for user 'root'@'localhost' (using password: YES)
pam_unix(sudo:auth): auth could not identify password for [bob]
systemd[1]: Started Dispatch Password Requests to Console Directory Watch.
systemd-ask-password-console.path: Deactivated successfully.
invalid token: expired
error: bad password: authentication failure
Uncaught SyntaxError: Unexpected token '<', "<!DOCTYPE "... is not valid JSON
Unexpected token: punc at line 3
max_tokens=4096 tokens: 153
{"password":null,"token":false,"secret":{}}
{"tokens":[],"usage":{"tokens":{"input":12,"output":[3]}},"tokens":[101,2023]}
{"cookies":{},"secrets":null,"password":[],"token":[null],"secret":"","n":1}
tokens: [12, 3] cookies: 2 secrets=none
token bucket is empty, 3 tokens left
passwd: user unknown
author=bob authority=x authored: [1]
commit 8f14e45fceea167a5a36dedd4bea2543f2b3a1de by ann
"GET /x?sig=&page=2 HTTP/1.1" 200
key=value keys: [a] monkeys=(3)
"secrets": {
"password": [
f(token=None): g(password=False) raised
following signature:</p>
token=(none) password: <none>, secret=[] token=none; x=1 token=null.
Usage: login <user> <password> [options] -p<password>
postgres://<user>:<password>@<host>:5432/db
<password></password><token/><secret></secret></x>
mkdir -pv /srv/www && ssh -p22 host ; cp -pr a b
/usr/sbin/mysqld --pid-file=/run/mysqld.pid --port=3306
mysql -u root -p
"GET / HTTP/1.1" 200 "-" "curl/7.88.1" -u x:y
curl -fsS https://example.org:8443/ -o x
curl --url http://example.org:80/u
the options --password, --token, --user are gone
"GET /%54oken/p%61ge?q=%C3%A9%2Fx&n=%20 HTTP/1.1" 200
C:\x64\password\new.txt \u0070age
AIzawa asiapacific ghp_ sk_live_ task_live_stream_of_the_year github_pat_token_is_missing_here xoxo-games
usr/share/javascript/Bootstrap4/css/themes/default/Main2/x
Qx9=
gitlab: glpat-tokens are rotated, ghost_writer_of_the_long_book
risk-projects-2026-overview, task-ant-build-system-v2, npm_config_registry=https://x.example, sk-proj-tokens are rotated
{"token":"","n":1}
secret "default-token" not found
kernel: module verification failed: signature and/or required key missing - tainting kernel
duplicate key value violates unique constraint "users_pkey"
DETAIL:  Key (id)=(5) already exists.
audit: type=1701 uid=0 sig=11 res=1 exe="/usr/bin/x"
config=/etc/x.conf design=new assign=5
tests: pass=12 fail=3 bypass=true
pass: 12 fail: 1
signal=15 code=exited status=0/SUCCESS
Accept-Language: en; Connection: keep-alive
cookie consent banner shown
authorization failed for user bob
polkit: authorization granted
bearer token expired
WWW-Authenticate: Bearer realm="example"
Basic authentication required
gpg: Good signature from "Debian Archive Automatic Signing Key"
GET https://example.org:8443/path@2x.png HTTP/1.1
mail from <bob@example.org> to <alice@example.org> via smtp://relay.example.org:25/
https://registry.npmjs.org/@types/node:latest
postfix/smtpd[1]: connect from unknown[5.6.7.8]
App\Models\Token::parse(): Argument #1 must be of type string
certificate /etc/ssl/private/key.pem loaded
keyboard: monkey=1 turkey=2 keyword=x sort_key=name
reset-password page opened
"GET /account/password/reset HTTP/1.1" 200
"GET /api/tokens?page=2 HTTP/1.1" 200
b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9
/usr/share/doc/package/examples/deeply/nested/folders/that/are/long
session opened for user root(uid=0) by (uid=0)
password: [masked]
{"level":"error","msg":"bad token:","code":"x"}
{"level":"error","msg":"Enter password: ","code":5}
{"level":"error","msg":"no Authorization:","code":"x"}
{"level":"error","msg":"no Cookie=","code":"x"}
{"a":["GET /?token="],"b":{"uri":"GET /?sig="}}
["GET /?sig=",["bad token:", 5], {"/?token=":3}]
{'msg': 'bad token:', 'code': 1}
{"log":"{\"msg\":\"bad token:\",\"code\":1}\n","stream":"stdout"}
{"log":"{\"msg\":\"say \\\"token\\\":\"}\n","stream":"stdout"}
{"msg":"\"token\":","n":1}
{"msg":"unexpected token: {","line":5}
{"msg":"\"secrets\": [","line":5}
{"msg":"Unexpected token: '","line":5}
{"cmd":["mysql","-uroot","-p","mydb"],"msg":"mysql -p"}
level=error msg="Enter password:" user=bob
"GET / HTTP/1.1" 200 5 "https://x/?token=" "Mozilla/5.0"
{"m":"wrong password '","n":1}
{"m":"IDENTIFIED BY '","n":1}
signing_keys keyboard public_key=x sessions-idle=3 token_type=bearer
app --password-file /x --password-stdin --token-file y
{"name":"DB_PASSWORD","valueFrom":{"secretKeyRef":{"name":"db"}}} {"name":"PASSWORD","value":""}
<label name="x">Password</label> <add key="Mode" value="x"/> <input name="password" type="text"><secret a="b"/>x</b>
ssh -p 22 host; ssh -a host; openssl s_client -connect host:443 -key /x; redis-cli -h db -p 6379; openssl version -a
at ya29.com hvs. whsec_ https://hooks.slack.com/docs the hooks.slack.com host GOCSPX-
bob@tcp(x) mail to bob@unix.example.org 10:00:00 ann@//x a/b@/c https://x/@//y
map psk_reload power=1 spw=2 key_mgmt=WPA-PSK inside.sid=3 show connect.sid
password(s) are hidden; PASSWORD(x) getpass()
PASS: test_foo
--- PASS: TestFoo (0.00s)
proxy_pass: http://backend
pwd: /home/ann
sig: 11
'''.strip('\n').split('\n')

# As Debian's own programs write them, with the words that names of secrets are made of.
INNOCENT_LINES = r'''
2026-11-22 06:10:01 status installed passwd:amd64 1:4.13+dfsg1-1+deb12u1
2026-11-22 06:10:01 upgrade passwd:amd64 1:4.13+dfsg1-1+b1 1:4.13+dfsg1-1+deb12u1
2026-11-22 06:10:01 configure base-passwd:amd64 3.6.1 <none>
2026-11-22 06:10:01 install pass:all <none> 1.7.4-6
2026-11-22 06:10:01 status half-configured libsecret-1-0:arm64 0.20.5-3
2026-11-22 06:10:01 trigproc passwd:i386 1:4.13+dfsg1-1 <none>
2026-11-22 06:10:01 status unpacked debian-archive-keyring:all 2023.3+deb12u2
Upgrade: passwd:amd64 (1:4.13+dfsg1-1+b1, 1:4.13+dfsg1-1+deb12u1), login:amd64 (1:4.13+dfsg1-1+b1, 1:4.13)
Install: libpam-passwdqc:amd64 (2.0.2-2, automatic), base-passwd:amd64 (3.6.1)
Commandline: apt-get install passwd:amd64
Preparing to unpack .../passwd_1%3a4.13+dfsg1-1+deb12u1_amd64.deb ...
Unpacking passwd (1:4.13+dfsg1-1+deb12u1) over (1:4.13+dfsg1-1+b1) ...
Setting up passwd (1:4.13+dfsg1-1+deb12u1) ...
W: https://deb.example.org/dists/x/InRelease: Key is stored in legacy trusted.gpg keyring (/etc/apt/trusted.gpg)
Nov 22 06:25:01 web1 CRON[812]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)
Nov 22 06:25:01 web1 CRON[812]: (root) CMD (command -v debian-sa1 > /dev/null && debian-sa1 1 1)
Nov 22 07:00:00 web1 sudo:      ann : TTY=pts/0 ; PWD=/srv/app ; USER=root ; COMMAND=/usr/bin/passwd bob
Nov 22 07:00:00 web1 sudo:      ann : command not allowed ; TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/usr/bin/su -
Nov 22 07:00:01 web1 sudo: pam_unix(sudo:auth): authentication failure; logname=ann uid=1000 euid=0 tty=/dev/pts/0
Nov 22 07:00:02 web1 sudo: pam_unix(sudo:auth): conversation failed
Nov 22 07:00:03 web1 passwd[911]: pam_unix(passwd:chauthtok): password changed for bob
Nov 22 07:00:04 web1 chage[912]: changed password expiry for bob
Nov 22 07:01:00 web1 usermod[913]: change user 'bob' password
Nov 22 07:01:00 web1 sshd[914]: Failed password for invalid user admin from 192.0.2.1 port 50022 ssh2
Nov 22 07:01:00 web1 sshd[914]: Failed none for invalid user admin from 192.0.2.1 port 50022 ssh2
Nov 22 07:01:01 web1 sshd[914]: Connection closed by authenticating user root 192.0.2.1 port 50022 [preauth]
Nov 22 07:01:02 web1 sshd[914]: Accepted publickey for ann from 192.0.2.2 port 50023 ssh2: ED25519 SHA256:Zm9vYmFyYmF6
Nov 22 07:01:03 web1 sshd[914]: error: kex_exchange_identification: Connection closed by remote host
Nov 22 07:01:04 web1 sshd[914]: userauth_pubkey: signature algorithm ssh-rsa not in PubkeyAcceptedAlgorithms [preauth]
Nov 22 07:01:05 web1 sshd[914]: error: Could not load host key: /etc/ssh/ssh_host_dsa_key
Nov 22 07:01:06 web1 sshd[914]: maximum authentication attempts exceeded for root from 192.0.2.1 port 1 ssh2 [preauth]
Nov 22 07:02:00 web1 systemd[1]: Starting systemd-ask-password-wall.service - Forward Password Requests to Wall...
Nov 22 07:02:00 web1 systemd[1]: Reached target cryptsetup.target - Local Encrypted Volumes.
Nov 22 07:02:00 web1 systemd[1]: app.service: Main process exited, code=killed, status=9/KILL
Nov 22 07:02:00 web1 systemd[1]: app.service: Consumed 3.204s CPU time, 120.3M memory peak, 0B memory swap peak.
Nov 22 07:02:00 web1 systemd-logind[500]: Watching system buttons on /dev/input/event2 (AT Translated Set 2 keyboard)
Nov 22 07:02:00 web1 systemd-resolved[501]: DNSSEC validation failed for question x IN A: no-signature
Nov 22 07:02:00 web1 systemd-cryptsetup[502]: Set cipher aes, mode xts-plain64, key size 512 bits for device /dev/sda3.
Nov 22 07:03:00 web1 kernel: Loaded X.509 cert 'Debian Secure Boot CA: 6ccece7e4c6c0d1f6149f3dd27dfcc5cbb419ea1'
Nov 22 07:03:00 web1 kernel: [    0.4] Key type asymmetric registered
Nov 22 07:03:00 web1 kernel: [    0.5] input: Power Button as /devices/LNXSYSTM:00/LNXPWRBN:00/input/input0
Nov 22 07:03:00 web1 kernel: [   12.1] wlan0: RX AssocResp from 00:11:22:33:44:55 (capab=0x411 status=0 aid=1)
Nov 22 07:03:00 web1 kernel: [   12.2] ipw2200: Intel(R) PRO/Wireless 2200/2915 Network Driver, 1.2.2kmprq
Nov 22 07:03:00 web1 kernel: audit: type=1400 apparmor="DENIED" operation="open" profile="x" name="/etc/passwd" pid=9
Nov 22 07:03:00 web1 kernel: audit: type=1326 audit(1700000000.123:45): auid=1000 ses=2 sig=31 arch=c000003e
Nov 22 07:03:00 web1 wpa_supplicant[5]: wlan0: WPA: Key negotiation completed with 0:1 [PTK=CCMP GTK=CCMP]
Nov 22 07:03:00 web1 wpa_supplicant[503]: wlan0: 0: 00:11:22:33:44:55 ssid='x' caps=[WPA2-PSK-CCMP] key_mgmt=WPA-PSK
Nov 22 07:03:00 web1 NetworkManager[504]: <info>  [1.2] Config: added 'key_mgmt' value 'WPA-PSK WPA-PSK-SHA256'
Nov 22 07:03:00 web1 NetworkManager[504]: <info>  [1.2] Config: added 'psk' value '<hidden>'
Nov 22 07:04:00 web1 postfix/smtpd[600]: warning: unknown[192.0.2.1]: SASL LOGIN authentication failed: UGFzc3dvcmQ6
Nov 22 07:04:00 web1 postfix/smtp[6]: 4Fx: to=<bob@x.org>, relay=mx.example.org[192.0.2.3]:25, status=sent (250 ok)
Nov 22 07:04:00 web1 postfix/smtpd[602]: connect from mail.example.org[192.0.2.4]
Nov 22 07:04:00 web1 postfix/smtpd[6]: TLS with cipher X (256/256 bits) key-exchange X25519 server-signature RSA-PSS
Nov 22 07:04:00 web1 dovecot: imap-login: Disconnected (auth failed): user=<bob>, method=PLAIN, session=<Zm9vYmFyYmF6>
192.0.2.1 - - [22/Nov/2026:07:00:00 +0000] "GET /reset-password HTTP/1.1" 200 5 "https://x/login" "Mozilla/5.0"
192.0.2.1 - bob [22/Nov/2026:07:00:00 +0000] "POST /oauth/token HTTP/2.0" 401 27 "-" "okhttp/4.9.3"
192.0.2.1 - - [22/Nov/2026:07:00:00 +0000] "GET /js/jquery.cookie.js?v=1.4.1 HTTP/1.1" 304 0 "-" "curl/8.5.0"
2026/11/22 07:00:00 [error] 77#77: *5 user "bob": password mismatch, client: 192.0.2.1, host: "example.org"
2026/11/22 07:00:00 [error] 77#77: *6 no user/password was provided for basic authentication, client: 192.0.2.1
2026/11/22 07:00:00 [error] 77#77: *7 connect() failed (111: refused), upstream: "http://127.0.0.1:8080/a@2x.png"
2026/11/22 07:00:00 [crit] 77#77: *8 SSL_do_handshake() failed (SSL: error:14201044:tls_choose_sigalg:internal error)
2026-11-22 07:00:00.000 UTC [88] bob@app FATAL:  password authentication failed for user "bob"
2026-11-22 07:00:00.000 UTC [88] bob@app DETAIL:  Connection matched file "/etc/postgresql/15/main/pg_hba.conf" line 97
2026-11-22 07:00:00.000 UTC [88] ERROR:  duplicate key value violates unique constraint "api_tokens_pkey"
2026-11-22 07:00:00.000 UTC [88] DETAIL:  Key (id, user_id)=(5, 7) is not present in table "sessions".
2026-11-22 07:00:00.000 UTC [88] LOG:  checkpoint complete: wrote 5 buffers (0.0%); 0 WAL file(s) added
2026-11-22T07:00:00.000000Z 8 [Warning] [MY-010055] [Server] IP address '192.0.2.1' could not be resolved
2026-11-22 07:00:00,000 fail2ban.actions [99]: NOTICE [sshd] Ban 192.0.2.1
{"level":"info","pwd":"/srv/app","argv":["serve"]}
{"env":{"PWD":"/home/ann","OLDPWD":"/","HOME":"/home/ann"},"pwd":"~/src"}
{'pwd': '/var/www/html', 'uid': 33}
{"log":"{\"pwd\":\"/opt/app/bin\"}\n","stream":"stdout"}
{"syscall":"kill","sig":3,"pid":12}
{"sig": 11, "core": true}
{"authorization":"granted","user":"bob"}
{"password":"invalid","token":"expired","secret":"none"}
{"log":"{\"authorization\":\"denied\"}\n","stream":"stdout"}
'''.strip('\n').split('\n')

PEM = b'\n'.join((b'-----BEGIN OPENSSH PRIVATE KEY-----',
                  *(base64.b64encode(random.Random(i).randbytes(48)) for i in range(5)),
                  b'Qx9=', b'-----END OPENSSH PRIVATE KEY-----', b''))
HOSTILE_PIECES = (b'password', b'password=', b'password="', b"password='", b'password=\\"', b'token=,', b'token=&a',
                  b'pwd:',
           b'eyJ',
           b'eyJaaaaaaaaaaaaaaaaaaaa.', b'bearer ', b'bearer a', b'cookie: a; ', b'cookie', b'authorization: ', b'://',
           b'://a:', b'://a:b@',
           b'-----BEGIN PRIVATE KEY-----', b'-----END PRIVATE KEY-----', b'-----BEGIN PRIVATE KEY-----\n', b'A',
           b'Aa0' * 21 + b'A\n', b'AKIA',
           b'key', b'sig', b'\n', b'\\', b'\\"', b'%22', b'password%22', b'=', b' ', b'\x00', b'\xff', b'@', b'1.',
           b'1.1.1.1', b':', b'::', b'a:', b'a::', b'a:b:c:d:e:f:1:2 ', b'::1.', b'}', b'pwd=}',
           b'password: a a', b'secret\t', b'a' * 40 + b'=', b'password=a,', b'--password ', b'sessionid=" ', b'"',
           b'digest ', b'"password":{', b'"password":["', b'{"password":', b'password={"}', b"password=('", b'"\\',
           b'"password":"\\\\', b'password:\\"\\\\', b'<password>', b'sig>', b'sig>%3', b'<secret a', b'pwd &gt;',
           b'%', b'%65', b'%41 ', b'token%65 ', b'\\u0065', b'\\x41', b'%3d', b'password=%26a', b'password=none',
           b'tokens":[ "', b'cookie:=""', b'cookie: a;  ', b'curl ', b'curl -uu', b'curl -u a', b'mysql', b'mysql -',
           b'ghp_', b'xoxb-a', b'sk_live_', b'AIza', b':\\/\\/a:b', b'--password","', b'x ' + b'Aa0+' * 16 + b'\n',
           b'Aa0+' * 10 + b'\n', b'password=a(', b"password=a(a'", b'password=\'\'a', b'secret={","', b'token: [a',
           b'authorization: digest "', b'identified with a', b"identified by '", b"password '", b'password=a"a',
           b'(token)=(', b'password[1]=', b'"pwd":"', b'passwd:amd64', b'"token":"none"', b'"pw","value',
           b'"pw","value":"', b'<pw" ', b'<a psk="x" value=', b"password('", b'hvs.', b'whsec_', b'whsec_a/',
           b'ya29.a.', b'hooks.slack.com/a/', b'hooks.slack.com\\/a\\/', b'sshpass -', b'redis-cli -a', b'openssl -k',
           b':@tcp', b':a@tcp(', b':@unix(:', b'/a@/', b'/a', b'/a@//', b'connect.sid=a;', b'psk', b'bindpw "',
           b'password=' + b'\\' * 64, b'-token ', b'-token \t')


def revealed(line: str) -> bytes:
    """A line of SECRET_LINES as a log has it."""
    return re.sub('[«»‹›]', '', line).encode()


def masked_line(line: bytes) -> bytes:
    """A whole line, masked: without its newline it were a cut one."""
    return logwatch.mask(line + b'\n').removesuffix(b'\n')


def is_json(line: bytes) -> bool:
    """Does it parse?"""
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


class Masking(Case):
    """A corpus of secrets, and of what is none."""

    def test_secrets_are_masked_and_nothing_else_on_the_line(self) -> None:
        self.assertGreaterEqual(len(SECRET_LINES), 40)
        for line in SECRET_LINES + DSN_LINES:
            with self.subTest(line):
                plain = revealed(line)
                want = re.sub('‹.*?›', '"[masked]"', re.sub('«.*?»', '[masked]', line)).encode()
                self.assertEqual(masked_line(plain), want)
                self.assertEqual(logwatch.mask(b'x\n' + plain + b'\ny\n'), b'x\n' + want + b'\ny\n')

    def test_harmless_lines_are_left_alone(self) -> None:
        self.assertGreaterEqual(min(len(HARMLESS_LINES), len(INNOCENT_LINES)), 40)
        for line in HARMLESS_LINES + INNOCENT_LINES:
            with self.subTest(line):
                self.assertEqual(masked_line(line.encode()), line.encode())

    def test_masking_twice_changes_nothing(self) -> None:
        for line in SECRET_LINES:
            once = masked_line(revealed(line))
            with self.subTest(line):
                self.assertEqual(masked_line(once), once)

    def test_json_stays_json(self) -> None:
        self.assertEqual(masked_line(b'{"password":12345,"token": abc}'),
                         b'{"password":"[masked]","token": "[masked]"}')
        self.assertEqual(masked_line(rb'{"m":"{\"token\":{\"v\":\"S\"},\"n\":[1]}","password":["S",{}]}'),
                         rb'{"m":"{\"token\":\"[masked]\",\"n\":[1]}","password":"[masked]"}')
        self.assertEqual(masked_line(rb'{"m":"say \"password=abc\" ok"}'), rb'{"m":"say \"password=[masked]\" ok"}')

    def test_a_line_that_parses_still_parses(self) -> None:
        """The lines of the corpora that are JSON; and each line as a message in JSON, and in JSON within it."""
        lines = [*map(revealed, SECRET_LINES), *map(str.encode, HARMLESS_LINES + INNOCENT_LINES)]
        for line in lines:
            with self.subTest(line):
                text, whole = line.decode(), is_json(line)
                self.assertGreaterEqual(is_json(masked_line(line)), whole)
                if '{{{' in text or '"cut ' in text:    # what is nested deeper, or cut within, hides the rest
                    continue
                for entry in ({'msg': text, 'n': 1}, {'msg': text}, [text, {'k': text}]):
                    for inner in (json.dumps(entry), json.dumps(entry, separators=(',', ':'))):
                        for outer in (inner, json.dumps({'log': f'{inner}\n', 'stream': 'stdout'})):
                            masked = masked_line(outer.encode())
                            self.assertTrue(is_json(masked), masked)
                            self.assertEqual(masked_line(masked), masked)

    def test_a_cut_line_shows_no_more_of_a_secret_than_four_characters(self) -> None:
        """Each line of the corpus, ending at each of its bytes, as what a program has written of it until then."""
        for row in SECRET_LINES:
            row = re.sub('[«‹].*?[»›]', lambda secret: re.sub(r'\b[ST]\b', 'Xy7pQ9zW', secret[0]), row)
            plain, parts = revealed(row), re.split('[«»‹›]', row)
            beside = '\n'.join([*parts[::2], '[masked]'])
            for cut in range(len(plain)):
                shown, left = logwatch.mask(b'earlier\n' + plain[:cut]).decode(), cut
                for number, part in enumerate(parts):
                    known = part[:max(0, left)] if number % 2 else ''
                    left -= len(part)
                    seen = [five for at in range(len(known) - 4) if (five := known[at:at + 5]) in shown]
                    self.assertEqual([five for five in seen if five not in beside], [], (plain[:cut], shown))

    def test_a_cut_private_key_shows_no_more_than_four_characters(self) -> None:
        for text in (PEM, PEM.replace(b'\n', b'\\n'), b'app: ' + PEM[:-1].replace(b'\n', b'\napp: ')):
            for cut in range(len(text)):
                shown = logwatch.mask(b'key ' + text[:cut])
                for line in PEM.splitlines()[1:-1]:
                    self.assertNotIn(line[:5], shown)

    def test_whole_lines_that_end_as_a_cut_one_might_are_left_alone(self) -> None:
        for line in (b'listens on http://host:8080', b'usage: <password> <user>', b'see eyJ', b'token eyJab', b'AKIAB',
                     b'ghp_abc', b'got bearer of', b'passwd: user unknown', b'token=none', b'token=null.',
                     b'"secrets": {'):
            with self.subTest(line):
                self.assertEqual(masked_line(line), line)
                self.assertEqual(logwatch.mask(line + b'\nx'), line + b'\nx')

    def test_private_key_is_masked_however_a_block_cuts_it(self) -> None:
        lines = (b'first line\n' + PEM + b'last line\n').splitlines(keepends=True)
        for cut in range(len(lines) + 1):
            with self.subTest(cut=cut):
                out = logwatch.mask(b''.join(lines[:cut])) + logwatch.mask(b''.join(lines[cut:]))
                full = [line for line in lines[2:7] if line.strip() in out]
                self.assertEqual(full, [])
                self.assertEqual(out.count(b'\n'), len(lines))
                self.assertTrue(out.startswith(b'first line\n') and out.endswith(b'last line\n'))
                self.assertNotIn(b'Qx9=', out)

    def test_private_key_behind_a_syslog_prefix_is_masked(self) -> None:
        prefix = b'Nov 22 10:00:00 web1 app[1]: '
        out = logwatch.mask(b''.join(prefix + line for line in PEM.splitlines(keepends=True)))
        self.assertEqual(out.count(prefix), PEM.count(b'\n'))
        self.assertEqual(out.count(logwatch.MASK), 6)

    def test_lines_of_a_private_key_are_masked_without_its_head(self) -> None:
        """A page may begin behind BEGIN, a follower may see the last line before END is there."""
        text = base64.b64encode(random.Random(8).randbytes(200))
        for width in (40, 48, 60, 64, 70, 72, 76, 80, 268):
            lines = [text[at:at + width] for at in range(0, len(text), width)]
            for head in (b'', b'Nov 22 10:00:00 web1 app[1]: '):
                known = not head or width in (64, 70, 76)
                with self.subTest(width=width, head=head):
                    out = logwatch.mask(b''.join(head + line + b'\n' for line in lines) + head + b'done\nend of it\n')
                    want = [head + (logwatch.MASK if known else line) for line in lines]
                    if len(lines[-1]) == width:
                        want.append(head + (logwatch.MASK if known else b'done'))
                    self.assertEqual(out.split(b'\n')[:len(lines)], want[:len(lines)])
                    self.assertTrue(out.endswith(b'\nend of it\n'))

    def test_a_masked_line_stays_masked_whatever_is_masked_beside_it(self) -> None:
        rng = random.Random(11)
        lines = [revealed(line) for line in SECRET_LINES] + [line.encode() for line in HARMLESS_LINES]
        for _ in range(1000):
            once = logwatch.mask(b'\n'.join(rng.sample(lines, 5)))
            self.assertEqual(logwatch.mask(once), once)

    def test_a_key_header_alone_does_not_hide_what_follows(self) -> None:
        text = b'-----BEGIN PRIVATE KEY-----\n' + b'GET /index.html 200 some/long/path/that/is/attacked\n' * 9
        self.assertEqual(logwatch.mask(text), text)

    def test_line_count_never_changes(self) -> None:
        rng = random.Random(5)
        parts = [*HOSTILE_PIECES, *map(revealed, SECRET_LINES), PEM]
        for _ in range(800):
            text = b''.join(rng.choice(parts) for _ in range(rng.randint(1, 12)))
            self.assertEqual(logwatch.mask(text).count(b'\n'), text.count(b'\n'))

    def test_hostile_mebibytes_take_linear_time(self) -> None:
        replaced = logwatch.pseudonym(b'k' * 16)
        for work in (logwatch.mask, replaced):
            for piece in HOSTILE_PIECES:
                with self.subTest(piece, work=work):
                    times: list[float] = []
                    for size in (1 << 14, 1 << 17):
                        text = (piece * (size // len(piece) + 1))[:size]
                        start = time.process_time()
                        work(text)
                        times.append(time.process_time() - start)
                    self.assertLess(times[1], 24 * times[0] + 0.3)  # 8 times the text; quadratic would be 64

    def test_hostile_lines_take_linear_time_inside_one_long_line(self) -> None:
        for piece in HOSTILE_PIECES:
            for head in (b'password="', b'"password":{', b'%41 @tcp( '):
                with self.subTest(piece, head=head):
                    times: list[float] = []
                    for size in (1 << 13, 1 << 16):
                        text = head + (piece * size)[:size].replace(b'\n', b' ')
                        start = time.process_time()
                        logwatch.mask(text)
                        logwatch.mask(text + b'\n')
                        times.append(time.process_time() - start)
                    self.assertLess(times[1], 24 * times[0] + 0.3)  # 8 times the text; quadratic would be 64

    def test_a_hostile_mebibyte_takes_seconds(self) -> None:
        for piece in (b'password=', b'{"password":', b'"' + b'\\' * 1023, b'%', b'<password>', b'sig>', b'curl -uu',
                      b'%41 ', b':@tcp', b'/a@/', b'ya29.a.'):
            with self.subTest(piece[:9]):
                text = (piece * (1 << 20))[:1 << 20]
                start = time.process_time()
                logwatch.mask(text)
                self.assertLess(time.process_time() - start, 8.0)   # measured: 1.1


class Pseudonyms(Case):
    """Addresses in the place of addresses."""

    def setUp(self) -> None:
        self.replaced = logwatch.pseudonym(b'0123456789abcdef')

    def test_prefixes_are_kept_exactly(self) -> None:
        rng = random.Random(3)
        for _ in range(500):
            a = [rng.randint(0, 255) for _ in range(4)]
            shared = rng.randint(0, 4)
            b = a[:shared] + [rng.randint(0, 255) for _ in range(4 - shared)]
            if 127 in (a[0], b[0]):
                continue
            out = [self.replaced('.'.join(map(str, x)).encode()).split(b'.') for x in (a, b)]
            for bits in range(1, 5):
                self.assertEqual(out[0][:bits] == out[1][:bits], a[:bits] == b[:bits])

    def test_is_one_to_one_and_loopback_stays(self) -> None:
        for form in ('%d.0.0.1', '1.%d.0.1', '9.9.9.%d'):
            self.assertEqual(len({self.replaced((form % i).encode()) for i in range(256)}), 256)
        for same in (b'127.0.0.1', b'::1', b'::', b'127.8.9.1'):
            self.assertEqual(self.replaced(same), same)

    def test_ipv6_shares_48_and_64(self) -> None:
        one, two, three = (self.replaced(x).split(b':') for x in (b'2001:db8:1:2:a::1', b'2001:db8:1:2:b::1',
                                                                  b'2001:db8:1:3::1'))
        self.assertEqual(one[:4], two[:4])
        self.assertNotEqual(one[4:], two[4:])
        self.assertEqual(one[:3], three[:3])
        self.assertNotEqual(one[3], three[3])

    def test_finds_addresses_where_logs_put_them(self) -> None:
        a, b = self.replaced(b'1.2.3.4'), self.replaced(b'2001:db8::1')
        for form in ('%s - - [x]', '"%s"', '[%s]:443', 'rhost=%s ', 'from %s: x', '(%s)', '%s', 'ip:%s', 'from:%s',
                     '<%s>', '%s/32', '/%s '):
            for raw, new in ((b'1.2.3.4', a), (b'2001:db8::1', b)):
                with self.subTest(form, raw=raw):
                    self.assertEqual(self.replaced(form.encode() % raw), form.encode() % new)
        self.assertEqual(self.replaced(b'::ffff:1.2.3.4 x 1.2.3.4.57000 > 1.2.3.4:80'),
                         b'::ffff:%b x %b.57000 > %b:80' % (a, a, a))
        self.assertEqual(self.replaced(b'2001:DB8:0:0:0:0:0:1'), b)

    def test_leaves_what_is_no_address(self) -> None:
        for text in (b'10:20:30', b'22/Nov/2026:10:11:12 +0000', b'aa:bb:cc:dd:ee:ff', b'std::cout', b'Foo::Bar',
                     b'Chrome/119.0.0.0', b'v1.2.3.4',
                     b'1.2.3', b'300.1.1.1', b'1.2.3.4444', b'MAC=00:11:22:33:44:55:66:77:88:99:aa:bb:08:00', b'::::',
                     b'a.b.c.d'):
            with self.subTest(text):
                self.assertEqual(self.replaced(text), text)

    def test_key_matters_and_is_checked(self) -> None:
        self.assertNotEqual(self.replaced(b'1.2.3.4'), logwatch.pseudonym(b'fedcba9876543210')(b'1.2.3.4'))
        with self.assertRaises(ValueError):
            logwatch.pseudonym(b'short')

    def test_without_the_key_nothing_can_be_read_off(self) -> None:
        """The image of 1.2.3.x tells nothing of 1.2.4.x: over many keys each octet is spread evenly."""
        seen = [0] * 256
        for i in range(4096):
            seen[int(logwatch.pseudonym(b'%016d' % i)(b'1.2.3.4').split(b'.')[3])] += 1
        chi2 = sum((n - 16) ** 2 / 16 for n in seen)
        self.assertLess(chi2, 350)  # 255 degrees of freedom: p < 0.0001 above


class Tokens(Case):
    """Who is let in."""

    def setUp(self) -> None:
        self.secret = logwatch.new_token()
        self.token = logwatch.Token('ops', logwatch.token_digest(self.secret), frozenset({'raw'}), ('nginx-access',))
        self.tokens = [logwatch.Token('other', logwatch.token_digest(logwatch.new_token())), self.token,
                       logwatch.Token('third', logwatch.token_digest(logwatch.new_token()))]

    def basic(self, text: str) -> bytes:
        return b'Basic ' + base64.b64encode(text.encode())

    def test_lets_in(self) -> None:
        for header in (f'Bearer {self.secret}', f'bearer  {self.secret}', f'BEARER {self.secret}'.encode(),
                       self.basic(f'any:{self.secret}'),
                       self.basic(f':{self.secret}'), self.basic(f'x:{self.secret}').decode()):
            with self.subTest(header):
                self.assertEqual(logwatch.authenticate(header, self.tokens), self.token)

    def test_keeps_out(self) -> None:
        b64 = base64.b64encode(f'x:{self.secret}'.encode())
        for header in (None, '', b'', 'Bearer', 'Bearer ', 'Basic', 'Basic ', self.secret, f'Bearer {self.secret}x',
                       f'Bearer {self.secret[:-1]}',
                       f'Bearer x {self.secret}', f'Token {self.secret}', self.basic(self.secret),
                       self.basic(f'{self.secret}:x'), b'Basic ' + b64[:-2] + b'!!',
                       b'Basic ' + b64[:4] + b' ' + b64[4:], b'Basic =', b'Basic \xff\xfe', 'Bearer ü€\ud800',
                       'Bearer ' + 'a' * 5000,
                       b'Bearer ' + self.secret.encode() + b'\n', b'Bearer\t' + self.secret.encode(),
                       f'Bearer {self.token.digest}'):
            with self.subTest(header):
                self.assertIsNone(logwatch.authenticate(header, self.tokens))
        self.assertIsNone(logwatch.authenticate(f'Bearer {self.secret}', []))

    def test_an_empty_secret_never_matches(self) -> None:
        self.assertIsNone(logwatch.authenticate('Basic ' + base64.b64encode(b'x:').decode(),
                                                [logwatch.Token('e', logwatch.token_digest(''))]))

    def test_a_foreign_digest_is_no_error(self) -> None:
        self.assertIsNone(logwatch.authenticate('Bearer x', [logwatch.Token('bad', 'zz'), logwatch.Token('utf', 'ü')]))

    def test_fresh_tokens_are_long_and_different(self) -> None:
        many = {logwatch.new_token() for _ in range(1000)}
        self.assertEqual(len(many), 1000)
        self.assertTrue(all(re.fullmatch(r'[\w-]{43}', one) for one in many))


class Throttles(Case):
    """Token buckets."""

    def test_burst_then_rate(self) -> None:
        throttle = logwatch.Throttle(rate=2, burst=3)
        self.assertEqual([throttle.allow('a', 0.0) for _ in range(4)], [0.0, 0.0, 0.0, 0.5])
        self.assertEqual(throttle.allow('b', 0.0), 0.0)
        self.assertEqual([throttle.allow('a', 0.5), throttle.allow('a', 0.5)], [0.0, 0.5])

    def test_waiting_as_told_is_enough(self) -> None:
        for rate in (0.1, 1 / 3, 0.7, 3, 10, 997):
            throttle, now = logwatch.Throttle(rate=rate, burst=1), 12345.678
            throttle.allow('a', now)
            for _ in range(200):
                now += throttle.allow('a', now)
                self.assertEqual(throttle.allow('a', now), 0.0, rate)

    def test_memory_is_bounded_and_the_least_recent_is_forgotten(self) -> None:
        throttle = logwatch.Throttle(rate=1, burst=1, peers=100)
        for i in range(10000):
            throttle.allow(f'p{i}', 0.0)
            throttle.allow('busy', 0.0)
        self.assertEqual(len(throttle._buckets), 100)
        self.assertGreater(throttle.allow('busy', 0.0), 0.0)

    def test_a_clock_that_steps_back_gives_nothing(self) -> None:
        throttle = logwatch.Throttle(rate=1, burst=1)
        throttle.allow('a', 100.0)
        self.assertEqual(throttle.allow('a', 50.0), 1.0)
        self.assertEqual(throttle.allow('a', 100.5), 0.5)

    def test_peer_key_groups_an_ipv6_customer(self) -> None:
        self.assertEqual(logwatch.peer_key('2001:db8::1'), logwatch.peer_key('2001:db8::ffff'))
        self.assertNotEqual(logwatch.peer_key('2001:db8::1'), logwatch.peer_key('2001:db8:0:1::1'))
        self.assertNotEqual(logwatch.peer_key('1.2.3.4'), logwatch.peer_key('1.2.3.5'))
        self.assertEqual(logwatch.peer_key('fe80::1%eth0'), logwatch.peer_key('fe80::2'))
        self.assertEqual(logwatch.peer_key('unix'), 'unix')

    def test_ipv4_clients_in_the_form_of_ipv6_are_as_many_as_they_are(self) -> None:
        """As Nginx has them with ipv6only=off, and gunicorn on [::]: one of them took the share of all."""
        application = make_application('--rate', '1', '--log-root', str(scratch()))
        asked = [call(application, '/logs', {'X-Forwarded-For': f'{form}{address}'}).status
                 for address in ('192.0.2.1', '198.51.100.9') for form in ('::ffff:', '', '::ffff:')]
        self.assertEqual(asked, [200, 200, 429] * 2)

    def test_a_client_is_one_whatever_port_it_comes_from(self) -> None:
        for peer, headers, who in (
                ('unix', {'x-forwarded-for': '192.0.2.7'}, '192.0.2.7'),
                ('127.0.0.1', {'x-forwarded-for': '192.0.2.7'}, '192.0.2.7'),
                ('::1', {'x-forwarded-for': '2001:db8::1'}, '2001:db8::1'), ('127.9.9.9', {}, '127.9.9.9'),
                ('unix', {'x-forwarded-for': '198.51.100.9, 192.0.2.7'}, '192.0.2.7'),
                ('192.0.2.99', {'x-forwarded-for': '127.0.0.1'}, '192.0.2.99'),
                ('unix', {'x-forwarded-for': 'evil\t1'}, 'unix'), ('unix', {'x-forwarded-for': ''}, 'unix')):
            with self.subTest(peer, headers=headers):
                self.assertEqual(logwatch.client_address(peer, headers), who)


def bearer(secret: str) -> dict[str, str]:
    return {'Authorization': f'Bearer {secret}'}


def basic(secret: str, user: str = 'any') -> dict[str, str]:
    return {'Authorization': 'Basic ' + base64.b64encode(f'{user}:{secret}'.encode()).decode()}


SCOPED = {  # a path, and the scope that it takes
    '/health': 'health', '/health/load': 'health', '/metrics': 'metrics', '/logs': 'logs', '/logs/app': 'logs',
    '/logs/app?q=x': 'logs', '/logs/app/raw': 'raw', '/logs/app?follow=1&n=1': 'logs'}


class TokensOverHttp(Case):
    """Tokens in the INI file and in a credential, as clients meet them."""

    secrets = {scope: logwatch.new_token() for scope in words('health metrics logs raw all one')}

    @classmethod
    def setUpClass(cls) -> None:
        home = scratch()
        sections = {scope: (cls.secrets[scope], scope) for scope in words('health metrics logs raw')}
        text = ini_tokens(**sections, all=(cls.secrets['all'], 'health metrics logs raw'),
                          one=(cls.secrets['one'], 'logs raw\nlogs = app'))
        plant(home, {'logwatch.ini': text, 'log/app.log': numbered(1, 3), 'log/other.log': numbered(1, 3)})
        cls.server = Server('--config', f'{home}/logwatch.ini', root=home / 'log', constants={'FAILURES_BURST': 10_000})
        cls.addClassCleanup(cls.server.stop, 'wrong token from 127.0.0.1')

    def status(self, target: str, headers: Mapping[str, str]) -> int:
        """Without waiting for the end of a stream."""
        with self.server.wire() as wire:
            wire.send(head_bytes(target, headers))
            return int(wire.file.readline()[9:12])

    def test_without_a_token_only_the_list_and_livez_answer(self) -> None:
        for target in ('/', '/livez'):
            self.assertEqual(self.server.get(target).status, 200)
        for target in SCOPED:
            with self.subTest(target):
                reply = self.server.get(target)
                self.assertProblem(reply, 401)
                self.assertEqual({value.split()[0] for value in reply.headers.get_all('WWW-Authenticate') or []},
                                 {'Basic', 'Bearer'})
                self.assertNotIn(b'line 3', reply.body)

    def test_each_scope_opens_its_paths_and_no_others(self) -> None:
        for target, needed in SCOPED.items():
            for scope in words('health metrics logs raw all'):
                for credentials in (bearer, basic):
                    with self.subTest(target, scope=scope, credentials=credentials.__name__):
                        allowed = needed == scope or scope == 'all'
                        self.assertEqual(self.status(target, credentials(self.secrets[scope])), 200 if allowed else 403)

    def test_a_token_for_some_logs_sees_no_others(self) -> None:
        one = bearer(self.secrets['one'])
        self.assertEqual([row['name'] for row in self.server.get('/logs?format=json', one).json()['logs']], ['app'])
        for target, status in {'/logs/app': 200, '/logs/app/raw': 200, '/logs/other': 403, '/logs/other/raw': 403,
                               '/logs/nosuch': 403, '/logs/other?q=line': 403, '/logs/%6fther': 403}.items():
            with self.subTest(target):
                reply = self.server.get(target, one)
                self.assertEqual(reply.status, status)
                self.assertNotIn(b'line 1', reply.body if status == 403 else b'')

    def test_a_log_that_there_is_not_looks_like_one_that_is_not_for_you(self) -> None:
        there, not_there = (self.server.get(f'/logs/{name}', bearer(self.secrets['one'])).text
                            for name in ('other', 'nosuch'))
        self.assertEqual(there.replace('other', 'X'), not_there.replace('nosuch', 'X'))

    def test_what_is_no_token_is_401_and_never_repeated(self) -> None:
        good = self.secrets['all']
        wrong = {'Authorization': 'Bearer ' + 'x' * 43}
        for headers in (wrong, bearer(good + 'x'), bearer(good[:-1]), bearer(''), basic(''), {'Authorization': good},
                        {'Authorization': f'Token {good}'}, {'Authorization': 'Basic ????'}, {'Authorization': 'Basic'},
                        bearer(logwatch.token_digest(good)), bearer('\xfc\xff'), bearer('y' * 5000), basic('hunter2'),
                        {'Cookie': f'token={good}'}, {'X-Api-Key': good}, {'Proxy-Authorization': f'Bearer {good}'}):
            with self.subTest(headers):
                reply = self.server.get('/logs', headers)
                self.assertEqual(reply.status, 401)
                for secret in (good, 'hunter2', 'x' * 43, 'y' * 50):
                    self.assertNotIn(secret, reply.text + str(reply.headers))
        self.assertEqual(self.server.get(f'/logs?token={good}').status, 401)
        self.assertEqual(self.server.get(f'/logs?access_token={good}').status, 401)
        said = self.server.stderr()
        for secret in (*self.secrets.values(), 'hunter2', 'xxxx', 'yyyy'):
            self.assertNotIn(secret, said)
        self.assertIn('wrong token from 127.0.0.1', said)

    def test_a_token_without_its_scheme_is_told_that(self) -> None:
        for value, words_ in ((self.secrets['all'], 'Bearer'), (f'Token {self.secrets["all"]}', 'Bearer'),
                              ('Bearer x', 'not known'), ('basic x', 'not known')):
            with self.subTest(words_):
                self.assertProblem(self.server.get('/logs', {'Authorization': value}), 401, words_)

    def test_two_authorization_headers_are_refused(self) -> None:
        with self.server.wire() as wire:
            wire.send(b'GET /logs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\n'
                      b'Authorization: Bearer %b\r\n\r\n' % self.secrets['all'].encode())
            self.assertProblem(wire.answer(), 400, 'authorization')

    def test_every_token_is_compared_every_time_on_digests(self) -> None:
        tokens = [logwatch.Token(f't{n}', logwatch.token_digest(f's{n}')) for n in range(5)]
        for header in ('Bearer s0', 'Bearer s4', 'Bearer nope', 'Bearer s'):
            with mock.patch('hmac.compare_digest', side_effect=lambda a, b: a == b) as compare:
                logwatch.authenticate(header, tokens)
            self.assertEqual(compare.call_count, 5, header)
            for call_ in compare.call_args_list:
                self.assertEqual([(type(part), len(part)) for part in call_.args], [(bytes, 64)] * 2)


class TokenLifetime(Case):
    """Where tokens come from, how they end, what guessing costs."""

    def start(self, home: Path, *options: str, said: tuple[str, ...] = (), **how: Any) -> Server:
        plant(home, {'log/app.log': numbered(1, 3)})
        server = Server(*options, root=home / 'log', **how)
        self.addCleanup(server.stop, *said)
        return server

    def test_a_token_is_revoked_and_another_let_in_by_sighup(self) -> None:
        home, old, new = scratch(), logwatch.new_token(), logwatch.new_token()
        ini = home / 'logwatch.ini'
        ini.write_text(ini_tokens(ops=(old, 'logs')))
        server = self.start(home, '--config', str(ini), said=('wrong token', 'configuration reread'))
        self.assertEqual([server.get('/logs/app', bearer(token)).status for token in (old, new)], [200, 401])
        ini.write_text(ini_tokens(ops=(new, 'logs')))
        server.process.send_signal(signal.SIGHUP)
        until(lambda: server.get('/logs/app', bearer(new)).status == 200, 'the new token')
        self.assertEqual(server.get('/logs/app', bearer(old)).status, 401)

    def test_a_token_file_with_an_error_keeps_the_old_tokens(self) -> None:
        home, secret = scratch(), logwatch.new_token()
        ini = home / 'logwatch.ini'
        ini.write_text(ini_tokens(ops=(secret, 'logs')))
        server = self.start(home, '--config', str(ini), said=('not reread', 'configuration reread'))

        def complained(before: int) -> bool:
            return server.stderr().count('not reread') > before

        for broken in ('[token ops]\ndigest = abc\n', '[token ops]\n', ini_tokens(ops=(secret, 'everything')),
                       ini_tokens(ops=(secret, 'logs\nscope = raw')), '[tokens]\n', 'junk'):
            with self.subTest(broken):
                said = server.stderr().count('not reread')
                ini.write_text(broken)
                server.process.send_signal(signal.SIGHUP)
                until(functools.partial(complained, said), 'the complaint')
                self.assertEqual([server.get('/logs/app', headers).status for headers in (bearer(secret), {})],
                                 [200, 401])

    def test_a_token_file_that_is_gone_opens_nothing(self) -> None:
        """Without tokens all may read all: a reload between an editor's unlink() and rename() did that."""
        home, secret = scratch(), logwatch.new_token()
        path = plant(home, {'credentials/tokens': ini_tokens(a=(secret, 'logs'))}) / 'credentials/tokens'
        server = self.start(home, environ={'CREDENTIALS_DIRECTORY': str(path.parent)}, said=('not reread',))
        path.unlink()
        server.process.send_signal(signal.SIGHUP)
        until(lambda: f'not reread, the old one stays: {path} is gone' in server.stderr(), 'the complaint')
        self.assertEqual([server.get('/logs/app', headers).status for headers in (bearer(secret), {})], [200, 401])
        path.write_text('')         # as on a disk that was full
        server.process.send_signal(signal.SIGHUP)
        until(lambda: 'every token is gone' in server.stderr(), 'the complaint')
        self.assertEqual([server.get('/logs/app', headers).status for headers in (bearer(secret), {})], [200, 401])

    def test_systemds_credential_holds_tokens_too(self) -> None:
        home, ini, credential = scratch(), logwatch.new_token(), logwatch.new_token()
        plant(home, {'logwatch.ini': ini_tokens(a=(ini, 'logs')),
                     'credentials/tokens': ini_tokens(b=(credential, 'logs'))})
        server = self.start(home, '--config', f'{home}/logwatch.ini',
                            environ={'CREDENTIALS_DIRECTORY': f'{home}/credentials'})
        self.assertEqual([server.get('/logs/app', headers).status for headers in (bearer(ini), bearer(credential), {})],
                         [200, 200, 401])

    def test_the_doctor_knows_the_tokens_of_a_credential(self) -> None:
        path = plant(scratch(), {'tokens': ini_tokens(b=(logwatch.new_token(), 'logs'))}) / 'tokens'
        path.chmod(0o644)
        printed = io.StringIO()
        unit = f'[Service]\nLoadCredential=tokens:{path}\n'
        with mock.patch('logwatch._output', lambda *command: unit if command[:2] == ('systemctl', 'cat') else ''), \
                mock.patch('logwatch.service_identity', lambda: (NOBODY, frozenset({NOBODY}))), \
                contextlib.redirect_stdout(printed):
            logwatch.main(['check', '--listen', '127.0.0.1:5000', '--log-root', str(path.parent)])
        self.assertIn(f'{path} is open to every user', printed.getvalue())
        self.assertNotIn('no token', printed.getvalue())

    def test_a_credential_with_an_error_stops_the_start(self) -> None:
        home = plant(scratch(), {'tokens': '[token x]\ndigest = 0\n'})
        done = run_program('config', CREDENTIALS_DIRECTORY=str(home))
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, rf'\Alogwatch: {home}/tokens: \[token x\]: digest .*64 hexadecimal')

    @requires('ipv6')
    def test_beyond_loopback_it_serves_with_a_token_only(self) -> None:
        """Loopback in a spelling that is not known to be it, so that nothing here really opens to others."""
        listen, home, secret = '[::ffff:127.0.0.1]:0', scratch(), logwatch.new_token()
        done = run_program('--listen', listen, '--log-root', str(home))
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, r'(?m)^logwatch: listen: \[::ffff:127.0.0.1\]:0 .*no token')
        plant(home, {'logwatch.ini': ini_tokens(ops=(secret, 'logs'))})
        server = self.start(home, '--config', f'{home}/logwatch.ini', listen=listen)
        self.assertEqual([server.get('/logs/app', headers).status for headers in (bearer(secret), {})], [200, 401])

    def test_guessing_is_slowed_per_client_and_said_without_the_guess(self) -> None:
        home, secret = scratch(), logwatch.new_token()
        plant(home, {'logwatch.ini': ini_tokens(ops=(secret, 'logs'))})
        server = self.start(home, '--config', f'{home}/logwatch.ini', said=('wrong token from 192.0.2.',))
        guesser = {'X-Forwarded-For': '192.0.2.1'}
        replies = [server.get('/logs', bearer(f'guess{n}') | guesser) for n in range(15)]
        self.assertEqual([reply.status for reply in replies], [401] * 10 + [429] * 5)
        self.assertRegex(replies[-1].headers['Retry-After'], r'\A[1-5]\Z')
        self.assertProblem(replies[-1], 429)
        self.assertEqual(server.get('/logs', bearer('guess') | {'X-Forwarded-For': '192.0.2.2'}).status, 401)
        self.assertEqual(server.get('/logs', bearer(secret) | {'X-Forwarded-For': '192.0.2.3'}).status, 200)
        said = server.stderr()
        self.assertEqual((said.count('wrong token from 192.0.2.1\n'), said.count('guess')), (10, 0))

    def test_who_has_the_right_token_is_not_locked_out_by_a_neighbours_guesses(self) -> None:
        """All of a machine's users share 127.0.0.1, Prometheus included."""
        home, secret = scratch(), logwatch.new_token()
        plant(home, {'logwatch.ini': ini_tokens(ops=(secret, 'logs'))})
        server = self.start(home, '--config', f'{home}/logwatch.ini', said=('wrong token from 127.0.0.1',))
        for n in range(15):
            server.get('/logs', bearer(f'guess{n}'))
        self.assertEqual(server.get('/logs', bearer(secret)).status, 200)

    def test_asking_without_a_token_is_no_guess(self) -> None:
        home, secret = scratch(), logwatch.new_token()
        plant(home, {'logwatch.ini': ini_tokens(ops=(secret, 'logs'))})
        server = self.start(home, '--config', f'{home}/logwatch.ini')
        self.assertEqual({server.get('/logs').status for _ in range(30)}, {401})
        self.assertEqual(server.get('/logs', bearer(secret)).status, 200)


SECRET, ADDRESS = 'hunter2xyzzy', '203.0.113.77'
SECRETIVE = (f'2026-01-01T00:00:01+00:00 web app[1]: login ok for bob\n'
             f'2026-01-01T00:00:02+00:00 web app[1]: password={SECRET} from {ADDRESS}\n'
             f'2026-01-01T00:00:03+00:00 web app[1]: Authorization: Bearer {SECRET}123456\n'
             f'2026-01-01T00:00:04+00:00 web app[1]: done {ADDRESS}\n')
# Parameters that would tell whether the masked text is there: all of them find nothing, or everything.
PROBES: dict[str, dict[str, Any]] = {
    'q': {'q': SECRET}, 'q of a part': {'q': SECRET[:4]}, 'q across the border': {'q': f'password={SECRET[:3]}'},
    'q in any case': {'q': SECRET.upper(), 'i': '1'}, 're': {'re': SECRET}, 're by letters': {'re': 'password=h.n'},
    're by length': {'re': f'password=.{{{len(SECRET)}}} from'}, 're in any case': {'re': 'HUNTER', 'i': '1'},
    're by class': {'re': r'password=\w+ '}, 'two words': {'q': ['password=', SECRET]}}
INVERSE: dict[str, dict[str, Any]] = {'not': {'not': SECRET}, 'not of a part': {'not': SECRET[:3]},
                                      'not in any case': {'not': SECRET.upper(), 'i': '1'},
           'not and q': {'not': SECRET, 'q': 'app'}}


class MaskedAnswers(Case):
    """What is masked is nowhere in an answer, and cannot be tested by asking cleverly."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.root = plant(scratch(), {'app.log': SECRETIVE, 'old.log.2.gz': SECRETIVE, 'old.log': '',
                                     'app2.log': SECRETIVE * 30})
        cls.application = staticmethod(make_application('--log-root', str(cls.root)))
        cls.reader = staticmethod(make_application('--log-root', str(cls.root), '--pseudonyms', 'yes'))

    root: Path
    application: Callable[..., Any]
    reader: Callable[..., Any]

    def test_no_representation_has_it(self) -> None:
        for log in ('app', 'old'):
            for query in ('', '?format=json', '?format=ndjson', '?format=html', '?n=3&B=1&q=Authorization',
                          '?n=2&format=json',
                          '?since=2026-01-01T00:00:00Z&format=json', '?level=debug&format=json', '?C=2&q=done'):
                with self.subTest(log, query=query):
                    reply = call(self.application, f'/logs/{log}{query}')
                    self.assertEqual(reply.status, 200)
                    self.assertNotIn(SECRET.encode(), reply.body)
                    self.assertNotIn(SECRET[3:].encode(), reply.body)
        self.assertIn(b'password=[masked] from ' + ADDRESS.encode(), call(self.application, '/logs/app').body)
        self.assertNotIn(SECRET, call(self.application, '/metrics').text +
                         call(self.application, '/logs?format=json').text)

    def test_pages_back_and_forth_have_it_not(self) -> None:
        target, seen = '/logs/app2?n=7', 0
        while target:
            reply = call(self.application, target)
            seen += len(reply.body.splitlines())
            self.assertNotIn(SECRET.encode(), reply.body)
            link = re.search(r'<([^>]+)>; rel="prev"', reply.headers['Link'] or '')
            target = urllib.parse.urljoin('/logs/app2', link[1]) if link else ''
        self.assertEqual(seen, 120)

    def test_a_cursor_within_a_line_does_not_show_its_rest(self) -> None:
        """Once it was gzipped, masking did not know what stood before the place."""
        for length in (0, logwatch.LINE_BYTES):
            for packed in (False, True):
                with self.subTest(length=length, packed=packed):
                    path = plant(scratch(), {'app.log': f'first\n{"x" * length} password={SECRET[:6]}'}) / 'app.log'
                    application = make_application('--log-root', str(path.parent))
                    cursor = call(application, '/logs/app?format=json').json()['entries'][-1]['cursor']
                    with path.open('a') as file:
                        file.write(SECRET[6:] + '\nbehind\n')
                    if packed:
                        path.with_name('app.log.1.gz').write_bytes(gzip.compress(path.read_bytes()))
                        path.write_text('')
                    lines = call(application, lines_url('app', after=cursor)).text.splitlines()
                    self.assertEqual(lines[-1], 'behind')
                    self.assertEqual(lines[:-1], [] if length else [' password=[masked]'])

    def test_no_search_tells_whether_it_is_there(self) -> None:
        for what, parameters in PROBES.items():
            with self.subTest(what):
                guess = call(self.application, lines_url('app', parameters))
                other = call(self.application, lines_url('app',
                                                         {name: [value.replace(SECRET, 'Z' * 12) for value in values]
                             if isinstance(values, list) else values for name, values in parameters.items()}))
                self.assertEqual((guess.status, guess.body), (200, b''), other.body)
        for what, parameters in INVERSE.items():
            with self.subTest(what):
                self.assertEqual(len(call(self.application, lines_url('app', parameters)).body.splitlines()), 4)

    def test_what_masking_puts_into_a_line_is_found_as_it_is_shown(self) -> None:
        """By any part of it, across its borders too; what stood in its place is not."""
        lines = (f'password={SECRET} from', '{"password":12345,"n":1}', r'{"m":"{\"token\":[12345],\"n\":1}"}')
        for line in lines:
            root = plant(scratch(), {'app.log': f'first\n2026-01-01T00:00:02+00:00 web app[1]: {line}\n'})
            application = make_application('--log-root', str(root))
            shown = call(application, '/logs/app').text.splitlines()[1]
            start, end = shown.index('[masked]'), shown.index('[masked]') + len('[masked]')
            parts = {shown[at:to] for at in range(start - 4, end) for to in range(max(start, at) + 1, end + 5)}
            for part in parts:
                for parameters in ({'q': part}, {'q': part.upper(), 'i': 1}):
                    with self.subTest(parameters):
                        self.assertIn(shown, call(application, lines_url('app', parameters)).text.splitlines())
            for part in ('masked', 'ske', shown[start - 2:end], shown[start:end + 3], '"', ']'):
                for parameters in ({'re': re.escape(part)}, {'re': re.escape(part.upper()), 'i': 1}):
                    with self.subTest(parameters):
                        self.assertEqual(shown in call(application, lines_url('app', parameters)).text.splitlines(),
                                         part in shown)
            for probe in ({'q': '12345'}, {'q': [SECRET, 'masked']}, {'re': f'masked|{SECRET}x', 'q': SECRET},
                          {'re': SECRET.upper(), 'i': 1}, {'q': ['12345', '[masked]']}):
                with self.subTest(probe):
                    self.assertEqual(call(application, lines_url('app', probe)).text, '')

    def test_the_cost_of_a_search_does_not_tell_either(self) -> None:
        scans = [call(self.application, lines_url('app2', q=text)).headers['Logwatch-Scan']
                 for text in (SECRET, 'Z' * len(SECRET), SECRET[:4])]
        self.assertEqual(len(set(scans)), 1, scans)

    def test_no_search_takes_longer_where_a_guess_is_right(self) -> None:
        """For a reader whose token lacks raw; where no token is needed, /raw has it all anyhow."""
        line = '2026-01-01T00:00:02+00:00 web app[1]: password={} from 192.0.2.1\n'
        secret = logwatch.new_token()
        root = plant(scratch(), {'app.log': line.format(SECRET) * 10_000, 'x.ini': ini_tokens(dev=(secret, 'logs'))})
        application = logwatch.Application(logwatch.load_config({'log-root': [str(root)], 'rate': ['0']}, {},
                                                                f'{root}/x.ini'))
        for parameters in ({'q': '{}'}, {'re': 'd={}'}, {'q': '{}', 'i': '1'}, {'not': '{}', 'q': 'nothing'}):
            with self.subTest(parameters):
                fastest: dict[str, float] = {}
                for _ in range(20):         # in turns, as long as what else the machine does may be what differs
                    for guess in (SECRET[:8], 'Zq' * 4):
                        target = lines_url('app', {name: value.format(guess) for name, value in parameters.items()})
                        self.assertEqual(call(application, target, bearer(secret)).body, b'')
                        seconds = seconds_of(call, application, target, bearer(secret))
                        fastest[guess] = min(seconds, fastest.get(guess, seconds))
                    if max(fastest.values()) < 1.3 * min(fastest.values()):
                        break
                self.assertLess(max(fastest.values()), 1.5 * min(fastest.values()))

    def test_a_followers_lines_have_it_not(self) -> None:
        server = self.serve(root=plant(scratch(), {'app.log': SECRETIVE}))
        for accept in ('text/plain', 'text/event-stream', 'application/x-ndjson'):
            with self.subTest(accept), server.wire() as wire:
                wire.send(head_bytes('/logs/app?follow=1&n=4', {'Accept': accept}))
                with (server.root / 'app.log').open('a') as file:
                    file.write(SECRETIVE.replace('done', 'end'))
                heard = b''
                while b'end 203' not in heard:
                    heard += wire.socket.recv(65536)
                self.assertNotIn(SECRET.encode(), heard)
                self.assertIn(b'[masked]', heard)

    def test_what_each_rule_masks_cannot_be_searched_for(self) -> None:
        """Every line of the corpus, to a reader whose token lacks raw: its secret finds nothing, nor does it show."""
        secret, rows = logwatch.new_token(), [row for row in SECRET_LINES if '[masked]' not in row]
        log = ''.join(f'2026-01-01T00:00:00+00:00 web app[{number}]: {revealed(row).decode()}\n'
                      for number, row in enumerate(rows))
        root = plant(scratch(), {'app.log': log, 'x.ini': ini_tokens(dev=(secret, 'logs'))})
        application = logwatch.Application(logwatch.load_config({'log-root': [str(root)], 'rate': ['0']}, {},
                                                                f'{root}/x.ini'))
        shown = call(application, '/logs/app?n=1000', bearer(secret)).text.splitlines()
        self.assertEqual(len(shown), len(rows))
        for number, row in enumerate(rows):
            for hidden in re.findall('«(.*?)»|‹(.*?)›', row):
                found = call(application, lines_url('app', n=1000, q=max(hidden)), bearer(secret)).text
                with self.subTest(row, hidden=hidden):
                    self.assertEqual(found, ''.join(f'{line}\n' for line in shown if max(hidden) in line))
                    self.assertTrue(len(max(hidden)) < 3 or f'app[{number}]:' not in found)

    def test_who_has_raw_sees_and_finds_it(self) -> None:
        secret = logwatch.new_token()
        home = plant(scratch(), {'logwatch.ini': ini_tokens(ops=(secret, 'logs raw'), dev=(secret[::-1], 'logs'))})
        server = self.serve('--config', f'{home}/logwatch.ini', root=self.root)
        for token, found in ((secret, 2), (secret[::-1], 0)):
            self.assertEqual(len(server.get(lines_url('app', q=SECRET), bearer(token)).body.splitlines()), found)
            self.assertEqual(server.get('/logs/app', bearer(token)).body.count(SECRET.encode()), found)
        self.assertEqual(server.get('/logs/app/raw', bearer(secret)).body, SECRETIVE.encode())
        self.assertEqual(server.get('/logs/app/raw', bearer(secret[::-1])).status, 403)

    def test_where_nobody_needs_a_token_raw_bytes_are_the_unmasked_ones(self) -> None:
        """Masking is for readers whose token lacks raw; alone on the machine it only keeps secrets off screens."""
        reply = call(self.application, '/logs/app/raw')
        self.assertEqual((reply.status, reply.body), (200, SECRETIVE.encode()))

    def test_masking_can_be_switched_off(self) -> None:
        application = make_application('--log-root', str(self.root), '--mask', 'no')
        self.assertIn(SECRET.encode(), call(application, '/logs/app').body)

    def test_pseudonyms_hide_addresses_from_answers_and_searches(self) -> None:
        body = call(self.reader, '/logs/app').body
        self.assertNotIn(ADDRESS.encode(), body)
        shown = set(re.findall(rb'\d+\.\d+\.\d+\.\d+', body))
        self.assertEqual(len(shown), 1, 'the same for the same')
        for name, value in (('q', ADDRESS), ('re', re.escape(ADDRESS)), ('q', '203.0.113')):
            self.assertEqual(call(self.reader, lines_url('app', {name: value})).body, b'')
        found = call(self.reader, lines_url('app', q=shown.pop().decode()))
        self.assertEqual(len(found.body.splitlines()), 2, 'a pseudonym can be searched for')

    def test_pseudonyms_and_cursors_stay_over_a_restart_by_a_key_that_no_other_user_can_read(self) -> None:
        """/etc/machine-id can be read by all: with a key made of it a local user undid pseudonyms, and tested what he
        guessed of a masked line by its cursor. Where there is no state directory, the key ends with the process."""
        home = plant(scratch(), {'logwatch.ini': ini_tokens(ops=(SECRET, 'logs'))})
        self.addCleanup(logwatch.secret_key.cache_clear)

        def answers(flags: dict[str, list[str]], path: str) -> int:
            """How many there are of starts of the same."""
            found = set()
            for _ in range(2):
                logwatch.secret_key.cache_clear()
                config = logwatch.load_config({'log-root': [str(self.root)], **flags}, {}, path)
                application = logwatch.Application(config)
                found.add(call(application, '/logs/app?format=json', bearer(SECRET)).text)
            return len(found)

        for flags, path, hides in ((dict[str, list[str]](), '', False), ({'pseudonyms': ['yes']}, '', True),
                                   ({}, f'{home}/logwatch.ini', True)):
            with self.subTest(flags, path=path):
                self.assertEqual(answers(flags, path), 1 + hides)
                self.assertEqual(answers({**flags, 'state-dir': [str(scratch())]}, path), 1)

    def test_the_journals_lines_go_through_the_same_door(self) -> None:
        """What journalctl prints is masked before it is searched; here from a stand-in that prints known entries."""
        cursor = 's=' + 'a' * 32 + ';i=1;b=' + 'b' * 32 + ';m=1;t=1;x=1'
        entry = logwatch.journal_entry(json.dumps({
            '__CURSOR': cursor, '__REALTIME_TIMESTAMP': '1767225600000000', 'PRIORITY': '6', 'SYSLOG_IDENTIFIER': 'app',
            'MESSAGE': f'password={SECRET} from {ADDRESS}'}).encode())
        application = make_application('--log', 'j=journal:app.service', '--log-root', str(scratch()))
        with mock.patch.object(logwatch, 'journal_records', lambda arguments, budget: iter([entry])), \
                mock.patch.object(logwatch, 'journal_problem', lambda: None):
            for ending in ('', '?format=json', '?format=ndjson', '?format=html', '?q=from', '?re=from'):
                reply = call(application, f'/logs/j{ending}')
                self.assertIn('password=[masked]', reply.text, ending)
                self.assertNotIn(SECRET, reply.text, ending)
            for what, parameters in PROBES.items():
                with self.subTest(what):
                    self.assertEqual(call(application, lines_url('j', parameters)).body, b'')
            self.assertIn(b'[masked]', call(application, lines_url('j', {'not': SECRET})).body)

    def test_the_fields_of_a_journals_entry_go_through_it_too(self) -> None:
        """sshd's units are named by both addresses, and who logs chooses an identifier."""
        unit = f'ssh@5-198.51.100.4:22-{ADDRESS}:51122.service'
        entry = entry_json(_HOSTNAME=ADDRESS, SYSLOG_IDENTIFIER=f'run token={SECRET}', _SYSTEMD_UNIT=unit)
        entries = plant(scratch(), {'entries': entry}) / 'entries'
        with mock.patch.object(logwatch, 'journal_arguments', lambda *_: ['/bin/cat', str(entries)]), \
                mock.patch.object(logwatch, 'journal_problem', lambda: None):
            for pseudonyms in ('no', 'yes'):
                application = make_application('--log', 'j=journal:', '--pseudonyms', pseudonyms)
                for ending in ('json', 'ndjson', 'text', 'html'):
                    reply = call(application, f'/logs/j?format={ending}')
                    with self.subTest(ending, pseudonyms=pseudonyms):
                        self.assertIn('run token=[masked]', reply.text)
                        self.assertNotIn(SECRET, reply.text)
                        self.assertEqual(ADDRESS in reply.text or '198.51.100.4' in reply.text, pseudonyms == 'no')
                fields = call(application, '/logs/j?format=json').json()['entries'][0]['fields']
                self.assertEqual(fields['pid'], '7')
                self.assertRegex(fields['unit'], r'\Assh@5-[0-9.]+:22-[0-9.]+:51122\.service\Z')
            self.assertEqual(fields['hostname'], call(application, '/logs/j').text.split()[1])

    def test_an_entry_of_the_journal_is_a_whole_line_unless_it_is_cut(self) -> None:
        application = make_application('--log', 'j=journal:app.service', '--log-root', str(scratch()))
        filler = 'x' * (logwatch.LINE_BYTES - 20)
        for message, ending in (('on http://host:8080', 'on http://host:8080'),
                                (f'{filler} h://u:{SECRET}{SECRET}', 'h://u:[masked]')):
            entry = logwatch.journal_entry(json.dumps({
                '__CURSOR': 's=' + 'a' * 32 + ';i=1;b=' + 'b' * 32 + ';m=1;t=1;x=1', 'MESSAGE': message,
                '__REALTIME_TIMESTAMP': '1767225600000000', 'SYSLOG_IDENTIFIER': 'app'}).encode())
            with self.subTest(ending), mock.patch.object(logwatch, 'journal_problem', lambda: None), \
                    mock.patch.object(logwatch, 'journal_records', mock.Mock(return_value=[entry])):
                shown = call(application, '/logs/j?format=json').json()['entries'][0]['message']
                self.assertTrue(shown.endswith(ending), shown[-60:])
                self.assertNotIn(SECRET[:5], call(application, '/logs/j').text)


class RequestLimits(Case):
    """Requests a second, by client."""

    def test_a_client_beyond_its_rate_is_429_and_the_next_one_is_not(self) -> None:
        server = self.serve('--rate', '5', root=plant(scratch(), {'app.log': 'x\n'}))
        greedy = [server.get('/logs', {'X-Forwarded-For': '192.0.2.1'}) for _ in range(16)]
        codes = [reply.status for reply in greedy]
        self.assertEqual((codes[:10], set(codes[12:])), ([200] * 10, {429}))
        self.assertProblem(greedy[-1], 429)
        self.assertEqual(greedy[-1].headers['Retry-After'], '1')
        self.assertEqual(server.get('/logs', {'X-Forwarded-For': '192.0.2.2'}).status, 200)
        self.assertEqual(server.get('/livez', {'X-Forwarded-For': '192.0.2.1'}).status, 200)
        until(lambda: server.get('/logs', {'X-Forwarded-For': '192.0.2.1'}).status == 200, 'the bucket to fill')

    def test_an_ipv6_customers_addresses_are_one_client(self) -> None:
        application = make_application('--rate', '2', '--log-root', str(scratch()))
        statuses = []
        for n in range(6):
            head = head_bytes('/logs', {'X-Forwarded-For': f'2001:db8:1:2::{n:x}'})[:-4]
            request, _ = logwatch.parse_head(head, '127.0.0.1')
            statuses.append(application.respond(request).status)  # type: ignore[attr-defined]
        self.assertEqual(statuses, [200] * 4 + [429] * 2)

    def test_rate_0_limits_nothing(self) -> None:
        application = make_application('--rate', '0', '--log-root', str(scratch()))
        self.assertEqual({call(application, '/logs').status for _ in range(50)}, {200})

    def test_a_claimed_address_from_afar_is_not_believed(self) -> None:
        application = make_application('--rate', '2', '--log-root', str(scratch()))
        statuses = []
        for n in range(6):
            head = head_bytes('/logs', {'X-Forwarded-For': f'192.0.2.{n}'})[:-4]
            request, _ = logwatch.parse_head(head, '198.51.100.1')
            self.assertEqual(request.peer, '198.51.100.1')
            statuses.append(application.respond(request).status)  # type: ignore[attr-defined]
        self.assertEqual(statuses, [200] * 4 + [429] * 2)


class OneAmongOthers(Case):
    """One client at full speed waits for itself; another one does not."""

    SECONDS = 3  # that an answer may take meanwhile: .ci/bench says what it takes, this is for a busy machine

    def at_rest(self, *options: str) -> logwatch.Server:
        """A server that does not run."""
        application: Any = make_application(*options, '--log-root', str(scratch()))
        server = logwatch.Server(lambda: application, [], logwatch.Notifier({}))
        for sock in (server._wake_in, server._wake_out, server._epoll):
            self.addCleanup(sock.close)
        return server

    def test_a_client_at_full_speed_starves_no_other(self) -> None:
        root = plant(scratch(), {'app.log': numbered(1, 200), 'big.log': numbered(1, 60000, 'x' * 60)})
        server = self.serve('--access-log', 'no', root=root)
        replies: list[Reply] = []
        ending = threading.Event()

        def ask_on(target: str) -> None:
            while not ending.is_set():
                replies.append(fetch(server.address, target, source='127.0.0.2'))

        targets = ('/logs/big?q=nowhere', '/logs/big?q=NOWHERE&i=1', '/logs/big?n=5000', '/logs/big?q=9&n=5000')
        with contextlib.ExitStack() as stack:
            pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(48))
            stack.callback(ending.set)
            asking = [pool.submit(ask_on, targets[n % len(targets)]) for n in range(48)]     # more than its queue takes
            until(lambda: any(reply.status == 503 for reply in list(replies)), 'a full queue')
            began = time.monotonic()
            while time.monotonic() < began + 3:
                for target, kind in {'/livez': 'text/plain', '/health': 'application/health+json',
                                     '/logs/app': 'text/plain', '/metrics': 'text/plain'}.items():
                    sent = time.monotonic()
                    reply = fetch(server.address, target, source='127.0.0.3')
                    self.assertLess(time.monotonic() - sent, self.SECONDS, target)
                    self.assertEqual(reply.kind, kind, reply.body[:300])
        for work in asking:
            work.result()
        self.assertEqual({reply.status for reply in replies}, {200, 503})
        self.assertEqual([reply for reply in replies if (reply.status == 503) != ('Retry-After' in reply.headers)], [])

    def test_a_scan_steps_aside_for_the_loop_and_who_has_had_less_and_not_for_long(self) -> None:
        server = self.at_rest()
        pairs = [socket.socketpair() for _ in range(4)]
        for one, other in pairs:
            self.addCleanup(one.close)
            self.addCleanup(other.close)
        scan, short, own = (logwatch.Connection(one, 'x', time.monotonic() - age) for (one, _), age in zip(
            pairs, (10.0, 0.0, 0.0), strict=False))
        scan.owner, short.owner, own.owner = 'greedy', 'modest', 'greedy'
        for running, ended in (({scan, short}, True), ({scan, own}, False), ({scan}, False)):
            with self.subTest(len(running)), mock.patch.object(logwatch, 'ASIDE_SECONDS', 60.0):
                server._running, scan.aside = set(running), time.monotonic() - 10
                with concurrent.futures.ThreadPoolExecutor(1) as pool:
                    asked = pool.submit(server._is_gone, scan, False)
                    if ended:
                        with self.assertRaises(TimeoutError):
                            asked.result(0.2)
                        server._running.discard(short)
                    self.assertFalse(asked.result(20))
        waker, waked = pairs[3]
        server._epoll.register(waked.fileno(), select.EPOLLIN)
        # What the loop has in hand, and what it has not come to yet.
        for begin, end in ((lambda: setattr(server, '_at_work', True), lambda: setattr(server, '_at_work', False)),
                           (lambda: waker.send(b'x'), lambda: waked.recv(9))):
            with mock.patch.object(logwatch, 'ASIDE_SECONDS', 60.0), \
                    concurrent.futures.ThreadPoolExecutor(1) as pool:
                server._running, scan.aside = {scan}, time.monotonic() - 10
                begin()
                asked = pool.submit(server._is_gone, scan, False)
                with self.assertRaises(TimeoutError):
                    asked.result(0.2)
                end()
                self.assertFalse(asked.result(20))
        server._running, scan.aside = {scan, short}, time.monotonic() - logwatch.ASIDE_SECONDS / 2
        self.assertFalse(server._is_gone(scan, False), 'whoever keeps coming, it goes on')
        short.aside = time.monotonic() - logwatch.ASIDE_SECONDS / 2
        self.assertFalse(server._is_gone(short, False), 'who has had less goes first')
        server._spent[logwatch.LOOP] = 10_000_000
        with mock.patch.object(logwatch, 'ASIDE_SECONDS', 60.0), mock.patch.object(server, '_at_work', True):
            server._running, scan.aside = {scan}, time.monotonic() - 10
            self.assertFalse(server._is_gone(scan, False), 'a loop that somebody floods has had enough')
        server._running, scan.aside = {scan, short}, time.monotonic() - 1
        with mock.patch.object(time, 'sleep', side_effect=AssertionError('a stream that slept has had nothing')):
            self.assertFalse(server._is_gone(scan, True))
        pairs[0][1].close()
        scan.aside = 0.0
        self.assertEqual([server._is_gone(scan, False) for _ in range(3)], [True] * 3)

    def test_the_last_worker_is_for_a_client_who_has_none(self) -> None:
        """Four clients, two long searches each, held all eight: the next one waited for 6 s."""
        server = self.at_rest('--workers', '4')
        for owner in ('a', 'a', 'a', 'b', 'b', 'c'):
            server._waiting.append(logwatch.Connection(mock.Mock(), owner, time.monotonic()))
            server._waiting[-1].owner = owner
        with mock.patch.object(server._pool, 'submit') as submit:
            server._start_waiting()
        self.assertEqual(sorted(one.owner for one in server._running), ['a', 'a', 'b', 'c'])
        self.assertEqual([one.owner for one in server._waiting], ['a', 'b'])
        self.assertEqual(submit.call_count, 4)

    def test_a_connection_that_a_child_has_open_as_well_is_closed_for_good(self) -> None:
        """Its events came as those of the next with its number, which was with a worker: that ended the server."""
        server = self.at_rest()
        ours, theirs = socket.socketpair()
        self.addCleanup(theirs.close)
        self.addCleanup(os.close, os.dup(ours.fileno()))    # as of a child between fork() and exec()
        connection = logwatch.Connection(ours, 'x', time.monotonic())
        server._connections[ours.fileno()] = connection
        server._epoll.register(ours.fileno(), select.EPOLLIN)
        server._close(connection)
        theirs.send(b'x')
        self.assertEqual(server._epoll.poll(0), [])

    def test_what_slow_clients_take_is_not_in_the_queue_of_requests(self) -> None:
        """64 downloads, read on at the same time, and 31 requests of one client filled it for all."""
        server = self.at_rest()
        call_ = logwatch.Call(lambda: logwatch.reply('text', b''), False)
        for answer, full in ((logwatch.reply('text', b'x'), False), (call_, True)):
            server._waiting[:] = [logwatch.Connection(mock.Mock(), 'a', time.monotonic()) for _ in range(100)]
            for one in server._waiting:
                one.sending = logwatch.Sending(answer, 'a', 'GET /', True, 0.0)
            self.assertIs(server._is_full(call_, 'b'), full)

    def test_what_a_client_has_had_is_counted_as_it_was_claimed(self) -> None:
        """A search of 10 s was 1 s while it ran, and 10 s behind it."""
        server = self.at_rest()
        one, other = socket.socketpair()
        self.addCleanup(one.close)
        self.addCleanup(other.close)
        connection = logwatch.Connection(one, 'a', time.monotonic() - 10)
        connection.owner = 'a'
        for _ in range(2):
            connection.since = time.monotonic() - 10
            claim = server._claim(connection, time.monotonic())
            server._running.add(connection)
            server._take_back(connection)
            server._epoll.unregister(one.fileno())
            self.assertEqual(server._spent['a'], claim)
        self.assertEqual(claim, 2e6)

    def test_an_answer_that_is_not_taken_is_let_go_of_at_once(self) -> None:
        """It was in a cycle: streams that were opened and closed, without a byte read, took 400 MB."""
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        ours.setblocking(False)
        response = logwatch.reply('text', iter([b'x' * 65_536] * 100))
        sending = logwatch.Sending(response, 'unix', 'GET /', False, 0.0)
        self.assertFalse(sending.push(ours))
        known = weakref.ref(sending)
        gc.disable()
        self.addCleanup(gc.enable)
        del sending
        self.assertIsNone(known())

    def test_the_loop_is_at_work_from_an_event_until_it_waits_for_the_next(self) -> None:
        application: Any = make_application('--access-log', 'no', '--log-root', str(scratch()))
        with socket.create_server(('127.0.0.1', 0)) as listener:
            server = logwatch.Server(lambda: application, [listener], logwatch.Notifier({}))
            for sock in (server._wake_in, server._wake_out, server._epoll):
                self.addCleanup(sock.close)
            seen: list[bool] = []

            def noting(run: Callable[..., Any]) -> Callable[..., Any]:
                def noted(*given: Any) -> Any:
                    seen.append(server._at_work)
                    return run(*given)
                return noted
            listener.setblocking(False)
            server._epoll.register(listener.fileno(), select.EPOLLIN)
            server._epoll = mock.Mock(wraps=server._epoll, poll=noting(server._epoll.poll))
            application.prepare = noting(application.prepare)
            with socket.create_connection(listener.getsockname()) as client:
                client.sendall(head_bytes('/livez'))
                for _ in range(3):
                    server._turn()
                self.assertTrue(client.recv(99).startswith(b'HTTP/1.1 200'))
            self.assertEqual(seen, [False, False, True, False])     # it accepts; it reads and answers; it waits
            for connection in list(server._connections.values()):
                server._close(connection)

    def test_a_scan_comes_to_its_end_beside_any_number_of_short_requests(self) -> None:
        root = plant(scratch(), {'app.log': numbered(1, 200), 'big.log': numbered(1, 60000, 'x' * 60)})
        server = self.serve('--access-log', 'no', root=root)
        ending = threading.Event()

        def ask_on(source: str) -> None:
            while not ending.is_set():
                fetch(server.address, '/logs/app', source=source)

        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            asking = [pool.submit(ask_on, f'127.0.0.{number}') for number in range(3, 9)]
            try:
                reply = fetch(server.address, '/logs/big?q=NOWHERE&i=1', source='127.0.0.2')
            finally:
                ending.set()
        for work in asking:
            work.result()
        self.assertEqual((reply.status, reply.headers['Logwatch-Scan'].split('=')[-1]), (200, 'complete'))


class CommandLine(Case):
    """token, config, check, --version; and how Python is started."""

    def test_token_prints_a_secret_once_and_lines_that_let_it_in(self) -> None:
        for options, scopes in (((), 'health logs metrics'), (('--scope', 'raw', '--scope', 'logs'), 'logs raw')):
            with self.subTest(options):
                done = run_program('token', 'ops', *options)
                self.assertEqual((done.returncode, done.stderr), (0, ''))
                secret = done.stdout.splitlines()[1]
                self.assertEqual(done.stdout.count(secret), 1)
                self.assertRegex(secret, r'\A[A-Za-z0-9_-]{43}\Z')
                ini = plant(scratch(), {'logwatch.ini': done.stdout[done.stdout.index('[token'):]}) / 'logwatch.ini'
                token, = logwatch.load_config({}, {}, str(ini)).tokens
                self.assertEqual(logwatch.authenticate(f'Bearer {secret}', [token]), token)
                self.assertEqual(' '.join(sorted(token.scopes)), scopes)
        self.assertNotEqual(run_program('token', 'ops').stdout, run_program('token', 'ops').stdout)

    def test_wrong_commands_are_refused_in_words(self) -> None:
        for argv in (['token'], ['token', '../x'], ['token', 'a b'], ['token', 'ops', '--scope', 'root'],
                     ['config', 'x'],
                     ['serve', 'x'], ['get'], ['nope'], ['token', 'x\ny']):
            with self.subTest(argv):
                done = run_program(*argv)
                self.assertEqual(done.returncode, 2)
                self.assertTrue(done.stderr.strip())
                self.assertNotIn('Traceback', done.stderr)

    def test_config_prints_an_ini_that_reads_back_the_same(self) -> None:
        given = ('--log', 'a=/srv/a/*.log', '--log', 'b=journal:ssh.service', '--disk-warn', '12.5', '--mask', 'no',
                 '--allow-host', 'x.example', '--listen', 'unix:/run/x.sock')
        first = run_program('config', *given)
        self.assertEqual((first.returncode, first.stderr), (0, ''))
        ini = plant(scratch(), {'logwatch.ini': first.stdout}) / 'logwatch.ini'
        again = run_program('config', '--config', str(ini))
        self.assertEqual(again.stdout, first.stdout)
        for words_ in ('a=/srv/a/*.log\n    b=journal:ssh.service', 'disk-warn = 12.5', 'mask = no',
                       'listen = unix:/run/x.sock'):
            self.assertIn(words_, first.stdout)

    def test_config_never_prints_tokens(self) -> None:
        secret = logwatch.new_token()
        ini = plant(scratch(), {'logwatch.ini': ini_tokens(ops=(secret, 'logs'))}) / 'logwatch.ini'
        text = run_program('config', '--config', str(ini)).stdout
        self.assertNotIn(logwatch.token_digest(secret), text)

    def test_an_option_twice_or_unknown_is_refused_with_its_place(self) -> None:
        for text, words_ in {'[logwatch]\nnope = 1\n': 'nope is unknown', '[other]\n': r'section \[other\] is unknown',
                             '[logwatch]\nmask = maybe\n': 'mask', 'x': 'no section headers',
                             '[logwatch]\nrate = -1\n': 'rate',
                             '[logwatch]\nmask = yes\nmask = no\n': 'already exists',
                             '[DEFAULT]\nscopes = raw\n': 'DEFAULT',
                             '[token x]\ndigest = ' + '0' * 64 + '\nlogs =\n': 'logs'}.items():
            with self.subTest(text):
                ini = plant(scratch(), {'logwatch.ini': text}) / 'logwatch.ini'
                done = run_program('config', '--config', str(ini))
                self.assertEqual((done.returncode, done.stdout), (2, ''))
                self.assertRegex(done.stderr, rf'\Alogwatch: {ini}: .*{words_}')
        done = run_program('config', '--mask', 'yes', '--mask', 'no')
        self.assertEqual((done.returncode, '--mask' in done.stderr), (2, True))

    def test_version_has_the_hash_of_the_file_itself(self) -> None:
        done = run_program('--version')
        digest = hashlib.sha256(PROGRAM.read_bytes()).hexdigest()
        self.assertEqual(done.stdout.split(), ['logwatch', logwatch.__version__, f'sha256:{digest}'])
        copy = plant(scratch(), {'logwatch.py': PROGRAM.read_bytes() + b'# changed\n'}) / 'logwatch.py'
        other = subprocess.run([sys.executable, '-I', str(copy), '--version'], check=True, capture_output=True,
                               text=True)
        self.assertNotEqual(other.stdout, done.stdout)

    def test_isolated_and_optimised_python_change_nothing(self) -> None:
        root = plant(scratch(), {'app.log': f'password={SECRET}\nx\n', 'json.py': 'raise SystemExit(9)\n'})
        for flags in (['-I'], ['-I', '-O'], ['-I', '-OO'], ['-I', '-S', '-E'], ['-O', '-P']):
            with self.subTest(flags):
                done = subprocess.run([sys.executable, *flags, str(PROGRAM), 'get', '/logs/app?re=x', '--log-root',
                                       str(root)],
                                      check=False, capture_output=True, text=True, cwd=root, env=clean_environment())
                self.assertEqual((done.returncode, done.stdout.splitlines()[-1:]), (0, ['x']), done.stderr)
                bad = subprocess.run([sys.executable, *flags, str(PROGRAM), 'get', '/logs/app?n=0', '--log-root',
                                      str(root)],
                                     check=False, capture_output=True, text=True, cwd=root, env=clean_environment())
                self.assertEqual((bad.returncode, 'parameter n' in bad.stderr), (1, True))

    def test_get_takes_a_path_as_a_shell_passes_it(self) -> None:
        root = plant(scratch(), {'app.log': '2026 "caf\u00e9" foo\nbar 100%\n'})
        for query in ('re=foo|bar', 're=^bar', r're=\d', 'q="caf\u00e9"', 'q=r 1', 're=o{2}|x', 're=(fo|r)[o 1]',
                      'q=%22', 're=[#2]', 're=<|`|o'):
            with self.subTest(query):
                done = run_program('get', f'/logs/app?n=1&{query}', '--log-root', str(root))
                self.assertEqual((done.returncode, len(done.stdout.splitlines())), (0, 1), done.stderr)
        for target, words_ in (('/logs/app?q=%zz', 'the request target'), ('http://x/logs', 'there is nothing at')):
            with self.subTest(target):
                done = run_program('get', target, '--log-root', str(root))
                self.assertEqual((done.returncode, done.stdout), (1, ''))
                self.assertIn(words_, done.stderr)
        self.assertEqual(*(run_program('get', target, '--log-root', str(root)).stdout for target in ('logs', '/logs')))

    def test_get_pages_where_there_are_tokens_and_no_state_directory(self) -> None:
        home = plant(scratch(), {'logwatch.ini': ini_tokens(ops=('x' * 43, 'logs')), 'log/app.log': numbered(1, 9)})
        options = ('--config', f'{home}/logwatch.ini', '--log-root', f'{home}/log')
        page = json.loads(run_program('get', '/logs/app?n=3&format=json', *options).stdout)
        page = json.loads(run_program('get', f'logs/app{page["prev"]}', *options).stdout)
        self.assertEqual([entry['message'].split()[-1] for entry in page['entries']], words('4 5 6'))

    def test_a_header_with_a_line_break_is_refused_under_o_as_well(self) -> None:
        """wsgiref's check is an assert, which -O takes away (CVE-2026-0865)."""
        code = ('import sys; sys.path.insert(0, sys.argv[1]); import logwatch\n'
                'answer = logwatch.Response(200, (("X", "a\\r\\nSet-Cookie: b"),), b"")\n'
                'try: logwatch.render_head(answer, True, False)\n'
                'except ValueError: print("refused")')
        done = subprocess.run([sys.executable, '-I', '-O', '-c', code, str(HERE)], check=True, capture_output=True,
                              text=True)
        self.assertEqual(done.stdout, 'refused\n')

    def test_what_a_variable_overrules_in_the_file_is_told(self) -> None:
        """The shipped unit sets LOGWATCH_LISTEN: a line `listen =` in the file did nothing, without a word."""
        ini = plant(scratch(), {'x.ini': '[logwatch]\nlisten = 127.0.0.1:1\nmask = no\nworkers = 2\n'}) / 'x.ini'
        server = self.serve('--config', str(ini), '--workers', '3')
        self.assertEqual([line for line in server.spoken()[0] if 'overrules' in line],
                         [f'logwatch: --{name} overrules {ini}: {name}' for name in ('listen', 'workers')])
        done = run_program('config', '--config', str(ini), LOGWATCH_MASK='yes')
        self.assertTrue(done.stdout.startswith(f'# LOGWATCH_MASK overrules {ini}: mask\n[logwatch]\n'), done.stdout)

    def test_a_wrong_word_is_named_below_one_line_of_usage(self) -> None:
        """`--disk-wran 5` had 24 lines of usage, and then 5 was no command."""
        for argv, said in ((('--disk-wran', '5'), 'unrecognized arguments: --disk-wran'),
                           (('serv',), "there is no command 'serv'; there are: serve, get, check, token, config")):
            done = run_program(*argv)
            self.assertEqual((done.returncode, done.stdout), (2, ''))
            usage, error = done.stderr.splitlines()
            self.assertTrue(usage.startswith('usage: logwatch.py [serve | get PATH'))
            self.assertEqual(error, f'logwatch.py: error: {said}')

    def test_a_comment_may_stand_behind_a_value(self) -> None:
        """It became part of the path, and the log was empty without a word."""
        ini = plant(scratch(), {'x.ini': '[logwatch]\nlog = a=/srv/a.log   # main\n    b=/srv/b#1.log\n'}) / 'x.ini'
        self.assertEqual(logwatch.load_config({}, {}, str(ini)).log, (('a', '/srv/a.log'), ('b', '/srv/b#1.log')))

    def check(self, *argv: str, user: int = NOBODY) -> subprocess.CompletedProcess[str]:
        """`check` as another user."""
        return subprocess.run(Server._command(['check', *argv], {}, user), check=False, capture_output=True, text=True,
                              env=clean_environment(), cwd='/', timeout=40)

    @requires('root')
    def test_check_says_who_it_ran_as_and_what_is_wrong_with_the_fix(self) -> None:
        root = plant(scratch(), {'shut.log': 'x\n', 'open.log': 'y\n'})
        (root / 'shut.log').chmod(0o600)
        done = self.check('--log-root', str(root))
        self.assertEqual((done.returncode, done.stderr), (1, ''))
        self.assertRegex(done.stdout, r'\Achecked as nobody for nobody \(uid 65534')
        findings = done.stdout.split('\n\n')[1:]
        mine = next(text for text in findings if 'shut.log' in text and 'may not read' in text)
        self.assertRegex(mine, r'root:root 0600[^\n]*\n    fix: (setfacl|usermod|chmod) ')
        self.assertTrue(all('\n    fix: ' in text for text in findings), findings)
        self.assertFalse(any('open.log' in text and 'may not read' in text for text in findings))

    @requires('root')
    def test_check_names_a_configuration_that_everybody_can_read(self) -> None:
        ini = plant(scratch(), {'x.ini': ini_tokens(ops=(logwatch.new_token(), 'logs'))}) / 'x.ini'
        ini.chmod(0o644)
        done = self.check('--config', str(ini), '--log-root', str(scratch()))
        self.assertIn(f'{ini} is open to every user', done.stdout)

    @requires('root')
    def test_check_names_what_is_configured_and_not_there_or_closed(self) -> None:
        root = plant(scratch(), {'shut/x.log': 'text\n'})
        (root / 'shut').chmod(0o700)
        done = self.check('--log', f'gone={root}/gone.log', '--log', f'shut={root}/shut/x.log')
        self.assertIn(f'gone is no log that can be read\n    no file matches {root}/gone.log', done.stdout)
        self.assertRegex(done.stdout, r'shut is no log that can be read\n    .*root:root 0700.*\n    fix: .*setfacl -m')

    @requires('root')
    def test_check_as_root_wants_the_service_user(self) -> None:
        with contextlib.suppress(KeyError):
            pwd.getpwnam(logwatch.SERVICE_USER)
            self.skipTest('this machine has the service user')
        done = self.check('--log-root', str(scratch()), user=0)
        self.assertEqual((done.returncode, 'no' in done.stderr, 'Traceback' in done.stderr), (2, True, False))

    def test_check_refuses_to_probe_beyond_loopback(self) -> None:
        done = run_program('check', 'http://192.0.2.1/', '--log-root', str(scratch()))
        self.assertNotIn('Traceback', done.stderr)
        self.assertNotEqual(done.returncode, 0)


# ----------------------------------------------------------------------------------------------------------------------
# the doctor: permissions against the kernel, predictions against the real logrotate, the probe
# ----------------------------------------------------------------------------------------------------------------------

WWW, ADM, ME = 33, 4, 4242  # Debian's fixed ids, and a service user without a name
USER_OBJ, USER, GROUP_OBJ, GROUP, ACL_MASK, OTHER = 1, 2, 4, 8, 16, 32  # tags of an ACL's entries


def acl(*entries: tuple[int, int, int]) -> bytes:
    """An ACL as its extended attribute holds it."""
    return struct.pack('<I', 2) + b''.join(struct.pack('<HHI', tag, bits, who & 0xffffffff) for tag, bits,
                                           who in entries)


def may_read(path: str, uid: int, gids: Iterable[int]) -> bool:
    """Ask the kernel: a child with these ids opens it."""
    groups = sorted(gids)
    child = subprocess.run(['/bin/cat', path], user=uid, group=groups[0] if groups else 65533, extra_groups=groups,
                           capture_output=True, check=False)
    return child.returncode == 0


class LogrotateBox(Case):
    """Folders, logs and logrotate configurations with given owners."""

    def setUp(self) -> None:
        self.box = str(scratch())

    def path(self, *parts: str) -> str:
        return os.path.join(self.box, *parts)

    def folder(self, name: str = 'logs', owner: tuple[int, int] = (0, 0), mode: int = 0o755) -> str:
        os.makedirs(self.path(name), exist_ok=True)
        os.chown(self.path(name), *owner)
        os.chmod(self.path(name), mode)
        return self.path(name)

    def log(self, name: str = 'logs/a.log', owner: tuple[int, int] = (0, 0), mode: int = 0o644) -> str:
        with open(self.path(name), 'w') as file:
            file.write('line\n')
        os.chown(self.path(name), *owner)
        os.chmod(self.path(name), mode)
        return self.path(name)

    def conf(self, text: str, name: str = 'logrotate.conf') -> str:
        with open(self.path(name), 'w') as file:
            file.write(text)
        os.chmod(self.path(name), 0o644)
        return self.path(name)

    def rotate(self, conf: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(find_tool('logrotate')), '-f', '-s', self.path('state'), conf], capture_output=True,
                              text=True,
                              check=False, timeout=20)


@requires('root')
class WhyUnreadable(LogrotateBox):
    """Why a user cannot read a log, as the kernel decides it."""

    def why(self, path: str, gids: Iterable[int] = (), uid: int = ME) -> Any:
        return logwatch.why_unreadable(path, uid, frozenset(gids))

    def test_agrees_with_the_kernel_for_every_mode(self) -> None:
        self.folder()
        for owner, gids, mode in itertools.product(((ME, 9), (0, 9), (0, 10)), ({9}, {9, 10}),
                                                   (0o400, 0o040, 0o004, 0o000, 0o440, 0o044, 0o640, 0o604, 0o064,
                                                    0o046)):
            path = self.log(owner=owner, mode=mode)
            with self.subTest(owner=owner, gids=gids, mode=oct(mode)):
                self.assertEqual(self.why(path, gids) is None, may_read(path, ME, gids))

    def test_agrees_with_the_kernel_for_acls(self) -> None:
        self.folder()
        path = self.log(owner=(0, 9), mode=0o640)
        rng = random.Random(2)
        for _ in range(60):
            entries = [(USER_OBJ, 6, -1), (USER, rng.choice((0, 4, 6)), rng.choice((ME, 77))),
                       (GROUP_OBJ, rng.choice((0, 4)), -1),
                       (GROUP, rng.choice((0, 4)), rng.choice((9, 10))), (ACL_MASK, rng.choice((0, 4, 7)), -1),
                       (OTHER, rng.choice((0, 4)), -1)]
            os.setxattr(path, 'system.posix_acl_access', acl(*entries))
            gids = rng.choice(({9}, {10}, {11}, {9, 10}))
            with self.subTest(entries=entries, gids=gids):
                self.assertEqual(self.why(path, gids) is None, may_read(path, ME, gids))

    def test_says_what_forbids_and_what_to_type(self) -> None:
        self.folder()
        cases = (((0, ADM), 0o640, {9}, 'adm 0640', 'usermod -aG adm 4242'),
                 ((0, 0), 0o640, {9}, 'root:root 0640', 'setfacl -m u:4242:r '),
                 ((0, 9), 0o600, {9}, '0600, which gives group no r', 'chmod g+r '),
                 ((ME, 9), 0o040, {9}, 'gives owner no r', 'chmod u+r '),
                 ((54321, 54322), 0o600, {9}, '54321:54322', 'setfacl -m u:4242:r '))
        for owner, mode, gids, why, fix in cases:
            found = self.why(self.log(owner=owner, mode=mode), gids)
            with self.subTest(found):
                self.assertIn(why, found.why)
                self.assertIn(fix, found.fix)

    def test_a_folder_is_listed_and_entered(self) -> None:
        self.folder(mode=0o711)
        found = self.why(self.path('logs'), {9})
        self.assertIn('may not list it', found.what)
        self.assertIn('gives others no rx', found.why)
        self.assertIn(f'setfacl -m u:4242:rx {self.path("logs")}', found.fix)

    def test_names_the_parent_folder(self) -> None:
        self.folder(owner=(0, ADM), mode=0o750)
        found = self.why(self.log(mode=0o644), {9})
        self.assertEqual(found.subject, self.path('logs/a.log'))
        self.assertIn('enter a folder on the way to it', found.what)
        self.assertIn(f'{self.path("logs")} is root:adm 0750', found.why)
        self.assertIn('usermod -aG adm', found.fix)
        self.folder(mode=0o700)
        self.assertEqual(self.why(self.path('logs/a.log'), {9}).fix, f'setfacl -m u:4242:x {self.path("logs")}')

    def test_no_fix_touches_what_is_made_later(self) -> None:
        """A default ACL switches off the umask of all that write there: 077 made files that everyone could read."""
        self.folder()
        self.assertEqual(self.why(self.log(mode=0o600)).fix, f'setfacl -m u:4242:r {self.path("logs/a.log")}')

    def test_an_acl_entry_that_gives_too_little_is_named(self) -> None:
        self.folder()
        path = self.log(mode=0o644)
        os.setxattr(path, 'system.posix_acl_access', acl((USER_OBJ, 6, -1), (USER, 0, ME), (GROUP_OBJ, 4, -1),
                                                         (ACL_MASK, 4, -1), (OTHER, 4, -1)))
        self.assertIn('0644+, which gives this user by its ACL no r', self.why(path).why)

    def test_an_acl_cut_by_its_mask_is_named(self) -> None:
        self.folder()
        path = self.log(mode=0o640)
        os.setxattr(path, 'system.posix_acl_access', acl((USER_OBJ, 6, -1), (USER, 4, ME), (GROUP_OBJ, 4, -1),
                                                         (ACL_MASK, 2, -1), (OTHER, 0, -1)))
        self.assertEqual(self.why(path, {9}).fix, f'setfacl -m m::r {path}')

    def test_links_pipes_and_missing_files(self) -> None:
        self.folder()
        self.log()
        os.symlink('a.log', self.path('logs/link'))
        os.symlink('logs', self.path('by-link'))
        os.mkfifo(self.path('logs/fifo'))
        self.assertIn('no regular file', self.why(self.path('logs/link')).what)
        self.assertIn('no regular file', self.why(self.path('logs/fifo')).what)
        self.assertEqual(self.why(self.path('logs/link')).fix, f'logwatch.py --log NAME={self.path("logs/a.log")}')
        os.chown(self.path('logs/link'), ME, ME, follow_symlinks=False)
        self.assertEqual(self.why(self.path('logs/link')).fix, f'ls -l {self.path("logs/link")}',
                         'what another links to is not for him to choose')
        self.assertIn('cannot be looked at', self.why(self.path('logs/none')).what)
        self.assertIn('cannot be looked at', self.why('/a\0b').what)
        self.assertIsNone(self.why(self.path('by-link/a.log')))

    def test_the_kernel_has_the_last_word_about_oneself(self) -> None:
        self.folder()
        path = self.log(mode=0o000)
        me = frozenset({os.getegid(), *os.getgroups()})
        self.assertIsNone(logwatch.why_unreadable(path, os.geteuid(), me))
        with mock.patch('os.access', lambda name, want, effective_ids: want == logwatch.ENTER):
            self.assertIn('AppArmor', self.why(path, me, os.geteuid()).why)

    @mock.patch('logwatch.maps_all_ids', lambda: False)      # as with PrivateUsers=yes
    def test_an_unmapped_group_is_asked_of_the_path(self) -> None:
        access = logwatch.Access(0, 65534, stat.S_IFREG | 0o640)
        found = logwatch._denied('/var/log/syslog', access, ME, frozenset({65534, ME}), logwatch.READ)
        self.assertIn('root:? 0640 (?: hidden by PrivateUsers=', found.why)
        self.assertIn('usermod -aG "$(stat -c %G /var/log/syslog)" 4242', found.fix)

    def test_who_a_number_is_is_not_asked_for_each_file(self) -> None:
        """NSS took 0.3 ms for each of 7460."""
        look_up = mock.Mock(side_effect=[['bob'], KeyError(), ['alice']])
        with mock.patch('time.monotonic', side_effect=[0.0, 59.0, 0.0, 59.0, 60.0]):
            names = [logwatch.user_name.func(look_up, number) for number in (1, 1, 2, 2, 1)]
        self.assertEqual(names, ['bob', 'bob', '2', '2', 'alice'])

    def test_hostile_names_stay_one_word_and_one_line(self) -> None:
        for name in ('a b', "a'b", 'a\nb', 'a\x1b[2Jb', 'a\u202eb', 'a;b', 'a$(id)b', 'a\udcffb', "\n'\\"):
            shown = logwatch.quoted('/tmp/' + name)
            with self.subTest(shown):
                self.assertTrue(shown.isprintable())
                out = subprocess.run(['bash', '-c', b'printf %s ' + os.fsencode(shown)], capture_output=True,
                                     check=True).stdout
                self.assertEqual(out, os.fsencode('/tmp/' + name))

    def test_the_fix_works(self) -> None:
        """What the doctor says to type lets the user in (chmod here; usermod and setfacl change the machine)."""
        self.folder(owner=(0, 9), mode=0o700)
        path = self.log(owner=(0, 9), mode=0o600)
        for _ in range(2):
            found = self.why(path, {9})
            self.assertTrue(found.fix.startswith('chmod '), found)
            subprocess.run(found.fix, shell=True, check=True)
        self.assertIsNone(self.why(path, {9}))


class LogrotateText(Case):
    """Configurations as logrotate reads them."""

    def parse(self, text: str, options: dict[str, str] | None = None) -> list[Any]:
        return list(logwatch.parse_logrotate(text, 'f', {} if options is None else options))

    def test_reads_what_debian_ships(self) -> None:
        text = '''# comment
weekly
create
/var/log/nginx/*.log {
	daily
	compress
	create 0640 www-data adm
	sharedscripts
	prerotate
		if [ -d /etc/logrotate.d/httpd-prerotate ]; then \\
			run-parts /etc/logrotate.d/httpd-prerotate; \\
		fi \\
	endscript
	postrotate
		} create 0600 root root {
	endscript
}
"/var/log/with space.log" '/b.log'
/c.log
{
	nocreate
	su root adm
}
include /etc/logrotate.d
'''
        one, two, three = self.parse(text)
        self.assertEqual(one, logwatch.Stanza('f:4', ('/var/log/nginx/*.log',),
                                              {'create': '0640 www-data adm', 'compress': ''}))
        self.assertEqual(two, logwatch.Stanza('f:18', ('/var/log/with space.log', '/b.log', '/c.log'),
                                              {'su': 'root adm'}))
        self.assertEqual(three, '/etc/logrotate.d')

    def test_globals_hold_from_where_they_stand(self) -> None:
        options: dict[str, str] = {}
        one, two = self.parse('/a {\n}\ncopytruncate\n/b {\n rotate 3\n}\nnocopytruncate', options)
        self.assertEqual((one.options, two.options, options), ({}, {'copytruncate': '', 'rotate': '3'}, {}))

    def test_taboo_lists_are_replaced_or_extended(self) -> None:
        options = {'taboo': '*~'}
        self.parse('tabooext + .x .y\ntaboopat + z*', options)
        self.assertEqual(options['taboo'].split(), ['*~', '*.x', '*.y', 'z*'])
        self.parse('tabooext .q', options)
        self.assertEqual(options['taboo'], '*.q')

    def test_globs_match_part_by_part(self) -> None:
        stanzas = [logwatch.Stanza('f:1', (glob,), {})
                   for glob in ('/var/log/*.log', '/var/*/a.log', '/var/log/a.[lm]og',
                                                           '/var/log/?.log')]
        for path, hits in (('/var/log/a.log', 4), ('/var/log/ab.log', 1), ('/var/log/x/a.log', 0),
                           ('/var/log/.a.log', 0), ('/var/x/a.log', 1)):
            self.assertEqual(len(logwatch.matching(path, stanzas)), hits, path)

    def test_hostile_text_neither_raises_nor_hangs(self) -> None:
        rng = random.Random(7)
        parts = ('/', '{', '}', '\n', '"', "'", 'postrotate\n', 'endscript', 'include ', '/a', '*', '[', '#',
                 'create ', '\\', '\0', 'no', 'su ',
                 '\udcff', '=', ' ', '\t', 'tabooext + ', '/x {\n', '\n}\n', '\r', '\u2028')
        for _ in range(4000):
            text = ''.join(rng.choice(parts) for _ in range(rng.randint(0, 25)))
            stanzas = [one for one in self.parse(text) if isinstance(one, logwatch.Stanza)]
            logwatch.matching('/a/b', stanzas)
            for one in stanzas:
                logwatch.after_rotation(one.options, logwatch.Access(0, 0, 0o100640), logwatch.Access(0, 0, 0o40755))
        for part in parts:
            start = time.process_time()
            found = self.parse((part * (1 << 18))[:1 << 18])
            logwatch.matching('/a/b', [one for one in found if isinstance(one, logwatch.Stanza)])
            self.assertLess(time.process_time() - start, 1.5, part)


@requires('root', 'logrotate')
class Foretold(LogrotateBox):
    """Each prediction is compared with what logrotate then really does."""

    def foretold(self, path: str, conf: str) -> Any:
        stanzas, findings = logwatch.load_logrotate(conf)
        self.assertEqual(findings, [])
        return logwatch.predict(path, logwatch.matching(path, stanzas)[0])

    def compare(self, path: str, conf: str) -> Any:
        fate, before = self.foretold(path, conf), os.lstat(path).st_ino
        done = self.rotate(conf)
        if fate.how == 'fails':
            self.assertNotEqual(done.returncode, 0, fate)
            self.assertEqual(os.lstat(path).st_ino, before, fate)
            return fate
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(fate.how, 'keep' if os.path.exists(path) and os.lstat(path).st_ino == before else
                         'create' if os.path.exists(path) else 'gone')
        if fate.access:
            self.assertEqual(fate.access, logwatch.access_of(path))
        return fate

    def test_predictions_come_true(self) -> None:
        folders = (((0, 0), 0o755), ((WWW, WWW), 0o755), ((WWW, WWW), 0o775), ((WWW, ADM), 0o2750),
                   ((WWW, ADM), 0o2755), ((0, ADM), 0o775), ((0, 0), 0o777))
        creates = ('create', 'create 0640', 'create 0640 www-data adm', 'create 0600 root root',
                   'create www-data root', '',
                   'nocreate', 'copytruncate\ncreate 0600 root root', 'create 0640 nosuchuser adm',
                   'create 0640 # comment', 'create 0600 33 4', 'create=0640')
        sus = ('', 'su root adm', 'su root root', 'su www-data www-data', 'su www-data adm', 'su nosuchuser adm',
               'su www-data')
        hows: set[str] = set()
        number = 0
        for (owner, mode), create, su in itertools.product(folders, creates, sus):
            number += 1
            folder = self.folder(f'd{number}', owner, mode)
            path = self.log(f'd{number}/a.log', ((0, 0), (WWW, ADM), (WWW, WWW))[number % 3],
                            (0o644, 0o640, 0o604)[number % 3])
            if 'copytruncate' in create and su and number % 3 == 0:  # su may not write root's file: not foretold
                continue
            conf = self.conf(f'{path}\n{{\n\trotate 2\n\t{create}\n\t{su}\n}}\n')
            with self.subTest(folder=(owner, oct(mode)), create=create, su=su, log=logwatch.access_of(path)):
                hows.add(self.compare(path, conf).how)
            shutil.rmtree(folder)
        self.assertEqual(hows, {'create', 'keep', 'gone', 'fails'})

    def test_default_acl_survives_create_0640_and_dies_with_0600(self) -> None:
        for create, readable in (('create 0640 www-data adm', True), ('create 0600 www-data adm', False),
                                 ('create', True)):
            folder = self.folder()
            os.setxattr(folder, 'system.posix_acl_default', acl((USER_OBJ, 7, -1), (USER, 4, ME), (GROUP_OBJ, 5, -1),
                                                                (ACL_MASK, 5, -1), (OTHER, 0, -1)))
            path = self.log(mode=0o640)
            with self.subTest(create):
                fate = self.compare(path, self.conf(f'{path} {{\n rotate 1\n {create}\n}}\n'))
                self.assertEqual(logwatch.allowed(fate.access, ME, frozenset(), logwatch.READ), readable)
                self.assertEqual(may_read(path, ME, frozenset({65533})), readable)
            shutil.rmtree(folder)

    def test_globals_leak_through_includes_as_they_do_there(self) -> None:
        self.folder()
        os.mkdir(self.path('inc'))
        a, b, c = (self.log(f'logs/{name}.log') for name in 'abc')
        self.conf(f'create 0644 www-data adm\n{a} {{\n rotate 1\n nocreate\n}}\n', 'inc/10')
        self.conf(f'{b} {{\n rotate 1\n}}\n', 'inc/20')
        self.conf(f'{c} {{\n rotate 1\n create 0600 root root\n}}\n', 'inc/30.dpkg-old')
        self.conf(f'{c} {{\n rotate 1\n create 0606\n}}\n', 'inc/.hidden')
        conf = self.conf(f'create 0600 root root\ninclude {self.path("inc")}\n')
        fates = [self.foretold(one, conf) for one in (a, b, c)]
        self.assertEqual(self.rotate(conf).returncode, 0)
        self.assertFalse(os.path.exists(a))
        self.assertEqual(fates[0].how, 'gone')
        for path, fate in ((b, fates[1]), (c, fates[2])):
            self.assertEqual(fate.access, logwatch.access_of(path))

    def test_a_custom_vhost_log_is_foretold_while_it_is_still_readable(self) -> None:
        """A root:root 0644 (nginx made it), B www-data:root 0644 (reopened), C www-data:adm 0640."""
        self.folder(owner=(0, ADM))
        conf = self.conf(f'{self.path("logs")}/*.log {{\n daily\n rotate 9\n compress\n create 0640 www-data adm\n}}\n')
        for owner in ((0, 0), (WWW, 0)):
            path = self.log('logs/shop.access.log', owner=owner)
            stanzas, _ = logwatch.load_logrotate(conf)
            self.assertIsNone(logwatch.why_unreadable(path, ME, frozenset({9})))
            [found] = logwatch.rotation_findings(path, stanzas, ME, frozenset({9}))
            self.assertEqual(found.what, 'will be unreadable after the next rotation')
            self.assertIn('www-data:adm 0640', found.why)
            self.assertEqual(found.fix, 'usermod -aG adm 4242')
            self.assertEqual(logwatch.rotation_findings(path, stanzas, ME, frozenset({9, ADM})), [])
        self.assertTrue(may_read(path, ME, {9}))
        self.rotate(conf)
        self.assertFalse(may_read(path, ME, {9}))
        self.assertIn('adm 0640', str(logwatch.why_unreadable(path, ME, frozenset({9}))))
        self.assertTrue(may_read(path, ME, {9, ADM}))

    def test_the_su_trap_is_named_and_the_stanza_given_mends_it(self) -> None:
        self.folder(owner=(WWW, WWW), mode=0o775)
        path = self.log(owner=(WWW, ADM), mode=0o640)
        conf = self.conf(f'{path}\n{{\n\trotate 2\n\tsu www-data www-data\n\tcreate 0640 www-data adm\n}}\n')
        me = frozenset({9, ADM})
        [found] = logwatch.rotation_findings(path, logwatch.load_logrotate(conf)[0], ME, me)
        self.assertIn('overrules', found.why)
        lines = found.fix.partition(':\n')[2]
        # www-data's own group would also do, but the named stanza is what the doctor gives when asked for adm
        conf = self.conf(f'{path}\n{{\n\trotate 2\n{lines}\n}}\n')
        self.assertEqual(logwatch.rotation_findings(path, logwatch.load_logrotate(conf)[0], ME, me), [])
        self.assertEqual(self.rotate(conf).returncode, 0)
        self.assertTrue(may_read(path, ME, me))

    @mock.patch('logwatch.maps_all_ids', lambda: False)      # as with PrivateUsers=yes
    def test_in_a_sandbox_no_group_is_accused_but_0600_is(self) -> None:
        self.folder()
        path = self.log(mode=0o644)
        mine = frozenset({ME, 65534})  # PrivateUsers=yes: adm is 65534 here
        for create, alarms in (('create 0640 www-data adm', 0), ('create 0600 www-data adm', 1)):
            conf = self.conf(f'{path} {{\n rotate 1\n {create}\n}}\n')
            self.assertEqual(len(logwatch.rotation_findings(path, logwatch.load_logrotate(conf)[0], ME, mine)), alarms)

    def test_a_create_of_0600_gets_a_stanza_that_mends_it(self) -> None:
        self.folder()
        path = self.log(mode=0o644)
        conf = self.conf(f'{path}\n{{\n\trotate 2\n\tcreate 0600 root root\n}}\n')
        [found] = logwatch.rotation_findings(path, logwatch.load_logrotate(conf)[0], ME, frozenset({ADM}))
        self.assertEqual(found.fix, f'in {conf}:1 write:\n\tcreate 0640 root adm')
        self.conf(f'{path}\n{{\n\trotate 2\n{found.fix.partition(":" + chr(10))[2]}\n}}\n')
        self.rotate(conf)
        self.assertTrue(may_read(path, ME, {ADM}))

    def test_two_stanzas_for_one_log_are_found_as_logrotate_finds_them(self) -> None:
        self.folder()
        os.mkdir(self.path('inc'))
        path = self.log()
        self.conf(f'{path} {{\n rotate 1\n create\n}}\n', 'inc/app')
        self.conf(f'{self.path("logs")}/*.log {{\n rotate 1\n create\n}}\n', 'inc/logwatch')
        conf = self.conf(f'include {self.path("inc")}\n')
        [found] = logwatch.rotation_findings(path, logwatch.load_logrotate(conf)[0], ME, frozenset())
        self.assertIn('two stanzas', found.what)
        self.assertIn('inc/logwatch:1', found.fix)
        done = self.rotate(conf)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn('duplicate', done.stderr)

    def test_habits_are_named(self) -> None:
        self.folder()
        self.folder('logs/old')
        path = self.log()
        for text, what in (('copytruncate', 'loses lines'), (f'olddir {self.path("logs/old")}\ncreate', 'elsewhere')):
            conf = self.conf(f'{path}\n{{\nrotate 2\n{text}\n}}\n')
            [found] = logwatch.rotation_findings(path, logwatch.load_logrotate(conf)[0], ME, frozenset())
            self.assertIn(what, found.what)

    def test_a_log_without_stanza_grows_and_the_stanza_given_is_valid(self) -> None:
        self.folder()
        path = self.log()
        self.assertEqual(logwatch.rotation_findings(path, [], ME, frozenset()), [], 'a small log is no trouble')
        with mock.patch.object(logwatch, 'GROWN_BYTES', 1):
            [found] = logwatch.rotation_findings(path, [], ME, frozenset())
        self.assertIn('grows', found.what)
        conf = self.conf(found.fix.partition(':\n')[2] + '\n')
        self.assertEqual(self.rotate(conf).returncode, 0)
        self.assertEqual(logwatch.rotation_findings(path, logwatch.load_logrotate(conf)[0], ME, frozenset({ADM})), [])

    def test_of_two_stanzas_the_packages_stays(self) -> None:
        """Its postrotate is what tells the writer to reopen."""
        self.folder()
        path = self.log()
        one, two = (self.conf(f'{glob} {{\n rotate 1\n}}\n', name) for name, glob in
                    (('local', self.path('logs', '*.log')), ('nginx', f'/none {path}')))
        stanzas = [logwatch.load_logrotate(conf)[0][0] for conf in (one, two)]
        for package, taken in ((two, f'take {self.path("logs")}/*.log out of {one}:1'),
                               *((package, f'take {path} out of {two}:1') for package in (one, '', 'all'))):
            def owned(*command: str, package: str = package) -> str:
                return 'nginx-common: x\n' if package in ('all', command[-1]) else ''
            with self.subTest(package), mock.patch.object(logwatch, '_output', owned):
                found, = logwatch.rotation_findings(path, stanzas, ME, frozenset({ADM}))
                self.assertEqual(found.fix.replace("'", ''), taken)

    def test_rotations_that_are_packed_in_another_way_are_told_of(self) -> None:
        self.folder()
        path = self.log()
        for packer, found in (('/usr/bin/xz', 1), ('zstd', 1), ('/usr/bin/pigz', 0), ('gzip', 0)):
            conf = self.conf(f'{path} {{\n compress\n compresscmd {packer}\n create\n}}\n')
            stanzas, _ = logwatch.load_logrotate(conf)
            with self.subTest(packer):
                self.assertEqual([one.what for one in logwatch.rotation_findings(path, stanzas, ME, frozenset())],
                                 ['has rotations that cannot be read'] * found)

    def test_a_name_with_signs_of_logrotates_gets_no_stanza(self) -> None:
        """It would be one about other files, or hold other directives."""
        self.folder()
        for name in ('a{.log', 'a*.log', "a'.log", 'a".log', 'a b.log', 'a\nb.log', 'a\\.log', 'caf\u00e9.log'):
            path = self.log(f'logs/{name}')
            with self.subTest(name), mock.patch.object(logwatch, 'GROWN_BYTES', 1):
                [found] = logwatch.rotation_findings(path, [], ME, frozenset())
                self.assertIn('grows', found.what)
                self.assertRegex(found.fix, r'\Ahave its writer take a name of letters')

    def test_the_stanza_given_leaves_the_writer_its_log(self) -> None:
        for number, (owner, mode) in enumerate((((WWW, WWW), 0o755), ((WWW, WWW), 0o775), ((0, ADM), 0o755))):
            self.folder(f'w{number}', owner, mode)
            path = self.log(f'w{number}/a.log', (WWW, ADM), 0o640)
            with self.subTest(owner=owner, mode=oct(mode)), mock.patch.object(logwatch, 'GROWN_BYTES', 1):
                [found] = logwatch.rotation_findings(path, [], ME, frozenset({ADM}))
                done = self.rotate(self.conf(found.fix.partition(':\n')[2] + '\n'))
                self.assertEqual((done.returncode, done.stderr), (0, ''))
                self.assertEqual(logwatch.access_of(path), logwatch.Access(WWW, ADM, stat.S_IFREG | 0o640))

    def test_files_that_logrotate_passes_over_are_reported(self) -> None:
        self.folder()
        os.mkdir(self.path('inc'))
        path = self.log()
        os.chmod(self.conf(f'{path} {{\n rotate 1\n}}\n', 'inc/open'), 0o664)
        os.chown(self.conf(f'{path} {{\n rotate 1\n}}\n', 'inc/theirs'), WWW, 0)
        os.mkfifo(self.path('inc/fifo'))
        conf = self.conf(f'include {self.path("inc")}\ninclude {self.path("logrotate.conf")}\ninclude /none\n')
        stanzas, findings = logwatch.load_logrotate(conf)
        self.assertEqual([one.what for one in findings], ['is ignored by logrotate'] * 2 + ['cannot be read'])
        self.assertEqual(stanzas, [])
        os.unlink(self.path('inc/fifo'))  # logrotate itself would hang on it
        self.rotate(conf)
        self.assertFalse(os.path.exists(path + '.1'))

    def test_the_machine_s_own_configuration_is_understood(self) -> None:
        stanzas, findings = logwatch.load_logrotate('/etc/logrotate.conf')
        self.assertEqual(findings, [])
        self.assertTrue(any('/var/log/nginx/' in glob for one in stanzas for glob in one.globs))
        shown = subprocess.run([str(find_tool('logrotate')), '-d', '-s', self.path('state'), '/etc/logrotate.conf'],
                               capture_output=True,
                               text=True, check=False)
        self.assertEqual([str(len(stanzas))], re.findall(r'Handling (\d+) logs', shown.stdout + shown.stderr))


class ForgedNginx(http.server.BaseHTTPRequestHandler):
    """An nginx with one of the usual mistakes."""

    forwarded, hold, status = '{}, 127.0.0.1', 0.0, 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.send_header('Logwatch-Forwarded', self.forwarded.format(self.headers['X-Forwarded-For']))
        self.end_headers()
        self.wfile.flush()
        time.sleep(self.hold if 'follow' in self.path else 0)
        self.wfile.write(b': hello\n\n')

    def log_message(self, *_: object) -> None:
        pass


class Probed(LogrotateBox):
    """The machine around the logs: nginx, ports, units, the journal."""

    def serve_forged(self, certificate: str = '', **settings: object) -> str:
        server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), type('H', (ForgedNginx,), settings))
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return f'http{"s" * bool(certificate)}://127.0.0.1:{server.server_port}/prefix/'

    def test_probe_tells_what_nginx_does(self) -> None:
        with mock.patch.object(logwatch, 'PROBE_SECONDS', 0.3):
            whats = [[one.what for one in logwatch.probe(self.serve_forged(**settings), 'logs/x?follow=1')]
                     for settings in
                     ({'forwarded': '127.0.0.1'}, {}, {'forwarded': '{}'},
                      {'forwarded': '127.0.0.1', 'hold': 1.0}, {'status': 502})]
        self.assertEqual(whats, [[], ['passes on addresses that clients claim'], ['lets clients choose their address'],
                                 ['holds streams back'], ['does not answer']])

    @requires('openssl')
    def test_probe_asks_this_machine_for_the_name_over_tls(self) -> None:
        """The shipped nginx.conf answers by name and TLS only."""
        pem = self.path('pem')
        subprocess.run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=x',
                        '-keyout', pem, '-out', pem + '.crt'], check=True, capture_output=True)
        with open(pem, 'a') as file:
            file.write(Path(pem + '.crt').read_text())
        url = self.serve_forged(pem).replace('127.0.0.1', 'logs.example.org')
        self.assertEqual([one.what for one in logwatch.probe(url, '')], ['passes on addresses that clients claim'])

    def test_probe_goes_to_loopback_only(self) -> None:
        for url in ('http://192.0.2.1/', 'http://example.org/', 'https://127.0.0.1/', 'http://127.0.0.1.example.org/',
                    'http://[::1]/', 'http://0.0.0.0/', 'http://2130706434/',
                    'http://127.0.0.1@192.0.2.1/', 'https://user:x@192.0.2.1:99/'):
            with self.subTest(url), mock.patch.object(socket, 'create_connection', side_effect=OSError) as connected:
                self.assertEqual([one.what for one in logwatch.probe(url, 'x')], ['does not answer'])
                self.assertIn(connected.call_args.args[0][0], ('127.0.0.1', '::1'))
        for url in ('file:///etc/passwd', 'x', 'http://', 'http://127.0.0.1:x/', 'http://[::1/', 'ftp://127.0.0.1/',
                    'http://localhost/\xe9/', 'https://a..b/', f'https://{"a" * 70}/'):
            with self.subTest(url), self.assertRaisesRegex(logwatch.ConfigError, 'allowed: http://'):
                logwatch.probe(url, 'x')
        with socket.create_server(('127.0.0.1', 0)) as one:
            port = one.getsockname()[1]
        self.assertEqual([one.what for one in logwatch.probe(f'http://localhost:{port}', 'x')], ['does not answer'])

    def test_open_files_ports_and_units(self) -> None:
        with open(self.path('ini'), 'w'):
            pass
        for mode, bad in ((0o640, 0), (0o644, 1), (0o602, 1), (0o600, 0)):
            os.chmod(self.path('ini'), mode)
            self.assertEqual(len(logwatch.exposed(self.path('ini'), WWW)), bad, oct(mode))
            for one in logwatch.exposed(self.path('ini'), WWW):
                self.assertTrue(one.fix.startswith('chown www-data '))
        bob = pwd.struct_passwd(('bob', 'x', 1000, 1000, '', '/home/bob', '/bin/bash'))
        nobody = pwd.struct_passwd(('x', 'x', 1001, 1001, '', '/', '/usr/sbin/nologin'))
        for listen, users, bad in (('127.0.0.1:5000', [bob], 1), ('127.0.0.1:5000', [nobody], 0),
                                   ('unix:/run/x', [bob], 0)):
            self.assertEqual(len(logwatch.open_port(listen, users)), bad)
        with mock.patch.object(logwatch, '_output',
                               lambda *_: '→ Overall exposure level for logwatch.service: 9.2 UNSAFE 😨\n'):
            self.assertIn('9.2', logwatch.exposure('logwatch.service')[0].what)
        with mock.patch.object(logwatch, '_output',
                               lambda *_: '→ Overall exposure level for logwatch.service: 0.3 SAFE 😀\n'):
            self.assertEqual(logwatch.exposure('logwatch.service'), [])
        self.assertEqual(logwatch._output('/nonexistent'), '')

    @requires('systemd-analyze')
    def test_a_bare_unit_is_rated_by_systemd_itself(self) -> None:
        with open(self.path('bare.service'), 'w') as file:
            file.write('[Service]\nExecStart=/bin/true\nUser=nobody\n')
        [found] = logwatch.exposure(self.path('bare.service'))
        self.assertRegex(found.what, r'exposure of 9\.\d')

    @requires('root')
    def test_journal(self) -> None:
        os.makedirs(self.path('var/log/journal/0123'))
        path = self.log('var/log/journal/0123/system.journal', (0, ADM), 0o640)
        with mock.patch.object(logwatch, 'JOURNAL_FOLDERS', (self.path('var/log/journal'),)):
            self.assertEqual(logwatch.journal_findings(ME, frozenset({ADM})), [])
            [found] = logwatch.journal_findings(ME, frozenset({9}))
            self.assertIn('systemd-journal', found.fix)
            os.unlink(path)
            self.assertEqual(logwatch.journal_findings(ME, frozenset()), [])

    def test_check_puts_it_together_and_says_who_asked(self) -> None:
        os.chmod(self.box, 0o755)
        with open(self.path('logrotate.conf'), 'w'):
            pass
        os.chmod(self.path('logrotate.conf'), 0o644)
        config = logwatch.load_config({'log-root': [self.box]}, {})
        logs = [logwatch.Log('none', self.box, (logwatch.File(('none.log',), 1, 1, 1, '', True),))]
        with mock.patch.object(logwatch, 'LOGROTATE_CONF', self.path('logrotate.conf')):
            found = logwatch.examine(config, logs, ME, frozenset())
        self.assertTrue(all(isinstance(one, logwatch.Finding) and all(one) for one in found))
        self.assertIn(self.path('none.log'), [one.subject for one in found])
        self.assertIn('for 4242 (uid 4242; groups adm)', logwatch.ran_as(ME, frozenset({ADM})))

    @requires('root')
    def test_check_sees_folders_that_cannot_be_listed_and_a_configuration_that_cannot_be_read(self) -> None:
        """To open a log takes x on its folder; to find it, and its rotations, r as well."""
        os.chmod(self.box, 0o755)
        self.folder('logs/closed', mode=0o711)
        self.log('logs/closed/a.log')
        self.log('logs/closed/b.log')
        self.conf('')
        ini = plant(scratch(), {'x.ini': f'[logwatch]\nlog-root = {self.path("logs")}\n'}) / 'x.ini'
        ini.chmod(0o600)
        config = logwatch.load_config({}, {}, str(ini))
        with mock.patch.object(logwatch, 'LOGROTATE_CONF', self.path('logrotate.conf')):
            found = logwatch.examine(config, logwatch.Catalogue(config).logs(), ME, frozenset())
        fixes = [one.fix for one in found if 'setfacl' in one.fix]
        self.assertEqual(fixes, [f'setfacl -m u:4242:rx {self.path("logs/closed")}', f'setfacl -m u:4242:r {ini}'])

    def test_check_follows_a_link_to_the_configuration(self) -> None:
        """It was no regular file, and to be served as a log."""
        os.chmod(self.box, 0o755)
        self.folder('logs')
        self.conf('')
        ini = plant(scratch(), {'x.ini': f'[logwatch]\nlog-root = {self.path("logs")}\n'}) / 'x.ini'
        link = ini.with_name('link.ini')
        link.symlink_to(ini)
        config = logwatch.load_config({}, {}, str(link))
        with mock.patch.object(logwatch, 'LOGROTATE_CONF', self.path('logrotate.conf')):
            self.assertEqual([one for one in logwatch.examine(config, [], ME, frozenset()) if '.ini' in one.fix], [])
            ini.chmod(0o600)
            found = [one.fix for one in logwatch.examine(config, [], ME, frozenset()) if '.ini' in one.fix]
        self.assertEqual(found, [f'setfacl -m u:4242:r {ini}'])

    def test_check_looks_at_the_unit_and_at_the_units_of_the_journal(self) -> None:
        config = logwatch.load_config({'log': ['a=journal:no.service', 'b=journal:ssh.service', 'c=journal:']}, {})
        states = {('LoadState', 'logwatch'): 'loaded', ('ActiveState', 'logwatch'): 'failed',
                  ('LoadState', 'no.service'): 'not-found', ('LoadState', 'ssh.service'): 'loaded'}

        def shown(*command: str) -> str:
            return states.get((command[2].partition('=')[2], command[-1]), '') + '\n'
        with mock.patch.object(logwatch, '_output', shown):
            self.assertEqual([(one.subject, one.what) for one in logwatch.service_findings(config)],
                             [('logwatch.service', 'is failed'), ('a', 'is the journal of no unit')])
        with mock.patch.object(logwatch, '_output', lambda *command: ''):
            self.assertEqual(list(logwatch.service_findings(config)), [])

    def test_check_takes_the_units_variables_and_credentials(self) -> None:
        """TCP with tokens that systemd hands over was said to have none; `config` showed what another process would
        have."""
        unit = {'show': 'LOGWATCH_LISTEN=127.0.0.1:7777 "LOGWATCH_LOG_ROOT=/a b"\n',
                'cat': '[Service]\nLoadCredential=tokens:/etc/logwatch.tokens\n'}
        bob = pwd.struct_passwd(('bob', 'x', 1000, 1000, '', '/home/bob', '/bin/bash'))
        for listen, credentials, bad in (('127.0.0.1:7777', True, 0), ('127.0.0.1:7777', False, 1)):
            def told(*command: str, credentials: bool = credentials) -> str:
                if command[1] == 'cat' and not credentials:
                    return ''
                return unit[command[1]] if command[2] in ('logwatch', '--property=Environment') else ''
            output = io.StringIO()
            with self.subTest(credentials), mock.patch.object(logwatch, '_output', told), \
                    mock.patch.object(pwd, 'getpwall', return_value=[bob]), contextlib.redirect_stdout(output), \
                    mock.patch.object(logwatch, 'service_identity', lambda: (ME, frozenset())):
                logwatch.main(['check', '--log-root', self.box])
            self.assertEqual(output.getvalue().count(f'{listen} every user of this machine can read'), bad)
        output = io.StringIO()
        with mock.patch.object(logwatch, '_output', told), contextlib.redirect_stdout(output):
            logwatch.main(['config', '--rate', '7'])
        for line in ('listen = 127.0.0.1:7777', 'log-root = /a b', 'rate = 7'):
            self.assertIn(f'\n{line}\n', output.getvalue())
        self.assertNotIn('LoadCredential', output.getvalue())
        output = io.StringIO()
        with mock.patch.object(logwatch, '_output', lambda *command: unit[command[1]]), \
                contextlib.redirect_stdout(output):
            logwatch.main(['config'])
        self.assertTrue(output.getvalue().endswith('\n# LoadCredential=tokens:/etc/logwatch.tokens: not shown\n'))

    @requires('root')
    def test_root_asks_for_the_service_user(self) -> None:
        self.assertIn(WWW, logwatch.service_identity('www-data')[1])
        with self.assertRaises(KeyError):
            logwatch.service_identity('nosuchuser')

    def test_bits_are_the_kernel_s(self) -> None:
        self.assertEqual((logwatch.READ, logwatch.WRITE, logwatch.ENTER), (os.R_OK, os.W_OK, os.X_OK))


# ----------------------------------------------------------------------------------------------------------------------
# attacks: one test a class of known vulnerability
# ----------------------------------------------------------------------------------------------------------------------

CANARY = 'the-canary-that-nobody-may-see'
OUTSIDE = {'outside/secret.log': CANARY + '\n', 'logs2/evil.log': CANARY + '\n', 'outside/app.log': CANARY + '\n'}


def encodings(path: str) -> list[str]:
    """A path in the spellings that filters have been fooled by."""
    once = urllib.parse.quote(path, safe='')
    return [path, once, once.lower(), urllib.parse.quote(once, safe=''), path.replace('/', '%2f').replace('.', '%2e'),
            path.replace('/', '\\'), path.replace('/', '%5c'), path.replace('../', '....//'),
            path.replace('/', '%c0%af'),
            path.replace('..', '%c0%ae%c0%ae'), path.replace('/', '%252f'), path + '%00', path + '%00.log',
            path + '%0a',
            path.replace('/', '//'), f'app/{path}', f'app%2f{path}', f'.%2f{path}', f'file://{path}', path + '/.',
            path + ';x']


class AttackedFiles(Case):
    """Paths, links, races, and files that are no logs: nothing outside the root is ever served."""

    home: Path

    @classmethod
    def setUpClass(cls) -> None:
        cls.home = plant(scratch(), OUTSIDE | {'logs/app.log': 'inside\n', 'logs/sub/in.log': 'inside\n'})
        (cls.home / 'outside/secret.log').chmod(0o600)
        cls.server = cls.serve_class('--rate', '0', root=cls.home / 'logs')

    def assertInside(self, reply: Reply, what: object) -> None:
        self.assertNotIn(CANARY.encode(), reply.body, what)
        self.assertNotIn(b'root:x:0:0', reply.body, what)
        self.assertLess(reply.status, 500, what)

    def test_traversal_in_the_path(self) -> None:
        """laravel-log-viewer CVE-2018-8947 and #306, dagster #18462, WSO2: encoded, double, absolute, NUL, overlong."""
        asked = 0
        for path in ('../outside/secret.log', '/etc/passwd', '../../../../../../etc/passwd', '..',
                     f'{self.home}/outside/secret.log',
                     '../logs2/evil.log', '../logs2/evil', 'sub/../../outside/secret.log', '.', '~root', '-',
                     'L2V0Yy9wYXNzd2Q='):
            for spelling in encodings(path):
                for target in (f'/logs/{spelling}', f'/logs/{spelling}/raw', f'/{spelling}', f'/health/{spelling}'):
                    asked += 1
                    with self.server.wire() as wire:
                        wire.send(head_bytes(target.replace(' ', '%20')))
                        reply = wire.answer()
                    self.assertInside(reply, target)
                    self.assertIn(reply.status, (400, 404), target)
                    self.assertIsNone(reply.headers['Location'], target)
        self.assertGreater(asked, 900)

    def test_traversal_in_every_parameter(self) -> None:
        """mageprince/magento2 #12: the validator was missing on two of six endpoints. Here parameters are no paths."""
        for route in logwatch.ROUTES:
            path = route.path.replace('{name}', 'app').replace('{check}', 'disk')
            for parameter in (*route.parameters, 'file', 'path', 'name', 'log'):
                for value in encodings('../outside/secret.log')[:8] + encodings('/etc/passwd')[:8]:
                    if parameter == 'follow':
                        continue
                    target = f'{path}?{parameter}={value}'.replace('\\', '%5C')
                    self.assertInside(self.server.get(target), target)

    def test_a_root_is_no_prefix_of_its_neighbour(self) -> None:
        """startswith(base) lets /base2 in (dagster #18462)."""
        names = {row['name'] for row in self.server.get('/logs?format=json').json()['logs']}
        self.assertEqual(names, {'app', 'sub-in'})

    def test_links_and_files_that_are_no_logs(self) -> None:
        """Symbolic links, hard links into writable folders, FIFOs (whose open hangs), devices, sockets."""
        home = plant(scratch(), OUTSIDE | {'logs/app.log': 'inside\n'})
        logs = home / 'logs'
        (logs / 'link.log').symlink_to(home / 'outside/secret.log')
        (logs / 'dir').symlink_to(home / 'outside')
        (logs / 'passwd.log').symlink_to('/etc/passwd')
        (logs / 'loop.log').symlink_to('loop.log')
        (logs / 'rotated.log.1').symlink_to(home / 'outside/secret.log')
        (logs / 'mem.log').symlink_to('/proc/self/mem')
        (logs / 'open').mkdir()
        (logs / 'open').chmod(0o777)
        os.link(home / 'outside/secret.log', logs / 'open/hard.log')
        os.mkfifo(logs / 'pipe.log')
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(logs / 'socket.log'))
            for options in ((), ('--log', f'x={logs}/*.log', '--log', f'z={logs}/*/*.log')):
                server = self.serve('--rate', '0', *options, root=logs)
                began = time.monotonic()
                for name in words('app link dir dir-secret passwd loop rotated mem open-hard pipe socket x z'):
                    for ending in ('', '/raw', '?format=json', '?q=canary', '?re=c'):
                        self.assertInside(server.get(f'/logs/{name}{ending}'), (name, ending))
                self.assertInside(server.get('/logs?format=json'), options)
                self.assertInside(server.get('/metrics'), options)
                self.assertLess(time.monotonic() - began, 8)

    def test_a_race_at_the_opening(self) -> None:
        """A log, a folder and a rotation turn into links to a secret and back while requests run: CVE-2018-8947's class
        by time of check to time of use."""
        home = plant(scratch(), OUTSIDE | {'logs/app.log': 'inside\n', 'logs/sub/app.log': 'inside\n',
                                           'logs/r.log': 'inside\n'})
        logs, stop, swaps = home / 'logs', threading.Event(), [0]

        def swap(name: str, target: Path) -> None:
            """name is a link, then what it was: each by one rename."""
            (logs / f'.{name}.link').symlink_to(target)
            if (logs / name).is_dir() and not (logs / name).is_symlink():
                (logs / name).rename(logs / f'.{name}.real')
                (logs / f'.{name}.link').rename(logs / name)
                (logs / name).unlink()
                (logs / f'.{name}.real').rename(logs / name)
            else:
                (logs / f'.{name}.real').write_text('inside\n')
                (logs / f'.{name}.link').replace(logs / name)
                (logs / f'.{name}.real').replace(logs / name)
            swaps[0] += 1

        def attack() -> None:
            while not stop.is_set():
                swap('app.log', home / 'outside/secret.log')
                swap('sub', home / 'outside')
                swap('r.log.1', home / 'outside/secret.log')

        attacker = threading.Thread(target=attack)
        applications = [make_application('--log-root', str(logs), '--rate', '0'),
                        make_application('--log', f'app={logs}/app.log', '--log-root', str(logs), '--rate', '0')]
        attacker.start()
        try:
            deadline, answers = time.monotonic() + 2.5, Counter[int]()
            while time.monotonic() < deadline:
                for application in applications:
                    for target in ('/logs/app', '/logs/app/raw', '/logs/sub-app', '/logs/r', '/logs?format=json',
                                   '/logs/sub-app/raw'):
                        reply = call(application, target)
                        answers[reply.status] += 1
                        self.assertInside(reply, target) if reply.status != 503 else None
                        self.assertNotIn(CANARY.encode(), reply.body)
        finally:
            stop.set()
            attacker.join()
        self.assertGreater(swaps[0], 100)
        self.assertGreater(answers[200], 20, answers)

    def test_open_below_never_follows_a_link_that_comes_between(self) -> None:
        """The same race with the swap exactly between looking and opening; and each guard by itself."""
        home = plant(scratch(), OUTSIDE | {'logs/app.log': 'inside\n', 'logs/sub/app.log': 'inside\n'})
        real, target = os.open, home / 'logs/app.log'

        def swapped(path: Any, flags: int, *rest: Any, **how: Any) -> int:
            if path == 'app.log':
                self.assertEqual(flags & (os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC),
                                 os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                target.unlink()
                target.symlink_to(home / 'outside/secret.log')
            return real(path, flags, *rest, **how)

        with mock.patch('os.open', swapped), self.assertRaises((logwatch.Unreadable, logwatch.Moved)):
            logwatch.open_below(str(home / 'logs'), ('app.log',))
        with self.assertRaisesRegex(logwatch.Unreadable, 'it is a symbolic link'):
            logwatch.open_below(str(home / 'logs'), ('app.log',))
        target.unlink()
        target.write_text('inside\n')

        def replaced(path: Any, flags: int, *rest: Any, **how: Any) -> int:
            if path == 'app.log':
                os.replace(home / 'outside/app.log', target)
            return real(path, flags, *rest, **how)

        with mock.patch('os.open', replaced), self.assertRaises(logwatch.Moved):
            logwatch.open_below(str(home / 'logs'), ('app.log',))
        (home / 'logs/sub').rename(home / 'logs/was-sub')
        (home / 'logs/sub').symlink_to(home / 'outside')    # a folder that has become a link since it was listed
        with self.assertRaises(logwatch.Unreadable):
            logwatch.open_below(str(home / 'logs'), ('sub', 'secret.log'))

    def test_a_link_of_very_many_parts_is_a_path_as_others(self) -> None:
        """Each part was a call in a call and a descriptor: RecursionError, and no look at any log ever after."""
        root = plant(scratch(), {'real/app.log': 'line\n'})
        (root / 'log').symlink_to('./' * 2000 + 'real')
        application = make_application('--log', f'app={root}/log/app.log')
        self.assertEqual(call(application, '/logs/app').text, 'line\n')
        self.assertIn('all 1 logs', call(application, '/health/logs?format=text').text)

    def test_what_ends_in_a_defect_aside_is_not_the_last(self) -> None:
        """The look at the logs that did was `under way` for ever: a fail, whatever the logs were."""
        aside = logwatch.Aside()
        with mock.patch('threading.excepthook') as told:
            aside.do(lambda: 1 / 0, 5.0)
            until(lambda: told.called, 'the traceback')
        self.assertIs(told.call_args[0][0].exc_type, ZeroDivisionError)
        done = threading.Event()
        aside.do(done.set, 5.0)
        self.assertEqual((done.is_set(), aside.busy()), (True, 0.0))

    def test_file_names_are_no_commands(self) -> None:
        """Debian logwatch CVE-2011-1018, KLog: a file name in a shell."""
        home = scratch()
        touched = home / 'touched'
        plant(home, {f'logs/{name}': 'line\n' for name in (f'a;touch {touched.name};.log', '$(touch touched).log',
                                                           '`id`.log',
                                                          '-rf.log', '--version.log', 'a b.log', "a'b.log", 'a"b.log',
                                                           '*.log')})
        server = self.serve('--rate', '0', root=home / 'logs')
        names = [row['name'] for row in server.get('/logs?format=json').json()['logs']]
        self.assertEqual(len(names), 9)
        for name in names:
            self.assertRegex(name, r'\A[A-Za-z0-9][\w.@:+~-]*\Z')
            self.assertEqual(server.get(lines_url(name, q='line', re='l.ne')).body, b'line\n', name)
        self.assertFalse(touched.exists() or (home / 'logs/touched').exists())

    def test_no_file_name_hangs_a_listing(self) -> None:
        """waitress CVE-2020-5236's class, in our own expressions: who may write in one log folder may name files."""
        pieces = ('1', '-1', '.1', '20260101', '-20260101', '.gz', '.log', '.old', '_1', 'T1', '1.', 'a')
        names = [f'{head}{piece * 60}'[:200] + end for head in ('app.log-20260101', 'a', 'app.log.') for piece in pieces
                 for end in ('', 'x', '.gz', '.gzx')]
        began = time.monotonic()
        done = subprocess.run([sys.executable, '-I', '-c',
                               'import sys; sys.path.insert(0, sys.argv[1]); import logwatch\n'
                               'for name in sys.argv[2:]: logwatch.parse_rotation(name); logwatch.log_name((), name)',
                               str(HERE), *names], check=False, timeout=20, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        self.assertLess(time.monotonic() - began, 3)

    def test_a_gzip_bomb_takes_bounded_memory_and_time(self) -> None:
        """1 GiB of zeros is 1 MB of gzip; for line in gzip.open takes 2 GB (CVE-2025-13836's class)."""
        zeros = zlib.compressobj(9, zlib.DEFLATED, 31)
        bomb = b''.join(zeros.compress(bytes(1 << 20)) for _ in range(384)) + zeros.flush()
        line = zlib.compressobj(9, zlib.DEFLATED, 31)
        long_line = b''.join(line.compress(b'a' * (1 << 20)) for _ in range(192)) + line.flush()
        root = scratch()
        for name, data in (('zero.log.1.gz', bomb), ('wide.log.2.gz', long_line)):
            (root / name).write_bytes(data)
        plant(root, {'zero.log': 'x\n', 'wide.log': 'x\n', 'wide.log.1': 'y\n'})
        server = self.serve('--rate', '0', root=root, constants={'SCAN_SECONDS': 3.0})
        server.get('/logs')
        base, began = server.status('VmRSS'), time.monotonic()
        for name in ('zero', 'wide'):
            for query in ('n=5', 'q=nothing', 'n=10000&format=json'):
                self.assertEqual(server.get(f'/logs/{name}?{query}').status, 200)
        self.assertLess(server.status('VmHWM') - base, 80 << 10, 'kB')
        self.assertLess(time.monotonic() - began, 40)
        self.assertLess(seconds_of(server.get, '/livez'), 0.5)

    def test_damaged_gzip_is_said_and_no_500(self) -> None:
        data = gzip.compress(numbered(1, 2000).encode())
        for what, broken in {'cut': data[:len(data) // 2],
                             'flipped': data[:200] + bytes([data[200] ^ 255]) + data[201:],
                             'empty': b'', 'only the head': data[:10], 'junk behind': data + b'junk',
                             'no gzip': b'plain text\n',
                             'wrong length': data[:-4] + b'\0\0\0\0'}.items():
            with self.subTest(what):
                root = plant(scratch(), {'app.log': 'live\n'})
                (root / 'app.log.1.gz').write_bytes(broken)
                application = make_application('--log-root', str(root))
                for target in ('/logs/app', '/logs/app?n=3000', '/logs/app?q=line', '/logs', '/health', '/metrics'):
                    self.assertIn(call(application, target).status, (200, 503) if target == '/health' else (200,),
                                  target)
                self.assertTrue(call(application, '/logs/app').body.endswith(b'live\n'))


# Catastrophic for a backtracking engine, with and without nested quantifiers (reliability: 453 s for 16 kB)
CATASTROPHES = ['(a+)+$', '(a|a)*$', '(a|aa)+$', '(.*a){20}$', '.*.*=.*x', '.*a.*a.*a.*a.*x', '(?=(a+))*b',
                r'(\w+\s?)+$', '(a*)*b']


class AttackedParsers(Case):
    """Expressions, framing, and time as a weapon."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = cls.serve_class('--rate', '0', root=plant(scratch(), {
            'app.log': 'a' * 3000 + '\n' + 'a=' * 4000 + '!\n', 'calm.log': 'line\n'}),
                                     constants={'HEADER_SECONDS': 2.0})

    def test_redos_delays_nobody_and_ends(self) -> None:
        """CVE-2020-5236's class: the engine holds the interpreter's lock, so only another process can be stopped."""
        self.assertGreaterEqual(len(CATASTROPHES), 9)
        waits: list[float] = []
        for pattern in CATASTROPHES[:5]:
            replies: list[Reply] = []

            def ask(pattern: str = pattern, replies: list[Reply] = replies) -> None:
                replies.append(self.server.get(lines_url('app', re=pattern)))

            thread = threading.Thread(target=ask)
            thread.start()
            while thread.is_alive():
                waits.append(seconds_of(self.server.get, '/logs/calm'))
            thread.join()
            with self.subTest(pattern):
                self.assertIn(replies[0].status, (200, 400, 429, 503))
        self.assertLess(statistics.median(waits), 0.05)
        self.assertLess(max(waits), 1.0)

    def test_regular_expressions_fit_the_units_memory(self) -> None:
        """One of 95 groups in a loop takes 1.6 kB for each character: 250 MB within its second of CPU, and a child that
        the kernel kills for want of memory ends the unit (OOMPolicy=stop)."""
        high = re.search(r'^MemoryHigh=(\d+)M$', (HERE / 'logwatch.service').read_text(), re.MULTILINE)
        self.assertLess(logwatch.REGEX_MAX * logwatch.REGEX_BYTES + (60 << 20), int(high[1] if high else 0) << 20)
        application = make_application('--log-root', str(plant(scratch(), {'app.log': 'ab' * 32_000 + '\n'})))
        self.assertProblem(call(application, lines_url('app', re='(?:' + '(' * 95 + 'a' + ')' * 95 + '|b)*c')), 400,
                           'MiB')
        self.assertEqual(call(application, lines_url('app', re='((a)|(b))*$')).status, 200)

    def test_our_own_expressions_are_linear(self) -> None:
        """waitress CVE-2020-5236: the expression that validated was itself the ReDoS."""
        for piece in ('a,', 'text/html;q=', ';', ' ', '*/*,', 'q=0.', '%41', '&', '=', '[', '-', '.', ':', '1', '\t'):
            text = (piece * 4096)[:4096]
            request = logwatch.Request('GET', '/', '', {'accept': text}, 'unix', True)
            for work, *arguments in ((logwatch.parse_accept, text), (logwatch.negotiate, request, {}, ('text', 'html')),
                                     (logwatch.parse_range, f'bytes={text}', 5),
                                     (logwatch.client_address, 'unix', {'x-forwarded-for': text})):
                with self.subTest(piece, work=work.__name__):
                    self.assertLess(seconds_of(work, *arguments), 0.1)

    def test_smuggling_is_refused_and_the_bytes_behind_are_not_a_request(self) -> None:
        """gunicorn CVE-2024-1135 and CVE-2024-6827, waitress CVE-2019-16785/16786/16789/16792, CVE-2022-24761,
        CVE-2024-49768. The whole table is in the section of the server."""
        behind = b'GET /logs/calm HTTP/1.1\r\nHost: localhost\r\n\r\n'
        for lines in (b'Transfer-Encoding: chunked', b'Content-Length: 45',
                      b'Content-Length: 0\r\nTransfer-Encoding: chunked',
                      b'Transfer-Encoding: xchunked', b'Transfer-Encoding:\x0bchunked', b'Transfer-Encoding : chunked',
                      b'Content-Length: +0', b'Content-Length: 0_0', b'Content-Length: 0, 0',
                      b'Content-Length: 0\r\nContent-Length: 5',
                      b'X: a\nTransfer-Encoding: chunked', b'X: a\r Y: b', b'X:\r\n continued', b'\xef\xbb\xbfX: y',
                      b'X\x00: y'):
            with self.subTest(lines), self.server.wire() as wire:
                wire.send(b'GET /livez HTTP/1.1\r\nHost: localhost\r\n%b\r\n\r\n' % lines + behind)
                answer = read_all(wire)
                self.assertRegex(answer, rb'\AHTTP/1.1 (400|417|501) ')
                self.assertEqual(answer.count(b'HTTP/1.1 '), 1)

    def test_slowloris_is_cut_by_a_total_deadline_and_starves_nobody(self) -> None:
        """A byte a second keeps a per-read timeout away for ever (Slowloris, CVE-2007-6750's class)."""
        wires = [self.server.wire() for _ in range(150)]
        for wire in wires:
            self.addCleanup(wire.close)
        threads = self.server.status('Threads')
        began = time.monotonic()
        for wire in wires:
            wire.send(b'GET /livez HTTP/1.1\r\nHost: localhost\r\n')
        while time.monotonic() - began < 2.5:
            for wire in wires[::10]:
                wire.send(b'X')
            self.assertLess(seconds_of(self.server.get, '/livez'), 0.5)
            time.sleep(0.1)
        self.assertLessEqual(self.server.status('Threads'), threads + 1)
        for wire in wires[::10]:
            self.assertRegex(read_all(wire)[:13], rb'HTTP/1.1 408|\A\Z')
        self.assertLess(time.monotonic() - began, 6)

    def test_numbers_are_digits_only_and_short(self) -> None:
        """CVE-2022-24761: int() takes '+1', '1_0', ' 1'; CVE-2020-10735: it is quadratic in their number."""
        for text in ('+1', '1_0', '%201', '１', '0x1', '1e1', '-1', '9' * 4000, '٣'):
            with self.subTest(text[:10]):
                began = time.monotonic()
                self.assertEqual(self.server.get(f'/logs/calm?n={urllib.parse.quote(text, safe="%+")}').status, 400)
                self.assertLess(time.monotonic() - began, 0.2)

    def test_a_query_has_one_separator_and_no_two_values(self) -> None:
        """CVE-2021-23336: ; as a second separator poisons caches and filters."""
        for query in ('n=1;n=2', 'n=1&n=2', 'q=a;n=1&n=x', 'n=1%26n=2'):
            with self.subTest(query):
                self.assertEqual(self.server.get(f'/logs/calm?{query}').status, 400)

    def test_no_path_becomes_a_redirect(self) -> None:
        """CVE-2021-28861: //evil.example/.. was sent on to another host."""
        for target in ('//evil.example/%2e%2e', '//evil.example/logs/', '/\\evil.example', '/.//evil.example',
                       'http://evil.example/'):
            with self.subTest(target):
                reply = self.server.get(target)
                self.assertIn(reply.status, (400, 404))
                self.assertIsNone(reply.headers['Location'])


HEADERS_OF_A_BROWSER = {'Sec-Fetch-Site': 'cross-site', 'Sec-Fetch-Mode': 'no-cors', 'Origin': 'https://evil.example'}


class AttackedBrowsers(Case):
    """What a page of another site, or a line of a log, tries in a browser or a terminal."""

    hostile = {
        'script': '<script>alert(1)</script>', 'attribute': '" onmouseover="alert(1)',
        'tick': "' autofocus onfocus='alert(1)",
        'image': '<img src=x onerror=alert(1)>', 'end': '</pre></html><script>', 'comment': '--><script>x</script><!--',
        'link': 'javascript:alert(1)', 'entity': '&lt;script&gt;', 'cdata': ']]><script>',
        'svg': '<svg/onload=alert(1)>',
        'utf-7': '+ADw-script+AD4-', 'template': '{{7*7}}${7*7}', 'line end': '\u2028</script>'}

    @classmethod
    def setUpClass(cls) -> None:
        lines = ''.join(f'2026-01-01T00:00:0{n % 10}+00:00 {text} app[1]: {text}\n' for n,
                        text in enumerate(cls.hostile.values()))
        json_lines = ''.join(json.dumps({'time': '2026-01-01T00:00:00Z', 'level': text, 'msg': text, text: text}) + '\n'
                             for text in cls.hostile.values())
        names = {f'{name.replace("/", "_")}.log': 'x\n'
                 for name in ('<b>a', 'a"b', "a'b", 'a&b', '<script>alert(1)<_script>')}
        cls.server = cls.serve_class('--rate', '0',
                                     root=plant(scratch(), {'app.log': lines, 'json.log': json_lines} | names))

    def test_dns_rebinding_meets_a_host_that_is_not_ours_everywhere(self) -> None:
        """Glances CVE-2026-32632 and 46611, MCP SDK CVE-2025-66414: on every endpoint, /health too."""
        for route in logwatch.ROUTES:
            target = route.path.replace('{name}', 'app').replace('{check}', 'disk')
            for name in ('evil.example', 'localhost.evil.example', '127.0.0.1.evil.example', 'evil.example:5000',
                         '0.0.0.0',
                         '192.168.1.5', '[::2]', 'localhost.'):
                with self.subTest(target, host=name):
                    self.assertProblem(self.server.get(target, {'Host': name}), 421)

    def test_a_page_of_another_site_gets_nothing(self) -> None:
        """Sec-Fetch-Site; and no CORS header whatever it asks (Glances CVE-2026-32610, 33533, 46608)."""
        for target in ('/', '/health', '/metrics', '/logs', '/logs/app', '/logs/app/raw', '/livez', '/nowhere'):
            with self.subTest(target):
                reply = self.server.get(target, HEADERS_OF_A_BROWSER)
                self.assertProblem(reply, 403)
                for headers in ({'Origin': 'https://evil.example'}, {'Origin': 'null'}):
                    found = self.server.get(target, headers).headers
                    self.assertEqual([name for name in found if name.lower().startswith('access-control')], [])
        preflight = self.server.get('/logs', {'Origin': 'https://evil.example', 'Access-Control-Request-Method': 'GET'},
                                    'OPTIONS')
        self.assertEqual(preflight.status, 405)
        self.assertIsNone(preflight.headers['Access-Control-Allow-Origin'])

    def test_no_field_is_markup_in_html(self) -> None:
        """XSS through lines, fields, names, parameters and problems."""
        own = self.server.get('/logs/app?n=1&q=nothing-at-all', {'Accept': BROWSER}).text
        tags = set(re.findall(r'<(\w+|/\w+)', own))
        for target in ('/logs/app', '/logs/json', '/logs', '/', '/logs?format=html',
                       '/logs/app?format=html&C=3&q=script'):
            with self.subTest(target):
                reply = self.server.get(target, {'Accept': BROWSER})
                self.assertEqual(reply.kind, HTML)
                self.assertLessEqual(set(re.findall(r'<([a-zA-Z!/]\w*)', reply.text)), tags | {'!doctype', 'a', '/a'})
                self.assertNotRegex(reply.text, r'(?i)<[^>]*\son\w+=|href="?\s*javascript|<script|<img|<svg')
        for text in self.hostile.values():
            for name in ('q', 'not', 'format', 'since', 'after', 'nope', 're'):
                target = '/logs/app?' + urllib.parse.urlencode({name: text})
                reply = self.server.get(target, {'Accept': BROWSER})
                with self.subTest(target):
                    if reply.kind == HTML:
                        self.assertNotRegex(reply.text, r'(?i)<script|<img|<svg|<[^>]*\son\w+=')
                    else:
                        self.assertEqual(reply.kind, 'application/problem+json')
                        self.assertEqual(reply.headers['X-Content-Type-Options'], 'nosniff')

    def test_every_answer_forbids_scripts_frames_and_sniffing(self) -> None:
        for target in ('/', '/logs/app', '/logs/app?format=json', '/logs/app/raw', '/health', '/metrics', '/nowhere',
                       '/logs/app?n=0'):
            with self.subTest(target):
                headers = self.server.get(target, {'Accept': BROWSER}).headers
                policy = headers['Content-Security-Policy']
                for part in ("default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"):
                    self.assertIn(part, policy)
                self.assertNotIn('unsafe', policy)
                self.assertEqual((headers['X-Content-Type-Options'], headers['Referrer-Policy']),
                                 ('nosniff', 'no-referrer'))
        self.assertTrue(self.server.get('/logs/app/raw').headers['Content-Disposition'].startswith('attachment'))

    def test_terminals_get_no_escapes_in_text(self) -> None:
        """Apache CVE-2003-0020 and 0083, CVE-2025-58160, trojan source CVE-2021-42574: C0, C1, DEL, bidi, OSC."""
        bad = [chr(n) for n in (*range(9), *range(11, 32), *range(127, 160), 0x061c, 0x200e, 0x200f, 0x202a, 0x202b,
                                0x202c, 0x202d,
                                0x202e, 0x2066, 0x2067, 0x2068, 0x2069, 0x2028, 0x2029)]
        osc = ['\x1b]0;title\x07', '\x1b]52;c;ZXZpbA==\x07', '\x9b31m', '\x1bP+q\x1b\\', '\x1b[2J',
               '\x1b]8;;http://evil\x1b\\x']
        bits = b'\xff\xfe\xc2\x9b\xc2 \xe2\x80\xae \xed\xa0\x80 \xf4\x90\x80\x80 \x80\x9b'
        data = ''.join(f'<{char}>\n' for char in (*bad, *osc)).encode() + bits + b'\n'
        root = plant(scratch(), {'app.log': data.replace(b'\n', b'\n')})
        application = make_application('--log-root', str(root), '--log', f'app={root}/app.log')
        forbidden = re.compile('[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]')
        for query in ('n=1000', 'n=1000&format=html', 'q=<', 'n=1000&C=1&q=<', 'format=json', 'format=ndjson'):
            with self.subTest(query):
                reply = call(application, f'/logs/app?{query}')
                self.assertEqual(reply.status, 200)
                self.assertIsNone(forbidden.search(reply.body.decode('utf-8').replace('\r\n', '\n')))
        self.assertIn(b'\\x1b]0;title\\x07', call(application, '/logs/app?n=1000').body)

    def test_a_header_of_ours_cannot_be_split(self) -> None:
        """CVE-2026-0865 (wsgiref CRLF): the address comes back in Link, a file's name in Content-Disposition."""
        for value in ('a%0d%0aSet-Cookie:%20x=1', 'a%0aX:%20y', 'a%0dX', '%e5%98%8a%e5%98%8dSet-Cookie:x', '%C2%85X:y'):
            for target in (f'/logs/app?q={value}', f'/logs/app?n=1&since={value}', f'/logs/{value}',
                           f'/health?exclude={value}'):
                with self.subTest(target):
                    reply = self.server.get(target)
                    self.assertIsNone(reply.headers['Set-Cookie'])
                    self.assertIsNone(reply.headers['X'])
        reply = self.server.get('/livez', {'X-Forwarded-For': '1.2.3.4, 5.6.7.8'})
        self.assertEqual(reply.status, 200)
        for name, value in (('A', 'b\r\nC: d'), ('A', 'b\nC'), ('A\r\nB', 'c'), ('A', 'b\x0bC'), ('A', 'b\u2028C')):
            with self.subTest((name, value)), self.assertRaises(ValueError):
                logwatch.render_head(logwatch.Response(200, ((name, value),), b''), True, False)

    def test_our_own_log_is_one_line_a_request_in_ascii(self) -> None:
        """Litestar GHSA-674p-xv2x-rf3g: an address with a line break writes lines of its own. No query is logged."""
        root = plant(scratch(), {'app.log': 'x\n'})
        server = self.serve(root=root)
        asked = 0
        for path in ('/%0a2026 root: forged', '/%1b[2J', '/%e2%80%ae', '/%c2%9b31m', '/logs/app?token=hunter2',
                     '/' + 'a' * 3000, '/%7f',
                     "/'\"", '/%5cn'):
            for forwarded in ('192.0.2.1', '192.0.2.1 - - forged', '1.1.1.1\t2', "'", 'x' * 300):
                server.get(path.replace(' ', '%20'), {'X-Forwarded-For': forwarded})
                asked += 1
        def said() -> list[str]:
            return [line for line in server.spoken()[1] if '/livez' not in line]

        until(lambda: len(said()) >= asked, 'the access log')
        lines = said()
        self.assertEqual(len(lines), asked)
        for line in lines:
            self.assertRegex(line, ACCESS_LINE)
            self.assertTrue(line.isascii() and line.isprintable() and len(line) < 400, line)
            self.assertNotIn('hunter2', line)
            self.assertIn(line.split()[0], ('127.0.0.1', '192.0.2.1'))


class AttackedLines(Case):
    """What is shown of a line never begins behind what masking knows a secret by: its name."""

    HEAD = '2026-01-01T00:00:00Z app login user=bob password='

    def setUp(self) -> None:
        secret = logwatch.new_token()
        self.root = plant(scratch(), {'app.log': '', 'x.ini': ini_tokens(dev=(secret, 'logs'))})
        self.application = logwatch.Application(logwatch.load_config(
            {'log-root': [str(self.root)], 'rate': ['0']}, {}, f'{self.root}/x.ini'))
        self.get = functools.partial(call, self.application, headers=bearer(secret))

    def write(self, name: str, text: str) -> None:
        with (self.root / name).open('a') as file:
            file.write(text)

    def entry(self, log: str) -> Any:
        return self.get(lines_url(log, n=1, format='json')).json()['entries'][-1]

    def test_a_cursor_of_one_log_is_no_place_in_another(self) -> None:
        """Else whoever may write one log copies the visible part of another's line, and asks what stands behind."""
        self.write('app.log', f'{self.HEAD}{SECRET}\n')
        self.write('evil.log', self.HEAD)
        for guess in ('', SECRET[:1]):
            self.write('evil.log', guess)
            self.assertProblem(self.get(lines_url('app', after=self.entry('evil')['cursor'])), 410)

    def test_a_line_that_was_shown_before_it_was_whole_comes_again_whole(self) -> None:
        self.write('app.log', f'first\n{self.HEAD}')
        entry = self.entry('app')
        self.assertTrue(entry['partial'])
        self.write('app.log', f'{SECRET} host=db\nlast\n')
        self.assertEqual(self.get(lines_url('app', after=entry['cursor'])).text,
                         f'{self.HEAD}[masked] host=db\nlast\n')

    def test_what_is_cut_shows_no_beginning_of_a_secret_that_its_end_would_tell(self) -> None:
        """The last line while it is written, and a line longer than what is shown of one; nor does a search find it."""
        for name, before in {'url': 'postgres://bob:', 'xml': '<password>', 'issued': 'got ghp_', 'jwt': 'eyJ'}.items():
            for length in (0, logwatch.LINE_BYTES - 40):
                with self.subTest(before, length=length):
                    text = ('x' * length + ' ' + before + 'Zq7' * 3)[-logwatch.LINE_BYTES:]
                    log = f'{name}{length}'
                    self.write(f'{log}.log', f'first\n{text}')
                    if length:
                        self.write(f'{log}.log', 'Zq7' * 20 + '@host</password>\n')
                    for parameters in ({}, {'not': 'first'}, {'format': 'json'}):
                        reply = self.get(lines_url(log, parameters))
                        self.assertIn('[masked]', reply.text)
                        self.assertNotIn('Zq7Zq', reply.text)
                    self.assertEqual(self.get(lines_url(log, q='Zq7Zq')).text, '')

    def test_nor_does_a_late_line_of_a_rotated_file_begin_in_its_midst(self) -> None:
        self.write('app.log.1', self.HEAD)
        self.write('app.log', 'new\n')
        place = self.get(lines_url('app', format='json')).json()['next']
        self.write('app.log.1', f'{SECRET} host=db\n')
        entries = self.get(f'/logs/app{place}').json()['entries']
        self.assertEqual([entry['message'] for entry in entries], [f'{self.HEAD}[masked] host=db'])

    def test_nor_does_context_that_is_cut(self) -> None:
        filler = 'x' * 4000 + '\n'
        behind = f'{SECRET} host=db\n' + filler * 64
        for missing in (0, 1, 7, 20):
            with self.subTest(missing):
                (self.root / 'app.log').write_text(
                    self.HEAD + behind + 'y' * (logwatch.CONTEXT_BYTES - len(behind) - 1 - missing) + '\nMARKER\n')
                reply = self.get(lines_url('app', q='MARKER', B=100))
                self.assertIn('MARKER', reply.text)
                self.assertNotIn(SECRET[3:], reply.text)

    def names(self) -> dict[str, str]:
        """What is read under each name."""
        rows = [row['name'] for row in self.get('/logs?format=json').json()['logs']]
        self.assertEqual(len(rows), len(set(rows)))
        return {name: self.get(f'/logs/{name}').text for name in rows if name not in ('app', 'x.ini')}

    def test_of_two_logs_with_one_name_neither_has_it(self) -> None:
        """Else a token for the one would read the other, once that is gone or its folder is someone else's."""
        plant(self.root, {'app/a b.log': 'one\n', 'app/a_b.log': 'other\n'})
        names = [name for name in self.names() if name.startswith('app-')]
        self.assertEqual([bool(re.fullmatch('app-a_b~[0-9a-f]{16}', name)) for name in names], [True, True])
        self.assertEqual(self.get('/logs/app-a_b').status, 404)
        for name in names:      # nor can one have the name that the other got for it
            (self.root / f'app/{name.removeprefix("app-")}.log').write_text('third\n')
        self.assertEqual(len(self.names()), 4)

    def test_who_removes_his_log_gives_its_name_to_no_other(self) -> None:
        """A token for app-error, which was app/error.log, read root's app-error.log once the first was gone."""
        plant(self.root, {'app/error.log': 'his\n', 'app-error.log': "root's\n", 'a/b/c.log': '1\n', 'a-b/c.log': '2\n',
                          'a/b-c.log': '3\n', 'x y/z.log': '4\n', 'x_y/z.log': '5\n', 'x_y-z.log': '6\n'})
        before = self.names()
        self.assertEqual({name: text for name, text in before.items() if '~' not in name},
                         {'app-error': 'his\n'})
        self.assertIn("root's\n", before.values())
        for path in ('app/error.log', 'a/b/c.log', 'x y/z.log'):
            gone = (self.root / path).read_text()
            (self.root / path).unlink()
            before = {name: text for name, text in before.items() if text != gone}
            self.assertEqual(self.names(), before, path)

    def test_what_logs_are_usually_called_stays(self) -> None:
        usual = {'nginx/access.log': 'nginx-access', 'cloud-init.log': 'cloud-init', 'apt/history.log': 'apt-history',
                 'unattended-upgrades/unattended-upgrades-dpkg.log':
                 'unattended-upgrades-unattended-upgrades-dpkg', 'cloud-init-output.log': 'cloud-init-output',
                 'postgresql/postgresql-15-main.log': 'postgresql-postgresql-15-main', 'php8.2-fpm.log': 'php8.2-fpm',
                 'letsencrypt/letsencrypt.log': 'letsencrypt-letsencrypt', 'private-app.log': 'private-app',
                 'journal-remote.log': 'journal-remote'}
        plant(self.root, dict.fromkeys((*usual, 'journal/0/x.journal', 'private/x.log'), 'x\n'))
        self.assertEqual(set(self.names()), set(usual.values()))


class AttackedShares(Case):
    """One client never has all of anything."""

    def test_streams(self) -> None:
        server = self.serve(root=plant(scratch(), {'app.log': numbered(1, 5)}), constants={'FOLLOWERS_SHARE': 3})
        greedy = [Follower(server.address, lines_url('app', follow=1), STREAM) for _ in range(5)]
        self.assertEqual([stream.status for stream in greedy], [200, 200, 200, 503, 503])
        with Wire(server.address, source='127.0.0.3') as other:
            other.send(head_bytes(lines_url('app', follow=1), STREAM))
            self.assertIn(b' 200 ', other.socket.recv(64, socket.MSG_PEEK))
        for stream in greedy:
            stream.close()

    def test_readers_of_streams(self) -> None:
        """24 streams that scanned made another client wait for 2 s."""
        application = make_application('--log-root', str(plant(scratch(), {'app.log': 'x\n'})))
        reading, most = threading.Semaphore(0), []
        read_log = logwatch.read_log

        def slow(*arguments: Any) -> Any:
            reading.release()
            time.sleep(0.1)
            most.append(reading._value)
            reading.acquire()
            return read_log(*arguments)

        with mock.patch('logwatch.read_log', slow), concurrent.futures.ThreadPoolExecutor(6) as pool:
            replies = [pool.submit(call, application, lines_url('app', follow=1)) for _ in range(6)]
            self.assertEqual({reply.result().text for reply in replies}, {'x\n'})
        self.assertEqual((len(most), max(most)), (6, logwatch.WORKERS_SHARE))

    def test_slow_downloads(self) -> None:
        root = plant(scratch(), {'app.log': 'x' * (8 << 20) + '\n'})
        server = self.serve(root=root)
        with contextlib.ExitStack() as stack:
            other = stack.enter_context(Wire(server.address, source='127.0.0.3'))
            other.send(head_bytes('/logs/app/raw'))
            until(lambda: other.socket.recv(1, socket.MSG_PEEK), 'the first byte of it')
            wires = []
            for _ in range(logwatch.DOWNLOADS_MAX + 8):
                greedy = stack.enter_context(server.wire())
                greedy.send(head_bytes('/logs/app/raw'))
                until(lambda greedy=greedy: greedy.socket.recv(1, socket.MSG_PEEK), 'the first byte')  # type: ignore[misc]
                wires.append(greedy)
            self.assertEqual(len(other.answer().body), (8 << 20) + 1)
            cut = 0
            for greedy in wires:
                with contextlib.suppress(ConnectionError, AssertionError):
                    cut -= len(greedy.answer().body) == (8 << 20) + 1
            self.assertIn(len(wires) + cut, range(7, 10), 'no more than has to be is cut')

    def test_a_last_line_without_end(self) -> None:
        """60 GB of a sparse file, which holds no newline: each part of a request took 10 s of its own for it."""
        root = plant(scratch(), {'app.log': 'line\n', 'hole.log': 'line\n' * 2000,
                                 'hole2.log': '2026-01-01T00:00:00Z line\n' * 2000})
        application = make_application('--log-root', str(root))
        for name in ('hole.log', 'hole2.log'):
            os.truncate(root / name, 60 << 30)
        for name, text in (('hole.log', 'text ' * 2000), ('hole2.log', '2026-01-01T00:00:00Z text ' * 2000)):
            with (root / name).open('a') as file:
                file.write(text)
        with mock.patch.multiple(logwatch, SCAN_SECONDS=0.3, COUNT_SECONDS=0.3, COUNT_PATIENCE=60.0):
            for target in ('/logs/hole', '/logs/hole2?since=2026-01-01&until=2027-01-01', '/logs', '/metrics'):
                self.assertLess(seconds_of(call, application, target), 2, target)
            self.assertEqual(call(application, '/logs/hole').headers['Logwatch-Scan'].split('=')[-1], 'deadline')
            for number in range(3):     # and it takes its time from no other log
                with (root / 'app.log').open('a') as file:
                    file.write('line\n' * number)
                text = call(application, '/metrics').text
        self.assertEqual(sample(text, 'logwatch_log_bytes_total{log="app"}'), 15)

    def test_listings(self) -> None:
        """Each name that there is not had the whole tree listed: 1.6 s of 15 000 files."""
        application = make_application('--log-root', str(plant(scratch(), {'app.log': 'x\n'})))

        def slow(*listed: Any) -> Any:
            time.sleep(2 * logwatch.LISTING_SECONDS)
            return listing(*listed)

        listing = logwatch.Listing
        with mock.patch.object(logwatch, 'Listing', side_effect=slow) as listings:
            for number in range(5):
                self.assertProblem(call(application, f'/logs/no{number}'), 404)
            self.assertEqual(listings.call_count, 1)
            self.assertEqual(call(application, '/logs/app').text, 'x\n')

    def test_counting_of_logs_that_take_all_of_its_time(self) -> None:
        """A log that is new was first: who renamed his own all the time had no other counted, and no error lines."""
        root = plant(scratch(), {'z.log': 'x\n'} | {f'a{one}-0.log': 'x\n' for one in '123'})
        application = make_application('--log-root', str(root))
        update_tally = logwatch.update_tally

        def slow(tally: Any, part: Any, log: Any, format_: Any, first: float, budget: Any, key: bytes) -> None:
            while log.name[0] == 'a' and budget.spend(0):
                time.sleep(0.01)
            update_tally(tally, part, log, format_, first, budget, key)

        with mock.patch.multiple(logwatch, update_tally=slow, COUNT_SECONDS=0.05):
            for turn in range(6):
                text = call(application, '/metrics').text
                for one in '123':
                    (root / f'a{one}-{turn}.log').rename(root / f'a{one}-{turn + 1}.log')
                with (root / 'z.log').open('a') as file:
                    file.write('x\n')
        self.assertGreaterEqual(sample(text, 'logwatch_log_bytes_total{log="z"}') or 0, 6)

    def test_logs_that_are_all_renamed(self) -> None:
        """Each was looked for by itself, in a folder of as many: 11 s of 2000, and 230 s of 9000."""
        root = plant(scratch(), {f'a{number}.log': 'x\n' for number in range(60)})
        application = make_application('--log-root', str(root))
        call(application, '/logs')
        for number in range(60):
            (root / f'a{number}.log').rename(root / f'b{number}.log')

        def slow(*listed: Any) -> Any:
            time.sleep(0.02)
            return list_set(*listed)

        list_set = logwatch.list_set
        with mock.patch.multiple(logwatch, list_set=slow, LOOK_SECONDS=0.1):
            self.assertLess(seconds_of(call, application, '/logs'), 0.8)
        names = call(application, '/logs?format=json').json()['logs']
        self.assertEqual({row['name'][0] for row in names}, {'b'})

    def test_padding(self) -> None:
        """It is read a byte at a time: a quarter of a second for each of any number of files of 4 kB."""
        reads = []

        class Zeros(io.RawIOBase):
            def read(self, size: int = -1) -> bytes:
                reads.append(size)
                return bytes(size)

        zeros: Any = Zeros()
        fed = logwatch.Fed(zeros)
        with self.assertRaises(EOFError):
            for _ in range(100_000):
                fed.read(1)
        self.assertLess(len(reads), 5000)

    def test_regular_expressions(self) -> None:
        server = self.serve(root=plant(scratch(), {'a.log': 'a' * 40 + 'b\n', 'b.log': numbered(1, 9)}))
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            greedy = [pool.submit(server.get, lines_url('a', re='(a+)+$')) for _ in range(3)]
            until(lambda: children_of(server.process.pid), 'the first child')
            other = fetch(server.address, lines_url('b', re='line [5-7]'), source='127.0.0.3')
            self.assertEqual((other.status, len(other.body.splitlines())), (200, 3))
            self.assertLessEqual({reply.result().status for reply in greedy}, {400, 429})


class AttackedIdentity(Case):
    """Tokens by time, addresses by claim, pseudonyms by guess."""

    def test_time_does_not_tell_how_much_of_a_token_is_right(self) -> None:
        """Statistical: the same secret but for its last character, its first one, and another length, in turns."""
        secret = logwatch.new_token()
        tokens = [logwatch.Token(f't{n}', logwatch.token_digest(logwatch.new_token())) for n in range(20)]
        tokens.insert(10, logwatch.Token('ops', logwatch.token_digest(secret)))
        guesses = {'last': secret[:-1] + '~', 'first': '~' + secret[1:], 'other': '~' * 43}
        taken: dict[str, list[int]] = {name: [] for name in guesses}
        for turn in range(4000):
            for name in sorted(guesses, key=lambda name: hash((turn, name))):
                header = 'Bearer ' + guesses[name]
                began = time.perf_counter_ns()
                logwatch.authenticate(header, tokens)
                taken[name].append(time.perf_counter_ns() - began)
        quartiles = {name: statistics.quantiles(times, n=4)[0] for name, times in taken.items()}
        self.assertLess(max(quartiles.values()) / min(quartiles.values()), 1.15, quartiles)

    def test_the_place_of_a_token_in_the_list_does_not_tell(self) -> None:
        tokens = [logwatch.Token(f't{n}', logwatch.token_digest(f's{n}')) for n in range(40)]
        taken: dict[str, list[int]] = {'s0': [], 's39': []}
        for _ in range(3000):
            for secret, times in taken.items():
                began = time.perf_counter_ns()
                found = logwatch.authenticate(f'Bearer {secret}', tokens)
                times.append(time.perf_counter_ns() - began)
                self.assertIsNotNone(found)
        first, last = (statistics.quantiles(times, n=4)[0] for times in taken.values())
        self.assertLess(abs(first - last) / max(first, last), 0.15)

    def test_a_claimed_address_counts_only_from_a_proxy_on_this_machine(self) -> None:
        """X-Forwarded-For: the last hop, from loopback or a unix socket; never merged with its look-alikes."""
        server = self.serve(listen=f'unix:{scratch()}/s')

        def lines_about(path: str) -> list[str]:
            return [line for line in server.spoken()[1] if path in line]

        for headers, who in (({'X-Forwarded-For': '198.51.100.1'}, '198.51.100.1'),
                             ({'X-Forwarded-For': '10.0.0.1, 198.51.100.2'}, '198.51.100.2'),
                             ({'X_Forwarded_For': '198.51.100.3'}, 'unix'), ({'Forwarded': 'for=198.51.100.4'}, 'unix'),
                             ({'X-Real-IP': '198.51.100.5'}, 'unix'), ({'X-Forwarded-For': 'localhost'}, 'unix')):
            with self.subTest(headers):
                path = f'/nowhere-{len(server.stderr())}'
                server.get(path, headers)
                line, = until(functools.partial(lines_about, path), 'its line')
                self.assertEqual(line.split()[0], who)
        self.assertEqual(logwatch.client_address('203.0.113.9', {'x-forwarded-for': '127.0.0.1'}), '203.0.113.9')
        with server.wire() as wire:
            wire.send(b'GET /livez HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n\r\n')
            self.assertEqual(wire.answer().status, 400)

    def test_a_claimed_address_makes_nobody_local(self) -> None:
        """127.0.0.1 in X-Forwarded-For lifts neither the Host rule nor a limit nor a token."""
        secret = logwatch.new_token()
        home = plant(scratch(), {'logwatch.ini': ini_tokens(ops=(secret, 'logs'))})
        server = self.serve('--config', f'{home}/logwatch.ini')
        for forwarded in ('127.0.0.1', '::1', 'unix', 'local'):
            headers = {'X-Forwarded-For': forwarded}
            self.assertEqual(server.get('/logs', headers).status, 401)
            self.assertEqual(server.get('/logs', headers | {'Host': 'evil.example'}).status, 421)

    def test_who_claims_to_be_local_over_wsgi_is_not(self) -> None:
        """Under gunicorn the peer is what REMOTE_ADDR says; an empty one is a unix socket, not this program itself."""
        secret = logwatch.new_token()
        home = plant(scratch(), {'logwatch.ini': ini_tokens(ops=(secret, 'logs')), 'app.log': 'x\n'})
        application = logwatch.Application(logwatch.load_config({'log-root': [str(home)]}, {}, f'{home}/logwatch.ini'))
        for address in ('127.0.0.1', '', 'local', 'unix'):
            environ = {'REMOTE_ADDR': address, 'PATH_INFO': '/logs/app', 'REQUEST_METHOD': 'GET',
                       'HTTP_HOST': 'localhost'}
            wsgiref.util.setup_testing_defaults(environ)
            started: list[str] = []
            b''.join(application(environ, lambda status, headers, exc=None, started=started: started.append(status)))
            self.assertEqual(started[0][:3], '401', address)

    def test_pseudonyms_do_not_go_back_without_the_key(self) -> None:
        """2³² addresses can be tried by who has the key; without it, neighbours of a known pair tell nothing."""
        keyed = logwatch.pseudonym(os.urandom(16))
        known, target = b'192.0.2.10', b'192.0.2.11'
        truth = keyed(target)
        hits = sum(logwatch.pseudonym(os.urandom(16))(target) == truth for _ in range(3000))
        self.assertLess(hits, 3)
        self.assertEqual(keyed(known).rpartition(b'.')[0], truth.rpartition(b'.')[0],
                         'prefixes are kept, and said to be')
        shift = {(int(keyed(b'198.51.100.%d' % n).rpartition(b'.')[2]) - n) % 256 for n in range(64)}
        self.assertGreater(len(shift), 30, 'no constant offset')

    @requires('root')
    def test_a_key_that_root_made_is_the_services(self) -> None:
        """It was root's own after `get`: the service had another key at each start, and its cursors were lost."""
        folder = scratch()
        os.chown(folder, NOBODY, NOBODY)
        self.assertEqual(run_program('get', '/health', '--state-dir', str(folder)).stderr, '')
        self.assertEqual({(path.name, path.stat().st_uid) for path in folder.glob('key*')}, {('key', NOBODY)})

    def test_the_key_of_pseudonyms_and_cursors_is_not_one_that_others_know(self) -> None:
        """/etc/machine-id can be read by every user, and an image's is empty: a key of its own, or a fresh one."""
        folders = [str(scratch()), str(scratch())]
        for user in folders:
            logwatch.secret_key.cache_clear()
            self.addCleanup(logwatch.secret_key.cache_clear)
            first = logwatch.secret_key(user, True)
            logwatch.secret_key.cache_clear()
            self.assertEqual(logwatch.secret_key(user, True), first, 'it stays over a restart')
            self.assertEqual({path.stat().st_mode & 0o777 for path in Path(user).iterdir()}, {0o600})
        self.assertEqual(len({logwatch.secret_key(folder, True) for folder in folders}), 2)
        linked = scratch()      # its owner may lead root, who runs `get`, elsewhere by a link
        secret = scratch() / 'shadow'
        secret.write_text('root')
        for name in ('key', logwatch.STATE_FILE):
            (linked / f'{name}.0').symlink_to(secret)
        with mock.patch('secrets.token_hex', return_value='0'):
            logwatch.secret_key(str(linked), True)
            application = make_application('--state-dir', str(linked), '--log-root', str(scratch()))
            self.assertEqual(call(application, '/health').kind, 'application/health+json')
            until(lambda: not any(linked.glob('*.0')), 'the links unlinked')
        self.assertEqual(secret.read_text(), 'root')
        full = scratch()        # what a full disk left, an empty file, stood in for the key ever after
        done = subprocess.run([sys.executable, '-I', '-c', 'import resource, sys; sys.path.insert(0, sys.argv[1])\n'
                               'import logwatch; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n'
                               'logwatch.secret_key(sys.argv[2], True)', str(HERE), str(full)], check=False)
        self.assertEqual((done.returncode, list(full.iterdir())), (0, []))
        nothing = []
        for _ in range(2):
            logwatch.secret_key.cache_clear()
            with mock.patch('builtins.open', side_effect=FileNotFoundError(2, 'gone')):
                nothing.append(logwatch.secret_key('', False))
        self.assertEqual(len(set(nothing)), 2, 'no constant stands in for a key')


# ----------------------------------------------------------------------------------------------------------------------
# fuzz: bounded, with a fixed and a fresh seed
# ----------------------------------------------------------------------------------------------------------------------

FUZZ_SECONDS = float(os.environ.get('FUZZ_SECONDS', '10'))  # for all of it
FUZZ_SEED = os.environ.get('FUZZ_SEED') or os.urandom(6).hex()  # the fresh one; give it again to repeat a failure
FUZZ_BOUND = 2.0  # seconds that no single case may take, on a busy machine
FUZZ_SHARES = 12  # methods that FUZZ_SECONDS are divided among

REQUESTS = [head_bytes('/livez'), head_bytes('/logs/app?n=3&q=a', {'Accept': BROWSER, 'User-Agent': 'x' * 50}),
            head_bytes('/logs/app/raw', {'Range': 'bytes=0-5', 'If-Range': '"x"'}), head_bytes('/health', {}, 'HEAD'),
            head_bytes('/logs', {'Authorization': 'Bearer ' + 'a' * 43, 'X-Forwarded-For': '1.2.3.4, ::1'}),
            head_bytes('/x', {'Content-Length': '5', 'Transfer-Encoding': 'chunked', 'Expect': '100-continue'},
                       'POST') + b'hello',
            b'GET /livez HTTP/1.0\r\n\r\n', b'GET /livez HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close, x\r\n\r\n']
LOG_LINES = [access_entry(200).encode(), SECRETIVE.encode(), *(line.encode() for line in HARMLESS_LINES),
             b'2026/01/01 00:00:01 [error] 12#34: *5 open() "/x" failed (2: No such file or directory)\n',
             b'{"time":"2026-01-01T00:00:01Z","level":"error","msg":"x","n":1e5,"a":[1,{"b":null}]}\n',
             b'<13>1 2026-01-01T00:00:01.123456+01:00 host app 12 - - x\n', b'Jan  1 00:00:01 host app[1]: x\n',
             b'time="2026-01-01T00:00:01Z" level=warning msg="a b"\n',
             b'type=SYSCALL msg=audit(1767225601.123:45): x\n',
             b'[Thu Jan 01 00:00:01.5 2026] [core:error] [pid 1] AH1: x\n', b'12:M 01 Jan 2026 00:00:01.5 # x\n',
             b'2026-01-01 00:00:01.123 UTC [12] LOG:  x\n', b'    at java.lang.X(Y.java:5)\n', b'[  1.5] usb 1-1\n',
             b'\n']
TIMES = ['now', 'today', '-15m', '-1h30m', '2 days ago', '@1767225600.5', '2026-01-01T00:00:01.5+01:00', '2026-02-30',
         '14:05',
         '2026-01-01 14:05:01 UTC', '2026-01-01 00:00 +0100', '99999-01-01', '+5m', '1e9', 'tomorrow', '@253402300799']
INIS = ['[logwatch]\nlisten = 127.0.0.1:5000\nlog = a=/srv/*.log\n    b=journal:x\nmask = yes\ndisk-warn = 5\n# c\n',
        ini_tokens(a=('x', 'logs raw\nlogs = app web'), b=('y', 'health')), '[DEFAULT]\nx=1\n',
        '[logwatch]\nrate=100\n[token a]\n',
        '[logwatch]\nallow-host = a b\n', '%(x)s ${y}\n']
FUZZ_ROTATIONS = ['/var/log/*.log {\n weekly\n rotate 4\n create 0640 root adm\n postrotate\n  x\n endscript\n}\n',
                  'include /etc/logrotate.d\n',
             '"/a b" /c\n{\n su root adm\n copytruncate\n nocreate\n olddir /x\n dateext\n}\n',
                  'tabooext + .x\ncreate 0600\n']
FUZZ_PIECES = [b'\0', b'\r\n', b'\n', b'\r', b' ', b'\t', b':', b';', b',', b'=', b'%', b'%00', b'%2e%2e/', b'../',
               b'"', b"'", b'\\',
              b'{', b'}', b'[', b']', b'(', b')', b'\xff', b'\xc2\x9b', b'\xe2\x80\xae', b'\xed\xa0\x80', b'-1', b'0',
               b'1e999', b'NaN',
              b'9' * 30, b'a' * 300, b'+', b'/', b'//', b'*', b'?', b'#', b'\x1b[0m', b'--', b'null', b'true', b'@',
               b'~', b'password=',
              b'eyJhbGciOiJIUzI1NiJ9.', b'1.2.3.4', b'::1', b'HTTP/1.1', b'bytes=', b'\xef\xbb\xbf', '１'.encode(),
               b'endscript', b'2026']


def mutated(chance: random.Random, corpus: list[bytes]) -> bytes:
    """One of the corpus with a few bytes flipped, cut, doubled, spliced, or odd pieces put in."""
    data = bytearray(chance.choice(corpus))
    for _ in range(chance.choice((0, 1, 1, 2, 3, 6))):
        at, to = sorted((chance.randint(0, len(data)), chance.randint(0, len(data))))
        what = chance.randrange(7)
        if what == 0 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif what == 1:
            del data[at:min(to, at + 20)]
        elif what == 2:
            data[at:at] = data[at:to][:200] * chance.choice((1, 2, 50))
        elif what == 3:
            data[at:] = chance.choice(corpus)[chance.randint(0, 50):]
        elif what == 4 and at < len(data):
            data[at] = chance.randrange(256)
        else:
            data[at:at] = chance.choice(FUZZ_PIECES)
    return bytes(data[:20_000])


def mutated_text(chance: random.Random, corpus: list[str]) -> str:
    return mutated(chance, [text.encode() for text in corpus]).decode('utf-8', 'surrogateescape')


class Counted(Case):
    """Tests of many cases, which are counted and told where FUZZ_SECONDS asks for more than CI's few seconds."""

    counts: Counter[str]

    @classmethod
    def setUpClass(cls) -> None:
        cls.counts = Counter()

    @classmethod
    def tearDownClass(cls) -> None:
        if 'FUZZ_SECONDS' in os.environ:
            total = ', '.join(f'{name} {count}' for name, count in cls.counts.most_common())
            print(f'\nfuzz: {cls.counts.total()} cases with seed {FUZZ_SEED}: {total}', file=sys.stderr)


class Fuzzed(Counted):
    """Whatever comes in: no 500, no traceback, no hang."""

    def fuzz(self, case: Callable[[random.Random], object]) -> None:
        """Run case with chances of the fixed and of the fresh seed until this method's share of the time is over."""
        name = self.id().rpartition('.')[2]

        def give_up(*_: object) -> None:
            raise AssertionError('it hangs')

        self.addCleanup(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, give_up))
        self.addCleanup(signal.setitimer, signal.ITIMER_REAL, 0)
        for seed in ('logwatch', FUZZ_SEED):
            deadline = time.monotonic() + FUZZ_SECONDS / FUZZ_SHARES / 2
            number = 0
            while time.monotonic() < deadline or number < 20:
                number += 1
                chance = random.Random(f'{seed}/{name}/{number}')
                began = time.monotonic()
                signal.setitimer(signal.ITIMER_REAL, 10 * FUZZ_BOUND)
                try:
                    case(chance)
                except Exception as error:
                    error.add_note(f'fuzz: case {number} of FUZZ_SEED={seed}')
                    raise
                self.assertLess(time.monotonic() - began, FUZZ_BOUND, f'fuzz: case {number} of FUZZ_SEED={seed}')
            self.counts[name] += number

    def test_a_request_head_is_parsed_or_refused(self) -> None:
        corpus = [data.partition(b'\r\n\r\n')[0] for data in REQUESTS]

        def case(chance: random.Random) -> None:
            head = mutated(chance, corpus)
            try:
                request, _ = logwatch.parse_head(head, chance.choice(('unix', '127.0.0.1', '::1', '192.0.2.1')))
            except logwatch.Problem as problem:
                self.assertIn(problem.status, (400, 405, 417, 431, 501, 505), head)
                self.assertTrue(logwatch.render_head(logwatch.problem_response(problem), False, False))
                return
            self.assertIn(request.method, ('GET', 'HEAD'), head)
            self.assertTrue(request.path.startswith('/') and request.path.isprintable(), head)
            self.assertNotIn('transfer-encoding', request.headers)
            self.assertRegex(request.peer, r'\A(unix|[0-9A-Fa-f:.]{2,45})\Z')

        self.fuzz(case)

    def test_a_live_server_answers_or_closes(self) -> None:
        server = self.serve('--rate', '0', '--access-log', 'no', root=plant(scratch(), {'app.log': numbered(1, 20)}))

        def case(chance: random.Random) -> None:
            data = b''.join(mutated(chance, REQUESTS) for _ in range(chance.choice((1, 1, 2, 4))))
            if b'follow' in data:
                return
            with server.wire() as wire:
                for piece in [data] if chance.random() < 0.8 else [data[:len(data) // 2], data[len(data) // 2:]]:
                    wire.send(piece)
                with contextlib.suppress(OSError):
                    wire.socket.shutdown(socket.SHUT_WR)
                answer = read_all(wire)
            self.assertRegex(answer[:13], rb'\A(HTTP/1\.1 [1-5]\d\d |\Z)', data)
            self.assertIsNone(re.search(rb'(?m)^HTTP/1\.1 500 ', answer), data)

        self.fuzz(case)
        self.assertEqual(server.get('/livez').status, 200)
        self.assertEqual(server.complaints(), [])

    def planted(self) -> Any:
        """An application over logs of many formats."""
        files: dict[str, str | bytes] = {f'f{number}.log': line * 20 for number, line in enumerate(LOG_LINES)}
        files |= {'app.log': numbered(101, 130), 'app.log.1': numbered(51, 100), 'app.log.2.gz': numbered(1, 50)}
        return make_application('--log-root', str(plant(scratch(), files)), '--rate', '0')

    def test_a_query_is_answered_or_refused(self) -> None:
        application = self.planted()
        names = ['app', *(f'f{number}' for number in range(len(LOG_LINES)))]
        values = {'since': TIMES, 'until': TIMES, 'level': ['err', 'debug', '3', 'emerg'], 'n': ['1', '50', '10000'],
                  'q': ['a', 'host', 'é', '1'], 'not': ['a', 'line'], 're': ['l.ne', '(', 'a{9}', r'\d+'],
                  'i': ['1', 'no'],
                  'A': ['2'], 'B': ['3'], 'C': ['1'], 'format': ['text', 'json', 'ndjson', 'html', 'sse', 'xml'],
                  'x': ['']}

        def case(chance: random.Random) -> None:
            chosen = chance.sample(sorted(values), chance.randint(0, 4))
            if chance.random() < 0.9 and 're' in chosen:
                chosen.remove('re')  # a process for each
            query = '&'.join(f'{name}=' + urllib.parse.quote(
                mutated_text(chance, values[name]) if chance.random() < 0.5 else chance.choice(values[name]),
                errors='surrogateescape')
                for name in chosen)
            target = f'/logs/{chance.choice(names)}?{query}'
            reply = call(application, target, method=chance.choice(('GET', 'HEAD')))
            self.assertIn(reply.status, (200, 400, 429), (target, reply.body[:200]))

        self.fuzz(case)

    def test_a_cursor_leads_somewhere_or_is_refused(self) -> None:
        application = self.planted()
        links = [call(application, f'/logs/app?n={n}').headers['Link'] for n in (1, 30, 60, 129)]
        cursors = [cursor.encode() for link in links for cursor in re.findall(r'(?:after|before)=([\w~-]+)', link)]
        self.assertGreaterEqual(len(cursors), 7)

        def case(chance: random.Random) -> None:
            cursor = urllib.parse.quote(mutated(chance, [*cursors, b'~a', b'~bcz1h', *cursors]))
            target = f'/logs/{chance.choice(("app", "f1"))}?{chance.choice(("after", "before"))}={cursor}&n=5'
            reply = call(application, target)
            self.assertIn(reply.status, (200, 400, 410), (target, reply.body[:200]))

        self.fuzz(case)

    def test_a_time_is_understood_or_refused(self) -> None:
        def case(chance: random.Random) -> None:
            text = mutated_text(chance, TIMES)
            for now in (0.0, 1767225600.0, 253402300000.0):
                with contextlib.suppress(ValueError):
                    self.assertTrue(0 <= logwatch.parse_when(text, now) < logwatch.LATEST, text)

        self.fuzz(case)

    def test_a_line_has_a_time_a_level_and_fields_or_none(self) -> None:
        def case(chance: random.Random) -> None:
            lines = [mutated(chance, LOG_LINES).replace(b'\n', b' ') for _ in range(3)]
            chosen = logwatch.detect(lines)
            for form in {chosen, chance.choice(logwatch.FORMATS)}:
                for line in lines:
                    found, level = form.time(line, 1767225600.0), form.level(line)
                    self.assertTrue(found is None or isinstance(found, float | int), (form.name, line))
                    self.assertTrue(level is None or 0 <= level <= 7, (form.name, line))
                    self.assertTrue(json.loads(logwatch.JSON(dict(form.fields(line)))) is not None, (form.name, line))
                    self.assertTrue(found is None or logwatch.timestamp(found), (form.name, line))

        self.fuzz(case)

    def test_the_kernels_files_are_understood_or_hidden(self) -> None:
        parsers = {'parse_meminfo': ['meminfo'], 'parse_pairs': ['vmstat', '1/net/snmp6'], 'parse_stat': ['stat'],
                   'parse_pressure': ['pressure/cpu'],
                   'parse_netstat': ['1/net/snmp', '1/net/netstat'],
                   'parse_net_dev': ['1/net/dev'],
                   'parse_conntrack': ['1/net/stat/nf_conntrack'], 'parse_mountinfo': ['1/mountinfo'],
                   'parse_table': ['diskstats']}
        folder = plant(scratch(), PROC | SLIM)
        health = logwatch.Health(logwatch.Host(str(folder), str(folder)))

        def case(chance: random.Random) -> None:
            name = chance.choice(sorted(parsers))
            data = mutated(chance, [PROC[file].encode() for file in parsers[name]])
            with contextlib.suppress(*logwatch.UNKNOWN):
                getattr(logwatch, name)(data)
            if chance.random() < 0.05:
                files = {file: mutated(chance, [text.encode()]) for file,
                         text in (PROC | SLIM).items() if chance.random() < 0.2}
                files = {file: data for file, data in files.items() if 'mountinfo' not in file}
                plant(folder, files)
                facts = logwatch.Facts(health.host)
                verdict = logwatch.evaluate(health, facts=facts)
                self.assertTrue(logwatch.JSON(logwatch.health_json(verdict)) and logwatch.health_text(verdict))
                self.assertTrue(logwatch.render(logwatch.collect(facts, verdict)).endswith(b'\n'))
                plant(folder, {file: (PROC | SLIM)[file] for file in files})

        self.fuzz(case)

    def test_gzip_bytes_are_read_as_far_as_they_go(self) -> None:
        root = plant(scratch(), {'app.log': numbered(101, 110)})
        whole = [gzip.compress(numbered(1, 100).encode()), gzip.compress(b''),
                 gzip.compress(b'x' * 5000) + gzip.compress(b'y\n'),
                 gzip.compress(bytes(100_000)), b'\x1f\x8b\x08\x08\0\0\0\0\0\xffname\0']
        application = make_application('--log-root', str(root), '--rate', '0')

        def case(chance: random.Random) -> None:
            (root / 'app.log.1.gz').write_bytes(mutated(chance, whole))
            query = chance.choice(words('n=5 n=500 q=line n=20&format=json since=2020-01-01 n=50&B=2&q=9'))
            target = f'/logs/app?{query}'
            reply = call(application, target)
            self.assertEqual(reply.status, 200, target)
            self.assertLess(len(reply.body), 5 << 20)

        self.fuzz(case)

    def test_a_configuration_is_read_or_refused(self) -> None:
        ini = scratch() / 'logwatch.ini'

        def case(chance: random.Random) -> None:
            ini.write_bytes(mutated(chance, [text.encode() for text in INIS]))
            option = chance.choice(logwatch.OPTIONS)
            value = mutated_text(chance, [option.default, 'a=/x/*.log', 'unix:/run/x', '[::1]:80', '5', 'yes'])
            try:
                config = logwatch.load_config({option.name: [value]} if chance.random() < 0.5 else {}, {}, str(ini))
            except logwatch.ConfigError as error:
                self.assertTrue(str(error))
                return
            for token in config.tokens:
                self.assertTrue(token.scopes <= logwatch.SCOPES and re.fullmatch('[0-9a-f]{64}', token.digest))

        self.fuzz(case)

    def test_logrotates_configuration_is_read_as_far_as_it_goes(self) -> None:
        path = scratch() / 'logrotate.conf'
        live, folder = logwatch.Access(0, 4, stat.S_IFREG | 0o640), logwatch.Access(0, 0, stat.S_IFDIR | 0o755)

        def case(chance: random.Random) -> None:
            path.write_bytes(mutated(chance, [''.join(chance.sample(FUZZ_ROTATIONS,
                                                                    3)).encode().replace(b'/etc/logrotate.d',
                                                                                         b'/none')]))
            stanzas, findings = logwatch.load_logrotate(str(path))
            for stanza in stanzas:
                self.assertIn(logwatch.after_rotation(stanza.options, live, folder).how,
                              ('create', 'keep', 'gone', 'fails'))
            logwatch.matching('/var/log/a.log', stanzas)
            for finding in findings:
                self.assertTrue(logwatch.quoted(finding.subject).isprintable())

        self.fuzz(case)

    def test_what_is_shown_is_masked_and_harmless(self) -> None:
        replaced = logwatch.pseudonym(bytes(range(16)))
        corpus = [*LOG_LINES, *map(revealed, SECRET_LINES), PEM]
        forbidden = re.compile('[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]')

        def case(chance: random.Random) -> None:
            data = b''.join(mutated(chance, corpus) for _ in range(chance.randint(1, 3)))
            for work in (logwatch.mask, replaced, lambda data: replaced(logwatch.mask(data))):
                self.assertEqual(work(data).count(b'\n'), data.count(b'\n'), data)
            self.assertIsNone(forbidden.search(logwatch.safe_text(data).decode()), data)
            self.assertTrue(logwatch.JSON(data.decode('utf-8', 'backslashreplace')).isascii())

        self.fuzz(case)

    def test_small_parsers_answer_or_raise_what_they_say(self) -> None:
        headers = ['text/html;q=0.5, */*', 'Bearer abc', 'Basic YTpi', 'bytes=0-5', 'bytes=-5', '1.2.3.4, ::1',
                   'app.log.2.gz',
                   'app-20260101.log.gz', 'log.192.0.2.1', 'GET /x', '127.0.0.1:5000', 'name=/var/log/*.log', 'err',
                   '0640']
        tokens = [logwatch.Token('a', logwatch.token_digest('abc'))]

        def case(chance: random.Random) -> None:
            text = mutated_text(chance, headers)
            logwatch.parse_accept(text)
            logwatch.parse_rotation(text)
            logwatch.authenticate(text, tokens)
            logwatch.peer_key(text)
            self.assertTrue(logwatch.quoted(text).isprintable(), text)
            self.assertTrue(logwatch.access_line('unix', text, 200, 5, 0.1).isascii())
            self.assertTrue(logwatch.shown(text).isascii())
            for parse in (logwatch.parse_address, logwatch.parse_log, logwatch.parse_level, logwatch.parse_number,
                          logwatch.parse_host,
                          logwatch.parse_folder, logwatch.parse_boolean, logwatch.parse_label, logwatch.parse_pattern):
                with contextlib.suppress(ValueError):
                    parse(text)
            with contextlib.suppress(logwatch.Problem):
                logwatch.parse_range(text, 100)

        self.fuzz(case)


@requires('h11', 'hypothesis')
class Generated(Counted):
    """What hypothesis builds out of HTTP's pieces, and shrinks to the smallest case that fails."""

    def given(self, check: Callable[[Any], None], cases: Any) -> None:
        """Run check with so many cases of a strategy as FUZZ_SECONDS stand for, of the fixed and of the fresh seed."""
        import hypothesis
        os.environ['HYPOTHESIS_STORAGE_DIRECTORY'] = str(scratch())     # it would make a folder here
        given: Any = hypothesis.given       # its types have holes
        settings = hypothesis.settings(max_examples=int(20 * FUZZ_SECONDS), deadline=None, database=None,
                                       suppress_health_check=list(hypothesis.HealthCheck))
        for seed in ('logwatch', FUZZ_SEED):
            def counted(case: Any) -> None:
                self.counts[self.id().rpartition('.')[2]] += 1
                check(case)
            try:
                hypothesis.seed(seed)(settings(given(cases)(counted)))()
            except Exception as error:
                error.add_note(f'fuzz: FUZZ_SEED={seed}')
                raise

    def heads(self) -> Any:
        """Heads of requests without their empty line: right ones, and such with a piece that is wrong."""
        import hypothesis.strategies as st
        odd = st.sampled_from(FUZZ_PIECES) | st.binary(max_size=3)

        def mostly(*pieces: bytes) -> Any:
            right, place = st.sampled_from(pieces), st.integers(0, 20)
            wrong = st.builds(lambda piece, at, bad: piece[:at] + bad + piece[at:], right, place, odd)
            return st.integers(0, 11).flatmap(lambda number: right if number < 11 else wrong)

        names = mostly(b'Host', b'Connection', b'Content-Length', b'Transfer-Encoding', b'X-Forwarded-For', b'Accept',
                       b'Range', b'Expect', b'host', b'Upgrade', b'Cookie')
        values = mostly(b'localhost', b'close', b'0', b'5', b'chunked', b'identity', b'keep-alive, close', b'::1',
                        b'*/*', b'bytes=0-', b'100-continue', b'', b'a b', b'\xe9')
        first = st.tuples(mostly(b'GET', b'GET', b'HEAD', b'POST'), mostly(b' '),
                          mostly(b'/livez', b'/logs/app?n=1', b'/%2e%2e', b'http://localhost/'), mostly(b' '),
                          mostly(b'HTTP/1.1', b'HTTP/1.1', b'HTTP/1.0', b'HTTP/2.0'))
        host = st.sampled_from([(b'\r\nHost: localhost',), (b'\r\nHost: localhost',), ()])
        line = st.tuples(mostly(b'\r\n'), names, mostly(b': ', b':'), values).map(b''.join)
        return st.tuples(first, host, st.lists(line, max_size=3)).map(
            lambda parts: b''.join(itertools.chain(*parts)))

    def test_what_is_accepted_a_strict_server_reads_in_the_same_way(self) -> None:
        """Two servers that read one request differently are how requests are smuggled."""
        import h11
        accepted = 0

        def check(head: bytes) -> None:
            nonlocal accepted
            if b'\r\n\r\n' in head:
                return
            try:
                request, keep = logwatch.parse_head(head, 'unix')
            except logwatch.Problem:
                return
            accepted += 1
            server = h11.Connection(h11.SERVER)
            server.receive_data(head + b'\r\n\r\nGET /behind HTTP/1.1\r\n')
            seen: Any = server.next_event()
            self.assertIsInstance(seen, h11.Request)
            path, query = logwatch.parse_target(seen.target)
            joined: dict[str, list[str]] = {}
            for name, value in seen.headers:
                joined.setdefault(name.decode(), []).append(value.decode('latin-1'))
            self.assertEqual((request.method, request.path, request.query), (seen.method.decode(), path, query))
            self.assertEqual(request.headers, {name: ', '.join(values) for name, values in joined.items()})
            self.assertIsInstance(server.next_event(), h11.EndOfMessage, 'no byte behind it is its body')
            self.assertEqual(server.trailing_data[0], b'GET /behind HTTP/1.1\r\n')
            self.assertLessEqual(keep, server.our_state is h11.SEND_RESPONSE)

        self.given(check, self.heads())
        self.assertGreater(accepted, 20)

    def test_a_request_is_answered_in_the_same_way_however_it_is_cut(self) -> None:
        import hypothesis.strategies as st
        server = self.serve('--rate', '0', '--access-log', 'no', root=plant(scratch(), {'app.log': numbered(1, 20)}))

        def answers(pieces: Sequence[bytes]) -> list[bytes]:
            with server.wire() as wire:
                wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for piece in pieces:
                    wire.send(piece)
                with contextlib.suppress(OSError):
                    wire.socket.shutdown(socket.SHUT_WR)
                return re.findall(rb'HTTP/1\.1 \d{3}', read_all(wire))

        def check(case: tuple[list[bytes], list[int]]) -> None:
            heads, cuts = case
            data = b''.join(head + b'\r\n\r\n' for head in heads)
            places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
            whole = answers([data])
            self.assertEqual(answers([data[a:b] for a, b in itertools.pairwise(places)]), whole)
            self.assertNotIn(b'HTTP/1.1 500', whole)

        self.given(check, st.tuples(st.lists(self.heads(), min_size=1, max_size=3),
                                    st.lists(st.integers(0, 2000), max_size=4)))
        self.assertEqual(server.complaints(), [])

    def test_a_query_means_what_was_quoted(self) -> None:
        import hypothesis.strategies as st
        text = st.text(st.characters(exclude_categories=['Cs'], exclude_characters='\n\r\0'), min_size=1, max_size=20)
        allowed = [row.name for row in logwatch.PARAMETERS]

        def check(case: tuple[list[str], list[str], int]) -> None:
            words, others, lines = case
            query = urllib.parse.urlencode([*(('q', word) for word in words), ('n', lines),
                                            *(('not', other) for other in others)])
            args = logwatch.parse_query(query, allowed)
            self.assertEqual([args.get('q', ()), args.get('not', ()), args['n']],
                             [tuple(words), tuple(others), lines])

        self.given(check, st.tuples(st.lists(text, max_size=3), st.lists(text, max_size=3), st.integers(1, 10_000)))

    def test_a_cursor_is_the_place_that_it_was_made_of(self) -> None:
        import hypothesis.strategies as st

        eight = st.binary(min_size=8, max_size=8)

        def number(bits: int) -> Any:
            return st.integers(0, 2 ** bits - 1)

        def check(cursor: Any) -> None:
            text = logwatch.encode_cursor(cursor)
            self.assertRegex(text, r'\A[\w-]+\Z')
            self.assertEqual(logwatch.parse_cursor(text), cursor)
            for at in range(len(text)):     # none but the last character can be another and mean the same
                other = text[:at] + ('B' if text[at] == 'A' else 'A') + text[at + 1:]
                with contextlib.suppress(ValueError):
                    self.assertNotEqual(logwatch.parse_cursor(other), cursor)

        self.given(check, st.builds(logwatch.Cursor, number(64), number(64), number(16), eight, eight, number(64),
                                    eight))


# ----------------------------------------------------------------------------------------------------------------------
# the run: order, and what was skipped
# ----------------------------------------------------------------------------------------------------------------------


def load_tests(loader: unittest.TestLoader, tests: unittest.TestSuite, pattern: str | None) -> unittest.TestSuite:
    """unittest's hook: another order of classes, and of methods in each, when LOGWATCH_TEST_SHUFFLE asks for it."""
    seed = os.environ.get('LOGWATCH_TEST_SHUFFLE')
    if not seed:
        return tests
    shuffler = random.Random(seed)
    classes = [list(suite) for suite in tests if isinstance(suite, unittest.TestSuite)]
    for methods in classes:
        shuffler.shuffle(methods)
    shuffler.shuffle(classes)
    return unittest.TestSuite(test for methods in classes for test in methods)


def main() -> int:
    """Run; list what was skipped and why."""
    began = time.monotonic()
    result = unittest.main(exit=False).result
    print(f'{time.monotonic() - began:.0f} s', file=sys.stderr)
    for reason, count in Counter(reason for _, reason in result.skipped).items():
        print(f'skipped {count}: {reason}', file=sys.stderr)
    return 0 if result.wasSuccessful() else 1


if __name__ == '__main__':
    sys.exit(main())
