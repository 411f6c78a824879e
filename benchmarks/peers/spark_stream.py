"""The same with PySpark: a structured stream over the folder, run once (AvailableNow), two Parquet sinks by date.

python spark_stream.py 'inbox/*.ndjson' out
"""

from __future__ import annotations

import sys
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

SCHEMA = """order_id STRING, user_id STRING, amount DECIMAL(18,4), currency STRING, created_at TIMESTAMP,
items ARRAY<STRUCT<sku: STRING, qty: DECIMAL(18,4), price: DECIMAL(18,4)>>, metadata STRUCT<source: STRING, promo: STRING>"""


def run(source: str, out: Path) -> None:
    """Runs the whole job on two local cores."""
    spark = (
        SparkSession.builder.master("local[2]").appName("orders").config("spark.sql.session.timeZone", "UTC")
        .config("spark.ui.enabled", "false").config("spark.sql.shuffle.partitions", "2")
        .config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.host", "127.0.0.1")
        .config("spark.log.level", "ERROR").getOrCreate()
    )  # fmt: skip
    folder = Path(source).parent.resolve()

    def write(batch: DataFrame, _: int) -> None:
        orders = batch.withColumn("date", F.to_date("created_at")).dropDuplicates(["order_id"]).persist()
        lines = orders.withColumn("item", F.explode_outer("items"))
        facts = lines.select(
            "order_id", "user_id", "item.sku", "amount", "item.qty", "item.price", "created_at", "currency",
            F.to_json("metadata").alias("metadata"), "date",
        )  # fmt: skip
        facts.write.mode("append").partitionBy("date").parquet(str(out / "fact_order"))
        items = lines.select("order_id", "item.sku", "item.qty", "item.price", "date")
        items.write.mode("append").partitionBy("date").parquet(str(out / "order_items"))
        orders.unpersist()

    stream = spark.readStream.schema(SCHEMA).json(str(folder))
    query = stream.writeStream.foreachBatch(write).option("checkpointLocation", str(out / "checkpoint"))
    query.trigger(availableNow=True).start().awaitTermination()
    spark.stop()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: spark_stream.py INPUT_GLOB OUTPUT_FOLDER")
    run(sys.argv[1], Path(sys.argv[2]))
