"""The server of the stand-in: a submission in a rehearsal imports it instead of Kaggle's package.

It listens on the loopback interface and calls `predict` in one thread that is not the main one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

from submissions.gateway import Gateway, rows_of
from submissions.servers import is_rerun
from submissions.settings import Rehearsal
from submissions.wire import answer_message, error_message, series_of

Predict = Callable[..., Any]


class InferenceServer:
    """Serves a function called `predict`, to the gateway of the rehearsal that this is part of."""

    def __init__(self, *endpoints: Predict) -> None:
        self._endpoints = {endpoint.__name__: endpoint for endpoint in endpoints}
        rehearsal = Rehearsal.here()
        self._port = rehearsal.port if rehearsal else 0
        self._key = bytes.fromhex(rehearsal.key) if rehearsal else secrets.token_bytes(16)
        self._listener: Listener | None = None

    def serve(self) -> None:
        """Listen; in a rerun this never returns."""
        self._listen()
        if is_rerun():
            threading.Event().wait()

    def run_local_gateway(self, data_paths: tuple[str, ...] | None = None) -> None:
        """Run a gateway for a problems file in this process; writes submission.parquet here."""
        if not data_paths:
            raise ValueError("give the file of problems: run_local_gateway((path,))")
        port = self._listen()
        gateway = Gateway(rows_of(Path(data_paths[0])), Path.cwd())
        try:
            gateway.run(port, self._key)
        finally:
            self.close()

    def close(self) -> None:
        """Stop listening."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):  # wakes the thread that accepts
                socket.create_connection(listener.address, timeout=1).close()
            listener.close()

    def _listen(self) -> int:
        self._listener = Listener(("127.0.0.1", self._port), authkey=self._key)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        port: int = self._listener.address[1]
        return port

    def _accept(self, listener: Listener) -> None:
        with ThreadPoolExecutor(1) as worker:
            while True:
                try:
                    connection = listener.accept()
                except (OSError, EOFError, AuthenticationError):  # a client without the key
                    if self._listener is not listener:
                        return
                    continue
                with contextlib.suppress(EOFError, OSError), connection:
                    self._serve_connection(connection, worker)

    def _serve_connection(self, connection: Connection, worker: ThreadPoolExecutor) -> None:
        while True:
            message = connection.recv_bytes()
            connection.send_bytes(worker.submit(self._answer, message).result())

    def _answer(self, message: bytes) -> bytes:
        try:
            if "predict" not in self._endpoints:
                raise LookupError("no endpoint is called predict")
            return answer_message(self._endpoints["predict"](*series_of(message)))
        except SystemExit:  # an exit in predict ends the server, and with it the submission
            os._exit(1)
        except BaseException as error:
            return error_message(error)


AIMO3InferenceServer = AIMO2InferenceServer = InferenceServer
