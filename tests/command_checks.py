"""What tests of commands check again and again."""

from pathlib import Path


def tree(folder: Path) -> dict[Path, bool | bytes]:
    """Returns what a folder holds, files with their content."""
    return {path.relative_to(folder): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def assert_refused(result: tuple[int, str, str], command: str, message: str) -> None:
    """Expects status 2, one line on standard error and nothing on standard output."""
    code, out, err = result
    assert (code, out) == (2, "")
    assert err.startswith(f"minialbert {command}: ") and err.count("\n") == 1 and err.endswith("\n"), err
    assert message in err, err
