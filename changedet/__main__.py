"""`python -m changedet`."""

from changedet.cli import main

main()
