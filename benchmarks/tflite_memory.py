"""Whether memory stays flat over many exports and many taggings in one process.

    python -m benchmarks.tflite_memory --exports 200 --taggings 10000

exports a small model of random weights again and again, each time verified, then tags the sample corpus with one
tagger, and with a new tagger each time. What the process holds, resident, is printed after each tenth; growth counts
from the first on, when everything has been loaded.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

from tqdm import tqdm

import minialbert_tf as ma
from minialbert_tf.benchmark_process import memory_in_use
from minialbert_tf.benchmarking import describe_machine
from minialbert_tf.data.conll import label_names, read_conll
from minialbert_tf.data.sample import sample_folder
from minialbert_tf.export import export_tflite

_TENTHS = 10
_SIZES = {"embedding_size": 16, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}


def small_model() -> ma.MiniAlbertForTokenClassification:
    sentences = read_conll(sample_folder() / "train.tsv")
    tokenizer = ma.WordPieceTokenizer.train((" ".join(each.words) for each in sentences), 1000, lowercase=True)
    labels = dict(enumerate(label_names(sentences)))
    config = ma.MiniAlbertConfig(
        vocab_size=len(tokenizer.vocabulary), num_hidden_layers=2, max_position_embeddings=64, id2label=labels, **_SIZES
    )
    model = ma.MiniAlbertForTokenClassification(config)
    model.tokenizer = tokenizer
    return model


def repeat(name: str, count: int, step: Callable[[], object]) -> dict[str, float]:
    """Returns what the process holds, in MB, after each tenth of the steps."""
    held = []
    for number in tqdm(range(1, count + 1), desc=name, disable=None):
        step()
        if number * _TENTHS % count < _TENTHS:
            memory = memory_in_use()
            assert memory is not None, "needs /proc"
            held.append(round(memory["resident"] / 1e6, 1))
    growth = round(held[-1] - held[0], 1)
    print(f"{name}: {count} times, MB after each tenth: {held}; growth after the first: {growth}", flush=True)
    return {"count": count, "first_mb": held[0], "last_mb": held[-1], "growth_mb": growth}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exports", type=int, default=200)
    parser.add_argument("--taggings", type=int, default=10_000)
    parser.add_argument("--taggers", type=int, default=500)
    parser.add_argument("--model", type=Path, help="a .tflite file to tag with (default: the exported one)")
    arguments = parser.parse_args()
    model = small_model()
    texts = cycle(" ".join(sentence.words) for sentence in read_conll(sample_folder() / "test.tsv"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ner.tflite"
        # Labels of random weights are nearly tied.
        options = {"sequence_lengths": (32,), "force": True, "force_quality": True}
        results = [repeat("export", arguments.exports, lambda: export_tflite(model, path, **options))]
        file = arguments.model or path
        with ma.Tagger.from_tflite(file) as tagger:
            results.append(repeat("tag", arguments.taggings, lambda: tagger(next(texts))))

        def tag_anew() -> None:
            with ma.Tagger.from_tflite(file) as tagger:
                tagger(next(texts))

        results.append(repeat("open, tag and close", arguments.taggers, tag_anew))
    print(json.dumps({"machine": describe_machine(), "results": results}))


if __name__ == "__main__":
    main()
