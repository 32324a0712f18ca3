"""inspect: what a file is."""

from __future__ import annotations

import json
import re
from pathlib import Path

from safetensors import safe_open

from tests.cli.conftest import done, refused, wanrun
from tests.modelfile.files import save, transformer


def test_a_transformer(parts: Path) -> None:
    text = done("inspect", parts / "wan-high_noise.safetensors")
    for row in (
        r"    format +safetensors",
        r"    kind +diffusion",
        r"    variant +wan \(custom\)",
        r"    role \(by its name\) +high_noise",
        r"    latent channels +16",
        r"    text width +64",
        r"    layers +2",
        r"    heads +1",
        r"    F16 +18 tensors +.*K +\d+ KB",
    ):
        assert re.search(f"^{row}$", text, re.MULTILINE), row
    assert "patch_embedding" not in text


def test_tensors_and_json(parts: Path) -> None:
    path = parts / "wan-low_noise.safetensors"
    assert re.search(
        r"^    patch_embedding.weight +F16 +\[128, 16, 1, 2, 2\]$", done("inspect", path, "--tensors"), re.M
    )
    record = json.loads(done("inspect", path, "--json", "--tensors"))
    with safe_open(path, "np") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    assert {tensor["name"]: tensor["shape"] for tensor in record["tensors"]} == shapes
    elements = sum(tensor.size for tensor in map(safe_open(path, "np").get_tensor, shapes))
    assert (record["parameters"], record["size"]) == (elements, path.stat().st_size)
    assert record["types"] == [
        {"type": "F16", "tensors": len(shapes), "elements": elements, "nbytes": 2 * elements}
    ]
    assert (record["kind"], record["expert"], record["width"]) == ("diffusion", "low_noise", 128)
    assert "tensors" not in json.loads(done("inspect", path, "--json"))


def test_a_gguf(parts: Path) -> None:
    record = json.loads(done("inspect", parts / "umt5.gguf", "--json"))
    assert (record["format"], record["architecture"], record["kind"]) == ("gguf", "t5encoder", "text_encoder")


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    shapes = transformer()
    del shapes["patch_embedding.weight"]
    result = wanrun("inspect", save(tmp_path / "a.safetensors", shapes))
    assert result.exit_code == 0
    assert "cannot be used: patch_embedding.weight is missing" in result.stderr


def test_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF\xff")
    assert str(tmp_path / "a.gguf") in refused("inspect", tmp_path / "a.gguf")
    assert "no such file" in refused("inspect", tmp_path / "b.gguf")
    refused("inspect", tmp_path)
