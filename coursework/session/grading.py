"""Formgrader's autograde button, graded on the cluster: a Jupyter server extension.

The button leaves a file in grading/wanted and returns at once; systemd starts the grading, which
formgrader's own unit has no right to (practicum-grade-COURSE.path). The page grading/ASSIGNMENT
shows how it goes. Everything that is shown is escaped: reasons quote what students' code said.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,99}")
WORDS = {
    "to do": "waits",
    "sanitizing": "being prepared",
    "queued": "in the queue",
    "running": "runs",
    "merging": "being entered",
    "graded": "graded",
    "failed": "graded as it is",
    "waiting": "not graded",
}


# Stock's page tells of a terminal that is not there, and of success before anything is done.
SUBMISSIONS = """{%- extends "stock/manage_submissions.tpl" -%}
{%- block head -%}{{ super() }}
<script>
var grading_page = base_url + "/grading/" + encodeURIComponent(assignment_id);
SubmissionUI.prototype.autograde_success = function (response) {
    this.model.fetch();
    response = JSON.parse(response);
    if (response["success"]) {
        var link = $("<a/>").attr("href", grading_page).text("How it goes");
        createModal("success-modal", "Being graded on the cluster", link);
    } else {
        createLogModal("error-modal", "Error", "It could not be asked for.", "", response["error"]);
    }
};
$(window).on("load", function () {
    $("#grade-new").click(function () {
        $.post(grading_page)
            .done(function () { window.location = grading_page; })
            .fail(function () {
                createModal("error-modal", "Error", "Grading could not be asked for.");
            });
    });
});
</script>
{%- endblock -%}
{%- block messages -%}
<p><button id="grade-new" type="button" class="btn btn-primary">Grade what is new</button>
<a href="{{ base_url }}/grading/{{ assignment_id | urlencode }}">How grading goes</a></p>
<p>Submissions run on the cluster. The flash in a row grades that one again. The same from the
login node: <code>practicum course grade</code>.</p>
{%- endblock -%}
"""

# Stock's links to folders begin at the hub's own /tree/ when formgrader is a page by itself.
ASSIGNMENTS = """{%- extends "stock/manage_assignments.tpl" -%}
{%- block head -%}{{ super() }}
<script>
var stock_link = linkTo;
linkTo = function (type, path) {
    if (window !== window.top) {
        return stock_link(type, path);
    }
    var parts = path.split("/").filter(function (part) { return part && part !== "."; });
    var place = base_url + "/lab/tree/" + parts.map(encodeURIComponent).join("/");
    return function (_, el) { return $(el).attr("href", place).attr("target", "_blank")[0]; };
};
</script>
{%- endblock -%}
"""


def want(root: Path, assignment: str, student: str = "") -> None:
    """Ask for one submission to be graded anew, or for all that are new. ValueError for names
    that cannot be."""
    for name in (assignment, *([student] if student else [])):
        if not NAME.fullmatch(name):
            raise ValueError(f"{name[:60]!r} is no name")
    folder = root / "grading" / "wanted"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = root / "grading" / f".{secrets.token_hex(8)}"
    temporary.write_text(json.dumps({"assignment": assignment, "student": student}))
    temporary.replace(folder / secrets.token_hex(8))


def autograde(self: Any, assignment_id: str, student_id: str, *_more: Any, **_rest: Any) -> Any:
    """In place of nbgrader.apps.api.NbGraderAPI.autograde."""
    if not student_id:
        return {"success": False, "error": "no student is named", "log": ""}
    try:
        want(Path(self.coursedir.root), assignment_id, student_id)
    except (OSError, ValueError) as error:
        return {"success": False, "error": str(error), "log": ""}
    page = f"{os.environ.get('JUPYTERHUB_SERVICE_PREFIX', '/')}grading/{quote(assignment_id)}"
    return {"success": True, "log": f"It is graded on the cluster now. How it goes: {page}"}


def asked(root: Path, assignment: str) -> bool:
    """Whether something of it was asked for and is not graded yet."""
    for path in (root / "grading" / "wanted").glob("*"):
        try:
            if json.loads(path.read_text()).get("assignment") == assignment:
                return True
        except (OSError, ValueError):
            continue
    return False


def page(
    assignment: str, progress: dict[str, Any], entries: dict[str, Any], back: str,
    *, more: bool = False,
) -> str:  # fmt: skip
    """The progress page's HTML. ``more``: something is asked for that has not begun."""
    students = progress.get("students", {})
    names = sorted({*students, *entries})
    done = sum(students[name] in ("graded", "failed", "waiting") for name in students)
    running = bool(progress.get("running"))
    rows = "".join(row(name, students.get(name, ""), entries.get(name, {})) for name in names)
    refresh = '<meta http-equiv="refresh" content="3">' if running or more else ""
    error = progress.get("error") or ""
    if running:
        told = f"{done} of {len(students)} done"
    elif more:
        told = "It begins in a moment."
    else:
        told = f"Stopped: {error}" if error else "Nothing is being graded now."
    title = escape(f"Grading {assignment}")
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>{refresh}
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 1rem auto; padding: 0 1rem;
 color: #1b1b1b; background: #fff; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #ccc;
 vertical-align: top; overflow-wrap: anywhere; }}
