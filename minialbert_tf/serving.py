"""Asking a model server for entities, over REST with the standard library or over gRPC.

tagger = RestTagger("http://localhost:8501", model="ner")
tagger("Selegiline-induced postural hypotension")  # [Entity(text="Selegiline", label="Chemical", …), …]
"""

import json
import random
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException
from typing import Any, TypeVar, overload

from minialbert_tf.errors import InputError
from minialbert_tf.tagger import Entity

_OUTPUTS = ("labels", "scores", "starts", "ends", "lengths")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")  # no encoding can express it; the model drops U+FFFD
_BUSY = (429, 502, 503, 504)
_FIRST_PAUSE = 0.2  # seconds; doubles from try to try
_LONGEST_PAUSE = 10.0
_T = TypeVar("_T")


class ServingError(OSError):
    """A model server that cannot be reached, refuses a request, or answers what is no answer.

    The message is one line.
    """


class _TryAgain(Exception):
    """A failure that may pass."""


class ServedTagger(ABC):
    """Finds entities as `minialbert_tf.Tagger` does, with a server that runs an exported SavedModel."""

    def __init__(self, model: str, version: int | None, timeout: float, retries: int, batch_size: int) -> None:
        if timeout <= 0 or retries < 0 or batch_size < 1:
            raise InputError(
                "timeout must be positive, retries not negative, batch_size at least 1. "
                f"Received: timeout={timeout}, retries={retries}, batch_size={batch_size}"
            )
        self.model = model
        self.version = version
        self.timeout = timeout
        self.retries = retries
        self.batch_size = batch_size

    @overload
    def __call__(self, text: str) -> list[Entity]: ...

    @overload
    def __call__(self, text: list[str] | tuple[str, ...]) -> list[list[Entity]]: ...

    def __call__(self, text: str | list[str] | tuple[str, ...]) -> list[Entity] | list[list[Entity]]:
        """Returns the entities of a text in order, or of each text of a list.

        Raises:
            InputError: If `text` is neither a string nor a list of strings.
            ServingError: If the server does not answer, however often it was tried, or refuses.
        """
        if isinstance(text, str):
            return self._ask([text])[0]
        if not isinstance(text, list | tuple) or not all(isinstance(item, str) for item in text):
            raise InputError(f"The text must be a string or a list of strings. Received: {type(text).__name__}")
        batches = (text[first : first + self.batch_size] for first in range(0, len(text), self.batch_size))
        return [entities for batch in batches for entities in self._ask(batch)]

    @abstractmethod
    def _request(self, texts: list[str]) -> Mapping[str, Any]:
        """Returns the signature's outputs as nested lists; raises _TryAgain for what may pass."""

    def _ask(self, texts: Sequence[str]) -> list[list[Entity]]:
        outputs = _with_retries(
            lambda: self._request([_LONE_SURROGATE.sub("\ufffd", text) for text in texts]), self.retries
        )
        try:
            return [_entities(text, index, outputs) for index, text in enumerate(texts)]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            received = ", ".join(sorted(map(str, outputs))) if isinstance(outputs, Mapping) else type(outputs).__name__
            raise ServingError(
                f"The server must answer with {', '.join(_OUTPUTS)} for each text; is model {self.model} a "
                f"minialbert export for entities? Received: {received[:200]} ({type(error).__name__})"
            ) from error


