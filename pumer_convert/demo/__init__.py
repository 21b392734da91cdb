"""The embedded demo: a tiny ViLT (6 layers, 12x12 patches) that knows a drawn world.

Made by tools/make_demo/train_demo.py.
"""

from pathlib import Path

CHECKPOINT = Path(__file__).parent / "checkpoint"
RECIPE = Path(__file__).parent / "demo.yaml"
