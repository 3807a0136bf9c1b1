"""One timed update in a process of its own: ``... cluster_sim.cost METHOD TOKENS D QUERIES SEED DEVICE``.

The reduced sampler serves one query, whatever QUERIES says: another query needs another sample.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time

K, SIGMA = 4, 1.0


def in_own_process(
    method: str, tokens: int, d: int, queries: int, seed: int = 0, device: str = "cpu"
) -> dict:
    """Run this file as a program and read the one line of JSON that it prints."""
    words = [method, tokens, d, queries, seed, device]
    command = [sys.executable, "-m", "analysis.cluster_sim.cost", *map(str, words)]
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **threads})
    if run.returncode:
        raise RuntimeError(f"{method} at {tokens:,} tokens failed: {run.stderr.strip().splitlines()[-1]}")
    return json.loads(run.stdout)


def peak_mb() -> float:
    """The largest resident memory of this process so far, in MB (10⁶ bytes).

    Linux's getrusage also counts what the parent held when it started this process; VmHWM does not.
    """
    if sys.platform == "linux":
        with open("/proc/self/status", encoding="ascii") as status:
            return next(int(line.split()[1]) * 1024 / 1e6 for line in status if line.startswith("VmHWM"))
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def reduced(tokens: int, d: int, queries: int, seed: int, device: str) -> tuple[float, float]:
    from analysis.cluster_sim.geometry import problem
    from analysis.cluster_sim.sampler import generator
    from analysis.cluster_sim.sampler import reduced as sample

    p = problem(K, d, math.pi / 4, SIGMA)
    before, start = peak_mb(), time.perf_counter()
    sample(p, tokens // K, 1, generator(seed))  # one query: each needs a sample of its own
    return time.perf_counter() - start, before


def in_torch(method: str, tokens: int, d: int, queries: int, seed: int, device: str) -> tuple[float, float]:
    import torch

    from analysis.cluster_sim import attention
    from analysis.cluster_sim.geometry import centers
    from analysis.cluster_sim.theory import theorem_lambda

    torch.set_num_threads(1)
    place = attention.resolve_device(device)
    mu = torch.tensor(centers(K, d), dtype=torch.float32, device=place)
    q = torch.nn.functional.normalize(
        mu.repeat(queries // K, 1) + 0.1 * torch.randn(queries, d).to(place), dim=1
    )
    before = peak_mb()
    lam, n = theorem_lambda(K, d, math.cos(math.pi / 4)), tokens // K
    with torch.inference_mode():
        if method == "streamed":
            start = time.perf_counter()
            attention.streamed(q, attention.generate(mu, SIGMA, n, seed), lam)
        else:
            x = mu.new_empty(n * K, d)
            for k, part in enumerate(x.split(n)):
                part.normal_().mul_(SIGMA / math.sqrt(d)).add_(mu[k])
            start = time.perf_counter()
            getattr(attention, method)(q, x, lam)
        if place.type == "cuda":
            torch.cuda.synchronize(place)
    return time.perf_counter() - start, before


def main(argv: list[str]) -> None:
    method, device = argv[0], argv[5]
    tokens, d, queries, seed = map(int, argv[1:5])
    shape = (tokens, d, queries, seed, device)
    seconds, before = reduced(*shape) if method == "reduced" else in_torch(method, *shape)
    queries = 1 if method == "reduced" else queries
    row = {"method": method, "tokens": tokens, "d": d, "queries": queries, "seconds": seconds}
    memory = {"peak_mb": round(peak_mb(), 1), "baseline_mb": round(before, 1)}
    print(json.dumps({**row, **memory, "seed": seed, "device": device}))


if __name__ == "__main__":
    main(sys.argv[1:])
