"""``python -m producer_pool.cli.demo``."""

from producer_pool.cli.demo.story import main

main()
