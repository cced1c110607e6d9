import json
import threading
import time
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from minialbert_tf import serving
from minialbert_tf.errors import InputError
from minialbert_tf.serving import GrpcTagger, RestTagger, ServingError
from minialbert_tf.tagger import Entity

TEXT = "No aspirin\ud83d 😀 for asthma"
ENTITIES = [Entity("aspirin", "Drug", 3, 10, 0.5), Entity("😀 for asthma", "Disease", 12, 24, 0.25)]


def outputs_for(texts):
    """Finds ENTITIES in TEXT and nothing in other texts."""
    hits = [text == TEXT.replace("\ud83d", "\ufffd") for text in texts]
    return {
        "labels": [["Drug", "Disease"] if hit else ["", ""] for hit in hits],
        "label_ids": [[0, 1] if hit else [-1, -1] for hit in hits],
        "scores": [[0.5, 0.25] if hit else [-1.0, -1.0] for hit in hits],
        "starts": [[3, 12] if hit else [-1, -1] for hit in hits],
        "ends": [[10, 24] if hit else [-1, -1] for hit in hits],
        "lengths": [2 * hit for hit in hits],
    }


class Server(ThreadingHTTPServer):
    """Answers as a model server does, after what is in `failures`: statuses, or functions of the handler."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.failures, self.requests = [], []
        self.answer = lambda texts: json.dumps({"outputs": outputs_for(texts)}).encode()
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def handle_error(self, *arguments):
        pass


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, body))
        failure = self.server.failures.pop(0) if self.server.failures else None
        if callable(failure):
            failure(self)
            return
        status, content = failure or (200, self.server.answer(body["inputs"]))
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with Server() as server:
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    pauses = []
    monkeypatch.setattr(serving.time, "sleep", pauses.append)
    return pauses


def test_entities_of_a_text_and_of_texts(server):
    tagger = RestTagger(server.url + "/", "ner")
    assert tagger(TEXT) == ENTITIES
    assert tagger([TEXT, "", TEXT]) == [ENTITIES, [], ENTITIES]
    assert tagger(("",)) == [[]]
    path, body = server.requests[0]
    assert path == "/v1/models/ner:predict"
    assert body == {"inputs": [TEXT.replace("\ud83d", "\ufffd")]}


def test_no_texts_ask_nothing(server):
    assert RestTagger(server.url)([]) == [] and server.requests == []


def test_a_version_and_an_odd_name(server):
    RestTagger(server.url, "a/b", version=3)("")
    assert server.requests[0][0] == "/v1/models/a%2Fb/versions/3:predict"


def test_many_texts_become_several_requests(server):
    texts = [TEXT, "a", "b"] * 7
    assert RestTagger(server.url, batch_size=4)(texts) == [ENTITIES, [], []] * 7
    assert [len(body["inputs"]) for _, body in server.requests] == [4, 4, 4, 4, 4, 1]


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_is_tried_again(server, pauses, status):
    server.failures = [(status, b"{}")] * 3
    assert RestTagger(server.url)(TEXT) == ENTITIES
    assert len(server.requests) == 4
    for pause, limit in zip(pauses, (0.2, 0.4, 0.8), strict=True):
        assert limit / 2 <= pause <= limit


def test_a_server_that_stays_busy_is_given_up(server, pauses):
    server.failures = [(503, b'{"error": "Service\\n unavailable"}')] * 3
    with pytest.raises(ServingError, match=r"HTTP 503, Service unavailable \(tried 2 times\)"):
        RestTagger(server.url, retries=1)(TEXT)
    assert len(server.requests) == 2 and len(pauses) == 1


def test_pauses_end_at_ten_seconds(server, pauses):
    server.failures = [(503, b"")] * 12
    RestTagger(server.url, retries=12)("")
    assert 5 <= max(pauses) <= 10


@pytest.mark.parametrize(
    ("status", "content", "reason"),
    [
        (400, b'{"error": "A text must have at most 1000000 bytes of UTF-8."}', "at most 1000000 bytes"),
        (404, b'{"error": "Servable not found for request: Latest(ner)"}', "HTTP 404, Servable not found"),
        (500, b"<html>", "HTTP 500, Internal Server Error"),
        (400, b"[" * 100_000, "HTTP 400, Bad Request"),
        (400, b'{"error": {"deep": 1}}', "HTTP 400, {'deep': 1}"),
    ],
)
def test_a_refusal_is_not_tried_again(server, pauses, status, content, reason):
    server.failures = [(status, content)]
    with pytest.raises(ServingError, match=reason) as caught:
        RestTagger(server.url)(TEXT)
    assert pauses == [] and "\n" not in str(caught.value)


def test_an_unreachable_server_is_named(pauses):
    with pytest.raises(ServingError, match=r"must answer at http://127\.0\.0\.1:9/v1/.*refused.*tried 2 times"):
        RestTagger("http://127.0.0.1:9", retries=1)(TEXT)


def break_off(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"{")
    handler.connection.close()


def hang_up(handler):
    handler.connection.close()


def never_answer(handler):
    threading.Event().wait(2)


@pytest.mark.parametrize("failure", [break_off, hang_up, never_answer])
def test_broken_connections_and_time_outs_are_tried_again(server, failure):
    server.failures = [failure]
    start = time.monotonic()
    assert RestTagger(server.url, timeout=0.3)(TEXT) == ENTITIES
    assert len(server.requests) == 2 and time.monotonic() - start < 1.5


def changed(**changes):
    return json.dumps({"outputs": {**outputs_for([TEXT.replace("\ud83d", "\ufffd")]), **changes}}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        b'{"predictions": []}',
        b'{"outputs": [[0.1, 0.9]]}',
        b'{"outputs": {"logits": [[1]]}}',
        changed(lengths=[3]),
        changed(lengths=[]),
        changed(lengths=["2"]),
        changed(lengths=[-1]),
        changed(starts=[[3]]),
        changed(starts=[[-1, 12]]),
        changed(ends=[[3, 24]]),
        changed(ends=[[10, 25]]),
        changed(ends=[[10.0, 24]]),
        changed(scores=[["high", 0.5]]),
        changed(labels=[None]),
    ],
)
def test_what_is_no_answer_is_an_error_of_one_line(server, content):
    server.answer = lambda texts: content
    with pytest.raises(ServingError, match="The server must answer with") as caught:
        RestTagger(server.url)(TEXT)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("text", [3, None, b"bytes", ["a", 3], {"a": 1}])
def test_what_is_no_text_is_refused(server, text):
    with pytest.raises(InputError, match="must be a string or a list of strings"):
        RestTagger(server.url)(text)
    assert server.requests == []


@pytest.mark.parametrize(
    "arguments",
    [{"url": "localhost:8501"}, {"url": "file:///etc/passwd"}, {"timeout": 0}, {"retries": -1}, {"batch_size": 0}],
)
def test_bad_arguments(arguments):
    with pytest.raises(InputError, match="Received"):
        RestTagger(**arguments)


def test_sixteen_threads_share_a_client(server):
    tagger = RestTagger(server.url)
    with futures.ThreadPoolExecutor(16) as pool:
        assert list(pool.map(tagger, [TEXT] * 64)) == [ENTITIES] * 64


def test_tensorflow_is_not_imported():
    import subprocess
    import sys
    from pathlib import Path

    code = "import minialbert_tf.serving, sys; print('tensorflow' in sys.modules)"
    root = Path(__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True).stdout == "False\n"


class TestGrpc:
    @pytest.fixture
    def service(self):
        grpc = pytest.importorskip("grpc")
        pytest.importorskip("tensorflow_serving.apis")
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

        class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
            def __init__(self):
                self.failures, self.requests = [], []

            def Predict(self, request, context):
                self.requests.append(request)
                if self.failures:
                    context.abort(*self.failures.pop(0))
                texts = [text.decode() for text in tf.make_ndarray(request.inputs["text"])]
                reply = predict_pb2.PredictResponse()
                for name, values in outputs_for(texts).items():
                    reply.outputs[name].CopyFrom(tf.make_tensor_proto(values))
                return reply

        service = Service()
        server = grpc.server(futures.ThreadPoolExecutor(4))
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
        service.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        yield service
        server.stop(None)

    def test_entities(self, service):
        tagger = GrpcTagger(service.address, "ner", version=2)
        assert tagger([TEXT, ""]) == [ENTITIES, []]
        assert tagger(TEXT) == ENTITIES
        spec = service.requests[0].model_spec
        assert (spec.name, spec.version.value) == ("ner", 2)
        tagger.close()

    def test_retries_and_refusals(self, service, pauses):
        import grpc

        service.failures[:] = [(grpc.StatusCode.UNAVAILABLE, "starting"), (grpc.StatusCode.RESOURCE_EXHAUSTED, "full")]
        assert GrpcTagger(service.address)(TEXT) == ENTITIES
        assert len(pauses) == 2
        service.failures[:] = [(grpc.StatusCode.INVALID_ARGUMENT, "too\nlong")]
        with pytest.raises(ServingError, match="INVALID_ARGUMENT, too long"):
            GrpcTagger(service.address)(TEXT)
        assert len(pauses) == 2

    def test_an_unreachable_server(self, service):
        with pytest.raises(ServingError, match=r"UNAVAILABLE.*tried 1 times"):
            GrpcTagger("127.0.0.1:9", timeout=2, retries=0)(TEXT)


def test_a_missing_package_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis", None)
    with pytest.raises(InputError, match=r"pip install 'minialbert-tf\[serving-client\]'"):
        GrpcTagger()
