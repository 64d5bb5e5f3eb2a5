//! Gives an id to what was claimed without one.

use std::sync::{Arc, LazyLock};

use redis::{Script, pipe};

use super::link::exchange_each;
use super::{RedisBroker, lock};
use crate::broker::{Claim, Result};

static NAME: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/name.lua")));

impl RedisBroker {
    /// Only the thread that claims from the source of `named` may do this: in between it would take what has a new text for something
    /// that nobody holds.
    pub(super) fn name_all(&self, named: &[(Claim, Arc<[u8]>)]) -> Result<Vec<Option<Claim>>> {
        let identity = self.identity();
        let mut pipeline = pipe();
        for (claim, element) in named {
            pipeline.cmd("EVALSHA").arg(NAME.get_hash()).arg(2).arg(&identity.fence).arg(self.list(&identity, claim));
            pipeline.arg(&*claim.element).arg(&**element);
        }
        let replies = lock(&self.arranging).with(|connection| exchange_each(connection, &pipeline, &NAME))?;
        let claims = named.iter().zip(replies).map(|((claim, element), reply)| {
            let held = &self.held[self.sources.place(claim.source)];
            match reply.and_then(|reply| Ok(redis::from_redis_value::<bool>(reply)?)) {
                Ok(true) => {
                    held.add([element].into_iter());
                    held.remove([&claim.element].into_iter());
                    self.void.remove([&claim.element].into_iter());
                    Some(Claim { element: Arc::clone(element), ..claim.clone() })
                }
                Ok(false) => None,
                // It goes on without.
                Err(error) => {
                    self.health.refused(&self.options.target.describe(&error).reason);
                    Some(claim.clone())
                }
            }
        });
        Ok(claims.collect())
    }
}
