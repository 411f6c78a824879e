-- Products in orders that no drop of products has named.
SELECT sku, count(DISTINCT order_id) AS orders, min(date) AS first_date, max(date) AS last_date
FROM order_items ANTI JOIN dim_product USING (sku)
WHERE sku IS NOT NULL
GROUP BY sku
