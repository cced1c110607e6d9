"""`minialbert demo`: real entities at once, then the road from labelled sentences to a .tflite file of one's own."""

import argparse
import os
import time
from pathlib import Path

_EXAMPLES = """example:
  minialbert demo --output demo
"""
# Sentences that are not in the sample corpus.
UNSEEN = (
    "Naloxone reverses the antihypertensive effect of clonidine.",
    "The patient developed severe hepatitis after four weeks of isoniazid.",
    "Metformin was stopped because of lactic acidosis and renal failure.",
    "Nausea and dizziness were more common with tramadol than with ibuprofen.",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.epilog = _EXAMPLES
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for model and file (default: demo)")
    parser.add_argument("--epochs", type=int, default=3, help="default: 3")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument("--force", action="store_true", help="replace an existing output")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Fine-tunes, exports, evaluates and tags, and says what each step came to."""
    from minialbert_tf.commands.tag import use_color
    from minialbert_tf.data.conll import read_conll
    from minialbert_tf.data.sample import sample_folder
    from minialbert_tf.evaluation import evaluate_tagger
    from minialbert_tf.files import check_free, replacing
    from minialbert_tf.highlight import highlight
    from minialbert_tf.tagger import Tagger

    check_free(arguments.output, arguments.force)  # before anything is said
    color = use_color()
    _say("1. Tag sentences with the model that comes with the package")
    with Tagger() as tagger:
        for entities, text in zip(tagger(list(UNSEEN)), UNSEEN, strict=True):
            print(highlight(text, entities, color=color))
    sample = sample_folder()
    with replacing(arguments.output, arguments.force) as folder:
        folder.mkdir()
        _say("2. Fine-tune the encoder that comes with the package on its sample corpus")
        _train(sample, folder / "model", arguments)
        _say("3. Export it to one int8 .tflite file, with vocabulary and labels inside")
        _export(folder / "model", folder / "ner.tflite")
    file = arguments.output / "ner.tflite"
    with Tagger.from_tflite(file) as tagger:
        _say("4. Score the file on the test part of the sample corpus")
        print(evaluate_tagger(tagger, read_conll(sample / "test.tsv")))
        _say("5. Tag the sentences with it")
        seconds = []
        for text in UNSEEN:
            started = time.perf_counter()
            entities = tagger(text)
            seconds.append(time.perf_counter() - started)
            print(highlight(text, entities, color=color))
    print(
        f"\n{file}: {file.stat().st_size / 1e6:.2f} MB, {1000 * sorted(seconds)[len(seconds) // 2]:.1f} ms a sentence "
        f"on one thread, {os.cpu_count()} in this machine\n"
        f'Try: minialbert tag --model {file} "…"'
    )


def _train(sample: Path, output: Path, arguments: argparse.Namespace) -> None:
    from minialbert_tf.finetuning import Settings, finetune

    settings = Settings(
        task="ner",
        data=str(sample),
        epochs=arguments.epochs,
        seed=arguments.seed,
    )
    finetune(settings, output)


def _export(model: Path, output: Path) -> None:
    from minialbert_tf.export.tflite import export_tflite
    from minialbert_tf.models import MiniAlbertForTokenClassification

    export_tflite(MiniAlbertForTokenClassification.from_pretrained(model), output)


def _say(step: str) -> None:
    print(f"\n{step}", flush=True)
