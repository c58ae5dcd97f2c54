"""The chat: a run, two runs, or a run and its base side by side; what they see, and rows made of what they say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response

from instil.studio.catalogue import worded
from instil.studio.chat import client
from instil.studio.chat.answering import Answers, answers_of, follow, is_lost, start_answers, stop_answers, with_lost
from instil.studio.chat.engines import engine_of, find_job, mark_used
from instil.studio.chat.messages import message_of, preference_pair, tokens_body, training_row
from instil.studio.chat.models import BASE, ServedModel, read_model, talking_runs, template_of
from instil.studio.chat.records import Chat, Exchange, Reply
from instil.studio.chat.rows import append_row
from instil.studio.chat.settings_form import ReadSettings, fields_of, read_settings, variable_names
from instil.studio.chat.storage import change_chat, list_chats, new_chat, read_chat, remove_chat
from instil.studio.chat.token_view import token_blocks
from instil.studio.chat.variables import template_variables
from instil.studio.events import event, stream
from instil.studio.jobs.engine_key import engine_key
from instil.studio.problems import PageProblem
from instil.studio.rendering import back_to, language_of, page
from instil.studio.studio import Studio, studio_of
from instil.studio.workspace import contents

ROWS_FILE, PAIRS_FILE = "chat-rows.jsonl", "chat-pairs.jsonl"
"""Where rows and pairs go unless another file is named."""
LONGEST_QUESTION = 400_000
"""Characters; the server of a model takes no more either."""
router = APIRouter()
Text = Annotated[str, Form()]
Place = Annotated[int, Form(ge=0)]


def chats_view(runs: Sequence[str], chats: Sequence[Chat], chosen: Sequence[str]) -> dict[str, Any]:
    """Return what the list of chats shows.

    Args:
        runs: The runs that have a model.
        chats: The latest chats.
        chosen: The models that the address names.
    """
    names = [name for run in runs for name in (run, BASE + run)]
    return {"models": names, "chats": chats, "chosen": [*chosen, "", ""][:2]}


def chat_view(chat: Chat, *, fields: Mapping[str, str], known: Sequence[str]) -> dict[str, Any]:
    """Return what a chat shows.

    Args:
        chat: The chat.
        fields: What its settings' fields hold.
        known: Variables of the models' templates.
    """
    last = len(chat.exchanges) - 1
    return {
        "chat": chat,
        "fields": fields,
        "variables": variable_names(known, chat.settings),
        "last": last,
        "wants_results": last >= 0 and any(reply.calls for reply in _histories(chat.exchanges[last])),
        "set_names": [
            name
            for name, text in fields.items()
            if text and name not in ("system", "tools") and ":" not in name and not name.startswith("added_")
        ],
        "rows_file": ROWS_FILE,
        "pairs_file": PAIRS_FILE,
    }


def _histories(exchange: Exchange) -> list[Reply]:
    """Return the answer that each side goes on from."""
    if exchange.better is None:
        return list(exchange.replies)
    return [exchange.replies[exchange.better]] * len(exchange.replies)


def engine_states(studio: Studio, models: Sequence[ServedModel | None]) -> list[str]:
    """Return the state of each model's server, as the last part of a key."""
    states = []
    for model in models:
        job = None if model is None else find_job(studio, model)
        if job is None or job.state == "queued":
            states.append("off" if job is None else "queued")
        else:  # it listens when the model is loaded
            states.append("loading" if engine_of(studio, job.number).port is None else "on")
    return states


@router.get("/chat")
def chats(request: Request, model: str = "", other: str = "") -> Response:
    """Show the chats, and the choice of models for a new one."""
    studio = studio_of(request)
    return page(request, "chats.html.jinja", _chats_context(studio, [model, other]))


def _chats_context(studio: Studio, chosen: Sequence[str]) -> dict[str, Any]:
    runs = talking_runs(studio, [run.path for run in contents(studio.root).runs])
    return chats_view(runs, list_chats(studio.root), chosen) | {"problem": None}


