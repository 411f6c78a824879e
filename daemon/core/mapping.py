"""How a source spells its orders: for each field, the paths where its value may be. Pure values; core/parse applies them.

A path is keys divided by dots, from a record; a whole number is the index of an array (`line_items.0.sku`). Of several paths, the
first one whose value is neither missing, null nor blank counts. A field without a path of its own is at its own name; a field
whose paths are empty is never read. Of users and products, a path is the name of a column. Extra columns of fact_order have paths
as fields do.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

DEFAULT_SOURCE = "default"  # of drops that are directly in the inbox

Path = tuple[str, ...]
Paths = tuple[tuple[str, tuple[str, ...]], ...]  # (field, its paths, the preferred one first), by field

ORDER_FIELDS = ("order_id", "created_at", "updated_at", "user_id", "amount", "currency", "metadata", "items")
ITEM_FIELDS = ("sku", "qty", "price")  # their paths begin at an element of `items`

ENCODINGS = ("utf-8", "cp1252")

COLUMN_TYPES = ("text", "decimal", "instant", "boolean")
Columns = tuple[tuple[str, str], ...]  # extra columns of fact_order: (name, one of COLUMN_TYPES), by name


@dataclass(frozen=True, slots=True)
class FieldMapping:
    """How one source spells its records. The default is the format of docs/INPUT.md."""

    record: str = ""  # the path of the order inside a record; "": the record is the order
    fields: Paths = ()  # of ORDER_FIELDS and ITEM_FIELDS
    time_zone: str = "UTC"  # an IANA name: of instants that name no zone
    minor_units: bool = False  # amounts and prices are in the currency's smallest unit
    id_prefix: str = ""  # comes before each order_id and user_id
    deleted_path: str = ""  # where a record says that its order is gone
    deleted_values: tuple[str, ...] = ()  # as JSON texts: at these values it does
    users: Paths = ()  # of the fields of users.csv; their paths are names of columns
    products: Paths = ()  # of the fields of products.csv
    encoding: str = "utf-8"  # of ENCODINGS: of CSV files that are not UTF-8, nor UTF-16 with a byte order mark
    skip_items_with: str = ""  # elements of `items` that have a value at this path are left out
    columns: tuple[tuple[str, str, tuple[str, ...]], ...] = ()  # extra columns: (name, type, its paths), by name

    def compiled(self) -> dict[str, list[Path]]:
        """The paths of each field, as keys, the preferred one first."""
        given = dict(self.fields)
        return {
            field: [keys_of(path) for path in given.get(field, (field,))] for field in (*ORDER_FIELDS, *ITEM_FIELDS)
        }

    def read_keys(self) -> set[str]:
        """The keys of an order that are read, or lead to what is."""
        paths = [path for field, paths in self.compiled().items() if field in ORDER_FIELDS for path in paths]
        return {path[0] for path in [*paths, keys_of(self.deleted_path)] if path}

    @property
    def reads_money(self) -> bool:
        """Whether it names fields, and reads an amount or prices. An order with neither is then suspicious."""
        if not self.fields:
            return False
        paths = self.compiled()
        return bool(paths["amount"] or (paths["items"] and paths["price"]))

    @property
    def amount_paths(self) -> tuple[str, ...]:
        """The paths of the amount, if it names them."""
        return dict(self.fields).get("amount", ())

    @property
    def is_direct(self) -> bool:
        """Whether the fields of orders are spelled as in docs/INPUT.md. Extra columns change nothing about these."""
        return self == DIRECT or (bool(self.columns) and replace(self, columns=()) == DIRECT)

    @property
    def extra_columns(self) -> Columns:
        """The extra columns without their paths."""
        return tuple((name, kind) for name, kind, _ in self.columns)

    @property
    def column_keys(self) -> set[str]:
        """The keys of an order that extra columns read, or that lead to what they read."""
        return {keys_of(path)[0] for _, _, paths in self.columns for path in paths}

    @property
    def of_orders(self) -> FieldMapping:
        """The same without what concerns only CSV files, so that a source with usual orders keeps the default."""
        is_already = not self.users and not self.products and self.encoding == "utf-8"
        return self if is_already else replace(self, users=(), products=(), encoding="utf-8")

    def to_json(self) -> str:
        """The mapping as text: the same text for the same mapping, and "" for the default."""
        return "" if self == FieldMapping() else json.dumps(asdict(self), separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> FieldMapping:
        """The reverse of to_json. ValueError, KeyError or TypeError where the text is no mapping."""
        if not text:
            return cls()
        return cls.from_dict(json.loads(text))

    @classmethod
    def from_dict(cls, found: dict[str, Any] | None) -> FieldMapping:
        """The mapping with these attributes, as JSON has them; the default for None."""
        if found is None:
            return cls()
        values = dict(found)
        for name in ("fields", "users", "products"):
            values[name] = tuple((field, tuple(paths)) for field, paths in values.get(name, ()))
        values["deleted_values"] = tuple(values["deleted_values"])
        values["columns"] = tuple((name, kind, tuple(paths)) for name, kind, paths in values.get("columns", ()))
        return cls(**values)


def keys_of(path: str) -> Path:
    """The keys of a path; none for ""."""
    return tuple(path.split(".")) if path else ()


DIRECT = FieldMapping()
