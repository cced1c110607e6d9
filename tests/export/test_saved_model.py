import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
from fixtures.check_serving_ops import used_ops
from serving_export import (
    LENGTH,
    NER_LABELS,
    ROOT,
    TEXTS,
    brief,
    entities,
    load,
    ner_export,
    ner_model,
    tagger,
    text_export,
)

import minialbert_tf as ma
from minialbert_tf.errors import InputError
from minialbert_tf.export import saved_model
from minialbert_tf.export.serving.sequences_graph import MAX_TEXT_BYTES

pytest.importorskip("tensorflow_text")

SHARED = ROOT.parent / "shared" / "data"
LONG = " ".join(TEXTS) * 3
SCORE_TOLERANCE = 1e-5  # of a float32 network that pads otherwise
PADDING = {"label_ids": -1, "labels": b"", "scores": -1, "starts": -1, "ends": -1}


def signature(name="serving_default", export=ner_export):
    return load(export()).signatures[name]


def serve(texts, function=None):
    outputs = (function or signature())(text=tf.constant(texts, tf.string))
    return {name: value.numpy() for name, value in outputs.items()}


def difference(texts, outputs):
    """Asserts that spans and labels are the Tagger's, and returns the largest difference of a score."""
    found, scores = entities(texts, outputs)
    expected = tagger()(texts)
    assert found == [brief(of_text) for of_text in expected]
    expected_scores = [entity.score for of_text in expected for entity in of_text]
    return np.abs(np.concatenate([[], *scores]) - expected_scores).max(initial=0)


@pytest.mark.parametrize("texts", [[""], ["", "Aspirin"], [LONG], TEXTS, [LONG[:length] for length in range(40)]])
def test_entities_are_those_of_the_tagger(texts):
    assert difference(texts, serve(texts)) < SCORE_TOLERANCE


def test_the_comparison_sees_another_tokenization():
    with pytest.raises(AssertionError):
        difference(TEXTS, serve([text.replace("-", " ") for text in TEXTS]))


def test_the_texts_reach_every_case():
    found = [entity for of_text in tagger()(TEXTS) for entity in of_text]
    assert {entity.label for entity in found} == {"Disease", "Chemical", "Gene"}
    assert any(" " in entity.text for entity in found) and any(len(of_text) == 0 for of_text in tagger()(TEXTS))
    assert len(ner_model().tokenizer.encode(LONG).ids) > 20 * LENGTH


FRESH = """
import json, sys
import tensorflow as tf, tensorflow_text
model = tf.saved_model.load(sys.argv[1])
function = model.signatures["serving_default"]
texts = json.load(sys.stdin)
outputs = {name: value.numpy() for name, value in function(text=tf.constant(texts)).items()}
outputs["labels"] = outputs["labels"].astype(str)
ours = [name for name in sys.modules if name.split(".")[0] in ("minialbert_tf", "tokenizers", "keras", "tf_keras")]
print(json.dumps([{name: value.tolist() for name, value in outputs.items()}, ours]))
"""


def test_a_process_without_the_library_answers_as_the_tagger():
    texts = ["", "Aspirin", "word " * 3000, *TEXTS]
    if SHARED.is_dir():
        texts += json.loads((SHARED / "naughty-strings" / "blns.json").read_text(encoding="utf-8"))
        texts += (SHARED / "biomed-text" / "pubmedqa_1000.txt").read_text(encoding="utf-8").splitlines()[:64]
    command = [sys.executable, "-c", FRESH, str(ner_export())]
    child = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, cwd="/", check=True)
    outputs, ours = json.loads(child.stdout)
    assert not [name for name in ours if name.startswith(("minialbert_tf", "tokenizers"))]
    outputs = {name: np.array(value) for name, value in outputs.items()}
    outputs["labels"] = np.char.encode(outputs["labels"], "utf-8")
    assert difference(texts, outputs) < SCORE_TOLERANCE


def test_outputs_are_dense_with_the_batch_first():
    specs = {
        "serving_default": ({"text": ([None], tf.string)}, {
            **dict.fromkeys(("label_ids", "starts", "ends"), ([None, None], tf.int32)),
            "labels": ([None, None], tf.string),
            "scores": ([None, None], tf.float32),
            "lengths": ([None], tf.int32),
        }),
        "tokens": (
            {"input_ids": ([None, None], tf.int32), "lengths": ([None], tf.int32)},
            {"logits": ([None, None, len(NER_LABELS)], tf.float32)},
        ),
    }  # fmt: skip
    for name, (inputs, outputs) in specs.items():
        function = signature(name)
        for expected, found in (
            (inputs, function.structured_input_signature[1]),
            (outputs, function.structured_outputs),
        ):
            assert {key: (spec.shape.as_list(), spec.dtype) for key, spec in found.items()} == expected
    for texts in ([], [""], TEXTS[:7]):
        outputs = serve(texts)
        assert {len(value) for value in outputs.values()} == {len(texts)}
        assert len({value.shape[1] for name, value in outputs.items() if name != "lengths"}) == 1


