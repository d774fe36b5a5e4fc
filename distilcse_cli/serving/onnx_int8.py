"""A third of the size: an ONNX graph whose matrices and tables are 8-bit integers.

Each column of a matrix and each row of a table has a scale of its own, and so has each token: a token's numbers are
rounded where they enter a product. onnxruntime's own dynamic quantization has one scale for all tokens of a batch, so
there a row depends on the other sentences and on padding. Here it depends on its sentence alone, and is closer to
torch's. The layers after the pooling, which are small and decide the last digits, stay in fp32.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

_TABLE_ROWS = 1000
"""A table of fewer rows, such as that of positions, stays as it is: there is little to save."""
_LEAST = 1e-12
"""Scales are at least that, for tokens of zeros."""


def int8_graph(model: Any) -> Any:
    """Quantize a graph in fp32 (an `onnx.ModelProto`, left unchanged); the new one has its inputs and outputs."""
    import onnx

    quantized = onnx.ModelProto()
    quantized.CopyFrom(model)
    graph = quantized.graph
    rewriter = _Rewriter(graph)
    nodes = [new for node in model.graph.node for new in rewriter.rewrite(node)]
    del graph.node[:]
    graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    unused = [one for one in graph.initializer if one.name not in used]
    for one in unused:
        graph.initializer.remove(one)
    return quantized


class _Rewriter:
    """Replaces products by matrices and look-ups in tables by those of 8-bit integers."""

    def __init__(self, graph: Any) -> None:
        from onnx import numpy_helper

        self._graph = graph
        self._matrices = {one.name: one for one in graph.initializer if len(one.dims) == 2}
        self._rounded: set[str] = set()
        """Inputs of products, and matrices, that have their 8-bit form already."""
        constants: dict[str, np.ndarray] = {"int8_middle": np.array(128, np.uint8)}
        for name, value in (("int8_least", _LEAST), ("int8_step", 1 / 127)):
            constants[name] = np.array(value, np.float32)
        graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())

    def rewrite(self, node: Any) -> Iterator[Any]:
        """The nodes in the place of one."""
        from onnx import TensorProto

        number = {"Gather": 0, "MatMul": 1}.get(node.op_type)
        matrix = None if number is None else self._matrices.get(node.input[number])
        least_rows = _TABLE_ROWS if node.op_type == "Gather" else 1
        if matrix is None or matrix.data_type != TensorProto.FLOAT or matrix.dims[0] < least_rows:
            yield node
        elif node.op_type == "Gather":
            yield from self._look_up(matrix, node.input[1], node.output[0])
        else:
            yield from self._product(node.input[0], matrix, node.output[0])

    def _look_up(self, table: Any, ids: str, out: str) -> Iterator[Any]:
        from onnx import TensorProto, helper

        self._round(table, axis=1)
        yield helper.make_node("Gather", [f"{table.name}_int8", ids], [f"{out}_int8"])
        yield helper.make_node("Cast", [f"{out}_int8"], [f"{out}_cast"], to=TensorProto.FLOAT)
        yield helper.make_node("Gather", [f"{table.name}_scale", ids], [f"{out}_scale"])
        yield helper.make_node("Mul", [f"{out}_cast", f"{out}_scale"], [out])

    def _product(self, rows: str, matrix: Any, out: str) -> Iterator[Any]:
        from onnx import TensorProto, helper

        if rows not in self._rounded:  # query, key and value share theirs
            self._rounded.add(rows)
            yield helper.make_node("Abs", [rows], [f"{rows}_abs"])
            yield helper.make_node("ReduceMax", [f"{rows}_abs"], [f"{rows}_max"], axes=[-1], keepdims=1)
            yield helper.make_node("Max", [f"{rows}_max", "int8_least"], [f"{rows}_most"])
            yield helper.make_node("Reciprocal", [f"{rows}_most"], [f"{rows}_inverse"])
            yield helper.make_node("Mul", [rows, f"{rows}_inverse"], [f"{rows}_scaled"])
            yield helper.make_node("QuantizeLinear", [f"{rows}_scaled", "int8_step", "int8_middle"], [f"{rows}_uint8"])
            yield helper.make_node("Mul", [f"{rows}_most", "int8_step"], [f"{rows}_scale"])
        self._round(matrix, axis=0)
        yield helper.make_node(
            "MatMulInteger", [f"{rows}_uint8", f"{matrix.name}_int8", "int8_middle"], [f"{out}_int32"]
        )
        yield helper.make_node("Cast", [f"{out}_int32"], [f"{out}_cast"], to=TensorProto.FLOAT)
        # one after the other: onnxruntime would take a product of both scales for those of its own quantization
        yield helper.make_node("Mul", [f"{out}_cast", f"{matrix.name}_scale"], [f"{out}_by_column"])
        yield helper.make_node("Mul", [f"{out}_by_column", f"{rows}_scale"], [out])

    def _round(self, matrix: Any, *, axis: int) -> None:
        """Add the 8-bit form of a matrix to the graph, with a scale for each slice along `axis`."""
        from onnx import numpy_helper

        if matrix.name in self._rounded:
            return
        self._rounded.add(matrix.name)
        numbers = numpy_helper.to_array(matrix)
        scales = np.maximum(np.abs(numbers).max(axis=axis, keepdims=True) / 127, _LEAST).astype(np.float32)
        rounded = np.round(numbers / scales).astype(np.int8)
        self._graph.initializer.append(numpy_helper.from_array(rounded, f"{matrix.name}_int8"))
        self._graph.initializer.append(numpy_helper.from_array(scales, f"{matrix.name}_scale"))
