//! HTTP/1.1 on the wire (RFC 9112): what is read, and how strictly. Pure.
//!
//! Two programs that read the same bytes as different messages let a client smuggle one past the other. So whatever could be
//! read in two ways is refused, from clients and from upstreams, and nothing is passed on as it came: heads and chunks are
//! written anew.

mod chunks;
mod framing;
mod head;
mod kept;
mod path;

#[cfg(fuzzing)]
pub(crate) use chunks::{Chunks, Step};
pub(crate) use framing::{Framing, Length};
pub(crate) use head::{Broken, End, RequestHead, ResponseHead, find_end, options};
pub(crate) use kept::KeptHead;
pub(crate) use path::{Path, canonical, one_form};

/// How many bytes a head may have.
pub(crate) const MAX_HEAD: usize = 16 * 1024;

/// How many bytes of it the first line may have.
pub(crate) const MAX_LINE: usize = 8 * 1024;

/// How many headers it may have.
pub(crate) const MAX_HEADERS: usize = 100;
