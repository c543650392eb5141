"""A model as ONNX: its StableHLO program, operation by operation (`operators/`), as a graph that other programs run."""

from fairyring.runs.onnx.translation import to_onnx

__all__ = ["to_onnx"]
