"""A picture of a benchmark: how size, latency and F1 of files go together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minialbert_tf.benchmarking import Measurement
from minialbert_tf.errors import InputError

_USUAL_LENGTH = 128
_INCHES = (11.0, 4.8)
_DOTS_PER_INCH = 130


def check_can_plot() -> None:
    """Checks that matplotlib is there, before minutes of work.

    Raises:
        InputError: If it is not.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InputError(f"Plots need matplotlib: pip install 'minialbert-tf[plot]'. Received: {error}") from error


def save_plot(measurements: Sequence[Measurement], path: Path) -> None:
    """Writes a PNG: size, latency and F1 of each file on the left, latency by length on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_INCHES, layout="constrained")
    left, right = figure.subplots(1, 2)
    names = _short_names([row.file for row in measurements])
    _plot_sizes(left, _comparable(measurements), names)
    _plot_lengths(right, measurements, names)
    FigureCanvasAgg(figure).print_figure(str(path), format="png", dpi=_DOTS_PER_INCH)


def _comparable(measurements: Sequence[Measurement]) -> list[Measurement]:
    """Returns one measurement of each file, with the fewest threads, at a length that most of them have."""
    threads = min(row.threads for row in measurements)
    rows = [row for row in measurements if row.threads == threads]
    lengths = [row.length for row in rows]
    usual = max(set(lengths), key=lambda length: (lengths.count(length), -abs(length - _USUAL_LENGTH)))
    chosen: dict[str, Measurement] = {}
    for row in sorted(rows, key=lambda row: abs(row.length - usual)):
        chosen.setdefault(row.file, row)
    return [chosen[file] for file in dict.fromkeys(row.file for row in measurements)]


def _short_names(files: Sequence[str]) -> dict[str, str]:
    """Returns file names without folders, or whole paths where two would be the same."""
    different = len({Path(file).name for file in files}) == len(set(files))
    return {file: Path(file).name if different else file for file in files}


def _plot_sizes(axes: Any, rows: Sequence[Measurement], names: dict[str, str]) -> None:
    for index, row in enumerate(rows):
        label = names[row.file] if row.f1 is None else f"{names[row.file]}, F1 {row.f1:.3f}"
        axes.scatter(row.size_mb, row.p50_ms, s=90, color=f"C{index}", label=label, zorder=2)
    axes.margins(0.2)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("size of the file, MB")
    axes.set_ylabel("median latency, ms")
    lengths = " or ".join(map(str, sorted({row.length for row in rows})))
    axes.set_title(f"size and latency: {lengths} tokens, {_count(rows[0].threads)}", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)


def _plot_lengths(axes: Any, measurements: Sequence[Measurement], names: dict[str, str]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    files = list(dict.fromkeys(row.file for row in measurements))
    threads = sorted({row.threads for row in measurements})
    styles = ("-", "--", ":", "-.")
    for index, file in enumerate(files):
        for number in threads:
            rows = sorted(
                (row for row in measurements if (row.file, row.threads) == (file, number)), key=lambda row: row.length
            )
            many = f", {_count(number)}" if len(threads) > 1 else ""
            axes.plot(
                [row.length for row in rows],
                [row.p50_ms for row in rows],
                marker="o",
                color=f"C{index}",
                linestyle=styles[threads.index(number) % len(styles)],
                label=f"{names[file]}{many}",
            )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    lengths = sorted({row.length for row in measurements})
    axes.set_xticks(lengths, map(str, lengths))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("length, tokens")
    axes.set_ylabel("median latency, ms")
    axes.set_title("latency by length", fontsize=10)
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=9)


def _count(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"
