//! `COMMAND` and the `HELP` of containers: the command table, told to clients.
//!
//! Called through the command table, which it only reads.

use cartwright_core::glob::Pattern;
use cartwright_protocol::resp::{Arguments, Writer};

use super::commands::{Command, Flags, Group, all, count, find};
use super::connection::Call;
use super::context::CARTWRIGHT_VERSION;

pub(super) fn command(call: &mut Call<'_>) {
    let mut writer = call.writer();
    writer.array(count());
    for command in all() {
        write_info(&mut writer, None, command);
    }
}

pub(super) fn command_count(call: &mut Call<'_>) {
    call.writer().count(count() as u64);
}

pub(super) fn command_info(call: &mut Call<'_>) {
    let names = call.arguments.from(2);
    if names.is_empty() {
        return command(call);
    }
    let mut writer = call.writer();
    writer.array(names.len());
    for name in names.iter() {
        match named(name) {
            Some((container, command)) => write_info(&mut writer, container, command),
            None => writer.null_array(),
        }
    }
}

pub(super) fn command_docs(call: &mut Call<'_>) {
    let names = call.arguments.from(2);
    let found: Vec<_> = if names.is_empty() {
        all().map(|command| (None, command)).collect()
    } else {
        names.iter().filter_map(named).collect()
    };
    let mut writer = call.writer();
    writer.map(found.len());
    for (container, command) in found {
        write_docs(&mut writer, container, command);
    }
}

pub(super) fn command_list(call: &mut Call<'_>) {
    let arguments = call.arguments;
    let words = (arguments.get(2), arguments.get(3), arguments.get(4));
    let is_filter = |word: &[u8]| word.eq_ignore_ascii_case(b"FILTERBY");
    let names: Vec<_> = match words {
        (None, ..) => all().collect(),
        (Some(filter), Some(kind), Some(value)) if is_filter(filter) && arguments.len() == 5 => {
            if kind.eq_ignore_ascii_case(b"PATTERN") {
                all()
                    .filter(|command| Pattern::new(value).matches_in_any_case(command.name.as_bytes()))
                    .collect()
            } else if kind.eq_ignore_ascii_case(b"ACLCAT") {
                let is_in = |command: &&Command| {
                    categories(None, command)
                        .iter()
                        .any(|category| category.as_bytes()[1..].eq_ignore_ascii_case(value))
                };
                all().filter(is_in).collect()
            } else if kind.eq_ignore_ascii_case(b"MODULE") {
                Vec::new()
            } else {
                return call.syntax_error();
            }
        }
        _ => return call.syntax_error(),
    };
    let mut writer = call.writer();
    writer.array(names.len());
    for command in names {
        writer.text(command.name);
    }
}

pub(super) fn command_getkeys(call: &mut Call<'_>) {
    let inner: Arguments<'_> = call.arguments.from(2);
    let Some(command) = inner.get(0).and_then(find) else {
        return call.error("ERR Invalid command specified");
    };
    let subcommand = inner.get(1).and_then(|word| command.subcommand(word));
    let command = subcommand.unwrap_or(command);
    if !command.takes(inner.len()) {
        return call.error("ERR Invalid number of arguments specified for command");
    }
    let Some(places) = command.keys.of(inner) else {
        return call.error("ERR Invalid arguments specified for command");
    };
    let keys: Vec<_> = places.indices().filter_map(|place| inner.get(place)).collect();
    if keys.is_empty() {
        return call.error("ERR The command has no key arguments");
    }
    let mut writer = call.writer();
    writer.array(keys.len());
    for key in keys {
        writer.bulk(key);
    }
}

pub(super) fn help(call: &mut Call<'_>) {
    let container = call.container.unwrap_or(call.command);
    let mut lines = vec![format!(
        "{} <subcommand> [<arg> ...]. Subcommands are:",
        container.name.to_ascii_uppercase()
    )];
    for subcommand in container.subcommands {
        lines.push(
            format!("{} {}", subcommand.name.to_ascii_uppercase(), subcommand.syntax)
                .trim_end()
                .to_owned(),
        );
        lines.push(format!("    {}", subcommand.summary));
    }
    let mut writer = call.writer();
    writer.array(lines.len());
    for line in lines {
        writer.simple(&line);
    }
}

/// `name`, or `container|name`.
fn named(name: &[u8]) -> Option<(Option<&'static Command>, &'static Command)> {
    match name.iter().position(|&byte| byte == b'|') {
        None => find(name).map(|command| (None, command)),
        Some(bar) => {
            let container = find(&name[..bar])?;
            container
                .subcommand(&name[bar + 1..])
                .map(|command| (Some(container), command))
        }
    }
}

fn full_name(container: Option<&Command>, command: &Command) -> String {
    container.map_or_else(
        || command.name.to_owned(),
        |container| format!("{}|{}", container.name, command.name),
    )
}

fn group_of(container: Option<&Command>, command: &Command) -> Group {
    let group = container.unwrap_or(command).group;
    group.expect("every command is in a group")
}

