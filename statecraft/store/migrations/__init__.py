"""One file for each step from a schema to the next and each sort of database, such as `sqlite/0003.sql`; final once released.

A statement ends with a semicolon at the end of a line. Triggers are in no file: `statecraft.store.migrate` takes them all away
before the first step and makes those of the present after the last.
"""
