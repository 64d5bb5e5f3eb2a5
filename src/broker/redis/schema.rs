//! Which version of our data is in Redis. One that is newer than ours could hold what we would break.

use redis::{Connection, ErrorKind, RedisError, RedisResult, cmd};

use crate::protocol::keys::Keys;

/// The version that this program writes and reads.
pub(super) const OURS: u64 = 1;

/// Stamps our version where there is none, and refuses a newer one.
pub(super) fn check(connection: &mut Connection, keys: &Keys) -> RedisResult<()> {
    let key = keys.schema();
    let _: Option<String> = cmd("SET").arg(&key).arg(OURS).arg("NX").query(connection)?;
    let stamped: Option<String> = cmd("GET").arg(&key).query(connection)?;
    let stamped = stamped.unwrap_or_default();
    if stamped.parse::<u64>().is_ok_and(|theirs| theirs <= OURS) { Ok(()) } else { Err(newer(&stamped)) }
}

/// That the data are of the version `theirs`.
pub(super) fn newer(theirs: &str) -> RedisError {
    let detail =
        format!("its data were written by a newer cerbas (schema {theirs}, this one knows {OURS}): update this one");
    RedisError::from((ErrorKind::InvalidClientConfig, "schema", detail))
}
