"""`python -m solver.doctor`: whether this machine can do a run, and what to change if it cannot.

finding.py                        one line of the table
machine.py packages.py            checks of plain facts: pure functions
memory.py weights.py              what a model needs, from its files
facts.py                          reads the facts of this machine
trials.py                         checks that try something: a kernel, a tokenizer, vLLM's flags
examination.py                    which checks a config needs; an exception in one becomes a finding
__main__.py                       the command line
"""
