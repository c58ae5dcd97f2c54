"""The pages, one module each: routes, thin, and pure view functions from records to a template's context."""
