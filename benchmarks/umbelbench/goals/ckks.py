"""A sum under CKKS of 1 M float32: CPU time of a client and of the server, bytes per parameter, and the error."""

import importlib.util
import json
import subprocess
import sys
import time

from umbelbench.contest import environment
from umbelbench.goal import Row
from umbelbench.intervals import estimate
from umbelbench.options import Options

NAME = "ckks"
SIZE, CLIENTS = 1_000_000, 4


def run(options: Options) -> list[Row]:
    if importlib.util.find_spec("tenseal") is None:
        print("without tenseal (extra ckks) the benchmark ckks is left out")
        return []
    times = 1 if options.quick else min(options.pairs, 5)
    command = [options.python, "-m", "umbelbench.goals.ckks", str(times)]
    answer = subprocess.run(command, env=environment(), check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(answer.stdout)
    return [
        Row(NAME, "client: encode and encrypt (CPU time)", estimate(found["encrypt"]), "s", at_most=2.0),
        Row(NAME, f"server: add {CLIENTS} updates (CPU time)", estimate(found["add"]), "s"),
        Row(NAME, "one client: decrypt and round (CPU time)", estimate(found["open"]), "s"),
        Row(NAME, "bytes that a client sends per parameter", estimate(found["bytes"]), "B", at_most=60.0),
        Row(NAME, "relative error of the sum", estimate(found["error"]), at_most=1e-4),
    ]


def main() -> None:
    import numpy as np

    from umbel.privacy.ckks.parameters import ckks
    from umbel.privacy.ckks.round import Sum, added, advertise, deal, encrypt, opened, receive
    from umbel.privacy.sa1.encoding import Encoding
    from umbel.privacy.sa1.keys import derived, identity_of
    from umbel.privacy.sa1.party import Party

    def secret(name: str) -> bytes:
        return derived(b"benchmark", name.encode(), b"", 0, 0)

    def trusts(name: str, identity: bytes, credential: bytes) -> bool:
        return identity_of(secret(name)) == identity

    encoding = Encoding(clip=1.0, weight_cap=100.0, clients=CLIENTS, size=SIZE)
    names = tuple(map(str, range(CLIENTS)))
    about = Sum(settings=ckks(), about=b"benchmark", clients=names, length=encoding.length)
    parties = {name: Party(name=name, secret=secret(name), trusts=trusts) for name in names}
    begun = {name: advertise(party, about) for name, party in parties.items()}
    adverts = {name: advert for name, (_, advert) in begun.items()}
    dealer, sealed = deal(parties["0"], about, begun["0"][0], adverts)
    members = {"0": dealer}
    for name, box in sealed.items():
        members[name] = receive(parties[name], about, begun[name][0], "0", adverts["0"], box)
    updates = np.random.default_rng(1).uniform(-1, 1, (CLIENTS, SIZE)).astype(np.float32)
    found: dict[str, list[float]] = {name: [] for name in ("encrypt", "add", "open", "bytes", "error")}
    for _ in range(int(sys.argv[1])):
        sent = []
        for name, update in zip(names, updates, strict=True):
            start = time.process_time()
            sent.append(encrypt(name, about, members[name], encoding.encode([([update], 50.0)], examples=50.0)))
            found["encrypt"].append(time.process_time() - start)
        start = time.process_time()
        total, _ = added(about, dict(zip(names, sent, strict=True)))
        found["add"].append(time.process_time() - start)
        start = time.process_time()
        words, _ = opened(parties["1"], about, members["1"], total)
        found["open"].append(time.process_time() - start)
        found["bytes"].append(len(sent[0]) / SIZE)
        truth = 50.0 * updates.astype(np.float64).sum(axis=0)
        found["error"].append(float(np.linalg.norm(encoding.decode(words).values - truth) / np.linalg.norm(truth)))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
