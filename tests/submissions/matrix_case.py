"""`python matrix_case.py CASE OUT`: one case on the scripted worker; prints what does not hold."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from submissions.matrix import CASES, run_case
from submissions.timeline import timeline_of
from tests.support.submissions import plan, problems_file


def main() -> None:
    name, out = sys.argv[1], Path(sys.argv[2])
    (case,) = (case for case in CASES if case.name == name)
    file = problems_file(out / "p.csv", range(100, 110))
    run, faults = run_case(case, plan(out, file))
    answered = timeline_of(run.log).answered
    print(json.dumps({"faults": faults, "failure": run.failure, "took": run.took_s,
                      "rows": [(row.how, row.answer, row.degraded) for row in answered]}))  # fmt: skip


if __name__ == "__main__":
    main()
