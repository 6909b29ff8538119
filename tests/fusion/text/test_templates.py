"""The text of an example is its template's, or one sentence names what is not."""

import pytest

from fusion.text.messages import Example, Message
from fusion.text.templates import render, rendering
from tests.fusion.text import kinds
from tests.fusion.tiny import fallback_tokenizer

EACH = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"
ASKED = "{% if add_generation_prompt %}<assistant>{% endif %}"
# As Qwen3's: the reasoning of an answer is taken out of it, and written in a form.
THINKING = (
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}"
    "{% set text = m.content.split('</think>')[-1].lstrip('\n') %}"
    "{% set reason = m.content.split('</think>')[0].split('<think>')[-1] "
    "if '</think>' in m.content else '' %}"
    "<think>\n{{ reason.strip('\n') }}\n</think>\n\n{{ text }}"
    "{% else %}{{ m.content }}{% endif %}</>{% endfor %}" + ASKED
)
TOOLS = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}"
    "<{{ m.role }}{% if m.name %} {{ m.name }}{% endif %}>{{ m.content or '' }}"
    "{% for call in m.tool_calls or [] %}{{ call | tojson }}{% endfor %}</>"
    "{% endfor %}"
)
USER = Message("user", "sum")
CALLS = [{"name": "add", "arguments": {"a": 1}}, {"name": "neg"}]
CALLING = (
    USER,
    Message("assistant", None, {"tool_calls": CALLS}),
    Message("tool", "5", {"name": "add"}),
)
ADD, NEG = {"name": "add"}, {"name": "neg"}


class Templated:
    """A tokenizer that renders a template, and does nothing else."""

    def __init__(self, template):
        self._tokenizer = kinds.made("words")
        self.chat_template = template

    def apply_chat_template(self, turns, **options):
        return self._tokenizer.apply_chat_template(
            turns, chat_template=self.chat_template, **options
        )


def text_of(example, template):
    turns = [turn.as_dict() for turn in example.prompt]
    turns.append({"role": "assistant", "content": example.completion})
    tools = list(example.tools) or None
    return Templated(template).apply_chat_template(turns, tools=tools, tokenize=False)


@pytest.mark.parametrize(
    ("template", "example"),
    [
        (EACH, Example((USER,), " 5 \n")),
        (EACH, Example((Message("user", "[[completion]]"),), "[[[completion]]]")),
        (EACH, Example((USER,), "[[completion]]")),
        (EACH, Example((USER,), "</think> 5")),
        (THINKING, Example((USER,), "5")),
        (THINKING, Example((USER,), "<think>\nhm\n</think>\n\n5")),
        (TOOLS, Example(CALLING, "5", tools=(ADD, NEG))),
        (TOOLS.replace(" or ''", ""), Example(CALLING, "5")),
    ],
)
def test_the_text_is_what_the_template_makes_of_the_whole(template, example):
    head, tail = render(example, Templated(template))
    assert head + example.completion + tail == text_of(example, template)
    assert tail == "</>"


def test_reasoning_stands_behind_the_generation_prompt():
    reasoned = Example((USER,), "<think>\nhm\n</think>\n\n5")
    assert render(reasoned, Templated(THINKING))[0].endswith("<assistant>")
    plain = Example((USER,), "5")
    head = "<assistant><think>\n\n</think>\n\n"
    assert render(plain, Templated(THINKING))[0].endswith(head)


def test_calls_and_definitions_are_in_the_text():
    head, _ = render(Example(CALLING, "5", tools=(ADD,)), Templated(TOOLS))
    assert '[{"name": "add"}]<user>sum</>' in head
    assert '{"name": "add", "arguments": {"a": 1}}{"name": "neg"}' in head


@pytest.mark.parametrize(
    ("template", "example", "says"),
    [
        # 1. Fields and tools of which it makes nothing.
        (EACH, Example(CALLING, "5"), r"`tool_calls` of message 2 in"),
        (EACH, Example((USER,), "5", tools=(ADD,)), "definition 1 of `tools` in"),
        (
            TOOLS.replace("m.name", "m.none"),
            Example(CALLING, "5", row=3),
            "`name` of message 3 in row 3, but",
        ),
        (
            TOOLS.replace("m.tool_calls or []", "(m.tool_calls or [])[:1]"),
            Example(CALLING, "5"),
            "`tool_calls` of message 2",
        ),
        (
            TOOLS.replace("tools | tojson", "tools[0] | tojson"),
            Example((USER,), "5", tools=(ADD, NEG)),
            "definition 2 of `tools`",
        ),
        # 2. Answers that it changes.
        (
            EACH.replace("m.content", "m.content | trim"),
            Example((USER,), " \n", row=8),
            r"the answer as it is, but .* row 8, ' .n': use another",
        ),
        (
            THINKING.replace("split('<think>')", "split('<none>')"),
            Example((USER,), "<think>\nhm\n</think>\n\n5"),
            "the answer as it is, but .*: use another",
        ),
        (EACH.replace("</>", "</>{{ m.content }}"), Example((USER,), "5"), "2 times"),
        ("nothing", Example((USER,), "5"), "exactly once, but did so 0 times in"),
        # 3. Failures.
        ("{{ raise_exception('No sums') }}", Example((USER,), "5"), r"fails .*No sums"),
        ("{{ 1 + 'a' }}", Example((USER,), "5", row=4), r"row 4, but fails \(TypeErr"),
        ("{{", Example((USER,), "5"), "fails"),
    ],
)
def test_refuses_what_the_template_drops_or_changes(template, example, says):
    with pytest.raises(ValueError, match=rf"^chat template must .*{says}.*\.$"):
        render(example, Templated(template))


@pytest.mark.parametrize(
    ("change", "completion", "shown", "skipped"),
    [
        ("m.content | trim", "\n é ", "é", 2),
        ("m.content | trim", "é", "é", 0),
        ("m.content.rstrip()", " é ", " é", 0),
        ("m.content.lstrip()", "\u3000é ", "é ", 3),
        ("m.content", " é ", " é ", 0),
        ("m.content.lstrip('\\n')", "\n é ", " é ", 1),
        ("m.content.strip('é')", "éé", None, 0),
    ],
)
def test_white_space_that_a_template_strips_is_skipped(
    change, completion, shown, skipped
):
    template = EACH.replace("m.content", change)
    example = Example((USER,), completion)
    if shown is None:
        with pytest.raises(ValueError, match="must render the answer"):
            rendering(example, Templated(template))
        return
    found = rendering(example, Templated(template))
    assert found.completion == shown
    assert found.skipped == skipped
    turns = [USER.as_dict(), {"role": "assistant", "content": completion}]
    text = Templated(template).apply_chat_template(turns, tokenize=False)
    assert found.text == text


def test_plain_text_is_followed_by_the_end_token():
    tokenizer = fallback_tokenizer()
    assert render(Example(" a ", "b"), tokenizer) == (" a ", "</s>")
