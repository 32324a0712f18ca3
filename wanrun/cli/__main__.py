"""``python -m wanrun.cli`` is ``wanrun``."""

from __future__ import annotations

from wanrun.cli.main import main

main(prog_name="wanrun")
