"""The files that benchmarks/tflite.py compares, all with random weights of the published size."""

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

import minialbert_tf as ma
from benchmarks.tflite import LENGTH, PRODUCT_ROWS, PRODUCT_WIDTH
from minialbert_tf.encoder import TransformerBlock
from minialbert_tf.export.bundle import write_bundle
from minialbert_tf.export.flatbuffer import compact
from minialbert_tf.export.graph import InferenceGraph
from minialbert_tf.export.quantize import quantize_weights
from minialbert_tf.export.recipes import RECIPES
from minialbert_tf.export.signatures import save_signatures, signature_name, tf_variable
from minialbert_tf.pretrained import new_block

BUCKETS = (32, 64, 128, 256, 512)
LABELS = ("O", "B-Chemical", "I-Chemical", "B-Disease", "I-Disease")
_BERT_LAYERS = 6


def make_files(folder: Path, tokenizer: ma.WordPieceTokenizer, onnx_site: Path | None) -> None:
    """Writes those of the files that are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    tf.keras.utils.set_random_seed(0)
    sizes: dict[str, Any] = {"vocab_size": len(tokenizer.vocabulary), "id2label": dict(enumerate(LABELS))}
    model = ma.MiniAlbertForTokenClassification(ma.MiniAlbertConfig(**sizes))
    model.tokenizer = tokenizer

    def ours(quantization: str, lengths: Sequence[int]) -> Callable[[Path], object]:
        return lambda path: ma.export.export_tflite(
            model, path, quantization=quantization, sequence_lengths=lengths, force_quality=True
        )

    makers: dict[str, Callable[[Path], object]] = {
        "ours_int8.tflite": ours("int8", BUCKETS),
        "ours_int8_one.tflite": ours("int8", (LENGTH,)),
        "ours_int4.tflite": ours("int4", BUCKETS),
        "ours_float_one.tflite": ours("none", (LENGTH,)),
        "plain.tflite": lambda path: path.write_bytes(plainly_converted(model, BUCKETS)),
        "plain_128.tflite": lambda path: path.write_bytes(plainly_converted(model, (LENGTH,))),
        "plain_512.tflite": lambda path: path.write_bytes(plainly_converted(model, BUCKETS[-1:])),
        "bert.tflite": lambda path: write_bert(path, tokenizer, sizes),
        "products.tflite": lambda path: path.write_bytes(products()),
    }
    if onnx_site:
        makers["onnx_int8.onnx"] = lambda path: write_onnx(path, model, onnx_site)
        makers["products.onnx"] = lambda path: write_onnx_products(path, onnx_site)
    for name, make in makers.items():
        if not (folder / name).exists():
            print(f"making {name}", file=sys.stderr)
            make(folder / name)


def _signature(model: Any, length: int | None) -> Any:
    ids, mask = (tf.TensorSpec((1, length), tf.int32, name=name) for name in ("input_ids", "attention_mask"))

    @tf.function(input_signature=[ids, mask])
    def run(input_ids: tf.Tensor, attention_mask: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"logits": model({"input_ids": input_ids, "attention_mask": attention_mask}, training=False)}

    return run


def _converted(signatures: dict[str, Any], weights: Sequence[Any]) -> bytes:
    """Returns what TensorFlow's converter makes of a SavedModel, quantised by its dynamic range recipe."""
    module = tf.Module()
    module.weights = [tf_variable(variable) for variable in weights]
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(signatures))
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        return converter.convert()


def plainly_converted(model: Any, lengths: Sequence[int]) -> bytes:
    """Returns the Keras model as it is through the converter, with a signature for each length."""
    return _converted({signature_name(length): _signature(model, length) for length in lengths}, model.variables)


