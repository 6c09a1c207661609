"""Certificates of our own, for servers that tests begin."""

import shutil
import subprocess
from pathlib import Path

import pytest


def certificate_for(host: str, folder: Path) -> Path:
    """A file with a certificate for a host and its key; skips the test where there is no openssl."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command")
    key, chain = folder / "key.pem", folder / "cert.pem"
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    words += ["-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}"]
    words += ["-keyout", str(key), "-out", str(chain)]
    subprocess.run([openssl, *words], check=True, capture_output=True)
    chain.write_text(chain.read_text() + key.read_text())
    return chain
