// Refreshes the overview in place and counts the age of its figures; pauses while the tab is hidden.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  const TIMEOUT_MS = 15000;
  const overview = document.getElementById("overview");
  const note = document.getElementById("overview-note");
  let readAt = performance.now();
  let isRenewing = false;

  const secondsSince = (then) => (performance.now() - then) / 1000;

  const inWords = (seconds) => {
    if (seconds < 120) return `${seconds} s`;
    const minutes = Math.floor(seconds / 60);
    return minutes < 120 ? `${minutes} min` : `${Math.floor(minutes / 60)} h`;
  };

  const countOn = () => {
    overview.querySelectorAll("[data-age-seconds]").forEach((age) => {
      const seconds = Number(age.dataset.ageSeconds) + Math.floor(secondsSince(readAt));
      age.textContent = `${inWords(seconds)} ago`;
    });
  };

  // Screen readers announce each change: change the text only when it differs.
  const say = (words) => {
    if (note.textContent !== words) note.textContent = words;
    note.hidden = words === "";
  };

  const keyOf = (element) => element && (element.id || element.getAttribute("href"));

  const replace = (html) => {
    const scrolled = [...overview.querySelectorAll("[tabindex]")].map((box) => [
      box.scrollLeft,
      box.scrollTop,
    ]);
    const open = [...overview.querySelectorAll("details")].map((details) => details.open);
    const focused = overview.contains(document.activeElement) && keyOf(document.activeElement);
    overview.innerHTML = html;
    overview.querySelectorAll("details").forEach((details, at) => {
      details.open = Boolean(open[at]);
    });
    window.Console.draw(overview);
    overview.querySelectorAll("[tabindex]").forEach((box, at) => {
      [box.scrollLeft, box.scrollTop] = scrolled[at] || [0, 0];
    });
    if (focused) {
      const same = [...overview.querySelectorAll("[id], a")].find((it) => keyOf(it) === focused);
      same?.focus({ preventScroll: true });
    }
  };

  const renew = async () => {
    const answer = await fetch(overview.dataset.url, {
      redirect: "manual", // a redirect leads to the sign-in page
      cache: "no-store",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    if (answer.type === "opaqueredirect" || answer.status === 403) {
      return "You are signed out. Sign in again to refresh these figures.";
    }
    if (!answer.ok) throw new Error(`answered ${answer.status}`);
    replace(await answer.text());
    readAt = performance.now();
    return "";
  };

  const FAILED = "The engine is not responding. These figures refresh when it does.";
  let triedAt = readAt;

  const isDue = () => {
    const part = document.getElementById("overview-part");
    return secondsSince(triedAt) >= Number(part.dataset.renewSeconds);
  };

  setInterval(async () => {
    if (document.hidden) return;
    countOn();
    if (isRenewing || !isDue()) return;
    isRenewing = true;
    triedAt = performance.now();
    say(await renew().catch(() => FAILED));
    isRenewing = false;
  }, 1000);
});
