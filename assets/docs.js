"use strict";
(() => {
  // Swagger UI enables its dark colours by a class: follow the system as the other pages do.
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
  dark.addEventListener("change", follow);
  follow();

  // The dialog lists the schemes in the order of the document, whose keys are sorted.
  const recommendedSchemeFirst = () => ({
    statePlugins: {
      spec: {
        wrapActions: {
          updateJsonSpec: (update) => (document) => {
            const schemes = document?.components?.securitySchemes;
            if (!schemes) return update(document);
            const { oauth2, ...others } = schemes;
            const components = { ...document.components, securitySchemes: { oauth2, ...others } };
            return update({ ...document, components });
          },
        },
      },
    },
  });
  // It focuses the last field that can be typed into.
  document.addEventListener("click", (event) => {
    if (!event.target.closest(".scheme-container .btn.authorize")) return;
    requestAnimationFrame(() => document.querySelector(".dialog-ux .btn.authorize")?.focus());
  });

  // What is deprecated comes last; a resource is read before it is deleted.
  const methods = ["get", "post", "put", "patch", "delete"];
  const rank = (operation) => [
    operation.getIn(["operation", "deprecated"]) ? 1 : 0,
    operation.get("path"),
    methods.indexOf(operation.get("method")),
  ];
  const byUse = (one, other) => {
    const [left, right] = [rank(one), rank(other)];
    const at = left.findIndex((part, n) => part !== right[n]);
    return at < 0 ? 0 : left[at] < right[at] ? -1 : 1;
  };

  window.ui = SwaggerUIBundle({
    url: "/openapi.json",
    dom_id: "#swagger-ui",
    plugins: [recommendedSchemeFirst],
    deepLinking: true,
    docExpansion: "none",
    filter: true,
    operationsSorter: byUse,
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
