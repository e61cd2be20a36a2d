/* The events as they lie in the log: filtered, opened one by one, as far as the moment goes. */

const PAGE = 200;

class EventTable {
  constructor(film, moveTo) {
    this.film = film;
    this.moveTo = moveTo;
    this.limit = PAGE;
    this.opened = new Set();
    this.upTo = film.last;
    this.fillTypes();
    for (const id of ["event-type", "event-aside"]) byId(id).addEventListener("change", () => this.filter());
    byId("event-text").addEventListener("input", () => this.filter());
    byId("events-more").addEventListener("click", () => {
      this.limit += PAGE;
      this.draw();
    });
  }

  fillTypes() {
    const counts = new Map();
    for (const event of this.film.events) counts.set(event.type, (counts.get(event.type) ?? 0) + 1);
    const options = [...counts].sort().map(([type, count]) => el("option", { value: type }, `${type} (${count})`));
    byId("event-type").replaceChildren(el("option", { value: "" }, "all types"), ...options);
  }

  filter() {
    this.limit = PAGE;
    this.draw();
  }

  showUpTo(index) {
    this.upTo = index;
    this.draw();
  }

  /* Open one event and bring it into view, whatever the filters hide. */
  open(version) {
    byId("event-type").value = "";
    byId("event-text").value = "";
    byId("event-aside").checked = false;
    this.opened.add(version);
    const place = this.found().findIndex((event) => event.version === version);
    if (place < 0) return;
    this.limit = Math.max(this.limit, place + 20);
    this.draw();
    const row = byId(`event-${version}`);
    row.scrollIntoView({ block: "center" });
    row.querySelector("button").focus({ preventScroll: true });
  }

  found() {
    const type = byId("event-type").value;
    const text = byId("event-text").value.trim().toLowerCase();
    const aside = byId("event-aside").checked;
    const version = this.film.steps[this.upTo].version;
    return this.film.events.filter((event) => event.version <= version
      && (type === "" || event.type === type)
      && (!aside || event.rule !== null)
      && (text === "" || this.textOf(event).includes(text)));
  }

  textOf(event) {
    const step = this.stepOf(event);
    event.text ??= `#${event.version} ${step.title} ${step.detail ?? ""} ${event.line}`.toLowerCase();
    return event.text;
  }

  stepOf(event) {
    return this.film.steps[this.film.indexOfVersion.get(event.version)];
  }

  draw() {
    const found = this.found();
    const version = this.film.steps[this.upTo].version;
    const later = this.film.events.filter((event) => event.version > version).length;
    const counted = [
      found.length === this.film.events.length ? plural(found.length, "event") : `${found.length.toLocaleString("en")} of ${plural(this.film.events.length, "event")}`,
      later ? `${later.toLocaleString("en")} recorded later` : "",
      this.film.about.skipped ? `${plural(this.film.about.skipped, "heartbeat")} left out here; events.ndjson has all` : "",
    ];
    byId("events-count").textContent = counted.filter(Boolean).join(" · ");
    byId("events-body").replaceChildren(...found.slice(0, this.limit).flatMap((event) => this.rows(event)));
    byId("events-more").hidden = found.length <= this.limit;
  }

  rows(event) {
    const step = this.stepOf(event);
    const isOpen = this.opened.has(event.version);
    const flip = () => {
      if (isOpen) this.opened.delete(event.version);
      else this.opened.add(event.version);
      this.draw();
      byId(`event-${event.version}`).querySelector("button").focus();
    };
    const row = el(
      "tr",
      { id: `event-${event.version}`, class: [event.rule ? "aside" : "", isOpen ? "open" : ""].join(" ") },
      el("td", {}, el(
        "button",
        { type: "button", class: "version", "aria-expanded": String(isOpen), click: flip },
        `#${event.version}`,
      )),
      el("td", { title: moment(event.recorded_at) }, offset(Date.parse(event.recorded_at) - this.film.start)),
      el("td", {}, el("span", { class: `type ${NOTABLE[event.type] ?? ""}` }, words(event.type))),
      el("td", { class: "try" }, String(event.attempt)),
      el("td", { class: "what" }, step.title, step.detail ? el("span", { class: "muted" }, ` ${step.detail}`) : "",
        event.rule ? [" ", code(`set aside: ${event.rule}`)] : ""),
    );
    return isOpen ? [row, this.details(event)] : [row];
  }

  details(event) {
    const here = () => this.moveTo(this.film.indexOfVersion.get(event.version));
    const cell = el(
      "td",
      { colspan: "5" },
      facts([
        ["Recorded", `${event.recorded_at} by the database's clock`],
        ["Occurred", `${event.occurred_at} by its producer's clock`],
        ["Source", event.source],
        ["Position", String(event.position)],
        ["Event id", el("code", {}, event.event_id)],
        ["Trainer's count", event.seq === null ? null : String(event.seq)],
        ["Hash", el("code", {}, event.hash)],
      ]),
      el("pre", {}, JSON.stringify(event.data, null, 2)),
      el("details", { class: "fold" }, el("summary", {}, "As recorded"), el("pre", { class: "wrap" }, event.line)),
      el("button", { type: "button", click: here }, "Show everything as of this event"),
    );
    return el("tr", { class: "details" }, cell);
  }
}
