"""`python -m inferscale_operator` is `inferscale run`."""

from __future__ import annotations

import sys

from inferscale_operator.cli import main

main(["run", *sys.argv[1:]])
