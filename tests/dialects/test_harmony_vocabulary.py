"""Finding the vocabulary of gpt-oss on a machine without internet."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from solver.dialects import harmony_vocabulary
from solver.dialects.harmony_vocabulary import FILE_NAME, find_vocabulary, load_encoding
from solver.errors import ConfigError
from tests.support.harmony import dialect

dialect()  # skips where there is no vocabulary to find
library = pytest.importorskip("openai_harmony")


@pytest.fixture(scope="session")
def vocabulary() -> Path:
    found = find_vocabulary(None)
    if found is None:
        pytest.skip("the library carries the vocabulary, there is no file to find")
    return found


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which the file is nowhere; its folders are below the path given."""
    for name in ("TIKTOKEN_ENCODINGS_BASE", "TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "environment"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(harmony_vocabulary, "KAGGLE", tmp_path / "kaggle/input")
    return tmp_path


def put(vocabulary: Path, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(vocabulary, path)
    return path


@pytest.mark.parametrize(
    "place",
    [
        "environment/share/o200k_base.tiktoken",
        "home/.cache/o200k_base.tiktoken",
        "home/.cache/tiktoken/fb374d419588a4632f3f557e76b4b70aebbca790",
        "tmp/data-gym-cache/fb374d419588a4632f3f557e76b4b70aebbca790",
        "models/gpt-oss/o200k_base.tiktoken",
        "models/o200k_base.tiktoken",
        "models/tiktoken/o200k_base.tiktoken",
        "kaggle/input/vocabulary/o200k_base.tiktoken",
        "kaggle/input/vocabulary/encodings/o200k_base.tiktoken",
        "kaggle/input/datasets/owner/vocabulary/o200k_base.tiktoken",
        "kaggle/input/notebooks/owner/kernel/encodings/o200k_base.tiktoken",
        "kaggle/input/models/owner/gpt-oss/transformers/default/1/o200k_base.tiktoken",
        "kaggle/input/gpt-oss/transformers/default/1/o200k_base.tiktoken",
    ],
)
def test_places_where_it_is_found(place: str, vocabulary: Path, empty: Path) -> None:
    assert find_vocabulary(None, [empty / "models/gpt-oss"]) is None
    path = put(vocabulary, empty / place)
    assert find_vocabulary(None, [empty / "models/gpt-oss"]) == path


def test_the_librarys_own_variable_comes_first(
    vocabulary: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(vocabulary, empty / "environment/share" / FILE_NAME)
    path = put(vocabulary, empty / "mine" / FILE_NAME)
    monkeypatch.setenv("TIKTOKEN_ENCODINGS_BASE", str(path.parent))
    assert find_vocabulary(None) == path


def test_what_the_setting_names_is_taken_whatever_it_is_called(
    vocabulary: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_ENCODINGS_BASE", "/nowhere")
    path = put(vocabulary, empty / "mine/vocabulary.bin")
    assert load_encoding(str(path)).encode("assistant") == dialect()._encode("assistant")
    assert os.environ["TIKTOKEN_ENCODINGS_BASE"] == "/nowhere"
    path.rename(path.parent / FILE_NAME)
    assert find_vocabulary(str(path.parent)) == path.parent / FILE_NAME


def test_a_file_with_another_content_is_not_taken(vocabulary: Path, empty: Path) -> None:
    path = put(vocabulary, empty / "environment/share" / FILE_NAME)
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    assert find_vocabulary(None) is None
    with pytest.raises(ConfigError, match="its sha256 is not"):
        find_vocabulary(str(path))


def test_a_missing_file_is_one_line_that_says_where_to_get_it(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object) -> None:
        raise AssertionError("the library would ask the internet")

    monkeypatch.setattr(library, "load_harmony_encoding", asked)
    monkeypatch.setattr(harmony_vocabulary, "_library_carries_it", lambda: False)
    with pytest.raises(ConfigError) as refused:
        load_encoding(None)
    with pytest.raises(ConfigError) as not_there:
        load_encoding(str(empty / "typo"))
    for message in (str(refused.value), str(not_there.value)):
        assert "gpt-tokenizer@4.0.0" in message and "package/data/o200k_base.tiktoken" in message
        assert "harmony.vocabulary=FILE" in message
        assert "\n" not in message


def test_a_missing_library_is_one_line_that_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "openai_harmony", None)
    with pytest.raises(ConfigError, match=r"-m pip install .*\[harmony\]'"):
        load_encoding(None)
