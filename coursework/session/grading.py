"""Formgrader's autograde button, graded on the cluster: a Jupyter server extension.

The button leaves a file in grading/wanted and returns at once; systemd starts the grading, which
formgrader's own unit has no right to (practicum-grade-COURSE.path). The page grading/ASSIGNMENT
shows how it goes.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import quote

from . import progress

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,99}")

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
            folder = root / "grading" / "assignments" / assignment
            back = url_path_join(
                self.base_url, "formgrader", "manage_submissions", quote(assignment)
            )
            self.set_header("Content-Type", "text/html; charset=utf-8")
            nonce = secrets.token_urlsafe(16)
            self.set_header("Content-Security-Policy", progress.policy(nonce))
            more = asked(root, assignment)
            found = progress.read(folder), progress.entries(folder)
            self.finish(progress.page(assignment, *found, back, nonce, more=more))

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
