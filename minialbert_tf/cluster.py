"""Processes that train together: who they are, how they meet, and how each notices that another is gone.

Nothing here needs TensorFlow. All workers connect to the first one, the chief, and keep the connection as long as they
train: the operating system closes it when a process dies, so the others know at once and wait for nothing in vain.
"""

import json
import queue
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from minialbert_tf.errors import InputError

_EXAMPLE = '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}'
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(?P<port>[0-9]{1,5})")
_HEADER = struct.Struct("!cQ")
_MESSAGE, _BYE, _GONE, _FAILED = b"m", b"b", b"g", b"f"
_LARGEST_GREETING = 1 << 20
_RETRY_SECONDS = 0.2
_FAREWELL_SECONDS = 10.0
# A machine that loses its power says nothing; it is asked after 10 s of silence, three times.
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}


@dataclass(frozen=True)
class Members:
    """The workers of a cluster and which of them this process is.

    Attributes:
        addresses: "host:port" of each worker; the first one is the chief.
        index: Of this process.
    """

    addresses: tuple[str, ...]
    index: int

    def name(self, index: int) -> str:
        """Returns what errors call a worker."""
        return f"worker {index} ({self.addresses[index]})"


def read_tf_config(text: str | None) -> Members:
    """Reads TF_CONFIG, the description of a cluster that TensorFlow knows.

    Raises:
        InputError: If it is missing or describes no cluster of workers with this process among them.
    """
    if not text:
        raise InputError(f"Several workers need TF_CONFIG, such as {_EXAMPLE}. Received: nothing")
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"TF_CONFIG must be JSON, such as {_EXAMPLE}. Received: {text[:200]} ({error})") from error
    cluster, task = (_part(values, name) for name in ("cluster", "task"))
    unknown = sorted(cluster.keys() - {"chief", "worker"})
    if unknown or not cluster:
        raise InputError(f"TF_CONFIG's cluster must have the key worker and no other. Received: {', '.join(cluster)}")
    groups = {kind: _addresses(cluster.get(kind, []), kind) for kind in ("chief", "worker")}
    addresses = (*groups["chief"], *groups["worker"])
    if len(groups["chief"]) > 1 or not addresses:
        raise InputError(
            f"TF_CONFIG's cluster must have at least one worker and one chief at most. Received: {cluster}"
        )
    doubles = sorted({address for address in addresses if addresses.count(address) > 1})
    if doubles:
        raise InputError(f"Each worker in TF_CONFIG must have an address of its own. Received twice: {doubles[0]}")
    return Members(addresses, _index(task, groups))


def _part(values: Any, name: str) -> Mapping[str, Any]:
    part = values.get(name) if isinstance(values, Mapping) else None
    if not isinstance(part, Mapping):
        raise InputError(
            f"TF_CONFIG must have an object {name}, as in {_EXAMPLE}. Received: {json.dumps(values)[:200]}"
        )
    return part


def _addresses(values: Any, kind: str) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise InputError(f"TF_CONFIG's {kind} must be a list of addresses. Received: {json.dumps(values)}")
    for value in values:
        match = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
        if match is None or not 0 < int(match["port"]) < 2**16:
            raise InputError(f"An address in TF_CONFIG must be host:port, such as 10.0.0.1:2222. Received: {value!r}")
    return tuple(values)


def _index(task: Mapping[str, Any], groups: Mapping[str, tuple[str, ...]]) -> int:
    kind, index = task.get("type"), task.get("index")
    if not isinstance(kind, str) or not groups.get(kind):
        rule = " or ".join(name for name, addresses in groups.items() if addresses)
        raise InputError(f"TF_CONFIG's task type must be {rule}. Received: {kind!r}")
    count = len(groups[kind])
    if isinstance(index, str) and index.isdecimal():  # as some schedulers write it
        index = int(index)
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < count:
        raise InputError(
            f"TF_CONFIG's task index must be from 0 to {count - 1}, as there are {count}. Received: {index!r}"
        )
    return index if kind == "chief" else index + len(groups["chief"])


