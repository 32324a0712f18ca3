"""What every test stands on: a home of its own, and no test left out by accident."""

from __future__ import annotations

from pathlib import Path

import pytest

_LEFT_OUT: list[str] = []


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """WANRUN_HOME in a temporary folder."""
    path = tmp_path / "home"
    monkeypatch.setenv("WANRUN_HOME", str(path))
    return path


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where to compute; on CUDA, float32 convolutions in float32, not in 19 bits as they are by default."""
    if request.param == "cuda":
        import torch

        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    return str(request.param)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests for a GPU are the only ones that a machine may lack the means for."""
    for item in items:
        if item.get_closest_marker("gpu") is not None:
            import torch

            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and "gpu" not in report.keywords:
        _LEFT_OUT.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _LEFT_OUT and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name in _LEFT_OUT:
        terminalreporter.write_line(f"skipped, which only GPU tests may be: {name}", red=True)
