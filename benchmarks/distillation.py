"""What distillation is worth: entity F1 of teacher and students on whole test parts, as the README's table has it.

    python -m benchmarks.distillation --teacher MINILM --encoder minialbert_tf/builtin/encoder \\
        --data ncbi-disease bc5cdr --raw 'texts/*.txt' --runs runs

Hours on two cores. A run that is done is a line of benchmarks/results/distillation.jsonl and is not done again: the
script can be stopped, and started again, on another machine, too. The table and the picture show what is done so far.
Epochs and rates were chosen on dev; the test parts are only scored.
"""

import argparse
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tensorflow import keras

from minialbert_tf.benchmarking import describe_machine
from minialbert_tf.data.conll import read_conll
from minialbert_tf.distillation.losses import LossWeights
from minialbert_tf.distillation.run import Settings as DistillSettings
from minialbert_tf.distillation.run import distill
from minialbert_tf.evaluation import evaluate_tagger
from minialbert_tf.export import export_tflite
from minialbert_tf.files import replacing
from minialbert_tf.finetuning import Settings, finetune
from minialbert_tf.models import MiniAlbertForTokenClassification, MiniAlbertModel
from minialbert_tf.tagger import Tagger

RESULTS = Path(__file__).with_name("results") / "distillation.jsonl"


class Method(NamedTuple):
    """A row of the table.

    Attributes:
        title: What it says there.
        start: What fine-tuning begins with: "teacher", "random", "initialised" or "distilled".
        settings: Of `finetune`, as far as they are not its defaults.
        taught: Whether the fine-tuned teacher judges labelled and raw text.
    """

    title: str
    start: str
    settings: dict[str, Any]
    taught: bool = False


STUDENT = {"epochs": 4, "learning_rate": 4e-4, "batch_size": 16}
# In this order a corpus and a seed are done: the student that is taught needs its teacher.
METHODS = {
    "teacher": Method("MiniLM, fine-tuned in full", "teacher", {"epochs": 4, "learning_rate": 1e-4}),
    "taught": Method(
        "student distilled, task distillation",
        "distilled",
        {"epochs": 1, "learning_rate": 4e-4, "batch_size": 32, "teacher_weight": 0.9},
        taught=True,
    ),
    "distilled": Method("student distilled", "distilled", STUDENT),
    "adapters": Method(
        "student distilled, adapters only", "distilled", {**STUDENT, "learning_rate": 2e-3, "adapters_only": True}
    ),
    "initialised": Method("student initialised, not distilled", "initialised", STUDENT),
    "random": Method("student from random weights", "random", STUDENT),
}
SHOWN_SETTINGS = ("epochs", "learning_rate", "batch_size", "teacher_weight", "mixed_precision")
QUANTIZATIONS = ("int8", "int4")  # of the student that was taught


def main() -> None:
    """Runs what is not yet done, then prints the table and draws the learning curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True, help="the BERT that taught the encoder")
    parser.add_argument("--encoder", required=True, help="the distilled encoder")
    parser.add_argument("--data", required=True, nargs="+", type=Path, help="corpora for entity recognition")
    parser.add_argument("--raw", required=True, nargs="+", help="raw text for task distillation")
    parser.add_argument("--runs", required=True, type=Path, help="folder of the runs' checkpoints")
    parser.add_argument("--results", type=Path, default=RESULTS, help="default: benchmarks/results/distillation.jsonl")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="default: all")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for data in arguments.data:
            for name in arguments.methods:
                _run(arguments, data, seed, name)
    results = _read(arguments.results)
    _print_table(results)
    _plot(results, arguments.results.with_suffix(".png"))


def _run(arguments: argparse.Namespace, data: Path, seed: int, name: str) -> None:
    """Trains, scores and notes what is not noted yet."""
    method = METHODS[name]
    rows = (name, *(f"{name}-{kind}" for kind in QUANTIZATIONS)) if method.taught else (name,)
    noted = [row["method"] for row in _read(arguments.results) if (row["corpus"], row["seed"]) == (data.name, seed)]
    if set(rows) <= set(noted):
        return
    output = _train(arguments, data, seed, method, arguments.runs / data.name / f"seed-{seed}" / name)
    common = {"corpus": data.name, "seed": seed}
    results = json.loads((output / "results.json").read_text())
    epochs = results["epochs"]
    _note(
        arguments.results,
        **common,
        method=name,
        test_f1=results["test"]["entities"]["micro"]["f1"],
        dev_f1=[epoch["score"] for epoch in epochs],
        minutes=sum(epoch["seconds"] for epoch in epochs) / 60,
        settings={key: results["settings"][key] for key in SHOWN_SETTINGS},
        machine=describe_machine(),
    )
    for row, kind in zip(rows[1:], QUANTIZATIONS, strict=False):
        _note(arguments.results, **common, method=row, **_quantized(output, kind, data))


def _train(arguments: argparse.Namespace, data: Path, seed: int, method: Method, output: Path) -> Path:
    if output.exists():
        return output
    start = _start(arguments, method.start)
    # In bfloat16, as training/builtin.sh: where the processor can, it saves a quarter of the hours.
    settings = Settings(task="ner", data=str(data), seed=seed, model=start, mixed_precision=True, **method.settings)
    if method.taught:
        teacher = _train(arguments, data, seed, METHODS["teacher"], output.with_name("teacher"))
        settings = dataclasses.replace(settings, teacher=str(teacher), unlabelled=tuple(arguments.raw))
    finetune(settings, output)
    return output


def _start(arguments: argparse.Namespace, name: str) -> str:
    """Returns the checkpoint that a run begins with; those that were not distilled are made, of the encoder's sizes."""
    known = {"teacher": arguments.teacher, "distilled": arguments.encoder}
    if name in known:
        return known[name]
    path = arguments.runs / name
    if path.exists():
        return str(path)
    encoder = MiniAlbertModel.from_pretrained(arguments.encoder)
    if name == "random":
        keras.utils.set_random_seed(0)
        model = MiniAlbertModel(encoder.config)
        model.tokenizer = encoder.tokenizer
        model.save_pretrained(path)
        return str(path)
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
        dropout=0.0,
        learning_rate=1e-12,
    )
    distill(nothing_learned, path)
    return str(path)


