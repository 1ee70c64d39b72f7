"use strict";
// The window that the Authorize button opened comes back here with the answer, and hands it to the page that opened it.
(() => {
  const waiting = window.opener?.swaggerUIRedirectOauth2;
  if (!waiting) return;
  const { auth, state, callback, errCb, redirectUrl } = waiting;
  const answer = new URLSearchParams(location.search);
  const say = (level, message) => errCb({ authId: auth.name, source: "auth", level, message });
  if (answer.get("state") !== state) {
    say("error", "The answer is not to this page's question: nothing was believed. Try again.");
  } else if (answer.has("code")) {
    delete waiting.state;
    auth.code = answer.get("code");
    callback({ auth, redirectUrl });
  } else {
    say("error", `${answer.get("error")}: ${answer.get("error_description") ?? ""}`);
  }
  window.close();
})();
