"use strict";
// Tables that can be sorted, the scatter plot, and the comparer. Without this script the page shows all the rest.

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const make = (name, attributes, parent) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return parent.appendChild(element);
};
const fill = (select, options, chosen) => {
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value, false, value === chosen)));
};

// Tables: numbers before words; the first choice of a column of numbers puts the largest at the top.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const before = head.getAttribute("aria-sort");
    const first = head.classList.contains("number") ? "descending" : "ascending";
    const order = before === null ? first : before === "ascending" ? "descending" : "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const keyed = [...body.rows].map((row) => [row.cells[column].dataset.value, row]);
    keyed.sort(([a], [b]) => {
      if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
      const difference = Number(a) - Number(b);
      return sign * (Number.isNaN(difference) ? a.localeCompare(b) : difference);
    });
    body.append(...keyed.map(([, row]) => row));
  }));
}

// Scatter plot: one point for each image, under two variants.
const startScatter = () => {
  const root = document.getElementById("scatter");
  if (!root) return;
  const data = read("scatter-data");
  const [svg, tip, said] = ["svg", ".tip", ".said"].map((selector) => root.querySelector(selector));
  const [set, x, y] = ["set", "x", "y"].map((name) => root.querySelector(`[name=${name}]`));
  const colours = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999", "#f0e442"];
  const [left, top, right, bottom] = [52, 10, 470, 352];
  let points = [];
  let chosen = -1;

  const choose = (index) => {
    if (!points.length) return;
    points[chosen]?.mark.classList.remove("chosen");
    chosen = (index + points.length) % points.length;
    const point = points[chosen];
    point.mark.classList.add("chosen");
    svg.append(point.mark);
    const text = `${point.set}, ${point.name}\n${data.variants[x.value]} ${point.a.toFixed(2)} dB\n`
      + `${data.variants[y.value]} ${point.b.toFixed(2)} dB (${(point.b - point.a).toFixed(2)} dB)`;
    tip.querySelector("img").src = point.picture;
    tip.querySelector("span").textContent = text;
    said.textContent = text.replaceAll("\n", ", ");
    const scale = svg.getBoundingClientRect().width / 480;
    const across = point.x * scale > root.clientWidth / 2 ? point.x * scale - tip.offsetWidth - 14 : point.x * scale + 14;
    tip.style.left = `${Math.max(0, across)}px`;
    tip.style.top = `${svg.offsetTop + Math.max(0, point.y * scale - tip.offsetHeight / 2)}px`;
    tip.style.visibility = "visible";
  };

  const draw = () => {
    svg.replaceChildren();
    tip.style.visibility = "hidden";
    said.textContent = "";
    points = [];
    chosen = -1;
    data.sets.forEach((one, number) => {
      if (set.value !== "all" && set.value !== String(number)) return;
      one.images.forEach((name, i) => {
        const [a, b] = [one.psnr[x.value]?.[i], one.psnr[y.value]?.[i]];
        if (a != null && b != null) points.push({ set: one.title, name, a, b, number, picture: one.pictures[i] });
      });
    });
    if (!points.length) return;
    const values = points.flatMap((point) => [point.a, point.b]);
    const [low, high] = [Math.floor(Math.min(...values)), Math.ceil(Math.max(...values))];
    const across = (value) => left + (right - left) * (value - low) / (high - low);
    const up = (value) => bottom - (bottom - top) * (value - low) / (high - low);
    const step = Math.max(1, Math.ceil((high - low) / 8));
    for (let value = low; value <= high; value += step) {
      make("line", { class: "rule", x1: left, x2: right, y1: up(value), y2: up(value) }, svg);
      make("line", { class: "rule", x1: across(value), x2: across(value), y1: top, y2: bottom }, svg);
      make("text", { x: left - 6, y: up(value) + 4, "text-anchor": "end" }, svg).textContent = value;
      make("text", { x: across(value), y: bottom + 15, "text-anchor": "middle" }, svg).textContent = value;
    }
    make("line", { class: "equal", x1: across(low), y1: up(low), x2: across(high), y2: up(high) }, svg);
    make("text", { x: (left + right) / 2, y: 385, "text-anchor": "middle" }, svg)
      .textContent = `${data.variants[x.value]}, PSNR (dB)`;
    make("text", { x: 14, y: (top + bottom) / 2, "text-anchor": "middle",
      transform: `rotate(-90 14 ${(top + bottom) / 2})` }, svg).textContent = `${data.variants[y.value]}, PSNR (dB)`;
    points.forEach((point) => {
      [point.x, point.y] = [across(point.a), up(point.b)];
      point.mark = make("circle", { class: "point", cx: point.x, cy: point.y, r: 5,
        fill: colours[point.number % colours.length] }, svg);
    });
    const shown = [...new Set(points.map((point) => point.number))];
    shown.forEach((number, i) => {
      make("circle", { cx: left + 12, cy: top + 14 + 16 * i, r: 5, fill: colours[number % colours.length] }, svg);
      make("text", { x: left + 22, y: top + 18 + 16 * i }, svg).textContent = data.sets[number].title;
    });
  };

  const nearest = (event) => {
    const box = svg.getBoundingClientRect();
    const [px, py] = [(event.clientX - box.left) * 480 / box.width, (event.clientY - box.top) * 400 / box.height];
    const distances = points.map((point) => Math.hypot(point.x - px, point.y - py));
    const least = Math.min(...distances);
    if (least < 24) choose(distances.indexOf(least));
  };
  svg.addEventListener("pointermove", nearest);
  svg.addEventListener("pointerdown", nearest);
  svg.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
    if (!(event.key in steps)) return;
    event.preventDefault();
    choose(chosen < 0 ? 0 : chosen + steps[event.key]);
  });
  fill(set, [["all", "all"], ...data.sets.map((one, number) => [String(number), one.title])], "all");
  for (const [select, chosenVariant] of [[x, data.x], [y, data.y]]) fill(select, Object.entries(data.variants), chosenVariant);
  for (const select of [set, x, y]) select.addEventListener("change", draw);
  root.hidden = false;
  draw();
};

