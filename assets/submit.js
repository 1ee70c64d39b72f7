"use strict";
// Not form.submit(): a field may be named "submit".
HTMLFormElement.prototype.submit.call(document.querySelector("form"));
