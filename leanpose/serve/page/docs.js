// Where the files of Swagger UI are absent, the link in the page stays.
globalThis.SwaggerUIBundle?.({ url: "openapi.json", dom_id: "#docs", validatorUrl: null });
