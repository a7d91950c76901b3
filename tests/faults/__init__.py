"""Faults on purpose, in commands and in folders of runs: see `make faults`."""
