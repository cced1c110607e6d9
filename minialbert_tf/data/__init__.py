"""Readers of labelled corpora and tables, and batching for training."""
