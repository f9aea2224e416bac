"""What is taken from a document: an invoice whose every field says where it stands, and what code can check about it.

Amounts are decimal text such as `1234.50`, never floats. Nothing here asks a model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, model_validator

SURE = 0.75
"""Confidence from which a field needs no person."""
Name = Literal["number", "supplier", "date", "currency", "net", "tax", "total"]
NAMES: tuple[Name, ...] = ("number", "supplier", "date", "currency", "net", "tax", "total")
_KNOWN = "AUD BRL CAD CHF CNY CZK DKK EUR GBP HUF INR JPY KRW MXN NOK NZD PLN SEK SGD TRY USD ZAR"
CURRENCIES = frozenset(_KNOWN.split())
SEALED = "\u2039"
"""Stands for `<` where a document contains a tag of our prompts, so that no text can pretend to be another part."""
_LARGEST = Decimal("1e12")
_NUMBER = re.compile(r"\d{1,3}(?:[ .,'\u2019\u00a0\u202f]\d{3})+(?:[.,]\d{1,2})?(?!\d)|\d+(?:[.,]\d{1,2})?(?!\d)")
_CENTS = re.compile(r"[.,](\d{1,2})$")


# --- values -----------------------------------------------------------------------------------------------------------


def _iso_date(text: str) -> str:
    if text and (len(text) != 10 or date.fromisoformat(text).isoformat() != text):
        raise ValueError("a date is written like 2026-04-30")
    return text


def _amount(text: str) -> str:
    if not text:
        return text
    try:
        found = Decimal(text)
        exact = found.quantize(Decimal("0.01"))
    except InvalidOperation:
        raise ValueError("an amount is written like 1234.50") from None
    if found != exact or abs(found) >= _LARGEST:
        raise ValueError("an amount has at most two decimals, and less than thirteen digits before them")
    return str(exact)


def _currency(text: str) -> str:
    if text and text not in CURRENCIES:
        raise ValueError(f"a currency is one of {', '.join(sorted(CURRENCIES))}")
    return text


IsoDate = Annotated[str, AfterValidator(_iso_date)]
Amount = Annotated[str, AfterValidator(_amount)]
Currency = Annotated[str, AfterValidator(_currency)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


# --- what a model answers ---------------------------------------------------------------------------------------------


class Quoted(BaseModel):
    """A text, the words of the document it was taken from, and how sure the model is. Empty: the document does not say."""

    value: str
    quote: str
    confidence: Share


class QuotedDate(Quoted):
    value: IsoDate


class QuotedAmount(Quoted):
    value: Amount


class QuotedCurrency(Quoted):
    value: Currency


class Line(BaseModel):
    """A line of an invoice: its amount without tax, the words it was taken from, and how sure the model is."""

    description: str
    amount: Amount
    quote: str
    confidence: Share


class Invoice(BaseModel):
    """One invoice or receipt."""

    number: Quoted
    supplier: Quoted
    date: QuotedDate
    currency: QuotedCurrency
    net: QuotedAmount
    tax: QuotedAmount
    total: QuotedAmount
    lines: list[Line]

    def field(self, name: Name) -> Quoted:
        """One of the fields above the lines."""
        found: Quoted = getattr(self, name)
        return found


class Findings(BaseModel):
    """All invoices in a text, in order; none is an answer too."""

    invoices: list[Invoice]


# --- what becomes of it -----------------------------------------------------------------------------------------------


class Row(BaseModel):
    """An invoice on its way into the table."""

    id: str
    """File and number of the invoice in it, from 1: `april.txt#1`."""
    document: str
    """SHA-256 of the file."""
    file: str
    record: int
    invoice: Invoice
    unquoted: list[str] = []
    """What the document does not say, field by field."""
    wrong: list[str] = []
    """What does not add up, is missing, or is there twice."""
    corrected: list[str] = []
    """Fields that a person wrote, which need no quote."""
    accepted: bool = False
    """A person approved it as it stands."""

    @property
    def confidence(self) -> float:
        """That of the least certain field or line that no person wrote."""
        fields = [self.invoice.field(name).confidence for name in NAMES if name not in self.corrected]
        return min(fields + [line.confidence for line in self.invoice.lines if "lines" not in self.corrected], default=1.0)

    @property
    def problems(self) -> list[str]:
        """All that code found wrong with it."""
        return [*self.unquoted, *self.wrong]

    @property
    def doubtful(self) -> bool:
        """Whether a person has to look at it."""
        return not self.accepted and (bool(self.problems) or self.confidence < SURE)


class LineEdit(BaseModel):
    """A line as a person writes it."""

    description: str
    amount: Amount


class Edit(BaseModel):
    """What a person changes in a row. What is left out stays."""

    row: str
    number: str | None = None
    supplier: str | None = None
    date: IsoDate | None = None
    currency: Currency | None = None
    net: Amount | None = None
    tax: Amount | None = None
    total: Amount | None = None
    lines: list[LineEdit] | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> Edit:
        if self.model_fields_set <= {"row"}:
            raise ValueError(f"name a field to change: {', '.join(NAMES)} or lines")
        return self


def edited(row: Row, edit: Edit) -> Row:
    """The row with a person's values in place of the model's. The words quoted are kept, for whoever looks later."""
    given: dict[Name, str] = {name: value for name in NAMES if (value := getattr(edit, name)) is not None}
    changes: dict[str, object] = {
        name: row.invoice.field(name).model_copy(update={"value": value, "confidence": 1.0}) for name, value in given.items()
    }
    if edit.lines is not None:
        changes["lines"] = [Line(**line.model_dump(), quote="", confidence=1.0) for line in edit.lines]
    corrected = sorted({*row.corrected, *changes})
    unquoted = [problem for problem in row.unquoted if re.split("[.:]", problem)[0] not in corrected]
    invoice = row.invoice.model_copy(update=changes)
    return row.model_copy(update={"invoice": invoice, "corrected": corrected, "unquoted": unquoted})


# --- checks: pure -----------------------------------------------------------------------------------------------------


def plain(text: str) -> str:
    """A text as quotes are compared: white space squeezed, what sealing a prompt changed undone."""
    return " ".join(text.replace(SEALED, "<").split())


def number_problems(invoice: Invoice) -> list[str]:
    """What does not add up, or is missing."""
    problems = [f"{name}: nothing was found" for name in NAMES if not invoice.field(name).value]
    net, tax, total = (_value(invoice.field(name)) for name in ("net", "tax", "total"))
    if net is not None and tax is not None and total is not None and net + tax != total:
        problems.append(f"total: {net} net and {tax} tax make {net + tax}, not {total}")
    amounts = [Decimal(line.amount) for line in invoice.lines if line.amount]
    if len(amounts) < len(invoice.lines):
        problems.append("lines: a line has no amount")
    elif amounts and net is not None and sum(amounts) not in {net, total}:
        problems.append(f"lines: they add up to {sum(amounts)}, which is neither net ({net}) nor total ({total})")
    return problems


def quote_problems(invoice: Invoice, text: str) -> list[str]:
    """Quotes that are not in the document: what they stand for may be made up. And values that no words stand for."""
    whole = plain(text)
    problems: list[str] = []
    for name, value, quote in _parts(invoice, NAMES):
        if value and not quote.strip():
            problems.append(f"{name}: {value!r} is given without a quote")
        elif value and plain(quote) not in whole:
            problems.append(f"{name}: the quote {quote!r} is not in the document")
    return problems + value_problems(invoice) + amount_problems(invoice)


def value_problems(invoice: Invoice) -> list[str]:
    """Texts and dates that their own quotes do not say."""
    problems: list[str] = []
    texts: tuple[Name, ...] = ("number", "supplier")
    for name in texts:
        field = invoice.field(name)
        if field.quote.strip() and plain(field.value).casefold() not in plain(field.quote).casefold():
            problems.append(f"{name}: the quote {field.quote!r} does not say {field.value!r}")
    when = invoice.date
    if when.value and when.quote.strip():
        year, _, day = when.value.split("-")
        said = set(re.findall(r"\d+", when.quote))
        if not said & {year, year[2:]} or not said & {day, day.lstrip("0")}:
            problems.append(f"date: the quote {when.quote!r} does not say {when.value}")
    return problems


def amount_problems(invoice: Invoice) -> list[str]:
    """Amounts whose digits are not in their quote."""
    return [
        f"{name}: the quote {quote!r} does not say {value}"
        for name, value, quote in _parts(invoice, ("net", "tax", "total"))
        if value and Decimal(value) and quote.strip() and _digits(value) not in {_digits(part) for part in amounts_in(quote)}
    ]


def _parts(invoice: Invoice, names: Sequence[Name]) -> list[tuple[str, str, str]]:
    """Name, value and quote of some fields, and of all lines."""
    fields = [(str(name), invoice.field(name).value, invoice.field(name).quote) for name in names]
    return fields + [(f"lines.{number}", line.amount, line.quote) for number, line in enumerate(invoice.lines, 1)]


def amounts_in(text: str) -> list[str]:
    """What looks like a number in a text, as it is written: `1.234,50`, `1 234.50`, `-12`."""
    return _NUMBER.findall(text)


def twins(rows: Sequence[Row]) -> dict[str, str]:
    """Rows with the number and supplier of a row before them, and that row."""
    first: dict[tuple[str, str], Row] = {}
    found: dict[str, str] = {}
    for row in rows:
        number, supplier = row.invoice.number.value.casefold(), plain(row.invoice.supplier.value).casefold()
        earlier = first.setdefault((number, supplier), row)
        if earlier is not row and number and supplier:
            found[row.id] = earlier.id
    return found


def _value(field: Quoted) -> Decimal | None:
    return Decimal(field.value) if field.value else None


def _digits(text: str) -> str:
    """`1.234,50`, `1234.50` and `1234.5` alike: the digits of a number in cents."""
    whole, cents = text.strip(), ""
    if (found := _CENTS.search(whole)) is not None:
        whole, cents = whole[: found.start()], found[1]
    return ("".join(filter(str.isdigit, whole)) + cents.ljust(2, "0")).lstrip("0")
