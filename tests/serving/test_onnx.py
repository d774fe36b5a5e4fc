import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from distilcse_cli.config import EncodeSettings
from distilcse_cli.errors import DistilCSEError, ModelError, UsageError, VerdictError
from distilcse_cli.models.convert import convert
from distilcse_cli.models.embed import Embedder
from distilcse_cli.models.encoder import SentenceEncoder, load_encoder
from distilcse_cli.models.folder import save_student
from distilcse_cli.models.pooling import Dense
from distilcse_cli.models.reference import ModelRef
from distilcse_cli.runtime import Runtime
from distilcse_cli.serving import onnx_export, onnx_graph, onnx_int8
from distilcse_cli.serving.onnx_export import FLOAT, INT8, export_onnx
from distilcse_cli.serving.sample import uneven
from distilcse_cli.serving.settings import OnnxSettings

CPU = Runtime(device="cpu", dtype="float32", reason="test")
TEXTS = uneven(64)
STUDENTS = [  # architecture, pooling, further dense layer, unit length, inputs beside input_ids and attention_mask
    ("bert", "avg", False, True, ["token_type_ids"]),
    ("bert", "cls", True, True, ["token_type_ids"]),
    ("roberta", "cls", False, False, ["token_type_ids"]),
    ("distilbert", "avg_top2", False, True, []),
    ("mpnet", "last_token", True, False, []),
    ("modernbert", "weighted_mean", False, True, []),
]


def saved(encoder: SentenceEncoder, folder: Path, dtype: str = "float32") -> ModelRef:
    save_student(encoder, folder, card="", settings={}, dtype=dtype)
    return ModelRef(ref=str(folder))


