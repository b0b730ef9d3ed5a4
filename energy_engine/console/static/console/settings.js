// The form for settings of many devices: ticks a setting as soon as it is edited.
"use strict";

for (const row of document.querySelectorAll(".console-setting")) {
  const tick = row.querySelector(".console-setting-tick input");
  row.addEventListener("input", (event) => {
    if (event.target !== tick) tick.checked = true;
  });
}
