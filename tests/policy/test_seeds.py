import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from solver.policy.seeds import prune_seed, trajectory_seed


def test_seeds_are_pinned() -> None:
    # Changing these changes every recorded run.
    assert trajectory_seed(0, "p1", 0) == 8_730_030_550_915_766_471
    assert trajectory_seed(7, "aufgabe-ü", 23) == 6_867_844_530_057_687_525


def test_a_choice_at_the_mark_has_a_seed_of_no_trajectory() -> None:
    assert prune_seed(0, "p1") == trajectory_seed(0, "p1", -1)
    assert prune_seed(0, "p1", draw=2) == trajectory_seed(0, "p1", -3)


def test_another_process_draws_the_same() -> None:
    code = "from solver.policy.seeds import trajectory_seed as s; print(s(3, 'p', 4))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(shown.stdout) == trajectory_seed(3, "p", 4)


@given(st.integers(0), st.text(), st.integers(0))
def test_seeds_are_63_bits(run_seed: int, problem_id: str, index: int) -> None:
    assert 0 <= trajectory_seed(run_seed, problem_id, index) < 2**63


def test_seeds_differ_in_every_part() -> None:
    names = [(s, p, i) for s in (0, 1, 11) for p in ("", "1", "1,1", "p") for i in range(64)]
    assert len({trajectory_seed(*name) for name in names}) == len(names)