class RestTagger(ServedTagger):
    """Over TensorFlow Serving's REST protocol, version 1; one connection for each request."""

    def __init__(
        self,
        url: str = "http://localhost:8501",
        model: str = "ner",
        version: int | None = None,
        timeout: float = 30.0,
        retries: int = 3,
        batch_size: int = 32,
    ) -> None:
        """Describes the server; nothing is sent yet.

        Args:
            url: Where the server listens, without the path.
            model: The model's name, NAME of the exported folder.
            version: The version to ask; by default the newest.
            timeout: Seconds until a try counts as failed.
            retries: Further tries after a time-out, a refused connection, or an overloaded server, with pauses of
                0.2 seconds that double.
            batch_size: Most texts in a request.

        Raises:
            InputError: If the url is not of http or https, or a number is out of range.
        """
        super().__init__(model, version, timeout, retries, batch_size)
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise InputError(f"url must be like http://localhost:8501. Received: {url!r}")
        path = f"/v1/models/{urllib.parse.quote(model, safe='')}"
        self._url = url.rstrip("/") + path + (f"/versions/{version}" if version is not None else "") + ":predict"

    def _request(self, texts: list[str]) -> Mapping[str, Any]:
        body = json.dumps({"inputs": texts}).encode("ascii")
        request = urllib.request.Request(self._url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as response:
                content = response.read()
        except urllib.error.HTTPError as error:
            reason = f"The server refused the request: HTTP {error.code}, {_http_reason(error)}"
            raise (_TryAgain if error.code in _BUSY else ServingError)(reason) from error
        except (OSError, HTTPException) as error:  # URLError, time-outs and broken connections
            cause = getattr(error, "reason", None) or error or type(error).__name__
            raise _TryAgain(f"The server must answer at {self._url}: {_one_line(cause)}") from error
        try:
            return json.loads(content)["outputs"]
        except (ValueError, RecursionError, KeyError, TypeError) as error:
            raise ServingError(f"The server must answer with JSON outputs. Received: {content[:80]!r}") from error


class GrpcTagger(ServedTagger):
    """Over gRPC, for which `pip install 'minialbert-tf[serving-client]'`; one connection for all requests."""

    def __init__(
        self,
        address: str = "localhost:8500",
        model: str = "ner",
        version: int | None = None,
        timeout: float = 30.0,
        retries: int = 3,
        batch_size: int = 32,
        channel: Any = None,
    ) -> None:
        """Describes the server; arguments as of `RestTagger`, except for these two.

        Args:
            address: Host and port.
            channel: A `grpc.Channel` to use instead of an insecure one to `address`, such as one with TLS.

        Raises:
            InputError: If tensorflow-serving-api is missing, or a number is out of range.
        """
        super().__init__(model, version, timeout, retries, batch_size)
        try:
            import grpc
            from tensorflow_serving.apis import prediction_service_pb2_grpc
        except ImportError as error:
            raise InputError(
                f"gRPC needs tensorflow-serving-api: pip install 'minialbert-tf[serving-client]'. Received: {error}"
            ) from error
        self._channel = grpc.insecure_channel(address) if channel is None else channel
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def _request(self, texts: list[str]) -> Mapping[str, Any]:
        import grpc
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        request.model_spec.name = self.model
        if self.version is not None:
            request.model_spec.version.value = self.version
        request.inputs["text"].CopyFrom(tf.make_tensor_proto([text.encode() for text in texts]))
        try:
            reply = self._stub.Predict(request, timeout=self.timeout)
        except grpc.RpcError as error:
            codes = grpc.StatusCode
            passing = (codes.UNAVAILABLE, codes.DEADLINE_EXCEEDED, codes.RESOURCE_EXHAUSTED)
            reason = f"The server refused the request: {error.code().name}, {_one_line(error.details())}"
            raise (_TryAgain if error.code() in passing else ServingError)(reason) from error
        return {name: tf.make_ndarray(tensor).tolist() for name, tensor in reply.outputs.items()}


def _with_retries(attempt: Callable[[], _T], retries: int) -> _T:
    pause = _FIRST_PAUSE
    for remaining in range(retries, -1, -1):
        try:
            return attempt()
        except _TryAgain as error:
            if not remaining:
                raise ServingError(f"{error} (tried {retries + 1} times)") from error
        # Clients that failed together must not come back together.
        time.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(2 * pause, _LONGEST_PAUSE)
    raise AssertionError("unreachable")


def _entities(text: str, index: int, outputs: Mapping[str, Any]) -> list[Entity]:
    labels, scores, starts, ends, lengths = (outputs[name][index] for name in _OUTPUTS)
    entities = []
    for label, score, start, end in zip(
        labels[:lengths], scores[:lengths], starts[:lengths], ends[:lengths], strict=True
    ):
        if not 0 <= start < end <= len(text):
            raise ValueError
        name = label.decode() if isinstance(label, bytes) else str(label)
        entities.append(Entity(text[start:end], name, start, end, float(score)))
    if len(entities) != lengths:
        raise ValueError
    return entities


def _http_reason(error: urllib.error.HTTPError) -> str:
    try:
        content = error.read(10_000)
        message = json.loads(content)["error"]
    except (OSError, HTTPException, ValueError, RecursionError, KeyError, TypeError):
        return _one_line(error.reason)
    return _one_line(message)


def _one_line(message: Any) -> str:
    return " ".join(str(message).split())[:300]
