"""Export to a single .tflite file for phones."""

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from minialbert_tf.config import MiniAlbertConfig
from minialbert_tf.data.conll import Sentence, check_labels
from minialbert_tf.errors import InputError
from minialbert_tf.export.conversion import MODEL_CLASSES, Checks, Conversion, convert
from minialbert_tf.export.probes import built_in_texts, pieces_in_a_row, probes_of
from minialbert_tf.export.recipes import GRAPHS, Recipe, find_recipe
from minialbert_tf.export.report import Report, check
from minialbert_tf.files import check_free, replacing, write_json
from minialbert_tf.models import PretrainedModel
from minialbert_tf.tagger import checked_labels
from minialbert_tf.tokenization import WordPieceTokenizer, as_tokenizer

DEFAULT_LENGTHS = (32, 64, 128, 256, 512)
MIN_LENGTH = 8  # [CLS], [SEP], and windows that can overlap


def export_tflite(
    model: PretrainedModel,
    path: str | Path,
    tokenizer: Any = None,
    quantization: str = "int8",
    sequence_lengths: Sequence[int] | None = None,
    force: bool = False,
    *,
    graph: str = "unrolled",
    dynamic: bool = False,
    recursions: int | None = None,
    calibration: Iterable[str] | None = None,
    texts: Iterable[str] | None = None,
    data: Sequence[Sentence] = (),
    force_quality: bool = False,
) -> Report:
    """Writes one file that holds the network, its vocabulary, labels and configuration, and a report beside it.

    Each length L becomes a signature `length_L` with inputs `input_ids` and `attention_mask`, int32 [1, L] (and
    `token_type_ids` for sequence classification), and the output `logits`, float32; all share the same weights. Only
    TFLite's built-in operators are used. `minialbert_tf.Tagger.from_tflite` reads the file.

    Before anything is written the file is run and compared: its operators and weights with the model's, its logits in
    floats with Keras at each length, its labels with those in floats. `path` with ".json" behind it says the results.

    Args:
        model: A `MiniAlbertForTokenClassification` or `MiniAlbertForSequenceClassification`.
        path: Where to write, by convention ending in .tflite.
        tokenizer: What `as_tokenizer` takes; the model's own by default.
        quantization: A name in `minialbert_tf.export.recipes.RECIPES`, which says what it means. "int8" stores
            weights in 8 bits and computes with 8-bit activations scaled per token; "none" leaves everything as
            trained.
        sequence_lengths: The lengths L, [CLS] and [SEP] included; by default `DEFAULT_LENGTHS` as far as the model
            goes.
        force: Whether an existing file is replaced.
        graph: "unrolled" repeats the block in the graph, which every delegate takes; "loop" has it once, for runtimes
            that would otherwise hold its packed weights once for each recursion.
        dynamic: Whether there is one signature only, named after the longest L, that takes sequences of any length up
            to it. Runs on CPUs; delegates for GPUs and NPUs want fixed lengths.
        recursions: How often the block is applied; by default as often as the model does.
        calibration: Texts such as the model will see, on which "int8-static" and "int16x8" measure the ranges of
            activations; by default sentences of the package's sample corpus. Some hundreds are enough.
        texts: Texts on which labels are compared; by default other sentences of that corpus.
        data: Labelled sentences on which a tagger's entity F1 is measured, too.
        force_quality: Whether the file is written even if it loses more than the quantisation is allowed to.

    Returns:
        What the file is and what was measured.

    Raises:
        InputError: If an argument is out of range, the file exists and `force` is false, the converter fails, or the
            file is not as good as it must be.
    """
    task = _checked_task(model)
    for output in (Path(path), report_path(path)):
        check_free(output, force)
    recipe = _checked_recipe(quantization, graph, dynamic)
    config = _shallower(model.config, recursions)
    lengths = _checked_lengths(sequence_lengths, config.max_position_embeddings)
    tokenizer = model.tokenizer if tokenizer is None else as_tokenizer(tokenizer)
    if tokenizer is None:
        raise InputError("The model has no tokenizer of its own: pass tokenizer=, such as a folder with vocab.txt.")
    per_word = task == "token-classification"
    conversion = Conversion(
        task=task,
        quantization=recipe.name,
        lengths=lengths[-1:] if dynamic else lengths,
        config=config.to_dict(),
        dynamic=dynamic,
        loop=graph == "loop",
        calibration=_calibration(recipe, calibration, tokenizer),
    )
    probes = probes_of(built_in_texts("test") if texts is None else texts, tokenizer, conversion.lengths, per_word)
    content, measured = convert(model, tokenizer, conversion, Checks(probes, _checked_data(data, task, config.labels)))
    check(measured, recipe, force_quality)
    with replacing(report_path(path), force) as new_report, replacing(path, force) as new_file:
        new_file.write_bytes(content)
        report = Report.of(new_file, conversion, recipe, measured)
        write_json(new_report, report.to_json())
    return report


