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
import gzip
import http.client
import importlib.util
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import tokenize
import unittest
import urllib.parse
import wsgiref.util
import wsgiref.validate
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
                 environ: Mapping[str, str] | None = None, constants: Mapping[str, float] | None = None,
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
    def _command(argv: list[str], constants: dict[str, float], user: int) -> list[str]:
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

    def test_imports_stand_at_the_top(self) -> None:
        top = set(self.lines_of(node for node in self.tree.body if isinstance(node, (ast.Import, ast.ImportFrom))))
        self.assertEqual(set(self.lines_of(self.nodes(ast.Import, ast.ImportFrom))) - top, set())

    def test_its_sections_are_those_of_its_docstring_in_that_order(self) -> None:
        docstring = ast.get_docstring(self.tree) or ''
        mapped = re.findall(r'(?m)^    (\w[\w ]*?)  +\w', docstring.partition('How to read')[2])
        banners = re.findall(r'(?m)^# -{20,}\n# ([\w ]+).*\n# -{20,}$', self.source)
        self.assertGreater(len(mapped), 8)
        self.assertEqual(banners, mapped)

    def test_it_stays_within_3500_lines_of_at_most_120_characters(self) -> None:
        lines = self.source.splitlines()
        self.assertLessEqual(len(lines), 3500)
        self.assertEqual([n for n, line in enumerate(lines, 1) if len(line) > 120 or line != line.rstrip()], [])

    def test_its_functions_are_short_and_shallow(self) -> None:
        lengths = {node.name: body_length(node, self.code) for node in self.nodes(*FUNCTIONS)}
        self.assertLessEqual(statistics.median(lengths.values()), 10)
        self.assertEqual({name: length for name, length in lengths.items() if length > 50}, {})
        depths = {node.name: depth(node) for node in self.nodes(*FUNCTIONS)}
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


