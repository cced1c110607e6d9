"""Distillation of a BERT into a MiniALBERT."""

from minialbert_tf.distillation.distiller import Distiller as Distiller
from minialbert_tf.distillation.layer_map import LayerMap as LayerMap
from minialbert_tf.distillation.losses import AttentionDivergence as AttentionDivergence
from minialbert_tf.distillation.losses import CosineDistance as CosineDistance
from minialbert_tf.distillation.losses import LossWeights as LossWeights
from minialbert_tf.distillation.losses import OutputDivergence as OutputDivergence