@router.post("/chat")
def begin(request: Request, model: Text, other: Text = "") -> Response:
    """Begin a chat with one or two models."""
    studio = studio_of(request)
    try:
        models = tuple(read_model(studio, name).name for name in (model, other) if name)
        if len(set(models)) < len(models):
            raise PageProblem(422, "chat.same_models")
    except PageProblem as problem:
        context = _chats_context(studio, [model, other]) | {"problem": problem}
        return page(request, "chats.html.jinja", context, status=problem.status)
    return back_to(f"/chat/{new_chat(studio.root, models).identity}")


@router.get("/chat/{identity}")
def chat(request: Request, identity: str) -> Response:
    """Show a chat."""
    studio = studio_of(request)
    found = read_chat(studio.root, identity)
    if is_lost(found, answers_of(request)):
        found = change_chat(studio.root, identity, lambda now: with_lost(now) if now.is_live else now)
    return _chat_page(request, found)


def _chat_page(
    request: Request,
    chat: Chat,
    *,
    read: ReadSettings | None = None,
    problem: PageProblem | None = None,
    question: str = "",
    status: int = 200,
) -> Response:
    studio = studio_of(request)
    models, gone = _models(studio, chat)
    templates = [template_of(studio.root / model.run) for model in models if model is not None]
    known = list(dict.fromkeys(name for path in templates for name in template_variables(path)))
    fields = fields_of(chat.settings) if read is None else {**fields_of(chat.settings), **read.fields}
    context = chat_view(chat, fields=fields, known=known) | {
        "problem": problem,
        "problems": {} if read is None else read.problems,
        "question": question,
        "engines": engine_states(studio, models),
        "gone": gone,
    }
    return page(request, "chat.html.jinja", context, status=status)


def _models(studio: Studio, chat: Chat) -> tuple[list[ServedModel | None], list[PageProblem | None]]:
    """Return each model of a chat, or what is wrong with it."""
    models: list[ServedModel | None] = []
    problems: list[PageProblem | None] = []
    for name in chat.models:
        try:
            models.append(read_model(studio, name))
            problems.append(None)
        except PageProblem as problem:
            models.append(None)
            problems.append(problem)
    return models, problems


Change = Callable[[Chat], Chat]


async def _changed(request: Request, identity: str, change: Change, *, answer: bool, question: str = "") -> Response:
    """Change a chat by a form, and let the models answer.

    Args:
        request: The request, with the settings if its form has them.
        identity: The chat.
        change: The change.
        answer: Whether the last exchange is answered then.
        question: What is typed again where something is wrong.
    """
    studio, answers = studio_of(request), answers_of(request)
    before = read_chat(studio.root, identity)
    form = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
    read = read_settings(form) if "has_settings" in form else None
    try:
        if identity in answers:
            raise PageProblem(409, "chat.is_answering")
        if read is not None and read.problems:
            raise PageProblem(422, "chat.wrong_settings")
        models = [read_model(studio, name) for name in before.models] if answer else []

        def changed(now: Chat) -> Chat:
            return change(now if read is None else replace(now, settings=read.settings))

        after = change_chat(studio.root, identity, changed)
    except PageProblem as problem:
        return _chat_page(request, before, read=read, problem=problem, question=question, status=problem.status)
    if answer:
        start_answers(studio, answers, after, models)
    return back_to(f"/chat/{identity}")


@router.post("/chat/{identity}/ask")
async def ask(request: Request, identity: str, question: Text = "") -> Response:
    """Ask the models a question."""
    text = question.replace("\r\n", "\n")

    def change(chat: Chat) -> Chat:
        return chat.with_exchanges((*chat.exchanges, _question(chat, text)))

    return await _changed(request, identity, change, answer=True, question=text)


