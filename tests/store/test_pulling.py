"""Pulls of the real shipped library from a Hub on this machine, whose repositories hold small files."""

from __future__ import annotations

import os
import pickle
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.modelfile.files import lora, save, transformer
from tests.sources.hub_server import Hub
from tests.sources.servers import Fault
from tests.store import invariants
from tests.store.shelf import ENCODER, GGUF, PAIR, VAE, library_hub
from wanrun.errors import DownloadError, InvalidRequest, ModelNotFound, StoreError
from wanrun.modelfile import grammar
from wanrun.store import garbage
from wanrun.store.creation import create, describe, quiet, resolve
from wanrun.store.planning import plan
from wanrun.store.pulling import pull
from wanrun.store.store import Store
from wanrun.types import EXPERTS


class Canary:
    """What runs code when it is unpickled."""

    path = Path(tempfile.gettempdir()) / f"canary-{os.getpid()}"

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Hub]:
    with library_hub(tmp_path / "made") as served:
        yield served


def sent(site: Hub) -> int:
    """Bytes of files that were downloaded."""
    return sum(site.storage.sent.values())


def test_a_shipped_model(store: Store, site: Hub) -> None:
    before = plan(store, "wan2.2-t2v-a14b:q8_0")
    assert [item.role for item in before.items] == [
        "high_noise",
        "low_noise",
        "text_encoder",
        "vae",
        "preview",
    ]
    assert before.missing == before.total > 0
    assert (store.list(), sent(site)) == ((), 0)
    assert str(pull(store, "wan2.2-t2v-a14b:q8_0", quiet)) == "wan2.2-t2v-a14b:q8_0"
    invariants.hold(store)
    assert invariants.leftovers(store) == []
    assert sent(site) == before.total
    bundle = store.get("wan2.2-t2v-a14b:q8_0")
    assert bundle.components["high_noise"].origin == "Wan2.2-T2V-A14B-HighNoise-Q8_0.gguf"
    assert bundle.components["vae"].origin == "wan_2.1_vae.safetensors"
    assert {
        "steps": 40,
        "shift": 12.0,
        "boundary": 0.875,
        "guidance_low": 3.0,
    }.items() <= bundle.parameters.items()
    assert bundle.negative.startswith("色调艳丽")
    assert plan(store, "wan2.2-t2v-a14b:q8_0").missing == 0
    pull(store, "wan2.2-t2v-a14b", quiet)
    assert sent(site) == before.total  # the other tag has the same files here
    assert resolve(store, "wan2.2-t2v-a14b").experts.keys() == {"high_noise", "low_noise"}


def test_nothing_is_downloaded_by_surprise(store: Store, site: Hub) -> None:
    with pytest.raises(ModelNotFound, match=r"'wanrun pull wan2\.1-t2v-1\.3b:latest' fetches it"):
        resolve(store, "wan2.1-t2v-1.3b")
    assert site.site.requests == []


def test_a_repository(store: Store, site: Hub) -> None:
    """The header says which model it is; the encoder and the VAE come from the library's."""
    planned = plan(store, f"hf.co/{GGUF}")
    name = pull(store, f"hf.co/{GGUF}", quiet)
    assert str(name) == "hf.co/samuelchristlie/wan2.1-t2v-1.3b-gguf:latest"
    assert planned.total == sent(site)
    bundle = store.get(name)
    assert bundle.components.keys() == {"diffusion", "text_encoder", "vae", "preview"}
    assert bundle.components["diffusion"].origin == "Wan2.1-T2V-1.3B-Q4_0.gguf"
    assert (bundle.parameters["shift"], bundle.parameters["guidance"]) == (8.0, 6.0)
    assert pull(store, f"HF.co/{GGUF}:q8_0@main", quiet).tag == "q8_0"
    invariants.hold(store)


def test_a_pair_in_a_repository(store: Store, site: Hub) -> None:
    planned = plan(store, f"hf.co/{PAIR}:Q8_0")
    assert [item.role for item in planned.items][:2] == ["high_noise", "low_noise"]
    with pytest.raises(InvalidRequest, match=r"holds wan \(custom\), without a default encoder"):
        pull(store, f"hf.co/{PAIR}:Q8_0", quiet)  # two blocks of width 128 are no A14B
    assert store.list() == ()


