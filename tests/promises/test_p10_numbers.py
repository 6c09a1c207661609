"""P10: the provider's numbers stand beside Loam's own, and a difference is visible."""

from pathlib import Path
from typing import Any

import openai
import pytest

from loam.cli.reach import Gateway
from loam.config import parse
from loam.serving import running

LIAR = {"text": "one two three four five", "usage": [4000, 900]}
HONEST = {"text": "one two three four five", "usage": [11, 5]}


@pytest.mark.parametrize(("line", "differs"), [(LIAR, True), (HONEST, False)])
def test_a_difference_between_the_providers_count_and_ours_is_on_record(
    tmp_path: Path, line: dict[str, Any], differs: bool
) -> None:
    settings = {
        "data": str(tmp_path),
        "server": {"port": 0},
        "providers": {"fake": {"kind": "scripted", "script": [line]}},
        "prices": [{"model": "*", "input": "1", "output": "2"}],
    }
    with running(parse(settings)) as gateway:
        client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="-")
        client.chat.completions.create(model="fake/any", messages=[{"role": "user", "content": "hello there"}])
        call = Gateway(gateway.url).get("/loam/v1/calls")["calls"][0]
    read, said = line["usage"]
    assert (call["input_tokens"], call["output_tokens"]) == (read, said)
    assert 0 < call["counted_input"] < 50
    assert 0 < call["counted_output"] < 50
    assert call["price_version"]
    assert call["cost_micro"] == read + 2 * said
    assert any("count" in warning for warning in call["warnings"]) == differs