def test_a_batch_of_n_equals_n_batches_of_one():
    together = serve(TEXTS)
    for index, text in enumerate(TEXTS):
        alone = serve([text])
        width = alone["starts"].shape[1]
        assert alone["lengths"][0] == together["lengths"][index]
        for name, padding in PADDING.items():
            row = together[name][index]
            assert (row[width:] == padding).all()
            if name == "scores":
                np.testing.assert_allclose(row[:width], alone[name][0], atol=SCORE_TOLERANCE)
            else:
                assert (row[:width] == alone[name][0]).all()


def test_batching_in_the_graph_gives_everyone_their_own():
    names = sorted(serve([""]))

    @tf.nondifferentiable_batch_function(
        num_batch_threads=2,
        max_batch_size=16,
        batch_timeout_micros=20_000,
        allowed_batch_sizes=[4, 16],
        enable_large_batch_splitting=False,  # as in the settings that come with the export
    )
    def batched(text):
        outputs = signature()(text=text)
        return [outputs[name] for name in names]

    requests = [TEXTS[first : first + 1 + first % 3] for first in range(40)]
    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda texts: batched(tf.constant(texts)), requests))
    for texts, reply in zip(requests, replies, strict=True):
        outputs = dict(zip(names, (value.numpy() for value in reply), strict=True))
        assert {len(value) for value in outputs.values()} == {len(texts)}
        assert difference(texts, outputs) < SCORE_TOLERANCE


def test_sixteen_threads_at_once():
    barrier = threading.Barrier(16)

    def call(number):
        barrier.wait()
        return [(texts, serve(texts)) for texts in (TEXTS[number : number + 5], [TEXTS[-number - 1]])]

    with ThreadPoolExecutor(16) as pool:
        for replies in pool.map(call, range(16)):
            for texts, outputs in replies:
                assert difference(texts, outputs) < SCORE_TOLERANCE


def test_bad_requests_are_errors_and_the_next_one_is_answered():
    for bad in (tf.constant("scalar"), tf.constant([["two", "dimensions"]]), tf.constant([1]), tf.constant([1.5])):
        with pytest.raises((tf.errors.InvalidArgumentError, ValueError, TypeError)):
            signature()(text=bad)
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"at most {MAX_TEXT_BYTES} bytes"):
        serve(["fine", "a" * 10_000_000])
    for ids, lengths in (([[10**6]], [1]), ([[-1]], [1]), ([[1] * (LENGTH + 1)], [1]), ([[1]], [1, 1])):
        with pytest.raises(tf.errors.InvalidArgumentError):
            signature("tokens")(input_ids=tf.constant(ids), lengths=tf.constant(lengths))
    assert difference(TEXTS, serve(TEXTS)) < SCORE_TOLERANCE


