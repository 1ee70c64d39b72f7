"use strict";
// Forms with a challenge: the browser's answer goes into a hidden field, and the form is sent.
const bytes = (text) =>
  Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const text = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer)))
    .replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
const decoded = (options) => ({
  ...options,
  challenge: bytes(options.challenge),
  ...(options.user && { user: { ...options.user, id: bytes(options.user.id) } }),
  ...Object.fromEntries(["allowCredentials", "excludeCredentials"].filter((name) => options[name])
    .map((name) => [name, options[name].map((one) => ({ ...one, id: bytes(one.id) }))])),
});
const encoded = (credential) => {
  const { response } = credential;
  const fields = ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"];
  const values = fields.filter((name) => response[name]).map((name) => [name, text(response[name])]);
  return JSON.stringify({
    id: credential.id,
    rawId: text(credential.rawId),
    type: credential.type,
    extensions: credential.getClientExtensionResults(),
    response: Object.fromEntries(values),
  });
};
for (const form of document.querySelectorAll("form[data-options]")) {
  const publicKey = decoded(JSON.parse(form.dataset.options));
  const { ceremony } = form.dataset;
  const failure = form.querySelector("[data-failure]");
  const waiting = new AbortController();
  let pending = Promise.resolve();
  const ask = async (more) => {
    const method = ceremony === "create" ? "create" : "get";
    const credential = await navigator.credentials[method]({ publicKey, ...more });
    form.elements.credential.value = encoded(credential);
    // The choice is made in the form of the code, for both.
    const { remember } = form.elements;
    if (remember) remember.disabled = !document.getElementById("remember").checked;
    form.submit();
  };
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    failure.hidden = true;
    waiting.abort();
    // Browsers have one request at a time.
    await pending;
    try {
      await ask({});
    } catch {
      failure.hidden = false;
    }
  });
  if (!window.PublicKeyCredential) continue;
  form.hidden = false;
  if (ceremony === "login") {
    pending = (async () => {
      if (!await PublicKeyCredential.isConditionalMediationAvailable?.()) return;
      await ask({ mediation: "conditional", signal: waiting.signal });
    })().catch(() => {});
  }
}
