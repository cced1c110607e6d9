"""What tagging a corpus costs and keeps: the figures of docs/corpus.md.

    python -m benchmarks.corpus scaling --text sentences.txt abstracts.txt --output runs --sentences 4000
    python -m benchmarks.corpus runs --text sentences.txt abstracts.txt --output runs --sentences 100000
    python -m benchmarks.corpus kills --text sentences.txt abstracts.txt --output runs --sentences 100000
    python -m benchmarks.corpus abstracts --text abstracts.txt --output runs --abstracts 200

`scaling` runs one worker, two workers and Beam in turns; `runs` checks whole runs record by record and watches their
memory; `kills` ends them with SIGKILL and starts them again; `abstracts` has tokens per text and per second, for texts
that blank lines separate. Needs Linux.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from minialbert_tf.pipelines.processes import available_cores
from minialbert_tf.tagger import open_tagger

_SENTENCE_END = re.compile(r"(?<=[.?!])\s+(?=[A-Z])")
_BEAM = ("--runner", "DirectRunner")


def main() -> None:
    """Runs one of the measurements and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=MEASUREMENTS)
    parser.add_argument("--text", nargs="+", type=Path, required=True, help="plain text to take sentences from")
    parser.add_argument("--output", type=Path, required=True, help="folder for what the runs write")
    parser.add_argument("--model", default="builtin", help="default: builtin")
    parser.add_argument("--sentences", type=int, default=100_000, help="default: 100000")
    parser.add_argument("--abstracts", type=int, default=200, help="default: 200")
    parser.add_argument("--rounds", type=int, default=3, help="of scaling (default: 3)")
    parser.add_argument("--check-every", type=int, default=100, help="records per single text tagged (default: 100)")
    parser.add_argument("--workers", type=int, default=available_cores(), help="default: one for each core")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    MEASUREMENTS[arguments.what](arguments)


def measure_scaling(arguments: argparse.Namespace) -> None:
    """Prints records per second of one worker, of two, of two programs of one worker each, and of Beam."""
    corpus = _sentences(arguments)
    beam = (*_BEAM, "--", "--direct_num_workers=2")
    kinds: dict[str, list[tuple[str, ...]]] = {
        "1 worker": [("--workers", "1")],
        "2 workers": [("--workers", "2")],
        "2 programs at once, 1 worker each": [("--workers", "1"), ("--workers", "1")],
        "Beam, 2 workers": [beam],
    }
    rates: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(arguments.rounds):
        for name, programs in kinds.items():
            busy, started = _busy_seconds(), time.monotonic()
            processes = [_start(arguments, corpus, f"run{i}", *options) for i, options in enumerate(programs)]
            runs = [_finish(process) for process in processes]
            busy, seconds = _busy_seconds() - busy, time.monotonic() - started
            own = sum(run["cpu_seconds"] for run in runs)
            rates[name].append(sum(run["records_per_second"] for run in runs))
            per_second = sum(run["records"] for run in runs) / own
            print(
                f"{name}: {rates[name][-1]:.1f} records/s; {per_second:.1f} per second of processor time; "
                f"cores busy with it {own / seconds:.2f}, with others {(busy - own) / seconds:.2f}",
                flush=True,
            )
    best = {name: max(rates[name]) for name in rates}
    for name, rate in best.items():
        print(f"{name}: {rate:.1f} records/s at best, {rate / best['1 worker']:.2f} times 1 worker")


def measure_runs(arguments: argparse.Namespace) -> None:
    """Runs processes and Beam over the sentences, and checks each record and the memory over time."""
    corpus = _sentences(arguments)
    for name, options in _both(arguments):
        _run_and_check(arguments, corpus, name, options, force=True)
    _print_equal(arguments, "processes", "beam")


def measure_kills(arguments: argparse.Namespace) -> None:
    """Kills runs, starts them again, and checks what they write in the end."""
    corpus = _sentences(arguments)
    for path in (path for name, _ in _both(arguments) for path in _files(arguments, name)):
        path.unlink()
    for name, options in _both(arguments):
        for seconds in (10, 20):
            process = _start(arguments, corpus, name, *options)
            time.sleep(seconds)
            members = family(process.pid)
            process.send_signal(signal.SIGKILL)
            process.wait()
            left = _wait_for(members)
            written = list(_files(arguments, name))
            print(f"{name}: killed after {seconds} s, outputs {written}, {left} of {len(members)} processes left")
            assert not written and not left
        _run_and_check(arguments, corpus, name, options, force=False)
    _print_equal(arguments, "processes", "beam")


def _run_and_check(
    arguments: argparse.Namespace, corpus: Path, name: str, options: tuple[str, ...], force: bool
) -> None:
    process = _start(arguments, corpus, name, *options, force=force)
    memory = _watch(process)
    run = _finish(process)
    quarters = [f"{memory[min(len(memory) * part // 4, len(memory) - 1)]:.0f}" for part in (1, 2, 3, 4)]
    print(
        f"{name}: {run['records']} records, {run['seconds']:.0f} s, {run['records_per_second']:.1f} records/s, "
        f"{run['tokens_per_second']:.0f} tokens/s, {run['cpu_seconds'] / run['seconds']:.2f} s of processor time a "
        f"second; memory of all processes, MB: {' '.join(quarters)} after each quarter, {max(memory):.0f} at most",
        flush=True,
    )
    _check(arguments, corpus, name)


