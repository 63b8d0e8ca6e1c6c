"""Submissions to Kaggle's AIMO competitions, and timed rehearsals of them; see docs/kaggle.md.

    kaggle.py         serve(): what a notebook calls
    competitions.py settings.py paths.py servers.py     what is served, and where things lie
    predict.py outcome.py frames.py rowlog.py            one row in, one row out, always in time
    supervisor.py child.py protocol.py                   supervises the solver's process
    worker.py pipes.py votes.py guard.py faults.py       that process, and what must die with it
    gateway.py standin.py wire.py                        a stand-in for Kaggle's side
    dryrun.py rehearsal.py checking.py timeline.py       timed dry runs
    headless.py realgateway.py                           ... of a notebook, of Kaggle's own package
    notebook.py wheelhouse.py pip.py pagecache.py        the notebook, and the wheels it installs

The parent (the notebook) imports neither torch nor a model, so that no failure of the worker ends it.
"""
