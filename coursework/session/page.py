"""The class page's text. What it shows comes by the script, as text and never as HTML."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Class</title>
<style>
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0; color: #1b1b1b; background: #fff; }
header, main { max-width: 70rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem; margin: 0; }
h2 { font-size: 1.1rem; margin: 1.5rem 0 .5rem; }
p { margin: .25rem 0; }
.table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .4rem .75rem .4rem 0; border-bottom: 1px solid #d5d5d5;
         vertical-align: top; white-space: nowrap; }
td.wide { white-space: normal; min-width: 12rem; }
.bad { color: #a30000; } .good { color: #0b6123; } .quiet { color: #595959; }
a { color: #0b4f9e; }
</style>
</head>
<body>
<header>
<h1 id="title">Class</h1>
<p><a href="formgrader">Grade in formgrader</a></p>
<p id="news" role="status" class="quiet">Asking the cluster.</p>
</header>
<main id="main"></main>
<script>
"use strict";
const EVERY = 5000;
const main = document.getElementById("main");
const news = document.getElementById("news");
function make(tag, text, kind) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (kind) node.className = kind;
  return node;
}
function when(stamp) {
  const m = /^(\\d{4})(\\d\\d)(\\d\\d)T(\\d\\d)(\\d\\d)(\\d\\d)/.exec(stamp || "");
  if (!m) return "";
  const date = new Date(Date.UTC(m[1], m[2] - 1, m[3], m[4], m[5], m[6]));
  return date.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}
function length(seconds) {
  const hours = Math.floor(seconds / 3600);
  return hours > 47 ? Math.floor(hours / 24) + " days" :
    hours ? hours + " h " + Math.floor(seconds % 3600 / 60) + " min" :
    Math.ceil(seconds / 60) + " min";
}
function table(caption, heads, rows) {
  const frame = make("div", undefined, "table");
  frame.tabIndex = 0;
  frame.setAttribute("role", "region");
  frame.setAttribute("aria-label", caption);
  const made = make("table");
  const head = made.createTHead().insertRow();
  for (const text of heads) {
    const cell = make("th", text);
    cell.scope = "col";
    head.append(cell);
  }
  const body = made.createTBody();
  for (const [name, ...cells] of rows) {
    const row = body.insertRow();
    const first = make("th", name);
    first.scope = "row";
    row.append(first);
    for (const [text, kind] of cells) row.append(make("td", text, kind));
  }
  frame.append(made);
  return frame;
}
function handedIn(one) {
  if (!one.submitted) return ["no", "quiet"];
  const late = one.late_seconds ? ", " + length(one.late_seconds) + " late" : "";
  const times = one.number > 1 ? " (" + one.number + " times)" : "";
  return [when(one.submitted) + late + times, late ? "bad" : ""];
}
function graded(one) {
  if (one.score === null || one.score === undefined) return ["no", "quiet"];
  return [one.score + (one.by_hand ? ", " + one.by_hand + " parts by hand" : ""), ""];
}
function failed(jobs) {
  const states = Object.entries(jobs.failed).map(([state, count]) => state + " " + count);
  if (!states.length) return ["none", "quiet"];
  const last = jobs.last_failed;
  return [states.join(", ") + "; last: " + last.job + " " + last.name, "bad wide"];
}
function show(data) {
  document.title = data.course + ": class";
  document.getElementById("title").textContent = data.course + ": class";
  const parts = [];
  const jobs = Object.entries(data.jobs);
  parts.push(make("h2", "Jobs of the last day in account " + data.course));
  parts.push(table("Jobs", ["Student", "Waiting", "Running", "Completed", "Ended badly"],
    jobs.map(([name, one]) => [name, [one.waiting, one.waiting ? "" : "quiet"],
      [one.running, one.running ? "good" : "quiet"], [one.done, ""], failed(one)])));
  for (const [name, one] of Object.entries(data.assignments)) {
    const rows = Object.entries(one.students);
    const sent = rows.filter(([, each]) => each.submitted).length;
    parts.push(make("h2", name));
    parts.push(make("p", sent + " of " + rows.length + " handed in" +
      (one.due ? "; due " + when(one.due) : "; no due date"), "quiet"));
    parts.push(table(name, ["Student", "Fetched", "Handed in", "Graded", "Feedback"],
      rows.map(([student, each]) => [
        student + (each.due !== one.due ? " (until " + when(each.due) + ")" : ""),
        each.fetched ? [when(each.fetched), ""] : ["no", "quiet"],
        handedIn(each), graded(each), each.feedback ? ["given back", "good"] : ["no", "quiet"]])));
  }
  if (!Object.keys(data.assignments).length) parts.push(make("p", "Nothing is handed out yet."));
  const place = document.scrollingElement.scrollTop;
  main.replaceChildren(...parts);
  document.scrollingElement.scrollTop = place;
  const time = new Date(data.made * 1000).toLocaleTimeString();
  news.textContent = data.troubles.length ? data.troubles.join(". ") : "As of " + time + ".";
  news.className = data.troubles.length ? "bad" : "quiet";
}
async function look() {
  try {
    const answer = await fetch("class/data", { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error("the server says " + answer.status);
    show(await answer.json());
  } catch (error) {
    news.textContent = "This page cannot be brought up to date (" + error.message +
      "): it tries again. Load it anew if you were logged out.";
    news.className = "bad";
  }
  setTimeout(look, EVERY);
}
look();
</script>
</body>
</html>
"""
