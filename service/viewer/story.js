/* Why the job stood where it did, what was known of it, and its attempts as bars on one clock. */

const PHASES = {
  pending: "quiet", queued: "wait", starting: "start", train: "work", cancelling: "end",
  stopping: "end", exited: "quiet",
};
const ALARMS = new Set(["stalled", "silent", "unreachable"]);
const BAR = 20;
const ROW = 62;

function showWhy(film, view, goTo) {
  const { why } = view;
  const because = why.because.map((position) => film.steps[film.indexOfPosition.get(position)]);
  const ignored = film.about.why.ignored.slice(0, why.ignored);
  const { evidence } = view.isLast ? film.about.why : why;
  const conflicts = film.about.why.conflicts.slice(0, why.conflicts);
  byId("why-body").replaceChildren(
    el("p", { class: "reason" }, view.job.reason.message, " ", code(view.job.reason.code)),
    el("p", { class: "rule" }, prose(why.rule_text), " ", code(why.rule)),
    el("h3", {}, "Decided by"),
    el("ul", { class: "plain" }, because.filter(Boolean).map((step) => el(
      "li", {}, versionLink(step, goTo), " ", told(step),
    ))),
    ...listed("Evidence", evidence ?? [], (exhibit) => [
      versionAt(film, exhibit.position, goTo), " ", exhibit.why,
      exhibit.lines.length ? el("pre", {}, exhibit.lines.join("\n")) : "",
    ]),
    ...listed("Contradictions", conflicts, (conflict) => [
      conflict.positions.map((position) => [versionAt(film, position, goTo), " "]),
      prose(conflict.why), " ", code(view.job.status),
    ]),
    ...listed("Did not count", ignored, (item) => [
      versionAt(film, item.position, goTo), " ", words(item.type), ": ", prose(item.why), " ", code(item.rule),
    ]),
  );
}

/* A list under a heading, folded where it is long; nothing where it is empty. */
function listed(title, items, shown) {
  if (!items.length) return [];
  const list = el("ul", { class: "plain" }, items.slice(0, 200).map((item) => el("li", {}, shown(item))));
  const more = items.length > 200 ? el("p", { class: "muted" }, `and ${items.length - 200} more`) : "";
  if (items.length <= 5) return [el("h3", {}, title), list];
  const summary = el("summary", {}, `${title} (${items.length})`);
  return [el("details", { class: "fold" }, summary, list, more)];
}

function told(step) {
  return step.detail ? `${step.title}: ${step.detail}` : `${step.title}.`;
}

/* A sentence of ours, in which names of the log stand between backquotes. */
function prose(text) {
  return text.split("`").map((part, index) => (index % 2 ? el("code", {}, part) : part));
}

function code(text) {
  return el("code", { class: "tag" }, text);
}

function versionLink(step, goTo) {
  const go = () => goTo(step.version);
  return el("button", { type: "button", class: "version", click: go }, `#${step.version}`);
}

function versionAt(film, position, goTo) {
  const index = film.indexOfPosition.get(position);
  return index === undefined ? `position ${position}` : versionLink(film.steps[index], goTo);
}

function showFacts(film, view) {
  const { job } = view;
  const retries = `${job.retry_count} of ${plural(job.max_retries, "retry", "retries")} used, ${plural(job.interruptions, "interruption")}`;
  const health = el("span", { class: ALARMS.has(job.health.verdict) ? "alarm" : "" }, words(job.health.verdict));
  byId("facts-body").replaceChildren(
    progressBar(job),
    facts([
      ["Attempt", `${job.attempt}; ${retries}`],
      ["Cancel", job.cancel_requested ? "requested" : null],
      ["Health", health],
      ["Last callback", moment(job.health.alive_at)],
      ["Last progress", moment(job.health.advanced_at)],
      ["Last seen", moment(job.health.reachable_at)],
      ["Created", moment(job.created_at)],
      ["Started", moment(job.started_at)],
      ["Completed", moment(job.completed_at)],
      ["Checkpoint", job.checkpoint],
      ["Metrics", Object.entries(job.progress.metrics).slice(0, 12).map(([name, value]) => `${name} ${figure(value)}`).join(", ")],
      ["Artifacts", job.artifacts.map((artifact) => el("div", {}, `${artifact.name}  ${artifact.uri}`))],
      ["MLflow run", job.mlflow_run_id],
      ["Params", pairsText(job.params)],
      ["Labels", pairsText(job.labels)],
      ["Trace", el("code", {}, job.trace_id)],
    ].filter(([, value]) => !Array.isArray(value) || value.length)),
  );
}