fn categories(container: Option<&Command>, command: &Command) -> Vec<&'static str> {
    let mut categories = Vec::new();
    for (flag, category) in [
        (Flags::WRITE, "@write"),
        (Flags::READONLY, "@read"),
        (Flags::ADMIN, "@admin"),
        (Flags::BLOCKING, "@blocking"),
    ] {
        if command.flags.has(flag) {
            categories.push(category);
        }
    }
    if command.flags.has(Flags::ADMIN) {
        categories.push("@dangerous");
    }
    categories.push(if command.flags.has(Flags::FAST) {
        "@fast"
    } else {
        "@slow"
    });
    categories.extend(group_of(container, command).category());
    categories
}

fn write_words(writer: &mut Writer<'_>, words: &[&str]) {
    writer.set(words.len());
    for word in words {
        writer.simple(word);
    }
}

/// The ten elements of `COMMAND INFO`.
fn write_info(writer: &mut Writer<'_>, container: Option<&Command>, command: &Command) {
    writer.array(10);
    writer.text(&full_name(container, command));
    writer.integer(i64::from(command.arity));
    write_words(writer, &command.flags.words());
    let (first, last, step) = command.keys.told();
    for place in [first, last, step] {
        writer.integer(place);
    }
    write_words(writer, &categories(container, command));
    // Tips and key specifications.
    writer.array(0);
    writer.array(0);
    writer.array(command.subcommands.len());
    for subcommand in command.subcommands {
        write_info(writer, Some(command), subcommand);
    }
}

/// A name and the map of its documentation.
fn write_docs(writer: &mut Writer<'_>, container: Option<&Command>, command: &Command) {
    let is_container = !command.subcommands.is_empty();
    // What follows a container's name are its subcommands.
    let arguments = if is_container {
        Vec::new()
    } else {
        parameters(command.syntax)
    };
    writer.text(&full_name(container, command));
    writer.map(3 + usize::from(!arguments.is_empty()) + usize::from(is_container));
    for (field, value) in [
        ("summary", command.summary),
        ("since", CARTWRIGHT_VERSION),
        ("group", group_of(container, command).name()),
    ] {
        writer.text(field);
        writer.text(value);
    }
    if !arguments.is_empty() {
        writer.text("arguments");
        writer.array(arguments.len());
        for argument in &arguments {
            write_parameter(writer, argument);
        }
    }
    if is_container {
        writer.text("subcommands");
        writer.map(command.subcommands.len());
        for subcommand in command.subcommands {
            write_docs(writer, Some(command), subcommand);
        }
    }
}

/// One parameter of a command's syntax.
#[derive(Debug, PartialEq, Eq)]
struct Parameter<'a> {
    token: Option<&'a str>,
    name: &'a str,
    optional: bool,
}

fn write_parameter(writer: &mut Writer<'_>, parameter: &Parameter<'_>) {
    let is_token = parameter.name.is_empty();
    writer.map(2 + usize::from(parameter.token.is_some()) + usize::from(parameter.optional));
    writer.text("name");
    writer.text(if is_token {
        parameter.token.unwrap_or_default()
    } else {
        parameter.name
    });
    writer.text("type");
    writer.text(if is_token { "pure-token" } else { "string" });
    if let Some(token) = parameter.token {
        writer.text("token");
        writer.text(token);
    }
    if parameter.optional {
        writer.text("flags");
        write_words(writer, &["optional"]);
    }
}

/// The parameters of a syntax line: words, `TOKEN word`, and `[…]` for what may be left out.
fn parameters(syntax: &str) -> Vec<Parameter<'_>> {
    let mut parameters = Vec::new();
    let mut rest = syntax.trim_start();
    while !rest.is_empty() {
        let (part, optional, after) = if let Some(inner) = rest.strip_prefix('[') {
            let end = closing_bracket(inner);
            (&inner[..end], true, inner.get(end + 1..).unwrap_or_default())
        } else {
            let words = if is_token(first_word(rest)) { 2 } else { 1 };
            let end = rest.match_indices(' ').nth(words - 1).map_or(rest.len(), |(at, _)| at);
            (&rest[..end], false, &rest[end..])
        };
        let first = first_word(part);
        parameters.push(if is_token(first) {
            Parameter {
                token: Some(first),
                name: part[first.len()..].trim_start(),
                optional,
            }
        } else {
            Parameter {
                token: None,
                name: part,
                optional,
            }
        });
        rest = after.trim_start();
    }
    parameters
}

fn first_word(text: &str) -> &str {
    text.split(' ').next().unwrap_or_default()
}

fn is_token(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')
}

/// Where the bracket closes that was opened before `text`.
fn closing_bracket(text: &str) -> usize {
    let mut depth = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' => depth += 1,
            b']' if depth == 0 => return at,
            b']' => depth -= 1,
            _ => (),
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syntax_line_is_told_as_parameters() {
        let plain = |name| Parameter {
            token: None,
            name,
            optional: false,
        };
        let token = |token, name, optional| Parameter {
            token: Some(token),
            name,
            optional,
        };
        assert_eq!(
            parameters("customer KEY key [HOLD ms] LINES n sku qty [sku qty ...]"),
            [
                plain("customer"),
                token("KEY", "key", false),
                token("HOLD", "ms", true),
                token("LINES", "n", false),
                plain("sku"),
                plain("qty"),
                Parameter {
                    token: None,
                    name: "sku qty ...",
                    optional: true
                },
            ]
        );
        assert_eq!(parameters(""), []);
        assert_eq!(parameters("[a [B c]]").len(), 1);
    }
}
