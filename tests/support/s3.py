# Copyright: crm.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An S3 server for tests (moto, which keeps everything in memory), with a certificate by an authority of its own."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# For these tests alone, so it is none of the project's dependencies.
PACKAGES = ["moto==5.2.5", "flask==3.1.2", "flask-cors==6.0.1"]
PLACE = ROOT / ".cache" / "s3"
PORT = 9443
# moto takes a name with dots for that of a bucket.
NAME = "objects"
SERVE = """
import sys
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, run_simple

class Handler(WSGIRequestHandler):
    def finish(self):
        super().finish()
        try:
            # pgBackRest takes a connection for broken that ends without this.
            self.connection.unwrap()
        except OSError:
            pass

address, port, certificate, key = sys.argv[1:]
run_simple(address, int(port), DomainDispatcherApplication(create_backend_app), request_handler=Handler, threaded=True, ssl_context=(certificate, key))
"""


def install() -> str:
    """The Python that has the server."""
    python = PLACE / "bin" / "python"
    if not (PLACE / "installed").exists():
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([str(uv), "venv", "--quiet", "--clear", str(PLACE)], check=True)
        subprocess.run([str(uv), "pip", "install", "--quiet", "--python", str(python), *PACKAGES], check=True)
        (PLACE / "installed").touch()
    return str(python)


class Server:
    """https://NAME:PORT, which hosts reach at an address of this machine."""

    def __init__(self, directory: Path, address: str) -> None:
        self.directory, self.address, self.endpoint = directory, address, f"{NAME}:{PORT}"
        self.authority = directory / "s3-ca.crt"
        self.process: subprocess.Popen | None = None

    def certify(self) -> None:
        def openssl(*words: str) -> None:
            subprocess.run(["openssl", *words], check=True, cwd=self.directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        openssl(
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=authority of a test",
            "-keyout",
            "s3-ca.key",
            "-out",
            "s3-ca.crt",
        )
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={NAME}", "-keyout", "s3.key", "-out", "s3.csr")
        (self.directory / "s3.ext").write_text(f"subjectAltName=DNS:{NAME},IP:{self.address}")
        openssl(
            "x509",
            "-req",
            "-in",
            "s3.csr",
            "-CA",
            "s3-ca.crt",
            "-CAkey",
            "s3-ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "s3.ext",
            "-out",
            "s3.crt",
        )

    def start(self, bucket: str) -> "Server":
        python = install()
        self.certify()
        (self.directory / "serve.py").write_text(SERVE)
        with (self.directory / "s3.log").open("w") as log:
            words = [python, "serve.py", self.address, str(PORT), "s3.crt", "s3.key"]
            environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
            self.process = subprocess.Popen(words, cwd=self.directory, env=environment, stdout=log, stderr=subprocess.STDOUT)
        for dummy in range(60):
            try:
                self.ask("PUT", bucket)
                return self
            except OSError:
                time.sleep(0.5)
        raise AssertionError((self.directory / "s3.log").read_text()[-1000:])

    def ask(self, method: str, path: str) -> bytes:
        context = ssl.create_default_context(cafile=str(self.authority))
        # A company's proxy has nothing to do with it.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
        # It looks for a key, and does not verify it.
        key = {"Authorization": "AWS4-HMAC-SHA256 Credential=A/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"}
        with opener.open(urllib.request.Request(f"https://{self.address}:{PORT}/{path}", method=method, headers=key), timeout=10) as answer:
            return answer.read()

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(10)
            self.process = None
