"""Prints the Python that `make` builds ./.venv with: `python3`, unless another of this machine is clearly faster.

Builds of the same version differ: one made without profile-guided optimisation, as version managers often do, runs a
worker about a quarter slower than the one of the distribution (decision 0016). Needs only the standard library.
"""

from __future__ import annotations

import subprocess
import sys

CANDIDATES = ("python3", "/usr/bin/python3", "/usr/local/bin/python3")
CLEARLY = 0.87
"""Another Python is taken when it needs less than this share of the time that `python3` needs."""
_SPEED = """
import sys, time, venv, ensurepip
assert sys.version_info >= (3, 11)
class Line:
    def __init__(self, key, quantity):
        self.key, self.quantity = key, quantity
    def cost(self, price):
        return self.quantity * price
async def step(line):
    return line.cost(7)
def work():
    seen = {}
    for i in range(60_000):
        line = Line(str(i), i)
        try:
            step(line).send(None)
        except StopIteration as done:
            seen[line.key] = {"cost": done.value, "lines": [line.quantity, (i, line)]}
def timed():
    start = time.process_time(); work(); return time.process_time() - start
print(min(timed() for _ in range(3)))
"""


def seconds(python: str) -> float | None:
    """CPU seconds this Python needs for a fixed piece of work; None: missing, too old, or it cannot make a venv."""
    try:
        said = subprocess.run([python, "-c", _SPEED], capture_output=True, text=True, timeout=30, check=True)
        return float(said.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def choose() -> str:
    """The Python to take. CPU time, and measured in turns, so that a busy machine chooses as an idle one does."""
    rounds = [[seconds(python) for python in CANDIDATES] for _ in range(3)]
    best = [min((one for one in times if one is not None), default=None) for times in zip(*rounds, strict=True)]
    usual = best[0]
    chosen, chosen_s = CANDIDATES[0], None if usual is None else usual * CLEARLY
    for python, needs_s in zip(CANDIDATES[1:], best[1:], strict=True):
        if needs_s is not None and (chosen_s is None or needs_s < chosen_s):
            chosen, chosen_s = python, needs_s
    return chosen


if __name__ == "__main__":
    sys.stdout.write(choose() + "\n")