def test_what_is_not_there(store: Store, site: Hub) -> None:
    for text, problem in {
        "wan2.2-t2v-a14b:q9": r"has the tags latest, q2_k, q3_k_s, q3_k_m, q4_0, .*, q8_0, lightning",
        "wan2.2-t2v-a14": r"did you mean 'wan2.2-t2v-a14b'\?",
        "quite-other": "see 'wanrun list'",
        f"hf.co/{PAIR}:Q2_K": "has no q2_k: it has q4_k_m, q8_0",
        "hf.co/nobody/nothing": "no such repository",
        f"hf.co/{ENCODER}": "has no GGUF file of a diffusion model",
    }.items():
        for action in (lambda name: plan(store, name), lambda name: pull(store, name, quiet)):
            with pytest.raises(ModelNotFound, match=problem):
                action(text)
    for text in (f"hf.co/{PAIR}/HighNoise/a.gguf", "hf.co/x", "hf.co/../x", "hf.co/a/b:..", "../x", "a\0b"):
        with pytest.raises(InvalidRequest):
            pull(store, text, quiet)
    assert not store.manifests.exists()


def add_lightning(site: Hub, high: bytes, low: bytes) -> None:
    folder = "Wan2.2-T2V-A14B-4steps-lora-rank64-Seko-V1.1"
    files = {"high_noise": high, "low_noise": low}
    site.add(
        "lightx2v/Wan2.2-Lightning",
        {f"{folder}/{role}_model.safetensors": data for role, data in files.items()},
    )


def test_lightning(store: Store, site: Hub, tmp_path: Path) -> None:
    """A shipped model of four steps: one adapter for each expert, kept with its role and scale."""
    high, low = (save(tmp_path / f"{value}.safetensors", lora(), value).read_bytes() for value in (0.1, 0.2))
    add_lightning(site, high, low)
    planned = plan(store, "wan2.2-t2v-a14b:lightning")
    assert [item.role for item in planned.items].count("adapter") == 2
    assert planned.notes == ()
    with pytest.raises(ModelNotFound, match=r"'wanrun pull wan2\.2-t2v-a14b:lightning' fetches it"):
        resolve(store, "wan2.2-t2v-a14b:lightning")
    assert sent(site) == 0
    pull(store, "wan2.2-t2v-a14b:lightning", quiet)
    assert sent(site) == planned.total
    bundle = store.get("wan2.2-t2v-a14b:lightning")
    assert [(each.role, each.scale, each.component.origin) for each in bundle.adapters] == [
        ("high_noise", 1.0, "high_noise_model.safetensors"),
        ("low_noise", 1.0, "low_noise_model.safetensors"),
    ]
    assert [each.component.path.read_bytes() for each in bundle.adapters] == [high, low]
    assert (bundle.parameters["steps"], bundle.parameters["guidance_high"]) == (4, 1.0)
    invariants.hold(store)
    assert invariants.leftovers(store) == []
    assert plan(store, "wan2.2-t2v-a14b:lightning").missing == 0
    pull(store, "wan2.2-t2v-a14b", quiet)  # the same model without them is another one
    assert store.get("wan2.2-t2v-a14b").adapters == ()
    assert sent(site) == planned.total


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (pickle.dumps(Canary()) * 20, "adapter high_noise_model.safetensors: .*pickle"),
        (b"\xff" * 999, "adapter high_noise_model.safetensors: "),
        (b"", "adapter high_noise_model.safetensors: "),
    ],
)
def test_adapters_that_are_none(store: Store, site: Hub, tmp_path: Path, data: bytes, problem: str) -> None:
    add_lightning(site, data, save(tmp_path / "low.safetensors", lora()).read_bytes())
    with pytest.raises(InvalidRequest, match=problem):
        pull(store, "wan2.2-t2v-a14b:lightning", quiet)
    assert store.list() == ()
    assert not Canary.path.exists()


def test_one_adapter_for_both_experts(store: Store, site: Hub, tmp_path: Path) -> None:
    data = save(tmp_path / "lora.safetensors", lora()).read_bytes()
    add_lightning(site, data, data)
    with pytest.raises(InvalidRequest, match=r"is given for both experts: few-step adapters have a file"):
        pull(store, "wan2.2-t2v-a14b:lightning", quiet)
    assert store.list() == ()


def test_interruptions(store: Store, site: Hub) -> None:
    """Whatever arrived whole before a failure stays, also through the removal of other models."""

    class Interrupted(Exception):
        pass

    def stop(phase: str, done: int, total: int) -> None:
        if phase == "pulling wan_2.1_vae.safetensors" and done:
            raise Interrupted

    planned = plan(store, "wan2.1-t2v-1.3b")
    with pytest.raises(Interrupted):
        pull(store, "wan2.1-t2v-1.3b", stop)
    assert store.list() == ()
    garbage.sweep(store.home)
    halfway = plan(store, "wan2.1-t2v-1.3b")
    assert [item.here == item.size for item in halfway.items][:2] == [True, True]
    assert 0 < halfway.missing < planned.missing
    pull(store, "wan2.1-t2v-1.3b", quiet)
    assert sent(site) <= planned.total + planned.items[2].missing
    assert invariants.leftovers(store) == []
    assert not list((store.home / "leases").rglob("*/*/*/*"))


