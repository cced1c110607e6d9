"""A small NER corpus that comes with the package, so that fine-tuning can be tried without any download.

Three files of IOB2 tags with the labels Chemical and Disease; README.md beside this file says how they were annotated.
"""

from pathlib import Path


def sample_folder() -> Path:
    """Returns the folder that holds the sample corpus: train.tsv, dev.tsv and test.tsv."""
    return Path(__file__).resolve().parent
