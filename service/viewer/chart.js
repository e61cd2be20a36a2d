/* One metric over the epochs, a line an attempt, and the epochs as a table. */

const CHART_HEIGHT = 220;
const MARGIN = { left: 52, right: 20, top: 10, bottom: 26 };

function showEpochs(view) {
  const attempts = [...view.attempts.values()].filter((attempt) => attempt.epochs.size);
  const names = metricNames(attempts);
  byId("metric-choice").hidden = names.length === 0;
  const body = byId("epochs-body");
  if (!attempts.length) {
    body.replaceChildren(el("p", { class: "muted" }, "No epoch was complete by then."));
    return;
  }
  const metric = fillChoice(byId("metric"), names);
  const open = body.querySelector("details")?.open ?? false;
  body.replaceChildren(
    metric ? chart(attempts, metric, Math.max(280, body.clientWidth)) : "",
    metric && attempts.length > 1 ? chartLegend(attempts) : "",
    el("details", { class: "fold", open }, el("summary", {}, "All epochs"), epochTable(attempts, names)),
  );
}

/* Results first, then losses, learning rates last. */
function metricNames(attempts) {
  const names = new Set();
  for (const attempt of attempts) {
    for (const epoch of attempt.epochs.values()) {
      for (const name of Object.keys(epoch.metrics ?? {})) names.add(name);
    }
  }
  const rank = (name) => {
    if (/map|precision|recall|accuracy|fitness|f1/i.test(name)) return 0;
    if (name.startsWith("lr")) return 4;
    if (!name.includes("loss")) return 3;
    return name.startsWith("val") ? 2 : 1;
  };
  return [...names].sort((one, other) => rank(one) - rank(other) || one.localeCompare(other));
}

function fillChoice(select, names) {
  const chosen = names.includes(select.value) ? select.value : names[0];
  const held = [...select.options].map((option) => option.value);
  if (held.join("\n") !== names.join("\n")) {
    select.replaceChildren(...names.map((name) => el("option", { value: name }, name)));
  }
  if (chosen !== undefined) select.value = chosen;
  return chosen;
}

function chart(attempts, metric, width) {
  const lines = attempts.map((attempt) => ({
    number: attempt.number,
    points: epochsOf(attempt)
      .filter((epoch) => typeof epoch.metrics?.[metric] === "number")
      .map((epoch) => [epoch.epoch, epoch.metrics[metric]]),
  }));
  const all = lines.flatMap((line) => line.points);
  const [fromEpoch, toEpoch] = extent(all.map(([epoch]) => epoch), 1);
  const [low, high] = extent(all.map(([, value]) => value), Math.abs(all[0]?.[1] ?? 1) * 0.1 || 1);
  const x = (epoch) => MARGIN.left + ((epoch - fromEpoch) / (toEpoch - fromEpoch)) * (width - MARGIN.left - MARGIN.right);
  const y = (value) => CHART_HEIGHT - MARGIN.bottom - ((value - low) / (high - low)) * (CHART_HEIGHT - MARGIN.top - MARGIN.bottom);
  const picture = svg("svg", {
    class: "chart", role: "img", width, height: CHART_HEIGHT, viewBox: `0 0 ${width} ${CHART_HEIGHT}`,
    "aria-label": `${metric} over the epochs; the table below holds the same`,
  });
  for (const tick of ticks(low, high, 5)) {
    picture.append(
      svg("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(tick), y2: y(tick) }),
      svg("text", { class: "axis", x: MARGIN.left - 6, y: y(tick) + 4, "text-anchor": "end" }, figure(tick)),
    );
  }
  for (const tick of ticks(fromEpoch, toEpoch, Math.min(10, width / 60)).filter(Number.isInteger)) {
    picture.append(svg("text", { class: "axis", x: x(tick), y: CHART_HEIGHT - 8, "text-anchor": "middle" }, tick));
  }
  for (const line of lines) picture.append(...drawn(line, x, y, metric));
  return picture;
}

function drawn({ number, points }, x, y, metric) {
  if (!points.length) return [];
  const path = points.map(([epoch, value], index) => `${index ? "L" : "M"}${x(epoch).toFixed(1)} ${y(value).toFixed(1)}`);
  const name = `line-${(number - 1) % 5}`;
  const dots = points.length > 400 ? [] : points.map(([epoch, value]) => svg(
    "circle",
    { class: `dot ${name}`, cx: x(epoch), cy: y(value), r: points.length > 80 ? 2 : 3.5 },
    svg("title", {}, `attempt ${number}, epoch ${epoch}: ${metric} ${figure(value)}`),
  ));
  return [svg("path", { class: `line ${name}`, d: path.join("") }), ...dots];
}

function extent(values, spare) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) return [0, 1];
  return low === high ? [low - spare, high + spare] : [low, high];
}

function chartLegend(attempts) {
  return el("ul", { class: "legend" }, attempts.map((attempt) => el(
    "li", {}, el("span", { class: `swatch line-${(attempt.number - 1) % 5}` }), `attempt ${attempt.number}`,
  )));
}

function epochTable(attempts, names) {
  const shown = names.slice(0, 8);
  const rows = attempts.flatMap((attempt) => epochsOf(attempt).map((epoch) => [
    `${attempt.number}`,
    `${epoch.epoch}`,
    moment(epoch.at),
    duration(epoch.seconds),
    ...shown.map((name) => (epoch.metrics?.[name] === undefined ? "–" : figure(epoch.metrics[name]))),
  ]));
  const rest = rows.length - 1000;
  return [
    table(["Attempt", "Epoch", "Complete at", "Took", ...shown], rows.slice(-1000)),
    rest > 0 ? el("p", { class: "muted" }, `The first ${rest} are left out here; timeline.json has them.`) : "",
  ];
}