function progressBar(job) {
  const { progress } = job;
  const percent = Math.floor(progress.fraction * 100);
  const batch = progress.batch === null ? "" : `, batch ${progress.batch}${progress.batches ? ` of ${progress.batches}` : ""}`;
  const bar = el("progress", { max: "100", value: String(percent), "aria-label": "Progress" });
  return el("p", { class: "progress" }, bar, `${percent} %, epoch ${progress.epoch} of ${job.epochs}${batch}`);
}

function showTimeline(film, view) {
  const body = byId("timeline-body");
  const attempts = [...view.attempts.values()].sort((one, other) => one.number - other.number);
  const open = new Set([...body.querySelectorAll("details[open]")].map((item) => item.dataset.attempt));
  body.replaceChildren(
    gantt(film, view, attempts, Math.max(280, body.clientWidth)),
    legend(attempts),
    ...attempts.map((attempt) => attemptDetails(view, attempt, open.has(String(attempt.number)))),
  );
}

/* All attempts on one clock that spans the whole job; what comes after the moment is left out. */
function gantt(film, view, attempts, width) {
  const span = Math.max(1, film.end - film.start);
  const x = (time) => ((time - film.start) / span) * (width - 2) + 1;
  const height = attempts.length * ROW + 26;
  const picture = svg("svg", {
    class: "gantt", role: "img", width, height, viewBox: `0 0 ${width} ${height}`,
    "aria-label": "Attempts and their phases, to scale; the tables below hold the same",
  });
  for (const tick of clockTicks(span, width)) {
    const at = x(film.start + tick);
    const anchor = at > width - 40 ? "end" : at < 40 ? "start" : "middle";
    picture.append(
      svg("line", { class: "grid", x1: at, x2: at, y1: 0, y2: height - 20 }),
      svg("text", { class: "axis", x: at, y: height - 6, "text-anchor": anchor }, offset(tick)),
    );
  }
  if (!view.isLast) {
    const now = x(view.now);
    picture.append(
      svg("rect", { class: "later", x: now, y: 0, width: Math.max(0, width - now), height: height - 20 }),
      svg("line", { class: "cursor", x1: now, x2: now, y1: 0, y2: height - 20 }),
    );
  }
  attempts.forEach((attempt, row) => picture.append(...ganttRow(view, attempt, row * ROW, x)));
  picture.append(...alarmLines(view, attempts, x));
  return picture;
}

function clockTicks(span, width) {
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400]
    .map((seconds) => seconds * 1000);
  const most = Math.max(2, Math.floor(width / 110));
  const step = steps.find((size) => span / size <= most);
  if (step && span / step >= 1) return Array.from({ length: Math.floor(span / step) + 1 }, (_, tick) => tick * step);
  return ticks(0, span, most);
}

function ganttRow(view, attempt, top, x) {
  const parts = [svg("text", { class: "label", x: 1, y: top + 14 }, attemptTitle(view, attempt))];
  for (const phase of attempt.phases) {
    const from = Date.parse(phase.from);
    const to = phase.to ? Date.parse(phase.to) : view.now;
    const width = Math.max(2, x(to) - x(from));
    const title = `${phase.phase}: ${duration((to - from) / 1000)} from ${moment(phase.from)} (${phase.reason})`;
    parts.push(svg(
      "rect",
      { class: `phase ${colourOf(phase.phase)}`, x: x(from), y: top + 20, width, height: BAR, rx: 2 },
      svg("title", {}, title),
    ));
  }
  for (const epoch of [...attempt.epochs.values(), ...attempt.lost.values()]) {
    const at = x(Date.parse(epoch.at));
    parts.push(svg("line", { class: "epoch", x1: at, x2: at, y1: top + 32, y2: top + 20 + BAR }));
  }
  for (const saved of attempt.checkpoints) {
    const at = x(Date.parse(saved.at));
    const y = top + 20 + BAR + 7;
    parts.push(svg(
      "path",
      { class: "checkpoint", d: `M${at} ${y - 4}l4 4l-4 4l-4 -4z` },
      svg("title", {}, `checkpoint of epoch ${saved.epoch ?? "?"}: ${saved.uri ?? ""}`),
    ));
  }
  return parts;
}

