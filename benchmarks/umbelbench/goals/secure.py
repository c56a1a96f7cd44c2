"""SA1 on one core, 1 M float32: what a client and the server compute in one secure round, in CPU seconds."""

import json
import subprocess
import sys
import time
from hashlib import sha256

import numpy as np

from umbelbench.contest import environment
from umbelbench.goal import Row
from umbelbench.intervals import estimate
from umbelbench.options import Options

NAME = "secure"
SIZE = 1_000_000
CASES = {
    "n=100, complete": (100, 0, 0.0),
    "n=100, complete, 10 % drop out": (100, 0, 0.1),
    "n=1000, k=50, 5 % drop out": (1000, 50, 0.05),
}
GOALS = {
    "n=100, complete": (0.30, 0.6),
    "n=100, complete, 10 % drop out": (0.30, 2.0),
    "n=1000, k=50, 5 % drop out": (None, 8.0),
}
REAL = 100
"""In larger cohorts only so many clients mask their vectors; the others send noise, which costs the server the same."""


def run(options: Options) -> list[Row]:
    repeats, rows = (1 if options.quick else 3), list[Row]()
    for case in list(CASES)[:2] if options.quick else CASES:
        found = []
        for _ in range(repeats):
            command = [options.python, "-m", "umbelbench.goals.secure", case]
            answer = subprocess.run(command, env=environment(), check=True, stdout=subprocess.PIPE, text=True)
            found.append(json.loads(answer.stdout))
        client, server = GOALS[case]
        facts = {"checked": "the exact integer sum" if found[0]["exact"] else "costs only"}
        rows += [
            Row(NAME, f"client, {case}", estimate([f["client"] for f in found]), "s", at_most=client, facts=facts),
            Row(NAME, f"server, {case}", estimate([f["server"] for f in found]), "s", at_most=server, facts=facts),
        ]
        if case == "n=100, complete":
            upload = estimate([f["upload"] for f in found])
            rows.append(Row(NAME, "all that a client sends per parameter, n=100", upload, "bytes", at_most=4.05))
    return rows


class Meter:
    """The members of a round, and the CPU seconds and bytes that each and the server spent."""

    def __init__(self, parties) -> None:
        self.members, self.server_s = {}, 0.0
        self.client_s, self.sent = dict.fromkeys(parties, 0.0), dict.fromkeys(parties, 0)

    def at_client(self, name, step, *arguments):
        begun = time.process_time()
        self.members[name], answer = step(*arguments)
        self.client_s[name] += time.process_time() - begun
        self.sent[name] += len(answer) if isinstance(answer, bytes) else answer.nbytes
        return answer

    def at_server(self, step, *arguments):
        begun = time.process_time()
        answer = step(*arguments)
        self.server_s += time.process_time() - begun
        return answer


def main() -> None:
    count, neighbours, dropped = CASES[sys.argv[1]]
    parties, offer = parties_of(count), offer_of(count, neighbours)
    real, gone = list(parties)[:REAL], set(list(parties)[: round(dropped * count)])
    meter = Meter(parties)
    total, expected = played(parties, offer, real, gone, meter)
    if count <= REAL and not np.array_equal(total, expected):
        raise SystemExit("the opened sum is not the sum of the vectors")
    stayed = [name for name in real if name not in gone]
    told = {
        "client": float(np.median([meter.client_s[name] for name in stayed])),
        "server": meter.server_s,
        "upload": float(np.median([meter.sent[name] for name in stayed])) / SIZE,
        "exact": count <= REAL,
    }
    print(json.dumps(told))


def parties_of(count):
    """Clients that know each other's identities."""
    from umbel.privacy.sa1 import Floors, Party
    from umbel.privacy.sa1.keys import identity_of

    secrets = {f"{index:04}": sha256(f"identity {index}".encode()).digest() for index in range(count)}
    known = {name: identity_of(secret) for name, secret in secrets.items()}

    def trusts(name, identity, credential):
        return known[name] == identity

    return {name: Party(name=name, secret=secret, trusts=trusts, floors=Floors()) for name, secret in secrets.items()}


def offer_of(count, neighbours):
    from umbel.privacy.sa1 import Offer, default_threshold

    threshold = default_threshold(neighbours + 1 if neighbours else count)
    return Offer(run="run", leadership=0, number=0, clients=count, threshold=threshold, neighbours=neighbours)


def purpose_of(count):
    from umbel.privacy.sa1 import Encoding, Purpose

    encoding = Encoding(clip=1.0, weight_cap=1000.0, clients=count, size=SIZE, metrics=("loss",))
    return Purpose(kind="fit", round=1, attempt=0, model=bytes(32), encoding=encoding)


def played(parties, offer, real, gone, meter):
    """(the opened sum, the sum of the vectors) of a sum that `gone` leave after they have shared."""
    from umbel.privacy.sa1 import Gathering, SecureServer, advertise, agree, release, share

    gathering, members = Gathering(offer), meter.members
    for name, party in parties.items():
        meter.at_server(gathering.advert, name, meter.at_client(name, advertise, party, offer.data))
    header = meter.at_server(gathering.close_adverts)
    for name, party in parties.items():
        meter.at_server(gathering.shares, name, meter.at_client(name, share, party, members[name], header))
    gathered = meter.at_server(gathering.close_shares)
    server = meter.at_server(SecureServer, gathered, purpose_of(len(parties)))
    expected = masked(parties, real, gone, server, meter)
    if not server.is_agreed:
        sets = meter.at_server(server.close_masked)
        for name in server.summed:
            meter.at_server(server.signature, name, meter.at_client(name, agree, parties[name], members[name], sets))
    for name, signatures in meter.at_server(server.close_signatures).items():
        answer = meter.at_client(name, release, parties[name], members[name], signatures)
        meter.at_server(server.opened, name, answer)
    return meter.at_server(server.result), expected


def masked(parties, real, gone, server, meter):
    """The sum of the vectors that the server gets, each under its masks."""
    from umbel.privacy.sa1.masking import receive, sign_early

    rng, encoding, model = np.random.default_rng(0), server.purpose.encoding, server.purpose.model
    update = (rng.standard_normal(SIZE) * 0.1).astype(np.float32)
    noise = rng.integers(0, 2**32, encoding.length, np.uint64).astype(np.uint32)
    expected = np.zeros(encoding.length, np.uint32)
    for name, inbox in meter.at_server(lambda: server.inboxes).items():
        vector, party = noise, parties[name]
        begun = time.process_time()
        member, masks = receive(party, meter.members[name], inbox, model)
        if name in real:
            vector = encoding.encode([([update], 20.0)], examples=20.0, metrics={"loss": 0.5})
            expected += 0 if name in gone else vector
            masks.add_to(vector)
            meter.sent[name] += vector.nbytes
        elif name not in gone:
            expected += vector  # whose masks nobody needs
        meter.members[name], signed = sign_early(party, member)
        meter.client_s[name] += time.process_time() - begun
        meter.sent[name] += len(signed)
        if name not in gone:
            meter.at_server(server.masked, name, vector)
            if signed:
                meter.at_server(server.early, name, signed)
    return expected


if __name__ == "__main__":
    main()
