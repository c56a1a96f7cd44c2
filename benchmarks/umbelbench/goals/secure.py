"""SA1 on one core, 1 M float32: what a client and the server compute in one secure round, in CPU seconds."""

import json
import subprocess
import sys
import time

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


def main() -> None:
    from hashlib import sha256

    from umbel.privacy.sa1 import (
        Encoding,
        Floors,
        Offer,
        Party,
        SecureServer,
        advertise,
        agree,
        default_threshold,
        mask,
        release,
        share,
    )
    from umbel.privacy.sa1.keys import identity_of

    count, neighbours, dropped = CASES[sys.argv[1]]
    secrets = {f"{index:04}": sha256(f"identity {index}".encode()).digest() for index in range(count)}
    known = {name: identity_of(secret) for name, secret in secrets.items()}
    parties = {
        name: Party(name=name, secret=secret, trusts=lambda name, key, credential: known[name] == key, floors=Floors())
        for name, secret in secrets.items()
    }
    offer = Offer(
        run="run",
        round=1,
        attempt=0,
        model=bytes(32),
        encoding=Encoding(clip=1.0, weight_cap=1000.0, clients=count, size=SIZE, metrics=("loss",)),
        clients=count,
        threshold=default_threshold(neighbours + 1 if neighbours else count),
        neighbours=neighbours,
    )
    gone = set(list(parties)[: round(dropped * count)])
    rng = np.random.default_rng(0)
    update = (rng.standard_normal(SIZE) * 0.1).astype(np.float32)
    noise = rng.integers(0, 2**32, offer.encoding.length, np.uint64).astype(np.uint32)
    clock, spent = time.process_time, dict.fromkeys(parties, 0.0)
    work, sent, at_server = {}, dict.fromkeys(parties, 0), 0.0

    def timed(name, step, *arguments):
        begun = clock()
        work[name], answer = step(*arguments)
        spent[name] += clock() - begun
        sent[name] += len(answer) if isinstance(answer, bytes) else answer.nbytes
        return answer

    def served(step, *arguments):
        nonlocal at_server
        begun = clock()
        answer = step(*arguments)
        at_server += clock() - begun
        return answer

    server = served(SecureServer, offer)
    for name, party in parties.items():
        served(server.advert, name, timed(name, advertise, party, offer.data))
    header = served(server.close_adverts)
    for name, party in parties.items():
        served(server.shares, name, timed(name, share, party, work[name], header))
    inboxes = served(server.close_shares)
    expected, real = np.zeros(offer.encoding.length, np.uint32), list(parties)[:REAL]
    for name, party in parties.items():
        begun = clock()
        vector = (
            offer.encoding.encode([([update], 20.0)], examples=20.0, metrics={"loss": 0.5}) if name in real else noise
        )
        spent[name] += clock() - begun
        if name not in gone:
            expected += vector
        if name in real:
            vector = timed(name, mask, party, work[name], inboxes[name], offer.model, vector)
        else:
            work[name] = _skipped(party, work[name], inboxes[name])
        if name not in gone:
            served(server.masked, name, vector)
    sets = served(server.close_masked)
    for name in server.summed:
        served(server.signature, name, timed(name, agree, parties[name], work[name], sets))
    for name, signatures in served(server.close_signatures).items():
        served(server.opened, name, timed(name, release, parties[name], work[name], signatures))
    total = served(server.result)
    exact = count <= REAL
    if exact and not np.array_equal(total, expected):
        raise SystemExit("the opened sum is not the sum of the vectors")
    stayed = [name for name in real if name not in gone]
    print(
        json.dumps(
            {
                "client": float(np.median([spent[name] for name in stayed])),
                "server": at_server,
                "upload": float(np.median([sent[name] for name in stayed])) / SIZE,
                "exact": exact,
            }
        )
    )


def _skipped(party, member, inbox):
    """The member after a mask step whose vector nobody needs."""
    from dataclasses import replace

    from umbel.privacy.sa1 import masking

    there, shares = masking._opened(party, member, inbox)
    return replace(member, stage="masked", peers=there, shares={**member.shares, **shares}, channel=b"")


if __name__ == "__main__":
    main()
