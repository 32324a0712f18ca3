"""The moments are those of diffusers' inputs, and an interrupted calibration ends as an undisturbed one."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray

import wanrun
from tests.bundles import Parts, make_parts
from wanrun import pipeline
from wanrun.cli.main import main
from wanrun.convert.calibrate import calibrate
from wanrun.convert.prompts import shipped
from wanrun.diffusion.experts import load
from wanrun.errors import InvalidRequest
from wanrun.evaluate.toy import suite
from wanrun.gguf.imatrix import Imatrix, merge, read_imatrix, write_imatrix
from wanrun.modelfile import grammar
from wanrun.request import resolve
from wanrun.sampling.noise import initial_noise
from wanrun.store.creation import create
from wanrun.store.store import open_store
from wanrun.types import Bundle, GenerationRequest
from wanrun.wan.requantize import Importance, quantize_transformer


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return make_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture
def bundle(parts: Parts) -> Bundle:
    create(open_store(), "tiny", grammar.read(parts.modelfile), parts.folder)
    return wanrun.load("tiny")


def requests(bundle: Bundle, count: int, **asked: object) -> list[GenerationRequest]:
    return [
        resolve(bundle, f"ball number {seed}", {"seed": seed, "precision": "fp32", **asked})
        for seed in range(count)
    ]


def test_the_moments_are_those_of_diffusers_inputs(parts: Parts, bundle: Bundle, tmp_path: Path) -> None:
    (request,) = requests(bundle, 1, steps=2, guidance=1, boundary=0.9)
    made = calibrate(bundle, [request], "balls", tmp_path / "unfinished", device="cpu")
    (conditioning,) = pipeline.encode_all(bundle, [request])
    seen: dict[str, NDArray[np.float32]] = {}

    def watch(name: str) -> None:
        module = parts.high.get_submodule(name)
        module.register_forward_pre_hook(lambda _, given: seen.__setitem__(name, given[0].detach().numpy()))

    ours = {
        "blocks.0.attn1.to_q": "blocks.0.self_attn.q",
        "blocks.0.attn2.to_out.0": "blocks.0.cross_attn.o",
        "blocks.1.attn1.to_out.0": "blocks.1.self_attn.o",
        "blocks.1.ffn.net.0.proj": "blocks.1.ffn.0",
        "blocks.1.ffn.net.2": "blocks.1.ffn.2",
        "condition_embedder.time_proj": "time_projection.1",
    }
    for name in ours:
        watch(name)
    rows = conditioning.positive
    padded = torch.cat([rows, rows.new_zeros(512 - len(rows), rows.shape[1])])[None]
    noise = initial_noise(request.latent_shape, request.seed)[None]
    parts.high(noise, torch.tensor([1000 * float(pipeline.sigmas(request)[0])]).long(), padded)
    for theirs, name in ours.items():
        found = made["high_noise"].moments[f"{name}.weight"]
        given = seen[theirs].reshape(-1, seen[theirs].shape[-1])
        assert found.count == len(given)
        assert np.allclose(found.sums, np.square(given).sum(0), rtol=1e-3)  # theirs has float32 angles
    assert made["high_noise"].chunks == made["low_noise"].chunks == 1
    assert made["high_noise"].moments.keys() == made["low_noise"].moments.keys()


def equal(first: dict[str, Imatrix], second: dict[str, Imatrix]) -> bool:
    return all(
        seen.count == second[role].moments[name].count
        and np.array_equal(seen.sums, second[role].moments[name].sums)
        for role, imatrix in first.items()
        for name, seen in imatrix.moments.items()
    )


def test_an_interrupted_calibration_goes_on(bundle: Bundle, tmp_path: Path) -> None:
    three, path = requests(bundle, 3), tmp_path / "unfinished"
    whole = calibrate(bundle, three, "balls", tmp_path / "other", device="cpu")

    def stop(phase: str, done: int, total: int) -> None:
        if (phase, done) == ("watching videos", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(bundle, three, "balls", path, stop, device="cpu")
    watched: list[int] = []
    resumed = calibrate(
        bundle, three, "balls", path,
        lambda phase, done, total: watched.append(done) if phase == "watching videos" else None, device="cpu",
    )  # fmt: skip
    assert watched == [3]
    assert equal(whole, resumed)
    assert not equal(whole, calibrate(bundle, three[:2], "balls", tmp_path / "less", device="cpu"))
    with pytest.raises(InvalidRequest, match="unfinished calibration"):
        calibrate(bundle, requests(bundle, 3, steps=5), "balls", path, device="cpu")


def test_an_expert_that_is_never_seen_is_an_error(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="low_noise was never used"):
        calibrate(bundle, requests(bundle, 1, steps=1), "balls", tmp_path / "unfinished", device="cpu")


def run(*arguments: object) -> str:
    result = CliRunner().invoke(main, ["calibrate", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def test_shares_of_the_work_add_up(tmp_path: Path) -> None:
    common = ("wan-toy", "--steps", 4, "--guidance", 1, "--limit", 2, "--seed", 5)
    run(*common, "--part", "1/2", "-o", tmp_path / "a.gguf")
    run(*common, "--part", "2/2", "-o", tmp_path / "b.gguf")
    parts = [tmp_path / f"{name}-high_noise.gguf" for name in "ab"]
    run("--merge", parts[0], "--merge", parts[1], "-o", tmp_path / "c.gguf")
    first, second, both = (read_imatrix(path) for path in (*parts, tmp_path / "c.gguf"))
    assert (both.chunks, both.datasets) == (2, ("toy",))
    for name, seen in both.moments.items():
        assert np.array_equal(seen.sums, first.moments[name].sums + second.moments[name].sums)
    shapes = {tensor.name: tensor.shape.tolist() for tensor in gguf.GGUFReader(parts[0]).tensors}
    assert shapes["blocks.3.ffn.2.weight.in_sum2"] == [1024]
    left = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert left == {"c.gguf", *(f"{name}-{role}_noise.gguf" for name in "ab" for role in ("high", "low"))}


def test_the_command_replaces_nothing_unasked(tmp_path: Path) -> None:
    taken = tmp_path / "i-low_noise.gguf"
    taken.write_bytes(b"mine")
    for arguments in (["wan-toy"], ["--merge", str(taken)], ["wan-toy", "--merge", str(taken)], []):
        command = ["calibrate", *arguments, "-o", str(tmp_path / "i.gguf")]
        assert CliRunner().invoke(main, command).exit_code in (1, 2)
    assert taken.read_bytes() == b"mine"


def test_products_are_kept_for_compensation(bundle: Bundle, tmp_path: Path) -> None:
    (request,) = requests(bundle, 1)
    path = tmp_path / "unfinished"
    made = calibrate(bundle, [request], "balls", path, device="cpu")
    seen = made["high_noise"].moments["blocks.0.ffn.2.weight"]
    assert seen.products is not None
    assert seen.products.shape == (2, 256, 256)
    assert np.allclose(seen.products.diagonal(axis1=1, axis2=2).ravel(), seen.sums, rtol=1e-3)
    assert np.linalg.eigvalsh(seen.products.astype(float)).min() > -1e-3 * seen.sums.max()
    write_imatrix(path, made["high_noise"])
    again = read_imatrix(path).moments["blocks.0.ffn.2.weight"].products
    assert again is not None
    assert np.array_equal(again, seen.products)
    both = merge([made["high_noise"], made["high_noise"]]).moments["blocks.0.ffn.2.weight"].products
    assert both is not None
    assert np.array_equal(both, 2 * seen.products)
    plain = calibrate(bundle, [request], "balls", tmp_path / "plain", device="cpu", pairs=False)
    assert all(moments.products is None for moments in plain["high_noise"].moments.values())
    assert equal(made, plain)


def test_calibrated_files_lose_less(tmp_path: Path) -> None:
    """On a prompt and a noise level that calibration did not see, with a type that keeps to its size."""
    toy = wanrun.load("wan-toy")
    settings = {"precision": "fp32", "steps": 4, "guidance": 1}
    seen = [resolve(toy, prompt, {**settings, "seed": 1}) for prompt in shipped("toy")[:4]]
    made = calibrate(toy, seen, "toy", tmp_path / "unfinished", device="cpu")["low_noise"]
    request = resolve(toy, suite()[0].prompt, {**settings, "seed": 0})
    (conditioning,) = pipeline.encode_all(toy, [request])
    source = toy.experts["low_noise"].path

    def velocity(path: Path) -> torch.Tensor:
        with load({"diffusion": path}, device="cpu", precision="fp32") as denoiser:
            return denoiser.velocity(latents, 550.0, conditioning.positive)

    with pipeline.open_denoiser(toy, request, "cpu") as denoiser:
        clean = pipeline.denoise(denoiser, request, conditioning)
    latents = 0.45 * clean + 0.55 * initial_noise(request.latent_shape, 99)
    errors = []
    for index, importance in enumerate((None, Importance(made))):
        path = tmp_path / f"{index}.gguf"
        quantize_transformer(source, path, "Q5_K_S", pipeline.silent, importance, (("*", "Q4_K"),))
        errors.append(float((velocity(path) - velocity(source)).norm()))
    assert errors[1] < 0.9 * errors[0]
    sizes = [(tmp_path / f"{index}.gguf").stat().st_size for index in range(2)]
    assert abs(sizes[1] - sizes[0]) < 1000  # the name of the importance matrix
