// The device page: draws the charts of a newly loaded range, opens dialogs before links change.
"use strict";

document.addEventListener("htmx:load", (event) => {
  if (event.detail.elt !== document.body) Console.draw(event.detail.elt);
});

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-opens]");
  if (opener) document.getElementById(opener.dataset.opens).showModal();
  event.target.closest("[data-closes]")?.closest("dialog").close();
});

// If loading a range in place fails, load the whole page that its link leads to.
document.addEventListener("htmx:sendError", (event) => fallBack(event.detail.elt));
document.addEventListener("htmx:responseError", (event) => fallBack(event.detail.elt));

const fallBack = (element) => {
  if (element.href) {
    window.location.href = element.href;
    return;
  }
  const place = element.querySelector("[role=alert], .device-why-body");
  if (place) place.textContent = "The request failed. Reload the page and try again.";
};

// select2's replacement for the list of meters has no accessible name. jQuery creates it first.
django.jQuery(() => {
  document.querySelectorAll(".device-form .select2-selection__rendered").forEach((chosen) => {
    chosen.setAttribute("aria-label", chosen.closest("p").querySelector("label").textContent);
  });
});
