"""Checks converted encoders with the gguf package, and the vocabulary reader with sentencepiece."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentencepiece import SentencePieceProcessor

from tests.text.tiny import (
    CONFIG,
    TRAINERS,
    reference_encoder,
    reference_rows,
    relative_error,
    train_vocabulary,
)
from wanrun.convert.network import Wanted, convert
from wanrun.convert.umt5 import EncoderType, convert_umt5
from wanrun.convert.vocabulary import read_vocabulary
from wanrun.errors import FormatError, InvalidRequest
from wanrun.text.umt5 import load

PROMPT = "a red ball bounces on a blue surface, 红色的球"


@pytest.fixture(scope="module")
def vocabulary() -> bytes:
    return train_vocabulary("nmt_nfkc")


@pytest.fixture(scope="module")
def reference() -> Any:
    return reference_encoder()


@pytest.fixture(scope="module")
def files(reference: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    vocabulary = train_vocabulary("identity")  # no character map, which the gguf package reads byte by byte
    folder = tmp_path_factory.mktemp("converted")
    types: tuple[EncoderType, ...] = ("F32", "F16", "Q8_0")
    for type in types:
        convert_umt5(reference.state_dict(), CONFIG, vocabulary, folder / f"{type}.gguf", type)
    return {type: folder / f"{type}.gguf" for type in types}


@pytest.mark.parametrize(("type", "step"), [("F32", 0.0), ("F16", 2**-11), ("Q8_0", 1 / 127)])
def test_every_tensor_is_there_with_its_values(
    files: dict[str, Path], reference: Any, type: str, step: float
) -> None:
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(files[type]).tensors}
    assert len(tensors) == 10 * CONFIG.layers + 2
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.T5ENCODER, CONFIG.layers)
    for theirs, weight in reference.state_dict().items():
        if theirs == "encoder.embed_tokens.weight":
            continue  # the same tensor as shared.weight
        name = names.get_name(theirs, try_suffixes=(".weight",))
        tensor = tensors.pop(name)
        plain = weight.dim() < 2 or "attn_rel_b" in name
        assert tensor.tensor_type.name == ("F32" if plain else type)
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        largest = 0.0 if plain else float(weight.abs().max()) * step
        np.testing.assert_allclose(values.reshape(weight.shape), weight.numpy(), rtol=0, atol=largest)
    assert not tensors


def test_metadata_are_what_gguf_readers_expect(files: dict[str, Path]) -> None:
    reader = gguf.GGUFReader(files["F16"])
    values = {key: field.contents() for key, field in reader.fields.items()}
    assert values["general.architecture"] == "t5encoder"
    assert values["general.file_type"] == gguf.LlamaFileType.MOSTLY_F16
    assert values["t5encoder.embedding_length"] == CONFIG.d_model
    assert values["t5encoder.feed_forward_length"] == CONFIG.d_ff
    assert values["t5encoder.block_count"] == CONFIG.layers
    assert values["t5encoder.attention.head_count"] == CONFIG.heads
    assert values["t5encoder.attention.key_length"] == values["t5encoder.attention.value_length"] == 64
    assert values["t5encoder.attention.relative_buckets_count"] == 32
    assert values["t5encoder.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)
    assert values["tokenizer.ggml.model"] == "t5"
    assert len(values["tokenizer.ggml.tokens"]) == CONFIG.vocabulary
    kinds = {field.name: field.types for field in reader.fields.values()}
    assert kinds["tokenizer.ggml.scores"][-1] == gguf.GGUFValueType.FLOAT32
    assert kinds["tokenizer.ggml.token_type"][-1] == gguf.GGUFValueType.INT32
    assert kinds["tokenizer.ggml.eos_token_id"] == [gguf.GGUFValueType.UINT32]


@pytest.mark.parametrize("type", ["F32", "F16", "Q8_0"])
def test_llama_cpp_gives_what_transformers_gives_with_the_stored_weights(
    files: dict[str, Path], reference: Any, type: str
) -> None:
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.T5ENCODER, CONFIG.layers)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(files[type]).tensors}
    model = reference_encoder()
    for theirs, weight in model.state_dict().items():
        tensor = tensors[names.get_name(theirs, try_suffixes=(".weight",)) or "token_embd.weight"]
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(weight.shape)
        weight.copy_(torch.from_numpy(np.array(values)))
    with load(files[type], threads=1) as encoder:
        rows, ids = encoder.encode(PROMPT), encoder.tokenize(PROMPT)
    # ggml also rounds the activations to eight bits before a product with Q8_0
    limit = 0.03 if type == "Q8_0" else 0.01
    assert relative_error(rows, reference_rows(model, ids)) <= limit
    assert torch.nn.functional.cosine_similarity(rows, reference_rows(reference, ids)).min() > 0.999


@pytest.mark.parametrize("name", TRAINERS)
def test_vocabularies_are_read_as_sentencepiece_reads_them(name: str) -> None:
    model = train_vocabulary(name)
    processor = SentencePieceProcessor(model_proto=model)
    vocabulary = read_vocabulary(model)
    assert vocabulary.tokens == [processor.id_to_piece(index) for index in range(len(processor))]
    assert vocabulary.scores == [processor.get_score(index) for index in range(len(processor))]
    for index, type in enumerate(vocabulary.types):
        assert (type == 2, type == 3, type == 5, type == 6) == (
            processor.is_unknown(index),
            processor.is_control(index),
            processor.is_unused(index),
            processor.is_byte(index),
        )
    defined = TRAINERS[name].get("user_defined_symbols", [])
    assert sorted(vocabulary.tokens[i] for i, type in enumerate(vocabulary.types) if type == 4) == sorted(
        defined
    )
    assert (vocabulary.eos_id, vocabulary.padding_id, vocabulary.unknown_id) == (1, 0, 2)
    assert vocabulary.add_dummy_prefix == vocabulary.remove_extra_whitespaces == (name != "bare")
    assert bool(vocabulary.charsmap) == (name != "identity")


def test_missing_and_misshapen_tensors_are_named(vocabulary: bytes, reference: Any, tmp_path: Path) -> None:
    weights = dict(reference.state_dict())
    del weights["encoder.block.2.layer.0.SelfAttention.relative_attention_bias.weight"]
    with pytest.raises(FormatError, match=r"block\.2\..*relative_attention_bias\.weight is missing"):
        convert_umt5(weights, CONFIG, vocabulary, tmp_path / "out.gguf")
    with pytest.raises(FormatError, match=r"of shape \(256, 128\), where \(512, 128\) is needed"):
        convert_umt5(
            reference.state_dict(), dataclasses.replace(CONFIG, d_ff=512), vocabulary, tmp_path / "out.gguf"
        )
    assert not list(tmp_path.iterdir())


def test_a_vocabulary_larger_than_the_embedding_is_refused(
    vocabulary: bytes, reference: Any, tmp_path: Path
) -> None:
    with pytest.raises(InvalidRequest, match="100 rows"):
        convert_umt5(
            reference.state_dict(),
            dataclasses.replace(CONFIG, vocabulary=100),
            vocabulary,
            tmp_path / "out.gguf",
        )


def test_bytes_that_are_no_vocabulary_are_refused(vocabulary: bytes) -> None:
    with pytest.raises(FormatError, match="sentencepiece"):
        read_vocabulary(b"not a model")
    rng = random.Random(0)
    for _ in range(200):
        mutated = bytearray(vocabulary)
        for _ in range(rng.choice([1, 3, 30])):
            mutated[rng.randrange(12_000)] = rng.randrange(256)  # pieces and settings, not the charsmap
        try:
            read_vocabulary(bytes(mutated[: rng.choice([len(mutated), rng.randrange(len(mutated))])]))
        except (FormatError, InvalidRequest):
            continue


def original_name(name: str) -> str:
    """What Wan's own checkpoints call a tensor of transformers' (Wan2.2 wan/modules/t5.py)."""
    for theirs, original in (
        ("shared.", "token_embedding."),
        ("encoder.final_layer_norm.", "norm."),
        ("encoder.block.", "blocks."),
        (".layer.0.SelfAttention.relative_attention_bias.", ".pos_embedding.embedding."),
        (".layer.0.SelfAttention.", ".attn."),
        (".layer.0.layer_norm.", ".norm1."),
        (".layer.1.layer_norm.", ".norm2."),
        (".layer.1.DenseReluDense.wi_0.", ".ffn.gate.0."),
        (".layer.1.DenseReluDense.wi_1.", ".ffn.fc1."),
        (".layer.1.DenseReluDense.wo.", ".ffn.fc2."),
    ):
        name = name.replace(theirs, original)
    return name


def published(reference: Any, vocabulary: bytes, folder: Path, maker: str) -> Path:
    """The encoder as ``maker`` publishes it; returns what to convert."""
    state = {
        n: w.contiguous() for n, w in reference.state_dict().items() if n != "encoder.embed_tokens.weight"
    }
    if maker == "diffusers":
        (folder / "text_encoder").mkdir(parents=True)
        (folder / "tokenizer").mkdir()
        (folder / "tokenizer" / "spiece.model").write_bytes(vocabulary)
        save_file(state, folder / "text_encoder" / "model.safetensors")
        return folder
    folder.mkdir()
    if maker == "comfy":
        state["spiece_model"] = torch.frombuffer(bytearray(vocabulary), dtype=torch.uint8)
    else:
        state = {original_name(name): value for name, value in state.items()}
        (folder / "google" / "umt5-xxl").mkdir(parents=True)
        (folder / "google" / "umt5-xxl" / "spiece.model").write_bytes(vocabulary)
    save_file(state, folder / "umt5.safetensors")
    return folder / "umt5.safetensors"


@pytest.mark.parametrize("maker", ["diffusers", "comfy", "official"])
def test_every_maker_s_files_become_what_llama_cpp_loads(
    reference: Any, files: dict[str, Path], tmp_path: Path, maker: str
) -> None:
    source = published(reference, train_vocabulary("identity"), tmp_path / "in", maker)
    target = tmp_path / "out.gguf"
    convert(source, target, lambda *progress: None, Wanted(type="F32", role="text_encoder"))
    ours, known = gguf.GGUFReader(target), gguf.GGUFReader(files["F32"])
    assert {t.name: t.data.tobytes() for t in ours.tensors} == {
        t.name: t.data.tobytes() for t in known.tensors
    }
    for key, field in known.fields.items():
        if not key.startswith("GGUF."):
            assert ours.fields[key].contents() == field.contents(), key
    with load(target, threads=1) as encoder:
        rows, ids = encoder.encode(PROMPT), encoder.tokenize(PROMPT)
    assert relative_error(rows, reference_rows(reference, ids)) <= 0.01


def test_an_encoder_without_a_tokeniser_says_what_to_give(
    reference: Any, vocabulary: bytes, tmp_path: Path
) -> None:
    source = published(reference, vocabulary, tmp_path / "in", "comfy")
    state = load_file(source)
    del state["spiece_model"]
    save_file(state, source)
    with pytest.raises(InvalidRequest, match="--tokenizer"):
        convert(source, tmp_path / "out.gguf", lambda *progress: None)
    with pytest.raises(InvalidRequest, match=r"spiece\.model"):
        convert(source, tmp_path / "out.gguf", lambda *progress: None, Wanted(tokenizer=tmp_path))
    (tmp_path / "spiece.model").write_bytes(vocabulary)
    for type in ("BF16", "Q8_0"):
        wanted = Wanted(type, tokenizer=tmp_path / "spiece.model")
        convert(source, tmp_path / f"{type}.gguf", lambda *progress: None, wanted)
        with load(tmp_path / f"{type}.gguf", threads=1) as encoder:
            rows, ids = encoder.encode(PROMPT), encoder.tokenize(PROMPT)
        assert relative_error(rows, reference_rows(reference, ids)) <= 0.03
