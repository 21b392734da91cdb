"""How fast the parameters of a family learn."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rates:
    """The learning rate of the body, and how many times as high it is in the head and the cross-modal layers."""

    body: float
    head: float
    cross_modal: float


UNPUBLISHED = Rates(1e-5, 1, 1)
"""For what nobody has published rates of, such as the reduced towers of dual encoders."""
