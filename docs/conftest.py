"""Pages that tests/test_docs.py runs as a whole, with their files and commands, are no plain doctests."""

collect_ignore_glob = ["howto-*.md", "own*.md"]
