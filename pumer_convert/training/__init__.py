"""The second stage: a short finetune of the reduced model, taught by the dense one (distill.py)."""
