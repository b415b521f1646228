//! Configurations that are taken and refused.

use super::*;

const GOOD: &str = r#"
coordinator = ["http://127.0.0.1:7091"]
http = "127.0.0.1:7094"
[[backend]]
name = "bank1"
listen = "127.0.0.1:4001"
address = "127.0.0.1:3306"
user = "atone"
password = "secret"
"#;

fn refusal(text: &str) -> String {
    Config::parse(text).unwrap_err().to_string()
}

#[test]
fn the_contracts_example_is_read() {
    let config = Config::parse(GOOD).unwrap();
    assert_eq!(config.backend[0].secret, "secret");
    assert_eq!(config.backend[0].address, Address::Tcp("127.0.0.1".into(), 3306));
}

#[test]
fn what_is_wrong_is_named() {
    assert!(refusal(&GOOD.replace("user", "usr")).contains("usr"));
    assert!(refusal(&GOOD.replace("127.0.0.1:3306", "nowhere")).starts_with("backend[0].address"));
    assert!(refusal(&GOOD.replace("bank1", "bank 1")).starts_with("backend[0].name"));
    assert!(refusal(&GOOD.replace("4001\"", "x\"")).contains("listen"));
    assert!(refusal(&format!("{GOOD}\npassword_env = \"X\"")).starts_with("backend[0].password"));
    assert!(refusal(&format!("{GOOD}\n[limits]\nmax_branch_rows = 0")).starts_with("limits.max_branch_rows"));
    assert!(refusal(&GOOD.replace("[\"http://127.0.0.1:7091\"]", "[]")).starts_with("coordinator"));
    assert!(refusal(&GOOD.replace("http://127.0.0.1:7091", "nowhere")).starts_with("coordinator"));
    assert!(refusal(&GOOD.replace("password = \"secret\"", "")).starts_with("backend[0].password"));
}

#[test]
fn what_is_under_the_packets() {
    let with = |more: &str| GOOD.replace("user =", &format!("{more}\nuser ="));
    assert!(refusal(&with("zstd_level = 0")).starts_with("backend[0].zstd_level"));
    assert!(refusal(&with("zstd_level = 23")).starts_with("backend[0].zstd_level"));
    assert!(refusal(&with("listen_compression = ['lz4']")).contains("lz4"));
    assert!(refusal(&with("server_compression = 'gzip'")).contains("gzip"));
    assert!(refusal(&with("server_proxy_protocol = 'v3'")).contains("v3"));
    for bad in ["10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.1/8", "localhost", ""] {
        let refused = refusal(&with(&format!("listen_proxy_protocol = ['{bad}']")));
        assert!(refused.contains("listen_proxy_protocol") && refused.contains(bad), "{refused}");
    }
    let config = Config::parse(&with("listen_proxy_protocol = ['10.0.0.0/8', '::1', 'unix']")).unwrap();
    assert_eq!(config.backend[0].listen_proxy_protocol.len(), 3);
    let unix = GOOD.replace("\"127.0.0.1:4001\"", "\"unix:/run/a.sock\"");
    assert_eq!(Config::parse(&unix).unwrap().backend[0].listen, Listen::Unix("/run/a.sock".into()));
    assert!(refusal(&unix.replace("/run/a.sock", "")).contains("listen"));
    let v6 = Config::parse(&GOOD.replace("127.0.0.1:4001", "[::1]:4001")).unwrap();
    assert_eq!(v6.backend[0].listen, Listen::Tcp("[::1]:4001".parse().unwrap()));
}

#[test]
fn unix_addresses() {
    let config = Config::parse(&GOOD.replace("127.0.0.1:3306", "unix:/run/m.sock")).unwrap();
    assert_eq!(config.backend[0].address, Address::Unix("/run/m.sock".into()));
}
