"""A server as a node meets it: TLS on 127.0.0.1, JSON over HTTP, an authority behind it."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from umbel.identity import respond


def context_of(authority, folder):
    ca, certificate, key = authority.server_certificates()
    folder.mkdir(exist_ok=True)
    (folder / "pair.pem").write_bytes(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pair.pem")
    context.load_verify_locations(cadata=ca.decode())
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({})

    def do_POST(self):
        self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def answer(self, body):
        status, told = self.server.respond(self.path, body, self.connection.getpeercert(binary_form=True))
        data = told if isinstance(told, bytes) else json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class _Server(ThreadingHTTPServer):
    """Shakes hands in the thread of each connection; a handshake that fails is the other side's affair."""

    daemon_threads = True

    def finish_request(self, request, client_address):
        try:
            secure = self.tls.wrap_socket(request, server_side=True)
        except (ssl.SSLError, OSError):
            request.close()
            return
        with secure:
            super().finish_request(secure, client_address)

    def handle_error(self, request, client_address):
        pass


@contextmanager
def site(context, answer) -> Iterator[str]:
    """The address of a server that answers with `answer(path, body, certificate)`."""
    server = _Server(("127.0.0.1", 0), _Answers)
    server.tls, server.respond = context, answer
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def served(authority, folder) -> Iterator[str]:
    """The address of an authority's server."""
    with site(context_of(authority, folder), lambda *request: respond(authority, *request)) as address:
        yield address
