"""What two workers on one machine cost, beside one worker with the same cores: a whole `distill` of realistic size.

    python -m benchmarks.workers [--batch-size 16] [--window 128] [--steps 6] [--rounds 2]

Each worker computes on one core. Both runs see the same batches, and take turns, each in processes of its own, as
`minialbert distill` starts them. A step's time is the median over the steps behind the first two, which compile. The
teacher has MiniLM's sizes and random weights; what is computed does not depend on them.
"""

import argparse
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

VOCABULARY = 30_522
WORKERS = 2
STUDENT = ("--embedding-size", "192", "--recursions", "6", "--reduction-factor", "4", "--start", "random")


def write_teacher(folder: Path) -> None:
    """Writes a BERT of 6 layers and hidden size 384."""
    from minialbert_tf.teacher import BertConfig, BertModel
    from minialbert_tf.tokenization import SPECIAL_TOKENS, WordPieceTokenizer

    sizes = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    teacher = BertModel(BertConfig(vocab_size=VOCABULARY, **sizes))
    words = [f"w{number}" for number in range(VOCABULARY - len(SPECIAL_TOKENS))]
    teacher.tokenizer = WordPieceTokenizer([*SPECIAL_TOKENS, *words], lowercase=True)
    teacher.save_pretrained(folder)


def write_texts(path: Path) -> None:
    """Writes a million random words."""
    numbers = np.random.default_rng(0).integers(0, VOCABULARY - 10, (5000, 200))
    path.write_text("\n".join(" ".join(f"w{number}" for number in line) for line in numbers))


def free_ports(count: int) -> list[int]:
    """Returns ports that nobody listens on."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def tf_config(ports: list[int], index: int) -> str:
    """Returns the TF_CONFIG of one of several workers on this machine."""
    cluster = {"worker": [f"localhost:{port}" for port in ports]}
    return json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})


def seconds_per_step(arguments: argparse.Namespace, folder: Path, workers: int, flavour: str) -> float:
    """Runs `minialbert distill` once, with one thread for each of several workers, or all cores for a single one."""
    command = [sys.executable, "-m", "minialbert_tf.cli", "distill", "--teacher", "teacher", "--text", "texts.txt"]
    command += ["--packed", "--window", str(arguments.window), "--batch-size", str(arguments.batch_size), *STUDENT]
    command += ["--steps", str(arguments.steps), "--warmup-steps", "1", "--mask-rate", str(arguments.mask_rate)]
    if not arguments.mask_rate:
        command += ["--mlm-weight", "0", "--output-weight", "0"]
    output = folder / "student"
    threads = str(WORKERS // workers)
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": threads, "TF_NUM_INTEROP_THREADS": threads}
    environment |= {"TF_USE_LEGACY_KERAS": flavour, "PYTHONPATH": os.pathsep.join(sys.path)}
    ports = free_ports(workers)
    processes = []
    for index in range(workers):
        if workers > 1:
            environment["TF_CONFIG"] = tf_config(ports, index)
        strategy = ["--strategy", "multi-worker"] if workers > 1 else []
        command_of_worker = [*command, *strategy, "--output", str(output), "--force", "--restart"]
        processes.append(subprocess.Popen(command_of_worker, cwd=folder, env=environment, stdout=subprocess.DEVNULL))
    if any(process.wait() for process in processes):
        raise SystemExit("a run has failed")
    lines = [json.loads(line) for line in (output / "logs" / "log.jsonl").read_text().splitlines()]
    return float(np.median(np.diff([line["seconds"] for line in lines])[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=16, help="default: 16")
    parser.add_argument("--window", type=int, default=128, help="default: 128")
    parser.add_argument("--mask-rate", type=float, default=0.0, help="0 leaves the masked-LM head out (default: 0)")
    parser.add_argument("--steps", type=int, default=6, help="default: 6")
    parser.add_argument("--rounds", type=int, default=2, help="default: 2")
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"batches of {arguments.batch_size} windows of {arguments.window} pieces", flush=True)
    runs = {"one worker, Keras 3": (1, "0"), "one worker, tf-keras": (1, "1"), "two workers": (WORKERS, "1")}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    with tempfile.TemporaryDirectory() as folder:
        write_teacher(Path(folder) / "teacher")
        write_texts(Path(folder) / "texts.txt")
        for _ in range(arguments.rounds):
            for name, (workers, flavour) in runs.items():
                seconds[name].append(seconds_per_step(arguments, Path(folder), workers, flavour))
                print(f"{name}: {seconds[name][-1]:.2f} s per step", flush=True)
    best = {name: min(values) for name, values in seconds.items()}
    for name in list(runs)[:2]:
        print(f"two workers take {best['two workers'] / best[name] - 1:+.1%} of the time of {name}")


if __name__ == "__main__":
    main()
