# Each customer on the day of the first order: how many orders since then, and for how much.
# whole
import pandas as pd


def model(fact_order: pd.DataFrame, dim_user: pd.DataFrame) -> pd.DataFrame:
    orders = fact_order.groupby(["user_id", "order_id"], as_index=False).agg({"date": "min", "amount": "sum"})
    customers = orders.groupby("user_id", as_index=False).agg(
        date=("date", "min"), last_date=("date", "max"), orders=("order_id", "count"), amount=("amount", "sum")
    )
    return customers.merge(dim_user[["user_id", "country"]], on="user_id", how="left").sort_values("user_id")
