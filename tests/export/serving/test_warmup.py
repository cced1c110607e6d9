import numpy as np
import pytest
import tensorflow as tf
from serving_export import LENGTH, load, ner_export, ner_model, text_export

from minialbert_tf.export.serving.warmup import BATCH_SIZES, SENTENCES, WARMUP_FILE

prediction_log_pb2 = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
pytest.importorskip("tensorflow_text")


def read(folder):
    records = tf.data.TFRecordDataset(str(folder / WARMUP_FILE))
    return [prediction_log_pb2.PredictionLog.FromString(record) for record in records.as_numpy_iterator()]


@pytest.mark.parametrize(("export", "signatures"), [(ner_export, 2), (text_export, 3)])
def test_every_record_runs(export, signatures):
    folder = export()
    functions = load(folder).signatures
    seen = set()
    for log in read(folder):
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        assert request.model_spec.name == folder.parent.name
        inputs = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()}
        outputs = functions[request.model_spec.signature_name](**inputs)
        sizes = {tensor.shape[0] for tensor in (*inputs.values(), *outputs.values())}
        assert len(sizes) == 1
        seen.add((request.model_spec.signature_name, *sizes, np.asarray(next(iter(inputs.values()))).tobytes()))
    assert {size for _, size, _ in seen} == set(BATCH_SIZES)
    assert len(read(folder)) == signatures * len(BATCH_SIZES) * len(SENTENCES)


def test_texts_are_of_every_length_and_tokens_fit_the_model():
    requests = [log.predict_log.request for log in read(ner_export())]
    texts = {
        tf.make_ndarray(request.inputs["text"])[0].decode()
        for request in requests
        if request.model_spec.signature_name == "serving_default"
    }
    pieces = sorted(len(ner_model().tokenizer.encode(text).ids) for text in texts)
    assert len(pieces) == len(SENTENCES) and pieces[-1] > 15 * pieces[0]
    lengths = [tf.make_ndarray(r.inputs["lengths"]) for r in requests if r.model_spec.signature_name == "tokens"]
    assert max(map(np.max, lengths)) == LENGTH
