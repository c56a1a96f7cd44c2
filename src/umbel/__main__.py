"""`python -m umbel`: the command, where its script is not on the path."""

from umbel.cli import main

main()