/* A red line under the bar for as long as the verdict was alarming. */
function alarmLines(view, attempts, x) {
  const lines = [];
  view.verdicts.forEach((verdict, index) => {
    if (!ALARMS.has(verdict.verdict)) return;
    const end = view.verdicts[index + 1]?.at ?? view.now;
    const row = attempts.findLastIndex((attempt) => Date.parse(attempt.phases[0]?.from) <= verdict.at);
    if (row < 0) return;
    const y = row * ROW + 20 + BAR + 2;
    lines.push(svg(
      "rect",
      { class: "alarm-line", x: x(verdict.at), y, width: Math.max(2, x(end) - x(verdict.at)), height: 3 },
      svg("title", {}, `${verdict.verdict} from ${moment(new Date(verdict.at).toISOString())}`),
    ));
  });
  return lines;
}

function attemptTitle(view, attempt) {
  const first = attempt.phases[0];
  const last = attempt.phases.at(-1);
  const end = last?.to ? Date.parse(last.to) : view.now;
  const took = first ? ` after ${duration((end - Date.parse(first.from)) / 1000)}` : "";
  if (!attempt.outcome) return `Attempt ${attempt.number}: goes on${took}`;
  const why = attempt.reason?.code && attempt.outcome !== "succeeded" ? ` (${attempt.reason.code})` : "";
  return `Attempt ${attempt.number}: ${attempt.outcome}${why}${took}`;
}

/* Phases that a trainer names itself have a colour by their name, always the same one. */
function colourOf(phase) {
  if (Object.hasOwn(PHASES, phase)) return PHASES[phase];
  let sum = 0;
  for (const letter of String(phase)) sum = (sum * 31 + letter.codePointAt(0)) % 4;
  return `own-${sum}`;
}

function legend(attempts) {
  const names = [...new Set(attempts.flatMap((attempt) => attempt.phases.map((phase) => phase.phase)))];
  const marks = names.map((name) => el("li", {}, el("span", { class: `swatch ${colourOf(name)}` }), words(name)));
  if (attempts.some((attempt) => attempt.checkpoints.length)) {
    marks.push(el("li", {}, el("span", { class: "diamond" }, "◆"), "checkpoint"));
  }
  return el("ul", { class: "legend" }, marks);
}

function attemptDetails(view, attempt, open) {
  const gaps = gapsOf(attempt);
  const rows = attempt.phases.map((phase) => [
    [el("span", { class: `swatch ${colourOf(phase.phase)}` }), words(phase.phase)],
    moment(phase.from),
    duration(((phase.to ? Date.parse(phase.to) : view.now) - Date.parse(phase.from)) / 1000),
    code(phase.reason),
  ]);
  const saved = attempt.checkpoints.slice(-50).map((checkpoint) => el(
    "li", {}, `epoch ${checkpoint.epoch ?? "?"}: `, el("code", {}, checkpoint.uri ?? "–"), ` ${moment(checkpoint.at)}`,
  ));
  const summary = [attemptTitle(view, attempt), gaps.length ? ` · ${plural(gaps.length, "gap")} in its callbacks` : ""];
  return el(
    "details",
    { class: "fold", "data-attempt": attempt.number, open },
    el("summary", {}, summary),
    attempt.reason?.message ? el("p", {}, attempt.reason.message) : "",
    table(["Phase", "From", "Took", "Why"], rows),
    attempt.lost.size ? el("p", {}, `Epochs that a later attempt trained again: ${lostText(attempt)}`) : "",
    gaps.length ? el("p", { class: "alarm" }, `Callbacks that never came, by the trainer's count: ${gapsText(gaps)}`) : "",
    saved.length ? [el("h3", {}, `Checkpoints (${attempt.checkpoints.length})`), el("ul", { class: "plain" }, saved)] : "",
  );
}

function lostText(attempt) {
  return [...attempt.lost.keys()].sort((one, other) => one - other).join(", ");
}

function gapsText(gaps) {
  const shown = gaps.slice(0, 20).map(([first, last]) => (first === last ? `${first}` : `${first}–${last}`));
  return shown.join(", ") + (gaps.length > 20 ? " …" : "");
}
