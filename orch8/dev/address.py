"""Where the API listens: reads host:port, checks that the port is free, asks for readiness."""

from __future__ import annotations

import errno
import http.client
import ipaddress
import os
import socket
from dataclasses import dataclass
from typing import Self

from orch8.errors import ConfigurationError

_TIMEOUT = 2.0
_READY = 200
_MAX_PORT = 65535


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a TCP port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """The address in ``host:port`` or ``[ipv6]:port``; else ConfigurationError."""
        host, colon, port = text.strip().rpartition(":")
        if not colon or not host or not port.isdigit() or int(port) > _MAX_PORT:
            raise ConfigurationError(f"ORCH8_HTTP_ADDR must be host:port, not {text!r}")
        return cls(host.removeprefix("[").removesuffix("]"), int(port))

    @property
    def url(self) -> str:
        """The address of the API, such as http://127.0.0.1:8080."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def claim(self) -> Address:
        """The address itself if nobody listens there, with a free port in place of 0.

        ConfigurationError says what is wrong and what to do.
        """
        try:
            family, kind, proto, _, address = socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM
            )[0]
            with socket.socket(family, kind, proto) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                return Address(self.host, probe.getsockname()[1])
        except socket.gaierror as error:
            raise ConfigurationError(
                f"the host {self.host} is not known here; correct ORCH8_HTTP_ADDR"
            ) from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                reason = "is in use; stop the other program or choose another port with --port"
            else:
                reason = f"cannot be used ({os.strerror(error.errno or 0)}); choose another"
            raise ConfigurationError(f"port {self.port} on {self.host} {reason}") from error

    def readiness(self) -> str:
        """Empty if ``GET /health/ready`` answers 200, else what it answered."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - not a bind
        connection = http.client.HTTPConnection(host, self.port, timeout=_TIMEOUT)
        try:
            connection.request("GET", "/health/ready")
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException) as error:
            return f"GET /health/ready fails: {error}"
        finally:
            connection.close()
        return "" if status == _READY else f"GET /health/ready answers {status}"
