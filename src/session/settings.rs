//! The settings that can change while the server runs: one set for all shards.
//!
//! Made at start from the command line, read by sessions and the runtime, changed by `CONFIG SET`. Each number is read
//! where it is used, so a change holds at once; what a connection took up before keeps what it was given.

use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use cartwright_protocol::resp::parse_i64;
use subtle::ConstantTimeEq;

/// Longest password, in bytes; as Redis bounds a setting.
pub const PASSWORD_BYTES_MAX: usize = 512;

/// A setting that is a number; see [`NUMBERS`] for each one's name and limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Number {
    /// Without a password, only clients of this machine are served.
    ProtectedMode,
    /// Most connections, over all shards.
    ConnectionsMax,
    /// Silence after which a connection is closed, in seconds; 0: never.
    IdleSecondsMax,
    /// Longest argument and longest string, in bytes.
    ArgumentBytesMax,
    /// Longest command, in bytes.
    CommandBytesMax,
    /// Most bytes of messages that wait for a subscriber that does not read.
    PubSubBytesMax,
    /// The same, where it may be more for [`Number::PubSubSoftSeconds`].
    PubSubSoftBytesMax,
    /// See [`Number::PubSubSoftBytesMax`]; in seconds.
    PubSubSoftSeconds,
    /// Most channels and patterns of one connection.
    SubscriptionsMax,
    /// Most commands queued by one `MULTI`.
    QueuedCommandsMax,
    /// Most keys watched by one connection.
    WatchedKeysMax,
    /// How long a command takes that `SLOWLOG` notes, in microseconds; below 0: none is noted.
    SlowerThanUs,
    /// Most commands that `SLOWLOG` keeps, on each shard.
    SlowlogLengthMax,
    /// How long an event takes that `LATENCY` notes, in milliseconds; 0: none is noted.
    LatencyThresholdMs,
}

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Count,
    /// Bytes, which may be written with a unit.
    Bytes,
    YesNo,
}

struct NumberSetting {
    number: Number,
    name: &'static str,
    form: Form,
    default: i64,
    min: i64,
    max: i64,
}

const MIB: i64 = 1 << 20;

const fn setting(number: Number, name: &'static str, form: Form, default: i64, min: i64, max: i64) -> NumberSetting {
    NumberSetting {
        number,
        name,
        form,
        default,
        min,
        max,
    }
}

/// Every number, in the order of [`Number`]. Names and defaults are Redis's where Redis has the setting.
static NUMBERS: [NumberSetting; 14] = [
    setting(Number::ProtectedMode, "protected-mode", Form::YesNo, 1, 0, 1),
    setting(Number::ConnectionsMax, "maxclients", Form::Count, 10_000, 1, 1_000_000),
    setting(Number::IdleSecondsMax, "timeout", Form::Count, 0, 0, i32::MAX as i64),
    setting(
        Number::ArgumentBytesMax,
        "proto-max-bulk-len",
        Form::Bytes,
        512 * MIB,
        MIB,
        // What the log and checkpoints take in one piece.
        512 * MIB,
    ),
    setting(
        Number::CommandBytesMax,
        "client-query-buffer-limit",
        Form::Bytes,
        1024 * MIB,
        MIB,
        4095 * MIB,
    ),
    setting(
        Number::PubSubBytesMax,
        "pubsub-output-buffer-limit",
        Form::Bytes,
        32 * MIB,
        1024,
        i64::MAX,
    ),
    setting(
        Number::PubSubSoftBytesMax,
        "pubsub-output-buffer-soft-limit",
        Form::Bytes,
        8 * MIB,
        1024,
        i64::MAX,
    ),
    setting(
        Number::PubSubSoftSeconds,
        "pubsub-output-buffer-soft-seconds",
        Form::Count,
        60,
        0,
        i32::MAX as i64,
    ),
    setting(
        Number::SubscriptionsMax,
        "subscriptions-max",
        Form::Count,
        100_000,
        1,
        10_000_000,
    ),
    setting(
        Number::QueuedCommandsMax,
        "multi-queue-max",
        Form::Count,
        100_000,
        1,
        1_000_000,
    ),
    setting(
        Number::WatchedKeysMax,
        "watched-keys-max",
        Form::Count,
        10_000,
        1,
        1_000_000,
    ),
    setting(
        Number::SlowerThanUs,
        "slowlog-log-slower-than",
        Form::Count,
        10_000,
        -1,
        i64::MAX,
    ),
    setting(
        Number::SlowlogLengthMax,
        "slowlog-max-len",
        Form::Count,
        128,
        0,
        100_000,
    ),
    setting(
        Number::LatencyThresholdMs,
        "latency-monitor-threshold",
        Form::Count,
        0,
        0,
        i32::MAX as i64,
    ),
];

const _: () = {
    let mut index = 0;
    while index < NUMBERS.len() {
        assert!(NUMBERS[index].number as usize == index, "in the order of the enum");
        index += 1;
    }
};

