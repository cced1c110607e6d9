"""Tagging whole corpora: records in, one JSON line for each out, by processes of this machine or by Apache Beam."""