class _Line:
    """A connection to another worker: frames of a kind and some bytes; a thread of its own reads them.

    Attributes:
        greeted: Whether the other side is known to be a worker.
        left: Whether it has said goodbye.
    """

    def __init__(self, connection: socket.socket, receive: Callable[["_Line", bytes, bytes], None]) -> None:
        """Takes the connection and what to call with each frame, and with `_GONE` at the end."""
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._connection = connection
        self._receive = receive
        self.greeted = False
        self.left = False
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, kind: bytes, content: bytes = b"") -> None:
        """Sends a frame; that the other side is gone, the reading thread notices."""
        with suppress(OSError):
            self._connection.sendall(_HEADER.pack(kind, len(content)) + content)

    def close(self) -> None:
        """Ends the connection."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def _read(self) -> None:
        with suppress(OSError, EOFError):
            while True:
                kind, size = _HEADER.unpack(self._exactly(_HEADER.size))
                # Anybody may knock at a port: what does not speak as workers do is not listened to.
                if kind not in (_MESSAGE, _BYE, _GONE, _FAILED) or not (self.greeted or size <= _LARGEST_GREETING):
                    break
                self._receive(self, kind, self._exactly(size))
        self._connection.close()
        self._receive(self, _GONE, b"")

    def _exactly(self, size: int) -> bytes:
        content = bytearray()
        while len(content) < size:
            piece = self._connection.recv(min(size - len(content), 1 << 20))
            if not piece:
                raise EOFError
            content += piece
        return bytes(content)


class Cluster:
    """This process among the workers that it has met.

    Use it as a context: at the end of the block the workers part; an error that ends the block ends all of them.
    """

    def __init__(self, members: Members, timeout: float, end: Callable[[str, bool], None]) -> None:
        """Takes who the workers are.

        Args:
            members: All workers.
            timeout: Seconds within which all must have come.
            end: Called, from another thread, when training cannot go on: with the reason, and whether a worker is
                gone (which may come back) or has failed. It should end or replace the process.
        """
        self.members = members
        self.timeout = timeout
        self._end = end
        self._lines: dict[int, _Line] = {}
        self._inbox: queue.SimpleQueue[tuple[_Line, bytes, bytes]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._ending = threading.Lock()
        self._together = False

    @property
    def is_chief(self) -> bool:
        """Whether this is the first worker, which writes for all."""
        return self.members.index == 0

    def meet(self, greeting: Mapping[str, Any]) -> None:
        """Waits for all workers.

        Args:
            greeting: What all workers must say alike, as JSON values by name.

        Raises:
            InputError: If they do not all come in time, do not agree, or this worker's port is in use.
        """
        deadline = time.monotonic() + self.timeout
        if self.is_chief:
            self._receive_all(greeting, deadline)
        else:
            self._join(greeting, deadline)
        with self._lock:
            self._together = True
            if self.is_chief:  # all are welcomed before the first one's failure can be passed on
                self._tell(_MESSAGE)
            early = [self._inbox.get() for _ in range(self._inbox.qsize())]  # what came in meanwhile
            for frame in early:
                if frame[1] == _MESSAGE and frame[0] in self._lines.values():
                    self._inbox.put(frame)
        for line, kind, content in early:
            if kind != _MESSAGE or line not in self._lines.values():
                self._receive(line, kind, content)

    def _bind(self) -> socket.socket:
        address = self.members.addresses[self.members.index]
        port = int(address.rpartition(":")[2])
        dual = socket.has_dualstack_ipv6()
        try:
            return socket.create_server(
                ("", port), family=socket.AF_INET6 if dual else socket.AF_INET, dualstack_ipv6=dual
            )
        except OSError as error:
            raise InputError(
                f"The port of {self.members.name(self.members.index)} must be free on its machine. Received: {error}"
            ) from error

    def _receive_all(self, greeting: Mapping[str, Any], deadline: float) -> None:
        absent = set(range(1, len(self.members.addresses)))
        with self._bind() as listener:
            listener.settimeout(_RETRY_SECONDS)
            while absent:
                with suppress(TimeoutError):
                    _Line(listener.accept()[0], self._receive)
                while not self._inbox.empty():
                    line, kind, content = self._inbox.get()
                    if kind == _MESSAGE:
                        self._admit(line, content, greeting)
                    else:  # gone before all have come: another one may take the place
                        self._lines = {index: each for index, each in self._lines.items() if each is not line}
                absent = set(range(1, len(self.members.addresses))) - self._lines.keys()
                if absent and time.monotonic() > deadline:
                    names = ", ".join(map(self.members.name, sorted(absent)))
                    raise InputError(
                        f"All workers must join within {self.timeout:g} seconds. Received nothing of {names}"
                    )

    def _admit(self, line: _Line, content: bytes, greeting: Mapping[str, Any]) -> None:
        try:
            theirs = json.loads(content)
            index = int(theirs.pop("index"))
        except (ValueError, KeyError, AttributeError, TypeError):
            index = 0
        if not 0 < index < len(self.members.addresses):
            line.close()
            return
        if index in self._lines:
            line.send(_FAILED, f"Each worker must have an index of its own. Received twice: {index}".encode())
            line.close()
            return
        self._lines[index] = line
        line.greeted = True
        _compare(greeting, theirs, index)

    def _join(self, greeting: Mapping[str, Any], deadline: float) -> None:
        self._bind().close()
        hello = json.dumps({"index": self.members.index, **greeting}).encode()
        host, _, port = self.members.addresses[0].rpartition(":")
        while True:
            with suppress(OSError):
                connection = socket.create_connection((host.strip("[]"), int(port)), timeout=_left(deadline))
                if connection.getsockname() == connection.getpeername():  # nobody listens, and chance has connected
                    connection.close()  # this socket with itself
                    continue
                line = _Line(connection, self._receive)
                line.greeted = True
                line.send(_MESSAGE, hello)
                # The chief's own time may end later; it says who is missing.
                if self._is_welcome(line, time.monotonic() + self.timeout + _FAREWELL_SECONDS):
                    self._lines = {0: line}
                    return
            if time.monotonic() > deadline:
                raise InputError(
                    f"All workers must join within {self.timeout:g} seconds. Received no welcome of "
                    f"{self.members.name(0)}"
                )
            time.sleep(_RETRY_SECONDS)

    def _is_welcome(self, line: _Line, deadline: float) -> bool:
        """Waits for the chief's answer; where an earlier run's server still has its port, there is none."""
        answered: _Line | None = None
        while answered is not line:  # an earlier attempt's may still come
            try:
                answered, kind, content = self._inbox.get(timeout=_left(deadline))
            except queue.Empty:
                line.close()
                return False
        if kind == _FAILED:
            raise InputError(content.decode())
        return kind == _MESSAGE

    def share(self, content: bytes = b"") -> bytes:
        """Returns the chief's content, on all workers."""
        if self.is_chief:
            self._tell(_MESSAGE, content)
            return content
        return self._inbox.get()[2]

    def agree(self, values: Mapping[str, Any]) -> None:
        """Checks that JSON values are the same on all workers.

        Raises:
            InputError: If they are not, on the chief; the others end by its message.
        """
        if not self.is_chief:
            self._tell(_MESSAGE, json.dumps(values).encode())
            self.share()
            return
        for _ in self._lines:
            line, _, content = self._inbox.get()
            _compare(values, json.loads(content), next(i for i, each in self._lines.items() if each is line))
        self.share()

    def lose(self, reason: str) -> None:
        """Ends because another worker is out of reach."""
        self._stop(_GONE, reason)

    def _tell(self, kind: bytes, content: bytes = b"", besides: _Line | None = None) -> None:
        for line in list(self._lines.values()):
            if line is not besides:
                line.send(kind, content)

    def _receive(self, line: _Line, kind: bytes, content: bytes) -> None:
        """Takes a frame, in the thread that reads the connection."""
        with self._lock:
            line.left |= kind == _BYE
            if not self._together or (kind in (_MESSAGE, _BYE) and line in self._lines.values()):
                self._inbox.put((line, kind, content))
                return
        index = next((index for index, each in self._lines.items() if each is line), None)
        if index is None:  # one too many
            line.close()
        elif not line.left:
            self._stop(kind, content.decode() or f"{self.members.name(index)} is gone", line)

    def _stop(self, kind: bytes, reason: str, line: _Line | None = None) -> None:
        with self._ending:  # whoever comes second waits here until the process ends
            self._tell(kind, reason.encode(), besides=line)
            self._end(reason, kind == _GONE)

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None:
            self._ending.acquire()  # for good: that the others end, too, is no loss any more
            name = self.members.name(self.members.index)
            self._tell(_FAILED, f"{name} has ended: {' '.join(str(error).split()) or type(error).__name__}".encode())
        elif self.is_chief:
            for line in self._lines.values():
                line.left = True
            self._tell(_BYE)
            deadline = time.monotonic() + _FAREWELL_SECONDS
            with suppress(queue.Empty):
                for _ in self._lines:
                    self._inbox.get(timeout=_left(deadline))
        else:
            self._inbox.get()
            self._tell(_BYE)
        with self._lock:
            self._together = False
        for line in self._lines.values():
            line.close()


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.01)


def _compare(ours: Mapping[str, Any], theirs: Mapping[str, Any], index: int) -> None:
    for name in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(name), theirs.get(name)
        if one != other:
            raise InputError(
                f"All workers must have the same {name}. Received: {one!r} at worker 0, {other!r} at worker {index}"
            )
