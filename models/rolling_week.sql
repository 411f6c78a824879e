-- Revenue of the last seven days, for each day with orders.
-- lookback = 6
SELECT date, currency, amount,
       sum(amount) OVER (
           PARTITION BY currency ORDER BY date RANGE BETWEEN INTERVAL 6 DAYS PRECEDING AND CURRENT ROW
       ) AS amount_of_week
FROM daily_sales
