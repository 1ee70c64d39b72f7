"use strict";
// The redirect URI of the window that the Authorize button opened: passes the authorization response
// to the page that opened it.
(() => {
  const request = window.opener?.swaggerUIRedirectOauth2;
  if (!request) return;
  const { auth, state, callback, errCb, redirectUrl } = request;
  const response = new URLSearchParams(location.search);
  const report = (level, message) => errCb({ authId: auth.name, source: "auth", level, message });
  if (response.get("state") !== state) {
    report("error", "The state parameter does not match, so the response was ignored. Try again.");
  } else if (response.has("code")) {
    delete request.state;
    auth.code = response.get("code");
    callback({ auth, redirectUrl });
  } else {
    report("error", `${response.get("error")}: ${response.get("error_description") ?? ""}`);
  }
  window.close();
})();
