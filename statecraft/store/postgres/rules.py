"""`rules.RULES` as triggers, and what else follows the tables."""

from __future__ import annotations

from statecraft.store.rules import RULES, STAYING, Rule

_REFUSE = """
CREATE FUNCTION statecraft_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'restrict_violation';
END $$
"""

_SAME_NAME = """
CREATE FUNCTION statecraft_same_{table}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM {table} AS kept WHERE kept.hash = NEW.hash AND ({differs})) THEN
        RAISE EXCEPTION '{table} has that row already' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$
"""
"""Nothing else may be kept under a hash. Where it is the same, the INSERT goes on, and does nothing."""

_NAMED = (("payloads", "kept.body <> NEW.body"), ("messages", "kept.body <> NEW.body OR kept.parent IS DISTINCT FROM NEW.parent"))

_TUNING = (
    # Room in each page for the next version of its rows: a move under a lease then touches no index.
    "ALTER TABLE runs SET (fillfactor = 70)",
    "ALTER TABLE meters SET (fillfactor = 70)",
)


def statements() -> list[str]:
    """What is run after the tables are made."""
    made = [_REFUSE, *map(_trigger, RULES)]
    for name in STAYING:
        refusal = f"statecraft_refuse('{name} rows stay')"
        made.append(f"CREATE TRIGGER {name}_no_truncate BEFORE TRUNCATE ON {name} FOR EACH STATEMENT EXECUTE FUNCTION {refusal}")
    for table, differs in _NAMED:
        made.append(_SAME_NAME.format(table=table, differs=differs))
        made.append(
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION statecraft_same_{table}()"
        )
    return [*made, *_TUNING]


def _trigger(rule: Rule) -> str:
    when = f" WHEN ({rule.when})" if rule.when else ""
    refusal = f"statecraft_refuse('{rule.message}')"
    return f"CREATE TRIGGER {rule.name} BEFORE {rule.change} ON {rule.table} FOR EACH ROW{when} EXECUTE FUNCTION {refusal}"
