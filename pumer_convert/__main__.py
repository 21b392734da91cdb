"""`python -m pumer_convert`, which launchers such as `accelerate launch -m` and `torchrun -m` start."""

from pumer_convert.cli import main

main()
