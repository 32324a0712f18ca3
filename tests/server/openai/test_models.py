"""The client sees what the store holds."""

from __future__ import annotations

import httpx
import pytest
from openai import NotFoundError, OpenAI


def test_models_are_listed_and_found(openai: OpenAI) -> None:
    models = list(openai.models.list())
    assert [model.id for model in models] == ["wan-toy:latest"]
    for name in ("wan-toy", "wan-toy:latest", "WAN-toy"):
        model = openai.models.retrieve(name)
        assert (model.id, model.object, model.owned_by) == (name, "model", "library")
        assert model.created == models[0].created


@pytest.mark.parametrize("name", ["nothing", "ghcr.io/me/quick:latest", "me/quick"])
def test_others_are_not_found(openai: OpenAI, name: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        openai.models.retrieve(name)
    assert "not found" in caught.value.message


@pytest.mark.parametrize("name", ["%2e%2e/%2e%2e/etc/passwd", "a%00b", "a:b:c", "-x", "%F0%9F%8E%A5"])
def test_what_is_no_name_is_refused(http: httpx.Client, name: str) -> None:
    answer = http.get(f"/v1/models/{name}")
    assert answer.status_code == 400
    assert "invalid model name" in answer.json()["error"]["message"]
