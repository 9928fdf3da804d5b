"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const data = read("data");
  const audio = document.getElementById("audio");
  let sounds = null;
  let current = null;

  function play(sound, name) {
    // Megabytes, which are parsed only if somebody listens.
    sounds = sounds ?? read("sounds");
    current = String(sound);
    audio.src = "data:audio/mpeg;base64," + sounds[sound];
    document.getElementById("playing").textContent = name;
    document.getElementById("player").hidden = false;
    audio.play();
  }

  function mark() {
    const running = !audio.paused && !audio.ended;
    for (const button of document.querySelectorAll(".play")) {
      button.classList.toggle("playing", running && button.dataset.sound === current);
    }
    for (const picture of document.querySelectorAll("[data-playhead]")) {
      const head = picture.querySelector(".playhead");
      const shown = running && picture.dataset.playhead === current && audio.duration;
      head.style.display = shown ? "block" : "none";
      if (shown) head.style.left = (100 * audio.currentTime) / audio.duration + "%";
    }
    if (running) requestAnimationFrame(mark);
  }
  for (const event of ["play", "pause", "ended", "seeked"]) audio.addEventListener(event, mark);

  document.addEventListener("click", (event) => {
    const button = event.target.closest(".play");
    if (button) play(button.dataset.sound, button.dataset.name);
  });
  const chosen = document.getElementById("clip");
  document.getElementById("play-clip")?.addEventListener("click", () => {
    if (chosen.selectedIndex >= 0) play(chosen.value, chosen.options[chosen.selectedIndex].text);
  });

  // The clips of a machine type, the highest score first; only text, so that no name can be markup.
  const soundOf = new Map(chosen ? [...chosen.options].map((option) => [option.text, option.value]) : []);
  function list(details) {
    const table = document.createElement("table");
    const add = (kind, values) => {
      const row = table.insertRow();
      for (const value of values) {
        const cell = row.appendChild(document.createElement(kind));
        if (value instanceof Node) cell.append(value);
        else cell.textContent = value ?? "";
        if (typeof value === "number") cell.className = "number";
      }
    };
    add("th", ["score", "limit", "alarm", "label", "domain", "clip", ""]);
    const own = data.scores.filter((row) => row.machine === details.dataset.machine);
    for (const row of own.sort((a, b) => b.score - a.score)) {
      let button = "";
      if (soundOf.has(row.clip_id)) {
        button = document.createElement("button");
        Object.assign(button, { type: "button", className: "play", textContent: "\u25b6 Play" });
        Object.assign(button.dataset, { sound: soundOf.get(row.clip_id), name: row.clip_id });
      }
      add("td", [row.score, row.limit, row.alarm ? "alarm" : "", row.label, row.domain, row.clip_id, button]);
    }
    const scroll = details.appendChild(document.createElement("div"));
    scroll.className = "scroll";
    scroll.tabIndex = 0;
    scroll.append(table);
  }
  for (const details of document.querySelectorAll(".clips")) {
    details.addEventListener("toggle", () => details.open && details.childElementCount === 1 && list(details));
  }
  addEventListener("beforeprint", () => document.querySelectorAll("#process details").forEach((each) => (each.open = true)));

  // Text and lines take the colour of the page, also when it changes between light and dark.
  const ink = "currentColor";
  const guide = { labelColor: ink, titleColor: ink, labelFontSize: 12, titleFontSize: 12, titleFontWeight: 500 };
  const config = {
    background: "transparent",
    font: "system-ui, sans-serif",
    axis: { ...guide, domainColor: ink, tickColor: ink, gridColor: ink, gridOpacity: 0.15, labelLimit: 150, labelOverlap: true, labelSeparation: 6 },
    legend: { ...guide, symbolStrokeColor: ink },
    view: { stroke: null },
  };
  async function draw() {
    const specs = read("charts");
    for (const place of document.querySelectorAll("[data-chart]")) {
      const dark = matchMedia("(prefers-color-scheme: dark)").matches;
      const options = { actions: false, renderer: "svg", config, tooltip: { theme: dark ? "dark" : "light" } };
      const { view } = await vegaEmbed(place, specs[place.dataset.chart], options);
      view.addEventListener("click", (_, item) => {
        const datum = item?.datum;
        if (datum?.sound != null) play(datum.sound, datum.name);
      });
      // So that the page answers between two charts.
      await new Promise((done) => setTimeout(done));
    }
    document.documentElement.dataset.ready = "true";
  }
  draw();
})();
