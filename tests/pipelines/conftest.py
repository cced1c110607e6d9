import gzip

import pytest
from corpus_samples import HOSTILE, sentences


@pytest.fixture
def corpus_folder(tmp_path, monkeypatch):
    """A working folder with a/x.txt, b/x.txt.gz and hostile.jsonl."""
    monkeypatch.chdir(tmp_path)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    content = "\n".join(sentences(300)).encode()
    (tmp_path / "a" / "x.txt").write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))
    (tmp_path / "b" / "x.txt.gz").write_bytes(gzip.compress(content + b"\n"))
    (tmp_path / "hostile.jsonl").write_bytes(b"\n".join(HOSTILE))
    return tmp_path
