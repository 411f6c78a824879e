"""The same with dbt-duckdb: two incremental models over the drop, by delete and insert, in a DuckDB file.

    python incremental_dbt.py OUT build INBOX_GLOB
    python incremental_dbt.py OUT merge DROP

An order is replaced by its key wherever it was.
"""

from __future__ import annotations

import sys
from pathlib import Path

from dbt.cli.main import dbtRunner
from dbt_models import PROFILE, PROJECT

CONFIG = '{{ config(materialized="incremental", incremental_strategy="delete+insert", unique_key="order_id") }}\n'
READ = """\
read_json('{{ var("source") }}', columns = {
  order_id: 'VARCHAR', user_id: 'VARCHAR', amount: 'DECIMAL(18,4)', currency: 'VARCHAR', created_at: 'TIMESTAMPTZ',
  items: 'STRUCT(sku VARCHAR, qty DECIMAL(18,4), price DECIMAL(18,4))[]', metadata: 'JSON'})
"""
MODELS = {
    "fact_order": "SELECT order_id, user_id, item.sku, amount, item.qty, item.price, created_at, created_at::DATE AS date, "
    f"currency, metadata FROM (SELECT *, unnest(items) AS item FROM {READ})",
    "order_items": "SELECT order_id, item.sku, item.qty, item.price, created_at::DATE AS date "
    f"FROM (SELECT *, unnest(items) AS item FROM {READ})",
}


def main() -> None:
    out, source = Path(sys.argv[1]), sys.argv[3]
    (out / "models").mkdir(parents=True, exist_ok=True)
    (out / "dbt_project.yml").write_text(PROJECT)
    (out / "profiles.yml").write_text(PROFILE.format(path=out / "sales.duckdb"))
    for name, select in MODELS.items():
        (out / "models" / f"{name}.sql").write_text(CONFIG + select)
    command = [
        "run",
        "--project-dir",
        str(out),
        "--profiles-dir",
        str(out),
        "--quiet",
        "--vars",
        f'{{source: "{source}"}}',
    ]
    sys.exit(0 if dbtRunner().invoke(command).success else 1)


if __name__ == "__main__":
    main()
