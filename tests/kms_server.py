"""A key service on 127.0.0.1 that speaks the two calls of AWS KMS which a master key needs."""

from __future__ import annotations

import base64
import json
import secrets
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ACCESS_KEY = "kms-access"


class RefusedError(Exception):
    """What KMS answers with, by the name of its error."""


class KmsServer:
    """Symmetric keys by id; a ciphertext names its key and binds its encryption context."""

    def __init__(self, *key_ids: str) -> None:
        self._keys = {key_id: secrets.token_bytes(32) for key_id in key_ids}
        self.calls: Counter[str] = Counter()
        self.disabled: set[str] = set()
        handler = type("Handler", (_Handler,), {"service": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def environment(self) -> dict[str, str]:
        """What leads boto3 to it."""
        return {
            "AWS_ENDPOINT_URL_KMS": f"http://127.0.0.1:{self._server.server_port}",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": "kms-secret",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
        }

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, operation: str, request: Mapping[str, Any]) -> dict[str, str]:
        self.calls[operation] += 1
        key_id = str(request["KeyId"])
        if key_id not in self._keys:
            raise RefusedError("NotFoundException")
        if key_id in self.disabled:
            raise RefusedError("DisabledException")
        context = json.dumps(request.get("EncryptionContext", {}), sort_keys=True).encode()
        if operation == "GenerateDataKey":
            assert request["KeySpec"] == "AES_256"
            plain, nonce = secrets.token_bytes(32), secrets.token_bytes(12)
            message = AESGCM(self._keys[key_id]).encrypt(nonce, plain, context)
            blob = b"\0".join((key_id.encode(), nonce.hex().encode(), message.hex().encode()))
            return {"KeyId": key_id, "Plaintext": _text(plain), "CiphertextBlob": _text(blob)}
        assert operation == "Decrypt"
        named, nonce, message = base64.b64decode(request["CiphertextBlob"]).split(b"\0")
        if named.decode() != key_id:
            raise RefusedError("IncorrectKeyException")
        try:
            plain = AESGCM(self._keys[key_id]).decrypt(
                bytes.fromhex(nonce.decode()), bytes.fromhex(message.decode()), context
            )
        except InvalidTag as error:
            raise RefusedError("InvalidCiphertextException") from error
        return {"KeyId": key_id, "Plaintext": _text(plain)}


class _Handler(BaseHTTPRequestHandler):
    service: KmsServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        operation = self.headers["X-Amz-Target"].removeprefix("TrentService.")
        status, content = 200, {}
        try:
            if f"Credential={ACCESS_KEY}/" not in self.headers["Authorization"]:
                raise RefusedError("UnrecognizedClientException")
            content = self.service.answer(operation, json.loads(body))
        except RefusedError as error:
            status, content = 400, {"__type": str(error), "message": "as a test asked"}
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing to the test's output."""


@contextmanager
def running_kms_server(*key_ids: str) -> Iterator[KmsServer]:
    """A server with these keys, gone at the end."""
    server = KmsServer(*key_ids)
    try:
        yield server
    finally:
        server.stop()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
