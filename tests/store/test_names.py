"""Names and digests: what is one, what is not, and that none becomes another path."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wanrun.errors import InvalidRequest
from wanrun.store.blobs import blob_path
from wanrun.store.digest import Digest
from wanrun.store.manifests import manifest_path
from wanrun.store.names import Name, parse_name


@pytest.mark.parametrize(
    ("text", "name", "shown"),
    [
        ("wan-toy", Name("wanrun.local", "library", "wan-toy", "latest"), "wan-toy:latest"),
        ("Wan2.2:Q4_K_M", Name("wanrun.local", "library", "wan2.2", "q4_k_m"), "wan2.2:q4_k_m"),
        ("me/wan", Name("wanrun.local", "me", "wan", "latest"), "me/wan:latest"),
        ("wanrun.local/library/wan", Name("wanrun.local", "library", "wan", "latest"), "wan:latest"),
        ("ghcr.io/library/wan:1", Name("ghcr.io", "library", "wan", "1"), "ghcr.io/library/wan:1"),
        ("localhost:5000/me/wan:x", Name("localhost:5000", "me", "wan", "x"), "localhost:5000/me/wan:x"),
        ("_why/_the/_lucky:_stiff", Name("_why", "_the", "_lucky", "_stiff"), "_why/_the/_lucky:_stiff"),
        ("host:https/ns/m:t", Name("host:https", "ns", "m", "t"), "host:https/ns/m:t"),
        ("a..b", Name("wanrun.local", "library", "a..b", "latest"), "a..b:latest"),
        ("m" * 80, Name("wanrun.local", "library", "m" * 80, "latest"), "m" * 80 + ":latest"),
    ],
)
def test_names(text: str, name: Name, shown: str) -> None:
    assert parse_name(text) == name == parse_name(shown) == parse_name(text.upper())
    assert str(name) == shown


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            ".",
            "..",
            "/",
            "//",
            "///",
            "a/",
            "/a",
            "a//b",
            "/a/b",
            ":",
            "a:",
            ":a",
            "a:b:c",
            "a/b/c/d",
            "a:b/c",
        ),
        *(
            "../a",
            "a/..",
            "a/../b",
            "..:x",
            "a:..",
            "a/./b",
            "%2e%2e",
            "a%2fb",
            "a%00",
            "~",
            "~/a",
            "-a",
            "a/-b",
        ),
        *(
            "a\0b",
            "a\nb",
            "a b",
            " a",
            "a ",
            "a\\b",
            "a∕b",
            "a／b",
            "a：b",
            "wän",
            "ａ",
            "\u212a",
            "a@sha256:00",
        ),
        *(
            "-hh/nn/mm:tt",
            "host/name:space/m:t",
            "m" * 81,
            "a:" + "t" * 81,
            "h" * 254 + "/n/m",
            "file:///etc/passwd",
        ),
    ],
)
def test_not_names(text: str) -> None:
    with pytest.raises(InvalidRequest, match="invalid model name") as caught:
        parse_name(text)
    assert len(str(caught.value)) < 400


@given(st.text(st.sampled_from("aA0._-:/%\\~@ \0é"), max_size=12))
def test_a_name_is_four_plain_parts_or_nothing(text: str) -> None:
    root = Path("/store")
    try:
        path = manifest_path(root, parse_name(text))
    except InvalidRequest:
        return
    assert path.parts[:2] == root.parts
    assert len(path.parts) == 6
    assert not {"", ".", ".."} & set(path.parts)
    assert path == Path(*path.parts) == Path(str(path).lower())


def test_a_name_cannot_be_made_of_anything_else() -> None:
    for part in ("..", "a/b", "A", "", "a\n"):
        with pytest.raises(InvalidRequest):
            Name("host", "namespace", part, "tag")


GOOD = "0123456789abcdef" * 4


def test_digests() -> None:
    digest = Digest.parse(f"sha256:{GOOD}")
    assert (str(digest), digest.file_name, digest.short) == (
        f"sha256:{GOOD}",
        f"sha256-{GOOD}",
        "0123456789ab",
    )
    assert blob_path(Path("/b"), digest) == Path(f"/b/sha256-{GOOD}")
    assert Digest.of_file_name(digest.file_name) == digest
    assert str(Digest.of(b"{}")) == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@pytest.mark.parametrize(
    "text",
    [
        *("", "sha256:", GOOD, f"sha256:{GOOD[:63]}", f"sha256:{GOOD}0", f"sha256-{GOOD}", f"sha512:{GOOD}"),
        *(
            f"sha256:{GOOD.upper()}",
            f"sha256:{GOOD[:63]}g",
            f"sha256:{GOOD}\n",
            f" sha256:{GOOD}",
            f"SHA256:{GOOD}",
        ),
        *(f"sha256:../{GOOD[:61]}", f"sha256:{GOOD[:63]}\0", f"sha256:{GOOD[:63]}٠", None, 5, [], b"sha256"),
    ],
)
def test_not_digests(text: object) -> None:
    with pytest.raises(InvalidRequest, match="not a sha256 digest"):
        Digest.parse(text)


@pytest.mark.parametrize(
    "name", [GOOD, f"sha256-{GOOD}0", f"sha256-{GOOD}.part", "sha256-", f"sha256-{GOOD}\n"]
)
def test_not_blob_files(name: str) -> None:
    assert Digest.of_file_name(name) is None
