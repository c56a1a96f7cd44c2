"""Exit code 0 if the service of this container is well: `healthy.py server FOLDER [PORT]`, `healthy.py node FOLDER`.

A server is well if it answers GET /v1/ready, over TLS that its own CA vouches for. A node is well if it has a
connection to the server that it joined. Needs the standard library alone.
"""

import json
import ssl
import sys
import urllib.request
from pathlib import Path

ESTABLISHED = "01"


def identity(path: Path) -> dict[str, str]:
    return json.loads(path.read_text("utf-8"))


def server(folder: Path, port: str = "8080") -> bool:
    ca = identity(folder / "operator" / "identity.json")["ca_pem"]
    context = ssl.create_default_context(cadata=ca)
    with urllib.request.urlopen(f"https://127.0.0.1:{port}/v1/ready", timeout=4, context=context) as answer:
        return answer.status == 200


def node(folder: Path) -> bool:
    port = int(identity(folder / "identity.json")["address"].rpartition(":")[2])
    for table in map(Path, ("/proc/net/tcp", "/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            _, _, remote, state, *_ = line.split()
            if state == ESTABLISHED and int(remote.rpartition(":")[2], 16) == port:
                return True
    return False


if __name__ == "__main__":
    kind, place, *more = sys.argv[1:]
    try:
        well = server(Path(place), *more) if kind == "server" else node(Path(place))
    except (OSError, ValueError, KeyError) as error:
        print(f"not healthy: {error}", file=sys.stderr)
        well = False
    sys.exit(0 if well else 1)
