"""Checkpoints: reading and writing files, the weight map, and porting between PyTorch names and Keras variables."""
