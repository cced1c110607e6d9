"""Checks that run core on the JVM: its own tests, and comparisons with the Python package."""

import importlib.util
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from android_demo.checks import reference
from android_demo.checks.tools import (
    CACHE,
    DEMO,
    JARS,
    FailureError,
    SkipError,
    compile_kotlin,
    core_jar,
    file,
    java_program,
    run,
)
from minialbert_tf.tagger import Entity, Tagger
from minialbert_tf.tokenization import Pieces, WordPieceTokenizer

# Where Debian's package puts the native half of JNA, on 64-bit PCs and on ARM.
JNA_FOLDERS = ("/usr/lib/x86_64-linux-gnu/jni", "/usr/lib/aarch64-linux-gnu/jni")
SCORE_TOLERANCE = 1e-9  # libm's exp and Java's differ in the last bit
MIN_MEGABYTES_PER_SECOND = 1.0


def check_core() -> str:
    """Runs core's JUnit tests, and sees that they fail if a test vector is changed."""
    jars = [file(JARS / "junit4.jar", "junit4"), file(JARS / "hamcrest.jar", "libhamcrest-java")]
    core = core_jar()
    folder = DEMO / "core/src/test/kotlin"
    tests = compile_kotlin("core-tests", folder.rglob("*.kt"), jars, friends=[core])
    classes = sorted(".".join(path.relative_to(folder).with_suffix("").parts) for path in folder.rglob("*Test.kt"))

    def junit(fixtures: Path, *names: str) -> str:
        properties = {"minialbert.fixtures": fixtures}
        return run([*java_program("org.junit.runner.JUnitCore", [core, tests, *jars], properties), *names])

    output = junit(reference.VECTORS.parent, *classes)
    doctored = _doctored_vectors()
    try:
        junit(doctored, "minialbert.core.TokenizationTest")
    except FailureError as error:
        if "vectors(minialbert.core.TokenizationTest)" not in str(error):
            raise
    else:
        raise FailureError("A test vector with a changed id must make the tests fail.")
    return output.strip().splitlines()[-1] + "; a changed id in a vector fails"


def check_end_to_end() -> str:
    """Compares the entities that core finds with LiteRT's C library with those of the Python Tagger."""
    model, program = reference.model_file(), _program()
    corpus, sentences = reference.sentences()
    texts = [*sentences, *reference.vector_texts(), *reference.naughty_strings(), *reference.long_texts(sentences)]
    with Tagger.from_tflite(model) as tagger:
        expected = tagger(texts)
    lines, printed = _call(program, "tag", _litert_library(), model, _write("texts.json", texts))
    found = [[Entity(**entity) for entity in line] for line in lines]
    _refuse(entity_differences(texts, expected, found))
    _check_entity_controls(texts, expected)
    pieces = _compare_pieces(program, _tokenizers(model), [*texts, *reference.random_texts(1000)])
    speed = _speed(program, model, sentences)
    times = json.loads(printed)
    return (
        f"identical with {model.name}: {sum(map(len, expected))} entities in {len(sentences)} sentences of {corpus} "
        f"and {len(texts) - len(sentences)} other texts, {pieces} tokenizations; tokenizer {speed:.1f} MB/s; network "
        f"{times['network_ms']:.0f} ms, all else {times['rest_ms']:.0f} ms"
    )


def check_characters() -> str:
    """Compares what core and Hugging Face make of every character, and the tables that core does it with."""
    from android_demo.checks import make_character_tables

    program = _program()
    count = 0
    for texts, characters in reference.every_character():
        count += _compare_pieces(program, reference.character_tokenizers(characters), texts)
    if make_character_tables.make_tables() != make_character_tables.OUTPUT.read_text(encoding="ascii"):
        raise FailureError("CharacterTables.kt must be what make_character_tables.py writes; run it.")
    return f"{count} tokenizations of single characters identical; the tables are current"


def entity_differences(
    texts: Sequence[str], expected: Sequence[Sequence[Entity]], found: Sequence[Sequence[Entity]]
) -> list[str]:
    """Returns a line for each text in which entities differ, scores beyond rounding included."""
    differences = []
    for text, one, other in zip(texts, expected, found, strict=True):
        same = [replace(entity, score=0.0) for entity in one] == [replace(entity, score=0.0) for entity in other]
        if not same or any(abs(a.score - b.score) > SCORE_TOLERANCE for a, b in zip(one, other, strict=True)):
            differences.append(f"{text[:200]!r}: Python {one}, Kotlin {other}")
    return differences


def piece_differences(texts: Sequence[str], expected: Sequence[Pieces], found: Iterable[Any]) -> list[str]:
    """Returns a line for each text whose ids, offsets or words differ."""
    differences = []
    for text, pieces, (ids, starts, ends, words) in zip(texts, expected, found, strict=True):
        if pieces != Pieces(ids, list(zip(starts, ends, strict=True)), words):
            differences.append(f"{text[:200]!r}: Python {pieces}, Kotlin {ids} {starts} {ends} {words}")
    return differences


