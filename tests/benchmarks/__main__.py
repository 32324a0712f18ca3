"""Runs every benchmark: ``python -m tests.benchmarks``. Each prints ratios measured in one run."""

from __future__ import annotations

from tests.benchmarks import forward, gguf_open, plan

for benchmark in (gguf_open, forward, plan):
    benchmark.main()
