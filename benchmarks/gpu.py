"""On a GPU, within ten minutes: the tests that need one, benchmarks that take one, and a table of a paper.

That is table 1 of Białas, Korcyl, Stebel, Training normalizing flows with computationally intensive target
probability distributions.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --device cpu --quick

Each part is a process with what is left of the time; one that fails or does not end stops no other, and the
status says so at the end. Those that come first matter most. What a GPU gave becomes a section of RESULTS.md;
`--device cpu` only shows, where there is none, that all parts run.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch

from results import conditions, write_section

FOLDER = Path(__file__).parent
LATTICES = ((8, 32), (12, 16), (16, 16))
"""Sides and batches of table 1."""


class Part(NamedTuple):
    """One process: its title, its command, and the most seconds that it may take."""

    title: str
    command: list[str]
    seconds: float


def parts(device: str, quick: bool) -> list[Part]:
    """Everything in its order."""
    here = [sys.executable, "-m"]
    repeats = "1" if quick else "5"
    sides = LATTICES[:1] if quick else LATTICES
    found = [Part("tests", [*here, "pytest", "-q", "-m", "gpu", "tests"], 240)]
    for side, batch in sides:
        changes = ["-o", f"action.lattice=[{side}, {side}]", "-o", f"compute.device={device}"]
        command = [*here, "latflow", "profile", "schwinger-16x16-published", *changes]
        layers = ["-o", "model.layers=8"] if quick else []
        words = [*command, *layers, "--batch", str(batch), "--repeats", repeats, "--top", "5"]
        found.append(Part(f"table 1, L = {side}, batch {batch}", words, 120))
    for name in ("training_step", "gauge_step", "determinant", "sampling", "spin_sampling"):
        script = [sys.executable, str(FOLDER / f"{name}.py"), "--device", device, "--quick"]
        if name == "training_step":  # whose memory takes a process for each estimator and size
            script += ["--sub-batch", "0"]
        found.append(Part(name, script, 240))
    return found


def done(part: Part, seconds: float) -> tuple[bool, str]:
    """Whether a part ended well, and what it printed or why it has nothing to show."""
    if seconds < 1:
        return False, "not run: the time was used up"
    try:
        ended = subprocess.run(
            part.command, capture_output=True, text=True, timeout=min(seconds, part.seconds), check=False
        )
    except subprocess.TimeoutExpired:
        return False, f"not ended within {min(seconds, part.seconds):.0f} seconds"
    if ended.returncode:
        return False, f"ended with status {ended.returncode}:\n{ended.stdout[-2000:]}{ended.stderr[-2000:]}"
    return True, ended.stdout.strip()


def main() -> None:
    """Runs all parts, and writes what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", default=600.0, type=float, help="for everything")
    parser.add_argument("--quick", action="store_true", help="a small network and one repeat")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit(f"expected a GPU for --device {options.device}, found none that PyTorch can use")
    before = conditions("python " + " ".join(["benchmarks/gpu.py", *sys.argv[1:]]))
    end, failed, found = time.monotonic() + options.seconds, [], []
    for part in parts(options.device, options.quick):
        since = time.monotonic()
        good, text = done(part, end - since)
        found.append(f"### {part.title}, {time.monotonic() - since:.0f} s\n\n```\n{text}\n```\n")
        print(found[-1], flush=True)
        if not good:
            failed.append(part.title)
    if options.device.startswith("cuda"):
        write_section("gpu", "\n".join([f"{before}\n", *found]))
    if failed:
        sys.exit(f"without result: {', '.join(failed)}")


if __name__ == "__main__":
    main()
