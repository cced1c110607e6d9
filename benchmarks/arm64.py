"""The same .tflite files on ARM64 kernels: logits and tags beside this machine's, by emulating two processors.

python -m benchmarks.arm64 ner.tflite --data bc5cdr

Needs Debian's qemu-user (7.1 or later), apt-get and dpkg. A Python for ARM64 with its libraries comes from Debian's
packages and PyPI into a folder of its own; the system stays as it is. What is emulated computes as the real processor
would, but says nothing about its speed.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minialbert_tf.data.conll import read_conll
from minialbert_tf.export.bundle import read_bundle
from minialbert_tf.litert_runtime import LiteRTRuntime
from minialbert_tf.tagger import Tagger

REPOSITORY = Path(__file__).resolve().parents[1]
DEBIAN_PACKAGES = ("python3-minimal", "libpython3-stdlib", "libstdc++6")
PYPI_PACKAGES = (
    "ai-edge-litert",
    "backports.strenum",
    "flatbuffers",
    "ml_dtypes",
    "numpy",
    "protobuf",
    "tokenizers",
    "tqdm",
    "typing-extensions",
)
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")


@dataclass(frozen=True)
class Processor:
    """A processor that QEMU emulates, and what Linux would say of it: QEMU shows the host's /proc/cpuinfo instead."""

    name: str
    part: str
    features: str

    def cpuinfo(self) -> str:
        """Returns the content of /proc/cpuinfo, without which XNNPACK crashes."""
        return (
            f"processor\t: 0\nBogoMIPS\t: 100.00\nFeatures\t: {self.features}\nCPU implementer\t: 0x41\n"
            f"CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {self.part}\nCPU revision\t: 3\n"
        )


_ARM_V8 = "fp asimd evtstrm aes pmull sha1 sha2 crc32"
PROCESSORS = (
    Processor("cortex-a72", "0xd08", f"{_ARM_V8} cpuid"),
    # Half floats in vectors and dot products of 8-bit integers choose other kernels.
    Processor("cortex-a76", "0xd0b", f"{_ARM_V8} atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"),
)


def install(root: Path) -> None:
    """Unpacks a Python for ARM64 under `root`, and the packages that tagging needs under `root`/site."""
    if (root / ".installed").exists():
        return
    shutil.rmtree(root, ignore_errors=True)
    apt = root / "apt"
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (apt / folder).mkdir(parents=True)
    (apt / "status").touch()  # nothing is installed, so that everything needed is fetched
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures::": "arm64",
        "Dir::State": apt / "state",
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt / "cache",
    }
    get = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in settings.items())]
    subprocess.run([*get, "update"], check=True)
    options = ("--download-only", "--yes", "--no-install-recommends")
    subprocess.run([*get, "install", *options, *DEBIAN_PACKAGES], check=True, stdout=subprocess.DEVNULL)
    for package in sorted((apt / "cache" / "archives").glob("*.deb")):
        subprocess.run(["dpkg", "-x", package, root], check=True)
    version = python_of(root).name.removeprefix("python")
    wheels = ["--only-binary=:all:", "--python-version", version, "--implementation", "cp"]
    wheels += [f"--abi={abi}" for abi in ("cp" + version.replace(".", ""), "abi3", "none")]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", root / "site", *wheels]
    packages = [f"{name}=={version_of(name)}" for name in PYPI_PACKAGES]
    subprocess.run([*pip, *(f"--platform={name}" for name in PLATFORMS), *packages], check=True)
    # Which LiteRT loads although nobody asks for it, and which ends the process on a Cortex-A72 (LiteRT issue 6083).
    (root / "site" / "ai_edge_litert" / "libLiteRtWebGpuAccelerator.so").unlink()
    (root / ".installed").touch()


def version_of(package: str) -> str:
    """Returns the version that this very Python uses."""
    from importlib.metadata import version

    return version(package)


