"""Our Parquet files in the hands of libraries that others wrote."""
