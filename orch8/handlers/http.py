"""One HTTP call and what it came to: sent at most once, bounded, and never guessed about.

libcurl sends a request again by itself when a kept-alive connection closes before the reply. For
a charge that is a second execution, so the check right before each send allows one per transfer.
"""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pycurl

from orch8 import __version__
from orch8.engine.outcome import Answer, Verdict
from orch8.errors import InvalidArgument
from orch8.handlers import ssrf
from orch8.handlers.classify import Classify, Response, generic, refused
from orch8.handlers.pressure import pressure, retry_after

# Idle connections older than this are not used again: many servers close theirs after 5 s, and a
# request that crosses that close leaves its outcome unknown.
MAX_IDLE_SECONDS: Final = 4
READS: Final = frozenset({"GET", "HEAD"})
METHODS: Final = READS | {"POST", "PUT", "PATCH", "DELETE"}
LATE: Final = "late"  # the code of a call that could only have left too late
MAX_HEADERS: Final = 8192  # bytes of an answer's headers that rules may look at
_URL_CREDENTIALS: Final = re.compile(r"//[^/@\s]*@")


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request to make once. Times are seconds, sizes are bytes.

    ``not_after`` is a time.monotonic() value; a request that could only leave later is not sent.
    ``guard`` refuses peers with an internal address at the moment of connecting.
    """

    url: str
    method: str = "POST"
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    timeout: float = 30.0
    connect_timeout: float = 5.0
    max_response: int = 1024 * 1024
    guard: bool = False
    not_after: float | None = None
    classify: Classify = generic


class Caller:
    """Makes calls from any number of threads; each thread keeps its connections alive."""

    def __init__(self, *, ca_file: str | None = None) -> None:
        self._ca_file = ca_file or certificates()
        self._local = threading.local()

    def call(self, call: Call) -> Answer:
        """The request has been sent once or not at all, and the answer says which.

        Raises nothing that the world can cause: a failure before the request left is NOT_SENT (or
        REFUSED when it would fail the same way again), one after it is UNKNOWN, and FAILED_SAFE
        for GET and HEAD, which have no effect.
        """
        line: Line | None = getattr(self._local, "line", None)
        if line is None:
            line = self._local.line = Line(self._ca_file)
        refusal = line.begin(call)
        if refusal is not None:
            return refusal
        try:
            line.curl.perform()
        except pycurl.error as error:
            return line.end(*_read(error))
        return line.end(0, "")

    def close(self) -> None:
        """The calling thread's connections are closed."""
        line: Line | None = self._local.__dict__.pop("line", None)
        if line is not None:
            line.curl.close()


def certificates() -> str | None:
    """Where this system keeps the certificates that it trusts; None if libcurl is to know."""
    return ssl.get_default_verify_paths().cafile