def embed(file: Path, encoder: SentenceEncoder, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Token vectors and embeddings, by onnxruntime alone and the tokenizer of transformers."""
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    cut = {"padding": True, "truncation": True, "max_length": encoder.max_length, "return_tensors": "np"}
    batch = encoder.tokenizer(texts, **cut, return_token_type_ids=True)
    assert [one.name for one in session.get_outputs()] == ["last_hidden_state", "sentence_embedding"]
    return tuple(session.run(None, {one.name: batch[one.name] for one in session.get_inputs()}))  # type: ignore[return-value]


@pytest.mark.parametrize(("architecture", "pooling", "dense", "normalize", "more"), STUDENTS)
def test_the_graph_gives_our_embeddings_alone_and_in_a_padded_batch(
    architecture: str,
    pooling: str,
    dense: bool,
    normalize: bool,
    more: list[str],
    tiny: Callable[..., Path],
    tmp_path: Path,
) -> None:
    encoder = load_encoder(str(tiny(architecture)), pooler=pooling)
    layers = list(encoder.dense or ())
    torch.manual_seed(0)
    if dense:
        layers.append(Dense(torch.nn.Linear(16, 24, bias=False), "Identity"))
    encoder = SentenceEncoder(
        encoder.backbone,
        encoder.tokenizer,
        pooling=pooling,
        dense=layers,
        normalize=normalize,
        max_length=64,
        source="x",
    )
    student = saved(encoder, tmp_path / "student")
    report = export_onnx(student, TEXTS, OnnxSettings())
    encoder = student.load()
    assert report["float32"]["max_difference"] < 2e-6
    assert report["inputs"] == ["input_ids", "attention_mask", *more]
    file = tmp_path / "student" / FLOAT
    assert file.stat().st_size == report["float32"]["num_bytes"]
    ours = Embedder(encoder, CPU, EncodeSettings()).sentences(TEXTS)
    assert ours.shape[1] == report["width"] == (24 if dense else 16)
    np.testing.assert_allclose(embed(file, encoder, TEXTS)[1], ours, atol=5e-6)
    alone = [embed(file, encoder, [text])[1][0] for text in TEXTS[::9]]
    np.testing.assert_allclose(alone, ours[::9], atol=5e-6)


def test_the_first_output_is_what_transformers_gives_and_kinds_of_token_count(
    tiny: Callable[..., Path], tmp_path: Path
) -> None:
    student = saved(load_encoder(str(tiny("bert")), pooler="avg"), tmp_path / "student")
    export_onnx(student, TEXTS, OnnxSettings())
    backbone = load_encoder(str(tiny("bert")), pooler="avg").backbone
    ids = torch.arange(5, 25).view(2, 10)
    mask, kinds = torch.ones_like(ids), (ids % 3 == 0).long()
    given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": kinds}
    session = onnxruntime.InferenceSession(str(tmp_path / "student" / FLOAT))
    last = session.run(["last_hidden_state"], {name: tensor.numpy() for name, tensor in given.items()})[0]
    with torch.no_grad():
        np.testing.assert_allclose(last, backbone(**given).last_hidden_state.numpy(), atol=5e-6)


def test_every_runtime_of_the_last_years_reads_the_graph(tiny: Callable[..., Path], tmp_path: Path) -> None:
    student = saved(load_encoder(str(tiny("bert")), pooler="avg"), tmp_path / "student")
    report = export_onnx(student, TEXTS, OnnxSettings(int8=True, min_cosine=0.5))
    for name in (FLOAT, INT8):
        model = onnx.load(str(tmp_path / "student" / name))
        onnx.checker.check_model(model, full_check=name == FLOAT)
        assert {one.domain: one.version for one in model.opset_import}[""] == report["opset"] == 17
        assert model.ir_version <= 8
        axes = [
            [one.dim_param or one.dim_value for one in out.type.tensor_type.shape.dim] for out in model.graph.output
        ]
        assert axes == [["batch", "sequence", 16], ["batch", 16]]
        assert {one.key: one.value for one in model.metadata_props}["fingerprint"] == student.load().fingerprint


def test_a_static_student_and_one_of_few_tokens_in_half_precision(
    tiny: Callable[..., Path],
    tmp_path: Path,
    home: Path,  # noqa: ARG001
) -> None:
    static = saved(load_encoder(str(tiny("bert")), pooler="avg", static=True), tmp_path / "static")
    assert export_onnx(static, TEXTS, OnnxSettings())["inputs"] == ["input_ids", "attention_mask"]
    (tmp_path / "text.txt").write_text("the cat sleeps\na dog runs\n" * 20, encoding="utf-8")
    cut = tmp_path / "cut"
    convert(
        ModelRef(ref=str(tiny("bert")), pooler="avg"), cut, corpus=(str(tmp_path / "text.txt"),),
        vocab_size=150, save_dtype="float16", max_length=None,
    )  # fmt: skip
    report = export_onnx(ModelRef(ref=str(cut)), TEXTS, OnnxSettings())
    num_bytes = sum(4 * weight.numel() for weight in ModelRef(ref=str(cut)).load().parameters())
    assert report["float32"]["num_bytes"] > num_bytes  # in fp32, though the folder's weights take half of that


def test_a_row_of_a_table_keeps_its_own_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_int8, "_TABLE_ROWS", 3)
    table = np.array([[127.0, -1.0], [0.0, 0.0], [0.00127, 0.00001]], dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["rows"])],
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    small = onnx_int8.int8_graph(model)
    session = onnxruntime.InferenceSession(small.SerializeToString())
    # one scale of 1 for the whole table would make the last row zero
    np.testing.assert_allclose(session.run(None, {"ids": np.arange(3)})[0], table, rtol=1e-6)
    assert {one.data_type for one in small.graph.initializer} == {TensorProto.INT8, TensorProto.FLOAT}
    assert len(model.graph.initializer) == 1


def test_a_token_of_large_numbers_in_the_batch_costs_the_others_no_digits() -> None:
    matrix = np.array([[1.0, 0.0], [0.0, 1000.0]], dtype=np.float32)
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", "t", 2]) for name in ("rows", "out")]
    product = helper.make_node("MatMul", ["rows", "matrix"], ["out"])
    graph = helper.make_graph([product], "g", shapes[:1], shapes[1:], [numpy_helper.from_array(matrix, "matrix")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(onnx_int8.int8_graph(model).SerializeToString())
    rows = np.array([[[0.001, -0.0005], [100.0, 50.0], [0.0, 0.0]]], dtype=np.float32)
    # half of a 127th of a token's largest number is what rounding may cost
    np.testing.assert_allclose(session.run(None, {"rows": rows})[0], rows @ matrix, rtol=2 / 254)


def test_int8_that_is_too_far_off_is_refused_with_the_figure_and_nothing_is_written(
    tiny: Callable[..., Path], tmp_path: Path
) -> None:
    student = saved(load_encoder(str(tiny("bert")), pooler="avg"), tmp_path / "student")
    with pytest.raises(
        VerdictError, match=r"least cosine .* is 0\.\d{4} \(mean [01]\.\d{4}\), under --min-cosine 1: "
    ) as caught:
        export_onnx(student, TEXTS, OnnxSettings(int8=True, min_cosine=1.0))
    allowed = float(str(caught.value.hint).rpartition(" ")[2])
    assert not (tmp_path / "student" / "onnx").exists()
    assert export_onnx(student, TEXTS, OnnxSettings(int8=True, min_cosine=allowed))["int8"]["least_cosine"] >= allowed


def test_a_graph_that_differs_is_refused_and_nothing_is_written(
    tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = saved(load_encoder(str(tiny("bert")), pooler="avg"), tmp_path / "student")
    other = onnx_graph.float_graph(load_encoder(str(tiny("bert", seed=1)), pooler="avg"))
    monkeypatch.setattr(onnx_export, "float_graph", lambda _: other)
    with pytest.raises(ModelError, match=r"a bert, differs from torch by \d"):
        export_onnx(student, TEXTS, OnnxSettings())
    assert not (tmp_path / "student" / "onnx").exists()


def test_what_cannot_be_a_graph_is_said_before_any_work(
    tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_encoder(str(tiny("bert")), pooler="avg")
    encoder.reads_padding = True
    with pytest.raises(ModelError, match="reads the padding"):
        onnx_graph.float_graph(encoder)
    encoder.reads_padding = False
    monkeypatch.setattr(onnx_graph, "_LARGEST", 4 * encoder.num_parameters - 1)
    with pytest.raises(ModelError, match=r"a file of ONNX ends at 2\.1 GB"):
        onnx_graph.float_graph(encoder)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UsageError, match="onnxruntime, which is not installed") as caught:
        onnx_graph.require_onnx()
    assert "pip install" in str(caught.value.hint)
    with pytest.raises(DistilCSEError, match="--min-cosine goes with --int8 only"):
        OnnxSettings(min_cosine=0.9)
