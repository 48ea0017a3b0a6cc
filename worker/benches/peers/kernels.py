"""The rows of `kernels.rs` in Numba (without SVML, as PyPI has it) beside Gridloom's, one kernel after the other in one run.

    python -m venv peers && peers/bin/pip install -r requirements.txt
    peers/bin/python kernels.py $(ls -t ../../../target/release/deps/kernels-* | grep -v '\\.d$' | head -1)

Writes Markdown. Numba counts in `fastmath`; Gridloom rounds as IEEE 754 says, and adds f32 in f64.
"""

import math
import subprocess
import sys
import time

import numba
import numpy as np

TURNS = 5
# Gridloom and Numba take turns: what else the machine does slows both.
ROUNDS = 2
MILLION = 1 << 20


parallel = numba.njit(parallel=True, fastmath=True)


@parallel
def polynomial(x, out):
    for at in numba.prange(x.size):
        out[at] = np.float32(2) * x[at] * x[at] + np.float32(3) * x[at] + np.float32(1)


@parallel
def elementary(x, out):
    for at in numba.prange(x.size):
        out[at] = math.sin(x[at]) * math.exp(-x[at] * x[at]) + math.sqrt(abs(x[at]))


@parallel
def mandelbrot(a, b, out):
    for at in numba.prange(a.size):
        x = np.float32(0)
        y = np.float32(0)
        n = 0
        while n < 200 and x * x + y * y <= np.float32(4):
            x, y = x * x - y * y + a[at], np.float32(2) * x * y + b[at]
            n += 1
        out[at] = n


@parallel
def summed(x, out):
    total = np.float64(0)
    for at in numba.prange(x.size):
        total += np.float32(2) * x[at] * x[at] + np.float32(3) * x[at] + np.float32(1)
    out[0] = total


@parallel
def stencil(x, out):
    for row in numba.prange(1, x.shape[0] - 1):
        for column in range(1, x.shape[1] - 1):
            around = x[row, column - 1] + x[row, column + 1] + x[row - 1, column] + x[row + 1, column]
            out[row, column] = around - np.float32(4) * x[row, column]


@parallel
def histogram(x, counts):
    for part in numba.prange(counts.shape[0]):
        length = x.size // counts.shape[0]
        for at in range(part * length, (part + 1) * length):
            counts[part, x[at] & 255] += 1


# Name, function, parameters, elements in millions.
ROWS = [
    ("2x2+3x+1", polynomial, 1, 64),
    ("sin exp sqrt", elementary, 1, 64),
    ("Mandelbrot 200", mandelbrot, 2, 8),
    ("sum of a map", summed, 1, 64),
]


def ramp(count, period):
    """As the bench's operands: from -2 to 2, again and again."""
    return ((np.arange(count) % period) * (4.0 / period) - 2.0).astype(np.float32)


def milliseconds(run, turns):
    run()
    shortest = math.inf
    for _ in range(TURNS):
        begun = time.perf_counter()
        for _ in range(turns):
            run()
        shortest = min(shortest, time.perf_counter() - begun)
    return shortest * 1e3


def of_numba(kernel, parameters, millions):
    """Milliseconds by size and threads."""
    times = {}
    total = (8 if parameters == 2 else 32) * MILLION
    for size, count, turns in [("large", millions * MILLION, 1), ("L2", 32 << 10, total // (32 << 10))]:
        out = np.empty(1 if kernel is summed else count, np.float32)
        periods = (256, count) if size == "L2" else (4096, 1 << 22)
        inputs = [ramp(count, period) for period in periods[:parameters]]
        for threads in (1, 2):
            numba.set_num_threads(threads)
            times[size, threads] = milliseconds(lambda: kernel(*inputs, out), turns)
    return times


def of_gridloom(binary, name):
    """The same, and the milliseconds of its floor."""
    times, floors = {}, {}
    for line in subprocess.run([binary, name], check=True, capture_output=True, text=True).stdout.splitlines():
        if line.startswith(name):
            size, threads, time_taken, floor = line[len(name) :].split()[:4]
            times[size, int(threads)], floors[size, int(threads)] = float(time_taken), float(floor)
        elif line.startswith(f"compiling {name}:"):
            print(line, file=sys.stderr)
    return times, floors


def shorter(a, b):
    return b | {key: min(time_taken, b.get(key, math.inf)) for key, time_taken in a.items()}


def main():
    binary = sys.argv[1]
    print("| kernel | size | threads | Gridloom ms | Numba ms | Gridloom's rate to Numba's | floor ms |")
    print("|---|---|---|---|---|---|---|")
    for name, kernel, parameters, millions in ROWS:
        ours, floors, theirs = {}, {}, {}
        for _ in range(ROUNDS):
            times, floor = of_gridloom(binary, name)
            ours, floors = shorter(times, ours), shorter(floor, floors)
            theirs = shorter(of_numba(kernel, parameters, millions), theirs)
        rows(name, ours, theirs, floors)
    shape = (-1, 2048)
    x = ramp(64 * MILLION, 4096).reshape(shape)
    bits = (np.arange(64 * MILLION, dtype=np.uint32) * np.uint32(2654435761)) >> np.uint32(7)
    of_blocks(binary, "5-point stencil", lambda threads: (stencil, x, np.zeros_like(x)))
    of_blocks(binary, "histogram", lambda threads: (histogram, bits, np.zeros((threads, 256), np.uint32)))


def of_blocks(binary, name, call):
    """A block kernel's rows."""
    ours, floors, theirs = {}, {}, {}
    for _ in range(ROUNDS):
        times, floor = of_gridloom(binary, name)
        ours, floors = shorter(times, ours), shorter(floor, floors)
        for threads in (1, 2):
            numba.set_num_threads(threads)
            kernel, *arguments = call(threads)
            theirs = shorter({("large", threads): milliseconds(lambda: kernel(*arguments), 1)}, theirs)
    rows(name, ours, theirs, floors)


def rows(name, ours, theirs, floors):
    for (size, threads), time_taken in ours.items():
        numbas = theirs[size, threads]
        row = (name, size, threads, f"{time_taken:.1f}", f"{numbas:.1f}")
        print(f"| {' | '.join(map(str, row))} | {numbas / time_taken:.2f} | {floors[size, threads]:.1f} |")


if __name__ == "__main__":
    main()
