/* Brings the page to life: the moment that is shown, and every part drawn for it. */

const THEMES = ["system", "light", "dark"];
const NOTABLE = {
  created: "quiet", running: "work", adopted: "work", queued: "quiet", done: "work", exited: "quiet",
  attempt_failed: "bad", failed: "bad", retry_scheduled: "wait", cancel_requested: "end", stop_requested: "end",
  cancelled: "end", succeeded: "good", health_changed: "wait", evidence: "quiet",
};

class Viewer {
  constructor(film) {
    this.film = film;
    this.index = film.last;
    this.table = new EventTable(film, (index) => this.moveTo(index));
    this.slider = byId("as-of");
    this.slider.max = String(film.last);
    this.listen();
    byId("content").hidden = false;
    this.draw();
    this.drawEnds();
    this.prove();
  }

  listen() {
    this.slider.addEventListener("input", () => this.moveTo(Number(this.slider.value)));
    const steps = {
      "to-first": () => 0,
      "to-previous": () => this.index - 1,
      "to-next": () => this.index + 1,
      "to-last": () => this.film.last,
    };
    for (const [id, place] of Object.entries(steps)) byId(id).addEventListener("click", () => this.moveTo(place()));
    byId("metric").addEventListener("change", () => this.drawPictures());
    let width = window.innerWidth;
    window.addEventListener("resize", () => {
      if (window.innerWidth === width) return;
      width = window.innerWidth;
      this.drawPictures();
    });
  }

  moveTo(index) {
    this.index = Math.max(0, Math.min(this.film.last, index));
    this.draw();
  }

  goTo(version) {
    if (this.film.indexOfVersion.get(version) > this.index) this.moveTo(this.film.indexOfVersion.get(version));
    this.table.open(version);
  }

  draw() {
    this.view = this.film.at(this.index);
    this.slider.value = String(this.index);
    this.drawHead();
    showWhy(this.film, this.view, (version) => this.goTo(version));
    showFacts(this.film, this.view);
    this.drawPictures();
    this.table.showUpTo(this.index);
    showEvidence(this.film, this.view, (version) => this.goTo(version));
  }

  drawPictures() {
    showTimeline(this.film, this.view);
    showEpochs(this.view);
    drawMarks(this.film);
  }

  drawHead() {
    const { film, view } = this;
    const { job, step } = view;
    document.title = `Job ${film.about.job.id} · ${job.status} · Epochlog`;
    byId("job-name").textContent = `Job ${film.about.job.id}`;
    byId("job-what").textContent = `${job.model_name} on ${job.dataset_id}, ${plural(job.epochs, "epoch")}`;
    byId("job-status").replaceChildren(pill(job.status));
    const last = film.steps[film.last].version;
    const before = view.isLast ? "" : ` · ${duration((film.end - Date.parse(step.at)) / 1000)} before the end`;
    byId("as-of-text").replaceChildren(
      el("strong", {}, view.isLast ? `All ${last.toLocaleString("en")} versions` : `As of version ${step.version.toLocaleString("en")} of ${last.toLocaleString("en")}`),
      ` · ${moment(step.at)}${before} · `,
      el("span", { class: "muted" }, step.title),
    );
    this.slider.setAttribute("aria-valuetext", `version ${step.version}: ${step.title}`);
    for (const [id, isEnd] of [["to-first", this.index === 0], ["to-previous", this.index === 0],
      ["to-next", view.isLast], ["to-last", view.isLast]]) byId(id).disabled = isEnd;
  }

  /* What does not depend on the moment. */
  drawEnds() {
    const { bundle } = this.film.about;
    byId("proof-body").replaceChildren(
      el("p", { id: "chain", class: "chain", role: "status" }, "The chain of hashes is being checked …"),
      facts([
        ["Log", el("code", {}, bundle.log_id)],
        ["Exported", `${moment(bundle.exported_at)} by Epochlog ${bundle.product_version}`],
        ["Head", `version ${bundle.head.version}, position ${bundle.head.position}`],
        ["Head's hash", el("code", {}, bundle.head.hash)],
        ["Secrets", secretsText(bundle)],
      ]),
      el("p", { class: "muted" }, "A chain that holds shows that nothing was changed or left out between its first event and its head. It cannot show that nobody made all of it anew: compare the head's hash with what the service says of this version of the job."),
    );
  }

