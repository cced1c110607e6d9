import hashlib
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from minialbert_tf.builtin import ENCODER, TAGGER
from minialbert_tf.models import MiniAlbertModel
from minialbert_tf.tagger import Tagger

SENTENCE = "Naloxone reverses the antihypertensive effect of clonidine."
CARDS = {
    TAGGER.parent / "TAGGER.md": TAGGER,
    TAGGER.parent / "ENCODER.md": ENCODER / "model.safetensors",
}


def test_the_tagger_finds_chemicals_and_diseases():
    with Tagger() as tagger:
        assert tagger.labels == ["O", "B-Chemical", "I-Chemical", "B-Disease", "I-Disease"]
        found = [(entity.text, entity.label) for entity in tagger(SENTENCE)]
        assert found == [("Naloxone", "Chemical"), ("clonidine", "Chemical")]
        found = [(entity.text, entity.label) for entity in tagger("Isoniazid may cause hepatitis.")]
        assert found == [("Isoniazid", "Chemical"), ("hepatitis", "Disease")]


def test_the_command_tags_without_tensorflow_or_a_network(tmp_path):
    """Sockets are refused, and so is the import of TensorFlow."""
    code = (
        "import socket, sys\n"
        "sys.modules['tensorflow'] = None\n"
        "def refuse(*_): raise OSError('no network')\n"
        "socket.socket.connect = refuse\n"
        f"sys.argv = ['minialbert', 'tag', {SENTENCE!r}]\n"
        "from minialbert_tf.cli import main\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    entities = json.loads(done.stdout)["entities"]
    assert [(entity["text"], entity["label"]) for entity in entities] == [
        ("Naloxone", "Chemical"),
        ("clonidine", "Chemical"),
    ]


def test_sizes():
    assert TAGGER.stat().st_size <= 10.5e6
    assert sum(path.stat().st_size for path in ENCODER.iterdir()) <= 20e6


def test_the_encoder_is_found_by_its_name_and_in_half_precision():
    model = MiniAlbertModel.from_pretrained("builtin")
    assert model.tokenizer is not None
    config = model.config
    assert (config.hidden_size, config.num_attention_heads, config.num_hidden_layers) == (384, 12, 6)
    tensors = load_file(ENCODER / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float16)}


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_card_describes_the_file_beside_it(card):
    text = card.read_text()
    assert re.search(r"SHA-256\s+`(\w+)`", text)[1] == hashlib.sha256(CARDS[card].read_bytes()).hexdigest()
    for needed in ("not a medical device", "licence", "BC5CDR", "MiniLM", "seed", "confidence interval"):
        assert needed in text, needed
