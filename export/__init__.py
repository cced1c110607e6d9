"""Exporters, imported as minialbert_tf.export: TFLite for phones."""