class Line:
    """A libcurl handle and the state of the transfer that it carries: begun, performed by whoever
    has the handle, ended.
    """

    def __init__(self, ca_file: str | None) -> None:
        self.curl = pycurl.Curl()
        self._ca_file = ca_file
        self._shape: tuple[object, ...] | None = None  # what the handle is set up for
        self._clear()

    def _clear(self) -> None:
        self.sends = 0
        self.late = False
        self.repeated = False
        self.too_large = False
        self.blocked: str | None = None
        self.opened: list[socket.socket] = []
        self.chunks: list[bytes] = []
        self.size = 0
        self.headers: dict[str, str] = {}
        self.header_size = 0
        self.headers_end = False
        self.guard = False
        self.not_after: float | None = None
        self.max_response = 0

    def begin(self, call: Call) -> Answer | None:
        """The handle is ready to carry the call; an answer instead when it cannot be made."""
        self._clear()
        self.call, self.started = call, time.monotonic()
        try:
            self._prepare(call)
        except InvalidArgument as error:
            return refused(error.detail, error.code)
        except (pycurl.error, TypeError, ValueError) as error:
            self._shape = None
            return refused(f"the request cannot be built: {_plain(error)}", "bad_request")
        return None

    def end(self, code: int, reason: str) -> Answer:
        """What the transfer came to that ended with this code of libcurl (0: it went well)."""
        self.drop()
        call = self.call
        evidence = {
            "curl_code": code,
            "sent": self.sends > 0,
            "elapsed_ms": round((time.monotonic() - self.started) * 1000, 1),
        }
        if code:
            status = int(self.curl.getinfo(pycurl.RESPONSE_CODE)) if self.sends else 0
            if status:
                evidence["http_status"] = status
            return self._failure(call, code, reason, evidence)
        return self._answer(call, evidence)

    def drop(self) -> None:
        """Nothing is kept of the transfer but what was seen of it."""
        for opened in self.opened:  # pycurl works on a duplicate of each
            opened.close()
        self.opened = []

    def _prepare(self, call: Call) -> None:
        curl = self.curl
        self.guard, self.not_after = call.guard, call.not_after
        self.max_response = call.max_response
        if call.method not in METHODS:
            raise ValueError(f"method {call.method!r} is not one of {', '.join(sorted(METHODS))}")
        ssrf.check_headers(call.headers)
        if call.guard:
            ssrf.check_form(call.url)
        names = {name.lower() for name, _ in call.headers}
        sends_body = bool(call.body) or call.method not in READS
        shape = (call.method, sends_body, call.guard, "user-agent" in names)
        if shape != self._shape:
            self._set_up(call, guard=call.guard, names_itself=shape[3])
            self._shape = shape
        curl.setopt(pycurl.URL, call.url)
        lines = [b"Expect:"]  # no round trip before the body
        lines += [(f"{n}: {value}" if value else f"{n};").encode() for n, value in call.headers]
        if sends_body:
            curl.setopt(pycurl.POSTFIELDS, call.body)
            if "content-type" not in names:
                lines.append(b"Content-Type:")
        curl.setopt(pycurl.HTTPHEADER, lines)
        curl.setopt(pycurl.TIMEOUT_MS, max(1, int(call.timeout * 1000)))
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, max(1, int(call.connect_timeout * 1000)))

    def _set_up(self, call: Call, *, guard: bool, names_itself: bool) -> None:
        """The handle is set up for calls of this shape, and forgets every other one."""
        curl = self.curl
        curl.reset()  # keeps connections and the DNS cache, forgets every option
        for option, value in _ALWAYS:
            curl.setopt(option, value)
        if self._ca_file is not None:
            curl.setopt(pycurl.CAINFO, self._ca_file)
        if guard:
            curl.setopt(pycurl.OPENSOCKETFUNCTION, self._on_open)
        if call.method == "HEAD":
            curl.setopt(pycurl.NOBODY, 1)
        elif call.method != "POST":
            curl.setopt(pycurl.CUSTOMREQUEST, call.method)
        if not names_itself:
            curl.setopt(pycurl.USERAGENT, f"orch8/{__version__}")
        curl.setopt(pycurl.PREREQFUNCTION, self._on_send)
        curl.setopt(pycurl.HEADERFUNCTION, self._on_header)
        curl.setopt(pycurl.WRITEFUNCTION, self._on_body)

    def _on_open(self, _purpose: int, address: Any) -> socket.socket | int:
        family, kind, protocol, peer = address
        if family not in {socket.AF_INET, socket.AF_INET6} or ssrf.is_blocked(str(peer[0])):
            self.blocked = str(peer[0]) if isinstance(peer, tuple) else "a local socket"
            return pycurl.SOCKET_BAD
        opened = socket.socket(family, kind, protocol)
        self.opened.append(opened)
        return opened

    def _on_send(self, peer: str, _local: str, _peer_port: int, _local_port: int) -> int:
        if self.sends:
            self.repeated = True
            return pycurl.PREREQFUNC_ABORT
        # A kept-alive connection is used again without being opened: its peer is checked here.
        if self.guard and ssrf.is_blocked(peer):
            self.blocked = peer
            return pycurl.PREREQFUNC_ABORT
        if self.not_after is not None and time.monotonic() >= self.not_after:
            self.late = True
            return pycurl.PREREQFUNC_ABORT
        self.sends = 1
        return pycurl.PREREQFUNC_OK

    def _on_header(self, line: bytes) -> None:
        if line.startswith(b"HTTP/"):  # of an interim answer, too: the last one's headers count
            self.headers, self.header_size, self.headers_end = {}, 0, False
            return
        self.header_size += len(line)
        name, colon, value = line.decode("latin-1").partition(":")
        self.headers_end = self.headers_end or not line.strip()  # what follows is a trailer
        if colon and not self.headers_end and self.header_size <= MAX_HEADERS:
            name, value = name.strip().lower(), value.strip()
            self.headers[name] = f"{self.headers[name]}, {value}" if name in self.headers else value

    def _on_body(self, chunk: bytes) -> int | None:
        self.size += len(chunk)
        if self.size > self.max_response:
            self.too_large = True
            return -1
        self.chunks.append(chunk)
        return None

    def _answer(self, call: Call, evidence: dict[str, Any]) -> Answer:
        status = int(self.curl.getinfo(pycurl.RESPONSE_CODE))
        body = b"".join(self.chunks)
        evidence["http_status"] = status
        evidence["response_sha256"] = hashlib.sha256(body).hexdigest()
        pause = retry_after(self.headers)
        pushed_back = pressure(status, self.headers, body)
        if pushed_back is not None:
            evidence["pressure"] = pushed_back.to_json()
        response = Response(status, body, pause, evidence, self.headers)
        try:
            return call.classify(response)
        except Exception as error:  # noqa: BLE001 -- it was sent: whatever fails now, it may have happened
            message = f"the answer could not be classified: {type(error).__name__}: {error}"
            return _lost(call, message, "unclassifiable", evidence)

    def _failure(self, call: Call, code: int, reason: str, evidence: dict[str, Any]) -> Answer:
        if not self.sends:
            verdict, message, name = self._unsent(code, reason)
            return Answer(verdict, error={"message": message, "code": name}, evidence=evidence)
        if self.repeated:
            message = "the connection closed before the answer; the request was not sent again"
            evidence["repeat_refused"] = True
            return _lost(call, message, "closed_before_answer", evidence)
        if self.too_large:
            message = f"the answer is larger than {call.max_response} bytes"
            evidence["too_large"] = True
            if call.method not in READS:
                return _lost(call, message, "too_large", evidence)
            error = {"message": message, "code": "too_large"}
            return Answer(Verdict.REFUSED, error=error, evidence=evidence)
        timed_out = code == pycurl.E_OPERATION_TIMEDOUT
        return _lost(call, _plain(reason), "timeout" if timed_out else "no_answer", evidence)

    def _unsent(self, code: int, reason: str) -> tuple[Verdict, str, str]:
        if self.blocked is not None:
            message = (
                f"the address {self.blocked} is internal; use a public address, or set "
                "ORCH8_ALLOW_INTERNAL_URLS=true"
            )
            return Verdict.REFUSED, message, "ssrf_blocked"
        if code in _HOPELESS:
            return Verdict.REFUSED, f"the address cannot be called: {_plain(reason)}", "bad_request"
        if self.late:
            return Verdict.NOT_SENT, "the lease ended before the request was sent", LATE
        return Verdict.NOT_SENT, _plain(reason), "not_sent"


