"""`python -m surprisal_lm`: the program `surprisal`."""

import sys

from ._cli import main

sys.exit(main())