def measure_abstracts(arguments: argparse.Namespace) -> None:
    """Prints tokens per abstract, and tokens and abstracts per second of one worker on one core."""
    texts = [" ".join(text.split()) for path in arguments.text for text in path.read_text("utf-8").split("\n\n")]
    with open_tagger(arguments.model) as tagger:
        lengths = [len(tagger.tokenizer.encode(text).ids) for text in texts]
    print(f"{len(texts)} abstracts, {sum(lengths) / len(lengths):.1f} tokens each")
    corpus = arguments.output / "abstracts.txt"
    corpus.write_text("".join(f"{text}\n" for text in texts[: arguments.abstracts]), encoding="utf-8")
    for workers in sorted({1, arguments.workers}):
        run = _tag(arguments, corpus, "abstracts", "--workers", str(workers))
        print(
            f"{workers} workers: {run['records']} abstracts, {run['tokens']} tokens, {run['seconds']:.1f} s, "
            f"{run['records_per_second']:.2f} abstracts/s, {run['tokens_per_second']:.0f} tokens/s",
            flush=True,
        )


MEASUREMENTS = {
    "scaling": measure_scaling,
    "runs": measure_runs,
    "kills": measure_kills,
    "abstracts": measure_abstracts,
}


def _sentences(arguments: argparse.Namespace) -> Path:
    """Writes the sentences into a file; there may be fewer in the texts, which then begin again."""
    found = list(dict.fromkeys(_split(arguments.text)))
    print(f"{len(found)} different sentences, {arguments.sentences} used", flush=True)
    path = arguments.output / "sentences.txt"
    path.write_text("".join(f"{text}\n" for text in islice(cycle(found), arguments.sentences)), encoding="utf-8")
    return path


def _split(paths: list[Path]) -> Iterator[str]:
    for path in paths:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                yield from filter(None, map(str.strip, _SENTENCE_END.split(line)))


def _busy_seconds() -> float:
    """Returns the processor time that all processes of the machine have taken since it started."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def _both(arguments: argparse.Namespace) -> list[tuple[str, tuple[str, ...]]]:
    return [
        ("processes", ("--workers", str(arguments.workers))),
        ("beam", (*_BEAM, "--", f"--direct_num_workers={arguments.workers}")),
    ]


def _start(
    arguments: argparse.Namespace, corpus: Path, name: str, *options: str, force: bool = True
) -> subprocess.Popen[str]:
    own = ["--model", arguments.model, "--input", str(corpus), "--output", str(arguments.output / f"{name}.jsonl")]
    command = [
        sys.executable,
        "-m",
        "minialbert_tf.cli",
        "tag",
        "--json",
        *own,
        *(["--force"] if force else []),
        *options,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Returns a run's figures, with the processor time of all its processes as `cpu_seconds`."""
    assert process.stdout is not None
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"a run failed with status {process.returncode}")
    return {**json.loads(out), "cpu_seconds": usage.ru_utime + usage.ru_stime}


def _tag(arguments: argparse.Namespace, corpus: Path, name: str, *options: str) -> dict[str, Any]:
    return _finish(_start(arguments, corpus, name, *options))


def _files(arguments: argparse.Namespace, name: str) -> Iterator[Path]:
    for pattern in (f"{name}.jsonl", f"{name}-*.jsonl"):
        yield from sorted(arguments.output.glob(pattern))


def _check(arguments: argparse.Namespace, corpus: Path, name: str) -> None:
    """Stops unless each line of the corpus is there once, with the entities of its text tagged alone."""
    texts = corpus.read_text(encoding="utf-8").split("\n")[:-1]
    seen: Counter[str] = Counter()
    checked = 0
    with open_tagger(arguments.model) as tagger:
        for path in _files(arguments, name):
            with path.open(encoding="utf-8") as lines:
                for line in map(json.loads, lines):
                    seen[line["id"]] += 1
                    number = int(line["id"].rpartition(":")[2])
                    assert line["text"] == texts[number - 1], line["id"]
                    if number % arguments.check_every == 0:
                        assert line["entities"] == [entity.to_json() for entity in tagger(line["text"])], line["id"]
                        checked += 1
    assert seen == Counter(f"{corpus}:{number}" for number in range(1, len(texts) + 1))
    print(f"{name}: each of {len(texts)} ids exactly once; entities of {checked} are those of single texts", flush=True)


def _print_equal(arguments: argparse.Namespace, *names: str) -> None:
    first, second = (sorted(line for path in _files(arguments, name) for line in path.open("rb")) for name in names)
    print(f"{' and '.join(names)}: the same lines: {first == second}")


def family(pid: int) -> list[int]:
    """Returns a process and all that it and its own have started."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:  # the thread has ended
            continue
        for child in children:
            found += family(int(child))
    return found


def _watch(process: subprocess.Popen[str]) -> list[float]:
    """Returns the memory, in MB, of a process and all that it has started, second by second until it ends.

    It is the proportional share (Pss): pages of the model that several processes map count once.
    """
    memory = []
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        memory.append(sum(map(_memory, family(process.pid))))
        time.sleep(1)
    return [size for size in memory if size]


def _memory(pid: int) -> float:
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    pss = next(line for line in rollup.splitlines() if line.startswith("Pss:"))
    return int(pss.split()[1]) / 1000


def _wait_for(family: list[int], seconds: float = 30.0) -> int:
    """Waits for processes to end and returns how many do not."""
    deadline = time.monotonic() + seconds
    while (left := sum(os.path.exists(f"/proc/{pid}") for pid in family)) and time.monotonic() < deadline:  # noqa: PTH110
        time.sleep(0.2)
    return left


if __name__ == "__main__":
    main()
