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
        Row(NAME, "server: add one of the updates (CPU time)", estimate(found["add"]), "s"),
        Row(NAME, "one client: decrypt and round (CPU time)", estimate(found["open"]), "s"),
        Row(NAME, "bytes that a client sends per parameter", estimate(found["bytes"]), "B", at_most=60.0),
        Row(NAME, "relative error of the sum", estimate(found["error"]), at_most=1e-4),
    ]


def main() -> None:
    import numpy as np

    from umbel.privacy.ckks.conversation import Conversation
    from umbel.privacy.ckks.joining import advertise, deal, receive
    from umbel.privacy.ckks.offer import Offer
    from umbel.privacy.ckks.parameters import ckks
    from umbel.privacy.ckks.summing import agree, encrypt, opened
    from umbel.privacy.sa1.encoding import Encoding
    from umbel.privacy.sa1.keys import derived, identity_of
    from umbel.privacy.sa1.party import Party

    def secret(name: str) -> bytes:
        return derived(b"benchmark", name.encode(), b"", 0, 0)

    def trusts(name: str, identity: bytes, credential: bytes) -> bool:
        return identity_of(secret(name)) == identity

    encoding = Encoding(clip=1.0, weight_cap=100.0, clients=CLIENTS, size=SIZE)
    names, model = tuple(map(str, range(CLIENTS))), bytes(32)
    parties = {name: Party(name=name, secret=secret(name), trusts=trusts) for name in names}
    updates = dict(zip(names, np.random.default_rng(1).uniform(-1, 1, (CLIENTS, SIZE)).astype(np.float32), strict=True))
    truth = 50.0 * sum(update.astype(np.float64) for update in updates.values())
    found: dict[str, list[float]] = {name: [] for name in ("encrypt", "add", "open", "bytes", "error")}
    for attempt in range(int(sys.argv[1])):
        about = {"run": "benchmark/fit", "round": 1, "attempt": attempt, "model": model, "threshold": 3}
        talk = Conversation(Offer(encoding=encoding, settings=ckks(), names=names, **about))
        members = {}
        for step in talk.turns:
            for name, message in talk.messages(step).items():
                party = parties[name]
                if step == "advertise":
                    members[name], said = advertise(party, message)
                elif step == "deal":
                    members[name], said = deal(party, members[name], message)
                elif step == "agree":
                    members[name], said = agree(party, members[name], message)
                elif step == "encrypt":
                    member = receive(party, members[name], message)
                    start = time.process_time()
                    vector = encoding.encode([([updates[name]], 50.0)], examples=50.0)
                    members[name], said = encrypt(party, member, model, vector)
                    found["encrypt"].append(time.process_time() - start)
                    found["bytes"].append(len(said) / SIZE)
                else:
                    total = talk.total
                    start = time.process_time()
                    _, words = opened(party, members[name], message, total)
                    found["open"].append(time.process_time() - start)
                    said = words.tobytes()
                start = time.process_time()
                talk.took(step, name, said)
                if step == "encrypt":
                    found["add"].append(time.process_time() - start)
        error = np.linalg.norm(talk.decoded().values - truth)
        found["error"].append(float(error / np.linalg.norm(truth)))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
