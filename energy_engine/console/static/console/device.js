// The page of a device: draws the charts of a range that has come, asks before a link ends.
"use strict";

document.addEventListener("htmx:load", (event) => {
  if (event.detail.elt !== document.body) Console.draw(event.detail.elt);
});

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-opens]");
  if (opener) document.getElementById(opener.dataset.opens).showModal();
  event.target.closest("[data-closes]")?.closest("dialog").close();
});

// The page that a range link leads to has it all: where a part does not come, let it come whole.
document.addEventListener("htmx:sendError", (event) => fallBack(event.detail.elt));
document.addEventListener("htmx:responseError", (event) => fallBack(event.detail.elt));

const fallBack = (element) => {
  if (element.href) {
    window.location.href = element.href;
    return;
  }
  const place = element.querySelector("[role=alert], .device-why-body");
  if (place) place.textContent = "This did not work. Load the page again, and try once more.";
};

// What stands in for the list of meters has no name of its own. It is made by what jQuery runs first.
django.jQuery(() => {
  document.querySelectorAll(".device-form .select2-selection__rendered").forEach((chosen) => {
    chosen.setAttribute("aria-label", chosen.closest("p").querySelector("label").textContent);
  });
});
