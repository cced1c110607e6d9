import subprocess
import sys
from pathlib import Path

import pytest

from minialbert_tf.export.bundle import write_bundle

ROOT = Path(__file__).parent.parent
LIBRARY = """
import os, sys
from minialbert_tf.litert_runtime import LiteRTRuntime
runtime = LiteRTRuntime(sys.argv[1])
print(runtime.predict([[2, 3]])[0].shape)
if sys.stderr:
    os.write(2, b"native ")
    print("python", file=sys.stderr)
os._exit(0)  # LiteRT's own last words are the program's to silence
"""
PROGRAM = """
import os, sys
from minialbert_tf.native_logs import leave_stderr_to_python
leave_stderr_to_python()
os.write(2, b"native ")
print("(2, 5)")
print("python", file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("code", "redirection", "expected"),
    [(LIBRARY, "", "native python\n"), (LIBRARY, "2>&-", ""), (PROGRAM, "", "python\n")],
)
def test_standard_error_is_left_to_python(tiny_model, tmp_path, code, redirection, expected):
    write_bundle(tmp_path / "tiny.tflite", **tiny_model.arguments())
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-u", "-c", code, tmp_path / "tiny.tflite"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "(2, 5)\n", expected)