def report_path(path: str | Path) -> Path:
    """Returns where the report of an exported file stands."""
    return Path(f"{path}.json")


def _checked_task(model: PretrainedModel) -> str:
    for task, cls in MODEL_CLASSES.items():
        if isinstance(model, cls):
            return task
    names = " or ".join(cls.__name__ for cls in MODEL_CLASSES.values())
    raise InputError(f"Only a {names} can be exported. Received: {type(model).__name__}")


def _checked_recipe(quantization: str, graph: str, dynamic: bool) -> Recipe:
    recipe = find_recipe(quantization)
    if graph not in GRAPHS:
        raise InputError(f"graph must be one of {', '.join(GRAPHS)}. Received: {graph!r}")
    if recipe.activation_bits is not None:
        if dynamic or graph == "loop":
            raise InputError(
                f"{recipe.name} fixes the range of each operator: it needs an unrolled graph and fixed lengths. "
                f"Received: graph={graph!r}, dynamic={dynamic}"
            )
        if find_spec("ai_edge_quantizer") is None:
            raise InputError(
                f"{recipe.name} needs ai-edge-quantizer: pip install 'minialbert-tf[calibration]'. Received: none"
            )
    return recipe


def _calibration(recipe: Recipe, texts: Iterable[str] | None, tokenizer: WordPieceTokenizer) -> tuple[int, ...]:
    """Returns the pieces to calibrate on, of all texts in a row."""
    if recipe.activation_bits is None:
        if texts is not None:
            raise InputError(f"calibration is for int8-static and int16x8. Received: {recipe.name}")
        return ()
    return tuple(pieces_in_a_row(built_in_texts("train") if texts is None else texts, tokenizer))


def _checked_data(data: Sequence[Sentence], task: str, labels: list[str]) -> tuple[Sentence, ...]:
    if data:
        if task != "token-classification":
            raise InputError(f"data is for models that label tokens. Received: a model for {task}")
        check_labels(data, checked_labels(labels), "data")
    return tuple(data)


def _shallower(config: MiniAlbertConfig, recursions: int | None) -> MiniAlbertConfig:
    if recursions is None:
        return config
    if type(recursions) is not int or not 0 < recursions <= config.num_hidden_layers:
        raise InputError(
            f"recursions must be a number from 1 to num_hidden_layers={config.num_hidden_layers}. "
            f"Received: {recursions!r}"
        )
    return config.replace(num_hidden_layers=recursions)


def _checked_lengths(lengths: Sequence[int] | None, longest: int) -> tuple[int, ...]:
    if lengths is None:
        lengths = sorted({min(length, longest) for length in DEFAULT_LENGTHS})
    valid = all(isinstance(length, int) and MIN_LENGTH <= length <= longest for length in lengths)
    if not lengths or not valid or len(set(lengths)) < len(lengths):
        raise InputError(
            f"sequence_lengths must be different integers from {MIN_LENGTH} to max_position_embeddings={longest}. "
            f"Received: {list(lengths)}"
        )
    return tuple(sorted(lengths))
