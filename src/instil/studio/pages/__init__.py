"""The pages, one module each: routes, thin, and pure view functions from records to a template's context."""

from instil.studio.pages import chat, data, home, jobs, language, recipe, run, runs, ship

ROUTERS = (
    home.router,
    data.router,
    recipe.router,
    jobs.router,
    language.router,
    run.router,
    runs.router,
    chat.router,
    ship.router,
)
