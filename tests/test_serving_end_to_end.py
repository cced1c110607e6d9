"""Long tests of serving, run by `make test-serving`."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from serving_export import ROOT, TEXTS, brief, entities, ner_export, tagger

from minialbert_tf.serving import RestTagger, ServingError

pytest.importorskip("tensorflow_text")
pytestmark = pytest.mark.serving

PYTHON = os.environ.get("KSERVE_PYTHON")  # of an environment with KServe, see kserve_server.py
SHARED = ROOT.parent / "shared" / "data"
REQUESTS = 1000
AT_ONCE = 32


def post(url, body):
    request = urllib.request.Request(url, body if isinstance(body, bytes) else json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


@pytest.fixture(scope="module")
def server():
    if not PYTHON:
        pytest.skip("KSERVE_PYTHON names no Python with KServe; make test-serving makes one")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = Path(__file__).parent / "fixtures" / "kserve_server.py"
    with subprocess.Popen(
        [Path(PYTHON).absolute(), str(script), "ner", str(ner_export()), str(port)], cwd="/"
    ) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(f"{url}/v1/models/ner", process)
            yield url
            assert process.poll() is None  # whatever was asked, it is still there
        finally:
            process.terminate()


def wait_for(url, process):
    for _ in range(120):
        assert process.poll() is None
        try:
            return urllib.request.urlopen(url, timeout=5)
        except OSError:
            time.sleep(1)
    raise AssertionError(f"no answer from {url}")


def batches():
    return [TEXTS[first % len(TEXTS) : first % len(TEXTS) + 1 + first % 4] for first in range(REQUESTS)]


def test_a_thousand_requests_in_rows_and_columns(server):
    expected = dict(zip(TEXTS, map(brief, tagger()(TEXTS)), strict=True))

    def ask(number, texts):
        url = f"{server}/v1/models/ner:predict"
        if number % 2:
            outputs = post(url, {"inputs": texts})["outputs"]
        else:
            rows = post(url, {"instances": texts})["predictions"]
            outputs = {name: [row[name] for row in rows] for name in rows[0]}
        outputs["labels"] = [[label.encode() for label in labels] for labels in outputs["labels"]]
        return entities(texts, outputs)[0]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        replies = list(pool.map(ask, range(REQUESTS), batches()))
    assert replies == [[expected[text] for text in texts] for texts in batches()]


def test_the_client_gives_what_the_tagger_gives(server):
    client = RestTagger(server)
    texts = [*TEXTS, "", " ".join(TEXTS)]
    if SHARED.is_dir():
        texts += json.loads((SHARED / "naughty-strings" / "blns.json").read_text(encoding="utf-8"))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert list(map(brief, pool.map(client, texts))) == list(map(brief, tagger()(texts)))
    for found, expected in zip(client(texts), tagger()(texts), strict=True):
        assert brief(found) == brief(expected)
        assert all(abs(a.score - b.score) < 1e-5 for a, b in zip(found, expected, strict=True))


def test_bad_requests_are_errors_and_the_server_stays_up(server):
    url = f"{server}/v1/models/ner:predict"
    for body in (
        b"{",
        b'{"inputs": ["\xff\xfe"]}',
        {"inputs": [1, 2]},
        {"inputs": [["a"], ["b"]]},
        {"instances": [{"txt": "a"}]},
        {"signature_name": "none", "inputs": ["a"]},
        {"inputs": ["a" * 10_000_000]},
    ):
        with pytest.raises(urllib.error.HTTPError) as caught:
            post(url, body)
        assert caught.value.code in (400, 500)
    with pytest.raises(ServingError, match="at most 1000000 bytes"):
        RestTagger(server)("a" * 10_000_000)
    with pytest.raises(ServingError, match="HTTP 404"):
        RestTagger(server, "other")("a")
    assert brief(RestTagger(server)(TEXTS[2])) == brief(tagger()(TEXTS[2]))


MEMORY = """
import json, resource, sys
from pathlib import Path
import tensorflow as tf, tensorflow_text
model = tf.saved_model.load(sys.argv[1])
function, texts = model.signatures["serving_default"], json.load(sys.stdin)
used = []
for number in range(24_000):
    first = number % len(texts)
    function(text=tf.constant(texts[first : first + 1 + number % 4]))
    if number % 4_000 == 3_999:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        used.append(pages * resource.getpagesize() / 2**20)
print(json.dumps(used))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_memory_is_flat_over_twenty_thousand_requests():
    texts = [*TEXTS, " ".join(TEXTS)]
    command = [sys.executable, "-c", MEMORY, str(ner_export())]
    child = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, cwd="/", check=True)
    warm, *used = json.loads(child.stdout)
    print(f"MiB after each 4,000 requests: {warm:.0f}, {', '.join(f'{mib:.0f}' for mib in used)}")
    assert max(used) < warm + 20


def test_an_export_under_tf_keras_answers_the_same():
    pytest.importorskip("tf_keras")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from serving_export import TEXTS, brief, load, ner_export, entities, tagger\n"
        "import tensorflow as tf\n"
        "assert 'tf_keras' in tf.keras.Model.__module__\n"
        "outputs = load(ner_export()).signatures['serving_default'](text=tf.constant(TEXTS))\n"
        "assert entities(TEXTS, outputs)[0] == [brief(found) for found in tagger()(TEXTS)]\n"
    )
    env = {**os.environ, "TF_USE_LEGACY_KERAS": "1"}
    subprocess.run([sys.executable, "-c", code, str(ROOT / "tests")], cwd=ROOT, env=env, check=True)
