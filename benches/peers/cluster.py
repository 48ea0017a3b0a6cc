"""Dask distributed on two worker processes of one thread, beside Gridloom on as many, in one run.

    python -m venv peers && peers/bin/pip install -r requirements.txt
    peers/bin/python cluster.py

Builds and runs Gridloom's benches, then Dask's rows of the same names, and writes all as one Markdown table. With
GRIDLOOM_SIDE=1000 for the side of the cubes; the README's command is that size, and takes Dask a minute.
"""

import logging
import os
import pathlib
import signal
import statistics
import subprocess
import threading
import time

import dask.array
import numpy
from distributed import Client, LocalCluster, wait

ROOT = pathlib.Path(__file__).parents[2]
BENCHES = [["engine", "processes"], ["cluster"], ["net"]]
TASKS = [10_000, 100_000]
SUBMITS = 200
CHAIN = 300
SIDE = int(os.environ.get("GRIDLOOM_SIDE", 1000))
BLOCK_BYTES = 64 << 20
TURNS = 11


def ours(bench, *words):
    # Of the whole workspace: for one package its dependencies would be built once more, with other features.
    command = ["cargo", "bench", "--quiet", "--workspace", "--bench", bench, "--", *words]
    rows = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    # One head is enough.
    print("\n".join(row for row in rows[2:] if row.startswith("|")), flush=True)


def increment(x):
    return x + 1


def cluster(workers=2):
    return LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None)


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


def mapped(client, tasks):
    return client.submit(sum, client.map(increment, range(tasks), pure=False), pure=False).result()


def cubes(count):
    """The mean over the last axis of random cubes of f64, one after the other."""
    return dask.array.random.random((count * SIDE, SIDE, SIDE)).mean(axis=-1)


def transfers(client, workers):
    """Seconds of each of many moves of 64 MiB from one worker to the other."""
    first, second = workers

    def moved():
        held = client.submit(numpy.ones, BLOCK_BYTES // 8, workers=[first], pure=False)
        wait(held)
        return taken(lambda: client.submit(len, held, workers=[second], pure=False).result())[0]

    return [moved() for _ in range(TURNS)][1:]


def beside_bulk(client, workers):
    """Seconds of each of many submits, while one worker fetches from the other."""
    ended = threading.Event()

    def keep_moving():
        while not ended.is_set():
            transfers(client, workers)

    mover = threading.Thread(target=keep_moving)
    mover.start()
    times = submits(client)
    ended.set()
    mover.join()
    return times


def submits(client):
    return sorted(taken(lambda: client.submit(increment, 1, pure=False).result())[0] for _ in range(SUBMITS))


def spread(times):
    p50, p99 = statistics.median(times) * 1e3, times[int(len(times) * 0.99)] * 1e3
    return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms"


def busy(seconds):
    begun = time.process_time()
    while time.process_time() - begun < seconds:
        pass
    return 1


def recovery():
    """One of two workers is killed a third into a job, and replaced by its nanny: how much later the job ends."""

    def job(client):
        return client.submit(sum, client.map(busy, [0.01] * 600, pure=False), pure=False)

    machines, client = opened()
    whole = min(taken(lambda: job(client).result())[0] for _ in range(3))
    begun, future = time.perf_counter(), job(client)
    time.sleep(whole / 3)
    os.kill(next(iter(machines.workers.values())).process.pid, signal.SIGKILL)
    assert future.result() == 600
    later = time.perf_counter() - begun - whole
    closed(machines, client)
    return f"{later:+.2f} s to {whole:.2f} s"


def main():
    # What it says of workers that are killed on purpose.
    logging.disable(logging.WARNING)
    print("| work | measured | wanted, or beside | ratio |\n|---|---|---|---|")
    for bench in BENCHES:
        ours(*bench)
    seconds, (machines, client) = taken(opened)
    row("cluster start to the first small result", f"{seconds * 1e3:.0f} ms")
    row("submit -> result, warm", spread(submits(client)))
    seconds, last = taken(lambda: chained(client))
    assert last == CHAIN
    row(f"chain of {CHAIN} dependent tasks", f"{seconds:.2f} s")
    for tasks in TASKS:
        seconds, total = taken(lambda: mapped(client, tasks))
        assert total == sum(range(1, tasks + 1))
        row(f"client.map of {tasks} tasks, then submit(sum)", f"{seconds:.2f} s, {tasks / seconds:.0f} tasks/s")
    workers = list(client.scheduler_info()["workers"])
    seconds = statistics.median(transfers(client, workers))
    row("64 MiB worker to worker, over TCP without TLS", f"{BLOCK_BYTES / seconds / 1e9:.2f} GB/s, with a submit")
    row("submit -> result beside such bulk", spread(beside_bulk(client, workers)))
    seconds, _ = taken(lambda: cubes(10).compute(scheduler=client))
    row("the README's command on 2 worker processes", f"{seconds:.2f} s")
    seconds, _ = taken(lambda: closed(machines, client))
    row("close", f"{seconds * 1e3:.0f} ms")
    alone = None
    for count in [1, 2, 4]:
        machines = cluster(count)
        client = Client(machines)
        seconds, _ = taken(lambda: cubes(2 * count).compute(scheduler=client))
        alone = alone or seconds
        row(f"weak scaling, 2 cubes for each of {count} workers", f"{seconds:.2f} s, {alone / seconds:.2f} of one's")
        closed(machines, client)
    row("SIGKILL of one of 2 workers, replaced at once", recovery())


if __name__ == "__main__":
    main()
