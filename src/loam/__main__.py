"""`python -m loam` is `loam`."""

from loam.cli.main import main

main()
