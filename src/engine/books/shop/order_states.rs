//! The state machine of orders: which states follow which, and what each step asks of stock.

use cartwright_protocol::OrderState;

use crate::engine::books::shop::inventory::StockChange;

/// What a change of state asks of the stock of an order's lines.
pub const fn stock_change(from: OrderState, to: OrderState) -> Option<StockChange> {
    match (from, to) {
        (OrderState::Held, OrderState::Placed) => Some(StockChange::Confirm),
        (OrderState::Held, OrderState::Cancelled | OrderState::Expired) => Some(StockChange::ReleaseHeld),
        (OrderState::Placed, OrderState::Cancelled) => Some(StockChange::ReleaseCommitted),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_moves_of_the_diagram_are_possible() {
        let possible: Vec<_> = OrderState::ALL
            .into_iter()
            .flat_map(|from| OrderState::ALL.map(|to| (from, to)))
            .filter(|&(from, to)| stock_change(from, to).is_some())
            .collect();
        assert_eq!(
            possible,
            [
                (OrderState::Held, OrderState::Placed),
                (OrderState::Held, OrderState::Cancelled),
                (OrderState::Held, OrderState::Expired),
                (OrderState::Placed, OrderState::Cancelled),
            ]
        );
    }
}
