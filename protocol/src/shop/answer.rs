//! What commands are answered with: the type a client gets, the replies that carry it, and how long they can be.

use crate::native::ReplyOpcode;
use crate::{
    AuditReport, CART_LINES_MAX, ItemView, OrderState, OrderSummary, OrderView, Receipt, Reply, StockView,
    TEXT_LENGTH_MAX,
};

/// Longest form of one line of an order on either protocol, field names included.
const ORDER_LINE_BYTES_MAX: usize = 220;

/// Longest form of one order in a list.
const SUMMARY_BYTES_MAX: usize = 180;

/// Longest form of any reply without lines, texts and lists, on either protocol.
pub const SMALL_REPLY_BYTES: usize = 512;

/// The type of a command's answer, refusals apart.
pub trait Answer: Sized {
    /// The replies that carry it.
    const REPLIES: &'static [ReplyOpcode];

    /// How much longer than [`SMALL_REPLY_BYTES`] it can be.
    const BYTES_MAX: usize = 0;

    /// The same, for each element of a list whose length the command bounds.
    const ELEMENT_BYTES_MAX: usize = 0;

    /// The answer in a reply, or the reply where it carries another.
    fn from_reply(reply: Reply) -> Result<Self, Reply>;
}

macro_rules! answers {
    ($($type:ty { $($reply:pat => $answer:expr),+ } in [$($opcode:ident),+] $(of $constant:ident $bytes:expr)?;)*) => {$(
        impl Answer for $type {
            const REPLIES: &'static [ReplyOpcode] = &[$(ReplyOpcode::$opcode),+];
            $(const $constant: usize = $bytes;)?

            fn from_reply(reply: Reply) -> Result<Self, Reply> {
                match reply {
                    $($reply => Ok($answer),)+
                    other => Err(other),
                }
            }
        }
    )*};
}

answers! {
    () { Reply::Ok => () } in [Ok];
    i64 { Reply::Integer(integer) => integer } in [Integer];
    Option<ItemView> { Reply::Item(item) => Some(*item), Reply::Null => None } in [Item, Null] of BYTES_MAX TEXT_LENGTH_MAX;
    StockView { Reply::Stock(stock) => stock } in [Stock];
    Receipt { Reply::Receipt(receipt) => receipt } in [Receipt];
    Option<OrderView> { Reply::Order(order) => Some(*order), Reply::Null => None } in [Order, Null]
        of BYTES_MAX CART_LINES_MAX * ORDER_LINE_BYTES_MAX;
    Vec<OrderSummary> { Reply::Orders(orders) => orders } in [Orders] of ELEMENT_BYTES_MAX SUMMARY_BYTES_MAX;
    OrderState { Reply::State(state) => state } in [State];
    AuditReport { Reply::Audit(report) => report } in [Audit];
}