progress {{ width: 100%; height: 1.2rem; }}
.failed, .waiting {{ color: #8a1c00; }}
</style></head><body><main><h1>{title}</h1>
<p role="status">{escape(told)}</p>
{bar(done, len(students)) if running else ""}
<table><thead><tr><th scope="col">Student</th><th scope="col">State</th>
<th scope="col">Score</th><th scope="col">Why</th></tr></thead><tbody>{rows}</tbody></table>
<p><a href="{escape(back)}">Back to formgrader</a></p></main></body></html>"""


def bar(done: int, total: int) -> str:
    return f'<progress max="{total}" value="{done}" aria-label="graded so far"></progress>'


def row(name: str, state: str, entry: dict[str, Any]) -> str:
    state = state or str(entry.get("status", ""))
    current = state == entry.get("status")
    score = entry.get("score")
    points = (
        f"{score:g} of {entry.get('max_score') or 0:g}" if current and score is not None else ""
    )
    reason = str(entry.get("reason", "")) if current else ""
    kind = state if state in ("failed", "waiting") else ""
    cells = (name, WORDS.get(state, state), points, reason)
    inner = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f'<tr class="{kind}">{inner}</tr>'


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Progress and entries of an assignment; empty where there are none."""
    try:
        progress = json.loads((folder / "progress").read_text())
    except (OSError, ValueError):
        progress = {}
    entries = {}
    for path in folder.glob("*.json"):
        try:
            entry = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        entries[str(entry.get("student"))] = entry
    return progress, entries


def handler() -> Any:
    """Of grading/ASSIGNMENT: GET shows, POST asks for what is new. Made here, for only
    formgrader's environment has Jupyter."""
    from jupyter_server.base.handlers import JupyterHandler  # noqa: PLC0415
    from jupyter_server.utils import url_path_join  # noqa: PLC0415
    from tornado import web  # noqa: PLC0415

    class Progress(JupyterHandler):  # type: ignore[misc]
        @web.authenticated
        def get(self, assignment: str) -> None:
            if not NAME.fullmatch(assignment):
                raise web.HTTPError(404)
            root = Path(self.settings["nbgrader_formgrader"].coursedir.root)
            progress, entries = read(root / "grading" / "assignments" / assignment)
            back = url_path_join(
                self.base_url, "formgrader", "manage_submissions", quote(assignment)
            )
            self.set_header("Content-Type", "text/html; charset=utf-8")
            self.set_header(
                "Content-Security-Policy",
                "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'",
            )
            more = asked(root, assignment)
            self.finish(page(assignment, progress, entries, back, more=more))

        @web.authenticated
        def post(self, assignment: str) -> None:
            try:
                want(Path(self.settings["nbgrader_formgrader"].coursedir.root), assignment)
            except ValueError:
                raise web.HTTPError(404) from None
            self.finish({"asked": assignment})

    return Progress


def our_page(templates: Any) -> None:
    """Formgrader's page of submissions, by its own jinja environment, with what is ours in it."""
    from jinja2 import ChoiceLoader, DictLoader, PrefixLoader  # noqa: PLC0415

    stock = templates.loader
    own = DictLoader({"manage_submissions.tpl": SUBMISSIONS, "manage_assignments.tpl": ASSIGNMENTS})
    templates.loader = ChoiceLoader([own, PrefixLoader({"stock": stock}), stock])


def _load_jupyter_server_extension(server: Any) -> None:
    from nbgrader.apps.api import NbGraderAPI  # noqa: PLC0415

    NbGraderAPI.autograde = autograde
    our_page(server.web_app.settings["nbgrader_jinja2_env"])
    base = server.web_app.settings["base_url"].rstrip("/")
    server.web_app.add_handlers(".*$", [(base + r"/grading/([^/]+)", handler())])


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "practicum_session.grading"}]