def _quantized(model: Path, quantization: str, data: Path) -> dict[str, float]:
    file = model.with_name(f"{model.name}-{quantization}.tflite")
    if not file.exists():
        loaded = MiniAlbertForTokenClassification.from_pretrained(model)
        export_tflite(loaded, file, quantization=quantization, sequence_lengths=(32, 64, 128, 256))
    with Tagger.from_tflite(file) as tagger:
        report = evaluate_tagger(tagger, read_conll(data / "test.tsv"))
    return {"test_f1": report.entities.micro.f1, "file_mb": file.stat().st_size / 1e6}


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _note(path: Path, **row: Any) -> None:
    rows = [*_read(path), row]
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, force=True) as new:
        new.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    print(f"{row['corpus']}, seed {row['seed']}, {row['method']}: {row['test_f1']:.4f}", flush=True)


def _rows(results: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yields name and title of each row that has results."""
    done = {row["method"] for row in results}
    for name, method in METHODS.items():
        yield from ((row, title) for row, title in _titles(name, method) if row in done)


def _titles(name: str, method: Method) -> Iterator[tuple[str, str]]:
    yield name, method.title
    if method.taught:
        yield from ((f"{name}-{kind}", f"the same as {kind} .tflite") for kind in QUANTIZATIONS)


def _print_table(results: list[dict[str, Any]]) -> None:
    """Prints mean, sample standard deviation and, in brackets, number of seeds."""
    corpora = list(dict.fromkeys(row["corpus"] for row in results))
    print(f"\n| | {' | '.join(corpora)} |\n| --- |{' --- |' * len(corpora)}")
    for name, title in _rows(results):
        cells = []
        for corpus in corpora:
            f1 = np.array([row["test_f1"] for row in results if (row["method"], row["corpus"]) == (name, corpus)])
            spread = f" ± {f1.std(ddof=1):.3f}" if len(f1) > 1 else ""
            cells.append(f"{f1.mean():.3f}{spread} ({len(f1)})" if len(f1) else "")
        print(f"| {title} | {' | '.join(cells)} |")


def _plot(results: list[dict[str, Any]], path: Path) -> None:
    """Draws F1 on dev after each epoch, the mean over the seeds, for each method."""
    from matplotlib.figure import Figure

    corpora = list(dict.fromkeys(row["corpus"] for row in results))
    figure = Figure(figsize=(5.5 * len(corpora), 5.5), layout="constrained")
    panels = figure.subplots(1, len(corpora), sharey=True, squeeze=False)[0]
    for corpus, axes in zip(corpora, panels, strict=True):
        for number, (name, title) in enumerate(_rows(results)):
            curves = [row.get("dev_f1") for row in results if (row["method"], row["corpus"]) == (name, corpus)]
            if curves and all(curves):
                mean = np.mean(curves, axis=0)
                axes.plot(range(1, len(mean) + 1), mean, marker="o", color=f"C{number}", label=title)
        axes.set_title(f"{corpus}: entity F1 on dev")
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    shown = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=2)
    with replacing(path, force=True) as new:
        figure.savefig(new, format="png", dpi=110)


if __name__ == "__main__":
    main()