def _check_entity_controls(texts: Sequence[str], entities: list[list[Entity]]) -> None:
    """Sees that the comparison notices changes, and that the texts give it something to compare."""
    number = next((index for index, found in enumerate(entities) if found), None)
    if number is None:
        raise FailureError("The model must find something.")
    first, *rest = entities[number]
    for change in ({"label": first.label + "x"}, {"end": first.end + 1}, {"score": first.score - 1e-6}):
        changed = [*entities[:number], [replace(first, **change), *rest], *entities[number + 1 :]]
        if len(entity_differences(texts, entities, changed)) != 1:
            raise FailureError(f"The comparison must notice {change}.")
    pairs = [(text, entity) for text, found in zip(texts, entities, strict=True) for entity in found]
    if not any(character > "\uffff" for text, entity in pairs for character in text[: entity.start]):
        raise FailureError("Some entities must stand behind characters that are two UTF-16 units.")


def _compare_pieces(program: "_Program", tokenizers: list[WordPieceTokenizer], texts: list[str]) -> int:
    """Returns the number of comparisons."""
    described = _write("tokenizers.json", [reference.describe(tokenizer) for tokenizer in tokenizers])
    lines, _ = _call(program, "tokenize", described, _write("texts.json", texts))
    for number, tokenizer in enumerate(tokenizers):
        found = lines[number * len(texts) : (number + 1) * len(texts)]
        _refuse(piece_differences(texts, tokenizer.encode_batch(texts), found))
    return len(lines)


def _tokenizers(model: Path) -> list[WordPieceTokenizer]:
    from minialbert_tf.export.bundle import read_bundle

    tokenizers = [read_bundle(model).tokenizer, *reference.vector_tokenizers()]
    for casing in ("cased", "uncased"):
        path = reference.SHARED / "vocab" / f"bert-base-{casing}-vocab.txt"
        if path.is_file():
            tokenizers.append(WordPieceTokenizer.from_pretrained(path, lowercase=casing == "uncased"))
    return tokenizers


def _speed(program: "_Program", model: Path, sentences: list[str]) -> float:
    path = CACHE / "sentences.txt"
    path.write_text("\n".join(sentences * 5), encoding="utf-8")
    speed = float(run(program("speed", model, path)))
    if speed < MIN_MEGABYTES_PER_SECOND:
        raise FailureError(f"The tokenizer must do {MIN_MEGABYTES_PER_SECOND} MB/s on one core. Received: {speed}")
    return speed


_Program = Callable[..., list[str]]


def _program() -> _Program:
    """Compiles checks/jvm and returns what makes a command of its arguments."""
    jna = file(JARS / "jna.jar", "libjna-java")
    folder = next((Path(folder) for folder in JNA_FOLDERS if Path(folder).is_dir()), Path(JNA_FOLDERS[0]))
    file(folder / "libjnidispatch.system.so", "libjna-jni")
    core = core_jar()
    checks = compile_kotlin("jvm-checks", (DEMO / "checks/jvm").glob("*.kt"), [jna], friends=[core])
    properties = {"jna.boot.library.path": folder}
    command = java_program("minialbert.checks.JvmCheckKt", [checks, core, jna], properties)
    return lambda *arguments: [*command, *map(str, arguments)]


def _call(program: _Program, *arguments: str | Path) -> tuple[list[Any], str]:
    """Runs the program with an output file as its last argument; returns the JSON values in it, and what it printed."""
    output = CACHE / "output.jsonl"
    printed = run(program(*arguments, output))
    with output.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines], printed


def _write(name: str, value: Any) -> Path:
    path = CACHE / name
    path.write_text(json.dumps(value), encoding="ascii")
    return path


def _litert_library() -> Path:
    spec = importlib.util.find_spec("ai_edge_litert")
    if spec is None or not spec.submodule_search_locations:
        raise SkipError("needs ai-edge-litert: pip install ai-edge-litert")
    return Path(spec.submodule_search_locations[0]) / "libLiteRt.so"


def _doctored_vectors() -> Path:
    content = json.loads(reference.VECTORS.read_text(encoding="utf-8"))
    vector = next(vector for vector in content["vectors"] if vector["cased"]["ids"])
    vector["cased"]["ids"][-1] += 1
    path = CACHE / "doctored" / reference.VECTORS.name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), encoding="ascii")
    return path.parent


def _refuse(differences: list[str]) -> None:
    if differences:
        raise FailureError("\n".join([f"Kotlin and Python differ in {len(differences)} texts:", *differences[:10]]))
