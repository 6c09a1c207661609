"""A gateway that is told to stop lets the calls that run finish."""

import http.client
import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

from tests.native.wire import CHAT, asking


def test_a_signal_lets_a_running_stream_come_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "loam.toml").write_text('[providers.fake]\nkind = "scripted"\n')
    process = subprocess.Popen(
        [sys.executable, "-m", "loam", "serve"],
        cwd=tmp_path,
        env={**os.environ, "LOAM_PORT": "0", "LOAM_DATA": str(tmp_path / "data")},
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        place = process.stdout.readline().removeprefix("Loam answers at http://").strip()
        connection = http.client.HTTPConnection(place, timeout=20)
        connection.request("POST", CHAT, json.dumps(asking("one two three", model="fake/slow", stream=True)))
        response = connection.getresponse()
        process.send_signal(signal.SIGTERM)
        said = response.read()
        connection.close()
        assert process.wait(timeout=10) == 0
    assert said.endswith(b"data: [DONE]\n\n")
    assert b"three" in said
    records = sqlite3.connect(tmp_path / "data" / "loam.db")
    states = records.execute("SELECT id, state FROM every_call").fetchall()
    records.close()
    assert states == [(response.headers["x-loam-call-id"], "done")]
