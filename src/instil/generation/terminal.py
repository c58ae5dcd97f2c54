"""The loop of `instil chat`: reads lines, runs commands, prints answers while they are generated."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import chain

from instil.conversation import Message
from instil.encoding.token_origins import TokenOrigin
from instil.errors import GenerationError, InstilError, nearest
from instil.files import home_path
from instil.generation.choosing import new_seed
from instil.generation.engine import Answer, text_of
from instil.generation.session import Session, change_setting
from instil.generation.typed_lines import BOLD, DIM, OPENING, PLAIN, TypedLines

HELP = """\
/system TEXT     set the system text (without TEXT: show it; /system none: remove it)
/undo            remove the last question and its answer
/retry           answer the last question again
/edit TEXT       replace the last question by TEXT and answer it
/begin TEXT      begin the next answer with TEXT (without TEXT: begin with nothing)
/continue        continue the last answer, for example after it was cut
/tool TEXT       give the result of the tool call
/reasoning       show the reasoning before the last answer
/save FILE       append this conversation to FILE as a training row (default: conversations.jsonl)
/settings        show the sampling settings; /settings NAME VALUE changes one
/tokens          show the conversation's tokens, coloured by what training would use; /tokens ids lists their ids
/reset           start a new conversation
/exit            leave (so does Ctrl-D); Ctrl-C stops an answer
A line that ends with \\ continues in the next one."""


class Terminal:
    """Talks to one model, or to two side by side.

    Args:
        sessions: One per model; commands act on all of them.
        lines: What is typed.
    """

    def __init__(self, sessions: Sequence[Session], lines: TypedLines) -> None:
        self.sessions = list(sessions)
        self._lines, self._keyboard, self._coloured = lines, lines.keyboard, lines.coloured
        self._commands: Mapping[str, Callable[[str], None]] = {
            "system": self._system,
            "undo": self._undo,
            "retry": self._retry,
            "edit": self._edit,
            "begin": self._begin,
            "continue": self._continue,
            "tool": self._tool,
            "reasoning": self._reasoning,
            "save": self._save,
            "settings": self._settings,
            "tokens": self._tokens,
            "reset": self._reset,
            "help": lambda _: print(HELP),
        }

    def run(self, first: str | None = None) -> None:
        """Read and answer until /exit or the end of the input.

        Args:
            first: A line that was typed already, while the model was loaded. The opening has been shown then.
        """
        if self._keyboard and first is None:
            self._note(OPENING)
        for session in self.sessions:
            if session.engine.chat is None:
                print(f"{session.engine.name} has no chat template: it continues plain text up to the first line break")
        for line in chain([] if first is None else [first], self._lines):
            try:
                self._handle(line)
            except InstilError as error:
                print(f"error: {error}")

    def _handle(self, line: str) -> None:
        """Do what a line says. A line that fails changes nothing."""
        kept = [replace(session, turns=list(session.turns)) for session in self.sessions]
        try:
            self._do(line)
        except InstilError:
            for session, before in zip(self.sessions, kept, strict=True):
                session.turns[:], session.begun, session.last = before.turns, before.begun, before.last
                session.settings, session.system = before.settings, before.system
            raise

    def _do(self, line: str) -> None:
        if not line.startswith("/"):
            self._ask(Message("user", line))
            return
        name, _, rest = line[1:].partition(" ")
        command = self._commands.get(name)
        if command is None:
            raise GenerationError(f"/{name}: no such command{nearest(name, self._commands)}. Type /help for a list.")
        command(rest.strip())

    def _ask(self, message: Message) -> None:
        for session in self.sessions:
            session.turns.append(message)
        self._answer()

    def _answer(self) -> None:
        seed = self.sessions[0].settings.seed
        seed = new_seed() if seed is None else seed
        answers = self._answers(seed)
        if any(answer is None for answer in answers):
            for session in self.sessions:
                session.undo()
                session.begun = ""
            print("\n(stopped; question and answer are removed)")
            return
        complete = [answer for answer in answers if answer is not None]
        for session, answer in zip(self.sessions, complete, strict=True):
            session.keep(answer)

    def _answers(self, seed: int) -> list[Answer | None]:
        """Let each model answer with the same seed, one after the other; two models on a terminal answer in columns."""
        names = [session.engine.name for session in self.sessions]
        answers: list[Answer | None] = []
        if self._coloured and len(names) > 1:
            # Why: rich is needed for columns only, and takes time to import.
            from instil.generation.columns import Columns

            with Columns(names) as columns:
                for number, session in enumerate(self.sessions):
                    answers.append(self._answer_one(session, seed, partial(columns.write, number)))
            for name, answer in zip(names, answers, strict=True):
                self._afterword(answer, f"{name}: ")
            return answers
        for name, session in zip(names, self.sessions, strict=True):
            head = f"{BOLD}{name}{PLAIN}  " if self._coloured else f"[{name}] "
            print(head if self._coloured or len(names) > 1 else "", end="", flush=True)
            answers.append(self._answer_one(session, seed, _print))
            print()
            self._afterword(answers[-1])
        return answers

    def _answer_one(self, session: Session, seed: int, show: Callable[[str], None]) -> Answer | None:
        """Answer and show the pieces; return None if Ctrl-C stopped it."""
        kept = session.settings
        session.settings = replace(kept, seed=seed)
        try:
            stream = session.stream()
            for delta in stream.deltas():
                show(delta.content)
            return stream.answer
        except KeyboardInterrupt:
            return None
        finally:
            session.settings = kept

    def _afterword(self, answer: Answer | None, head: str = "") -> None:
        if answer is None:
            return
        if answer.message.reasoning:
            self._note(f"{head}({len(answer.message.reasoning.split())} words of reasoning; /reasoning shows them)")
        for call in answer.message.tool_calls:
            arguments = call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments)
            self._note(f"{head}(calls {call.name} {arguments}; /tool TEXT sends the result)")
        if answer.generated.finish_reason == "length":
            self._note(f"{head}(cut at {answer.generated.num_tokens} tokens; /settings max_new_tokens changes that)")

    def _note(self, text: str) -> None:
        self._lines.note(text)

    def _system(self, text: str) -> None:
        if not text:
            print(self.sessions[0].system or "(no system text)")
            return
        for session in self.sessions:
            session.system = None if text == "none" else text

    def _undo(self, _: str) -> None:
        undone = [session.undo() for session in self.sessions]
        if None in undone:
            raise GenerationError("/undo: there is no question yet. Type one.")

    def _retry(self, _: str) -> None:
        for session in self.sessions:
            session.forget_answer()
            if session.settings.seed is not None:
                session.settings = replace(session.settings, seed=session.settings.seed + 1)
        self._answer()

    def _edit(self, text: str) -> None:
        questions = [session.undo() for session in self.sessions]
        if questions[0] is None:
            raise GenerationError("/edit: there is no question yet. Type one.")
        if not text and self._keyboard:
            import readline

            readline.set_startup_hook(lambda: readline.insert_text(text_of(questions[0])))  # type: ignore[arg-type]
            try:
                text = self._lines.ask("edit ") or ""
            finally:
                readline.set_startup_hook()
        if not text:
            raise GenerationError("/edit: there is no new question. Type: /edit TEXT.")
        self._ask(Message("user", text))

    def _begin(self, text: str) -> None:
        for session in self.sessions:
            session.begun = text

    def _continue(self, _: str) -> None:
        for session in self.sessions:
            session.begin_with_last_answer()
        self._answer()

    def _tool(self, text: str) -> None:
        last = self.sessions[0].last
        if last is None or not last.message.tool_calls:
            raise GenerationError(
                "/tool: the model has not called a tool. Start the chat with --tools and ask for one."
            )
        call = last.message.tool_calls[0]
        self._ask(Message("tool", text, name=call.name, tool_call_id=call.id))

    def _reasoning(self, _: str) -> None:
        for session in self.sessions:
            reasoning = session.last.message.reasoning if session.last else None
            print(reasoning or "(no reasoning)")

    def _save(self, text: str) -> None:
        path = home_path(text or "conversations.jsonl")
        for session in self.sessions:
            session.save(path)
        print(f"(appended to {path})")

    def _settings(self, text: str) -> None:
        if not text:
            for name, value in asdict(self.sessions[0].settings).items():
                if name != "num_answers":
                    print(f"{name} {' '.join(value) if isinstance(value, tuple) else value}")
            return
        for session in self.sessions:
            session.settings = change_setting(session.settings, text.split())

    def _tokens(self, text: str) -> None:
        if text not in ("", "ids"):
            raise GenerationError(f"/tokens: found {text!r}. Expected nothing, or ids. Type /tokens or /tokens ids.")
        for session in self.sessions:
            examples = session.tokens()
            if len(self.sessions) > 1:
                print(f"{BOLD}{session.engine.name}{PLAIN}" if self._coloured else f"[{session.engine.name}]")
            for example in examples:
                self._show_ids(example.tokens) if text else self._show_tokens(example.tokens)

    def _show_tokens(self, tokens: Sequence[TokenOrigin]) -> None:
        """Print tokens as `instil inspect --row` does."""
        # Why: rich is needed for colours only, and takes time to import.
        from rich.console import Console

        from instil.views.colours import LEGEND, coloured_tokens

        console = Console(highlight=False, force_terminal=self._coloured, no_color=not self._coloured)
        console.print(LEGEND, style="dim", markup=False, soft_wrap=not self._coloured)
        console.print(coloured_tokens(tokens), soft_wrap=not self._coloured)
        self._note(f"({len(tokens)} tokens, {sum(token.weight > 0 for token in tokens)} trained)")

    def _show_ids(self, tokens: Sequence[TokenOrigin]) -> None:
        for token in tokens:
            line = f"{token.id:>7}  {token.text!r:<24} {'trained' if token.weight else ''}".rstrip()
            print(line if token.weight or not self._coloured else f"{DIM}{line}{PLAIN}")

    def _reset(self, _: str) -> None:
        for session in self.sessions:
            session.reset()


def _print(piece: str) -> None:
    print(piece, end="", flush=True)