class _UnsharedGraph(InferenceGraph):
    """The exporter's graph with blocks of their own in place of the one that repeats."""

    def __init__(self, model: ma.MiniAlbertForTokenClassification, blocks: Sequence[TransformerBlock]) -> None:
        super().__init__(model, recursions=1, loop=False, scale_rows=True)
        self._blocks = blocks
        for block in blocks:
            self.variables += [tf_variable(variable) for variable in block.variables]

    def _unroll(self, hidden: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        for block in self._blocks:
            self._block = block
            hidden = super()._unroll(hidden, bias)
        return hidden


def write_bert(path: Path, tokenizer: ma.WordPieceTokenizer, sizes: dict[str, Any]) -> None:
    """Writes a BERT of the same width and depth, exported as ours is."""
    config = ma.MiniAlbertConfig(**sizes, embedding_size=768, use_adapter=False)
    model = ma.MiniAlbertForTokenClassification(config)
    blocks = [new_block(config, name=f"layer_{number}") for number in range(_BERT_LAYERS)]
    for block in blocks:
        block.build()
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder) / "saved_model"
        save_signatures(_UnsharedGraph(model, blocks), saved, BUCKETS, dynamic=False)
        keys = [signature_name(length) for length in BUCKETS]
        flatbuffer = tf.lite.TFLiteConverter.from_saved_model(str(saved), signature_keys=keys).convert()
    write_bundle(
        path,
        compact(quantize_weights(flatbuffer, RECIPES["int8"])),
        task="token-classification",
        labels=LABELS,
        sequence_lengths=BUCKETS,
        quantization="int8",
        tokenizer=tokenizer,
        config=config.to_dict(),
        force=True,
    )


def products() -> bytes:
    """Returns one product with 8-bit weights for each of `PRODUCT_ROWS`, all with the same matrix."""
    matrix = tf.Variable(np.random.default_rng(0).normal(size=(PRODUCT_WIDTH, PRODUCT_WIDTH)).astype(np.float32))

    def product(rows: int) -> Any:
        @tf.function(input_signature=[tf.TensorSpec((rows, PRODUCT_WIDTH), tf.float32, name="inputs")])
        def run(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"outputs": tf.matmul(inputs, matrix)}

        return run

    return _converted({signature_name(rows): product(rows) for rows in PRODUCT_ROWS}, [matrix])


def write_onnx(path: Path, model: Any, site: Path) -> None:
    """Writes the Keras model through tf2onnx, quantised by ONNX Runtime's dynamic range recipe."""
    sys.path.append(str(site))
    import tf2onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    def erfc(graph: Any, node: Any, name: str, args: Any) -> None:
        """Converts 1 - erf(x), TensorFlow's form of the exact GELU, which tf2onnx does not know."""
        node.type, node.domain = "Erf", ""
        one = graph.make_const(f"{name}/one", np.array(1, np.float32))
        negative = graph.insert_new_node_on_output("Neg", node.output[0], name=f"{name}/negative")
        sum_ = graph.make_node("Add", [negative.output[0], one.output[0]], name=f"{name}/sum")
        others = [each for each in graph.get_nodes() if each is not sum_]
        graph.replace_all_inputs(negative.output[0], sum_.output[0], ops=others)

    function = _signature(model, None)
    with tempfile.TemporaryDirectory() as folder:
        in_floats = f"{folder}/float.onnx"
        tf2onnx.convert.from_function(
            function, function.input_signature, opset=17, output_path=in_floats, custom_op_handlers={"Erfc": (erfc, [])}
        )
        quantize_dynamic(in_floats, path, weight_type=QuantType.QInt8)


def write_onnx_products(path: Path, site: Path) -> None:
    """Writes an 8-bit product of any number of rows."""
    sys.path.append(str(site))
    from onnx import TensorProto, checker, helper, numpy_helper, save

    matrix = np.random.default_rng(0).integers(-127, 128, (PRODUCT_WIDTH, PRODUCT_WIDTH)).astype(np.int8)
    inputs = helper.make_tensor_value_info("inputs", TensorProto.UINT8, [None, PRODUCT_WIDTH])
    outputs = helper.make_tensor_value_info("outputs", TensorProto.INT32, [None, PRODUCT_WIDTH])
    node = helper.make_node("MatMulInteger", ["inputs", "matrix"], ["outputs"])
    graph = helper.make_graph([node], "product", [inputs], [outputs], [numpy_helper.from_array(matrix, "matrix")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    save(model, path)
