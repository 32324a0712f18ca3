"""``wanrun samplers`` and ``wanrun schedules``."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from wanrun import plugins
from wanrun.cli.main import main


@pytest.mark.parametrize("group", ["samplers", "schedules"])
def test_each_has_a_line_with_its_advice(group: str) -> None:
    result = CliRunner().invoke(main, [group])
    assert result.exit_code == 0
    header, *lines = result.output.splitlines()
    assert [line.split()[0] for line in lines] == plugins.names(group)
    column = header.index("GOOD FOR")
    assert all(line[column - 1] == " " and line[column:].strip() for line in lines)


def test_options_and_forwards_are_shown() -> None:
    output = CliRunner().invoke(main, ["samplers"]).output
    lines = {line.split()[0]: line.split() for line in output.splitlines()}
    assert lines["euler"][1] == "1"
    assert lines["unipc"][1:4] == ["1", "order=2,", "variant=bh2"]


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys\nfrom wanrun.cli.main import main\n"
        "try:\n    main(['samplers'])\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "assert not {'torch', 'numpy', 'scipy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
