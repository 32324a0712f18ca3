"""Measuring the machine that the tests run on, whatever it can do."""

from __future__ import annotations

import subprocess
import sys

import pytest

from wanrun.errors import WanrunError
from wanrun.runtime import machine
from wanrun.runtime.calibration import calibrated, measured


def test_a_machine_is_measured_once() -> None:
    first = calibrated("cpu")
    assert calibrated("cpu") == first == machine.load("cpu")
    assert (first.device, first.device_bytes) == ("cpu", 0)
    assert 0 < first.import_bytes < first.network_bytes < 2e9
    assert 0 < first.encoder_bytes < 1e9
    for rates in first.rates.values():
        assert min(rates.linear, rates.attention, rates.tiny, *rates.convolution.values()) > 1e6
    assert min(*first.unpack.values(), *first.encode.values(), first.write) > 1e3


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(WanrunError, match="warp9"):
        measured("warp9")


MEASURING = """
import time
from wanrun.runtime.measure import end_with_parent
end_with_parent()
print("ready", flush=True)
time.sleep(100)
print("late", flush=True)
"""
ASKING = """
import subprocess, sys
subprocess.run([sys.executable, "-c", sys.argv[1]])
"""


def test_nobody_measures_for_who_is_gone() -> None:
    command = [sys.executable, "-c", ASKING, MEASURING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as asking:
        assert asking.stdout is not None
        assert asking.stdout.readline() == "ready\n"
        asking.kill()
        assert asking.stdout.read() == ""  # the pipe ends when the last process that has it does
