"""Run the command line: `python -m solver.embedded`."""

from solver.embedded.cli import main

if __name__ == "__main__":
    main()
