"""Whether a GGUF file was made from the model folder that an adapter was trained on.

A GGUF file of a model is another file, whose matrices are rounded; its norms are not. So an adapter keeps
`norms_fingerprint` of its base, the same for a model folder and every GGUF file made from it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from solver.errors import ModelError
from solver.files.gguf import GgufFile, gguf_name, is_gguf


def norms_fingerprint(model: Path) -> str | None:
    """The sha256 (hex) of the weights of every norm, of a model folder or GGUF file.

    Rounded to bfloat16, for folders are saved in it and GGUF files hold norms in float32.
    None for a model whose norms have other names. Raises `ModelError`.
    """
    found = _gguf_norms(GgufFile(model)) if is_gguf(model) else _folder_norms(model)
    if not found:
        return None
    import torch  # not before: a preset is chosen with this, also where there is nothing to load

    digest = hashlib.sha256()
    for name, weights in sorted(found.items()):
        digest.update(name.encode())
        digest.update(weights.bfloat16().view(torch.int16).numpy().tobytes())
    return digest.hexdigest()


def _gguf_norms(file: GgufFile) -> dict[str, Any]:
    import torch

    return {
        name: torch.from_numpy(tensor.rows())
        for name, tensor in file.tensors.items()
        if name.endswith("_norm.weight") and len(tensor.shape) == 1
    }


def _folder_norms(folder: Path) -> dict[str, Any]:
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - it is no dict
                    if name.endswith("norm.weight") and (place := gguf_name(name)) is not None:
                        found[place] = file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} is not a whole safetensors file: {error}") from None
    return found
