"""P1, attacked from outside: a gateway is killed under 64-way load, and no answer received whole is missing."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import openai
import pytest

pytestmark = pytest.mark.anyio
SETTINGS = """
[providers.fake]
kind = "scripted"
"""


def start(folder: Path) -> tuple["subprocess.Popen[str]", str]:
    (folder / "loam.toml").write_text(SETTINGS)
    environment = {**os.environ, "LOAM_PORT": "0", "LOAM_DATA": str(folder / "data")}
    process = subprocess.Popen(
        [sys.executable, "-m", "loam", "serve"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("Loam answers at "), line
    return process, line.removeprefix("Loam answers at ").strip()


async def load(url: str, received: list[str], stream: bool) -> None:
    """Asks until the gateway is gone, and notes the id of each answer that came whole."""
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0) as client:
        while True:
            try:
                messages = [{"role": "user", "content": f"say {len(received)}"}]
                if stream:
                    chunks = await client.chat.completions.create(model="fake/echo", messages=messages, stream=True)
                    last = None
                    async for chunk in chunks:
                        last = chunk
                    if last is not None and last.choices and last.choices[0].finish_reason:
                        received.append(last.id.removeprefix("chatcmpl-"))
                else:
                    completion = await client.chat.completions.create(model="fake/echo", messages=messages)
                    received.append(completion.id.removeprefix("chatcmpl-"))
            except openai.OpenAIError:
                return


async def test_kill_9_under_load_loses_no_row_of_an_answer_received_whole(tmp_path: Path) -> None:
    process, url = start(tmp_path)
    received: list[str] = []
    clients = [asyncio.ensure_future(load(url, received, stream=k % 2 == 0)) for k in range(64)]
    while len(received) < 400:
        await asyncio.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    await asyncio.gather(*clients)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    connection = sqlite3.connect(tmp_path / "data" / "loam.db")
    done = {row[0] for row in connection.execute("SELECT id FROM calls WHERE state = 'done'")}
    both = "SELECT id FROM calls JOIN bodies ON call = seq WHERE request NOT NULL AND response NOT NULL"
    kept = {row[0] for row in connection.execute(both)}
    connection.close()
    missing = [call for call in received if call not in done]
    assert not missing, f"{len(missing)} of {len(received)} answers are not on record"
    assert set(received) <= kept, "an answer is on record without its bodies"


async def test_a_restart_marks_what_the_kill_interrupted_as_lost(tmp_path: Path) -> None:
    process, url = start(tmp_path)
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0) as client:
        asking = asyncio.ensure_future(
            client.chat.completions.create(model="fake/slow", messages=[{"role": "user", "content": "x"}])
        )
        await asyncio.sleep(0.5)
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(openai.APIConnectionError):
            await asking
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    again, url = start(tmp_path)
    listed = subprocess.run(
        [sys.executable, "-m", "loam", "calls", "list", "--json"],
        env={**os.environ, "LOAM_URL": url},
        capture_output=True,
        text=True,
        check=True,
    )
    again.terminate()
    again.wait()
    assert again.stdout is not None
    again.stdout.close()
    assert [call["state"] for call in json.loads(listed.stdout)] == ["lost"]
