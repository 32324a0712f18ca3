"""Writes the page that shows a batch: plain HTML beside the videos, which needs no server and no script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import quote

from wanrun.batch.works import Work
from wanrun.modelfile.parameters import format_parameter

#: Nothing but the files beside it may be loaded, whatever a prompt says; browsers differ in what a file's
#: own origin is.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' file:; media-src 'self' file:"
_STYLE = """
:root { color-scheme: light dark; --line: light-dark(#d8d5ce, #34383d); --soft: light-dark(#595d62, #a8abaf);
  --wrong: light-dark(#a3281c, #f0a196); --surface: light-dark(#fff, #1b1d20); }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 88rem; padding: 1.5rem; font: 16px/1.5 system-ui, sans-serif;
  background: light-dark(#f6f5f2, #131416); color: light-dark(#1c1e20, #e9e7e2); }
h1 { font-size: 1.25rem; }
ol { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); gap: 1rem;
  margin: 1rem 0; padding: 0; list-style: none; }
li { padding: 1rem; border: 1px solid var(--line); border-radius: 12px; background: var(--surface); }
video, img { display: block; width: 100%; height: auto; background: #0c0d0e; border-radius: 6px; }
h2 { margin: .75rem 0 .25rem; font-size: 1rem; font-weight: 600; overflow-wrap: anywhere; }
p, dl { margin: .25rem 0; overflow-wrap: anywhere; }
.soft, dt, summary { color: var(--soft); }
.wrong { color: var(--wrong); white-space: pre-wrap; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 .75rem; font-size: .875rem; }
dd { margin: 0; }
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One video of the page; without a ``problem`` one that is not there yet still waits."""

    work: Work
    problem: str = ""


def page(title: str, entries: Sequence[Entry], sheet: str = "") -> str:
    """The page of ``entries``, whose files lie beside it; so does the contact sheet, named ``sheet``.

    All text in it is escaped: a prompt is a prompt, whatever it looks like.
    """
    made = sum(entry.work.made for entry in entries)
    told = [f"{made} of {len(entries)} videos"]
    if failed := sum(bool(entry.problem) for entry in entries):
        told.append(f"{failed} failed")
    if sheet:
        told.append(f'<a href="{_link(sheet)}">contact sheet</a>')
    items = "\n".join(_item(number, entry) for number, entry in enumerate(entries, start=1))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
<p>{", ".join(told)}</p>
<ol>
{items}
</ol>
</main>
</body>
</html>
"""


def _item(number: int, entry: Entry) -> str:
    work = entry.work
    varied = " · ".join(f"{key} {value}" for key, value in work.shot.varied.items() if key != "prompt")
    about = f'<p class="soft">{escape(varied)}</p>' if varied else ""
    return f"""<li>
{_picture(entry)}
<h2>{number}. {escape(work.request.prompt)}</h2>
{about}
<details><summary>{escape(work.shot.name or "settings")}</summary>{_settings(work)}</details>
</li>"""


def _picture(entry: Entry) -> str:
    work = entry.work
    size = f'width="{work.request.width}" height="{work.request.height}"'
    if work.made:
        described = escape(f"Video: {work.request.prompt}")
        if work.path.suffix == ".gif":
            return f'<img src="{_link(work.path.name)}" alt="{described}" {size} loading="lazy">'
        return (
            f'<video src="{_link(work.path.name)}" aria-label="{described}" {size} '
            'controls loop muted playsinline preload="metadata"></video>'
        )
    if entry.problem:
        return f'<p class="wrong">Failed: {escape(entry.problem)}</p>'
    return '<p class="soft">Not made yet.</p>'


def _settings(work: Work) -> str:
    request = work.request
    rows = {
        "model": work.bundle.name,
        "file": work.path.name,
        "size": f"{request.width}x{request.height}",
        "frames": f"{request.frames} at {request.fps} a second",
        "seed": str(request.seed),
        "steps": str(request.steps),
        **{key: format_parameter(value) for key, value in work.shot.asked.items()},
        "notes": "; ".join(request.notes),
    }
    pairs = (f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in rows.items() if value)
    return f"<dl>{''.join(pairs)}</dl>"


def _link(name: str) -> str:
    """A reference to a file beside the page that no name can turn into one to elsewhere."""
    return "./" + quote(name)
