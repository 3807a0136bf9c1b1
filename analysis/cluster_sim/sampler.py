"""Draws of the update m̂: with all tokens in memory, and the exact shortcut F5 that never makes them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from analysis.cluster_sim.geometry import Problem

HELD_LOGITS = 1 << 17  # logits held at a time: 1 MiB, which stays in cache


@dataclass(frozen=True)
class Draws:
    """``trials`` independent updates: m̂ [T, d], Kish's n_eff [T] and the largest weight [T]."""

    m: np.ndarray
    n_eff: np.ndarray
    top: np.ndarray


def generator(*key: int) -> np.random.Generator:
    """A stream of its own for each key, the same on every worker of every backend."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence(key)))


def full(p: Problem, n: int, trials: int, rng: np.random.Generator) -> Draws:
    """The update from all nK tokens in R^d, O(nKd) a trial: the reference for ``reduced``."""
    s, out = p.sigma / math.sqrt(p.d), []
    for _ in range(trials):
        x = (p.mu[:, None] + s * rng.standard_normal((p.K, n, p.d))).reshape(-1, p.d)  # [Kn, d]
        logits = p.lam * (x @ p.q)
        w = np.exp(logits - logits.max())
        w /= w.sum()
        out.append((w @ x, 1 / np.sum(w**2), w.max()))
    m, n_eff, top = zip(*out, strict=True)
    return Draws(np.array(m), np.array(n_eff), np.array(top))


def reduced(p: Problem, n: int, trials: int, rng: np.random.Generator) -> Draws:
    """F5: the same distribution in O(nK + d) a trial.

    Only t_ij = ⟨q, u_ij⟩ ~ N(0, s²) enters the weights ω. Given them, the part of Σ ω_ij u_ij that is
    perpendicular to q is exactly N(0, s² Σω² P_⊥): one Gaussian vector stands for nK of them.
    """
    if not n > 0 or not trials > 0:
        raise ValueError(f"n and trials must be positive, got n={n}, trials={trials}")
    at_once = max(1, HELD_LOGITS // (n * p.K))
    parts = [_reduced_block(p, n, min(at_once, trials - start), rng) for start in range(0, trials, at_once)]
    return Draws(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("m", "n_eff", "top")))


def _reduced_block(p: Problem, n: int, trials: int, rng) -> Draws:
    mass, along, squares = _sums(p, n, trials, rng)
    Z = mass.sum(axis=1)  # [T]
    omega2 = squares / Z**2
    flat = rng.standard_normal((trials, p.d))
    flat -= np.outer(flat @ p.q, p.q)  # P_⊥ g
    m = (mass / Z[:, None]) @ p.mu + np.outer(along / Z, p.q)
    m += (p.sigma / math.sqrt(p.d)) * np.sqrt(omega2)[:, None] * flat
    return Draws(m, 1 / omega2, 1 / Z)  # the largest weight is e⁰/Z after the shift by the maximum


def _sums(p: Problem, n: int, trials: int, rng):
    """Σ_j w [T, K], Σ w t [T] and Σ w² [T] with w = exp(logit − running maximum), over chunks of j."""
    s = p.sigma / math.sqrt(p.d)
    base = p.lam * (p.mu @ p.q)  # [K]
    top = np.full(trials, -np.inf)
    mass, along, squares = np.zeros((trials, p.K)), np.zeros(trials), np.zeros(trials)
    chunk = max(1, min(n, HELD_LOGITS // (trials * p.K)))
    for start in range(0, n, chunk):
        g = rng.standard_normal((trials, p.K, min(chunk, n - start)))
        w = g * (p.lam * s)
        w += base[:, None]  # the logits
        new = np.maximum(top, w.max(axis=(1, 2)))
        shrink = np.exp(top - new)
        w -= new[:, None, None]
        np.exp(w, out=w)
        mass = mass * shrink[:, None] + w.sum(axis=2)
        along = along * shrink + s * np.einsum("tkj,tkj->t", w, g)
        squares = squares * shrink**2 + np.einsum("tkj,tkj->t", w, w)
        top = new
    return mass, along, squares
