#!/usr/bin/python3
"""A short soak (soak.py): twenty seconds of everything at once. `make soak MINUTES=30` runs the same for longer."""
import os

os.environ.setdefault("SOAK_SECONDS", "20")

from harness import main
from soak import everything_at_once_loses_nothing

main(everything_at_once_loses_nothing)
