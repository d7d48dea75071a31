"""Tables on a terminal of any width: numbers stay whole, and what has no room is named."""

import os
import pty
import re
import subprocess
import sys
import termios
from collections import Counter

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from cnnjax.cli.main import cnnjax
from cnnjax.cli.output import byte_size, print_table, print_text
from cnnjax.cli.tables import lay_out, wrap
from tests.study.test_store import claim, fill

WIDTHS = (60, 80, 100, 120, 200)


COMMANDS = {
    "models": ("models", "vgg1*"),
    "compare": ("compare",),
    "summary": ("summary", "resnet50"),
    "settings": ("settings", "optimizer"),
    "study": ("study", "status"),
}


@pytest.fixture
def terminal(monkeypatch, capsys):
    """What `prints()` puts on a terminal of some width: lines, unstyled."""

    def call(width, prints):
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        prints()
        return click.unstyle(capsys.readouterr().out).splitlines()

    return call


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """A command's tables and texts, computed once, to be printed again at any width."""
    store, plan = claim(tmp_path_factory.mktemp("study"), seeds=3)
    fill(store, plan)
    found = {}

    def call(name):
        if name not in found:
            calls = []
            folder = [str(store.folder)] if name == "study" else []
            with pytest.MonkeyPatch.context() as patch:
                for function in (print_table, print_text):
                    patch.setattr(
                        f"cnnjax.cli.{name}.{function.__name__}",
                        lambda *args, f=function, **options: calls.append((f, args, options)),
                        raising=False,
                    )
                cnnjax.main([*COMMANDS[name], *folder], standalone_mode=False)
            assert any(function is print_table for function, _, _ in calls)
            found[name] = lambda: [f(*args, **options) for f, args, options in calls]
        return found[name]

    return call


def with_digits(text):
    return set(re.findall(r"\S*\d\S*", text))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", COMMANDS)
def test_no_number_is_broken_and_no_line_is_too_long(terminal, printed, capsys, name, width):
    prints = printed(name)
    capsys.readouterr()
    prints()
    piped = capsys.readouterr().out
    lines = terminal(width, prints)
    assert with_digits(" ".join(lines)) <= with_digits(piped)
    assert max(map(cell_len, lines)) <= width
    assert len(lines) > 4


def test_what_has_no_room_is_named_and_goes_in_order(terminal, printed, capsys):
    prints = printed("models")
    lines = terminal(80, prints)
    assert lines[-1] == "no room for: task, paper (a wider terminal or --json shows more)"
    assert ["vgg13", "2014", "133,047,848", "=", "11,308,466,176", "11.31", "G", "(0.0", "%)",
            "224x224x3"] in [line.split() for line in lines]  # fmt: skip
    lines = terminal(60, prints)
    assert "no room for: task, paper, year, input" in lines[-2:][0] + lines[-1]
    assert "no room" not in " ".join(terminal(200, prints))


def test_nothing_is_cut_where_there_is_no_terminal(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    rows = [("a", "word " * 100, 1_000_000)]
    print_table(("name", "text", "count"), rows, (2,), ("text",))
    head, row = capsys.readouterr().out.splitlines()
    assert row.split() == ["a", *["word"] * 100, "1000000"]
    assert head.split() == ["name", "text", "count"]


def test_a_real_terminal_of_eighty_columns(command):
    """Through a pty, as a user has it."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    with subprocess.Popen(
        [*command, "summary", "lenet5"], stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        text = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end was closed
                break
            if not part:
                break
            text += part
    os.close(ours)
    assert process.returncode == 0
    lines = click.unstyle(text.decode()).splitlines()
    assert max(map(cell_len, lines)) <= 80
    assert any("layer" in line and "MACs" in line for line in lines)


WORDS = st.text(st.sampled_from("ab0,9.é漢"), min_size=1, max_size=12)
TEXTS = st.lists(WORDS, min_size=0, max_size=5).map(" ".join)


@given(data=st.data(), columns=st.integers(1, 6), rows=st.integers(0, 3), width=st.integers(24, 90))
def test_a_table_of_any_kind_fits_and_keeps_every_word(data, columns, rows, width):
    head = data.draw(st.lists(TEXTS, min_size=columns, max_size=columns))
    cells = [data.draw(st.lists(TEXTS, min_size=columns, max_size=columns)) for _ in range(rows)]
    numeric = data.draw(st.sets(st.integers(0, columns - 1)))
    optional = data.draw(st.lists(st.sampled_from(head[1:]), max_size=2)) if columns > 1 else []
    lines = lay_out(head, cells, tuple(numeric), tuple(optional), width)
    printed = [*lines.head, *lines.body]
    assert max(map(cell_len, printed), default=0) <= width
    assert lines.left_out == tuple(dict.fromkeys(optional))[: len(lines.left_out)]
    kept = [i for i, name in enumerate(head) if name not in lines.left_out]
    words = Counter(word for row in cells for i in kept for word in row[i].split())
    assert words <= Counter(" ".join(printed).split())


@given(TEXTS, st.integers(1, 60))
def test_wrapping_keeps_the_words_and_breaks_only_those_wider_than_the_screen(text, width):
    lines = wrap(text, width)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    if all(cell_len(word) <= width for word in text.split()):
        assert " ".join(lines).split() == text.split()
        assert all(cell_len(line) <= width for line in lines)


def test_a_narrow_screen_gets_a_block_a_row():
    lines = lay_out(
        ("name", "", "MACs", "params"),
        [("resnet50", "=", "4,089,184,256", "25,557,032")],
        numeric=(2, 3),
        width=22,
    )
    assert lines.head == []
    assert lines.body == ["resnet50  =", "  MACs 4,089,184,256", "  params  25,557,032"]


def test_brackets_are_text(capsys):
    print_table(("file",), [("/data/[red]/x",)])
    assert capsys.readouterr().out == "file\n/data/[red]/x\n"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (812, "812 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (245_760, "240.0 KiB"),
        (2**20 - 1, "1.0 MiB"), (2**20, "1.0 MiB"), (102_228_128, "97.5 MiB"), (2**30, "1.0 GiB"),
        (3 * 2**50, "3072.0 TiB"),
    ],
)  # fmt: skip
def test_bytes_have_the_unit_that_they_fill(count, text):
    assert byte_size(count) == text


def test_a_small_network_does_not_weigh_nothing(cli):
    _, out, _ = cli("summary", "lenet5")
    assert "0.0 MiB" not in out
    assert "60,000 parameters (234.4 KiB)" in out