// Comparer: two pictures over one another, parted by a divider, or shown in turn.
const startComparer = () => {
  const root = document.getElementById("comparer");
  if (!root) return;
  const data = read("comparer-data");
  const [stage, under, over, said] = [".stage", ".under", ".over", ".said"].map((selector) => root.querySelector(selector));
  const [example, left, right, position, flicker] = ["example", "left", "right", "position", "flicker"]
    .map((name) => root.querySelector(`[name=${name}]`));
  let timer = null;

  const move = () => stage.style.setProperty("--at", `${position.value}%`);
  const show = () => {
    const item = data.examples.find((one) => one.key === example.value);
    const layer = (select) => item.layers.find(([key]) => key === select.value);
    [[under, left, ".tag-left"], [over, right, ".tag-right"]].forEach(([image, select, tag]) => {
      const [key, name, note] = layer(select);
      image.src = data.pictures[`${item.key}/${key}`];
      image.alt = `${name}${note && `, ${note}`}: ${item.label}`;
      root.querySelector(tag).textContent = note ? `${name}, ${note}` : name;
    });
    said.textContent = `Left: ${under.alt}. Right: ${over.alt}.`;
  };
  const refill = () => {
    const item = data.examples.find((one) => one.key === example.value);
    const options = item.layers.map(([key, name]) => [key, name]);
    for (const [select, first] of [[left, data.left], [right, data.right]]) fill(select, options, select.value || first);
    show();
  };
  const toggle = () => {
    const on = timer === null;
    flicker.setAttribute("aria-pressed", String(on));
    stage.classList.toggle("flickering", on);
    if (on) {
      let shown = false;
      timer = setInterval(() => { shown = !shown; stage.style.setProperty("--at", shown ? "0%" : "100%"); }, 600);
    } else {
      clearInterval(timer);
      timer = null;
      move();
    }
  };
  fill(example, data.examples.map((one) => [one.key, one.label]), data.examples[0].key);
  example.addEventListener("change", refill);
  left.addEventListener("change", show);
  right.addEventListener("change", show);
  position.addEventListener("input", move);
  flicker.addEventListener("click", toggle);
  root.addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() === "f" && event.target.tagName !== "SELECT") toggle();
  });
  refill();
  move();
};

document.documentElement.classList.add("script");
startScatter();
startComparer();
