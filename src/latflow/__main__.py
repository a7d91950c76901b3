"""`latflow` and `python -m latflow`: the command line."""

import os

from latflow.terminal import end_on_signals, show_what_it_can


def main() -> None:
    """Run the command line."""
    end_on_signals()
    show_what_it_can()
    # threads that spin while they wait cost a factor of ten and more on cores that others use, too
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from latflow.cli import app

    app(prog_name="latflow")


if __name__ == "__main__":
    main()
