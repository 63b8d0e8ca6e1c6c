# %% [markdown]
# # stop-solver: a submission
#
# Built from `notebook/submission.py` by `python -m submissions.notebook build`; edit that, not this.
# Attach the wheels, the model and the competition, choose the preset below, run, submit.

# %%
import time

STARTED_AT = time.time()  # the time limit counts from here

COMPETITION = "aimo3"
PRESET = "gpt-oss-120b"  # of the solver; "embedded" needs no model and no GPU
MODEL = "gpt-oss-120b"  # name of the attached model, or "embedded"
SETTINGS = []  # any setting of the solver, such as "prune.launch=16"
TIME_LIMIT = "4h50m"  # of the five hours: the rest is Kaggle's start before the first cell
WARM_UP = True  # read the weights into memory in the background

# %% [markdown]
# Install from the attached wheels; there is no internet.

# %%
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

# A rehearsal (python -m submissions.dryrun) names its own input folder.
INPUT = Path(
    json.loads(os.environ.get("STOP_SOLVER_REHEARSAL", "{}")).get("input", "/kaggle/input")
)


def find_wheelhouse(root):
    """The attached folder with our MANIFEST.json, and its content; None if there is none."""
    for depth in range(1, 6):  # <slug>, datasets/<owner>/<slug>, notebooks/<owner>/<slug>, ...
        for path in sorted(root.glob("*/" * depth + "MANIFEST.json")):
            try:
                manifest = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            if isinstance(manifest, dict) and str(manifest.get("requirement", "")).startswith(
                "stop-solver"
            ):
                return path.parent, manifest
    return None


def attached_folders(root):
    """The attached folders, three levels deep."""
    return sorted(str(path) for depth in (1, 2, 3) for path in root.glob("*/" * depth))[:60]


def install(root):
    """Install the solver offline; without attached wheels use the one that is installed."""
    found = find_wheelhouse(root)
    if found is None:
        if importlib.util.find_spec("solver") is None:
            raise RuntimeError(f"no wheelhouse is attached; {root} holds {attached_folders(root)}")
        return "no wheelhouse is attached: the solver that is installed is used"
    folder, manifest = found
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    if manifest["python"] != running:
        raise RuntimeError(f"{folder} is for Python {manifest['python']}, this is {running}")
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--find-links", str(folder)]
    # Compiling all of torch and vLLM takes minutes; modules are compiled when they are imported.
    command += ["--no-compile", "--quiet", "--disable-pip-version-check", manifest["requirement"]]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"pip could not install from {folder}: {done.stderr[-3000:]}")
    importlib.invalidate_caches()
    return f"installed {manifest['requirement']} from {folder}"


print(install(INPUT), f"({time.time() - STARTED_AT:.0f} s)")

# %% [markdown]
# Start reading the weights, in the background.

# %%
from submissions.pagecache import warm_up
from submissions.paths import MODEL_FILES, attached, located

if Path("/usr/local/cuda/bin/ptxas").exists():
    os.environ.setdefault("TRITON_PTXAS_PATH", "/usr/local/cuda/bin/ptxas")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

MODEL_FOLDER = None if MODEL == "embedded" else attached(MODEL, MODEL_FILES, INPUT)
if MODEL_FOLDER is not None and WARM_UP:
    warm_up(MODEL_FOLDER)
print("model:", MODEL_FOLDER or MODEL)

# %% [markdown]
# Check the machine when the notebook is saved; not in the scored run.

# %%
if not {"KAGGLE_IS_COMPETITION_RERUN", "STOP_SOLVER_REHEARSAL"} & os.environ.keys():
    command = [sys.executable, "-m", "solver.doctor", "--deep", "--preset", PRESET]
    command += [word for setting in located(SETTINGS, INPUT) for word in ("--set", setting)]
    command += ["--model", str(MODEL_FOLDER or MODEL)]
    shown = {"FORCE_COLOR": "1", "COLUMNS": "115"}  # as a notebook shows tables
    report = subprocess.run(command, capture_output=True, text=True, env=os.environ | shown)
    print(report.stdout, report.stderr)

# %% [markdown]
# Answer every problem. In the scored run, this cell never returns.

# %%
from submissions.kaggle import serve

serve(
    COMPETITION,
    preset=PRESET,
    sets=[f"model.path={MODEL}", *SETTINGS],
    time_limit=TIME_LIMIT,
    started_at=STARTED_AT,
)

# %% [markdown]
# The answers of a saved run.

# %%
if Path("submission.parquet").exists():
    import polars

    print(polars.read_parquet("submission.parquet"))
