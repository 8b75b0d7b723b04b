//! From a command's name to its row: a hash table that the compiler builds.
//!
//! Asked for every command of every client. It knows the rows only by their names.

use cartwright_protocol::Operation;

use super::{Command, Group, bits, connection, hashes, keys, pubsub, server, shop, strings, transactions};

/// The rows as their files have them, in the order of the groups.
const TABLES: [&[Command]; 9] = [
    shop::COMMANDS,
    keys::COMMANDS,
    strings::COMMANDS,
    bits::COMMANDS,
    hashes::COMMANDS,
    transactions::COMMANDS,
    pubsub::COMMANDS,
    connection::COMMANDS,
    server::COMMANDS,
];

/// The rows of a group, each with its group and its number.
const fn in_group<const COUNT: usize>(group: Group) -> [Command; COUNT] {
    let table = TABLES[group as usize];
    assert!(table.len() == COUNT, "a group has the rows of its file");
    let (mut first, mut before) = (0, 0);
    while before < group as usize {
        first += TABLES[before].len();
        before += 1;
    }
    let mut rows = [table[0]; COUNT];
    let mut row = 0;
    while row < COUNT {
        rows[row] = table[row];
        rows[row].group = Some(group);
        rows[row].number = (first + row) as u16;
        row += 1;
    }
    rows
}

static SHOP: [Command; shop::COMMANDS.len()] = in_group(Group::Shop);
static KEYS: [Command; keys::COMMANDS.len()] = in_group(Group::Keys);
static STRINGS: [Command; strings::COMMANDS.len()] = in_group(Group::Strings);
static BITS: [Command; bits::COMMANDS.len()] = in_group(Group::Bits);
static HASHES: [Command; hashes::COMMANDS.len()] = in_group(Group::Hashes);
static TRANSACTIONS: [Command; transactions::COMMANDS.len()] = in_group(Group::Transactions);
static PUBSUB: [Command; pubsub::COMMANDS.len()] = in_group(Group::PubSub);
static CONNECTION: [Command; connection::COMMANDS.len()] = in_group(Group::Connection);
static SERVER: [Command; server::COMMANDS.len()] = in_group(Group::Server);

/// All rows, a slice a group, in the order of the groups.
static GROUPS: [&[Command]; TABLES.len()] = [
    &SHOP,
    &KEYS,
    &STRINGS,
    &BITS,
    &HASHES,
    &TRANSACTIONS,
    &PUBSUB,
    &CONNECTION,
    &SERVER,
];

/// Longest name, container and subcommand apart.
pub(in crate::session) const NAME_BYTES_MAX: usize = 24;

/// Places in the index: a power of two, at least four times the commands.
const INDEX_LENGTH: usize = 1024;

/// A place: group and row, or nothing.
type Place = Option<(u8, u8)>;

const fn place(name: &[u8]) -> usize {
    let mut hash = name.len() as u32;
    let mut at = 0;
    while at < name.len() {
        hash = hash.wrapping_mul(31) ^ name[at].to_ascii_lowercase() as u32;
        at += 1;
    }
    (hash ^ hash >> 10) as usize % INDEX_LENGTH
}

/// Where each command stands: open addressing.
static INDEX: [Place; INDEX_LENGTH] = {
    let mut index = [None; INDEX_LENGTH];
    let (mut group, mut count) = (0, 0);
    while group < GROUPS.len() {
        let mut row = 0;
        assert!(GROUPS[group].len() <= u8::MAX as usize);
        while row < GROUPS[group].len() {
            let name = GROUPS[group][row].name.as_bytes();
            assert!(name.len() <= NAME_BYTES_MAX);
            let mut at = place(name);
            while index[at].is_some() {
                at = (at + 1) % INDEX_LENGTH;
            }
            index[at] = Some((group as u8, row as u8));
            row += 1;
            count += 1;
        }
        group += 1;
    }
    assert!(count * 4 <= INDEX_LENGTH);
    index
};

/// The command with this name, in any case.
#[inline]
pub(in crate::session) fn find(name: &[u8]) -> Option<&'static Command> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let mut at = place(name);
    while let Some((group, row)) = INDEX[at] {
        let command = &GROUPS[usize::from(group)][usize::from(row)];
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
    &SHOP[operation.number()]
}

/// All commands, by group.
pub(in crate::session) fn all() -> impl Iterator<Item = &'static Command> + Clone {
    GROUPS.iter().flat_map(|rows| rows.iter())
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
pub(in crate::session) fn count() -> usize {
    GROUPS.iter().map(|rows| rows.len()).sum()
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
