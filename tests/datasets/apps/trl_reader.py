"""Reads preference pairs as TRL's trainers do, and prints what they train on. Run where `trl` is, by `test_trl.py`."""

import json
import sys

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from trl.data_utils import maybe_apply_chat_template, maybe_extract_prompt

from datasets import Dataset

TEMPLATE = """\
{%- if tools %}<|tools|>{% for tool in tools %}{{ tool.function.name }}:{{ tool.function.parameters | tojson }};\
{% endfor %}<|end|>{% endif %}
{%- for message in messages %}<|{{ message.role }}|>
{%- if message.role == 'tool' %}{{ message.name }}={% endif %}{{ message.content }}
{%- for call in message.tool_calls or [] %}<|call|>{{ call.function.name }}({{ call.function.arguments | tojson }})
{%- endfor %}<|end|>
{%- endfor %}
{%- if add_generation_prompt %}<|assistant|>{% endif %}"""


def main(path: str) -> None:
    """Print prompt, chosen and rejected of each pair of the file as one JSON line, after `RESULT `."""
    words = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", chat_template=TEMPLATE)
    for pair in Dataset.from_json(path):
        tools = pair.pop("tools", None)
        made = maybe_apply_chat_template(maybe_extract_prompt(pair), tokenizer, tools=tools)
        print("RESULT " + json.dumps(made))


if __name__ == "__main__":
    main(sys.argv[1])
