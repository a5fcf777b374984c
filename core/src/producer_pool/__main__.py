"""``python -m producer_pool``: the command line."""

from producer_pool.cli import main

main()
