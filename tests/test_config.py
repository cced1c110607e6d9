import json

import pytest

from minialbert_tf.config import MiniAlbertConfig
from minialbert_tf.errors import CheckpointError, InputError

CLINICAL = {
    "architectures": ["MiniAlbertForMaskedLM"],
    "attention_probs_dropout_prob": 0.1,
    "classifier_dropout": None,
    "classifier_dropout_prob": 0.1,
    "embedding_size": 312,
    "hidden_act": "gelu",
    "hidden_size": 768,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-12,
    "model_type": "bert",
    "num_attention_heads": 12,
    "num_hidden_layers": 6,
    "reduction_factor": 16,
    "use_adapter": True,
    "vocab_size": 28996,
}


def test_reads_the_published_config_and_keeps_what_it_does_not_know():
    config = MiniAlbertConfig.from_dict(CLINICAL)
    assert (config.embedding_size, config.bottleneck_size, config.model_type) == (312, 48, "bert")
    assert config.num_labels == 2
    assert config.to_dict()["classifier_dropout_prob"] == 0.1
    assert MiniAlbertConfig.from_dict(config.to_dict()).to_dict() == config.to_dict()


def test_labels_come_from_id2label_then_num_labels_then_two():
    assert MiniAlbertConfig.from_dict({**CLINICAL, "id2label": {"1": "B-X", "0": "O"}}).labels == ["O", "B-X"]
    config = MiniAlbertConfig.from_dict({**CLINICAL, "num_labels": 3, "id2label": {"0": "O"}})
    assert (config.num_labels, config.labels) == (1, ["O"])
    assert MiniAlbertConfig.from_dict({**CLINICAL, "num_labels": 3}).labels == ["LABEL_0", "LABEL_1", "LABEL_2"]
    assert config.replace(num_labels=2).labels == ["LABEL_0", "LABEL_1"]
    assert config.replace(num_labels=1).labels == ["O"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, "model_type must be one of albert, bert, MiniAlbert. Received: model_type='gpt2'"),
        ({"num_attention_heads": 7}, "must divide hidden_size. Received: hidden_size=768, num_attention_heads=7"),
        ({"reduction_factor": 769}, "must not exceed hidden_size. Received: reduction_factor=769"),
        ({"hidden_size": "768"}, "hidden_size must be a positive integer. Received: hidden_size='768'"),
        ({"hidden_size": True}, "hidden_size must be a positive integer"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be a positive integer"),
        ({"hidden_dropout_prob": 1.0}, r"hidden_dropout_prob must be in \[0, 1\)"),
        ({"classifier_dropout": "no"}, "classifier_dropout must be in"),
        ({"hidden_act": "swish"}, "hidden_act must be one of"),
        ({"problem_type": "ranking"}, "problem_type must be one of"),
        ({"use_adapter": 1}, "use_adapter must be true or false"),
        ({"layer_norm_eps": 0}, "layer_norm_eps must be in"),
        ({"pad_token_id": 28996}, "pad_token_id must be an id below vocab_size"),
        ({"id2label": {"0": "O", "2": "B"}}, "id2label must name ids 0, 1, 2"),
        ({"id2label": {"0": "O", "1": "O"}}, "id2label must name ids 0, 1, 2"),
        ({"id2label": ["O"]}, "id2label must map ids to names"),
    ],
)
def test_bad_values_are_named(change, message):
    with pytest.raises(InputError, match=message):
        MiniAlbertConfig.from_dict({**CLINICAL, **change})


def test_an_ordinary_bert_is_refused():
    bert = {key: value for key, value in CLINICAL.items() if key != "embedding_size"}
    with pytest.raises(InputError, match="must give embedding_size"):
        MiniAlbertConfig.from_dict(bert)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"[" * 100_000])
def test_a_damaged_config_is_refused_in_one_line(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError) as caught:
        MiniAlbertConfig.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_config_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"must hold config.json"):
        MiniAlbertConfig.from_pretrained(tmp_path)


def test_a_change_must_name_a_field():
    with pytest.raises(InputError, match="must name a config field"):
        MiniAlbertConfig().replace(hiden_size=3)


def test_to_dict_is_json():
    assert json.loads(json.dumps(MiniAlbertConfig(num_labels=3).to_dict()))["id2label"]["2"] == "LABEL_2"
