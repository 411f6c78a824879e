"""The same model with dbt-duckdb, incremental by date: the stale dates are deleted and inserted again into a DuckDB table.

    python dbt_models.py CURATED OUT build|DATES_FILE

`build` makes all dates. DATES_FILE has the stale dates, a line each; they become a literal list, so that DuckDB reads only their
files.
"""

from __future__ import annotations

import sys
from pathlib import Path

from dbt.cli.main import dbtRunner

PROJECT = """\
name: sales
version: "1.0"
profile: sales
model-paths: [models]
flags: {send_anonymous_usage_stats: false}
"""
PROFILE = """\
sales:
  target: dev
  outputs: {{dev: {{type: duckdb, path: '{path}', threads: 2}}}}
"""
MODEL = """\
{{{{ config(materialized="incremental", incremental_strategy="delete+insert", unique_key="date") }}}}
SELECT * FROM ({select}) AS result
{{% if var("dates", none) %}} WHERE date IN ({{{{ var("dates") }}}}) {{% endif %}}
"""


def main() -> None:
    curated, out, dates = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    select = sys.stdin.read()
    (out / "models").mkdir(parents=True, exist_ok=True)
    (out / "dbt_project.yml").write_text(PROJECT)
    (out / "profiles.yml").write_text(PROFILE.format(path=out / "sales.duckdb"))
    source = f"read_parquet('{curated}/date=*/fact_order.parquet', hive_partitioning = true)"
    (out / "models" / "daily_products.sql").write_text(MODEL.format(select=select.replace("fact_order", source)))
    command = ["run", "--project-dir", str(out), "--profiles-dir", str(out), "--quiet"]
    if dates != "build":
        listed = ", ".join(f"'{date}'" for date in Path(dates).read_text().split())
        command += ["--vars", f'{{dates: "{listed}"}}']
    sys.exit(0 if dbtRunner().invoke(command).success else 1)


if __name__ == "__main__":
    main()
