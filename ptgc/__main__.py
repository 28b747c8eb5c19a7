"""`python -m ptgc`."""

from ptgc.cli import main

main()
