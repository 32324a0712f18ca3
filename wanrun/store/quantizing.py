"""Quantises an expert in a process of its own: no server needs torch for it, and it may crash alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, NoReturn

from wanrun import settings
from wanrun.errors import FormatError, InvalidRequest, StoreError, WanrunError
from wanrun.types import Progress
from wanrun.wan.mixes import find_mix

_KINDS: dict[str, type[WanrunError]] = {kind.__name__: kind for kind in (InvalidRequest, FormatError)}
_LAST_BYTES = 2000


def quantize_apart(source: Path, target: Path, kind: str, progress: Progress) -> None:
    """As ``wanrun.wan.requantize.quantize_transformer``; StoreError when the process is killed or fails.

    What ``progress`` raises ends the process.
    """
    find_mix(kind)
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            [sys.executable, "-P", "-m", "wanrun.store.quantizing", str(source), str(target), kind],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env={"OMP_NUM_THREADS": str(settings.threads())} | os.environ | {"PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is the caller's to handle
        ) as process,
    ):
        try:
            assert process.stdout is not None
            for line in process.stdout:
                said = json.loads(line)
                if isinstance(said, dict):
                    raise _KINDS.get(said["kind"], StoreError)(said["error"])
                progress(*said)
        except BaseException:
            process.kill()
            raise
        if process.wait() != 0:
            raise StoreError(f"quantising {source.name} {_ended(process.returncode)}{_last_line(log)}")


def _ended(status: int) -> str:
    if status > 0:
        return f"ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"was ended by {name}" + (" (out of memory, perhaps)" if name == "SIGKILL" else "")


def _last_line(log: IO[bytes]) -> str:
    end = log.seek(0, os.SEEK_END)
    log.seek(max(0, end - _LAST_BYTES))
    lines = log.read().decode(errors="replace").strip().split("\n")
    return f": {lines[-1]}" if lines[-1] else ""


def _main(source: str, target: str, kind: str) -> NoReturn:
    from wanrun.wan.requantize import quantize_transformer

    def say(said: object) -> None:
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()

    try:
        quantize_transformer(Path(source), Path(target), kind, lambda *progress: say(progress))
    except WanrunError as error:
        say({"kind": type(error).__name__, "error": str(error)})
    sys.exit(0)


if __name__ == "__main__":
    _main(*sys.argv[1:])