def test_the_longest_text_allowed_is_answered():
    text = "ab " * (MAX_TEXT_BYTES // 3)
    outputs = serve([text, "Aspirin"])
    assert len(outputs["lengths"]) == 2


def test_invalid_utf8_is_answered_as_python_reads_it():
    raw = b"Aspirin\xff and \xf0\x9f\x98 ibuprofen\xed\xa0\x80"
    outputs = serve([raw])
    assert difference([raw.decode("utf-8", "replace")], outputs) < SCORE_TOLERANCE


def test_tokens_ignore_what_stands_behind_the_length():
    ids = tf.constant([[2, 7, 8, 9, 3, 0, 0], [2, 7, 3, 50, 60, 70, 80]])
    logits = signature("tokens")(input_ids=ids, lengths=tf.constant([5, 3]))["logits"].numpy()
    alone = ner_model()({"input_ids": ids[1:, :3], "attention_mask": tf.ones([1, 3], tf.int32)}).numpy()
    np.testing.assert_allclose(logits[1, :3], alone[0], atol=1e-5)
    unmasked = signature("tokens")(input_ids=ids, lengths=tf.constant([5, 7]))["logits"].numpy()
    assert np.abs(unmasked[1, :3] - alone[0]).max() > 1e-3


def test_only_operations_that_every_supported_server_links():
    checked = json.loads((ROOT / "tests" / "fixtures" / "serving_ops.json").read_text(encoding="utf-8"))
    for export in (ner_export, text_export):
        ops = used_ops(export())
        assert ops - set(checked["ops"]) == set()
        assert {op for op in ops if "Wordpiece" in op} == set(checked["custom_ops"])


def test_files(tmp_path):
    folder = ner_export()
    assets = {path.name for path in (folder / "assets").iterdir()}
    assert assets == {"vocab.txt", "tokenizer_config.json", "config.json", "labels.json"}
    label_map = json.loads((folder / "assets" / "labels.json").read_text(encoding="utf-8"))
    assert label_map == {"labels": NER_LABELS, "entity_types": ["Disease", "Chemical", "Gene"]}
    config = json.loads((folder / "assets" / "config.json").read_text(encoding="utf-8"))
    assert ma.MiniAlbertConfig.from_dict(config) == ner_model().config
    serve_files = {path.name: path.read_text(encoding="utf-8") for path in (folder.parent / "serve").iterdir()}
    assert "request_pairs.sh" not in serve_files and '"/models/ner"' in serve_files["models.config"]
    assert not [name for name, text in serve_files.items() if "$" in text]
    compile(serve_files["request_grpc.py"], "request_grpc.py", "exec")
    assert (text_export().parent / "serve" / "request_pairs.sh").is_file()


def test_the_servers_settings_parse():
    pytest.importorskip("tensorflow_serving.apis")
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    text = (ner_export().parent / "serve" / "models.config").read_text(encoding="utf-8")
    (config,) = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    assert (config.name, config.base_path, config.model_platform) == ("ner", "/models/ner", "tensorflow")


def test_request_examples_are_json():
    for folder, names in ((ner_export().parent, ("rows", "columns")), (text_export().parent, ("rows", "pairs"))):
        for name in names:
            script = (folder / "serve" / f"request_{name}.sh").read_text(encoding="utf-8")
            body = json.loads(script.split("<<'JSON'\n")[1].removesuffix("JSON\n"))
            assert f"/v1/models/{folder.name}:predict" in script
            function = signature(
                body.get("signature_name", "serving_default"), ner_export if name != "pairs" else text_export
            )
            rows = body.get("instances", body.get("inputs"))
            inputs = {key: [row[key] for row in rows] for key in rows[0]} if name == "pairs" else {"text": rows}
            assert function(**{key: tf.constant(value) for key, value in inputs.items()})


@pytest.fixture
def quick_save(monkeypatch):
    """Leaves out the graph, which takes seconds and is tested above."""
    monkeypatch.setattr(saved_model, "_save", lambda model, signatures, tokenizer, label_map, folder: folder.mkdir())


def test_versions_count_up_and_nothing_is_overwritten(tmp_path, quick_save):
    name = tmp_path / "some" / "ner"
    assert ma.export.export_saved_model(ner_model(), name) == name / "1"
    assert ma.export.export_saved_model(ner_model(), name) == name / "2"
    assert ma.export.export_saved_model(ner_model(), name, version=17) == name / "17"
    (name / "serve" / "models.config").write_text("edited")
    assert ma.export.export_saved_model(ner_model(), name) == name / "18"
    assert (name / "serve" / "models.config").read_text() == "edited"
    (name / "2" / "mark").touch()
    with pytest.raises(InputError, match="must not exist"):
        ma.export.export_saved_model(ner_model(), name, version=2)
    assert (name / "2" / "mark").exists()
    ma.export.export_saved_model(ner_model(), name, version=2, force=True)
    assert not (name / "2" / "mark").exists()
    assert (name / "serve" / "models.config").read_text() != "edited"
    assert sorted(path.name for path in name.iterdir()) == ["1", "17", "18", "2", "serve"]


def test_a_failed_export_leaves_nothing(tmp_path, monkeypatch):
    def fail(*arguments):
        arguments[-1].mkdir()
        raise OSError("disk full")

    monkeypatch.setattr(saved_model, "_save", fail)
    with pytest.raises(OSError, match="disk full"):
        ma.export.export_saved_model(ner_model(), tmp_path / "ner")
    assert list((tmp_path / "ner").iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folder": "bad name"}, r"folder's name.*Received: 'bad name'"),
        ({"folder": "ner/.."}, "folder's name"),
        ({"version": 0}, "version must be a positive"),
        ({"version": True}, "version must be a positive"),
        ({"version": "1"}, "version must be a positive"),
        ({"tokenizer": 3}, "tokenizer must be"),
        ({"tokenizer": ROOT / "none"}, "tokenizer must be"),
    ],
)
def test_bad_arguments(tmp_path, changes, message):
    arguments = {"folder": "ner", **changes}
    with pytest.raises(InputError, match=message):
        ma.export.export_saved_model(ner_model(), tmp_path / arguments.pop("folder"), **arguments)
    assert list(tmp_path.iterdir()) == []


def test_models_that_cannot_be_served(tmp_path):
    config = ner_model().config
    no_tokenizer = ma.MiniAlbertForTokenClassification(config)
    few_pieces = ma.MiniAlbertForTokenClassification(config.replace(vocab_size=100))
    short = ma.MiniAlbertForTokenClassification(config.replace(max_position_embeddings=5))
    odd_labels = ma.MiniAlbertForTokenClassification(config.replace(id2label={0: "O", 1: "Disease"}))
    encoder = ma.MiniAlbertModel(config)
    for model, message in (
        (no_tokenizer, "no tokenizer of its own"),
        (few_pieces, "pieces must fit.*for 100"),
        (short, "at least 6"),
        (odd_labels, "must be IOB2"),
        (encoder, "Received: MiniAlbertModel"),
    ):
        tokenizer = None if model is no_tokenizer else ner_model().tokenizer
        with pytest.raises(InputError, match=message):
            ma.export.export_saved_model(model, tmp_path / "ner", tokenizer)
    assert list(tmp_path.iterdir()) == []
