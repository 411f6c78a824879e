-- Orders and revenue by day and currency. `amount` of an order is the sum over its lines, so sum(amount) counts nothing twice.
SELECT date, currency, count(DISTINCT order_id) AS orders, count(DISTINCT user_id) AS buyers, sum(amount) AS amount
FROM fact_order
GROUP BY date, currency
