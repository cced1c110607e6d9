"""Settings and examples for a model server, written once beside the versions of a model."""

from collections.abc import Sequence
from pathlib import Path
from string import Template

from minialbert_tf.files import replacing

SERVER_FOLDER = "serve"
SERVER_IMAGE = "tensorflow/serving:2.19.1"

_FILES = {
    "models.config": """\
model_config_list {
  config {
    name: "$name"
    base_path: "/models/$name"
    model_platform: "tensorflow"
  }
}
""",
    "batching.config": """\
# Requests that arrive within 2 ms run as one batch. Set num_batch_threads to the number of cores.
# There are no allowed_batch_sizes: the graph takes any size, and filling a batch up would only cost time.
max_batch_size { value: 64 } # also the most texts that one request may have
batch_timeout_micros { value: 2000 }
max_enqueued_batches { value: 1000 }
num_batch_threads { value: 4 }
# The parts of a split request could come back with different numbers of columns, which cannot be put together.
enable_large_batch_splitting { value: false }
# For signature "tokens": requests of different lengths run as one batch.
pad_variable_length_inputs: true
""",
    "compose.yaml": """\
# docker compose -f $name/serve/compose.yaml up
services:
  $name:
    image: $image
    command:
      - --model_config_file=/models/$name/serve/models.config
      - --enable_batching=true
      - --batching_parameters_file=/models/$name/serve/batching.config
    volumes:
      - ..:/models/$name:ro
    ports:
      - "127.0.0.1:8500:8500" # gRPC
      - "127.0.0.1:8501:8501" # REST
    restart: unless-stopped
""",
    "request_rows.sh": """\
#!/bin/sh
# One object per text comes back: {"predictions": [{"starts": [0, ...], ...}, ...]}
curl --fail-with-body http://localhost:8501/v1/models/$name:predict --data @- <<'JSON'
{"instances": ["Selegiline-induced postural hypotension in Parkinson's disease", "No drug is named here."]}
JSON
""",
    "request_columns.sh": """\
#!/bin/sh
# One tensor per output comes back: {"outputs": {"starts": [[0, ...], ...], ...}}
curl --fail-with-body http://localhost:8501/v1/models/$name:predict --data @- <<'JSON'
{"inputs": ["Selegiline-induced postural hypotension in Parkinson's disease", "No drug is named here."]}
JSON
""",
    "request_grpc.py": '''\
"""Asks a model server over gRPC: pip install tensorflow-serving-api."""

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

texts = ["Selegiline-induced postural hypotension in Parkinson's disease", "No drug is named here."]
request = predict_pb2.PredictRequest()
request.model_spec.name = "$name"
request.inputs["text"].CopyFrom(tf.make_tensor_proto(texts))
with grpc.insecure_channel("localhost:8500") as channel:
    reply = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=10)
for name, tensor in reply.outputs.items():
    print(name, tf.make_ndarray(tensor).tolist())
''',
}
_PAIR_FILES = {
    "request_pairs.sh": """\
#!/bin/sh
curl --fail-with-body http://localhost:8501/v1/models/$name:predict --data @- <<'JSON'
{"signature_name": "pairs", "instances": [{"text": "Is aspirin a drug?", "text_pair": "Aspirin relieves pain."}]}
JSON
""",
}


def write_server_files(folder: Path, signatures: Sequence[str], force: bool) -> None:
    """Writes NAME/serve, which model servers ignore because its name is no number.

    What is there is kept unless `force` is true: it may have been edited, and holds for every version.
    """
    if (folder / SERVER_FOLDER).exists() and not force:
        return
    files = _FILES | (_PAIR_FILES if "pairs" in signatures else {})
    with replacing(folder / SERVER_FOLDER, force) as new:
        new.mkdir()
        for name, template in files.items():
            text = Template(template).safe_substitute(name=folder.name, image=SERVER_IMAGE)
            (new / name).write_text(text, encoding="utf-8", newline="\n")
            if name.endswith(".sh"):
                (new / name).chmod(0o755)
