"""What distillation is worth: entity F1 of teacher and students on whole test parts, as the README's table has it.

    python -m benchmarks.distillation --teacher MINILM --encoder minialbert_tf/builtin/encoder \\
        --data ncbi-disease bc5cdr --raw 'texts/*.txt' --output runs

Each run is a folder under --output and is done once: the script can be stopped and started again. Epochs and rates were
chosen on dev; the test parts are only scored.
"""

import argparse
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow import keras

from minialbert_tf.data.conll import read_conll
from minialbert_tf.distillation.losses import LossWeights
from minialbert_tf.distillation.run import Settings as DistillSettings
from minialbert_tf.distillation.run import distill
from minialbert_tf.evaluation import evaluate_tagger
from minialbert_tf.export import export_tflite
from minialbert_tf.files import replacing, write_json
from minialbert_tf.finetuning import Settings, finetune
from minialbert_tf.models import MiniAlbertForTokenClassification, MiniAlbertModel
from minialbert_tf.tagger import Tagger

TEACHER = {"epochs": 4, "learning_rate": 1e-4}
STUDENT = {"epochs": 10, "learning_rate": 3e-4}
ADAPTERS = {"epochs": 10, "learning_rate": 1e-3, "adapters_only": True}
TAUGHT = {"epochs": 2, "learning_rate": 3e-4, "teacher_weight": 0.9}
QUANTIZATIONS = ("int8", "int4")


def main() -> None:
    """Runs what is not yet done and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True, help="the BERT that taught the encoder")
    parser.add_argument("--encoder", required=True, help="the distilled encoder")
    parser.add_argument("--data", required=True, nargs="+", type=Path, help="corpora for entity recognition")
    parser.add_argument("--raw", required=True, nargs="+", help="raw text for task distillation")
    parser.add_argument("--output", required=True, type=Path, help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    arguments = parser.parse_args()
    scores: dict[tuple[str, str], list[float]] = {}
    for data in arguments.data:
        for seed in arguments.seeds:
            for method, f1 in _corpus(arguments, data, seed):
                scores.setdefault((method, data.name), []).append(f1)
                print(f"{data.name}, seed {seed}, {method}: {f1:.4f}", flush=True)
    _print_table(scores, [data.name for data in arguments.data])


def _corpus(arguments: argparse.Namespace, data: Path, seed: int) -> Iterator[tuple[str, float]]:
    """Yields each method's F1 on the test part."""
    folder = arguments.output / data.name / f"seed-{seed}"
    common = Settings(task="ner", data=str(data), seed=seed, mixed_precision=True)

    def run(name: str, **changes: Any) -> float:
        output = folder / name
        if not output.exists():
            finetune(dataclasses.replace(common, **changes), output)
        return json.loads((output / "results.json").read_text())["test"]["entities"]["micro"]["f1"]

    starts = _starts(arguments)
    yield "teacher, fine-tuned", run("teacher", model=arguments.teacher, **TEACHER)
    yield "student from random weights", run("random", model=str(starts["random"]), **STUDENT)
    yield "student initialised, not distilled", run("initialised", model=str(starts["initialised"]), **STUDENT)
    yield "student distilled", run("distilled", model=arguments.encoder, **STUDENT)
    yield "student distilled, adapters only", run("adapters", model=arguments.encoder, **ADAPTERS)
    taught = {"model": arguments.encoder, "teacher": str(folder / "teacher"), "unlabelled": tuple(arguments.raw)}
    yield "student distilled, task distillation", run("taught", **taught, **TAUGHT)
    for quantization in QUANTIZATIONS:
        yield f"the same, {quantization}", _quantized(folder / "taught", quantization, data)


def _starts(arguments: argparse.Namespace) -> dict[str, Path]:
    """Makes the students that were not distilled, of the encoder's sizes."""
    paths = {name: arguments.output / name for name in ("random", "initialised")}
    encoder = MiniAlbertModel.from_pretrained(arguments.encoder)
    if not paths["random"].exists():
        keras.utils.set_random_seed(0)
        random = MiniAlbertModel(encoder.config)
        random.tokenizer = encoder.tokenizer
        random.save_pretrained(paths["random"])
    if not paths["initialised"].exists():
        nothing_learned = DistillSettings(
            teacher=arguments.teacher,
            texts=tuple(arguments.raw),
            embedding_size=encoder.config.embedding_size,
            reduction_factor=encoder.config.reduction_factor,
            mask_rate=0.0,
            weights=LossWeights(mlm=0.0, output=0.0),
            steps=1,
            warmup_steps=0,
            batch_size=8,
            learning_rate=1e-12,
        )
        distill(nothing_learned, paths["initialised"])
    return paths


def _quantized(model: Path, quantization: str, data: Path) -> float:
    file = model.with_name(f"{model.name}-{quantization}.tflite")
    scores = file.with_suffix(".scores.json")
    if not scores.exists():
        if not file.exists():
            loaded = MiniAlbertForTokenClassification.from_pretrained(model)
            export_tflite(loaded, file, quantization=quantization, sequence_lengths=(32, 64, 128, 256))
        with Tagger.from_tflite(file) as tagger, replacing(scores) as new:
            report = evaluate_tagger(tagger, read_conll(data / "test.tsv"))
            write_json(new, {"f1": report.entities.micro.f1})
    return json.loads(scores.read_text())["f1"]


def _print_table(scores: dict[tuple[str, str], list[float]], corpora: list[str]) -> None:
    print(f"\n| | {' | '.join(corpora)} |\n| --- |{' --- |' * len(corpora)}")
    for method in dict.fromkeys(method for method, _ in scores):
        cells = (np.array(scores[method, corpus]) for corpus in corpora)
        print(f"| {method} | {' | '.join(f'{cell.mean():.3f} ± {cell.std():.3f}' for cell in cells)} |")


if __name__ == "__main__":
    main()
