//! The hello: what each side says before the first frame.
//!
//! Called once per connection by the session and by the client. Never repeated on a connection.

/// The first byte a native client sends. No RESP request and no inline command a person types begins with it, and it
/// begins no UTF-8 text that is followed by the second.
pub const FIRST_BYTE: u8 = 0xca;

/// The only version so far.
pub const PROTOCOL_VERSION: u8 = 1;

/// Length of the client's hello, in bytes.
pub const CLIENT_HELLO_BYTES: usize = 16;

/// Length of the server's hello, in bytes.
pub const SERVER_HELLO_BYTES: usize = 32;

/// In a client's hello: any shard will do.
pub const SHARD_ANY: u16 = u16::MAX;

const MAGIC: [u8; 4] = [FIRST_BYTE, 0xf7, b'C', b'W'];

/// What a client says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// The version the client speaks.
    pub version: u8,
    /// The shard whose keys the client will mostly ask for, or [`SHARD_ANY`]. A wish: any shard answers anything.
    pub shard: u16,
}

/// How a server answers a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum HelloStatus {
    /// Frames may follow.
    Welcome = 0,
    /// The server speaks another version, the one in its hello, and closes.
    Version = 1,
    /// The server has as many connections as it may, and closes.
    Full = 2,
    /// The server asks for a password, which this protocol has no word for.
    Password = 3,
}

impl HelloStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Welcome, Self::Version, Self::Full, Self::Password];
}

/// What a server says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerHello {
    /// The version the server speaks.
    pub version: u8,
    /// Whether the connection goes on.
    pub status: HelloStatus,
    /// How many shards the server runs.
    pub shard_count: u16,
    /// The shard this connection is at.
    pub shard: u16,
    /// Longest body the server takes, in bytes.
    pub body_bytes_max: u32,
    /// How many requests of one connection the server works on at once; it stops reading above that.
    pub in_flight_max: u32,
    /// The server's number for this connection.
    pub connection_id: u64,
}

/// Why some bytes are no hello. The connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Not the four bytes of a hello.
    #[error("this is no Cartwright hello: its byte {at} is {byte:02x}")]
    Magic {
        /// The place of the first wrong byte, from 0.
        at: usize,
        /// What is there.
        byte: u8,
    },
    /// Some bit changed on the way.
    #[error("the hello's checksum is wrong")]
    Checksum,
    /// A status this version does not know.
    #[error("hello status {0} is not known")]
    Status(u8),
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a range of N bytes has N bytes")
}

fn sealed<const N: usize>(mut hello: [u8; N]) -> [u8; N] {
    hello[..4].copy_from_slice(&MAGIC);
    let checksum = crc32c::crc32c(&hello[..N - 4]);
    hello[N - 4..].copy_from_slice(&checksum.to_le_bytes());
    hello
}

/// The first `N` bytes, checked; `None` where more are needed. A wrong magic is told from the first wrong byte.
fn opened<const N: usize>(bytes: &[u8]) -> Result<Option<&[u8]>, HelloError> {
    if let Some(at) = bytes.iter().zip(MAGIC).position(|(&byte, expected)| byte != expected) {
        return Err(HelloError::Magic { at, byte: bytes[at] });
    }
    let Some(hello) = bytes.get(..N) else { return Ok(None) };
    if crc32c::crc32c(&hello[..N - 4]) != u32::from_le_bytes(field(hello, N - 4)) {
        return Err(HelloError::Checksum);
    }
    Ok(Some(hello))
}

impl ClientHello {
    /// The hello's bytes.
    pub fn encode(&self) -> [u8; CLIENT_HELLO_BYTES] {
        let mut hello = [0; CLIENT_HELLO_BYTES];
        hello[4] = self.version;
        hello[6..8].copy_from_slice(&self.shard.to_le_bytes());
        sealed(hello)
    }

    /// The hello at the start of `bytes`, which takes [`CLIENT_HELLO_BYTES`]; `None` where more are needed.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, HelloError> {
        let hello = opened::<CLIENT_HELLO_BYTES>(bytes)?;
        Ok(hello.map(|hello| Self {
            version: hello[4],
            shard: u16::from_le_bytes(field(hello, 6)),
        }))
    }
}

impl ServerHello {
    /// The hello's bytes.
    pub fn encode(&self) -> [u8; SERVER_HELLO_BYTES] {
        let mut hello = [0; SERVER_HELLO_BYTES];
        hello[4] = self.version;
        hello[5] = self.status as u8;
        hello[6..8].copy_from_slice(&self.shard_count.to_le_bytes());
        hello[8..10].copy_from_slice(&self.shard.to_le_bytes());
        hello[12..16].copy_from_slice(&self.body_bytes_max.to_le_bytes());
        hello[16..20].copy_from_slice(&self.in_flight_max.to_le_bytes());
        hello[20..28].copy_from_slice(&self.connection_id.to_le_bytes());
        sealed(hello)
    }

    /// The hello at the start of `bytes`, which takes [`SERVER_HELLO_BYTES`]; `None` where more are needed.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, HelloError> {
        let Some(hello) = opened::<SERVER_HELLO_BYTES>(bytes)? else {
            return Ok(None);
        };
        let status = HelloStatus::ALL.into_iter().find(|status| *status as u8 == hello[5]);
        Ok(Some(Self {
            version: hello[4],
            status: status.ok_or(HelloError::Status(hello[5]))?,
            shard_count: u16::from_le_bytes(field(hello, 6)),
            shard: u16::from_le_bytes(field(hello, 8)),
            body_bytes_max: u32::from_le_bytes(field(hello, 12)),
            in_flight_max: u32::from_le_bytes(field(hello, 16)),
            connection_id: u64::from_le_bytes(field(hello, 20)),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: ServerHello = ServerHello {
        version: PROTOCOL_VERSION,
        status: HelloStatus::Welcome,
        shard_count: 4,
        shard: 3,
        body_bytes_max: 1 << 20,
        in_flight_max: 1024,
        connection_id: 77,
    };

    #[test]
    fn hellos_read_back_as_written_and_wait_for_their_last_byte() {
        let client = ClientHello {
            version: PROTOCOL_VERSION,
            shard: SHARD_ANY,
        };
        assert_eq!(ClientHello::decode(&client.encode()), Ok(Some(client)));
        assert_eq!(ServerHello::decode(&SERVER.encode()), Ok(Some(SERVER)));
        for length in 0..SERVER_HELLO_BYTES {
            assert_eq!(ServerHello::decode(&SERVER.encode()[..length]), Ok(None));
        }
    }

    #[test]
    fn a_changed_hello_is_refused() {
        for byte in 0..SERVER_HELLO_BYTES {
            let mut hello = SERVER.encode();
            hello[byte] ^= 0x40;
            assert!(ServerHello::decode(&hello).is_err(), "byte {byte}");
        }
        assert_eq!(
            ClientHello::decode(b"\xcaX"),
            Err(HelloError::Magic { at: 1, byte: b'X' })
        );
    }
}
