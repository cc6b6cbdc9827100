"""Formgrader's button and its progress page; what it asks for, taken up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hub_sample import sample
from jinja2 import DictLoader, Environment
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from coursework import grade_course, grade_wanted, layout
from coursework.grade_course import Events
from coursework.grade_wanted import runs, wishes
from coursework.grading_role import wanted_unit
from coursework.session import grading, guard, named
from coursework.session import progress as going


def page(assignment: str, progress, entries, **more) -> str:
    return going.page(assignment, progress, entries, "/back", "n0nce", **more)


def pressed(root, assignment: str, student: str):
    api = SimpleNamespace(coursedir=SimpleNamespace(root=str(root)))
    return grading.autograde(api, assignment, student, force=True)


def test_the_button_asks_and_returns(tmp_path) -> None:
    for student in ("ada", "ben", "ada"):
        assert pressed(tmp_path, "ps 1", student)["success"]
    assert "grading/ps%201" in pressed(tmp_path, "ps 1", "ada")["log"]
    (found,) = wishes(tmp_path / "grading" / "wanted").items()
    assert found[0] == "ps 1"
    assert {student: len(files) for student, files in found[1].items()} == {"ada": 3, "ben": 1}


def test_all_that_is_new_is_asked_for_and_graded_before_those_that_are_named(tmp_path) -> None:
    grading.want(tmp_path, "ps1")
    pressed(tmp_path, "ps1", "ben")
    ((_, students),) = wishes(tmp_path / "grading" / "wanted").items()
    assert grading.asked(tmp_path, "ps1") and not grading.asked(tmp_path, "ps2")
    assert "begins in a moment" in page("ps1", {}, {}, more=True)
    asked = [(one.student, one.again) for one in runs("ps1", students)]
    assert asked == [([], False), (["ben"], True)]


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a\nb", "x" * 200])
def test_a_name_that_is_a_path_asks_for_nothing(tmp_path, name: str) -> None:
    assert not pressed(tmp_path, name, "ada")["success"]
    assert not pressed(tmp_path, "ps1", name)["success"]
    assert wishes(tmp_path / "grading" / "wanted") == {}


def test_strange_wishes_are_removed(tmp_path) -> None:
    for name, text in {
        "a": "{",
        "b": "[]",
        "c": '{"assignment": "../x", "student": "ada"}',
    }.items():
        (tmp_path / name).write_text(text)
    assert wishes(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def asked_for(root, monkeypatch, *assignments: str):
    """Pressed for these, and taken up; the course is hpc, its folder ``root``."""
    course = {"name": "hpc", "uid": 50000, "instructors": ["ines"], "students": ["ada"]}
    cluster = sample(courses=[course])
    place = replace(layout.find(cluster, "hpc"), root=root)
    monkeypatch.setattr(grade_wanted, "GATHER", 0)
    for one in assignments:
        grading.want(root, one)
    grade_wanted.take_up(cluster, place)
    folders = {one: root / "grading" / "assignments" / one for one in assignments}
    return {one: page(one, going.read(at), going.entries(at)) for one, at in folders.items()}


def test_nonsense_in_the_limits_is_said_on_the_page_and_may_be_mended(
    tmp_path, monkeypatch
) -> None:
    (tmp_path / "grading.json").write_text('{"cell_seconds": "many"}')
    html = asked_for(tmp_path, monkeypatch, "ps1")["ps1"]
    assert "Stopped: " in html and "cell_seconds must be a whole number" in html
    assert not grading.asked(tmp_path, "ps1"), "it is asked for again when it is mended"
    # one that runs is not talked over
    folder = tmp_path / "grading" / "assignments" / "ps1"
    first = Events(folder, loud=False)
    first.begin(["ada"], [])
    asked_for(tmp_path, monkeypatch, "ps1")
    assert going.read(folder)["students"] == {"ada": "to do"}


def test_whatever_ends_a_grading_is_said_and_the_next_is_graded(tmp_path, monkeypatch) -> None:
    tried: list[str] = []

    def run(self, *_words: object, **_more: object) -> None:
        tried.append(self.assignment)
        raise KeyError(self.assignment)

    monkeypatch.setattr(grade_course.Grading, "run", run)
    found = asked_for(tmp_path, monkeypatch, "ps1", "ps2")
    assert sorted(tried) == ["ps1", "ps2"]
    assert all("practicum itself failed (KeyError" in html for html in found.values())
    assert not any((tmp_path / "grading" / "wanted").iterdir())


def test_a_start_that_fails_keeps_what_was_asked_for_and_waits(
    tmp_path, monkeypatch, capsys
) -> None:
    """systemd starts it again at once, as often as it likes: the unit has no limit of starts."""
    waited: list[float] = []
    monkeypatch.setattr(grade_wanted.time, "sleep", waited.append)
    monkeypatch.setattr(grade_wanted, "CLUSTER", tmp_path / "cluster.json")
    before = os.umask(0o022)
    try:
        assert grade_wanted.main(["hpc"]) == 1
    finally:
        os.umask(before)  # other tests' files are for all
    assert waited == [grade_wanted.PAUSE]
    assert "cluster.json" in capsys.readouterr().err
    cluster = sample(courses=[{"name": "hpc", "uid": 50000, "instructors": ["ines"]}])
    assert "StartLimitIntervalSec=0" in wanted_unit(layout.find(cluster, "hpc"))


def test_the_page_tells_and_escapes(tmp_path) -> None:
    events = Events(tmp_path, loud=False)
    events.begin(["ada", "ben", "cy"], [])
    students = {"ada": "graded", "ben": "running", "cy": "failed"}
    for name, state in students.items():
        events.phase(name, state)
    for name, reason in (("ada", ""), ("cy", "<script>evil()</script>")):
        entry = {
            "student": name, "status": students[name], "reason": reason, "score": 2.5,
            "max_score": 4.0,
        }  # fmt: skip
        (tmp_path / f"{name}.json").write_text(json.dumps(entry))
    (tmp_path / "dan.json").write_text("{")
    (tmp_path / "eve.json").write_text("7")
    html = page("<ps1>", going.read(tmp_path), going.entries(tmp_path))
    assert "2 of 3 done" in html
    assert "2.5 of 4" in html
    assert "&lt;script" in html
    assert html.count("<script") == 1 and '<script nonce="n0nce">' in html
    assert 'data-busy="yes"' in html
    events.end()
    after = page("ps1", going.read(tmp_path), going.entries(tmp_path))
    assert 'data-busy="yes"' not in after
    assert "Nothing is being graded now" in after


def test_an_old_score_is_not_shown_while_it_is_graded_anew() -> None:
    entry = {"student": "ada", "status": "graded", "score": 2.5, "max_score": 4.0, "reason": ""}
    html = page("ps1", {"running": True, "students": {"ada": "running"}}, {"ada": entry})
    assert "2.5" not in html


GRADES = """
import sys
from pathlib import Path
from coursework.grade_course import Events
events = Events(Path(sys.argv[1]), loud=True)
events.begin(["ada", "ben"], [])
events.phase("ada", "running")
sys.stdin.read()
"""


def test_a_grading_that_was_killed_does_not_run(tmp_path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", GRADES, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout
        for _ in range(2):
            assert process.stdout.readline()
        assert going.read(tmp_path)["running"]
        process.kill()
    found, entries = going.read(tmp_path), going.entries(tmp_path)
    assert not found["running"]
    html = page("ps1", found, entries)
    assert "It was interrupted" in html and "not graded" in html
    assert ">runs<" not in html and 'data-busy="yes"' not in html
    # the same number, used again
    ours = {"running": True, "process": [os.getpid(), 1], "students": {}}
    assert not going.is_running(ours)
    assert going.is_running({**ours, "process": going.process(os.getpid())})


def test_who_comes_second_says_nothing_of_the_first(tmp_path) -> None:
    first = Events(tmp_path, loud=False)
    first.begin(["ada"], [])
    Events(tmp_path, loud=False).refused("it is being graded already")
    assert going.read(tmp_path)["students"] == {"ada": "to do"}


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("ps1", True), ("Week 2 - Tom's", True), ("Übung", True), ("", True), ('";evil();"', False),
        ("</script>", False), ("a\\", False), ("a\nb", False), ("a\u2028b", False), ("`x`", False),
    ],
)  # fmt: skip
def test_names_that_a_script_would_run_are_no_names(name: str, plain: bool) -> None:
    assert guard.is_plain(name) is plain


async def test_a_link_with_such_a_name_is_answered_with_404() -> None:
    class Page(RequestHandler):
        content_security_policy = ""

        async def prepare(self) -> None:
            self.set_header("Content-Security-Policy", self.content_security_policy)

        def get(self, name: str) -> None:
            self.finish(f'<script>var name = "{name}";</script>')

    link, port = bind_unused_port()
    server = HTTPServer(Application([(r"/page/([^/]+)", Page)]))
    server.add_socket(link)

    async def ask(name: str):
        url = f"http://127.0.0.1:{port}/page/{name}"
        return await AsyncHTTPClient().fetch(url, raise_error=False)

    assert b"evil" in (await ask("%22;evil();%22")).body, "as it comes"
    guard.names_are_plain(Page)
    guard.runs_nothing(Page, guard.ANSWER)
    for name in ("%22;evil();%22", "%3C%2Fscript%3E%3Cscript%3Eevil()", "%5C"):
        answer = await ask(name)
        assert answer.code == 404 and b"evil" not in answer.body
    right = await ask("ps%201")
    assert right.code == 200 and b'"ps 1"' in right.body
    assert "sandbox" in right.headers["Content-Security-Policy"]
    server.stop()


@pytest.mark.parametrize("named_first", [True, False])
def test_pages_of_formgrader_end_with_what_names_their_links(named_first: bool) -> None:
    """The templates extend stock's and keep what stock has in their blocks."""
    stock = {
        "base.tpl": "<p>{% block title %}{% endblock %}</p>{% block script %}own{% endblock %}",
        "manage_submissions.tpl": '{% extends "base.tpl" %}{% block title %}page{% endblock %}',
        "index.html.j2": "<p>page</p>{% block footer %}own{% endblock %}",
    }
    templates = SimpleNamespace(loader=DictLoader(stock))
    exporter = SimpleNamespace()
    settings = {"nbgrader_jinja2_env": templates, "nbgrader_exporter": exporter}
    server = SimpleNamespace(web_app=SimpleNamespace(settings=settings))
    if named_first:
        named._load_jupyter_server_extension(server)
        grading.our_page(templates)
    else:
        grading.our_page(templates)
        named._load_jupyter_server_extension(server)
    environment = Environment(loader=templates.loader, autoescape=True)
    for text in (
        environment.get_template("manage_submissions.tpl").render(base_url="/x"),
        environment.from_string(exporter.raw_template).render(),
    ):
        assert text.startswith("<p>page</p>")
        assert named.MENDED.strip() in text
        assert "own" in text.replace(named.MENDED.strip(), "")
