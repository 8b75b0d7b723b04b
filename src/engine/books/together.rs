//! Commands of the shop and commands on keys in one transaction: what `EXEC` runs where both are among it.
//!
//! All of it happens or nothing does: a refusal of one command of the shop refuses the whole, and so does a watched key
//! that has changed. A command on keys that fails (a wrong type, say) does not undo the others, as in Redis. The
//! commands of the shop are about one slot's customers and their orders, whose shard is the home.

use std::collections::VecDeque;
use std::sync::Arc;

use cartwright_protocol::{Customer, Error, ErrorCode, Operation, OrderId, OrderState, Reply};
use compact_str::format_compact;
use smallvec::SmallVec;

use super::entries::{Answer, KeyRequest, refusal};
use super::purpose::{Outcome, Pieces, Purpose};
use super::shop::inventory::StockChange;
use super::shop::order_states::stock_change;
use super::shop::orders::{Decided, OrderChange};
use super::shop::piece::{StockPiece, pieces_of};
use crate::engine::kernel::ids::{LogPosition, ShardId};
use crate::engine::kernel::message::Response;
use crate::engine::kernel::reply_to::ReplyTo;
use crate::engine::kernel::request_keys::{KeptReply, KeyUse};
use crate::engine::kernel::shard::Step;
use crate::engine::kernel::transaction::home::Part;
use crate::engine::kernel::transaction::{InFlight, Refusal};

/// Commands of the shop, with commands on keys beside them.
#[derive(Debug)]
pub struct Together {
    /// The commands of the shop: `CHECKOUT`, at most one, `ORDER.CONFIRM` and `ORDER.CANCEL`, all at home in one slot.
    pub operations: Vec<Operation>,
    /// The commands on keys, and what is watched.
    pub entries: Option<Box<KeyRequest>>,
}

/// What a transaction over both answers.
#[derive(Clone, Debug, PartialEq)]
pub struct TogetherAnswer {
    /// The shop's replies, in order.
    pub replies: Vec<Reply>,
    /// The answers of the commands on keys, in order.
    pub answers: Vec<Answer>,
}

/// A transaction over both at its home.
#[derive(Debug)]
pub struct TogetherPurpose {
    commands: Vec<Command>,
    /// The commands on keys.
    pub(super) entries: Option<Arc<KeyRequest>>,
    /// What they answer, once they were run.
    pub(super) answer: Option<Answer>,
    /// A watched key has changed: nothing is done, and the answer is null.
    pub(super) is_outdated: bool,
}

/// A command of the shop, as far as it is known before anything is reserved.
#[derive(Debug)]
enum Command {
    /// It changes nothing: its key has its answer, or the order is where it is to be.
    Done(Reply),
    Checkout {
        customer: Customer,
        hold_ms: Option<u32>,
        key: KeyUse,
    },
    Move {
        id: OrderId,
        from: OrderState,
        to: OrderState,
        key: Option<KeyUse>,
    },
}

impl Command {
    fn key(&self) -> Option<&KeyUse> {
        match self {
            Self::Done(_) => None,
            Self::Checkout { key, .. } => Some(key),
            Self::Move { key, .. } => key.as_ref(),
        }
    }
}

/// Why nothing was begun, and what that reveals of this shard's log.
type Refused = (Error, LogPosition);

