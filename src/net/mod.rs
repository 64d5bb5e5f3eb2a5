//! Sockets that never block, and HTTP/1.1 over them. It knows nothing of cerbas.
//!
//! `Poller` waits for sockets, `Wire` reads and writes one of them, `Slots` and `Timers` keep many, `Crowd` counts them, and `http1/` reads
//! what comes, strictly. Who owns the loop decides what all that is for.
//!
//! Invariant: nothing here waits, but `Poller::wait`.

mod buffer;
mod crowd;
mod date;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod http1;
mod listen;
mod poller;
mod slots;
mod stream;
mod timers;

pub(crate) use self::buffer::Buffer;
pub(crate) use self::crowd::{Crowd, Seat};
pub(crate) use self::date::Date;
#[cfg(fuzzing)]
pub(crate) use self::http1::MAX_HEADERS;
pub(crate) use self::http1::{
    Broken, End, Framing, KeptHead, Length, MAX_HEAD, RequestHead, ResponseHead, find_end, one_form, options,
};
pub use self::listen::ListenAddress;
pub(crate) use self::listen::Listener;
pub(crate) use self::poller::{Events, Poller, Ready, Waker};
pub(crate) use self::slots::{Handle, Slots};
pub(crate) use self::stream::{Stream, Wire};
pub(crate) use self::timers::Timers;
