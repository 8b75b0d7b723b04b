//! From a command's name to its row: a hash table that the compiler builds.
//!
//! Asked for every command of every client. It knows the rows only by their names.

use cartwright_protocol::Operation;

use super::{Command, Group, connection, keyed, keys, pubsub, server, shop, transactions};
use crate::engine::entries::commands::LISTS;

/// The rows that stand beside this file, by group. Those of the shop come first.
const OWN: [(Group, &[Command]); 6] = [
    (Group::Shop, shop::COMMANDS),
    (Group::Keys, keys::COMMANDS),
    (Group::Transactions, transactions::COMMANDS),
    (Group::PubSub, pubsub::COMMANDS),
    (Group::Connection, connection::COMMANDS),
    (Group::Server, server::COMMANDS),
];

const COUNT: usize = {
    let (mut count, mut list) = (0, 0);
    while list < OWN.len() {
        count += OWN[list].1.len();
        list += 1;
    }
    list = 0;
    while list < LISTS.len() {
        count += LISTS[list].len();
        list += 1;
    }
    count
};

/// All rows, each with its number: first those beside this file, then those of the engine's commands on keys.
static COMMANDS: [Command; COUNT] = {
    let mut rows = [OWN[0].1[0]; COUNT];
    let (mut number, mut list) = (0, 0);
    while list < OWN.len() {
        let (group, table) = OWN[list];
        let mut row = 0;
        while row < table.len() {
            rows[number] = table[row];
            rows[number].group = Some(group);
            rows[number].number = number as u16;
            number += 1;
            row += 1;
        }
        list += 1;
    }
    list = 0;
    while list < LISTS.len() {
        let mut row = 0;
        while row < LISTS[list].len() {
            rows[number] = keyed(LISTS[list][row]);
            rows[number].group = Some(LISTS[list][row].group);
            rows[number].number = number as u16;
            number += 1;
            row += 1;
        }
        list += 1;
    }
    rows
};

/// Longest name, container and subcommand apart.
pub(in crate::session) const NAME_BYTES_MAX: usize = 24;

/// Places in the index: a power of two, at least four times the commands.
const INDEX_LENGTH: usize = 1024;

const fn place(name: &[u8]) -> usize {
    let mut hash = name.len() as u32;
    let mut at = 0;
    while at < name.len() {
        hash = hash.wrapping_mul(31) ^ name[at].to_ascii_lowercase() as u32;
        at += 1;
    }
    (hash ^ hash >> 10) as usize % INDEX_LENGTH
}

/// Where each command stands, by its number: open addressing.
static INDEX: [Option<u16>; INDEX_LENGTH] = {
    assert!(COUNT * 4 <= INDEX_LENGTH);
    let mut index = [None; INDEX_LENGTH];
    let mut number = 0;
    while number < COUNT {
        let name = COMMANDS[number].name.as_bytes();
        assert!(name.len() <= NAME_BYTES_MAX);
        let mut at = place(name);
        while index[at].is_some() {
            at = (at + 1) % INDEX_LENGTH;
        }
        index[at] = Some(number as u16);
        number += 1;
    }
    index
};

/// The command with this name, in any case.
#[inline]
pub(in crate::session) fn find(name: &[u8]) -> Option<&'static Command> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let mut at = place(name);
    while let Some(number) = INDEX[at] {
        let command = &COMMANDS[usize::from(number)];
        if command.name.as_bytes().eq_ignore_ascii_case(name) {
            return Some(command);
        }
        at = (at + 1) % INDEX_LENGTH;
    }
    None
}

/// The row of the command that says the same in RESP.
#[inline]
pub(in crate::session) fn shop_row(operation: &Operation) -> &'static Command {
    &COMMANDS[operation.number()]
}

/// All commands.
pub(in crate::session) fn all() -> impl Iterator<Item = &'static Command> + Clone {
    COMMANDS.iter()
}

/// A number for each command below [`count`], without gaps.
pub(in crate::session) fn number(command: &Command) -> usize {
    assert!(
        command.group.is_some(),
        "only commands have a number, and not their subcommands"
    );
    usize::from(command.number)
}

/// How many commands there are.
pub(in crate::session) const fn count() -> usize {
    COUNT
}

#[cfg(test)]
mod tests {
    use super::super::{Flags, Handler};
    use super::*;

    #[test]
    fn every_command_is_found_in_any_case() {
        for command in all() {
            assert_eq!(command.name, command.name.to_ascii_lowercase());
            for name in [command.name.to_owned(), command.name.to_ascii_uppercase()] {
                assert!(
                    std::ptr::eq(find(name.as_bytes()).expect("in the index"), command),
                    "{name}"
                );
            }
        }
        for unknown in ["", "nosuch", "item.pu", "item.putt", "x", "item\u{0}put"] {
            assert!(find(unknown.as_bytes()).is_none(), "{unknown}");
        }
        assert!(find(&[0xff; 1000]).is_none());
    }

    #[test]
    fn every_command_has_a_number_of_its_own() {
        let numbers: Vec<_> = all().map(number).collect();
        assert_eq!(numbers, (0..count()).collect::<Vec<_>>());
    }

    #[test]
    fn every_row_is_whole() {
        fn check(command: &Command) {
            let name = command.name;
            assert!(command.arity != 0 && command.summary.ends_with('.'), "{name}");
            assert_eq!(
                matches!(command.handler, Handler::Container),
                !command.subcommands.is_empty() && name != "command",
                "{name}: a container is what has subcommands"
            );
            let both = Flags::WRITE.and(Flags::READONLY);
            assert!(!command.flags.has(both), "{name} cannot both write and not");
            for subcommand in command.subcommands {
                assert!(
                    subcommand.subcommands.is_empty(),
                    "{name}: subcommands have none of their own"
                );
                assert!(subcommand.group.is_none(), "{name}: the group is that of the container");
                check(subcommand);
            }
        }
        all().for_each(check);
    }
}
