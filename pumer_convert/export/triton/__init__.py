"""Exported model -> model repository for Triton Inference Server."""

from pumer_convert.export.triton.repository import export_triton

__all__ = ["export_triton"]
