"""The prompt: makes one video after the other, with settings that stay, as Ollama's does for text."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import click

from wanrun.cli import show
from wanrun.cli.chosen import Chosen
from wanrun.cli.making import Way, make
from wanrun.cli.tables import printable, section
from wanrun.errors import InvalidRequest, WanrunError
from wanrun.types import Bundle

_ASK, _ASK_MORE, _QUOTES = ">>> ", "... ", '"""'
_HELP = '''Say what the video shows, or one of
  /set               list the settings
  /set NAME VALUE    change one, such as /set steps 20; without VALUE it is the model's own again
  /show [PART]       show the model: info, parameters, modelfile, license, system or template
  /?, /help          this
  /bye               end, as Ctrl-D does; Ctrl-C stops the video that is being made
Several lines go between """ and """.'''


class Session:
    """A conversation about ``bundle``, with the settings ``asked`` to begin with."""

    def __init__(self, bundle: Bundle, asked: Mapping[str, Any], way: Way) -> None:
        self._bundle, self._way = bundle, way
        self._chosen = Chosen(bundle, asked)

    def run(self) -> None:
        """Read and do until the end is asked for."""
        with suppress(ImportError):
            import readline  # noqa: F401 - input() edits lines and remembers them once it is there
        while True:
            try:
                said = _read()
                if said.split()[:1] in (["/bye"], ["/exit"]):
                    return
                self._do(said)
            except EOFError:
                click.echo()
                return
            except KeyboardInterrupt:
                click.echo("\nTo end: Ctrl-D or /bye.")
            except UnicodeError:
                click.echo("Error: what was typed is not text in the terminal's encoding", err=True)
            except WanrunError as error:
                click.echo(f"Error: {error}", err=True)

    def _do(self, said: str) -> None:
        words = said.split(maxsplit=1)
        if not words:
            return
        rest = words[1].strip() if len(words) > 1 else ""
        if words[0] == "/set":
            self._set(rest)
        elif words[0] == "/show":
            click.echo(self._shown(rest or "info"), nl=False)
        elif words[0] in ("/?", "/help"):
            click.echo(_HELP)
        elif words[0].startswith("/"):
            raise InvalidRequest(f"there is no command {printable(words[0][:40])}: /? lists them")
        else:
            make(self._bundle, said.strip(), self._chosen.asked, self._way, time.monotonic())

    def _set(self, rest: str) -> None:
        words = rest.split(maxsplit=1)
        if words[:1] == ["parameter"]:  # as Ollama has it
            words = words[1].split(maxsplit=1) if len(words) > 1 else []
        if words:
            self._chosen.put(words[0], words[1] if len(words) > 1 else "")
        else:
            click.echo(section("Settings", self._chosen.rows()), nl=False)

    def _shown(self, part: str) -> str:
        if part not in show.PARTS:
            raise InvalidRequest(f"there is {', '.join(show.PARTS)} to show, not {printable(part[:40])}")
        return show.text(self._bundle.name, part)


def _read() -> str:
    """A line, or the lines between triple quotes. Raises EOFError at the end, UnicodeError for no text."""
    line = input(_ASK)
    if line.startswith(_QUOTES):
        line = line.removeprefix(_QUOTES)
        lines = [line]
        while not line.endswith(_QUOTES):
            line = input(_ASK_MORE)
            lines.append(line)
        line = "\n".join(lines).removesuffix(_QUOTES)
    line.encode()  # bytes that are no text were let through as half characters
    return line
