"""The site on this machine's loopback address, for this machine's browsers alone."""

from __future__ import annotations

import contextlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from dix.bench.view.site import KINDS, POLICY, Site

ADDRESS = "127.0.0.1"


class Server(ThreadingHTTPServer):
    """Serves a site until it is closed. port: 0 takes any free one."""

    daemon_threads = True

    def __init__(self, site: Site, port: int = 0) -> None:
        self.site = site
        super().__init__((ADDRESS, port), _Handler)

    @property
    def url(self) -> str:
        """Where the site is."""
        return f"http://{ADDRESS}:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    """Answers reading requests that name this very server; other pages' scripts get nothing."""

    server_version, sys_version = "dix", ""
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        """One file of the site."""
        path = self.path.partition("?")[0].lstrip("/") or "index.html"
        hosts = {f"{name}:{self.server.server_address[1]}" for name in (ADDRESS, "localhost")}
        if self.headers.get("Host") not in hosts:
            return self._answer(403, b"", "html")
        content = self.server.site.content(path)
        if content is None:
            return self._answer(404, b"", "html")
        return self._answer(200, content, path.rpartition(".")[2])

    def _answer(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": KINDS[kind],
            "Content-Length": str(len(content)),
            "Content-Security-Policy": POLICY,
            "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        with contextlib.suppress(ConnectionError):  # whoever asked has gone on to something else
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
