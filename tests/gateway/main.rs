//! The gateway over real sockets: raw bytes in, raw bytes out.

mod access;
mod calls;
mod framing;
mod gone;
mod health;
mod limits;
mod pages;
mod proxy;
mod rooms;
mod support;
mod trust;
mod work;