/// Why a setting was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// There is none of this name.
    #[error("there is no setting '{0}' that can be changed")]
    Unknown(String),
    /// Not a number, or not within its limits.
    #[error("{name}: {fault}")]
    Value {
        /// Which setting.
        name: &'static str,
        /// What is wrong with its value, in Redis's words where it has some.
        fault: String,
    },
}

impl SettingError {
    fn too_long_password(password: &[u8]) -> Self {
        let length = password.len();
        Self::Value {
            name: "requirepass",
            fault: format!("a password has at most {PASSWORD_BYTES_MAX} bytes, not {length}"),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Settings {
    numbers: [AtomicI64; NUMBERS.len()],
    has_password: AtomicBool,
    password: RwLock<Vec<u8>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            numbers: std::array::from_fn(|index| AtomicI64::new(NUMBERS[index].default)),
            has_password: AtomicBool::new(false),
            password: RwLock::new(Vec::new()),
        }
    }
}

impl Settings {
    /// A number as it is now.
    #[inline]
    pub fn number(&self, number: Number) -> i64 {
        self.numbers[number as usize].load(Ordering::Relaxed)
    }

    /// A number that is no less than 0, as a size.
    pub fn size(&self, number: Number) -> usize {
        usize::try_from(self.number(number)).expect("sizes have a least value of 0 or more")
    }

    /// Sets a number, which must be within its limits.
    pub fn set_number(&self, number: Number, value: i64) {
        let setting = &NUMBERS[number as usize];
        assert!(
            (setting.min..=setting.max).contains(&value),
            "{} cannot be {value}",
            setting.name
        );
        self.numbers[number as usize].store(value, Ordering::Relaxed);
    }

    /// Whether clients have to say a password.
    #[inline]
    pub fn has_password(&self) -> bool {
        self.has_password.load(Ordering::Relaxed)
    }

    /// Sets the password, or with none lets everybody in. Connections that were let in stay.
    pub fn set_password(&self, password: &[u8]) -> Result<(), SettingError> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(SettingError::too_long_password(password));
        }
        let mut own = self.password.write().expect("nobody panics while holding it");
        password.clone_into(&mut own);
        self.has_password.store(!password.is_empty(), Ordering::Relaxed);
        Ok(())
    }

    /// Whether this is the password. How long it takes tells nothing but whether the length is right.
    pub fn is_password(&self, given: &[u8]) -> bool {
        let own = self.password.read().expect("nobody panics while holding it");
        bool::from(own.ct_eq(given))
    }

    /// The password, which only who has said it can ask for.
    pub(super) fn password(&self) -> Vec<u8> {
        self.password.read().expect("nobody panics while holding it").clone()
    }

    /// Names and values of all numbers.
    pub(super) fn list(&self) -> impl Iterator<Item = (&'static str, String)> + '_ {
        NUMBERS.iter().map(|setting| {
            let value = self.number(setting.number);
            let value = match (setting.form, value) {
                (Form::YesNo, 0) => "no".to_owned(),
                (Form::YesNo, _) => "yes".to_owned(),
                _ => value.to_string(),
            };
            (setting.name, value)
        })
    }

    /// Checks what a setting of this name is to become, and gives what [`Settings::apply`] then does.
    pub fn check(name: &[u8], value: &[u8]) -> Result<Change, SettingError> {
        if name.eq_ignore_ascii_case(b"requirepass") {
            if value.len() > PASSWORD_BYTES_MAX {
                return Err(SettingError::too_long_password(value));
            }
            return Ok(Change::Password(value.to_vec()));
        }
        if name.eq_ignore_ascii_case(b"client-output-buffer-limit") {
            return output_limits(value);
        }
        let setting = NUMBERS
            .iter()
            .find(|setting| setting.name.as_bytes().eq_ignore_ascii_case(name))
            .ok_or_else(|| SettingError::Unknown(String::from_utf8_lossy(name).into_owned()))?;
        let parsed = match setting.form {
            Form::YesNo if value.eq_ignore_ascii_case(b"yes") => Some(1),
            Form::YesNo if value.eq_ignore_ascii_case(b"no") => Some(0),
            Form::YesNo => None,
            Form::Bytes => parse_bytes(value),
            Form::Count => parse_i64(value),
        };
        match parsed {
            Some(value) if (setting.min..=setting.max).contains(&value) => {
                Ok(Change::Numbers(vec![(setting.number, value)]))
            }
            _ => Err(SettingError::Value {
                name: setting.name,
                fault: match (setting.form, parsed) {
                    (Form::YesNo, _) => "argument must be 'yes' or 'no'".to_owned(),
                    (Form::Count, None) => "argument couldn't be parsed into an integer".to_owned(),
                    (Form::Bytes, None) => "argument must be a memory value".to_owned(),
                    (..) => format!("argument must be between {} and {} inclusive", setting.min, setting.max),
                },
            }),
        }
    }

    /// Makes a change that [`Settings::check`] gave.
    pub fn apply(&self, change: &Change) {
        match change {
            Change::Numbers(numbers) => {
                for &(number, value) in numbers {
                    self.set_number(number, value);
                }
            }
            Change::Password(password) => self.set_password(password).expect("its length was checked"),
        }
    }

    /// `client-output-buffer-limit` as Redis writes it. Only the limit of subscribers is one here: a client that does
    /// not take its replies is not read from.
    pub(super) fn output_limits(&self) -> String {
        format!(
            "normal 0 0 0 slave 0 0 0 pubsub {} {} {}",
            self.number(Number::PubSubBytesMax),
            self.number(Number::PubSubSoftBytesMax),
            self.number(Number::PubSubSoftSeconds),
        )
    }
}

