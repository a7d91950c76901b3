"""`python -m latflow`: the command line."""

from latflow.cli import main

if __name__ == "__main__":
    main()
