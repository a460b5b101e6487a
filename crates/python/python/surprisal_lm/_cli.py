"""The program `surprisal`."""

import signal
import sys


def main() -> int:
    """Runs the program with the arguments of this process; gives its exit code."""
    from ._native import main

    # The program has handlers of its own, which Python's would follow with an exception.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return main(["surprisal", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
