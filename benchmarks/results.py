"""Runs the benchmarks and writes what they print into RESULTS.md, one section each.

    python benchmarks/results.py
    python benchmarks/results.py sampling training_step --quick

A section says when, on which machine, with which versions and by which command it was made. Sections of
benchmarks that do not run now stay as they are.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "RESULTS.md"
BENCHMARKS = (
    "training_step",
    "demo_step",
    "demo_study",
    "sampling",
    "convolution",
    "determinant",
    "gauge_step",
    "spin_sampling",
    "spin_chains",
    "hmc",
    "schwinger_hmc",
    "multilevel",
    "plan",
)
SECTIONS = (*BENCHMARKS, "gpu")
"""Of RESULTS.md; the last is written by gpu.py."""
HEAD = "# Results\n\nWritten by `make bench`. What is measured, and what it taught: [README.md](README.md).\n"


def processor() -> str:
    """The name of the processor, as the system tells it."""
    information = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", information.read_text()) if information.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def conditions(command: str) -> str:
    """Machine, versions, date and command, in two lines of markdown."""
    load = f", load average {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    machine = f"{processor()}, {os.cpu_count()} cores{gpu}{load}"
    versions = f"Python {platform.python_version()}, PyTorch {torch.__version__}, NumPy {np.__version__}"
    date = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    return f"{date}; {machine}; {versions}, `OMP_WAIT_POLICY=passive`.  \n`{command}`"


def output_of(script: Path, arguments: list[str]) -> str:
    """What the script prints, shown here while it prints it.

    Raises:
        CalledProcessError: when the script fails.
    """
    command, lines = [sys.executable, str(script), *arguments], []
    # threads that spin while another program has their core make a step a hundred times slower
    environment = {"OMP_WAIT_POLICY": "passive"} | os.environ
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return "".join(lines).strip()


def write_section(name: str, text: str) -> None:
    """Replaces the section of one benchmark; all sections stand in the order of `SECTIONS`."""
    old = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
    sections = dict(re.findall(r"^## (\w+)\n\n(.*?)\s*(?=^## |\Z)", old, flags=re.MULTILINE | re.DOTALL))
    sections[name] = text
    body = "".join(f"\n## {known}\n\n{sections[known]}\n" for known in SECTIONS if known in sections)
    partial = RESULTS.with_suffix(".partial")
    partial.write_text(HEAD + body, encoding="utf-8")
    partial.replace(RESULTS)


def main() -> None:
    """Runs the benchmarks that are named, all of them if none is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"out of {', '.join(BENCHMARKS)}")
    parser.add_argument("--quick", action="store_true", help="smaller and noisier, in a few minutes")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"expected names out of {', '.join(BENCHMARKS)}, got {', '.join(sorted(unknown))}")
    for name in options.names or BENCHMARKS:
        arguments = ["--quick"] if options.quick else []
        if options.quick and name == "convolution":
            arguments = ["--repeats", "3"]
        command = " ".join(["python", f"benchmarks/{name}.py", *arguments])
        print(f"\n## {name}\n", flush=True)
        before = conditions(command)
        write_section(name, f"{before}\n\n{output_of(FOLDER / f'{name}.py', arguments)}")


if __name__ == "__main__":
    main()
