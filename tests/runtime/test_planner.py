"""The planner's arithmetic."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.runtime.machines import MACHINE
from wanrun.runtime.footprint import decoding, denoising
from wanrun.runtime.planner import Plan, decode_s, forward_s, plan, unpack_s
from wanrun.runtime.shapes import Autoencoder, Job, Parts, Stored, TextEncoder, TinyAutoencoder, Transformer

GB = 10**9
WEIGHTS = 1_400_000_000
EXPERT = Transformer(
    "high_noise", 1536, 8960, 30, 16, Stored(GB, 3 * 10**6, GB), {"Q8_0": WEIGHTS}, 300, 1536 * 8960,
    blocks_bytes=960_000_000,
)  # fmt: skip
ENCODER = TextEncoder(4096, 10240, 64, 256384, "Q8_0", 4_630_000_000, Stored(6 * GB))
VAE = Autoencoder(96, 16, 1, Stored(250 * 10**6, 250 * 10**6, 0))
TINY = TinyAutoencoder(16, 1, Stored(20 * 10**6, 20 * 10**6, 0))
GPU = replace(MACHINE, device="cuda", device_bytes=24e9, link=1e10)
PARTS = Parts(ENCODER, (EXPERT, replace(EXPERT, role="low_noise")), VAE)
JOB = Job((16, 9, 60, 104), 33, 832, 480, (8, 32), 2, 60, "bf16")


def planned(parts: Parts = PARTS, job: Job = JOB, limit: int = 32 * GB) -> Plan:
    return plan(parts, job, MACHINE, limit)


def sized(width: int, height: int, frames: int = 33) -> Job:
    latent = 16, (frames - 1) // 4 + 1, height // 8, width // 8
    return replace(JOB, latent=latent, width=width, height=height, frames=frames)


def test_a_plan_has_a_phase_for_each_part_that_is_used() -> None:
    names = ["start", "text", "high_noise", "low_noise", "vae", "writing"]
    assert [phase.name for phase in planned().phases] == names
    without = planned(job=replace(JOB, evaluations=(0, 40), prompts=0))
    assert "high_noise" not in [phase.name for phase in without.phases]
    assert without.phases[1].seconds == without.phases[1].pages == 0


def test_a_forward_lasts_as_long_as_its_operations() -> None:
    tokens = 9 * 30 * 52
    linear = 2 * tokens * 30 * (6 * 1536**2 + 2 * 1536 * 8960) + 4 * 61 * 30 * 1536**2
    attention = 4 * tokens**2 * 30 * 1536 + 4 * tokens * 61 * 30 * 1536
    assert forward_s(EXPERT, JOB, MACHINE) == pytest.approx(linear / 2e11 + attention / 1e11)
    in_8_bits = linear - 2 * tokens * 28 * 1536 * (6 * 1536 + 2 * 8960) * (1 - 1 / 1.8)
    eight = forward_s(EXPERT, replace(JOB, precision="int8"), MACHINE)
    assert eight == pytest.approx(in_8_bits / 2e11 + attention / 1e11)


def test_what_a_block_costs_beside_its_products_is_added() -> None:
    slower = replace(MACHINE.rates["bf16"], block_s=0.01, element_s=1e-9)
    machine = replace(MACHINE, rates={**MACHINE.rates, "bf16": slower})
    more = 30 * (0.01 + 9 * 30 * 52 * 1536 * 1e-9)
    assert forward_s(EXPERT, JOB, machine) == pytest.approx(forward_s(EXPERT, JOB, MACHINE) + more)


def test_a_type_that_was_not_measured_is_as_slow_as_the_slowest() -> None:
    strange = replace(EXPERT, packed={"IQ3_S": WEIGHTS})
    assert unpack_s(strange, MACHINE) == pytest.approx(WEIGHTS / 2e9)


def test_experts_take_their_evaluations() -> None:
    each, unpack = forward_s(EXPERT, JOB, MACHINE), unpack_s(EXPERT, MACHINE)
    high, low = planned().phases[2:4]
    assert high.seconds == pytest.approx(8 * each + unpack + 0.5, rel=0.01)
    assert low.seconds == pytest.approx(32 * each + unpack, rel=0.01)
    high, low = planned(limit=4 * GB).phases[2:4]
    assert high.seconds == pytest.approx(8 * (each + unpack) + 0.5, rel=0.01)
    assert low.seconds == pytest.approx(32 * (each + unpack), rel=0.01)


@pytest.mark.parametrize("decoder", [VAE, TINY])
def test_a_decoders_memory_does_not_depend_on_the_frames(decoder: Autoencoder | TinyAutoencoder) -> None:
    few, many = sized(832, 480, 5), sized(832, 480, 161)
    assert decoding(decoder, few) == decoding(decoder, many)
    assert decode_s(decoder, many, MACHINE) > 20 * decode_s(decoder, few, MACHINE)


def test_more_of_anything_takes_more() -> None:
    sizes = [sized(256, 256), sized(480, 320), sized(832, 480), sized(1280, 720)]
    frames = [sized(832, 480, count) for count in (1, 17, 81, 161)]
    steps = [replace(JOB, evaluations=(count, 4 * count)) for count in (1, 4, 10)]
    for jobs in (sizes, frames, steps):
        plans = [planned(job=job) for job in jobs]
        assert [each.seconds for each in plans] == sorted({each.seconds for each in plans})
        assert [each.memory for each in plans] == sorted(each.memory for each in plans)
        experts = [denoising(EXPERT, job) for job in jobs]
        assert experts == sorted(experts)


def test_float32_takes_more_memory_than_bf16() -> None:
    assert denoising(EXPERT, replace(JOB, precision="fp32")) > denoising(EXPERT, JOB)
    assert decoding(VAE, replace(JOB, precision="fp32")) > decoding(VAE, JOB)


def test_the_tiny_decoder_is_lighter_and_faster() -> None:
    assert decoding(TINY, JOB) < decoding(VAE, JOB) / 2
    assert decode_s(TINY, JOB, MACHINE) < decode_s(VAE, JOB, MACHINE) / 5


def test_mapped_files_are_no_memory() -> None:
    larger = replace(EXPERT, stored=replace(EXPERT.stored, kept_bytes=20 * GB))
    before, after = planned(), planned(replace(PARTS, experts=(larger, larger)))
    assert after.memory == before.memory
    assert after.pages == 20 * GB
    assert after.fits


def test_a_run_fits_up_to_its_peak() -> None:
    peak = planned().memory
    assert planned(limit=peak).fits
    assert not planned(limit=peak - 1).fits
    assert planned().worst.name == "vae"


def test_weights_stay_unpacked_where_there_is_room_for_twice_as_many() -> None:
    lean, unpacked = planned(limit=GB), 2 * WEIGHTS
    assert not lean.fits
    assert lean.resident == planned(limit=lean.memory + 2 * unpacked - 1).resident == 0
    roomy = planned(limit=lean.memory + 2 * unpacked)
    assert roomy.resident == unpacked
    assert roomy.phases[2].memory == lean.phases[2].memory + unpacked
    assert roomy.memory <= roomy.limit
    assert roomy.seconds < lean.seconds
    assert planned(job=replace(JOB, precision="fp32")).resident == 4 * WEIGHTS
    in_8_bits = 28 * 1536 * (6 * 1536 + 2 * 8960)
    eight = planned(job=replace(JOB, precision="int8"))
    assert eight.resident == 2 * (WEIGHTS - in_8_bits)
    assert eight.phases[2].memory == lean.phases[2].memory + in_8_bits + eight.resident


def test_on_an_accelerator_networks_lie_in_its_memory() -> None:
    here = plan(PARTS, JOB, GPU, 32 * GB, 24 * GB)
    expert = here.phases[2]
    assert expert.device_memory == denoising(EXPERT, JOB) + GB
    assert (expert.memory, expert.pages) == (240_000_000, 0)
    assert here.fits and here.resident is None
    small = plan(PARTS, JOB, GPU, 32 * GB, GB // 4)
    assert not small.fits
    assert small.worst.device_memory == small.device_memory
    assert small.resident == 0


def test_an_accelerator_keeps_the_blocks_that_fit_and_streams_the_others() -> None:
    beside = denoising(EXPERT, JOB) + GB - EXPERT.blocks_bytes
    block = EXPERT.blocks_bytes // 30
    for blocks in (2, 12, 29):
        limit = beside + blocks * block
        some = plan(replace(PARTS, decoder=TINY), JOB, GPU, 32 * GB, limit)
        assert some.resident == (blocks - 2) * block
        assert some.phases[2].device_memory == limit and some.fits
        assert some.phases[2].memory == 240_000_000 + 2 * block
    whole = plan(replace(PARTS, decoder=TINY), JOB, GPU, 32 * GB, beside + 30 * block)
    assert whole.resident is None and whole.device_memory == beside + 30 * block


def test_streaming_is_hidden_behind_the_products_unless_the_link_is_slow() -> None:
    limit = denoising(EXPERT, JOB) + GB // 2
    whole = plan(PARTS, JOB, GPU, 32 * GB, 24 * GB).phases[2].seconds
    assert plan(PARTS, JOB, GPU, 32 * GB, limit).phases[2].seconds == whole
    slow = replace(GPU, link=1e6)
    streamed = EXPERT.blocks_bytes - (plan(PARTS, JOB, slow, 32 * GB, limit).resident or 0)
    loading = 0.5 + (GB + 3 * 10**6) / 1e6
    assert plan(PARTS, JOB, slow, 32 * GB, limit).phases[2].seconds == loading + 8 * streamed / 1e6


def test_a_device_of_unknown_memory_keeps_everything() -> None:
    assert plan(PARTS, JOB, replace(MACHINE, device="mps"), 32 * GB).resident is None


def test_a_step_cache_keeps_states_of_each_branch() -> None:
    plain, cached = planned(), planned(job=replace(JOB, kept_branches=2))
    states = 4 * 3 * 9 * 30 * 52 * 1536
    assert cached.phases[2].memory - plain.phases[2].memory == states
    assert cached.phases[1].memory == plain.phases[1].memory
