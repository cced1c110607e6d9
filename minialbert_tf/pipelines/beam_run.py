"""One run over a corpus on a runner of Apache Beam."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

import apache_beam as beam
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions

from minialbert_tf.errors import DataError, InputError, WorkerError
from minialbert_tf.pipelines.beam import ERRORS, NAMESPACE, TagFiles, write_lines
from minialbert_tf.pipelines.corpus import Corpus, Summary
from minialbert_tf.pipelines.processes import available_cores
from minialbert_tf.pipelines.sources import check_format, distinct_files
from minialbert_tf.pipelines.tagging import Counts

# Beam's DirectRunner first tries Prism, a program that it downloads. This is what it falls back to.
_LOCAL_RUNNER: Final = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
_SHARDS: Final = "-*-of-*"
_SCHEME: Final = "://"


def tag_by_beam(corpus: Corpus, output: str, options: Sequence[str] = (), force: bool = False) -> Summary:
    """Tags the records of files on a runner of Beam.

    The outputs appear at the end, and only then old ones go: a run that is killed leaves none of its own, and is begun
    anew.

    Args:
        corpus: What to tag with what; names with a scheme, such as "gs://", are for Beam's file systems.
        output: What the files to write are named after: "entities.jsonl" for entities-00000-of-00002.jsonl and so on.
        options: Beam's options; the runner is DirectRunner unless they name another.
        force: Whether existing outputs are replaced.

    Raises:
        InputError: If corpus, model or options are not usable, or the output is in use.
        WorkerError: If the pipeline fails.
    """
    started = time.monotonic()
    check_format(corpus.format)
    prefix, suffix = _split(output)
    parsed = _options(options)
    paths = _match(corpus.patterns)
    old = _existing([f"{prefix}{_SHARDS}{suffix}", f"{prefix}.errors{_SHARDS}{suffix}"])
    if old and not force:
        raise InputError(f"The output must not exist yet; use force (--force) to replace it. Received: {old[0]}")
    if corpus.model.is_light:  # a bad one is told in one line here, and in many by a worker
        corpus.model.open().close()
    pipeline = _pipeline(parsed)
    lines = pipeline | "files" >> beam.Create(paths) | TagFiles(corpus.model, corpus.format)
    written = (
        lines[None] | "output" >> write_lines(prefix, suffix),
        lines[ERRORS] | "errors" >> write_lines(f"{prefix}.errors", suffix),
    )
    if old:
        _ = written | beam.Flatten() | beam.combiners.ToList() | "old" >> beam.Map(_delete_others, old)
    counts = _run(pipeline)
    seconds = time.monotonic() - started
    return Summary(f"{prefix}{_SHARDS}{suffix}", f"{prefix}.errors{_SHARDS}{suffix}", counts, seconds, counts)


def _pipeline(options: PipelineOptions) -> beam.Pipeline:
    try:
        return beam.Pipeline(options=options)
    except (ValueError, ImportError, AttributeError) as error:
        raise InputError(f"Beam must be able to use its options. Received: {error}") from error


def _run(pipeline: beam.Pipeline) -> Counts:
    """Runs the pipeline to its end and returns what it counted."""
    # Workers of this machine warn, each of them, of what is missing only for measuring the memory of a model.
    logging.getLogger("apache_beam.runners.portability.local_job_service").setLevel(logging.ERROR)
    try:
        result = pipeline.run()
        state = result.wait_until_finish()
    except Exception as error:  # whatever a runner raises
        raise WorkerError(f"The pipeline must run to its end. Received: {_last_line(error)}") from error
    if state != beam.runners.runner.PipelineState.DONE:
        raise WorkerError(f"The pipeline must run to its end. Received: {state}")
    counters = result.metrics().query(beam.metrics.MetricsFilter().with_namespace(NAMESPACE))["counters"]
    found = {counter.key.metric.name: int(counter.result or 0) for counter in counters}
    return Counts(**{name: found.get(name, 0) for name in Counts.__dataclass_fields__})


def _last_line(error: Exception) -> str:
    """Returns the end of a message, where Beam has the cause behind a worker's traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _options(options: Sequence[str]) -> PipelineOptions:
    """Returns Beam's options, with what makes DirectRunner use all cores."""
    parsed = PipelineOptions(list(options))
    standard = parsed.view_as(StandardOptions)
    if (standard.runner or "direct").lower() in ("direct", "directrunner"):
        standard.runner = _LOCAL_RUNNER
        given = {option.partition("=")[0] for option in options}
        direct = parsed.view_as(DirectOptions)
        if "--direct_num_workers" not in given:
            direct.direct_num_workers = available_cores()
        if "--direct_running_mode" not in given and direct.direct_num_workers != 1:
            direct.direct_running_mode = "multi_processing"
    return parsed


def _match(patterns: Sequence[str]) -> list[str]:
    """Returns the files of a corpus; those on this machine as `minialbert tag` without Beam has them."""
    remote = [pattern for pattern in patterns if _SCHEME in pattern]
    local = [pattern for pattern in patterns if _SCHEME not in pattern]
    paths = [str(path) for path in distinct_files(local)] if local else []
    for pattern in remote:
        found = _existing([pattern])
        if not found:
            raise DataError(f"A corpus must be existing text files or a pattern that matches some. Received: {pattern}")
        paths += found
    return list(dict.fromkeys(paths))


def _existing(patterns: list[str]) -> list[str]:
    try:
        return sorted(metadata.path for match in FileSystems.match(patterns) for metadata in match.metadata_list)
    except (ValueError, BeamIOError) as error:
        raise InputError(f"Beam must be able to look for files. Received: {error}") from error


def _delete_others(written: list[str], old: list[str]) -> None:
    """Deletes old outputs that no new one has replaced: those of another number of files.

    All are in one folder, and a file system need not spell its path as it was given: names are compared.
    """
    new = {PurePosixPath(path).name for path in written}
    FileSystems.delete([path for path in old if PurePosixPath(path).name not in new and FileSystems.exists(path)])


def _split(output: str) -> tuple[str, str]:
    """Returns what stands before and behind the numbers of the files, as an absolute path: Beam globs no other."""
    if _SCHEME not in output:
        output = str(Path(output).absolute())
    suffix = PurePosixPath(output).suffix
    return output.removesuffix(suffix), suffix
