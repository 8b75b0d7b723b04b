//! Who on this shard subscribes to what.
//!
//! One for each shard, shared by its sessions: they enter and leave, the runtime asks whom a message is for. Not durable,
//! and never larger than the connections' own bounds allow.

use cartwright_core::glob::Pattern;
use hashbrown::{HashMap, HashSet};

use super::server_task::Message;

/// A connection, in the runtime's terms; opaque here.
pub type Address = u64;

/// The three kinds of subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `SUBSCRIBE`.
    Channel,
    /// `PSUBSCRIBE`.
    Pattern,
    /// `SSUBSCRIBE`.
    Sharded,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Channel, Self::Pattern, Self::Sharded];

    const fn of_channel(sharded: bool) -> Self {
        if sharded { Self::Sharded } else { Self::Channel }
    }
}

type Subscribers = HashSet<Address, ahash::RandomState>;

/// See the module.
#[derive(Debug, Default)]
pub struct Subscriptions {
    tables: [HashMap<Box<[u8]>, Subscribers, ahash::RandomState>; 3],
}

impl Subscriptions {
    /// Enters a subscription that is not there.
    pub(super) fn enter(&mut self, kind: Kind, name: &[u8], address: Address) {
        let table = &mut self.tables[kind as usize];
        let subscribers = table.entry(name.into()).or_default();
        let is_new = subscribers.insert(address);
        assert!(is_new, "a connection enters what it has not entered");
    }

    /// Ends a subscription that is there.
    pub(super) fn leave(&mut self, kind: Kind, name: &[u8], address: Address) {
        let table = &mut self.tables[kind as usize];
        let subscribers = table.get_mut(name).expect("a connection leaves what it has entered");
        let was_there = subscribers.remove(&address);
        assert!(was_there, "a connection leaves what it has entered");
        if subscribers.is_empty() {
            table.remove(name);
        }
    }

    /// Whether nobody subscribes to anything.
    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(HashMap::is_empty)
    }

    /// Calls `deliver` for everyone whom a message is for, once for each matching subscription: first for the channel's
    /// own, then by pattern. The pattern is told where there is one.
    pub fn each_receiver(&self, message: &Message, mut deliver: impl FnMut(Address, Option<&[u8]>)) {
        let kind = Kind::of_channel(message.sharded);
        for &address in self.tables[kind as usize].get(&*message.channel).into_iter().flatten() {
            deliver(address, None);
        }
        if message.sharded {
            return;
        }
        for (pattern, subscribers) in &self.tables[Kind::Pattern as usize] {
            if Pattern::new(pattern).matches(&message.channel) {
                for &address in subscribers {
                    deliver(address, Some(pattern));
                }
            }
        }
    }

    /// Channels that somebody subscribes to and that match the pattern.
    pub fn channels(&self, sharded: bool, pattern: Option<&[u8]>) -> Vec<Box<[u8]>> {
        self.tables[Kind::of_channel(sharded) as usize]
            .keys()
            .filter(|name| pattern.is_none_or(|pattern| Pattern::new(pattern).matches(name)))
            .cloned()
            .collect()
    }

    /// Patterns that somebody subscribes to.
    pub fn patterns(&self) -> Vec<Box<[u8]>> {
        self.tables[Kind::Pattern as usize].keys().cloned().collect()
    }

    /// How many subscribe to a channel.
    pub fn subscriber_count(&self, sharded: bool, channel: &[u8]) -> usize {
        self.tables[Kind::of_channel(sharded) as usize]
            .get(channel)
            .map_or(0, HashSet::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receivers(subscriptions: &Subscriptions, channel: &str, sharded: bool) -> Vec<(Address, Option<String>)> {
        let message = Message {
            channel: channel.as_bytes().into(),
            payload: Box::default(),
            sharded,
        };
        let mut receivers = Vec::new();
        subscriptions.each_receiver(&message, |address, pattern| {
            receivers.push((
                address,
                pattern.map(|pattern| String::from_utf8_lossy(pattern).into_owned()),
            ));
        });
        receivers.sort();
        receivers
    }

    #[test]
    fn a_message_is_for_each_subscription_that_matches() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.enter(Kind::Channel, b"news", 1);
        subscriptions.enter(Kind::Pattern, b"n*", 1);
        subscriptions.enter(Kind::Pattern, b"*s", 2);
        subscriptions.enter(Kind::Sharded, b"news", 3);
        assert_eq!(
            receivers(&subscriptions, "news", false),
            [(1, None), (1, Some("n*".into())), (2, Some("*s".into()))]
        );
        assert_eq!(receivers(&subscriptions, "news", true), [(3, None)]);
        assert_eq!(receivers(&subscriptions, "NEWS", false), []);
        subscriptions.leave(Kind::Pattern, b"n*", 1);
        subscriptions.leave(Kind::Channel, b"news", 1);
        assert_eq!(receivers(&subscriptions, "news", false), [(2, Some("*s".into()))]);
        subscriptions.leave(Kind::Pattern, b"*s", 2);
        subscriptions.leave(Kind::Sharded, b"news", 3);
        assert!(subscriptions.is_empty());
    }
}
