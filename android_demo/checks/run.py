"""Checks of the Android demo on a computer without an Android SDK.

    python -m android_demo.checks.run [--strict] [CHECK ...]

A check that lacks a tool is skipped and says what it needs; --strict counts that as a failure.
"""

import argparse
import sys
import time
from collections.abc import Callable

from android_demo.checks.app_checks import check_app, check_project
from android_demo.checks.kotlin_checks import check_characters, check_core, check_end_to_end
from android_demo.checks.tools import FailureError, SkipError
from minialbert_tf.native_logs import leave_stderr_to_python

CHECKS: dict[str, Callable[[], str]] = {
    "project": check_project,
    "core": check_core,
    "app": check_app,
    "end-to-end": check_end_to_end,
    "characters": check_characters,
}


def main(arguments: list[str]) -> int:
    """Runs the checks and returns the exit code."""
    parser = argparse.ArgumentParser(description="Checks of the Android demo on a computer without an Android SDK.")
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"{', '.join(CHECKS)} (default: all)")
    parser.add_argument("--strict", action="store_true", help="fail where a check is skipped")
    options = parser.parse_args(arguments)
    unknown = set(options.checks) - set(CHECKS)
    if unknown:
        parser.error(f"a check must be one of {', '.join(CHECKS)}. Received: {', '.join(sorted(unknown))}")
    results = [run_check(name, CHECKS[name]) for name in options.checks or CHECKS]
    passed, failed, skipped = (results.count(result) for result in ("pass", "FAIL", "skip"))
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return int(failed > 0 or (options.strict and skipped > 0))


def run_check(name: str, check: Callable[[], str]) -> str:
    """Runs one check, prints how it went, and returns "pass", "FAIL" or "skip"."""
    start = time.monotonic()
    try:
        result, message = "pass", check()
    except SkipError as error:
        result, message = "skip", str(error)
    except FailureError as error:
        result, message = "FAIL", str(error)
    print(f"{result} {name} ({time.monotonic() - start:.0f} s): {message}", flush=True)
    return result


if __name__ == "__main__":
    leave_stderr_to_python()
    sys.exit(main(sys.argv[1:]))
