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
                said = _line(_ASK)
                if said.split()[:1] in (["/bye"], ["/exit"]):
                    return
                if said.startswith(_QUOTES):
                    self._make(_quoted(said))
                elif said.startswith("/"):
                    self._do(said)
                elif said.strip():
                    self._make(said.strip())
            except EOFError:
                click.echo()
                return
            except KeyboardInterrupt:
                click.echo("\nTo end: Ctrl-D or /bye.")
            except UnicodeError:
                click.echo("Error: what was typed is not text in the terminal's encoding", err=True)
            except WanrunError as error:
                click.echo(f"Error: {error}", err=True)

    def _make(self, prompt: str) -> None:
        if not prompt.strip():
            raise InvalidRequest("the prompt is empty: say what the video shows")
        make(self._bundle, prompt, self._chosen.asked, self._way, time.monotonic())

    def _do(self, said: str) -> None:
        command, _, rest = said.partition(" ")
        rest = rest.strip()
        if command == "/set":
            self._set(rest)
        elif command == "/show":
            click.echo(self._shown(rest or "info"), nl=False)
        elif command in ("/?", "/help"):
            click.echo(_HELP)
        else:
            raise InvalidRequest(f"there is no command {printable(command[:40])}: /? lists them")

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


def _quoted(line: str) -> str:
    """The lines from ``line`` on to the next triple quotes at an end, without the quotes."""
    line = line.removeprefix(_QUOTES)
    lines = [line]
    while not line.endswith(_QUOTES):
        line = _line(_ASK_MORE)
        lines.append(line)
    return "\n".join(lines).removesuffix(_QUOTES)


def _line(ask: str) -> str:
    """What is typed. Raises EOFError at the end, UnicodeError for what is no text."""
    line = input(ask)
    line.encode()  # bytes that are no text may have come through as half characters
    return line