impl Step<'_> {
    /// Commands of the shop and commands on keys, whose home is this shard.
    pub fn on_together(&mut self, reply_to: ReplyTo, together: Box<Together>) {
        if self.shard.auditing.is_paused() {
            let limit = self.shard.limits.waiting_max;
            if self.shard.paused_together.len() >= limit {
                let error = self.shard.busy("changes waiting for an audit", limit);
                return self.refuse_together(reply_to, (error, LogPosition::ZERO));
            }
            return self.shard.paused_together.push_back((reply_to, together));
        }
        if let Err(refused) = self.begin_together(reply_to, *together) {
            self.refuse_together(reply_to, refused);
        }
    }

    /// An audit is over: what waited for its end goes on.
    pub fn resume_together(&mut self) {
        for (reply_to, together) in std::mem::take(&mut self.shard.paused_together) {
            self.on_together(reply_to, together);
        }
    }

    fn refuse_together(&mut self, reply_to: ReplyTo, (error, after): Refused) {
        self.answer_keys(reply_to, refusal(&error), after);
    }

    fn begin_together(&mut self, reply_to: ReplyTo, together: Together) -> Result<(), Refused> {
        let limit = self.shard.limits.transactions_max;
        if self.shard.in_flight.len() >= limit {
            return Err(by_limit(self.shard.busy("transactions in flight", limit)));
        }
        if let Some(request) = &together.entries {
            self.spare_bytes(request, false).map_err(by_limit)?;
        }
        let mut commands = Vec::with_capacity(together.operations.len());
        let mut parts: SmallVec<[Part; 2]> = SmallVec::new();
        for operation in together.operations {
            let index = commands.len() as u16;
            let (command, pieces) = self.take_on(operation)?;
            if is_repeated(&commands, &command) {
                let text = "one transaction has one CHECKOUT at most, and changes an order once";
                return Err(by_limit(Error::new(ErrorCode::Err, text)));
            }
            for (shard, mut piece) in pieces {
                piece.command = index;
                part_on(&mut parts, shard).stock.push(piece);
            }
            commands.push(command);
        }
        let entries: Option<Arc<KeyRequest>> = together.entries.map(Arc::from);
        let mut waits = false;
        if let Some(request) = &entries {
            // What takes shards as a whole is never free in a shop that is open.
            waits = request.takes_shard(|_| true);
            for shard in super::entries::route_of(self.shard, request) {
                part_on(&mut parts, shard).entries = Some(request.clone());
            }
        }
        for command in &commands {
            if let Some(key) = command.key() {
                self.shard.keys_in_flight.begin(key);
            }
            if let Command::Move { id, .. } = command {
                self.shard.books.shop.locked_orders.insert(*id, VecDeque::new());
            }
        }
        let purpose = Purpose::Together(Box::new(TogetherPurpose {
            commands,
            entries,
            answer: None,
            is_outdated: false,
        }));
        self.begin_transaction(InFlight::new(Some(reply_to), None, purpose, parts), waits);
        Ok(())
    }

    /// What a command of the shop comes to before anything is reserved, and the units that it needs, by shard.
    fn take_on(&mut self, operation: Operation) -> Result<(Command, Vec<(ShardId, StockPiece)>), Refused> {
        let key = KeyUse::of(&operation, &mut self.shard.fingerprint);
        if let Some(key) = &key {
            let after = self.shard.state.slot(key.scope.slot()).changed_at;
            match self.kept_reply(key) {
                Some(Reply::Error(error)) => return Err((error, after)),
                Some(reply) => return Ok((Command::Done(reply), Vec::new())),
                None => {}
            }
            if self.shard.keys_in_flight.has(key) {
                let text = format_compact!("a request with key {} is in flight; try again in a moment", key.key);
                return Err(by_limit(Error::new(ErrorCode::Busy, text)));
            }
        }
        match operation {
            Operation::Checkout(checkout) => {
                self.check_checkout_bounds(checkout.lines.len()).map_err(by_limit)?;
                let lines = self.piece_lines(checkout.lines).map_err(by_limit)?;
                let (customer, hold_ms) = (checkout.customer, checkout.hold_ms);
                let stock = if hold_ms.is_some() {
                    StockChange::Hold
                } else {
                    StockChange::Commit
                };
                let key = key.expect("a checkout has a key");
                let command = Command::Checkout { customer, hold_ms, key };
                Ok((command, pieces_of(stock, lines)))
            }
            Operation::OrderConfirm(change) => self.take_on_move(change.id, OrderState::Placed, key),
            Operation::OrderCancel(change) => self.take_on_move(change.id, OrderState::Cancelled, key),
            other => {
                let text = format_compact!("{} cannot be part of a MULTI", other.spec().name);
                Err(by_limit(Error::new(ErrorCode::Err, text)))
            }
        }
    }

    fn take_on_move(
        &mut self,
        id: OrderId,
        to: OrderState,
        key: Option<KeyUse>,
    ) -> Result<(Command, Vec<(ShardId, StockPiece)>), Refused> {
        let changing = || format_compact!("order {id} is changing; try again in a moment");
        if self.shard.books.shop.locked_orders.contains_key(&id) {
            return Err(by_limit(Error::new(ErrorCode::Busy, changing())));
        }
        let reveals = self.shard.state.slot(id.slot()).changed_at;
        let Some(order) = self.shard.state.order(id) else {
            let error = Error::new(ErrorCode::NoOrder, format_compact!("there is no order {id}"));
            return Err((error, reveals));
        };
        if order.expires_at().is_some_and(|at| at <= self.shard.now) {
            // Its time is over: the next tick ends it.
            return Err(by_limit(Error::new(ErrorCode::Busy, changing())));
        }
        let from = order.state();
        if from == to {
            return Ok((Command::Done(Reply::State(to)), Vec::new()));
        }
        let Some(stock) = stock_change(from, to) else {
            let text = format_compact!("order {id} is {from} and cannot become {to}");
            return Err((Error::new(ErrorCode::State, text), reveals));
        };
        let pieces = pieces_of(stock, self.order_lines(id));
        Ok((Command::Move { id, from, to, key }, pieces))
    }

    /// What a transaction over both comes to, all of whose parts are reserved.
    pub fn together_decision(&mut self, in_flight: &mut InFlight) -> Result<(Vec<Decided>, Outcome), Refusal> {
        let Purpose::Together(together) = &mut in_flight.purpose else {
            unreachable!("called for a transaction over both")
        };
        let commands = std::mem::take(&mut together.commands);
        let decided = self.decide_commands(in_flight, &commands);
        let Purpose::Together(together) = &mut in_flight.purpose else {
            unreachable!("looked at above")
        };
        together.commands = commands;
        decided
    }

    fn decide_commands(
        &mut self,
        in_flight: &mut InFlight,
        commands: &[Command],
    ) -> Result<(Vec<Decided>, Outcome), Refusal> {
        let (mut changes, mut replies) = (Vec::new(), Vec::with_capacity(commands.len()));
        for (index, command) in commands.iter().enumerate() {
            let index = index as u16;
            let (change, kept, key) = match command {
                Command::Done(reply) => {
                    replies.push(reply.clone());
                    continue;
                }
                Command::Checkout { customer, hold_ms, key } => {
                    let order = self.order_of(in_flight, index, customer, *hold_ms, key)?;
                    let kept = KeptReply::Receipt(order.receipt());
                    (OrderChange::Made(order), kept, None)
                }
                &Command::Move { id, from, to, ref key } => {
                    let change = OrderChange::Moved {
                        id,
                        from,
                        to,
                        at: self.shard.now,
                        lines: in_flight.own_lines(self.shard.id, index),
                    };
                    (change, KeptReply::State(to), key.clone())
                }
            };
            replies.push(kept.to_reply());
            let key = key.map(|key| key.answered(self.shard.now, kept));
            changes.push(Decided { change, key });
        }
        Ok((changes, Outcome::Together(replies)))
    }

    /// A transaction over both is over: answers who asked and who joined, and lets go of its orders.
    pub fn finish_together(
        &mut self,
        reply_to: ReplyTo,
        together: TogetherPurpose,
        outcome: Outcome,
        after: LogPosition,
    ) {
        let response = match outcome {
            Outcome::Together(ref replies) => {
                for (command, reply) in together.commands.iter().zip(replies) {
                    self.answer_all(None, command.key(), reply, after);
                }
                let answers = match together.answer {
                    Some(Answer::Array(answers)) => answers,
                    _ => Vec::new(),
                };
                let replies = replies.clone();
                Response::Together(Box::new(TogetherAnswer { replies, answers }))
            }
            Outcome::Refused(error) => {
                for command in &together.commands {
                    self.answer_all(None, command.key(), &Reply::Error(error.clone()), after);
                }
                Response::Keys(if together.is_outdated {
                    Answer::NilArray
                } else {
                    refusal(&error)
                })
            }
            Outcome::Kept(_) | Outcome::Answer(_) => unreachable!("those are of transactions over one book"),
        };
        self.output.replies.push((reply_to, response, after));
        for command in &together.commands {
            if let Command::Move { id, .. } = command {
                self.unlock_order(*id);
            }
        }
    }
}

const fn by_limit(error: Error) -> Refused {
    (error, LogPosition::ZERO)
}

/// Whether a transaction that has these commands cannot have that one, too.
fn is_repeated(commands: &[Command], command: &Command) -> bool {
    commands.iter().any(|other| match (other, command) {
        (Command::Checkout { .. }, Command::Checkout { .. }) => true,
        (Command::Move { id: one, .. }, Command::Move { id: other, .. }) => one == other,
        _ => false,
    })
}

/// The pieces on this shard, which keep the shards in order.
fn part_on(parts: &mut SmallVec<[Part; 2]>, shard: ShardId) -> &mut Pieces {
    let index = match parts.binary_search_by_key(&shard, |part| part.shard) {
        Ok(index) => index,
        Err(index) => {
            parts.insert(index, Part::new(shard, Pieces::default()));
            index
        }
    };
    &mut parts[index].pieces
}