/// A change that is known to be possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Of numbers.
    Numbers(Vec<(Number, i64)>),
    /// Of the password.
    Password(Vec<u8>),
}

/// Bytes with Redis's units: `k` is 1000, `kb` 1024, and so on.
fn parse_bytes(text: &[u8]) -> Option<i64> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let unit = match text[digits..].to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    parse_i64(&text[..digits])?.checked_mul(unit)
}

/// Groups of `class hard soft seconds`.
fn output_limits(value: &[u8]) -> Result<Change, SettingError> {
    let text = String::from_utf8_lossy(value).into_owned();
    let refused = |wanted: &str| SettingError::Value {
        name: "client-output-buffer-limit",
        fault: format!("argument must be {wanted}, not '{text}'"),
    };
    let words: Vec<_> = text.split_ascii_whitespace().collect();
    let (groups, []) = words.as_chunks::<4>() else {
        return Err(refused("groups of class, hard limit, soft limit and seconds"));
    };
    let mut numbers = Vec::new();
    for [class, hard, soft, seconds] in groups {
        let bytes = |text: &str| parse_bytes(text.as_bytes());
        let (hard, soft, seconds) = (bytes(hard), bytes(soft), parse_i64(seconds.as_bytes()));
        let (Some(hard), Some(soft), Some(seconds)) = (hard, soft, seconds.filter(|seconds| *seconds >= 0)) else {
            return Err(refused("numbers of bytes, and of seconds"));
        };
        match class.to_ascii_lowercase().as_str() {
            // 0 is no limit to Redis; something has to end what nobody reads.
            "pubsub" if hard >= 1024 && (soft == 0 || soft >= 1024) && seconds <= i64::from(i32::MAX) => {
                numbers.push((Number::PubSubBytesMax, hard));
                numbers.push((Number::PubSubSoftBytesMax, if soft == 0 { hard } else { soft }));
                numbers.push((Number::PubSubSoftSeconds, seconds));
            }
            "pubsub" => return Err(refused("limits of at least 1024 bytes")),
            "normal" | "slave" | "replica" if hard == 0 && soft == 0 => {}
            "normal" | "slave" | "replica" => {
                return Err(refused(
                    "0 0 0 for other classes than pubsub, whose replies are bounded by not reading on",
                ));
            }
            _ => return Err(refused("of the classes normal, slave and pubsub")),
        }
    }
    Ok(Change::Numbers(numbers))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(settings: &Settings, name: &str, value: &str) -> Result<(), SettingError> {
        Settings::check(name.as_bytes(), value.as_bytes()).map(|change| settings.apply(&change))
    }

    #[test]
    fn settings_take_only_what_is_within_their_limits() {
        let settings = Settings::default();
        set(&settings, "Proto-Max-Bulk-Len", "2mb").unwrap();
        assert_eq!(settings.size(Number::ArgumentBytesMax), 2 << 20);
        set(&settings, "protected-mode", "NO").unwrap();
        assert_eq!(settings.number(Number::ProtectedMode), 0);
        for (name, value) in [
            ("protected-mode", "maybe"),
            ("maxclients", "0"),
            ("maxclients", "1.5"),
            ("proto-max-bulk-len", "2tb"),
            ("proto-max-bulk-len", "999999999999gb"),
            ("no-such", "1"),
            ("client-output-buffer-limit", "pubsub 1 2"),
            ("client-output-buffer-limit", "pubsub 0 0 0"),
            ("client-output-buffer-limit", "normal 1mb 1mb 1"),
        ] {
            assert!(set(&settings, name, value).is_err(), "{name} {value}");
        }
        set(
            &settings,
            "client-output-buffer-limit",
            "normal 0 0 0 pubsub 1mb 64kb 5",
        )
        .unwrap();
        assert_eq!(
            settings.output_limits(),
            "normal 0 0 0 slave 0 0 0 pubsub 1048576 65536 5"
        );
    }

    #[test]
    fn only_the_password_is_the_password() {
        let settings = Settings::default();
        assert!(!settings.has_password());
        settings.set_password(b"secret").unwrap();
        assert!(settings.has_password() && settings.is_password(b"secret"));
        for wrong in [&b""[..], b"secre", b"secret ", b"Secret"] {
            assert!(!settings.is_password(wrong));
        }
        assert!(settings.set_password(&[b'x'; PASSWORD_BYTES_MAX + 1]).is_err());
        settings.set_password(b"").unwrap();
        assert!(!settings.has_password());
    }
}