def _question(chat: Chat, text: str) -> Exchange:
    if not text.strip():
        raise PageProblem(422, "chat.empty_question")
    if len(text) > LONGEST_QUESTION:
        raise PageProblem(422, "chat.too_long", most=LONGEST_QUESTION)
    if chat.exchanges and not all(reply.is_answer for reply in _histories(chat.exchanges[-1])):
        raise PageProblem(422, "chat.no_history")
    return Exchange(question=text, replies=tuple(Reply() for _ in chat.models))


@router.post("/chat/{identity}/settings")
async def settings(request: Request, identity: str) -> Response:
    """Keep the settings."""
    return await _changed(request, identity, lambda chat: chat, answer=False)


@router.post("/chat/{identity}/results")
async def results(request: Request, identity: str) -> Response:
    """Give the models what the tools returned, and let them go on."""
    form = await request.form()

    def change(chat: Chat) -> Chat:
        if not chat.exchanges:
            raise PageProblem(422, "chat.no_calls")
        replies = _histories(chat.exchanges[-1])
        texts = tuple(
            tuple(str(form.get(f"result-{side}-{number}", "")) for number in range(len(reply.calls)))
            for side, reply in enumerate(replies)
        )
        if not any(texts):
            raise PageProblem(422, "chat.no_calls")
        waiting = tuple(Reply(state="waits" if one else "none") for one in texts)
        return chat.with_exchanges((*chat.exchanges, Exchange(results=texts, replies=waiting)))

    return await _changed(request, identity, change, answer=True)


@router.post("/chat/{identity}/retry")
async def retry(request: Request, identity: str) -> Response:
    """Let the models answer the last question again."""

    def change(chat: Chat) -> Chat:
        if not chat.exchanges:
            raise PageProblem(422, "chat.no_answer")
        last = chat.exchanges[-1]
        replies = tuple(reply if reply.state == "none" else Reply() for reply in last.replies)
        return chat.with_exchanges((*chat.exchanges[:-1], replace(last, replies=replies, better=None, pair="")))

    return await _changed(request, identity, change, answer=True)


@router.post("/chat/{identity}/edit-question")
async def edit_question(request: Request, identity: str, number: Place, text: Text = "") -> Response:
    """Ask another question in place of one; what followed it goes, and undo brings it back."""

    def change(chat: Chat) -> Chat:
        _exchange(chat, number)
        kept = replace(chat, exchanges=chat.exchanges[:number])
        return chat.with_exchanges((*kept.exchanges, _question(kept, text.replace("\r\n", "\n"))))

    return await _changed(request, identity, change, answer=True)


@router.post("/chat/{identity}/edit-answer")
async def edit_answer(request: Request, identity: str, number: Place, side: Place, text: Text = "") -> Response:
    """Correct an answer; the next ones go on from it."""

    def change(chat: Chat) -> Chat:
        reply = _reply(chat, number, side)
        edited = Reply(
            state="done", text=text.replace("\r\n", "\n"), reasoning=reply.reasoning, calls=reply.calls, is_edited=True
        )
        return replace(chat.with_exchanges(chat.exchanges)).with_reply(number, side, edited)

    return await _changed(request, identity, change, answer=False)


@router.post("/chat/{identity}/undo")
async def undo(request: Request, identity: str) -> Response:
    """Go back to how the chat was before its last change."""
    return await _changed(request, identity, Chat.undone, answer=False)


@router.post("/chat/{identity}/stop")
async def stop(request: Request, identity: str) -> Response:
    """Stop the answers; what they have is kept."""
    await stop_answers(answers_of(request), identity)
    return back_to(f"/chat/{identity}")


@router.post("/chat/{identity}/remove")
async def remove(request: Request, identity: str) -> Response:
    """Remove a chat."""
    await stop_answers(answers_of(request), identity)
    remove_chat(studio_of(request).root, identity)
    return back_to("/chat")


