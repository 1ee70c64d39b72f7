"use strict";
for (const button of document.querySelectorAll("button[data-reveals]")) {
  const field = document.getElementById(button.dataset.reveals);
  const show = (shown) => {
    field.type = shown ? "text" : "password";
    button.setAttribute("aria-pressed", String(shown));
  };
  button.addEventListener("click", () => show(field.type === "password"));
  let sent = -Infinity;
  field.form.addEventListener("submit", (event) => {
    // The second press of a double click would submit twice, and registration would fail.
    if (event.timeStamp - sent < 2000) return event.preventDefault();
    sent = event.timeStamp;
    // Browsers save passwords from fields of type password only.
    show(false);
  });
  button.hidden = false;
}
