"""How commands are read from docs/admin.md, and that none is written elsewhere than in a block."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from cluster.load import load

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("admin_page", ROOT / "tests/lab/admin_page.py")
assert spec and spec.loader
admin_page = importlib.util.module_from_spec(spec)
sys.modules["admin_page"] = admin_page
spec.loader.exec_module(admin_page)

TEXT = """\
```console
$ one --flag
says ... words
$ two  # exit 3: there is something to do
```
```console example: takes a day
$ three
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
    assert admin_page.examples(TEXT) == [(6, "takes a day")]


def test_tables_on_the_page_are_valid(tmp_path: Path) -> None:
    """Each TOML block, beside the example that `practicum init` writes."""
    from practicum.start import Place, cluster_toml

    example = cluster_toml(Place())
    for line, language, _, content in admin_page.blocks(admin_page.PAGE.read_text()):
        if language == "toml" and "# instead" not in content:
            path = tmp_path / "cluster.toml"
            path.write_text(f"{example}\n{content}")
            assert load(path).machines, f"docs/admin.md:{line}"
