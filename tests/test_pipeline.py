"""A whole run: against diffusers' pipeline on the same weights and noise, repeated, and refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UniPCMultistepScheduler, WanPipeline

import wanrun
from tests.bundles import Parts, make_parts
from tests.modelfile.files import lora, save
from wanrun import pipeline
from wanrun.errors import InvalidRequest, ModelNotFound
from wanrun.modelfile import grammar
from wanrun.request import resolve
from wanrun.sampling.noise import initial_noise
from wanrun.store.creation import create
from wanrun.store.store import open_store
from wanrun.types import Bundle

PROMPT = "a red ball bouncing on a blue surface"


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return make_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture
def bundle(parts: Parts) -> Bundle:
    store = open_store()
    create(store, "tiny", grammar.read(parts.modelfile), parts.folder)
    return wanrun.load("tiny")


class OfficialSigmas(UniPCMultistepScheduler):  # type: ignore[misc]  # diffusers has no types
    """diffusers' solver on a given list: its own differs a little from the official code's."""

    official: torch.Tensor

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        super().set_timesteps(num_inference_steps, device=device)
        self.sigmas = self.official.float()
        self.timesteps = (1000 * self.official[:-1]).to(torch.int64)


def test_the_video_equals_diffusers_pipeline(parts: Parts, bundle: Bundle) -> None:
    request = resolve(bundle, PROMPT, {"seed": 11})
    with pipeline.open_encoder(bundle) as encoder:
        conditioning = pipeline.encode(encoder, request)
    assert conditioning.negative is not None
    scheduler = OfficialSigmas(
        prediction_type="flow_prediction", use_flow_sigmas=True, solver_order=2, flow_shift=request.shift
    )
    scheduler.official = torch.tensor(pipeline.sigmas(request), dtype=torch.float64)
    theirs = WanPipeline(
        tokenizer=None, text_encoder=None, vae=parts.vae, scheduler=scheduler,
        transformer=parts.high, transformer_2=parts.low, boundary_ratio=0.875,
    )  # fmt: skip
    theirs.set_progress_bar_config(disable=True)

    def padded(rows: torch.Tensor) -> torch.Tensor:
        return torch.cat([rows, rows.new_zeros(512 - len(rows), rows.shape[1])])[None]

    expected = theirs(
        prompt_embeds=padded(conditioning.positive),
        negative_prompt_embeds=padded(conditioning.negative),
        height=request.height, width=request.width, num_frames=request.frames,
        num_inference_steps=request.steps, guidance_scale=request.guidance_high,
        guidance_scale_2=request.guidance_low, latents=initial_noise(request.latent_shape, 11)[None],
        output_type="np",
    ).frames[0]  # fmt: skip
    frames = np.stack(list(pipeline.run(bundle, request))) / 255
    assert frames.shape == expected.shape == (9, 32, 32, 3)
    assert expected.std() > 0.05
    psnr = -10 * math.log10(float(np.mean((frames - expected) ** 2)))
    assert psnr >= 45


def test_a_seed_decides_the_frames(bundle: Bundle) -> None:
    first = wanrun.generate(bundle, PROMPT, seed=1, steps=2)
    again = wanrun.generate("tiny", PROMPT, seed=1, steps=2)
    other = wanrun.generate(bundle, PROMPT, seed=2, steps=2)
    assert [frame.tobytes() for frame in first.frames] == [frame.tobytes() for frame in again.frames]
    assert [frame.tobytes() for frame in first.frames] != [frame.tobytes() for frame in other.frames]


def test_options_of_sampler_and_schedule_decide_and_are_written_down(bundle: Bundle) -> None:
    asked: dict[str, Any] = {"seed": 1, "schedule": "custom:1,0.9,0.5,0"}
    first = wanrun.generate(bundle, PROMPT, sampler="ddim:eta=0.5", **asked)
    again = wanrun.generate(bundle, PROMPT, sampler="DDIM:ETA=0.5", **asked)
    plain = wanrun.generate(bundle, PROMPT, sampler="ddim", **asked)
    assert first.provenance["request"]["sampler"] == "ddim:eta=0.5"
    assert first.provenance["request"]["steps"] == 3
    assert first.provenance["sigmas"] == [1.0, 0.9, 0.5, 0.0]
    assert [frame.tobytes() for frame in first.frames] == [frame.tobytes() for frame in again.frames]
    assert [frame.tobytes() for frame in first.frames] != [frame.tobytes() for frame in plain.frames]


def test_a_sampler_that_needs_fewer_steps_ends_its_progress(bundle: Bundle) -> None:
    seen: list[tuple[str, int, int]] = []
    wanrun.generate(
        bundle, PROMPT, seed=1, steps=30, sampler="adaptive:tolerance=1", schedule="linear", guidance=1.0,
        progress=lambda *step: seen.append(step),
    )  # fmt: skip
    steps = [done for phase, done, total in seen if phase == "denoise" and total == 30]
    assert steps[-1] == 30
    assert steps[-2] < 20
    assert steps == sorted(steps)


def test_the_prompt_and_the_negative_prompt_change_the_frames(bundle: Bundle) -> None:
    def frames(prompt: str, **asked: Any) -> bytes:
        return b"".join(f.tobytes() for f in wanrun.generate(bundle, prompt, seed=1, steps=2, **asked).frames)

    assert frames(PROMPT) != frames("a green star")
    assert frames(PROMPT) != frames(PROMPT, negative="dark")
    assert frames(PROMPT, guidance=1) == frames(PROMPT, guidance=1, negative="dark")


def test_progress_tells_every_phase_to_its_end(bundle: Bundle) -> None:
    seen: dict[str, list[tuple[int, int]]] = {}
    request = resolve(bundle, PROMPT, {"steps": 3})
    for _ in pipeline.run(
        bundle, request, lambda phase, done, total: seen.setdefault(phase, []).append((done, total))
    ):
        pass
    assert list(seen) == ["text", "denoise", "decode"]
    assert seen["denoise"] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert seen["decode"][-1] == (9, 9)


def test_what_the_model_cannot_do_becomes_the_nearest_that_it_can(bundle: Bundle) -> None:
    request = resolve(bundle, PROMPT, {"size": (50, 30), "frames": 16})
    assert (request.width, request.height, request.frames) == (48, 32, 17)
    assert request.latent_shape == (16, 5, 4, 6)
    assert len(request.notes) == 2
    assert resolve(bundle, PROMPT, {"seconds": 2.0}).frames == 17
    assert resolve(bundle, PROMPT, {"size": (16, 16), "frames": 1}).notes == ()


def test_every_mistake_is_reported_at_once(bundle: Bundle) -> None:
    with pytest.raises(InvalidRequest) as caught:
        resolve(
            bundle, PROMPT, {"steps": 0, "sampler": "eulre", "widht": 3, "decoder": "tiny", "seconds": -1.0}
        )
    message = str(caught.value)
    for part in ("steps", "eulre", "widht", "PREVIEW", "seconds"):
        assert part in message


def test_one_guidance_stands_for_both_experts(bundle: Bundle) -> None:
    request = resolve(bundle, PROMPT, {"guidance": 2.0, "guidance_low": 1.5})
    assert (request.guidance_high, request.guidance_low) == (2.0, 1.5)
    assert (resolve(bundle, PROMPT, {}).guidance_high, resolve(bundle, PROMPT, {}).guidance_low) == (4.0, 3.0)


def test_provenance_names_the_bytes_and_the_request(bundle: Bundle, tmp_path: Path) -> None:
    clip = wanrun.generate(bundle, PROMPT, seed=5, steps=2)
    assert clip.provenance["request"]["seed"] == 5
    assert clip.provenance["request"]["prompt"] == PROMPT
    assert set(clip.provenance["components"]) == {"high_noise", "low_noise", "text_encoder", "vae"}
    assert len(clip.provenance["sigmas"]) == 3
    from wanrun.video.provenance import read_provenance

    assert read_provenance(clip.save(tmp_path / "clip.mp4"))["components"] == clip.provenance["components"]


def test_adapters_change_the_frames_and_are_in_the_provenance(bundle: Bundle, tmp_path: Path) -> None:
    save(tmp_path / "style.safetensors", lora(width=256), 0.3)
    modelfile = grammar.parse("FROM tiny\nADAPTER low_noise style.safetensors 0.5")
    create(open_store(), "adapted", modelfile, tmp_path)
    plain, adapted = (wanrun.generate(name, PROMPT, seed=1, steps=2) for name in ("tiny", "adapted"))
    assert [frame.tobytes() for frame in plain.frames] != [frame.tobytes() for frame in adapted.frames]
    (component,) = (each.component for each in wanrun.load("adapted").adapters)
    expected = [{"digest": component.digest, "role": "low_noise", "scale": 0.5}]
    assert adapted.provenance["adapters"] == expected
    from wanrun.video.provenance import read_provenance

    assert read_provenance(adapted.save(tmp_path / "clip.mp4"))["adapters"] == expected


def test_a_requests_lora_does_what_the_models_own_does(bundle: Bundle, tmp_path: Path, home: Path) -> None:
    path = save(tmp_path / "style.safetensors", lora(width=256) | {"lora_te_x.alpha": ()}, 0.3)
    modelfile = grammar.parse("FROM tiny\nADAPTER low_noise style.safetensors 0.5")
    create(open_store(), "adapted", modelfile, tmp_path)
    written = f"low_noise={path}:0.5"
    brought, own = (
        wanrun.generate("tiny", PROMPT, seed=1, steps=2, lora=written),
        wanrun.generate("adapted", PROMPT, seed=1, steps=2),
    )
    assert [frame.tobytes() for frame in brought.frames] == [frame.tobytes() for frame in own.frames]
    (told,) = brought.provenance["request"]["lora"]
    assert (told["role"], told["scale"], told["origin"]) == ("low_noise", 0.5, "style.safetensors")
    assert told["digest"] == own.provenance["adapters"][0]["digest"]
    assert brought.provenance["request"]["notes"] == (
        "style.safetensors: 1 keys (lora_te_x.alpha) match nothing and are left out",
    )
    with pytest.raises(InvalidRequest, match=r"adapter style\.safetensors is given twice"):
        wanrun.generate("adapted", PROMPT, steps=2, lora=[str(path)])
    wide = save(tmp_path / "wide.safetensors", lora(width=128))
    with pytest.raises(InvalidRequest, match=r"wide\.safetensors: does not fit this model"):
        wanrun.generate("tiny", PROMPT, steps=2, lora=str(wide))


def test_two_objects_are_composed_and_one_is_not(bundle: Bundle) -> None:
    def frames(prompt: str, **asked: Any) -> np.ndarray:
        return np.stack(wanrun.generate(bundle, prompt, seed=3, steps=3, precision="fp32", **asked).frames)

    two, one = "a red ball above a blue star", "a red ball above"
    assert not np.array_equal(frames(two), frames(two, compose=2))
    assert np.array_equal(frames(two), frames(two, compose=0))
    assert np.array_equal(frames(one), frames(one, compose=2))


def test_an_unknown_model_is_not_found() -> None:
    with pytest.raises(ModelNotFound):
        wanrun.load("no-such-model")


def test_the_parts_work_alone(parts: Parts, bundle: Bundle) -> None:
    with wanrun.load_text_encoder(parts.folder / "umt5.gguf") as encoder:
        context = encoder.encode(PROMPT)
        assert len(encoder.tokenize(PROMPT)) == len(context)
    noise = torch.randn(16, 3, 4, 4)
    with wanrun.load_denoiser(parts.folder / "high.safetensors", device="cpu", precision="fp32") as denoiser:
        high = denoiser.velocity(noise, 937.5, context)
    with wanrun.load_denoiser(bundle, device="cpu", precision="fp32") as experts:
        assert torch.equal(experts.velocity(noise, 937.5, context), high)
        assert not torch.equal(experts.velocity(noise, 500.0, context), high)
    with wanrun.load_decoder(bundle.components["vae"]) as decoder:
        frames = list(decoder.frames(noise))
        assert len(frames) == 9
        assert decoder.encode(frames).shape == noise.shape
