"""Coverage-guided fuzzing of all decoders: `make fuzz`, or `python tests/fuzz/run.py TARGET SECONDS`.

Needs atheris, which is not among the development requirements: `make fuzz` gives it an environment of its own.
"""

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))

with atheris.instrument_imports(include=["umbel.wire", "umbel.arrays", "umbel.runtimes.mail", "umbel.runtimes.fields"]):
    from fuzz.targets import TARGETS, reseal


def main(name: str, seconds: int) -> None:
    target = TARGETS[name]

    def one(data: bytes) -> None:
        target.run(data)
        if target.sealed and len(data) >= 48:
            target.run(reseal(data))

    corpus = Path(__file__).parent / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, sample in enumerate(target.samples):
        (corpus / f"sample-{number}").write_bytes(sample)
    limits = ["-max_len=65536", "-rss_limit_mb=1024", "-timeout=10", f"-max_total_time={seconds}"]
    atheris.Setup([sys.argv[0], *limits, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
