"""Progress: a bar with a real total on a terminal, a plain line every few seconds elsewhere."""

import io
import re

import pytest
from rich.console import Console

from builder.cli import progress_bar
from builder.cli.progress_bar import LINE_EVERY_S, Lines, bar


def shown_on(monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool) -> io.StringIO:
    text = io.StringIO()
    console = Console(file=text, force_terminal=is_terminal, width=120, color_system=None)
    monkeypatch.setattr(progress_bar, "console", console)
    return text


def test_without_a_terminal_a_line_comes_every_few_seconds(monkeypatch) -> None:
    text, now_s = shown_on(monkeypatch, is_terminal=False), 0.0
    lines = Lines("train", lambda: now_s)
    for step in range(1, 1_201):
        now_s = step * LINE_EVERY_S / 400
        lines(step, 1_200, "loss 0.5")

    assert text.getvalue() == "".join(
        f"  train: {step:,} of 1,200, loss 0.5\n" for step in (400, 800, 1_200)
    )


def test_a_quick_step_prints_no_line(monkeypatch) -> None:
    text = shown_on(monkeypatch, is_terminal=False)
    with bar("train") as progress:
        progress(1, 2)
        progress(2, 2)

    assert text.getvalue() == ""


def test_on_a_terminal_the_bar_advances_to_its_total(monkeypatch) -> None:
    text = shown_on(monkeypatch, is_terminal=True)
    with bar("precompute") as progress:
        progress(0, 1_500, "users")
        progress(1_500, 1_500, "users")

    assert re.search(r"precompute ━+ 1,500/1,500 .* users", text.getvalue())


def test_a_step_without_a_total_shows_no_count(monkeypatch) -> None:
    text = shown_on(monkeypatch, is_terminal=True)
    with bar("export"):
        pass

    assert "export" in text.getvalue()
    assert not re.search(r"\d/|/\?", text.getvalue())
