"""One time limit for the whole head of an answer, however slowly it arrives.

The time limit of a socket begins anew with every byte. The head of an answer (its status and its header
fields) is read within `http.client`, which looks at no clock; its body is read by who asked for it.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from typing import TYPE_CHECKING, Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


def limit_heads(pools: urllib3.PoolManager) -> None:
    """Make the time limit of a read one for all of an answer's head, in connections that are yet to come."""
    pools.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}


class _Reader(io.RawIOBase):
    """What arrives at a socket, until a time while there is one (monotonic)."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self.until: float | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        if self.until is not None:
            left = self.until - time.monotonic()
            if left <= 0:
                raise TimeoutError("the head of the answer did not arrive in time")
            self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp.close()
        self._sock, self._reader = sock, _Reader(sock)
        self.fp = io.BufferedReader(self._reader)

    def begin(self) -> None:
        limit = self._sock.gettimeout()
        self._reader.until = None if limit is None else time.monotonic() + limit
        try:
            super().begin()
        finally:
            self._reader.until = None
            self._sock.settimeout(limit)


class _Connection(HTTPConnection):
    response_class = _Answer


class _SecureConnection(HTTPSConnection):
    response_class = _Answer


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection
