import json
import queue
import socket
import threading
import time

import pytest

from benchmarks.workers import free_ports
from minialbert_tf.cluster import Cluster, Members, _Line, read_tf_config
from minialbert_tf.errors import InputError

WORKERS = ["a:1", "b:2"]
TASK = {"type": "worker", "index": 1}


def described(**changes):
    return json.dumps({"cluster": {"worker": WORKERS}, "task": TASK, **changes})


def test_tf_config():
    assert read_tf_config(described()) == Members(("a:1", "b:2"), 1)
    assert read_tf_config(described(task={"type": "worker", "index": "0"})).index == 0
    cluster = {"worker": WORKERS, "chief": ["[::1]:3"]}
    assert read_tf_config(described(cluster=cluster)) == Members(("[::1]:3", "a:1", "b:2"), 2)
    assert read_tf_config(described(cluster=cluster, task={"type": "chief", "index": 0})).index == 0
    assert read_tf_config(described(cluster={"worker": ["a:1"]}, task={"type": "worker", "index": 0})).index == 0


WRONG = {
    None: "need TF_CONFIG, such as",
    "": "Received: nothing",
    "{cluster}": "must be JSON",
    "[1]": "must have an object cluster, as in",
    "{}": "must have an object cluster",
    '{"cluster": {"worker": ["a:1"]}}': "must have an object task",
    described(cluster={}): "must have the key worker and no other",
    described(cluster=["a:1"]): "must have an object cluster",
    described(cluster={"worker": []}): "at least one worker",
    described(cluster={"worker": WORKERS, "ps": ["c:3"]}): "the key worker and no other. Received: worker, ps",
    described(cluster={"worker": WORKERS, "evaluator": ["c:3"]}): "Received: worker, evaluator",
    described(cluster={"worker": WORKERS, "chief": ["c:3", "d:4"]}): "one chief at most",
    described(cluster={"worker": "a:1,b:2"}): "must be a list of addresses",
    described(cluster={"worker": ["a:1", "a:1"]}): "Received twice: a:1",
    described(cluster={"worker": ["a:1", "b"]}): "must be host:port, such as 10.0.0.1:2222. Received: 'b'",
    described(cluster={"worker": ["a:1", "b:0"]}): "Received: 'b:0'",
    described(cluster={"worker": ["a:1", "b:65536"]}): "Received: 'b:65536'",
    described(cluster={"worker": ["a:1", "http://b:2"]}): "Received: 'http://b:2'",
    described(cluster={"worker": ["a:1", 2]}): "Received: 2",
    described(task={"type": "worker"}): "must be from 0 to 1, as there are 2. Received: None",
    described(task={"type": "worker", "index": 2}): "Received: 2",
    described(task={"type": "worker", "index": -1}): "Received: -1",
    described(task={"type": "worker", "index": True}): "Received: True",
    described(task={"type": "chief", "index": 0}): "task type must be worker. Received: 'chief'",
    described(task={"type": "evaluator", "index": 0}): "Received: 'evaluator'",
    described(task={"index": 0}): "Received: None",
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_tf_config_is_named(text):
    with pytest.raises(InputError) as error:
        read_tf_config(text)
    assert WRONG[text] in str(error.value) and "\n" not in str(error.value)


class Worker(threading.Thread):
    """A worker as a thread: meets the others, does `work`, and notes what became of it."""

    def __init__(self, members, work=lambda cluster: None, greeting=None, timeout=10.0):
        super().__init__(daemon=True)
        self.members, self.work, self.greeting, self.timeout = members, work, greeting or {}, timeout
        self.result = self.error = None
        self.ended = queue.Queue()
        self.start()

    def run(self):
        try:
            with Cluster(self.members, self.timeout, lambda reason, lost: self.ended.put((reason, lost))) as cluster:
                cluster.meet(self.greeting)
                self.result = self.work(cluster)
        except Exception as error:
            self.error = error

    def wait(self):
        self.join(20)
        assert not self.is_alive()
        return self


def addresses(count):
    return tuple(f"localhost:{port}" for port in free_ports(count))


def gather(count, *works, **options):
    """Runs `count` workers, with a work each or the same for all."""
    where = addresses(count)
    return [Worker(Members(where, k), works[k % len(works)], **options) for k in range(count)]


def test_all_get_what_the_chief_shares_and_part_in_peace():
    def work(cluster):
        cluster.agree({"steps": 3})
        return cluster.share(b"x" * 3_000_000 if cluster.is_chief else b"ignored"), cluster.share(b"last")

    workers = [worker.wait() for worker in gather(3, work)]
    assert [worker.error for worker in workers] == [None] * 3
    assert all(worker.result == (b"x" * 3_000_000, b"last") for worker in workers)
    assert all(worker.ended.empty() for worker in workers)


def test_a_cluster_of_one():
    [worker] = gather(1, lambda cluster: cluster.share(b"own"))
    assert worker.wait().result == b"own"


def test_who_does_not_come_is_named_in_time():
    where = addresses(3)
    started = time.monotonic()
    chief, other = (Worker(Members(where, index), timeout=1.0) for index in (0, 1))
    expected = f"must join within 1 seconds. Received nothing of worker 2 ({where[2]})"
    assert expected in str(chief.wait().error)
    assert "must join within 1 seconds" in str(other.wait().error)
    assert time.monotonic() - started < 5
    lonely = Worker(Members(addresses(2), 1), timeout=0.5).wait()
    assert isinstance(lonely.error, InputError) and "no welcome of worker 0" in str(lonely.error)


@pytest.mark.parametrize("late", [0, 1])
def test_the_first_waits_for_the_last(late):
    where = addresses(2)
    first = Worker(Members(where, 1 - late), lambda cluster: cluster.share(b"x"))
    time.sleep(0.7)
    last = Worker(Members(where, late), lambda cluster: cluster.share(b"x"))
    assert first.wait().result == last.wait().result == b"x"


def test_other_greetings_are_refused():
    where = addresses(2)
    chief, other = (Worker(Members(where, k), greeting={"version of tensorflow": f"2.{k}"}) for k in range(2))
    expected = "must have the same version of tensorflow. Received: '2.0' at worker 0, '2.1' at worker 1"
    assert expected in str(chief.wait().error) and expected in str(other.wait().error)


def test_other_values_end_all():
    workers = gather(2, lambda cluster: cluster.agree({"seed": cluster.members.index}))
    chief = workers[0].wait()
    assert "must have the same seed. Received: 0 at worker 0, 1 at worker 1" in str(chief.error)
    reason, lost = workers[1].ended.get(timeout=5)
    assert "must have the same seed" in reason and not lost


def test_an_index_that_two_have():
    where = addresses(3)
    chief, first = (Worker(Members(where, index)) for index in (0, 1))
    time.sleep(0.5)
    with socket.create_connection(("localhost", int(where[0].rpartition(":")[2]))) as second:
        second.sendall(frame(b"m", json.dumps({"index": 1}).encode()))
        second.settimeout(5)
        answer = b"".join(iter(lambda: second.recv(1000), b""))
    assert answer.startswith(b"f") and b"an index of its own. Received twice: 1" in answer
    third = Worker(Members(where, 2))
    assert [worker.wait().error for worker in (chief, first, third)] == [None] * 3


def frame(kind, content):
    return kind + len(content).to_bytes(8, "big") + content


JUNK = {
    "another protocol": b"GET / HTTP/1.1\r\n\r\n",
    "no JSON": frame(b"m", b"\xff{"),
    "no object": frame(b"m", b"[]"),
    "no index": frame(b"m", b"{}"),
    "an index of nobody": frame(b"m", b'{"index": 7}'),
    "too long": frame(b"m", b"")[:1] + b"\x00\x00\x01" + b"\x00" * 5,
    "half a frame": b"m\x00",
    "nothing": b"",
}


def test_who_is_no_worker_is_not_listened_to():
    where = addresses(2)
    chief = Worker(Members(where, 0), lambda cluster: cluster.share(b"x"))
    open_ones = []
    for junk in JUNK.values():
        open_ones.append(knock(int(where[0].rpartition(":")[2])))
        open_ones[-1].sendall(junk)
    time.sleep(0.5)
    assert chief.is_alive() and chief.error is None
    other = Worker(Members(where, 1), lambda cluster: cluster.share())
    assert (chief.wait().error, other.wait().result) == (None, b"x")
    for each in open_ones:
        each.close()


def knock(port):
    deadline = time.monotonic() + 5
    while True:
        try:
            return socket.create_connection(("localhost", port))
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize("index", [0, 1])
def test_a_port_in_use(index):
    with socket.create_server(("localhost", 0)) as taken:
        where = list(addresses(2))
        where[index] = f"localhost:{taken.getsockname()[1]}"
        worker = Worker(Members(tuple(where), index)).wait()
    assert f"The port of worker {index} ({where[index]}) must be free" in str(worker.error)


def test_a_place_is_free_again_when_its_worker_dies_early():
    where = addresses(3)
    chief = Worker(Members(where, 0))
    early = knock(int(where[0].rpartition(":")[2]))
    early.sendall(frame(b"m", json.dumps({"index": 1}).encode()))
    time.sleep(0.5)
    early.close()
    others = [Worker(Members(where, index)) for index in (1, 2)]
    assert [worker.wait().error for worker in (chief, *others)] == [None] * 3


@pytest.mark.parametrize("victim", [0, 1])
def test_a_death_is_known_to_all_at_once(victim):
    """The system closes the connections of a process that dies; here a thread's are closed without a goodbye."""

    def work(cluster):
        if cluster.members.index == victim:
            time.sleep(0.3)
            cluster._together = False  # the dead notice nothing
            for line in cluster._lines.values():
                line.close()
        time.sleep(1.5)

    workers = gather(3, work)
    for worker in workers:
        if worker.members.index != victim:
            reason, lost = worker.ended.get(timeout=1.5)
            assert lost and f"worker {victim} (localhost:" in reason and "is gone" in reason


def test_an_error_of_one_ends_all_with_its_message(monkeypatch):
    send = _Line.send

    def send_slowly(self, kind, content=b""):  # so that worker 1 fails before the chief has welcomed worker 2
        send(self, kind, content)
        time.sleep(0.3)

    monkeypatch.setattr(_Line, "send", send_slowly)

    def work(cluster):
        if cluster.members.index == 1:
            raise InputError("The disk\nis full.")
        time.sleep(1.5)

    workers = gather(3, work)
    for index in (0, 2):
        reason, lost = workers[index].ended.get(timeout=5)
        assert "worker 1 (localhost:" in reason and reason.endswith("has ended: The disk is full.") and not lost


def test_one_too_many_is_sent_away():
    where = addresses(2)
    port = int(where[0].rpartition(":")[2])

    def work(cluster):
        time.sleep(0.6)
        cluster.agree({})
        return cluster.share(b"x")

    chief = Worker(Members(where, 0), work)
    silent = knock(port)  # accepted, and says something only when all have met
    worker = Worker(Members(where, 1), work)
    time.sleep(0.4)
    silent.sendall(frame(b"m", json.dumps({"index": 1}).encode()))
    assert [each.wait().error for each in (chief, worker)] == [None, None]
    assert worker.result == b"x" and chief.ended.empty()
    silent.settimeout(5)
    assert silent.recv(10) == b""