  async prove() {
    const { about, events } = this.film;
    const tell = (kind, text) => {
      byId("chain").className = `chain ${kind}`;
      byId("chain").textContent = text;
    };
    if (about.skipped) {
      return tell("unsure", "Not checked here, because not every event is in this page: `epochlog import --check` checks the whole bundle.");
    }
    if (!globalThis.crypto?.subtle) {
      return tell("unsure", "This browser cannot compute SHA-256 for a page from disk, so the hashes are shown as they were recorded: `epochlog import --check` checks them.");
    }
    const { broken, rolledUp } = await checkChain(events, (count) => tell("", `${count.toLocaleString("en")} of ${plural(events.length, "event")} checked …`));
    if (broken !== null) return tell("bad", `The chain is broken at version ${broken}: that event is not what its hash says.`);
    if (events.at(-1).hash !== about.bundle.head.hash) return tell("bad", "The chain does not end at the head that the bundle names.");
    const rest = rolledUp ? ` ${plural(rolledUp, "roll-up")} of heartbeats cannot be checked here: the heartbeats lie in the service's archive.` : "";
    return tell("good", `Checked in this browser: ${plural(events.length - rolledUp, "event")}, each with the SHA-256 that it should have behind the one before.${rest}`);
  }
}

function secretsText({ possible_secrets: found, redacted }) {
  const taken = Object.values(redacted).reduce((sum, count) => sum + count, 0);
  const parts = [];
  if (taken) parts.push(`${taken} taken out of the output`);
  if (found.length) parts.push(`${plural(found.length, "event")} may hold one (position ${found.slice(0, 8).join(", ")})`);
  return parts.join("; ") || "none was recognised";
}

function showEvidence(film, view, goTo) {
  const { version } = view.step;
  const kept = film.events.filter((event) => event.type === "evidence" && event.version <= version);
  const body = byId("evidence-body");
  const open = new Set([...body.querySelectorAll("details[open]")].map((item) => item.dataset.log));
  const shown = kept.slice(-100).map((event) => el(
    "article",
    {},
    el("h3", {}, versionLink(film.steps[film.indexOfVersion.get(event.version)], goTo), ` ${words(event.data.kind)} of attempt ${event.attempt}`),
    el("pre", {}, evidenceText(event.data)),
  ));
  const logs = Object.entries(film.about.logs).map(([attempt, text]) => el(
    "details",
    { class: "fold", "data-log": attempt, open: open.has(attempt) },
    el("summary", {}, `Output of attempt ${attempt}: its end, when this was exported`),
    el("pre", {}, text || "(nothing)"),
  ));
  const nothing = el("p", { class: "muted" }, "There is no evidence by then, and no output was at hand.");
  body.replaceChildren(...(shown.length || logs.length ? [...shown, ...logs] : [nothing]));
}

function evidenceText({ data }) {
  const { lines } = data ?? {};
  return Array.isArray(lines) ? lines.join("\n") : JSON.stringify(data ?? {}, null, 2);
}

/* What happened where, under the slider. */
function drawMarks(film) {
  const marks = byId("track-marks");
  const { width } = marks.getBoundingClientRect();
  const thumb = 16;
  marks.setAttribute("viewBox", `0 0 ${Math.max(1, width)} 10`);
  const at = (index) => thumb / 2 + (index / Math.max(1, film.last)) * (width - thumb);
  marks.replaceChildren(...film.steps.flatMap((step, index) => {
    const kind = step.epoch ? "tick" : NOTABLE[step.type];
    if (!kind || (kind === "tick" && film.last > width)) return [];
    return [svg("rect", { class: `mark ${kind}`, x: at(index) - 1, y: kind === "tick" ? 4 : 0, width: 2, height: kind === "tick" ? 4 : 10 })];
  }));
}

function followTheme() {
  let theme = "system";
  const show = () => {
    if (theme === "system") document.documentElement.removeAttribute("data-theme");
    else document.documentElement.setAttribute("data-theme", theme);
    byId("theme").textContent = `Theme: ${theme}`;
  };
  byId("theme").addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    show();
  });
}

async function start() {
  followTheme();
  try {
    if (typeof DecompressionStream === "undefined") throw new Error("this browser is too old: it has no DecompressionStream");
    globalThis.viewer = new Viewer(await Film.load());
  } catch (error) {
    byId("failure").textContent = `The page cannot show its data: ${error.message}. The files beside it in the zip hold the same as text.`;
    byId("failure").hidden = false;
    throw error;
  }
}

start();