def python_of(root: Path) -> Path:
    """Returns the Python under `root`, whose name ends in its version."""
    (path,) = (root / "usr" / "bin").glob("python3.*[0-9]")
    return path


def answer(model: Path, sentences: Sequence[str]) -> dict[str, Any]:
    """Returns what a file makes of sentences on the machine that this runs on."""
    bundle = read_bundle(model)
    tokenizer, runtime = bundle.tokenizer, LiteRTRuntime(bundle)
    pieces = [[tokenizer.cls_id, *tokenizer.encode(text).ids, tokenizer.sep_id] for text in sentences]
    logits = [values.tolist() for values in runtime.predict(pieces)]
    entities = Tagger(tokenizer, bundle.card.labels, runtime)(list(sentences))
    spans = [[asdict(entity) for entity in found] for found in entities]
    return {"machine": platform.machine(), "logits": logits, "entities": spans}


def emulated_answer(root: Path, processor: Processor, model: Path, sentences: Sequence[str]) -> dict[str, Any]:
    """Returns the same from an emulated processor."""
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc" / "cpuinfo").write_text(processor.cpuinfo())
    command = ["qemu-aarch64", "-cpu", processor.name, "-L", root, python_of(root), "-m", "benchmarks.arm64"]
    environment = {
        **os.environ,
        "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{root / 'site'}",
        "MINIALBERT_CACHE": str(root / "cache" / processor.name),
    }
    child = subprocess.run(
        [*command, model.resolve(), "--answer"],
        env=environment,
        cwd=REPOSITORY,
        input=json.dumps(sentences),
        capture_output=True,
        text=True,
    )
    if child.returncode:
        raise SystemExit(f"{processor.name} failed with status {child.returncode}: {child.stderr[-2000:]}")
    return json.loads(child.stdout)


def tags(result: dict[str, Any]) -> list[list[tuple[int, int, str]]]:
    """Returns the labelled spans of each sentence."""
    return [[(entity["start"], entity["end"], entity["label"]) for entity in found] for found in result["entities"]]


def compare(model: Path, sentences: Sequence[str], root: Path) -> bool:
    """Prints a line for each processor; returns whether all give the tags of this machine."""
    here = answer(model, sentences)
    largest = max(np.abs(logits).max() for logits in here["logits"])
    same = True
    for processor in PROCESSORS:
        there = emulated_answer(root, processor, model, sentences)
        pairs = zip(here["logits"], there["logits"], strict=True)
        difference = max(np.abs(np.subtract(first, second)).max() for first, second in pairs)
        equal = sum(first == second for first, second in zip(tags(here), tags(there), strict=True))
        same &= equal == len(sentences)
        print(
            f"{model.name}, {processor.name} ({there['machine']}) beside {here['machine']}: tags of {equal} of "
            f"{len(sentences)} sentences equal, {sum(map(len, there['entities']))} entities; largest difference of "
            f"a logit {difference:.2g}, largest logit {largest:.2g}",
            flush=True,
        )
    return same


def main() -> int:
    """Runs the comparison; the status is 1 if a tag differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="+", help=".tflite files for entity recognition")
    parser.add_argument("--data", type=Path, help="a corpus with test.tsv")
    parser.add_argument("--sentences", type=int, default=20, help="how many of it, from its start (default: 20)")
    parser.add_argument("--root", type=Path, default=Path("build/arm64"), help="default: build/arm64")
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.answer:
        json.dump(answer(arguments.model[0], json.load(sys.stdin)), sys.stdout)
        return 0
    if arguments.data is None:
        parser.error("--data is required")
    corpus = read_conll(arguments.data / "test.tsv")
    sentences = [" ".join(sentence.words) for sentence in corpus[: arguments.sentences]]
    root = arguments.root.resolve()
    install(root)
    return 0 if all([compare(model, sentences, root) for model in arguments.model]) else 1


if __name__ == "__main__":
    sys.exit(main())
