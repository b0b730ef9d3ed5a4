// Draws every <figure data-chart="…"> from the JSON script that the attribute names, and fills the
// table below it with the same data. The JSON comes from overview/dashboard.py and devices/charts.py.
"use strict";

(() => {
  // Lines differ by dashes and bars by their fill, so that charts are readable without colours.
  const DASHES = [[], [6, 4], [2, 3]];
  const COLOURS = {
    light: ["#2563eb", "#b45309", "#7e22ce", "#0f766e"],
    dark: ["#60a5fa", "#fbbf24", "#c084fc", "#2dd4bf"],
  };
  const charts = new Map();

  const BEHIND = { light: "#9ca3af", dark: "#6b7280" };

  const isDark = () => document.documentElement.classList.contains("dark");

  const shownTime = (zone, options) => {
    const format = new Intl.DateTimeFormat("en-GB", { timeZone: zone, hourCycle: "h23", ...options });
    return (time) => format.format(new Date(time));
  };

  const labelsOf = (chart) => {
    if (chart.labels) return chart.labels;
    const times = chart.times.map((time) => new Date(time).getTime());
    const seconds = times.length > 1 ? (times[times.length - 1] - times[0]) / 1000 : 0;
    const day = { day: "numeric", month: "short" };
    const clock = { hour: "2-digit", minute: "2-digit" };
    const isByDay = times.length > 1 && seconds / (times.length - 1) > 72000;
    const options = isByDay ? day : seconds > 100000 ? { ...day, ...clock } : clock;
    return chart.times.map(shownTime(chart.zone || "UTC", options));
  };

  // A canvas cannot use CSS patterns: draw a tile of diagonal stripes.
  const striped = (colour) => {
    const tile = document.createElement("canvas");
    tile.width = tile.height = 8;
    const pen = tile.getContext("2d");
    pen.strokeStyle = colour;
    pen.lineWidth = 2;
    pen.beginPath();
    for (const offset of [-4, 4, 12]) {
      pen.moveTo(offset - 4, 12);
      pen.lineTo(offset + 12, -4);
    }
    pen.stroke();
    return pen.createPattern(tile, "repeat");
  };

  // Values of the span before are grey steps behind everything else.
  const behindOf = (series) => {
    const colour = BEHIND[isDark() ? "dark" : "light"];
    return {
      type: "line",
      label: `${series.label}, ${series.unit}`,
      data: series.values,
      yAxisID: series.axis,
      order: 3,
      backgroundColor: `${colour}40`,
      borderColor: colour,
      borderWidth: 1.5,
      borderDash: DASHES[series.dash],
      fill: series.dash === 0 ? "origin" : false,
      stepped: "middle",
      pointRadius: 0,
      pointStyle: "line",
    };
  };

  const datasetOf = (series, index) => {
    if (series.behind) return behindOf(series);
    const colour = COLOURS[isDark() ? "dark" : "light"][index % 4];
    const isBar = series.as === "bar";
    const fill = index % 2 ? striped(colour) : colour;
    return {
      type: isBar ? "bar" : "line",
      label: `${series.label}, ${series.unit}`,
      data: series.values,
      yAxisID: series.axis || "left",
      order: isBar ? 1 : 0,
      backgroundColor: isBar ? fill : colour,
      borderColor: colour,
      borderWidth: isBar ? 1 : 2,
      borderDash: isBar ? [] : DASHES[series.dash || 0],
      pointRadius: series.values.length < 50 && !isBar ? 2 : 0,
      pointStyle: isBar ? "rect" : ["circle", "triangle", "rectRot"][series.dash || 0],
      spanGaps: false,
      tension: 0,
    };
  };

  const markOf = (mark, points, colour) => ({
    type: "line",
    label: mark.label,
    data: Array(points).fill(mark.value),
    yAxisID: mark.axis || "left",
    borderColor: colour,
    borderWidth: 1,
    borderDash: [2, 4],
    pointRadius: 0,
    order: 2,
  });

  const axisOf = (name, chart, colours) => {
    const mine = chart.series.filter((series) => (series.axis || "left") === name);
    return {
      display: mine.length > 0,
      position: name,
      beginAtZero: mine.some((series) => series.as === "bar"),
      // Show percentages from 50 to 100 at least: a narrower scale would exaggerate small changes.
      ...(mine.every((series) => series.unit === "%") ? { suggestedMin: 50, suggestedMax: 100 } : {}),
      title: {
        display: true,
        text: [...new Set(mine.map((series) => series.unit))].join(", "),
        color: colours.text,
      },
      grid: { color: colours.grid, drawOnChartArea: name === "left" },
      ticks: { color: colours.text },
    };
  };

  const configOf = (chart) => {
    const labels = labelsOf(chart);
    const colours = isDark()
      ? { text: "#d1d5db", grid: "#374151" }
      : { text: "#4b5563", grid: "#e5e7eb" };
    const marks = (chart.marks || []).map((mark) => markOf(mark, labels.length, colours.text));
    return {
      data: { labels, datasets: [...chart.series.map(datasetOf), ...marks] },
      options: {
        animation: false,
        maintainAspectRatio: false,
        interaction: { mode: "index", intersect: false },
        plugins: {
          legend: { labels: { color: colours.text, usePointStyle: true, boxHeight: 7 } },
        },
        scales: {
          x: {
            title: { display: Boolean(chart.times), text: chart.zone || "UTC", color: colours.text },
            grid: { display: false },
            ticks: { color: colours.text, maxRotation: 0, autoSkipPadding: 12 },
          },
          left: axisOf("left", chart, colours),
          right: axisOf("right", chart, colours),
        },
      },
    };
  };

  const cell = (kind, text) => {
    const made = document.createElement(kind);
    made.textContent = text;
    return made;
  };

  const fillTable = (figure, chart) => {
    const full = { dateStyle: "medium", timeStyle: "short" };
    const show = shownTime(chart.zone || "UTC", full);
    const names = chart.labels || chart.times.map(show);
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    head.append(cell("th", chart.labels ? "" : `From, ${chart.zone || "UTC"}`));
    chart.series.forEach((series) => head.append(cell("th", `${series.label}, ${series.unit}`)));
    const body = table.createTBody();
    names.forEach((name, at) => {
      const row = body.insertRow();
      const first = cell("th", name);
      first.scope = "row";
      row.append(first);
      chart.series.forEach((series) => {
        const value = series.values[at];
        row.append(cell("td", value === null ? "–" : String(Math.round(value * 1000) / 1000)));
      });
    });
    figure.querySelector(".console-scroll").replaceChildren(table);
  };

  const drawOne = (figure) => {
    const canvas = figure.querySelector("canvas");
    const chart = JSON.parse(document.getElementById(figure.dataset.chart).textContent);
    charts.get(canvas)?.destroy();
    charts.set(canvas, new Chart(canvas, configOf(chart)));
    fillTable(figure, chart);
  };

  const draw = (root = document) => {
    for (const canvas of charts.keys()) {
      if (!canvas.isConnected) {
        charts.get(canvas).destroy();
        charts.delete(canvas);
      }
    }
    root.querySelectorAll("figure[data-chart]").forEach(drawOne);
  };

  window.Console = { draw };
  document.addEventListener("DOMContentLoaded", () => {
    draw();
    new MutationObserver(() => draw()).observe(document.documentElement, {
      attributeFilter: ["class"],
    });
  });
})();
