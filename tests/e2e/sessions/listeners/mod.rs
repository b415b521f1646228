//! Where clients connect, and what is told of them.

mod idle;
mod proxy_protocol;
mod sockets;

use anyhow::Result;
use atone_tests::own::Own;
use atone_tests::{ClusterOptions, Flavor};

/// The listeners: what the configuration says of each.
const LISTENERS: [&str; 6] = [
    "listen = 'unix:DIR/tcp.sock'",
    "listen = 'unix:DIR/unix.sock'\naddress = 'unix:SERVER'",
    "address = 'unix:SERVER'",
    "listen_proxy_protocol = ['127.0.0.0/8']\nserver_proxy_protocol = 'v1'",
    "listen_proxy_protocol = ['127.0.0.1', '::1']\nserver_proxy_protocol = 'v2'",
    "listen_proxy_protocol = ['192.0.2.0/24', 'unix']",
];

async fn start(flavor: Flavor) -> Result<Own> {
    let server_options = match flavor {
        Flavor::MariaDb => vec!["--proxy-protocol-networks=127.0.0.1".to_owned()],
        Flavor::MySql => Vec::new(),
    };
    let options = ClusterOptions { server_options, ..ClusterOptions::default() };
    // MySQL knows nothing of these headers
    let listeners = LISTENERS.map(|lines| match flavor {
        Flavor::MariaDb => lines.to_owned(),
        Flavor::MySql => {
            lines.lines().filter(|l| !l.starts_with("server_proxy")).collect::<Vec<_>>().join("\n")
        }
    });
    Own::start(flavor, options, &listeners.each_ref().map(String::as_str)).await
}

atone_tests::own_tests!(start =>
    idle::sessions_end_as_by_the_server as idleness,
    sockets::a_unix_socket as unix,
    sockets::the_file_of_a_socket as files,
    sockets::ipv6 as ipv6,
    sockets::signs_of_life as keepalive,
    sockets::the_proxys_own_user as own_user,
    sockets::passwords_over_a_unix_socket as passwords,
    proxy_protocol::the_server_sees_the_client as headers,
    proxy_protocol::what_is_no_header as malformed,
    proxy_protocol::what_the_server_gets as sent,
);
