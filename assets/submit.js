"use strict";
// Not form.submit(): a field may have that name.
HTMLFormElement.prototype.submit.call(document.querySelector("form"));
