"""What `import umbel` adds to `import numpy`, in fresh interpreters."""

import subprocess
import time

from umbelbench.contest import environment
from umbelbench.goal import Row
from umbelbench.intervals import estimate
from umbelbench.options import Options

NAME = "import"


def seconds(python: str, statement: str) -> float:
    begun = time.perf_counter()
    # compiled files may be written: what a user pays at every start but the first is what is measured
    subprocess.run([python, "-c", statement], env={**environment(), "PYTHONDONTWRITEBYTECODE": ""}, check=True)
    return time.perf_counter() - begun


def run(options: Options) -> list[Row]:
    numpy, umbel = "import numpy", "import numpy, umbel"
    for statement in (numpy, umbel):
        seconds(options.python, statement)
    alone, added, quotient = [], [], []
    for turn in range(10 if options.quick else max(options.pairs, 25)):
        times = {s: seconds(options.python, s) for s in ((numpy, umbel) if turn % 2 else (umbel, numpy))}
        alone.append(times[numpy] * 1e3)
        added.append((times[umbel] - times[numpy]) * 1e3)
        quotient.append(times[umbel] / times[numpy])
    return [
        Row(NAME, "interpreter and numpy", estimate(alone), "ms"),
        Row(NAME, "umbel adds", estimate(added), "ms", at_most=30.0),
        Row(NAME, "with umbel / without", estimate(quotient), bounded=True),
    ]
