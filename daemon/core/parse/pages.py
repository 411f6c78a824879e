"""Whether an object without records is an empty page of an API, or reports an error. Pure, on texts."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..mapping import FieldMapping
from .hidden import ENVELOPE_KEYS, orders_in
from .texts import elements_of, members_of

_PAGING = frozenset(
    """
    next nextpage nexturl nextlink nextcursor nexttoken nextpagetoken prev previous prevpage previouspage prevurl previousurl
    first firstpage last lastpage current currentpage total totalcount totalpages totalresults count page pages pagecount
    pagenumber pagesize perpage limit offset cursor size hasmore hasnext hasnextpage more link links meta paging pagination
    pageinfo object url self from to start skip
    success ok status statuscode code message msg detail error errors fault exception
    requestid traceid timestamp version apiversion took duration
    """.split()  # noqa: SIM905
)
ERROR_KEYS = ("error", "errors", "fault", "exception")
STATUS_KEYS = ("success", "ok", "status", "statuscode", "code")
MESSAGE_KEYS = ("message", "msg", "detail", "errormessage", "errordescription")
_NOTHING = (b"null", b"false", b"0", b'""', b"[]", b"{}")
_FINE = re.compile(r"(?:0|1|2[0-9][0-9](?: .*)?|ok|success(?:ful|fully)?|succeeded|completed?|done|true|yes)")
_BAD = re.compile(
    r"false|no|-[0-9]+|[45][0-9][0-9](?: .*)?|.*(?:error|fail|denied|unauthori|forbidden|invalid|expired|limit|exceed|time.?out"
    r"|unavailable|not (?:allowed|permitted)|bad request|too many|quota|throttl|cannot|could ?n.t|could not|unable|refused"
    r"|missing|wrong).*",
    re.DOTALL,
)
_ID_KEY = re.compile(r"_?id|uuid|key|number|order.*")
_DATE = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{1,2}[./][0-9]{1,2}[./][0-9]{4}")
_DATE_KEY = re.compile(r".*(?:date|created|time).*")
_SEARCHED_LEVELS = 3
_BEGINS_WITH_OBJECT = re.compile(rb"\[[ \t\n\r]*\{")
_EMPTY = re.compile(rb"\[[ \t\n\r]*\]")

Members = Mapping[str, bytes]


def is_empty_page(members: Members, mapping: FieldMapping) -> bool:
    """Whether an object without records is a page all the same: it reports no error, and nothing in it is an order, or could be
    one in a form that is not known. Where `null` or `{}` is in place of the array, its other keys must be about paging."""
    held = [text for key, text in members.items() if key in ENVELOPE_KEYS]
    others = {key: text for key, text in members.items() if key not in ENVELOPE_KEYS}
    if not held or not all(map(is_nothing, held)) or reports_error(members):
        return False
    if not any(text.startswith(b"[") for text in held) and not all(plain(key) in _PAGING for key in others):
        return False
    if any(next(orders_in(text, mapping), None) for text in others.values()):
        return False
    return not _has_objects(others, _SEARCHED_LEVELS) and not _may_be_order(others, _SEARCHED_LEVELS)


def is_nothing(text: bytes) -> bool:
    """Whether a value may stand for an array without elements."""
    return (
        text == b"null"
        or (text.startswith(b"[") and is_empty(text))
        or (text.startswith(b"{") and not members_of(text))
    )


def is_empty(array: bytes) -> bool:
    """Whether an array has no elements."""
    return _EMPTY.fullmatch(array) is not None


def has_object(array: bytes) -> bool:
    """Whether an element of an array is an object."""
    begins = _BEGINS_WITH_OBJECT.match(array) is not None  # true for nearly all, and cheap
    return begins or any(one.startswith(b"{") for one in elements_of(array))


def reports_error(members: Members) -> bool:
    """Whether an object reports an error: it has one, or a status that is bad or unknown without a message that all is well.
    Without a status, a message that speaks of an error. An empty value says nothing, since some APIs always send the key."""
    given = {plain(key): text for key, text in members.items() if text not in (b"null", b'""', b"[]", b"{}")}
    if any(given.get(key, b"null") not in _NOTHING for key in ERROR_KEYS):
        return True
    statuses, messages = ([_word(given[key]) for key in keys if key in given] for keys in (STATUS_KEYS, MESSAGE_KEYS))
    if any(_BAD.fullmatch(word) for word in statuses):
        return True
    if any(_FINE.fullmatch(word) for word in (*statuses, *messages)):
        return False
    if statuses:
        return True
    has_array = any(members.get(key, b"").startswith(b"[") for key in ENVELOPE_KEYS)
    return any(_BAD.fullmatch(word) for word in messages) if has_array else bool(messages)


def plain(key: str) -> str:
    """A key without the differences of style: `has_more`, `hasMore` and `has-more` are one."""
    return key.lower().replace("_", "").replace("-", "")


def _word(text: bytes) -> str:
    return text.decode().strip('" ').lower()


def _has_objects(members: Members, levels: int) -> bool:
    """Whether there is an array of objects somewhere in an object, other than of links."""
    return any(
        (text.startswith(b"[") and plain(key) not in _PAGING and has_object(text))
        or (levels > 1 and text.startswith(b"{") and _has_objects(members_of(text), levels - 1))
        for key, text in members.items()
    )


def _may_be_order(members: Members, levels: int) -> bool:
    """Whether an object, or one in it, has an id and a date under keys that are not about paging."""
    own = {plain(key): text for key, text in members.items() if plain(key) not in _PAGING}
    has_id = any(_ID_KEY.fullmatch(key) and text not in _NOTHING for key, text in own.items())
    has_date = any(
        _DATE_KEY.fullmatch(key) or _DATE.search(text[:64]) for key, text in own.items() if text not in _NOTHING
    )
    inner = (members_of(text) for text in own.values() if text.startswith(b"{"))
    return (
        (has_id and has_date)
        or "orderid" in own
        or (levels > 1 and any(_may_be_order(one, levels - 1) for one in inner))
    )
