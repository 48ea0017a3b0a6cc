"""Dask distributed on two worker processes of one thread, beside Gridloom on as many, in one run.

    python -m venv peers && peers/bin/pip install -r requirements.txt
    cargo build --release && cargo bench --no-run --bench engine
    peers/bin/python cluster.py $(ls -t ../../target/release/deps/engine-* | grep -v '\\.d$' | head -1)

Writes Markdown: Gridloom's rows, then Dask's of the same names.
"""

import statistics
import subprocess
import sys
import time

from distributed import Client, LocalCluster

TASKS = 10_000
SUBMITS = 200
CHAIN = 300


def increment(x):
    return x + 1


def cluster():
    return LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)


def taken(work):
    begun = time.perf_counter()
    result = work()
    return time.perf_counter() - begun, result


def row(name, measured):
    print(f"| Dask: {name} | {measured} | | |", flush=True)


def opened():
    machines = cluster()
    client = Client(machines)
    assert client.submit(increment, 1).result() == 2
    return machines, client


def closed(machines, client):
    client.close()
    machines.close()


def chained(client):
    future = client.submit(increment, 0, pure=False)
    for _ in range(CHAIN - 1):
        future = client.submit(increment, future, pure=False)
    return future.result()


def mapped(client):
    return client.submit(sum, client.map(increment, range(TASKS), pure=False), pure=False).result()


def main():
    print(subprocess.run([sys.argv[1], "processes"], check=True, capture_output=True, text=True).stdout, end="")
    seconds, (machines, client) = taken(opened)
    row("cluster start to the first small result", f"{seconds * 1e3:.0f} ms")
    times = sorted(taken(lambda: client.submit(increment, 1, pure=False).result())[0] for _ in range(SUBMITS))
    p50, p99 = statistics.median(times) * 1e3, times[int(len(times) * 0.99)] * 1e3
    row("submit -> result, warm", f"p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    seconds, last = taken(lambda: chained(client))
    assert last == CHAIN
    row(f"chain of {CHAIN} dependent tasks", f"{seconds:.2f} s")
    seconds, total = taken(lambda: mapped(client))
    assert total == sum(range(1, TASKS + 1))
    row(f"client.map of {TASKS} tasks, then submit(sum)", f"{seconds:.2f} s, {TASKS / seconds:.0f} tasks/s")
    seconds, _ = taken(lambda: closed(machines, client))
    row("close", f"{seconds * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
