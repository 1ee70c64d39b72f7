"use strict";
(() => {
  // Swagger UI enables its dark colours by a class: follow the system as the other pages do.
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
  dark.addEventListener("change", follow);
  follow();

  window.ui = SwaggerUIBundle({
    url: "/openapi.json",
    dom_id: "#swagger-ui",
    deepLinking: true,
    // Would keep administrators' tokens in localStorage.
    persistAuthorization: false,
    tryItOutEnabled: true,
    displayRequestDuration: true,
    validatorUrl: null,
    oauth2RedirectUrl: `${location.origin}/docs/oauth2-redirect`,
  });
  window.ui.initOAuth({
    clientId: "propusk-docs",
    scopes: "openid profile email",
    usePkceWithAuthorizationCodeGrant: true,
  });
})();
