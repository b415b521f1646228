//! Sessions as such: logins, both legs and their packets, sessions that are not bound; and what the daemons are told by
//! their configuration and by REST.

mod bad_input;
mod capabilities;
mod compression;
mod config;
mod flow;
mod limits;
mod listeners;
mod login;
mod packets;
mod rest;
mod tls;
mod unbound;
