"""`python -m solver.schema`: print the JSON Schema of a journal's lines."""

from __future__ import annotations

import sys

from solver.journal.schema import schema_text

if __name__ == "__main__":
    sys.stdout.write(schema_text())
