"""The rows a new shop begins with: made up, and the same every time."""

from __future__ import annotations

CUSTOMERS = (
    (1, "ann@example.com", "Ann Baker", "2024-03-02"),
    (2, "ben@example.com", "Ben Okafor", "2024-07-19"),
    (3, "carla@example.com", "Carla Rossi", "2025-01-11"),
    (4, "dmitri@example.com", "Dmitri Volkov", "2025-05-30"),
    (5, "eva@example.com", "Eva Lindqvist", "2025-11-08"),
    (6, "farid@example.com", "Farid Haddad", "2026-02-14"),
    (7, "grace@example.com", "Grace Kim", "2026-06-21"),
)
"""Number, e-mail, name, customer since."""

PRODUCTS = (
    ("KET-17", "Copper kettle", 6490),
    ("POT-02", "Stoneware teapot", 3850),
    ("CUP-06", "Set of six cups", 2940),
    ("TEA-GR", "Green tea, 250 g", 1280),
    ("TEA-BL", "Black tea, 250 g", 1150),
    ("SCA-01", "Kitchen scale", 3375),
    ("FIL-09", "Paper filters, 100", 490),
    ("GRI-04", "Hand grinder", 5900),
    ("MUG-11", "Travel mug", 2295),
    ("TRA-03", "Bamboo tray", 1990),
)
"""SKU, name, price of one piece in euro cents."""

ORDERS = (
    (1041, 2, "2026-09-28", "delivered", "8 Harbour Road, Cork", "An Post", "AP-55120931"),
    (1042, 1, "2026-10-02", "delivered", "14 Elm Street, Dublin", "An Post", "AP-55120988"),
    (1043, 3, "2026-10-05", "delivered", "Via Roma 21, Torino", "SDA", "SD-7741120"),
    (1044, 4, "2026-10-09", "cancelled", "Karlova 3, Praha", "", ""),
    (1045, 5, "2026-11-12", "shipped", "Storgatan 9, Lund", "PostNord", "PN-00938812"),
    (1046, 1, "2026-11-14", "shipped", "14 Elm Street, Dublin", "An Post", "AP-55131207"),
    (1047, 6, "2026-11-16", "paid", "22 Quay Street, Galway", "", ""),
    (1048, 3, "2026-11-17", "packed", "Via Roma 21, Torino", "", ""),
    (1049, 7, "2026-11-17", "delivered", "Hauptstr. 40, Bonn", "DHL", "DH-61199004"),
    (1050, 2, "2026-11-18", "paid", "8 Harbour Road, Cork", "", ""),
    (1051, 7, "2026-11-18", "paid", "Hauptstr. 40, Bonn", "", ""),
)
"""Number, customer, placed on, status, address, carrier, tracking."""

ORDER_LINES = (
    (1041, 1, "GRI-04"),
    (1041, 2, "FIL-09"),
    (1042, 1, "KET-17"),
    (1042, 2, "TEA-GR"),
    (1043, 1, "POT-02"),
    (1043, 1, "CUP-06"),
    (1044, 1, "SCA-01"),
    (1045, 1, "MUG-11"),
    (1045, 3, "TEA-BL"),
    (1046, 1, "TRA-03"),
    (1047, 1, "SCA-01"),
    (1047, 1, "TEA-GR"),
    (1048, 2, "MUG-11"),
    (1049, 1, "POT-02"),
    (1049, 1, "TRA-03"),
    (1050, 4, "FIL-09"),
    (1051, 1, "CUP-06"),
)
"""Order, quantity, SKU; the price paid is the product's."""

_REFUNDS = (
    "What arrived broken, wrong or not at all is refunded in full for the items concerned; no return is needed below "
    "€100.00. A customer who changed their mind gets a refund once the unopened goods are back: promise no date. "
    "Never refund more than was paid for the items concerned, and never twice."
)
_CHANGES = "The address of an order can be changed until it is packed. After that it cannot; the carrier may redirect it."
_DELIVERY = "Shipped orders arrive within five working days. Every shipped order has a tracking number."

POLICIES = (("refunds", _REFUNDS), ("changes", _CHANGES), ("delivery", _DELIVERY))
"""Topic, rules."""
