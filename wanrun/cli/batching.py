"""Makes the videos of a batch one after the other, and keeps its page up to date."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import click

from wanrun import pipeline, settings
from wanrun.batch.page import Entry, page
from wanrun.batch.works import Work
from wanrun.cli import remote
from wanrun.cli.making import tell_notes
from wanrun.cli.plan import checked
from wanrun.cli.progress import shown
from wanrun.cli.saving import Video, save
from wanrun.cli.tables import printable
from wanrun.errors import WanrunError
from wanrun.request import chosen_words
from wanrun.runtime import runs
from wanrun.runtime.series import Series
from wanrun.store.durable import make_folder, store_errors, write_file

INDEX, SHEET = "index.html", "sheet.png"


@dataclass(slots=True)
class Batch:
    """The videos ``works`` in ``folder``; ``device`` and ``memory`` (bytes) as ``wanrun run`` has them."""

    works: Sequence[Work]
    folder: Path
    title: str
    device: str | None
    memory: int | None
    as_json: bool
    _problems: dict[Path, str] = field(default_factory=dict)
    _read: set[str] = field(default_factory=set)

    def run(self) -> int:
        """Make what is not there yet; the number of videos that failed."""
        with store_errors(f"cannot make the folder {self.folder}"):
            make_folder(self.folder)
        there = sum(work.made for work in self.works)
        self._write_page()
        try:
            with Series(self.device or settings.get("device")) as series:
                for number, work in self._in_order():
                    self._attempt(number, work, series)
        except BaseException:
            click.echo("Stopped. To continue from there, run the same command again.", err=True)
            raise
        finally:
            self._write_page(sheet=True)
        made = sum(work.made for work in self.works)
        told = [f"{made - there} made", f"{there} were there"] if there else [f"{made} made"]
        told += [f"{len(self._problems)} failed"] if self._problems else []
        click.echo(f"{len(self.works)} videos: {', '.join(told)}. {self.folder / INDEX}", err=self.as_json)
        return len(self._problems)

    def _in_order(self) -> Iterator[tuple[int, Work]]:
        """Those to make with their numbers, one model's after another's, which opens each once."""
        models = list(dict.fromkeys(work.bundle.name for work in self.works))
        numbered = [item for item in enumerate(self.works, start=1) if not item[1].made]
        yield from sorted(numbered, key=lambda item: models.index(item[1].bundle.name))

    def _attempt(self, number: int, work: Work, series: Series) -> None:
        if not self.as_json:
            click.echo(f"[{number}/{len(self.works)}] {printable(work.request.prompt)}", err=True)
        try:
            self._make(work, series)
        except WanrunError as error:
            self._fail(number, work, str(error))
        except Exception as error:  # one shot's failure, whatever it is, must not cost the night's others
            series.close()
            self._fail(number, work, f"{type(error).__name__}: {error}")
        self._write_page()

    def _make(self, work: Work, series: Series) -> None:
        started = time.monotonic()
        bundle, request = work.bundle, pipeline.expand(work.bundle, work.request)
        if not self.as_json:
            tell_notes(request)
        video = Video(bundle, request, str(work.path), work.path.suffix.removeprefix("."))
        here = self.device is not None or self.memory is not None
        if not here and remote.can_make(video, work.shot.prompt) and remote.serves(bundle):
            chosen = chosen_words(work.shot.prompt, request.seed)
            remote.make(chosen, work.shot.asked, video, self.as_json, started)
            return
        device = self.device or settings.get("device")
        planned = checked(bundle, request, device, self.memory, quiet=self.as_json)
        self._read_prompts(bundle.name, series)
        run = runs.interrupted(settings.home(), bundle, request) or runs.begin(
            settings.home(), bundle, request
        )
        try:
            made = partial(series.frames, run, bundle, request, planned, video.tally)
            save(made, video, self.as_json, started)
        except BaseException:
            if not run.started:
                run.forget()
            raise
        run.forget()

    def _read_prompts(self, model: str, series: Series) -> None:
        if model in self._read:
            return
        self._read.add(model)
        left = [work for _, work in self._in_order() if work.bundle.name == model]
        with shown(quiet=self.as_json) as progress:
            series.read(left[0].bundle, [work.request for work in left], progress)

    def _fail(self, number: int, work: Work, reason: str) -> None:
        self._problems[work.path] = reason
        click.echo(f"Error: [{number}/{len(self.works)}] {reason}", err=True)

    def _write_page(self, sheet: bool = False) -> None:
        name = SHEET if sheet and self._draw() else ""
        entries = [Entry(work, self._problems.get(work.path, "")) for work in self.works]
        with store_errors(f"cannot write {self.folder / INDEX}"):
            write_file(self.folder / INDEX, page(self.title, entries, name).encode())

    def _draw(self) -> bool:
        from wanrun.batch.sheet import save_sheet

        return save_sheet(self.works, self.folder / SHEET)
