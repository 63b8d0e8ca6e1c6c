"""Run the command line: `python -m solver.embedded`."""

import sys

from solver.embedded.cli import main

if __name__ == "__main__":
    sys.exit(main())