class TheReadme(unittest.TestCase):
    """README.md says what the code does: its tables are the code's own."""

    def test_its_tables_are_those_that_the_code_generates(self) -> None:
        readme = (HERE / 'README.md').read_text().splitlines()
        for table in (logwatch.options_table, logwatch.routes_table, logwatch.parameters_table):
            lines = table()
            with self.subTest(table.__name__):
                self.assertGreater(len(lines), 3)
                self.assertEqual([line for line in lines if line not in readme], [])

    def test_its_tables_say_nothing_that_the_code_does_not(self) -> None:
        rows = set(re.findall(r'(?m)^\| `--.*$', (HERE / 'README.md').read_text()))
        self.assertEqual(rows - set(logwatch.options_table()), set())

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
        workers = children_of(self.process.pid)
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
        server = self.serve('--allow-host', 'logs.example.org', '--allow-host', 'box')
        for name, status in {'logs.example.org': 200, 'LOGS.example.org:443': 200, 'box': 200, 'localhost': 200,
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

    def test_no_descriptor_leaks(self) -> None:
        def count() -> int:
            return len(os.listdir(f'/proc/{self.server.process.pid}/fd'))

        self.server.get('/logs/app')
        before = until(lambda: count(), 'descriptors')
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
            used = len(os.listdir(f'/proc/{server.process.pid}/fd'))
            soft, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (used, hard))
            wire.send(head_bytes('/logs/app'))
            self.assertProblem(wire.answer(), 503)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
        until(lambda: server.get('/logs/app').status == 200, 'answers again')

    def test_connections_beyond_the_cap_do_not_shut_out_the_rest_for_ever(self) -> None:
        server = self.serve(constants={'HEADER_SECONDS': 1.0, 'CONNECTIONS_MAX': 20})
        wires = [server.wire() for _ in range(60)]
        until(lambda: answers_livez(server.address), 'a connection freed by the deadline')
        for wire in wires:
            wire.close()


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
        lines = self.lines(server, base + 3)[base:]
        self.assertEqual(len(lines), 3)
        for line, (method, status) in zip(lines, [('GET', 200), ('GET', 400), ('HEAD', 200)]):
            self.assertIn(f"'{method} /logs/app' {status} ", line)
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
        self.assertNotEqual(second.returncode, 0)
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
        """There is one thread, so nothing else can beat on while the loop hangs."""
        notified = self.notified()
        server = self.serve(environ={'NOTIFY_SOCKET': notified.name, 'WATCHDOG_USEC': '200000'})
        until(lambda: notified.heard('WATCHDOG=1'), 'a heartbeat')
        self.assertEqual(server.status('Threads'), 1)

    def test_a_missing_notification_socket_stops_nothing(self) -> None:
        server = self.serve(environ={'NOTIFY_SOCKET': '/nonexistent/notify', 'WATCHDOG_USEC': 'soon'})
        self.assertEqual(server.get('/livez').status, 200)

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
    'getty@tty1.log': 'getty@tty1', 'x+y:z~.log': 'x+y:z~'}
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

    @requires('root')
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
        choices = {'write': self.write, 'write more': self.write, 'read': self.read, 'read more': self.read,
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

    def test_json_marks_the_lines_that_only_stand_near(self) -> None:
        root = plant(scratch(), {'app.log': numbered(1, 20)})
        entries = call(make_application('--log-root', str(root)),
                       '/logs/app?q=line%207&C=1&format=json').json()['entries']
        self.assertEqual([(entry['message'].split()[-1], entry.get('context', False)) for entry in entries],
                         [('6', True), ('7', False), ('8', True)])

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
                (first - 9, last + 9), (last, first)]

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
        self.assertEqual(Counter(reply.status for reply in replies), {400: 2, 429: 4})
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
        forward = '/logs/app' + document['next']
        while document['entries'] or document['scan']['stop'] == 'deadline':
            document = server.get(forward).json()
            forward = '/logs/app' + document['next']
            found += [int(entry['message'].split()[-1]) for entry in document['entries']]
        self.assertEqual(found[-1], 29)
        self.assertEqual(len(found), len(set(found)) + len(found) - 30)

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

    def test_a_client_that_hangs_up_stops_its_scan(self) -> None:
        big = scratch()
        block = (self.root / 'app.log').read_bytes()[:1 << 20]
        with (big / 'app.log').open('wb') as log:
            for _ in range(150):
                log.write(block)
        server = self.serve(root=big, constants={'SCAN_SECONDS': 60.0})
        wire = server.wire()
        wire.send(head_bytes('/logs/app?level=emerg'))
        until(lambda: server.cpu_seconds() > 0.5, 'the scan to run')
        wire.vanish()
        used = server.cpu_seconds()
        until(lambda: self.idle(server), 'the scan to stop', 5)
        self.assertLess(server.cpu_seconds() - used, 1.0)

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
            until(lambda: self.held(server) <= before, 'the descriptors of before', 5)
            threads.append(server.status('Threads'))
        self.assertLessEqual(threads[-1], threads[0], 'threads are used again')

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
        self.assertProblem(reply, 503)
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
        self.log = plant(scratch(), {'app.log': 'line 0\n'}) / 'app.log'
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
                file.write(b'%s line %d\n' % (b'x' * self.chance.randint(0, 200), self.written))
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
            self.complaints += '' if 'file size changed while zipping' in done.stderr else done.stderr
            while 'dateext' in self.mode and int(time.time()) == began:     # its names are the seconds
                self._stop.wait(0.05)
        self._stop.set()

    def is_over(self) -> bool:
        return not self._writer.is_alive() and not self._rotator.is_alive()

    def on_disk(self) -> set[int]:
        """The numbers that there are: copytruncate itself loses some."""
        rows = b''.join(whole_lines(read_with_tools(path)) for path in self.log.parent.iterdir()).splitlines()
        return {int(row.split()[-1]) for row in rows}


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
            witness.seen.extend(int(entry['message'].split()[-1]) for entry in document['entries'])
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
                    witness.seen.append(int(json.loads(event['data'])['message'].split()[-1]))
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
                    self.assertLessEqual(witness.seen.count(None), self.ROUNDS if mode in LOSSY_MODES else 0)
                server.stop()


