"""A model that is none: it takes invoices out of documents by labels and regular expressions, without a network or a key.

It knows a few English and German labels. At the first try it takes any `total` for the total, so that some documents are
read wrongly until a check objects; and it tidies up dates that it finds odd, which no check lets pass as a quote. It
understands nothing, and gives equal answers to equal prompts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import Any

from statecraft import ErrorKind, Usage
from statecraft.llm import ModelError, Reply, Request

from .extract_rows import NAMES, Findings, Invoice, Line, Quoted, amounts_in  # noqa: TID252

LABELLED, GUESSED, AMBIGUOUS = 0.95, 0.8, 0.6
"""How sure it is of what stands behind a label, of what probably is meant, and of what may mean several things."""

_NUMBER = re.compile(
    r"\b(?:invoice|receipt|rechnung|rechnungs|quittung)s?[ -]*(?:no\.?|number|nr\.?|nummer|#)[ :\t|*]*([A-Z0-9][\w./-]*\d)",
    re.IGNORECASE,
)
_SUPPLIER = re.compile(r"^(?:supplier|seller|lieferant)[ \t]*:[ \t]*(.+)$", re.IGNORECASE)
_NET = re.compile(r"\b(?:net(?: amount| total)?|sub-?total|netto(?:betrag|summe)?|zwischensumme)\b", re.IGNORECASE)
_TAX = re.compile(r"\b(?:vat|sales tax|tax|mwst|ust|umsatzsteuer|mehrwertsteuer)\b", re.IGNORECASE)
_UNTAXED = re.compile(r"\b(?:keine (?:umsatz|mehrwert)steuer|no (?:vat|sales tax)|vat exempt)\b", re.IGNORECASE)
_ANY_TOTAL = re.compile(r"total|summe|gesamt", re.IGNORECASE)
_TOTAL = re.compile(
    r"\b(?:grand total|total|amount due|gesamtbetrag|gesamtsumme|gesamt|rechnungsbetrag|zu zahlen)\b", re.IGNORECASE
)
_LINE = re.compile(
    r"^(.*[^\W\d_].*?)[\s|]+(?:€|£|\$|EUR|USD|GBP|CHF)? ?(-?(?:\d{1,3}(?:[., ]\d{3})+|\d+)[.,]\d{2})"
    r"[ \t]*(?:€|£|EUR|USD|GBP|CHF)?[ \t]*\|?$"
)
_NO_LINE = re.compile(r"\b(?:iban|due|date|datum|fällig|paid|bezahlt|page|seite|carried forward|übertrag)\b", re.IGNORECASE)
_CURRENCIES = (
    (re.compile(r"\b(EUR|USD|GBP|CHF)\b"), "", LABELLED),
    (re.compile(r"(€)"), "EUR", LABELLED),
    (re.compile(r"(£)"), "GBP", LABELLED),
    (re.compile(r"(\$)"), "USD", AMBIGUOUS),
)
_MONTH_NAMES = """
january|januar february|februar march|märz april may|mai june|juni july|juli august september october|oktober november
december|dezember
"""
_MONTHS = _MONTH_NAMES.split()
_MONTH = "|".join(_MONTHS)
_DATES = (
    re.compile(r"\b(?P<y>\d{4})-(?P<m>\d{2})-(?P<d>\d{2})\b"),
    re.compile(r"\b(?P<d>\d{1,2})\.(?P<m>\d{1,2})\.(?P<y>\d{4})\b"),
    re.compile(rf"\b(?P<d>\d{{1,2}})\.? (?P<m>{_MONTH}) (?P<y>\d{{4}})\b", re.IGNORECASE),
    re.compile(rf"\b(?P<m>{_MONTH}) (?P<d>\d{{1,2}}), (?P<y>\d{{4}})\b", re.IGNORECASE),
)
_ODD_DATE = re.compile(rf"\b(?P<d>\d{{1,2}})(?:st|nd|rd|th)(?: of)? (?P<m>{_MONTH}),? (?P<y>\d{{4}})\b", re.IGNORECASE)


class OfflineExtraction:
    """Answers the question of the extraction agent (`Findings`) and no other."""

    @property
    def model(self) -> str:
        """The id under which its calls are recorded."""
        return "offline-labels"

    @property
    def label(self) -> str:
        """How it is shown to people."""
        return "offline model (labels and regular expressions, not an LLM)"

    async def complete(self, request: Request) -> Reply:
        """The answer to a request of the extraction agent. Raises `ModelError` for any other."""
        wanted = request.output.schema.get("properties", {}) if request.output is not None else {}
        if not isinstance(wanted, dict) or set(wanted) != {"invoices"}:
            raise ModelError(
                "the offline model only takes invoices out of documents; set ANTHROPIC_API_KEY to use Claude",
                kind=ErrorKind.PERMANENT,
            )
        prompt = _prompt(request)
        text = answer(prompt).model_dump_json()
        usage = Usage(_tokens(prompt) + _tokens(request.system or ""), _tokens(text))
        return Reply(({"type": "text", "text": text},), "end_turn", usage, request.model or self.model)

    async def close(self) -> None:
        """Nothing to close."""


def answer(prompt: str) -> Findings:
    """The invoices in the document of a prompt."""
    document = re.search(r'<document name="[^"]*" part="(\d+)" of="\d+">\n(.*?)\n</document>', prompt, re.DOTALL)
    if document is None:
        return Findings(invoices=[])
    doubted = set(re.findall(r"<problem>.*?#\d+ (\w+)", prompt))
    continued = document[1] != "1"
    found: list[Invoice] = []
    for place, chunk in enumerate(re.split(r"^[-=*]{3,}$", document[2], flags=re.MULTILINE)):
        lines = [line.strip() for line in chunk.split("\n") if line.strip()]
        if any(_NUMBER.search(line) for line in lines) or (continued and place == 0):
            found.append(_invoice(lines, doubted, continued))
    return Findings(invoices=found)


def _invoice(lines: Sequence[str], doubted: set[str], continued: bool) -> Invoice:
    fields = {
        "number": _first(lines, _NUMBER),
        "supplier": _supplier(lines, continued),
        "date": _date(lines, doubted),
        "currency": _currency(lines),
        "net": _sum(_matching(lines, _NET)),
        "tax": _tax(lines),
        # What is doubted is read again, with more care.
        "total": _sum([*_matching(lines, _TOTAL)][-1:]) if "total" in doubted else _sum(_matching(lines, _ANY_TOTAL)),
    }
    plain = {name: fields[name].model_dump() for name in NAMES}
    return Invoice.model_validate({**plain, "lines": [line.model_dump() for line in _items(lines)]})


# --- fields -----------------------------------------------------------------------------------------------------------

_NOTHING = Quoted(value="", quote="", confidence=0.0)


def _first(lines: Iterable[str], label: re.Pattern[str], confidence: float = LABELLED) -> Quoted:
    found = next(((line, match) for line in lines if (match := label.search(line))), None)
    return Quoted(value=found[1][1].strip(), quote=found[0], confidence=confidence) if found else _NOTHING


def _supplier(lines: Sequence[str], continued: bool) -> Quoted:
    labelled = _first(lines, _SUPPLIER)
    if labelled.value or continued or not lines:
        return labelled
    name = lines[0].strip("#* \t").split("\t")[0]
    return Quoted(value=name, quote=lines[0], confidence=GUESSED)


def _date(lines: Sequence[str], doubted: set[str]) -> Quoted:
    for line in lines:
        for form in _DATES:
            if (found := form.search(line)) is not None:
                return Quoted(value=_iso(found), quote=line, confidence=LABELLED)
        if (odd := _ODD_DATE.search(line)) is not None and "date" not in doubted:
            return Quoted(value=_iso(odd), quote=f"{odd['d']} {odd['m']} {odd['y']}", confidence=LABELLED)
    return _NOTHING


def _iso(found: re.Match[str]) -> str:
    month = found["m"].lower()
    number = int(month) if month.isdigit() else 1 + next(n for n, names in enumerate(_MONTHS) if month in names.split("|"))
    try:
        return date(int(found["y"]), number, int(found["d"])).isoformat()
    except ValueError:
        return ""


def _currency(lines: Sequence[str]) -> Quoted:
    for sign, code, confidence in _CURRENCIES:
        if (found := _first(lines, sign, confidence)).value:
            return found.model_copy(update={"value": code or found.value})
    return _NOTHING


def _matching(lines: Iterable[str], label: re.Pattern[str]) -> Iterator[str]:
    return (line for line in lines if label.search(line) and _amounts(line))


def _sum(lines: Iterable[str]) -> Quoted:
    line = next(iter(lines), "")
    return Quoted(value=_amounts(line)[-1], quote=line, confidence=LABELLED) if line else _NOTHING


def _tax(lines: Sequence[str]) -> Quoted:
    untaxed = next((line for line in lines if _UNTAXED.search(line)), "")
    if untaxed:
        return Quoted(value="0.00", quote=untaxed, confidence=GUESSED)
    return _sum(line for line in _matching(lines, _TAX) if not _TOTAL.search(line))


def _items(lines: Iterable[str]) -> Iterator[Line]:
    for line in lines:
        found = _LINE.match(line)
        if found is None or any(label.search(line) for label in (_NET, _TAX, _ANY_TOTAL, _TOTAL, _NO_LINE, _NUMBER)):
            continue
        name = re.split(r"\t|\s*\|\s*|\s{2,}", found[1].strip("| \t"))[0]
        yield Line(description=name, amount=_plain_amount(found[2]), quote=line, confidence=LABELLED)


# --- numbers and the prompt ---------------------------------------------------------------------------------------------


def _amounts(line: str) -> list[str]:
    """The amounts with cents in a line, as decimal text."""
    return [_plain_amount(each) for each in amounts_in(line) if re.search(r"[.,]\d{2}$", each)]


def _plain_amount(text: str) -> str:
    sign = "-" if text.strip().startswith("-") else ""
    digits = "".join(filter(str.isdigit, text))
    return f"{sign}{int(digits[:-2] or 0)}.{digits[-2:]}"


def _prompt(request: Request) -> str:
    """The first thing the user says, in one text."""
    content: Any = request.messages[0].get("content", "") if request.messages else ""
    return content if isinstance(content, str) else "\n".join(str(block.get("text", "")) for block in content)


def _tokens(text: str) -> int:
    """About four characters a token, as a real model would count."""
    return -(-len(text) // 4)