def _lost(call: Call, message: str, code: str, evidence: Mapping[str, Any]) -> Answer:
    verdict = Verdict.FAILED_SAFE if call.method in READS else Verdict.UNKNOWN
    return Answer(verdict, error={"message": message, "code": code}, evidence=evidence)


def _read(error: pycurl.error) -> tuple[int, str]:
    given: tuple[Any, ...] = error.args
    return (int(given[0]), str(given[1])) if len(given) > 1 else (-1, str(error))


def _plain(reason: object) -> str:
    return _URL_CREDENTIALS.sub("//", str(reason))[:500]


_HOPELESS: Final = frozenset({pycurl.E_URL_MALFORMAT, pycurl.E_UNSUPPORTED_PROTOCOL})
_ALWAYS: Final[tuple[tuple[int, Any], ...]] = (
    (pycurl.NOSIGNAL, 1),
    (pycurl.FOLLOWLOCATION, 0),
    (pycurl.PROXY, ""),
    (pycurl.NOPROXY, "*"),
    (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
    (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
    (pycurl.SSL_VERIFYPEER, 1),
    (pycurl.SSL_VERIFYHOST, 2),
    (pycurl.PATH_AS_IS, 1),
    (pycurl.TCP_NODELAY, 1),
    (pycurl.MAXAGE_CONN, MAX_IDLE_SECONDS),
)
