"""A line between two programs that can be cut in the middle, and counts what passes."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

PIECE = 16 * 1024


class CuttingProxy:
    """Passes TCP connections on to a server, and cuts those that it is told to."""

    def __init__(self, target: str) -> None:
        """Take the server's URL."""
        parts = urlsplit(target)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = (parts.hostname, parts.port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.cuts: list[int] = []
        """After how many bytes from the server the next connections that bring so many are cut."""
        self.ups: list[int] = []
        """The same for what goes to the server."""
        self.every: int | None = None
        """Cut each connection after so many bytes in either direction."""
        self.down = 0
        """How many bytes came from the server."""
        self.cut = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target)
        except OSError:
            client.close()
            return
        both = (client, server)
        threading.Thread(target=self._pass, args=(client, server, both, True), daemon=True).start()
        self._pass(server, client, both, False)

    def _pass(
        self,
        source: socket.socket,
        sink: socket.socket,
        both: tuple[socket.socket, socket.socket],
        is_up: bool,
    ) -> None:
        passed = 0
        with suppress(OSError):
            while piece := source.recv(PIECE):
                passed += len(piece)
                with self._lock:
                    self.down += 0 if is_up else len(piece)
                    ends = self._ends(passed, is_up)
                    self.cut += ends
                if ends:
                    break
                sink.sendall(piece)
        for one in both:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _ends(self, passed: int, is_up: bool) -> bool:
        if self.every is not None and passed >= self.every:
            return True
        cuts = self.ups if is_up else self.cuts
        if cuts and passed >= cuts[0]:
            del cuts[0]
            return True
        return False
