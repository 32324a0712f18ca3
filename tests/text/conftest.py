"""Makes the encoder and the vocabularies that the tests of this folder share, once per run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.text.tiny import CONFIG, TRAINERS, reference_encoder, train_vocabulary
from wanrun.convert.umt5 import convert_umt5
from wanrun.text.umt5 import UMT5Encoder, load


@pytest.fixture(scope="session")
def vocabularies() -> dict[str, bytes]:
    return {name: train_vocabulary(name) for name in TRAINERS}


@pytest.fixture(scope="session")
def reference() -> Any:
    return reference_encoder()


@pytest.fixture(scope="session")
def encoder_files(
    vocabularies: dict[str, bytes], reference: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """One F32 encoder per vocabulary."""
    folder = tmp_path_factory.mktemp("encoders")
    files = {}
    for name, model in vocabularies.items():
        files[name] = folder / f"{name}.gguf"
        convert_umt5(reference.state_dict(), CONFIG, model, files[name], "F32")
    return files


@pytest.fixture(scope="session")
def encoder_file(encoder_files: dict[str, Path]) -> Path:
    return encoder_files["nmt_nfkc"]


@pytest.fixture
def encoder(encoder_file: Path) -> Iterator[UMT5Encoder]:
    with load(encoder_file, threads=1, timeout_s=120) as loaded:
        yield loaded
