"""The rows of `kernels.rs` in Numba (without SVML, as PyPI has it), as JSON: name, size, threads, milliseconds.

    python -m venv peers && peers/bin/pip install -r requirements.txt && peers/bin/python kernels.py
"""

import json
import math
import time

import numba
import numpy as np

TURNS = 5
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


def main():
    rows = [
        ("2x2+3x+1", polynomial, 1, 64),
        ("sin exp sqrt", elementary, 1, 64),
        ("Mandelbrot 200", mandelbrot, 2, 8),
        ("sum of 2x2+3x+1", summed, 1, 64),
    ]
    for name, kernel, parameters, millions in rows:
        total = 8 * MILLION if parameters == 2 else 32 * MILLION
        for size, count, turns in [("large", millions * MILLION, 1), ("L2", 32 << 10, total // (32 << 10))]:
            out = np.empty(1 if kernel is summed else count, np.float32)
            inputs = [ramp(count, period) for period in (4096, 1 << 22)[:parameters]]
            for threads in (1, 2):
                numba.set_num_threads(threads)
                time_taken = milliseconds(lambda: kernel(*inputs, out), turns)
                print(json.dumps({"name": name, "size": size, "threads": threads, "ms": round(time_taken, 2)}))

    blocks()


def blocks():
    """The block kernels, over 64M elements in rows of 2048."""
    x = ramp(64 * MILLION, 4096).reshape(-1, 2048)
    out = np.zeros_like(x)
    bits = (np.arange(64 * MILLION, dtype=np.uint32) * np.uint32(2654435761)) >> np.uint32(7)
    for threads in (1, 2):
        numba.set_num_threads(threads)
        counts = np.zeros((threads, 256), np.uint32)
        for name, run in [
            ("5-point stencil", lambda: stencil(x, out)),
            ("histogram", lambda: histogram(bits, counts)),
        ]:
            time_taken = milliseconds(run, 1)
            print(json.dumps({"name": name, "size": "large", "threads": threads, "ms": round(time_taken, 2)}))


if __name__ == "__main__":
    main()
