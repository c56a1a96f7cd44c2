"""A server, as the command line talks to it: HTTP and JSON, over TLS with one's own certificate."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, final

import click

from umbel.errors import ConfigError, LinkError
from umbel.transports.choose import host_and_port
from umbel.transports.tls import client_tls
from umbel.transports.turns import addresses_in

Command = TypeVar("Command", bound=Callable[..., Any])
STANDS_BY = 503
DEFAULT_USER = Path(".umbel/user")


def with_server(command: Command) -> Command:
    """`--server`, `--as` and `--insecure`."""
    server = click.option("--server", "server", metavar="ADDRESS", help="A server to ask instead of this machine.")
    who = click.option(
        "--as", "user", type=Path, default=DEFAULT_USER, show_default=True, help="The folder of your credentials."
    )
    plain = click.option("--insecure", is_flag=True, help="Speak plaintext, to a server that does.")
    return server(who(plain(command)))


@final
class Remote:
    """One server.

    Args:
        address: "host:port", or several with commas between them: the first that answers and leads.
        user: the folder of one's credentials; None speaks plaintext.
    """

    def __init__(self, address: str, user: Path | None) -> None:
        self.address = address
        self._places = [(text, *host_and_port(text)) for text in addresses_in(address)]
        self._user = user
        self._tls = None if user is None else _context(user)

    @property
    def option(self) -> str:
        """What a command has to be given to ask the same server as the same user."""
        who = " --insecure" if self._user is None else "" if self._user == DEFAULT_USER else f" --as {self._user}"
        return f" --server {self.address}{who}"

    def get(self, path: str) -> Any:
        return self._ask("GET", path, None)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._ask("POST", path, body)

    def _ask(self, verb: str, path: str, body: Mapping[str, Any] | None) -> Any:
        answer = self._open(verb, path, body)
        return json.loads(answer.read())

    def data(self, path: str) -> tuple[bytes, Mapping[str, str]]:
        """The bytes at `path`, and the answer's headers."""
        answer = self._open("GET", path, None)
        return answer.read(), {name.lower(): value for name, value in answer.getheaders()}

    def lines(self, path: str) -> Iterator[dict[str, Any]]:
        """One JSON object per line, as they come.

        Raises:
            LinkError: the connection is lost, now or on the way.
        """
        answer = self._open("GET", path, None)
        try:
            for line in answer:
                yield json.loads(line)
        except (OSError, http.client.HTTPException, ValueError):
            raise LinkError(f"the connection to {self.address} is lost") from None

    def _open(self, verb: str, path: str, body: Mapping[str, Any] | None) -> http.client.HTTPResponse:
        """The answer, if it is a good one.

        Raises:
            LinkError: nobody answers there.
            ConfigError: the server refuses; says why.
        """
        for place in self._places[:-1]:
            try:
                answer = self._answer(*place, verb, path, body)
            except LinkError:
                continue
            if answer.status != STANDS_BY:
                return _good(place[0], answer)
            answer.close()
        last = self._answer(*self._places[-1], verb, path, body)
        if last.status == STANDS_BY and len(self._places) > 1:
            raise LinkError(f"none of {self.address} leads at the moment")
        return _good(self._places[-1][0], last)

    def _answer(
        self, address: str, host: str, port: int, verb: str, path: str, body: Mapping[str, Any] | None
    ) -> http.client.HTTPResponse:
        """What one of the addresses says.

        Raises:
            LinkError: nobody answers there.
        """
        if self._tls is None:
            connection = http.client.HTTPConnection(host, port)
        else:
            connection = http.client.HTTPSConnection(host, port, context=self._tls)
        data = None if body is None else json.dumps(body)
        try:
            connection.request(verb, path, data, {"Content-Type": "application/json", "Connection": "close"})
            return connection.getresponse()
        except ssl.SSLError as error:
            reason = getattr(error, "verify_message", "") or error.reason or error
            raise LinkError(f"{address} and this side do not trust each other: {reason}") from None
        except (OSError, http.client.HTTPException) as error:
            what = getattr(error, "strerror", None) or type(error).__name__
            raise LinkError(f"cannot reach {address}: {what}; is the server running, with or without TLS?") from None


def _good(address: str, answer: http.client.HTTPResponse) -> http.client.HTTPResponse:
    """The answer.

    Raises:
        LinkError: it stands by.
        ConfigError: the server refuses; says why.
    """
    if answer.status == STANDS_BY:
        raise LinkError(f"{address} does not lead: {_reason(answer)}")
    if answer.status >= 400:
        raise ConfigError(f"{address} refuses: {_reason(answer)}")
    return answer


def _reason(answer: http.client.HTTPResponse) -> str:
    try:
        return str(json.loads(answer.read())["error"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP status {answer.status}"


def _context(user: Path) -> ssl.SSLContext:
    from umbel.identity import Credentials

    mine = Credentials.load(user)
    return client_tls(mine.ca_pem, mine.certificate_pem, mine.key_pem).client_context()


def remote(server: str, user: Path, insecure: bool) -> Remote:
    """The server that the options name."""
    return Remote(server, None if insecure else user)
