"""formgrader's pages with names for what has none, and with a link to the class page: a Jupyter
server extension.

Of nbgrader 0.9.6, as axe judges its pages: no language is told; the icons in tables are links
without a name; dialogs, their fields, and those for scores and comments have no label; lists hold
what is no item; colours are too pale. A script and a style at the end of each page mend it, since
scripts make the tables, too.
"""

from __future__ import annotations

from typing import Any

MENDED = """
<style>
.label-info { background-color: #1d6b85; } .label-success { background-color: #2f6f2f; }
.label-warning { background-color: #8a5a00; } .label-danger { background-color: #b02a25; }
.label-default { background-color: #5e5e5e; }
a, .breadcrumb a { color: #23527c; }
.nav-pills > li.active > a, .btn-primary { background-color: #23527c; color: #fff; }
.btn-danger { background-color: #b02a25; } .btn-success { background-color: #2f6f2f; }
.btn-warning { background-color: #8a5a00; }
.breadcrumb > .active, .text-muted, .navbar-default .navbar-nav > li > a { color: #595959; }
.panel-primary > .panel-heading { background-color: #23527c; }
.panel-primary > .panel-heading code { color: #8f1239; background: #fff; }
.scoring-buttons button.btn { background-color: #fff; color: #1b1b1b; }
.help { color: rgba(0, 0, 0, .7); }
div.prompt, div.input_prompt { color: #303f9f; } div.output_prompt { color: #b02a25; }
.highlight .c1, .highlight .c, .highlight .cm { color: #3b6e6e; }
.highlight .o, .highlight .ow { color: #595959; }
</style>
<script>
(function () {
    "use strict";
    document.documentElement.lang = "en";
    function text(node) { return node ? node.textContent.trim() : ""; }
    function name(node, words) {
        if (words && !node.getAttribute("aria-label")) { node.setAttribute("aria-label", words); }
    }
    function cells() {
        document.querySelectorAll("table").forEach(function (table) {
            var heads = Array.from(table.querySelectorAll("thead th"), text);
            table.querySelectorAll("tbody tr").forEach(function (row) {
                var who = text(row.cells[0]) || text(row.cells[1]);
                Array.from(row.cells).forEach(function (cell, at) {
                    cell.querySelectorAll("a").forEach(function (link) {
                        if (!text(link)) { name(link, (heads[at] || "Open") + ": " + who); }
                    });
                });
            });
        });
    }
    function fields() {
        document.querySelectorAll("input, textarea, select").forEach(function (field) {
            var row = field.closest("tr"), about = field.id;
            if (field.classList.contains("score")) {
                name(field, "Score of " + about);
            } else if (field.classList.contains("extra-credit")) {
                name(field, "Extra credit of " + about.replace(/_extra_credit$/, ""));
            } else if (field.classList.contains("comment")) {
                name(field, "Comment on " + about.replace(/-comment$/, ""));
            } else if (row) {
                name(field, text(row.cells[0]));
            }
        });
    }
    function parts() {
        document.querySelectorAll("ul.nav > ul").forEach(function (list) {
            list.parentNode.setAttribute("role", "presentation");
        });
        document.querySelectorAll("li[role=presentation]").forEach(function (item) {
            item.removeAttribute("role");
        });
        document.querySelectorAll("[role=tablist]").forEach(function (group) {
            group.removeAttribute("role");
            group.removeAttribute("aria-multiselectable");
            group.querySelectorAll("[role=tab], [role=tabpanel]").forEach(function (part) {
                part.removeAttribute("role");
            });
        });
        document.querySelectorAll("[role=dialog]").forEach(function (dialog) {
            name(dialog, text(dialog.querySelector(".modal-title")));
        });
        document.querySelectorAll(".help").forEach(function (sign) {
            sign.setAttribute("role", "button");
            name(sign, "Keys");
        });
    }
    function glance() {
        var side = document.querySelector("ul.nav-stacked"), item, link;
        if (!side) { return; }
        item = side.appendChild(document.createElement("li"));
        link = item.appendChild(document.createElement("a"));
        link.href = base_url + "/class";
        link.textContent = "The class at a glance";
    }
    function all() { cells(); fields(); parts(); }
    var asked = false;
    function later() {
        if (asked) { return; }
        asked = true;
        window.setTimeout(function () { asked = false; all(); }, 50);
    }
    glance();
    all();
    new MutationObserver(later).observe(document.documentElement,
                                        {"childList": true, "subtree": true});
}());
</script>
"""
# Where the Internet is not reached, stock's page of a submission stops at MathJax, which comes from
# there: the keys that it tells of did nothing
NO_MATHJAX = """
<script>
if (!window.MathJax) {
    window.MathJax = {"Hub": {"Startup": {"signal": {
        "Interest": function (told) { told("End"); }
    }}}};
}
</script>
"""
# Both are found before stock's, and hold nothing of it
PAGES = '{%- extends "unnamed/base.tpl" -%}{%- block script -%}{{ super() }}MENDED{%- endblock -%}'
SUBMISSION = (
    '{%- extends "index.html.j2" -%}{%- block footer -%}MENDED{{ super() }}{%- endblock -%}'
)


def base() -> str:
    """The template that all of formgrader's pages but a submission's extend."""
    return PAGES.replace("MENDED", MENDED)


def submission() -> str:
    """The page of one submission, by nbconvert's exporter."""
    return SUBMISSION.replace("MENDED", MENDED + NO_MATHJAX)


def _load_jupyter_server_extension(server: Any) -> None:
    from jinja2 import ChoiceLoader, DictLoader, PrefixLoader  # noqa: PLC0415

    templates = server.web_app.settings["nbgrader_jinja2_env"]
    before = templates.loader  # stock's, or already with the pages of practicum_session.grading
    own = DictLoader({"base.tpl": base()})
    templates.loader = ChoiceLoader([own, PrefixLoader({"unnamed": before}), before])
    server.web_app.settings["nbgrader_exporter"].raw_template = submission()


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "practicum_session.named"}]
