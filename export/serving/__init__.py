"""The parts of an exported SavedModel that are TensorFlow graphs, and the files that a model server wants beside it."""
