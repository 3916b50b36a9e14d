// Starts the documentation page that it finds itself in: Swagger UI or Redoc. It is a file because the pages' security
// policy allows no script within them. What it is to show stands in the page: <div id="…" data-openapi="openapi.json">.
"use strict";

const page = document.querySelector("[data-openapi]");
const address = new URL(page.dataset.openapi, document.baseURI).href;

if (page.id === "swagger-ui") {
  SwaggerUIBundle({
    domNode: page,
    url: address,
    deepLinking: true,
    showExtensions: true,
    showCommonExtensions: true,
    validatorUrl: null, // it would send the address to swagger.io
  });
} else {
  const font = "system-ui, sans-serif";
  const code = "ui-monospace, monospace";
  Redoc.init(
    address,
    { theme: { typography: { fontFamily: font, headings: { fontFamily: font }, code: { fontFamily: code } } } },
    page,
  );
}
