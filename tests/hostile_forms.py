"""Hostile forms: texts of any length that make a careless parser look at the same bytes again and again.

    from tests.hostile_forms import FORMS
    FORMS["lines of opened arrays"](1_000_000)      a drop of about 1 MB

Each is a piece that is repeated, between a beginning and an end. tests/core/native/test_work.py counts what reading them takes.
"""

from __future__ import annotations

from collections.abc import Callable

ORDER = '{"order_id":"o_1","created_at":"2026-03-02","amount":1,"items":[{"sku":"p","qty":1,"price":2}]}'
HEAD = '{"order_id":"o_1","created_at":"2026-03-02",'


def repeated(piece: str, before: str = "", after: str = "") -> Callable[[int], bytes]:
    """A form: as many pieces as a text of so many bytes holds."""

    def make(size: int) -> bytes:
        return (before + piece * (size // len(piece.encode())) + after).encode("utf-8", "surrogatepass")

    return make


# Each line goes on in the next one: with white space skipped, a line is the beginning of a longer value.
_OPENED = {
    "arrays": '{"a":' + "[" * 40,
    "arrays one by one": '{"a":[',
    "arrays with values": '{"a":[{"b":"' + "c" * 40 + '"},',
    "objects": '{"a":{"b":',
    "colons": '{"a":',
    "keys": '{"a"',
    "commas": '{"a":1,',
    "items": HEAD + '"items":[',
    "items with values": HEAD + '"items":[{"sku":"p"},',
    "an item": HEAD + '"items":[{',
    "metadata": HEAD + '"metadata":{"a":[',
    "strings": '{"a":"b',
    "strings before blanks": '{"a":"b' + " " * 40,
    "escapes": '{"a":"\\',
    "numbers": '{"a":1',
    "brackets alone": "[",
    "braces alone": "{",
    "commas alone": ",",
    "marks": "\ufeff",
    "orders with a comma": ORDER + ",",
}
FORMS: dict[str, Callable[[int], bytes]] = {
    f"lines of opened {name}": repeated(f"{line}\n") for name, line in _OPENED.items()
}
FORMS |= {
    f"lines of opened {name} after an order": repeated(f"{line}\n", ORDER + "\n") for name, line in _OPENED.items()
}
FORMS |= {
    # ------------------------------------------------------------------------------------------------- one document
    "opened arrays": repeated("["),
    "opened objects": repeated('{"a":'),
    "opened arrays in a key": repeated("[", '{"orders":'),
    "closed arrays": repeated("]"),
    "empty arrays": repeated("[],", "[", "[]]"),
    "empty objects": repeated("{},", "[", "{}]"),
    "deep arrays": repeated("[" * 500 + "]" * 500 + ",", "[", "1]"),
    "arrays that are too deep": repeated("[" * 513 + "]" * 513 + ",", "[", "1]"),
    "numbers": repeated("1,", "[", "1]"),
    "one number": repeated("9", "[", "]"),
    "one amount": repeated("9", "[" + HEAD + '"amount":', "}]"),
    "one exponent": repeated("9", "[" + HEAD + '"amount":1e', "}]"),
    "one string": repeated("a", '["', '"]'),
    "one string of escapes": repeated("\\u0041", '["', '"]'),
    "one string of quotes": repeated('\\"', '["', '"]'),
    "one string that is not closed": repeated("a", '["'),
    "one id": repeated("a", '[{"order_id":"', '","created_at":"2026-03-02"}]'),
    "one id of escapes": repeated("\\u00e9", '[{"order_id":"', '","created_at":"2026-03-02"}]'),
    "one key": repeated("a", '[{"', '":1}]'),
    "white space": repeated(" \n"),
    "white space in an array": repeated(" \n", "[", "]"),
    "white space after each token": repeated("{ \n } \n , \n ", "[", "1]"),
    "quotes": repeated('"'),
    "backslashes": repeated("\\"),
    "one key again and again": repeated('"a":1,', "[{", '"a":1}]'),
    "an id again and again": repeated('"order_id":"a",', "[{", '"order_id":"a"}]'),
    "keys that are read, in the wrong order": repeated('"amount":1,"order_id":"a",', "[{", '"a":1}]'),
    "items": repeated('{"sku":"p"},', "[" + HEAD + '"items":[', "{}]}]"),
    "items that are refused": repeated('{"sku":"p"},', "[" + HEAD + '"items":[', "1]}]"),
    "metadata": repeated('{ "a" : 1 },', "[" + HEAD + '"metadata":[', "1]}]"),
    "orders": repeated(ORDER + ",", "[", ORDER + "]"),
    "orders of which the last is damaged": repeated(ORDER + ",", "[", ORDER[:-1] + "]"),
    "orders that are cut short": repeated(ORDER + ",", "["),
    "orders that are refused": repeated('{"order_id":"o_1","created_at":"2026-03-02","amount":true},', "[", ORDER + "]"),
    "orders with nothing between": repeated(ORDER),
    "orders with a mark between": repeated(ORDER + "\x1e"),
    "orders in arrays with nothing between": repeated(f"[{ORDER}]"),
    "seams without keys": repeated('},{"'),
    "seams in a string": repeated("},{", '[{"order_id":"'),
    "an envelope": repeated(ORDER + ",", '{"orders":[', ORDER + "]}"),
    "an envelope with orders beside": repeated(ORDER + ",", '{"orders":[' + ORDER + '],"others":[', ORDER + "]}"),
    "envelopes in envelopes": repeated('{"data":', "", "1"),
    "keys of an object": repeated('"a":{"order_id":"b"},', "{", '"a":1}'),
    # -------------------------------------------------------------------------------------------------------- lines
    "pages as lines": repeated(f'{{"orders":[{ORDER},{ORDER}]}}\n'),
    "one line of pages": repeated(f'{{"orders":[{ORDER}]}}', ORDER + "\n"),
    "one line of damaged pages": repeated(f'{{"orders":[{ORDER}]', ORDER + "\n"),
    "one line of orders": repeated(ORDER, ORDER + "\n"),
    "one line of orders and a rest": repeated(ORDER, ORDER + "\n", '{"a":[1'),
    "one line of ids": repeated('"order_id":"a" ', ORDER + "\n{"),
    "one line of escaped ids": repeated('\\"order_id\\":\\"a\\",', ORDER + '\n{"a":"', '"}'),
    "one line of names of arrays": repeated('"orders":', ORDER + "\n{"),
    "one line of blanks": repeated(" ", ORDER + "\n", "1"),
    "one line of closing brackets": repeated("]", ORDER + "\n"),
    "small values": repeated("1\n", ORDER + "\n"),
    "empty lines": repeated("\n", ORDER + "\n"),
    "lines that begin with a comma": repeated(f",{ORDER}\n", ORDER + "\n"),
    "log lines": repeated("[INFO] x\n"),
    "blank lines of marks": repeated(" \x1e\ufeff\n"),
    "orders with lone surrogates": repeated(HEAD + '"currency":"\\ud800"}\n'),
    "versions of one order": repeated(ORDER + "\n"),
}  # fmt: skip
