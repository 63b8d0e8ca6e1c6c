"""`python -m solver.stop`: collect examples, train, compare, plan and convert STOP adapters.

Mistakes of the user are one line on stderr and exit code 2; a training that ends without a usable
adapter is one line and exit code 1. torch is imported by a command that runs, not by --help.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence

import typer

from solver.errors import SolverError, UserError
from solver.stop.commands import ablate, collect, convert, evaluate, plan, train, verifier

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="STOP adapters: a learned score of prefixes.",
)

_EXIT_FAILED, _EXIT_USER_ERROR, _EXIT_INTERRUPTED = 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
            return int(app(args=argv, standalone_mode=False) or 0)
    except typer.TyperException as error:
        return _fail(error.format_message(), _EXIT_USER_ERROR)
    except UserError as error:
        return _fail(str(error), _EXIT_USER_ERROR)
    except SolverError as error:
        return _fail(str(error), _EXIT_FAILED)
    except (KeyboardInterrupt, typer.Abort):
        return _fail(
            "interrupted; a training goes on after its last epoch with --resume", _EXIT_INTERRUPTED
        )


app.command("collect", epilog=collect.EXAMPLE)(collect.collect_command)
app.command("train", epilog=train.EXAMPLE)(train.train_command)
app.command("train-verifier", epilog=verifier.EXAMPLE)(verifier.verifier_command)
app.command("evaluate", epilog=evaluate.EXAMPLE)(evaluate.evaluate_command)
app.command("ablate", epilog=ablate.EXAMPLE)(ablate.ablate_command)
app.command("plan", epilog=plan.EXAMPLE)(plan.plan_command)
app.command("convert", epilog=convert.EXAMPLE)(convert.convert_command)


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
