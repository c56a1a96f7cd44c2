"""The peers' versions, asked of their interpreters."""

import subprocess

_ASK = """
import sys
from importlib.metadata import PackageNotFoundError, version
for package in (sys.argv[1], "torch", "ray"):
    try:
        print(package, version(package), end=" ")
    except PackageNotFoundError:
        pass
"""


def version(peer: str, python: str) -> str:
    """Such as "pfl 0.6.0 torch 2.13.0+cpu"."""
    asked = subprocess.run([python, "-c", _ASK, peer], capture_output=True, text=True, check=True)
    return asked.stdout.strip()
