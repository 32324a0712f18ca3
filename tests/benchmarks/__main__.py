"""Runs the benchmarks: ``python -m tests.benchmarks [--quick]``. Each prints ratios measured in one run.

``experts`` and ``download`` are run by themselves: the one wants 18 GB of disk, the other an idle machine.
Options are those of ``tests.benchmarks.peers``.
"""

from __future__ import annotations

import sys

from tests.benchmarks import forward, gguf_open, peers, plan

gguf_open.main([])
forward.main()
plan.main()
sys.exit(peers.main())
