"""What a model takes of the disk."""

from pathlib import Path

from distilcse_cli.evaluation.footprint import bytes_on_disk


def test_the_bytes_of_a_model_leave_out_its_graphs(tmp_path: Path) -> None:
    for name, size in {"model.safetensors": 70, "1_Pooling/config.json": 5, "onnx/model.onnx": 900}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size)
    assert bytes_on_disk(tmp_path) == 75
    assert bytes_on_disk(tmp_path / "model.safetensors") == 70
