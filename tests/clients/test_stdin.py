"""Questions of a running cell to the person at the client."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.conversation import Conversation


def test_an_answer_reaches_the_cell_that_asked(kernel: Conversation) -> None:
    request = kernel.client.execute("name = input('Name? ')\nprint('Hello', name)", allow_stdin=True)
    assert kernel.asked(request) == {"prompt": "Name? ", "password": False}
    kernel.answer("Ada")
    (exchange,) = kernel.finish(request)
    assert exchange.text() == "Hello Ada\n"


def test_an_answer_that_names_no_question_is_accepted(kernel: Conversation) -> None:
    """Clients by jupyter_client, like the console, do not say what they answer."""
    request = kernel.client.execute("input('Name? ')", allow_stdin=True)
    kernel.asked(request)
    kernel.client.input("Ada")
    (exchange,) = kernel.finish(request)
    assert exchange.result == "'Ada'"


def test_a_password_is_asked_for_as_one(kernel: Conversation) -> None:
    request = kernel.client.execute("import getpass\nsecret = getpass.getpass('PIN: ')", allow_stdin=True)
    assert kernel.asked(request) == {"prompt": "PIN: ", "password": True}
    kernel.answer("1234")
    (exchange,) = kernel.finish(request)
    assert exchange.kinds == ["execute_input"]
    assert kernel.run("secret").result == "'1234'"


def test_output_before_a_question_arrives_before_the_question(kernel: Conversation) -> None:
    request = kernel.client.execute("print('think of a number', end='')\ninput()", allow_stdin=True)
    kernel.asked(request)
    kernel.listen_until(lambda: kernel.exchange(request).text() == "think of a number", "the text")
    kernel.answer("3")
    (exchange,) = kernel.finish(request)
    assert exchange.result == "'3'"


def test_questions_of_one_cell_are_asked_one_after_the_other(kernel: Conversation) -> None:
    request = kernel.client.execute("[input(f'{n}? ') for n in range(3)]", allow_stdin=True)
    for n in range(3):
        assert kernel.asked(request, n + 1)["prompt"] == f"{n}? "
        kernel.answer(f"answer {n}")
    (exchange,) = kernel.finish(request)
    assert exchange.result == "['answer 0', 'answer 1', 'answer 2']"


def test_an_empty_answer_is_an_answer(kernel: Conversation) -> None:
    request = kernel.client.execute("input()", allow_stdin=True)
    kernel.asked(request)
    kernel.answer("")
    (exchange,) = kernel.finish(request)
    assert exchange.result == "''"


def test_input_fails_if_the_client_accepts_no_questions(kernel: Conversation) -> None:
    for code in ("input('Name? ')", "import getpass; getpass.getpass()"):
        exchange = kernel.run(code, allow_stdin=False)
        assert exchange.reply["ename"] == "StdinNotImplementedError"
        assert not [one for one in exchange.heard if one.channel == "stdin"]
    assert kernel.run("1 + 1").result == "2"


def test_pdb_asks_below_the_cell(kernel: Conversation) -> None:
    """`breakpoint()`, `pdb.set_trace()`, `%debug` after an error, `%debug STATEMENT` and `%pdb on`."""
    two = "def two(a):\n    b = a + 1\n    {}\n    return b\ntwo(1)"
    sessions = [
        (two.format("breakpoint()"), ["p b * 21", "c"], "42"),
        (two.format("import pdb; pdb.set_trace()"), ["p a * 42", "c"], "42"),
        ("def fails(a):\n    return a / 0\nfails(6)", [], ""),
        ("%debug", ["p a * 7", "u", "q"], "42"),
        ("%debug two(41)", ["s", "s", "p a + 1", "q"], "42"),
        ("%pdb on", [], ""),
        ("fails(6)", ["p a * 7", "q"], "42"),
        ("%pdb off", [], ""),
    ]
    for code, answers, shown in sessions:
        request = kernel.client.execute(code, allow_stdin=True)
        for n, answer in enumerate(answers, 1):
            assert kernel.asked(request, n)["prompt"].lower() in {"(pdb) ", "ipdb> "}
            kernel.answer(answer)
        (exchange,) = kernel.finish(request)
        assert shown in exchange.text(), code
    assert kernel.run("6 * 7").result == "42"
