/* The bundle's data: unpacked, and put together as it stood at any version.

   A step says what one event changed (service/changes.py); this file only puts steps together and
   knows no rule. Everything that decides was decided where the bundle was made. */

const GENESIS = "0".repeat(64);

async function unpacked(name) {
  const text = document.getElementById(`data-${name}`).textContent;
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

async function unpackedLines(name) {
  return (await unpacked(name)).split("\n").filter((line) => line !== "");
}

class Film {
  constructor(about, events, steps) {
    this.about = about;
    this.events = events;
    this.steps = steps;
    this.last = steps.length - 1;
    this.start = Date.parse(steps[0].at);
    this.end = Math.max(Date.parse(steps[this.last].at), endOfWatching(about));
    this.indexOfVersion = new Map(steps.map((step, index) => [step.version, index]));
    this.indexOfPosition = new Map(steps.map((step, index) => [step.position, index]));
  }

  static async load() {
    const about = JSON.parse(await unpacked("about"));
    const steps = (await unpackedLines("steps")).map((line) => JSON.parse(line));
    const events = (await unpackedLines("events")).map((line) => ({ ...JSON.parse(line), line }));
    return new Film(about, events, steps);
  }

  /* What had been recorded when the step of this index was the last one. */
  at(index) {
    const view = { index, job: {}, why: {}, attempts: new Map(), verdicts: [] };
    for (let number = 0; number <= index; number += 1) this.apply(view, this.steps[number]);
    view.step = this.steps[index];
    view.isLast = index === this.last;
    view.now = view.isLast ? this.end : Date.parse(view.step.at);
    if (view.isLast) view.job = this.about.job;
    return view;
  }

  apply(view, step) {
    Object.assign(view.job, step.job);
    Object.assign(view.why, step.why);
    for (const news of step.attempts ?? []) {
      const attempt = attemptOf(view, news.attempt);
      attempt.checkpoints.push(...(news.checkpoints ?? []));
      if (news.phases) attempt.phases = news.phases;
      if (news.outcome) Object.assign(attempt, { outcome: news.outcome, reason: news.reason });
    }
    if (step.epoch) {
      const attempt = attemptOf(view, step.epoch.attempt);
      (step.epoch.lost ? attempt.lost : attempt.epochs).set(step.epoch.epoch, step.epoch);
    }
    if (step.lost) loseEpoch(attemptOf(view, step.lost.attempt), step.lost.epoch);
    if (step.seqs && view.attempts.has(step.attempt)) {
      attemptOf(view, step.attempt).seqs.push(...step.seqs);
    }
    const verdict = step.job?.health?.verdict;
    const before = view.verdicts.at(-1);
    if (verdict && verdict !== before?.verdict) {
      view.verdicts.push({ verdict, at: Date.parse(step.at), version: step.version });
    }
  }
}

/* Until when the bundle knows of the job: its end, or the moment of the export. */
function endOfWatching(about) {
  return Date.parse(about.job.completed_at ?? about.bundle.moment.now);
}

function attemptOf(view, number) {
  if (!view.attempts.has(number)) {
    const epochs = { epochs: new Map(), lost: new Map() }; // lost: a later attempt trained it again
    const empty = { phases: [], checkpoints: [], ...epochs, seqs: [], outcome: null };
    view.attempts.set(number, { number, ...empty });
  }
  return view.attempts.get(number);
}

function loseEpoch(attempt, number) {
  if (!attempt.epochs.has(number)) return;
  attempt.lost.set(number, { ...attempt.epochs.get(number), lost: true });
  attempt.epochs.delete(number);
}

function epochsOf(attempt) {
  const epochs = [...attempt.epochs.values(), ...attempt.lost.values()].sort((one, other) => one.epoch - other.epoch);
  return epochs.map((epoch, index) => {
    const before = epochs[index - 1];
    const follows = before && before.epoch === epoch.epoch - 1;
    const took = follows ? Math.max(0, Date.parse(epoch.at) - Date.parse(before.at)) / 1000 : null;
    return { ...epoch, seconds: epoch.seconds ?? took };
  }).filter((epoch) => !epoch.lost);
}

/* The holes in the trainer's own count, which starts at 1. */
function gapsOf(attempt) {
  const gaps = [];
  let seen = 0;
  for (const [first, last] of [...attempt.seqs].sort((one, other) => one[0] - other[0])) {
    if (first > seen + 1) gaps.push([seen + 1, first - 1]);
    seen = Math.max(seen, last);
  }
  return gaps;
}

/* Follow the chain of hashes. A line without its hash is the very text that the hash covers. */
async function checkChain(events, tell) {
  const encoder = new TextEncoder();
  let previous = GENESIS;
  let rolledUp = 0;
  for (const [index, event] of events.entries()) {
    if (event.type === "heartbeats") {
      rolledUp += 1; // its hash is that of the last heartbeat that it stands for
    } else {
      const body = `${event.line.slice(0, event.line.lastIndexOf(',"hash":"'))}}`;
      const bytes = encoder.encode(`${previous}\n${body}`);
      const digest = await crypto.subtle.digest("SHA-256", bytes);
      if (hex(digest) !== event.hash) return { broken: event.version, rolledUp };
    }
    previous = event.hash;
    if (index % 2000 === 1999) {
      tell(index + 1);
      await new Promise((resume) => setTimeout(resume));
    }
  }
  return { broken: null, rolledUp };
}

function hex(buffer) {
  return Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
