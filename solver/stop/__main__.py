"""`python -m solver.stop`: collect examples, train, compare, plan and convert STOP adapters.

Mistakes of the user are one line on stderr and exit code 2; a training that ends without a usable
adapter is one line and exit code 1. torch is imported by a command that runs, not by --help.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from solver.cli.app import EXIT_FAILED, quiet_libraries, run_app
from solver.distributed.hands import with_address
from solver.stop.commands import (
    ablate,
    collect,
    convert,
    evaluate,
    merge,
    plan,
    publish,
    restore,
    train,
    transfer,
    verifier,
)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="STOP adapters: a learned score of prefixes.",
)


def main(argv: Sequence[str] | None = None, *, prog: str | None = None) -> int:
    """Run the command and return its exit code."""
    with quiet_libraries():
        return run_app(
            app,
            with_address(argv),
            prog=prog,
            interrupted="error: interrupted; a training goes on with --resume",
            failed=EXIT_FAILED,
        )


app.command("collect", epilog=collect.EXAMPLE)(collect.collect_command)
app.command("merge", epilog=merge.EXAMPLE)(merge.merge_command)
app.command("train", epilog=train.EXAMPLE)(train.train_command)
app.command("train-verifier", epilog=verifier.EXAMPLE)(verifier.verifier_command)
app.command("evaluate", epilog=evaluate.EXAMPLE)(evaluate.evaluate_command)
app.command("publish", epilog=publish.EXAMPLE)(publish.publish_command)
app.command("restore", epilog=restore.EXAMPLE)(restore.restore_command)
app.command("transfer", epilog=transfer.EXAMPLE)(transfer.transfer_command)
app.command("ablate", epilog=ablate.EXAMPLE)(ablate.ablate_command)
app.command("plan", epilog=plan.EXAMPLE)(plan.plan_command)
app.command("convert", epilog=convert.EXAMPLE)(convert.convert_command)


if __name__ == "__main__":
    sys.exit(main())
