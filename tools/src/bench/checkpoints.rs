//! Has the server take checkpoints while it is measured, one after the other.
//!
//! Started by a session where `--bgsave` is given; works on this server and on a Redis.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::redis_client::{RedisClient, RedisError};
use crate::address::Address;

/// How often is asked whether the last one is over; seldom enough to be no load.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Asks for one checkpoint after the other until `over`; gives how many the server began.
pub fn keep_saving(address: &Address, over: &AtomicBool) -> Result<u64, RedisError> {
    let mut client = RedisClient::connect(address)?;
    let mut count = 0;
    while !over.load(Ordering::Relaxed) {
        if !is_saving(&mut client)? {
            client.call(&["BGSAVE", "SCHEDULE"])?;
            count += 1;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    Ok(count)
}

fn is_saving(client: &mut RedisClient) -> Result<bool, RedisError> {
    let info = client.call(&["INFO", "persistence"])?;
    let text = info.text().unwrap_or_default();
    Ok(text.lines().any(|line| line.trim_end() == "rdb_bgsave_in_progress:1"))
}