@router.post("/chat/{identity}/row")
async def row(request: Request, identity: str, number: Place, side: Place, file: Text = ROWS_FILE) -> Response:
    """Append the conversation up to an answer to a file, as a row to train on."""
    studio = studio_of(request)

    def change(chat: Chat) -> Chat:
        reply = _reply(chat, number, side)
        append_row(studio.path(file), training_row(chat, side, number), shown=file)
        return chat.with_reply(number, side, replace(reply, saved=file))

    return await _changed(request, identity, change, answer=False)


@router.post("/chat/{identity}/better")
async def better(request: Request, identity: str, side: Place, file: Text = PAIRS_FILE) -> Response:
    """Choose the better of the last two answers: a preference pair, and the history of both models from here on."""
    studio = studio_of(request)

    def change(chat: Chat) -> Chat:
        number = len(chat.exchanges) - 1
        if len(chat.models) != 2 or number < 0:
            raise PageProblem(422, "chat.no_answer")
        _reply(chat, number, side)
        append_row(studio.path(file), preference_pair(chat, number, side), shown=file)
        exchange = replace(chat.exchanges[number], better=side, pair=file)
        return chat.with_exchanges(chat.exchanges).with_exchange(number, exchange)

    return await _changed(request, identity, change, answer=False)


def _exchange(chat: Chat, number: int) -> Exchange:
    if number >= len(chat.exchanges):
        raise PageProblem(422, "chat.no_answer")
    return chat.exchanges[number]


def _reply(chat: Chat, number: int, side: int) -> Reply:
    exchange = _exchange(chat, number)
    if side >= len(exchange.replies):
        raise PageProblem(422, "chat.no_answer")
    return exchange.replies[side]


@router.get("/chat/{identity}/stream")
async def follow_answers(request: Request, identity: str) -> Response:
    """Stream the answers that are being written; without any, their end."""
    studio, answers = studio_of(request), answers_of(request)
    read_chat(studio.root, identity)
    live = answers.get(identity)
    if live is None:
        return Response(event("done", None), media_type="text/event-stream")
    language = language_of(request)
    notes = {name: worded(language, f"chat.note_{name}") for name in ("starting", "waiting", "loading")}
    return stream(request, follow(live, notes=notes))


@router.get("/chat/{identity}/tokens")
async def tokens(request: Request, identity: str, number: int, side: int, row: bool = False) -> Response:
    """Show the tokens of an answer and its prompt: as the model saw them, or as a row with the weights of training."""
    studio, answers = studio_of(request), answers_of(request)
    chat = read_chat(studio.root, identity)
    reply = _reply(chat, max(0, number), max(0, side))
    model = read_model(studio, chat.models[side])
    context: dict[str, Any] = {"chat": chat, "number": number, "side": side, "row": row, "parts": [], "problem": None}
    try:
        context |= await _token_parts(studio, answers, chat, number, side, reply, model, row=row)
    except client.EngineError as error:
        context["problem"] = str(error) or worded(language_of(request), "chat.not_served")
    return page(request, "chat_tokens.html.jinja", context)


async def _token_parts(
    studio: Studio, answers: Answers, chat: Chat, number: int, side: int, reply: Reply, model: ServedModel, *, row: bool
) -> dict[str, Any]:
    job = find_job(studio, model)
    engine = None if job is None else engine_of(studio, job.number)
    if job is None or engine is None or engine.port is None:
        raise client.EngineError(0)
    body = tokens_body(chat, side, number, model=model.served_name)
    if row:
        body |= {"messages": [*body["messages"], message_of(reply)], "as_row": True}
    else:
        body["token_ids"] = list(reply.token_ids)
    answer = await client.ask(engine.port, engine_key(studio.root), "/instil/tokens", body)
    mark_used(studio, job.number)
    examples = answer["examples"] if row else [answer]
    total = sum(len(example["tokens"]) for example in examples)
    trained = sum(1 for example in examples for token in example["tokens"] if token["origin"] == "generated")
    return {"parts": [token_blocks(example) for example in examples], "total": total, "trained": trained}