def test_prune_lets_go_of_what_was_given_up(store: Store, site: Hub) -> None:
    def stop(phase: str, done: int, total: int) -> None:
        if phase.startswith("pulling wan_2.1"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(store, "wan2.1-t2v-1.3b", stop)
    kept = {path.name for path in store.blobs.iterdir()}
    assert garbage.collect(store.home) == 0
    assert {path.name for path in store.blobs.iterdir()} == kept
    assert garbage.collect(store.home, everything=True) > 2_000_000
    assert list(store.blobs.iterdir()) == []


class Vast(bytes):
    """A file that is said to have a pebibyte."""

    def __len__(self) -> int:
        return 1 << 50


def test_a_disk_that_is_too_small(store: Store, site: Hub) -> None:
    site.add(GGUF, {"Wan2.1-T2V-1.3B-Q8_0.gguf": Vast(b"little")})
    for name in ("wan2.1-t2v-1.3b", f"hf.co/{GGUF}"):
        with pytest.raises(
            StoreError, match=r"needs [0-9,]{20,} more bytes, and the disk of .* has [0-9,]+ free"
        ):
            pull(store, name, quiet)
    assert sent(site) == 0


def test_damage_on_the_way(store: Store, site: Hub) -> None:
    """Bytes that are not what the Hub announced never get a name."""
    for path, data in list(site.storage.files.items()):
        site.storage.always[path] = Fault(body=random.Random(1).randbytes(len(data)))
    with pytest.raises(DownloadError, match=r"is damaged: its digest is"):
        pull(store, "wan2.1-t2v-1.3b", quiet)
    assert store.list() == ()
    invariants.hold(store)
    site.storage.always.clear()
    pull(store, "wan2.1-t2v-1.3b", quiet)
    invariants.hold(store)


@pytest.mark.parametrize(
    ("repo", "path", "data", "problem"),
    [
        (VAE, "split_files/vae/wan_2.1_vae.safetensors", pickle.dumps(Canary()) * 20, "pickle"),
        (VAE, "split_files/vae/wan_2.1_vae.safetensors", b"\xff" * 999, "vae: "),
        (GGUF, "Wan2.1-T2V-1.3B-Q8_0.gguf", b"GGUF\3\0\0\0" + b"\xff" * 999, "diffusion: "),
        (GGUF, "Wan2.1-T2V-1.3B-Q8_0.gguf", b"", "diffusion: "),
    ],
)
def test_files_that_are_not_models(
    store: Store, site: Hub, repo: str, path: str, data: bytes, problem: str
) -> None:
    site.add(repo, {path: data})
    with pytest.raises(InvalidRequest, match=problem):
        pull(store, "wan2.1-t2v-1.3b", quiet)
    assert store.list() == ()
    assert not Canary.path.exists()


def test_the_modelfile_makes_it_again(store: Store, site: Hub, tmp_path: Path) -> None:
    """A blob that two bundles call by different names keeps the name that its bundle gives it."""
    pull(store, "wan2.1-t2v-1.3b", quiet)
    spec = describe(store, "wan2.1-t2v-1.3b")
    vae = Path(spec.components["vae"].reference)
    (tmp_path / "aaa.safetensors").write_bytes(vae.read_bytes())
    save(tmp_path / "other.safetensors", transformer())
    text = "FROM wan2.1-t2v-1.3b\nVAE aaa.safetensors\nDIFFUSION other.safetensors"
    create(store, "aaa", grammar.parse(text), tmp_path)
    for name in ("wan2.1-t2v-1.3b", "aaa"):
        spec = describe(store, name)
        lines = [f"{grammar_word(role)} {part.reference}" for role, part in spec.components.items()]
        text = "\n".join(lines) + "\n" + settings_of(store, name)
        create(store, "again", grammar.parse(text), tmp_path)
        assert store.manifest("again").digest == store.manifest(name).digest


def grammar_word(role: str) -> str:
    if role in EXPERTS:
        return "DIFFUSION" if role == "diffusion" else f"DIFFUSION {role}"
    return role.upper()


def settings_of(store: Store, name: str) -> str:
    """The Modelfile of a bundle without the lines that name files."""
    lines = grammar.dump(store.modelfile(name)).splitlines()
    return "\n".join(line for line in lines if "sha256:" not in line)
