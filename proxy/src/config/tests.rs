//! Configurations that are taken and refused.

use std::time::Duration;

use atone_config::example;

use super::*;

const EXAMPLE: &str = include_str!("../../../docs/proxy.example.toml");

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

#[test]
fn the_example_is_all_defaults() {
    let minimal = "coordinator = ['http://127.0.0.1:7091']\nhttp = '127.0.0.1:7094'\n[[backend]]\nname = 'bank1'\n\
                   listen = '127.0.0.1:4001'\naddress = '127.0.0.1:3306'\nuser = 'atone'\npassword = 'secret'";
    let (given, minimal) = (Config::parse(EXAMPLE).unwrap(), Config::parse(minimal).unwrap());
    assert_eq!(given.limits, Limits::default());
    assert_eq!(format!("{given:#?}"), format!("{minimal:#?}"));
}

#[test]
fn the_example_has_every_key() {
    // A mode that takes all keys of server_tls
    let all = example::uncommented(EXAMPLE).replace("mode = \"as-client\"", "mode = \"verify-ca\"");
    let mut root = Section::parse(&all).unwrap();
    // All three sources of the password are there: that is said when every key was asked for
    let error = Config::read(&mut root).unwrap_err();
    assert_eq!(error.key.as_deref(), Some("backend[0].password"), "{error}");
    assert_eq!(root.known_keys(), example::keys(&all).unwrap());
}

#[test]
fn keys_that_were_renamed_are_read_and_warned_of() {
    let seconds = Duration::from_secs;
    type Value = fn(&Timeouts) -> Option<Duration>;
    let renamed: [(&str, &str, Value, Duration); 7] = [
        ("handshake_timeout_ms", "handshake_timeout", |t| Some(t.handshake_timeout), seconds(2)),
        ("connect_timeout_ms", "connect_timeout", |t| Some(t.connect_timeout), seconds(2)),
        ("idle_timeout_ms", "idle_timeout", |t| t.idle_timeout, seconds(2)),
        ("drain_timeout_ms", "drain_timeout", |t| Some(t.drain_timeout), seconds(2)),
        ("lock_wait_look_ms", "deadlock_timeout", |t| t.deadlock_timeout, seconds(2)),
        ("metadata_ttl_ms", "metadata_ttl", |t| Some(t.metadata_ttl), seconds(2)),
        ("tcp_keepalive_s", "tcp_keepalive", |t| t.tcp_keepalive, seconds(2_000)),
    ];
    assert_eq!(renamed.len(), timeouts::RENAMES.len());
    for (old, new, value, expected) in renamed {
        let config = Config::parse(&format!("{GOOD}\n[limits]\n{old} = 2000")).unwrap();
        assert_eq!(value(&config.limits.timeouts), Some(expected), "{old}");
        let [warning] = config.deprecated.as_slice() else { panic!("{old}: {:?}", config.deprecated) };
        let warning = warning.to_string();
        let expected = [format!("limits.{old}: "), format!("timeouts.{new} = ")];
        assert!(expected.iter().all(|part| warning.contains(part)), "{warning}");

        let both = refusal(&format!("{GOOD}\n[limits]\n{old} = 2000\n[timeouts]\n{new} = '2s'"));
        assert!(both.starts_with(&format!("limits.{old}: timeouts.{new} is there as well")), "{both}");
        let wrong = refusal(&format!("{GOOD}\n[limits]\n{old} = -1"));
        assert!(wrong.starts_with(&format!("limits.{old}: ")), "{wrong}");
    }
}

#[test]
fn what_is_off_at_zero() {
    let config = Config::parse(&format!(
        "{GOOD}\n[timeouts]\nidle_timeout = '0s'\ndeadlock_timeout = '0s'\ntcp_keepalive = '0s'\nmetadata_ttl = '0s'"
    ));
    let timeouts = config.unwrap().limits.timeouts;
    let off = (timeouts.idle_timeout, timeouts.deadlock_timeout, timeouts.tcp_keepalive);
    assert_eq!((off, timeouts.metadata_ttl), ((None, None, None), Duration::ZERO));
    let old = "lock_wait_look_ms = 0\ntcp_keepalive_s = 0\nidle_timeout_ms = 0";
    let timeouts = Config::parse(&format!("{GOOD}\n[limits]\n{old}")).unwrap().limits.timeouts;
    assert_eq!(
        (timeouts.idle_timeout, timeouts.deadlock_timeout, timeouts.tcp_keepalive),
        (None, None, None)
    );
    for (line, key) in [
        ("deadlock_timeout = '49ms'", "timeouts.deadlock_timeout"),
        ("deadlock_timeout = '3s'", "timeouts.deadlock_timeout"),
        ("tcp_keepalive = '32768s'", "timeouts.tcp_keepalive"),
        ("connect_timeout = 5000", "timeouts.connect_timeout"),
        ("connect_timeout_ms = 5000", "timeouts.connect_timeout_ms"),
    ] {
        let refused = refusal(&format!("{GOOD}\n[timeouts]\n{line}"));
        assert!(refused.starts_with(&format!("{key}: ")), "{refused}");
    }
    let refused = refusal(&format!("{GOOD}\n[limits]\nlock_wait_look_ms = 3000"));
    assert_eq!(refused, "limits.lock_wait_look_ms: \"3s\" is neither \"0s\" nor 50ms to 2s");
}

#[test]
fn a_key_that_is_missing_is_named() {
    for key in ["coordinator", "http", "name", "listen", "address", "user"] {
        let without: String =
            GOOD.lines().filter(|line| !line.starts_with(key)).map(|line| format!("{line}\n")).collect();
        let refused = refusal(&without);
        assert!(refused.contains(&format!("{key}: this key is missing")), "{refused}");
    }
}
