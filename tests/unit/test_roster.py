"""Class lists: what is read, and that every fault is one sentence with file and line."""

from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import ConfigError
from cluster.roster import Person, parse
from cluster.values import NAME

names = st.from_regex(NAME, fullmatch=True).filter(lambda name: not name.endswith("\n"))


@pytest.mark.parametrize(
    ("text", "person"),
    [
        ("name\nada\n", Person("ada")),
        ("name,full_name,email\nada,Ada L.,a@x.org", Person("ada", "Ada L.", "a@x.org")),
        (
            "\ufeffName;E-Mail;Full Name\r\nada;a@x.org;Ada L.\r\n",
            Person("ada", "Ada L.", "a@x.org"),
        ),
        ("Username\tName\nada\tAda L.\n", Person("ada", "Ada L.")),
        ("Last name,First name,Username\nL.,Ada,ada\n", Person("ada", "Ada L.")),
        ('user id,student\nada,"Lovelace, Ada"\n', Person("ada", "Ada Lovelace")),
        ("\n\nname , email\n\n ada ,\n", Person("ada")),
    ],
)
def test_what_is_read(text: str, person: Person) -> None:
    assert parse(text.encode(), "r.csv").people == (person,)


def test_columns_that_are_not_read_are_told() -> None:
    assert parse(b"name,ID number\nada,7\n", "r.csv").ignored == ("ID number",)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "r.csv:1: is empty: the first line names the columns"),
        (b"\n \n", "r.csv:1: is empty"),
        (b"name\n", "r.csv:1: names the columns, and no person follows"),
        (b"mail,grade\nx,1\n", "r.csv:1: no column holds the accounts' names"),
        (b"name,name\na,b\n", "r.csv:1: two columns are called name"),
        (b"name\nada\nben\nada\n", "r.csv:4: ada is already in line 2"),
        (b"name\na;id\n", "r.csv:2: 'a;id' cannot be an account's name"),
        (b"name\n-u\n", "r.csv:2: '-u' cannot be"),
        (b"name\nroot\n", "r.csv:2: root is an account of the system"),
        (b"name\n" + b"a" * 40 + b"\n", "r.csv:2: 'aaaaaaaa"),
        (b"name\nada l\n", "r.csv:2: 'ada l' cannot be"),
        (b"name\nAda\n", "did you mean ada?"),
        ("name\nädä\n".encode(), "r.csv:2: 'ädä' cannot be"),
        ("name\nädä\n".encode("latin-1"), "r.csv:2: is not UTF-8 (byte 0xe4)"),
        ("name\nada\n".encode("utf-16"), "r.csv:1: is UTF-16"),
        (b"name\n\0\n", "r.csv:2: holds a zero byte"),
        (b'name\n"ada\n', "r.csv:2: is not CSV"),
        (b"name,email\n,a@x.org\n", "r.csv:2: the account's name is missing"),
        (b"name,email\nada,$(id)@x\n", "r.csv:2: '$(id)@x' is not a mail address"),
        (b"name,full_name\nada,a:b\n", "r.csv:2: the full name 'a:b' must be one line"),
        (b"name\nada,2\n", "r.csv:2: has 2 fields and the first line 1"),
    ],
)
def test_faults(data: bytes, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(data, "r.csv")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_faults_at_once_and_no_endless_list() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(b"name\n" + b"Root\n" * 40, "r.csv")
    lines = str(caught.value).splitlines()
    assert len(lines) == 13
    assert lines[-1] == "r.csv: and 28 more like these"


@given(st.binary(max_size=300))
def test_no_bytes_end_in_a_traceback(data: bytes) -> None:
    try:
        people = parse(data, "r.csv").people
    except ConfigError as error:
        assert str(error).startswith("r.csv:")
    else:
        assert all(re.fullmatch(NAME, person.name) for person in people)


@given(
    st.lists(st.text(alphabet=st.characters(codec="utf-8")), max_size=5),
    st.sampled_from(",;\t"),
)
def test_only_names_get_through(cells: list[str], separator: str) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator)
    writer.writerow(["name", "full_name", "email"])
    for cell in cells:
        writer.writerow([cell, cell, ""])
    try:
        people = parse(text.getvalue().encode(), "r.csv").people
    except ConfigError:
        return
    for person in people:
        assert re.fullmatch(r"[a-z][a-z0-9_-]{0,30}", person.name)
        assert not re.search(r"[\x00-\x1f:,]", person.full_name)


@given(st.lists(st.from_regex(r"[a-z][a-z0-9]{3,8}", fullmatch=True), min_size=1, unique=True))
def test_good_names_all_come_in_their_order(wanted: list[str]) -> None:
    wanted = [f"x{name}" for name in wanted]  # none of the system's
    data = "\n".join(["name", *wanted]).encode()
    assert [person.name for person in parse(data, "r.csv").people] == wanted
