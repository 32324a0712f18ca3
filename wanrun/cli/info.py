"""The commands that show what is installed and how it is set up: plugins, doctor."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

import click

from wanrun import plugins as registry
from wanrun import settings
from wanrun.cli.tables import table

#: The types of most published files, whose speed is shown.
_TYPES = ("Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K")
_LIBRARIES = ("wanrun", "torch", "llama-cpp-python", "gguf", "safetensors", "sentencepiece", "av")


@click.command()
def plugins() -> None:
    """List every plugin, and why one does not load."""
    rows = [
        (plugin.group, plugin.name, plugin.distribution, plugin.problem or "ok")
        for plugin in registry.every()
    ]
    click.echo(table(("GROUP", "NAME", "FROM", "STATUS"), rows))


@click.command()
def doctor() -> None:
    """Show the machine, the libraries, every setting with its value, and how weights are multiplied."""
    click.echo(f"Python {platform.python_version()} on {platform.platform()}, {settings.threads()} threads")
    click.echo(table(("LIBRARY", "VERSION"), [(name, _version(name)) for name in _LIBRARIES]))
    click.echo()
    rows = [
        (
            setting.variable,
            _value(setting),
            "environment" if setting.variable in os.environ else "",
            setting.help,
        )
        for setting in settings.SETTINGS
    ]
    click.echo(table(("SETTING", "VALUE", "FROM", "MEANING"), rows))
    click.echo()
    click.echo(_compute())
    click.echo()
    click.echo(_measured())
    click.echo()
    click.echo(_multiply())


def _value(setting: settings.Setting) -> str:
    value = settings.get(setting.key)
    return "(set)" if setting.secret and value else value


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _compute() -> str:
    """What a run would compute on."""
    from wanrun.wan.devices import pick_device, pick_dtype

    device = pick_device(settings.get("device"))
    dtype = str(pick_dtype("auto", device)).removeprefix("torch.")
    return f"a run computes on {device} in {dtype}"


def _measured() -> str:
    """What this machine was measured to do, for the plans of runs."""
    from wanrun.runtime import machine

    device = settings.get("device")
    found, path = machine.load(device), machine.path(device)
    if found is None:
        return "this machine's speed is measured by the first 'wanrun plan' or 'wanrun run'"
    rows = [
        (
            precision,
            f"{rates.linear / 1e9:.0f} GF/s",
            f"{rates.attention / 1e9:.0f} GF/s",
            f"{max(rates.convolution.values()) / 1e9:.0f} GF/s",
        )
        for precision, rates in found.rates.items()
    ]
    unpacked = ", ".join(f"{kind} {speed / 1e9:.1f}" for kind, speed in found.unpack.items())
    encoded = ", ".join(f"{kind} {speed / 1e9:.0f}" for kind, speed in found.encode.items())
    return "\n".join(
        (
            table(("MEASURED", "LINEAR", "ATTENTION", "CONVOLUTION"), rows),
            f"unpacking, billions of weights a second: {unpacked}",
            f"text encoder, GF/s: {encoded}",
            f"libraries take {found.network_bytes / 1e6:.0f} MB; kept in {path}",
        )
    )


def _multiply() -> str:
    """How the CPU multiplies by each type of weight, and the measurements that say so."""
    from wanrun.gguf.policy import fastest
    from wanrun.gguf.probe import Memory
    from wanrun.wan.devices import pick_dtype

    memory, dtype = Memory(settings.home() / "cache"), pick_dtype("auto", "cpu")
    rows = []
    for kind in _TYPES:
        rates = memory.rates(kind, dtype)
        why = ", ".join(f"{way} {rate:.0f}" for way, rate in rates.items())
        rows.append((kind, fastest(rates, room=True), fastest(rates, room=False), why))
    return table(("CPU WEIGHTS", "WITH ROOM", "WITHOUT", "BECAUSE OF GF/S PER CORE"), rows)
