"""`python -m surprisal_lm`: the program `surprisal`."""

import sys

from ._cli import main

if __name__ == "__main__":
    sys.exit(main())
