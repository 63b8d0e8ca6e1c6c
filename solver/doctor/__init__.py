"""`python -m solver.doctor`: is this machine fit for a run, and if not, what to do about it?

finding.py                        one line of the table
machine.py packages.py            what is judged from plain facts: pure functions
memory.py weights.py              what a model needs, from its files
facts.py                          the facts of this machine
trials.py                         what is found out by trying: a kernel, a tokenizer, vLLM's flags
examination.py                    which checks a config asks for; none of them can crash it
__main__.py                       the command line
"""
