-- Lines with a negative amount: refunds that were entered as orders, or a wrong sign.
SELECT date, order_id, line_number, sku, amount FROM fact_order WHERE amount < 0
