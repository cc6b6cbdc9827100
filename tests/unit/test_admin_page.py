"""How commands are read from docs/admin.md, and that none is written elsewhere than in a block."""

from __future__ import annotations

import sys
from pathlib import Path

import admin_page
import pytest

from cluster.load import load

TEXT = """\
```console
$ one --flag
says ... words
$ two  # exit 3: there is something to do
```
```console slow: takes a day
$ three
Really? [y/N]: y
```
```toml
$ = 4
```
"""


def test_commands_exit_codes_and_output() -> None:
    first, second = admin_page.commands(TEXT)
    assert (first.line, first.text, first.code) == (2, "one --flag", 0)
    assert (second.line, second.text, second.code) == (4, "two", 3)
    assert first.wrong(0, "it says many words") == ""
    assert "does not say" in first.wrong(0, "silence")
    assert "docs/admin.md:4: two: exit 0 instead of 3" in second.wrong(0, "")
    (third,) = admin_page.commands(TEXT, "slow")
    assert (third.text, third.output, third.answers) == ("three", ["Really? [y/N]"], ["y"])
    assert len(admin_page.commands(TEXT, "lab", "slow")) == 3


def test_what_is_asked_is_answered_on_a_terminal(tmp_path: Path) -> None:
    code = "import sys; assert sys.stdin.isatty(); print('x' * 70000, file=sys.stderr); "
    code += "print(input('Name to agree: '), input('Sure? [y/N]: '), file=sys.stderr)"
    command = admin_page.Typed(1, code, output=["Name to agree"], answers=["disk", "yes"])
    through = (sys.executable, "-c")
    admin_page.run(command, tmp_path, {}, through=through)
    with pytest.raises(AssertionError, match="exit 0 instead of 3"):
        admin_page.run(admin_page.Typed(1, "pass", 3), tmp_path, {}, through=through)


def test_every_block_of_commands_is_run_somewhere() -> None:
    """Where it is not beside the others, it says why; and the tests are there."""
    for line, place, reason, _ in admin_page.places(admin_page.PAGE.read_text()):
        assert place in admin_page.PLACES, f"docs/admin.md:{line}: {place}"
        assert place in ("lab", "login") or len(reason) > 10, f"docs/admin.md:{line}: say why"
    root = admin_page.PAGE.parents[1]
    for said in admin_page.PLACES.values():
        assert not said.startswith("tests/") or (root / said.split(",")[0].split(":")[0]).is_file()


def test_tables_on_the_page_are_valid(tmp_path: Path) -> None:
    """Each TOML block, beside the example that `practicum init` writes."""
    from practicum.start import Place, cluster_toml

    example = cluster_toml(Place())
    for line, language, _, content in admin_page.blocks(admin_page.PAGE.read_text()):
        if language == "toml" and "# instead" not in content:
            path = tmp_path / "cluster.toml"
            path.write_text(f"{example}\n{content}")
            assert load(path).machines, f"docs/admin.md:{line}"


def test_each_line_of_what_is_tried_names_its_tests() -> None:
    """docs/testing.md: whatever a lab or a VM is said to try has files of tests, which are there."""
    text = (admin_page.PAGE.parent / "testing.md").read_text(encoding="utf-8")
    table = text[text.index("| | lab | VM | untried | tests |") :].split("\n\n")[0]
    folder = admin_page.PAGE.parents[1] / "tests"
    known = {
        (f"unit/{name}" if path.parent.name == "unit" else name): path
        for path in folder.glob("*/test_*.py")
        for name in [path.stem.removeprefix("test_")]
    }
    rows = [[cell.strip() for cell in line.split(" |")] for line in table.splitlines()[2:]]
    assert len(rows) > 40
    for about, lab, vm, _, tests, _ in rows:
        named = [name.strip("`") for name in tests.split(", ") if name]
        assert named or not (lab or vm), about
        assert not (strange := set(named) - set(known)), (about, strange)
        assert not vm or vm.startswith("its text") or any(one.endswith("_vm") for one in named), (
            about
        )
    listed = {name.strip("`") for row in rows for name in row[4].split(", ")}
    left = {name for name in known if name.endswith("_vm")} - listed
    assert not left, f"in no line: {left}"
