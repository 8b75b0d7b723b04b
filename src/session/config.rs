//! `CONFIG`: the settings, told and changed.
//!
//! Called through the command table. Only what the server really heeds is a setting; what clients ask for and cannot
//! change is told as it is.

use std::borrow::Cow;

use cartwright_core::glob::Pattern;
use cartwright_protocol::resp::shown;

use super::connection::Call;
use super::context::SessionContext;
use super::server_task::{PendingTask, ShardQuery};
use super::settings::{SettingError, Settings};

/// A setting's name, and what gives its value.
type Fixed = (&'static str, fn(&SessionContext) -> String);

/// Settings that do not change while the server runs.
const FIXED: &[Fixed] = &[
    ("appendfsync", |context| context.fixed.appendfsync.to_owned()),
    ("appendonly", |_| "yes".to_owned()),
    ("bind", |context| context.fixed.bind.clone()),
    ("cluster-enabled", |_| "no".to_owned()),
    ("databases", |_| "1".to_owned()),
    ("dir", |context| context.fixed.directory.clone()),
    ("io-threads", |context| context.shard_count.to_string()),
    ("maxmemory", |_| "0".to_owned()),
    ("maxmemory-policy", |_| "noeviction".to_owned()),
    ("port", |context| context.port.to_string()),
    ("save", |_| String::new()),
];

/// Those that change and are no single number.
const COMPOSED: &[Fixed] = &[
    ("client-output-buffer-limit", |context| context.settings.output_limits()),
    ("requirepass", |context| {
        String::from_utf8_lossy(&context.settings.password()).into_owned()
    }),
];

fn all(context: &SessionContext) -> impl Iterator<Item = (&'static str, String)> + '_ {
    let told = FIXED
        .iter()
        .chain(COMPOSED)
        .map(|(name, value)| (*name, value(context)));
    told.chain(context.settings.list())
}

/// A setting that is asked for by its name is told under the name as it was written; those of a pattern under their own.
pub(super) fn get(call: &mut Call<'_>) {
    let settings: Vec<_> = all(call.context).collect();
    let mut found: Vec<(Cow<'_, [u8]>, &str)> = Vec::new();
    for wanted in call.arguments.from(2).iter() {
        let is_pattern = wanted.iter().any(|byte| b"[*?".contains(byte));
        for (name, value) in &settings {
            let name = match is_pattern {
                true if Pattern::new(wanted).matches_in_any_case(name.as_bytes()) => Cow::Borrowed(name.as_bytes()),
                false if wanted.eq_ignore_ascii_case(name.as_bytes()) => Cow::Borrowed(wanted),
                _ => continue,
            };
            if !found.iter().any(|(other, _)| other.eq_ignore_ascii_case(&name)) {
                found.push((name, value));
            }
        }
    }
    found.sort_unstable();
    let mut writer = call.writer();
    writer.map(found.len());
    for (name, value) in found {
        writer.bulk(&name);
        writer.text(value);
    }
}

/// All of the settings, or none where one is refused.
pub(super) fn set(call: &mut Call<'_>) {
    let rest: Vec<_> = call.arguments.from(2).iter().collect();
    let (pairs, []) = rest.as_chunks::<2>() else {
        return call.syntax_error();
    };
    let mut changes = Vec::new();
    for [name, value] in pairs {
        match Settings::check(name, value) {
            Ok(change) => changes.push(change),
            Err(SettingError::Unknown(name)) => {
                let fixed = FIXED.iter().find(|(fixed, _)| fixed.eq_ignore_ascii_case(&name));
                match fixed {
                    // Tools set what they need whether it is so already or not.
                    Some((_, is)) if is(call.context).as_bytes().eq_ignore_ascii_case(value) => {}
                    Some(_) => {
                        return call.error(format_args!(
                            "ERR CONFIG SET failed (possibly related to argument '{name}') - can't set immutable config"
                        ));
                    }
                    None => {
                        let name = shown(name.as_bytes());
                        return call.error(format_args!(
                            "ERR Unknown option or number of arguments for CONFIG SET - '{name}'"
                        ));
                    }
                }
            }
            Err(SettingError::Value { name, fault }) => {
                return call.error(format_args!(
                    "ERR CONFIG SET failed (possibly related to argument '{name}') - {fault}"
                ));
            }
        }
    }
    for change in &changes {
        call.context.settings.apply(change);
    }
    call.ok();
}

pub(super) fn resetstat(_call: &mut Call<'_>) -> Option<PendingTask> {
    Some(PendingTask::tell(ShardQuery::ResetStatistics))
}

/// Settings come from the command line and the environment, where nothing can be written back.
pub(super) fn rewrite(call: &mut Call<'_>) {
    call.error("ERR The server is running without a config file");
}