# ----------------------------------------------------------------------------------------------------------------------
# the journal: against journalctl, on a journal made here; and what its entries may hold
# ----------------------------------------------------------------------------------------------------------------------

BOOT_ID = '0123456789abcdef0123456789abcdef'
ENTRY_CURSOR = f's={BOOT_ID};i=31;b={BOOT_ID};m=2dc6c00;t=6474848fcac00;x=b9aecf3689e2c9dd'


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
                self.assertEqual(details.message, expected)
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


class JournalArguments(Case):
    """Nothing that a client sends reaches journalctl but numbers and cursors that were checked."""

    def test_a_cursor_comes_back_as_it_went(self) -> None:
        for behind in (True, False):
            cursor = logwatch.JournalCursor(behind, ENTRY_CURSOR)
            self.assertEqual(logwatch.parse_any_cursor(logwatch.encode_journal_cursor(cursor)), cursor)

    def test_another_text_is_no_cursor(self) -> None:
        hostile = ['', '--output=export', f'{ENTRY_CURSOR}\n', f'{ENTRY_CURSOR} --root=/', f' {ENTRY_CURSOR}',
                   ENTRY_CURSOR.upper(),
                   ENTRY_CURSOR.replace('i=31', 'i='), ENTRY_CURSOR.replace('i=31', 'i=31;i=31'),
                   ENTRY_CURSOR + ';u=1', '\0', 'é',
                   ENTRY_CURSOR.replace('i=31', 'i=' + '1' * 17), '$(id)', ';'.join(reversed(ENTRY_CURSOR.split(';')))]
        for kind in ('~a', '~b'):
            for text in hostile:
                encoded = base64.urlsafe_b64encode(text.encode()).decode()
                for padded in (encoded, encoded.rstrip('=')):
                    with self.subTest(text), self.assertRaises(ValueError):
                        logwatch.parse_any_cursor(kind + padded)
        good = base64.urlsafe_b64encode(ENTRY_CURSOR.encode()).decode().rstrip('=')
        for text in ('~c' + good, '~' + good, '~A' + good, '~a' + good[:-1] + '!', '~a ' + good, '~a', '~'):
            with self.subTest(text), self.assertRaises(ValueError):
                logwatch.parse_any_cursor(text)

    def test_the_arguments_hold_no_text_of_the_client(self) -> None:
        criteria = logwatch.Criteria(words=('CLIENT',), unwanted=('CLIENT',), pattern='CLIENT', ignore_case=True,
                                     since=1.5, until=2e9, level=4)
        for place in (None, logwatch.JournalCursor(True, ENTRY_CURSOR), logwatch.JournalCursor(False, ENTRY_CURSOR)):
            for reverse in (True, False):
                arguments = logwatch.journal_arguments('ssh.service', criteria, place, reverse)
                self.assertEqual(arguments[0].rpartition('/')[2], 'journalctl')
                self.assertEqual([text for text in arguments[1:] if 'CLIENT' in text or not text.startswith('--')], [])
                self.assertIn('--unit=ssh.service', arguments)
                self.assertIn('--priority=4', arguments)


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

    def test_a_units_part_of_it_is_a_log_by_option(self) -> None:
        server = self.serve('--log', 'ssh=journal:ssh.service', '--log', 'all=journal:', root=Path('/var/log'),
                            wrap=self.journal.namespace())
        self.assertEqual({row['name'] for row in server.get('/logs?format=json').json()['logs']}, {'ssh', 'all'})
        entries = server.get('/logs/ssh?format=json&n=10000').json()['entries']
        self.assertEqual(self.messages({'entries': entries}), self.journal.journalctl('-u', 'ssh.service'))
        self.assertEqual(len(server.get('/logs/all?n=10000').text.splitlines()), self.COUNT)

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
