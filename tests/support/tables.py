"""Strategies for orders in the columns that both parsers return."""

from __future__ import annotations

from hypothesis import strategies as st

NUMBERS = st.integers(-(10**18) + 1, 10**18 - 1)


ORDER = st.fixed_dictionaries(
    {
        "order_id": st.text(st.characters(codec="utf-8"), min_size=1, max_size=8),
        "user_id": st.none() | st.sampled_from(["u_1", "u_2", ""]),
        "amount": st.none() | NUMBERS,
        "currency": st.none() | st.sampled_from(["USD", "EUR"]),
        "created_at": st.integers(1_767_000_000, 1_767_000_009).map(lambda s: s * 1_000_000),
        "updated_at": st.none() | st.just(1_767_000_000_000_000),
        "metadata": st.none() | st.just('{"a":1}'),
        "items": st.lists(
            st.fixed_dictionaries(
                {
                    "sku": st.none() | st.sampled_from(["p_1", "p_2"]),
                    "qty": st.none() | NUMBERS,
                    "price": st.none() | NUMBERS,
                }
            ),
            max_size=3,
        ),
    }
)
